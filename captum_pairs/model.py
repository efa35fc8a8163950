"""What can be asked of a dual encoder, and where one comes from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, Optional, overload, ParamSpec, Union, Unpack

from captum_pairs import models
from captum_pairs.explain.comparison import compare, Comparison, methods_asked_for
from captum_pairs.explain.compute import explain, part_asked_for
from captum_pairs.explain.contrast import Contrast, contrast
from captum_pairs.explain.contributions import Contributions
from captum_pairs.explain.corpus import contribute
from captum_pairs.explain.cost import Cost, estimate
from captum_pairs.explain.late_interaction import (
    compare_assigned,
    contrast_assigned,
    estimate_assigned,
    explain_assigned,
    refused,
)
from captum_pairs.explain.methods import Method
from captum_pairs.explain.options import Options, OptionsLike
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.references import References, sample_references, WORDS
from captum_pairs.explain.scored import estimate_scored, score_options
from captum_pairs.explain.sides import InputContributions, side_of_query
from captum_pairs.explain.zero_shot import zero_shot, ZeroShot
from captum_pairs.inputs import Where
from captum_pairs.models import Encoder, EncoderPair
from captum_pairs.models.late_interaction import LateInteractionPair
from captum_pairs.search.index import Index, index_of
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

__all__ = [
    "DualEncoder",
    "from_functions",
    "from_score",
    "LateInteraction",
    "load",
    "PairScorer",
    "siamese",
]


# One input: a path or a text, an image, an array or tensor, or what was kept of it.
Input = Union[str, Path, Image, NDArray[Any], Tensor, InputContributions]
# Several of them.
Many = Union[list[Any], Contributions]


class DualEncoder(EncoderPair):
    """
    Two encoders into one space, and what can be asked of them.

    What is asked takes these settings by keyword (see
    :class:`captum_pairs.explain.options.Options`): ``layer``, ``method``,
    ``tolerance``, ``n_steps``, ``baseline``, ``tokens``, ``progress`` and more.

    Args, attributes: see :class:`captum_pairs.models.EncoderPair`.
    """

    @classmethod
    def of(cls, pair: EncoderPair) -> "DualEncoder":
        """What an adapter returned."""
        known = LateInteraction if isinstance(pair, LateInteractionPair) else cls
        known = known if pair.scorer is None else PairScorer
        return known(**{each.name: getattr(pair, each.name) for each in fields(known)})

    def _options(self, given: Mapping[str, Any]) -> Options:
        """The settings of a question."""
        return Options.of({**given})

    def __repr__(self) -> str:
        scores = ", ".join(head.name for head in self.heads)
        sides = dict.fromkeys(map(_encoder_in_words, (self.first, self.second)))
        both = " in both places" if len(sides) == 1 else ""
        return (
            f"<{self.name}: {' and '.join(sides)}{both}; {self.similarity}, {scores}>"
        )

    @overload
    def explain(
        self,
        first: Many,
        second: Any,
        *,
        phrase: Optional[str] = None,
        occurrence: Optional[int] = None,
        region: Optional[Where] = None,
        side: Optional[str] = None,
        **options: Unpack[OptionsLike],
    ) -> list[PairExplanation]: ...

    @overload
    def explain(
        self,
        first: Any,
        second: Many,
        *,
        phrase: Optional[str] = None,
        occurrence: Optional[int] = None,
        region: Optional[Where] = None,
        side: Optional[str] = None,
        **options: Unpack[OptionsLike],
    ) -> list[PairExplanation]: ...

    @overload
    def explain(
        self,
        first: Input,
        second: Input,
        *,
        phrase: Optional[str] = None,
        occurrence: Optional[int] = None,
        region: Optional[Where] = None,
        side: Optional[str] = None,
        **options: Unpack[OptionsLike],
    ) -> PairExplanation: ...

    def explain(
        self,
        first: Any,
        second: Any,
        *,
        phrase: Optional[str] = None,
        occurrence: Optional[int] = None,
        region: Optional[Where] = None,
        side: Optional[str] = None,
        **options: Unpack[OptionsLike],
    ) -> Union[PairExplanation, list[PairExplanation]]:
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
            **options: see :class:`captum_pairs.explain.options.Options`.

        Returns:
            :class:`captum_pairs.PairExplanation`, or a list of them for lists.

        Raises:
            UnreadableImageError, TextLengthError, InvalidArgumentError: for an input or
                an option that can't be used.
        """
        asked = part_asked_for(self, phrase, occurrence, region, side)
        return explain(self, first, second, self._options(options), asked)

    def estimate(
        self, first: Input, second: Input, **options: Unpack[OptionsLike]
    ) -> Cost:
        """
        What :meth:`explain` would take, without computing it: a few passes are timed.

        Args:
            first, second, **options: as for :meth:`explain`.

        Raises:
            InvalidArgumentError: naming ``method`` for another one than
                "integrated_gradients" and "expected_gradients".

        >>> print(model.estimate("one.jpg", "other.jpg", layer=13))
        """
        if self.scorer is not None:
            return estimate_scored(self, first, second, self._options(options))
        return estimate(self, first, second, self._options(options))

    def contrast(
        self,
        query: Any,
        preferred: Any,
        other: Any,
        *,
        side: Optional[str] = None,
        **options: Unpack[OptionsLike],
    ) -> Contrast:
        """
        Why one candidate is more similar to a query than another one: two captions of
        an image, two images for a caption.

        Args:
            query, preferred, other: inputs as for :meth:`explain`.
            side: "first" or "second": which of a pair's inputs the query is. Default:
                told by what it is (a text that is no file's name is a text); "first" if
                both are of a kind.
            **options: see :class:`captum_pairs.explain.options.Options`.
        """
        settings = self._options(options)
        where = side_of_query(self, query, side)
        return contrast(self, query, preferred, other, settings, where)

    def compare(
        self,
        first: Any,
        second: Any,
        *,
        methods: Optional[Sequence[Union[str, Method]]] = None,
        **options: Unpack[OptionsLike],
    ) -> Comparison:
        """
        What several methods say of the same pair, how faithful each is, and its cost.

        Args:
            first, second: the inputs, as for :meth:`explain`.
            methods: their names, or classes; default: all, or with `absent="removed"`
                all that leave out features.
            **options: see :class:`captum_pairs.explain.options.Options`.
        """
        absent, references = options.get("absent"), options.get("references")
        asked = methods_asked_for(methods, absent, references)
        own = options.pop("settings", None)  # each method takes those that it knows
        settings = Options.of({**options, "method": asked[0]}, asked)
        return compare(self, first, second, asked, settings, own)

    def contributions(
        self,
        inputs: Iterable[Any],
        *,
        side: Optional[str] = None,
        directory: Union[str, Path, None] = None,
        keys: Optional[Sequence[str]] = None,
        dtype: str = "float16",
        **options: Unpack[OptionsLike],
    ) -> Contributions:
        """
        Contribution vectors of many inputs, computed once: any other input is then
        explained against them by a matrix product.

        Args:
            inputs: a list of them, as for :meth:`explain`. What can't be read is left
                out and listed in the result's `failed`.
            side: "first" or "second"; default: told by what the first of them is.
            directory: kept there as well, and what is there already is not computed
                again: an input of the same content, for the same settings and weights.
                Several processes may write to one. Default: in memory only.
            keys: their names; default: paths and texts as they are, else numbers.
            dtype: "float16" or "float32", as they are kept.
            **options: see :class:`captum_pairs.explain.options.Options`.

        Returns:
            These inputs in their order, those that come twice twice, without those that
            failed.

        Raises:
            InvalidArgumentError: naming ``inputs`` for one alone; ``directory``, if it
                is of another model or other settings, damaged, or can't be written to.
        """
        settings = self._options(options)
        return contribute(self, inputs, side, directory, keys, dtype, settings)

    def index(
        self,
        inputs: Optional[Iterable[Any]] = None,
        *,
        side: Optional[str] = None,
        directory: Union[str, Path, None] = None,
        keys: Optional[Sequence[str]] = None,
        dtype: Optional[str] = None,
        keep: bool = True,
        **options: Unpack[OptionsLike],
    ) -> Index:
        """
        An index of many inputs, to be searched by inputs of either side: what a query
        finds, why one item stands before another, why two wordings find different ones.

        Args:
            inputs: a list of them, as for :meth:`explain`. What can't be read is left
                out and listed in the index's `failed`. Default: none but those that the
                directory has.
            side: "first" or "second", which of a pair's inputs they are; default: told
                by what the first of them is.
            directory: kept there, beside all that is there already: the index is the
                whole. An input of the same name and content is not embedded again; one
                of other content takes the place of what had its name. Several processes
                may write to one. Default: in memory only.
            keys: their names; default: paths and texts as they are, else numbers (in a
                directory such inputs need names).
            dtype: "float32" or "float16", as embeddings are kept; default: as they are
                in the directory, and else "float32".
            keep: what a hit contributes is computed whole when it is first explained,
                and kept: any other query is then explained by a matrix product. False:
                hits are explained for the query that is asked, which is several times
                as fast for a text's few words, and nothing is kept.
            **options: how hits will be explained, see
                :class:`captum_pairs.explain.options.Options`.

        Raises:
            InvalidArgumentError: naming ``inputs`` for one alone, or none without a
                directory; ``directory``, if it is of another model, damaged, or can't
                be written to.

        >>> index = model.index(paths, directory="kept")
        >>> hits = index.search("a brown dog")
        >>> print(index.explain("a brown dog", hits).summary())
        """
        settings = Options.of({**options})
        given = inputs, side, directory, keys, dtype, keep
        return index_of(self, *given, settings)

    def references(
        self,
        images: Any = None,
        texts: Any = None,
        *,
        sounds: Any = None,
        first: Any = None,
        second: Any = None,
        size: int = 64,
        seed: int = 0,
        texts_as: str = WORDS,
    ) -> References:
        """
        A sample of inputs to compare others with, instead of an empty one:
        ``explain(..., references=model.references(images="photos", texts=captions))``.
        Pairs then sum to what is specific to the two inputs: their similarity less that
        of each to the other side's references. See docs/references.md.

        Args:
            images, texts, sounds: of the side, or sides, that take such: a list, a
                column of a data set, a directory (and those in it); of texts also a
                file, with a text a line. Without any, a side keeps its baseline.
            first, second: the same of one side, whatever it takes.
            size: how many an input is compared with; one that is itself among them is
                left out.
            seed: by which they are drawn, independently for the two sides.
            texts_as: in a text's place stand "words" of the texts, each for one of as
                many tokens, or "texts", cut or padded to its length. Its special tokens
                stay.

        Raises:
            InvalidArgumentError: naming the argument, if nothing can be read, or the
                model takes no such inputs.
        """
        given = {
            "images": images,
            "texts": texts,
            "sounds": sounds,
            "first": first,
            "second": second,
        }
        return sample_references(self, given, size, seed, texts_as)

    def zero_shot(
        self,
        image: Any,
        prompts: Iterable[str],
        *,
        template: str = "{}",
        **options: Unpack[OptionsLike],
    ) -> ZeroShot:
        """
        An image classified by texts, and for every class where the image speaks for it.

        Args:
            image: or another first input, or what :meth:`contributions` keeps of it.
            prompts: the classes, each once.
            template: what the class is put into, such as "a photo of a {}".
            **options: see :class:`captum_pairs.explain.options.Options`.
        """
        return zero_shot(self, image, prompts, template, self._options(options))


