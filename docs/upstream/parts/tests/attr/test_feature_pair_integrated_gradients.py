#!/usr/bin/env python3

# pyre-unsafe

from typing import Any, Tuple

import torch
from captum.attr import FeaturePairIntegratedGradients, IntegratedJacobian, NoiseTunnel
from captum.attr._utils.approximation_methods import approximation_parameters
from captum.testing.helpers.basic import assertTensorAlmostEqual, BaseTest
from torch import nn, Tensor


def mlp(features: int, hidden: int, width: int) -> nn.Module:
    layers = nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, width)
    return nn.Sequential(*layers).double()


def dense(
    score: Any, ends: Tuple[Tensor, Tensor], starts: Tuple[Tensor, Tensor], n_steps: int
) -> Tensor:
    """The mixed second derivative at n_steps x n_steps points, by full Hessians."""
    step_sizes, alphas = (
        each(n_steps) for each in approximation_parameters("gausslegendre")
    )
    (x, y), (x_start, y_start) = ends, starts
    total = torch.zeros(len(x), len(y), dtype=x.dtype)
    for weight_x, alpha_x in zip(step_sizes, alphas):
        for weight_y, alpha_y in zip(step_sizes, alphas):
            points = (
                x_start + alpha_x * (x - x_start),
                y_start + alpha_y * (y - y_start),
            )
            hessian = torch.autograd.functional.hessian(
                lambda x, y: score(x[None], y[None])[0], points
            )
            total += weight_x * weight_y * hessian[0][1]
    return total * torch.outer(x - x_start, y - y_start)


