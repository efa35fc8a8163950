"""The report's figures: rows of intervals, distributions, a matrix, points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import Optional

import numpy as np
from captum_pairs.grounding.report.drawing import Drawing, fitted, SMALL, TEXT, width_of
from captum_pairs.grounding.report.wording import number, share
from numpy.typing import NDArray

__all__ = ["Bar", "distribution", "intervals", "matrix", "points", "strip"]

Floats = NDArray[np.float64]
WIDTH = 400.0
_ROW = 24.0
# So many points have their names beside them, and so much room.
_NAMED, _WIDEST = 14, 90.0


@dataclass(frozen=True)
class Bar:
    """
    One row of :func:`intervals`.

    Args:
        label: what it is of.
        value, low, high: with its interval; None, where there is none.
        other: what it is set against: chance, or the value before.
    """

    label: str
    value: Optional[float]
    low: Optional[float] = None
    high: Optional[float] = None
    other: Optional[float] = None


class _Axis:
    """From values to places."""

    def __init__(
        self,
        values: Sequence[Optional[float]],
        left: float,
        right: float,
        is_share: bool = True,
    ) -> None:
        there = [v for v in values if v is not None and isfinite(v)]
        low, high = min([0.0, *there]), max([0.0, *there])
        self.is_share = is_share and low >= -1 and high <= 1
        if high <= low:
            high = low + 1.0
        # as many ticks as have room for their numbers
        most = max(1, min(4, int(abs(right - left) // 45)))
        self.step = _nice((high - low) / most)
        self.low = floor(low / self.step + 1e-9) * self.step
        self.high = ceil(high / self.step - 1e-9) * self.step
        self.left, self.right = left, right

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)

    def said(self, value: float) -> str:
        return share(value) if self.is_share else number(value)

    def ticks(self) -> list[float]:
        count = round((self.high - self.low) / self.step)
        return [self.low + at * self.step for at in range(count + 1)]

    def draw(self, drawing: Drawing, top: float, bottom: float) -> None:
        for tick in self.ticks():
            x = self(tick)
            drawing.line(x, top, x, bottom, "line")
            # a tick in the middle of floating point's noise is zero
            shown = 0.0 if abs(tick) < self.step / 1e6 else tick
            said = self.said(shown)
            drawing.text(x, bottom + 16, said, "soft", "middle", SMALL)


def _nice(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** floor(log10(step))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= step * 0.999))


def _key(drawing: Drawing, entries: Sequence[tuple[str, str]], y: float = 14) -> None:
    """What marks stand for: a mark each, and words."""
    x = 6.0
    for mark, words in entries:
        if mark == "tick":
            drawing.line(x, y - 11, x, y + 3, "chance", 2)
        elif mark in ("found", "chance"):
            opacity = 0.75 if mark == "found" else 0.35
            role = "accent" if mark == "found" else "chance"
            drawing.box(x - 4, y - 9, 10, 10, role, opacity)
        else:
            drawing.dot(x, y - 4, "accent", 4, hollow=mark == "hollow")
        drawing.text(x + 10, y, words, "soft", size=SMALL)
        x += 28 + width_of(words, SMALL)


def intervals(
    bars: Sequence[Bar],
    title: str,
    other: str = "chance",
    is_change: bool = False,
    is_share: bool = True,
) -> Drawing:
    """
    A row for each bar: the value with its interval, and what it is set against.

    Args:
        other: what that is.
        is_change: it is drawn as the start of a line to the value.
        is_share: values are shares of a whole.
    """
    longest = max((width_of(fitted(bar.label, 206), TEXT) for bar in bars), default=0)
    left, right = min(max(longest + 16, 90.0), 222.0), WIDTH - 62
    values = [value for bar in bars for value in (bar.value, bar.other)]
    ends = [end for bar in bars for end in (bar.low, bar.high)]
    if is_share and _Axis(values, left, right).is_share:
        # an interval is drawn as far as a share can be
        ends = [None if end is None else min(max(end, -1.0), 1.0) for end in ends]
    axis = _Axis([*values, *ends], left, right, is_share)
    top = 28.0
    bottom = top + _ROW * len(bars)
    drawing = Drawing(WIDTH, bottom + 24, _said(bars, title, other, axis))
    entries = [("dot", "after, 95 % interval" if is_change else "95 % interval")]
    if any(bar.other is not None for bar in bars):
        entries.append(("hollow" if is_change else "tick", other))
    _key(drawing, entries)
    axis.draw(drawing, top, bottom)
    for at, bar in enumerate(bars):
        y = top + _ROW * (at + 0.5)
        label = fitted(bar.label, left - 16)
        drawing.text(left - 10, y + 4, label, anchor="end")
        if bar.value is None:
            drawing.text(WIDTH - 4, y + 4, "–", "soft", "end")
            continue
        if bar.other is not None and is_change:
            drawing.line(axis(bar.other), y, axis(bar.value), y, "soft", 1.5)
            drawing.dot(axis(bar.other), y, "accent", 4, hollow=True)
        if bar.low is not None and bar.high is not None:
            low, high = max(bar.low, axis.low), min(bar.high, axis.high)
            drawing.line(axis(low), y, axis(high), y, "accent", 3)
        if bar.other is not None and not is_change:
            x = axis(bar.other)
            drawing.line(x, y - 8, x, y + 8, "chance", 2)
        drawing.dot(axis(bar.value), y, "accent", tip=_one(bar, other, axis))
        drawing.text(WIDTH - 4, y + 4, axis.said(bar.value), anchor="end")
    return drawing


def _one(bar: Bar, other: str, axis: _Axis) -> str:
    if bar.value is None:
        return f"{bar.label}: none"
    said = f"{bar.label}: {axis.said(bar.value)}"
    if bar.low is not None and bar.high is not None:
        said += f" ({axis.said(bar.low)} to {axis.said(bar.high)})"
    if bar.other is not None:
        said += f", {other} {axis.said(bar.other)}"
    return said


def _said(bars: Sequence[Bar], title: str, other: str, axis: _Axis) -> str:
    said = "; ".join(_one(bar, other, axis) for bar in bars[:12])
    more = f"; and {len(bars) - 12} more" if len(bars) > 12 else ""
    return f"{title}. {said}{more}."


def strip(bar: Bar, other: str = "chance") -> Drawing:
    """A share on a line from 0 to 1, for the headline."""
    drawing = Drawing(220, 22, _one(bar, other, _Axis([0, 1], 0, 1)))

    def x(value: float) -> float:
        return 8 + 204 * min(max(value, 0.0), 1.0)

    drawing.line(8, 11, 212, 11, "line", 4)
    if bar.low is not None and bar.high is not None:
        drawing.line(x(bar.low), 11, x(bar.high), 11, "accent", 4)
    if bar.other is not None:
        drawing.line(x(bar.other), 2, x(bar.other), 20, "chance", 2)
    if bar.value is not None:
        drawing.dot(x(bar.value), 11, "accent", 6)
    return drawing


def distribution(
    values: Floats,
    chance: Optional[Floats],
    title: str,
    bins: int = 20,
    is_share: bool = True,
) -> Drawing:
    """How many rows have which value; behind it the same of chance."""
    there = values[np.isfinite(values)]
    others = chance[np.isfinite(chance)] if chance is not None else np.zeros(0)
    every = [there.min(), there.max()] if len(there) else [0.0, 1.0]
    if len(others):
        every += [others.min(), others.max()]
    left, right, top, bottom = 40.0, WIDTH - 22, 28.0, 190.0
    axis = _Axis([float(v) for v in every], left, right, is_share)
    edges = np.linspace(axis.low, axis.high, bins + 1)
    counts = np.histogram(there, edges)[0]
    behind = np.histogram(others, edges)[0]
    most = max(1, int(counts.max()), int(behind.max()))
    median = axis.said(float(np.median(there))) if len(there) else "none"
    said = f"{title}. Of {len(there)}, half are below {median}."
    drawing = Drawing(WIDTH, bottom + 24, said)
    key = [("found", "found"), *([("chance", "chance")] if len(others) else [])]
    _key(drawing, key)
    axis.draw(drawing, top, bottom)
    scale = (bottom - top - 4) / most
    for which, role, opacity in ((behind, "chance", 0.35), (counts, "accent", 0.75)):
        for count, low, high in zip(which.tolist(), edges, edges[1:]):
            if count:
                x, width = axis(low) + 0.5, axis(high) - axis(low) - 1
                tip = f"{axis.said(low)} to {axis.said(high)}: {count}"
                height = count * scale
                drawing.box(x, bottom - height, width, height, role, opacity, tip)
    drawing.line(left, bottom, right, bottom, "soft")
    drawing.text(left - 6, top + 10, str(most), "soft", "end", SMALL)
    drawing.text(left - 6, bottom + 4, "0", "soft", "end", SMALL)
    return drawing


def matrix(
    names: Sequence[str], cells: Mapping[tuple[str, str], float], title: str
) -> Drawing:
    """
    Lifts: of the row's phrases, in the boxes of the column's class.

    Args:
        cells: by row and column; 1 is what others' phrases do.
    """
    side, left, top = 34.0, 110.0, 96.0
    width = max(left + side * len(names) + 12, 300.0)
    strongest = max(cells, key=lambda pair: cells[pair], default=None)
    said = title
    if strongest is not None:
        of, other = strongest
        said += f". Strongest: {of} in {other}, {number(cells[strongest])} times"
    drawing = Drawing(width, top + side * len(names) + 10, said)
    for at, name in enumerate(names):
        y = top + side * (at + 0.6)
        drawing.text(left - 8, y, fitted(name, left - 12), anchor="end")
        # steps, so that long names have room without being turned
        x, level = left + side * (at + 0.5), at % 3
        drawing.text(x, 50 + 18 * level, fitted(name, 3 * side - 6), anchor="middle")
        drawing.line(x, 54 + 18 * level, x, top - 2, "line")
    drawing.text(left - 8, 14, "words of …", "soft", "end", SMALL)
    drawing.text(left + 4, 14, "… light things of this class", "soft", size=SMALL)
    for row, of in enumerate(names):
        for column, other in enumerate(names):
            x, y = left + side * column, top + side * row
            lift = cells.get((of, other))
            if lift is None:
                drawing.box(x + 1, y + 1, side - 2, side - 2, "line", 0.35)
                continue
            strength = min(abs(np.log2(max(lift, 1e-6))) / 2, 1.0)
            role = "for" if lift > 1 else "against"
            tip = f"{of} in {other}: {number(lift)} times as much as others' words"
            box = (x + 1, y + 1, side - 2, side - 2)
            drawing.box(*box, role, round(0.05 + 0.5 * strength, 3), tip)
            shown = f"{lift:.1f}" if lift < 9.95 else f"{lift:.0f}"
            drawing.text(x + side / 2, y + side * 0.62, shown, "ink", "middle", SMALL)
    return drawing


def points(
    x: Floats, y: Floats, labels: Sequence[str], title: str, words: tuple[str, str]
) -> Drawing:
    """
    Points, the horizontal axis in powers of ten; a few have their names beside them.

    Args:
        words: what is on the horizontal axis, and on the vertical one.
    """
    left, right, top, bottom = 50.0, WIDTH - 20, 28.0, 260.0
    powers = np.log10(np.maximum(x, 0) + 1)
    most = max(1.0, float(np.ceil(powers.max()))) if len(powers) else 1.0
    axis = _Axis([float(v) for v in y], bottom, top)
    drawing = Drawing(WIDTH, bottom + 44, f"{title}, of {len(labels)} classes")
    for power in range(int(most) + 1):
        at = left + (right - left) * power / most
        drawing.line(at, top, at, bottom, "line")
        said = f"{10**power - 1:,}" if power < 1 else f"{10**power:,}"
        drawing.text(at, bottom + 16, said, "soft", "middle", SMALL)
    for tick in axis.ticks():
        drawing.line(left, axis(tick), right, axis(tick), "line")
        said = axis.said(0.0 if abs(tick) < 1e-9 else tick)
        drawing.text(left - 6, axis(tick) + 4, said, "soft", "end", SMALL)
    drawing.text(left, 14, words[1], "soft", size=SMALL)
    drawing.text(right, bottom + 34, words[0], "soft", "end", SMALL)
    places = [
        (left + (right - left) * float(each) / most, axis(float(value)), label)
        for each, value, label in zip(powers, y, labels)
        if isfinite(value)
    ]
    for at, down, label in places:
        drawing.dot(at, down, "accent", tip=label)
    if len(places) <= _NAMED:
        _name(drawing, places, right)
    return drawing


def _name(
    drawing: Drawing, places: Sequence[tuple[float, float, str]], right: float
) -> None:
    """What points are called, beside each; of those close to one another lower."""
    named: list[tuple[float, float]] = []
    for at, down, label in sorted(places, key=lambda place: place[1]):
        beside = [y for x, y in named if abs(x - at) < _WIDEST]
        y = max([down + 4, *(y + SMALL + 1 for y in beside)])
        named.append((at, y))
        fits = fitted(label, _WIDEST, SMALL)
        is_left = at + _WIDEST > right
        x, anchor = (at - 9, "end") if is_left else (at + 9, "start")
        drawing.text(x, y, fits, "ink", anchor, SMALL)
