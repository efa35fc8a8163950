"""Several methods on the same pair: what each says, and how far it can be trusted.

>>> comparison = load("scenes").compare("scene.png", "a red circle and a blue star")
>>> print(comparison.summary())
>>> comparison.plot().savefig("comparison.png")
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, TYPE_CHECKING, Union

import torch
from captum_pairs.attr import InvalidArgumentError, Session
from captum_pairs.explain.compute import explain_pair
from captum_pairs.explain.counting import Tally
from captum_pairs.explain.methods import Method, method_names, method_of, subset_methods
from captum_pairs.explain.options import Options, REMOVED
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.sides import PreparedSide
from captum_pairs.metrics import faithfulness, insertion_deletion, rank_agreement
from captum_pairs.models.encoder_pair import EncoderPair
from torch import Tensor

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["Compared", "Comparison", "compare"]

_FORMAT = 1
# Subsets of each side; every one of the first meets every one of the second.
_SUBSETS = 128


# The measures, and what they are called in a narrow table.
_COLUMNS = {
    "faithfulness": "faithful",
    "faithfulness_of_pairs": "of pairs",
    "faithfulness_alone": "alone",
    "insertion": "insertion",
    "deletion": "deletion",
    "seconds": "seconds",
    "forwards": "forwards",
    "backwards": "backwards",
}


@dataclass(frozen=True)
class Compared:
    """
    What one method says of a pair, and what it cost.

    Args:
        explanation: what it says.
        seconds: it took, of this machine.
        forwards: inputs that the encoders embedded for it, points of a path and subsets
            among them.
        backwards: gradients through such an embedding.
        faithfulness: the correlation of the similarity with what the method predicts of
            it, by pairs and by what features add on their own, over random subsets of
            both inputs' features; None for a method that knows pairs only.
        faithfulness_of_pairs: the same of what pairs alone make of the similarity.
        faithfulness_alone: of the similarity with the prediction by pairs alone.
        insertion, deletion: the mean similarity while the features of both inputs are
            put in, or taken out, those first that add most (on their own, as far as the
            method knows it, and in pairs): high and low is good.
    """

    explanation: PairExplanation
    seconds: float
    forwards: int
    backwards: int
    faithfulness: Optional[float]
    faithfulness_of_pairs: float
    faithfulness_alone: float
    insertion: float
    deletion: float

    @property
    def method(self) -> str:
        """Its name."""
        return self.explanation.method


@dataclass(frozen=True)
class Comparison:
    """
    Methods on the same pair, at the same layers, in the order they were asked for.

    Args:
        compared: one of each.
        agreement: (methods, methods), rank correlations of their interactions.
    """

    compared: tuple[Compared, ...]
    agreement: Tensor

    @property
    def methods(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(each.method for each in self.compared)

    def __getitem__(self, method: str) -> PairExplanation:
        """What a method says."""
        if method not in self.methods:
            raise InvalidArgumentError(
                "method", f"one of {', '.join(self.methods)}", repr(method)
            )
        return self.compared[self.methods.index(method)].explanation

    def to_frame(self) -> "pandas.DataFrame":
        """A row for each method with its measures."""
        import pandas

        return pandas.DataFrame(list(self._rows())).set_index("method")

    def _rows(self) -> Iterator[dict[str, Any]]:
        names = ["method", *_COLUMNS]
        for each in self.compared:
            yield {name: getattr(each, name) for name in names}

    def summary(self) -> str:
        """The measures as a table, and what each method finds strongest."""
        first = self.compared[0].explanation
        lines = [
            f"{first.first.source} and {first.second.source}: "
            f"{first.similarity} {first.score:+.3f}",
            f"at the {first.first.layer} and the {first.second.layer}",
            _line(["", *_COLUMNS.values()]),
        ]
        for row in self._rows():
            shown = [_shown(row[name]) for name in _COLUMNS]
            lines.append(_line([row["method"], *shown]))
        lines.append("agreement of the methods, by rank:")
        for name, row in zip(self.methods, self.agreement.tolist()):
            lines.append(f"  {name:20}" + "".join(f"{value:7.2f}" for value in row))
        lines.append("the strongest pairs:")
        for each in self.compared:
            pairs = "; ".join(str(pair) for pair in each.explanation.top_pairs(2))
            lines.append(f"  {each.method}: {pairs}")
        return "\n".join(lines)

    def plot(self, number: int = 4) -> "Figure":
        """
        Small multiples: a row for each method.

        Args:
            number: of words (or regions) that are shown, the strongest ones.
        """
        from captum_pairs.show.pictures import draw_comparison

        return draw_comparison(self, number)

    def page(self, path: Union[str, Path]) -> Path:
        """Writes a page to step through the methods (:mod:`captum_pairs.show.page`)."""
        from captum_pairs.show.page import write_page

        return write_page([each.explanation for each in self.compared], path)

    def save(self, directory: Union[str, Path], name: str = "comparison") -> list[Path]:
        """Writes DIRECTORY/NAME.json, and each explanation's numbers beside it."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "format": _FORMAT,
            "methods": list(self._rows()),
            "agreement": self.agreement.tolist(),
        }
        path = folder / f"{name}.json"
        written = json.dumps(content, indent=1, ensure_ascii=False)
        path.write_text(written + "\n", encoding="utf-8")
        paths = [path]
        for each in self.compared:
            paths += each.explanation.save(folder, f"{name}_{each.method}")
        return paths


