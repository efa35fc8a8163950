"""Pictures: what they show, in numbers and beside reference images.

The reference images are drawn anew by ``python tests/attr/test_visualization.py``; look
at them before you commit them.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import matplotlib
import numpy as np
import pytest
import torch
from captum.attr import visualization as captum_visualization
from captum_pairs.attr import InvalidArgumentError, visualization as v
from captum_pairs.attr._utils.visualization import fonts
from captum_pairs.attr._utils.visualization.fonts import (
    MISSING,
    shortened,
    width_of,
    wrapped,
)
from matplotlib import pyplot as plt, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text
from PIL import Image, ImageFilter

REFERENCES = Path(__file__).parent / "reference_images"
# Root mean square of the differences, of 255, both a little blurred since letters are
# drawn otherwise by each version of matplotlib (up to 5 between 3.8 and 3.11); a wrong
# sign makes at least 13 (test_a_wrong_sign_is_seen).
TOLERANCE = 8.0
STYLE = {"font.family": ["DejaVu Sans"], "figure.dpi": 100, "savefig.dpi": 50}
STYLE["text.hinting"] = "none"
if tuple(map(int, matplotlib.__version__.split(".")[:2])) < (3, 11):
    STYLE["text.hinting_factor"] = 1  # it means nothing any more, and says so

WORDS = ["a", "red", "dot", "on", "the", "left"]
TEXT = "A red dot, on the left."
VALUES = np.array([0.01, 0.3, 0.2, -0.02, 0.0, -0.25])


def photo(height: int = 32, width: int = 48) -> np.ndarray:
    """Grey, with a disc."""
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width, 3), 190, dtype=np.uint8)
    image[(y - height / 2) ** 2 + (x - width / 3) ** 2 < 80] = (200, 40, 40)
    return image


def board(*shape: int) -> np.ndarray:
    """Strong attributions of either sign, an equal number of each."""
    values = np.arange(np.prod(shape)).reshape(shape) * 7919 % 31 / 15.0 - 1.0
    return np.sign(values) * np.abs(values) ** 0.5 * 0.1


def fixed(size: tuple[float, float], rows: int = 1, columns: int = 1) -> dict[str, Any]:
    """A figure and axes that stay where they are however wide letters are drawn."""
    figure = Figure(figsize=size, layout="none")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    figure.subplots_adjust(0.15, 0.12, 0.9, 0.85, 0.15, 0.3)
    return {"plt_fig_axis": (figure, axes if len(axes) > 1 else axes[0])}


def figures(sign: float = 1.0) -> dict[str, Callable[[], tuple[Any, Any]]]:
    """A figure of every function, by name; with the attributions' sign."""
    image, maps, three = photo(), sign * board(4, 6), sign * board(3, 4, 6)
    both = (image, image[:, ::-1])
    parts = {"baselines": 0.1, "the image": 0.5, "the text": -0.2, "pairs": 0.15}
    parts = {name: sign * value for name, value in parts.items()}
    other = ["a", "blue", "dot", "on", "the", "left"]
    values = sign * VALUES
    return {
        "image": lambda: v.visualize_image_attr(
            maps, image, title="dot", **fixed((4, 3))
        ),
        "image_smooth": lambda: v.visualize_image_attr(
            maps, image, interpolation="bilinear", **fixed((4, 3))
        ),
        "image_per_word": lambda: v.visualize_image_attr_per_word(
            three, WORDS[:3], image, **fixed((5, 4), 2, 2)
        ),
        "image_pair": lambda: v.visualize_image_pair_attr(
            maps, both, (8, 8, 24, 24), **fixed((5, 2.5), 1, 2)
        ),
        "image_contrast": lambda: v.visualize_image_contrast(
            (maps, -maps), both, **fixed((5, 2.5), 1, 2)
        ),
        "text": lambda: v.visualize_text_attr(
            values, WORDS, TEXT.lower(), fontsize=20, **fixed((4, 2))
        ),
        "text_contrast": lambda: v.visualize_text_contrast(
            (values, -values), (WORDS, other), fontsize=20, **fixed((5, 3), 2)
        ),
        "text_pair": lambda: v.visualize_text_pair_attr(
            sign * board(3, 4), (WORDS[:3], WORDS[2:]), **fixed((4, 3))
        ),
        "decomposition": lambda: v.visualize_decomposition(parts, **fixed((5, 3))),
    }


NAMES = sorted(figures())


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    plt.rcdefaults()
    with rc_context(STYLE):
        yield
    plt.close("all")


