"""From a directory or a name on the hub to an encoder."""

from pathlib import Path
from typing import Any, Union

import torch
from captum_pairs.models.clip import clip_encoders
from captum_pairs.models.encoder import DualEncoder
from captum_pairs.models.errors import ModelUnavailableError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoProcessor

__all__ = ["load", "SCENES"]

# The name of the model that comes with the package.
SCENES = "scenes"
# The block of its image encoder to whose input attribution points best (the card's
# pointing game: 0.897, against 0.870 at block 0, with a seventh of the delta).
_SCENES_BLOCK = 1


def load(name: Union[str, Path]) -> DualEncoder:
    """
    A dual encoder, in float32, in evaluation mode, its parameters frozen.

    Args:
        name: a directory that ``save_pretrained`` wrote, a model's id on the Hugging
            Face hub, or "scenes" for the model that comes with the package.

    Raises:
        ModelUnavailableError: if there is no such model, it can't be read, or it is not
            a CLIP.
    """
    source = _source(str(name))
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise _unavailable(name, error) from error
    if config.model_type != "clip":
        raise ModelUnavailableError(
            "model", "a CLIP (model_type 'clip')", f"{name}: {config.model_type!r}"
        )
    try:
        model, found = AutoModel.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True
        )
        processor = _processor(source)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unavailable(name, error) from error
    if found["missing_keys"]:
        raise ModelUnavailableError(
            "model",
            "weights for every parameter",
            f"{name}: {len(found['missing_keys'])} are missing",
        )
    model.train(False).requires_grad_(False)
    encoders = clip_encoders(str(name), model, processor)
    if str(name) == SCENES:
        encoders.image.default_block = _SCENES_BLOCK
    return encoders


def _source(name: str) -> str:
    """What transformers loads from; a path that leads nowhere is no name on the hub."""
    if name == SCENES:
        from captum_pairs.scenes.checkpoints import checkpoint_path

        directory = checkpoint_path("default")
        if not directory.is_dir():
            raise ModelUnavailableError(
                "model", "the embedded checkpoint", "an installation without it"
            )
        return str(directory)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    looks_like_a_path = name.startswith((".", "/", "~")) or name.count("/") != 1
    if path.exists() or looks_like_a_path and "/" in name:
        raise ModelUnavailableError(
            "model", "a directory or a name on the hub", f"{name}: no such directory"
        )
    return name


def _processor(source: str) -> Any:
    load_processor = AutoProcessor.from_pretrained  # untyped, hence the ignored error
    processor = load_processor(source)  # type: ignore[no-untyped-call]
    for part in ("image_processor", "tokenizer"):
        if not hasattr(processor, part):
            raise OSError(f"no {part.replace('_', ' ')} beside the weights")
    return processor


def _unavailable(name: Union[str, Path], error: Exception) -> ModelUnavailableError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelUnavailableError(
        "model",
        "a directory with a saved CLIP, or a CLIP's name on the Hugging Face hub",
        f"{name}: {reason}",
    )
