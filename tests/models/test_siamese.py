"""Backbones as Siamese encoders, against the features that their classifiers get."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import load, siamese
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import ModelUnavailableError
from captum_pairs.models.siamese import _behead, _understood
from captum_pairs.testing import check_encoder
from geometry import check_view
from PIL import Image
from torch import nn, Tensor
from torchvision import models

_HALF = (0.5, 0.5, 0.5)
# small enough to be loaded from a file, and run, in a moment: where their heads are,
# how many classes they have, and how many blocks
_LOADED = {
    "resnet18": ("fc", 7, 8),
    "shufflenet_v2_x0_5": ("fc", 1000, 16),
    "mobilenet_v3_small": ("classifier.3", 3, 12),
}


def _photo(seed: int, width: int = 90, height: int = 70) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return small.resize((width, height))


def _scramble(module: nn.Module) -> None:
    """Weights that make a difference, and statistics that are not all alike."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = noise * parameter[0].numel() ** -0.5
        else:
            parameter.data = parameter.data + 0.1 * noise


def _swin() -> nn.Module:
    return models.SwinTransformer(
        [4, 4], 8, [1, 1, 1], [1, 2, 2], [2, 2], num_classes=5
    )


def _convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig

    settings = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, 16, 1)]
    settings += [CNBlockConfig(16, None, 1)]
    return models.ConvNeXt(settings, layer_scale=0.5, num_classes=5)


def _vit() -> nn.Module:
    return models.VisionTransformer(64, 16, 6, 2, 16, 24, num_classes=5)


def _resnet() -> nn.Module:
    from torchvision.models.resnet import BasicBlock

    return models.ResNet(BasicBlock, [1, 1, 2, 1], num_classes=5, width_per_group=64)


def _plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=8, padding=1),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(4 * 64, 6),
    )


# How it is made, its blocks, the default one and what goes into it, its grid.
_MADE: dict[str, tuple[Any, int, int | None, tuple[int, ...], tuple[int, int]]] = {
    "vit": (_vit, 6, 2, (1, 17, 16), (4, 4)),
    # the last stage's input is finer than its output
    "resnet": (_resnet, 5, 4, (1, 256, 4, 4), (2, 2)),
    "convnext": (_convnext, 5, 3, (1, 12, 8, 8), (4, 4)),
    "swin": (_swin, 5, 3, (1, 8, 8, 16), (4, 4)),
    "plain": (_plain, 0, None, (1, 3, 64, 64), (2, 2)),
}
_SMOOTH = ("vit", "convnext", "swin", "plain")


