"""What bad input gets: one error class that says what was expected and what came."""

import ast
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import captum_pairs
import numpy as np
import pytest
import torch
from captum_pairs.attr import (
    FeaturePairIntegratedGradients,
    IntegratedJacobian,
    InvalidArgumentError,
    LayerFeaturePairIntegratedGradients,
    LayerIntegratedJacobian,
    pair,
)
from torch import nn

# What every tensor here holds: no message may show it.
SECRET, SECRET_ID = 7.53159, 753159
X, Y = torch.full((2, 3), SECRET).double(), torch.full((2, 2), SECRET).double()
IDS = torch.full((2, 3), SECRET_ID)
NAN = float("nan")


def linear(d, k=4):
    return nn.Linear(d, k).double()


def error_of(call, argument, *parts):
    """Checks the error of a call without an assert, so that it holds under -O."""
    with pytest.raises(InvalidArgumentError) as raised:
        call()
    message = str(raised.value)
    wanted = [f"{argument}: expected ", ", got ", *parts]
    missing = [part for part in wanted if part not in message]
    if missing or not message.startswith(argument) or re.search("5315|e-0", message):
        pytest.fail(f"{message!r} should have {missing} and no values")
    if not isinstance(raised.value, ValueError) or raised.value.argument != argument:
        pytest.fail(f"{raised.value!r} is about {argument}")


def refused(argument, parts, calls=("attribute", "decompose"), **options):
    """Whether every entry refuses ``options``, constructor's and call's together."""
    own = {"similarity", "scale", "multiply_by_inputs", "direction", "forward_func"}
    given = {key: options.pop(key) for key in own & set(options)}
    given = {"forward_func": (linear(3), linear(2)), **given}
    options = {"inputs": (X, Y), "n_steps": 2, **options}
    for call in calls:

        def run():
            fpig = FeaturePairIntegratedGradients(**given)
            return getattr(fpig, call)(**options)

        error_of(run, argument, *parts)


def cases(argument, *rows):
    """Parameters (argument, value, parts of the message)."""
    return [
        pytest.param(argument, value, parts, id=f"{argument}-{at}")
        for at, (value, *parts) in enumerate(rows)
    ]


PAIR, TENSOR = "a pair (first, second)", "a tensor"
SHAPE = "torch.float64 tensor of shape "
FLOATING = "a floating tensor"
WHOLE, ABOVE = "a whole number of at least 1", "a number above 0"