def _shown(value: Union[int, float, None]) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    """A row of a table: the first cell on the left, the others on the right."""
    return f"  {cells[0]:20}" + "".join(f"{cell:>10}" for cell in cells[1:])


def compare(
    model: EncoderPair,
    first: Any,
    second: Any,
    methods: Sequence[Union[str, Method]],
    options: Options,
) -> Comparison:
    """See :meth:`captum_pairs.models.EncoderPair.compare`."""
    chosen = [options.with_method(method) for method in methods]
    found = [_timed(model, (first, second), each) for each in chosen]
    explanations = [explanation for explanation, *_ in found]
    measures = _measures(model, (first, second), options, explanations)
    tables = [each.interactions[None] for each in explanations]
    agreement = torch.tensor(
        [[float(rank_agreement(a, b)) for b in tables] for a in tables]
    )
    compared = (
        Compared(explanation, seconds, forwards, backwards, *measure)
        for (explanation, seconds, forwards, backwards), measure in zip(found, measures)
    )
    return Comparison(tuple(compared), agreement)


def methods_asked_for(
    methods: object, absent: object
) -> tuple[Union[str, Method], ...]:
    """Which methods are compared: by default all, or all that leave out features."""
    if methods is None:
        return method_names() if absent != REMOVED else subset_methods()
    known = f"several of {', '.join(method_names())} or classes, each once"
    if not isinstance(methods, (list, tuple)) or not methods:
        raise InvalidArgumentError("methods", known, repr(methods))
    if len({method_of(method) for method in methods}) < len(methods):
        raise InvalidArgumentError("methods", known, repr(methods))
    return tuple(methods)


def _timed(
    model: EncoderPair, inputs: tuple[Any, Any], options: Options
) -> tuple[PairExplanation, float, int, int]:
    """An explanation, its seconds, forward and backward passes."""
    tally = Tally()
    began = time.perf_counter()
    explanation = explain_pair(model, inputs, options, tally=tally)
    seconds = time.perf_counter() - began
    return explanation, seconds, tally.forwards, tally.backwards


def _measures(
    model: EncoderPair,
    inputs: tuple[Any, Any],
    options: Options,
    found: Sequence[PairExplanation],
) -> Iterator[tuple[Optional[float], float, float, float, float]]:
    """Faithfulness in three ways, and areas of insertion and deletion, of each
    on the same subsets."""
    arguments = metric_arguments(model, inputs, options)
    tables = [each.interactions[None] for each in found]
    effects = [
        (
            None
            if each.first_effects is None or each.second_effects is None
            else (each.first_effects[None], each.second_effects[None])
        )
        for each in found
    ]
    faithful = faithfulness(
        attributions=tables,
        main_effects=effects,
        n_samples=_SUBSETS,
        generator=torch.Generator().manual_seed(options.seed),
        **arguments,
    )
    scores = insertion_deletion(attributions=_worth(found), **arguments)
    for one, score in zip(faithful, scores):
        whole = None if one.with_effects is None else float(one.with_effects)
        inserted, deleted = score.areas()
        pairs, alone = float(one.centered), float(one.interactions)
        yield whole, pairs, alone, float(inserted), float(deleted)


def _worth(found: Sequence[PairExplanation]) -> list[tuple[Tensor, Tensor]]:
    """What each feature adds by each explanation, (1, i) and (1, j)."""
    worth = []
    for each in found:
        sums = [each.interactions.sum(1), each.interactions.sum(0)]
        for at, effects in enumerate((each.first_effects, each.second_effects)):
            if effects is not None:
                sums[at] = sums[at] + effects
        worth.append((sums[0][None], sums[1][None]))
    return worth


def metric_arguments(
    model: EncoderPair, inputs: tuple[Any, Any], options: Options
) -> dict[str, Any]:
    """The arguments of metrics for a pair, whose special features are never absent."""
    plain = options.with_method("occlusion")  # no steps have to be chosen
    with Session() as session:
        first, second = (
            PreparedSide(model, at, raw, plain, session)
            for at, raw in enumerate(inputs)
        )
    sides = first, second
    at_input = {side.layer.at_input for side in sides if side.layer.module is not None}
    if len(at_input) > 1:
        raise InvalidArgumentError(
            "layer",
            "the inputs of blocks, or the outputs of modules, on both sides",
            " and ".join(side.layer.name for side in sides),
        )
    return {
        "forward_func": tuple(side.encoder.embed for side in sides),
        "inputs": tuple(side.prepared.inputs for side in sides),
        "baselines": tuple(side.prepared.baseline for side in sides),
        "feature_mask": tuple(side.example.side.mask for side in sides),
        "additional_forward_args": tuple(side.prepared.arguments for side in sides),
        "similarity": model.similarity,
        "layer": tuple(side.layer.module for side in sides),
        "attribute_to_layer_input": at_input == {True},
        "embed_subsets": tuple(side.embed_subsets for side in sides),
        "always": tuple(
            [i for i, f in enumerate(side.layout.features) if f.special]
            for side in sides
        ),
    }
