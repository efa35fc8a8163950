"""What a picture says."""

from collections.abc import Sequence

from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import TEXT
from captum_pairs.models.encoder_pair import Head
from captum_pairs.show.results import ContrastLike, PairLike

__all__ = [
    "for_or_against",
    "heading_of",
    "parts_of",
    "question_of",
    "score_in_words",
    "unit_of",
]


def heading_of(sides: Sequence[ExplainedInput]) -> str:
    texts = [f"“{side.source.text}”" for side in sides if side.kind == TEXT]
    if texts:
        return "\n".join(texts)
    first, second = (str(side.source) for side in sides)
    return f"two {sides[0].kind}s" if first == second else f"{first} – {second}"


def question_of(contrast: ContrastLike) -> str:
    preferred, other = contrast.candidates
    if preferred.kind == TEXT:
        return f"“{preferred.source.text}”\nrather than “{other.source.text}”"
    query = contrast.query
    asked = f" for “{query.source.text}”" if query.kind == TEXT else ""
    return f"Why the preferred {preferred.kind} rather than the other one{asked}?"


def parts_of(explanation: PairLike) -> tuple[dict[str, float], str]:
    name = unit_of(explanation).replace("cosine", "cosine similarity")
    return explanation.parts(), name


def score_in_words(explanation: PairLike) -> str:
    _, name = parts_of(explanation)
    said = f"{name} {explanation.score:.3f}"
    if explanation.heads != (Head(),):
        values = explanation.logits.items()
        said += "".join(f", {head} {value:.2f}" for head, value in values)
    return f"{said}, and its parts".replace(" -", " −")


def unit_of(explanation: PairLike) -> str:
    return {"dot": "inner product"}.get(explanation.similarity, explanation.similarity)


def for_or_against(unit: str) -> str:
    return f"for (orange) or against (purple) the match, {unit}"