class PairScorer(DualEncoder):
    """
    A score of two inputs that is no inner product of two embeddings (a cross-encoder, a
    matching head, a function), and what can be asked of it: ``explain``, ``contrast``
    and ``estimate``. What needs an embedding of each input is refused.

    It is explained by integrated Hessians: pairs are the mixed second derivative of the
    score, integrated over both inputs' paths, so that points are the product of the
    paths' steps. Of the settings there are ``layer``, ``tolerance``, ``n_steps`` (the
    most of each path, 31), ``baseline``, ``tokens`` and ``progress``. See
    docs/scores.md.
    """

    def _options(self, given: Mapping[str, Any]) -> Options:
        return score_options(given)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}; both inputs scored at once>"

    def compare(self, *args: Any, **options: Any) -> NoReturn:
        """Refused: methods are compared by embeddings."""
        self._refuse("a comparison of methods")

    def contributions(self, *args: Any, **options: Any) -> NoReturn:
        """Refused: an input has none of its own."""
        self._refuse("contributions")

    def index(self, *args: Any, **options: Any) -> NoReturn:
        """Refused: a search compares embeddings."""
        self._refuse("an index")

    def references(self, *args: Any, **options: Any) -> NoReturn:
        """Refused: a score is compared with one baseline."""
        self._refuse("references")

    def zero_shot(self, *args: Any, **options: Any) -> NoReturn:
        """Refused: explain the image with each prompt, or two of them by contrast."""
        self._refuse("a classification by texts")

    def _refuse(self, what: str) -> NoReturn:
        self.require_embeddings(what)
        raise AssertionError("a scorer has no embeddings")


