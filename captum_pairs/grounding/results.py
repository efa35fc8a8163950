"""
Results of a study on disk, written by any number of workers.

A directory has

- ``plan.json``: what is to be done, written before the first row: the study and its
  parameters, the data (as `open_data` takes them), the sample's size and seed, the
  model, the options of `explain`, the versions, the number of rows that can't be used
  by reason;
- ``rows/*.parquet``: the records, in shards. A shard is written aside and renamed, so
  that it is there as a whole or not at all; it has every record of each of its rows.
  Any number of workers add shards. If two studied the same row (a worker that was
  thought dead, two commands at once), the first shard by name that has it counts, and
  what others say of it is not read: each row counts exactly once.

>>> results = captum_pairs.grounding.load("results")
>>> results.plan["model"], results.rows  # a pyarrow.Table
>>> results.to_frame()  # a pandas.DataFrame
>>> results.tables()  # {name: pyarrow.Table}
"""

import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, TYPE_CHECKING, Union

import numpy as np
import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data import open_data
from captum_pairs.grounding.data.row import Data, Row
from captum_pairs.grounding.report import write_report
from captum_pairs.grounding.studies import study_of
from captum_pairs.grounding.study import Columns, Record, schema_of, Study
from captum_pairs.model import DualEncoder
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas

__all__ = ["has_plan", "load", "read_plan", "Results", "Shards", "write_plan"]

PLAN, ROWS = "plan.json", "rows"
FORMAT = 1


# ---- the plan ----------------------------------------------------------------


def write_plan(directory: Union[str, Path], plan: Mapping[str, Any]) -> None:
    """
    The protocol, before there is any result; where there is one, it has to say the
    same.

    Raises:
        InvalidArgumentError: naming ``directory``, if it has another plan, or can't be
            written to.
    """
    folder = Path(directory)
    text = json.dumps({"format": FORMAT, **plan}, indent=1, ensure_ascii=False) + "\n"
    try:
        (folder / ROWS).mkdir(parents=True, exist_ok=True)
        aside = folder / f".{PLAN}.{uuid.uuid4().hex}"
        aside.write_text(text, encoding="utf-8")
        try:
            os.link(aside, folder / PLAN)  # fails where there is one: no race
        except FileExistsError:
            _check_same(folder, json.loads(text))
        finally:
            aside.unlink()
    except OSError as error:
        reason = f"{folder}: {error.strerror or error}"
        raise InvalidArgumentError(
            "directory", "one that can be written to", reason
        ) from error


def has_plan(directory: Union[str, Path]) -> bool:
    """Whether a study was begun there."""
    return (Path(directory) / PLAN).exists()


# What may differ when a study goes on: when it began, and with what.
_MAY_DIFFER = ("created", "versions", "left_out")


def _check_same(folder: Path, plan: Mapping[str, Any]) -> None:
    there = read_plan(folder)
    for name, mine in plan.items():
        theirs = there.get(name)
        if name not in _MAY_DIFFER and mine != theirs:
            raise InvalidArgumentError(
                "directory",
                f"results of {name} = {_shown(mine)}, or a new directory",
                f"{folder}, which has those of {_shown(theirs)}",
            )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"


def read_plan(directory: Union[str, Path]) -> dict[str, Any]:
    """
    A directory's plan.

    Raises:
        InvalidArgumentError: naming ``directory``, if it has none that can be read.
    """
    path = Path(directory) / PLAN
    try:
        plan = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = f"{path}: {getattr(error, 'strerror', None) or error}"
        raise InvalidArgumentError(
            "directory", "the results of a study, with a plan.json", reason
        ) from error
    if not isinstance(plan, dict) or plan.get("format") != FORMAT:
        came = plan.get("format") if isinstance(plan, dict) else type(plan).__name__
        raise InvalidArgumentError(
            "directory", f"results in the format {FORMAT}", f"{path}: {came}"
        )
    return plan


# ---- the rows ----------------------------------------------------------------


class Shards:
    """Where a worker puts records, and what all workers have put there."""

    def __init__(self, directory: Union[str, Path], columns: Columns) -> None:
        self.folder = Path(directory) / ROWS
        self.schema = schema_of(columns)

    def add(self, records: Sequence[Record]) -> None:
        """All records of some rows, as a whole or not at all."""
        if not records:
            return
        table = pyarrow.Table.from_pylist(list(records), schema=self.schema)
        self.add_table(table)

    def add_table(self, table: pyarrow.Table) -> None:
        """As :meth:`add`."""
        # by time first: of two shards with the same row the earlier one counts
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.parquet"
        aside = self.folder / f".{name}"
        try:
            with open(aside, "wb") as file:
                parquet.write_table(table, file)
                file.flush()
                os.fsync(file.fileno())
            os.rename(aside, self.folder / name)
        finally:
            aside.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """In the order in which they count; those that are being written are none."""
        return sorted(
            path
            for path in self.folder.glob("*.parquet")
            if not path.name.startswith(".")
        )

    def done(self) -> set[int]:
        """The places of the rows that are there."""
        found: set[int] = set()
        for path in self.files():
            table = parquet.read_table(path, columns=["place"], partitioning=None)
            found.update(compute.unique(table["place"]).to_pylist())
        return found

    def read(self, names: Optional[Iterable[str]] = None) -> pyarrow.Table:
        """
        Every row's records once, in the order of the rows' places.

        Args:
            names: of columns. Default: all
        """
        return self.snapshot().read(self.schema.names if names is None else list(names))

    def snapshot(self) -> "Snapshot":
        """What is there now."""
        return Snapshot(self.files(), self.schema)


