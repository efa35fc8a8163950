"""Small encoders in float64, where every comparison can be tight."""

from collections.abc import Callable
from typing import Any, Optional

import pytest
import torch
from torch import nn, Tensor


class TokenEncoder(nn.Module):
    """(b, t, d) -> (b, k): a layer for each token, mixing, masked mean, projection."""

    def __init__(self, d: int = 3, width: int = 4, k: int = 5) -> None:
        super().__init__()
        self.front = nn.Linear(d, width)
        self.block = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.head = nn.Linear(width, k)

    def forward(
        self, x: Tensor, mask: Optional[Tensor] = None, power: float = 1.0
    ) -> Tensor:
        hidden = torch.tanh(self.front(x))
        attention = (hidden @ hidden.transpose(-1, -2)).softmax(dim=-1)
        hidden = self.block(hidden + attention @ hidden)
        if mask is None:
            mask = hidden.new_ones(1, hidden.shape[1])
        weights = mask / mask.sum(dim=-1, keepdim=True)
        return self.head((weights.unsqueeze(-1) * hidden).sum(dim=1)) ** power


@pytest.fixture
def mlp() -> Callable[..., nn.Sequential]:
    """Makes a smooth encoder (b, d) -> (b, k)."""

    def make(d: int, k: int = 4, width: int = 5) -> nn.Sequential:
        layers = nn.Linear(d, width), nn.Tanh(), nn.Linear(width, k)
        return nn.Sequential(*layers).double()

    return make


@pytest.fixture
def token_encoder() -> Callable[..., TokenEncoder]:
    """Makes a smooth encoder (b, t, d) -> (b, k) with an optional mask (b, t)."""
    return lambda **sizes: TokenEncoder(**sizes).double().eval()


@pytest.fixture
def encoders(mlp: Any) -> tuple[nn.Module, nn.Module]:
    """(b, 3) -> (b, 4) and (b, 2) -> (b, 4)."""
    return mlp(3), mlp(2)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    """(2, 3) and (2, 2), for ``encoders``."""
    return torch.randn(2, 3).double(), torch.randn(2, 2).double()


@pytest.fixture
def baselines() -> tuple[Tensor, Tensor]:
    """(2, 3) and (1, 2), for ``encoders``."""
    return 0.5 * torch.randn(2, 3).double(), 0.5 * torch.randn(1, 2).double()


@pytest.fixture
def cnn() -> nn.Sequential:
    """(b, 2, 8, 8) -> (b, 4); the value of layer 0 is (b, 3, 4, 4)."""
    return nn.Sequential(
        nn.Conv2d(2, 3, 2, 2),
        nn.Tanh(),
        nn.Conv2d(3, 2, 2, 2),
        nn.Softplus(),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).double()
