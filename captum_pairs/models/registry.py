"""Which models can be loaded: what adapters tell of themselves, in one table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Optional, TypeVar, Union

from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.errors import ModelUnavailableError
from torch import nn

__all__ = ["register_loader", "Support", "SUPPORTED", "supported"]

Function = TypeVar("Function", bound=Callable[..., Any])

# What was asked for, and what of it follows the prefix.
Loader = Callable[[str, str], EncoderPair]
# The user's module, what prepares its inputs, and what it is called.
Adopter = Callable[[Any, Any, str], EncoderPair]
# Whether a directory, or else a name on the hub, holds a model of the kind.
Claim = Callable[[str], bool]


@dataclass(frozen=True)
class Support:
    """
    A kind of model that can be loaded.

    Args:
        prefix: that its names begin with, before a colon.
        models: in words.
        write: what `load` takes.
        package: that has to be installed for it, as pip knows it.
        module: that it is imported as.
        loader, adopter, claims, classes: see :func:`register_loader`.
    """

    prefix: str
    models: str
    write: str
    package: str
    module: str
    loader: Union[Loader, str]
    adopter: Union[Adopter, str, None] = None
    claims: Optional[Claim] = None
    classes: tuple[str, ...] = ()

    @property
    def is_installed(self) -> bool:
        """Whether the package is there."""
        return not self.module or find_spec(self.module) is not None

    def load(self, name: str, rest: str) -> EncoderPair:
        """A model by its name; see `loader`."""
        self._require()
        loader: Loader = _resolved(self.loader)
        return loader(name, rest)

    def adopt(self, module: nn.Module, processor: Any, name: str) -> EncoderPair:
        """A model in memory; see `adopter`."""
        assert self.adopter is not None  # its classes are looked at before
        adopter: Adopter = _resolved(self.adopter)
        return adopter(module, processor, name)

    def _require(self) -> None:
        """Refuse a model whose package is not installed, and say which it is."""
        if not self.is_installed:
            raise ModelUnavailableError(
                "model",
                f"the package {self.package} (pip install {self.package})",
                "an installation without it",
            )


_TABLE: dict[str, Support] = {}
# Every kind in the order of registration; what is registered later is there too.
SUPPORTED = _TABLE.values()


def register_loader(
    prefix: str,
    loader: Union[Loader, str],
    *,
    models: str,
    write: str,
    package: str = "",
    module: str = "",
    adopter: Union[Adopter, str, None] = None,
    classes: tuple[str, ...] = (),
    claims: Optional[Claim] = None,
) -> None:
    """
    Make models of another kind known to :func:`load` and to ``captum-pairs models``.

    Args:
        prefix: names that begin with it and a colon are the loader's.
        loader: takes the whole name and what follows the prefix, and returns an
            :class:`EncoderPair`; or where it is, "package.module:function", which is
            imported when a model of the kind is asked for.
        models: which ones these are, in words.
        write: an example of what `load` takes.
        package: that has to be installed, as pip knows it, and ``module``, as it is
            imported; neither if nothing is needed.
        adopter: as the loader, for a model that is in memory: takes the module, the
            processor that came with it or None, and what it is called. It changes
            neither the module's mode nor its parameters.
        classes: of such models, the modules in which their classes (or bases of these)
            are defined, such as "open_clip.model"; "open_clip" stands for all in it.
        claims: whether a directory or a name on the hub that was given without a prefix
            is of the kind; what was registered last is asked first.

    Raises:
        InvalidArgumentError: naming ``prefix``, if it is taken or no plain word, or
            what else is of another type.

    >>> register_loader("mine", load_mine, models="my encoders", write="mine:small")
    >>> captum_pairs.load("mine:small")
    """
    plain = isinstance(prefix, str) and prefix.replace("-", "_").isidentifier()
    if not plain or prefix in _TABLE:
        raise InvalidArgumentError(
            "prefix",
            "a word that is no kind's yet",
            validation.describe(prefix),
        )
    for name, words in (
        ("models", models),
        ("write", write),
        ("package", package),
        ("module", module),
    ):
        if not isinstance(words, str):
            raise InvalidArgumentError(name, "a text", validation.describe(words))
    given: dict[str, Any] = {"loader": loader, "adopter": adopter, "claims": claims}
    for name, function in given.items():
        is_place = isinstance(function, str) and ":" in function and name != "claims"
        is_left = function is None and name != "loader"
        if not (callable(function) or is_place or is_left):
            place = "" if name == "claims" else ", or package.module:name"
            raise InvalidArgumentError(
                name, f"a function{place}", validation.describe(function)
            )
    if not isinstance(classes, tuple) or not all(isinstance(c, str) for c in classes):
        raise InvalidArgumentError(
            "classes", "a tuple of modules' names", validation.describe(classes)
        )
    _TABLE[prefix] = Support(
        prefix, models, write, package, module, loader, adopter, claims, classes
    )


def supported(prefix: str) -> Optional[Support]:
    """The kind of that prefix."""
    return _TABLE.get(prefix)


def latest_first() -> Iterator[Support]:
    """Every kind, the one that was registered last before the others."""
    return reversed(list(SUPPORTED))


def _resolved(function: Union[Function, str]) -> Function:
    """A function, imported if only its place is known."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    found: Function = getattr(import_module(module), name)
    return found
