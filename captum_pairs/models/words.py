"""Tokens joined to the words that a person reads.

A word is a run of letters, digits and their marks, by Unicode's categories, with
apostrophes and hyphens inside; what stands between, but for space, is a word of its
own. Scripts that are written without spaces are not segmented into words, which would
need a dictionary: each character with its marks is one (of Chinese and Japanese a
character, of Thai, Lao, Khmer and Burmese a cluster). Tibetan is cut into syllables.
Emoji, flags and keycaps are kept whole.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from captum_pairs.models.encoder import Feature

__all__ = [
    "Group",
    "join_tokens",
    "offsets_of",
    "surface_of",
    "token_groups",
    "word_spans",
]

Span = tuple[int, int]

# Scripts without spaces: kana, ideographs, Thai, Lao, Burmese, Khmer, those of the Tai.
_UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF)),
    *((0x1A20, 0x1AAF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAADF)),
    *((0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F), (0x20000, 0x3FFFF)),
)
_SPACE, _LETTER, _ALONE, _OTHER = range(4)
# Between letters they are a part of the word: apostrophes, hyphens, the Hebrew marks of
# abbreviations, the Catalan dot.
_CONNECTORS = frozenset("'’-\u2010\u2011\u05f3\u05f4\u00b7")
# Joiners, and marks of where a line may or may not be broken.
_INVISIBLE = frozenset("\u00ad\u034f\u200c\u200d\u200e\u200f\u2060")
_NO_WIDTH_SPACES = "\u200b\ufeff"
_JOINER, _KEYCAP = "\u200d", "\u20e3"
# What comes next stands below what came before: Burmese, Khmer, Tai Tham.
_STACKERS = "\u1039\u17d2\u1a60"
# Vowels that are written behind their letter, though no marks by their category.
_TRAILING = "\u0e33\u0eb3"
# Tibetan's, behind a syllable.
_SYLLABLE_ENDS = "\u0f0b\u0f0c"
# So many pairs of letters are aligned in the best way.
_MOST_PAIRS = 40_000_000


class Group(NamedTuple):
    """A feature of a text, and the positions of its tokens."""

    feature: Feature
    positions: tuple[int, ...]


def word_spans(text: str) -> list[Span]:
    """Half-open character offsets of the words and of the punctuation between."""
    clusters = list(_clusters(text))
    spans: list[Span] = []
    last = _SPACE
    for at, (start, end, kind) in enumerate(clusters):
        joins = kind == last and kind in (_LETTER, _OTHER)
        if kind == _OTHER and last == _LETTER:
            following = clusters[at + 1][2] if at + 1 < len(clusters) else _SPACE
            inside = text[start] in _CONNECTORS and following == _LETTER
            if inside or text[start] in _SYLLABLE_ENDS:
                joins, kind = True, _LETTER if inside else _SPACE
        if joins:
            spans[-1] = spans[-1][0], end
        elif kind != _SPACE:
            spans.append((start, end))
        last = kind
    return spans


def _clusters(text: str) -> Iterator[tuple[int, int, int]]:
    """Characters with what belongs to them, and of which kind they are."""
    at = 0
    while at < len(text):
        start, kind = at, _kind(text[at])
        at += 1
        if kind != _SPACE:
            while at < len(text) and _belongs(text, start, at, kind):
                at += 1
            if _KEYCAP in text[start:at]:
                kind = _OTHER
        yield start, at, kind


def _kind(character: str) -> int:
    if character.isspace() or character in _NO_WIDTH_SPACES:
        return _SPACE
    category = unicodedata.category(character)
    if category[0] in "LM" or character in "\u3007":
        number = ord(character)
        unspaced = any(first <= number <= last for first, last in _UNSPACED)
        return _ALONE if unspaced else _LETTER
    return _LETTER if category[0] == "N" else _OTHER


def _belongs(text: str, start: int, at: int, kind: int) -> bool:
    """Whether a character is a part of the one that began before it."""
    character, before = text[at], text[at - 1]
    if character in _INVISIBLE or character in _TRAILING:
        return True
    category = unicodedata.category(character)
    if category[0] == "M" or "\U000e0020" <= character <= "\U000e007f":  # tags
        return True
    if kind == _OTHER:
        if "\U0001f3fb" <= character <= "\U0001f3ff":  # skin tones
            return True
        return before == _JOINER and category == "So"
    return before in _STACKERS and category[0] == "L"


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
        Group(_word(text, span, [tokens[at] for at in members]), tuple(members))
        for span, members in groups
    )
    return (*words, *_specials(tokens, others))


def _word(text: str, span: Span, tokens: Sequence[Feature]) -> Feature:
    unknown = any(token.unknown for token in tokens)
    return Feature(text[slice(*span)], span=span, unknown=unknown)


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

    As many of the tokens' letters as possible are found in the text, in their order,
    whatever case and compatibility forms a tokenizer changes on the way and however
    much it drops. A token of which nothing is found (an unknown character) lies on what
    its neighbours leave.

    Args:
        text: what was tokenised.
        surfaces: of each token, what it stands for, without marks of its tokenizer; ""
            if that is not known, None for a special token.

    Returns:
        Half-open offsets, (0, 0) for special tokens.
    """
    letters = [
        (letter, index)
        for index, character in enumerate(text)
        for letter in _folded(character)
    ]
    wanted = [
        (letter, index)
        for index, surface in enumerate(surfaces)
        for letter in _folded(surface or "")
    ]
    pairs = list(_aligned([w for w, _ in wanted], [w for w, _ in letters]))
    for at in range(len(pairs) - 2, -1, -1):
        (mine, _), (after, its) = pairs[at], pairs[at + 1]
        # what may lie beside the next letter of its token lies there
        one_token = after == mine + 1 and wanted[after][1] == wanted[mine][1]
        if one_token and letters[its - 1][0] == wanted[mine][0]:
            pairs[at] = mine, its - 1
    places: list[list[int]] = [[] for _ in surfaces]
    for mine, its in pairs:
        places[wanted[mine][1]].append(letters[its][1])
    found = [(p[0], p[-1] + 1) if p else None for p in places]
    return [
        (0, 0) if surface is None else (span or _between(text, found, at))
        for at, (surface, span) in enumerate(zip(surfaces, found))
    ]


