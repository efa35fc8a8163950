"""Contribution vectors of a corpus, computed once and kept."""

import hashlib
import html
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, overload, Protocol, TYPE_CHECKING, Union

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.explain.files import (
    check_folder,
    damaged,
    input_from_json,
    parse_json,
    read_json,
    read_tensors,
)
from captum_pairs.explain.options import OF_SIDES
from captum_pairs.explain.sides import check_directions, InputContributions
from captum_pairs.explain.store import Record, Store
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    import pandas

__all__ = ["check_paired", "Contributions", "what_is_kept"]

# 1: what version 0.1 kept, by names; 2: by content (see captum_pairs.explain.store).
FORMAT = 2
INDEX = "index.json"
# What a directory holds, if that is something else than contributions.
HOLDS, CONTRIBUTIONS = "holds", "contributions"
# Settings of a store that contributions do not depend on, or know by themselves.
OF_STORE = ("name", "model", "dtype")
# Inputs that failed, of which an error tells the names.
_LISTED = 10
# Inputs that are in memory at a time while all of them are read.
_AT_A_TIME = 64


class Described(Protocol):
    """What depends on settings, lost something by rounding, and lacks what failed."""

    settings: Any
    failed: Any

    @property
    def error(self) -> float: ...


def what_is_kept(kept: Described, verb: str) -> str:
    """
    Its short form, what it depends on, and what failed.

    Args:
        kept: contributions, or an index.
        verb: what was done to numbers, "stored" or "kept".
    """
    lines = [repr(kept)[1:-1]]
    lines += [f"  {name}: {value}" for name, value in kept.settings.items()]
    if kept.error:
        lines.append(f"rounded to be {verb}: at most {kept.error:.1e}, relative")
    for name, reason in list(kept.failed.items())[:_LISTED]:
        lines.append(f"failed: {name}: {reason}")
    if len(kept.failed) > _LISTED:
        lines.append(f"and {len(kept.failed) - _LISTED} more failed")
    return "\n".join(lines)


# ---- what is kept, and where -------------------------------------------------


class _Kept(Protocol):
    """Where contributions are: rows that can be read."""

    def names(self, rows: Sequence[int]) -> list[str]: ...

    def records(self, rows: Sequence[int]) -> list[Record]: ...

    def named(self, name: str) -> NDArray[np.int64]: ...

    def errors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]: ...


