"""``--target``: which class's score of a reranker or classifier is explained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from captum_pairs import PairExplanation
from captum_pairs.cli import main
from click.testing import CliRunner, Result
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
)

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a the red circle dog".split()
TEXTS = ("--text", "a red circle", "--text", "a dog", "--text", "red dog")
LABELS = ["contradiction", "entailment", "neutral"]


def _saved(directory: Path, labels: list[str]) -> Path:
    config = BertConfig(
        hidden_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        intermediate_size=24,
        vocab_size=len(WORDS),
        max_position_embeddings=16,
        initializer_range=0.3,
        id2label=dict(enumerate(labels)),
        pad_token_id=0,
    )
    BertForSequenceClassification(config).save_pretrained(directory)
    vocabulary = {word: at for at, word in enumerate(WORDS)}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("classes"), LABELS)


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _own_scores(directory: Path, *texts: str) -> list[float]:
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    with torch.no_grad():
        logits = model(**tokenizer(*texts, return_tensors="pt")).logits
    return [float(value) for value in logits[0]]


def test_one_of_several_classes(classes: Path, tmp_path: Path) -> None:
    """`explain` is given the target in the same way, as what it refuses shows."""
    one, other = (_own_scores(classes, "a red circle", text) for text in TEXTS[3::2])
    given = ("--target", "Entailment", *TEXTS, "--n-steps", 3, "--out", tmp_path)
    done = _run("contrast", "--model", classes, *given)
    assert done.exit_code == 0, done.output
    assert "in logit of “entailment”" in done.output
    found = json.loads((tmp_path / "contrast.json").read_text("utf-8"))
    assert found["difference"] == pytest.approx(one[1] - other[1], abs=2e-5)
    preferred = PairExplanation.load(tmp_path, "contrast_preferred")
    assert preferred.score == pytest.approx(one[1], abs=1e-5)


def test_what_is_wrong_with_a_target(
    classes: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    one = _saved(tmp_path / "one", ["relevant"])
    known = "one of 'contradiction', 'entailment', 'neutral', or a number from 0 to 2"
    for model, target, said in (
        (classes, (), f"is needed: the class whose score is meant, {known}"),
        (classes, ("entailmnt",), "'entailmnt'; did you mean “entailment”?"),
        (classes, ("3",), f"{known}, not '3'"),
        (one, ("relevant",), f"by models of several classes only, not by {one}"),
        (tiny_clip, ("1",), f"by models of several classes only, not by {tiny_clip}"),
    ):
        given = [part for value in target for part in ("--target", value)]
        done = _run("explain", "--model", model, *given, *TEXTS[:4], "--out", tmp_path)
        assert done.exit_code == 2, done.output
        assert said in done.output and "--target" in done.output
    # what needs two embeddings takes none
    study = ("faithfulness", "--data", "scenes:2", "--out", tmp_path / "study")
    for command in (("compare", *TEXTS[:4]), ("study", *study)):
        done = _run(*command, "--model", classes)
        assert done.exit_code == 2 and "--target" not in done.output, done.output
        assert "a model that embeds each input, not one that" in done.output


def test_a_label_comes_before_a_number() -> None:
    from captum_pairs.models.scorer import of_class, Scorer

    class Classes(Scorer):
        labels = ("1", "0", "Yes", "yes", "twice", "twice")

        def prepare(self, *arguments: Any) -> Any: ...

        def layers(self, wanted: Any) -> Any: ...

        def score(self, *arguments: Any) -> Any: ...

    known = {"1": 0, "0": 1, 1: 1, "yes": 3, "Yes": 2, "5": 5}
    for target, number in known.items():
        assert of_class(Classes(), target).target == number
    for target in ("YES", "twice", "6", "-1", "٣", "9" * 5000):
        with pytest.raises(ValueError, match="^target: "):
            of_class(Classes(), target)
