"""Explanations of late interaction: the maxima are looked up once, at the inputs, and
what is left is an inner product like any other."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Optional, Union

import torch
from captum_pairs.attr import InvalidArgumentError, Session, validation
from captum_pairs.explain.comparison import compare, Comparison
from captum_pairs.explain.compute import Asked, explain_pair
from captum_pairs.explain.contrast import Contrast
from captum_pairs.explain.contributions import Contributions
from captum_pairs.explain.cost import Cost, estimate
from captum_pairs.explain.counting import tallied, Tally
from captum_pairs.explain.maxsim import MaxSim
from captum_pairs.explain.methods import INTEGRATED_GRADIENTS, Method
from captum_pairs.explain.options import BASELINE, Options
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.sides import InputContributions, PreparedSide, side_of
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import Prepared
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.late_interaction import (
    LateInteractionPair,
    MAXSIM,
    OutputTokens,
)
from torch import Tensor

__all__ = [
    "compare_assigned",
    "contrast_assigned",
    "estimate_assigned",
    "explain_assigned",
    "refused",
]

# Points of a path, in the middles of as many parts, at which assignments are looked at.
_POINTS = 5


class _Assigned(NamedTuple):
    """
    A pair of inputs with the maxima fixed.

    Args:
        model: whose embeddings' inner product is the fixed score.
        inputs: prepared.
        maxsim: what was found.
    """

    model: EncoderPair
    inputs: tuple[Prepared, Prepared]
    maxsim: MaxSim

    def told(self, explanation: PairExplanation) -> PairExplanation:
        """What was explained as an inner product is the score that it is."""
        return replace(explanation, similarity=MAXSIM, maxsim=self.maxsim)


def refused(what: str) -> InvalidArgumentError:
    """
    What can't be asked of late interaction.

    Args:
        what: the question's name.
    """
    return InvalidArgumentError(
        what,
        "a model with one embedding for an input",
        "late interaction (MaxSim): which tokens are compared belongs to a pair, so "
        "that nothing can be computed of one input and kept (explain, contrast and "
        "compare take pairs)",
    )


def explain_assigned(
    model: LateInteractionPair,
    first: Any,
    second: Any,
    options: Options,
    asked: Optional[Asked],
) -> Union[PairExplanation, list[PairExplanation]]:
    """See :meth:`captum_pairs.LateInteraction.explain`; pairs share no passes."""
    _check(options)
    for name, given in (("first", first), ("second", second)):
        if isinstance(given, Contributions):
            raise refused(name)
    many = [isinstance(given, list) for given in (first, second)]
    if all(many) and len(first) != len(second):
        raise InvalidArgumentError(
            "second", f"as many as the first ones, {len(first)}", f"{len(second)}"
        )
    with model.as_it_is(), tallied(options.progress) as tally:
        if not any(many):
            return _explained(model, (first, second), options, asked, tally, True)
        count = len(first) if many[0] else len(second)
        firsts = first if many[0] else [first] * count
        seconds = second if many[1] else [second] * count
        return [
            _explained(model, pair, options, asked, tally)
            for pair in zip(firsts, seconds)
        ]


def contrast_assigned(
    model: LateInteractionPair,
    query: Any,
    candidates: tuple[Any, Any],
    options: Options,
    query_side: str,
) -> Contrast:
    """See :meth:`captum_pairs.LateInteraction.contrast`; each pair has an assignment of
    its own."""
    _check(options)
    at = int(query_side == "second")
    with model.as_it_is(), tallied(options.progress) as tally:
        preferred, other = (
            _explained(
                model,
                (query, candidate) if at == 0 else (candidate, query),
                options,
                None,
                tally,
            )
            for candidate in candidates
        )
    return Contrast(preferred, other, query_side)


def estimate_assigned(
    model: LateInteractionPair, first: Any, second: Any, options: Options
) -> Cost:
    """See :meth:`captum_pairs.LateInteraction.estimate`."""
    _check(options)
    found = _assigned(model, (first, second), options)
    return estimate(found.model, *found.inputs, options)


def compare_assigned(
    model: LateInteractionPair,
    inputs: tuple[Any, Any],
    methods: Sequence[Union[str, Method]],
    options: Options,
    settings: Any,
) -> Comparison:
    """See :meth:`captum_pairs.LateInteraction.compare`."""
    _check(options)
    for name, given in zip(("first", "second"), inputs):
        if isinstance(given, (list, tuple, Contributions)):
            raise InvalidArgumentError(
                name,
                "one input, since one pair is compared",
                validation.describe(given),
            )
    found = _assigned(model, inputs, options)
    result = compare(found.model, *found.inputs, methods, options, settings)
    compared = (
        replace(each, explanation=found.told(each.explanation))
        for each in result.compared
    )
    return replace(result, compared=tuple(compared))


def _check(options: Options) -> None:
    """Refuse what has no meaning with an assignment that is fixed."""
    if options.references is not None:
        raise InvalidArgumentError(
            "references",
            "None for late interaction, whose assignment is that of the two inputs "
            "(baseline= chooses what it is compared with)",
            "some",
        )
    if options.absent != BASELINE:
        raise InvalidArgumentError(
            "absent",
            f"{BASELINE!r} for late interaction, whose assignment is to tokens that "
            "would be gone",
            repr(options.absent),
        )


def _explained(
    model: LateInteractionPair,
    pair: tuple[Any, Any],
    options: Options,
    asked: Optional[Asked],
    tally: Tally,
    alone: bool = False,
) -> PairExplanation:
    """
    Args:
        alone: whether this is all that is asked, so that it is said what it takes.
    """
    found = _assigned(model, pair, options, tally)
    shared = None if alone else tally
    result = explain_pair(found.model, found.inputs, options, asked, shared)
    return found.told(result)


def _assigned(
    model: LateInteractionPair,
    pair: tuple[Any, Any],
    options: Options,
    tally: Optional[Tally] = None,
) -> _Assigned:
    """A pair of inputs, each of the query's tokens assigned to the document's that is
    nearest to it."""
    for name, given in zip(("first", "second"), pair):
        if isinstance(given, InputContributions):
            raise refused(name)
    # where the tokens are along the paths, whatever the method
    scanning = replace(options, method=INTEGRATED_GRADIENTS, settings={})
    with Session() as session:
        sides = [
            side_of(model.choosing(), at, raw, scanning, session, tally)
            for at, raw in enumerate(pair)
        ]
        first, second = (
            _Scan(model.tokens_of(at, side.prepared), side, options.tokens)
            for at, side in enumerate(sides)
            if isinstance(side, PreparedSide)
        )
    query, document = (first, second) if model.query == 0 else (second, first)
    query.check("query")
    document.check("document")
    factor = 1.0 / len(query.places) if model.mean else 1.0
    similar = factor * query.at_input() @ document.at_input().T  # (q, d)
    assigned = similar.argmax(1)
    places = query.places, document.places[assigned]
    own, fixed = _corners(model, query, document, assigned, factor)
    switched = _switched(query, document, assigned)
    if model.query == 1:
        places = places[1], places[0]
        own, fixed, switched = own.T, fixed.T, switched.T
    maxsim = MaxSim(
        ("first", "second")[model.query],
        first.explained,
        second.explained,
        first.groups[first.places],
        second.groups[second.places],
        similar,
        assigned,
        fixed.contiguous(),
        own.contiguous(),
        switched.contiguous(),
    )
    return _Assigned(
        model.choosing(places, factor), (first.prepared, second.prepared), maxsim
    )


class _Scan:
    """
    An input's output tokens at both ends of its path and at points between.

    Attributes:
        prepared: the input.
        places: (t,), of the T output tokens those that the score counts.
        explained: the input, and the words or patches that output tokens lie on.
        groups: (T,), of each output token the index of its word.
        path: (n + 1, T, k), in float64, at points of the path and at the input.
    """

    def __init__(self, tokens: OutputTokens, side: PreparedSide, apart: bool) -> None:
        self.prepared, self.tokens = side.prepared, tokens
        example: Any = side.example  # with a baseline
        count = len(tokens.scored)
        if example.embedding.numel() % count:
            raise InvalidArgumentError(
                "model",
                f"a vector for each of {count} tokens",
                f"{example.embedding.numel()} numbers",
            )
        self.places = tokens.scored.nonzero().flatten()
        nodes = ((torch.arange(_POINTS) + 0.5) / _POINTS).to(example.value)
        between = example.embed(example.points(nodes))
        path = torch.cat([between, example.embedding[None]])
        self.path = path.detach().double().cpu().reshape(len(path), count, -1)
        baseline = example.baseline_embedding.detach().double().cpu()
        self.baseline = baseline.reshape(count, -1)
        layout = side.prepared.layout((1, count, 1), False, apart)
        self.groups = layout.mask.flatten().cpu()
        self.explained = ExplainedInput(
            self.prepared.source,
            layout.features,
            layout.grid,
            "output tokens",
            "nothing",
            0,
            0.0,
        )

    def check(self, role: str) -> None:
        """Refuse an input of which the score counts no token."""
        if not len(self.places):
            raise InvalidArgumentError(
                role,
                "at least one token that the model's score counts",
                f"{self.prepared.source}, of which all are masked",
            )

    def at_input(self) -> Tensor:
        """Of the tokens that count: (t, k)."""
        found: Tensor = self.path[-1, self.places]
        return found

    def ends(self) -> list[tuple[Tensor, Tensor]]:
        """All tokens (T, k) and the places of those that count, at the input and at its
        baseline."""
        at_baseline = self.tokens.scored_at_baseline.nonzero().flatten()
        return [(self.path[-1], self.places), (self.baseline, at_baseline)]


def _corners(
    model: LateInteractionPair,
    query: _Scan,
    document: _Scan,
    assigned: Tensor,
    factor: float,
) -> tuple[Tensor, Tensor]:
    """The model's own score and the fixed one, of (query, document) at the inputs and
    at their baselines: (2, 2) each."""
    own = torch.full((2, 2), math.nan, dtype=torch.float64)
    fixed = torch.zeros(2, 2, dtype=torch.float64)
    for i, (asking, counted) in enumerate(query.ends()):
        for j, (asked, seen) in enumerate(document.ends()):
            chosen = asked[document.places[assigned]]
            fixed[i, j] = factor * (asking[query.places] * chosen).sum()
            if len(counted) and len(seen):
                best = (asking[counted] @ asked[seen].T).amax(1)
                own[i, j] = best.mean() if model.mean else best.sum()
    return own, fixed


def _switched(query: _Scan, document: _Scan, assigned: Tensor) -> Tensor:
    """(n + 1, n + 1), the share of the query's tokens that are assigned to another of
    the document's at points of the two paths."""
    rows = []
    for asking in query.path[:, query.places]:
        # (q, k), (n + 1, d, k) -> (n + 1, q)
        similar = torch.einsum("qk,ndk->nqd", asking, document.path[:, document.places])
        rows.append((similar.argmax(2) != assigned).double().mean(1))
    return torch.stack(rows)
