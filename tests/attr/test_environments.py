"""
The same attributions whatever surrounds the call and whatever wraps the model.

Precision, autocast, gradient modes, offloading, checkpointing, compilation, adapters.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Optional

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from captum_pairs.attr import (
    FeaturePairIntegratedGradients,
    IntegratedJacobian,
    InvalidArgumentError,
    LayerFeaturePairIntegratedGradients,
    LayerIntegratedJacobian,
)
from peft import get_peft_model, LoraConfig
from torch import nn, Tensor
from torch.utils.checkpoint import checkpoint
from transformers import CLIPConfig, CLIPModel

IDS = torch.tensor([[38, 4, 9, 21, 39], [38, 17, 2, 39, 0]])
BASELINE_IDS = torch.tensor([[38, 0, 0, 0, 39], [38, 0, 0, 39, 0]])


class TinyClip(NamedTuple):
    """A tiny random CLIP, possibly wrapped, and its last blocks."""

    model: Any
    layers: tuple[nn.Module, nn.Module]

    @property
    def encoders(self) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        def embed_image(pixels: Tensor) -> Tensor:
            return pooled(self.model.get_image_features(pixel_values=pixels))

        def embed_text(ids: Tensor) -> Tensor:
            return pooled(self.model.get_text_features(input_ids=ids))

        return embed_image, embed_text

    def attribute(self, pixels: Tensor, **options: Any) -> Tensor:
        """Words with patches, at the last blocks: (b, patches, tokens)."""
        settings = dict(n_steps=6, **options)
        direction = settings.pop("direction", None)
        fpig = LayerFeaturePairIntegratedGradients(
            self.encoders, self.layers, direction=direction
        )
        ids, baseline = IDS[: len(pixels)], BASELINE_IDS[: len(pixels)]
        ids, baseline = ids.to(pixels.device), baseline.to(pixels.device)
        result = fpig.attribute((pixels, ids), (None, baseline), **settings)
        assert isinstance(result, Tensor)
        return result


def pooled(output: Any) -> Tensor:
    """The embedding: Hugging Face's versions return a tensor or an output object."""
    return output if isinstance(output, Tensor) else output.pooler_output


def blocks_of(model: Any) -> tuple[nn.Module, nn.Module]:
    """The last block of each encoder of a CLIP."""
    vision = getattr(model.vision_model, "vision_model", model.vision_model)
    text = getattr(model.text_model, "text_model", model.text_model)
    return vision.encoder.layers[1], text.encoder.layers[1]


