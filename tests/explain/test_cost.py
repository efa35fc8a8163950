"""What an explanation takes, told before it is computed."""

import time
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import DualEncoder, load, siamese
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explain import cost
from captum_pairs.explain.compute import explain_pair
from captum_pairs.explain.counting import Tally
from captum_pairs.explain.options import Options
from captum_pairs.models import observed
from captum_pairs.scenes import checkpoint_path
from torch import nn, Tensor

HALF = (0.5, 0.5, 0.5)


class Smooth(nn.Module):
    """Maps of 8 x 8 places, then 4 x 4, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(6, 6, 3, stride, 1), nn.Tanh()) for stride in (2, 1)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        maps: Tensor = self.stem(pixels)
        for block in self.blocks:
            maps = block(maps)
        return maps.mean((2, 3))


def images(size: int = 40) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    made = rng.integers(0, 255, (2, size, size, 3), dtype=np.uint8)
    return made[0], made[1]


@pytest.fixture
def model() -> DualEncoder:
    torch.manual_seed(0)
    return siamese(Smooth().eval(), (32, HALF, HALF))


@pytest.mark.parametrize("layer", [0, 1])
def test_the_estimate_is_of_what_is_run(model: DualEncoder, layer: int) -> None:
    told = model.estimate(*images(), layer=layer)
    found = model.explain(*images(), layer=layer)
    assert told.features == (len(found.first.features), len(found.second.features))
    assert told.n_steps == (found.first.n_steps, found.second.n_steps)
    assert told.layers == (found.first.layer, found.second.layer)
    assert 0 < told.seconds < 60
    count = len(found.first.features)
    assert f"{count} x {count} features at the {found.first.layer}" in str(told)
    # more features than the embedding's six dimensions, which then bound the products
    assert told.gradients == sum(told.n_steps) * 6 < sum(told.n_steps) * count


def test_a_product_for_each_feature_and_the_baseline() -> None:
    if not checkpoint_path().is_dir():
        pytest.skip("no embedded checkpoint")
    model = load("scenes")
    text = "a red circle"
    told = model.estimate(images()[0], text, layer=-1, tolerance=0.02)
    tally = Tally()
    options = Options.of({"layer": -1, "tolerance": 0.02})
    found = explain_pair(model, (images()[0], text), options, tally=tally)
    count = len(found.second.features)
    steps = found.first.n_steps, found.second.n_steps
    for expected, taken in zip(told.n_steps, steps):
        # doubled where they did not do
        assert taken in (expected, 2 * expected + 1, 4 * expected + 3)
    assert told.gradients == told.n_steps[1] * count + told.n_steps[0] * (count + 1)
    # those along the words' vectors are run one by one, others before
    assert tally.backwards >= steps[0] * (count + 1)


def test_steps_that_were_not_tried_are_told_by_the_residual(
    model: DualEncoder,
) -> None:
    near = model.estimate(*images(), tolerance=1e-7)
    assert near.n_steps[0] > 8
    assert model.estimate(*images(), tolerance=1e-30).n_steps == (128, 128)
    assert model.estimate(*images(), tolerance=1e-30, n_steps=5).n_steps == (5, 5)


def test_seconds_are_those_of_all_products(monkeypatch: Any) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    ran: list[tuple[int, int]] = []

    def run(number: int, points: int) -> None:
        cold = 5.0 if not ran else 0.0  # what only the first run takes
        ran.append((number, points))
        clock[0] += cold + points * (0.003 + 0.002 * number)

    # at each point 3 ms, and 2 ms for each of a hundred products
    assert cost._per_point(run, 100, 4) == pytest.approx(0.203)
    assert ran == [(1, 2), (1, 4), (3, 4)]


@pytest.mark.parametrize(
    "n_steps, count, points",
    [(3, 2, 2), (13, 36, 8), (128, 500, 8), (16, 10, 4), (4, 1000, 4)],
)
def test_timing_takes_a_tenth_of_the_time(
    n_steps: int, count: int, points: int
) -> None:
    assert cost._points(n_steps, count) == points
    assert points == 2 or 4 * points <= 0.1 * n_steps * count


@pytest.mark.parametrize(
    "seconds, said",
    [(0.01, "1 s"), (42.4, "42 s"), (95, "2 min"), (3000, "50 min"), (9000, "2.5 h")],
)
def test_durations(seconds: float, said: str) -> None:
    found = cost.Cost(seconds, 1, (1, 1), (1, 1), ("input", "input"))
    assert str(found).startswith(f"about {said}: ")


def test_what_takes_long_is_said_before(
    model: DualEncoder, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    model.explain(*images())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(cost, "PATIENCE", 0.0)
    found = model.explain(*images())
    said = capsys.readouterr().err
    assert said.startswith("explaining a pair takes about 1 s: ")
    assert found.first.layer in said and said.count("\n") == 1


def test_references_are_estimated_and_said(
    model: DualEncoder, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rng = np.random.default_rng(1)
    others = [rng.integers(0, 255, (40, 40, 3), dtype=np.uint8) for _ in range(5)]
    references = model.references(images=others, size=3)
    told = model.estimate(*images(), references=references)
    monkeypatch.setattr(cost, "PATIENCE", 0.0)
    found = model.explain(*images(), references=references)
    assert told.n_references == (3, 3)
    assert told.n_steps == (found.first.n_steps, found.second.n_steps)
    # at each point of three paths a product for each of six dimensions
    assert told.gradients == 3 * 6 * sum(told.n_steps)
    assert f"{told.n_steps[0]} steps from each of 3 references" in str(told)
    said = capsys.readouterr().err
    assert said.startswith("explaining a pair takes about 1 s: ")
    assert f"{told.gradients:,} gradients" in said


def test_other_methods_are_not_estimated(model: DualEncoder) -> None:
    with pytest.raises(InvalidArgumentError, match="method.*occlusion"):
        model.estimate(*images(), method="occlusion")


# ---- a layer that a person can wait for --------------------------------------


def test_work_is_counted(model: DualEncoder) -> None:
    module: Any = model.first.module
    parts = observed.observe_parts(module, module, torch.zeros(1, 3, 32, 32))
    # multiply-adds: 3 x 3 of 6 channels to 6, at 4 x 4 places, twice
    each = 4 * 4 * 6 * 6 * 9
    factor = observed._PASSES * observed._POINTS
    expected = [factor * 64 * 2 * each, factor * 16 * each, 0.0]
    assert list(parts.work) == pytest.approx(expected)


@pytest.mark.parametrize("most, chosen", [(1e12, 0), (5e7, 1), (1e3, 2)])
def test_the_first_layer_that_is_quick(
    monkeypatch: Any, capsys: pytest.CaptureFixture[str], most: float, chosen: int
) -> None:
    monkeypatch.setattr(observed, "_SOON", most)
    torch.manual_seed(0)
    model = siamese(Smooth().eval(), (32, HALF, HALF))
    assert model.first.default_block == chosen
    found = model.explain(*images())
    model.explain(*images())
    said = capsys.readouterr().err
    if chosen == 0:
        assert said == "" and model.first.finer_block is None
        return
    assert "layer=0 takes about 1 s: 64 x 64 features" in said
    assert said.count("\n") == 1  # once for a model
    assert model.first.finer_block == 0
    where = "input of block 1 of 2" if chosen == 1 else "output of block 1 of 2"
    assert found.first.layer == where and found.first.grid == (4, 4)
    assert ("output of the last one" in repr(model)) == (chosen == 2)


def test_blocks_among_a_networks_children() -> None:
    from torchvision import models

    whole = models.resnet18(weights=None)
    children = list(whole.children())[:-1]
    expected = [block for stage in children[4:8] for block in stage]
    assert observed.find_blocks(nn.Sequential(*children, nn.Flatten())) == expected
    assert observed.find_blocks(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())) == []


def test_a_network_of_no_known_blocks_is_not_explained_at_its_pixels() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 64, 8, 8), nn.Conv2d(64, 512, 3, 1, 1)
            self.three = nn.Conv2d(512, 512, 3, 2, 1)

        def forward(self, pixels: Tensor) -> Tensor:
            maps: Tensor = self.two(self.one(pixels).relu()).relu()
            maps = self.three(maps).relu()
            return maps.mean((2, 3))

    model = siamese(Plain().eval(), (224, HALF, HALF))
    assert [type(each) for each in model.first.blocks] == [nn.Conv2d] * 2
    found = model.explain(*images(224), region=(100, 100), side="first")
    assert found.second.grid == (14, 14)
    assert found.first.layer == "output of block 1 of 2"
