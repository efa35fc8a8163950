"""Which part of a photo a model sees, through processors of every geometry."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import load, siamese
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.view import View, Views
from PIL import Image, ImageOps
from test_patches_of_backbones import _dual
from tiny_hugging_face import bert_tokenizer
from torch import nn, Tensor
from torchvision import transforms
from torchvision.transforms.functional import hflip, pil_to_tensor
from transformers import (
    BeitImageProcessor,
    BitImageProcessor,
    CLIPImageProcessor,
    ConvNextImageProcessor,
    DeiTImageProcessor,
    EfficientNetImageProcessor,
    LevitImageProcessor,
    MobileViTImageProcessor,
    PoolFormerImageProcessor,
    ViTImageProcessor,
)

SIZES = [(60, 60), (97, 61), (61, 97), (200, 33), (640, 427), (33, 200)]
_SQUARE = {"height": 40, "width": 40}
_SHORT = {"shortest_edge": 40}
PROCESSORS: dict[str, Callable[[], Any]] = {
    # resized to 40 / 0.8 and cut out: the margin is not seen
    "crop_pct": lambda: ConvNextImageProcessor(size=_SHORT, crop_pct=0.8),
    "poolformer": lambda: PoolFormerImageProcessor(
        size=_SHORT, crop_pct=0.8, crop_size=_SQUARE
    ),
    # resized to 256 / 224 of it
    "levit": lambda: LevitImageProcessor(size=_SHORT, crop_size=_SQUARE),
    "beit": lambda: BeitImageProcessor(
        size={"height": 48, "width": 48}, crop_size=_SQUARE, do_center_crop=True
    ),
    "deit": lambda: DeiTImageProcessor(
        size={"height": 48, "width": 48}, crop_size=_SQUARE
    ),
    "bit": lambda: BitImageProcessor(size=_SHORT, crop_size=_SQUARE),
    "efficientnet": lambda: EfficientNetImageProcessor(size=_SQUARE, crop_size=_SQUARE),
    "mobilevit": lambda: MobileViTImageProcessor(
        size={"shortest_edge": 48}, crop_size=_SQUARE
    ),
    "vit": lambda: ViTImageProcessor(size=_SQUARE),
    "clip": lambda: CLIPImageProcessor(size=_SHORT, crop_size=_SQUARE),
    "clip-oblong": lambda: CLIPImageProcessor(
        size=_SHORT, crop_size={"height": 24, "width": 40}
    ),
}


def _process(processor: Any) -> Callable[[Image.Image], Tensor]:
    return lambda image: processor(images=image, return_tensors="pt")["pixel_values"]


def _letterbox(image: Image.Image) -> Tensor:
    padded = ImageOps.pad(image, (40, 40), Image.Resampling.BILINEAR, "gray")
    return pil_to_tensor(padded) / 255


def _check(process: Callable[[Image.Image], Tensor], view: View) -> None:
    """A white box lands where the view has it: its centre, weighted by its pixels."""
    width, height = view.original
    left, top, right, bottom = view.visible
    black = process(Image.new("RGB", view.original)).double()
    black = black.reshape(-1, *black.shape[-2:]).mean(0)
    for across, down in ((0.3, 0.3), (0.7, 0.35), (0.5, 0.7)):
        x, y = left + across * (right - left), top + down * (bottom - top)
        wide, high = (right - left) / 6, (bottom - top) / 6
        box = tuple(map(round, (x - wide, y - high, x + wide, y + high)))
        picture = np.zeros((height, width, 3), dtype=np.uint8)
        picture[box[1] : box[3], box[0] : box[2]] = 255
        lit = process(Image.fromarray(picture)).double()
        lit = (lit.reshape(-1, *lit.shape[-2:]).mean(0) - black).clamp(min=0)
        rows, columns = (torch.arange(n) + 0.5 for n in lit.shape)
        found = float((lit.sum(0) @ columns.double()) / lit.sum())
        below = float((lit.sum(1) @ rows.double()) / lit.sum())
        there = view.to_processed(box)  # type: ignore[arg-type]  # four numbers
        assert found == pytest.approx((there[0] + there[2]) / 2, abs=0.6)
        assert below == pytest.approx((there[1] + there[3]) / 2, abs=0.6)
        # and of the size that it says, half of what the filter blurs
        area = float(lit.sum() / lit.max())
        assert area == pytest.approx(
            (there[2] - there[0]) * (there[3] - there[1]), rel=0.35
        )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", PROCESSORS)
def test_a_box_lands_where_the_view_says(kind: str, size: tuple[int, int]) -> None:
    dual, _ = _dual("dinov2")
    processor = PROCESSORS[kind]()
    images: Any = load(dual, (processor, bert_tokenizer())).first
    _, view = images.process(Image.new("RGB", size))
    _check(_process(processor), view)


def test_only_the_middle_is_seen() -> None:
    dual, _ = _dual("dinov2")
    images: Any = load(dual, (PROCESSORS["crop_pct"](), bert_tokenizer())).first
    prepared = images.prepare(Image.new("RGB", (60, 60)))
    assert prepared.view.visible == pytest.approx((6, 6, 54, 54), abs=0.3)
    assert prepared.source.visible == prepared.view.visible


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_letterboxes_are_measured(size: tuple[int, int]) -> None:
    view = Views("transform").view(_letterbox, size, None)
    _check(_letterbox, view)
    assert view.visible == pytest.approx((0, 0, *size), abs=max(size) / 60)
    margin = view.to_original((0, 0, 2, 2))
    assert margin is None or size[0] == size[1]


def test_what_is_told_is_taken_where_it_agrees() -> None:
    exact = View((61, 97), (40, 40), (40 / 61, 40 / 97), (0, 0))
    wrong = View((61, 97), (40, 40), (40 / 61, 64 / 97), (0, -12))
    process = _process(ViTImageProcessor(size=_SQUARE))
    assert Views("image_processor").view(process, (61, 97), exact) is exact
    found = Views("image_processor").view(process, (61, 97), wrong)
    assert found.scale == pytest.approx(exact.scale, rel=0.02)
    assert found.offset == pytest.approx(exact.offset, abs=0.4)
    # too small to be measured: as the settings say
    tiny = View((1, 7), (40, 40), (40.0, 40 / 7), (0, 0))
    assert Views("image_processor").view(process, (1, 7), tiny) is tiny


def test_an_image_is_measured_once_a_size() -> None:
    calls = []

    def process(image: Image.Image) -> Tensor:
        calls.append(image.size)
        return _letterbox(image)

    views = Views("transform")
    first = views.view(process, (50, 30), None)
    count = len(calls)
    assert views.view(process, (50, 30), None) is first and len(calls) == count == 4


def test_what_agreed_often_is_believed_and_what_did_not_never() -> None:
    calls = []

    def process(image: Image.Image) -> Tensor:
        calls.append(image.size)
        return pil_to_tensor(image.resize((40, 40))) / 255

    def told(size: tuple[int, int], wrong: bool) -> View:
        scale = 40 / size[0], 40 / size[1]
        return View(size, (40, 40), scale, (8 if wrong else 0, 0))

    for wrong in (False, True):
        views = Views("transform")
        for width in range(30, 60):
            views.view(process, (width, 35), told((width, 35), wrong))
        calls.clear()
        found = views.view(process, (61, 35), told((61, 35), wrong))
        assert found.offset[0] == pytest.approx(0, abs=0.5)
        assert bool(calls) == wrong


@pytest.mark.parametrize(
    "process, what",
    [
        (lambda image: hflip(pil_to_tensor(image)) / 255, "mirrors or turns"),
        (
            lambda image: (pil_to_tensor(image) / 255).transpose(1, 2),
            "bends images|mirrors or turns|can't be measured",
        ),
        (lambda image: torch.zeros(3, 40, 40), "the same of a black and of a white"),
        (
            lambda image: (pil_to_tensor(image.resize((40, 40))) / 255) ** 4,
            "bends images",
        ),
        (
            # from the brightest column on
            lambda image: _letterbox(
                image.crop(
                    (int(np.asarray(image)[0, :, 0].argmax()) // 2, 0, *image.size)
                )
            ),
            "bends images|another size|can't be measured|mirrors",
        ),
    ],
)
def test_what_can_not_be_measured(
    process: Callable[[Image.Image], Tensor], what: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"transform: .*({what})"):
        Views("transform").view(process, (50, 70), None)


def test_any_transform_of_a_backbone() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 4, stride=4), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    transform = transforms.Compose(
        [
            transforms.Resize((50, 40)),
            transforms.CenterCrop((32, 24)),
            transforms.ToTensor(),
            transforms.Normalize((0.1, 0.2, 0.3), (0.5, 0.25, 0.75)),
        ]
    )
    images: Any = siamese(net, transform).first
    prepared = images.prepare(Image.new("RGB", (80, 100)))
    # 8 of 40 columns and 9 of 50 rows are cut off on each side
    assert prepared.view.visible == pytest.approx((16, 18, 64, 82), abs=0.6)
    assert images.mean == pytest.approx((0.1, 0.2, 0.3), abs=1e-5)
    assert images.std == pytest.approx((0.5, 0.25, 0.75), abs=1e-5)
    black = transform(Image.new("RGB", (80, 100)))
    torch.testing.assert_close(
        images.prepare(Image.new("RGB", (9, 9)), "black").baseline[0], black
    )


def test_a_transform_of_timm() -> None:
    timm = pytest.importorskip("timm", reason="its models and transforms")
    model = timm.create_model("test_vit", pretrained=False, num_classes=0).eval()
    settings = timm.data.resolve_data_config({}, model=model)
    transform = timm.data.create_transform(**settings)
    found: Any = load(model, transform)
    prepared = found.first.prepare(Image.new("RGB", (100, 100)))
    seen = 100 * settings["crop_pct"]
    margin = (100 - seen) / 2
    assert prepared.view.visible == pytest.approx(
        (margin, margin, 100 - margin, 100 - margin), abs=0.7
    )
    explained = found.explain(
        Image.effect_noise((100, 100), 50), Image.effect_noise((90, 70), 50)
    )
    assert explained.first.count == np.prod(explained.first.grid)
