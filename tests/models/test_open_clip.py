"""open_clip's models against what they themselves say, loaded from files."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from captum_pairs import load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import ModelUnavailableError, PreparedText, TextLengthError
from captum_pairs.testing import check_encoder
from geometry import check_view
from PIL import Image
from torch import nn
from torchvision import transforms

open_clip = pytest.importorskip(
    "open_clip", reason="the adapter of open_clip needs open_clip_torch"
)

TEXT = "a photo of two unbelievable dogs"
WORDS = ["a", "photo", "of", "two", "unbelievable", "dogs"]

_VISION = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16}
_TEXT = {
    "context_length": 16,
    "vocab_size": 49408,
    "width": 32,
    "heads": 2,
    "layers": 3,
}
_CONFIGS: dict[str, dict[str, Any]] = {
    "tiny-vit": {
        "embed_dim": 12,
        "quick_gelu": True,
        "vision_cfg": {**_VISION, "patch_size": 8},
        "text_cfg": _TEXT,
    },
    "tiny-resnet": {
        "embed_dim": 12,
        "vision_cfg": {
            "image_size": 64,
            "layers": [1, 1, 1, 1],
            "width": 8,
            "patch_size": None,
        },
        "text_cfg": _TEXT,
    },
    "tiny-custom": {
        "embed_dim": 12,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {**_VISION, "patch_size": 8, "pool_type": "avg", "qk_norm": True},
        "text_cfg": {
            **_TEXT,
            "no_causal_mask": True,
            "pool_type": "last",
            "proj_bias": True,
        },
    },
    "tiny-coca": {
        # its decoder takes text tokens and image tokens of one width
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {
            **_VISION,
            "patch_size": 8,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "attn_pooler_queries": 5,
            "output_tokens": True,
        },
        "text_cfg": {**_TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    },
}
_TIMM = {
    "tiny-timm-vit": ("test_vit", 160, "tok"),
    "tiny-timm-convnext": ("test_convnext", 160, "avg"),
}
_EVERY = [*_CONFIGS, *_TIMM, "tiny-hf-text"]


class Saved(NamedTuple):
    """What is loaded, and open_clip's own model, transform and tokenizer."""

    name: str
    model: Any
    transform: Callable[[Image.Image], torch.Tensor]
    tokenizer: Any


def _photo(width: int = 60, height: int = 40) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def _scramble(model: nn.Module) -> None:
    """Weights large enough to make a difference, whatever open_clip begins with."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.startswith("logit"):
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = noise * parameter[0].numel() ** -0.5
        else:
            parameter.data = parameter.data + 0.1 * noise
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1, generator=generator)


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("open_clip")


def _tokenizer(directory: Path) -> Path:
    """A tokenizer of transformers: lower-case words and letters."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"##{letter}" for letter in letters), "!", ","]
    words += ["photo", "of", "two", "un", "##believ", "##able", "dogs"]
    vocabulary = {word: at for at, word in enumerate([*specials, *words])}
    inner = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = BertNormalizer(lowercase=True)
    inner.pre_tokenizer = BertPreTokenizer()
    inner.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    tokenizer.save_pretrained(directory)
    return directory


def _hugging_face_text(directory: Path) -> Path:
    """The configuration of a text encoder of transformers, and its tokenizer."""
    from transformers import BertConfig

    BertConfig(
        vocab_size=65,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=24,
        pad_token_id=0,
    ).save_pretrained(directory)
    return _tokenizer(directory)


def _config(name: str, directory: Path) -> dict[str, Any]:
    if name in _CONFIGS:
        return _CONFIGS[name]
    if name in _TIMM:
        timm_name, size, pool = _TIMM[name]
        vision = {
            "timm_model_name": timm_name,
            "timm_model_pretrained": False,
            "timm_pool": "token" if pool == "tok" else pool,
            "timm_proj": "linear",
            "image_size": size,
        }
        return {"embed_dim": 12, "vision_cfg": vision, "text_cfg": _TEXT}
    source = str(_hugging_face_text(directory / "bert"))
    text = {
        "hf_model_name": source,
        "hf_tokenizer_name": source,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
        "context_length": 20,
    }
    return {
        "embed_dim": 12,
        "vision_cfg": {**_VISION, "patch_size": 8},
        "text_cfg": text,
    }


