#!/usr/bin/env python3

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Callable, ClassVar, Generic, NamedTuple, Optional, TypeVar

import torch
from captum.attr import Attribution
from captum.log import log_usage
from captum_pairs.attr._utils.example import BaselinePath, Example, Side
from captum_pairs.attr._utils.forward_pass import too_large
from captum_pairs.attr._utils.hooks import Session
from captum_pairs.attr._utils.settings import described, settings_of
from captum_pairs.attr._utils.sides import make_side
from captum_pairs.attr._utils.validation import (
    check_tensor,
    describe,
    flag,
    InvalidArgumentError,
)
from torch import nn, Tensor

Settings = TypeVar("Settings")
AnyExample = TypeVar("AnyExample")


class EmbeddingDecomposition(NamedTuple):
    r"""
    An embedding, wholly accounted for: :math:`g(x) = g(r_x) + \sum_i c_i`.

    Args:

        embedding (Tensor): g(x), (b, k).
        baseline_embedding (Tensor): :math:`g(r_x)`, (b, k); zeros of a method that has
                    no baseline.
        contributions (Tensor): c_i, (b, \*features, k), what ``attribute`` returns.
        convergence_delta (Tensor): Sum of the contributions minus
                    :math:`g(x) - g(r_x)`, (b, k).
    """

    embedding: Tensor
    baseline_embedding: Tensor
    contributions: Tensor
    convergence_delta: Tensor


class EmbeddingReading(NamedTuple):
    r"""
    Linear readings :math:`\langle g(x), v\rangle` of an embedding, accounted for.

    Args:

        embedding (Tensor): g(x), (b, k).
        baseline_embedding (Tensor): :math:`g(r_x)`, (b, k).
        attributions (Tensor): :math:`\langle c_i, v\rangle`, (b, \*features, m).
        convergence_delta (Tensor): Sum of the attributions minus
                    :math:`\langle g(x) - g(r_x), v\rangle`, (b, m).
    """

    embedding: Tensor
    baseline_embedding: Tensor
    attributions: Tensor
    convergence_delta: Tensor


class Shares(NamedTuple):
    """
    What one example's features contribute, and between which two embeddings that is.

    Args:

        values (Tensor): c_i, (G, k), or inner products with m directions, (G, m).
        embedding, baseline_embedding (Tensor): (k,).
        n_steps (int): Of the path's integral; 0 of a method that has none.
        residual (float): How far that integral is from exact, relative.
    """

    values: Tensor
    embedding: Tensor
    baseline_embedding: Tensor
    n_steps: int = 0
    residual: float = 0.0


@dataclass(frozen=True)
class NoSettings:
    """A method that has none."""


