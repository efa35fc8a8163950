"""After a call, and after one that raised, everything is as it was."""

import copy
import gc
import os
import random
import signal
import threading
import traceback

import numpy as np
import pytest
import torch
from captum_pairs.attr import (
    FeaturePairIntegratedGradients,
    InvalidArgumentError,
    LayerFeaturePairIntegratedGradients,
)
from torch import nn
from torch.nn.modules import module as module_hooks

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
)
GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_forward_hooks_always_called",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def process_state():
    """What belongs to the process or the thread, not to a model."""
    return {
        "hooks": [len(getattr(module_hooks, name)) for name in GLOBAL_HOOKS],
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.random.get_rng_state().tolist(),
        "fastpath": torch.backends.mha.get_fastpath_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "cache": torch.is_autocast_cache_enabled(),
        "kernels": (
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
            torch.backends.cuda.cudnn_sdp_enabled(),
        ),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "autograd threads": torch.autograd.is_multithreading_enabled(),
        "saved hooks": saved_tensors_hooks(),
    }


def saved_tensors_hooks():
    # Without a public name, and without any in torch 2.6.
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return None if top is None else top(False)


def tensor_state(tensor):
    gradient = None if tensor.grad is None else tensor.grad.tolist()
    return (
        tensor.detach().tolist(),
        tensor.requires_grad,
        tensor.is_leaf,
        gradient,
        tensor._version,
        tensor._backward_hooks,
    )


def model_state(*models):
    return {
        (at, name): (
            module.training,
            sorted(module.__dict__),
            "forward" in module.__dict__,
            {key: len(getattr(module, key)) for key in HOOKS},
            {key: tensor_state(p) for key, p in module.named_parameters(recurse=False)},
            {key: b.tolist() for key, b in module.named_buffers(recurse=False)},
            getattr(module, "gradient_checkpointing", None),
        )
        for at, model in enumerate(models)
        for name, module in model.named_modules()
    }


class Fails(Exception):
    pass


class Counting(nn.Module):
    """Counts its passes in training mode, as running statistics do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.passes += 1
        return x


class Encoder(nn.Module):
    """(b, 4, 3) -> (b, 4) with attention, normalisation and a flag; fails when told.

    ``fails_at`` is the number of the call that raises, counted at ``check``.
    """

    def __init__(self):
        super().__init__()
        self.front = nn.Linear(3, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.norm = nn.BatchNorm1d(4)
        self.counting = Counting()
        self.head = nn.Linear(4, 4)
        self.gradient_checkpointing = True
        self.double().eval()
        self.calls, self.fails_at = [], []

    def check(self):
        self.calls.append(None)
        if len(self.calls) in self.fails_at:
            raise Fails(f"call {len(self.calls)}")

    def forward(self, x):
        x += 0  # writes into its input
        x.mul_(1.5)
        hidden = self.layer(self.front(x))
        self.check()
        return self.head(self.counting(self.norm(hidden.mean(1))))


@pytest.fixture
def setting():
    """Encoders with gradients, frozen parameters and hooks of the user's own."""
    first, second = Encoder(), Encoder()
    first(torch.randn(2, 4, 3).double()).sum().backward()
    first.calls.clear()
    second.front.weight.requires_grad_(False)
    second.counting.train()
    first.layer.register_forward_hook(lambda module, args, output: None)
    inputs = (
        torch.randn(2, 4, 3).double().requires_grad_(),
        torch.randn(2, 4, 3).double(),
    )
    inputs[0].grad = torch.ones_like(inputs[0])
    baselines = torch.rand(1, 4, 3).double().requires_grad_(), None
    return (first, second), inputs, baselines


def state(setting):
    encoders, inputs, baselines = setting
    tensors = *inputs, baselines[0]
    return process_state(), model_state(*encoders), [tensor_state(t) for t in tensors]


KINDS = ["input", "layer", "layer input"]


