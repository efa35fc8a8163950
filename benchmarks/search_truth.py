"""Whether reasons of a search are true, on scenes whose truth is known.

    python benchmarks/search_truth.py [--pairs 500] [--triples 100] [--seed 7]

`why`: an image and the same one with one attribute of one object exchanged (a colour, a
shape or a size), of which a caption is true of the first alone. Whether the word that
`Index.why` names first is that of the exchanged attribute; beside it how often the
first image is above the second at all.

`paraphrases`: a caption with three words exchanged for synonyms, of which the model
knows two ("over" for "above", "with" for "and", "picture" for "photo") and does not
know one ("crimson" for "red"). Whether the word that is named as the one that moved the
items most is the latter, in an index of scenes.

Shares with their 95 % intervals (Wilson); whose word was named instead.
"""

import argparse
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import captum_pairs
import numpy as np
from captum_pairs.scenes import Description, Phrase, render, sample_scene, Scene, write
from captum_pairs.scenes.captions import is_true
from captum_pairs.scenes.vocabulary import COLORS, SHAPES, SIZES

# Words that mean the same, and that no caption of the training had.
UNKNOWN = {
    "red": "crimson",
    "yellow": "golden",
    "green": "emerald",
    "blue": "azure",
    "purple": "violet",
    "pink": "rosy",
    "circle": "disc",
    "square": "box",
    "diamond": "rhombus",
    "ring": "hoop",
    "moon": "crescent",
    "small": "tiny",
    "large": "huge",
}
KNOWN = {
    "above": "over",
    "over": "above",
    "below": "under",
    "under": "below",
    "and": "with",
    "with": "and",
    "photo": "picture",
    "picture": "photo",
}
OPTIONS: dict[str, Any] = {"tolerance": 0.05}


def interval(hits: int, number: int) -> str:
    """A share and its 95 % interval (Wilson)."""
    z = 1.959964
    share = hits / number
    middle = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z * math.sqrt(share * (1 - share) / number + z * z / (4 * number**2))
    half /= 1 + z * z / number
    return (
        f"{share:.1%} ({middle - half:.1%} to {middle + half:.1%}), {hits} of {number}"
    )


# ---- why ---------------------------------------------------------------------


def exchanged(rng: np.random.Generator) -> tuple[Scene, Scene, str, str, str]:
    """
    Returns:
        a scene, the same with one attribute of one object exchanged, a caption that is
        true of the first alone, the word that says so, and what was exchanged.
    """
    while True:
        scene = sample_scene(rng, 2, distinct=True)
        at, slot = int(rng.integers(2)), ("color", "shape", "size")[rng.integers(3)]
        item = scene.objects[at]
        word = str(getattr(item, slot))
        known = {"color": COLORS, "shape": SHAPES, "size": SIZES}[slot]
        name = str(rng.choice([each for each in known if each != word]))
        changed: dict[str, Any] = {slot: name}
        if slot == "size":
            changed["diameter"] = float(rng.uniform(*SIZES[name]))
        elif slot == "color":
            changed["rgb"] = COLORS[name]
        objects = list(scene.objects)
        objects[at] = replace(item, **changed)
        second = replace(scene, objects=tuple(objects))
        phrases = tuple(
            Phrase(each.shape, each.color, each.size if slot == "size" else None)
            for each in scene.objects
        )
        description = Description(phrases)
        if not is_true(description, second):
            return scene, second, write(description).text, word, slot


def why(model: Any, number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    named, above, by_slot = 0, 0, Counter[tuple[str, bool]]()
    instead: Counter[str] = Counter()
    for _ in range(number):
        first, second, caption, word, slot = exchanged(rng)
        pictures = [render(each).image for each in (first, second)]
        index = model.index(pictures, keys=["first", "second"], keep=False, **OPTIONS)
        found = index.why(caption, "first", "second")
        best = found.decided[0].name.strip("“”").split(" (")[0]
        named += best == word
        above += found.difference > 0
        by_slot[slot, best == word] += 1
        if best != word:
            instead[f"{best} for {word}"] += 1
    print(
        f"why names the word that is true of the first only: {interval(named, number)}"
    )
    print(f"  the first is above the second: {interval(above, number)}")
    for slot in ("color", "shape", "size"):
        hits, misses = by_slot[slot, True], by_slot[slot, False]
        if hits + misses:
            print(f"  of an exchanged {slot}: {interval(hits, hits + misses)}")
    print("  instead:", ", ".join(f"{n} {w}" for w, n in instead.most_common(8)) or "-")


# ---- paraphrases -------------------------------------------------------------


def triple(rng: np.random.Generator) -> tuple[str, str, str]:
    """Two wordings that differ in three words, and the word that the model does not
    know."""
    while True:
        scene = sample_scene(rng, 3, distinct=True)
        sized = rng.random() < 0.5
        phrases = tuple(
            Phrase(each.shape, each.color, each.size if sized else None)
            for each in scene.objects
        )
        related = [
            relation
            for relation in ("above", "below")
            if scene.relation_holds(relation, 0, 1)
        ]
        if not related:
            continue
        prefix, joiner = (1, 2)[rng.integers(2)], ("and", "with")[rng.integers(2)]
        text = write(
            Description(phrases, related[0], int(rng.integers(2)), prefix, 0, joiner)
        ).text
        words = text.split()
        known = [at for at, word in enumerate(words) if word in KNOWN]
        unknown = [at for at, word in enumerate(words) if word in UNKNOWN]
        if len(known) < 2 or not unknown:
            continue
        changed = [*rng.choice(known, 2, replace=False), rng.choice(unknown)]
        other = [
            {**KNOWN, **UNKNOWN}[word] if at in changed else word
            for at, word in enumerate(words)
        ]
        return text, " ".join(other), other[changed[-1]]


def paraphrases(model: Any, number: int, seed: int, size: int = 500) -> None:
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, int(rng.integers(2, 4))) for _ in range(size)]
    keys = [str(at) for at in range(size)]
    pictures = [render(scene).image for scene in scenes]
    index = model.index(pictures, keys=keys, **OPTIONS)
    named, overlap, instead = 0, [], Counter[str]()
    for _ in range(number):
        text, other, word = triple(rng)
        found = index.paraphrases(text, other)
        best = found.movers()[0]
        named += best.other == word
        overlap.append(found.overlap)
        if best.other != word:
            instead[f"{best.other} for {word}"] += 1
    print(
        "paraphrases names the word that the model does not know: "
        f"{interval(named, number)}"
    )
    print(f"  in common of the first 10 on average: {np.mean(overlap):.0%}")
    print("  instead:", ", ".join(f"{n} {w}" for w, n in instead.most_common(8)) or "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--triples", type=int, default=100)
    parser.add_argument("--items", type=int, default=500, help="of the index")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model", default="scenes:plain")
    asked = parser.parse_args()
    model = captum_pairs.load(asked.model)
    if asked.triples:
        paraphrases(model, asked.triples, asked.seed, asked.items)
    if asked.pairs:
        why(model, asked.pairs, asked.seed)


if __name__ == "__main__":
    main()
