"""Weights & Biases, offline: its file of records read back."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainkit.reports.conftest import no_secret_in

pytest.importorskip("wandb")
BLOCK = 32 * 1024


def records(folder: Path) -> list[Any]:
    """The records of a run's file: after 7 bytes, blocks of 32 KiB that hold pieces, each behind its checksum (4 bytes),
    length (2) and kind (1: whole, 2: the first piece, 3: one more, 4: the last)."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("*.wandb")
    data, at, held, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        held += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(held)
            found.append(record)
            held = b""
    return found


def rows(found: list[Any]) -> list[dict[str, float]]:
    told = []
    for record in found:
        items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
        if items:
            told.append({k: v for k, v in items.items() if not k.startswith("_")})
    return told


def test_both_parts_of_a_run_are_one_run_of_wandb(
    told: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    told("wandb", 1, 2)
    told("wandb", 2, after=1)
    folders = sorted((tmp_path / "out" / "wandb").glob("offline-run-*"))
    deadline = time.monotonic() + 30  # wandb's files are written by a process of its own, which may still be at it
    while not all(rows(records(folder)) for folder in folders) and time.monotonic() < deadline:
        time.sleep(0.1)
    first, second = map(records, folders)
    assert rows(first) == [
        {"train/loss": 1.0, "eval/loss": 2.0, "train/global_step": 1},
        {"train/loss": 0.5, "eval/loss": 1.0, "train/global_step": 2},
    ]
    assert rows(second) == rows(first)[1:]
    (one,), (two,) = ([r.run for r in part if r.run.run_id] for part in (first, second))
    assert one.run_id == two.run_id == json.loads((tmp_path / "out" / "reports.json").read_text())["wandb"]
    assert (one.project, one.display_name) == ("llamafactory", "lamp")
    config = {i.key: json.loads(i.value_json) for i in one.config.update}
    assert config["learning_rate"] == 0.001
    assert config["hf_token"] == "…"
    assert no_secret_in(tmp_path / "out" / "wandb")
