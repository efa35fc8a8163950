"""
Your own data: JSON lines, CSV, parquet, or a ``datasets.Dataset``.

One row a line. The columns are called as the fields of Row are, or as options say
(``columns={"image": "file", "caption": "text"}``):

- ``image``: a path (relative to the images' directory, or to the file), or in parquet
  and datasets an image's bytes;
- ``caption``; ``negative``; ``id`` (default: the line's number, from 0); ``group``,
  what rows of one image share (default: the image's path, or else the id);
- ``spans``: a list of ``{"phrase": "brown dog", "label": "dog", "boxes": [[left, top,
  right, bottom], ...]}``; "start" and "end" instead of the phrase, where it occurs
  several times; "word", the class word of the phrase; as JSON where the format has no
  lists. ``boxes`` are in pixels of the image, right and bottom exclusive;
- ``objects``: a list of ``{"label": ..., "boxes": ...}``, what else is in the image;
- ``changed``: ``{"kind": ..., "right": "dog", "wrong": "cat"}``, words of the caption
  and of the negative.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.grounding.data.files import existing, wrong
from captum_pairs.grounding.data.row import (
    Box,
    Changed,
    Data,
    LeftOut,
    Offsets,
    Row,
    Span,
    Thing,
)
from captum_pairs.grounding.data.tables import image_in, opened
from captum_pairs.inputs import find_phrase

__all__ = ["Given", "Own", "row_of"]

FIELDS = (
    "id",
    "image",
    "caption",
    "spans",
    "negative",
    "changed",
    "group",
    "objects",
)


class Given(Data):
    """
    Rows that are in memory.

    Raises:
        InvalidArgumentError: naming ``rows``, for what is no row, or an id twice.
    """

    def __init__(self, rows: Sequence[Row], name: str = "given") -> None:
        self._rows = list(rows)
        for row in self._rows:
            if not isinstance(row, Row):
                raise InvalidArgumentError("rows", "rows", validation.describe(row))
        self.name, self.left_out = name, LeftOut()
        # by which a plan knows these rows from others
        said = [(row.id, row.caption, row.negative) for row in self._rows]
        digest = hashlib.sha256(repr(said).encode("utf-8", "surrogatepass"))
        self.options = {"rows": digest.hexdigest()[:16]}
        names = [row.id for row in self._rows]
        if len(set(names)) < len(names):
            twice = next(name for at, name in enumerate(names) if name in names[:at])
            raise InvalidArgumentError("rows", "ids that are unique", repr(twice))

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, place: int) -> Row:
        return self._rows[place]


class Own(Data):
    """
    See this module.

    Args:
        rest: a file (.jsonl, .csv, .parquet), or a directory that
            ``Dataset.save_to_disk`` wrote.
        images: the directory that images' paths are relative to. Default: the file's
        columns: by field what its column is called.
        split: of a directory of several splits, which one.
    """

    def __init__(
        self,
        rest: str,
        images: Optional[str] = None,
        columns: Optional[Mapping[str, str]] = None,
        split: Optional[str] = None,
    ) -> None:
        self.name = f"rows:{rest}"
        self.options = {
            "images": images,
            "columns": None if columns is None else dict(columns),
            "split": split,
        }
        self.left_out = LeftOut()
        self._table = table = opened(rest, split)
        beside = table.file if table.file.is_dir() else table.file.parent
        self._folder = (
            beside if images is None else existing(images, "a directory of images")
        )
        self._columns = _columns(columns, table.columns, table.file)
        self._places = self._usable()

    def _usable(self) -> list[int]:
        """The places of lines that are rows; others are counted, with the reason."""
        places, seen = [], set()
        for place in range(self._table.number):
            where = f"{self._table.file}, {self._table.line(place)}"
            try:
                row = row_of(self._fields(place, with_image=False), where)
            except InvalidArgumentError as error:
                reason = f"{error.argument}: expected {error.expected}"
                self.left_out.add(error.got, reason)
                continue
            if row.id in seen:
                self.left_out.add(where, "an id that came before")
                continue
            seen.add(row.id)
            places.append(place)
        return places

    def _fields(self, place: int, with_image: bool = True) -> dict[str, Any]:
        item = self._table.at(place)
        found = {field: item.get(name) for field, name in self._columns.items()}
        if found.get("id") in (None, ""):
            found["id"] = f"{place}"
        if with_image:
            image = found.get("image")
            found["image"] = image_in(self._table, place, image, self._folder)
        elif found.get("image") not in (None, ""):
            found["image"] = "there"
        return found

    def __len__(self) -> int:
        return len(self._places)

    def row(self, place: int) -> Row:
        at = self._places[place]
        return row_of(self._fields(at), f"{self._table.file}, {self._table.line(at)}")


def row_of(fields: Mapping[str, Any], where: str = "row") -> Row:
    """
    A row of plain values, as files and data frames have them (see this module).

    Raises:
        InvalidArgumentError: naming the field.
    """
    caption = fields.get("caption")
    if not isinstance(caption, str) or not caption.strip():
        raise InvalidArgumentError("caption", "a text", f"{where}: {caption!r}")
    image = fields.get("image")
    if image is None or (isinstance(image, str) and not image):
        raise InvalidArgumentError("image", "an image", f"{where}: none")
    negative = _text(fields.get("negative"))
    spans = [
        _span(item, caption, f"{where}, spans[{at}]")
        for at, item in enumerate(_list(fields.get("spans"), "spans", where))
    ]
    objects = [
        Thing(
            _label(item, f"{where}, objects[{at}]"),
            _boxes(item, f"{where}, objects[{at}]"),
        )
        for at, item in enumerate(_list(fields.get("objects"), "objects", where))
    ]
    group = fields.get("group")
    if group is None or group == "":
        group = image if isinstance(image, (str, Path)) else None
    return Row(
        str(fields["id"]),
        image,
        caption,
        tuple(spans),
        negative,
        _changed(fields.get("changed"), caption, negative, where),
        None if group is None else str(group),
        # what a span names is in the image, whether it is listed or not
        tuple(objects) or tuple(Thing(s.label, s.regions) for s in spans),
    )


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) and value.strip() else None


def _list(value: Any, name: str, where: str) -> list[Any]:
    value = _parsed(value, name, where)
    if value is None:
        return []
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):  # datasets keep a list of objects as lists of fields
        columns = {key: list(each) for key, each in value.items()}
        return [dict(zip(columns, row)) for row in zip(*columns.values())]
    if not isinstance(value, (list, tuple)):
        raise InvalidArgumentError(name, "a list", f"{where}: {type(value).__name__}")
    return list(value)


def _parsed(value: Any, name: str, where: str) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except ValueError as error:
        raise InvalidArgumentError(name, "JSON", f"{where}: {error}") from error


def _label(item: Any, where: str) -> str:
    label = item.get("label") if isinstance(item, Mapping) else None
    if not isinstance(label, str) or not label:
        raise InvalidArgumentError("label", "a text", f"{where}: {label!r}")
    return label


def _boxes(item: Mapping[str, Any], where: str) -> tuple[Box, ...]:
    expected = "a list of [left, top, right, bottom]"
    boxes = item.get("boxes")
    if boxes is None and item.get("box") is not None:
        boxes = [item["box"]]
    found = []
    try:
        for box in boxes if boxes is not None else ():
            left, top, right, bottom = (float(edge) for edge in box)
            found.append((left, top, right, bottom))
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError("boxes", expected, f"{where}: {boxes!r}") from error
    if not found:
        raise InvalidArgumentError("boxes", expected, f"{where}: none")
    return tuple(found)


def _span(item: Any, caption: str, where: str) -> Span:
    label = _label(item, where)
    if item.get("start") is not None and item.get("end") is not None:
        start, end = int(item["start"]), int(item["end"])
    else:
        start, end = _found(caption, item.get("phrase"), "phrase", where)
    word = _text(item.get("word"))
    of_word = None
    if word is not None and 0 <= start < end <= len(caption):
        first, last = _found(caption[start:end], word, "word", where)
        of_word = (start + first, start + last)
    return Span(start, end, label, _boxes(item, where), of_word)


def _found(text: str, phrase: Any, name: str, where: str) -> Offsets:
    try:
        return find_phrase(text, phrase, None, name)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            error.argument, error.expected, f"{where}: {error.got}"
        ) from error


def _changed(
    value: Any, caption: str, negative: Optional[str], where: str
) -> Optional[Changed]:
    value = _parsed(value, "changed", where)
    if value is None or negative is None:
        return None
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise InvalidArgumentError(
            "changed", 'an object with a "kind"', f"{where}: {value!r}"
        )
    places = []
    for text, name in ((caption, "right"), (negative, "wrong")):
        words = _text(value.get(name))
        places.append(None if words is None else _found(text, words, name, where))
    return Changed(value["kind"], *places)


def _columns(
    given: Optional[Mapping[str, str]], names: Sequence[str], file: Path
) -> dict[str, str]:
    """By field the column that is there."""
    for field, name in (given or {}).items():
        if field not in FIELDS:
            expected = f"fields {', '.join(FIELDS)}"
            raise InvalidArgumentError("columns", expected, repr(field))
        if name not in names:
            raise wrong(file, "", f"a column {name!r}", ", ".join(names) or "none")
    found = {field: field for field in FIELDS if field in names}
    found |= dict(given or {})
    for field in ("image", "caption"):
        if field not in found:
            raise wrong(
                file,
                "",
                f"a column {field!r} (or columns={{{field!r}: its name}})",
                ", ".join(names) or "none",
            )
    return found
