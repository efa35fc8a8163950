#!/usr/bin/env python3
"""
Several examples in one forward pass: their points side by side, each with its own
arguments and its own front.

What an example needs beside its points has batch 1 and broadcasts in a pass of its own;
among others it is repeated for each of its points. Whether an encoder takes examples
that way is not assumed but seen: run together, each has to have the embedding that it
has alone.
"""

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from captum_pairs.attr._utils.example import Example
from captum_pairs.attr._utils.hooks import Front
from captum_pairs.attr._utils.rows import in_common, Rows
from torch import Tensor

AnyExample = TypeVar("AnyExample", bound=Example)


class ApartError(Exception):
    """These examples can't share a pass."""


def joined(examples: Sequence[AnyExample], counts: Sequence[int]) -> AnyExample:
    """
    Examples as one, to be run with ``counts`` points of each, one after the other.

    Raises:
        ApartError: if their arguments do not go together.
    """
    first = examples[0]
    if len(examples) == 1:
        return first
    result = copy.copy(first)
    result._inputs = _rows([each._inputs for each in examples], counts)
    result._args = _rows([each._args for each in examples], counts)
    fronts = [each._front.outputs for each in examples]
    if any(outputs.keys() != fronts[0].keys() for outputs in fronts):
        raise ApartError
    result._front = Front(
        {
            module: _rows([outputs[module] for outputs in fronts], counts)
            for module in fronts[0]
        }
    )
    result._rows = Rows(in_common([each._rows.kept for each in examples]))
    return result


def _rows(parts: Sequence[Any], counts: Sequence[int]) -> Any:
    """One of each example's, repeated for its points; what they have in common once."""
    first = parts[0]
    if all(part is first for part in parts):
        return first
    if any(type(part) is not type(first) for part in parts):
        raise ApartError
    if isinstance(first, Tensor):
        return _stacked(parts, counts)
    if isinstance(first, (tuple, list)):
        if any(len(part) != len(first) for part in parts):
            raise ApartError
        return type(first)([_rows(each, counts) for each in zip(*parts)])
    if isinstance(first, (bool, int, float, str)) and all(p == first for p in parts):
        return first
    raise ApartError


def _stacked(parts: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    first = parts[0]
    if any(part.shape != first.shape or part.dtype != first.dtype for part in parts):
        raise ApartError
    if all(torch.equal(part, first) for part in parts):
        return first
    # the batch is the first dimension, or the second (tokens, b, d)
    axis = next((at for at, size in enumerate(first.shape[:2]) if size == 1), None)
    if axis is None:
        raise ApartError
    shape = [-1] * first.ndim
    repeated = []
    for part, count in zip(parts, counts):
        shape[axis] = count
        repeated.append(part.expand(shape))
    return torch.cat(repeated, axis)


def groups_of(examples: Sequence[Example]) -> list[list[int]]:
    """
    Which examples share their passes, by their places in the sequence; those that have
    the same encoder and shapes, and whose embeddings stay what they are.
    """
    by_kind: dict[Any, list[int]] = {}
    for at, example in enumerate(examples):
        by_kind.setdefault(_kind(example), []).append(at)
    found = []
    for group in by_kind.values():
        if len(group) == 1 or _are_joinable([examples[at] for at in group]):
            found.append(group)
        else:
            found += [[at] for at in group]
    return found


def _are_joinable(examples: Sequence[Example]) -> bool:
    """Whether examples can share passes: seen once in a session."""
    seen = examples[0].session.together
    asked = frozenset(id(each.output) for each in examples)
    for known, answer in seen.items():
        if asked <= known if answer else asked == known:
            return answer
    seen[asked] = _is_same_together(examples)
    return seen[asked]


def _kind(example: Example) -> Any:
    call = example.call
    return (
        id(call.forward_func),
        tuple(place and (id(place.layer), place.at_input) for place in call.places),
        tuple(example.axes),
        tuple(example.value.shape),
        example.values[0].dtype,
        example.value.device,
        example.side.normalize,
        example._is_expanded,
        id(example.session),
    )


@torch.no_grad()
def _is_same_together(examples: Sequence[Example]) -> bool:
    """Whether each example's embedding among the others is the one it has alone."""
    if examples[0].session.is_random:
        return False
    try:
        together = joined(examples, [1] * len(examples))
        found = together.embed(torch.stack([each.value for each in examples]))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a model raises that does not take them together
        return False
    alone = torch.stack([each.embedding for each in examples]).to(found)
    gaps = torch.linalg.vector_norm(found - alone, dim=1)
    sizes = torch.linalg.vector_norm(alone, dim=1)
    return bool((gaps <= examples[0].closeness * sizes).all())
