#!/usr/bin/env python3

from dataclasses import dataclass
from typing import Any, Optional, Union

import torch
from captum_pairs.attr._utils.validation import one_of, pair_of, positive_int
from captum_pairs.metrics._core.subset_scores import (
    Attributions,
    effects_of,
    several,
    subset_scores,
    SubsetScores,
    table_of,
)
from torch import Tensor

_MOST_STEPS = 32
_CURVES = ("first", "second", "both")


@dataclass(frozen=True)
class InsertionDeletion:
    r"""
    Scores while features are put in and taken out, the most important ones first.

    Args:

        insertion (Tensor): (b, X + 1, Y + 1), float64: the score where of x's features
                    the first portions up to the row's are there, of y's those up to the
                    column's, and else the baselines.
        deletion (Tensor): The same with these features missing, and else the inputs.
        shares_first, shares_second (Tensor): (X + 1,), (Y + 1,): of each side's
                    features that are in so many portions, from 0 to 1.
    """

    insertion: Tensor
    deletion: Tensor
    shares_first: Tensor
    shares_second: Tensor

    def curves(self, of: str = "both") -> tuple[Tensor, Tensor, Tensor]:
        """
        Insertion and deletion along one way.

        Args:

            of (str): "first", x's features while y is whole; "second", y's while x is;
                        "both" at once, as many steps as the side with more has.

        Returns:
            shares (steps + 1,), of "both" the mean of the sides', and scores (b,
            steps + 1) of insertion and of deletion.
        """
        one_of("of", of, _CURVES)
        rows, columns = len(self.shares_first) - 1, len(self.shares_second) - 1
        if of == "first":
            shares = self.shares_first
            return shares, self.insertion[:, :, -1], self.deletion[:, :, 0]
        if of == "second":
            shares = self.shares_second
            return shares, self.insertion[:, -1], self.deletion[:, 0]
        steps = torch.linspace(0, 1, max(rows, columns) + 1, dtype=torch.float64)
        x, y = (steps * rows).round().long(), (steps * columns).round().long()
        shares = (self.shares_first[x] + self.shares_second[y]) / 2
        return shares, self.insertion[:, x, y], self.deletion[:, x, y]

    def areas(self, of: str = "both") -> tuple[Tensor, Tensor]:
        """The mean scores (b,) along :meth:`curves` of insertion, which is high for a
        good order, and of deletion, which is low."""
        shares, insertion, deletion = self.curves(of)
        if len(shares) == 1:  # nothing can be taken out
            return insertion[:, 0], deletion[:, 0]
        return (
            torch.trapezoid(insertion, shares, dim=1),
            torch.trapezoid(deletion, shares, dim=1),
        )


def insertion_deletion(
    forward_func: Any,
    inputs: tuple[Tensor, Tensor],
    attributions: Any,
    baselines: Any = None,
    feature_mask: Any = None,
    additional_forward_args: Any = None,
    n_steps: int = _MOST_STEPS,
    always: Any = None,
    similarity: str = "cosine",
    scale: float = 1.0,
    layer: Any = None,
    attribute_to_layer_input: bool = False,
    embed_subsets: Any = None,
    internal_batch_size: Optional[int] = None,
) -> Union[InsertionDeletion, list[InsertionDeletion]]:
    r"""
    Scores while the features that an attribution calls important are put into the
    baselines, or taken out of the inputs.

    Every number of x's features meets every number of y's: with m portions of each side
    that are 2 (m + 1)² scores of 4 (m + 1) embeddings. One side's curve at the whole
    other input is the conditional insertion and deletion of Möller et al. (TMLR 2025,
    https://arxiv.org/abs/2408.14153). (Insertion and deletion: Petsiuk et al., "RISE",
    BMVC 2018.)

    Args:

        forward_func, inputs, baselines, feature_mask, additional_forward_args,
            similarity, scale, layer, attribute_to_layer_input, embed_subsets,
            internal_batch_size: As for :class:`captum_pairs.attr.FeaturePairOcclusion`.
        attributions (Tensor or tuple or list): (b, \*features of x, \*features of y): a
                    feature is as important as its sum over the other side's; or a pair
                    (b, \*features of x), (b, \*features of y) of what each is worth; or
                    a list of several methods'.
        n_steps (int, optional): The most portions of a side, of as many features each
                    as can be. Default: 32
        always (tuple, optional): Of each side the indices of features that are never
                    taken out (a class token), or None.

    Returns:
        *InsertionDeletion*, or a list of them.

    Raises:
        InvalidArgumentError: for what does not fit.

    Examples::

        >>> nets = nn.Linear(6, 3), nn.Linear(4, 3)
        >>> pairs = (torch.randn(2, 6), torch.randn(2, 4))
        >>> found = FeaturePairOcclusion(nets, "dot").attribute(pairs)
        >>> scores = insertion_deletion(nets, pairs, found, similarity="dot")
        >>> scores.insertion.shape
        torch.Size([2, 7, 5])
    """
    methods, is_list = several(attributions)
    positive_int("n_steps", n_steps)
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in methods]
    shares: list[Tensor] = []
    for game in subset_scores(
        forward_func,
        inputs,
        baselines,
        feature_mask,
        additional_forward_args,
        similarity,
        scale,
        layer,
        attribute_to_layer_input,
        always,
        embed_subsets,
        internal_batch_size,
    ):
        for results, attribution in zip(found, methods):
            worth = _worth(attribution, game, len(inputs[0]))
            added = [_portions(game, side, worth[side], n_steps) for side in (0, 1)]
            shares = [_shares(game, side, added[side]) for side in (0, 1)]
            left = [~subset | game.always[side] for side, subset in enumerate(added)]
            results.append((game.scores(*added), game.scores(*left)))
    every = [
        InsertionDeletion(
            *(torch.stack(parts).double().cpu() for parts in zip(*results)), *shares
        )
        for results in found
    ]
    return every if is_list else every[0]


def _worth(
    attributions: Attributions, game: SubsetScores, rows: int
) -> tuple[Tensor, Tensor]:
    """What the features of each side are worth, (G_x,) and (G_y,)."""
    if isinstance(attributions, tuple):
        one, other = (
            effects_of(f"attributions[{side}]", values, game, side, rows)
            for side, values in enumerate(pair_of("attributions", attributions))
        )
        return one, other
    table = table_of(attributions, game, rows)
    return table.sum(1), table.sum(0)


def _portions(game: SubsetScores, side: int, worth: Tensor, n_steps: int) -> Tensor:
    """(X + 1, G), bool: row r has the features of the first r portions."""
    always = game.always[side]
    order = torch.argsort(worth.cpu(), descending=True, stable=True)
    order = order[~always[order]]
    steps = min(n_steps, len(order))
    added = always.repeat(steps + 1, 1)
    for row in range(1, steps + 1):
        added[row, order[: round(row * len(order) / steps)]] = True
    return added


def _shares(game: SubsetScores, side: int, added: Tensor) -> Tensor:
    movable = ~game.always[side]
    total = max(int(movable.sum()), 1)
    return added[:, movable].sum(1).double() / total
