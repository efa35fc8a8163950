#!/usr/bin/env python3

# pyre-unsafe

from typing import Any, Optional

import torch
from captum.attr import IntegratedGradients, IntegratedJacobian
from captum.testing.helpers.basic import assertTensorAlmostEqual, BaseTest
from captum.testing.helpers.basic_models import BasicModel_ConvNet_One_Conv
from torch import nn, Tensor


class Attention(nn.Module):
    """(b, tokens, 4), and which tokens are read (b, tokens), to embeddings (b, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.head = nn.Linear(4, 4), nn.Linear(4, 6)

    def forward(
        self, x: Tensor, is_read: Optional[Tensor] = None, scale: float = 1.0
    ) -> Tensor:
        x = torch.tanh(self.mix(x))
        allowed = None if is_read is None else is_read[:, None]
        x = x + nn.functional.scaled_dot_product_attention(x, x, x, allowed)
        return scale * self.head(x.mean(dim=1))


class SineWithoutGraph(torch.autograd.Function):
    """Its backward pass can be run, and not be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * x.cos()


def mlp(features: int, hidden: int, width: int) -> nn.Module:
    layers = nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, width)
    return nn.Sequential(*layers).double()


class Test(BaseTest):
    def test_linear(self) -> None:
        encoder = nn.Linear(3, 2)
        x, baseline = torch.randn(4, 3), torch.randn(1, 3)
        contributions, delta = IntegratedJacobian(encoder).attribute(
            x, baseline, n_steps=2, return_convergence_delta=True
        )
        # c_i = (x - r)_i times column i of the weight
        expected = (x - baseline).unsqueeze(-1) * encoder.weight.T
        assertTensorAlmostEqual(self, contributions, expected.detach(), 1e-5)
        assertTensorAlmostEqual(self, delta, torch.zeros(4, 2), 1e-5)

    def test_square(self) -> None:
        def encoder(x: Tensor) -> Tensor:
            return x**2

        x = torch.tensor([[1.0, 2.0, -3.0]], dtype=torch.float64)
        contributions = IntegratedJacobian(encoder).attribute(x, 1.0, n_steps=3)
        expected = torch.diag(torch.tensor([0.0, 3.0, 8.0], dtype=torch.float64))
        assertTensorAlmostEqual(self, contributions, expected[None], 1e-12)

    def test_as_integrated_gradients_with_fewer_features_than_dimensions(self) -> None:
        self._assert_as_integrated_gradients(mlp(3, 5, 7), torch.randn(4, 3).double())

    def test_as_integrated_gradients_with_more_features_than_dimensions(self) -> None:
        self._assert_as_integrated_gradients(mlp(7, 5, 3), torch.randn(4, 7).double())

    def test_as_integrated_gradients_in_chunks(self) -> None:
        self._assert_as_integrated_gradients(
            mlp(3, 5, 7), torch.randn(4, 3).double(), internal_batch_size=9
        )

    def test_as_integrated_gradients_by_riemann_sums(self) -> None:
        for method in ("riemann_left", "riemann_middle", "riemann_trapezoid"):
            self._assert_as_integrated_gradients(
                mlp(3, 5, 7), torch.randn(2, 3).double(), method=method
            )

    def test_as_integrated_gradients_without_multiplier(self) -> None:
        self._assert_as_integrated_gradients(
            mlp(3, 5, 7), torch.randn(4, 3).double(), multiply_by_inputs=False
        )

    def test_as_integrated_gradients_of_relu_network(self) -> None:
        encoder = BasicModel_ConvNet_One_Conv().double()
        x = 50 * torch.rand(2, 1, 4, 4, dtype=torch.float64)
        self.assertGreater(float(encoder(x).detach().min()), 1.0)
        self._assert_as_integrated_gradients(encoder, x)

    def test_as_integrated_gradients_with_attention(self) -> None:
        x = torch.randn(2, 5, 4).double()
        is_read = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
        mask = torch.arange(5).reshape(1, 5, 1)
        for feature_mask in (None, mask):
            self._assert_as_integrated_gradients(
                Attention().double(),
                x,
                baselines=0.5,
                additional_forward_args=(is_read, 2.0),
                feature_mask=feature_mask,
            )

    def test_masks_of_examples(self) -> None:
        mask = torch.tensor([[0, 0, 1], [2, 1, 0]])
        x = torch.randn(2, 3).double()
        self._assert_as_integrated_gradients(mlp(3, 5, 7), x, feature_mask=mask)

    def _assert_as_integrated_gradients(
        self,
        encoder: nn.Module,
        x: Tensor,
        multiply_by_inputs: bool = True,
        feature_mask: Optional[Tensor] = None,
        **kwargs: Any,
    ) -> None:
        """Each dimension of the contributions, against a target of its own."""
        jacobian = IntegratedJacobian(encoder, multiply_by_inputs=multiply_by_inputs)
        contributions = jacobian.attribute(
            x, feature_mask=feature_mask, n_steps=6, **kwargs
        )
        ig = IntegratedGradients(encoder, multiply_by_inputs)
        for dimension in range(contributions.shape[-1]):
            expected = ig.attribute(x, target=dimension, n_steps=6, **kwargs)
            if feature_mask is not None:
                expected = torch.stack(
                    [
                        expected.where(feature_mask == each, torch.zeros(1).double())
                        .flatten(1)
                        .sum(dim=1)
                        for each in range(int(feature_mask.max()) + 1)
                    ],
                    dim=1,
                )
            assertTensorAlmostEqual(
                self, contributions[..., dimension], expected, 1e-5, "max"
            )

    def test_normalized_embeddings_are_complete(self) -> None:
        encoder, x = mlp(3, 5, 7), torch.randn(4, 3).double()
        contributions, delta = IntegratedJacobian(encoder, normalize=True).attribute(
            x, -0.5, n_steps=40, return_convergence_delta=True
        )
        ends = nn.functional.normalize(encoder(x), dim=1)
        starts = nn.functional.normalize(encoder(torch.full_like(x, -0.5)), dim=1)
        total = contributions.sum(dim=1)
        assertTensorAlmostEqual(self, total, (ends - starts).detach(), 1e-8)
        assertTensorAlmostEqual(self, delta, torch.zeros(4, 7).double(), 1e-8)

    def test_compute_convergence_delta(self) -> None:
        encoder, x = mlp(3, 5, 7), torch.randn(4, 3).double()
        jacobian = IntegratedJacobian(encoder)
        contributions, delta = jacobian.attribute(
            x, 0.3, n_steps=2, return_convergence_delta=True
        )
        again = jacobian.compute_convergence_delta(contributions, 0.3, x)
        assertTensorAlmostEqual(self, again, delta.detach(), 1e-12)
        self.assertGreater(float(delta.abs().max()), 1e-6)

    def test_backward_pass_that_can_not_be_differentiated(self) -> None:
        def encoder(x: Tensor) -> Tensor:
            return SineWithoutGraph.apply(x)

        x = torch.randn(2, 3).double()
        contributions = IntegratedJacobian(encoder).attribute(x, n_steps=10)
        expected = torch.diag_embed(x.sin())
        assertTensorAlmostEqual(self, contributions, expected, 1e-10)

    def test_nothing_is_changed(self) -> None:
        encoder, x = mlp(3, 5, 7), torch.randn(2, 3).double()
        parameters = [each.detach().clone() for each in encoder.parameters()]
        contributions = IntegratedJacobian(encoder).attribute(x)
        self.assertFalse(contributions.requires_grad)
        self.assertFalse(x.requires_grad)
        for each, before in zip(encoder.parameters(), parameters):
            self.assertIsNone(each.grad)
            assertTensorAlmostEqual(self, each.detach(), before, 0.0)

    def test_half_precision(self) -> None:
        encoder = mlp(3, 5, 7).bfloat16()
        x = torch.randn(2, 3).bfloat16()
        contributions = IntegratedJacobian(encoder).attribute(x, n_steps=10)
        self.assertEqual(contributions.dtype, torch.bfloat16)
        exact = IntegratedJacobian(encoder.double()).attribute(x.double(), n_steps=10)
        assertTensorAlmostEqual(self, contributions.double(), exact, 0.05, "max")

    def test_no_target_of_delta_without_multiplier(self) -> None:
        jacobian = IntegratedJacobian(mlp(3, 5, 7), multiply_by_inputs=False)
        self.assertFalse(jacobian.has_convergence_delta())
        with self.assertRaisesRegex(ValueError, "return_convergence_delta"):
            jacobian.attribute(torch.ones(1, 3).double(), return_convergence_delta=True)

    def test_bad_arguments(self) -> None:
        x = torch.ones(2, 3).double()
        for encoder, given, message in (
            (mlp(3, 5, 7), {"inputs": x.long()}, "inputs: expected a floating tensor"),
            (mlp(3, 5, 7), {"inputs": x, "feature_mask": x}, "a tensor of integers"),
            (
                lambda x: x.sum(dim=1),
                {"inputs": x},
                "forward_func: expected an encoder",
            ),
            (lambda x: x.detach(), {"inputs": x}, "can be differentiated"),
            (lambda x: x.round(), {"inputs": x}, "derivatives on the path"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                IntegratedJacobian(encoder).attribute(**given)
        with self.assertRaisesRegex(ValueError, "norm zero for baselines"):
            IntegratedJacobian(lambda x: x.sin(), normalize=True).attribute(x)
        with self.assertRaises(AssertionError):
            IntegratedJacobian(mlp(3, 5, 7)).attribute(x, method="simpson")
