"""Why was A ranked above B? The difference of two similarities, attributed."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TYPE_CHECKING, Union

import torch
from captum_pairs.attr import InvalidArgumentError, Session
from captum_pairs.explain.compute import combine, explain_pair, explanation_of
from captum_pairs.explain.counting import tallied
from captum_pairs.explain.files import as_number, read_result, well_formed, write_result
from captum_pairs.explain.options import Options
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.result import named as in_short, Result
from captum_pairs.explain.sides import (
    adopted,
    Known,
    shares_of,
    Side,
    side_of,
    sides_of,
)
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import TEXT
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.equality import ByContent
from captum_pairs.show.pictures import draw_contrast
from captum_pairs.show.reading import silence, verdict_of_contrast
from captum_pairs.show.wording import (
    instead_of,
    logits,
    more_or_less,
    named,
    parts,
    plain,
    unit,
)
from torch import Tensor

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["Change", "Contrast", "contrast"]

_FORMAT = 1
# What a difference may be off by, written and read.
_ROUNDED = 1e-9
# Words of both candidates that are told apart from "(2)" and the like.
_PREFERRED, _OTHER = "preferred", "other"


@dataclass(frozen=True)
class Change(ByContent):
    """
    Words of the two candidates that stand in the same place, and what they differ in.

    Args:
        preferred, other: the words; "" where a candidate has none.
        is_changed: whether they are not the same.
        values: (features of the query,), the preferred words' attributions minus the
            other ones'.
    """

    preferred: str
    other: str
    is_changed: bool
    values: Tensor

    @property
    def total(self) -> float:
        """Over the query's features that are not special."""
        return float(self.values.double().sum())

    def __str__(self) -> str:
        return f"{instead_of(self.preferred, self.other)}: {plain(self.total)}"

    def __repr__(self) -> str:
        return f"<Change: {self}>"


