"""Late-interaction models as small as they can be, saved as the libraries save them."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import models, normalizers, pre_tokenizers, processors, Tokenizer
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    Idefics3ImageProcessor,
    ModernVBertConfig,
    PaliGemmaConfig,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    SiglipImageProcessor,
)
from transformers.models.colmodernvbert import (
    ColModernVBertConfig,
    ColModernVBertForRetrieval,
    ColModernVBertProcessor,
)
from transformers.models.colpali import (
    ColPaliConfig,
    ColPaliForRetrieval,
    ColPaliProcessor,
)
from transformers.models.colqwen2 import (
    ColQwen2Config,
    ColQwen2ForRetrieval,
    ColQwen2Processor,
)

WORDS = "red circle square left of the big small a what is find item : , ##s".split()
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PROMPTS = {"query": "find item: ", "document": "item: "}
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def save_multi_vector(
    directory: Path,
    skipped: tuple[str, ...] = (),
    prompts: Any = None,
    similarity: str = "maxsim",
    seed: int = 0,
    pooled: bool = False,
    **reading: Any,
) -> Path:
    """
    A BERT with a projection for each token.

    Args:
        skipped: words of documents that the score skips.
        **reading: of the transformer: query_expansion, document_length.
    """
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import (
        HierarchicalTokenPooling,
        MultiVectorMask,
    )

    inner = directory / "transformer"
    vocabulary = {name: at for at, name in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=24, **dict(zip(names, SPECIAL))
    ).save_pretrained(inner)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(vocabulary), initializer_range=0.3, pad_token_id=0, **SMALL
        )
        BertModel(config).save_pretrained(inner)
        modules = [
            Transformer(str(inner), **reading),
            Dense(16, 8, False, nn.Identity(), module_input_name="token_embeddings"),
            MultiVectorMask(skiplist_words=list(skipped)),
            Normalize(module_input_name="token_embeddings"),
        ]
    if pooled:
        modules.append(HierarchicalTokenPooling(pool_factor=2))
    model = MultiVectorEncoder(
        modules=modules, device="cpu", prompts=prompts, similarity_fn_name=similarity
    )
    model.save(str(directory / "model"), create_model_card=False)
    return directory / "model"


def save_page_retriever(directory: Path, kind: str) -> Path:
    """
    A page retriever of transformers.

    Args:
        kind: "colpali", "colqwen2" or "colmodernvbert".
    """
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, processor = _KINDS[kind]()
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def _tokenizer(*special: str) -> PreTrainedTokenizerFast:
    names = ["<pad>", "<unk>", "<bos>", "<eos>", *special, *WORDS, "page", "\n"]
    names += ["Question", "Query", "Describe", "image", ".", "user"]
    vocabulary = {name: at for at, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Punctuation(),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=list(special),
    )


def _colpali() -> tuple[Any, Any]:
    """2 x 2 patches."""
    images = SiglipImageProcessor(size={"height": 28, "width": 28})
    images.image_seq_length = 4
    processor = ColPaliProcessor(
        image_processor=images, tokenizer=_tokenizer("<image>")
    )
    count = len(processor.tokenizer)
    vision = {
        "model_type": "siglip_vision_model",
        **{"image_size": 28, "patch_size": 14, "projection_dim": 16, **SMALL},
        "vision_use_head": False,
    }
    heads = {"num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}
    text = {"model_type": "gemma", "vocab_size": count, **SMALL, **heads}
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=processor.image_token_id,
        projection_dim=16,
        hidden_size=16,
    )
    model = ColPaliForRetrieval(ColPaliConfig(vlm_config=config, embedding_dim=8))
    return model, processor


def _colqwen2() -> tuple[Any, Any]:
    """As many patches of 8 x 8 pixels as the page's shape asks for."""
    around = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
    tokenizer = _tokenizer(*around, *marks)
    images = Qwen2VLImageProcessor(
        patch_size=4, merge_size=2, temporal_patch_size=2, min_pixels=64, max_pixels=512
    )
    processor = ColQwen2Processor(image_processor=images, tokenizer=tokenizer)
    start, end, pad = map(tokenizer.convert_tokens_to_ids, marks)
    config = Qwen2VLConfig(
        vision_config={
            **{"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2},
            **{"mlp_ratio": 2, "patch_size": 4, "spatial_merge_size": 2},
        },
        text_config={
            **SMALL,
            **{"num_key_value_heads": 1, "vocab_size": len(tokenizer)},
            **{"bos_token_id": 2, "eos_token_id": 3},
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [1, 1, 2],
                "rope_theta": 1e4,
            },
        },
        image_token_id=pad,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    model = ColQwen2ForRetrieval(ColQwen2Config(vlm_config=config, embedding_dim=8))
    return model, processor


def _colmodernvbert() -> tuple[Any, Any]:
    """Tiles of 2 x 2 patches, and the whole page behind them."""
    marks = ("<image>", "<fake_token_around_image>", "<global-img>")
    tiles = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    tokenizer = _tokenizer(*marks, "<end_of_utterance>", "<|begin_of_text|>", *tiles)
    images = Idefics3ImageProcessor(
        size={"longest_edge": 64},
        max_image_size={"longest_edge": 32},
        do_image_splitting=True,
    )
    processor = ColModernVBertProcessor(
        image_processor=images, tokenizer=tokenizer, image_seq_len=4
    )
    vision = {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8}
    ids = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id")
    text = {"model_type": "modernbert", "vocab_size": len(tokenizer), **SMALL}
    config = ModernVBertConfig(
        vision_config={**vision, **SMALL},
        text_config={**text, **dict(zip(ids, (0, 2, 3, 2))), "sep_token_id": 3},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pixel_shuffle_factor=2,
    )
    config = ColModernVBertConfig(vlm_config=config, embedding_dim=8)
    return ColModernVBertForRetrieval(config), processor


_KINDS = {
    "colpali": _colpali,
    "colqwen2": _colqwen2,
    "colmodernvbert": _colmodernvbert,
}
