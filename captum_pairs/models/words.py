"""Tokens joined to the words that a person reads."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from captum_pairs.models.encoder import Feature

__all__ = ["Group", "join_tokens", "offsets_of", "token_groups", "word_spans"]

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
# How far ahead the next characters of a token are looked for in the text.
_AHEAD = 24


class Group(NamedTuple):
    """A feature of a text, and the positions of its tokens."""

    feature: Feature
    positions: tuple[int, ...]


def word_spans(text: str) -> list[Span]:
    """Half-open character offsets of the words and of the punctuation between."""
    return [match.span() for match in _WORD.finditer(text)]


def join_tokens(text: str, tokens: Sequence[Feature]) -> tuple[Group, ...]:
    """
    The words of a text as features, special tokens as features of their own after them.

    Args:
        text: what was tokenised.
        tokens: in their order; those that are no part of the text are special.

    Returns:
        Every token is in one group. Words that share a token are one feature; tokens
        that lie on no word (a lone space) are special; specials of one name (padding)
        are one feature.
    """
    spans = word_spans(text)
    groups: list[tuple[Span, list[int]]] = []
    others: list[int] = []
    for position, token in enumerate(tokens):
        start, end = token.span or (0, 0)
        touched = [span for span in spans if span[0] < end and start < span[1]]
        if token.special or not touched:
            others.append(position)
            continue
        span = touched[0][0], touched[-1][1]
        members = [position]
        while groups and groups[-1][0][1] > span[0]:
            earlier, before = groups.pop()
            span = min(earlier[0], span[0]), max(earlier[1], span[1])
            members = [*before, *members]
        groups.append((span, members))
    words = (
        Group(Feature(text[slice(*span)], span=span), tuple(members))
        for span, members in groups
    )
    return (*words, *_specials(tokens, others))


def token_groups(tokens: Sequence[Feature]) -> tuple[Group, ...]:
    """Every token a feature; special ones after the others, those of one name one."""
    ordinary = [at for at, token in enumerate(tokens) if not token.special]
    special = [at for at, token in enumerate(tokens) if token.special]
    groups = (Group(tokens[position], (position,)) for position in ordinary)
    return (*groups, *_specials(tokens, special))


def _specials(tokens: Sequence[Feature], positions: Sequence[int]) -> Iterator[Group]:
    together: dict[str, list[int]] = {}
    for position in positions:
        together.setdefault(tokens[position].name, []).append(position)
    for name, members in together.items():
        yield Group(Feature(name, special=True), tuple(members))


def offsets_of(text: str, surfaces: Sequence[Optional[str]]) -> list[Span]:
    """
    Character offsets of tokens whose tokenizer does not tell them.

    Each token's letters are found in the text, one after the other, whatever case and
    compatibility forms a tokenizer changes on the way. A token of which nothing is
    found (an unknown character) lies on what its neighbours leave.

    Args:
        text: what was tokenised.
        surfaces: of each token, what it stands for, without marks of its tokenizer;
            None for a special token.

    Returns:
        Half-open offsets, (0, 0) for special tokens.
    """
    letters = [
        (letter, index)
        for index, character in enumerate(text)
        for letter in _folded(character)
    ]
    found: list[Optional[Span]] = []
    place = 0
    for surface in surfaces:
        places = []
        for letter in _folded(surface or ""):
            ahead = range(place, min(place + _AHEAD, len(letters)))
            match = next((at for at in ahead if letters[at][0] == letter), None)
            if match is not None:
                places.append(letters[match][1])
                place = match + 1
        found.append((places[0], places[-1] + 1) if places else None)
    return [
        (0, 0) if surface is None else (span or _between(text, found, at))
        for at, (surface, span) in enumerate(zip(surfaces, found))
    ]


def _folded(text: str) -> str:
    """Letters as tokenizers compare them: no case, no width, no accents, no space."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(
        letter
        for letter in plain
        if not letter.isspace() and not unicodedata.combining(letter)
    )


def _between(text: str, found: Sequence[Optional[Span]], at: int) -> Span:
    """What the neighbours of a token leave of the text."""
    start = max((span[1] for span in found[:at] if span), default=0)
    stop = min((span[0] for span in found[at + 1 :] if span), default=len(text))
    while start < stop and text[start].isspace():
        start += 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    return start, max(start, stop)
