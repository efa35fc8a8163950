"""Cross-encoders and rerankers, which read two texts as one sequence: those of
sentence-transformers and of transformers, through their own forward passes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.models.checkpoints import check_pointer
from captum_pairs.models.encoder import Feature, Layer, LayerLike, Layout
from captum_pairs.models.encoder_pair import EncoderPair, Head
from captum_pairs.models.errors import loading, ModelUnavailableError, TextLengthError
from captum_pairs.models.hugging_face import check_precision, check_weights
from captum_pairs.models.modes import evaluating
from captum_pairs.models.observed import find_blocks
from captum_pairs.models.scorer import Names, PreparedPair, Scorer
from captum_pairs.models.texts import (
    check_length,
    check_text,
    PreparedText,
    text_source,
    TextEncoder,
)
from captum_pairs.models.vocabulary import check_ids, check_vocabulary
from captum_pairs.models.words import join_tokens, token_groups
from torch import nn, Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

__all__ = [
    "adopt_cross_encoder",
    "CrossEncoderScorer",
    "load_cross_encoder",
    "of_sentence_transformers",
    "TextInSequence",
]

_CLASSES = "ForSequenceClassification"
# How sentence-transformers calls what it makes of a single score.
_SIGMOID = "Sigmoid"


@dataclass(frozen=True)
class TextInSequence(PreparedText):
    """
    A text that is a part of a sequence.

    Args:
        positions: in the sequence, of each of `tokens`, which are this text's own.
    """

    positions: tuple[int, ...] = ()

    def layout(self, shape: Sequence[int], at_input: bool, tokens: bool) -> Layout:
        """Words (or tokens) of this text; -1 at all other positions."""
        axis = 1 if shape[0] == 1 else 0
        if len(shape) != 3 or int(shape[axis]) <= max(self.positions):
            raise InvalidArgumentError(
                "layer",
                "a layer whose value has a place for each token of both texts",
                f"a value of shape {tuple(shape)}",
            )
        own = self.tokens
        groups = token_groups(own) if tokens else join_tokens(self.text, own)
        mask = torch.full((int(shape[axis]),), -1)
        for index, each in enumerate(groups):
            mask[[self.positions[at] for at in each.positions]] = index
        sizes = [1] * 3
        sizes[axis] = len(mask)
        return Layout(tuple(each.feature for each in groups), mask.reshape(sizes))


class SequenceEncoder(TextEncoder):
    """What a cross-encoder's two sides have in common: its blocks, and no embedding of
    one text."""

    def __init__(self, model: Any, transformer: Any) -> None:
        """
        Args:
            model: whose parameters are meant.
            transformer: of transformers, which reads the sequence.
        """
        self.module = model
        self.entrance = transformer.get_input_embeddings()
        self.blocks = find_blocks(transformer)
        self.default_block = len(self.blocks) // 3 if self.blocks else None

    def tokenize(self, text: str) -> PreparedText:
        raise self._alone()

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        raise self._alone()

    @staticmethod
    def _alone() -> InvalidArgumentError:
        return InvalidArgumentError(
            "model", "a model that embeds one text", "a cross-encoder, which reads two"
        )


class CrossEncoderScorer(Scorer):
    """
    A transformer with a head for classes that reads two texts.

    A pair is not padded. Its baseline has the same length: padding instead of both
    texts' words, the special tokens where they are.
    """

    is_joint = True

    def __init__(
        self, model: nn.Module, tokenizer: Any, encoder: SequenceEncoder, longest: int
    ) -> None:
        """
        Args:
            model: a CrossEncoder of sentence-transformers, or a model of transformers.
            encoder: its blocks.
            longest: how many tokens it reads.
        """
        self._model, self._tokenizer = model, tokenizer
        self._encoder, self._longest = encoder, longest

    def prepare(self, first: Any, second: Any, baselines: Names) -> PreparedPair:
        for text, baseline in zip((first, second), baselines):
            check_text(text)
            self._encoder.check_baseline(baseline)
        read = self._tokenizer(
            first,
            second,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        texts = self._texts(first, second, read)
        every = [
            Feature("special", special=True)
            for special in read["special_tokens_mask"]
            if special
        ]
        check_length([*texts[0][1], *texts[1][1], *every], self._longest)
        features = self._features(first, second, read)
        ids = features.pop("input_ids")
        check_ids(ids, self._encoder.entrance)
        words = torch.zeros_like(ids, dtype=torch.bool)
        words[:, [*texts[0][0], *texts[1][0]]] = True
        padded = torch.where(words, torch.full_like(ids, self._padding), ids)
        names = (tuple(features), *features.values())
        sides = tuple(
            TextInSequence(
                ids,
                padded,
                text_source(text),
                "padding in the place of its words",
                tokens=tokens,
                positions=positions,
            )
            for text, (positions, tokens) in zip((first, second), texts)
        )
        return PreparedPair(ids, padded, names, (sides[0], sides[1]))

    @property
    def _padding(self) -> int:
        tokenizer = self._tokenizer
        ids = tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id
        return next(number for number in (*ids, 0) if number is not None)

    def _texts(
        self, first: str, second: str, read: Any
    ) -> list[tuple[tuple[int, ...], tuple[Feature, ...]]]:
        """Of each text its tokens' positions, and what they are."""
        names = self._tokenizer.convert_ids_to_tokens(read["input_ids"])
        found = []
        for side, text in enumerate((first, second)):
            positions = [
                at for at, own in enumerate(read.sequence_ids()) if own == side
            ]
            if not positions:
                raise TextLengthError("text", "at least one word", "an empty text")
            tokens = tuple(
                Feature(
                    names[at],
                    span=tuple(read["offset_mapping"][at]),
                    unknown=names[at] == self._tokenizer.unk_token,
                )
                for at in positions
            )
            found.append((tuple(positions), tokens))
        return found

    def _features(self, first: str, second: str, read: Any) -> dict[str, Any]:
        """What the model itself is given for the pair, by name: tensors (1, n)."""
        ids = torch.tensor([read["input_ids"]])
        prepare = getattr(self._model, "preprocess", None)
        if prepare is None:
            own = self._tokenizer(first, second, return_tensors="pt", verbose=False)
            return dict(own)
        with evaluating(self._model):
            features = prepare([(first, second)])
        own = features.get("input_ids")
        if not isinstance(own, Tensor) or own.tolist() != ids.tolist():
            raise TextLengthError(
                "text",
                "two texts that the model reads as they are, one behind the other",
                "what it reads otherwise (a prompt, a template or a limit of its own)",
            )
        return {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in features.items()
        }

    def layers(
        self, wanted: tuple[Optional[LayerLike], Optional[LayerLike]]
    ) -> tuple[Layer, Layer]:
        first, second = wanted
        if second is not None and second is not first and second != first:
            raise InvalidArgumentError(
                "layer",
                "one layer, since one sequence holds both texts",
                "two different ones",
            )
        found = self._encoder.layer(first)
        return found, found

    def score(self, *arguments: Any) -> Tensor:
        ids, names, *values = arguments
        given = {"input_ids": ids, **dict(zip(names, values))}
        if hasattr(self._model, "preprocess"):
            output: Mapping[str, Any] = self._model(dict(given))
            return torch.as_tensor(output["scores"])
        return torch.as_tensor(self._model(**given).logits)


