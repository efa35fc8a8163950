"""Contributions of many inputs: found where they are kept, or computed and kept."""

import hashlib
import os
import shutil
import uuid
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from importlib import metadata
from pathlib import Path
from typing import Any, Optional, TypeVar, Union

import numpy as np
import PIL
import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.explain.content import (
    content_of,
    content_of_prepared,
    path_of,
    stamp_of,
)
from captum_pairs.explain.contributions import (
    Contributions,
    CONTRIBUTIONS,
    FORMAT,
    HOLDS,
    INDEX,
    KeptFiles,
    read_index,
)
from captum_pairs.explain.files import as_json, check_folder, input_to_json, write_new
from captum_pairs.explain.methods import check_width
from captum_pairs.explain.options import Options
from captum_pairs.explain.sides import (
    InputContributions,
    settings_of_side,
    side_of_query,
    stored,
)
from captum_pairs.explain.store import INPUT, Record, words_of_digest
from captum_pairs.models.encoder_pair import EncoderPair
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no types

__all__ = [
    "contribute",
    "corpus_of",
    "dtype_of",
    "names_of",
    "opened",
    "Run",
    "warn_of_failures",
]

Files = TypeVar("Files", bound=KeptFiles)

_DTYPES = {"float16": torch.float16, "float32": torch.float32}
# Inputs that could not be read, of which a warning tells the reasons.
_LISTED = 10
# How often an input is read again that changes meanwhile.
_TRIES = 3


def contribute(
    model: EncoderPair,
    inputs: Iterable[Any],
    side: Optional[str],
    directory: Union[str, Path, None],
    keys: Optional[Sequence[str]],
    dtype: str,
    options: Options,
) -> Contributions:
    """See :meth:`captum_pairs.DualEncoder.contributions`."""
    corpus = corpus_of(inputs)
    names = names_of(corpus, keys)
    number_type = dtype_of(dtype)
    at = 0 if side_of_query(model, corpus[0], side) == "first" else 1
    check_width(options.method, "contributions")
    with model.as_it_is():
        settings = {
            "name": model.name,
            "model": model.fingerprint,
            **settings_of_side(model, at, options),
            "dtype": dtype,
        }
        store, folder = opened(settings, directory, KeptFiles)
        run = Run(model, at, options, store, number_type, corpus, names)
        rows, places = run.found()
    warn_of_failures(run.failed, len(corpus) - len(rows), len(corpus), 3)
    kept = [names[place] for place in places.tolist()]
    return Contributions(settings, folder, store, rows, run.failed, kept, places)


def dtype_of(name: Any) -> torch.dtype:
    """As what numbers are kept."""
    if not isinstance(name, str) or name not in _DTYPES:
        came = repr(name) if isinstance(name, str) else validation.describe(name)
        raise InvalidArgumentError("dtype", f"one of {', '.join(_DTYPES)}", came)
    return _DTYPES[name]


def warn_of_failures(
    failed: Mapping[str, str], number: int, total: int, calls: int
) -> None:
    """Say which inputs were left out, and why, to who called so many calls before."""
    if not failed:
        return
    reasons = "".join(f"\n  {r}" for r in list(failed.values())[:_LISTED])
    more = len(failed) - _LISTED
    reasons += f"\n  and {more} more" if more > 0 else ""
    warnings.warn(
        f"{number} of {total} inputs could not be read and were left out (see "
        f".failed):{reasons}",
        stacklevel=calls + 1,
    )


