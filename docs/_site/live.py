"""The pages to explore that the site shows: made by the package itself."""

from pathlib import Path


def write(folder: Path) -> None:
    """Explanations of the embedded model, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
