"""Measures a model on held-out scenes: ``python -m captum_pairs.scenes.evaluate``.

The figures of the model card: how neutral the baselines are, the signs of right and
wrong words, the pointing game at the input of every block, 256-way retrieval, and what
happens to a word's attribution when it is exchanged for a wrong one. A figure is the
same each time it is computed: scenes come from fixed seeds.
"""

import argparse
import json
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from captum_pairs.attr import LayerFeaturePairIntegratedGradients
from captum_pairs.metrics import (
    pointing_game_accuracy,
    pointing_game_chance,
    pointing_game_energy,
)
from captum_pairs.scenes.captions import (
    Caption,
    hard_negative,
    HardNegative,
    sample_caption,
    Span,
)
from captum_pairs.scenes.checkpoints import checkpoint_path, CHECKPOINTS, DEFAULT
from captum_pairs.scenes.corpus import encode_claims, encode_objects, truth
from captum_pairs.scenes.render import render, Rendering
from captum_pairs.scenes.scene import (
    CORRELATED,
    Kind,
    kind_is_among,
    sample_scene,
    Scene,
    WITHHELD,
)
from captum_pairs.scenes.vocabulary import COLORS, SHAPES
from numpy.typing import NDArray
from torch import nn, Tensor
from transformers import AutoModel, AutoProcessor, CLIPProcessor

__all__ = [
    "companions",
    "Encoders",
    "Example",
    "grounding",
    "hard_negatives",
    "held_out_examples",
    "neutrality",
    "retrieval",
    "right_words",
]

# Gauss-Legendre steps: doubled up to this number until each side is this complete.
STEPS = 32
TOLERANCE = 0.02


@dataclass(frozen=True)
class Example:
    """A scene, its drawing, and a caption that is true of it."""

    scene: Scene
    rendering: Rendering
    caption: Caption


class Encoders:
    """A CLIP's two encoders, and what makes their inputs and baselines.

    The image's baseline is the mean colour or black; the text's keeps the first and
    the last token and has padding between. (The mean colour and the padding are the
    defaults of :func:`captum_pairs.load` as well.)
    """

    def __init__(self, directory: str | Path, baseline: str = "mean") -> None:
        if baseline not in ("black", "mean"):
            raise ValueError(f"baseline must be 'black' or 'mean', got {baseline!r}")
        self.model = AutoModel.from_pretrained(directory).train(False)
        self.model.requires_grad_(False)
        self.processor = _processor(directory)
        self.baseline = baseline
        self.vision_blocks: nn.ModuleList = self.model.vision_model.encoder.layers
        self.text_blocks: nn.ModuleList = self.model.text_model.encoder.layers

    def image(self, pixels: Tensor) -> Tensor:
        """(b, 3, h, w) to (b, k), not normalised."""
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        embedding: Tensor = self.model.visual_projection(pooled)
        return embedding

    def text(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, tokens) to (b, k), not normalised."""
        mask = torch.ones_like(ids) if mask is None else mask
        output = self.model.text_model(input_ids=ids, attention_mask=mask)
        embedding: Tensor = self.model.text_projection(output.pooler_output)
        return embedding

    def pixels(self, images: list[NDArray[np.uint8]]) -> Tensor:
        """Images (h, w, 3) to the model's input (b, 3, h, w)."""
        out = self.processor.image_processor(images=images, return_tensors="pt")
        pixels: Tensor = out["pixel_values"]
        return pixels

    def tokens(self, caption: str) -> tuple[Tensor, list[Span]]:
        """Ids (1, tokens), and the characters that each token stands for."""
        out = self.processor.tokenizer(caption, return_offsets_mapping=True)
        offsets = [(start, end) for start, end in out["offset_mapping"]]
        return torch.tensor([out["input_ids"]]), offsets

    def pixel_baseline(self, pixels: Tensor) -> Tensor:
        """The baseline's input, shaped as pixels (b, 3, h, w)."""
        if self.baseline == "mean":
            return torch.zeros_like(pixels)
        black = np.zeros((*pixels.shape[-2:], 3), dtype=np.uint8)
        return self.pixels([black]).expand_as(pixels).contiguous()

    def token_baseline(self, ids: Tensor) -> Tensor:
        """Padding between the first and the last token."""
        baseline = ids.clone()
        baseline[:, 1:-1] = self.processor.tokenizer.pad_token_id
        return baseline

    def attribute(
        self,
        pixels: Tensor,
        caption: str,
        groups: list[Span],
        vision_block: int,
        text_block: int,
    ) -> tuple[Tensor, float]:
        """Attributions of the cosine similarity of an image and a caption.

        Args:
            pixels: (1, 3, h, w).
            caption: the text.
            groups: characters of the caption whose tokens are summed.
            vision_block, text_block: the blocks to whose inputs is attributed.

        Returns:
            (patches and the class token, groups), and the convergence delta.
        """
        ids, offsets = self.tokens(caption)
        feature_mask = token_groups(offsets, groups)[None, :, None]
        method = LayerFeaturePairIntegratedGradients(
            (self.image, self.text),
            (self.vision_blocks[vision_block], self.text_blocks[text_block]),
        )
        with warnings.catch_warnings():
            # the delta is reported: no need to be warned where it is large
            warnings.simplefilter("ignore")
            attributions, delta = method.attribute(
                (pixels, ids),
                (self.pixel_baseline(pixels), self.token_baseline(ids)),
                feature_mask=(None, feature_mask),
                n_steps=STEPS,
                tolerance=TOLERANCE,
                attribute_to_layer_input=True,
                return_convergence_delta=True,
            )
        return attributions[0, :, : len(groups)], delta.abs().item()


