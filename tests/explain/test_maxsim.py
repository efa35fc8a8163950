"""Explanations of late interaction: maxima fixed at the inputs, and what is said of
how far that goes."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from captum_pairs import Contrast, load, PairExplanation
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.model import DualEncoder
from captum_pairs.models import (
    Feature,
    LateInteractionPair,
    Layout,
    OutputTokens,
    Prepared,
    Source,
    TokenEncoder,
)
from matplotlib.figure import Figure
from torch import Tensor

for name in (
    "sentence_transformers.multi_vector_encoder",
    "transformers.models.colmodernvbert",
):
    pytest.importorskip(name, reason=f"there is no {name}")
from tiny_late_interaction import PROMPTS, save_multi_vector  # noqa: E402  # needs both

QUERY, DOCUMENT = "what is a big circle", "the small red square, left of the big circle"
OTHER = "find a red square"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """In float64, with an expanded query and a document's words left out."""
    directory = tmp_path_factory.mktemp("late")
    expansion = {"strategy": "fixed", "length": 11, "attend": False}
    found = load(
        save_multi_vector(
            directory, (",", "the"), PROMPTS, query_expansion=expansion, seed=3
        )
    )
    found.first.module.double()
    return found


@pytest.fixture(scope="module")
def found(model: Any) -> PairExplanation:
    return model.explain(
        QUERY, DOCUMENT, layer=("input", 0), tolerance=1e-11, n_steps=512
    )


def tokens_and_masks(model: Any, at: int, text: str) -> list[tuple[Tensor, Tensor]]:
    """By the model itself: its token embeddings of an input and of the baseline's ids,
    and which of them it scores."""
    encoder = (model.first, model.second)[at]
    prepared = encoder.prepare(text)
    names, *values = prepared.arguments
    results = []
    for ids in (prepared.inputs, prepared.baseline):
        features = dict(
            zip(names, (v.clone() if isinstance(v, Tensor) else v for v in values))
        )
        with torch.no_grad():
            out = encoder.module(
                {"input_ids": ids.clone(), **features}, task=encoder.task
            )
        results.append((out["token_embeddings"][0], out["attention_mask"][0].bool()))
    return results


def test_pairs_sum_to_the_four_fixed_scores(model: Any, found: Any) -> None:
    query = tokens_and_masks(model, 0, QUERY)
    document = tokens_and_masks(model, 1, DOCUMENT)
    asking, scored = query[0][0][query[0][1]], document[0][1].nonzero().flatten()
    assigned = scored[(asking @ document[0][0][scored].T).argmax(1)]

    def fixed(i: int, j: int, places: Tensor) -> float:
        return float((query[i][0][query[0][1]] * document[j][0][places]).sum())

    own = float((asking @ document[0][0][scored].T).amax(1).sum())
    corners = [[fixed(i, j, assigned) for j in (0, 1)] for i in (0, 1)]
    assert corners[0][0] == pytest.approx(own, abs=1e-9)
    assert torch.allclose(found.maxsim.fixed, torch.tensor(corners).double(), atol=1e-9)
    total = corners[0][0] - corners[1][0] - corners[0][1] + corners[1][1]
    assert float(found.interactions.sum()) == pytest.approx(total, abs=1e-9)
    assert found.maxsim.specific == pytest.approx(total, abs=1e-9)
    # another assignment is none of this model's
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        at_random = scored[
            torch.randint(len(scored), (len(assigned),), generator=generator)
        ]
        assert abs(fixed(0, 0, at_random) - own) > 1e-3
    # s at the baselines has maxima, and skipped words, of its own
    for i in (0, 1):
        for j in (0, 1):
            q, d = (tokens[mask] for tokens, mask in (query[i], document[j]))
            expected = float((q @ d.T).amax(1).sum())
            assert float(found.maxsim.own[i, j]) == pytest.approx(expected, abs=1e-9)
    gaps = found.maxsim.gaps
    assert bool((gaps > -1e-12).all())
    assert abs(float(gaps[0, 0])) < 1e-12 and float(gaps[1, 0].abs()) > 1e-3


def test_a_random_assignment_is_not_the_models_score(model: Any) -> None:
    pair = [model.first.prepare(QUERY), model.second.prepare(DOCUMENT)]
    scored = [
        model.tokens_of(at, each).scored.nonzero().flatten()
        for at, each in enumerate(pair)
    ]
    own = model.explain(QUERY, DOCUMENT, method="jacobian_x_input").maxsim
    generator = torch.Generator().manual_seed(1)
    at_random = torch.randint(len(scored[1]), (len(scored[0]),), generator=generator)
    for assigned, is_own in ((own.assigned, True), (at_random, False)):
        fixed = model.choosing((scored[0], scored[1][assigned]))
        ends = [
            side.embed(each.inputs, *each.arguments)[0]
            for side, each in zip((fixed.first, fixed.second), pair)
        ]
        score = float(ends[0] @ ends[1])
        assert (abs(score - float(own.own[0, 0])) < 1e-9) == is_own


