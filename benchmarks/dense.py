"""
The published algorithm beside ours: time, peak memory, difference.

    python benchmarks/dense.py             # CLIP ViT-B/32 shape, then real MiniLM
    python benchmarks/dense.py --device cuda --shape L/14

The published algorithm (Moeller et al., TMLR 2025, arXiv 2408.14153, section 3) is
written out plainly from its description: the path is discretised at a block into N
points by a right Riemann sum; one vector-Jacobian product for each dimension of each
encoder's embedding gives its integrated Jacobian; the product of the two Jacobians is
a matrix of all scalars of one side by all scalars of the other, multiplied by both
differences, and only then summed into tokens and patches. The embeddings' norms at the
inputs divide the result, which is our ``similarity="frozen_cosine"``.
"""

import json
import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from captum_pairs.attr import (
    LayerFeaturePairIntegratedGradients,
    LayerIntegratedJacobian,
    pair,
)
from common import (
    arguments,
    clip_pair,
    in_own_process,
    machine,
    minilm_pair,
    Pair,
    peak_bytes,
    seconds,
    wait,
)
from torch import nn, Tensor

STEPS = 10


def at_block(
    encode: Callable[[Tensor], Tensor], block: nn.Module, value: Tensor, new: Any
) -> tuple[Tensor, Tensor]:
    """Run an encoder, read the block's input, and put ``new(input)`` in its place."""
    seen = []

    def hook(_: nn.Module, args: Any, kwargs: Any) -> Any:
        seen.append(args[0])
        return (new(args[0]), *args[1:]), kwargs

    handle = block.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        return encode(value), seen[0]
    finally:
        handle.remove()


