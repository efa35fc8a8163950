"""Saved results and stores that somebody changed: what was saved, or an error of ours
that names the directory."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import (
    Comparison,
    Contrast,
    Contributions,
    DualEncoder,
    load,
    PairExplanation,
    ZeroShot,
)
from captum_pairs.attr import InvalidArgumentError
from hypothesis import given, HealthCheck, settings, strategies as st
from PIL import Image

few = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
many = settings(few, max_examples=1500)

RESULTS: dict[str, Any] = {
    "explanation": PairExplanation,
    "contrast": Contrast,
    "comparison": Comparison,
    "zero_shot": ZeroShot,
}
QUICK = {"method": "jacobian_x_input", "layer": 0}
Change = tuple[str, int, int]


def _photo(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


# ---- changes -----------------------------------------------------------------

# What is done to a file, at which byte or value of it, with what.
changes = st.lists(
    st.tuples(
        st.sampled_from(
            ["flip", "cut", "append", "empty", "remove", "copy", "swap", "value"]
        ),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
    ),
    min_size=1,
    max_size=3,
)
_OTHERS: list[Any] = [
    *(None, True, -1, 0, 2**80, 0.5, 1e300, float("nan"), float("inf"), "", "x"),
    *("\udc80", [], [1, 2], [None] * 4, {}, {"name": 1}),
]


def _changed(folder: Path, what: str, at: int, by: int) -> None:
    """One file of a folder, changed."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return
    path, other = files[at % len(files)], files[by % len(files)]
    content = bytearray(path.read_bytes())
    if what == "flip" and content:
        content[by % len(content)] ^= 1 + at % 255
        path.write_bytes(content)
    elif what == "cut":
        path.write_bytes(content[: by % (len(content) + 1)])
    elif what == "append":
        path.write_bytes(content + bytes(by % 50))
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "remove":
        path.unlink()
    elif what == "copy":
        path.write_bytes(other.read_bytes())
    elif what == "swap":
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif what == "value" and path.suffix == ".json":
        try:
            written = json.loads(content)
        except ValueError:
            return
        path.write_text(json.dumps(_with_another_value(written, at, by)))


def _with_another_value(written: Any, at: int, by: int) -> Any:
    """The same but for one value somewhere in it."""
    holder, key = None, None
    inner = written
    while isinstance(inner, (dict, list)) and inner and (holder is None or at % 5):
        keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
        holder, key = inner, list(keys)[at % len(inner)]
        inner, at = holder[key], at // 3 + 1
    if holder is None:
        return _OTHERS[by % len(_OTHERS)]
    holder[key] = _OTHERS[by % len(_OTHERS)]
    return written


# ---- results -----------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(model: DualEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    several = ["jacobian_x_input", "token_similarity"]
    for result in (
        model.explain(_photo(0), "a red circle", **QUICK),
        model.contrast(_photo(0), "a circle", "a square", **QUICK),
        model.compare(_photo(0), "a circle", methods=several, layer=0),
        model.zero_shot(_photo(0), ["cat", "dog"], **QUICK),
    ):
        name = next(n for n, kind in RESULTS.items() if isinstance(result, kind))
        result.save(folder / name)
    return folder


def test_saved_is_loaded(saved: Path) -> None:
    for name, kind in RESULTS.items():
        found = kind.load(saved / name)
        assert found.summary()


def _read_or_refused(folder: Path, kind: Any, before: Any) -> None:
    try:
        found = kind.load(folder)
    except InvalidArgumentError as error:
        assert error.argument in ("directory", "format"), error
        return
    # what is read can be used, and is what it was once it is written again
    assert found.summary() and repr(found)
    again = folder / "again"
    found.save(again)
    assert kind.load(again) == found
    # numbers and pictures of the second file are those that were saved
    if isinstance(found, PairExplanation) and found != before:
        assert torch.equal(found.interactions, before.interactions)


def _one_changed_result(saved: Path, folder: Path, name: str, what: Any) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved / name, folder)
    before = RESULTS[name].load(folder)
    for change in what:
        _changed(folder, *change)
    _read_or_refused(folder, RESULTS[name], before)


@few
@given(st.sampled_from(sorted(RESULTS)), changes)
def test_a_changed_result_is_read_or_refused(
    saved: Path, tmp_path: Path, name: str, what: list[Change]
) -> None:
    _one_changed_result(saved, tmp_path / "changed", name, what)


@pytest.mark.slow
@many
@given(st.sampled_from(sorted(RESULTS)), changes)
def test_many_changed_results(
    saved: Path, tmp_path: Path, name: str, what: list[Change]
) -> None:
    _one_changed_result(saved, tmp_path / "changed", name, what)


# ---- stores ------------------------------------------------------------------

Stored = tuple[Path, list[Any]]


@pytest.fixture(scope="module")
def stored(model: DualEncoder, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """Two parts of a directory, and what is in it by the input's place."""
    folder = tmp_path_factory.mktemp("stored")
    for seeds in ((0, 1), (2, 3)):
        pictures = [_photo(seed) for seed in seeds]
        model.contributions(pictures, directory=folder, **QUICK)
    corpus = [_photo(seed) for seed in range(4)]
    return folder, list(model.contributions(corpus, directory=folder, **QUICK))


def _is_one_of(found: Any, known: list[Any]) -> bool:
    return any(found == each for each in known)


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """That a file was cut is a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _one_changed_store(
    model: DualEncoder, stored: Stored, folder: Path, what: list[Change]
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(stored[0], folder)
    for change in what:
        _changed(folder, *change)
    _checked(lambda: list(Contributions.load(folder)), stored[1], False)
    order = [2, 0, 3]
    corpus = [_photo(seed) for seed in order]
    _checked(
        lambda: list(model.contributions(corpus, directory=folder, **QUICK)),
        [stored[1][seed] for seed in order],
        True,
    )


def _checked(read: Callable[[], list[Any]], known: list[Any], in_order: bool) -> None:
    """What is there is what was kept of that input."""
    try:
        found = read()
    except InvalidArgumentError as error:
        # the settings of another model are named by what they are
        assert str(error), error
        return
    if in_order:
        assert found == known
    else:
        assert all(_is_one_of(each, known) for each in found)


@settings(few, max_examples=25)
@given(changes)
def test_a_changed_store_gives_what_was_kept_or_is_refused(
    model: DualEncoder, stored: Stored, tmp_path: Path, what: list[Change]
) -> None:
    _one_changed_store(model, stored, tmp_path / "changed", what)


@pytest.mark.slow
@settings(many, max_examples=800)
@given(changes)
def test_many_changed_stores(
    model: DualEncoder, stored: Stored, tmp_path: Path, what: list[Change]
) -> None:
    _one_changed_store(model, stored, tmp_path / "changed", what)
