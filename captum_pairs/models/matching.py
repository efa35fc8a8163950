"""Image-text matching heads of transformers: networks that look at an image and read a
text at once, and say whether the two belong together."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional

import torch
from captum_pairs.models.checkpoints import check_pointer
from captum_pairs.models.encoder_pair import EncoderPair, Head
from captum_pairs.models.errors import loading, ModelUnavailableError
from captum_pairs.models.hugging_face import (
    check_weights,
    HuggingFaceImageEncoder,
    HuggingFaceTextEncoder,
    processor_of,
    processor_parts,
)
from captum_pairs.models.observed import find_blocks, Patches
from captum_pairs.models.scorer import ScorerOfTwo
from torch import nn, Tensor
from transformers import (
    AutoConfig,
    Blip2ForImageTextRetrieval,
    BlipForImageTextRetrieval,
    BridgeTowerForImageAndTextRetrieval,
    ViltForImageAndTextRetrieval,
)

__all__ = ["adopt_matching", "load_matching"]

Embed = Callable[..., Any]

_HEADS = (Head("logit"), Head("probability", activation="sigmoid"))
# Of two classes the second one is a match; what is explained is the logit of that.
_NO, _YES = 0, 1


def _logit(classes: Tensor) -> Tensor:
    """(b, 2) to (b,): the logarithm of the odds of a match."""
    return classes[:, _YES] - classes[:, _NO]


class _CutImages(HuggingFaceImageEncoder):
    """Images of a network that cuts them into patches of a known size, and shuffles
    these."""

    def __init__(self, model: Any, processor: Any) -> None:
        self._size = int(model.config.patch_size)
        embed = partial(_patches, model.vilt.embeddings.patch_embeddings)
        super().__init__(model, embed, processor.image_processor, ())

    def patches(self, pixels: Tensor) -> Patches:
        height, width = (int(side) // self._size for side in pixels.shape[-2:])
        return Patches((height, width), (float(self._size), float(self._size)))


def _patches(cut: Embed, pixels: Tensor) -> Tensor:
    """Their mean, (b, d)."""
    return torch.as_tensor(cut(pixels).flatten(2).mean(2))


class _Parts:
    """An image side and a text side of one model."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        image: HuggingFaceImageEncoder,
        blocks: Sequence[nn.Module],
        longest: int,
        entrance: nn.Module,
    ) -> None:
        """
        Args:
            image: its blocks are those before it is mixed with the text.
            blocks: of the text's part; none for its words themselves.
            longest: how many tokens it reads.
            entrance: its word embedding.
        """
        self.image = image
        self.text = HuggingFaceTextEncoder(
            model,
            _no_embedding,
            processor.tokenizer,
            blocks,
            entrance,
            min(longest, int(processor.tokenizer.model_max_length)),
        )
        for side in (self.image, self.text):
            if not side.blocks:
                side.default_block = None

    def pair(self, name: str, score: Embed, heads: tuple[Head, ...]) -> EncoderPair:
        """Both, and their score."""
        scorer = ScorerOfTwo(self.image, self.text, score)
        return EncoderPair(name, self.image, self.text, heads, "score", scorer)


def _no_embedding(*arguments: Any) -> Tensor:
    raise NotImplementedError("a matching head embeds no text alone")


def _images(model: Any, processor: Any, vision: nn.Module) -> HuggingFaceImageEncoder:
    """Images of a model, in its part that sees them alone."""
    embed = partial(_first_token, vision)
    blocks = find_blocks(vision)
    return HuggingFaceImageEncoder(model, embed, processor.image_processor, blocks)


def _first_token(vision: Embed, pixels: Tensor) -> Tensor:
    found = vision(pixels)
    states: Any = getattr(found, "last_hidden_state", found)
    return torch.as_tensor(states[:, 0])