class Contributions(Sequence[InputContributions]):
    """
    Contribution vectors of many inputs of one side of a model.

    A sequence of :class:`InputContributions`, which :meth:`DualEncoder.explain` takes
    instead of the inputs; so it does the whole, paired with one other input. What is in
    files is read when it is asked for.

    Attributes:
        settings: what they depend on: the model's fingerprint, the side, the layer...
        directory: where they are kept; None: in memory only.
        keys: the inputs' names, in their order.
        failed: the names of inputs that could not be read, and why.
        error: the largest relative error, over the inputs, of what was rounded to be
            stored: the norm of the difference divided by the norm.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        directory: Optional[Path],
        kept: _Kept,
        rows: NDArray[np.int64],
        failed: Mapping[str, str],
        keys: Optional[list[str]] = None,
        places: Optional[NDArray[np.int64]] = None,
    ) -> None:
        """
        Args:
            kept: where they are read from.
            rows: there, of each input.
            keys: the inputs' names. Default: those that they were kept under.
            places: of each input its place among those that were asked for, the failed
                ones counted. Default: none failed, or it is not known where.
        """
        self.settings = dict(settings)
        self.directory = directory
        self.failed = dict(failed)
        self.places = places
        self._kept, self._rows, self._given = kept, rows, keys

    @cached_property
    def keys(self) -> list[str]:
        """The inputs' names, in their order."""
        if self._given is not None:
            return self._given
        return self._kept.names(self._rows.tolist())

    @property
    def error(self) -> float:
        """The largest relative error of what was rounded."""
        return float(self._kept.errors(self._rows).max(initial=0.0))

    def __len__(self) -> int:
        return len(self._rows)

    def __eq__(self, other: object) -> bool:
        """By content: the same inputs in the same order under the same names, found in
        the same way, wherever they are kept."""
        if not isinstance(other, Contributions):
            return NotImplemented
        if self is other:
            return True
        mine, theirs = (
            (each.settings, each.failed, len(each)) for each in (self, other)
        )
        if mine != theirs or self.keys != other.keys:
            return False
        return all(one == another for one, another in zip(self, other))

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.settings.get("model"), len(self)))

    def __repr__(self) -> str:
        where = "in memory" if self.directory is None else f"in {self.directory}"
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"<Contributions of {len(self)} inputs {where}{failed}>"

    def summary(self) -> str:
        """How many there are, what they depend on, and what failed."""
        return what_is_kept(self, "stored")

    def _repr_html_(self) -> str:
        """The summary, as notebooks show it."""
        return f"<pre>{html.escape(self.summary())}</pre>"

    def to_frame(self) -> "pandas.DataFrame":
        """
        A row for each feature of each input: the input's name, the feature's name and
        index, whether it is special, and the norm of its contribution.

        Raises:
            ImportError: without pandas.
        """
        import pandas

        rows: list[tuple[Any, ...]] = []
        for key, kept in zip(self.keys, self):
            norms = torch.linalg.vector_norm(kept.values, dim=1).tolist()
            named = zip(kept.input.names, kept.input.features, norms)
            rows += [
                (key, name, index, feature.special, norm)
                for index, (name, feature, norm) in enumerate(named)
            ]
        columns = ["key", "feature", "index", "special", "norm"]
        return pandas.DataFrame(rows, columns=columns)

    @overload
    def __getitem__(self, index: int) -> InputContributions: ...

    @overload
    def __getitem__(self, index: slice) -> list[InputContributions]: ...

    def __getitem__(
        self, index: Union[int, slice]
    ) -> Union[InputContributions, list[InputContributions]]:
        if isinstance(index, slice):
            rows = self._rows[index].tolist()
            return [self._one(record) for record in self._kept.records(rows)]
        return self._at(int(self._rows[index]))

    def __iter__(self) -> Iterator[InputContributions]:
        for _, records in self._blocks():
            yield from map(self._one, records)

    def of(self, key: str) -> InputContributions:
        """
        An input's contributions by its name.

        Raises:
            InvalidArgumentError: if there is none of that name, or several with other
                content each.
        """
        if not isinstance(key, str):
            raise InvalidArgumentError("key", "a name", validation.describe(key))
        if self._given is not None:
            rows = {int(r) for k, r in zip(self._given, self._rows) if k == key}
        else:
            known = self._kept.named(key)
            rows = set(known[np.isin(known, self._rows)].tolist())
        if not rows:
            reason = self.failed.get(key)
            came = repr(key) if reason is None else f"{key!r}, which failed: {reason}"
            raise InvalidArgumentError("key", "an input that is stored", came)
        if len(rows) > 1:
            raise InvalidArgumentError(
                "key",
                "a name that one input has",
                f"{key!r}, under which {len(rows)} different ones came; ask for them "
                "by their place, or for contributions of the one that is meant",
            )
        return self._at(rows.pop())

    def _at(self, row: int) -> InputContributions:
        return self._one(self._kept.records([row])[0])

    def _one(self, record: Record) -> InputContributions:
        given = input_from_json(parse_json(record.text))
        if len(given.features) != len(record.values):
            raise InvalidArgumentError(
                "directory",
                f"contributions of {len(given.features)} features",
                f"{len(record.values)} of {record.name!r}",
            )
        settings = {k: v for k, v in self.settings.items() if k not in OF_STORE}
        values = record.values.float() * record.scale
        embedding, baseline = record.ends
        return InputContributions(
            given, values, embedding, baseline, self.settings["model"], settings
        )

    def _blocks(self) -> Iterator[tuple[int, list[Record]]]:
        """Records in their order, some at a time, and the first one's place."""
        for start in range(0, len(self._rows), _AT_A_TIME):
            rows = self._rows[start : start + _AT_A_TIME].tolist()
            yield start, self._kept.records(rows)

    @property
    def embeddings(self) -> Tensor:
        """(inputs, k)."""
        found = [torch.stack([r.ends[0] for r in b]) for _, b in self._blocks()]
        return torch.cat(found) if found else torch.zeros(0, 0)

    def read(self, directions: Tensor) -> list[Tensor]:
        """
        Linear readings of every input's embedding, attributed: see
        :meth:`InputContributions.read`; one matrix product for many inputs.

        Args:
            directions: (k,) or (m, k).

        Returns:
            For each input (rows, columns) or (words,), with m before if there are m.
        """
        if len(self):
            check_directions(directions, self[0].values.shape[1])
        is_one = directions.ndim == 1
        flat = directions[None] if is_one else directions
        found = []
        for record, values in self._products(flat):
            shaped = input_from_json(parse_json(record.text)).shaped(values.T)
            found.append(shaped[0] if is_one else shaped)
        return found

    def pair(self, other: InputContributions) -> list[Tensor]:
        """
        Attributions to pairs of every input's features with another input's: for each
        (features, features of the other one), special ones included.

        Raises:
            InvalidArgumentError: naming what differs, if they are of another model or
                were found in another way.
        """
        if not isinstance(other, InputContributions):
            raise InvalidArgumentError(
                "other", "contributions of an input", validation.describe(other)
            )
        if other.model != self.settings["model"]:
            raise InvalidArgumentError(
                "other",
                f"contributions of the model {self.settings['model']}",
                f"those of {other.model}",
            )
        for name in self.settings.keys() & other.settings.keys():
            mine, theirs = self.settings[name], other.settings[name]
            if name not in (*OF_SIDES, "side", "encoder") and mine != theirs:
                raise InvalidArgumentError(
                    name, f"{mine!r}, with which these were found", repr(theirs)
                )
        return [table for _, table in self._products(other.values)]

    def _products(self, directions: Tensor) -> Iterator[tuple[Record, Tensor]]:
        """For each input (features, m)."""
        for _, records in self._blocks():
            width = records[0].values.shape[1]
            if directions.shape[-1] != width:
                raise InvalidArgumentError(
                    "directions",
                    f"vectors of width {width}",
                    f"shape {tuple(directions.shape)}",
                )
            values = torch.cat([record.values for record in records]).float()
            products = values @ directions.float().T
            tables = torch.split(products, [len(record.values) for record in records])
            for record, table in zip(records, tables):
                yield record, table * record.scale

    @classmethod
    def load(cls, directory: Union[str, Path]) -> "Contributions":
        """
        All that is kept in a directory, in the order in which it came; an input that
        came several times, under the name of the first.

        Raises:
            InvalidArgumentError: if nothing was kept there, or by a later version, or
                files are damaged.
        """
        folder = check_folder("directory", directory)
        settings = read_index(folder)
        if settings.pop("format") == 1:
            return _load_first_format(folder, settings)
        if HOLDS in settings:
            raise InvalidArgumentError(
                "directory",
                f"one of {CONTRIBUTIONS}",
                f"{folder}, of {settings[HOLDS]}",
            )
        kept = KeptFiles(folder, settings)
        lost = kept.failures()
        reasons = kept.records(lost.tolist())
        failed = {record.name: record.text for record in reasons}
        return cls(settings, folder, kept, kept.inputs(), failed)


