"""OpenAI's clip package against what its model says, loaded from files."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import ModelUnavailableError, TextLengthError
from captum_pairs.testing import check_encoder
from geometry import check_view
from PIL import Image
from torchvision.transforms import Normalize

if find_spec("clip") is None:
    pytest.skip("OpenAI's clip needs openai-clip", allow_module_level=True)

TEXT = "a photo of two unbelievable dogs"
WORDS = ["a", "photo", "of", "two", "unbelievable", "dogs"]


def _clip() -> Any:
    from captum_pairs.models.openai_clip import import_clip

    return import_clip()


def _photo(width: int = 60, height: int = 40) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def _tiny(kind: str) -> Any:
    """A CLIP in float32: 4 x 4 patches of 8 x 8 pixels, or a ResNet for 64 pixels."""
    _clip()
    vision = (32, 3, 64, 8) if kind == "vit" else (64, (1, 2, 1, 1), 8, None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = import_module("clip.model").CLIP(16, *vision, 12, 49408, 64, 1, 2)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                size = parameter[0].numel()
                parameter.data = torch.randn(parameter.shape) * size**-0.5
            elif parameter.ndim:
                parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape)
    return model.eval()


@pytest.fixture(scope="session", params=["vit", "resnet"])
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Any]:
    """What is loaded, and the model that was saved."""
    model = _tiny(request.param)
    path = tmp_path_factory.mktemp("openai_clip") / f"{request.param}.pt"
    torch.save(model.state_dict(), path)
    return f"clip:{path}", model


def _own(model: Any, image: Image.Image, text: str) -> tuple[float, float]:
    """The model's own similarity, and its logit."""
    transform = import_module("clip.clip")._transform(model.visual.input_resolution)
    ids = _clip().tokenize([text], model.context_length)
    with torch.no_grad():
        logits, _ = model(transform(image)[None], ids)
    return float(logits) / float(model.logit_scale.detach().exp()), float(logits)


def _total(found: Any) -> float:
    parts = (found.first_effects, found.second_effects, found.interactions)
    return found.constant + sum(float(part.double().sum()) for part in parts)


def test_the_parts_sum_to_the_models_own_similarity(saved: tuple[str, Any]) -> None:
    name, own = saved
    model = load(name)
    similarity, logit = _own(own, _photo(), TEXT)
    # a network of rectifiers has kinks on the path, where no rule is exact
    kinks = hasattr(own.visual, "layer4")
    found = model.explain(_photo(), TEXT, tolerance=1e-2 if kinks else 1e-5)
    assert found.score == pytest.approx(similarity, abs=1e-5)
    assert model.heads[0].name == "logits_per_image"
    assert model.heads[0](found.score) == pytest.approx(logit, abs=1e-4)
    assert _total(found) == pytest.approx(similarity, abs=5e-3 if kinks else 1e-5)
    names = [f.name for f in found.second.features]
    assert names == [*WORDS, "<|startoftext|>", "<|endoftext|>", "padding"]


@pytest.mark.slow
def test_every_block_and_the_input_can_be_attributed_to(
    saved: tuple[str, Any],
) -> None:
    name, own = saved
    model = load(name)
    similarity, _ = _own(own, _photo(), TEXT)
    places = [*range(len(model.first.blocks)), "input"]
    others = [*range(len(model.second.blocks)), "input"]
    assert len(places) > len(others)
    for at, place in enumerate(places):
        layer = place, others[min(at, len(others) - 1)]
        found = model.explain(_photo(), TEXT, layer=layer, tolerance=1e-2)
        assert found.score == pytest.approx(similarity, abs=1e-5)
        complete = _total(found) - found.convergence_delta
        assert complete == pytest.approx(similarity, abs=1e-5)
        assert abs(found.convergence_delta) < 0.02
        assert found.first.grid and found.first.count == np.prod(found.first.grid)
        assert [f.name for f in found.second.features if not f.special] == WORDS


def test_a_batch_is_embedded_as_each_alone(saved: tuple[str, Any]) -> None:
    model = load(saved[0])
    pixels = [model.first.prepare(_photo(width)).inputs for width in (60, 30)]
    ids = [model.second.prepare(text).inputs for text in (TEXT, "two photo")]
    for encoder, inputs in ((model.first, pixels), (model.second, ids)):
        together = encoder.embed(torch.cat(inputs))
        for row, alone in zip(together, inputs):
            torch.testing.assert_close(row[None], encoder.embed(alone))


def test_blocks_and_patches(saved: tuple[str, Any]) -> None:
    images: Any = load(saved[0]).first
    if hasattr(saved[1].visual, "layer4"):
        # the last stage's first block halves the map of 4 x 4
        assert (len(images.blocks), images.default_block) == (5, 4)
        assert images.grid == (2, 2)
        assert images.blocks[4] is images.module.visual.layer4[0]
    else:
        assert (len(images.blocks), images.default_block) == (3, 1)
        assert images.grid == (4, 4)


