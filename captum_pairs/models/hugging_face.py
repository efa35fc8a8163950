"""The dual encoders of Hugging Face's transformers, by their own forward passes."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import PIL.Image
import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.checkpoints import check_pointer
from captum_pairs.models.encoder import Encoder, Feature
from captum_pairs.models.encoder_pair import EncoderPair, Head
from captum_pairs.models.errors import loading, ModelUnavailableError
from captum_pairs.models.images import ImageEncoder
from captum_pairs.models.naflex import NaFlexEncoder
from captum_pairs.models.observed import find_blocks
from captum_pairs.models.outputs import embeddings_of
from captum_pairs.models.sound import ClapAudioEncoder
from captum_pairs.models.texts import (
    check_length,
    PADDING,
    PreparedText,
    text_source,
    TextEncoder,
    without_words,
)
from captum_pairs.models.view import View, view_of, Views
from captum_pairs.models.vocabulary import check_ids, check_vocabulary
from captum_pairs.models.words import offsets_of, surface_of
from PIL.Image import Image
from torch import nn, Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoProcessor,
    BlipForImageTextRetrieval,
    FeatureExtractionMixin,
    ImageProcessingMixin,
    PreTrainedTokenizerBase,
)

__all__ = [
    "adopt_hugging_face",
    "check_missing",
    "check_precision",
    "check_weights",
    "HuggingFaceImageEncoder",
    "HuggingFaceTextEncoder",
    "load_hugging_face",
    "processor_of",
    "processor_parts",
]

Embed = Callable[..., Any]

# A name with a block's number in it.
_NUMBERED = re.compile(r"\.\d+\.")


class HuggingFaceImageEncoder(ImageEncoder):
    """
    The image side of a dual encoder of transformers.

    By default a third of the blocks runs first: near the input a patch is still its own
    pixels, and the path's integral is a costly one in deep models.
    """

    def __init__(
        self,
        model: nn.Module,
        embed: Embed,
        processor: Any,
        blocks: Sequence[nn.Module],
        default_block: Optional[int] = None,
    ) -> None:
        """
        Args:
            model: what it is a part of.
            embed: pixels (b, 3, h, w) to embeddings, or to an output that holds them as
                ``pooler_output``.
            processor: the image processor.
            blocks: of the image encoder.
            default_block: a third of the blocks unless it is given.
        """
        self.module = model
        self.processor = processor
        self.blocks = list(blocks)
        self.default_block = (
            len(self.blocks) // 3 if default_block is None else default_block
        )
        self.mean = tuple(getattr(processor, "image_mean", None) or (0.5, 0.5, 0.5))
        self.views = Views("image_processor")
        self._embed = embed
        # a model that its processor does not fit is refused at once
        plain = self.prepare(PIL.Image.new("RGB", (64, 64)))
        self.grid = plain.grid

    def process(self, image: Image) -> tuple[Tensor, View]:
        try:
            told = view_of(self.processor, image.size)
        except InvalidArgumentError:
            told = None  # it is measured
        view = self.views.view(self._pixels, image.size, told)
        return self._pixels(image), view

    def _pixels(self, image: Image) -> Tensor:
        made = self.processor(images=image, return_tensors="pt")["pixel_values"]
        if made.ndim != 4 or len(made) != 1:
            raise InvalidArgumentError(
                "image_processor",
                "one that makes pixels (1, 3, h, w) of an image",
                f"shape {tuple(made.shape)}",
            )
        pixels: Tensor = made.float()
        return pixels

    def normalized(self, color: Sequence[float]) -> Tensor:
        if tuple(color) == self.mean and getattr(self.processor, "do_normalize", False):
            return torch.zeros(3)
        # through the processor itself, whatever it does to a value
        red, green, blue = (round(255 * value) for value in color)
        plain = self._pixels(PIL.Image.new("RGB", (256, 256), (red, green, blue)))[0]
        found: Tensor = plain[:, plain.shape[1] // 2, plain.shape[2] // 2]
        return found

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        return embeddings_of(self._embed(inputs, *arguments))


class HuggingFaceTextEncoder(TextEncoder):
    """
    The text side of a dual encoder of transformers.

    A text is not padded unless the model was made to read padding. Its baseline has the
    same length: padding (or the mask token, if there is one) instead of its words, the
    special tokens where they are.
    """

    def __init__(
        self,
        model: nn.Module,
        embed: Embed,
        tokenizer: Any,
        blocks: Sequence[nn.Module],
        entrance: nn.Module,
        longest: int,
        padded: bool = False,
        masked: bool = True,
    ) -> None:
        """
        Args:
            model: what it is a part of.
            embed: token ids (b, tokens), and an attention mask if masked, to
                embeddings.
            tokenizer: of the model.
            blocks: of the text encoder.
            entrance: its word embedding.
            longest: how many tokens it reads.
            padded: pad to that length.
            masked: whether `embed` takes an attention mask.

        Raises:
            ModelUnavailableError: if the tokenizer knows no words.
        """
        check_vocabulary(tokenizer)
        self.module = model
        self.tokenizer = tokenizer
        self.blocks = list(blocks)
        self.entrance = entrance
        self.longest = longest
        self.padded = padded
        self.masked = masked
        self._embed = embed

    def tokenize(self, text: str) -> PreparedText:
        fast = bool(getattr(self.tokenizer, "is_fast", False))
        encoded = self.tokenizer(
            text,
            return_offsets_mapping=fast,
            return_special_tokens_mask=True,
            padding="max_length" if self.padded else False,
            **({"max_length": self.longest} if self.padded else {}),
            verbose=False,
        )
        ids = encoded["input_ids"]
        tokens = self._tokens(text, encoded, fast)
        check_length(tokens, self.longest)
        values = torch.tensor([ids])
        check_ids(values, self.entrance)
        mask = encoded.get("attention_mask")
        arguments: tuple[Any, ...] = ()
        if self.masked and mask is not None:
            arguments = (torch.tensor([mask]),)
        padding = self.tokenizer.pad_token_id
        if padding is None:
            padding = self.tokenizer.eos_token_id
        return PreparedText(
            values,
            without_words(values, tokens, padding),
            text_source(text),
            "its special tokens with padding between",
            arguments,
            tokens=tokens,
        )

    @staticmethod
    def _is_word(encoded: Any, at: int) -> bool:
        """Whether a token stands for characters; where that is not known, whether it
        is neither the first nor the last one."""
        if "offset_mapping" in encoded:
            start, end = encoded["offset_mapping"][at]
            return bool(start < end)
        return 0 < at < len(encoded["input_ids"]) - 1

    def _tokens(self, text: str, encoded: Any, fast: bool) -> tuple[Feature, ...]:
        """Every token's name, and its characters or that it is special."""
        ids = encoded["input_ids"]
        names = self.tokenizer.convert_ids_to_tokens(ids)
        special = [bool(flag) for flag in encoded["special_tokens_mask"]]
        for at, name in enumerate(names):
            special[at] = special[at] or name in self.tokenizer.all_special_tokens
            # an unknown word is a word; CLIP's end token has the same name
            if name == self.tokenizer.unk_token and self._is_word(encoded, at):
                special[at] = False
        # of pads that look like the end token the first one is the end
        pad = self.tokenizer.pad_token_id
        count = len(ids)
        padding = set()
        if self.padded:
            if self.tokenizer.padding_side == "right":
                last = count
                while last > 0 and ids[last - 1] == pad:
                    last -= 1
                if pad == self.tokenizer.eos_token_id:
                    last += 1
                padding = set(range(last, count))
            else:
                first = 0
                while first < count and ids[first] == pad:
                    first += 1
                padding = set(range(first))
        if fast:
            offsets = [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
        else:
            surfaces = [
                None if flag else surface_of(name, self.tokenizer)
                for name, flag in zip(names, special)
            ]
            offsets = offsets_of(text, surfaces)
        return tuple(
            Feature(
                PADDING if at in padding else name,
                special=special[at] or at in padding,
                span=None if special[at] or at in padding else offsets[at],
                unknown=name == self.tokenizer.unk_token and not special[at],
            )
            for at, name in enumerate(names)
        )

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        return embeddings_of(self._embed(inputs, *arguments))


def scale_of(parameter: Tensor) -> float:
    """The logit scale, of which models keep the logarithm."""
    return float(parameter.detach().exp())


def _image_features(model: Any, pixels: Tensor) -> Any:
    return model.get_image_features(pixel_values=pixels)


def _text_features(model: Any, ids: Tensor, mask: Optional[Tensor] = None) -> Any:
    return model.get_text_features(input_ids=ids, attention_mask=mask)


def _blip_image(model: Any, pixels: Tensor) -> Tensor:
    """The embedding that BLIP's image-text retrieval compares."""
    hidden = model.vision_model(pixel_values=pixels).last_hidden_state
    projected: Tensor = model.vision_proj(hidden[:, 0])
    return projected


def _blip_text(model: Any, ids: Tensor, mask: Optional[Tensor] = None) -> Tensor:
    found = model.text_encoder(input_ids=ids, attention_mask=mask)
    projected: Tensor = model.text_proj(found.last_hidden_state[:, 0])
    return projected


def text_encoder(
    model: Any,
    part: Any,
    tokenizer: Any,
    config: Any,
    embed: Optional[Embed] = None,
    padded: bool = False,
) -> HuggingFaceTextEncoder:
    """The text side of a model with ``get_text_features``.

    Args:
        model: the dual encoder.
        part: its text encoder.
        config: the part's.
        embed: token ids and a mask to embeddings, instead of that method.
        padded: whether it was made to read padding.
    """

    longest = int(config.max_position_embeddings)
    if getattr(config, "model_type", "") in _POSITIONS_FROM_PADDING:
        longest -= int(config.pad_token_id) + 1
    return HuggingFaceTextEncoder(
        model,
        embed or partial(_text_features, model),
        tokenizer,
        find_blocks(part),
        part.get_input_embeddings(),
        min(longest, int(tokenizer.model_max_length)),
        padded,
    )


# Their position ids start behind the padding token's.
_POSITIONS_FROM_PADDING = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "altclip_text_model",
    "clap_text_model",
)


