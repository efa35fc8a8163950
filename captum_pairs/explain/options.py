"""How inputs are explained: the settings, checked once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Optional, TypedDict, Union

import torch
from captum_pairs.attr import EmbeddingAttribution, InvalidArgumentError, validation
from captum_pairs.explain.methods import (
    EXPECTED_GRADIENTS,
    INTEGRATED_GRADIENTS,
    leaves_out,
    Method,
    method_names,
    method_of,
    settings_of,
    subset_methods,
)
from captum_pairs.explain.references import References, ReferenceSet
from captum_pairs.models.encoder import Encoder, LayerLike
from captum_pairs.models.encoder_pair import EncoderPair

__all__ = ["BASELINE", "OF_PAIRS", "OF_SIDES", "Options", "OptionsLike", "REMOVED"]

# What becomes of a feature that is absent from a subset.
BASELINE, REMOVED = "baseline", "removed"
# What Gauss-Legendre steps are doubled up to until the tolerance is reached.
MOST_STEPS = 128
# Of means over references, if none is asked for: 64 of them leave a standard error that
# is larger.
TOLERANCE_OF_REFERENCES = 5e-2
# Two seeds are made of one, each of 64 bits.
_MOST_SEED = 2**62

# What both sides of a pair have to have in common, and what each has of its own.
OF_PAIRS = ("method", "tolerance", "n_steps", "n_samples", "seed", "absent")
OF_SIDES = ("layer", "baseline", "tokens", "references")

LayerPair = Union[LayerLike, tuple[Optional[LayerLike], Optional[LayerLike]], None]
BaselinePair = Union[str, tuple[Optional[str], Optional[str]], None]


class OptionsLike(TypedDict, total=False):
    """The keywords of ``explain`` and its siblings; see :class:`Options`."""

    layer: LayerPair
    method: Union[str, Method]
    tolerance: float
    n_steps: int
    baseline: BaselinePair
    references: Optional[References]
    tokens: bool
    progress: bool
    absent: str
    n_samples: int
    seed: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Options:
    """
    How inputs are explained.

    Args:
        layer: where is attributed to: a block's number from 0 or from -1 backwards (its
            input), "input", or a module (its output). A pair, one for each input; one
            alone is the first input's, or both inputs' if one encoder takes both.
            Default: the encoders' own.
        method: how contributions are found, by name ("integrated_gradients",
            "occlusion", "banzhaf" (at a probability of 1/2), "shapley", "lime",
            "jacobian_x_input", "token_similarity", or what was registered), or a class.
            Only the first one, and "expected_gradients" (which ``references`` choose),
            account for the whole score.
        absent: what a method that leaves out features does with them: "baseline", they
            have the baseline's value, or "removed", words are taken out of the text and
            patches out of the layer's value.
        n_samples: the most subsets of an input's features that are embedded; if there
            are no more, all of them are.
        seed: of the subsets that are drawn.
        tolerance: how complete each path's integral has to be, relative; with
            references their mean, by default 0.05.
        n_steps: Gauss-Legendre steps are doubled up to this number.
        baseline: of images "mean color", "black" or "blur"; of texts "padding", or
            "mask" where the tokenizer has a mask token: it stands in the place of each
            word's tokens. A pair, or one for all inputs that know it. Default: the
            encoders' own.
        references: what :meth:`captum_pairs.DualEncoder.references` made: inputs are
            compared with a sample of others instead of one baseline, by the method
            "expected_gradients".
        tokens: attribute to tokens instead of words.
        progress: a bar on standard error, if it takes more than two seconds.
        settings: the method's own, beside these, by name.
    """

    layer: LayerPair = None
    method: Union[str, Method] = INTEGRATED_GRADIENTS
    tolerance: float = 1e-2
    n_steps: int = MOST_STEPS
    baseline: BaselinePair = None
    references: Optional[References] = None
    tokens: bool = False
    progress: bool = False
    absent: str = BASELINE
    n_samples: int = 2048
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    # the names of those that were asked for, and are not defaults
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @classmethod
    def of(
        cls,
        given: Mapping[str, Any],
        methods: Optional[Sequence[Union[str, Method]]] = None,
    ) -> "Options":
        """
        Settings by name.

        Args:
            given: what was asked for.
            methods: that they are for. Default: the one that is asked for

        Raises:
            InvalidArgumentError: naming what there is not, or what none of the methods
                uses.
        """
        known = [each.name for each in fields(cls) if each.name != "given"]
        for name in given:
            if name not in known:
                raise InvalidArgumentError(name, f"one of {', '.join(known)}", "this")
        settings = given
        if given.get("references") is not None:
            settings = _with_references(given, methods)
        result = cls(**settings, given=frozenset(given))
        asked = [result.method] if methods is None else methods
        for name in ("n_steps", "tolerance", "n_samples"):
            if name in given and not any(
                name in settings_of(method_of(method)[1]) for method in asked
            ):
                using = [
                    n for n in method_names() if name in settings_of(method_of(n)[1])
                ]
                raise InvalidArgumentError(
                    name,
                    f"one of the methods that use it ({', '.join(using)})",
                    " and ".join(method_of(method)[0] for method in asked),
                )
        return result

    def __post_init__(self) -> None:
        name, method = method_of(self.method)
        validation.positive_float("tolerance", self.tolerance)
        validation.positive_int("n_steps", self.n_steps)
        validation.positive_int("n_samples", self.n_samples, 2)
        validation.one_of("absent", self.absent, (BASELINE, REMOVED))
        for each in ("tokens", "progress"):
            validation.flag(each, getattr(self, each))
        seed = self.seed
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise InvalidArgumentError(
                "seed", "a whole number", validation.describe(seed)
            )
        if not 0 <= seed < _MOST_SEED:
            raise InvalidArgumentError(
                "seed", f"a whole number from 0 to {_MOST_SEED - 1}", str(seed)
            )
        if not isinstance(self.references, (References, type(None))):
            raise InvalidArgumentError(
                "references",
                "what model.references(...) made",
                validation.describe(self.references),
            )
        if self.absent == REMOVED and not leaves_out(method):
            raise InvalidArgumentError(
                "absent",
                f"{BASELINE!r} for {name}, which leaves out no features "
                f"({', '.join(subset_methods())} do)",
                repr(self.absent),
            )
        own: object = self.settings
        if not isinstance(own, Mapping):
            came = validation.describe(own)
            raise InvalidArgumentError("settings", "names and values", came)
        # checked by their own class, whatever it is
        method.settings_type(**{**self._settings(method), **self._own(method)})

    @property
    def method_name(self) -> str:
        """What an explanation calls the method."""
        return method_of(self.method)[0]

    @property
    def method_class(self) -> type[EmbeddingAttribution[Any]]:
        """What finds contributions."""
        return method_of(self.method)[1]

    def adopting(self, known: Mapping[str, Any]) -> "Options":
        """With what contributions were found with (see :meth:`of_side`), as far as
        nothing else was asked for: a pair is of one method."""
        names = {each for each in OF_PAIRS if each in known} - self.given
        return replace(self, **{name: known[name] for name in names})

    def of_method(
        self, method: Union[str, Method], settings: Mapping[str, Any]
    ) -> "Options":
        """As one of several methods uses them, with settings of its own."""
        own: dict[str, Any] = {"method": method, "settings": settings}
        if method_of(method)[0] != EXPECTED_GRADIENTS:
            own["references"] = None
        elif "tolerance" not in self.given:
            own["tolerance"] = TOLERANCE_OF_REFERENCES
        return replace(self, **own)

    def _settings(self, method: type[EmbeddingAttribution[Any]]) -> dict[str, Any]:
        """Those of these options that a method takes."""
        names = ("tolerance", "n_steps", "n_samples")
        return {n: getattr(self, n) for n in names if n in settings_of(method)}

    def _own(self, method: type[EmbeddingAttribution[Any]]) -> dict[str, Any]:
        known = settings_of(method)
        for name in self.settings:
            if name not in known:
                raise InvalidArgumentError(
                    f"settings[{name!r}]", f"one of {', '.join(known)}", "this"
                )
        return dict(self.settings)

    def settings_for(self, at: int) -> dict[str, Any]:
        """
        The method's settings for one side.

        Args:
            at: 0 or 1. The two sides' subsets have to be independent of each other.
        """
        method = self.method_class
        found = self._settings(method)
        if "generator" in settings_of(method):
            seed = 2 * self.seed + at
            found["generator"] = torch.Generator().manual_seed(seed)
        return {**found, **self._own(method)}

    def layers(self, model: EncoderPair) -> tuple[Any, Any]:
        """One for each input."""
        if isinstance(self.layer, (tuple, list)):
            if len(self.layer) != 2:
                raise InvalidArgumentError(
                    "layer", "one layer or a pair", f"{len(self.layer)} of them"
                )
            return self.layer[0], self.layer[1]
        return self.layer, (self.layer if model.first is model.second else None)

    def baselines(self, model: EncoderPair) -> tuple[Optional[str], Optional[str]]:
        """One for each input."""
        if isinstance(self.baseline, (tuple, list)):
            if len(self.baseline) != 2:
                raise InvalidArgumentError(
                    "baseline", "one name or a pair", f"{len(self.baseline)} of them"
                )
            return self.baseline[0], self.baseline[1]
        if self.baseline is None:
            return None, None
        name = self.baseline
        both = model.first, model.second
        knowing = [isinstance(name, str) and name in e.baselines for e in both]
        if not any(knowing):
            known = dict.fromkeys(
                f"{', '.join(map(repr, e.baselines)) or 'None'} for {e.kind}"
                for e in both
            )
            expected = f"one of {' or '.join(known)}"
            raise InvalidArgumentError("baseline", expected, validation.describe(name))
        return name if knowing[0] else None, name if knowing[1] else None

    def references_of(self, model: EncoderPair, at: int) -> Optional[ReferenceSet]:
        """
        What one side's input is compared with, if the method takes references.

        Raises:
            InvalidArgumentError: naming ``references``, if it needs some.
        """
        if self.method_name != EXPECTED_GRADIENTS:
            return None
        if self.references is None:
            raise InvalidArgumentError(
                "references",
                f"those of model.references(...) for {EXPECTED_GRADIENTS}",
                "None",
            )
        return self.references.of_side(model, at)

    def of_side(self, model: EncoderPair, at: int) -> dict[str, Any]:
        """
        All that one side's contributions depend on, in words and numbers; wrong ones
        are refused.
        """
        encoder: Encoder = (model.first, model.second)[at]
        method = self.method_class
        is_drawn = "generator" in settings_of(method)
        # two sides' subsets that are drawn are independent of each other
        references = self.references_of(model, at)
        is_own = is_drawn or references is not None
        is_one = model.first is model.second and not is_own
        known = {
            "similarity": model.similarity,
            "side": "both" if is_one else ("first", "second")[at],
            "method": self.method_name,
            "layer": encoder.layer(self.layers(model)[at]).name,
            "tokens": self.tokens,
            **self._settings(method),
        }
        for name, value in self._own(method).items():
            # a method may call a setting of its own as an option is called ("method")
            known[f"settings[{name!r}]" if name in known else name] = repr(value)
        if method.has_baseline:
            known["baseline"] = encoder.check_baseline(self.baselines(model)[at])
        if references is not None:
            known["baseline"] = str(references)
            known["references"] = references.digest
        if leaves_out(method):
            known["absent"] = self.absent
        if is_drawn:
            known["seed"] = self.seed
        return known


def _with_references(
    given: Mapping[str, Any], methods: Optional[Sequence[Union[str, Method]]]
) -> Mapping[str, Any]:
    """Settings of a method that takes references, or for several of which one does."""
    asked = [given.get("method", INTEGRATED_GRADIENTS)] if methods is None else methods
    names = [method_of(method)[0] for method in asked]
    if methods is None and names[0] in (INTEGRATED_GRADIENTS, EXPECTED_GRADIENTS):
        own = {"method": EXPECTED_GRADIENTS}
        return {"tolerance": TOLERANCE_OF_REFERENCES, **given, **own}
    if EXPECTED_GRADIENTS not in names:
        raise InvalidArgumentError(
            "references", f"None without {EXPECTED_GRADIENTS}", " and ".join(names)
        )
    return given
