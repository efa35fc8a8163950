"""How an explanation is computed: contribution vectors of one input, readings of the
other, and their products."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Optional, Union

import torch
from captum_pairs.attr import (
    EmbeddingBanzhaf,
    EmbeddingDecomposition,
    EmbeddingLime,
    EmbeddingOcclusion,
    EmbeddingReading,
    EmbeddingShapley,
    IntegratedJacobian,
    InvalidArgumentError,
    JacobianXInput,
    LayerIntegratedJacobian,
    TokenDecomposition,
)
from captum_pairs.attr._utils.hooks import Place
from captum_pairs.attr._utils.validation import describe
from captum_pairs.explain.pair import INTEGRATED_GRADIENTS, PairExplanation
from captum_pairs.inputs import ExplainedInput, find_phrase, Where, words_of
from captum_pairs.models.dual_encoder import DualEncoder
from captum_pairs.models.encoder import Feature, LayerLike, TEXT
from captum_pairs.models.removal import embed_what_is_left
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no types

__all__ = ["explain_pair", "InputContributions", "METHODS", "Options", "SideTask"]


@dataclass(frozen=True)
class _Vectors:
    """
    A method whose pairs are inner products of one vector for each feature.

    Args:
        make: the embedding attribution.
        has_baseline: whether it starts from a baseline; without one, features add
            nothing on their own.
        has_subsets: whether it embeds subsets of the features.
        is_sampled: whether the subsets are drawn at random, and the vectors belong to a
            linear model of the embedding with a constant of its own.
        is_embedding: whether vectors are of the embedding's own width.
    """

    make: Any
    has_baseline: bool = True
    has_subsets: bool = False
    is_sampled: bool = False
    is_embedding: bool = True


_VECTORS: dict[str, _Vectors] = {
    "jacobian_x_input": _Vectors(JacobianXInput, has_baseline=False),
    "occlusion": _Vectors(EmbeddingOcclusion, has_subsets=True),
    "banzhaf": _Vectors(EmbeddingBanzhaf, has_subsets=True, is_sampled=True),
    "shapley": _Vectors(
        EmbeddingShapley, has_subsets=True, is_sampled=True, is_embedding=False
    ),
    "lime": _Vectors(EmbeddingLime, has_subsets=True, is_sampled=True),
    "token_similarity": _Vectors(TokenDecomposition, has_baseline=False),
}
# What `method=` may be.
METHODS = (INTEGRATED_GRADIENTS, *_VECTORS)
# Those that leave out features.
SUBSET_METHODS = tuple(name for name, found in _VECTORS.items() if found.has_subsets)
# What becomes of a feature that is absent from a subset.
BASELINE, REMOVED = "baseline", "removed"
# What Gauss-Legendre steps are doubled up to until the tolerance is reached.
MOST_STEPS = 128

LayerPair = Union[LayerLike, tuple[Optional[LayerLike], Optional[LayerLike]], None]


@dataclass(frozen=True)
class Options:
    """
    How inputs are explained.

    Args:
        layer: where is attributed to: a block's number from 0 or from -1 backwards (its
            input), "input", or a module (its output). A pair, one for each input; one
            alone is the first input's, or both inputs' if one encoder takes both.
            Default: the encoders' own.
        method: how contributions are found: "integrated_gradients", "occlusion",
            "banzhaf" (at a probability of 1/2), "shapley", "lime", "jacobian_x_input"
            or "token_similarity". Only the first one accounts for the whole score.
        absent: what a method that leaves out features does with them: "baseline", they
            have the baseline's value, or "removed", words are taken out of the text and
            patches out of the layer's value.
        n_samples: the most subsets of an input's features that are embedded; if there
            are no more, all of them are.
        seed: of the subsets that are drawn.
        tolerance: how complete each path's integral has to be, relative.
        n_steps: Gauss-Legendre steps are doubled up to this number.
        baseline: of images "mean color", "black" or "blur". A pair, or one for all
            inputs that know it. Default: the encoders' own.
        tokens: attribute to tokens instead of words.
        progress: a bar on standard error, if it takes more than two seconds.
    """

    layer: LayerPair = None
    method: str = INTEGRATED_GRADIENTS
    tolerance: float = 1e-2
    n_steps: int = MOST_STEPS
    baseline: Union[str, tuple[Optional[str], Optional[str]], None] = None
    tokens: bool = False
    progress: bool = False
    absent: str = BASELINE
    n_samples: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidArgumentError(
                "method", f"one of {', '.join(METHODS)}", repr(self.method)
            )
        if self.absent not in (BASELINE, REMOVED):
            raise InvalidArgumentError(
                "absent", f"{BASELINE!r} or {REMOVED!r}", repr(self.absent)
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InvalidArgumentError("seed", "a whole number", describe(self.seed))
        if self.absent == REMOVED and self.method not in SUBSET_METHODS:
            raise InvalidArgumentError(
                "absent",
                f"{BASELINE!r} for {self.method}, which leaves out no features "
                f"({', '.join(SUBSET_METHODS)} do)",
                repr(self.absent),
            )

    def layers(self, model: DualEncoder) -> tuple[Any, Any]:
        """One for each input."""
        if isinstance(self.layer, (tuple, list)):
            if len(self.layer) != 2:
                raise InvalidArgumentError(
                    "layer", "one layer or a pair", f"{len(self.layer)} of them"
                )
            return self.layer[0], self.layer[1]
        return self.layer, (self.layer if model.first is model.second else None)

    def baselines(self, model: DualEncoder) -> tuple[Optional[str], Optional[str]]:
        """One for each input."""
        if self.baseline is None or isinstance(self.baseline, (tuple, list)):
            first, second = self.baseline or (None, None)
            return first, second
        knowing = [self.baseline in e.baselines for e in (model.first, model.second)]
        if not any(knowing):
            model.first.check_baseline(self.baseline)
        name = self.baseline
        return name if knowing[0] else None, name if knowing[1] else None


@dataclass(frozen=True)
class InputContributions:
    """
    What an input contributes to its embedding, feature by feature.

    Args:
        input: the input, and its features i.
        values: c_i, (i, k).
        embedding, baseline_embedding: g(x) and g(r_x), (k,); the contributions sum to
            their difference.
        model: the fingerprint of the model that they belong to (see
            :meth:`DualEncoder.fingerprint`).
        tolerance: what the residual of the path was asked to be within.
    """

    input: ExplainedInput
    values: Tensor
    embedding: Tensor
    baseline_embedding: Tensor
    model: str
    tolerance: float

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
        width = self.values.shape[1]
        if directions.shape[-1] != width or directions.ndim not in (1, 2):
            raise InvalidArgumentError(
                "directions",
                f"vectors ({width},) or (m, {width})",
                f"shape {tuple(directions.shape)}",
            )
        products = directions.to(self.values) @ self.values.T
        return self.input.shaped(products)


class SideTask:
    """An input of one side, ready to be attributed to."""

    def __init__(
        self,
        model: DualEncoder,
        at: int,
        raw: Any,
        options: Options,
        bar: "Optional[tqdm[Any]]" = None,
    ) -> None:
        """
        Args:
            model: both encoders.
            at: 0 or 1, whose input it is.
            raw: the input.
            options: how it is explained.
            bar: counts gradients.
        """
        self.encoder = encoder = (model.first, model.second)[at]
        self.layer = encoder.layer(options.layers(model)[at])
        self.prepared = encoder.prepare(raw, options.baselines(model)[at])
        self.prepared = self.prepared.to(encoder.device)
        shape = self._value_shape()
        at_input = self.layer.module is None
        self.layout = self.prepared.layout(shape, at_input, options.tokens)
        self._options, self._at = options, at
        self._normalize = model.similarity == "cosine"
        embed = encoder.embed if bar is None else _counted(encoder.embed, bar)
        self._jacobian: IntegratedJacobian
        self._arguments: dict[str, Any] = {
            "inputs": self.prepared.inputs,
            "baselines": self.prepared.baseline,
            "additional_forward_args": self.prepared.arguments,
        }
        if self.layer.module is None:
            self._jacobian = IntegratedJacobian(embed, self._normalize)
        else:
            self._jacobian = LayerIntegratedJacobian(
                embed, self.layer.module, self._normalize
            )
            self._arguments["attribute_to_layer_input"] = self.layer.at_input
        self._vectors = _VECTORS.get(options.method)
        self.n_steps, self.residual = 0, 0.0
        if self._vectors is not None:
            return
        chosen = self._jacobian.choose_steps(
            **self._arguments, n_steps=options.n_steps, tolerance=options.tolerance
        )
        self.n_steps = chosen.n_steps
        self.residual = float(chosen.residual)

    def _value_shape(self) -> tuple[int, ...]:
        prepared = self.prepared
        if self.layer.module is None:
            return tuple(prepared.inputs.shape)
        place = Place(self.layer.module, self.layer.at_input, "layer")
        with torch.no_grad(), place.visited() as visit:
            self.encoder.embed(prepared.inputs, *prepared.arguments)
        return tuple(place.check(visit).shape)

    @property
    def input(self) -> ExplainedInput:
        """What an explanation says of this input."""
        return ExplainedInput(
            self.prepared.source,
            self.layout.features,
            self.layout.grid,
            self.layer.name,
            (
                "nothing of it"
                if self._options.absent == REMOVED
                else self.prepared.baseline_name if self._has_baseline else "none"
            ),
            self.n_steps,
            self.residual,
        )

    def decompose(self) -> EmbeddingDecomposition:
        """Contributions (1, i, k) of the features."""
        if self._vectors is not None:
            return self._of_another_method(self._vectors)
        return self._integrated(self.layout.mask)

    def _integrated(self, mask: Tensor) -> EmbeddingDecomposition:
        found: EmbeddingDecomposition = self._jacobian.decompose(
            **self._arguments,
            feature_mask=mask.to(self.encoder.device),
            n_steps=self.n_steps,
        )
        return found

    def read(self, directions: Tensor) -> EmbeddingReading:
        """Readings (1, i, m) along m directions (m, k)."""
        if self._vectors is not None:
            whole = self.decompose()
            along = directions.to(whole.contributions)
            return EmbeddingReading(
                whole.embedding,
                whole.baseline_embedding,
                whole.contributions @ along.T,
                whole.convergence_delta @ along.T,
            )
        found: EmbeddingReading = self._jacobian.read(
            **self._arguments,
            directions=directions.to(self.encoder.device),
            feature_mask=self.mask,
            n_steps=self.n_steps,
        )
        return found

    def _of_another_method(self, vectors: _Vectors) -> EmbeddingDecomposition:
        """Vectors (1, i, k) that need not sum to the difference of the embeddings."""
        options = self._options
        arguments = {**self._arguments, "feature_mask": self.mask}
        if not vectors.has_baseline:
            del arguments["baselines"]
        if self.embed_subsets is not None:
            arguments["embed_subsets"] = self.embed_subsets
        method = vectors.make(
            self.encoder.embed, self._normalize, layer=self.layer.module
        )
        if vectors.is_sampled:
            # the two sides' subsets have to be independent of each other
            generator = torch.Generator().manual_seed(2 * options.seed + self._at)
            model: EmbeddingDecomposition = method.decompose(
                **arguments, n_samples=options.n_samples, generator=generator
            )
            return model
        end, start = self._ends()
        if not vectors.has_baseline:
            start = torch.zeros_like(start)
        elif self.embed_subsets is not None:
            none = torch.zeros(1, len(self.layout.features), dtype=torch.bool)
            with torch.no_grad():
                start = self._normalized(self.embed_subsets(none)).to(end)
        values = method.attribute(**arguments)
        return EmbeddingDecomposition(end, start, values, values.sum(1) - (end - start))

    def _ends(self) -> tuple[Tensor, Tensor]:
        """The embeddings (1, k) of the input and of its baseline."""
        with torch.no_grad():
            width = self.encoder.embed(
                self.prepared.inputs, *self.prepared.arguments
            ).shape[1]
        nothing = torch.zeros(1, width, device=self.encoder.device)
        ends = self._jacobian.read(**self._arguments, directions=nothing, n_steps=1)
        return ends.embedding, ends.baseline_embedding

    @property
    def _has_baseline(self) -> bool:
        return self._vectors is None or self._vectors.has_baseline

    @property
    def mask(self) -> Tensor:
        """The features of the layer's value."""
        return self.layout.mask.to(self.encoder.device)

    @cached_property
    def embed_subsets(self) -> Optional[Callable[[Tensor], Tensor]]:
        """Embeds what is left when features are taken out, if they are."""
        if self._options.absent != REMOVED:
            return None
        return embed_what_is_left(self.encoder, self.prepared, self.layer, self.layout)

    def _normalized(self, embeddings: Tensor) -> Tensor:
        if not self._normalize:
            return embeddings
        norms: Tensor = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True)
        return embeddings / norms

    def weighted(self, weights: Tensor) -> tuple[Tensor, EmbeddingDecomposition]:
        """The contribution (k,) of features that count by a weight each."""
        if self._vectors is not None:
            found = self.decompose()
            values = found.contributions[0]
            return weights.to(values) @ values, found
        # features of the same weight are one in the integral
        levels, of_feature = torch.unique(weights, return_inverse=True)
        found = self._integrated(of_feature[self.layout.mask])
        values = found.contributions[0]
        return levels.to(values) @ values, found


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


