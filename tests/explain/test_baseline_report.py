"""What a report says of baselines, against embeddings that are asked for directly."""

from typing import Any

import captum_pairs
import numpy as np
import pytest
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.scenes import render, sample_caption, sample_scene


@pytest.fixture(scope="module")
def model() -> Any:
    return captum_pairs.load("scenes")


@pytest.fixture(scope="module")
def pairs() -> list[tuple[np.ndarray, str]]:
    rng = np.random.default_rng(8)
    scenes = [sample_scene(rng, 2, distinct=True) for _ in range(4)]
    return [
        (render(scene).image, sample_caption(rng, scene, plain=True).text)
        for scene in scenes
    ]


def embedded(encoder: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        found = torch.cat([encoder.embed(each) for each in inputs])
    return torch.nn.functional.normalize(found)


def test_it_says_what_the_embeddings_say(model: Any, pairs: Any) -> None:
    images = [image for image, _ in pairs]
    references = model.references(images=images, size=3)
    found = captum_pairs.baseline_report(model, pairs, references=references)
    ready = [
        (model.first.prepare(image, "black"), model.second.prepare(text))
        for image, text in pairs
    ]
    g, h = (
        embedded(encoder, [each[at].inputs for each in ready])
        for at, encoder in enumerate((model.first, model.second))
    )
    r, q = (
        embedded(encoder, [each[at].baseline for each in ready])
        for at, encoder in enumerate((model.first, model.second))
    )
    related = (g * h).sum(1).mean()
    unrelated = sum(float(g[i] @ h[j]) for i in range(4) for j in range(4) if i != j)
    assert found.score == pytest.approx(float(related), abs=1e-5)
    assert found.unrelated == pytest.approx(unrelated / 12, abs=1e-5)
    names = [each.name for each in found.neutrality]
    assert names[:3] == ["mean color", "black", "blur"]
    assert names[3].startswith("3 other images") and names[4] == "padding"
    black = found.neutrality[1]
    assert black.similarity == pytest.approx(float((r @ h.T).mean()), abs=1e-5)
    assert black.distance == pytest.approx(black.similarity - found.unrelated)
    row = next(each for each in found.compared if each.first == "black")
    together = ((g - r) * (h - q)).sum(1).mean()
    assert row.pairs == pytest.approx(float(together), abs=1e-5)
    assert row.constant == pytest.approx(float((r * q).sum(1).mean()), abs=1e-5)
    beyond = found.score - found.unrelated
    assert row.share == pytest.approx(row.pairs / beyond)
    whole = row.constant + row.first_effects + row.second_effects + row.pairs
    assert whole == pytest.approx(found.score, abs=1e-5)
    means = [(g.sum(0) - g[i]) / 3 for i in range(4)]
    sampled = next(e for e in found.compared if e.first.startswith("3 other"))
    wanted = ((g - torch.stack(means)) * (h - q)).sum(1).mean()
    assert sampled.pairs == pytest.approx(float(wanted), abs=1e-5)
    shares = [abs(each.share - 1) for each in found.compared]
    assert shares == sorted(shares) and len(shares) == 4
    for each in found.compared:
        assert f"{each.share:.2f}  {each.first} x padding" in found.summary()


@pytest.mark.parametrize(
    "wrong", [[], [("a.png", "a")], "text", [1, 2], [(1, 2, 3)] * 2]
)
def test_what_is_no_list_of_pairs_is_refused(model: Any, wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^inputs: expected"):
        captum_pairs.baseline_report(model, wrong)


def test_options_of_explanations_are_refused(model: Any, pairs: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^n_steps: expected"):
        captum_pairs.baseline_report(model, pairs, n_steps=3)
