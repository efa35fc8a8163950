"""Contribution vectors of a corpus, computed once and kept."""

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, overload, Union

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.explain.files import input_from_json, input_to_json
from captum_pairs.explain.methods import check_width
from captum_pairs.explain.options import Options
from captum_pairs.explain.sides import InputContributions, side_of_query, stored
from captum_pairs.models.encoder import Encoder
from captum_pairs.models.encoder_pair import EncoderPair
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no types

__all__ = ["contribute", "Contributions"]

_FORMAT = 1
_INDEX = "index.json"
# Settings of a store that contributions do not depend on, or know by themselves.
_OF_STORE = ("name", "model", "dtype")
_DTYPES = {"float16": torch.float16, "float32": torch.float32}
# Inputs of a file; a run that is stopped writes those that it has.
_SHARD = 64
# Inputs that could not be read, of which a warning tells the reasons.
_LISTED = 10
# Files that are kept in memory at a time: 2,000 inputs, 400 MB for ViT-B/16.
_CACHED = 32


@dataclass
class _Shard:
    """
    Contributions of some inputs, one after the other.

    Args:
        values: (all features, k), each input's divided by its scale.
        scales: (inputs,), the largest absolute value: half precision then never
            overflows.
        counts: of each input its features.
        embeddings, baselines: (inputs, k).
        inputs: what an explanation says of each, as JSON.
    """

    values: Tensor
    scales: Tensor
    counts: list[int]
    embeddings: Tensor
    baselines: Tensor
    inputs: list[dict[str, Any]]

    def row(
        self, at: int, model: str, settings: Mapping[str, Any]
    ) -> InputContributions:
        start = sum(self.counts[:at])
        values = self.values[start : start + self.counts[at]].float() * self.scales[at]
        return InputContributions(
            input_from_json(self.inputs[at]),
            values,
            self.embeddings[at],
            self.baselines[at],
            model,
            settings,
        )


