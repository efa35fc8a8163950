#!/usr/bin/env python3
"""
One example of one side: its value at the attributed tensor, its embedding, and the
encoder from there; with a baseline, the straight line between the two.

Shapes as in :mod:`captum_pairs.attr._utils.forward_pass`.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Optional

import torch
from captum_pairs.attr._utils.features import (
    default_channel,
    Features,
    mask_row,
    masked_features,
    position_features,
    scalar_features,
    validate_mask,
)
from captum_pairs.attr._utils.forward_pass import Call, ForwardPass
from captum_pairs.attr._utils.hooks import Place, Session
from captum_pairs.attr._utils.placement import scan_nodes, SCANS
from captum_pairs.attr._utils.validation import describe, InvalidArgumentError
from torch import Tensor

# From how many passes and products of a point on, for each module that maps rows, it
# pays to look for rows that do not count, by five passes, and two more once it is known
# where: a block has ten such modules, and most of the last one's work may be saved.
_WORTH = 2
# Of the rows that a point's modules map, up to which a path is scanned while it is
# settled.
_LIGHT_BYTES = 2**20


@dataclass(frozen=True)
class Side(Call):
    """
    The validated arguments of one side, whose model is an encoder.

    Args:

        normalize (bool): Whether embeddings are divided by their norms.
        mask (Tensor, optional): (1 or b, ...) feature ids.
        channel_dim (int, optional): The channels' dimension in a layer's value.
        differentiable (bool): Whether the method needs the encoder's derivatives.
        scanned (bool): Whether its paths are going to be scanned.
    """

    normalize: bool
    mask: Optional[Tensor]
    channel_dim: Optional[int]
    differentiable: bool
    scanned: bool

    @property
    def place(self) -> Optional[Place]:
        """The layer, or None for the input."""
        return self.places[0]

    @property
    def in_words(self) -> str:
        """Of a pair whose side it is, to be put after a noun."""
        name = self.names[0]
        return f" of {name}" if name != "inputs" else ""

    def name(self, role: str) -> str:
        """What an example or its baseline is called in an error."""
        return self.names[0].replace("inputs", role)

    def checked(self, output: object, n: int, row: int) -> Tensor:
        """The encoder's output if it is n finite embeddings (n, k)."""
        if (
            not isinstance(output, Tensor)
            or output.ndim != 2
            or output.shape[0] != n
            or not output.is_floating_point()
        ):
            raise InvalidArgumentError(
                "forward_func",
                f"an encoder that maps {n} example(s) of {self.name('inputs')} to a "
                f"floating tensor (b, k) = ({n}, k)",
                describe(output),
            )
        if not bool(torch.isfinite(output).all()):
            raise InvalidArgumentError(
                "forward_func",
                "finite embeddings",
                f"NaN or infinity on the path to {self.name('inputs')}",
            )
        return output

    def independent(self, place: int) -> InvalidArgumentError:
        return InvalidArgumentError(
            "forward_func",
            f"an encoder that can be differentiated with respect to "
            f"{self.where(place)}",
            "an embedding that does not depend on it, or not through autograd (a "
            "quantised layer, torch.no_grad or detach inside the encoder)",
        )

    def batch_dependent(self) -> InvalidArgumentError:
        return InvalidArgumentError(
            "forward_func",
            "an encoder whose embedding of an example does not depend on the rest of "
            "its batch",
            f"one that embeds {self.name('inputs')} differently alone and in a batch",
        )


class Positions(NamedTuple):
    """
    A value's positions.

    Args:

        rows (Tensor): Their channels, (T, d).
        axes (tuple of int): Those that the T positions lie in.
        channel (int): The channels' axis in the value.
    """

    rows: Tensor
    axes: tuple[int, ...]
    channel: int


