"""How the report says numbers and what was measured."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Optional

from captum_pairs.show.wording import typeset

__all__ = [
    "between",
    "heading",
    "MEASURES",
    "number",
    "QUESTIONS",
    "said",
    "SCORES",
    "share",
]

_AREAS = ("insertion", "deletion")

QUESTIONS: Mapping[str, str] = {
    "grounding": "Does what a phrase matched lie where the object is?",
    "faithfulness": "Do attributions say what the score depends on?",
    "negatives": "Does the model account for a caption with a wrong word?",
    "gaps": "Which classes does the model not know?",
    "failures": "Why are objects badly grounded?",
    "retrieval": "Does the model find the picture of a caption, and its caption?",
}

# What a measure is, in words that need no others.
MEASURES: Mapping[str, str] = {
    "hit": "the place that the phrase matched most lies in the object",
    "energy": "share of what the phrase matched that lies in the object",
    "energy_overlap": "share of what the phrase matched that lies in the object",
    "mass": "matched in the object and mismatched outside of it",
    "mass_overlap": "matched in the object and mismatched outside of it",
    "rank": "share of the places matched most that lies in the object",
    "word_hit": "the place that the class word alone matched most lies in the object",
    "word_energy": "share of what the class word alone matched that lies in the object",
    "word_energy_overlap": "share of what the class word alone matched in the object",
    "phrase_hit": "the place that the whole phrase matched most lies in the object",
    "phrase_energy": "share of what the whole phrase matched in the object",
    "phrase_energy_overlap": "share of what the whole phrase matched in the object",
    "score_lower": "the wrong caption scores lower than the true one",
    "wrong_negative": "the wrong word counts against the match",
    "wrong_below_right": "the wrong word counts for less than the right one",
    "lowest": "no word of the wrong caption counts for less than the wrong one",
    "score": "similarity of picture and caption",
    "image_insertion": "mean similarity as the picture is put in, best first",
    "image_deletion": "mean similarity as the picture is taken out, best first",
    "text_insertion": "mean similarity as words are put in, best first",
    "text_deletion": "mean similarity as words are taken out, best first",
}

# What is no share of anything.
SCORES = {"score"} | {f"{of}_{how}" for of in ("image", "text") for how in _AREAS}

_HEADINGS: Mapping[str, str] = {
    "label": "class",
    "g": "above chance",
    "word_g": "class word, above chance",
    "phrase_g": "phrase, above chance",
    "word_less_others": "class word, less others",
    "phrase_less_others": "phrase, less others",
    "energy_overlap": "energy, by overlap",
    "mass_overlap": "mass, by overlap",
    "chance_overlap": "chance, by overlap",
    "area up to": "share of the picture, up to",
}


def said(study: Any, name: str) -> str:
    """What a measure of a study is; it may have asked the class word alone."""
    words = MEASURES.get(name, heading(name))
    if getattr(study, "of", "") == "word":
        words = words.replace("the phrase", "the class word alone")
    return words


def heading(name: str) -> str:
    """A column's name."""
    return _HEADINGS.get(name, name.replace("_", " "))


def number(value: Any) -> str:
    """With two places, or three figures."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not isfinite(value):
            return "–"
        said = f"{value:.2f}" if abs(value) >= 0.005 or value == 0 else f"{value:.1g}"
        return typeset(said)
    return str(value)


def share(value: Optional[float]) -> str:
    """In hundredths."""
    if value is None or not isfinite(value):
        return "–"
    return typeset(f"{100 * value:.0f} %".replace("-0 %", "0 %"))


def between(low: Optional[float], high: Optional[float]) -> str:
    """An interval of shares."""
    if low is None or high is None:
        return "no interval"
    return f"{share(low)} to {share(high)}"
