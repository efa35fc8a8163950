"""The items of an index: what inputs are called, and their embeddings.

They are kept as contributions are (see :mod:`captum_pairs.explain.store`): every run
writes a part of its own, which only grows. Beside a part's three files lies a fourth:

==========  ============================================================================
`.vectors`  64 bytes, which say how wide the vectors are and as what they are kept; then
            a vector for each input of the part, mapped into memory when it is read
==========  ============================================================================

A vector is written before the record that tells of it, which has its checksum.
"""

import hashlib
import os
import struct
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explain.contributions import KeptFiles
from captum_pairs.explain.files import as_json, as_text, damaged, parse_json
from captum_pairs.explain.store import INPUT, no_space, Record
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Items"]

# magic, width, bytes of a number
_HEAD = struct.Struct("<8sII48x")
_MAGIC = b"cpairs v"
# Seconds after which vectors are on the disk, should the power fail; sooner than the
# records that tell of them.
_SYNC = 1.5
# Numbers that are multiplied at a time: what a processor's caches hold.
_AT_ONCE = 1 << 19
# Rows that are compared with what was written at a time.
_CHECKED = 4096
# Half of the distance from 1 to the next number of single precision.
_ROUNDING = 2.0**-24
_NOWHERE = np.uint64(2**64 - 1)
_VECTOR = "vector"


