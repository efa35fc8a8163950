"""How long an exact search takes, and what it takes of memory.

    python benchmarks/search.py [--entries 1000000] [--width 512] [--keep FOLDER]
    python benchmarks/search.py --explained 100

The first line: an index of so many random vectors of length one, written once in single
and once in half precision, is opened by a new process: seconds to open it, MiB beyond
what importing takes and beyond the mapped file, and seconds of a search for the first
100 of all items, warm (the median of several; the file is in the system's memory then).
The order that is found is compared with that of NumPy in double precision.

The second: seconds to explain so many hits of scenes from contributions that are kept,
with and without reading their pictures again (the median of several).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from captum_pairs.explain.contributions import HOLDS
from captum_pairs.explain.corpus import opened
from captum_pairs.explain.store import Record
from captum_pairs.search.index import EMBEDDINGS
from captum_pairs.search.items import Items

FIRST, TIMES, SEED = 100, 7, 5
_WRITTEN_AT_ONCE = 10_000

# In a process of its own: what is measured is not what writing left in memory.
SEARCHED = """
import json, statistics, sys, time
import numpy as np
from captum_pairs.search.exact import Scan
from captum_pairs.search.index import read_settings
from captum_pairs.search.items import Items
from pathlib import Path

def status(name):
    (line,) = [l for l in open("/proc/self/status") if l.startswith(name)]
    return int(line.split()[1]) / 1024

folder, width, first, times = Path(sys.argv[1]), *map(int, sys.argv[2:])
before, anonymous = status("VmHWM"), status("RssAnon")
start = time.perf_counter()
settings = read_settings(folder)
settings.pop("format")
items = Items(folder, settings)
opened, memory = time.perf_counter() - start, status("VmHWM") - before
rng = np.random.default_rng(1)
seconds, most = [], 0.0
for _ in range(times + 1):
    query = rng.normal(size=width)
    query /= np.linalg.norm(query)
    start = time.perf_counter()
    found, scores = Scan(items, query).first(first)
    seconds.append(time.perf_counter() - start)
    most = max(most, status("RssAnon"))
# by NumPy alone, in double precision
whole = np.concatenate(
    [items.vectors(0)[at : at + 50000].astype(np.float64) @ query
     for at in range(0, len(items.vectors(0)), 50000)]
)
expected = np.lexsort((np.arange(len(whole)), -whole))[:first]
print(json.dumps({
    "items": len(items.items), "opened": opened, "cold": seconds[0],
    "warm": statistics.median(seconds[1:]), "memory": memory,
    "anonymous": most - anonymous, "before": before,
    "same": float(np.isin(found, expected).mean()),
}))
"""


def written(folder: Path, entries: int, width: int, dtype: str) -> None:
    """An index of random vectors of length one."""
    settings = {
        "name": "random vectors",
        "model": "",
        HOLDS: EMBEDDINGS,
        "similarity": "cosine",
        "side": "first",
        "encoder": "",
        "dtype": dtype,
    }
    items, _ = opened(settings, folder, Items)
    rng = np.random.default_rng(SEED)
    told = json.dumps({"content": "0" * 32, "file": None, "text": None})
    nothing = torch.zeros(2, 0)
    for start in range(0, entries, _WRITTEN_AT_ONCE):
        count = min(_WRITTEN_AT_ONCE, entries - start)
        rows = rng.normal(size=(count, width)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        kept = torch.from_numpy(rows).to(getattr(torch, dtype))
        for at, row in enumerate(kept, start):
            key = at.to_bytes(16, "little")
            items.add(Record(key, f"photos/{at}.jpg", told, row[None], nothing))
    items.settle()


def searched(entries: int, width: int, dtype: str, folder: Optional[Path]) -> Any:
    """What a new process says of an index."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        start = time.perf_counter()
        written(Path(place), entries, width, dtype)
        seconds = time.perf_counter() - start
        print(f"{dtype}: written in {seconds:.0f} s", file=sys.stderr)
        numbers = [str(each) for each in (width, FIRST, TIMES)]
        command = [sys.executable, "-c", SEARCHED, place, *numbers]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def explained(number: int) -> tuple[float, float]:
    """Seconds to explain hits from what is kept, with and without their pictures."""
    import captum_pairs
    from captum_pairs.scenes import render, sample_caption, sample_scene
    from PIL import Image

    rng = np.random.default_rng(SEED)
    scenes = [sample_scene(rng, 3) for _ in range(number)]
    model = captum_pairs.load("scenes:plain")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        paths = [folder / f"{at}.png" for at in range(number)]
        for scene, path in zip(scenes, paths):
            Image.fromarray(render(scene).image).save(path)
        # what is timed is the same for any method; this one is soon done
        options: dict[str, Any] = {"layer": (-1, -1), "method": "jacobian_x_input"}
        index = model.index(paths, directory=folder / "kept", **options)
        query = sample_caption(rng, scenes[0]).text
        hits = index.search(query, number)
        index.explain(query, hits)  # computed, and kept
        found = []
        for pictures in (True, False):
            seconds = []
            for _ in range(TIMES):
                start = time.perf_counter()
                index.explain(query, hits, pictures=pictures)
                seconds.append(time.perf_counter() - start)
            found.append(statistics.median(seconds))
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument(
        "--keep", type=Path, help="where the index is written meanwhile"
    )
    parser.add_argument("--explained", type=int, help="hits to explain instead")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.explained:
        with_, without = explained(asked.explained)
        print(f"{asked.explained} hits from what is kept: {without:.2f} s, with their "
              f"pictures read again {with_:.2f} s")  # fmt: skip
        return
    print(f"{asked.entries} x {asked.width}, the first {FIRST}")
    for dtype in ("float32", "float16"):
        found = searched(asked.entries, asked.width, dtype, asked.keep)
        print(
            f"{dtype}: search {found['warm']:.3f} s warm, {found['cold']:.3f} s the "
            f"first time; opened in {found['opened']:.2f} s; {found['memory']:.0f} MiB "
            f"to open it beyond the {found['before']:.0f} of the imports, "
            f"{found['anonymous']:.0f} MiB beside the mapped file when it is searched; "
            f"{found['same']:.0%} of the items are those of double precision"
        )


if __name__ == "__main__":
    main()
