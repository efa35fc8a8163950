"""
What an explanation costs, in embeddings of the same inputs.

    python benchmarks/explain.py [--threads 2]
    python benchmarks/explain.py --beside CHECKOUT [--memory]

Everything at its defaults, from text and picture to the result: a phrase, a caption and
a contrast of the embedded model; 64 phrases of 64 pairs at once beside 64 calls;
contributions of some images; a phrase and a caption of ten words of a CLIP of
ViT-B/32's shape with random weights, at the last block and at the default one.

With ``--beside`` another version of the package runs beside this one, round by round in
a process of its own, on the same weights (`scenes:plain`). Times are medians of the
rounds. With ``--memory``: the peak above the loaded model, each case in a process of
its own, after both inputs were embedded once.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
CAPTION = "a photo of a red circle above a small blue square"
PAIRS = 64


def cases(shape: str, images: int) -> dict[str, Any]:
    """What is timed, by name: functions without arguments."""
    import captum_pairs
    import numpy as np
    import torch
    from captum_pairs.scenes import render, sample_caption, sample_scene
    from PIL import Image

    rng = np.random.default_rng(11)
    drawn = [sample_scene(rng, 3) for _ in range(max(PAIRS, images))]
    pictures = [Image.fromarray(render(scene).image) for scene in drawn]
    texts = [sample_caption(rng, scene).text for scene in drawn[:PAIRS]]
    words = [text.split()[-1] for text in texts]

    def embedding(model: Any, picture: Any, text: str) -> Any:
        """Both embeddings, from picture and text."""
        sides = (model.first, picture), (model.second, text)
        with torch.no_grad():
            for encoder, raw in sides:
                prepared = encoder.prepare(raw)
                encoder.embed(prepared.inputs, *prepared.arguments)

    if shape == "clip":
        model = captum_pairs.load(clip_of_size())
        picture, last = pictures[0].resize((224, 224)), {"layer": (-1, -1)}
        phrase = {"phrase": "red circle"}
        return {
            "embedding": lambda: embedding(model, picture, CAPTION),
            "phrase, last block": lambda: model.explain(
                picture, CAPTION, **phrase, **last
            ),
            "phrase, default block": lambda: model.explain(picture, CAPTION, **phrase),
            "caption, default block": lambda: model.explain(picture, CAPTION),
        }
    model = captum_pairs.load(f"scenes:{plain()}")
    picture, text = pictures[0], texts[0]
    pairs = list(zip(pictures, texts, words))
    # a phrase that occurs once
    named = [each for each in pairs if each[1].count(each[2]) == 1][: TIMES["phrase"]]

    def phrases_at_once() -> None:
        # one phrase for all: what they have in common is that they name something
        model.explain(pictures[:PAIRS], [f"a {word}" for word in words], phrase="a")

    def phrases_one_by_one() -> None:
        for picture, word in zip(pictures[:PAIRS], words):
            model.explain(picture, f"a {word}", phrase="a")

    return {
        "embedding": lambda: embedding(model, picture, text),
        "phrase": lambda: [model.explain(p, t, phrase=w) for p, t, w in named],
        "caption": lambda: [model.explain(p, t) for p, t, _ in pairs[:4]],
        "contrast": lambda: model.contrast(picture, text, texts[1]),
        "64 phrases, one by one": phrases_one_by_one,
        "64 phrases at once": phrases_at_once,
        "contributions": lambda: model.contributions(pictures[:images]),
    }


# What asks a worker for a case's memory.
PEAK = "peak: "
# How many of what a case's name says it runs.
TIMES = {"phrase": 24, "caption": 4}


def plain() -> str:
    """The weights that all versions have, by the name that this one has for them."""
    from captum_pairs.scenes import CHECKPOINTS

    return "plain" if "plain" in CHECKPOINTS else "default"


def clip_of_size() -> Path:
    """A CLIP of ViT-B/32's shape with random weights and the embedded tokenizer."""
    import torch
    from captum_pairs.scenes import checkpoint_path
    from transformers import AutoProcessor, CLIPConfig, CLIPModel

    folder = Path(os.environ["CLIP_OF_SIZE"])
    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        processor = AutoProcessor.from_pretrained(checkpoint_path(plain()))
        small = CLIPModel.from_pretrained(checkpoint_path(plain())).config.text_config
        special = {
            name: getattr(small, name)
            for name in ("bos_token_id", "eos_token_id", "pad_token_id")
        }
        config = CLIPConfig(text_config=special, vision_config={"patch_size": 32})
        CLIPModel(config).eval().save_pretrained(folder)
        processor.image_processor.size = {"height": 224, "width": 224}
        if hasattr(processor.image_processor, "crop_size"):
            processor.image_processor.crop_size = {"height": 224, "width": 224}
        processor.save_pretrained(folder)
    return folder