def tiny_clip(dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> TinyClip:
    both = dict(
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=2,
        num_hidden_layers=3,
    )
    config = CLIPConfig(
        text_config=dict(
            vocab_size=40,
            max_position_embeddings=16,
            pad_token_id=0,
            bos_token_id=38,
            eos_token_id=39,
            **both,
        ),
        vision_config=dict(image_size=32, patch_size=8, **both),
        projection_dim=16,
        attn_implementation=attention,
    )
    model = CLIPModel(config).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        # Hugging Face's own initialisation leaves so small a network almost linear.
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        near = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = near + noise / fan_in**0.5
    # Only a loss uses it, and no module that could be sent to a device holds it.
    del model.logit_scale
    model = model.to(dtype)
    return TinyClip(model, blocks_of(model))


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 32, 32, generator=generator).to(dtype)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, of the largest attribution."""
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).abs().max() / expected.abs().max())


class Smooth(nn.Module):
    """A small encoder of vectors (b, 6) with a hidden layer in the middle."""

    def __init__(self, middle: Optional[nn.Module] = None) -> None:
        super().__init__()
        self.enter = nn.Linear(6, 8)
        self.middle = nn.Tanh() if middle is None else middle
        self.leave = nn.Linear(8, 5)
        generator = torch.Generator().manual_seed(5)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.middle(self.enter(x)))


def vectors(rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(rows, 6, generator=generator)


# ---- precision ---------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-4), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)],
)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_precisions_agree_with_float32(
    dtype: torch.dtype, tolerance: float, attention: str, direction: str
) -> None:
    clip = tiny_clip(dtype, attention)
    # The same rounded weights and pixels, computed in float32.
    model = copy.deepcopy(clip.model).float()
    exact = TinyClip(model, blocks_of(model)).attribute(images(dtype).float())
    found = clip.attribute(images(dtype), direction=direction)
    assert found.shape == exact.shape == (2, 17, 5)
    assert exact.dtype == torch.float32
    assert relative_error(found, exact) <= tolerance
    # Of pixels in half precision and ids; the ids' side was accumulated in float32.
    half = dtype != torch.float64
    assert found.dtype == (torch.float32 if half else torch.float64)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)],
)
def test_results_keep_the_inputs_precision(
    dtype: torch.dtype, tolerance: float
) -> None:
    encoder = Smooth().to(dtype)
    jacobian = IntegratedJacobian(encoder, normalize=True)
    found, delta = jacobian.attribute(
        vectors().to(dtype), n_steps=8, return_convergence_delta=True
    )
    exact = IntegratedJacobian(copy.deepcopy(encoder).float(), normalize=True)
    assert found.dtype == delta.dtype == dtype
    expected = exact.attribute(vectors().to(dtype).float(), n_steps=8)
    assert relative_error(found, expected) <= tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_two_texts_keep_the_models_precision(dtype: torch.dtype) -> None:
    clip = tiny_clip(dtype)
    encoder, layer = clip.encoders[1], clip.layers[1]
    fpig = LayerFeaturePairIntegratedGradients(encoder, layer)
    found, delta = fpig.attribute(
        (IDS, IDS.flip(0)),
        (BASELINE_IDS, BASELINE_IDS.flip(0)),
        n_steps=32,
        return_convergence_delta=True,
    )
    assert found.dtype == delta.dtype == dtype
    assert delta.abs().max() <= (1e-12 if dtype == torch.float64 else 1e-5)


# ---- autocast ----------------------------------------------------------------


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_autocast_around_the_call(direction: Optional[str]) -> None:
    clip = tiny_clip()
    exact = clip.attribute(images())
    with torch.autocast("cpu", torch.bfloat16):
        found = clip.attribute(images(), direction=direction)
    assert found.dtype == torch.float32
    error = relative_error(found, exact)
    # bfloat16 is not float32: an error of nothing would mean that it was not used.
    assert 1e-5 < error <= 0.1


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
@pytest.mark.parametrize("at_pixels", [False, True])
def test_autocast_inside_the_encoder(at_pixels: bool, direction: Optional[str]) -> None:
    """Nothing outside of the encoder is in half precision: its rounding is allowed."""
    clip = tiny_clip()
    embed_image, embed_text = clip.encoders

    def half(encoder: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def encode(x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return encoder(x).float()

        return encode

    layers = (None if at_pixels else clip.layers[0], clip.layers[1])
    patches = torch.arange(32) // 8 * 4 + (torch.arange(32) // 8)[:, None]
    masks = (patches[None, None], None) if at_pixels else None
    found, exact = (
        LayerFeaturePairIntegratedGradients(
            encoders, layers, direction=direction
        ).attribute((images(), IDS), (None, BASELINE_IDS), masks, n_steps=6)
        for encoders in ((half(embed_image), half(embed_text)), clip.encoders)
    )
    assert 1e-5 < relative_error(found, exact) <= 0.1


def test_a_float32_encoder_with_a_float64_head() -> None:
    encoder = Smooth()
    head = torch.eye(5, dtype=torch.float64)
    expected = IntegratedJacobian(encoder).attribute(vectors(), n_steps=6)
    for direction in ("forward", "reverse"):
        jacobian = IntegratedJacobian(
            lambda x: encoder(x).double() @ head, direction=direction
        )
        torch.testing.assert_close(jacobian.attribute(vectors(), n_steps=6), expected)


@pytest.mark.parametrize("trained_before", [False, True])
def test_autocast_trains_on_after_the_call(trained_before: bool) -> None:
    """
    Autocast keeps the weights that it cast: a cast made without a graph, or freed
    with one, would be found by the training step.
    """

    def gradients(attribute: bool) -> list[Tensor]:
        clip = tiny_clip()
        with torch.autocast("cpu", torch.bfloat16):
            if trained_before:
                clip.encoders[0](images()).square().sum().backward()
            if attribute:
                clip.attribute(images())
            assert torch.is_autocast_cache_enabled()
            clip.encoders[0](images()).square().sum().backward()
        found = [p.grad for p in clip.model.vision_model.parameters()]
        assert all(gradient is not None for gradient in found)
        return [gradient for gradient in found if gradient is not None]

    for found, expected in zip(gradients(True), gradients(False)):
        assert torch.equal(found, expected)


# ---- gradient modes ----------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_modes_around_the_call(mode: Callable[[], Any], direction: str) -> None:
    clip = tiny_clip()
    expected = clip.attribute(images(), direction=direction)
    with mode():
        inference = torch.is_inference_mode_enabled()
        # Made inside: inference tensors, of which autograd can save none.
        pixels = images() + 0.0
        assert pixels.is_inference() == inference
        found = clip.attribute(pixels, direction=direction)
        outside = clip.attribute(images(), direction=direction)
        assert torch.is_inference_mode_enabled() == inference
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert torch.equal(found, expected) and torch.equal(outside, expected)
    assert not found.requires_grad


def test_inputs_masks_and_arguments_made_in_inference_mode() -> None:
    def encode(x: Tensor, offset: Tensor) -> Tensor:
        return encoder(x * offset)

    encoder = Smooth()
    jacobian = IntegratedJacobian(encode)
    with torch.inference_mode():
        mask = torch.tensor([[0, 0, 1, 1, 2, 2]]) + 0
        x, baseline, offset = vectors() + 0, vectors() * 0.1, vectors() * 0 + 2.0
        found = jacobian.attribute(x, baseline, mask, offset, n_steps=4)
    expected = jacobian.attribute(
        vectors(),
        vectors() * 0.1,
        torch.tensor([[0, 0, 1, 1, 2, 2]]),
        torch.full((2, 6), 2.0),
        n_steps=4,
    )
    torch.testing.assert_close(found, expected)
    # After the call they are outside of inference mode, too.
    found = jacobian.attribute(x, baseline, mask, offset, n_steps=4)
    torch.testing.assert_close(found, expected)


def test_parameters_made_in_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        encoder = Smooth()
    for surrounding in (torch.enable_grad, torch.inference_mode):
        with surrounding(), pytest.raises(InvalidArgumentError, match="inference mode"):
            IntegratedJacobian(encoder).attribute(vectors(), n_steps=2)


def test_frozen_parameters_and_gradients_are_untouched() -> None:
    clip = tiny_clip()
    expected = clip.attribute(images())
    for number, parameter in enumerate(clip.model.parameters()):
        parameter.requires_grad_(number % 2 == 0)
        if number % 4 == 0:
            parameter.grad = torch.full_like(parameter, 7.0)
    torch.testing.assert_close(clip.attribute(images()), expected)
    clip.attribute(images(), direction="forward")
    for number, parameter in enumerate(clip.model.parameters()):
        assert parameter.requires_grad == (number % 2 == 0)
        assert (parameter.grad is None) == (number % 4 != 0)
        assert parameter.grad is None or bool((parameter.grad == 7.0).all())
    clip.model.requires_grad_(False)
    torch.testing.assert_close(clip.attribute(images()), expected)


def test_buffers_of_a_model_in_training_mode_are_untouched() -> None:
    """Spectral norm turns its vectors in every forward pass in training mode."""
    encoder = Smooth().train()
    torch.manual_seed(0)
    torch.nn.utils.parametrizations.spectral_norm(encoder.enter)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    IntegratedJacobian(encoder).attribute(vectors(), n_steps=4)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    encoder(vectors())
    moved = [
        name
        for name, value in encoder.state_dict().items()
        if not torch.equal(value, before[name])
    ]
    assert moved  # by a forward pass of one's own


def test_inputs_that_require_gradients_get_none() -> None:
    clip = tiny_clip()
    pixels = images().requires_grad_()
    found = clip.attribute(pixels)
    assert torch.equal(found, clip.attribute(images()))
    assert pixels.grad is None and pixels.requires_grad and not found.requires_grad


# ---- models spread over devices ----------------------------------------------


def on_meta(model: nn.Module) -> list[str]:
    return [name for name, value in model.named_parameters() if value.is_meta]


def spread(kind: str, model: Any, folder: Path) -> Any:
    """``model`` with some or all of its weights elsewhere until they are needed."""
    if kind == "cpu_offload":
        return cpu_offload(model, torch.device("cpu")) or model
    if kind == "disk_offload":
        return disk_offload(model, str(folder), torch.device("cpu")) or model
    text = [f"text_model.{name}" for name, _ in model.text_model.named_children()]
    device_map = {name: "disk" for name in text}
    for name, _ in model.named_children():
        if name != "text_model":
            device_map[name] = "cpu"
    return dispatch_model(
        model, device_map, main_device="cpu", offload_dir=str(folder), force_hooks=True
    )


@pytest.mark.parametrize("kind", ["cpu_offload", "disk_offload", "device_map"])
@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_offloaded_models(kind: str, direction: Optional[str], tmp_path: Path) -> None:
    plain = tiny_clip()
    expected = plain.attribute(images(), direction=direction)
    embeddings = plain.encoders[1](IDS)
    model = spread(kind, tiny_clip().model, tmp_path)
    clip = TinyClip(model, blocks_of(model))
    away = on_meta(model)
    assert len(away) >= 10
    found = clip.attribute(images(), direction=direction)
    torch.testing.assert_close(found, expected)
    # It is still offloaded, and still works.
    assert on_meta(model) == away
    assert hasattr(clip.layers[1].mlp.fc1, "_hf_hook")
    torch.testing.assert_close(clip.encoders[1](IDS), embeddings)
    torch.testing.assert_close(clip.attribute(images()), expected, rtol=1e-4, atol=1e-6)


# ---- gradient checkpointing --------------------------------------------------


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_hugging_face_gradient_checkpointing(
    use_reentrant: bool, direction: Optional[str]
) -> None:
    clip = tiny_clip()
    expected = clip.attribute(images(), direction=direction)
    clip.model.train()
    enable = getattr(
        clip.model,
        "activation_checkpointing_enable",  # its name from transformers 5.23 on
        None,
    )
    (enable or clip.model.gradient_checkpointing_enable)(
        {"use_reentrant": use_reentrant}
    )
    flags = [
        getattr(module, "gradient_checkpointing", None)
        for module in clip.model.modules()
    ]
    assert flags.count(True) >= 4
    found = clip.attribute(images(), direction=direction)
    torch.testing.assert_close(found, expected)
    assert flags == [
        getattr(module, "gradient_checkpointing", None)
        for module in clip.model.modules()
    ]
    assert clip.model.training
    clip.encoders[0](images().requires_grad_()).sum().backward()
    assert clip.model.visual_projection.weight.grad is not None


class Checkpointed(nn.Module):
    """Residual blocks, each checkpointed by hand."""

    def __init__(self, enabled: bool, width: int = 6) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(3)
        )
        self.head = nn.Linear(width, 5)
        self.enabled = enabled
        self.runs = 0
        generator = torch.Generator().manual_seed(7)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:

            def run(x: Tensor, block: nn.Module = block) -> Tensor:
                self.runs += 1
                return x + block(x)

            x = checkpoint(run, x, use_reentrant=False) if self.enabled else run(x)
        return self.head(x)


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_checkpointing_by_hand_around_the_layer(
    position: int, at_input: bool, direction: Optional[str]
) -> None:
    results = []
    for enabled in (False, True):
        encoder = Checkpointed(enabled).double()
        jacobian = LayerIntegratedJacobian(
            encoder, encoder.blocks[position], normalize=True, direction=direction
        )
        found, delta = jacobian.attribute(
            vectors().double(),
            tolerance=1e-8,
            n_steps=256,
            attribute_to_layer_input=at_input,
            return_convergence_delta=True,
        )
        assert delta.abs().max() <= 1e-7
        results.append(found)
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_checkpointing_by_hand_at_the_input(direction: Optional[str]) -> None:
    plain, checkpointed = Checkpointed(False), Checkpointed(True)
    expected, found = (
        IntegratedJacobian(encoder, direction=direction).attribute(vectors(), n_steps=8)
        for encoder in (plain, checkpointed)
    )
    torch.testing.assert_close(found, expected)
    # It did run a second time: the comparison is with a checkpointed model.
    assert checkpointed.runs > plain.runs


# ---- compiled encoders -------------------------------------------------------


@contextmanager
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    try:
        yield
    finally:
        torch.compiler.reset()


@pytest.mark.parametrize("compiled_before", [True, False])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_encoder(backend: str, compiled_before: bool) -> None:
    plain = Checkpointed(False)
    expected = LayerIntegratedJacobian(plain, plain.blocks[1]).attribute(
        vectors(), n_steps=6
    )
    embeddings = plain(vectors())
    with fresh_compiler():
        encoder = torch.compile(Checkpointed(False), backend=backend)
        if compiled_before:
            encoder(vectors())
        for direction in (None, "forward", "reverse"):
            jacobian = LayerIntegratedJacobian(
                encoder, encoder._orig_mod.blocks[1], direction=direction
            )
            found = jacobian.attribute(vectors(), n_steps=6)
            torch.testing.assert_close(found, expected)
        found = IntegratedJacobian(encoder).attribute(vectors(), n_steps=6)
        at_input = IntegratedJacobian(plain).attribute(vectors(), n_steps=6)
        torch.testing.assert_close(found, at_input)
        torch.testing.assert_close(encoder(vectors()), embeddings)


def test_a_compiled_layer_and_a_compiled_function() -> None:
    plain = Checkpointed(False)
    expected = LayerIntegratedJacobian(plain, plain.blocks[1]).attribute(
        vectors(), n_steps=6
    )
    with fresh_compiler():
        inner = Checkpointed(False)
        inner.blocks[1] = torch.compile(inner.blocks[1], backend="eager")

        @torch.compile(backend="eager")
        def encode(x: Tensor) -> Tensor:
            return inner(x)

        encode(vectors())
        jacobian = LayerIntegratedJacobian(encode, inner.blocks[1])
        torch.testing.assert_close(jacobian.attribute(vectors(), n_steps=6), expected)


# ---- adapters ----------------------------------------------------------------


# PEFT 0.21 asks transformers 5.23 for a property that is about to be renamed.
@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_lora_adapters_as_if_merged(direction: Optional[str]) -> None:
    base = tiny_clip(torch.float64)
    without = base.attribute(images(torch.float64))
    torch.manual_seed(0)
    adapted = get_peft_model(
        copy.deepcopy(base.model),
        LoraConfig(
            r=4,
            lora_alpha=16,
            target_modules=["q_proj", "v_proj"],
            init_lora_weights=False,
        ),
    ).eval()
    inner = adapted.base_model.model
    found = TinyClip(inner, blocks_of(inner)).attribute(
        images(torch.float64), direction=direction
    )
    merged = copy.deepcopy(adapted).merge_and_unload()
    expected = TinyClip(merged, blocks_of(merged)).attribute(images(torch.float64))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert relative_error(found, without) > 0.01
    # The adapted projection is a layer itself.
    layers = tuple(block.self_attn.q_proj for block in blocks_of(inner))
    merged_layers = tuple(block.self_attn.q_proj for block in blocks_of(merged))
    torch.testing.assert_close(
        TinyClip(inner, layers).attribute(images(torch.float64)),
        TinyClip(merged, merged_layers).attribute(images(torch.float64)),
        rtol=0,
        atol=1e-12,
    )


# ---- encoders without derivatives --------------------------------------------


class Residual(nn.Module):
    """x + f(x): what is not differentiated in f does not stop all of the gradient."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.inner(x))


