"""The models of sentence-transformers, through their own forward passes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, ExitStack
from pathlib import Path
from typing import Any, Optional

import torch
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.attr._utils.hooks import undone
from captum_pairs.models.checkpoints import check_pointer, saved_json
from captum_pairs.models.cross_encoders import of_sentence_transformers
from captum_pairs.models.encoder import Feature
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.errors import (
    loading,
    ModelUnavailableError,
    TextLengthError,
    unavailable,
)
from captum_pairs.models.hugging_face import load_hugging_face
from captum_pairs.models.inner_weights import check_found, weights_found
from captum_pairs.models.modes import evaluating
from captum_pairs.models.remote_code import never_asked
from captum_pairs.models.texts import (
    check_length,
    PADDING,
    PreparedText,
    text_source,
    TextEncoder,
    without_words,
)
from captum_pairs.models.vocabulary import check_ids, check_vocabulary
from captum_pairs.models.words import offsets_of, surface_of
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch import nn, Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

__all__ = [
    "adopt_sentence_transformer",
    "check_code",
    "copies",
    "is_a",
    "kind_of_saved",
    "listed_modules",
    "load_sentence_transformer",
    "name_of",
    "sentence_encoders",
    "SentenceEncoder",
    "StaticSentenceEncoder",
    "Tasks",
]

# The task of the first and the second input: "query", "document", the name of a
# router's route, or None for a text without a task.
Tasks = tuple[Optional[str], Optional[str]]

# The name of the feature that a prompt's tokens are.
PROMPT = "prompt"
# The prompts that encode_query and encode_document look for, in their order.
_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}
_SIMILARITIES = ("cosine", "dot")
_CROSS_ENCODER = "CrossEncoder"
# Kinds of models that are saved as sentence-transformers are, and why they are none.
_OTHER_KINDS = {
    "CrossEncoder": "a cross-encoder reads both texts at once, so that there are no "
    "two embeddings whose inner product its score is",
    "MultiVectorEncoder": "a multi-vector (late interaction) encoder compares each "
    "token's vector with the nearest one of the other text; write its name without a "
    "prefix, or multi-vector: before it",
    "SparseEncoder": "a sparse encoder has a dimension for each word of its vocabulary "
    "instead of an embedding (its decode method names them)",
}
_IN_MODULES = {
    "cross_encoder": "CrossEncoder",
    "multi_vector": "MultiVectorEncoder",
    "pylate": "MultiVectorEncoder",
    "sparse_encoder": "SparseEncoder",
}
# What PyLate calls a model of the kind.
_NAMES = {"ColBERT": "MultiVectorEncoder"}


class _SentenceText(TextEncoder):
    """
    A text through all modules of a sentence-transformer.

    What the model reads (its prompt, its truncation, the task of a router) is what its
    own ``encode``, ``encode_query`` or ``encode_document`` hands to its first module.
    """

    def __init__(self, model: SentenceTransformer, task: Optional[str]) -> None:
        self.module = self._model = model
        self.task = task
        self._arguments = _arguments(task)

    @property
    def prompt(self) -> str:
        """What the model puts before a text."""
        prompts: Mapping[str, Optional[str]] = self._model.prompts
        names = _PROMPTS.get(self.task or "", ())
        default: Optional[str] = self._model.default_prompt_name
        name = next((name for name in names if name in prompts), default)
        return (prompts.get(name) if name else None) or ""

    def output(self, features: dict[str, Any]) -> Tensor:
        """Embeddings (b, k) of what `features` returns."""
        output = self._model(copies(features), **self._arguments)
        embeddings: Tensor = output["sentence_embedding"]
        return embeddings[..., : self._model.truncate_dim]


class SentenceEncoder(_SentenceText):
    """
    A text through a transformer, a pooling and what follows it.

    A text is not padded. Its baseline has the same length: padding (or the mask token,
    if there is one) instead of its words, special tokens and the prompt where they are.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        task: Optional[str] = None,
        default_block: Optional[int] = None,
    ) -> None:
        """
        Args:
            model: in evaluation mode.
            task: "query", "document", the name of a router's route or None.
            default_block: the last one unless it is given.

        Raises:
            ModelUnavailableError: if no transformer reads the text.
        """
        super().__init__(model, task)
        found = _Anatomy(model, task)
        if found.transformer is None or found.tokenizer is None:
            raise _not_understood(model)
        check_vocabulary(found.tokenizer)
        self.tokenizer = found.tokenizer
        self.entrance = found.transformer.get_input_embeddings()
        self.blocks = found.blocks()
        self._positions = _positions(found.transformer)
        # For 80.9, 81.8, 80.9, 82.1, 80.6 and 86.4 % of the words of
        # benchmarks/aligned_words.py the strongest pair is with the word that says the
        # same, at the blocks 0 to 5 of all-MiniLM-L6-v2; of the attributions 5 % are
        # special tokens' at the last one (1 % at block 2), and it is the cheapest.
        self.default_block = default_block
        if default_block is None and self.blocks:
            self.default_block = len(self.blocks) - 1

    def tokenize(self, text: str) -> PreparedText:
        known = self._read(text, self.prompt)
        check_length([token for _, token in known], self._positions)
        features = _features(self._model, self.task, text)
        ids = features.pop("input_ids")
        check_ids(ids, self.entrance)
        attended = self._attended(ids, features)
        tokens = self._tokens(text, ids[0].tolist(), attended.tolist())
        padding = self.tokenizer.pad_token_id
        if padding is None:
            padding = self.tokenizer.eos_token_id
        return PreparedText(
            ids,
            without_words(ids, tokens, padding),
            text_source(text),
            "its special tokens with padding between",
            (tuple(features), *features.values()),
            tokens=tokens,
        )

    def _attended(self, ids: Tensor, features: dict[str, Any]) -> Tensor:
        """Which positions of ids (1, T) are the text's, special tokens and prompt
        included: (T,)."""
        mask: Tensor = features.get("attention_mask", torch.ones_like(ids))
        return mask[0].bool()

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        names, *values = arguments
        return self.output({"input_ids": inputs, **dict(zip(names, values))})

    def _tokens(
        self, text: str, ids: list[int], attended: list[bool]
    ) -> tuple[Feature, ...]:
        """The tokens that the model reads, named by those of the text."""
        seen = [number for number, flag in zip(ids, attended) if flag]
        named = self._named(text, seen)
        rest = iter(named)
        return tuple(
            next(rest) if flag else Feature(PADDING, special=True) for flag in attended
        )

    def _named(self, text: str, seen: list[int]) -> list[Feature]:
        known = self._read(text, self.prompt)
        # before version 5.4 a text is stripped and made lower case outside of the
        # tokenizer
        bare = text.strip()
        readings = [known, self._read(bare, self.prompt, text.find(bare))]
        if len(bare.lower()) == len(bare):
            readings.append(self._read(bare.lower(), self.prompt, text.find(bare)))
        for reading in readings:
            if [number for number, _ in reading] == seen:
                return [token for _, token in reading]
        check_length([token for _, token in known], len(seen))
        # put into a template, or with tokens behind it
        words = [pair for pair in known if not pair[1].special]
        for start in range(len(seen) - len(words) + 1):
            stop = start + len(words)
            if seen[start:stop] == [number for number, _ in words]:
                inside = [token for _, token in words]
                around = Feature(PROMPT, special=True)
                after = len(seen) - stop
                return [*[around] * start, *inside, *[around] * after]
        raise TextLengthError(
            "text",
            "a text whose tokens are found among those that the model reads",
            f"{len(seen)} tokens that are others",
        )

    def _read(
        self, text: str, prompt: str, offset: int = 0
    ) -> list[tuple[int, Feature]]:
        """
        All tokens of a text behind a prompt, with their ids.

        Args:
            offset: of the text in what a person wrote.
        """
        whole = prompt + text
        encoded = self.tokenizer(whole, return_special_tokens_mask=True, verbose=False)
        ids = encoded["input_ids"]
        names = self.tokenizer.convert_ids_to_tokens(ids)
        special = [bool(flag) for flag in encoded["special_tokens_mask"]]
        if getattr(self.tokenizer, "is_fast", False):
            spans = [encoded.encodings[0].offsets[at] for at in range(len(ids))]
        else:
            spans = offsets_of(
                whole,
                [
                    None if flag else surface_of(name, self.tokenizer)
                    for name, flag in zip(names, special)
                ],
            )
        unknown = self.tokenizer.unk_token
        return [
            (number, _feature(name, flag, span, len(prompt), offset, name == unknown))
            for number, name, flag, span in zip(ids, names, special, spans)
        ]


