from pathlib import Path

import pytest
from captum_pairs import DualEncoder, load
from searched import photo


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> DualEncoder:
    return load(tiny_clip)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        photo(number, 20 + 3 * number).save(path)
    return paths