def test_weights_keep_their_precision(saved: tuple[str, Any]) -> None:
    name, own = saved
    module = load(name).first.module
    assert module is not None
    loaded = module.state_dict()
    assert loaded.keys() == own.state_dict().keys()
    for key, value in own.state_dict().items():
        torch.testing.assert_close(loaded[key], value, rtol=0, atol=0)


# tracing, with which the archive is made, is what torch would rather see replaced
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_an_archive_as_openai_publishes_them(tmp_path: Path) -> None:
    own = _tiny("vit")
    example = torch.zeros(1, 3, 32, 32), torch.zeros(1, 12, dtype=torch.int32)
    torch.jit.trace(own, example, check_trace=False).save(tmp_path / "vit.pt")
    similarity, _ = _own(own, _photo(), TEXT)
    found = load(f"clip:{tmp_path / 'vit.pt'}").explain(_photo(), TEXT)
    # the package rounds what it reads from an archive to half precision
    assert found.score == pytest.approx(similarity, abs=2e-3)


@pytest.mark.parametrize("size", [(61, 40), (64, 70), (17, 90), (32, 32), (150, 64)])
def test_the_view_is_what_the_transform_does(size: tuple[int, int]) -> None:
    from captum_pairs.models.openai_clip import _view

    _clip()
    transform = import_module("clip.clip")._transform(32)
    assert isinstance(transform.transforms[-1], Normalize)
    transform.transforms.pop()
    # overshoots of the bicubic filter are cut at 255, which blue has to be
    check_view(transform, _view(32, size), size)


def test_a_baseline_is_a_color_that_the_model_sees(saved: tuple[str, Any]) -> None:
    images: Any = load(saved[0]).first
    assert not images.prepare(_photo()).baseline.any()
    transform = import_module("clip.clip")._transform(images.grid[0] * 8)
    black = transform(Image.new("RGB", (32, 32)))[:, 0, 0]
    found = images.prepare(_photo(), "black").baseline[0]
    torch.testing.assert_close(found, black[:, None, None].expand_as(found))


def test_texts_that_are_too_long(saved: tuple[str, Any]) -> None:
    texts = load(saved[0]).second
    assert texts.prepare("dogs " * 10).inputs.shape == (1, 12)
    with pytest.raises(TextLengthError, match="at most 12 tokens.*“dogs</w>” on"):
        texts.prepare("dogs " * 11)


@pytest.mark.parametrize(
    "rest, message",
    [
        ("no-such", "a file or one of RN50, .*ViT-B/32"),
        ("{directory}/missing.pt", "a file or one of RN50"),
        ("{directory}/junk.pt", "junk.pt"),
        ("{directory}/other.pt", "other.pt"),
    ],
)
def test_models_that_are_not_there(tmp_path: Path, rest: str, message: str) -> None:
    _clip()
    (tmp_path / "junk.pt").write_bytes(b"no weights")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ModelUnavailableError, match=message):
        load(f"clip:{rest.format(directory=tmp_path)}")


def test_another_package_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "clip", ModuleType("clip"))
    with pytest.raises(ModelUnavailableError, match="pip install openai-clip"):
        _clip()


def test_nothing_is_left_of_the_module_that_was_lent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    had = "pkg_resources" in sys.modules
    for name in [name for name in sys.modules if name.partition(".")[0] == "clip"]:
        monkeypatch.delitem(sys.modules, name)  # and its classes are there again after
    _clip()
    assert had or find_spec("pkg_resources") or "pkg_resources" not in sys.modules


def test_the_contract(saved: tuple[str, Any]) -> None:
    name, own = saved
    check_encoder(
        load(name),
        (None, (TEXT, "Two  DOGS, a photo!")),
        score=lambda image, text: _own(own, image, text)[1],
    )


def test_a_model_in_memory(saved: tuple[str, Any]) -> None:
    name, own = saved
    transform = import_module("clip.clip")._transform(own.visual.input_resolution)
    own.train()
    model = load(own, transform)
    assert model.first.module is model.second.module is own
    assert all(part.training for part in own.modules())
    assert all(parameter.requires_grad for parameter in own.parameters())
    own.eval()
    found = model.explain(_photo(), TEXT, tolerance=0.1)
    assert found.score == pytest.approx(_own(own, _photo(), TEXT)[0], abs=1e-5)
    for wrong in (None, "a transform", (transform, _clip().tokenize)):
        with pytest.raises(InvalidArgumentError, match="processor: .*clip.load"):
            load(own, wrong)
    with pytest.raises(ModelUnavailableError, match="clip.load returns it"):
        load(own.visual, transform)
