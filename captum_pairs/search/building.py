"""Inputs embedded, and kept as the items of an index."""

import hashlib
import os
from pathlib import Path
from typing import Any, Optional

import torch
from captum_pairs.attr import InvalidArgumentError, Session
from captum_pairs.attr._utils.example import check_norm
from captum_pairs.attr._utils.hooks import observed
from captum_pairs.explain.content import path_of
from captum_pairs.explain.corpus import Run
from captum_pairs.explain.files import as_json
from captum_pairs.explain.sides import InputContributions, matching
from captum_pairs.explain.store import INPUT, Record
from captum_pairs.models.encoder import Prepared, TEXT
from captum_pairs.models.encoder_pair import EncoderPair
from torch import Tensor

__all__ = ["CONTENT", "embedding_of", "Embedding", "FILE", "WORDS"]

# What is written down of an item: a digest of its content, its file, its text.
CONTENT, FILE, WORDS = "content", "file", "text"


def embedding_of(model: EncoderPair, at: int, prepared: Prepared) -> Tensor:
    """
    An input's embedding (k,), normalised if the similarity is the cosine; on the CPU.

    Raises:
        InvalidArgumentError: for one that is not finite, or of norm zero.
    """
    encoder = (model.first, model.second)[at]
    # looks at the modules that run, as for an explanation
    with Session() as session, observed(session), torch.no_grad():
        given = prepared.to(encoder.device)
        found = encoder.embed(given.inputs, *given.arguments)[0].detach().cpu()
        session.warn_if_random()
    found = found.double() if found.dtype == torch.float64 else found.float()
    if not bool(found.isfinite().all()):
        raise InvalidArgumentError(
            "input", "one whose embedding is finite", "NaN or infinity"
        )
    if model.similarity == "cosine":
        check_norm(found, "the input")
        found = found / torch.linalg.vector_norm(found)
    return found


class Embedding(Run):
    """Inputs found among items; what is not there is embedded and put there."""

    computed = "embeddings"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        # of each input the digest under which its contributions are kept
        self.digests: dict[int, bytes] = {}

    def _key(self, place: int, content: Optional[bytes]) -> Optional[bytes]:
        """Of its content and its name: a copy is an item of its own."""
        if content is None:
            return None
        self.digests[place] = content
        name = self.names[place].encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content + name, digest_size=16).digest()

    def _record(self, place: int, prepared: Any) -> Record:
        key = self.contents[place]
        assert key is not None  # what could be prepared has one
        if isinstance(prepared, InputContributions):
            kept = matching(self.model, prepared, self.options, self.at)
            vector = kept.embedding
        else:
            vector = embedding_of(self.model, self.at, prepared)
        rounded = vector.to(self.dtype)
        if not bool(rounded.isfinite().all()):
            raise InvalidArgumentError(
                "dtype", "'float32' for embeddings of this size", "'float16'"
            )
        missed = torch.linalg.vector_norm(rounded.double() - vector.double())
        norm = float(torch.linalg.vector_norm(vector.double())) or 1.0
        return Record(
            key,
            self.names[place],
            as_json(self._told(place)),
            rounded[None],
            torch.zeros(2, 0),
            error=float(missed) / norm,
            kind=INPUT,
            stamp=self.stamps[place] or bytes(16),
        )

    def _told(self, place: int) -> dict[str, Optional[str]]:
        raw = self.corpus[place]
        path = path_of(self.encoder.kind, raw)
        is_text = self.encoder.kind == TEXT and isinstance(raw, str)
        return {
            CONTENT: self.digests[place].hex(),
            FILE: None if path is None else os.path.abspath(Path(path).expanduser()),
            WORDS: raw if is_text else None,
        }
