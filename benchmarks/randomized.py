"""
The sanity check of random parameters: how much of the attributions is left when what
the image encoder has learned is undone, block by block?

    python benchmarks/randomized.py [--scenes 20]

For the model that comes with the package, held-out scenes and their captions:
integrated gradients at every block of the image encoder, whose parameters are put in
random order from the projection back to the patches (cascading). Rank correlation of
the attributions (patches by words) with those of the trained model, and of their
absolute values; means over scenes. (Adebayo et al., "Sanity Checks for Saliency Maps",
NeurIPS 2018.)
"""

import argparse
from collections import defaultdict
from typing import Any

import torch
from captum_pairs import load
from captum_pairs.metrics import parameter_randomization
from captum_pairs.scenes.evaluate import held_out_examples
from common import machine
from torch import nn, Tensor

SEED = 4243


def parts(model: Any) -> dict[str, nn.Module]:
    """The image encoder's modules, from the embedding back to the pixels."""
    clip = model.first.module
    blocks = list(enumerate(model.first.blocks))
    return {
        "projection": nn.ModuleList(
            [clip.visual_projection, clip.vision_model.post_layernorm]
        ),
        **{f"block {index}": block for index, block in reversed(blocks)},
        "patch embedding": nn.ModuleList(
            [clip.vision_model.embeddings, clip.vision_model.pre_layrnorm]
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--scenes", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load("scenes:plain")
    found: dict[int, list[Tensor]] = defaultdict(list)
    names: tuple[str, ...] = ()
    for example in held_out_examples(SEED, options.scenes):
        for block in range(len(model.first.blocks)):

            def attribute() -> Tensor:
                # a random network's path is rougher: a few steps say what it says
                explanation = model.explain(
                    example.rendering.image,
                    example.caption.text,
                    layer=(block, 0),
                    n_steps=8,
                    tolerance=0.5,
                )
                return explanation.interactions[None, :64, : explanation.second.count]

            check = parameter_randomization(
                attribute, parts(model), generator=torch.Generator().manual_seed(0)
            )
            names = check.modules
            both = torch.stack([check.agreement[:, 0], check.absolute_agreement[:, 0]])
            found[block].append(both)
    print(f"{machine()}; {options.scenes} scenes\n")
    print(f"| attributed at block | of | {' | '.join(names)} |")
    print("| --- | --- |" + " ---: |" * len(names))
    for block, checks in found.items():
        for row, what in enumerate(("values", "absolute values")):
            means = torch.stack(checks)[:, row].mean(0).tolist()
            print(f"| {block} | {what} | {' | '.join(f'{m:.2f}' for m in means)} |")


if __name__ == "__main__":
    main()
