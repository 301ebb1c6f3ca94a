"""Keys in the environment, and batches that are looked at often."""

from __future__ import annotations

from functools import partial

import pytest

import datakit.augment.batch as batch
from tests.datakit.augment.batch.hand import FAST, KEY


@pytest.fixture(autouse=True)
def _fast(monkeypatch, tmp_path):
    for name in ("OPENAI_API_KEYS", "ZHIPUAI_API_KEYS", "OPENAI_BASE_URL", "ZHIPUAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ZHIPUAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch, "open_batches", partial(batch.open_batches, pace=FAST))