def explain_pair(
    model: DualEncoder,
    inputs: tuple[Any, Any],
    options: Options,
    asked: Optional[Asked] = None,
) -> PairExplanation:
    """
    The explanation of one pair; each input is raw or :class:`InputContributions`.

    Contributions are computed on the side of fewer features, and for each of them one
    backward pass a step gives the attributions to all features of the other one.
    """
    with _bar(options.progress) as bar:
        sides = side_tasks(model, inputs, options, bar)
        if asked is not None:
            return _explain_part(model, sides, options, asked, bar)
        return combine(model, sides, options, bar)


def check_width(options: Options, what: str) -> None:
    """Refuse a method whose vectors are no embeddings for what reads embeddings."""
    vectors = _VECTORS.get(options.method)
    if vectors is not None and not vectors.is_embedding:
        having = [n for n in METHODS if n not in _VECTORS or _VECTORS[n].is_embedding]
        raise InvalidArgumentError(
            "method", f"one of {', '.join(having)} for {what}", repr(options.method)
        )


def side_tasks(
    model: DualEncoder, inputs: tuple[Any, Any], options: Options, bar: Any = None
) -> tuple[Any, Any]:
    """A :class:`SideTask` of each raw input; stored contributions as they are."""
    first, second = (
        (
            checked(model, raw)
            if isinstance(raw, InputContributions)
            else SideTask(model, at, raw, options, bar)
        )
        for at, raw in enumerate(inputs)
    )
    return first, second


