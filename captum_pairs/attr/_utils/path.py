#!/usr/bin/env python3
"""
One example of one side: the line from its baseline to it, and the encoder from there.

Notation used for tensor shapes (as everywhere in ``captum_pairs``):

- b: examples; n: points on the path; k: embedding dimensions
- value: the shape of the attributed tensor (an input, or a layer's value) of one
  example, without the batch
- G: features; m: directions in the embedding space
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
from typing import Any, Callable, Optional

import torch
from captum_pairs.attr._utils.features import (
    Features,
    masked_features,
    position_features,
    scalar_features,
)
from captum_pairs.attr._utils.hooks import (
    Front,
    is_half,
    observed,
    Place,
    plain_value,
    Session,
    twice_differentiable,
)
from captum_pairs.attr._utils.validation import describe, InvalidArgumentError
from torch import Tensor

# Bytes that autograd may keep for one chunk of points. Larger chunks were not faster
# on CPUs; on CUDA a share of what is free keeps the device busy.
_CPU_BYTES = 128 * 2**20
_CUDA_SHARE = 0.25
# How far the value at the end of the path may be from the plain forward pass.
_SAME = {torch.float64: 1e-7, torch.float32: 1e-3}
# Autograd's name for an operator without a derivative, whose gradient is silently none
# (a dynamically quantised layer beside a residual connection).
_OPAQUE = ("torch::autograd::WarnNotImplemented",)


@dataclass(frozen=True)
class Side:
    """
    The validated arguments of one side, rows of one example each.

    Args:

        argument (str): What its inputs are called in an error, e.g. ``inputs[0]``.
        encoder (Callable): Maps (b, ...) to (b, k).
        normalize (bool): Whether embeddings are divided by their norms.
        place (Place, optional): The layer, or None for the input.
        inputs (Tensor): (b, ...).
        baselines (Tensor): (1 or b, ...).
        args (tuple): Additional arguments; tensors (1 or b, ...).
        mask (Tensor, optional): (1 or b, ...) feature ids.
        mask_count (int): Largest id of the mask, and one.
        channel_dim (int, optional): The channels' dimension in a layer's value.
        differentiable (bool): Whether the method needs the encoder's derivatives.
    """

    argument: str
    encoder: Callable[..., Tensor]
    normalize: bool
    place: Optional[Place]
    inputs: Tensor
    baselines: Tensor
    args: tuple[Any, ...]
    mask: Optional[Tensor]
    mask_count: int
    channel_dim: Optional[int]
    differentiable: bool

    def __len__(self) -> int:
        return int(self.inputs.shape[0])

    def name(self, role: str) -> str:
        """What an example or its baseline is called in an error."""
        return self.argument.replace("inputs", role)

    def path(self, row: int, session: Session) -> "Path":
        """The path of one example."""
        return Path(self, row, session)


def _row(value: Any, row: int) -> Any:
    """An example's row of a tensor of batch 1 or b; anything else as it is."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value if value.shape[0] == 1 else value[row : row + 1]


def _batch_axis(value: Tensor, argument: str) -> int:
    """
    The batch axis of a layer's value for one example.

    Most layers have it first; those of OpenAI's ``clip`` are (tokens, b, d).
    """
    if value.shape[0] == 1:
        return 0
    if value.ndim > 1 and value.shape[1] == 1:
        return 1
    raise InvalidArgumentError(
        argument,
        "a layer whose value has the batch in dimension 0 or 1 (one " "example)",
        f"a value of shape {tuple(value.shape)}",
    )


