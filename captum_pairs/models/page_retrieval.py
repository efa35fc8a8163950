"""Late interaction of page images and texts: ColPali, ColQwen2 and ColModernVBert, by
their own forward passes and processors."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Optional

import PIL.Image
import torch
import transformers
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.checkpoints import check_pointer
from captum_pairs.models.encoder import Feature, IMAGE, Layout, Prepared
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.errors import loading, ModelUnavailableError
from captum_pairs.models.hugging_face import check_precision, check_weights
from captum_pairs.models.images import (
    BLACK,
    BLUR,
    blurred,
    image_source,
    IN_WORDS,
    MEAN,
    patch_features,
)
from captum_pairs.models.late_interaction import (
    LateInteractionPair,
    OutputTokens,
    TokenEncoder,
)
from captum_pairs.models.observed import find_blocks
from captum_pairs.models.photo import ImageLike, read_image
from captum_pairs.models.texts import (
    check_length,
    PreparedText,
    text_source,
    TextEncoder,
    without_words,
)
from captum_pairs.models.view import View
from captum_pairs.models.vocabulary import check_ids, check_vocabulary
from captum_pairs.models.words import offsets_of, surface_of
from torch import nn, Tensor
from transformers import AutoConfig, AutoProcessor

__all__ = ["adopt_page_retriever", "load_page_retriever"]

_NAMES = {
    "colpali": "ColPaliForRetrieval",
    "colqwen2": "ColQwen2ForRetrieval",
    "colmodernvbert": "ColModernVBertForRetrieval",
}
# Those that the installed transformers has, by their model_type.
_CLASSES: dict[str, Any] = {
    kind: getattr(transformers, name)
    for kind, name in _NAMES.items()
    if hasattr(transformers, name)
}
# What a token is that the processor puts before the text, and behind it.
PROMPT, AUGMENTATION = "prompt", "query augmentation"
# The tokens of a page that is shown once more as a whole, beside its tiles.
WHOLE = "whole page"
_TILE = re.compile(r"<row_(\d+)_col_(\d+)>")


class _Cells(NamedTuple):
    """
    Where a page's image tokens lie.

    Args:
        grid: rows and columns of cells.
        of_image: (image tokens,), int64, the cell of each, row by row; rows * columns
            for a token of the whole page.
    """

    grid: tuple[int, int]
    of_image: Tensor


@dataclass(frozen=True)
class PreparedPage(Prepared):
    """
    A page as its processor makes it.

    Args:
        view: how the processed image lies on the original.
        grid: rows and columns of cells, each an image token's.
        cells: (T,), int64, of every output token its cell, row by row; rows * columns
            for the whole page, -1 for a token that is no image's.
        pixel_cells: of the pixels' dimensions, each its own size or 1: their cells.
    """

    view: View = View((1, 1), (1, 1), (1.0, 1.0), (0, 0))
    grid: tuple[int, int] = (1, 1)
    cells: Tensor = torch.zeros(0, dtype=torch.int64)
    pixel_cells: Tensor = torch.zeros(0, dtype=torch.int64)

    def layout(self, shape: Sequence[int], at_input: bool, tokens: bool) -> Layout:
        """Cells row by row, then the whole page and tokens that are no image's."""
        count = math.prod(self.grid)
        patches = patch_features(self.view, self.grid)
        if at_input:
            return self._with_whole(patches, self.pixel_cells)
        if len(shape) == 3 and shape[1] == len(self.cells):
            return self._of_tokens(patches)
        if len(shape) == 3 and shape[1] == count:  # in the part that reads images
            mask = torch.arange(count).reshape(1, count, 1)
            return Layout(patches, mask, self.grid)
        raise InvalidArgumentError(
            "layer",
            f"a layer whose value has a place for each of {len(self.cells)} tokens, "
            f"or of {count} patches",
            f"a value of shape {tuple(shape)}",
        )

    def _with_whole(self, patches: tuple[Feature, ...], mask: Tensor) -> Layout:
        if bool((mask == len(patches)).any()):
            patches = (*patches, Feature(WHOLE, special=True))
        return Layout(patches, mask, self.grid)

    def _of_tokens(self, patches: tuple[Feature, ...]) -> Layout:
        found = self._with_whole(patches, self.cells.reshape(1, -1, 1))
        is_prompt = found.mask < 0
        if not bool(is_prompt.any()):
            return found
        features = (*found.features, Feature(PROMPT, special=True))
        mask = torch.where(is_prompt, len(found.features), found.mask)
        return Layout(features, mask, self.grid)