def attribution_of(kind, encoders, **options):
    if kind == "input":
        return FeaturePairIntegratedGradients(encoders, **options), {}
    layers = tuple(encoder.layer for encoder in encoders)
    layered = LayerFeaturePairIntegratedGradients(encoders, layers, **options)
    return layered, {"attribute_to_layer_input": kind == "layer input"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_after_success(setting, kind, direction):
    encoders, inputs, baselines = setting
    fpig, options = attribution_of(kind, encoders, direction=direction)
    options.update(baselines=baselines, n_steps=4, internal_batch_size=3)
    before, attributes = state(setting), dict(vars(fpig))
    for call in (fpig.attribute, fpig.decompose):
        call(inputs, **options)
        for encoder in encoders:
            encoder.calls.clear()
    assert state(setting) == before
    assert vars(fpig) == attributes


def test_running_statistics_after_success_in_training_mode(setting):
    encoders, inputs, baselines = setting
    encoders[1].training = True  # in which its own flag, checkpointing, is switched
    before = state(setting)
    fpig, _ = attribution_of("input", encoders)
    fpig.attribute(inputs, baselines, n_steps=2)
    assert state(setting) == before
    encoders[1](inputs[1].detach().clone())
    assert state(setting) != before  # by a pass of one's own


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("side", [0, 1])
def test_after_an_exception_in_any_call(setting, kind, direction, side):
    encoders, inputs, baselines = setting
    fpig, options = attribution_of(kind, encoders, direction=direction)
    options.update(baselines=baselines, n_steps=4, internal_batch_size=2)
    fpig.attribute(inputs, **options)
    encoders[side].calls.clear()
    fpig.attribute(inputs, **options)  # which knows what the first one looked for
    calls = len(encoders[side].calls)
    assert calls >= 4
    before = state(setting)
    for failing in range(1, calls + 1):
        encoder = encoders[side]
        encoder.calls.clear()
        # Where the two ends are embedded, a failure makes it try another way: first
        # the one that an example before took. All of them fail.
        encoder.fails_at = [failing, failing + 1, failing + 2]
        with pytest.raises(Fails):
            fpig.attribute(inputs, **options)
        encoder.fails_at = []
        assert state(setting) == before, f"call {failing} of {calls}"
    # And it works as before.
    again = attribution_of(kind, copy.deepcopy(encoders), direction=direction)[0]
    found = fpig.attribute(inputs, **options)
    torch.testing.assert_close(
        found, again.attribute(inputs, **options), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("kind", KINDS)
def test_after_an_error_of_our_own(setting, kind):
    encoders, inputs, baselines = setting
    encoders[0].head.bias.data.fill_(float("nan"))
    fpig, options = attribution_of(kind, encoders)
    baselines = (baselines[0].detach(), None)
    unset = process_state(), model_state(encoders[1])
    with pytest.raises(InvalidArgumentError):
        fpig.attribute(inputs, baselines, n_steps=2, **options)
    assert (process_state(), model_state(encoders[1])) == unset


class FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise Fails("in the backward pass")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", [None, "reverse"])
def test_after_an_exception_in_the_backward_pass(setting, kind, direction):
    encoders, inputs, baselines = setting
    handle = encoders[0].norm.register_forward_pre_hook(
        lambda _, args: FailsBackward.apply(args[0])
    )
    fpig, options = attribution_of(kind, encoders, direction=direction)
    before = state(setting)
    with pytest.raises(Fails, match="in the backward pass"):
        fpig.attribute(inputs, baselines, n_steps=2, **options)
    assert state(setting) == before
    handle.remove()


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        torch.enable_grad,
        lambda: torch.autocast("cpu", enabled=False),
        lambda: torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_under_the_users_own_modes(setting, context, kind):
    encoders, inputs, baselines = setting
    fpig, options = attribution_of(kind, encoders)
    expected = fpig.attribute(inputs, baselines, n_steps=3, **options)
    with context():
        before = process_state()
        found = fpig.attribute(inputs, baselines, n_steps=3, **options)
        assert process_state() == before
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    assert not found.requires_grad


# ---- threads -------------------------------------------------------------------------


def in_threads(*targets):
    """Runs functions at the same time; raises what any of them raised."""
    errors = []
    gate = threading.Barrier(len(targets))

    def run(target):
        try:
            gate.wait()
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("kind", KINDS)
def test_two_threads_on_one_object_and_a_forward_pass_in_a_third(kind):
    encoder, x = Encoder(), torch.randn(4, 2, 4, 3).double()
    encoder.gradient_checkpointing = False
    pairs = (x[0], x[1]), (x[2], x[3])
    fpig, options = attribution_of(kind, (encoder, encoder))
    options.update(n_steps=4, internal_batch_size=1)
    expected = [fpig.attribute(inputs, **options) for inputs in pairs]
    embedding = encoder(x[0].clone()).detach()
    busy, passes = [None, None], []

    def attributes(at):
        try:
            for _ in range(8):
                found = fpig.attribute(pairs[at], **options)
                torch.testing.assert_close(found, expected[at], rtol=0, atol=1e-13)
        finally:
            busy.pop()

    def passes_forward():
        while busy or not passes:
            found = encoder(x[0].clone())
            assert found.requires_grad
            torch.testing.assert_close(found.detach(), embedding, rtol=0, atol=1e-13)
            passes.append(None)

    before = process_state(), model_state(encoder)
    in_threads(lambda: attributes(0), lambda: attributes(1), passes_forward)
    assert (process_state(), model_state(encoder)) == before
    assert len(passes) > 1


def test_a_thread_that_raises_does_not_hold_up_the_others():
    encoder, x = Encoder(), torch.randn(2, 4, 3).double()
    fpig, _ = attribution_of("layer", (encoder, encoder))
    expected = fpig.attribute((x, x), n_steps=2)

    def raises():
        for _ in range(5):
            with pytest.raises(InvalidArgumentError):
                fpig.attribute((x * float("nan"), x), n_steps=2)

    def works():
        for _ in range(5):
            found = fpig.attribute((x, x), n_steps=2)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)

    in_threads(raises, works)


class Waiting(Encoder):
    """One that waits inside of one of a thread's passes."""

    def __init__(self, at):
        super().__init__()
        self.at, self.owner = at, None
        self.reached, self.goes_on = threading.Event(), threading.Event()

    def check(self):
        if threading.get_ident() != self.owner:
            return
        self.calls.append(None)
        if len(self.calls) == self.at:
            self.reached.set()
            self.goes_on.wait()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "at", [pytest.param(at, marks=pytest.mark.slow) for at in (1, 2, 3)] + [4]
)
def test_a_process_that_is_forked_while_another_thread_is_inside_a_call(kind, at):
    """It has neither that thread's lock nor anything that it had changed."""
    encoder, x = Waiting(at), torch.randn(2, 2, 4, 3).double()
    encoder.training = True  # its flag is switched off meanwhile
    fpig, options = attribution_of(kind, (encoder, encoder), direction="forward")
    expected = fpig.attribute((x[0], x[1]), n_steps=2, **options)
    before = process_state(), model_state(encoder)

    def waits():
        encoder.owner = threading.get_ident()
        fpig.attribute((x[0], x[1]), n_steps=2, **options)

    thread = threading.Thread(target=waits)
    thread.start()
    assert encoder.reached.wait(60)
    child = os.fork()
    if not child:
        try:
            signal.alarm(60)
            now = process_state()
            # Python seeds its random numbers anew
            assert [n for n in now if now[n] != before[0][n]] in ([], ["random"])
            assert model_state(encoder) == before[1]
            found = fpig.attribute((x[0], x[1]), n_steps=2, **options)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    encoder.goes_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
    assert (process_state(), model_state(encoder)) == before


