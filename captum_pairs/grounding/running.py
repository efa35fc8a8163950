"""Running a study on this machine: a plan, workers, and what is left after any stop."""

import math
import multiprocessing
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from captum_pairs import model as models
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.explain.options import Options
from captum_pairs.grounding.data import open_data
from captum_pairs.grounding.data.own import Given
from captum_pairs.grounding.data.reading import READERS
from captum_pairs.grounding.data.row import Data, Row
from captum_pairs.grounding.maps import check_model
from captum_pairs.grounding.on_ray import run_on_ray
from captum_pairs.grounding.results import (
    has_plan,
    load,
    read_plan,
    Results,
    Shards,
    write_plan,
)
from captum_pairs.grounding.studies import study_of
from captum_pairs.grounding.study import Record, studied_at, Study
from captum_pairs.model import DualEncoder
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no types
from transformers.utils import logging

__all__ = ["run"]

# Rows that are worth the start of another process.
_ROWS_A_PROCESS = 64
# Rows that a worker takes at a time.
_MOST_AT_A_TIME = 8
# Seconds after which records are written: often at first, less often later, so that a
# stop costs little of a short run, and a long one makes no more files than it must.
_FLUSHED_AFTER, _FLUSHED_AT_MOST, _LONGER = 2.0, 60.0, 1.2
# Seconds that workers have for the rows they are at, when all is stopped.
_LAST_ROWS = 10.0
# Of a worker beside its model.
_BYTES_A_PROCESS = 1.5e9


def run(
    study: Union[str, Study],
    data: Union[str, Sequence[Row]],
    model: Union[str, DualEncoder],
    out: Union[str, Path],
    *,
    sample: Optional[int] = None,
    seed: int = 0,
    data_options: Optional[Mapping[str, Any]] = None,
    parameters: Optional[Mapping[str, Any]] = None,
    device: Optional[str] = None,
    on: str = "local",
    processes: Optional[int] = None,
    progress: bool = False,
    **options: Any,
) -> Results:
    """
    A study of a model over a data set; what is there already is not computed again.

    The plan is written before the first row. A run that was stopped, however, goes on
    when it is called again with the same arguments.

    Args:
        study: its name, or one with its parameters.
        data: as :func:`captum_pairs.grounding.open_data` takes it, what it gave, or a
            list of rows.
        model: as :func:`captum_pairs.load` takes it, or a model.
        out: the directory of the results.
        sample: so many rows, drawn at random. Default: all
        seed: of the sample.
        data_options: of the reader.
        parameters: the study's own.
        device: where it is computed.
        on: "local", or "ray" for a Ray cluster (see
            :mod:`captum_pairs.grounding.on_ray`).
        processes: on this machine. Default: one for each GPU, or for each core as far
            as there are rows and memory for it.
        progress: a bar on standard error.
        **options: of :meth:`captum_pairs.DualEncoder.explain`.

    Raises:
        InvalidArgumentError: for an argument that does not fit; naming ``directory``,
            if it has results of something else.
    """
    if on not in ("local", "ray"):
        raise InvalidArgumentError("on", "'local' or 'ray'", repr(on))
    if processes is not None:
        validation.positive_int("processes", processes)
    validation.positive_int("seed", seed, 0)
    rows = _opened(data, data_options or {}, on)
    if not len(rows):
        reasons = ", ".join(f"{n} {r}" for r, n in rows.left_out.counts.items())
        raise InvalidArgumentError(
            "data", "at least one row that can be used", f"none ({reasons or 'empty'})"
        )
    places = sampled(len(rows), sample, seed)
    Options.of(options)  # a wrong one is told before a model is loaded
    asked = _study(study, parameters, options)
    loaded = (
        model if isinstance(model, DualEncoder) else models.load(model, device=device)
    )
    check_model(loaded)
    planned = _planned(Path(out), asked, rows, places, seed, loaded, options)
    shards = Shards(out, planned.columns)
    work = _Work(planned, rows, loaded, model, device, Path(out))
    if on == "ray":
        run_on_ray(planned, rows, _name_of(model), device, shards, places, progress)
    else:
        _run_here(work, shards, places, processes, progress)
    return load(out)


