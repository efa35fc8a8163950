"""Drawn scenes whose truth is known, as many as are asked for: what the models that
come with the package were made for."""

from typing import Any, Optional

import numpy as np
from captum_pairs.attr import InvalidArgumentError, validation
from captum_pairs.grounding.data.row import Changed, Data, LeftOut, Row, Span, Thing
from captum_pairs.scenes import (
    Caption,
    cover,
    hard_negative,
    render,
    sample_caption,
    sample_scene,
    Scene,
    visible_shares,
)
from captum_pairs.scenes.scene import CORRELATED
from numpy.typing import NDArray

__all__ = ["row_of_scene", "Scenes"]


class Scenes(Data):
    """
    Scenes of one to four objects that all differ in shape or colour, with a caption
    that names the colour and the shape of up to three, and one that is false by a word.

    An object's class is its shape, and its region its box; the same number and seed
    give the same scene, whatever the others are.

    Args:
        rest: how many.
        seed: another one gives others.
        objects: in each; default: from one to four.
        masks: regions are the pixels at which an object is seen, instead of boxes.
        covered: one object of each is covered by more than half (see
            :func:`captum_pairs.scenes.cover`); scenes of at most three others.
        correlated: hearts and moons hardly ever stand without each other.
    """

    def __init__(
        self,
        rest: str,
        seed: int = 0,
        objects: Optional[int] = None,
        masks: bool = False,
        covered: bool = False,
        correlated: bool = False,
    ) -> None:
        if not rest.isascii() or not rest.isdigit() or not int(rest):
            raise InvalidArgumentError("data", "scenes:NUMBER", repr(f"scenes:{rest}"))
        validation.positive_int("seed", seed, 0)
        if objects is not None and objects not in (1, 2, 3, 4):
            raise InvalidArgumentError("objects", "1 to 4, or None", repr(objects))
        self.name, self._number = f"scenes:{rest}", int(rest)
        self.seed, self.number_of_objects = seed, objects
        self.masks, self.covered, self.correlated = masks, covered, correlated
        self.options = {
            "seed": seed,
            "objects": objects,
            "masks": masks,
            "covered": covered,
            "correlated": correlated,
        }
        self.left_out = LeftOut()

    def __len__(self) -> int:
        return self._number

    def scene(self, place: int) -> tuple[Scene, np.random.Generator]:
        """The scene at a place, and the source of what is written of it."""
        rng = np.random.default_rng((self.seed, place))
        number = self.number_of_objects
        together = CORRELATED if self.correlated else None
        while True:
            scene = sample_scene(rng, number, distinct=True, together=together)
            if not self.covered:
                return scene, rng
            if len(scene.objects) < 4 or number == 4:
                which = int(rng.integers(len(scene.objects)))
                found = cover(rng, scene, which)
                if found is not None:
                    return found, rng

    def row(self, place: int) -> Row:
        scene, rng = self.scene(place)
        caption = sample_caption(rng, scene, plain=True)
        false = hard_negative(rng, scene, caption)
        negative = changed = None
        if false is not None:
            negative = false.caption.text
            changed = Changed(false.slot, false.right, false.changed)
        return row_of_scene(
            f"scene-{self.seed}-{place}", scene, caption, self.masks, negative, changed
        )


def row_of_scene(
    name: str,
    scene: Scene,
    caption: Caption,
    masks: bool = False,
    negative: Optional[str] = None,
    changed: Optional[Changed] = None,
) -> Row:
    """A scene, drawn, and a caption of it, as a row."""
    drawing = render(scene)
    shares = visible_shares(scene)

    def regions(which: int) -> tuple[Any, ...]:
        if masks:
            found: NDArray[np.bool_] = drawing.masks[which]
            return (found,)
        left, top, right, bottom = drawing.boxes[which].tolist()
        return ((float(left), float(top), float(right), float(bottom)),)

    spans = tuple(
        Span(
            *phrase.span,
            scene.objects[which].shape,
            regions(which),
            phrase.words.get("shape"),
            float(shares[which]),
        )
        for phrase, (which, *_) in zip(caption.phrases, caption.objects)
    )
    objects = tuple(
        Thing(item.shape, regions(which)) for which, item in enumerate(scene.objects)
    )
    return Row(
        name,
        drawing.image,
        caption.text,
        spans,
        negative,
        changed,
        objects=objects,
    )