# ---- memory --------------------------------------------------------------------------


def tensors_left_by(call):
    """How many tensors there are after three calls that were not there before them.

    Whatever else is there is set aside meanwhile; a call before fills what is kept on
    purpose.
    """
    call()
    gc.freeze()
    try:
        for _ in range(3):
            call()
        gc.collect()
        # their types, since some objects warn when they are asked for anything
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
    finally:
        gc.unfreeze()


def small_setting(encoder):
    inputs = torch.randn(2, 4), torch.randn(2, 4)
    fpig = LayerFeaturePairIntegratedGradients(encoder, encoder[0])
    return lambda: fpig.attribute(inputs, tolerance=1e-3)


def test_no_graph_outlives_a_call():
    """A result that autograd saved and that was handed back to it as it is would keep
    itself alive, where no garbage collection sees it."""
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Softmax(-1), nn.Linear(6, 3))
    assert tensors_left_by(small_setting(net)) == 0


class Keeps(nn.Module):
    """Keeps what it is given in a list, or its result where autograd keeps it."""

    def __init__(self, where):
        super().__init__()
        self.where, self.kept = where, []

    def forward(self, x):
        if self.where == "a list":
            self.kept.append(x)
            return x
        # exp saves its result: packed as it is, the graph owns what owns the graph
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            return x.exp()


@pytest.mark.parametrize(
    "where",
    ["a circle of autograd's", pytest.param("a list", marks=pytest.mark.slow)],
)
def test_a_graph_that_outlives_a_call_is_found(where):
    leaks = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Keeps(where), nn.Linear(6, 3))
    x = torch.randn(2, 4)
    assert tensors_left_by(lambda: leaks(x)) == 3
    # and nothing else is taken for one
    assert tensors_left_by(lambda: leaks[:2](x)) == 0


def test_a_graph_that_outlives_an_attribution_is_found():
    leaks = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Keeps("a list"), nn.Linear(6, 3))
    assert tensors_left_by(small_setting(leaks)) >= 3
