"""The contract of an adapter: what explanations rely on, checked on a model."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Optional

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError, Place, validation
from captum_pairs.models import Encoder, EncoderPair, Feature, Layer, Layout, Prepared
from captum_pairs.models.encoder import AUDIO, IMAGE, TEXT
from captum_pairs.testing.broken import BrokenContractError, refused, require, unchanged
from PIL import Image
from torch import Tensor

__all__ = ["check_encoder"]

# What no image, text or sound is.
_NO_INPUTS: tuple[Any, ...] = (
    None,
    3,
    0.5,
    True,
    {},
    object(),
    [],
    (None,),
    np.zeros((2, 0)),
)


def check_encoder(
    model: EncoderPair,
    inputs: tuple[Optional[Sequence[Any]], Optional[Sequence[Any]]] = (None, None),
    *,
    score: Optional[Callable[[Any, Any], float]] = None,
    tolerance: float = 1e-5,
) -> None:
    """
    Check what every adapter promises.

    An input is prepared as a finite batch of one with a baseline of its shape; a layout
    has every position of the input and of each block's value in one feature, with a
    name and its place; every block is reached once by a forward pass; a batch is
    embedded as each of its examples alone; nothing of the model is changed; what is no
    input gets an error that says so.

    Args:
        model: as the adapter returns it.
        inputs: of each side, some inputs that it takes; default: a picture, a sentence
            or a sound.
        score: the model's own score (of its first head) of two such inputs, by its own
            forward pass, with which that of the embeddings is compared.
        tolerance: how far the two may be apart, and a batch from each alone, relative
            to the scale of the score or of the embeddings where these are above 1.

    Raises:
        BrokenContractError: an ``AssertionError`` that names what does not hold.
        InvalidArgumentError: naming an argument of this function.
    """
    if not isinstance(model, EncoderPair):
        raise InvalidArgumentError(
            "model", "an EncoderPair", validation.describe(model)
        )
    validation.positive_float("tolerance", tolerance)
    if score is not None and not callable(score):
        raise InvalidArgumentError(
            "score", "a function of two inputs", validation.describe(score)
        )
    for given in validation.pair_of("inputs", inputs):
        if not (given is None or isinstance(given, (list, tuple)) and given):
            raise InvalidArgumentError(
                "inputs", "a list of inputs for each side", validation.describe(given)
            )
    require(model.similarity in ("cosine", "dot"), "similarity is 'cosine' or 'dot'")
    require(len(model.heads) > 0, "there is a head, the model's own score")
    examples = []
    for side, encoder, given in zip(
        ("first", "second"), (model.first, model.second), inputs
    ):
        raws = list(given) if given is not None else _examples(side, encoder)
        examples.append(raws)
        with unchanged(encoder.module):
            for raw in raws:
                _check_input(encoder, raw, tolerance)
            _check_refusals(encoder, raws[0])
    if score is not None:
        for first in examples[0]:
            for second in examples[1]:
                _check_score(model, (first, second), score, tolerance)


def _examples(side: str, encoder: Encoder) -> list[Any]:
    """Some inputs of a kind."""
    if encoder.kind == IMAGE:
        rng = np.random.default_rng(0)
        sizes = ((48, 48), (60, 40), (31, 70))
        return [
            Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
            for w, h in sizes
        ]
    if encoder.kind == TEXT:
        return ["a red circle", "Two  DOGS, and a cat!"]
    raise BrokenContractError(
        f"inputs of the {side} side are given, since it takes {encoder.kind}"
    )


# ---- one input ---------------------------------------------------------------


def _check_input(encoder: Encoder, raw: Any, tolerance: float) -> None:
    for name in (None, *encoder.baselines):
        prepared = encoder.prepare(raw, name)
        _check_prepared(prepared, encoder, name)
    prepared = encoder.prepare(raw).to(encoder.device)
    again = encoder.prepare(raw).to(encoder.device)
    require(
        torch.equal(prepared.inputs, again.inputs),
        "an input is prepared alike each time",
    )
    _check_batch(encoder, prepared, tolerance)
    for layer in _layers(encoder):
        _check_layer(encoder, prepared, layer)


def _check_prepared(prepared: Prepared, encoder: Encoder, name: Optional[str]) -> None:
    inputs, baseline = prepared.inputs, prepared.baseline
    require(
        inputs.ndim > 1 and inputs.shape[0] == 1,
        "an input is a batch of one",
        tuple(inputs.shape),
    )
    require(
        baseline.shape == inputs.shape and baseline.dtype == inputs.dtype,
        "a baseline is of its input's shape and type",
        f"{tuple(baseline.shape)} of {baseline.dtype}, not {tuple(inputs.shape)} of "
        f"{inputs.dtype}",
    )
    for what, value in (("an input", inputs), ("a baseline", baseline)):
        require(bool(torch.isfinite(value).all()), f"{what} ({name}) is finite")
    require(bool(prepared.baseline_name), "a baseline has a name in words")
    require(
        prepared.source.kind == encoder.kind,
        f"its source is of the encoder's kind, {encoder.kind}",
        prepared.source.kind,
    )


def _embed(encoder: Encoder, prepared: Prepared, inputs: Tensor) -> Tensor:
    """Embeddings (b, k) of a batch, with one example's arguments, as a path's points
    are embedded: repeated where they don't broadcast."""
    with torch.no_grad():
        try:
            return encoder.embed(inputs, *prepared.arguments)
        except (IndexError, RuntimeError, ValueError):
            count = len(inputs)
            return encoder.embed(
                inputs,
                *(
                    (
                        value.repeat_interleave(count, 0)
                        if isinstance(value, Tensor) and value.ndim
                        else value
                    )
                    for value in prepared.arguments
                ),
            )


