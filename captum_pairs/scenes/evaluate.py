"""Measures a model on held-out scenes: ``python -m captum_pairs.scenes.evaluate``.

The figures of the model card: the pointing game at the input of every block, 256-way
retrieval, and what happens to a word's attribution when it is exchanged for a wrong
one. A figure is the same each time it is computed: scenes come from fixed seeds.
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
from captum_pairs.scenes.checkpoints import checkpoint_path, CHECKPOINTS
from captum_pairs.scenes.corpus import encode_claims, encode_objects, truth
from captum_pairs.scenes.render import render, Rendering
from captum_pairs.scenes.scene import Kind, kind_is_among, sample_scene, Scene, WITHHELD
from captum_pairs.scenes.vocabulary import COLORS, SHAPES
from numpy.typing import NDArray
from torch import nn, Tensor
from transformers import AutoModel, AutoProcessor, CLIPProcessor

__all__ = [
    "Encoders",
    "Example",
    "grounding",
    "hard_negatives",
    "held_out_examples",
    "retrieval",
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

    The image's baseline is black or the mean colour; the text's keeps the first and
    the last token and has padding between.
    """

    def __init__(self, directory: str | Path, baseline: str = "black") -> None:
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


def hard_negatives(
    encoders: Encoders, seed: int, number: int = 500
) -> dict[str, dict[str, float]]:
    """What becomes of a word's attribution when it is exchanged for a wrong one.

    Scenes of three objects; true captions of every wording, and hard negatives of them.

    Returns:
        For "all" and for each slot that was changed: "word", the share in which the
        wrong word's total attribution is below the right word's in the true caption;
        "score", the share in which the false caption's similarity is below the true
        one's; "negative", the share in which the wrong word's total is below zero;
        "number", how many.
    """
    rng = np.random.default_rng((seed, 3))
    rows: dict[str, list[tuple[bool, bool, bool]]] = {"all": []}
    while len(rows["all"]) < number:
        scene = sample_scene(rng, 3)
        caption = sample_caption(rng, scene)
        false = hard_negative(rng, scene, caption)
        if false is not None:
            row = _exchange(encoders, scene, caption, false)
            rows["all"].append(row)
            rows.setdefault(false.slot, []).append(row)
    names = ("word", "score", "negative")
    return {
        slot: {**dict(zip(names, np.mean(of, axis=0).tolist())), "number": len(of)}
        for slot, of in rows.items()
    }


def _exchange(
    encoders: Encoders, scene: Scene, caption: Caption, false: HardNegative
) -> tuple[bool, bool, bool]:
    pixels = encoders.pixels([render(scene).image])
    totals, scores = [], []
    for text, span in (
        (caption.text, false.right),
        (false.caption.text, false.changed),
    ):
        # the sum over patches is the same at every block but for the quadrature
        last = len(encoders.vision_blocks) - 1
        attributions, _ = encoders.attribute(pixels, text, [span], last, 0)
        totals.append(attributions.sum().item())
        embedded = encoders.text(encoders.tokens(text)[0])
        scores.append(F.cosine_similarity(encoders.image(pixels), embedded).item())
    return totals[1] < totals[0], scores[1] < scores[0], totals[1] < 0


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
        "hard negatives": hard_negatives(encoders, seed, negatives),
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "model",
        nargs="?",
        default="default",
        help=f"one of {', '.join(CHECKPOINTS)}, or the directory of a CLIP",
    )
    parser.add_argument("--baseline", choices=("black", "mean"), default="black")
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
