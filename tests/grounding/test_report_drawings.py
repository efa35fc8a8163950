"""Figures of a study's report: marks lie where the numbers say."""

from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from captum_pairs.grounding.report.charts import (
    Bar,
    distribution,
    intervals,
    matrix,
    points,
)
from captum_pairs.grounding.report.drawing import Drawing, escaped, SMALL, width_of
from captum_pairs.grounding.report.galleries import _heated
from captum_pairs.models.encoder import Feature
from PIL import Image

SVG = "{http://www.w3.org/2000/svg}"


def _marks(drawing: Drawing, tag: str, role: str) -> list[dict[str, str]]:
    root = ElementTree.fromstring(drawing.file())
    found = [each.attrib for each in root.iter(f"{SVG}{tag}")]
    return [each for each in found if role in each["class"].split()]


def test_a_value_lies_between_the_ends_of_its_interval() -> None:
    bars = [
        Bar("none", 0.0, 0.0, 0.25, 0.5),
        Bar("half", 0.5, 0.25, 1.0, 0.5),
        Bar("all", 1.0, 1.0, 1.0, 0.5),
        Bar("unknown", None),
    ]
    drawing = intervals(bars, "Found")
    # the first of each is in the key
    dots = [float(dot["cx"]) for dot in _marks(drawing, "circle", "f-accent")[1:]]
    none, half, all_ = dots
    assert half == pytest.approx((none + all_) / 2, abs=0.02)
    ends = [
        (float(m["x1"]), float(m["x2"])) for m in _marks(drawing, "line", "s-accent")
    ]
    assert ends[1] == pytest.approx(((none + half) / 2, all_), abs=0.02)
    chances = [float(m["x1"]) for m in _marks(drawing, "line", "s-chance")[1:]]
    assert chances == pytest.approx([half] * 3, abs=0.02)
    assert "half: 50 % (25 % to 100 %), chance 50 %" in drawing.said
    assert "unknown: none" in drawing.said


def test_an_interval_is_drawn_as_far_as_a_share_can_be() -> None:
    drawing = intervals([Bar("all", 0.9, 0.6, 1.4), Bar("none", 0.0, 0.0, 0.0)], "A")
    dots = [float(dot["cx"]) for dot in _marks(drawing, "circle", "f-accent")[1:]]
    end = float(_marks(drawing, "line", "s-accent")[0]["x2"])
    # 0 and 0.9 give the scale, on which the line ends at 1
    assert end == pytest.approx(dots[1] + (dots[0] - dots[1]) / 0.9, abs=0.02)
    assert "all: 90 % (60 % to 140 %)" in drawing.said
    # what is no share is drawn as a whole
    drawing = intervals([Bar("far", 2.0, 1.0, 4.0)], "A")
    line = _marks(drawing, "line", "s-accent")[0]
    assert float(line["x2"]) - float(line["x1"]) == pytest.approx(
        3 * (float(_marks(drawing, "circle", "f-accent")[1]["cx"]) - float(line["x1"])),
        abs=0.05,
    )


@pytest.mark.parametrize("label", ["a", "a name as long as there is room for one"])
def test_the_numbers_of_an_axis_are_apart(label: str) -> None:
    drawing = intervals([Bar(label, 0.07, -0.07, 0.33)], "A", is_share=False)
    root = ElementTree.fromstring(drawing.file())
    below = [t for t in root.iter(f"{SVG}text") if float(t.attrib["y"]) > 60]
    ticks = [(float(t.attrib["x"]), width_of(t.text or "", SMALL)) for t in below]
    assert len(ticks) >= 2
    for (x, width), (next_x, next_width) in zip(ticks, ticks[1:]):
        assert next_x - x > (width + next_width) / 2 + 2


def test_a_change_starts_at_the_value_before() -> None:
    bars = [Bar("a", 0.75, 0.5, 1.0, 0.25), Bar("b", 0.25, 0.0, 0.5, 0.75)]
    drawing = intervals(bars, "Changed", "before", is_change=True)
    before = [float(m["cx"]) for m in _marks(drawing, "circle", "s-accent")[1:]]
    after = [float(m["cx"]) for m in _marks(drawing, "circle", "f-accent")[1:]]
    assert before == after[::-1] and before[0] < after[0]


