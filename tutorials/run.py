"""
Runs the notebooks, and writes each with what came out.

    python tutorials/run.py                             # all, beside their sources
    python tutorials/run.py 01_first_explanation        # this one
    python tutorials/run.py --into "$(mktemp -d)"       # only to see whether they run

A notebook's source is text, NN_name.md (MyST Markdown, as jupytext reads it), in this
directory; written is NN_name.ipynb. Cells with the tag "remove-cell" hold what the
notebook claims as assertions: they are run as any other, and not written. The same
source and the same outputs give the same file.
"""

import argparse
import os
import re
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

HERE = Path(__file__).parent
SECONDS = 180  # for a whole notebook, on a busy machine
UNSEEN = "remove-cell"
PICTURE = "image/png"
COLORS = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal
Notebook = Any  # nbformat's, a dictionary of any depth


class NotebookError(Exception):
    """Says which notebook and which of its cells did not run, and why."""


def read_source(path: Path) -> Notebook:
    """A notebook without outputs; its cells' ids are their places."""
    notebook = jupytext.read(path)
    for at, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{at:02d}"
    return notebook


def execute(notebook: Notebook, name: str, seconds: float = SECONDS) -> None:
    """Runs all cells in a kernel of their own, and puts the outputs into them."""
    end = time.monotonic() + seconds
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        timeout_func=lambda cell: max(1, int(end - time.monotonic())),
        coalesce_streams=True,
    )
    # nothing is asked of a network, and figures are as the notebook draws them
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("MPLBACKEND", None)
    with client.setup_kernel(env=environment):
        for at, cell in enumerate(notebook.cells):
            try:
                client.execute_cell(cell, at)
            except CellTimeoutError:
                why = f"{name} took more than {seconds:.0f} s"
                raise NotebookError(f"{_place(name, at, cell)}: {why}") from None
            except (CellExecutionError, DeadKernelError) as error:
                plain = COLORS.sub("", str(error))
                raise NotebookError(f"{_place(name, at, cell)}:\n{plain}") from None


def _place(name: str, at: int, cell: Notebook) -> str:
    """Which cell, for somebody who has the source open."""
    lines = [line for line in cell.source.splitlines() if line.strip()]
    return f"{name}, cell {at} ({lines[0] if lines else 'empty'})"


def shown(notebook: Notebook) -> Notebook:
    """What readers see: no assertions, and nothing that differs from run to run."""
    cells = [cell for cell in notebook.cells if not _unseen(cell)]
    count = 0
    for cell in cells:
        cell.metadata.pop("execution", None)  # the time of day
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = [_tidy(o, count) for o in cell.outputs if _kept(o)]
    notebook.cells = cells
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5  # the first one with ids
    return notebook


def _unseen(cell: Notebook) -> bool:
    return UNSEEN in cell.metadata.get("tags", [])


def _kept(output: Notebook) -> bool:
    """Without standard error: how long something takes is the machine's own."""
    return output.get("name") != "stderr"


def _tidy(output: Notebook, count: int) -> Notebook:
    if output.output_type == "execute_result":
        output.execution_count = count
    if PICTURE in output.get("data", {}):
        output.data[PICTURE] = _smaller(output.data[PICTURE])
    return output


def _smaller(picture: str) -> str:
    """The same pixels in fewer bytes; pages are white, so nothing shows through."""
    image = Image.open(BytesIO(b64decode(picture))).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    file = BytesIO()
    Image.alpha_composite(white, image).convert("RGB").save(file, "PNG", optimize=True)
    return b64encode(file.getvalue()).decode()


def run(source: Path, into: Path) -> Path:
    """
    Runs one source and writes the notebook.

    Raises:
        NotebookError: naming the notebook and the cell that failed; nothing is written.
    """
    notebook = read_source(source)
    execute(notebook, source.stem)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if not _kept(output):
                print(output.text, end="", file=sys.stderr)
    path = into / f"{source.stem}.ipynb"
    nbformat.write(shown(notebook), path)
    return path


def main(arguments: Sequence[str]) -> int:
    sources = {path.stem: path for path in sorted(HERE.glob("[0-9][0-9]_*.md"))}
    parser = argparse.ArgumentParser(description="Run the notebooks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--into", type=Path, default=HERE, metavar="DIR")
    options = parser.parse_args(arguments)
    names = [Path(name).stem for name in options.names] or list(sources)
    if unknown := [name for name in names if name not in sources]:
        parser.error(f"no notebook {unknown[0]}; there are: {', '.join(sources)}")
    options.into.mkdir(parents=True, exist_ok=True)

    failures = 0
    for name in names:
        start = time.monotonic()
        try:
            path = run(sources[name], options.into)
        except NotebookError as error:
            failures += 1
            print(error, file=sys.stderr)
        else:
            print(f"{path} ({time.monotonic() - start:.0f} s)", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
