"""One side of an explanation: an input ready to be attributed to, or what was kept."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

import torch
from captum_pairs.attr import (
    ExpectedJacobian,
    IntegratedJacobian,
    InvalidArgumentError,
    Session,
    Shares,
    validation,
)
from captum_pairs.explain.counting import Tally
from captum_pairs.explain.options import OF_PAIRS, OF_SIDES, Options, REMOVED
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import Feature, Prepared, TEXT
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.equality import ByContent
from torch import Tensor

__all__ = [
    "adopted",
    "Asking",
    "check_directions",
    "InputContributions",
    "Known",
    "PreparedSide",
    "settings_of_side",
    "settled",
    "shares_of",
    "shares_of_along",
    "Side",
    "side_of",
    "side_of_query",
    "sides_of",
    "stored",
    "stored_in_groups",
    "weighted_of",
]

# The setting that says what an encoder is besides its weights.
_ENCODER = "encoder"


# Inputs of a call that are held at once, if there is room for more.
_MOST_TOGETHER = 32
# Of each feature, at least, unless a number was asked for.
_SAMPLES = 8


class Side(ABC):
    """
    What a pair is made of, of one input; everything is on the CPU.

    Attributes:
        input: the input, and its features i.
        cost: how many features' contributions would have to be computed.
    """

    input: ExplainedInput
    cost: int

    @property
    def most_together(self) -> int:
        """How many like it are worth having at once."""
        return _MOST_TOGETHER

    @abstractmethod
    def shares(self) -> Shares:
        """Contributions c_i, (i, k), and the ends that they lie between."""

    @abstractmethod
    def shares_along(self, directions: Tensor) -> Shares:
        """Inner products (i, m) of the contributions with directions (m, k)."""

    @abstractmethod
    def weighted(self, weights: Tensor) -> Shares:
        """The contribution (1, k) of features that count by a weight each."""


@dataclass(frozen=True)
class Known(Side):
    """A side whose contributions are there."""

    input: ExplainedInput
    known: Shares

    cost = 0

    def shares(self) -> Shares:
        return self.known

    def shares_along(self, directions: Tensor) -> Shares:
        values = self.known.values
        return self.known._replace(values=values.to(directions) @ directions.T)

    def weighted(self, weights: Tensor) -> Shares:
        values = self.known.values
        return self.known._replace(values=(weights.to(values) @ values)[None])


@dataclass(frozen=True, repr=False)
class InputContributions(ByContent):
    """
    What an input contributes to its embedding, feature by feature.

    Args:
        input: the input, and its features i.
        values: c_i, (i, k).
        embedding, baseline_embedding: g(x) and g(r_x), (k,); the contributions sum to
            their difference.
        model: the fingerprint of the model that they belong to (see
            :meth:`EncoderPair.fingerprint`).
        settings: what else they depend on, by name: the side, the method, the layer...
    """

    input: ExplainedInput
    values: Tensor
    embedding: Tensor
    baseline_embedding: Tensor
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        count, width = self.values.shape
        return f"<InputContributions: {count} vectors of {width}, of {self.input!r}>"

    def read(self, directions: Tensor) -> Tensor:
        """
        Attributions of linear readings of the embedding: a class prompt's embedding, a
        probe's weights.

        Args:
            directions: (k,) or (m, k).

        Returns:
            Inner products with the contributions, without special tokens: (rows,
            columns) or (words,), with m before if there are m.
        """
        check_directions(directions, self.values.shape[1])
        products = directions.to(self.values) @ self.values.T
        return self.input.shaped(products)


def check_directions(directions: object, width: int) -> None:
    """Refuse what are no vectors of that width."""
    if (
        not isinstance(directions, Tensor)
        or not directions.is_floating_point()
        or directions.layout != torch.strided
        or directions.is_meta
        or directions.ndim not in (1, 2)
        or directions.shape[-1] != width
    ):
        raise InvalidArgumentError(
            "directions",
            f"floating vectors ({width},) or (m, {width})",
            validation.describe(directions),
        )


class Asking:
    """
    What a call asks of one of its encoders: the method, made once, so that inputs share
    passes.

    Args:
        model: both encoders.
        at: 0 or 1, which one it is.
        options: how inputs are explained.
        session: in which the encoder is run.
        tally: counts passes.
    """

    def __init__(
        self,
        model: EncoderPair,
        at: int,
        options: Options,
        session: Session,
        tally: Optional[Tally] = None,
    ) -> None:
        model.require_embeddings("contributions")
        self.encoder = (model.first, model.second)[at]
        self.layer = self.encoder.layer(options.layers(model)[at])
        self.baseline = options.baselines(model)[at]
        self.references = options.references_of(model, at)
        self.model, self.at, self.options, self.session = model, at, options, session
        self.tally = Tally() if tally is None else tally
        self.method = options.method_class(
            self.tally.counted(self.encoder.embed),
            normalize=model.similarity == "cosine",
            layer=self.layer.module,
        )

    def start(self, prepared: Prepared) -> tuple[Any, str]:
        """Where paths to an input start: its baseline or references; and in words."""
        if not self.method.has_baseline:
            return None, "none"
        if self.references is None or not isinstance(self.method, ExpectedJacobian):
            return prepared.baseline, prepared.baseline_name
        return self.references.start(self.model, self.method, prepared, self.layer)

    def on_device(self, value: Tensor) -> Tensor:
        """A tensor where the encoder is."""
        return value.to(self.encoder.device)


class PreparedSide(Side):
    """
    An input of one side, ready to be attributed to while its session is open.

    Args:
        asking: what is asked of its encoder.
        raw: the input, or what its encoder prepared of it.
    """

    def __init__(self, asking: Asking, raw: Any) -> None:
        self.asking = asking
        encoder, options, method = asking.encoder, asking.options, asking.method
        prepared = raw
        if not isinstance(prepared, Prepared):
            prepared = encoder.prepare(raw, asking.baseline)
        self.prepared = prepared.to(encoder.device)
        at_input = asking.layer.module is None
        if at_input:  # what has no path is refused in the adapter's words
            self.prepared.layout(self.prepared.inputs.shape, True, options.tokens)
        start, self._start = asking.start(self.prepared)
        given = options.settings_for(asking.at)
        example = next(
            method.examples(
                self.prepared.inputs,
                start,
                None,
                self.prepared.arguments,
                asking.layer.at_input and not at_input,
                session=asking.session,
                settings=(
                    method.settings_type(**given)
                    if isinstance(method, IntegratedJacobian)
                    else None
                ),
            )
        )
        self.layout = self.prepared.layout(example.shape, at_input, options.tokens)
        self.example = example.masked(asking.on_device(self.layout.mask))
        self.cost = len(self.layout.features)
        if "n_samples" in given and "n_samples" not in options.given:
            # a fit needs as many as there are features, at each of several chances
            given["n_samples"] = max(given["n_samples"], _SAMPLES * self.cost)
        if self.embed_subsets is not None:
            given["embed_subsets"] = self.embed_subsets
        self.settings = method.settings_type(**given)

    @property
    def input(self) -> ExplainedInput:  # type: ignore[override]  # read only
        """What an explanation says of this input."""
        baseline = self._start
        if self.asking.options.absent == REMOVED:
            baseline = "nothing of it"
        return ExplainedInput(
            self.prepared.source,
            self.layout.features,
            self.layout.grid,
            self.asking.layer.name,
            baseline,
            0,
            0.0,
        )

    @cached_property
    def embed_subsets(self) -> Optional[Callable[[Tensor], Tensor]]:
        """Embeds what is left when features are taken out, if they are."""
        asking = self.asking
        if asking.options.absent != REMOVED:
            return None
        return asking.tally.counted(
            self.prepared.embed_what_is_left(asking.encoder, asking.layer, self.layout)
        )

    @property
    def most_together(self) -> int:
        """How many inputs like this one are worth having at once."""
        most: int = self.asking.method.most_together(self.example)
        return min(most, _MOST_TOGETHER)

    def shares(self) -> Shares:
        return shares_of([self])[0]

    def shares_along(self, directions: Tensor) -> Shares:
        return shares_of_along([self], [directions])[0]

    def weighted(self, weights: Tensor) -> Shares:
        return weighted_of([self], [weights])[0]


def shares_of(sides: Sequence[Side]) -> list[Shares]:
    """Contributions of several inputs, which share passes where they can."""
    return _by_asking(
        sides,
        lambda method, prepared, _: method.shares_of(
            [each.example for each in prepared], [each.settings for each in prepared]
        ),
        lambda side, _: side.shares(),
        [None] * len(sides),
    )


def shares_of_along(
    sides: Sequence[Side], directions: Sequence[Tensor]
) -> list[Shares]:
    """Inner products with directions (m, k) of each, as for :func:`shares_of`."""
    return _by_asking(
        sides,
        lambda method, prepared, along: method.shares_of_along(
            [each.example for each in prepared],
            [each.asking.on_device(own) for each, own in zip(prepared, along)],
            [each.settings for each in prepared],
        ),
        lambda side, along: side.shares_along(along),
        directions,
    )


def weighted_of(sides: Sequence[Side], weights: Sequence[Tensor]) -> list[Shares]:
    """The contribution (1, k) of each input's features that count by a weight each."""

    def whole(method: Any, prepared: list[PreparedSide], given: list[Any]) -> Any:
        # features of the same weight are one in the integral
        levels = [torch.unique(own, return_inverse=True) for own in given]
        found = _grouped(method, prepared, [groups for _, groups in levels])
        return [
            each._replace(values=level.to(each.values)[None] @ each.values)
            for each, (level, _) in zip(found, levels)
        ]

    return _by_asking(sides, whole, lambda side, own: side.weighted(own), weights)


