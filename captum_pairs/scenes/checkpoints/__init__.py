"""The embedded model's checkpoints, one directory each."""

from pathlib import Path

__all__ = ["CHECKPOINTS", "checkpoint_path"]

CHECKPOINTS = ("default", "neutral", "withheld", "finetuned", "correlated")


def checkpoint_path(name: str = "default") -> Path:
    """The directory of a checkpoint: where training writes it and loading finds it.

    Args:
        name: "default"; "neutral", trained further to be similar to nothing where it
            sees nothing, so that words add what they match; "withheld", trained without
            some kinds of object; "finetuned", the latter with those kinds learnt
            afterwards; or "correlated", with two of them learnt where they hardly ever
            stand without each other.

    Raises:
        ValueError: if there is no checkpoint of that name.
    """
    if not isinstance(name, str) or name not in CHECKPOINTS:
        came = repr(name) if isinstance(name, str) else type(name).__name__
        raise ValueError(f"name must be one of {CHECKPOINTS}, got {came}")
    return Path(__file__).parent / name
