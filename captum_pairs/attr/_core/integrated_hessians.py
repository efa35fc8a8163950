#!/usr/bin/env python3

import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Callable, Literal, NamedTuple, Optional, Union

import numpy as np
import torch
from captum.attr import Attribution
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import (
    check_attributions,
    check_finite,
)
from captum_pairs.attr._core.pair_attribution import PairDecomposition
from captum_pairs.attr._utils.features import (
    mask_row,
    masked_features,
    position_features,
    scalar_features,
    validate_mask,
)
from captum_pairs.attr._utils.forward_pass import Call, ForwardPass, too_large
from captum_pairs.attr._utils.hooks import Place, Session
from captum_pairs.attr._utils.placement import (
    Density,
    error_estimate,
    EVEN,
    Scan,
    scan_nodes,
    SCANS,
)
from captum_pairs.attr._utils.products import GRAPHS_FORWARD, GRAPHS_SCAN
from captum_pairs.attr._utils.quadrature import quadrature, validate_quadrature
from captum_pairs.attr._utils.sides import args_of, baseline_of
from captum_pairs.attr._utils.validation import (
    check_chunk,
    check_tensor,
    describe,
    flag,
    InvalidArgumentError,
    optional_pair_of,
    pair_of,
    positive_float,
    positive_int,
    warn_caller,
)
from torch import nn, Tensor

# How far a backward pass may be from linear, and a score in half precision from itself
# in a batch.
_GAP = {torch.float64: 1e-5, torch.float32: 3e-3}
_LOSSY = 0.1
_SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)

# Of the scores on the paths: by how much a difference of four is off by rounding.
_ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-6}
_ROUNDING_LOSSY = 1e-3
# Nodes of a path along which nothing is to be seen.
_FEWEST = 3

Inputs = Union[Tensor, tuple[Tensor, Tensor]]
# Whether a layer's input is meant, of both layers or of each.
AtInput = Union[bool, tuple[bool, bool]]
# Where nodes of a path go, and how many.
Placed = tuple[Density, int]


@dataclass(frozen=True)
class ScoreCall(Call):
    """
    The validated arguments of one call of a score.

    Args:
        masks: Of each side its features' ids, if they are given. Of a single attributed
            tensor both sides are parts.
        target: Which class of scores (b, classes).
    """

    masks: tuple[Optional[Tensor], Optional[Tensor]]
    target: Any

    def checked(self, output: object, n: int, row: int) -> Tensor:
        """One finite score for each of n points of an example, (n,)."""
        found = _selected(output, _target_of(self.target, row, len(self)))
        if (
            not isinstance(found, Tensor)
            or found.shape != (n,)
            or not found.is_floating_point()
        ):
            raise InvalidArgumentError(
                "forward_func",
                f"a function to a score for each of {n} example(s), ({n},), or to "
                f"({n}, classes) and a target",
                describe(output),
            )
        if not bool(torch.isfinite(found).all()):
            raise InvalidArgumentError(
                "forward_func", "finite scores", "NaN or infinity on the paths"
            )
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def size(self, outputs: Tensor, plain: Tensor) -> Tensor:
        # a score may be near zero where its parts are not
        return outputs.abs().max().clamp_min(1e-3)

    def independent(self, place: int) -> InvalidArgumentError:
        return InvalidArgumentError(
            "forward_func",
            f"a score that can be differentiated with respect to {self.where(place)}",
            "one that does not depend on it, or not through autograd (a quantised "
            "layer, torch.no_grad or detach inside the model)",
        )

    def batch_dependent(self) -> InvalidArgumentError:
        return InvalidArgumentError(
            "forward_func",
            "a score that does not depend on the rest of its batch",
            "one that differs between an example alone and in a batch",
        )


