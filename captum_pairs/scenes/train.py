"""Trains the embedded model: ``python -m captum_pairs.scenes.train``.

Contrastive training in which the truth of every caption for every scene of a batch is
known. A caption that happens to be true of another scene is no negative; one that is
false by a single word (a hard negative), or true of a twin of the scene only, is.

``--neutral`` makes a model neutral where it sees nothing. An empty
caption and a blank image are held at the similarity of unrelated pairs; captions on the
way from padding to their words are held in between, so that each word adds its share;
and a wrong word has to take away from what stood there without it. A linear reading of
the image's embedding, thrown away afterwards, has to tell where everything is.

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
from captum_pairs.scenes.checkpoints import checkpoint_path
from captum_pairs.scenes.corpus import blank, Corpus, generate, truth
from captum_pairs.scenes.model import (
    add_place_code,
    BOS,
    EOS,
    filler_ids,
    IMAGE_MEAN,
    IMAGE_SIZE,
    IMAGE_STD,
    new_model,
    PAD,
    save_checkpoint,
    silent_ids,
)
from captum_pairs.scenes.scene import CORRELATED, WITHHELD
from captum_pairs.scenes.vocabulary import COLORS, SHAPES
from numpy.typing import NDArray
from torch import nn, Tensor
from transformers import CLIPModel

__all__ = ["contrastive_loss", "Settings", "train"]


# Seconds: what a step that took longer counts for in the time that is reported.
LONGEST_STEP = 5.0
# Scenes of the corpus that is not trained on.
HELD_OUT = 2000


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
        start: the step that these settings start at, with a fresh optimiser if it is
            not the first one.
        place_scale, text_place_scale: norms of codes of their places that patches and
            tokens are given at the start, see
            :func:`captum_pairs.scenes.model.add_place_code`.
        subtle: whether the corpus has more relations and sizes, see
            :func:`captum_pairs.scenes.corpus.generate`.
        level_weight: of keeping blank inputs at the level of unrelated pairs.
        path_weight: of keeping captions that lack words in between.
        wrong_weight: of wrong words taking away.
        right_weight: of right words adding.
        margin: by how many logits they have to.
        layout_weight: of reading the scene's layout from the image's embedding.
        claims_weight: of reading what is claimed of a layout from the caption's.
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
    start: int = 0
    place_scale: float = 0.0
    text_place_scale: float = 0.0
    subtle: bool = False
    level_weight: float = 0.0
    path_weight: float = 0.0
    wrong_weight: float = 0.0
    right_weight: float = 0.0
    margin: float = 2.0
    layout_weight: float = 0.0
    claims_weight: float = 0.0


_DEFAULT = Settings(blank_from=1762, neutral_from=2449, rare_from=2928)
_WITHHELD = Settings(
    seed=2, scenes=40_000, batch_size=128, blank_from=1000, rare_from=1000
)

# What makes a model neutral that knows the words: from the end of "plain" on.
_NEUTRAL_LATER = Settings(
    seed=4,
    scenes=60_000,
    start=8000,
    steps=11500,
    batch_size=192,
    warmup=100,
    decay=0.6,
    blank_from=0,
    rare_weight=3.0,
    subtle=True,
    neutral_weight=0.0,
    level_weight=0.3,
    path_weight=0.2,
    wrong_weight=0.5,
    right_weight=0.5,
    margin=3.0,
    layout_weight=5.0,
    claims_weight=5.0,
)
# What was tried on the way: what is read of the layout was drowned by the other terms'
# gradients at first, and sides were not read from captions.
_DROWNED = replace(_NEUTRAL_LATER, layout_weight=1.0, claims_weight=2.0)
_NO_SIDES = replace(_NEUTRAL_LATER, layout_weight=10.0, claims_weight=10.0)
_TRIED = replace(
    _NEUTRAL_LATER,
    steps=12500,
    path_weight=0.1,
    right_weight=0.0,
    margin=2.0,
    layout_weight=1.0,
    claims_weight=0.0,
)

# How the checkpoints of the package were trained: settings, each up to a step. They
# were changed on the way; the card says why.
RECIPES: dict[str, tuple[tuple[int, Settings], ...]] = {
    "plain": (
        (2928, replace(_DEFAULT, steps=3800)),
        (6000, replace(_DEFAULT, steps=6000)),
        (6380, replace(_DEFAULT, steps=9500, rare_weight=12.0)),
        (8000, replace(_DEFAULT, steps=8000, rare_weight=12.0)),
    ),
    "neutral": (
        (8567, _TRIED),
        (9177, _DROWNED),
        (9768, replace(_DROWNED, start=9177, steps=11000, place_scale=4.0)),
        (10259, replace(_NO_SIDES, start=9768, steps=12068, batch_size=128)),
        (
            11759,
            replace(
                _NEUTRAL_LATER,
                start=10259,
                steps=11759,
                batch_size=128,
                text_place_scale=1.5,
            ),
        ),
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
    "correlated": (
        (
            1000,
            Settings(
                seed=7,
                scenes=24_000,
                steps=1000,
                batch_size=128,
                learning_rate=5e-4,
                warmup=50,
                decay=0.7,
                blank_from=0,
            ),
        ),
    ),
}

# How those are to be trained that take their place: neutral where nothing is seen, in
# one part each. No weights of theirs are shipped: "neutral" came from "plain" on a
# longer way; the card says which.
_NEUTRAL = replace(
    _NEUTRAL_LATER,
    start=0,
    steps=6000,
    warmup=200,
    decay=0.5,
    blank_from=1500,
    place_scale=1.5,
    text_place_scale=0.25,
)
_LEARNT_LATER = replace(
    _NEUTRAL,
    batch_size=128,
    learning_rate=5e-4,
    warmup=50,
    decay=0.7,
    blank_from=0,
    place_scale=0.0,
    text_place_scale=0.0,
)
NEUTRAL_RECIPES: dict[str, tuple[tuple[int, Settings], ...]] = {
    "plain": ((6000, _NEUTRAL),),
    "withheld": (
        (
            3500,
            replace(_NEUTRAL, seed=5, scenes=40_000, steps=3500, batch_size=128),
        ),
    ),
    "finetuned": ((400, replace(_LEARNT_LATER, seed=3, scenes=16_000, steps=400)),),
    "correlated": ((800, replace(_LEARNT_LATER, seed=7, scenes=24_000, steps=800)),),
}
# What a recipe starts from; the kinds that none of its scenes and captions holds, the
# kinds of which every first twin holds one, and the shapes that stand together.
_INITIAL = {"neutral": "plain", "finetuned": "withheld", "correlated": "withheld"}
_WITHOUT = {"withheld": WITHHELD}
_ONLY = {"finetuned": WITHHELD}
_TOGETHER = {"correlated": CORRELATED}


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
        claims: (t, 13), int8: what the captions claim.
        said: (t,), the share of words that claim something and were not blanked.
        objects: (b, 4, 3), int8, and
        centers: (b, 4, 2), float32: as in :class:`Corpus`.
        path: captions on the way from padding to the first ones; None: not drawn.
    """

    pixels: Tensor
    tokens: Tensor
    lengths: Tensor
    truth: Tensor
    rare: Tensor
    claims: Tensor
    said: Tensor
    objects: Tensor
    centers: Tensor
    path: "PathBatch | None" = None


