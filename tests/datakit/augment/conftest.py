"""A folder of its own, a key that is planted, and nothing of this machine's keys and proxies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datakit.augment.providers import transport
from tests.datakit.augment.runs import KEY


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty working folder, with ``KEY`` in the environment and no other account."""
    for name in os.environ:
        if name.startswith(("OPENAI_", "ZHIPUAI_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ZHIPUAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    transport._proxy_for.cache_clear()
    yield tmp_path
    transport._proxy_for.cache_clear()
