"""
``attribute`` beside the bare minimum written straight in PyTorch.

    python benchmarks/limit.py

The bare minimum knows the model: it calls CLIP's blocks one after the other, so that
the front runs once for the input and once for the baseline, and of the last one only
the position that the embedding is read off; it takes the
Jacobian-vector products of the caption's tokens, then one forward pass of the image's
points and one vector-Jacobian product for each token. It checks nothing, chooses
nothing, and gives no delta. Its Jacobian-vector products are made the fastest way that
we found (the transpose of the vector-Jacobian product).

At a fixed number of steps, and to a tolerance: there the minimum knows beforehand the
fewest nodes, the same on both sides, of Gauss and Legendre's rule or of nodes where the
embedding moves, from which its attributions are as exact as was asked for. "Told": what
``attribute`` takes when it is told as many of Gauss and Legendre's.
"""

from typing import Any

import torch
from captum_pairs.attr import LayerFeaturePairIntegratedGradients, Session
from captum_pairs.attr._utils.placement import Scan, scan_nodes
from captum_pairs.attr._utils.quadrature import quadrature
from common import arguments, clip_pair, EOS, machine, Pair, seconds
from torch import Tensor
from torch.nn.attention import sdpa_kernel, SDPBackend
from torch.nn.functional import scaled_dot_product_attention


def image_front(model: Any, pixels: Tensor, block: int) -> Tensor:
    vision = model.vision_model
    hidden = vision.pre_layrnorm(vision.embeddings(pixels))
    for layer in vision.encoder.layers[:block]:
        hidden = layer(hidden, None)
    return hidden


def image_back(model: Any, hidden: Tensor, block: int) -> Tensor:
    vision = model.vision_model
    *layers, last = vision.encoder.layers[block:]
    for layer in layers:
        hidden = layer(hidden, None)
    pooled = one_row(last, hidden, 0)
    return unit(model.visual_projection(vision.post_layernorm(pooled)))


def one_row(layer: Any, hidden: Tensor, row: int) -> Tensor:
    """What a block gives at the one position that the embedding is read off: (n, d)."""
    attention, own = layer.self_attn, hidden[:, row : row + 1]
    normed = layer.layer_norm1(hidden)
    projected = (
        attention.q_proj(normed[:, row : row + 1]),
        attention.k_proj(normed),
        attention.v_proj(normed),
    )
    heads = (e.unflatten(-1, (attention.num_heads, -1)) for e in projected)
    found = scaled_dot_product_attention(*(each.transpose(1, 2) for each in heads))
    own = own + attention.out_proj(found.transpose(1, 2).flatten(2))
    own = own + layer.mlp(layer.layer_norm2(own))
    return own[:, 0]


def text_front(model: Any, ids: Tensor, block: int) -> Tensor:
    text = model.text_model
    hidden = text.embeddings(ids)
    for layer in text.encoder.layers[:block]:
        hidden = layer(hidden, None, is_causal=True)
    return hidden


def text_back(model: Any, hidden: Tensor, block: int, end: int) -> Tensor:
    text = model.text_model
    *layers, last = text.encoder.layers[block:]
    for layer in layers:
        hidden = layer(hidden, None, is_causal=True)
    pooled = one_row(last, hidden[:, : end + 1], end)
    return unit(model.text_projection(text.final_layer_norm(pooled)))


def unit(embeddings: Tensor) -> Tensor:
    return embeddings / embeddings.norm(dim=-1, keepdim=True)


Rule = tuple[Tensor, Tensor]


def minimum(clip: Pair, block: int, rules: tuple[Rule, Rule]) -> Tensor:
    """Attributions (patches, tokens), by nodes and weights for image and text."""
    model: Any = clip.model
    (pixels, ids), (black, empty) = clip.inputs, clip.baselines
    end = int((ids[0] == EOS).int().argmax())
    (places, weights), (text_places, text_weights) = rules
    alphas, text_alphas = (each.reshape(-1, 1, 1) for each in (places, text_places))
    with torch.no_grad():
        x, r_x = (image_front(model, value, block) for value in (pixels, black))
        y, r_y = (text_front(model, value, block) for value in (ids, empty))
    with sdpa_kernel(SDPBackend.MATH):
        points = (r_y + text_alphas * (y - r_y)).requires_grad_()
        embeddings = text_back(model, points, block, end)
        probe = torch.ones_like(embeddings).requires_grad_()
        (pulled,) = torch.autograd.grad(embeddings, points, probe, create_graph=True)
        vectors = []
        for token in range(y.shape[1]):
            tangent = torch.zeros_like(points)
            tangent[:, token] = (y - r_y)[0, token]
            (pushed,) = torch.autograd.grad(pulled, probe, tangent, retain_graph=True)
            vectors.append(text_weights @ pushed)
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


