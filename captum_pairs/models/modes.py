"""A module in evaluation mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from captum_pairs.attr._utils.hooks import undone
from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """In evaluation mode what runs inside; every part's own mode after it."""
    modes = [(part, part.training) for part in module.modules()]

    def restore() -> None:
        for part, training in modes:
            part.training = training

    module.eval()
    with undone(restore):
        yield
