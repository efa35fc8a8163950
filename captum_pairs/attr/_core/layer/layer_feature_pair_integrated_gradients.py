#!/usr/bin/env python3

from typing import Any, Optional

from captum.attr import LayerAttribution
from captum_pairs.attr._core.feature_pair_integrated_gradients import (
    FeaturePairIntegratedGradients,
)
from captum_pairs.attr._core.pair_attribution import layer_pair
from captum_pairs.attr._utils.validation import describe, InvalidArgumentError


class LayerFeaturePairIntegratedGradients(
    LayerAttribution, FeaturePairIntegratedGradients
):
    r"""
    :class:`FeaturePairIntegratedGradients` at a layer of each encoder: pairs of
    positions (tokens, patches, places in a feature map).

    Baselines belong to the encoders' *inputs* and are propagated to the layers; see
    :class:`LayerIntegratedJacobian`.

    Examples::

        >>> images = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Tanh(), nn.Flatten(),
        ...                        nn.Linear(32, 3))
        >>> texts = nn.Sequential(nn.Embedding(9, 5), nn.Tanh(), nn.Flatten(),
        ...                       nn.Linear(20, 3))
        >>> fpig = LayerFeaturePairIntegratedGradients(
        ...     (images, texts), (images[0], texts[0])
        ... )
        >>> pixels, ids = torch.randn(2, 3, 8, 8), torch.randint(9, (2, 4))
        >>> fpig.attribute((pixels, ids), n_steps=16).shape
        torch.Size([2, 2, 2, 4])
    """

    layer: tuple[Any, Any]

    def __init__(
        self,
        forward_func: Any,
        layer: Any,
        similarity: str = "cosine",
        scale: float = 1.0,
        multiply_by_inputs: bool = True,
        direction: Optional[str] = None,
        channel_dim: Any = None,
    ) -> None:
        r"""
        Args:

            forward_func, similarity, scale, multiply_by_inputs, direction, channel_dim:
                        As for :class:`FeaturePairIntegratedGradients`.
            layer (tuple or torch.nn.Module): (layer_first, layer_second), each a
                        module that its encoder reaches once in a forward pass, or None
                        to attribute to that side's input. One module stands for both.
        """
        if layer is None:
            raise InvalidArgumentError(
                "layer", "a module or a pair (first, second)", describe(layer)
            )
        LayerAttribution.__init__(self, forward_func, layer_pair(layer))
        FeaturePairIntegratedGradients.__init__(
            self,
            forward_func,
            similarity,
            scale,
            multiply_by_inputs,
            direction,
            layer,
            channel_dim,
        )
