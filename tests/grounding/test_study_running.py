"""Running a study: the plan comes first, and after any stop no row is lost or twice."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from captum_pairs import grounding
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding import running
from captum_pairs.grounding.data.own import Given
from captum_pairs.grounding.data.row import Row
from captum_pairs.grounding.results import Results, Shards
from captum_pairs.grounding.running import sampled
from captum_pairs.grounding.studies.gaps import Gaps
from captum_pairs.model import DualEncoder
from grounding_rows import row_of
from torch import nn
from transformers import TrainerState

QUICK: dict[str, Any] = {"layer": (-1, -1), "tolerance": 0.3}


def _data(number: int = 6) -> Given:
    return Given([row_of(seed) for seed in range(number)])


class _Stopping(Given):
    """Rows of which one stops everything, as Ctrl-C does."""

    stop_at = 3

    def row(self, place: int) -> Row:
        if place == self.stop_at:
            raise KeyboardInterrupt
        return super().row(place)


def same(one: Results, other: Results) -> None:
    """The same records, values to 1e-5."""
    assert one.rows.schema == other.rows.schema
    for name in one.rows.column_names:
        left, right = one.rows[name], other.rows[name]
        if pyarrow.types.is_floating(left.type):
            np.testing.assert_allclose(
                left.to_numpy(), right.to_numpy(), atol=1e-5, err_msg=name
            )
        else:
            assert left.to_pylist() == right.to_pylist(), name


def test_a_run_and_its_plan(model: DualEncoder, tmp_path: Path) -> None:
    results = grounding.run(
        "gaps", _data(), model, tmp_path, sample=4, seed=1, processes=1, **QUICK
    )
    plan = results.plan
    assert plan["study"] == "gaps" and plan["sample"] == {"size": 4, "seed": 1}
    assert plan["weights"] == model.fingerprint
    assert [side["layer"] for side in plan["settings"]] == ["input of block 1 of 2"] * 2
    assert plan["settings"][0]["baseline"] == "mean color"
    assert plan["settings"][1]["tolerance"] == 0.3
    assert torch.__version__.startswith(plan["versions"]["torch"])
    places = sorted(set(results.rows["place"].to_pylist()))
    assert places == sorted(sampled(6, 4, 1)) and len(results.rows) == 8
    assert results.counts == {"planned": 4, "done": 4, "failed": 0, "records": 8}
    expected = Gaps(options=QUICK).records(row_of(places[0]), model)
    assert results.rows["word_energy"][0].as_py() == expected[0]["word_energy"]


def test_the_sample_is_random_and_the_same_again() -> None:
    assert sampled(100, 10, 0) == sampled(100, 10, 0) != sampled(100, 10, 1)
    assert sampled(100, 10, 0) == sampled(100, 20, 0)[:10]
    assert sorted(sampled(5, None, 0)) == list(range(5))


def test_the_plan_is_there_before_the_first_row(
    model: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked_at(*arguments: Any) -> Any:
        assert (tmp_path / "plan.json").is_file()
        assert not Shards(tmp_path, Gaps.columns).files()
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "studied_at", looked_at)
    with pytest.raises(KeyboardInterrupt):
        grounding.run("gaps", _data(), model, tmp_path, processes=1)


def test_it_goes_on_where_it_was_stopped(
    model: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_MOST_AT_A_TIME", 2)
    rows = [row_of(seed) for seed in range(6)]
    stopping = _Stopping(rows)
    stopping.stop_at = sampled(6, None, 0)[5]
    whole = grounding.run(
        "gaps", Given(rows), model, tmp_path / "whole", processes=1, **QUICK
    )
    with pytest.raises(KeyboardInterrupt):
        grounding.run("gaps", stopping, model, tmp_path / "cut", processes=1, **QUICK)
    cut = grounding.load(tmp_path / "cut")
    assert cut.counts["done"] == 4  # the last few were not written
    asked: list[int] = []

    class Counted(Given):
        def row(self, place: int) -> Row:
            asked.append(place)
            return super().row(place)

    again = grounding.run(
        "gaps", Counted(rows), model, tmp_path / "cut", processes=1, **QUICK
    )
    assert len(asked) == 2
    same(whole, again)


def test_what_is_asked_for_has_to_be_the_same(
    model: DualEncoder, tmp_path: Path
) -> None:
    rows = [row_of(0), row_of(1)]
    results = grounding.run("gaps", rows, model, tmp_path, processes=1, **QUICK)
    assert results.counts["done"] == 2
    with pytest.raises(InvalidArgumentError, match="results of data"):
        others = [row_of(2), row_of(3)]
        grounding.run("gaps", others, model, tmp_path, processes=1, **QUICK)
    for other, name in (
        ({"seed": 3}, "sample"),
        ({"parameters": {"measure": "energy"}}, "asked"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"results of {name}"):
            grounding.run("gaps", _data(2), model, tmp_path, **{**QUICK, **other})
    with pytest.raises(InvalidArgumentError, match="results of asked"):
        grounding.run("gaps", _data(2), model, tmp_path, layer=0)


def test_a_broken_row_is_its_own_error(model: DualEncoder, tmp_path: Path) -> None:
    rows = [row_of(0), row_of(1, image="no/such.png"), row_of(2, spans=())]

    class Broken(Given):
        def row(self, place: int) -> Row:
            if place == 3:
                raise OSError("disk on fire")
            return super().row(place)

    data = Broken([*rows, row_of(3)])
    results = grounding.run("gaps", data, model, tmp_path, processes=1, **QUICK)
    assert results.counts == {"planned": 4, "done": 4, "failed": 3, "records": 2}
    assert results.errors["row 3"] == "OSError: disk on fire"
    assert "no/such.png" in results.errors["row-1"]
    assert results.errors["row-2"] == "nothing to study: gaps needs a row with spans"
    grounding.run("gaps", data, model, tmp_path, processes=1, **QUICK)
    assert len(Shards(tmp_path, Gaps.columns).files()) == 1  # nothing was done again


@pytest.mark.parametrize(
    "change, message",
    [
        ({"study": "guesses"}, "study: expected one of grounding"),
        ({"data": "scenes:0"}, "data: expected scenes:NUMBER"),
        ({"data": "moons:3"}, "data: expected one of scenes"),
        ({"data": "scenes:3", "data_options": {"images": "x"}}, "images: expected"),
        ({"sample": 0}, "sample: expected a whole number"),
        ({"seed": -1}, "seed: expected"),
        ({"on": "moon"}, "on: expected 'local' or 'ray'"),
        ({"processes": 0}, "processes: expected"),
        ({"tolerance": -1.0}, "tolerance: expected"),
        ({"colour": 1}, "colour: expected one of"),
        ({"parameters": {"colour": 1}}, "study: expected parameters of gaps"),
        ({"parameters": {"trained_on": "a.txt"}}, "trained_on: expected counts"),
        (
            {"study": "grounding", "parameters": {"permuted": "no"}},
            "permuted: expected",
        ),
        ({"study": "grounding", "parameters": {"seed": -1}}, "seed: expected"),
        ({"study": "retrieval", "parameters": {"gallery": 0}}, "gallery: expected"),
        (
            {"study": "faithfulness", "parameters": {"methods": "occlusion"}},
            "methods: expected a list",
        ),
        (
            {"study": "faithfulness", "parameters": {"methods": ["magic"]}},
            "methods: expected a list of methods",
        ),
        ({"data": Given([])}, "data: expected at least one row"),
        ({"data": ["a.png"]}, "rows: expected rows, got"),
        ({"data": _data(2), "on": "ray"}, "data: expected the name of data that every"),
    ],
)
def test_wrong_arguments(
    model: DualEncoder, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    given = {"study": "gaps", "data": _data(2), "model": model, "out": tmp_path}
    with pytest.raises(InvalidArgumentError, match=message):
        grounding.run(**{**given, **change})


def test_how_many_processes(
    model: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = running._Work(Gaps(), _data(), model, model, None, tmp_path)
    monkeypatch.setattr(running, "_cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert len(running._devices(work, None, 10)) == 1  # no use to start another one
    assert len(running._devices(work, 3, 10)) == 3
    assert len(running._devices(work, 3, 2)) == 2
    monkeypatch.setattr(running, "_fitting", lambda work: 5)
    assert len(running._devices(work, None, 10_000)) == 5
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert running._devices(work, None, 10_000) == ["cuda:0", "cuda:1"]


def test_during_training(model: DualEncoder, tmp_path: Path) -> None:
    module = model.first.module
    assert isinstance(module, nn.Module)
    watch = grounding.DuringTraining("gaps", _data(2), tmp_path, every=2, **QUICK)
    module.train()
    try:
        assert watch(0, model) is not None
        assert watch(1, model) is None
        assert watch(2, lambda: model) is not None
        assert module.training
    finally:
        module.eval()
    names = watch.curve()["name"].unique().to_pylist()
    assert names == ["0", "2"]
    with pytest.raises(InvalidArgumentError, match="every: expected"):
        grounding.DuringTraining("gaps", _data(2), tmp_path, every=0)


@pytest.mark.parametrize("is_first", [True, False])
def test_one_of_the_processes_that_train_looks(
    model: DualEncoder, tmp_path: Path, is_first: bool
) -> None:
    looked: list[int] = []

    class Watch(grounding.DuringTraining):
        def __call__(self, step: int, model: Any) -> None:
            looked.append(step)

    watch = Watch("gaps", _data(2), tmp_path).callback(None)
    state = TrainerState(global_step=7, is_world_process_zero=is_first)
    watch.on_step_end(None, state, None, model=model.first.module)
    assert looked == ([7] if is_first else [])


def test_a_worker_that_is_stopped_writes_what_it_has(
    model: DualEncoder, tmp_path: Path
) -> None:
    work = running._Work(Gaps(options=QUICK), _data(), model, model, None, tmp_path)
    (tmp_path / "rows").mkdir()
    taken, done = (multiprocessing.Value("q", 0) for _ in range(2))

    class Stopped:
        asked = 0

        @property
        def value(self) -> int:
            self.asked += 1
            return int(self.asked > 2)

    threads = torch.get_num_threads()
    running._worker(
        work, range(6), taken, done, Stopped(), threads, parent=os.getppid()
    )
    assert Shards(tmp_path, Gaps.columns).done() == {0, 1} and done.value == 2


_ASKED = "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"


def test_processes_that_are_started_leave_interrupts_alone() -> None:
    with running._without_interrupts():
        child = subprocess.run(
            [sys.executable, "-c", _ASKED], capture_output=True, text=True
        )
    assert child.stdout.strip() == "True"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# ---- processes of their own --------------------------------------------------

_SCRIPT = """
import sys
from captum_pairs import grounding
if __name__ == "__main__":
    grounding.run("gaps", "scenes:40", "scenes", sys.argv[1],
                  processes=int(sys.argv[2]), layer=(-1, -1), tolerance=0.3)
