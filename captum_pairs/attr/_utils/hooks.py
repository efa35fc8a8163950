#!/usr/bin/env python3
"""
Reading and replacing a layer's value, and leaving everything else as it was.

Every hook here acts only in the thread that set it, and only while it is needed.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Optional
from warnings import catch_warnings, filterwarnings

import torch
from captum_pairs.attr._utils.validation import InvalidArgumentError, warn_caller
from torch import nn, Tensor
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

# Attention kernels, compiler stance and module attributes belong to the process, not
# to a thread: whoever changes them holds this lock.
_LOCK = threading.RLock()
# What calls have changed outside of themselves, the latest last: by whose thread, and
# what changes it back.
_CHANGES: dict[object, tuple[int, Callable[[], object]]] = {}
_MISSING = object()
_HALF = (torch.float16, torch.bfloat16)


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """
    What was changed of a module or of the process is changed back by ``undo``: at the
    end, or in a child process that is forked meanwhile by another thread.
    """
    change = object()
    _CHANGES[change] = threading.get_ident(), undo
    try:
        yield
    finally:
        del _CHANGES[change]
        undo()


def _begin_in_a_child() -> None:
    """A forked process has the thread that forked and no other one: nobody else would
    give back what these hold, nor change back what they changed."""
    global _LOCK
    here = threading.get_ident()
    for change, (thread, undo) in reversed(list(_CHANGES.items())):
        if thread != here:
            del _CHANGES[change]
            undo()
    if _LOCK.acquire(blocking=False):
        _LOCK.release()
    else:
        _LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_in_a_child)


def _in_backward() -> bool:
    # A gradient-checkpointed module runs its forward a second time inside the backward
    # pass, on CUDA in a thread of autograd's.
    return bool(torch._C._current_graph_task_id() != -1)


class Settled(NamedTuple):
    """
    How examples of a kind run.

    Args:

        forward_func (Callable): The model.
        is_expanded (bool): Whether its arguments are repeated for every point.
        point_bytes (int): What a point costs.
    """

    forward_func: Callable[..., Any]
    is_expanded: bool
    point_bytes: int


class Session:
    """
    What one call of ``attribute`` changes around it, and changes back.

    Inference mode is left, autocast's weight cache (which would outlive the call) and
    compiled graphs (which do not see hooks) are switched off, buffers of modules in
    training mode and checkpointing flags are restored on exit.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.modules: set[nn.Module] = set()
        # which examples (by their outputs' identities) were seen to share a pass
        self.together: dict[frozenset[int], bool] = {}
        # what baselines were at the layers, and of which arguments of which encoder
        self.starts: list[tuple[tuple[Any, ...], tuple[Tensor, ...]]] = []
        # how examples of a kind run: expanded or not, and what a point costs
        self.settled: dict[tuple[Any, ...], Settled] = {}
        # where the modules' parameters lie in memory
        self.parameters: set[int] = set()
        self._random: list[str] = []
        self._warned = False

    def __enter__(self) -> "Session":
        self._stack.enter_context(_LOCK)
        try:
            self._stack.enter_context(torch.inference_mode(False))
            if "torch._dynamo" in sys.modules:  # else nothing is compiled
                stance = torch.compiler.set_stance("force_eager")
                self._restore(stance.__exit__, None, None, None)
            # Its inference kernel bypasses the layers inside.
            fastpath = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
            self._restore(torch.backends.mha.set_fastpath_enabled, fastpath)
            if torch.is_autocast_cache_enabled():
                torch.set_autocast_cache_enabled(False)
                self._stack.callback(torch.set_autocast_cache_enabled, True)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _restore(self, undo: Callable[..., object], *arguments: Any) -> None:
        """At the end, what belongs to others than this thread."""
        self._stack.enter_context(undone(partial(undo, *arguments)))

    @property
    def is_random(self) -> bool:
        """Whether a module in training mode makes results depend on chance."""
        return bool(self._random)

    def meet(self, module: nn.Module) -> None:
        """Take note of a module that an encoder runs, before it runs."""
        if module in self.modules:
            return
        self.modules.add(module)
        for name, tensor in module._parameters.items():
            if tensor is None:
                continue
            if tensor.is_inference():
                raise InvalidArgumentError(
                    "forward_func",
                    "an encoder whose parameters can be differentiated through",
                    f"{type(module).__name__}.{name}, made in inference mode (load "
                    "the model outside of torch.inference_mode)",
                )
            self.parameters.add(tensor.untyped_storage().data_ptr())
        if module.training:
            self._meet_training(module)

    def _meet_training(self, module: nn.Module) -> None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            # An example would be embedded otherwise among the points of its path, and
            # the steps that a tolerance asks for would never be enough.
            raise InvalidArgumentError(
                "forward_func",
                "an encoder in evaluation mode (call model.eval() first)",
                f"{type(module).__name__} in training mode, in which an embedding "
                "depends on the rest of its batch",
            )
        # Running statistics, the power iteration of a spectral norm, ...
        for buffer in module.buffers(recurse=False):
            self._restore(_restore, buffer, buffer.clone())
        if _drops(module):
            self._random.append(type(module).__name__)
        # Checkpointing saves memory in a training step by computing twice; here chunks
        # bound the memory, and the reentrant kind has no autograd.grad. A layer reads
        # its flag before hooks see it, so that what holds it switches it off.
        for part in module.modules():
            if getattr(part, "gradient_checkpointing", False) is True:
                setattr(part, "gradient_checkpointing", False)
                self._restore(setattr, part, "gradient_checkpointing", True)

    def written(self) -> int:
        """How often something was written into the modules' buffers."""
        buffers = (own for each in self.modules for own in each._buffers.values())
        return sum(_version(buffer) for buffer in buffers if buffer is not None)

    def warn_if_random(self) -> None:
        """Warn, once a call, of a model in training mode."""
        if self._random and not self._warned:
            self._warned = True
            names = ", ".join(sorted(set(self._random)))
            warn_caller(
                f"the encoder is in training mode and has {names}: attributions "
                "depend on chance; call model.eval() first"
            )