class LateInteraction(DualEncoder, LateInteractionPair):
    """
    Two encoders of tokens that MaxSim compares (ColBERT, ColPali), and what can be
    asked of them.

    Of each pair the document's token that each of the query's is assigned to is looked
    up once, at the inputs; attributions are those of the inner products that are left,
    and go to *input* words and patches (see docs/late_interaction.md). What an
    explanation's ``maxsim`` says is how far the score goes along with that.

    Args, attributes: see :class:`captum_pairs.models.LateInteractionPair`.
    """

    def explain(
        self,
        first: Any,
        second: Any,
        *,
        phrase: Optional[str] = None,
        occurrence: Optional[int] = None,
        region: Optional[Where] = None,
        side: Optional[str] = None,
        **options: Unpack[OptionsLike],
    ) -> Any:
        """
        Which feature of the first input matched which feature of the second one, with
        the maxima fixed at the inputs.

        Args: as for :meth:`DualEncoder.explain`; of texts the first one is the query,
            of a page image and a text the second one. Neither ``references`` nor
            ``absent="removed"``.

        Returns:
            :class:`captum_pairs.PairExplanation` with its ``maxsim``, or a list of them
            for lists.
        """
        asked = part_asked_for(self, phrase, occurrence, region, side)
        return explain_assigned(self, first, second, Options.of({**options}), asked)

    def estimate(
        self, first: Input, second: Input, **options: Unpack[OptionsLike]
    ) -> Cost:
        """What :meth:`explain` would take: see :meth:`DualEncoder.estimate`."""
        return estimate_assigned(self, first, second, Options.of({**options}))

    def contrast(
        self,
        query: Any,
        preferred: Any,
        other: Any,
        *,
        side: Optional[str] = None,
        **options: Unpack[OptionsLike],
    ) -> Contrast:
        """Why one candidate has a higher score than another one, each pair with its own
        assignment: see :meth:`DualEncoder.contrast`."""
        where = side_of_query(self, query, side)
        settings = Options.of({**options})
        return contrast_assigned(self, query, (preferred, other), settings, where)

    def compare(
        self,
        first: Any,
        second: Any,
        *,
        methods: Optional[Sequence[Union[str, Method]]] = None,
        **options: Unpack[OptionsLike],
    ) -> Comparison:
        """What several methods say of the fixed score: see
        :meth:`DualEncoder.compare`."""
        asked = methods_asked_for(
            methods, options.get("absent"), options.get("references")
        )
        own = options.pop("settings", None)
        settings = Options.of({**options, "method": asked[0]}, asked)
        return compare_assigned(self, (first, second), asked, settings, own)

    def contributions(self, *args: Any, **kwargs: Any) -> Contributions:
        """Refused: an assignment belongs to a pair."""
        raise refused("contributions")

    def index(self, *args: Any, **kwargs: Any) -> Index:
        """Refused: an assignment belongs to a pair."""
        raise refused("index")

    def references(self, *args: Any, **kwargs: Any) -> References:
        """Refused: an assignment belongs to a pair."""
        raise refused("references")

    def zero_shot(self, *args: Any, **kwargs: Any) -> ZeroShot:
        """Refused: an assignment belongs to a pair."""
        raise refused("zero_shot")


def _encoder_in_words(encoder: Encoder) -> str:
    """What it takes, and where it can be attributed to."""
    blocks = f"{len(encoder.blocks)} blocks" if encoder.blocks else "no blocks"
    at = encoder.default_block
    where = "its input" if at is None else f"block {at}"
    if at is not None and at == len(encoder.blocks):
        where = "the output of the last one"
    return f"{encoder.kind} ({blocks}, explained from {where})"


Arguments = ParamSpec("Arguments")


def _asked(make: Callable[Arguments, EncoderPair]) -> Callable[Arguments, DualEncoder]:
    """What an adapter makes, with questions."""

    @wraps(make)
    def made(*args: Arguments.args, **kwargs: Arguments.kwargs) -> DualEncoder:
        return DualEncoder.of(make(*args, **kwargs))

    return made


load = _asked(models.load)
siamese = _asked(models.siamese)
from_functions = _asked(models.from_functions)
from_score = _asked(models.from_score)
