"""Several methods on the same pair: what each says, and how far it can be trusted.

>>> comparison = load("scenes").compare("scene.png", "a red circle and a blue star")
>>> print(comparison.summary())
>>> comparison.plot().savefig("comparison.png")
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, TYPE_CHECKING, TypeVar, Union

import torch
from captum_pairs.attr import InvalidArgumentError, Session, validation
from captum_pairs.explain.compute import explain_pair
from captum_pairs.explain.contributions import Contributions
from captum_pairs.explain.counting import tallied, Tally
from captum_pairs.explain.files import (
    as_number,
    as_text,
    read_result,
    well_formed,
    write_result,
)
from captum_pairs.explain.methods import (
    Method,
    method_names,
    method_of,
    settings_of,
    subset_methods,
)
from captum_pairs.explain.options import Options, REMOVED
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.explain.result import named, Result
from captum_pairs.explain.sides import Asking, PreparedSide
from captum_pairs.metrics import faithfulness, insertion_deletion, rank_agreement
from captum_pairs.models.encoder_pair import EncoderPair
from captum_pairs.models.equality import ByContent
from captum_pairs.show.pictures import draw_comparison
from captum_pairs.show.reading import silence, verdict_of_comparison
from captum_pairs.show.wording import plain, unit
from torch import Tensor

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["Compared", "Comparison", "compare"]

Measured = TypeVar("Measured")

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


# As Compared has them after the explanation.
_FIELDS = (
    "seconds",
    "forwards",
    "backwards",
    "faithfulness",
    "faithfulness_of_pairs",
    "faithfulness_alone",
    "insertion",
    "deletion",
)


@dataclass(frozen=True, repr=False)
class Compared(ByContent):
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

    def _in_short(self) -> str:
        of_all, of_pairs = self.faithfulness, self.faithfulness_of_pairs
        faithful = of_pairs if of_all is None else of_all
        return f"{self.method} faithful {faithful:.2f}, {self.seconds:.2g} s"

    def __repr__(self) -> str:
        return f"<Compared: {self._in_short()}>"


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """
    Methods on the same pair, at the same layers, in the order they were asked for.

    Args:
        compared: one of each that could run.
        agreement: (methods, methods), rank correlations of their interactions.
        failed: the methods that could not, and why.
    """

    compared: tuple[Compared, ...]
    agreement: Tensor
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of those that could run."""
        return tuple(each.method for each in self.compared)

    @property
    def explanations(self) -> tuple[PairExplanation, ...]:
        """What each says."""
        return tuple(each.explanation for each in self.compared)

    def __getitem__(self, method: str) -> PairExplanation:
        """
        What a method says.

        Raises:
            InvalidArgumentError: if it was not asked for, or could not run.
        """
        validation.one_of("method", method, (*self.methods, *self.failed))
        if method in self.failed:
            raise InvalidArgumentError(
                "method", "one that could run", f"{method!r} ({self.failed[method]})"
            )
        return self.compared[self.methods.index(method)].explanation

    def to_frame(self) -> "pandas.DataFrame":
        """A row for each method with its measures."""
        import pandas

        return pandas.DataFrame(list(self._rows())).set_index("method")

    def _rows(self) -> Iterator[dict[str, Any]]:
        for each in self.compared:
            measures = {name: getattr(each, name) for name in _COLUMNS}
            yield {"method": each.method, **measures, "error": ""}
        for method, error in self.failed.items():
            yield {"method": method, **dict.fromkeys(_COLUMNS), "error": error}

    def summary(self) -> str:
        """What it says in a sentence, the measures as a table, and what each method
        finds strongest."""
        first = self.explanations[0]
        lines = [
            verdict_of_comparison(self),
            f"{first.first.source} and {first.second.source}: "
            f"{unit(first.similarity)} {plain(first.score)}",
            f"at the {first.first.layer} and the {first.second.layer}",
            _line(["", *_COLUMNS.values()]),
        ]
        for row in self._rows():
            shown = [_shown(row[name]) for name in _COLUMNS]
            if row["error"]:
                lines.append(f"  {row['method']:20}  could not run: {row['error']}")
            else:
                lines.append(_line([row["method"], *shown]))
        lines.append("agreement of the methods, by rank:")
        for name, values in zip(self.methods, self.agreement.tolist()):
            lines.append(f"  {name:20}" + "".join(f"{value:7.2f}" for value in values))
        lines.append("the strongest pairs:")
        for found in self.explanations:
            pairs = "; ".join(str(pair) for pair in found.top_pairs(2))
            lines.append(f"  {found.method}: {pairs}")
        return "\n".join([*lines, *silence(first)])

    def _in_short(self) -> Iterator[str]:
        first = self.explanations[0]
        yield f"{first.model}, {named(first.first)} and {named(first.second)}"
        yield f"{unit(first.similarity)} {plain(first.score)}"
        yield from (each._in_short() for each in self.compared)
        yield from (f"{method} could not run" for method in self.failed)

    def plot(self, number: int = 4) -> "Figure":
        """
        Small multiples: a row for each method.

        Args:
            number: of words (or regions) that are shown, the strongest ones.
        """
        return draw_comparison(self, number)

    def save(self, directory: Union[str, Path], name: str = "comparison") -> list[Path]:
        """Writes DIRECTORY/NAME.json, and each explanation's numbers beside it."""
        content = {
            "format": _FORMAT,
            "methods": list(self._rows()),
            "agreement": self.agreement.tolist(),
        }
        paths = write_result(directory, name, content)
        for each in self.explanations:
            paths += each.save(directory, f"{name}_{each.method}")
        return paths

    @classmethod
    def load(
        cls, directory: Union[str, Path], name: str = "comparison"
    ) -> "Comparison":
        """What :meth:`save` wrote; errors as :meth:`PairExplanation.load`."""
        content, _ = read_result(directory, name, _FORMAT, with_tensors=False)
        with well_formed(Path(directory) / f"{name}.json"):
            rows = [dict(row) for row in content["methods"]]
            failed = {
                as_text(row["method"]): as_text(row["error"])
                for row in rows
                if row.get("error")
            }
            compared = tuple(
                _compared(Path(directory), name, row)
                for row in rows
                if row["method"] not in failed
            )
            agreement = torch.tensor(content["agreement"], dtype=torch.float32)
            if agreement.shape != (len(compared), len(compared)) or not compared:
                raise ValueError(f"{len(compared)} methods, {tuple(agreement.shape)}")
            return cls(compared, agreement, failed)


