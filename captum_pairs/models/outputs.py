"""The embeddings among what a model gives out."""

from collections.abc import Mapping
from typing import Any

from captum_pairs.attr import InvalidArgumentError, validation
from torch import Tensor

__all__ = ["embeddings_of"]

# Where outputs of transformers and of sentence-transformers hold them.
_NAMES = ("pooler_output", "sentence_embedding", "image_embeds", "text_embeds")


def embeddings_of(output: Any, argument: str = "encode") -> Tensor:
    """
    Embeddings (b, k): the output itself, or in an output object or a dictionary its
    ``pooler_output``, ``sentence_embedding``, ``image_embeds`` or ``text_embeds``.

    Args:
        output: what an encoder returned.
        argument: the name for an error.

    Raises:
        InvalidArgumentError: if there are no such embeddings.
    """
    if isinstance(output, Tensor):
        return output
    parts: Mapping[str, Any] = output if isinstance(output, Mapping) else {}
    for name in _NAMES:
        found = parts.get(name, getattr(output, name, None))
        if isinstance(found, Tensor):
            return found
    came = validation.describe(output)
    if parts:
        came = f"{type(output).__name__} with {', '.join(map(str, parts))}"
    raise InvalidArgumentError(
        argument,
        "embeddings (b, k), as a tensor or as pooler_output of what is returned (else "
        "give a function that takes them out)",
        came,
    )
