"""Hugging Face's CLIP: images cut into patches, texts cut into tokens."""

from typing import Any

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.encoder import (
    DualEncoder,
    Encoder,
    Feature,
    PreparedImage,
    PreparedText,
)
from captum_pairs.models.errors import TextLengthError
from captum_pairs.models.photo import ImageLike, read_image
from captum_pairs.models.view import view_of
from captum_pairs.models.words import join_tokens
from torch import Tensor

__all__ = ["clip_encoders", "ClipImageEncoder", "ClipTextEncoder"]


class ClipImageEncoder(Encoder[PreparedImage]):
    """
    The vision transformer of a ``transformers.CLIPModel``.

    Its baseline is the mean colour: zeros after normalisation. By default a third of
    the blocks runs first: near the input a patch is still its own pixels, and the
    path's integral is a costly one in deep models.
    """

    baseline_name = "an image of the mean colour"

    def __init__(self, model: Any, image_processor: Any) -> None:
        """
        Args:
            model: a ``CLIPModel``.
            image_processor: what makes its pixel values.
        """
        self._model = model
        self._processor = image_processor
        self.blocks = list(model.vision_model.encoder.layers)
        self.default_block = len(self.blocks) // 3
        self._patch = int(model.config.vision_config.patch_size)
        self._size = int(model.config.vision_config.image_size)

    def prepare(self, raw: ImageLike) -> PreparedImage:
        """
        An image as the model takes it.

        Raises:
            UnreadableImageError: for what is not an image.
            InvalidArgumentError: if image processor and model don't fit each other.
        """
        image = read_image(raw)
        pixels: Tensor = self._processor(images=image, return_tensors="pt").pixel_values
        view = view_of(self._processor, image.size)
        height, width = pixels.shape[-2:]
        if (width, height) != view.processed or {width, height} != {self._size}:
            raise InvalidArgumentError(
                "image_processor",
                f"one that makes {self._size} x {self._size} pixels for this model",
                f"{width} x {height}",
            )
        grid = height // self._patch, width // self._patch
        patches: list[Feature] = []
        for row in range(grid[0]):
            for column in range(grid[1]):
                corner = column * self._patch, row * self._patch
                far = corner[0] + self._patch, corner[1] + self._patch
                seen = view.to_original((*corner, *far))
                position = 1 + len(patches)  # the class token comes first
                name = f"patch ({row}, {column})"
                patches.append(
                    Feature(name, (position,), box=seen, processed_box=(*corner, *far))
                )
        features = (*patches, Feature("class token", (0,), special=True))
        return PreparedImage(
            pixels.float(), self._mean_color(pixels), features, image, view, grid
        )

    def _mean_color(self, pixels: Tensor) -> Tensor:
        if getattr(self._processor, "do_normalize", True):
            return torch.zeros_like(pixels, dtype=torch.float32)
        mean = torch.tensor(self._processor.image_mean, dtype=torch.float32)
        return mean[None, :, None, None].expand_as(pixels).contiguous()

    def embed(self, inputs: Tensor) -> Tensor:
        pooled = self._model.vision_model(pixel_values=inputs).pooler_output
        embedding: Tensor = self._model.visual_projection(pooled)
        return embedding


class ClipTextEncoder(Encoder[PreparedText]):
    """
    The text transformer of a ``transformers.CLIPModel``.

    A text is not padded. Its baseline has the same length: the first and the last token
    with padding between. By default it is attributed to the first block's input, where
    a token is its own word only.
    """

    baseline_name = "[BOS] padding [EOS] of the same length"
    default_block = 0

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """
        Args:
            model: a ``CLIPModel``.
            tokenizer: a fast one, which knows the characters of each token.
        """
        self._model = model
        self._tokenizer = tokenizer
        self.blocks = list(model.text_model.encoder.layers)
        self._longest = int(model.config.text_config.max_position_embeddings)

    def prepare(self, raw: str) -> PreparedText:
        """
        A text as the model takes it.

        Raises:
            TextLengthError: if it is empty, or has more tokens than the model reads.
        """
        encoded = self._tokenizer(
            raw,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        ids = encoded["input_ids"]
        special = [bool(flag) for flag in encoded["special_tokens_mask"]]
        if not raw.strip() or all(special):
            raise TextLengthError("text", "at least one word", "an empty text")
        if len(ids) > self._longest:
            raise TextLengthError(
                "text",
                f"at most {self._longest} tokens, the two special ones included",
                f"{len(ids)} tokens",
            )
        names = self._tokenizer.convert_ids_to_tokens(ids)
        offsets = [(int(start), int(end)) for start, end in encoded["offset_mapping"]]
        tokens = torch.tensor([ids])
        return PreparedText(
            tokens,
            self._without_words(tokens),
            join_tokens(raw, offsets, names, special),
            raw,
        )

    def _without_words(self, tokens: Tensor) -> Tensor:
        padding = self._tokenizer.pad_token_id
        if padding is None:
            padding = self._tokenizer.eos_token_id
        baseline = tokens.clone()
        baseline[:, 1:-1] = padding
        return baseline

    def embed(self, inputs: Tensor) -> Tensor:
        pooled = self._model.text_model(input_ids=inputs).pooler_output
        embedding: Tensor = self._model.text_projection(pooled)
        return embedding


def clip_encoders(name: str, model: Any, processor: Any) -> DualEncoder:
    """A ``CLIPModel`` and its ``CLIPProcessor`` as a dual encoder."""
    return DualEncoder(
        name,
        ClipImageEncoder(model, processor.image_processor),
        ClipTextEncoder(model, processor.tokenizer),
        float(model.logit_scale.detach().exp()),
    )
