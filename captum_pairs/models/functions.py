"""Any two functions as a dual encoder: your own model in five lines."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Optional, Union

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.encoder import (
    Encoder,
    Feature,
    Layer,
    LayerLike,
    Layout,
    Prepared,
    Source,
    TENSOR,
)
from captum_pairs.models.encoder_pair import EncoderPair, Head
from captum_pairs.models.outputs import embeddings_of
from captum_pairs.models.scorer import ScorerOfTwo
from torch import nn, Tensor

__all__ = ["from_functions", "from_score", "FunctionEncoder", "PreparedTensor"]

# (b, ...) to embeddings (b, k).
Encode = Callable[..., Tensor]
# What was put in to (1, ...), or to that and what else the encoder takes.
Prepare = Callable[[Any], Any]
# Such a function, or an encoder that prepares inputs of its kind.
Reader = Union[Prepare, Encoder]
Baseline = Union[Tensor, float, Callable[[Tensor], Tensor]]
# Of the features, or how they follow from what was put in.
Names = Union[Sequence[str], Callable[[Any], Sequence[str]]]

_SIMILARITIES = ("cosine", "dot")


def from_functions(
    encode_first: Encode,
    encode_second: Encode,
    *,
    layers: Optional[tuple[Optional[nn.Module], Optional[nn.Module]]] = None,
    prepare: Optional[tuple[Optional[Prepare], Optional[Prepare]]] = None,
    baselines: Optional[tuple[Optional[Baseline], Optional[Baseline]]] = None,
    names: Optional[tuple[Optional[Names], Optional[Names]]] = None,
    scale: float = 1.0,
    bias: float = 0.0,
    similarity: str = "cosine",
    name: str = "functions",
) -> EncoderPair:
    """
    Two functions as a dual encoder.

    An input is one example: a tensor or array whose first dimension is 1 is taken as a
    batch of one, and any other one gets such a dimension. The features of (1, c, h, w)
    are its places (row, column), those of (1, n, d) its n positions, those of (1, n)
    its n numbers; channels are summed.

    Args:
        encode_first, encode_second: map tensors (b, ...) to embeddings (b, k), in
            PyTorch, or to an output of transformers that holds them as
            ``pooler_output``. The same one twice is a Siamese encoder.
        layers: attribute to the output of these modules, instead of to the inputs, for
            which None stands. Whole numbers (token ids) need one, such as the
            embedding.
        prepare: make a tensor of what is put in (an image, a text), or a pair: the
            tensor and a tuple of what else the encoder takes with it (a mask).
        baselines: where the paths start: a tensor, a number, or a function of the
            prepared tensor. Default: zeros.
        names: of the features, or a function from what is put in to them.
        scale, bias: of the model's own score, scale * similarity + bias.
        similarity: "cosine" or "dot".
        name: of the model, in words.

    Raises:
        InvalidArgumentError: naming the argument.

    >>> model = from_functions(image_net, text_net, layers=(None, text_net.embedding),
    ...                        prepare=(load_pixels, tokenize))
    >>> model.explain("dog.jpg", "a dog")
    """
    validation.one_of("similarity", similarity, _SIMILARITIES)
    head = Head(
        "similarity",
        validation.finite_float("scale", scale),
        validation.finite_float("bias", bias),
    )
    encoders = [
        FunctionEncoder(*settings)
        for settings in zip(
            (encode_first, encode_second),
            validation.optional_pair_of("layers", layers),
            validation.optional_pair_of("prepare", prepare),
            validation.optional_pair_of("baselines", baselines),
            validation.optional_pair_of("names", names),
        )
    ]
    first, second = encoders
    second = first if first.is_same_as(second) else second
    return EncoderPair(name, first, second, (head,), similarity)


def from_score(
    score: Callable[..., Tensor],
    *,
    layers: Optional[tuple[Optional[nn.Module], Optional[nn.Module]]] = None,
    prepare: Optional[tuple[Optional[Reader], Optional[Reader]]] = None,
    baselines: Optional[tuple[Optional[Baseline], Optional[Baseline]]] = None,
    names: Optional[tuple[Optional[Names], Optional[Names]]] = None,
    name: str = "score",
) -> EncoderPair:
    """
    Any score of two inputs that can be differentiated twice: a text-conditioned image
    encoder, a late fusion, a network that reads both.

    It is explained by integrated Hessians, whose cost is the product of both paths'
    steps (``model.estimate`` says it before). Where the score is an inner product of
    two embeddings, :func:`from_functions` gives the same for their sum.

    Args:
        score: maps two tensors (b, ...), then what else was prepared with the first and
            with the second one, to scores (b,) or (b, 1), in PyTorch. The score of a
            pair does not depend on the others of its batch, and it is no network of
            rectifiers alone, whose second derivatives are zero.
        layers: attribute to the output of these modules, which one pass of the score
            reaches once each (one given twice: with the first input, then with the
            second), instead of to the inputs, for which None stands. Whole numbers
            (token ids) need one, such as the embedding.
        prepare: for each side an encoder of another model, which makes tensors of its
            images or texts and knows their patches or words
            (``captum_pairs.load(...).first``), with its own layer unless one is given;
            or as for :func:`from_functions`.
        baselines, names: as for :func:`from_functions`; an encoder has its own.
        name: of the model, in words.

    Raises:
        InvalidArgumentError: naming the argument.

    >>> clip = captum_pairs.load("openai/clip-vit-base-patch32")
    >>> model = from_score(fused_score, prepare=(clip.first, clip.second))
    >>> print(model.estimate("dog.jpg", "a dog"))
    >>> model.explain("dog.jpg", "a dog", phrase="dog")
    """
    if not callable(score):
        raise InvalidArgumentError(
            "score", "a function of two inputs", validation.describe(score)
        )
    first, second = validation.optional_pair_of("layers", layers)
    for module in (first, second):
        if not (module is None or isinstance(module, nn.Module)):
            raise InvalidArgumentError(
                "layers", "modules or None", validation.describe(module)
            )
    encoders = [
        _reader(score, *settings)
        for settings in zip(
            (first, second),
            validation.optional_pair_of("prepare", prepare),
            validation.optional_pair_of("baselines", baselines),
            validation.optional_pair_of("names", names),
        )
    ]
    scorer = ScorerOfTwo(encoders[0], encoders[1], score, (first, second))
    return EncoderPair(name, encoders[0], encoders[1], (Head(),), "score", scorer)


def _reader(
    score: Callable[..., Tensor],
    layer: Optional[nn.Module],
    prepare: Any,
    baseline: Optional[Baseline],
    names: Optional[Names],
) -> Encoder:
    """What prepares one side's inputs."""
    if not isinstance(prepare, Encoder):
        return FunctionEncoder(score, layer, prepare, baseline, names)
    for argument, value in (("baselines", baseline), ("names", names)):
        if value is not None:
            raise InvalidArgumentError(
                argument,
                "None for an encoder, which has its own",
                validation.describe(value),
            )
    return prepare


