"""Examples: which rows are shown, their pictures, and the page of each pair."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Optional, TYPE_CHECKING

import numpy as np
import pyarrow
from captum_pairs import model as models
from captum_pairs.grounding.data.row import Row
from captum_pairs.grounding.report.wording import share
from captum_pairs.grounding.study import Study
from captum_pairs.inputs import words_of
from captum_pairs.model import DualEncoder
from captum_pairs.models.photo import read_image
from captum_pairs.show.page import page_html
from numpy.typing import NDArray
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = ["Card", "Galleries", "Gallery", "galleries_of"]

Floats = NDArray[np.float64]

# By what objects are best and worst: a column, less another one.
_BY: Mapping[str, tuple[str, str]] = {
    "grounding": ("energy_overlap", "chance_overlap"),
    "gaps": ("word_energy_overlap", "chance_overlap"),
    "failures": ("energy_overlap", "chance_overlap"),
    "negatives": ("score", "score_negative"),
}
_SAID: Mapping[str, str] = {
    "energy_overlap": "in the object",
    "word_energy_overlap": "in the object",
    "chance_overlap": "by chance",
    "score": "score",
    "score_negative": "of the wrong caption",
}
_SIDE = 280
_FOR, _AGAINST = (232, 121, 12), (116, 70, 196)

CAUSES: Mapping[str, str] = {
    "coverage": "Small, cut by the edge, or covered by others",
    "unusual scene": "Unusual pictures, or things that are rarely together",
    "correlated context": "The words light up another thing that is often there",
    "unexplained": "None of the causes that were measured holds",
}


@dataclass
class Card:
    """
    One example.

    Args:
        place: of its row in the data.
        span: which of the row's spans; -1 for the row as a whole.
        texts: by name: "caption", "phrase", "label", "negative", as far as it has them.
        offsets: of the phrase in the caption.
        notes: what was measured.
        picture: as a data: address; "" if there is none.
        size: of the picture, in pixels.
        page: the name of the pair's page; "" if there is none.
        fragment: of the page's address, by which it shows the phrase.
        problem: why it has no picture or no page.
    """

    place: int
    span: int
    texts: Mapping[str, str]
    offsets: Optional[tuple[int, int]]
    notes: Sequence[tuple[str, Any]]
    picture: str = ""
    size: tuple[int, int] = (0, 0)
    page: str = ""
    fragment: str = ""
    problem: str = ""


@dataclass
class Gallery:
    """Examples of one kind."""

    name: str
    title: str
    text: str
    cards: list[Card]


@dataclass
class Galleries:
    """
    All of them.

    Args:
        pages: by name, the HTML of each pair's page.
        problem: why there are no pages.
    """

    galleries: list[Gallery]
    pages: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def galleries_of(
    results: "Results",
    tables: Mapping[str, pyarrow.Table],
    number: int,
    model: Optional[DualEncoder],
) -> Galleries:
    """
    The best and the worst rows, and the clearest of each cause.

    Args:
        number: of examples in each.
        model: which explains them. Default: the plan's, loaded by its name
    """
    found = Galleries(list(_chosen(results, tables, number)) if number else [])
    found.galleries = [each for each in found.galleries if each.cards]
    if found.galleries:
        _fill(found, results, model)
    return found


# ---- which -------------------------------------------------------------------


def _chosen(
    results: "Results", tables: Mapping[str, pyarrow.Table], number: int
) -> Iterator[Gallery]:
    study = results.study
    if study.name not in _BY or not len(results):
        return
    more, less = _BY[study.name]
    worth = results.column(more) - results.column(less)
    groups = results.column("group")
    asked = "class word" if _asks_word(study) else "phrase"
    by = f"what the {asked} matched in the object, and chance"
    if study.name == "negatives":
        by = "the two scores"
    for name, title, order in (
        ("worst", "The worst", np.argsort(worth, kind="stable")),
        ("best", "The best", np.argsort(-worth, kind="stable")),
    ):
        text = f"By the difference of {by}; of each picture once."
        chosen = _once(order[np.isfinite(worth[order])], groups, number)
        yield Gallery(name, title, text, _cards(results, chosen))
    if "examples" in tables:
        yield from _by_cause(results, tables["examples"], number)


def _asks_word(study: Study) -> bool:
    return study.name == "gaps" or getattr(study, "of", "phrase") == "word"


def _once(order: NDArray[Any], groups: NDArray[Any], number: int) -> list[int]:
    found: dict[str, int] = {}
    for at in order.tolist():
        found.setdefault(groups[at], at)
        if len(found) == number:
            break
    return list(found.values())


def _by_cause(
    results: "Results", examples: pyarrow.Table, number: int
) -> Iterator[Gallery]:
    """Of each cause the clearest of its kinds in turn."""
    places = dict(
        zip(
            zip(results.column("place").tolist(), results.column("span").tolist()),
            range(len(results)),
        )
        if examples.num_rows
        else ()
    )
    by_cause: dict[str, list[dict[str, Any]]] = {}
    for row in examples.to_pylist():
        by_cause.setdefault(row["cause"], []).append(row)
    for cause, rows in by_cause.items():
        rows.sort(key=lambda row: row["rank"])
        kinds: dict[tuple[int, int], list[str]] = {}
        for row in rows:
            kinds.setdefault((row["place"], row["span"]), []).append(row["kind"])
        first = list(kinds)[:number]
        cards = _cards(results, [places[key] for key in first])
        for card, key in zip(cards, first):
            card.notes = [("cause", ", ".join(kinds[key])), *card.notes]
        title = f"Badly grounded: {cause}"
        name = cause.replace(" ", "-")
        yield Gallery(name, title, f"{CAUSES.get(cause, cause)}.", cards)


_TEXTS = ("caption", "phrase", "label", "negative")


def _cards(results: "Results", chosen: Sequence[int]) -> list[Card]:
    """Of records of the rows that could be studied."""
    columns = results.study.columns
    measures = [name for name in _BY[results.study.name] if name in columns]
    texts = [name for name in _TEXTS if name == "caption" or name in columns]
    places = [name for name in ("span", "start", "end") if name in columns]
    names = dict.fromkeys(["place", *places, *texts, *measures])
    taken = pyarrow.array(chosen, pyarrow.int64())
    # one column at a time: of a million rows each is large, and what is kept is not
    kept = {name: results.select([name])[name].take(taken) for name in names}
    cards = []
    for row in pyarrow.table(kept).to_pylist():
        offsets = (row["start"], row["end"]) if "start" in row else None
        cards.append(
            Card(
                place=row["place"],
                span=row.get("span", -1),
                texts={name: row[name] for name in texts if row[name]},
                offsets=offsets,
                notes=[(_SAID[name], _noted(name, row[name])) for name in measures],
            )
        )
    return cards


def _noted(name: str, value: Any) -> Any:
    return value if "score" in name else share(value)


# ---- pictures and pages ------------------------------------------------------


def _fill(found: Galleries, results: "Results", model: Optional[DualEncoder]) -> None:
    model, found.problem = _model_of(results, model)
    explained: dict[int, Any] = {}
    for gallery in found.galleries:
        for card in gallery.cards:
            if card.place < 0:
                card.problem = "the row was studied in a pipeline of its own"
                continue
            try:
                _fill_one(found, card, results, model, explained)
            # whatever a model, or somebody's pictures, raise: the report says it
            except Exception as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                card.problem = lines[0]


def _model_of(
    results: "Results", model: Optional[DualEncoder]
) -> tuple[Optional[DualEncoder], str]:
    """The model of the results, or why there is none."""
    try:
        loaded = models.load(results.plan["model"]) if model is None else model
    except Exception as error:  # whatever it takes to load somebody's model
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return None, f"the model could not be loaded: {lines[0]}"
    if loaded.fingerprint != results.plan.get("weights", loaded.fingerprint):
        return None, f"the weights of {loaded.name} are not those that were studied"
    return loaded, ""


def _fill_one(
    found: Galleries,
    card: Card,
    results: "Results",
    model: Optional[DualEncoder],
    explained: dict[int, Any],
) -> None:
    row = results.row(card.place)
    if row.caption != card.texts.get("caption"):
        card.problem = "the data has another row in its place now"
        return
    image = read_image(row.image)
    card.picture, card.size = _drawn(image, row, card, None)
    if model is None:
        return
    if card.place not in explained:
        options = getattr(results.study, "options", {})
        several = [model.explain(row.image, row.caption, **options)]
        if row.negative is not None and "negative" in card.texts:
            several.append(model.explain(row.image, row.negative, **options))
        explained[card.place] = several[0]
        found.pages[f"{card.place}.html"] = page_html(several)
    card.page = f"{card.place}.html"
    explanation = explained[card.place]
    asked = _asked(results, row, card)
    if card.offsets is not None:
        card.offsets = asked
    features = words_of(explanation.second.features, asked)
    if features:
        card.fragment = "side=2&features=" + ".".join(map(str, features))
    card.picture, card.size = _drawn(image, row, card, (explanation, features))


def _asked(results: "Results", row: Row, card: Card) -> tuple[int, int]:
    """The words whose map the study measured."""
    if card.span >= 0:
        span = row.spans[card.span]
        of_word = _asks_word(results.study) and span.word
        return of_word if of_word else (span.start, span.end)
    if row.changed is not None and row.changed.right is not None:
        return row.changed.right
    return 0, len(row.caption)


def _drawn(
    image: Image.Image, row: Row, card: Card, read: Any
) -> tuple[str, tuple[int, int]]:
    """The picture in small, what the words matched, and the object's outline."""
    scale = _SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    if read is not None:
        # colours are seen on grey, as they are on the page
        explanation, features = read
        small = small.convert("L").convert("RGB")
        small = _heated(small, explanation, features, scale)
    draw = ImageDraw.Draw(small)
    for region in row.spans[card.span].regions if card.span >= 0 else ():
        if isinstance(region, np.ndarray):
            down, across = np.nonzero(region)
            edges: Any = across.min(), down.min(), across.max() + 1, down.max() + 1
        else:
            edges = region
        box = [round(float(edge) * scale) for edge in edges]
        box = [max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)]
        if box[0] + 4 < box[2] and box[1] + 4 < box[3]:
            draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline="black")
            inner = (box[0] + 1, box[1] + 1, box[2] - 2, box[3] - 2)
            draw.rectangle(inner, outline="white", width=2)
    file = BytesIO()
    small.save(file, format="JPEG", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return f"data:image/jpeg;base64,{data}", (width, height)


def _heated(
    small: Image.Image, explanation: Any, features: Sequence[int], scale: float
) -> Image.Image:
    side = explanation.first
    values = explanation.interactions[: side.count, list(features)].sum(1).tolist()
    most = max(map(abs, values), default=0.0) or 1.0
    pixels = np.asarray(small, dtype=float).copy()
    for feature, value in zip(side.features[: side.count], values):
        if feature.box is not None:
            left, top, right, bottom = (
                max(0, round(float(edge) * scale)) for edge in feature.box
            )
            opacity = 0.75 * abs(value) / most
            colour = np.array(_FOR if value > 0 else _AGAINST, dtype=float)
            part = pixels[top:bottom, left:right]
            part += opacity * (colour - part)
    return Image.fromarray(pixels.round().astype(np.uint8))