# ---- loading -----------------------------------------------------------------


def load_cross_encoder(name: str, source: str) -> EncoderPair:
    """
    A cross-encoder that sentence-transformers or transformers saved.

    Args:
        name: what was asked for.
        source: a directory or a name on the hub.

    Raises:
        ModelUnavailableError: see :func:`captum_pairs.models.load`.
    """
    with loading(name):
        check_pointer(Path(source))
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        made = list(config.architectures or [])
        if not any(each.endswith(_CLASSES) for each in made):
            raise _not_understood(name, ", ".join(made) or "no class")
        check_precision(name, config)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            source,
            dtype=torch.float32,
            output_loading_info=True,
            # it is said below, and of which weights
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    check_weights(name, found)
    model.train(False).requires_grad_(False)
    return _of_transformers(name, model, tokenizer)


def adopt_cross_encoder(model: Any, processor: Any, name: str) -> EncoderPair:
    """
    A model of transformers for classes of sequences that is in memory; it stays as it
    is.

    Args:
        processor: its tokenizer.

    Raises:
        InvalidArgumentError: naming ``processor``.
    """
    if not isinstance(processor, PreTrainedTokenizerBase):
        raise InvalidArgumentError(
            "processor",
            "the model's tokenizer (AutoTokenizer.from_pretrained)",
            validation.describe(processor),
        )
    return _of_transformers(model.name_or_path or name, model, processor)