@dataclass(frozen=True)
class PreparedTensor(Prepared):
    """
    A tensor as its encoder takes it.

    Args:
        names: of the features, if they have any.
    """

    names: Optional[tuple[str, ...]] = None

    def layout(self, shape: Sequence[int], at_input: bool, tokens: bool) -> Layout:
        """Positions, with their channels summed."""
        if at_input and not self.inputs.is_floating_point():
            raise InvalidArgumentError(
                "layers",
                f"a layer for inputs of {self.inputs.dtype}, to which there is no path "
                "(their embedding: layers=(model.embedding, ...), or layer=)",
                "None",
            )
        # the batch is dimension 0, or 1 as in (tokens, b, d)
        batch = 1 if len(shape) == 3 and shape[0] != 1 and shape[1] == 1 else 0
        channels = {3: 2}.get(len(shape), 1 if len(shape) > 3 else None)
        positions = [
            1 if dim in (batch, channels) else int(size)
            for dim, size in enumerate(shape)
        ]
        sizes = [positions[d] for d in range(len(shape)) if d not in (batch, channels)]
        count = int(np.prod(sizes, dtype=np.int64))
        grid = (sizes[0], sizes[1]) if len(sizes) == 2 else None
        mask = torch.arange(count).reshape(positions)
        return Layout(self._features(sizes, count), mask, grid)

    def _features(self, sizes: Sequence[int], count: int) -> tuple[Feature, ...]:
        if self.names is not None:
            if len(self.names) != count:
                raise InvalidArgumentError(
                    "names",
                    f"one for each of {count} features",
                    f"{len(self.names)} names",
                )
            return tuple(Feature(name) for name in self.names)
        if len(sizes) < 2:
            return tuple(Feature(f"position {index}") for index in range(count))
        return tuple(Feature(f"{place}") for place in product(*map(range, sizes)))


