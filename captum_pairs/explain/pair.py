"""Which feature of one input matched which feature of the other: the result of a pair.

>>> explanation = load("scenes").explain("scene.png", "a red circle")
>>> print(explanation.summary())
>>> explanation.phrase("red circle")  # (rows, columns)
>>> explanation.save("results")
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Optional, TYPE_CHECKING, Union

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.explain.files import (
    as_number,
    as_similarity,
    as_text,
    input_from_json,
    input_to_json,
    read_result,
    well_formed,
    write_result,
)
from captum_pairs.explain.maxsim import Difference, MaxSim, no_maxsim, TokenMap
from captum_pairs.explain.methods import OF_PATHS
from captum_pairs.explain.result import named, Result
from captum_pairs.inputs import (
    box_around,
    ExplainedInput,
    find_phrase,
    place_in_words,
    STOP_WORDS,
    strong_region,
    Where,
    words_of,
)
from captum_pairs.models.encoder import AUDIO, Feature, IMAGE, TEXT
from captum_pairs.models.encoder_pair import Head
from captum_pairs.models.view import Box
from captum_pairs.show.pictures import draw, draw_pairs, draw_token_map, Scales
from captum_pairs.show.reading import silence, verdict
from captum_pairs.show.wording import (
    alone,
    both_baselines,
    completeness,
    logits,
    measure,
    parts,
    path,
    plain,
    unit,
)
from torch import Tensor

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["Match", "PairExplanation"]

_FORMAT = 2
_FIRST, _SECOND = "first", "second"
_MERGE = "merge"
# Pairs of regions that are grown, of which the strongest ones are told.
_REGIONS = 24
# A group of features: a phrase, a box, a mask, or the features' indices.
Group = Union[str, tuple[float, float, float, float], Sequence[int], Tensor, Any]


@dataclass(frozen=True, repr=False)
class Match:
    """
    A pair of a word (or a region) of one input and one of the other.

    Args:
        first, second: the words, with their number if the text has them several times;
            of a region where it is.
        value: the sum of the pair's attributions, in units of the similarity.
        first_features, second_features: the indices of their features.
        first_box, second_box: of a region, in pixels of the original (see
            :class:`captum_pairs.models.Feature`).
    """

    first: str
    second: str
    value: float
    first_features: tuple[int, ...]
    second_features: tuple[int, ...]
    first_box: Optional[Box] = None
    second_box: Optional[Box] = None

    def __str__(self) -> str:
        first = self.first if self.first_box else f"“{self.first}”"
        second = self.second if self.second_box else f"“{self.second}”"
        if self.first_box and not self.second_box:
            first, second = second, first
        return f"{first} – {second}: {plain(self.value)}"

    def __repr__(self) -> str:
        return f"<Match: {self}>"


@dataclass(frozen=True, repr=False)
class PairExplanation(Result):
    """
    Why two inputs are similar, or not.

    The parts add up: score = constant + first_effects + second_effects + interactions
    + rest - convergence_delta, each summed over its features.

    Args:
        model: what was loaded.
        method: by which contributions were found.
        first, second: the inputs, and their features i and j.
        similarity: "cosine" or "dot"; "score" of a score that is neither.
        score: the similarity of the two embeddings, or that score.
        heads: what the model makes of it.
        constant: the similarity of the two baselines, or of what both inputs are
            compared with.
        first_effects, second_effects: (i,) and (j,), the share of each feature whatever
            the other input says; None where only a phrase or a region was asked for.
        interactions: (i, j), attributions to pairs.
        convergence_delta: the sum of all parts minus the score.
        tolerance: what the residuals of the paths were asked to be within.
        rest: the share of the score that belongs to what was not asked for.
        maxsim: of a late interaction, how its score came about.
    """

    model: str
    method: str
    first: ExplainedInput
    second: ExplainedInput
    similarity: str
    score: float
    heads: tuple[Head, ...]
    constant: float
    first_effects: Optional[Tensor]
    second_effects: Optional[Tensor]
    interactions: Tensor
    convergence_delta: float
    tolerance: float
    rest: float = 0.0
    maxsim: Optional[MaxSim] = None

    # ---- the score ---------------------------------------------------------

    @property
    def logit(self) -> float:
        """The model's own score."""
        return self.heads[0](self.score)

    @property
    def logits(self) -> dict[str, float]:
        """All of the model's own scores, as its output calls them."""
        return {head.name: head(self.score) for head in self.heads}

    def parts(self) -> dict[str, float]:
        """What the score is the sum of."""
        inner = self.interactions[: self.first.count, : self.second.count]
        matched, pairs = _total(inner), _total(self.interactions)
        parts = {both_baselines(self.method): self.constant}
        names = self.side_names
        for name, effects in zip(names, (self.first_effects, self.second_effects)):
            if effects is not None:
                parts[f"{name} on its own"] = _total(effects)
        parts[f"pairs of {self._things()}"] = matched
        if self.interactions.numel() > inner.numel():
            parts["pairs with a special token"] = pairs - matched
        if self.rest:
            parts["what was not asked for"] = self.rest
        parts[self.error_name] = -self.convergence_delta
        return parts

    @property
    def side_names(self) -> tuple[str, str]:
        """What the inputs are called: "the image", "the second text"."""
        kinds = self.first.kind, self.second.kind
        if kinds[0] == kinds[1]:
            return f"the first {kinds[0]}", f"the second {kinds[1]}"
        return f"the {kinds[0]}", f"the {kinds[1]}"

    def _things(self) -> str:
        names = {TEXT: "word", IMAGE: "patch", AUDIO: "piece of sound"}
        first, second = (
            names.get(kind, "feature") for kind in (self.first.kind, self.second.kind)
        )
        if first == second:
            return {"patch": "patches"}.get(first, f"{first}s")
        return (
            f"{second} and {first}"
            if self.second.kind == TEXT
            else (f"{first} and {second}")
        )

    @property
    def error_name(self) -> str:
        """What is called what the parts miss the score by."""
        if self.method in OF_PATHS:
            return "error of the path integral"
        return "what the method leaves out"

    # ---- questions ---------------------------------------------------------

    def phrase(
        self,
        phrase: str,
        occurrence: Optional[int] = None,
        side: Optional[str] = None,
        upsampled: bool = False,
    ) -> Tensor:
        """
        What the words of a phrase matched in the other input.

        Args:
            phrase: words of the text, whatever case.
            occurrence: which one, from 1, if it stands there several times.
            side: "first" or "second", if both inputs are texts that have it.
            upsampled: in pixels of the original image instead of patches.

        Returns:
            Attributions in units of the similarity: a map (rows, columns), or (h, w) of
            the original image, whose sum is that of the patches; or (words,).

        Raises:
            InvalidArgumentError: if it is not there, with the nearest match.
        """
        side = self._side_of_phrase(phrase, occurrence, side)
        asked, other = self._ordered(side)
        span = find_phrase(asked.source.text, phrase, occurrence)
        chosen = words_of(asked.features, span)
        if not chosen:
            raise InvalidArgumentError(
                "phrase",
                f"words that were explained ({', '.join(asked.names)})",
                repr(phrase),
            )
        values = self._table(side)[chosen].sum(0)
        found = other.shaped(values)
        wanted = validation.flag("upsampled", upsampled)
        return other.upsampled(found) if wanted else found

    def region(self, where: Where, side: Optional[str] = None) -> Tensor:
        """
        What a region of an image (or of sound) matched in the other input.

        Args:
            where: left, top, right, bottom in pixels of the original image, a point
                (x, y), or a mask (h, w); patches count by their share in it.
            side: "first" or "second", if both inputs are images.

        Returns:
            Attributions in units of the similarity: (words,), or a map (rows, columns).

        Raises:
            InvalidArgumentError: if it lies outside of what the model saw.
        """
        if side is None:
            having = [s for s in (_FIRST, _SECOND) if self._ordered(s)[0].has_regions]
            if len(having) != 1:
                raise InvalidArgumentError(
                    "side" if having else "region",
                    "'first' or 'second'" if having else "an input with regions",
                    "None" if having else "none",
                )
            side = having[0]
        asked, other = self._ordered(side)
        weights = asked.weights(where).to(self.interactions)
        return other.shaped(weights @ self._table(side))

    def maps(self, side: Optional[str] = None) -> Tensor:
        """
        Of every word (or patch) of one input its attributions to the other one.

        Args:
            side: whose features the maps are of; default: the text's, or the second's.

        Returns:
            (features, rows, columns) or (features, words), without special tokens.
        """
        if side is None:
            side = _FIRST if self.second.kind != TEXT else _SECOND
        self._ordered(side)
        if self.first.kind == self.second.kind:
            side = _SECOND
        asked, other = self._ordered(side)
        return other.shaped(self._table(side)[: asked.count])

    def top_pairs(self, number: int = 3) -> list[Match]:
        """
        The strongest pairs by absolute value: of words that are not in STOP_WORDS, and
        of regions.

        A region is the strongest patch of a word with those of its neighbours, and
        theirs, that have at least half its value; a word has at most one region that
        speaks for it and one against it.
        """
        validation.positive_int("number", number, 0)
        grids = self.first.has_regions, self.second.has_regions
        if grids == (True, True):
            found = self._region_pairs(max(number, _REGIONS))
        elif not any(grids):
            found = self._word_pairs()
        else:
            found = self._word_regions(_SECOND if grids[0] else _FIRST)
        strong = (match for match in found if not math.isnan(match.value))
        return sorted(strong, key=lambda match: -abs(match.value))[:number]

    def _word_pairs(self) -> Iterator[Match]:
        rows, columns = (
            [(i, *_name(side, (i,))) for i in side.content]
            for side in (self.first, self.second)
        )
        for i, first, first_box in rows:
            for j, second, second_box in columns:
                value = float(self.interactions[i, j])
                yield Match(first, second, value, (i,), (j,), first_box, second_box)

    def _word_regions(self, side: str) -> Iterator[Match]:
        asked, other = self._ordered(side)
        table = self._table(side)
        for index in asked.content:
            for sign in (1.0, -1.0):
                region = strong_region(other, sign * table[index])
                if region is None:
                    continue
                value = float(table[index, region].sum())
                yield self._match(side, (index,), region, value)

    def _region_pairs(self, number: int) -> Iterator[Match]:
        """The strongest pair of patches, grown on both sides; then of what is left."""
        left = self.interactions[: self.first.count, : self.second.count].nan_to_num()
        for _ in range(number):
            i, j = divmod(int(left.abs().argmax()), left.shape[1])
            sign = 1.0 if left[i, j] > 0 else -1.0
            second = strong_region(self.second, sign * left[i], j)
            first = strong_region(self.first, sign * left[:, j], i)
            if first is None or second is None:
                return
            pairs = left[first][:, second]
            yield self._match(_FIRST, tuple(first), second, float(pairs.sum()))
            left[torch.tensor(first)[:, None], torch.tensor(second)] = 0

    def _match(
        self, side: str, asked: tuple[int, ...], region: list[int], value: float
    ) -> Match:
        """A match of features of one side with a region of the other one."""
        inputs = self._ordered(side)
        groups = [list(asked), region]
        named = [_name(which, group) for which, group in zip(inputs, groups)]
        if side == _SECOND:
            named, groups = named[::-1], groups[::-1]
        return Match(
            named[0][0],
            named[1][0],
            value,
            tuple(groups[0]),
            tuple(groups[1]),
            named[0][1],
            named[1][1],
        )

    # ---- late interaction ----------------------------------------------------

    def token_map(self) -> TokenMap:
        """
        Of a late interaction the similarities of its output tokens, by word: the heat
        map that such models come with, to be seen beside the attributions.

        Raises:
            InvalidArgumentError: naming ``token_map``, for any other score.
        """
        if self.maxsim is None:
            raise no_maxsim("token_map")
        return self.maxsim.token_map()

    def token_differences(self) -> list[Difference]:
        """
        Where the map of output tokens says something else than the attributions: the
        query's content words whose strongest partner differs (of an image: lies
        elsewhere).

        Raises:
            InvalidArgumentError: naming ``token_differences``, for any other score than
                late interaction.
        """
        if self.maxsim is None:
            raise no_maxsim("token_differences")
        found = self.maxsim.token_map()
        side = self.maxsim.query_side
        asked, other = self._ordered(side)
        tokens = (found.first, found.second)[:: 1 if side == _FIRST else -1]
        values = found.values if side == _FIRST else found.values.T
        of_word = {f.span: at for at, f in enumerate(tokens[0].features)}
        differing = []
        for index in asked.content:
            row = of_word.get(asked.features[index].span)
            known = values[row, : tokens[1].count] if row is not None else None
            if known is None or bool(known.isnan().all()):
                continue  # a phrase, or a word that the score does not count
            mine = int(self._table(side)[index, : other.count].argmax())
            theirs = int(known.nan_to_num(-math.inf).argmax())
            partners = other.features[mine], tokens[1].features[theirs]
            if not _meet(*partners):
                names = _name(other, [mine])[0], _name(tokens[1], [theirs])[0]
                differing.append(Difference(asked.names[index], *names))
        return differing

    def plot_tokens(self) -> "Figure":
        """
        The attributions, and beside them the map of output tokens.

        Raises:
            InvalidArgumentError: naming ``plot_tokens``, for any other score than late
                interaction.
        """
        if self.maxsim is None:
            raise no_maxsim("plot_tokens")
        return draw_token_map(self, self.maxsim.token_map())

    # ---- tables ------------------------------------------------------------

    def to_frame(self) -> "pandas.DataFrame":
        """
        Every number as a row: which part it belongs to ("pair", "first", "second",
        "constant", "rest", "error"), the names and indices of its features, whether one
        of them is special, and the attribution. These add up to the score.

        Raises:
            ImportError: without pandas.
        """
        import pandas

        names = self.first.names, self.second.names
        special = [
            [feature.special for feature in side.features]
            for side in (self.first, self.second)
        ]
        rows: list[tuple[Any, ...]] = [
            ("pair", names[0][i], names[1][j], i, j, special[0][i] or special[1][j], v)
            for i, values in enumerate(self.interactions.tolist())
            for j, v in enumerate(values)
        ]
        for at, effects in enumerate((self.first_effects, self.second_effects)):
            for index, value in enumerate([] if effects is None else effects.tolist()):
                pair: list[Any] = [None, None, None, None]
                pair[at], pair[2 + at] = names[at][index], index
                part = (_FIRST, _SECOND)[at]
                rows.append((part, *pair, special[at][index], value))
        rest = {"constant": self.constant, "rest": self.rest}
        rest["error"] = -self.convergence_delta
        rows += [(part, None, None, None, None, False, v) for part, v in rest.items()]
        columns = "part first second first_index second_index special attribution"
        frame = pandas.DataFrame(rows, columns=columns.split())
        indices = ["first_index", "second_index"]
        frame[indices] = frame[indices].astype("Int64")
        return frame

    def merge(
        self,
        first: Union[Sequence[Group], Mapping[str, Group], None] = None,
        second: Union[Sequence[Group], Mapping[str, Group], None] = None,
    ) -> "PairExplanation":
        """
        The same with features summed into groups: noun phrases, objects.

        Args:
            first, second: for each input groups, or names and groups. A group is a
                phrase of the text, a tuple (left, top, right, bottom) or a mask (h, w)
                of the image, or a list of features' indices. A patch belongs to the
                first group that has at least half of it.

        Returns:
            An explanation whose features are the groups, then the words that are in
            none; patches in none are one feature "elsewhere", special tokens stay.

        Raises:
            InvalidArgumentError: naming ``merge``, if a group is none, or all its
                features are in groups before it.
        """
        result = self
        for name, groups in ((_FIRST, first), (_SECOND, second)):
            if groups is not None:
                result = result._merged(name, groups)
        return result

    def _merged(
        self, name: str, groups: Union[Sequence[Group], Mapping[str, Group]]
    ) -> "PairExplanation":
        side = self.first if name == _FIRST else self.second
        titles, members = _groups(side, groups)
        taken: set[int] = set()
        parts: list[list[int]] = []
        for at, group in enumerate(members):
            part = [index for index in dict.fromkeys(group) if index not in taken]
            if not part:
                expected = "groups of features, each with one that is in none before it"
                raise InvalidArgumentError(_MERGE, expected, f"group {at + 1} without")
            parts.append(part)
            taken.update(group)
        titles = titles or [_title(side, part) for part in parts]
        features = [_joined(side, t, part) for t, part in zip(titles, parts)]
        left = [index for index in range(side.count) if index not in taken]
        if side.grid is not None:
            if left:
                features.append(_joined(side, "elsewhere", left))
                parts.append(left)
        else:
            features += [side.features[index] for index in left]
            parts += [[index] for index in left]
        special = [
            i for i, f in enumerate(side.features) if f.special and i not in taken
        ]
        features += [side.features[index] for index in special]
        parts += [[index] for index in special]
        merged = replace(side, features=tuple(features), grid=None)
        sums = torch.zeros(len(parts), len(side.features))
        for row, part in enumerate(parts):
            sums[row, part] = 1.0
        return self._with_side(name, merged, sums)

    def _with_side(
        self, name: str, side: ExplainedInput, sums: Tensor
    ) -> "PairExplanation":
        """Features of one side replaced by sums (new, old) of them."""
        sums = sums.to(self.interactions)
        effects = self.first_effects if name == _FIRST else self.second_effects
        effects = None if effects is None else sums @ effects
        if name == _FIRST:
            table = sums @ self.interactions
            return replace(self, first=side, first_effects=effects, interactions=table)
        table = self.interactions @ sums.T
        return replace(self, second=side, second_effects=effects, interactions=table)

    # ---- words -------------------------------------------------------------

    def summary(self) -> str:
        """What it says in a sentence, the similarity, its parts, the strongest pairs,
        what the model does not read, and the completeness."""
        line = f"{measure(self.similarity)} {plain(self.score)}"
        if found := logits(self):
            shown = ", ".join(f"{name} {plain(value, 2)}" for name, value in found)
            line += f", the model's {shown}"
        lines = [verdict(self), line, *parts(self.parts())]
        if pairs := self.top_pairs():
            lines.append("the strongest pairs:")
            lines += [f"  {pair}" for pair in pairs]
        if self.maxsim is not None:
            lines += self.maxsim.in_words(self.side_names)
        return "\n".join([*lines, *silence(self), *self._settings_in_words()])

    def _settings_in_words(self) -> Iterator[str]:
        for name, side in zip(self.side_names, (self.first, self.second)):
            yield f"{name}: {path(side, self.method)}"
        if self.method in OF_PATHS and (found := completeness(self)):
            yield f"completeness: {found}"
        if told := alone(self):
            yield told

    def plot(
        self, *, own_scales: bool = False, outlier_perc: Optional[float] = None
    ) -> "Figure":
        """
        A picture of it, as a matplotlib figure.

        Args:
            own_scales: a scale for the map of each word, instead of one for all.
            outlier_perc: the strongest attributions that make up that percentage of the
                sum are shown like the weakest of them (see
                :func:`captum_pairs.attr.visualization.visualize_image_attr`).
        """
        return draw(self, Scales(own_scales, outlier_perc))

    def plot_pairs(self, number: int = 6) -> "Figure":
        """
        The strongest pairs as lines between words and regions.

        Args:
            number: of pairs (see :meth:`top_pairs`).
        """
        return draw_pairs(self, number)

    def _in_short(self) -> Iterator[str]:
        yield f"{self.model}, {named(self.first)} and {named(self.second)}"
        yield f"{unit(self.similarity)} {plain(self.score)}"
        yield from map(str, self.top_pairs())

    # ---- files -------------------------------------------------------------

    def save(
        self, directory: Union[str, Path], name: str = "explanation"
    ) -> list[Path]:
        """
        Writes every number.

        Returns:
            DIRECTORY/NAME.json (what it is, in words and numbers) and
            DIRECTORY/NAME.safetensors (interactions, effects, pictures).
        """
        content: dict[str, Any] = {"format": _FORMAT}
        for field in fields(self):
            if field.name not in (*_TENSORS, "maxsim"):
                content[field.name] = getattr(self, field.name)
        for side in (_FIRST, _SECOND):
            content[side] = input_to_json(content[side])
        content |= {
            "heads": [asdict(head) for head in self.heads],
            "logits": self.logits,
            "parts": self.parts(),
            "top_pairs": [
                {**asdict(pair), "sentence": str(pair)} for pair in self.top_pairs()
            ],
            "stop_words": sorted(STOP_WORDS),
        }
        if self.maxsim is not None:
            content["maxsim"] = self.maxsim.to_json()
        return write_result(directory, name, content, dict(self._tensors()))

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name in _TENSORS:
            value = getattr(self, name)
            if value is not None:
                yield name, value
        for name, side in ((_FIRST, self.first), (_SECOND, self.second)):
            if side.source.picture is not None:
                picture = np.ascontiguousarray(side.source.picture)
                yield f"{name}_picture", torch.from_numpy(picture.copy())
        if self.maxsim is not None:
            yield from self.maxsim.tensors().items()

    @classmethod
    def load(
        cls, directory: Union[str, Path], name: str = "explanation"
    ) -> "PairExplanation":
        """
        What :meth:`save` wrote.

        Raises:
            InvalidArgumentError: if there is none, or another version wrote it.
        """
        content, tensors = read_result(directory, name, _FORMAT)
        with well_formed(Path(directory) / f"{name}.json"):
            values: dict[str, Any] = {}
            for field in fields(cls):
                found = tensors.get(field.name, content.get(field.name))
                values[field.name] = _typed(field.name, found)
            pictures = tuple(tensors.get(f"{s}_picture") for s in (_FIRST, _SECOND))
            for side, picture in zip((_FIRST, _SECOND), pictures):
                values[side] = input_from_json(content[side], picture)
            known = content.get("maxsim")
            values["maxsim"] = MaxSim.read(known, tensors, (pictures[0], pictures[1]))
            values["heads"] = tuple(
                Head(
                    as_text(head["name"]),
                    as_number(head["scale"]),
                    as_number(head["bias"]),
                    as_text(head.get("activation", "")),
                )
                for head in content["heads"]
            )
            result = cls(**values)
            result._check()
            return result

    def _check(self) -> None:
        """That numbers and features are as many, which what was read may lack."""
        if not self.heads:
            raise ValueError("heads")
        counts = len(self.first.features), len(self.second.features)
        for effects, count in zip((self.first_effects, self.second_effects), counts):
            if effects is not None and effects.shape != (count,):
                raise ValueError(f"effects {tuple(effects.shape)} of {count} features")
        if self.interactions.shape != counts:
            raise ValueError(
                f"interactions {tuple(self.interactions.shape)} of {counts} features"
            )

    # ---- sides -------------------------------------------------------------

    def _ordered(self, side: str) -> tuple[ExplainedInput, ExplainedInput]:
        """The input of that name, and the other one."""
        validation.one_of("side", side, (_FIRST, _SECOND))
        if side == _FIRST:
            return self.first, self.second
        return self.second, self.first

    def _table(self, side: str) -> Tensor:
        """Attributions (features of that side, features of the other one)."""
        return self.interactions if side == _FIRST else self.interactions.T

    def _side_of_phrase(
        self, phrase: str, occurrence: Optional[int], side: Optional[str]
    ) -> str:
        texts = [s for s in (_FIRST, _SECOND) if self._ordered(s)[0].kind == TEXT]
        if side is not None:
            if not isinstance(side, str) or side not in texts:
                raise InvalidArgumentError(
                    "side",
                    f"a text ({' or '.join(map(repr, texts))})",
                    validation.describe(side),
                )
            return side
        if not texts:
            raise InvalidArgumentError("phrase", "an explanation of a text", "none")
        having = []
        for name in texts:
            try:
                text = self._ordered(name)[0].source.text
                find_phrase(text, phrase, 1 if occurrence is None else occurrence)
            except InvalidArgumentError:
                continue
            having.append(name)
        if len(having) > 1:
            raise InvalidArgumentError(
                "side", f"'first' or 'second', since both have “{phrase}”", "None"
            )
        return having[0] if having else texts[-1]


