"""Options are checked before anything heavy is imported: what is wrong is told at once,
and with what was meant."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from captum_pairs.attr import EmbeddingAttribution
from captum_pairs.cli import main
from captum_pairs.explain.methods import method_names, method_of, settings_of
from captum_pairs.known import did_you_mean, KINDS, METHODS, TAKEN_BY
from captum_pairs.models import SUPPORTED
from click.testing import CliRunner
from PIL import Image

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "transformers", "captum", "matplotlib")
# The command in a process of its own, which says what it imported.
CODE = (
    "import sys; from captum_pairs.cli import main\n"
    "try: main(sys.argv[1:])\n"
    f"finally: print('heavy:', *(set({HEAVY}) & set(sys.modules)))"
)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Turned by its tag: 40 x 60 px as it is seen."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((60, 40), 60).save(path, exif=exif)
    return path


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE, *map(os.fsencode, map(str, arguments))],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        cwd=ROOT,
    )


@pytest.mark.parametrize("arguments", [(), ("explain",), ("zero-shot",), ("compare",)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    done = _run(*arguments, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "heavy:"
    assert "3 no such model" in done.stdout


def test_the_models_are_listed_at_once() -> None:
    done = _run("models")
    assert done.stdout.splitlines()[-1].strip() == "heavy:"
    assert all(kind.write in done.stdout for kind in KINDS.values())


@pytest.mark.parametrize(
    "option, value, code, words",
    [
        ("--model", "scene", 3, "did you mean “scenes”"),
        ("--model", "openclip:ViT-B-32/x", 3, "did you mean “open_clip”"),
        ("--model", "torchvison:resnet50", 3, "did you mean “torchvision”"),
        ("--model", "./no/such", 3, "no such directory"),
        ("--model", "pyproject.toml", 3, "a file, not a directory"),
        ("--model", "a/b/c", 3, "no such directory"),
        ("--model", "x" * 5000, 3, "too long"),
        ("--method", "oclusion", 2, "did you mean “occlusion”"),
        ("--method", "magic", 2, "there are integrated_gradients, "),
        ("--layer", "one", 2, 'a number or "input", not “one”'),
        ("--layer", "0,0,0", 2, "at most two layers"),
        ("--layer", "imput", 2, "did you mean “input”"),
        (
            "--layer",
            "4",
            2,
            '0 to 3 or -4 to -1 or "input" of the image encoder, not 4',
        ),
        ("--layer", "0,-9", 2, "of the text encoder, not -9"),
        ("--device", "gpu", 2, "did you mean “cuda”"),
        ("--device", "cuda:x", 2, "a device such as"),
        ("--phrase", "blue", 2, "words of “a red dog”, not “blue”"),
        ("--phrase", "dogs", 2, "did you mean “dog”"),
        ("--phrase", "", 2, "words of “a red dog”"),
        ("--occurrence", "2", 2, "--occurrence is that of a --phrase"),
        ("--box", "1,2,3", 2, "4 numbers"),
        ("--box", "0,0,nan,4", 2, "4 numbers"),
        ("--box", "5,5,2,9", 2, "left < right"),
        ("--box", "0.1,0.1,0.6,0.6", 2, "not shares of it"),
        ("--box", "0,0,50,10", 2, "of 40 x 60 px"),
        ("--image", "no.png", 4, "no.png: no such file"),
        ("--image", "tests", 4, "tests: a directory"),
        ("--absent", "remove", 2, "did you mean “removed”"),
        ("--n-samples", "1", 2, "--n-samples"),
        ("--n-steps", "0", 2, "--n-steps"),
        ("--n-samples", "40", 2, "that use it (banzhaf, shapley, lime), not integra"),
        ("--seed", str(2**70), 2, "--seed"),
        ("--settings", "width", 2, "NAME=VALUE"),
        ("--out", "pyproject.toml/below", 1, "pyproject.toml is no directory"),
        ("--text", "another", 2, "2 inputs are needed"),
        ("--text", "caf\udce9", 2, "not UTF-8"),
    ],
)
def test_what_is_wrong_is_told_at_once(
    photo: Path, option: str, value: str, code: int, words: str
) -> None:
    given = {"--model": "scenes", "--image": str(photo), "--text": "a red dog"}
    more = () if option in given and option != "--text" else (option, value)
    given |= {option: value} if not more else {}
    arguments = [part for pair in given.items() for part in pair]
    done = _run("explain", *arguments, *more)
    assert words in done.stderr and "Traceback" not in done.stderr
    assert done.returncode == code
    assert done.stdout.splitlines()[-1].strip() == "heavy:"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("explian",), "did you mean “explain”"),
        (("explain", "--modle", "x"), "--model"),
        (("compare", "--model", "scenes", "--methods", "lime,lyme"), "mean “lime”"),
        (("compare", "--model", "scenes", "--methods", "lime,lime"), "several times"),
        (("zero-shot", "--model", "scenes", "--text", "a"), "classes are needed"),
        (("contributions", "--model", "scenes", "--out", "x"), "one of --images"),
    ],
)
def test_wrong_commands(arguments: tuple[str, ...], words: str) -> None:
    done = _run(*arguments)
    assert done.returncode == 2 and words in done.stderr
    assert done.stdout.splitlines()[-1].strip() == "heavy:"


def test_a_box_of_a_turned_photo_is_in_it(
    tiny_clip: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 x 60 as it is seen, 60 x 40 as it is stored."""
    monkeypatch.chdir(tmp_path)
    start = ["explain", "--model", str(tiny_clip), "--image", str(photo)]
    wrong = CliRunner().invoke(main, [*start, "--text", "a", "--box", "0,0,60,40"])
    assert wrong.exit_code == 2
    right = CliRunner().invoke(main, [*start, "--text", "a", "--box", "0,0,40,60"])
    assert right.exit_code == 0, right.output


