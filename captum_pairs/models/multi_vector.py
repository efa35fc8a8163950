"""Late interaction of texts: the ``MultiVectorEncoder`` of sentence-transformers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import sentence_transformers
import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.checkpoints import check_pointer
from captum_pairs.models.encoder import Feature
from captum_pairs.models.encoder_pair import EncoderPair, Head
from captum_pairs.models.errors import loading, ModelUnavailableError
from captum_pairs.models.inner_weights import check_found, weights_found
from captum_pairs.models.late_interaction import (
    LateInteractionPair,
    OutputTokens,
    TokenEncoder,
)
from captum_pairs.models.remote_code import never_asked
from captum_pairs.models.sentences import (
    check_code,
    copies,
    is_a,
    listed_modules,
    name_of,
    SentenceEncoder,
)
from captum_pairs.models.texts import PreparedText
from torch import Tensor

# None before version 6
MultiVectorEncoder: Any = getattr(sentence_transformers, "MultiVectorEncoder", None)

__all__ = ["adopt_multi_vector", "load_multi_vector", "MultiVectorTextEncoder"]

# The feature that tokens are which the model itself appends to a query ([MASK]).
EXPANSION = "query expansion"
_APPENDED = "query_expansion_positions"
# PyLate's, which sentence-transformers loads as modules of its own.
_OWN = ("pylate.models.Dense.Dense",)


class MultiVectorTextEncoder(TokenEncoder, SentenceEncoder):
    """
    A text to vectors of its tokens.

    What the model reads (its prefix, its length, what it appends to a query) and which
    tokens it counts (no punctuation of a document, if it skips that) is what its own
    ``encode_query`` or ``encode_document`` does.
    """

    def __init__(self, model: Any, task: str) -> None:
        """
        Args:
            model: a MultiVectorEncoder in evaluation mode.
            task: "query" or "document".

        Raises:
            ModelUnavailableError: if no transformer reads the text.
        """
        # at the first block's input a token is its own word only; at the last one's it
        # has read nearly all that an output token has (docs/late_interaction.md)
        super().__init__(model, task, default_block=0)

    def token_embeddings(self, inputs: Tensor, *arguments: Any) -> Tensor:
        found: Tensor = self._outputs(inputs, *arguments)["token_embeddings"]
        return found

    def output_tokens(self, prepared: PreparedText) -> OutputTokens:
        scored = []
        with torch.no_grad():
            for ids in (prepared.inputs, prepared.baseline):
                found = self._outputs(ids, *prepared.arguments)
                scored.append(found["attention_mask"][0].bool().cpu())
        return OutputTokens(scored[0], scored[1])

    def tokenize(self, text: str) -> PreparedText:
        prepared = super().tokenize(text)
        names, *values = prepared.arguments
        appended = dict(zip(names, values)).get(_APPENDED)
        if appended is None:
            return prepared
        tokens = tuple(
            Feature(EXPANSION, special=True) if flag else token
            for token, flag in zip(prepared.tokens, appended[0].tolist())
        )
        return replace(prepared, tokens=tokens)

    def _attended(self, ids: Tensor, features: dict[str, Any]) -> Tensor:
        # what the model appends is no text, whether it is attended to or not
        attended, appended = super()._attended(ids, features), features.get(_APPENDED)
        return attended if appended is None else attended & ~appended[0].bool()

    def _outputs(self, inputs: Tensor, *arguments: Any) -> dict[str, Any]:
        names, *values = arguments
        features = {"input_ids": inputs, **dict(zip(names, values))}
        found: dict[str, Any] = self._model(copies(features), **self._arguments)
        return found


def _multi_vector(model: Any, name: str) -> EncoderPair:
    """Both sides of a model that was loaded already; it stays as it is, in its mode."""
    if getattr(model, "backend", "torch") != "torch":
        raise ModelUnavailableError(
            "model",
            "a model with derivatives (backend='torch')",
            f"{name}: backend {model.backend!r}",
        )
    if any(is_a(part, "BaseTokenPooling") for part in model):
        raise ModelUnavailableError(
            "model",
            "a late interaction that keeps every token",
            f"{name}: token pooling, which merges a document's tokens into clusters "
            "that are others at each point of a path",
        )
    if getattr(model[0], "transformer_task", None) == "retrieval":
        raise ModelUnavailableError(
            "model",
            "for page images the model of transformers itself (load its directory or "
            "its name, or give load the model and its processor)",
            f"{name}: such a model inside a MultiVectorEncoder",
        )
    kind = str(model.similarity_fn_name)
    sides = (MultiVectorTextEncoder(model, task) for task in ("query", "document"))
    first, second = sides
    mean = kind == "meanmaxsim"
    heads = (Head(kind) if mean else Head(),)
    return LateInteractionPair(name, first, second, heads, mean=mean)


def adopt_multi_vector(model: Any, processor: Any, name: str) -> EncoderPair:
    """
    A ``MultiVectorEncoder`` that is in memory; it stays as it is.

    Raises:
        InvalidArgumentError: naming ``processor``, which it has inside.
        ModelUnavailableError: for another class of the module, or one that pools
            tokens.
    """
    if processor is not None:
        raise InvalidArgumentError(
            "processor",
            "None for a MultiVectorEncoder, which has its tokenizer inside",
            validation.describe(processor),
        )
    if MultiVectorEncoder is None or not isinstance(model, MultiVectorEncoder):
        raise ModelUnavailableError("model", "a MultiVectorEncoder", name)
    return _multi_vector(model, name_of(model))


def load_multi_vector(name: str, source: str) -> EncoderPair:
    """
    A late interaction of texts: the first one is the query, the second the document.

    Args:
        name: what was asked for.
        source: a directory or a name on the hub.

    Raises:
        ModelUnavailableError: see :func:`captum_pairs.models.load`.
    """
    if MultiVectorEncoder is None:
        raise ModelUnavailableError(
            "model",
            "sentence-transformers 6 or later, which has MultiVectorEncoder (pip "
            "install --upgrade sentence-transformers)",
            f"{name} and an older one",
        )
    check_code(name, [each for each in listed_modules(source) if each not in _OWN])
    with loading(name), never_asked(), weights_found() as found:
        check_pointer(Path(source))
        model = MultiVectorEncoder(source, device="cpu", trust_remote_code=False)
    model.float().requires_grad_(False)
    check_found(name, found, lambda: model.encode_query("a", show_progress_bar=False))
    return _multi_vector(model.eval(), name)
