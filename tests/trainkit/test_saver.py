"""Checkpoints are written beside the training: whole, in order, none dropped, and no fault of the disk ends a run."""

from __future__ import annotations

import errno
import json
import logging
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.errors import Interrupted, StoppedError
from trainkit import saver as module
from trainkit.checkpoint import list_checkpoints, load_optimizer_tensors, load_random_state, open_checkpoint
from trainkit.saver import Saver
from trainkit.snapshot import Snapshot, write_snapshot

Usage = namedtuple("Usage", "total used free")


def snapshot(step: int) -> Snapshot:
    return Snapshot(
        step=step,
        weights={"model.safetensors": {"w": torch.full((4,), float(step))}},
        texts={"config.json": b"{}", "code/model.py": b"# none"},
        state=json.dumps({"global_step": step}).encode(),
        optimizer={"model.w|exp_avg": torch.ones(4)},
        random_state={"0|cpu": torch.zeros(8, dtype=torch.uint8)},
        trained={"model.w": [4]},
    )


def names(root: Path) -> list[str]:
    """Every folder in ``root``, temporary ones too."""
    return sorted(p.name for p in root.iterdir())


class Gate:
    """Holds every write until it is opened, and counts those that began."""

    def __init__(self) -> None:
        self.open, self.began = threading.Event(), threading.Semaphore(0)

    def __call__(self, folder: Path, snapshot: Snapshot, **options: Any) -> None:
        self.began.release()
        assert self.open.wait(20)
        write_snapshot(folder, snapshot, **options)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    held = Gate()
    monkeypatch.setattr(module, "write_snapshot", held)
    yield held
    held.open.set()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """``disk["fault"] = errno.…`` makes every write fail half-way; ``disk["free"]`` is the room that is left."""
    faults: dict[str, Any] = {"fault": None, "free": 1 << 40}

    def write(folder: Path, snapshot: Snapshot, **options: Any) -> None:
        if faults["fault"]:
            (folder / "model.safetensors").write_bytes(b"half")
            raise OSError(faults["fault"], "as the system says it")
        write_snapshot(folder, snapshot, **options)

    monkeypatch.setattr(module, "write_snapshot", write)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(1 << 40, 0, faults["free"]))
    return faults


def test_what_was_taken_is_read_back(tmp_path: Path) -> None:
    with Saver(tmp_path) as saver:
        saver.save(snapshot(3))
    found = open_checkpoint(tmp_path / "checkpoint-3")
    assert (found.step, found.state, found.trained, found.version) == (3, {"global_step": 3}, {"model.w": [4]}, 2)
    assert found.resumable
    assert torch.equal(load_optimizer_tensors(found)["model.w|exp_avg"], torch.ones(4))
    assert load_random_state(found).keys() == {"0|cpu"}
    assert (found.path / "code" / "model.py").read_bytes() == b"# none"


def test_training_goes_on_while_one_is_written_and_one_waits(tmp_path: Path, gate: Gate) -> None:
    with Saver(tmp_path) as saver:
        saver.save(snapshot(1))
        assert gate.began.acquire(timeout=20)
        saver.save(snapshot(2))  # neither waits for the disk
        third = threading.Thread(target=saver.save, args=(snapshot(3),))
        third.start()
        third.join(0.1)
        assert third.is_alive()  # the third does, and is not dropped
        gate.open.set()
        third.join(20)
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]


def test_a_final_one_is_on_the_disk_when_save_returns(tmp_path: Path) -> None:
    with Saver(tmp_path) as saver:
        saver.save(snapshot(1))
        saver.save(snapshot(2), final=True)
        assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]


def test_leaving_by_an_error_finishes_what_was_taken(tmp_path: Path, gate: Gate) -> None:
    threading.Timer(0.1, gate.open.set).start()

    def run() -> None:
        with Saver(tmp_path) as saver:
            saver.save(snapshot(1))
            saver.save(snapshot(2))
            raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        run()
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]


