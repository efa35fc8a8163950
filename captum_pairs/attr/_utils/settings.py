#!/usr/bin/env python3
"""Settings of a method: the fields of a dataclass, as keywords of ``attribute``."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Any

from captum_pairs.attr._utils.validation import InvalidArgumentError, optional_pair_of

# What stands behind the settings, as in Captum's layer methods.
_LAST = (
    "return_standard_error",
    "return_convergence_delta",
    "attribute_to_layer_input",
)


def names_of(settings_type: type[Any]) -> tuple[str, ...]:
    """What the settings of a method are called."""
    return tuple(field.name for field in fields(settings_type))


def settings_of(settings_type: type[Any], given: Mapping[str, Any]) -> Any:
    """
    Settings, checked by their own class.

    Raises:
        InvalidArgumentError: naming what there is not.
    """
    known = names_of(settings_type)
    for name in given:
        if name not in known:
            expected = f"one of the settings {', '.join(known)}" if known else "nothing"
            raise InvalidArgumentError(name, expected, "a setting of another method")
    return settings_type(**given)


def settings_of_pair(
    settings_type: type[Any], given: Mapping[str, Any]
) -> tuple[Any, Any]:
    """
    Settings of both sides: the same, but for those that ``per_side`` of their class
    names, of which there is a pair (None: the default), and those that ``either``
    names, of which there may be a tuple.
    """
    per_side = getattr(settings_type, "per_side", ())
    either = getattr(settings_type, "either", ())
    sides: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name, value in given.items():
        if name in per_side:
            for side, own in zip(sides, optional_pair_of(name, value)):
                if own is not None:
                    side[name] = own
            continue
        pair = (value, value)
        if name in either and isinstance(value, tuple):
            pair = optional_pair_of(name, value)
        sides[0][name], sides[1][name] = pair
    return settings_of(settings_type, sides[0]), settings_of(settings_type, sides[1])


def described(
    general: Callable[..., Any], settings_type: type[Any], has_baseline: bool
) -> Callable[..., Any]:
    """
    A general function of a method, as one whose signature and documentation name the
    method's settings: where Captum's methods have theirs, after the further arguments
    of the forward function.
    """
    signature = inspect.signature(general)
    before, after = [], []
    for name, each in signature.parameters.items():
        if name in _LAST:
            after.append(each)
        elif each.kind != each.VAR_KEYWORD and (has_baseline or name != "baselines"):
            before.append(each)
    own = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=field.default,
            annotation=field.type,
        )
        for field in fields(settings_type)
    ]
    named = signature.replace(parameters=[*before, *own, *after])

    @wraps(general)
    def with_settings(*args: Any, **kwargs: Any) -> Any:
        return general(**named.bind(*args, **kwargs).arguments)

    with_settings.__name__ = general.__name__.lstrip("_")
    # where inspect looks for it
    with_settings.__signature__ = named  # type: ignore[attr-defined]
    about = inspect.getdoc(settings_type) or ""
    with_settings.__doc__ = f"{inspect.getdoc(general)}\n\nSettings: {about}\n"
    return with_settings