@pytest.fixture(scope="session")
def saved(directory: Path) -> Callable[[str], Saved]:
    """A model of open_clip on disk, loaded as anyone would."""
    made: dict[str, Saved] = {}

    def make(name: str) -> Saved:
        if name not in made:
            (directory / f"{name}.json").write_text(
                json.dumps(_config(name, directory))
            )
            open_clip.add_model_config(directory / f"{name}.json")
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = open_clip.create_model(name, pretrained_text=False)
            _scramble(model)
            weights = directory / f"{name}.pt"
            torch.save(model.state_dict(), weights)
            again, transform = open_clip.create_model_from_pretrained(
                name, pretrained=str(weights)
            )
            made[name] = Saved(
                f"open_clip:{name}/{weights}",
                again.eval(),
                transform,
                open_clip.get_tokenizer(name),
            )
        return made[name]

    return make


@pytest.fixture(params=_EVERY)
def every(request: pytest.FixtureRequest, saved: Any) -> Iterator[Saved]:
    if request.param in _TIMM:
        pytest.importorskip("timm", reason="open_clip's towers of timm need it")
    yield saved(request.param)


def _own(known: Saved, image: Image.Image, text: str) -> tuple[float, float]:
    """The model's own similarity, and what it makes of it."""
    with torch.no_grad():
        pixels, ids = known.transform(image)[None], known.tokenizer([text])
        output = known.model(pixels, ids)
        if isinstance(output, dict):
            first, second = output["image_features"], output["text_features"]
            scale, bias = output["logit_scale"], output.get("logit_bias")
        else:
            first, second, scale, *more = output
            bias = more[0] if more else None
        similarity = float(first[0] @ second[0])
        if hasattr(known.model, "get_logits"):
            return similarity, float(known.model.get_logits(pixels, ids)[0])
    return similarity, similarity * float(scale) + (0 if bias is None else float(bias))


def _total(found: Any) -> float:
    parts = (found.first_effects, found.second_effects, found.interactions)
    return found.constant + sum(float(part.double().sum()) for part in parts)


def test_the_parts_sum_to_the_models_own_similarity(every: Saved) -> None:
    model = load(every.name)
    similarity, logit = _own(every, _photo(), TEXT)
    # a network of rectifiers has kinks on the path, where no rule is exact
    kinks = "tiny-resnet" in every.name
    found = model.explain(_photo(), TEXT, tolerance=1e-2 if kinks else 1e-5)
    assert found.score == pytest.approx(similarity, abs=1e-5)
    assert model.heads[0](found.score) == pytest.approx(logit, abs=1e-3)
    assert _total(found) == pytest.approx(similarity, abs=5e-3 if kinks else 1e-5)
    assert [f.name for f in found.second.features if not f.special] == WORDS


@pytest.mark.slow
def test_every_block_and_the_input_can_be_attributed_to(every: Saved) -> None:
    model = load(every.name)
    similarity, _ = _own(every, _photo(), TEXT)
    places: list[Any] = [*range(len(model.first.blocks)), "input"]
    others: list[Any] = [*range(len(model.second.blocks)), "input"]
    for at in range(max(len(places), len(others))):
        layer = places[min(at, len(places) - 1)], others[min(at, len(others) - 1)]
        found = model.explain(_photo(), TEXT, layer=layer, tolerance=1e-2)
        assert found.score == pytest.approx(similarity, abs=1e-5)
        assert _total(found) - found.convergence_delta == pytest.approx(
            similarity, abs=1e-5
        )
        assert abs(found.convergence_delta) < 0.02
        assert found.first.grid is not None
        assert found.first.count == np.prod(found.first.grid)
        assert [f.name for f in found.second.features if not f.special] == WORDS