def _image_encoder(
    model: Any, processor: Any, default: Optional[int] = None
) -> HuggingFaceImageEncoder:
    return HuggingFaceImageEncoder(
        model,
        partial(_image_features, model),
        processor.image_processor,
        find_blocks(model.vision_model),
        default,
    )


def _clip(name: str, model: Any, processor: Any) -> EncoderPair:
    """CLIP, MetaCLIP 2, AltCLIP, Chinese-CLIP: patches, and a logit scale."""
    config = model.config
    images = _image_encoder(model, processor)
    texts = text_encoder(
        model, model.text_model, processor.tokenizer, config.text_config
    )
    head = Head("logits_per_image", scale_of(model.logit_scale))
    return EncoderPair(name, images, texts, (head,))


def _siglip(name: str, model: Any, processor: Any) -> EncoderPair:
    """SigLIP's logits have a bias; its text encoder pools the last token of a text that
    is always padded."""
    images = _image_encoder(model, processor)
    return EncoderPair(name, images, *_sigmoid_text(model, processor))


def _siglip2(name: str, model: Any, processor: Any) -> EncoderPair:
    images = NaFlexEncoder(model, processor.image_processor)
    return EncoderPair(name, images, *_sigmoid_text(model, processor))


def _sigmoid_text(model: Any, processor: Any) -> tuple[Encoder, tuple[Head, ...]]:
    config = model.config.text_config
    part, tokenizer = model.text_model, processor.tokenizer
    texts = text_encoder(model, part, tokenizer, config, padded=True)
    bias = float(model.logit_bias.detach())
    return texts, (Head("logits_per_image", scale_of(model.logit_scale), bias),)