"""


@pytest.mark.slow
def test_two_processes_find_the_same(tmp_path: Path) -> None:
    runs = [
        grounding.run(
            "gaps", "scenes:24", "scenes", tmp_path / str(n), processes=n, **QUICK
        )
        for n in (1, 2)
    ]
    same(*runs)


@pytest.mark.slow
def test_nothing_is_lost_or_twice_after_kills(tmp_path: Path) -> None:
    whole = grounding.run(
        "gaps", "scenes:40", "scenes", tmp_path / "whole", processes=1, **QUICK
    )
    chance = random.Random(0)
    out, processes = tmp_path / "killed", 1
    for kill in range(10):
        processes = 1 if kill < 5 else 2
        command = [sys.executable, "-c", _SCRIPT, str(out), str(processes)]
        if processes == 2:  # spawned processes import the script by its file
            script = tmp_path / "script.py"
            script.write_text(_SCRIPT)
            command[1:3] = [str(script)]
        run = subprocess.Popen(command)
        time.sleep(chance.uniform(6, 16))
        victim = run.pid
        workers = _children(run.pid)
        if workers and chance.random() < 0.5:
            victim = chance.choice(workers)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it had ended
        run.wait(300)
    done = grounding.run("gaps", "scenes:40", "scenes", out, processes=1, **QUICK)
    same(whole, done)
    assert done.counts["done"] == 40


def _children(pid: int) -> list[int]:
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(each) for each in file.read_text().split()] if file.exists() else []
