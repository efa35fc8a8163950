"""The command: what it writes, what it says, and how it fails."""

import json
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from captum_pairs import load
from captum_pairs.cli import main
from captum_pairs.explain.contrast import Contrast
from captum_pairs.explain.pair import PairExplanation
from captum_pairs.models.hugging_face import AutoConfig
from captum_pairs.scenes import checkpoint_path
from click.testing import CliRunner, Result
from PIL import Image

ROOT = Path(__file__).parents[2]
TEXT = "a photo of a red circle, not $5"


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (41, 63, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the demo sets it for its process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _explain(model: Path | str, image: Path, text: str, *more: object) -> Result:
    return _run("explain", "--model", model, "--image", image, "--text", text, *more)


def test_explain_writes_a_picture_and_the_numbers(
    tiny_clip: Path, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "folder"
    result = _explain(tiny_clip, photo, TEXT, "--layer", 0, "--out", out)
    assert result.exit_code == 0, result.output
    loaded = PairExplanation.load(out)
    direct = load(tiny_clip).explain(photo, TEXT, layer=0)
    assert torch.allclose(loaded.interactions, direct.interactions, atol=1e-6)
    for name in ("explanation.png", "explanation.json", "explanation.safetensors"):
        assert str(out / name) in result.output
    assert f"cosine similarity {loaded.score:+.3f}" in result.output
    assert "within the tolerance 0.01" in result.output
    assert "the image: input of block 0 of 2" in result.output
    assert "the text: input of block 0 of 2" in result.output
    pairs = loaded.top_pairs()
    assert len(pairs) == 3
    assert all(str(pair) in result.output for pair in pairs)
    content = json.loads((out / "explanation.json").read_text())
    assert "the" in content["stop_words"]
    assert content["parts"] == loaded.parts()
    assert len(content["top_pairs"]) == 3


def test_the_picture_shows_the_image_and_both_colours(
    tiny_clip: Path, photo: Path, tmp_path: Path
) -> None:
    assert _explain(tiny_clip, photo, TEXT, "--out", tmp_path).exit_code == 0
    with Image.open(tmp_path / "explanation.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000 and picture.height > 800
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    assert ((red > blue + 60) & (red > green + 20)).mean() > 0.01  # orange
    assert ((blue > green + 30) & (blue > red)).mean() > 0.01  # purple


def test_a_negative_layer_and_the_tolerance(
    tiny_clip: Path, photo: Path, tmp_path: Path
) -> None:
    more = ("--layer", -1, "--tolerance", 1e-4, "--out", tmp_path)
    result = _explain(tiny_clip, photo, "red", *more)
    assert result.exit_code == 0, result.output
    assert "the image: input of block 1 of 2" in result.output
    assert "the text: input of block 0 of 2" in result.output
    assert "within the tolerance 0.0001" in result.output
    more = ("--layer", "0,-1", "--out", tmp_path)
    result = _explain(tiny_clip, photo, "red", *more)
    assert "the image: input of block 0 of 2" in result.output
    assert "the text: input of block 1 of 2" in result.output


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_and_transparent_images_of_odd_sizes(
    tiny_clip: Path, tmp_path: Path, mode: str
) -> None:
    Image.effect_noise((17, 131), 60).convert(mode).save(tmp_path / "odd.png")
    result = _explain(tiny_clip, tmp_path / "odd.png", "red", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert PairExplanation.load(tmp_path).first.source.size == (17, 131)


def test_only_stop_words(tiny_clip: Path, photo: Path, tmp_path: Path) -> None:
    result = _explain(tiny_clip, photo, "this is a photo", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert PairExplanation.load(tmp_path).second.content == (0, 1, 2, 3)


@pytest.mark.parametrize(
    "model, words", [("./no/such", "no such directory"), ("a/b/c", "no such directory")]
)
def test_missing_model(photo: Path, model: str, words: str) -> None:
    result = _explain(model, photo, "red")
    assert result.exit_code == 3
    assert words in result.output and "Traceback" not in result.output


def test_model_that_the_hub_does_not_know(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str, **settings: object) -> None:
        raise OSError(f"{name} is not a local folder and not on the hub")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unknown)
    result = _explain("nobody/nothing", photo, "red")
    assert result.exit_code == 3
    assert "nobody/nothing" in result.output


def test_unreadable_image(tiny_clip: Path, tmp_path: Path) -> None:
    for content in (None, "not an image"):
        path = tmp_path / "a.png"
        if content is not None:
            path.write_text(content)
        result = _explain(tiny_clip, path, "red")
        assert result.exit_code == 4
        assert "image" in result.output and "a.png" in result.output


def test_only_a_phrase_or_a_box(tiny_clip: Path, photo: Path, tmp_path: Path) -> None:
    more = ("--phrase", "RED  circle", "--out", tmp_path)
    assert _explain(tiny_clip, photo, TEXT, *more).exit_code == 0
    assert PairExplanation.load(tmp_path).second.names == ("red circle",)
    more = ("--box", "0,0,30,41", "--out", tmp_path)
    assert _explain(tiny_clip, photo, TEXT, *more).exit_code == 0
    assert PairExplanation.load(tmp_path).first.names == ("region",)
    nearest = _explain(tiny_clip, photo, TEXT, "--phrase", "red circles")
    assert nearest.exit_code == 2 and "“red circle”" in nearest.output
    twice = _explain(tiny_clip, photo, "red or red", "--phrase", "red")
    assert twice.exit_code == 2 and "occurrence" in twice.output
    more = ("--phrase", "red", "--occurrence", 2, "--out", tmp_path)
    assert _explain(tiny_clip, photo, "red or red", *more).exit_code == 0
    assert PairExplanation.load(tmp_path).second.features[0].span == (7, 10)


def test_contrast_of_texts_and_of_images(
    tiny_clip: Path, photo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (30, 50), "red").save(other)
    start = ("contrast", "--model", tiny_clip, "--out", tmp_path, "--image", photo)
    texts = ("--text", "a red circle", "--text", "a blue circle")
    result = _run(*start, *texts)
    assert result.exit_code == 0, result.output
    assert "“red” instead of “blue”" in result.output
    found = Contrast.load(tmp_path)
    assert found.query_side == "first"
    assert found.candidates[0].source.text == "a red circle"
    for name in ("contrast.png", "contrast.json", "contrast_preferred.safetensors"):
        assert str(tmp_path / name) in result.output
        assert (tmp_path / name).stat().st_size > 0
    result = _run(*start, "--image", other, "--text", "red")
    assert result.exit_code == 0, result.output
    found = Contrast.load(tmp_path)
    assert found.query_side == "second"
    assert found.candidates[1].source.size == (30, 50)
    assert _run(*start, "--text", "red").exit_code == 2
    assert _run(*start, "--image", photo, "--image", photo).exit_code == 2


def test_another_method(tiny_clip: Path, photo: Path, tmp_path: Path) -> None:
    more = ("--method", "occlusion", "--out", tmp_path)
    result = _explain(tiny_clip, photo, TEXT, *more)
    assert result.exit_code == 0, result.output
    assert "what the method leaves out" in result.output
    assert PairExplanation.load(tmp_path).method == "occlusion"


def test_a_page_to_explore(tiny_clip: Path, photo: Path, tmp_path: Path) -> None:
    more = ("--page", "--out", tmp_path)
    result = _explain(tiny_clip, photo, TEXT, *more)
    assert result.exit_code == 0, result.output
    assert f"the page: {tmp_path / 'explanation.html'}" in result.output
    assert "<html" in (tmp_path / "explanation.html").read_text(encoding="utf-8")


def test_the_models_are_listed() -> None:
    result = _run("models")
    assert result.exit_code == 0
    for name in ("SigLIP", "open_clip:ViT-B-32", "torchvision:resnet50", "scenes"):
        assert name in result.output
    assert "installed" in result.output and "from_functions" in result.output


@pytest.mark.parametrize("text", ["", "  "])
def test_empty_text(tiny_clip: Path, photo: Path, text: str) -> None:
    result = _explain(tiny_clip, photo, text)
    assert result.exit_code == 5
    assert "empty" in result.output


def test_too_long_a_text(tiny_clip: Path, photo: Path) -> None:
    result = _explain(tiny_clip, photo, "red " * 40)
    assert result.exit_code == 5
    assert "at most 24 tokens" in result.output and "42 tokens" in result.output


def test_wrong_usage(tiny_clip: Path, photo: Path) -> None:
    assert _explain(tiny_clip, photo, "red", "--layer", 2).exit_code == 2
    for layer in ("one", "0,0,0"):
        assert _explain(tiny_clip, photo, "red", "--layer", layer).exit_code == 2
    assert _explain(tiny_clip, photo, "red", "--tolerance", 0).exit_code == 2
    for box in ("1,2,3", "a,b,c,d", "0,0,500,500"):
        assert _explain(tiny_clip, photo, "red", "--box", box).exit_code == 2
    assert _explain(tiny_clip, photo, "red", "--phrase", "blue").exit_code == 2
    assert _explain(tiny_clip, photo, "red", "--image", photo).exit_code == 2
    two = _run("explain", "--model", tiny_clip, "--text", "a", "--text", "b")
    assert two.exit_code == 2
    assert "compares an image with a text" in two.output
    assert _run("explain", "--text", "red").exit_code == 2
    assert _run("demo", "--seed", -1).exit_code == 2


def test_a_place_that_cannot_be_written(
    tiny_clip: Path, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = _explain(tiny_clip, photo, "red", "--out", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert "file" in result.output and "Traceback" not in result.output


@pytest.mark.skipif(
    not checkpoint_path().is_dir(), reason="the embedded checkpoint is not here"
)
@pytest.mark.slow
def test_demo_is_deterministic(tmp_path: Path, one_thread: None) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    outputs = []
    for out in runs:
        result = _run("demo", "--seed", 5, "--tolerance", 0.1, "--out", out)
        assert result.exit_code == 0, result.output
        outputs.append(result.stdout.replace(str(out), ""))
    assert outputs[0] == outputs[1]
    # of seed 0, whose numbers test_demo.py has
    assert "pink star" not in PairExplanation.load(runs[0], "demo").second.source.text
    pictures = ("demo.png", "demo_scene.png", "demo_wrong_word.png")
    for name in (*pictures, "demo.json", "demo.safetensors"):
        assert (runs[0] / name).stat().st_size > 0
        assert name in outputs[0]
    assert outputs[0].count("strongest patch is") == 3
    first, second = (PairExplanation.load(out, "demo") for out in runs[:2])
    assert torch.equal(first.interactions, second.interactions)
    # what demo drew, explain reads
    text = first.second.source.text
    more = ("--tolerance", 0.1, "--out", runs[0])
    result = _explain("scenes", runs[0] / "demo_scene.png", text, *more)
    assert result.exit_code == 0, result.output
    again = PairExplanation.load(runs[0])
    assert torch.equal(again.interactions, first.interactions)


def test_the_installed_command_is_this_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, name = project["scripts"]["captum-pairs"].split(":")
    assert getattr(import_module(module), name) is main
