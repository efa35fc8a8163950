"""One side of an explanation: an input ready to be attributed to, or what was kept."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

import torch
from captum_pairs.attr import (
    BaselinePath,
    IntegratedJacobian,
    InvalidArgumentError,
    Session,
    Shares,
    validation,
)
from captum_pairs.explain.counting import Tally
from captum_pairs.explain.options import OF_PAIRS, OF_SIDES, Options, REMOVED
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import Prepared, TEXT
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.equality import ByContent
from torch import Tensor

__all__ = [
    "adopted",
    "check_directions",
    "InputContributions",
    "Known",
    "PreparedSide",
    "settings_of_side",
    "Side",
    "side_of",
    "side_of_query",
    "stored",
]

# The setting that says what an encoder is besides its weights.
_ENCODER = "encoder"


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


@dataclass(frozen=True)
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


class PreparedSide(Side):
    """An input of one side, ready to be attributed to while its session is open."""

    def __init__(
        self,
        model: EncoderPair,
        at: int,
        raw: Any,
        options: Options,
        session: Session,
        tally: Optional[Tally] = None,
    ) -> None:
        """
        Args:
            model: both encoders.
            at: 0 or 1, whose input it is.
            raw: the input, or what its encoder prepared of it.
            options: how it is explained.
            session: in which the encoder is run.
            tally: counts passes.
        """
        self.encoder = encoder = (model.first, model.second)[at]
        self.layer = encoder.layer(options.layers(model)[at])
        prepared = raw
        if not isinstance(prepared, Prepared):
            prepared = encoder.prepare(raw, options.baselines(model)[at])
        self.prepared = prepared.to(encoder.device)
        self._options = options
        self._tally = Tally() if tally is None else tally
        self.method = options.method_class(
            self._tally.counted(encoder.embed),
            normalize=model.similarity == "cosine",
            layer=self.layer.module,
        )
        at_input = self.layer.module is None
        if at_input:  # what has no path is refused in the adapter's words
            self.prepared.layout(self.prepared.inputs.shape, True, options.tokens)
        example = next(
            self.method.examples(
                self.prepared.inputs,
                self.prepared.baseline if self.method.has_baseline else None,
                None,
                self.prepared.arguments,
                self.layer.at_input and not at_input,
                session=session,
            )
        )
        self.layout = self.prepared.layout(example.shape, at_input, options.tokens)
        self.example = example.masked(self._on_device(self.layout.mask))
        self.cost = len(self.layout.features)
        given = options.settings_for(at)
        if "n_samples" in given and "n_samples" not in options.given:
            # a fit needs as many as there are features, at each of several chances
            given["n_samples"] = max(given["n_samples"], _SAMPLES * self.cost)
        if self.embed_subsets is not None:
            given["embed_subsets"] = self.embed_subsets
        self.settings = self.method.settings_type(**given)
        self.n_steps, self.residual = 0, 0.0
        path = self.example
        if isinstance(self.method, IntegratedJacobian) and isinstance(
            path, BaselinePath
        ):
            chosen, residual = self.method.refined(path, self.settings)
            self.settings, self.n_steps = chosen, chosen.n_steps
            self.residual = float(residual)

    def _on_device(self, value: Tensor) -> Tensor:
        return value.to(self.encoder.device)

    @property
    def input(self) -> ExplainedInput:  # type: ignore[override]  # read only
        """What an explanation says of this input."""
        baseline = self.prepared.baseline_name if self.method.has_baseline else "none"
        if self._options.absent == REMOVED:
            baseline = "nothing of it"
        return ExplainedInput(
            self.prepared.source,
            self.layout.features,
            self.layout.grid,
            self.layer.name,
            baseline,
            self.n_steps,
            self.residual,
        )

    @cached_property
    def embed_subsets(self) -> Optional[Callable[[Tensor], Tensor]]:
        """Embeds what is left when features are taken out, if they are."""
        if self._options.absent != REMOVED:
            return None
        embed = self.prepared.embed_what_is_left(self.encoder, self.layer, self.layout)
        return self._tally.counted(embed)

    def shares(self) -> Shares:
        self._tally.announce(self.n_steps)
        return _on_cpu(self.method.shares(self.example, self.settings))

    def shares_along(self, directions: Tensor) -> Shares:
        self._tally.announce(self.n_steps * len(directions))
        along = self._on_device(directions)
        return _on_cpu(self.method.shares_along(self.example, along, self.settings))

    def weighted(self, weights: Tensor) -> Shares:
        if not isinstance(self.method, IntegratedJacobian):
            found = self.shares()
            return found._replace(values=weights.to(found.values)[None] @ found.values)
        # features of the same weight are one in the integral
        self._tally.announce(self.n_steps)
        levels, of_feature = torch.unique(weights, return_inverse=True)
        mask = self._on_device(of_feature[self.layout.mask])
        found = _on_cpu(self.method.shares(self.example.masked(mask), self.settings))
        return found._replace(values=levels.to(found.values)[None] @ found.values)


def _on_cpu(shares: Shares) -> Shares:
    return Shares(*(each.cpu() for each in shares))


def side_of(
    model: EncoderPair,
    at: int,
    raw: Any,
    options: Options,
    session: Session,
    tally: Optional[Tally] = None,
) -> Side:
    """An input ready to be attributed to as long as the session is open; or stored
    contributions, if they are of this model and these options."""
    if isinstance(raw, InputContributions):
        kept = matching(model, raw, options, at)
        ends = kept.embedding, kept.baseline_embedding
        return Known(kept.input, Shares(kept.values, *ends))
    return PreparedSide(model, at, raw, options, session, tally)


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
        side = PreparedSide(model, at, raw, options, session)
        return InputContributions(
            side.input, *side.shares(), model.fingerprint, settings
        )


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
