"""Checkpoints that are kept against the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trainkit.config import LoopConfig, load_config
from trainkit.forecast.disk import forecast_disk, free_bytes, num_checkpoints


def loop(**keys: object) -> LoopConfig:
    base = load_config({"model_name_or_path": "m"}).loop
    return replace(base, **{"save_strategy": "steps", "save_steps": 10, "save_total_limit": None, **keys})  # type: ignore[arg-type]


def test_the_last_step_saves_too() -> None:
    assert num_checkpoints(loop(), 100, 25) == 3
    assert num_checkpoints(loop(save_strategy="epoch"), 7, 21) == 3
    assert num_checkpoints(loop(save_strategy="no"), 7, 21) == 0
    assert num_checkpoints(loop(save_steps=0.5), 100, 20) == 2


def test_with_a_limit_one_more_is_there_while_the_next_is_written() -> None:
    kept = forecast_disk(loop(save_total_limit=2), None, model=100, optimizer=200, steps_per_epoch=9, total_steps=100)
    assert (kept.checkpoint, kept.checkpoints, kept.needed) == (300, 2, 3 * 300 + 100)


def test_without_a_limit_all_are_kept_and_a_model_alone_is_smaller() -> None:
    found = forecast_disk(loop(save_only_model=True), None, model=100, optimizer=200, steps_per_epoch=9, total_steps=40)
    assert (found.checkpoint, found.checkpoints, found.needed) == (100, 4, 500)


def test_the_disk_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    free = free_bytes(str(tmp_path / "not" / "yet"))
    assert free is not None
    assert free > 0
    too_much = forecast_disk(loop(), str(tmp_path), model=10**18, optimizer=0, steps_per_epoch=9, total_steps=9)
    assert not too_much.fits
