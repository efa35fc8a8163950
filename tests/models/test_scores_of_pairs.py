"""Scores of both inputs at once: cross-encoders, matching heads, functions."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captum_pairs
import numpy as np
import pytest
import torch
from captum_pairs import PairExplanation, PairScorer
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import ModelUnavailableError, TextLengthError
from PIL import Image
from sentence_transformers import CrossEncoder
from tiny_scores import build_score
from torch import nn, Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Blip2ForImageTextRetrieval,
    BlipForImageTextRetrieval,
    BridgeTowerForImageAndTextRetrieval,
    ViltForImageAndTextRetrieval,
)
from transformers.models.auto.processing_auto import AutoProcessor

_PROCESSORS: Any = AutoProcessor
TEXTS = "a red circle", "the dog barks"
Building = Callable[[str], Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Building:
    """Each model once."""
    made: dict[str, Path] = {}

    def build(family: str) -> Path:
        if family not in made:
            made[family] = build_score(family, tmp_path_factory.mktemp("score"))
        return made[family]

    return build


def _photo() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def _adds_up(found: PairExplanation) -> None:
    """The parts are the score."""
    total = found.constant + float(found.interactions.sum()) + found.rest
    for effects in (found.first_effects, found.second_effects):
        total += 0.0 if effects is None else float(effects.sum())
    assert total - found.convergence_delta == pytest.approx(found.score, abs=1e-5)


# ---- two texts ---------------------------------------------------------------


def _own_score(directory: Path, target: int = 0) -> float:
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    with torch.no_grad():
        logits = model(**tokenizer(*TEXTS, return_tensors="pt")).logits
    return float(logits[0, target])


@pytest.mark.parametrize(
    "family",
    [
        "bert",
        "bert-relu",
        "bert-3",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("distilbert", "modernbert", "roberta")
        ),
    ],
)
def test_a_reranker_of_transformers(built: Building, family: str, capsys: Any) -> None:
    directory = built(family)
    target: Any = {"target": "Class 1"} if family == "bert-3" else {}
    model = captum_pairs.load(directory, **target)
    assert isinstance(model, PairScorer) and "scored at once" in repr(model)
    found = model.explain(*TEXTS, n_steps=5)
    assert found.score == pytest.approx(_own_score(directory, len(target)), abs=1e-5)
    # of several classes the result says which one it is about
    called = "logit of “class 1”" if target else "logit"
    assert found.similarity == "score" and found.logits[called] == found.score
    _adds_up(found)
    words = tuple(TEXTS[0].split()), tuple(TEXTS[1].split())
    assert (found.first.names[:3], found.second.names[:3]) == words
    if family == "bert-relu":  # kinks, which no node sees
        assert "ABOVE the tolerance" in found.summary()
        assert "unless the score has kinks" in capsys.readouterr().err


def test_a_cross_encoder_of_sentence_transformers(built: Building) -> None:
    directory = built("sentence-transformers")
    own: Any = CrossEncoder(str(directory), device="cpu")
    probability = float(own.predict([TEXTS])[0])
    named, adopted = captum_pairs.load(directory), captum_pairs.load(own)
    for model in (named, adopted):
        found = model.explain(*TEXTS, n_steps=5)
        assert found.logits["probability"] == pytest.approx(probability, abs=1e-5)
        assert found.score == pytest.approx(_own_score(directory), abs=1e-5)
    with pytest.raises(InvalidArgumentError, match="processor: expected None"):
        captum_pairs.load(own, own.tokenizer)
    own.activation_fn = nn.Identity()
    assert "probability" not in captum_pairs.load(own).explain(*TEXTS).logits


def test_a_reranker_in_memory(built: Building) -> None:
    directory = built("bert")
    own: Any = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = captum_pairs.load(own, tokenizer)
    assert model.first.module is own
    score = model.explain(*TEXTS, n_steps=3).score
    assert score == pytest.approx(_own_score(directory), abs=1e-5)
    with pytest.raises(InvalidArgumentError, match="processor: expected the model's"):
        captum_pairs.load(own)


def test_one_of_several_classes(built: Building) -> None:
    own: Any = AutoModelForSequenceClassification.from_pretrained(built("bert-3"))
    tokenizer = AutoTokenizer.from_pretrained(built("bert-3"))
    for target in (None, 3, -1, True, "class 9", 1.0):
        with pytest.raises(InvalidArgumentError, match="target: .*'class 2'"):
            wrong: Any = target
            captum_pairs.load(own.eval(), tokenizer, target=wrong)
    with pytest.raises(InvalidArgumentError, match="target: expected None"):
        captum_pairs.load(built("bert"), target=0)
    with pytest.raises(InvalidArgumentError, match="target: expected None"):
        captum_pairs.load("scenes", target=0)


@pytest.mark.slow  # words and phrases are in the other tests too
def test_features_of_a_sequence(built: Building) -> None:
    """Words that are cut into tokens are one; the table is the sum of the tokens'."""
    model = captum_pairs.load(built("bert"))
    texts = "a circle, not red", "the dog barks!"
    words = model.explain(*texts, tolerance=1e-3)
    tokens = model.explain(*texts, tolerance=1e-3, tokens=True)
    assert words.first.names == ("a", "circle", ",", "not", "red")
    assert words.first.features[1].span == (2, 8)
    assert tokens.first.names[:3] == ("a", "circle", ",")
    assert float(tokens.interactions.sum()) == pytest.approx(
        float(words.interactions.sum()), rel=1e-2, abs=1e-4
    )


