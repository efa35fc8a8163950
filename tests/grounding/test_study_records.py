"""What studies ask of a model: only the phrases asked for, and the truth by explain."""

from typing import Any

import pytest
import torch
from captum_pairs import from_functions
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.grounding.data.own import Given
from captum_pairs.grounding.data.row import Changed
from captum_pairs.grounding.maps import contributions_of, embedding_of, maps_of
from captum_pairs.grounding.studies import grounding as grounding_module, STUDIES
from captum_pairs.grounding.studies.failures import Failures
from captum_pairs.grounding.studies.faithfulness import Faithfulness
from captum_pairs.grounding.studies.gaps import Gaps
from captum_pairs.grounding.studies.grounding import Grounding, permuted
from captum_pairs.grounding.studies.negatives import Negatives
from captum_pairs.grounding.studies.retrieval import Retrieval
from captum_pairs.grounding.study import schema_of, studied, Study
from captum_pairs.metrics import pointing_game_accuracy, pointing_game_energy
from captum_pairs.model import DualEncoder
from grounding_rows import CAPTION, row_of

NEGATIVE = "red circle, cir"
# At the last blocks, and roughly.
QUICK = {"layer": [-1, -1], "tolerance": 0.3}
# Studies read an image along a few vectors, and explain along all: to a tolerance each.
PRECISE: dict[str, Any] = {"tolerance": 1e-6}


@pytest.mark.parametrize("name", STUDIES)
def test_records_have_the_columns_and_are_the_same_again(
    name: str, model: DualEncoder
) -> None:
    study = STUDIES[name](options=QUICK)
    row = row_of(negative=NEGATIVE, changed=("object", (12, 18), (12, 15)))
    records = studied(study, row, model, 3)
    assert {record["error"] for record in records} == {None}
    assert {record["place"] for record in records} == {3}
    names = set(schema_of(study.columns).names)
    assert all(set(record) <= names for record in records)
    assert records == studied(study, row, model, 3)


@pytest.mark.parametrize("name", STUDIES)
def test_a_row_that_cannot_be_studied_says_why(name: str, model: DualEncoder) -> None:
    study: Study = STUDIES[name]()
    row = row_of(
        negative=NEGATIVE, changed=("object", (12, 18), (12, 15)), image="no/such.png"
    )
    (record,) = studied(study, row, model)
    assert "no/such.png" in record["error"] and record["id"] == row.id
    if study.needs:
        (record,) = studied(study, row_of(spans=()), model)
        assert record["error"].startswith("nothing to study")


def test_grounding_is_the_pointing_game_of_the_phrase(model: DualEncoder) -> None:
    row = row_of(2)
    records = Grounding(PRECISE, permuted=0).records(row, model)
    for record, span in zip(records, row.spans):
        found = model.explain(row.image, CAPTION, **PRECISE).phrase(record["phrase"])
        given = {"boxes": torch.tensor(span.regions), "image_size": (20, 20)}
        hit = float(pointing_game_accuracy(found[None], **given))
        energy = float(pointing_game_energy(found[None], **given))
        assert record["hit"] == hit
        assert record["energy"] == pytest.approx(energy, abs=1e-5)
    first, second = records
    assert (first["phrase"], first["word"]) == ("red circle", "circle")
    assert second["word"] is None and "word_hit" not in second
    assert first["area"] == pytest.approx(64 / 400) and first["cells"] == 4
    assert (first["x"], first["y"]) == (0.2, 0.2)
    assert "other" not in first and "hit_permuted" not in first


def test_the_null_is_a_phrase_of_another_image(model: DualEncoder) -> None:
    rows = [
        row_of(0),
        row_of(1, caption="red cir", spans=((0, 7, "cir", ((0, 0, 9, 9),)),)),
    ]
    data = Given(rows)
    study = Grounding(PRECISE, permuted=2, seed=1).prepared(data, [0, 1])
    assert ("red cir", 0, 7, "cir") in study.pool and study.permuted_share == 1
    first = study.records(rows[0], model)[0]
    assert first["other"] == "red cir"
    # its map on this image, measured on this object
    of_other = model.explain(rows[0].image, "red cir", **PRECISE).phrase("red cir")
    given = {"boxes": torch.tensor(rows[0].spans[0].regions), "image_size": (20, 20)}
    energy = float(pointing_game_energy(of_other[None], **given))
    assert first["energy_other"] == pytest.approx(energy, abs=1e-5)
    # and the phrase's by the model with permuted parameters
    random = permuted(model, 1)
    found = random.explain(rows[0].image, CAPTION, **PRECISE).phrase("red circle")
    energy = float(pointing_game_energy(found[None], **given))
    assert first["energy_permuted"] == pytest.approx(energy, abs=1e-5)


def test_permuted_parameters_are_the_same_numbers(model: DualEncoder) -> None:
    before = model.fingerprint
    other = permuted(model, 0)
    assert model.fingerprint == before != other.fingerprint
    for one, two in zip(
        model.first.module.parameters(), other.first.module.parameters()
    ):
        assert torch.equal(one.flatten().sort()[0], two.flatten().sort()[0])


