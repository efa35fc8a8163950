"""Two encoders whose embeddings are compared: what every adapter returns."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from captum_pairs.models.encoder import Encoder
from torch import nn

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
                digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                flat = value.detach().cpu().contiguous().flatten()
                digest.update(flat.view(torch.uint8).numpy() if flat.numel() else b"")
        return digest.hexdigest()