@pytest.mark.skipif(
    not hasattr(
        getattr(getattr(torch, "ao", None), "quantization", None), "quantize_dynamic"
    ),
    reason="this PyTorch has no torch.ao.quantization.quantize_dynamic any more",
)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_quantised_encoders_are_refused(
    direction: Optional[str], residual: bool
) -> None:
    inner = nn.Linear(6, 6)
    encoder: nn.Module = Residual(inner) if residual else nn.Sequential(inner)
    with warnings.catch_warnings():
        # PyTorch's own, about where quantisation will live.
        warnings.simplefilter("ignore")
        encoder = torch.ao.quantization.quantize_dynamic(
            encoder, {nn.Linear}, dtype=torch.qint8
        )
    jacobian = IntegratedJacobian(encoder, direction=direction)
    with pytest.raises(InvalidArgumentError, match="quantised"):
        jacobian.attribute(vectors(), n_steps=4)


@pytest.mark.parametrize(
    "middle",
    [lambda x: x.detach(), lambda x: torch.from_numpy(x.detach().numpy()).tanh()],
    ids=["detached", "numpy"],
)
@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_detached_encoders_are_refused(
    direction: Optional[str], middle: Callable[[Tensor], Tensor]
) -> None:
    encoder = Smooth()
    jacobian = IntegratedJacobian(
        lambda x: encoder.leave(middle(encoder.enter(x))), direction=direction
    )
    with pytest.raises(InvalidArgumentError, match="differentiated"):
        jacobian.attribute(vectors(), n_steps=4)