def checked(model: DualEncoder, stored: InputContributions) -> InputContributions:
    """Contributions, if they are this model's."""
    if stored.model != model.fingerprint:
        raise InvalidArgumentError(
            "contributions",
            f"contributions of the model {model.name} ({model.fingerprint})",
            f"those of another one ({stored.model})",
        )
    return stored


def contributions_of(
    model: DualEncoder, task: SideTask, tolerance: float
) -> InputContributions:
    """All of an input's contributions."""
    found = task.decompose()
    return InputContributions(
        task.input,
        found.contributions[0].cpu(),
        found.embedding[0].cpu(),
        found.baseline_embedding[0].cpu(),
        model.fingerprint,
        tolerance,
    )


def combine(
    model: DualEncoder, sides: tuple[Any, Any], options: Options, bar: Any = None
) -> PairExplanation:
    """The explanation of two inputs, of which each is a task or has contributions."""
    few, many = sides
    swapped = _is_fewer(many, few)
    if swapped:
        few, many = many, few
    if isinstance(few, SideTask):
        _announce(bar, few.n_steps)
        few = contributions_of(model, few, options.tolerance)
    directions = torch.cat([few.values, few.baseline_embedding[None]])
    if isinstance(many, SideTask):
        _announce(bar, many.n_steps * len(directions))
        reading = many.read(directions)
        table = reading.attributions[0].cpu()
        ends = reading.embedding[0].cpu(), reading.baseline_embedding[0].cpu()
    else:
        table = many.values.to(directions) @ directions.T
        ends = many.embedding, many.baseline_embedding
    return explanation_of(model, few, many.input, table, ends, swapped, options)


