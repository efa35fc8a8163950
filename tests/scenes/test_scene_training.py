"""Training: the loss by hand, and a run that can be stopped."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captum_pairs.scenes.corpus import Corpus, generate
from captum_pairs.scenes.model import new_model, new_tokenizer
from captum_pairs.scenes.train import (
    batch_loss,
    contrastive_loss,
    draw_batch,
    embed_texts,
    fast_training,
    RECIPES,
    Settings,
    train,
)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generate(seed=11, scenes=64, captions=2)


def test_loss_by_hand() -> None:
    # two scenes; their first captions, their second ones, hard negatives
    logits = torch.tensor(
        [[2.0, 1.0], [0.0, 3.0], [1.0, 5.0], [1.0, 1.0], [0.5, 0.0], [0.0, 2.5]]
    )
    # the second caption of the first scene is true of the second scene as well, and
    # so is the first scene's hard negative
    holds = torch.tensor(
        [[1, 0], [0, 1], [1, 1], [0, 1], [0, 1], [0, 0]], dtype=torch.bool
    )
    loss, figures = contrastive_loss(logits, holds, hard_weight=2.0)

    def softplus(value: float) -> float:
        return math.log1p(math.exp(value))

    # each caption against the scenes that it is false of
    to_scene = (softplus(1 - 2) + softplus(0 - 3) + 0.0 + softplus(1 - 1)) / 4
    # each scene: its captions against all that are false of it
    first = math.log(sum(map(math.exp, [0.0, 1.0, 0.5, 0.0])))
    second = math.log(sum(map(math.exp, [1.0, 2.5])))
    to_caption = (
        softplus(first - 2) + softplus(first - 1) + softplus(second - 3)
    ) + softplus(second - 1)
    hard = (softplus(0.5 - 2) + softplus(2.5 - 3)) / 2
    assert loss.item() == pytest.approx(to_scene + to_caption / 4 + 2 * hard, rel=1e-6)
    assert figures["hard"] == 1.0
    assert figures["retrieval"] == 0.75  # the tied one falls to the first scene


def test_faster_operations_are_the_same_model(corpus: Corpus) -> None:
    model = new_model(3).train(False)
    pixels = draw_batch(corpus, np.random.default_rng(0), 4).pixels
    names = list(model.state_dict())
    plain = model.vision_model(pixel_values=pixels).pooler_output
    with fast_training(model):
        assert model.training
        assert list(model.state_dict()) == names
        fast = model.vision_model(pixel_values=pixels).pooler_output
    assert not model.training
    assert torch.allclose(plain, fast, atol=1e-5)
    again = model.vision_model(pixel_values=pixels).pooler_output
    assert torch.equal(plain, again)


def test_texts_embed_alike_in_any_company(corpus: Corpus) -> None:
    model = new_model(3).train(False)
    batch = draw_batch(corpus, np.random.default_rng(0), 16)
    together = embed_texts(model, batch.tokens, batch.lengths)
    for row in range(0, 48, 7):
        rows = slice(row, row + 1)
        alone = embed_texts(model, batch.tokens[rows], batch.lengths[rows], groups=1)
        assert torch.allclose(together[rows], alone, atol=2e-2)  # bfloat16


def test_batches_hold_twins_and_their_truth(corpus: Corpus) -> None:
    batch = draw_batch(corpus, np.random.default_rng(1), 32)
    assert batch.pixels.shape == (32, 3, 64, 64)
    assert batch.truth.shape == (96, 32)
    own = torch.eye(32, dtype=torch.bool)
    assert batch.truth[:32][own].all() and batch.truth[32:64][own].all()
    assert not batch.truth[64:][own].any()
    # twins' captions are true of each other more often than strangers'
    twins = own.view(16, 2, 32).flip(1).reshape(32, 32)
    assert batch.truth[:32][twins].float().mean() > 0.2
    assert batch.truth[:32][~twins & ~own].float().mean() < 0.2


def test_stopped_and_resumed_is_the_same_training(
    corpus: Corpus, tmp_path: Path
) -> None:
    def run(steps: list[int], directory: Path) -> dict[str, torch.Tensor]:
        directory.mkdir()
        for last in steps:
            # a constant rate: the schedule would depend on the number of steps
            settings = Settings(steps=last, batch_size=8, warmup=1, decay=1e-9)
            model = new_model(0, width=32, vision_layers=1, text_layers=1)
            with fast_training(model):
                train(model, corpus, corpus, settings, directory, log_steps=2)
        return model.state_dict()

    whole = run([6], tmp_path / "whole")
    parts = run([3, 6], tmp_path / "parts")
    start = new_model(0, width=32, vision_layers=1, text_layers=1).state_dict()
    for name, value in whole.items():
        assert torch.allclose(value, parts[name], atol=1e-6), name
    moved = [name for name in whole if not torch.equal(whole[name], start[name])]
    assert "vision_model.embeddings.patch_embedding.weight" in moved
    lines = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6]


def test_a_recipe_is_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part's settings up to its step, whatever was stopped in between."""
    import captum_pairs.scenes.train as module

    small = Settings(scenes=64, batch_size=8, warmup=1)
    recipe = ((2, replace(small, steps=9)), (4, replace(small, steps=4)))
    monkeypatch.setitem(module.RECIPES, "withheld", recipe)
    monkeypatch.setattr(module, "new_model", lambda seed: new_model(seed, 32, 1, 1))
    seen = []
    rate = module._learning_rate

    def noted(settings: Settings, step: int) -> float:
        seen.append((settings.steps, step))
        return rate(settings, step)

    monkeypatch.setattr(module, "_learning_rate", noted)
    output = tmp_path / "out"
    arguments = ["withheld", "--directory", str(tmp_path / "run")]
    module.main([*arguments, "--output", str(output)])
    assert seen == [(9, 0), (9, 1), (4, 2), (4, 3)]
    assert (output / "model.safetensors").is_file()
    seen.clear()
    module.main([*arguments, "--output", str(output), "--resume"])
    assert seen == []  # it is done


