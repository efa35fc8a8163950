"""A study's report in a real browser, against the tables that it is made of."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from captum_pairs import grounding
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.cli import main
from captum_pairs.grounding.results import Results, Shards, write_plan
from click.testing import CliRunner
from PIL import Image

HOSTILE = '<script>alert("it\'s")</script> & <!-- </style> \u2028 {{body}} \x0b'
Records = list[dict[str, Any]]
# What the words of each class find, of ten.
FOUND = {"moon": 1, "star": 9, HOSTILE: 5, **{f"class {at}": 5 for at in range(4)}}


def of_gaps(found: Mapping[str, int] = FOUND) -> Records:
    """Thirty rows of each class, those of one rank with the same values."""
    records = []
    for label, often in found.items():
        for at in range(30):
            hit = float(at % 10 < often)
            energy = 0.1 + 0.8 * hit - at / 1000
            records.append(
                {
                    "caption": f"a big {label}",
                    "start": 2,
                    "end": 6 + len(label),
                    "span": 0,
                    "phrase": f"big {label}",
                    "label": label,
                    "area": 0.04 if hit else 0.15,
                    "chance": 0.1,
                    "chance_overlap": 0.1,
                    "score": 0.3,
                    **{f"{of}_hit": hit for of in ("word", "phrase")},
                    **{f"{of}_energy": energy for of in ("word", "phrase")},
                    **{f"{of}_energy_overlap": energy for of in ("word", "phrase")},
                }
            )
    return records


def made(folder: Path, study: Any, records: Records, **plan: Any) -> Results:
    """A study's results from records; what COMMON has is filled in."""
    whole: dict[str, Any] = {
        "study": study.name,
        "parameters": study.parameters(),
        "data": {"name": "scenes:90", "options": {}},
        "sample": {"size": len(records), "seed": 0},
        "model": "none",
    }
    write_plan(folder, {**whole, **plan})
    rows = [
        {
            "image": "",
            "caption": "",
            "error": None,
            "place": at,
            "id": f"row-{at}",
            "group": f"image-{at}",
            **record,
        }
        for at, record in enumerate(records)
    ]
    Shards(folder, study.columns).add(rows)
    return grounding.load(folder)


@pytest.fixture(scope="module")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> Results:
    study = grounding.STUDIES["gaps"]()
    bad = {"error": f"UnreadableImageError: {HOSTILE}", "id": HOSTILE}
    left_out = {f"no object {HOSTILE}": {"number": 7, "first": [HOSTILE]}}
    folder = tmp_path_factory.mktemp("gaps")
    records = [*of_gaps(), bad]
    return made(folder, study, records, left_out=left_out, model=HOSTILE)


