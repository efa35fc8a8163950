#!/usr/bin/env python3

import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Callable, Literal, Optional, Union

import torch
from captum.log import log_usage
from captum_pairs.attr._core.embedding_attribution import EmbeddingAttribution
from captum_pairs.attr._core.pair_attribution import PairAttribution
from captum_pairs.attr._utils.example import Example
from captum_pairs.attr._utils.hooks import undone
from captum_pairs.attr._utils.validation import (
    check_chunk,
    describe,
    flag,
    InvalidArgumentError,
    warn_caller,
)
from torch import nn, Tensor

# Beside the encoder's own graph: a rule keeps its layer's input, and runs the layer up
# to four times on parts of it.
_GRAPHS = 5.0
# In norms of the relevance sent: biases and stabilisers keep about as much as there is
# at most (0.06 to 0.5 of a ResNet's); batch norm or layer norm without a rule makes
# hundreds of times as much.
_LOST = 10.0


@dataclass(frozen=True)
class Passes:
    """
    How the reverse passes run.

    Args:

        internal_batch_size (int, optional): The most embedding dimensions sent back at
                    once. Default: by the memory that the encoder takes
    """

    internal_batch_size: Optional[int] = None

    def __post_init__(self) -> None:
        check_chunk(self.internal_batch_size)


