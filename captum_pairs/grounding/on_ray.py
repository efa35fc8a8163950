"""
Running a study past one machine, by Ray Data (2.51 or later; ``pip install
"captum-pairs[ray]"``).

Rows go to a pool of actors, each of which loads the model *by its name* once and
catches every row's error by itself; what they find comes to the driver, which writes
it. So workers need no shared directory, but the data's files at the same place. A run
that was stopped goes on with the rows that are not there yet.

As a step in a pipeline of your own::

    study = captum_pairs.grounding.STUDIES["grounding"]()
    rows = ray.data.read_parquet(...)  # columns as Row.of takes them
    found = rows.map_batches(
        study.as_udf("openai/clip-vit-base-patch32"),
        batch_size=16,
        compute=ray.data.ActorPoolStrategy(size=8),
        num_gpus=1,
    )
    found.write_parquet(...)
"""

import time
from collections.abc import Sequence
from typing import Any, Optional

import pyarrow
import torch
from captum_pairs import model as models
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data import open_data
from captum_pairs.grounding.data.row import Data
from captum_pairs.grounding.results import Shards
from captum_pairs.grounding.studies import study_of
from captum_pairs.grounding.study import schema_of, studied_at, Study
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no types

__all__ = ["run_on_ray"]

# Rows of a call of an actor.
_BATCH = 16
# Seconds between two shards.
_FLUSHED_AFTER = 10.0


class StudiedPlaces:
    """An actor: the data and the model, opened once; places in, records out."""

    def __init__(
        self,
        study: tuple[str, dict[str, Any]],
        data: tuple[str, dict[str, Any]],
        model: str,
        device: Optional[str],
        threads: int,
    ) -> None:
        torch.set_num_threads(threads)  # Ray leaves one, however many cores it gives
        self.study = study_of(*study)
        self.data = open_data(data[0], **data[1])
        self.model = models.load(model, device=device)
        self.schema = schema_of(self.study.columns)

    def __call__(self, batch: dict[str, Any]) -> pyarrow.Table:
        places = [int(place) for place in batch["place"]]
        records = studied_at(self.study, self.data, places, self.model)
        return pyarrow.Table.from_pylist(records, schema=self.schema)


def run_on_ray(
    study: Study,
    data: Data,
    model: str,
    device: Optional[str],
    shards: Shards,
    places: Sequence[int],
    progress: bool,
    actors: Optional[int] = None,
) -> None:
    """
    The rows that are not there yet, by as many actors as the cluster has GPUs, or else
    cores for.

    Raises:
        InvalidArgumentError: naming ``on``, without Ray.
    """
    ray = _ray()
    done = shards.done()
    left = [place for place in places if place not in done]
    if not left:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0)) if device in (None, "cuda") else 0
    most = actors or gpus or int(there.get("CPU", 1))
    # no batch is larger than a block, and every actor has several blocks
    batch = max(1, min(_BATCH, len(left) // (4 * most)))
    size = min(most, len(left))
    if gpus:
        use: dict[str, Any] = {"num_gpus": 1}
    else:
        use = {"num_cpus": 1}
    blocks = -(-len(left) // batch)
    # in blocks from the start: to repartition takes a CPU that the actors have
    rows = ray.data.from_items(
        [{"place": place} for place in left], override_num_blocks=blocks
    )
    found = rows.map_batches(
        StudiedPlaces,
        fn_constructor_kwargs={
            "study": (study.name, study.parameters()),
            "data": (data.name, dict(data.options)),
            "model": model,
            "device": "cuda" if gpus else device,
            "threads": 1,
        },
        batch_size=batch,
        compute=ray.data.ActorPoolStrategy(size=size),
        **use,
    )
    waiting: list[pyarrow.Table] = []
    began = time.monotonic()
    bar = tqdm(total=len(places), initial=len(done), disable=not progress, unit=" rows")
    try:
        for table in found.iter_batches(batch_size=None, batch_format="pyarrow"):
            waiting.append(table.cast(shards.schema))
            bar.update(len(set(table["place"].to_pylist())))
            if time.monotonic() - began >= _FLUSHED_AFTER:
                shards.add_table(pyarrow.concat_tables(waiting))
                waiting, began = [], time.monotonic()
    finally:
        bar.close()
        if waiting:
            shards.add_table(pyarrow.concat_tables(waiting))


def _ray() -> Any:
    """
    The library.

    Raises:
        InvalidArgumentError: naming ``on``, without it, or with one that is too old.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InvalidArgumentError(
            "on", 'an installation with Ray (pip install "captum-pairs[ray]")', "none"
        ) from error
    version = tuple(int(part) for part in ray.__version__.split(".")[:2])
    if version < (2, 51):
        raise InvalidArgumentError("on", "Ray 2.51 or later", ray.__version__)
    return ray