def test_a_batch_is_embedded_as_each_alone(every: Saved) -> None:
    model = load(every.name)
    one, other = (model.first.prepare(_photo(w)).inputs for w in (60, 30))
    pixels = model.first.embed(torch.cat([one, other]))
    torch.testing.assert_close(pixels[:1], model.first.embed(one))
    torch.testing.assert_close(pixels[1:], model.first.embed(other))
    texts = (TEXT, "dogs of two unbelievable a photo")
    ids = [model.second.prepare(text).inputs for text in texts]
    embeddings = model.second.embed(torch.cat(ids))
    for at, row in enumerate(ids):
        alone = model.second.embed(row)
        torch.testing.assert_close(embeddings[at : at + 1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "name, grid, blocks, default, kind",
    [
        ("tiny-vit", (4, 4), 3, 1, (1, 17, 32)),
        ("tiny-custom", (4, 4), 3, 1, (1, 17, 32)),
        ("tiny-coca", (4, 4), 3, 1, (1, 17, 32)),
        # the last stage's block halves the map of 4 x 4
        ("tiny-resnet", (2, 2), 4, 3, (1, 128, 4, 4)),
        ("tiny-timm-vit", (10, 10), 6, 2, (1, 101, 64)),
        ("tiny-timm-convnext", (5, 5), 4, 3, (1, 48, 10, 10)),
    ],
)
def test_blocks_and_patches(
    saved: Any,
    name: str,
    grid: tuple[int, int],
    blocks: int,
    default: int,
    kind: tuple[int, ...],
) -> None:
    if name in _TIMM:
        pytest.importorskip("timm", reason="open_clip's towers of timm need it")
    images: Any = load(saved(name).name).first
    assert (images.grid, len(images.blocks)) == (grid, blocks)
    assert images.default_block == default
    photo = images.prepare(_photo())
    shapes = []
    images.blocks[default].register_forward_pre_hook(
        lambda module, args: shapes.append(tuple(args[0].shape))
    )
    images.embed(photo.inputs)
    assert shapes == [kind]


def test_maps_with_channels_last_are_told_from_others(saved: Any) -> None:
    pytest.importorskip("timm", reason="open_clip's towers of timm need it")
    from captum_pairs.models.observed import observe_parts
    from timm.models.swin_transformer import SwinTransformer

    swin = SwinTransformer(
        img_size=64, window_size=2, embed_dim=8, depths=(1, 1, 1), num_heads=(1, 1, 1)
    )
    parts = observe_parts(swin, swin, torch.zeros(1, 3, 64, 64))
    # 16 x 16 places, then 8 x 8, then 4 x 4
    assert parts.channels_last and parts.grid == (4, 4)
    assert (len(parts.blocks), parts.default_block) == (3, 2)
    assert swin.training


@pytest.mark.parametrize("size", [(61, 40), (64, 70), (17, 90), (32, 32), (150, 64)])
@pytest.mark.parametrize("to", [32, (32, 32), (24, 40)], ids=str)
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_the_view_is_what_the_transform_does(
    size: tuple[int, int], to: Any, mode: str
) -> None:
    """Pixels of a picture of its own coordinates come to lie where the view says."""
    from captum_pairs.models.open_clip_models import view_of_transform
    from open_clip.transform import image_transform_v2, PreprocessCfg

    config = PreprocessCfg(
        size=to,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation="bilinear",
        resize_mode=mode,
        fill_color=0,
    )
    transform = image_transform_v2(config, is_train=False)
    check_view(transform, view_of_transform(config, size), size)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_a_directory_says_how_pixels_are_made(
    saved: Any, tmp_path: Path, mode: str
) -> None:
    known = saved("tiny-vit")
    preprocess = {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7], "resize_mode": mode}
    config = {"model_cfg": _CONFIGS["tiny-vit"], "preprocess_cfg": preprocess}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(known.model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    for name in (
        f"open_clip:tiny-vit/{tmp_path}",
        f"open_clip:{tmp_path}",
        f"open_clip:local-dir:{tmp_path}",
    ):
        model = load(name)
    prepared: Any = model.first.prepare(_photo(), "black")
    black = torch.tensor([-0.4, -0.5, -4 / 7])[None, :, None, None]
    torch.testing.assert_close(prepared.baseline, black.expand_as(prepared.baseline))
    assert not model.first.prepare(_photo()).baseline.any()
    assert (
        prepared.view.visible
        == {
            "shortest": (10.0, 0.0, 50.0, 40.0),
            "longest": (0.0, 0.0, 60.0, 40.0),
            "squash": (0.0, 0.0, 60.0, 40.0),
        }[mode]
    )


def test_tokens_and_padding(saved: Any) -> None:
    texts = load(saved("tiny-vit").name).second
    prepared: PreparedText = texts.prepare("Two naïve 🙂🙂, dogs!")
    names = [token.name for token in prepared.tokens]
    assert names[0] == "<start_of_text>" and names[-1] == "padding"
    assert len(names) == 16
    words = prepared.groups()
    assert [group.feature.name for group in words] == [
        "Two",
        "naïve",
        "🙂🙂,",
        "dogs",
        "!",
        "<start_of_text>",
        "<end_of_text>",
        "padding",
    ]
    # the baseline has its special tokens where they are, and padding between
    ids, start = prepared.inputs[0], prepared.baseline[0]
    special = torch.tensor([token.special for token in prepared.tokens])
    assert torch.equal(start[special], ids[special])
    assert not start[~special].any()
    with pytest.raises(TextLengthError, match="at most 16 tokens.*from “a</w>” on"):
        texts.prepare("a " * 15)
    assert texts.prepare("a " * 14).inputs.shape == (1, 16)


def test_coca_puts_a_class_token_behind(saved: Any) -> None:
    found = load(saved("tiny-coca").name).explain(_photo(), TEXT)
    names = [f.name for f in found.second.features if f.special]
    assert names == ["<start_of_text>", "<end_of_text>", "padding", "class token"]


def test_padding_that_a_model_masks_is_left_out(saved: Any) -> None:
    known = saved("tiny-hf-text")
    texts = load(known.name).second
    prepared: Any = texts.prepare(TEXT)
    assert [token.name for token in prepared.tokens] == [
        "[CLS]",
        *["a", "photo", "of", "two", "un", "##believ", "##able", "dogs"],
        "[SEP]",
    ]
    own = known.model.encode_text(known.tokenizer(TEXT))
    torch.testing.assert_close(texts.embed(prepared.inputs), own)
    with pytest.raises(TextLengthError, match="at most 20 tokens"):
        texts.prepare("dogs " * 19)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "settings, first, last",
    [
        ({}, "[CLS]", "[SEP]"),
        ({"clean": "canonicalize"}, "[CLS]", "[SEP]"),
        # which makes it padding
        ({"strip_sep_token": True}, "[CLS]", "padding"),
        ({"tokenizer_mode": "clips"}, "[BOS]", "[EOS]"),
    ],
    ids=str,
)
def test_tokenizers_of_transformers(
    directory: Path, settings: dict[str, Any], first: str, last: str, side: str
) -> None:
    """Of texts that a model reads with their padding."""
    from captum_pairs.models.open_clip_models import _read_hugging_face

    tokenizer = open_clip.tokenizer.HFTokenizer(
        str(_hugging_face_text(directory / "bert")), context_length=14, **settings
    )
    inner = tokenizer.tokenizer
    inner.padding_side = side
    clips = "tokenizer_mode" in settings
    if clips:
        inner.add_special_tokens({"bos_token": "[BOS]", "eos_token": "[EOS]"})
    text = "Two photo, unbelievable  dogs"
    ids, tokens, padding = _read_hugging_face(tokenizer, None, text)
    assert torch.equal(ids, tokenizer(text)) and len(tokens) == 14 and padding == 0
    for index, token in zip(ids[0].tolist(), tokens):
        assert (token.name == "padding") == (index == 0)
        assert token.special == (inner.convert_ids_to_tokens(index)[0] == "[")
        if not token.special:
            assert token.span is not None
            written = text[slice(*token.span)].lower()
            assert written == token.name.removeprefix("##")
    kept = [token.name for token in tokens if token.name != "padding"]
    comma = [] if settings.get("clean") == "canonicalize" else [","]
    words = ["t", "##w", "##o"] if "two" not in inner.vocab else ["two"]
    words += ["photo", *comma, "un", "##believ", "##able", "dogs"]
    assert kept[: len(words) + 1] == [first, *words]
    assert kept[len(words) + 1 :] == (
        [] if last == "padding" else [last, "[CLS]"] if clips else [last]
    )
    with pytest.raises(TextLengthError, match="at most 14 tokens"):
        _read_hugging_face(tokenizer, None, "dogs " * 13)


