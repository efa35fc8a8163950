"""
Metrics of subsets beside plain loops over pairs of subsets: time and difference.

    python benchmarks/metrics.py [--subsets 32] [--repeats 3] [--threads 1]

One scene and its caption, the model that comes with the package: 64 patches of pixels
(mean colour where absent) and 10 words (padding). `faithfulness` has `--subsets` random
subsets of each side, `insertion_deletion` so many portions of the patches, and every
word is one. Beside them the definition: every pair (S, T) is a forward pass of both
encoders on an image and a text with some of their features, one after the other; and,
so that batching is no part of the ratio, 64 pairs at once. Both are given the same
attributions and the same subsets. Times are medians of `--repeats` runs; embeddings are
counted as the encoders give them out, the library's checks among them.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import captum_pairs
import numpy as np
import torch
from captum_pairs.attr import LayerFeaturePairIntegratedGradients, PairDecomposition
from captum_pairs.metrics import faithfulness, insertion_deletion
from captum_pairs.models import Encoder
from captum_pairs.scenes import render, sample_caption, sample_scene
from common import machine, seconds
from torch import nn, Tensor

WORDS = 10
# As many as the library embeds at once.
BATCH = 64


class Counted:
    """An encoder, and how many embeddings it has given out."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.number = encoder, 0

    def __call__(self, inputs: Tensor, *arguments: Any) -> Tensor:
        embeddings = self.encoder.embed(inputs, *arguments)
        self.number += len(embeddings)
        return embeddings


class Side(NamedTuple):
    """
    An encoder with an input whose features can be absent.

    Args:
        embed: pixels or token ids, and `arguments`, to embeddings.
        value, absent: with all features, and with none: (1, ...).
        layer: where the library replaces features; None for the input itself.
        mask: the feature of each of the layer's scalars.
        always: the features that are never absent, (G,), bool.
    """

    embed: Counted
    value: Tensor
    absent: Tensor
    arguments: tuple[Any, ...]
    layer: Optional[nn.Module]
    mask: Tensor
    always: Tensor


def make_side(encoder: Encoder, raw: Any) -> Side:
    """
    Patches of pixels, or words.

    The loops exchange a text's ids, and the library, which takes floating values, the
    word embeddings that belong to them: it is the same text.
    """
    prepared, layer = encoder.prepare(raw), encoder.layer("input").module
    value = prepared.inputs
    shape = value.shape if layer is None else (*value.shape, 1)
    layout = prepared.layout(shape, layer is None, tokens=False)
    return Side(
        Counted(encoder),
        value,
        prepared.baseline,
        prepared.arguments,
        layer,
        layout.mask,
        torch.tensor([feature.special for feature in layout.features]),
    )


def scene(model: captum_pairs.DualEncoder, seed: int = 5) -> list[Side]:
    """The first one whose caption has ten words."""
    rng = np.random.default_rng(seed)
    while True:
        drawn = sample_scene(rng, 3)
        text = sample_caption(rng, drawn).text
        raw = render(drawn).image, text
        both = list(map(make_side, (model.first, model.second), raw))
        if int((~both[1].always).sum()) == WORDS:
            print(f"“{text}”")
            return both


class Given(NamedTuple):
    """
    What the loops and the library are given.

    Args:
        case: both sides.
        parts: the attributions that are measured.
        number: of subsets of a side, at most.
    """

    case: list[Side]
    parts: PairDecomposition
    number: int

    def generator(self) -> torch.Generator:
        """The same chance for everyone."""
        return torch.Generator().manual_seed(0)


# ---- the definition ------------------------------------------------------------


def embedded(side: Side, subsets: list[Tensor]) -> Tensor:
    """A forward pass with only the features of subsets (G,) there: (n, k)."""
    ids = side.mask.reshape(side.mask.shape[: side.value.ndim])[0]
    there = torch.stack([subset[ids] for subset in subsets])
    arguments = (each.expand(len(subsets), -1) for each in side.arguments)
    return side.embed(torch.where(there, side.value, side.absent), *arguments)


def scores(
    case: list[Side], pairs: list[tuple[Tensor, Tensor]], batch: int
) -> list[float]:
    """The cosine for each pair (S, T), a forward pass of both encoders each."""
    found = []
    for start in range(0, len(pairs), batch):
        chosen = zip(*pairs[start : start + batch])
        both = [embedded(side, list(each)) for side, each in zip(case, chosen)]
        found += torch.cosine_similarity(both[0], both[1], dim=1).tolist()
    return found


@torch.no_grad()
def naive_faithfulness(given: Given, batch: int) -> list[float]:
    """Correlations by interactions, of what is centred, and with main effects."""
    generator, drawn = given.generator(), []
    for side in given.case:
        chances = torch.full((given.number, len(side.always)), 0.5).double()
        drawn.append(torch.bernoulli(chances, generator=generator).bool() | side.always)
    pairs = [(first, second) for first in drawn[0] for second in drawn[1]]
    true = scores(given.case, pairs, batch)
    table, a, b = (
        part[0].double()
        for part in (given.parts.interactions, given.parts.first, given.parts.second)
    )
    alone = [float(table[first][:, second].sum()) for first, second in pairs]
    effects = [float(a[first].sum() + b[second].sum()) for first, second in pairs]
    whole = np.add(alone, effects)
    tables = (np.reshape(each, (given.number, -1)) for each in (alone, true))
    centered = [t - t.mean(0) - t.mean(1)[:, None] + t.mean() for t in tables]
    both = ((alone, true), [each.ravel() for each in centered], (whole, true))
    return [float(np.corrcoef(*each)[0, 1]) for each in both]


