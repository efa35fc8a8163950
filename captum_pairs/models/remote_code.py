"""Code that comes with a model: never run, and nobody is asked whether it should be."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import dynamic_module_utils

__all__ = ["asks_for_code", "never_asked"]


@contextmanager
def never_asked() -> Iterator[None]:
    """Inside, transformers refuses a model with code of its own instead of asking at
    the terminal, also where another library loads it."""
    seconds = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = seconds


def asks_for_code(settings: Any) -> bool:
    """Whether settings that come with a model say that its code is to be trusted."""
    if isinstance(settings, dict):
        return any(
            asks_for_code(value) or key == "trust_remote_code" and bool(value)
            for key, value in settings.items()
        )
    return isinstance(settings, list) and any(map(asks_for_code, settings))
