"""Reading an image, whatever it comes as.

What white is follows from the format, never from the content:

- 8 bits a channel, of any mode that Pillow knows: as Pillow converts them to RGB.
- 16 bits: 0 is black and 65535 white; of a TIFF that says so, 2^bits - 1. Values that
  never exceed 12 bits are refused, since most such images are 12 bits in 16.
- Floating numbers: 0 is black and 1 white, and anything else is refused.
- Whole numbers of 32 bits have no white, and are refused.

Only formats that Pillow decodes by itself are opened: none that starts a program, as
encapsulated PostScript does.
"""

import os
from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO, Optional, Union

import numpy as np
from captum_pairs.attr import validation
from captum_pairs.models.errors import UnreadableImageError
from captum_pairs.models.paths import file
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import strided, Tensor

__all__ = ["FORMATS", "ImageLike", "read_image"]

Array = np.ndarray[Any, Any]
ImageLike = Union[
    str, "os.PathLike[str]", Image.Image, Array, Tensor, bytes, bytearray, BinaryIO
]

# As Pillow calls them; those that an installation of it lacks are left out.
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG"),
    *("PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"),
)
_CHANNELS = (1, 3, 4)
# Of images with whole numbers, what is 12 bits and what is 16.
_TWELVE, _SIXTEEN = 2**12 - 1, 2**16 - 1
# Tags of a TIFF.
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_WHAT = (
    "an image: a path, a PIL image, an array (h, w, 3) or a tensor (3, h, w) of uint8, "
    "the bytes of a file or an open one"
)


def read_image(source: ImageLike) -> Image.Image:
    """
    An image as the viewer sees it: RGB, upright, transparency on white.

    Args:
        source: a file's path, its bytes, or itself, opened in binary mode; a PIL image;
            an array (h, w), (h, w, c) or a tensor (c, h, w) with 1, 3 or 4 channels, or
            the other way round where the shape leaves no doubt, or a batch of one of
            these: of uint8, of uint16, of bool, or floating from 0 to 1.

    Raises:
        UnreadableImageError: if the file is missing, is not an image of one of FORMATS
            or is damaged; if the array is of another shape, type or range.
    """
    if isinstance(source, Image.Image):
        return _decoded(lambda: _rgb(source), "the PIL image")
    if isinstance(source, Tensor):
        if source.is_meta or source.layout != strided:
            kind = "meta" if source.is_meta else str(source.layout)
            raise UnreadableImageError("image", _WHAT, f"a {kind} tensor")
        return _rgb(_from_array(source.detach().cpu(), channels_first=True))
    if isinstance(source, np.ndarray):
        return _rgb(_from_array(source, channels_first=False))
    if isinstance(source, (bytes, bytearray, memoryview)):
        held = BytesIO(bytes(source))
        return _decoded(lambda: _opened(held), f"{len(held.getvalue())} bytes")
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        if isinstance(name, str):
            return _from_file(name)
    if callable(getattr(source, "read", None)):
        return _decoded(lambda: _opened(source), "the open file")
    raise UnreadableImageError("image", _WHAT, validation.describe(source))


def _from_file(name: str) -> Image.Image:
    path = file(name)
    if path is None:
        shown = name if len(name) < 200 else f"{name[:100]}…"
        raise UnreadableImageError(
            "image", "an image file", f"{_printable(shown)}: no such file"
        )
    return _decoded(lambda: _opened(path), _printable(name))


def _printable(name: str) -> str:
    """Without what no terminal or file can take, as names of odd bytes have it."""
    return name.encode("utf-8", "backslashreplace").decode()


def _opened(source: Any) -> Image.Image:
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    with Image.open(source, formats=known) as opened:
        return _rgb(opened)


def _decoded(read: Callable[[], Image.Image], name: str) -> Image.Image:
    """What is read, or in one kind of error why it can't be."""
    try:
        return read()
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            "image",
            f"an image file ({', '.join(FORMATS)})",
            f"{name}: not an image that Pillow reads",
        ) from error
    # Damaged data reach the depths of a decoder, which raises anything.
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise UnreadableImageError(
            "image", "an image file", f"{name}: {reason.splitlines()[0]}"
        ) from error


# ---- arrays ------------------------------------------------------------------


def _from_array(given: Union[Array, Tensor], channels_first: bool) -> Image.Image:
    shape = tuple(given.shape)
    wanted = "(c, h, w)" if channels_first else "(h, w, c)"
    if isinstance(given, Tensor):
        # numpy has no bfloat16
        array = np.asarray(given.double() if given.is_floating_point() else given)
        kind = str(given.dtype)
    else:
        array, kind = given, str(given.dtype)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise _unfit(wanted, kind, shape)
    if array.ndim == 3:
        first, last = array.shape[0] in _CHANNELS, array.shape[2] in _CHANNELS
        if not (first or last):
            raise _unfit(wanted, kind, shape)
        if first and (channels_first or not last):
            array = np.moveaxis(array, 0, 2)
        if array.shape[2] == 1:
            array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(_eight_bits(array, kind, shape)))