def _of_transformers(name: str, model: Any, tokenizer: Any) -> EncoderPair:
    config = model.config
    settings = getattr(config, "sentence_transformers", None) or {}
    activation = settings.get("activation_fn") or getattr(
        config, "sbert_ce_default_activation_function", None
    )
    # where nothing is said, a cross-encoder's single score is a sigmoid's
    known = activation or (_SIGMOID if settings else "")
    return _scored(name, model, model, tokenizer, str(known).rpartition(".")[2])


def of_sentence_transformers(model: Any, name: Optional[str] = None) -> EncoderPair:
    """
    A CrossEncoder of sentence-transformers; it stays as it is, in its mode.

    Raises:
        ModelUnavailableError: if it has no head for classes.
    """
    transformer = model.transformers_model
    is_made_of = [type(part).__name__ for part in model]
    name = name or str(getattr(transformer, "name_or_path", "") or "CrossEncoder")
    if transformer is None or "LogitScore" in is_made_of:
        raise _not_understood(name, ", ".join(is_made_of))
    if getattr(model, "backend", "torch") != "torch":
        raise ModelUnavailableError(
            "model",
            "a model with derivatives (backend='torch')",
            f"{name}: backend {model.backend!r}",
        )
    activation = type(model.activation_fn).__name__
    return _scored(name, model, transformer, model.tokenizer, activation)


def _scored(
    name: str, model: Any, transformer: Any, tokenizer: Any, activation: str
) -> EncoderPair:
    """A model's score of two texts; of several classes one has to be chosen."""
    check_vocabulary(tokenizer)
    if not getattr(tokenizer, "is_fast", False):
        raise ModelUnavailableError(
            "model", "a fast tokenizer, which tells words from one another", name
        )
    encoder = SequenceEncoder(model, transformer)
    longest = min(
        int(getattr(model, "max_seq_length", None) or 2**31),
        int(tokenizer.model_max_length),
        _positions(transformer.config),
    )
    scorer = CrossEncoderScorer(model, tokenizer, encoder, longest)
    heads = [Head("logit")]
    count = int(transformer.config.num_labels)
    if count > 1:
        labels = dict(transformer.config.id2label)
        scorer.labels = tuple(str(labels.get(at, at)) for at in range(count))
    elif activation == _SIGMOID:
        heads.append(Head("probability", activation="sigmoid"))
    return EncoderPair(name, encoder, encoder, tuple(heads), "score", scorer)


def _positions(config: Any) -> int:
    """How many tokens have a place."""
    longest = int(getattr(config, "max_position_embeddings", None) or 2**31)
    if "roberta" in config.model_type or config.model_type == "camembert":
        # theirs begin behind the padding's
        longest -= int(config.pad_token_id) + 1
    return longest


def _not_understood(name: str, what: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        "model",
        "a cross-encoder with a head for classes (…ForSequenceClassification); of "
        "another one give the score itself to captum_pairs.from_score",
        f"{name}: {what}",
    )
