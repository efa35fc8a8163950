"""Image backbones as Siamese encoders: two images, one network, the cosine of their
embeddings."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union

from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.checkpoints import read_state_dict
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.errors import loading, ModelUnavailableError, reason_of
from captum_pairs.models.observed import at_once, ImageParts, observe_parts
from captum_pairs.models.outputs import embeddings_of
from captum_pairs.models.paths import file
from captum_pairs.models.transformed import (
    centre_view,
    measured_colors,
    shortest_edge,
    TransformedImageEncoder,
)
from captum_pairs.models.view import View
from PIL import Image
from torch import nn, Tensor
from torchvision import models, transforms

__all__ = ["adopt_backbone", "load_torchvision", "siamese", "Transform"]

# A function from an image to (3, h, w), or a size with mean and std.
Transform = Union[Callable[[Any], Tensor], tuple[Any, Any, Any]]

# The transform, what it does to a size (width, height) if it says so, its mean and std.
Understood = tuple[
    Callable[[Image.Image], Tensor],
    Optional[Callable[[tuple[int, int]], View]],
    tuple[float, ...],
    tuple[float, ...],
]

# ImageNet's: what is cut out, and what the shorter side is made before.
_CROP, _RESIZE = 224, 256
# Classifiers that are there for training only.
_AUXILIARY = ("aux", "Aux")


def siamese(
    backbone: nn.Module,
    transform: Optional[Transform] = None,
    *,
    name: str = "siamese",
) -> EncoderPair:
    """
    A trained backbone as an encoder of pairs of images.

    Its blocks are found by the names that torchvision, timm, transformers, open_clip
    and OpenAI's clip use, in it or in a part of it; ``layer`` may be any module
    besides.

    Args:
        backbone: maps pixels (b, 3, h, w) to embeddings (b, k). It is used as it is, in
            its mode and on its device, and runs once here, on a black image.
        transform: a torchvision preset, as a weights' ``transforms()`` gives it; or
            ``(size, mean, std)``, where a whole number is the size to which the shorter
            side is resized before the square at the centre is cut out, and a pair
            (height, width) is resized to; or any other function from a PIL image to
            (3, h, w), of which is measured what it does. Default: ImageNet's, 256 and
            224.
        name: in words.

    Raises:
        InvalidArgumentError: naming ``backbone`` or ``transform``.

    >>> pair = siamese(my_network, (224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    >>> pair.explain("this.jpg", "that.jpg")
    """
    if not isinstance(backbone, nn.Module):
        raise InvalidArgumentError(
            "backbone", "a module", validation.describe(backbone)
        )
    process, view, mean, std = _understood(transform)
    black = process(Image.new("RGB", (64, 64)))[None].float()
    try:
        parts = _parts(backbone, black)
    except InvalidArgumentError:
        raise
    except Exception as error:  # whatever a network raises that takes something else
        raise InvalidArgumentError(
            "backbone",
            f"a module that takes pixels {tuple(black.shape)}, as the transform makes",
            f"{type(backbone).__name__}: {reason_of(error)}",
        ) from error
    images = TransformedImageEncoder(
        backbone, partial(_embed, backbone), process, view, mean, std, parts
    )
    return EncoderPair(name, images, images)


def adopt_backbone(backbone: nn.Module, processor: Any, name: str) -> EncoderPair:
    """
    An image backbone that is in memory, as a Siamese encoder of what it returns: of a
    classifier its logits, unless its last layer was taken off.

    Args:
        backbone: as :func:`siamese` takes it.
        processor: its transform.
        name: what it is called.

    Raises:
        InvalidArgumentError: naming ``processor``, ``backbone`` or ``transform``.
    """
    if processor is None:
        raise InvalidArgumentError(
            "processor",
            "the backbone's transform: a weights' transforms(), or (size, mean, std)",
            "None",
        )
    return siamese(backbone, processor, name=name)


def _embed(backbone: nn.Module, pixels: Tensor) -> Tensor:
    return embeddings_of(backbone(pixels), "backbone")


def _parts(backbone: nn.Module, black: Tensor) -> ImageParts:
    if isinstance(backbone, models.VisionTransformer):
        blocks = list(backbone.encoder.layers)
        side = backbone.image_size // backbone.patch_size
        return ImageParts(blocks, (side, side), len(blocks) // 3)
    embed = partial(_embed, backbone)
    parts = observe_parts(backbone, embed, black)
    return at_once(parts, backbone, embed, black)


# ---- transforms --------------------------------------------------------------


def _understood(
    transform: Optional[Transform],
) -> Understood:
    preset: Any = _preset(_CROP) if transform is None else transform
    if isinstance(preset, tuple):
        return _from_parts(preset)
    try:
        resize, crop = list(preset.resize_size), list(preset.crop_size)
        mean, std = _color(preset.mean), _color(preset.std)
    except (AttributeError, TypeError, ValueError):
        return _measured(preset)
    return preset, partial(_view, resize, crop), mean, std


def _measured(transform: Any) -> Understood:
    """Any function that makes (3, h, w) of an image: what it does to its place is
    measured, and its mean and deviation on black and on white."""
    try:
        found = measured_colors(transform)
    except Exception as error:  # what is no transform raises anything
        raise InvalidArgumentError(
            "transform",
            "torchvision's preset for image classification (a weights' transforms()), "
            "(size, mean, std), or a function from an image to a tensor (3, h, w)",
            f"{validation.describe(transform)} ({reason_of(error)})",
        ) from error
    return transform, None, *found


def _from_parts(settings: tuple[Any, ...]) -> Understood:
    try:
        size, mean, std = settings
        resize = [int(side) for side in (size if _is_pair(size) else [size])]
        mean, std = _color(mean), _color(std)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            "transform",
            "(size, mean, std) with one size or (height, width), and three numbers "
            "each",
            validation.describe(settings),
        ) from error
    steps: list[Any] = [transforms.Resize(resize, antialias=True)]
    if len(resize) == 1:
        steps.append(transforms.CenterCrop(resize[0]))
    steps += [transforms.ToTensor(), transforms.Normalize(mean, std)]
    return transforms.Compose(steps), partial(_view, resize, resize), mean, std


def _is_pair(size: Any) -> bool:
    return isinstance(size, (tuple, list)) and len(size) == 2


def _color(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3:
        raise ValueError(f"{len(numbers)} channels")
    return numbers


def _view(resize: list[int], crop: list[int], size: tuple[int, int]) -> View:
    """What a resize of the shorter side, or to (height, width), and a crop do."""
    resized = (
        shortest_edge(size, resize[0]) if len(resize) == 1 else (resize[1], resize[0])
    )
    return centre_view(size, resized, (crop[-1], crop[0]))


def _preset(crop: int) -> Any:
    """ImageNet's usual preprocessing for a model that takes crops of this size."""
    resize = round(crop * _RESIZE / _CROP)
    usual = models.ResNet18_Weights.IMAGENET1K_V1.transforms
    return usual(crop_size=crop, resize_size=resize)


# ---- torchvision's classifiers -----------------------------------------------


def load_torchvision(name: str, rest: str) -> EncoderPair:
    """
    A classifier of torchvision as a Siamese encoder: its embedding is what goes into
    its last classifier, of which only the shape of the weights is looked at.

    Args:
        name: what was asked for.
        rest: ``ARCHITECTURE``, with its default weights; ``ARCHITECTURE/WEIGHTS`` with
            a name of torchvision's; or ``ARCHITECTURE/FILE`` with a state dict of the
            architecture, of any number of classes, whose images are preprocessed as
            ImageNet's usually are.

    Raises:
        ModelUnavailableError: see :func:`captum_pairs.models.load`.
    """
    architecture, _, wanted = rest.partition("/")
    if architecture not in models.list_models(module=models):
        raise ModelUnavailableError(
            "model",
            "torchvision:ARCHITECTURE with one of "
            "torchvision.models.list_models(torchvision.models)",
            name,
        )
    weights = models.get_model_weights(architecture)
    path = file(wanted)
    known = [*weights.__members__]
    if wanted and wanted not in known and path is None:
        raise ModelUnavailableError(
            "model",
            f"torchvision:{architecture}/WEIGHTS with a file or one of "
            f"{', '.join(known)}",
            name,
        )
    with loading(name):
        if path is not None:
            backbone, transform = _from_file(architecture, path)
        else:
            backbone, transform = _from_weights(
                architecture, weights[wanted or "DEFAULT"]
            )
    return siamese(backbone.eval(), transform, name=name)


def _from_weights(architecture: str, weights: Any) -> tuple[nn.Module, Any]:
    """The backbone of torchvision's weights, and their transform."""
    backbone = models.get_model(architecture, weights=weights)
    _behead(backbone)
    return backbone, weights.transforms()


def _from_file(architecture: str, path: Path) -> tuple[nn.Module, Any]:
    """The backbone of a state dict, and ImageNet's usual transform."""
    # those that would draw their weights say that this takes a while
    slow = architecture in ("googlenet", "inception_v3")
    settings = {"init_weights": False} if slow else {}
    backbone = models.get_model(architecture, weights=None, **settings)
    head = _behead(backbone)
    state = read_state_dict(path)
    own = {key: v for key, v in state.items() if not key.startswith(f"{head}.")}
    backbone.load_state_dict(own)
    side = getattr(backbone, "image_size", None)
    if side is None:
        default = models.get_model_weights(architecture)["DEFAULT"]
        side = default.transforms().crop_size[0]
    return backbone, _preset(int(side))


def _behead(backbone: nn.Module) -> str:
    """Take off the last classifier, which is the last layer with weights; its name."""
    names: list[str] = [
        name
        for name, part in backbone.named_modules()
        if isinstance(part, (nn.Linear, nn.Conv2d)) and not name.startswith(_AUXILIARY)
    ]
    name = names[-1]
    backbone.set_submodule(name, nn.Identity())
    return name