def integrated_jacobian(
    encode: Callable[[Tensor], Tensor],
    block: nn.Module,
    value: Tensor,
    baseline: Tensor,
    n_steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """J (k, tokens, d), the difference (tokens, d), and the embedding's norm."""
    with torch.no_grad():
        _, start = at_block(encode, block, baseline, lambda hidden: hidden)
        plain, end = at_block(encode, block, value, lambda hidden: hidden)
    difference = end - start
    alphas = torch.arange(1, n_steps + 1).to(end) / n_steps  # right Riemann
    points = (start + alphas.reshape(-1, 1, 1) * difference).requires_grad_()
    embeddings, _ = at_block(encode, block, value, lambda hidden: points)
    rows = []
    for dimension in range(embeddings.shape[1]):
        # The sum over the points: each depends on its own row only.
        total = embeddings[:, dimension].sum()
        (gradient,) = torch.autograd.grad(total, points, retain_graph=True)
        rows.append(gradient.mean(dim=0))
    return torch.stack(rows), difference[0], plain.norm()


def published(
    encoders: Any, blocks: Any, inputs: Any, baselines: Any, n_steps: int = STEPS
) -> Tensor:
    """Attributions (features of x, features of y)."""
    sides = [
        integrated_jacobian(encode, block, value[:1], baseline, n_steps)
        for encode, block, value, baseline in zip(encoders, blocks, inputs, baselines)
    ]
    (first, step_x, norm_x), (second, step_y, norm_y) = sides
    # (scalars of x, scalars of y)
    product = first.flatten(1).T @ second.flatten(1)
    product = step_x.reshape(-1, 1) * product * step_y.reshape(1, -1)
    # Scalars are summed into tokens.
    table = product.reshape(*step_x.shape, *step_y.shape).sum(dim=(1, 3))
    return table / (norm_x * norm_y)


def ours(
    encoders: Any,
    blocks: Any,
    inputs: Any,
    baselines: Any,
    n_steps: int = STEPS,
    method: str = "riemann_right",
) -> Tensor:
    """The same attributions by the library."""
    fpig = LayerFeaturePairIntegratedGradients(encoders, blocks, "frozen_cosine")
    return fpig.attribute(
        inputs,
        baselines,
        n_steps=n_steps,
        method=method,
        attribute_to_layer_input=True,
    )[0]


METHODS: dict[str, Callable[..., Tensor]] = {"published": published, "ours": ours}


def of(clip: Pair, block: int) -> tuple[Any, ...]:
    return clip.encoders, clip.blocks(block), clip.inputs, clip.baselines


def measure(method: str, shape: str, block: int, options: Any) -> dict[str, float]:
    """Time and peak memory above the loaded model, in this process."""
    dtype = getattr(torch, options.dtype)
    words, steps = (77, 16) if shape == "B/16" else (16, STEPS)
    clip = clip_pair(shape, words, device=options.device, dtype=dtype)
    with torch.no_grad():  # what the libraries allocate once
        for encode, value in zip(clip.encoders, clip.inputs):
            encode(value)
    tables: list[Tensor] = []

    def work() -> None:
        tables.append(METHODS[method](*of(clip, block), n_steps=steps))

    peak, time = peak_bytes(work, options.device)
    if method == "ours" and shape != "B/16":  # the others take minutes
        time = seconds(work, 5, options.device)
    torch.save(tables[0].float().cpu(), options.table)
    return {"bytes": peak, "seconds": time}


def measured(method: str, shape: str, block: int, options: Any) -> tuple[Any, Tensor]:
    """:func:`measure` in a process of its own, and the attributions."""
    with tempfile.TemporaryDirectory() as folder:
        table = os.path.join(folder, "table.pt")
        flags = ["--measure", method, "--shape", shape, "--block", str(block)]
        flags += ["--device", options.device, "--dtype", options.dtype]
        answer = in_own_process(__file__, *flags, "--table", table)
        return answer, torch.load(table)


def clip_table(options: Any) -> None:
    """Same steps, same rule, same result."""
    print(
        f"CLIP ViT-{options.shape} shape, random weights, 16-token caption, "
        f"{STEPS} right Riemann steps, {options.dtype}"
    )
    layers = 24 if options.shape == "L/14" else 12
    for block in (layers - 1, layers // 2):
        runs = {
            method: measured(method, options.shape, block, options)
            for method in METHODS
        }
        (slow, exact), (fast, table) = runs["published"], runs["ours"]
        difference = (table - exact).abs().max() / exact.abs().max()
        print(
            f"  block {block:2}: published {slow['seconds']:8.3f} s "
            f"{slow['bytes'] / 2**20:6.0f} MiB | ours {fast['seconds']:7.3f} s "
            f"{fast['bytes'] / 2**20:5.0f} MiB | "
            f"{slow['seconds'] / fast['seconds']:.1f} x faster, "
            f"1/{slow['bytes'] / fast['bytes']:.0f} of the memory, largest difference "
            f"{float(difference):.1e} of the largest attribution",
            flush=True,
        )


def large_table(options: Any) -> None:
    """The case in which the published code runs out of memory at 24 GB."""
    found, _ = measured("ours", "B/16", 6, options)
    print(
        f"CLIP ViT-B/16 shape, 77 tokens, block 6, 16 steps: "
        f"{found['bytes'] / 2**20:.0f} MiB above the loaded model, "
        f"{found['seconds']:.1f} s",
        flush=True,
    )


def equal_error(options: Any) -> None:
    """Time to reach an error, on real weights."""
    case = minilm_pair(
        "A man plays a guitar on a stage in front of a crowd.",
        "Someone performs music with an instrument at a concert.",
    )
    block = case.model.encoder.layer[-1]
    args = ((case.encoder,) * 2, (block,) * 2, case.inputs, case.baselines)
    exact = ours(*args, n_steps=128, method="gausslegendre")
    print(
        "all-MiniLM-L6-v2, last block, error relative to 128 Gauss-Legendre nodes "
        f"(Frobenius norm), {case.inputs[0].shape[1]} x {case.inputs[1].shape[1]} "
        "tokens"
    )
    goals = (1e-2, 4e-3)
    ladders: dict[str, Any] = {
        "published": (published, {}, (10, 20, 40, 80, 120, 160, 240, 320, 480), 1),
        "ours": (ours, {"method": "gausslegendre"}, (1, 2, 3, 4, 5, 6, 8, 12, 16), 9),
    }
    times: dict[tuple[str, float], float] = {}
    for name, (method, keywords, ladder, repeats) in ladders.items():
        missing = list(goals)
        for n_steps in ladder:
            tables: list[Tensor] = []
            time = seconds(
                lambda: tables.append(method(*args, n_steps=n_steps, **keywords)),
                repeats,
            )
            error = float((tables[0] - exact).norm() / exact.norm())
            for goal in [goal for goal in missing if error <= goal]:
                missing.remove(goal)
                times[name, goal] = time
                print(
                    f"  error {goal:.0e}: {name:9} {n_steps:3} steps, error "
                    f"{error:.1e}, {time:8.3f} s",
                    flush=True,
                )
            if not missing:
                break
    for goal in goals:
        ratio = times["published", goal] / times["ours", goal]
        print(f"  error {goal:.0e}: {ratio:.0f} x faster", flush=True)


def all_pairs(options: Any) -> None:
    """32 images x 32 captions against 32 aligned pairs."""
    device, dtype = options.device, getattr(torch, options.dtype)
    clip = clip_pair("B/32", batch=32, device=device, dtype=dtype)
    blocks = clip.blocks(11)
    fpig = LayerFeaturePairIntegratedGradients(clip.encoders, blocks)
    keywords: Any = dict(n_steps=8, attribute_to_layer_input=True)
    sides = [
        LayerIntegratedJacobian(encode, block, normalize=True)
        for encode, block in zip(clip.encoders, blocks)
    ]

    def aligned() -> Tensor:
        return fpig.attribute(clip.inputs, clip.baselines, **keywords)

    def every() -> Tensor:
        images, texts = (
            side.attribute(value, baseline, **keywords)
            for side, value, baseline in zip(sides, clip.inputs, clip.baselines)
        )
        return pair(images, texts, all_pairs=True)

    difference = (every().diagonal().movedim(-1, 0) - aligned()).abs().max()
    wait(device)
    one, many = seconds(aligned, 1, device), seconds(every, 1, device)
    print(
        f"32 images, 32 captions, last block, 8 steps: 32 aligned pairs {one:.2f} s, "
        f"all 1024 pairs {many:.2f} s: {many / one:.2f} x (32 x if each pair cost as "
        f"much); largest difference {float(difference):.1e}",
        flush=True,
    )


def main() -> None:
    parser = arguments(__doc__.splitlines()[1])
    parser.add_argument("--shape", default="B/32", choices=["B/32", "B/16", "L/14"])
    parser.add_argument("--measure", choices=list(METHODS), help="(internal)")
    parser.add_argument("--block", type=int, help="(internal)")
    parser.add_argument("--table", help="(internal)")
    parser.add_argument("--only", choices=["clip", "large", "error", "pairs"])
    options = parser.parse_args()
    if options.measure:
        print(
            json.dumps(measure(options.measure, options.shape, options.block, options))
        )
        return
    print(machine(options.device))
    parts = {
        "clip": clip_table,
        "large": large_table,
        "error": equal_error,
        "pairs": all_pairs,
    }
    for name, part in parts.items():
        if options.only in (None, name):
            part(options)


if __name__ == "__main__":
    main()