@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
@pytest.mark.parametrize("side", [0, 1])
def test_rounding_encoders_are_refused(side: int, direction: Optional[str]) -> None:
    """Autograd has a derivative for them: zero, wherever it looks."""
    plain = Smooth()
    stepped = Smooth(StepLayer())
    encoders = (stepped, plain) if side == 0 else (plain, stepped)
    for count in (1, 4):  # as the side with fewer features, and with more
        masks = [torch.arange(6)[None] % size for size in (2, 2)]
        masks[side] = torch.arange(6)[None] % count
        fpig = FeaturePairIntegratedGradients(encoders, direction=direction)
        with pytest.raises(InvalidArgumentError, match="rounding"):
            fpig.attribute(
                (vectors(), vectors().flip(0)), None, tuple(masks), n_steps=4
            )
    # What does not move needs no derivative.
    still = IntegratedJacobian(stepped, direction=direction)
    assert still.attribute(vectors(), vectors(), n_steps=4).abs().max() == 0.0


class StepLayer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 8).round() / 8


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("at_layer", [False, True])
def test_modes_inside_the_encoder_are_refused(
    mode: Callable[[], Any], at_layer: bool
) -> None:
    encoder = Smooth()
    inside = mode()(lambda x: encoder(x))
    jacobian = IntegratedJacobian(inside)
    if at_layer:
        jacobian = LayerIntegratedJacobian(inside, encoder.middle)
    with pytest.raises(InvalidArgumentError, match="no_grad"):
        jacobian.attribute(vectors(), n_steps=4)


