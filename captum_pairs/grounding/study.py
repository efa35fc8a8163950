"""
What a study is: a pure function of a row and a model, and a reduction.

Adding one is one file: a frozen dataclass whose fields are its parameters (what JSON can
hold: they stand in the plan), with a name, the columns that it writes, `records` and
`tables`; and its line in :mod:`captum_pairs.grounding.studies`.

Every study's rows have the columns of COMMON; a row that could not be studied has one
record, whose other columns are null and whose `error` says why.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple, TYPE_CHECKING

from captum_pairs.grounding.data.row import Data, Row
from captum_pairs.model import DualEncoder

if TYPE_CHECKING:
    import pyarrow
    from captum_pairs.grounding.results import Results

__all__ = ["Column", "COMMON", "Columns", "Record", "Study"]

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
    def tables(self, results: "Results") -> dict[str, "pyarrow.Table"]:
        """All rows' records to tables, by name; each figure with its interval."""

    def prepared(self, data: Data, places: Sequence[int]) -> "Study":
        """With what it needs to know of the sample before the first row."""
        return self

    def parameters(self) -> dict[str, Any]:
        """By name; a study made with them is the same."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]  # a dataclass
