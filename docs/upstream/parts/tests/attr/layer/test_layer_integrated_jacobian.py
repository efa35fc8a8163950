#!/usr/bin/env python3

# pyre-unsafe

from typing import Any, Optional, Tuple

import torch
from captum.attr import (
    IntegratedJacobian,
    LayerIntegratedGradients,
    LayerIntegratedJacobian,
)
from captum.testing.helpers.basic import assertTensorAlmostEqual, BaseTest
from torch import nn, Tensor


class TextEncoder(nn.Module):
    """Token ids (b, tokens), and which are read (b, tokens), to embeddings (b, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 4)
        self.mix, self.head = nn.Linear(4, 4), nn.Linear(4, 6)

    def forward(self, ids: Tensor, is_read: Optional[Tensor] = None) -> Tensor:
        x = torch.tanh(self.mix(self.embedding(ids)))
        allowed = None if is_read is None else is_read[:, None]
        x = x + nn.functional.scaled_dot_product_attention(x, x, x, allowed)
        return self.head(x.mean(dim=1))


class TwoTensors(nn.Module):
    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return x, 2 * x


class Sum(nn.Module):
    def forward(self, parts: Tuple[Tensor, Tensor]) -> Tensor:
        return parts[0] + parts[1]


class Test(BaseTest):
    def setUp(self) -> None:
        super().setUp()
        self.texts = TextEncoder().double()
        self.ids = torch.randint(1, 20, (3, 5))
        self.images = nn.Sequential(nn.Conv2d(2, 3, 2, 2), nn.Tanh(), nn.Flatten())
        self.images.append(nn.Linear(12, 5)).double()
        self.pixels = torch.randn(3, 2, 4, 4).double()

    def test_tokens(self) -> None:
        encoder = self.texts
        for layer in (encoder.embedding, encoder.mix):
            self._assert_as_layer_integrated_gradients(encoder, layer, self.ids, -1)

    def test_arguments_and_baselines(self) -> None:
        is_read = torch.ones(3, 5).bool()
        is_read[1, 2:] = False
        self._assert_as_layer_integrated_gradients(
            self.texts,
            self.texts.embedding,
            self.ids,
            -1,
            baselines=torch.randint(1, 20, (1, 5)),
            additional_forward_args=is_read,
            internal_batch_size=7,
        )

    def test_feature_map(self) -> None:
        self._assert_as_layer_integrated_gradients(
            self.images, self.images[0], self.pixels, 1, baselines=0.5
        )

    def test_neurons(self) -> None:
        self._assert_as_layer_integrated_gradients(
            self.images, self.images[2], self.pixels, None
        )

    def test_layer_input(self) -> None:
        self._assert_as_layer_integrated_gradients(
            self.images, self.images[1], self.pixels, 1, attribute_to_layer_input=True
        )

    def _assert_as_layer_integrated_gradients(
        self,
        encoder: nn.Module,
        layer: nn.Module,
        inputs: Tensor,
        channel_dim: Optional[int],
        **kwargs: Any,
    ) -> None:
        """Each dimension of the contributions, against a target of its own."""
        jacobian = LayerIntegratedJacobian(encoder, layer)
        contributions = jacobian.attribute(inputs, n_steps=6, **kwargs)
        lig = LayerIntegratedGradients(encoder, layer)
        for dimension in range(contributions.shape[-1]):
            expected = lig.attribute(inputs, target=dimension, n_steps=6, **kwargs)
            if channel_dim is not None:
                expected = expected.sum(dim=channel_dim)
            assertTensorAlmostEqual(
                self, contributions[..., dimension], expected, 1e-6, "max"
            )

    def test_first_layer_that_changes_nothing(self) -> None:
        encoder = nn.Sequential(nn.Identity(), self.images)
        mask = torch.arange(32).reshape(1, 2, 4, 4)
        contributions = LayerIntegratedJacobian(encoder, encoder[0]).attribute(
            self.pixels, feature_mask=mask
        )
        expected = IntegratedJacobian(self.images).attribute(self.pixels)
        assertTensorAlmostEqual(self, contributions, expected.flatten(1, 3), 1e-10)

    def test_feature_mask(self) -> None:
        jacobian = LayerIntegratedJacobian(self.texts, self.texts.embedding)
        tokens = jacobian.attribute(self.ids)
        words = torch.tensor([[0, 0, 1, 2, 2], [1, 0, 0, 0, 0], [2, 2, 2, 2, 2]])
        contributions = jacobian.attribute(self.ids, feature_mask=words[..., None])
        for row in range(3):
            members = nn.functional.one_hot(words[row], 3).double()
            expected = members.T @ tokens[row]
            assertTensorAlmostEqual(self, contributions[row], expected, 1e-10)

    def test_completeness(self) -> None:
        jacobian = LayerIntegratedJacobian(
            self.texts, self.texts.embedding, normalize=True
        )
        contributions, delta = jacobian.attribute(
            self.ids, n_steps=40, return_convergence_delta=True
        )
        embeddings = [
            nn.functional.normalize(self.texts(ids), dim=1).detach()
            for ids in (self.ids, torch.zeros_like(self.ids))
        ]
        expected = embeddings[0] - embeddings[1]
        assertTensorAlmostEqual(self, contributions.sum(dim=1), expected, 1e-7)
        assertTensorAlmostEqual(self, delta, torch.zeros(3, 6).double(), 1e-7)
        again = jacobian.compute_convergence_delta(contributions, None, self.ids)
        assertTensorAlmostEqual(self, again, delta, 1e-10)

    def test_data_parallel_without_devices(self) -> None:
        if torch.cuda.is_available():
            self.skipTest("test_data_parallel.py has it with devices")
        parallel = nn.DataParallel(self.images)
        contributions = LayerIntegratedJacobian(parallel, self.images[0]).attribute(
            self.pixels
        )
        expected = LayerIntegratedJacobian(self.images, self.images[0]).attribute(
            self.pixels
        )
        assertTensorAlmostEqual(self, contributions, expected, 0.0)

    def test_bad_layers(self) -> None:
        mix = nn.Linear(3, 3)
        twice = nn.Sequential(mix, nn.Tanh(), mix)
        with self.assertRaisesRegex(ValueError, "reached once in a forward pass"):
            LayerIntegratedJacobian(twice, mix).attribute(torch.randn(2, 3))
        self.assertEqual(len(mix._forward_hooks), 0)
        with self.assertRaisesRegex(AssertionError, "did not obtain any outputs"):
            LayerIntegratedJacobian(self.images, nn.Tanh()).attribute(self.pixels)
        encoder = nn.Sequential(TwoTensors(), Sum())
        with self.assertRaisesRegex(ValueError, "one floating tensor of 3 example"):
            LayerIntegratedJacobian(encoder, encoder[0]).attribute(torch.randn(3, 2))