@pytest.fixture
def without_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if no font but the usual one were installed."""
    fonts._family_of.cache_clear()
    fonts.width_of.cache_clear()
    monkeypatch.setattr(fonts, "_candidates", lambda: [])
    yield
    fonts._family_of.cache_clear()
    fonts.width_of.cache_clear()


def rendered(figure: Any) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[:, :, :3] / 255.0


def overlay(axes: Any) -> np.ndarray:
    """(h, w): the attributions of a heat map, as shares of the strongest colour."""
    return np.asarray(axes.images[-1].get_array())


def legend(figure: Any) -> tuple[float, float]:
    return figure.axes[-1].dataLim.intervaly[0], figure.axes[-1].dataLim.intervaly[1]


# ---- beside reference images --------------------------------------------------------


def difference(name: str, figure: Any, folder: Path) -> Optional[str]:
    """None if a figure looks like its reference."""
    figure.savefig(folder / "drawn.png")
    files = []
    for path in (REFERENCES / f"{name}.png", folder / "drawn.png"):
        assert path.is_file(), "see this module's docstring"
        with Image.open(path) as image:
            blurred = image.convert("RGB").filter(ImageFilter.GaussianBlur(2))
        files.append(str(folder / f"blurred_{path.name}"))
        blurred.save(files[-1])
    return compare_images(files[0], files[1], TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_looks_like_its_reference(name: str, tmp_path: Path) -> None:
    found = difference(name, figures()[name]()[0], tmp_path)
    assert found is None, found


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_sign_is_seen(name: str, tmp_path: Path) -> None:
    assert difference(name, figures(-1.0)[name]()[0], tmp_path)


# ---- images -------------------------------------------------------------------------


def test_orange_for_and_purple_against_where_the_patches_are() -> None:
    maps = np.zeros((4, 6))
    maps[0, 5], maps[3, 0] = 1.0, -1.0
    grey = np.full((40, 60, 3), 128, dtype=np.uint8)
    _, axes = v.visualize_image_attr(maps, grey, use_pyplot=False)
    shares = overlay(axes)
    height, width = shares.shape
    assert (height % 40, width % 60) == (0, 0)
    once = height // 40
    expected = np.kron(maps, np.ones((10 * once, 10 * once)))
    assert np.array_equal(shares, expected)
    colors = axes.images[-1].to_rgba(shares)
    for_it, against, neither = colors[1, -1], colors[-1, 1], colors[height // 2, 1]
    assert for_it[0] > for_it[2] + 0.4  # orange: red without blue
    assert against[2] > against[1] + 0.2  # purple: blue without green
    assert np.ptp(neither[:3]) < 0.02 and neither[0] > 0.95
    assert axes.images[-1].get_extent() == [0, 60, 40, 0]
    # the photograph is not stretched to black and white
    assert axes.images[0].get_clim() == (0, 255)


def test_a_photo_is_grey_under_colour() -> None:
    image = np.zeros((1, 2, 3), dtype=np.uint8)
    image[0] = (150, 150, 150), (0, 195, 255)  # of the same mean
    _, axes = v.visualize_image_attr(np.zeros((1, 2)), image, use_pyplot=False)
    shown = np.asarray(axes.images[0].get_array())
    assert shown.ndim == 2 and shown[0, [0, -1]] == pytest.approx([150, 143.5], abs=0.1)


@pytest.mark.parametrize("method", ["masked_image", "alpha_scaling", "heat_map"])
@pytest.mark.parametrize("sign", ["positive", "negative", "absolute_value"])
def test_shows_what_captum_shows(method: str, sign: str) -> None:
    attr = board(20, 25).repeat(20, axis=0).repeat(20, axis=1)
    image = photo(400, 500)
    _, ours = v.visualize_image_attr(
        attr, image, method, sign, outlier_perc=5, use_pyplot=False
    )
    _, theirs = captum_visualization.visualize_image_attr(
        attr, image, method, sign, outlier_perc=5, use_pyplot=False
    )
    found, expected = (np.asarray(a.images[-1].get_array()) for a in (ours, theirs))
    assert found.shape == expected.shape
    assert (
        np.abs(found.astype(float) - expected).max() <= 1.0 * (found.max() > 1) + 1e-6
    )


def test_words_share_one_scale() -> None:
    maps = np.zeros((2, 4, 6))
    maps[0, 1, 2], maps[1, 3, 3] = -0.5, 0.05
    figure, axes = v.visualize_image_attr_per_word(
        maps, ["strong", "weak"], photo(), use_pyplot=False, outlier_perc=0
    )
    assert overlay(axes[0]).min() == -1.0
    assert overlay(axes[1]).max() == pytest.approx(0.1)
    assert legend(figure) == (-0.5, 0.5)
    titles = [each.get_title() for each in axes]
    assert titles == ["strong: −0.500", "weak: +0.050"]
    # and so do a shared limit's and a contrast's
    _, alone = v.visualize_image_attr(maps[1], limit=0.5, use_pyplot=False)
    assert overlay(alone).max() == pytest.approx(0.1)
    _, pair = v.visualize_image_contrast(
        maps, (None, photo()), use_pyplot=False, outlier_perc=0
    )
    assert overlay(pair[1]).max() == pytest.approx(0.1)


@pytest.mark.parametrize("sign", ["all", "positive", "negative", "absolute_value"])
def test_zero_everywhere(sign: str) -> None:
    zeros = np.zeros((4, 6))
    figure, axes = v.visualize_image_attr(zeros, photo(), sign=sign, use_pyplot=False)
    rendered(figure)
    assert not overlay(axes).any()
    low, high = legend(figure)
    assert (low, high) == {"all": (-1, 1), "negative": (-1, 0)}.get(sign, (0, 1))
    for figure, _ in (
        v.visualize_text_attr(np.zeros(2), ["a", "b"], sign=sign, use_pyplot=False),
        v.visualize_text_pair_attr(
            zeros, (list("abcd"), list("abcdef")), sign, use_pyplot=False
        ),
        v.visualize_decomposition({"a": 0.0, "b": 0.0}, use_pyplot=False),
    ):
        rendered(figure)


def test_of_one_sign() -> None:
    values = np.array([[0.1, 0.4], [0.2, 0.3]])
    figure, axes = v.visualize_image_attr(values, use_pyplot=False, outlier_perc=0)
    assert legend(figure) == (-0.4, 0.4)  # zero stays in the middle
    assert overlay(axes).min() == pytest.approx(0.25)
    _, axes = v.visualize_image_attr(values, sign="negative", use_pyplot=False)
    assert not overlay(axes).any()
    figure, axes = v.visualize_image_attr(
        -values, sign="negative", use_pyplot=False, outlier_perc=0
    )
    strongest = axes.images[-1].to_rgba(overlay(axes)).reshape(-1, 4)
    assert strongest[strongest[:, 0].argmin(), 2] > 0.25  # purple
    # the legend has the same colour at that number
    mappable = figure.axes[-1].collections[-1]
    assert mappable.to_rgba(-0.4)[:3] == pytest.approx(strongest.min(0)[:3], abs=0.02)


def test_outliers_do_not_wash_out_the_rest() -> None:
    values = np.full((10, 10), 0.1)
    values[0, 0] = 0.15
    figure, axes = v.visualize_image_attr(values, outlier_perc=5, use_pyplot=False)
    assert legend(figure)[1] == pytest.approx(0.1)
    assert overlay(axes).max() == overlay(axes).min() == 1.0
    assert figure.axes[-1].get_children()[0] is not None
    scale = v.scale_of(values, outlier_perc=5)
    assert scale.is_exceeded and scale.extend == "max"
    assert not v.scale_of(values, outlier_perc=0).is_exceeded


def bar_of(figure: Any) -> Any:
    """The axes of a legend, which is drawn last."""
    return figure.axes[-1]


@pytest.mark.parametrize(
    "strong, extend, low", [(5.0, "max", -0.2), (-5.0, "min", -0.2)]
)
def test_one_patch_does_not_wash_out_all_others(
    strong: float, extend: str, low: float
) -> None:
    values = np.full((10, 10), 0.1)
    values[2, 3] = strong
    scale = v.scale_of(values)
    assert scale.limit == pytest.approx(0.2) and scale.extend == extend
    assert scale.beyond == ((0, 1) if strong > 0 else (1, 0))
    figure, axes = v.visualize_image_attr(values, use_pyplot=False)
    shares = overlay(axes)
    assert np.abs(shares).max() == 1.0 and np.median(shares) == pytest.approx(0.5)
    assert legend(figure) == pytest.approx((low, -low))
    assert bar_of(figure).get_ylabel().endswith("\n1 patch beyond the scale")
    # an even spread has its strongest at the end, however many there are
    even = np.linspace(-1, 0.9, 300)
    assert v.scale_of(even).limit == 1.0 and not v.scale_of(even).is_exceeded
    # the only one that is not zero, and of few words the strongest
    assert (
        v.scale_of(np.eye(10)[:1].repeat(5, 0) * [[1], [0], [0], [0], [0]]).limit == 1
    )
    assert v.scale_of(np.array([0.01, 5.0, 0.02])).limit == 5.0


def test_half_a_per_cent_may_be_beyond() -> None:
    values = np.full(1000, 0.1)
    values[:5] = 3.0
    scale = v.scale_of(values)
    assert scale.limit == pytest.approx(0.2) and scale.beyond == (0, 5)
    assert scale.beyond_in_words() == "5 values beyond the scale"
    values[5] = 3.0  # six are no outliers
    assert v.scale_of(values).limit == 3.0


def every_scale(perc: float) -> dict[str, Callable[[], Any]]:
    """A figure of every function that is offered `outlier_perc`."""
    given: dict[str, Any] = {"outlier_perc": perc, "use_pyplot": False}
    words, image, values = list("abcdef"), photo(), np.array(VALUES)
    maps = board(4, 6)
    return {
        "image": lambda: v.visualize_image_attr(maps, image, **given),
        "per word": lambda: v.visualize_image_attr_per_word([maps], "a", **given),
        "pair": lambda: v.visualize_image_pair_attr(maps, (image, image), **given),
        "contrast": lambda: v.visualize_image_contrast(
            (maps, maps), (image, image), **given
        ),
        "text": lambda: v.visualize_text_attr(values, words, **given),
        "texts": lambda: v.visualize_text_contrast(
            (values, values), (words, words), **given
        ),
        "matrix": lambda: v.visualize_text_pair_attr(maps, ("abcd", "abcdef"), **given),
        "lines": lambda: v.visualize_pair_lines(
            values, [(at, at) for at in range(6)], (words, words), **given
        ),
    }


@pytest.mark.parametrize("name", every_scale(0))
def test_outliers_are_cut_wherever_that_is_offered(name: str) -> None:
    bars = [bar_of(every_scale(perc)[name]()[0]) for perc in (0, 60)]
    (_, all_of_it), (_, cut) = (
        max(bar.get_xlim(), bar.get_ylim(), key=lambda ends: -ends[0]) for bar in bars
    )
    whole, most = (
        " ".join((bar.get_xlabel() + bar.get_ylabel()).split()) for bar in bars
    )
    assert "beyond the scale" in most and "beyond" not in whole
    assert cut < all_of_it


def test_outliers_are_cut_in_html() -> None:
    words, off = list("abcdef"), "beyond the scale"
    assert off in v.visualize_text(VALUES, words, outlier_perc=60).data
    assert off not in v.visualize_text(VALUES, words, outlier_perc=0).data


def test_a_scale_for_each_word() -> None:
    maps = np.stack([board(4, 6), 0.01 * board(4, 6)])
    figure, axes = v.visualize_image_attr_per_word(
        maps, ["strong", "weak"], photo(), use_pyplot=False, own_scales=True
    )
    assert np.allclose(overlay(axes[0]), overlay(axes[1]))
    rendered(figure)
    bars = figure.axes[2:]
    ends = [bar.get_xlim()[1] for bar in bars]
    assert len(bars) == 2 and ends[1] == pytest.approx(0.01 * ends[0])
    for bar, above in zip(bars, axes):  # each below its map, labels inside
        box, map_box = bar.get_tightbbox(), above.get_window_extent()
        assert box.y1 < map_box.y0 and box.x0 > -2 and box.y0 > -2


@pytest.mark.parametrize("height, width", [(16, 80), (80, 16)])
def test_forty_maps_have_no_gaps_between_them(height: int, width: int) -> None:
    maps = np.tile(board(24, 24), (8, 1, 1))
    figure, axes = v.visualize_image_attr_per_word(
        maps, list("abcdefgh"), photo(height, width), use_pyplot=False
    )
    rendered(figure)
    one, below = (axes[at].get_window_extent() for at in (0, 4))
    gap = one.y0 - axes[4].get_tightbbox().y1
    assert 0 < gap < 0.25 * figure.dpi
    assert one.width == pytest.approx(below.width)


def contrast_of(one: Any, other: Any) -> float:
    """WCAG 2's ratio of two colours."""
    found = []
    for color in (one, other):
        rgb = np.array(to_rgb(color))
        linear = np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        found.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(found) + 0.05) / (min(found) + 0.05)


