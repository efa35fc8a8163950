"""Where a patch lies, for every kind of image encoder that a VisionTextDualEncoder can
hold: what is changed in a part of the photo is seen at the tokens that say so."""

from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import load
from captum_pairs.attr import InvalidArgumentError
from tiny_hugging_face import _bert, bert_tokenizer, SMALL
from transformers import (
    BeitConfig,
    BeitModel,
    BertConfig,
    BertModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    ConvNextModel,
    DeiTConfig,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    SwinConfig,
    SwinModel,
    Swinv2Config,
    Swinv2Model,
    VisionTextDualEncoderModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    YolosConfig,
    YolosModel,
)

PATCHES = {**SMALL, "image_size": 20, "patch_size": 4}
WINDOWS = {
    "image_size": 48,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 1, 1],
    "num_heads": [1, 1, 1],
    "window_size": 3,
    "drop_path_rate": 0.0,
}
MAPS = {"hidden_sizes": [8, 8, 12, 16], "depths": [1, 1, 1, 1]}

# A backbone, the (height, width) that its processor makes, the grid at its first block,
# and the names of its tokens that are no patches.
BACKBONES: dict[str, tuple[Any, Any, tuple[int, int], tuple[int, int], list[str]]] = {
    "vit": (ViTModel, ViTConfig(**PATCHES), (20, 20), (5, 5), ["class token"]),
    "clip": (
        *(CLIPVisionModel, CLIPVisionConfig(**PATCHES)),
        *((20, 20), (5, 5), ["class token"]),
    ),
    "siglip": (SiglipVisionModel, SiglipVisionConfig(**PATCHES), (20, 20), (5, 5), []),
    "deit": (
        *(DeiTModel, DeiTConfig(**PATCHES), (20, 20), (5, 5)),
        ["class token", "register 1"],
    ),
    "beit": (BeitModel, BeitConfig(**PATCHES), (20, 20), (5, 5), ["class token"]),
    # made for 20 pixels, under a processor that makes others
    "dinov2": (
        *(Dinov2Model, Dinov2Config(**PATCHES), (40, 40), (10, 10)),
        ["class token"],
    ),
    "dinov2-oblong": (
        *(Dinov2Model, Dinov2Config(**PATCHES), (24, 40), (6, 10)),
        ["class token"],
    ),
    # a rest of three pixels is in no patch
    "dinov2-rest": (
        *(Dinov2Model, Dinov2Config(**PATCHES), (27, 23), (6, 5)),
        ["class token"],
    ),
    "dinov2-registers": (
        Dinov2WithRegistersModel,
        Dinov2WithRegistersConfig(**PATCHES, num_register_tokens=3),
        *((32, 24), (8, 6), ["class token", "register 1", "register 2", "register 3"]),
    ),
    "dinov3": (
        DINOv3ViTModel,
        DINOv3ViTConfig(**PATCHES, num_register_tokens=2),
        *((24, 32), (6, 8), ["class token", "register 1", "register 2"]),
    ),
    "yolos": (
        YolosModel,
        YolosConfig(**{**PATCHES, "image_size": [20, 28]}, num_detection_tokens=4),
        *((20, 28), (5, 7)),
        ["class token", *(f"token behind {n}" for n in range(1, 5))],
    ),
    "swin": (SwinModel, SwinConfig(**WINDOWS), (48, 48), (12, 12), []),
    "swin-oblong": (SwinModel, SwinConfig(**WINDOWS), (48, 72), (12, 18), []),
    "swin-rest": (SwinModel, SwinConfig(**WINDOWS), (46, 50), (12, 13), []),
    "swinv2": (Swinv2Model, Swinv2Config(**WINDOWS), (48, 72), (12, 18), []),
    "convnext": (ConvNextModel, ConvNextConfig(**MAPS), (64, 96), (16, 24), []),
}
SIZE = 80, 60


