"""Every one of 1,000 images explained against every one of 1,000 captions.

    python benchmarks/corpus.py [--inputs 1000] [--calls 200] [--threads 1]
    python benchmarks/corpus.py --entries 1000000

From contributions that are kept on disk: m + n attributions, then a matrix product for
each caption. Beside it separate calls of `explain`, of which `--calls` are timed and
the rest is extrapolated. Also what is stored of an image, and what half precision
costs. Both at `--layer` of the image encoder (the last block unless it is given).

The second line: how long a directory of so many small synthetic inputs takes to open in
a new process, and how much memory beyond what importing the package takes.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import captum_pairs
import numpy as np
import torch
from captum_pairs.explain.contributions import KeptFiles
from captum_pairs.scenes import render, sample_caption, sample_scene

TOLERANCE = 2e-2


def corpus(number: int, seed: int = 5) -> tuple[list[np.ndarray], list[str]]:
    """Images (h, w, 3), and captions of which no two are the same."""
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, 3) for _ in range(number)]
    captions: dict[str, None] = {}
    while len(captions) < number:
        scene = scenes[len(captions)]
        captions.setdefault(sample_caption(rng, scene).text)
    return [render(scene).image for scene in scenes], list(captions)


def timed_calls(model, images, captions, number: int, layer: int) -> float:
    """Seconds of one separate call."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, len(images), (number, 2))
    start = time.perf_counter()
    for i, j in pairs:
        model.explain(images[i], captions[j], tolerance=TOLERANCE, layer=layer)
    return (time.perf_counter() - start) / number


OPENING = """
import sys, time
from captum_pairs import Contributions

def most():
    (line,) = [l for l in open("/proc/self/status") if l.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

before, start, cpu = most(), time.perf_counter(), time.process_time()
stored = Contributions.load(sys.argv[1])
opened, busy = time.perf_counter() - start, time.process_time() - cpu
memory, start = most() - before, time.perf_counter()
stored[-1]
print(len(stored), opened, busy, memory, before, time.perf_counter() - start)
"""


def opening(entries: int) -> list[float]:
    """
    A store of many inputs, written and then opened by a new process.

    Returns:
        inputs, seconds to open, those of the processor among them, MiB that it takes
        beyond the imports, MiB of these, and seconds to read one.
    """
    model = captum_pairs.load("scenes:plain")
    with tempfile.TemporaryDirectory() as folder:
        stored = model.contributions(["a red star"], directory=folder, n_steps=4)
        one = stored._kept.records([0])[0]
        small = replace(one, values=one.values[:0], ends=one.ends[:, :0])
        files = KeptFiles(Path(folder), stored.settings)
        for number in range(entries - 2):
            key, stamp = (
                hashlib.blake2b(f"{what} {number}".encode(), digest_size=16).digest()
                for what in ("key", "stamp")
            )
            name = f"/photos/of/somebody/{number:012}.jpg"
            files.add(replace(small, key=key, name=name, stamp=stamp))
        files.add(replace(one, key=bytes(16), name="last"))
        files.settle()
        command = [sys.executable, "-c", OPENING, folder]
        output = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in output.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layer", type=int, default=-1)
    parser.add_argument("--entries", type=int)
    parsed = parser.parse_args()
    if parsed.entries:
        count, seconds, busy, memory, before, one = opening(parsed.entries)
        print(f"{count:,.0f} inputs opened in {seconds:.2f} s ({busy:.2f} s of CPU)")
        print(f"memory: {memory:.0f} MiB, and {before:.0f} MiB for what is imported")
        print(f"one of them read in {1e3 * one:.1f} ms")
        return
    torch.set_num_threads(parsed.threads)
    model = captum_pairs.load("scenes:plain")
    images, captions = corpus(parsed.inputs)
    call = timed_calls(model, images, captions, parsed.calls, parsed.layer)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        options = {"tolerance": TOLERANCE, "side": "first", "layer": parsed.layer}
        stored = model.contributions(images, directory=Path(folder) / "i", **options)
        between = time.perf_counter()
        texts = model.contributions(
            captions, directory=Path(folder) / "t", tolerance=TOLERANCE, side="second"
        )
        kept = time.perf_counter()
        total = pairs = 0
        for text in texts:
            for table in stored.pair(text):
                pairs += 1
                total += table.numel()
        done = time.perf_counter()
        size = sum(file.stat().st_size for file in (Path(folder) / "i").iterdir())
        values = stored[0].values
        kept_tables = stored.pair(texts[0])
    exact = model.contributions(images[:50], dtype="float32", **options)
    worst = max(
        float((exact_table - kept_table).abs().max())
        for exact_table, kept_table in zip(exact.pair(texts[0]), kept_tables)
    )
    separate = call * pairs
    whole = done - start
    print(f"{pairs:,} pairs, {total:,} attributions, {parsed.threads} thread(s)")
    print(f"image: {stored.settings['layer']}; text: {texts.settings['layer']}")
    print(f"contributions of {len(images)} images: {between - start:.1f} s")
    print(f"contributions of {len(captions)} captions: {kept - between:.1f} s")
    print(f"all pairs from them: {done - kept:.1f} s; together {whole:.1f} s")
    print(f"one separate call: {1e3 * call:.0f} ms; {pairs:,}: {separate / 3600:.1f} h")
    print(
        f"ratio: {separate / whole:.0f}; without the contributions: "
        f"{separate / (done - kept):.0f}"
    )
    print(
        f"stored of an image: {size / len(images) / 1024:.1f} KiB "
        f"({values.shape[0]} features x {values.shape[1]} in half precision: "
        f"{values.numel() * 2 / 1024:.1f})"
    )
    print(
        f"half precision: relative error of contributions {stored.error:.1e}; largest "
        f"difference of an attribution {worst:.1e}"
    )


if __name__ == "__main__":
    main()