_TENSORS = ("interactions", "first_effects", "second_effects")


_NUMBERS = ("score", "constant", "convergence_delta", "tolerance", "rest")


def _typed(name: str, value: Any) -> Any:
    """A number or a word that a file has, if that is what it is."""
    if name in _NUMBERS:
        return as_number(value)
    if name == "similarity":
        return as_similarity(value)
    if name in ("model", "method"):
        return as_text(value)
    return value


def _total(values: Tensor) -> float:
    return float(values.double().sum())


def _name(side: ExplainedInput, group: Sequence[int]) -> tuple[str, Optional[Box]]:
    """A word; or where a region is, and its box."""
    box = box_around(side, group) if side.has_regions else None
    if side.asked is not None:
        is_point = side.asked[0] == side.asked[2]
        box = box_around(side, group) if is_point else side.asked
    if box is None:
        return side.names[group[0]], None
    return place_in_words(side.source, box), box


def _meet(one: Feature, other: Feature) -> bool:
    """Whether two features lie on the same characters, or on the same pixels."""
    if one.box is not None and other.box is not None:
        across = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
        down = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
        return across > 0 and down > 0
    if one.span is None or other.span is None:
        return one.name == other.name
    return one.span[0] < other.span[1] and other.span[0] < one.span[1]


def _groups(side: ExplainedInput, groups: object) -> tuple[list[str], list[list[int]]]:
    """The names of groups, if they have such, and their features."""
    expected = "groups, or a mapping of names to groups"
    titles: list[str] = []
    if isinstance(groups, Mapping):
        if not all(isinstance(title, str) for title in groups):
            came = "names that are no texts"
            raise InvalidArgumentError(_MERGE, expected, came)
        titles, groups = list(groups), list(groups.values())
    if not isinstance(groups, (list, tuple)) or not groups:
        came = validation.describe(groups)
        raise InvalidArgumentError(_MERGE, expected, came)
    return titles, [_members(side, group) for group in groups]


