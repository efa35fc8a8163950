"""The log that contributions are kept in: whatever happens to a writer or to its files,
a record is the one that was written, or is not there."""

import hashlib
import os
import pickle
import resource
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explain import store as module
from captum_pairs.explain.store import FAILURE, Record, Store, words_of_digest

SEAL = bytes(range(16))


def key(number: int) -> bytes:
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def record(number: int) -> Record:
    """Of another size for each number."""
    generator = torch.Generator().manual_seed(number)
    values = torch.randn(1 + number % 3, 4, generator=generator).half()
    ends = torch.randn(2, 4, generator=generator)
    name = f"{number} caf\udce9.png"
    return Record(key(number), name, f'{{"n": {number}}}', values, ends, 1.5, 0.25)


def filled(folder: Path, numbers: range) -> Store:
    folder.mkdir(exist_ok=True)
    store = Store(folder, SEAL)
    for number in numbers:
        store.add(record(number))
    store.settle()
    return store


def numbers_in(store: Store, upto: int) -> list[int]:
    """Which are there; each as it was written."""
    rows = store.find(words_of_digest([key(number) for number in range(upto)]))
    there = [number for number in range(upto) if rows[number] >= 0]
    found = store.records(rows[rows >= 0].tolist())
    for number, kept in zip(there, found):
        expected = record(number)
        assert torch.equal(kept.values, expected.values)
        assert torch.equal(kept.ends, expected.ends)
        assert replace(kept, values=expected.values, ends=expected.ends) == expected
    names = store.names(rows[rows >= 0].tolist())
    assert names == [record(number).name for number in there]
    return there


def test_what_was_written_is_read(tmp_path: Path) -> None:
    for store in (filled(tmp_path, range(5)), Store(tmp_path, SEAL)):
        assert numbers_in(store, 7) == [0, 1, 2, 3, 4]
        assert len(store.inputs()) == 5 and not len(store.failures())
        assert store.named(record(3).name).tolist() == [3]
        assert store.has(key(2)) and not store.has(key(9))


def test_in_memory_as_on_disk() -> None:
    store = Store(None, SEAL)
    for number in range(4):
        store.add(record(number))
    assert store.has(key(1))
    store.settle()
    assert numbers_in(store, 6) == [0, 1, 2, 3]
    assert numbers_in(pickle.loads(pickle.dumps(store)), 6) == [0, 1, 2, 3]


def test_in_the_order_of_arrival_and_none_twice(tmp_path: Path) -> None:
    """Two writers at the same time, who both write some of it."""
    one, other = Store(tmp_path, SEAL), Store(tmp_path, SEAL)
    for writer, number in [(one, 3), (other, 1), (one, 2), (other, 3), (one, 0)]:
        writer.add(record(number))
    one.settle(), other.settle()
    store = Store(tmp_path, SEAL)
    assert len(store) == 5 and len(list(tmp_path.glob("*.data"))) == 2
    assert numbers_in(store, 4) == [0, 1, 2, 3]
    names = store.names(store.inputs().tolist())
    assert names == [record(number).name for number in (3, 1, 2, 0)]


def files_of(folder: Path) -> dict[str, Path]:
    return {path.suffix[1:]: path for path in folder.glob("part-*")}


def stops(folder: Path) -> Iterator[dict[str, int]]:
    """How far the three files came when a writer was stopped at any byte: records are
    written before their names, and names before their rows."""
    sizes = {ending: path.stat().st_size for ending, path in files_of(folder).items()}
    rows = np.frombuffer(files_of(folder)["rows"].read_bytes(), module._ROW)
    at = {"data": int(rows["offset"][0]), "names": 0, "rows": 0}
    for size in range(at["data"]):
        yield {"data": size, "names": 0, "rows": 0}
    for row in rows:
        ends = {
            "data": int(row["offset"] + row["length"]),
            "names": int(row["name_end"]),
            "rows": at["rows"] + module._ROW.itemsize,
        }
        for ending in ("data", "names", "rows"):
            for size in range(at[ending], ends[ending]):
                yield {**at, ending: size}
            at[ending] = ends[ending]
    assert at == sizes
    yield at


