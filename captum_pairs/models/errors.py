"""What can be wrong with a model, an image or a text that a person hands in."""

from captum_pairs.attr import InvalidArgumentError

__all__ = [
    "ModelUnavailableError",
    "TextLengthError",
    "unavailable",
    "UnreadableImageError",
    "UnreadableSoundError",
]


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
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelUnavailableError(
        "model",
        "a directory with a saved model, or a model's name (captum-pairs models lists "
        "what is supported)",
        f"{name}: {reason}",
    )
