"""An explanation as a picture: the inputs, the parts of the score, what matched what.

Orange speaks for the match and purple against it. The drawing is done by
:mod:`captum_pairs.attr.visualization`; here is decided what is shown where.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Optional, Union

import numpy as np
import torch
from captum_pairs.attr import visualization
from captum_pairs.attr._utils.visualization.figures import (
    add_legend,
    add_title,
    in_text,
    new_figure,
    signed,
)
from captum_pairs.attr._utils.visualization.fonts import weight_for, width_of, wrapped
from captum_pairs.attr._utils.visualization.image import Frame, outline
from captum_pairs.attr._utils.visualization.scale import scale_of
from captum_pairs.attr._utils.visualization.text import Caption, matrix_plan
from captum_pairs.explain.comparison import Compared, Comparison
from captum_pairs.explain.contrast import Contrast
from captum_pairs.explain.pair import Match, PairExplanation
from captum_pairs.explain.zero_shot import ZeroShot
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import AUDIO, IMAGE, TEXT
from captum_pairs.models.encoder_pair import Head
from captum_pairs.models.view import Box
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "draw",
    "draw_comparison",
    "draw_contrast",
    "draw_zero_shot",
    "save_picture",
]

# Inches; room for a legend on the right.
_WIDTH, _LEGEND = 9.6, 1.1
# And on the left for a method's name.
_LABEL = 1.9
_TITLE_SIZE, _CAPTION_SIZE = 13.0, 12.0
# So many maps, or rows of a matrix, are looked at; the strongest, if there are more.
_MOST_MAPS, _MOST_ROWS = 24, 60


def save_picture(explanation: PairExplanation, path: Union[str, Path]) -> Path:
    """Writes the picture as PNG, without a display."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    draw(explanation).savefig(file, dpi=150)
    return file


def draw(explanation: PairExplanation) -> Figure:
    """
    The picture of an explanation: its inputs, the parts of the score as a waterfall,
    and what matched what.

    Of an image (or sound) and a text that is a map for each content word, or the
    coloured text if only a region was asked for; of two texts a matrix; of two images
    the strongest regions of the first one and what they matched.
    """
    sides = explanation.first, explanation.second
    seen = [_is_seen(side) for side in sides]
    lower, repeats = _matched(explanation, seen)
    pictures = []
    if not repeats:
        pictures = [(side, _as_seen(side)) for side in sides if _is_seen(side)]
    if all(seen):
        pictures = list(zip(sides, ("the first", "the second")))
    upper = _overview(pictures, _parts_of(explanation), _score_in_words(explanation))
    return _page(_heading(sides), [upper, lower])


def _matched(
    explanation: PairExplanation, seen: Sequence[bool]
) -> tuple["_Part", bool]:
    """What matched what, and whether the input that is seen is shown there too."""
    sides = explanation.first, explanation.second
    if all(seen):
        return _region_pairs(explanation), False
    if not any(seen):
        return _matrix(explanation), False
    at = seen.index(True)
    table = explanation.interactions if at == 1 else explanation.interactions.T
    asked, shown = sides[1 - at], sides[at]
    label = _for_or_against(_unit(explanation))
    if shown.count == 1 and asked.kind == TEXT:
        return _colored_text(asked, table[: asked.count, 0], label), False
    return _maps(asked, shown, table, label), asked.count == 1


def draw_contrast(contrast: Contrast) -> Figure:
    """
    The picture of a contrast: the parts of the difference, what each candidate's
    features say for their own, and where (or by which words) the query decides.
    """
    query, candidates = contrast.query, contrast.candidates
    unit = _unit(contrast.preferred)
    said = f"{signed(contrast.preferred.score)} against {signed(contrast.other.score)}"
    decided = f"{unit} {said}: a difference of {signed(contrast.difference)}"
    below, repeats = [], False
    kind = candidates[0].kind
    label = f"for the preferred (orange) or the other {kind} (purple), {unit}"
    if query.kind == TEXT:
        name = "the query, word by word"
        below.append(_colored_text(query, contrast.by_query(), label, name))
    if all(side.kind == TEXT for side in candidates):
        below.append(_two_texts(contrast))
    elif all(map(_is_seen, candidates)):
        below.append(_two_images(contrast))
    if _is_seen(query):
        maps, titles = _changed_maps(contrast)
        repeats = len(maps) == 1
        below.append(_map_grid(query, maps, titles, label))
    pictures = [(query, "the query")] if _is_seen(query) and not repeats else []
    upper = _overview(pictures, (contrast.parts(), "difference"), decided)
    return _page(_question(contrast), [upper, *below])


