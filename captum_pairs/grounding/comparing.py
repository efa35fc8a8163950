"""
Two runs of a study, row by row: before and after fine-tuning, two models, in-domain
against out-of-domain; and a curve over a list of checkpoints.

>>> before, after = (grounding.load(name) for name in ("withheld", "finetuned"))
>>> grounding.compare(before, after)["classes"]
"""

import re
from collections.abc import Sequence
from typing import Any, Optional, TYPE_CHECKING

import numpy as np
import pyarrow
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.studies.summaries import Estimate, Resampling, table
from captum_pairs.grounding.study import Study
from numpy.typing import NDArray

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = ["compare", "curve"]

# Of images with a class, the least that it is judged by.
LEAST_IMAGES = 10


def compare(before: "Results", after: "Results") -> dict[str, pyarrow.Table]:
    """
    What changed from one run to another of the same study.

    Rows of the same id (and span, or method), caption and file of the image are
    compared with one another. If the two have no row in common, they are of other data:
    then means are compared, the images of each drawn on their own.

    Returns:
        "overall": a row for each measure: before, after, their difference, its
        interval; "classes", if the study has such: the same for each class, with
        intervals that hold for all classes of a measure at once, and a verdict:
        "improved" or "forgotten" if the interval lies on one side of zero, else "not
        told", or "too few" in under ten images; "rows": how many are compared, and how
        many only one of the two has.

    Raises:
        InvalidArgumentError: naming ``after``, if it is of another study.
    """
    study = before.study
    if after.study.name != study.name:
        raise InvalidArgumentError(
            "after", f"results of the study {study.name}", f"of {after.study.name}"
        )
    keys = ["id", "caption", *study.keys]
    places = [_places(results, keys) for results in (before, after)]
    shared = sorted(places[0].keys() & places[1].keys())
    counts = [
        {"rows": name, "number": number}
        for name, number in (
            ("compared", len(shared)),
            ("only before", len(places[0]) - len(shared)),
            ("only after", len(places[1]) - len(shared)),
        )
    ]
    tables = {"rows": table(counts, ["rows", "number"])}
    if shared:
        chosen = [np.array([at[key] for key in shared]) for at in places]
        return {**tables, **_paired(before, after, chosen, study)}
    return {**tables, **_unpaired(before, after, study)}


def _places(results: "Results", keys: Sequence[str]) -> dict[tuple[Any, ...], int]:
    columns = [results.column(name).tolist() for name in keys]
    # ids may be numbers of lines, which other data has too; a file may be elsewhere now
    columns.append([re.split(r"[\\/]", p)[-1] for p in results.column("image")])
    return {key: at for at, key in enumerate(zip(*columns))}


def _paired(
    before: "Results",
    after: "Results",
    chosen: Sequence[NDArray[np.int64]],
    study: Study,
) -> dict[str, pyarrow.Table]:
    resampling = Resampling(before.column("group")[chosen[0]])
    names, codes = _classes(study, before.column(study.classes or "id")[chosen[0]])
    overall, by_class = [], []
    for measure, better in study.compared.items():
        one = before.column(measure)[chosen[0]]
        other = after.column(measure)[chosen[1]]
        both = np.isfinite(one) & np.isfinite(other)
        one, other = np.where(both, one, np.nan), np.where(both, other, np.nan)
        found = [resampling.mean(each) for each in (one, other, other - one)]
        overall += _rows(measure, better, [""], *found)
        if names:
            number = len(names)
            found = [
                resampling.mean(each, codes, number)
                for each in (one, other, other - one)
            ]
            by_class += _rows(measure, better, names, *found)
    return _as_tables(overall, by_class)