class StaticSentenceEncoder(_SentenceText):
    """
    A text as the mean of static word vectors, and what follows.

    Its input are the vectors (1, tokens, d) themselves; each one's baseline is the mean
    vector of the vocabulary.
    """

    default_block = None

    def __init__(self, model: SentenceTransformer, task: Optional[str] = None) -> None:
        """
        Raises:
            ModelUnavailableError: if no static embedding reads the text.
        """
        super().__init__(model, task)
        found = _Anatomy(model, task)
        if found.bag is None or found.tokenizer is None:
            raise _not_understood(model)
        self.tokenizer = found.tokenizer
        self._bag = found.bag
        names = [name for name, part in model.named_modules() if part is found.bag]
        self._weight = f"{names[0]}.weight"

    def tokenize(self, text: str) -> PreparedText:
        features = _features(self._model, self.task, text)
        ids = features.pop("input_ids")
        prompt = self.prompt
        encoded = self.tokenizer.encode(prompt + text, add_special_tokens=False)
        if encoded.ids != ids.tolist():
            raise TextLengthError(
                "text", "a text that is read as it is", "one that is read otherwise"
            )
        unknown = getattr(self.tokenizer.model, "unk_token", None)
        tokens = tuple(
            _feature(name, False, span, len(prompt), 0, name == unknown)
            for name, span in zip(encoded.tokens, encoded.offsets)
        )
        check_length(tokens, len(tokens))
        vectors = self._bag.weight.detach()
        del features["offsets"]
        words = torch.tensor([not token.special for token in tokens])
        inputs = vectors[ids][None]
        mean = vectors.mean(dim=0).expand_as(inputs)
        return PreparedText(
            inputs,
            torch.where(words[None, :, None].to(inputs.device), mean, inputs),
            text_source(text),
            "the vocabulary's mean vector instead of each word's",
            (tuple(features), *features.values()),
            tokens=tokens,
        )

    def embed(self, inputs: Tensor, *arguments: Any) -> Tensor:
        names, *values = arguments
        count, length = inputs.shape[:2]
        numbers = torch.arange(count * length, device=inputs.device)
        features = {
            **copies(dict(zip(names, values))),
            "input_ids": numbers,
            "offsets": numbers[::length],
        }
        # the model itself, whose vocabulary are these vectors
        output = functional_call(
            self._model,
            {self._weight: inputs.flatten(0, 1)},
            (features,),
            self._arguments,
        )
        embeddings: Tensor = output["sentence_embedding"]
        return embeddings[..., : self._model.truncate_dim]


