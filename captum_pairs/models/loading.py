"""From a directory or a name to a dual encoder."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import torch
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.errors import ModelUnavailableError

__all__ = ["load", "SCENES", "Support", "SUPPORTED"]

# The name of the model that comes with the package.
SCENES = "scenes"
# The block of its image encoder to whose input is attributed (the card's pointing
# game: 0.903, as block 1 with 0.907, at half the cost and a tenth of the delta).
_SCENES_BLOCK = 2


class Support(NamedTuple):
    """
    A kind of model that can be loaded.

    Args:
        models: in words.
        write: what `load` takes.
        package: that has to be installed for it, as pip knows it.
        module: that it is imported as.
    """

    models: str
    write: str
    package: str
    module: str

    @property
    def is_installed(self) -> bool:
        """Whether the package is there."""
        return find_spec(self.module) is not None


SUPPORTED = (
    Support(
        "the model that comes with this package", "scenes", "transformers", "torch"
    ),
    Support(
        "CLIP, MetaCLIP 2, SigLIP, SigLIP 2, ALIGN, AltCLIP, Chinese-CLIP, BLIP "
        "(image-text retrieval), VisionTextDualEncoder, CLAP (sound)",
        "openai/clip-vit-base-patch32 (hub id or directory)",
        "transformers",
        "transformers",
    ),
    Support(
        "open_clip: ViT, ResNet and timm towers, CoCa, custom text towers",
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        "open_clip_torch",
        "open_clip",
    ),
    Support("OpenAI's clip package", "clip:ViT-B/32", "openai-clip", "clip"),
    Support(
        "sentence-transformers",
        "sentence-transformers/all-MiniLM-L6-v2 (hub id or directory)",
        "sentence-transformers",
        "sentence_transformers",
    ),
    Support(
        "torchvision's classifiers as Siamese image encoders",
        "torchvision:resnet50",
        "torchvision",
        "torchvision",
    ),
)


def load(
    name: Union[str, Path], device: Optional[Union[str, torch.device]] = None
) -> EncoderPair:
    """
    A dual encoder, in float32, in evaluation mode, its parameters frozen.

    Args:
        name: a directory that ``save_pretrained`` wrote or a model's id on the Hugging
            Face hub (transformers or sentence-transformers);
            ``open_clip:ARCHITECTURE/WEIGHTS`` (a tag of open_clip's or a file),
            ``clip:NAME`` (OpenAI's package), ``torchvision:NAME/WEIGHTS`` (a tag or a
            file); or "scenes" for the model that comes with the package
            ("scenes:withheld", "scenes:finetuned": see its card).
        device: where it is put; default: the CPU.

    Raises:
        ModelUnavailableError: if there is no such model, it can't be read, or it is of
            a kind without an adapter.
    """
    encoders = _load(str(name))
    for encoder in (encoders.first, encoders.second):
        if encoder.module is not None:
            encoder.module.train(False).requires_grad_(False)
            if device is not None:
                encoder.module.to(device)
    return encoders


def _load(name: str) -> EncoderPair:
    # an adapter's package is imported when it is needed, and may not be there
    prefix, colon, rest = name.partition(":")
    if prefix == SCENES:
        return _load_scenes(name, rest or "default")
    if colon and prefix == "open_clip":
        _require("open_clip")
        from captum_pairs.models.open_clip_models import load_open_clip

        return load_open_clip(name, rest)
    if colon and prefix == "clip":
        _require("clip")
        from captum_pairs.models.openai_clip import load_openai_clip

        return load_openai_clip(name, rest)
    if colon and prefix == "torchvision":
        from captum_pairs.models.siamese import load_torchvision

        return load_torchvision(name, rest)
    source = _source(name)
    if _is_sentence_transformer(source):
        _require("sentence_transformers")
        from captum_pairs.models.sentences import load_sentence_transformer

        return load_sentence_transformer(name, source)
    from captum_pairs.models.hugging_face import load_hugging_face

    return load_hugging_face(name, source)


def _load_scenes(name: str, checkpoint: str) -> EncoderPair:
    """One of the models that come with the package."""
    from captum_pairs.models.hugging_face import load_hugging_face
    from captum_pairs.scenes.checkpoints import checkpoint_path, CHECKPOINTS

    if checkpoint not in CHECKPOINTS:
        known = ", ".join(f"{SCENES}:{each}" for each in CHECKPOINTS)
        raise ModelUnavailableError("model", f"one of {known}", name)
    directory = checkpoint_path(checkpoint)
    if not directory.is_dir():
        raise ModelUnavailableError(
            "model", "the embedded checkpoint", "an installation without it"
        )
    scenes = load_hugging_face(name, str(directory))
    scenes.first.default_block = _SCENES_BLOCK
    return scenes


def _require(module: str) -> None:
    """Refuse a model whose package is not installed, and say which it is."""
    support = next(row for row in SUPPORTED if row.module == module)
    if not support.is_installed:
        raise ModelUnavailableError(
            "model",
            f"the package {support.package} (pip install {support.package})",
            "an installation without it",
        )


def _source(name: str) -> str:
    """What is loaded from; a path that leads nowhere is no name on the hub."""
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    looks_like_a_path = name.startswith((".", "/", "~")) or name.count("/") != 1
    if path.exists() or looks_like_a_path and "/" in name:
        raise ModelUnavailableError(
            "model", "a directory or a name on the hub", f"{name}: no such directory"
        )
    return name


def _is_sentence_transformer(source: str) -> bool:
    """Whether sentence-transformers wrote it: a list of modules lies beside it."""
    path = Path(source)
    if path.is_dir():
        return (path / "modules.json").is_file()
    from transformers.utils.hub import cached_file

    try:
        found: Any = cached_file(
            source,
            "modules.json",
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
    except OSError:
        return False  # no such model: the loading that follows says so
    return found is not None
