"""Cross-encoders and matching heads with random weights, as small as they can be, on
disk as their authors would have saved them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from tiny_hugging_face import bert_tokenizer, roberta_tokenizer, SMALL, VISION, WORDS
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessor,
    BlipProcessor,
    BridgeTowerConfig,
    BridgeTowerForImageAndTextRetrieval,
    BridgeTowerImageProcessor,
    BridgeTowerProcessor,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViltConfig,
    ViltForImageAndTextRetrieval,
    ViltImageProcessor,
    ViltProcessor,
)


def _untyped(kind: Any) -> Any:
    """A class whose arguments have no types, or not all of them."""
    return kind


_BERT: dict[str, Any] = {
    **SMALL,
    "vocab_size": 5 + len(WORDS),
    "max_position_embeddings": 32,
}
_ROBERTA: dict[str, Any] = {
    **SMALL,
    "vocab_size": 261,
    "max_position_embeddings": 80,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "type_vocab_size": 1,
}
_SIZE: dict[str, Any] = {"height": 20, "width": 20}


def _save(model: Any, directory: Path) -> None:
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1:  # small initial values make all scores alike
                value.copy_(0.25 * torch.randn_like(value))
            elif "bias" in name:
                value.copy_(0.1 * torch.randn_like(value))
    model.save_pretrained(directory)


# ---- two texts ---------------------------------------------------------------


def _classifier(kind: Any, config: Any, tokenizer: Any) -> Callable[[Path], None]:
    def save(directory: Path) -> None:
        _save(kind(config()), directory)
        tokenizer().save_pretrained(directory)

    return save


def _bert(labels: int = 1, **more: Any) -> Any:
    names = {at: f"class {at}" for at in range(labels)}
    return BertConfig(**_BERT, id2label=names, **more)


def _distilbert() -> Any:
    return _untyped(DistilBertConfig)(
        dim=16,
        hidden_dim=24,
        n_heads=2,
        n_layers=2,
        vocab_size=5 + len(WORDS),
        max_position_embeddings=32,
        num_labels=1,
    )


def _modernbert() -> Any:
    return _untyped(ModernBertConfig)(
        **{key: value for key, value in _BERT.items() if key != "initializer_range"},
        num_labels=1,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
        local_attention=4,
    )


def _of_sentence_transformers(directory: Path) -> None:
    BUILDERS["bert"](directory / "plain")
    model = CrossEncoder(str(directory / "plain"), device="cpu")
    model.save_pretrained(str(directory / "saved"))


# ---- an image and a text -----------------------------------------------------


def _blip(directory: Path) -> None:
    config = BlipConfig(
        text_config={**_BERT, "encoder_hidden_size": 16, "projection_dim": 8},
        vision_config=VISION,
        projection_dim=8,
        image_text_hidden_size=8,
    )
    _save(BlipForImageTextRetrieval(config), directory)
    image = BlipImageProcessor(size=_SIZE)
    _untyped(BlipProcessor)(image, bert_tokenizer()).save_pretrained(directory)


def _blip_2(directory: Path) -> None:
    config = Blip2Config(
        vision_config=VISION,
        qformer_config={
            **_BERT,
            "vocab_size": 6 + len(WORDS),
            "encoder_hidden_size": 16,
            "use_qformer_text_input": True,
        },
        num_query_tokens=3,
        image_text_hidden_size=8,
        image_token_index=5 + len(WORDS),
    )
    _save(Blip2ForImageTextRetrieval(config), directory)
    image = BlipImageProcessor(size=_SIZE)
    made = _untyped(Blip2Processor)(image, bert_tokenizer(), num_query_tokens=3)
    made.save_pretrained(directory)


def _vilt(directory: Path) -> None:
    config = ViltConfig(**{**_BERT, **VISION})
    _save(ViltForImageAndTextRetrieval(config), directory)
    image = _untyped(ViltImageProcessor)(size={"shortest_edge": 20}, size_divisor=4)
    _untyped(ViltProcessor)(image, bert_tokenizer()).save_pretrained(directory)


def _bridgetower(directory: Path) -> None:
    config = _untyped(BridgeTowerConfig)(
        hidden_size=64,  # a head has 64
        intermediate_size=24,
        num_attention_heads=2,
        num_hidden_layers=2,
        text_config={**_ROBERTA, "hidden_size": 64, "num_hidden_layers": 3},
        vision_config={**VISION, "hidden_size": 64, "num_hidden_layers": 3},
    )
    _save(BridgeTowerForImageAndTextRetrieval(config), directory)
    image = BridgeTowerImageProcessor(
        size={"shortest_edge": 20}, size_divisor=4, do_center_crop=False
    )
    made = _untyped(BridgeTowerProcessor)(image, roberta_tokenizer(80))
    made.save_pretrained(directory)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "bert": _classifier(BertForSequenceClassification, _bert, bert_tokenizer),
    "bert-relu": _classifier(
        BertForSequenceClassification, lambda: _bert(hidden_act="relu"), bert_tokenizer
    ),
    "bert-3": _classifier(
        BertForSequenceClassification, lambda: _bert(3), bert_tokenizer
    ),
    "distilbert": _classifier(
        DistilBertForSequenceClassification, _distilbert, bert_tokenizer
    ),
    "modernbert": _classifier(
        ModernBertForSequenceClassification, _modernbert, bert_tokenizer
    ),
    "roberta": _classifier(
        RobertaForSequenceClassification,
        lambda: _untyped(RobertaConfig)(**_ROBERTA, num_labels=1),
        lambda: roberta_tokenizer(60),
    ),
    "sentence-transformers": _of_sentence_transformers,
    "blip": _blip,
    "blip-2": _blip_2,
    "bridgetower": _bridgetower,
    "vilt": _vilt,
}


def build_score(family: str, directory: Path) -> Path:
    """A model of that family in a directory."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BUILDERS[family](directory)
    saved = directory / "saved"
    return saved if saved.exists() else directory