def check_paired(first: Any, second: Any) -> None:
    """
    Refuse to pair two lists of which one lacks what the other one has.

    Raises:
        InvalidArgumentError: naming ``first`` or ``second``, and what failed.
    """
    failed = ""
    for name, each in (("first", first), ("second", second)):
        if isinstance(each, Contributions) and each.failed:
            shown = ", ".join(map(repr, list(each.failed)[:_LISTED]))
            more = ", ..." if len(each.failed) > _LISTED else ""
            failed += f"; of the {name} these failed: {shown}{more}"
    if len(first) != len(second):
        raise InvalidArgumentError(
            "second",
            f"as many inputs as the first, {len(first)}",
            f"{len(second)}{failed}",
        )
    if not (isinstance(first, Contributions) and isinstance(second, Contributions)):
        return
    places = first.places, second.places
    if failed and (
        places[0] is None
        or places[1] is None
        or not np.array_equal(places[0], places[1])
    ):
        raise InvalidArgumentError(
            "second",
            "inputs in the places of the first's (or lists, stored[:], if they belong "
            "together as they are)",
            f"others{failed}",
        )


# ---- a directory -------------------------------------------------------------


class KeptFiles(Store):
    """A store whose records all depend on the same settings."""

    def __init__(self, directory: Optional[Path], settings: Mapping[str, Any]) -> None:
        content = {k: v for k, v in settings.items() if k != "name"}
        written = json.dumps(content, sort_keys=True).encode()
        seal = hashlib.blake2b(written, digest_size=16).digest()
        super().__init__(directory, seal)

    def errors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of what was rounded, relative."""
        found: NDArray[np.float32] = self.rows["error"][rows]
        return found


def read_index(folder: Path) -> dict[str, Any]:
    """What stands in a directory of all that is kept in it, and the format."""
    path = folder / INDEX
    if os.path.islink(path):
        raise damaged(path, "a link to somewhere else")
    content = read_json(path)
    if content.get("format") not in (1, FORMAT):
        raise InvalidArgumentError(
            "directory", "contributions that this version kept", f"{path}"
        )
    if not all(isinstance(content.get(name), str) for name in OF_STORE):
        raise damaged(path, "without the settings of what is kept")
    return content


# ---- what version 0.1 kept ---------------------------------------------------

_FIRST_FORMAT_FILE = re.compile(r"shard-\d{5,}\.safetensors")


class _FirstFormat:
    """Shards of 0.1: several inputs' tensors in a file, and their words beside it."""

    def __init__(self, folder: Path, shards: Any, error: float) -> None:
        self._folder, self._error = folder, error
        self._places: list[tuple[Path, int, str, int]] = []
        for shard in shards:
            if not _FIRST_FORMAT_FILE.fullmatch(str(shard["file"])):
                raise damaged(folder / INDEX, "a file that is none of the store's")
            path = folder / shard["file"]
            if path.is_symlink() or path.with_suffix(".json").is_symlink():
                raise damaged(path, "a link to somewhere else")
            for row, name in enumerate(shard["keys"]):
                self._places.append((path, row, str(name), len(shard["keys"])))
        self._known: tuple[Optional[Path], list[Record]] = (None, [])

    def __len__(self) -> int:
        return len(self._places)

    def names(self, rows: Sequence[int]) -> list[str]:
        return [self._places[row][2] for row in rows]

    def named(self, name: str) -> NDArray[np.int64]:
        found = [at for at, place in enumerate(self._places) if place[2] == name]
        return np.array(found, dtype=np.int64)

    def errors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.full(len(rows), self._error)

    def records(self, rows: Sequence[int]) -> list[Record]:
        found = []
        for row in rows:
            path, at, name, count = self._places[row]
            if self._known[0] != path:
                self._known = path, self._read(path, count)
            kept = self._known[1][at]
            found.append(
                Record(b"", name, kept.text, kept.values, kept.ends, kept.scale)
            )
        return found

    def _read(self, path: Path, count: int) -> list[Record]:
        tensors = read_tensors(path)
        try:
            words = parse_json(path.with_suffix(".json").read_bytes())
            counts = tensors["counts"].tolist()
            values = torch.split(tensors["values"], counts)
            scales = tensors["scales"].tolist()
            ends = torch.stack([tensors["embeddings"], tensors["baselines"]], dim=1)
            lengths = {len(each) for each in (words, values, scales, ends)}
            if lengths != {count} or ends.shape[-1] != values[0].shape[-1]:
                raise ValueError("its files are of different inputs")
            return [
                Record(b"", "", json.dumps(words[at]), values[at], ends[at], scales[at])
                for at in range(count)
            ]
        except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
            raise damaged(path, f"{type(error).__name__}: {error}") from error


def _load_first_format(folder: Path, content: dict[str, Any]) -> Contributions:
    try:
        error, failed = float(content.pop("error")), dict(content.pop("failed"))
        kept = _FirstFormat(folder, content.pop("shards"), error)
    except (KeyError, TypeError, ValueError, AttributeError) as wrong:
        reason = f"{type(wrong).__name__}: {wrong}"
        raise damaged(folder / INDEX, reason) from wrong
    rows = np.arange(len(kept), dtype=np.int64)
    return Contributions(content, folder, kept, rows, failed)
