"""Paths as people write them."""

from pathlib import Path
from typing import Optional, Union

__all__ = ["directory", "file"]


def directory(name: Union[str, Path]) -> Optional[Path]:
    """The directory of that name, if there is one; "~" is the home directory."""
    path = _expanded(name)
    try:
        return path if path.is_dir() else None
    except OSError:  # too long a name, say
        return None


def file(name: Union[str, Path]) -> Optional[Path]:
    """The file of that name, if there is one; "~" is the home directory."""
    path = _expanded(name)
    try:
        return path if path.is_file() else None
    except OSError:
        return None


def _expanded(name: Union[str, Path]) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # a home directory of nobody
        return Path(name)
