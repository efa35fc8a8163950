"""From a directory, a name or a model in memory to a dual encoder."""

import socket
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn, Optional, Union
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.known import did_you_mean, KINDS
from captum_pairs.models.checkpoints import saved_json
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.errors import ModelUnavailableError, reason_of
from captum_pairs.models.paths import directory, file
from captum_pairs.models.registry import (
    latest_first,
    register_loader,
    supported,
    SUPPORTED,
)
from captum_pairs.models.scorer import of_class
from captum_pairs.models.siamese import siamese
from huggingface_hub import constants, try_to_load_from_cache
from torch import nn

__all__ = ["load"]


def load(
    model: Union[str, Path, nn.Module],
    processor: Any = None,
    *,
    device: Optional[Union[str, torch.device]] = None,
    target: Union[int, str, None] = None,
) -> EncoderPair:
    """
    A dual encoder; or a cross-encoder, or an image-text matching head, whose score is
    explained without embeddings (docs/scores.md).

    Args:
        model: a directory that ``save_pretrained`` wrote or a model's id on the Hugging
            Face hub (transformers or sentence-transformers);
            ``open_clip:ARCHITECTURE/WEIGHTS`` (a tag of open_clip's or a file),
            ``clip:NAME`` (OpenAI's package), ``torchvision:NAME/WEIGHTS`` (a tag or a
            file), ``itm:`` and a directory or id for the matching head of a model that
            has embeddings as well (BLIP); or "scenes" for the model that comes with the
            package ("scenes:plain", "scenes:withheld": see its card). It is loaded
            in float32, in evaluation mode, its parameters frozen.

            Or a model that is in memory already. It is used as it is, in its mode, on
            its device, and its parameters keep their ``requires_grad``: call
            ``model.eval()`` yourself.
        processor: of a model in memory, what makes its inputs: transformers' processor,
            or a pair (image processor, tokenizer); of open_clip (transform, tokenizer);
            of OpenAI's clip its transform; of a sentence-transformer nothing; of an
            image backbone, which becomes a Siamese encoder of its own output, the
            transform that :func:`siamese` takes.
        device: where a model that is loaded is put; default: the CPU.
        target: of a cross-encoder with scores for several classes the one that is
            meant, its label or number; the logit is called after it.

    Raises:
        ModelUnavailableError: if there is no such model, it can't be read, or it is of
            a kind without an adapter.
        InvalidArgumentError: naming ``processor``, ``device`` or ``target``.
    """
    if isinstance(model, nn.Module):
        if device is not None:
            raise InvalidArgumentError(
                "device",
                "None for a model in memory, which stays where it is (model.to moves "
                "it)",
                str(device),
            )
        return _targeted(_adopted(model, processor), target)
    if processor is not None:
        raise InvalidArgumentError(
            "processor",
            "None for a model that is loaded by its name, which has its own",
            validation.describe(processor),
        )
    place = torch.device("cpu") if device is None else _device(device)
    encoders = _loaded(_name(model))
    if not isinstance(encoders, EncoderPair):
        raise InvalidArgumentError(
            "loader", "one that gives an EncoderPair", validation.describe(encoders)
        )
    for encoder in (encoders.first, encoders.second):
        if encoder.module is not None:
            encoder.module.train(False).requires_grad_(False).to(place)
    return _targeted(encoders, target)


def _targeted(pair: EncoderPair, target: Union[int, str, None]) -> EncoderPair:
    """Of a score of several classes that of one, which its heads are called after."""
    if pair.scorer is not None:
        scorer = of_class(pair.scorer, target)
        heads = pair.heads
        if scorer.target is not None:
            label = scorer.labels[scorer.target]
            heads = tuple(replace(h, name=f"{h.name} of “{label}”") for h in heads)
        return replace(pair, scorer=scorer, heads=heads)
    if target is not None:
        raise InvalidArgumentError(
            "target", "None for a model of two embeddings", validation.describe(target)
        )
    return pair


def _name(model: object) -> str:
    if not isinstance(model, (str, Path)) or not str(model).strip():
        raise ModelUnavailableError(
            "model",
            "a directory, a model's name or a model in memory",
            "an empty name" if isinstance(model, str) else validation.describe(model),
        )
    return str(model)


def _device(device: object) -> torch.device:
    """A device that tensors can be put on."""
    reason = validation.describe(device)
    if isinstance(device, (str, torch.device)):
        try:
            found = torch.device(device)
            torch.zeros(1, device=found).tolist()
            return found
        # without a driver it is an assertion, without an operator another one
        except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
            reason = f"{device}: {str(error).strip().splitlines()[0]}"
    raise InvalidArgumentError(
        "device", "a device that PyTorch can use, such as 'cpu' or 'cuda:0'", reason
    )


