"""Hits explained: as the model's own explanations, kept, and what separates two."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import DualEncoder, PairExplanation, siamese
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.search.explained import ExplainedHits
from captum_pairs.search.index import Index
from captum_pairs.show.page import page_html
from searched import FAST, photo, TEXTS
from torch import nn


def check_same(one: PairExplanation, other: PairExplanation) -> None:
    """Up to what half precision keeps."""
    most = float(other.interactions.abs().max())
    assert one.score == pytest.approx(other.score, abs=1e-5)
    torch.testing.assert_close(
        one.interactions, other.interactions, rtol=0, atol=2e-3 * most
    )
    for mine, theirs in zip(
        (one.first_effects, one.second_effects),
        (other.first_effects, other.second_effects),
    ):
        assert mine is not None and theirs is not None
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-3)


@pytest.mark.parametrize("keep", [True, False])
def test_as_the_models_own_explanations(
    keep: bool, clip: DualEncoder, files: list[Path]
) -> None:
    index = clip.index(files, keep=keep, **FAST)
    hits = index.search(TEXTS[0], k=3)
    found = index.explain(TEXTS[0], hits)
    for hit, explanation in zip(hits, found):
        check_same(explanation, clip.explain(hit.key, TEXTS[0], **FAST))
        assert explanation.first.source.picture is not None
        assert explanation.score == pytest.approx(hit.score, abs=1e-5)
    # one alone, by a hit or a name; and of texts an image
    one = index.explain(TEXTS[0], hits[1])
    check_same(one, found[1])
    assert index.explain(TEXTS[0], hits[1].key) == one
    texts = clip.index(TEXTS, keep=keep, **FAST)
    by_image = texts.explain(files[0], TEXTS[3])
    check_same(by_image, clip.explain(files[0], TEXTS[3], **FAST))


def test_items_of_the_querys_own_kind(clip: DualEncoder, files: list[Path]) -> None:
    index = clip.index(files, **FAST)
    hits = index.search(files[2])
    found = index.explain(files[2], hits)
    for hit, explanation in zip(hits, found):
        assert explanation.first.kind == explanation.second.kind == "image"
        assert explanation.score == pytest.approx(hit.score, abs=1e-5)
        assert explanation.logit == explanation.score  # no scale of image and text
        parts = sum(explanation.parts().values())
        assert parts == pytest.approx(explanation.score, abs=1e-5)
    why = index.why(files[2], hits[0], hits[1])
    assert {d.name.startswith("the ") for d in why.decided} == {True}


def test_a_siamese_model(files: list[Path]) -> None:
    layers = nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    model = DualEncoder.of(
        siamese(nn.Sequential(*layers), (16, (0.5,) * 3, (0.5,) * 3))
    )
    index = model.index(files, tolerance=0.2)
    hits = index.search(files[1])
    assert hits[0].key == str(files[1])
    found = index.explain(files[1], hits)
    for hit, explanation in zip(hits, found):
        assert explanation.score == pytest.approx(hit.score, abs=1e-5)


# ---- what is kept ------------------------------------------------------------


def test_what_was_explained_is_kept(
    clip: DualEncoder, files: list[Path], tmp_path: Path, monkeypatch: Any
) -> None:
    kept = tmp_path / "kept"
    index = clip.index(files, directory=kept, **FAST)
    hits = index.search(TEXTS[0], k=2)
    first = index.explain(TEXTS[0], hits)
    assert len(list(kept.glob("contributions-*"))) == 1
    # another query, of files that are gone: from what is kept, without pictures
    for path in files:
        path.unlink()
    again = clip.index(directory=kept, **FAST)
    found = again.explain(TEXTS[1], hits)
    assert found[0].first.source.picture is None
    told, written = found.summary(), page_html(found)
    assert all(f"{hit.key} is shown without its picture" in told for hit in hits)
    assert written.count("Shown without its picture") == 2
    assert "without its picture" not in first.summary() + page_html(first)
    assert again.explain(TEXTS[0], hits, pictures=False)[0].score == first[0].score
    gone = next(str(path) for path in files if str(path) not in {h.key for h in hits})
    with pytest.raises(InvalidArgumentError, match="hits: .*no such file"):
        again.explain(TEXTS[0], gone)
    with pytest.raises(InvalidArgumentError, match="hits: .*no such file"):
        clip.index(directory=kept, keep=False, **FAST).explain(TEXTS[0], [gone])
    # other settings have contributions of their own
    with pytest.raises(InvalidArgumentError, match="hits: .*no such file"):
        clip.index(directory=kept, tolerance=0.3, layer=(-2, -1)).explain(
            TEXTS[0], hits
        )


def test_what_was_changed_since_is_not_explained(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    index = clip.index(files, directory=tmp_path / "kept", **FAST)
    photo(99, 50).save(files[0])
    with pytest.raises(InvalidArgumentError, match="hits: .*was changed since"):
        index.explain(TEXTS[0], str(files[0]))
    assert len(index.add(files[:1])) == 4
    found = index.explain(TEXTS[0], str(files[0]))
    check_same(found, clip.explain(files[0], TEXTS[0], **FAST))
    # explained, and then changed: numbers of what was searched, and nothing is shown
    photo(98, 40).save(files[0])
    again = index.explain(TEXTS[0], str(files[0]))
    assert again.first.source.picture is None and again.score == found.score


def test_inputs_that_are_no_files(clip: DualEncoder, tmp_path: Path) -> None:
    pictures = [np.asarray(photo(at)) for at in range(2)]
    index = clip.index(pictures, keys=["one", "two"], directory=tmp_path, **FAST)
    found = index.explain(TEXTS[0], "two")
    check_same(found, clip.explain(pictures[1], TEXTS[0], **FAST))
    again = clip.index(directory=tmp_path, **FAST)
    assert again.explain(TEXTS[0], "two").score == found.score
    with pytest.raises(InvalidArgumentError, match="hits: .*came as no file"):
        again.explain(TEXTS[0], "one")
    again.add(pictures[:1], keys=["one"])
    assert again.explain(TEXTS[0], "one").first.count == found.first.count


# ---- why ---------------------------------------------------------------------


def check_sums(index: Index, query: Any, a: str, b: str) -> None:
    """What decided, and the rest, are the difference; each word's share is the inner
    product of its contribution with the difference of the two embeddings."""
    why = index.why(query, a, b)
    total = sum(each.value for each in why.decided) + why.rest
    assert total == pytest.approx(why.difference)
    scores = {hit.key: hit for hit in index.search(query, k=100)}
    assert (why.a, why.b) == (scores[a], scores[b])
    assert why.difference == pytest.approx(scores[a].score - scores[b].score, abs=1e-5)
    values = [each.value for each in why.decided]
    assert values == sorted(values, reverse=True)


def test_why_by_the_words_of_a_query(clip: DualEncoder, files: list[Path]) -> None:
    index = clip.index(files, **FAST)
    a, b = str(files[0]), str(files[3])
    check_sums(index, TEXTS[0], a, b)
    why = index.why(TEXTS[0], a, b)
    words = clip.contributions([TEXTS[0]], side="second", dtype="float32", **FAST)[0]
    apart = torch.diff(index.embeddings([b, a]), dim=0)[0]
    shares = words.values @ apart
    named = {each.name: each for each in why.decided}
    assert set(named) == {"“red”", "“circle”"}  # "a" is a stop word
    for at in (1, 2):
        decision = named[f"“{TEXTS[0].split()[at]}”"]
        assert decision.features == (at,)
        # up to the residual of the items' paths
        assert decision.value == pytest.approx(float(shares[at]), abs=2e-2)
    assert why.decided[0].name in why.summary() and why.decided[0].name in repr(why)
    assert any(box is not None for each in why.decided for box in each.boxes)


def test_hits_of_another_query(clip: DualEncoder, files: list[Path]) -> None:
    index = clip.index(files, **FAST)
    before = index.search(TEXTS[0])
    now = {hit.key: hit for hit in index.search(TEXTS[1])}
    why = index.why(TEXTS[1], before[0], before[1])
    assert (why.a, why.b) == (now[before[0].key], now[before[1].key])
    found = index.explain(TEXTS[1], before)
    assert list(found.hits) == [now[hit.key] for hit in before]


def test_why_of_texts_is_word_by_word(clip: DualEncoder, files: list[Path]) -> None:
    index = clip.index(TEXTS, **FAST)
    check_sums(index, files[0], TEXTS[0], TEXTS[3])
    why = index.why(files[0], TEXTS[0], TEXTS[3])
    names = {each.name: each.is_changed for each in why.decided}
    assert names == {"“a”": False, "“red circle” instead of “blue square”": True}


def test_why_not(clip: DualEncoder, files: list[Path]) -> None:
    index = clip.index(files, **FAST)
    hits = index.search(TEXTS[0])
    why = index.why_not(TEXTS[0], hits[3].key, k=2)
    assert (why.a, why.b) == (hits[1], hits[3])
    assert why.needed == pytest.approx(hits[1].score - hits[3].score, abs=1e-5)
    found = why.enough()
    speaking = [each for each in why.decided if each.value > 0]
    assert found == speaking[: len(found)]
    assert sum(e.value for e in found) >= why.needed or found == speaking
    assert sum(e.value for e in found[:-1]) < why.needed
    assert "number 4" in why.summary() and "keeps it away" in why.summary()
    with pytest.raises(InvalidArgumentError, match="a: .*which is number 2"):
        index.why_not(TEXTS[0], hits[1], k=2)


# ---- as results --------------------------------------------------------------


def test_as_a_result(clip: DualEncoder, files: list[Path], tmp_path: Path) -> None:
    index = clip.index(files, **FAST)
    found = index.explain(TEXTS[0], index.search(TEXTS[0]))
    assert isinstance(found, ExplainedHits) and len(found) == len(found[:]) == 4
    summary = found.summary()
    assert all(str(hit) in summary for hit in found.hits) and "is above" in summary
    assert found.why(0, 1) == index.why(TEXTS[0], *found.hits[:2])
    frame = found.to_frame()
    for hit, explanation in zip(found.hits, found):
        rows = frame[frame["rank"] == hit.rank]
        assert rows["attribution"].sum() == pytest.approx(explanation.score, abs=1e-5)
    found.save(tmp_path)
    assert PairExplanation.load(tmp_path, "hits_2") == found[1]
    why = found.why(0, 1)
    assert len(why.to_frame()) == len(why.decided) + 1


@pytest.mark.slow
def test_pictures_and_pages(
    clip: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    index = clip.index(files, **FAST)
    found = index.explain(TEXTS[0], index.search(TEXTS[0]))
    titles = [axes.get_title() for axes in found.plot().axes]
    assert any(Path(found.hits[0].key).name in title for title in titles)
    assert "<iframe" in found._repr_html_()
    assert found.page(tmp_path / "page.html").is_file()
    assert found.why(0, 1).page(tmp_path / "why.html").is_file()
    assert found.why(0, 3).plot().axes
    texts = clip.index(TEXTS, **FAST)
    assert texts.explain(files[0], texts.search(files[0])).plot(2).axes


Bad = tuple[str, Callable[[ExplainedHits], Any]]
BAD: list[Bad] = [
    ("a: ", lambda f: f.why(-1, 0)),
    ("a: .*0 to 1", lambda f: f.why(2, 0)),
    ("b: .*another", lambda f: f.why(1, 1)),
    ("b: ", lambda f: f.why(0, True)),
    ("number: ", lambda f: f.plot(0)),
]


def test_bad_arguments_of_hits(clip: DualEncoder) -> None:
    index = clip.index(TEXTS[:2], **FAST)
    found = index.explain(TEXTS[0], TEXTS[:2])
    for match, ask in BAD:
        with pytest.raises(InvalidArgumentError, match=match):
            ask(found)


@pytest.mark.slow
def test_names_that_are_anything(clip: DualEncoder, files: list[Path]) -> None:
    names = ["$x_{1$", "<b>&", "\u202ertl", "half \udcff one"]
    pictures = [np.asarray(photo(at)) for at in range(4)]
    index = clip.index(pictures, keys=names, **FAST)
    assert sorted(hit.key for hit in index.search(TEXTS[0])) == sorted(names)
    found = index.explain(TEXTS[0], names)
    found.plot().canvas.draw()
    assert "<b>&" not in found._repr_html_()
