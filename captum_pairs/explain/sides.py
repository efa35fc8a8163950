"""One side of an explanation: an input ready to be attributed to, or what was kept."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

import torch
from captum_pairs.attr import (
    EmbeddingDecomposition,
    EmbeddingReading,
    IntegratedJacobian,
    InvalidArgumentError,
    LayerIntegratedJacobian,
)
from captum_pairs.attr._utils.hooks import Place
from captum_pairs.explain.counting import counted
from captum_pairs.explain.methods import Vectors, VECTORS
from captum_pairs.explain.options import Options, REMOVED
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import TEXT
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.removal import embed_what_is_left
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no types

__all__ = ["contributions_of", "InputContributions", "side_of_query", "SideTask"]


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
            :meth:`EncoderPair.fingerprint`).
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
        model: EncoderPair,
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
        embed = encoder.embed if bar is None else counted(encoder.embed, bar)
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
        self._vectors = VECTORS.get(options.method)
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

    def _of_another_method(self, vectors: Vectors) -> EmbeddingDecomposition:
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


def side_tasks(
    model: EncoderPair, inputs: tuple[Any, Any], options: Options, bar: Any = None
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


def checked(model: EncoderPair, stored: InputContributions) -> InputContributions:
    """Contributions, if they are this model's."""
    if stored.model != model.fingerprint:
        raise InvalidArgumentError(
            "contributions",
            f"contributions of the model {model.name} ({model.fingerprint})",
            f"those of another one ({stored.model})",
        )
    return stored


def contributions_of(
    model: EncoderPair, task: SideTask, tolerance: float
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


def side_of_query(model: EncoderPair, query: Any, side: Optional[str]) -> str:
    """Which of a pair's inputs a query is, told from what it is."""
    if side is not None:
        if side not in ("first", "second"):
            raise InvalidArgumentError("side", "'first' or 'second'", repr(side))
        return side
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
