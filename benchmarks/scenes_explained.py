"""How often phrases and contrasts point at the right thing, where the truth is known.

    python benchmarks/scenes_explained.py [--scenes 500] [--seed 778]

Held-out scenes of three objects for the model that comes with the package, at its
default layers:

- phrase: every object is named once ("a red circle"); does the strongest patch of
  `explanation.phrase(...)` have its centre in the object's box? Chance is the box's
  share of the patch centres.
- contrast: a true caption against one with one word exchanged so that it is false.
  Is the changed word the one whose total speaks most for the true caption? And does the
  strongest patch of its map lie in the changed object's box? (The second only where one
  object's colour, shape or size was changed.)
"""

import argparse
import json
from collections import defaultdict

import captum_pairs
import numpy as np
import torch
from captum_pairs.scenes import hard_negative, render, sample_caption, sample_scene

TOLERANCE = 2e-2


def _inside(values: torch.Tensor, box: list[float], size: int) -> bool:
    """Whether the strongest patch of a map (rows, columns) has its centre in a box."""
    rows, columns = values.shape
    row, column = divmod(int(values.argmax()), columns)
    x, y = (column + 0.5) * size / columns, (row + 0.5) * size / rows
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def _chance(shape: tuple[int, int], box: list[float], size: int) -> float:
    """The share of patches whose centre lies in a box."""
    ones = torch.zeros(shape)
    hits = 0
    for index in range(ones.numel()):
        ones.zero_().view(-1)[index] = 1.0
        hits += _inside(ones, box, size)
    return hits / ones.numel()


def phrases(model: captum_pairs.DualEncoder, number: int, seed: int) -> dict:
    rng = np.random.default_rng((seed, 11))
    found, chance = [], []
    for _ in range(number):
        scene = sample_scene(rng, 3, distinct=True)
        drawing, caption = render(scene), sample_caption(rng, scene, plain=True)
        explanation = model.explain(drawing.image, caption.text, tolerance=TOLERANCE)
        for phrase, objects in zip(caption.phrases, caption.objects):
            words = caption.text[slice(*phrase.span)]
            values = explanation.phrase(words)  # distinct objects: it stands there once
            box = drawing.boxes[objects[0]].tolist()
            found.append(_inside(values, box, len(drawing.image)))
            chance.append(_chance(tuple(values.shape), box, len(drawing.image)))
    return {
        "objects": len(found),
        "inside": float(np.mean(found)),
        "chance": float(np.mean(chance)),
    }


def contrasts(model: captum_pairs.DualEncoder, number: int, seed: int) -> dict:
    rng = np.random.default_rng((seed, 12))
    rows = defaultdict(list)
    while len(rows["all"]) < number:
        scene = sample_scene(rng, 3)
        caption = sample_caption(rng, scene)
        false = hard_negative(rng, scene, caption)
        if false is None:
            continue
        drawing = render(scene)
        contrast = model.contrast(
            drawing.image, caption.text, false.caption.text, tolerance=TOLERANCE
        )
        changes = contrast.changes()
        strongest = max(changes, key=lambda change: change.total)
        changed = next(change for change in changes if change.is_changed)
        region = None
        if false.phrase is not None and false.slot != "count":
            objects = caption.objects[false.phrase]
            if len(objects) == 1:
                values = contrast.query.shaped(changed.values)
                box = drawing.boxes[objects[0]].tolist()
                region = _inside(values, box, len(drawing.image))
        row = (contrast.difference > 0, strongest.is_changed, region)
        rows["all"].append(row)
        rows[false.slot].append(row)
    return {slot: _rates(of) for slot, of in rows.items()}


def _rates(rows: list[tuple[bool, bool, bool | None]]) -> dict:
    regions = [region for _, _, region in rows if region is not None]
    right = [word for is_higher, word, _ in rows if is_higher]
    return {
        "number": len(rows),
        "true caption higher": float(np.mean([row[0] for row in rows])),
        "changed word strongest": float(np.mean([row[1] for row in rows])),
        "the same, where the true caption is higher": float(np.mean(right or [0.0])),
        "regions": len(regions),
        "in the object's box": float(np.mean(regions)) if regions else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=778)
    parsed = parser.parse_args()
    torch.set_num_threads(1)  # products this small are no faster in parallel
    model = captum_pairs.load("scenes:plain")
    figures = {
        "phrases": phrases(model, parsed.scenes, parsed.seed),
        "contrasts": contrasts(model, parsed.scenes, parsed.seed),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