def _align(name: str, model: Any, processor: Any) -> EncoderPair:
    """ALIGN's images become feature maps of ever fewer places; it divides by a
    temperature. By default two thirds of its many blocks run first: places are then as
    coarse as patches."""
    config = model.config
    blocks = len(find_blocks(model.vision_model))
    images = _image_encoder(model, processor, 2 * blocks // 3)
    texts = text_encoder(
        model, model.text_model, processor.tokenizer, config.text_config
    )
    head = Head("logits_per_image", 1.0 / float(model.temperature.detach()))
    return EncoderPair(name, images, texts, (head,))


def _blip(name: str, model: Any, processor: Any) -> EncoderPair:
    """BLIP's image-text similarity, ``use_itm_head=False``: the cosine itself."""
    config = model.config
    if not hasattr(model, "itm_head"):  # BlipModel, which has logits as CLIP has
        return _clip(name, model, processor)

    images = HuggingFaceImageEncoder(
        model,
        partial(_blip_image, model),
        processor.image_processor,
        find_blocks(model.vision_model),
    )
    texts = text_encoder(
        model,
        model.text_encoder,
        processor.tokenizer,
        config.text_config,
        partial(_blip_text, model),
    )
    return EncoderPair(name, images, texts, (Head("itm_score"),))


def _clap(name: str, model: Any, processor: Any) -> EncoderPair:
    """CLAP: sound and text, and a scale for each direction."""
    sounds = ClapAudioEncoder(model, processor.feature_extractor)
    texts = text_encoder(
        model, model.text_model, processor.tokenizer, model.config.text_config
    )
    heads = (
        Head("logits_per_audio", scale_of(model.logit_scale_a)),
        Head("logits_per_text", scale_of(model.logit_scale_t)),
    )
    return EncoderPair(name, sounds, texts, heads)


# What makes a dual encoder of a model of each model_type.
FAMILIES: dict[str, Callable[[str, Any, Any], EncoderPair]] = {
    "align": _align,
    "altclip": _clip,
    "blip": _blip,
    "chinese_clip": _clip,
    "clap": _clap,
    "clip": _clip,
    "metaclip_2": _clip,
    "siglip": _siglip,
    "siglip2": _siglip2,
    "vision-text-dual-encoder": _clip,
}

# Models with two inputs that are no dual encoders, and why.
_REFUSED = {
    "xclip": "X-CLIP's text embedding depends on the video, so that the similarity is "
    "no inner product of two embeddings",
}


def load_hugging_face(name: str, source: str) -> EncoderPair:
    """
    A dual encoder of transformers.

    Args:
        name: what was asked for.
        source: a directory or a name on the hub.

    Raises:
        ModelUnavailableError: see :func:`captum_pairs.models.load`.
    """
    with loading(name):
        check_pointer(Path(source))
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    kind: str = config.model_type
    made: list[str] = list(config.architectures or [])
    _check_kind(name, kind, made)
    check_precision(name, config)
    with loading(name):
        loader: Any = AutoModel
        if "BlipForImageTextRetrieval" in made:
            loader = BlipForImageTextRetrieval
        model, found = loader.from_pretrained(
            source,
            dtype=torch.float32,
            output_loading_info=True,
            # it is said below, and of which weights
            ignore_mismatched_sizes=True,
            **({"trust_remote_code": False} if loader is AutoModel else {}),
        )
        processor = processor_of(source, kind)
    check_weights(name, found)
    model.train(False).requires_grad_(False)
    return FAMILIES[kind](name, model, processor)


def check_precision(name: str, config: Any) -> None:
    """Refuse weights of a few bits, which have no derivatives."""
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return
    method = settings.get("quant_method") if isinstance(settings, dict) else settings
    raise ModelUnavailableError(
        "model",
        "weights in floating numbers, through which derivatives go",
        f"{name}: quantised weights ({method})",
    )


def check_weights(name: str, found: Any) -> None:
    """Refuse weights that are missing, of another size, or those of blocks that the
    configuration does not have."""
    mismatched = sorted(
        (each[0], *map(tuple, each[1:])) for each in found["mismatched_keys"]
    )
    if mismatched:
        key, there, wanted = mismatched[0]
        raise ModelUnavailableError(
            "model",
            "weights of the sizes that the configuration says",
            f"{name}: {len(mismatched)} of others, such as {key} of {there} instead of "
            f"{wanted}",
        )
    check_missing(name, found)
    # buffers and other heads may be there; numbered ones are layers
    left = sorted(k for k in found["unexpected_keys"] if _NUMBERED.search(k))
    if left:
        raise ModelUnavailableError(
            "model",
            "a configuration with all layers of which there are weights",
            f"{name}: {len(left)} weights that it has no place for, such as {left[0]}",
        )


def check_missing(name: str, found: Any) -> None:
    """Refuse a model of which weights are missing."""
    missing = sorted(found["missing_keys"])
    if missing:
        raise ModelUnavailableError(
            "model",
            "weights for every parameter",
            f"{name}: {len(missing)} are missing, such as {missing[0]}",
        )


def adopt_hugging_face(model: Any, processor: Any, name: str) -> EncoderPair:
    """
    A dual encoder of transformers that is in memory; it stays as it is.

    Args:
        model: of one of the kinds in FAMILIES.
        processor: with a tokenizer and an image processor or feature extractor; or a
            pair of these.
        name: what it is called.

    Raises:
        ModelUnavailableError: for a model of another kind.
        InvalidArgumentError: naming ``processor``.
    """
    kind = str(getattr(getattr(model, "config", None), "model_type", ""))
    classes = [base.__name__ for base in type(model).__mro__]
    _check_kind(name, kind, classes)
    embeds = hasattr(model, "get_text_features") or hasattr(model, "itm_head")
    if not embeds:
        raise _no_dual_encoder(name, "a part of a model, or one with another head")
    parts = processor_parts(processor, "feature_extractor" if kind == "clap" else None)
    return FAMILIES[kind](model.name_or_path or name, model, parts)


def _check_kind(name: str, kind: str, classes: Sequence[str]) -> None:
    """Refuse what is no dual encoder, by its model_type and its classes' names."""
    for each in classes:
        if "Generation" in each or "Answering" in each:
            raise _no_dual_encoder(name, f"a model that generates text ({each})")
        if "SequenceClass" in each:
            raise _no_dual_encoder(
                name, "a cross-encoder or classifier, which reads both texts at once"
            )
    if kind not in FAMILIES:
        raise _no_dual_encoder(name, _REFUSED.get(kind, f"model_type {kind!r}"))


def _no_dual_encoder(name: str, reason: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        "model",
        f"a dual encoder of one of the kinds {', '.join(FAMILIES)} (for another, "
        "give its two encoders to captum_pairs.from_functions)",
        f"{name}: {reason}",
    )


def processor_parts(processor: Any, sound: Optional[str]) -> Any:
    """What has a tokenizer, and an image processor or what reads sound."""
    other = sound or "image_processor"
    found = processor
    if isinstance(processor, (tuple, list)):
        found = SimpleNamespace()
        for part in processor:
            if isinstance(part, PreTrainedTokenizerBase):
                found.tokenizer = part
            elif isinstance(part, (ImageProcessingMixin, FeatureExtractionMixin)):
                setattr(found, other, part)
    reads = FeatureExtractionMixin if sound else ImageProcessingMixin
    if not (
        isinstance(getattr(found, "tokenizer", None), PreTrainedTokenizerBase)
        and isinstance(getattr(found, other, None), reads)
    ):
        raise InvalidArgumentError(
            "processor",
            f"the model's own (AutoProcessor.from_pretrained), with a tokenizer and "
            f"{'a' if sound else 'an'} {other}, or a pair of these",
            validation.describe(processor),
        )
    return found


def processor_of(source: str, kind: str) -> Any:
    """The processor beside the weights of a model_type."""
    load_processor = AutoProcessor.from_pretrained  # untyped, hence the ignored error
    processor = load_processor(  # type: ignore[no-untyped-call]
        source, trust_remote_code=False
    )
    try:
        return processor_parts(
            processor, "feature_extractor" if kind == "clap" else None
        )
    except InvalidArgumentError as error:
        raise OSError(
            f"no processor with {error.expected} beside the weights"
        ) from error
