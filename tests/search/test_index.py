"""An index: exact search, whatever was rounded; what is kept, and what is not."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import Contributions, DualEncoder, from_functions, Index, load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import TextLengthError
from captum_pairs.search import items as items_module
from captum_pairs.search.exact import Scan
from captum_pairs.search.hits import Hit
from captum_pairs.search.items import Items
from searched import FAST, photo, TEXTS


def vectors(rows: Any, similarity: str = "dot", **more: Any) -> Index:
    """An index of embeddings that are known: the inputs themselves."""
    table = torch.as_tensor(rows, dtype=more.pop("of", torch.float32))
    given = {"similarity": similarity, "name": "itself"}
    model = DualEncoder.of(
        from_functions(lambda x: 1.0 * x, lambda x: 1.0 * x, **given)
    )
    keys = [f"n{at}" for at in range(len(table))]
    return model.index(list(table), side="first", keys=keys, **more)


def brute(table: Any, query: Any) -> list[tuple[int, float]]:
    """All items by their scores in double precision, then by their places."""
    scores = (table.astype(np.float64) * query.astype(np.float64)).sum(1)
    order = sorted(range(len(table)), key=lambda at: (-scores[at], at))
    return [(at, scores[at]) for at in order]


# ---- searching ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_exact_whatever_is_rounded(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    # many that differ by less than single precision can tell, and many that are equal
    step = {"float32": 1e-7, "float16": 1e-3}[dtype]
    table = rng.normal(size=(1, 16)) + step * rng.normal(size=(300, 16))
    table[50:80] = table[7]
    settings = {"dtype": dtype, "similarity": "dot", "model": "", "name": ""}
    items = items_of(tmp_path, settings, table)
    kept = table.astype(dtype)
    query = rng.normal(size=16)
    monkeypatch.setattr(items_module, "_AT_ONCE", 16 * 32)  # several blocks
    scan = Scan(items, query)
    expected = brute(kept, query)
    for k in (1, 7, 299, 300, 1000):
        found, scores = scan.first(k)
        assert found.tolist() == [at for at, _ in expected[:k]]
        np.testing.assert_array_equal(scores, [score for _, score in expected[:k]])
    ranks, _ = scan.ranks(np.array([0, 55, 299]))
    places = [at for at, _ in expected]
    assert ranks.tolist() == [places.index(at) + 1 for at in (0, 55, 299)]
    if dtype == "float32":  # alone it would have decided otherwise
        single = np.argsort(-items.scores(query), kind="stable")
        assert single.tolist() != places


def items_of(folder: Path, settings: dict[str, Any], table: Any) -> Items:
    """Items of these vectors, in a directory."""
    from captum_pairs.explain.store import Record

    items = Items(folder, settings)
    for at, row in enumerate(
        torch.as_tensor(table).to(getattr(torch, settings["dtype"]))
    ):
        key = at.to_bytes(16, "little")
        items.add(Record(key, f"n{at}", "{}", row[None], torch.zeros(2, 0)))
    items.settle()
    return items


def test_scores_are_the_models(clip: DualEncoder, files: list[Path]) -> None:
    index = clip.index(files)
    hits = index.search(TEXTS[0], k=3)
    direct = {str(f): clip.explain(f, TEXTS[0], **FAST).score for f in files}
    best = sorted(direct, key=lambda name: -direct[name])
    assert [hit.key for hit in hits] == best[:3]
    assert [hit.rank for hit in hits] == [1, 2, 3]
    for hit in hits:
        assert hit.score == pytest.approx(direct[hit.key], abs=1e-6)
        assert index.keys[hit.number] == hit.key
    # more than there are: all
    assert len(index.search(TEXTS[0], k=100)) == len(index) == 4
    # texts by an image, an image by an image: itself first
    texts = clip.index(TEXTS)
    found = texts.search(files[0])
    assert found[0].score == max(hit.score for hit in found)
    assert texts.search(TEXTS[2])[0].key == TEXTS[2]
    itself = index.search(files[1])[0]
    assert itself.key == str(files[1]) and itself.score == pytest.approx(1, abs=1e-6)
    small = clip.index(files, dtype="float16")
    assert 0 < small.error < 1e-3 and index.error == 0
    for one, other in zip(small.search(TEXTS[0]), index.search(TEXTS[0])):
        assert one.score == pytest.approx(other.score, abs=1e-3)


def test_ties_stand_in_their_order(clip: DualEncoder, files: list[Path]) -> None:
    copies = [path.with_name(f"copy {path.name}") for path in files]
    for copy, path in zip(copies, files):
        copy.write_bytes(path.read_bytes())
    index = clip.index([*copies[::-1], *files], **FAST)
    hits = index.search(TEXTS[0], k=8)
    assert [hit.score for hit in hits[::2]] == [hit.score for hit in hits[1::2]]
    for first, second in zip(hits[::2], hits[1::2]):
        assert first.key.endswith("copy " + Path(second.key).name)
    one, other = hits[:2]
    said = index.why(TEXTS[0], one, other).summary().splitlines()[0]
    assert said == f"1. {one.key} is as high as 2. {other.key} (cosine):"


def test_a_query_of_unknown_words_is_told() -> None:
    """The scenes' tokenizer has few words: all others are one to the model."""
    scenes = load("scenes")
    index = scenes.index(["a red circle", "a blue square"])
    with pytest.warns(UserWarning, match="knows no word of the query") as told:
        found = index.search("zebra")
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="knows no word"):
        assert index.search("giraffe") == found
    # one that it knows is enough, and an image has no words; a warning would fail here
    assert index.search("a red zebra")[0].key == "a red circle"
    assert len(index.search(photo(0, 64))) == 2


