#!/usr/bin/env python3
"""The colours of attributions: orange for, purple against, and how far they go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
from captum.attr import visualization as captum_visualization
from captum_pairs.attr._utils.validation import InvalidArgumentError, pair_of
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["ArrayLike", "both", "DIVERGING", "numbers", "Scale", "scale_of"]

ArrayLike = Union[Tensor, NDArray[Any], Sequence[Any]]
Floats = NDArray[np.float64]

# Orange and purple are told apart with any colour vision, and in print by their sign's
# place on the legend; Captum's red and green are not.
DIVERGING = colormaps["PuOr_r"]
# One in so many attributions, and one at least, may be beyond a scale; of fewer than
# these none.
_FEW, _LEAST = 200, 30
_MEANINGS = {
    "all": "for (orange) or against (purple) the match",
    "positive": "for the match",
    "negative": "against the match",
    "absolute_value": "for or against the match",
}


def numbers(value: ArrayLike, argument: str = "attr") -> Floats:
    """
    A tensor, array or list as float64 in memory.

    Raises:
        InvalidArgumentError: if a number is not finite.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise InvalidArgumentError(argument, "finite numbers", "NaN or infinity")
    return array


def both(argument: str, value: Any) -> tuple[Any, Any]:
    """A pair; a tensor or array may hold both."""
    if isinstance(value, (Tensor, np.ndarray)):
        value = list(value)
    return pair_of(argument, value)


@dataclass(frozen=True)
class Scale:
    """
    How attributions become colours.

    Args:
        sign: Captum's: "all", "positive", "negative" or "absolute_value".
        limit: the attribution that has the strongest colour.
        cmap: from the weakest to the strongest; of "all" from the strongest against to
            the strongest for.
        beyond: how many are below and how many above the scale, and are shown like
            its ends.
    """

    sign: str
    limit: float
    cmap: Colormap
    beyond: tuple[int, int] = (0, 0)

    @property
    def is_exceeded(self) -> bool:
        """Whether there are stronger attributions than the limit."""
        return any(self.beyond)

    def shares(self, values: Floats) -> Floats:
        """Of the limit: what `sign` leaves of the values, from -1 to 1."""
        return np.clip(_of_sign(values, self.sign) / self.limit, -1.0, 1.0)

    def colors(self, values: Floats) -> Floats:
        """(...) to (..., 4), from 0 to 1."""
        shares = self.shares(values)
        place = (shares + 1) / 2 if self.sign == "all" else np.abs(shares)
        return np.asarray(self.cmap(place), dtype=np.float64)

    @property
    def mappable(self) -> ScalarMappable:
        """What a legend is drawn of, in the attributions' units."""
        low = -self.limit if self.sign in ("all", "negative") else 0.0
        high = 0.0 if self.sign == "negative" else self.limit
        cmap = self.cmap.reversed() if self.sign == "negative" else self.cmap
        return ScalarMappable(Normalize(low, high), cmap)

    @property
    def extend(self) -> str:
        """At which ends of a legend stronger attributions are pointed to."""
        below, above = map(bool, self.beyond)
        return {
            (False, False): "neither",
            (True, True): "both",
            (True, False): "min",
            (False, True): "max",
        }[below, above]

    def beyond_in_words(self, what: tuple[str, str] = ("value", "values")) -> str:
        """How many are beyond the scale: "1 patch beyond the scale", or ""."""
        number = sum(self.beyond)
        return f"{number} {what[number > 1]} beyond the scale" if number else ""

    @property
    def meaning(self) -> str:
        """The colours in words."""
        return _MEANINGS[self.sign]


def scale_of(
    values: Floats,
    sign: str = "all",
    outlier_perc: Optional[float] = None,
    cmap: Union[str, Colormap, None] = None,
    limit: Optional[float] = None,
) -> Scale:
    """
    The scale of attributions, centred on zero.

    By default it ends at the strongest one, unless that would leave the others pale:
    at most at twice the strongest of those that are not among the strongest half per
    cent (of up to 200 one; of fewer than 30 none).

    Args:

        values (array): All that share it.
        sign (str): See :class:`Scale`.
        outlier_perc (float, optional): As Captum's: the strongest values that make up
            that percentage of the sum of all are shown like the weakest of them. (One
            that is more than that on its own is not cut.) Default: see above.
        cmap (str or Colormap): Default: purple, white, orange for "all" and a half of
            it for one sign.
        limit (float): What has the strongest colour, if not found from the values.

    Raises:
        InvalidArgumentError: naming what does not fit.
    """
    names = [each.name for each in captum_visualization.VisualizeSign]
    if sign not in names:
        raise InvalidArgumentError("sign", f"one of {', '.join(names)}", repr(sign))
    if outlier_perc is not None and not 0 <= outlier_perc <= 100:
        raise InvalidArgumentError("outlier_perc", "from 0 to 100", f"{outlier_perc}")
    shown = _of_sign(values, sign)
    sizes = np.abs(shown).ravel()
    if limit is None and outlier_perc is None:
        limit = _robust(sizes)
    elif limit is None:
        assert outlier_perc is not None  # one of the two is given
        limit = _threshold(sizes, outlier_perc)
    elif not 0 < limit < np.inf:
        raise InvalidArgumentError("limit", "a number above zero", f"{limit}")
    chosen = _colors_of(sign) if cmap is None else cmap
    if isinstance(chosen, str):
        chosen = colormaps[chosen]
    most = limit * (1 + 1e-9)
    beyond = int((shown < -most).sum()), int((shown > most).sum())
    return Scale(sign, limit, chosen, beyond)


def _of_sign(values: Floats, sign: str) -> Floats:
    if sign == "absolute_value":
        return np.abs(values)
    low = 0.0 if sign == "positive" else -np.inf
    return np.clip(values, low, 0.0 if sign == "negative" else np.inf)


def _robust(sizes: Floats) -> float:
    """The largest, or twice the largest of what is not among the strongest few."""
    ordered = np.sort(sizes)[::-1]
    if not len(ordered) or not ordered[0]:
        return 1.0
    few = -(-len(ordered) // _FEW) if len(ordered) >= _LEAST else 0
    return min(float(ordered[0]), 2 * float(ordered[few])) or float(ordered[0])


def _threshold(sizes: Floats, outlier_perc: float) -> float:
    """Captum's rule; 1 where every value is zero, which Captum can't scale."""
    ordered = np.sort(sizes)
    sums = np.cumsum(ordered)
    if not sizes.size or sums[-1] <= 0:
        return 1.0
    at = int(np.searchsorted(sums, sums[-1] * (1 - outlier_perc / 100)))
    limit = float(ordered[min(at, len(ordered) - 1)])
    return limit if limit > 0 else float(ordered[-1])


def _colors_of(sign: str) -> Colormap:
    halves = {"positive": (0.5, 1.0), "negative": (0.5, 0.0)}
    if sign == "absolute_value":
        return colormaps["Blues"]
    if sign == "all":
        return DIVERGING
    return ListedColormap(DIVERGING(np.linspace(*halves[sign], 256)), f"PuOr_r {sign}")
