"""An index of many inputs: what a query finds among them, and why."""

import hashlib
import html
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, Optional, overload, Union

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError, Shares, validation
from captum_pairs.explain.compute import combine, explain
from captum_pairs.explain.content import content_of
from captum_pairs.explain.contrast import Contrast
from captum_pairs.explain.contributions import (
    Contributions,
    HOLDS,
    INDEX,
    KeptFiles,
    read_index,
    what_is_kept,
)
from captum_pairs.explain.corpus import (
    contribute,
    corpus_of,
    dtype_of,
    names_of,
    opened,
    warn_of_failures,
)
from captum_pairs.explain.files import check_folder
from captum_pairs.explain.methods import check_width
from captum_pairs.explain.options import Options
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.sides import (
    InputContributions,
    Known,
    settings_of_side,
    side_of_query,
    stored,
)
from captum_pairs.explain.store import words_of_digest
from captum_pairs.models.encoder import TEXT
from captum_pairs.models.encoder_pair import EncoderPair, Head
from captum_pairs.models.errors import (
    TextLengthError,
    UnreadableImageError,
    UnreadableSoundError,
)
from captum_pairs.models.texts import PreparedText
from captum_pairs.search.building import CONTENT, Embedding, embedding_of, FILE, WORDS
from captum_pairs.search.exact import Scan
from captum_pairs.search.explained import ExplainedHits, Why, WhyNot
from captum_pairs.search.hits import Hit
from captum_pairs.search.items import Items
from captum_pairs.search.paraphrases import Paraphrases, paraphrases_of
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["EMBEDDINGS", "Index", "index_of", "Item", "read_settings"]

EMBEDDINGS = "embeddings"
# As what contributions of items are kept.
_CONTRIBUTIONS_DTYPE = "float16"
# Queries whose contributions are remembered.
_REMEMBERED = 8

# An item: a hit, or its name.
Item = Union[Hit, str, Path]