@pytest.mark.parametrize(
    "rest, message",
    [
        ("tiny-vit", "open_clip:tiny-vit/WEIGHTS with a file or one of the tags"),
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("no-such/tag", "an architecture of open_clip.list_models"),
        ("tiny-vit/no-such-tag", "no-such-tag"),
        ("tiny-vit//no/such/file.pt", "not a known tag or valid file"),
    ],
)
def test_models_that_are_not_there(saved: Any, rest: str, message: str) -> None:
    saved("tiny-vit")
    with pytest.raises(ModelUnavailableError, match=message):
        load(f"open_clip:{rest}")


def test_weights_of_another_architecture(saved: Any, tmp_path: Path) -> None:
    weights = saved("tiny-resnet").name.partition("/")[2]
    saved("tiny-vit")
    with pytest.raises(ModelUnavailableError, match="tiny-vit"):
        load(f"open_clip:tiny-vit/{weights}")
    (tmp_path / "junk.pt").write_bytes(b"no weights")
    with pytest.raises(ModelUnavailableError, match="junk.pt"):
        load(f"open_clip:tiny-vit/{tmp_path / 'junk.pt'}")


def test_the_contract(every: Saved) -> None:
    check_encoder(
        load(every.name),
        (None, (TEXT, "Two  DOGS, a photo!")),
        score=lambda image, text: _own(every, image, text)[1],
    )


