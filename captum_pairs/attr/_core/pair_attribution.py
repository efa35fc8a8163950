#!/usr/bin/env python3

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Callable, ClassVar, NamedTuple, Optional

import torch
from captum.attr import Attribution
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import (
    blocks_of,
    check_attributions,
    check_finite,
    check_size,
    EmbeddingAttribution,
    result_dtype,
    Shares,
)
from captum_pairs.attr._utils.example import check_norm, Example, Side
from captum_pairs.attr._utils.hooks import Session
from captum_pairs.attr._utils.settings import described, settings_of_pair
from captum_pairs.attr._utils.similarity import (
    different_widths,
    make_similarity,
    Similarity,
)
from captum_pairs.attr._utils.validation import (
    check_tensor,
    describe,
    flag,
    InvalidArgumentError,
    optional_pair_of,
    pair_of,
)
from torch import Tensor

# Of each side what its embedding attribution is made with.
Options = tuple[Mapping[str, Any], Mapping[str, Any]]


class PairDecomposition(NamedTuple):
    r"""
    A similarity, wholly accounted for:

    .. math::
        s(x, y) = \langle g(r_x), h(r_y) \rangle
                + \sum_i \langle c_i, h(r_y) \rangle
                + \sum_j \langle g(r_x), c_j \rangle
                + \sum_{ij} \langle c_i, c_j \rangle

    Args:

        score (Tensor): s(x, y), (b,).
        constant (Tensor): The score of the two baselines, (b,).
        first (Tensor): Main effects of x, (b, \*features of x).
        second (Tensor): Main effects of y, (b, \*features of y).
        interactions (Tensor): (b, \*features of x, \*features of y), what
                    ``attribute`` returns.
        convergence_delta (Tensor): The sum of the four parts minus the score, (b,).
    """

    score: Tensor
    constant: Tensor
    first: Tensor
    second: Tensor
    interactions: Tensor
    convergence_delta: Tensor


def pair(
    contributions_first: Tensor,
    contributions_second: Tensor,
    all_pairs: bool = False,
) -> Tensor:
    r"""
    Feature-pair attributions from contribution vectors:
    :math:`A_{ij} = \langle c_i, c_j \rangle`.

    Contributions are computed once per input, so that m inputs against n others cost
    m + n embedding attributions and this product.

    Args:

        contributions_first (Tensor): (b, \*i, k), or (m, \*i, k) with ``all_pairs``.
        contributions_second (Tensor): (b, \*j, k), or (n, \*j, k) with ``all_pairs``.
        all_pairs (bool, optional): Every first with every second input instead of
                    aligned pairs. Default: False

    Returns:
        *Tensor* (b, \*i, \*j), or (m, n, \*i, \*j) with ``all_pairs``; half precision
        is multiplied in float32 and returned in half precision.

    Raises:
        InvalidArgumentError: for tensors that don't fit each other.

    Examples::

        >>> pair(torch.randn(8, 50, 512), torch.randn(8, 12, 512)).shape
        torch.Size([8, 50, 12])
        >>> pair(torch.randn(8, 50, 512), torch.randn(3, 12, 512), True).shape
        torch.Size([8, 3, 50, 12])
    """
    first = _contributions("contributions_first", contributions_first)
    second = _contributions("contributions_second", contributions_second)
    if first.shape[-1] != second.shape[-1]:
        raise InvalidArgumentError(
            "contributions_second",
            f"vectors of width k = {first.shape[-1]}, as the first's",
            describe(second),
        )
    if not flag("all_pairs", all_pairs) and first.shape[0] != second.shape[0]:
        raise InvalidArgumentError(
            "contributions_second",
            f"a batch of {first.shape[0]}, as the first's (or all_pairs=True)",
            describe(second),
        )
    dtype = torch.promote_types(first.dtype, second.dtype)
    exact = torch.promote_types(dtype, torch.float32)
    # (b, *i, k) -> (b, i, k)
    rows = first.reshape(first.shape[0], -1, first.shape[-1]).to(exact)
    columns = second.reshape(second.shape[0], -1, second.shape[-1])
    columns = columns.to(device=rows.device, dtype=exact)
    axes_first, axes_second = first.shape[1:-1], second.shape[1:-1]
    if all_pairs:
        rows, columns = rows.unsqueeze(1), columns.unsqueeze(0)
    products = rows @ columns.transpose(-1, -2)
    shape = (*products.shape[:-2], *axes_first, *axes_second)
    return products.reshape(shape).to(dtype).contiguous()