@pytest.mark.parametrize(
    "argument, value, parts",
    [
        *cases(
            "inputs",
            (X, PAIR, SHAPE + "(2, 3)"),
            ((X, Y, Y), PAIR, "a tuple of 3"),
            ((X,), PAIR, "a tuple of 1"),
            (None, PAIR, "None"),
            (X.numpy(), PAIR, "type ndarray"),
            ({"x": X, "y": Y}, PAIR, "type dict"),
            ((X[:1], Y), "two batches of the same size", "batches of 1 and 2"),
        ),
        *cases(
            "baselines",
            (X, PAIR, SHAPE + "(2, 3)"),
            (0.0, PAIR, "0.0"),
            ((None,), PAIR, "a tuple of 1"),
        ),
        *cases("feature_mask", (IDS, PAIR, "(2, 3)"), ((None,) * 3, PAIR, "of 3")),
        *cases("additional_forward_args", (X, PAIR, "(2, 3)"), (3, PAIR, "3")),
        *cases(
            "n_steps",
            (0, WHOLE, "got 0"),
            (-4, WHOLE, "got -4"),
            (8.0, WHOLE, "got 8.0"),
            (True, WHOLE, "got True"),
            ("8", WHOLE, "got '8'"),
            (None, WHOLE, "got None"),
            (NAN, WHOLE, "got nan"),
        ),
        *cases(
            "tolerance",
            (0, ABOVE, "got 0"),
            (-1.0, ABOVE, "got -1.0"),
            (NAN, "a finite number", "got nan"),
            (float("inf"), "a finite number", "got inf"),
            (True, "a number", "got True"),
            ("small", "a number", "got 'small'"),
            (X, "a number", "(2, 3)"),
        ),
        *cases(
            "internal_batch_size",
            (0, WHOLE, "got 0"),
            (-1, WHOLE, "got -1"),
            (2.0, WHOLE, "got 2.0"),
            (True, WHOLE, "got True"),
            ("2", WHOLE, "got '2'"),
            (NAN, WHOLE, "got nan"),
        ),
        *cases(
            "method",
            ("simpson", "one of 'gausslegendre', 'riemann_right'", "'simpson'"),
            (3, "one of 'gausslegendre'", "3"),
            (["gausslegendre"], "one of 'gausslegendre'", "a list of 1"),
        ),
        *cases(
            "similarity",
            ("euclidean", "one of 'cosine', 'dot', 'frozen_cosine'", "'euclidean'"),
            (None, "one of 'cosine'", "None"),
            (len, "one of 'cosine'", "builtin_function"),
        ),
        *cases(
            "direction",
            ("sideways", "one of None, 'forward', 'reverse'", "'sideways'"),
            (1, "one of None, 'forward', 'reverse'", "1"),
        ),
        *cases(
            "scale",
            (NAN, "a finite number", "nan"),
            (torch.tensor(NAN), "a finite number", "tensor of shape ()"),
            ("large", "a number", "'large'"),
            (True, "a number", "True"),
            (None, "a number", "None"),
            (X, "a number", "(2, 3)"),
        ),
        *cases(
            "forward_func",
            (None, "an encoder that can be called, or a pair", "None"),
            (3, "an encoder that can be called", "3"),
            ((linear(3),), "a pair (encode_first, encode_second)", "a tuple of 1"),
            ((linear(3),) * 3, "a pair", "a tuple of 3"),
            ((linear(3), None), "a pair", "None"),
            ((linear(3), linear(2, 5)), "same width k", "of width 4 and 5"),
        ),
    ],
)
def test_invalid_argument(argument, value, parts):
    refused(argument, parts, **{argument: value})


def test_invalid_trapezoid_of_one_node():
    refused("n_steps", ["at least 2", "1"], n_steps=1, method="riemann_trapezoid")


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    "argument, value, parts",
    [
        *cases(
            "inputs",
            (None, TENSOR, "None"),
            (np.full((2, 3), SECRET), TENSOR, "type ndarray"),
            ([[SECRET] * 3] * 2, TENSOR, "a list of 2"),
            (X[:0], "at least one example", SHAPE + "(0, 3)"),
            (X[:, :0], "at least one example", SHAPE + "(2, 0)"),
            (X[0, 0], "at least one example", SHAPE + "()"),
            (IDS, FLOATING, "a torch.int64 tensor of shape (2, 3)", "to a layer"),
            (X > 0, FLOATING, "a torch.bool tensor"),
            (X.to(torch.complex128), FLOATING, "a torch.complex128 tensor"),
        ),
        *cases(
            "baselines",
            (X[:1, :1], "(2, 3), or of batch 1", SHAPE + "(1, 1)"),
            (X[0], "(2, 3), or of batch 1", SHAPE + "(3,)"),
            (X[:, :2], "(2, 3), or of batch 1", SHAPE + "(2, 2)"),
            (X.repeat(2, 1), "(2, 3), or of batch 1", SHAPE + "(4, 3)"),
            (X[:, :, None], "(2, 3), or of batch 1", SHAPE + "(2, 3, 1)"),
            (X[:0], "(2, 3), or of batch 1", SHAPE + "(0, 3)"),
            ("zeros", "a number, a tensor or None", "'zeros'"),
            (True, "a number, a tensor or None", "True"),
            ([0.0] * 3, "a number, a tensor or None", "a list of 3"),
            (np.zeros((2, 3)), "a number, a tensor or None", "type ndarray"),
        ),
        *cases(
            "feature_mask",
            (X, "a tensor of integers", SHAPE + "(2, 3)"),
            (X > 0, "a tensor of integers", "torch.bool"),
            (IDS.tolist(), "a tensor of integers", "a list of 2"),
            (IDS.numpy(), "a tensor of integers", "type ndarray"),
            (0, "a tensor of integers", "0"),
            (-IDS, "ids from 0 on", "negative"),
            (IDS[:, :2], "(2, 3), each dimension its own or 1", "(2, 2)"),
            (IDS[0], "(2, 3), each dimension its own or 1", "(3,)"),
            (IDS[None], "(2, 3), each dimension its own or 1", "(1, 2, 3)"),
            (IDS.repeat(2, 1), "(2, 3), each dimension its own or 1", "(4, 3)"),
            (IDS[:0], "at least one id", "(0, 3)"),
        ),
        *cases(
            "additional_forward_args",
            (X.repeat(2, 1), "tensors of batch 1 or 2", SHAPE + "(4, 3)"),
            ((None, X[:0]), "tensors of batch 1 or 2", SHAPE + "(0, 3)"),
        ),
    ],
)
def test_invalid_argument_of_one_side(argument, value, parts, side):
    good = {"inputs": X}.get(argument)
    given = (value, good) if side == 0 else (good, value)
    options = {"inputs": (X, X), argument: given}
    if argument == "inputs" and isinstance(value, torch.Tensor) and len(value.shape):
        # The other side of the same batch size: this error, not that of two sizes.
        options["inputs"] = tuple(
            part if part is value else X[: len(value)] for part in given
        )
        if not len(value):
            side = 0
    encoders = linear(3), linear(3)
    refused(f"{argument}[{side}]", parts, forward_func=encoders, **options)


