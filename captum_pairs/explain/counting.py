"""What is counted while an explanation is computed: passes through the encoders."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Optional

from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no types

__all__ = ["Tally", "tallied"]


class Tally:
    """
    How often encoders were run, and differentiated.

    Attributes:
        forwards: inputs that were embedded, points of a path and subsets among them.
        backwards: gradients through such an embedding.
        elapsed: seconds since the first of them.
    """

    def __init__(self, bar: "Optional[tqdm[Any]]" = None) -> None:
        self.forwards = self.backwards = 0
        self._bar = bar
        self._start: Optional[float] = None

    @property
    def elapsed(self) -> float:
        return 0.0 if self._start is None else time.perf_counter() - self._start

    def counted(self, embed: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The same function, whose runs are counted."""

        def count(gradient: Tensor) -> None:
            self.backwards += len(gradient)
            self._show(len(gradient))

        def counted(*inputs: Any) -> Tensor:
            if self._start is None:
                self._start = time.perf_counter()
            embedding = embed(*inputs)
            self.forwards += len(embedding)
            self._show(len(embedding))
            if embedding.requires_grad:
                embedding.register_hook(count)  # type: ignore[no-untyped-call]  # torch
            return embedding

        return counted

    def _show(self, passes: int) -> None:
        if self._bar is not None:
            self._bar.update(passes)


@contextmanager
def tallied(progress: bool) -> Iterator[Tally]:
    """A tally with a progress bar that shows itself after two seconds: of what was
    embedded and differentiated, since how much comes is known when it is done."""
    bar = tqdm(
        desc="attributing",
        unit=" passes",
        delay=2,
        disable=not progress,
        leave=False,
    )
    try:
        yield Tally(bar)
    finally:
        bar.close()