def _contributions(argument: str, value: object) -> Tensor:
    tensor = check_tensor(argument, value)
    if tensor.ndim < 2 or not tensor.is_floating_point():
        raise InvalidArgumentError(
            argument, "a floating tensor (b, *features, k)", describe(value)
        )
    return tensor


class PairAttribution(Attribution):
    r"""
    Base class of the methods that attribute a similarity to pairs of features, made of
    an :class:`EmbeddingAttribution` of each side:
    :math:`A_{ij} = \langle c_i, c_j\rangle`.

    A method is a subclass that names its ``embedding_attribution``, whose settings
    become arguments of ``attribute`` and ``decompose``: one for both sides, or
    a pair where the settings' class says so (``per_side``).
    """

    embedding_attribution: ClassVar[type[EmbeddingAttribution[Any]]]
    forward_func: Similarity
    # set below, with the settings' names in their signatures
    attribute: Callable[..., Any]
    decompose: Callable[..., PairDecomposition]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "embedding_attribution" not in own:
            return
        method = cls.embedding_attribution
        for general in (_attribute, _decompose):
            name = general.__name__.lstrip("_")
            if name not in own:
                named = described(general, method.settings_type, method.has_baseline)
                setattr(cls, name, named)

    def __init__(
        self,
        forward_func: Any,
        similarity: str = "cosine",
        scale: float = 1.0,
        layer: Any = None,
        channel_dim: Any = None,
    ) -> None:
        r"""
        Args:

            forward_func (Callable or tuple of Callable): (encode_first,
                        encode_second), or one encoder for both sides; each maps
                        (b, ...) to embeddings (b, k).
            similarity (str, optional): ``cosine``, ``dot``, or ``frozen_cosine`` (the
                        dot product divided by the two norms at the inputs; its
                        ``forward_func`` is the cosine). Default: ``cosine``
            scale (float, optional): A factor on the similarity, such as a logit
                        scale. Default: 1.0
            layer (Module or tuple, optional): A layer of each encoder; None on a side:
                        its input; one module stands for both. Default: None
            channel_dim (int or tuple, optional): For each side, the dimension of the
                        layer's value that is summed when no feature_mask is given.
                        Default: 1 for (b, c, h, w) and the last one otherwise
        """
        self._build(forward_func, similarity, scale, layer, channel_dim)

    def _build(
        self,
        forward_func: Any,
        similarity: str,
        scale: float,
        layer: Any,
        channel_dim: Any,
        options: Options = ({}, {}),
    ) -> None:
        """Both sides' methods, with what else each is made with."""
        score = make_similarity(forward_func, similarity, scale)
        Attribution.__init__(self, score)
        self.similarity = score
        self.layer = layer_pair(layer)
        is_one = channel_dim is None or isinstance(channel_dim, int)
        dims = (channel_dim,) * 2 if is_one else pair_of("channel_dim", channel_dim)
        own = {name for name in options[0] if options[0][name] is not options[1][name]}
        own |= {"layer"} if self.layer[0] is not self.layer[1] else set()
        own |= set() if is_one else {"channel_dim"}
        sides = []
        for index, (encoder, module, dim, more) in enumerate(
            zip(
                (score.encode_first, score.encode_second),
                self.layer,
                dims,
                options,
            )
        ):
            try:
                sides.append(
                    self.embedding_attribution(
                        encoder,
                        normalize=score.kind == "cosine",
                        layer=module,
                        channel_dim=dim,
                        **more,
                    )
                )
            except InvalidArgumentError as error:
                if error.argument not in own:
                    raise
                name = f"{error.argument}[{index}]"
                raise InvalidArgumentError(name, error.expected, error.got) from error
        self.first, self.second = sides

    # ---- what can be asked of a batch --------------------------------------

    @log_usage()
    def compute_convergence_delta(
        self,
        attributions: Tensor,
        start_point: Any,
        end_point: tuple[Tensor, Tensor],
        target: None = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        r"""
        Args:

            attributions (Tensor): (b, \*features of x, \*features of y).
            start_point (tuple, optional): The pair of baselines.
            end_point (tuple[Tensor, Tensor]): The pair of inputs.
            target (None, optional): As in Captum; a similarity has none.
            additional_forward_args, attribute_to_layer_input: As for
                        ``attribute``.

        Returns:
            *Tensor* (b,): the sum of the attributions minus
            :math:`s(x,y) - s(r_x,y) - s(x,r_y) + s(r_x,r_y)`.

        Raises:
            NotImplementedError: if :meth:`has_convergence_delta` says no.
        """
        self.first._require_multiplied("attributions")
        self.first._require_delta()
        given = (end_point, start_point, None, additional_forward_args)
        sides = self._sides(*given, attribute_to_layer_input)
        check_attributions(attributions, len(sides[0]))
        targets = []
        for example in self._examples(sides):
            factor, corners = self.corners(*example)
            targets.append(factor * corners[2])
        target_sums = torch.stack(targets)
        total = attributions.to(target_sums).flatten(1).sum(dim=1)
        return (total - target_sums).to(attributions.dtype)

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether attributions are those of features, and not sensitivities."""
        return self.first.multiplies_by_inputs

    def has_convergence_delta(self) -> bool:
        """Whether the attributions of every pair sum to a known number."""
        return self.first.has_convergence_delta()

    def attribute_future(self) -> None:
        """This method is not implemented, as for Captum's gradient methods."""
        raise NotImplementedError(f"attribute_future: {type(self).__name__}")

    # ---- arguments ---------------------------------------------------------

    def examples(
        self,
        inputs: object,
        baselines: object = None,
        feature_mask: object = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        session: Optional[Session] = None,
    ) -> Iterator[tuple[Example, Example]]:
        """
        The pairs of a batch, one after the other: see
        :meth:`EmbeddingAttribution.examples`.
        """
        given = (inputs, baselines, feature_mask, additional_forward_args)
        sides = self._sides(*given, attribute_to_layer_input)
        return self._examples(sides, session)

    def _examples(
        self, sides: tuple[Side, Side], session: Optional[Session] = None
    ) -> Iterator[tuple[Example, Example]]:
        with Session() if session is None else nullcontext(session) as opened:
            yield from zip(
                self.first._examples(sides[0], opened),
                self.second._examples(sides[1], opened),
            )

    def _sides(
        self,
        inputs: object,
        baselines: object,
        feature_mask: object,
        additional_forward_args: object,
        attribute_to_layer_input: bool,
    ) -> tuple[Side, Side]:
        """Both sides' validated arguments."""
        values = pair_of("inputs", inputs)
        starts = optional_pair_of("baselines", baselines)
        masks = optional_pair_of("feature_mask", feature_mask)
        args = optional_pair_of("additional_forward_args", additional_forward_args)
        for index, value in enumerate(values):
            check_tensor(f"inputs[{index}]", value)
        if values[0].shape[0] != values[1].shape[0]:
            raise InvalidArgumentError(
                "inputs",
                "two batches of the same size",
                f"batches of {values[0].shape[0]} and {values[1].shape[0]}",
            )
        at_input = flag("attribute_to_layer_input", attribute_to_layer_input)
        if at_input and self.layer == (None, None):
            raise InvalidArgumentError(
                "attribute_to_layer_input", "False for the encoders' inputs", "True"
            )
        first, second = (
            method._side(*given, attribute_to_layer_input, index=index)
            for index, (method, given) in enumerate(
                zip((self.first, self.second), zip(values, starts, masks, args))
            )
        )
        return first, second

    # ---- the product -------------------------------------------------------

    def _pairs(
        self, sides: tuple[Side, Side], settings: Mapping[str, Any], effects: bool
    ) -> PairDecomposition:
        """
        Feature-pair attributions of a batch.

        Args:

            sides (tuple): Both sides' arguments.
            settings (mapping): The method's.
            effects (bool): Whether main effects are computed too (else they are zero
                        and the delta is that of the interactions).
        """
        asked = settings_of_pair(self.embedding_attribution.settings_type, settings)
        results: list[PairDecomposition] = []
        first = self.first.set_out(sides[0], asked[0])
        second = self.second.set_out(sides[1], asked[1])
        with Session() as session:
            examples = self._examples((first, second), session)
            for block in blocks_of(examples, self._most_together):
                check_size(block[0], len(sides[0]))
                results += self._of_block(block, asked, effects)
        dtype = result_dtype(*sides, computed=results[0].interactions.dtype)
        return PairDecomposition(
            *(torch.stack(parts).to(dtype).contiguous() for parts in zip(*results))
        )

    def _most_together(self, pair: tuple[Example, Example]) -> int:
        x, y = pair
        return min(self.first.most_together(x), self.second.most_together(y))

    def _of_block(
        self,
        block: Sequence[tuple[Example, Example]],
        settings: tuple[Any, Any],
        effects: bool,
    ) -> list[PairDecomposition]:
        """Some pairs of a batch, whose examples share passes where they can."""
        for x, y in block:
            self.corners(x, y)  # refuses those that have no similarity
        x, y = block[0]
        swapped = x.features.count >= y.features.count
        methods = self.first, self.second
        # Contributions on the side with fewer features, readings on the other one.
        few, many = methods[swapped], methods[not swapped]
        own, theirs = settings[swapped], settings[not swapped]
        narrow = [pair[swapped] for pair in block]
        wide = [pair[not swapped] for pair in block]
        known = few.shares_of(narrow, [own] * len(block))  # (few, k)
        directions = []
        for shares in known:
            along = shares.values
            if effects:
                start = shares.baseline_embedding.to(along)
                along = torch.cat([along, start[None]])
            directions.append(along)
        # (many, few or few + 1)
        read = many.shares_of_along(wide, directions, [theirs] * len(block))
        for pair, one, other in zip(block, known, read):
            few.check_shares(pair[swapped], one, own)
            many.check_shares(pair[not swapped], other, theirs)
        return [
            self._decomposed(*pair, one, other, swapped, effects)
            for pair, one, other in zip(block, known, read)
        ]

    def _decomposed(
        self,
        x: Example,
        y: Example,
        known: Shares,
        read: Shares,
        swapped: bool,
        effects: bool,
    ) -> PairDecomposition:
        """A pair's parts from contributions on one side (the second one, if swapped)
        and readings of the other along them."""
        factor, _ = self.corners(x, y)
        table = read.values[:, : len(known.values)]
        check_finite(table)
        mains = (
            known.values @ read.baseline_embedding.to(known.values),
            read.values[:, -1] if effects else table.new_zeros(len(table)),
        )
        ends = _corners(known, read, factor)
        score, constant, target = ends
        first, second = mains[::-1] if swapped else mains
        table = table if swapped else table.T
        first, second, table = (
            factor * part.to(factor) for part in (first, second, table)
        )
        total = table.sum()
        if effects:
            delta = total + first.sum() + second.sum() - factor * (score - constant)
        else:
            delta = total - factor * target
        axes = x.features.shape, y.features.shape
        return PairDecomposition(
            factor * score,
            factor * constant,
            first.reshape(axes[0]),
            second.reshape(axes[1]),
            table.reshape(*axes[0], *axes[1]),
            delta,
        )

    def corners(self, x: Example, y: Example) -> tuple[Tensor, Tensor]:
        """
        The similarity's factor, and the inner products that it multiplies: the score,
        that of the two baselines, and what the interactions sum to, (3,).
        """
        if x.embedding.numel() != y.embedding.numel():
            raise different_widths(x.embedding.numel(), y.embedding.numel())
        if self.similarity.kind == "frozen_cosine":
            for example in (x, y):
                check_norm(example.embedding, example.side.name("inputs"))
        dtype = torch.promote_types(x.dtype, y.dtype)
        g, h = (e.embedding.to(device=x.value.device, dtype=dtype) for e in (x, y))
        factor = self.similarity.factor(g, h)
        return factor, torch.stack(_corners(x, y, factor))


def _corners(x: Any, y: Any, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inner products of both sides' ends: of the inputs, of the baselines, and of the
    differences."""
    g, g_baseline, h, h_baseline = (
        end.to(like)
        for side in (x, y)
        for end in (side.embedding, side.baseline_embedding)
    )
    return g @ h, g_baseline @ h_baseline, (g - g_baseline) @ (h - h_baseline)


@log_usage()
def _attribute(
    self: PairAttribution,
    inputs: tuple[Tensor, Tensor],
    baselines: Any = None,
    feature_mask: Any = None,
    additional_forward_args: Any = None,
    attribute_to_layer_input: bool = False,
    **settings: Any,
) -> Tensor:
    r"""
    Args:

        inputs (tuple[Tensor, Tensor]): (b, ...) of one batch size; floating, or at a
                    layer token ids.
        baselines (tuple, optional): What stands for an absent input: for each side a
                    number, or a tensor of the input's shape or of batch 1; at a layer
                    it is propagated there. Default: zeros
        feature_mask (tuple, optional): For each side ids 0...G-1 that sum scalars into
                    G features; of the dimensions of the input, or of the layer's value,
                    each its own size or 1. Default: every scalar is a feature, at a
                    layer every position
        additional_forward_args (tuple, optional): For each side one further argument of
                    its encoder, or a tuple of them; tensors of batch 1 or b stay with
                    their example.
        attribute_to_layer_input (bool, optional): The layers' inputs instead of their
                    outputs. Default: False
        **settings: Those of the method.

    Returns:
        *Tensor*: (b, \*features of x, \*features of y), in units of the similarity.

    Raises:
        InvalidArgumentError: a ``ValueError`` that names the argument.
    """
    given = (inputs, baselines, feature_mask, additional_forward_args)
    sides = self._sides(*given, attribute_to_layer_input)
    return self._pairs(sides, settings, effects=False).interactions


@log_usage()
def _decompose(
    self: PairAttribution,
    inputs: tuple[Tensor, Tensor],
    baselines: Any = None,
    feature_mask: Any = None,
    additional_forward_args: Any = None,
    attribute_to_layer_input: bool = False,
    **settings: Any,
) -> PairDecomposition:
    r"""
    The whole score: constant, main effects of each side, and interactions. The
    arguments are those of ``attribute``.

    Returns:
        :class:`PairDecomposition`
    """
    self.first._require_multiplied("decompose")
    given = (inputs, baselines, feature_mask, additional_forward_args)
    sides = self._sides(*given, attribute_to_layer_input)
    return self._pairs(sides, settings, effects=True)


PairAttribution.attribute = _attribute
PairAttribution.decompose = _decompose


def layer_pair(layer: object) -> tuple[Optional[Any], Optional[Any]]:
    """One layer for each side; one module stands for both."""
    if isinstance(layer, torch.nn.Module):
        return layer, layer
    return optional_pair_of("layer", layer)
