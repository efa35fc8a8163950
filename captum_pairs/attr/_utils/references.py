#!/usr/bin/env python3
"""
An example and a set of references: a straight path from each of them.

Shapes as in :mod:`captum_pairs.attr._utils.forward_pass`, and M: references.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Optional

import torch
from captum_pairs.attr._utils.example import BaselinePath, Example, Side
from captum_pairs.attr._utils.forward_pass import row_of
from captum_pairs.attr._utils.hooks import plain_value, Session
from captum_pairs.attr._utils.sides import baseline_of
from captum_pairs.attr._utils.validation import describe, InvalidArgumentError
from torch import Tensor

# References that are embedded at once.
_CHUNK = 64


@dataclass(frozen=True)
class ReferenceValues:
    r"""
    References as they arrive at a layer, so that what comes before it does not run
    again: what :meth:`ExpectedJacobian.reference_values` returns.

    Args:

        values (Tensor): (M, \*value).
    """

    values: Tensor


def references_of(argument: str, references: object, inputs: Tensor) -> Tensor:
    """A set of references for any example of a batch: (M, ...)."""
    if not isinstance(references, Tensor) or references.ndim != inputs.ndim:
        return baseline_of(argument, references, inputs[:1])
    if len(references) == 0:
        raise InvalidArgumentError(
            argument, "at least one reference", describe(references)
        )
    checked = [
        baseline_of(argument, each, inputs[:1]) for each in torch.split(references, 1)
    ]
    return torch.cat(checked)


class ReferencePaths(Example):
    r"""
    An example and its references: the straight lines
    :math:`r_m + \alpha (x - r_m)` at the attributed tensor.

    Attributes:

        starts (Tensor): The references' values there, (M, \*value).
        start_embeddings (Tensor): :math:`g(r_m)`, (M, k): x's forward pass (its mask,
                    its pooling) with the value replaced by the reference's.
        baseline_embedding (Tensor): Their mean, (k,).
    """

    def __init__(
        self,
        side: Side,
        row: int,
        session: Session,
        known: Optional[ReferenceValues] = None,
    ) -> None:
        super().__init__(side, row, session)
        values = self._values() if known is None else self._checked(known)
        self.starts: Tensor = values.to(device=self.value.device, dtype=self.dtype)
        ends = torch.stack([self.starts[0], self.value])
        ends = self.settle((self._leaf(ends),), 1)
        # of the same pass, so that the two ends' rounding is the same
        self.embedding = self._end(ends[1], "inputs")
        found = [ends[:1]]
        if len(self.starts) > 1:
            found.append(self.embed(self.starts[1:], _CHUNK, normalize=False))
        self.start_embeddings: Tensor = torch.stack(
            [self._end(each, "baselines") for part in found for each in part]
        )

    def _values(self) -> Tensor:
        """The references' values at the attributed tensor, propagated there."""
        references = self.side.baselines[0]
        if self.side.place is None:
            return references.detach()
        return torch.stack(
            [self._arriving(each) for each in torch.split(references, 1)]
        )

    def _arriving(self, reference: Tensor) -> Tensor:
        """A reference's value at the layer, (*value): the pass ends there."""
        own, value = plain_value(reference).to(self._inputs[0].device), self.value
        (found,) = self.arriving((own,))
        if found.shape != value.shape:
            raise InvalidArgumentError(
                self.side.name("baselines"),
                f"references with the input's value at the layer, {self.shape}",
                describe(found),
            )
        return found

    def _checked(self, known: ReferenceValues) -> Tensor:
        shape = tuple(self.value.shape)
        if tuple(known.values.shape[1:]) != shape:
            raise InvalidArgumentError(
                self.side.name("baselines"),
                f"references with the input's value at the layer, (M, *{shape})",
                describe(known.values),
            )
        return known.values

    def __len__(self) -> int:
        """M."""
        return len(self.starts)

    @property
    def baseline_embedding(self) -> Tensor:
        return self.start_embeddings.mean(0)

    @property
    def is_shared(self) -> bool:
        """Whether the references' values are the same for all examples of the batch:
        nothing else that the encoder takes belongs to one of them."""
        return all(row_of(arg, 0) is arg for arg in self.side.args)

    def chosen(self, references: Any) -> "SeveralPaths":
        """The paths from these references (indices, or a slice) as one."""
        return SeveralPaths(self, references)


class SeveralPaths(BaselinePath):
    r"""
    Several references' paths, which are followed at once.

    Derivatives are with respect to a factor of each point's own difference
    :math:`x - r_m`, at a factor of zero: they are multiplied by the difference
    already, and those at points of different paths can be summed.

    Attributes:

        starts, start_embeddings (Tensor): Theirs, (M, \*value) and (M, k).
    """

    def __init__(self, paths: ReferencePaths, references: Any) -> None:
        self.__dict__.update(paths.__dict__)
        self.scans = {}
        self.starts: Tensor = paths.starts[references]
        self.start_embeddings: Tensor = paths.start_embeddings[references]

    @property
    def baseline_embedding(self) -> Tensor:
        return self.start_embeddings.mean(0)

    def _ends(self) -> Tensor:
        return torch.stack([self.starts[0], self.value])

    @property
    def difference(self) -> Tensor:
        """Ones (*value): a point's derivatives are multiplied by its own."""
        return torch.ones_like(self.value)

    @property
    def as_one_feature(self) -> "SeveralPaths":
        """The same with everything summed: the integral of the whole."""
        mask = torch.zeros([1] * (self.value.ndim + 1), dtype=torch.int64)
        found = self.masked(mask)
        assert isinstance(found, SeveralPaths)  # a copy
        return found

    def points(self, nodes: Tensor) -> Tensor:
        """Points and their differences, (n, 2, *value), for ``nodes`` (n, 2): whose
        path, and where on it."""
        starts = self.starts[nodes[:, 0].long()]
        differences = self.value - starts
        places = nodes[:, 1].reshape(-1, *[1] * self.value.ndim)
        return torch.stack([starts + places * differences, differences], dim=1)

    @contextmanager
    def run(
        self,
        values: Tensor,
        twice: bool = False,
        normalize: Optional[bool] = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As :meth:`Example.run`, for what :meth:`points` gives; the leaf is the
        factor of the differences."""
        points, differences = values.detach().unbind(1)
        self._prepare_for(len(points))
        leaf = torch.zeros_like(points).requires_grad_()
        at = torch.addcmul(points, differences, leaf)
        with self.forward((at,), grad=True, twice=twice) as embeddings:
            if not embeddings.requires_grad:
                raise self.side.independent(0)
            yield leaf, self._as_asked(embeddings, normalize)
