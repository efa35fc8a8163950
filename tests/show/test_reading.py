"""Verdicts, what is silent, and keys: sentences against numbers that were planted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from captum_pairs import Contrast, load, PairExplanation
from captum_pairs.explain.comparison import Compared, Comparison
from captum_pairs.explain.files import input_from_json, input_to_json
from captum_pairs.explain.zero_shot import ZeroShot
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models import Feature
from captum_pairs.models.hugging_face import HuggingFaceTextEncoder
from captum_pairs.show import reading
from captum_pairs.show.page._content import content_of
from PIL import Image
from test_results import explanation, image, text
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn, Tensor
from transformers import AutoModel, AutoProcessor, PreTrainedTokenizerFast

# The image is 30 x 20 pixels, 2 x 3 patches.
TOP_LEFT = "the top left (x 0–10, y 0–10 px)"
BOTTOM_RIGHT = "the bottom right (x 20–30, y 10–20 px)"


def planted(
    said: str, values: dict[tuple[int, int], float], **more: Any
) -> PairExplanation:
    """An explanation whose pairs (patch, word) are zero but for these."""
    found = explanation(said)
    table = torch.zeros(found.interactions.shape)
    for place, value in values.items():
        table[place] = value
    made = {"interactions": table, "constant": 0.0, "score": float(table.sum())}
    return replace(found, **made | more)


# ---- verdicts ----------------------------------------------------------------


def test_what_adds_most_and_what_speaks_against_it() -> None:
    found = planted("a red jacket and a cap", {(0, 1): 0.2, (5, 5): -0.05})
    assert reading.verdict(found) == (
        f"“red” and {TOP_LEFT} add most to the cosine similarity of +0.150: +0.200; "
        f"“cap” and {BOTTOM_RIGHT} speak against it most: -0.050."
    )


def test_neighbours_with_half_the_value_are_one_phrase() -> None:
    values = {(0, 1): 0.12, (0, 2): 0.2, (0, 5): 0.2, (0, 6): 0.09}
    found = planted("a red jacket and a cap now", values)
    said = reading.verdict(found)
    assert said.startswith(f"“red jacket” and {TOP_LEFT} add most")
    assert ": +0.320." in said
    # a neighbour that is a stop word, or weaker than half, is none
    alone = planted("a red jacket and a cap now", {(0, 5): 0.2, (0, 6): 0.09})
    assert reading.verdict(alone).startswith("“cap” and ")


def test_of_two_texts_both_are_phrases() -> None:
    table = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.3, 0.2], [0.0, 0.2, 0.2]])
    found = planted("a red dot", {})
    found = replace(found, first=text("one scarlet spot"), interactions=table)
    assert reading.verdict(found).startswith("“scarlet spot” and “red dot” add most")
    assert ": +0.900." in reading.verdict(found)


def test_nothing_speaks_for_it() -> None:
    found = planted("a red dot", {(5, 1): -0.3})
    assert reading.verdict(found) == (
        f"“red” and {BOTTOM_RIGHT} speak most against the cosine similarity of -0.300: "
        "-0.300; none for it."
    )


@pytest.mark.parametrize(
    "more, part",
    [
        ({"constant": 0.5}, "the two baselines: +0.500, what both inputs have in "),
        (
            {"first_effects": torch.full((6,), -0.1)},
            "the image on its own: -0.600, whatever the other input says.",
        ),
        ({"constant": 0.1}, ""),
    ],
)
def test_a_part_that_is_larger_than_all_pairs(more: Any, part: str) -> None:
    said = reading.verdict(planted("a red dot", {(0, 1): 0.3}, **more))
    assert ("The largest part is " in said) == bool(part) and part in said


def test_nothing_to_say() -> None:
    found = planted("a red dot", {})
    assert "every attribution is zero" in reading.verdict(found)
    nan = replace(found, interactions=torch.full_like(found.interactions, torch.nan))
    assert "not numbers (NaN)" in reading.verdict(nan)


def test_two_images_and_a_region() -> None:
    table = torch.zeros(6, 6)
    table[0, 5] = 0.4
    found = replace(planted("a red dot", {}), second=image(), interactions=table)
    assert reading.verdict(found).startswith(
        f"T{TOP_LEFT[1:]} of the first image and {BOTTOM_RIGHT} of the second image add"
    )
    feature = Feature("region", box=(0.0, 0.0, 10.0, 10.0))
    asked = replace(image(), features=(feature,), grid=None, asked=(1.0, 2.0, 9.0, 8.0))
    table = torch.tensor([[0.0, 0.3, 0.0]])
    region = replace(planted("a red dot", {}), first=asked, interactions=table)
    region = replace(region, first_effects=torch.zeros(1))
    said = "“red” and the top left (x 1–9, y 2–8 px) add most"
    assert reading.verdict(region).startswith(said)
    assert str(region.top_pairs(1)[0]) == "“red” – top left (x 1–9, y 2–8 px): +0.300"


def test_of_a_contrast() -> None:
    preferred = planted("a red dot", {(0, 1): 0.3, (0, 2): -0.1})
    other = planted("a blue dot", {(0, 1): 0.1, (1, 2): 0.05})
    texts = Contrast(preferred, other, "first")
    assert reading.verdict_of_contrast(texts) == (
        "The preferred text is more similar, by +0.050 (cosine); “red” instead of "
        "“blue” speaks for it most: +0.200; “dot” speaks for the other one most: "
        "-0.150."
    )
    images = Contrast(planted("a red dot", {(0, 1): 0.3}), preferred, "second")
    assert reading.verdict_of_contrast(images) == (
        "The preferred image is more similar, by +0.100 (cosine); “dot” speaks for it "
        "most: +0.100."
    )
    same = Contrast(preferred, preferred, "first")
    assert reading.verdict_of_contrast(same).startswith("Both texts are as similar")


def _classes(table: Tensor, *names: str) -> ZeroShot:
    shares = torch.tensor([0.75, 0.25][: len(names)])
    zeros = torch.zeros(len(names))
    return ZeroShot("none", image(), names, names, zeros, shares, zeros, table)


def test_of_classes() -> None:
    table = torch.zeros(2, 6)
    table[0, 5], table[1, 0] = 0.2, 0.3
    assert reading.verdict_of_classes(_classes(table, "a dog", "a wolf")) == (
        f"“a dog” is most probable, 75.0%; what tells it from “a wolf” most is "
        f"{BOTTOM_RIGHT}: +0.200."
    )
    alone = reading.verdict_of_classes(_classes(table[:1], "a dog"))
    assert alone.endswith(f"; {BOTTOM_RIGHT} speaks for it most: +0.200.")
    nothing = reading.verdict_of_classes(_classes(0 * table, "a dog", "a wolf"))
    assert nothing == "“a dog” is most probable, 75.0%."


def test_of_several_methods() -> None:
    one = planted("a red dot", {(0, 1): 0.3})
    two = replace(planted("a red dot", {(5, 2): 0.3}), method="occlusion")
    costs: Any = (1.0, 2, 3)
    compared = (
        Compared(one, *costs, 0.2, 0.9, 0.1, 0.1, 0.1),
        Compared(two, *costs, None, 0.4, 0.1, 0.1, 0.1),
    )
    said = reading.verdict_of_comparison(Comparison(compared, torch.ones(2, 2)))
    start = "Most faithful here is occlusion, with 0.40 of 1; by it: "
    assert said.startswith(f"{start}“dot” and {BOTTOM_RIGHT} add most")
    single = reading.verdict_of_comparison(Comparison(compared[:1], torch.ones(1, 1)))
    assert single == reading.verdict(one)


# ---- what is silent ----------------------------------------------------------


def _read(said: str, silent: list[int], **more: Any) -> list[str]:
    """Of an explanation of which some words add exactly nothing."""
    found = explanation(said)
    table = found.interactions.clone()
    table[:, silent] = 0
    return reading.silence(replace(found, interactions=table, **more))


def test_words_behind_the_end_are_named_once() -> None:
    assert _read("a red dot", []) == []
    assert _read("a red dot on it", [3, 4]) == [
        "The model stops reading after “dot”: “on” and “it” add exactly nothing."
    ]
    assert _read("a red dot on it", [1]) == [
        "The model does not read “red”: it adds exactly nothing."
    ]
    # a method that leaves out words does not know why
    said = _read("a red dot on it", [3, 4], method="occlusion")
    assert said == ["“on” and “it” add exactly nothing."]
    # what a word adds on its own is not nothing
    assert _read("a red", [1], second_effects=torch.tensor([0.0, 0.1])) == []
    many = _read("one two three four five six seven eight nine", list(range(1, 9)))
    assert "“six”, “seven” and 2 more add exactly nothing" in many[0]
    every = planted("a red dot", {})  # where all is zero that is said by the verdict
    assert reading.silence(every) == []


def _with(side: ExplainedInput, at: int, **more: Any) -> ExplainedInput:
    features = list(side.features)
    features[at] = replace(features[at], **more)
    return replace(side, features=tuple(features))


def test_words_that_the_tokenizer_does_not_know() -> None:
    found = explanation("a red dot on it")
    one = _with(found.second, 2, unknown=True)
    assert reading.silence(replace(found, second=one)) == [
        "The tokenizer does not know “dot”: the model reads an unknown word there."
    ]
    two = _with(one, 1, unknown=True)
    (said,) = reading.silence(replace(found, second=two))
    assert "“red” and “dot”: the model reads the same unknown word there" in said


def test_what_of_an_image_is_not_seen() -> None:
    found = explanation("a red dot")
    cut = replace(image().source, visible=(5.0, 0.0, 25.0, 20.0))
    (said,) = reading.silence(replace(found, first=replace(image(), source=cut)))
    assert (
        said == "The model sees x 5–25, y 0–20 px of the image; 33% of it is cut off."
    )
    outside = _with(image(), 0, box=None)
    (said,) = reading.silence(replace(found, first=outside))
    assert said == "1 patch lies outside of the image."
    table = found.interactions.clone()
    table[:2] = 0
    (said,) = reading.silence(replace(found, interactions=table))
    assert said.startswith("2 patches add exactly nothing: as in the baseline, or")


# ---- where it stands ---------------------------------------------------------


def test_it_stands_in_every_summary_and_page() -> None:
    found = planted("a red dot", {(0, 1): 0.3, (5, 2): -0.2})
    found = replace(found, second=_with(found.second, 2, unknown=True))
    notes = reading.silence(found)
    contrast = Contrast(found, planted("a blue dot", {(0, 1): 0.1}), "first")
    classes = _classes(torch.rand(2, 6), "a dog", "a wolf")
    verdicts = [
        reading.verdict(found),
        reading.verdict_of_contrast(contrast),
        reading.verdict_of_classes(classes),
    ]
    entries = content_of([found, contrast, classes])["entries"]
    for result, verdict, entry in zip((found, contrast, classes), verdicts, entries):
        lines = result.summary().splitlines()
        assert lines[0] == verdict
        assert entry["verdict"] == verdict.replace("-", "−")
    # the page has no number above a map, and each candidate in colours of its own
    plain = reading.key("cosine").split(" A number above")[0]
    assert entries[0]["key"] == entries[2]["key"] == plain
    assert entries[1]["key"].startswith("Orange adds to a candidate's own similarity")
    assert "the preferred one and purple for the other" in entries[1]["key"]
    assert "purple for the other one" in reading.key_of_contrast(contrast)
    assert all(note in found.summary() for note in notes)
    assert notes and entries[0]["notes"] == notes
    assert entries[1]["notes"][: len(notes)] == notes
    assert contrast.summary().count(notes[0]) == 1


# ---- of real encoders --------------------------------------------------------


def test_a_model_that_pools_at_the_highest_id_stops_there(tiny_clip: Path) -> None:
    """transformers' rule for an end token of id 2: the highest id is the end."""
    model = AutoModel.from_pretrained(tiny_clip).train(False)
    processor = AutoProcessor.from_pretrained(tiny_clip)
    processor.tokenizer.add_tokens(["zebra"])
    model.text_model.resize_token_embeddings(len(processor.tokenizer))
    model.config.text_config.eos_token_id = 2
    model.text_model.config.eos_token_id = 2
    model.text_model.eos_token_id = 2
    photo = Image.new("RGB", (20, 20), "red")
    found = load(model, processor).explain(photo, "red zebra circle square", n_steps=4)
    said = "The model stops reading after “zebra”: “circle” and “square” add exactly "
    assert f"{said}nothing." in found.summary().splitlines()
    assert not found.phrase("circle square").any() and found.phrase("red").any()


@pytest.mark.parametrize("tokens", [False, True])
def test_unknown_words_of_tokenizers(tokens: bool) -> None:
    names = ["[UNK]", "[PAD]", *"a the and of to in is red circle".split()]
    numbers = {name: number for number, name in enumerate(names)}
    split = Tokenizer(WordLevel(numbers, unk_token="[UNK]"))
    split.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=split, unk_token="[UNK]", pad_token="[PAD]"
    )
    words = nn.Embedding(len(names), 8)
    encoder = HuggingFaceTextEncoder(words, words, tokenizer, [], words, longest=9)
    prepared = encoder.prepare("red zebra circle")
    layout = prepared.layout((1, 3, 8), False, tokens)
    assert [each.unknown for each in layout.features] == [False, True, False]
    saved = input_to_json(replace(text("red zebra circle"), features=layout.features))
    assert input_from_json(saved).features == layout.features
