"""How far from neutral what inputs are compared with is, for a model of one's own.

>>> print(baseline_report(model, pairs, references=references).summary())
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from captum_pairs.attr import InvalidArgumentError, Session, validation
from captum_pairs.explain.options import Options, OptionsLike
from captum_pairs.explain.sides import Asking, PreparedSide
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.show.wording import plain
from torch import Tensor

__all__ = ["baseline_report", "BaselineReport", "ScoreParts"]

# A method that has a baseline.
_METHOD = "occlusion"


@dataclass(frozen=True)
class Neutrality:
    """
    A baseline (or references) of one side.

    Args:
        side: "first" or "second".
        name: in words.
        similarity: its mean similarity to the other side's inputs.
        distance: that, less the mean similarity of inputs that do not belong together:
            zero is neutral.
    """

    side: str
    name: str
    similarity: float
    distance: float


@dataclass(frozen=True)
class ScoreParts:
    """
    What scores are made of with two of them: means over the pairs.

    Args:
        first, second: what each side is compared with, in words.
        constant: the similarity of the two.
        first_effects, second_effects: what each input adds, whatever the other one is.
        pairs: what both add together.
        share: the pairs' part of what the score has beyond that of unrelated inputs; 1
            if they carry it all.
    """

    first: str
    second: str
    constant: float
    first_effects: float
    second_effects: float
    pairs: float
    share: float


@dataclass(frozen=True)
class BaselineReport:
    """
    What a model makes of each baseline, over pairs that belong together.

    Args:
        model: what was loaded.
        number: of pairs.
        score: their mean similarity.
        unrelated: the mean similarity of inputs that do not belong together.
        neutrality: of each side's baselines.
        compared: every one of the first side with every one of the second, the one
            whose pairs' share is nearest to 1 first.
    """

    model: str
    number: int
    score: float
    unrelated: float
    neutrality: tuple[Neutrality, ...]
    compared: tuple[ScoreParts, ...]

    def summary(self) -> str:
        """All numbers, in lines."""
        lines = [
            f"{self.model}: {self.number} pairs, mean similarity {plain(self.score)}; "
            f"of inputs that do not belong together {plain(self.unrelated)}",
            "mean similarity to the other side's inputs (less that of unrelated ones):",
        ]
        for each in self.neutrality:
            found = f"{plain(each.similarity)} ({plain(each.distance)})"
            lines.append(f"  {each.side}: {found} {each.name}")
        lines.append(
            "of a score: constant, first alone, second alone, pairs; the pairs' share:"
        )
        for row in self.compared:
            parts = (row.constant, row.first_effects, row.second_effects, row.pairs)
            shown = " ".join(map(plain, parts))
            lines.append(f"  {shown}; {row.share:.2f}  {row.first} x {row.second}")
        return "\n".join(lines)


def baseline_report(
    model: EncoderPair, inputs: Sequence[Any], **options: Unpack[OptionsLike]
) -> BaselineReport:
    """
    How far each baseline of a model is from neutral: its similarity to typical inputs,
    and the part of a score that it leaves to pairs. Forward passes only.

    Args:
        model: a dual encoder.
        inputs: pairs (first, second) that belong together, at least two.
        **options: see :class:`captum_pairs.explain.options.Options`: ``layer``, and
            ``references``, which are reported beside the baselines.

    Raises:
        InvalidArgumentError: naming ``inputs``, or an option that says how inputs are
            explained.
    """
    pairs = _pairs(inputs)
    for name in options:
        if name not in ("layer", "references", "tokens"):
            expected = "layer= or references= of a report on baselines"
            raise InvalidArgumentError(name, expected, "this")
    ends: list[dict[str, tuple[Tensor, Tensor]]] = []
    with model.as_it_is(), Session() as session:
        for at in (0, 1):
            raw = [pair[at] for pair in pairs]
            ends.append(
                {
                    name: _ends(model, at, raw, asked, session)
                    for name, asked in _choices(model, at, {**options})
                }
            )
    first, second = ends
    g, h = next(iter(first.values()))[0], next(iter(second.values()))[0]
    table = g @ h.T
    score = float(table.diagonal().mean())
    count = len(pairs)
    unrelated = float(table.sum() - table.trace()) / (count * (count - 1))
    neutrality = [
        Neutrality(side, name, similarity, similarity - unrelated)
        for side, known, other in (("first", first, h), ("second", second, g))
        for name, (_, start) in known.items()
        for similarity in (float((start @ other.T).mean()),)
    ]
    compared = [
        _compared((x, g, r), (y, h, q), score - unrelated)
        for x, (_, r) in first.items()
        for y, (_, q) in second.items()
    ]
    compared.sort(key=lambda row: abs(row.share - 1))
    return BaselineReport(
        model.name, count, score, unrelated, tuple(neutrality), tuple(compared)
    )


def _pairs(inputs: Any) -> list[tuple[Any, Any]]:
    expected = "a list of at least two pairs (first, second) that belong together"
    if not isinstance(inputs, (list, tuple)) or len(inputs) < 2:
        raise InvalidArgumentError("inputs", expected, validation.describe(inputs))
    for each in inputs:
        if not isinstance(each, (list, tuple)) or len(each) != 2:
            came = f"{validation.describe(each)} among them"
            raise InvalidArgumentError("inputs", expected, came)
    return [(first, second) for first, second in inputs]


def _choices(
    model: EncoderPair, at: int, options: dict[str, Any]
) -> list[tuple[str, Options]]:
    """What one side can be compared with, and the options that ask for it."""
    encoder = (model.first, model.second)[at]
    references = options.pop("references", None)
    found = []
    for name in encoder.baselines or (None,):
        pair = (name, None) if at == 0 else (None, name)
        asked = {**options, "baseline": pair, "method": _METHOD}
        found.append((name or "the baseline", Options.of(asked)))
    if references is not None:
        sampled = Options.of({**options, "references": references})
        if (known := sampled.references_of(model, at)) is not None:
            found.append((str(known), sampled))
    return found


def _ends(
    model: EncoderPair, at: int, raw: list[Any], options: Options, session: Session
) -> tuple[Tensor, Tensor]:
    """Embeddings of inputs and of what they are compared with, (n, k) each."""
    asking = Asking(model, at, options, session)
    examples: list[Any] = [PreparedSide(asking, each).example for each in raw]
    ends = [(each.embedding.cpu(), each.baseline_embedding.cpu()) for each in examples]
    return torch.stack([end for end, _ in ends]), torch.stack([r for _, r in ends])


def _compared(
    first: tuple[str, Tensor, Tensor],
    second: tuple[str, Tensor, Tensor],
    beyond: float,
) -> ScoreParts:
    """Means of a score's parts over pairs."""
    (x, g, r), (y, h, q) = first, second
    parts = (r, q), (g - r, q), (r, h - q), (g - r, h - q)
    means = [float((one * other).sum(1).mean()) for one, other in parts]
    constant, alone, other, together = means
    share = together / beyond if beyond else float("nan")
    return ScoreParts(x, y, constant, alone, other, together, share)
