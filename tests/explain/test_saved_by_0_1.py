"""What version 0.1.0 saved is read by this one, with the numbers that 0.1.0 gave."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from captum_pairs import Comparison, Contrast, Contributions, load, PairExplanation
from captum_pairs.attr import InvalidArgumentError

SAVED = Path(__file__).parent / "saved_by_0_1"
TEXT = "an image with a cyan star right of a yellow heart"
WRONG = "an image with a white star right of a yellow heart"
SCORE = 0.32554918421834234
PARTS = {
    "the two baselines": 0.006527272493435099,
    "the image on its own": 0.26402983249283807,
    "the text on its own": 0.00045306360470931395,
    "pairs of word and patch": 0.03776368750587711,
    "pairs with a special token": 0.017057693155948073,
    "error of the path integral": -0.0002823650344653261,
}


def same(number: float) -> object:
    """What a file keeps is kept exactly, but for the order in which it is summed."""
    return pytest.approx(number, abs=1e-7)


def is_the_explanation(found: PairExplanation) -> None:
    assert found.model == "scenes" and found.method == "integrated_gradients"
    assert found.score == SCORE
    assert found.parts() == {name: same(value) for name, value in PARTS.items()}
    assert found.second.source.text == TEXT
    assert found.first.layer == "input of block 2 of 4"
    assert found.first.source.picture.shape == (64, 64, 3)
    assert found.first.grid == (8, 8)
    assert found.interactions.shape == (65, 13)
    strongest = [(str(pair), pair.value) for pair in found.top_pairs(3)]
    assert strongest == [
        ("“star” – centre (x 32–40, y 32–40 px): +0.040", same(0.039988938719)),
        ("“heart” – top (x 16–32, y 8–16 px): +0.025", same(0.024610128254)),
        ("“cyan” – centre (x 32–40, y 32–40 px): +0.023", same(0.022702295333)),
    ]


def test_an_explanation() -> None:
    is_the_explanation(PairExplanation.load(SAVED / "explanation"))


def test_an_explanation_is_what_it_was_after_saving_again(tmp_path: Path) -> None:
    PairExplanation.load(SAVED / "explanation").save(tmp_path)
    is_the_explanation(PairExplanation.load(tmp_path))


def test_a_contrast() -> None:
    found = Contrast.load(SAVED / "contrast")
    is_the_explanation(found.preferred)
    assert found.query_side == "first"
    assert found.other.second.source.text == WRONG
    assert found.difference == same(0.13040275723415687)
    assert found.parts() == {
        "pairs with the preferred text": same(0.05482138066182518),
        "pairs with the other text": same(0.07565200180720799),
        "the texts on their own": same(-7.023613761703018e-07),
        "the query on its own": 0.0,
        "the baselines": 0.0,
        "error of the path integral": same(-6.992287350013338e-05),
    }
    changed = [change for change in found.changes() if change.is_changed]
    assert [(each.preferred, each.other) for each in changed] == [("cyan", "white")]
    assert changed[0].total == same(0.1293642318764796)


EXPLANATIONS = {
    "occlusion": (
        0.09980657996453424,
        "what the method leaves out",
        0.004039515241960889,
        "“cyan” – right (x 40–56, y 24–40 px): +0.015",
    ),
    "jacobian_x_input": (
        6.107688073276468e-05,
        "what the method leaves out",
        0.32114906610402494,
        "“heart” – top (x 24–32, y 8–16 px): +0.000",
    ),
}


@pytest.mark.parametrize("method", EXPLANATIONS)
def test_the_explanations_of_a_comparison(method: str) -> None:
    found = PairExplanation.load(SAVED / "comparison", f"comparison_{method}")
    pairs, rest, left_out, strongest = EXPLANATIONS[method]
    assert found.method == method and found.score == SCORE
    assert found.parts()["pairs of word and patch"] == same(pairs)
    assert found.parts()[rest] == same(left_out)
    assert str(found.top_pairs(1)[0]) == strongest


def test_a_comparison_is_read_or_refused() -> None:
    # 0.1.0 wrote it for other programs, and had no way to read it
    try:
        found = Comparison.load(SAVED / "comparison")
    except InvalidArgumentError as refused:
        assert "again" in str(refused)
        return
    assert [each.method for each in found.compared] == list(EXPLANATIONS)
    assert [each.faithfulness for each in found.compared] == [
        same(0.5524954913558242),
        same(0.2886033987485709),
    ]
    assert float(found.agreement[0, 1]) == same(0.16541637480258942)
    assert [each.explanation.score for each in found.compared] == [SCORE, SCORE]


STORED = {
    # score, pairs of word and patch, sum of absolute interactions, strongest pair
    "one": (
        SCORE,
        0.03777955800733501,
        0.6335000395774841,
        "“star” – centre (x 32–40, y 32–40 px): +0.040",
    ),
    "two": (
        -0.14900832820602716,
        -0.37491169799332896,
        0.81096351146698,
        "“heart” – top right (x 48–56, y 16–24 px): -0.039",
    ),
    "three": (
        -0.03734492448946618,
        -0.2812285235494756,
        0.6794947385787964,
        "“heart” – bottom (x 16–32, y 48–56 px): -0.067",
    ),
}


def test_contributions_are_read() -> None:
    stored = Contributions.load(SAVED / "contributions")
    assert stored.keys == list(STORED) and stored.failed == {}
    assert stored.settings["layer"] == "input of block 2 of 4"
    assert stored.error == same(0.0002015612572870976)
    sizes = [float(stored.of(key).values.abs().sum()) for key in STORED]
    assert sizes == pytest.approx([22.493204, 21.984880, 22.729803], abs=1e-4)
    torch.testing.assert_close(stored.embeddings.norm(dim=1), torch.ones(3))


def test_contributions_are_explained() -> None:
    stored = Contributions.load(SAVED / "contributions")
    explanations = load("scenes:plain").explain(stored, TEXT)
    for found, (score, pairs, size, strongest) in zip(explanations, STORED.values()):
        assert found.score == pytest.approx(score, abs=1e-6)
        # the text is new: to its tolerance, other steps are taken than by 0.1
        within = found.tolerance * float(found.interactions.abs().sum())
        assert found.parts()["pairs of word and patch"] == pytest.approx(
            pairs, abs=within
        )
        assert float(found.interactions.abs().sum()) == pytest.approx(
            size, rel=found.tolerance
        )
        assert str(found.top_pairs(1)[0]) == strongest
        assert found.second.source.text == TEXT


def test_a_store_is_not_gone_on_with(tmp_path: Path) -> None:
    """It kept inputs by names: whether these are the same pictures, nobody knows."""
    shutil.copytree(SAVED / "contributions", tmp_path / "kept")
    grey = np.full((64, 64, 3), 120, np.uint8)
    reason = "directory: .*0.1 kept.*nothing is added"
    with pytest.raises(InvalidArgumentError, match=reason):
        load("scenes:plain").contributions(
            [grey] * 3, directory=tmp_path / "kept", keys=list(STORED)
        )


@pytest.mark.parametrize(
    "folder, name, read",
    [
        ("explanation", "explanation.json", PairExplanation.load),
        ("contrast", "contrast.json", Contrast.load),
        ("contributions", "index.json", Contributions.load),
    ],
)
def test_what_a_later_version_saves_is_refused(
    tmp_path: Path, folder: str, name: str, read: object
) -> None:
    shutil.copytree(SAVED / folder, tmp_path / "later")
    path = tmp_path / "later" / name
    content = json.loads(path.read_text(encoding="utf-8")) | {"format": 10**6}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match="version"):
        read(tmp_path / "later")  # type: ignore[operator]
