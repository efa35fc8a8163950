"""Which word of a text matched which region of an image: the result of one pair.

>>> explanation = explain(models.load("scenes"), "scene.png", "a red circle")
>>> print(explanation.summary())
>>> explanation.save("results")
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Optional, Union

from captum_pairs.attr import LayerFeaturePairIntegratedGradients, PairDecomposition
from captum_pairs.models.encoder import DualEncoder, Feature
from captum_pairs.models.photo import ImageLike
from captum_pairs.models.view import Box
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no types

__all__ = ["explain", "PairExplanation", "STOP_WORDS", "WordRegion"]

# Words that say nothing of what is to be seen: they get no heat map and no place among
# the strongest pairs, but their share is in the score and in the numbers.
STOP_WORDS: frozenset[str] = frozenset(
    "a an the this that these those of in on at to with and or by for from as "
    "is are was were be been being it its there here we see look shows "
    "photo picture image drawing scene thing things".split()
)
# What Gauss-Legendre steps are doubled up to until the tolerance is reached.
MOST_STEPS = 128
# A region grows from its strongest patch to neighbours of at least this share of it.
_REGION_SHARE = 0.5
_FORMAT = 1


@dataclass(frozen=True)
class WordRegion:
    """
    A word and the region of the image that it matched, or that spoke against it.

    Args:
        word: the word, with its number if the text has it several times.
        box: the region's box in pixels of the original image.
        place: where that is, in words.
        value: the sum of the region's patches, in units of the cosine similarity.
    """

    word: str
    box: Box
    place: str
    value: float

    def __str__(self) -> str:
        left, top, right, bottom = (round(edge) for edge in self.box)
        value = f"{self.value:+.3f}".replace("-", "−")
        return (
            f"“{self.word}” – {self.place} "
            f"(x {left}–{right}, y {top}–{bottom} px): {value}"
        )


@dataclass(frozen=True)
class PairExplanation:
    """
    Why a text and an image are similar.

    The parts add up: cosine = constant + image_effects + text_effects + interactions
    - convergence_delta, each summed over its features.

    Args:
        model: what was loaded.
        text: the text.
        image_size: (width, height) of the original in pixels.
        visible: the box of the original that the model sees, in its pixels.
        grid: rows and columns of patches.
        cosine: the similarity of the two embeddings.
        logit_scale: what the model multiplies it by.
        image_features: i: patches, row by row, then special tokens.
        text_features: j: words, then special tokens.
        interactions: (i, j), attributions to pairs.
        image_effects, text_effects: (i,) and (j,), the share of each feature whatever
            the other input says.
        constant: the similarity of the two baselines.
        convergence_delta: the sum of all parts minus the cosine.
        layers: the blocks of the image and the text encoder to whose inputs was
            attributed.
        blocks: how many there are of each.
        baselines: of the image and of the text, in words.
        n_steps: quadrature steps.
        residuals: of the image's and the text's path integral, relative (see
            docs/notation.md), at the fewest steps that sufficed for that side.
        tolerance: what the residuals were asked to be within.
    """

    model: str
    text: str
    image_size: tuple[int, int]
    visible: Box
    grid: tuple[int, int]
    cosine: float
    logit_scale: float
    image_features: tuple[Feature, ...]
    text_features: tuple[Feature, ...]
    interactions: Tensor
    image_effects: Tensor
    text_effects: Tensor
    constant: float
    convergence_delta: float
    layers: tuple[int, int]
    blocks: tuple[int, int]
    baselines: tuple[str, str]
    n_steps: int
    residuals: tuple[float, float]
    tolerance: float

    @property
    def logit(self) -> float:
        """The model's own score."""
        return self.cosine * self.logit_scale

    @property
    def words(self) -> tuple[str, ...]:
        """The words; of one that comes several times "red", "red (2)", ..."""
        seen: Counter[str] = Counter()
        names = []
        for feature in self.text_features[: self._word_count]:
            name = feature.name
            seen[name.casefold()] += 1
            count = seen[name.casefold()]
            names.append(name if count == 1 else f"{name} ({count})")
        return tuple(names)

    @property
    def content_words(self) -> tuple[int, ...]:
        """The indices of the words that are not in STOP_WORDS; of all, if none is."""
        words = self.text_features[: self._word_count]
        chosen = tuple(
            index
            for index, word in enumerate(words)
            if any(letter.isalnum() for letter in word.name)
            and word.name.casefold() not in STOP_WORDS
        )
        return chosen or tuple(range(len(words)))

    @property
    def _word_count(self) -> int:
        return sum(not feature.special for feature in self.text_features)

    @property
    def _patch_count(self) -> int:
        return self.grid[0] * self.grid[1]

    def maps(self) -> Tensor:
        """(words, rows, columns): each word's attributions to the patches."""
        table = self.interactions[: self._patch_count, : self._word_count]
        return table.T.reshape(-1, *self.grid)

    def parts(self) -> dict[str, float]:
        """What the cosine is the sum of."""
        patches, words = self._patch_count, self._word_count
        matched = self.interactions[:patches, :words].double().sum().item()
        pairs = self.interactions.double().sum().item()
        return {
            "the two baselines": self.constant,
            "the image on its own": self.image_effects.double().sum().item(),
            "the text on its own": self.text_effects.double().sum().item(),
            "pairs of word and patch": matched,
            "pairs with a special token": pairs - matched,
            "error of the path integral": -self.convergence_delta,
        }

    def top_pairs(self, number: int = 3) -> list[WordRegion]:
        """
        The strongest pairs of a content word and a region, by absolute value.

        A word has at most one region that speaks for it and one against it: the
        strongest patch with those of its neighbours, and theirs, that have at least
        half its value.
        """
        found = []
        for index in self.content_words:
            for sign in (1.0, -1.0):
                pair = self._region(index, sign)
                if pair is not None:
                    found.append(pair)
        return sorted(found, key=lambda pair: -abs(pair.value))[:number]

    def _region(self, index: int, sign: float) -> Optional[WordRegion]:
        values = (sign * self.maps()[index]).tolist()
        columns = self.grid[1]
        visible = [
            position
            for position in range(self._patch_count)
            if self.image_features[position].box is not None
        ]
        cells = {
            divmod(position, columns): values[position // columns][position % columns]
            for position in visible
        }
        seed = max(cells, key=lambda cell: cells[cell], default=None)
        if seed is None or cells[seed] <= 0:
            return None
        chosen = _grown(cells, seed)
        boxes = [
            box
            for row, column in chosen
            if (box := self.image_features[row * columns + column].box) is not None
        ]
        edges = list(zip(*boxes))
        box = (min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3]))
        value = sign * sum(cells[cell] for cell in chosen)
        return WordRegion(self.words[index], box, _place(box, self.image_size), value)

    def summary(self) -> str:
        """The similarity, its parts, the strongest pairs and the completeness."""
        lines = [
            f"cosine similarity {_signed(self.cosine)}, "
            f"the model's logit {_signed(self.logit, 2)}"
        ]
        for name, value in self.parts().items():
            shown = _signed(value) if name[:5] != "error" else f"{value:+.0e}"
            lines.append(f"  {'=' if len(lines) == 1 else ' '} {shown} {name}")
        pairs = self.top_pairs()
        if pairs:
            lines.append("the strongest pairs of a word and a region:")
            lines += [f"  {pair}" for pair in pairs]
        else:
            lines.append("no word matched any region: every attribution is zero")
        return "\n".join([*lines, *self._settings_in_words()])

    def _settings_in_words(self) -> Iterator[str]:
        image, text = self.residuals
        verdict = "within" if max(image, text) <= self.tolerance else "ABOVE"
        yield (
            f"attributed to the input of block {self.layers[0]} of {self.blocks[0]} "
            f"(image) and {self.layers[1]} of {self.blocks[1]} (text)"
        )
        yield f"from {self.baselines[0]} and {self.baselines[1]}"
        yield (
            "completeness: the parts miss the score by "
            f"{abs(self.convergence_delta):.0e}; path residuals at most {image:.0e} "
            f"(image) and {text:.0e} (text) with {self.n_steps} steps, {verdict} the "
            f"tolerance {self.tolerance:g}"
        )

    def save(
        self, directory: Union[str, Path], name: str = "explanation"
    ) -> list[Path]:
        """
        Writes every number.

        Returns:
            DIRECTORY/NAME.json (what it is, in words and numbers) and
            DIRECTORY/NAME.safetensors (interactions, image_effects, text_effects).
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = folder / f"{name}.safetensors"
        text = folder / f"{name}.json"
        save_file(
            {part: getattr(self, part).contiguous() for part in _TENSORS}, tensors
        )
        content: dict[str, Any] = {"format": _FORMAT}
        for field in fields(self):
            if field.name not in _TENSORS:
                content[field.name] = getattr(self, field.name)
        for part in _FEATURES:
            content[part] = [asdict(feature) for feature in content[part]]
        content |= {
            "logit": self.logit,
            "parts": self.parts(),
            "top_pairs": [
                {**asdict(pair), "sentence": str(pair)} for pair in self.top_pairs()
            ],
            "content_words": [self.words[index] for index in self.content_words],
            "stop_words": sorted(STOP_WORDS),
        }
        text.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return [text, tensors]

    @classmethod
    def load(
        cls, directory: Union[str, Path], name: str = "explanation"
    ) -> "PairExplanation":
        """
        What :meth:`save` wrote.

        Raises:
            ValueError: if another version wrote it.
        """
        content = json.loads((Path(directory) / f"{name}.json").read_text())
        if content["format"] != _FORMAT:
            raise ValueError(
                f"format: expected {_FORMAT}, got {content['format']} (written by "
                "another version)"
            )
        tensors = load_file(Path(directory) / f"{name}.safetensors")
        values: dict[str, Any] = {}
        for field in fields(cls):
            value = tensors.get(field.name, content.get(field.name))
            values[field.name] = tuple(value) if isinstance(value, list) else value
        for part in _FEATURES:
            values[part] = tuple(_feature(row) for row in content[part])
        return cls(**values)


_TENSORS = ("interactions", "image_effects", "text_effects")
_FEATURES = ("image_features", "text_features")


def explain(
    model: DualEncoder,
    image: ImageLike,
    text: str,
    layer: Optional[int] = None,
    text_layer: Optional[int] = None,
    tolerance: float = 1e-2,
    most_steps: int = MOST_STEPS,
    progress: bool = False,
) -> PairExplanation:
    """
    The similarity of an image and a text, attributed to pairs of patch and word.

    Args:
        model: what :func:`captum_pairs.models.load` returns.
        image: a file, a PIL image or an array.
        text: in the model's language.
        layer, text_layer: the blocks to whose inputs is attributed; negative ones count
            from the last. Default: the model's.
        tolerance: how complete each side's path integral has to be, relative.
        most_steps: Gauss-Legendre steps are doubled up to this number.
        progress: a bar on standard error, if it takes more than two seconds.

    Raises:
        UnreadableImageError, TextLengthError: for an image or a text that can't be
            explained.
        InvalidArgumentError: for a block or a tolerance that does not exist.
    """
    sides = model.image, model.text
    layers = (
        sides[0].block_index("layer", layer),
        sides[1].block_index("text_layer", text_layer),
    )
    photo, caption = model.image.prepare(image), model.text.prepare(text)
    with _bar(progress) as bar:
        fpig = LayerFeaturePairIntegratedGradients(
            tuple(_counted(side.embed, bar) for side in sides),
            tuple(side.blocks[index] for side, index in zip(sides, layers)),
        )
        pair = {
            "inputs": (photo.inputs, caption.inputs),
            "baselines": (photo.baseline, caption.baseline),
            "attribute_to_layer_input": True,
        }
        chosen = fpig.choose_steps(**pair, n_steps=most_steps, tolerance=tolerance)
        n_steps = max(side.n_steps for side in chosen)
        # one gradient a step on the side of fewer features; on the other one for each
        # of those features, and one for the constant
        fewer = min(len(photo.features), len(caption.features))
        bar.reset(total=(fewer + 2) * n_steps)
        bar.set_description("attributing")
        found = fpig.decompose(
            **pair,
            feature_mask=(photo.feature_mask(), caption.feature_mask()),
            n_steps=n_steps,
        )
    return PairExplanation(
        model=model.name,
        text=text,
        image_size=photo.view.original,
        visible=photo.view.visible,
        grid=photo.grid,
        logit_scale=model.logit_scale,
        image_features=photo.features,
        text_features=caption.features,
        layers=layers,
        blocks=(len(sides[0].blocks), len(sides[1].blocks)),
        baselines=(sides[0].baseline_name, sides[1].baseline_name),
        n_steps=n_steps,
        residuals=(chosen[0].residual.item(), chosen[1].residual.item()),
        tolerance=tolerance,
        **_numbers(found),
    )


def _numbers(found: PairDecomposition) -> dict[str, Any]:
    """The decomposition of the only pair of a batch."""
    return {
        "cosine": found.score.item(),
        "constant": found.constant.item(),
        "image_effects": found.first[0].detach(),
        "text_effects": found.second[0].detach(),
        "interactions": found.interactions[0].detach(),
        "convergence_delta": found.convergence_delta.item(),
    }


@contextmanager
def _bar(progress: bool) -> Iterator["tqdm[Any]"]:
    """A progress bar that shows itself after two seconds."""
    bar = tqdm(
        desc="choosing steps",
        unit=" gradients",
        delay=2,
        disable=not progress,
        leave=False,
    )
    try:
        yield bar
    finally:
        bar.close()


def _counted(
    embed: Callable[[Tensor], Tensor], bar: "tqdm[Any]"
) -> Callable[[Tensor], Tensor]:
    """The encoder; each gradient through one of its embeddings moves the bar."""

    def count(gradient: Tensor) -> None:
        bar.update(len(gradient))

    def counted(inputs: Tensor) -> Tensor:
        embedding = embed(inputs)
        if embedding.requires_grad:
            embedding.register_hook(count)  # type: ignore[no-untyped-call]  # torch's
        return embedding

    return counted


def _grown(
    cells: dict[tuple[int, int], float], seed: tuple[int, int]
) -> list[tuple[int, int]]:
    """The seed and what is connected to it by cells of half its value or more."""
    chosen, waiting = {seed}, [seed]
    while waiting:
        row, column = waiting.pop()
        for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            cell = row + step[0], column + step[1]
            if cell in chosen or cells.get(cell, 0.0) < _REGION_SHARE * cells[seed]:
                continue
            chosen.add(cell)
            waiting.append(cell)
    return sorted(chosen)


def _place(box: Box, size: tuple[int, int]) -> str:
    """In which ninth of the image a box has its centre."""
    x, y = (box[0] + box[2]) / 2 / size[0], (box[1] + box[3]) / 2 / size[1]
    column = ("left", "", "right")[min(int(3 * x), 2)]
    row = ("top", "", "bottom")[min(int(3 * y), 2)]
    return f"{row} {column}".strip() or "centre"


def _signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}"


def _feature(row: dict[str, Any]) -> Feature:
    """A feature from what JSON made of it."""
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in row.items()
    }
    return Feature(**values)