def _unpaired(
    before: "Results", after: "Results", study: Study
) -> dict[str, pyarrow.Table]:
    both = (before, after)
    drawn = [Resampling(results.column("group")) for results in both]
    labels = [results.column(study.classes or "id") for results in both]
    names, codes = _classes(study, np.concatenate(labels))
    split = np.split(codes, [len(labels[0])])
    overall, by_class = [], []
    for measure, better in study.compared.items():
        values = [results.column(measure) for results in both]
        one, other = (each.mean(v) for each, v in zip(drawn, values))
        overall += _rows(measure, better, [""], one, other, other - one)
        if names:
            one, other = (
                each.mean(v, code, len(names))
                for each, v, code in zip(drawn, values, split)
            )
            by_class += _rows(measure, better, names, one, other, other - one)
    return _as_tables(overall, by_class)


def _classes(study: Study, labels: NDArray[Any]) -> tuple[list[str], NDArray[np.int64]]:
    if not study.classes:
        return [], np.zeros(len(labels), dtype=np.int64)
    names, codes = np.unique(labels, return_inverse=True)
    return [str(name) for name in names], codes.astype(np.int64)


def _rows(
    measure: str,
    better: int,
    names: Sequence[str],
    one: Estimate,
    other: Estimate,
    difference: Estimate,
) -> list[dict[str, Any]]:
    # both runs need enough images
    images = np.minimum(one.images, other.images)
    enough = images >= LEAST_IMAGES
    if len(names) > 1:
        low, high = difference.simultaneous(enough)
    else:
        low, high = difference.interval()
    rows = []
    for at, name in enumerate(names):
        verdict = "not told"
        if not enough[at]:
            verdict = "too few"
        elif low[at] > 0 or high[at] < 0:
            verdict = "improved" if low[at] * better > 0 else "forgotten"
        rows.append(
            {
                "measure": measure,
                "class": name,
                "before": one.value[at],
                "after": other.value[at],
                "difference": difference.value[at],
                "low": low[at],
                "high": high[at],
                "verdict": verdict,
                "rows": difference.rows[at],
                "images": images[at],
            }
        )
    return rows


def _as_tables(
    overall: Sequence[dict[str, Any]], by_class: Sequence[dict[str, Any]]
) -> dict[str, pyarrow.Table]:
    names = ["measure", "class", "before", "after", "difference", "low", "high"]
    names += ["verdict", "rows", "images"]
    found = {"overall": table(overall, [n for n in names if n != "class"])}
    if by_class:
        found["classes"] = table(by_class, names)
    return found


def curve(
    results: Sequence["Results"], names: Optional[Sequence[str]] = None
) -> pyarrow.Table:
    """
    A study's measures over checkpoints.

    Args:
        results: one of each checkpoint, in their order.
        names: of the checkpoints. Default: their models'

    Returns:
        a row for each checkpoint, measure and class ("" is all): name, step (from 0),
        measure, class, value, low, high, rows, images.

    Raises:
        InvalidArgumentError: naming ``results``, if there are none or they are of
            several studies; ``names``, if there are more or fewer.
    """
    if not results or len({each.study.name for each in results}) > 1:
        came = ", ".join(each.study.name for each in results) or "none"
        raise InvalidArgumentError("results", "one or more of one study", came)
    if names is not None and len(names) != len(results):
        raise InvalidArgumentError("names", f"{len(results)}", f"{len(names)}")
    rows = []
    for step, each in enumerate(results):
        study, resampling = each.study, Resampling(each.column("group"))
        known, codes = _classes(study, each.column(study.classes or "id"))
        name = each.plan["model"] if names is None else names[step]
        for measure in study.compared:
            values = each.column(measure)
            found = [([""], resampling.mean(values))]
            if known:
                found.append((known, resampling.mean(values, codes, len(known))))
            for classes, estimate in found:
                low, high = estimate.interval()
                for at, label in enumerate(classes):
                    rows.append(
                        {
                            "name": name,
                            "step": step,
                            "measure": measure,
                            "class": label,
                            "value": estimate.value[at],
                            "low": low[at],
                            "high": high[at],
                            "rows": estimate.rows[at],
                            "images": estimate.images[at],
                        }
                    )
    columns = ["name", "step", "measure", "class", "value", "low", "high"]
    return table(rows, [*columns, "rows", "images"])