def test_stopped_at_any_byte(tmp_path: Path) -> None:
    """What was whole is there; what comes next goes on beside it."""
    count = 3
    filled(tmp_path / "whole", range(count))
    whole = {e: path.read_bytes() for e, path in files_of(tmp_path / "whole").items()}
    rows = np.frombuffer(whole["rows"], module._ROW)
    ends = (rows["offset"] + rows["length"]).tolist()
    cut = tmp_path / "cut"
    cut.mkdir()
    tried = 0
    for sizes in stops(tmp_path / "whole"):
        for ending, size in sizes.items():
            (cut / f"part-{'0' * 32}.{ending}").write_bytes(whole[ending][:size])
        expected = sum(end <= sizes["data"] for end in ends)
        assert numbers_in(Store(cut, SEAL), count) == list(range(expected))
        tried += 1
    assert tried > 500
    filled(cut, range(count, count + 1))
    assert numbers_in(Store(cut, SEAL), 9) == list(range(count + 1))


def test_what_rows_and_names_lack_is_read_from_the_records(tmp_path: Path) -> None:
    filled(tmp_path, range(4))
    files = files_of(tmp_path)
    files["names"].unlink()
    assert numbers_in(Store(tmp_path, SEAL), 4) == [0, 1, 2, 3]
    files["rows"].unlink()
    assert numbers_in(Store(tmp_path, SEAL), 4) == [0, 1, 2, 3]


def test_a_file_that_was_cut_afterwards_is_noticed(tmp_path: Path) -> None:
    filled(tmp_path, range(4))
    data = files_of(tmp_path)["data"]
    os.truncate(data, data.stat().st_size - 1)
    with pytest.warns(UserWarning, match="was cut: 1 inputs in it are lost"):
        store = Store(tmp_path, SEAL)
    assert numbers_in(store, 4) == [0, 1, 2]
    os.truncate(data, 3)
    with pytest.warns(UserWarning, match="4 inputs"):
        assert len(Store(tmp_path, SEAL)) == 0


@pytest.mark.filterwarnings("ignore:.*was cut")
def test_any_byte_that_is_changed_is_noticed(tmp_path: Path) -> None:
    """Whatever is read is what was written; or an error names the file."""
    filled(tmp_path, range(3))
    refused = 0
    for ending, path in files_of(tmp_path).items():
        content = path.read_bytes()
        for at in range(0, len(content), 1 if ending != "data" else 3):
            changed = bytearray(content)
            changed[at] ^= 0x41
            path.write_bytes(changed)
            try:
                store = Store(tmp_path, SEAL)
                rows = store.inputs().tolist()
                found = {kept.key: kept for kept in store.records(rows)}
            except InvalidArgumentError as error:
                assert str(tmp_path) in str(error)
                refused += 1
                continue
            for number in range(3):
                kept = found.get(key(number))
                if kept is not None:
                    assert torch.equal(kept.values, record(number).values)
                    assert kept.text == record(number).text
                    assert kept.name == record(number).name
        path.write_bytes(content)
    assert refused > 100
    assert numbers_in(Store(tmp_path, SEAL), 3) == [0, 1, 2]


def test_parts_that_were_swapped_are_noticed(tmp_path: Path) -> None:
    filled(tmp_path, range(2))
    mine = files_of(tmp_path)
    filled(tmp_path / "b", range(2, 4))
    theirs = files_of(tmp_path / "b")
    own = mine["data"].read_bytes()
    # of the same settings: these rows are not that file's
    mine["data"].write_bytes(theirs["data"].read_bytes())
    store = Store(tmp_path, SEAL)
    with pytest.raises(InvalidArgumentError, match="not what was written there"):
        store.records(store.find(words_of_digest([key(0)])).tolist())
    # of other settings
    other = Store(tmp_path / "b", SEAL)
    assert len(other) == 2
    mine["data"].write_bytes(own)
    with pytest.raises(InvalidArgumentError, match="another model or other settings"):
        Store(tmp_path, bytes(16))
    mine["data"].write_bytes(b"something else" * 9)
    with pytest.raises(InvalidArgumentError, match="no part of a store"):
        Store(tmp_path, SEAL)


