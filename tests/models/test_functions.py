"""Two functions as a dual encoder, against sums written out."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import from_functions
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.testing import BrokenContractError, check_encoder
from PIL import Image
from torch import nn, Tensor


class _Words(nn.Module):
    """Token ids (b, n), and a mask, to embeddings (b, 4)."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embedding = nn.Embedding(9, 5)
            self.mix = nn.Linear(5, 4)

    def encode(self, ids: Tensor, mask: Any = None) -> Tensor:
        values = torch.tanh(self.mix(self.embedding(ids)))
        if mask is not None:
            values = values * mask[..., None]
        return values.sum(1)


class _Pixels(nn.Module):
    """(b, 3, 4, 6) to (b, 4), by way of a map of 2 x 3."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.conv = nn.Conv2d(3, 5, 2, stride=2)
            self.head = nn.Linear(5, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        values: Tensor = self.head(torch.tanh(self.conv(pixels)).mean((2, 3)))
        return values


VOCABULARY = {"a": 1, "red": 2, "dog": 3, "circle": 4}
PIXELS = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(2))


def _ids(text: str) -> Tensor:
    return torch.tensor([VOCABULARY[word] for word in text.split()])


def _total(found: Any) -> float:
    parts = (found.first_effects, found.second_effects, found.interactions)
    return found.constant + sum(float(part.double().sum()) for part in parts)


def _cosine(first: Tensor, second: Tensor) -> float:
    return float(nn.functional.cosine_similarity(first, second).detach())


def test_five_lines() -> None:
    words, pixels = _Words(), _Pixels()
    model = from_functions(
        pixels,
        words.encode,
        layers=(None, words.embedding),
        prepare=(None, _ids),
        names=(None, str.split),
        scale=3.0,
        bias=-1.0,
    )
    found = model.explain(PIXELS, "a red dog", tolerance=1e-6)
    own = _cosine(pixels(PIXELS[None]), words.encode(_ids("a red dog")[None]))
    assert found.score == pytest.approx(own, abs=1e-6)
    assert _total(found) == pytest.approx(own, abs=1e-5)
    assert model.heads[0](found.score) == pytest.approx(3 * own - 1, abs=1e-5)
    assert found.interactions.shape == (24, 3)
    assert found.first.grid == (4, 6) and found.second.names == ("a", "red", "dog")
    assert found.first.names[:2] == ("(0, 0)", "(0, 1)")
    assert found.first.names[-1] == "(3, 5)"
    assert found.second.layer == "output of Embedding"
    assert (model.first.module, model.second.module) == (pixels, words)
    assert found.second.source.text == "a red dog"


def test_linear_functions_by_hand() -> None:
    left, right = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[2.0, 0.5]])
    model = from_functions(
        lambda x: x @ left,
        lambda y: y @ right,
        baselines=(1.0, None),
        names=(["height", "age"], None),
        similarity="dot",
    )
    x, y = torch.tensor([3.0, 5.0]), np.array([2.0], dtype=np.float32)
    found = model.explain(x, y)
    # c_i = (x_i - 1) row_i, against y right = (4, 1)
    expected = torch.tensor([[2 * (4 * 1 + 1 * 2)], [4 * (4 * 0 + 1 * -1)]])
    torch.testing.assert_close(found.interactions, expected.float())
    assert found.first.names == ("height", "age")
    assert found.second.names == ("position 0",)
    assert found.first.baseline == "1 everywhere" and found.second.baseline == "zeros"
    # g(r_x) = (1, 1), and h(0) = 0
    torch.testing.assert_close(found.second_effects, torch.tensor([4.0 + 1.0]))
    assert found.constant == 0 and not found.first_effects.any()
    assert found.score == pytest.approx(3 * 4 + (6 - 5) * 1)
    assert str(found.first.source) == "tensor"


def test_the_layer_can_be_chosen_later() -> None:
    words, pixels = _Words(), _Pixels()
    model = from_functions(pixels, words.encode)
    found = model.explain(
        PIXELS, _ids("red circle"), layer=(pixels.conv, words.embedding), tolerance=1e-6
    )
    assert found.first.grid == (2, 3) and found.interactions.shape == (6, 2)
    assert found.second.names == ("position 0", "position 1")
    assert _total(found) == pytest.approx(found.score, abs=1e-5)
    found = model.explain(
        PIXELS, _ids("red"), layer=("input", words.mix), tolerance=1e-6
    )
    assert found.interactions.shape == (24, 1)


def test_whole_numbers_need_a_layer() -> None:
    model = from_functions(_Pixels(), _Words().encode)
    with pytest.raises(InvalidArgumentError, match="layers: expected a layer for inp"):
        model.explain(PIXELS, _ids("a dog"))


def test_what_else_an_encoder_takes() -> None:
    words = _Words()
    masked = (_ids("a red dog"), (torch.tensor([[1.0, 0.0, 1.0]]),))
    model = from_functions(
        words.encode,
        words.encode,
        layers=(words.embedding, words.embedding),
        prepare=(lambda raw: masked, lambda raw: (_ids(raw), ())),
    )
    found = model.explain("anything", "a dog", tolerance=1e-6)
    own = words.encode(masked[0][None], *masked[1])
    assert found.score == pytest.approx(
        _cosine(own, words.encode(_ids("a dog")[None])), abs=1e-6
    )
    # nothing is read where the mask says so
    assert not found.interactions[1].any() and found.interactions[0].any()
    assert _total(found) == pytest.approx(found.score, abs=1e-5)


def test_one_function_is_a_siamese_encoder() -> None:
    words, pixels = _Words(), _Pixels()
    assert from_functions(pixels, pixels).first.module is pixels
    for model in (
        from_functions(pixels, pixels),
        from_functions(words.encode, words.encode),
        from_functions(pixels, pixels, layers=(pixels.conv, pixels.conv)),
    ):
        assert model.first is model.second
    model = from_functions(pixels, pixels, layers=(pixels.conv, None))
    assert model.first is not model.second


@pytest.mark.parametrize(
    "shape, layout, names, grid",
    [
        ((1, 3), (1, 3), ["position 0", "position 1", "position 2"], None),
        ((2, 3), (1, 2, 1), ["position 0", "position 1"], None),
        ((5,), (1, 5), [f"position {n}" for n in range(5)], None),
        ((), (1, 1), ["position 0"], None),
        ((3, 1, 2), (1, 1, 1, 2), ["(0, 0)", "(0, 1)"], (1, 2)),
        ((1, 3, 2, 1), (1, 1, 2, 1), ["(0, 0)", "(1, 0)"], (2, 1)),
        ((4, 1, 2, 1), (1, 1, 1, 2, 1), ["(0, 0, 0)", "(0, 1, 0)"], None),
    ],
)
def test_positions(
    shape: tuple[int, ...], layout: tuple[int, ...], names: list[str], grid: Any
) -> None:
    encoder = from_functions(torch.sin, torch.sin).first
    prepared = encoder.prepare(torch.ones(shape))
    found = prepared.layout(tuple(prepared.inputs.shape), True, False)
    assert prepared.inputs.shape[0] == 1
    assert tuple(found.mask.shape) == layout
    assert [feature.name for feature in found.features] == names
    assert found.grid == grid


def test_tokens_before_the_batch() -> None:
    encoder = from_functions(torch.sin, torch.sin).first
    found = encoder.prepare(torch.ones(1, 4)).layout((7, 1, 5), False, False)
    assert tuple(found.mask.shape) == (7, 1, 1) and len(found.features) == 7


def test_baselines() -> None:
    start = torch.full((2, 1), 0.5)

    def mean(x: Tensor) -> Tensor:
        return x.mean(-1, keepdim=True)

    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    for baseline, expected, name in (
        (None, torch.zeros(1, 2, 2), "zeros"),
        (2, torch.full((1, 2, 2), 2.0), "2 everywhere"),
        (start, torch.full((1, 2, 2), 0.5), "a given tensor"),
        (mean, torch.tensor([[[1.5, 1.5], [4.5, 4.5]]]), "mean"),
    ):
        encoder = from_functions(torch.sin, torch.sin, baselines=(baseline, None)).first
        prepared = encoder.prepare(x)
        torch.testing.assert_close(prepared.baseline, expected)
        assert prepared.baseline_name == name
        assert prepared.inputs.shape == prepared.baseline.shape


def test_an_image_is_what_prepare_makes_of_it() -> None:
    def pixels(image: Image.Image) -> Tensor:
        return torch.from_numpy(np.asarray(image) / 255.0).float().permute(2, 0, 1)

    net = _Pixels()
    model = from_functions(net, net, prepare=(pixels, pixels))
    assert model.first is model.second
    dark, light = (Image.new("RGB", (6, 4), color) for color in ("navy", "wheat"))
    found = model.explain(dark, light, tolerance=1e-6)
    own = _cosine(net(pixels(dark)[None]), net(pixels(light)[None]))
    assert found.score == pytest.approx(own, abs=1e-6)
    assert _total(found) == pytest.approx(own, abs=1e-5)


def test_modules_are_found_and_left_as_they_are() -> None:
    net = _Pixels().train()
    functions = (
        net,
        net.forward,
        partial(net),
        partial(net.forward),
        lambda pixels: net(pixels) * 2,
    )
    for function in functions:
        model = from_functions(function, torch.sin)
        assert model.first.module is net and model.second.module is None
    before = {key: value.clone() for key, value in net.state_dict().items()}
    PIXELS.requires_grad_(False)
    from_functions(net, net).explain(PIXELS, PIXELS + 1)
    assert net.training and all(p.requires_grad for p in net.parameters())
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])
    assert PIXELS.grad is None and not PIXELS.requires_grad


def test_a_precision_stays() -> None:
    net = _Pixels().double()
    found = from_functions(net, net).explain(
        PIXELS.double(), PIXELS.double() + 1, tolerance=1e-10
    )
    assert found.interactions.dtype == torch.float64
    assert _total(found) == pytest.approx(found.score, abs=1e-9)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"similarity": "euclidean"}, "similarity: expected one of 'cosine', 'dot'"),
        ({"layers": nn.Linear(1, 1)}, "layers: expected a pair"),
        ({"layers": (1, 2)}, "layers: expected modules or None"),
        ({"prepare": (1, None)}, "prepare: expected a function"),
        ({"prepare": torch.sin}, "prepare: expected a pair"),
        ({"baselines": 0.0}, "baselines: expected a pair"),
        ({"names": ("ab", None)}, "names: expected a list of names"),
        ({"scale": "big"}, "scale: expected a number"),
        ({"bias": float("nan")}, "bias: expected a finite number"),
        ({"encode_second": 3}, "encode: expected a function"),
    ],
)
def test_settings_that_can_not_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        from_functions(
            **{"encode_first": torch.sin, "encode_second": torch.sin, **settings}
        )


@pytest.mark.parametrize(
    "settings, raw, message",
    [
        ({}, "a text", "input: expected a tensor or an array.*give prepare="),
        ({}, torch.ones(0, 2), "input: expected a tensor or an array with something"),
        ({"prepare": (str, None)}, "a text", "prepare: expected a tensor"),
        ({"prepare": (lambda x: (x, 1, 2), None)}, 1, "prepare: .*tensor, arguments"),
        ({"baselines": (torch.ones(3), None)}, torch.ones(2), "baselines: .*expanded"),
        ({"baselines": ("zero", None)}, torch.ones(2), "baselines: expected a number"),
        ({"names": (["one"], None)}, torch.ones(2), "names: .*2 features, got 1 names"),
    ],
)
def test_inputs_that_can_not_be_used(
    settings: dict[str, Any], raw: Any, message: str
) -> None:
    model = from_functions(torch.sin, torch.sin, **settings)
    with pytest.raises(InvalidArgumentError, match=message):
        model.explain(raw, torch.ones(2))


def test_the_contract() -> None:
    words, pixels = _Words(), _Pixels()
    model = from_functions(
        pixels, words.encode, layers=(None, words.embedding), prepare=(None, _ids)
    )

    def own(image: Tensor, text: str) -> float:
        return _cosine(pixels(image[None]), words.encode(_ids(text)[None]))

    examples = [PIXELS, PIXELS.flip(1)], ["a red dog", "a circle"]
    check_encoder(model, examples, score=own)
    with pytest.raises(BrokenContractError, match="similarity is the model's own, 1"):
        check_encoder(model, examples, score=lambda image, text: 1.0)
    with pytest.raises(BrokenContractError, match="inputs of the first side are given"):
        check_encoder(model)