def _photo() -> "np.ndarray[Any, Any]":
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def _dual(kind: str) -> tuple[Any, Any]:
    """A dual encoder of random weights with this backbone, and its processor."""
    model, config, (height, width), *_ = BACKBONES[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "convnext":  # which says it of each stage
            config.hidden_size = MAPS["hidden_sizes"][-1]
        dual = VisionTextDualEncoderModel(
            vision_model=model(config), text_model=BertModel(BertConfig(**_bert()))
        ).eval()
        for name, value in dual.named_parameters():
            if value.ndim == 1:  # without biases a baseline of zeros has no embedding
                value.data += 0.1 * torch.randn_like(value)
    image = ViTImageProcessor(size={"height": height, "width": width})
    return dual, (image, bert_tokenizer())


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_changed_part_of_the_photo_is_seen_where_it_is(kind: str) -> None:
    _, _, (height, width), grid, specials = BACKBONES[kind]
    images: Any = load(*_dual(kind)).first
    photo = _photo()
    values = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        values.append([*args, *kwargs.values()][0].detach().clone())

    images.prepare(photo)
    handle = images.blocks[0].register_forward_pre_hook(note, with_kwargs=True)
    places = [(4, 4), (70, 5), (6, 50), (41, 33), (68, 49)]
    for x, y in [(None, None), *places]:
        changed = photo.copy()
        if x is not None:
            changed[y : y + 4, x : x + 4] = 255 - changed[y : y + 4, x : x + 4]
        prepared = images.prepare(changed)
        with torch.no_grad():
            images.embed(prepared.inputs, *prepared.arguments)
    handle.remove()
    plain = values[0]
    layout = prepared.layout(tuple(plain.shape), False, False)
    assert layout.grid == grid
    assert [f.name for f in layout.features if f.special] == specials
    for (x, y), value in zip(places, values[1:]):
        moved = (value - plain).abs()
        # the channels are summed, and every position is a feature
        while moved.ndim > layout.mask.ndim:
            moved = moved.sum(-1)
        axis = layout.mask.ndim - 1 if layout.mask.ndim == 3 else 1
        moved = moved.sum(axis, keepdim=True)
        strongest = int(layout.mask.flatten()[moved.flatten().argmax()])
        box = layout.features[strongest].box
        assert box is not None
        reach = SIZE[0] / width + 1, SIZE[1] / height + 1
        assert box[0] - reach[0] < x + 2 < box[2] + reach[0]
        assert box[1] - reach[1] < y + 2 < box[3] + reach[1]


@pytest.mark.parametrize("kind", BACKBONES)
def test_explained_at_every_block(kind: str) -> None:
    model = load(*_dual(kind))
    for block in range(len(model.first.blocks)):
        found = model.explain(_photo(), "a red dog", layer=(block, 0), tolerance=0.3)
        assert found.first.grid is not None
        assert found.first.count == np.prod(found.first.grid)
        boxes = [f.box for f in found.first.features if not f.special]
        areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in boxes if b is not None)
        # all but a rest at the edge that the model does not look at
        assert 0.75 * SIZE[0] * SIZE[1] < areas < 1.0001 * SIZE[0] * SIZE[1]


def test_patches_that_leave_a_rest_are_not_stretched() -> None:
    prepared: Any = load(*_dual("dinov2-rest")).first.prepare(_photo())
    features = prepared.layout((1, 31, 16), False, False).features
    # 4 pixels of 23 across 80, and of 27 across 60
    assert features[-2].box == pytest.approx(
        (16 / 23 * 80, 20 / 27 * 60, 20 / 23 * 80, 24 / 27 * 60)
    )
    pixels = prepared.layout(tuple(prepared.inputs.shape), True, False)
    assert pixels.features == features[:-1]
    assert pixels.mask[0, 0, 23, 19] == 29 == pixels.mask[0, 0, 26, 22]
    assert pixels.mask[0, 0, 19, 19] == 24


@pytest.mark.parametrize("kind", ["vit", "clip", "siglip"])
def test_a_processor_of_another_size_than_the_models(kind: str) -> None:
    dual, (_, tokenizer) = _dual(kind)
    image = ViTImageProcessor(size={"height": 40, "width": 40})
    with pytest.raises(InvalidArgumentError, match="image_processor: .*40 x 40: .*"):
        load(dual, (image, tokenizer)).first.prepare(_photo())


def test_a_model_that_sees_nothing_has_its_patches_nevertheless() -> None:
    dual, processor = _dual("vit")
    for parameter in dual.vision_model.embeddings.patch_embeddings.parameters():
        parameter.data.zero_()
    prepared: Any = load(dual, processor).first.prepare(_photo())
    layout = prepared.layout((1, 26, 16), False, False)
    assert layout.grid == (5, 5)
    assert layout.mask.flatten().tolist() == [25, *range(25)]


def test_tokens_that_are_not_in_the_order_of_patches() -> None:
    dual, processor = _dual("vit")
    # the class token at the end, and the patches backwards
    dual.vision_model.embeddings.register_forward_hook(
        lambda module, args, output: output.flip(1)
    )
    with pytest.raises(
        InvalidArgumentError, match="model: .*5 x 5 patches, row by row"
    ):
        load(dual, processor)
