"""Late interaction, loaded from disk: the score is the model's own MaxSim."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import LateInteraction, load
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.models import ModelUnavailableError, TextLengthError
from captum_pairs.testing import check_encoder
from matplotlib.figure import Figure
from PIL import Image

for name in (
    "sentence_transformers.multi_vector_encoder",
    "transformers.models.colmodernvbert",
):
    pytest.importorskip(name, reason=f"there is no {name}")
from sentence_transformers import MultiVectorEncoder  # noqa: E402  # needs it
from tiny_late_interaction import (  # noqa: E402  # needs both
    PROMPTS,
    save_multi_vector,
    save_page_retriever,
)

QUERY, DOCUMENT = "what is a big circle", "the small red square, left of the big circle"
PAGES = ("colpali", "colqwen2", "colmodernvbert")
# One backward pass of each side is enough for a score.
QUICK: dict[str, Any] = {"method": "jacobian_x_input"}
EXPANSION = {"strategy": "fixed", "length": 12}


def own_score(directory: Path) -> float:
    """What sentence-transformers makes of a query and a document."""
    model = MultiVectorEncoder(str(directory), device="cpu")
    found = model.similarity(model.encode_query(QUERY), model.encode_document(DOCUMENT))
    return float(found)


def a_page(size: tuple[int, int] = (48, 32)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3))
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def page_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("pages")
    return {kind: load(save_page_retriever(directory / kind, kind)) for kind in PAGES}


@pytest.mark.parametrize(
    "settings",
    [
        {"skipped": (",",), "query_expansion": {**EXPANSION, "attend": False}},
        {
            "prompts": PROMPTS,
            "similarity": "meanmaxsim",
            "query_expansion": {**EXPANSION, "attend": True},
        },
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (
                {},
                {"prompts": PROMPTS, "skipped": ("of", ",", "the")},
                {"query_expansion": {**EXPANSION, "attend": True}},
                {"query_expansion": {"strategy": "min", "length": 4, "attend": True}},
                {"similarity": "meanmaxsim"},
            )
        ),
    ],
    ids="skipped attended plain prompts expanded longer mean".split(),
)
def test_the_score_is_the_models_own(tmp_path: Path, settings: dict[str, Any]) -> None:
    directory = save_multi_vector(tmp_path, **settings)
    model = load(directory)
    assert isinstance(model, LateInteraction) and "maxsim" in repr(model)
    found = model.explain(QUERY, DOCUMENT, **QUICK)
    own = own_score(directory)
    assert found.score == pytest.approx(own, abs=1e-5)
    assert found.logit == pytest.approx(own, abs=1e-5)
    assert found.maxsim is not None
    assert float(found.maxsim.own[0, 0]) == pytest.approx(own, abs=1e-5)
    assert [f.name for f in found.first.features][:5] == QUERY.split()
    special = {f.name for f in found.first.features if f.special}
    expected = {"[CLS]", "[SEP]"}
    expected |= {"prompt"} if "prompts" in settings else set()
    fixed = settings.get("query_expansion", {}).get("strategy") == "fixed"
    assert special == expected | ({"query expansion"} if fixed else set())
    values = found.token_map().values
    words = [feature.name for feature in found.token_map().second.features]
    is_skipped = [word in settings.get("skipped", ()) for word in words]
    assert values[0].isnan().tolist() == is_skipped
    in_memory = load(MultiVectorEncoder(str(directory), device="cpu").train())
    parameters = list(in_memory.first.module.parameters())
    assert in_memory.first.module.training and parameters[0].requires_grad


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="token pooling"):
        load(save_multi_vector(tmp_path / "pooled", pooled=True))
    directory = save_multi_vector(tmp_path, document_length=6)
    with pytest.raises(ModelUnavailableError, match="multi-vector: before it"):
        load(f"sentence-transformers:{directory}")
    model = load(f"multi-vector:{directory}")
    with pytest.raises(TextLengthError, match="at most 6 tokens"):
        model.explain(QUERY, DOCUMENT)
    text = model.first.prepare(QUERY)
    with pytest.raises(InvalidArgumentError, match="late interaction"):
        model.first.embed(text.inputs, *text.arguments)
    with pytest.raises(InvalidArgumentError, match="processor"):
        load(model.first.module, processor=object())


@pytest.mark.parametrize("kind", PAGES)
def test_a_pages_score_is_the_models_own(
    page_models: dict[str, Any], kind: str
) -> None:
    model, page = page_models[kind], a_page()
    own, processor = model.first.module, model.first.processor
    with torch.no_grad():
        passage = own(**processor.process_images(images=[page])).embeddings
        query = own(**processor.process_queries(text=[QUERY])).embeddings
    expected = float(processor.score_retrieval(query, passage))
    found = model.explain(page, QUERY, **QUICK)
    assert found.score == pytest.approx(expected, abs=1e-5)
    assert [f.name for f in found.second.features][:5] == QUERY.split()
    assert found.maxsim.query_side == "second"
    assert found.maxsim.similarities.shape == (query.shape[1], passage.shape[1])
    assert "query augmentation" in found.second.names
    part = model.explain(page, QUERY, region=(0, 0, 24, 16), **QUICK)
    assert part.interactions.shape == (1, len(found.second.features))
    if kind == "colqwen2":  # a picture is drawn in the same way for all
        for each in (found, part):
            assert isinstance(each.plot_tokens(), Figure)
    adopted = load(own, processor).explain(page, QUERY, **QUICK)
    assert torch.allclose(adopted.interactions, found.interactions)


@pytest.mark.parametrize("kind", PAGES)
def test_cells_are_where_the_pixels_are(page_models: dict[str, Any], kind: str) -> None:
    encoder, page = page_models[kind].first, a_page()
    prepared = encoder.prepare(page)
    layout = prepared.layout(prepared.inputs.shape, True, False)
    rows, columns = layout.grid
    assert rows * columns == sum(not f.special for f in layout.features)
    for cell in (1, rows * columns - 1, columns):
        left, top, right, bottom = map(round, layout.features[cell].box)
        changed = page.copy()
        # one pixel in the middle of the cell, far from its neighbours' filters
        middle = (left + right) // 2, (top + bottom) // 2
        changed.paste((255, 0, 255), (*middle, middle[0] + 1, middle[1] + 1))
        moved = (encoder.prepare(changed).inputs - prepared.inputs).abs()
        shares = torch.zeros(len(layout.features) + 1)
        mask = layout.mask.expand(moved.shape)
        shares.index_add_(0, mask.flatten(), moved.flatten())
        assert int(shares[: rows * columns].argmax()) == cell


def test_tiles_of_a_page_are_one_grid(page_models: dict[str, Any]) -> None:
    prepared = page_models["colmodernvbert"].first.prepare(a_page((64, 64)))
    assert prepared.grid == (4, 4)
    cells = [cell for cell in prepared.cells.tolist() if cell >= 0]
    tiles = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert cells == [*sum(tiles, []), *[16] * 4]
    layout = prepared.layout((1, len(prepared.cells), 3), False, False)
    assert layout.features[5].box == (16, 16, 32, 32)
    assert [f.name for f in layout.features[16:]] == ["whole page", "prompt"]


@pytest.mark.slow
def test_the_contract(page_models: dict[str, Any], tmp_path: Path) -> None:
    expansion = {**EXPANSION, "attend": False}
    texts = load(save_multi_vector(tmp_path, (",",), query_expansion=expansion))
    check_encoder(texts.choosing(), ([QUERY], [DOCUMENT, "red : circles"]))
    for model in page_models.values():
        # transformers hooks a model when it runs for the first time
        model.explain(a_page(), QUERY, **QUICK)
        check_encoder(model.choosing(), ([a_page(), a_page((60, 40))], [QUERY]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", PAGES)
def test_parts_of_a_pages_score_sum_at_every_layer(
    page_models: dict[str, Any], kind: str
) -> None:
    model, page = page_models[kind], a_page()
    for layer in ["input", *range(len(model.first.blocks))]:
        found = model.explain(page, QUERY, layer=(layer, 1), tolerance=1e-4)
        assert found.convergence_delta == pytest.approx(0, abs=1e-4)
        specific = found.maxsim.specific
        assert float(found.interactions.sum()) == pytest.approx(specific, abs=1e-4)
