"""The embedded model: what hub models are loaded by loads it."""

from pathlib import Path

import captum_pairs.scenes
import numpy as np
import pytest
import torch
from captum_pairs.scenes import checkpoint_path, render, sample_scene
from captum_pairs.scenes.model import (
    add_place_code,
    filler_ids,
    IMAGE_MEAN,
    IMAGE_STD,
    new_model,
    new_tokenizer,
    save_checkpoint,
    silent_ids,
)
from transformers import AutoModel, AutoProcessor, AutoTokenizer, CLIPModel


def test_public_names_exist_and_are_sorted() -> None:
    names = captum_pairs.scenes.__all__
    assert names == sorted(names)
    assert all(hasattr(captum_pairs.scenes, name) for name in names)


def test_saved_model_is_loaded_by_the_auto_classes(tmp_path: Path) -> None:
    model = new_model(5).train(False)
    save_checkpoint(model, tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, CLIPModel)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    processor = AutoProcessor.from_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    image = render(sample_scene(np.random.default_rng(0))).image
    inputs = processor(
        text=["a red circle, here", "Two Blue stars"],
        images=[image, image],
        return_tensors="pt",
        padding=True,
    )
    expected = (image / 255 - np.array(IMAGE_MEAN)) / np.array(IMAGE_STD)
    pixels = inputs["pixel_values"][0].permute(1, 2, 0).numpy()
    assert np.allclose(pixels, expected, atol=1e-5)
    assert inputs["attention_mask"].sum(1).tolist() == [7, 5]
    assert loaded(**inputs).logits_per_image.shape == (2, 2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    encoded = tokenizer("a red circle, here", return_offsets_mapping=True)
    assert encoded["offset_mapping"][1:5] == [(0, 1), (2, 5), (6, 12), (12, 13)]


def test_padding_does_not_change_an_embedding() -> None:
    model, tokenizer = new_model(5).train(False), new_tokenizer()
    texts = ["a red circle", "a photo of a red circle and a blue star in the picture"]
    both = tokenizer(texts, padding=True, return_tensors="pt")
    alone = tokenizer(texts[:1], return_tensors="pt")
    padded = model.text_model(**both).pooler_output[0]
    assert torch.allclose(padded, model.text_model(**alone).pooler_output[0], atol=1e-6)


def test_unknown_words_are_one_token() -> None:
    tokenizer = new_tokenizer()
    ids = tokenizer("a purple elephant")["input_ids"]
    assert ids[1:4] == [
        tokenizer.convert_tokens_to_ids("a"),
        tokenizer.convert_tokens_to_ids("purple"),
        tokenizer.unk_token_id,
    ]


def test_fillers_claim_nothing() -> None:
    tokenizer = new_tokenizer()
    words = set(tokenizer.convert_ids_to_tokens(filler_ids()))
    assert {"a", "photo", "of", "there", "is", "and", "here"} <= words
    claiming = "red star stars small two left right above over thing things ,"
    assert not words & set(claiming.split())


def test_silent_words_are_fillers_and_what_stands_for_a_name() -> None:
    words = set(new_tokenizer().convert_ids_to_tokens(silent_ids()))
    assert words > set(new_tokenizer().convert_ids_to_tokens(filler_ids()))
    assert {",", "thing", "things"} <= words
    assert not words & {"red", "star", "stars", "small", "two", "left", "above"}


def test_places_are_a_code_of_row_and_column() -> None:
    plain, model = new_model(0), new_model(0)
    add_place_code(model, 4.0, 0.0)

    def positions(of: CLIPModel) -> tuple[torch.Tensor, torch.Tensor]:
        vision, text = of.vision_model.embeddings, of.text_model.embeddings
        return vision.position_embedding.weight, text.position_embedding.weight

    (image, text), (was, said) = positions(model), positions(plain)
    assert torch.equal(text, said) and torch.equal(image[0], was[0])  # the class token
    code = (image - was)[1:].detach().reshape(8, 8, -1)
    assert code.norm(dim=-1).mean().item() == pytest.approx(4.0, rel=1e-4)
    # a row's part and a column's part: differences along one don't depend on the other
    assert torch.allclose(
        code[1:] - code[:-1], (code[1:] - code[:-1])[:, :1], atol=1e-5
    )
    # neighbours are alike, opposite edges are not
    assert (code[:, 0] * code[:, 1]).sum() > (code[:, 0] * code[:, 7]).sum()
    add_place_code(model, 0.0, 1.5)
    text = positions(model)[1]
    assert (text - said).norm(dim=1).mean().item() == pytest.approx(1.5, rel=1e-4)


def test_same_seed_same_weights() -> None:
    first, second = new_model(1).state_dict(), new_model(1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_unknown_checkpoint() -> None:
    with pytest.raises(ValueError, match="name"):
        checkpoint_path("best")