def draw_zero_shot(zero_shot: ZeroShot, number: int = 3) -> Figure:
    """
    The picture of a classification: the probabilities, where the image speaks for each
    of a number of most probable classes, and what separates the first two.
    """
    top = zero_shot.top(number)
    maps = [zero_shot.map(name) for name, _ in top]
    titles = [f"{name}: {share:.1%}" for name, share in top]
    if len(top) > 1:
        maps.append(zero_shot.difference())
        titles.append(f"{top[0][0]} rather than {top[1][0]}")
    upper = _probabilities(zero_shot)
    label = "for (orange) or against (purple) the class, similarity"
    lower = _map_grid(zero_shot.input, [each.flatten() for each in maps], titles, label)
    return _page(
        f"“{top[0][0]}”, with a probability of {top[0][1]:.1%}", [upper, lower]
    )


def draw_comparison(comparison: Comparison, number: int = 4) -> Figure:
    """
    Small multiples: a row for each method with its faithfulness and time, in a scale of
    its own.

    Of an image (or sound) and a text a column for each of the strongest words, of two
    images for each of the strongest regions of the first one, of two texts the matrix.
    """
    every = [each.explanation for each in comparison.compared]
    first = every[0]
    sides = first.first, first.second
    seen = [_is_seen(side) for side in sides]
    if any(seen):
        at = 0 if all(seen) else seen.index(False)  # whose words or regions
        groups = _strongest_groups(every, at, number)
        parts = [_group_header(sides[at], groups)] if all(seen) else []
        asked, shown = sides[at], sides[1 - at]
        titles = [_group_name(asked, group) for group in groups]
        for each in comparison.compared:
            maps = _group_maps(each.explanation, at, groups)
            parts.append(_labelled_maps(_measured(each), shown, maps, titles))
    else:
        parts = [
            _labelled_matrix(_measured(each), each.explanation)
            for each in comparison.compared
        ]
    score = f"{_unit(first)} {first.score:.3f}".replace("-", "−")
    scales = "for (orange) or against (purple) the match, each row in its own scale"
    heading = f"{_heading(sides)}\n{score}; {scales}"
    return _page(heading, parts)


# ---- the page --------------------------------------------------------------


class _Part(NamedTuple):
    """A part of a page: how high it is in inches, and what draws it on a figure."""

    height: float
    draw: Any


def _page(heading: str, parts: Sequence[_Part]) -> Figure:
    """Parts below one another, under a heading that is wrapped."""
    lines = "\n".join(
        wrapped(line, (_WIDTH - 0.5) * 72, _TITLE_SIZE, "bold")
        for line in heading.splitlines()
    )
    title = 0.15 + (lines.count("\n") + 1) * _TITLE_SIZE * 1.3 / 72
    heights = [part.height for part in parts]
    figure = new_figure((_WIDTH, title + sum(heights)), use_pyplot=False)
    drawn, how = in_text(lines)
    figure.suptitle(drawn, fontsize=_TITLE_SIZE, weight=weight_for(lines), **how)
    places = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)
    for place, part in zip(places.flat, parts):
        part.draw(place)
    return figure


def _heading(sides: Sequence[ExplainedInput]) -> str:
    texts = [f"“{side.source.text}”" for side in sides if side.kind == TEXT]
    if texts:
        return "\n".join(texts)
    first, second = (str(side.source) for side in sides)
    return f"two {sides[0].kind}s" if first == second else f"{first} – {second}"