@dataclass
class Contributions(Sequence[InputContributions]):
    """
    Contribution vectors of many inputs of one side of a model.

    A sequence of :class:`InputContributions`, which :meth:`EncoderPair.explain` takes
    instead of the inputs; so it does the whole, paired with one other input.

    Args:
        settings: what they depend on: the model's fingerprint, the side, the layer...
        directory: where they are kept; None: in memory only.
        keys: the inputs' names, in their order.
        failed: the names of inputs that could not be read, and why.
        error: the largest relative error, over the inputs, of what was rounded to be
            stored: the norm of the difference divided by the norm.
    """

    settings: dict[str, Any]
    directory: Optional[Path] = None
    keys: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    error: float = 0.0
    _shards: list[dict[str, Any]] = field(default_factory=list)
    _loaded: dict[int, _Shard] = field(default_factory=dict)
    _places: dict[str, tuple[int, int]] = field(default_factory=dict)

    # ---- reading -----------------------------------------------------------

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> InputContributions: ...

    @overload
    def __getitem__(self, index: slice) -> list[InputContributions]: ...

    def __getitem__(
        self, index: Union[int, slice]
    ) -> Union[InputContributions, list[InputContributions]]:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        return self.of(self.keys[index])

    def of(self, key: str) -> InputContributions:
        """An input's contributions by its name."""
        if key not in self._places:
            raise InvalidArgumentError("key", "an input that is stored", repr(key))
        shard, row = self._places[key]
        settings = {k: v for k, v in self.settings.items() if k not in _OF_STORE}
        return self._shard(shard).row(row, self.settings["model"], settings)

    @property
    def embeddings(self) -> Tensor:
        """(inputs, k)."""
        return torch.cat(
            [self._shard(at).embeddings for at in range(len(self._shards))]
        )

    def read(self, directions: Tensor) -> list[Tensor]:
        """
        Linear readings of every input's embedding, attributed: see
        :meth:`InputContributions.read`; one matrix product a file.

        Args:
            directions: (k,) or (m, k).

        Returns:
            For each input (rows, columns) or (words,), with m before if there are m.
        """
        flat = directions[None] if directions.ndim == 1 else directions
        found = []
        for inputs, products in self._products(flat):
            for content, values in zip(inputs, products):
                shaped = input_from_json(content).shaped(values.T)
                found.append(shaped[0] if directions.ndim == 1 else shaped)
        return found

    def pair(self, other: InputContributions) -> list[Tensor]:
        """
        Attributions to pairs of every input's features with another input's: for each
        (features, features of the other one), special ones included.
        """
        if other.model != self.settings["model"]:
            raise InvalidArgumentError(
                "other",
                f"contributions of the model {self.settings['model']}",
                f"those of {other.model}",
            )
        return [table for _, tables in self._products(other.values) for table in tables]

    def _products(
        self, directions: Tensor
    ) -> Iterator[tuple[list[dict[str, Any]], list[Tensor]]]:
        """For each file its inputs, and for each of these (features, m)."""
        for at in range(len(self._shards)):
            shard = self._shard(at)
            if directions.shape[-1] != shard.values.shape[1]:
                raise InvalidArgumentError(
                    "directions",
                    f"vectors of width {shard.values.shape[1]}",
                    f"shape {tuple(directions.shape)}",
                )
            products = shard.values.float() @ directions.float().T
            tables = torch.split(products, shard.counts)
            yield shard.inputs, [t * s for t, s in zip(tables, shard.scales)]

    def _shard(self, at: int) -> _Shard:
        if at not in self._loaded:
            assert self.directory is not None  # in memory, all are loaded
            path = self.directory / self._shards[at]["file"]
            tensors = load_file(path)
            inputs = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            if len(self._loaded) >= _CACHED:
                self._loaded.pop(next(iter(self._loaded)))
            counts = tensors.pop("counts").tolist()
            self._loaded[at] = _Shard(counts=counts, inputs=inputs, **tensors)
        return self._loaded[at]

    # ---- writing -----------------------------------------------------------

    def _append(self, keys: list[str], found: list[InputContributions]) -> None:
        """Some more inputs, in a file of their own."""
        if not found:
            return
        dtype = _DTYPES[self.settings["dtype"]]
        scales = torch.tensor(
            [max(float(c.values.abs().max()), 1e-30) for c in found],
            dtype=torch.float32,
        )
        stored = [(c.values / s).to(dtype) for c, s in zip(found, scales)]
        for kept, scale, contributions in zip(stored, scales, found):
            values = contributions.values
            rounded = torch.linalg.vector_norm(kept.to(values) * scale - values)
            norm = float(torch.linalg.vector_norm(values)) or 1.0
            self.error = max(self.error, float(rounded) / norm)
        shard = _Shard(
            torch.cat(stored),
            scales,
            [len(c.values) for c in found],
            torch.stack([c.embedding for c in found]),
            torch.stack([c.baseline_embedding for c in found]),
            [input_to_json(c.input) for c in found],
        )
        at = len(self._shards)
        name = f"shard-{at:05d}.safetensors"
        self._shards.append({"file": name, "keys": keys})
        self._places |= {key: (at, row) for row, key in enumerate(keys)}
        self.keys += keys
        if self.directory is None:
            self._loaded[at] = shard
            return
        self._write(self.directory / name, shard)

    def _write(self, path: Path, shard: _Shard) -> None:
        tensors = {
            "values": shard.values,
            "scales": shard.scales,
            "counts": torch.tensor(shard.counts),
            "embeddings": shard.embeddings,
            "baselines": shard.baselines,
        }
        save_file(tensors, path)
        text = json.dumps(shard.inputs, ensure_ascii=False)
        path.with_suffix(".json").write_text(text, encoding="utf-8")
        self._write_index()

    def _write_index(self) -> None:
        """Beside and then renamed: a stop in between loses nothing."""
        if self.directory is None:
            return
        content = {
            "format": _FORMAT,
            **self.settings,
            "error": self.error,
            "failed": self.failed,
            "shards": self._shards,
        }
        part = self.directory / f"{_INDEX}.part"
        text = json.dumps(content, indent=1, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, self.directory / _INDEX)

    @classmethod
    def load(cls, directory: Union[str, Path]) -> "Contributions":
        """
        What was kept in a directory.

        Raises:
            InvalidArgumentError: if nothing was, or another version kept it.
        """
        folder = Path(directory)
        path = folder / _INDEX
        if not path.is_file():
            raise InvalidArgumentError("directory", f"a file {_INDEX}", f"{path}")
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format", None) != _FORMAT:
            raise InvalidArgumentError(
                "directory", "contributions that this version kept", f"{path}"
            )
        result = cls({}, folder, error=content.pop("error"))
        result.failed = content.pop("failed")
        result._shards = content.pop("shards")
        result.settings = content
        for at, shard in enumerate(result._shards):
            result.keys += shard["keys"]
            result._places |= {key: (at, row) for row, key in enumerate(shard["keys"])}
        return result