def _check_batch(encoder: Encoder, prepared: Prepared, tolerance: float) -> None:
    both = torch.cat([prepared.inputs, prepared.baseline])
    alone = [_embed(encoder, prepared, row[None]) for row in both]
    embedding = alone[0]
    require(
        embedding.ndim == 2
        and embedding.shape[0] == 1
        and embedding.is_floating_point(),
        "an embedding is (b, k), of floating numbers",
        tuple(embedding.shape),
    )
    require(bool(torch.isfinite(embedding).all()), "an embedding is finite")
    require(
        torch.equal(embedding, _embed(encoder, prepared, prepared.inputs)),
        "an input is embedded alike each time (is the model in training mode?)",
    )
    _close(
        _embed(encoder, prepared, both),
        torch.cat(alone),
        "a batch is embedded as each of its examples alone",
        tolerance,
    )


def _close(found: Tensor, wanted: Tensor, promise: str, tolerance: float) -> None:
    require(found.shape == wanted.shape, promise, f"shape {tuple(found.shape)}")
    scale = max(1.0, float(wanted.abs().max()))
    error = float((found - wanted).abs().max())
    require(error <= tolerance * scale, promise, f"a difference of {error:.2g}")


# ---- layers ------------------------------------------------------------------


def _layers(encoder: Encoder) -> list[Layer]:
    """The input, every block at both ends, and the default."""
    layers = [encoder.layer("input"), encoder.layer(None)]
    for index, block in enumerate(encoder.blocks):
        layers += [encoder.layer(index), encoder.layer(block)]
    for layer in layers:
        require(bool(layer.name), "a layer has a name in words")
    return layers


def _check_layer(encoder: Encoder, prepared: Prepared, layer: Layer) -> None:
    if layer.module is None:
        shape = tuple(prepared.inputs.shape)
        if not prepared.inputs.is_floating_point():
            refused(
                partial(prepared.layout, shape, True, False),
                "an input of whole numbers without a layer that stands for it",
            )
            return
    else:
        place = Place(layer.module, layer.at_input, "layer")
        with place.visited() as visit:
            _embed(encoder, prepared, prepared.inputs)
        try:
            shape = tuple(place.check(visit).shape)
        except InvalidArgumentError as error:
            raise BrokenContractError(
                f"the {layer.name} is reached once; {error}"
            ) from error
    for tokens in (False, True):
        layout = prepared.layout(shape, layer.module is None, tokens)
        _check_layout(layout, shape, prepared, layer.name, tokens)


