"""What is in the report, by study."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional, TYPE_CHECKING, Union

import numpy as np
import pyarrow
from captum_pairs.grounding.comparing import compare
from captum_pairs.grounding.report.charts import (
    Bar,
    distribution,
    intervals,
    matrix,
    points,
)
from captum_pairs.grounding.report.drawing import Drawing
from captum_pairs.grounding.report.wording import heading, MEASURES, said, SCORES, share
from captum_pairs.grounding.studies.failures import CAUSES
from captum_pairs.grounding.studies.grounding import UP_TO
from captum_pairs.grounding.studies.summaries import by_group, Estimate, Resampling

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = ["Content", "content_of", "Figure", "Group", "Section", "Sheet", "Tile"]

# What a figure has room for.
_BARS, _NAMES = 30, 16
_LEAST_IMAGES = 10
_NULLS = {
    "model": "this model",
    "chance": "chance",
    "center": "the middle",
    "other": "other words",
    "permuted": "shuffled model",
}
_MORE = {1: "more", -1: "less"}
# Of two that are compared, one or the other.
_EVEN = {"score_lower": 0.5, "wrong_below_right": 0.5}


@dataclass(frozen=True)
class Tile:
    """A headline figure: a share, or a number without a scale."""

    bar: Bar
    words: str
    other: str = "by chance"
    is_share: bool = True


@dataclass(frozen=True)
class Group:
    """Names that have something in common, for the first glance."""

    title: str
    text: str
    names: Sequence[str]
    kind: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing, also written beside the report by its name."""

    name: str
    title: str
    drawing: Drawing
    text: str = ""


@dataclass(frozen=True)
class Sheet:
    """A table, also written beside the report by its name."""

    name: str
    title: str
    table: pyarrow.Table
    text: str = ""
    is_open: bool = True


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    name: str
    title: str
    text: str
    blocks: Sequence[Union[Figure, Sheet]]
    on_screen: str = ""  # said of what paper can't do


@dataclass
class Content:
    """All of it but the examples."""

    tiles: list[Tile] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    changes: list[Group] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)


def content_of(
    results: "Results",
    tables: Mapping[str, pyarrow.Table],
    against: Optional["Results"],
) -> Content:
    """
    Args:
        tables: of the results.
        against: an earlier run.
    """
    if not len(results):
        return Content()
    made = _Maker(results, tables)
    content = Content(made.tiles(), made.groups())
    content.sections += made.classes()
    if against is not None:
        compared = compare(against, results)
        content.changes = _changes(compared, made.measure)
        content.sections += _change_sections(compared, made.measure, against, results)
    content.sections += [*made.causes(), *made.contexts(), *made.areas()]
    content.sections += made.nulls()
    content.sections += [*made.sizes(), *made.distributions(), *made.others()]
    return content


def _bars(
    table: pyarrow.Table, label: str, value: str, other: str = "", ends: str = ""
) -> list[Bar]:
    """A bar for each row; `ends` is how the interval's columns begin, if they begin
    otherwise."""
    start = ends or f"{value}_"
    return [
        Bar(
            str(row[label]),
            row[value],
            row.get(f"{start}low"),
            row.get(f"{start}high"),
            row.get(other),
        )
        for row in table.to_pylist()
    ]


def _bar(label: str, estimate: Estimate, other: Optional[float] = None) -> Bar:
    (low,), (high,) = estimate.interval()
    return Bar(label, _plain(estimate.value[0]), _plain(low), _plain(high), other)


def _bar_of(row: Mapping[str, Any], *names: str) -> Bar:
    """From a table's row: the columns of the label, the value, its interval's ends and
    what it is set against."""
    label, value, low, high, other = (row[name] for name in names)
    return Bar(str(label), value, low, high, other)


def _recalled(row: Mapping[str, Any]) -> str:
    to_image = row["direction"] == "text to image"
    what = "pictures" if to_image else "captions"
    of, found = ("caption", "picture") if to_image else ("picture", "caption")
    number = row["images"] if to_image else row["texts"]
    first = (
        "the first" if row["recall_at"] == 1 else f"one of the first {row['recall_at']}"
    )
    return f"of the {of}s: a {found} that belongs to it is {first} of {number} {what}"


def _plain(value: Any) -> Optional[float]:
    return None if value is None or value != value else float(value)


