"""Two encoders whose embeddings are compared: what every adapter returns."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Optional

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.described import (
    dense_parts,
    modules_of,
    tensor_bytes,
    tensors_of,
)
from captum_pairs.models.encoder import Encoder
from captum_pairs.models.scorer import Scorer
from torch import nn, Tensor

__all__ = ["EncoderPair", "Head"]


@dataclass(frozen=True)
class Head:
    """
    What a model makes of the similarity s: scale * s + bias, or that between 0 and 1.

    Args:
        name: as the model's output is called.
        activation: "sigmoid", or "" for none.
    """

    name: str = "similarity"
    scale: float = 1.0
    bias: float = 0.0
    activation: str = ""

    def __call__(self, similarity: float) -> float:
        found = self.scale * similarity + self.bias
        if self.activation == "sigmoid":
            # of whatever size, without an overflow
            return 0.5 * (1.0 + math.tanh(0.5 * found))
        return found


@dataclass(frozen=True)
class EncoderPair:
    """
    Two encoders into one space, and the similarity of their embeddings.

    Args:
        name: what was loaded.
        first, second: the two sides; the same one for a Siamese encoder.
        heads: the model's own scores, made of the similarity; the first is the one that
            is shown.
        similarity: "cosine", or "dot" for embeddings that are compared as they are;
            "score" with a scorer.
        scorer: of a model whose score is no inner product of two embeddings; both
            encoders then know inputs and blocks, and embed nothing.
    """

    name: str
    first: Encoder
    second: Encoder
    heads: tuple[Head, ...] = (Head(),)
    similarity: str = "cosine"
    scorer: Optional[Scorer] = None

    def require_embeddings(self, what: str) -> None:
        """
        Refuse what needs an embedding of each input.

        Raises:
            InvalidArgumentError: naming ``model``, if it scores both at once.
        """
        if self.scorer is not None:
            raise InvalidArgumentError(
                "model",
                f"one that embeds each input, for {what}",
                f"{self.name}, whose score needs both inputs at once (explain, "
                "contrast and estimate take it)",
            )

    @property
    def fingerprint(self) -> str:
        """
        Of the weights as they are now: two models of the same ones give the same
        contributions. A model of plain functions that no network is found in has its
        name's only.

        Sums over all weights are compared each time, however they were written to, and
        only when these changed all bytes are hashed anew (see :meth:`as_it_is`).
        """
        held = _HELD.get().get(id(self))
        if held and _WEIGHTS in held:
            return held[_WEIGHTS]
        weights = list(self._weights())
        sums = tuple(total for _, value in weights for total in _sums(value))
        known: Optional[tuple[Any, str]] = self.__dict__.get("_fingerprint")
        if known is None or known[0] != sums:
            # as a cached property does; the fields stay frozen
            known = self.__dict__["_fingerprint"] = sums, self._hashed(weights)
        if held is not None:
            held[_WEIGHTS] = known[1]
        return known[1]

    def described(self, side: str) -> str:
        """What its "first" or "second" encoder is besides the weights: see
        :meth:`captum_pairs.models.Encoder.describe`."""
        held = _HELD.get().get(id(self), {})
        if side not in held:
            held[side] = getattr(self, side).describe()
        return held[side]

    @contextmanager
    def as_it_is(self) -> Iterator[None]:
        """One call, within which weights and settings stay as they are: they are looked
        at once, if anything asks for them."""
        outer = _HELD.get()
        if id(self) in outer:
            yield
            return
        token = _HELD.set({**outer, id(self): {}})
        try:
            yield
        finally:
            _HELD.reset(token)

    def _weights(self) -> Iterator[tuple[str, Any]]:
        modules: list[nn.Module] = []
        for encoder in filter(None, (self.first, self.second, self.scorer)):
            for module in modules_of(encoder):
                if not any(module is each for each in modules):
                    modules.append(module)
        for module in modules:
            yield from tensors_of(module)

    def _hashed(self, weights: list[tuple[str, Any]]) -> str:
        digest = hashlib.blake2b(digest_size=16)
        if not weights:
            digest.update(self.name.encode("utf-8", "surrogatepass"))
        for name, value in weights:
            shape, dtype = getattr(value, "shape", ()), getattr(value, "dtype", None)
            digest.update(f"{name} {tuple(shape)} {dtype}".encode())
            for part in tensor_bytes(value):
                digest.update(part)
        return digest.hexdigest()


# What calls in this thread hold of pairs, by the pairs' identity.
_HELD: ContextVar[dict[int, dict[str, str]]] = ContextVar("held", default={})
_WEIGHTS = "weights"
# Eight bytes each: the numbers that are summed into one before they are weighed.
_BLOCK = 1024


def _sums(value: Any) -> Iterator[Any]:
    """
    Numbers that change with any number of a weight, and with their order: sums of its
    bytes as integers, weighed by their places.
    """
    if not isinstance(value, Tensor):
        yield b"".join(bytes(part) for part in tensor_bytes(value))
        return
    yield tuple(value.shape), str(value.dtype), str(value.device)
    for tensor in dense_parts(value):
        if isinstance(tensor, str):
            yield tensor
            continue
        numbers = tensor.contiguous().flatten().view(torch.uint8)
        whole = len(numbers) // (8 * _BLOCK) * (8 * _BLOCK)
        yield numbers[whole:].cpu().numpy().tobytes()
        if not whole:
            continue
        # (blocks, numbers): sums wrap at 2^64, so that none is lost in rounding
        table = numbers[:whole].clone() if numbers.data_ptr() % 8 else numbers[:whole]
        table = table.view(torch.int64).reshape(-1, _BLOCK)
        for axis in (0, 1):
            sums = table.sum(axis)
            yield int((sums * _odd(len(sums)).to(sums.device)).sum())


def _odd(count: int) -> Tensor:
    """Fixed odd numbers that look like chance: (count,), int64."""
    places = torch.arange(1, count + 1, dtype=torch.int64)
    mixed = places * 0x9E3779B97F4A7C1 ^ (places * 0x2545F4914F6CDD1) >> 29
    return mixed * 2 + 1
