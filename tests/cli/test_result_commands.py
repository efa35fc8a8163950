"""Commands for classes and for many inputs, and how every command ends."""

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from captum_pairs import Comparison, Contributions, load, PairExplanation, ZeroShot
from captum_pairs.cli import main
from captum_pairs.cli.messages import announced, in_one_line
from click.testing import CliRunner, Result
from PIL import Image

ROOT = Path(__file__).parents[2]


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return path


# ---- classes -----------------------------------------------------------------


def test_zero_shot(tiny_clip: Path, photo: Path, tmp_path: Path) -> None:
    start = ("zero-shot", "--model", tiny_clip, "--image", photo, "--out", tmp_path)
    classes = ("--class", "red", "--class", "circle", "--template", "a {}")
    result = _run(*start, *classes, "--page")
    assert result.exit_code == 0, result.output
    direct = load(tiny_clip).zero_shot(photo, ["red", "circle"], template="a {}")
    found = ZeroShot.load(tmp_path)
    torch.testing.assert_close(found.attributions, direct.attributions)
    assert found.classes == ("red", "circle") and direct.summary() in result.output
    names = ("png", "json", "safetensors", "html")
    files = [tmp_path / f"zero_shot.{ending}" for ending in names]
    assert all(str(file) in result.output for file in files)
    assert len({file.stat().st_mode for file in files}) == 1
    (tmp_path / "classes.txt").write_text("red\n\n circle \nsquare\n")
    more = ("--classes", tmp_path / "classes.txt", "--method", "occlusion")
    result = _run(*start, *more)
    assert result.exit_code == 0, result.output
    found = ZeroShot.load(tmp_path)
    assert found.classes == ("red", "circle", "square") and found.method == "occlusion"


def test_classes_that_are_none(tiny_clip: Path, photo: Path, tmp_path: Path) -> None:
    start = ("zero-shot", "--model", tiny_clip, "--image", photo)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    assert _run(*start, "--classes", tmp_path / "empty.txt").exit_code == 2
    latin = _run(*start, "--classes", tmp_path / "latin.txt")
    assert latin.exit_code == 5 and "not UTF-8" in latin.output
    assert _run(*start, "--class", "a", "--class", "a").exit_code == 2
    assert _run(*start, "--class", "a", "--template", "a photo").exit_code == 2
    shapley = _run(*start, "--class", "a", "--method", "shapley")
    assert shapley.exit_code == 2 and "for a classification" in shapley.output
    text = _run("zero-shot", "--model", tiny_clip, "--text", "a", "--class", "a")
    assert text.exit_code == 2 and "classifies an image" in text.output


# ---- many inputs -------------------------------------------------------------


def test_contributions_of_images(tiny_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "more"
    folder.mkdir(parents=True)
    for at in range(3):
        Image.effect_noise((20, 20 + at), 60).save(folder / f"{at}.PNG")
    (folder / "notes.txt").write_text("no image")
    (tmp_path / "photos" / "broken.png").write_text("no image either")
    start = ("contributions", "--model", tiny_clip, "--images", tmp_path / "photos")
    result = _run(*start, "--out", tmp_path / "kept", "--dtype", "float32")
    assert result.exit_code == 0, result.output
    assert f"3 of 4 inputs are kept in {tmp_path / 'kept'}" in result.output
    assert "1 could not be read" in result.output and "broken.png" in result.output
    stored = Contributions.load(tmp_path / "kept")
    assert len(stored) == 3
    # what is there is not computed again, and another method is refused
    again = _run(*start, "--out", tmp_path / "kept", "--dtype", "float32")
    assert again.exit_code == 0 and "3 of 4 inputs" in again.output
    other = _run(*start, "--out", tmp_path / "kept", "--method", "occlusion")
    assert other.exit_code == 2 and "Error: " in other.output


def test_contributions_of_texts(tiny_clip: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a red circle\n\na square\na red circle\n", encoding="utf-8")
    start = ("contributions", "--model", tiny_clip, "--out", tmp_path / "kept")
    result = _run(*start, "--texts", texts, "--layer", ",1")
    assert result.exit_code == 0, result.output
    stored = Contributions.load(tmp_path / "kept")
    assert sorted(each.input.source.text for each in stored) == [
        "a red circle",
        "a square",
    ]
    assert stored[0].input.layer == "input of block 1 of 2"


def test_inputs_that_are_none(tiny_clip: Path, tmp_path: Path) -> None:
    start = ("contributions", "--model", tiny_clip, "--out", tmp_path / "kept")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    assert _run(*start, "--images", tmp_path / "empty").exit_code == 4
    assert _run(*start, "--texts", tmp_path / "empty.txt").exit_code == 5
    assert _run(*start, "--texts", tmp_path / "none.txt").exit_code == 5
    assert _run(*start, "--images", tmp_path / "none").exit_code == 2
    (tmp_path / "empty" / "a.wav").write_text("no sound")
    sounds = _run(*start, "--sounds", tmp_path / "empty")
    assert sounds.exit_code == 2 and "compares an image with a text" in sounds.output
    (tmp_path / "empty" / "a.png").write_text("no image")
    broken = _run(*start, "--images", tmp_path / "empty")
    assert broken.exit_code == 4 and "none of the inputs" in broken.output


# ---- several methods ---------------------------------------------------------


def test_a_method_that_cannot_run(tiny_clip: Path, photo: Path, tmp_path: Path) -> None:
    start = ("compare", "--model", tiny_clip, "--image", photo, "--text", "a red")
    more = ("--methods", "lime,occlusion", "--n-samples", 20, "--out", tmp_path)
    result = _run(*start, *more)
    assert result.exit_code == 0, result.output
    assert "could not run: n_samples: expected at least 27" in result.output
    found = Comparison.load(tmp_path)
    assert found.methods == ("occlusion",) and list(found.failed) == ["lime"]


# ---- how it ends -------------------------------------------------------------


def test_an_unexpected_error_is_one_line(
    tiny_clip: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("captum_pairs.DualEncoder.explain", broken)
    arguments = ("explain", "--model", tiny_clip, "--image", photo, "--text", "red")
    result = _run(*arguments)
    assert result.exit_code == 1
    last = result.output.splitlines()[-1]
    assert last.startswith("Error: unexpected ZeroDivisionError: by (captum-pairs --tr")
    result = _run("--traceback", *arguments)
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), KeyError("k"), RuntimeError("")]
)
def test_whatever_goes_wrong(error: Exception) -> None:
    with pytest.raises(click.ClickException) as told:
        with in_one_line():
            raise error
    assert told.value.exit_code == 1 and "\n" not in told.value.message
    assert type(error).__name__ in told.value.message


