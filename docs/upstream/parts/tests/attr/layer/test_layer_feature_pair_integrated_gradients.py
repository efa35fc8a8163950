#!/usr/bin/env python3

# pyre-unsafe

import torch
from captum.attr import (
    FeaturePairIntegratedGradients,
    LayerFeaturePairIntegratedGradients,
    LayerIntegratedJacobian,
)
from captum.testing.helpers.basic import assertTensorAlmostEqual, BaseTest
from torch import nn


class Test(BaseTest):
    def setUp(self) -> None:
        super().setUp()
        self.images = nn.Sequential(nn.Conv2d(2, 3, 2, 2), nn.Tanh(), nn.Flatten())
        self.images.append(nn.Linear(12, 6)).double()
        self.texts = nn.Sequential(nn.Embedding(20, 4), nn.Tanh(), nn.Flatten())
        self.texts.append(nn.Linear(20, 6)).double()
        self.inputs = torch.randn(2, 2, 4, 4).double(), torch.randint(20, (2, 5))
        self.encoders = self.images, self.texts

    def test_products_of_contributions(self) -> None:
        layers = self.images[0], self.texts[0]
        pairs = LayerFeaturePairIntegratedGradients(self.encoders, layers)
        attributions = pairs.attribute(self.inputs, (0.5, 1), n_steps=8)
        self.assertEqual(attributions.shape, (2, 2, 2, 5))
        contributions = [
            LayerIntegratedJacobian(encoder, layer, normalize=True).attribute(
                value, baseline, n_steps=8
            )
            for encoder, layer, value, baseline in zip(
                self.encoders, layers, self.inputs, (0.5, 1)
            )
        ]
        expected = torch.einsum("bhwk,btk->bhwt", *contributions)
        assertTensorAlmostEqual(self, attributions, expected, 1e-10)

    def test_completeness(self) -> None:
        layers = self.images[1], self.texts[0]
        pairs = LayerFeaturePairIntegratedGradients(self.encoders, layers, scale=10.0)
        attributions, delta = pairs.attribute(
            self.inputs, (0.5, 1), n_steps=40, return_convergence_delta=True
        )
        (x, y), score = self.inputs, pairs.forward_func
        x_start, y_start = torch.full_like(x, 0.5), torch.full_like(y, 1)
        expected = score(x, y) - score(x_start, y) - score(x, y_start)
        expected = (expected + score(x_start, y_start)).detach()
        assertTensorAlmostEqual(self, attributions.flatten(1).sum(1), expected, 1e-6)
        assertTensorAlmostEqual(self, delta, torch.zeros(2).double(), 1e-6)
        again = pairs.compute_convergence_delta(attributions, (0.5, 1), self.inputs)
        assertTensorAlmostEqual(self, again, delta, 1e-10)

    def test_input_on_one_side(self) -> None:
        x = self.inputs[0]
        mask = torch.arange(32).reshape(1, 2, 4, 4)
        whole = nn.Sequential(nn.Identity(), self.images)
        scalars = FeaturePairIntegratedGradients(self.images).attribute((x, x.flip(0)))
        for layers in ((whole[0], None), (None, whole[0])):
            masks = tuple(None if layer is None else mask for layer in layers)
            attributions = LayerFeaturePairIntegratedGradients(whole, layers).attribute(
                (x, x.flip(0)), feature_mask=masks
            )
            # the side of the layer has one axis of features
            shape = [32, 2, 4, 4] if layers[0] is not None else [2, 4, 4, 32]
            expected = scalars.reshape(2, *shape)
            assertTensorAlmostEqual(self, attributions, expected, 1e-10)

    def test_one_layer_for_both(self) -> None:
        ids = self.inputs[1]
        pairs = LayerFeaturePairIntegratedGradients(self.texts, self.texts[0])
        attributions = pairs.attribute((ids, ids))
        self.assertEqual(attributions.shape, (2, 5, 5))
        assertTensorAlmostEqual(self, attributions.transpose(1, 2), attributions, 1e-10)

    def test_layer_input(self) -> None:
        before = LayerFeaturePairIntegratedGradients(
            self.encoders, (self.images[0], self.texts[0])
        ).attribute(self.inputs)
        after = LayerFeaturePairIntegratedGradients(
            self.encoders, (self.images[1], self.texts[1])
        ).attribute(self.inputs, attribute_to_layer_input=True)
        assertTensorAlmostEqual(self, after, before, 1e-10)

    def test_bad_layers(self) -> None:
        for layer in (None, (None, None), (self.images[0],), "layer"):
            with self.assertRaisesRegex(ValueError, "layer: expected"):
                LayerFeaturePairIntegratedGradients(self.encoders, layer)