def gauss(clip: Pair, n: int) -> Rule:
    like = clip.inputs[0]
    return quadrature(n, "gausslegendre", like.dtype, like.device)


def known_beforehand(clip: Pair, block: int, fpig: Any, tolerance: float) -> Any:
    """
    The rules of the fewest nodes whose attributions are within a tolerance of those of
    64 Gauss-Legendre nodes, in the Frobenius norm; and their number.
    """
    exact = minimum(clip, block, (gauss(clip, 64),) * 2)
    densities = []
    with Session() as session:
        for method, x, r in zip((fpig.first, fpig.second), clip.inputs, clip.baselines):
            examples = method.examples(
                x, r, attribute_to_layer_input=True, session=session
            )
            path: Any = next(iter(examples))
            curve = path.embed(path.points(torch.tensor(scan_nodes(17)).to(path.value)))
            scan = Scan(curve.double().cpu().numpy())
            densities.append(scan.nodes_within(tolerance, 128)[0])
    like = clip.inputs[0]
    for n in range(1, 65):
        placed = tuple(
            (torch.tensor(rule.nodes).to(like), torch.tensor(rule.weights).to(like))
            for rule in (density.rule(n) for density in densities)
        )
        for rules in ((gauss(clip, n),) * 2, placed):
            found = minimum(clip, block, rules)
            if float((found - exact).norm() / exact.norm()) <= tolerance:
                return rules, n
    raise SystemExit("64 nodes do not do")


def main() -> None:
    parser = arguments(__doc__.splitlines()[1])
    parser.add_argument("--shape", default="B/32", choices=["B/32", "B/16", "L/14"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tolerance", type=float, default=1e-2)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    clip = clip_pair(options.shape, device=options.device, dtype=dtype)
    layers = len(clip.model.vision_model.encoder.layers)  # type: ignore[arg-type]
    print(machine(options.device))
    print(f"CLIP ViT-{options.shape} shape, 16-token caption, {options.dtype}")
    blocks = (layers - 1, layers // 2) if options.shape != "L/14" else (11, 6)
    for block in blocks:
        fpig = LayerFeaturePairIntegratedGradients(clip.encoders, clip.blocks(block))

        def ours(**settings: Any) -> Tensor:
            return fpig.attribute(
                clip.inputs, clip.baselines, attribute_to_layer_input=True, **settings
            )[0]

        known, n = known_beforehand(clip, block, fpig, options.tolerance)
        for what, rules, settings in (
            ("10 steps", (gauss(clip, 10),) * 2, {"n_steps": 10}),
            (
                f"to {options.tolerance} ({n} nodes do)",
                known,
                {"tolerance": options.tolerance},
            ),
        ):
            table, exact = ours(**settings), minimum(clip, block, rules)
            difference = float((table - exact).abs().max() / exact.abs().max())
            works = [lambda: minimum(clip, block, rules), lambda: ours(**settings)]
            if "tolerance" in settings:
                works.append(lambda: ours(n_steps=n))
            # One after the other, so that the machine's mood is the same for all.
            rounds = [
                [seconds(work, 1, options.device) for work in works]
                for _ in range(options.repeats)
            ]
            least, time, *told = (sorted(t)[len(t) // 2] for t in zip(*rounds))
            print(
                f"  block {block:2}, {what}: bare minimum {least:.3f} s, attribute "
                f"{time:.3f} s: {time / least:.2f} x; largest difference "
                f"{difference:.1e}"
                + "".join(f"; told {s:.3f} s: {time / s:.2f} x" for s in told),
                flush=True,
            )


if __name__ == "__main__":
    main()