def _grouped(
    method: Any, sides: list[PreparedSide], groups: Sequence[Tensor]
) -> list[Shares]:
    """Contributions (g, k) of groups of each input's features, whose ids from 0 (n,)
    are given: of integrals a group is one feature, and costs as much."""
    if not isinstance(method, (IntegratedJacobian, ExpectedJacobian)):
        summed = []
        for each, own in zip(shares_of(sides), groups):
            own, zeros = own.to(each.values.device), each.values.new_zeros
            values = zeros(int(own.max()) + 1, each.values.shape[1])
            summed.append(each._replace(values=values.index_add(0, own, each.values)))
        return summed
    examples: list[Any] = []
    for side, own in zip(sides, groups):
        mask = side.asking.on_device(own[side.layout.mask])
        examples.append(side.example.masked(mask))
    found: list[Shares] = method.shares_of(examples, [side.settings for side in sides])
    return found


def _by_asking(
    sides: Sequence[Side],
    together: Callable[[Any, list[PreparedSide], list[Any]], list[Shares]],
    alone: Callable[[Side, Any], Shares],
    given: Sequence[Any],
) -> list[Shares]:
    """What is asked of sides: of those of the same call together."""
    found: list[Any] = [None] * len(sides)
    by_call: dict[int, list[int]] = {}
    for at, side in enumerate(sides):
        if isinstance(side, PreparedSide):
            by_call.setdefault(id(side.asking), []).append(at)
        else:
            found[at] = alone(side, given[at])
    for places in by_call.values():
        prepared: list[Any] = [sides[at] for at in places]
        results = together(
            prepared[0].asking.method, prepared, [given[at] for at in places]
        )
        for at, shares in zip(places, results):
            found[at] = _on_cpu(shares)
    return found


