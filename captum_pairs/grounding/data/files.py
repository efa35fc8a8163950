"""Reading data sets' files: what is wrong is said with the file, the place in it, and
what was expected there."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.row import Box

__all__ = [
    "box_of_corner_and_size",
    "existing",
    "field_of",
    "found_image",
    "json_lines",
    "read_json",
    "read_text",
    "wrong",
]

_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def wrong(
    file: Union[str, Path], where: str, expected: str, got: Any
) -> InvalidArgumentError:
    """The error for what is not as expected in a file."""
    shown = got if isinstance(got, str) else repr(got)
    shown = shown if len(shown) <= 120 else f"{shown[:120]}…"
    place = f"{file}, {where}" if where else f"{file}"
    return InvalidArgumentError("data", expected, f"{place}: {shown}")


def existing(path: Union[str, Path], what: str) -> Path:
    """A file or directory that is there."""
    found = Path(path).expanduser()
    try:
        if found.exists():
            return found
    except (OSError, ValueError):  # a null byte, too long a name
        pass
    raise InvalidArgumentError("data", what, f"{path}: no such file")


def read_text(path: Union[str, Path], what: str) -> str:
    """A file's text, UTF-8."""
    file = existing(path, what)
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise wrong(file, "", what, reason) from error


def read_json(path: Union[str, Path], what: str) -> Any:
    """A JSON file's content."""
    text = read_text(path, what)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise wrong(path, f"line {line}", what, f"no JSON ({error})") from error


def json_lines(path: Union[str, Path], what: str) -> Iterator[tuple[int, Any]]:
    """The lines of a file that are not empty, each with its number, from 1."""
    for number, line in enumerate(read_text(path, what).splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise wrong(
                    path, f"line {number}", what, f"no JSON ({error})"
                ) from error


def field_of(
    item: Any, name: str, kind: type, file: Union[str, Path], where: str
) -> Any:
    """A field of a JSON object, of the kind that it has to be."""
    if not isinstance(item, Mapping):
        raise wrong(file, where, f"an object with {name!r}", item)
    value = item.get(name)
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        came = f"{value!r}" if name in item else "none"
        raise wrong(file, where, f"{_KINDS[kind]} as {name!r}", came)
    return value


def box_of_corner_and_size(value: Any, file: Union[str, Path], where: str) -> Box:
    """Of x, y, width and height the edges; may be without area."""
    is_list = isinstance(value, Sequence) and len(value) == 4
    if not is_list or not all(
        isinstance(edge, (int, float)) and not isinstance(edge, bool) for edge in value
    ):
        raise wrong(file, where, "a box [x, y, width, height]", value)
    x, y, width, height = (float(edge) for edge in value)
    return x, y, x + width, y + height


def found_image(folder: Path, name: str) -> Path:
    """Where an image is: in the folder, or in that one of its folders (train2014,
    val2014) whose name the file's has."""
    direct = folder / name
    if direct.exists():
        return direct
    for part in ("train2014", "val2014", "train2017", "val2017", "test2015"):
        if (folder / part / name).exists():
            return folder / part / name
    return direct
