"""Which words two captions differ in."""

from typing import Optional

from captum_pairs.grounding.data.row import Changed, Offsets
from captum_pairs.models.words import word_spans

__all__ = ["changed_between"]


def changed_between(kind: str, caption: str, negative: str) -> Optional[Changed]:
    """
    The shortest run of words of each caption without which the two say the same, but
    for case: what stands between their common beginning and their common end.

    Args:
        kind: of the change.
        caption, negative: the right and the wrong caption.

    Returns:
        the runs, one of which is None if the other caption only has more words; None,
        if the two have the same words.
    """
    spans = word_spans(caption), word_spans(negative)
    words = [
        [text[slice(*span)].casefold() for span in found]
        for text, found in zip((caption, negative), spans)
    ]
    shorter = min(map(len, words))
    start = 0
    while start < shorter and words[0][start] == words[1][start]:
        start += 1
    end = 0
    while end < shorter - start and words[0][-1 - end] == words[1][-1 - end]:
        end += 1
    right, wrong = (_run(found, start, len(found) - end) for found in spans)
    return None if right is None and wrong is None else Changed(kind, right, wrong)


def _run(spans: list[Offsets], start: int, end: int) -> Optional[Offsets]:
    return (spans[start][0], spans[end - 1][1]) if start < end else None