def _check_layout(
    layout: Layout,
    shape: Sequence[int],
    prepared: Prepared,
    where: str,
    tokens: bool,
) -> None:
    mask, features = layout.mask, layout.features
    fits = mask.ndim == len(shape) and all(
        size in (1, full) for size, full in zip(mask.shape, shape)
    )
    require(
        fits and mask.dtype == torch.int64,
        f"the mask of the {where} is of int64 and of the value's dimensions, each its "
        "own or 1",
        f"{mask.dtype} {tuple(mask.shape)} for {tuple(shape)}",
    )
    require(
        sorted(set(mask.flatten().tolist())) == list(range(len(features))),
        f"every position of the {where} is in one feature, and every feature has one",
        f"{len(features)} features",
    )
    flags = [feature.special for feature in features]
    require(flags == sorted(flags), f"special tokens of the {where} are the last")
    require(not all(flags), f"the {where} has a feature that is not special")
    for feature in features:
        _check_feature(feature, prepared, tokens)
    if layout.grid is not None:
        rows, columns = layout.grid
        require(
            rows * columns == flags.count(False),
            f"the {where} has a feature for each place of its grid",
            f"{flags.count(False)} for {rows} x {columns}",
        )
        _check_tiles(features, prepared)


def _check_feature(feature: Feature, prepared: Prepared, tokens: bool) -> None:
    require(
        isinstance(feature.name, str) and bool(feature.name.strip()),
        "a feature has a name",
        repr(feature.name),
    )
    source = prepared.source
    if source.kind == TEXT and not feature.special:
        # a token may be a space only, of which a tokenizer says no character
        span = feature.span or (-1, -1)
        require(
            0 <= span[0] < span[1] + tokens <= len(source.text) + tokens,
            f"“{feature.name}” has characters of the text",
            feature.span,
        )
    if feature.box is not None and source.size is not None:
        left, top, right, bottom = feature.box
        width, height = source.size
        require(
            0 <= left < right <= width + 1e-6 and 0 <= top < bottom <= height + 1e-6,
            f"{feature.name} lies inside of the input",
            feature.box,
        )


def _check_tiles(features: Sequence[Feature], prepared: Prepared) -> None:
    """Patches don't overlap and leave nothing out of what the model saw."""
    seen = prepared.source.visible
    boxes = [f.box for f in features if f.box is not None and not f.special]
    if seen is None or not boxes:
        return
    areas = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    whole = (seen[2] - seen[0]) * (seen[3] - seen[1])
    require(
        abs(areas - whole) <= 1e-4 * whole,
        "the patches are what the model saw",
        f"{areas:.1f} of {whole:.1f}",
    )


# ---- the score ---------------------------------------------------------------


def _check_score(
    model: EncoderPair,
    raws: tuple[Any, Any],
    score: Callable[[Any, Any], float],
    tolerance: float,
) -> None:
    embeddings = []
    for encoder, raw in zip((model.first, model.second), raws):
        prepared = encoder.prepare(raw).to(encoder.device)
        embeddings.append(_embed(encoder, prepared, prepared.inputs).double())
    if model.similarity == "cosine":
        embeddings = [e / e.norm(dim=1, keepdim=True) for e in embeddings]
    head = model.heads[0]
    found = head(float((embeddings[0] * embeddings[1]).sum()))
    wanted = float(score(*raws))
    scale = max(1.0, abs(head.scale), abs(wanted))
    require(
        abs(found - wanted) <= tolerance * scale,
        f"{head.name} is the model's own, {wanted:.7g}",
        f"{found:.7g}",
    )


# ---- what is refused ---------------------------------------------------------


def _check_refusals(encoder: Encoder, raw: Any) -> None:
    refused(
        partial(encoder.prepare, raw, "no such baseline"),
        "a baseline that there is not",
        "baseline",
    )
    count = len(encoder.blocks)
    no_layers: tuple[Any, ...] = ("no such layer", count, -count - 1, 0.5, True)
    for wanted in no_layers:
        refused(partial(encoder.layer, wanted), f"the layer {wanted!r}", "layer")
    if encoder.kind not in (IMAGE, TEXT, AUDIO):
        return  # what it takes is its author's own
    no_names = ("", " \n") if encoder.kind == TEXT else ("", "no such file", "\0")
    for value in (*_NO_INPUTS, *no_names):
        refused(partial(encoder.prepare, value), f"{value!r} as {encoder.kind}")
