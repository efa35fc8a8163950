"""How inputs are explained: the settings, checked once."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Optional, Union

from captum_pairs.attr import InvalidArgumentError
from captum_pairs.attr._utils.validation import describe
from captum_pairs.explain.methods import INTEGRATED_GRADIENTS, METHODS, SUBSET_METHODS
from captum_pairs.models.encoder import LayerLike
from captum_pairs.models.encoder_pair import EncoderPair

__all__ = ["BASELINE", "Options", "REMOVED"]

# What becomes of a feature that is absent from a subset.
BASELINE, REMOVED = "baseline", "removed"
# What Gauss-Legendre steps are doubled up to until the tolerance is reached.
MOST_STEPS = 128

LayerPair = Union[LayerLike, tuple[Optional[LayerLike], Optional[LayerLike]], None]


@dataclass(frozen=True)
class Options:
    """
    How inputs are explained.

    Args:
        layer: where is attributed to: a block's number from 0 or from -1 backwards (its
            input), "input", or a module (its output). A pair, one for each input; one
            alone is the first input's, or both inputs' if one encoder takes both.
            Default: the encoders' own.
        method: how contributions are found: "integrated_gradients", "occlusion",
            "banzhaf" (at a probability of 1/2), "shapley", "lime", "jacobian_x_input"
            or "token_similarity". Only the first one accounts for the whole score.
        absent: what a method that leaves out features does with them: "baseline", they
            have the baseline's value, or "removed", words are taken out of the text and
            patches out of the layer's value.
        n_samples: the most subsets of an input's features that are embedded; if there
            are no more, all of them are.
        seed: of the subsets that are drawn.
        tolerance: how complete each path's integral has to be, relative.
        n_steps: Gauss-Legendre steps are doubled up to this number.
        baseline: of images "mean color", "black" or "blur". A pair, or one for all
            inputs that know it. Default: the encoders' own.
        tokens: attribute to tokens instead of words.
        progress: a bar on standard error, if it takes more than two seconds.
    """

    layer: LayerPair = None
    method: str = INTEGRATED_GRADIENTS
    tolerance: float = 1e-2
    n_steps: int = MOST_STEPS
    baseline: Union[str, tuple[Optional[str], Optional[str]], None] = None
    tokens: bool = False
    progress: bool = False
    absent: str = BASELINE
    n_samples: int = 2048
    seed: int = 0

    @classmethod
    def of(cls, given: Mapping[str, Any], **defaults: Any) -> "Options":
        """Settings by name, if there are such."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise InvalidArgumentError(name, f"one of {', '.join(known)}", "this")
        return cls(**{**defaults, **given})

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidArgumentError(
                "method", f"one of {', '.join(METHODS)}", repr(self.method)
            )
        if self.absent not in (BASELINE, REMOVED):
            raise InvalidArgumentError(
                "absent", f"{BASELINE!r} or {REMOVED!r}", repr(self.absent)
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InvalidArgumentError("seed", "a whole number", describe(self.seed))
        if self.absent == REMOVED and self.method not in SUBSET_METHODS:
            raise InvalidArgumentError(
                "absent",
                f"{BASELINE!r} for {self.method}, which leaves out no features "
                f"({', '.join(SUBSET_METHODS)} do)",
                repr(self.absent),
            )

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
        if self.baseline is None or isinstance(self.baseline, (tuple, list)):
            first, second = self.baseline or (None, None)
            return first, second
        knowing = [self.baseline in e.baselines for e in (model.first, model.second)]
        if not any(knowing):
            model.first.check_baseline(self.baseline)
        name = self.baseline
        return name if knowing[0] else None, name if knowing[1] else None