@pytest.mark.parametrize(
    "more, words",
    [
        (("--method", "occlusion", "--n-steps", 4), "--n-steps: one of"),
        (("--method", "occlusion", "--tolerance", 0.1), "--tolerance: one of"),
        (("--absent", "removed"), "absent: expected"),
        (("--method", "lime", "--settings", "width=1"), "settings.*width"),
        (("--method", "no_such_module:Class"), "no_such_module:Class"),
        (("--phrase", "do"), "phrase: expected words of"),
    ],
)
def test_what_does_not_fit_is_told_before_a_model_is_loaded(
    photo: Path, more: tuple[object, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object, **options: object) -> None:
        pytest.fail("the model was loaded")

    monkeypatch.setattr("captum_pairs.model.load", never)
    start = ("explain", "--model", "scenes", "--image", photo, "--text", "red, dog")
    result = CliRunner().invoke(main, [str(each) for each in (*start, *more)])
    assert result.exit_code == 2, result.output
    assert re.search(words, result.output)


def test_only_what_was_given_is_passed_on(
    tiny_clip: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captum_pairs import DualEncoder

    passed = {}
    explain = DualEncoder.explain

    def noted(self: DualEncoder, *inputs: object, **options: object) -> object:
        passed.update(options)
        return explain(self, *inputs, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(DualEncoder, "explain", noted)
    start = ("explain", "--model", tiny_clip, "--image", photo, "--text", "red")
    more: tuple[object, ...] = ("--method", "lime", "--n-samples", 90, "--seed", 0)
    more += ("--settings", "kernel_width=0.5", "--layer", "0,", "--out", tmp_path)
    result = CliRunner().invoke(main, [str(each) for each in (*start, *more)])
    assert result.exit_code == 0, result.output
    given = {name: value for name, value in passed.items() if value is not None}
    assert given == {
        "method": "lime",
        "n_samples": 90,
        "seed": 0,
        "settings": {"kernel_width": 0.5},
        "layer": (0, None),
        "progress": False,
    }


def test_the_registries_are_filled_from_what_is_known() -> None:
    assert tuple(METHODS) == method_names(True)[: len(METHODS)]
    for name, kind in METHODS.items():
        found = method_of(name)[1]
        assert found.__name__ == kind and issubclass(found, EmbeddingAttribution)
    for option, using in TAKEN_BY.items():
        own = {n for n in METHODS if option in settings_of(method_of(n)[1])}
        assert own == set(using)
    supported = {support.prefix: support for support in SUPPORTED}
    for prefix, words in KINDS.items():
        support = supported[prefix]
        assert support.write == words.write and support.models == words.models
        assert support.module == words.module and support.package == words.package


def test_what_was_meant() -> None:
    assert did_you_mean("Occlusion", ["occlusion"]) == "; did you mean “occlusion”?"
    assert did_you_mean("zebra", ["occlusion"]) == ""