def _question(contrast: Contrast) -> str:
    preferred, other = contrast.candidates
    if preferred.kind == TEXT:
        return f"“{preferred.source.text}”\nrather than “{other.source.text}”"
    query = contrast.query
    asked = f" for “{query.source.text}”" if query.kind == TEXT else ""
    return f"Why the preferred {preferred.kind} rather than the other one{asked}?"


# ---- inputs and parts of the score -----------------------------------------


@dataclass(frozen=True)
class _Canvas:
    """An image or sound as it is drawn: see Frame."""

    image: Optional[NDArray[Any]]
    extent: Optional[Box]
    boxes: tuple[Optional[Box], ...]
    aspect: Literal["equal", "auto"]

    @property
    def ratio(self) -> float:
        """Height by width, as far as a page has room for it."""
        if self.aspect == "auto":
            return 0.45
        if self.extent is None:
            return 1.0
        left, top, right, bottom = self.extent
        return float(np.clip(abs(bottom - top) / abs(right - left), 0.4, 1.6))

    @property
    def frame(self) -> Frame:
        return Frame(self.image, self.extent, self.boxes, self.aspect)


def _is_seen(side: ExplainedInput) -> bool:
    return side.kind in (IMAGE, AUDIO) and any(f.box is not None for f in side.features)


def _canvas(side: ExplainedInput) -> _Canvas:
    source = side.source
    boxes = tuple(feature.box for feature in side.features[: side.count])
    extent = source.visible
    if extent is None and source.size is not None:
        extent = (0.0, 0.0, source.size[0], source.size[1])
    if side.kind != AUDIO:
        return _Canvas(source.picture, extent, boxes, "equal")
    if extent is not None:  # low bands below
        extent = (extent[0], extent[3], extent[2], extent[1])
    image = None if source.picture is None else _spectrogram(source.picture)
    return _Canvas(image, extent, boxes, "auto")


