"""What can be wrong with a model, an image or a text that a person hands in."""

from collections.abc import Iterator
from contextlib import contextmanager

from captum_pairs.attr import InvalidArgumentError

__all__ = [
    "loading",
    "ModelUnavailableError",
    "reason_of",
    "TextLengthError",
    "unavailable",
    "UnreadableImageError",
    "UnreadableSoundError",
]


# Of a reason that is told, in characters.
_LONGEST = 400


class ModelUnavailableError(InvalidArgumentError):
    """The model is not there, can't be loaded, or is of a kind without an adapter."""


class UnreadableImageError(InvalidArgumentError):
    """The image is not there, or is not an image."""


class TextLengthError(InvalidArgumentError):
    """The text is empty, or longer than the model reads."""


class UnreadableSoundError(InvalidArgumentError):
    """The sound is not there, is none, or has another rate than the model's."""


def unavailable(name: str, error: Exception) -> ModelUnavailableError:
    """A model that can't be loaded, and why."""
    return ModelUnavailableError(
        "model",
        "a directory with a saved model, or a model's name (captum-pairs models lists "
        "what is supported)",
        f"{name}: {reason_of(error)}",
    )


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Whatever another library raises of a model's files becomes one kind of error;
    damaged ones reach depths that raise anything."""
    try:
        yield
    except InvalidArgumentError:
        raise
    except Exception as error:
        raise unavailable(name, error) from error


def reason_of(error: BaseException) -> str:
    """Another library's error in a line: its first one, or where that announces more
    the one that says what it is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    told = lines[0]
    if told.endswith(":") and len(lines) > 1:
        told = f"{told} {lines[1]}"
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]}…"
