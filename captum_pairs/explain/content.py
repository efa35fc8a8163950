"""What identifies an input: its content, whatever it is called or comes as."""

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from captum_pairs.explain.sides import InputContributions
from captum_pairs.models.encoder import Prepared, TENSOR, TEXT
from PIL.Image import Image
from torch import Tensor

__all__ = ["content_of", "content_of_prepared", "path_of", "stamp_of"]

_SIZE = 16
# A file that was written to so recently may be written to again without its time
# changing, in seconds: some file systems count time in these.
_RECENT = 2.0
_ORIENTATION = 0x0112


def path_of(kind: str, raw: Any) -> Optional[Path]:
    """The file that an input of a kind is the name of, if it is one."""
    if kind in (TEXT, TENSOR) or not isinstance(raw, (str, Path)):
        return None
    return Path(raw)


def stamp_of(path: Path) -> Optional[bytes]:
    """
    What changes with every write to a file: its name, place on the disk, size and
    times.

    Returns:
        None, if that can't be relied on: for what is no file, was written to just now,
        or lies where the time of the last change is not kept.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    latest = max(found.st_mtime, found.st_ctime)
    recent = not latest < time.time() - _RECENT
    if os.name != "posix" or not stat.S_ISREG(found.st_mode) or recent:
        return None
    marks = (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )
    return _digest(b"stamp", os.fsencode(os.path.abspath(path)), repr(marks).encode())


def content_of(kind: str, raw: Any) -> Optional[bytes]:
    """
    A digest of an input's content.

    Args:
        kind: "text" or another, as the encoder's.
        raw: the input.

    Returns:
        None, if what it holds can't be told before it is prepared (or read at all).
    """
    try:
        return _content_of(kind, raw)
    except (OSError, ValueError, AttributeError, TypeError, SyntaxError, MemoryError):
        return None  # preparing it says what is wrong with it


def _content_of(kind: str, raw: Any) -> Optional[bytes]:
    if isinstance(raw, InputContributions):
        values = (raw.values, raw.embedding, raw.baseline_embedding)
        return _digest(b"kept", *_of_fields(raw.input), *_arrays(*values))
    path = path_of(kind, raw)
    if path is not None:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            return _digest(b"file", _of_file(file))
    if kind == TEXT:
        if not isinstance(raw, str):
            return None
        return _digest(b"text", raw.encode("utf-8", "surrogatepass"))
    if kind == TENSOR and not isinstance(raw, (np.ndarray, Tensor)):
        return None
    if isinstance(raw, (bytes, bytearray, memoryview)):
        inner = hashlib.blake2b(raw, digest_size=_SIZE).digest()
        return _digest(b"file", inner)
    if isinstance(raw, Image):
        return _digest(b"picture", *_of_picture(raw))
    if isinstance(raw, (np.ndarray, Tensor)):
        return _digest(b"array", *_arrays(raw))
    if isinstance(raw, tuple) and len(raw) == 2 and isinstance(raw[1], int):
        if isinstance(raw[0], (np.ndarray, Tensor)):
            return _digest(b"sound", *_arrays(raw[0]), str(raw[1]).encode())
        return None
    if callable(getattr(raw, "read", None)) and callable(getattr(raw, "seek", None)):
        place = raw.tell()
        try:
            raw.seek(0)
            return _digest(b"file", _of_file(raw))
        finally:
            raw.seek(place)
    return None


def _of_file(file: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=_SIZE)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.digest()


def _of_picture(image: Image) -> Iterator[bytes]:
    """Its pixels, and what turns them into colours that stand upright."""
    pixels = image.tobytes()  # loads the file, whose mode is known only then
    yield f"{image.mode} {image.size}".encode()
    yield pixels
    palette = image.palette
    yield b"" if palette is None else palette.mode.encode() + bytes(palette.palette)
    shown = image.getexif().get(_ORIENTATION), image.info.get("transparency")
    yield repr(shown).encode()


def _arrays(*values: Any) -> Iterator[bytes]:
    for value in values:
        if isinstance(value, Tensor):
            value = value.detach().cpu()
            yield f"{value.dtype} {tuple(value.shape)}".encode()
            flat = value.contiguous().flatten()
            yield flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        else:
            if value.dtype.hasobject:
                raise TypeError("an array of objects")
            yield f"{value.dtype.str} {value.shape}".encode()
            yield value.tobytes()


def content_of_prepared(prepared: Prepared) -> bytes:
    """A digest of an input as its encoder takes it."""
    return _digest(b"prepared", *_of_fields(prepared))


def _of_fields(value: Any) -> Iterator[bytes]:
    if isinstance(value, (Tensor, np.ndarray)):
        yield from _arrays(value)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield field.name.encode()
            yield from _of_fields(getattr(value, field.name))
    elif isinstance(value, (tuple, list)):
        yield f"{len(value)}".encode()
        for each in value:
            yield from _of_fields(each)
    else:
        yield repr(value).encode("utf-8", "surrogatepass")


def _digest(*parts: bytes) -> bytes:
    """Of parts, of which none runs into the next."""
    digest = hashlib.blake2b(digest_size=_SIZE)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
