"""What a result says in a sentence, what it is silent about, and how to read it.

A verdict is made of the result's numbers alone. Numbers are written as in a terminal:
:func:`captum_pairs.show.wording.typeset` makes them printed matter.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Optional

from captum_pairs.inputs import (
    box_around,
    ExplainedInput,
    place_in_words,
    strong_region,
)
from captum_pairs.models.encoder import AUDIO, IMAGE, TEXT
from captum_pairs.show.results import (
    ComparisonLike,
    ContrastLike,
    MatchLike,
    PairLike,
    ZeroShotLike,
)
from captum_pairs.show.wording import (
    capitalized,
    instead_of,
    measure,
    method_name,
    plain,
    quoted,
    sort,
    unit,
)
from torch import Tensor

__all__ = [
    "FAITHFULNESS",
    "key",
    "key_of_contrast",
    "OF_PAIRS",
    "silence",
    "silence_of_classes",
    "SUMS",
    "unknown_words",
    "verdict",
    "verdict_of_classes",
    "verdict_of_comparison",
    "verdict_of_contrast",
]

# What numbers are that stand beside colours.
SUMS = "A number above a map or a text is its sum."
OF_PAIRS = "A number is that of a pair."
FAITHFULNESS = (
    "how well a method predicts the similarity when some features are left out "
    "(1: exactly)"
)
# Pairs among which those are found that speak for and against most.
_LOOKED_AT = 24
# Words that are listed; of more, how many these are.
_LISTED = 6
# What is worth a word beside the strongest, as a share of that.
_WORTH = 0.01
# Methods whose exact zero means that the model does not look.
_DERIVATIVES = ("integrated_gradients", "expected_gradients", "jacobian_x_input")
# Parts of a score, by how their names end or begin, and what they mean.
_MEANINGS = {
    "the two baselines": "what both inputs have in common when they are empty",
    "what both are compared with": "which says nothing of these two inputs",
    "on its own": "whatever the other input says",
    "special token": "which stands for no part of an input",
}

# The same of a score that is no inner product.
_OF_A_SCORE = {
    "the two baselines": "the score of two empty inputs",
    "on its own": "while the other input is empty",
}


# ---- a verdict -------------------------------------------------------------


def verdict(explanation: PairLike) -> str:
    """Which pair adds most to the score, which speaks against it most, and which other
    part is larger than all pairs together."""
    if bool(explanation.interactions.isnan().any()):
        return "Attributions are not numbers (NaN): nothing can be said."
    matches = explanation.top_pairs(_LOOKED_AT)
    if not matches or not any(match.value for match in matches):
        return "Nothing matched anything: every attribution is zero."
    score = f"the {measure(explanation.similarity)} of {plain(explanation.score)}"
    best = [
        next((match for match in matches if sign * match.value > 0), None)
        for sign in (1, -1)
    ]
    said = [None if match is None else _pair(explanation, match) for match in best]
    if said[0] is not None:
        line = f"{said[0][0]} add most to {score}: {said[0][1]}"
        if said[1] is not None:
            line += f"; {said[1][0]} speak against it most: {said[1][1]}"
    else:
        assert said[1] is not None  # one of the two is there
        line = f"{said[1][0]} speak most against {score}: {said[1][1]}; none for it"
    return f"{capitalized(line)}.{_largest_part(explanation)}"


def _largest_part(explanation: PairLike) -> str:
    """The part that is larger than all that pairs say, if there is one."""
    parts = dict(explanation.parts())
    pairs = next(value for name, value in parts.items() if name.startswith("pairs of"))
    name, value = max(parts.items(), key=lambda part: abs(part[1]))
    meanings = _MEANINGS | (_OF_A_SCORE if explanation.similarity == "score" else {})
    for end, meaning in meanings.items():
        if name.endswith(end) and abs(value) > abs(pairs):
            return f" The largest part is {name}: {plain(value)}, {meaning}."
    return ""


def _pair(explanation: PairLike, match: MatchLike) -> tuple[str, str]:
    """A pair of phrase and region (or of phrases) in words, and what it adds."""
    sides = explanation.first, explanation.second
    groups = [list(match.first_features), list(match.second_features)]
    table = explanation.interactions.double()
    sign = 1.0 if match.value > 0 else -1.0
    for at in (0, 1):
        if sides[at].kind == TEXT:
            along = table[:, groups[1]] if at == 0 else table[groups[0]].T
            groups[at] = _phrase(sides[at], sign * along.sum(1), groups[at])
    names = [match.first, match.second]
    for at in (0, 1):
        if sides[at].kind == TEXT:
            names[at] = quoted(_said(sides[at], groups[at]))
        elif sides[at].has_regions or sides[at].asked is not None:
            names[at] = f"the {names[at]}"
    if sides[0].kind != TEXT == sides[1].kind:  # the word is read first
        names.reverse()
    elif sides[0].kind == sides[1].kind != TEXT:
        names[0] += f" of {explanation.side_names[0]}"
        names[1] += f" of {explanation.side_names[1]}"
    value = match.value
    if groups != [list(match.first_features), list(match.second_features)]:
        value = float(table[groups[0]][:, groups[1]].sum())
    return " and ".join(names), plain(value)


def _phrase(side: ExplainedInput, values: Tensor, group: list[int]) -> list[int]:
    """A word with its neighbours that have at least half its value, as far as they
    are worth a look."""
    if len(group) != 1:
        return group
    content, least = set(side.content), float(values[group[0]]) / 2
    first = last = group[0]
    while first - 1 in content and float(values[first - 1]) >= least:
        first -= 1
    while last + 1 in content and float(values[last + 1]) >= least:
        last += 1
    return list(range(first, last + 1))


def _said(side: ExplainedInput, group: Sequence[int]) -> str:
    """Words as they stand in the text; of one that comes several times which."""
    spans = [side.features[index].span for index in group]
    if len(group) == 1 or None in spans:
        return " ".join(side.names[index] for index in group)
    known = [span for span in spans if span is not None]
    return side.source.text[known[0][0] : known[-1][1]]


def verdict_of_contrast(contrast: ContrastLike) -> str:
    """Which candidate is more similar, by how much, and by what."""
    kind = contrast.candidates[0].kind
    told = unit(contrast.preferred.similarity)
    difference = contrast.difference
    if not difference:
        return f"Both {sort(kind)}s are as similar, to the last digit."
    found = list(_what_decides(contrast))
    worth = _WORTH * max((abs(value) for _, value in found), default=0.0)
    found = [each for each in found if abs(each[1]) >= worth]
    line = f"The preferred {sort(kind)} is {'more' if difference > 0 else 'less'} "
    line += f"similar, by {plain(difference)} ({told})"
    speaking = [each for each in found if each[1] > 0]
    against = [each for each in found if each[1] < 0]
    if speaking:
        name, value = max(speaking, key=lambda each: each[1])
        line += f"; {name} speaks for it most: {plain(value)}"
    if against:
        name, value = min(against, key=lambda each: each[1])
        line += f"; {name} speaks for the other one most: {plain(value)}"
    return f"{line}."


def _what_decides(contrast: ContrastLike) -> Iterator[tuple[str, float]]:
    """Words of two texts, words or regions of the query: names, and what each makes of
    the difference."""
    if contrast.candidates[0].kind == TEXT:
        for change in contrast.changes():
            yield instead_of(change.preferred, change.other), change.total
        return
    query, values = contrast.query, contrast.by_query().flatten()
    if query.has_regions:
        yield from _regions(query, values)
        return
    for index in query.content:
        name = query.names[index]
        yield quoted(name) if query.kind == TEXT else name, float(values[index])


def _regions(side: ExplainedInput, values: Tensor) -> Iterator[tuple[str, float]]:
    """Where a map is strongest, for and against."""
    for sign in (1.0, -1.0):
        region = strong_region(side, sign * values)
        if region is not None:
            yield _place(side, region), float(values[region].double().sum())


def _place(side: ExplainedInput, group: Sequence[int]) -> str:
    box = box_around(side, group)
    assert box is not None  # a region's patches have boxes
    return f"the {place_in_words(side.source, box)}"


def verdict_of_classes(found: ZeroShotLike) -> str:
    """Which class is most probable, and where the image speaks for it."""
    (best, share), *others = found.top(2)
    if others and _are_one(found, best, others[0][0]):
        both = f"{quoted(best)} and {quoted(others[0][0])}"
        return f"{both} are one class to the model, {share:.1%} each."
    line = f"{quoted(best)} is most probable, {share:.1%}"
    values = found.difference() if others else found.map(best)
    regions = [each for each in _regions(found.input, values.flatten()) if each[1] > 0]
    if not regions:
        return f"{line}."
    place, value = regions[0]
    if not others:
        return f"{line}; {place} speaks for it most: {plain(value)}."
    return (
        f"{line}; what tells it from {quoted(others[0][0])} most is {place}: "
        f"{plain(value)}."
    )


def _are_one(found: ZeroShotLike, best: str, other: str) -> bool:
    """Whether two classes have the same map, up to the last digits of its numbers."""
    size = float(found.map(best).abs().max())
    return 0 < size and float(found.difference().abs().max()) <= 1e-5 * size


def verdict_of_comparison(comparison: ComparisonLike) -> str:
    """Which method predicts the similarity best, and what it says."""
    best = max(comparison.compared, key=_faithfulness)
    said = verdict(best.explanation)
    if len(comparison.compared) == 1:
        return said
    return (
        f"Most faithful here is {method_name(best.method)}, with "
        f"{_faithfulness(best):.2f} of 1; by it: {said}"
    )


def _faithfulness(compared: Any) -> float:
    whole: Optional[float] = compared.faithfulness
    return float(compared.faithfulness_of_pairs if whole is None else whole)


# ---- what is silent --------------------------------------------------------


def silence(explanation: PairLike) -> list[str]:
    """
    What of the inputs the model does not read, or can't tell apart: words that add
    exactly nothing, words that the tokenizer does not know, parts of an image that the
    model does not see.

    Returns:
        Sentences; none, if there is nothing to say.
    """
    table = explanation.interactions
    sides = (
        (explanation.first, table, explanation.first_effects),
        (explanation.second, table.T, explanation.second_effects),
    )
    said = []
    for (side, rows, effects), name in zip(sides, explanation.side_names):
        said += list(_unread(side, rows, effects, explanation.method))
        said += list(unknown_words(side))
        said += list(_unseen(side, name))
    return said


def _unread(
    side: ExplainedInput, rows: Tensor, effects: Optional[Tensor], method: str
) -> Iterator[str]:
    """Features whose every number is zero, while others' are not."""
    is_zero = ~(rows != 0).any(1)
    if effects is not None:
        is_zero &= effects == 0
    if bool(is_zero.all()):
        return
    silent = [i for i in range(side.count) if is_zero[i]]
    if side.kind == TEXT and silent:
        words = _listed([quoted(side.names[i]) for i in silent])
        nothing = f"{_adds(len(silent))} exactly nothing"
        last = silent[0] - 1
        is_end = silent == list(range(silent[0], side.count))
        if method not in _DERIVATIVES:
            yield f"{words} {nothing}."
        elif is_end and last >= 0:
            where = quoted(side.names[last])
            yield f"The model stops reading after {where}: {words} {nothing}."
        else:
            they = "it" if len(silent) == 1 else "they"
            yield f"The model does not read {words}: {they} {nothing}."
    elif side.kind in (IMAGE, AUDIO):
        number = sum(side.features[i].box is not None for i in silent)
        if number:
            yield (
                f"{_patches(number)} {_adds(number)} exactly nothing: as in the "
                "baseline, or not looked at."
            )