@pytest.mark.parametrize(
    "calls", [["attribute"], ["decompose"], ["compute_convergence_delta"]]
)
def test_invalid_without_the_inputs_factor(calls):
    fpig = FeaturePairIntegratedGradients(linear(3), multiply_by_inputs=False)
    jacobian = IntegratedJacobian(linear(3), multiply_by_inputs=False)
    parts = "multiply_by_inputs=True", "multiply_by_inputs=False"
    if calls == ["attribute"]:
        for method, inputs in ((fpig, (X, X)), (jacobian, X)):
            error_of(
                lambda: method.attribute(inputs, return_convergence_delta=True),
                "return_convergence_delta",
                *parts,
            )
    elif calls == ["decompose"]:
        error_of(lambda: fpig.decompose((X, X)), "decompose", *parts)
    else:
        for method, inputs in ((fpig, (X, X)), (jacobian, X)):
            error_of(
                lambda: method.compute_convergence_delta(X, None, inputs),
                "attributions",
                *parts,
            )


@pytest.mark.parametrize(
    "attributions, parts",
    [
        ([[SECRET]], ["a tensor", "a list"]),
        (X[:1, :, None], ["batch of 2", "(1, 3, 1)"]),
        (IDS[:, :, None], ["floating", "int64"]),
    ],
)
def test_invalid_attributions_for_a_delta(attributions, parts):
    fpig = FeaturePairIntegratedGradients((linear(3), linear(2)))
    jacobian = IntegratedJacobian(linear(3))
    for method, inputs in ((fpig, (X, Y)), (jacobian, X)):
        error_of(
            lambda: method.compute_convergence_delta(attributions, None, inputs),
            "attributions",
            *parts,
        )