@dataclass(frozen=True)
class PathIntegration:
    """
    How the integral over both paths is computed.

    Args:
        n_steps: Quadrature steps of each path; with a tolerance, the most.
        method: Of quadrature. Default: ``gausslegendre``; with a tolerance nodes where
            the score moves.
        tolerance: Take as few steps as bring the residual within it.
        internal_batch_size: The most points run at once. Default: by memory
    """

    n_steps: tuple[int, int] = (16, 16)
    method: Optional[str] = None
    tolerance: Optional[float] = None
    internal_batch_size: Optional[int] = None

    def __post_init__(self) -> None:
        check_chunk(self.internal_batch_size)
        given: Any = self.n_steps
        is_pair = isinstance(given, (tuple, list))
        pair = pair_of("n_steps", given if is_pair else (given, given))
        steps = tuple(positive_int("n_steps", each) for each in pair)
        object.__setattr__(self, "n_steps", steps)
        if self.tolerance is not None:
            tolerance = positive_float("tolerance", self.tolerance)
            object.__setattr__(self, "tolerance", tolerance)
            if self.method is not None:
                raise InvalidArgumentError(
                    "method",
                    "None with a tolerance, whose nodes lie where the score moves",
                    describe(self.method),
                )
        for n in steps:
            validate_quadrature(n, self.rule)

    @property
    def rule(self) -> str:
        """The rule that is named, or the default one."""
        return "gausslegendre" if self.method is None else self.method


class _Nodes(NamedTuple):
    """Of a path its nodes (n,), and the weights of s sums (s, n): those of the rule,
    and if there is one that of every second node, zero at the others."""

    places: Tensor
    weights: Tensor

    @classmethod
    def named(cls, n: int, rule: str) -> "_Nodes":
        places, weights = quadrature(n, rule)
        return cls(places, weights[None])

    @classmethod
    def placed(cls, density: Density, n: int) -> "_Nodes":
        found = density.rule(n)
        weights = np.stack([found.weights, found.half])
        return cls(torch.from_numpy(found.nodes), torch.from_numpy(weights))


# Of a side that does not move: at its baseline.
_STILL = _Nodes(torch.zeros(1).double(), torch.ones(1, 1).double())


