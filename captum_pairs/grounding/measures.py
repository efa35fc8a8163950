"""
How well a map points at an object, and what a map that knows nothing scores.

Notation: v (cells,), a phrase's map; S, the cells whose centre lies in the object; o
(cells,), the share of each cell that lies in it; P and N, all positive and all negative
attribution; a = |S| / cells.

| measure | is | chance |
| --- | --- | --- |
| hit (PGA) | the strongest cell is in S; cells that tie count by their share | a |
| energy (PGE) | positive attribution in S, of P | a |
| mass | positive in S and negative outside, of P + N | (P a + N (1 - a)) / (P + N) |
| rank | of the |S| strongest cells, the share in S | a |

Chance is what a measure is on average when *this map's* cells stand in random order.
Where o takes the place of S ("by overlap") an object too small to hold a cell's centre
can score too, and chance has the mean of o in the place of a.

Sources: hit: Zhang et al., ECCV 2016; energy: Wang et al., Score-CAM, CVPR workshops
2020 (PGA and PGE in Möller et al., TMLR 2025); mass: the "pointing game" of FIxLIP;
rank: the relevance rank accuracy of Arras et al., CLEVR-XAI, Information Fusion 2022.
"""

from typing import NamedTuple, Optional

import numpy as np
from captum_pairs.grounding.maps import Floats, Maps
from numpy.typing import NDArray

__all__ = ["center_prior", "Measures", "measured"]

# Of the centre prior, a Gaussian, as a share of the view's sides.
CENTER_DEVIATION = 0.25


class Measures(NamedTuple):
    """
    Of one map and one object; None where there is none.

    Args:
        hit, energy, mass, rank: see this module; None, if the object holds no centre of
            a cell; energy is 0 for a map without positive attribution.
        chance: of hit, energy and rank; mass_chance: of mass.
        energy_overlap, mass_overlap: by overlap.
        chance_overlap, mass_chance_overlap: of these.
    """

    hit: Optional[float]
    energy: Optional[float]
    mass: Optional[float]
    rank: Optional[float]
    chance: float
    mass_chance: Optional[float]
    energy_overlap: float
    mass_overlap: Optional[float]
    chance_overlap: float
    mass_chance_overlap: Optional[float]


def measured(values: Floats, inside: NDArray[np.bool_], overlap: Floats) -> Measures:
    """
    All measures of one map.

    Args:
        values: (cells,).
        inside: (cells,), whether the cell's centre lies in the object.
        overlap: (cells,), the share of the cell that lies in it.
    """
    positive, negative = values.clip(min=0), (-values).clip(min=0)
    total, against = float(positive.sum()), float(negative.sum())
    everything = total + against
    chance, covered = float(inside.mean()), float(overlap.mean())

    def energy(weights: Floats) -> float:
        return float(positive @ weights) / total if total > 0 else 0.0

    def mass(weights: Floats) -> Optional[float]:
        if everything == 0:
            return None
        return float(positive @ weights + negative @ (1 - weights)) / everything

    def mass_chance(share: float) -> Optional[float]:
        if everything == 0:
            return None
        return (total * share + against * (1 - share)) / everything

    holds_centers = bool(inside.any())
    cells = inside.astype(float)
    return Measures(
        hit=_hit(values, inside) if holds_centers else None,
        energy=energy(cells) if holds_centers else None,
        mass=mass(cells) if holds_centers else None,
        rank=_rank(values, inside) if holds_centers else None,
        chance=chance,
        mass_chance=mass_chance(chance) if holds_centers else None,
        energy_overlap=energy(overlap),
        mass_overlap=mass(overlap),
        chance_overlap=covered,
        mass_chance_overlap=mass_chance(covered),
    )


def _hit(values: Floats, inside: NDArray[np.bool_]) -> float:
    strongest = values == values.max()
    return float((strongest & inside).sum() / strongest.sum())


def _rank(values: Floats, inside: NDArray[np.bool_]) -> float:
    """Cells that tie for the last places count by their share."""
    number = int(inside.sum())
    least = np.sort(values)[::-1][number - 1]
    above, tied = values > least, values == least
    left = number - above.sum()
    found = (above & inside).sum() + left * (tied & inside).sum() / tied.sum()
    return float(found / number)


def center_prior(maps: Maps) -> Floats:
    """(cells,): a map that knows nothing but that things are in the middle."""
    left, top, right, bottom = maps.view
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    deviation = CENTER_DEVIATION * np.array([right - left, bottom - top])
    distance = ((maps.centers - middle) / deviation) ** 2
    # rounding must not decide which of the middle cells is strongest
    found: Floats = np.nan_to_num(np.exp(-distance.sum(1) / 2)).round(12)
    return found
