"""Boxes of patches, through the real image processor and back."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captum_pairs import load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import read_image, UnreadableImageError
from captum_pairs.models.view import view_of
from PIL import Image
from transformers import CLIPImageProcessor

SIZES = [(64, 64), (97, 61), (61, 97), (200, 33), (33, 200), (301, 300), (7, 5)]
PROCESSORS: list[dict[str, Any]] = [
    {"size": {"shortest_edge": 40}, "crop_size": {"height": 40, "width": 40}},
    {"size": {"height": 40, "width": 40}, "do_center_crop": False},
    {"size": {"shortest_edge": 44}, "crop_size": {"height": 33, "width": 40}},
    # pads with black what is missing
    {"size": {"shortest_edge": 20}, "crop_size": {"height": 33, "width": 40}},
    {"do_resize": False, "crop_size": {"height": 40, "width": 40}},
]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("settings", PROCESSORS, ids=range(len(PROCESSORS)))
def test_a_half_lands_where_the_view_says(
    settings: dict[str, Any], size: tuple[int, int]
) -> None:
    """The processed image of one that is white from an edge on has its edge there."""
    processor = CLIPImageProcessor(
        **settings, do_normalize=False, do_rescale=False, resample=0
    )
    width, height = size
    view = view_of(processor, size)
    for axis in (0, 1):
        edge = size[axis] // 2
        image = np.zeros((height, width, 3), dtype=np.uint8)
        image[(slice(edge, None), slice(None))[:: 1 if axis else -1]] = 255
        out = processor(images=image, return_tensors="np")["pixel_values"][0, 0]
        assert view.processed == (out.shape[1], out.shape[0])
        profile = out.max(axis=1 if axis else 0) > 127
        box = view.to_processed((edge, edge, width, height))
        expected = [box[axis] <= x + 0.5 < box[axis + 2] for x in range(len(profile))]
        wrong = np.flatnonzero(profile != np.array(expected))
        # nearest-neighbour sampling is off by less than one sample of either image
        reach = max(1.0, view.scale[axis])
        near = [
            min(abs(x + 0.5 - e) for e in (box[axis], box[axis + 2])) for x in wrong
        ]
        assert all(distance <= reach for distance in near)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_there_and_back(size: tuple[int, int]) -> None:
    for settings in PROCESSORS:
        view = view_of(CLIPImageProcessor(**settings), size)
        for left, top in product((0, 8, 24), repeat=2):
            box = (left, top, left + 8, top + 8)
            original = view.to_original(box)
            if original is None:
                continue
            left_, top_, right_, bottom_ = view.to_processed(original)
            assert left - 1e-9 <= left_ < right_ <= left + 8 + 1e-9
            assert top - 1e-9 <= top_ < bottom_ <= top + 8 + 1e-9


def test_hand_computed() -> None:
    settings = {"size": {"shortest_edge": 10}, "crop_size": {"height": 10, "width": 10}}
    view = view_of(CLIPImageProcessor(**settings), (60, 20))
    # 60 x 20 becomes 30 x 10, of which columns 10 to 20 are kept
    assert view.visible == (20, 0, 40, 20)
    assert view.to_original((0, 0, 5, 5)) == (20, 0, 30, 10)
    assert view.to_processed((20, 0, 30, 10)) == (0, 0, 5, 5)


def test_padding_shows_nothing() -> None:
    settings = {"do_resize": False, "crop_size": {"height": 40, "width": 40}}
    view = view_of(CLIPImageProcessor(**settings), (20, 20))
    assert view.to_original((0, 0, 8, 8)) is None
    assert view.to_original((8, 8, 16, 16)) == (0, 0, 6, 6)
    assert view.visible == (0, 0, 20, 20)


def test_an_unknown_resize() -> None:
    processor = CLIPImageProcessor(size={"shortest_edge": 20, "longest_edge": 30})
    with pytest.raises(InvalidArgumentError, match="image_processor.size"):
        view_of(processor, (10, 10))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_patches_of_a_photo_tile_what_is_seen(
    tiny_clip: Path, size: tuple[int, int]
) -> None:
    prepared = load(tiny_clip).first.prepare(Image.new("RGB", size))
    layout = prepared.layout((1, 26, 16), False, False)
    boxes = [patch.box for patch in layout.features[:-1]]
    assert layout.grid == (5, 5) and len(boxes) == 25 and None not in boxes
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in boxes]
    left, top, right, bottom = prepared.view.visible
    assert sum(areas) == pytest.approx((right - left) * (bottom - top))
    assert layout.mask.flatten().tolist() == [25, *range(25)]
    left, top, right, bottom = prepared.view.to_processed(boxes[7])
    assert (left, top, right, bottom) == pytest.approx((8, 4, 12, 8), abs=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_modes(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        grey = (np.arange(12, dtype=np.uint16) * 257 * 20).reshape(3, 4)
        Image.fromarray(grey).save(tmp_path / "a.png")
    else:
        suffix = "tiff" if mode == "CMYK" else "png"
        Image.new(mode, (4, 3)).save(tmp_path / f"a.{suffix}")
    read = read_image(next(tmp_path.iterdir()))
    assert (read.mode, read.size) == ("RGB", (4, 3))
    if mode == "I;16":
        assert read.getpixel((1, 2)) == (180, 180, 180)
    if mode in ("LA", "RGBA"):
        assert read.getpixel((0, 0)) == (255, 255, 255)


def test_a_photo_taken_sideways_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 3)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (3, 4)


def test_arrays() -> None:
    assert read_image(np.zeros((3, 4), np.uint8)).size == (4, 3)
    assert read_image(np.zeros((3, 4, 1), np.uint8)).size == (4, 3)
    assert read_image(np.zeros((3, 4, 4), np.uint8)).getpixel((0, 0)) == (255,) * 3
    for wrong in (np.zeros((5, 4, 2), np.uint8), np.zeros(0, "u1"), np.zeros((1,) * 5)):
        with pytest.raises(UnreadableImageError, match="shape"):
            read_image(wrong)
    with pytest.raises(UnreadableImageError, match="shape"):
        read_image(np.zeros((0, 4), np.uint8))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="no such file"):
        read_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("not an image")
    with pytest.raises(UnreadableImageError, match="b.png: not an image"):
        read_image(tmp_path / "b.png")
    Image.effect_noise((64, 64), 50).save(tmp_path / "c.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:800])
    with pytest.raises(UnreadableImageError, match="c.png: .*truncated"):
        read_image(tmp_path / "c.png")
    with pytest.raises(UnreadableImageError, match="no such file"):
        read_image(tmp_path)