def _on_cpu(shares: Shares) -> Shares:
    values, embedding, baseline = (each.cpu() for each in shares[:3])
    return Shares(values, embedding, baseline, shares.n_steps, shares.residual)


def settled(given: ExplainedInput, found: Shares) -> ExplainedInput:
    """An input, and how its integral was found."""
    if not found.n_steps:
        return given
    return replace(given, n_steps=found.n_steps, residual=found.residual)


def side_of(
    model: EncoderPair,
    at: int,
    raw: Any,
    options: Options,
    session: Session,
    tally: Optional[Tally] = None,
) -> Side:
    """See :func:`sides_of`."""
    return next(sides_of(model, at, [raw], options, session, tally))


def sides_of(
    model: EncoderPair,
    at: int,
    raws: Iterable[Any],
    options: Options,
    session: Session,
    tally: Optional[Tally] = None,
) -> Iterator[Side]:
    """Inputs ready to be attributed to as long as the session is open; or stored
    contributions, if they are of this model and these options."""
    asking: Optional[Asking] = None
    last: Optional[PreparedSide] = None
    given: Any = None
    for raw in raws:
        if last is not None and raw is given:  # one input beside many
            yield last
            continue
        if isinstance(raw, InputContributions):
            kept = matching(model, raw, options, at)
            ends = kept.embedding, kept.baseline_embedding
            yield Known(kept.input, Shares(kept.values, *ends))
            continue
        if asking is None:
            asking = Asking(model, at, options, session, tally)
        last, given = PreparedSide(asking, raw), raw
        yield last