def _made(kind: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module: nn.Module = _MADE[kind][0]()
    _scramble(module)
    return module.eval()


def _total(found: Any) -> float:
    parts = (found.first_effects, found.second_effects, found.interactions)
    return found.constant + sum(float(part.double().sum()) for part in parts)


def _cosine(first: Tensor, second: Tensor) -> float:
    return float(nn.functional.cosine_similarity(first, second))


@pytest.fixture(params=_MADE)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_parts_sum_to_the_backbones_own_similarity(kind: str) -> None:
    backbone = _made(kind)
    model = siamese(backbone, (64, _HALF, _HALF))
    assert model.first is model.second
    images = _photo(0), _photo(1)
    with torch.no_grad():
        inputs = [model.first.prepare(image).inputs for image in images]
        own = _cosine(backbone(inputs[0]), backbone(inputs[1]))
        batch = model.first.embed(torch.cat(inputs))
    for row, alone in zip(batch, inputs):
        torch.testing.assert_close(row[None], model.first.embed(alone))
    # a network of rectifiers has kinks on the path, where no rule is exact
    smooth = kind in _SMOOTH
    found = model.explain(*images, tolerance=1e-5 if smooth else 1e-2)
    assert found.score == pytest.approx(own, abs=1e-5)
    assert _total(found) == pytest.approx(own, abs=1e-5 if smooth else 5e-3)
    assert model.heads[0](found.score) == found.score


@pytest.mark.slow
def test_every_block_and_the_input_can_be_attributed_to(kind: str) -> None:
    model = siamese(_made(kind), (64, _HALF, _HALF))
    images = _photo(0), _photo(1)
    for layer in [*range(len(model.first.blocks)), "input"]:
        tolerance = 2e-2 if kind in _SMOOTH else 0.3
        found = model.explain(*images, layer=layer, tolerance=tolerance)
        complete = _total(found) - found.convergence_delta
        assert complete == pytest.approx(found.score, abs=1e-5)
        assert abs(found.convergence_delta) < 1.5 * tolerance
        for side in (found.first, found.second):
            assert side.grid and side.count == np.prod(side.grid)


def test_blocks_and_patches(kind: str) -> None:
    _, blocks, default, shape, grid = _MADE[kind]
    backbone = _made(kind)
    images: Any = siamese(backbone, (64, _HALF, _HALF)).first
    assert (len(images.blocks), images.default_block) == (blocks, default)
    assert images.grid == grid
    assert images.channels_last == (kind == "swin")
    if default is not None:
        photo = images.prepare(_photo(0))
        shapes = []
        images.blocks[default].register_forward_pre_hook(
            lambda module, args: shapes.append(tuple(args[0].shape))
        )
        images.embed(photo.inputs)
        assert shapes == [shape]


def test_a_backbone_inside_of_another_module_stays_as_it_is() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = _made("resnet")
            self.head = nn.Linear(5, 4)

        def forward(self, pixels: Tensor) -> Tensor:
            embeddings: Tensor = self.head(self.trunk(pixels))
            return embeddings

    backbone = Wrapped().train()
    backbone.trunk.layer1.eval()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    modes = [part.training for part in backbone.modules()]
    model = siamese(backbone, (64, _HALF, _HALF), name="mine")
    assert model.name == "mine" and len(model.first.blocks) == 5
    assert [part.training for part in backbone.modules()] == modes
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.fixture(scope="module", params=_LOADED)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, nn.Module]:
    """An architecture, a file with a state dict, and the classifier in it."""
    head, classes, _ = _LOADED[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = models.get_model(request.param, num_classes=classes).eval()
    _scramble(model)
    path = tmp_path_factory.mktemp("torchvision") / "weights.pth"
    torch.save(model.state_dict(), path)
    return request.param, path, model


def test_a_state_dict_of_any_number_of_classes(
    saved: tuple[str, Path, nn.Module],
) -> None:
    architecture, path, own = saved
    head, _, blocks = _LOADED[architecture]
    model: Any = load(f"torchvision:{architecture}/{path}")
    assert len(model.first.blocks) == blocks and model.first.grid == (7, 7)
    preset = models.ResNet18_Weights.IMAGENET1K_V1.transforms()  # ImageNet's usual one
    features: list[Tensor] = []
    own.get_submodule(head).register_forward_pre_hook(
        lambda module, args: features.append(args[0])
    )
    with torch.no_grad():
        for seed in (0, 1):
            own(preset(_photo(seed))[None])
    with torch.no_grad():
        pair = [
            model.first.embed(model.first.prepare(_photo(seed)).inputs)
            for seed in (0, 1)
        ]
    assert _cosine(*pair) == pytest.approx(_cosine(*features), abs=1e-5)
    if architecture == "resnet18":
        # of a point only, at the cost of one backward pass a step
        found = model.explain(
            _photo(0), _photo(1), region=(40, 30), side="first", tolerance=0.5
        )
        assert found.score == pytest.approx(_cosine(*features), abs=1e-5)
        assert found.second.grid == (7, 7)  # the last map, which is quick


@pytest.mark.parametrize(
    "architecture, head",
    [
        ("alexnet", "classifier.6"),
        ("convnext_tiny", "classifier.2"),
        ("densenet121", "classifier"),
        ("efficientnet_b0", "classifier.1"),
        ("googlenet", "fc"),
        ("inception_v3", "fc"),
        ("maxvit_t", "classifier.5"),
        ("mnasnet0_5", "classifier.1"),
        ("mobilenet_v2", "classifier.1"),
        ("regnet_y_400mf", "fc"),
        ("squeezenet1_1", "classifier.1"),
        ("swin_t", "head"),
        ("vgg11", "classifier.6"),
        ("vit_b_32", "heads.head"),
    ],
)
def test_the_last_classifier_is_taken_off(architecture: str, head: str) -> None:
    slow = architecture in ("googlenet", "inception_v3")
    # its builder reads numbers from tensors, which have none on the device meta
    with torch.device("cpu" if architecture.startswith("regnet") else "meta"):
        model = models.get_model(
            architecture, **({"init_weights": False} if slow else {})
        )
        assert _behead(model) == head
        assert isinstance(model.get_submodule(head), nn.Identity)


@pytest.mark.parametrize("size", [(61, 40), (64, 70), (17, 90), (32, 32), (150, 64)])
@pytest.mark.parametrize(
    "transform",
    [
        (32, (0, 0, 0), (1, 1, 1)),
        ((24, 40), (0, 0, 0), (1, 1, 1)),
        "preset",
        "larger crop",
    ],
    ids=str,
)
def test_the_view_is_what_the_transform_does(
    transform: Any, size: tuple[int, int]
) -> None:
    usual = models.ResNet18_Weights.IMAGENET1K_V1.transforms
    plain = partial(usual, mean=(0, 0, 0), std=(1, 1, 1))
    if transform == "preset":
        transform = plain(crop_size=28, resize_size=35)
    elif transform == "larger crop":  # what is missing is padded
        transform = plain(crop_size=41, resize_size=32)
    process, view, mean, std = _understood(transform)
    assert (mean, std) == ((0, 0, 0), (1, 1, 1))
    check_view(process, view(size), size)


@pytest.mark.parametrize(
    "transform",
    ["resize", (32,), (32, 0.5, 0.5), (32, (0.5, 0.5), _HALF), nn.Identity()],
)
def test_transforms_that_are_none(transform: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="transform: expected .*size, mean"):
        siamese(_made("plain"), transform)


def test_backbones_that_are_none() -> None:
    function: Any = torch.mean
    with pytest.raises(InvalidArgumentError, match="backbone: expected a module"):
        siamese(function)


@pytest.mark.parametrize(
    "rest, message",
    [
        ("no_such_net", "torchvision:ARCHITECTURE with one of"),
        ("fcn_resnet50", "torchvision:ARCHITECTURE with one of"),
        ("resnet18/IMAGENET", "a file or one of IMAGENET1K_V1"),
        ("resnet18/{directory}/missing.pth", "a file or one of IMAGENET1K_V1"),
        ("resnet18/{directory}/junk.pth", "junk.pth"),
        ("resnet18/{directory}/other.pth", "other.pth"),
    ],
)
def test_models_that_are_not_there(tmp_path: Path, rest: str, message: str) -> None:
    (tmp_path / "junk.pth").write_bytes(b"no weights")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelUnavailableError, match=message):
        load(f"torchvision:{rest.format(directory=tmp_path)}")


def test_the_contract(kind: str) -> None:
    backbone = _made(kind)
    model = siamese(backbone, (64, _HALF, _HALF))

    @torch.no_grad()
    def own(first: Image.Image, second: Image.Image) -> float:
        return _cosine(
            *(backbone(model.first.prepare(image).inputs) for image in (first, second))
        )

    check_encoder(model, score=own)


def test_a_model_in_memory() -> None:
    backbone = models.resnet18(num_classes=6)
    preset = models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    model = load(backbone, preset)
    assert model.first is model.second and model.first.module is backbone
    assert all(part.training for part in backbone.modules())
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert model.name == "ResNet"
    # of a class of one's own too, if its transform is there
    assert load(_made("plain"), (64, _HALF, _HALF)).first.module is not None
    with pytest.raises(InvalidArgumentError, match="processor: expected the backbone"):
        load(backbone)
    with pytest.raises(InvalidArgumentError, match="transform: expected"):
        load(backbone, "a transform")
    with pytest.raises(ModelUnavailableError, match="that no adapter knows"):
        load(_made("plain"))
