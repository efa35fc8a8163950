"""Words of a text, and the tokens that they are made of."""

from pathlib import Path

import pytest
from captum_pairs.models import load, TextLengthError
from captum_pairs.models.words import join_tokens, word_spans
from captum_pairs.scenes.model import new_tokenizer


@pytest.mark.parametrize(
    "text, words",
    [
        ("a red circle, here.", ["a", "red", "circle", ",", "here", "."]),
        ("the dog's black-and-white ball", ["the", "dog's", "black-and-white", "ball"]),
        ("  12 cats!? ", ["12", "cats", "!?"]),
        ("naïve Ca\u0301fe", ["naïve", "Ca\u0301fe"]),
        ("हिन्दी शब्द", ["हिन्दी", "शब्द"]),
        ("赤い犬", ["赤", "い", "犬"]),
        ("a 👍 dog", ["a", "👍", "dog"]),
        ("snake_case", ["snake", "_", "case"]),
        ("", []),
    ],
)
def test_word_spans(text: str, words: list[str]) -> None:
    assert [text[slice(*span)] for span in word_spans(text)] == words


def test_tokens_that_share_a_word_or_words_that_share_a_token() -> None:
    text = "ab cd ef"
    offsets = [(0, 0), (0, 1), (1, 4), (3, 5), (5, 6), (6, 8), (0, 0)]
    names = ["[BOS]", "a", "b c", "cd", "_", "ef", "[EOS]"]
    special = [True, False, False, False, False, False, True]
    features = join_tokens(text, offsets, names, special)
    found = [(f.name, f.positions, f.special, f.span) for f in features]
    assert found == [
        ("ab cd", (1, 2, 3), False, (0, 5)),
        ("ef", (5,), False, (6, 8)),
        ("[BOS]", (0,), True, None),
        ("_", (4,), True, None),
        ("[EOS]", (6,), True, None),
    ]


@pytest.mark.parametrize(
    "text",
    ["A RED circle", "it's 42 squares, isn't it?", "naïve  café\n(red)", "a 👍 犬 dog"],
)
def test_byte_pairs_join_to_the_words_as_written(tiny_clip: Path, text: str) -> None:
    features = load(tiny_clip).text.prepare(text).features
    words = [feature for feature in features if not feature.special]
    assert [word.span for word in words] == word_spans(text)
    assert [word.name for word in words] == [text[slice(*word.span)] for word in words]
    positions = sorted(p for feature in features for p in feature.positions)
    assert positions == list(range(len(positions)))
    assert sum(feature.special for feature in features) == 2


def test_the_tokenizer_of_scenes() -> None:
    text = "A red elephant, here"
    out = new_tokenizer()(
        text, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    flags = [bool(flag) for flag in out["special_tokens_mask"]]
    names = [str(number) for number in out["input_ids"]]
    features = join_tokens(text, out["offset_mapping"], names, flags)
    assert [f.name for f in features[:5]] == ["A", "red", "elephant", ",", "here"]
    assert [f.special for f in features] == [False] * 5 + [True] * 2


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_empty_texts(tiny_clip: Path, text: str) -> None:
    with pytest.raises(TextLengthError, match="empty"):
        load(tiny_clip).text.prepare(text)


def test_too_long_a_text_says_how_many_tokens(
    tiny_clip: Path, recwarn: pytest.WarningsRecorder
) -> None:
    text = load(tiny_clip).text
    assert text.prepare("red " * 22).inputs.shape == (1, 24)
    with pytest.raises(TextLengthError, match="at most 24 tokens.*got 25 tokens"):
        text.prepare("red " * 23)
    assert not recwarn.list