class Run:
    """Inputs found in a store; what is not there is computed and put there."""

    # what a bar calls it
    computed = "contributions"

    def __init__(
        self,
        model: EncoderPair,
        at: int,
        options: Options,
        store: KeptFiles,
        dtype: torch.dtype,
        corpus: list[Any],
        names: list[str],
    ) -> None:
        self.model, self.at, self.options = model, at, options
        self.encoder = (model.first, model.second)[at]
        self.store, self.dtype = store, dtype
        self.corpus, self.names = corpus, names
        self.failed: dict[str, str] = {}
        # of each input its content's digest, once it is known
        self.contents: list[Optional[bytes]] = [None] * len(corpus)
        self.stamps: list[Optional[bytes]] = [None] * len(corpus)

    def found(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """
        Returns:
            the rows of the inputs that could be read, and their places among all.
        """
        self._look()
        waiting = self._waiting()
        if waiting:
            self._compute(waiting)
        digests = [content or bytes(16) for content in self.contents]
        rows = self.store.find(words_of_digest(digests))
        there = [
            content is not None and row >= 0
            for content, row in zip(self.contents, rows.tolist())
        ]
        places = np.flatnonzero(there)
        return rows[places], places

    # ---- what is there -----------------------------------------------------

    def _look(self) -> None:
        """The inputs' contents; of a file that did not change since it was kept, what
        was found then."""
        kind = self.encoder.kind
        paths = [path_of(kind, raw) for raw in self.corpus]
        self.stamps = [None if path is None else stamp_of(path) for path in paths]
        rows = self.store.find_stamps(
            words_of_digest([stamp or bytes(16) for stamp in self.stamps])
        )
        for place, (stamp, row) in enumerate(zip(self.stamps, rows.tolist())):
            if stamp is not None and row >= 0:
                kept = self.store.rows[row]
                self.contents[place] = _digest_of(kept["high"], kept["low"])
        left = [at for at, found in enumerate(self.contents) if found is None]
        for place in self._bar(left, "reading"):
            content = content_of(kind, self.corpus[place])
            self.contents[place] = self._key(place, content)

    def _key(self, place: int, content: Optional[bytes]) -> Optional[bytes]:
        """What an input of that content is kept under."""
        return content

    def _waiting(self) -> list[int]:
        """The places of inputs that are not there, none with the same content as an
        earlier one; of those that failed before, why."""
        rows = self._rows(self.contents)
        failures = self._rows([c and _key_of_failure(c) for c in self.contents])
        known = np.flatnonzero((rows < 0) & (failures >= 0))
        records = self.store.records(failures[known].tolist())
        for place, record in zip(known.tolist(), records):
            self.failed[self.names[place]] = record.text
        seen: set[bytes] = set()
        waiting = []
        for place in np.flatnonzero((rows < 0) & (failures < 0)).tolist():
            content = self.contents[place]
            if content is None or content not in seen:
                waiting.append(place)
            if content is not None:
                seen.add(content)
        return waiting

    def _rows(self, keys: Sequence[Optional[bytes]]) -> NDArray[np.int64]:
        rows = self.store.find(words_of_digest([key or bytes(16) for key in keys]))
        rows[[key is None for key in keys]] = -1
        return rows

    # ---- what is not -------------------------------------------------------

    def _compute(self, waiting: list[int]) -> None:
        """Contributions of the inputs that are not there yet."""
        wrong: Optional[InvalidArgumentError] = None
        can_write, done = False, 0
        try:
            for number, place in enumerate(self._bar(waiting, self.computed), 1):
                prepared = self._prepared(place)
                content = self.contents[place]
                if prepared is None or content is None or self.store.has(content):
                    continue
                if not can_write:
                    self.store.open_to_write()
                    can_write = True
                try:
                    record = self._record(place, prepared)
                except InvalidArgumentError as error:
                    wrong = wrong or error
                    self._fail(place, str(error), True)
                    continue
                size = self.store.add(record)
                done += 1
                if done == 1:
                    self._check_space(size * (len(waiting) - number))
        finally:
            self.store.settle()
            self._explain_twins()
        if wrong is not None and not done:
            raise wrong  # what is wrong with all of them is no broken input

    def _prepared(self, place: int) -> Any:
        """An input as the encoder takes it, whose content is what `contents` says; None
        if it can't be read."""
        raw = self.corpus[place]
        if isinstance(raw, InputContributions):
            return raw
        baseline = self.options.baselines(self.model)[self.at]
        path = path_of(self.encoder.kind, raw)
        for _ in range(_TRIES):
            before = _state_of(path)
            stamp = None if path is None else stamp_of(path)
            if path is not None and (stamp is None or stamp != self.stamps[place]):
                # it was written to since it was looked at, or may have been
                self.stamps[place] = stamp
                content = content_of(self.encoder.kind, raw)
                self.contents[place] = self._key(place, content)
            try:
                prepared = self.encoder.prepare(raw, baseline)
            except Exception as error:  # whatever the reader of a broken file raises
                self._fail(place, _reason(error), _is_lasting(error))
                return None
            if _state_of(path) == before:
                break
        else:
            self._fail(place, f"{path}: it is written to while it is read", False)
            return None
        if self.contents[place] is None:
            self.contents[place] = self._key(place, content_of_prepared(prepared))
        return prepared

    def _record(self, place: int, prepared: Any) -> Record:
        """What is kept of an input, rounded."""
        given = stored(self.model, self.at, prepared, self.options)
        content = self.contents[place]
        assert content is not None  # what could be prepared has one
        values = given.values
        if not bool(values.isfinite().all()):
            raise InvalidArgumentError(
                "input", "one whose contributions are finite", "NaN or infinite ones"
            )
        scale = 1.0
        if self.dtype == torch.float16:
            # half precision then never overflows
            scale = max(float(values.abs().max()) if values.numel() else 0.0, 1e-30)
            scale = float(torch.tensor(scale, dtype=torch.float32))
        rounded = (values / scale).to(self.dtype)
        norm = float(torch.linalg.vector_norm(values)) or 1.0
        missed = torch.linalg.vector_norm(rounded.to(values) * scale - values)
        return Record(
            content,
            self.names[place],
            as_json(input_to_json(given.input)),
            rounded,
            torch.stack([given.embedding, given.baseline_embedding]),
            scale,
            float(missed) / norm,
            INPUT,
            self.stamps[place] or bytes(16),
        )

    def _fail(self, place: int, reason: str, is_lasting: bool) -> None:
        """
        Args:
            is_lasting: whether the same content will fail again.
        """
        name, content = self.names[place], self.contents[place]
        self.failed[name] = reason
        if self.store.directory is None:
            return
        if content is None or not is_lasting:
            # not remembered for the next run, but listed
            marks = f"{name}\n{reason}".encode("utf-8", "surrogatepass")
            key = hashlib.blake2b(marks, digest_size=16).digest()
        else:
            key = _key_of_failure(content)
        if self.store.has(key):
            return
        try:
            self.store.add(Record.failure(key, name, reason))
        except InvalidArgumentError:
            pass  # a store that can't be written to still says what failed

    def _explain_twins(self) -> None:
        """Inputs of the same content fail together."""
        why = {
            self.contents[place]: self.failed[name]
            for place, name in enumerate(self.names)
            if name in self.failed and self.contents[place] is not None
        }
        for place, name in enumerate(self.names):
            content = self.contents[place]
            if content in why and not self.store.has(content or b""):
                self.failed.setdefault(name, why[content])

    def _check_space(self, needed: int) -> None:
        """Refuse to begin what the disk can't hold."""
        if self.store.directory is None:
            return
        free = shutil.disk_usage(self.store.directory).free
        if needed > free:
            raise InvalidArgumentError(
                "directory",
                f"{needed / 1e9:.2f} GB of space for the inputs that are left",
                f"{self.store.directory}: {free / 1e9:.2f} GB",
            )

    def _bar(self, places: list[int], what: str) -> Iterable[int]:
        bar: Iterable[int] = tqdm(
            places,
            desc=what,
            unit=f" {self.encoder.kind}s",
            delay=2,
            disable=not self.options.progress,
        )
        return bar


def _digest_of(high: Any, low: Any) -> bytes:
    return int(high).to_bytes(8, "little") + int(low).to_bytes(8, "little")


def _version() -> str:
    try:
        return metadata.version("captum-pairs")
    except metadata.PackageNotFoundError:
        return ""


# What reads inputs: another version may read what this one can't.
_READERS = f"{_version()} {PIL.__version__}"


def _key_of_failure(content: bytes) -> bytes:
    """Under which is kept that an input can't be read."""
    marks = b"failed " + _READERS.encode() + content
    return hashlib.blake2b(marks, digest_size=16).digest()


def _state_of(path: Optional[Path]) -> Optional[tuple[int, ...]]:
    """What changes when a file is written to."""
    if path is None:
        return None
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _reason(error: Exception) -> str:
    if isinstance(error, InvalidArgumentError):
        return str(error)
    lines = str(error).strip().splitlines() or ["no reason given"]
    return f"{type(error).__name__}: {lines[0]}"


def _is_lasting(error: Optional[BaseException]) -> bool:
    """Whether the same content fails again: not for want of memory or a disk's sake."""
    while error is not None:
        if isinstance(error, MemoryError):
            return False
        if isinstance(error, OSError) and error.errno is not None:
            return False
        error = error.__cause__
    return True


# ---- what is asked for -------------------------------------------------------


def corpus_of(inputs: Any) -> list[Any]:
    """Several inputs; one alone is refused, and not taken apart."""
    alone = (str, bytes, bytearray, memoryview, Path, Image, Tensor, np.ndarray)
    if isinstance(inputs, (*alone, InputContributions, Mapping, Set)):
        came = type(inputs).__name__
        is_one = not isinstance(inputs, (Mapping, Set))
        hint = ", which is one alone: put it in a list" if is_one else ""
        raise InvalidArgumentError("inputs", "a list of inputs", f"{came}{hint}")
    if hasattr(inputs, "read") or not isinstance(inputs, Iterable):
        came = type(inputs).__name__
        raise InvalidArgumentError("inputs", "a list of inputs", came)
    corpus = list(inputs)
    if not corpus:
        raise InvalidArgumentError("inputs", "at least one input", "none")
    return corpus


def names_of(corpus: list[Any], keys: Optional[Sequence[str]]) -> list[str]:
    """The inputs' names."""
    if keys is None:
        return [
            str(raw) if isinstance(raw, (str, Path)) else str(index)
            for index, raw in enumerate(corpus)
        ]
    if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
        raise InvalidArgumentError("keys", "a list of names", type(keys).__name__)
    try:
        names = [str(key) for key in keys]
    except TypeError as error:  # an array of one number says that it is iterable
        came = validation.describe(keys)
        raise InvalidArgumentError("keys", "a list of names", came) from error
    if len(names) != len(corpus) or len(set(names)) != len(names):
        raise InvalidArgumentError(
            "keys",
            f"{len(corpus)} different names, one for each input",
            f"{len(names)}, {len(set(names))} of them different",
        )
    return names


# ---- the directory -----------------------------------------------------------


def opened(
    settings: dict[str, Any],
    directory: Union[str, Path, None],
    store: type[Files],
) -> tuple[Files, Optional[Path]]:
    """
    What is kept already under the same settings, or an empty store.

    Args:
        store: what reads and writes it.
    """
    if directory is None:
        return store(None, settings), None
    folder = check_folder("directory", directory)
    try:
        if not (folder / INDEX).is_file():
            _write_index(folder, settings)
    except OSError as error:
        raise InvalidArgumentError(
            "directory",
            "one that can be written to, or in which contributions are kept",
            f"{folder}: {error.strerror or error}",
        ) from error
    kept = read_index(folder)
    if kept.pop("format") == 1:
        raise InvalidArgumentError(
            "directory",
            "one that is new, or that this version keeps contributions in",
            f"{folder}, where version 0.1 kept them by names and not by content: "
            "Contributions.load reads these, and nothing is added to them",
        )
    wanted, there = (each.get(HOLDS, CONTRIBUTIONS) for each in (settings, kept))
    if wanted != there:
        raise InvalidArgumentError(
            "directory", f"one that is new, or of {wanted}", f"{folder}, of {there}"
        )
    for name in {**settings, **kept}:
        if name != "name" and kept.get(name) != settings.get(name):
            mine, other = settings.get(name), kept.get(name)
            came = f"{folder}: {other!r}"
            if name == "model":  # a fingerprint says nothing to a person
                is_same = kept.get("name") == settings.get("name")
                came += f", of {kept.get('name')!r}"
                came += " with other weights" if is_same else ""
            raise InvalidArgumentError(
                "directory",
                f"{wanted} with {name} {mine!r} (or an empty directory)",
                came,
            )
    return store(folder, kept), folder


def _write_index(folder: Path, settings: Mapping[str, Any]) -> None:
    """Whole or not at all; another process' that was faster stays."""
    folder.mkdir(parents=True, exist_ok=True)
    content = as_json({"format": FORMAT, **settings}, 1).encode() + b"\n"
    aside = folder / f".{uuid.uuid4().hex}.part"
    try:
        write_new(aside, content)
        try:
            os.link(aside, folder / INDEX)
        except FileExistsError:
            return
        except OSError:  # no links there
            if not (folder / INDEX).exists():
                os.replace(aside, folder / INDEX)
    finally:
        aside.unlink(missing_ok=True)
