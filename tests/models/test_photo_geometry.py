"""Real photos through real processors and back: where a box of the photo lands."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import Layout
from captum_pairs.models.images import patch_features, PreparedImage
from captum_pairs.models.naflex import NaFlexEncoder
from captum_pairs.models.photo import read_image
from captum_pairs.models.view import View, view_of, Views
from PIL import Image, ImageOps
from transformers import (
    BlipImageProcessor,
    ChineseCLIPImageProcessor,
    CLIPImageProcessor,
    EfficientNetImageProcessor,
    Siglip2ImageProcessor,
    SiglipImageProcessor,
)

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "coco-free" / "images"
FILES = sorted(PHOTOS.glob("*.jpg"))
needs_photos = pytest.mark.skipif(
    not FILES, reason="the COCO photos are not beside this checkout (shared/data)"
)

# Processors of the published checkpoints, and the patch size of their models.
PROCESSORS: dict[str, tuple[Any, int]] = {
    "CLIP B/32": (CLIPImageProcessor(), 32),
    "SigLIP B/16": (SiglipImageProcessor(size={"height": 224, "width": 224}), 16),
    "ALIGN": (
        EfficientNetImageProcessor(
            size={"height": 289, "width": 289}, do_center_crop=False
        ),
        32,
    ),
    "BLIP": (BlipImageProcessor(), 16),
    "Chinese-CLIP": (
        ChineseCLIPImageProcessor(
            size={"height": 224, "width": 224}, do_center_crop=False
        ),
        16,
    ),
}
ODD = [(1, 60), (60, 1), (17, 131), (640, 427), (300, 300)]


def _marked(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Black, with a white box."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return Image.fromarray(pixels)


def _white(processor: Any, image: Image.Image) -> "np.ndarray[Any, Any]":
    """(h, w), from 0 to 1: how white each processed pixel is."""
    out = processor(images=image, return_tensors="np")["pixel_values"][0].mean(0)
    black, white = (
        processor(images=Image.new("RGB", image.size, c), return_tensors="np")
        for c in ("black", "white")
    )
    low = float(black["pixel_values"][0].mean(0).max())
    high = float(white["pixel_values"][0].mean(0).max())
    return (np.asarray(out) - low) / (high - low)


def _lit(
    values: "np.ndarray[Any, Any]", grid: tuple[int, int]
) -> "np.ndarray[Any, Any]":
    """(rows, columns): how white each of the patches is that divide the whole."""
    for axis, count in enumerate(grid):
        size = values.shape[axis]
        of_pixel = np.arange(size) * count // size
        mean = np.eye(count)[of_pixel] / np.bincount(of_pixel)  # (pixels, patches)
        values = np.moveaxis(np.tensordot(mean.T, values, (1, axis)), 0, axis)
    return values


def _explained(image: Image.Image, view: View, grid: tuple[int, int]) -> ExplainedInput:
    from captum_pairs.models.images import image_source

    features = patch_features(view, grid)
    return ExplainedInput(image_source(image, view), features, grid, "", "", 4, 0.0)


def _check(processor: Any, patch: int, size: tuple[int, int]) -> None:
    """A box of the photo lights the patches that the explanation says it covers."""
    width, height = size
    box = (
        width // 3,
        height // 3,
        max(2 * width // 3, width // 3 + 1),
        max(2 * height // 3, height // 3 + 1),
    )
    image = _marked(size, box)
    view = view_of(processor, size)
    values = _white(processor, image)
    assert view.processed == values.shape[::-1]
    grid = -(-values.shape[0] // patch), -(-values.shape[1] // patch)
    whole = (grid[1] * patch, grid[0] * patch) == view.processed
    lit = _lit(values, grid)
    expected = _explained(image, view, grid).weights(box).reshape(grid).numpy()
    if whole:
        # interpolation spreads edges over a few pixels
        assert np.abs(lit - expected).max() < 0.25
    inside, outside = expected > 0.999, expected == 0.0
    assert lit[outside].max(initial=0.0) < 0.35
    if inside.any():
        assert lit[inside].min() > 0.65


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("size", ODD, ids=str)
def test_odd_sizes(name: str, size: tuple[int, int]) -> None:
    processor, patch = PROCESSORS[name]
    if name in ("CLIP B/32",) and max(size) / min(size) > 10:
        # a sliver is cropped to its middle: enlarged pixel by pixel
        view = view_of(processor, size)
        left, top, right, bottom = view.visible
        assert (right - left) == pytest.approx(min(size), rel=0.05)
        return
    _check(processor, patch, size)


@needs_photos
@pytest.mark.parametrize("name", PROCESSORS)
def test_every_photo(name: str) -> None:
    processor, patch = PROCESSORS[name]
    sizes = set()
    grey = 0
    for file in FILES:
        with Image.open(file) as opened:
            grey += opened.mode == "L"
        image = read_image(file)
        assert image.mode == "RGB"
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        view = view_of(processor, image.size)
        assert view.processed == (pixels.shape[-1], pixels.shape[-2])
        sizes.add(image.size)
    assert len(FILES) == 87
    for size in sizes:
        _check(processor, patch, size)


@needs_photos
def test_annotated_boxes_light_the_patches_that_hold_them() -> None:
    """Each COCO box, through CLIP's resize and crop: where what is seen of it is
    larger than a patch, the patch around its middle is part of it."""
    import json

    annotations = json.loads((PHOTOS.parent / "instances.json").read_text())
    by_id = {image["id"]: image for image in annotations["images"]}
    processor, patch = PROCESSORS["CLIP B/32"]
    checked = 0
    for annotation in annotations["annotations"]:
        image = by_id[annotation["image_id"]]
        size = image["width"], image["height"]
        x, y, w, h = annotation["bbox"]
        box = (x, y, min(x + w, size[0]), min(y + h, size[1]))
        view = view_of(processor, size)
        left, top, right, bottom = view.visible
        seen = (
            max(box[0], left),
            max(box[1], top),
            min(box[2], right),
            min(box[3], bottom),
        )
        if seen[0] >= seen[2] or seen[1] >= seen[3]:
            continue
        explained = _explained(Image.new("RGB", size), view, (7, 7))
        weights = explained.weights(box)
        point = explained.weights(((seen[0] + seen[2]) / 2, (seen[1] + seen[3]) / 2))
        assert float(weights[int(point.argmax())]) > 0
        # the covered area is that of the box as far as it is seen
        areas = np.array(
            [(b[2] - b[0]) * (b[3] - b[1]) for f in explained.features if (b := f.box)]
        )
        expected = (seen[2] - seen[0]) * (seen[3] - seen[1])
        assert float((weights.numpy() * areas).sum()) == pytest.approx(
            expected, rel=1e-3
        )
        checked += 1
    assert checked > 500


def _naflex(processor: Any) -> NaFlexEncoder:
    encoder = NaFlexEncoder.__new__(NaFlexEncoder)
    encoder.module, encoder.blocks = None, []
    encoder.processor, encoder.views = processor, Views("image_processor")
    return encoder


class _Middle(Siglip2ImageProcessor):  # type: ignore[misc]  # it ships no types
    """Sees what lies in the middle of an image alone."""

    def __call__(self, images: Image.Image, **settings: Any) -> Any:
        width, height = images.size
        box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
        return super().__call__(images.crop(box), **settings)


class _Mirror(Siglip2ImageProcessor):  # type: ignore[misc]  # it ships no types
    def __call__(self, images: Image.Image, **settings: Any) -> Any:
        return super().__call__(ImageOps.mirror(images), **settings)


class _ColumnsFirst(Siglip2ImageProcessor):  # type: ignore[misc]  # it ships no types
    """Its patches come column by column."""

    def __call__(self, images: Image.Image, **settings: Any) -> Any:
        found = super().__call__(images, **settings)
        rows, columns = found["spatial_shapes"][0].tolist()
        patches = found["pixel_values"][:, : rows * columns]
        split = patches.reshape(1, rows, columns, -1).transpose(1, 2)
        found["pixel_values"] = split.reshape(patches.shape)
        return found


def test_of_naflex_too_the_view_is_measured() -> None:
    encoder = _naflex(_Middle(patch_size=16, max_num_patches=64))
    view = encoder.prepare(Image.new("RGB", (200, 120))).view
    assert view.visible == pytest.approx((50, 30, 150, 90), abs=0.7)
    for wrong in (_Mirror, _ColumnsFirst):
        encoder = _naflex(wrong(patch_size=16, max_num_patches=64))
        with pytest.raises(InvalidArgumentError, match="image_processor: .*one that"):
            encoder.prepare(Image.new("RGB", (200, 120)))


@pytest.mark.parametrize("size", [(640, 427), (60, 300), (100, 100)], ids=str)
def test_naflex(size: tuple[int, int]) -> None:
    encoder = _naflex(Siglip2ImageProcessor(patch_size=16, max_num_patches=64))
    box = (size[0] // 4, size[1] // 4, 3 * size[0] // 4, 3 * size[1] // 4)
    prepared: PreparedImage = encoder.prepare(_marked(size, box))
    layout: Layout = prepared.layout(prepared.inputs.shape, True, False)
    lit = (prepared.inputs[0].mean(1) + 1) / 2  # mean and deviation are 0.5
    explained = _explained(_marked(size, box), prepared.view, prepared.grid)
    assert explained.features == layout.features
    expected = explained.weights(box)
    assert (lit - expected).abs().max() < 0.25
