"""How results are written to files, and read back."""

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Optional, Union

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import AUDIO, Feature, IMAGE, Source, TENSOR, TEXT
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

__all__ = [
    "as_json",
    "as_number",
    "as_similarity",
    "as_text",
    "as_texts",
    "check_folder",
    "check_name",
    "damaged",
    "from_bytes",
    "input_from_json",
    "input_to_json",
    "parse_json",
    "read_json",
    "read_result",
    "read_tensors",
    "usable",
    "well_formed",
    "write_new",
    "write_result",
]

# Where the first file of a result has the digest of the second one.
_DIGEST = "tensors"
_NO_PLACE = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
# Of a name in bytes; endings and what a comparison adds come behind it.
_LONGEST = 180

# ---- whole files -------------------------------------------------------------


def check_folder(argument: str, directory: Any) -> Path:
    """A directory's path; what is none is refused."""
    if not isinstance(directory, (str, os.PathLike)) or directory == "":
        raise InvalidArgumentError(
            argument, "a directory's path", type(directory).__name__
        )
    name = os.fsdecode(directory)
    if "\0" in name:
        raise InvalidArgumentError(argument, "a directory's path", repr(name[:100]))
    return Path(name)


@contextmanager
def usable(argument: str, path: Path) -> Iterator[None]:
    """What no file or folder can be called is an error of ours; that a disk is full, or
    that somebody may not write there, is the system's."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        shown = str(path) if len(str(path)) < 200 else f"{str(path)[:100]}…"
        raise InvalidArgumentError(
            argument, "a place for it", f"{shown}: {error.strerror}"
        ) from error


def check_name(name: object) -> str:
    """What files may be called, without their ending."""
    if (
        not isinstance(name, str)
        or not 0 < len(os.fsencode(name)) <= _LONGEST
        or any(letter in name for letter in "/\\\0")
    ):
        came = repr(name[:100]) if isinstance(name, str) else type(name).__name__
        raise InvalidArgumentError("name", "a file's name without folders", came)
    return name


def write_new(path: Path, content: bytes) -> None:
    """A file that was not there, on the disk when this returns."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def as_json(content: Any, indent: Optional[int] = None) -> str:
    """JSON that UTF-8 can hold: as it is read best, or half letters as escapes."""
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, as in undecodable names
        return json.dumps(content, indent=indent)
    return text


def parse_json(text: Union[str, bytes]) -> Any:
    """
    What JSON says, in which a number is finite.

    Raises:
        ValueError: for anything else.
    """
    return json.loads(text, parse_float=_finite, parse_constant=_finite)