class _Anatomy:
    """The parts of a model that a text of some task goes through."""

    def __init__(self, model: SentenceTransformer, task: Optional[str]) -> None:
        """
        Raises:
            ModelUnavailableError: if the model has no such task.
        """
        self._model = model
        self._visited: list[nn.Module] = []
        self._shapes: dict[nn.Module, list[tuple[int, ...]]] = {}
        with ExitStack() as stack:
            for part in model.modules():
                hook = part.register_forward_pre_hook(self._note, with_kwargs=True)
                stack.enter_context(undone(hook.remove))
            try:
                self._features = _features(model, task, "word")
            except (KeyError, ValueError) as error:
                raise ModelUnavailableError(
                    "tasks", "tasks that the model knows", f"{task!r}: {error}"
                ) from error

    def _note(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._visited.append(module)
        values = [*args, *kwargs.values()]
        floats = [v for v in values if isinstance(v, Tensor) and v.is_floating_point()]
        shape = tuple(floats[0].shape) if floats else ()
        self._shapes.setdefault(module, []).append(shape)

    @property
    def transformer(self) -> Any:
        """The outermost model of transformers of which something was called (itself may
        not be, but its forward method)."""
        visited = set(self._visited)
        return next(
            (
                part
                for part in self._model.modules()
                if isinstance(part, PreTrainedModel)
                and not visited.isdisjoint(part.modules())
            ),
            None,
        )

    @property
    def bag(self) -> Optional[nn.EmbeddingBag]:
        """The table of static embeddings that was called."""
        return next((p for p in self._visited if isinstance(p, nn.EmbeddingBag)), None)

    @property
    def tokenizer(self) -> Any:
        """That of the first module that was called and is no router."""
        inside = self._visited[1:] if self._visited[0] is self._model else self._visited
        parts = (p for p in inside if not hasattr(p, "sub_modules"))
        found = (getattr(part, "tokenizer", None) for part in parts)
        return next((tokenizer for tokenizer in found if tokenizer is not None), None)

    def blocks(self) -> list[nn.Module]:
        """
        The longest list of modules that each took the tokens' hidden states once (a
        layer that is used again and again, as ALBERT's, is no block).
        """
        tokens = self._features["input_ids"].shape[-1]

        def takes(part: nn.Module) -> bool:
            shapes = self._shapes.get(part, [])
            return len(shapes) == 1 and len(shapes[0]) == 3 and tokens in shapes[0][:2]

        lists: list[list[nn.Module]] = []
        inner: set[nn.Module] = set()
        for part in self._model.modules():
            if not isinstance(part, nn.ModuleList) or part in inner or not len(part):
                continue
            if all(takes(element) for element in part):
                lists.append(list(part))
                inner.update(part.modules())
        return max(lists, key=len, default=[])


def sentence_encoders(
    model: SentenceTransformer,
    name: Optional[str] = None,
    tasks: Optional[Tasks] = None,
) -> EncoderPair:
    """
    Both sides of a sentence-transformer that was loaded already; it stays as it is, in
    its mode.

    Args:
        model: a SentenceTransformer of text.
        name: what it is called.
        tasks: ("query", "document") embeds the first text by ``model.encode_query`` and
            the second one by ``model.encode_document``; (None, None) both by
            ``model.encode``; other names are ``task=`` of ``model.encode``. Default:
            ("query", "document") if the model tells them apart by a prompt or by the
            routes of a router, else (None, None).

    Raises:
        ModelUnavailableError: for a model that is no SentenceTransformer, that has a
            similarity which is no inner product, or that no adapter understands.
    """
    label = name or name_of(model)
    similarity = _similarity(model, label)
    wanted = _default_tasks(model) if tasks is None else tasks
    first = _side(model, wanted[0])
    second = first if wanted[0] == wanted[1] else _side(model, wanted[1])
    return EncoderPair(label, first, second, similarity=similarity)


def adopt_sentence_transformer(model: Any, processor: Any, name: str) -> EncoderPair:
    """
    A sentence-transformer that is in memory; see :func:`sentence_encoders`. Or a
    CrossEncoder, whose score is explained.

    Raises:
        InvalidArgumentError: naming ``processor``, which it has inside.
    """
    if processor is not None:
        raise InvalidArgumentError(
            "processor",
            "None for a sentence-transformer, which has its tokenizer inside",
            validation.describe(processor),
        )
    if isinstance(model, CrossEncoder):
        return of_sentence_transformers(model)
    return sentence_encoders(model)


def _similarity(model: Any, label: str) -> str:
    """The model's similarity, if it is a SentenceTransformer with an inner product."""
    kind = next((kind for kind in _OTHER_KINDS if is_a(model, kind)), None)
    if kind is not None or not isinstance(model, SentenceTransformer):
        reason = _OTHER_KINDS[kind] if kind else type(model).__name__
        raise ModelUnavailableError("model", "a SentenceTransformer", reason)
    if getattr(model, "backend", "torch") != "torch":
        raise ModelUnavailableError(
            "model",
            "a model with derivatives (backend='torch')",
            f"{label}: backend {model.backend!r}",
        )
    similarity = str(model.similarity_fn_name)
    if similarity not in _SIMILARITIES:
        raise ModelUnavailableError(
            "model",
            "cosine similarity or inner products (load it with "
            "SentenceTransformer(..., similarity_fn_name='cosine') and give that to "
            "sentence_encoders)",
            f"{label}: {similarity} distance, which is no inner product of embeddings",
        )
    return similarity


def load_sentence_transformer(name: str, source: str) -> EncoderPair:
    """
    A sentence-transformer; see :func:`sentence_encoders` for which side is a query's.

    Args:
        name: what was asked for.
        source: a directory or a name on the hub.

    Raises:
        ModelUnavailableError: see :func:`captum_pairs.models.load`.
    """
    modules, kind = _modules(name, source)
    if modules and str(modules[0].get("type", "")).endswith("CLIPModel"):
        return _clip_inside(name, source, modules)
    check_code(name, listed_modules(source))
    is_cross = kind == _CROSS_ENCODER
    with loading(name), never_asked(), weights_found() as found:
        check_pointer(Path(source))
        make: Any = CrossEncoder if is_cross else SentenceTransformer
        model = make(source, device="cpu", trust_remote_code=False)
    model.float().requires_grad_(False)
    if is_cross:
        plain = {"activation_fn": nn.Identity(), "show_progress_bar": False}
        check_found(name, found, lambda: model.predict(("a", "a"), **plain))
        return of_sentence_transformers(model, name)
    check_found(name, found, lambda: model.encode("a", show_progress_bar=False))
    return sentence_encoders(model, name)


def _modules(name: str, source: str) -> tuple[list[Any], str]:
    """The modules of a saved model, and of which kind it is, unless of another one."""
    modules = saved_json(source, "modules.json") or []
    kind = kind_of_saved(source)
    if not isinstance(modules, list) or kind is None:
        raise unavailable(name, ValueError("modules.json is not a list of modules"))
    if kind in _OTHER_KINDS and kind != _CROSS_ENCODER:
        raise ModelUnavailableError(
            "model", "a SentenceTransformer", f"{name}: {_OTHER_KINDS[kind]}"
        )
    return modules, str(kind)


def kind_of_saved(source: str) -> Optional[str]:
    """Which of sentence-transformers' classes a saved model is of, by its settings and
    its modules; None if these are damaged."""
    modules = saved_json(source, "modules.json") or []
    settings = saved_json(source, "config_sentence_transformers.json") or {}
    if (
        not isinstance(modules, list)
        or not isinstance(settings, dict)
        or not all(isinstance(module, dict) for module in modules)
    ):
        return None
    kind = str(settings.get("model_type", "SentenceTransformer"))
    for part, other in _IN_MODULES.items():
        if any(part in str(module.get("type", "")) for module in modules):
            kind = other
    return _NAMES.get(kind, kind)


def listed_modules(source: str) -> list[str]:
    """The classes of a saved model's modules, by their full names."""
    modules = saved_json(source, "modules.json") or []
    return [str(module.get("type", "")) for module in modules]


def check_code(name: str, types: Sequence[str]) -> None:
    """Refuse modules that are not sentence-transformers' own."""
    foreign = [each for each in types if not each.startswith("sentence_transformers.")]
    if foreign:
        raise ModelUnavailableError(
            "model",
            "modules of sentence-transformers (code of a model's own is only run if "
            "you load it yourself and hand it in: load(SentenceTransformer(..., "
            "trust_remote_code=True)))",
            f"{name}: {', '.join(foreign)}",
        )


def _side(model: SentenceTransformer, task: Optional[str]) -> TextEncoder:
    """The encoder of a task's texts."""
    if _Anatomy(model, task).bag is not None:
        return StaticSentenceEncoder(model, task)
    return SentenceEncoder(model, task)


def _default_tasks(model: SentenceTransformer) -> Tasks:
    """Queries and documents, if the model tells them apart."""
    named = [name for names in _PROMPTS.values() for name in names]
    if any(model.prompts.get(name) for name in named):
        return "query", "document"
    for part in model.modules():
        routes = getattr(part, "sub_modules", None)
        if isinstance(routes, nn.ModuleDict):
            mapped = getattr(part, "route_mappings", None) or {}
            known = {*routes, *(task for task, _ in mapped)}
            if {"query", "document"} <= known:
                return "query", "document"
    return None, None


def _clip_inside(name: str, source: str, modules: Sequence[Any]) -> EncoderPair:
    """The CLIP, images and texts, that is a sentence-transformer's only module."""
    place = Path(source) / str(modules[0].get("path", ""))
    if len(modules) == 1 and place.is_dir():
        return load_hugging_face(name, str(place))
    raise ModelUnavailableError(
        "model",
        "the CLIP that it was made of, as transformers saves it (for example "
        "openai/clip-vit-base-patch32)",
        f"{name}: a CLIP inside a sentence-transformer",
    )


def _arguments(task: Optional[str]) -> dict[str, str]:
    """What modules are told of a text's task."""
    return {} if task is None else {"task": task}


def _features(model: Any, task: Optional[str], text: str) -> dict[str, Any]:
    """What the first module gets for a text."""
    settings = {"show_progress_bar": False, "convert_to_numpy": False}
    # encoding leaves a model in evaluation mode
    with evaluating(model), _first_call(model[0]) as call:
        if task == "query":
            model.encode_query(text, **settings)
        elif task == "document":
            model.encode_document(text, **settings)
        else:
            model.encode(text, **settings, **_arguments(task))
    # made in inference mode, which has no derivatives
    return copies(call["features"])


def copies(features: Mapping[str, Any]) -> dict[str, Any]:
    """The same of its own: modules write into what they get."""
    return {
        name: value.clone() if isinstance(value, Tensor) else value
        for name, value in features.items()
    }


@contextmanager
def _first_call(module: nn.Module) -> Iterator[dict[str, Any]]:
    """What the module's first argument is when it is called, under "features"."""
    call: dict[str, Any] = {}

    def note(_: nn.Module, args: tuple[Any, ...]) -> None:
        call.setdefault("features", copies(args[0]))

    with undone(module.register_forward_pre_hook(note).remove):
        yield call


def _feature(
    name: str,
    special: bool,
    span: tuple[int, int],
    prompt: int,
    offset: int,
    unknown: bool,
) -> Feature:
    """A token; one that lies in the first ``prompt`` characters is the prompt's."""
    if special:
        return Feature(name, special=True)
    start, end = span
    if end <= prompt and prompt:
        return Feature(PROMPT, special=True)
    shift = offset - prompt
    place = max(start, prompt) + shift, end + shift
    return Feature(name, span=place, unknown=unknown)


def _positions(transformer: nn.Module) -> int:
    """How many tokens have a learned position; without these, any number."""
    for part in transformer.modules():
        table = getattr(part, "position_embeddings", None)
        if isinstance(table, nn.Embedding):
            # RoBERTa's family counts from behind the padding's own place
            before = 0 if table.padding_idx is None else table.padding_idx + 1
            return table.num_embeddings - before
    return 2**31


def is_a(model: object, kind: str) -> bool:
    """Whether a class of that name is among its classes."""
    return any(base.__name__ == kind for base in type(model).__mro__)


def name_of(model: Any) -> str:
    """As its model card has it."""
    card = getattr(model, "model_card_data", None)
    name = getattr(card, "model_name", None) or getattr(card, "base_model", None)
    return str(name or type(model).__name__)


def _not_understood(model: SentenceTransformer) -> ModelUnavailableError:
    parts = ", ".join(type(part).__name__ for part in model)
    return ModelUnavailableError(
        "model",
        "a transformer or static embeddings first (for another model give its "
        "embedding function to captum_pairs.from_functions)",
        f"the modules {parts}",
    )
