#!/usr/bin/env python3
"""
Puts the bundle into a checkout of Captum, or into its unpacked source distribution.

    python docs/upstream/apply.py CHECKOUT            copy the files, edit Captum's own
    python docs/upstream/apply.py CHECKOUT --check    and run there what Captum runs

It may be applied again: what is there already stays. What can't be applied is said
before anything is written. The source distribution has no docs/, sphinx/, website/ and
tutorials/, and no tests of Captum's: what belongs there is left out, and said.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from bundle import BundleError, make

HERE = Path(__file__).resolve().parent
# Captum's own, made from its table of cases, which the bundle adds to.
GENERATED = (
    "tests/attr/test_data_parallel.py",
    "tests/attr/test_hook_removal.py",
    "tests/attr/test_jit.py",
    "tests/attr/test_targets.py",
)
# Captum's options, whose setup.cfg the source distribution lacks.
FLAKE8 = ("--isolated", "--max-line-length=88", "--ignore=E203,W503,E704")
# What Captum's documentation is built with, but for what asks a network.
SPHINX = "autodoc napoleon doctest todo coverage ifconfig viewcode".split()
# Folders that a checkout has, and the source distribution has not.
OPTIONAL = ("docs", "sphinx", "tutorials", "website")


class ApplyError(Exception):
    """The bundle does not fit this checkout."""


@dataclass(frozen=True)
class Change:
    """What is to be done: the new text of files, by their paths in the checkout."""

    files: dict[str, str]
    edited: tuple[str, ...]
    left_out: tuple[str, ...]


def planned(checkout: Path) -> Change:
    """
    What applying the bundle changes, without doing it.

    Raises:
        ApplyError: if that is no Captum, or one that the edits do not fit.
    """
    if not (checkout / "captum" / "attr" / "__init__.py").is_file():
        raise ApplyError(
            f"{checkout} is no checkout of Captum: it has no captum/attr/__init__.py"
        )
    made = make()
    has_tests = any((checkout / name).is_file() for name in GENERATED)
    edits = tomllib.loads((HERE / "edits.toml").read_text(encoding="utf-8"))["edit"]
    edited: dict[str, str] = {}
    left_out: list[str] = []
    for edit in edits:
        name = edit["file"]
        if _is_absent(checkout, name) or name in GENERATED and not has_tests:
            left_out.append(name)
        else:
            text = edited.get(name) or _read(checkout, name)
            edited[name] = _edited(text, edit)
    files = {
        name: text for name, text in made.items() if not _is_absent(checkout, name)
    }
    left_out += [name for name in made if name not in files]
    return Change(files | edited, tuple(edited), tuple(dict.fromkeys(left_out)))


def _is_absent(checkout: Path, name: str) -> bool:
    top = name.split("/")[0]
    return top in OPTIONAL and not (checkout / top).is_dir()


def _read(checkout: Path, name: str) -> str:
    try:
        return (checkout / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ApplyError(f"{checkout} has no {name}, which is to be edited") from None


def _edited(text: str, edit: dict[str, str]) -> str:
    """A file with an edit; the same, if it has it already."""
    is_after = "after" in edit
    anchor, new = edit["after" if is_after else "before"], edit["text"]
    whole = anchor + new if is_after else new + anchor
    if whole in text:
        return text
    if text.count(anchor) != 1 and not edit.get("last"):
        raise ApplyError(
            f"{edit['file']} has {text.count(anchor)} times, and not once:\n{anchor}"
        )
    head, found, tail = text.rpartition(anchor)
    if not found:
        raise ApplyError(f"{edit['file']} does not have:\n{anchor}")
    return head + whole + tail


def apply(checkout: Path) -> Change:
    """Write what is planned."""
    change = planned(checkout)
    for name, text in change.files.items():
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return change


def check(checkout: Path, change: Change) -> bool:
    """Run what Captum's continuous integration runs, on what the bundle brings."""
    python = [name for name in change.files if name.endswith(".py")]
    own = [name for name in python if name.startswith("tests/")]
    generated = [name for name in GENERATED if (checkout / name).is_file()]
    pytest = ["pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    commands = [
        [*pytest, *own],
        ["flake8", *FLAKE8, *python],
    ]
    if generated:
        # the names of the new cases, which all speak of embeddings or feature pairs
        cases = "embedding or feature_pairs"
        commands.insert(1, [*pytest, "-k", cases, *generated])
    if importlib.util.find_spec("ufmt"):
        commands.append(["ufmt", "check", *python])
    if (checkout / "sphinx").is_dir() and importlib.util.find_spec(
        "sphinxcontrib.katex"
    ):
        extensions = [*(f"sphinx.ext.{name}" for name in SPHINX)]
        extensions += ["sphinx_autodoc_typehints", "sphinxcontrib.katex"]
        options = ["-qWT", "--keep-going", "-D", f"extensions={','.join(extensions)}"]
        commands.append(["sphinx", *options, "sphinx/source", "sphinx/build"])
    tutorials = [name for name in change.files if name.endswith(".ipynb")]
    if tutorials and importlib.util.find_spec("nbconvert"):
        # with outputs, as the tutorials of Captum are kept
        convert = ["nbconvert", "--log-level=WARN", "--to=notebook", "--execute"]
        commands.append([*convert, "--inplace", *tutorials])
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    passed = True
    for command in commands:
        print("+", *command, flush=True)
        line = [sys.executable, "-m", *command]
        done = subprocess.run(line, cwd=checkout, env=environment)
        passed &= done.returncode == 0
    return passed


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, help="the folder that has captum/")
    parser.add_argument("--check", action="store_true", help="then run Captum's checks")
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    try:
        change = apply(checkout)
    except (ApplyError, BundleError) as error:
        print(f"nothing was changed: {error}", file=sys.stderr)
        return 1
    for name in sorted(change.files):
        print("edited " if name in change.edited else "written", name)
    for name in change.left_out:
        print("left out", name)
    return 0 if not arguments.check or check(checkout, change) else 1


if __name__ == "__main__":
    sys.exit(main())
