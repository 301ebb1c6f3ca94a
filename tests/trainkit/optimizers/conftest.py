"""What the optimizers' tests share at each test."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _nothing_old_to_collect() -> Iterator[None]:
    """BAdam collects garbage at each change of block: two seconds where all of transformers is loaded."""
    gc.freeze()
    yield
    gc.unfreeze()
