"""Other texts in the place of a text: as many tokens, its special tokens kept.

An encoder reads a text at the places of its own special tokens (CLIP at its end). So
these stay where they are, and only what is between them comes from other texts.
"""

from collections.abc import Sequence

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.texts import PreparedText
from torch import Tensor

__all__ = ["other_texts", "other_words"]


def other_texts(text: PreparedText, others: Sequence[PreparedText]) -> Tensor:
    """
    Each of other texts, token by token: what is longer is cut, what is shorter has
    the baseline's padding behind it.

    Returns:
        Token ids (m, n), for a text of n tokens.
    """
    places = _words(text)
    ids = text.baseline.repeat(len(others), 1)
    for row, other in zip(ids, others):
        words = other.inputs[0][_words(other)].to(row)
        count = min(len(words), len(places))
        row[places[:count]] = words[:count]
    return ids


def other_words(
    text: PreparedText,
    others: Sequence[PreparedText],
    number: int,
    rng: np.random.Generator,
) -> Tensor:
    """
    Every word replaced by one of other texts that has as many tokens, drawn by how
    often it stands there; where they have none, by so many tokens in a row.

    Returns:
        Token ids (number, n), for a text of n tokens.
    """
    runs: dict[int, list[Tensor]] = {}
    for other in others:
        for positions in _groups(other):
            word = other.inputs[0][positions]
            runs.setdefault(len(word), []).append(word)
    stream = torch.cat([other.inputs[0][_words(other)] for other in others])
    if not len(stream):
        raise InvalidArgumentError("texts", "texts with words", "none with a word")
    ids = text.inputs.repeat(number, 1)
    for positions in _groups(text):
        count = len(positions)
        pool = runs.get(count) or _stretches(stream, count)
        for row in ids:
            row[positions] = pool[rng.integers(len(pool))].to(row)
    return ids


def _stretches(stream: Tensor, count: int) -> list[Tensor]:
    """All that stands in a row of so many tokens, the end followed by the start."""
    rounds = -(-count // len(stream)) + 1
    return list(stream.repeat(rounds).unfold(0, count, 1)[: len(stream)])


def _groups(text: PreparedText) -> list[Tensor]:
    """The positions of each word's tokens."""
    return [
        torch.tensor(group.positions)
        for group in text.groups()
        if not group.feature.special
    ]


def _words(text: PreparedText) -> Tensor:
    """The positions of all tokens that are no special ones."""
    special = torch.tensor([token.special for token in text.tokens])
    return (~special).nonzero().flatten()
