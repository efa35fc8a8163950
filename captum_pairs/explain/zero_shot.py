"""An image classified by texts, and where it speaks for each class."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, TYPE_CHECKING, Union

import numpy as np
import torch
from captum_pairs.attr import InvalidArgumentError, Session, validation
from captum_pairs.attr._utils.example import check_norm
from captum_pairs.attr._utils.hooks import observed
from captum_pairs.explain.counting import tallied
from captum_pairs.explain.files import (
    as_similarity,
    as_text,
    as_texts,
    input_from_json,
    input_to_json,
    read_result,
    well_formed,
    write_result,
)
from captum_pairs.explain.methods import check_width, INTEGRATED_GRADIENTS
from captum_pairs.explain.options import Options
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.result import named, Result
from captum_pairs.explain.sides import adopted, settled, side_of
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder import Feature, Source, TEXT
from captum_pairs.models.encoder_pair import EncoderPair, Head
from captum_pairs.models.texts import PreparedText
from captum_pairs.show.pictures import draw_zero_shot, Scales
from captum_pairs.show.reading import silence_of_classes, verdict_of_classes
from captum_pairs.show.wording import method_name, plain, sort
from torch import Tensor

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["zero_shot", "ZeroShot"]

Class = Union[str, int]
_FORMAT = 1
# What is kept as a tensor.
_TENSORS = ("scores", "probabilities", "constants", "attributions")


@dataclass(frozen=True, repr=False)
class ZeroShot(Result):
    """
    An input's similarities to the prompts of m classes, attributed to its features i.

    For every class score = constant + attributions, summed over the features, up to the
    path's residual.

    Args:
        model: what was loaded.
        input: the image, or what else was classified.
        classes: as they were given.
        prompts: the texts that they became.
        scores: (m,), similarities.
        probabilities: (m,): the softmax of the model's scores; for a model that was
            trained with a sigmoid (SigLIP, whose score has a bias) the sigmoid.
        constants: (m,), the baseline's similarities.
        attributions: (m, i).
        method: by which they were found.
        similarity: "cosine" or "dot".
        unknown: words of the prompts that the tokenizer does not know.
    """

    model: str
    input: ExplainedInput
    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    scores: Tensor
    probabilities: Tensor
    constants: Tensor
    attributions: Tensor
    method: str = INTEGRATED_GRADIENTS
    similarity: str = "cosine"
    unknown: tuple[str, ...] = ()

    def top(self, number: int = 5) -> list[tuple[str, float]]:
        """The most probable classes, and their probabilities."""
        validation.positive_int("number", number, 0)
        order = self.probabilities.argsort(descending=True, stable=True)[:number]
        return [
            (self.classes[at], float(self.probabilities[at])) for at in order.tolist()
        ]

    def map(self, name: Class) -> Tensor:
        """Where the image speaks for a class: (rows, columns)."""
        return self.input.shaped(self.attributions[self._index(name)])

    def difference(
        self, first: Optional[Class] = None, second: Optional[Class] = None
    ) -> Tensor:
        """What separates two classes, by default the most probable one from the next:
        the map of the first minus that of the second, (rows, columns)."""
        best = [name for name, _ in self.top(2)]
        first = best[0] if first is None else first
        second = best[-1] if second is None else second
        return self.map(first) - self.map(second)

    def _index(self, name: Class) -> int:
        is_index = isinstance(name, int) and not isinstance(name, bool)
        if is_index and 0 <= int(name) < len(self.classes):
            return int(name)
        if not isinstance(name, str) or name not in self.classes:
            raise InvalidArgumentError(
                "name",
                f"one of the classes {', '.join(self.classes[:20])}",
                validation.describe(name),
            )
        return self.classes.index(str(name))

    def parts(self, name: Class) -> dict[str, float]:
        """What a class's score is the sum of."""
        at = self._index(name)
        constant, score = float(self.constants[at]), float(self.scores[at])
        total = float(self.attributions[at].double().sum())
        return {
            "the baseline": constant,
            f"the {sort(self.input.kind)}": total,
            f"error of {method_name(self.method)}": score - constant - total,
        }

    def by_class(self) -> PairExplanation:
        """The input's features beside the classes, as a table of pairs: what a page
        shows."""
        text, features = "", []
        for name in self.classes:
            text += ", " if text else ""
            features.append(Feature(name, span=(len(text), len(text) + len(name))))
            text += name
        source = Source(TEXT, text=text)
        classes = ExplainedInput(source, tuple(features), None, "embedding", "", 0, 0.0)
        best = int(self.probabilities.argmax())
        constant, total, error = self.parts(best).values()
        return PairExplanation(
            model=self.model,
            method=self.method,
            first=self.input,
            second=classes,
            similarity=self.similarity,
            score=constant + total + error,
            heads=(Head(),),
            constant=0.0,
            first_effects=None,
            second_effects=self.constants,
            interactions=self.attributions.T.contiguous(),
            convergence_delta=-error,
            tolerance=math.inf,
        )

    def summary(self, number: int = 5) -> str:
        """What it says in a sentence, and the most probable classes."""
        lines = [verdict_of_classes(self)]
        for name, probability in self.top(number):
            baseline, own, _ = self.parts(name).values()
            lines.append(
                f"{probability:6.1%} {name}: similarity "
                f"{plain(float(self.scores[self._index(name)]))} = {plain(baseline)} "
                f"(the baseline) {plain(own)} (the {sort(self.input.kind)})"
            )
        return "\n".join([*lines, *silence_of_classes(self)])

    def plot(
        self,
        number: int = 3,
        *,
        own_scales: bool = False,
        outlier_perc: Optional[float] = None,
    ) -> "Figure":
        """
        The maps of the most probable classes, and what separates the first two.

        Args:
            number: of classes.
            own_scales, outlier_perc: see :meth:`PairExplanation.plot`.
        """
        return draw_zero_shot(self, number, Scales(own_scales, outlier_perc))

    def _in_short(self) -> Iterator[str]:
        yield f"{self.model}, {named(self.input)}"
        for name, probability in self.top(3):
            score = plain(float(self.scores[self._index(name)]))
            yield f"“{name}” {probability:.1%} ({self.similarity} {score})"

    def to_frame(self) -> "pandas.DataFrame":
        """
        Every number as a row: its class, which part it belongs to ("feature",
        "constant", "error"), the name and index of its feature, whether that is
        special, and the attribution. Those of a class add up to its score.

        Raises:
            ImportError: without pandas.
        """
        import pandas

        names = self.input.names
        special = [feature.special for feature in self.input.features]
        rows: list[tuple[Any, ...]] = []
        for at, (name, values) in enumerate(zip(self.classes, self.attributions)):
            rows += [
                (name, "feature", names[i], i, special[i], value)
                for i, value in enumerate(values.tolist())
            ]
            constant, _, error = self.parts(at).values()
            rows.append((name, "constant", None, None, False, constant))
            rows.append((name, "error", None, None, False, error))
        columns = ["class", "part", "feature", "index", "special", "attribution"]
        return pandas.DataFrame(rows, columns=columns).astype({"index": "Int64"})

    def save(self, directory: Union[str, Path], name: str = "zero_shot") -> list[Path]:
        """
        Writes every number.

        Returns:
            DIRECTORY/NAME.json (what it is, in words and numbers) and
            DIRECTORY/NAME.safetensors (scores, attributions, the picture).
        """
        order = self.probabilities.argsort(descending=True, stable=True).tolist()
        content = {
            "format": _FORMAT,
            "model": self.model,
            "method": self.method,
            "similarity": self.similarity,
            "input": input_to_json(self.input),
            "classes": self.classes,
            "prompts": self.prompts,
            "unknown": self.unknown,
            "top": [
                {
                    "class": self.classes[at],
                    "probability": float(self.probabilities[at]),
                    "parts": self.parts(at),
                }
                for at in order
            ],
        }
        tensors = {each: getattr(self, each) for each in _TENSORS}
        if self.input.source.picture is not None:
            picture = np.ascontiguousarray(self.input.source.picture)
            tensors["picture"] = torch.from_numpy(picture.copy())
        return write_result(directory, name, content, tensors)

    @classmethod
    def load(cls, directory: Union[str, Path], name: str = "zero_shot") -> "ZeroShot":
        """What :meth:`save` wrote; errors as :meth:`PairExplanation.load`."""
        content, tensors = read_result(directory, name, _FORMAT)
        with well_formed(Path(directory) / f"{name}.json"):
            picture = tensors.get("picture")
            result = cls(
                model=as_text(content["model"]),
                input=input_from_json(content["input"], picture),
                classes=as_texts(content["classes"]),
                prompts=as_texts(content["prompts"]),
                **{each: tensors[each] for each in _TENSORS},
                method=as_text(content["method"]),
                similarity=as_similarity(content["similarity"]),
                unknown=as_texts(content.get("unknown", [])),
            )
            count = len(result.classes)
            if result.attributions.shape != (count, len(result.input.features)):
                raise ValueError(f"attributions {tuple(result.attributions.shape)}")
            if len(result.prompts) != count:
                raise ValueError(f"{len(result.prompts)} prompts of {count} classes")
            for each in _TENSORS[:3]:
                if getattr(result, each).shape != (count,):
                    raise ValueError(f"{each} {tuple(getattr(result, each).shape)}")
            return result


