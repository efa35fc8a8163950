"""How an explanation is computed: contribution vectors of one input, readings of the
other, and their products."""

from dataclasses import dataclass, replace
from typing import Any, Optional

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explain.contributions import Contributions
from captum_pairs.explain.counting import announce, bar as progress_bar
from captum_pairs.explain.options import Options
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.sides import (
    contributions_of,
    InputContributions,
    side_tasks,
    SideTask,
)
from captum_pairs.inputs import ExplainedInput, find_phrase, Where, words_of
from captum_pairs.models.encoder import Feature, TEXT
from captum_pairs.models.encoder_pair import EncoderPair
from torch import Tensor

__all__ = ["combine", "explain", "explain_pair", "explanation_of", "which_asked"]


@dataclass(frozen=True)
class Asked:
    """
    A phrase or a region that alone is explained.

    Args:
        side: 0 or 1, whose it is.
        phrase, occurrence: of a text.
        region: of an image or sound.
    """

    side: int
    phrase: Optional[str] = None
    occurrence: Optional[int] = None
    region: Optional[Where] = None

    def weights(self, given: ExplainedInput) -> tuple[Tensor, Feature]:
        """How much each feature belongs to it, and its own feature."""
        if self.phrase is not None:
            text = given.source.text
            span = find_phrase(text, self.phrase, self.occurrence)
            weights = torch.zeros(len(given.features))
            weights[words_of(given.features, span)] = 1.0
            return weights, Feature(text[slice(*span)], span=span)
        assert self.region is not None  # one of the two was asked for
        weights = given.weights(self.region)
        boxes = [f.box for f, w in zip(given.features, weights) if w and f.box]
        edges = list(zip(*boxes))
        box = (min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3]))
        return weights, Feature("region", box=box)


def explain(
    model: EncoderPair,
    first: Any,
    second: Any,
    options: Options,
    asked: Optional[Asked],
) -> Any:
    """See :meth:`captum_pairs.DualEncoder.explain`."""
    if not (_is_many(first) or _is_many(second)):
        return explain_pair(model, (first, second), options, asked)
    first, second = _once(model, first, second, options)
    return [
        explain_pair(model, pair, options, asked) for pair in _paired(first, second)
    ]


def explain_pair(
    model: EncoderPair,
    inputs: tuple[Any, Any],
    options: Options,
    asked: Optional[Asked] = None,
) -> PairExplanation:
    """
    The explanation of one pair; each input is raw or :class:`InputContributions`.

    Contributions are computed on the side of fewer features, and for each of them one
    backward pass a step gives the attributions to all features of the other one.
    """
    with progress_bar(options.progress) as bar:
        sides = side_tasks(model, inputs, options, bar)
        if asked is not None:
            return _explain_part(model, sides, options, asked, bar)
        return combine(model, sides, options, bar)


def combine(
    model: EncoderPair, sides: tuple[Any, Any], options: Options, bar: Any = None
) -> PairExplanation:
    """The explanation of two inputs, of which each is a task or has contributions."""
    few, many = sides
    swapped = _is_fewer(many, few)
    if swapped:
        few, many = many, few
    if isinstance(few, SideTask):
        announce(bar, few.n_steps)
        few = contributions_of(model, few, options.tolerance)
    directions = torch.cat([few.values, few.baseline_embedding[None]])
    if isinstance(many, SideTask):
        announce(bar, many.n_steps * len(directions))
        reading = many.read(directions)
        table = reading.attributions[0].cpu()
        ends = reading.embedding[0].cpu(), reading.baseline_embedding[0].cpu()
    else:
        table = many.values.to(directions) @ directions.T
        ends = many.embedding, many.baseline_embedding
    return explanation_of(model, few, many.input, table, ends, swapped, options)


def explanation_of(
    model: EncoderPair,
    known: InputContributions,
    other: ExplainedInput,
    table: Tensor,
    ends: tuple[Tensor, Tensor],
    known_is_second: bool,
    options: Options,
) -> PairExplanation:
    """
    The parts of a score put together.

    Args:
        known: the input whose contributions were computed, features p.
        other: the other one, features q.
        table: (q, p + 1), its readings along these contributions and the known one's
            baseline embedding.
        ends: embeddings (k,) of the other input and of its baseline.
    """
    embedding, baseline = (end.double() for end in ends)
    pairs, other_effects = table[:, :-1], table[:, -1]
    known_effects = (known.values.double() @ baseline).to(table)
    score = float(known.embedding.double() @ embedding)
    constant = float(known.baseline_embedding.double() @ baseline)
    total = sum(float(p.double().sum()) for p in (pairs, other_effects, known_effects))
    first, second = (other, known.input) if known_is_second else (known.input, other)
    effects = (other_effects, known_effects)
    if not known_is_second:
        pairs, effects = pairs.T, effects[::-1]
    return PairExplanation(
        model=model.name,
        method=options.method,
        first=first,
        second=second,
        similarity=model.similarity,
        score=score,
        heads=model.heads,
        constant=constant,
        first_effects=effects[0].contiguous(),
        second_effects=effects[1].contiguous(),
        interactions=pairs.contiguous(),
        convergence_delta=constant + total - score,
        tolerance=options.tolerance,
    )


