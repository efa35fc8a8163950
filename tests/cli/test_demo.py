"""The demo's numbers are those of the version before: moving code moves no number."""

import re
from pathlib import Path

import captum_pairs
import numpy as np
import pytest
import torch
from captum_pairs.cli import main
from captum_pairs.cli.commands import demo
from captum_pairs.scenes import render, sample_caption, sample_scene
from click.testing import CliRunner

# As version 0.1.0 computed them.
SCORE = 0.3588212701305352
LOGIT = 25.342140940612165
PARTS = {
    "the two baselines": 0.006536326417476444,
    "the image on its own": 0.3994493097748659,
    "the text on its own": 0.0005980255989470606,
    "pairs of word and patch": -0.039274616236094406,
    "pairs with a special token": -0.008075321762589738,
    "error of the path integral": -0.00041245366207004475,
}
SUM, ABSOLUTE_SUM = -0.04734994098544121, 0.8173492550849915
FIRST_EFFECTS, SECOND_EFFECTS = 0.40040621161460876, 0.0007538392674177885
STEPS = 64, 16
TOP_PAIRS = [
    ("blue", (32.0, 48.0, 40.0, 56.0), 0.05884607881307602),
    ("pink", (48.0, 48.0, 64.0, 56.0), 0.056825149804353714),
    ("star", (48.0, 48.0, 56.0, 56.0), 0.03371642902493477),
    ("right", (48.0, 48.0, 64.0, 56.0), -0.03054690733551979),
    ("green", (48.0, 48.0, 64.0, 56.0), -0.02776326611638069),
]


def test_the_demo_of_seed_0_is_the_same_to_1e_6() -> None:
    default = {option.name: option.default for option in demo.params}
    assert default["seed"] == 0 and default["tolerance"] == 0.02
    rng = np.random.default_rng(0)
    scene = sample_scene(rng, 3, distinct=True)
    image, caption = render(scene).image, sample_caption(rng, scene, plain=True)
    assert caption.text == "a pink star to the right of a green star and a blue star"
    model = captum_pairs.load("scenes:plain")
    # the rule that these were found by: nodes that are placed are as exact, elsewhere
    rule = {"method": "gausslegendre"}
    found = model.explain(image, caption.text, tolerance=0.02, settings=rule)

    def same(number: float) -> object:
        return pytest.approx(number, rel=0, abs=1e-6)

    assert found.score == same(SCORE)
    # 71 times the cosine
    assert found.logit == pytest.approx(LOGIT, rel=1e-6)
    assert found.parts() == {name: same(value) for name, value in PARTS.items()}
    assert found.interactions.shape == (65, 16)
    assert float(found.interactions.sum()) == same(SUM)
    assert float(found.interactions.abs().sum()) == same(ABSOLUTE_SUM)
    assert float(found.first_effects.abs().sum()) == same(FIRST_EFFECTS)
    assert float(found.second_effects.abs().sum()) == same(SECOND_EFFECTS)
    assert (found.first.n_steps, found.second.n_steps) == STEPS
    pairs = found.top_pairs(5)
    assert [(p.second, p.first_box, p.value) for p in pairs] == [
        (word, box, same(value)) for word, box, value in TOP_PAIRS
    ]
    placed = model.explain(image, caption.text, tolerance=0.02)
    exact = model.explain(
        image, caption.text, tolerance=1e-4, n_steps=512, settings=rule
    ).interactions
    error = float((placed.interactions - exact).norm() / exact.norm())
    assert error <= 0.02 and placed.first.n_steps < found.first.n_steps
    assert [(p.second, p.first_box) for p in placed.top_pairs(5)] == [
        (word, box) for word, box, _ in TOP_PAIRS
    ]


def test_words_add_what_they_match_in_the_demo(tmp_path: Path) -> None:
    """Pairs carry the score, and a wrong word takes away where the right one adds."""
    threads = torch.get_num_threads()
    try:
        result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    found = captum_pairs.PairExplanation.load(tmp_path, "demo")
    pairs = found.parts()["pairs of word and patch"]
    assert 0.8 <= pairs / found.score <= 1.2
    told = re.search(r"with a wrong word, .*: .* (\S+) but .* (\S+)\n", result.output)
    assert told is not None
    right, wrong = map(float, told.groups())
    assert right > 0 > wrong
    assert result.output.count("its strongest patch is inside") == 3
    assert (tmp_path / "demo_wrong_word.png").stat().st_size > 0
