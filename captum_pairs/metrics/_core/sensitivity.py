#!/usr/bin/env python3

from typing import Any, Callable, Optional

import torch
from captum.metrics import sensitivity_max
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.attr._utils.marginals import validate_generator
from captum_pairs.attr._utils.validation import (
    check_tensor,
    describe,
    pair_of,
    positive_float,
    positive_int,
)
from torch import Tensor


def sensitivity(
    attribute: Callable[..., Tensor],
    inputs: tuple[Tensor, Tensor],
    perturb_radius: float = 0.02,
    n_perturb_samples: int = 10,
    generator: Optional[torch.Generator] = None,
    **kwargs: Any,
) -> Tensor:
    r"""
    The largest change of attributions under small noise at the inputs, as a share of
    the attributions' norm: :func:`captum.metrics.sensitivity_max` for a pair method.
    (Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019.)

    Args:

        attribute (Callable): A pair method's ``attribute``.
        inputs (tuple[Tensor, Tensor]): (b, ...); noise is added to floating ones, token
                    ids stay as they are.
        perturb_radius (float, optional): Of uniform noise, in units of the inputs.
                    Default: 0.02
        n_perturb_samples (int, optional): Default: 10
        generator (torch.Generator, optional): Where chance comes from.
        **kwargs: For ``attribute``.

    Returns:
        *Tensor* (b,).

    Raises:
        InvalidArgumentError: for what does not fit; if both inputs are token ids.

    Examples::

        >>> pairs = FeaturePairOcclusion((nn.Linear(6, 3), nn.Linear(4, 3)))
        >>> inputs = (torch.randn(2, 6), torch.randn(2, 4))
        >>> sensitivity(pairs.attribute, inputs).shape
        torch.Size([2])
    """
    if not callable(attribute):
        raise InvalidArgumentError(
            "attribute", "a method that can be called", describe(attribute)
        )
    given = tuple(check_tensor("inputs", each) for each in pair_of("inputs", inputs))
    if not any(values.is_floating_point() for values in given):
        raise InvalidArgumentError(
            "inputs", "a floating one, to which noise can be added", describe(inputs)
        )
    radius = positive_float("perturb_radius", perturb_radius)
    positive_int("n_perturb_samples", n_perturb_samples)
    validate_generator(generator)

    def perturb(values: tuple[Tensor, ...], radius: float) -> tuple[Tensor, ...]:
        return tuple(_with_noise(each, radius, generator) for each in values)

    found, rows = [], len(given[0])
    for row in range(rows):
        # Captum repeats examples, but knows nothing of arguments in pairs: those of one
        # example have batch 1 and need not be repeated
        bound = {name: _of_row(value, row, rows) for name, value in kwargs.items()}

        def explain(values: tuple[Tensor, ...]) -> tuple[Tensor]:
            attributions = attribute(values, **bound)
            if not isinstance(attributions, Tensor):
                raise InvalidArgumentError(
                    "attribute", "a method that gives a tensor", describe(attributions)
                )
            return (attributions,)  # of a tuple it wants a tuple

        found.append(
            sensitivity_max(
                explain,
                tuple(_of_row(each, row, rows) for each in given),
                perturb,
                perturb_radius=radius,
                n_perturb_samples=n_perturb_samples,
            )
        )
    return torch.cat(found)


def _of_row(value: Any, row: int, rows: int) -> Any:
    """An example's part of an argument, however deep its tensors lie."""
    if isinstance(value, tuple):
        return tuple(_of_row(each, row, rows) for each in value)
    if isinstance(value, Tensor) and value.ndim and rows > 1 and len(value) == rows:
        return value[row : row + 1]
    return value


def _with_noise(
    values: Tensor, radius: float, generator: Optional[torch.Generator]
) -> Tensor:
    if not values.is_floating_point():
        return values
    noise = torch.rand(values.shape, dtype=torch.float64, generator=generator)
    return values + radius * (2 * noise - 1).to(values)