def _opened(
    data: Union[str, Sequence[Row]], options: Mapping[str, Any], on: str
) -> Data:
    if isinstance(data, str):
        return open_data(data, **options)
    rows = data if isinstance(data, Data) else Given(data)
    if on == "ray" and rows.name.partition(":")[0] not in READERS:
        expected = 'the name of data that every worker can open, such as "rows:FILE"'
        raise InvalidArgumentError("data", expected, "rows in memory")
    return rows


def sampled(number: int, sample: Optional[int], seed: int) -> list[int]:
    """The places of a random sample, in a random order."""
    if sample is not None:
        validation.positive_int("sample", sample)
    order = np.random.default_rng(seed).permutation(number)
    return [int(place) for place in order[:sample]]


def _study(
    study: Union[str, Study],
    parameters: Optional[Mapping[str, Any]],
    options: Mapping[str, Any],
) -> Study:
    if isinstance(study, Study):
        if parameters:
            raise InvalidArgumentError(
                "parameters", "None beside a study that has its own", "some"
            )
        return study_of(study.name, {**study.parameters(), "options": dict(options)})
    return study_of(study, {**(parameters or {}), "options": dict(options)})


def _name_of(model: Union[str, DualEncoder]) -> str:
    return model if isinstance(model, str) else model.name