def _processor(directory: str | Path) -> CLIPProcessor:
    load = AutoProcessor.from_pretrained  # untyped, hence the ignored error
    processor: CLIPProcessor = load(directory)  # type: ignore[no-untyped-call]
    return processor


def token_groups(offsets: list[Span], groups: list[Span]) -> Tensor:
    """(tokens,): the group whose characters hold the token; len(groups) if none do.

    Raises:
        ValueError: if a group holds no token.
    """
    ids = [
        next(
            (
                index
                for index, (first, last) in enumerate(groups)
                if first <= start and end <= last and start < end
            ),
            len(groups),
        )
        for start, end in offsets
    ]
    if not set(range(len(groups))) <= set(ids):
        raise ValueError(f"some of the spans {groups} hold no token of their own")
    return torch.tensor(ids)


def held_out_examples(
    seed: int, number: int, objects: int = 3, only: Collection[Kind] = ()
) -> list[Example]:
    """Scenes in which every object differs from the others in shape or colour, with
    captions that name the colour and shape of each."""
    rng = np.random.default_rng((seed, 1))
    examples = []
    for _ in range(number):
        scene = sample_scene(rng, objects, only=only, distinct=True)
        caption = sample_caption(rng, scene, plain=True)
        examples.append(Example(scene, render(scene), caption))
    return examples