def _read(column: str, value: Any) -> Any:
    """A measure that a file has, if that is what it is."""
    if value is None and column == "faithfulness":
        return None
    if column in ("forwards", "backwards") and not isinstance(value, int):
        raise TypeError(f"{column}: {type(value).__name__}")
    return value if isinstance(value, int) else as_number(value)


def _shown(value: Union[int, float, None]) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    """A row of a table: the first cell on the left, the others on the right."""
    return f"  {cells[0]:20}" + "".join(f"{cell:>10}" for cell in cells[1:])


def _compared(directory: Path, name: str, row: dict[str, Any]) -> Compared:
    """A method's row as it was saved, and its explanation beside it."""
    explanation = PairExplanation.load(directory, f"{name}_{row['method']}")
    measured: dict[str, Any] = {each: _read(each, row[each]) for each in _FIELDS}
    return Compared(explanation, **measured)


def compare(
    model: EncoderPair,
    first: Any,
    second: Any,
    methods: Sequence[Union[str, Method]],
    options: Options,
    settings: Optional[Mapping[str, Any]] = None,
) -> Comparison:
    """
    See :meth:`captum_pairs.DualEncoder.compare`.

    Args:
        settings: the methods' own, each for those that know it.
    """
    for name, given in (("first", first), ("second", second)):
        if isinstance(given, (list, tuple, Contributions)):
            raise InvalidArgumentError(
                name,
                "one input, since one pair is compared",
                validation.describe(given),
            )
    own = own_settings(methods, settings)
    # what is wrong with an input is wrong for every method
    arguments = metric_arguments(model, (first, second), options)
    with tallied(options.progress) as tally:
        found = [
            _timed(model, (first, second), options, method, each, tally)
            for method, each in zip(methods, own)
        ]
    ran = [each for each in found if not isinstance(each, str)]
    names = [method_of(method)[0] for method in methods]
    failed = {n: each for n, each in zip(names, found) if isinstance(each, str)}
    if not ran:
        reasons = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise InvalidArgumentError("methods", "one that can run", reasons)
    measures = _measures([each[0] for each in ran], arguments, options.seed)
    tables = [explanation.interactions[None] for explanation, *_ in ran]
    agreement = torch.tensor(
        [[float(rank_agreement(a, b)) for b in tables] for a in tables]
    )
    compared = (
        Compared(explanation, seconds, forwards, backwards, *measure)
        for (explanation, seconds, forwards, backwards), measure in zip(ran, measures)
    )
    return Comparison(tuple(compared), agreement, failed)