def _restore(buffer: Tensor, saved: Tensor) -> None:
    with torch.no_grad():
        buffer.copy_(saved)


def _drops(module: nn.Module) -> bool:
    """Whether a module in training mode has dropout, its own or a functional one."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    rates = (
        getattr(module, name, 0.0)
        for name in ("dropout", "attention_dropout", "dropout_p", "dropout_prob")
    )
    return any(isinstance(rate, float) and rate > 0 for rate in rates)


def _floating(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def is_half(value: object) -> bool:
    """Whether a value (of a tuple the first one) is in half precision."""
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    return isinstance(value, Tensor) and value.dtype in _HALF


def _locate(structure: object) -> Optional[object]:
    """Key of the first floating tensor of a tuple or mapping, or None."""
    if isinstance(structure, (tuple, list)):
        items: Any = enumerate(structure)
    elif isinstance(structure, Mapping):
        items = structure.items()
    else:
        return None
    return next((key for key, value in items if _floating(value)), None)


def _exchange(structure: Any, key: Any, value: Tensor) -> Any:
    """A copy of a tuple or mapping with ``value`` at ``key``."""
    if isinstance(structure, Mapping):
        # A Hugging Face output is a dataclass and a mapping: rebuild its own type.
        return type(structure)(**{**structure, key: value})
    parts = [value if at == key else part for at, part in enumerate(structure)]
    if hasattr(structure, "_fields"):  # a named tuple
        return type(structure)(*parts)
    return type(structure)(parts)


@dataclass
class Visit:
    """What a hook saw of a layer in one forward pass."""

    value: Optional[Tensor] = None
    count: int = 0


@dataclass(frozen=True)
class Place:
    """
    Where in an encoder a side is attributed to.

    Args:

        layer (nn.Module): The layer; of its input or output the tensor, or the first
                    floating tensor of a tuple, keyword arguments or an output object.
        at_input (bool): Its input instead of its output.
        argument (str): The name for an error.
        turn (int, optional): Of a layer that both inputs pass, one after the other,
                    whose pass is meant: 0 or 1.
    """

    layer: nn.Module
    at_input: bool
    argument: str
    turn: Optional[int] = None

    @contextmanager
    def visited(
        self,
        replacement: Optional[Tensor] = None,
        on_reach: Optional[Callable[[], None]] = None,
    ) -> Iterator[Visit]:
        """Read the layer's value in what runs inside; replace it if told to."""
        visit = Visit()
        owner = threading.get_ident()

        def exchange(structure: Any) -> Any:
            again = _in_backward()
            if threading.get_ident() != owner and not again:
                return None
            key = None if isinstance(structure, Tensor) else _locate(structure)
            found = structure if key is None else structure[key]
            if not _floating(found):
                return None
            if not again:
                visit.count += 1
            if self.turn is not None:
                if again:
                    raise self._error("which is computed twice (checkpointed)")
                if visit.count != self.turn + 1:
                    return None
            if not again:
                visit.value = found.detach()
                if replacement is None:  # what comes next may write into it
                    visit.value = visit.value.clone()
                if on_reach is not None:
                    on_reach()
            if replacement is None:
                return None
            # The model may write into what it gets.
            value = replacement.clone()
            return value if key is None else _exchange(structure, key, value)

        def before(_: nn.Module, args: Any, kwargs: Any) -> Any:
            if _locate(args) is not None:
                new = exchange(args)
                return None if new is None else (new, kwargs)
            new = exchange(kwargs)
            return None if new is None else (args, new)

        def after(_: nn.Module, args: Any, output: Any) -> Any:
            return exchange(output)

        if self.at_input:
            handle = self.layer.register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = self.layer.register_forward_hook(after)
        with undone(handle.remove):
            yield visit

    def check(self, visit: Visit) -> Tensor:
        """The value that was seen, if the layer was reached once (by each input)."""
        wanted = 1 if self.turn is None else 2
        if visit.count == wanted and visit.value is not None:
            return visit.value
        what = "takes in" if self.at_input else "gives out"
        raise self._error(
            f"which was reached {visit.count} times"
            if visit.count
            else f"which was not reached, or {what} no floating tensor"
        )

    def _error(self, came: str) -> InvalidArgumentError:
        often = "once" if self.turn is None else "twice, with x and then with y"
        return InvalidArgumentError(
            self.argument,
            f"a layer that one forward pass reaches {often}",
            f"{type(self.layer).__name__}, {came}",
        )