# ---- encoders ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil, came",
    [
        (lambda z: z[:, 0], SHAPE + "(1,)"),
        (lambda z: z[:, :, None], SHAPE + "(1, 4, 1)"),
        (lambda z: (z,), "a tuple of 1"),
        (lambda z: {"embedding": z}, "type dict"),
        (lambda z: torch.cat([z, z]), SHAPE + "(2, 4)"),
        (lambda z: z.mean(0, keepdim=True)[0], SHAPE + "(4,)"),
        (lambda z: z.long(), "torch.int64"),
        (lambda z: None, "None"),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_invalid_embedding(spoil, came, side):
    encode = linear(3)
    encoders = [encode, encode]
    encoders[side] = lambda x: spoil(encode(x))
    parts = ["(b, k) = (1, k)", f"of inputs[{side}]", came]
    refused("forward_func", parts, forward_func=encoders, inputs=(X, X))


def test_invalid_embedding_of_a_batch_only():
    # One row for any batch: right for one example, wrong for points on its path.
    encode = linear(3)
    pooled = (lambda x: encode(x).mean(0, keepdim=True)), encode
    refused("forward_func", ["(2, k)", "(1, 4)"], forward_func=pooled, inputs=(X, X))


def test_invalid_encoder_that_looks_at_the_rest_of_the_batch():
    encode = linear(3)
    pooled = (lambda x: encode(x) - encode(x).mean(0) + 1), encode
    parts = ["does not depend on the rest of its batch", "inputs[0] differently"]
    refused("forward_func", parts, forward_func=pooled, inputs=(X, X))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("role", ["inputs", "baselines"])
def test_invalid_norm_of_zero_names_side_and_role(side, role):
    encode = linear(3)
    # Zero at zeros, or zero everywhere else.
    where = (lambda x: x == 0) if role == "inputs" else (lambda x: x != 0)
    encoders = [encode, encode]
    encoders[side] = lambda x: encode(x) * where(x).any(-1, keepdim=True)
    options = dict(forward_func=encoders, inputs=(X, X))
    hints = ["another one, such as", 'similarity="dot"'] if role == "baselines" else []
    refused("forward_func", ["norm zero", f"{role}[{side}]", *hints], **options)
    # A dot product needs no norm.
    dot = FeaturePairIntegratedGradients(encoders, "dot")
    if role == "baselines":
        assert dot.attribute((X, X), n_steps=2).shape == (2, 3, 3)


@pytest.mark.parametrize("bad", [NAN, float("inf")])
@pytest.mark.parametrize(
    "where",
    [
        lambda x: x > 0.9 * SECRET,
        lambda x: x < 0.1 * SECRET,
        lambda x: (0.1 * SECRET < x) & (x < 0.9 * SECRET),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_invalid_embedding_that_is_not_finite(bad, where, side):
    encode, encoders = linear(3), [linear(3), linear(3)]
    encoders[side] = lambda x: encode(x) + torch.where(where(x[:, :1]), bad, 0.0)
    for similarity in ("cosine", "dot"):
        refused(
            "forward_func",
            ["finite", "NaN or infinity", f"inputs[{side}]"],
            forward_func=encoders,
            inputs=(X, X),
            similarity=similarity,
            n_steps=3,
        )


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_invalid_derivative_that_is_not_finite(direction):
    # The embedding is finite at the baseline, its derivative is not.
    encode = linear(3)
    refused(
        "forward_func",
        ["finite derivatives", "NaN or infinity"],
        forward_func=((lambda x: encode(x.sqrt())), encode),
        inputs=(X, X),
        method="riemann_left",
        direction=direction,
    )


def constant(encode):
    embedding = encode(X[:1]).detach()
    return lambda x: embedding.expand(len(x), -1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda encode: lambda x: encode(x.detach()).detach(),
        lambda encode: lambda x: encode(x.detach()),
        lambda encode: torch.no_grad()(encode),
        lambda encode: lambda x: torch.from_numpy(encode(x).detach().numpy()),
        lambda encode: lambda x: encode(x.round().long().double()),
        constant,
    ],
)
@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
@pytest.mark.parametrize("side", [0, 1])
def test_invalid_encoder_that_does_not_depend_on_the_input(spoil, direction, side):
    encoders = [linear(3), linear(3)]
    encoders[side] = spoil(encoders[side])
    parts = [f"respect to inputs[{side}]", "does not depend on it"]
    for tolerance in (None, 0.5):
        refused(
            "forward_func",
            parts,
            forward_func=encoders,
            inputs=(X, X),
            direction=direction,
            tolerance=tolerance,
            n_steps=64,
        )


@pytest.mark.parametrize("method", [IntegratedJacobian, LayerIntegratedJacobian])
def test_invalid_encoder_of_one_side(method):
    extra = {"layer": linear(3)} if method is LayerIntegratedJacobian else {}
    parts = "an encoder that can be called"
    for bad, came in ((None, "None"), ((linear(3),), "a tuple of 1")):
        error_of(lambda: method(bad, **extra), "forward_func", parts, came)


# ---- sizes ---------------------------------------------------------------------------


def mean_encoder(x):
    return torch.stack([x.mean(-1), x.square().mean(-1)], dim=-1)


def test_invalid_output_that_is_too_large_to_hold():
    large = torch.ones(1, 2**20)
    fpig = FeaturePairIntegratedGradients(mean_encoder, "dot")
    for call in (fpig.attribute, fpig.decompose):
        error_of(
            lambda: call((large, large), n_steps=1),
            "feature_mask",
            "1 x 1,048,576 x 1,048,576 values, 4,096.0 GiB",
            "pass a feature_mask",
        )
    # With a mask on one side it fits.
    mask = torch.zeros(1, 1, dtype=torch.int64)
    found = fpig.attribute((large, large), feature_mask=(mask, mask), n_steps=1)
    if found.shape != (1, 1, 1):
        pytest.fail(f"{found.shape}")


def test_invalid_batch_of_outputs_that_is_too_large_to_hold(monkeypatch):
    from captum_pairs.attr._utils import forward_pass

    # Room for one example's attributions, not for the two of the batch.
    monkeypatch.setattr(forward_pass, "_host_bytes", lambda: 2 * (3 * 2 * 8) * 3 // 2)
    fpig = FeaturePairIntegratedGradients((linear(3), linear(2)))
    single = fpig.attribute((X[:1], Y[:1]), n_steps=1)
    if single.shape != (1, 3, 2):
        pytest.fail(f"{single.shape}")
    error_of(lambda: fpig.attribute((X, Y), n_steps=1), "feature_mask", "2 x 3 x 2")
    jacobian = IntegratedJacobian(linear(3))
    error_of(lambda: jacobian.attribute(X), "feature_mask", "2 x 3 x 4 values")


# ---- layers --------------------------------------------------------------------------


@pytest.fixture
def net():
    """(b, 3) -> (b, 4), with a layer that is never and one that is twice reached."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again = linear(3, 5), linear(5, 5)
            self.unused, self.last = linear(5), linear(5)
            self.ids = nn.Identity()

        def forward(self, x):
            self.ids(torch.arange(3)[None])
            return self.last(self.again(torch.tanh(self.again(self.first(x)))))

    return Net()


@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize(
    "name, came",
    [
        ("unused", "Linear, which was not reached"),
        ("again", "Linear, which was reached 2 times"),
        ("ids", "Identity, which was not reached, or"),
    ],
)
def test_invalid_layer_in_a_forward_pass(net, name, came, at_input):
    layer, options = getattr(net, name), dict(attribute_to_layer_input=at_input)
    expected = "a layer that one forward pass reaches once", came
    for side in (0, 1):
        layers = [net.first, net.first]
        layers[side] = layer
        fpig = LayerFeaturePairIntegratedGradients(net, tuple(layers))
        for call in (fpig.attribute, fpig.decompose, fpig.choose_steps):
            error_of(lambda: call((X, X), **options), f"layer[{side}]", *expected)
    jacobian = LayerIntegratedJacobian(net, layer)
    error_of(lambda: jacobian.attribute(X, **options), "layer", *expected)


@pytest.mark.parametrize(
    "argument, options, parts",
    [
        *cases(
            "layer",
            (dict(layer=(linear(3),)), PAIR, "a tuple of 1"),
            (dict(layer="first"), PAIR, "'first'"),
            (dict(layer=None), PAIR, "None"),
        ),
        *cases("layer[1]", (dict(layer=(linear(3), "first")), "torch.nn.M", "'first'")),
        *cases(
            "channel_dim",
            (dict(channel_dim=(1, 1, 1)), PAIR, "a tuple of 3"),
            (dict(channel_dim="last"), PAIR, "'last'"),
            (dict(channel_dim=True), "a dimension or None", "True"),
        ),
        *cases("channel_dim[0]", (dict(channel_dim=(1.5, None)), "a dimension", "1.5")),
        *cases("channel_dim[1]", (dict(channel_dim=(0, True)), "a dimension", "True")),
    ],
)
def test_invalid_layer_argument(net, argument, options, parts):
    options = {"layer": net.first, **options}
    error_of(
        lambda: LayerFeaturePairIntegratedGradients(net, **options), argument, *parts
    )


@pytest.mark.parametrize("dim", [4, -5, 0, -4])
def test_invalid_channel_dim_of_a_layers_value(cnn, dim):
    images = torch.full((2, 2, 8, 8), SECRET).double()
    jacobian = LayerIntegratedJacobian(cnn, cnn[0], channel_dim=dim)
    parts = "a dimension of the layer's 4, not the batch's", str(dim)
    error_of(lambda: jacobian.attribute(images), "channel_dim", *parts)


@pytest.mark.parametrize(
    "mask, parts",
    [
        (torch.zeros(1, 3, 4, dtype=torch.int64), ["4 dimensions", "(1, 3, 4)"]),
        (torch.zeros(1, 3, 4, 5, dtype=torch.int64), ["(3, 4, 4)", "(3, 4, 5)"]),
        (torch.zeros(1, 2, 8, 8, dtype=torch.int64), ["(3, 4, 4)", "(2, 8, 8)"]),
        (torch.zeros(3, 3, 4, 4, dtype=torch.int64), ["batch 1 or 2", "(3, 3, 4, 4)"]),
    ],
)
def test_invalid_mask_of_a_layers_value(cnn, mask, parts):
    images = torch.full((2, 2, 8, 8), SECRET).double()
    jacobian = LayerIntegratedJacobian(cnn, cnn[0])
    error_of(lambda: jacobian.attribute(images, 0, mask), "feature_mask", *parts)


@pytest.mark.parametrize(
    "baseline, parts",
    [
        (0.5, ["whole numbers", "0.5"]),
        (torch.tensor(SECRET), ["whole numbers", "torch.float32 tensor of shape ()"]),
        (IDS.double(), ["integers", "(2, 3), or of batch 1", SHAPE + "(2, 3)"]),
        (IDS[:, :1], ["integers", "(2, 3), or of batch 1", "(2, 1)"]),
    ],
)
def test_invalid_baseline_of_integer_ids(baseline, parts):
    encoder = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 4))
    fpig = LayerFeaturePairIntegratedGradients(encoder, encoder[0])
    error_of(
        lambda: fpig.attribute((IDS % 9, IDS % 9), (None, baseline)),
        "baselines[1]",
        *parts,
    )


def test_invalid_baseline_with_another_value_at_the_layer(token_encoder):
    encoder = token_encoder()

    def cropped(x):  # to the tokens that the first example has
        return encoder(x[:, x[0, :, 0] > 0])

    jacobian = LayerIntegratedJacobian(cropped, encoder.block)
    x = torch.full((1, 4, 3), SECRET).double()
    r = x.clone()
    r[:, 2:] = -1
    parts = "(1, 4, 4)", "shape (1, 2, 4)"
    error_of(lambda: jacobian.attribute(x, r), "baselines", *parts)


# ---- the product ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "first, second, argument, parts",
    [
        (X, Y, "contributions_second", ["width k = 3", SHAPE + "(2, 2)"]),
        (X, X[:1], "contributions_second", ["a batch of 2", SHAPE + "(1, 3)"]),
        (X[0], X, "contributions_first", ["(b, *features, k)", SHAPE + "(3,)"]),
        (X, IDS, "contributions_second", [FLOATING, "torch.int64"]),
        (X.numpy(), X, "contributions_first", [TENSOR, "type ndarray"]),
        (X, None, "contributions_second", [TENSOR, "None"]),
        (X[:0], X, "contributions_first", ["at least one", SHAPE + "(0, 3)"]),
    ],
)
def test_invalid_contributions(first, second, argument, parts):
    error_of(lambda: pair(first, second), argument, *parts)


# ---- training mode -------------------------------------------------------------------


@pytest.mark.parametrize(
    "module, name",
    [
        (nn.Dropout(0.5), "Dropout"),
        (nn.MultiheadAttention(5, 1, dropout=0.1), "MultiheadAttention"),
    ],
)
def test_training_mode_warns_once_and_says_what_to_do(module, name):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.module, self.last = (
                linear(3, 5),
                module.double(),
                linear(5),
            )

        def forward(self, x):
            hidden = self.first(x)
            if isinstance(self.module, nn.MultiheadAttention):
                hidden, _ = self.module(*[hidden[None]] * 3)
                return self.last(hidden[0])
            return self.last(self.module(hidden))

    net = Net().train()
    fpig = FeaturePairIntegratedGradients((net, linear(3)))
    with pytest.warns(
        UserWarning, match=f"training mode and has {name}:.*eval"
    ) as told:
        fpig.attribute((X + torch.rand(2, 3), X), n_steps=2)
    assert len(told) == 1 and told[0].filename == __file__
    assert net.training and module.training
    net.eval()
    fpig.attribute((X, X), n_steps=2)  # no warning, which would be an error


@pytest.mark.parametrize("side", [0, 1])
def test_batch_norm_in_training_mode_is_refused_before_it_runs(side):
    """Whatever else is in its batch, an example has one embedding."""
    net = nn.Sequential(linear(3, 5), nn.BatchNorm1d(5).double(), linear(5)).train()
    saved = {key: value.clone() for key, value in net.state_dict().items()}
    encoders = (net, linear(3)) if side == 0 else (linear(3), net)
    fpig = FeaturePairIntegratedGradients(encoders)
    with pytest.raises(InvalidArgumentError) as caught:
        fpig.attribute((X, X), n_steps=2, tolerance=1e-9)
    assert caught.value.argument == "forward_func"
    assert "model.eval()" in caught.value.expected
    assert "BatchNorm1d in training mode" in caught.value.got
    assert net.training
    torch.testing.assert_close(dict(net.state_dict()), saved, rtol=0, atol=0)
    net.eval()
    fpig.attribute((X, X), n_steps=2)


# ---- the class -----------------------------------------------------------------------


def test_error_survives_pickling():
    error = InvalidArgumentError("n_steps", "a whole number", "2.5")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is InvalidArgumentError and str(again) == str(error)
    assert (again.argument, again.expected, again.got) == (
        "n_steps",
        "a whole number",
        "2.5",
    )


def test_asserts_tell_the_type_checker_what_it_can_not_see():
    """And nothing else, since `python -O` drops them: that something is not None, or
    which of the package's own classes it is."""
    narrows = re.compile(r".* is not None|isinstance\(\w+, (?!Tensor)[A-Z]\w*\)")
    package = Path(captum_pairs.__file__).parent
    others = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                conditions = ast.unparse(node.test).split(" and ")
                if not all(map(narrows.fullmatch, conditions)):
                    others.append(f"{path}:{node.lineno}")
    assert others == []


@pytest.mark.slow
def test_nothing_here_is_validated_by_an_assert():
    # `python -O` drops assert statements, the library's and these tests' alike: the
    # checks above are made by pytest.raises and pytest.fail.
    run = subprocess.run(
        [sys.executable, "-O", "-m", "pytest", __file__, "-q", "-k", "test_invalid"]
        + ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestConfigWarning"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert re.search(r"\d{3} passed", run.stdout), run.stdout[-500:]