@dataclass(frozen=True, repr=False)
class Contrast(Result):
    """
    The difference of two similarities, s(query, preferred) - s(query, other).

    Its parts are those of the two explanations, one minus the other: what a query's
    features and a candidate's features say together, and the rest, which cancels where
    both candidates' baselines embed alike.

    Args:
        preferred, other: the explanations of the two pairs; the query has the same
            features in both.
        query_side: "first" or "second", which of a pair's inputs the query is.
    """

    preferred: PairExplanation
    other: PairExplanation
    query_side: str

    @property
    def query(self) -> ExplainedInput:
        """The input that both candidates are compared with."""
        return getattr(self.preferred, self.query_side)  # type: ignore[no-any-return]

    @property
    def candidates(self) -> tuple[ExplainedInput, ExplainedInput]:
        """The preferred one and the other one."""
        side = "second" if self.query_side == "first" else "first"
        return getattr(self.preferred, side), getattr(self.other, side)

    @property
    def difference(self) -> float:
        """Of the similarities: above zero if the preferred one is more similar."""
        return self.preferred.score - self.other.score

    @property
    def logit_difference(self) -> float:
        """Of the model's own scores."""
        return self.preferred.logit - self.other.logit

    def parts(self) -> dict[str, float]:
        """What the difference is the sum of."""
        pairs = [_total(e.interactions) for e in (self.preferred, self.other)]
        query = [_total(self._effects(e, True)) for e in (self.preferred, self.other)]
        own = [_total(self._effects(e, False)) for e in (self.preferred, self.other)]
        kind = self.candidates[0].kind
        error = self.preferred.convergence_delta - self.other.convergence_delta
        return {
            f"pairs with the preferred {kind}": pairs[0],
            f"pairs with the other {kind}": -pairs[1],
            f"the {kind}s on their own": own[0] - own[1],
            "the query on its own": query[0] - query[1],
            "the baselines": self.preferred.constant - self.other.constant,
            self.preferred.error_name: -error,
        }

    @property
    def remainder(self) -> float:
        """What does not cancel because the candidates' baselines embed differently: the
        query on its own, and the baselines."""
        parts = self.parts()
        return parts["the query on its own"] + parts["the baselines"]

    def _effects(self, explanation: PairExplanation, query: bool) -> Tensor:
        first = (self.query_side == "first") == query
        effects = explanation.first_effects if first else explanation.second_effects
        assert effects is not None  # a contrast explains whole inputs
        return effects

    def _table(self, explanation: PairExplanation) -> Tensor:
        """(features of the query, features of the candidate)."""
        table = explanation.interactions
        return table if self.query_side == "first" else table.T

    def by_query(self) -> Tensor:
        """
        What each feature of the query says for the preferred and against the other
        candidate, summed over their features: a map (rows, columns), or (words,).
        """
        return self.query.shaped(
            self._table(self.preferred).sum(1) - self._table(self.other).sum(1)
        )

    def by_candidate(self) -> tuple[Tensor, Tensor]:
        """What each feature of the preferred and of the other candidate says for its
        own, summed over the query's features; a map, or (words,)."""
        preferred, other = self.candidates
        return (
            preferred.shaped(self._table(self.preferred).sum(0)),
            other.shaped(self._table(self.other).sum(0)),
        )

    def changes(self) -> list[Change]:
        """
        Two texts side by side, word by word: words that both have, and those that one
        has instead of the other's.

        Raises:
            InvalidArgumentError: if the candidates are no texts.
        """
        if self.candidates[0].kind != TEXT:
            raise InvalidArgumentError(
                "changes", "candidates that are texts", f"{self.candidates[0].kind}s"
            )
        return list(self._changes())

    def aligned(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """The features of the preferred and of the other text that stand in the same
        place, in the order of :meth:`changes`; () where one has none."""
        before, after = (
            [feature.name.casefold() for feature in side.features[: side.count]]
            for side in self.candidates
        )
        matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
        found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        for kind, a, a_end, b, b_end in matcher.get_opcodes():
            if kind == "equal":
                pairs = zip(range(a, a_end), range(b, b_end))
                found += [((i,), (j,)) for i, j in pairs]
            else:
                found.append((tuple(range(a, a_end)), tuple(range(b, b_end))))
        return found

    def _changes(self) -> Iterator[Change]:
        words = [
            [feature.name for feature in side.features] for side in self.candidates
        ]
        count = self.query.count
        tables = [self._table(e)[:count] for e in (self.preferred, self.other)]
        for groups in self.aligned():
            named = [
                " ".join(side[index] for index in group)
                for side, group in zip(words, groups)
            ]
            is_changed = named[0].casefold() != named[1].casefold()
            sums = [
                table[:, list(group)].sum(1) for table, group in zip(tables, groups)
            ]
            yield Change(named[0], named[1], is_changed, sums[0] - sums[1])

    def to_frame(self) -> "pandas.DataFrame":
        """The rows of both explanations (see :meth:`PairExplanation.to_frame`), the
        other one's negative; the attributions add up to the difference."""
        import pandas

        frames = []
        named = ((_PREFERRED, self.preferred, 1), (_OTHER, self.other, -1))
        for name, explanation, sign in named:
            frame = explanation.to_frame()
            frame["attribution"] *= sign
            frame.insert(0, "candidate", name)
            frames.append(frame)
        return pandas.concat(frames, ignore_index=True)

    def summary(self) -> str:
        """What it says in a sentence, the difference, its parts, and what made it."""
        change = ""
        if found := logits(self.preferred):
            change = f" ({plain(self.logit_difference, 2)} in {found[0][0]})"
        candidates = self.candidates
        preferred, other = map(named, candidates)
        if candidates[0].kind != TEXT:  # two images may be of the same size
            preferred, other = (
                f"the {which} {name.removeprefix('the ')}"
                for which, name in ((_PREFERRED, preferred), (_OTHER, other))
            )
        lines = [
            verdict_of_contrast(self),
            f"{preferred} {more_or_less(self.difference)} {named(self.query)} "
            f"{'than' if self.difference else 'as'} {other}: "
            f"{plain(self.preferred.score)} against {plain(self.other.score)}, a "
            f"difference of {plain(self.difference)}{change}",
            *parts(self.parts()),
        ]
        if self.candidates[0].kind == TEXT:
            lines.append("word by word, over the whole query:")
            lines += [f"  {change}" for change in self.changes()]
        pairs = ((_PREFERRED, self.preferred), (_OTHER, self.other))
        for name, explanation in pairs:
            lines.append(f"the strongest pairs with the {name} one:")
            lines += [f"  {pair}" for pair in explanation.top_pairs()]
        for name, explanation in pairs:
            if explanation.maxsim is not None:
                told = explanation.maxsim.in_words(explanation.side_names)
                lines += [f"the {name} one: {line}" for line in told]
        lines += dict.fromkeys([*silence(self.preferred), *silence(self.other)])
        return "\n".join(lines)

    def plot(self) -> "Figure":
        """A picture of it, as a matplotlib figure."""
        return draw_contrast(self)

    def _in_short(self) -> Iterator[str]:
        asked, candidates = self.query, self.candidates
        preferred, other = (in_short(candidate) for candidate in candidates)
        yield f"{self.preferred.model}, {in_short(asked)}: {preferred} or {other}"
        measured = unit(self.preferred.similarity)
        yield f"difference of {measured} {plain(self.difference)}"
        if candidates[0].kind == TEXT:
            changed = [change for change in self.changes() if change.is_changed]
            yield from (str(change) for change in changed[:3])
        else:
            yield from (str(pair) for pair in self.preferred.top_pairs())

    def save(self, directory: Union[str, Path], name: str = "contrast") -> list[Path]:
        """
        Writes every number: DIRECTORY/NAME.json, and both explanations beside it
        (NAME_preferred and NAME_other, .json and .safetensors).
        """
        content: dict[str, Any] = {
            "format": _FORMAT,
            "query_side": self.query_side,
            "difference": self.difference,
            "logit_difference": self.logit_difference,
            "remainder": self.remainder,
            "parts": self.parts(),
        }
        if self.candidates[0].kind == TEXT:
            content["changes"] = [
                {"preferred": c.preferred, "other": c.other, "total": c.total}
                for c in self.changes()
            ]
        return [
            *write_result(directory, name, content),
            *self.preferred.save(directory, f"{name}_{_PREFERRED}"),
            *self.other.save(directory, f"{name}_{_OTHER}"),
        ]

    @classmethod
    def load(cls, directory: Union[str, Path], name: str = "contrast") -> "Contrast":
        """What :meth:`save` wrote; errors as :meth:`PairExplanation.load`."""
        content, _ = read_result(directory, name, _FORMAT, with_tensors=False)
        preferred, other = (
            PairExplanation.load(directory, f"{name}_{which}")
            for which in (_PREFERRED, _OTHER)
        )
        with well_formed(Path(directory) / f"{name}.json"):
            if content["query_side"] not in ("first", "second"):
                raise ValueError("query_side")
            result = cls(preferred, other, content["query_side"])
            kept = as_number(content["difference"])
        # both explanations are files of their own, which may be another contrast's
        if abs(result.difference - kept) > _ROUNDED:
            raise InvalidArgumentError(
                "directory",
                f"explanations that differ by {plain(kept)}, as {name}.json says",
                f"others, which differ by {plain(result.difference)}",
            )
        return result


def contrast(
    model: EncoderPair,
    query: Any,
    preferred: Any,
    other: Any,
    options: Options,
    query_side: str,
) -> Contrast:
    """
    See :meth:`captum_pairs.DualEncoder.contrast`.

    The query is prepared, and its path followed, once for both candidates.
    """
    at = 0 if query_side == "first" else 1
    if model.scorer is not None:
        first, second = (
            explain_pair(model, (query, each) if at == 0 else (each, query), options)
            for each in (preferred, other)
        )
        return Contrast(first, second, query_side)
    options = adopted(options, query, preferred, other)
    with tallied(options.progress) as tally, Session() as session:
        asked = side_of(model, at, query, options, session, tally)
        both = [preferred, other]
        candidates = [*sides_of(model, 1 - at, both, options, session, tally)]
        if asked.cost > sum(each.cost for each in candidates):
            found = _read_query(model, asked, candidates, options, at)
        else:
            known = Known(asked.input, asked.shares())
            pairs = [(known, c) if at == 0 else (c, known) for c in candidates]
            found = combine(model, pairs, options)
    return Contrast(found[0], found[1], query_side)


def _read_query(
    model: EncoderPair,
    query: Side,
    candidates: list[Side],
    options: Options,
    at: int,
) -> list[PairExplanation]:
    """Both explanations, from readings of the query along all that the candidates
    contribute."""
    known = shares_of(candidates)
    directions = [torch.cat([c.values, c.baseline_embedding[None]]) for c in known]
    read = query.shares_along(torch.cat(directions))
    tables = torch.split(read.values, [len(along) for along in directions], dim=1)
    return [
        explanation_of(
            model,
            (candidate.input, shares),
            (query.input, read._replace(values=table)),
            at == 0,
            options,
        )
        for candidate, shares, table in zip(candidates, known, tables)
    ]


def _total(values: Tensor) -> float:
    return float(values.double().sum())