def _loaded(name: str) -> EncoderPair:
    """By its prefix, or by who claims it."""
    prefix, colon, rest = name.partition(":")
    kind = supported(prefix)
    if kind is not None and (colon or directory(name) is None):
        return kind.load(name, rest if kind.claims is None else _source(rest))
    if directory(name) is None and (colon or "/" not in name):
        # no name on the hub has a colon; and to ask it for a misspelt one takes a while
        meant = did_you_mean(prefix, [each.prefix for each in SUPPORTED])
        if colon or meant:
            raise ModelUnavailableError("model", f"one of {_written()}", name + meant)
    source = _source(name)
    for kind in latest_first():
        if kind.claims is not None and kind.claims(source):
            return kind.load(name, source)
    raise ModelUnavailableError("model", f"one of {_written()}", name)


def _written() -> str:
    return "; ".join(kind.write for kind in SUPPORTED)


def _source(name: str) -> str:
    """What is loaded from; a path that leads nowhere is no name on the hub."""
    found = directory(name)
    if found is not None:
        return str(found)
    looks_like_a_path = name.startswith((".", "/", "~")) or name.count("/") != 1
    if not name or file(name) is not None or looks_like_a_path and "/" in name:
        raise ModelUnavailableError(
            "model",
            "a directory or a name on the hub",
            f"{name or 'an empty name'}: no such directory",
        )
    _check_hub(name)
    return name


def _check_hub(name: str) -> None:
    """
    Refuse a name that is nowhere on this machine while there is no hub to ask: its
    libraries try again for a minute, and then again for the next file.

    Raises:
        ModelUnavailableError: with what may have been meant.
    """
    close = did_you_mean(name, KINDS)
    if "/" not in name and close and not _is_kept(name):
        raise ModelUnavailableError("model", f"one of {_written()}", f"{name}{close}")
    host = urlsplit(constants.ENDPOINT).hostname
    if getproxies() or constants.is_offline_mode():
        return  # a proxy finds hosts itself
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        if not _is_kept(name):
            raise ModelUnavailableError(
                "model",
                "a directory with a saved model, or a name on a hub that is reached "
                "(captum-pairs models lists what is supported)",
                f"{name}, which was not downloaded before, and no connection to {host} "
                f"({reason_of(error)})",
            ) from error


def _is_kept(name: str) -> bool:
    """Whether something of it was downloaded before; sentence-transformers' own models
    are known by the last part of their names, too."""
    names = name, f"sentence-transformers/{name}"
    return any(
        isinstance(try_to_load_from_cache(each, kept), str)
        for each in names[: 1 + ("/" not in name)]
        for kept in ("config.json", "modules.json")
    )


def _adopted(module: nn.Module, processor: Any) -> EncoderPair:
    """By the nearest of its classes that an adapter knows."""
    module = _unwrapped(module)
    name = type(module).__name__
    for base in type(module).__mro__:
        for kind in latest_first():
            if any(_defined_in(base, place) for place in kind.classes):
                return kind.adopt(module, processor, name)
    if processor is None or _defined_in(type(processor), "transformers"):
        _not_adopted(module)
    return siamese(module, processor, name=name)


def _unwrapped(module: nn.Module) -> nn.Module:
    """The model in a compiled, a parallel or one of PEFT's modules."""
    inner: Any = module
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return _unwrapped(inner.module)
    if hasattr(module, "_orig_mod"):
        return _unwrapped(inner._orig_mod)
    if _defined_in(type(module), "peft"):
        return _unwrapped(inner.get_base_model())
    return module


def _defined_in(kind: type, place: str) -> bool:
    """Whether a class is of a module, or of those whose names a pattern says."""
    name = f"{kind.__module__}."
    return name.startswith(f"{place}.") or fnmatch(f"{name}{kind.__qualname__}", place)


def _not_adopted(module: nn.Module) -> NoReturn:
    raise ModelUnavailableError(
        "model",
        "a dual encoder of transformers, open_clip, OpenAI's clip or "
        "sentence-transformers, or an image backbone with its transform (of any other "
        "model give the two functions that embed to captum_pairs.from_functions)",
        f"{validation.describe(module)} that no adapter knows",
    )


# ---- the kinds that come with the package ------------------------------------


def _is_sentence_transformer(source: str) -> bool:
    """Whether sentence-transformers wrote it: a list of modules lies beside it."""
    path = directory(source)
    if path is not None:
        return (path / "modules.json").is_file()
    return saved_json(source, "modules.json") is not None


