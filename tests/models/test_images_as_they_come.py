"""Images of every kind that people have: the right picture, or a clear error."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs.models import read_image, UnreadableImageError
from captum_pairs.models.photo import FORMATS
from PIL import Image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 13, 3), dtype=np.uint8)


def _same(source: Any, wanted: Any = PIXELS) -> None:
    np.testing.assert_array_equal(np.asarray(read_image(source)), wanted)


def _file(kind: str = "PNG", image: Any = None, **settings: Any) -> bytes:
    held = BytesIO()
    (image or Image.fromarray(PIXELS)).save(held, kind, **settings)
    return held.getvalue()


def test_whatever_it_comes_as(tmp_path: Path) -> None:
    data = _file()
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    _same(path)
    _same(str(path))
    for held in (data, bytearray(data), memoryview(data)):
        _same(held)
    twice = BytesIO(data)
    _same(twice)
    _same(twice)
    with open(path, "rb") as opened:
        _same(opened)
    _same(Image.fromarray(PIXELS))
    _same(PIXELS)
    _same(PIXELS[::1, ::-1], PIXELS[:, ::-1])
    chw = np.moveaxis(PIXELS, 2, 0)
    _same(chw)
    _same(torch.from_numpy(PIXELS))
    _same(torch.from_numpy(chw.copy()))
    _same(torch.from_numpy(chw.copy())[None])
    _same(PIXELS[None])
    _same((torch.from_numpy(chw.copy()) / 255).requires_grad_())
    _same(PIXELS / 255)
    _same((PIXELS / 255).astype(np.float32))
    _same(
        torch.from_numpy(PIXELS).bfloat16() / 1024,
        np.asarray(read_image(torch.from_numpy(PIXELS).bfloat16().float() / 1024)),
    )
    _same(PIXELS.astype(np.uint16) * 257)
    black_and_white = PIXELS[:, :, 0] > 99
    grey = np.repeat(black_and_white[:, :, None], 3, 2) * np.uint8(255)
    _same(black_and_white, grey)
    _same(torch.from_numpy(black_and_white), grey)
    # a tensor of three by three is read as torchvision reads it, an array as Pillow
    small = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    _same(small, small)
    _same(torch.from_numpy(small), np.moveaxis(small, 0, 2))


@pytest.mark.parametrize(
    "wrong, reason",
    [
        (None, "a path, a PIL image.*got None"),
        (3, "got 3"),
        ({}, "type dict"),
        ([PIXELS], "a list of 1"),
        (object(), "type object"),
        (b"", "0 bytes: not an image"),
        (b"no image", "8 bytes: not an image"),
        (BytesIO(b"no image"), "the open file: not an image"),
        ("", "no such file"),
        ("x" * 5000, "no such file"),
        ("a\0b", "no such file"),
        ("caf\udce9.png", r"caf\\udce9.png: no such file"),
        (PIXELS.astype(np.int64), "uint8, .*got int64.* values from 0 to 255"),
        (PIXELS.astype(np.float32), "from 0 .black. to 1 .white.*values from 0 to 255"),
        (
            torch.randn(3, 9, 9, generator=torch.Generator().manual_seed(0)),
            "values from -",
        ),
        (np.full((4, 4), np.nan), "values that are not finite"),
        (np.full((4, 4), np.inf), "values that are not finite"),
        (np.zeros((4, 4), complex), "no numbers"),
        (np.array([["a"]]), "no numbers"),
        (torch.zeros(2, 3, 9, 9), r"torch.float32, shape \(2, 3, 9, 9\)"),
        (torch.zeros(3, 0, 9), "shape"),
        (torch.zeros(5), "shape"),
        (Image.new("RGB", (0, 5)), "an image of size"),
    ],
)
def test_what_is_no_image(wrong: Any, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        read_image(wrong)


def test_a_file_that_was_closed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_file())
    opened = Image.open(tmp_path / "a.png")
    opened.close()
    with pytest.raises(UnreadableImageError, match="the PIL image"):
        read_image(opened)
    held = BytesIO(_file())
    held.close()
    with pytest.raises(UnreadableImageError, match="the open file"):
        read_image(held)
    with open(tmp_path / "a.png", encoding="latin-1") as text:
        with pytest.raises(UnreadableImageError, match="the open file"):
            read_image(text)  # type: ignore[arg-type]  # opened as a text


# ---- more or fewer than eight bits ---------------------------------------------------


def _grey16(values: Any) -> Image.Image:
    return Image.fromarray(np.asarray(values, dtype=np.uint16))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", None])
def test_sixteen_bits_are_scaled_whatever_they_are(kind: Any) -> None:
    """65535 is white, be the others as dark as they may."""
    values = np.array([[0, 199, 299, 4096, 32768, 65535]])
    wanted = np.array([0, 1, 1, 16, 128, 255])
    image = _grey16(values)
    read = read_image(_file(kind, image) if kind else image)
    np.testing.assert_array_equal(np.asarray(read)[0, :, 0], wanted)
    _same(values.astype(np.uint16), np.repeat(wanted[None, :, None], 3, 2))
    # a part of it has the same greys
    part = read_image(image.crop((2, 0, 4, 1)))
    np.testing.assert_array_equal(np.asarray(part)[0, :, 0], wanted[2:4])


def test_twelve_bits_in_sixteen_are_refused() -> None:
    values = np.linspace(0, 4095, 12).reshape(3, 4)
    for source in (_grey16(values), _file("PNG", _grey16(values)), values.astype("u2")):
        with pytest.raises(UnreadableImageError, match="65535 is white.*to 4095"):
            read_image(source)
    assert read_image(_grey16(np.zeros((3, 4)))).getextrema() == ((0, 0),) * 3


def _tiff12(values: Any) -> bytes:
    """A TIFF that says that it has 12 bits a sample."""
    rows, columns = values.shape
    packed = bytearray()
    for row in values.tolist():
        for left, right in zip(row[::2], row[1::2]):
            packed += bytes([left >> 4, (left & 15) << 4 | right >> 8, right & 255])
    tags = [
        *((256, columns), (257, rows), (258, 12), (259, 1), (262, 1), (273, 8)),
        *((277, 1), (278, rows), (279, len(packed))),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = 8 + len(packed) + len(packed) % 2
    head = b"II*\0" + struct.pack("<I", start) + bytes(packed)
    return head.ljust(start, b"\0") + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_twelve_bits_that_the_format_tells() -> None:
    read = read_image(_tiff12(np.array([[0, 2048], [4095, 16]])))
    np.testing.assert_array_equal(np.asarray(read)[..., 0], [[0, 128], [255, 1]])


def _png16(values: Any) -> bytes:
    """A PNG of colours of 16 bits, which Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    rows, columns, _ = values.shape
    header = struct.pack(">IIBBBBB", columns, rows, 16, 2, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def test_colours_of_sixteen_bits() -> None:
    values = np.linspace(0, 65535, 3 * 4 * 5).reshape(4, 5, 3).astype(np.uint16)
    for source in (_png16(values), values):
        found = np.asarray(read_image(source)).astype(int)
        assert np.abs(found - values / 257).max() <= 1
    for source in (_png16(values // 16), values // 16):
        with pytest.raises(UnreadableImageError, match="65535 is white.*to 4095"):
            read_image(source)
    assert read_image(_png16(values * 0)).getextrema() == ((0, 0),) * 3


def test_a_floating_image_is_from_black_to_white() -> None:
    values = np.array([[0.0, 0.25], [0.5, 1.0]], dtype=np.float32)
    wanted = [[0, 64], [128, 255]]
    for source in (Image.fromarray(values), _file("TIFF", Image.fromarray(values))):
        np.testing.assert_array_equal(np.asarray(read_image(source))[..., 0], wanted)
    for wrong, found in (
        (values * 255, "from 0 to 255"),
        (values - 0.5, "from -0.5 to 0.5"),
        (values * np.float32("nan"), "not finite"),
    ):
        for source in (wrong, Image.fromarray(wrong)):
            with pytest.raises(UnreadableImageError, match=f"to 1 .white.*{found}"):
                read_image(source)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_a_negative_as_its_format_says(dtype: str) -> None:
    values = np.array([[0, 16384], [32768, 65535]])
    stored = (values / 65535 if dtype == "f4" else values).astype(dtype)
    data = _file("TIFF", Image.fromarray(stored), tiffinfo={262: 0})
    held = bytearray(data)
    place = held.index(struct.pack("<HHI", 262, 3, 1))  # which Pillow sets itself
    held[place + 8 : place + 10] = struct.pack("<H", 0)
    wanted = [[255, 191], [127, 0]]
    found = np.asarray(read_image(bytes(held)))[..., 0].astype(int)
    assert np.abs(found - wanted).max() <= 1


def test_thirty_two_bits_have_no_white() -> None:
    image = Image.fromarray(np.array([[0, 255], [3, 4]], dtype=np.int32))
    assert image.mode == "I"
    for source in (image, _file("TIFF", image)):
        with pytest.raises(UnreadableImageError, match="32 bits.*values from 0 to 255"):
            read_image(source)


def test_premultiplied_transparency() -> None:
    image = Image.new("RGBA", (2, 2), (200, 100, 0, 255)).convert("RGBa")
    assert read_image(image).getpixel((0, 0)) == (200, 100, 0)


# ---- formats -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["BMP", "PNG", "PPM", "TIFF", "TGA", "PCX", "SGI"])
def test_the_same_picture_in_another_format(kind: str) -> None:
    assert kind in FORMATS
    if kind != "TGA":  # which has nothing to be told by
        _same(_file(kind))


def test_formats_that_start_a_program_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.eps"
    Image.fromarray(PIXELS).save(path)
    with pytest.raises(UnreadableImageError, match="a.eps: not an image that Pillow"):
        read_image(path)
    path.rename(tmp_path / "b.png")
    with pytest.raises(UnreadableImageError, match=r"PNG, .*WEBP.*b.png: not an image"):
        read_image(tmp_path / "b.png")
    assert not {"EPS", "WMF", "FPX", "HDF5", "GRIB", "BUFR", "SPIDER"} & {*FORMATS}


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_damaged_files_get_one_kind_of_error(kind: str) -> None:
    whole = bytearray(_file(kind))
    rng = np.random.default_rng(1)
    for _ in range(60):
        data = whole.copy()
        for at in rng.integers(0, min(len(data), 200), 3):
            data[at] = rng.integers(0, 256)
        data = data[: rng.integers(4, len(data) + 1)]
        try:
            found = read_image(bytes(data))
        except UnreadableImageError:
            continue
        assert found.mode == "RGB" and 0 not in found.size


def test_a_bomb_is_refused() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        read_image(data)
