"""How an explanation is computed: contribution vectors of one input, readings of the
other, and their products."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Optional, Union

import torch
from captum_pairs.attr import (
    blocks_of,
    InvalidArgumentError,
    Session,
    Shares,
    validation,
)
from captum_pairs.explain.contributions import check_paired, Contributions
from captum_pairs.explain.cost import announce
from captum_pairs.explain.counting import tallied, Tally
from captum_pairs.explain.options import Options
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.scored import explain_scored
from captum_pairs.explain.sides import (
    adopted,
    settled,
    shares_of,
    shares_of_along,
    Side,
    side_of,
    sides_of,
    stored,
    weighted_of,
)
from captum_pairs.inputs import box_of, ExplainedInput, find_phrase, Where, words_of
from captum_pairs.models.encoder import Feature, TEXT
from captum_pairs.models.encoder_pair import EncoderPair
from torch import Tensor

__all__ = ["combine", "explain", "explain_pair", "explanation_of", "part_asked_for"]


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
) -> Union[PairExplanation, list[PairExplanation]]:
    """See :meth:`captum_pairs.DualEncoder.explain`."""
    with model.as_it_is():
        if not (_is_many(first) or _is_many(second)):
            return explain_pair(model, (first, second), options, asked)
        if model.scorer is not None:
            pairs = _paired(first, second)
            return [explain_pair(model, pair, options, asked) for pair in pairs]
        first, second = _computed_once(model, first, second, options)
        return _explain_pairs(model, _paired(first, second), options, asked)


def explain_pair(
    model: EncoderPair,
    inputs: tuple[Any, Any],
    options: Options,
    asked: Optional[Asked] = None,
    tally: Optional[Tally] = None,
) -> PairExplanation:
    """
    The explanation of one pair; each input is raw or :class:`InputContributions`.

    Contributions are computed on the side of fewer features, and for each of them one
    backward pass a step gives the attributions to all features of the other one.
    """
    if model.scorer is not None:
        return explain_scored(model, inputs, options, asked, tally)
    options = adopted(options, *inputs)
    with tallied(options.progress) as counted, Session() as session:
        sides = tuple(
            side_of(model, at, raw, options, session, tally or counted)
            for at, raw in enumerate(inputs)
        )
        if asked is None and tally is None:
            announce(model, sides, options, counted)
        return _explain_sides(model, [sides], options, asked)[0]


def _explain_pairs(
    model: EncoderPair,
    pairs: Sequence[tuple[Any, Any]],
    options: Options,
    asked: Optional[Asked],
) -> list[PairExplanation]:
    """Explanations of several pairs, which share passes where they can."""
    found: list[PairExplanation] = []
    with tallied(options.progress) as tally:
        while len(found) < len(pairs):
            rest = pairs[len(found) :]
            own = adopted(options, *rest[0])
            alike = takewhile(lambda pair: adopted(options, *pair) == own, rest)
            with Session() as session:
                firsts, seconds = zip(*alike)
                sides = zip(
                    sides_of(model, 0, firsts, own, session, tally),
                    sides_of(model, 1, seconds, own, session, tally),
                )
                block = next(blocks_of(sides, _most_together))
                found += _explain_sides(model, block, own, asked)
    return found


def _most_together(sides: tuple[Side, Side]) -> int:
    return min(each.most_together for each in sides)


def _explain_sides(
    model: EncoderPair,
    pairs: Sequence[Any],
    options: Options,
    asked: Optional[Asked],
) -> list[PairExplanation]:
    if asked is not None:
        return _explain_parts(model, pairs, options, asked)
    return combine(model, pairs, options)


def combine(
    model: EncoderPair, pairs: Sequence[tuple[Side, Side]], options: Options
) -> list[PairExplanation]:
    """The explanations of pairs of sides."""
    swapped = [second.cost < first.cost for first, second in pairs]
    few = [pair[swap] for pair, swap in zip(pairs, swapped)]
    many = [pair[not swap] for pair, swap in zip(pairs, swapped)]
    known = shares_of(few)
    directions = [torch.cat([c.values, c.baseline_embedding[None]]) for c in known]
    read = shares_of_along(many, directions)
    return [
        explanation_of(model, (few_.input, c), (many_.input, r), swap, options)
        for few_, c, many_, r, swap in zip(few, known, many, read, swapped)
    ]


def explanation_of(
    model: EncoderPair,
    known: tuple[ExplainedInput, Shares],
    read: tuple[ExplainedInput, Shares],
    known_is_second: bool,
    options: Options,
) -> PairExplanation:
    """
    The parts of a score put together.

    Args:
        known: the input whose contributions were computed, features p; and these.
        read: the other one, features q; and its readings (q, p + 1) along these
            contributions and the known one's baseline embedding.
    """
    (input_known, shares), (other, found) = known, read
    input_known, other = settled(input_known, shares), settled(other, found)
    embedding, baseline = (
        end.double() for end in (found.embedding, found.baseline_embedding)
    )
    pairs, other_effects = found.values[:, :-1], found.values[:, -1]
    known_effects = (shares.values.double() @ baseline).to(found.values)
    score = float(shares.embedding.double() @ embedding)
    constant = float(shares.baseline_embedding.double() @ baseline)
    total = sum(float(p.double().sum()) for p in (pairs, other_effects, known_effects))
    inputs = (other, input_known) if known_is_second else (input_known, other)
    effects = (other_effects, known_effects)
    if not known_is_second:
        pairs, effects = pairs.T, effects[::-1]
    return _explained(
        model,
        options,
        inputs,
        score=score,
        constant=constant,
        first_effects=effects[0].contiguous(),
        second_effects=effects[1].contiguous(),
        interactions=pairs.contiguous(),
        convergence_delta=constant + total - score,
    )


def _explain_parts(
    model: EncoderPair,
    pairs: Sequence[tuple[Side, Side]],
    options: Options,
    asked: Asked,
) -> list[PairExplanation]:
    """Only a phrase or a region: one backward pass a step on the other side."""
    given = [pair[asked.side] for pair in pairs]
    others = [pair[1 - asked.side] for pair in pairs]
    parts = [asked.weights(each.input) for each in given]
    known = weighted_of(given, [weights for weights, _ in parts])
    read = shares_of_along(others, [each.values for each in known])
    return [
        _part_explained(model, options, asked, *each)
        for each in zip(given, others, (feature for _, feature in parts), known, read)
    ]


def _part_explained(
    model: EncoderPair,
    options: Options,
    asked: Asked,
    given: Side,
    other: Side,
    feature: Feature,
    known: Shares,
    read: Shares,
) -> PairExplanation:
    at = asked.side
    vector, column = known.values[0].double(), read.values
    embedding, baseline = (
        end.double() for end in (read.embedding, read.baseline_embedding)
    )
    exact = float((embedding - baseline) @ vector)
    effect = float(baseline @ vector)
    score = float(embedding @ known.embedding.double())
    constant = float(baseline @ known.baseline_embedding.double())
    place = None if asked.region is None else box_of(asked.region)
    part = settled(given.input, known)
    part = replace(part, features=(feature,), grid=None, asked=place)
    effects: list[Optional[Tensor]] = [None, None]
    effects[at] = torch.tensor([effect])
    rest = settled(other.input, read)
    return _explained(
        model,
        options,
        (part, rest) if at == 0 else (rest, part),
        score=score,
        constant=constant,
        first_effects=effects[0],
        second_effects=effects[1],
        interactions=(column.T if at == 0 else column).contiguous(),
        convergence_delta=float(column.double().sum()) - exact,
        rest=score - constant - effect - exact,
    )


def _explained(
    model: EncoderPair,
    options: Options,
    inputs: tuple[ExplainedInput, ExplainedInput],
    **parts: Any,
) -> PairExplanation:
    """An explanation of these parts, and what it has of the model and the options."""
    return PairExplanation(
        model=model.name,
        method=options.method_name,
        first=inputs[0],
        second=inputs[1],
        similarity=model.similarity,
        heads=model.heads,
        tolerance=options.tolerance,
        **parts,
    )


def part_asked_for(
    model: EncoderPair,
    phrase: Optional[str],
    occurrence: Optional[int],
    region: Optional[Where],
    side: Optional[str],
) -> Optional[Asked]:
    """Whose phrase or region is asked for, if one is."""
    if phrase is None and occurrence is not None:
        raise InvalidArgumentError("occurrence", "None without a phrase", "one")
    if phrase is None and region is None:
        if side is not None:
            raise InvalidArgumentError(
                "side", "None without a phrase or a region", validation.describe(side)
            )
        return None
    if phrase is not None and region is not None:
        raise InvalidArgumentError("region", "a phrase or a region", "both")
    kinds = model.first.kind, model.second.kind
    fits = [(kind == TEXT) == (phrase is not None) for kind in kinds]
    if side is not None:
        validation.one_of("side", side, ("first", "second"))
        if not fits[side == "second"]:
            raise InvalidArgumentError(
                "side", "'first' or 'second', which has such parts", repr(side)
            )
        return Asked(int(side == "second"), phrase, occurrence, region)
    if sum(fits) != 1:
        what = "phrase" if phrase is not None else "region"
        expected = "'first' or 'second'" if all(fits) else f"an input with a {what}"
        raise InvalidArgumentError("side", expected, "None")
    return Asked(fits.index(True), phrase, occurrence, region)


def _is_many(inputs: Any) -> bool:
    """Whether these are several inputs: a list, or stored contributions."""
    return isinstance(inputs, (list, Contributions))


def _computed_once(
    model: EncoderPair, first: Any, second: Any, options: Options
) -> tuple[Any, Any]:
    """A single input beside stored ones: its contributions are computed once."""
    for name, each in (("first", first), ("second", second)):
        if isinstance(each, Contributions) and not len(each):
            failed = f": {len(each.failed)} failed" if each.failed else ""
            raise InvalidArgumentError(name, "at least one input", f"none{failed}")
    if isinstance(second, Contributions) and not _is_many(first):
        first = stored(model, 0, first, adopted(options, second[0]))
    if isinstance(first, Contributions) and not _is_many(second):
        second = stored(model, 1, second, adopted(options, first[0]))
    return first, second


def _paired(first: Any, second: Any) -> list[tuple[Any, Any]]:
    """Inputs as pairs; one input alone goes with each of several."""
    if not _is_many(first):
        return [(first, other) for other in second]
    if not _is_many(second):
        return [(one, second) for one in first]
    check_paired(first, second)
    return list(zip(first, second))