@pytest.mark.parametrize("sign", ["all", "absolute_value"])
def test_words_are_read_on_every_colour(sign: str) -> None:
    values = np.linspace(-1, 1, 201)
    words = ["w"] * len(values)
    _, axes = v.visualize_text_attr(values, words, sign=sign, use_pyplot=False)
    inks = [text.get_color() for text in axes.texts if text.get_text() == "w"]
    ratios = [
        contrast_of(mark.get_facecolor()[:3], ink)
        for mark, ink in zip(marks(axes), inks)
    ]
    assert len(ratios) == len(values) and min(ratios) > 4.5


@pytest.mark.parametrize("shape", [(640, 160), (160, 640), (4000, 3000), (32, 48)])
def test_numbers_at_the_edges_of_a_photo_do_not_overlap(shape: tuple[int, int]) -> None:
    extent = (0, 0, shape[1], shape[0])
    figure = Figure(figsize=(2.4, 2.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    v.visualize_original_image(
        photo(8, 8), (figure, axes), extent=extent, use_pyplot=False
    )
    rendered(figure)
    for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        boxes = [
            tick.label1.get_window_extent()
            for tick in axis.get_major_ticks()
            if min(ends) <= tick.get_loc() <= max(ends)
        ]
        assert len(boxes) > 1
        for one, two in zip(boxes, boxes[1:]):
            assert one.x1 + 1 < two.x0 or one.y1 < two.y0 + 1 or two.y1 < one.y0 + 1


def test_a_region_as_it_was_asked_for_and_the_patches_used() -> None:
    _, axes = v.visualize_original_image(
        photo(), region=(9, 5, 20, 12), used=(8, 4, 24, 16), use_pyplot=False
    )
    drawn = {
        (*patch.get_bbox().extents.tolist(), patch.get_linestyle())
        for patch in axes.patches
        if to_rgb(patch.get_edgecolor()) != (1.0, 1.0, 1.0)
    }
    assert drawn == {(9, 5, 20, 12, "solid"), (8, 4, 24, 16, (0, (3, 2)))}
    _, axes = v.visualize_original_image(photo(), region=(9, 5, 9, 5), use_pyplot=False)
    assert not axes.patches and axes.lines[0].get_xydata().tolist() == [[9, 5]]


def test_no_number_of_a_waterfall_is_struck_by_a_line() -> None:
    figure, axes = v.visualize_decomposition(
        {"a": -0.5, "b": 0.46, "c": 0.03}, use_pyplot=False
    )
    rendered(figure)
    zero = axes.transData.transform((0, 0))[0]
    numbers = [text for text in axes.texts if text.get_text()]
    on_it = [
        text
        for text in numbers
        if text.get_window_extent().x0 < zero < text.get_window_extent().x1
    ]
    assert on_it  # the zero line runs through it, behind its ground
    for text in on_it:
        ground = text.get_bbox_patch()
        assert ground.get_alpha() is None and ground.get_facecolor()[3] == 1.0
        assert text.get_zorder() > max(line.get_zorder() for line in axes.lines)


# ---- lines --------------------------------------------------------------------------


def curves(axes: Any) -> list[tuple[np.ndarray, Any]]:
    """Of each line its ends and colour, without the light edges."""
    return [
        (patch.get_path().vertices[[0, -1]], to_rgb(patch.get_edgecolor()))
        for patch in axes.patches
        if isinstance(patch, PathPatch) and to_rgb(patch.get_edgecolor()) != (1, 1, 1)
    ]


def test_lines_between_words() -> None:
    words = ["red", "dot"], ["a", "scarlet", "spot"]
    figure, axes = v.visualize_pair_lines(
        [0.4, -0.1], [(0, 1), (1, 2)], words, use_pyplot=False, title="pairs"
    )
    rendered(figure)
    said = {text.get_text(): text for text in axes.texts}
    assert [*said][:5] == [*words[0], *words[1]] and {"+0.400", "−0.100"} <= {*said}
    assert said["a"].get_color() == "0.55" and said["spot"].get_color() == "black"
    (weak, purple), (strong, orange) = curves(axes)  # the strongest lies above
    assert orange[0] > orange[2] + 0.2 and purple[2] > purple[1]
    for ends, first, second in ((strong, "red", "scarlet"), (weak, "dot", "spot")):
        places = [said[name].get_position() for name in (first, second)]
        assert [y for _, y in ends] == pytest.approx([y for _, y in places])
        assert places[0][0] < ends[0][0] < ends[1][0] < places[1][0]
    width, height = v.lines_size([(0, 1), (1, 2)], words)
    assert height < width < figure.get_size_inches()[0]


def test_lines_between_a_region_and_a_word() -> None:
    box = (12, 8, 24, 16)  # of 48 x 32: a quarter, in the left half
    figure, axes = v.visualize_pair_lines(
        [0.4], [(box, 1)], (None, ["a", "dot"]), (photo(), None), use_pyplot=False
    )
    rendered(figure)
    assert axes.images[0].get_array().ndim == 2  # grey, whatever the photo
    left, right, bottom, top = axes.images[0].get_extent()
    outlined = [p.get_bbox().extents for p in axes.patches if isinstance(p, Rectangle)]
    across, down = right - left, top - bottom
    expected = [
        left + across / 4,
        bottom + down / 2,
        left + across / 2,
        bottom + 3 * down / 4,
    ]
    assert len(outlined) == 2 and outlined[0].tolist() == pytest.approx(expected)
    ((start, end), _), *_ = curves(axes)
    assert start.tolist() == pytest.approx([expected[2], bottom + 5 * down / 8])
    assert end[0] > right
    # sound: low bands are below
    _, axes = v.visualize_pair_lines(
        [0.4],
        [((0, 0, 1, 4), 0)],
        (None, ["a"]),
        extents=((0, 8, 2, 0), None),
        ratios=(0.5, None),
        use_pyplot=False,
    )
    left, right, bottom, top = axes.images[0].get_extent()
    assert (top - bottom) / (right - left) == pytest.approx(0.5)
    low = [p.get_bbox().y0 for p in axes.patches if isinstance(p, Rectangle)]
    assert low == pytest.approx([bottom] * 2)


def test_of_a_long_text_the_words_with_lines() -> None:
    words = [f"word{at}" for at in range(40)]
    _, axes = v.visualize_pair_lines(
        [0.4, 0.1, 0.2], [(0, 3), (0, 4), (0, 20)], (["a"], words), use_pyplot=False
    )
    said = [text.get_text() for text in axes.texts]
    assert said[:7] == ["a", "…", "word3", "word4", "…", "word20", "…"]


def test_smooth_is_between_the_patches_and_says_so() -> None:
    values = np.array([[0.0, 1.0]])
    figure, axes = v.visualize_image_attr(
        values, interpolation="bilinear", use_pyplot=False, outlier_perc=0
    )
    row = overlay(axes)[0]
    assert np.all(np.diff(row) >= 0) and row[0] == 0.0 and row[-1] == 1.0
    middle = row[[len(row) // 2 - 1, len(row) // 2]].mean()
    assert middle == pytest.approx(0.5, abs=0.01)
    assert "smoothed from 1 × 2 patches" in figure.axes[-1].get_ylabel()
    figure, axes = v.visualize_image_attr(values, use_pyplot=False)
    assert set(np.unique(overlay(axes))) == {0.0, 1.0}
    assert "smoothed" not in figure.axes[-1].get_ylabel()


def test_boxes_and_extents() -> None:
    boxes = [(0, 0, 60, 40), None, (10, 20, 20, 40)]
    _, axes = v.visualize_image_attr(
        [0.5, 1.0, -1.0], photo(40, 60), boxes=boxes, use_pyplot=False, outlier_perc=0
    )
    shares = overlay(axes)
    once = shares.shape[0] // 40
    expected = np.full((40, 60), 0.5)
    expected[20:40, 10:20] = -1.0  # the smaller one lies above
    assert np.array_equal(shares, expected.repeat(once, 0).repeat(once, 1))
    # sound: low bands are below
    _, axes = v.visualize_image_attr(
        [1.0, 0.0],
        boxes=[(0, 0, 4, 16), (0, 16, 4, 64)],
        extent=(0, 64, 4, 0),
        aspect="auto",
        use_pyplot=False,
    )
    shares = overlay(axes)
    assert axes.images[0].get_extent() == [0, 4, 0, 64]
    assert shares[-1].all() and not shares[0].any()
    assert shares[:, 0].mean() == pytest.approx(0.25, abs=0.01)
    # smooth between the boxes' centres
    _, axes = v.visualize_image_attr(
        [[0.0, 1.0]],
        boxes=[(0, 0, 10, 10), (10, 0, 40, 10)],
        extent=(0, 0, 40, 10),
        interpolation="bilinear",
        use_pyplot=False,
    )
    row = overlay(axes)[0]
    assert row[-1] == 1.0 and row[round(len(row) * 15 / 40)] == pytest.approx(
        0.5, abs=0.05
    )


def test_images_in_every_form() -> None:
    image = photo()
    forms = [image, image / 255.0, torch.from_numpy(image), image.transpose(2, 0, 1)]
    forms += [torch.from_numpy(image).permute(2, 0, 1) / 255, image.tolist()]
    drawn = [
        rendered(v.visualize_image_attr(board(4, 6), form, use_pyplot=False)[0])
        for form in forms
    ]
    for each in drawn[1:]:
        assert np.abs(each - drawn[0]).max() <= 1 / 255 + 1e-9
    grey = image.mean(axis=2)
    v.visualize_image_attr(torch.from_numpy(board(4, 6)), grey, use_pyplot=False)
    channels = np.stack([board(4, 6) / 2] * 2, axis=2)
    _, axes = v.visualize_image_attr(channels, image, use_pyplot=False)
    _, summed = v.visualize_image_attr(board(4, 6), image, use_pyplot=False)
    assert np.array_equal(overlay(axes), overlay(summed))


def test_a_region_is_outlined_on_the_first_image() -> None:
    _, (first, second) = v.visualize_image_pair_attr(
        board(4, 6), (photo(), photo()), (8, 4, 24, 20), use_pyplot=False
    )
    assert [p.get_bbox().extents.tolist() for p in first.patches] == [
        [8, 4, 24, 20]
    ] * 2
    assert not second.patches and len(second.images) == 2 and len(first.images) == 1


# ---- texts --------------------------------------------------------------------------


def marks(axes: Any) -> list[Any]:
    return [p for p in axes.patches if isinstance(p, FancyBboxPatch)]


def test_words_are_coloured_and_the_rest_is_not() -> None:
    figure, axes = v.visualize_text_attr(
        VALUES, WORDS, TEXT.lower(), use_pyplot=False, outlier_perc=0
    )
    said = [text.get_text() for text in axes.texts if text.get_text().strip()]
    assert said == ["a", "red", "dot", ",", "on", "the", "left", "."]
    colors = [to_rgb(mark.get_facecolor()) for mark in marks(axes)]
    assert len(colors) == len(WORDS)
    assert colors[1][0] > colors[1][2] + 0.2 and colors[5][2] > colors[5][1] + 0.2
    assert np.ptp(colors[4]) < 0.02
    # each mark lies behind its word
    rendered(figure)
    words = [text for text in axes.texts if text.get_text() in WORDS]
    for mark, word in zip(marks(axes), words):
        around, inside = mark.get_window_extent(), word.get_window_extent()
        assert around.x0 <= inside.x0 + 1 and inside.x1 - 1 <= around.x1
        assert around.y0 <= inside.y0 + 1 and inside.y1 - 1 <= around.y1


@pytest.mark.parametrize("words", [["red", "dot", "."], ["אדום", "!"]])
def test_marks_of_words_without_a_space_between_do_not_overlap(words: Any) -> None:
    text = " ".join(words[:-1]) + words[-1]
    values = np.linspace(1, 0, len(words))
    figure, axes = v.visualize_text_attr(values, words, text, use_pyplot=False)
    rendered(figure)
    spans = sorted(
        (mark.get_window_extent().x0, mark.get_window_extent().x1)
        for mark in marks(axes)
    )
    assert len(spans) == len(words)
    for left, right in zip(spans, spans[1:]):
        assert left[1] <= right[0] + 0.01


@pytest.mark.parametrize(
    "word",
    [
        "word",
        "Donaudampfschifffahrt" * 4,
        pytest.param("Donaudampfschifffahrt" * 12, marks=pytest.mark.slow),
    ],
)
def test_long_captions_wrap(word: str) -> None:
    words = [f"{word}{index}" for index in range(30)]
    figure, axes = v.visualize_text_attr(np.ones(30), words, use_pyplot=False)
    rendered(figure)
    extents = [text.get_window_extent() for text in axes.texts]
    assert min(box.x0 for box in extents) >= 0 and min(box.y0 for box in extents) >= 0
    assert max(box.x1 for box in extents) <= figure.bbox.width
    assert max(box.y1 for box in extents) <= figure.bbox.height
    assert len({round(text.get_position()[1]) for text in axes.texts}) > 1
    joined = "".join(text.get_text() for text in axes.texts if text.get_text().strip())
    assert joined == "".join(words)
    below = figure.axes[-1].get_tightbbox()
    assert below.y1 < min(box.y0 for box in extents)


def test_wrapping_by_width() -> None:
    text = "the quick brown fox, jumps over"
    lines = wrapped(text, 80, 10).split("\n")
    assert " ".join(lines) == text and len(lines) > 2
    assert all(width_of(line, 10) <= 80 for line in lines)
    assert "fox," in " ".join(lines).split()
    assert wrapped("", 80, 10) == "" and wrapped("a", 1, 10) == "a"
    assert width_of(shortened("a" * 200, 60, 10), 10) <= 60
    assert shortened("abc", 60, 10) == "abc"


def test_scripts_without_spaces_wrap_too(without_fonts: None) -> None:
    text = "粉红色的星星在绿色星星的右边" * 5
    lines = wrapped(text, 100, 10).split("\n")
    assert "".join(lines) == text and len(lines) > 3
    assert all(width_of(line, 10) <= 100 for line in lines)


def test_right_to_left() -> None:
    words = ["نجمة", "وردية", "هنا"]
    figure, axes = v.visualize_text_attr([0.1, 0.2, 0.3], words, use_pyplot=False)
    rendered(figure)
    found = [t.get_window_extent().x0 for t in axes.texts if t.get_text().strip()]
    assert found == sorted(found, reverse=True)
    assert max(t.get_window_extent().x1 for t in axes.texts) > 0.8 * figure.bbox.width


def test_text_is_escaped_in_html() -> None:
    words = ["<script>alert(1)</script>", '"&', "dot"]
    found = v.visualize_text([0.4, -0.1, 0.0], words, title="<i>", outlier_perc=0).data
    assert "<script" not in found and "<i>" not in found
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in found and "&quot;&amp;" in found
    assert found.count("<mark") == 3 and 'title="+0.4000"' in found
    colors = [part[:7] for part in found.split("background-color:")[1:]]
    strong, against, none = (to_rgb(color) for color in colors)
    assert (
        strong[0] > strong[2] + 0.2 and against[2] > against[1] and np.ptp(none) < 0.02
    )
    assert "linear-gradient" in found
    assert "gradient" not in v.visualize_text([1.0], ["a"], legend=False).data
    with_gaps = v.visualize_text(VALUES, WORDS, TEXT.lower(), legend=False).data
    assert "</mark>, <mark" in with_gaps


def test_html_as_captum_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captum_visualization, "HAS_IPYTHON", False)
    plain = v.visualize_text([1.0], ["a"])
    assert type(plain) is v.HTML and plain._repr_html_() == plain.data

    class Theirs(v.HTML):
        """Stands for IPython's."""

    monkeypatch.setattr(captum_visualization, "HAS_IPYTHON", True)
    monkeypatch.setattr(captum_visualization, "HTML", Theirs, raising=False)
    assert isinstance(v.visualize_text([1.0], ["a"]), Theirs)


def test_matrix() -> None:
    values = np.array([[0.4, -0.1], [0.0, 0.05], [0.0, -0.4]])
    figure, axes = v.visualize_text_pair_attr(
        values, (["x$1", "y$2", "a" * 90], ["p", "q"]), use_pyplot=False, outlier_perc=0
    )
    rendered(figure)
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows[:2] == ["x$1", "y$2"] and rows[2].endswith("…") and len(rows[2]) < 40
    assert [label.get_text() for label in axes.get_xticklabels()] == ["p", "q"]
    written = [text.get_text() for text in axes.texts]
    assert written == ["+0.40", "−0.10", "0", "+0.05", "0", "−0.40"]
    colors = np.asarray(axes.images[0].get_array())
    assert colors[0, 0, 0] > colors[0, 0, 2] + 0.2 and colors[2, 1, 2] > colors[2, 1, 1]
    assert axes.texts[0].get_color() == "white" and axes.texts[2].get_color() == "black"
    assert figure.axes[-1].get_ylim() == pytest.approx((-0.4, 0.4))


def test_large_matrix_has_no_overlapping_labels() -> None:
    words = [f"word{index}" for index in range(64)]
    figure, axes = v.visualize_text_pair_attr(
        board(64, 64), (words, words), use_pyplot=False
    )
    rendered(figure)
    assert not axes.texts and max(figure.get_size_inches()) < 16
    for labels in (axes.get_yticklabels(), axes.get_xticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        for one, two in zip(boxes, boxes[1:]):
            assert one.x1 <= two.x0 + 1 or one.y0 >= two.y1 - 1 or one.y1 <= two.y0 + 1


def test_texts_share_one_scale() -> None:
    figure, axes = v.visualize_text_contrast(
        ([0.5, 0.0], [-0.05, 0.0]), (["a", "b"], ["c", "b"]), use_pyplot=False
    )
    titles = [each.get_title(loc="left") for each in axes]
    assert titles == ["preferred: +0.500", "other: −0.050"]
    weak = to_rgb(marks(axes[1])[0].get_facecolor())
    assert np.ptp(weak) < 0.1


# ---- the decomposition --------------------------------------------------------------


def test_waterfall_steps_from_zero_to_the_sum() -> None:
    parts = {"one": 0.5, "two $x": -0.7, "three": 0.1, "error": -2e-6, "none": 0.0}
    figure, axes = v.visualize_decomposition(parts, "score", use_pyplot=False)
    rendered(figure)
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    stop = 0.0
    for value, (start, end) in zip(parts.values(), bars):
        assert start == pytest.approx(stop) and end == pytest.approx(stop + value)
        stop += value
    assert bars[-1] == (0.0, pytest.approx(sum(parts.values())))
    colors = [to_rgb(bar.get_facecolor()) for bar in axes.patches]
    assert colors[0][0] > colors[0][2] and colors[1][2] > colors[1][1]
    assert np.ptp(colors[-1]) == 0.0
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [*parts, "score"]
    said = [text.get_text() for text in axes.texts]
    assert said == ["+0.500", "−0.700", "+0.100", "−2e−06", "0", "−0.100"]
    right = axes.get_window_extent().x1
    assert all(text.get_window_extent().x1 <= right + 2 for text in axes.texts)


def test_probabilities_as_bars() -> None:
    shares = [("a dog", 0.7), ("two $x", 0.3), ("a dog", 0.0)]
    figure, axes = v.visualize_probabilities(shares, use_pyplot=False)
    rendered(figure)
    bars = [bar.get_width() for bar in axes.patches]
    assert bars == [0.7, 0.3, 0.0]
    assert [text.get_text() for text in axes.texts] == ["70.0%", "30.0%", "0.0%"]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [name for name, _ in shares]
    assert axes.yaxis.get_inverted()  # the first is above


# ---- sheets -------------------------------------------------------------------------


def test_an_original_image_says_where_things_are() -> None:
    figure, axes = v.visualize_original_image(
        photo(), region=(8, 4, 24, 20), axis_labels=("x", "y"), use_pyplot=False
    )
    rendered(figure)
    assert np.array_equal(axes.images[0].get_array(), photo())
    outlined = [patch.get_bbox().extents.tolist() for patch in axes.patches]
    assert outlined == [[8, 4, 24, 20]] * 2
    assert len(axes.get_xticks()) > 1 and axes.get_ylabel() == "y"
    _, bare = v.visualize_original_image(None, show_ticks=False, use_pyplot=False)
    assert not bare.patches and not len(bare.get_xticks())


def test_a_sheet_has_its_parts_below_one_another() -> None:
    drawn: list[Any] = []
    parts = [v.Part(1.0, drawn.append), v.Part(3.0, drawn.append)]
    sheet = v.visualize_sheet("A heading " * 20, parts, width=5)
    rendered(sheet)
    width, height = sheet.get_size_inches()
    lines = sheet.get_suptitle().split("\n")
    assert width == 5 and 4 < height < 4 + 0.5 * len(lines) and len(lines) > 1
    boxes = [place.bbox for place in drawn]
    assert boxes[0].y0 >= boxes[1].y1 - 1
    assert boxes[1].height == pytest.approx(3 * boxes[0].height, rel=0.01)


def test_a_part_with_a_label() -> None:
    drawn: list[Any] = []
    part = v.labelled(v.Part(1.0, drawn.append), "name\nmore of it", 0.25)
    assert part.height == 1.0
    sheet = v.visualize_sheet("heading", [part], width=8)
    rendered(sheet)
    assert drawn[0].bbox.x0 == pytest.approx(0.25 * sheet.bbox.width, rel=0.01)
    said = [text.get_text() for text in sheet.findobj(Text)]
    assert "name" in said and "more of it" in said


def test_heights_are_known_before_they_are_drawn() -> None:
    words = WORDS * 8
    one, many = (v.caption_height(w, width=4, fontsize=20) for w in (WORDS, words))
    assert many > 4 * one
    assert v.caption_height(words, width=8, fontsize=20) < 0.7 * many
    axes = fixed((4, 2))["plt_fig_axis"][1]
    axes.set_position((0, 0, 1, 1))
    v.visualize_text_attr(
        np.ones(len(words)),
        words,
        plt_fig_axis=(axes.figure, axes),
        show_colorbar=False,
        fontsize=20,
    )
    rows = {mark.get_y() for mark in marks(axes)}
    assert many == pytest.approx(len(rows) * one)
    (width, height), (wider, same) = (
        v.matrix_size((WORDS, other)) for other in (WORDS, words)
    )
    assert wider > width and same < height  # cells are smaller


# ---- fonts --------------------------------------------------------------------------

SCRIPTS = {
    "chinese": "粉红色",
    "arabic": "نجمة",
    "hindi": "हिन्दी",
    "thai": "ไทย",
    "emoji": "😀🚀👩\u200d🔬",
    "unassigned": "\U000e1234\ue000",
}


def every_text(said: str) -> Iterator[Any]:
    """Figures that have a text wherever there can be one."""
    off: dict[str, Any] = {"use_pyplot": False}
    values, more = np.ones(2), {"title": said, "colorbar_label": said}
    words = [said, "dot"]
    yield v.visualize_image_attr(board(2, 2), **more, **off)[0]
    yield v.visualize_image_attr_per_word(board(2, 2, 2), words, **off)[0]
    yield v.visualize_text_attr(values, words, f"{said} dot", **more, **off)[0]
    yield v.visualize_text_contrast((values, values), (words, words), **off)[0]
    yield v.visualize_text_pair_attr(board(2, 2), (words, words), **more, **off)[0]
    yield v.visualize_decomposition({said: 1.0}, said, title=said, **off)[0]
    yield v.visualize_pair_lines(values[:1], [(0, 0)], (words, words), **off)[0]


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_warning_where_no_font_has_it(script: str, without_fonts: None) -> None:
    for figure in every_text(SCRIPTS[script]):
        rendered(figure)  # a missing glyph would warn, which is an error here
    drawn, families = fonts.legible("粉 $x\ty")
    assert drawn == f"{MISSING} $x y"
    assert families == ["DejaVu Sans"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_warning_with_the_fonts_that_are_here(script: str) -> None:
    for figure in every_text(SCRIPTS[script]):
        rendered(figure)


@pytest.mark.parametrize("script", sorted(set(SCRIPTS) - {"unassigned"}))
def test_scripts_are_shown_where_a_font_has_them(script: str) -> None:
    drawn, _ = fonts.legible(SCRIPTS[script])
    if MISSING in drawn and not os.environ.get("CI"):
        pytest.skip(f"no font with {script} letters is installed")
    assert MISSING not in drawn
    figure, axes = v.visualize_text_attr([1.0], [SCRIPTS[script]], use_pyplot=False)
    assert axes.texts[0].get_text() == SCRIPTS[script]
    rendered(figure)


def test_formulas_are_text() -> None:
    figure, axes = v.visualize_text_attr([1.0], [r"$\frac"], use_pyplot=False)
    rendered(figure)
    assert axes.texts[0].get_text() == r"$\frac" and not axes.texts[0].get_parse_math()


# ---- as Captum's functions ----------------------------------------------------------


def test_draws_on_given_axes() -> None:
    figure, (left, right) = plt.subplots(1, 2)
    found = v.visualize_image_attr(board(4, 6), plt_fig_axis=(figure, left))
    assert found == (figure, left) and len(figure.axes) == 3
    v.visualize_decomposition({"a": 1.0}, plt_fig_axis=(figure, right))
    figure, axes = plt.subplots(2, 2)
    _, used = v.visualize_image_attr_per_word(
        board(3, 4, 6), list("abc"), plt_fig_axis=(figure, list(axes.flat))
    )
    assert used == list(axes.flat)[:3] and not axes[1, 1].axison


def test_pyplot_makes_and_shows_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    figure, _ = v.visualize_image_attr(board(4, 6), photo())
    assert shown == [figure]
    v.visualize_image_attr(board(4, 6), photo(), use_pyplot=False)
    assert shown == [figure] and plt.get_fignums() == [figure.number]


OFF: dict[str, Any] = {"use_pyplot": False}
BAD: dict[str, tuple[str, Callable[[], Any]]] = {
    "method": (
        "method",
        lambda: v.visualize_image_attr(board(2, 2), method="x", **OFF),
    ),
    "sign": ("sign", lambda: v.visualize_image_attr(board(2, 2), sign="x", **OFF)),
    "both signs masked": (
        "sign",
        lambda: v.visualize_image_attr(board(2, 2), photo(), "masked_image", **OFF),
    ),
    "outliers": (
        "outlier_perc",
        lambda: v.visualize_image_attr(board(2, 2), outlier_perc=101, **OFF),
    ),
    "interpolation": (
        "interpolation",
        lambda: v.visualize_image_attr(board(2, 2), interpolation="x", **OFF),
    ),
    "limit": ("limit", lambda: v.visualize_image_attr(board(2, 2), limit=0.0, **OFF)),
    "shape": ("attr", lambda: v.visualize_image_attr(np.ones(4), **OFF)),
    "nan": ("attr", lambda: v.visualize_image_attr([[np.nan, 1.0]], **OFF)),
    "boxes": (
        "boxes",
        lambda: v.visualize_image_attr(board(2, 2), boxes=[None], **OFF),
    ),
    "image": (
        "original_image",
        lambda: v.visualize_image_attr(board(2, 2), np.ones((2, 4, 4, 3)), **OFF),
    ),
    "words of maps": (
        "words",
        lambda: v.visualize_image_attr_per_word(board(2, 4, 6), ["a"], **OFF),
    ),
    "words of a text": (
        "words",
        lambda: v.visualize_text_attr(VALUES, WORDS[1:], **OFF),
    ),
    "a string": ("words", lambda: v.visualize_text(np.ones(2), "ab")),
    "matrix": (
        "attr",
        lambda: v.visualize_text_pair_attr(board(2, 3), (["a"], ["b"]), **OFF),
    ),
    "images": (
        "original_images",
        lambda: v.visualize_image_pair_attr(board(2, 2), photo(), **OFF),
    ),
    "parts": ("parts", lambda: v.visualize_decomposition({}, **OFF)),
    "no probability": (
        "probabilities",
        lambda: v.visualize_probabilities([("a", 1.5)], **OFF),
    ),
    "lines": (
        "attr",
        lambda: v.visualize_pair_lines([1.0], [], (["a"], ["b"]), **OFF),
    ),
    "a line from nowhere": (
        "ends",
        lambda: v.visualize_pair_lines([1.0], [(1, 0)], (["a"], ["b"]), **OFF),
    ),
    "a line from no box": (
        "ends",
        lambda: v.visualize_pair_lines([1.0], [(0, 0)], (None, ["b"]), **OFF),
    ),
    "words of lines": (
        "words",
        lambda: v.visualize_pair_lines([1.0], [(0, 0)], ("a", ["b"]), **OFF),
    ),
    "axes": (
        "plt_fig_axis",
        lambda: v.visualize_image_attr_per_word(
            board(2, 4, 6), ["a", "b"], plt_fig_axis=(plt.figure(), [plt.gca()])
        ),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    argument, call = BAD[case]
    with pytest.raises(InvalidArgumentError) as caught:
        call()
    assert caught.value.argument == argument


def _draw_references() -> None:
    REFERENCES.mkdir(exist_ok=True)
    plt.rcdefaults()
    with rc_context(STYLE):
        for name, make in figures().items():
            make()[0].savefig(REFERENCES / f"{name}.png", metadata={"Software": None})


if __name__ == "__main__":
    _draw_references()