def _flat_tensors(output: object) -> Optional[list[Tensor]]:
    """The tensors of a module's output if it is a tensor or a tuple of tensors."""
    if isinstance(output, Tensor):
        return [output]
    if type(output) is tuple and all(
        part is None or isinstance(part, Tensor) for part in output
    ):
        return [part for part in output if part is not None]
    return None


def _version(tensor: Tensor) -> int:
    """How often a tensor was written into; -1 where nobody counts."""
    return -1 if tensor.is_inference() else tensor._version


@dataclass
class Front:
    """
    The outputs of the modules that have finished when the layer is reached.

    They are the same in every pass of one example, so that they need not run again:
    their outputs are recorded in one pass and replayed in the next ones.
    """

    outputs: dict[nn.Module, Any] = field(default_factory=dict)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Let the recorded modules answer what they answered before."""
        owner = threading.get_ident()
        with ExitStack() as stack:
            for module, output in self.outputs.items():
                answer = partial(_answered, output)
                stack.enter_context(answering(module, answer, owner))
            yield


def _answered(output: object, *_: Any, **__: Any) -> object:
    return output


@contextmanager
def answering(
    module: nn.Module, answer: Callable[..., Any], owner: int
) -> Iterator[None]:
    """Let a module answer, in a thread, with what ``answer`` makes of its forward and
    its arguments."""
    own = module.__dict__.get("forward", _MISSING)
    forward = module.forward

    def instead(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == owner or _in_backward():
            return answer(forward, *args, **kwargs)
        return forward(*args, **kwargs)

    def restore() -> None:
        if own is _MISSING:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own

    module.__dict__["forward"] = instead
    with undone(restore):
        yield


class Mapper(NamedTuple):
    """A module that takes rows and gives as many, and the rows' axis."""

    module: nn.Module
    axis: int