@dataclass(frozen=True)
class PathBatch:
    """p captions on the way from padding to their words, three times: with a word, with
    padding instead of it, and with the wrong word of the hard negative.

    Args:
        rows: (p,), the scene of each.
        tokens: (3 p, length), token ids.
        lengths: (3 p,).
        kept: (3 p, length), from 0 (padding) to 1 (the word).
        share: (2 p,), of the words that claim something, how much is kept with the
            word and without it.
        wrong: (p,), how much of the wrong word is kept; 0 where what is left of the
            caption is true all the same.
    """

    rows: Tensor
    tokens: Tensor
    lengths: Tensor
    kept: Tensor
    share: Tensor
    wrong: Tensor


def draw_path(
    corpus: Corpus, rng: np.random.Generator, rows: NDArray[Any], chosen: NDArray[Any]
) -> PathBatch:
    """Half of the captions keep each word with a probability of their own; of the
    others every word is kept by the same amount, as integrated gradients have it.

    Args:
        corpus: the scenes.
        rng: source of randomness.
        rows: (b,), scenes.
        chosen: (b,), which of its captions.
    """
    places = np.sort(rng.choice(len(rows), len(rows) // 2, replace=False))
    right, false = (corpus.tokens[rows[places], chosen[places], i] for i in (0, 1))
    word = ~np.isin(right, [PAD, BOS, EOS])
    changed = right != false
    amount = rng.random((len(places), 1))
    whole = rng.random((len(places), 1)) < 0.5
    kept = np.where(whole, amount, rng.random(right.shape) < amount)
    kept = np.where(word & ~(changed & ~whole), kept, 1.0)
    without = np.where(changed, 0.0, kept)
    claiming = word & ~np.isin(right, silent_ids())
    share = [(k * claiming).sum(1) / claiming.sum(1) for k in (kept, without)]
    # what a hard negative says when some of its words are padding can be true
    claims = corpus.claims[rows[places], chosen[places], 1]
    _, claims = blank(false, claims, word & (kept == 0))
    there = rows[places]
    holds = truth_of_each(claims, corpus.objects[there], corpus.centers[there])
    wrong = np.where(holds, 0.0, (kept * changed).sum(1))
    tokens = np.concatenate([right, right, false])
    return PathBatch(
        torch.from_numpy(places),
        torch.from_numpy(tokens.astype(np.int64)),
        torch.from_numpy((tokens != PAD).sum(1)),
        torch.from_numpy(np.concatenate([kept, without, kept])).float(),
        torch.from_numpy(np.concatenate(share)).float(),
        torch.from_numpy(wrong).float(),
    )


def truth_of_each(
    claims: NDArray[np.int8], objects: NDArray[np.int8], centers: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Whether each caption is true of its own scene, (t,)."""
    size = 16  # a block's captions are compared with all of its scenes
    parts = [
        truth(claims[i : i + size], objects[i : i + size], centers[i : i + size])
        for i in range(0, len(claims), size)
    ]
    return np.concatenate([part.diagonal() for part in parts])


def draw_batch(
    corpus: Corpus,
    rng: np.random.Generator,
    size: int,
    augment: bool = True,
    blank_share: float = 0.0,
    path: bool = False,
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
    order = chosen[:, 0]
    first, second = (rows, chosen[:, 0]), (rows, chosen[:, 1])
    captions = [(*first, 0), (*second, 0), (*first, 1)]
    tokens = np.concatenate([corpus.tokens[place] for place in captions])
    claims = np.concatenate([corpus.claims[place] for place in captions])
    lengths = (tokens != PAD).sum(1)
    changed = claims[:size] != claims[2 * size :]
    rare = changed[:, 1:-1:4].any(1) | changed[:, -1]
    silent = [PAD, BOS, EOS, *silent_ids()]
    claiming = (~np.isin(tokens, silent)).sum(1)
    if blank_share > 0:
        chosen = rng.random((2 * size, tokens.shape[1])) < rng.random((2 * size, 1))
        chosen &= rng.random((2 * size, 1)) < blank_share
        if path:
            chosen[:size] = False  # the path's captions lose words instead
        # a hard negative loses the same words as the caption that it was made from
        chosen = np.concatenate([chosen, chosen[:size]])
        tokens, claims = blank(tokens, claims, chosen)
    said = (~np.isin(tokens, silent)).sum(1) / claiming
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
        torch.from_numpy(claims),
        torch.from_numpy(said).float(),
        torch.from_numpy(corpus.objects[rows]),
        torch.from_numpy(corpus.centers[rows]),
        draw_path(corpus, rng, rows, order) if path else None,
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


@contextmanager
def _partly_padding(model: CLIPModel, kept: Tensor | None) -> Iterator[None]:
    """Tokens' embeddings on the way from padding (0) to the token (1): kept, (t, n)."""
    if kept is None:
        yield
        return
    embedding = model.text_model.embeddings.token_embedding

    def mixed(module: nn.Embedding, inputs: object, output: Tensor) -> Tensor:
        padding = module.weight[PAD]
        return padding + kept[..., None] * (output - padding)

    handle = embedding.register_forward_hook(mixed)
    try:
        yield
    finally:
        handle.remove()


def embed_texts(
    model: CLIPModel,
    tokens: Tensor,
    lengths: Tensor,
    groups: int = 4,
    kept: Tensor | None = None,
) -> Tensor:
    """Normalised embeddings (t, k), computed in groups of like length: less padding.
    kept, (t, n), is how much of each token is there; the rest of it is padding."""
    order = torch.argsort(lengths)
    parts = []
    for rows in order.chunk(groups):
        longest = int(lengths[rows].max())
        mask = torch.arange(longest) < lengths[rows, None]
        part = None if kept is None else kept[rows, :longest]
        with torch.autocast("cpu", torch.bfloat16), _partly_padding(model, part):
            pooled = model.text_model(
                input_ids=tokens[rows, :longest], attention_mask=mask.long()
            ).pooler_output
            parts.append(model.text_projection(pooled))
    embedding = torch.cat(parts)[torch.argsort(order)]
    return F.normalize(embedding.float(), dim=-1)


def contrastive_loss(
    logits: Tensor,
    holds: Tensor,
    hard_weight: float | Tensor,
    caption_weight: Tensor | None = None,
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
        caption_weight: (2 b,), of each true caption in the second term.

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
    above_all = F.softplus(false - right)  # (2, b)
    if caption_weight is not None:
        above_all = above_all * caption_weight.view(2, size)
    to_caption = above_all.mean()
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


def blank_texts(batch: Batch, number: int = 4) -> tuple[Tensor, Tensor]:
    """Token ids (number, length) of padding between the first and the last token, as
    long as some of the batch's captions, and their lengths: baselines."""
    lengths = batch.lengths[:: len(batch.lengths) // number][:number]
    tokens = torch.full((number, batch.tokens.shape[1]), PAD)
    tokens[:, 0] = BOS
    tokens[torch.arange(number), lengths - 1] = EOS
    return tokens, lengths


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


class LayoutHead(nn.Linear):
    """Reads from an image's embedding what is where: for each colour, each shape and
    each of their pairs whether it is there (a logit), and if it is there once, the x
    and y of its centre and whether it is large (a logit).

    From a caption's embedding it reads along the same directions what the caption
    claims, so that the inner product of the two compares the one with the other:
    "left of" claims a smaller x of the first object and a larger one of the second.
    """

    def __init__(self, width: int, seed: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            super().__init__(width, 4 * LAYOUT_KINDS)
            # from zero, an embedding that says nothing of places would never begin to
            nn.init.normal_(self.weight, std=width**-0.5)
        nn.init.zeros_(self.bias)

    def loss(self, images: Tensor, objects: Tensor, centers: Tensor) -> Tensor:
        """Mean error for normalised embeddings (b, k) of scenes whose objects are
        (b, 4, 3) and centres (b, 4, 2)."""
        size = objects[..., 0]
        of = _kinds(objects.long(), size >= 0)  # (b, 4, n)
        count = of.sum(1)  # (b, n)
        once = (count == 1).float()
        scaled = images * images.shape[1] ** 0.5
        read = F.linear(scaled, self.weight, self.bias).view(-1, LAYOUT_KINDS, 4)
        there = F.binary_cross_entropy_with_logits(
            read[..., 0], (count > 0).float(), reduction="none"
        )
        where = torch.einsum("bon,boc->bnc", of, centers) - 0.5
        away = (read[..., 1:3] - 4 * where).square().sum(-1)
        large = torch.einsum("bon,bo->bn", of, (size == 1).float())
        sized = F.binary_cross_entropy_with_logits(
            read[..., 3], large.clamp(max=1.0), reduction="none"
        )
        total = there.sum(1).mean() + ((away + sized) * once).sum(1).mean()
        return total / 9  # three times three terms of about one

    def claims_loss(self, texts: Tensor, claims: Tensor) -> Tensor:
        """For normalised embeddings (t, k) of captions, claims (t, 13): mean logistic
        error of the signs of what is claimed of places and sizes, and a fifth of the
        squared error of everything. (The squared error alone is so full of what other
        kinds leak into a reading that relations did not begin to be learnt.)"""
        phrases = claims[:, :-1].reshape(len(claims), -1, 4).long()  # (t, 3, 4)
        of = _kinds(phrases[..., 1:], phrases[..., 0] > 0)  # (t, 3, n)
        size = torch.tensor([0.0, -1.0, 1.0])[phrases[..., 1] + 1]
        away = torch.zeros(len(claims), 3, 2)
        away[:, :2] = torch.tensor(_AWAY)[claims[:, -1].long()]
        said = [torch.ones_like(size), away[..., 0], away[..., 1], size]
        target = torch.einsum("tpn,tpc->tnc", of, torch.stack(said, -1))
        scaled = texts * texts.shape[1] ** 0.5
        read = F.linear(scaled, self.weight).view(-1, LAYOUT_KINDS, 4)
        squared = (read - target).square().sum((1, 2)).mean() / 9
        agree = (read * target)[..., 1:][target[..., 1:] != 0]
        return 0.2 * squared + F.softplus(-3 * agree).sum() / max(len(agree), 1)


# By relation (the last: none), where the first and the second phrase's objects are.
_AWAY = [
    [[-1.0, 0.0], [1.0, 0.0]],
    [[1.0, 0.0], [-1.0, 0.0]],
    [[0.0, -1.0], [0.0, 1.0]],
    [[0.0, 1.0], [0.0, -1.0]],
    [[0.0, 0.0], [0.0, 0.0]],
]


def _kinds(said: Tensor, there: Tensor) -> Tensor:
    """(b, o, n): the colour, the shape and their pair that size, colour and shape (b,
    o, 3) are, -1 where nothing is said; all zeros where there (b, o) is not so."""
    color, shape = said[..., 1], said[..., 2]
    kind = len(COLORS) + len(SHAPES) + color * len(SHAPES) + shape
    kind = torch.where((color < 0) | (shape < 0), -1, kind)
    shape = torch.where(shape < 0, -1, shape + len(COLORS))
    number = torch.stack([color, shape, kind], -1)  # (b, o, 3)
    number = torch.where(there[..., None], number, -1)
    every = F.one_hot(number + 1, LAYOUT_KINDS + 1)
    return every[..., 1:].sum(2).float()


LAYOUT_KINDS = len(COLORS) + len(SHAPES) + len(COLORS) * len(SHAPES)


def graded_loss(
    model: CLIPModel, head: LayoutHead, batch: Batch, settings: Settings
) -> tuple[Tensor, dict[str, float]]:
    """:func:`contrastive_loss` of a batch with its path, and what makes blank inputs
    neutral, right words add and wrong ones take away; see :class:`Settings`."""
    path = batch.path
    if path is None:
        raise ValueError("the batch must be drawn with its path")
    size = len(batch.pixels)
    images = embed_images(model, torch.cat([batch.pixels, blank_images()]))
    empty, empty_lengths = blank_texts(batch)
    whole = torch.ones(len(batch.tokens) + len(empty), batch.tokens.shape[1])
    texts = embed_texts(
        model,
        torch.cat([batch.tokens, empty, path.tokens]),
        torch.cat([batch.lengths, empty_lengths, path.lengths]),
        groups=6,
        kept=torch.cat([whole, path.kept]),
    )
    logits = model.logit_scale.exp() * texts @ images.T
    full, rest = logits[: 3 * size], logits[3 * size :]
    blank_text, partial = rest[: len(empty)], rest[len(empty) :]
    weights = settings.hard_weight * torch.where(batch.rare, settings.rare_weight, 1.0)
    loss, figures = contrastive_loss(
        full[:, :-2], batch.truth, weights, batch.said[: 2 * size]
    )
    unrelated = full[: 2 * size, :-2][~batch.truth[: 2 * size]].mean()
    # the level of unrelated pairs is held at zero, lest everything become alike
    level = _distance(unrelated, 0.0) + _distance(blank_text, 0.0)
    level = level + _distance(logits[:, -2:], 0.0)
    there = torch.arange(len(path.rows)), path.rows
    with_word, without, wrong = (part[there] for part in partial.chunk(3))
    above = full[path.rows, path.rows].detach().repeat(2)
    along = _distance(torch.cat([with_word, without]), path.share * above)
    rare = torch.where(batch.rare[path.rows], settings.rare_weight, 1.0)
    amount = path.wrong
    taken = F.softplus(wrong - without + settings.margin * amount) * amount * rare
    added = F.softplus(without - with_word + settings.margin * amount) * amount * rare
    layout = head.loss(images[:-2], batch.objects, batch.centers)
    claimed = head.claims_loss(texts[: 3 * size], batch.claims)
    loss = (
        loss
        + settings.level_weight * level
        + settings.path_weight * along
        + settings.wrong_weight * taken.mean()
        + settings.right_weight * added.mean()
        + settings.layout_weight * layout
        + settings.claims_weight * claimed
    )
    used = path.wrong > 0
    figures |= {
        "unrelated": unrelated.item(),
        "true": full[:size, :-2].diagonal().mean().item(),
        "level": level.item(),
        "path": along.item(),
        "added": (with_word > without).float().mean().item(),
        "taken": (wrong < without)[used].float().mean().item(),
        "layout": layout.item(),
        "claims": claimed.item(),
        "scale": model.logit_scale.exp().item(),
        "loss": loss.item(),
    }
    return loss, figures


def _distance(logits: Tensor, level: Tensor | float) -> Tensor:
    """Mean distance of logits from where they should be, smooth within a logit."""
    target = torch.as_tensor(level, dtype=logits.dtype).expand_as(logits)
    return F.smooth_l1_loss(logits, target, beta=1.0)


def _learning_rate(settings: Settings, step: int) -> float:
    last = settings.steps - settings.start
    step -= settings.start
    rise = min(1.0, (step + 1) / settings.warmup)
    fall = min(1.0, (last - step) / (settings.decay * last))
    return settings.learning_rate * min(rise, fall)


def _optimizer(
    model: CLIPModel, settings: Settings, head: nn.Module | None = None
) -> torch.optim.AdamW:
    parameters = [*model.parameters(), *(head.parameters() if head else ())]
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
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
    to the step `until`, the last one unless it is given. Where settings start with a
    fresh optimiser, the state file has to stand at their start.

    Writes directory/state.pt now and then and at the end, and a line of figures to
    directory/log.jsonl every log_steps steps.
    """
    head = None
    if settings.layout_weight > 0:
        head = LayoutHead(model.visual_projection.out_features, settings.seed)
    optimizer = _optimizer(model, settings, head)
    state = directory / "state.pt"
    step, seconds = 0, 0.0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        step, seconds = saved["step"], saved["seconds"]
        if step > settings.start:
            optimizer.load_state_dict(saved["optimizer"])
            if head is not None:
                head.load_state_dict(saved["head"])
    if step == settings.start:
        add_place_code(model, settings.place_scale, settings.text_place_scale)
    last = time.monotonic()
    unsaved = 0.0
    last_step = settings.steps if until is None else until
    while step < last_step:
        loss, figures = _step_loss(model, head, corpus, settings, step)
        _update(model, optimizer, loss, _learning_rate(settings, step))
        step += 1
        # a pause of the process is not training
        passed = min(time.monotonic() - last, LONGEST_STEP)
        last = time.monotonic()
        seconds, unsaved = seconds + passed, unsaved + passed
        if step % log_steps == 0:
            if step % (10 * log_steps) == 0:
                figures |= _held_out_figures(model, head, held_out, settings)
            line = {"step": step, "seconds": round(seconds, 1), **figures}
            with (directory / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
        if unsaved > save_seconds or step == last_step:
            _save_state(state, model, optimizer, head, step, seconds)
            unsaved = 0.0


def _step_loss(
    model: CLIPModel,
    head: LayoutHead | None,
    corpus: Corpus,
    settings: Settings,
    step: int,
) -> tuple[Tensor, dict[str, float]]:
    rng = np.random.default_rng((settings.seed, step))
    share = settings.blank_share if step >= settings.blank_from else 0.0
    size = settings.batch_size
    if head is not None:
        batch = draw_batch(corpus, rng, size, blank_share=share, path=True)
        return graded_loss(model, head, batch, settings)
    batch = draw_batch(corpus, rng, size, blank_share=share)
    neutral = settings.neutral_weight if step >= settings.neutral_from else 0.0
    rare = settings.rare_weight if step >= settings.rare_from else 1.0
    return batch_loss(model, batch, settings.hard_weight, rare, neutral)


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
    model: CLIPModel, head: LayoutHead | None, held_out: Corpus, settings: Settings
) -> dict[str, float]:
    rng = np.random.default_rng(0)
    model.train(False)
    rows = []
    for _ in range(4):
        batch = draw_batch(held_out, rng, 256, False, path=head is not None)
        if head is None:
            _, figures = batch_loss(model, batch, settings.hard_weight)
        else:
            _, figures = graded_loss(model, head, batch, settings)
        rows.append(figures)
    model.train()
    return {
        f"held_out_{key}": sum(figures[key] for figures in rows) / len(rows)
        for key in rows[0]
    }


def _save_state(
    path: Path,
    model: CLIPModel,
    optimizer: torch.optim.AdamW | None,
    head: nn.Module | None,
    step: int,
    seconds: float,
) -> None:
    """Written beside and then renamed: a stop in between loses nothing."""
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimizer": optimizer and optimizer.state_dict(),
        "head": head and head.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def _corpus(
    directory: Path, settings: Settings, checkpoint: str, held_out: bool = False
) -> Corpus:
    """Generated once, then read from a folder of the directory."""
    path = directory / f"{'held_out' if held_out else 'corpus'}-{settings.seed}"
    if not (path / "claims.npy").exists():
        generate(
            settings.seed + (1000 if held_out else 0),
            HELD_OUT if held_out else settings.scenes,
            withheld=_WITHOUT.get(checkpoint, ()),
            only=_ONLY.get(checkpoint, ()),
            workers=torch.get_num_threads(),
            subtle=settings.subtle,
            together=_TOGETHER.get(checkpoint),
        ).save(path)
    return Corpus.load(path)


def _arguments() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "checkpoint", {"choices": RECIPES, "help": "which one to train"}
    yield "--neutral", {
        "action": "store_true",
        "help": "by the recipe that makes blank inputs neutral, not the shipped one's",
    }
    yield "--directory", {
        "type": Path,
        "required": True,
        "help": "where the corpus, the state and the log are kept while it runs",
    }
    yield "--output", {"type": Path, "help": "default: the package's checkpoint"}
    yield "--initial", {
        "type": Path,
        "help": "weights to start from; by default none, or the package's plain for "
        "neutral and withheld for finetuned and correlated",
    }
    yield "--step", {
        "type": int,
        "default": 0,
        "help": "the step of the recipe that the initial weights stand at",
    }
    yield "--resume", {"action": "store_true", "help": "go on where a run stopped"}
    for name, value in asdict(Settings()).items():
        option = "--" + name.replace("_", "-")
        kind = (lambda text: text == "True") if value is False else type(value)
        yield option, {"type": kind, "help": f"instead of the recipe: {value}"}


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
    recipes = NEUTRAL_RECIPES if parsed.neutral else RECIPES
    if parsed.checkpoint not in recipes:
        parser.error(f"{parsed.checkpoint} is neutral: leave --neutral out")
    recipe = recipes[parsed.checkpoint]
    if given:
        recipe = ((Settings(**given).steps, Settings(**given)),)
    settings = recipe[0][1]
    if (directory / "state.pt").exists() and not parsed.resume:
        parser.error(f"{directory} holds a training: pass --resume to go on with it")
    directory.mkdir(parents=True, exist_ok=True)
    initial = parsed.initial
    if parsed.checkpoint in _INITIAL and initial is None:
        initial = checkpoint_path(_INITIAL[parsed.checkpoint])
    model = new_model(settings.seed)
    if initial is not None:
        model = CLIPModel.from_pretrained(initial, dtype=torch.float32)
    done = parsed.step or recipe[0][1].start
    state = directory / "state.pt"
    if state.exists():
        done = torch.load(state, weights_only=True)["step"]
    elif done:
        _save_state(state, model, None, None, done, 0.0)
    with fast_training(model):
        for until, part in recipe:
            if until > done:
                corpus = _corpus(directory, part, parsed.checkpoint)
                held_out = _corpus(directory, part, parsed.checkpoint, held_out=True)
                train(model, corpus, held_out, part, directory, until=until)
    if done >= recipe[-1][0]:
        model.load_state_dict(torch.load(state, weights_only=True)["model"])
    output = parsed.output or checkpoint_path().parent / parsed.checkpoint
    save_checkpoint(model, output)


if __name__ == "__main__":
    main()
