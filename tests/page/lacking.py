"""What the tests of the page need besides Python."""

import os
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """Skips a test, or fails it where everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; with CI=true the page must be tested")
    pytest.skip(what)