def zero_shot(
    model: EncoderPair,
    image: Any,
    prompts: Iterable[str],
    template: str,
    options: Options,
) -> ZeroShot:
    """See :meth:`captum_pairs.DualEncoder.zero_shot`."""
    model.require_embeddings("a classification by texts")
    classes = _classes(prompts)
    if not isinstance(template, str) or "{}" not in template:
        came = validation.describe(template)
        raise InvalidArgumentError("template", "a text with {} in it", came)
    check_width(adopted(options, image).method, "a classification")
    texts = tuple(template.replace("{}", name) for name in classes)
    embeddings, unknown = _embeddings(model, texts)
    directions = torch.stack(embeddings)
    options = adopted(options, image)
    with tallied(options.progress) as tally, Session() as session:
        side = side_of(model, 0, image, options, session, tally)
        found = side.shares_along(directions)
        given = settled(side.input, found)
    scores = directions.to(found.embedding) @ found.embedding
    head = model.heads[0]
    logits = head.scale * scores + head.bias
    return ZeroShot(
        model.name,
        given,
        classes,
        texts,
        scores,
        logits.sigmoid() if head.bias else logits.softmax(0),
        directions.to(found.embedding) @ found.baseline_embedding,
        found.values.T.contiguous(),
        options.method_name,
        model.similarity,
        unknown,
    )


