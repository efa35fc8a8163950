"""
What a study is: a pure function of a row and a model, and a reduction.

Adding one is one file: a frozen dataclass whose fields are its parameters (what JSON
can hold: they stand in the plan), with a name, the columns that it writes, `records`
and `tables`; and its line in :mod:`captum_pairs.grounding.studies`.

Every study's rows have the columns of COMMON; a row that could not be studied has one
record, whose other columns are null and whose `error` says why.
"""

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple, Optional, TYPE_CHECKING

import pyarrow
from captum_pairs import model as models
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.own import FIELDS, row_of
from captum_pairs.grounding.data.row import Data, Row
from captum_pairs.grounding.data.tables import decoded
from captum_pairs.model import DualEncoder

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = [
    "Column",
    "COMMON",
    "Columns",
    "failed",
    "Record",
    "schema_of",
    "studied",
    "studied_at",
    "Study",
]

Record = dict[str, Any]


class Column(NamedTuple):
    """A column's type (str, int, float, bool; or a list of one: [float]), and what it
    holds, with its unit."""

    type: Any
    what: str


Columns = Mapping[str, Column]

COMMON: Columns = {
    "place": Column(int, "of the row in its data, from 0; -1 in others' pipelines"),
    "id": Column(str, "of the row"),
    "group": Column(str, "rows of one image have the same; intervals resample these"),
    "image": Column(str, "the image's file; empty, if it is none"),
    "caption": Column(str, "of the row"),
    "error": Column(str, "why the row could not be studied; null, if it was"),
}

_TYPES = {
    str: pyarrow.string(),
    int: pyarrow.int64(),
    float: pyarrow.float64(),
    bool: pyarrow.bool_(),
}


def schema_of(columns: Columns) -> pyarrow.Schema:
    """Of a study's records."""
    return pyarrow.schema(
        [
            (
                name,
                (
                    pyarrow.list_(_TYPES[column.type[0]])
                    if isinstance(column.type, list)
                    else _TYPES[column.type]
                ),
            )
            for name, column in {**COMMON, **columns}.items()
        ]
    )


class Study(ABC):
    """One question to a model, asked of every row."""

    name: ClassVar[str]
    columns: ClassVar[Columns]
    # What of a row the study needs: "spans", "negative".
    needs: ClassVar[tuple[str, ...]] = ()
    # The columns that tell a row's records apart; and those that two runs are compared
    # by: 1 if more is better, -1 if less is.
    keys: ClassVar[tuple[str, ...]] = ()
    compared: ClassVar[Mapping[str, int]] = {}
    # The column whose classes are compared one by one, if there is one.
    classes: ClassVar[str] = ""

    @abstractmethod
    def records(self, row: Row, model: DualEncoder) -> list[Record]:
        """
        What is found of a row: the same for the same row and model.

        Returns:
            records of this study's columns (those of COMMON are filled in by who asks);
            none, if the row says nothing to it.
        """

    @abstractmethod
    def tables(self, results: "Results") -> dict[str, pyarrow.Table]:
        """All rows' records to tables, by name; each figure with its interval."""

    def prepared(self, data: Data, places: Sequence[int]) -> "Study":
        """With what it needs to know of the sample before the first row."""
        return self

    def parameters(self) -> dict[str, Any]:
        """By name; a study made with them is the same."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]  # a dataclass

    def as_udf(self, model: str, device: Optional[str] = None) -> type:
        """
        A class for ``map_batches`` of Ray Data, or any loop over batches: made without
        arguments, where it loads the model by its name, it is called with a batch of
        columns, by name or as a table of pyarrow or pandas (see
        :mod:`captum_pairs.grounding.data.own`; "image" may be a path, bytes or an
        array), and gives a pyarrow.Table of this study's records.

        A row that can't be studied has its reason in the column `error`. One without
        an id is named after its image and its caption. What :meth:`prepared` would have
        looked up in the sample is not there.
        """
        name = f"{type(self).__name__}OfRows"
        return type(name, (_RowsStudied,), {"asked": (self, model, device)})


class _RowsStudied:
    """See :meth:`Study.as_udf`."""

    asked: ClassVar[tuple[Study, str, Optional[str]]]

    def __init__(self) -> None:
        self.study, name, device = self.asked
        self.model = models.load(name, device=device)
        self.schema = schema_of(self.study.columns)

    def __call__(self, batch: Mapping[str, Any]) -> pyarrow.Table:
        columns = _columns_of(batch)
        records: list[Record] = []
        with self.model.as_it_is():
            for values in zip(*columns.values()):
                fields = dict(zip(columns, values))
                key = str(fields.setdefault("id", _named_after(fields)))
                try:
                    fields["image"] = decoded(fields.get("image"))
                    row = row_of(fields, f"row {key}")
                except Exception as error:  # whatever is wrong with somebody's row
                    records.append(failed(-1, key, error))
                    continue
                records += studied(self.study, row, self.model)
        return pyarrow.Table.from_pylist(records, schema=self.schema)


def _columns_of(batch: Any) -> dict[str, Any]:
    """
    The columns that are fields of a row, of a mapping or of a table.

    Raises:
        InvalidArgumentError: naming ``batch``, for one without images or captions.
    """
    if isinstance(batch, pyarrow.Table):
        batch = batch.to_pydict()
    found = {name: batch[name] for name in FIELDS if name in batch}
    for name in ("image", "caption"):
        if name not in found:
            came = ", ".join(map(str, batch)) or "none"
            raise InvalidArgumentError("batch", f"a column {name!r}", came)
    return found


def _named_after(fields: Mapping[str, Any]) -> str:
    """The same for the same image and caption, whatever batch they are in."""
    image = fields.get("image")
    if isinstance(image, Mapping):
        image = image.get("bytes") or image.get("path")
    whole = image if isinstance(image, bytes) else repr(image).encode()
    digest = hashlib.sha256(whole)
    digest.update(repr(fields.get("caption")).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


# ---- one row, wherever it runs -----------------------------------------------


def studied_at(
    study: Study, data: Data, places: Iterable[int], model: DualEncoder
) -> list[Record]:
    """The records of the rows at some places; of each at least one."""
    found = []
    # the weights stay as they are meanwhile, and are looked at once
    with model.as_it_is():
        for place in places:
            try:
                row = data[place]
            except Exception as error:  # whatever a reader of broken files raises
                found.append(failed(place, f"row {place}", error))
                continue
            found += studied(study, row, model, place)
    return found


def studied(
    study: Study, row: Row, model: DualEncoder, place: int = -1
) -> list[Record]:
    """
    A row's records with the columns of COMMON.

    What goes wrong with a row is its error, and no other row's: nothing is raised.
    """
    common = {
        "place": place,
        "id": row.id,
        "group": row.group_or_id,
        "image": row.path,
        "caption": row.caption,
        "error": None,
    }
    try:
        with warnings.catch_warnings():
            # what a path's integral misses is in the records
            warnings.simplefilter("ignore")
            found = study.records(row, model)
    except Exception as error:  # whatever a model or a picture's reader raises
        return [{**common, "error": _told(error)}]
    if not found:
        needed = " and ".join(study.needs) or "anything"
        reason = f"nothing to study: {study.name} needs a row with {needed}"
        return [{**common, "error": reason}]
    return [{**common, **record} for record in found]


def failed(place: int, name: str, error: Exception) -> Record:
    """The record of a row that could not be read."""
    return {
        "place": place,
        "id": name,
        "group": name,
        "image": "",
        "caption": "",
        "error": _told(error),
    }


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no reason given"]
    return f"{type(error).__name__}: {lines[0]}"