def test_the_recipes_end_with_what_they_plan() -> None:
    for parts in RECIPES.values():
        ends = [until for until, _ in parts]
        assert ends == sorted(ends) and parts[-1][1].steps == ends[-1]


def test_rare_negatives_are_those_of_relations_and_sizes(corpus: Corpus) -> None:
    words = new_tokenizer().convert_ids_to_tokens(list(range(len(new_tokenizer()))))
    rare = {"small", "large", "left", "right", "above", "below", "over", "under"}
    seen = set()
    for seed in range(8):
        batch = draw_batch(corpus, np.random.default_rng(seed), 64, augment=False)
        true, false = batch.tokens[:64], batch.tokens[128:]
        for row in range(64):
            ((place,),) = (true[row] != false[row]).nonzero(as_tuple=True)
            assert batch.rare[row] == (words[true[row, place]] in rare)
            seen.add(bool(batch.rare[row]))
    assert seen == {True, False}


def test_blanked_batches_claim_less_and_negatives_lose_the_same_words(
    corpus: Corpus,
) -> None:
    whole = draw_batch(corpus, np.random.default_rng(0), 64, augment=False)
    lost = draw_batch(
        corpus, np.random.default_rng(0), 64, augment=False, blank_share=1.0
    )
    assert torch.equal(whole.lengths, lost.lengths)
    assert (lost.truth[:128] | ~whole.truth[:128]).all()  # less said is no less true
    assert lost.truth.sum() > whole.truth.sum()
    place = torch.arange(lost.tokens.shape[1]) < lost.lengths[:, None]
    blanked = (lost.tokens == 0) & place
    # but for the exchanged word, which may be of another class
    assert ((blanked[:64] != blanked[128:]).sum(1) <= 1).all()


def test_blank_images_that_prefer_captions_cost(corpus: Corpus) -> None:
    model = new_model(0).train(False)
    batch = draw_batch(corpus, np.random.default_rng(0), 16)
    free, figures = batch_loss(model, batch, 1.0)
    cost, _ = batch_loss(model, batch, 1.0, neutral_weight=0.5)
    assert figures["preference"] > 0
    assert (cost - free).item() == pytest.approx(0.5 * figures["preference"], rel=1e-4)
    heavier, _ = batch_loss(model, batch, 1.0, rare_weight=4.0)
    assert heavier > free
