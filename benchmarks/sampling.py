"""
How many embeddings sampled interactions need, beside the samplers of shapiq.

    python benchmarks/sampling.py [--scenes 1] [--seeds 5] [--ours 2176] [--theirs 4096]
        [--truth 8192] [--check 60]

A held-out scene and its caption of ten words, the model that comes with the package at
its default layers: 64 patches and 10 words that are there or have the baseline's value;
the class token, [BOS] and [EOS] are always there. Both get that same game, whose value
is the cosine of the two embeddings: ours from each encoder, shapiq's (pip install
shapiq) as one game of 74 players. Every embedding that is asked for counts, so that
a value of the game of 74 counts as two; the script remembers those of the game, which
saves its time and not the count.

The error is the mean absolute error over the 640 pairs, in percent of the largest
interaction. An attribution of zeros has one too, and a small one: it is printed, and
only errors well below it say anything. Budgets double: `--ours` is the most embeddings
of the image that we take, `--theirs` the most values of the game.

- "ours": `n_samples` is the same for both sides; all 1,024 subsets of the words are
  taken once it allows them. "ours, all words": they always are.
- The samplers of shapiq have the settings that they come with, and "paired" ones draw
  complements too. SVARM-IQ is also given binomial weights of sizes, which are those of
  the Banzhaf index. Only pairs of a patch and a word are asked of it.
- The truth is exact in the words and sampled in the patches, `--truth` subsets (for the
  Shapley index at each of ten probabilities: a tenth). It is compared with an estimate
  of another kind, of `--check` times 65 embeddings: differences of subsets that differ
  in one patch, without a fit and, for the Shapley index, without a quadrature.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Optional

import captum_pairs
import numpy as np
import torch
from captum_pairs.attr import (
    FeaturePairBanzhaf,
    FeaturePairShapley,
    InvalidArgumentError,
)
from captum_pairs.models import Encoder
from captum_pairs.scenes import render, sample_caption, sample_scene
from common import machine
from numpy.typing import NDArray
from scipy.special import binom
from shapiq import (
    ExactComputer,
    KernelSHAPIQ,
    PermutationSamplingSII,
    RegressionFBII,
    SVARMIQ,
)
from torch import Tensor

SEED = 779
WORDS = 10
BATCH = 64
# Of the patches: ours doubles from here (a fit of 64 of them needs 2 * 66).
FEWEST = 136
# Probabilities at which the Shapley index is integrated for the truth.
NODES = 10
# Percent of the largest interaction.
TARGETS = (5.0, 2.0, 1.0, 0.5)
BANZHAF, SHAPLEY = "Banzhaf", "Shapley"


class Side:
    """
    An encoder from a layer's value on, as a game of features.

    Attributes:
        value, absent: the layer's value with all features and with none, (1, ...).
        mask: the feature of every position of the value.
        plays: which features may be absent, (G,), bool.
        number: how many embeddings have been asked for.
    """

    def __init__(
        self, encoder: Encoder, raw: Any, groups: Optional[Tensor] = None
    ) -> None:
        """
        Args:
            encoder, raw: its input.
            groups: features made of others: the new one of each, with the last one for
                those that are always there.
        """
        self._encoder, self._prepared = encoder, encoder.prepare(raw)
        self._module = encoder.layer(None).module
        self.number = 0
        self.value = self._value_of(self._prepared.inputs)
        layout = self._prepared.layout(self.value.shape, False, tokens=False)
        self.mask = layout.mask
        self.plays = torch.tensor([not feature.special for feature in layout.features])
        # features that are the same in input and baseline do not play
        start = self._value_of(self._prepared.baseline)
        self.absent = torch.where(self.plays[self.mask], start, self.value)
        if groups is not None:
            self.mask = groups[self.mask]
            self.plays = torch.arange(int(groups.max()) + 1) < groups.max()

    @property
    def count(self) -> int:
        return int(self.plays.sum())

    def _value_of(self, inputs: Tensor) -> Tensor:
        seen = []

        def look(_: Any, args: tuple[Any, ...]) -> None:
            seen.append(args[0].clone())

        handle = self._module.register_forward_pre_hook(look)
        try:
            with torch.no_grad():
                self._encoder.embed(inputs, *self._prepared.arguments)
        finally:
            handle.remove()
        return seen[0]

    def encode(self, values: Tensor) -> Tensor:
        """The layer's values (n, ...) to embeddings (n, k)."""

        def put(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (values, *args[1:])

        self.number += len(values)
        handle = self._module.register_forward_pre_hook(put)
        try:
            return self._encoder.embed(self._prepared.inputs, *self._prepared.arguments)
        finally:
            handle.remove()

    @torch.no_grad()
    def embed(self, present: Tensor) -> Tensor:
        """Subsets (n, players), bool, to embeddings of norm one (n, k)."""
        whole = torch.ones(len(present), len(self.plays), dtype=torch.bool)
        whole[:, self.plays] = present
        found = []
        for chunk in torch.split(whole, BATCH):
            there = chunk[:, self.mask[0]]
            found.append(self.encode(torch.where(there, self.value, self.absent)))
        return torch.nn.functional.normalize(torch.cat(found).double(), dim=1)


class Pair(NamedTuple):
    """Both inputs, with the embeddings of all subsets of the words (2^G, k)."""

    text: str
    sides: tuple[Side, Side]
    subsets: Tensor
    words: Tensor

    @property
    def arguments(self) -> dict[str, Any]:
        """Of our methods."""
        x, y = self.sides
        return {
            "inputs": (x.value, y.value),
            "baselines": (x.absent, y.absent),
            "feature_mask": (x.mask, y.mask),
        }

    @property
    def encoders(self) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        return self.sides[0].encode, self.sides[1].encode

    def table(self, whole: Tensor) -> Tensor:
        """The pairs of players (players, players) of (1, G, G)."""
        first, second = (side.plays for side in self.sides)
        return whole[0][first][:, second].double()

    def word_values(self, p: float) -> Tensor:
        r""":math:`\beta_j(p)`, exactly: (words, k)."""
        size = self.subsets.sum(1, keepdim=True)
        chance = p**size * (1 - p) ** (self.subsets.shape[1] - size)
        signs = self.subsets.double() / p - (~self.subsets).double() / (1 - p)
        return (chance * signs).T @ self.words


def pairs(
    model: captum_pairs.DualEncoder, number: int, words: int, quarters: bool = False
) -> Iterator[Pair]:
    """Held-out scenes whose caption has so many words; patches or quarters of them."""
    rng = np.random.default_rng(SEED)
    # patches row by row to quarters, and the class token
    rows, columns = torch.arange(64) // 8 // 4, torch.arange(64) % 8 // 4
    groups = torch.cat([2 * rows + columns, torch.tensor([4])]) if quarters else None
    while number:
        scene = sample_scene(rng, 3)
        text = sample_caption(rng, scene).text
        second = Side(model.second, text)
        if second.count != words:
            continue
        first = Side(model.first, render(scene).image, groups)
        rows_of = torch.arange(2**words)[:, None] >> torch.arange(words)
        subsets = rows_of % 2 == 1
        yield Pair(text, (first, second), subsets, second.embed(subsets))
        number -= 1


class Game:
    """The cosine as one game of all players; it counts two embeddings for a value."""

    def __init__(self, pair: Pair) -> None:
        self._pair, self.number = pair, 0
        self._known: dict[bytes, Tensor] = {}

    def __call__(self, coalitions: NDArray[Any]) -> NDArray[np.float64]:
        rows = np.atleast_2d(coalitions).astype(bool)
        self.number += 2 * len(rows)
        first = self._pair.sides[0]
        patches, words = rows[:, : first.count], rows[:, first.count :]
        keys = [row.tobytes() for row in np.packbits(patches, axis=1)]
        new = {key: at for at, key in enumerate(keys) if key not in self._known}
        if new:
            embedded = first.embed(torch.from_numpy(patches[list(new.values())]))
            self._known.update(zip(new, embedded.float()))
        images = torch.stack([self._known[key] for key in keys]).double()
        texts = self._pair.words[words @ (2 ** np.arange(words.shape[1]))]
        values: NDArray[np.float64] = (images * texts).sum(1).numpy()
        return values


# ---- the truth -------------------------------------------------------------------


class Truth(NamedTuple):
    """
    An index of all pairs.

    Args:
        table: (patches, words).
        error: its standard errors.
        check, check_error: another estimate and its standard errors.
    """

    table: Tensor
    error: Tensor
    check: Tensor
    check_error: Tensor

    def describe(self) -> str:
        largest = float(self.table.abs().max())
        off = self.check - self.table
        expected = self.error.square() + self.check_error.square()
        apart = (off.square() / expected).mean().sqrt()

        def share(values: Tensor) -> float:
            return 100 * float(values.mean()) / largest

        return (
            f"largest {largest:.4f}; in percent of it: zeros are off by "
            f"{share(self.table.abs()):.2f}, the truth's standard error is "
            f"{share(self.error):.3f}, another estimate's "
            f"{share(self.check_error):.3f}, and they differ by "
            f"{share(off.abs()):.3f}: {float(apart):.2f} standard errors (root mean "
            "square)"
        )

    def off_by(self, table: Tensor) -> float:
        """The error in percent."""
        return 100 * float((table - self.table).abs().mean() / self.table.abs().max())


def sampled(pair: Pair, p: float, number: int) -> tuple[Tensor, Tensor]:
    """The Banzhaf index at one probability, and its standard errors."""
    found = FeaturePairBanzhaf(pair.encoders).attribute(
        **pair.arguments,
        p=p,
        n_samples=(number, len(pair.words)),
        generator=torch.Generator().manual_seed(1000),
        return_standard_error=True,
    )
    return pair.table(found[0]), pair.table(found[1])


def differences(pair: Pair, drawn: Tensor) -> Iterator[Tensor]:
    """
    What each patch adds to the embedding, (players, k), for each row of `drawn`.

    A row holds a number for each patch, (draws, players): the set is of those with a
    smaller one than the patch's own.
    """
    for row in drawn:
        place = row.argsort().argsort()
        # the first s of the order, s = 0 ... players
        embedded = pair.sides[0].embed(place < torch.arange(len(row) + 1)[:, None])
        yield (embedded[1:] - embedded[:-1])[place]


def flips(pair: Pair, number: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Terms (patches, words) whose mean is the Banzhaf index."""
    values = pair.word_values(0.5)
    count = pair.sides[0].count
    for _ in range(number):
        subset = torch.rand(count, generator=generator) < 0.5
        changed = subset ^ torch.eye(count, dtype=torch.bool)
        embedded = pair.sides[0].embed(torch.cat([changed, subset[None]]))
        signs = 1.0 - 2.0 * subset.double()
        yield signs[:, None] * ((embedded[:-1] - embedded[-1]) @ values.T)


def thresholds(pair: Pair, number: int, generator: torch.Generator) -> Iterator[Tensor]:
    """
    Terms (patches, words) whose mean is the Shapley index.

    Every patch draws a probability and is added to those that drew a smaller one: it is
    a random subset at that very probability.
    """
    count = pair.sides[0].count
    drawn = torch.rand(number, count, generator=generator, dtype=torch.float64)
    for row, added in zip(drawn, differences(pair, drawn)):
        values = torch.stack([pair.word_values(float(p)) for p in row])
        yield torch.einsum("ik,ijk->ij", added, values)


def mean_of(terms: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Their mean, and its standard error."""
    stacked = torch.stack(list(terms))
    return stacked.mean(0), stacked.std(0) / len(stacked) ** 0.5


def truths(pair: Pair, number: int, check: int) -> dict[str, Truth]:
    generator = torch.Generator().manual_seed(2000)
    banzhaf = sampled(pair, 0.5, number)
    places, weights = np.polynomial.legendre.leggauss(NODES)
    parts = [sampled(pair, float(p + 1) / 2, number // NODES) for p in places]
    shares = torch.from_numpy(weights / 2)[:, None, None]
    table = (shares * torch.stack([part[0] for part in parts])).sum(0)
    variances = torch.stack([part[1] for part in parts]).square()
    error = (shares.square() * variances).sum(0).sqrt()
    return {
        BANZHAF: Truth(*banzhaf, *mean_of(flips(pair, check, generator))),
        SHAPLEY: Truth(table, error, *mean_of(thresholds(pair, check, generator))),
    }


# ---- ours ------------------------------------------------------------------------


class Result(NamedTuple):
    """Errors in percent for a number of embeddings, of one or several seeds."""

    embeddings: int
    errors: list[float]

    @property
    def median(self) -> float:
        return float(np.median(self.errors))


def ours(
    pair: Pair, index: str, truth: Truth, most: int, seeds: int, all_words: bool
) -> list[Result]:
    """Errors at doubling numbers of embeddings."""
    make = {BANZHAF: FeaturePairBanzhaf, SHAPLEY: FeaturePairShapley}[index]
    results, number = [], FEWEST
    while number <= most:
        each = number, max(number, len(pair.words)) if all_words else number
        runs = [ours_once(pair, make, truth, each, seed) for seed in range(seeds)]
        done = [run for run in runs if run is not None]
        if len(done) == seeds:
            results.append(Result(done[0][0], [error for _, error in done]))
        number *= 2
    return results


def ours_once(
    pair: Pair, make: Any, truth: Truth, n_samples: tuple[int, int], seed: int
) -> Optional[tuple[int, float]]:
    """Embeddings and error; None if there are too few samples for a fit."""
    for side in pair.sides:
        side.number = 0
    try:
        whole = make(pair.encoders).attribute(
            **pair.arguments,
            n_samples=n_samples,
            generator=torch.Generator().manual_seed(seed),
        )
    except InvalidArgumentError:
        return None
    made = sum(side.number for side in pair.sides)
    return made, truth.off_by(pair.table(whole))


# ---- theirs ----------------------------------------------------------------------


class FastSVARMIQ(SVARMIQ):
    """
    shapiq's SVARM-IQ, with the same weights from one count of all strata.

    Its own loop over the strata of each of the 640 pairs took a minute for 4,096
    values of the game.
    """

    def _svarmiq_routine(self, interaction: tuple[int, ...]) -> NDArray[np.float64]:
        sampler, (i, j) = self._sampler, interaction
        present = sampler._sampled_coalitions_matrix
        counter = sampler.coalitions_counter
        sizes, is_sampled = present.sum(1), sampler.is_coalition_sampled
        both = present[:, i].astype(int) + present[:, j]
        strata = 4 * sizes + 2 * present[:, i] + present[:, j]
        times = np.bincount(strata, counter * is_sampled)[strata]
        inside = binom(self.n - 2, sizes - both) / np.maximum(times, 1)
        weights: NDArray[np.float64] = counter * np.where(is_sampled, inside, 1.0)
        return weights


def svarm_iq(
    players: int,
    wanted: dict[tuple[int, int], int],
    binomial: bool,
    make: type[SVARMIQ] = FastSVARMIQ,
    **options: Any,
) -> SVARMIQ:
    """SVARM-IQ for the wanted interactions."""
    if binomial:
        sizes = binom(players, np.arange(players + 1))
        options["sampling_weights"] = sizes / sizes.sum()
    method = make(players, 2, top_order=True, **options)
    method._interaction_lookup = wanted
    return method


Make = Callable[[int, dict[tuple[int, int], int], int], Any]


def samplers(index: str) -> dict[str, Make]:
    """What makes a sampler of (players, wanted pairs, seed)."""

    def of(make: Any, **options: Any) -> Make:
        return lambda players, _, seed: make(players, 2, random_state=seed, **options)

    def svarm(name: str, binomial: bool, paired: bool) -> Make:
        return lambda players, wanted, seed: svarm_iq(
            players,
            wanted,
            binomial,
            index=name,
            pairing_trick=paired,
            random_state=seed,
        )

    if index == BANZHAF:
        return {
            "RegressionFBII": of(RegressionFBII),
            "RegressionFBII, paired": of(RegressionFBII, pairing_trick=True),
            "SVARMIQ": svarm("BII", False, False),
            "SVARMIQ, binomial, paired": svarm("BII", True, True),
        }
    sii = partial(of, index="SII")
    return {
        "KernelSHAPIQ": sii(KernelSHAPIQ),
        "KernelSHAPIQ, paired": sii(KernelSHAPIQ, pairing_trick=True),
        "SVARMIQ, paired": svarm("SII", False, True),
        "PermutationSamplingSII": sii(PermutationSamplingSII, top_order=True),
    }


def theirs(
    pair: Pair, game: Game, make: Make, truth: Truth, least: int, most: int, seeds: int
) -> list[Result]:
    """Errors at doubling numbers of values of the game."""
    first, second = (side.count for side in pair.sides)
    between = [(i, first + j) for i in range(first) for j in range(second)]
    wanted = {both: at for at, both in enumerate(between)}
    results, budget = [], least
    while budget <= most:
        errors = []
        for seed in range(seeds):
            game.number = 0
            found = make(first + second, wanted, seed).approximate(budget, game)
            values = torch.tensor([float(found[both]) for both in between])
            errors.append(truth.off_by(values.double().reshape(first, second)))
        results.append(Result(game.number, errors))
        budget *= 2
    return results


# ---- both ------------------------------------------------------------------------


def check_indices(model: captum_pairs.DualEncoder) -> None:
    """Whether they are the same indices: four quarters and four words, all subsets."""
    (pair,) = pairs(model, 1, 4, quarters=True)
    game = Game(pair)
    exact = ExactComputer(game, n_players=8)
    wanted = {(i, 4 + j): 4 * i + j for i in range(4) for j in range(4)}
    for index, make, names in (
        (BANZHAF, FeaturePairBanzhaf, ("BII", "FBII")),
        (SHAPLEY, FeaturePairShapley, ("SII",)),
    ):
        table = pair.table(make(pair.encoders).attribute(**pair.arguments))
        found = {name: exact(name, 2) for name in names}
        for name, sampler in samplers(index).items():
            if "paired" not in name and "Permutation" not in name:
                found[name] = sampler(8, wanted, 0).approximate(256, game)
        for name, values in found.items():
            theirs = [[float(values[i, 4 + j]) for j in range(4)] for i in range(4)]
            off = (torch.tensor(theirs).double() - table).abs().max()
            print(f"- {index} and {name}: {float(off / table.abs().max()):.1e}")
    given = {"index": "SII", "random_state": 0, "binomial": False}
    slow, fast = (
        svarm_iq(8, wanted, make=make, **given).approximate(100, game).values
        for make in (SVARMIQ, FastSVARMIQ)
    )
    print(f"- SVARMIQ by its own loop: {abs(slow - fast).max() / abs(slow).max():.1e}")


def reached(results: list[Result], target: float) -> Optional[int]:
    """The embeddings of the first budget whose median error is no more than that."""
    enough = (each.embeddings for each in results if each.median <= target)
    return next(enough, None)


def print_errors(found: dict[str, list[list[Result]]]) -> None:
    """Each method's errors at each budget, over all scenes and seeds."""
    print("\n| | embeddings | error, % | least | most |")
    print("| --- " + "| ---: " * 4 + "|")
    for name, scenes in found.items():
        for budgets in zip(*scenes):
            errors = [error for result in budgets for error in result.errors]
            print(
                f"| {name} | {budgets[0].embeddings:,} | {np.median(errors):.2f} | "
                f"{min(errors):.2f} | {max(errors):.2f} |"
            )


def print_needed(found: dict[str, list[list[Result]]]) -> None:
    """The embeddings that each method needs, in the median scene."""
    print("\n| | " + " | ".join(f"{target:g} %" for target in TARGETS) + " |")
    print("| --- " + "| ---: " * len(TARGETS) + "|")
    for name, scenes in found.items():
        cells = []
        for target in TARGETS:
            needed = [reached(results, target) for results in scenes]
            most = max(results[-1].embeddings for results in scenes)
            # a scene in which it is not reached needs more than any other
            middle = sorted(n or 2 * most for n in needed)[len(needed) // 2]
            cells.append(f"more than {most:,}" if middle > most else f"{middle:,}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def measured(
    pair: Pair, game: Game, index: str, truth: Truth, options: argparse.Namespace
) -> Iterator[tuple[str, list[Result]]]:
    """Every method's name and results."""
    for name, whole in (("ours", False), ("ours, all words", True)):
        yield name, ours(pair, index, truth, options.ours, options.seeds, whole)
    for name, make in samplers(index).items():
        budgets = options.least, options.theirs, options.their_seeds
        yield name, theirs(pair, game, make, truth, *budgets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--scenes", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5, help="of ours")
    parser.add_argument("--their-seeds", type=int, default=1)
    parser.add_argument("--ours", type=int, default=2176)
    parser.add_argument("--least", type=int, default=512, help="values of the game")
    parser.add_argument("--theirs", type=int, default=4096)
    parser.add_argument("--truth", type=int, default=8192)
    parser.add_argument("--check", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; 1 thread")
    model = captum_pairs.load("scenes:plain")
    print("Same indices? Largest differences, relative:")
    check_indices(model)
    found: dict[str, dict[str, list[list[Result]]]] = {BANZHAF: {}, SHAPLEY: {}}
    for pair in pairs(model, options.scenes, WORDS):
        print(f"\n“{pair.text}”")
        game = Game(pair)
        for index, truth in truths(pair, options.truth, options.check).items():
            print(f"- {index}: {truth.describe()}", flush=True)
            for name, results in measured(pair, game, index, truth, options):
                found[index].setdefault(name, []).append(results)
                line = ", ".join(f"{r.embeddings:,}: {r.median:.2f}" for r in results)
                print(f"  {name} ({time.process_time():.0f} s): {line}", flush=True)
    for index, rows in found.items():
        print(f"\n{index}: the error, in percent of the largest interaction")
        print_errors(rows)
        print(f"\n{index}: embeddings that are needed for an error of")
        print_needed(rows)


if __name__ == "__main__":
    main()
