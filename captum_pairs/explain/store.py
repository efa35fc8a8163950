"""A log of what was computed of inputs: in a directory that any number of processes
write to, or in memory.

Every run that has something to add writes a *part* of its own, three files that grow at
their ends and that nobody else writes to:

=========  =============================================================================
`.data`    records: what belongs to one input, with its key and a checksum of it all
`.rows`    80 bytes for each record: its key, and where it lies
`.names`   the inputs' names, one after the other
=========  =============================================================================

A record is there once its last byte is: one that a killed process left unfinished has
no row, and no checksum that fits. Rows and names only say again what the records say,
so that opening reads 80 bytes for each; what they lack is read from the records.
"""

import hashlib
import os
import re
import struct
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explain.files import damaged, from_bytes
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "FAILURE",
    "INPUT",
    "name_mark",
    "no_space",
    "Record",
    "Store",
    "words_of_digest",
]

INPUT, FAILURE = 1, 0

_MAGIC = b"cpairs 2"
_RECORD = b"INPT"
# Seconds after which what was written is on the disk, should the power fail.
_SYNC = 2.0
# Bytes of a part, after which a run begins another one.
_LARGEST = 1 << 30
_NO_STAMP = bytes(16)
_PART = re.compile(r"part-([0-9a-f]{32})\.(data|rows|names)")
_DTYPES = {0: torch.float32, 1: torch.float16, 2: torch.float64, 3: torch.bfloat16}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

# kind, dtype of the values, dtype of the ends, bytes of name and text, features, width,
# scale, error, time, key, stamp, checksum
_HEAD = struct.Struct("<4sBBBxIIIIffQ16s16s16s")
_CHECKSUM = 16

_ROW = np.dtype(
    [
        ("high", "<u8"),
        ("low", "<u8"),
        ("stamp_high", "<u8"),
        ("stamp_low", "<u8"),
        ("name", "<u8"),
        ("name_end", "<u8"),
        ("offset", "<u8"),
        ("time", "<u8"),
        ("length", "<u4"),
        ("error", "<f4"),
        ("kind", "<u4"),
        ("part", "<u4"),
    ]
)


@dataclass(frozen=True)
class Record:
    """
    What is kept of an input.

    Args:
        key: 16 bytes, of its content.
        name: what it was called when it came.
        text: what an explanation says of it, as JSON; of a failure why.
        values: (features, k), divided by `scale`.
        ends: (2, k), the embeddings of the input and of its baseline.
        error: the relative error of what was rounded.
        stamp: 16 bytes, of the file that it was read from; zeros if that says nothing.
    """

    key: bytes
    name: str
    text: str
    values: Tensor
    ends: Tensor
    scale: float = 1.0
    error: float = 0.0
    kind: int = INPUT
    stamp: bytes = _NO_STAMP

    @classmethod
    def failure(cls, key: bytes, name: str, reason: str) -> "Record":
        """An input that there is nothing of."""
        nothing = torch.zeros(0, 0)
        return cls(key, name, reason, nothing, torch.zeros(2, 0), kind=FAILURE)


def no_space(directory: object, error: OSError) -> InvalidArgumentError:
    """The error for what could not be written."""
    return InvalidArgumentError(
        "directory",
        "one with space for what is computed",
        f"{directory}: {error.strerror or error}; what was computed before is kept",
    )


def words_of_digest(digests: Sequence[bytes]) -> NDArray[np.uint64]:
    """Digests of 16 bytes as numbers (n, 2)."""
    joined = np.frombuffer(b"".join(digests), dtype="<u8")
    return joined.reshape(-1, 2).astype(np.uint64)


def name_mark(name: str) -> int:
    """A number by which a name is found."""
    encoded = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")


# ---- records as bytes --------------------------------------------------------


def _encoded(record: Record, seal: bytes) -> tuple[bytes, int]:
    """
    A record's bytes, and its time.

    Args:
        seal: what all records of a store are made under; another store's don't fit.
    """
    name = record.name.encode("utf-8", "surrogatepass")
    text = record.text.encode("utf-8", "surrogatepass")
    now = time.time_ns()
    head = _HEAD.pack(
        _RECORD,
        record.kind,
        _CODES[record.values.dtype],
        _CODES[record.ends.dtype],
        len(name),
        len(text),
        *record.values.shape,
        record.scale,
        record.error,
        now,
        record.key,
        record.stamp,
        bytes(_CHECKSUM),
    )
    parts = [name, text, _raw(record.values), _raw(record.ends)]
    head = head[:-_CHECKSUM]
    return b"".join([head, _checksum(seal, head, *parts), *parts]), now