def test_where_everything_is_masked_the_score_is_undefined(tmp_path: Path) -> None:
    skipped = ("[PAD]", "[CLS]", "[SEP]")
    model = load(save_multi_vector(tmp_path, skipped))
    found = model.explain(QUERY, DOCUMENT)
    assert found.maxsim is not None
    assert found.maxsim.own.isnan().tolist() == [[False, True], [False, True]]
    assert bool(found.maxsim.fixed.isfinite().all())
    assert (
        "the second text at its baseline undefined (no token counts" in found.summary()
    )
    found.save(tmp_path)
    again = PairExplanation.load(tmp_path).maxsim
    assert again is not None
    assert again.own.isnan().tolist() == found.maxsim.own.isnan().tolist()


# ---- by hand -----------------------------------------------------------------


@dataclass(frozen=True)
class PreparedPoints(Prepared):
    def layout(self, shape: Any, at_input: bool, tokens: bool) -> Layout:
        spans = [(2 * at, 2 * at + 1) for at in range(shape[1])]
        features = tuple(Feature(self.source.text[a:b], span=(a, b)) for a, b in spans)
        return Layout(features, torch.arange(shape[1]).reshape(1, -1, 1))


class Points(TokenEncoder):
    """Letters to points of a plane, which are their own embeddings."""

    kind = "text"
    PLACES = {"a": (1, 0), "b": (0, 1), "c": (-1, 0), "d": (0, -1), "e": (0.9, 0.1)}

    def prepare(self, raw: str, baseline: Any = None) -> PreparedPoints:
        inputs = torch.tensor(
            [[self.PLACES[letter] for letter in raw.split()]]
        ).double()
        away = torch.full_like(inputs, 0.5) * torch.arange(inputs.shape[1])[:, None]
        return PreparedPoints(inputs, away, Source("text", text=raw), "points")

    def token_embeddings(self, inputs: Tensor, *arguments: Any) -> Tensor:
        return inputs * 1.0

    def output_tokens(self, prepared: PreparedPoints) -> OutputTokens:
        every = torch.ones(prepared.inputs.shape[1], dtype=torch.bool)
        return OutputTokens(every, every)


def by_hand(query: int, mean: bool = False) -> Any:
    pair = LateInteractionPair("points", Points(), Points(), query=query, mean=mean)
    return DualEncoder.of(pair)