class Test(BaseTest):
    def setUp(self) -> None:
        super().setUp()
        self.encoders = mlp(3, 6, 5), mlp(4, 6, 5)
        self.inputs = torch.randn(2, 3).double(), torch.randn(2, 4).double()

    def test_linear(self) -> None:
        first, second = nn.Linear(3, 5).double(), nn.Linear(4, 5).double()
        x, y = self.inputs
        pairs = FeaturePairIntegratedGradients((first, second), "dot", scale=2.0)
        attributions, delta = pairs.attribute(
            (x, y), n_steps=2, return_convergence_delta=True
        )
        products = first.weight.T @ second.weight
        expected = 2.0 * x[:, :, None] * y[:, None, :] * products
        assertTensorAlmostEqual(self, attributions, expected.detach(), 1e-10)
        assertTensorAlmostEqual(self, delta, torch.zeros(2).double(), 1e-10)

    def test_against_dense_hessian(self) -> None:
        for similarity in ("dot", "cosine"):
            pairs = FeaturePairIntegratedGradients(self.encoders, similarity)
            attributions = pairs.attribute(self.inputs, (0.5, -0.5), n_steps=5)
            for row in range(2):
                ends = self.inputs[0][row], self.inputs[1][row]
                starts = torch.full_like(ends[0], 0.5), torch.full_like(ends[1], -0.5)
                expected = dense(pairs.forward_func, ends, starts, 5)
                assertTensorAlmostEqual(self, attributions[row], expected, 1e-10)

    def test_completeness(self) -> None:
        pairs = FeaturePairIntegratedGradients(self.encoders, scale=10.0)
        attributions, delta = pairs.attribute(
            self.inputs, (0.5, -0.5), n_steps=40, return_convergence_delta=True
        )
        x, y = self.inputs
        x_start, y_start = torch.full_like(x, 0.5), torch.full_like(y, -0.5)
        score = pairs.forward_func
        expected = score(x, y) - score(x_start, y) - score(x, y_start)
        expected = (expected + score(x_start, y_start)).detach()
        assertTensorAlmostEqual(self, attributions.sum(dim=(1, 2)), expected, 1e-7)
        assertTensorAlmostEqual(self, delta, torch.zeros(2).double(), 1e-7)
        again = pairs.compute_convergence_delta(attributions, (0.5, -0.5), self.inputs)
        assertTensorAlmostEqual(self, again, delta, 1e-12)

    def test_frozen_cosine(self) -> None:
        frozen = FeaturePairIntegratedGradients(self.encoders, "frozen_cosine")
        dot = FeaturePairIntegratedGradients(self.encoders, "dot")
        norms = [
            encoder(value).norm(dim=1).detach()
            for encoder, value in zip(self.encoders, self.inputs)
        ]
        expected = dot.attribute(self.inputs) / (norms[0] * norms[1])[:, None, None]
        assertTensorAlmostEqual(self, frozen.attribute(self.inputs), expected, 1e-10)

    def test_corpus_of_contributions(self) -> None:
        """Contributions of three and of two inputs hold all six pairs."""
        x, y = torch.randn(3, 3).double(), self.inputs[1]
        first = IntegratedJacobian(self.encoders[0], True).attribute(x, 0.5, n_steps=8)
        second = IntegratedJacobian(self.encoders[1], True).attribute(y, 0.5, n_steps=8)
        table = torch.einsum("mik,njk->mnij", first, second)
        pairs = FeaturePairIntegratedGradients(self.encoders)
        for m in range(3):
            for n in range(2):
                inputs = x[m : m + 1], y[n : n + 1]
                expected = pairs.attribute(inputs, (0.5, 0.5), n_steps=8)
                assertTensorAlmostEqual(self, table[m, n], expected[0], 1e-10)

    def test_sides_can_be_swapped(self) -> None:
        for widths in ((3, 4), (9, 4), (9, 8)):
            encoders = tuple(mlp(width, 6, 5) for width in widths)
            inputs = tuple(torch.randn(2, width).double() for width in widths)
            attributions = FeaturePairIntegratedGradients(encoders).attribute(inputs)
            swapped = FeaturePairIntegratedGradients(encoders[::-1]).attribute(
                inputs[::-1]
            )
            self.assertEqual(attributions.shape, (2, *widths))
            assertTensorAlmostEqual(self, swapped.transpose(1, 2), attributions, 1e-10)

    def test_one_encoder_for_both(self) -> None:
        x = self.inputs[0]
        attributions = FeaturePairIntegratedGradients(self.encoders[0]).attribute(
            (x, x)
        )
        assertTensorAlmostEqual(self, attributions.transpose(1, 2), attributions, 1e-10)

    def test_feature_masks(self) -> None:
        pairs = FeaturePairIntegratedGradients(self.encoders)
        scalars = pairs.attribute(self.inputs)
        masks = torch.tensor([[0, 1, 0]]), torch.tensor([[1, 1, 2, 0], [0, 0, 0, 1]])
        attributions = pairs.attribute(self.inputs, feature_mask=masks)
        self.assertEqual(attributions.shape, (2, 2, 3))
        for row in range(2):
            members = [
                nn.functional.one_hot(mask[row % len(mask)], count).double()
                for mask, count in zip(masks, (2, 3))
            ]
            expected = members[0].T @ scalars[row] @ members[1]
            assertTensorAlmostEqual(self, attributions[row], expected, 1e-10)

    def test_shapes_of_inputs(self) -> None:
        images = nn.Sequential(nn.Conv2d(2, 3, 2, 2), nn.Tanh(), nn.Flatten())
        images.append(nn.Linear(12, 5)).double()
        x = torch.randn(2, 2, 4, 4).double()
        pairs = FeaturePairIntegratedGradients((images, self.encoders[1]))
        attributions = pairs.attribute((x, self.inputs[1]), n_steps=4)
        self.assertEqual(attributions.shape, (2, 2, 4, 4, 4))
        self.assertEqual(attributions.dtype, torch.float64)
        patches = torch.arange(4).reshape(1, 1, 1, 4) // 2
        summed = pairs.attribute(
            (x, self.inputs[1]), feature_mask=(patches, None), n_steps=4
        )
        expected = attributions.reshape(2, 2, 4, 2, 2, 4).sum(dim=(1, 2, 4))
        assertTensorAlmostEqual(self, summed, expected, 1e-10)

    def test_internal_batches_and_arguments(self) -> None:
        def shifted(x: Tensor, shift: Tensor, factor: float) -> Tensor:
            return factor * self.encoders[0](x + shift)

        shift = torch.randn(2, 3).double()
        pairs = FeaturePairIntegratedGradients((shifted, self.encoders[1]))
        args = ((shift, 2.0), None)
        whole = pairs.attribute(self.inputs, additional_forward_args=args, n_steps=10)
        for size in (2, 5, 100):
            parts = pairs.attribute(
                self.inputs,
                additional_forward_args=args,
                n_steps=10,
                internal_batch_size=size,
            )
            assertTensorAlmostEqual(self, parts, whole, 1e-10)
        for row in range(2):
            one = pairs.attribute(
                tuple(value[row : row + 1] for value in self.inputs),
                additional_forward_args=((shift[row : row + 1], 2.0), None),
                n_steps=10,
            )
            assertTensorAlmostEqual(self, one[0], whole[row], 1e-10)

    def test_without_multiplier(self) -> None:
        local = FeaturePairIntegratedGradients(self.encoders, multiply_by_inputs=False)
        attributions = local.attribute(self.inputs)
        factors = self.inputs[0][:, :, None] * self.inputs[1][:, None, :]
        expected = FeaturePairIntegratedGradients(self.encoders).attribute(self.inputs)
        assertTensorAlmostEqual(self, attributions * factors, expected, 1e-10)
        self.assertFalse(local.has_convergence_delta())
        with self.assertRaisesRegex(ValueError, "return_convergence_delta"):
            local.attribute(self.inputs, return_convergence_delta=True)

    def test_noise_tunnel(self) -> None:
        pairs = FeaturePairIntegratedGradients(self.encoders)
        expected = pairs.attribute(self.inputs, n_steps=8)
        smooth = NoiseTunnel(pairs).attribute(
            self.inputs, nt_type="smoothgrad", nt_samples=3, stdevs=0.0, n_steps=8
        )
        assertTensorAlmostEqual(self, smooth, expected, 1e-10)

    def test_bad_arguments(self) -> None:
        x, y = self.inputs
        pairs = FeaturePairIntegratedGradients(self.encoders)
        for given, message in (
            ({"inputs": x}, "inputs: expected a pair"),
            ({"inputs": (x, y[:1])}, "inputs: expected two batches of the same size"),
            ({"inputs": (x, y.long())}, r"inputs\[1\]: expected a floating tensor"),
            ({"inputs": (x, y), "feature_mask": (None, y)}, r"feature_mask\[1\]"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                pairs.attribute(**given)
        with self.assertRaisesRegex(ValueError, "two encoders of the same width k"):
            FeaturePairIntegratedGradients((mlp(3, 2, 2), self.encoders[1])).attribute(
                self.inputs
            )
        with self.assertRaisesRegex(ValueError, "similarity: expected one of"):
            FeaturePairIntegratedGradients(self.encoders, "euclidean")
        with self.assertRaisesRegex(ValueError, "forward_func: expected an encoder"):
            FeaturePairIntegratedGradients((self.encoders[0],))