def _blip(name: str, model: Any, processor: Any) -> EncoderPair:
    def score(pixels: Tensor, ids: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        found = model(input_ids=ids, pixel_values=pixels, attention_mask=mask)
        return _logit(found.itm_score)

    parts = _Parts(
        model,
        processor,
        _images(model, processor, model.vision_model),
        find_blocks(model.text_encoder),
        int(model.config.text_config.max_position_embeddings),
        model.text_encoder.get_input_embeddings(),
    )
    return parts.pair(name, score, _HEADS)


def _blip_2(name: str, model: Any, processor: Any) -> EncoderPair:
    """Its text meets the image's queries in one sequence from the first block on."""
    config = model.config

    def score(pixels: Tensor, ids: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        mask = torch.ones_like(ids) if mask is None else mask
        if config.image_token_index is not None:
            # placeholders, which the model takes away again
            before = ids.shape[0], int(config.num_query_tokens)
            ids = torch.cat([ids.new_full(before, config.image_token_index), ids], 1)
            mask = torch.cat([mask.new_ones(mask.shape[0], before[1]), mask], 1)
        found = model(
            pixel_values=pixels,
            input_ids=ids,
            attention_mask=mask,
            use_image_text_matching_head=True,
        )
        return _logit(found.logits_per_image)

    parts = _Parts(
        model,
        processor,
        _images(model, processor, model.vision_model),
        (),
        int(config.qformer_config.max_position_embeddings),
        model.get_input_embeddings(),
    )
    return parts.pair(name, score, _HEADS)


def _vilt(name: str, model: Any, processor: Any) -> EncoderPair:
    """Its patches are shuffled within the model, so that only pixels have a place."""

    def score(pixels: Tensor, ids: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        rows = max(len(pixels), len(ids))
        found = model(
            input_ids=ids.expand(rows, -1),
            attention_mask=None if mask is None else mask.expand(rows, -1),
            pixel_values=pixels,
        )
        return torch.as_tensor(found.logits)

    parts = _Parts(
        model,
        processor,
        _CutImages(model, processor),
        (),
        int(model.config.max_position_embeddings),
        model.get_input_embeddings(),
    )
    return parts.pair(name, score, (Head("logit"),))


def _bridgetower(name: str, model: Any, processor: Any) -> EncoderPair:
    tower = model.bridgetower
    config = model.config.text_config

    def score(pixels: Tensor, ids: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        found = model(input_ids=ids, attention_mask=mask, pixel_values=pixels)
        return _logit(found.logits)

    parts = _Parts(
        model,
        processor,
        _images(model, processor, tower.vision_model),
        find_blocks(tower.text_model),
        # positions begin behind the padding's
        int(config.max_position_embeddings) - int(config.pad_token_id) - 1,
        tower.text_model.get_input_embeddings(),
    )
    return parts.pair(name, score, _HEADS)


_FAMILIES: dict[str, tuple[Any, Callable[[str, Any, Any], EncoderPair]]] = {
    "blip": (BlipForImageTextRetrieval, _blip),
    "blip-2": (Blip2ForImageTextRetrieval, _blip_2),
    "bridgetower": (BridgeTowerForImageAndTextRetrieval, _bridgetower),
    "vilt": (ViltForImageAndTextRetrieval, _vilt),
}
# Models with such a head that is none of two inputs as they are.
_REFUSED = {"flava": "FLAVA's matching head reads masked inputs, as in its training"}


def load_matching(name: str, source: str) -> EncoderPair:
    """
    A matching head that transformers saved.

    Args:
        name: what was asked for.
        source: a directory or a name on the hub.

    Raises:
        ModelUnavailableError: see :func:`captum_pairs.models.load`.
    """
    with loading(name):
        check_pointer(Path(source))
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    known, make = _family(name, config.model_type)
    with loading(name):
        model, found = known.from_pretrained(
            source,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        processor = processor_of(source, config.model_type)
    check_weights(name, found)
    model.train(False).requires_grad_(False)
    return make(name, model, processor)


def adopt_matching(model: Any, processor: Any, name: str) -> EncoderPair:
    """
    A matching head that is in memory; it stays as it is.

    Args:
        processor: as for :func:`captum_pairs.models.load`.

    Raises:
        ModelUnavailableError: for a model of another kind.
        InvalidArgumentError: naming ``processor``.
    """
    known, make = _family(name, str(model.config.model_type))
    if not isinstance(model, known):
        raise _no_head(name, f"a {type(model).__name__}")
    return make(model.name_or_path or name, model, processor_parts(processor, None))


def _family(name: str, kind: str) -> tuple[Any, Callable[..., EncoderPair]]:
    if kind not in _FAMILIES:
        raise _no_head(name, _REFUSED.get(kind, f"model_type {kind!r}"))
    return _FAMILIES[kind]


def _no_head(name: str, reason: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        "model",
        f"a matching head of one of the kinds {', '.join(_FAMILIES)} (of another one "
        "give the score itself to captum_pairs.from_score)",
        f"{name}: {reason}",
    )