def _aligned(first: list[str], second: list[str]) -> Iterator[tuple[int, int]]:
    """Pairs of indices of equal letters in both orders: as many as possible, and the
    first ones of these (of very long texts always the next ones)."""
    if len(first) * len(second) > _MOST_PAIRS:
        yield from _next_ones(first, second)
        return
    a, b = (
        np.array([ord(c) for c in letters], np.int32) for letters in (first, second)
    )
    # (i, j): how many of first[i:] and second[j:] can be paired
    rest = np.zeros((len(a) + 1, len(b) + 1), np.int16 if len(a) < 2**15 else np.int32)
    for i in range(len(a) - 1, -1, -1):
        row = np.maximum(rest[i + 1, :-1], rest[i + 1, 1:] + (b == a[i]))
        rest[i, :-1] = np.maximum.accumulate(row[::-1])[::-1]
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j] and rest[i, j] == rest[i + 1, j + 1] + 1:
            yield i, j
            i, j = i + 1, j + 1
        elif rest[i + 1, j] == rest[i, j]:
            i += 1
        else:
            j += 1


def _next_ones(first: list[str], second: list[str]) -> Iterator[tuple[int, int]]:
    place = 0
    for at, letter in enumerate(first):
        try:
            place = second.index(letter, place) + 1
        except ValueError:
            continue
        yield at, place - 1


def surface_of(name: str, tokenizer: Any) -> str:
    """What a token of a tokenizer of transformers stands for, by its name; "" for an
    unknown one."""
    if name == tokenizer.unk_token:
        return ""
    return name.replace("▁", "").removesuffix("</w>")


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