def own_settings(
    methods: Sequence[Union[str, Method]], settings: Optional[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Each method's own settings of those that were given."""
    given: object = {} if settings is None else settings
    if not isinstance(given, Mapping):
        came = validation.describe(given)
        raise InvalidArgumentError("settings", "names and values", came)
    known = [settings_of(method_of(method)[1]) for method in methods]
    for name in given:
        if not any(name in each for each in known):
            every = sorted({n for each in known for n in each})
            raise InvalidArgumentError(
                f"settings[{name!r}]", f"one of {', '.join(every)}", "this"
            )
    return [{n: v for n, v in given.items() if n in each} for each in known]


def methods_asked_for(
    methods: object, absent: object, references: object = None
) -> tuple[Union[str, Method], ...]:
    """Which methods are compared: by default all (with references, if there are such),
    or all that leave out features."""
    if methods is None and absent == REMOVED:
        return subset_methods()
    if methods is None:
        return method_names(references is not None)
    known = f"several of {', '.join(method_names(True))} or classes, each once"
    if not isinstance(methods, (list, tuple)) or not methods:
        raise InvalidArgumentError("methods", known, validation.describe(methods))
    if len({method_of(method) for method in methods}) < len(methods):
        raise InvalidArgumentError("methods", known, repr(methods))
    return tuple(methods)


def _timed(
    model: EncoderPair,
    inputs: tuple[Any, Any],
    options: Options,
    method: Union[str, Method],
    settings: Mapping[str, Any],
    tally: Tally,
) -> Union[tuple[PairExplanation, float, int, int], str]:
    """An explanation, its seconds, forward and backward passes; or why the method could
    not run."""
    before = tally.forwards, tally.backwards
    began = time.perf_counter()
    try:
        own = options.of_method(method, settings)
        explanation = explain_pair(model, inputs, own, tally=tally)
    except InvalidArgumentError as error:
        return str(error)
    seconds = time.perf_counter() - began
    passes = tally.forwards - before[0], tally.backwards - before[1]
    return explanation, seconds, *passes


def _measures(
    found: Sequence[PairExplanation], arguments: Mapping[str, Any], seed: int
) -> Iterator[tuple[Optional[float], float, float, float, float]]:
    """Faithfulness in three ways, and areas of insertion and deletion, of each
    on the same subsets."""
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
        generator=torch.Generator().manual_seed(seed),
        **arguments,
    )
    scores = insertion_deletion(attributions=_worth(found), **arguments)
    for one, score in zip(_each(faithful), _each(scores)):
        whole = None if one.with_effects is None else float(one.with_effects)
        inserted, deleted = score.areas()
        pairs, alone = float(one.centered), float(one.interactions)
        yield whole, pairs, alone, float(inserted), float(deleted)


def _each(measured: Union[Measured, list[Measured]]) -> list[Measured]:
    """Of several methods the measures, which come as a list."""
    return measured if isinstance(measured, list) else [measured]


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
    # a method that needs no path
    simple = replace(options, method="occlusion", settings={})
    with Session() as session:
        first, second = (
            PreparedSide(Asking(model, at, simple, session), raw)
            for at, raw in enumerate(inputs)
        )
    sides = first, second
    at_input = {
        side.asking.layer.at_input
        for side in sides
        if side.asking.layer.module is not None
    }
    if len(at_input) > 1:
        raise InvalidArgumentError(
            "layer",
            "the inputs of blocks, or the outputs of modules, on both sides",
            " and ".join(side.asking.layer.name for side in sides),
        )
    return {
        "forward_func": tuple(side.asking.encoder.embed for side in sides),
        "inputs": tuple(side.prepared.inputs for side in sides),
        "baselines": tuple(side.prepared.baseline for side in sides),
        "feature_mask": tuple(side.example.side.mask for side in sides),
        "additional_forward_args": tuple(side.prepared.arguments for side in sides),
        "similarity": model.similarity,
        "layer": tuple(side.asking.layer.module for side in sides),
        "attribute_to_layer_input": at_input == {True},
        "embed_subsets": tuple(side.embed_subsets for side in sides),
        "always": tuple(
            [i for i, f in enumerate(side.layout.features) if f.special]
            for side in sides
        ),
    }
