"""Reading an image, whatever it comes as."""

from pathlib import Path
from typing import Any, Union

import numpy as np
from captum_pairs.models.errors import UnreadableImageError
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = ["ImageLike", "read_image"]

ImageLike = Union[str, Path, Image.Image, "np.ndarray[Any, Any]"]


def read_image(source: ImageLike) -> Image.Image:
    """
    An image as the viewer sees it: RGB, upright, transparency on white.

    Args:
        source: a file, a PIL image, or an array (h, w), (h, w, 3) or (h, w, 4) of
            uint8.

    Raises:
        UnreadableImageError: if the file is missing, is not an image or is damaged,
            or the array is of another shape or type.
    """
    if isinstance(source, Image.Image):
        return _rgb(source)
    if isinstance(source, np.ndarray):
        return _rgb(_from_array(source))
    path = Path(source)
    if not path.is_file():
        raise UnreadableImageError("image", "an image file", f"{path}: no such file")
    try:
        with Image.open(path) as opened:
            return _rgb(opened)
    except UnidentifiedImageError as error:
        reason = f"{path}: not an image that Pillow reads"
        raise UnreadableImageError("image", "an image file", reason) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = f"{path}: {error or type(error).__name__}".splitlines()[0]
        raise UnreadableImageError("image", "an image file", reason) from error


def _from_array(array: "np.ndarray[Any, Any]") -> Image.Image:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise UnreadableImageError(
            "image",
            "an array (h, w), (h, w, 3) or (h, w, 4) of uint8",
            f"{array.dtype} of shape {array.shape}",
        )
    if 0 in array.shape:
        raise UnreadableImageError("image", "pixels", f"shape {array.shape}")
    return Image.fromarray(array[:, :, 0] if channels == 1 < array.ndim - 1 else array)


def _rgb(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):  # more than 8 bits of grey
        return _grey(upright).convert("RGB")
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    return upright.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """8 bits of 16: Pillow's own conversion cuts instead of dividing."""
    values = np.asarray(image, dtype=np.float64)
    if values.max(initial=0.0) > 255:
        values = values / 257
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