class EmbeddingLRP(EmbeddingAttribution[Passes]):
    r"""
    Layer-wise relevance propagation of every embedding dimension,

    .. math::
        c_i = \big(R_i[g_1], \dots, R_i[g_k]\big) \in R^k,

    where :math:`R_i[g_k]` is what arrives at feature i of the relevance
    :math:`g_k(x)` that is sent back through the network by a library's rules (Bach et
    al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise
    Relevance Propagation", PLoS ONE 2015,
    https://doi.org/10.1371/journal.pone.0130140).

    Rules are those of zennit (https://github.com/chr5tphr/zennit, the extra ``lrp``): a
    composite says which layer gets which, and its canonizers merge batch norm and make
    a residual sum a layer. They are there for convolutional and fully connected
    networks. What has no rule (attention, layer norm, a function outside of any layer)
    is passed by its gradient, which does not conserve relevance:
    ``return_convergence_delta`` measures the difference, and a call in which it is many
    times what was sent warns.

    As long as a call runs, the rules act on every forward pass of ``module``, other
    threads' too. Parameters, buffers, hooks and attributes are afterwards as they were,
    whatever the composite did to them.
    """

    has_baseline = False
    settings_type = Passes

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        composite: Any,
        module: Optional[nn.Module] = None,
        normalize: bool = False,
        layer: Optional[nn.Module] = None,
        channel_dim: Optional[int] = None,
    ) -> None:
        r"""
        Args:

            forward_func (Callable or torch.nn.Module): The encoder: maps (b, ...) to
                        embeddings (b, k).
            composite (zennit.core.Composite): The rules, or another object whose
                        ``context(module)`` is a context manager in which gradients are
                        relevances.
            module (torch.nn.Module, optional): What the composite is applied to, the
                        network that ``forward_func`` runs. Default: ``forward_func``
            normalize (bool, optional): Divide by the norm of g(x), so that inner
                        products are in units of the cosine. The norm is a constant:
                        relevance is not sent through it. Default: False
            layer (torch.nn.Module, optional): Relevance of a layer's value instead of
                        the input's. Default: None
            channel_dim (int, optional): Of the layer's value. Default: 1 of (b, c, h,
                        w), else the last one
        """
        super().__init__(forward_func, normalize, layer, channel_dim)
        self.composite = _checked_composite("composite", composite)
        self.module = _root("module", module, forward_func)

    def has_convergence_delta(self) -> bool:
        """The relevance that does not arrive is known."""
        return True

    @typing.overload
    def attribute(
        self,
        inputs: Tensor,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        internal_batch_size: Optional[int] = None,
        *,
        return_convergence_delta: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...

    @typing.overload
    def attribute(
        self,
        inputs: Tensor,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: Literal[False] = False,
    ) -> Tensor: ...

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        feature_mask: Optional[Tensor] = None,
        additional_forward_args: Any = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: bool = False,
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        r"""
        Args:

            inputs (Tensor): (b, ...); at a layer they may be integers.
            feature_mask (Tensor, optional): As for :class:`IntegratedJacobian`.
            additional_forward_args (Any, optional): Further arguments of the encoder.
            internal_batch_size (int, optional): The most embedding dimensions sent back
                        at once. Default: by the memory that the encoder takes
            return_convergence_delta (bool, optional): Return also the sum of the
                        contributions minus the embedding, what biases add and rules
                        absorb. Default: False

        Returns:
            *Tensor* or *tuple*: contributions (b, \*features, k), and with the flag the
            delta (b, k).

        Examples::

            >>> from zennit.composites import EpsilonPlus
            >>> conv = nn.Conv2d(3, 4, 3, bias=False)
            >>> pool = nn.AdaptiveAvgPool2d(1)
            >>> net = nn.Sequential(conv, nn.ReLU(), pool, nn.Flatten())
            >>> lrp = EmbeddingLRP(net, EpsilonPlus())
            >>> x = torch.randn(2, 3, 8, 8)
            >>> lrp.attribute(x, torch.zeros(1, 1, 1, 1, dtype=torch.long)).shape
            torch.Size([2, 1, 4])
        """
        side = self._side(inputs, None, feature_mask, additional_forward_args, False)
        asked = {"internal_batch_size": internal_batch_size}
        found = self._decomposed(side, asked)
        if flag("return_convergence_delta", return_convergence_delta):
            return found.contributions, found.convergence_delta
        return found.contributions

    def contributions(self, example: Example, settings: Passes) -> Tensor:
        width = example.embedding.numel()
        axes = torch.eye(width, dtype=example.dtype, device=example.embedding.device)
        return self.readings(example, axes, settings)

    def readings(
        self, example: Example, directions: Tensor, settings: Passes
    ) -> Tensor:
        r"""
        At given activations relevance is linear in what it starts with, so that
        :math:`\langle c_i, v \rangle` is one reverse pass that starts with
        :math:`v_k\, g_k(x)`.
        """
        # how points run is found out before there are rules
        fitting = example.chunk_size(None, _GRAPHS)
        at_once = settings.internal_batch_size or fitting
        columns = []
        with applied(self.composite, self.module):
            for some in torch.split(directions, at_once):
                columns.extend(self._reverse(example, some))
        found = torch.stack(columns, dim=-1)
        _check_conserved(found.sum(0), directions, example.embedding)
        return found

    def _reverse(self, example: Example, directions: Tensor) -> list[Tensor]:
        """What arrives of each of the directions (m, k): m times (G,)."""
        values = example.value.expand(len(directions), *example.value.shape)
        with example.run(values, normalize=False) as (leaf, ends):
            start = directions * ends.detach()
            if example.side.normalize:
                start = start / torch.linalg.vector_norm(ends.detach(), dim=-1)[:, None]
            relevance = example.gradient(ends, leaf, start, create_graph=False)
        return [example.features.sum(each) for each in relevance.to(example.dtype)]


@contextmanager
def applied(composite: Any, module: nn.Module) -> Iterator[None]:
    """A composite's rules on a module, which is as it was before when they are gone."""
    with _as_it_was(module), composite.context(module):
        # zennit's list of the layers that got one; other objects need not have it
        if not getattr(composite, "hook_refs", True):
            raise InvalidArgumentError(
                "composite",
                f"rules for at least one layer of {type(module).__name__}",
                "none that applies to any",
            )
        yield


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """
    Put back what a composite leaves behind.

    Canonizers merge batch norm into weights and replace forward methods. One that fails
    half-way is not undone by the composite, and zennit 1.0.0 leaves merged weights
    among the parameters, and other parameters in the place of those it was given.
    """
    parts = [(part, dict(vars(part))) for part in module.modules()]
    tables = [
        (table, dict(table))
        for _, attributes in parts
        for table in attributes.values()
        if isinstance(table, dict)  # parameters, buffers, submodules, hooks
    ]
    tensors = [
        (each, each.data) for each in chain(module.parameters(), module.buffers())
    ]

    def restore() -> None:
        for part, attributes in parts:
            for name in set(vars(part)) - set(attributes):
                del vars(part)[name]
            vars(part).update(attributes)
        for table, content in tables:
            table.clear()
            table.update(content)
        for tensor, data in tensors:
            if tensor.data_ptr() != data.data_ptr():
                tensor.data = data

    with undone(restore):
        yield


def _check_conserved(arrived: Tensor, directions: Tensor, embedding: Tensor) -> None:
    """Warn if what arrived (m,) has little to do with the relevance sent back."""
    directions = directions.to(arrived)
    missing = arrived - directions @ embedding.to(arrived)
    # of all directions together, in proportion to their lengths
    sent = torch.linalg.matrix_norm(directions, 2) * embedding.to(arrived).norm()
    lost = float(missing.norm() / sent.clamp_min(torch.finfo(sent.dtype).tiny))
    if lost > _LOST:
        warn_caller(
            "relevance is not conserved: what arrived differs from what was sent by "
            f"{lost:.2g} times its norm. Layers without a rule (attention, layer norm; "
            "batch norm or a residual sum without a canonizer) are passed by their "
            "gradient; large biases keep relevance too"
        )


def _checked_composite(argument: str, composite: object) -> Any:
    # a class that was not called has the method too, without an object
    if isinstance(composite, type) or not callable(getattr(composite, "context", None)):
        raise InvalidArgumentError(
            argument,
            "rules, as a zennit Composite (an object with .context(module))",
            describe(composite),
        )
    return composite


def _root(argument: str, module: object, forward_func: object) -> nn.Module:
    """The module that rules are applied to."""
    found = forward_func if module is None else module
    if not isinstance(found, nn.Module):
        raise InvalidArgumentError(
            argument,
            "the torch.nn.Module that forward_func runs (by default forward_func)",
            describe(found),
        )
    return found


class FeaturePairBiLRP(PairAttribution):
    r"""
    BiLRP: inner products of :class:`EmbeddingLRP`'s vectors,

    .. math::
        A_{ij} = \sum_k R_i[g_k]\, R_j[h_k]

    (Eberle et al., "Building and Interpreting Deep Similarity Models", IEEE TPAMI 2022,
    https://arxiv.org/abs/2003.05431). They sum to the score as far as the rules
    conserve relevance.

    The side with fewer features takes a reverse pass for every embedding dimension, and
    the other one a pass for each of these features.
    """

    embedding_attribution = EmbeddingLRP

    def __init__(
        self,
        forward_func: Any,
        composite: Any,
        module: Any = None,
        similarity: str = "cosine",
        scale: float = 1.0,
        layer: Any = None,
        channel_dim: Any = None,
    ) -> None:
        r"""
        Args:

            forward_func, similarity, scale, layer: As for
                        :class:`FeaturePairJacobianXInput`; the norms are those at the
                        inputs, and no relevance is sent through them.
            composite (zennit.core.Composite or tuple): The rules, of both encoders or
                        of each.
            module (torch.nn.Module or tuple, optional): As for :class:`EmbeddingLRP`,
                        of both encoders or of each.
            channel_dim (tuple, optional): As for :class:`EmbeddingLRP`, for each side.
        """
        rules = _each("composite", composite)
        modules = _each("module", forward_func if module is None else module)
        first, second = (
            {"composite": rule, "module": root} for rule, root in zip(rules, modules)
        )
        options = first, second
        self._build(forward_func, similarity, scale, layer, channel_dim, options)

    @typing.overload
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        internal_batch_size: Optional[int] = None,
        *,
        return_convergence_delta: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...

    @typing.overload
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: Literal[False] = False,
    ) -> Tensor: ...

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        feature_mask: Any = None,
        additional_forward_args: Any = None,
        internal_batch_size: Optional[int] = None,
        return_convergence_delta: bool = False,
    ) -> Union[Tensor, tuple[Tensor, Tensor]]:
        r"""
        Args:

            inputs (tuple[Tensor, Tensor]): (b, ...) of one batch size.
            feature_mask, additional_forward_args (tuple, optional): One for each side.
            internal_batch_size (int, optional): The most reverse passes run at once.
            return_convergence_delta (bool, optional): Return also the sum of the
                        attributions minus the score. Default: False

        Returns:
            *Tensor* or *tuple*: (b, \*features of x, \*features of y), and with the
            flag the delta (b,).

        Examples::

            >>> from zennit.composites import EpsilonPlus
            >>> net = nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU())
            >>> pairs = FeaturePairBiLRP(net, EpsilonPlus())
            >>> x, y = torch.rand(2, 6), torch.rand(2, 6)
            >>> pairs.attribute((x, y)).shape
            torch.Size([2, 6, 6])
        """
        given = (inputs, None, feature_mask, additional_forward_args)
        sides = self._sides(*given, False)
        asked = {"internal_batch_size": internal_batch_size}
        found = self._pairs(sides, asked, effects=False)
        if flag("return_convergence_delta", return_convergence_delta):
            return found.interactions, found.convergence_delta
        return found.interactions


def _each(argument: str, value: Any) -> tuple[Any, Any]:
    """One for each side; one alone stands for both."""
    if not isinstance(value, (tuple, list)):
        return value, value
    if len(value) != 2:
        raise InvalidArgumentError(
            argument, "one for both sides or a pair", describe(value)
        )
    return value[0], value[1]