# ---- a backward pass that can't be differentiated ----------------------------


class OnceDifferentiableTanh(torch.autograd.Function):
    """Says that its backward pass has no derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return gradient * (1 - y * y)


class DetachingTanh(torch.autograd.Function):
    """Does not say it: its backward pass leaves PyTorch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        slope = 1 - y.detach().numpy() ** 2
        return torch.from_numpy(gradient.detach().numpy() * slope)


class Custom(nn.Module):
    def __init__(self, function: Any, residual: bool) -> None:
        super().__init__()
        self.function = function
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function.apply(x)
        return x + y if self.residual else y


class TanhLayer(nn.Module):
    def __init__(self, residual: bool) -> None:
        super().__init__()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + x.tanh() if self.residual else x.tanh()


@pytest.mark.parametrize("function", [OnceDifferentiableTanh, DetachingTanh])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("tolerance", [None, 1e-9])
def test_functions_without_second_derivative_go_in_reverse(
    function: Any, residual: bool, tolerance: Optional[float]
) -> None:
    custom = Smooth(Custom(function, residual)).double()
    plain = Smooth(TanhLayer(residual)).double()
    # Two features against five embedding dimensions would go forward.
    mask = torch.tensor([[0, 0, 0, 1, 1, 1]])
    arguments = dict(
        inputs=vectors().double(), feature_mask=mask, n_steps=64, tolerance=tolerance
    )
    found = IntegratedJacobian(custom).attribute(**arguments)
    expected = IntegratedJacobian(plain).attribute(**arguments)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    at_layer = LayerIntegratedJacobian(custom, custom.enter)
    plain_layer = LayerIntegratedJacobian(plain, plain.enter)
    arguments["feature_mask"] = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])
    torch.testing.assert_close(
        at_layer.attribute(**arguments),
        plain_layer.attribute(**arguments),
        rtol=0,
        atol=1e-10,
    )
    forced = IntegratedJacobian(custom, direction="forward")
    with pytest.raises(InvalidArgumentError, match="direction"):
        forced.attribute(vectors().double(), n_steps=4)


