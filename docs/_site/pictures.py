"""
The pictures of the site's pages, except for those of the gallery.

    python docs/_site/pictures.py            # writes into docs/images

All are of one scene, which the embedded model was not trained on; the gallery's are
made by tutorials/visualization.py.
"""

from pathlib import Path
from typing import Any

import numpy as np
import scene
import torch
from captum_pairs.attr import IntegratedJacobian, visualization
from captum_pairs.attr._utils.placement import fejer, Scan, scan_nodes
from matplotlib import pyplot as plt

IMAGES = Path(__file__).parents[1] / "images"
ORANGE, PURPLE, GREY = "#c96a08", "#5e4a9c", "#777777"


def save(figure: Any, name: str) -> None:
    """As PNG, as small as it can be read."""
    figure.savefig(IMAGES / f"{name}.png", dpi=100, bbox_inches="tight")
    plt.close(figure)
    print(f"{name}.png")


def of_questions(model: Any, image: Any) -> None:
    """One picture a question."""
    found = model.explain(image, scene.RIGHT)
    save(found.plot(), "explained")
    phrases = "blue star", "white heart"
    maps = [found.phrase(phrase) for phrase in phrases]
    figure, _ = visualization.visualize_image_attr_per_word(
        torch.stack(maps), phrases, image, use_pyplot=False, columns=2
    )
    save(figure, "question_where")
    contrast = model.contrast(image, scene.RIGHT, scene.WRONG)
    save(contrast.plot(), "question_wrong_word")
    other = scene.scene(11).image
    save(model.contrast("a white heart", image, other).plot(), "question_a_above_b")
    classes = ["blue star", "blue moon", "red star", "white heart"]
    found = model.zero_shot(image, classes, template="a {}")
    save(found.plot(), "question_which_class")


def of_layers(model: Any, image: Any) -> None:
    """The same phrase at each block of the image's encoder."""
    blocks = range(len(model.first.blocks))
    maps = [
        model.explain(image, scene.RIGHT, layer=(block, 0)).phrase("blue star")
        for block in blocks
    ]
    figure, _ = visualization.visualize_image_attr_per_word(
        torch.stack(maps),
        [f"block {block}" for block in blocks],
        image,
        use_pyplot=False,
        titles=[f"at the input of block {block}" for block in blocks],
    )
    save(figure, "layers")


def of_references(model: Any, image: Any) -> None:
    """What the score is made of, compared with nothing and with other words."""
    captions = [
        f"a {color} {shape} and a {other} {thing}"
        for color in ("red", "green", "yellow", "pink")
        for shape in ("moon", "cross", "square")
        for other in ("blue", "black", "orange")
        for thing in ("circle", "star", "heart")
    ]
    references = model.references(texts=captions, size=32, seed=0)
    figure, every = plt.subplots(2, 1, figsize=(7, 5.2), layout="constrained")
    for axes, title, options in (
        (every[0], "compared with an empty text", {}),
        (every[1], "compared with 32 texts of other words", {"references": references}),
    ):
        found = model.explain(image, scene.RIGHT, **options)
        visualization.visualize_decomposition(
            found.parts(),
            plt_fig_axis=(figure, axes),
            title=title,
            use_pyplot=False,
        )
    save(figure, "compared_with")


def of_steps(model: Any, image: Any) -> None:
    """How fast the embedding moves along the path, and where the nodes lie."""
    encoder = model.first
    given = encoder.prepare(image)
    block = encoder.blocks[0]
    jacobian = IntegratedJacobian(encoder.embed, normalize=True, layer=block)
    alphas = torch.linspace(0, 1, 257)
    with torch.no_grad():
        (example,) = jacobian.examples(
            given.inputs, given.baseline, None, given.arguments, True
        )
        curve = example.embed(example.points(alphas))
        seen = example.embed(
            example.points(torch.tensor(scan_nodes(9), dtype=torch.float32))
        )
    curve = torch.nn.functional.normalize(curve, dim=-1)
    seen = torch.nn.functional.normalize(seen, dim=-1)
    speed = (curve[1:] - curve[:-1]).norm(dim=-1) * (len(alphas) - 1)
    density, _ = Scan(seen.double().numpy()).nodes_within(1e-2, 128)
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    middle = (alphas[1:] + alphas[:-1]) / 2
    axes.fill_between(middle, speed, color=ORANGE, alpha=0.25, linewidth=0)
    axes.plot(middle, speed, color=ORANGE)
    low = -0.08 * float(speed.max())
    for at, nodes, color, name in (
        (1, density.rule(15).nodes, PURPLE, "15 placed nodes"),
        (2, fejer(15)[0], GREY, "15 nodes of a fixed rule"),
    ):
        axes.plot(nodes, np.full(15, at * low), "|", ms=10, mew=2, color=color)
        axes.text(1.02, at * low, name, color=color, va="center", clip_on=False)
    axes.set(xlim=(0, 1), xlabel="from the baseline (0) to the image (1)")
    axes.set_ylabel("speed of the embedding")
    axes.set_yticks([0, 10, 20])
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, "steps")


if __name__ == "__main__":
    torch.set_num_threads(1)
    embedded, drawn = scene.model(), scene.scene().image
    of_questions(embedded, drawn)
    plain = scene.plain()
    of_layers(plain, drawn)
    of_references(plain, drawn)
    of_steps(plain, drawn)