def silence_of_classes(found: ZeroShotLike) -> list[str]:
    """The same of a classification, and words of its prompts that the tokenizer does
    not know."""
    return [*silence(found.by_class()), *_not_known(list(found.unknown))]


def unknown_words(side: ExplainedInput) -> Iterator[str]:
    features = enumerate(side.features)
    yield from _not_known([side.names[i] for i, each in features if each.unknown])


def _not_known(names: Sequence[str]) -> Iterator[str]:
    words = [quoted(name) for name in names]
    if words:
        same = "an unknown word" if len(words) == 1 else "the same unknown word"
        yield (
            f"The tokenizer does not know {_listed(words)}: the model reads {same} "
            "there."
        )


def _unseen(side: ExplainedInput, name: str) -> Iterator[str]:
    if side.kind != IMAGE:
        return
    size, seen = side.source.size, side.source.visible
    if size is not None and seen is not None:
        left, top, right, bottom = seen
        share = (right - left) * (bottom - top) / (size[0] * size[1])
        if share < 0.995:
            yield (
                f"The model sees x {left:.0f}–{right:.0f}, y {top:.0f}–{bottom:.0f} px "
                f"of {name}; {1 - share:.0%} of it is cut off."
            )
    empty = sum(feature.box is None for feature in side.features[: side.count])
    if empty and side.grid is not None:
        verb = "lies" if empty == 1 else "lie"
        yield f"{_patches(empty)} {verb} outside of {name}."


