"""A score of two inputs that is no inner product of two embeddings: a cross-encoder, a
matching head, a text-conditioned image encoder, or a function of one's own."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Optional, Union

import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.known import did_you_mean
from captum_pairs.models.encoder import Encoder, Layer, LayerLike, Prepared
from torch import nn, Tensor

__all__ = ["Inputs", "of_class", "PreparedPair", "Scorer", "ScorerOfTwo"]

# x and y, (1, ...) each, or one tensor that holds both.
Inputs = Union[Tensor, tuple[Tensor, Tensor]]
Names = tuple[Optional[str], Optional[str]]


@dataclass(frozen=True)
class PreparedPair:
    """
    Two inputs as a score takes them.

    Args:
        inputs: x and y (1, ...), or one tensor that holds both.
        baselines: where the paths start, of the same shapes.
        arguments: what else the score takes.
        sides: of each input its source, its features (``layout``) and what its baseline
            is called. Of one tensor that holds both, features of one side have the id
            -1 at the positions that are not its own.
    """

    inputs: Inputs
    baselines: Inputs
    arguments: tuple[Any, ...]
    sides: tuple[Prepared, Prepared]

    def to(self, device: torch.device) -> "PreparedPair":
        """The same on a device."""
        moved = [
            (
                each.to(device)
                if isinstance(each, Tensor)
                else (each[0].to(device), each[1].to(device))
            )
            for each in (self.inputs, self.baselines)
        ]
        return replace(
            self,
            inputs=moved[0],
            baselines=moved[1],
            arguments=tuple(
                value.to(device) if isinstance(value, Tensor) else value
                for value in self.arguments
            ),
        )


class Scorer(ABC):
    """
    A score of two inputs.

    Attributes:
        is_joint: whether one tensor (and one layer's value) holds both inputs.
        labels: of the classes that it has a score for, if that is more than one.
        target: which of them is meant.
    """

    is_joint: bool = False
    labels: tuple[str, ...] = ()
    target: Optional[int] = None

    @abstractmethod
    def prepare(self, first: Any, second: Any, baselines: Names) -> PreparedPair:
        """Both inputs made ready; see :meth:`captum_pairs.models.Encoder.prepare`."""

    @abstractmethod
    def layers(
        self, wanted: tuple[Optional[LayerLike], Optional[LayerLike]]
    ) -> tuple[Layer, Layer]:
        """Where each input is attributed to; see
        :meth:`captum_pairs.models.Encoder.layer`."""

    @abstractmethod
    def score(self, *arguments: Any) -> Tensor:
        """The inputs and what else a prepared pair holds, to scores (b,) or (b, 1), or
        (b, classes) if there are labels."""

    def __call__(self, *arguments: Any) -> Tensor:
        """Scores (b,), or (b, 1); of the class that is meant."""
        found = self.score(*arguments)
        return found if self.target is None else found[:, self.target]


class ScorerOfTwo(Scorer):
    """
    A score of two tensors.

    Args:
        first, second: what prepares the inputs, and knows their features.
        function: x, y and the arguments of both prepared inputs, to scores (b,).
        defaults: the layers that are used unless others are asked for; None for the
            encoders' own.
    """

    def __init__(
        self,
        first: Encoder,
        second: Encoder,
        function: Callable[..., Any],
        defaults: tuple[Optional[nn.Module], Optional[nn.Module]] = (None, None),
    ) -> None:
        self._encoders, self._defaults = (first, second), defaults
        self._function = function

    def prepare(self, first: Any, second: Any, baselines: Names) -> PreparedPair:
        one, other = (
            raw if isinstance(raw, Prepared) else encoder.prepare(raw, baseline)
            for encoder, raw, baseline in zip(
                self._encoders, (first, second), baselines
            )
        )
        return PreparedPair(
            (one.inputs, other.inputs),
            (one.baseline, other.baseline),
            (*one.arguments, *other.arguments),
            (one, other),
        )

    def layers(
        self, wanted: tuple[Optional[LayerLike], Optional[LayerLike]]
    ) -> tuple[Layer, Layer]:
        first, second = (
            encoder.layer(default if own is None else own)
            for encoder, own, default in zip(self._encoders, wanted, self._defaults)
        )
        return first, second

    def score(self, *arguments: Any) -> Tensor:
        found: Any = self._function(*arguments)
        if not isinstance(found, Tensor) or found.ndim == 0:
            raise InvalidArgumentError(
                "score",
                "a function to a tensor with a score for each pair, (b,) or (b, 1)",
                (
                    "a single number"
                    if isinstance(found, Tensor)
                    else type(found).__name__
                ),
            )
        return found


def of_class(scorer: Scorer, target: Union[int, str, None]) -> Scorer:
    """
    The score of one of several classes.

    Args:
        target: its number or its label.

    Raises:
        InvalidArgumentError: naming ``target``, if there is no such class, or none was
            chosen of several.
    """
    labels = scorer.labels
    if not labels:
        if target is not None:
            raise InvalidArgumentError(
                "target", "None for a model of one score", validation.describe(target)
            )
        return scorer
    number = _labelled(target, labels) if isinstance(target, str) else target
    is_number = isinstance(number, int) and not isinstance(number, bool)
    if not is_number or not 0 <= int(number or 0) < len(labels):
        close = did_you_mean(target, labels) if isinstance(target, str) else ""
        raise InvalidArgumentError(
            "target",
            f"the class whose score is meant, one of {', '.join(map(repr, labels))}, "
            f"or a number from 0 to {len(labels) - 1}",
            validation.describe(target) + close,
        )
    chosen = copy(scorer)
    chosen.target = int(number or 0)
    return chosen


def _labelled(target: str, labels: Sequence[str]) -> Optional[int]:
    """The number of a label, whatever its case; of a number in digits, as a command is
    given it, if no label is called so."""
    folded = [label.casefold() for label in labels]
    for names, wanted in ((labels, target), (folded, target.casefold())):
        if names.count(wanted) == 1:
            return names.index(wanted)
    return int(target) if re.fullmatch(r"\d{1,9}", target, re.ASCII) else None
