"""The models that come with the package."""

from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.errors import ModelUnavailableError
from captum_pairs.models.hugging_face import load_hugging_face
from captum_pairs.scenes.checkpoints import checkpoint_path, CHECKPOINTS, DEFAULT

__all__ = ["load_scenes"]

# The block of its image encoder to whose input is attributed: by the card most of what
# is positive lies in the object there, and the path takes half of block 1's cost with a
# tenth of its delta.
_BLOCK = 2


def load_scenes(name: str, rest: str) -> EncoderPair:
    """
    One of the models that come with the package.

    Args:
        name: what was asked for.
        rest: which one; the default one if it is empty.

    Raises:
        ModelUnavailableError: see :func:`captum_pairs.models.load`.
    """
    checkpoint = rest or DEFAULT
    if checkpoint not in CHECKPOINTS:
        known = ", ".join(f"scenes:{each}" for each in CHECKPOINTS)
        raise ModelUnavailableError("model", f"one of {known}", name)
    directory = checkpoint_path(checkpoint)
    if not directory.is_dir():
        raise ModelUnavailableError(
            "model", "the embedded checkpoint", "an installation without it"
        )
    scenes = load_hugging_face(name, str(directory))
    scenes.first.default_block = _BLOCK
    return scenes
