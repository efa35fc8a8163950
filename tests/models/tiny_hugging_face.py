"""Dual encoders of transformers with random weights, as small as they can be, on disk
as their authors would have saved them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import models, normalizers, pre_tokenizers, processors, Tokenizer
from transformers import (
    AlignConfig,
    AlignModel,
    AlignProcessor,
    AltCLIPConfig,
    AltCLIPModel,
    AltCLIPProcessor,
    BertConfig,
    BertTokenizerFast,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessor,
    BlipModel,
    BlipProcessor,
    ChineseCLIPConfig,
    ChineseCLIPImageProcessor,
    ChineseCLIPModel,
    ChineseCLIPProcessor,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    CLIPImageProcessor,
    CLIPProcessor,
    EfficientNetImageProcessor,
    PreTrainedTokenizerFast,
    RobertaTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
    ViTConfig,
    ViTImageProcessor,
)

WORDS = "a red blue circle square dog barks on the of not cir ##cle , . !".split()
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "initializer_range": 0.3,
}
VISION = {**SMALL, "image_size": 20, "patch_size": 4}
EFFICIENT = {
    "image_size": 48,
    "hidden_dim": 64,
    "width_coefficient": 0.25,
    "depth_coefficient": 0.3,
    "kernel_sizes": [3, 3],
    "in_channels": [32, 32],
    "out_channels": [32, 64],
    "strides": [1, 2],
    "num_block_repeats": [1, 1],
    "expand_ratios": [1, 2],
    "depthwise_padding": [],
    "initializer_range": 0.3,
    "dropout_rate": 0.0,
    "drop_connect_rate": 0.0,
}


def bert_tokenizer(longest: int = 32) -> BertTokenizerFast:
    """Lower-cased words of WORDS; what it does not know is [UNK]."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    vocabulary = {name: index for index, name in enumerate(names)}
    return BertTokenizerFast(vocab=vocabulary, model_max_length=longest)


def roberta_tokenizer(longest: int = 32) -> RobertaTokenizerFast:
    """Byte pairs without merges: letters."""
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    names += sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {name: index for index, name in enumerate(names)}
    return RobertaTokenizerFast(vocab=vocabulary, merges=[], model_max_length=longest)


def word_tokenizer(longest: int = 16, side: str = "right", **specials: str) -> Any:
    """Words of WORDS, lower-cased, with an end token, padded on that side."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", *WORDS]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=specials.get("pad", "<pad>"),
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side=side,
        model_max_length=longest,
        model_input_names=["input_ids"],
    )


# Letters, and the mark that stands for a space.
GEMMA = ["▁", *"abcdefghijklmnopqrstuvwxyz,.!"]


def gemma_tokenizer(longest: int = 40) -> Siglip2Tokenizer:
    """SigLIP 2's tokenizer with single letters."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *GEMMA]
    vocabulary = {name: index for index, name in enumerate(names)}
    return Siglip2Tokenizer(vocabulary, [], model_max_length=longest)


def _bert(longest: int = 32) -> dict[str, Any]:
    return {**SMALL, "vocab_size": 5 + len(WORDS), "max_position_embeddings": longest}


