"""The report as HTML; whatever is anybody's text is escaped on its way in."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, Optional, TYPE_CHECKING
from urllib.parse import quote

import pyarrow
from captum_pairs.grounding.report.charts import strip
from captum_pairs.grounding.report.content import (
    Content,
    Figure,
    Group,
    Section,
    Sheet,
    Tile,
)
from captum_pairs.grounding.report.drawing import escaped
from captum_pairs.grounding.report.galleries import Card, Galleries, Gallery
from captum_pairs.grounding.report.wording import (
    between,
    heading,
    number,
    QUESTIONS,
    share,
)

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = ["report_html"]

# Rows of a table that are shown; its file has all of them.
_SHOWN = 2000
# Kinds of reasons, and rows with errors, that are listed.
_LISTED = 50

_HOW = {
    "spans": "The model was given pictures with captions that name things in them. For "
    "every named thing it was asked which parts of the picture its words matched. If a "
    "model knows a thing, its words match where the thing is. Chance is what a map in "
    "random order would score: what is no better than chance is not known.",
    "negative": "The model was given pictures, each with a caption that is true and "
    "one in which something is wrong. A model that reads what it is given scores the "
    "wrong one lower, and does so because of the wrong word.",
    "": "The model was given pictures and their captions.",
}
_HOW_OF = {
    "faithfulness": "An attribution says how much each part of a picture and each word "
    "matters to how similar a model finds the two. If that is so, the similarity comes "
    "back soon when the parts are put in by that order, and is soon gone when they are "
    "taken out; a random order shows how soon without knowing anything.",
    "retrieval": "Every picture was compared with every caption. The share of those "
    "whose own partner is among the most similar is stated beside what guessing gives.",
}


def report_html(
    results: "Results",
    content: Content,
    galleries: Galleries,
    folder: str,
    against: Optional["Results"],
) -> str:
    """
    The whole file.

    Args:
        folder: what stands beside it, by its address.
    """
    plan, counts = results.plan, results.counts
    style = _part("report.css", "captum_pairs.show.page", "page.css")
    script = f'"use strict";\n(() => {{\n{_part("report.js")}}})();\n'
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; "
        f"style-src {_digest(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    sections = list(_sections(results, content, galleries, folder, against))
    failed = f", {counts['failed']:,} could not be" if counts["failed"] else ""
    subtitle = (
        f"{plan['model']} over {plan['data']['name']}: "
        f"{counts['done'] - counts['failed']:,} of {counts['planned']:,} rows studied"
        f"{failed}"
    )
    pieces = {
        "policy": policy,
        "title": escaped(f"What {plan['model']} knows"),
        "question": escaped(QUESTIONS.get(plan["study"], plan["study"])),
        "subtitle": escaped(subtitle),
        "style": style,
        "contents": "".join(
            f'<li><a href="#{name}">{escaped(title)}</a></li>'
            for name, title, _ in sections
        ),
        "body": "\n".join(
            f'<section id="{name}" aria-labelledby="{name}-title">'
            f'<h2 id="{name}-title">{escaped(title)}</h2>\n{body}\n</section>'
            for name, title, body in sections
        ),
        "script": script,
    }
    first, *others = _part("template.html").split("{{")
    page = [first]
    for piece in others:
        name, rest = piece.split("}}", 1)
        page += [pieces[name], rest]
    return "".join(page)


def _part(name: str, *before: str) -> str:
    """A file of this package, after one of another."""
    found = files(__package__).joinpath(name).read_text(encoding="utf-8")
    if before:
        package, other = before
        found = files(package).joinpath(other).read_text(encoding="utf-8") + found
    return found


def _digest(text: str) -> str:
    """By which a content security policy allows this text only."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _sections(
    results: "Results",
    content: Content,
    galleries: Galleries,
    folder: str,
    against: Optional["Results"],
) -> Iterator[tuple[str, str, str]]:
    """Of each its name, title and HTML."""
    yield "glance", "At a glance", _glance(results, content)
    parts = [(s.name, s.title, _section(s, folder)) for s in content.sections]
    if galleries.galleries:
        body = _galleries(galleries, folder)
        # after classes and changes, before what is for those who read on
        first = ("classes", "change", "causes")
        at = sum(name in first for name, _, _ in parts)
        parts.insert(at, ("examples", "Examples", body))
    yield from parts
    yield "made", "How this was made", _made(results, against)


