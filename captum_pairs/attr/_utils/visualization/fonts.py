#!/usr/bin/env python3
"""Text in any script: which font has it, how wide it is, where its lines break.

Matplotlib takes a list of families and looks for each character in one after the other,
but only among the families it is told. Here they are found; a character that no font
has is drawn as an empty box, without the warning that each of them would give.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Optional

from matplotlib import rcParams
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import (
    findfont,
    findSystemFonts,
    fontManager,
    FontProperties,
    get_font,
)

__all__ = [
    "is_right_to_left",
    "legible",
    "Line",
    "lines_of",
    "Piece",
    "pieces_of",
    "shortened",
    "weight_for",
    "width_of",
    "wrapped",
]

# What stands for a character that no font has, and after what was cut off.
MISSING, ELLIPSIS = "□", "…"
# Categories of characters that have no shape of their own: left out where no font has
# them.
_INVISIBLE = {"Cc", "Cf", "Cs", "Mn", "Me"}


class Piece(NamedTuple):
    """A word and its number, or what stands between words (no number)."""

    text: str
    word: Optional[int]


class Line(NamedTuple):
    """The pieces of a line, and where each begins and how wide it is, in points."""

    pieces: list[tuple[Piece, float, float]]
    width: float


# ---- which font ------------------------------------------------------------


def legible(text: str) -> tuple[str, list[str]]:
    """
    A text as it can be drawn, and the font families to draw it with.

    Every kind of space but a line's end becomes a plain one.
    """
    usual = tuple(rcParams["font.family"])
    families = list(usual)
    drawn = []
    for character in re.sub(r"[^\S\n]", " ", text):
        family = _family_of(character, usual)
        if family is None:
            hidden = unicodedata.category(character) in _INVISIBLE
            drawn.append("" if hidden else MISSING)
            continue
        drawn.append(character)
        if family and family not in families:
            families.append(family)
    return "".join(drawn), families


def weight_for(text: str, weight: str = "bold") -> str:
    """The weight, if the usual font has all of a text: others may lack it, and then
    matplotlib says so on standard error."""
    _, families = legible(text)
    return weight if families == list(rcParams["font.family"]) else "normal"


@lru_cache(maxsize=None)
def _family_of(character: str, usual: tuple[str, ...]) -> Optional[str]:
    """The family that has a character: "" for the usual one, None if there is none."""
    if character in " \n":
        return ""
    code = ord(character)
    if code in _characters(findfont(FontProperties(family=list(usual)))):
        return ""
    for path in _candidates():
        if code in _characters(path):
            return _family_name(path)
    return None


def _candidates() -> list[str]:
    """Files of fonts: regular sans serif ones first, those of Noto before others."""
    known = [entry.fname for entry in fontManager.ttflist]
    return sorted({*known, *_system_fonts()}, key=_rank)


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[str, ...]:
    # matplotlib's own list is cached on disk and lacks what was installed since
    return tuple(findSystemFonts())


def _rank(path: str) -> tuple[bool, bool, bool, str]:
    name = Path(path).name
    return ("Mono" in name, "NotoSans" not in name, "Regular" not in name, name)


@lru_cache(maxsize=None)
def _characters(path: str) -> frozenset[int]:
    """The characters of a font; none of one that can't be used."""
    # Last Resort draws a box for everything; Computer Modern has an encoding of its own
    if re.match("cm[a-z]+10|LastResort", Path(path).name):
        return frozenset()
    try:
        font = get_font(path)
        if not font.scalable:
            return frozenset()
        return frozenset(code for code, glyph in font.get_charmap().items() if glyph)
    except (OSError, RuntimeError, NotImplementedError, ValueError):
        return frozenset()


def _family_name(path: str) -> str:
    """The name by which matplotlib finds a font, which gets to know it if need be."""
    for entry in fontManager.ttflist:
        if entry.fname == path:
            return str(entry.name)
    fontManager.addfont(path)
    return str(fontManager.ttflist[-1].name)


# ---- how wide --------------------------------------------------------------


@lru_cache(maxsize=8192)
def width_of(text: str, size: float, weight: str = "normal") -> float:
    """
    The width of a line of text, in whatever script, in the fonts that have it.

    Args:

        text (str): One line.
        size (float): In points.
        weight (str): Where the fonts have it.

    Returns:
        Points.
    """
    if not text:
        return 0.0
    drawn, families = legible(text)
    weight = weight_for(text, weight)
    properties = FontProperties(family=families, size=size, weight=weight)
    ruler: Any = _ruler()  # matplotlib's backends are untyped
    width, _, _ = ruler.get_text_width_height_descent(drawn, properties, False)
    return float(width) * 72 / _RULER_DPI


_RULER_DPI = 288


@lru_cache(maxsize=1)
def _ruler() -> RendererAgg:
    return RendererAgg(16, 16, _RULER_DPI)  # type: ignore[no-untyped-call]  # theirs