@torch.no_grad()
def naive_insertion_deletion(given: Given, batch: int) -> list[Tensor]:
    """Scores (X + 1, Y + 1) of both."""
    table, put_in, taken_out = given.parts.interactions[0], [], []
    for side, worth in zip(given.case, (table.sum(1), table.sum(0))):
        order = [i for i in worth.argsort(descending=True) if not side.always[i]]
        steps = min(given.number, len(order))
        there = torch.zeros(steps + 1, len(worth)).bool()
        for step in range(steps + 1):
            there[step, order[: round(step * len(order) / steps)]] = True
        put_in.append(there | side.always)
        taken_out.append(~there | side.always)
    found = []
    for first, second in (put_in, taken_out):
        pairs = [(one, other) for one in first for other in second]
        values = torch.tensor(scores(given.case, pairs, batch))
        found.append(values.reshape(len(first), len(second)))
    return found


# ---- the library -----------------------------------------------------------------


def arguments(case: list[Side]) -> dict[str, Any]:
    """Of a pair method and of the metrics."""
    return {
        "inputs": tuple(side.value for side in case),
        "baselines": tuple(side.absent for side in case),
        "feature_mask": tuple(side.mask for side in case),
        "additional_forward_args": tuple(side.arguments for side in case),
    }


def of_pairs(case: list[Side]) -> dict[str, Any]:
    """Of the metrics alone."""
    return {
        "forward_func": tuple(side.embed for side in case),
        "layer": tuple(side.layer for side in case),
        "always": tuple(side.always.nonzero().flatten().tolist() for side in case),
        **arguments(case),
    }


def our_faithfulness(given: Given) -> list[float]:
    found = faithfulness(
        attributions=given.parts.interactions,
        main_effects=(given.parts.first, given.parts.second),
        n_samples=given.number,
        generator=given.generator(),
        **of_pairs(given.case),
    )
    return [float(found.interactions), float(found.centered), float(found.with_effects)]


def our_insertion_deletion(given: Given) -> list[Tensor]:
    found = insertion_deletion(
        attributions=given.parts.interactions,
        n_steps=given.number,
        **of_pairs(given.case),
    )
    return [found.insertion[0], found.deletion[0]]


# ---- both ------------------------------------------------------------------------


class Run(NamedTuple):
    """What was found, the median time, and the embeddings that it took."""

    found: list[Any]
    seconds: float
    embeddings: int


def run(work: Callable[[], list[Any]], given: Given, repeats: int) -> Run:
    encoders = [side.embed for side in given.case]
    before = sum(encoder.number for encoder in encoders)
    results: list[list[Any]] = []
    time = seconds(lambda: results.append(work()), repeats)
    made = sum(encoder.number for encoder in encoders) - before
    return Run(results[0], time, made // repeats)


def row(
    name: str,
    given: Given,
    naive: Callable[[Given, int], list[Any]],
    ours: Callable[[Given], list[Any]],
    repeats: int,
) -> list[Any]:
    """Prints a line of the table, and gives what the library found."""
    single = run(lambda: naive(given, 1), given, repeats)
    batched = run(lambda: naive(given, BATCH), given, repeats)
    fast = run(lambda: ours(given), given, repeats)
    difference = max(
        float((torch.as_tensor(one) - torch.as_tensor(other)).abs().max())
        for loop in (single, batched)
        for one, other in zip(loop.found, fast.found)
    )
    print(
        f"| {name} | {single.embeddings:,} / {fast.embeddings} | {single.seconds:.2f} "
        f"s | {batched.seconds:.2f} s | {1e3 * fast.seconds:.0f} ms | "
        f"**{single.seconds / fast.seconds:.0f} ×** | "
        f"**{batched.seconds / fast.seconds:.0f} ×** | {difference:.1e} |",
        flush=True,
    )
    return fast.found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--subsets", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine()}; {options.threads} thread(s)")
    model = captum_pairs.load("scenes:plain")
    case = scene(model)
    method = LayerFeaturePairIntegratedGradients(
        tuple(side.embed for side in case), tuple(side.layer for side in case)
    )
    parts = method.decompose(**arguments(case), n_steps=256, tolerance=1e-2)
    number = options.subsets
    given = Given(case, parts, number)
    portions = [min(number, int((~side.always).sum())) + 1 for side in case]
    print(
        "| | embeddings, loop / ours | loop | 64 pairs at once | ours | ratio to the "
        "loop | to 64 at once | largest difference |\n" + "| --- " * 8 + "|"
    )
    correlations = row(
        f"faithfulness, {number} x {number} subsets",
        given,
        naive_faithfulness,
        our_faithfulness,
        options.repeats,
    )
    row(
        f"insertion and deletion, {portions[0]} x {portions[1]} subsets each",
        given,
        naive_insertion_deletion,
        our_insertion_deletion,
        options.repeats,
    )
    print(
        "correlation of predicted and true scores: {:.4f} by interactions, {:.4f} of "
        "what pairs make of it, {:.4f} with main effects".format(*correlations)
    )


if __name__ == "__main__":
    main()
