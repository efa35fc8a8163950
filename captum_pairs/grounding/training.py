"""What a model was trained on, by class."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Union

from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.row import Data
from captum_pairs.grounding.data.words import Names

__all__ = ["class_counts"]

# Rows that are looked at for the data's classes.
_LOOKED_AT = 5000


def class_counts(path: Union[str, Path], data: Data) -> dict[str, int]:
    """
    How often each class was in a training corpus.

    Args:
        path: a JSON file {class: count}; a CSV file of class and count, with a line of
            names above; or a text file of captions, one a line, in which each class of
            the data is looked for (see :mod:`captum_pairs.grounding.data.words`) and
            counted once a caption.
        data: whose classes these are.

    Raises:
        InvalidArgumentError: naming ``trained_on``, the file, the line and what was
            expected; also if it counts none of the data's classes, which are then
            called otherwise.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = f"{file}: {getattr(error, 'strerror', None) or error}"
        raise InvalidArgumentError("trained_on", "a file", reason) from error
    if file.suffix.lower() == ".json":
        return _of_this(data, _of_json(file, text), file)
    if file.suffix.lower() == ".csv":
        return _of_this(data, _of_csv(file, text), file)
    return _of_captions(text, data)


def _of_this(data: Data, counts: dict[str, int], file: Path) -> dict[str, int]:
    """Counts that have at least one of the data's classes."""
    looked_at = set()
    for label in _labels(data):
        if label in counts:
            return counts
        looked_at.add(label)
    if looked_at:
        expected = f"counts of the data's classes ({_some(looked_at)})"
        came = f"{file}: {_some(counts) or 'none'}"
        raise InvalidArgumentError("trained_on", expected, came)
    return counts


def _some(labels: Iterable[str], most: int = 5) -> str:
    names = sorted(labels)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _labels(data: Data) -> Iterator[str]:
    """Of what the first rows name and show; of rows that can't be read none."""
    for place in range(min(len(data), _LOOKED_AT)):
        try:
            row = data[place]
        except (OSError, ValueError):
            continue  # its error is in the results
        yield from (each.label for each in (*row.spans, *row.objects))


def _of_json(file: Path, text: str) -> dict[str, int]:
    expected = 'counts of classes, {"dog": 4385, ...}'
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidArgumentError(
            "trained_on", expected, f"{file}: {error}"
        ) from error
    if not isinstance(found, dict) or not all(_is_count(n) for n in found.values()):
        raise InvalidArgumentError("trained_on", expected, f"{file}: something else")
    return {str(label): int(number) for label, number in found.items()}


def _is_count(number: Any) -> bool:
    return type(number) is int and number >= 0


def _of_csv(file: Path, text: str) -> dict[str, int]:
    counts = {}
    for line, row in enumerate(csv.reader(text.splitlines()), 1):
        if not row or line == 1:
            continue
        if len(row) < 2 or not row[1].strip().isdigit():
            raise InvalidArgumentError(
                "trained_on", "a class and a count", f"{file}, line {line}: {row}"
            )
        counts[row[0].strip()] = int(row[1])
    return counts


def _of_captions(text: str, data: Data) -> dict[str, int]:
    labels = set(_labels(data))
    names = Names(sorted(labels))
    counts: Counter[str] = Counter(dict.fromkeys(sorted(labels), 0))
    for line in text.splitlines():
        counts.update({mention.label for mention in names.find(line)})
    return dict(counts)
