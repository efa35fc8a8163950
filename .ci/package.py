"""
Wheel and sdist: built, looked into, and installed with each Python that is at hand.

    python .ci/package.py             # builds, checks and installs
    python .ci/package.py --no-deps   # installs without what it needs: --help alone

A Python that is not there is said, and is no error.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Of the package's files these are for those who develop it.
NOT_SHIPPED = (".d.ts",)
BESIDE = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"}


def run(*command: str | Path) -> str:
    """What it prints; an error if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def expected_files() -> set[str]:
    """The package's files that git knows, as they are in the wheel."""
    names = run("git", "ls-files", "captum_pairs").splitlines()
    return {n for n in names if not any(part in n for part in NOT_SHIPPED)}


def check_contents(wheel: Path, sdist: Path) -> None:
    """Exactly the package in the wheel; the same and what describes it in the sdist."""
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    if names != expected_files():
        sys.exit(f"{wheel.name} differs: {sorted(names ^ expected_files())}")
    inside = {n.partition("/")[2] for n in tarfile.open(sdist).getnames()}
    missing = (expected_files() | BESIDE) - inside
    if missing:
        sys.exit(f"{sdist.name} lacks {sorted(missing)}")
    strange = {n for n in inside if n.startswith(("tests", "docs", "shared"))}
    if strange:
        sys.exit(f"{sdist.name} has {sorted(strange)}")


def pythons() -> dict[str, str | None]:
    """By version of the classifiers: where it is, if it runs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: dict[str, str | None] = {}
    for line in project["classifiers"]:
        version = line.rpartition(":: ")[2]
        if version.startswith("3."):
            found[version] = _python(version)
    return found


def _python(version: str) -> str | None:
    homes = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for each in [shutil.which(f"python{version}"), *map(str, homes)]:
        if each is not None:
            # pyenv's shims are there for versions that are not chosen
            command = [each, "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.strip() == version:
                return each
    return None


def install(python: str, wheel: Path, folder: Path, with_needs: bool) -> str:
    """The version that the installed command says, after explaining a scene."""
    run(python, "-m", "venv", folder)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    command = folder / "bin" / "captum-pairs"
    if not with_needs:
        run(*pip, "--no-deps", wheel)
        run(*pip, "click")
        # every file is of this Python, whether something imports it or not
        (package,) = folder.glob("lib/*/site-packages/captum_pairs")
        run(pip[0], "-W", "error", "-m", "compileall", "-q", "-f", package)
        return run(command, "--version").strip()
    run(*pip, wheel)
    run(command, "demo", "--tolerance", "0.2", "--out", folder / "demo")
    return run(command, "--version").strip()


def main() -> None:
    """Prints what was done."""
    parser = argparse.ArgumentParser(description="Build and check wheel and sdist.")
    parser.add_argument("--no-deps", action="store_true", help="install it alone")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        run(sys.executable, "-m", "build", "--outdir", folder)
        (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
        run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
        check_contents(wheel, sdist)
        print(f"{wheel.name}, {sdist.name}: {wheel.stat().st_size / 1e6:.1f} MB")
        for version, python in pythons().items():
            if python is None:
                print(f"Python {version}: not at hand")
                continue
            said = install(python, wheel, folder / version, not asked.no_deps)
            print(f"Python {version}: {said}")
            shutil.rmtree(folder / version)


if __name__ == "__main__":
    main()
