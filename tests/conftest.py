"""A CLIP on disk, as small as one can be, to be loaded as any model of the hub."""

from pathlib import Path

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

# Merges of a byte-pair encoding, in which "circle" and "red" are one token, and
# "square" is four.
MERGES = [
    "r e",
    "re d</w>",
    "c i",
    "ci r",
    "cir c",
    "circ l",
    "circl e</w>",
    "s q",
    "sq u",
]


def _tokenizer() -> CLIPTokenizer:
    # the 256 printable stand-ins of bytes that byte-level encodings use
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    letters = [chr(byte) for byte in kept]
    letters += [chr(256 + index) for index in range(len(others))]
    words = [*letters, *(letter + "</w>" for letter in letters)]
    words += [merge.replace(" ", "") for merge in MERGES]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    merges = [tuple(merge.split()) for merge in MERGES]
    return CLIPTokenizer(vocabulary, merges, model_max_length=24)


# The tests' tensors are small: more threads would only wait for one another.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a random CLIP of two blocks a side: 20 x 20 pixels, 5 x 5
    patches, 24 tokens; its processor resizes the shorter side and crops the longer."""
    directory = tmp_path_factory.mktemp("tiny_clip")
    tokenizer = _tokenizer()
    shared = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "projection_dim": 8,
        "initializer_range": 0.2,
    }
    config = CLIPConfig(
        text_config={
            **shared,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 24,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**shared, "image_size": 20, "patch_size": 4},
        projection_dim=8,
        initializer_factor=3.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(directory)
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}
    )
    CLIPProcessor(image_processor, tokenizer).save_pretrained(directory)
    return directory
