"""Training: the loss by hand, and a run that can be stopped."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captum_pairs.scenes.checkpoints import CHECKPOINTS
from captum_pairs.scenes.corpus import Corpus, generate, truth
from captum_pairs.scenes.model import (
    BOS,
    EOS,
    new_model,
    new_tokenizer,
    PAD,
    save_checkpoint,
)
from captum_pairs.scenes.train import (
    batch_loss,
    blank_texts,
    contrastive_loss,
    draw_batch,
    embed_texts,
    fast_training,
    graded_loss,
    LAYOUT_KINDS,
    LayoutHead,
    NEUTRAL_RECIPES,
    RECIPES,
    Settings,
    train,
    truth_of_each,
)
from captum_pairs.scenes.vocabulary import COLORS, SHAPES, SIZES


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
    monkeypatch.setattr(module, "HELD_OUT", 64)
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
    assert set(RECIPES) == set(CHECKPOINTS) == {*NEUTRAL_RECIPES, "neutral"}
    assert RECIPES["neutral"][0][1].start == RECIPES["plain"][-1][0]
    for parts in [*RECIPES.values(), *NEUTRAL_RECIPES.values()]:
        ends = [until for until, _ in parts]
        assert ends == sorted(ends) and parts[-1][1].steps == ends[-1]


def test_the_neutral_recipes_are_one_part_each_and_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import captum_pairs.scenes.train as module

    for ((until, settings),) in NEUTRAL_RECIPES.values():
        assert settings.steps == until and settings.start == 0
        assert settings.level_weight > 0 and settings.layout_weight > 0
    arguments = ["correlated", "--directory", str(tmp_path / "run")]
    initial = tmp_path / "initial"
    save_checkpoint(new_model(1, 32, 1, 1).half(), initial)  # half the size
    ((_, settings),) = NEUTRAL_RECIPES["correlated"]
    short = replace(settings, steps=2, scenes=64, batch_size=8)
    monkeypatch.setitem(module.NEUTRAL_RECIPES, "correlated", ((2, short),))
    monkeypatch.setattr(module, "HELD_OUT", 64)
    output = tmp_path / "out"
    more = ["--neutral", "--initial", str(initial), "--output", str(output)]
    module.main([*arguments, *more])
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["step"] == 2
    assert {value.dtype for value in state["model"].values()} == {torch.float32}
    assert (output / "model.safetensors").is_file()


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


GRADED = Settings(
    batch_size=8,
    warmup=1,
    decay=1e-9,
    blank_from=0,
    level_weight=0.3,
    path_weight=0.2,
    wrong_weight=0.5,
    right_weight=0.5,
    layout_weight=1.0,
    claims_weight=2.0,
)


def test_a_path_leads_from_padding_to_a_caption(corpus: Corpus) -> None:
    batch = draw_batch(corpus, np.random.default_rng(0), 64, augment=False, path=True)
    path = batch.path
    assert path is not None and path.rows.tolist() == sorted(set(path.rows.tolist()))
    right, without, false = path.tokens.chunk(3)
    # the words are those of the batch's first captions and of their hard negatives
    assert torch.equal(right, without) and torch.equal(right, batch.tokens[path.rows])
    assert torch.equal(false, batch.tokens[128:][path.rows])
    kept, none, wrong = path.kept.chunk(3)
    changed = right != false
    assert torch.equal(kept, wrong) and (changed.sum(1) == 1).all()
    assert torch.equal(none, torch.where(changed, 0.0, kept))
    special = (right == PAD) | (right == BOS) | (right == EOS)
    assert (kept[special] == 1).all()
    # half of the captions are kept in one piece, of the others each word is or is not
    whole = torch.tensor(
        [len(row[~one].unique()) == 1 for row, one in zip(kept, special)]
    )
    assert 0.25 < whole.float().mean() < 0.9
    some = kept[~special]
    assert (some == 0).any() and (some == 1).any() and ((some > 0) & (some < 1)).any()
    share, left = path.share.chunk(2)
    assert (share > left).all() and (share <= 1).all() and (left >= 0).all()
    # a wrong word counts for as much as there is of it, if it makes what is left false
    amount = (wrong * changed).sum(1)
    assert ((path.wrong == amount) | (path.wrong == 0)).all()
    assert (path.wrong == 0).any() and (path.wrong > 0).float().mean() > 0.5


def test_truth_of_each(corpus: Corpus) -> None:
    claims = corpus.claims[:40, 0, 1]
    claims = np.concatenate([claims[:20], corpus.claims[20:40, 0, 0]])
    arguments = claims, corpus.objects[:40], corpus.centers[:40]
    assert truth_of_each(*arguments).tolist() == truth(*arguments).diagonal().tolist()
    assert truth_of_each(*arguments).tolist() == [False] * 20 + [True] * 20


def test_tokens_between_padding_and_themselves(corpus: Corpus) -> None:
    model = new_model(3).train(False)
    batch = draw_batch(corpus, np.random.default_rng(0), 8)
    tokens, lengths = batch.tokens, batch.lengths
    ones = torch.ones(tokens.shape)
    plain = embed_texts(model, tokens, lengths)
    whole = embed_texts(model, tokens, lengths, kept=ones)
    assert torch.allclose(whole, plain, atol=2e-2)  # bfloat16
    ones[:, 2] = 0
    padded = tokens.clone()
    padded[:, 2] = PAD
    without = embed_texts(model, tokens, lengths, kept=ones)
    expected = embed_texts(model, padded, lengths)
    assert torch.allclose(without, expected, atol=2e-2)
    assert not torch.allclose(without, plain, atol=4e-2)
    assert not model.text_model.embeddings.token_embedding._forward_hooks


def test_empty_texts_are_as_long_as_captions(corpus: Corpus) -> None:
    batch = draw_batch(corpus, np.random.default_rng(0), 8)
    tokens, lengths = blank_texts(batch, 3)
    assert set(lengths.tolist()) <= set(batch.lengths.tolist())
    for row, length in zip(tokens.tolist(), lengths.tolist()):
        assert row[:length] == [BOS, *[PAD] * (length - 2), EOS]
        assert set(row[length:]) <= {PAD}


def _layout(entries: dict[str, tuple[float, float, float, float]]) -> torch.Tensor:
    """(1, n, 4), zeros but for the kinds that are named: "red", "star", "red star"."""
    values = torch.zeros(1, LAYOUT_KINDS, 4)
    colors, shapes = list(COLORS), list(SHAPES)
    for name, entry in entries.items():
        words = name.split()
        color = colors.index(words[0]) if words[0] in colors else None
        shape = shapes.index(words[-1]) if words[-1] in shapes else None
        if color is None or shape is None:
            index = color if color is not None else len(colors) + (shape or 0)
        else:
            index = len(colors) + len(shapes) + color * len(shapes) + shape
        values[0, index] = torch.tensor(entry)
    return values


def test_what_captions_claim_is_read_by_hand() -> None:
    head = LayoutHead(4 * LAYOUT_KINDS)
    torch.nn.init.eye_(head.weight)
    circle, star = SHAPES.index("circle"), SHAPES.index("star")
    red, blue = list(COLORS).index("red"), list(COLORS).index("blue")
    large = list(SIZES).index("large")
    # "a large red circle left of a blue star and a red thing"
    claims = [1, large, red, circle, 1, -1, blue, star, 1, -1, red, -1, 0]
    expected = {
        "red": (2.0, -1.0, 0.0, 1.0),  # claimed twice
        "circle": (1.0, -1.0, 0.0, 1.0),
        "red circle": (1.0, -1.0, 0.0, 1.0),
        "blue": (1.0, 1.0, 0.0, 0.0),
        "star": (1.0, 1.0, 0.0, 0.0),
        "blue star": (1.0, 1.0, 0.0, 0.0),
    }
    text = _layout(expected).flatten(1) / (4 * LAYOUT_KINDS) ** 0.5
    right = head.claims_loss(text, torch.tensor([claims], dtype=torch.int8))
    # nothing is wrong; the signs of six places and three sizes, all of amount one
    sure = math.log1p(math.exp(-3))
    assert right.item() == pytest.approx(sure, rel=1e-5)
    # "right of": six places have the wrong sign, and are wrong by two
    claims[-1] = 1
    wrong = head.claims_loss(text, torch.tensor([claims], dtype=torch.int8))
    expected_loss = (6 * math.log1p(math.exp(3)) + 3 * sure) / 9 + 0.2 * 6 * 4 / 9
    assert wrong.item() == pytest.approx(expected_loss, rel=1e-5)


def test_where_objects_are_is_read_by_hand() -> None:
    head = LayoutHead(4 * LAYOUT_KINDS)
    torch.nn.init.eye_(head.weight)
    circle, star = SHAPES.index("circle"), SHAPES.index("star")
    red = list(COLORS).index("red")
    objects = torch.full((1, 4, 3), -1, dtype=torch.int8)
    objects[0, 0] = torch.tensor([1, red, circle])
    objects[0, 1] = torch.tensor([0, red, star])
    centers = torch.zeros(1, 4, 2)
    centers[0, :2] = torch.tensor([[0.25, 0.5], [0.75, 1.0]])
    sure = 30.0
    seen = _layout(
        {
            "red": (sure, 9.0, 9.0, 9.0),  # there twice: its place is not asked for
            "circle": (sure, -1.0, 0.0, sure),
            "red circle": (sure, -1.0, 0.0, sure),
            "star": (sure, 1.0, 2.0, -sure),
            "red star": (sure, 1.0, 2.0, -sure),
        }
    )
    seen[..., 0] = torch.where(seen[..., 0] == 0, -sure, seen[..., 0])
    image = seen.flatten(1) / (4 * LAYOUT_KINDS) ** 0.5
    assert head.loss(image, objects, centers).item() == pytest.approx(0.0, abs=1e-6)
    centers[0, 0, 0] = 0.5  # a quarter further right: 1 in units of the reading
    assert head.loss(image, objects, centers).item() == pytest.approx(2 / 9, rel=1e-5)


def test_the_graded_loss_is_the_sum_of_its_terms(corpus: Corpus) -> None:
    model = new_model(0).train(False)
    head = LayoutHead(model.config.projection_dim)
    torch.nn.init.normal_(head.weight, std=0.1)
    batch = draw_batch(corpus, np.random.default_rng(0), 16, path=True)
    bare = replace(GRADED, **{name: 0.0 for name in _TERMS})
    base, figures = graded_loss(model, head, batch, bare)
    for name, figure in _TERMS.items():
        loss, _ = graded_loss(model, head, batch, replace(bare, **{name: 0.5}))
        assert loss > base
        if figure is not None:
            expected = 0.5 * figures[figure]
            assert (loss - base).item() == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="path"):
        graded_loss(model, head, draw_batch(corpus, np.random.default_rng(0), 4), bare)


_TERMS = {
    "level_weight": "level",
    "path_weight": "path",
    "wrong_weight": None,
    "right_weight": None,
    "layout_weight": "layout",
    "claims_weight": "claims",
}


def test_training_makes_blank_inputs_neutral(corpus: Corpus, tmp_path: Path) -> None:
    """A few steps that are for nothing else bring blank inputs to a cosine of zero."""
    settings = replace(
        GRADED, steps=40, learning_rate=3e-3, level_weight=10.0, hard_weight=0.0
    )
    model = new_model(0, width=32, vision_layers=1, text_layers=1)
    with fast_training(model):
        train(model, corpus, corpus, settings, tmp_path, log_steps=5)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    levels = [json.loads(line)["level"] for line in lines]
    assert levels[-1] < 0.25 * levels[0]


def test_a_graded_training_is_stopped_and_resumed(
    corpus: Corpus, tmp_path: Path
) -> None:
    """After a stop in the middle of a save as well; with what reads the layout."""

    def run(name: str, stops: list[int]) -> dict[str, torch.Tensor]:
        directory = tmp_path / name
        directory.mkdir()
        for stop in stops:
            model = new_model(0, width=32, vision_layers=1, text_layers=1)
            with fast_training(model):
                settings = replace(GRADED, steps=6)
                train(model, corpus, corpus, settings, directory, until=stop)
            (directory / "state.part").write_bytes(b"half a state")
        saved = torch.load(directory / "state.pt", weights_only=True)
        return saved["model"] | saved["head"]

    whole, parts = run("whole", [6]), run("parts", [2, 5, 6])
    assert whole["weight"].shape[0] == 4 * LAYOUT_KINDS and whole["weight"].any()
    for name, value in whole.items():
        assert torch.allclose(value, parts[name], atol=1e-6), name


def test_a_part_that_starts_later_has_a_fresh_optimiser_and_a_rate_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import captum_pairs.scenes.train as module

    small = Settings(scenes=64, batch_size=8, warmup=2)
    later = replace(GRADED, scenes=64, seed=9, start=2, steps=6, warmup=2, decay=0.5)
    recipe = ((2, replace(small, steps=2)), (6, later))
    monkeypatch.setitem(module.RECIPES, "withheld", recipe)
    monkeypatch.setattr(module, "new_model", lambda seed: new_model(seed, 32, 1, 1))
    monkeypatch.setattr(module, "HELD_OUT", 64)
    run = tmp_path / "run"
    output = ["--output", str(tmp_path / "out")]
    module.main(["withheld", "--directory", str(run), *output])
    state = torch.load(run / "state.pt", weights_only=True)
    assert state["step"] == 6
    assert {int(of["step"]) for of in state["optimizer"]["state"].values()} == {4}
    rates = [module._learning_rate(later, step) / 1e-3 for step in range(2, 6)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.5])
    # the same from the weights that the first part ended with
    first = tmp_path / "first"
    monkeypatch.setitem(module.RECIPES, "withheld", recipe[:1])
    module.main(["withheld", "--directory", str(run / "1"), "--output", str(first)])
    monkeypatch.setitem(module.RECIPES, "withheld", recipe)
    begun = ["--initial", str(first), "--step", "2"]
    module.main(["withheld", "--directory", str(run / "2"), *begun, *output])
    again = torch.load(run / "2" / "state.pt", weights_only=True)
    assert again["step"] == 6
    for name, value in state["model"].items():
        assert torch.allclose(value, again["model"][name], atol=1e-6), name