def grounding(
    encoders: Encoders,
    examples: list[Example],
    vision_block: int,
    text_block: int = 0,
    kinds: Collection[Kind] = (),
    words: bool = False,
) -> dict[str, float]:
    """The pointing game over every object that a caption names.

    Args:
        encoders: the model.
        examples: captioned scenes.
        vision_block, text_block: the blocks to whose inputs is attributed.
        kinds: if not empty, only objects of these kinds are counted.
        words: whether the two words of a phrase are measured alone as well.

    Returns:
        "accuracy" and "energy" of the phrase, "chance", "objects", how many, and
        "delta", the mean of the absolute convergence deltas; with words, "color" and
        "shape", the accuracies of the two words.
    """
    maps: list[Tensor] = []  # of (objects, words, h, w)
    boxes: list[Tensor] = []
    deltas: list[float] = []
    for example in examples:
        named = [objects[0] for objects in example.caption.objects]
        rows = [
            row
            for row, index in enumerate(named)
            if not kinds or kind_is_among(example.scene.objects[index], kinds)
        ]
        if not rows:
            continue
        phrases = [example.caption.phrases[row] for row in rows]
        if words:
            spans = [p.words[slot] for p in phrases for slot in ("color", "shape")]
        else:
            spans = [phrase.span for phrase in phrases]
        attributions, delta = encoders.attribute(
            encoders.pixels([example.rendering.image]),
            example.caption.text,
            spans,
            vision_block,
            text_block,
        )
        side = round((len(attributions) - 1) ** 0.5)
        patches = attributions[1:].T  # without the class token
        maps.append(patches.reshape(len(rows), -1, side, side))
        boxes.append(torch.from_numpy(example.rendering.boxes[named])[rows])
        deltas.append(delta)
    size = examples[0].rendering.image.shape[:2]
    return {
        **_pointing_figures(torch.cat(maps), torch.cat(boxes), (size[0], size[1])),
        "delta": sum(deltas) / len(deltas),
    }


def _pointing_figures(
    words: Tensor, boxes: Tensor, image_size: tuple[int, int]
) -> dict[str, float]:
    """Figures of maps (objects, words, h, w), one or two words of each phrase."""
    phrases = words.sum(1)
    energy = pointing_game_energy(phrases, boxes, image_size=image_size)
    chance = pointing_game_chance(phrases, boxes, image_size=image_size)
    figures = {
        "accuracy": _accuracy(phrases, boxes, image_size),
        "energy": energy.mean().item(),
        "chance": chance.mean().item(),
        "objects": len(words),
    }
    if words.shape[1] == 2:
        figures["color"] = _accuracy(words[:, 0], boxes, image_size)
        figures["shape"] = _accuracy(words[:, 1], boxes, image_size)
    return figures