def _classes(prompts: object) -> tuple[str, ...]:
    """Names of classes, from whatever goes through several."""
    expected = "texts, each once: a list, or what else goes through them"
    if isinstance(prompts, (str, bytes, Mapping)) or not isinstance(prompts, Iterable):
        raise InvalidArgumentError("prompts", expected, validation.describe(prompts))
    try:
        classes = tuple(prompts)
    except TypeError as error:  # an array of one number says that it is iterable
        came = validation.describe(prompts)
        raise InvalidArgumentError("prompts", expected, came) from error
    wrong = [each for each in classes if not isinstance(each, str)]
    if wrong:
        came = f"{validation.describe(wrong[0])} among them"
        raise InvalidArgumentError("prompts", expected, came)
    if not classes:
        raise InvalidArgumentError("prompts", expected, "none")
    twice = [each for at, each in enumerate(classes) if each in classes[:at]]
    if twice:
        raise InvalidArgumentError("prompts", expected, f"{twice[0]!r} several times")
    return classes


def _embeddings(
    model: EncoderPair, texts: Sequence[str]
) -> tuple[list[Tensor], tuple[str, ...]]:
    """Texts' embeddings (k,), normalised if the similarity is the cosine; words that
    the tokenizer does not know."""
    found = []
    unknown: dict[str, None] = {}
    # looks at the modules that run, as for an explanation
    with Session() as session, observed(session), torch.no_grad():
        for text in texts:
            prepared = model.second.prepare(text).to(model.second.device)
            if isinstance(prepared, PreparedText):
                features = (group.feature for group in prepared.groups())
                unknown.update(dict.fromkeys(f.name for f in features if f.unknown))
            embedding = model.second.embed(prepared.inputs, *prepared.arguments)[0]
            norm = torch.linalg.vector_norm(embedding)
            if not bool(norm.isfinite()):
                expected, came = "texts whose embedding is finite", "NaN or infinity"
                raise InvalidArgumentError("prompts", expected, f"{came} of {text!r}")
            if model.similarity == "cosine":
                check_norm(embedding, f"the prompt {text!r}")
                embedding = embedding / norm
            found.append(embedding.cpu())
        session.warn_if_random()
    return found, tuple(unknown)
