"""The embedded dual encoder: its architecture, tokenizer and image processor.

It is an ordinary ``transformers`` CLIP. A saved one is a directory that
``AutoModel.from_pretrained`` and ``AutoProcessor.from_pretrained`` load, as they load
any model from a hub.
"""

import json
import math
from pathlib import Path

import torch
from captum_pairs.scenes.vocabulary import FILLERS, vocabulary
from tokenizers import models, normalizers, pre_tokenizers, processors, Tokenizer
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
)

__all__ = [
    "add_place_code",
    "filler_ids",
    "new_model",
    "new_processor",
    "new_tokenizer",
    "save_checkpoint",
    "silent_ids",
]

# The end must not have id 2: transformers' CLIP then pools at the largest id instead
# of at the end.
SPECIAL_TOKENS = ("[PAD]", "[BOS]", "[UNK]", "[EOS]")
PAD, BOS, UNKNOWN, EOS = range(4)
IMAGE_SIZE = 64
PATCH_SIZE = 8
# Mean and deviation of a channel over generated scenes, in [0, 1]: zeros, after
# normalisation, are the mean colour.
IMAGE_MEAN = (0.41, 0.40, 0.40)
IMAGE_STD = (0.23, 0.21, 0.22)
MAX_TOKENS = 32


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word; words that no caption holds become [UNK]."""
    words = [*SPECIAL_TOKENS, *vocabulary()]
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", BOS), ("[EOS]", EOS)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # theirs
        tokenizer_object=tokenizer,
        model_max_length=MAX_TOKENS,
        pad_token="[PAD]",
        bos_token="[BOS]",
        unk_token="[UNK]",
        eos_token="[EOS]",
    )


def new_processor() -> CLIPProcessor:
    """Images to normalised pixels, captions to token ids."""
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    image_processor = CLIPImageProcessor(
        size=size,
        crop_size=size,
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
    )
    tokenizer = new_tokenizer()
    return CLIPProcessor(  # type: ignore[no-untyped-call]  # theirs is untyped
        image_processor, tokenizer
    )


def new_model(
    seed: int = 0,
    width: int = 128,
    vision_layers: int = 4,
    text_layers: int = 3,
    heads: int = 4,
    expansion: int = 2,
) -> CLIPModel:
    """An untrained CLIP for scenes.

    Args:
        seed: of the weights.
        width: hidden size of both encoders, and dimensions of the embedding.
        vision_layers, text_layers: blocks of each encoder.
        heads: attention heads of each block.
        expansion: a block's inner width over its width.
    """
    shared = {
        "hidden_size": width,
        "intermediate_size": expansion * width,
        "num_attention_heads": heads,
        "projection_dim": width,
        # smooth, so that paths are integrated with few steps
        "hidden_act": "gelu_pytorch_tanh",
    }
    config = CLIPConfig(
        text_config={
            **shared,
            "num_hidden_layers": text_layers,
            "vocab_size": len(SPECIAL_TOKENS) + len(vocabulary()),
            "max_position_embeddings": MAX_TOKENS,
            "pad_token_id": PAD,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
        },
        vision_config={
            **shared,
            "num_hidden_layers": vision_layers,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
        },
        projection_dim=width,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CLIPModel(config)


def add_place_code(model: CLIPModel, image: float, text: float) -> None:
    """Adds a code of its place to every patch's and every token's position: cosines of
    a few half turns over the rows, the columns and the text, the slower the larger,
    each along a direction of its own.

    Positions start out small, and encoders that learn kinds first make little of them:
    after 8000 steps those of patches were an eighth as large as the patches.

    Args:
        model: is changed in place.
        image: mean norm of a patch's code.
        text: mean norm of a token's.
    """
    patches = model.vision_model.embeddings.position_embedding.weight[1:]
    tokens = model.text_model.embeddings.position_embedding.weight
    side = round(len(patches) ** 0.5)
    waves = _waves(side, 4)  # (side, 4)
    rows = waves[:, None].expand(side, side, 4)
    places = torch.cat([rows, rows.transpose(0, 1)], -1).reshape(side * side, 8)
    with torch.no_grad():
        patches += image * _along_directions(places, patches.shape[1])
        tokens += text * _along_directions(_waves(len(tokens), 6), tokens.shape[1])


def _waves(number: int, most: int) -> torch.Tensor:
    """(number, most): cosines of one and more half turns, at so many places."""
    turns = torch.arange(1, most + 1)
    places = (torch.arange(number) + 0.5) / number
    return torch.cos(math.pi * places[:, None] * turns) / turns**0.5


def _along_directions(code: torch.Tensor, width: int) -> torch.Tensor:
    """A code (n, m) along m random directions in that many dimensions, of mean norm
    one."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(width, code.shape[1], generator=generator)
    directions, _ = torch.linalg.qr(random)
    along: torch.Tensor = code @ directions.T / code.norm(dim=1).mean()
    return along


def save_checkpoint(model: CLIPModel, directory: Path) -> None:
    """Writes weights (float32, safetensors), configuration, tokenizer and image
    processor."""
    model.save_pretrained(directory)
    processor = new_processor()
    processor.save_pretrained(directory)
    # transformers 4 looks for the image processor in a file of its own, and does not
    # know the name that transformers 5 writes for the tokenizer's class
    processor.image_processor.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n")


def filler_ids() -> list[int]:
    """Ids of the words that claim nothing of a scene."""
    first = len(SPECIAL_TOKENS)
    return [first + i for i, word in enumerate(vocabulary()) if word in FILLERS]


def silent_ids() -> list[int]:
    """Ids of the words that no explanation should credit: fillers, commas, "thing"."""
    words = vocabulary()
    first = len(SPECIAL_TOKENS)
    more = [first + words.index(word) for word in (",", "thing", "things")]
    return [*filler_ids(), *more]
