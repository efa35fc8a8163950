"""An input without some of its words or patches, which are taken out and not replaced:
the model reads a shorter sequence."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from captum_pairs.attr import InvalidArgumentError, Place
from captum_pairs.models.encoder import (
    Encoder,
    Feature,
    Layer,
    Layout,
    PADDING,
    Prepared,
)
from torch import Tensor

__all__ = ["PatchesLeft", "WordsLeft"]

# Sequences of the same length are run together, at most so many.
_CHUNK = 64


class WordsLeft:
    """Embeddings of token ids of which some are missing."""

    def __init__(
        self,
        encoder: Encoder,
        prepared: Prepared,
        tokens: Sequence[Feature],
        layout: Layout,
    ) -> None:
        """
        Args:
            encoder: that prepared the text.
            prepared: the text.
            tokens: of every position its name, and whether it is special.
            layout: of the tokens.
        """
        self.encoder, self.prepared = encoder, prepared
        # (T,), without what the model itself appends
        self.feature = layout.mask.flatten()[: len(tokens)].cpu()
        self.special = torch.tensor([f.special for f in layout.features])[self.feature]
        padding = [token.name == PADDING for token in tokens]
        self.end = padding.index(True) if any(padding) else None
        # where a baseline has no special token it is padding
        self.word = [token.special for token in tokens].index(False)

    def __call__(self, present: Tensor) -> Tensor:
        kept = present.cpu()[:, self.feature] | self.special  # (n, T)
        if self.end is not None:
            return torch.cat([self._embed(part) for part in torch.split(kept, _CHUNK)])
        return _by_length(kept, self._embed)

    def _embed(self, kept: Tensor) -> Tensor:
        """(n, T): all of one length, or all padded."""
        order = torch.stack([self._order(row) for row in kept])
        prepared = self.prepared
        padding = prepared.baseline[0, self.word : self.word + 1]
        ids = self._taken(prepared.inputs, order, padding)
        arguments = (
            (
                self._taken(value, order, torch.zeros_like(value[0, :1]))
                if isinstance(value, Tensor) and value.shape == prepared.inputs.shape
                else value
            )
            for value in prepared.arguments
        )
        return self.encoder.embed(ids, *arguments)

    def _order(self, kept: Tensor) -> Tensor:
        """The positions that are left, and -1 for each new place of padding, which
        joins that at the end (or the beginning)."""
        positions = torch.arange(len(kept))
        if self.end is None:
            return positions[kept]
        new = torch.full((int((~kept).sum()),), -1)
        before, after = kept.clone(), kept.clone()
        before[self.end :], after[: self.end] = False, False
        return torch.cat([positions[before], new, positions[after]])

    def _taken(self, values: Tensor, order: Tensor, padding: Tensor) -> Tensor:
        """(1, T) to (n, positions)."""
        more = torch.cat([values[0], padding.to(values)])  # the last one is -1
        return more[order.to(values.device)]


class PatchesLeft:
    """Embeddings of a layer's value of which some tokens are missing: what the blocks
    before it read of the whole image stays in the others."""

    def __init__(
        self, encoder: Encoder, prepared: Prepared, layer: Layer, layout: Layout
    ) -> None:
        """
        Args:
            encoder: that prepared the image.
            prepared: the image.
            layer: a block or another module.
            layout: of its value, a sequence.
        """
        assert layer.module is not None  # the input is no sequence of patches
        self.encoder, self.prepared = encoder, prepared
        self.place = Place(layer.module, layer.at_input, "layer")
        with torch.no_grad(), self.place.visited() as visit:
            encoder.embed(prepared.inputs, *prepared.arguments)
        # (1, T, d) or (T, 1, d)
        self.axis = 1 if layout.mask.shape[0] == 1 else 0
        self.value = self.place.check(visit).squeeze(1 - self.axis)
        self.feature = layout.mask.flatten().cpu()
        self.special = torch.tensor([f.special for f in layout.features])[self.feature]

    def __call__(self, present: Tensor) -> Tensor:
        kept = present.cpu()[:, self.feature] | self.special
        return _by_length(kept, self._embed)

    def _embed(self, kept: Tensor) -> Tensor:
        """(n, T), all of one length."""
        order = torch.stack([row.nonzero()[:, 0] for row in kept])
        values = self.value[order.to(self.value.device)]  # (n, left, d)
        if self.axis == 0:
            values = values.transpose(0, 1)
        prepared: Any = self.prepared
        with torch.no_grad(), self.place.visited(values) as visit:
            embeddings = self.encoder.embed(prepared.inputs, *prepared.arguments)
        self.place.check(visit)
        return embeddings


def _by_length(kept: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
    """Embeddings in the order of the rows, those of as many positions together."""
    lengths = kept.sum(1)
    if bool((lengths == 0).any()):
        raise InvalidArgumentError(
            "absent",
            "'baseline' for an input without a special token, of which nothing would "
            "be left",
            "'removed'",
        )
    found: dict[int, Tensor] = {}
    for length in sorted(set(lengths.tolist())):
        every = (lengths == length).nonzero()[:, 0]
        for rows in torch.split(every, _CHUNK):
            found.update(zip(rows.tolist(), embed(kept[rows])))
    return torch.stack([found[row] for row in range(len(kept))])