class _Maker:
    """The parts, as far as a study has what they are made of."""

    def __init__(self, results: "Results", tables: Mapping[str, pyarrow.Table]) -> None:
        self.results, self.tables = results, tables
        self.study = results.study
        self.columns = self.study.columns
        self.resampling = Resampling(results.column("group"))
        first = next(iter(self.study.compared), "")
        measure = getattr(self.study, "measure", "hit")
        # what classes are judged by, and its chance
        self.measure = f"word_{measure}" if self.study.name == "gaps" else first
        self.chance = "chance_overlap" if "overlap" in self.measure else "chance"
        if self.chance not in self.columns:
            self.chance = "chance_overlap" if self.has("chance_overlap") else ""
        self.used: set[str] = set()

    def has(self, *names: str) -> bool:
        return all(name in self.columns for name in names)

    def said(self, name: str) -> str:
        return said(self.study, name)

    def mean(self, name: str, where: Any = None) -> Estimate:
        values = np.asarray(self.results.column(name), dtype=float)
        return self.resampling.mean(
            values if where is None else np.where(where, values, np.nan)
        )

    # ---- the first glance --------------------------------------------------

    def tiles(self) -> list[Tile]:
        if "recall" in self.tables:
            return [
                Tile(
                    _bar_of(row, "direction", "value", "low", "high", "chance"),
                    _recalled(row),
                )
                for row in self.tables["recall"].to_pylist()
                if row["recall_at"] in (1, 10)
            ]
        if "causes" in self.tables:
            return self._of_causes()
        if "areas" in self.tables:
            return self._of_areas()
        names = list(self.study.compared)
        if self.study.name == "grounding":
            names = ["hit", "energy_overlap", "word_hit"]
        elif self.study.name == "gaps":
            measure = self.measure.removeprefix("word_")
            names = [self.measure, f"phrase_{measure}"]
        return [self._tile(name) for name in names[:4]]

    def _tile(self, name: str) -> Tile:
        other, words = None, self.said(name)
        there = np.isfinite(self.results.column(name))
        chance = _EVEN.get(name)
        if chance is None:
            of = "chance_overlap" if "overlap" in name else self.chance
            of = {"lowest": "lowest_chance", "wrong_negative": ""}.get(name, of)
            if of and self.has(of):
                other = _plain(self.mean(of, there).value[0])
        else:
            other = chance
        if name.endswith("hit"):
            words = f"of the objects are found: {words}"
        return Tile(
            _bar(name, self.mean(name), other), words, is_share=name not in SCORES
        )

    def _of_causes(self) -> list[Tile]:
        bad = np.array(self.tables["objects"]["badly_grounded"], dtype=float)
        tiles = [
            Tile(
                _bar("badly grounded", self.resampling.mean(bad)),
                "of all objects are badly grounded: the place that the words matched "
                "most lies outside of the object",
            )
        ]
        rows = [r for r in self.tables["causes"].to_pylist() if r["badly_grounded"]]
        # of a cause, not of its kinds too
        rows = [row for row in rows if row["kind"] in (*CAUSES, "unexplained")]
        rows.sort(key=lambda row: -(row["lift"] or 0.0))
        for row in rows[:3]:
            words = (
                "of the badly grounded are unexplained: no cause that was measured"
                if row["kind"] == "unexplained"
                else f"of the badly grounded: {row['kind']}"
            )
            bar = _bar_of(row, "kind", "rate", "rate_low", "rate_high", "base_rate")
            tiles.append(Tile(bar, words, "among the well grounded"))
        return tiles

    def _of_areas(self) -> list[Tile]:
        tiles = []
        rows = self.tables["areas"].to_pylist()
        for area in ("image_insertion", "text_insertion"):
            best = max(rows, key=lambda row: row[area] or 0.0)
            random = next(row for row in rows if row["order"] == "random")
            bar = Bar(
                area,
                best[area],
                best[f"{area}_low"],
                best[f"{area}_high"],
                random[area],
            )
            name = f"{best['method'].replace('_', ' ')}, {best['order']}"
            words = f"{MEASURES[area]}; best order: {name}"
            tiles.append(Tile(bar, words, "in random order", is_share=False))
        return tiles

    def groups(self) -> list[Group]:
        table = self.by_class()
        if table is None:
            return []
        rows = table.to_pylist()
        if self.study.name == "gaps":
            found = []
            for verdict, title, text in (
                ("unknown", "Not known", "not told from chance"),
                ("shaky", "Shaky", "above chance, and below the other classes"),
                ("known", "Known", "above chance, and not below the others"),
                ("too few", "Too few to tell", "in under ten pictures"),
            ):
                names = [row["label"] for row in rows if row["verdict"] == verdict]
                if names or verdict != "too few":
                    found.append(Group(title, text, names, verdict))
            return found
        if self.study.classes != "label":
            return []
        rows = [row for row in rows if row["images"] >= _LEAST_IMAGES]
        rows = [row for row in rows if row[self.measure] is not None]
        rows.sort(key=lambda row: float(row[self.measure]))
        if len(rows) < 2:
            return []
        few = min(5, len(rows) // 2)
        said = [
            f"{row[self.study.classes]} ({share(row[self.measure])})" for row in rows
        ]
        return [
            Group("Weakest", "of those in ten pictures or more", said[:few], "unknown"),
            Group("Strongest", "of the same", said[: -few - 1 : -1], "known"),
        ]

    # ---- classes -----------------------------------------------------------

    def by_class(self) -> Optional[pyarrow.Table]:
        """A row for each class, the study's own or made of its records."""
        for name in ("classes", "kinds"):
            if name in self.tables:
                return self.tables[name]
        name = self.study.classes
        if not name or self.study.name == "faithfulness":
            return None
        measures = dict.fromkeys([*self.study.compared, *filter(None, [self.chance])])
        values = {each: self.results.column(each) for each in measures}
        return by_group(self.resampling, name, self.results.column(name), values)

    def _worst_first(self, table: pyarrow.Table) -> pyarrow.Table:
        if self.study.name == "gaps" or self.measure not in table.column_names:
            return table
        return table.sort_by(self.measure)

    def classes(self) -> Iterator[Section]:
        table = self.by_class()
        if table is None:
            return
        label = table.column_names[0]
        value, chance = self.measure, self.chance
        if self.study.name == "gaps":
            value, chance = "word_g", ""
        bars = _bars(table, label, value, chance)
        if value in _EVEN:
            bars = [replace(bar, other=_EVEN[value]) for bar in bars]
        bars.sort(key=lambda bar: 9.0 if bar.value is None else bar.value)
        text = "" if len(bars) <= _BARS else f"The {_BARS} lowest of {len(bars)}; "
        words = "0 is chance, 1 all"
        if self.study.name == "gaps":
            text += (
                "of the class word alone, above chance: 0 % is what chance gives, and "
                "100 % that nothing is missed; intervals hold for all classes at once, "
                "and are there for classes in ten pictures or more"
            )
        else:
            text += self.said(value)
            words = "chance"
        title = "How well each class is found"
        kind = heading(label)
        if self.study.classes != "label":
            title = f"By {kind}"
        drawing = intervals(bars[:_BARS], title, words)
        blocks: list[Union[Figure, Sheet]] = [
            Figure("classes", title, drawing, f"{_upper(text)}."),
            Sheet("classes", "In numbers", self._worst_first(table)),
        ]
        self.used |= {"classes", "kinds"}
        blocks += self._against_training()
        yield Section(
            "classes",
            f"{kind} by {kind}".capitalize(),
            "Sorted from the worst to the best.",
            blocks,
            "Every column can be sorted by, and rows can be searched by their words.",
        )

    def _against_training(self) -> Iterator[Union[Figure, Sheet]]:
        if "against_training" not in self.tables:
            return
        table = self.tables["classes"]
        seen = np.array(table["trained_on"], dtype=float)
        g = np.array(table["word_g"].to_pylist(), dtype=float)
        title = "What was seen, and what is known"
        drawing = points(
            seen,
            g,
            table["label"].to_pylist(),
            title,
            ("times in the training data", "class word, above chance"),
        )
        yield Figure("training", title, drawing, "A point for each class.")
        self.used.add("against_training")
        yield Sheet(
            "against_training",
            "How far what was seen explains what is known",
            self.tables["against_training"],
        )

    def areas(self) -> Iterator[Section]:
        """Of insertion and deletion, by what features are ordered by."""
        if "areas" not in self.tables:
            return
        table = self.tables["areas"]
        self.used.add("areas")
        rows = table.to_pylist()
        random: dict[str, Any] = next(
            (row for row in rows if row["order"] == "random"), {}
        )
        blocks: list[Union[Figure, Sheet]] = []
        for area, better in self.study.compared.items():
            bars = [
                Bar(
                    f"{row['order']}, {row['method'].replace('_', ' ')}",
                    row[area],
                    row[f"{area}_low"],
                    row[f"{area}_high"],
                    random.get(area),
                )
                for row in rows
                if row["order"] != "random"
            ]
            title = f"{_upper(area.replace('_', ' '))}: {_MORE[better]} is better"
            drawing = intervals(bars, title, "random order", is_share=False)
            text = f"{_upper(MEASURES[area])}."
            blocks.append(Figure(f"areas-{area}", title, drawing, text))
        blocks.append(Sheet("areas", "In numbers", table))
        yield Section(
            "areas",
            "What the score depends on",
            "Parts of one input are put in, or taken out, the most important first, "
            "while the other input is whole. The sooner the score follows, the better "
            "the order.",
            blocks,
        )

    # ---- why ---------------------------------------------------------------

    def causes(self) -> Iterator[Section]:
        if "causes" not in self.tables:
            return
        table = self.tables["causes"]
        self.used |= {"causes", "examples", "objects"}
        bars = _bars(table, "kind", "rate", "base_rate")
        title = "Causes, among the badly and the well grounded"
        drawing = intervals(bars, title, "among the well grounded")
        yield Section(
            "causes",
            "Why it fails",
            "Several causes may hold of one object. A cause that is as frequent among "
            "the well grounded explains nothing.",
            [
                Figure("causes", title, drawing, "Of the badly grounded objects."),
                Sheet("causes", "Causes in numbers", table),
            ],
        )

    def contexts(self) -> Iterator[Section]:
        if "matrix" not in self.tables:
            return
        table = self.tables["matrix"]
        self.used.add("matrix")
        rows = table.to_pylist()
        if not rows:
            return
        # the strongest pairs' classes; what else is known of these
        names: list[str] = []
        for row in rows:
            fresh = [n for n in (row["label"], row["other"]) if n not in names]
            if len(names) + len(fresh) <= _NAMES:
                names += fresh
        names.sort()
        cells = {
            (row["label"], row["other"]): row["lift"]
            for row in rows
            if row["lift"] is not None and {row["label"], row["other"]} <= set(names)
        }
        title = "Which class's words light which other things"
        yield Section(
            "contexts",
            "What is mixed up",
            "Of words of one class (rows), what they matched in things of another one "
            "(columns), per area, as a multiple of what all other words matched there: "
            "above 1 they light it more than others do.",
            [
                Figure("contexts", title, matrix(names, cells, title)),
                Sheet(
                    "matrix",
                    "The strongest pairs",
                    table,
                    "By the lower end of the interval.",
                ),
            ],
        )

    def nulls(self) -> Iterator[Section]:
        """Of what knows nothing the same measures as of the model."""
        rows = self.tables["figures"].to_pylist() if self.has("hit_center") else []
        figures = []
        for measure in ("hit", "energy") if rows else ():
            values = {row["of"]: row for row in rows if row["measure"] == measure}
            bars = [
                Bar(words, values[of]["value"], values[of]["low"], values[of]["high"])
                for of, words in _NULLS.items()
            ]
            title = _upper(self.said(measure))
            figures.append(Figure(f"nulls-{measure}", title, intervals(bars, title)))
        if figures:
            yield Section(
                "nulls",
                "Against what knows nothing",
                "The same objects, found by chance; by a map that only knows that "
                "things are in the middle; by words of another picture on this one; "
                "and by the model with its parameters in random order.",
                figures,
            )

    # ---- sizes and distributions -------------------------------------------

    def sizes(self) -> Iterator[Section]:
        if not self.has("area", self.measure):
            return
        table = self.tables.get("sizes")
        if table is None:
            area = self.results.column("area")
            names = dict.fromkeys(filter(None, [self.measure, *self._overlap()]))
            names |= dict.fromkeys(filter(None, [self.chance]))
            values = {name: self.results.column(name) for name in names}
            groups = UP_TO[np.searchsorted(UP_TO[:-1], area)]
            table = by_group(self.resampling, "area up to", groups, values)
        self.used.add("sizes")
        blocks: list[Union[Figure, Sheet]] = []
        for name in dict.fromkeys([self.measure, *self._overlap()[:1]]):
            chance = "chance_overlap" if "overlap" in name else self.chance
            if name not in table.column_names:
                continue
            bars = [
                Bar(f"up to {share(float(bar.label))}", *_rest(bar))
                for bar in _bars(table, "area up to", name, chance)
            ]
            title = _upper(self.said(name))
            blocks.append(Figure(f"sizes-{name}", title, intervals(bars, title)))
        blocks.append(Sheet("sizes", "Sizes in numbers", table, is_open=False))
        yield Section(
            "sizes",
            "Small and large objects",
            "By the share of the picture that the object has. Chance grows with it, so "
            "what counts is how far a value is from its chance.",
            blocks,
        )

    def _overlap(self) -> list[str]:
        names = ["energy_overlap", "word_energy_overlap"]
        there = [name for name in names if self.has(name)]
        return [*there[:1], "chance_overlap"] if there else []

    def distributions(self) -> Iterator[Section]:
        figures = []
        # rows of several orders are not to be mixed
        for name, chance in () if "areas" in self.tables else self._distributed():
            values = self.results.column(name)
            behind = self.results.column(chance) if chance else None
            title = _upper(self.said(name))
            drawing = distribution(values, behind, title, is_share=name not in SCORES)
            figures.append(Figure(f"distribution-{name}", title, drawing))
        if figures:
            yield Section(
                "distributions",
                "Not only means",
                "How many rows have which value.",
                figures,
            )

    def _distributed(self) -> Iterator[tuple[str, str]]:
        for name in dict.fromkeys([*self.study.compared, "score"]):
            if self.has(name) and ("overlap" in name or not self._is_yes_or_no(name)):
                if "energy" in name and "overlap" not in name:
                    continue  # by overlap it is there for every object
                chance = "chance_overlap" if "overlap" in name else ""
                yield name, chance if chance and self.has(chance) else ""

    def _is_yes_or_no(self, name: str) -> bool:
        values = self.results.column(name)
        values = values[np.isfinite(values)]
        return (
            bool(np.isin(values, (0.0, 0.5, 1.0)).mean() > 0.9) if len(values) else True
        )

    def others(self) -> Iterator[Section]:
        """Tables that nothing above has shown."""
        sheets: list[Union[Figure, Sheet]] = []
        for name, table in self.tables.items():
            if name not in self.used:
                title = _upper(name.replace("_", " "))
                sheets.append(Sheet(name, title, table, is_open=not sheets))
        if sheets:
            text = "Every figure of the study, with what it is set against."
            yield Section("figures", "All figures", text, sheets)


def _rest(bar: Bar) -> tuple[Optional[float], ...]:
    return bar.value, bar.low, bar.high, bar.other


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---- before and after --------------------------------------------------------


def _changes(compared: Mapping[str, pyarrow.Table], measure: str) -> list[Group]:
    if "classes" not in compared:
        return []
    rows = [r for r in compared["classes"].to_pylist() if r["measure"] == measure]
    found = []
    for verdict, title, text, kind in (
        ("improved", "Improved", "better than before, by more than chance", "known"),
        ("forgotten", "Forgotten", "worse than before, by more than chance", "unknown"),
        ("not told", "No change told", "as far as these pictures can show", ""),
        ("too few", "Too few to tell", "in under ten pictures", ""),
    ):
        names = [row["class"] for row in rows if row["verdict"] == verdict]
        if names or kind:
            found.append(Group(title, text, names, kind))
    return found


def _change_sections(
    compared: Mapping[str, pyarrow.Table],
    measure: str,
    before: "Results",
    after: "Results",
) -> Iterator[Section]:
    blocks: list[Union[Figure, Sheet]] = []
    overall = compared["overall"]
    for name, table, label in (
        ("overall", overall, "measure"),
        ("classes", compared.get("classes"), "class"),
    ):
        if table is None:
            continue
        rows = table.to_pylist()
        if name == "classes":
            rows = [row for row in rows if row["measure"] == measure]
        rows = [row for row in rows if row["difference"] is not None]
        rows.sort(key=lambda row: -abs(row["difference"]))
        title = "Before and after, all rows"
        if name == "classes":
            title = "Before and after, class by class"
        bars = [
            Bar(
                str(row[label]).replace("_", " ") if name == "overall" else row[label],
                row["after"],
                _moved(row, "low"),
                _moved(row, "high"),
                row["before"],
            )
            for row in rows[:_BARS]
        ]
        text = said(after.study, measure) if name == "classes" else ""
        is_share = not SCORES & ({row["measure"] for row in rows})
        drawing = intervals(bars, title, "before", True, is_share)
        blocks.append(Figure(f"change-{name}", title, drawing, _upper(text)))
    for name, title in (
        ("overall", "Changes, all rows"),
        ("classes", "Changes, class by class"),
        ("rows", "Rows that were compared"),
    ):
        if name in compared:
            is_open = name != "rows"
            blocks.append(Sheet(f"change-{name}", title, compared[name], "", is_open))
    yield Section(
        "change",
        "What changed",
        f"From {before.plan['model']} over {before.plan['data']['name']} (before) to "
        f"{after.plan['model']} over {after.plan['data']['name']} (after). The line "
        "through a point is the interval of the difference, put at the value before: "
        "where it reaches that, no change is told.",
        blocks,
    )


def _moved(row: Mapping[str, Any], end: str) -> Optional[float]:
    """An end of the difference's interval, as a value after."""
    if row[end] is None or row["before"] is None:
        return None
    return float(row["before"] + row[end])