class Index:
    """
    Many inputs of one side of a model, searched by inputs of either.

    It holds their embeddings, and contributions of those that were explained. It comes
    from :meth:`captum_pairs.DualEncoder.index`, and is all that its directory holds.

    Attributes:
        model: whose it is; its weights have to be what they were.
        side: "first" or "second", which of the model's inputs its items are.
        settings: what the embeddings depend on: the model's fingerprint, the encoder...
        options: how items and queries are explained.
        directory: where it is kept; None: in memory only.
        keep: whether what items contribute is kept, once they are explained.
        failed: the names of inputs that could not be read, and why.
    """

    def __init__(
        self,
        model: EncoderPair,
        at: int,
        options: Options,
        directory: Union[str, Path, None],
        dtype: str,
        keep: bool = True,
    ) -> None:
        """
        Args:
            at: 0 or 1, which of the model's inputs its items are.
            keep: what items contribute is kept.

        Raises:
            InvalidArgumentError: naming ``directory``, if it is of another model, or
                damaged.
        """
        self.model, self.at, self.options, self.keep = model, at, options, keep
        with model.as_it_is():
            settings_of_side(model, at, options)  # wrong ones are refused
            self.settings = {
                "name": model.name,
                "model": model.fingerprint,
                HOLDS: EMBEDDINGS,
                "similarity": model.similarity,
                "side": _side_in_words(model, at),
                "encoder": model.described(("first", "second")[at]),
                "dtype": dtype,
            }
        self._items, self.directory = opened(self.settings, directory, Items)
        self.failed: dict[str, str] = {}
        if self.directory is not None:
            lost = self._items.failures().tolist()
            self.failed = {r.name: r.text for r in self._items.records(lost)}
        # inputs that are no files and no texts, by what they are kept under
        self._given: dict[bytes, Any] = {}
        # contributions, by an item's digest; of an index in memory
        self._known: dict[bytes, InputContributions] = {}
        self._queries: dict[tuple[Any, ...], InputContributions] = {}

    # ---- what is there -----------------------------------------------------

    @property
    def side(self) -> str:
        """ "first" or "second": which of the model's inputs its items are."""
        return ("first", "second")[self.at]

    @property
    def kind(self) -> str:
        """Of its items: "image", "text", "audio" or "tensor"."""
        return (self.model.first, self.model.second)[self.at].kind

    @property
    def keys(self) -> list[str]:
        """The items' names, in their order."""
        return self._items.names(self._items.items.tolist())

    @property
    def error(self) -> float:
        """The largest relative error, over the items, of what was rounded to be kept:
        the norm of the difference divided by the norm."""
        return float(self._items.errors(self._items.items).max(initial=0.0))

    def __len__(self) -> int:
        return len(self._items.items)

    def __repr__(self) -> str:
        where = "in memory" if self.directory is None else f"in {self.directory}"
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return (
            f"<Index of {len(self)} {self.kind}s of {self.model.name} {where}{failed}>"
        )

    def summary(self) -> str:
        """How many items there are, what they depend on, and what failed."""
        return what_is_kept(self, "kept")

    def _repr_html_(self) -> str:
        """The summary, as notebooks show it."""
        return f"<pre>{html.escape(self.summary())}</pre>"

    def embeddings(self, items: Sequence[Item]) -> Tensor:
        """Of some items (n, k), as they are kept."""
        numbers = np.array([self._number(item) for item in items], dtype=np.int64)
        return torch.from_numpy(self._items.read(numbers))

    def check(self) -> None:
        """
        Compare every embedding with what was written. A search does so for its hits.

        Raises:
            InvalidArgumentError: naming ``directory``, and the file that is damaged.
        """
        self._items.check()

    def add(
        self, inputs: Iterable[Any], keys: Optional[Sequence[str]] = None
    ) -> "Index":
        """
        Embed inputs, and keep them. What is there already is not embedded again; what
        comes under a known name with other content takes its place.

        Args:
            inputs: a list of them, as for :meth:`captum_pairs.DualEncoder.explain`.
                What can't be read is left out and listed in `failed`.
            keys: their names. Default: paths and texts as they are; what is neither has
                its place in the list, and in a directory needs names.

        Returns:
            this index.

        Raises:
            InvalidArgumentError: naming ``inputs`` or ``keys``; ``directory``, if it
                can't be written to.
        """
        self._add(inputs, keys, 3)
        return self

    def _add(
        self, inputs: Iterable[Any], keys: Optional[Sequence[str]], calls: int
    ) -> None:
        """
        Args:
            calls: before this one to the user's, to whom failures are told.
        """
        corpus = corpus_of(inputs)
        names = names_of(corpus, keys)
        if keys is None and not all(isinstance(raw, (str, Path)) for raw in corpus):
            if self.directory is not None or len(self):
                raise InvalidArgumentError(
                    "keys",
                    "names, by which inputs that are no files or texts are known later",
                    "None",
                )
        with self._as_it_was():
            dtype = dtype_of(self.settings["dtype"])
            given = self.model, self.at, self.options, self._items, dtype
            run = Embedding(*given, corpus, names)
            rows, _ = run.found()
        for raw, key in zip(corpus, run.contents):
            if key is not None and not isinstance(raw, (str, Path)):
                self._given[key] = raw
        self.failed = {n: r for n, r in self.failed.items() if n not in names}
        self.failed.update(run.failed)
        missing = len(corpus) - len(rows)
        warn_of_failures(run.failed, missing, len(corpus), calls)

    # ---- searching ---------------------------------------------------------

    def search(self, query: Any, k: int = 10) -> list[Hit]:
        """
        The items that are most similar to a query.

        Every item is compared, in blocks, in single precision; those that can be among
        the first by what that rounds are compared again in double precision. Items of
        the same score stand in the order in which they came. It warns if the model
        knows no word of the query.

        Args:
            query: an input of either side, as for
                :meth:`captum_pairs.DualEncoder.explain`.
            k: how many; all, if there are no more.

        Raises:
            TextLengthError, UnreadableImageError, InvalidArgumentError: for a query
                that can't be used; naming ``model``, if it is not what it was;
                ``directory``, if files are damaged.
        """
        validation.positive_int("k", k)
        with self._as_it_was():
            scan = self._scan(self._embedded(query))
            if self._knows_no_word(query):
                warnings.warn(
                    "the tokenizer knows no word of the query: what is found is what "
                    "any unknown word finds",
                    stacklevel=2,
                )
            return self._first(scan, k)

    def _scan(self, query: NDArray[np.float64]) -> Scan:
        """An embedding (k,) compared with all items."""
        if not len(self):
            failed = f": {len(self.failed)} failed" if self.failed else ""
            raise InvalidArgumentError("index", "at least one item", f"none{failed}")
        return Scan(self._items, query)

    def _first(self, scan: Scan, k: int) -> list[Hit]:
        items, scores = scan.first(k)
        return self._hits(items, scores, range(1, len(items) + 1))

    def _hits(
        self,
        items: NDArray[np.int64],
        scores: NDArray[np.float64],
        ranks: Iterable[int],
    ) -> list[Hit]:
        self._items.told(items)  # what is damaged is no hit
        names = self._items.names(self._items.items[items].tolist())
        found = zip(ranks, scores.tolist(), names, items.tolist())
        return [Hit(rank, score, key, at) for rank, score, key, at in found]

    # ---- explaining --------------------------------------------------------

    @overload
    def explain(
        self, query: Any, hits: Item, *, pictures: bool = True
    ) -> PairExplanation: ...

    @overload
    def explain(
        self, query: Any, hits: Sequence[Item], *, pictures: bool = True
    ) -> ExplainedHits: ...

    def explain(
        self,
        query: Any,
        hits: Union[Item, Sequence[Item]],
        *,
        pictures: bool = True,
    ) -> Union[PairExplanation, ExplainedHits]:
        """
        Which feature of the query matched which feature of hits. What hits contribute
        is computed once, and kept.

        Args:
            query: as for :meth:`search`.
            hits: what :meth:`search` found, or items' names; or one alone.
            pictures: read images again, to show them under their maps. One that is gone
                or was changed since is not shown.

        Returns:
            :class:`captum_pairs.search.explained.ExplainedHits`, or of one alone a
            :class:`captum_pairs.PairExplanation`.

        Raises:
            InvalidArgumentError: naming ``hits``: for what is no item of this index;
                for one that is gone from the disk or was changed since, unless it was
                explained before. Others as :meth:`search`.
        """
        validation.flag("pictures", pictures)
        if isinstance(hits, (Hit, str, Path)):
            return self._explained(query, [hits], pictures)[1][0]
        given: object = hits
        if not isinstance(given, (list, tuple)):
            came = validation.describe(given)
            raise InvalidArgumentError("hits", "a list of hits, or of names", came)
        if not len(hits):
            raise InvalidArgumentError("hits", "at least one hit", "none")
        found, explanations = self._explained(query, list(hits), pictures)
        return ExplainedHits(tuple(found), tuple(explanations), self._query_side)

    def why(self, query: Any, a: Item, b: Item) -> Why:
        """
        Why one item stands before another: the contrast of the two, and the words and
        regions that decided.

        Args:
            query: as for :meth:`search`.
            a, b: hits of it, or items' names.

        Raises:
            InvalidArgumentError: naming ``a`` or ``b`` for what is no item of this
                index; ``b`` for the same item. Others as :meth:`explain`.
        """
        pair = [self._number(a, "a"), self._number(b, "b")]
        if pair[0] == pair[1]:
            raise InvalidArgumentError("b", "another item than a", "the same")
        hits, explanations = self._explained(query, [a, b], True)
        contrast = Contrast(explanations[0], explanations[1], self._query_side)
        return Why(contrast, hits[0], hits[1])

    def why_not(self, query: Any, a: Item, k: int = 10) -> WhyNot:
        """
        What an item would need to be among the first k: the words, or regions, by which
        it is behind the last of them.

        Args:
            query: as for :meth:`search`.
            a: an item's name, or a hit.
            k: how many are the first.

        Raises:
            InvalidArgumentError: naming ``a``, for what is no item of this index or is
                among the first k. Others as :meth:`explain`.
        """
        validation.positive_int("k", k)
        number = self._number(a, "a")
        with self._as_it_was():
            first = self._first(self._scan(self._embedded(query)), k)
        inside = [hit for hit in first if hit.number == number]
        if inside:
            raise InvalidArgumentError(
                "a",
                f"an item that is not among the first {k}",
                f"{inside[0].key!r}, which is number {inside[0].rank}",
            )
        hits, explanations = self._explained(query, [first[-1], a], True)
        contrast = Contrast(explanations[0], explanations[1], self._query_side)
        return WhyNot(contrast, hits[0], hits[1])

    def paraphrases(self, query: str, other: str, k: int = 10) -> Paraphrases:
        """
        What two wordings find: how far their lists agree, which items moved most, and
        which words moved them, word by word where they align.

        Args:
            query, other: two texts.
            k: how long the two lists are.

        Raises:
            InvalidArgumentError: naming ``query`` or ``other``, for what is no text of
                this model, or twice the same.
        """
        validation.positive_int("k", k)
        at = self._of_text()
        wordings: dict[str, object] = {"query": query, "other": other}
        for name, text in wordings.items():
            if not isinstance(text, str):
                came = validation.describe(text)
                raise InvalidArgumentError(name, "a text", came)
            if self._side_of(text) != at:
                came = f"{validation.describe(text)}, the name of a file"
                raise InvalidArgumentError(name, "a text", came)
        if query == other:
            raise InvalidArgumentError("other", "another wording", "the same")
        with self._as_it_was():
            asked = [self._asked(at, text) for text in (query, other)]
            scans = [self._scan(self._embedded(text)) for text in (query, other)]
            lists = [self._first(scan, k) for scan in scans]
            numbers = {hit.number: hit.key for hits in lists for hit in hits}
            items = np.array(sorted(numbers), dtype=np.int64)
            ranks, scores = zip(*(scan.ranks(items) for scan in scans))
            vectors = self._items.read(items).astype(np.float64)
        return paraphrases_of(
            self.model,
            (asked[0], asked[1]),
            (lists[0], lists[1]),
            [numbers[item] for item in items.tolist()],
            items,
            np.stack(ranks),
            np.stack(scores),
            torch.from_numpy(vectors),
            len(self),
        )

    # ---- queries -----------------------------------------------------------

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """One call, in which the model is what it was when its items were embedded."""
        with self.model.as_it_is():
            now = self.model.fingerprint, self.model.described(self.side)
            was = self.settings["model"], self.settings["encoder"]
            if now != was:
                raise InvalidArgumentError(
                    "model",
                    f"{self.model.name} as it was when the index was made "
                    f"({' '.join(was)})",
                    f"other weights or settings ({' '.join(now)})",
                )
            yield

    def _side_of(self, query: Any) -> int:
        """0 or 1, whose input a query is."""
        kinds = self.model.first.kind, self.model.second.kind
        if kinds[0] == kinds[1]:
            return 1 - self.at
        return int(side_of_query(self.model, query, None) == "second")

    def _of_text(self) -> int:
        """0 or 1, which of the model's inputs is a text, the other side's first."""
        kinds = self.model.first.kind, self.model.second.kind
        for at in (1 - self.at, self.at):
            if kinds[at] == TEXT:
                return at
        raise InvalidArgumentError(
            "query",
            f"a query of {self.model.name}, which takes no texts",
            "two wordings",
        )

    @property
    def _query_side(self) -> str:
        return ("second", "first")[self.at]

    def _embedded(self, query: Any) -> NDArray[np.float64]:
        """A query's embedding (k,)."""
        at = self._side_of(query)
        if isinstance(query, InputContributions):
            return self._asked(at, query).embedding.double().numpy()
        encoder = (self.model.first, self.model.second)[at]
        with self._named(query):
            prepared = encoder.prepare(query, self.options.baselines(self.model)[at])
        found = embedding_of(self.model, at, prepared)
        return found.double().numpy()

    def _knows_no_word(self, query: Any) -> bool:
        """Whether all words of a text are unknown ones to the model."""
        encoder = (self.model.first, self.model.second)[self._side_of(query)]
        if encoder.kind != TEXT or not isinstance(query, str):
            return False
        prepared = encoder.prepare(query)
        tokens = prepared.tokens if isinstance(prepared, PreparedText) else ()
        words = [token for token in tokens if not token.special]
        return bool(words) and all(token.unknown for token in words)

    @contextmanager
    def _named(self, query: Any) -> Iterator[None]:
        """What is neither a text nor a file's name is told of as the query, which might
        have been an input of either side."""
        try:
            yield
        except (UnreadableImageError, UnreadableSoundError, TextLengthError) as error:
            if isinstance(query, (str, Path)):
                raise
            kinds = [each.kind for each in (self.model.first, self.model.second)]
            is_text_too = TEXT in kinds and not isinstance(error, TextLengthError)
            expected = f"a text, or {error.expected}" if is_text_too else error.expected
            raise InvalidArgumentError("query", expected, error.got) from error

    def _asked(self, at: int, query: Any) -> InputContributions:
        """What a query contributes; the last ones are remembered."""
        kind = (self.model.first, self.model.second)[at].kind
        content = content_of(kind, query)
        known = at, content, self.model.fingerprint
        if content is None or known not in self._queries:
            with self._named(query):
                found = stored(self.model, at, query, self.options)
            if content is None:
                return found
            while len(self._queries) >= _REMEMBERED:
                del self._queries[next(iter(self._queries))]
            self._queries[known] = found
        return self._queries[known]

    def _explained(
        self, query: Any, items: Sequence[Item], pictures: bool
    ) -> tuple[list[Hit], list[PairExplanation]]:
        """Items with their ranks, and their explanations."""
        numbers = np.array([self._number(item) for item in items], dtype=np.int64)
        with self._as_it_was():
            at = self._side_of(query)
            asked = self._asked(at, query)
            hits = self._ranked(query, items, numbers)
            if self.keep or at == self.at:
                return hits, self._from_kept(at, asked, numbers, pictures)
            return hits, self._once(asked, numbers, pictures)

    def _from_kept(
        self,
        at: int,
        asked: InputContributions,
        numbers: NDArray[np.int64],
        pictures: bool,
    ) -> list[PairExplanation]:
        """Explanations, by a matrix product each."""
        kept = self._contributions(numbers, pictures)
        query, items = _known(asked), [_known(each) for each in kept]
        sides = [(query, item) if self.at else (item, query) for item in items]
        return combine(self._paired(at), sides, self.options)

    def _once(
        self, asked: InputContributions, numbers: NDArray[np.int64], pictures: bool
    ) -> list[PairExplanation]:
        """Explanations for this query alone: items are read along what its features
        contribute, unless what they contribute themselves is there already."""
        told = self._items.told(numbers)
        digests = [bytes.fromhex(each[CONTENT]) for each in told]
        given: list[Any] = []
        for number, digest, words, each in zip(
            numbers.tolist(), digests, told, self._kept(digests)
        ):
            if each is None:
                given.append(self._raw(number, digest, words))
            else:
                given.append(self._shown(each, digest, words, number, pictures))
        both: list[Any] = [given, [asked] * len(given)]
        first, second = both[::-1] if self.at else both
        # a list, as lists were given
        found = explain(self.model, first, second, self.options, None)
        return cast(list[PairExplanation], found)

    def _ranked(
        self,
        query: Any,
        items: Sequence[Item],
        numbers: NDArray[np.int64],
    ) -> list[Hit]:
        """Hits of this query as they are; of others, and of names, the ranks are
        found."""
        asked = self._embedded(query)
        exact = self._items.exact(asked, numbers).tolist()
        known = [hit for hit in items if isinstance(hit, Hit)]
        if [hit.score for hit in known] == exact:
            return known
        ranks, scores = self._scan(asked).ranks(numbers)
        return self._hits(numbers, scores, ranks.tolist())

    def _paired(self, at: int) -> EncoderPair:
        """The model; of a query that is of the items' own kind, the items' encoder
        twice, whose score has no scale of its own."""
        if at != self.at:
            return self.model
        own = (self.model.first, self.model.second)[at]
        similarity = self.model.similarity
        return EncoderPair(self.model.name, own, own, (Head(),), similarity)

    # ---- items -------------------------------------------------------------

    def _number(self, item: Any, argument: str = "hits") -> int:
        """An item's place."""
        if isinstance(item, Hit):
            is_here = 0 <= item.number < len(self)
            row = self._items.items[item.number : item.number + 1].tolist()
            if not is_here or self._items.names(row) != [item.key]:
                raise InvalidArgumentError(
                    argument, "a hit of this index", f"{item.key!r} of another one"
                )
            return item.number
        if not isinstance(item, (str, Path)):
            raise InvalidArgumentError(
                argument, "a hit of a search, or a name", validation.describe(item)
            )
        rows = self._items.named(str(item))
        found = np.flatnonzero(np.isin(self._items.items, rows))
        if not len(found):
            reason = self.failed.get(str(item))
            came = repr(str(item)) + (f", which failed: {reason}" if reason else "")
            raise InvalidArgumentError(argument, "an item of this index", came)
        return int(found[-1])

    def _contributions(
        self, numbers: NDArray[np.int64], pictures: bool
    ) -> list[InputContributions]:
        """What items contribute: found where it is kept, or computed and kept."""
        told = self._items.told(numbers)
        digests = [bytes.fromhex(each[CONTENT]) for each in told]
        kept = self._kept(digests)
        missing = {
            d: n for d, n, k in zip(digests, numbers.tolist(), kept) if k is None
        }
        if missing:
            self._compute(missing, dict(zip(digests, told)))
            kept = self._kept(digests)
        found = []
        for digest, number, words, each in zip(digests, numbers, told, kept):
            if each is None:
                raise self._gone(int(number), words, "it can't be read as it was")
            found.append(self._shown(each, digest, words, int(number), pictures))
        return found

    def _kept(self, digests: Sequence[bytes]) -> list[Optional[InputContributions]]:
        """What is kept of items' contents."""
        settings, folder = self._where()
        if folder is None:
            return [self._known.get(digest) for digest in digests]
        if not folder.is_dir():
            return [None] * len(digests)
        files, folder = opened(settings, folder, KeptFiles)
        rows = files.find(words_of_digest(digests))
        places = np.flatnonzero(rows >= 0)
        stretch = Contributions(settings, folder, files, rows[places], {})
        found: list[Optional[InputContributions]] = [None] * len(digests)
        for place, each in zip(places.tolist(), stretch[:]):
            found[place] = each
        return found

    def _where(self) -> tuple[dict[str, Any], Optional[Path]]:
        """What contributions depend on, and the directory in which they are kept."""
        settings = {
            "name": self.model.name,
            "model": self.model.fingerprint,
            **settings_of_side(self.model, self.at, self.options),
            "dtype": _CONTRIBUTIONS_DTYPE,
        }
        if self.directory is None:
            return settings, None
        shared = {name: value for name, value in settings.items() if name != "name"}
        written = json.dumps(shared, sort_keys=True).encode()
        mark = hashlib.blake2b(written, digest_size=6).hexdigest()
        return settings, self.directory / f"contributions-{mark}"

    def _compute(
        self, missing: Mapping[bytes, int], told: Mapping[bytes, dict[str, Any]]
    ) -> None:
        """Contributions of items that are not kept."""
        raws = [self._raw(n, digest, told[digest]) for digest, n in missing.items()]
        rows = [self._items.row_of(number) for number in missing.values()]
        _, folder = self._where()
        found = contribute(
            self.model,
            raws,
            self.side,
            folder,
            self._items.names(rows),
            _CONTRIBUTIONS_DTYPE,
            self.options,
        )
        if folder is None:
            self._known.update(zip(missing, found))

    def _raw(self, number: int, digest: bytes, told: Mapping[str, Any]) -> Any:
        """
        An item as it was given.

        Raises:
            InvalidArgumentError: naming ``hits``, if it is not there any more.
        """
        row = self._items.rows[self._items.row_of(number)]
        key = int(row["high"]).to_bytes(8, "little") + int(row["low"]).to_bytes(
            8, "little"
        )
        if key in self._given:
            return self._given[key]
        if told[WORDS] is not None:
            return told[WORDS]
        if told[FILE] is None:
            reason = "it came as no file: give it to Index.add again, under its name"
            raise self._gone(number, told, reason)
        path = Path(told[FILE])
        if not path.is_file():
            raise self._gone(number, told, f"{path}: no such file")
        content = content_of(self.kind, path)
        if content is not None and content != digest:
            reason = f"{path} was changed since: give it to Index.add again"
            raise self._gone(number, told, reason)
        return path

    def _gone(
        self, number: int, told: Mapping[str, Any], reason: str
    ) -> InvalidArgumentError:
        (name,) = self._items.names([self._items.row_of(number)])
        return InvalidArgumentError(
            "hits",
            "items that can be read again, or were explained before",
            f"{name!r}: {reason}",
        )

    def _shown(
        self,
        kept: InputContributions,
        digest: bytes,
        told: Mapping[str, Any],
        number: int,
        pictures: bool,
    ) -> InputContributions:
        """With its picture, if that is asked for and still there."""
        known = kept.input
        if not pictures or known.source.picture is not None or not known.has_regions:
            return kept
        try:
            raw = self._raw(number, digest, told)
        except InvalidArgumentError:
            return kept
        if isinstance(raw, InputContributions):
            source = raw.input.source
        else:
            encoder = (self.model.first, self.model.second)[self.at]
            baseline = self.options.baselines(self.model)[self.at]
            source = encoder.prepare(raw, baseline).source
        return replace(kept, input=replace(kept.input, source=source))