def _spectrogram(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(bands, frames) as grey, loud is dark, low bands below."""
    low, high = np.percentile(values, [1, 99])
    shares = (values[::-1] - low) / max(float(high - low), 1e-12)
    grey = np.rint(255 * (1 - np.clip(shares, 0, 1)))
    return np.asarray(grey, dtype=np.uint8)


def _show(axes: Axes, side: ExplainedInput, title: str) -> None:
    """An input with its pixels (seconds, bands) at the edges; a region outlined."""
    _canvas(side).frame.draw_original(axes)
    for at, axis in enumerate((axes.xaxis, axes.yaxis)):
        axis.set_major_locator(MaxNLocator(4))
        if side.kind == AUDIO:
            axis.set_label_text(("seconds", "mel band")[at], fontsize=8)
    axes.tick_params(labelsize=7, length=2)
    if side.count == 1 and side.features[0].box is not None and side.grid is None:
        outline(axes, side.features[0].box)
    add_title(axes, title)


def _parts_of(explanation: PairExplanation) -> tuple[dict[str, float], str]:
    name = _unit(explanation).replace("cosine", "cosine similarity")
    return explanation.parts(), name


def _score_in_words(explanation: PairExplanation) -> str:
    _, name = _parts_of(explanation)
    said = f"{name} {explanation.score:.3f}"
    if explanation.heads != (Head(),):
        values = explanation.logits.items()
        said += "".join(f", {head} {value:.2f}" for head, value in values)
    return f"{said}, and its parts".replace(" -", " −")


def _unit(explanation: PairExplanation) -> str:
    return {"dot": "inner product"}.get(explanation.similarity, explanation.similarity)


def _for_or_against(unit: str) -> str:
    return f"for (orange) or against (purple) the match, {unit}"


def _as_seen(side: ExplainedInput) -> str:
    return "what the model hears" if side.kind == AUDIO else "what the model sees"


def _overview(
    pictures: Sequence[tuple[ExplainedInput, str]],
    waterfall: tuple[dict[str, float], str],
    title: str,
) -> _Part:
    """Pictures on the left, the waterfall on the right."""
    parts, total = waterfall
    height = 0.3 * (len(parts) + 1) + 0.7
    if len(pictures) == 1:
        height = max(height, 2.9)

    def draw_on(figure: Any) -> None:
        shares = [1.0] * len(pictures) + [1.75]
        grid = figure.subplots(1, len(shares), squeeze=False, width_ratios=shares)
        every = list(grid.flat)
        for axes, (side, name) in zip(every, pictures):
            _show(axes, side, name)
        visualization.visualize_decomposition(
            parts, total, (figure, every[-1]), title, use_pyplot=False
        )

    return _Part(height, draw_on)


# ---- what matched what -----------------------------------------------------


def _maps(
    asked: ExplainedInput, shown: ExplainedInput, table: Tensor, label: str
) -> _Part:
    """A map for each content word of a table (words, patches)."""
    content = list(asked.content)
    totals = table[:, : shown.count].double()
    if len(content) > _MOST_MAPS:
        content = _strongest(totals.abs().sum(1), content, _MOST_MAPS)
    titles = [f"{asked.names[i]}: {signed(float(totals[i].sum()))}" for i in content]
    if len(content) < len(asked.content):
        label = f"the {len(content)} strongest of {len(asked.content)}: {label}"
    return _map_grid(shown, [totals[i] for i in content], titles, label)


def _strongest(sizes: Tensor, indices: Sequence[int], number: int) -> list[int]:
    """The indices with the largest sizes, in their order."""
    order = sorted(indices, key=lambda index: -float(sizes[index]))
    return sorted(order[:number])


def _map_grid(
    shown: ExplainedInput, maps: Sequence[Tensor], titles: Sequence[str], label: str
) -> _Part:
    """Maps with a legend; beside a single one the input itself."""
    canvas = _canvas(shown)
    lead = int(len(maps) == 1)
    panels = len(maps) + lead
    columns = min(4 if canvas.aspect == "equal" else 2, panels)
    rows = -(-panels // columns)
    across = min((_WIDTH - _LEGEND) / columns, 3.2)
    narrow = 0.7 * across * 72  # before the layout is made, axes are not wider
    above = 0.5 if any(width_of(title, 10) > narrow for title in titles) else 0.32
    height = max(rows * (across * canvas.ratio + above), 2.4)

    def draw_on(figure: Any) -> None:
        every = list(figure.subplots(rows, columns, squeeze=False).flat)
        if lead:
            _show(every[0], shown, _as_seen(shown))
        visualization.visualize_image_attr_per_word(
            torch.stack([shown.shaped(each) for each in maps]),
            titles,
            canvas.image,
            plt_fig_axis=(figure, every[lead:]),
            titles=titles,
            use_pyplot=False,
            boxes=canvas.boxes,
            extent=canvas.extent,
            aspect=canvas.aspect,
            colorbar_label=label,
        )

    return _Part(height, draw_on)


def _colored_text(
    side: ExplainedInput, values: Tensor, label: str, title: str = "the text"
) -> _Part:
    """A text whose features have values."""
    order, words, text = _written(side)
    caption = Caption(words, text, _CAPTION_SIZE)
    height = caption.height(_WIDTH * 0.75 * 72) / 72 + 1.05
    colored = values.double()[order]
    named = f"{title}: {signed(float(colored.sum()))}"

    def draw_on(figure: Any) -> None:
        visualization.visualize_text_attr(
            colored,
            words,
            text,
            plt_fig_axis=(figure, figure.subplots()),
            title=named,
            use_pyplot=False,
            fontsize=_CAPTION_SIZE,
            colorbar_label=label,
        )

    return _Part(height, draw_on)


def _written(side: ExplainedInput) -> tuple[list[int], list[str], Optional[str]]:
    """A text's features as they stand in it: indices, words, and the text, if the words
    are literally there."""
    count = range(side.count)
    spans = [side.features[index].span or (0, 0) for index in count]
    order = sorted(count, key=lambda index: spans[index])
    words = [side.features[index].name for index in order]
    text = side.source.text
    literal = all(
        side.features[index].name == text[slice(*spans[index])] for index in order
    )
    return order, words, text if literal else None


def _matrix(explanation: PairExplanation) -> _Part:
    """Two texts, or whatever has no picture."""
    sides = explanation.first, explanation.second
    table = explanation.interactions[: sides[0].count, : sides[1].count].double()
    kept = [list(range(side.count)) for side in sides]
    for at in (0, 1):
        if len(kept[at]) > _MOST_ROWS:
            sizes = table.abs().sum(1 - at)
            kept[at] = _strongest(sizes, kept[at], _MOST_ROWS)
    words = [[side.names[i] for i in each] for side, each in zip(sides, kept)]
    values = table[kept[0]][:, kept[1]]
    plan = matrix_plan(*words)
    scaled = min(1.0, (_WIDTH - _LEGEND) / plan.width)
    label = _for_or_against(_unit(explanation))
    if values.shape != table.shape:
        label = f"the strongest of {table.shape[0]} × {table.shape[1]}: {label}"

    def draw_on(figure: Any) -> None:
        visualization.visualize_text_pair_attr(
            values,
            words,
            plt_fig_axis=(figure, figure.subplots()),
            use_pyplot=False,
            colorbar_label=label,
        )

    return _Part(max(plan.height * scaled, 2.4), draw_on)


def _region_pairs(explanation: PairExplanation) -> _Part:
    """The strongest regions of one image, and what they matched in the other."""
    sides = explanation.first, explanation.second
    at = 1 if sides[1].count == 1 < sides[0].count else 0  # whose regions
    asked, shown = sides[at], sides[1 - at]
    table = explanation.interactions if at == 0 else explanation.interactions.T
    groups = [_group(match, at) for match in explanation.top_pairs(4)]
    groups = list(dict.fromkeys(groups)) or [tuple(range(asked.count))]
    maps = [table[list(group), : shown.count].double().sum(0) for group in groups]
    limit = scale_of(torch.stack(maps).numpy())
    canvases = _canvas(asked), _canvas(shown)
    columns = 2 if len(groups) == 1 else 4
    rows = -(-2 * len(groups) // columns)
    across = min((_WIDTH - _LEGEND) / columns, 3.2)
    height = rows * (across * max(canvas.ratio for canvas in canvases) + 0.35)

    def draw_on(figure: Any) -> None:
        every = list(figure.subplots(rows, columns, squeeze=False).flat)
        for row, (group, values) in enumerate(zip(groups, maps)):
            visualization.visualize_image_pair_attr(
                shown.shaped(values),
                (canvases[0].image, canvases[1].image),
                _around(asked, group),
                plt_fig_axis=(figure, every[2 * row : 2 * row + 2]),
                show_colorbar=False,
                titles=(_place(asked, group), signed(float(values.sum()))),
                use_pyplot=False,
                boxes=canvases[1].boxes,
                extents=(canvases[0].extent, canvases[1].extent),
                aspect=canvases[1].aspect,
                limit=limit.limit,
            )
        for axes in every[2 * len(groups) :]:
            axes.set_axis_off()
        label = _for_or_against(_unit(explanation))
        add_legend(figure, every, limit, label, shrink=0.9, aspect=25, pad=0.015)

    return _Part(max(height, 2.2), draw_on)


def _group(match: Match, at: int) -> tuple[int, ...]:
    return (match.first_features, match.second_features)[at]


def _around(side: ExplainedInput, group: Sequence[int]) -> Optional[Box]:
    boxes = [box for i in group if (box := side.features[i].box) is not None]
    if not boxes or len(boxes) == side.count > 1:
        return None
    left, top, right, bottom = zip(*boxes)
    return (min(left), min(top), max(right), max(bottom))


def _place(side: ExplainedInput, group: Sequence[int]) -> str:
    box = _around(side, group)
    if box is None:
        return f"the whole {side.kind}"
    if side.grid is None:
        return side.names[group[0]]
    return f"x {box[0]:.0f}–{box[2]:.0f}, y {box[1]:.0f}–{box[3]:.0f}"


# ---- contrasts -------------------------------------------------------------


def _two_texts(contrast: Contrast) -> _Part:
    written = [_written(side) for side in contrast.candidates]
    values = [
        each.double().flatten()[order]
        for each, (order, _, _) in zip(contrast.by_candidate(), written)
    ]
    captions = [Caption(words, text, _CAPTION_SIZE) for _, words, text in written]
    heights = [c.height(_WIDTH * 0.75 * 72) / 72 + 0.35 for c in captions]

    def draw_on(figure: Any) -> None:
        grid = figure.subplots(2, 1, squeeze=False, height_ratios=heights)
        visualization.visualize_text_contrast(
            (values[0], values[1]),
            [words for _, words, _ in written],
            [text for _, _, text in written],
            plt_fig_axis=(figure, list(grid.flat)),
            use_pyplot=False,
            fontsize=_CAPTION_SIZE,
            colorbar_label="for (orange) or against (purple) the text's own match, "
            + _unit(contrast.preferred),
        )

    return _Part(sum(heights) + 0.75, draw_on)


def _two_images(contrast: Contrast) -> _Part:
    candidates = contrast.candidates
    canvases = [_canvas(side) for side in candidates]
    across = (_WIDTH - _LEGEND) / 4
    height = across * max(canvas.ratio for canvas in canvases) + 0.4

    def draw_on(figure: Any) -> None:
        every = list(figure.subplots(1, 4, squeeze=False).flat)
        for at, name in enumerate(("the preferred", "the other")):
            canvases[at].frame.draw_original(every[2 * at])
            add_title(every[2 * at], f"{name} {candidates[at].kind}")
        maps = contrast.by_candidate()
        visualization.visualize_image_contrast(
            maps,
            [canvas.image for canvas in canvases],
            plt_fig_axis=(figure, every[1::2]),
            titles=[f"its match: {signed(float(each.sum()))}" for each in maps],
            show_colorbar=False,
            use_pyplot=False,
            boxes=[canvas.boxes for canvas in canvases],
            extents=[canvas.extent for canvas in canvases],
            aspect=canvases[0].aspect,
        )
        values = torch.cat([each.double().flatten() for each in maps]).numpy()
        label = _for_or_against(_unit(contrast.preferred))
        label = label.replace("the match", "its match")
        add_legend(figure, every, scale_of(values), label, shrink=0.9, pad=0.015)

    return _Part(height, draw_on)


def _changed_maps(contrast: Contrast) -> tuple[list[Tensor], list[str]]:
    """Where the query decides, all in all and by each word that differs; and titles."""
    maps, titles = [contrast.by_query().flatten()], ["all in all"]
    if contrast.candidates[0].kind == TEXT:
        changed = [change for change in contrast.changes() if change.is_changed]
        for change in sorted(changed, key=lambda c: -abs(c.total))[:3]:
            maps.append(change.values.flatten())
            titles.append(f"{change.preferred or '–'} / {change.other or '–'}")
    totals = [signed(float(each.sum())) for each in maps]
    return maps, [f"{title}: {total}" for title, total in zip(titles, totals)]


# ---- classification --------------------------------------------------------


def _probabilities(zero_shot: ZeroShot) -> _Part:
    top = zero_shot.top(6)

    def draw_on(figure: Any) -> None:
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.75])
        _show(left, zero_shot.input, _as_seen(zero_shot.input))
        right.barh(range(len(top)), [share for _, share in top], color="0.35")
        for row, (_, share) in enumerate(top):
            right.annotate(
                f"{share:.1%}",
                (share, row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        names = [in_text(wrapped(name, 150, 9)) for name, _ in top]
        right.set_yticks(range(len(top)), [drawn for drawn, _ in names])
        for label, (_, how) in zip(right.get_yticklabels(), names):
            label.set(fontsize=9, **how)
        right.invert_yaxis()
        right.set_xlim(0, max(share for _, share in top) * 1.15 or 1)
        right.tick_params(axis="x", labelsize=8)
        right.tick_params(axis="y", length=0)
        right.spines[["top", "right", "left"]].set_visible(False)
        add_title(right, "the most probable classes")

    return _Part(2.9, draw_on)


# ---- comparisons -----------------------------------------------------------


def _measured(compared: Compared) -> str:
    """A method's name and measures, in lines."""
    whole = compared.faithfulness
    lines = [compared.method.replace("_", " ")]
    if whole is not None:
        lines.append(f"faithfulness {whole:.2f}")
    lines.append(f"of pairs alone {compared.faithfulness_of_pairs:.2f}")
    return "\n".join([*lines, f"{compared.seconds:.2g} s"]).replace("-", "−")


def _strongest_groups(
    explanations: Sequence[PairExplanation], at: int, number: int
) -> list[tuple[int, ...]]:
    """The words whose attributions are largest, over all methods, each method's table
    divided by its norm; of an image the strongest regions by the first method."""
    asked = (explanations[0].first, explanations[0].second)[at]
    if asked.has_regions:
        matches = explanations[0].top_pairs(number)
        groups = [_group(match, at) for match in matches]
        return list(dict.fromkeys(groups)) or [tuple(range(asked.count))]
    sizes = torch.zeros(asked.count, dtype=torch.float64)
    for explanation in explanations:
        table = explanation.interactions.double()
        table = (table if at == 0 else table.T)[: asked.count]
        sizes += table.norm(dim=1) / table.norm().clamp_min(1e-30)
    return [(i,) for i in _strongest(sizes, asked.content, number)]


def _group_name(side: ExplainedInput, group: Sequence[int]) -> str:
    return side.names[group[0]] if side.kind == TEXT else _place(side, group)


def _group_maps(
    explanation: PairExplanation, at: int, groups: Sequence[Sequence[int]]
) -> list[Tensor]:
    table = explanation.interactions if at == 0 else explanation.interactions.T
    shown = (explanation.first, explanation.second)[1 - at]
    return [table[list(group), : shown.count].double().sum(0) for group in groups]


def _group_header(side: ExplainedInput, groups: Sequence[Sequence[int]]) -> _Part:
    """Where the regions are that the columns belong to."""
    canvas = _canvas(side)

    def draw_on(figure: Any) -> None:
        _, every = _row(figure, "the first image", len(groups))
        for axes, group in zip(every, groups):
            canvas.frame.draw_original(axes)
            if (box := _around(side, group)) is not None:
                outline(axes, box)

    return _Part(_row_height(len(groups), canvas.ratio), draw_on)


def _labelled_maps(
    label: str, shown: ExplainedInput, maps: Sequence[Tensor], titles: Sequence[str]
) -> _Part:
    canvas = _canvas(shown)

    def draw_on(figure: Any) -> None:
        place, every = _row(figure, label, len(maps))
        visualization.visualize_image_attr_per_word(
            torch.stack([shown.shaped(each) for each in maps]),
            titles,
            canvas.image,
            plt_fig_axis=(place, every),
            titles=titles,
            show_colorbar=False,
            use_pyplot=False,
            boxes=canvas.boxes,
            extent=canvas.extent,
            aspect=canvas.aspect,
        )

    return _Part(_row_height(len(maps), canvas.ratio), draw_on)


def _labelled_matrix(label: str, explanation: PairExplanation) -> _Part:
    part = _matrix(explanation)

    def draw_on(figure: Any) -> None:
        left, right = figure.subfigures(1, 2, width_ratios=[_LABEL, _WIDTH - _LABEL])
        _write_label(left, label)
        part.draw(right)

    return _Part(part.height, draw_on)


def _row(figure: Any, label: str, number: int) -> tuple[Any, list[Axes]]:
    """A label on the left and so many axes."""
    left, right = figure.subfigures(1, 2, width_ratios=[_LABEL, _WIDTH - _LABEL])
    _write_label(left, label)
    return right, list(right.subplots(1, number, squeeze=False).flat)


def _row_height(number: int, ratio: float) -> float:
    return min((_WIDTH - _LABEL) / number, 2.4) * ratio + 0.3


def _write_label(figure: Any, label: str) -> None:
    name, *rest = label.split("\n")
    figure.text(0.06, 0.55, name, fontsize=10, weight="bold", va="bottom")
    figure.text(0.06, 0.5, "\n".join(rest), fontsize=9, va="top", color="0.3")
