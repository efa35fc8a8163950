"""What can be found out of any network that takes pixels."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from operator import attrgetter
from typing import NamedTuple, Optional

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.attr._utils.hooks import Place
from captum_pairs.models.modes import evaluating
from torch import nn, Tensor

__all__ = ["find_blocks", "ImageParts", "observe_parts"]

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
_MOST_BEFORE = 16


class ImageParts(NamedTuple):
    """
    What :class:`TransformedImageEncoder` needs to know of a network.

    Args:
        blocks: in their order.
        grid: rows and columns of patches, or of the last feature map.
        default_block: None for the input.
        channels_last: whether feature maps are (b, h, w, c).
    """

    blocks: Sequence[nn.Module]
    grid: Size
    default_block: Optional[int]
    channels_last: bool = False


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
    return [
        child for name, child in part.named_children() if name.startswith(_INCEPTIONS)
    ]


def observe_parts(
    module: nn.Module, embed: Callable[[Tensor], Tensor], pixels: Tensor
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
    """
    blocks, before, after = _observe(find_blocks(module), module, embed, pixels)
    height, width = pixels.shape[-2:]
    if not blocks:
        return ImageParts((), _coarse(height, width), None)
    maps = [shape for shape in (*before, *after) if len(shape) == 4]
    last = _is_channels_last(maps, height, width)
    final = after[-1] if len(after[-1]) in (3, 4) else before[-1]
    if len(final) == 3:
        grid = _token_grid(final, height, width)
        return ImageParts(blocks, grid, len(blocks) // 3, last)
    grids = [_map_grid(shape, last) for shape in before]
    grid = _map_grid(final, last) or (1, 1)
    finer = [at for at, found in enumerate(grids) if found and found > grid]
    default = finer[-1] if finer else len(blocks) // 3
    return ImageParts(blocks, grid, default, last)


def _observe(
    blocks: Sequence[nn.Module],
    module: nn.Module,
    embed: Callable[[Tensor], Tensor],
    pixels: Tensor,
) -> tuple[list[nn.Module], list[Shape], list[Shape]]:
    """The blocks that one pass reaches once, not first of all, with the shapes of what
    goes in and comes out."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            pixels = pixels.to(parameter)
            break
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
        embed(pixels)
    found: tuple[list[nn.Module], list[Shape], list[Shape]] = ([], [], [])
    for block, (before, after) in zip(blocks, visits):
        if before.value is None or after.value is None or before.count != 1:
            continue
        shape = tuple(before.value.shape)
        # what takes the pixels themselves is no layer but the input
        if len(shape) in (3, 4) and shape != tuple(pixels.shape):
            found[0].append(block)
            found[1].append(shape)
            found[2].append(tuple(after.value.shape))
    return found


def _is_channels_last(maps: Sequence[Shape], height: int, width: int) -> bool:
    """Whether feature maps have the proportions of the image in their dimensions 1 and
    2 rather than in 2 and 3."""

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
    for before in range(min(_MOST_BEFORE, count - 1) + 1):
        patches = count - before
        rows = max(1, round((patches * height / width) ** 0.5))
        columns = patches // rows
        if rows * columns == patches and rows * width == columns * height:
            return rows, columns
    raise InvalidArgumentError(
        "backbone",
        f"a transformer whose tokens are patches of {height} x {width} pixels, with at "
        f"most {_MOST_BEFORE} tokens before them",
        f"{count} tokens",
    )


def _coarse(height: int, width: int) -> Size:
    """Rows and columns that pixels are summed into where no layer says: of some 32
    pixels, as in most networks' last map."""
    return max(1, round(height / 32)), max(1, round(width / 32))
