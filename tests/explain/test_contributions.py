"""A corpus' contributions: kept, found again, and as good as computed anew."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum_pairs import Contributions, DualEncoder, load
from captum_pairs.attr import InvalidArgumentError
from PIL import Image

TEXTS = ["a red circle", "square", "red or not red"]


def _photo(seed: int, width: int = 20) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (20, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        _photo(number, 20 + 3 * number).save(path)
    return paths


def test_explained_from_store_as_from_the_model(
    model: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    # of contributions and of readings different steps are taken for a tolerance
    fine: Any = {"tolerance": 1e-4}
    kept: Any = {"dtype": "float32", **fine}
    images = model.contributions(files, directory=tmp_path / "i", **kept)
    texts = model.contributions(TEXTS, **kept)
    assert images.keys == list(map(str, files)) and texts.keys == TEXTS
    assert len(images) == 3 and not images.failed and images.error < 1e-6
    again = Contributions.load(tmp_path / "i")
    for store in (images, again):
        for found, path, text in zip(model.explain(store, texts), files, TEXTS):
            direct = model.explain(path, text, **fine)
            for name in ("interactions", "first_effects", "second_effects"):
                expected = getattr(direct, name)
                torch.testing.assert_close(
                    getattr(found, name), expected, atol=1e-5, rtol=0
                )
            assert found.score == pytest.approx(direct.score, abs=1e-6)
            assert found.constant == pytest.approx(direct.constant, abs=1e-6)
            assert found.first.features == direct.first.features
    # one stored, one not; and one for all
    one = model.explain(images[1], TEXTS[1])
    direct = model.explain(files[1], TEXTS[1], **fine)
    torch.testing.assert_close(one.interactions, direct.interactions, atol=1e-5, rtol=0)
    every = model.explain(images, TEXTS[0])
    assert [e.score for e in every] == pytest.approx(
        [model.explain(path, TEXTS[0]).score for path in files], abs=1e-6
    )
    every = model.explain(files[0], texts)
    assert [e.second.source.text for e in every] == TEXTS
    phrase = model.explain(images[0], texts[0], phrase="red circle")
    torch.testing.assert_close(
        phrase.maps()[0],
        model.explain(files[0], TEXTS[0], **fine).phrase("red circle"),
        atol=1e-5,
        rtol=0,
    )


def test_half_precision_says_its_error(
    model: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    exact = model.contributions(files, dtype="float32")
    half = model.contributions(files, directory=tmp_path / "h")
    errors = [
        float((h.values - e.values).norm() / e.values.norm())
        for h, e in zip(half, exact)
    ]
    assert 1e-6 < half.error < 1e-3
    assert half.error == pytest.approx(max(errors), rel=0.05)
    assert Contributions.load(tmp_path / "h").error == half.error


def test_large_values_do_not_overflow(model: DualEncoder) -> None:
    exact = model.contributions([_photo(0)], dtype="float32")[0]
    large = replace(exact, values=1e6 * exact.values)
    store = model.contributions([large])
    torch.testing.assert_close(store[0].values, large.values, rtol=1e-2, atol=1e2)
    assert 0 < store.error < 1e-3


def test_broken_files_are_left_out_and_listed(
    model: DualEncoder, files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_text("no image")
    missing = tmp_path / "missing.png"
    corpus = [files[0], tmp_path / "broken.png", files[1], missing]
    with pytest.warns(UserWarning, match="2 of 4 inputs .*\n.*broken.*\n.*missing"):
        store = model.contributions(corpus, directory=tmp_path / "s")
    assert store.keys == [str(files[0]), str(files[1])]
    assert set(store.failed) == {str(tmp_path / "broken.png"), str(missing)}
    assert "not an image" in store.failed[str(tmp_path / "broken.png")]
    assert Contributions.load(tmp_path / "s").failed == store.failed
    # once it is there, the next run takes it
    _photo(5).save(missing)
    with pytest.warns(UserWarning, match="1 of 4 inputs"):
        store = model.contributions(corpus, directory=tmp_path / "s")
    assert store.keys[-1] == str(missing) and len(store.failed) == 1
    with pytest.warns(UserWarning, match="2 of 3 inputs"):
        texts = model.contributions(["red", " ", "red " * 40], side="second")
    assert texts.keys == ["red"] and len(texts.failed) == 2


def test_a_run_that_was_stopped_goes_on(
    model: DualEncoder,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import captum_pairs.explain.corpus as module

    done = []
    compute = module.stored

    def stopping(*arguments):  # type: ignore[no-untyped-def]
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments[2].source.size)
        return compute(*arguments)

    monkeypatch.setattr(module, "stored", stopping)
    with pytest.raises(KeyboardInterrupt):
        model.contributions(files, directory=tmp_path / "s")
    assert Contributions.load(tmp_path / "s").keys == [str(p) for p in files[:2]]
    done.clear()
    store = model.contributions(files, directory=tmp_path / "s")
    assert done == [(26, 20)] and store.keys == [str(path) for path in files]
    assert store[2].input.source.size == (26, 20)


def test_several_files(
    model: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import captum_pairs.explain.contributions as module
    import captum_pairs.explain.store as parts

    monkeypatch.setattr(module, "_AT_A_TIME", 2)
    monkeypatch.setattr(parts, "_LARGEST", 2000)
    texts = [*TEXTS, "circle", "a"]
    model.contributions(texts, directory=tmp_path / "s", dtype="float32")
    store = Contributions.load(tmp_path / "s")
    assert len(list((tmp_path / "s").glob("*.data"))) > 1
    for key, contributions in zip(texts, store):
        assert contributions.input.source.text == key
    assert [one.input.source.text for one in store[1:3]] == texts[1:3]
    assert torch.equal(store.of("circle").values, store[3].values)
    other = model.contributions([_photo(0)], dtype="float32")[0]
    for one, table, readings in zip(store, store.pair(other), store.read(torch.eye(8))):
        torch.testing.assert_close(table, one.values @ other.values.T)
        torch.testing.assert_close(readings, one.values[: one.input.count].T)
        torch.testing.assert_close(one.read(torch.eye(8)[2]), readings[2])
    assert store.embeddings.shape == (5, 8)


def test_readings_are_maps(model: DualEncoder) -> None:
    store = model.contributions([_photo(0), _photo(1)], dtype="float32")
    probe = torch.arange(8.0)
    maps = store.read(probe)
    assert [found.shape for found in maps] == [(5, 5), (5, 5)]
    expected = store[1].values[:25] @ probe
    torch.testing.assert_close(maps[1].flatten(), expected)
    for wrong in (torch.zeros(7), torch.zeros(2, 7)):
        with pytest.raises(InvalidArgumentError, match="directions"):
            store.read(wrong)
        with pytest.raises(InvalidArgumentError, match="directions"):
            store[0].read(wrong)


def test_another_model_or_version_or_setting(
    model: DualEncoder, tiny_clip: Path, tmp_path: Path
) -> None:
    model.contributions(TEXTS, directory=tmp_path / "s")
    other = load("scenes")
    stored = Contributions.load(tmp_path / "s")[0]
    with pytest.raises(InvalidArgumentError, match="contributions of the model scenes"):
        other.explain(_photo(0), stored)
    with pytest.raises(InvalidArgumentError, match="directory: .*with model"):
        other.contributions(["a"], directory=tmp_path / "s")
    for options in ({"layer": (0, 1)}, {"tolerance": 0.1}, {"tokens": True}):
        with pytest.raises(InvalidArgumentError, match=f"with {next(iter(options))}"):
            model.contributions(TEXTS, directory=tmp_path / "s", **options)
    # the same weights are the same model, wherever they were loaded from
    same = load(tiny_clip)
    assert same.contributions(TEXTS, directory=tmp_path / "s").keys == TEXTS
    foreign = other.contributions(["red"])[0]
    with pytest.raises(InvalidArgumentError, match="those of"):
        same.contributions(TEXTS).pair(foreign)
    index = tmp_path / "s" / "index.json"
    content = json.loads(index.read_text())
    index.write_text(json.dumps({**content, "format": 0}))
    with pytest.raises(InvalidArgumentError, match="this version"):
        Contributions.load(tmp_path / "s")
    with pytest.raises(InvalidArgumentError, match="index.json"):
        Contributions.load(tmp_path)


def test_settings_that_are_called_as_options_are(
    model: DualEncoder, tmp_path: Path
) -> None:
    # the method's own "method" names a rule of quadrature, "tolerance" is one of both
    own: Any = {"settings": {"method": "riemann_middle", "tolerance": 1e-3}}
    model.contributions(TEXTS, directory=tmp_path / "s", **own)
    stored = Contributions.load(tmp_path / "s")[0]
    assert stored.settings["method"] == "integrated_gradients"
    found = model.explain(_photo(0), stored, **own)
    alone = model.explain(_photo(0), TEXTS[0], **own)
    torch.testing.assert_close(found.interactions, alone.interactions)
    with pytest.raises(InvalidArgumentError, match=r"settings\['method'\]: .*middle"):
        model.explain(_photo(0), stored)


def test_bad_input(model: DualEncoder, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="inputs: .*at least one"):
        model.contributions([])
    with pytest.raises(InvalidArgumentError, match="dtype"):
        model.contributions(TEXTS, dtype="int8")
    with pytest.raises(InvalidArgumentError, match="keys: expected 3 different names"):
        model.contributions(TEXTS, keys=["a", "a", "b"])
    # what is wrong with all of them is no broken file
    with pytest.raises(InvalidArgumentError, match="layer"):
        model.contributions(TEXTS, layer=(0, 9))
    with pytest.raises(InvalidArgumentError, match="key: expected"):
        model.contributions(TEXTS).of("no")
    store = model.contributions([_photo(0)], keys=["first"])
    assert store.keys == ["first"]


def test_what_is_stored_is_paired_with_what_it_was_found_with(
    model: DualEncoder, files: list[Path]
) -> None:
    """Banzhaf's vectors with Banzhaf's, whatever the default is; nothing else."""
    kept = model.contributions(files[:1], method="banzhaf", n_samples=64, layer=0)
    found = model.explain(kept[0], "red circle")
    assert found.method == "banzhaf" and "leaves out" in found.error_name
    alone = model.explain(
        files[0], "red circle", method="banzhaf", n_samples=64, layer=0
    )
    torch.testing.assert_close(
        found.interactions, alone.interactions, atol=2e-4, rtol=2e-3
    )
    asked = {"method": "occlusion", "n_samples": 32, "layer": 1, "tokens": True}
    for name, value in asked.items():
        options = {"method": "banzhaf", name: value}
        with pytest.raises(InvalidArgumentError, match=f"^{name}: expected ") as error:
            model.explain(kept[0], "red circle", **options)
        assert str(value) in str(error.value) or name in ("layer", "tokens")
    with pytest.raises(InvalidArgumentError, match="^method: expected 'banzhaf'"):
        model.contrast(kept[0], "red circle", "blue square", method="occlusion")
    with pytest.raises(InvalidArgumentError, match="^method: expected 'banzhaf'"):
        model.zero_shot(kept[0], ["red"], method="occlusion")


def test_what_is_seen_of_a_corpus(model: DualEncoder, files: list[Path]) -> None:
    with pytest.warns(UserWarning, match="could not be read"):
        found = model.contributions([*files[:2], "no <b>such</b>.png"], side="first")
    assert len(repr(found)) < 200 and "2 inputs" in repr(found)
    said = found.summary()
    assert "method: integrated_gradients" in said and "failed: no <b>such</b>" in said
    assert "<b>" not in found._repr_html_()
    frame = found.to_frame()
    assert set(frame["key"]) == set(found.keys)
    assert len(frame) == sum(len(each.values) for each in found)
    first = frame[frame["key"] == found.keys[0]]
    wanted = found[0].values.norm(dim=1)
    torch.testing.assert_close(torch.tensor(first["norm"].to_numpy()).float(), wanted)
