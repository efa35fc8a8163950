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
    companions,
    Encoders,
    grounding,
    hard_negatives,
    held_out_examples,
    neutrality,
    retrieval,
    right_words,
    token_groups,
    word_totals,
)
from captum_pairs.scenes.model import new_model, save_checkpoint
from captum_pairs.scenes.vocabulary import COLORS
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
    assert torch.equal(encoders.pixel_baseline(pixels), torch.zeros_like(pixels))
    black = encoders.pixels([np.zeros((64, 64, 3), np.uint8)])
    save_checkpoint(encoders.model, tmp_path)
    assert torch.equal(Encoders(tmp_path, "black").pixel_baseline(pixels), black)
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
    names = ("word", "score", "negative", "positive")
    for of in figures.values():
        assert all(0 <= of[name] <= 1 for name in names)
    (slot, of), _ = hard_negatives(encoders, seed=0, number=3, slot="size").items()
    assert slot == "all" and of["number"] == 3


def test_a_words_total_is_the_sum_of_its_pairs(encoders: Encoders) -> None:
    for example in held_out_examples(4, 3):
        pixels, text = encoders.pixels([example.rendering.image]), example.caption.text
        spans = [phrase.span for phrase in example.caption.phrases]
        totals = word_totals(encoders, pixels, text, spans)
        for block in range(2):
            pairs, delta = encoders.attribute(pixels, text, spans, block, 0)
            assert totals == pytest.approx(pairs.sum(0).tolist(), abs=1e-3 + delta)
        assert not encoders.text_blocks[0]._forward_pre_hooks


def test_signs_of_right_words(
    encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def totals(model: Any, pixels: Tensor, text: str, spans: list[Any]) -> list[float]:
        words = [text[slice(*span)] for span in spans]
        seen.extend(words)
        return [-1.0 if word in COLORS else 1.0 for word in words]

    monkeypatch.setattr(evaluate, "word_totals", totals)
    figures = right_words(encoders, seed=0, number=30)
    assert figures["all"]["number"] == len(seen) > 90
    assert figures["color"] == {
        "positive": 0.0,
        "number": sum(word in COLORS for word in seen),
    }
    assert figures["shape"]["positive"] == figures["relation"]["positive"] == 1.0
    assert {"large", "left", "two", "star"} <= set(seen)


class _Graded:
    """Embeds scenes and captions as columns of a table of cosines: the image is the
    (normalised) table's row, blank inputs are at the table's level."""

    def __init__(self, level: float, true: float, size: int) -> None:
        self.level, self.size = level, size
        # a Gram matrix: scenes, captions, the blank image, the empty text
        gram = torch.full((2 * size + 2,) * 2, 0.0)
        cross = torch.full((size + 1, size + 1), level)
        cross[:size, :size] += (true - level) * torch.eye(size)
        gram[: size + 1, size + 1 :] = cross
        gram = gram + gram.T + torch.eye(2 * size + 2)
        values, vectors = torch.linalg.eigh(gram.double())
        assert values.min() > 0
        root = (vectors * values.sqrt()).float()
        self.images, self.texts = root[: size + 1], root[size + 1 :]
        self.pixel_calls = 0

    def pixels(self, images: list[Any]) -> Tensor:
        return torch.arange(len(images))

    def pixel_baseline(self, pixels: Tensor) -> Tensor:
        return torch.tensor([self.size])

    def tokens(self, caption: str) -> tuple[Tensor, list[Any]]:
        self.pixel_calls += 1
        return torch.tensor([self.pixel_calls - 1]), []

    def token_baseline(self, ids: Tensor) -> Tensor:
        return torch.tensor([self.size])

    def image(self, number: Tensor) -> Tensor:
        return self.images[number]

    def text(self, number: Tensor) -> Tensor:
        return self.texts[number]


def test_neutrality_by_hand() -> None:
    encoders: Any = _Graded(level=0.02, true=0.4, size=12)
    figures = neutrality(encoders, seed=1, number=12)
    for name in ("unrelated", "empty text", "blank image", "both"):
        assert figures[name] == pytest.approx(0.02, abs=1e-5)
    assert figures["true"] == pytest.approx(0.4, abs=1e-5)
    assert figures["share"] == pytest.approx(1.0, abs=1e-4)
    assert figures["share, median"] == pytest.approx(1.0, abs=1e-4)
    # blank inputs that are like everything leave less to pairs
    encoders = _Graded(level=0.02, true=0.4, size=12)
    like = encoders.texts.clone()
    like[-1] = encoders.images[:-1].sum(0)  # the empty text: like all scenes
    encoders.texts = like
    empty = (like[-1] / like[-1].norm()) @ encoders.images.T
    figures = neutrality(encoders, seed=1, number=12)
    assert figures["empty text"] == pytest.approx(empty[:-1].mean().item(), abs=1e-5)
    pairs = 0.4 - 0.02 - empty[0].item() + empty[-1].item()
    assert figures["share"] == pytest.approx(pairs / 0.38, abs=1e-4)


def test_companions(encoders: Encoders) -> None:
    figures = companions(encoders, seed=0, vision_block=1, number=2)
    assert figures["number"] == 2
    shares = ("own", "companion", "own energy", "companion energy")
    assert all(0 <= figures[name] <= 1 for name in shares)
    assert {"both", "companion alone", "neither"} <= set(figures)


def test_command(encoders: Encoders, tmp_path: Path) -> None:
    save_checkpoint(encoders.model, tmp_path)
    output = tmp_path / "figures.json"
    evaluate.main(
        [str(tmp_path), "--scenes", "2", "--negatives", "2", "--output", str(output)]
    )
    assert '"hard negatives"' in output.read_text()
