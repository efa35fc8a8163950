"""COCO's photos through every study, with a CLIP that was never trained: what it finds
is what another image's phrase finds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import captum_pairs
import numpy as np
import pytest
import torch
from captum_pairs import grounding
from captum_pairs.grounding.studies.summaries import Resampling
from captum_pairs.model import DualEncoder
from tokenizers import models, normalizers, pre_tokenizers, processors, Tokenizer
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
)

COCO = Path(__file__).parents[3] / "shared" / "data" / "coco-free"
GIVEN: dict[str, Any] = {"data_options": {"images": str(COCO / "images")}}
QUICK: dict[str, Any] = {"layer": (-1, -1), "tolerance": 0.1, "processes": 1}

pytestmark = pytest.mark.skipif(
    not COCO.is_dir(), reason="without the free photos of COCO"
)


def _untrained(seed: int) -> DualEncoder:
    """A CLIP of 4 x 4 patches and a token for each word of the captions."""
    data = grounding.open_data(f"coco:{COCO}", images=str(COCO / "images"))
    split = pre_tokenizers.Whitespace()
    words = sorted(
        {
            word
            for row in data
            for word, _ in split.pre_tokenize_str(row.caption.lower())
        }
    )
    names = ["<start>", "<end>", "<pad>", "[UNK]", *words]
    known = {word: at for at, word in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(known, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = split
    tokenizer.post_processor = processors.TemplateProcessing(
        "<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<start>",
        eos_token="<end>",
        pad_token="<pad>",
        unk_token="[UNK]",
        model_max_length=64,
    )
    shared = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "projection_dim": 16,
        "initializer_range": 0.5,
    }
    torch.manual_seed(seed)
    config = CLIPConfig(
        text_config={
            **shared,
            "vocab_size": len(names),
            "max_position_embeddings": 64,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
        },
        vision_config={**shared, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        initializer_factor=3.0,
    )
    image_processor = CLIPImageProcessor(
        size={"height": 32, "width": 32}, do_center_crop=False
    )
    clip = CLIPModel(config).eval()
    return captum_pairs.load(clip, CLIPProcessor(image_processor, fast))


@pytest.fixture(scope="module")
def untrained() -> Iterator[DualEncoder]:
    yield _untrained(0)


@pytest.mark.parametrize("study", list(grounding.STUDIES))
def test_photos_through_every_study(
    study: str, untrained: DualEncoder, tmp_path: Path
) -> None:
    own = {"grounding": {"permuted": 1}, "faithfulness": {"n_steps": 4}}.get(study)
    results = grounding.run(
        study,
        f"coco:{COCO}",
        untrained,
        tmp_path,
        sample=2,
        parameters=own,
        **GIVEN,
        **QUICK,
    )
    counts = results.counts
    assert counts["planned"] == counts["done"] == 2
    if study == "negatives":  # COCO has none
        assert set(results.errors.values()) == {
            "nothing to study: negatives needs a row with negative"
        }
    else:
        assert counts["failed"] == 0 and counts["records"] >= 2
    assert all(table.column_names for table in results.tables().values())
    assert (
        results.row(0).group
        == grounding.open_data(f"coco:{COCO}", images=str(COCO / "images"))[0].group
    )


@pytest.mark.slow
def test_an_untrained_clip_is_at_the_null_of_shuffled_phrases(tmp_path: Path) -> None:
    differences: dict[str, list[Any]] = {"hit": [], "energy": []}
    groups: list[Any] = []
    recalls: list[float] = []
    for seed in range(5):
        model = _untrained(seed)
        results = grounding.run(
            "grounding",
            f"coco:{COCO}",
            model,
            tmp_path / f"{seed}",
            parameters={"permuted": 0, "seed": seed},
            **GIVEN,
            **QUICK,
        )
        assert not results.errors
        groups.append(results.column("group"))
        for measure in ("hit", "energy"):
            value = results.column(measure) - results.column(f"{measure}_other")
            differences[measure].append(value)
        found = grounding.run(
            "retrieval", f"coco:{COCO}", model, tmp_path / f"r{seed}", **GIVEN, **QUICK
        )
        recalls.append(found.tables()["recall"]["value"][1].as_py())
    resampling = Resampling(np.concatenate(groups))
    for measure in ("hit", "energy"):
        estimate = resampling.mean(np.concatenate(differences[measure]))
        (low,), (high,) = estimate.interval()
        assert low <= 0 <= high, measure
        assert estimate.rows[0] > 1000 and high - low < 0.1
    # five of 84 images, or about that
    assert 0.01 < np.mean(recalls) < 0.12