class EmbeddingAttribution(Attribution, Generic[Settings]):
    r"""
    Base class of the methods that give every feature i of an input a *contribution
    vector* :math:`c_i \in R^k` to the input's embedding.

    An additive method's vectors sum to :math:`g(x) - g(r_x)`; their inner products
    with those of another input are feature-pair attributions (see
    :class:`PairAttribution`), and :math:`\langle c_i, v\rangle` attributes any linear
    reading v of the embedding.

    A method is a subclass with :meth:`contributions`. Its settings are the fields of a
    dataclass, ``settings_type``, which checks them: they become arguments of
    ``attribute``, ``decompose`` and ``read``. Override :meth:`readings`
    where a few readings cost less than all of the embedding, and :meth:`shares` where
    contributions do not lie between the baseline's embedding and the input's.

    Attributes:

        needs_gradients (bool): A method that only runs the encoder says False, and
                    takes those without gradients.
        has_baseline (bool): Whether there is a baseline. If so, examples are
                    :class:`BaselinePath`.
        keeps_width (bool): Whether :meth:`shares` are vectors of the embedding's own
                    width k.
        settings_type (type): The dataclass of the settings.
    """

    needs_gradients: ClassVar[bool] = True
    has_baseline: ClassVar[bool] = True
    keeps_width: ClassVar[bool] = True
    settings_type: ClassVar[type[Any]] = NoSettings
    layer: Optional[nn.Module] = None
    # set below, with the settings' names in their signatures
    attribute: Callable[..., Any]
    decompose: Callable[..., EmbeddingDecomposition]
    read: Callable[..., EmbeddingReading]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "settings_type" not in own and "has_baseline" not in own:
            return
        for general in (_attribute, _decompose, _read):
            name = general.__name__.lstrip("_")
            if name not in own:
                named = described(general, cls.settings_type, cls.has_baseline)
                setattr(cls, name, named)

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        normalize: bool = False,
        layer: Optional[nn.Module] = None,
        channel_dim: Optional[int] = None,
    ) -> None:
        r"""
        Args:

            forward_func (Callable or torch.nn.Module): The encoder: maps (b, ...) to
                        embeddings (b, k).
            normalize (bool, optional): Attribute the embedding divided by its norm.
                        Default: False
            layer (torch.nn.Module, optional): Attribute to a layer's value instead of
                        the input. Default: None
            channel_dim (int, optional): The dimension of the layer's value that is
                        summed when no feature_mask is given. Default: 1 for
                        (b, c, h, w) and the last one otherwise; a value (b, d) has no
                        positions, so that each of its units is a feature
        """
        if not callable(forward_func):
            raise InvalidArgumentError(
                "forward_func", "an encoder that can be called", describe(forward_func)
            )
        if layer is not None and not isinstance(layer, nn.Module):
            raise InvalidArgumentError("layer", "a torch.nn.Module", describe(layer))
        if channel_dim is not None and type(channel_dim) is not int:
            raise InvalidArgumentError(
                "channel_dim", "a dimension or None", describe(channel_dim)
            )
        Attribution.__init__(self, forward_func)
        self.normalize = normalize
        self.layer = layer
        self.channel_dim = channel_dim

    # ---- what a method defines ---------------------------------------------

    def contributions(self, example: Any, settings: Settings) -> Tensor:
        """
        Contribution vectors of one example.

        Args:

            example (Example): The example, with its features and the encoder;
                        a :class:`BaselinePath` if the method has a baseline.
            settings: What the method was asked for, a ``settings_type``.

        Returns:
            *Tensor* (G, k).
        """
        raise NotImplementedError(f"{type(self).__name__}.contributions")

    def readings(
        self, example: Any, directions: Tensor, settings: Settings
    ) -> Optional[Tensor]:
        """
        Inner products of the contributions with directions (m, k), if they can be had
        for less than the contributions.

        Returns:
            *Tensor* (G, m), or None: let the contributions be multiplied.
        """
        return None

    def shares(self, example: Any, settings: Settings) -> Shares:
        """The contributions, and between which two embeddings they lie."""
        values = self.contributions(example, settings)
        return Shares(values, example.embedding, example.baseline_embedding)

    # ---- what can be asked of one example ----------------------------------

    def shares_along(
        self, example: Any, directions: Tensor, settings: Settings
    ) -> Shares:
        """Inner products (G, m) of the contributions with directions (m, k)."""
        found = self.readings(example, directions.to(example.embedding), settings)
        if found is not None:
            return Shares(found, example.embedding, example.baseline_embedding)
        whole = self.shares(example, settings)
        return whole._replace(values=whole.values @ directions.to(whole.values).T)

    # ---- what can be asked of several --------------------------------------

    def shares_of(
        self, examples: Sequence[Any], settings: Sequence[Settings]
    ) -> list[Shares]:
        """:meth:`shares` of several examples, with settings of each."""
        return [self.shares(each, own) for each, own in zip(examples, settings)]

    def shares_of_along(
        self,
        examples: Sequence[Any],
        directions: Sequence[Tensor],
        settings: Sequence[Settings],
    ) -> list[Shares]:
        """:meth:`shares_along` of several examples, with directions of each."""
        given = zip(examples, directions, settings)
        return [self.shares_along(each, along, own) for each, along, own in given]

    def examples(
        self,
        inputs: object,
        baselines: object = None,
        feature_mask: object = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        session: Optional[Session] = None,
        settings: Optional[Settings] = None,
    ) -> Iterator[Example]:
        """
        The examples of a batch, one after the other, ready for :meth:`shares`.

        Args:

            inputs, baselines, feature_mask, additional_forward_args,
            attribute_to_layer_input: As for ``attribute``.
            session (Session, optional): In which they can be used as long as it is
                        open. Default: one that ends with the loop over them
            settings (optional): What they are going to be asked with, if it is known,
                        so that what that takes is found on the way.

        Raises:
            InvalidArgumentError: a ``ValueError`` that names the argument.
        """
        side = self._side(
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            attribute_to_layer_input,
        )
        if settings is not None:
            side = self.set_out(side, settings)
        return self._examples(side, session)

    def set_out(self, side: Side, settings: Settings) -> Side:
        """A side whose examples are going to be asked with these settings."""
        return side

    def _examples(
        self, side: Side, session: Optional[Session] = None
    ) -> Iterator[Example]:
        make = BaselinePath if self.has_baseline else Example
        with Session() if session is None else nullcontext(session) as opened:
            for row in range(len(side)):
                yield make(side, row, opened)

    def _side(
        self,
        inputs: object,
        baselines: object,
        feature_mask: object,
        additional_forward_args: object,
        attribute_to_layer_input: bool,
        index: Optional[int] = None,
    ) -> Side:
        """Validated arguments; index is that of a pair's side, for errors."""
        at_input = flag("attribute_to_layer_input", attribute_to_layer_input)
        if index is None and at_input and self.layer is None:
            raise InvalidArgumentError(
                "attribute_to_layer_input", "False for the encoder's input", "True"
            )
        if not self.has_baseline and baselines is not None:
            raise InvalidArgumentError(
                "baselines", "None for a method without a baseline", describe(baselines)
            )
        return make_side(
            self.forward_func,
            inputs,
            baselines,
            feature_mask,
            additional_forward_args,
            normalize=self.normalize,
            layer=self.layer,
            attribute_to_layer_input=attribute_to_layer_input,
            channel_dim=self.channel_dim,
            differentiable=self.needs_gradients,
            index=index,
        )

    # ---- what can be asked of a batch --------------------------------------

    @log_usage()
    def compute_convergence_delta(
        self,
        attributions: Tensor,
        start_point: Any,
        end_point: Tensor,
        target: None = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        Args:

            attributions (Tensor): Contributions (b, \*features, k).
            start_point (scalar or Tensor, optional): The baselines; None for a method
                        that has none.
            end_point (Tensor): The inputs (b, ...).
            target (None, optional): As in Captum; an embedding has none.
            additional_forward_args, attribute_to_layer_input: As for
                        ``attribute``.

        Returns:
            *Tensor* (b, k): sum of the contributions minus
            :math:`g(x) - g(r_x)`.

        Raises:
            NotImplementedError: if :meth:`has_convergence_delta` says no.
        """
        self._require_multiplied("attributions")
        self._require_delta()
        given = (end_point, start_point, None, additional_forward_args)
        side = self._side(*given, attribute_to_layer_input)
        check_attributions(attributions, len(side))
        examples = [
            (each.embedding, each.baseline_embedding) for each in self._examples(side)
        ]
        ends, starts = map(torch.stack, zip(*examples))
        exact = torch.promote_types(attributions.dtype, ends.dtype)
        return _delta(attributions.to(exact), ends, starts).to(attributions.dtype)

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether contributions are those of features, and not sensitivities."""
        return True

    def has_convergence_delta(self) -> bool:
        """Whether the contributions of every input sum to a known vector."""
        return False

    def attribute_future(self) -> None:
        """This method is not implemented, as for Captum's gradient methods."""
        raise NotImplementedError(f"attribute_future: {type(self).__name__}")

    def _require_delta(self) -> None:
        if not self.has_convergence_delta():
            name = type(self).__name__
            raise NotImplementedError(f"{name} has no convergence delta")

    def _require_multiplied(self, argument: str) -> None:
        """Refuse what is meaningful for complete methods only."""

    def _decomposed(
        self, side: Side, settings: Mapping[str, Any]
    ) -> EmbeddingDecomposition:
        values, ends, starts = self._run(side, settings)
        dtype = result_dtype(side, computed=values.dtype)
        parts = (ends, starts, values, _delta(values, ends, starts))
        return EmbeddingDecomposition(*(part.to(dtype) for part in parts))

    def _run(
        self,
        side: Side,
        settings: Mapping[str, Any],
        directions: Optional[Tensor] = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Contributions (b, *features, k) of a batch, or their inner products with
        directions (b, m, k) instead, and both ends' embeddings (b, k)."""
        asked = settings_of(self.settings_type, settings)
        results: list[tuple[Tensor, Tensor, Tensor]] = []
        with Session() as session:
            examples = self._examples(self.set_out(side, asked), session)
            for block in blocks_of(examples, self.most_together):
                self._run_block(block, side, asked, directions, results)
        values, ends, starts = map(torch.stack, zip(*results))
        return values, ends, starts

    def _run_block(
        self,
        block: list[Any],
        side: Side,
        asked: Any,
        directions: Optional[Tensor],
        results: list[tuple[Tensor, Tensor, Tensor]],
    ) -> None:
        """Some of the examples of a batch, that follow those of the results."""
        check_size(block[:1], len(side), block[0].embedding.numel())
        each = [asked] * len(block)
        if directions is None:
            found = self.shares_of(block, each)
        else:
            rows = directions[len(results) : len(results) + len(block)]
            along = [_of_width(*given) for given in zip(rows, block)]
            found = self.shares_of_along(block, along, each)
        for example, own in zip(block, found):
            check_finite(own.values)
            self.check_shares(example, own, asked)
            shape = (*example.features.shape, -1)
            results.append((own.values.reshape(shape), *own[1:3]))

    def most_together(self, example: Any) -> int:
        """How many examples like this one are worth having at once."""
        return 1

    def check_shares(self, example: Any, found: Shares, settings: Settings) -> None:
        """Say it, if what was found is not what was asked for."""


@log_usage()
def _attribute(
    self: EmbeddingAttribution[Any],
    inputs: Tensor,
    baselines: Any = None,
    feature_mask: Optional[Tensor] = None,
    additional_forward_args: Any = None,
    attribute_to_layer_input: bool = False,
    **settings: Any,
) -> Tensor:
    r"""
    Args:

        inputs (Tensor): (b, ...); floating, or at a layer token ids.
        baselines (scalar or Tensor, optional): What stands for an absent input: a
                    number, or a tensor of the input's shape or of batch 1; at a layer
                    it is propagated there. Default: zeros
        feature_mask (Tensor, optional): Ids 0...G-1 that sum scalars into G features;
                    of the dimensions of the input, or of the layer's value, each its
                    own size or 1. Default: every scalar is a feature, at a layer every
                    position
        additional_forward_args (Any, optional): One further argument of the encoder, or
                    a tuple of them; tensors of batch 1 or b stay with their example.
        attribute_to_layer_input (bool, optional): The layer's input instead of its
                    output. Default: False
        **settings: Those of the method.

    Returns:
        *Tensor*: contributions (b, \*features, k).

    Raises:
        InvalidArgumentError: a ``ValueError`` that names the argument.
    """
    given = (inputs, baselines, feature_mask, additional_forward_args)
    side = self._side(*given, attribute_to_layer_input)
    values, _, _ = self._run(side, settings)
    return values.to(result_dtype(side, computed=values.dtype))


@log_usage()
def _decompose(
    self: EmbeddingAttribution[Any],
    inputs: Tensor,
    baselines: Any = None,
    feature_mask: Optional[Tensor] = None,
    additional_forward_args: Any = None,
    attribute_to_layer_input: bool = False,
    **settings: Any,
) -> EmbeddingDecomposition:
    """
    The whole embedding: the baseline's, and contributions. The arguments are those
    of ``attribute``.

    Returns:
        :class:`EmbeddingDecomposition`
    """
    self._require_multiplied("decompose")
    given = (inputs, baselines, feature_mask, additional_forward_args)
    side = self._side(*given, attribute_to_layer_input)
    return self._decomposed(side, settings)


@log_usage()
def _read(
    self: EmbeddingAttribution[Any],
    inputs: Tensor,
    directions: Tensor,
    baselines: Any = None,
    feature_mask: Optional[Tensor] = None,
    additional_forward_args: Any = None,
    attribute_to_layer_input: bool = False,
    **settings: Any,
) -> EmbeddingReading:
    r"""
    Attributes linear readings of the embedding: :math:`\langle c_i, v\rangle` for
    directions v, such as another input's embedding or contributions, a class
    prompt's embedding or a probe's weights.

    Args:

        inputs (Tensor): (b, ...).
        directions (Tensor): (m, k) for every example, or (b, m, k).

    The other arguments are those of ``attribute``.

    Returns:
        :class:`EmbeddingReading`

    Examples::

        >>> jacobian = IntegratedJacobian(nn.Linear(4, 3))
        >>> jacobian.read(torch.randn(2, 4), torch.eye(3)[:1]).attributions.shape
        torch.Size([2, 4, 1])
    """
    self._require_multiplied("read")
    given = (inputs, baselines, feature_mask, additional_forward_args)
    side = self._side(*given, attribute_to_layer_input)
    along = _directions(directions, len(side))
    values, ends, starts = self._run(side, settings, along)
    dtype = result_dtype(side, computed=values.dtype)
    # (b, *features, m) -> (b, m)
    total = values.flatten(1, -2).sum(dim=1)
    expected = (along.to(ends) @ (ends - starts).unsqueeze(-1)).squeeze(-1)
    parts = (ends, starts, values, total - expected)
    return EmbeddingReading(*(part.to(dtype) for part in parts))


EmbeddingAttribution.attribute = _attribute
EmbeddingAttribution.decompose = _decompose
EmbeddingAttribution.read = _read


def _delta(values: Tensor, ends: Tensor, starts: Tensor) -> Tensor:
    """Sum of the contributions minus the embeddings' difference: (b, k)."""
    total = values.flatten(1, -2).sum(dim=1) if values.ndim > 2 else values
    return total - (ends - starts)


def _directions(directions: object, rows: int) -> Tensor:
    """Directions (b, m, k) of those that were given, (m, k) or (b, m, k)."""
    values = check_tensor("directions", directions)
    if (
        values.ndim not in (2, 3)
        or not values.is_floating_point()
        or (values.ndim == 3 and values.shape[0] not in (1, rows))
    ):
        raise InvalidArgumentError(
            "directions",
            f"a floating tensor (m, k), or (b, m, k) with b = {rows}",
            describe(directions),
        )
    return values.detach().expand(rows, -1, -1)


def _of_width(directions: Tensor, example: Example) -> Tensor:
    """(m, k) as the example computes, if they are of the embedding's width."""
    width = example.embedding.numel()
    if directions.shape[-1] != width:
        raise InvalidArgumentError(
            "directions",
            f"vectors of the embedding's width k = {width}",
            describe(directions),
        )
    return directions.to(example.embedding)


def blocks_of(
    examples: Iterable[AnyExample], most: Callable[[AnyExample], int]
) -> Iterator[list[AnyExample]]:
    """Examples by so many as ``most`` says of the first of a block."""
    block: list[AnyExample] = []
    for example in examples:
        block.append(example)
        if len(block) >= most(block[0]):
            yield block
            block = []
    if block:
        yield block


def check_size(examples: Iterable[Example], rows: int, width: int = 1) -> None:
    """Refuse an output (b, *features of each, width) that the device can't hold."""
    sizes = [each.features.count for each in examples]
    sizes += [width] if width > 1 else []
    elements, first = rows, next(iter(examples))
    for size in sizes:
        elements *= size
    found = too_large(elements, first.dtype, first.value.device)
    if found is not None:
        shape = " x ".join(f"{size:,}" for size in (rows, *sizes))
        raise InvalidArgumentError(
            "feature_mask",
            "features few enough for the attributions to fit in memory",
            f"an output of {shape} values, {found}; pass a feature_mask that sums "
            "scalars into fewer features",
        )


def check_attributions(attributions: object, rows: int) -> None:
    """Refuse what can't be the attributions of a batch of ``rows`` examples."""
    values = check_tensor("attributions", attributions)
    if values.shape[0] != rows or not values.is_floating_point():
        raise InvalidArgumentError(
            "attributions",
            f"a floating tensor with a batch of {rows}",
            describe(values),
        )


def check_finite(values: Tensor) -> None:
    """Refuse derivatives that overflowed or are not defined on the path."""
    if not bool(torch.isfinite(values).all()):
        raise InvalidArgumentError(
            "forward_func",
            "an encoder with finite derivatives between baseline and input",
            f"NaN or infinity in {describe(values)} (float16 overflows early; an "
            "embedding of norm zero on the path has no cosine)",
        )


def result_dtype(*sides: Side, computed: torch.dtype) -> torch.dtype:
    """The floating inputs' dtype; of integer ids, that in which they were computed."""
    inputs = [side.inputs[0] for side in sides]
    dtypes = [each.dtype for each in inputs if each.is_floating_point()]
    if len(dtypes) < len(sides):
        dtypes.append(computed)
    result = dtypes[0]
    for dtype in dtypes[1:]:
        result = torch.promote_types(result, dtype)
    return result