def contribute(
    model: EncoderPair,
    inputs: Iterable[Any],
    side: Optional[str],
    directory: Union[str, Path, None],
    keys: Optional[Sequence[str]],
    dtype: str,
    options: Options,
) -> Contributions:
    """See :meth:`captum_pairs.models.EncoderPair.contributions`."""
    corpus = list(inputs)
    names = _keys(corpus, keys)
    if not corpus:
        raise InvalidArgumentError("inputs", "at least one input", "none")
    if dtype not in _DTYPES:
        raise InvalidArgumentError("dtype", f"one of {', '.join(_DTYPES)}", repr(dtype))
    at = 0 if side_of_query(model, corpus[0], side) == "first" else 1
    encoder = (model.first, model.second)[at]
    check_width(options.method, "contributions")
    settings = {
        "name": model.name,
        "model": model.fingerprint,
        **options.of_side(model, at),
        "dtype": dtype,
    }
    store = _store(settings, directory)
    waiting = {
        name: raw for name, raw in zip(names, corpus) if name not in store._places
    }
    _run(model, encoder, at, store, waiting, options)
    lost = [name for name in waiting if name in store.failed]
    if lost:
        reasons = "".join(f"\n  {store.failed[name]}" for name in lost[:_LISTED])
        more = f"\n  and {len(lost) - _LISTED} more" if len(lost) > _LISTED else ""
        warnings.warn(
            f"{len(lost)} of {len(names)} inputs could not be read and were left out "
            f"(see .failed):{reasons}{more}",
            stacklevel=3,
        )
    return store


def _store(
    settings: dict[str, Any], directory: Union[str, Path, None]
) -> Contributions:
    """What is kept already under the same settings, or an empty store."""
    if directory is None:
        return Contributions(settings)
    folder = Path(directory)
    if not (folder / _INDEX).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        return Contributions(settings, folder)
    store = Contributions.load(folder)
    for name, value in settings.items():
        if name != "name" and store.settings.get(name) != value:
            raise InvalidArgumentError(
                "directory",
                f"contributions with {name} {value!r} (or an empty directory)",
                f"{folder}: {store.settings.get(name)!r}",
            )
    return store


def _run(
    model: EncoderPair,
    encoder: Encoder,
    at: int,
    store: Contributions,
    waiting: dict[str, Any],
    options: Options,
) -> None:
    """Contributions of the inputs that are not there yet, a file at a time."""
    keys: list[str] = []
    found: list[InputContributions] = []
    try:
        for key, raw in tqdm(
            waiting.items(),
            desc="contributions",
            unit=f" {encoder.kind}s",
            delay=2,
            disable=not options.progress,
        ):
            try:
                result = stored(model, at, raw, options)
            except (InvalidArgumentError, OSError) as error:
                store.failed[key] = str(error)
                continue
            store.failed.pop(key, None)
            keys.append(key)
            found.append(result)
            if len(keys) == _SHARD:
                store._append(keys, found)
                keys, found = [], []
    finally:
        store._append(keys, found)
        store._write_index()


def _keys(corpus: list[Any], keys: Optional[Sequence[str]]) -> list[str]:
    """The inputs' names."""
    if keys is None:
        return [
            str(raw) if isinstance(raw, (str, Path)) else str(index)
            for index, raw in enumerate(corpus)
        ]
    if len(keys) != len(corpus) or len(set(keys)) != len(keys):
        raise InvalidArgumentError(
            "keys",
            f"{len(corpus)} different names, one for each input",
            f"{len(keys)}, {len(set(keys))} of them different",
        )
    return [str(key) for key in keys]
