#!/usr/bin/env python3

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

import torch
from captum._utils.common import _select_targets
from captum.attr import Attribution
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import check_finite
from captum_pairs.attr._core.pair_attribution import layer_pair, PairDecomposition
from captum_pairs.attr._utils.features import (
    position_features,
    scalar_features,
    validate_mask,
)
from captum_pairs.attr._utils.hooks import (
    observed,
    Place,
    plain_value,
    Session,
    twice_differentiable,
)
from captum_pairs.attr._utils.path import _batch_axis, _expand, _row, too_large
from captum_pairs.attr._utils.quadrature import quadrature, validate_quadrature
from captum_pairs.attr._utils.sides import _args, _baseline
from captum_pairs.attr._utils.validation import (
    check_tensor,
    describe,
    InvalidArgumentError,
    optional_pair_of,
    pair_of,
    positive_int,
)
from torch import nn, Tensor

# Points of the two paths that are run at once unless another number is asked for.
_CHUNK = 32

Inputs = Union[Tensor, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Call:
    """
    The validated arguments of one call; of a single input both sides are parts.

    Args:
        inputs, baselines, places: One or two of each.
        masks: Of each side its features' ids, if they are given.
        args: Additional arguments.
    """

    forward_func: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    baselines: tuple[Tensor, ...]
    places: tuple[Optional[Place], ...]
    masks: tuple[Optional[Tensor], Optional[Tensor]]
    args: tuple[Any, ...]
    target: Any

    def __len__(self) -> int:
        return len(self.inputs[0])


@dataclass(frozen=True)
class _Grid:
    """Both paths' nodes and weights, (n,), and how many points are run at once."""

    rules: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    chunk: int

    @classmethod
    def of(cls, n_steps: Any, method: Any, internal_batch_size: Any) -> "_Grid":
        """Validated settings."""
        is_pair = isinstance(n_steps, (tuple, list))
        first, second = pair_of("n_steps", n_steps if is_pair else (n_steps, n_steps))
        rules = (
            quadrature(*validate_quadrature(first, method)),
            quadrature(*validate_quadrature(second, method)),
        )
        if internal_batch_size is None:
            return cls(rules, _CHUNK)
        return cls(rules, positive_int("internal_batch_size", internal_batch_size))

    def points(self, moving: tuple[bool, bool]) -> Iterator[tuple[Tensor, ...]]:
        """Places on both paths and their weights, (n,) each, in chunks; a side that
        does not move is at its baseline."""
        still = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        (a, w), (b, v) = (
            rule if moves else still for rule, moves in zip(self.rules, moving)
        )
        places = a.repeat_interleave(len(b)), b.repeat(len(a)), torch.outer(w, v)
        yield from zip(*(torch.split(each.flatten(), self.chunk) for each in places))


@dataclass(frozen=True)
class _Line:
    """
    The path of one side.

    Args:
        start, difference: r and x - r, (*value); zero where nothing moves.
        ids: (*value), the feature of each scalar, -1 where it is none of this side's.
        count, shape: of the features.
    """

    start: Tensor
    difference: Tensor
    ids: Tensor
    count: int
    shape: tuple[int, ...]

    def at(self, nodes: Tensor) -> Tensor:
        """Points (n, *value)."""
        nodes = nodes.to(self.start).reshape(-1, *[1] * self.start.ndim)
        return self.start + nodes * self.difference

    def along(self, feature: int, multiplied: bool) -> Tensor:
        """The direction of a feature's derivative, (*value)."""
        mine = self.ids == feature
        if not multiplied:
            return mine.to(self.start)
        return torch.where(mine, self.difference, self.difference.new_zeros(()))

    def sums(self, gradient: Tensor, multiplied: bool) -> Tensor:
        """A gradient (*value) summed into features, (G,)."""
        values = gradient.to(self.start)
        values = values * self.difference if multiplied else values
        totals = values.new_zeros(self.count + 1)
        return totals.index_add_(0, self.ids.flatten() + 1, values.flatten())[1:]


class _Surface:
    """The score of one example, as a function of a place on each path."""

    def __init__(self, call: _Call, row: int, session: Session) -> None:
        self.call, self.row = call, row
        self.target = _target_of(call.target, row, len(call))
        self.inputs = [plain_value(_row(each, row)) for each in call.inputs]
        self.args = [plain_value(_row(each, row)) for each in call.args]
        self.axes = [0] * len(call.inputs)
        with observed(session):
            ends = self._values(self.inputs)
        session.warn_if_random()
        starts = self._values(
            [
                plain_value(_row(each, row)).to(at.device)
                for each, at in zip(call.baselines, self.inputs)
            ]
        )
        self.dtypes = [end.dtype for end in ends]
        for start, end in zip(starts, ends):
            if start.shape != end.shape:
                raise InvalidArgumentError(
                    "baselines",
                    f"one with the input's value at the layer, {tuple(end.shape)}",
                    f"one with a value of shape {tuple(start.shape)}",
                )
        self.lines = self._lines(starts, ends)

    # ---- setting out -------------------------------------------------------

    @torch.no_grad()
    def _values(self, inputs: list[Tensor]) -> list[Tensor]:
        """The attributed tensors in an ordinary forward pass, (*value) each."""
        call = self.call
        with ExitStack() as stack:
            visits = [
                None if place is None else stack.enter_context(place.visited())
                for place in call.places
            ]
            score = call.forward_func(*(each.clone() for each in inputs), *self.args)
        self._checked(score, 1)
        values = []
        for at, (place, visit) in enumerate(zip(call.places, visits)):
            if place is None or visit is None:
                values.append(inputs[at][0])
                continue
            found = place.check(visit)
            self.axes[at] = _batch_axis(found, place.argument)
            values.append(found.detach().movedim(self.axes[at], 0)[0].clone())
        return values

    def _lines(self, starts: list[Tensor], ends: list[Tensor]) -> tuple[_Line, _Line]:
        exact = [torch.promote_types(end.dtype, torch.float32) for end in ends]
        starts = [each.to(dtype) for each, dtype in zip(starts, exact)]
        ends = [each.to(dtype) for each, dtype in zip(ends, exact)]
        is_joint = len(ends) == 1
        (ids, *one), (other_ids, *other) = (
            self._features(side, 0 if is_joint else side, ends) for side in (0, 1)
        )
        if not is_joint:
            return (
                _Line(starts[0], ends[0] - starts[0], ids, *one),
                _Line(starts[1], ends[1] - starts[1], other_ids, *other),
            )
        start, difference = starts[0], ends[0] - starts[0]
        mine, others = ids >= 0, other_ids >= 0
        if bool((mine & others).any()):
            raise InvalidArgumentError(
                "feature_mask", "two sides that have no position in common", "some"
            )
        # the two lines are added to each other; what is no side's stays as it is
        start = torch.where(mine | others, start, ends[0])
        none = torch.zeros_like(start)
        return (
            _Line(start, torch.where(mine, difference, none), ids, *one),
            _Line(none, torch.where(others, difference, none), other_ids, *other),
        )

    def _features(self, side: int, at: int, values: list[Tensor]) -> tuple[Any, ...]:
        """Ids (*value), their number, and the axes of the features."""
        mask, value, axis = self.call.masks[side], values[at], self.axes[at]
        shape, name = tuple(value.shape), f"feature_mask[{side}]"
        if mask is None:
            if self.call.places[at] is None:
                features = scalar_features(shape, value.device)
            else:
                features = position_features(shape, None, value.device)
            return features.mask.expand(shape), features.count, features.shape
        ids = None
        if mask.ndim == len(shape) + 1 and mask.shape[axis] in (1, len(self.call)):
            ids = _row(mask.movedim(axis, 0), self.row)[0].to(value.device)
        if ids is None or any(a not in (1, b) for a, b in zip(ids.shape, shape)):
            whole = [*shape]
            whole.insert(axis, len(self.call))
            raise InvalidArgumentError(
                name,
                f"ids of shape {tuple(whole)}, each dimension its own or 1",
                describe(mask),
            )
        count = int(mask.max()) + 1
        return ids.to(torch.int64).expand(shape), count, (count,)

    # ---- running -----------------------------------------------------------

    def score(self, first: Tensor, second: Tensor) -> Tensor:
        """(n,) of points (n, *value) of both sides."""
        n, call = len(first), self.call
        values = [first, second] if len(self.inputs) == 2 else [first + second]
        inputs = [_expand(each, n) for each in self.inputs]
        with ExitStack() as stack:
            visits = []
            for at, (place, value) in enumerate(zip(call.places, values)):
                if place is None:
                    inputs[at] = value.to(self.dtypes[at])
                    continue
                placed = value.to(self.dtypes[at]).movedim(0, self.axes[at])
                visits.append((place, stack.enter_context(place.visited(placed))))
            args = (_expand(each, n) for each in self.args)
            score = call.forward_func(*(each.clone() for each in inputs), *args)
        for place, visit in visits:
            place.check(visit)
        return self._checked(score, n)

    def corners(self) -> Tensor:
        """s(x, y), s(r_x, y), s(x, r_y) and s(r_x, r_y): (4,)."""
        nodes = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
        first, second = (line.at(nodes[:, at]) for at, line in enumerate(self.lines))
        with torch.no_grad():
            return self.score(first, second)

    def _checked(self, score: object, n: int) -> Tensor:
        """One finite score for each of n examples, (n,)."""
        found = score
        if isinstance(found, Tensor) and self.target is not None and found.ndim > 1:
            found = _select_targets(found, self.target)
        if isinstance(found, Tensor) and found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        if (
            not isinstance(found, Tensor)
            or found.shape != (n,)
            or not found.is_floating_point()
        ):
            raise InvalidArgumentError(
                "forward_func",
                f"a function to a score for each of {n} example(s), ({n},), or to "
                f"({n}, classes) and a target",
                describe(score),
            )
        if not bool(torch.isfinite(found).all()):
            raise InvalidArgumentError(
                "forward_func", "finite scores", "NaN or infinity on the paths"
            )
        return found.to(torch.promote_types(found.dtype, torch.float32))


class FeaturePairIntegratedHessians(Attribution):
    r"""
    Attribution of any scalar score of two inputs to pairs of features, one from each:

    .. math::
        A_{ij} = \sum_{e \in i,\, f \in j} (x - r_x)_e (y - r_y)_f \int_0^1\!\!\int_0^1
        \frac{\partial^2 s}{\partial x_e \partial y_f}
        (r_x + \alpha (x - r_x),\, r_y + \beta (y - r_y))\, d\alpha\, d\beta,

    so that :math:`\sum_{ij} A_{ij} = s(x, y) - s(r_x, y) - s(x, r_y) + s(r_x, r_y)`. It
    is for scores that are no inner product of two embeddings: a cross-encoder, a
    late-interaction or text-conditioned model. Where they are one,
    :class:`FeaturePairIntegratedGradients` gives the same at n steps instead of n².
    (Integrated Hessians: Janizek et al., JMLR 2021, https://arxiv.org/abs/2002.04138,
    between features of one input along one path; here each side has its own.)

    The mixed derivative is never formed: the gradient of the side with fewer features
    is contracted with each of them and differentiated again.

    A model may read both inputs as one sequence. Then ``inputs`` is one tensor and the
    two masks say which positions are whose, -1 where a position is not this side's::

        >>> # [CLS] a b [SEP] c d e [SEP]: two words and three words
        >>> class CrossEncoder(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.embed, self.head = nn.Embedding(50, 8), nn.Linear(8, 1)
        ...     def forward(self, ids):
        ...         return self.head(torch.tanh(self.embed(ids).sum(1)))
        >>> model, ids = CrossEncoder(), torch.randint(0, 50, (1, 8))
        >>> padded = ids.clone()
        >>> padded[:, [1, 2, 4, 5, 6]] = 0
        >>> masks = (
        ...     torch.tensor([[-1, 0, 1, -1, -1, -1, -1, -1]])[..., None],
        ...     torch.tensor([[-1, -1, -1, -1, 0, 1, 2, -1]])[..., None],
        ... )
        >>> hessians = FeaturePairIntegratedHessians(model, model.embed)
        >>> hessians.attribute(ids, padded, masks).shape
        torch.Size([1, 2, 3])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: Any = None,
        multiply_by_inputs: bool = True,
    ) -> None:
        r"""
        Args:

            forward_func (Callable or torch.nn.Module): Maps two inputs (b, ...), or one
                        that holds both, and the additional arguments to scores (b,),
                        (b, 1), or (b, classes) with a target.
            layer (torch.nn.Module or tuple, optional): Attribute to a layer's value:
                        one module for one input, a pair for two (None: this side's
                        input). Default: None
            multiply_by_inputs (bool, optional): False: the averaged mixed derivative,
                        summed over each pair. Default: True
        """
        if not callable(forward_func):
            raise InvalidArgumentError(
                "forward_func", "a function of two inputs", describe(forward_func)
            )
        Attribution.__init__(self, forward_func)
        self.layer = layer
        self._multiply_by_inputs = multiply_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether attributions are multiplied by x - r and y - r."""
        return self._multiply_by_inputs

    def has_convergence_delta(self) -> bool:
        """Whether attributions sum to a difference of scores."""
        return self._multiply_by_inputs

    def attribute_future(self) -> None:
        """This method is not implemented, as for Captum's gradient methods."""
        raise NotImplementedError(f"attribute_future: {type(self).__name__}")

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Any = None,
        feature_mask: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: Any = 16,
        method: str = "gausslegendre",
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
    ) -> Any:
        r"""
        Args:

            inputs (tuple[Tensor, Tensor] or Tensor): x and y, (b, ...) each, or one
                        tensor of which both are parts; integers only at a layer.
            baselines (optional): The same: numbers or tensors of batch 1 or b, passed
                        on to the layer. Default: 0
            feature_mask (tuple, optional): A mask for each side, as for
                        :class:`FeaturePairIntegratedGradients`; of one tensor both are
                        needed. Default: scalars, at a layer positions
            target (int, tuple or tensor, optional): Which output, as in Captum.
            additional_forward_args (Any, optional): Further arguments; tensors have
                        batch 1 or b.
            n_steps (int or tuple, optional): Of each path; points are their product.
                        Default: 16
            method (str, optional): Of quadrature. Default: ``gausslegendre``
            internal_batch_size (int, optional): The most points run at once.
            return_convergence_delta (bool, optional): Default: False
            attribute_to_layer_input (bool, optional): Default: False

        Returns:
            *Tensor*: (b, \*features of x, \*features of y), and with the flag the delta
            (b,), their sum minus what it should be.

        Raises:
            InvalidArgumentError: for what does not fit.

        Examples::

            >>> def score(x, y):
            ...     return (x.prod(1) * y.sum(1)).tanh()
            >>> hessians = FeaturePairIntegratedHessians(score)
            >>> hessians.attribute((torch.rand(2, 3), torch.rand(2, 4))).shape
            torch.Size([2, 3, 4])
        """
        if return_convergence_delta and not self._multiply_by_inputs:
            raise InvalidArgumentError(
                "return_convergence_delta", "False without multiply_by_inputs", "True"
            )
        call = self._call(
            inputs,
            baselines,
            feature_mask,
            target,
            additional_forward_args,
            attribute_to_layer_input,
        )
        grid = _Grid.of(n_steps, method, internal_batch_size)
        parts = self._parts(call, grid, effects=False)
        if not return_convergence_delta:
            return parts.interactions
        return parts.interactions, parts.convergence_delta

    def decompose(
        self,
        inputs: Inputs,
        baselines: Any = None,
        feature_mask: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: Any = 16,
        method: str = "gausslegendre",
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: bool = False,
    ) -> PairDecomposition:
        r"""
        The whole score: that of the baselines, main effects (integrated gradients of
        each side with the other one at its baseline), and pairs.

        Args:

            inputs, baselines, ...: As for :meth:`attribute`.

        Returns:
            *PairDecomposition*

        Raises:
            InvalidArgumentError: for what does not fit; without multiply_by_inputs.
        """
        if not self._multiply_by_inputs:
            raise InvalidArgumentError(
                "multiply_by_inputs", "True for a decomposition", "False"
            )
        call = self._call(
            inputs,
            baselines,
            feature_mask,
            target,
            additional_forward_args,
            attribute_to_layer_input,
        )
        grid = _Grid.of(n_steps, method, internal_batch_size)
        return self._parts(call, grid, effects=True)

    # ---- arguments ---------------------------------------------------------

    def _call(
        self,
        inputs: Any,
        baselines: Any,
        feature_mask: Any,
        target: Any,
        additional_forward_args: Any,
        at_input: bool,
    ) -> _Call:
        is_joint = isinstance(inputs, Tensor)
        given = (inputs,) if is_joint else pair_of("inputs", inputs)
        names = [""] if is_joint else ["[0]", "[1]"]
        values = tuple(check_tensor("inputs" + n, v) for n, v in zip(names, given))
        starts = (baselines,) if is_joint else optional_pair_of("baselines", baselines)
        layers: tuple[Any, ...] = (self.layer,)
        if not is_joint:
            layers = (None, None) if self.layer is None else layer_pair(self.layer)
        rows = len(values[0])
        for name, value, layer in zip(names, values, layers):
            if len(value) != rows:
                raise InvalidArgumentError(
                    "inputs" + name, f"a batch of {rows}", describe(value)
                )
            if layer is None and not value.is_floating_point():
                raise InvalidArgumentError(
                    "inputs" + name,
                    "a floating tensor (for token ids, attribute to a layer)",
                    describe(value),
                )
            if layer is not None and not isinstance(layer, nn.Module):
                raise InvalidArgumentError("layer" + name, "a module", describe(layer))
        if not is_joint and layers[0] is not None and layers[0] is layers[1]:
            raise InvalidArgumentError(
                "layer",
                "a layer of each input's own, or one input that holds both",
                "one that both inputs pass",
            )
        return _Call(
            self.forward_func,
            values,
            tuple(
                _baseline("baselines" + n, start, value)
                for n, start, value in zip(names, starts, values)
            ),
            tuple(
                None if layer is None else Place(layer, at_input, "layer" + name)
                for name, layer in zip(names, layers)
            ),
            _masks(feature_mask, is_joint),
            _args("additional_forward_args", additional_forward_args, rows),
            target,
        )

    # ---- the integral ------------------------------------------------------

    def _parts(self, call: _Call, grid: _Grid, effects: bool) -> PairDecomposition:
        """Of every example; without effects they are zero, and the delta is that of the
        interactions."""
        results = []
        with Session() as session:
            for row in range(len(call)):
                surface = _Surface(call, row, session)
                results.append(self._one(surface, grid, effects))
        floating = [each.dtype for each in call.inputs if each.is_floating_point()]
        dtype = results[0].interactions.dtype
        if len(floating) == len(call.inputs):
            dtype = floating[0]
            for other in floating[1:]:
                dtype = torch.promote_types(dtype, other)
        return PairDecomposition(
            *(torch.stack(each).to(dtype).contiguous() for each in zip(*results))
        )

    def _one(self, surface: _Surface, grid: _Grid, effects: bool) -> PairDecomposition:
        first, second = surface.lines
        elements = len(surface.call) * first.count * second.count
        size = too_large(elements, first.start.dtype, first.start.device)
        if size is not None:
            raise InvalidArgumentError(
                "feature_mask",
                "features few enough for the attributions to fit in memory",
                f"an output of {size}",
            )
        corners = surface.corners()
        table = self._interactions(surface, grid)
        mains = [
            first.start.new_zeros(first.count),
            first.start.new_zeros(second.count),
        ]
        if effects:
            mains = [self._main_effects(surface, grid, side) for side in (0, 1)]
        for found in (table, *mains):
            check_finite(found)
        total = table.sum() + mains[0].sum() + mains[1].sum()
        target = corners[0] - corners[3]
        if not effects:
            target = corners[0] - corners[1] - corners[2] + corners[3]
        return PairDecomposition(
            corners[0],
            corners[3],
            mains[0].reshape(first.shape),
            mains[1].reshape(second.shape),
            table.reshape(*first.shape, *second.shape),
            total - target.to(total),
        )

    def _interactions(self, surface: _Surface, grid: _Grid) -> Tensor:
        """(G_x, G_y)."""
        lines, multiplied = surface.lines, self._multiply_by_inputs
        few = int(lines[1].count <= lines[0].count)
        one, many = lines[few], lines[1 - few]
        table = one.start.new_zeros(one.count, many.count)
        for leaves, score in _scored(surface, grid, (True, True)):
            gradient = _gradient(score, leaves[few], create_graph=True)
            if gradient is None or not gradient.requires_grad:
                continue  # nothing of the other side is in it
            gradient = gradient.sum(0)
            for feature in range(one.count):
                slope = (gradient * one.along(feature, multiplied)).sum()
                found = _gradient(slope, leaves[1 - few])
                if found is not None:
                    table[feature] += many.sums(found.sum(0), multiplied)
        return table if few == 0 else table.T

    def _main_effects(self, surface: _Surface, grid: _Grid, side: int) -> Tensor:
        """(G,), with the other side at its baseline."""
        line = surface.lines[side]
        total = line.start.new_zeros(line.count)
        for leaves, score in _scored(surface, grid, (side == 0, side == 1)):
            gradient = _gradient(score, leaves[side])
            if gradient is not None:
                total += line.sums(gradient.sum(0), multiplied=True)
        return total


