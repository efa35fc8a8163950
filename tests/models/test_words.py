"""Words of a text, and the tokens that they are made of."""

from pathlib import Path
from typing import Any

import pytest
from captum_pairs import load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.inputs import find_phrase
from captum_pairs.models import Feature, TextLengthError
from captum_pairs.models.words import join_tokens, offsets_of, token_groups, word_spans
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
        # letters with their marks, in whatever script
        ("السَّلَامُ عَلَيْكُمْ", ["السَّلَامُ", "عَلَيْكُمْ"]),
        ("שָׁלוֹם עוֹלָם", ["שָׁלוֹם", "עוֹלָם"]),
        ("צה״ל ג׳ירפה", ["צה״ל", "ג׳ירפה"]),
        ("हिन्दी क्‍षत्रिय", ["हिन्दी", "क्‍षत्रिय"]),
        ("বাংলা ভাষা", ["বাংলা", "ভাষা"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("മലയാളം", ["മലയാളം"]),
        ("ܫܠܳܡܳܐ", ["ܫܠܳܡܳܐ"]),
        ("ތާނަ", ["ތާނަ"]),
        ("e\u0323\u0301a x\u20d7", ["e\u0323\u0301a", "x\u20d7"]),
        ("𝒜𝓃 𐎀𐎁", ["𝒜𝓃", "𐎀𐎁"]),
        # Persian, with a joiner that joins nothing; a soft hyphen; one of Unicode's
        ("می‌خواهم سگ", ["می‌خواهم", "سگ"]),
        ("Donau\u00addampf schiff", ["Donau\u00addampf", "schiff"]),
        ("well\u2010known l·l", ["well\u2010known", "l·l"]),
        ("-a- 'b' c-", ["-", "a", "-", "'", "b", "'", "c", "-"]),
        # scripts without spaces: clusters
        ("น้ำกับสุนัข", ["น้ำ", "กั", "บ", "สุ", "นั", "ข"]),
        ("ສະບາຍດີ", ["ສ", "ະ", "ບ", "າ", "ຍ", "ດີ"]),
        ("ខ្មែរ", ["ខ្មែ", "រ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("က္က", ["က္က"]),
        ("人々はﾈｺと𠮷野家", ["人", "々", "は", "ﾈ", "ｺ", "と", "𠮷", "野", "家"]),
        ("か\u3099", ["か\u3099"]),
        ("犬dog 3匹", ["犬", "dog", "3", "匹"]),
        # Tibetan: syllables with what ends them
        ("བོད་ཡིག།", ["བོད་", "ཡིག", "།"]),
        ("한국어 조선말", ["한국어", "조선말"]),
        ("\u1112\u1161\u11ab 가", ["\u1112\u1161\u11ab", "가"]),
        # emoji that are several characters
        ("a 👩‍👩‍👧 b", ["a", "👩‍👩‍👧", "b"]),
        ("a👍🏽b", ["a", "👍🏽", "b"]),
        ("❤️ 🇩🇪", ["❤️", "🇩🇪"]),
        ("1️⃣ 2 #️⃣", ["1️⃣", "2", "#️⃣"]),
        (
            "🏴\U000e0067\U000e0062\U000e007f x",
            ["🏴\U000e0067\U000e0062\U000e007f", "x"],
        ),
        # spaces that show nothing
        ("a\u200bb \ufeffc\u00a0d", ["a", "b", "c", "d"]),
        ("\u0301a", ["\u0301a"]),
        ("x² ½ Ⅷ", ["x²", "½", "Ⅷ"]),
    ],
)
def test_word_spans(text: str, words: list[str]) -> None:
    assert [text[slice(*span)] for span in word_spans(text)] == words


def test_specials_of_one_name_are_one_feature() -> None:
    tokens = [
        Feature("red", span=(0, 3)),
        Feature("padding", special=True),
        Feature("[EOS]", special=True),
        Feature("padding", special=True),
    ]
    for groups in (join_tokens("red", tokens), token_groups(tokens)):
        assert [group.positions for group in groups] == [(0,), (1, 3), (2,)]
        assert [group.feature.name for group in groups] == ["red", "padding", "[EOS]"]


@pytest.mark.parametrize(
    "text, surfaces, parts",
    [
        ("A Red circle", ["a", "red", "cir", "cle"], ["A", "Red", "cir", "cle"]),
        # case, accents and compatibility forms that a tokenizer changes
        ("NAÏVE ﬁsh", ["naive", "fish"], ["NAÏVE", "ﬁsh"]),
        # punctuation that it strips, and spaces
        ("it's - a  dog!", ["it", "s", "a", "dog"], ["it", "s", "a", "dog"]),
        # what it does not know is what is left between its neighbours
        ("a 犬 dog", ["a", "<unk>", "dog"], ["a", "犬", "dog"]),
        ("a 犬", ["a", "�"], ["a", "犬"]),
        ("a junk dog", ["a", "", "dog"], ["a", "junk", "dog"]),
        # however much it drops in a row
        (
            f"dog {'-' * 30} cat and sea",
            ["dog", "cat", "and", "sea"],
            ["dog", "cat", "and", "sea"],
        ),
        (
            f"a {'犬' * 40} dog, a cat",
            ["a", "dog", "a", "cat"],
            ["a", "dog", "a", "cat"],
        ),
        # what a tokenizer takes for markup
        (
            "a&nbsp;dog&nbsp;&nbsp;&nbsp;&nbsp;&nbsp;spans",
            ["a", "dog", "spans"],
            ["a", "dog", "spans"],
        ),
        (
            "salt &amp; pepper, caf&eacute; &#38;",
            ["salt", "&", "pepper", "café", "&"],
            ["salt", "&", "pepper", "caf&e", "&"],
        ),
        ("c- cat", ["cat"], ["cat"]),
        (
            "red, red blue; red blue red",
            ["red", "red", "blue", "red", "blue", "red"],
            ["red", "red", "blue", "red", "blue", "red"],
        ),
    ],
)
def test_offsets_that_a_tokenizer_does_not_tell(
    text: str, surfaces: list[str], parts: list[str]
) -> None:
    offsets = offsets_of(text, [None, *surfaces, None])
    assert offsets[0] == offsets[-1] == (0, 0)
    assert [text[slice(*span)] for span in offsets[1:-1]] == parts


def test_tokens_that_share_a_word_or_words_that_share_a_token() -> None:
    text = "ab cd ef"
    offsets = [(0, 0), (0, 1), (1, 4), (3, 5), (5, 6), (6, 8), (0, 0)]
    names = ["[BOS]", "a", "b c", "cd", "_", "ef", "[EOS]"]
    special = [True, False, False, False, False, False, True]
    tokens = [
        Feature(name, flag, None if flag else span)
        for name, flag, span in zip(names, special, offsets)
    ]
    groups = join_tokens(text, tokens)
    found = [(f.name, at, f.special, f.span) for f, at in groups]
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
    prepared = load(tiny_clip).second.prepare(text)
    count = prepared.inputs.shape[1]
    layout = prepared.layout((1, count, 16), False, False)
    words = [feature for feature in layout.features if not feature.special]
    assert [word.span for word in words] == word_spans(text)
    assert [word.name for word in words] == [text[slice(*word.span)] for word in words]
    assert layout.mask.shape == (1, count, 1)
    assert set(layout.mask.flatten().tolist()) == set(range(len(layout.features)))
    assert sum(feature.special for feature in layout.features) == 2


def test_the_tokenizer_of_scenes() -> None:
    text = "A red elephant, here"
    out = new_tokenizer()(
        text, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    flags = [bool(flag) for flag in out["special_tokens_mask"]]
    tokens = [
        Feature(str(number), flag, None if flag else span)
        for number, flag, span in zip(out["input_ids"], flags, out["offset_mapping"])
    ]
    features = [group.feature for group in join_tokens(text, tokens)]
    assert [f.name for f in features[:5]] == ["A", "red", "elephant", ",", "here"]
    assert [f.special for f in features] == [False] * 5 + [True] * 2


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_empty_texts(tiny_clip: Path, text: str) -> None:
    with pytest.raises(TextLengthError, match="empty"):
        load(tiny_clip).second.prepare(text)


def test_too_long_a_text_says_how_many_tokens(
    tiny_clip: Path, recwarn: pytest.WarningsRecorder
) -> None:
    text = load(tiny_clip).second
    assert text.prepare("red " * 22).inputs.shape == (1, 24)
    with pytest.raises(TextLengthError, match="at most 24 tokens.*got 25 tokens"):
        text.prepare("red " * 23)
    assert not recwarn.list


def test_offsets_of_long_texts() -> None:
    words = [f"word{number}" for number in range(1500)]
    text = " ".join(words)
    for surfaces in (words, [f"{word}" for word in words[:700]]):
        spans = offsets_of(text, surfaces)
        assert [text[slice(*span)] for span in spans] == surfaces
    assert len(text) * len("".join(words)) > 40_000_000


@pytest.mark.parametrize("text", ["a \udc80 dog", "\ud83d"])
def test_half_a_character(tiny_clip: Path, text: str) -> None:
    with pytest.raises(TextLengthError, match="lone surrogate. at"):
        load(tiny_clip).second.prepare(text)


def test_a_phrase_written_in_another_form() -> None:
    text = "two nai\u0308ve dogs"
    start, stop = find_phrase(text, "na\u00efve")
    assert text[start:stop] == "nai\u0308ve"


@pytest.mark.parametrize("phrase", ["", " ", "\u200b", None, 3, ["dog"]])
def test_phrases_that_are_none(phrase: Any) -> None:
    with pytest.raises(
        InvalidArgumentError, match="phrase: expected at least one word"
    ):
        find_phrase("a dog and a dog", phrase)


@pytest.mark.parametrize("occurrence", [0, 3, -1, True, 1.0, "1", [1]])
def test_occurrences_that_there_are_not(occurrence: Any) -> None:
    with pytest.raises(
        InvalidArgumentError, match="occurrence: expected a number from"
    ):
        find_phrase("a dog and a dog", "dog", occurrence)
