"""A pair of processes for all tests of the backends: starting one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.trainkit.backends.two import Pair, pair


@pytest.fixture(scope="package")
def two() -> Iterator[Pair]:
    with pair() as made:
        yield made
