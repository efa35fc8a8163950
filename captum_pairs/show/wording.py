"""Numbers and phrases in words, once: for summaries, pictures and pages.

A summary is read in a terminal, or by a program: its minus is that of ASCII, and its
small numbers are as Python prints them. A picture and a page are printed matter.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from captum_pairs.attr import visualization
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models import Head
from captum_pairs.models.encoder import AUDIO, TENSOR, TEXT
from captum_pairs.show.results import ContrastLike, PairLike

__all__ = [
    "alone",
    "both_baselines",
    "capitalized",
    "compared_with",
    "completeness",
    "for_or_against",
    "instead_of",
    "isolated",
    "isolated_name",
    "lacks_picture",
    "logits",
    "measure",
    "method_name",
    "more_or_less",
    "named",
    "NO_PICTURE",
    "parts",
    "path",
    "plain",
    "question",
    "quoted",
    "signed",
    "small",
    "sort",
    "subject",
    "typeset",
    "unit",
]

# The method that compares with several references.
_MEANS = "expected_gradients"
_MEASURES = {
    "cosine": ("cosine similarity", "cosine similarities"),
    "dot": ("inner product", "inner products"),
    "maxsim": ("MaxSim", "MaxSim scores"),
    "score": ("score", "scores"),
}


# ---- numbers ---------------------------------------------------------------


def plain(value: float, digits: int = 3) -> str:
    """With its sign, for a terminal."""
    return visualization.signed(value, digits, "-")


def signed(value: float, digits: int = 3) -> str:
    """With its sign, for a picture or a page."""
    return visualization.signed(value, digits)


def small(value: float) -> str:
    """The size of an error, for a terminal."""
    return f"{value:.0e}" if value else "0"


def typeset(said: str) -> str:
    """Numbers of a terminal as they are printed: a minus as wide as a plus, exponents
    without a zero before them."""
    said = re.sub(r"(?<=\de)-0?(?=\d)", "−", said)
    return re.sub(r"(?<!\w)-(?=\d)", "−", said)


# ---- names -----------------------------------------------------------------


def measure(similarity: str, is_plural: bool = False) -> str:
    """What a score is: "cosine similarity", "inner products"."""
    return _MEASURES[similarity][is_plural]


def unit(similarity: str) -> str:
    """What attributions are in: "cosine", "inner product"."""
    return "cosine" if similarity == "cosine" else measure(similarity)


def method_name(method: str) -> str:
    """A method as it is called: "integrated gradients"."""
    return method.replace("_", " ")


def sort(kind: str) -> str:
    """A kind of input in words: "image", "text", "sound"."""
    return {AUDIO: "sound", TENSOR: "input"}.get(kind, kind)


def capitalized(name: str) -> str:
    """The first letter large, the others as they are."""
    return name[:1].upper() + name[1:]


def quoted(words: str) -> str:
    """Words as such."""
    return f"“{words}”"


def isolated(words: str) -> str:
    """Words as such, among others that may be read in the other direction."""
    return f"“\u2068{words}\u2069”"


def isolated_name(name: str) -> str:
    """A name without quotes, among words that may be read in the other direction."""
    return f"\u2068{name}\u2069"


def named(side: ExplainedInput) -> str:
    """An input within a sentence: a text itself, "the image of 60 x 40 px"."""
    return str(side.source) if side.kind == TEXT else f"the {side.source}"


def instead_of(preferred: str, other: str, quote: str = "“{}”") -> str:
    """Words that stand in the same place: “red” instead of “blue”, or once if they are
    the same."""
    if preferred.casefold() == other.casefold():
        return quote.format(preferred)
    said = [quote.format(words) if words else "nothing" for words in (preferred, other)]
    return " instead of ".join(said)


# ---- what an explanation is about ------------------------------------------


def subject(explanation: PairLike) -> list[str]:
    """Its texts (of one the phrase that was asked for), or what both inputs are."""
    sides = explanation.first, explanation.second
    texts = [_asked(side) for side in sides if side.kind == TEXT]
    if texts:
        return texts
    first, second = (str(side.source) for side in sides)
    return [f"two {sides[0].kind}s" if first == second else f"{first} and {second}"]


def _asked(side: ExplainedInput) -> str:
    name = side.features[0].name
    if len(side.features) > 1 or name == side.source.text:
        return str(side.source)
    return f"{quoted(name)} in {side.source}"


def question(contrast: ContrastLike) -> list[str]:
    """What is asked: why one candidate rather than the other."""
    preferred, other = contrast.candidates
    if preferred.kind == TEXT:
        return [str(preferred.source), f"rather than {other.source}"]
    query = contrast.query
    asked = f" for {query.source}" if query.kind == TEXT else ""
    return [f"Why the preferred {preferred.kind} rather than the other one{asked}?"]


def more_or_less(difference: float) -> str:
    """What one of two is, beside the other: "is more similar to" (something, than the
    other), "is as similar to"."""
    if not difference:
        return "is as similar to"
    return f"is {'more' if difference > 0 else 'less'} similar to"


def for_or_against(similarity: str, what: str = "the match") -> str:
    """What the colours of attributions mean."""
    return f"for (orange) or against (purple) {what}, {unit(similarity)}"


# Of an item whose contributions were kept.
NO_PICTURE = (
    "shown without its picture, which is gone, was changed since or was not asked for"
)


def lacks_picture(given: ExplainedInput) -> bool:
    """Whether there is only the map of what once was a picture."""
    return given.has_regions and given.source.picture is None


# ---- what it says ----------------------------------------------------------


def logits(explanation: PairLike) -> list[tuple[str, float]]:
    """The model's own scores and what they are called; none, if the similarity is
    it."""
    if explanation.heads == (Head(),):
        return []
    return list(explanation.logits.items())


def parts(values: Mapping[str, float]) -> Iterator[str]:
    """Lines of a summary, which say what a score is the sum of."""
    for at, (name, value) in enumerate(values.items()):
        shown = f"{value + 0.0:+.0e}" if name.startswith("error") else plain(value)
        yield f"  {' ' if at else '='} {shown} {name}"


def both_baselines(method: str) -> str:
    """What a score begins with, whatever the two inputs are."""
    return "what both are compared with" if method == _MEANS else "the two baselines"


def alone(explanation: PairLike) -> str:
    """What the parts of a score mean that is no inner product; "" of any other."""
    if explanation.similarity != "score":
        return ""
    return (
        "on its own: as the score is while the other input is its baseline; what an "
        "input's features do together with one another is in it"
    )


def compared_with(explanation: PairLike) -> str:
    """What an explanation by a mean over references compares its inputs with, in
    short; "" for any other."""
    if explanation.method != _MEANS:
        return ""
    sides = explanation.first.baseline, explanation.second.baseline
    names = [side.partition(" (")[0] for side in sides]
    return f"compared with {' and '.join(dict.fromkeys(names))}"


def path(side: ExplainedInput, method: str) -> str:
    """Where an input was attributed to, and from where; the method, if that has no
    steps."""
    steps = f"{side.n_steps} steps" if side.n_steps else method_name(method)
    steps += " each" if method == _MEANS and side.n_steps else ""
    return f"{side.layer}, from {side.baseline}, {steps}"


def completeness(explanation: PairLike) -> str:
    """What the parts miss the score by; "" for a method that follows no path."""
    sides: Sequence[ExplainedInput] = (explanation.first, explanation.second)
    if not any(side.n_steps for side in sides):
        return ""
    worst = max(side.residual for side in sides)
    verdict = "within" if worst <= explanation.tolerance else "ABOVE"
    residuals = " and ".join(
        f"{small(side.residual)} ({name[4:]})"
        for name, side in zip(explanation.side_names, sides)
    )
    return (
        f"the parts miss the score by {small(abs(explanation.convergence_delta))}; "
        f"path residuals {residuals}, {verdict} the tolerance "
        f"{explanation.tolerance:g}"
    )