def _raw(values: Tensor) -> bytes:
    flat = values.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _checksum(seal: bytes, *parts: Any) -> bytes:
    digest = hashlib.blake2b(key=seal, digest_size=_CHECKSUM)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _length(head: tuple[Any, ...]) -> int:
    """Of a record, told from its head."""
    _, _, values, ends, name, text, features, width = head[:8]
    if values not in _DTYPES or ends not in _DTYPES:
        return -1
    numbers = features * width * _DTYPES[values].itemsize
    return int(_HEAD.size + name + text + numbers + 2 * width * _DTYPES[ends].itemsize)


def _decoded(content: bytes, seal: bytes) -> Optional[Record]:
    """A record, if that is what the bytes are."""
    if len(content) < _HEAD.size:
        return None
    head = _HEAD.unpack_from(content)
    if head[0] != _RECORD or _length(head) != len(content):
        return None
    view = memoryview(content)
    body = view[_HEAD.size :]
    if _checksum(seal, view[: _HEAD.size - _CHECKSUM], body) != head[-1]:
        return None
    _, kind, values, ends, name, text, features, width, scale, error = head[:10]
    start = name + text
    middle = start + features * width * _DTYPES[values].itemsize
    shape = features, width
    return Record(
        head[11],
        bytes(body[:name]).decode("utf-8", "surrogatepass"),
        bytes(body[name:start]).decode("utf-8", "surrogatepass"),
        _numbers(body[start:middle], _DTYPES[values], shape),
        _numbers(body[middle:], _DTYPES[ends], (2, width)),
        scale,
        error,
        kind,
        head[12],
    )


def _numbers(content: memoryview, dtype: torch.dtype, shape: tuple[int, int]) -> Tensor:
    return from_bytes(content, dtype).reshape(shape) if content else torch.zeros(shape)


# ---- parts -------------------------------------------------------------------


def _read_only(path: Path) -> int:
    """A file of the directory itself, and not one that a link there leads to."""
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        if path.is_symlink():
            raise InvalidArgumentError(
                "directory", "files of its own", f"{path}, a link to somewhere else"
            ) from error
        raise damaged(path, error.strerror or str(error)) from error


def _pread(file: int, length: int, offset: int) -> bytes:
    os.lseek(file, offset, os.SEEK_SET)
    parts = []
    while length > 0:
        part = os.read(file, length)
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


