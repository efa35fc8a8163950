"""What MaxSim found of a pair: which output token was assigned to which, what the score
is beside the one with these places fixed, and the map of output tokens."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explain.files import as_number, input_from_json, input_to_json
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.equality import ByContent
from captum_pairs.show.wording import plain
from torch import Tensor

__all__ = ["Difference", "MaxSim", "TokenMap"]

_TENSORS = ("similarities", "assigned", "first_groups", "second_groups")
_TABLES = ("fixed", "own", "switched")


class Difference(NamedTuple):
    """
    A word of the query, and what matched it most.

    Args:
        word: of the query.
        attribution: the word (or where the patch is) that its attribution to the other
            input's features is strongest with.
        tokens: that its output tokens are most similar to.
    """

    word: str
    attribution: str
    tokens: str

    def __str__(self) -> str:
        return f"{self.word}: {self.attribution} (of output tokens: {self.tokens})"


@dataclass(frozen=True, repr=False)
class TokenMap(ByContent):
    """
    The similarities of output tokens, which is the heat map that late-interaction
    models come with: not an attribution, since an output token has read all of its
    input.

    Args:
        first, second: the inputs, and what their output tokens lie on: words i and j,
            or patches.
        values: (i, j), what MaxSim would give of the query's word if the document had
            this one only: the sum over its tokens of the largest similarity. NaN where
            the score counts none of the tokens.
        counted: (i, j), of these similarities those that the score is the sum of.
    """

    first: ExplainedInput
    second: ExplainedInput
    values: Tensor
    counted: Tensor

    def __repr__(self) -> str:
        rows, columns = self.values.shape
        return f"<TokenMap: {rows} x {columns}, {self.first!r} and {self.second!r}>"


@dataclass(frozen=True, repr=False)
class MaxSim(ByContent):
    """
    How a score by MaxSim came about, and how far attributions to its fixed assignment
    may be taken.

    s is the model's own score, whose maxima are found anew for any input. The fixed
    score s̃ keeps the document's token that each of the query's was assigned to at the
    inputs; attributions are those of s̃, and sum to s̃(x,y) − s̃(r_x,y) − s̃(x,r_y) +
    s̃(r_x,r_y).

    Args:
        query_side: "first" or "second", whose tokens look for the nearest.
        first, second: the inputs, and the words or patches that output tokens lie on.
        first_groups, second_groups: (tokens,), int64, of each output token that the
            score counts the index of its word.
        similarities: (query's tokens, document's tokens), of those that the score
            counts, in units of the score.
        assigned: (query's tokens,), int64, the document's token of each.
        fixed: (2, 2), s̃: the first input as it is or at its baseline, then the second.
        own: (2, 2), s likewise; NaN where the score counts no token.
        switched: (n, n), the share of the query's tokens that are assigned to another
            token at points of both paths; the last row and column are the inputs
            themselves.
    """

    query_side: str
    first: ExplainedInput
    second: ExplainedInput
    first_groups: Tensor
    second_groups: Tensor
    similarities: Tensor
    assigned: Tensor
    fixed: Tensor
    own: Tensor
    switched: Tensor

    def __repr__(self) -> str:
        count = " x ".join(map(str, self.similarities.shape))
        return f"<MaxSim: {count} tokens, {100 * self.switches:.0f} % switch>"

    @property
    def gaps(self) -> Tensor:
        """s − s̃, (2, 2); NaN where s is undefined."""
        return self.own - self.fixed

    @property
    def specific(self) -> float:
        """What attributions to pairs sum to: s̃(x,y) − s̃(r_x,y) − s̃(x,r_y) +
        s̃(r_x,r_y)."""
        signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
        return float((signs * self.fixed.double()).sum())

    @property
    def switches(self) -> float:
        """The mean share of the query's tokens that are assigned to another token at a
        point between both baselines and both inputs."""
        return float(self.switched[:-1, :-1].double().mean())

    def token_map(self) -> TokenMap:
        """The map of output tokens, by word."""
        is_first = self.query_side == "first"
        groups = self.first_groups, self.second_groups
        counts = [len(side.features) for side in (self.first, self.second)]
        rows, columns = groups if is_first else groups[::-1]
        shape = tuple(counts if is_first else counts[::-1])
        similar = self.similarities.double()
        # (q, d) -> (q, j): the largest of a word's tokens
        best = similar.new_full((len(rows), shape[1]), -math.inf)
        for at in set(columns.tolist()):
            best[:, at] = similar[:, columns == at].amax(1)
        values = similar.new_zeros(shape).index_add(0, rows, best)
        values[torch.bincount(rows, minlength=shape[0]) == 0] = math.nan
        values[values.isinf()] = math.nan
        counted = similar.new_zeros(shape)
        chosen = similar.gather(1, self.assigned[:, None])[:, 0]
        counted.index_put_((rows, columns[self.assigned]), chosen, accumulate=True)
        if not is_first:
            values, counted = values.T, counted.T
        return TokenMap(
            self.first, self.second, values.contiguous(), counted.contiguous()
        )

    def in_words(self, names: tuple[str, str]) -> list[str]:
        """
        The fixed score beside the model's own, and how often maxima switch.

        Args:
            names: what the two inputs are called.
        """
        first, second = names
        corners = (
            "at the inputs",
            f"with {second} at its baseline",
            f"with {first} at its baseline",
            "with both",
        )
        told = []
        for where, gap in zip(corners, self.gaps.flatten().tolist()):
            undefined = "undefined (no token counts there)"
            told.append(f"{where} {undefined if math.isnan(gap) else plain(gap)}")
        alone = self.switched.double()
        along = [float(alone[:-1, -1].mean()), float(alone[-1, :-1].mean())]
        return [
            "maxima fixed at the inputs; the model's score less the fixed one: "
            + ", ".join(told),
            f"between baselines and inputs {100 * self.switches:.0f} % of the query's "
            f"tokens are assigned to another token ({100 * along[0]:.0f} % along "
            f"{first} alone, {100 * along[1]:.0f} % along {second})",
        ]

    # ---- files -------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """What is no tensor of many numbers."""
        tables = {
            name: [
                [None if math.isnan(value) else value for value in row]
                for row in getattr(self, name).tolist()
            ]
            for name in _TABLES
        }
        sides = {name: input_to_json(getattr(self, name)) for name in _SIDES}
        return {"query_side": self.query_side, **tables, **sides}

    def tensors(self) -> dict[str, Tensor]:
        """The others, by names of their own."""
        return {f"maxsim_{name}": getattr(self, name).contiguous() for name in _TENSORS}

    @classmethod
    def read(
        cls,
        content: Optional[Mapping[str, Any]],
        tensors: Mapping[str, Tensor],
        pictures: tuple[Optional[Tensor], Optional[Tensor]],
    ) -> Optional["MaxSim"]:
        """
        What :meth:`to_json` and :meth:`tensors` gave, if there is any.

        Raises:
            ValueError, TypeError, LookupError: if it is damaged.
        """
        if content is None:
            return None
        if content["query_side"] not in _SIDES:
            raise ValueError("query_side")
        values: dict[str, Any] = {n: tensors[f"maxsim_{n}"] for n in _TENSORS}
        for name in _TABLES:
            values[name] = torch.tensor(
                [
                    [math.nan if v is None else as_number(v) for v in row]
                    for row in content[name]
                ],
                dtype=torch.float64,
            )
        for name, picture in zip(_SIDES, pictures):
            values[name] = input_from_json(content[name], picture)
        found = cls(query_side=content["query_side"], **values)
        found._check()
        return found

    def _check(self) -> None:
        """That numbers and tokens are as many, which what was read may lack."""
        rows, columns = self.first_groups, self.second_groups
        if self.query_side == "second":
            rows, columns = columns, rows
        shape = (len(rows), len(columns))
        fits = (
            self.similarities.shape == shape
            and self.assigned.shape == (len(rows),)
            and _below(self.assigned, len(columns))
            and _below(self.first_groups, len(self.first.features))
            and _below(self.second_groups, len(self.second.features))
            and self.fixed.shape == self.own.shape == (2, 2)
            and self.switched.ndim == 2
            and min(self.switched.shape) > 1
        )
        if not fits:
            raise ValueError(f"MaxSim of {shape} tokens")


_SIDES = ("first", "second")


def _below(indices: Tensor, count: int) -> bool:
    is_whole = indices.dtype == torch.int64 and indices.ndim == 1 and len(indices) > 0
    return is_whole and 0 <= int(indices.min()) and int(indices.max()) < count


def no_maxsim(what: str) -> InvalidArgumentError:
    """What is asked of a score that is no late interaction."""
    return InvalidArgumentError(
        what,
        "an explanation of a late interaction (MaxSim)",
        "one of two embeddings, which have no output tokens",
    )
