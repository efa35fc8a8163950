"""An explanation of a score that is no inner product of two embeddings: by integrated
Hessians, in the same parts."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, Protocol

import torch
from captum_pairs.attr import (
    FeaturePairIntegratedHessians,
    InvalidArgumentError,
    Session,
    validation,
)
from captum_pairs.attr._core.integrated_hessians import (
    PathIntegration,
    PathParts,
    scanned,
    Surface,
)
from captum_pairs.attr._utils.forward_pass import ForwardPass
from captum_pairs.explain.cost import Cost, PATIENCE
from captum_pairs.explain.counting import tallied, Tally
from captum_pairs.explain.methods import INTEGRATED_HESSIANS
from captum_pairs.explain.options import Options
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.sides import InputContributions
from captum_pairs.inputs import box_of, ExplainedInput, Where
from captum_pairs.models.encoder import Encoder, Feature, Layer, Layout
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.scorer import PreparedPair
from torch import Tensor

__all__ = ["estimate_scored", "explain_scored", "score_options", "ScoredPair"]

# Of each path: points are their product.
MOST_STEPS = 31
# The settings that there are.
_SETTINGS = ("layer", "tolerance", "n_steps", "baseline", "tokens", "progress")
# Nodes that a scan is asked about when a deeper layer is looked for: how many more than
# are allowed would be needed.
_MANY = 127
# Deeper layers that are looked at.
_DEEPER = 4
# Points at which passes are timed, and the features of these.
_POINTS, _FEW, _SOME = 8, 1, 3


class AskedLike(Protocol):
    """A phrase or a region that alone is explained."""

    @property
    def side(self) -> int: ...
    @property
    def region(self) -> Optional[Where]: ...
    def weights(self, given: ExplainedInput) -> tuple[Tensor, Feature]: ...


@dataclass(frozen=True)
class _Part:
    """
    Features of one side that count by a weight each; those of one weight are one in the
    integral.

    Args:
        at: 0 or 1, whose they are.
        levels: the weights that there are, (l,).
        feature: what they are together.
    """

    at: int
    levels: Tensor
    feature: Feature


class ScoredPair:
    """
    Two inputs of a score, ready to be attributed to while their session is open.

    Args:
        model: with a scorer.
        inputs: raw, or a :class:`PreparedPair`.
        options: how they are explained.
        tally: counts passes.
        layers: instead of those that the options say.
    """

    def __init__(
        self,
        model: EncoderPair,
        inputs: Any,
        options: Options,
        session: Session,
        tally: Tally,
        layers: Any = None,
    ) -> None:
        assert model.scorer is not None  # who makes one has looked
        self.model, self.options, self.session = model, options, session
        self.tally, self.scorer = tally, model.scorer
        asked = options.layers(model) if layers is None else layers
        self.layers = self.scorer.layers(asked)
        self.prepared = _prepared(model, inputs, options)
        self.method = FeaturePairIntegratedHessians(
            tally.counted(self.scorer), self._modules()
        )
        at_inputs = [layer.module is None for layer in self.layers]
        for side, at_input in zip(self.prepared.sides, at_inputs):
            if at_input:  # what has no path is refused in the adapter's words
                side.layout(side.inputs.shape, True, options.tokens)
        self._call = self.method.call(
            self.prepared.inputs,
            self.prepared.baselines,
            (torch.zeros(1, dtype=torch.long),) * 2,
            None,
            self.prepared.arguments,
            self._at_input(),
        )
        run = ForwardPass(self._call, 0, session)
        places = [0, 0] if self.scorer.is_joint else [0, 1]
        self.layouts = tuple(
            side.layout(run.shape_of(run.values[at], at), at_input, options.tokens)
            for side, at, at_input in zip(self.prepared.sides, places, at_inputs)
        )
        self.settings = PathIntegration(
            (options.n_steps, options.n_steps), None, options.tolerance
        )

    def _modules(self) -> Any:
        first, second = (layer.module for layer in self.layers)
        if self.scorer.is_joint:
            return first
        return None if first is None and second is None else (first, second)

    def _at_input(self) -> tuple[bool, bool]:
        first, second = (
            layer.module is not None and layer.at_input for layer in self.layers
        )
        return first, second

    def surface(self, layouts: Optional[Sequence[Layout]] = None) -> Surface:
        """The score between both baselines and inputs, with these features."""
        device = self.model.first.device
        first, second = (
            layout.mask.to(device)
            for layout in (self.layouts if layouts is None else layouts)
        )
        return Surface(replace(self._call, masks=(first, second)), 0, self.session)

    @property
    def inputs(self) -> tuple[ExplainedInput, ExplainedInput]:
        """What an explanation says of both."""
        first, second = (
            ExplainedInput(
                side.source,
                layout.features,
                layout.grid,
                layer.name,
                side.baseline_name,
                0,
                0.0,
            )
            for side, layout, layer in zip(
                self.prepared.sides, self.layouts, self.layers
            )
        )
        return first, second

    def part(self, asked: AskedLike) -> tuple["_Part", list[Layout]]:
        """What is asked for, and layouts in which it is a few features."""
        weights, feature = asked.weights(self.inputs[asked.side])
        levels, of_feature = torch.unique(weights, return_inverse=True)
        layouts = list(self.layouts)
        mask = layouts[asked.side].mask
        # -1 stays: a position of the other text
        merged = torch.where(mask < 0, mask, of_feature[mask.clamp_min(0)])
        features = tuple(Feature(f"{float(level):g}") for level in levels)
        layouts[asked.side] = Layout(features, merged)
        return _Part(asked.side, levels, feature), layouts

    # ---- what it takes -----------------------------------------------------

    def expected_steps(self, surface: Surface) -> tuple[int, int]:
        """Of both paths, as a scan expects them."""
        first, second = (n for _, n in scanned(surface, self.settings))
        return first, second

    def gradients(self, n_steps: tuple[int, int], features: Sequence[int]) -> int:
        """How many a point takes: the first one, and one for each feature of the side
        of fewer; the main effects take one each."""
        return n_steps[0] * n_steps[1] * (min(features) + 1) + sum(n_steps)

    def seconds(self, n_steps: tuple[int, int], layouts: Sequence[Layout]) -> float:
        """About how long it takes, by a few points of few features."""
        counts = [len(layout.features) for layout in layouts]
        times = []
        numbers = [min(_FEW, *counts), min(_SOME, *counts)]
        for number in numbers:
            merged = [
                Layout(each.features[:number], each.mask.clamp(max=number - 1))
                for each in layouts
            ]
            surface = self.surface(merged)
            start = time.perf_counter()
            settings = PathIntegration((_POINTS, 1))
            self.method.parts_of(surface, settings, effects=False)
            times.append((time.perf_counter() - start) / _POINTS)
        slope = max(times[1] - times[0], 0.0) / max(numbers[1] - numbers[0], 1)
        point = times[0] + slope * (min(counts) - numbers[0])
        return n_steps[0] * n_steps[1] * point

    def deeper(self) -> Optional[tuple[Any, tuple[int, int]]]:
        """The first of the blocks behind, as ``layer=`` takes it, at which the
        tolerance is reached for all features as one; and in how many steps."""
        sides = self.model.first, self.model.second
        now = [_block_of(*each) for each in zip(sides, self.layers)]
        asked = self.options.layers(self.model)
        for step in range(1, _DEEPER + 1):
            layers = [
                given if at is None else min(at + step, len(side.blocks) - 1)
                for at, side, given in zip(now, sides, asked)
            ]
            if layers == now or all(at is None for at in now):
                return None
            pair = ScoredPair(
                self.model,
                self.prepared,
                self.options,
                self.session,
                self.tally,
                layers,
            )
            steps = pair.steps_of_all()
            if steps is not None:
                return layers[0] if self.scorer.is_joint else tuple(layers), steps
        return None

    def steps_of_all(self) -> Optional[tuple[int, int]]:
        """How many it takes for all features of each side as one; None if the tolerance
        is not reached with those that are allowed."""
        merged = [
            Layout(each.features[:1], each.mask.clamp(max=0)) for each in self.layouts
        ]
        surface = self.surface(merged)
        wide = replace(self.settings, n_steps=(_MANY, _MANY))
        if max(n for _, n in scanned(surface, wide)) > self.options.n_steps:
            return None
        found = self.method.parts_of(surface, self.settings)
        is_reached = max(found.residuals) <= self.options.tolerance
        return found.n_steps if is_reached else None


def score_options(given: Mapping[str, Any]) -> Options:
    """
    Settings by name.

    Raises:
        InvalidArgumentError: naming what integrated Hessians do not take.
    """
    method = given.get("method")
    if method not in (None, INTEGRATED_HESSIANS):
        raise InvalidArgumentError(
            "method",
            f"none beside {INTEGRATED_HESSIANS!r}, by which a score of both inputs is "
            "explained",
            validation.describe(method),
        )
    rest = {name: value for name, value in given.items() if name != "method"}
    for name in rest:
        if name not in _SETTINGS:
            raise InvalidArgumentError(
                name, f"a setting of a score's ({', '.join(_SETTINGS)})", "this"
            )
    return Options.of({"n_steps": MOST_STEPS, **rest})


def explain_scored(
    model: EncoderPair,
    inputs: tuple[Any, Any],
    options: Options,
    asked: Optional[AskedLike] = None,
    tally: Optional[Tally] = None,
) -> PairExplanation:
    """See :meth:`captum_pairs.PairScorer.explain`, of one pair."""
    with tallied(options.progress) as counted, Session() as session:
        pair = ScoredPair(model, inputs, options, session, tally or counted)
        part, layouts = None, list(pair.layouts)
        if asked is not None:
            part, layouts = pair.part(asked)
        surface = pair.surface(layouts)
        _announce(pair, surface, layouts)
        found = pair.method.parts_of(surface, pair.settings)
        _offer(pair, found)
        if part is None or asked is None:
            return _explained(pair, found)
        return _part_explained(pair, found, surface, part, asked)


def estimate_scored(
    model: EncoderPair, first: Any, second: Any, options: Options
) -> Cost:
    """See :meth:`captum_pairs.PairScorer.estimate`."""
    with Session() as session:
        pair = ScoredPair(model, (first, second), options, session, Tally())
        return _cost(pair, pair.surface(), pair.layouts)


def _prepared(model: EncoderPair, inputs: Any, options: Options) -> PreparedPair:
    """Both inputs, where the model is."""
    assert model.scorer is not None
    if isinstance(inputs, PreparedPair):
        return inputs
    for name, raw in zip(("first", "second"), inputs):
        if isinstance(raw, InputContributions):
            raise InvalidArgumentError(
                name,
                "an input itself, since a score of both has no contributions of one",
                validation.describe(raw),
            )
    first, second = inputs
    found = model.scorer.prepare(first, second, options.baselines(model))
    return found.to(model.first.device)


def _block_of(encoder: Encoder, layer: Layer) -> Optional[int]:
    """The block whose input a layer is, -1 in front of them, or None elsewhere."""
    for index, block in enumerate(encoder.blocks):
        if block is layer.module and layer.at_input:
            return index
    is_front = layer.module is None or layer.module is encoder.entrance
    return -1 if encoder.blocks and is_front else None


# ---- what it takes -----------------------------------------------------------


def _cost(pair: ScoredPair, surface: Surface, layouts: Sequence[Layout]) -> Cost:
    steps = pair.expected_steps(surface)
    counts = len(layouts[0].features), len(layouts[1].features)
    first, second = pair.layers
    return Cost(
        pair.seconds(steps, layouts),
        pair.gradients(steps, counts),
        counts,
        steps,
        (first.name, second.name),
        is_grid=True,
    )


def _announce(pair: ScoredPair, surface: Surface, layouts: Sequence[Layout]) -> None:
    """Says on standard error what an explanation takes, if that is more than a few
    seconds."""
    tally = pair.tally
    point = tally.elapsed / max(tally.forwards, 1)
    steps = pair.expected_steps(surface)
    counts = [len(each.features) for each in layouts]
    # a second gradient takes as long as two passes or more
    if 2 * point * pair.gradients(steps, counts) < PATIENCE:
        return
    found = _cost(pair, surface, layouts)
    if found.seconds >= PATIENCE:
        print(f"explaining a pair takes {found}", file=sys.stderr)


def _offer(pair: ScoredPair, found: PathParts) -> None:
    """Says on standard error that the tolerance was not reached, and at which layer it
    would be."""
    residual, tolerance = max(found.residuals), pair.options.tolerance
    if residual <= tolerance:
        return
    said = (
        f"the integral over both paths has a residual of {residual:.0e} after "
        f"{found.n_steps[0]} x {found.n_steps[1]} steps, above tolerance={tolerance:g}"
    )
    deeper = pair.deeper()
    if deeper is None:
        said += "; more steps (n_steps=) bring it down, unless the score has kinks"
    else:
        layer, steps = deeper
        said += (
            f"; layer={layer} does with {steps[0]} x {steps[1]}, all features as one"
        )
    print(said, file=sys.stderr)


# ---- the result --------------------------------------------------------------


def _settled(pair: ScoredPair, found: PathParts) -> list[ExplainedInput]:
    """Both inputs, and how the integrals were found."""
    return [
        replace(each, n_steps=n, residual=residual)
        for each, n, residual in zip(pair.inputs, found.n_steps, found.residuals)
    ]


def _explained(pair: ScoredPair, found: PathParts) -> PairExplanation:
    parts = found.parts
    first, second = _settled(pair, found)
    return _result(
        pair,
        (first, second),
        parts.score,
        constant=float(parts.constant),
        first_effects=parts.first.cpu(),
        second_effects=parts.second.cpu(),
        interactions=parts.interactions.cpu().contiguous(),
        convergence_delta=float(parts.convergence_delta),
    )


def _part_explained(
    pair: ScoredPair,
    found: PathParts,
    surface: Surface,
    part: _Part,
    asked: AskedLike,
) -> PairExplanation:
    """What was asked for, and the rest of the score in one number."""
    parts, at = found.parts, part.at
    table = parts.interactions if at == 0 else parts.interactions.T
    levels = part.levels.to(table)
    effects: list[Optional[Tensor]] = [None, None]
    own = (parts.first, parts.second)[at]
    effects[at] = (levels @ own)[None].cpu()
    column = (levels @ table)[None].cpu()
    inputs = _settled(pair, found)
    place = None if asked.region is None else box_of(asked.region)
    inputs[at] = replace(inputs[at], features=(part.feature,), grid=None, asked=place)
    score, constant = float(parts.score), float(parts.constant)
    delta = float(parts.convergence_delta)
    shown = constant + float((levels @ own).double()) + float(column.double().sum())
    return _result(
        pair,
        (inputs[0], inputs[1]),
        parts.score,
        constant=constant,
        first_effects=effects[0],
        second_effects=effects[1],
        interactions=(column if at == 0 else column.T).contiguous(),
        convergence_delta=delta,
        rest=score - shown + delta,
    )


def _result(
    pair: ScoredPair,
    inputs: tuple[ExplainedInput, ExplainedInput],
    score: Tensor,
    **parts: Any,
) -> PairExplanation:
    model = pair.model
    return PairExplanation(
        model=model.name,
        method=INTEGRATED_HESSIANS,
        first=inputs[0],
        second=inputs[1],
        similarity=model.similarity,
        score=float(score),
        heads=model.heads,
        tolerance=pair.options.tolerance,
        **parts,
    )
