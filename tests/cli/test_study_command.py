"""``captum-pairs study``: what it runs, what it says, and what it refuses."""

from pathlib import Path

import pyarrow
import pytest
from captum_pairs import grounding
from captum_pairs.cli import main
from captum_pairs.cli.study import in_columns
from click.testing import CliRunner, Result

QUICK = ("--layer", "-1,-1", "--tolerance", "0.3")


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["study", *map(str, arguments)])


def test_a_study_and_two_compared(tmp_path: Path) -> None:
    for checkpoint in ("withheld", "finetuned"):
        given = ("--data", "scenes:3", "--model", f"scenes:{checkpoint}")
        out = ("--out", tmp_path / checkpoint, "--data-option", "objects=1")
        result = _run("gaps", *given, *out, *QUICK, "--set", "measure=energy")
        assert result.exit_code == 0, result.output
        assert "3 of 3 rows studied, 0 could not be" in result.output
        assert "verdict" in result.output and "too few" in result.output
    results = grounding.load(tmp_path / "withheld")
    assert results.plan["parameters"]["measure"] == "energy"
    assert results.plan["data"]["options"]["objects"] == 1
    assert results.plan["model"] == "scenes:withheld"
    result = _run("compare", tmp_path / "withheld", tmp_path / "finetuned")
    assert result.exit_code == 0 and "word_energy" in result.output
    # again with something else
    result = _run("gaps", *given, "--out", tmp_path / "withheld", *QUICK)
    assert result.exit_code == 2 or "directory: expected results of" in result.output


def test_tables_have_intervals_beside_their_values() -> None:
    table = pyarrow.table(
        {
            "label": ["moon", "star"],
            "g": [0.5, 0.25],
            "g_low": [0.25, None],
            "g_high": [0.75, None],
        }
    )
    assert in_columns(table) == [
        "label  g",
        "moon   0.500 (0.250 to 0.750)",
        "star   0.250",
    ]
    table = pyarrow.table({"before": [0.5], "difference": [0.1], "low": [0.0]})
    table = table.append_column("high", pyarrow.array([0.25]))
    assert in_columns(table) == [
        "before  difference",
        "0.500   0.100 (0.000 to 0.250)",
    ]
    assert in_columns(pyarrow.table({"n": [1, 2, 3]}), 2) == ["n", "1", "2", "…"]


def test_rows_that_are_none_are_told(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("image,caption\nnone.png,a red star\na.png,\n")
    given = ("--data", f"rows:{file}", "--model", "scenes", "--out", tmp_path / "out")
    result = _run("retrieval", *given)
    assert result.exit_code == 1 and "no row could be studied" in result.output
    assert "0 of 1 rows studied, 1 could not be" in result.output
    assert "no such file" in result.output
    assert "1 not in the data: caption: expected a text (such as" in result.output
    assert "rows.csv, line 3" in result.output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("grounding", "--data", "scenes:3", "--model", "scenes"), "--out"),
        (("retrieval", "--trained-on", "x.txt"), "x.txt"),
        (("gaps", "--model", "nothing:here"), "expected a directory"),
        (("gaps", "--layer", "middle"), "a number or"),
        (("gaps", "--on", "moon"), "no place “moon”"),
        (("gaps", "--data-option", "objects"), "NAME=VALUE"),
        (("compare", "nowhere", "nothing"), "directory: expected the results"),
        (("report", "nowhere"), "directory: expected the results"),
        (("report", "nowhere", "--examples", "-1"), "--examples"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], message: str) -> None:
    result = _run(*arguments)
    assert result.exit_code != 0 and message in result.output


@pytest.mark.parametrize("name", grounding.STUDIES)
def test_help_names_each_studys_own_parameters(name: str) -> None:
    written = " ".join(_run(name, "--help").output.split())
    own = grounding.STUDIES[name]().parameters()
    # what is not made of the sample, or given by an option of its own
    for made in ("options", "trained_on", "pool", "permuted_share"):
        own.pop(made, None)
    for parameter, default in own.items():
        value = list(default) if isinstance(default, tuple) else default
        assert f"{parameter}={value}" in written
    assert ("--set" in written) == bool(own)
    assert ("--trained-on" in written) == (name in ("gaps", "failures"))


def test_counts_of_training_belong_to_two_studies(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    file.write_text('{"circle": 3}')
    given = ("--data", "scenes:2", "--model", "scenes", "--out", tmp_path / "out")
    result = _run("retrieval", *given, "--trained-on", file)
    assert result.exit_code == 2 and "gaps and failures only" in result.output
    result = _run("gaps", *given, *QUICK, "--trained-on", file)
    assert result.exit_code == 0, result.output
    plan = grounding.load(tmp_path / "out").plan
    assert plan["parameters"]["trained_on"] == {"circle": 3}