def test_a_phrase_is_its_words_together(built: Building) -> None:
    model = captum_pairs.load(built("bert"))
    at: Any = {"layer": 1, "tolerance": 2e-3}
    whole = model.explain(*TEXTS, **at)
    part = model.explain(*TEXTS, **at, phrase="red circle", side="first")
    assert part.first.names == ("red circle",) and part.second_effects is None
    size = float(whole.interactions.norm())
    expected = whole.phrase("red circle", side="first")
    assert float((part.interactions[0] - expected).norm()) < 5e-3 * size
    _adds_up(part)
    assert part.rest
    # with the second text's phrase the column is that of the table
    other = model.explain(*TEXTS, **at, phrase="dog", side="second")
    assert float((other.interactions[:, 0] - whole.interactions[:, 1]).norm()) < (
        5e-3 * size
    )
    _adds_up(other)


def test_a_result_is_shown_and_kept(built: Building, tmp_path: Path) -> None:
    model = captum_pairs.load(built("sentence-transformers"))
    found = model.explain(*TEXTS, n_steps=7)
    said = found.summary()
    assert said.splitlines()[1].startswith("score ")
    assert "pairs of words" in said and "steps" in said and "on its own: as" in said
    found.save(tmp_path)
    assert PairExplanation.load(tmp_path) == found
    page = found.page(tmp_path / "page.html").read_text("utf-8")
    assert "integrated_hessians" in page or "integrated hessians" in page.lower()
    assert found.plot() is not None
    frame = found.to_frame()
    assert float(frame["attribution"].sum()) == pytest.approx(found.score, abs=1e-5)


def test_lists_and_contrasts(built: Building) -> None:
    model = captum_pairs.load(built("bert"))
    both = model.explain([TEXTS[0], "a dog"], list(TEXTS[::-1]), n_steps=3)
    assert [e.second.source.text for e in both] == [TEXTS[1], TEXTS[0]]
    many = model.explain(TEXTS[0], [TEXTS[1], "a blue square"], n_steps=3)
    assert [e.second.source.text for e in many] == [TEXTS[1], "a blue square"]
    contrast = model.contrast(TEXTS[0], TEXTS[1], "the dog", n_steps=3)
    one, other = contrast.preferred, contrast.other
    assert contrast.difference == pytest.approx(one.score - other.score)
    assert sum(contrast.parts().values()) == pytest.approx(
        contrast.difference, abs=1e-5
    )


