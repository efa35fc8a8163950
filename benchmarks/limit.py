"""
``attribute`` beside the bare minimum written straight in PyTorch.

    python benchmarks/limit.py

The bare minimum knows the model: it calls CLIP's blocks one after the other, so that
the front runs once for the input and once for the baseline; it takes the
Jacobian-vector products of the caption's tokens, then one forward pass of the image's
points and one vector-Jacobian product for each token. It checks nothing, chooses
nothing, and gives no delta. Its Jacobian-vector products are made the fastest way that
we found (the transpose of the vector-Jacobian product).
"""

from typing import Any

import torch
from captum_pairs.attr import LayerFeaturePairIntegratedGradients
from captum_pairs.attr._utils.quadrature import quadrature
from common import arguments, clip_pair, EOS, machine, Pair, seconds
from torch import Tensor
from torch.nn.attention import sdpa_kernel, SDPBackend


def image_front(model: Any, pixels: Tensor, block: int) -> Tensor:
    vision = model.vision_model
    hidden = vision.pre_layrnorm(vision.embeddings(pixels))
    for layer in vision.encoder.layers[:block]:
        hidden = layer(hidden, None)
    return hidden


def image_back(model: Any, hidden: Tensor, block: int) -> Tensor:
    vision = model.vision_model
    for layer in vision.encoder.layers[block:]:
        hidden = layer(hidden, None)
    return unit(model.visual_projection(vision.post_layernorm(hidden[:, 0])))


def text_front(model: Any, ids: Tensor, block: int) -> Tensor:
    text = model.text_model
    hidden = text.embeddings(ids)
    for layer in text.encoder.layers[:block]:
        hidden = layer(hidden, None, is_causal=True)
    return hidden


def text_back(model: Any, hidden: Tensor, block: int, end: int) -> Tensor:
    text = model.text_model
    for layer in text.encoder.layers[block:]:
        hidden = layer(hidden, None, is_causal=True)
    return unit(model.text_projection(text.final_layer_norm(hidden)[:, end]))


def unit(embeddings: Tensor) -> Tensor:
    return embeddings / embeddings.norm(dim=-1, keepdim=True)


def minimum(clip: Pair, block: int, n_steps: int) -> Tensor:
    """Attributions (patches, tokens)."""
    model: Any = clip.model
    (pixels, ids), (black, empty) = clip.inputs, clip.baselines
    end = int((ids[0] == EOS).int().argmax())
    nodes, weights = quadrature(n_steps, "gausslegendre", pixels.dtype, pixels.device)
    alphas = nodes.reshape(-1, 1, 1)
    with torch.no_grad():
        x, r_x = (image_front(model, value, block) for value in (pixels, black))
        y, r_y = (text_front(model, value, block) for value in (ids, empty))
    with sdpa_kernel(SDPBackend.MATH):
        points = (r_y + alphas * (y - r_y)).requires_grad_()
        embeddings = text_back(model, points, block, end)
        probe = torch.ones_like(embeddings).requires_grad_()
        (pulled,) = torch.autograd.grad(embeddings, points, probe, create_graph=True)
        vectors = []
        for token in range(y.shape[1]):
            tangent = torch.zeros_like(points)
            tangent[:, token] = (y - r_y)[0, token]
            (pushed,) = torch.autograd.grad(pulled, probe, tangent, retain_graph=True)
            vectors.append(weights @ pushed)
    points = (r_x + alphas * (x - r_x)).requires_grad_()
    embeddings = image_back(model, points, block)
    columns = []
    for vector in vectors:
        (gradient,) = torch.autograd.grad(
            embeddings, points, vector.expand_as(embeddings), retain_graph=True
        )
        mean = torch.tensordot(weights, gradient, 1)
        columns.append((mean * (x - r_x)[0]).sum(dim=-1))
    return torch.stack(columns, dim=-1)


def main() -> None:
    parser = arguments(__doc__.splitlines()[1])
    parser.add_argument("--shape", default="B/32", choices=["B/32", "B/16", "L/14"])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    clip = clip_pair(options.shape, device=options.device, dtype=dtype)
    layers = len(clip.model.vision_model.encoder.layers)  # type: ignore[arg-type]
    print(machine(options.device))
    print(
        f"CLIP ViT-{options.shape} shape, 16-token caption, 10 steps, {options.dtype}"
    )
    blocks = (layers - 1, layers // 2) if options.shape != "L/14" else (11, 6)
    for block in blocks:
        fpig = LayerFeaturePairIntegratedGradients(clip.encoders, clip.blocks(block))

        def ours() -> Tensor:
            return fpig.attribute(
                clip.inputs, clip.baselines, n_steps=10, attribute_to_layer_input=True
            )[0]

        table, exact = ours(), minimum(clip, block, 10)
        difference = float((table - exact).abs().max() / exact.abs().max())
        # One after the other, so that the machine's mood is the same for both.
        rounds = [
            (
                seconds(lambda: minimum(clip, block, 10), 1, options.device),
                seconds(ours, 1, options.device),
            )
            for _ in range(options.repeats)
        ]
        least, time = (sorted(times)[len(times) // 2] for times in zip(*rounds))
        print(
            f"  block {block:2}: bare minimum {least:.3f} s, attribute {time:.3f} s: "
            f"{time / least:.2f} x; largest difference {difference:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