def test_leaving_by_a_second_ctrl_c_breaks_off_and_clears_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = threading.Event()

    def endless(folder: Path, snapshot: Snapshot, *, check: Any) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        began.set()
        while True:
            check()

    def run() -> None:
        with Saver(tmp_path) as saver:
            saver.save(snapshot(1), final=True)
            monkeypatch.setattr(module, "write_snapshot", endless)
            saver.save(snapshot(2))
            assert began.wait(20)
            raise Interrupted

    with pytest.raises(Interrupted):
        run()
    assert names(tmp_path) == ["checkpoint-1"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, "the disk reports an error"),
        (errno.ESTALE, "as the system says it"),
    ],
)
def test_a_fault_of_the_disk_is_told_once_and_the_run_goes_on(
    fault: int, reason: str, tmp_path: Path, disk: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tunekit"), Saver(tmp_path) as saver:
        saver.save(snapshot(1), final=True)
        disk["fault"] = fault
        saver.save(snapshot(2))
        saver.save(snapshot(3))
        saver.finish()
        assert names(tmp_path) == ["checkpoint-1"]  # nothing half-written beside it
        assert saver.failed == 2
        disk["fault"] = None
        saver.save(snapshot(4), final=True)
    assert [record.getMessage() for record in caplog.records] == [
        f"checkpoint-2 could not be saved: {reason}; training goes on (the last whole one: checkpoint-1)",
        "checkpoints can be saved again: checkpoint-4 is",
    ]
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-4"]


def test_a_final_one_that_fails_stops_the_run_with_the_way_on(tmp_path: Path, disk: dict[str, Any]) -> None:
    with Saver(tmp_path) as saver:
        saver.save(snapshot(1))
        saver.finish()
        disk["fault"] = errno.ENOSPC
        with pytest.raises(StoppedError) as raised:
            saver.save(snapshot(2), final=True)
    assert str(raised.value) == (
        f"{tmp_path}: checkpoint-2 could not be saved: the disk is full\n"
        "  Mend that and run the same command again: it goes on from checkpoint-1."
    )
    assert raised.value.exit_code == 3


def test_what_cannot_fit_is_not_begun(tmp_path: Path, disk: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    disk["free"] = 500_000
    with caplog.at_level(logging.WARNING, "tunekit"), Saver(tmp_path) as saver:
        saver.save(snapshot(1))
    assert names(tmp_path) == []
    assert "checkpoint-1 could not be saved: the disk has 500 kB left, and it needs 1.0 MB" in caplog.text
    assert "(the last whole one: none yet)" in caplog.text


def test_when_room_is_short_what_would_be_pruned_goes_first(tmp_path: Path, disk: dict[str, Any]) -> None:
    with Saver(tmp_path, keep=2) as saver:
        for step in (1, 2):
            saver.save(snapshot(step))
        saver.finish()
        disk["free"] = 0
        saver.save(snapshot(3))
    assert names(tmp_path) == ["checkpoint-2"]  # 1 made room, as it would have after a save; the newest stays


def test_the_oldest_go_and_the_best_and_the_newest_stay(tmp_path: Path) -> None:
    with Saver(tmp_path, keep=2) as saver:
        saver.save(snapshot(1), final=True)
        saver.protect(1)
        for step in (2, 3, 4):
            saver.save(snapshot(step))
        saver.finish()
        assert [p.name for p in list_checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-1"]
        saver.protect(4)
        saver.save(snapshot(5))
    assert names(tmp_path) == ["checkpoint-4", "checkpoint-5"]


def test_with_a_limit_of_one_the_best_stays_beside_the_newest(tmp_path: Path) -> None:
    with Saver(tmp_path, keep=1) as saver:
        saver.save(snapshot(1))
        saver.protect(1)
        for step in (2, 3):
            saver.save(snapshot(step))
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-3"]


def test_a_fault_of_ours_in_the_thread_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any, **__: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(module, "write_snapshot", wrong)
    with pytest.raises(KeyError, match="a bug"), Saver(tmp_path) as saver:
        saver.save(snapshot(1))


def test_a_slow_disk_is_said(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "REMIND_EVERY", 0.01)
    threading.Timer(0.1, gate.open.set).start()
    with caplog.at_level(logging.WARNING, "tunekit"), Saver(tmp_path) as saver:
        saver.save(snapshot(1), final=True)
    assert "the disk is slow: waiting for checkpoint-1 to be written" in caplog.text