class PageEncoder(TokenEncoder):
    """
    The page's side: an image to vectors of its cells, and of the prompt's tokens.

    Blocks are those of the language model, which reads a token for each cell; of
    ColPali those of the part that reads images come first, whose patches are the cells
    themselves.
    """

    kind = IMAGE
    baselines: ClassVar[tuple[str, ...]] = (MEAN, BLACK, BLUR)

    def __init__(self, model: Any, processor: Any) -> None:
        """
        Raises:
            InvalidArgumentError: naming ``processor``, for one that crops images.
        """
        self.module = model
        self.processor = processor
        images = processor.image_processor
        if getattr(images, "do_center_crop", False):
            raise InvalidArgumentError(
                "processor", "an image processor that keeps all of a page", "one crops"
            )
        read = _language_blocks(model)
        seen: list[nn.Module] = []
        if model.config.model_type == "colpali":
            seen = find_blocks(model.vlm.vision_tower)
        self.blocks = [*seen, *read]
        self.default_block = len(seen) // 3
        mean = getattr(images, "image_mean", None) or (0.5, 0.5, 0.5)
        self._mean = tuple(round(255 * value) for value in mean)

    def prepare(self, raw: ImageLike, baseline: Optional[str] = None) -> PreparedPage:
        """
        A page as the model takes it.

        Raises:
            UnreadableImageError: for what is not an image.
            InvalidArgumentError: naming ``processor``, if its image tokens can't be
                told to be places on the page.
        """
        name = self.check_baseline(baseline)
        image = read_image(raw)
        features = self._processed(image)
        start = self._processed(self._plain(image, name))["pixel_values"]
        pixels = features.pop("pixel_values")
        cells = self._cells(features, pixels)
        view = View(image.size, image.size, (1.0, 1.0), (0, 0))
        ids = features["input_ids"][0]
        is_image = ids == self.processor.image_token_id
        of_token = torch.full((len(ids),), -1, dtype=torch.int64)
        of_token[is_image] = cells.of_image
        return PreparedPage(
            pixels,
            start,
            image_source(image, view),
            IN_WORDS[name],
            (tuple(features), *features.values()),
            view=view,
            grid=cells.grid,
            cells=of_token,
            pixel_cells=self._pixel_cells(pixels, cells),
        )

    def token_embeddings(self, inputs: Tensor, *arguments: Any) -> Tensor:
        return _embedded(self.module, "pixel_values", inputs, arguments)

    def output_tokens(self, prepared: PreparedPage) -> OutputTokens:
        return _all_of(len(prepared.cells))

    def _processed(self, image: PIL.Image.Image) -> dict[str, Any]:
        found = dict(self.processor.process_images(images=[image]))
        found.pop("labels", None)  # for training
        found["pixel_values"] = found["pixel_values"].to(self.dtype)
        return found

    def _plain(self, image: PIL.Image.Image, name: str) -> PIL.Image.Image:
        if name == BLUR:
            return blurred(image)
        color = (0, 0, 0) if name == BLACK else self._mean
        return PIL.Image.new("RGB", image.size, color)

    def _cells(self, features: dict[str, Any], pixels: Tensor) -> _Cells:
        ids = features["input_ids"][0]
        count = int((ids == self.processor.image_token_id).sum())
        if "image_grid_thw" in features:
            merged = int(self.processor.image_processor.merge_size)
            _, rows, columns = (int(n) for n in features["image_grid_thw"][0])
            grid = rows // merged, columns // merged
            cells = _Cells(grid, torch.arange(math.prod(grid)))
        elif pixels.ndim == 5:
            cells = self._tiles(ids, count, pixels.shape[1])
        else:
            side = math.isqrt(count)
            cells = _Cells((side, side), torch.arange(side * side))
        if len(cells.of_image) != count:
            raise InvalidArgumentError(
                "processor",
                f"one that makes a token for each of {cells.grid[0]} x "
                f"{cells.grid[1]} places on the page",
                f"{count} image tokens",
            )
        return cells

    def _tiles(self, ids: Tensor, count: int, images: int) -> _Cells:
        """Of a page in tiles, each of as many tokens, and the whole of it behind."""
        side = math.isqrt(count // images)
        inner = torch.arange(side)
        names = self.processor.tokenizer.convert_ids_to_tokens(ids.tolist())
        found = [_TILE.fullmatch(str(name)) for name in names]
        places = [(int(m[1]) - 1, int(m[2]) - 1) for m in found if m is not None]
        if not places:
            return _Cells((side, side), torch.arange(side * side))
        rows = side * (1 + max(row for row, _ in places))
        columns = side * (1 + max(column for _, column in places))
        cells = [
            (side * row + inner[:, None]) * columns + side * column + inner
            for row, column in places
        ]
        cells += [torch.full((side, side), rows * columns)] * (images - len(places))
        return _Cells((rows, columns), torch.cat([each.flatten() for each in cells]))

    def _pixel_cells(self, pixels: Tensor, cells: _Cells) -> Tensor:
        """Of pixels (1, patches, values), (1, 3, h, w) or (1, images, 3, h, w)."""
        if pixels.ndim == 3:
            # merged patches come one behind the other
            each = pixels.shape[1] // len(cells.of_image)
            return cells.of_image.repeat_interleave(each).reshape(1, -1, 1)
        images = pixels.shape[1] if pixels.ndim == 5 else 1
        side = math.isqrt(len(cells.of_image) // images)
        height, width = pixels.shape[-2:]
        row = (torch.arange(height) * side // height)[:, None]
        column = torch.arange(width) * side // width
        tiles = cells.of_image.reshape(images, side, side)
        found = tiles[:, row, column]  # (images, h, w)
        return found[None, :, None] if pixels.ndim == 5 else found[:, None]


class QueryEncoder(TokenEncoder, TextEncoder):
    """
    The text's side: vectors of its tokens, and of those that the processor puts before
    it and behind it, which the score counts as well.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        """
        Raises:
            ModelUnavailableError: if the tokenizer knows no words.
        """
        check_vocabulary(processor.tokenizer)
        self.module = model
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.blocks = _language_blocks(model)
        self.entrance = model.vlm.get_input_embeddings()
        text = model.config.get_text_config()
        self._longest = int(getattr(text, "max_position_embeddings", 2**31))

    def tokenize(self, text: str) -> PreparedText:
        features = dict(self.processor.process_queries(text=[text]))
        ids = features.pop("input_ids")
        tokens = self._tokens(text, ids[0].tolist())
        check_length(tokens, self._longest)
        check_ids(ids, self.entrance)
        padding = self.tokenizer.pad_token_id
        if padding is None:
            padding = self.tokenizer.eos_token_id
        return PreparedText(
            ids,
            without_words(ids, tokens, padding),
            text_source(text),
            "its special tokens with padding between",
            (tuple(features), *features.values()),
            tokens=tokens,
        )

    def token_embeddings(self, inputs: Tensor, *arguments: Any) -> Tensor:
        return _embedded(self.module, "input_ids", inputs, arguments)

    def output_tokens(self, prepared: PreparedText) -> OutputTokens:
        return _all_of(len(prepared.tokens))

    def _tokens(self, text: str, ids: list[int]) -> tuple[Feature, ...]:
        """
        Every token's name, and its characters or that it is not the text's.

        Raises:
            InvalidArgumentError: naming ``processor``, if it writes a query in another
                way than those that are known.
        """
        prefix = str(self.processor.query_prefix or "")
        suffix = str(self.processor.query_augmentation_token) * 10
        first = str(self.tokenizer.bos_token or "")
        for before, behind in (
            (first + prefix, suffix + "\n"),
            (prefix, suffix + "\n"),
            (prefix, suffix),
        ):
            encoded = self.tokenizer(before + text + behind, verbose=False)
            if list(encoded["input_ids"]) == ids:
                return self._named(before, text, behind, encoded)
        raise InvalidArgumentError(
            "processor",
            "one that writes a query as prefix, text and augmentation",
            "one whose tokens are others",
        )

    def _named(
        self, before: str, text: str, behind: str, encoded: Any
    ) -> tuple[Feature, ...]:
        names = self.tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        if getattr(self.tokenizer, "is_fast", False):
            spans = encoded.encodings[0].offsets
        else:
            surfaces = [surface_of(name, self.tokenizer) for name in names]
            spans = offsets_of(before + text + behind, surfaces)
        start, stop = len(before), len(before) + len(text)
        tokens = []
        for name, (left, right) in zip(names, spans):
            if left >= stop:
                tokens.append(Feature(AUGMENTATION, special=True))
            elif left >= right:
                tokens.append(Feature(name, special=True))
            elif right <= start:
                tokens.append(Feature(PROMPT, special=True))
            else:
                place = max(left, start) - start, min(right, stop) - start
                unknown = name == self.tokenizer.unk_token
                tokens.append(Feature(name, span=place, unknown=unknown))
        return tuple(tokens)


def load_page_retriever(name: str, source: str) -> EncoderPair:
    """
    A late interaction of page images and texts.

    Args:
        name: what was asked for.
        source: a directory or a name on the hub.

    Raises:
        ModelUnavailableError: see :func:`captum_pairs.models.load`.
    """
    with loading(name):
        check_pointer(Path(source))
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if config.model_type not in _CLASSES:
        raise _no_retriever(name, f"model_type {config.model_type!r}")
    check_precision(name, config)
    with loading(name):
        model, found = _CLASSES[config.model_type].from_pretrained(
            source,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        load_processor = AutoProcessor.from_pretrained  # untyped, hence the error
        processor = load_processor(  # type: ignore[no-untyped-call]
            source, trust_remote_code=False
        )
    check_weights(name, found)
    model.train(False).requires_grad_(False)
    return _pair(name, model, processor)


def adopt_page_retriever(model: Any, processor: Any, name: str) -> EncoderPair:
    """
    A late interaction of page images and texts that is in memory; it stays as it is.

    Args:
        model: a ``...ForRetrieval``.
        processor: the model's own.
        name: what it is called.

    Raises:
        ModelUnavailableError: for another class.
        InvalidArgumentError: naming ``processor``.
    """
    if not any(isinstance(model, each) for each in _CLASSES.values()):
        raise _no_retriever(name, "a part of a model, or one with another head")
    return _pair(model.name_or_path or name, model, processor)


def _pair(name: str, model: Any, processor: Any) -> EncoderPair:
    known = ("process_images", "process_queries", "tokenizer", "image_processor")
    if not all(hasattr(processor, each) for each in known):
        raise InvalidArgumentError(
            "processor",
            "the model's own (AutoProcessor.from_pretrained), with process_images and "
            "process_queries",
            validation.describe(processor),
        )
    page, text = PageEncoder(model, processor), QueryEncoder(model, processor)
    return LateInteractionPair(name, page, text, query=1)


def _no_retriever(name: str, reason: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        "model", f"one of the kinds {', '.join(_CLASSES)}", f"{name}: {reason}"
    )


def _language_blocks(model: Any) -> list[nn.Module]:
    """The blocks of the part that reads all tokens."""
    inner = model.vlm
    for part in ("language_model", "text_model"):
        if hasattr(inner, part):
            return find_blocks(getattr(inner, part))
    return find_blocks(inner)


def _embedded(model: Any, name: str, inputs: Tensor, arguments: Any) -> Tensor:
    """Token embeddings (b, T, k) of what is called so, and of its other arguments."""
    names, *values = arguments
    # models look at arguments as if they were laid out in memory one behind the other
    rest = {
        key: value.contiguous() if isinstance(value, Tensor) else value
        for key, value in zip(names, values)
    }
    embeddings: Tensor = model(**{name: inputs}, **rest).embeddings
    return embeddings


def _all_of(count: int) -> OutputTokens:
    """The score counts every token, the prompt's too."""
    every = torch.ones(count, dtype=torch.bool)
    return OutputTokens(every, every)