@pytest.mark.parametrize("function", [OnceDifferentiableTanh, DetachingTanh])
@pytest.mark.parametrize("residual", [False, True])
def test_their_residual_is_true_as_well(function: Any, residual: bool) -> None:
    custom = Smooth(Custom(function, residual)).double()
    plain = Smooth(TanhLayer(residual)).double()
    x = vectors().double()
    found = IntegratedJacobian(custom).choose_steps(x, tolerance=1e-6)
    expected = IntegratedJacobian(plain).choose_steps(x, tolerance=1e-6)
    assert found.n_steps.tolist() == expected.n_steps.tolist()
    assert int(found.n_steps.min()) > 4
    torch.testing.assert_close(found.residual, expected.residual, rtol=1e-4, atol=1e-12)


# ---- CUDA --------------------------------------------------------------------


needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"
)


@needs_cuda
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float64, 1e-9),
        # cuDNN convolves in TF32 unless told otherwise.
        (torch.float32, 5e-3),
        (torch.float16, 2e-2),
        (torch.bfloat16, 1e-1),
    ],
)
@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
def test_cuda_agrees_with_the_cpu(
    dtype: torch.dtype, tolerance: float, direction: Optional[str]
) -> None:
    clip = tiny_clip(dtype)
    model = copy.deepcopy(clip.model)
    wide = torch.promote_types(dtype, torch.float32)
    exact = TinyClip(model.to(wide), blocks_of(model)).attribute(images(dtype).to(wide))
    clip.model.cuda()
    found = clip.attribute(images(dtype).cuda(), direction=direction)
    assert found.is_cuda
    assert relative_error(found, exact) <= tolerance


@needs_cuda
def test_cuda_autocast_and_checkpointing() -> None:
    clip = tiny_clip()
    exact = clip.attribute(images())
    clip.model.cuda()
    with torch.autocast("cuda", torch.bfloat16):
        found = clip.attribute(images().cuda())
    assert 1e-5 < relative_error(found, exact) <= 0.1
    # On CUDA a checkpointed block runs again in a thread of autograd's.
    plain, encoder = Checkpointed(False).cuda(), Checkpointed(True).cuda()
    for direction in ("forward", "reverse"):
        expected, found = (
            LayerIntegratedJacobian(
                module, module.blocks[1], direction=direction
            ).attribute(vectors().cuda(), n_steps=6)
            for module in (plain, encoder)
        )
        assert relative_error(found, expected) <= 1e-4


@needs_cuda
def test_encoders_on_two_devices() -> None:
    clip = tiny_clip()
    exact = clip.attribute(images())
    clip.model.vision_model.cuda()
    clip.model.visual_projection.cuda()
    fpig = LayerFeaturePairIntegratedGradients(clip.encoders, clip.layers)
    found = fpig.attribute((images().cuda(), IDS), (None, BASELINE_IDS), n_steps=6)
    assert relative_error(found, exact) <= 5e-3