def _explain_part(
    model: EncoderPair, sides: tuple[Any, Any], options: Options, asked: Asked, bar: Any
) -> PairExplanation:
    """Only a phrase or a region: one backward pass a step on the other side."""
    given, other = sides[asked.side], sides[1 - asked.side]
    weights, feature = asked.weights(given.input)
    if isinstance(given, SideTask):
        announce(bar, given.n_steps)
        vector, found = given.weighted(weights)
        vector, start = vector.cpu(), found.baseline_embedding[0].cpu()
        end = found.embedding[0].cpu()
    else:
        vector = weights.to(given.values) @ given.values
        start, end = given.baseline_embedding, given.embedding
    if isinstance(other, SideTask):
        announce(bar, other.n_steps)
        reading = other.read(vector[None])
        column = reading.attributions[0].cpu()
        ends = reading.embedding[0].cpu(), reading.baseline_embedding[0].cpu()
    else:
        column = other.values @ vector[:, None].to(other.values)
        ends = other.embedding, other.baseline_embedding
    embedding, baseline = (e.double() for e in ends)
    exact = float((embedding - baseline) @ vector.double())
    effect = float(baseline @ vector.double())
    score, constant = float(embedding @ end.double()), float(baseline @ start.double())
    part = replace(given.input, features=(feature,), grid=None)
    effects: list[Optional[Tensor]] = [None, None]
    effects[asked.side] = torch.tensor([effect])
    inputs = (part, other.input) if asked.side == 0 else (other.input, part)
    return PairExplanation(
        model=model.name,
        method=options.method,
        first=inputs[0],
        second=inputs[1],
        similarity=model.similarity,
        score=score,
        heads=model.heads,
        constant=constant,
        first_effects=effects[0],
        second_effects=effects[1],
        interactions=(column.T if asked.side == 0 else column).contiguous(),
        convergence_delta=float(column.double().sum()) - exact,
        tolerance=options.tolerance,
        rest=score - constant - effect - exact,
    )


def which_asked(
    model: EncoderPair,
    phrase: Optional[str],
    occurrence: Optional[int],
    region: Optional[Where],
    side: Optional[str],
) -> Optional[Asked]:
    """Whose phrase or region is asked for, if one is."""
    if phrase is None and region is None:
        return None
    if phrase is not None and region is not None:
        raise InvalidArgumentError("region", "a phrase or a region", "both")
    kinds = model.first.kind, model.second.kind
    fits = [(kind == TEXT) == (phrase is not None) for kind in kinds]
    if side is not None:
        if side not in ("first", "second") or not fits[side == "second"]:
            raise InvalidArgumentError(
                "side", "'first' or 'second', which has such parts", repr(side)
            )
        return Asked(int(side == "second"), phrase, occurrence, region)
    if sum(fits) != 1:
        what = "phrase" if phrase is not None else "region"
        expected = "'first' or 'second'" if all(fits) else f"an input with a {what}"
        raise InvalidArgumentError("side", expected, "None")
    return Asked(fits.index(True), phrase, occurrence, region)


def _is_fewer(this: Any, that: Any) -> bool:
    """Whether contributions had better be computed of this side than of that."""
    stored = [isinstance(side, InputContributions) for side in (this, that)]
    if any(stored):
        return stored[0] and not stored[1]
    return len(this.layout.features) < len(that.layout.features)


def _is_many(inputs: Any) -> bool:
    """Whether these are several inputs: a list, or stored contributions."""
    return isinstance(inputs, (list, Contributions))


def _once(
    model: EncoderPair, first: Any, second: Any, options: Options
) -> tuple[Any, Any]:
    """A single input beside stored ones: its contributions are computed once."""
    if isinstance(second, Contributions) and not _is_many(first):
        task = side_tasks(model, (first, second[0]), options)[0]
        if isinstance(task, SideTask):
            first = contributions_of(model, task, options.tolerance)
    if isinstance(first, Contributions) and not _is_many(second):
        task = side_tasks(model, (first[0], second), options)[1]
        if isinstance(task, SideTask):
            second = contributions_of(model, task, options.tolerance)
    return first, second


def _paired(first: Any, second: Any) -> list[tuple[Any, Any]]:
    """Inputs as pairs; one input alone goes with each of several."""
    if not _is_many(first):
        return [(first, other) for other in second]
    if not _is_many(second):
        return [(one, second) for one in first]
    if len(first) != len(second):
        raise InvalidArgumentError(
            "second", f"as many inputs as the first, {len(first)}", f"{len(second)}"
        )
    return list(zip(first, second))