class Path:
    r"""
    The straight line :math:`r + \alpha (x - r)` at the attributed tensor, and the
    encoder from there to the embedding.

    Attributes:

        start, end (Tensor): The baseline's and the input's value, (\*value), in the
                    dtype in which results are accumulated.
        embedding, baseline_embedding (Tensor): g(x) and g(r_x), (k,).
        features (Features): The partition of the value into G features.
        precision (dtype): The coarser of the value's and the embedding's.
        is_lossy (bool): Whether a part of the encoder computes in half precision.
    """

    def __init__(self, side: Side, row: int, session: Session) -> None:
        self.side = side
        self.row = row
        self._session = session
        self._input = plain_value(_row(side.inputs, row))
        self._args = tuple(plain_value(_row(arg, row)) for arg in side.args)
        self._front = Front()
        self._batch_axis = 0
        self._expanded = False

        plain, end = self._plain_pass(self._input, side.name("inputs"))
        baseline = plain_value(_row(side.baselines, row)).to(self._input.device)
        start = baseline
        if side.place is not None:
            start = self._value_of_baseline(baseline, end)
        self.value_dtype = end.dtype
        self.dtype = torch.promote_types(
            torch.promote_types(end.dtype, plain.dtype), torch.float32
        )
        self.precision = min(end.dtype, plain.dtype, key=_bits)
        self.start: Tensor = start[0].to(self.dtype)
        self.end: Tensor = end[0].to(self.dtype)
        self.features = self._features(row)
        self._settle(plain)

    # ---- setting out -------------------------------------------------------

    def _plain_pass(self, example: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """One ordinary forward pass: the embedding (1, k) and the value (1, *value)."""
        side = self.side
        with torch.no_grad(), observed(self._session) as recorder:
            if side.place is None:
                embedding = side.encoder(example.clone(), *self._args)
                value = example
            else:
                with side.place.visited(on_reach=recorder.reach) as visit:
                    embedding = side.encoder(example.clone(), *self._args)
                found = side.place.check(visit)
                self._batch_axis = _batch_axis(found, side.place.argument)
                value = found.detach().movedim(self._batch_axis, 0).clone()
                self._front = recorder.front()
        self.is_lossy: bool = recorder.is_half or is_half(value) or is_half(embedding)
        self._session.warn_if_random()
        return self._checked(embedding, 1, name), value

    def _value_of_baseline(self, baseline: Tensor, end: Tensor) -> Tensor:
        """The baseline propagated to the layer: (1, *value)."""
        side = self.side
        assert side.place is not None  # for the type checker: only layers propagate
        with torch.no_grad(), side.place.visited() as visit:
            side.encoder(baseline.clone(), *self._args)
        start = side.place.check(visit).detach().movedim(self._batch_axis, 0).clone()
        if start.shape != end.shape:
            raise InvalidArgumentError(
                side.name("baselines"),
                f"a baseline with the input's value at the layer, {tuple(end.shape)}",
                f"one with a value of shape {tuple(start.shape)}",
            )
        return start

    def _features(self, row: int) -> Features:
        side, shape = self.side, tuple(self.end.shape)
        if side.mask is not None:
            axis, mask = self._batch_axis, side.mask
            if mask.ndim != len(shape) + 1 or mask.shape[axis] not in (1, len(side)):
                whole = [*shape]
                whole.insert(axis, len(side))
                raise InvalidArgumentError(
                    side.name("feature_mask"),
                    f"a mask of {len(whole)} dimensions, those of {tuple(whole)}",
                    describe(mask),
                )
            ids = _row(mask.movedim(axis, 0), row)[0].to(self.end.device)
            name = side.name("feature_mask")
            return masked_features(name, ids, side.mask_count, shape)
        if side.place is None:
            return scalar_features(shape, self.end.device)
        return position_features(shape, self._channel_axis(), self.end.device)

    def _channel_axis(self) -> Optional[int]:
        """The channels' axis in the value without the batch."""
        dim, ndim = self.side.channel_dim, self.end.ndim + 1
        if dim is None:
            return None
        if not -ndim <= dim < ndim or dim % ndim == self._batch_axis:
            raise InvalidArgumentError(
                "channel_dim",
                f"a dimension of the layer's {ndim}, not the batch's",
                str(dim),
            )
        dim %= ndim
        return dim - 1 if dim > self._batch_axis else dim

    def _settle(self, plain: Tensor) -> None:
        """
        Embed both ends, find out how the encoder takes n points, and what they cost.

        The rest of an example's arguments has batch 1 and broadcasts in most encoders;
        where that fails, or does not give the plain forward pass, it is expanded to n.
        """
        try:
            ends = self._embed_ends()
            same = self._is_same(ends[1], plain[0])
        except Exception:
            # Whether or not it is the broadcast that fails, the next try tells: its
            # error goes to the caller as it is.
            same = False
        if not same:
            self._expanded = True
            ends = self._embed_ends()
            if not (self._is_same(ends[1], plain[0]) or self._session.is_random):
                raise InvalidArgumentError(
                    "forward_func",
                    "an encoder whose embedding of an example does not depend on the "
                    "rest of its batch",
                    f"one that embeds {self.side.name('inputs')} differently alone "
                    "and in a batch",
                )
        self.baseline_embedding, self.embedding = ends
        for role, embedding in zip(("baselines", "inputs"), ends):
            self._check_end(embedding, self.side.name(role))
        if self.side.normalize:
            self.baseline_embedding = _normalized(ends[0])
            self.embedding = _normalized(ends[1])

    def _embed_ends(self) -> Tensor:
        """Unnormalised embeddings of baseline and input (2, k), counting bytes."""
        ends = torch.stack([self.start, self.end])
        needed = self.side.differentiable
        with (
            saved_bytes(self._session) as counted,
            self._run(ends, normalize=False, grad=needed) as (leaf, embeddings),
        ):
            if needed and hides(embeddings, leaf):
                raise self._independent()
            result = embeddings.detach()
        self._point_bytes = max(1, counted[0] // 2)
        return result

    def _is_same(self, value: Tensor, plain: Tensor) -> bool:
        if value.shape != plain.shape:
            return False
        tolerance = 0.1 if self.is_lossy else _SAME[self.precision]
        plain = plain.to(value)
        return bool((value - plain).norm() <= tolerance * plain.norm())

    # ---- running -----------------------------------------------------------

    @property
    def difference(self) -> Tensor:
        """x - r at the attributed tensor, (*value)."""
        return self.end - self.start

    def chunk_size(self, requested: Optional[int], passes: float) -> int:
        """How many points to run at once when autograd keeps ``passes`` graphs."""
        if requested is not None:
            return requested
        return points_that_fit(passes * self._point_bytes, self.end.device)

    def points(self, nodes: Tensor) -> Tensor:
        """The path's points at ``nodes`` (n,), as (n, *value)."""
        nodes = nodes.reshape(-1, *[1] * self.end.ndim)
        return self.start + nodes * self.difference

    def embed(
        self, values: Tensor, internal_batch_size: Optional[int] = None
    ) -> Tensor:
        """Embeddings (n, k) of values (n, *value), without a graph."""
        results = []
        for chunk in torch.split(values, internal_batch_size or max(1, len(values))):
            with self._run(chunk, self.side.normalize, grad=False) as (_, embeddings):
                results.append(embeddings)
        return torch.cat(results)

    @contextmanager
    def run(self, nodes: Tensor, twice: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """
        The points at ``nodes`` (n, *value) and their embeddings (n, k), with the graph
        between them, which is used inside the context.

        Args:

            nodes (Tensor): Places on the path in [0, 1], (n,).
            twice (bool): Whether the graph is differentiated twice.
        """
        values, normalize = self.points(nodes), self.side.normalize
        with self._run(values, normalize, grad=True, twice=twice) as result:
            yield result

    @contextmanager
    def _run(
        self, values: Tensor, normalize: bool, grad: bool, twice: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        side, n = self.side, values.shape[0]
        leaf = values.detach().to(self.value_dtype).requires_grad_(grad)
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(grad))
            stack.enter_context(twice_differentiable(twice))
            args, example = self._args, self._input
            if self._expanded:
                args = tuple(_expand(arg, n) for arg in args)
                example = _expand(example, n)
            if side.place is None:
                embeddings = side.encoder(leaf.clone(), *args)
            else:
                # The hooks stay for the backward pass: checkpointing runs twice.
                placed = leaf.movedim(0, self._batch_axis)
                visit = stack.enter_context(side.place.visited(placed))
                if not self._expanded:
                    stack.enter_context(self._front.replayed())
                embeddings = side.encoder(example.clone(), *args)
                side.place.check(visit)
            embeddings = self._checked(embeddings, n, side.name("inputs"))
            embeddings = embeddings.to(self.dtype)
            if grad and not embeddings.requires_grad:
                raise self._independent()
            yield leaf, _normalized(embeddings) if normalize else embeddings

    # ---- checks ------------------------------------------------------------

    def _independent(self) -> InvalidArgumentError:
        where = self.side.name("inputs")
        if self.side.place is not None:
            where = self.side.place.argument
        return InvalidArgumentError(
            "forward_func",
            f"an encoder that can be differentiated with respect to {where}",
            "an embedding that does not depend on it, or not through autograd (a "
            "quantised layer, torch.no_grad or detach inside the encoder)",
        )

    def gradient(
        self, outputs: Tensor, leaf: Tensor, cotangent: Tensor, create_graph: bool
    ) -> Tensor:
        """One vector-Jacobian product: (n, k) -> (n, *value)."""
        with torch.autocast(leaf.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(
                outputs,
                leaf,
                cotangent,
                retain_graph=True,
                create_graph=create_graph,
                allow_unused=True,
            )
        if gradient is None:
            raise self._independent()
        return gradient

    def _checked(self, embedding: object, n: int, name: str) -> Tensor:
        """The encoder's output if it is n finite embeddings (n, k)."""
        if (
            not isinstance(embedding, Tensor)
            or embedding.ndim != 2
            or embedding.shape[0] != n
            or not embedding.is_floating_point()
        ):
            raise InvalidArgumentError(
                "forward_func",
                f"an encoder that maps {n} example(s) of {name} to a floating tensor "
                f"(b, k) = ({n}, k)",
                describe(embedding),
            )
        if not bool(torch.isfinite(embedding).all()):
            raise InvalidArgumentError(
                "forward_func",
                "finite embeddings",
                f"NaN or infinity on the path to {name}",
            )
        return embedding

    def _check_end(self, embedding: Tensor, name: str) -> None:
        if not bool(torch.isfinite(embedding).all()):
            raise InvalidArgumentError(
                "forward_func", "finite embeddings", f"NaN or infinity for {name}"
            )
        if self.side.normalize:
            check_norm(embedding, name)


def check_norm(embedding: Tensor, name: str) -> None:
    """Refuse an embedding that has no cosine."""
    if not bool(torch.linalg.vector_norm(embedding) > 0):
        raise InvalidArgumentError(
            "forward_func",
            "embeddings that the cosine is defined for",
            f"an embedding of norm zero for {name}",
        )


def _nodes(root: Any) -> Iterator[Any]:
    """Every node of the autograd graph below a tensor or a node, once."""
    start: Any = root.grad_fn if isinstance(root, Tensor) else root
    waiting, seen = [start], {start}
    while waiting:
        node = waiting.pop()
        yield node
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                waiting.append(below)


def depends(root: Any, leaf: Tensor) -> bool:
    """Whether a leaf is in the autograd graph below a tensor or a node."""
    below = (getattr(node, "variable", None) for node in _nodes(root))
    return any(variable is leaf for variable in below)


def hides(output: Tensor, leaf: Tensor) -> bool:
    """Whether autograd passes over an operation on the leaf with a warning only."""
    opaque = [node for node in _nodes(output) if node.name() in _OPAQUE]
    return any(depends(node, leaf) for node in opaque)


@contextmanager
def saved_bytes(session: Session) -> Iterator[list[int]]:
    """The bytes (a list of one) that autograd saves for what runs inside, without the
    parameters of the session's modules."""
    counted = [0]
    seen = {
        parameter.untyped_storage().data_ptr()
        for module in session.modules
        for parameter in module.parameters(recurse=False)
    }

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            counted[0] += storage.nbytes()
        # without its graph: a result that kept itself would never be freed
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(count, lambda saved: saved):
        yield counted


def points_that_fit(point_bytes: float, device: torch.device) -> int:
    """How many points to run at once if each takes ``point_bytes``."""
    room = float(_CPU_BYTES)
    if device.type == "cuda":
        room = _CUDA_SHARE * torch.cuda.mem_get_info(device)[0]
    return max(1, int(room / point_bytes))


def _bits(dtype: torch.dtype) -> int:
    return torch.finfo(dtype).bits


def _normalized(embeddings: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True)
    return embeddings / norms


def _expand(value: Any, n: int) -> Any:
    """A tensor of batch 1 repeated n times; anything else as it is."""
    if isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == 1:
        return value.expand(n, *value.shape[1:])
    return value


def too_large(elements: int, dtype: torch.dtype, device: torch.device) -> Optional[str]:
    """The size in words of a tensor that the device can't hold, or None."""
    size = elements * torch.finfo(dtype).bits // 8
    if device.type == "cuda":
        room = torch.cuda.mem_get_info(device)[0]
    else:
        room = _host_bytes() // 2
    return f"{size / 2**30:,.1f} GiB" if size > room else None


def _host_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 2**34
