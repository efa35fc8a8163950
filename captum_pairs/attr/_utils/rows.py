#!/usr/bin/env python3
"""
Modules behind the layer of whose rows only some reach the embedding.

A transformer whose embedding is read off one position maps all positions in its last
block, and throws all but one away: three quarters of the block's work, in every pass
and every product. What maps each row for itself (a projection, a normalisation, an MLP)
need not run for the others. Nothing is assumed of the architecture: gradients that are
zero say which rows may not count, and then NaN is put in their places. An embedding
that stays what it was depends on none of them, whatever their values.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Optional

import torch
from captum_pairs.attr._utils.hooks import answering, Mapper, undone
from torch import nn, Tensor


# Modules that are asked about at once: about as many as a block has.
_AT_ONCE = 10


class Kept(NamedTuple):
    """
    What counts of a module's rows.

    Args:

        axis (int): The rows' axis.
        index (Tensor): Those that count.
    """

    axis: int
    index: Tensor


@dataclass
class Rows:
    """
    What examples that are copies of one another know of their rows.

    Args:

        kept (mapping, optional): Of modules. Default: not looked for yet
    """

    kept: Optional[Mapping[nn.Module, Kept]] = None


class Seen(NamedTuple):
    """What a module took and gave: (n, T, d) or (T, n, d)."""

    mapper: Mapper
    given: Tensor
    output: Tensor


@contextmanager
def only(kept: Mapping[nn.Module, Kept], fill: Optional[float] = None) -> Iterator[None]:
    """
    Let modules map the rows that count.

    Args:

        kept (mapping): Of modules.
        fill (float, optional): What the others' places hold. Default: one that counts,
                    as an example of what may lie there
    """

    def some(own: Kept) -> Callable[..., Any]:
        def run(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if kwargs or len(args) != 1:
                return forward(*args, **kwargs)
            rows: Tensor = forward(args[0].index_select(own.axis, own.index))
            rest = rows.detach().narrow(own.axis, 0, 1)
            if fill is not None:
                rest = torch.full_like(rest, fill)
            rest = rest.expand(*args[0].shape[:2], rows.shape[2])
            return rest.index_copy(own.axis, own.index, rows)

        return run

    owner = threading.get_ident()
    with ExitStack() as stack:
        for module, own in kept.items():
            stack.enter_context(answering(module, some(own), owner))
        yield


@contextmanager
def watched(mappers: Sequence[Mapper]) -> Iterator[list[Seen]]:
    """What modules take and give in what runs inside, in the order of their ends, if it
    has derivatives."""
    seen: list[Seen] = []
    owner = threading.get_ident()

    def note(mapper: Mapper, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == owner and output.requires_grad:
            seen.append(Seen(mapper, args[0].detach(), output))

    with ExitStack() as stack:
        for mapper in mappers:
            handle = mapper.module.register_forward_hook(partial(note, mapper))
            stack.enter_context(undone(handle.remove))
        yield seen


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
    found: dict[nn.Module, Kept] = {}
    inside: set[nn.Module] = set()
    phase = torch.arange(outputs.numel(), device=outputs.device).to(outputs.dtype)
    probe = torch.cos(phase).reshape(outputs.shape)
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
            kept = _kept(each.mapper, gradient)
            if kept is not None and _is_rowwise(each, kept, closeness):
                found[each.mapper.module] = kept
                inside.update(each.mapper.module.modules())
        if len(found) == before:
            break
    return found


def _kept(mapper: Mapper, gradient: Tensor) -> Optional[Kept]:
    """The rows that have a gradient, if they are half of all at most."""
    others = [at for at in range(gradient.ndim) if at != mapper.axis]
    index = gradient.abs().amax(dim=others).nonzero()[:, 0]
    if not 0 < len(index) <= gradient.shape[mapper.axis] // 2:
        return None
    return Kept(mapper.axis, index)


@torch.no_grad()
def _is_rowwise(seen: Seen, kept: Kept, closeness: float) -> bool:
    """Whether rows that count are mapped to what they were without the others, and
    beside others that are NaN."""
    module = seen.mapper.module
    some = seen.given.index_select(*kept)
    among = torch.full_like(seen.given, torch.nan).index_copy(*kept, some)
    expected = seen.output.detach().index_select(*kept)
    try:
        results = module(some), module(among).index_select(*kept)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a module raises that needs all of its rows
        return False
    limit = closeness * expected.norm()
    return all(bool((found - expected).norm() <= limit) for found in results)


def in_common(
    rows: Sequence[Optional[Mapping[nn.Module, Kept]]],
) -> Mapping[nn.Module, Kept]:
    """What counts for one at least of several examples."""
    first = rows[0] or {}
    if all(each is rows[0] for each in rows):
        return first
    known = [each or {} for each in rows]
    return {
        module: Kept(
            first[module].axis,
            torch.cat([each[module].index for each in known]).unique(),
        )
        for module in first
        if all(module in each for each in known)
    }
