"""Two encoders whose embeddings are compared, and what can be asked of them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, TYPE_CHECKING, Union

import torch
from captum_pairs.models.encoder import Encoder
from torch import nn

if TYPE_CHECKING:
    from captum_pairs.explain.comparison import Comparison
    from captum_pairs.explain.compute import Options
    from captum_pairs.explain.contrast import Contrast
    from captum_pairs.explain.contributions import Contributions
    from captum_pairs.explain.zero_shot import ZeroShot
    from captum_pairs.inputs import Where

__all__ = ["DualEncoder", "Head"]


@dataclass(frozen=True)
class Head:
    """
    What a model makes of the similarity s: scale * s + bias.

    Args:
        name: as the model's output is called.
    """

    name: str = "similarity"
    scale: float = 1.0
    bias: float = 0.0

    def __call__(self, similarity: float) -> float:
        return self.scale * similarity + self.bias


@dataclass(frozen=True)
class DualEncoder:
    """
    Two encoders into one space, and the similarity of their embeddings.

    What is asked of it takes these settings by keyword (see
    :class:`captum_pairs.explain.compute.Options`): ``layer``, ``method``, ``tolerance``,
    ``n_steps``, ``baseline``, ``tokens``, ``progress``.

    Args:
        name: what was loaded.
        first, second: the two sides; the same one for a Siamese encoder.
        heads: the model's own scores, made of the similarity; the first is the one that
            is shown.
        similarity: "cosine", or "dot" for embeddings that are compared as they are.
    """

    name: str
    first: Encoder
    second: Encoder
    heads: tuple[Head, ...] = (Head(),)
    similarity: str = "cosine"

    def explain(
        self,
        first: Any,
        second: Any,
        *,
        phrase: Optional[str] = None,
        occurrence: Optional[int] = None,
        region: Optional["Where"] = None,
        side: Optional[str] = None,
        **options: Any,
    ) -> Any:
        """
        Which feature of the first input matched which feature of the second one.

        Args:
            first, second: an image's path, PIL image or array (h, w, 3) of uint8; a
                text; a waveform; what :meth:`contributions` keeps. Or lists of them,
                paired in their order; one alone goes with each of a list.
            phrase: explain these words of the text only, at the cost of one backward
                pass a step; `occurrence` says which, if they stand there several times.
            region: explain this box, point or mask of the image only (see
                :meth:`PairExplanation.region`).
            side: "first" or "second", whose phrase or region it is, if both have such.
            **options: see :class:`captum_pairs.explain.compute.Options`.

        Returns:
            :class:`captum_pairs.PairExplanation`, or a list of them for lists.

        Raises:
            UnreadableImageError, TextLengthError, InvalidArgumentError: for an input or
                an option that can't be used.
        """
        from captum_pairs.explain.compute import explain_pair, Options, which_asked

        settings = _options(Options, options)
        asked = which_asked(self, phrase, occurrence, region, side)
        if _is_many(first) or _is_many(second):
            first, second = _once(self, first, second, settings)
            pairs = _paired(first, second)
            return [explain_pair(self, pair, settings, asked) for pair in pairs]
        return explain_pair(self, (first, second), settings, asked)

    def contrast(
        self,
        query: Any,
        preferred: Any,
        other: Any,
        *,
        side: Optional[str] = None,
        **options: Any,
    ) -> "Contrast":
        """
        Why one candidate is more similar to a query than another one: two captions of
        an image, two images for a caption.

        Args:
            query, preferred, other: inputs as for :meth:`explain`.
            side: "first" or "second": which of a pair's inputs the query is. Default:
                told by what it is (a text that is no file's name is a text); "first" if
                both are of a kind.
            **options: see :class:`captum_pairs.explain.compute.Options`.
        """
        from captum_pairs.explain.compute import Options
        from captum_pairs.explain.contrast import contrast, side_of_query

        settings = _options(Options, options)
        where = side_of_query(self, query, side)
        return contrast(self, query, preferred, other, settings, where)

    def compare(
        self,
        first: Any,
        second: Any,
        *,
        methods: Optional[Sequence[str]] = None,
        **options: Any,
    ) -> "Comparison":
        """
        What several methods say of the same pair, how faithful each is, and its cost.

        Args:
            first, second: the inputs, as for :meth:`explain`.
            methods: their names; default: all, or with `absent="removed"` all that
                leave out features.
            **options: see :class:`captum_pairs.explain.compute.Options`.
        """
        from captum_pairs.explain.comparison import compare
        from captum_pairs.explain.compute import Options

        settings = _options(Options, {"method": "occlusion", **options})
        return compare(self, first, second, methods, settings)

    def contributions(
        self,
        inputs: Iterable[Any],
        *,
        side: Optional[str] = None,
        directory: Union[str, Path, None] = None,
        keys: Optional[Sequence[str]] = None,
        dtype: str = "float16",
        **options: Any,
    ) -> "Contributions":
        """
        Contribution vectors of many inputs, computed once: any other input is then
        explained against them by a matrix product.

        Args:
            inputs: a corpus, as for :meth:`explain`. What can't be read is left out and
                listed in the result's `failed`.
            side: "first" or "second"; default: told by what the first of them is.
            directory: kept there as well, and what is there already is not computed
                again; default: in memory only.
            keys: their names; default: paths and texts as they are, else numbers.
            dtype: "float16" or "float32", as they are kept.
            **options: see :class:`captum_pairs.explain.compute.Options`.
        """
        from captum_pairs.explain.compute import Options
        from captum_pairs.explain.contributions import contribute

        settings = _options(Options, options)
        return contribute(self, inputs, side, directory, keys, dtype, settings)

    def zero_shot(
        self,
        image: Any,
        prompts: Sequence[str],
        *,
        template: str = "{}",
        **options: Any,
    ) -> "ZeroShot":
        """
        An image classified by texts, and for every class where the image speaks for it.

        Args:
            image: or another first input, or what :meth:`contributions` keeps of it.
            prompts: the classes.
            template: what the class is put into, such as "a photo of a {}".
            **options: see :class:`captum_pairs.explain.compute.Options`.
        """
        from captum_pairs.explain.compute import Options
        from captum_pairs.explain.zero_shot import zero_shot

        return zero_shot(self, image, prompts, template, _options(Options, options))

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights: two models of the same one give the same contributions. A
        model of plain functions has its name's only."""
        digest = hashlib.blake2b(digest_size=16)
        modules: list[nn.Module] = []
        for module in (self.first.module, self.second.module):
            if module is not None and module not in modules:
                modules.append(module)
        if not modules:
            digest.update(self.name.encode())
        for module in modules:
            for name, value in sorted(module.state_dict().items()):
                digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                flat = value.detach().cpu().contiguous().flatten()
                digest.update(flat.view(torch.uint8).numpy() if flat.numel() else b"")
        return digest.hexdigest()


def _options(kind: Any, options: dict[str, Any]) -> Any:
    """Settings, if there are such."""
    from dataclasses import fields

    from captum_pairs.attr import InvalidArgumentError

    known = [field.name for field in fields(kind)]
    for name in options:
        if name not in known:
            raise InvalidArgumentError(name, f"one of {', '.join(known)}", "this")
    return kind(**options)


def _is_many(inputs: Any) -> bool:
    """Whether these are several inputs: a list, or stored contributions."""
    from captum_pairs.explain.contributions import Contributions

    return isinstance(inputs, (list, Contributions))


def _once(
    model: DualEncoder, first: Any, second: Any, options: "Options"
) -> tuple[Any, Any]:
    """A single input beside stored ones: its contributions are computed once."""
    from captum_pairs.explain.compute import contributions_of, side_tasks, SideTask
    from captum_pairs.explain.contributions import Contributions

    if isinstance(second, Contributions) and not _is_many(first):
        task = side_tasks(model, (first, second[0]), options)[0]
        if isinstance(task, SideTask):
            first = contributions_of(model, task, options.tolerance)
    if isinstance(first, Contributions) and not _is_many(second):
        task = side_tasks(model, (first[0], second), options)[1]
        if isinstance(task, SideTask):
            second = contributions_of(model, task, options.tolerance)
    return first, second


def _paired(first: Any, second: Any) -> list[tuple[Any, Any]]:
    """Inputs as pairs; one input alone goes with each of several."""
    from captum_pairs.attr import InvalidArgumentError

    if not _is_many(first):
        return [(first, other) for other in second]
    if not _is_many(second):
        return [(one, second) for one in first]
    if len(first) != len(second):
        raise InvalidArgumentError(
            "second", f"as many inputs as the first, {len(first)}", f"{len(second)}"
        )
    return list(zip(first, second))
