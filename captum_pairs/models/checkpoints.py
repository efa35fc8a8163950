"""Weights in files, as they come out of a hub or of somebody's training loop."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils.hub import cached_file

__all__ = ["check_pointer", "read_state_dict", "saved_json"]

# Under which training loops keep the weights beside an optimizer's state.
_INSIDE = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
# What wrappers put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
_POINTER = b"version https://git-lfs"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """
    The tensors of a file by their names: safetensors, or what ``torch.save`` wrote. No
    code that is in it is run.

    A training loop's file, in which the weights are one entry of several, and the
    prefixes of wrappers (``module.``, ``_orig_mod.``) are taken apart.

    Raises:
        ValueError: if it holds no weights; and whatever safetensors and PyTorch raise.
    """
    if _pointer_in(path) is not None:
        raise ValueError(f"{path} is a Git LFS pointer (git lfs pull fetches the file)")
    if path.suffix == ".safetensors":
        found: Any = load_file(path)
    else:
        found = torch.load(path, map_location="cpu", weights_only=True)
    for _ in range(3):
        if not isinstance(found, Mapping) or any(
            isinstance(value, Tensor) for value in found.values()
        ):
            break
        found = next((found[key] for key in _INSIDE if key in found), None)
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} holds no state dict")
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no tensors")
    return _without_prefixes(tensors)


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = next((p for p in _PREFIXES if all(k.startswith(p) for k in tensors)), None)
    if prefix is None:
        return tensors
    return _without_prefixes({k.removeprefix(prefix): v for k, v in tensors.items()})


def _pointer_in(source: Path) -> Optional[Path]:
    """A file of weights, itself or in a directory, that is only Git LFS's pointer to
    one; not if whole weights lie beside it, in another format."""
    files = list(_files(source))
    pointers = [path for path in files if _is_pointer(path)]
    whole = {path.parent for path in files if path not in pointers}
    return next(
        (p for p in pointers if p.parent not in whole or "-of-" in p.name), None
    )


def check_pointer(source: Path) -> None:
    """Refuse weights that are only Git LFS's pointer to them.

    Raises:
        ValueError: naming the file.
    """
    pointer = _pointer_in(source)
    if pointer is not None:
        raise ValueError(f"{pointer} is a Git LFS pointer (git lfs pull fetches it)")


def saved_json(source: str, file: str) -> Any:
    """A file of a saved model, or None if it is not there or can't be read. What was
    downloaded before is not asked for again: several loaders look at the same file."""
    try:
        path = try_to_load_from_cache(source, file) if _is_name(source) else None
        if path is not None and not isinstance(path, str):
            return None  # it was asked for before, and is not there
        path = path or cached_file(
            source,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
        return None if path is None else json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _is_name(source: str) -> bool:
    """Whether it is a name on the hub, since no directory is called so."""
    return not Path(source).is_dir()


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    elif source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix in _WEIGHTS and path.is_file():
                yield path