def test_only_the_phrases_that_are_asked_for_are_read(
    model: DualEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(*arguments, **keywords):  # type: ignore[no-untyped-def]
        asked.append(len(arguments[3]))
        return maps_of(*arguments, **keywords)

    monkeypatch.setattr("captum_pairs.grounding.studies.gaps.maps_of", counted)
    Gaps().records(row_of(), model)
    assert asked == [3]  # two phrases and a class word, of four words and a comma
    assert grounding_module.maps_of is maps_of


def test_the_class_word_alone(model: DualEncoder) -> None:
    row = row_of(4)
    first, second = Gaps(PRECISE).records(row, model)
    word = model.explain(row.image, CAPTION, **PRECISE).phrase("circle")
    given = {"boxes": torch.tensor(row.spans[0].regions), "image_size": (20, 20)}
    energy = float(pointing_game_energy(word[None], **given))
    assert first["word_energy"] == pytest.approx(energy, abs=1e-5)
    assert second["word_energy"] == second["phrase_energy"]


def test_negatives_by_explain(model: DualEncoder) -> None:
    row = row_of(5, negative=NEGATIVE, changed=Changed("object", (12, 18), (12, 15)))
    (record,) = Negatives(PRECISE).records(row, model)
    true = model.explain(row.image, CAPTION, **PRECISE)
    false = model.explain(row.image, NEGATIVE, **PRECISE)
    assert record["score"] == pytest.approx(true.score, abs=1e-5)
    assert record["score_negative"] == pytest.approx(false.score, abs=1e-5)
    assert record["score_lower"] == float(false.score < true.score)
    totals = false.interactions.sum(0)
    names = list(false.second.names)
    wrong = float(totals[names.index("cir")])
    assert record["wrong_total"] == pytest.approx(wrong, abs=1e-5)
    right = float(true.interactions.sum(0)[true.second.names.index("square")])
    assert record["right_total"] == pytest.approx(right, abs=1e-5)
    others = [float(totals[names.index(name)]) for name in ("red", "circle", "cir")]
    assert record["lowest"] == float(wrong == min(others)) and record["words"] == 3
    assert record["wrong_below_right"] == float(wrong < right)
    assert record["label"] == "square" and record["chance"] == pytest.approx(12 / 25)


def test_faithfulness_of_two_words_by_hand(model: DualEncoder) -> None:
    row = row_of(6, caption="red circle", spans=())
    records = Faithfulness(methods=("occlusion",), n_steps=4).records(row, model)
    assert [(r["method"], r["order"]) for r in records] == [
        ("occlusion", "pairs"),
        ("occlusion", "first order"),
        ("random", "random"),
    ]
    whole = model.explain(row.image, row.caption, tolerance=1e-5)
    assert whole.first_effects is not None
    without_text = whole.constant + float(whole.first_effects.sum())
    # what the score loses without each of the two words
    kept = contributions_of(model, row.caption, {"method": "occlusion"})
    embedding = embedding_of(model, 0, row.image).float()
    worth = (kept.values @ embedding)[:2].tolist()
    score, first = whole.score, records[1]
    inserted = (without_text + 2 * (score - min(worth)) + score) / 4
    deleted = (score + 2 * (score - max(worth)) + without_text) / 4
    assert first["text_insertion"] == pytest.approx(inserted, abs=1e-4)
    assert first["text_deletion"] == pytest.approx(deleted, abs=1e-4)


def test_what_else_lights(model: DualEncoder) -> None:
    row = row_of(7)
    first, second = Failures(PRECISE).records(row, model)
    assert first["other_labels"] == ["square"] and second["other_labels"] == ["circle"]
    found = model.explain(row.image, CAPTION, **PRECISE).phrase("red circle")
    given = {"boxes": torch.tensor(row.objects[1].regions), "image_size": (20, 20)}
    energy = float(pointing_game_energy(found[None], **given))
    # the square's box is made of whole cells
    assert first["other_energy"][0] == pytest.approx(energy, abs=1e-5)
    assert first["other_chance"] == pytest.approx([12 / 25])
    assert len(first["image_embedding"]) == 8 and second["image_embedding"] is None
    assert first["at_edge"] and first["overlapped"] == 0
    (alone,) = Retrieval().records(row, model)
    assert first["image_embedding"] == alone["image_embedding"]


def test_what_covers_an_object(model: DualEncoder) -> None:
    boxes = {"circle": (0, 0, 8, 8), "over": (4, 0, 12, 8), "around": (0, 0, 20, 20)}
    objects = tuple((label, (box,)) for label, box in boxes.items())
    first, _ = Failures().records(row_of(8, objects=objects), model)
    assert first["overlapped"] == 0.5  # by what is not around it as a whole


def test_a_caption_that_is_too_long_says_so(model: DualEncoder) -> None:
    row = row_of(caption="red circle, " * 20)
    (record,) = studied(STUDIES["gaps"](), row, model)
    assert record["error"].startswith("InvalidArgumentError: caption: expected a text")
    assert "at most 24 tokens" in record["error"]


def test_a_model_without_images_is_refused() -> None:
    other = from_functions(torch.nn.Linear(4, 2), torch.nn.Linear(4, 2))
    with pytest.raises(InvalidArgumentError, match="model: expected one of images"):
        Gaps().records(row_of(), other)
