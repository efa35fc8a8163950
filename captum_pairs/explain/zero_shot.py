"""An image classified by texts, and where it speaks for each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional, TYPE_CHECKING, Union

import torch
from captum_pairs.attr import InvalidArgumentError, Session
from captum_pairs.explain.methods import check_width
from captum_pairs.explain.options import Options
from captum_pairs.explain.pair import signed
from captum_pairs.explain.sides import adopted, side_of
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models.encoder_pair import EncoderPair
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["zero_shot", "ZeroShot"]

Class = Union[str, int]


@dataclass(frozen=True)
class ZeroShot:
    """
    An image's similarities to the prompts of m classes, attributed to its features i.

    For every class score = constant + attributions, summed over the features, up to the
    path's residual.

    Args:
        model: what was loaded.
        input: the image.
        classes: as they were given.
        prompts: the texts that they became.
        scores: (m,), similarities.
        probabilities: (m,): the softmax of the model's scores; for a model that was
            trained with a sigmoid (SigLIP, whose score has a bias) the sigmoid.
        constants: (m,), the baseline's similarities.
        attributions: (m, i).
    """

    model: str
    input: ExplainedInput
    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    scores: Tensor
    probabilities: Tensor
    constants: Tensor
    attributions: Tensor

    def top(self, number: int = 5) -> list[tuple[str, float]]:
        """The most probable classes, and their probabilities."""
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
        if isinstance(name, int) and 0 <= name < len(self.classes):
            return name
        if name not in self.classes:
            raise InvalidArgumentError(
                "name", f"one of the classes {', '.join(self.classes[:20])}", repr(name)
            )
        return self.classes.index(str(name))

    def summary(self, number: int = 5) -> str:
        """The most probable classes, and what separates the first two."""
        lines = []
        for name, probability in self.top(number):
            at = self._index(name)
            score = signed(float(self.scores[at]))
            lines.append(
                f"{probability:6.1%} {name}: similarity {score}"
                f" = {signed(float(self.constants[at]))} (the baseline) "
                f"{signed(float(self.attributions[at].sum()))} (the image)"
            )
        return "\n".join(lines)

    def plot(self, number: int = 3) -> "Figure":
        """The maps of the most probable classes, and what separates the first two."""
        from captum_pairs.show.pictures import draw_zero_shot

        return draw_zero_shot(self, number)


def zero_shot(
    model: EncoderPair,
    image: Any,
    prompts: Sequence[str],
    template: str,
    options: Options,
) -> ZeroShot:
    """See :meth:`captum_pairs.models.EncoderPair.zero_shot`."""
    if isinstance(prompts, str) or len(prompts) < 1:
        raise InvalidArgumentError("prompts", "a list of texts", repr(prompts))
    if "{}" not in template:
        raise InvalidArgumentError("template", "a text with {} in it", repr(template))
    check_width(adopted(options, image).method, "a classification")
    texts = tuple(template.replace("{}", name) for name in prompts)
    directions = torch.stack([_embedding(model, text) for text in texts])
    options = adopted(options, image)
    with Session() as session:
        side = side_of(model, 0, image, options, session)
        found = side.shares_along(directions)
        given = side.input
    scores = directions.to(found.embedding) @ found.embedding
    head = model.heads[0]
    logits = head.scale * scores + head.bias
    return ZeroShot(
        model.name,
        given,
        tuple(prompts),
        texts,
        scores,
        logits.sigmoid() if head.bias else logits.softmax(0),
        directions.to(found.embedding) @ found.baseline_embedding,
        found.values.T.contiguous(),
    )


@torch.no_grad()
def _embedding(model: EncoderPair, text: str) -> Tensor:
    """A text's embedding (k,), normalised if the similarity is the cosine."""
    prepared = model.second.prepare(text).to(model.second.device)
    embedding = model.second.embed(prepared.inputs, *prepared.arguments)[0].cpu()
    if model.similarity == "cosine":
        embedding = embedding / torch.linalg.vector_norm(embedding)
    return embedding
