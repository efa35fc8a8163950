"""What the process is to each test, whatever ran before it; and a CLIP on disk, as
small as one can be, to be loaded as any model of the hub."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

# No test asks a network: what a model hub would be asked for is refused at once. No
# window opens. Both are read when transformers and matplotlib are imported, which
# nothing above does.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"

# The tests' tensors are small: more threads would only wait for one another.
torch.set_num_threads(1)

# What is tried is the same in every run, and a busy machine is no error.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


# ---- any order ---------------------------------------------------------------


def process_settings() -> dict[str, Any]:
    """What belongs to the process, and what every later test would meet changed."""
    found = {
        "working directory": os.getcwd(),
        "environment": {k: os.environ.get(k) for k in _ENVIRONMENT},
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": str(torch.get_default_device()),
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast cache": torch.is_autocast_cache_enabled(),
        "numpy's errors": np.geterr(),
        "recursion": sys.getrecursionlimit(),
    }
    if "matplotlib.pyplot" in sys.modules:
        from matplotlib import pyplot, rcParams

        found["matplotlib's settings"] = dict(dict.items(rcParams))
        found["figures"] = pyplot.get_fignums()
    return found


# Packages add to it when they are imported, and pytest says there what is running.
_ENVIRONMENT = [name for name in os.environ if not name.startswith("PYTEST_")]


@pytest.fixture(autouse=True)
def as_in_a_process_of_its_own() -> Iterator[None]:
    """Random numbers start anew; a test that leaves the process changed fails."""
    _seed()
    before = process_settings()
    yield
    after = process_settings()
    changed = [name for name in before if before[name] != after[name]]
    assert changed == [], f"left changed for the tests after it: {changed}"


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Any:
    """What tests share is the same whichever of them asks for it first."""
    if fixturedef.scope == "function":
        return (yield)
    with torch.random.fork_rng(devices=[]):
        states = random.getstate(), np.random.get_state()
        _seed()
        try:
            return (yield)
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


# ---- a small CLIP ------------------------------------------------------------

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


def _tokenizer() -> Any:
    from transformers import CLIPTokenizer

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


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a random CLIP of two blocks a side: 20 x 20 pixels, 5 x 5
    patches, 24 tokens; its processor resizes the shorter side and crops the longer."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

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
    CLIPModel(config).save_pretrained(directory)
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}
    )
    CLIPProcessor(image_processor, tokenizer).save_pretrained(directory)
    return directory
