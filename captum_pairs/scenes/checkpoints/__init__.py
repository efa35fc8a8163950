"""The embedded model's checkpoints, one directory each."""

from pathlib import Path

__all__ = ["CHECKPOINTS", "checkpoint_path", "DEFAULT"]

CHECKPOINTS = ("neutral", "plain", "withheld", "finetuned", "correlated")

# What `load("scenes")` takes.
DEFAULT = "neutral"


def checkpoint_path(name: str = DEFAULT) -> Path:
    """The directory of a checkpoint: where training writes it and loading finds it.

    Args:
        name: "neutral", the default, which is similar to nothing where it sees nothing,
            so that words add what they match; "plain", from which it was trained, by
            contrast alone; "withheld", trained in the plain way and without
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