# ---- the first glance --------------------------------------------------------


def _glance(results: "Results", content: Content) -> str:
    needs = next(iter(results.study.needs), "")
    said = _HOW_OF.get(results.study.name, _HOW[needs])
    how = f'<p class="lead">{escaped(said)}</p>'
    if not content.tiles:
        return how + '<p class="card">No row could be studied.</p>'
    groups, changes = (
        f'<div class="groups">{"".join(map(_group, those))}</div>' if those else ""
        for those in (content.groups, content.changes)
    )
    tiles = "".join(map(_tile, content.tiles))
    return (
        f'{how}{groups}<div class="tiles">{tiles}</div>{changes}'
        '<p class="small">Bars and "to": 95 % intervals, by resampling pictures.</p>'
    )


def _group(group: Group) -> str:
    names = "".join(f'<li dir="auto">{escaped(n)}</li>' for n in group.names[:40])
    if len(group.names) > 40:
        names += f"<li>and {len(group.names) - 40} more</li>"
    listed = f'<ul class="names">{names}</ul>' if names else "<p>none</p>"
    kind = f" {group.kind}" if group.kind else ""
    return (
        f'<div class="card group{kind}"><h3>{escaped(group.title)}</h3>'
        f'<p class="of">{escaped(group.text)}</p>{listed}</div>'
    )


def _tile(tile: Tile) -> str:
    bar, said = tile.bar, share if tile.is_share else number
    interval = between(bar.low, bar.high)
    if not tile.is_share:
        interval = f"{number(bar.low)} to {number(bar.high)}"
    other = "" if bar.other is None else f"; {tile.other} {said(bar.other)}"
    drawn = strip(bar, tile.other).svg() if tile.is_share else ""
    return (
        f'<div class="card tile"><p class="value">{escaped(said(bar.value))}</p>'
        f'<div class="strip">{drawn}</div><p>{escaped(tile.words)}</p>'
        f'<p class="interval">{escaped(interval)}{escaped(other)}</p></div>'
    )


# ---- figures and tables ------------------------------------------------------


def _section(section: Section, folder: str) -> str:
    figures = [each for each in section.blocks if isinstance(each, Figure)]
    sheets = [each for each in section.blocks if isinstance(each, Sheet)]
    drawn = "".join(_figure(each, folder) for each in figures)
    text = escaped(section.text) + _on_screen(section.on_screen)
    return (
        f'<p class="lead" dir="auto">{text}</p>'
        f'<div class="figures">{drawn}</div>'
        + "".join(_sheet(each, folder) for each in sheets)
    )


def _on_screen(text: str) -> str:
    """What makes no sense on paper."""
    return f' <span class="on-screen">{escaped(text)}</span>' if text else ""


def _figure(figure: Figure, folder: str) -> str:
    links = " ".join(
        f'<a href="{folder}/figures/{figure.name}.{kind}" '
        f'aria-label="{escaped(figure.title)} as {kind.upper()}">{kind.upper()}</a>'
        for kind in ("svg", "png")
    )
    text = f"{escaped(figure.text)} " if figure.text else ""
    return (
        f'<figure class="card figure"><h3>{escaped(figure.title)}</h3>'
        f"{figure.drawing.svg()}<figcaption>{text}"
        f'<span class="files">{links}</span></figcaption></figure>'
    )