def test_what_is_refused(built: Building) -> None:
    model = captum_pairs.load(built("bert"))
    for ask in (
        lambda: model.contributions([TEXTS[0]], method="occlusion"),
        lambda: model.compare(*TEXTS),
        lambda: model.index([TEXTS[0]]),
        lambda: model.zero_shot(TEXTS[0], ["a", "b"]),
        lambda: model.references(texts=["a"]),
        lambda: captum_pairs.baseline_report(model, [TEXTS, TEXTS]),
    ):
        with pytest.raises(InvalidArgumentError, match="^model: .*both inputs at once"):
            ask()
    for options, name in (
        ({"method": "occlusion"}, "method"),
        ({"absent": "removed"}, "absent"),
        ({"references": None}, "references"),
        ({"n_samples": 3}, "n_samples"),
        ({"layer": (0, 1)}, "layer"),
        ({"layer": 9}, "layer"),
        ({"baseline": "black"}, "baseline"),
        ({"n_steps": 0}, "n_steps"),
        ({"tolerance": 0}, "tolerance"),
        ({"strange": 1}, "strange"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"^{name}: "):
            given: Any = options
            model.explain(*TEXTS, **given)
    for text in ("", " ", 3, None):
        with pytest.raises(TextLengthError):
            no_text: Any = text
            model.explain(TEXTS[0], no_text)
    with pytest.raises(TextLengthError, match="at most 32 tokens"):
        model.explain("dog " * 20, "dog " * 20)
    embedded = captum_pairs.load("scenes")
    stored = embedded.contributions(["a red circle"])[0]
    with pytest.raises(InvalidArgumentError, match="^first: expected an input itself"):
        model.explain(stored, TEXTS[1])
    with pytest.raises(InvalidArgumentError, match="method: expected one of"):
        embedded.explain("x.png", "a", method="integrated_hessians")


def test_what_it_costs_is_said_before(built: Building, capsys: Any) -> None:
    model = captum_pairs.load(built("bert"))
    cost = model.estimate(*TEXTS)
    assert cost.features == (3, 3) and cost.is_grid
    first, second = cost.n_steps
    assert cost.gradients == first * second * 4 + first + second
    assert f"{first} x {second} steps" in str(cost)
    assert "takes" not in capsys.readouterr().err


def test_a_long_explanation_is_announced(
    built: Building, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = captum_pairs.load(built("bert"))
    monkeypatch.setattr("captum_pairs.explain.scored.PATIENCE", 1e-6)
    model.explain(*TEXTS)
    said = capsys.readouterr().err
    assert re.search(r"explaining a pair takes about \d+ s: 3 x 3 features", said)


def test_a_deeper_layer_is_offered(built: Building, capsys: Any) -> None:
    model = captum_pairs.load(built("bert"))
    found = model.explain(*TEXTS, n_steps=7)
    assert found.first.residual > found.tolerance
    said = capsys.readouterr().err
    assert "above tolerance=0.01; layer=1 does with 7 x 7" in said
    again = model.explain(*TEXTS, n_steps=7, layer=1)
    assert again.first.layer.startswith("input of block 1")
    assert max(again.first.residual, again.second.residual) <= again.tolerance


def test_a_cross_encoder_that_can_not_be_understood(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForTokenClassification

    BertForTokenClassification(BertConfig(**_SMALLEST)).save_pretrained(tmp_path)
    with pytest.raises(ModelUnavailableError, match="from_score.*TokenClass"):
        captum_pairs.load(f"cross-encoder:{tmp_path}")
    with pytest.raises(ModelUnavailableError, match="from_score.*'bert'"):
        captum_pairs.load(f"itm:{tmp_path}")


_SMALLEST: dict[str, Any] = {
    "hidden_size": 8,
    "num_attention_heads": 1,
    "num_hidden_layers": 1,
    "intermediate_size": 8,
    "vocab_size": 9,
}


# ---- an image and a text -----------------------------------------------------

KINDS: dict[str, Any] = {
    "blip": BlipForImageTextRetrieval,
    "blip-2": Blip2ForImageTextRetrieval,
    "bridgetower": BridgeTowerForImageAndTextRetrieval,
    "vilt": ViltForImageAndTextRetrieval,
}


def _own_match(family: str, directory: Path) -> float:
    """The logit of a match, as the model's own processor and forward pass have it."""
    model = KINDS[family].from_pretrained(directory).eval()
    processor = _PROCESSORS.from_pretrained(directory)
    # in transformers 5.24 BridgeTower's processor hands on a size of its own for images
    images = processor.image_processor(_photo(), return_tensors="pt")
    if family == "blip-2":
        inputs = processor(images=_photo(), text=TEXTS[1], return_tensors="pt")
    else:
        inputs = processor.tokenizer(TEXTS[1], return_tensors="pt")
    inputs["pixel_values"] = images["pixel_values"]
    more = {"use_image_text_matching_head": True} if family == "blip-2" else {}
    with torch.no_grad():
        found = model(**inputs, **more)
    for name in ("itm_score", "logits_per_image", "logits"):
        classes = getattr(found, name, None)
        if classes is not None:
            one = classes[0]
            return float(one[0] if len(one) == 1 else one[1] - one[0])
    raise AssertionError(family)


@pytest.mark.parametrize(
    "family",
    [
        "blip",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("blip-2", "bridgetower", "vilt")
        ),
    ],
)
def test_a_matching_head(built: Building, family: str) -> None:
    directory = built(family)
    prefix = "itm:" if family == "blip" else ""
    model = captum_pairs.load(f"{prefix}{directory}")
    assert isinstance(model, PairScorer)
    found = model.explain(_photo(), TEXTS[1], n_steps=3)
    assert found.score == pytest.approx(_own_match(family, directory), abs=1e-5)
    assert found.first.grid == (5, 5)
    assert found.second.names[:3] == tuple(TEXTS[1].split())[: len(found.second.names)]
    if family != "vilt":
        sigmoid = float(torch.tensor(found.score).sigmoid())
        assert found.logits["probability"] == pytest.approx(sigmoid, abs=1e-6)
    _adds_up(found)
    assert found.phrase("dog").shape == (5, 5)


def test_a_blip_without_its_prefix_is_a_dual_encoder(built: Building) -> None:
    assert not isinstance(captum_pairs.load(built("blip")), PairScorer)


@pytest.mark.slow  # a phrase is the same for a text
def test_a_region_of_an_image(built: Building) -> None:
    model = captum_pairs.load(f"itm:{built('blip')}")
    box = (0, 0, 8, 8)
    whole = model.explain(_photo(), TEXTS[1], layer=(1, 1), tolerance=1e-3)
    part = model.explain(_photo(), TEXTS[1], layer=(1, 1), tolerance=1e-3, region=box)
    expected = torch.as_tensor(whole.region(box))
    shown = part.second.shaped(part.interactions[0])
    assert float((shown - expected).norm()) < 1e-2 * float(whole.interactions.norm())
    _adds_up(part)


@pytest.mark.slow  # a reranker is the same
def test_a_matching_head_in_memory(built: Building) -> None:
    directory = built("vilt")
    own = KINDS["vilt"].from_pretrained(directory).eval()
    processor = _PROCESSORS.from_pretrained(directory)
    found = captum_pairs.load(own, processor).explain(_photo(), TEXTS[1], n_steps=3)
    assert found.score == pytest.approx(_own_match("vilt", directory), abs=1e-5)


# ---- functions ---------------------------------------------------------------


class TextConditioned(nn.Module):
    """As Llip's image encoder: its visual tokens are mixed under the text's attention,
    and compared with the text."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.patches = nn.Embedding(30, 8), nn.Linear(12, 8)
        self.key, self.query = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, pixels: Tensor, ids: Tensor) -> Tensor:
        tokens = self.patches(pixels)  # (b, patches, 8)
        text = self.words(ids).mean(1)  # (b, 8)
        weights = (self.key(tokens) @ self.query(text)[..., None]).softmax(1)
        return torch.cosine_similarity((weights * tokens.tanh()).sum(1), text)


def test_a_text_conditioned_image_encoder() -> None:
    torch.manual_seed(0)
    net = TextConditioned().double().eval().requires_grad_(False)
    model = captum_pairs.from_score(
        net, layers=(None, net.words), name="conditioned", names=(None, list("abcd"))
    )
    pixels, ids = torch.randn(1, 6, 12).double(), torch.tensor([[3, 1, 4, 1]])
    found = model.explain(pixels, ids, tolerance=1e-4)
    assert found.score == pytest.approx(float(net(pixels, ids)), abs=1e-9)
    assert found.interactions.shape == (6, 4) and found.second.names == tuple("abcd")
    # what four scores say that the pairs sum to: zeros are the baselines
    with torch.no_grad():
        words = net.words(ids)
        empty = net.words(torch.zeros_like(ids))

    def score(x: Tensor, y: Tensor) -> float:
        tokens, text = net.patches(x), y.mean(1)
        weights = (net.key(tokens) @ net.query(text)[..., None]).softmax(1)
        mixed = (weights * tokens.tanh()).sum(1)
        return float(torch.cosine_similarity(mixed, text))

    zero = torch.zeros_like(pixels)
    wanted = score(pixels, words) - score(zero, words)
    wanted += score(zero, empty) - score(pixels, empty)
    error = abs(float(found.interactions.sum()) - wanted)
    assert error < 2e-4 * float(found.interactions.norm())
    assert found.constant == pytest.approx(score(zero, empty), abs=1e-9)


def test_a_score_with_encoders_of_another_model() -> None:
    """Images and texts, patches and words of a model, under a head of one's own."""
    scenes = captum_pairs.load("scenes")

    def score(pixels: Tensor, ids: Tensor, *mask: Tensor) -> Tensor:
        images = scenes.first.embed(pixels)
        return (images * scenes.second.embed(ids, *mask)).sum(1).tanh()

    model = captum_pairs.from_score(score, prepare=(scenes.first, scenes.second))
    assert (model.first.kind, model.second.kind) == ("image", "text")
    drawing = Image.new("RGB", (64, 64), "red")
    found = model.explain(drawing, "a red circle", layer=(-1, -1), n_steps=3)
    prepared = scenes.first.prepare(drawing), scenes.second.prepare("a red circle")
    with torch.no_grad():
        own = score(*(each.inputs for each in prepared), *prepared[1].arguments)
    assert found.score == pytest.approx(float(own), abs=1e-5)
    assert found.first.grid is not None
    assert found.phrase("red circle").shape == found.first.grid
    _adds_up(found)


def test_an_inner_product_is_what_the_engine_gives() -> None:
    """The oracle: contribution vectors and their products."""
    torch.manual_seed(1)
    one = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5)).double()
    other = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5)).double()
    inputs = torch.randn(1, 4).double(), torch.randn(1, 3).double()
    scored = captum_pairs.from_score(lambda x, y: (one(x) * other(y)).sum(1))
    embedded = captum_pairs.from_functions(one, other, similarity="dot")
    found = scored.explain(*inputs, tolerance=1e-6)
    expected = embedded.explain(*inputs, tolerance=1e-6)
    assert found.score == pytest.approx(expected.score, abs=1e-12)
    assert found.constant == pytest.approx(expected.constant, abs=1e-12)
    for name in ("interactions", "first_effects", "second_effects"):
        gap = getattr(found, name) - getattr(expected, name)
        assert float(gap.norm()) < 1e-5 * float(getattr(expected, name).norm())


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"score": 3}, "score"),
        ({"layers": (1, None)}, "layers"),
        ({"layers": nn.Linear(2, 2)}, "layers"),
        ({"prepare": (1, None)}, "prepare"),
        ({"names": (3, None)}, "names"),
    ],
)
def test_functions_that_do_not_fit(arguments: Any, name: str) -> None:
    given = {"score": lambda x, y: (x * y).sum(1), **arguments}
    with pytest.raises(InvalidArgumentError, match=f"^{name}: "):
        captum_pairs.from_score(given.pop("score"), **given)


def test_scores_that_do_not_fit() -> None:
    x, y = torch.rand(3), torch.rand(3)
    for score, match in (
        (lambda x, y: 1.0, "^score: .*float"),
        (lambda x, y: (x * y).sum(), "^score: .*single number"),
        (lambda x, y: torch.stack([x.sum(1)] * 2, 1), "^forward_func: "),
        (lambda x, y: x.sum(1), "does not depend"),
        (lambda x, y: (x * y).sum(1).detach(), "does not depend"),
        (lambda x, y: (x * y).sum(1) * float("nan"), "finite"),
    ):
        with pytest.raises(InvalidArgumentError, match=match):
            given: Any = score
            captum_pairs.from_score(given).explain(x, y)
    encoder = captum_pairs.load("scenes").first
    with pytest.raises(InvalidArgumentError, match="^baselines: expected None"):
        captum_pairs.from_score(
            lambda x, y: (x * y).sum(1), prepare=(encoder, None), baselines=(0.0, None)
        )
