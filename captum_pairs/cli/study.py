"""``captum-pairs study``: what a model knows, over a data set."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import click
from captum_pairs.cli.messages import announced, embedding_each
from captum_pairs.cli.options import (
    DeviceOption,
    FileOption,
    FolderOption,
    LayerOption,
    MethodOption,
    ModelOption,
    NameOption,
    options,
    SettingOption,
    TextOption,
)

__all__ = ["study"]

# What each study asks, and the parameters of its own, for --help; the studies
# themselves import PyTorch.
_STUDIES = {
    "grounding": (
        "Does what a phrase matched lie where the object is?",
        "permuted=100 (of so many rows the model with permuted parameters is asked), "
        "seed=0 (of these)",
    ),
    "faithfulness": (
        "Insertion and deletion, conditional on the other input.",
        "methods=['integrated_gradients', 'jacobian_x_input', 'occlusion'] (whose "
        "orders are tried), n_steps=32 (the most portions of an input)",
    ),
    "negatives": ("Does the model account for a caption with a wrong word?", ""),
    "gaps": (
        "Which classes does the model not know?",
        "measure=hit (or energy, energy_overlap: what classes are judged by)",
    ),
    "failures": (
        "Why are objects badly grounded?",
        "of=phrase (or word: the class word alone is asked)",
    ),
    "retrieval": (
        "Recall in both directions.",
        "gallery=5000 (the most images that one is looked for among)",
    ),
}
_TRAINED_ON = ("gaps", "failures")

_BEFORE = (
    click.option(
        "--data",
        type=TextOption(),
        required=True,
        metavar="KIND:WHERE",
        help="What is studied: scenes:500, coco:annotations/, flickr30k:…, hnc:…, "
        "sugarcrepe:…, rows:FILE (your own), and more (docs/studies.md).",
    ),
    click.option(
        "--images", type=TextOption(), metavar="DIRECTORY", help="Where the images are."
    ),
    click.option(
        "--split", type=TextOption(), help="Of the data, such as karpathy:val."
    ),
    click.option(
        "--data-option",
        "data_options",
        type=SettingOption(),
        multiple=True,
        metavar="NAME=VALUE",
        help="Of the reader, the value as Python writes it.",
    ),
    click.option(
        "--model",
        type=ModelOption(),
        required=True,
        metavar="NAME_OR_DIR",
        help="As `captum-pairs models` lists them.",
    ),
    click.option(
        "--out",
        type=FolderOption(),
        required=True,
        metavar="DIRECTORY",
        help="Where the results are written; a run that was stopped goes on there.",
    ),
    click.option(
        "--sample",
        type=click.IntRange(1),
        help="So many rows, drawn at random.  [default: all]",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Of the sample.",
    ),
)
_AFTER = (
    click.option(
        "--layer",
        type=LayerOption(),
        metavar="N[,M]",
        help="Block to whose input is attributed, of the image's encoder (and of the "
        "text's).",
    ),
    click.option(
        "--method",
        type=MethodOption(),
        metavar="NAME",
        help="By which it is attributed.  [default: integrated_gradients]",
    ),
    click.option("--baseline", type=TextOption(), help="Of images, or of texts."),
    click.option(
        "--tolerance",
        type=click.FloatRange(0.0, min_open=True),
        help="How complete the path integrals have to be, relative.  [default: 0.01]",
    ),
    click.option("--n-steps", type=click.IntRange(1), help="The most steps of a path."),
    click.option("--device", type=DeviceOption(), help='Such as "cuda".'),
    click.option(
        "--on",
        type=NameOption("place", ("local", "ray")),
        default="local",
        show_default=True,
        metavar="NAME",
        help='Where it runs: "local" (this machine) or "ray" (a cluster).',
    ),
    click.option(
        "--processes",
        type=click.IntRange(1),
        help="On this machine.  [default: as many as fit]",
    ),
)


@click.group()
def study() -> None:
    """What does a model know? Studies over data sets."""


def _own(name: str, parameters: str) -> list[Callable[[Any], Any]]:
    """The options that are not the same for every study."""
    taken = f"Of this study: {parameters}." if parameters else "Nothing of this study."
    return [
        click.option(
            "--set",
            "parameters",
            type=SettingOption(),
            multiple=True,
            metavar="NAME=VALUE",
            help=f"{taken} The value as Python writes it.",
            hidden=not parameters,
        ),
        click.option(
            "--trained-on",
            type=FileOption("file", "captions, or counts of classes"),
            metavar="FILE",
            help="What the model was trained on: captions (a line each) or counts of "
            "classes (JSON, CSV).",
            hidden=name not in _TRAINED_ON,
        ),
    ]


def _command(name: str, what: str, parameters: str) -> Callable[..., None]:
    @study.command(name, help=what)
    @options(*_BEFORE, *_own(name, parameters), *_AFTER)
    def command(**given: Any) -> None:
        _run(name, **given)

    return command


for _name, _told in _STUDIES.items():
    _command(_name, *_told)


def _run(
    name: str,
    data: str,
    images: Optional[str],
    split: Optional[str],
    data_options: tuple[tuple[str, Any], ...],
    model: str,
    out: Path,
    sample: Optional[int],
    seed: int,
    parameters: tuple[tuple[str, Any], ...],
    trained_on: Optional[str],
    device: Optional[str],
    on: str,
    processes: Optional[int],
    **settings: Any,
) -> None:
    if trained_on is not None and name not in _TRAINED_ON:
        raise click.BadParameter(
            "taken by gaps and failures only", param_hint="--trained-on"
        )
    with announced("importing PyTorch"):
        from captum_pairs import grounding
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    of_data = dict(data_options)
    of_data |= {} if images is None else {"images": images}
    of_data |= {} if split is None else {"split": split}
    own = dict(parameters)
    with announced("reading the data"):
        rows = grounding.open_data(data, **of_data)
        if trained_on is not None:
            own["trained_on"] = grounding.class_counts(trained_on, rows)
    given = {key: value for key, value in settings.items() if value is not None}
    try:
        with embedding_each(model):
            results = grounding.run(
                name,
                rows,
                model,
                out,
                sample=sample,
                seed=seed,
                parameters=own,
                device=device,
                on=on,
                processes=processes,
                progress=sys.stderr.isatty(),
                **given,
            )
    except KeyboardInterrupt:
        click.echo("stopped: the same command goes on with what is left", err=True)
        raise
    _tell(results, rows)
    click.echo(f"the results: {out}")


def _tell(results: Any, rows: Any) -> None:
    """How many rows, what could not be used, and the first table."""
    counts = results.counts
    click.echo(
        f"{counts['done'] - counts['failed']} of {counts['planned']} rows studied, "
        f"{counts['failed']} could not be"
    )
    for row, reason in list(results.errors.items())[:10]:
        click.echo(f"  {row}: {reason}")
    for reason, number in rows.left_out.counts.most_common():
        first = rows.left_out.examples[reason][0]
        click.echo(f"{number} not in the data: {reason} (such as {first})")
    if counts["failed"] == counts["done"]:
        raise click.ClickException("no row could be studied")
    name, table = next(iter(results.tables().items()))
    click.echo(f"{name}:")
    for line in in_columns(table):
        click.echo(f"  {line}")


def in_columns(table: Any, most: int = 40) -> list[str]:
    """A table as lines of text, intervals beside what they are of."""
    columns = {
        name: [name, *map(_cell, values[:most])]
        for name, values in table.to_pydict().items()
    }
    for name in list(columns):
        for low, high in ((f"{name}_low", f"{name}_high"), ("low", "high")):
            if {low, high} <= columns.keys() and (low != "low" or name in _OF_ENDS):
                ends = list(zip(columns.pop(low), columns.pop(high)))[1:]
                columns[name][1:] = [
                    cell if "–" in end else f"{cell} ({end[0]} to {end[1]})"
                    for cell, end in zip(columns[name][1:], ends)
                ]
    widths = [max(map(len, column)) for column in columns.values()]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in zip(*columns.values())
    ]
    return lines + (["…"] if len(table) > most else [])


# Of what a table's "low" and "high" are the ends.
_OF_ENDS = ("value", "difference", "lift", "rank_correlation")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


@study.command("compare")
@click.argument("before", type=FolderOption())
@click.argument("after", type=FolderOption())
def compare(before: Path, after: Path) -> None:
    """What changed from one run (BEFORE) to another (AFTER) of the same study."""
    with announced("importing PyTorch"):
        from captum_pairs import grounding
    found = grounding.compare(grounding.load(before), grounding.load(after))
    for name, table in found.items():
        click.echo(f"{name}:")
        for line in in_columns(table, 200):
            click.echo(f"  {line}")


@study.command("report")
@click.argument("results", type=FolderOption())
@click.option(
    "--against",
    type=FolderOption(),
    metavar="DIRECTORY",
    help="An earlier run of the same study, which this one is set against.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The report; its figures and tables stand beside it.  "
    "[default: report.html in RESULTS]",
)
@click.option(
    "--examples",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="In each gallery, each with a page of its own.",
)
@click.option(
    "--model",
    type=ModelOption(),
    metavar="NAME_OR_DIR",
    help="By which examples are explained.  [default: the one that was studied]",
)
@click.option("--device", type=DeviceOption(), help='Such as "cuda".')
def report(
    results: Path,
    against: Optional[Path],
    out: Optional[Path],
    examples: int,
    model: Optional[str],
    device: Optional[str],
) -> None:
    """The results of a study (RESULTS) as one HTML file."""
    with announced("importing PyTorch"):
        import captum_pairs
        from captum_pairs import grounding
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    found = grounding.load(results)
    earlier = None if against is None else grounding.load(against)
    name = model or (found.plan["model"] if device is not None else None)
    with announced("writing the report"):
        written = found.report(
            results / "report.html" if out is None else out,
            against=earlier,
            examples=examples,
            model=None if name is None else captum_pairs.load(name, device=device),
        )
    click.echo(f"the report: {written}")
