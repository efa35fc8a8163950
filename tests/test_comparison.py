"""Several methods on one pair: their explanations, measures, picture and files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import Comparison, DualEncoder, load, PairExplanation
from captum_pairs.attr import InvalidArgumentError
from captum_pairs.cli import main
from captum_pairs.explain import counting
from captum_pairs.explain.methods import method_names
from captum_pairs.metrics import faithfulness, rank_agreement
from click.testing import CliRunner
from matplotlib.text import Text
from PIL import Image

TEXT = "a red circle on a square"
FEW = ["integrated_gradients", "occlusion"]


def _photo() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


@pytest.fixture(scope="module")
def found(model: DualEncoder) -> Comparison:
    return model.compare(_photo(), TEXT)


def test_every_method_is_as_alone(model: DualEncoder, found: Comparison) -> None:
    assert found.methods == method_names()
    for method in method_names():
        alone = model.explain(_photo(), TEXT, method=method)
        torch.testing.assert_close(found[method].interactions, alone.interactions)
    with pytest.raises(InvalidArgumentError, match="method: expected one of"):
        found["magic"]


def test_measures_are_those_of_metrics(model: DualEncoder, found: Comparison) -> None:
    sides = model.first, model.second
    prepared = [side.prepare(raw) for side, raw in zip(sides, (_photo(), TEXT))]
    shapes = (1, 26, 16), (1, prepared[1].inputs.shape[1], 16)
    layouts = [p.layout(s, False, False) for p, s in zip(prepared, shapes)]
    parts = found["banzhaf"]
    special = [
        [i for i, feature in enumerate(layout.features) if feature.special]
        for layout in layouts
    ]
    expected = faithfulness(
        tuple(side.embed for side in sides),
        tuple(each.inputs for each in prepared),
        parts.interactions[None],
        tuple(each.baseline for each in prepared),
        tuple(layout.mask for layout in layouts),
        tuple(each.arguments for each in prepared),
        (parts.first_effects[None], parts.second_effects[None]),
        generator=torch.Generator().manual_seed(0),
        always=special,
        layer=(sides[0].blocks[0], sides[1].blocks[0]),
        attribute_to_layer_input=True,
    )
    compared = found.compared[method_names().index("banzhaf")]
    assert compared.faithfulness == pytest.approx(float(expected.with_effects))
    assert compared.faithfulness_of_pairs == pytest.approx(float(expected.centered))
    assert compared.faithfulness_alone == pytest.approx(float(expected.interactions))
    # the nearest linear models of both embeddings predict best
    best = max(each.faithfulness or 0.0 for each in found.compared)
    assert compared.faithfulness > 0.9 * best
    tables = [found[method].interactions[None] for method in method_names()]
    agreement = rank_agreement(tables[0], tables[2])
    assert float(found.agreement[0, 2]) == pytest.approx(float(agreement), abs=1e-6)
    ones = torch.ones(len(method_names()))
    torch.testing.assert_close(found.agreement.diagonal(), ones)


def test_passes_are_counted(found: Comparison) -> None:
    by_name = dict(zip(found.methods, found.compared))
    # both ends, each feature away, and what is looked at before
    words = len(found["occlusion"].second.features)
    assert 26 + words <= by_name["occlusion"].forwards <= 26 + words + 30
    gradients = by_name["integrated_gradients"]
    steps = gradients.explanation.first.n_steps
    assert gradients.backwards >= steps * (words + 1)
    assert all(each.seconds > 0 for each in found.compared)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_a_bar_counts_whatever_the_method_does(
    model: DualEncoder, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    shown = []

    class Bar(counting.tqdm):  # type: ignore[misc]  # it ships no types
        def close(self) -> None:
            shown.append(self.n)
            super().close()

    monkeypatch.setattr(counting, "tqdm", Bar)
    # the first one looks for what those after it know
    for _ in range(2):
        model.explain(_photo(), TEXT, method=method, progress=True)
    passes = shown[1]
    compared = model.compare(_photo(), TEXT, methods=[method]).compared[0]
    assert passes == compared.forwards + compared.backwards > 0


def test_nothing_but_the_subsets_is_shared(model: DualEncoder) -> None:
    few = model.compare(_photo(), TEXT, methods=FEW, layer=(1, 0))
    assert few.methods == tuple(FEW)
    assert few["occlusion"].first.layer == "input of block 1 of 2"
    removed = model.compare(_photo(), TEXT, absent="removed", n_samples=300)
    assert removed.methods == ("occlusion", "banzhaf", "shapley", "lime")
    assert removed["occlusion"].first.baseline == "nothing of it"


def test_words(found: Comparison) -> None:
    lines = found.summary().splitlines()
    assert lines[0].startswith("Most faithful here is ")
    assert lines[2] == "at the input of block 0 of 2 and the input of block 0 of 2"
    for method in method_names():
        assert sum(line.strip().startswith(method) for line in lines) == 3
    frame = found.to_frame()
    assert list(frame.index) == list(method_names())
    assert frame.loc["occlusion", "forwards"] == found.compared[2].forwards


def test_files(found: Comparison, tmp_path: Path) -> None:
    paths = found.save(tmp_path, "c")
    assert all(path.is_file() for path in paths)
    content = json.loads(paths[0].read_text())
    assert [row["method"] for row in content["methods"]] == list(method_names())
    again = PairExplanation.load(tmp_path, "c_occlusion")
    assert torch.equal(again.interactions, found["occlusion"].interactions)
    page = found.page(tmp_path / "c.html").read_text()
    assert all(method.replace("_", " ") in page for method in method_names())


def test_an_object_among_others(found: Comparison, tmp_path: Path) -> None:
    paths = found.save(tmp_path)
    loaded = Comparison.load(tmp_path)
    assert loaded == found and hash(loaded) == hash(found)
    assert loaded.summary() == found.summary()
    said = repr(found)
    assert len(said) < 700 and "image of 20 x 20 px and “a red circle" in said
    assert all(f"{method} faithful" in said for method in found.methods)
    assert len({path.stat().st_mode for path in paths}) == 1
    inside = found._repr_html_()
    assert inside.startswith("<iframe") and "Token similarity: " in inside
    content = json.loads(paths[0].read_text())
    content["agreement"] = [[1.0]]
    paths[0].write_text(json.dumps(content))
    with pytest.raises(
        InvalidArgumentError, match="directory: expected files as they were saved"
    ):
        Comparison.load(tmp_path)


def test_a_method_that_cannot_run_is_a_row_that_says_why(
    model: DualEncoder, found: Comparison, tmp_path: Path
) -> None:
    few = model.compare(
        _photo(), TEXT, methods=["lime", "occlusion", "shapley"], n_samples=20
    )
    assert few.methods == ("occlusion",) and list(few.failed) == ["lime", "shapley"]
    assert few.failed["lime"].startswith("n_samples: expected at least 27")
    assert f"could not run: {few.failed['lime']}" in few.summary()
    assert "lime could not run" in repr(few)
    with pytest.raises(InvalidArgumentError, match="one that could run.*n_samples"):
        few["lime"]
    frame = few.to_frame()
    assert frame.loc["shapley", "error"] == few.failed["shapley"]
    assert few.plot() is not None
    few.save(tmp_path)
    assert Comparison.load(tmp_path) == few
    with pytest.raises(InvalidArgumentError, match="methods: .*lime: n_samples"):
        model.compare(_photo(), TEXT, methods=["lime", "banzhaf"], n_samples=20)


def test_what_is_wrong_with_an_input_is_wrong_for_every_method(
    model: DualEncoder,
) -> None:
    for wrong in ([_photo(), _photo()], (_photo(),)):
        with pytest.raises(InvalidArgumentError, match="^first: expected one input"):
            model.compare(wrong, TEXT, methods=FEW)
    with pytest.raises(InvalidArgumentError, match="^second: expected one input"):
        model.compare(_photo(), model.contributions([TEXT]), methods=FEW)
    with pytest.raises(InvalidArgumentError, match="^text: "):
        model.compare(_photo(), "red " * 40, methods=FEW)


def test_settings_of_one_of_the_methods(model: DualEncoder) -> None:
    names = ["lime", "occlusion"]
    own = {"kernel_width": 0.7}
    found = model.compare(_photo(), TEXT, methods=names, settings=own)
    alone = model.explain(_photo(), TEXT, method="lime", settings=own)
    torch.testing.assert_close(found["lime"].interactions, alone.interactions)
    with pytest.raises(InvalidArgumentError, match="settings.'magic'.: expected one"):
        model.compare(_photo(), TEXT, methods=names, settings={"magic": 1})
    wrong: Any = 3
    with pytest.raises(InvalidArgumentError, match="settings: expected names and"):
        model.compare(_photo(), TEXT, methods=names, settings=wrong)


def _rows(figure: Any) -> list[Any]:
    """Those with a label on the left: a method's, or the image's."""
    return [part for part in figure.subfigs if part.subfigs]


def _panels(comparison: Comparison, **options: int) -> tuple[int, list[str]]:
    figure = comparison.plot(**options)
    rows = _rows(figure)
    labels = [
        part.get_text() for row in rows for sub in row.subfigs for part in sub.texts
    ]
    return len(rows), labels


def test_small_multiples(found: Comparison) -> None:
    rows, labels = _panels(found, number=3)
    assert rows == len(method_names())
    assert [text for text in labels if text == "token similarity"]
    first = _rows(found.plot(number=3))[0]
    *maps, bar = first.subfigs[1].axes
    titles = [axes.get_title() for axes in maps]
    assert not bar.get_title() and bar.get_ylim()[0] < 0 < bar.get_ylim()[1]
    assert len(titles) == 3 and set(titles) < set(found["banzhaf"].second.names)


def test_methods_that_could_not_run_are_named(found: Comparison) -> None:
    lacking = replace(found, failed={"lime": "too few samples"})
    figures = found.plot(), lacking.plot()
    words = [
        " ".join(text.get_text() for text in figure.findobj(Text)) for figure in figures
    ]
    assert "Could not run" not in words[0]
    assert "Could not run: lime" in words[1]


def test_two_images_and_two_texts(model: DualEncoder) -> None:
    images = DualEncoder("images", model.first, model.first)
    rows, labels = _panels(images.compare(_photo(), _photo(), methods=FEW))
    assert rows == 3 and "the first image" in labels
    texts = DualEncoder("texts", model.second, model.second)
    compared = texts.compare(TEXT, "a square", methods=FEW)
    assert _panels(compared)[0] == 2
    compared.plot().savefig("/dev/null", format="png")


def test_errors(model: DualEncoder) -> None:
    for methods in ([], ["magic"], ["occlusion", "occlusion"], "occlusion"):
        with pytest.raises(InvalidArgumentError, match="^methods?: expected"):
            model.compare(_photo(), TEXT, methods=methods)
    module = model.second.blocks[0]
    with pytest.raises(InvalidArgumentError, match="^layer: expected the inputs of"):
        model.compare(_photo(), TEXT, methods=FEW, layer=(0, module))


def test_the_command(tiny_clip: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    _photo().save(photo)
    arguments = ["compare", "--model", tiny_clip, "--image", photo, "--text", TEXT]
    arguments += [
        "--methods",
        "occlusion, token_similarity",
        "--out",
        tmp_path,
        "--page",
    ]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "token_similarity" in result.output and "faithful" in result.output
    for name in ("comparison.png", "comparison.json", "comparison.html"):
        assert (tmp_path / name).is_file()
    wrong = [*arguments[:7], "--methods", "magic"]
    result = CliRunner().invoke(main, [str(argument) for argument in wrong])
    assert result.exit_code == 2 and "method" in result.output


def test_shapleys_vectors_are_no_embeddings(model: DualEncoder) -> None:
    with pytest.raises(InvalidArgumentError, match="method: .* for a classification"):
        model.zero_shot(_photo(), ["red"], method="shapley")
    with pytest.raises(InvalidArgumentError, match="method: .* for contributions"):
        model.contributions([_photo()], method="shapley")
