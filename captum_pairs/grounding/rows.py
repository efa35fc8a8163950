"""One row studied: the same function wherever it runs."""

import warnings
from collections.abc import Iterable
from typing import Any

from captum_pairs.grounding.data.row import Data, Row
from captum_pairs.grounding.study import Record, Study
from captum_pairs.model import DualEncoder

__all__ = ["failed", "studied", "studied_at"]


def studied_at(
    study: Study, data: Data, places: Iterable[int], model: DualEncoder
) -> list[Record]:
    """The records of the rows at some places; of each at least one."""
    found = []
    # the weights stay as they are meanwhile, and are looked at once
    with model.as_it_is():
        for place in places:
            try:
                row = data[place]
            except Exception as error:  # whatever a reader of broken files raises
                found.append(failed(place, f"row {place}", error))
                continue
            found += studied(study, row, model, place)
    return found


def studied(
    study: Study, row: Row, model: DualEncoder, place: int = -1
) -> list[Record]:
    """
    A row's records with the columns of COMMON.

    What goes wrong with a row is its error, and no other row's: nothing is raised.
    """
    common = {
        "place": place,
        "id": row.id,
        "group": row.group_or_id,
        "image": row.path,
        "caption": row.caption,
        "error": None,
    }
    try:
        with warnings.catch_warnings():
            # what a path's integral misses is in the records
            warnings.simplefilter("ignore")
            found = study.records(row, model)
    except Exception as error:  # whatever a model or a picture's reader raises
        return [{**common, "error": _told(error)}]
    if not found:
        needed = " and ".join(study.needs) or "anything"
        reason = f"nothing to study: {study.name} needs a row with {needed}"
        return [{**common, "error": reason}]
    return [{**common, **record} for record in found]


def failed(place: int, name: str, error: Exception) -> Record:
    """The record of a row that could not be read."""
    return {
        "place": place,
        "id": name,
        "group": name,
        "image": "",
        "caption": "",
        "error": _told(error),
    }


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no reason given"]
    return f"{type(error).__name__}: {lines[0]}"