class FunctionEncoder(Encoder):
    """A function as one side of a dual encoder."""

    kind = TENSOR

    def __init__(
        self,
        encode: Encode,
        layer: Optional[nn.Module] = None,
        prepare: Optional[Prepare] = None,
        baseline: Optional[Baseline] = None,
        names: Optional[Names] = None,
    ) -> None:
        """The arguments are one side's of :func:`from_functions`."""
        for argument, value in (("encode", encode), ("prepare", prepare)):
            if not (callable(value) or argument == "prepare" and value is None):
                raise InvalidArgumentError(
                    argument, "a function", validation.describe(value)
                )
        if not (layer is None or isinstance(layer, nn.Module)):
            raise InvalidArgumentError(
                "layers", "modules or None", validation.describe(layer)
            )
        if not (names is None or callable(names) or isinstance(names, (list, tuple))):
            raise InvalidArgumentError(
                "names", "a list of names", validation.describe(names)
            )
        self._settings = (encode, layer, prepare, baseline, names)
        self._encode, self._layer, self._prepare = encode, layer, prepare
        self._baseline, self._names = baseline, names
        found = _module_of(encode)
        self.module = layer if found is None else found

    def is_same_as(self, other: "FunctionEncoder") -> bool:
        """Whether the other one was made of the same things."""
        pairs = zip(self._settings, other._settings)
        # methods are made anew whenever they are asked for
        return all(a is b or inspect.ismethod(a) and bool(a == b) for a, b in pairs)

    def layer(self, wanted: Optional[LayerLike]) -> Layer:
        """See :meth:`Encoder.layer`; the default is the one that was given."""
        return super().layer(self._layer if wanted is None else wanted)

    def prepare(self, raw: Any, baseline: Optional[str] = None) -> PreparedTensor:
        """
        What is put in as the function takes it.

        Raises:
            InvalidArgumentError: naming ``input``, ``prepare``, ``baselines`` or
                ``names``.
        """
        self.check_baseline(baseline)
        made = raw if self._prepare is None else self._prepare(raw)
        arguments: tuple[Any, ...] = ()
        if self._prepare is not None and isinstance(made, (tuple, list)):
            if len(made) != 2:
                raise InvalidArgumentError(
                    "prepare",
                    "a tensor, or (tensor, arguments)",
                    validation.describe(made),
                )
            made, rest = made
            arguments = tuple(rest) if isinstance(rest, (tuple, list)) else (rest,)
        argument = "input" if self._prepare is None else "prepare"
        inputs = _example(argument, made)
        start, in_words = self._start(inputs)
        names: Any = self._names(raw) if callable(self._names) else self._names
        if not (names is None or isinstance(names, (list, tuple))):
            raise InvalidArgumentError(
                "names", "a list of names", validation.describe(names)
            )
        return PreparedTensor(
            inputs,
            start,
            Source(TENSOR, text=raw if isinstance(raw, str) else ""),
            in_words,
            arguments,
            names=None if names is None else tuple(map(str, names)),
        )

    def _start(self, inputs: Tensor) -> tuple[Tensor, str]:
        """The baseline of inputs (1, ...), and it in words."""
        baseline: Any = self._baseline
        if baseline is None:
            return torch.zeros_like(inputs), "zeros"
        if callable(baseline) and not isinstance(baseline, Tensor):
            words = getattr(baseline, "__name__", "a baseline").strip("<>")
            baseline = baseline(inputs)
        elif isinstance(baseline, Tensor):
            words = "a given tensor"
        else:
            words = f"{validation.finite_float('baselines', baseline):g} everywhere"
        if isinstance(baseline, np.ndarray):
            baseline = torch.from_numpy(baseline)
        try:
            start = torch.as_tensor(baseline, dtype=inputs.dtype, device=inputs.device)
        except (RuntimeError, TypeError, ValueError) as error:
            raise InvalidArgumentError(
                "baselines",
                "a tensor, a number, or a function that returns one",
                validation.describe(baseline),
            ) from error
        try:
            return start.detach().expand_as(inputs).contiguous(), words
        except RuntimeError as error:
            raise InvalidArgumentError(
                "baselines",
                f"a tensor that can be expanded to the input's {tuple(inputs.shape)}",
                validation.describe(start),
            ) from error

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        return embeddings_of(self._encode(inputs, *arguments))


def _example(argument: str, value: Any) -> Tensor:
    """A tensor or array as a batch of one."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor) or value.numel() == 0 or value.is_complex():
        raise InvalidArgumentError(
            argument,
            "a tensor or an array with something in it"
            + (" (or give prepare=)" if argument == "input" else ""),
            validation.describe(value),
        )
    tensor: Tensor = value.detach()
    if tensor.ndim == 0:
        tensor = tensor[None]
    return tensor if tensor.shape[0] == 1 and tensor.ndim > 1 else tensor[None]


def _module_of(function: Any) -> Optional[nn.Module]:
    """The module that a function is, is a method of, or speaks of."""
    if isinstance(function, nn.Module):
        return function
    if isinstance(function, partial):
        return _module_of(function.func)
    owner = getattr(function, "__self__", None)
    if isinstance(owner, nn.Module):
        return owner
    try:
        variables = inspect.getclosurevars(function)
    except (TypeError, ValueError):  # not written in Python
        return None
    values = (*variables.nonlocals.values(), *variables.globals.values())
    modules = [value for value in values if isinstance(value, nn.Module)]
    return next(
        (part for part in modules if any(True for _ in part.parameters())), None
    )