def explanation_of(
    model: DualEncoder,
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
    model: DualEncoder, sides: tuple[Any, Any], options: Options, asked: Asked, bar: Any
) -> PairExplanation:
    """Only a phrase or a region: one backward pass a step on the other side."""
    given, other = sides[asked.side], sides[1 - asked.side]
    weights, feature = asked.weights(given.input)
    if isinstance(given, SideTask):
        _announce(bar, given.n_steps)
        vector, found = given.weighted(weights)
        vector, start = vector.cpu(), found.baseline_embedding[0].cpu()
        end = found.embedding[0].cpu()
    else:
        vector = weights.to(given.values) @ given.values
        start, end = given.baseline_embedding, given.embedding
    if isinstance(other, SideTask):
        _announce(bar, other.n_steps)
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
    model: DualEncoder,
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


@contextmanager
def _bar(progress: bool) -> Iterator["tqdm[Any]"]:
    """A progress bar that shows itself after two seconds."""
    bar = tqdm(
        desc="choosing steps",
        unit=" gradients",
        delay=2,
        disable=not progress,
        leave=False,
    )
    try:
        yield bar
    finally:
        bar.close()


def _announce(bar: "Optional[tqdm[Any]]", gradients: int) -> None:
    if bar is not None and not bar.disable:
        bar.reset(total=gradients)
        bar.set_description("attributing")


def _counted(embed: Callable[..., Tensor], bar: "tqdm[Any]") -> Callable[..., Tensor]:
    """The encoder; each gradient through one of its embeddings moves the bar."""

    def count(gradient: Tensor) -> None:
        bar.update(len(gradient))

    def counted(inputs: Tensor, *arguments: Any) -> Tensor:
        embedding = embed(inputs, *arguments)
        if embedding.requires_grad:
            embedding.register_hook(count)  # type: ignore[no-untyped-call]  # torch's
        return embedding

    return counted
