#!/usr/bin/env python3
"""
One example's forward pass, and the same pass with other values at its places.

Notation used for tensor shapes (as everywhere in ``captum_pairs``):

- b: examples; n: points that run together; k: embedding dimensions
- value: the shape of an attributed tensor (an input, or a layer's value) of one
  example, without the batch
- G: features; m: directions in the embedding space
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Optional

import torch
from captum_pairs.attr._utils.hooks import (
    Front,
    is_half,
    observed,
    Place,
    plain_value,
    Session,
    Settled,
    twice_differentiable,
    Visit,
)
from captum_pairs.attr._utils.rows import (
    all_of,
    beside_any,
    beside_nan,
    fewest,
    guessed,
    Kept,
    no_nan_lost,
    only,
    remember,
    Rows,
    rows_that_count,
    watched,
)
from captum_pairs.attr._utils.validation import InvalidArgumentError
from torch import nn, Tensor

# Bytes that autograd may keep for one chunk of points. Larger chunks were not faster
# on CPUs; on CUDA a share of what is free keeps the device busy.
_CPU_BYTES = 128 * 2**20
_CUDA_SHARE = 0.25
# How far the output of an example among others may be from its plain forward pass.
_SAME = {torch.float64: 1e-7, torch.float32: 1e-3}
_SAME_LOSSY = 0.1
# Baselines whose values are kept as long as a session.
_KNOWN = 8
# Autograd's name for an operator without a derivative, whose gradient is silently none
# (a dynamically quantised layer beside a residual connection).
_OPAQUE = ("torch::autograd::WarnNotImplemented",)


@dataclass(frozen=True)
class Call:
    """
    The validated arguments of a model for a batch.

    Args:

        forward_func (Callable): The model.
        inputs (tuple): Tensors (b, ...).
        baselines (tuple): For each input (1 or b, ...).
        args (tuple): Additional arguments; tensors (1 or b, ...).
        places (tuple): Where the attributed tensors are: layers, or None for the input
                    at the same position.
        names (tuple of str): What the inputs are called in an error, e.g.
                    ``inputs[0]``.
    """

    forward_func: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    baselines: tuple[Tensor, ...]
    args: tuple[Any, ...]
    places: tuple[Optional[Place], ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.inputs[0].shape[0])

    def checked(self, output: object, n: int, row: int) -> Tensor:
        """The model's output (n, ...) for n points of an example, if it is one."""
        raise NotImplementedError(f"{type(self).__name__}.checked")

    def independent(self, place: int) -> InvalidArgumentError:
        """The error for an output without a derivative at a place."""
        raise NotImplementedError(f"{type(self).__name__}.independent")

    def batch_dependent(self) -> InvalidArgumentError:
        """The error for an example's output that the rest of its batch changes."""
        raise NotImplementedError(f"{type(self).__name__}.batch_dependent")

    def size(self, outputs: Tensor, plain: Tensor) -> Tensor:
        """What a difference of outputs is compared with."""
        size: Tensor = plain.norm()
        return size

    def where(self, place: int) -> str:
        """What an attributed tensor is called in an error."""
        found = self.places[place]
        return self.names[place] if found is None else found.argument


