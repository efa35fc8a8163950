#!/usr/bin/env python3
"""
Modules behind the layer of whose rows only some reach the embedding.

A transformer whose embedding is read off one position maps all positions in its last
block, and throws all but one away: most of the block's work, in every pass and every
product. What maps each row for itself (a projection, a normalisation, an MLP, the
queries of attention) need not run for the others. Nothing is assumed of the
architecture: gradients that are zero say which rows may not count, and then NaN is put
in their places. An embedding that stays what it was depends on none of them, whatever
their values, if NaN was not lost on the way: compared with something, to choose among
rows.
"""

import math
import threading
import weakref
from collections import Counter
from collections.abc import (
    Callable,
    Hashable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, Optional

import torch
from captum_pairs.attr._utils.hooks import answering, Mapper, undone
from torch import nn, Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Modules that are asked about at once: about as many as a block has.
_AT_ONCE = 12
# Operators that give NaN for NaN, or that take a number or leave it, whatever it is. Of
# any other one it is not known (``sign``, ``fmax``, ``nan_to_num``, a fused kernel).
_KEEPING = frozenset(
    """
    abs add addcdiv addcmul clamp clamp_max clamp_min cos div elu erf exp expm1 gelu glu
    hardsigmoid hardswish hardtanh leaky_relu lerp log log1p log2 log_sigmoid_forward
    maximum minimum mish mul neg pow reciprocal relu rsqrt rsub sigmoid silu sin
    softplus sqrt square sub tan tanh
    amax amin cumsum linalg_vector_norm logsumexp mean prod std sum var var_mean
    _log_softmax _safe_softmax _softmax
    addbmm addmm addmv baddbmm bmm convolution dot linear matmul mkldnn_convolution
    mkldnn_linear mkldnn_rnn_layer mm mv outer
    _batch_norm_no_update _fused_rms_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training native_batch_norm native_group_norm
    native_layer_norm
    _reshape_alias _reshape_copy _to_copy _unsafe_view alias as_strided cat clone
    constant_pad_nd contiguous copy detach diagonal expand flip gather index index_add
    index_copy index_put index_select lift lift_fresh masked_fill movedim narrow permute
    pixel_shuffle pixel_unshuffle repeat reshape roll scatter select select_scatter
    slice slice_scatter split split_with_sizes squeeze stack t transpose tril triu
    unbind unfold unsafe_split unsqueeze view where
    _adaptive_avg_pool2d avg_pool1d avg_pool2d upsample_bicubic2d upsample_bilinear2d
    upsample_nearest2d
    empty_like fill full_like new_empty new_empty_strided new_full new_ones new_zeros
    ones_like rand_like randn_like zero zeros_like
    """.split()
)


@dataclass(frozen=True, eq=False)
class Kept:
    """
    What counts of a module's rows.

    Args:

        axis (int): The rows' axis.
        index (Tensor): Those that count.
        count (int): How many there are in all.
        asks (bool): Whether they are the queries of attention inside of the module, and
                    not what it takes itself.
    """

    axis: int
    index: Tensor
    count: int
    asks: bool = False

    def is_like(self, other: "Kept") -> bool:
        """Whether they are some of the same rows."""
        found = (self.axis, self.count, self.asks)
        return found == (other.axis, other.count, other.asks)

    def of(self, rows: Tensor) -> Tensor:
        """The rows that count."""
        return rows.index_select(self.axis, self.index)

    def among(self, others: Tensor, rows: Tensor) -> Tensor:
        """The rows that count in their places."""
        return others.index_copy(self.axis, self.index, rows)


@dataclass
class Rows:
    """
    What examples that are copies of one another know of their rows.

    Args:

        kept (mapping, optional): Of modules. Default: not looked for yet
    """

    kept: Optional[Mapping[nn.Module, Kept]] = None


class Seen(NamedTuple):
    """What a module took and gave: (n, T, d) or (T, n, d). Or attention inside of it:
    (n, heads, T, d)."""

    mapper: Mapper
    given: Tensor
    output: Tensor
    attention: Optional["Attention"] = None

    def kept(self, gradient: Tensor) -> Optional[Kept]:
        """The rows that have a gradient, if they are half of all at most."""
        axis = self.mapper.axis
        others = [at for at in range(gradient.ndim) if at != axis]
        index = gradient.abs().amax(dim=others).nonzero()[:, 0]
        count = gradient.shape[axis]
        if not 0 < len(index) <= count // 2:
            return None
        return Kept(axis, index, count, self.attention is not None)

    def mapped(self, own: Kept) -> Callable[[Tensor], Tensor]:
        """What maps rows, all or those that count."""
        if self.attention is None:
            return self.mapper.module
        return partial(self.attention.of, own)


class Attention:
    """
    PyTorch's attention, whose queries are asked each for itself.

    Args:

        query (Tensor): (..., T, d).
        args, kwargs (tuple, dict): What else it was called with, by position and name.
    """

    def __init__(self, query: Tensor, *args: Any, **kwargs: Any) -> None:
        named = zip(("key", "value", "attn_mask", "dropout_p", "is_causal"), args)
        self.query, self._given = query, {**dict(named), **kwargs}

    @property
    def axis(self) -> int:
        return self.query.ndim - 2

    def plain(self) -> Tensor:
        """What all queries get."""
        return scaled_dot_product_attention(self.query, **self._given)

    def of(self, own: Kept, queries: Tensor) -> Tensor:
        """What these queries get: all, or those that count."""
        given = self._given
        if queries.shape[own.axis] != own.count:
            given = {**given, "is_causal": False, "attn_mask": self._mask(own)}
        return scaled_dot_product_attention(queries, **given)

    def _mask(self, own: Kept) -> Optional[Tensor]:
        """Of the queries that count."""
        mask: Optional[Tensor] = self._given.get("attn_mask")
        if self._given.get("is_causal"):
            keys = torch.arange(self._given["key"].shape[-2], device=own.index.device)
            return keys <= own.index[:, None]
        if mask is None or mask.shape[-2] != own.count:
            return mask
        return mask.index_select(-2, own.index)


# What a module gives for (n, T, d) or (T, n, d), and attention for (n, heads, T, d),
# given its rows that count.
Way = Callable[[Kept, Callable[[Tensor], Tensor], Tensor], Tensor]


def alone(own: Kept, forward: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
    """The rows that count are mapped; in the others' places is one of them, as an
    example of what may lie there."""
    rows = forward(own.of(given))
    rest = rows.detach().narrow(own.axis, 0, 1)
    return own.among(rest.expand(*given.shape[:-1], rows.shape[-1]), rows)


def beside_any(own: Kept, forward: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
    """The rows that count are mapped; in the others' places are numbers, each row of a
    size of its own, from a hundredth to a hundredfold."""
    rows = forward(own.of(given))
    shape = (*given.shape[:-1], 1)
    size = rows.detach().float().square().mean().sqrt()
    row = torch.arange(math.prod(shape), device=rows.device).reshape(shape)
    width = rows.shape[-1]
    phase = row * width + torch.arange(width, device=rows.device)
    rest = size * phase.cos() * 10.0 ** (2.0 * row.cos())
    return own.among(rest.to(rows.dtype), rows)


def beside_nan(own: Kept, forward: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
    """All rows are mapped, those that do not count as NaN, and so they are after it."""
    among = forward(own.among(torch.full_like(given, torch.nan), own.of(given)))
    return own.among(torch.full_like(among, torch.nan), own.of(among))


@contextmanager
def only(kept: Mapping[nn.Module, Kept], way: Way = alone) -> Iterator[None]:
    """Let modules map the rows that count, in what runs inside."""
    owner = threading.get_ident()
    with ExitStack() as stack:
        for module, own in kept.items():
            answer = partial(_asked if own.asks else _mapped, own, way)
            stack.enter_context(answering(module, answer, owner))
        yield


class NotProvenError(Exception):
    """What would show that rows do not count has not been seen."""


@contextmanager
def all_of(kept: Mapping[nn.Module, Kept], way: Way) -> Iterator[None]:
    """
    As :func:`only`, in a pass that is to prove something.

    Raises:
        NotProvenError: at the end, if a module has not gone this way, as one does that
                    finds another number of rows than it had; or at once, if it writes
                    into what it takes.
    """
    gone: set[Kept] = set()

    def noted(own: Kept, forward: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
        def unwritten(rows: Tensor) -> Tensor:
            version = rows._version
            answer = forward(rows)
            if rows._version != version:
                raise NotProvenError("what is taken is written into")
            return answer

        gone.add(own)
        return way(own, unwritten, given)

    with only(kept, noted):
        yield
    if gone != set(kept.values()):
        raise NotProvenError("not all modules were seen with as many rows")


def _mapped(
    own: Kept, way: Way, forward: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """A module's answer, made of the rows that count."""
    # of another number of rows nothing is known
    if kwargs or len(args) != 1 or args[0].shape[own.axis] != own.count:
        return forward(*args, **kwargs)
    return way(own, forward, args[0])


def _asked(
    own: Kept, way: Way, forward: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """A module's answer, where attention inside of it is for queries that count."""

    def ask(attention: Attention) -> Tensor:
        query = attention.query
        if query.shape[own.axis : -1] != (own.count,):
            return attention.plain()
        return way(own, partial(attention.of, own), query)

    with _Attentions(ask):
        return forward(*args, **kwargs)


class _Attentions(TorchFunctionMode):
    """Attention that runs inside is what is made of it."""

    def __init__(self, ask: Callable[[Attention], Tensor]) -> None:
        super().__init__()
        self._ask = ask

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            return self._ask(Attention(*args, **kwargs))
        return func(*args, **kwargs)


class _Followed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Where NaN is lost, which says whether it counts, is an error."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # before it may write into what it takes
        has_nan = not _keeps(func) and any(map(_has_nan, tree_leaves((args, kwargs))))
        output = func(*args, **(kwargs or {}))
        if not has_nan and isinstance(output, Tensor) and _is_choice(output):
            has_nan = any(map(_has_nan, tree_leaves((args, kwargs))))
        if has_nan:
            raise NotProvenError(f"NaN may be lost in {func}")
        return output


@lru_cache(maxsize=1024)
def _keeps(func: Any) -> bool:
    """Whether an operator, or its kind that writes into what it takes, keeps NaN."""
    return func.overloadpacket.__name__.rstrip("_") in _KEEPING


def no_nan_lost() -> TorchDispatchMode:
    """What runs inside raises :class:`NotProvenError` where it compares NaN, or may
    make a number of it."""
    return _Followed()  # type: ignore[no-untyped-call]


def _is_choice(found: Tensor) -> bool:
    """Whether a result of an operator is truth values or whole numbers."""
    return not (found.is_floating_point() or found.is_complex())


def _has_nan(given: object) -> bool:
    return isinstance(given, Tensor) and bool(given.isnan().any())


@contextmanager
def watched(mappers: Sequence[Mapper]) -> Iterator[list[Seen]]:
    """What modules take and give in what runs inside, and attention inside of them, in
    the order of their ends."""
    seen: list[Seen] = []
    within: list[nn.Module] = []  # modules that have begun and not ended
    owner = threading.get_ident()

    def begin(module: nn.Module, args: Any) -> None:
        if threading.get_ident() == owner:
            within.append(module)

    def end(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == owner:
            within.pop()

    def note(mapper: Mapper, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == owner:
            seen.append(Seen(mapper, args[0].detach(), output))

    def ask(attention: Attention) -> Tensor:
        output = attention.plain()
        if within:
            mapper = Mapper(within[-1], attention.axis)
            seen.append(Seen(mapper, attention.query.detach(), output, attention))
        return output

    with ExitStack() as stack:
        for handle in (
            register_module_forward_pre_hook(begin),
            register_module_forward_hook(end),
            *(
                mapper.module.register_forward_hook(partial(note, mapper))
                for mapper in mappers
            ),
        ):
            stack.enter_context(undone(handle.remove))
        stack.enter_context(_Attentions(ask))
        yield seen


def probe_of(outputs: Tensor) -> Tensor:
    """Some direction of no special kind, of the outputs' shape, that takes nothing from
    the generator."""
    phase = torch.arange(outputs.numel(), dtype=outputs.dtype, device=outputs.device)
    return torch.cos(phase).reshape(outputs.shape)


def rows_that_count(
    seen: Sequence[Seen], outputs: Tensor, closeness: float
) -> dict[nn.Module, Kept]:
    """
    Of the outermost modules that map each row for itself, and of whose rows half at
    least may not count, those that may.

    Args:

        seen (sequence of Seen): In the order of their ends.
        outputs (Tensor): The model's, of the same pass.
        closeness (float): How far results of the same may be apart, relative.
    """
    attending = Counter(each.mapper.module for each in seen if each.attention)
    seen = [
        each
        for each in seen
        if each.output.requires_grad
        and (
            each.attention is None
            or (each.mapper.axis > 0 and attending[each.mapper.module] == 1)
        )
    ]
    found: dict[nn.Module, Kept] = {}
    inside: set[nn.Module] = set()
    probe = probe_of(outputs)
    # from the end: where all rows count, they do before it too
    for end in range(len(seen), 0, -_AT_ONCE):
        some, before = seen[max(0, end - _AT_ONCE) : end], len(found)
        with torch.autocast(outputs.device.type, enabled=False):
            gradients = torch.autograd.grad(
                outputs,
                [each.output for each in some],
                probe,
                retain_graph=True,
                allow_unused=True,
            )
        # what ends later holds what ended before
        for each, gradient in zip(some[::-1], gradients[::-1]):
            if gradient is None or each.mapper.module in inside:
                continue
            kept = each.kept(gradient)
            if kept is not None and _is_rowwise(each, kept, closeness):
                found[each.mapper.module] = kept
                if each.attention is None:
                    inside.update(each.mapper.module.modules())
        if len(found) == before:
            break
    return found


@torch.no_grad()
def _is_rowwise(seen: Seen, kept: Kept, closeness: float) -> bool:
    """Whether rows that count are mapped to what they were without the others, and
    beside others that are NaN."""
    mapped, some = seen.mapped(kept), kept.of(seen.given)
    expected, version = kept.of(seen.output.detach()), some._version
    try:
        results = mapped(some), kept.of(beside_nan(kept, mapped, seen.given))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a module raises that needs all of its rows
        return False
    if some._version != version:  # what others may read is written into
        return False
    limit = closeness * expected.double().norm()
    return all(
        found.shape == expected.shape
        and bool((found.double() - expected.double()).norm() <= limit)
        for found in results
    )


# What was found of encoders' modules, by the last one of them that maps rows, and of
# examples of which shapes: the next call's guess, which it proves by itself.
_Guess = Sequence[tuple["weakref.ref[nn.Module]", Kept]]
_GUESSES: MutableMapping[nn.Module, dict[Hashable, _Guess]]
_GUESSES = weakref.WeakKeyDictionary()
_MOST_GUESSES = 64


def guessed(
    mappers: Sequence[Mapper], kind: Hashable
) -> Optional[dict[nn.Module, Kept]]:
    """What was found of these modules for an example of this kind, if it was."""
    guess = _GUESSES.get(mappers[-1].module, {}).get(kind)
    if guess is None:
        return None
    found = {module(): own for module, own in guess}
    return None if None in found else found  # type: ignore[return-value]  # none is


def remember(
    mappers: Sequence[Mapper], kind: Hashable, found: Mapping[nn.Module, Kept]
) -> None:
    """Keep what was found, as long as there are the modules."""
    known = _GUESSES.setdefault(mappers[-1].module, {})
    known.pop(kind, None)
    known[kind] = [(weakref.ref(module), own) for module, own in found.items()]
    if len(known) > _MOST_GUESSES:
        del known[next(iter(known))]


def fewest(kept: Mapping[nn.Module, Kept]) -> dict[nn.Module, Kept]:
    """Those modules of which the fewest rows count."""
    few = min(len(own.index) for own in kept.values())
    return {module: own for module, own in kept.items() if len(own.index) == few}


def in_common(
    rows: Sequence[Optional[Mapping[nn.Module, Kept]]],
) -> Mapping[nn.Module, Kept]:
    """What counts for one at least of several examples."""
    first = rows[0] or {}
    if all(each is rows[0] for each in rows):
        return first
    known = [each or {} for each in rows]
    return {
        module: replace(own, index=_all_of([each[module].index for each in known]))
        for module, own in first.items()
        if all(module in each and each[module].is_like(own) for each in known)
    }


def _all_of(indices: Sequence[Tensor]) -> Tensor:
    """Each once, in order."""
    found: Tensor = torch.cat(list(indices)).unique()  # type: ignore[no-untyped-call]
    return found