def adopted(options: Options, *inputs: Any) -> Options:
    """Options for these inputs: what stored contributions were found with, unless
    something else was asked for."""
    for each in inputs:
        if isinstance(each, InputContributions):
            return options.adopting(each.settings)
    return options


def stored(
    model: EncoderPair, at: int, raw: Any, options: Options
) -> InputContributions:
    """All of an input's contributions."""
    if isinstance(raw, InputContributions):
        return matching(model, raw, options, at)
    settings = settings_of_side(model, at, options)
    with Session() as session:
        side = side_of(model, at, raw, options, session)
        shares = side.shares()
        given = settled(side.input, shares)
        return InputContributions(given, *shares[:3], model.fingerprint, settings)


def stored_in_groups(
    model: EncoderPair,
    at: int,
    raw: Any,
    options: Options,
    groups_of: Callable[[ExplainedInput], Sequence[int]],
) -> InputContributions:
    """
    The contributions of groups of an input's features, which are its features then.

    Args:
        groups_of: of each feature its group's id, from 0 without a gap.
    """
    with model.as_it_is(), Session() as session:
        settings = settings_of_side(model, at, options)
        side = side_of(model, at, raw, options, session)
        assert isinstance(side, PreparedSide)  # nothing that was stored is given
        groups = torch.tensor(groups_of(side.input))
        shares = _on_cpu(_grouped(side.asking.method, [side], [groups])[0])
        features = tuple(Feature(f"group {n}") for n in range(len(shares.values)))
        given = replace(settled(side.input, shares), features=features, grid=None)
        return InputContributions(given, *shares[:3], model.fingerprint, settings)


def matching(
    model: EncoderPair, kept: InputContributions, options: Options, at: int
) -> InputContributions:
    """
    Stored contributions, if they are this model's and were found as is asked for now.

    Raises:
        InvalidArgumentError: naming the setting that differs, and both values.
    """
    if kept.model != model.fingerprint:
        raise InvalidArgumentError(
            "contributions",
            f"contributions of the model {model.name} ({model.fingerprint})",
            f"those of another one ({kept.model})",
        )
    wanted = settings_of_side(model, at, options)
    known = kept.settings.get(_ENCODER)
    if known is None:
        del wanted[_ENCODER]  # kept by a version that did not ask
    elif known != wanted[_ENCODER]:
        raise InvalidArgumentError(
            "contributions",
            f"contributions of {model.name} with the processor, structure and "
            f"functions that it has now ({wanted[_ENCODER]})",
            f"those of other ones ({known})",
        )
    for name in {**kept.settings, **wanted}:
        mine, theirs = wanted.get(name), kept.settings.get(name)
        if name == "references" and mine is None:
            continue  # those that are given are the other side's
        is_asked = name not in OF_SIDES or name in options.given
        is_used = name in wanted or name not in OF_PAIRS
        if is_asked and is_used and mine != theirs:
            raise InvalidArgumentError(
                name,
                f"{theirs!r}, with which the stored contributions were found",
                repr(mine),
            )
    return kept


def settings_of_side(model: EncoderPair, at: int, options: Options) -> dict[str, Any]:
    """All that one side's contributions depend on besides weights and input."""
    known = model.described(("first", "second")[at])
    return {**options.of_side(model, at), _ENCODER: known}


def side_of_query(model: EncoderPair, query: Any, side: Optional[str]) -> str:
    """Which of a pair's inputs a query is, told from what it is."""
    if side is not None:
        return str(validation.one_of("side", side, ("first", "second")))
    kinds = model.first.kind, model.second.kind
    if kinds[0] == kinds[1]:
        return "first"
    if isinstance(query, InputContributions):
        return "first" if query.input.kind == kinds[0] else "second"
    is_text = isinstance(query, str) and not _is_file(query)
    if TEXT in kinds:
        text = kinds.index(TEXT)
        return ("first", "second")[text if is_text else 1 - text]
    return "first"


def _is_file(name: str) -> bool:
    """Whether a string is the path of a file, or looks like an image's or sound's."""
    try:
        if Path(name).is_file():
            return True
    except (OSError, ValueError):
        return False
    endings = ".jpg .jpeg .png .webp .bmp .gif .tif .tiff .wav .flac .mp3".split()
    return " " not in name and Path(name).suffix.lower() in endings