def _sheet(sheet: Sheet, folder: str) -> str:
    """A table to sort and to search."""
    shown = sheet.table.slice(0, _SHOWN)
    rows = "".join(_row(row) for row in _merged(shown))
    heads = "".join(
        f'<th scope="col" class="{kind}"><button type="button">{escaped(heading(name))}'
        "</button></th>"
        for name, kind in _columns(shown)
    )
    more = sheet.table.num_rows - shown.num_rows
    cut = f" The first {_SHOWN:,} of {sheet.table.num_rows:,} rows." if more else ""
    text = sheet.text + cut
    lead = f'<p class="small">{escaped(text.strip())}</p>' if text else ""
    title = escaped(sheet.title)
    search = ""
    if shown.num_rows > 5:
        search = (
            '<label>Find <input type="search" autocomplete="off" '
            f'aria-label="Find rows of: {title}"></label><span role="status"></span>'
        )
    return (
        f'<details class="card sheet"{" open" if sheet.is_open else ""}>'
        f"<summary>{title}</summary>{lead}"
        f'<div class="sheet-tools">{search}<a href="{folder}/tables/{sheet.name}.csv" '
        f'aria-label="{title} as CSV">CSV</a></div>'
        f'<div class="scrolled" tabindex="0" role="group" aria-label="{title}"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _columns(table: pyarrow.Table) -> list[tuple[str, str]]:
    """Those that have a column of their own, and "words" or "numbers"; the ends of
    intervals stand beside what they are of."""
    names = set(table.column_names)
    pairs = [_ends(name, names) for name in names]
    ends = {end for pair in pairs if names.issuperset(pair) for end in pair}
    return [
        (
            field.name,
            "words" if pyarrow.types.is_string(field.type) else "numbers",
        )
        for field in table.schema
        if field.name not in ends
    ]


def _ends(name: str, names: set[str]) -> tuple[str, str]:
    whole = {"value", "difference", "rank_correlation"} | (
        {"lift"} if f"{name}_low" not in names else set()
    )
    if name in whole:
        return "low", "high"
    return f"{name}_low", f"{name}_high"


def _merged(table: pyarrow.Table) -> Iterator[list[str]]:
    """Of each row its cells."""
    names, columns = set(table.column_names), _columns(table)
    for row in table.to_pylist():
        cells = []
        for at, (name, kind) in enumerate(columns):
            value = row[name]
            # a measure's name is a column's
            text = escaped(heading(value) if name == "measure" else number(value))
            low, high = (row.get(end) for end in _ends(name, names))
            if low is not None and high is not None and kind == "numbers":
                ends = f"{number(low)} to {number(high)}"
                text += f' <span class="interval">({escaped(ends)})</span>'
            attributes = f' class="{kind}"'
            if kind == "numbers":
                given = "" if value is None else f"{float(value):.9g}"
                attributes += f' data-value="{given}"'
            else:
                attributes += ' dir="auto"'
            if at == 0 and kind == "words":
                cells.append(f'<th scope="row"{attributes}>{text}</th>')
            else:
                cells.append(f"<td{attributes}>{text}</td>")
        yield cells


def _row(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


# ---- examples ----------------------------------------------------------------


def _galleries(found: Galleries, folder: str) -> str:
    text = (
        "Orange is what the marked words matched, purple what speaks against them; the "
        "frame is where the object is."
    )
    opens = (
        "A picture opens the page of its pair, where any word and any region can be "
        "asked for."
    )
    if found.problem:
        text, opens = f"Without maps and pages: {found.problem}.", ""
    parts = [f'<p class="lead" dir="auto">{escaped(text)}{_on_screen(opens)}</p>']
    parts += [_gallery(gallery, folder) for gallery in found.galleries]
    return "".join(parts)


def _gallery(gallery: Gallery, folder: str) -> str:
    cards = "".join(
        f'<li class="card example">{_card(card, folder)}</li>' for card in gallery.cards
    )
    return (
        f'<div class="gallery" id="gallery-{gallery.name}">'
        f"<h3>{escaped(gallery.title)}</h3>"
        f'<p class="small">{escaped(gallery.text)}</p>'
        f'<ul class="cards">{cards}</ul></div>'
    )


def _card(card: Card, folder: str) -> str:
    caption = card.texts.get("caption", "")
    asked = card.texts.get("phrase") or card.texts.get("label") or caption
    if card.offsets is not None and None not in card.offsets:
        asked = caption[slice(*card.offsets)]
    if card.picture:
        width, height = card.size
        said = escaped(f"Picture {card.place}, asked for: {asked}")
        shown = (
            f'<img src="{card.picture}" alt="{said}" width="{width}" '
            f'height="{height}">'
        )
    else:
        shown = f'<div class="no-picture">{escaped(card.problem or "no picture")}</div>'
    if card.page:
        address = f"{folder}/pages/{card.page}"
        address += f"#{card.fragment}" if card.fragment else ""
        shown = f'<a href="{escaped(address)}">{shown}</a>'
    lines = [f'<p dir="auto">{_marked(caption, card.offsets)}</p>']
    if "negative" in card.texts:
        lines.append(f'<p dir="auto">not: {escaped(card.texts["negative"])}</p>')
    notes = "; ".join(f"{heading(name)} {_noted(value)}" for name, value in card.notes)
    lines.append(f'<p class="small">{escaped(notes)}</p>')
    if card.problem and card.picture:
        lines.append(f'<p class="small">{escaped(card.problem)}</p>')
    return shown + "".join(lines)


def _noted(value: Any) -> str:
    """In one piece, but for names."""
    return number(value).replace(" %", "\u00a0%")


def _marked(caption: str, offsets: Optional[tuple[int, int]]) -> str:
    if offsets is None or None in offsets:
        return escaped(caption)
    start, end = offsets
    return (
        f"{escaped(caption[:start])}<mark>{escaped(caption[start:end])}</mark>"
        f"{escaped(caption[end:])}"
    )


# ---- how it was made ---------------------------------------------------------


def _made(results: "Results", against: Optional["Results"]) -> str:
    plan, counts = results.plan, results.counts
    settings = plan.get("settings", [])
    versions = plan.get("versions", {})
    facts = [
        ("study", plan["study"]),
        ("model", plan["model"]),
        ("weights", plan.get("weights", "not known")),
        ("data", f"{plan['data']['name']} {_said(plan['data'].get('options', {}))}"),
        (
            "sample",
            f"{plan['sample']['size']:,} rows, seed {plan['sample'].get('seed', 0)}",
        ),
        *[(f"settings, {s.get('side', '')}", _said(s)) for s in settings],
        ("begun", plan.get("created", "not known")),
        ("versions", _said(versions)),
        (
            "rows studied",
            f"{counts['done'] - counts['failed']:,} of {counts['planned']:,}",
        ),
        ("could not be studied", f"{counts['failed']:,}"),
        ("records", f"{counts['records']:,}"),
    ]
    if against is not None:
        other = against.plan
        facts.append(("set against", f"{other['model']} over {other['data']['name']}"))
    listed = "".join(
        f'<dt>{escaped(name)}</dt><dd dir="auto">{escaped(value)}</dd>'
        for name, value in facts
    )
    whole = escaped(json.dumps(_short(plan), indent=1, ensure_ascii=False))
    return (
        '<p class="lead">The plan was written before the first row.</p>'
        f'<div class="card"><dl class="made">{listed}</dl></div>'
        f"{_unused(results)}"
        '<details class="card sheet"><summary>The plan as a whole</summary>'
        f"<pre>{whole}</pre></details>"
    )


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _short(value: Any) -> Any:
    """Long lists by their beginnings: results/plan.json has all."""
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    if isinstance(value, list):
        kept = [_short(each) for each in value[:5]]
        return kept if len(value) <= 5 else [*kept, f"and {len(value) - 5} more"]
    return value


def _unused(results: "Results") -> str:
    """The rows that could not be used, by reason."""
    left_out = results.plan.get("left_out", {})
    rows = [
        (reason, f"{of['number']:,}", ", ".join(map(str, of["first"][:5])))
        for reason, of in list(left_out.items())[:_LISTED]
    ]
    by_reason: dict[str, list[str]] = {}
    for name, reason in results.errors.items():
        by_reason.setdefault(reason, []).append(name)
    failed = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    rows += [
        (reason, f"{len(names):,}", ", ".join(names[:5]))
        for reason, names in failed[:_LISTED]
    ]
    more = max(len(left_out) - _LISTED, 0) + max(len(by_reason) - _LISTED, 0)
    if not rows:
        return '<p class="card sheet">Every row could be used.</p>'
    cells = "".join(
        f'<tr><th scope="row" class="words" dir="auto">{escaped(reason)}</th>'
        f'<td>{count}</td><td class="words" dir="auto">{escaped(first)}</td></tr>'
        for reason, count, first in rows
    )
    also = f'<p class="small">And {more:,} other reasons.</p>' if more else ""
    return (
        '<details class="card sheet" open><summary>Rows that could not be used'
        '</summary><div class="scrolled" tabindex="0" role="group" '
        'aria-label="Rows that could not be used"><table><thead><tr>'
        '<th scope="col" class="words">reason</th><th scope="col">rows</th>'
        '<th scope="col" class="words">the first ones</th></tr></thead>'
        f"<tbody>{cells}</tbody></table></div>{also}</details>"
    )


def address_of(name: str) -> str:
    """A folder's name in an address."""
    return escaped(quote(name.encode("utf-8", "surrogateescape")))
