"""
A study's results as a report: one HTML file that needs nothing else.

Beside it stands a folder of the same name and ``_files``: every figure as SVG and PNG
(``figures/``), every table as CSV (``tables/``), and the page of each example
(``pages/``), which the report's pictures open.

>>> grounding.load("results").report("report.html")
"""

from pathlib import Path
from typing import Optional, TYPE_CHECKING, Union

import pyarrow
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.grounding.report.content import content_of, Figure, Sheet
from captum_pairs.grounding.report.galleries import galleries_of
from captum_pairs.grounding.report.markup import address_of, report_html
from captum_pairs.model import DualEncoder
from pyarrow import csv

if TYPE_CHECKING:
    from captum_pairs.grounding.results import Results

__all__ = ["write_report"]


def write_report(
    results: "Results",
    path: Union[str, Path],
    against: Optional["Results"] = None,
    examples: int = 10,
    model: Optional[DualEncoder] = None,
) -> Path:
    """See :meth:`captum_pairs.grounding.Results.report`."""
    validation.positive_int("examples", examples, 0)
    target = Path(path)
    tables = results.tables() if len(results) else {}
    content = content_of(results, tables, against)
    galleries = galleries_of(results, tables, examples, model)
    folder = target.with_name(f"{target.stem}_files")
    page = report_html(results, content, galleries, address_of(folder.name), against)
    try:
        for name in ("figures", "tables", "pages"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for section in content.sections:
            for block in section.blocks:
                _write_block(block, folder)
        shown = {b.name for s in content.sections for b in s.blocks}
        for name, table in tables.items():
            if name not in shown:
                _write_table(table, folder / "tables" / f"{name}.csv")
        for name, html in galleries.pages.items():
            # half of a surrogate pair is no character, and can't be written as one
            (folder / "pages" / name).write_bytes(html.encode("utf-8", "replace"))
        target.write_bytes(page.encode("utf-8", "replace"))
    except OSError as error:
        reason = f"{target}: {error.strerror or error}"
        raise InvalidArgumentError(
            "path", "a file that can be written", reason
        ) from error
    return target


def _write_block(block: Union[Figure, Sheet], folder: Path) -> None:
    if isinstance(block, Sheet):
        _write_table(block.table, folder / "tables" / f"{block.name}.csv")
        return
    file = folder / "figures" / block.name
    file.with_suffix(".svg").write_text(block.drawing.file(), encoding="utf-8")
    file.with_suffix(".png").write_bytes(block.drawing.png())


def _write_table(table: pyarrow.Table, path: Path) -> None:
    csv.write_csv(table, path)