def _scored(
    surface: _Surface, grid: _Grid, moving: tuple[bool, bool]
) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
    """Points of both paths (n, *value) and the weighted sum of their scores, with the
    graph between them, a chunk at a time."""
    for alphas, betas, weights in grid.points(moving):
        with torch.enable_grad(), twice_differentiable(True):
            first, second = (
                line.at(nodes).detach().requires_grad_(True)
                for line, nodes in zip(surface.lines, (alphas, betas))
            )
            scores = surface.score(first, second)
            if not scores.requires_grad:
                raise InvalidArgumentError(
                    "forward_func",
                    "a score that can be differentiated with respect to both inputs",
                    "one that does not depend on them, or not through autograd",
                )
            yield (first, second), (weights.to(scores) * scores).sum()


def _gradient(
    output: Tensor, leaf: Tensor, create_graph: bool = False
) -> Optional[Tensor]:
    """Of a sum with respect to points (n, *value), None where it has none."""
    if not output.requires_grad:
        return None
    with torch.autocast(leaf.device.type, enabled=False):
        (found,) = torch.autograd.grad(
            output,
            leaf,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
    gradient: Optional[Tensor] = found
    return gradient


def _masks(
    feature_mask: Any, is_joint: bool
) -> tuple[Optional[Tensor], Optional[Tensor]]:
    """A validated mask of each side."""
    masks = optional_pair_of("feature_mask", feature_mask)
    if is_joint and any(mask is None for mask in masks):
        raise InvalidArgumentError(
            "feature_mask", "a mask for each side of one input", describe(feature_mask)
        )
    for side, mask in enumerate(masks):
        if mask is None:
            continue
        name = f"feature_mask[{side}]"
        # -1 stands for a position that is not this side's
        least = -1 if is_joint else 0
        if not isinstance(mask, Tensor) or mask.is_floating_point() or not mask.numel():
            raise InvalidArgumentError(name, "a tensor of integers", describe(mask))
        if int(mask.min()) < least or int(mask.max()) < 0:
            raise InvalidArgumentError(
                name, f"ids from 0{' and -1' if is_joint else ''}", describe(mask)
            )
        validate_mask(name, mask.clamp_min(0))
    return masks[0], masks[1]


def _target_of(target: Any, row: int, rows: int) -> Any:
    """An example's target, as Captum takes it for any number of points."""
    if isinstance(target, Tensor) and target.numel() > 1:
        target = target.tolist()
    elif isinstance(target, Tensor):
        target = int(target)
    if isinstance(target, list):
        if len(target) != rows:
            raise InvalidArgumentError(
                "target", f"one for each of {rows} examples", f"{len(target)}"
            )
        return target[row]
    return target
