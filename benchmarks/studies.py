"""Studies of the models that come with the package, where the truth is known.

    python benchmarks/studies.py [--scenes 2000] [--out DIRECTORY] [--checkpoints ...]

- every study over the same held-out scenes, for each checkpoint;
- gaps: is the class word of the shapes that `withheld` never saw last of all nine?
- compare, withheld to finetuned: what improved, and what was forgotten;
- failures on planted causes: pairs of scenes that differ in the plant only (an object
  covered by more than half; of a kind that was never trained on; its companion beside
  it). Of the objects that are grounded without the plant and not with it, the share
  whose cause is found, a confusion table and the base rates;
- correlated: is its pair of shapes first in the matrix of contexts, of scenes as it has
  learnt from?
- throughput: the phrases of a row, in embeddings of the row (a CLIP ViT-B/32, last
  blocks, random weights), beside a phrase as explain.py times it; and rows a second by
  one and by two actors of Ray (--only ray);
- million: the tables and the report of a million synthetic rows, seconds and memory.

A run that was stopped goes on. The tables are printed as Markdown; --only summary has
what there is until now, a column for each checkpoint.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch
from captum_pairs import grounding, load
from captum_pairs.grounding.data.own import Given
from captum_pairs.grounding.data.row import Row
from captum_pairs.grounding.data.scenes import row_of_scene
from captum_pairs.grounding.maps import embedding_of
from captum_pairs.grounding.on_ray import run_on_ray
from captum_pairs.grounding.results import Shards, write_plan
from captum_pairs.grounding.studies.failures import CAUSES, Failures
from captum_pairs.grounding.study import studied_at
from captum_pairs.scenes import (
    CHECKPOINTS,
    cover,
    Description,
    Phrase,
    render,
    sample_scene,
    Scene,
    WITHHELD,
    write,
)
from captum_pairs.scenes.scene import CORRELATED, SceneObject
from captum_pairs.scenes.vocabulary import SHAPES
from common import in_own_process, seconds
from explain import CAPTION, clip_of_size
from PIL import Image

STUDIES = ("grounding", "faithfulness", "negatives", "gaps", "failures", "retrieval")
# Rows that a run's process studies before it looks for more.
AT_A_TIME = 4
NEVER_SEEN = [shape for shape, color in WITHHELD if color is None]


def markdown(table: pyarrow.Table, *names: str) -> str:
    """A table's columns."""
    names = names or tuple(table.column_names)
    rows = [names, ["---"] * len(names)]
    rows += [[_cell(row[name]) for name in names] for row in table.to_pylist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def say(title: str, text: str = "") -> None:
    print(f"\n## {title}\n\n{text}" if text else f"\n## {title}", flush=True)


# ---- the same scenes for every checkpoint ------------------------------------


def every_study(scenes: int, checkpoints: list[str], out: Path) -> None:
    for checkpoint in checkpoints:
        for study in STUDIES:
            results = grounding.run(
                study,
                f"scenes:{scenes}",
                f"scenes:{checkpoint}",
                out / checkpoint / study,
                data_options={"seed": 1_000_003},
                parameters=_parameters(study, checkpoint),
                progress=sys.stderr.isatty(),
            )
            for name, table in results.tables().items():
                if name not in ("objects", "examples"):
                    say(f"{checkpoint}: {study}, {name}", markdown(table))


def _parameters(study: str, checkpoint: str) -> dict[str, Any]:
    """What each was trained on, as far as a class was or was not among it. Failures are
    those of the class word alone: a colour finds an object whatever its shape."""
    if study not in ("gaps", "failures"):
        return {}
    seen = {shape: 1000 for shape in SHAPES}
    if checkpoint == "withheld":
        seen |= dict.fromkeys(NEVER_SEEN, 0)
    return {"trained_on": seen, **({"of": "word"} if study == "failures" else {})}


def what_gaps_must_show(out: Path) -> None:
    rows = grounding.load(out / "withheld" / "gaps").tables()["classes"].to_pylist()
    last = [row["label"] for row in rows[: len(NEVER_SEEN)]]
    highs = {r["label"]: r["word_less_others_high"] for r in rows}
    say(
        "withheld: the class word of what was never seen",
        f"last of {len(rows)}: {last} (never seen: {NEVER_SEEN}); upper ends of their "
        f"difference to the others: {[round(highs[s], 3) for s in NEVER_SEEN]}",
    )
    before, after = (
        grounding.load(out / checkpoint / "gaps")
        for checkpoint in ("withheld", "finetuned")
    )
    for name, table in grounding.compare(before, after).items():
        say(f"withheld to finetuned: {name}", markdown(table))


# ---- what was found, side by side ---------------------------------------------


def summary(out: Path, checkpoints: list[str]) -> None:
    """The results that are there, a column for each checkpoint."""
    for study, tell in (
        ("gaps", _class_words),
        ("grounding", _figures),
        ("negatives", _figures),
        ("failures", _causes),
        ("retrieval", _recalls),
        ("faithfulness", _areas),
    ):
        found = {
            name: grounding.load(out / name / study)
            for name in checkpoints
            if (out / name / study / "plan.json").exists()
        }
        columns = {name: tell(each.tables()) for name, each in found.items()}
        columns = {name: each for name, each in columns.items() if each}
        if not columns:
            continue
        rows: dict[str, Any] = dict.fromkeys(
            k for each in columns.values() for k in each
        )
        lines = [{"rows": "scenes", **{n: found[n].counts["done"] for n in columns}}]
        lines += [
            {"rows": row, **{name: each.get(row) for name, each in columns.items()}}
            for row in rows
        ]
        text = [
            {k: None if v is None else str(v) for k, v in line.items()}
            for line in lines
        ]
        say(f"{study}, by checkpoint", markdown(pyarrow.Table.from_pylist(text)))


def _between(row: dict[str, Any], name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "–"
    return f"{value:.2f}" if low is None else f"{value:.2f} ({low:.2f}–{high:.2f})"


def _class_words(tables: dict[str, pyarrow.Table]) -> dict[str, str]:
    rows = sorted(tables["classes"].to_pylist(), key=lambda row: str(row["label"]))
    return {
        row["label"]: f"{_between(row, 'word_g')}, {row['verdict']}" for row in rows
    }


def _figures(tables: dict[str, pyarrow.Table]) -> dict[str, str]:
    rows = [
        {**r, "value_low": r["low"], "value_high": r["high"]}
        for r in tables["figures"].to_pylist()
    ]
    return {f"{row['measure']}, {row['of']}": _between(row, "value") for row in rows}


def _causes(tables: dict[str, pyarrow.Table]) -> dict[str, str]:
    bad = np.mean(tables["objects"]["badly_grounded"].to_pylist())
    found = {"badly grounded": f"{bad:.2f}"}
    for row in tables["causes"].to_pylist():
        found[row["kind"]] = f"{row['rate']:.2f} / {row['base_rate']:.2f}"
    for at, row in enumerate(tables["matrix"].to_pylist()[:3]):
        ends = {"lift_low": row["low"], "lift_high": row["high"]}
        lift = _between({**row, **ends}, "lift")
        found[f"matrix, {at + 1}"] = f"{row['label']}, {row['other']}: {lift}"
    return found


def _recalls(tables: dict[str, pyarrow.Table]) -> dict[str, str]:
    rows = [
        {**r, "value_low": r["low"], "value_high": r["high"]}
        for r in tables["recall"].to_pylist()
    ]
    return {
        f"{row['direction']}, {row['recall_at']}": _between(row, "value")
        for row in rows
    }


def _areas(tables: dict[str, pyarrow.Table]) -> dict[str, str]:
    return {
        f"{row['method']}, {row['order']}, {area}": _between(row, area)
        for row in tables["areas"].to_pylist()
        for area in ("image_insertion", "image_deletion")
    }


# ---- planted causes ----------------------------------------------------------


def _captioned(name: str, scene: Scene, which: int) -> Row:
    """A row whose caption names one object first, and two others: what their phrases
    light is what a correlation is measured against."""
    others = [at for at in range(len(scene.objects)) if at != which]
    chosen = [which, *others[:2]]
    items = [scene.objects[at] for at in chosen]
    phrases = tuple(Phrase(item.shape, item.color) for item in items)
    return row_of_scene(
        name, scene, write(Description(phrases), tuple((at,) for at in chosen))
    )


Pairs = Iterator[tuple[Scene, Scene, int]]


def covered_pairs(rng: np.random.Generator) -> Pairs:
    """An object, and the same covered by more than half."""
    while True:
        scene = sample_scene(rng, 3, withheld=WITHHELD, distinct=True)
        which = int(rng.integers(3))
        with_plant = cover(rng, scene, which, withheld=WITHHELD)
        if with_plant is not None:
            yield scene, with_plant, which


def unseen_pairs(rng: np.random.Generator) -> Pairs:
    """An object, and one of a shape that was never trained on in its place."""
    while True:
        scene = sample_scene(rng, 3, withheld=WITHHELD, distinct=True)
        which = int(rng.integers(3))
        shape = NEVER_SEEN[rng.integers(len(NEVER_SEEN))]
        yield scene, _with(scene, which, shape=shape), which


def companion_pairs(rng: np.random.Generator) -> Pairs:
    """A shape beside another, and the same beside its companion of training."""
    shape, companion = CORRELATED
    while True:
        scene = sample_scene(rng, 3, only=[(shape, None)], distinct=True)
        shapes = [item.shape for item in scene.objects]
        if shapes.count(shape) == 1 and companion not in shapes:
            which = shapes.index(shape)
            beside = int(rng.choice([at for at in range(3) if at != which]))
            yield scene, _with(scene, beside, shape=companion), which


def _with(scene: Scene, which: int, **changes: str) -> Scene:
    items: list[SceneObject] = list(scene.objects)
    items[which] = replace(items[which], **changes)  # type: ignore[arg-type]
    return replace(scene, objects=tuple(items))


# The cause, the checkpoint that it is planted for, and the pairs.
PLANTS: dict[str, tuple[str, Callable[[np.random.Generator], Pairs]]] = {
    "coverage": ("withheld", covered_pairs),
    "unusual scene": ("withheld", unseen_pairs),
    "correlated context": ("correlated", companion_pairs),
}


def planted(number: int, checkpoints: list[str], out: Path) -> None:
    """Of each plant that there is a checkpoint for, what is found."""
    lines = []
    for cause, (checkpoint, _) in PLANTS.items():
        if checkpoint in checkpoints:
            lines.append(planted_cause(cause, number, out))
        else:
            say(f"planted: {cause}", f"there is no checkpoint {checkpoint}")
    if lines:
        say("planted causes found", markdown(pyarrow.Table.from_pylist(lines)))


def planted_cause(cause: str, number: int, out: Path, **options: Any) -> dict[str, Any]:
    """Of the objects that are grounded without the plant and not with it, the share of
    which each cause is found, and its base rate: among all that are well grounded."""
    checkpoint, pairs_of = PLANTS[cause]
    pairs = pairs_of(np.random.default_rng(8))
    rows = []
    for at in range(number):
        without, with_plant, which = next(pairs)
        rows.append(_captioned(f"without-{at}", without, which))
        rows.append(_captioned(f"with-{at}", with_plant, which))
    study = Failures(**_parameters("failures", checkpoint))
    folder = out / f"planted-{cause.replace(' ', '-')}"
    results = grounding.run(
        study,
        Given(rows, f"planted-{cause}"),
        f"scenes:{checkpoint}",
        folder,
        **options,
    )
    every = results.tables()["objects"].to_pylist()
    objects = {row["id"]: row for row in every if row["span"] == 0}
    failed = [
        objects[f"with-{at}"]
        for at in range(number)
        if objects[f"with-{at}"]["badly_grounded"]
        and not objects[f"without-{at}"]["badly_grounded"]
    ]
    well = [row for row in every if not row["badly_grounded"]]
    names = [*CAUSES, "unexplained"]
    return {
        "planted": cause,
        "fail by it": len(failed),
        **{name: _share(failed, name) for name in names},
        **{f"{name}, base": _share(well, name) for name in names},
    }


def _share(rows: list[dict[str, Any]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows) if rows else float("nan")


def first_in_the_matrix(scenes: int, out: Path, **options: Any) -> list[dict[str, Any]]:
    """Of scenes as `correlated` has learnt from, the first pairs of the matrix."""
    results = grounding.run(
        "failures",
        f"scenes:{scenes}",
        "scenes:correlated",
        out / "correlated" / "failures in such scenes",
        data_options={"seed": 1_000_003, "correlated": True},
        parameters=_parameters("failures", "correlated"),
        **options,
    )
    rows: list[dict[str, Any]] = results.tables()["matrix"].to_pylist()
    first = pyarrow.Table.from_pylist(rows[:5])
    say("correlated: the first pairs of the matrix", markdown(first))
    return rows


# ---- cost --------------------------------------------------------------------


def throughput(rounds: int = 9) -> None:
    """The phrases of a row in embeddings of the row, as a run studies a few rows at a
    time, beside what explain.py times: a phrase of the same picture and caption, by the
    same model at the last blocks."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLIP_OF_SIZE"] = folder
        model = load(clip_of_size())
    options = {"layer": (-1, -1)}
    gaps: Any = grounding.STUDIES["gaps"]
    study = gaps(options=options)
    scene = sample_scene(np.random.default_rng(11), 3)
    picture = Image.fromarray(render(scene).image).resize((224, 224))
    box = ((10.0, 10.0, 90.0, 90.0),)
    phrases = ["red circle", "small blue square"]
    starts = [CAPTION.index(phrase) for phrase in phrases]
    spans = [(s, s + len(p), p, box) for s, p in zip(starts, phrases)]
    one, two = (
        Row("a", np.asarray(picture), CAPTION, tuple(spans[:number]))
        for number in (1, 2)
    )
    at = range(AT_A_TIME)
    cases: dict[str, Callable[[], Any]] = {
        "an embedding of the row": lambda: _embedded(model, one),
        "a phrase by explain": lambda: model.explain(
            picture, CAPTION, phrase=phrases[0], **options
        ),
        "a row of one phrase": lambda: studied_at(study, [one] * AT_A_TIME, at, model),
        "a row of two phrases": lambda: studied_at(study, [two] * AT_A_TIME, at, model),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds + 1):  # the first one warms up
        for name, case in cases.items():
            rows = AT_A_TIME if name.startswith("a row") else 1
            times[name].append(seconds(case) / rows)
    took = {name: statistics.median(each[1:]) for name, each in times.items()}
    embedding, phrase, *_ = took.values()
    lines = [
        {
            "what": name,
            "seconds": each,
            "embeddings": each / embedding,
            "of a phrase by explain": each / phrase,
        }
        for name, each in took.items()
    ]
    say("throughput, one thread", markdown(pyarrow.Table.from_pylist(lines)))


def _embedded(model: Any, row: Row) -> None:
    embedding_of(model, 0, row.image)
    embedding_of(model, 1, row.caption)


def by_ray(scenes: int, out: Path) -> None:
    """Rows a second by one and by two actors of one thread."""
    import ray

    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    lines = []
    for actors in (1, 2):
        data = grounding.open_data(f"scenes:{scenes}")
        study = grounding.STUDIES["gaps"]()
        folder = Path(tempfile.mkdtemp(dir=out))
        write_plan(folder, _plan(study, scenes))
        began = time.perf_counter()
        run_on_ray(
            study,
            data,
            "scenes:plain",
            None,
            Shards(folder, study.columns),
            range(scenes),
            False,
            actors,
        )
        took = time.perf_counter() - began
        lines.append(
            {"actors": actors, "seconds": took, "rows a second": scenes / took}
        )
    say("Ray, with the start of the actors", markdown(pyarrow.Table.from_pylist(lines)))


def _plan(study: Any, size: int) -> dict[str, Any]:
    return {
        "study": study.name,
        "parameters": study.parameters(),
        "data": {"name": f"scenes:{size}", "options": {}},
        "sample": {"size": size, "seed": 0},
        "model": "synthetic",
    }


def a_million_rows(out: Path, number: int = 1_000_000) -> None:
    """The tables of as many synthetic rows, and the report: seconds, and each process's
    peak memory."""
    study = grounding.STUDIES["gaps"]()
    folder = out / "million"
    if not (folder / "plan.json").exists():
        write_plan(folder, _plan(study, number))
        shards = Shards(folder, study.columns)
        rng = np.random.default_rng(0)
        for start in range(0, number, 50_000):
            shards.add_table(_synthetic(shards.schema, rng, start, 50_000))
    for what in ("tables", "report"):
        took, peak = in_own_process(__file__, f"--{what}-of", str(folder))
        say(f"a million rows: {what}", f"{took:.1f} s, {peak:.2f} GB")


def tables_of(folder: str) -> None:
    """Prints the seconds that a result's tables take, and the peak memory in GB."""
    began = time.perf_counter()
    grounding.load(folder).tables()
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps([took, peak]))


def report_of(folder: str) -> None:
    """As :func:`tables_of`, of the report with all that stands beside it."""
    began = time.perf_counter()
    grounding.load(folder).report(Path(folder) / "report.html")
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps([took, peak]))


def _synthetic(
    schema: pyarrow.Schema, rng: np.random.Generator, start: int, number: int
) -> pyarrow.Table:
    columns: dict[str, Any] = {}
    places = np.arange(start, start + number)
    for field in schema:
        if field.name == "place":
            columns[field.name] = places
        elif field.name in ("id", "group"):
            columns[field.name] = [f"{field.name}-{place}" for place in places]
        elif field.name == "label":
            columns[field.name] = [f"class {at}" for at in rng.integers(0, 80, number)]
        elif field.name == "error":
            columns[field.name] = [None] * number
        elif pyarrow.types.is_string(field.type):
            columns[field.name] = ["words"] * number
        elif pyarrow.types.is_integer(field.type):
            columns[field.name] = rng.integers(0, 5, number)
        else:
            columns[field.name] = rng.random(number)
    return pyarrow.table(columns, schema=schema)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--planted", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("studies"))
    parser.add_argument("--checkpoints", nargs="+", default=list(CHECKPOINTS))
    parser.add_argument(
        "--only",
        nargs="+",
        default=["studies", "planted", "throughput", "million"],
        choices=["studies", "summary", "planted", "throughput", "million", "ray"],
    )
    parser.add_argument("--tables-of", help=argparse.SUPPRESS)
    parser.add_argument("--report-of", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.tables_of:
        tables_of(asked.tables_of)
        return
    if asked.report_of:
        report_of(asked.report_of)
        return
    os.makedirs(asked.out, exist_ok=True)
    if "studies" in asked.only:
        every_study(asked.scenes, asked.checkpoints, asked.out)
        if {"withheld", "finetuned"} <= set(asked.checkpoints):
            what_gaps_must_show(asked.out)
        if "correlated" in asked.checkpoints:
            first_in_the_matrix(asked.scenes, asked.out)
    if "studies" in asked.only or "summary" in asked.only:
        summary(asked.out, asked.checkpoints)
    if "planted" in asked.only:
        planted(asked.planted, asked.checkpoints, asked.out)
    if "throughput" in asked.only:
        throughput()
    if "million" in asked.only:
        a_million_rows(asked.out)
    if "ray" in asked.only:
        by_ray(min(asked.scenes, 200), asked.out)


if __name__ == "__main__":
    main()
