"""Two encoders whose embeddings are compared: what every adapter returns."""

import hashlib
import pickle
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from captum_pairs.models.encoder import Encoder
from torch import nn, Tensor

__all__ = ["EncoderPair", "Head"]


@dataclass(frozen=True)
class Head:
    """
    What a model makes of the similarity s: scale * s + bias.

    Args:
        name: as the model's output is called.
    """

    name: str = "similarity"
    scale: float = 1.0
    bias: float = 0.0

    def __call__(self, similarity: float) -> float:
        return self.scale * similarity + self.bias


@dataclass(frozen=True)
class EncoderPair:
    """
    Two encoders into one space, and the similarity of their embeddings.

    Args:
        name: what was loaded.
        first, second: the two sides; the same one for a Siamese encoder.
        heads: the model's own scores, made of the similarity; the first is the one that
            is shown.
        similarity: "cosine", or "dot" for embeddings that are compared as they are.
    """

    name: str
    first: Encoder
    second: Encoder
    heads: tuple[Head, ...] = (Head(),)
    similarity: str = "cosine"

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights: two models of the same one give the same contributions. A
        model of plain functions has its name's only."""
        digest = hashlib.blake2b(digest_size=16)
        modules: list[nn.Module] = []
        for module in (self.first.module, self.second.module):
            if module is not None and module not in modules:
                modules.append(module)
        if not modules:
            digest.update(self.name.encode())
        for module in modules:
            for name, value in sorted(module.state_dict().items()):
                digest.update(name.encode())
                _add(digest, value)
        return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """A state's entry: a tensor, or what a quantised or opaque module keeps."""
    if not isinstance(value, Tensor):
        if isinstance(value, (list, tuple)):
            for part in value:
                _add(digest, part)
        else:
            try:
                digest.update(pickle.dumps(value, protocol=4))
            except Exception:  # what can't be pickled raises anything
                digest.update(type(value).__name__.encode())
        return
    digest.update(f" {tuple(value.shape)} {value.dtype}".encode())
    if value.is_meta:
        return
    flat = value.detach().cpu()
    if flat.is_quantized:
        digest.update(f"{flat.qscheme()}".encode())
        flat = flat.dequantize()
    if flat.layout is not torch.strided:
        flat = flat.to_dense()
    flat = flat.contiguous().flatten()
    digest.update(flat.view(torch.uint8).numpy() if flat.numel() else b"")