def _accuracy(maps: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> float:
    return pointing_game_accuracy(maps, boxes, image_size=image_size).mean().item()


def companions(
    encoders: Encoders,
    seed: int,
    vision_block: int,
    together: tuple[str, str] = CORRELATED,
    number: int = 60,
) -> dict[str, float]:
    """Whether a shape's word lights another shape that stood beside it in training.

    Captions are "a heart" for the shape "heart". Scenes have three objects that all
    differ; in those of the first kind the shape and its companion stand once each, in
    those of the second only the companion does, in those of the third neither.

    Returns:
        "own" and "companion": the share of scenes of the first kind in which the
        strongest patch's centre lies in the shape's or in its companion's box; "own
        energy" and "companion energy": the shares of positive attribution in them;
        "both", "companion alone" and "neither": the mean total of the word in the three
        kinds of scenes; "companion alone, positive": the share above zero in the
        second; "number" of scenes of each kind.
    """
    shape, companion = together
    text = f"a {shape}"
    word = (2, len(text))
    rng = np.random.default_rng((seed, 7))
    maps, own, other = [], [], []
    totals: list[list[float]] = [[], [], []]
    while min(map(len, totals)) < number:
        scene = sample_scene(rng, 3, distinct=True)
        shapes = [item.shape for item in scene.objects]
        counts = shapes.count(shape), shapes.count(companion)
        kinds = {(1, 1): 0, (0, 1): 1, (0, 0): 2}
        kind = kinds.get(counts)
        if kind is None or len(totals[kind]) == number:
            continue
        drawing = render(scene)
        pixels = encoders.pixels([drawing.image])
        totals[kind] += word_totals(encoders, pixels, text, [word])
        if kind == 0:
            attributions, _ = encoders.attribute(pixels, text, [word], vision_block, 0)
            side = round((len(attributions) - 1) ** 0.5)
            maps.append(attributions[1:, 0].reshape(side, side))
            boxes = torch.from_numpy(drawing.boxes)
            own.append(boxes[shapes.index(shape)])
            other.append(boxes[shapes.index(companion)])
    size = drawing.image.shape[:2]
    figures: dict[str, float] = {}
    for name, places in (("own", own), ("companion", other)):
        these = torch.stack(maps), torch.stack(places)
        figures[name] = _accuracy(*these, (size[0], size[1]))
        energy = pointing_game_energy(*these, image_size=(size[0], size[1]))
        figures[f"{name} energy"] = energy.mean().item()
    for name, of in zip(("both", "companion alone", "neither"), totals):
        figures[name] = float(np.mean(of))
    positive = float(np.mean(np.array(totals[1]) > 0))
    return {**figures, "companion alone, positive": positive, "number": number}


@torch.no_grad()
def retrieval(
    encoders: Encoders, seed: int, ways: int = 256, sets: int = 8
) -> dict[str, float]:
    """Finding one of `ways` scenes by a caption and one of `ways` captions by a scene.

    Scenes have one to four objects and a caption each, of every wording; a caption is
    right for every scene that it is true of.

    Returns:
        "text_to_image" and "image_to_text", shares found, over all sets.
    """
    found = []
    for index in range(sets):
        rng = np.random.default_rng((seed, 2, index))
        scenes = [sample_scene(rng) for _ in range(ways)]
        captions = [sample_caption(rng, scene) for scene in scenes]
        claims = np.array([encode_claims(c.description) for c in captions], np.int8)
        holds = truth(claims, *encode_objects(scenes))  # (captions, scenes)
        pixels = encoders.pixels([render(scene).image for scene in scenes])
        texts = encoders.processor.tokenizer(
            [caption.text for caption in captions], padding=True, return_tensors="pt"
        )
        images = F.normalize(encoders.image(pixels), dim=-1)
        embedded = encoders.text(texts["input_ids"], texts["attention_mask"])
        scores = (F.normalize(embedded, dim=-1) @ images.T).numpy()
        each = np.arange(ways)
        found.append(
            (
                holds[each, scores.argmax(1)].mean(),
                holds[scores.argmax(0), each].mean(),
            )
        )
    by_text, by_image = np.mean(found, axis=0).tolist()
    return {"text_to_image": by_text, "image_to_text": by_image}


@torch.no_grad()
def neutrality(encoders: Encoders, seed: int, number: int = 256) -> dict[str, float]:
    """How much a blank image and an empty caption are like inputs to which they are
    unrelated, and what part of the score of a true pair that leaves to pairs.

    Scenes have one to four objects and a caption each, of every wording.

    Returns:
        Mean cosines: of "true" pairs; of "unrelated" ones, all others that are false;
        of empty texts, as long as the captions, to the scenes ("empty text") and of the
        blank image to the captions ("blank image"), with their standard deviations; of
        the blank image to the empty texts ("both"). "share" is the sum over pairs of
        features of the true pairs, s(x, y) - s(r, y) - s(x, r) + s(r, r), divided by
        the sum of their similarities above that of unrelated ones, s(x, y) - u; "share,
        median" is the median of the pairs' own shares.
    """
    rng = np.random.default_rng((seed, 5))
    scenes = [sample_scene(rng) for _ in range(number)]
    captions = [sample_caption(rng, scene) for scene in scenes]
    claims = np.array([encode_claims(c.description) for c in captions], np.int8)
    holds = torch.from_numpy(truth(claims, *encode_objects(scenes)))
    pixels = encoders.pixels([render(scene).image for scene in scenes])
    tokens = [encoders.tokens(caption.text)[0] for caption in captions]
    blank = F.normalize(encoders.image(encoders.pixel_baseline(pixels[:1])), dim=-1)[0]
    images = F.normalize(encoders.image(pixels), dim=-1)  # (s, k)
    texts = F.normalize(torch.cat([encoders.text(ids) for ids in tokens]), dim=-1)
    none = [encoders.text(encoders.token_baseline(ids)) for ids in tokens]
    empty = F.normalize(torch.cat(none), dim=-1)
    scores = texts @ images.T  # (t, s)
    unrelated = scores[~holds].mean()
    true = scores.diagonal()
    to_scenes, to_captions = empty @ images.T, texts @ blank
    pairs = true - to_captions - to_scenes.diagonal() + empty @ blank
    above = true - unrelated
    return {
        "true": true.mean().item(),
        "unrelated": unrelated.item(),
        "empty text": to_scenes.mean().item(),
        "empty text, deviation": to_scenes.std().item(),
        "blank image": to_captions.mean().item(),
        "blank image, deviation": to_captions.std().item(),
        "both": (empty @ blank).mean().item(),
        "share": (pairs.sum() / above.sum()).item(),
        "share, median": (pairs / above).median().item(),
    }


def right_words(
    encoders: Encoders, seed: int, number: int = 100
) -> dict[str, dict[str, float]]:
    """The signs of all words that claim something, in captions that are true.

    Scenes of three objects, captions of every wording.

    Returns:
        For "all" and for each slot: "positive", the share of words whose total
        attribution is above zero; "number", how many.
    """
    rng = np.random.default_rng((seed, 6))
    rows: dict[str, list[bool]] = {"all": []}
    for _ in range(number):
        scene = sample_scene(rng, 3)
        caption = sample_caption(rng, scene)
        words = [place for phrase in caption.phrases for place in phrase.words.items()]
        if caption.relation is not None:
            words.append(("relation", caption.relation))
        pixels = encoders.pixels([render(scene).image])
        totals = word_totals(
            encoders, pixels, caption.text, [span for _, span in words]
        )
        for (slot, _), total in zip(words, totals):
            rows["all"].append(total > 0)
            rows.setdefault(slot, []).append(total > 0)
    return {
        slot: {"positive": float(np.mean(of)), "number": len(of)}
        for slot, of in rows.items()
    }


def word_totals(
    encoders: Encoders, pixels: Tensor, text: str, spans: list[Span]
) -> list[float]:
    """Attributions of words of a text, each summed over the image.

    The sum over the image's features is the same at any of its layers, and known
    without one: along the words' path, the integrated gradient of the similarity to
    what the image's embedding differs by from the baseline's.

    Args:
        encoders: the model.
        pixels: (1, 3, h, w).
        text: the caption.
        spans: the words.

    Returns:
        The total of each word at the input of the first text block.
    """
    ids, offsets = encoders.tokens(text)
    with torch.no_grad():
        both = torch.cat([pixels, encoders.pixel_baseline(pixels)])
        image, none = F.normalize(encoders.image(both), dim=-1)
        embedding = encoders.model.text_model.embeddings
        full, start = embedding(ids), embedding(encoders.token_baseline(ids))
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    places = torch.tensor((nodes + 1) / 2, dtype=full.dtype)[:, None, None]
    path = (start + places * (full - start)).requires_grad_()  # (n, tokens, d)

    def enter(block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return path, *inputs[1:]

    hook = encoders.text_blocks[0].register_forward_pre_hook(enter)
    try:
        embedded = F.normalize(encoders.text(ids.expand(STEPS, -1)), dim=-1)
    finally:
        hook.remove()
    (gradients,) = torch.autograd.grad((embedded @ (image - none)).sum(), path)
    mean = torch.einsum("n,ntd->td", torch.tensor(weights).to(full) / 2, gradients)
    by_token = (mean * (full - start)[0]).sum(-1)
    groups = token_groups(offsets, spans)
    return [by_token[groups == index].sum().item() for index in range(len(spans))]


def hard_negatives(
    encoders: Encoders, seed: int, number: int = 500, slot: str | None = None
) -> dict[str, dict[str, float]]:
    """What becomes of a word's attribution when it is exchanged for a wrong one.

    Scenes of three objects; true captions of every wording, and hard negatives of them.

    Args:
        encoders: the model.
        seed: of the scenes.
        number: how many hard negatives.
        slot: if given, only those are taken that changed this.

    Returns:
        For "all" and for each slot that was changed: "word", the share in which the
        wrong word's total attribution is below the right word's in the true caption;
        "score", the share in which the false caption's similarity is below the true
        one's; "negative", the share in which the wrong word's total is below zero;
        "positive", the share in which the right word's is above it; "number", how
        many.
    """
    rng = np.random.default_rng((seed, 3))
    rows: dict[str, list[tuple[bool, ...]]] = {"all": []}
    while len(rows["all"]) < number:
        scene = sample_scene(rng, 3)
        caption = sample_caption(rng, scene)
        false = hard_negative(rng, scene, caption, subtle=slot is not None)
        if false is not None and slot in (None, false.slot):
            row = _exchange(encoders, scene, caption, false)
            rows["all"].append(row)
            rows.setdefault(false.slot, []).append(row)
    names = ("word", "score", "negative", "positive")
    return {
        slot: {**dict(zip(names, np.mean(of, axis=0).tolist())), "number": len(of)}
        for slot, of in rows.items()
    }


def _exchange(
    encoders: Encoders, scene: Scene, caption: Caption, false: HardNegative
) -> tuple[bool, ...]:
    pixels = encoders.pixels([render(scene).image])
    totals, scores = [], []
    for text, span in (
        (caption.text, false.right),
        (false.caption.text, false.changed),
    ):
        totals += word_totals(encoders, pixels, text, [span])
        embedded = encoders.text(encoders.tokens(text)[0])
        scores.append(F.cosine_similarity(encoders.image(pixels), embedded).item())
    return totals[1] < totals[0], scores[1] < scores[0], totals[1] < 0, totals[0] > 0


def evaluate(
    encoders: Encoders, seed: int = 777, scenes: int = 100, negatives: int = 500
) -> dict[str, Any]:
    """Every figure of the model card for one checkpoint."""
    examples = held_out_examples(seed, scenes)
    special = held_out_examples(seed + 1, scenes, only=WITHHELD)
    shapes = [kind for kind in WITHHELD if kind[1] is None]
    pairs = [kind for kind in WITHHELD if kind[1] is not None]
    others = [
        (shape, color)
        for shape in SHAPES
        for color in COLORS
        if (shape, None) not in WITHHELD and (shape, color) not in WITHHELD
    ]
    blocks = range(len(encoders.vision_blocks))
    last = len(encoders.text_blocks) - 1
    at_blocks = {block: grounding(encoders, examples, block) for block in blocks}
    best = max(blocks, key=lambda block: at_blocks[block]["accuracy"])
    return {
        "baseline": encoders.baseline,
        "blocks": at_blocks,
        "blocks, last text block": {
            block: grounding(encoders, examples, block, last) for block in blocks
        },
        "withheld shapes": grounding(encoders, special, best, 0, shapes, words=True),
        "withheld pairs": grounding(encoders, special, best, 0, pairs, words=True),
        "other kinds": grounding(encoders, special, best, 0, others, words=True),
        "retrieval": retrieval(encoders, seed),
        "companions": companions(encoders, seed, best, number=max(2, scenes // 2)),
        "neutrality": neutrality(encoders, seed),
        "right words": right_words(encoders, seed, scenes),
        "hard negatives": hard_negatives(encoders, seed, negatives),
        # rare among all: of these as many again
        **{
            f"hard negatives, {slot}": hard_negatives(
                encoders, seed + 2, negatives // 2, slot
            )["all"]
            for slot in ("relation", "size")
        },
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "model",
        nargs="?",
        default=DEFAULT,
        help=f"one of {', '.join(CHECKPOINTS)}, or the directory of a CLIP",
    )
    parser.add_argument("--baseline", choices=("black", "mean"), default="mean")
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--negatives", type=int, default=500)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    parsed = parser.parse_args(arguments)
    name: str = parsed.model
    directory = checkpoint_path(name) if name in CHECKPOINTS else Path(name)
    encoders = Encoders(directory, parsed.baseline)
    figures = evaluate(encoders, parsed.seed, parsed.scenes, parsed.negatives)
    text = json.dumps(figures, indent=1)
    print(text)
    if parsed.output is not None:
        parsed.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
