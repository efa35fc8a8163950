"""The models of open_clip, through their own ``encode_image`` and ``encode_text``."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Optional

import open_clip
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.checkpoints import check_pointer
from captum_pairs.models.encoder import Feature
from captum_pairs.models.encoder_pair import EncoderPair, Head
from captum_pairs.models.errors import loading, ModelUnavailableError
from captum_pairs.models.fixed_texts import (
    byte_pair_tokens,
    pad_tokens,
    Reading,
    ReadTextEncoder,
)
from captum_pairs.models.observed import find_blocks, ImageParts, observe_parts
from captum_pairs.models.paths import directory, file
from captum_pairs.models.remote_code import asks_for_code, never_asked
from captum_pairs.models.texts import check_length, PADDING
from captum_pairs.models.transformed import (
    centre_view,
    shortest_edge,
    TransformedImageEncoder,
)
from captum_pairs.models.view import View
from captum_pairs.models.vocabulary import check_vocabulary
from captum_pairs.models.words import offsets_of, surface_of
from open_clip.transform import PreprocessCfg
from PIL import Image
from torch import Tensor
from transformers.utils.hub import cached_file

__all__ = ["adopt_open_clip", "load_open_clip", "view_of_transform"]

_HUB, _DIRECTORY = "hf-hub:", "local-dir:"


def load_open_clip(name: str, rest: str) -> EncoderPair:
    """
    A dual encoder of open_clip.

    Args:
        name: what was asked for.
        rest: ``ARCHITECTURE/WEIGHTS``, where the weights are a tag of open_clip's, a
            file, or a directory with an open_clip_config.json (as a directory alone
            is); or ``hf-hub:org/name``.

    Raises:
        ModelUnavailableError: see :func:`captum_pairs.models.load`.
    """
    source, weights = _source(name, rest)
    with loading(name), never_asked():
        _check_files(source, weights)
        _check_code(source)
        model, transform = open_clip.create_model_from_pretrained(source, weights)
        tokenizer = open_clip.get_tokenizer(source)
    return _pair(name, model, transform, tokenizer)


def adopt_open_clip(model: Any, processor: Any, name: str) -> EncoderPair:
    """
    A dual encoder of open_clip that is in memory; it stays as it is.

    Args:
        model: with ``encode_image`` and ``encode_text``.
        processor: its transform for inference, and its tokenizer.
        name: what it is called.

    Raises:
        ModelUnavailableError: for a part of a model.
        InvalidArgumentError: naming ``processor``.
    """
    if not (hasattr(model, "encode_image") and hasattr(model, "encode_text")):
        raise ModelUnavailableError(
            "model",
            "a model of open_clip with encode_image and encode_text",
            validation.describe(model),
        )
    both = processor if isinstance(processor, (tuple, list)) else ()
    is_read = len(both) == 2 and hasattr(both[1], "context_length")
    if not is_read or not callable(both[0]) or hasattr(both[0], "context_length"):
        raise InvalidArgumentError(
            "processor",
            "(transform, tokenizer): what open_clip.create_model_from_pretrained "
            "returns with the model, and open_clip.get_tokenizer",
            validation.describe(processor),
        )
    return _pair(name, model, *both)


def _pair(name: str, model: Any, transform: Any, tokenizer: Any) -> EncoderPair:
    bias = getattr(model, "logit_bias", None)
    head = Head(
        "image_logits",
        float(model.logit_scale.detach().exp()),
        0.0 if bias is None else float(bias.detach()),
    )
    return EncoderPair(
        name, _images(model, transform), _texts(model, tokenizer), (head,)
    )


def _check_files(source: str, weights: Optional[str]) -> None:
    """Pointers, of which open_clip would say that they are damaged."""
    for place in (source.removeprefix(_DIRECTORY), weights):
        if place is not None:
            check_pointer(Path(place))


def _check_code(source: str) -> None:
    """Settings that would have open_clip run code that comes with a text tower."""
    for prefix in (_DIRECTORY, _HUB):
        if not source.startswith(prefix):
            continue
        found = cached_file(
            source.removeprefix(prefix),
            "open_clip_config.json",
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
        text = "null" if found is None else Path(found).read_text("utf-8")
        if asks_for_code(json.loads(text)):
            raise ValueError(
                "its settings ask to run code of its own (trust_remote_code), which is "
                "only done if you load it yourself and hand it in: load(model, "
                "(transform, tokenizer))"
            )


def _source(name: str, rest: str) -> tuple[str, Optional[str]]:
    """What open_clip calls a model's name, and its weights."""
    if rest.startswith((_HUB, _DIRECTORY)):
        return rest, None
    if rest and directory(rest) is not None:
        return _DIRECTORY + str(directory(rest)), None
    known = open_clip.list_models()
    for at in (at for at, letter in enumerate(f"{rest}/") if letter == "/"):
        architecture, weights = rest[:at].replace("/", "-"), rest[at + 1 :]
        if architecture not in known:
            continue
        if not weights:
            break
        if directory(weights) is not None:
            return _DIRECTORY + str(directory(weights)), None
        return architecture, str(file(weights) or weights)
    else:
        raise ModelUnavailableError(
            "model",
            "open_clip:ARCHITECTURE/WEIGHTS with an architecture of "
            "open_clip.list_models(), or open_clip:hf-hub:org/name",
            name,
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    raise ModelUnavailableError(
        "model",
        f"open_clip:{architecture}/WEIGHTS with a file or one of the tags "
        f"{', '.join(tags) or '(none)'}",
        name,
    )


# ---- images ----------------------------------------------------------------


def _images(
    model: Any, transform: Callable[[Image.Image], Tensor]
) -> TransformedImageEncoder:
    config = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
    embed = partial(model.encode_image, normalize=False)
    return TransformedImageEncoder(
        model,
        embed,
        transform,
        partial(view_of_transform, config),
        _three(config.mean),
        _three(config.std),
        _image_parts(model, embed, transform),
    )


def _image_parts(
    model: Any,
    embed: Callable[[Tensor], Tensor],
    transform: Callable[[Image.Image], Tensor],
) -> ImageParts:
    """Of a transformer as it says itself; of anything else by one forward pass."""
    visual = model.visual
    if isinstance(visual, open_clip.transformer.VisionTransformer):
        blocks, grid = visual.transformer.resblocks, visual.grid_size
        return ImageParts(blocks, grid, len(blocks) // 3)
    trunk = getattr(visual, "trunk", None)
    blocks = getattr(trunk, "blocks", None)
    found = getattr(getattr(trunk, "patch_embed", None), "grid_size", None)
    if blocks is not None and found is not None:
        return ImageParts(blocks, tuple(found), len(blocks) // 3)
    black = transform(Image.new("RGB", (64, 64)))[None].float()
    return observe_parts(visual, embed, black)


def view_of_transform(config: PreprocessCfg, size: tuple[int, int]) -> View:
    """What open_clip's transform for inference does to an image of a size (width,
    height): it resizes the shorter side and crops, resizes the longer one and pads, or
    squashes."""
    given = config.size
    across, down = (given, given) if isinstance(given, int) else tuple(given)[::-1]
    processed = int(across), int(down)
    if config.resize_mode == "squash":
        return centre_view(size, processed, processed)
    if config.resize_mode != "longest" and across == down:
        return centre_view(size, shortest_edge(size, processed[0]), processed)
    ratios = size[1] / processed[1], size[0] / processed[0]
    ratio = max(ratios) if config.resize_mode == "longest" else min(ratios)
    resized = round(size[0] / ratio), round(size[1] / ratio)
    return centre_view(size, resized, processed)


def _three(value: Any) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (float(value),) * 3


# ---- texts -----------------------------------------------------------------


def _texts(model: Any, tokenizer: Any) -> ReadTextEncoder:
    # plain CLIP keeps the parts of its text encoder as its own
    text = getattr(model, "text", model)
    embed = partial(model.encode_text, normalize=False)
    if hasattr(text, "pooler"):  # a model of transformers
        blocks = find_blocks(text.transformer)
        entrance = text.transformer.get_input_embeddings()
        masked = text.config.pad_token_id
    else:
        blocks, entrance = text.transformer.resblocks, text.token_embedding
        masked = None
    read: Callable[[str], Reading]
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        read = partial(_read_byte_pairs, tokenizer)
    else:
        check_vocabulary(tokenizer.tokenizer)
        read = partial(_read_hugging_face, tokenizer, masked)
    return ReadTextEncoder(model, embed, read, blocks, entrance)


def _read_byte_pairs(tokenizer: Any, text: str) -> Reading:
    longest = tokenizer.context_length
    ids = [
        tokenizer.sot_token_id,
        *tokenizer.encode(text),
        tokenizer.eot_token_id,
    ]
    tokens = byte_pair_tokens(text, ids, tokenizer, tokenizer.all_special_ids)
    check_length(tokens, longest)
    return Reading(tokenizer(text), pad_tokens(tokens, longest), 0)


def _read_hugging_face(tokenizer: Any, masked: Optional[int], text: str) -> Reading:
    """
    A text through open_clip's wrappers of a tokenizer of transformers.

    Args:
        tokenizer: the wrapper.
        masked: the id that the model does not look at, and which is left out.
        text: as it was written.
    """
    inner, longest = tokenizer.tokenizer, tokenizer.context_length
    around = getattr(tokenizer, "tokenizer_mode", "") == "clips"
    tokens = _hugging_face_tokens(tokenizer, text, special=not around)
    last: tuple[Feature, ...] = ()
    if around:  # its own special tokens, of which the last stands behind the padding
        begin, end, class_token = (
            (Feature(str(name), special=True),)
            for name in (inner.bos_token, inner.eos_token, inner.cls_token)
        )
        tokens, last = (*begin, *tokens, *end), class_token
    check_length((*tokens, *last), longest)
    ids = tokenizer(text)
    padding = inner.pad_token_id
    if getattr(tokenizer, "strip_sep_token", False):  # which it makes padding
        tokens = tuple(
            Feature(PADDING, special=True) if t.name == inner.sep_token else t
            for t in tokens
        )
        padding = 0
    if masked is not None and masked == padding and not last:
        # the tokenizer pads, and the model masks it out again
        kept = slice(-len(tokens), None)
        if inner.padding_side == "right":
            kept = slice(len(tokens))
        return Reading(ids[:, kept], tokens, padding)
    if inner.padding_side == "left" and not around:
        return Reading(ids, pad_tokens(tokens[::-1], longest)[::-1], padding)
    tokens = (*pad_tokens(tokens, longest - len(last)), *last)
    return Reading(ids, tokens, padding)


def _hugging_face_tokens(
    tokenizer: Any, text: str, special: bool
) -> tuple[Feature, ...]:
    """Without padding, and however long it is."""
    inner = tokenizer.tokenizer
    clean = getattr(
        tokenizer, "clean_fn", open_clip.tokenizer.get_clean_fn("canonicalize")
    )
    cleaned = clean(text)
    encoded = inner(
        cleaned,
        add_special_tokens=special,
        return_offsets_mapping=inner.is_fast,
        return_special_tokens_mask=True,
        verbose=False,
    )
    names = inner.convert_ids_to_tokens(encoded["input_ids"])
    flags = [
        (bool(flag) or name in inner.all_special_tokens) and name != inner.unk_token
        for flag, name in zip(encoded["special_tokens_mask"], names)
    ]
    if inner.is_fast:
        places = [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
        surfaces = [cleaned[a:b] for a, b in places]
    else:
        surfaces = [surface_of(name, inner) for name in names]
    if not (inner.is_fast and cleaned == text):
        # offsets in the text as it was before it was cleaned
        wanted = [None if flag else s for flag, s in zip(flags, surfaces)]
        places = offsets_of(text, wanted)
    return tuple(
        Feature(name, flag, None if flag else place, unknown=name == inner.unk_token)
        for name, flag, place in zip(names, flags, places)
    )