def test_a_distribution_counts_every_value() -> None:
    values = np.array([0.05, 0.05, 0.55, 0.95, np.nan])
    drawing = distribution(values, np.array([0.5] * 8), "Values", bins=10)
    boxes = _marks(drawing, "rect", "f-accent")[1:]
    heights = [float(box["height"]) for box in boxes]
    assert heights == pytest.approx([2 * heights[1], heights[1], heights[1]])
    (behind,) = _marks(drawing, "rect", "f-chance")[1:]
    assert float(behind["height"]) == pytest.approx(8 * heights[1], abs=0.02)
    assert "Of 4, half are below 30 %" in drawing.said


def test_the_matrix_has_the_lift_of_its_row_in_its_column() -> None:
    drawing = matrix(["a", "b"], {("a", "b"): 3.0, ("b", "a"): 0.5}, "Lifts")
    (more,), (less,) = (_marks(drawing, "rect", f) for f in ("f-for", "f-against"))
    assert float(more["x"]) > float(less["x"]) and float(more["y"]) < float(less["y"])
    assert float(more["fill-opacity"]) > float(less["fill-opacity"])
    assert "Strongest: a in b, 3.00 times" in drawing.said


def test_what_words_matched_is_orange_where_it_lies() -> None:
    boxes = [(0.0, 0.0, 10.0, 10.0), (10.0, 0.0, 20.0, 10.0)]
    side = SimpleNamespace(
        count=2, features=[Feature(f"{at}", box=box) for at, box in enumerate(boxes)]
    )
    # of three words the last two are asked for: 1 and -0.5 in sum
    table = torch.tensor([[9.0, 0.25, 0.75], [9.0, -1.0, 0.5]])
    explanation = SimpleNamespace(first=side, interactions=table)
    grey = Image.new("RGB", (40, 20), (128, 128, 128))
    pixels = np.asarray(_heated(grey, explanation, [1, 2], 2.0), dtype=int)
    left, right = pixels[10, 10], pixels[10, 30]
    assert left[0] > 180 > 60 > left[2]  # orange
    assert right[2] > 128 > right[1]  # purple, and fainter
    assert abs(right - 128).max() < abs(left - 128).max()


def test_nothing_of_anybodys_text_is_markup() -> None:
    assert (
        escaped('<a b="c">&\x00\ud800') == "&lt;a b=&quot;c&quot;&gt;&amp;\ufffd\ufffd"
    )
    drawing = intervals([Bar("<b>\x01", 0.5)], "<title>")
    ElementTree.fromstring(drawing.file())
    assert "<b>" not in drawing.svg() and "<title><" not in drawing.svg()


def test_points_have_their_names_beside_them() -> None:
    seen = np.array([0.0, 999.0, 999.0, 999.0])
    known = np.array([0.2, 0.8, 0.8, np.nan])
    names = ["moon", "ring", "disc", "none"]
    drawing = points(seen, known, names, "Seen", ("times", "known"))
    root = ElementTree.fromstring(drawing.file())
    texts = {each.text: each.attrib for each in root.iter(f"{SVG}text")}
    dots = _marks(drawing, "circle", "f-accent")
    assert len(dots) == 3 and "none" not in texts
    assert float(texts["moon"]["x"]) > float(dots[0]["cx"])
    # at the edge, and one above the other
    for name in ("ring", "disc"):
        assert float(texts[name]["x"]) < float(dots[1]["cx"])
    assert abs(float(texts["ring"]["y"]) - float(texts["disc"]["y"])) >= 11.5
    many = points(np.arange(20.0), np.full(20, 0.5), ["many"] * 20, "Seen", ("a", "b"))
    assert "many" not in {
        each.text for each in ElementTree.fromstring(many.file()).iter(f"{SVG}text")
    }