class _Part:
    """One run's three files, as far as they belong together."""

    def __init__(self, stem: Path, seal: bytes) -> None:
        self.stem, self.seal = stem, seal
        # names of records that no row tells of, by their row
        self.untold: dict[int, str] = {}
        self.told = 0

    def path(self, ending: str) -> Path:
        return self.stem.with_name(f"{self.stem.name}.{ending}")

    def size(self, ending: str) -> int:
        try:
            return os.lstat(self.path(ending)).st_size
        except FileNotFoundError:
            return 0

    def rows(self) -> tuple[NDArray[Any], int]:
        """Of every record that is there whole, a row; and how many are lost."""
        told = self._told()
        # only then: a writer adds to the data first
        size, start = self.size("data"), len(_MAGIC) + len(self.seal)
        if size < start:
            return told[:0], len(told)
        file = _read_only(self.path("data"))
        try:
            self._check_start(_pread(file, start, 0))
            self.told = kept = self._prefix(told, start, size)
            found, end = told[:kept], start
            if kept:
                end = int(told["offset"][kept - 1]) + int(told["length"][kept - 1])
            if end < size:
                more = list(self._untold(file, end, size, kept))
                found = np.concatenate([found, np.array(more, dtype=_ROW)])
        finally:
            os.close(file)
        return found, max(len(told) - len(found), 0)

    def _told(self) -> NDArray[Any]:
        count = self.size("rows") // _ROW.itemsize
        if not count:
            return np.zeros(0, dtype=_ROW)
        file = _read_only(self.path("rows"))
        with open(file, "rb") as opened:
            return np.fromfile(opened, dtype=_ROW, count=count)

    def _prefix(self, told: NDArray[Any], start: int, size: int) -> int:
        """How many rows, from the first, fit what the other two files hold."""
        ends = told["offset"] + told["length"]
        before = np.concatenate([[np.uint64(start)], ends[:-1]])[: len(told)]
        names = told["name_end"]
        fits = (told["offset"] == before) & (ends <= np.uint64(size))
        fits &= names <= np.uint64(self.size("names"))
        fits &= np.diff(names.astype(np.int64), prepend=0) >= 0
        fits &= (told["kind"] <= INPUT) & np.isfinite(told["error"])
        return len(told) if bool(fits.all()) else int(fits.argmin())

    def _check_start(self, content: bytes) -> None:
        if content[: len(_MAGIC)] != _MAGIC:
            raise damaged(self.path("data"), "no part of a store")
        if content[len(_MAGIC) :] != self.seal:
            raise damaged(
                self.path("data"), "part of a store of another model or other settings"
            )

    def _untold(self, file: int, offset: int, size: int, row: int) -> Iterator[Any]:
        """Rows of records that lie behind the last one that has a row."""
        while offset + _HEAD.size <= size:
            head = _HEAD.unpack(_pread(file, _HEAD.size, offset))
            length = _length(head)
            if head[0] != _RECORD or length < 0 or offset + length > size:
                return
            record = _decoded(_pread(file, length, offset), self.seal)
            if record is None:
                return
            self.untold[row] = record.name
            yield _row(record, head[10], offset, length, 0)
            offset, row = offset + length, row + 1

    def read(self, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """Stretches of the records' file, (offset, length) each."""
        file = _read_only(self.path("data"))
        try:
            return [_pread(file, length, offset) for offset, length in places]
        finally:
            os.close(file)

    def names(self, rows: Sequence[int], ends: NDArray[np.uint64]) -> list[str]:
        """The names of rows, which ascend."""
        told = [row for row in rows if row < self.told]
        content = b""
        if told:
            file = _read_only(self.path("names"))
            with open(file, "rb") as opened:
                content = opened.read()
        found = []
        for row in rows:
            if row in self.untold:
                found.append(self.untold[row])
                continue
            start = int(ends[row - 1]) if row else 0
            name = content[start : int(ends[row])]
            found.append(name.decode("utf-8", "surrogatepass"))
        return found


def _row(
    record: Record, now: int, offset: int, length: int, name_end: int
) -> tuple[Any, ...]:
    high, low = struct.unpack("<QQ", record.key)
    stamps = struct.unpack("<QQ", record.stamp)
    mark = name_mark(record.name)
    where = (mark, name_end, offset, now, length)
    return (high, low, *stamps, *where, record.error, record.kind, 0)


class _Memory:
    """A part that is in no file."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.named: list[str] = []

    def read(self, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """The records of these numbers."""
        return [self.records[offset] for offset, _ in places]

    def names(self, rows: Sequence[int], ends: NDArray[np.uint64]) -> list[str]:
        """Of records by their numbers."""
        return [self.named[row] for row in rows]


# ---- writing -----------------------------------------------------------------


class _Writer:
    """The end of a part that this process writes, and no other one."""

    def __init__(self, directory: Path, seal: bytes) -> None:
        self.part = _Part(directory / f"part-{uuid.uuid4().hex}", seal)
        self.process = os.getpid()
        self.count = self.names = self.data = 0
        self._synced = time.monotonic()
        self._files: dict[str, int] = {}
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        flags |= getattr(os, "O_BINARY", 0)
        try:
            for ending in ("data", "names", "rows"):
                self._files[ending] = os.open(self.part.path(ending), flags, 0o666)
            self._write("data", _MAGIC + seal)
            self.data = len(_MAGIC) + len(seal)
        except OSError:
            self.close()
            raise

    def add(self, record: Record) -> tuple[Any, ...]:
        """Write a record, and then that it is there."""
        content, now = _encoded(record, self.part.seal)
        name = record.name.encode("utf-8", "surrogatepass")
        self._write("data", content)
        self._write("names", name)
        end = self.names + len(name)
        row = _row(record, now, self.data, len(content), end)
        self._write("rows", np.array([row], dtype=_ROW).tobytes())
        self.data, self.names = self.data + len(content), end
        self.count += 1
        self.part.told = self.count
        if time.monotonic() - self._synced > _SYNC:
            self.sync()
        return row

    def _write(self, ending: str, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(self._files[ending], view) :]

    def sync(self) -> None:
        """Have the disk keep it."""
        for file in self._files.values():
            os.fsync(file)
        self._synced = time.monotonic()

    def close(self) -> None:
        """No more comes; a part without a record is none."""
        files, self._files = self._files, {}
        try:
            if self.count:
                for file in files.values():
                    os.fsync(file)
        finally:
            for file in files.values():
                os.close(file)
            if not self.count:
                for ending in files:
                    self.part.path(ending).unlink(missing_ok=True)


# ---- the whole ---------------------------------------------------------------


class Store:
    """
    Records by their keys: of memory, or of a directory, where more can be written.

    Args:
        directory: where the parts are; None: nowhere.
        seal: 16 bytes, of all that the records depend on besides their inputs.

    Raises:
        InvalidArgumentError: naming ``directory``, for a part of another store.
    """

    def __init__(self, directory: Optional[Path], seal: bytes) -> None:
        self.directory, self.seal = directory, seal
        self.parts: list[Any] = []
        self._starts: list[int] = []
        self.rows = np.zeros(0, dtype=_ROW)
        self._lookups: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        self._fresh: list[Any] = []
        self._fresh_keys: set[bytes] = set()
        self._writer: Optional[_Writer] = None
        if directory is None:
            self.parts.append(_Memory())
        else:
            self._open(directory)

    def _open(self, directory: Path) -> None:
        stems = set()
        with os.scandir(directory) as entries:
            for entry in entries:
                match = _PART.fullmatch(entry.name)
                if match is not None:
                    stems.add(f"part-{match[1]}")
        found: list[NDArray[Any]] = []
        for stem in sorted(stems):
            part = _Part(directory / stem, self.seal)
            rows, lost = part.rows()
            if lost:
                warnings.warn(
                    f"{part.path('data')} was cut: {lost} inputs in it are lost, and "
                    "are computed again when they are asked for",
                    stacklevel=5,
                )
            if len(rows):
                self.parts.append(part)
                found.append(rows)
        order = sorted(range(len(found)), key=lambda at: int(found[at]["time"][0]))
        self.parts = [self.parts[at] for at in order]
        if len(found) == 1:
            self.rows, self._starts = found[0], [0]
            self.rows["part"] = 0
            return
        self.rows = np.empty(sum(map(len, found)), dtype=_ROW)
        start = 0
        for number, at in enumerate(order):
            rows, found[at] = found[at], self.rows[:0]
            stretch = self.rows[start : start + len(rows)]
            stretch[:] = rows
            stretch["part"] = number
            self._starts.append(start)
            start += len(rows)

    def __len__(self) -> int:
        return len(self.rows)

    # ---- finding -----------------------------------------------------------

    def find(self, digests: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The rows (n,) of keys (n, 2); -1 for what is not there."""
        return self._find("high", "low", digests)

    def find_stamps(self, stamps: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The rows (n,) that files of stamps (n, 2) were kept in."""
        return self._find("stamp_high", "stamp_low", stamps)

    def _find(
        self, high: str, low: str, wanted: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        if high not in self._lookups:
            order = np.argsort(self.rows[high], kind="stable")
            self._lookups[high] = order, self.rows[high][order]
        order, ordered = self._lookups[high]
        found = np.full(len(wanted), -1, dtype=np.int64)
        at = np.searchsorted(ordered, wanted[:, 0], "left")
        end = np.searchsorted(ordered, wanted[:, 0], "right")
        left = np.flatnonzero(at < end)
        while len(left):
            rows = order[at[left]]
            same = self.rows[low][rows] == wanted[left, 1]
            found[left[same]] = rows[same]
            left = left[~same]
            at[left] += 1
            left = left[at[left] < end[left]]
        return found

    def has(self, key: bytes) -> bool:
        """Whether something is kept of a key."""
        if key in self._fresh_keys:
            return True
        return bool(self.find(words_of_digest([key]))[0] >= 0)

    def inputs(self) -> NDArray[np.int64]:
        """The rows of all inputs in the order in which they came, none twice."""
        rows = np.flatnonzero(self.rows["kind"] == INPUT)
        times = self.rows["time"][rows]
        if bool((times[1:] < times[:-1]).any()):
            rows = rows[np.argsort(times, kind="stable")]
        order, ordered = self._sorted()
        twice = bool((ordered[1:] == ordered[:-1]).any())
        if not twice:
            return rows
        keys = np.stack([self.rows["high"][rows], self.rows["low"][rows]], axis=1)
        first = np.unique(keys, axis=0, return_index=True)[1]
        return rows[np.sort(first)]

    def _sorted(self) -> tuple[NDArray[Any], NDArray[Any]]:
        self._find("high", "low", np.zeros((0, 2), dtype=np.uint64))
        return self._lookups["high"]

    def failures(self) -> NDArray[np.int64]:
        """The rows of what could not be read, and was not read later either."""
        rows = np.flatnonzero(self.rows["kind"] == FAILURE)
        if not len(rows):
            return rows
        read = self.rows["name"][self.rows["kind"] == INPUT]
        return rows[~np.isin(self.rows["name"][rows], read)]

    def named(self, name: str) -> NDArray[np.int64]:
        """The rows that came under a name."""
        return np.flatnonzero(self.rows["name"] == np.uint64(name_mark(name)))

    # ---- reading -----------------------------------------------------------

    def records(self, rows: Sequence[int]) -> list[Record]:
        """
        What is kept in rows, in their order.

        Raises:
            InvalidArgumentError: naming ``directory`` and the file, if it is not what
                was written there.
        """
        found: dict[int, Record] = {}
        chosen = self.rows[np.asarray(rows, dtype=np.int64)]
        for number in np.unique(chosen["part"]).tolist():
            inside = np.flatnonzero(chosen["part"] == number)
            places = [
                (int(chosen["offset"][at]), int(chosen["length"][at])) for at in inside
            ]
            part = self.parts[number]
            for at, content in zip(inside.tolist(), part.read(places)):
                record = _decoded(content, self.seal)
                if record is None or not _is_row_of(chosen[at], record):
                    raise damaged(
                        part.path("data"),
                        "not what was written there; delete the files "
                        f"{part.stem.name}.*, and what they held is computed again",
                    )
                _check_numbers(record, part)
                found[at] = record
        return [found[at] for at in range(len(rows))]

    def names(self, rows: Sequence[int]) -> list[str]:
        """The names under which rows came."""
        numbers = np.asarray(rows, dtype=np.int64)
        of_part = self.rows["part"][numbers]
        found = np.empty(len(numbers), dtype=object)
        for number in np.unique(of_part).tolist():
            inside = np.flatnonzero(of_part == number)
            start = self._starts[number] if self._starts else 0
            ends = self.rows["name_end"][start:]
            places = (numbers[inside] - start).tolist()
            found[inside] = self.parts[number].names(places, ends)
        return list(found)

    # ---- writing -----------------------------------------------------------

    def open_to_write(self) -> None:
        """
        Begin a part.

        Raises:
            InvalidArgumentError: naming ``directory``, if nothing can be written there.
        """
        if self.directory is None:
            return
        try:
            if self._writer is not None:
                self._writer.close()
            self._writer = _Writer(self.directory, self.seal)
        except OSError as error:
            raise InvalidArgumentError(
                "directory",
                "one that can be written to",
                f"{self.directory}: {error.strerror or error}",
            ) from error

    def add(self, record: Record) -> int:
        """
        Write a record; :meth:`find` knows it after :meth:`settle`.

        Returns:
            how many bytes it takes.

        Raises:
            InvalidArgumentError: naming ``directory``, if it can't be written; all that
                was written before stays.
        """
        if self.directory is None:
            memory = self.parts[0]
            content, now = _encoded(record, self.seal)
            row = _row(record, now, len(memory.records), len(content), 0)
            memory.records.append(content)
            memory.named.append(record.name)
            self._take(row, 0, record.key)
            return len(content)
        writer = self._current()
        try:
            row = writer.add(record)
        except OSError as error:
            raise no_space(self.directory, error) from error
        if writer.part not in self.parts:
            self.parts.append(writer.part)
            self._starts.append(len(self.rows) + len(self._fresh))
        self._take(row, len(self.parts) - 1, record.key)
        return int(row[8])

    def _current(self) -> _Writer:
        """The part that is written to."""
        writer = self._writer
        if writer is not None and writer.process != os.getpid():
            writer = self._writer = None  # the parent process' own
        if writer is None or writer.data > _LARGEST:
            self.open_to_write()
        assert self._writer is not None
        return self._writer

    def _take(self, row: tuple[Any, ...], part: int, key: bytes) -> None:
        self._fresh.append((*row[:-1], part))
        self._fresh_keys.add(key)

    def settle(self) -> None:
        """Have the disk keep what was written, and find it from now on."""
        writer, self._writer = self._writer, None
        if self._fresh:
            fresh = np.array(self._fresh, dtype=_ROW)
            self.rows = np.concatenate([self.rows, fresh])
            self._fresh, self._fresh_keys, self._lookups = [], set(), {}
        if writer is not None:
            writer.close()


def _is_row_of(row: Any, record: Record) -> bool:
    own = _row(record, 0, 0, 0, 0)
    names = _ROW.names or ()
    return all(
        row[name] == own[at]
        for at, name in enumerate(names)
        if name in ("high", "low", "stamp_high", "stamp_low", "name", "kind")
    )


def _check_numbers(record: Record, part: Any) -> None:
    for numbers in (record.values, record.ends, torch.tensor(record.scale)):
        if not bool(numbers.isfinite().all()):
            raise damaged(part.path("data"), "numbers that are not finite")
