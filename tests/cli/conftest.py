"""The command sets its process up, which is pytest's here."""

from collections.abc import Iterator

import pytest
import torch
from transformers.utils import logging


@pytest.fixture(autouse=True)
def as_before_the_command() -> Iterator[None]:
    threads, verbosity = torch.get_num_threads(), logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    yield
    torch.set_num_threads(threads)
    logging.set_verbosity(verbosity)
    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
