"""What is counted while an explanation is computed: passes through the encoders."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Optional, TypeVar

from captum_pairs.models.encoder import Encoder
from captum_pairs.models.encoder_pair import EncoderPair
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no types

__all__ = ["announce", "bar", "counted", "Counted", "Tally", "timed"]

Explained = TypeVar("Explained")


@contextmanager
def bar(progress: bool) -> Iterator["tqdm[Any]"]:
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


def announce(bar: "Optional[tqdm[Any]]", gradients: int) -> None:
    if bar is not None and not bar.disable:
        bar.reset(total=gradients)
        bar.set_description("attributing")


def counted(embed: Callable[..., Tensor], bar: "tqdm[Any]") -> Callable[..., Tensor]:
    """The encoder; each gradient through one of its embeddings moves the bar."""

    def count(gradient: Tensor) -> None:
        bar.update(len(gradient))

    def counted(inputs: Tensor, *arguments: Any) -> Tensor:
        embedding = embed(inputs, *arguments)
        if embedding.requires_grad:
            embedding.register_hook(count)  # type: ignore[no-untyped-call]  # torch's
        return embedding

    return counted


class Tally:
    """How often an encoder is run, and differentiated."""

    def __init__(self) -> None:
        self.forwards = self.backwards = 0

    def embed(self, encoder: Encoder, inputs: Tensor, *arguments: Any) -> Tensor:
        embedding = encoder.embed(inputs, *arguments)
        self.forwards += len(embedding)
        if embedding.requires_grad:

            def count(gradient: Tensor) -> None:
                self.backwards += len(gradient)

            embedding.register_hook(count)  # type: ignore[no-untyped-call]  # torch's
        return embedding


class Counted:
    """An encoder whose runs are counted."""

    def __init__(self, encoder: Encoder, tally: Tally) -> None:
        self._encoder = encoder
        self.embed: Callable[..., Tensor] = partial(tally.embed, encoder)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


def timed(
    model: EncoderPair, explain: Callable[[EncoderPair], Explained]
) -> tuple[Explained, float, int, int]:
    """What comes out, its seconds, forward and backward passes."""
    tally = Tally()
    first: Any = Counted(model.first, tally)
    second: Any = first
    if model.second is not model.first:
        second = Counted(model.second, tally)
    counting = replace(model, first=first, second=second)
    began = time.perf_counter()
    found = explain(counting)
    seconds = time.perf_counter() - began
    return found, seconds, tally.forwards, tally.backwards