class Example(ForwardPass):
    r"""
    One example of a batch, and the encoder from the attributed tensor on.

    Attributes:

        value (Tensor): At the attributed tensor (the input, or a layer's value),
                    (\*value), in the dtype in which results are accumulated.
        embedding (Tensor): g(x), (k,), normalised if the side says so.
        features (Features): The partition of the value into G features.
        side (Side): The batch's arguments, of which ``row`` is this example's.
    """

    def __init__(self, side: Side, row: int, session: Session) -> None:
        super().__init__(side, row, session)
        self.side = side
        plain, value = self.output[0], self.values[0]
        self.dtype = torch.promote_types(
            torch.promote_types(value.dtype, plain.dtype), torch.float32
        )
        self.value: Tensor = value.to(self.dtype)
        self.embedding: Tensor = self._end(plain, "inputs")
        # the outputs at points that are known, if they were seen
        self._plain_ends: Optional[Tensor] = None

    # ---- what it is --------------------------------------------------------

    @property
    def baseline_embedding(self) -> Tensor:
        """Zeros (k,): without a baseline contributions are shares of the embedding."""
        return torch.zeros_like(self.embedding)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the attributed tensor, the batch of one included where it lies."""
        return self.shape_of(self.value, 0)

    @cached_property
    def features(self) -> Features:
        """The partition of the value into G features."""
        side, shape = self.side, tuple(self.value.shape)
        if side.mask is not None:
            name = side.name("feature_mask")
            ids = mask_row(
                name, side.mask, shape, self.axes[0], self.row, len(side)
            ).to(self.value.device)
            return masked_features(name, ids, int(side.mask.max()) + 1, shape)
        if side.place is None:
            return scalar_features(shape, self.value.device)
        return position_features(shape, self.channel_axis, self.value.device)

    def masked(self, mask: object) -> "Example":
        """The same example with other features: ids of the attributed tensor's
        dimensions, batch included (see ``feature_mask``)."""
        result = copy.copy(self)
        checked = validate_mask(self.side.name("feature_mask"), mask)
        result.side = replace(self.side, mask=checked)
        result.__dict__.pop("features", None)
        return result

    @property
    def channel_axis(self) -> Optional[int]:
        """The channels' axis in the value, if ``channel_dim`` says which it is."""
        dim, ndim = self.side.channel_dim, self.value.ndim + 1
        if dim is None:
            return None
        if not -ndim <= dim < ndim or dim % ndim == self.axes[0]:
            raise InvalidArgumentError(
                "channel_dim",
                f"a dimension of the layer's {ndim}, not the batch's",
                str(dim),
            )
        dim %= ndim
        return dim - 1 if dim > self.axes[0] else dim

    def positions(self) -> "Positions":
        """
        The value as rows of channels.

        Raises:
            InvalidArgumentError: if it has no positions.
        """
        value, channel = self.value, self.channel_axis
        if value.ndim < 2:
            raise InvalidArgumentError(
                self.side.where(0),
                "a value with positions, (b, tokens, d) or (b, c, h, w)",
                f"one of shape (b, {', '.join(map(str, value.shape))})",
            )
        if channel is None:
            channel = default_channel(value.ndim)
        moved = value.movedim(channel, -1)
        rows = moved.reshape(-1, moved.shape[-1])
        return Positions(rows, tuple(moved.shape[:-1]), channel)

    def points(self, nodes: Tensor) -> Tensor:
        """Where a method runs the encoder, (n, *value): without a path, at the value
        itself, however many ``nodes`` (n,) there are."""
        return self.value.expand(len(nodes), *self.value.shape)

    # ---- running -----------------------------------------------------------

    @contextmanager
    def run(
        self,
        values: Tensor,
        twice: bool = False,
        normalize: Optional[bool] = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """
        A leaf with these values (n, *value) and its embeddings (n, k), with the graph
        between them, which is used inside the context.

        Args:

            values (Tensor): At the attributed tensor.
            twice (bool): Whether the graph is differentiated twice.
            normalize (bool, optional): Default: as the side says.
        """
        self._prepare_for(len(values))
        leaf = values.detach().to(self.values[0].dtype).requires_grad_()
        with self.forward((leaf,), grad=True, twice=twice) as embeddings:
            if self._point_bytes is None:  # a single point, that nothing came before
                self.check_depends(embeddings, leaf, 0)
            elif not embeddings.requires_grad:
                raise self.side.independent(0)
            yield leaf, self._as_asked(embeddings, normalize)

    def embed(
        self,
        values: Tensor,
        internal_batch_size: Optional[int] = None,
        normalize: Optional[bool] = None,
    ) -> Tensor:
        """Embeddings (n, k) of values (n, *value), without a graph."""
        self._prepare_for(len(values))
        results = []
        for chunk in torch.split(values, internal_batch_size or max(1, len(values))):
            with self.forward((chunk.detach(),), grad=False) as embeddings:
                results.append(self._as_asked(embeddings, normalize))
        return torch.cat(results)

    def gradient(
        self, outputs: Tensor, leaf: Tensor, cotangent: Tensor, create_graph: bool
    ) -> Tensor:
        """One vector-Jacobian product: (n, k) -> (n, *value)."""
        with torch.autocast(leaf.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(
                outputs,
                leaf,
                cotangent,
                retain_graph=True,
                create_graph=create_graph,
                allow_unused=True,
            )
        if gradient is None:
            raise self.side.independent(0)
        return gradient

    def chunk_size(self, requested: Optional[int], graphs: float) -> int:
        """How many points to run at once when autograd keeps ``graphs`` graphs."""
        if requested is not None:
            return requested
        self._prepare_for(2)
        return self.fitting(graphs)

    def leave_rows_out(self, work: int) -> None:
        """Before so many passes and products of a point: find out, once, which rows
        need not run in them, if that does not cost more than it saves."""
        is_open = self._rows.kept is None and bool(self._mappers)
        if is_open and work >= _WORTH * len(self._mappers):
            self._prepare_for(2)
            ends = self._ends().to(self.values[0].dtype)
            self.find_rows((ends,), len(ends) - 1, self._plain_ends)

    def _ends(self) -> Tensor:
        """Points that are known, the value last: (n, *value)."""
        return self.value[None]

    def _prepare_for(self, n: int) -> None:
        """Settle how several points are run, before the first time."""
        if n > 1 and self._is_expanded is None:
            twice = self._leaf(torch.stack([self.value, self.value]))
            self._plain_ends = self.settle((twice,), 1)[:1]

    def _leaf(self, values: Tensor) -> Tensor:
        """Values (n, *value) as they go in, of which derivatives may be needed."""
        values = values.to(self.values[0].dtype)
        return values.requires_grad_(self.side.differentiable)

    def _as_asked(self, embeddings: Tensor, normalize: Optional[bool]) -> Tensor:
        embeddings = embeddings.to(self.dtype)
        if self.side.normalize if normalize is None else normalize:
            return normalized(embeddings)
        return embeddings

    def _end(self, embedding: Tensor, role: str) -> Tensor:
        """An end's embedding (k,), as it is asked for, if it has a direction."""
        embedding = embedding.to(self.dtype)
        if not self.side.normalize:
            return embedding
        check_norm(embedding, self.side.name(role))
        return normalized(embedding)


class BaselinePath(Example):
    r"""
    An example and its baseline: the straight line :math:`r + \alpha (x - r)` at the
    attributed tensor.

    Attributes:

        start (Tensor): The baseline's value, (\*value).
        scans (dict): Embeddings (p, k) at as many points of the path as it was scanned
                    at, by their number p.
        baseline_embedding (Tensor): :math:`g(r_x)`, (k,): x's forward pass (its mask,
                    its pooling) with the value replaced by the baseline's.
    """

    def __init__(self, side: Side, row: int, session: Session) -> None:
        super().__init__(side, row, session)
        self.start: Tensor = self.baseline_values()[0].to(self.dtype)
        self.scans: dict[int, Any] = {}
        nodes = self._scanned_first()
        points = torch.cat([self._ends(), self.points(nodes)])
        outputs = self.settle((self._leaf(points),), 1)
        self._plain_ends = ends = outputs[:2]
        self._baseline_embedding = self._end(ends[0], "baselines")
        # of the same pass, so that the two ends' rounding is the same
        self.embedding = self._end(ends[1], "inputs")
        if len(nodes):
            self._keep_scan(self._as_asked(outputs[2:], None))

    def _scanned_first(self) -> Tensor:
        """The nodes (n,) of a scan in the pass that settles how points are run: of
        small models, whose passes cost about as much for two points as for nine."""
        count = SCANS[1] if self.side.scanned and self._is_light else 2
        nodes = scan_nodes(count)[1:-1]
        return torch.tensor(nodes, dtype=self.dtype, device=self.value.device)

    @property
    def _is_light(self) -> bool:
        """Whether points behind the layer take little, by what modules there map; where
        none is known to map rows, nothing is known."""
        rows = self.value.numel() * self.value.element_size()
        return 0 < rows * len(self._mappers) <= _LIGHT_BYTES

    def _keep_scan(self, embeddings: Tensor) -> None:
        """Embeddings (n, k) between the ends, of this scan and all coarser ones."""
        start, end = self._baseline_embedding[None], self.embedding[None]
        curve = torch.cat([start, embeddings, end]).double().cpu().numpy()
        for count in SCANS[:2]:
            self.scans[count] = curve[:: (len(curve) - 1) // (count - 1)]

    @property
    def baseline_embedding(self) -> Tensor:
        return self._baseline_embedding

    def _ends(self) -> Tensor:
        return torch.stack([self.start, self.value])

    @property
    def difference(self) -> Tensor:
        """x - r at the attributed tensor, (*value)."""
        return self.value - self.start

    def points(self, nodes: Tensor) -> Tensor:
        """The path's points at ``nodes`` (n,), as (n, *value)."""
        nodes = nodes.reshape(-1, *[1] * self.value.ndim)
        return self.start + nodes * self.difference


_OTHER_BASELINE = (
    " (another one, such as small random values or a blurred input, or "
    'similarity="dot", which needs no direction)'
)


def check_norm(embedding: Tensor, name: str) -> None:
    """Refuse an embedding that has no cosine."""
    if not bool(torch.linalg.vector_norm(embedding) > 0):
        raise InvalidArgumentError(
            "forward_func",
            "embeddings that the cosine is defined for",
            f"an embedding of norm zero for {name}"
            + (_OTHER_BASELINE if "baselines" in name else ""),
        )


def normalized(embeddings: Tensor) -> Tensor:
    """Embeddings (..., k) divided by their norms."""
    norms: Tensor = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True)
    return embeddings / norms
