"""What the library needs to know of an encoder: the description that adapters fill in.

An adapter hooks a model and never rewrites its forward pass: it says how an input is
prepared, where the path to it starts, which blocks there are, what the positions of a
layer's value stand for, and how the model embeds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Optional, Union

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.described import described
from captum_pairs.models.equality import ByContent
from captum_pairs.models.view import Box
from numpy.typing import NDArray
from PIL import Image
from torch import nn, Tensor

__all__ = [
    "AUDIO",
    "Encoder",
    "Feature",
    "IMAGE",
    "Layer",
    "LayerLike",
    "Layout",
    "PADDING",
    "Prepared",
    "Source",
    "TENSOR",
    "TEXT",
]

IMAGE, TEXT, AUDIO, TENSOR = "image", "text", "audio", "tensor"
# The name of the feature that all padding tokens are.
PADDING = "padding"

# A block's number (negative ones count from the last), "input", or any module.
LayerLike = Union[int, str, nn.Module]


@dataclass(frozen=True)
class Feature:
    """
    What an attribution belongs to.

    Args:
        name: a word or token as written, "patch (row, column)", a special token's name.
        special: whether it is no part of the input: [BOS], padding, the class token.
        span: of a word or token, its half-open character offsets in the text.
        box: of a patch, left, top, right, bottom in pixels of the original image, cut
            at its edges, or None if it shows nothing of it; of a piece of sound, its
            first second, first mel band, last second, last mel band (exclusive).
        unknown: of a word or token, whether the tokenizer does not know it, or a part
            of it: the model reads the same there as for any other unknown one.
    """

    name: str
    special: bool = False
    span: Optional[tuple[int, int]] = None
    box: Optional[Box] = None
    unknown: bool = False


@dataclass(frozen=True)
class Layout(ByContent):
    """
    The features of a layer's value.

    Args:
        features: patches row by row, or words in their order; special ones last.
        mask: int64, the feature of every position; of the value's dimensions, each its
            own size or 1.
        grid: rows and columns of patches, if the features are patches.
    """

    features: tuple[Feature, ...]
    mask: Tensor
    grid: Optional[tuple[int, int]] = None


@dataclass(frozen=True, repr=False)
class Source(ByContent):
    """
    What was put in, as an explanation remembers it.

    Args:
        kind: "image", "text", "audio" or "tensor".
        text: of a text, as it was written.
        size: of an image, (width, height) in pixels; of sound, (seconds, mel bands).
        visible: the part of it that the model saw, in the same units.
        picture: of an image, the visible part (h, w, 3) as uint8, at most 640 pixels
            wide and high; of sound, its spectrogram (mel bands, frames) as float32.
    """

    kind: str
    text: str = ""
    size: Optional[tuple[float, float]] = None
    visible: Optional[Box] = None
    picture: Optional[NDArray[Any]] = None

    def __str__(self) -> str:
        if self.kind == TEXT:
            return f"“{self.text}”"
        if self.kind == IMAGE and self.size is not None:
            return f"image of {self.size[0]:.0f} x {self.size[1]:.0f} px"
        if self.kind == AUDIO and self.size is not None:
            return f"sound of {self.size[0]:.1f} s"
        return "tensor"

    def __repr__(self) -> str:
        return f"<Source: {self}>"


@dataclass(frozen=True)
class Prepared(ByContent, ABC):
    """
    An input as its encoder takes it.

    Args:
        inputs: (1, ...).
        baseline: where the path starts, of the shape of inputs.
        source: what was put in.
        baseline_name: the baseline in words.
        arguments: what else the encoder takes for this input (an attention mask).
    """

    inputs: Tensor
    baseline: Tensor
    source: Source
    baseline_name: str
    arguments: tuple[Any, ...] = ()

    @abstractmethod
    def layout(self, shape: Sequence[int], at_input: bool, tokens: bool) -> Layout:
        """
        The features of a value.

        Args:
            shape: (1, ...) of the layer's value for this input.
            at_input: whether the value is `inputs` itself.
            tokens: of a text, its tokens instead of its words.

        Raises:
            InvalidArgumentError: naming ``layer``, if the value's positions can't be
                told.
        """

    def embed_what_is_left(
        self, encoder: "Encoder", layer: "Layer", layout: Layout
    ) -> Callable[[Tensor], Tensor]:
        """
        A function to embeddings (n, k) of subsets (n, features), bool, of the features:
        the others are taken out, and the model reads what is left. Special ones stay,
        whatever the subset says.

        Args:
            encoder: that prepared this input.
            layer: where it is attributed to.
            layout: of the layer's value.

        Raises:
            InvalidArgumentError: naming ``absent``, if nothing can be taken out there;
                always, unless an adapter says how.
        """
        raise InvalidArgumentError(
            "absent",
            "'baseline', or for texts and at blocks of vision transformers 'removed'",
            f"'removed' at the {layer.name} of {encoder.kind}",
        )

    def to(self, device: torch.device) -> "Prepared":
        """The same on a device."""
        return replace(
            self,
            inputs=self.inputs.to(device),
            baseline=self.baseline.to(device),
            arguments=tuple(
                value.to(device) if isinstance(value, Tensor) else value
                for value in self.arguments
            ),
        )


@dataclass(frozen=True)
class Layer:
    """
    Where in an encoder is attributed to.

    Args:
        name: in words.
        module: the layer, or None for the encoder's input itself.
        at_input: the layer's input instead of its output.
    """

    name: str
    module: Optional[nn.Module]
    at_input: bool


class Encoder(ABC):
    """
    One side of a dual encoder.

    Attributes:
        kind: of input that it takes: "image", "text", "audio" or "tensor".
        module: the model that it belongs to, or None for plain functions.
        blocks: the modules at whose inputs can be attributed, in order.
        default_block: the index of the one that is used unless another is asked for;
            None for the input, the number of blocks for the output of the last one.
        finer_block: the one that is worth its minutes to who has them, if the default
            one was chosen to be quick.
        entrance: the module whose output stands for the input if the input is token ids
            (the word embedding); None if the input is a floating tensor.
        baselines: the baselines that `prepare` knows by name, the default first.
    """

    kind: str
    module: Optional[nn.Module] = None
    blocks: Sequence[nn.Module] = ()
    default_block: Optional[int] = None
    finer_block: Optional[int] = None
    entrance: Optional[nn.Module] = None
    baselines: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def prepare(self, raw: Any, baseline: Optional[str] = None) -> Prepared:
        """
        An input (an image's path, a PIL image, an array; a text; a waveform) made
        ready.

        Args:
            raw: the input.
            baseline: one of `baselines`.
        """

    @abstractmethod
    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        """(b, ...) to embeddings (b, k), before normalisation."""

    def describe(self) -> str:
        """What an embedding depends on besides weights and input: processors' settings,
        the network's structure, functions; in a few letters, the same everywhere."""
        return described(self)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        if self.module is not None:
            for parameter in self.module.parameters():
                return parameter.device
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """In which the model takes what is no whole number."""
        if self.module is not None:
            for parameter in self.module.parameters():
                if parameter.is_floating_point():
                    return parameter.dtype
        return torch.float32

    def layer(self, wanted: Optional[LayerLike]) -> Layer:
        """
        The layer that is meant.

        Args:
            wanted: a block's number, to attribute to its input; "input"; a module, to
                attribute to its output; None for the default.

        Raises:
            InvalidArgumentError: naming ``layer``.
        """
        if isinstance(wanted, nn.Module):
            for index, block in enumerate(self.blocks):
                if block is wanted:
                    return Layer(f"output of {self._block(index)}", wanted, False)
            return Layer(f"output of {type(wanted).__name__}", wanted, False)
        if wanted is None:
            wanted = "input" if self.default_block is None else self.default_block
            if self.blocks and wanted == len(self.blocks):
                return self.layer(self.blocks[-1])
        if isinstance(wanted, str):
            if wanted != "input":
                raise self._no_such_layer(repr(wanted))
            if self.entrance is None:
                return Layer("input", None, True)
            return Layer("word embeddings", self.entrance, False)
        if isinstance(wanted, bool) or not isinstance(wanted, int):
            raise self._no_such_layer(type(wanted).__name__)
        count = len(self.blocks)
        if not -count <= wanted < count:
            raise self._no_such_layer(f"{wanted}")
        index = wanted % count
        return Layer(f"input of {self._block(index)}", self.blocks[index], True)

    def check_baseline(self, baseline: Optional[str]) -> str:
        """The baseline's name, if there is one of that name."""
        if baseline is None:
            return self.baselines[0] if self.baselines else ""
        if not isinstance(baseline, str) or baseline not in self.baselines:
            raise InvalidArgumentError(
                "baseline",
                f"one of {', '.join(map(repr, self.baselines)) or 'None'} for "
                f"{self.kind}",
                validation.describe(baseline),
            )
        return baseline

    def _block(self, index: int) -> str:
        return f"block {index} of {len(self.blocks)}"

    def _no_such_layer(self, came: str) -> InvalidArgumentError:
        count = len(self.blocks)
        numbers = f"a block from 0 to {count - 1} or -{count} to -1, " if count else ""
        return InvalidArgumentError(
            "layer", f"{numbers}'input' or a module of the {self.kind} encoder", came
        )


def thumbnail(pixels: NDArray[np.uint8], most: int = 640) -> NDArray[np.uint8]:
    """(h, w, 3), made smaller if it is larger than that."""
    image = Image.fromarray(pixels)
    image.thumbnail((most, most))
    return np.asarray(image)
