"""
Late interaction: two encoders of tokens, compared token by token (MaxSim).

    s(x, y) = scale * sum_q max_d <g_q(x), h_d(y)>

over the query's output tokens q and the document's d that the model's score counts.
With the maxima's places fixed it is one inner product of two vectors: the query's
tokens one behind the other, and for each of them the document's that it was assigned
to. Such a pair of encoders is an ordinary :class:`EncoderPair`.
"""

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, TypeVar

from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.encoder import Encoder, Prepared
from captum_pairs.models.encoder_pair import EncoderPair
from torch import Tensor

__all__ = ["LateInteractionPair", "MAXSIM", "OutputTokens", "TokenEncoder"]

# What the score is called.
MAXSIM = "maxsim"

Self = TypeVar("Self", bound="TokenEncoder")


class OutputTokens(NamedTuple):
    """
    Which of the T vectors that an encoder makes of an input the model's score counts.

    What each of them lies on the input's layout says, as of any value (1, T, k).

    Args:
        scored: (T,), bool.
        scored_at_baseline: (T,), the same of the input's baseline.
    """

    scored: Tensor
    scored_at_baseline: Tensor


class _Chosen(NamedTuple):
    """Output tokens, one behind the other, each times a factor; None for all."""

    places: Optional[Tensor]
    factor: float = 1.0


class TokenEncoder(Encoder):
    """
    One side of a late interaction: an input becomes a vector for each output token.

    It has no embedding of its own, since which tokens are compared belongs to the pair;
    :meth:`choosing` has one.
    """

    _chosen: Optional[_Chosen] = None

    @abstractmethod
    def token_embeddings(self, inputs: Tensor, *arguments: Any) -> Tensor:
        """
        What the model makes of prepared inputs, by its own forward pass.

        Args:
            inputs: (b, ...) as prepared, or points of a path between.
            *arguments: as prepared.

        Returns:
            (b, T, k).
        """

    @abstractmethod
    def output_tokens(self, prepared: Any) -> OutputTokens:
        """Which of a prepared input's T output tokens count."""

    def choosing(
        self: Self, places: Optional[Tensor] = None, factor: float = 1.0
    ) -> Self:
        """
        The encoder whose embedding is some of the output tokens, one behind the other.

        Args:
            places: (q,), int64, the tokens, of which some may come several times.
                Default: all.
            factor: they are multiplied by.
        """
        chosen = copy.copy(self)
        chosen._chosen = _Chosen(places, factor)
        return chosen

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        """
        Embeddings (b, q * k) of the chosen output tokens.

        Raises:
            InvalidArgumentError: naming ``model``, if none were chosen.
        """
        if self._chosen is None:
            raise InvalidArgumentError(
                "model",
                "an encoder with one embedding for an input",
                "late interaction (MaxSim), in which each pair of inputs has an "
                "assignment of tokens of its own: explain, contrast and compare take "
                "it, pair by pair",
            )
        tokens = self.token_embeddings(inputs, *arguments)
        places, factor = self._chosen
        if places is not None:
            tokens = tokens[:, places.to(tokens.device)]
        return factor * tokens.flatten(1)  # (b, q, k) -> (b, q * k)


@dataclass(frozen=True)
class LateInteractionPair(EncoderPair):
    """
    Two encoders of tokens, compared by MaxSim.

    Args:
        name, first, second, heads, similarity: as of an :class:`EncoderPair`; both
            encoders are :class:`TokenEncoder`, and the similarity "maxsim".
        query: 0 or 1, which input's tokens look for the nearest of the other one's.
        mean: whether the score is divided by the number of the query's tokens.
    """

    similarity: str = MAXSIM
    query: int = 0
    mean: bool = False

    def choosing(
        self,
        places: tuple[Optional[Tensor], Optional[Tensor]] = (None, None),
        factor: float = 1.0,
    ) -> EncoderPair:
        """
        Encoders whose embeddings are some of their output tokens, as a pair of one
        inner product.

        Args:
            places: of the first and the second input, each (q,), or None for all.
            factor: the inner product is multiplied by.
        """
        first, second = self.first, self.second
        assert isinstance(first, TokenEncoder) and isinstance(second, TokenEncoder)
        return EncoderPair(
            self.name,
            first.choosing(places[0], factor),
            second.choosing(places[1]),
            self.heads,
            similarity="dot",
        )

    def tokens_of(self, at: int, prepared: Prepared) -> OutputTokens:
        """The output tokens of the first (0) or second (1) input."""
        encoder = (self.first, self.second)[at]
        assert isinstance(encoder, TokenEncoder)
        return encoder.output_tokens(prepared)