def _finite(number: str) -> float:
    found = float(number)
    if not math.isfinite(found):
        raise ValueError(f"{number[:20]} is not finite")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """
    A JSON file's names and values.

    Raises:
        InvalidArgumentError: naming ``directory``, if it is not there or is none.
    """
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError) or "\0" in str(path):
            reason = f"{path}: {getattr(error, 'strerror', None) or error}"
            raise InvalidArgumentError(
                "directory", f"a file {path.name}", reason
            ) from error
        raise damaged(path, f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise damaged(path, "not the description of a result")
    return content


def read_tensors(path: Path, digest: Optional[str] = None) -> dict[str, Tensor]:
    """
    A safetensors file's tensors.

    Args:
        digest: what the file's content has to have; default: any.

    Raises:
        InvalidArgumentError: naming ``directory``, if it is not there, is damaged, is
            another one, or has numbers that are not finite.
    """
    if not path.is_file():
        raise InvalidArgumentError("directory", f"a file {path.name}", f"{path}")
    data = path.read_bytes()
    if digest not in (None, _digest(data)):
        raise damaged(path, "numbers that belong to another file")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise damaged(path, f"no safetensors: {error}") from error
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise damaged(path, f"{name} has numbers that are not finite")
    return tensors


def damaged(path: Path, reason: str) -> InvalidArgumentError:
    """A file that can't be used, and why."""
    return InvalidArgumentError(
        "directory", "files as they were saved", f"{path}, damaged ({reason})"
    )


def from_bytes(content: Union[bytes, bytearray, memoryview], dtype: Any) -> Tensor:
    """Numbers (n,) of a stretch of a file."""
    return torch.frombuffer(bytearray(content), dtype=dtype)


def as_number(value: Any) -> float:
    """What was read, if it is a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{type(value).__name__} is no number")
    return float(value)


def as_text(value: Any) -> str:
    """What was read, if it is a text."""
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no text")
    return value


def as_similarity(value: Any) -> str:
    """What was read, if it is one that there is."""
    if value not in ("cosine", "dot", "maxsim", "score"):
        raise ValueError("similarity")
    return str(value)


def as_texts(values: Any) -> tuple[str, ...]:
    """What was read, if it is a list of texts."""
    if not isinstance(values, list):
        raise TypeError(f"{type(values).__name__} is no list")
    return tuple(map(as_text, values))


@contextmanager
def well_formed(path: Path) -> Iterator[None]:
    """What is wrong in a file, as one error that names it."""
    try:
        yield
    except InvalidArgumentError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise damaged(path, reason) from error


# ---- results -----------------------------------------------------------------


def write_result(
    directory: Union[str, Path],
    name: str,
    content: Mapping[str, Any],
    tensors: Optional[Mapping[str, Tensor]] = None,
) -> list[Path]:
    """
    A result's files.

    Each is written beside itself and renamed, so that a stop in between leaves no half
    of one; the first names the second by its content, so that one of another result is
    noticed. Both can be read by whom the user's mask lets.

    Args:
        directory: made if it is not there.
        content: for DIRECTORY/NAME.json.
        tensors: for DIRECTORY/NAME.safetensors.

    Raises:
        InvalidArgumentError: naming ``directory`` if it is none, and a number that is
            not finite, which could not be read again.
    """
    for label, value in (tensors or {}).items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise InvalidArgumentError(label, "finite numbers", "NaN or infinity")
    for label, number in _numbers("", content):
        if not math.isfinite(number):
            raise InvalidArgumentError(label, "a finite number", f"{number}")
    folder, name = check_folder("directory", directory), check_name(name)
    with usable("directory", folder):
        folder.mkdir(parents=True, exist_ok=True)
    text = folder / f"{name}.json"
    paths = [text]
    content = dict(content)
    if tensors is not None:
        data = save({n: v.detach().cpu().contiguous() for n, v in tensors.items()})
        content[_DIGEST] = _digest(data)
        paths.append(text.with_suffix(".safetensors"))
        _replace(paths[1], data)
    _replace(text, (as_json(content, 1) + "\n").encode("utf-8"))
    return paths


def read_result(
    directory: Union[str, Path],
    name: str,
    versions: Union[int, Sequence[int]],
    with_tensors: bool = True,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """
    What :func:`write_result` wrote.

    Args:
        versions: of the format that are understood, the latest last.
        with_tensors: whether there is a second file.

    Raises:
        InvalidArgumentError: if there is none, it is damaged, another version wrote it,
            or its second file is another one's.
    """
    path = check_folder("directory", directory) / f"{check_name(name)}.json"
    content = read_json(path)
    known = (versions,) if isinstance(versions, int) else tuple(versions)
    if content.get("format") not in known:
        raise InvalidArgumentError(
            "format",
            f"{known[-1]}, that of this version",
            f"{content.get('format')}, written by another version",
        )
    if not with_tensors:
        return content, {}
    beside = path.with_suffix(".safetensors")
    return content, read_tensors(beside, content.get(_DIGEST))


def _numbers(label: str, content: Any) -> Iterator[tuple[str, float]]:
    """Of names and values the numbers, each under the first name that leads to it."""
    if isinstance(content, float):
        yield label, content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from _numbers(label or str(name), value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _numbers(label, value)


def _replace(path: Path, data: bytes) -> None:
    """A file, written beside itself and renamed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


# ---- inputs ------------------------------------------------------------------


def input_to_json(side: ExplainedInput) -> dict[str, Any]:
    """An input without its picture, as JSON takes it."""
    source = replace(side.source, picture=None)
    content = asdict(replace(side, source=source))
    del content["source"]["picture"]
    content["features"] = [
        {
            key: value
            for key, value in asdict(feature).items()
            if value not in (None, False)
        }
        for feature in side.features
    ]
    return content


def input_from_json(
    content: Mapping[str, Any], picture: Optional[Tensor] = None
) -> ExplainedInput:
    """
    An input from what JSON made of it.

    Raises:
        InvalidArgumentError: naming ``directory``, if it is none.
    """
    try:
        values = dict(content)
        source = {key: _tuple(value) for key, value in content["source"].items()}
        shown = None if picture is None else picture.numpy()
        values["source"] = Source(**source, picture=shown)
        values["features"] = tuple(
            Feature(**{key: _tuple(value) for key, value in row.items()})
            for row in content["features"]
        )
        values["grid"] = _tuple(content["grid"])
        values["asked"] = _tuple(content.get("asked"))
        given = ExplainedInput(**values)
        _check(given)
        return given
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidArgumentError(
            "directory",
            "inputs as they were saved",
            f"damaged ones ({type(error).__name__}: {error})",
        ) from error


def _check(given: ExplainedInput) -> None:
    """That every value is of its type, which what was read may lack."""
    source = given.source
    known = source.kind in (IMAGE, TEXT, AUDIO, TENSOR)
    words = [source.text, given.layer, given.baseline]
    fits = {
        "source": known and _are_numbers(source.size, 2),
        "visible": _are_numbers(source.visible, 4),
        "grid": _are_numbers(given.grid, 2, whole=True),
        "n_steps": _are_numbers((given.n_steps,), 1, whole=True),
        "residual": _are_numbers((given.residual,), 1),
        "words": all(isinstance(word, str) for word in words),
    }
    for at, feature in enumerate(given.features):
        fits[f"feature {at}"] = (
            isinstance(feature.name, str)
            and isinstance(feature.special, bool)
            and _are_numbers(feature.span, 2, whole=True)
            and _are_numbers(feature.box, 4)
        )
    for name, is_so in fits.items():
        if not is_so:
            raise ValueError(name)


def _are_numbers(value: Any, count: int, whole: bool = False) -> bool:
    """Whether it is so many numbers, or None."""
    if value is None:
        return True
    kinds = int if whole else (int, float)
    return (
        isinstance(value, tuple)
        and len(value) == count
        and all(isinstance(n, kinds) and not isinstance(n, bool) for n in value)
        and not (whole and min(value) < 0)
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
