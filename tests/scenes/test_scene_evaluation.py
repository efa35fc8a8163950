"""What the model card's figures are computed by."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum_pairs.scenes import evaluate
from captum_pairs.scenes.evaluate import (
    Encoders,
    grounding,
    hard_negatives,
    held_out_examples,
    retrieval,
    token_groups,
)
from captum_pairs.scenes.model import new_model, save_checkpoint
from torch import Tensor


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Encoders:
    directory = tmp_path_factory.mktemp("untrained")
    model = new_model(0, width=32, vision_layers=2, text_layers=2, heads=2)
    save_checkpoint(model, directory)
    return Encoders(directory)


def test_token_groups() -> None:
    offsets = [(0, 0), (0, 1), (2, 5), (6, 12), (12, 13), (0, 0)]
    groups = token_groups(offsets, [(6, 12), (0, 5)])
    assert groups.tolist() == [2, 1, 1, 0, 2, 2]
    with pytest.raises(ValueError, match="no token"):
        token_groups(offsets, [(3, 5)])


def test_baselines(encoders: Encoders, tmp_path: Path) -> None:
    (example,) = held_out_examples(0, 1)
    pixels = encoders.pixels([example.rendering.image])
    black = encoders.pixels([np.zeros((64, 64, 3), np.uint8)])
    assert torch.equal(encoders.pixel_baseline(pixels), black)
    save_checkpoint(encoders.model, tmp_path)
    mean = Encoders(tmp_path, "mean").pixel_baseline(pixels)
    assert torch.equal(mean, torch.zeros_like(pixels))
    ids, _ = encoders.tokens("a red circle")
    assert encoders.token_baseline(ids).tolist() == [[ids[0, 0], 0, 0, 0, ids[0, -1]]]
    with pytest.raises(ValueError, match="baseline"):
        Encoders(tmp_path, "white")


def test_attributions_are_complete(encoders: Encoders) -> None:
    (example,) = held_out_examples(1, 1)
    pixels, text = encoders.pixels([example.rendering.image]), example.caption.text
    ids, _ = encoders.tokens(text)
    whole = (0, len(text))
    attributions, delta = encoders.attribute(pixels, text, [whole], 1, 0)
    assert attributions.shape == (65, 1)

    def score(first: Tensor, second: Tensor) -> Tensor:
        return F.cosine_similarity(encoders.image(first), encoders.text(second))

    base, padded = encoders.pixel_baseline(pixels), encoders.token_baseline(ids)
    expected = (
        score(pixels, ids)
        - score(base, ids)
        - score(pixels, padded)
        + score(base, padded)
    )
    # the first and last token are their own baselines: nothing is left for them
    assert attributions.sum().item() == pytest.approx(expected.item(), abs=2e-3)
    assert delta < 2e-3


def test_held_out_examples_are_the_same_each_time() -> None:
    first, second = held_out_examples(5, 3), held_out_examples(5, 3)
    for a, b in zip(first, second):
        assert a.scene == b.scene and a.caption == b.caption
        assert len({(o.shape, o.color) for o in a.scene.objects}) == 3


class _Pointing(Encoders):
    """Points at the boxes of the phrases that it is asked for, or past them."""

    def __init__(self, examples: list[Any], hit: bool) -> None:
        self.examples, self.hit = {e.caption.text: e for e in examples}, hit

    def pixels(self, images: list[Any]) -> Tensor:
        return torch.empty(0)

    def attribute(
        self, pixels: Tensor, caption: str, groups: list[Any], *blocks: int
    ) -> tuple[Tensor, float]:
        example = self.examples[caption]
        columns = []
        for start, end in groups:
            for phrase, (index,) in zip(
                example.caption.phrases, example.caption.objects
            ):
                if phrase.span[0] <= start and end <= phrase.span[1]:
                    left, top, right, bottom = example.rendering.boxes[index]
            inside = torch.zeros(8, 8)
            x, y = (left + right) // 16, (top + bottom) // 16
            inside[y, x] = 1.0
            column = inside if self.hit else -inside
            columns.append(torch.cat([torch.tensor([9.0]), column.reshape(-1)]))
        return torch.stack(columns, 1), 0.25


@pytest.mark.parametrize("words", [False, True])
def test_grounding_counts_objects(words: bool) -> None:
    examples = held_out_examples(3, 5)
    figures = grounding(_Pointing(examples, True), examples, 0, words=words)
    assert figures["objects"] == 15
    assert figures["accuracy"] > 0.9  # the middle patch's centre may lie beside the box
    assert figures["energy"] == figures["accuracy"]
    assert figures["delta"] == 0.25
    assert 0.05 < figures["chance"] < 0.25
    assert ("shape" in figures) == words
    missed = grounding(_Pointing(examples, False), examples, 0, words=words)
    assert missed["energy"] == 0


def test_grounding_of_some_kinds() -> None:
    examples = held_out_examples(3, 20)
    kinds = [("star", None)]
    figures = grounding(_Pointing(examples, True), examples, 0, kinds=kinds)
    stars = [o for e in examples for o in e.scene.objects if o.shape == "star"]
    assert figures["objects"] == len(stars) > 0


def _perfect(shift: int) -> Any:
    """Embeds the n-th scene as its number and the n-th caption as n + shift."""

    def processor(texts: list[str], **_: Any) -> dict[str, Tensor]:
        ids = torch.arange(len(texts))
        return {"input_ids": ids, "attention_mask": ids}

    return SimpleNamespace(
        pixels=lambda images: torch.arange(len(images)),
        image=lambda number: F.one_hot(number, 64).float(),
        text=lambda number, mask: F.one_hot((number + shift) % 64, 64).float(),
        processor=SimpleNamespace(tokenizer=processor),
    )


def test_retrieval() -> None:
    figures = retrieval(_perfect(0), seed=0, ways=64, sets=2)
    assert figures == {"text_to_image": 1.0, "image_to_text": 1.0}
    # another scene is now and then right too, for a caption that is true of it
    shifted = retrieval(_perfect(1), seed=0, ways=64, sets=2)
    assert 0 < shifted["text_to_image"] < 0.3
    assert shifted["text_to_image"] == shifted["image_to_text"]


def test_hard_negatives(encoders: Encoders) -> None:
    figures = hard_negatives(encoders, seed=0, number=12)
    assert figures["all"]["number"] == 12
    by_slot = [of["number"] for slot, of in figures.items() if slot != "all"]
    assert sum(by_slot) == 12
    for of in figures.values():
        assert all(0 <= of[name] <= 1 for name in ("word", "score", "negative"))


def test_command(encoders: Encoders, tmp_path: Path) -> None:
    save_checkpoint(encoders.model, tmp_path)
    output = tmp_path / "figures.json"
    evaluate.main(
        [str(tmp_path), "--scenes", "2", "--negatives", "2", "--output", str(output)]
    )
    assert '"hard negatives"' in output.read_text()
