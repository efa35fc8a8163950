"""
How large the page is, how soon it opens and how soon it reacts.

    python benchmarks/page.py

A picture of 24 x 24 patches with a caption of 64 tokens, in the system's Chromium
(``pip install playwright``, ``apt-get install chromium``). Every word and every patch
is pointed at once. Milliseconds of script, and until the browser has painted it: that
includes the wait for the screen's next frame, up to 17.
"""

import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum_pairs import PairExplanation
from captum_pairs.inputs import ExplainedInput
from captum_pairs.models import Feature, Head, Source
from captum_pairs.show.page import write_page
from playwright.sync_api import sync_playwright

SIDE, TOKENS, PIXELS = 24, 64, 336
POINT = """async () => {
  const painted = () => new Promise((resolve) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  }));
  const measure = async (target, type, x, y) => {
    await painted();
    const start = performance.now();
    const place = {clientX: x, clientY: y, bubbles: true, pointerId: 1};
    target.dispatchEvent(new PointerEvent(type, place));
    const script = performance.now() - start;
    await painted();
    return [script, performance.now() - start];
  };
  const words = [];
  for (const word of document.querySelectorAll(".words .word")) {
    words.push(await measure(word, "pointerover", 0, 0));
  }
  const picture = document.querySelector(".picture");
  const {left, top, width, height} = picture.getBoundingClientRect();
  const patches = [];
  for (let at = 0; at < SIDE * SIDE; at += 1) {
    const x = left + (at % SIDE + 0.5) * width / SIDE;
    const y = top + (Math.floor(at / SIDE) + 0.5) * height / SIDE;
    patches.push(await measure(picture, "pointermove", x, y));
  }
  return {words, patches};
}"""


def explanation() -> PairExplanation:
    """Random numbers of the size of a ViT-L/14 at 336 pixels."""
    made = torch.Generator().manual_seed(0)
    patches = SIDE * SIDE
    edge = PIXELS / SIDE
    boxes = [
        (column * edge, row * edge, (column + 1) * edge, (row + 1) * edge)
        for row in range(SIDE)
        for column in range(SIDE)
    ]
    words = [f"word{at}" for at in range(TOKENS)]
    spans = [(7 * at, 7 * at + len(word)) for at, word in enumerate(words)]
    text = "".join(word.ljust(7) for word in words).rstrip()
    picture = np.full((PIXELS, PIXELS, 3), 128, dtype=np.uint8)
    sides = [
        ExplainedInput(source, features, grid, "input", "nothing", 8, 0.0)
        for source, features, grid in (
            (
                Source("image", size=(PIXELS, PIXELS), picture=picture),
                tuple(Feature(f"patch {at}", box=box) for at, box in enumerate(boxes)),
                (SIDE, SIDE),
            ),
            (
                Source("text", text=text),
                tuple(Feature(word, span=span) for word, span in zip(words, spans)),
                None,
            ),
        )
    ]
    table = 0.01 * torch.randn(patches, TOKENS, generator=made)
    return PairExplanation(
        model="random",
        method="integrated_gradients",
        first=sides[0],
        second=sides[1],
        similarity="cosine",
        score=float(table.sum()),
        heads=(Head(),),
        constant=0.0,
        first_effects=torch.zeros(patches),
        second_effects=torch.zeros(TOKENS),
        interactions=table,
        convergence_delta=0.0,
        tolerance=0.01,
    )


def measured(path: Path) -> dict[str, Any]:
    """Milliseconds until it is open, and for each word and patch."""
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))))
    # root, as in containers, has no sandbox
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=arguments)
        page = opened.new_page(viewport={"width": 1200, "height": 900})
        page.goto(path.as_uri())
        timing = "performance.getEntriesByType('navigation')[0].domComplete"
        found: dict[str, Any] = {"open": page.evaluate(timing)}
        found |= page.evaluate(POINT.replace("SIDE", str(SIDE)))
        opened.close()
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_page(explanation(), Path(folder) / "page.html")
        size = path.stat().st_size
        found = measured(path)
    print(f"{SIDE} x {SIDE} patches, {TOKENS} tokens: {size / 1000:.0f} kB")
    print(f"open after {found['open']:.0f} ms")
    for name in ("words", "patches"):
        for at, what in enumerate(("script", "until painted")):
            times = [each[at] for each in found[name]]
            middle, most = statistics.median(times), max(times)
            print(f"{name}, {what}: median {middle:.1f} ms, most {most:.1f} ms")


if __name__ == "__main__":
    main()
