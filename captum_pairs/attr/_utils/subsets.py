#!/usr/bin/env python3
"""Embeddings of an input of which only a subset of features is there."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Callable, Optional

import torch
from captum_pairs.attr._utils.example import BaselinePath, normalized
from captum_pairs.attr._utils.validation import describe, InvalidArgumentError
from torch import Tensor

# Maps subsets (n, G), bool, of one example's features to embeddings (n, k).
EmbedSubsets = Callable[[Tensor], Tensor]
# Points that are run at once unless another number is asked for.
_CHUNK = 64


@dataclass(frozen=True)
class Subsets:
    """
    An encoder as a function of the features that are there.

    The others have the baseline's value, unless ``embed_subsets`` says otherwise
    (tokens that are really taken out).
    """

    path: BaselinePath
    internal_batch_size: Optional[int] = None
    embed_subsets: Optional[EmbedSubsets] = None

    @classmethod
    def of(cls, path: BaselinePath, settings: Any) -> "Subsets":
        """As a method's settings say."""
        return cls(path, settings.internal_batch_size, settings.embed_subsets)

    def __post_init__(self) -> None:
        if self.embed_subsets is not None and len(self.path.side) > 1:
            raise InvalidArgumentError(
                "embed_subsets",
                "None for several examples, of which it would know one only",
                f"a function, with a batch of {len(self.path.side)}",
            )

    @property
    def count(self) -> int:
        """G, the number of features."""
        return self.path.features.count

    @cached_property
    def players(self) -> Tensor:
        """(players,): the features that are not the same in input and baseline. The
        others (a text's first token) change nothing by their absence."""
        if self.embed_subsets is not None:
            return torch.arange(self.count)
        features = self.path.features
        differs = (self.path.difference != 0).flatten()
        ids = features.mask.expand(self.path.value.shape).flatten()[differs]
        found: Tensor = torch.unique(ids).cpu()
        return found

    def embed_players(self, present: Tensor) -> Tensor:
        """Embeddings (n, k) of subsets (n, players) of the players."""
        whole = torch.ones(len(present), self.count, dtype=torch.bool)
        whole[:, self.players] = present
        return self.embed(whole)

    def embed(self, present: Tensor) -> Tensor:
        """Embeddings (n, k) of subsets (n, G), bool."""
        size = self.internal_batch_size or _CHUNK
        chunks = torch.split(present, size)
        return torch.cat([self._embed(chunk) for chunk in chunks])

    def _embed(self, present: Tensor) -> Tensor:
        path = self.path
        if self.embed_subsets is None:
            # (n, G), (*value) -> (n, *value)
            shown = present.to(path.value.device)[:, path.features.mask]
            return path.embed(torch.where(shown, path.value, path.start))
        with torch.no_grad():
            found = self.embed_subsets(present)
        width = path.embedding.numel()
        if not isinstance(found, Tensor) or found.shape != (len(present), width):
            raise InvalidArgumentError(
                "embed_subsets",
                f"a function to embeddings ({len(present)}, {width})",
                describe(found),
            )
        found = found.to(path.embedding)
        if path.side.normalize:
            return normalized(found)
        return found


def all_subsets(count: int) -> Tensor:
    """(2^G, G), bool: row r has feature i if bit i of r is set."""
    rows = torch.arange(2**count)
    return (rows[:, None] >> torch.arange(count)) & 1 == 1