@pytest.mark.parametrize("query, mean", [(0, False), (1, False), (0, True)])
def test_everything_by_hand(query: int, mean: bool) -> None:
    texts = "a b d", "e c b a"
    found = by_hand(query, mean).explain(*texts)
    values = [Points().prepare(text) for text in texts]
    x, y = (each.inputs[0] for each in values)
    starts = [each.baseline[0] for each in values]
    factor = 1 / 3 if mean else 1.0
    if query == 0:
        # a is nearest to a, b to b, d to c (0)
        assert found.maxsim.assigned.tolist() == [3, 2, 1]
        assert found.score == pytest.approx(factor * 2)
    else:  # e to a, c to b (0), b to b, a to a
        assert found.maxsim.assigned.tolist() == [0, 1, 1, 0]
        assert found.score == pytest.approx(0.9 + 0 + 1 + 1)
    # switches, point by point
    middles = [0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
    expected = torch.zeros(6, 6)
    for i, alpha in enumerate(middles):
        for j, beta in enumerate(middles):
            ends = [
                start + step * (value - start)
                for step, value, start in zip((alpha, beta), (x, y), starts)
            ]
            similar = ends[query] @ ends[1 - query].T
            moved = similar.argmax(1) != found.maxsim.assigned
            expected[i, j] = moved.double().mean()
    assert torch.allclose(found.maxsim.switched, expected.double())
    assert found.maxsim.switches == pytest.approx(float(expected[:5, :5].mean()))
    # identities: a contribution is the token's own difference, in its places
    similar = factor * (x @ y.T)
    assert torch.allclose(found.token_map().values, similar)
    counted = found.token_map().counted
    assert float(counted.sum()) == pytest.approx(found.score)
    assert int((counted != 0).sum()) <= len((x, y)[query])
    chosen = torch.zeros(len(x), len(y))
    rows, columns = torch.arange(len(found.maxsim.assigned)), found.maxsim.assigned
    chosen[(rows, columns) if query == 0 else (columns, rows)] = 1
    differences = [value - start for value, start in zip((x, y), starts)]
    wanted = factor * chosen * (differences[0] @ differences[1].T)
    assert torch.allclose(found.interactions, wanted, atol=1e-9)
    # where the strongest partners differ, by the two tables
    asked = slice(None)
    mine = found.interactions if query == 0 else found.interactions.T
    theirs = similar if query == 0 else similar.T
    others = texts[1 - query].split()
    told = {d.word: (d.attribution, d.tokens) for d in found.token_differences()}
    for word, one, other in zip(texts[query].split(), mine[asked], theirs):
        partners = others[int(one.argmax())], others[int(other.argmax())]
        if word != "a":  # which is a stop word
            assert told.get(word, (partners[0],) * 2) == (
                partners if partners[0] != partners[1] else (partners[0],) * 2
            )


# ---- what can be asked -------------------------------------------------------


def test_phrases_lists_and_contrasts(model: Any) -> None:
    quick: dict[str, Any] = {"method": "jacobian_x_input"}
    both = model.explain([QUERY, QUERY], [DOCUMENT, OTHER], **quick)
    whole = model.explain(QUERY, DOCUMENT, **quick)
    assert torch.allclose(both[0].interactions, whole.interactions)
    part = model.explain(QUERY, DOCUMENT, phrase="big circle", side="first", **quick)
    expected = whole.phrase("big circle", side="first")
    assert torch.allclose(part.interactions[0, : part.second.count], expected)
    assert part.maxsim == whole.maxsim
    contrast = model.contrast(QUERY, OTHER, DOCUMENT, **quick)
    difference = both[1].score - both[0].score
    assert contrast.difference == pytest.approx(difference, abs=1e-9)
    assert sum(contrast.parts().values()) == pytest.approx(difference, abs=1e-6)
    assert "word by word" in contrast.summary()
    backwards = model.contrast(DOCUMENT, OTHER, QUERY, side="second", **quick)
    assert backwards.other.score == pytest.approx(whole.score, abs=1e-9)


def test_what_is_written_and_drawn(model: Any, found: Any, tmp_path: Path) -> None:
    assert PairExplanation.load(found.save(tmp_path)[0].parent) == found
    contrast = Contrast(found, found, "first")
    contrast.save(tmp_path)
    assert Contrast.load(tmp_path).preferred.maxsim == found.maxsim
    said = found.summary()
    assert "maxima fixed at the inputs" in said and "assigned to another token" in said
    # how far the fixed score goes stands beside it, on pages and of both candidates
    gaps = [f"{float(gap):+.3f}" for gap in found.maxsim.gaps.flatten()]
    assert all(gap in said for gap in gaps)
    for result, names in (
        (found, ["MaxSim"]),
        (contrast, ["MaxSim, preferred", "MaxSim, other"]),
    ):
        written = result.page(tmp_path / "page.html").read_text("utf-8")
        content = json.loads(written.split('id="data">')[1].split("</script>")[0])
        facts = dict(content["entries"][0]["facts"])
        assert [name for name in facts if name.startswith("MaxSim")] == names
        for name in names:
            assert all(gap.replace("-", "−") in facts[name] for gap in gaps)
            assert "% of the query's tokens are assigned to another" in facts[name]
    told = contrast.summary()
    assert "the preferred one: maxima fixed" in told and "the other one: maxima" in told
    for figure in (found.plot_tokens(), found.plot(), contrast.plot()):
        assert isinstance(figure, Figure)
    part = model.explain(QUERY, DOCUMENT, phrase="red square", side="second")
    assert isinstance(part.plot_tokens(), Figure)
    assert part.token_differences() is not None
    path = tmp_path / "explanation.json"
    content = json.loads(path.read_text("utf-8"))
    for name, wrong in (("query_side", "third"), ("fixed", [[1.0]]), ("own", None)):
        broken = {**content, "maxsim": {**content["maxsim"], name: wrong}}
        path.write_text(json.dumps(broken), "utf-8")
        with pytest.raises(InvalidArgumentError, match="damaged"):
            PairExplanation.load(tmp_path)


def test_other_methods_and_the_cost(model: Any) -> None:
    methods = ["integrated_gradients", "occlusion"]
    compared = model.compare(QUERY, OTHER, methods=methods)
    assert compared.methods == tuple(methods)
    assert all(each.maxsim is not None for each in compared.explanations)
    assert model.estimate(QUERY, OTHER).features[0] == 9


def test_what_is_refused(model: Any) -> None:
    for ask in (
        lambda: model.contributions([QUERY]),
        lambda: model.zero_shot(QUERY, ["a", "b"]),
        lambda: model.references(texts=[QUERY]),
        lambda: model.index([QUERY]),
    ):
        with pytest.raises(InvalidArgumentError, match="belongs to a pair"):
            ask()
    with pytest.raises(InvalidArgumentError, match="absent"):
        model.explain(QUERY, DOCUMENT, method="occlusion", absent="removed")
    with pytest.raises(InvalidArgumentError, match="as many as the first ones, 2"):
        model.explain([QUERY, OTHER], [DOCUMENT])
    with pytest.raises(InvalidArgumentError, match="at least one word"):
        model.explain("", DOCUMENT)
    with pytest.raises(InvalidArgumentError, match="late interaction"):
        model.first.embed(model.first.prepare(QUERY).inputs)


def test_only_late_interaction_has_output_tokens() -> None:
    plain = load("scenes").explain(
        torch.zeros(32, 32, 3).byte().numpy(), "a red circle", method="jacobian_x_input"
    )
    for ask in (plain.token_map, plain.token_differences, plain.plot_tokens):
        with pytest.raises(InvalidArgumentError, match="MaxSim"):
            ask()
    assert math.isfinite(plain.score) and plain.maxsim is None