def is_right_to_left(text: str) -> bool:
    """Whether the first letter with a direction belongs to Arabic, Hebrew or the
    like."""
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in ("L", "R", "AL"):
            return direction != "L"
    return False


def shortened(text: str, most: float, size: float, weight: str = "normal") -> str:
    """A text that is at most so many points wide, with … where it was cut."""
    if width_of(text, size, weight) <= most:
        return text
    kept = text
    while kept and width_of(kept + ELLIPSIS, size, weight) > most:
        kept = kept[:-1]
    return kept.rstrip() + ELLIPSIS


# ---- where lines break -----------------------------------------------------


def wrapped(text: str, most: float, size: float, weight: str = "normal") -> str:
    """A text with line breaks, so that no line is wider than so many points."""
    lines = lines_of(pieces_of(_tokens(text), text), most, size, weight)
    return "\n".join("".join(p.text for p, _, _ in line.pieces) for line in lines)


def _tokens(text: str) -> list[str]:
    """Words; in scripts that are written without spaces, characters."""
    wide = {c for c in text if unicodedata.east_asian_width(c) in "WF"}
    if not wide:
        return text.split()
    anyone = "".join(map(re.escape, sorted(wide)))
    return re.findall(rf"[{anyone}]|[^\s{anyone}]+", text)


def pieces_of(words: Sequence[str], text: Optional[str] = None) -> list[Piece]:
    """
    Words and what stands between them.

    Args:
        words: in their order.
        text: where they stand one after the other, if not just with spaces between.
    """
    pieces: list[Piece] = []
    at = 0
    for index, word in enumerate(words):
        found = -1 if text is None else text.find(word, at)
        if text is None or found < 0:
            return _spaced(words)
        if found > at:
            pieces.append(Piece(text[at:found], None))
        pieces.append(Piece(word, index))
        at = found + len(word)
    if text is not None and at < len(text):
        pieces.append(Piece(text[at:], None))
    return pieces


def _spaced(words: Sequence[str]) -> list[Piece]:
    pieces = [Piece(" ", None)] * (2 * len(words) - 1)
    pieces[::2] = [Piece(word, index) for index, word in enumerate(words)]
    return pieces


def lines_of(
    pieces: Sequence[Piece],
    most: float,
    size: float,
    weight: str = "normal",
    between: float = 0.0,
) -> list[Line]:
    """Pieces in lines at most so many points wide: broken at spaces, between words that
    have none, and within a word only if it is wider than a line. Words that have no
    space between stand so many points apart."""
    space = width_of(" ", size, weight)
    lines = [Line([], 0.0)]
    for spaced, unit in _units(pieces, most, size, weight):
        line = lines[-1]
        gap = space if spaced and line.pieces else 0.0
        behind = line.pieces[-1][0] if line.pieces and not spaced else None
        before = [between * _adjoin(*two) for two in zip([behind, *unit], unit)]
        widths = [width_of(piece.text, size, weight) for piece in unit]
        if line.pieces and line.width + gap + sum(before) + sum(widths) > most:
            lines.append(line := Line([], 0.0))
            gap = before[0] = 0.0
        if gap:
            line.pieces.append((Piece(" ", None), line.width, gap))
        x = line.width + gap
        for piece, apart, width in zip(unit, before, widths):
            line.pieces.append((piece, x + apart, width))
            x += apart + width
        lines[-1] = Line(line.pieces, x)
    return lines


def _adjoin(one: Optional[Piece], other: Piece) -> bool:
    """Whether two pieces are words, and not parts of the same."""
    words = (None if one is None else one.word), other.word
    return None not in words and words[0] != words[1]


def _units(
    pieces: Sequence[Piece], most: float, size: float, weight: str
) -> Iterator[tuple[bool, list[Piece]]]:
    """What is kept on one line, and whether a space stands before it: a word with the
    punctuation around it."""
    unit: list[Piece] = []
    spaced = False
    for part in _parts(pieces, most, size, weight):
        is_space = part.word is None and part.text.isspace()
        joins = part.word is None or not unit or unit[-1].word is None
        if unit and (is_space or not (joins or not part.text[0].isalnum())):
            yield spaced, unit
            unit, spaced = [], False
        if is_space:
            spaced = True
        else:
            unit.append(part)
    if unit:
        yield spaced, unit


def _parts(
    pieces: Sequence[Piece], most: float, size: float, weight: str
) -> Iterator[Piece]:
    """Pieces that fit on a line; those between words cut at spaces."""
    for piece in pieces:
        if piece.word is None:
            for part in re.findall(r"\s+|\S+", piece.text):
                yield Piece(part, None)
            continue
        rest = piece.text
        while rest:
            stop = len(rest)
            while stop > 1 and width_of(rest[:stop], size, weight) > most:
                stop -= 1
            yield Piece(rest[:stop], piece.word)
            rest = rest[stop:]
