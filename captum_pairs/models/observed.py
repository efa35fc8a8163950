"""What can be found out of any network that takes pixels: its blocks, and how it cuts
an image into patches."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple, Optional

import torch
from captum_pairs.attr import InvalidArgumentError, Place
from captum_pairs.attr._utils.hooks import undone
from captum_pairs.models.modes import evaluating
from torch import nn, Tensor

__all__ = [
    "at_once",
    "find_blocks",
    "ImageParts",
    "MOST_BEFORE",
    "observe_parts",
    "observe_patches",
    "Patches",
]

Size = tuple[int, int]
Shape = tuple[int, ...]

# Where networks keep their blocks, as transformers, timm, open_clip, OpenAI's clip and
# torchvision call it.
_BLOCKS = (
    "encoder.layers",
    "encoder.layer",
    "transformer.resblocks",
    "transformer.layer",
    "blocks",
    "block",
    "stages",
    "trunk_output",
    "layers",
    "layer",
    "features",
)
# Residual networks have each stage as an attribute.
_STAGES = (
    ("layer1", "layer2", "layer3", "layer4"),
    ("stage2", "stage3", "stage4"),
)
_INCEPTIONS = ("inception", "Mixed_")
# How many tokens may stand before those of the patches.
MOST_BEFORE = 16
# A pair's explanation takes, for each place of a map and each point of the path, a
# product with the Jacobian on one side and one with its transpose on the other: so many
# forward passes (measured). Paths through rectifiers have kinks, and take many points.
_PASSES, _POINTS = 2.6, 64
# Multiply-adds that two cores of a CPU do in some twenty seconds.
_SOON = 1e12


class ImageParts(NamedTuple):
    """
    What :class:`TransformedImageEncoder` needs to know of a network.

    Args:
        blocks: in their order.
        grid: rows and columns of patches, or of the last feature map.
        default_block: None for the input; the number of blocks for the output of the
            last one.
        channels_last: whether feature maps are (b, h, w, c).
        work: of a network of feature maps, multiply-adds that the explanation of a pair
            takes at the input of each block, and behind the last one.
        finer: the block that would be the default if that did not take minutes.
    """

    blocks: Sequence[nn.Module]
    grid: Size
    default_block: Optional[int]
    channels_last: bool = False
    work: Sequence[float] = ()
    finer: Optional[int] = None


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks of a network, or of a network inside it; none if there are none that
    are known by their name."""
    for part in module.modules():
        found = _blocks_of(part)
        if found:
            return found
    return []


def _blocks_of(part: nn.Module) -> list[nn.Module]:
    for names in _STAGES:
        stages = [getattr(part, name, None) for name in names]
        sequences = [stage for stage in stages if isinstance(stage, nn.Sequential)]
        if len(sequences) == len(names):
            return [block for stage in sequences for block in stage]
    for path in _BLOCKS:
        try:
            found = attrgetter(path)(part)
        except AttributeError:
            continue
        if isinstance(found, (nn.Sequential, nn.ModuleList)) and len(found) > 0:
            return list(found)
    children = dict(part.named_children())
    if isinstance(part, nn.Sequential):  # such as a network's children without the last
        several = [each for each in part if isinstance(each, nn.Sequential)]
        blocks = [block for stage in several for block in stage]
        if len(several) > 1 and all(any(block.children()) for block in blocks):
            return blocks
    return [each for name, each in children.items() if name.startswith(_INCEPTIONS)]


