"""OpenAI's clip package, through a model's own ``encode_image`` and ``encode_text``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from warnings import catch_warnings, filterwarnings
from zipfile import is_zipfile, ZipFile

from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.checkpoints import read_state_dict
from captum_pairs.models.encoder_pair import EncoderPair, Head
from captum_pairs.models.errors import loading, ModelUnavailableError
from captum_pairs.models.fixed_texts import (
    byte_pair_tokens,
    pad_tokens,
    Reading,
    ReadTextEncoder,
)
from captum_pairs.models.observed import ImageParts
from captum_pairs.models.paths import file
from captum_pairs.models.texts import check_length
from captum_pairs.models.transformed import (
    centre_view,
    shortest_edge,
    TransformedImageEncoder,
)
from captum_pairs.models.view import View
from torchvision.transforms import Normalize

__all__ = ["adopt_openai_clip", "import_clip", "load_openai_clip"]


def load_openai_clip(name: str, rest: str) -> EncoderPair:
    """
    A CLIP of OpenAI's package, in float32.

    Args:
        name: what was asked for.
        rest: a name of ``clip.available_models()``, or a file with a state dict or a
            JIT archive.

    Raises:
        ModelUnavailableError: see :func:`captum_pairs.models.load`.
    """
    clip = import_clip()
    known = clip.available_models()
    path = None if rest in known else file(rest)
    if rest not in known and path is None:
        raise ModelUnavailableError(
            "model", f"clip:NAME with a file or one of {', '.join(known)}", name
        )
    with loading(name):
        if path is None:
            model, transform = _load_archive(clip, rest)
        elif _is_archive(path):
            model, transform = _load_archive(clip, str(path))
        else:
            model, transform = _load_state_dict(path)
    return _pair(name, model, transform)


def adopt_openai_clip(model: Any, processor: Any, name: str) -> EncoderPair:
    """
    A CLIP of OpenAI's package that is in memory; it stays as it is.

    Args:
        model: as ``clip.load`` returns it.
        processor: the transform that ``clip.load`` returns with it.
        name: what it is called.

    Raises:
        ModelUnavailableError: for a part of a model.
        InvalidArgumentError: naming ``processor``.
    """
    if not (hasattr(model, "encode_image") and hasattr(model, "encode_text")):
        raise ModelUnavailableError(
            "model", "a model as clip.load returns it", validation.describe(model)
        )
    steps = getattr(processor, "transforms", ())
    if not any(isinstance(step, Normalize) for step in steps):
        raise InvalidArgumentError(
            "processor",
            "the transform that clip.load returns with the model",
            validation.describe(processor),
        )
    return _pair(name, model, processor)


def _pair(name: str, model: Any, transform: Any) -> EncoderPair:
    head = Head("logits_per_image", float(model.logit_scale.detach().exp()))
    import_clip()  # whose tokenizer is needed, whoever imported the model
    return EncoderPair(name, _images(model, transform), _texts(model), (head,))


def import_clip() -> Any:
    """
    OpenAI's package.

    Raises:
        ModelUnavailableError: if what is installed as ``clip`` is another one.
    """
    try:
        clip = import_module("clip")
    except ModuleNotFoundError as error:
        if error.name != "pkg_resources":
            raise
        with _pkg_resources():
            clip = import_module("clip")
    if not all(
        hasattr(clip, part) for part in ("load", "tokenize", "available_models")
    ):
        raise ModelUnavailableError(
            "model",
            "OpenAI's clip package (pip uninstall clip; pip install openai-clip)",
            "another package that is called clip",
        )
    return clip


@contextmanager
def _pkg_resources() -> Iterator[None]:
    """Its releases take ``packaging`` out of setuptools' pkg_resources, which newer
    versions of setuptools don't have: lend them one that has nothing else."""
    import packaging.version

    stand_in = ModuleType("pkg_resources")
    setattr(stand_in, "packaging", packaging)
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        del sys.modules["pkg_resources"]


def _is_archive(path: Path) -> bool:
    """Whether a file is a JIT archive, as OpenAI's own checkpoints are."""
    if not is_zipfile(path):
        return False
    with ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _load_archive(clip: Any, source: str) -> tuple[Any, Any]:
    """Model and transform."""
    with catch_warnings():
        # the package reads its archives with what torch would rather see replaced
        filterwarnings("ignore", ".*torch.jit", category=DeprecationWarning)
        filterwarnings("ignore", ".*torch.jit", category=FutureWarning)
        model, transform = clip.load(source, "cpu")
    return model, transform


def _load_state_dict(path: Path) -> tuple[Any, Any]:
    """Model and transform: as the package's ``load`` would have it, whose second look
    at such a file begins at the end of it, and which rounds to half precision."""
    weights = read_state_dict(path)
    model = import_module("clip.model").build_model(dict(weights)).float()
    model.load_state_dict(weights, strict=False)
    transform = import_module("clip.clip")._transform(model.visual.input_resolution)
    return model, transform


def _images(model: Any, transform: Any) -> TransformedImageEncoder:
    visual = model.visual
    side = int(visual.input_resolution)
    if hasattr(visual, "transformer"):
        blocks = list(visual.transformer.resblocks)
        patches = side // int(visual.conv1.kernel_size[0])
        parts = ImageParts(blocks, (patches, patches), len(blocks) // 3)
    else:
        stages = [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
        blocks = [block for stage in stages for block in stage]
        # the first one of the last stage halves the map
        first = len(blocks) - len(visual.layer4)
        parts = ImageParts(blocks, (side // 32, side // 32), first)
    normalize = next(t for t in transform.transforms if isinstance(t, Normalize))
    return TransformedImageEncoder(
        model,
        model.encode_image,
        transform,
        partial(_view, side),
        normalize.mean,
        normalize.std,
        parts,
    )


def _view(side: int, size: tuple[int, int]) -> View:
    return centre_view(size, shortest_edge(size, side), (side, side))


def _texts(model: Any) -> ReadTextEncoder:
    # clip.tokenize has a tokenizer of its own, and does not show it
    tokenizer = import_module("clip.simple_tokenizer").SimpleTokenizer()
    return ReadTextEncoder(
        model,
        model.encode_text,
        partial(_read, tokenizer, int(model.context_length)),
        model.transformer.resblocks,
        model.token_embedding,
    )


def _read(tokenizer: Any, longest: int, text: str) -> Reading:
    special = [tokenizer.encoder[f"<|{name}oftext|>"] for name in ("start", "end")]
    ids = [special[0], *tokenizer.encode(text), special[1]]
    tokens = byte_pair_tokens(text, ids, tokenizer, special)
    check_length(tokens, longest)
    numbers = import_clip().tokenize(text, longest)
    return Reading(numbers, pad_tokens(tokens, longest), 0)