def _classes(source: str) -> list[str]:
    """Of a model of transformers, by its configuration; none if that can't be read."""
    made = _saved(source, "config.json").get("architectures")
    return list(map(str, made)) if isinstance(made, list) else []


def _is_cross_encoder(source: str) -> bool:
    """Whether transformers wrote it, with a head for classes of sequences."""
    made = any(each.endswith("ForSequenceClassification") for each in _classes(source))
    return made and not _is_sentence_transformer(source)


def _is_matching_head(source: str) -> bool:
    """Whether it has no two embeddings besides."""
    return not set(_classes(source)).isdisjoint(_MATCHING)


_MATCHING = (
    "Blip2ForImageTextRetrieval",
    "BridgeTowerForImageAndTextRetrieval",
    "ViltForImageAndTextRetrieval",
)


def _is_multi_vector(source: str) -> bool:
    """Whether it is late interaction of texts, as sentence-transformers, PyLate or
    Stanford's ColBERT save it."""
    made = _saved(source, "config.json").get("architectures")
    if isinstance(made, list) and "HF_ColBERT" in made:
        return True
    if not _is_sentence_transformer(source):
        return False
    settings = _saved(source, "config_sentence_transformers.json")
    return settings.get("model_type") in ("MultiVectorEncoder", "ColBERT")


def _is_page_retriever(source: str) -> bool:
    """Whether it is one of transformers' late interactions with page images."""
    return _saved(source, "config.json").get("model_type") in _PAGES


def _saved(source: str, file: str) -> dict[str, Any]:
    """The settings in a file of a saved model; none if it is not there."""
    found = saved_json(source, file)
    return found if isinstance(found, dict) else {}


_PAGES = ("colpali", "colqwen2", "colmodernvbert")
_HERE = "captum_pairs.models"
register_loader(
    "scenes",
    f"{_HERE}.embedded:load_scenes",
    **KINDS["scenes"]._asdict(),
)
register_loader(
    "transformers",
    f"{_HERE}.hugging_face:load_hugging_face",
    **KINDS["transformers"]._asdict(),
    adopter=f"{_HERE}.hugging_face:adopt_hugging_face",
    classes=("transformers",),
    claims=lambda source: True,
)
register_loader(
    "open_clip",
    f"{_HERE}.open_clip_models:load_open_clip",
    **KINDS["open_clip"]._asdict(),
    adopter=f"{_HERE}.open_clip_models:adopt_open_clip",
    classes=("open_clip",),
)
register_loader(
    "clip",
    f"{_HERE}.openai_clip:load_openai_clip",
    **KINDS["clip"]._asdict(),
    adopter=f"{_HERE}.openai_clip:adopt_openai_clip",
    classes=("clip",),
)
register_loader(
    "sentence-transformers",
    f"{_HERE}.sentences:load_sentence_transformer",
    **KINDS["sentence-transformers"]._asdict(),
    adopter=f"{_HERE}.sentences:adopt_sentence_transformer",
    classes=("sentence_transformers",),
    claims=_is_sentence_transformer,
)
register_loader(
    "multi-vector",
    f"{_HERE}.multi_vector:load_multi_vector",
    **KINDS["multi-vector"]._asdict(),
    adopter=f"{_HERE}.multi_vector:adopt_multi_vector",
    classes=("sentence_transformers.multi_vector_encoder",),
    claims=_is_multi_vector,
)
register_loader(
    "page-retrieval",
    f"{_HERE}.page_retrieval:load_page_retriever",
    **KINDS["page-retrieval"]._asdict(),
    adopter=f"{_HERE}.page_retrieval:adopt_page_retriever",
    classes=tuple(f"transformers.models.{kind}" for kind in _PAGES),
    claims=_is_page_retriever,
)
register_loader(
    "torchvision",
    f"{_HERE}.siamese:load_torchvision",
    **KINDS["torchvision"]._asdict(),
    adopter=f"{_HERE}.siamese:adopt_backbone",
    classes=("torchvision", "timm"),
)
register_loader(
    "cross-encoder",
    f"{_HERE}.cross_encoders:load_cross_encoder",
    **KINDS["cross-encoder"]._asdict(),
    adopter=f"{_HERE}.cross_encoders:adopt_cross_encoder",
    classes=("transformers.*ForSequenceClassification",),
    claims=_is_cross_encoder,
)
register_loader(
    "itm",
    f"{_HERE}.matching:load_matching",
    **KINDS["itm"]._asdict(),
    adopter=f"{_HERE}.matching:adopt_matching",
    classes=tuple(f"transformers.*.{name}" for name in _MATCHING),
    claims=_is_matching_head,
)
