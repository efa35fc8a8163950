"""Every method of ``attr`` keeps the contract, and what breaks it is found."""

from collections.abc import Callable
from typing import Any

import captum_pairs.attr as attr
import pytest
import torch
from captum.attr import Attribution, LayerAttribution
from captum_pairs.testing import BrokenContractError, check_method
from torch import Tensor
from zennit.composites import EpsilonPlus

BASES = {"EmbeddingAttribution", "PairAttribution"}
# Pair methods that are no products of two embedding attributions, tested elsewhere.
OTHERS = {"FeaturePairIntegratedHessians", "FeaturePairInteractionCam"}
# With a layer they are what the others are with one.
LAYERS = {"LayerFeaturePairIntegratedGradients", "LayerIntegratedJacobian"}


def methods() -> list[str]:
    found = []
    for name in attr.__all__:
        each = getattr(attr, name)
        if isinstance(each, type) and issubclass(each, Attribution):
            found.append(name)
    return sorted({*found} - BASES - OTHERS)


def of_rules(method: Any) -> Callable[..., Any]:
    def make(encoders: Any, **options: Any) -> Any:
        one = encoders[0] if isinstance(encoders, tuple) else encoders
        module = encoders if isinstance(encoders, tuple) else one
        return method(encoders, EpsilonPlus(), module=module, **options)

    return make


@pytest.mark.parametrize("name", [n for n in methods() if n not in LAYERS])
def test_every_method_keeps_the_contract(name: str) -> None:
    method = getattr(attr, name)
    if "LRP" in name:  # zennit's rules can't be pickled
        check_method(method, of_rules(method), pickles=False)
    elif "Token" in name:
        # tokens are the positions of a value whose channels are the last ones
        check_method(method, lambda e, **o: method(e, **{"channel_dim": 2, **o}))
    else:
        check_method(method)


@pytest.mark.parametrize(
    "name", ["EmbeddingBanzhaf", "FeaturePairBanzhaf", "FeaturePairLime"]
)
def test_sampled_ones_too(name: str) -> None:
    settings = {"n_samples": 15, "generator": torch.Generator()}
    check_method(getattr(attr, name), settings=settings)


CAPTUMS = {
    # as InputXGradient, Occlusion, ShapleyValues, LRP; Lime says no
    "JacobianXInput": True,
    "EmbeddingOcclusion": True,
    "EmbeddingBanzhaf": True,
    "EmbeddingShapley": True,
    "EmbeddingLRP": True,
    "EmbeddingLime": False,
    "TokenDecomposition": True,
}


@pytest.mark.parametrize("name", sorted(CAPTUMS))
def test_what_captums_counterparts_say(name: str) -> None:
    encoder = torch.nn.Linear(2, 3)
    rules = (EpsilonPlus(),) if "LRP" in name else ()
    made = getattr(attr, name)(encoder, *rules)
    assert made.multiplies_by_inputs is CAPTUMS[name]
    assert made.has_convergence_delta() is (name == "EmbeddingLRP")


# ---- what breaks it ----------------------------------------------------------


class Sound(attr.EmbeddingAttribution[Any]):
    """Keeps the contract: gradient times input's first half."""

    has_baseline = False

    def contributions(self, example: attr.Example, settings: Any) -> Tensor:
        count = example.features.count
        return (
            example.embedding
            * torch.arange(1.0, count + 1).to(example.embedding)[:, None]
        )


def test_a_sound_method_passes() -> None:
    check_method(Sound)


class BatchNormed(Sound):
    """Divides by what it saw last."""

    last = 1.0

    def contributions(self, example: attr.Example, settings: Any) -> Tensor:
        found = super().contributions(example, settings) / type(self).last
        type(self).last = float(example.embedding.norm())
        return found


class Boasting(Sound):
    """Says that it is complete."""

    def has_convergence_delta(self) -> bool:
        return True

    def compute_convergence_delta(self, *args: Any, **kwargs: Any) -> Tensor:
        return torch.zeros(3, 5).double()

    compute_convergence_delta.__wrapped__ = None  # type: ignore[attr-defined]


class Leaving(Sound):
    """Leaves a hook behind."""

    def contributions(self, example: attr.Example, settings: Any) -> Tensor:
        self.forward_func.register_forward_hook(lambda *args: None)
        return super().contributions(example, settings)


class Chancy(Sound):
    """Takes random numbers of the process."""

    def contributions(self, example: attr.Example, settings: Any) -> Tensor:
        torch.rand(1)
        return super().contributions(example, settings)


class Zero(Sound):
    """Finds nothing."""

    def contributions(self, example: attr.Example, settings: Any) -> Tensor:
        return super().contributions(example, settings) * 0


@pytest.mark.parametrize(
    "method, promise",
    [
        (BatchNormed, "a batch is what its examples are alone"),
        (Boasting, "compute_convergence_delta is the sum minus what it should be"),
        (Leaving, "the hooks of the model are as they were"),
        (Chancy, "random numbers are as they were"),
        (Zero, "a result is not zero everywhere"),
        (int, "a method is an EmbeddingAttribution or its pair"),
    ],
)
def test_what_breaks_a_promise_is_found(method: Any, promise: str) -> None:
    with pytest.raises(BrokenContractError, match=promise):
        check_method(method)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layer_methods_are_the_others_at_a_layer(name: str) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh()).double()
    x = torch.randn(2, 4, 2).double()

    def encode(inputs: Tensor) -> Tensor:
        return net(inputs).sum(1)  # type: ignore[no-any-return]

    layered = getattr(attr, name)(encode, net[0])
    plain = getattr(attr, name.removeprefix("Layer"))(encode, layer=net[0])
    inputs: Any = (x, x.flip(0)) if "Pair" in name else x
    assert isinstance(layered, LayerAttribution)
    torch.testing.assert_close(layered.attribute(inputs), plain.attribute(inputs))