def _points(
    first: _Nodes, second: _Nodes, most: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Places on both paths (n,) each, and weights (s, n) of the sums: with the rules of
    both paths, then with every second node of the first, and of the second. At most so
    many at once."""
    (a, w), (b, v) = first, second
    sums = [torch.outer(w[0], v[0])]
    sums += [torch.outer(half, v[0]) for half in w[1:]]
    sums += [torch.outer(w[0], half) for half in v[1:]]
    # equal chunks: 3 + 3 + 2 + 2 and not 3 + 3 + 3 + 1
    count = -(-len(a) * len(b) // most)
    places = a.repeat_interleave(len(b)), b.repeat(len(a))
    weights = torch.stack(sums).flatten(1)
    yield from zip(
        *(each.tensor_split(count) for each in places),
        weights.tensor_split(count, dim=1),
    )


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

    def sums(self, gradients: Tensor, weights: Tensor, multiplied: bool) -> Tensor:
        """Gradients at points (n, *value), weighed for s sums (s, n) and summed into
        features: (s, G)."""
        # (s, n), (n, *value) -> (s, *value)
        values = torch.tensordot(weights.to(self.start), gradients.to(self.start), 1)
        values = values * self.difference if multiplied else values
        totals: Tensor = values.new_zeros(len(values), self.count + 1)
        ids = self.ids.flatten() + 1
        return totals.index_add_(1, ids, values.flatten(1))[:, 1:]


class Surface(ForwardPass):
    """The score of one example, as a function of a place on each path."""

    def __init__(self, call: ScoreCall, row: int, session: Session) -> None:
        super().__init__(call, row, session)
        self.masks = call.masks
        self._known: dict[tuple[float, float], float] = {}
        self.lines = self._lines(self.baseline_values())
        nodes = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
        # s(x, y), s(r_x, y), s(x, r_y) and s(r_x, r_y): (4,)
        leaves = self._leaves(*nodes.T)
        self.corners = self.settle(self._placed(leaves), 0, leaves)
        lossy = self.is_lossy or self.precision not in _GAP
        self.gap = _LOSSY if lossy else _GAP[self.precision]

    @property
    def is_joint(self) -> bool:
        """Whether one tensor holds both sides."""
        return len(self.values) == 1

    @property
    def rounding(self) -> float:
        """By how much a difference of scores is off, or an attribution."""
        share = _ROUNDING.get(self.precision, _ROUNDING_LOSSY)
        share = _ROUNDING_LOSSY if self.is_lossy else share
        return share * max(float(self.corners.abs().max()), 1e-30)

    def _lines(self, starts: Sequence[Tensor]) -> tuple[_Line, _Line]:
        exact = [torch.promote_types(end.dtype, torch.float32) for end in self.values]
        starts = [each.to(dtype) for each, dtype in zip(starts, exact)]
        ends = [each.to(dtype) for each, dtype in zip(self.values, exact)]
        (ids, *one), (other_ids, *other) = (
            self._features(side, 0 if self.is_joint else side) for side in (0, 1)
        )
        if not self.is_joint:
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

    def _features(self, side: int, at: int) -> tuple[Any, ...]:
        """Ids (*value), their number, and the axes of the features."""
        mask, value, name = self.masks[side], self.values[at], f"feature_mask[{side}]"
        shape = tuple(value.shape)
        if mask is None:
            if self.call.places[at] is None:
                features = scalar_features(shape, value.device)
            else:
                features = position_features(shape, None, value.device)
            return features.mask.expand(shape), features.count, features.shape
        rows = len(self.call)
        ids = mask_row(name, mask, shape, self.axes[at], self.row, rows)
        count = int(mask.max()) + 1
        found = masked_features(name, ids.to(value.device), count, shape)
        return found.mask.expand(shape), count, (count,)

    # ---- running -----------------------------------------------------------

    def _leaves(self, alphas: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Points (n, *value) of both sides, of which derivatives are taken."""
        first, second = (
            line.at(nodes).requires_grad_()
            for line, nodes in zip(self.lines, (alphas, betas))
        )
        return first, second

    def _placed(self, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The values at the places that they make."""
        return (leaves[0] + leaves[1],) if self.is_joint else leaves

    @contextmanager
    def scored(
        self, alphas: Tensor, betas: Tensor
    ) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
        """Points (n, *value) of both sides and their scores (n,), with the graph
        between them, which is used inside the context and differentiated twice."""
        leaves = self._leaves(alphas, betas)
        with self.forward(self._placed(leaves), grad=True, twice=True) as scores:
            yield leaves, scores

    def grid(self, alphas: Any, betas: Any) -> Any:
        """Scores at places of both paths (p,) and (q,), without a graph: (p, q) in
        float64. Each is computed once."""
        places = [(float(alpha), float(beta)) for alpha in alphas for beta in betas]
        new = [place for place in places if place not in self._known]
        most = self.fitting(GRAPHS_SCAN)
        for start in range(0, len(new), most):
            some = new[start : start + most]
            nodes = torch.tensor(some, dtype=torch.float64).T
            values = self._placed(tuple(map(_Line.at, self.lines, nodes)))
            with self.forward(values, grad=False) as scores:
                self._known |= zip(some, scores.double().tolist())
        found = [self._known[place] for place in places]
        return np.array(found).reshape(len(alphas), len(betas))


class PathParts(NamedTuple):
    """
    An example's parts, and how their integrals were found.

    Args:
        parts: of the score.
        n_steps: of both paths, for the pairs.
        residuals: of each side, the worse one of the pairs' and of its main effects':
            how far they are from exact, relative to their norm, as far as that can be
            told; 0 without a tolerance.
    """

    parts: PairDecomposition
    n_steps: tuple[int, int]
    residuals: tuple[float, float]


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

    Each side has a tensor of its own: an input of two, or with a pair of layers a
    layer's value. Or one tensor holds both: the only input, or with one layer its
    value, as in a cross-encoder that reads one sequence. Then the two masks say which
    positions are whose, -1 where one is not this side's; positions of no side stay as
    in the input::

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
                        one module whose value holds both sides, or a pair (None: this
                        side's input; a module twice: both inputs pass it, x first).
                        Default: None
            multiply_by_inputs (bool, optional): False: the averaged mixed derivative,
                        summed over each pair. Default: True
        """
        if not callable(forward_func):
            raise InvalidArgumentError(
                "forward_func", "a function of two inputs", describe(forward_func)
            )
        if layer is not None and not isinstance(layer, nn.Module):
            for at, module in enumerate(pair_of("layer", layer)):
                if module is not None and not isinstance(module, nn.Module):
                    raise InvalidArgumentError(
                        f"layer[{at}]", "a torch.nn.Module or None", describe(module)
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

    @typing.overload
    def attribute(
        self,
        inputs: Inputs,
        baselines: Any = None,
        feature_mask: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: Any = 16,
        method: Optional[str] = None,
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        *,
        return_convergence_delta: Literal[True],
        attribute_to_layer_input: AtInput = False,
    ) -> tuple[Tensor, Tensor]: ...

    @typing.overload
    def attribute(
        self,
        inputs: Inputs,
        baselines: Any = None,
        feature_mask: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: Any = 16,
        method: Optional[str] = None,
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: Literal[False] = False,
        attribute_to_layer_input: AtInput = False,
    ) -> Tensor: ...

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Any = None,
        feature_mask: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: Any = 16,
        method: Optional[str] = None,
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: AtInput = False,
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        r"""
        Args:

            inputs (tuple[Tensor, Tensor] or Tensor): x and y, (b, ...) each, or one
                        tensor of which both are parts; integers only at a layer.
            baselines (optional): The same: numbers or tensors of batch 1 or b, passed
                        on to the layer. Default: 0
            feature_mask (tuple, optional): A mask for each side, as for
                        :class:`FeaturePairIntegratedGradients`; of one tensor both are
                        needed. Default: scalars, at a layer positions
            target (int, list or Tensor, optional): Which class of scores (b, classes),
                        one for all examples or one for each.
            additional_forward_args (Any, optional): Further arguments; tensors have
                        batch 1 or b.
            n_steps (int or tuple, optional): Of each path; points are their product.
                        Default: 16
            method (str, optional): Of quadrature. Default: ``gausslegendre``; with a
                        tolerance nodes where the score moves (see
                        :mod:`captum_pairs.attr._utils.placement`)
            tolerance (float, optional): Of every example take as few steps as bring its
                        residual within it: how far the pairs' sum is from what it is
                        known to be, or a share of the change from every second node,
                        relative to the pairs' norm; warn if ``n_steps`` do not.
                        Default: None
            internal_batch_size (int, optional): The most points run at once. Default:
                        chosen by the memory that a point needs
            return_convergence_delta (bool, optional): Default: False
            attribute_to_layer_input (bool or pair, optional): Of both layers, or of
                        each. Default: False

        Returns:
            *Tensor*: (b, \*features of x, \*features of y), and with the flag the delta
            (b,), their sum minus what it should be.

        Raises:
            InvalidArgumentError: a ``ValueError`` that names the argument. A part of a
            model whose derivative is hidden from autograd shows in the delta only.

        Examples::

            >>> def score(x, y):
            ...     return (x.prod(1) * y.sum(1)).tanh()
            >>> hessians = FeaturePairIntegratedHessians(score)
            >>> hessians.attribute((torch.rand(2, 3), torch.rand(2, 4))).shape
            torch.Size([2, 3, 4])
        """
        if flag("return_convergence_delta", return_convergence_delta):
            self._require_multiplied("return_convergence_delta")
        call = self.call(
            inputs,
            baselines,
            feature_mask,
            target,
            additional_forward_args,
            attribute_to_layer_input,
        )
        settings = PathIntegration(n_steps, method, tolerance, internal_batch_size)
        parts = self._parts(call, settings, effects=False)
        if not return_convergence_delta:
            return parts.interactions
        return parts.interactions, parts.convergence_delta

    @log_usage()
    def compute_convergence_delta(
        self,
        attributions: Tensor,
        start_point: Any,
        end_point: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        attribute_to_layer_input: AtInput = False,
    ) -> Tensor:
        r"""
        Args:

            attributions (Tensor): (b, \*features of x, \*features of y).
            start_point, end_point: Baselines and inputs, as for :meth:`attribute`.
            target, additional_forward_args: As for :meth:`attribute`.
            feature_mask (tuple, optional): Needed where one tensor holds both sides.
            attribute_to_layer_input (bool or pair, optional): Default: False

        Returns:
            *Tensor* (b,): the sum of the attributions minus
            :math:`s(x,y) - s(r_x,y) - s(x,r_y) + s(r_x,r_y)`.
        """
        self._require_multiplied("attributions")
        call = self.call(
            end_point,
            start_point,
            feature_mask,
            target,
            additional_forward_args,
            attribute_to_layer_input,
        )
        check_attributions(attributions, len(call))
        with Session() as session:
            corners = [Surface(call, row, session).corners for row in range(len(call))]
        targets = torch.stack([_interaction(each) for each in corners])
        total = attributions.to(targets).flatten(1).sum(1)
        return (total - targets).to(attributions.dtype)

    @log_usage()
    def decompose(
        self,
        inputs: Inputs,
        baselines: Any = None,
        feature_mask: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: Any = 16,
        method: Optional[str] = None,
        tolerance: Optional[float] = None,
        internal_batch_size: Optional[int] = None,
        attribute_to_layer_input: AtInput = False,
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
        self._require_multiplied("decompose")
        call = self.call(
            inputs,
            baselines,
            feature_mask,
            target,
            additional_forward_args,
            attribute_to_layer_input,
        )
        settings = PathIntegration(n_steps, method, tolerance, internal_batch_size)
        return self._parts(call, settings, effects=True)

    # ---- arguments ---------------------------------------------------------

    def call(
        self,
        inputs: Any,
        baselines: Any,
        feature_mask: Any,
        target: Any,
        additional_forward_args: Any,
        at_input: AtInput,
    ) -> ScoreCall:
        """The validated arguments of a call; see :meth:`attribute`."""
        is_single = isinstance(inputs, Tensor)
        given = (inputs,) if is_single else pair_of("inputs", inputs)
        names = [""] if is_single else ["[0]", "[1]"]
        values = tuple(check_tensor("inputs" + n, v) for n, v in zip(names, given))
        single = is_single and not isinstance(baselines, (tuple, list))
        starts = (baselines,) if single else optional_pair_of("baselines", baselines)
        places = self._places(is_single, at_input)
        rows = len(values[0])
        for at, (name, value) in enumerate(zip(names, values)):
            if len(value) != rows:
                raise InvalidArgumentError(
                    "inputs" + name, f"a batch of {rows}", describe(value)
                )
            if places[min(at, len(places) - 1)] is None:
                _check_floating("inputs" + name, value)
        return ScoreCall(
            self.forward_func,
            values,
            tuple(
                baseline_of("baselines" + n, start, value)
                for n, start, value in zip(names, starts, values)
            ),
            args_of("additional_forward_args", additional_forward_args, rows),
            places,
            tuple("inputs" + name for name in names),
            _masks(feature_mask, len(places) == 1),
            target,
        )

    def _places(self, is_single: bool, at: AtInput) -> tuple[Optional[Place], ...]:
        """Of each attributed tensor; a single one holds both sides."""
        layer = self.layer
        name = "attribute_to_layer_input"
        each = pair_of(name, at if isinstance(at, (tuple, list)) else (at, at))
        at_input = [flag(name, one) for one in each]
        if isinstance(layer, nn.Module):
            return (Place(layer, at_input[0], "layer"),)
        if is_single and layer is not None:
            raise InvalidArgumentError(
                "layer", "one module, since inputs is one tensor", describe(layer)
            )
        if layer is None:
            return (None,) if is_single else (None, None)
        is_shared = layer[0] is layer[1]
        return tuple(
            module
            and Place(module, inner, f"layer[{side}]", side if is_shared else None)
            for side, (module, inner) in enumerate(zip(layer, at_input))
        )

    def _require_multiplied(self, argument: str) -> None:
        if not self._multiply_by_inputs:
            raise InvalidArgumentError(
                argument,
                "multiply_by_inputs=True, without which nothing is complete",
                "multiply_by_inputs=False",
            )

    # ---- the integral ------------------------------------------------------

    def _parts(
        self, call: ScoreCall, settings: PathIntegration, effects: bool
    ) -> PairDecomposition:
        """Of every example; without effects they are zero, and the delta is that of the
        interactions."""
        if settings.tolerance is not None:
            self._require_multiplied("tolerance")
        results = []
        with Session() as session:
            for row in range(len(call)):
                found = self.parts_of(Surface(call, row, session), settings, effects)
                _warn_of(found, settings)
                results.append(found.parts)
        dtypes = [each.dtype for each in call.inputs if each.is_floating_point()]
        if len(dtypes) < len(call.inputs):
            dtypes.append(results[0].interactions.dtype)
        dtype = reduce(torch.promote_types, dtypes)
        return PairDecomposition(
            *(torch.stack(each).to(dtype).contiguous() for each in zip(*results))
        )

    def parts_of(
        self, surface: Surface, settings: PathIntegration, effects: bool = True
    ) -> PathParts:
        """One example's parts; without effects these are zero, and the delta is that of
        the interactions."""
        first, second = surface.lines
        elements = len(surface.call) * first.count * second.count
        size = too_large(elements, first.start.dtype, first.start.device)
        if size is not None:
            raise InvalidArgumentError(
                "feature_mask",
                "features few enough for the attributions to fit in memory",
                f"an output of {size}",
            )
        corners = surface.corners
        table, n_steps, residual = self._pairs(surface, settings)
        residuals = [residual, residual]
        mains = [
            first.start.new_zeros(first.count),
            first.start.new_zeros(second.count),
        ]
        if effects:
            for side in (0, 1):
                mains[side], residual = self._main_effects(surface, settings, side)
                residuals[side] = max(residuals[side], residual)
        for found in (table, *mains):
            check_finite(found)
        total = table.sum() + mains[0].sum() + mains[1].sum()
        target = corners[0] - corners[3]
        if not effects:
            target = _interaction(corners)
        parts = PairDecomposition(
            corners[0],
            corners[3],
            mains[0].reshape(first.shape),
            mains[1].reshape(second.shape),
            table.reshape(*first.shape, *second.shape),
            total - target.to(total),
        )
        return PathParts(parts, n_steps, (residuals[0], residuals[1]))

    def _pairs(
        self, surface: Surface, settings: PathIntegration
    ) -> tuple[Tensor, tuple[int, int], float]:
        """(G_x, G_y), the steps of both paths, and the residual."""
        if settings.tolerance is None:
            nodes = [_Nodes.named(n, settings.rule) for n in settings.n_steps]
            return self._interactions(surface, nodes, settings)[0], settings.n_steps, 0
        placed = scanned(surface, settings)
        target = _interaction(surface.corners)
        while True:
            nodes = [_Nodes.placed(*each) for each in placed]
            table, *halves = self._interactions(surface, nodes, settings)
            found = _Errors.of(surface, table, target, halves, placed)
            larger = found.larger(placed, settings)
            if larger is None:
                return table, (placed[0][1], placed[1][1]), found.residual
            placed = larger

    def _interactions(
        self, surface: Surface, nodes: Sequence[_Nodes], settings: PathIntegration
    ) -> Tensor:
        """(s, G_x, G_y), with the weights of s sums (see :func:`_points`)."""
        lines, multiplied = surface.lines, self._multiply_by_inputs
        few = int(lines[1].count <= lines[0].count)
        one, many = lines[few], lines[1 - few]
        tables: Any = 0
        most = settings.internal_batch_size or surface.fitting(GRAPHS_FORWARD)
        for alphas, betas, weights in _points(nodes[0], nodes[1], most):
            with surface.scored(alphas, betas) as (leaves, scores):
                # required, so that what can be differentiated only once says so
                ones = torch.ones_like(scores, requires_grad=True)
                gradient = _gradient(scores, leaves[few], ones, create_graph=True)
                _check_backward(surface, gradient, ones)
                total = gradient.sum(0)
                rows = []
                for feature in range(one.count):
                    slope = (total * one.along(feature, multiplied)).sum()
                    found = _gradient(slope, leaves[1 - few])
                    rows.append(many.sums(found, weights, multiplied))
            tables = tables + torch.stack(rows, dim=1)
        found = torch.as_tensor(tables)
        return found if few == 0 else found.transpose(1, 2)

    def _main_effects(
        self, surface: Surface, settings: PathIntegration, side: int
    ) -> tuple[Tensor, float]:
        """(G,), with the other side at its baseline; and the residual."""
        if settings.tolerance is None:
            nodes = _Nodes.named(settings.n_steps[side], settings.rule)
            return self._effects(surface, nodes, settings, side)[0], 0.0
        # along one path as many points as the pairs may have
        most = settings.n_steps[0] * settings.n_steps[1]
        settings = replace(settings, n_steps=(most, most))
        placed = scanned_alone(surface, settings, side)
        target = surface.corners[2 - side] - surface.corners[3]
        while True:
            nodes = _Nodes.placed(*placed[0])
            effects, *halves = self._effects(surface, nodes, settings, side)
            found = _Errors.of(surface, effects, target, halves, placed)
            larger = found.larger(placed, settings)
            if larger is None:
                return effects, found.residual
            placed = larger

    def _effects(
        self, surface: Surface, nodes: _Nodes, settings: PathIntegration, side: int
    ) -> Tensor:
        """(s, G), with the weights of s sums."""
        line = surface.lines[side]
        sums: Any = 0
        both = (nodes, _STILL) if side == 0 else (_STILL, nodes)
        most = settings.internal_batch_size or surface.fitting(GRAPHS_FORWARD)
        for alphas, betas, weights in _points(*both, most):
            with surface.scored(alphas, betas) as (leaves, scores):
                ones = torch.ones_like(scores)
                gradient = _gradient(scores, leaves[side], ones)
                sums = sums + line.sums(gradient, weights, multiplied=True)
        return torch.as_tensor(sums)


class _Errors(NamedTuple):
    """
    How far sums over paths are from exact, relative to their norm.

    Args:
        missing: of the sum that is known.
        changes: of each path, from the rule of every second of its nodes.
    """

    missing: float
    changes: tuple[float, ...]

    @classmethod
    def of(
        cls,
        surface: Surface,
        found: Tensor,
        target: Tensor,
        halves: Sequence[Tensor],
        placed: Sequence[Placed],
    ) -> "_Errors":
        rounding = 4 * surface.rounding
        size = float(torch.linalg.vector_norm(found)) or 1.0
        missing = abs(float(found.sum() - target.to(found))) - rounding
        changes = [
            # fewer than three nodes have no rule of every second one
            (float(torch.linalg.vector_norm(found - half)) - rounding) * (n >= _FEWEST)
            for half, (_, n) in zip(halves, placed)
        ]
        return cls(max(missing, 0.0) / size, tuple(max(c, 0.0) / size for c in changes))

    @property
    def residual(self) -> float:
        return float(error_estimate(self.missing, max(self.changes)))

    def larger(
        self, placed: Sequence[Placed], settings: PathIntegration
    ) -> Optional[list[Placed]]:
        """Twice the nodes of the path that needs them, or of both, or as many as are
        allowed; None if no more are needed or allowed."""
        tolerance = settings.tolerance
        assert tolerance is not None  # only then nodes are placed
        if self.residual <= tolerance:
            return None
        # of an even number there would be no rule of every second node
        most = [n - 1 + n % 2 for n in settings.n_steps]
        doubled = [min(2 * n + 1, largest) for (_, n), largest in zip(placed, most)]
        may = [more > n for more, (_, n) in zip(doubled, placed)]
        worst = max((c for c, free in zip(self.changes, may) if free), default=0.0)
        if not any(may):
            return None
        return [
            # half of the worst one's: then both are what is wrong
            (density, more if free and change >= worst / 2 else n)
            for (density, n), more, free, change in zip(
                placed, doubled, may, self.changes
            )
        ]


def scanned(surface: Surface, settings: PathIntegration) -> list[Placed]:
    """
    Where nodes go on each path and how many, from scores at a grid of places.

    A path's curve are the increments of the score along the other one: what moves it
    is the mixed derivative, whose sums they are.
    """
    sizes = [SCANS[0], SCANS[0]]
    while True:
        grid = surface.grid(*(scan_nodes(size) for size in sizes))
        curves = np.diff(grid, axis=1), np.diff(grid, axis=0).T
        found, coarse = [], []
        for at, (curve, most) in enumerate(zip(curves, settings.n_steps)):
            placed, is_trusted = _placed(surface, curve, settings.tolerance, most)
            found.append(placed)
            if not is_trusted and sizes[at] < SCANS[-1]:
                coarse.append(at)
        if not coarse:
            return found
        for at in coarse:
            sizes[at] = SCANS[SCANS.index(sizes[at]) + 1]


def scanned_alone(
    surface: Surface, settings: PathIntegration, side: int
) -> list[Placed]:
    """Where nodes go on one path while the other side is at its baseline: one pair."""
    still = np.zeros(1)
    for size in SCANS:
        nodes = scan_nodes(size)
        both = (nodes, still) if side == 0 else (still, nodes)
        curve = surface.grid(*both).reshape(-1, 1)
        most = settings.n_steps[side]
        placed, is_trusted = _placed(surface, curve, settings.tolerance, most)
        if is_trusted:
            break
    return [placed]


def _placed(
    surface: Surface, curve: Any, tolerance: Optional[float], most: int
) -> tuple[Placed, bool]:
    """Where nodes go by a scanned curve (p, k), and whether it is fine enough."""
    assert tolerance is not None  # only then nodes are placed
    if np.linalg.norm(curve - curve[0]) <= 4 * surface.rounding * len(curve):
        return (EVEN, min(_FEWEST, most)), True
    scan = Scan(curve)
    density, n = scan.nodes_within(tolerance, most)
    return (density, n), scan.is_trusted(n, tolerance)


def _warn_of(found: PathParts, settings: PathIntegration) -> None:
    """Warn of an integral that did not reach its tolerance."""
    residual = max(found.residuals)
    if settings.tolerance is not None and residual > settings.tolerance:
        warn_caller(
            f"the integral over both paths has a residual of {residual:.1e} after "
            f"n_steps={found.n_steps}, above tolerance={settings.tolerance:.1e}: more "
            "steps or a deeper layer bring it down, if the score has no kinks"
        )


def _interaction(corners: Tensor) -> Tensor:
    """What the interactions sum to, of s(x, y), s(r_x, y), s(x, r_y), s(r_x, r_y)."""
    return corners[0] - corners[1] - corners[2] + corners[3]


def _gradient(
    output: Tensor,
    leaf: Tensor,
    cotangent: Optional[Tensor] = None,
    create_graph: bool = False,
) -> Tensor:
    """One vector-Jacobian product at points (n, *value); zero where there is none."""
    try:
        with torch.autocast(leaf.device.type, enabled=False):
            (found,) = torch.autograd.grad(
                output,
                leaf,
                cotangent,
                retain_graph=True,
                create_graph=create_graph,
                materialize_grads=True,
            )
    except (torch.OutOfMemoryError, InvalidArgumentError):
        raise
    except RuntimeError as error:
        raise _not_twice(str(error)) from error
    return torch.as_tensor(found)


def _check_backward(surface: Surface, gradient: Tensor, weights: Tensor) -> None:
    """A backward pass is linear in the weights of the scores, or some of it is hidden
    from autograd: :math:`\\langle w, \\partial u / \\partial w\\rangle = u`."""
    size = gradient.detach().abs().sum()
    pulled = _gradient(gradient.sum(), weights) * weights.detach()
    gap = (pulled.sum() - gradient.detach().sum()).abs()
    # of derivatives that are not finite nothing can be said here
    if bool(gap > surface.gap * (size + pulled.abs().sum())):
        raise _not_twice("part of the backward pass has no graph")


def _not_twice(reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        "forward_func", "a score that can be differentiated twice", f"one with {reason}"
    )


def _selected(scores: object, target: Optional[int]) -> object:
    """(n,) of scores (n,), (n, 1), or (n, classes) with a target."""
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        return scores
    if target is None:
        return scores[:, 0] if scores.shape[1] == 1 else scores
    if not -scores.shape[1] <= target < scores.shape[1]:
        raise InvalidArgumentError(
            "target", f"one of {scores.shape[1]} classes", str(target)
        )
    return scores[:, target]


def _check_floating(argument: str, value: Tensor) -> None:
    if not value.is_floating_point():
        raise InvalidArgumentError(
            argument,
            "a floating tensor (for token ids, attribute to a layer)",
            describe(value),
        )


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
        if isinstance(mask, Tensor) and mask.dtype in _SIGNED and mask.numel():
            if int(mask.min()) < least or int(mask.max()) < 0:
                raise InvalidArgumentError(
                    name, f"ids from 0{' and -1' if is_joint else ''}", describe(mask)
                )
            mask = mask.clamp_min(0)
        validate_mask(name, mask)
    return masks[0], masks[1]


def _target_of(target: Any, row: int, rows: int) -> Optional[int]:
    """An example's class."""
    if isinstance(target, Tensor):
        check_tensor("target", target.reshape(1) if not target.ndim else target)
    values = target.flatten().tolist() if isinstance(target, Tensor) else target
    if isinstance(target, Tensor) and len(values) == 1:
        values = values[0]
    if isinstance(values, list) and len(values) == rows:
        values = values[row]
    if values is None or (isinstance(values, int) and not isinstance(values, bool)):
        return values
    raise InvalidArgumentError(
        "target", f"None, a class, or one for each of {rows} examples", describe(target)
    )
