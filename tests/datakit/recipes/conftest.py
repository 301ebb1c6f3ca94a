"""Recipe files of a test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HEAD = "name: mine\nversion: 1\noutput: pairs"


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[..., Path]:
    """``write_recipe("Ask {{ n }} things.", head=…)`` → the path of the file; HEAD has 3 lines, so the body begins at 6."""

    def write(body: str, *, head: str = HEAD, name: str = "mine.md") -> Path:
        path = tmp_path / name
        path.write_text(f"---\n{head}\n---\n{body}", encoding="utf-8")
        return path

    return write