class Snapshot:
    """
    Shards as they are at one time; columns are read when they are asked for, so that a
    million rows need the memory of the columns that are used.

    Attributes:
        kept: the records that count, sorted by place: of each row those of its first
            shard.
        good: those of them that have no error.
    """

    def __init__(self, files: Sequence[Path], schema: pyarrow.Schema) -> None:
        self._files, self._schema = list(files), schema
        keys = self._all(["place", "id", "error"])
        lengths = [parquet.read_metadata(path).num_rows for path in self._files]
        sources = np.repeat(np.arange(len(lengths)), lengths)
        self.kept = _once(keys["place"].to_numpy(), keys["id"], sources)
        has_error = keys["error"].is_valid().to_numpy()
        self.good = self.kept[~has_error[self.kept]]

    def _all(self, names: Sequence[str]) -> pyarrow.Table:
        """Columns of all records, those that do not count too."""
        if not self._files:
            return self._schema.empty_table().select(names)
        return pyarrow.concat_tables(
            parquet.read_table(path, columns=list(names), partitioning=None)
            for path in self._files
        )

    def read(self, names: Sequence[str], good: bool = False) -> pyarrow.Table:
        """
        Columns of the records that count.

        Args:
            good: of rows without an error alone.
        """
        rows = self.good if good else self.kept
        return self._all(names).take(pyarrow.array(rows)).select(names)


def _once(
    places: NDArray[np.int64], ids: pyarrow.ChunkedArray, sources: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The records that count, sorted by place: of each row those of its first shard.
    What has no place in the data is told apart by its id."""
    if not len(places):
        return np.zeros(0, dtype=np.int64)
    codes = compute.rank(ids, tiebreaker="dense").to_numpy().astype(np.int64)
    keys = np.where(places >= 0, places, -codes)
    order = np.lexsort((np.arange(len(keys)), sources, keys))
    sorted_keys, sorted_sources = keys[order], sources[order]
    starts = np.r_[True, sorted_keys[1:] != sorted_keys[:-1]]
    first = sorted_sources[np.flatnonzero(starts)]
    kept: NDArray[np.int64] = order[sorted_sources == first[np.cumsum(starts) - 1]]
    return kept


# ---- what is read ------------------------------------------------------------


class Results:
    """
    A study's results.

    Args:
        directory: where they are.
    """

    def __init__(self, directory: Union[str, Path]) -> None:
        self.directory = Path(directory)
        self.plan = read_plan(directory)
        self.study: Study = study_of(self.plan["study"], self.plan["parameters"])
        self.shards = Shards(directory, self.study.columns)

    @property
    def rows(self) -> pyarrow.Table:
        """Every record with all columns, those of rows with an error too."""
        return self._now.read(self.shards.schema.names)

    @cached_property
    def _now(self) -> Snapshot:
        return self.shards.snapshot()

    def __len__(self) -> int:
        """How many records there are of rows that could be studied."""
        return len(self._now.good)

    @property
    def errors(self) -> dict[str, str]:
        """Why rows could not be studied, by their ids."""
        table = self._now.read(["id", "error"])
        bad = table.filter(table["error"].is_valid())
        return dict(zip(bad["id"].to_pylist(), bad["error"].to_pylist()))

    @property
    def counts(self) -> dict[str, int]:
        """
        Returns:
            "planned", how many rows the sample has; "done", how many of them are there,
            with those that failed; "failed"; "records".
        """
        return {
            "planned": int(self.plan["sample"]["size"]),
            "done": compute.count_distinct(self._now.read(["id"])["id"]).as_py(),
            "failed": len(self.errors),
            "records": len(self),
        }

    def select(self, names: Sequence[str]) -> pyarrow.Table:
        """Columns of the rows that could be studied."""
        return self._now.read(names, good=True)

    def column(self, name: str) -> NDArray[Any]:
        """
        A column of the rows that could be studied: nulls of numbers are NaN, lists are
        arrays.
        """
        column = self.select([name])[name]
        if pyarrow.types.is_floating(column.type):
            column = compute.fill_null(column, float("nan"))
        found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return found

    def tables(self) -> dict[str, pyarrow.Table]:
        """What the study makes of all rows."""
        return self.study.tables(self)

    @cached_property
    def data(self) -> Data:
        """What was studied, opened again."""
        return open_data(self.plan["data"]["name"], **self.plan["data"]["options"])

    def row(self, place: int) -> Row:
        """The row that a record is of, with its image."""
        row: Row = self.data[place]
        return row

    def to_frame(self) -> "pandas.DataFrame":
        """
        Every record as a row (see the study's columns).

        Raises:
            ImportError: without pandas.
        """
        return self.rows.to_pandas()

    def report(
        self,
        path: Union[str, Path],
        against: Optional["Results"] = None,
        examples: int = 10,
        model: Optional[DualEncoder] = None,
    ) -> Path:
        """
        Writes a report: one HTML file that needs nothing else, and beside it a folder
        (its name and "_files") with every figure, table and example's page.

        Args:
            path: of the file, such as "report.html"; folders are made.
            against: an earlier run of the same study, which this one is set against.
            examples: in each gallery; 0 for none.
            model: by which examples are explained. Default: the one that was studied,
                loaded by its name

        Returns:
            the file.

        Raises:
            InvalidArgumentError: naming ``path``, if it can't be written; ``after``, if
                the earlier run is of another study.
        """
        return write_report(self, path, against, examples, model)


def load(directory: Union[str, Path]) -> Results:
    """
    A study's results.

    Raises:
        InvalidArgumentError: naming ``directory``, if it has none.
    """
    return Results(directory)
