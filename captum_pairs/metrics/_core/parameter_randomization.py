#!/usr/bin/env python3

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Callable, NamedTuple, Optional

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.attr._utils.hooks import undone
from captum_pairs.attr._utils.marginals import validate_generator
from captum_pairs.attr._utils.validation import describe, flag, warn_caller
from captum_pairs.metrics._core.correlation import rank_agreement
from torch import nn, Tensor


class ParameterRandomization(NamedTuple):
    """
    How much of the attributions is left when parameters are random.

    Args:

        modules (tuple[str, ...]): Those whose parameters became random, in this order.
        agreement (Tensor): (modules, b), float64: the rank correlation with the trained
                    model's attributions after each.
        absolute_agreement (Tensor): The same of absolute values.
    """

    modules: tuple[str, ...]
    agreement: Tensor
    absolute_agreement: Tensor


def parameter_randomization(
    attribute: Callable[[], Tensor],
    modules: Mapping[str, nn.Module],
    independent: bool = False,
    generator: Optional[torch.Generator] = None,
) -> ParameterRandomization:
    r"""
    The sanity check whether attributions depend on what a model has learned: they are
    computed again while its modules are made random one after the other, from the
    embedding back to the input. (Adebayo et al., "Sanity Checks for Saliency Maps",
    NeurIPS 2018.)

    A random parameter has its own values in random order, so that scale and sparsity
    stay. The model has its parameters back afterwards, whatever happens.

    Args:

        attribute (Callable): Gives the attributions (b, ...) of the same inputs each
                    time.
        modules (dict): Names and modules, the one next to the embedding first.
        independent (bool, optional): One module at a time is random, instead of all up
                    to it. Default: False
        generator (torch.Generator, optional): Where chance comes from.

    Returns:
        *ParameterRandomization*

    Raises:
        InvalidArgumentError: for what does not fit.

    Examples::

        >>> net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
        >>> pairs = FeaturePairOcclusion(net)
        >>> inputs = (torch.randn(2, 6), torch.randn(2, 6))
        >>> parameter_randomization(
        ...     lambda: pairs.attribute(inputs), {"head": net[2], "body": net[0]}
        ... ).agreement.shape
        torch.Size([2, 2])
    """
    if not callable(attribute):
        raise InvalidArgumentError(
            "attribute", "a function of no arguments", describe(attribute)
        )
    validate_generator(generator)
    flag("independent", independent)
    named = dict(modules) if isinstance(modules, Mapping) else {}
    if not named:
        raise InvalidArgumentError(
            "modules", "names and modules, at least one", describe(modules)
        )
    for name, module in named.items():
        if not isinstance(module, nn.Module):
            raise InvalidArgumentError(
                "modules", "names and modules", f"{name!r}: {describe(module)}"
            )
        if next(module.parameters(), None) is None:
            raise InvalidArgumentError(
                "modules", "modules with parameters", f"{name!r}, which has none"
            )
    trained = _attributions(attribute).clone()
    found = []
    with _restored(named.values()) as restore:
        for module in named.values():
            if independent:
                restore()
            _shuffle(module, generator)
            again = _attributions(attribute)
            found.append(
                (
                    rank_agreement(trained, again),
                    rank_agreement(trained.abs(), again.abs()),
                )
            )
    agreement, absolute = (torch.stack(parts) for parts in zip(*found))
    return ParameterRandomization(tuple(named), agreement, absolute)


def _attributions(attribute: Callable[[], Tensor]) -> Tensor:
    found = attribute()
    if not isinstance(found, Tensor) or not found.ndim:
        raise InvalidArgumentError(
            "attribute", "a function to attributions (b, ...)", describe(found)
        )
    if not bool(torch.isfinite(found).all()):
        raise InvalidArgumentError(
            "attribute", "finite attributions", f"NaN or infinity in {describe(found)}"
        )
    return found.detach()


@contextmanager
def _restored(modules: Iterable[nn.Module]) -> Iterator[Callable[[], None]]:
    """Parameters as they were, when asked to and at the end."""
    parameters = {
        id(parameter): parameter
        for module in modules
        for parameter in module.parameters()
    }
    saved = [
        (parameter, parameter.detach().clone()) for parameter in parameters.values()
    ]

    def restore() -> None:
        with torch.no_grad():
            for parameter, values in saved:
                parameter.copy_(values)

    with undone(restore):
        yield restore


@torch.no_grad()
def _shuffle(module: nn.Module, generator: Optional[torch.Generator]) -> None:
    changed = False
    for parameter in module.parameters():
        order = torch.randperm(parameter.numel(), generator=generator)
        values = parameter.flatten()[order.to(parameter.device)]
        values = values.reshape(parameter.shape)
        changed = changed or not torch.equal(values, parameter)
        parameter.copy_(values)
    if not changed:
        name = type(module).__name__
        warn_caller(
            f"the parameters of {name} are all the same, and so are they in random "
            "order: it is not random now"
        )
