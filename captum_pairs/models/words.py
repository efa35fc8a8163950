"""Tokens joined to the words that a person reads."""

import re
from collections.abc import Sequence

from captum_pairs.models.encoder import Feature

__all__ = ["join_tokens", "word_spans"]

Span = tuple[int, int]

# An ideograph or kana; a run of letters, digits and their marks, with apostrophes and
# hyphens inside; or a run of anything else but space.
_LETTER = r"[^\W_]|[\u0300-\u036f\u0900-\u0dff\u0e31-\u0e4e]"
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]"
    rf"|(?:(?![\u3040-\u30ff\u3400-\u9fff])(?:{_LETTER}))+"
    rf"(?:['’\-](?:(?![\u3040-\u30ff\u3400-\u9fff])(?:{_LETTER}))+)*"
    r"|(?:(?![^\W_])\S)+"
)


def word_spans(text: str) -> list[Span]:
    """Half-open character offsets of the words and of the punctuation between."""
    return [match.span() for match in _WORD.finditer(text)]


def join_tokens(
    text: str, offsets: Sequence[Span], names: Sequence[str], special: Sequence[bool]
) -> tuple[Feature, ...]:
    """
    The words of a text as features, special tokens as features of their own after them.

    Args:
        text: what was tokenised.
        offsets: of each token, half-open character offsets in the text.
        names: of each token.
        special: of each token, whether it is no part of the text.

    Returns:
        Every token is in one feature. Words that share a token are one feature; tokens
        that lie on no word (a lone space) are special.
    """
    spans = word_spans(text)
    groups: list[tuple[Span, list[int]]] = []
    others: list[Feature] = []
    for position, (start, end) in enumerate(offsets):
        touched = [span for span in spans if span[0] < end and start < span[1]]
        if special[position] or not touched:
            others.append(Feature(names[position], (position,), special=True))
            continue
        span = touched[0][0], touched[-1][1]
        tokens = [position]
        while groups and groups[-1][0][1] > span[0]:
            earlier, before = groups.pop()
            span = min(earlier[0], span[0]), max(earlier[1], span[1])
            tokens = [*before, *tokens]
        groups.append((span, tokens))
    words = [
        Feature(text[slice(*span)], tuple(tokens), span=span) for span, tokens in groups
    ]
    return (*words, *others)