def worker(shape: str, images: int, threads: int) -> None:
    """Reads names of cases and answers with seconds."""
    import torch

    torch.set_num_threads(threads)
    known = cases(shape, images)
    print(json.dumps(list(known)), flush=True)
    from common import peak_bytes

    for line in sys.stdin:
        if line.startswith(PEAK):
            known["embedding"]()
            print(peak_bytes(known[line.strip().removeprefix(PEAK)])[0], flush=True)
            continue
        start = time.perf_counter()
        known[line.strip()]()
        print(time.perf_counter() - start, flush=True)


class Version:
    """A version of the package in a process of its own."""

    def __init__(self, checkout: Path, shape: str, options: Any, env: Any) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", shape]
        command += ["--images", str(options.images), "--threads", str(options.threads)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**env, "PYTHONPATH": str(checkout)},
        )
        self.cases = json.loads(self._answer())

    def seconds(self, case: str) -> float:
        assert self._process.stdin is not None  # it is a pipe
        self._process.stdin.write(case + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None  # it is a pipe
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a version ended: {self._process.wait()}")
        return line

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--beside", type=Path, help="another version's checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", choices=["scenes", "clip"])
    parser.add_argument("--only", nargs="+", help="names of cases")
    parser.add_argument("--memory", action="store_true", help="in the place of times")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.images, options.threads)
        return
    from common import machine

    print(machine("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "CLIP_OF_SIZE": folder}
        told = compare_memory if options.memory else compare
        for shape in [options.shape] if options.shape else ["scenes", "clip"]:
            told(shape, options, env)


def compare_memory(shape: str, options: Any, env: Any) -> None:
    """Prints the peak of one model's cases above the loaded model."""
    checkouts = [HERE, *([options.beside.resolve()] if options.beside else [])]
    asked = Version(HERE, shape, options, env)
    asked.close()
    for case in asked.cases[1:]:
        if options.only and case not in options.only:
            continue
        found = []
        for path in checkouts:
            version = Version(path, shape, options, env)
            try:
                found.append(version.seconds(PEAK + case) / 2**20)
            finally:
                version.close()
        line = ", the other ".join(f"{mib:.0f} MiB" for mib in found)
        print(f"  {shape}, {case}: this version {line}", flush=True)


def compare(shape: str, options: Any, env: Any) -> None:
    """Prints a table of one model's cases."""
    checkouts = {"this version": HERE}
    if options.beside:
        checkouts["the other"] = options.beside.resolve()
    running = {
        name: Version(path, shape, options, env) for name, path in checkouts.items()
    }
    try:
        named = next(iter(running.values())).cases
        if options.only:
            named = ["embedding", *(n for n in named if n in options.only)]
        unit = {}
        for name, version in running.items():
            version.seconds("embedding")
            unit[name] = statistics.median(
                version.seconds("embedding") for _ in range(15)
            )
        print(
            f"{shape}: "
            + ", ".join(
                f"{n}: a pair is embedded in {1e3 * s:.1f} ms" for n, s in unit.items()
            )
        )
        for case in named[1:]:
            rounds: dict[str, list[float]] = {name: [] for name in running}
            for round_ in range(options.rounds + 1):
                for name, version in running.items():
                    seconds = version.seconds(case) / TIMES.get(case, 1)
                    if round_:  # the first one warms up
                        rounds[name].append(seconds)
            found = {name: statistics.median(times) for name, times in rounds.items()}
            line = ", ".join(
                f"{name} {seconds:.3f} s = {seconds / unit[name]:.1f} embeddings"
                for name, seconds in found.items()
            )
            if len(found) == 2:
                new, old = found.values()
                line += f": {old / new:.1f} x"
            print(f"  {case}: {line}", flush=True)
    finally:
        for version in running.values():
            version.close()


if __name__ == "__main__":
    main()
