"""The numbers of a run: means over log intervals, in a form that JSON holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainkit.data.loader import StepPlan
from trainkit.metrics import Progress, RunLog, clock, finite

PLAN = StepPlan(num_examples=20, batch_size=2, accumulation=2, num_epochs=3, max_steps=7, seed=0, shuffle=False)


def run_log(folder: Path, resumed: dict[str, Any] | None = None) -> RunLog:
    return RunLog(folder, 10, Progress(10, title="sft", quiet=True), resumed)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trainer_log.jsonl").read_text().splitlines()]


def test_a_line_holds_the_mean_of_its_steps_and_the_last_gradient_norm(tmp_path: Path) -> None:
    log = run_log(tmp_path)
    for loss, norm in ((4.0, 1.0), (2.0, 3.0)):
        log.add({"loss": loss, "grad_norm": norm})
    log.write_interval(2, 0.4, 0.001)
    (line,) = lines(tmp_path)
    assert (line["loss"], line["grad_norm"], line["lr"], line["epoch"], line["percentage"]) == (
        3.0,
        3.0,
        0.001,
        0.4,
        20.0,
    )
    assert log.history == [{"loss": 3.0, "grad_norm": 3.0, "learning_rate": 0.001, "epoch": 0.4, "step": 2}]


def test_a_resumed_log_loses_the_lines_after_its_checkpoint_and_those_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "trainer_log.jsonl"
    path.write_text('{"current_steps": 2}\n{"current_steps": 4}\n{"current_steps": 6}\n{"curr')
    run_log(tmp_path, {"global_step": 4})
    assert path.read_text() == '{"current_steps": 2}\n{"current_steps": 4}\n'


def test_a_new_run_begins_a_new_log(tmp_path: Path) -> None:
    (tmp_path / "trainer_log.jsonl").write_text('{"current_steps": 2}\n')
    run_log(tmp_path)
    assert lines(tmp_path) == []


def test_the_time_of_all_parts_is_counted(tmp_path: Path) -> None:
    assert run_log(tmp_path, {"global_step": 4, "train_runtime": 100.0}).seconds == pytest.approx(100, abs=1)


def test_the_summary_counts_steps_epochs_and_samples(tmp_path: Path) -> None:
    log = run_log(tmp_path, {"train_runtime": 10_000.0, "loss_sum": 14.0})
    found = log.summary(PLAN)
    assert (found["epoch"], found["train_loss"]) == (1.4, 2.0)
    assert found["train_samples_per_second"] == pytest.approx(28 / 10_000, abs=1e-3)  # 20, and two steps of 4 more


@pytest.mark.parametrize(
    ("value", "kept"), [(float("nan"), None), (float("inf"), None), (1 / 3, 0.3333333333), (2.0, 2.0)]
)
def test_json_gets_no_nan(value: float, kept: float | None) -> None:
    assert finite(value) == kept


def test_a_float32_survives_the_log() -> None:
    import torch

    value = float(torch.tensor(0.1))  # nine digits tell any two float32 apart
    assert float(torch.tensor(finite(value))) == value


def test_a_clock_shows_hours_minutes_and_seconds() -> None:
    assert [clock(s) for s in (0.9, 61, 3600 * 30)] == ["0:00:00", "0:01:01", "1 day, 6:00:00"]


def test_off_a_terminal_each_log_interval_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(10, title="sft", quiet=False) as progress:
        progress.step(1)
        progress.line(1, {"loss": 2.34567, "learning_rate": 0.001, "grad_norm": 1.0}, 1234.5, 61)
    assert capsys.readouterr().err == "step 1/10  loss 2.346  lr 0.001  1,234 tokens/s  0:01:01 left\n"
