"""Whether a tokenizer knows words, or has lost its vocabulary on the way."""

from collections.abc import Sequence
from typing import Any

from captum_pairs.models.errors import ModelUnavailableError, TextLengthError
from torch import nn, Tensor

__all__ = ["check_ids", "check_vocabulary"]

# Frequent words of several languages: a tokenizer knows most of one of these rows.
_FREQUENT = (
    "a the of",
    "de la que",
    "der die und",
    "и в на",
    "的 一 是 在",
    "の に は",
    "은 는 이",
    "من في على",
    "के है में",
    "a b c d e",
)


def check_vocabulary(tokenizer: Any) -> None:
    """
    Refuse a tokenizer of transformers to which every word is unknown: without its files
    it is made nevertheless, with nothing but special tokens.

    Raises:
        ModelUnavailableError: naming ``tokenizer``.
    """
    special = {*getattr(tokenizer, "all_special_ids", ())}
    for words in _FREQUENT:
        ids: Sequence[int] = tokenizer(words, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        known = [number for number in ids if number not in special]
        # an unknown word may be a token for each of its letters, or none at all
        if len(known) > len(ids) / 2:
            return
    raise ModelUnavailableError(
        "tokenizer",
        "one with its vocabulary, to which frequent words are known (are the files "
        "tokenizer.json, vocab.txt, vocab.json or a SentencePiece model missing?)",
        f"{type(tokenizer).__name__} with {len(tokenizer)} tokens that knows none",
    )


def check_ids(ids: Tensor, entrance: Any) -> None:
    """
    Refuse token ids that the model has no embedding for.

    Raises:
        TextLengthError: naming ``tokenizer``.
    """
    if isinstance(entrance, nn.Embedding) and ids.numel():
        largest = int(ids.max())
        if largest >= entrance.num_embeddings:
            raise TextLengthError(
                "tokenizer",
                f"the model's own, with ids below {entrance.num_embeddings}",
                f"a token of id {largest}",
            )
