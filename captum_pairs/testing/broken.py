"""What contracts have in common: what is raised, what is refused, what stays."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Optional

import torch
from captum_pairs.attr import InvalidArgumentError
from torch import nn, Tensor

__all__ = ["BrokenContractError", "refused", "require", "unchanged"]

# Tables of hooks that a module keeps.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")


class BrokenContractError(AssertionError):
    """Something that every adapter or method promises does not hold."""


def require(holds: bool, promise: str, found: object = "") -> None:
    """
    Raise unless a promise holds.

    Args:
        holds: whether it does.
        promise: what should be.
        found: what was found instead.
    """
    if not holds:
        raise BrokenContractError(promise + (f"; found {found}" if found else ""))


def refused(
    call: Callable[[], object], what: str, argument: Optional[str] = None
) -> None:
    """Require an error of ours, naming the argument if there is one to be named."""
    try:
        call()
    except InvalidArgumentError as error:
        if argument is not None:
            require(
                error.argument == argument,
                f"the error of {what} names {argument}",
                error.argument,
            )
        return
    except Exception as error:
        raise BrokenContractError(
            f"{what} gets an InvalidArgumentError; found {type(error).__name__}"
        ) from error
    raise BrokenContractError(f"{what} gets an InvalidArgumentError; found none")


@contextmanager
def unchanged(module: Optional[nn.Module]) -> Iterator[None]:
    """What runs inside leaves a module as it was, also when it raises."""
    before = _state(module)
    try:
        yield
    finally:
        after = _state(module)
        for what, value in before.items():
            same = _same(value, after[what])
            require(same, f"the {what} of the model are as they were")


def _state(module: Optional[nn.Module]) -> dict[str, Any]:
    if module is None:
        return {}
    parts = dict(module.named_modules())
    parameters = dict(module.named_parameters())
    return {
        "modes": {name: part.training for name, part in parts.items()},
        "hooks": {
            name: [list(getattr(part, table, {})) for table in _HOOKS]
            for name, part in parts.items()
        },
        "flags requires_grad": {n: p.requires_grad for n, p in parameters.items()},
        "gradients": {n: p.grad is None for n, p in parameters.items()},
        "parameters": {n: p.detach().clone() for n, p in parameters.items()},
        "buffers": {n: b.clone() for n, b in module.named_buffers()},
    }


def _same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return before.keys() == after.keys() and all(
        (
            torch.equal(value, after[name])
            if isinstance(value, Tensor)
            else value == after[name]
        )
        for name, value in before.items()
    )