def index_of(
    model: EncoderPair,
    inputs: Optional[Iterable[Any]],
    side: Optional[str],
    directory: Union[str, Path, None],
    keys: Optional[Sequence[str]],
    dtype: Optional[str],
    keep: bool,
    options: Options,
) -> Index:
    """See :meth:`captum_pairs.DualEncoder.index`."""
    if dtype is not None:
        dtype_of(dtype)
    validation.flag("keep", keep)
    check_width(options.method, "an index")
    if inputs is None:
        if directory is None:
            raise InvalidArgumentError(
                "inputs", "a list of inputs, or a directory that has some", "None"
            )
        if keys is not None:
            raise InvalidArgumentError("keys", "None without inputs", "some")
        folder = check_folder("directory", directory)
        return _opened(model, side, folder, dtype, keep, options)
    corpus = corpus_of(inputs)
    at = 0 if side_of_query(model, corpus[0], side) == "first" else 1
    known = dtype or _dtype_there(directory)
    index = Index(model, at, options, directory, known, keep)
    index._add(corpus, keys, 4)
    return index


def _opened(
    model: EncoderPair,
    side: Optional[str],
    folder: Path,
    dtype: Optional[str],
    keep: bool,
    options: Options,
) -> Index:
    """The index that a directory holds."""
    from_there = read_settings(folder)
    known = str(from_there.get("side"))
    wanted = known if known in ("first", "second") else "first"
    if side is not None:
        wanted = str(validation.one_of("side", side, ("first", "second")))
    at = int(wanted == "second")
    known = dtype or str(from_there["dtype"])
    return Index(model, at, options, folder, known, keep)


def _dtype_there(directory: Union[str, Path, None]) -> str:
    """As what a directory's embeddings are kept; "float32" if it holds none yet."""
    if directory is None:
        return "float32"
    folder = check_folder("directory", directory)
    is_there = (folder / INDEX).is_file()
    return str(read_settings(folder)["dtype"]) if is_there else "float32"


def read_settings(folder: Path) -> dict[str, Any]:
    """
    What an index that is kept there depends on.

    Raises:
        InvalidArgumentError: naming ``directory``, if there is none.
    """
    settings = read_index(folder)
    if settings.get(HOLDS) != EMBEDDINGS:
        raise InvalidArgumentError(
            "directory",
            f"one of {EMBEDDINGS}",
            f"{folder}, of {settings.get(HOLDS, 'contributions')}",
        )
    dtype_of(settings["dtype"])
    return settings


def _side_in_words(model: EncoderPair, at: int) -> str:
    return "both" if model.first is model.second else ("first", "second")[at]


def _known(kept: InputContributions) -> Known:
    return Known(
        kept.input, Shares(kept.values, kept.embedding, kept.baseline_embedding)
    )