def row_of(value: Any, row: int) -> Any:
    """An example's row of a tensor of batch 1 or b; anything else as it is."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value if value.shape[0] == 1 else value[row : row + 1]


class _ReachedError(BaseException):
    """A pass has reached the layer; what comes behind it is not needed. (An encoder may
    have another way for whatever exception it meets.)"""


def _stop() -> None:
    raise _ReachedError


class ForwardPass:
    r"""
    An ordinary forward pass of one example, and what it takes to run it again with
    other values at its places: modules that have finished before the first layer is
    reached answer with what they gave, and the rest of the arguments has batch 1 and
    broadcasts if the model allows it.

    Attributes:

        output (Tensor): The model's, (1, ...).
        values (tuple of Tensor): At the places, (\*value) each.
        axes (list of int): The batch axis of each of them.
        is_lossy (bool): Whether a part of the model computes in half precision.
    """

    def __init__(self, call: Call, row: int, session: Session) -> None:
        self.call, self.row, self.session = call, row, session
        self._inputs = tuple(plain_value(row_of(each, row)) for each in call.inputs)
        self._args = tuple(plain_value(row_of(each, row)) for each in call.args)
        self.axes = [0] * len(call.places)
        self._front = Front()
        # None: not known before more than one point has run
        self._is_expanded: Optional[bool] = None
        self._point_bytes: Optional[int] = None
        self._rows = Rows()
        self._writes = False  # whether a pass writes into buffers
        with observed(session, None in call.places) as recorder:
            self.output, self.values = self._plain(self._inputs, recorder.reach)
        if None not in call.places:
            self._front = recorder.front()
        self._mappers = recorder.mappers()
        halves = map(is_half, (*self.values, self.output))
        self.is_lossy: bool = recorder.is_half or any(halves)
        session.warn_if_random()

    # ---- setting out -------------------------------------------------------

    @torch.no_grad()
    def _plain(
        self,
        inputs: Sequence[Tensor],
        on_reach: Optional[Callable[[], None]] = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The output (1, ...) of these inputs, and the values at the places."""
        call = self.call
        with ExitStack() as stack:
            visits = [
                (
                    None
                    if place is None
                    else stack.enter_context(place.visited(on_reach=on_reach))
                )
                for place in call.places
            ]
            with _whole_ids(inputs):
                output = call.forward_func(*(e.clone() for e in inputs), *self._args)
            output = call.checked(output, 1, self.row).detach()
        values = (
            inputs[at][0] if visit is None else self._seen(at, visit)
            for at, visit in enumerate(visits)
        )
        return output, tuple(values)

    def _seen(self, at: int, visit: Visit) -> Tensor:
        """The value (*value) that a visit saw at a place."""
        place = self.call.places[at]
        assert place is not None  # it was visited
        found = place.check(visit)
        self.axes[at] = _batch_axis(found, place.argument)
        return found.detach().movedim(self.axes[at], 0)[0].clone()

    @torch.no_grad()
    def arriving(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """These inputs' values at the places, (*value) each: the pass ends there."""
        place = self.call.places[0]
        if len(self.call.places) > 1 or place is None or place.turn is not None:
            return self._plain(inputs)[1]
        with place.visited(on_reach=_stop) as visit, _whole_ids(inputs):
            with suppress(_ReachedError):
                self.call.forward_func(*(e.clone() for e in inputs), *self._args)
        return (self._seen(0, visit),)

    def baseline_values(self) -> tuple[Tensor, ...]:
        """The baselines' values at the places, propagated there: (*value) each."""
        call = self.call
        starts = tuple(
            plain_value(row_of(baseline, self.row)).to(own.device)
            for baseline, own in zip(call.baselines, self._inputs)
        )
        if all(place is None for place in call.places):
            return tuple(start[0] for start in starts)
        found = self._propagated(starts)
        for at, (start, end) in enumerate(zip(found, self.values)):
            if start.shape != end.shape:
                raise InvalidArgumentError(
                    call.names[min(at, len(starts) - 1)].replace("inputs", "baselines"),
                    f"a baseline with the input's value at the layer, "
                    f"{self.shape_of(end, at)}",
                    f"one with a value of shape {self.shape_of(start, at)}",
                )
        return found

    def _propagated(self, starts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Baselines' values at the places; of a baseline that many examples have in
        common found once."""
        call = self.call
        asked = (call.forward_func, *call.places, *starts, *self._args)
        if not self.session.is_random:
            for known, values in self.session.starts:
                if _are_same(known, asked):
                    return values
        found = self.arriving(starts)
        self.session.starts = [(asked, found), *self.session.starts[: _KNOWN - 1]]
        return found

    def shape_of(self, value: Tensor, place: int) -> tuple[int, ...]:
        """Of a place's value, the batch of one included where it lies."""
        shape = [*value.shape]
        shape.insert(self.axes[place], 1)
        return tuple(shape)

    def settle(
        self,
        values: Sequence[Tensor],
        own: int,
        leaves: Optional[Sequence[Tensor]] = None,
    ) -> Tensor:
        """
        Find out how the model takes n points, and what a point costs.

        Args:

            values (sequence of Tensor): Points (n, *value) for each place.
            own (int): The point that is the example itself.
            leaves (sequence of Tensor, optional): What derivatives are needed of.
                        Default: the values that require a gradient

        Returns:
            *Tensor*: the points' outputs (n, ...).
        """
        before = self.session.written()
        outputs = self._settle(values, own, values if leaves is None else leaves)
        self._writes = self.session.written() != before
        return outputs

    def _settle(
        self, values: Sequence[Tensor], own: int, needed: Sequence[Tensor]
    ) -> Tensor:
        needed = [each for each in needed if each.requires_grad]
        kind = self._kind(values, len(needed))
        if kind in self.session.settled:  # another example was like this one
            _, self._is_expanded, self._point_bytes = self.session.settled[kind]
            # what a model does may depend on a mask: then it is found out as before
            with suppress(Exception), self.forward(values, False) as outputs:
                if self._is_same(outputs, own):
                    return outputs
            self._point_bytes = None
        for expanded in (False, True):
            self._is_expanded = expanded
            try:
                outputs = self._settled(values, needed)
            except Exception:
                # Whether or not it is the broadcast that fails, the next try tells: its
                # error goes to the caller as it is.
                if expanded:
                    self._is_expanded = None
                    raise
                continue
            if self._is_same(outputs, own):
                assert self._point_bytes is not None  # it was counted
                known = self.call.forward_func, expanded, self._point_bytes
                self.session.settled[kind] = Settled(*known)
                return outputs
        if self.session.is_random:
            return outputs
        raise self.call.batch_dependent()

    def _kind(self, values: Sequence[Tensor], n_leaves: int) -> tuple[Any, ...]:
        """What examples have in common that run alike."""
        shapes = self._shapes(values)
        return (id(self.call.forward_func), self.call.places, n_leaves, *shapes)

    def _shapes(self, values: Sequence[Tensor]) -> Iterator[Any]:
        given = (*self._inputs, *self._args, *values)
        return ((e.shape, e.dtype) for e in given if isinstance(e, Tensor))

    def _settled(self, values: Sequence[Tensor], leaves: Sequence[Tensor]) -> Tensor:
        counting = saved_bytes(self.session)
        with counting as counted, self.forward(values, bool(leaves)) as outputs:
            for at, leaf in enumerate(leaves):
                self.check_depends(outputs, leaf, min(at, len(values) - 1))
            result = outputs.detach()
        self._point_bytes = max(1, counted[0] // len(values[0]))
        return result

    def check_depends(self, outputs: Tensor, leaf: Tensor, place: int) -> None:
        """Refuse outputs that autograd does not follow to a leaf."""
        known = outputs.requires_grad and depends(outputs, leaf)
        if not known or hides(outputs, leaf):
            raise self.call.independent(place)

    def find_rows(
        self, values: Sequence[Tensor], own: int, plain: Optional[Tensor] = None
    ) -> None:
        """
        Find out which modules' rows count, once; they alone are run from then on.

        Args:

            values (sequence of Tensor): Points (n, *value) for each place.
            own (int): The point that is the example itself.
            plain (Tensor, optional): The points' outputs (n, ...) by all rows, if they
                        are known.
        """
        self._rows.kept = {}
        if self.session.is_random or self._writes:  # NaN would stay in what is written
            return
        # of an example like this one, maybe in another call
        func = self.call.forward_func
        # its identity, or it would be kept alive; of another one it is a guess as well
        what = id(getattr(func, "__code__", type(func)))
        kind = (what, len(self._mappers), *self._shapes(values))
        guess = guessed(self._mappers, kind)
        try:
            if guess is not None and not guess:  # none, and so it is here
                return
            if plain is None:
                with self.forward(values, False) as plain:
                    pass
            # what is found now is compared module by module, too
            if guess and self._are_enough(guess, values, plain, 0.1):
                self._rows.kept = guess
                return
            found = self._rows_that_count([each[own : own + 1] for each in values])
            if found and not self._are_enough(found, values, plain):
                # attention mixes NaN with what it masks; behind it one row is left
                few = fewest(found)
                is_less = len(few) < len(found)
                is_enough = is_less and self._are_enough(few, values, plain)
                found = few if is_enough else {}
        except torch.OutOfMemoryError:
            raise
        except Exception:  # then all rows are run, and say what is wrong
            found = {}
        self._rows.kept = found
        remember(self._mappers, kind, found)

    def _rows_that_count(self, values: Sequence[Tensor]) -> dict[nn.Module, Kept]:
        leaves = [value.detach().requires_grad_() for value in values]
        with watched(self._mappers) as seen, self.forward(leaves, True) as outputs:
            # a module by itself rounds less than all of the model
            return rows_that_count(seen, outputs, self.closeness / 10.0)

    def _are_enough(
        self,
        kept: Mapping[nn.Module, Kept],
        values: Sequence[Tensor],
        plain: Tensor,
        share: float = 1.0,
    ) -> bool:
        """Whether all other rows may as well be NaN or any number, at points whose
        outputs are plain ones (n, ...), to a share of the closeness."""
        try:
            # of attention fused kernels may lose NaN
            with all_of(kept, beside_nan), no_nan_lost():
                with self.forward(values, False, twice=True) as followed:
                    pass
            with all_of(kept, beside_any), self.forward(values, False) as beside:
                pass
        except torch.OutOfMemoryError:
            raise
        except Exception:  # an output that is not finite, or whatever a model raises
            return False
        return all(
            self._is_near(outputs, at, own, share)
            for outputs in (followed, beside)
            for at, own in enumerate(plain)
        )

    def _is_same(self, outputs: Tensor, own: int) -> bool:
        return self._is_near(outputs, own, self.output[0].to(outputs))

    def _is_near(
        self, outputs: Tensor, at: int, plain: Tensor, share: float = 1.0
    ) -> bool:
        """Whether a point's output is a plain one, to a share of the closeness."""
        found = outputs[at]
        if found.shape != plain.shape:
            return False
        size = self.call.size(outputs, plain)
        return bool((found - plain).norm() <= share * self.closeness * size)

    @property
    def precision(self) -> torch.dtype:
        """The coarsest of the values' and the output's."""
        dtypes = [each.dtype for each in (*self.values, self.output)]
        return min(dtypes, key=lambda dtype: torch.finfo(dtype).bits)

    @property
    def closeness(self) -> float:
        """How far outputs of the same may be apart, relative."""
        if self.is_lossy:
            return _SAME_LOSSY
        return _SAME.get(self.precision, _SAME_LOSSY)

    # ---- running -----------------------------------------------------------

    @contextmanager
    def forward(
        self, values: Sequence[Tensor], grad: bool, twice: bool = False
    ) -> Iterator[Tensor]:
        """
        The model's output (n, ...) with these values at the places, with the graph
        between them, which is used inside the context.

        Args:

            values (sequence of Tensor): (n, *value) for each place.
            grad (bool): Whether there is a graph.
            twice (bool): Whether it is differentiated twice.
        """
        n, call = values[0].shape[0], self.call
        expanded = bool(self._is_expanded)
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(grad))
            stack.enter_context(twice_differentiable(twice))
            inputs, args, visits = list(self._inputs), self._args, []
            if expanded:
                inputs = [_expand(each, n) for each in inputs]
                args = tuple(_expand(each, n) for each in args)
            for at, (place, value) in enumerate(zip(call.places, values)):
                value = value.to(self.values[at].dtype)
                if place is None:
                    inputs[at] = value
                    continue
                # The hooks stay for the backward pass: checkpointing runs twice.
                placed = value.movedim(0, self.axes[at])
                visits.append((place, stack.enter_context(place.visited(placed))))
            if visits and self._is_expanded is False:
                stack.enter_context(self._front.replayed())
            if self._rows.kept:
                stack.enter_context(only(self._rows.kept))
            output = call.forward_func(*(each.clone() for each in inputs), *args)
            for place, visit in visits:
                place.check(visit)
            yield call.checked(output, n, self.row)

    def fitting(self, graphs: float) -> int:
        """How many points to run at once when autograd keeps ``graphs`` of theirs."""
        assert self._point_bytes is not None  # it was settled
        return points_that_fit(graphs * self._point_bytes, self.values[0].device)


@contextmanager
def _whole_ids(inputs: Sequence[Tensor]) -> Iterator[None]:
    """
    Refuse ids that are no whole numbers, as Captum's ``NoiseTunnel`` makes them.

    Raises:
        InvalidArgumentError: naming ``inputs``.
    """
    try:
        yield
    except RuntimeError as error:
        if "'indices'" in str(error) and any(
            each.is_floating_point() for each in inputs
        ):
            raise InvalidArgumentError(
                "inputs",
                "token ids as whole numbers (noise, as NoiseTunnel adds, makes other "
                "numbers of them: give it an encoder of word embeddings, and these)",
                f"{', '.join(str(each.dtype) for each in inputs)}",
            ) from error
        raise


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
        "a layer whose value has the batch in dimension 0 or 1 (one example)",
        f"a value of shape {tuple(value.shape)}",
    )


def _are_same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether arguments are the same: tensors by what they hold, what is no plain
    value by its identity."""
    return len(first) == len(second) and all(map(_is_same, first, second))


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        kinds = ((e.shape, e.dtype, e.device) for e in (one, other))
        return len(set(kinds)) == 1 and torch.equal(one, other)
    is_plain = isinstance(one, (bool, int, float, str, Place))
    return one is other or (type(one) is type(other) and is_plain and one == other)


def _expand(value: Any, n: int) -> Any:
    """A tensor of batch 1 repeated n times; anything else as it is."""
    if isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == 1:
        return value.expand(n, *value.shape[1:])
    return value


# ---- graphs --------------------------------------------------------------------


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


# ---- memory --------------------------------------------------------------------


@contextmanager
def saved_bytes(session: Session) -> Iterator[list[int]]:
    """The bytes (a list of one) that autograd saves for what runs inside, without the
    parameters of the session's modules."""
    counted = [0]
    seen = set(session.parameters)

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
