"""Trains the embedded model: ``python -m captum_pairs.scenes.train``.

Contrastive training in which the truth of every caption for every scene of a batch is
known. A caption that happens to be true of another scene is no negative; one that is
false by a single word (a hard negative), or true of a twin of the scene only, is.

A run can be stopped at any time and started again with ``--resume``: batches depend on
the seed and the step only.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from captum_pairs.scenes.checkpoints import checkpoint_path, CHECKPOINTS
from captum_pairs.scenes.corpus import blank, Corpus, generate, truth
from captum_pairs.scenes.model import (
    filler_ids,
    IMAGE_MEAN,
    IMAGE_SIZE,
    IMAGE_STD,
    new_model,
    PAD,
    save_checkpoint,
)
from captum_pairs.scenes.scene import Kind, WITHHELD
from torch import nn, Tensor
from transformers import CLIPModel

__all__ = ["contrastive_loss", "Settings", "train"]


# Seconds: what a step that took longer counts for in the time that is reported.
LONGEST_STEP = 5.0


@dataclass(frozen=True)
class Settings:
    """What a training depends on.

    Args:
        seed: of the scenes, the weights and the batches.
        scenes: in the corpus.
        steps: optimiser steps in all.
        batch_size: scenes in a batch, twins side by side.
        learning_rate: its plateau; reached over `warmup` steps, left for a straight
            line to zero over the last `decay` share of the steps.
        weight_decay: of matrices only.
        hard_weight: weight of the true caption against its hard negative.
        blank_from: the step from which on words are blanked (when a model has learnt
            the words, that is).
        blank_share: of captions that lose words from then on.
        rare_from: the step from which on hard negatives of relations and sizes, which
            are rare and learnt late, weigh more.
        rare_weight: how many times as much.
        neutral_from: the step from which on blank images are kept neutral.
        neutral_weight: of that from then on.
    """

    seed: int = 1
    scenes: int = 100_000
    steps: int = 5000
    batch_size: int = 256
    learning_rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.3
    weight_decay: float = 0.05
    hard_weight: float = 1.0
    blank_from: int = 2000
    blank_share: float = 0.4
    rare_from: int = 0
    rare_weight: float = 4.0
    neutral_from: int = 0
    neutral_weight: float = 0.2


_DEFAULT = Settings(blank_from=1762, neutral_from=2449, rare_from=2928)
_WITHHELD = Settings(
    seed=2, scenes=40_000, batch_size=128, blank_from=1000, rare_from=1000
)

# How the checkpoints of the package were trained: settings, each up to a step. They
# were changed on the way; the card says why.
RECIPES: dict[str, tuple[tuple[int, Settings], ...]] = {
    "default": (
        (2928, replace(_DEFAULT, steps=3800)),
        (6000, replace(_DEFAULT, steps=6000)),
        (6380, replace(_DEFAULT, steps=9500, rare_weight=12.0)),
        (8000, replace(_DEFAULT, steps=8000, rare_weight=12.0)),
    ),
    "withheld": (
        (1250, replace(_WITHHELD, steps=1250)),
        (3500, replace(_WITHHELD, steps=3500)),
    ),
    "finetuned": (
        (
            300,
            Settings(
                seed=3,
                scenes=8000,
                steps=300,
                batch_size=128,
                learning_rate=3e-4,
                warmup=50,
                decay=0.7,
                blank_from=0,
            ),
        ),
    ),
}


@dataclass(frozen=True)
class Batch:
    """b scenes (twins side by side) and t = 3 b captions: the scenes' first true ones,
    their second ones, and hard negatives of the first.

    Args:
        pixels: (b, 3, h, w), normalised.
        tokens: (t, length), token ids.
        lengths: (t,), tokens of each caption.
        truth: (t, b), bool: which captions are true of which scenes.
        rare: (b,), bool: whose hard negative changed a relation or a size.
    """

    pixels: Tensor
    tokens: Tensor
    lengths: Tensor
    truth: Tensor
    rare: Tensor


def draw_batch(
    corpus: Corpus,
    rng: np.random.Generator,
    size: int,
    augment: bool = True,
    blank_share: float = 0.0,
) -> Batch:
    """A random batch.

    Augmented: the contrast of some images is lowered towards the mean colour, some
    captions have all words that claim nothing replaced by padding, and a share of them
    a random number of any words. These are what paths of integrated gradients pass
    through: a model that knows them says less about words that are not yet there.
    """
    pairs = rng.choice(len(corpus) // 2, size // 2, replace=False)
    rows = (2 * pairs[:, None] + np.arange(2)).reshape(-1)
    chosen = rng.permuted(
        np.tile(np.arange(corpus.tokens.shape[1]), (size, 1)), axis=1
    )[:, :2]
    first, second = (rows, chosen[:, 0]), (rows, chosen[:, 1])
    captions = [(*first, 0), (*second, 0), (*first, 1)]
    tokens = np.concatenate([corpus.tokens[place] for place in captions])
    claims = np.concatenate([corpus.claims[place] for place in captions])
    lengths = (tokens != PAD).sum(1)
    changed = claims[:size] != claims[2 * size :]
    rare = changed[:, 1:-1:4].any(1) | changed[:, -1]
    if blank_share > 0:
        chosen = rng.random((2 * size, tokens.shape[1])) < rng.random((2 * size, 1))
        chosen &= rng.random((2 * size, 1)) < blank_share
        # a hard negative loses the same words as the caption that it was made from
        chosen = np.concatenate([chosen, chosen[:size]])
        tokens, claims = blank(tokens, claims, chosen)
    holds = truth(claims, corpus.objects[rows], corpus.centers[rows])
    pixels = torch.from_numpy(corpus.images[rows]).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
    pixels = (pixels - mean[:, None, None]) / std[:, None, None]
    if augment:
        contrast = rng.uniform(0.4, 1.0, size) ** (rng.random(size) < 0.5)
        pixels *= torch.from_numpy(contrast).float()[:, None, None, None]
        blanked = (rng.random(len(tokens)) < 0.15)[:, None]
        tokens = np.where(blanked & np.isin(tokens, filler_ids()), PAD, tokens)
    return Batch(
        pixels,
        torch.from_numpy(tokens.astype(np.int64)),
        torch.from_numpy(lengths),
        torch.from_numpy(holds),
        torch.from_numpy(rare),
    )


class PatchEmbedding(nn.Module):
    """A convolution whose stride is its kernel's size, as a matrix product: the same
    values, without the convolution's backward pass, which takes a third of a training
    step on a CPU."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight = convolution.weight  # (width, c, size, size)

    def forward(self, pixels: Tensor) -> Tensor:
        b, c, h, w = pixels.shape
        size = self.weight.shape[-1]
        patches = pixels.reshape(b, c, h // size, size, w // size, size)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (b, rows, columns, e)
        embedded = F.linear(patches, self.weight.flatten(1))
        return embedded.permute(0, 3, 1, 2)


@contextmanager
def fast_training(model: CLIPModel) -> Iterator[None]:
    """Training mode, with the two operations replaced whose backward pass is slow on a
    CPU: the patch embedding's and the fused attention's."""
    embeddings = model.vision_model.embeddings
    convolution = embeddings.patch_embedding
    attention = model.config._attn_implementation
    embeddings.patch_embedding = PatchEmbedding(convolution)
    model.set_attn_implementation("eager")
    model.train()
    try:
        yield
    finally:
        embeddings.patch_embedding = convolution
        model.set_attn_implementation(attention)
        model.train(False)


def embed_images(model: CLIPModel, pixels: Tensor) -> Tensor:
    """Normalised embeddings (b, k); the encoders run in bfloat16, which trains as
    well and is faster on processors that multiply it."""
    with torch.autocast("cpu", torch.bfloat16):
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        embedding = model.visual_projection(pooled)
    return F.normalize(embedding.float(), dim=-1)


def embed_texts(
    model: CLIPModel, tokens: Tensor, lengths: Tensor, groups: int = 4
) -> Tensor:
    """Normalised embeddings (t, k), computed in groups of like length: less padding."""
    order = torch.argsort(lengths)
    parts = []
    for rows in order.chunk(groups):
        longest = int(lengths[rows].max())
        mask = torch.arange(longest) < lengths[rows, None]
        with torch.autocast("cpu", torch.bfloat16):
            pooled = model.text_model(
                input_ids=tokens[rows, :longest], attention_mask=mask.long()
            ).pooler_output
            parts.append(model.text_projection(pooled))
    embedding = torch.cat(parts)[torch.argsort(order)]
    return F.normalize(embedding.float(), dim=-1)


def contrastive_loss(
    logits: Tensor, holds: Tensor, hard_weight: float | Tensor
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch, and how well the batch was told apart.

    Args:
        logits: (3 b, b): first true captions, second ones, hard negatives of the
            first, against scenes.
        holds: (3 b, b), bool: the truth.
        hard_weight: weight, or weights (b,), of the last of the three terms: a true
            caption finds its scene among those that it is false of; a scene finds a
            true caption of its own among all that are false of it; a true caption is
            above its hard negative.

    Returns:
        The loss, and shares of captions that found their scene ("retrieval") and are
        above their hard negative ("hard").
    """
    size = logits.shape[1]
    own = torch.eye(size, dtype=torch.bool).repeat(2, 1)
    true = logits[: 2 * size]
    among = true.masked_fill(holds[: 2 * size] & ~own, -torch.inf)
    target = torch.arange(size).repeat(2)
    to_scene = F.cross_entropy(among, target)
    false = logits.masked_fill(holds, -torch.inf).logsumexp(0)  # (b,)
    right = true[own].view(2, size)
    to_caption = F.softplus(false - right).mean()
    # a negative that lost its wrong word is true
    wrong = logits[2 * size :].masked_fill(holds[2 * size :], -torch.inf).diagonal()
    hard = (hard_weight * F.softplus(wrong - right[0])).mean()
    with torch.no_grad():
        found = (among.argmax(1) == target).float().mean().item()
        above = (right[0] > wrong).float().mean().item()
    loss = to_scene + to_caption + hard
    return loss, {"loss": loss.item(), "retrieval": found, "hard": above}


def blank_images() -> Tensor:
    """(2, 3, h, w), normalised: black, and the mean colour: baselines."""
    black = -torch.tensor(IMAGE_MEAN) / torch.tensor(IMAGE_STD)
    colors = torch.stack([black, torch.zeros(3)])
    return colors[:, :, None, None].expand(2, 3, IMAGE_SIZE, IMAGE_SIZE)


def batch_loss(
    model: CLIPModel,
    batch: Batch,
    hard_weight: float,
    rare_weight: float = 1.0,
    neutral_weight: float = 0.0,
) -> tuple[Tensor, dict[str, float]]:
    """:func:`contrastive_loss` of a batch under the model, plus neutral_weight times
    the variance of blank images' logits over the captions: a baseline says nothing if
    it is as similar to any caption as to any other."""
    pixels = torch.cat([batch.pixels, blank_images()])
    images = embed_images(model, pixels)
    texts = embed_texts(model, batch.tokens, batch.lengths)
    logits = model.logit_scale.exp() * texts @ images.T
    weights = hard_weight * torch.where(batch.rare, rare_weight, 1.0)
    loss, figures = contrastive_loss(logits[:, :-2], batch.truth, weights)
    preference = logits[:, -2:].var(0).mean()
    figures["preference"] = preference.item()
    return loss + neutral_weight * preference, figures


def _learning_rate(settings: Settings, step: int) -> float:
    rise = min(1.0, (step + 1) / settings.warmup)
    fall = min(1.0, (settings.steps - step) / (settings.decay * settings.steps))
    return settings.learning_rate * min(rise, fall)


def _optimizer(model: CLIPModel, settings: Settings) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))


def train(
    model: CLIPModel,
    corpus: Corpus,
    held_out: Corpus,
    settings: Settings,
    directory: Path,
    save_seconds: float = 60.0,
    log_steps: int = 50,
    until: int | None = None,
) -> None:
    """Trains a model in place, from where directory's state file stands if it has one,
    to the step `until`, the last one unless it is given.

    Writes directory/state.pt now and then and at the end, and a line of figures to
    directory/log.jsonl every log_steps steps.
    """
    optimizer = _optimizer(model, settings)
    state = directory / "state.pt"
    step, seconds = 0, 0.0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step, seconds = saved["step"], saved["seconds"]
    last = time.monotonic()
    unsaved = 0.0
    last_step = settings.steps if until is None else until
    while step < last_step:
        rng = np.random.default_rng((settings.seed, step))
        share = settings.blank_share if step >= settings.blank_from else 0.0
        batch = draw_batch(corpus, rng, settings.batch_size, blank_share=share)
        neutral = settings.neutral_weight if step >= settings.neutral_from else 0.0
        rare = settings.rare_weight if step >= settings.rare_from else 1.0
        loss, figures = batch_loss(model, batch, settings.hard_weight, rare, neutral)
        _update(model, optimizer, loss, _learning_rate(settings, step))
        step += 1
        # a pause of the process is not training
        passed = min(time.monotonic() - last, LONGEST_STEP)
        last = time.monotonic()
        seconds, unsaved = seconds + passed, unsaved + passed
        if step % log_steps == 0:
            if step % (10 * log_steps) == 0:
                figures |= _held_out_figures(model, held_out, settings)
            line = {"step": step, "seconds": round(seconds, 1), **figures}
            with (directory / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
        if unsaved > save_seconds or step == last_step:
            _save_state(state, model, optimizer, step, seconds)
            unsaved = 0.0


def _update(
    model: CLIPModel, optimizer: torch.optim.AdamW, loss: Tensor, rate: float
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(100.0))


@torch.no_grad()
def _held_out_figures(
    model: CLIPModel, held_out: Corpus, settings: Settings
) -> dict[str, float]:
    rng = np.random.default_rng(0)
    model.train(False)
    rows = [
        batch_loss(model, draw_batch(held_out, rng, 256, False), settings.hard_weight)
        for _ in range(4)
    ]
    model.train()
    return {
        f"held_out_{key}": sum(figures[key] for _, figures in rows) / len(rows)
        for key in rows[0][1]
    }


def _save_state(
    path: Path,
    model: CLIPModel,
    optimizer: torch.optim.AdamW,
    step: int,
    seconds: float,
) -> None:
    """Written beside and then renamed: a stop in between loses nothing."""
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def _corpus(
    directory: Path,
    name: str,
    seed: int,
    scenes: int,
    withheld: tuple[Kind, ...],
    only: tuple[Kind, ...],
) -> Corpus:
    """Generated once, then read from directory/name."""
    path = directory / name
    if not (path / "claims.npy").exists():
        workers = os.cpu_count() or 1
        generate(seed, scenes, withheld=withheld, only=only, workers=workers).save(path)
    return Corpus.load(path)


def _arguments() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "checkpoint", {"choices": CHECKPOINTS, "help": "which one to train"}
    yield "--directory", {
        "type": Path,
        "required": True,
        "help": "where the corpus, the state and the log are kept while it runs",
    }
    yield "--output", {"type": Path, "help": "default: the package's checkpoint"}
    yield "--initial", {
        "type": Path,
        "help": "what finetuned starts from; default: the package's withheld",
    }
    yield "--resume", {"action": "store_true", "help": "go on where a run stopped"}
    for name, value in asdict(Settings()).items():
        option = "--" + name.replace("_", "-")
        yield option, {"type": type(value), "help": f"instead of the recipe: {value}"}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, options in _arguments():
        parser.add_argument(name, **options)
    parsed = parser.parse_args(arguments)
    directory: Path = parsed.directory
    given = {
        key: value
        for key in asdict(Settings())
        if (value := getattr(parsed, key)) is not None
    }
    recipe = RECIPES[parsed.checkpoint]
    if given:
        recipe = ((Settings(**given).steps, Settings(**given)),)
    settings = recipe[0][1]
    if (directory / "state.pt").exists() and not parsed.resume:
        parser.error(f"{directory} holds a training: pass --resume to go on with it")
    directory.mkdir(parents=True, exist_ok=True)
    withheld = WITHHELD if parsed.checkpoint == "withheld" else ()
    only = WITHHELD if parsed.checkpoint == "finetuned" else ()
    seed = settings.seed
    corpus = _corpus(directory, "corpus", seed, settings.scenes, withheld, only)
    held_out = _corpus(directory, "held_out", seed + 1000, 2000, withheld, only)
    if parsed.checkpoint == "finetuned":
        initial = parsed.initial or checkpoint_path("withheld")
        model = CLIPModel.from_pretrained(initial)
    else:
        model = new_model(seed)
    with fast_training(model):
        for until, part in recipe:
            train(model, corpus, held_out, part, directory, until=until)
    save_checkpoint(model, parsed.output or checkpoint_path(parsed.checkpoint))


if __name__ == "__main__":
    main()