def _members(side: ExplainedInput, group: Group) -> list[int]:
    """The features of a group."""
    if isinstance(group, str):
        if side.kind != TEXT:
            expected = "boxes, masks or lists of features"
            raise InvalidArgumentError(_MERGE, expected, f"words, of a {side.kind}")
        return words_of(
            side.features, find_phrase(side.source.text, group, None, _MERGE)
        )
    if isinstance(group, list):
        for index in group:
            is_number = isinstance(index, (int, np.integer))
            if isinstance(index, bool) or not is_number:
                came = f"{validation.describe(index)} among them"
                raise InvalidArgumentError(_MERGE, "features' indices", came)
            if not 0 <= index < len(side.features):
                raise InvalidArgumentError(
                    _MERGE, f"indices from 0 to {len(side.features) - 1}", f"{index}"
                )
        return [int(index) for index in group]
    return [int(i) for i in (side.weights(group) >= 0.5).nonzero().flatten()]


def _title(side: ExplainedInput, group: Sequence[int]) -> str:
    if side.kind == TEXT:
        return " ".join(side.features[index].name for index in group)
    box = box_around(side, group)
    return "nothing" if box is None else place_in_words(side.source, box)


def _joined(side: ExplainedInput, name: str, group: Sequence[int]) -> Feature:
    """One feature of several."""
    spans = [span for i in group if (span := side.features[i].span) is not None]
    span = (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else None
    return Feature(name, span=span, box=box_around(side, group))