def _rows_axis(args: Any, output: object) -> Optional[int]:
    """Of a module that takes (1, T, d), or (T, 1, d), and gives as many other rows
    their axis."""
    if len(args) != 1 or not (_floating(args[0]) and _floating(output)):
        return None
    if output is args[0]:  # there is nothing to save
        return None
    shape, found = args[0].shape, getattr(output, "shape")
    if len(shape) != 3 or len(found) != 3 or shape[:2] != found[:2]:
        return None
    if 1 not in shape[:2] or shape[0] == shape[1]:
        return None
    return 1 if shape[0] == 1 else 0


class _Recorder:
    """Follows one forward pass through global module hooks."""

    def __init__(self, session: Session, reached: bool = False) -> None:
        self.session = session
        self.owner = threading.get_ident()
        self.calls: dict[nn.Module, int] = {}
        self.finished: list[tuple[nn.Module, Any, list[int]]] = []
        self.open: list[tuple[int, bool]] = []
        self.reached = reached
        self.is_half = False
        self._mappers: list[Mapper] = []

    def reach(self) -> None:
        self.reached = True

    def before(self, module: nn.Module, args: Any) -> None:
        if threading.get_ident() != self.owner:
            return
        self.session.meet(module)
        self.calls[module] = self.calls.get(module, 0) + 1
        self.open.append((len(self.finished), self.reached))

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() != self.owner:
            return
        began, is_behind = self.open.pop()
        self.is_half = self.is_half or is_half(output)
        if self.reached:
            axis = _rows_axis(args, output) if is_behind else None
            if axis is not None and not isinstance(module, torch.jit.ScriptModule):
                self._mappers.append(Mapper(module, axis))
            return
        # What ran inside this module is part of its output.
        del self.finished[began:]
        tensors = _flat_tensors(output)
        versions = [_version(tensor) for tensor in tensors or ()]
        self.finished.append((module, output, versions))

    def mappers(self) -> list[Mapper]:
        """What began behind the layer and ran once."""
        return [each for each in self._mappers if self.calls[each.module] == 1]

    def front(self) -> Front:
        outputs = {}
        for module, output, versions in self.finished:
            tensors = _flat_tensors(output)
            if (
                tensors is None
                or self.calls[module] != 1
                or isinstance(module, torch.jit.ScriptModule)
                # Written into after the module gave it out.
                or versions != [_version(tensor) for tensor in tensors]
                or -1 in versions
            ):
                continue
            outputs[module] = output
        return Front(outputs)


@contextmanager
def observed(session: Session, reached: bool = False) -> Iterator[_Recorder]:
    """Follow the forward pass that runs inside, all of which may be behind what is
    attributed to (reached)."""
    recorder = _Recorder(session, reached)
    before = register_module_forward_pre_hook(recorder.before)
    after = register_module_forward_hook(recorder.after)
    with undone(before.remove), undone(after.remove), catch_warnings():
        # A compiled module says that hooks see its wrapper as well as itself.
        filterwarnings("ignore", "Using `torch.compile", UserWarning)
        yield recorder


@contextmanager
def twice_differentiable(needed: bool) -> Iterator[None]:
    """Attention without fused kernels, which can be differentiated only once."""
    if not needed:
        yield
        return
    kernels = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    kernels.__enter__()
    with undone(partial(kernels.__exit__, None, None, None)):
        yield


def plain_value(value: Any) -> Any:
    """``value`` detached, and cloned if it was made in inference mode."""
    if not isinstance(value, Tensor):
        return value
    return value.clone() if value.is_inference() else value.detach()
