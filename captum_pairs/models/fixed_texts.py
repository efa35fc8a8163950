"""Texts as CLIP's first authors read them: byte pairs, in a context of fixed length."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Optional

from captum_pairs.models.encoder import Feature
from captum_pairs.models.texts import (
    PADDING,
    PreparedText,
    text_source,
    TextEncoder,
    without_words,
)
from captum_pairs.models.vocabulary import check_ids
from captum_pairs.models.words import offsets_of
from torch import nn, Tensor

__all__ = ["byte_pair_tokens", "pad_tokens", "Reading", "ReadTextEncoder"]


class Reading(NamedTuple):
    """
    A text as a tokenizer reads it.

    Args:
        ids: (1, n).
        tokens: of every position (see :class:`PreparedText`).
        padding: the id of the padding token.
    """

    ids: Tensor
    tokens: tuple[Feature, ...]
    padding: int


class ReadTextEncoder(TextEncoder):
    """
    A text through a tokenizer of its own and a network.

    The baseline has the special tokens where they are, and padding instead of words.
    """

    def __init__(
        self,
        module: nn.Module,
        embed: Callable[[Tensor], Tensor],
        read: Callable[[str], Reading],
        blocks: Sequence[nn.Module],
        entrance: nn.Module,
    ) -> None:
        """
        Args:
            module: what the network is a part of.
            embed: token ids (b, n) to embeddings (b, k).
            read: tokenises, and refuses a text that is too long.
            blocks: of the network.
            entrance: its word embedding.
        """
        self.module = module
        self.blocks = list(blocks)
        self.entrance = entrance
        self._embed = embed
        self._read = read

    def tokenize(self, text: str) -> PreparedText:
        ids, tokens, padding = self._read(text)
        check_ids(ids, self.entrance)
        return PreparedText(
            ids,
            without_words(ids, tokens, padding),
            text_source(text),
            "its special tokens with padding between",
            tokens=tokens,
        )

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        return self._embed(inputs, *arguments)


def byte_pair_tokens(
    text: str, ids: Sequence[int], tokenizer: Any, special: Collection[int]
) -> tuple[Feature, ...]:
    """
    The tokens of CLIP's byte-level encoding, which tells no offsets.

    Args:
        text: what was tokenised.
        ids: without padding.
        tokenizer: with the ``decoder`` and ``byte_decoder`` of CLIP's SimpleTokenizer.
        special: ids of special tokens.
    """
    names = [tokenizer.decoder[index] for index in ids]
    runs, surfaces = _runs(names, [index in special for index in ids], tokenizer)
    spans = offsets_of(text, surfaces)
    return tuple(
        Feature(names[at], surface is None, None if surface is None else span)
        for run, surface, span in zip(runs, surfaces, spans)
        for at in run
    )


def _runs(
    names: Sequence[str], special: Sequence[bool], tokenizer: Any
) -> tuple[list[list[int]], list[Optional[str]]]:
    """Tokens whose bytes are whole characters together, with these characters; special
    ones with None."""
    runs: list[list[int]] = []
    surfaces: list[Optional[str]] = []
    pending = b""
    for at, (name, is_special) in enumerate(zip(names, special)):
        if is_special:
            runs.append([at])
            surfaces.append(None)
            pending = b""
            continue
        # the bytes of one character may be several tokens: they are found as one
        if pending:
            runs[-1].append(at)
        else:
            runs.append([at])
            surfaces.append("")
        letters = name.removesuffix("</w>")
        pending += bytes(tokenizer.byte_decoder[letter] for letter in letters)
        try:
            surfaces[-1] = pending.decode()
            pending = b""
        except UnicodeDecodeError:
            surfaces[-1] = pending.decode(errors="ignore")
    return runs, surfaces


def pad_tokens(tokens: Sequence[Feature], length: int) -> tuple[Feature, ...]:
    """Tokens with padding behind them, as many as `length`."""
    more = length - len(tokens)
    return (*tokens, *[Feature(PADDING, special=True)] * more)