@pytest.fixture(scope="module")
def report(gaps: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gaps.report(tmp_path_factory.mktemp("report") / "new" / "a b.html")


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a report from disk; nothing may be said on the console, asked of the
    network, or run of what was in the data."""
    contexts, complaints, asked = [], [], []

    def open_report(path: Path, width: int = 1200, **options: Any) -> Any:
        size = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=size, offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert complaints == []
    assert all(url.startswith(("file:", "data:image/")) for url in asked)


def _column(page: Any, at: int) -> list[str]:
    rows = page.locator("#classes tbody tr:visible")
    return [row.locator("th, td").nth(at).inner_text() for row in rows.all()]


def test_what_it_says_is_what_the_tables_say(
    gaps: Results, report: Path, opened: Callable[..., Any]
) -> None:
    page = opened(report)
    # the verdicts, for who looks a minute
    groups = page.locator(".group").all_inner_texts()
    classes = gaps.tables()["classes"].to_pylist()
    for title, verdict in (("Not known", "unknown"), ("Known", "known")):
        (text,) = (t for t in groups if t.startswith(title))
        names = [row["label"] for row in classes if row["verdict"] == verdict]
        assert all(name.split()[0] in text for name in names)
        assert ("moon" in text) == ("moon" in names)
    # the headline: half of all found, by chance 10 %
    tile = page.locator(".tile").first.inner_text()
    assert tile.startswith("50 %") and "by chance 10 %" in tile
    # the table has every class, its values and intervals
    moon = page.locator("#classes tbody tr", has_text="moon").first.inner_text()
    row = next(row for row in classes if row["label"] == "moon")
    assert f"{row['word_hit']:.2f}" == "0.10" and "0.10" in moon
    low, high = (f"{row[f'word_g_{end}']:.2f}" for end in ("low", "high"))
    assert f"({low} to {high})".replace("-", "−") in moon
    # rows that could not be used, and why
    unused = page.locator("#made .sheet").first.inner_text()
    assert "UnreadableImageError" in unused and "no object" in unused
    assert "7" in unused
    assert page.locator("script").count() == 1


def test_a_table_is_sorted_and_searched_by_keyboard(
    report: Path, opened: Callable[..., Any]
) -> None:
    page = opened(report)
    assert page.locator("#classes thead th").first.inner_text() == "class"
    head = page.locator("#classes thead button", has_text="word hit").first
    at = page.locator("#classes thead button").all_inner_texts().index("word hit")
    head.focus()
    for key, way in (("Enter", "ascending"), ("Space", "descending")):
        page.keyboard.press(key)
        values = [float(text) for text in _column(page, at)]
        assert values == sorted(values, reverse=way == "descending")
        assert page.locator(f"#classes th[aria-sort={way}]").count() == 1
    page.get_by_label("Find rows of: In numbers").first.focus()
    page.keyboard.type("class 3")
    assert _column(page, 0) == ["class 3"]
    assert page.locator("#classes [role=status]").first.inner_text() == "1 of 7 rows"


@pytest.mark.parametrize(
    "width, scheme",
    [
        (360, "light"),
        pytest.param(1200, "light", marks=pytest.mark.slow),
        pytest.param(360, "dark", marks=pytest.mark.slow),
        pytest.param(1200, "dark", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing_in_a_report(
    report: Path, opened: Callable[..., Any], axe: str, width: int, scheme: str
) -> None:
    page = opened(report, width, color_scheme=scheme)
    page.evaluate(axe)
    found = page.evaluate("axe.run({preload: false})")
    assert [(r["id"], r["nodes"][0]["html"]) for r in found["violations"]] == []
    # nothing sticks out of a phone
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_it_can_be_printed(report: Path, opened: Callable[..., Any]) -> None:
    page = opened(report, 690)  # a page of A4 between its margins

    def colour(name: str) -> Any:
        return page.evaluate(
            f"getComputedStyle(document.querySelector('{name}')).color"
        )

    ink = colour("h1")
    # whoever reads in the dark prints on white
    page.emulate_media(media="screen", color_scheme="dark")
    assert colour("h1") != ink
    page.emulate_media(media="print", color_scheme="dark")
    assert colour("h1") == ink
    for hidden in (".contents", ".on-screen", ".sheet-tools", ".files"):
        assert (
            page.locator(hidden).count() and not page.locator(hidden).first.is_visible()
        )
    # what is marked by its background alone would not be told any more
    mark = "getComputedStyle(document.querySelector('mark')).textDecorationLine"
    assert page.evaluate(mark) == "underline"
    cut = "(all) => all.filter((each) => each.scrollWidth > each.clientWidth).length"
    assert page.locator(".scrolled").evaluate_all(cut) == 0


def test_figures_and_tables_stand_beside_it(gaps: Results, report: Path) -> None:
    folder = report.with_name("a b_files")
    written = report.read_text(encoding="utf-8")
    # whatever the report links to is there, by its address
    links = re.findall(r'href="(a%20b_files/[^"#]*)', written)
    assert links and 'href="a b' not in written
    for link in links:
        assert (report.parent / link.replace("%20", " ")).is_file(), link
    with open(folder / "tables" / "classes.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = gaps.tables()["classes"].to_pylist()
    assert [row["label"] for row in rows] == [row["label"] for row in expected]
    assert float(rows[0]["word_g"]) == pytest.approx(expected[0]["word_g"])
    for svg in (folder / "figures").glob("*.svg"):
        ElementTree.parse(svg)  # well formed, whatever classes are called
        with Image.open(svg.with_suffix(".png")) as image:
            assert np.asarray(image.convert("L")).std() > 1


def test_before_and_after(opened: Callable[..., Any], tmp_path: Path) -> None:
    study = grounding.STUDIES["gaps"]()
    before = made(tmp_path / "before", study, of_gaps())
    after = made(tmp_path / "after", study, of_gaps({**FOUND, "moon": 9, "star": 2}))
    path = tmp_path / "new" / "report.html"
    given = ["--against", before.directory, "--out", path, "--examples", 0]
    asked = ["study", "report", after.directory, *given]
    result = CliRunner().invoke(main, [str(each) for each in asked])
    assert result.exit_code == 0 and f"the report: {path}" in result.output
    page = opened(path)
    groups = page.locator(".group").all_inner_texts()
    (improved,) = (text for text in groups if text.startswith("Improved"))
    (forgotten,) = (text for text in groups if text.startswith("Forgotten"))
    assert "moon" in improved and "star" not in improved
    assert "star" in forgotten and "moon" not in forgotten
    (same,) = (text for text in groups if text.startswith("No change told"))
    assert "class 3" in same and "moon" not in same and "star" not in same
    assert (
        page.locator("#change summary").last.inner_text() == "Rows that were compared"
    )
    assert page.locator("#change tbody th").first.inner_text() == "phrase hit"
    assert "moon" in (page.locator("#change .chart").nth(1).get_attribute("aria-label"))


def test_rows_without_pictures_say_why(report: Path) -> None:
    written = report.read_text(encoding="utf-8")
    # the model is none that could be loaded, the rows are of other data
    assert "Without maps and pages: the model could not be loaded" in written
    assert "the data has another row in its place now" in written


def test_nothing_was_studied(tmp_path: Path) -> None:
    study = grounding.STUDIES["grounding"]()
    results = made(tmp_path / "none", study, [{"error": "ValueError: no picture"}])
    written = results.report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "No row could be studied" in written and "ValueError: no picture" in written


def test_where_it_can_not_be_written(gaps: Results, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgumentError, match="path: expected a file that can be"):
        gaps.report(tmp_path / "file" / "r.html", examples=0)
    with pytest.raises(InvalidArgumentError, match="examples"):
        gaps.report(tmp_path / "r.html", examples=-1)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(grounding.STUDIES))
def test_every_study_of_scenes(
    name: str, opened: Callable[..., Any], axe: str, tmp_path: Path
) -> None:
    options = {"layer": (-1, -1), "tolerance": 0.3}
    results = grounding.run(
        name, "scenes:4", "scenes", tmp_path / "results", processes=1, **options
    )
    page = opened(results.report(tmp_path / "report.html", examples=2))
    page.evaluate(axe)
    found = page.evaluate("axe.run({preload: false})")
    assert [(r["id"], r["nodes"][0]["html"]) for r in found["violations"]] == []
    cards = page.locator(".example a")
    if name in ("faithfulness", "retrieval"):
        assert cards.count() == 0
        return
    assert cards.count() >= 4
    caption = page.locator(".example p").first.inner_text()
    marked = page.locator(".example mark")
    asked = marked.first.inner_text() if marked.count() else ""
    cards.first.click()
    # the pair's page, at the phrase that was asked for
    assert page.locator("#heading").inner_text() == f"“{caption}”"
    words = page.locator(".word[aria-pressed=true]").all_inner_texts()
    if name == "gaps":  # of the class word alone
        assert words == [asked]
    elif name != "negatives":
        assert " ".join(words) == asked
