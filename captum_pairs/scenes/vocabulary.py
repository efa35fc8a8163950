"""The words of the scenes: what an object can be, and how it can be named.

Every word is one token of the embedded model's tokenizer, and no word that can be
exchanged for another (a shape, a colour, a size) begins with a vowel: exchanging
one never changes the article before it, so that a hard negative differs from its
true caption by one word and nothing else.
"""

__all__ = [
    "COLORS",
    "COUNTS",
    "FILLERS",
    "OPPOSITES",
    "PLURALS",
    "PREFIXES",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "SUFFIXES",
    "vocabulary",
]

# colour name -> the middle of its range, RGB in [0, 1]
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.88, 0.12, 0.12),
    "yellow": (0.96, 0.86, 0.10),
    "green": (0.12, 0.65, 0.18),
    "cyan": (0.15, 0.85, 0.88),
    "blue": (0.14, 0.28, 0.92),
    "purple": (0.52, 0.14, 0.72),
    "pink": (0.98, 0.55, 0.76),
    "white": (0.97, 0.97, 0.97),
}

PLURALS: dict[str, str] = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "diamond": "diamonds",
    "star": "stars",
    "cross": "crosses",
    "ring": "rings",
    "heart": "hearts",
    "moon": "moons",
}
SHAPES: tuple[str, ...] = tuple(PLURALS)

# size name -> the range of diameters, as a share of the image's side
SIZES: dict[str, tuple[float, float]] = {
    "small": (0.24, 0.30),
    "large": (0.38, 0.48),
}

# relation -> its wordings; the first word that differs between a wording and its
# opposite's is the one that a hard negative changes
RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
OPPOSITES: dict[str, str] = {
    "left": "right",
    "right": "left",
    "above": "below",
    "below": "above",
}

COUNTS: dict[int, str] = {2: "two", 3: "three", 4: "four"}

# Words that say nothing of the scene. The empty ones are the most frequent.
PREFIXES: tuple[str, ...] = (
    "",
    "a photo of",
    "a picture of",
    "an image with",
    "there is",
    "here is",
    "we see",
    "this scene shows",
    "a drawing of",
    "look at",
)
SUFFIXES: tuple[str, ...] = ("", "in the picture", "in this scene", "here")

# Words that claim nothing and stand between those that do.
FILLERS: frozenset[str] = frozenset(
    word
    for text in (*PREFIXES, *SUFFIXES, "a to the of and with .")
    for word in text.split()
)

_CONNECTING = ("a", "an", "and", "with", "of", ",", ".", "thing", "things", "the")


def vocabulary() -> list[str]:
    """Every word that a caption of the generator can hold, in a fixed order."""
    words: list[str] = list(_CONNECTING)
    words += [*COLORS, *SHAPES, *PLURALS.values(), *SIZES, *COUNTS.values()]
    wordings = [text for texts in RELATIONS.values() for text in texts]
    for text in [*wordings, *PREFIXES, *SUFFIXES]:
        words += text.split()
    return list(dict.fromkeys(words))