def _unfit(wanted: str, kind: str, shape: tuple[int, ...]) -> UnreadableImageError:
    return UnreadableImageError(
        "image", f"(h, w) or {wanted} with 1, 3 or 4 channels", f"{kind}, shape {shape}"
    )


def _eight_bits(values: Array, kind: str, shape: tuple[int, ...]) -> Array:
    """The same from 0 to 255, by the rules above."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        return _scaled(values, _SIXTEEN)
    if values.dtype.kind == "f":
        return _from_unit(values)
    raise UnreadableImageError(
        "image",
        "uint8, uint16, bool or floating numbers from 0 to 1",
        f"{kind}, shape {shape}, {_range(values)}",
    )


def _range(values: Array) -> str:
    if values.dtype.kind not in "iuf":
        return "no numbers"
    if not np.isfinite(values).all():
        return "values that are not finite"
    return f"values from {values.min():g} to {values.max():g}"


def _from_unit(values: Array) -> Array:
    """Floating numbers from 0 to 1."""
    # comparisons with NaN are false
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise UnreadableImageError(
            "image",
            "floating numbers from 0 (black) to 1 (white); of another range make uint8",
            _range(values),
        )
    scaled: Array = (values.astype(np.float64) * 255).round().astype(np.uint8)
    return scaled


def _scaled(values: Array, white: int) -> Array:
    """Whole numbers from 0 to `white`."""
    most = int(values.max())
    if white == _SIXTEEN and 0 < most <= _TWELVE:
        raise UnreadableImageError(
            "image",
            "16 bits, of which 65535 is white (of 12 bits in 16, or of another range, "
            "make uint8)",
            _range(values),
        )
    scaled: Array = (values.astype(np.float64) * (255 / white)).round()
    return scaled.clip(0, 255).astype(np.uint8)


# ---- PIL's modes -------------------------------------------------------------


def _rgb(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise UnreadableImageError("image", "pixels", f"an image of size {image.size}")
    # from the file, which a changed image forgets
    white, was_deep, negative = _white(image), _was_deep(image), _is_negative(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        grey = _from_unit(np.asarray(upright))
        return Image.fromarray(255 - grey if negative else grey).convert("RGB")
    if upright.mode.startswith("I"):
        if white is None:
            raise UnreadableImageError(
                "image",
                "8 or 16 bits, or floating numbers from 0 to 1",
                f"32 bits (Pillow's mode I), {_range(np.asarray(upright))}",
            )
        grey = _scaled(np.asarray(upright), white)
        return Image.fromarray(255 - grey if negative else grey).convert("RGB")
    if was_deep:
        _check_upper_bytes(upright)
    if upright.mode in ("La", "RGBa"):  # premultiplied, of which Pillow knows one way
        upright = upright.convert(upright.mode.upper())
    if upright.has_transparency_data:
        page = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(page, upright.convert("RGBA"))
    return upright.convert("RGB")


def _is_negative(image: Image.Image) -> bool:
    """Whether a TIFF has 0 as white, of which Pillow knows with 8 bits only."""
    tags: Any = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and tags.get(_PHOTOMETRIC) == 0


def _was_deep(image: Image.Image) -> bool:
    """Whether its file has 16 bits of each colour, of which Pillow keeps the upper
    eight; known until it is decoded."""
    tiles = getattr(image, "tile", None) or ()
    return not image.mode.startswith("I") and any(";16" in str(t[-1]) for t in tiles)


def _check_upper_bytes(image: Image.Image) -> None:
    """As of grey images: what never exceeds 12 bits is refused."""
    most = int(np.asarray(image.convert("RGB")).max())
    if 0 < most <= _TWELVE >> 8:
        raise UnreadableImageError(
            "image",
            "16 bits, of which 65535 is white (of 12 bits in 16, or of another range, "
            "make uint8)",
            f"values up to {(most << 8) + 255}",
        )


def _white(image: Image.Image) -> Optional[int]:
    """The largest value of an image of whole numbers, if its format says."""
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        bits = tags.get(_BITS_PER_SAMPLE, (0,))[0]
        return 2**bits - 1 if bits in (12, 16) and image.mode != "I" else None
    # where Pillow has 16 bits in 32, these formats have no more
    if image.mode.startswith("I;16") or image.format in ("PNG", "PPM", "JPEG2000"):
        return _SIXTEEN
    return None