def test_no_link_is_followed(tmp_path: Path) -> None:
    filled(tmp_path / "a", range(2))
    for ending in ("data", "rows", "names"):
        folder = tmp_path / ending
        folder.mkdir()
        for name, path in files_of(tmp_path / "a").items():
            if name == ending:
                (folder / path.name).symlink_to(path)
            else:
                (folder / path.name).write_bytes(path.read_bytes())
        with pytest.raises(InvalidArgumentError, match="a link to somewhere else|dama"):
            store = Store(folder, SEAL)
            store.names(store.inputs().tolist())


@pytest.mark.parametrize("what", ["values", "ends", "scale"])
def test_what_is_not_finite_is_refused(tmp_path: Path, what: str) -> None:
    bad = record(0)
    if what == "scale":
        bad = replace(bad, scale=float("nan"))
    else:
        numbers = getattr(bad, what).clone()
        numbers[0, 1] = float("inf")
        bad = replace(bad, **{what: numbers})
    store = Store(tmp_path, SEAL)
    store.add(bad)
    store.settle()
    with pytest.raises(InvalidArgumentError, match="directory: .*not finite"):
        Store(tmp_path, SEAL).records([0])


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    store = Store(tmp_path, SEAL)
    written = 0
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limit[1]))
    try:
        with pytest.raises(InvalidArgumentError, match="directory: .*space.*is kept"):
            for written in range(100):
                store.add(record(written))
        store.settle()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert 2 < written < 100
    for found in (store, Store(tmp_path, SEAL)):
        assert numbers_in(found, 100) == list(range(written))


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    store = Store(tmp_path, SEAL)
    tmp_path.rmdir()
    with pytest.raises(InvalidArgumentError, match="directory: .*can be written to"):
        store.open_to_write()


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, SEAL)
    store.open_to_write()
    store.settle()
    assert list(tmp_path.iterdir()) == []


def test_large_parts_are_followed_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGEST", 500)
    store = filled(tmp_path, range(9))
    assert len(list(tmp_path.glob("*.data"))) > 2
    assert numbers_in(store, 9) == list(range(9))
    assert numbers_in(Store(tmp_path, SEAL), 9) == list(range(9))


def test_a_process_that_was_forked_writes_to_files_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, SEAL)
    store.add(record(0))
    parent = os.getpid()
    monkeypatch.setattr(module.os, "getpid", lambda: parent + 1)
    child = pickle.loads(pickle.dumps(Store(tmp_path, SEAL)))
    child._writer = store._writer  # what a fork has of its parent
    child.add(record(1))
    child.settle()
    monkeypatch.undo()
    store.add(record(2))
    store.settle()
    assert len(list(tmp_path.glob("*.data"))) == 2
    assert numbers_in(Store(tmp_path, SEAL), 4) == [0, 1, 2]


def test_failures_are_told_until_the_input_was_read(tmp_path: Path) -> None:
    store = Store(tmp_path, SEAL)
    store.add(Record.failure(key(7), "broken", "no image"))
    store.add(Record.failure(key(8), record(1).name, "no image"))
    store.add(record(1))
    store.settle()
    for found in (store, Store(tmp_path, SEAL)):
        (row,) = found.failures().tolist()
        (failure,) = found.records([row])
        assert failure.kind == FAILURE and failure.text == "no image"
        assert failure.name == "broken" and len(found.inputs()) == 1


def test_keys_of_which_the_first_half_is_the_same() -> None:
    store = Store(None, SEAL)
    keys = [struct.pack("<QQ", 5, low) for low in (3, 1, 2)]
    for number, each in enumerate(keys):
        store.add(replace(record(number), key=each))
    store.settle()
    assert store.find(words_of_digest(keys)).tolist() == [0, 1, 2]
    missing = [struct.pack("<QQ", 5, 9), struct.pack("<QQ", 4, 3)]
    assert store.find(words_of_digest(missing)).tolist() == [-1, -1]
