#!/usr/bin/env python3
"""
What feature pairs cost in Captum, beside what Captum had for the question.

    python docs/upstream/apply.py CHECKOUT
    PYTHONPATH=CHECKOUT python docs/upstream/benchmark.py [--device cpu] [--repeats 5]

The models are transformers of the sizes of CLIP's ViT-B/32 (cut to so many blocks),
with random weights, which cost what trained ones cost. For pairs of features there is
nothing in Captum but differences of scores: FeatureAblation of the one input, for each
feature of the other. Each line is the median of several runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import captum
import torch
from captum.attr import (
    FeatureAblation,
    IntegratedGradients,
    IntegratedJacobian,
    LayerFeaturePairIntegratedGradients,
)
from torch import nn, Tensor


class Encoder(nn.Module):
    """(b, tokens, d) to (b, 512), by pre-norm transformer blocks."""

    def __init__(self, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.entrance = nn.Identity()
        self.blocks = nn.TransformerEncoder(layer, blocks, enable_nested_tensor=False)
        self.head = nn.Linear(width, 512)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.blocks(self.entrance(tokens)).mean(dim=1))


def seconds(call: Callable[[], object], repeats: int, device: str) -> float:
    """The median of several runs, after one that is not counted."""
    found = []
    for _ in range(repeats + 1):
        if device != "cpu":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--words", type=int, default=10)
    arguments = parser.parse_args()
    device, steps, words = arguments.device, arguments.steps, arguments.words
    torch.manual_seed(0)
    images = Encoder(768, 12, arguments.blocks).to(device).eval()
    texts = Encoder(512, 8, arguments.blocks).to(device).eval()
    x = torch.randn(1, 50, 768, device=device)
    y = torch.randn(1, words, 512, device=device)
    mask_x = torch.arange(50, device=device).reshape(1, 50, 1)
    mask_y = torch.arange(words, device=device).reshape(1, words, 1)
    pairs = LayerFeaturePairIntegratedGradients(
        (images, texts), (images.entrance, texts.entrance)
    )
    first_order = IntegratedGradients(pairs.forward_func)
    jacobian = IntegratedJacobian(images, normalize=True)
    ablation = FeatureAblation(pairs.forward_func)

    def differences() -> Tensor:
        """s(x, y - j) - s(x - i, y - j), which for pairs is compared with y whole."""
        with torch.no_grad():
            rows = [
                ablation.attribute(
                    (x, y.masked_fill(mask_y == j, 0)),
                    feature_mask=(mask_x, torch.full_like(mask_y, 50)),
                    perturbations_per_eval=1,
                )[0]
                for j in range(words)
            ]
        return torch.stack(rows)

    cases: dict[str, Callable[[], object]] = {
        f"pairs, {steps} steps": lambda: pairs.attribute((x, y), n_steps=steps),
        f"pairs, {steps} steps, 4 at once": lambda: pairs.attribute(
            (x, y), n_steps=steps, internal_batch_size=4
        ),
        f"contributions of an image, {steps} steps": lambda: jacobian.attribute(
            x, feature_mask=mask_x, n_steps=steps
        ),
        f"Integrated Gradients of both inputs, {steps} steps": lambda: (
            first_order.attribute((x, y), n_steps=steps)
        ),
        "FeatureAblation of the image, for each word": differences,
    }
    print(
        f"captum {captum.__version__}, torch {torch.__version__}, {device}, "
        f"{torch.get_num_threads()} threads; {arguments.blocks} blocks, 50 patches, "
        f"{words} words, 512 dimensions"
    )
    for name, call in cases.items():
        print(f"{seconds(call, arguments.repeats, device):9.3f} s  {name}", flush=True)


if __name__ == "__main__":
    main()
