#!/usr/bin/env python3
"""The score that a dual encoder gives to a pair."""

from dataclasses import dataclass
from typing import Any, Callable

import torch
from captum_pairs.attr._utils.validation import (
    describe,
    finite_float,
    InvalidArgumentError,
    one_of,
)
from torch import Tensor

SIMILARITIES = ("cosine", "dot", "frozen_cosine")


@dataclass(frozen=True)
class Similarity:
    r"""
    The similarity of two inputs, one score for each pair of a batch.

    It can be given as the forward function to every Captum tool that takes several
    inputs.

    Args:

        encode_first, encode_second (Callable): Map (b, ...) to (b, k).
        kind (str): ``cosine``, ``dot`` or ``frozen_cosine`` (whose score is the
                    cosine).
        scale (float): A factor, such as a logit scale.
    """

    encode_first: Callable[..., Tensor]
    encode_second: Callable[..., Tensor]
    kind: str = "cosine"
    scale: float = 1.0

    def __call__(
        self, x: Tensor, y: Tensor, args_first: Any = None, args_second: Any = None
    ) -> Tensor:
        """Scores (b,)."""
        first = self.encode_first(x, *_as_tuple(args_first))
        second = self.encode_second(y, *_as_tuple(args_second)).to(first.device)
        if first.shape[-1] != second.shape[-1]:
            raise different_widths(first.shape[-1], second.shape[-1])
        score = (first * second).sum(dim=-1)
        if self.kind != "dot":
            score = score / (first.norm(dim=-1) * second.norm(dim=-1))
        return self.scale * score

    def factor(self, first: Tensor, second: Tensor) -> Tensor:
        """What the inner product of two contributions is multiplied by: (1,) or ()."""
        factor = torch.tensor(self.scale, dtype=first.dtype, device=first.device)
        if self.kind == "frozen_cosine":
            factor = factor / (first.norm() * second.norm())
        return factor


def make_similarity(
    forward_func: object, similarity: object, scale: object
) -> Similarity:
    """A validated similarity from one encoder for both sides, or a pair of them."""
    pair = forward_func if isinstance(forward_func, (tuple, list)) else None
    encoders = (forward_func, forward_func) if pair is None else tuple(pair)
    if len(encoders) != 2 or not all(callable(encoder) for encoder in encoders):
        raise InvalidArgumentError(
            "forward_func",
            "an encoder that can be called, or a pair (encode_first, encode_second)",
            describe(forward_func),
        )
    kind = one_of("similarity", similarity, SIMILARITIES)
    return Similarity(encoders[0], encoders[1], kind, finite_float("scale", scale))


def different_widths(first: int, second: int) -> InvalidArgumentError:
    """The error for encoders whose embeddings can't be compared."""
    return InvalidArgumentError(
        "forward_func",
        "two encoders of the same width k",
        f"embeddings of width {first} and {second}",
    )


def _as_tuple(args: Any) -> tuple[Any, ...]:
    if args is None:
        return ()
    return args if isinstance(args, tuple) else (args,)
