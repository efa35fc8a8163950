"""What an explanation takes: estimated before it is computed, and said if that is long.

A pair's explanation is a product with the Jacobian of one encoder for each feature, and
one with its transpose on the other side, at every point of the path. A few are timed.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from captum_pairs.attr import (
    ExpectedJacobian,
    IntegratedJacobian,
    InvalidArgumentError,
    ReferencePaths,
    Session,
)
from captum_pairs.explain.counting import Tally
from captum_pairs.explain.options import Options
from captum_pairs.explain.sides import adopted, PreparedSide, Side, side_of
from captum_pairs.models.encoder import Encoder
from captum_pairs.models.encoder_pair import EncoderPair

__all__ = ["announce", "Cost", "estimate", "PATIENCE"]

# Seconds that nobody needs to be told of.
PATIENCE = 5.0
# The points at which passes are timed: together they take less than one by one, so as
# many as a tenth of the explanation's time allows; and the features and directions.
_FEWEST_POINTS, _MOST_POINTS, _SHARE = 2, 8, 0.1
_FEW, _SOME = 1, 3
# Points at which the residual is looked at, from which the number of steps is told.
_TRIED = 8

# Methods whose passes can be counted before.
_COUNTED = (IntegratedJacobian, ExpectedJacobian)
# Encoders of which a finer layer's cost was told.
_told: "WeakSet[Encoder]" = WeakSet()


@dataclass(frozen=True)
class Cost:
    """
    What the explanation of a pair takes.

    Args:
        seconds: about so many, as fast as the machine was when a few passes were timed.
        gradients: products with an encoder's Jacobian, or with its transpose.
        features: of both inputs, special tokens among them.
        n_steps: of both paths; where the tolerance was not reached at eight, at most so
            many: the residual halves, at least, when they are doubled. Of several
            references those of each one's path.
        layers: of both encoders, in words.
        is_grid: whether points are places of both paths, and not of one or the other.
        n_references: that each input is compared with.
    """

    seconds: float
    gradients: int
    features: tuple[int, int]
    n_steps: tuple[int, int]
    layers: tuple[str, str]
    is_grid: bool = False
    n_references: tuple[int, int] = (1, 1)

    def __str__(self) -> str:
        where = " and ".join(dict.fromkeys(self.layers))
        steps = " and ".join(str(n) for n in dict.fromkeys(self.n_steps))
        if self.is_grid:
            steps = " x ".join(map(str, self.n_steps))
        steps += " steps"
        if max(self.n_references) > 1:
            each = (
                f"{n} steps from "
                + (f"each of {m} references" if m > 1 else "a baseline")
                for n, m in zip(self.n_steps, self.n_references)
            )
            steps = " and ".join(dict.fromkeys(each))
        return (
            f"about {_duration(self.seconds)}: {self.features[0]} x {self.features[1]} "
            f"features at the {where}, {steps}, {self.gradients:,} gradients"
        )


def estimate(model: EncoderPair, first: Any, second: Any, options: Options) -> Cost:
    """See :meth:`captum_pairs.DualEncoder.estimate`."""
    if options.method_class not in _COUNTED:
        raise InvalidArgumentError(
            "method",
            "'integrated_gradients' or 'expected_gradients', whose passes can be "
            "counted before",
            repr(options.method_name),
        )
    options = adopted(options, first, second)
    with model.as_it_is(), Session() as session:
        sides = [
            side_of(model, at, raw, options, session)
            for at, raw in enumerate((first, second))
        ]
        return _cost(sides)


def announce(
    model: EncoderPair, sides: Sequence[Side], options: Options, tally: Tally
) -> None:
    """
    Says on standard error what an explanation takes, before it is computed, if that is
    more than a few seconds; and once for an encoder whose default layer was chosen to
    be quick, what a finer one takes.

    Args:
        sides: both, ready.
        tally: of what was run until then.
    """
    if options.method_class not in _COUNTED:
        return
    _announce_finer(model, sides, options)
    # a gradient takes as long as the pass that it goes back through, or twice that
    point = tally.elapsed / max(tally.forwards, 1)
    points = [
        (_TRIED if _references(side) == 1 else _FEWEST_POINTS * _references(side))
        * isinstance(side, PreparedSide)
        for side in sides
    ]
    if _gradients(sides, points) * point < PATIENCE:
        return
    found = _cost(sides, quickly=True)
    if found.seconds >= PATIENCE:
        print(f"explaining a pair takes {found}", file=sys.stderr)


def _announce_finer(
    model: EncoderPair, sides: Sequence[Side], options: Options
) -> None:
    finer = model.first.finer_block
    if finer is None or options.layer is not None or model.first in _told:
        return
    prepared = [side.prepared for side in sides if isinstance(side, PreparedSide)]
    if model.first is model.second and len(prepared) == len(sides):
        _told.add(model.first)
        asked = replace(options, layer=finer)
        found = estimate(model, prepared[0], prepared[1], asked)
        where = sides[0].input.layer
        print(
            f"explaining at the {where}, which is quick; layer={finer} takes {found}",
            file=sys.stderr,
        )


def _steps(side: Side) -> int:
    """How many it takes: as a scan expects it; or by the residual of a few of all
    features as one, which halves, at least, when they are doubled."""
    if not isinstance(side, PreparedSide):
        return 0
    settings = side.settings
    method, example = side.asking.method, side.example
    if isinstance(method, ExpectedJacobian) and isinstance(example, ReferencePaths):
        return int(method.refined(example, settings).n_steps)
    if settings.tolerance is None:
        return int(settings.n_steps)
    expected = side.asking.method.expected_steps(side.example, settings)
    if expected is not None:
        return int(expected)
    mask = torch.zeros_like(side.layout.mask)
    whole = side.example.masked(side.asking.on_device(mask))
    trial = replace(settings, n_steps=min(settings.n_steps, _TRIED))
    found = side.asking.method.shares(whole, trial)
    n_steps, residual = found.n_steps, found.residual
    while residual > settings.tolerance and n_steps < settings.n_steps:
        n_steps, residual = 2 * n_steps, residual / 2
    return int(min(n_steps, settings.n_steps))


def _references(side: Side) -> int:
    """How many paths lead to an input."""
    if isinstance(side, PreparedSide) and isinstance(side.example, ReferencePaths):
        return len(side.example)
    return 1


def _gradients(sides: Sequence[Side], points: Sequence[int]) -> int:
    return sum(n * number for n, number in zip(points, _products(sides)))


def _products(sides: Sequence[Side]) -> tuple[int, int]:
    """How many a point takes on each side: one for each feature of the side of fewer,
    on the other one for each of these and the baseline, and never more than the
    embedding has dimensions."""
    counts = [len(side.input.features) for side in sides]
    few = int(sides[1].cost < sides[0].cost)
    found = [counts[few]] * 2
    found[1 - few] = min(counts[few] + 1, counts[1 - few])
    widths = [s.example.embedding.numel() for s in sides if isinstance(s, PreparedSide)]
    most = min(widths, default=0)
    return min(found[0], most), min(found[1], most)


def _cost(sides: Sequence[Side], quickly: bool = False) -> Cost:
    """In the order of the sides; quickly, by a look that takes next to nothing where
    a good one would take more than a tenth of what it is about."""
    steps = [_steps(side) for side in sides]
    references = [_references(side) for side in sides]
    taken = [n * count for n, count in zip(steps, references)]
    products = _products(sides)
    few = int(sides[1].cost < sides[0].cost)
    seconds = 0.0
    for at, (side, number) in enumerate(zip(sides, taken)):
        if isinstance(side, PreparedSide):
            run = partial(_shares if at == few else _along, side)
            points = _points(number, products[at])
            looked = _glanced if quickly and points == _FEWEST_POINTS else _per_point
            seconds += number * looked(run, products[at], points)
    inputs = [side.input for side in sides]
    return Cost(
        seconds,
        _gradients(sides, taken),
        (len(inputs[0].features), len(inputs[1].features)),
        (steps[0], steps[1]),
        (inputs[0].layer, inputs[1].layer),
        n_references=(references[0], references[1]),
    )


def _points(taken: int, count: int) -> int:
    """At how many points passes are timed."""
    allowed = int(_SHARE * taken * count / (_FEW + _SOME))
    return max(_FEWEST_POINTS, min(allowed, taken, _MOST_POINTS))


def _per_point(run: Callable[[int, int], None], count: int, points: int) -> float:
    """Seconds that so many products take at a point, by those that few of them take
    when they are run for the second time."""
    run(_FEW, _FEWEST_POINTS)  # the first one sets up what later ones find
    times = []
    for number in (_FEW, _SOME):
        start = time.perf_counter()
        run(number, points)
        times.append((time.perf_counter() - start) / points)
    slope = max(times[1] - times[0], 0.0) / (_SOME - _FEW)
    return times[0] + slope * (count - _FEW)


def _glanced(run: Callable[[int, int], None], count: int, points: int) -> float:
    """The same by a single product, half of which is the pass that it goes through."""
    start = time.perf_counter()
    run(1, points)
    return (time.perf_counter() - start) / points * (1 + count) / 2.0


def _shares(side: PreparedSide, count: int, points: int) -> None:
    """Contributions of so many features, at a few points."""
    mask = side.asking.on_device(side.layout.mask.clamp(max=count - 1))
    side.asking.method.shares(side.example.masked(mask), _at_points(side, points))


def _along(side: PreparedSide, count: int, points: int) -> None:
    """Readings along so many directions, at a few points."""
    directions = side.example.embedding.expand(count, -1)
    side.asking.method.shares_along(side.example, directions, _at_points(side, points))


def _at_points(side: PreparedSide, number: int) -> Any:
    return side.asking.method.at_points(side.settings, number)


def _duration(seconds: float) -> str:
    """In words: "3 s", "4 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