def observe_parts(
    module: nn.Module,
    embed: Callable[[Tensor], Tensor],
    pixels: Tensor,
    blocks: Optional[Sequence[nn.Module]] = None,
) -> ImageParts:
    """
    The parts of a network, by one forward pass.

    Of a transformer a third of the blocks runs before the default one. Of a network of
    feature maps it is the block that makes the last, coarsest map: at its input are as
    many places as the embedding's own features allow.

    Args:
        module: the network.
        embed: pixels (b, 3, h, w) to embeddings.
        pixels: (1, 3, h, w).
        blocks: of it. Default: those that are known by their name.
    """
    known = find_blocks(module) if blocks is None else blocks
    seen = _observe(known, module, embed, pixels)
    blocks, before = seen.blocks, seen.before
    if not blocks:
        grid = _coarse(pixels)
        return ImageParts((), grid, None, work=[_work(grid, seen.total)])
    last = _is_channels_last(seen.maps, pixels)
    grid = _grid_of(seen, pixels).grid
    if len(seen.final) == 3:
        return ImageParts(blocks, grid, len(blocks) // 3, last)
    grids = [_map_grid(shape, last) for shape in before]
    finer = [at for at, found in enumerate(grids) if found and found > grid]
    default = finer[-1] if finer else len(blocks) // 3
    behind = [_map_grid(shape, last) for shape in seen.after[-1:]]
    done = [*seen.done, seen.done_last]
    work = [_work(g, seen.total - d) for g, d in zip([*grids, *behind], done)]
    return ImageParts(blocks, grid, default, last, work)


def _work(grid: Optional[Size], each: int) -> float:
    """Multiply-adds of a pair's explanation, of those of a forward pass; endless where
    there is no map, or one of a single place."""
    places = 0 if grid is None else grid[0] * grid[1]
    return _PASSES * _POINTS * places * each if places > 1 else math.inf


def at_once(
    parts: ImageParts,
    module: nn.Module,
    embed: Callable[[Tensor], Tensor],
    pixels: Tensor,
) -> ImageParts:
    """
    The same parts, but of a network of feature maps the first default, from its own one
    on, at which two inputs of such a size are explained in less than half a minute.

    Args: as for :func:`observe_parts`.
    """
    default = parts.default_block
    if not parts.work or parts.work[default or 0] <= _SOON:
        return parts
    if default is None:  # no blocks are known: what makes its maps
        convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
        found = observe_parts(module, embed, pixels, convolutions)
        return at_once(found, module, embed, pixels) if found.blocks else parts
    later = range(default, len(parts.work))
    soon = [at for at in later if parts.work[at] <= _SOON]
    chosen = soon[0] if soon else min(later, key=parts.work.__getitem__)
    return parts._replace(default_block=chosen, finer=default)


class Patches(NamedTuple):
    """
    How a network cuts the pixels that it takes.

    Args:
        grid: rows and columns of patches, or of its last feature map.
        size: height and width of a patch in pixels, from the top left corner on; None
            if the patches are those of an even division.
        before: how many tokens come before those of the patches; None if all that are
            no patches do.
    """

    grid: Size
    size: Optional[tuple[float, float]] = None
    before: Optional[int] = None


def observe_patches(
    module: nn.Module,
    embed: Callable[[Tensor], Tensor],
    pixels: Tensor,
    blocks: Sequence[nn.Module],
) -> Patches:
    """
    How a network cuts pixels of a shape, by what it does with them: by a forward pass,
    and for a transformer by another one, in which a patch is changed.

    Args:
        module: what the network is a part of.
        embed: pixels (b, 3, h, w) to embeddings.
        pixels: (1, 3, h, w).
        blocks: of the network.

    Raises:
        InvalidArgumentError: naming ``model``, if tokens can't be told to be patches.
    """
    seen = _observe(blocks, module, embed, pixels)
    if not seen.blocks:
        return Patches(_coarse(pixels))
    found = _grid_of(seen, pixels)
    if found.size is None or len(seen.before[0]) != 3:
        return found
    return found._replace(before=_tokens_before(seen, found, module, embed, pixels))


@dataclass
class _Seen:
    """
    What was seen of a network in one pass.

    Args:
        blocks: those that it reaches once, not first of all.
        before, after: the shapes of what goes into them and comes out.
        cuts: of each convolution until the first block the rows and columns that it
            makes, and the size of what it looks at if it cuts without overlap.
        first: what went into the first block.
        done: multiply-adds of convolutions and linear layers until each block;
        done_last, total: until the last one is through, and in all.
    """

    blocks: list[nn.Module] = field(default_factory=list)
    before: list[Shape] = field(default_factory=list)
    after: list[Shape] = field(default_factory=list)
    cuts: list[tuple[Size, Optional[tuple[float, float]]]] = field(default_factory=list)
    first: Optional[Tensor] = None
    done: list[int] = field(default_factory=list)
    done_last: int = 0
    total: int = 0

    @property
    def final(self) -> Shape:
        """The shape of the last value that is tokens or a map."""
        last = self.after[-1]
        return last if len(last) in (3, 4) else self.before[-1]

    @property
    def maps(self) -> list[Shape]:
        """The shapes of all maps."""
        return [shape for shape in (*self.before, *self.after) if len(shape) == 4]


def _observe(
    blocks: Sequence[nn.Module],
    module: nn.Module,
    embed: Callable[[Tensor], Tensor],
    pixels: Tensor,
) -> _Seen:
    for parameter in module.parameters():
        if parameter.is_floating_point():
            pixels = pixels.to(parameter)
            break
    seen = _Seen()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(evaluating(module))
        visits = [
            [
                stack.enter_context(Place(block, at_input, "layer").visited())
                for at_input in (True, False)
            ]
            for block in blocks
        ]
        stack.enter_context(_cutting(module, blocks, seen))
        done = stack.enter_context(_working(module, blocks, seen))
        embed(pixels)
    for block, (before, after) in zip(blocks, visits):
        if before.value is None or after.value is None or before.count != 1:
            continue
        shape = tuple(before.value.shape)
        # what takes the pixels themselves is no layer but the input
        if len(shape) in (3, 4) and shape != tuple(pixels.shape):
            seen.first = before.value if seen.first is None else seen.first
            seen.blocks.append(block)
            seen.before.append(shape)
            seen.after.append(tuple(after.value.shape))
            seen.done.append(done[block][0])
            seen.done_last = done[block][1]
    return seen


@contextmanager
def _cutting(
    module: nn.Module, blocks: Sequence[nn.Module], seen: _Seen
) -> Iterator[None]:
    """Notes the convolutions that run inside, until a block is reached."""
    owner, inside = threading.get_ident(), [True]

    def arrive(*_: Any) -> None:
        inside[0] = inside[0] and threading.get_ident() != owner

    def note(part: Any, args: Any, output: Any) -> None:
        if not inside[0] or threading.get_ident() != owner or output.ndim != 4:
            return
        plain = part.kernel_size == part.stride and not any(
            [*map(int, part.padding)] if not isinstance(part.padding, str) else [1]
        )
        # of the pixels themselves
        size = part.stride if plain and not seen.cuts else None
        seen.cuts.append((tuple(output.shape[2:]), size))

    handles = [block.register_forward_pre_hook(arrive) for block in blocks]
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            handles.append(part.register_forward_hook(note))

    def remove() -> None:
        for handle in handles:
            handle.remove()

    with undone(remove):
        yield


@contextmanager
def _working(
    module: nn.Module, blocks: Sequence[nn.Module], seen: _Seen
) -> Iterator[dict[nn.Module, list[int]]]:
    """Counts multiply-adds; how many were done when each block began, and ended."""
    owner = threading.get_ident()
    done: dict[nn.Module, list[int]] = {block: [] for block in blocks}

    def note(block: nn.Module, *_: Any) -> None:
        done[block].append(seen.total)

    def work(part: Any, args: Any, output: Any) -> None:
        if threading.get_ident() == owner and isinstance(output, Tensor):
            seen.total += output.numel() * part.weight[0].numel()

    handles = [
        part.register_forward_hook(work)
        for part in module.modules()
        if isinstance(part, (nn.Conv2d, nn.Linear))
    ]
    handles += [block.register_forward_pre_hook(note) for block in blocks]
    handles += [block.register_forward_hook(note) for block in blocks]
    try:
        yield done
    finally:
        for handle in handles:
            handle.remove()


def _grid_of(seen: _Seen, pixels: Tensor) -> Patches:
    """Of tokens as the convolutions before them cut; of maps that of the last one."""
    if len(seen.final) == 4:
        last = _is_channels_last(seen.maps, pixels)
        return Patches(_map_grid(seen.final, last) or (1, 1))
    first = next((shape for shape in seen.before if len(shape) == 3), seen.final)
    count = first[1] if first[0] == 1 else first[0]
    for grid, size in reversed(seen.cuts):
        if 0 <= count - grid[0] * grid[1] <= MOST_BEFORE:
            return Patches(grid, size)
    return Patches(_token_grid(first, *pixels.shape[-2:]))


def _tokens_before(
    seen: _Seen,
    patches: Patches,
    module: nn.Module,
    embed: Callable[[Tensor], Tensor],
    pixels: Tensor,
) -> Optional[int]:
    """How many tokens come before the patches': where a changed patch is seen; None if
    it is seen nowhere."""
    (rows, columns), (height, width) = patches.grid, patches.size or (0.0, 0.0)
    changed = pixels.clone()
    # the last one of the first row tells rows from columns
    left = int((columns - 1) * width)
    changed[..., : int(height), left : left + int(width)] += 1.0
    other = _observe(seen.blocks[:1], module, embed, changed).first
    assert seen.first is not None and other is not None  # there is a block
    axis = 1 if seen.first.shape[0] == 1 else 0
    moved = (seen.first - other).float().abs().sum(2).select(1 - axis, 0)
    if not bool(moved.max() > 0):
        return None
    before = int(moved.argmax()) - (columns - 1)
    if not 0 <= before <= len(moved) - rows * columns:
        raise InvalidArgumentError(
            "model",
            f"an image encoder whose tokens are its {rows} x {columns} patches, row by "
            "row",
            f"one in which the last patch of the first row is token "
            f"{int(moved.argmax())} of {len(moved)}",
        )
    return before


def _is_channels_last(maps: Sequence[Shape], pixels: Tensor) -> bool:
    """Whether feature maps have the proportions of the image in their dimensions 1 and
    2 rather than in 2 and 3."""

    height, width = pixels.shape[-2:]

    def fits(rows: int, columns: int) -> bool:
        return abs(rows * width - columns * height) < max(height, width)

    last = sum(fits(*shape[1:3]) for shape in maps)
    return last > sum(fits(*shape[2:4]) for shape in maps)


def _map_grid(shape: Shape, channels_last: bool) -> Optional[Size]:
    if len(shape) != 4:
        return None
    return (shape[1], shape[2]) if channels_last else (shape[2], shape[3])


def _token_grid(shape: Shape, height: int, width: int) -> Size:
    """Rows and columns of the patches of (1, tokens, d) or (tokens, 1, d)."""
    count = shape[1] if shape[0] == 1 else shape[0]
    for before in range(min(MOST_BEFORE, count - 1) + 1):
        patches = count - before
        rows = max(1, round((patches * height / width) ** 0.5))
        columns = patches // rows
        if rows * columns == patches and rows * width == columns * height:
            return rows, columns
    raise InvalidArgumentError(
        "model",
        f"a transformer whose tokens are patches of {height} x {width} pixels, with at "
        f"most {MOST_BEFORE} tokens before them",
        f"{count} tokens",
    )


def _coarse(pixels: Tensor) -> Size:
    """Rows and columns that pixels are summed into where no layer says: of some 32
    pixels, as in most networks' last map."""
    height, width = pixels.shape[-2:]
    return max(1, round(height / 32)), max(1, round(width / 32))