# ---- what is kept ------------------------------------------------------------


def test_a_directory_is_searched_as_it_is(
    clip: DualEncoder, files: list[Path], tmp_path: Path, monkeypatch: Any
) -> None:
    kept = tmp_path / "kept"
    whole = clip.index(files)
    clip.index(files[:2], directory=kept)
    index = clip.index(files[2:], directory=kept)
    assert index.keys == list(map(str, files))
    assert index.search(TEXTS[0]) == whole.search(TEXTS[0])
    # opened again, and nothing embedded again
    monkeypatch.setattr(type(clip.first), "prepare", None)
    again = clip.index(directory=kept)
    assert again.search(TEXTS[0]) == whole.search(TEXTS[0])
    assert len(clip.index(files, directory=kept)) == 4
    again.check()
    assert torch.equal(
        again.embeddings([str(files[3])]), whole.embeddings([str(files[3])])
    )
    assert "4 images" in repr(again) and "float32" in again.summary()


def test_what_was_overwritten_is_replaced(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    clip.index(files, directory=kept)
    before = files[1].read_bytes()
    photo(9, 31).save(files[1])
    index = clip.index(files[1:2], directory=kept)
    assert sorted(index.keys) == sorted(map(str, files))
    new = clip.index([files[1]]).embeddings([files[1]])
    assert torch.equal(index.embeddings([files[1]]), new)
    # and back: what was there first is embedded again
    files[1].write_bytes(before)
    back = clip.index(files, directory=kept)
    assert len(back) == 4 and not torch.equal(back.embeddings([files[1]]), new)
    assert torch.equal(
        clip.index(directory=kept).embeddings([files[1]]), back.embeddings([files[1]])
    )


def test_what_can_not_be_read_is_listed(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    files[0].write_text("no image")
    with pytest.warns(UserWarning, match="1 of 4 inputs") as told:
        index = clip.index(files, directory=tmp_path / "kept")
    with pytest.warns(UserWarning, match="1 of 1 inputs") as later:
        index.add(files[:1])
    assert {each.filename for each in (*told, *later)} == {__file__}
    assert index.keys == [str(path) for path in files[1:]]
    again = clip.index(directory=tmp_path / "kept")
    assert list(again.failed) == [str(files[0])] and "failed" in repr(again)
    with pytest.raises(InvalidArgumentError, match="hits: .*which failed: .*not an im"):
        again.explain(TEXTS[0], str(files[0]))


WRITER = """
import os, sys
from captum_pairs import load
from captum_pairs.search import items
model, kept, *files = sys.argv[1:]
write = items.Items._write
def dies(self, vector):
    write(self, vector)
    if len(self._fresh) == 2:
        os._exit(9)  # the vector is there, its record is not
items.Items._write = dies
load(model).index(files, directory=kept)
"""


def test_a_run_that_was_stopped_goes_on(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    clip.index(files[:2], directory=kept)
    # what one that is killed leaves: a vector without a record, half a record
    for ending, content in (("vectors", b"\x00" * 33), ("data", b"INPT\x01")):
        with open(part(kept, ending), "ab") as file:
            file.write(content)
    assert clip.index(directory=kept).keys == [str(path) for path in files[:2]]
    index = clip.index(files, directory=kept)
    assert index.search(TEXTS[0]) == clip.index(files).search(TEXTS[0])


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(
    clip: DualEncoder, tiny_clip: Path, files: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    command = [sys.executable, "-c", WRITER, str(tiny_clip), str(kept)]
    done = subprocess.run(
        [*command, *map(str, files)], capture_output=True, check=False
    )
    assert done.returncode == 9, done.stderr
    assert clip.index(directory=kept).keys == [str(path) for path in files[:2]]
    index = clip.index(files, directory=kept)
    assert index.search(TEXTS[0]) == clip.index(files).search(TEXTS[0])


def part(kept: Path, ending: str) -> Path:
    (found,) = kept.glob(f"part-*.{ending}")
    return found


def test_damage_is_told(clip: DualEncoder, files: list[Path], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    hits = clip.index(files, directory=kept).search(TEXTS[0])
    path = part(kept, "vectors")
    whole = path.read_bytes()
    width = (len(whole) - 64) // 4
    # cut: what is lost is embedded again when it comes again
    path.write_bytes(whole[: 64 + 2 * width + 5])
    with pytest.warns(UserWarning, match="was cut: 2 items"):
        left = clip.index(directory=kept)
    assert left.keys == [str(path) for path in files[:2]]
    # changed: told by its name
    changed = bytearray(whole)
    changed[64 + width + 2] ^= 0x40
    path.write_bytes(bytes(changed))
    index = clip.index(directory=kept)
    with pytest.raises(InvalidArgumentError, match=r"directory: .*1\.png"):
        index.check()
    with pytest.raises(InvalidArgumentError, match=r"directory: .*1\.png"):
        index.search(TEXTS[0], k=4)
    # not finite
    path.write_bytes(whole[:64] + b"\xff\xff\xff\x7f" + whole[68:])
    with pytest.raises(InvalidArgumentError, match="directory: .*NaN"):
        clip.index(directory=kept).search(TEXTS[0])
    for content in (b"", whole[:30], b"x" * len(whole)):
        path.write_bytes(content)
        with pytest.raises(InvalidArgumentError, match="directory: .*no vectors"):
            clip.index(directory=kept)
    path.write_bytes(whole)
    # names that are others': no hit is called by one; without their file all is there
    names = part(kept, "names")
    names.write_bytes(names.read_bytes()[::-1])
    index = clip.index(directory=kept)
    for ask in (index.check, lambda: index.search(TEXTS[0])):
        with pytest.raises(InvalidArgumentError, match=r"directory: .*names, damaged"):
            ask()
    names.unlink()
    assert clip.index(directory=kept).search(TEXTS[0]) == hits
    path.unlink()
    with pytest.raises(InvalidArgumentError, match="directory: "):
        clip.index(directory=kept)
    path.symlink_to(files[0])
    with pytest.raises(InvalidArgumentError, match="a link to somewhere else"):
        clip.index(directory=kept)


# ---- wrong ones --------------------------------------------------------------


def test_another_model(
    clip: DualEncoder, tiny_clip: Path, files: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    clip.index(files[:1], directory=kept)
    other = load(tiny_clip)
    with torch.no_grad():
        next(other.first.module.parameters()).mul_(1.5)  # type: ignore[union-attr]
    with pytest.raises(
        InvalidArgumentError, match="directory: .*embeddings with model"
    ):
        other.index(files, directory=kept)
    with pytest.raises(
        InvalidArgumentError, match="directory: .*embeddings with model.* other weights"
    ):
        other.index(directory=kept)
    # changed after the index was made
    mine = load(tiny_clip)
    index = mine.index(files[:1])
    with torch.no_grad():
        next(mine.first.module.parameters()).mul_(1.5)  # type: ignore[union-attr]
    for ask in (
        lambda: index.search(TEXTS[0]),
        lambda: index.explain(TEXTS[0], str(files[0])),
        lambda: index.add(files),
    ):
        with pytest.raises(InvalidArgumentError, match="model: .*other weights"):
            ask()
    with pytest.raises(
        InvalidArgumentError, match="directory: .*embeddings with dtype"
    ):
        clip.index(files, directory=kept, dtype="float16")
    with pytest.raises(
        InvalidArgumentError, match="directory: .*embeddings with dtype"
    ):
        clip.index(directory=kept, dtype="float16")
    with pytest.raises(InvalidArgumentError, match="directory: .*embeddings with"):
        clip.index(TEXTS, directory=kept)


def test_a_directory_knows_its_dtype(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    clip.index(files[:2], directory=kept, dtype="float16")
    for index in (clip.index(files, directory=kept), clip.index(directory=kept)):
        assert len(index) == 4 and index.settings["dtype"] == "float16"
    with pytest.raises(InvalidArgumentError, match="dtype 'float32'.*'float16'"):
        clip.index(directory=kept, dtype="float32")
    assert clip.index(files[:1]).settings["dtype"] == "float32"


def test_directories_of_other_things(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    clip.index(files[:1], directory=tmp_path / "index")
    clip.contributions(TEXTS[:1], directory=tmp_path / "contributions", **FAST)
    with pytest.raises(InvalidArgumentError, match="of embeddings.*of contributions"):
        clip.index(directory=tmp_path / "contributions")
    with pytest.raises(InvalidArgumentError, match="of embeddings.*of contributions"):
        clip.index(TEXTS, directory=tmp_path / "contributions")
    with pytest.raises(InvalidArgumentError, match="of contributions.*of embeddings"):
        clip.contributions(files, directory=tmp_path / "index")
    with pytest.raises(InvalidArgumentError, match="of contributions.*of embeddings"):
        Contributions.load(tmp_path / "index")
    with pytest.raises(InvalidArgumentError, match="directory: .*index.json"):
        clip.index(directory=tmp_path / "nowhere")
    path = tmp_path / "index" / "index.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "dtype": "int8"}))
    with pytest.raises(InvalidArgumentError, match="dtype: .*int8"):
        clip.index(directory=tmp_path / "index")


Bad = tuple[str, Callable[[DualEncoder, Index], Any]]
BAD: list[Bad] = [
    ("inputs: .*or a directory", lambda m, _: m.index()),
    ("inputs: .*at least one", lambda m, _: m.index([])),
    ("inputs: .*one alone", lambda m, _: m.index("a red circle")),
    ("keys: .*None without", lambda m, _: m.index(directory="x", keys=["a"])),
    ("dtype: .*float16", lambda m, _: m.index(TEXTS, dtype="half")),
    ("side: ", lambda m, _: m.index(TEXTS, side="third")),
    ("keep: ", lambda m, _: m.index(TEXTS, keep=1)),  # type: ignore[arg-type]
    ("tolerance: ", lambda m, _: m.index(TEXTS, tolerance=-1)),
    ("k: .*at least 1", lambda _, i: i.search("red", 0)),
    ("k: .*at least 1", lambda _, i: i.search("red", 2.0)),  # type: ignore[arg-type]
    ("hits: .*at least one", lambda _, i: i.explain("red", [])),
    ("hits: .*a list", lambda _, i: i.explain("red", 3)),  # type: ignore[call-overload]
    ("hits: .*a name", lambda _, i: i.explain("red", [3])),  # type: ignore[list-item]
    ("hits: .*of another", lambda _, i: i.explain("red", Hit(1, 0.5, "no", 0))),
    ("hits: .*of another", lambda _, i: i.explain("red", [Hit(1, 0.5, "no", 99)])),
    ("hits: .*'nothing'", lambda _, i: i.explain("red", "nothing")),
    ("pictures: ", lambda _, i: i.explain("red", TEXTS[:1], pictures=2)),
    ("a: ", lambda _, i: i.why("red", "nothing", TEXTS[0])),
    ("b: ", lambda _, i: i.why("red", TEXTS[0], "nothing")),
    ("b: .*another item", lambda _, i: i.why("red", TEXTS[0], TEXTS[0])),
    ("a: .*number", lambda _, i: i.why_not("red", TEXTS[0], k=100)),
    ("a: ", lambda _, i: i.why_not("red", "nothing")),
    ("k: ", lambda _, i: i.why_not("red", TEXTS[0], k=-1)),
    ("other: .*another wording", lambda _, i: i.paraphrases("red", "red")),
    ("other: .*a text", lambda _, i: i.paraphrases("red", 3)),  # type: ignore[arg-type]
    ("keys: ", lambda _, i: i.add([photo(0)])),
]


@pytest.mark.parametrize("bad", BAD, ids=[str(at) for at in range(len(BAD))])
def test_bad_arguments(bad: Bad, clip: DualEncoder) -> None:
    match, ask = bad
    index = clip.index(TEXTS, **FAST)
    with pytest.raises(InvalidArgumentError, match=match):
        ask(clip, index)


def test_bad_queries(clip: DualEncoder, files: list[Path], tmp_path: Path) -> None:
    index = clip.index(files)
    for empty in ("", "  ", "\n"):
        with pytest.raises(TextLengthError, match="an empty text"):
            index.search(empty)
        with pytest.raises(TextLengthError, match="an empty text"):
            index.paraphrases(empty, "red")
    with pytest.raises(InvalidArgumentError, match="image: .*no such file"):
        index.search(tmp_path / "none.png")
    # what is neither a text nor an image is told of as the query
    both = "^query: expected a text, or an image: a path, .*got "
    nothing: list[Any] = [None, 3, ["a list", "of texts"], {"a": 1}]
    for query in nothing:
        for ask in (
            lambda: index.search(query),
            lambda: index.explain(query, str(files[0])),
            lambda: index.why_not(query, str(files[0]), 1),
        ):
            with pytest.raises(InvalidArgumentError, match=both):
                ask()
    # a file's name is no wording, though it is a string
    for name in (str(files[0]), "none.png"):
        with pytest.raises(InvalidArgumentError, match="^query: .*name of a file"):
            index.paraphrases(name, "red")
        with pytest.raises(InvalidArgumentError, match="^other: .*name of a file"):
            index.paraphrases("red", name)
    files[0].write_text("no image")
    with (
        pytest.warns(UserWarning),
        pytest.raises(InvalidArgumentError, match="index: "),
    ):
        clip.index(files[:1]).search("red")


def test_embeddings_that_are_none() -> None:
    with pytest.raises(InvalidArgumentError, match="norm zero"):
        vectors([[0.0, 0.0]], "cosine")
    with pytest.raises(InvalidArgumentError, match="finite"):
        vectors([[float("nan"), 0.0]])
    with pytest.raises(InvalidArgumentError, match="dtype: .*float32"):
        vectors([[1e6, 0.0]], dtype="float16")
    index = vectors([[1e6, 0.0], [0.0, 1.0]], of=torch.float64)
    found = index.search(torch.tensor([0.0, 2.0], dtype=torch.float64))
    assert [(hit.key, hit.score) for hit in found] == [("n1", 2.0), ("n0", 0.0)]