def _adds(number: int) -> str:
    return "adds" if number == 1 else "add"


def _patches(number: int) -> str:
    return "1 patch" if number == 1 else f"{number} patches"


def _listed(words: Sequence[str]) -> str:
    if len(words) > _LISTED:
        return f"{', '.join(words[:_LISTED])} and {len(words) - _LISTED} more"
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


# ---- how to read it --------------------------------------------------------


def key(similarity: str, aim: str = "", numbers: str = SUMS) -> str:
    """
    What colours and numbers mean, in plain words.

    Args:
        aim: what attributions add to. Default: the similarity, or the score
        numbers: what those mean that stand beside colours; "" where there are none.
    """
    aim = aim or ("the score" if similarity == "score" else "the similarity")
    said = (
        f"Orange adds to {aim}, purple takes away from it, what has no colour does "
        f"neither; all in units of {unit(similarity)}."
    )
    return f"{said} {numbers}" if numbers else said


def key_of_contrast(contrast: ContrastLike) -> str:
    """The same of a difference, in which one sign is for one candidate throughout."""
    return (
        f"Orange speaks for the preferred {sort(contrast.candidates[0].kind)}, purple "
        "for the other one, what has no colour for neither; all in units of "
        f"{unit(contrast.preferred.similarity)}. {SUMS}"
    )
