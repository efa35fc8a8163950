"""Tables in files: JSON lines, CSV, parquet (also in parts, as on the hub), and what
``datasets`` saved."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import pyarrow
import pyarrow.parquet as parquet
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.files import existing, json_lines, read_text, wrong
from PIL import Image, UnidentifiedImageError

__all__ = ["decoded", "image_in", "opened", "TableInFile"]

_SAVED = "a directory that Dataset.save_to_disk wrote"
_ENDINGS = f".jsonl, .csv, .parquet, a directory of .parquet, or {_SAVED}"


class TableInFile(NamedTuple):
    """
    Rows in a file.

    Args:
        file: which.
        number: of rows.
        at: gives the row at a place, values by column.
        columns: their names.
        line: says where in the file the row at a place stands.
        split: as it was opened with.
    """

    file: Path
    number: int
    at: Callable[[int], Mapping[str, Any]]
    columns: Sequence[str]
    line: Callable[[int], str]
    split: Optional[str] = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens it anew."""
        return opened, (str(self.file), self.split)

    def check(self, *names: str) -> None:
        """
        Refuse a file without these columns.

        Raises:
            InvalidArgumentError: naming the first one that is missing.
        """
        for name in names:
            if name not in self.columns:
                came = ", ".join(self.columns) or "none"
                raise wrong(self.file, "", f"a column {name!r}", came)


def opened(path: str, split: Optional[str] = None) -> TableInFile:
    """
    A table.

    Args:
        path: a file, or a directory.
        split: of a directory of several splits, which one: those of a dataset, or what
            the names of parquet files begin with ("val-00000-of-00004.parquet").

    Raises:
        InvalidArgumentError: naming the file, the line and what was expected.
    """
    file = existing(path, f"a file ({_ENDINGS})")
    ending = file.suffix.lower()
    if file.is_dir():
        parts = sorted(file.glob("*.parquet")) or sorted(file.glob("data/*.parquet"))
        if parts:
            return _parquet(file, _of_split(parts, split), split)
        return _saved_dataset(file, split)
    if ending in (".jsonl", ".json", ".ndjson"):
        return _lines(file)
    if ending == ".csv":
        return _comma_separated(file)
    if ending == ".parquet":
        return _parquet(file, [file])
    if ending in (".p", ".pkl", ".pickle"):
        came = "a pickle, which could run any code when it is read"
        raise wrong(file, "", f"the same data as {_ENDINGS}", came)
    raise wrong(file, "", _ENDINGS, f"a file that ends in {ending or 'nothing'}")


def _lines(file: Path) -> TableInFile:
    rows, numbers = [], []
    for number, item in json_lines(file, "an object a line"):
        if not isinstance(item, dict):
            raise wrong(file, f"line {number}", "an object", item)
        rows.append(item)
        numbers.append(number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return TableInFile(
        file, len(rows), rows.__getitem__, names, lambda at: f"line {numbers[at]}"
    )


def _comma_separated(file: Path) -> TableInFile:
    reader = csv.DictReader(io.StringIO(read_text(file, "a CSV file"), newline=""))
    rows, numbers = [], []
    for row in reader:
        rows.append(row)
        numbers.append(reader.line_num)
    names = list(reader.fieldnames or ())
    return TableInFile(
        file, len(rows), rows.__getitem__, names, lambda at: f"line {numbers[at]}"
    )


def _of_split(parts: Sequence[Path], split: Optional[str]) -> list[Path]:
    """Those whose names begin with the split's."""
    by_split: dict[str, list[Path]] = {}
    for part in parts:
        by_split.setdefault(part.stem.partition("-")[0], []).append(part)
    if split is None and len(by_split) == 1:
        return list(parts)
    if split not in by_split:
        raise InvalidArgumentError("split", f"one of {', '.join(by_split)}", f"{split}")
    return by_split[split]


def _parquet(
    file: Path, parts: Sequence[Path], split: Optional[str] = None
) -> TableInFile:
    tables = []
    for part in parts:
        try:
            tables.append(parquet.read_table(part, partitioning=None))
        except (OSError, ValueError) as error:
            raise wrong(part, "", "a parquet file", str(error)) from error
    try:
        table = pyarrow.concat_tables(tables)
    except pyarrow.ArrowInvalid as error:
        raise wrong(file, "", "parts with the same columns", str(error)) from error

    def at(place: int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = table.slice(place, 1).to_pylist()[0]
        return found

    names = list(table.column_names)
    return TableInFile(file, len(table), at, names, lambda at: f"row {at + 1}", split)


def _saved_dataset(folder: Path, split: Optional[str]) -> TableInFile:
    try:
        import datasets
    except ImportError as error:
        raise InvalidArgumentError(
            "data",
            'an installation with datasets (pip install "captum-pairs[data]")',
            "none",
        ) from error
    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        what = f"{_SAVED}, or one of .parquet files"
        raise wrong(folder, "", what, str(error).splitlines()[0]) from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            known = ", ".join(found)
            raise InvalidArgumentError("split", f"one of {known}", repr(split))
        found = found[split]
    for name, feature in found.features.items():
        if isinstance(feature, datasets.Image):
            # the bytes or the path: who reads the image turns it as its file says
            found = found.cast_column(name, datasets.Image(decode=False))
    names = list(found.column_names)
    return TableInFile(
        folder, len(found), found.__getitem__, names, lambda at: f"row {at + 1}", split
    )


def image_in(table: TableInFile, place: int, value: Any, folder: Path) -> Any:
    """A row's image: of a relative path the whole one, of bytes the picture."""
    try:
        value = decoded(value)
    except (UnidentifiedImageError, OSError) as error:
        where = table.line(place)
        raise wrong(table.file, where, "an image's bytes", f"{error}") from error
    return str(folder / value) if isinstance(value, str) and value else value


def decoded(value: Any) -> Any:
    """
    Of an image's bytes the picture; anything else as it is.

    Raises:
        UnidentifiedImageError: an OSError, if they are of none.
    """
    if isinstance(value, Mapping):  # as datasets keeps them: bytes, or a path
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return Image.open(io.BytesIO(value)).convert("RGB")
    return value