class Items(KeptFiles):
    """
    Names and embeddings, found by content and name, and searched.

    An item's number is its place among those that are there, in the order in which they
    came. What came again under the same name with other content stands in place of what
    was there before.

    Args:
        directory: where they are; None: in memory.
        settings: what they depend on; ``settings["dtype"]`` is what they are kept as.

    Raises:
        InvalidArgumentError: naming ``directory``, if it is damaged.
    """

    def __init__(self, directory: Optional[Path], settings: Mapping[str, Any]) -> None:
        self.dtype = np.dtype(str(settings["dtype"]))
        self._mapped: dict[int, NDArray[Any]] = {}
        self._in_memory: list[NDArray[Any]] = []
        self._file: Optional[tuple[Path, int]] = None
        self._synced = 0.0
        # of normalised ones, which are rounded to be kept
        self._norm = 1.001 if settings["similarity"] == "cosine" else None
        self._largest: Optional[float] = None
        super().__init__(directory, settings)
        self._arrange()

    # ---- what is there -----------------------------------------------------

    def _arrange(self) -> None:
        """Which rows are items, and where their vectors are."""
        inputs = np.flatnonzero(self.rows["kind"] == INPUT)
        parts = self.rows["part"][inputs]
        places = np.zeros(len(inputs), dtype=np.int64)
        there = np.ones(len(inputs), dtype=bool)
        for number in range(len(self.parts)):
            inside = np.flatnonzero(parts == number)
            places[inside] = np.arange(len(inside))
            there[inside[self._count(number, len(inside)) :]] = False
        there &= self._is_latest(inputs)
        # what is no item is found under no key
        for name in ("high", "low", "stamp_high", "stamp_low"):
            self.rows[name][inputs[~there]] = _NOWHERE
        self._lookups = {}
        self.items, self._places = inputs[there], places[there]
        self._parts = parts[there]
        self._largest = self._norm

    def _is_latest(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of rows, whether nothing came later under the same name."""
        order = np.lexsort((rows, self.rows["time"][rows], self.rows["name"][rows]))
        names = self.rows["name"][rows][order]
        found = np.ones(len(rows), dtype=bool)
        found[order[:-1]] = names[1:] != names[:-1]
        return found

    def _count(self, number: int, wanted: int) -> int:
        """How many of a part's vectors are there; the first one tells how wide."""
        if self.directory is None or not wanted:
            return wanted
        path = self.parts[number].path("vectors")
        if path.is_symlink():
            raise InvalidArgumentError(
                "directory", "files of its own", f"{path}, a link to somewhere else"
            )
        try:
            with open(path, "rb") as file:
                head = file.read(_HEAD.size)
                size = os.fstat(file.fileno()).st_size - _HEAD.size
        except OSError as error:
            raise damaged(path, error.strerror or str(error)) from error
        magic, width, itemsize = (
            _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0)
        )
        if magic != _MAGIC or itemsize != self.dtype.itemsize or not width:
            raise damaged(path, "no vectors of this index")
        count = min(int(size) // (int(width) * int(itemsize)), wanted)
        if count < wanted:
            warnings.warn(
                f"{path} was cut: {wanted - count} items in it are lost, and are "
                "embedded again when they are given again",
                stacklevel=2,
            )
        if count:
            self._mapped[number] = np.memmap(
                path, self.dtype, "c", _HEAD.size, (count, width)
            )
        return count

    def vectors(self, number: int) -> NDArray[Any]:
        """A part's, (n, k)."""
        if self.directory is None:
            if number not in self._mapped:
                self._mapped[number] = np.stack(self._in_memory)
            return self._mapped[number]
        return self._mapped[number]

    @property
    def width(self) -> int:
        """k, of an index that is not empty."""
        return int(self.vectors(int(self._parts[0])).shape[1])

    def row_of(self, item: int) -> int:
        """Where an item's record is."""
        return int(self.items[item])

    def told(self, items: NDArray[np.int64]) -> list[dict[str, Any]]:
        """
        What was written down of items: content, file, text.

        Raises:
            InvalidArgumentError: naming ``directory``, if an item's vector or name is
                not the one that was written.
        """
        vectors, found = self.read(items), []
        rows = self.items[items].tolist()
        for item, name, record, vector in zip(
            items.tolist(), self.names(rows), self.records(rows), vectors
        ):
            content: dict[str, Any] = parse_json(record.text)
            if name != record.name:
                path = self.parts[int(self._parts[item])].path("names")
                raise damaged(
                    path,
                    f"{record.name!r} is called {name!r} there; delete it: names are "
                    "in other files, too",
                )
            if as_text(content[_VECTOR]) != _checksum(vector):
                path = self.parts[int(self._parts[item])]
                raise damaged(
                    path.path("vectors"),
                    f"the vector of {record.name!r} is not what was written; delete "
                    f"the files {path.stem.name}.*, and give the inputs again",
                )
            found.append(content)
        return found

    def check(self) -> None:
        """
        Compare every vector with what was written, which a search does for its hits.

        Raises:
            InvalidArgumentError: naming ``directory`` and the file.
        """
        for start in range(0, len(self.items), _CHECKED):
            stop = min(start + _CHECKED, len(self.items))
            self.told(np.arange(start, stop))

    # ---- searching ---------------------------------------------------------

    def read(self, items: NDArray[np.int64]) -> NDArray[Any]:
        """Vectors (n, k) as they are kept."""
        found = np.empty((len(items), self.width), dtype=self.dtype)
        parts, places = self._parts[items], self._places[items]
        for number in np.unique(parts).tolist():
            inside = parts == number
            found[inside] = self.vectors(number)[places[inside]]
        return found

    def scores(self, query: NDArray[np.float64]) -> NDArray[np.float32]:
        """Inner products (n,) of all items with a vector (k,), in single precision."""
        asked = torch.from_numpy(query.astype(np.float32))
        found = [(block @ asked).numpy() for block in self._blocks()]
        return self._of_items(np.concatenate(found))

    def _blocks(self) -> Iterator[Tensor]:
        """All vectors of all parts, some at a time, in single precision; what comes is
        good until the next one does."""
        for number in np.unique(self._parts).tolist():
            vectors = self.vectors(number)
            step = max(_AT_ONCE // vectors.shape[1], 1)
            room = torch.empty(step, vectors.shape[1])
            for start in range(0, len(vectors), step):
                block = torch.from_numpy(vectors[start : start + step])
                is_single = block.dtype == torch.float32
                yield block if is_single else room[: len(block)].copy_(block)

    def _of_items(self, values: NDArray[Any]) -> NDArray[Any]:
        """Of what all vectors have that of the items."""
        if len(values) == len(self.items):
            return values
        numbers = np.unique(self._parts)
        counts = [len(self.vectors(number)) for number in numbers.tolist()]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        found: NDArray[Any] = values[
            starts[np.searchsorted(numbers, self._parts)] + self._places
        ]
        return found

    def bound(self, query: NDArray[np.float64]) -> float:
        """What a score in single precision may be off by: γ_k ‖query‖ ‖vector‖ (Higham,
        Accuracy and Stability of Numerical Algorithms, 2002, section 3.1)."""
        if self._largest is None:
            norms = [block.norm(dim=1).max() for block in self._blocks()]
            self._largest = float(torch.stack(norms).max())
        size = len(query) + 2
        share = size * _ROUNDING / (1 - size * _ROUNDING)
        return share * float(np.linalg.norm(query)) * self._largest

    def exact(
        self, query: NDArray[np.float64], items: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Scores (n,) of items in double precision, the same for the same vectors."""
        step = max(_AT_ONCE // self.width, 1)
        found = [
            (self.read(items[start : start + step]).astype(np.float64) * query).sum(1)
            for start in range(0, len(items), step)
        ]
        return np.concatenate(found) if found else np.zeros(0)

    # ---- writing -----------------------------------------------------------

    def add(self, record: Record) -> int:
        """Write an embedding, which the record has as its values (1, k), and then the
        record with its checksum."""
        if record.kind != INPUT:
            return super().add(record)
        vector = record.values[0].numpy().astype(self.dtype, copy=False)
        content = {**parse_json(record.text), _VECTOR: _checksum(vector)}
        self._write(vector)
        empty = torch.zeros(0, 0)
        told = replace(
            record, text=as_json(content), values=empty, ends=torch.zeros(2, 0)
        )
        return int(vector.nbytes) + super().add(told)

    def _write(self, vector: NDArray[Any]) -> None:
        if self.directory is None:
            self._in_memory.append(vector)
            self._mapped = {}
            return
        try:
            path = self._current().part.path("vectors")
            if self._file is None or self._file[0] != path:
                self._close()
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
                flags |= getattr(os, "O_BINARY", 0)
                self._file = path, os.open(path, flags, 0o666)
                _write_all(
                    self._file[1], _HEAD.pack(_MAGIC, len(vector), self.dtype.itemsize)
                )
            _write_all(self._file[1], vector.tobytes())
            if time.monotonic() - self._synced > _SYNC:
                os.fsync(self._file[1])
                self._synced = time.monotonic()
        except OSError as error:
            raise no_space(self.directory, error) from error

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                os.fsync(file[1])
            finally:
                os.close(file[1])

    def settle(self) -> None:
        """Have the disk keep what was written, and find it from now on."""
        self._close()
        super().settle()
        self._arrange()


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def _checksum(vector: NDArray[Any]) -> str:
    return hashlib.blake2b(vector.tobytes(), digest_size=8).hexdigest()
