"""What inputs are compared with: samples of other ones, instead of an empty one.

>>> references = model.references(images="photos", texts=captions)
>>> model.explain("dog.jpg", "a brown dog", references=references)
"""

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from captum_pairs.attr import (
    ExpectedJacobian,
    InvalidArgumentError,
    ReferenceValues,
    validation,
)
from captum_pairs.models import PreparedText, TextEncoder
from captum_pairs.models.encoder import AUDIO, Encoder, IMAGE, Layer, Prepared, TEXT
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.paths import directory, file
from captum_pairs.models.text_references import other_texts, other_words
from PIL.Image import Image
from torch import Tensor

__all__ = ["References", "sample_references", "WORDS"]

# What stands in the place of a text: words of other texts, or other texts.
WORDS, TEXTS = "words", "texts"
# Endings of the files of a directory that are read.
_ENDINGS = {
    IMAGE: ".avif .bmp .gif .ico .jp2 .jpeg .jpg .png .ppm .tga .tif .tiff .webp",
    AUDIO: ".wav",
    TEXT: ".txt",
}
# Inputs that could not be read, of which a warning tells the reasons.
_LISTED = 3


@dataclass(frozen=True, eq=False, repr=False)
class ReferenceSet:
    """
    References of one side: inputs as its encoder takes them.

    Args:
        encoder: that prepared them.
        side: 0 or 1, whose they are.
        prepared: in the order in which they were drawn; one more than is asked for, if
            there is one: it takes the place of the input that is explained.
        size: how many an input is compared with, at most.
        available: from how many they were drawn.
        seed: by which they were drawn.
        texts_as: of texts: "words" or "texts" (see :func:`sample_references`).
    """

    encoder: Encoder
    side: int
    prepared: tuple[Prepared, ...]
    size: int
    available: int
    seed: int
    texts_as: str = ""
    _kept: dict[Any, ReferenceValues] = field(default_factory=dict)

    def __str__(self) -> str:
        return self._in_words(min(self.size, len(self.prepared)))

    def _in_words(self, number: int) -> str:
        kind = {AUDIO: "sound", IMAGE: "image", TEXT: "text"}
        things = kind.get(self.encoder.kind, "input") + "s" * (number != 1)
        drawn = f"of {self.available}, seed {self.seed}"
        if self.texts_as == WORDS:
            return f"{number} {things} of other words ({drawn})"
        return f"{number} other {things} ({drawn})"

    @cached_property
    def digest(self) -> str:
        """Of the references' content, and how they take a text's place."""
        drawn = f"{self.side} {self.seed}" if self.texts_as == WORDS else ""
        marks = f"{self.size} {self.texts_as} {drawn}"
        found = hashlib.blake2b(marks.encode(), digest_size=16)
        for each in self.prepared:
            values = each.inputs.detach().cpu().contiguous()
            found.update(f"{values.dtype} {tuple(values.shape)}".encode())
            found.update(values.flatten().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def start(
        self,
        model: EncoderPair,
        method: ExpectedJacobian,
        given: Prepared,
        layer: Layer,
    ) -> tuple[Union[Tensor, ReferenceValues], str]:
        """
        The references of one input, for ``method``, and these in words.

        Args:
            model: whose weights are looked at.
            method: of this side.
            given: the input, on the encoder's device; it is never among its own
                references.
            layer: where it is attributed to.
        """
        if isinstance(given, PreparedText) and self.texts_as:
            ids = self._of_text(given)
            return ids, self._in_words(len(ids))
        fitting = [at for at, each in enumerate(self.prepared) if _fits(each, given)]
        rows = self._others(given, fitting)
        chosen = self._in_words(len(rows))
        inputs = torch.cat([self.prepared[row].inputs for row in fitting])
        places = [fitting.index(row) for row in rows]
        if layer.module is None or any(isinstance(a, Tensor) for a in given.arguments):
            return inputs[places].to(given.inputs), chosen
        shape = tuple(given.inputs.shape), given.arguments, given.inputs.device
        key = (layer.module, layer.at_input, model.fingerprint, repr(shape))
        if key not in self._kept:
            self._kept.clear()  # of one model at one layer, or memory fills
            self._kept[key] = method.reference_values(
                inputs.to(given.inputs), given.arguments, layer.at_input
            )
        return ReferenceValues(self._kept[key].values[places]), chosen

    def _others(self, given: Prepared, fitting: list[int]) -> list[int]:
        """Those of the input's size that are not the input itself."""
        own = given.inputs.cpu()
        rows = [
            at for at in fitting if not torch.equal(self.prepared[at].inputs.cpu(), own)
        ]
        if not rows:
            shape = tuple(own.shape[1:])
            came = "other sizes" if not fitting else "the input that is explained"
            raise InvalidArgumentError(
                "references", f"others of the input's own size, {shape}", came
            )
        return rows[: self.size]

    def _of_text(self, given: PreparedText) -> Tensor:
        """Token ids (m, n), in the place of the text's."""
        others = [
            each
            for each in self.prepared
            if isinstance(each, PreparedText) and not _same_text(each.text, given.text)
        ]
        if not others:
            raise InvalidArgumentError(
                "references", "other texts", "the text that is explained"
            )
        if self.texts_as == TEXTS:
            ids = other_texts(given, others)
        else:
            rng = np.random.default_rng((self.seed, self.side, len(others)))
            ids = other_words(given, others, self.size + 1, rng)
        differs = (ids != given.inputs.to(ids)).any(1)
        if not bool(differs.any()):
            raise InvalidArgumentError(
                "references", "texts with other words", "the words of the text itself"
            )
        return ids[differs][: self.size]


def _fits(one: Prepared, other: Prepared) -> bool:
    """Whether two inputs are of one size, and the encoder takes the same besides."""
    if one.inputs.shape != other.inputs.shape:
        return False
    if len(one.arguments) != len(other.arguments):
        return False
    return all(
        (
            isinstance(a, Tensor)
            and isinstance(b, Tensor)
            and torch.equal(a.cpu(), b.cpu())
        )
        or (not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b)
        for a, b in zip(one.arguments, other.arguments)
    )


def _same_text(one: str, other: str) -> bool:
    return one.casefold().split() == other.casefold().split()


@dataclass(frozen=True, eq=False)
class References:
    """
    What inputs are compared with: a sample of each side, or of one.

    Args:
        first, second: of the two sides; None: a single baseline, as without references.
    """

    first: Optional[ReferenceSet] = None
    second: Optional[ReferenceSet] = None

    def of_side(self, model: EncoderPair, at: int) -> Optional[ReferenceSet]:
        """
        Those of one side of a model.

        Raises:
            InvalidArgumentError: naming ``references``, if they are another model's.
        """
        found = (self.first, self.second)[at]
        if found is not None and found.encoder is not (model.first, model.second)[at]:
            raise InvalidArgumentError(
                "references",
                f"those that {model.name} made (model.references(...))",
                "another model's",
            )
        return found

    def __repr__(self) -> str:
        sides = ", ".join(str(each) for each in (self.first, self.second) if each)
        return f"<References: {sides}>"


def sample_references(
    model: EncoderPair,
    given: Mapping[str, Any],
    size: int,
    seed: int,
    texts_as: str,
) -> References:
    """
    See :meth:`captum_pairs.DualEncoder.references`.

    Args:
        given: by "images", "texts", "sounds", "first" and "second" what was given.
    """
    validation.positive_int("size", size)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        came = validation.describe(seed)
        raise InvalidArgumentError("seed", "a whole number from 0 on", came)
    if texts_as not in (WORDS, TEXTS):
        raise InvalidArgumentError(
            "texts_as", f"{WORDS!r} or {TEXTS!r}", validation.describe(texts_as)
        )
    sources = _sources(model, given)
    first, second = (
        None if source is None else _drawn(encoder, source, at, size, seed, texts_as)
        for at, (encoder, source) in enumerate(
            zip((model.first, model.second), sources)
        )
    )
    return References(first, second)


def _sources(
    model: EncoderPair, given: Mapping[str, Any]
) -> list[Optional[tuple[str, Sequence[Any]]]]:
    """Of each side its inputs, and what they were called."""
    kinds = {IMAGE: "images", TEXT: "texts", AUDIO: "sounds"}
    found: list[Optional[tuple[str, Sequence[Any]]]] = []
    taken = set()
    for at, encoder in enumerate((model.first, model.second)):
        side, many = ("first", "second")[at], kinds.get(encoder.kind, "")
        name = side if given.get(side) is not None else many
        source = given.get(name)
        taken.add(name)
        inputs = None if source is None else _several(name, source, encoder.kind)
        found.append(None if inputs is None else (name, inputs))
    for name, source in given.items():
        if source is not None and name not in taken:
            takes = " and ".join(dict.fromkeys((model.first.kind, model.second.kind)))
            raise InvalidArgumentError(
                name, f"None for {model.name}, which takes {takes}", "some"
            )
    if not any(found):
        raise InvalidArgumentError(
            "references", "some of one side at least (images=, texts=)", "none"
        )
    return found


def _several(name: str, source: Any, kind: str) -> Sequence[Any]:
    """Inputs as a sequence, of which only those that are drawn are read."""
    expected = "a list of inputs, a data set's column, or a directory"
    if isinstance(source, (str, Path)):
        inputs = _files(name, Path(source).expanduser(), kind)
    elif isinstance(source, (bytes, Mapping, Image, Tensor, np.ndarray)):
        raise InvalidArgumentError(name, expected, type(source).__name__)
    elif hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        inputs = source
    elif isinstance(source, Iterable):
        inputs = list(source)
    else:
        raise InvalidArgumentError(name, expected, validation.describe(source))
    if not len(inputs):
        raise InvalidArgumentError(name, "at least one input", "none")
    return inputs


def _files(name: str, place: Path, kind: str) -> Sequence[Any]:
    """The files of a directory and those in it; of texts the lines of these, or of one
    file."""
    endings = _ENDINGS.get(kind, "").split()
    if kind == TEXT and file(place) is not None:
        return _lines(name, place)
    if directory(place) is None:
        what = "a directory" if kind != TEXT else "a directory, or a file of a text a "
        what += "" if kind != TEXT else "line"
        raise InvalidArgumentError(name, what, f"{place}")
    files = sorted(
        path
        for path in place.rglob("*")
        if path.suffix.lower() in endings and path.is_file()
    )
    if not files:
        raise InvalidArgumentError(
            name, f"a directory with files ({', '.join(endings)})", f"{place}"
        )
    if kind == TEXT:
        return [line for path in files for line in _lines(name, path)]
    return files


def _lines(name: str, path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(name, "UTF-8 texts", f"{path}: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _drawn(
    encoder: Encoder,
    source: tuple[str, Sequence[Any]],
    at: int,
    size: int,
    seed: int,
    texts_as: str,
) -> ReferenceSet:
    """A sample without replacement, the two sides' independent of each other; what
    can't be read is left out, and the next one drawn."""
    name, inputs = source
    rng = np.random.default_rng((seed, at))
    prepared: list[Prepared] = []
    failed: list[str] = []
    for place in rng.permutation(len(inputs)).tolist():
        if len(prepared) > size:  # and one to take an explained input's place
            break
        try:
            prepared.append(_prepared(encoder, inputs[place], rng))
        except Exception as error:  # whatever the reader of a broken file raises
            failed.append(f"{error}".splitlines()[0] or type(error).__name__)
    if not prepared:
        raise InvalidArgumentError(name, "inputs that can be read", failed[0])
    if failed:
        reasons = "".join(f"\n  {reason}" for reason in failed[:_LISTED])
        warnings.warn(
            f"{len(failed)} of the {name} could not be read and were left out as "
            f"references:{reasons}",
            stacklevel=4,
        )
    is_text = isinstance(encoder, TextEncoder)
    how = texts_as if is_text else ""
    number = len(inputs)
    return ReferenceSet(encoder, at, tuple(prepared), size, number, seed, how)


def _prepared(encoder: Encoder, raw: Any, rng: np.random.Generator) -> Prepared:
    """An input; of several texts of one row one."""
    if encoder.kind == TEXT and isinstance(raw, (list, tuple)) and len(raw):
        raw = raw[int(rng.integers(len(raw)))]
    return encoder.prepare(raw)
