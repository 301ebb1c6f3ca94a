"""TensorBoard: its files read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainkit.reports.conftest import no_secret_in

pytest.importorskip("tensorboard")


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in read.Scalars(name)]


def test_a_resumed_run_goes_on_in_its_folder_and_writes_the_later_steps_anew(
    told: Callable[..., None], tmp_path: Path
) -> None:
    told("tensorboard", 1, 2, 4)
    told("tensorboard", 3, 4, after=2)
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    assert scalars(folder, "train/loss") == [(n, pytest.approx(1 / n)) for n in (1, 2, 3, 4)]
    assert scalars(folder, "eval/loss") == [(n, pytest.approx(2 / n)) for n in (1, 2, 3, 4)]
    assert no_secret_in(folder)


def test_a_new_run_gets_a_folder_of_its_own_unless_one_is_named(
    told: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told("tensorboard", 1, logging_dir=str(tmp_path / "named"))
    assert scalars(tmp_path / "named", "train/loss") == [(1, 1.0)]
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "environment"))
    told("tensorboard", 1)
    assert scalars(tmp_path / "environment", "train/loss") == [(1, 1.0)]
    assert not (tmp_path / "out" / "runs").exists()
