"""What every encoder of texts has in common: words, special tokens, baselines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Optional

import torch
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.encoder import (
    Encoder,
    Feature,
    Layer,
    Layout,
    PADDING,
    Prepared,
    Source,
    TEXT,
)
from captum_pairs.models.errors import TextLengthError
from captum_pairs.models.removal import WordsLeft
from captum_pairs.models.words import Group, join_tokens, token_groups, word_spans
from torch import nn, Tensor

__all__ = [
    "check_length",
    "check_text",
    "PADDING",
    "PreparedText",
    "text_source",
    "TextEncoder",
    "without_words",
]

# What stands in the place of each word's tokens, by the baseline's name.
_PADDED, _MASKED = "padding", "mask"


@dataclass(frozen=True)
class PreparedText(Prepared):
    """
    A text as its encoder takes it.

    Args:
        tokens: of every position its name, and its characters or that it is special.
        appended: the name of tokens that the model itself puts behind these.
    """

    tokens: tuple[Feature, ...] = ()
    appended: str = "class token"

    @property
    def text(self) -> str:
        """As it was written."""
        return self.source.text

    def layout(self, shape: Sequence[int], at_input: bool, tokens: bool) -> Layout:
        """Words (or tokens), then special tokens."""
        if len(shape) == 2:
            whole = Feature("whole text", span=(0, len(self.text)))
            return Layout((whole,), torch.zeros(1, 1, dtype=torch.int64))
        axis = 1 if shape[0] == 1 else 0
        count = int(shape[axis])
        if len(shape) != 3 or count < len(self.tokens):
            raise InvalidArgumentError(
                "layer",
                f"a layer whose value has a place for each token ({len(self.tokens)})",
                f"a value of shape {tuple(shape)}",
            )
        more = count - len(self.tokens)
        every = (*self.tokens, *[Feature(self.appended, special=True)] * more)
        groups = token_groups(every) if tokens else join_tokens(self.text, every)
        mask = torch.zeros(count, dtype=torch.int64)
        for index, group in enumerate(groups):
            mask[list(group.positions)] = index
        mask_shape = [1] * 3
        mask_shape[axis] = count
        return Layout(
            tuple(group.feature for group in groups), mask.reshape(mask_shape)
        )

    def embed_what_is_left(
        self, encoder: Encoder, layer: Layer, layout: Layout
    ) -> Callable[[Tensor], Tensor]:
        """Words are taken out of the token ids."""
        return WordsLeft(encoder, self, self.tokens, layout)

    def groups(self) -> tuple[Group, ...]:
        """Words with the positions of their tokens, then special tokens."""
        return join_tokens(self.text, self.tokens)


class TextEncoder(Encoder):
    """Base of the encoders of texts."""

    kind = TEXT
    # By default a text is attributed to the first block's input, where a token is its
    # own word only.
    default_block: Optional[int] = 0

    @cached_property
    def baselines(self) -> tuple[str, ...]:  # type: ignore[override]  # of each model
        """Padding in the place of each word's tokens, or the mask token."""
        return (_PADDED,) if self.mask_id is None else (_PADDED, _MASKED)

    @cached_property
    def mask_id(self) -> Optional[int]:
        """The mask token's, if a tokenizer of transformers has one for which the model
        has an embedding (CLIP's has none)."""
        tokenizer: Any = getattr(self, "tokenizer", None)
        mask: Optional[int] = getattr(tokenizer, "mask_token_id", None)
        if mask is None or mask == tokenizer.unk_token_id:
            return None
        table = self.entrance
        is_known = isinstance(table, nn.Embedding) and mask < table.num_embeddings
        return mask if is_known else None

    def prepare(self, raw: str, baseline: Optional[str] = None) -> PreparedText:
        """
        A text as the model takes it.

        Raises:
            TextLengthError: if it is empty, or has more tokens than the model reads.
        """
        name = self.check_baseline(baseline)
        check_text(raw)
        prepared = self.tokenize(raw)
        if name != _MASKED or self.mask_id is None:
            return prepared
        return replace(
            prepared,
            baseline=without_words(prepared.inputs, prepared.tokens, self.mask_id),
            baseline_name="its special tokens with mask tokens between",
        )

    def tokenize(self, text: str) -> PreparedText:
        """A text that is not empty as the model takes it."""
        raise NotImplementedError(f"{type(self).__name__}.tokenize")


def check_text(text: object) -> None:
    """Refuse what is no text, or has nothing in it."""
    if not isinstance(text, str):
        raise TextLengthError("text", "a string", type(text).__name__)
    if not word_spans(text):
        raise TextLengthError("text", "at least one word", "an empty text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TextLengthError(
            "text",
            "whole characters",
            f"half of one (a lone surrogate) at {error.start}",
        ) from error


def check_length(tokens: Sequence[Feature], longest: int) -> None:
    """Refuse a text of which the model would not read the end, or that has no token."""
    count = sum(token.name != PADDING for token in tokens)
    if all(token.special for token in tokens):
        raise TextLengthError("text", "at least one word", "an empty text")
    if count > longest:
        special = sum(token.special and token.name != PADDING for token in tokens)
        cut = [token for token in tokens if not token.special][longest - special :]
        raise TextLengthError(
            "text",
            f"at most {longest} tokens, the {special} special ones included",
            f"{count} tokens; from “{cut[0].name}” on it would not be read",
        )


def text_source(text: str) -> Source:
    """What an explanation remembers of a text."""
    return Source(TEXT, text=text)


def without_words(ids: Tensor, tokens: Sequence[Feature], filler: int) -> Tensor:
    """The special tokens where they are, and one token (padding, or the mask) instead
    of the others: (1, n)."""
    special = torch.tensor([[token.special for token in tokens]], device=ids.device)
    return torch.where(special, ids, torch.full_like(ids, filler))
