"""The modules that make the site, which stand beside what they make."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "docs" / "_site"))
