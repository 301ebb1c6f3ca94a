"""Trackio with its database on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainkit.reports.conftest import no_secret_in

pytest.importorskip("trackio")


def test_both_parts_of_a_run_are_one_run_of_trackio(
    told: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trackio.sqlite_storage as storage

    monkeypatch.setattr(storage, "TRACKIO_DIR", tmp_path / "trackio")
    told("trackio", 1, 2)
    told("trackio", 3, after=2)
    name = json.loads((tmp_path / "out" / "reports.json").read_text())["trackio"]
    assert name.startswith("lamp-")
    assert storage.SQLiteStorage.get_runs("lights") == [name]
    logs = storage.SQLiteStorage.get_logs("lights", name)
    assert [(row["step"], row["train/loss"]) for row in logs] == [(1, 1), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert storage.SQLiteStorage.get_run_config("lights", name)["learning_rate"] == 0.001
    assert no_secret_in(tmp_path / "trackio")
