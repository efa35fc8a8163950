"""The methods by which an input's contributions are found: one registry."""

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from types import MappingProxyType
from typing import Any, Union

from captum_pairs import attr
from captum_pairs.attr import (
    EmbeddingAttribution,
    InvalidArgumentError,
    PairAttribution,
    validation,
)
from captum_pairs.known import METHODS

__all__ = [
    "check_width",
    "EXPECTED_GRADIENTS",
    "INTEGRATED_GRADIENTS",
    "INTEGRATED_HESSIANS",
    "leaves_out",
    "Method",
    "method_names",
    "method_of",
    "OF_PATHS",
    "register_method",
    "settings_of",
    "subset_methods",
]

INTEGRATED_GRADIENTS = "integrated_gradients"
# The same from references, which there have to be.
EXPECTED_GRADIENTS = "expected_gradients"
# Of a score that is no inner product, and no method of embeddings.
INTEGRATED_HESSIANS = "integrated_hessians"
# Those whose parts miss the score by an error of a path's integral.
OF_PATHS = (INTEGRATED_GRADIENTS, EXPECTED_GRADIENTS, INTEGRATED_HESSIANS)

# What finds contributions, or a pair method that is made of it.
Method = Union[type[EmbeddingAttribution[Any]], type[PairAttribution]]

_METHODS: dict[str, type[EmbeddingAttribution[Any]]] = {}


def register_method(name: str, method: Method) -> Method:
    """
    Make a method known by a name: to ``explain(method=name)``, ``compare``, corpora and
    the command.

    Args:
        name: in lower case, words with underscores between.
        method: a subclass of :class:`captum_pairs.attr.EmbeddingAttribution`, or of
            :class:`captum_pairs.attr.PairAttribution`, whose ``embedding_attribution``
            is taken. It is made with ``(encoder, normalize=, layer=)``.

    Returns:
        The method, so that this can be a decorator's work.

    Raises:
        InvalidArgumentError: naming ``name`` or ``method``; if another method has the
            name.
    """
    if not isinstance(name, str) or not name.isidentifier() or name != name.lower():
        raise InvalidArgumentError(
            "name",
            "words in lower case with underscores between",
            validation.describe(name),
        )
    found = _embedding_attribution(method)
    if _METHODS.get(name, found) is not found:
        raise InvalidArgumentError("name", "one that is not taken", repr(name))
    _METHODS[name] = found
    return method


def _embedding_attribution(method: object) -> type[EmbeddingAttribution[Any]]:
    if isinstance(method, type) and issubclass(method, PairAttribution):
        method = getattr(method, "embedding_attribution", None)
    if isinstance(method, type) and issubclass(method, EmbeddingAttribution):
        return method
    raise InvalidArgumentError(
        "method",
        "a subclass of captum_pairs.attr.EmbeddingAttribution, or of PairAttribution "
        "with an embedding_attribution",
        validation.describe(method),
    )


def method_names(references: bool = False) -> tuple[str, ...]:
    """
    What ``method=`` may be by name, integrated gradients first.

    Args:
        references: those too that need references.
    """
    return tuple(n for n in _METHODS if references or n != EXPECTED_GRADIENTS)


def subset_methods() -> tuple[str, ...]:
    """Those that leave out features, whose absence can be said."""
    return tuple(name for name, method in _METHODS.items() if leaves_out(method))


def leaves_out(method: type[EmbeddingAttribution[Any]]) -> bool:
    """Whether a method embeds subsets of the features."""
    return "embed_subsets" in settings_of(method)


def settings_of(method: type[EmbeddingAttribution[Any]]) -> Mapping[str, Any]:
    """A method's settings and their defaults."""
    found = {field.name: field.default for field in fields(method.settings_type)}
    return MappingProxyType(found)


def method_of(
    method: Union[str, Method],
) -> tuple[str, type[EmbeddingAttribution[Any]]]:
    """
    A method's name and class, from either, or from "package.module:Class".

    Raises:
        InvalidArgumentError: naming ``method``.
    """
    if isinstance(method, str) and ":" in method:
        method = _imported(method)
    if isinstance(method, str):
        if method not in _METHODS:
            known = ", ".join(_METHODS)
            raise InvalidArgumentError("method", f"one of {known}", repr(method))
        return method, _METHODS[method]
    found = _embedding_attribution(method)
    names = [name for name, known in _METHODS.items() if known is found]
    return (names[0] if names else found.__name__), found


def _imported(where: str) -> Any:
    """A class of somebody's own, by its module and name."""
    module, _, name = where.partition(":")
    try:
        return getattr(import_module(module), name)
    except (AttributeError, ImportError, ValueError) as error:
        raise InvalidArgumentError(
            "method", "a registered name, or package.module:Class", f"{where}: {error}"
        ) from error


def check_width(method: Union[str, Method], what: str) -> None:
    """Refuse a method whose vectors are no embeddings for what reads embeddings."""
    name, found = method_of(method)
    if not found.keeps_width:
        having = [known for known, each in _METHODS.items() if each.keeps_width]
        raise InvalidArgumentError(
            "method", f"one of {', '.join(having)} for {what}", repr(name)
        )


for _name, _class in METHODS.items():
    register_method(_name, getattr(attr, _class))