def test_a_model_in_memory(every: Saved) -> None:
    every.model.train()
    model = load(every.model, (every.transform, every.tokenizer))
    assert model.first.module is every.model
    assert all(part.training for part in every.model.modules())
    assert all(parameter.requires_grad for parameter in every.model.parameters())
    every.model.eval()
    named = load(every.name)
    photo, text = model.first.prepare(_photo()), model.second.prepare(TEXT)
    with torch.no_grad():
        for encoder, other, prepared in (
            (model.first, named.first, photo),
            (model.second, named.second, text),
        ):
            torch.testing.assert_close(
                encoder.embed(prepared.inputs), other.embed(prepared.inputs)
            )
    assert model.heads == named.heads
    for wrong in (None, every.transform, (every.tokenizer, every.transform)):
        with pytest.raises(InvalidArgumentError, match="processor: .*transform, tok"):
            load(every.model, wrong)
    with pytest.raises(ModelUnavailableError, match="encode_image and encode_text"):
        load(every.model.visual, (every.transform, every.tokenizer))


@pytest.mark.parametrize(
    "text",
    [
        "two&nbsp;&nbsp;&nbsp;&nbsp;&nbsp;&nbsp;&nbsp; photo dogs",
        f"two {'-' * 40} photo dogs",
        f"two {'_' * 40} photo, dogs &amp; two",
    ],
)
def test_what_a_tokenizer_cleans_away_hides_no_word(
    saved: Any, directory: Path, text: str
) -> None:
    from captum_pairs.models.open_clip_models import _read_hugging_face

    cleaning = open_clip.tokenizer.HFTokenizer(
        str(_hugging_face_text(directory / "bert")),
        context_length=60,
        clean="canonicalize",
    )
    prepared = load(saved("tiny-vit").name).second.prepare(text)
    for tokens in (prepared.tokens, _read_hugging_face(cleaning, None, text).tokens):
        found = {text[slice(*t.span)] for t in tokens if t.span}
        assert {"photo", "dogs"} <= found


@pytest.mark.parametrize("trusted", [True, False])
def test_no_code_that_comes_with_a_text_tower(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a prompt")

    monkeypatch.setattr("builtins.input", never)
    tower = tmp_path / "tower"
    shutil.copytree(_hugging_face_text(directory / "bert"), tower)
    (tower / "mine.py").write_text("raise SystemExit('it ran')\n")
    config = json.loads((tower / "config.json").read_text())
    if not trusted:
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
    (tower / "config.json").write_text(json.dumps(config))
    settings = json.loads((tower / "tokenizer_config.json").read_text())
    settings |= {
        "tokenizer_class": "Mine",
        "auto_map": {"AutoTokenizer": ["mine.T", None]},
    }
    (tower / "tokenizer_config.json").write_text(json.dumps(settings))
    text = {
        "hf_model_name": str(tower),
        "hf_tokenizer_name": str(tower),
        "hf_proj_type": "mlp",
        "context_length": 20,
    }
    if trusted:
        text["tokenizer_kwargs"] = {"trust_remote_code": True}
    model = {"embed_dim": 12, "vision_cfg": {**_VISION, "patch_size": 8}}
    whole = {"model_cfg": {**model, "text_cfg": text}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(whole))
    reason = "trust_remote_code" if trusted else "."
    with pytest.raises(ModelUnavailableError, match=reason):
        load(f"open_clip:{tmp_path}")


def test_a_transform_that_normalises_otherwise_than_the_model_says(saved: Any) -> None:
    known = saved("tiny-vit")
    size = known.model.visual.image_size[0]
    transform = transforms.Compose(
        [
            transforms.Resize((size, size)),
            transforms.ToTensor(),
            transforms.Normalize((0.1, 0.2, 0.3), (0.5, 0.25, 0.75)),
        ]
    )
    images: Any = load(known.model, (transform, known.tokenizer)).first
    prepared = images.prepare(_photo(), "black")
    black = transform(Image.new("RGB", (60, 40)))
    torch.testing.assert_close(prepared.baseline[0], black)
    # squashed, where the model's own transform cuts out the middle
    assert prepared.view.visible == pytest.approx((0, 0, 60, 40), abs=1)