def test_warnings_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with in_one_line():
        warnings.simplefilter("always")
        warnings.warn("careful:\n  with this", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "Warning: careful:; with this\n"


def test_what_takes_long_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captum_pairs.cli.messages._PATIENCE", 0.05)
    with announced("waiting"):
        time.sleep(0.5)
    assert capsys.readouterr() == ("", "waiting ...\n")
    monkeypatch.setattr("captum_pairs.cli.messages._PATIENCE", 30.0)
    with announced("waiting"):
        pass
    assert capsys.readouterr() == ("", "")


def _process(
    *arguments: object, **options: object
) -> subprocess.CompletedProcess[bytes]:
    code = "from captum_pairs.cli import main; main()"
    command = [sys.executable, "-c", code, *map(os.fsencode, map(str, arguments))]
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, stderr=subprocess.PIPE, cwd=ROOT, **options
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.slow
def test_a_full_disk(tiny_clip: Path, photo: Path, tmp_path: Path) -> None:
    """What standard output goes to, and what the files go to."""
    start = ("explain", "--model", tiny_clip, "--image", photo, "--text", "red")
    with open("/dev/full", "w") as full:
        done = _process(*start, "--out", tmp_path, stdout=full)
    assert done.returncode == 1 and b"Traceback" not in done.stderr
    assert b"No space left on device" in done.stderr
    out = tmp_path / "out"
    out.mkdir()
    (out / "explanation.png").symlink_to("/dev/full")
    done = _process(*start, "--out", out, stdout=subprocess.DEVNULL)
    assert done.returncode == 1 and b"Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(b"Error: [Errno 28] No space left")


@pytest.mark.slow
def test_names_of_any_bytes(tiny_clip: Path, photo: Path, tmp_path: Path) -> None:
    """What is no UTF-8 is a file as any other, and no text."""
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    try:
        os.link(photo, odd)
    except OSError:
        pytest.skip("no such file names here")
    start = ("explain", "--model", tiny_clip, "--text", "red")
    out = os.fsdecode(os.fsencode(tmp_path) + b"/out\xe9")
    done = _process(*start, "--image", odd, "--out", out, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert b"out\\udce9/explanation.png" in done.stdout
    content = json.loads(Path(out, "explanation.json").read_text(encoding="utf-8"))
    assert content["model"] == str(tiny_clip)


@pytest.mark.slow
def test_a_terminal_of_few_letters(
    tiny_clip: Path, photo: Path, tmp_path: Path
) -> None:
    start = ("explain", "--model", tiny_clip, "--image", photo, "--text", "red")
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = _process(*start, "--out", tmp_path, stdout=subprocess.PIPE, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"\\u201cred\\u201d" in done.stdout


# ---- references --------------------------------------------------------------


def test_references_of_a_directory(
    tiny_clip: Path, photo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "references"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for at in range(3):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{at}.png")
    (folder / "texts.txt").write_text("a blue star\na green square\n")
    start = ("explain", "--model", tiny_clip, "--image", photo, "--out", tmp_path)
    start += ("--text", "a red circle", "--tolerance", 0.5)
    asked = ("--references", folder, "--references-size", 2, "--seed", 5)
    result = _run(*start, *asked)
    assert result.exit_code == 0, result.output
    found = PairExplanation.load(tmp_path)
    assert found.first.baseline == "2 other images (of 3, seed 5)"
    assert found.second.baseline == "2 texts of other words (of 2, seed 5)"
    model = load(tiny_clip)
    references = model.references(images=folder, texts=folder, size=2, seed=5)
    direct = model.explain(
        str(photo), "a red circle", references=references, tolerance=0.5, seed=5
    )
    torch.testing.assert_close(found.interactions, direct.interactions)
    (tmp_path / "empty").mkdir()
    for wrong, said in (
        (("--references", tmp_path / "empty"), "--references"),
        (("--references", tmp_path / "none"), "does not exist"),
        (("--references-size", 2), "--references-size"),
        (("--references", folder, "--method", "occlusion"), "expected_gradients"),
    ):
        result = _run(*start[:-2], *wrong)
        assert result.exit_code in (1, 2) and said in result.output, result.output