def _roberta(longest: int = 40) -> dict[str, Any]:
    return {
        **SMALL,
        "vocab_size": 261,
        "max_position_embeddings": longest,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


def _square(side: int, processor: Any = CLIPImageProcessor) -> Any:
    return processor(size={"height": side, "width": side}, do_center_crop=False)


def _siglip(directory: Path) -> None:
    text = {**SMALL, "vocab_size": 4 + len(WORDS), "max_position_embeddings": 16}
    config = SiglipConfig(
        text_config={**text, "pad_token_id": 0, "projection_size": 16},
        vision_config=VISION,
    )
    _save(SiglipModel(config), directory)
    image = SiglipImageProcessor(size={"height": 20, "width": 20})
    SiglipProcessor(image, word_tokenizer()).save_pretrained(directory)


def _siglip2(directory: Path) -> None:
    text = {**SMALL, "vocab_size": 4 + len(WORDS), "max_position_embeddings": 16}
    config = Siglip2Config(
        text_config={
            **text,
            "vocab_size": 5 + len(GEMMA),
            "max_position_embeddings": 40,
            "pad_token_id": 0,
            "projection_size": 16,
        },
        vision_config={**SMALL, "patch_size": 4, "num_patches": 16},
    )
    _save(Siglip2Model(config), directory)
    image = Siglip2ImageProcessor(patch_size=4, max_num_patches=16)
    Siglip2Processor(image, gemma_tokenizer()).save_pretrained(directory)


def _align(directory: Path) -> None:
    config = AlignConfig(
        text_config=_bert(64),  # what its processor pads to
        vision_config=EFFICIENT,
        projection_dim=16,
        temperature_init_value=0.7,
    )
    _save(AlignModel(config), directory)
    image = EfficientNetImageProcessor(
        size={"height": 48, "width": 48}, do_center_crop=False
    )
    AlignProcessor(image, bert_tokenizer(64)).save_pretrained(directory)


def _altclip(directory: Path) -> None:
    config = AltCLIPConfig(
        text_config={**_roberta(), "project_dim": 16},
        vision_config=VISION,
        projection_dim=8,
    )
    _save(AltCLIPModel(config), directory)
    AltCLIPProcessor(_square(20), roberta_tokenizer()).save_pretrained(directory)


def _chinese_clip(directory: Path) -> None:
    config = ChineseCLIPConfig(
        text_config=_bert(), vision_config=VISION, projection_dim=8
    )
    _save(ChineseCLIPModel(config), directory)
    image = _square(20, ChineseCLIPImageProcessor)
    ChineseCLIPProcessor(image, bert_tokenizer()).save_pretrained(directory)


def _metaclip_2(directory: Path) -> None:
    from transformers import MetaClip2Config, MetaClip2Model

    config = MetaClip2Config(
        text_config={
            **SMALL,
            "vocab_size": 4 + len(WORDS),
            "max_position_embeddings": 16,
            "eos_token_id": 1,
            "pad_token_id": 0,
        },
        vision_config=VISION,
        projection_dim=8,
    )
    _save(MetaClip2Model(config), directory)
    CLIPProcessor(_square(20), word_tokenizer()).save_pretrained(directory)


def _blip(kind: Any) -> Callable[[Path], None]:
    def save(directory: Path) -> None:
        config = BlipConfig(
            text_config={**_bert(), "encoder_hidden_size": 16, "projection_dim": 8},
            vision_config=VISION,
            projection_dim=8,
            image_text_hidden_size=8,
        )
        _save(kind(config), directory)
        image = BlipImageProcessor(size={"height": 20, "width": 20})
        BlipProcessor(image, bert_tokenizer()).save_pretrained(directory)

    return save


def _vision_text(directory: Path) -> None:
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        ViTConfig(**VISION), BertConfig(**_bert()), projection_dim=8
    )
    _save(VisionTextDualEncoderModel(config), directory)
    image = ViTImageProcessor(size={"height": 20, "width": 20})
    VisionTextDualEncoderProcessor(image, bert_tokenizer()).save_pretrained(directory)


def _clap(directory: Path) -> None:
    config = ClapConfig(
        text_config=_roberta(),
        audio_config={
            "spec_size": 32,
            "num_mel_bins": 16,
            "patch_size": 4,
            "patch_stride": [4, 4],
            "window_size": 4,
            "patch_embeds_hidden_size": 8,
            "depths": [1, 1],
            "num_attention_heads": [2, 2],
            "num_hidden_layers": 2,
            "hidden_size": 16,
            "hidden_act": "gelu",
            "drop_path_rate": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "hidden_dropout_prob": 0.0,
            "initializer_range": 0.3,
        },
        projection_dim=8,
        logit_scale_init_value=7.0,
    )
    model = ClapModel(config)
    with torch.no_grad():
        model.logit_scale_t.mul_(1.5)
    _save(model, directory)
    extractor = ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=4000,
        hop_length=100,
        max_length_s=1,
        fft_window_size=256,
        frequency_max=2000,
        truncation="rand_trunc",
    )
    ClapProcessor(extractor, roberta_tokenizer()).save_pretrained(directory)


def _save(model: Any, directory: Path) -> None:
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1:  # small initial values make all embeddings alike
                value.copy_(0.25 * torch.randn_like(value))
            elif "bias" in name and value.ndim == 1:
                value.copy_(0.1 * torch.randn_like(value))
    model.save_pretrained(directory)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "align": _align,
    "altclip": _altclip,
    "blip": _blip(BlipModel),
    "blip-itm": _blip(BlipForImageTextRetrieval),
    "chinese_clip": _chinese_clip,
    "clap": _clap,
    "metaclip_2": _metaclip_2,
    "siglip": _siglip,
    "siglip2": _siglip2,
    "vision-text": _vision_text,
}


def build(family: str, directory: Path) -> Path:
    """A model of that family in a directory."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BUILDERS[family](directory)
    return directory