def _planned(
    out: Path,
    study: Study,
    data: Data,
    places: Sequence[int],
    seed: int,
    model: DualEncoder,
    options: Mapping[str, Any],
) -> Study:
    """The study as the plan has it, which is written if there is none."""
    asked = {
        "study": study.name,
        "asked": _as_json(study.parameters()),
        "data": {
            "name": data.name,
            "options": dict(data.options),
            "rows": len(data),
        },
        "sample": {"size": len(places), "seed": seed},
        "model": model.name,
        "weights": model.fingerprint,
        "settings": [_settings(model, at, options) for at in (0, 1)],
    }
    if has_plan(out):
        write_plan(out, asked)
        plan = read_plan(out)
    else:
        ready = study.prepared(data, places)
        plan = {
            **asked,
            "parameters": _as_json(ready.parameters()),
            "left_out": data.left_out.as_json(),
            "versions": _versions(),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        write_plan(out, plan)
    return study_of(plan["study"], plan["parameters"])


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _as_json(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_as_json(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InvalidArgumentError(
        "options", "numbers, texts and lists, which a plan can hold", repr(value)
    )


def _settings(
    model: DualEncoder, at: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """A side's layer, baseline, tolerance and more, in words and numbers."""
    found: dict[str, Any] = _as_json(Options.of(options).of_side(model, at))
    return found


def _versions() -> dict[str, str]:
    names = ["captum-pairs", "torch", "captum", "transformers", "numpy", "pyarrow"]
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


# ---- workers -----------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    """What a worker needs: the model itself, or the name by which it loads it."""

    study: Study
    data: Data
    loaded: Optional[DualEncoder]
    model: Union[str, DualEncoder]
    device: Optional[str]
    out: Path

    def on(self, device: Optional[str]) -> "_Work":
        """For another process."""
        return _Work(self.study, self.data, None, self.model, device, self.out)

    def encoders(self) -> DualEncoder:
        if self.loaded is not None:
            return self.loaded
        if isinstance(self.model, DualEncoder):
            return self.model
        return models.load(self.model, device=self.device)


class _Writer:
    """Records that wait to be written."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._records: list[Record] = []
        self._after = _FLUSHED_AFTER
        self._began = time.monotonic()

    def add(self, records: Sequence[Record]) -> None:
        self._records += records
        if time.monotonic() - self._began >= self._after:
            self.flush()

    def flush(self) -> None:
        self._shards.add(self._records)
        self._records = []
        self._after = min(self._after * _LONGER, _FLUSHED_AT_MOST)
        self._began = time.monotonic()


def _run_here(
    work: _Work,
    shards: Shards,
    places: Sequence[int],
    processes: Optional[int],
    progress: bool,
) -> None:
    before = -1
    with _bar(len(places), progress) as bar:
        while True:
            done = shards.done()
            left = [place for place in places if place not in done]
            bar.update(len(places) - len(left) - bar.n)
            if not left:
                return
            if len(left) == before:
                raise RuntimeError(
                    f"{len(left)} rows are left, and the workers that studied them "
                    "ended without a result. Were they killed for want of memory? Or "
                    "is this a script whose work does not stand below "
                    "if __name__ == '__main__':, which every worker reads anew?"
                )
            before = len(left)
            devices = _devices(work, processes, len(left))
            if len(devices) == 1:
                _work_alone(work, shards, left, bar)
            else:
                _work_together(work, left, devices, bar)


def _bar(number: int, progress: bool) -> Any:
    return tqdm(total=number, unit=" rows", disable=not progress, delay=2)


def _devices(work: _Work, processes: Optional[int], rows: int) -> list[Optional[str]]:
    """Of each process where it computes."""
    if (
        processes is None
        and work.device in (None, "cuda")
        and torch.cuda.is_available()
    ):
        number = min(torch.cuda.device_count(), math.ceil(rows / _ROWS_A_PROCESS))
        return [f"cuda:{at}" for at in range(number)]
    if processes is None and work.device in (None, "cpu"):
        useful = min(_cores(), math.ceil(rows / _ROWS_A_PROCESS))
        return [work.device] * max(1, min(useful, _fitting(work)))
    return [work.device] * min(processes or 1, rows)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _fitting(work: _Work) -> int:
    """How many processes' models fit into what memory is free."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 1
    model = work.encoders()
    sizes = {
        id(p): p.numel() * p.element_size()
        for encoder in (model.first, model.second)
        if encoder.module is not None
        for p in encoder.module.parameters()
    }
    return int(free // (3 * sum(sizes.values()) + _BYTES_A_PROCESS))


def _work_alone(work: _Work, shards: Shards, places: Sequence[int], bar: Any) -> None:
    model, writer = work.encoders(), _Writer(shards)
    try:
        for start in range(0, len(places), _MOST_AT_A_TIME):
            some = places[start : start + _MOST_AT_A_TIME]
            writer.add(studied_at(work.study, work.data, some, model))
            bar.update(len(some))
    finally:
        writer.flush()


def _work_together(
    work: _Work, places: Sequence[int], devices: Sequence[Optional[str]], bar: Any
) -> None:
    """Each process takes a few rows at a time from those that are left; one that ends
    early leaves its last ones to the next round."""
    context = multiprocessing.get_context("spawn")  # torch's threads don't survive fork
    taken = context.Value("q", 0)
    done = context.Value("q", 0)
    # without a lock, which a worker that was killed would keep
    stopped = context.Value("b", 0, lock=False)
    threads = max(1, _cores() // len(devices))
    workers = [
        context.Process(
            target=_worker,
            args=(work.on(device), places, taken, done, stopped, threads, os.getpid()),
            daemon=True,
        )
        for device in devices
    ]
    before = bar.n
    try:
        with _without_interrupts():
            for worker in workers:
                worker.start()
        while any(worker.is_alive() for worker in workers):
            time.sleep(0.1)
            if before + done.value > bar.n:
                bar.update(before + done.value - bar.n)
    finally:
        stopped.value = 1
        for worker in workers:
            if worker.pid is not None:  # it was started
                worker.join(_LAST_ROWS)
            if worker.is_alive():
                worker.terminate()
                worker.join()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile leave Ctrl-C to this one."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _worker(
    work: _Work,
    places: Sequence[int],
    taken: Any,
    done: Any,
    stopped: Any,
    threads: int,
    parent: int,
) -> None:
    torch.set_num_threads(threads)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # one is enough
    model = work.encoders()
    writer = _Writer(Shards(work.out, work.study.columns))
    number = min(_MOST_AT_A_TIME, max(1, len(places) // 16))
    try:
        # nobody waits for an orphan
        while os.getppid() == parent and not stopped.value:
            with taken.get_lock():
                start, taken.value = taken.value, taken.value + number
            if start >= len(places):
                return
            some = places[start : start + number]
            writer.add(studied_at(work.study, work.data, some, model))
            with done.get_lock():
                done.value += len(some)
    finally:
        writer.flush()
