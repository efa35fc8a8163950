#!/usr/bin/env python3

from typing import Any, NamedTuple, Optional, Union

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.attr._utils.marginals import validate_generator, validate_probability
from captum_pairs.attr._utils.validation import describe, flag, pair_of, positive_int
from captum_pairs.metrics._core.correlation import pearson, ROUNDING, spearman
from captum_pairs.metrics._core.subset_scores import (
    effects_of,
    several,
    subset_scores,
    SubsetScores,
    table_of,
)
from torch import Tensor


class Faithfulness(NamedTuple):
    """
    Correlations of predicted and true scores, (b,), float64.

    Args:

        interactions (Tensor): Of the prediction by pairs of features alone with the
                    score.
        centered (Tensor): Of the same prediction with what pairs make of the score:
                    both less their means over S and over T.
        with_effects (Tensor, optional): Of the prediction by main effects and pairs
                    with the score; None if no main effects were given.
    """

    interactions: Tensor
    centered: Tensor
    with_effects: Optional[Tensor]


def faithfulness(
    forward_func: Any,
    inputs: tuple[Tensor, Tensor],
    attributions: Union[Tensor, list[Tensor]],
    baselines: Any = None,
    feature_mask: Any = None,
    additional_forward_args: Any = None,
    main_effects: Any = None,
    p: float = 0.5,
    n_samples: int = 128,
    generator: Optional[torch.Generator] = None,
    rank: bool = False,
    always: Any = None,
    similarity: str = "cosine",
    scale: float = 1.0,
    layer: Any = None,
    attribute_to_layer_input: bool = False,
    embed_subsets: Any = None,
    internal_batch_size: Optional[int] = None,
) -> Union[Faithfulness, list[Faithfulness]]:
    r"""
    How well attributions predict the score when only some features are there: the
    correlation, over random subsets S of x's features and T of y's, of s(S, T) with

    .. math::
        \sum_{i \in S, j \in T} A_{ij}
        \quad\text{and}\quad
        \sum_{i \in S} a_i + \sum_{j \in T} b_j + \sum_{i \in S, j \in T} A_{ij}.

    and of the first one with the part of s(S, T) that is neither S's nor T's own. A
    feature is there with probability p, independently. (Baniecki et al., "Explaining
    Similarity in Vision-Language Encoders with Weighted Banzhaf Interactions", 2025,
    measure p-faithfulness over sampled pairs (S, T); here every one of n_samples
    subsets of x meets every one of y at the cost of 2 n_samples embeddings.)

    Args:

        forward_func, inputs, baselines, feature_mask, additional_forward_args,
            similarity, scale, layer, attribute_to_layer_input, embed_subsets,
            internal_batch_size: As for :class:`captum_pairs.attr.FeaturePairOcclusion`.
        attributions (Tensor or list): A, (b, \*features of x, \*features of y); or a
                    list of several methods', which are measured on the same subsets.
        main_effects (tuple, optional): a and b, (b, \*features of x) and
                    (b, \*features of y); with several methods a list of such pairs, or
                    None for a method that has none.
        p (float, optional): Default: 0.5
        n_samples (int, optional): Subsets of each side. Default: 128
        generator (torch.Generator, optional): Where chance comes from.
        rank (bool, optional): Spearman's correlation instead of Pearson's.
        always (tuple, optional): Of each side the indices of features that are in every
                    subset (a class token), or None.

    Returns:
        *Faithfulness*, or a list of them. 0 for a prediction that is constant.

    Raises:
        InvalidArgumentError: for what does not fit.

    Examples::

        >>> nets = nn.Linear(6, 3), nn.Linear(4, 3)
        >>> pairs = (torch.randn(2, 6), torch.randn(2, 4))
        >>> found = FeaturePairOcclusion(nets, "dot").attribute(pairs)
        >>> faithfulness(nets, pairs, found, similarity="dot").interactions.shape
        torch.Size([2])
    """
    methods, is_list = several(attributions)
    effects = [main_effects]
    if is_list:
        effects = _as_many(main_effects, len(methods))
    p = validate_probability(p)
    positive_int("n_samples", n_samples, least=2)
    validate_generator(generator)
    flag("rank", rank)
    found: list[list[Faithfulness]] = [[] for _ in methods]
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
        subsets = [game.draw(side, p, n_samples, generator) for side in (0, 1)]
        truth = game.scores(*subsets).double().cpu()  # (m, n)
        rows = len(inputs[0])
        for results, attribution, main in zip(found, methods, effects):
            table = table_of(attribution, game, rows).cpu()
            a_and_b = None if main is None else _effects(main, game, rows)
            results.append(_one(subsets, truth, table, a_and_b, rank))
    every = [_stacked(results) for results in found]
    return every if is_list else every[0]


def _as_many(main_effects: Any, number: int) -> list[Any]:
    if main_effects is None:
        return [None] * number
    if isinstance(main_effects, list) and len(main_effects) == number:
        return main_effects
    raise InvalidArgumentError(
        "main_effects",
        f"a list of {number}, one for each method",
        describe(main_effects),
    )


def _effects(main: Any, game: SubsetScores, rows: int) -> tuple[Tensor, Tensor]:
    a, b = (
        effects_of(f"main_effects[{side}]", values, game, side, rows).cpu()
        for side, values in enumerate(pair_of("main_effects", main))
    )
    return a, b


def _one(
    subsets: list[Tensor],
    truth: Tensor,
    table: Tensor,
    effects: Optional[tuple[Tensor, Tensor]],
    rank: bool,
) -> Faithfulness:
    """The correlations of one example."""
    first, second = (subset.double() for subset in subsets)
    predicted = first @ table @ second.T  # (m, n)
    correlation = spearman if rank else pearson
    alone = correlation(predicted.flatten(), truth.flatten())
    pairs = correlation(_centered(predicted), _centered(truth))
    if effects is None:
        return Faithfulness(alone, pairs, None)
    whole = predicted + (first @ effects[0])[:, None] + second @ effects[1]
    return Faithfulness(alone, pairs, correlation(whole.flatten(), truth.flatten()))


def _centered(values: Tensor) -> Tensor:
    """A table (m, n) less the means of its rows and columns, flat."""
    rows, columns = values.mean(1, keepdim=True), values.mean(0, keepdim=True)
    left = values - rows - columns + values.mean()
    # what rounding leaves of a sum of rows and columns is no interaction
    if left.norm() <= ROUNDING * values.norm():
        left = torch.zeros_like(left)
    return left.flatten()


def _stacked(results: list[Faithfulness]) -> Faithfulness:
    alone, pairs, whole = zip(*results)
    effects = [each for each in whole if each is not None]
    return Faithfulness(
        torch.stack(alone),
        torch.stack(pairs),
        torch.stack(effects) if effects else None,
    )
