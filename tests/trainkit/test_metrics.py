"""The numbers of a run: means over log intervals, in a form that JSON holds."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from trainkit.data.loader import StepPlan
from trainkit.metrics import Peak, Progress, RunLog, Work, clock, finite

PLAN = StepPlan(num_examples=20, batch_size=2, accumulation=2, num_epochs=3, max_steps=7, seed=0, shuffle=False)


def run_log(folder: Path, resumed: dict[str, Any] | None = None, **options: Any) -> RunLog:
    return RunLog(folder, 10, Progress(10, title="sft", quiet=True), resumed, **options)


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


def test_a_log_that_cannot_be_written_ends_no_run_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = run_log(tmp_path)
    (tmp_path / "trainer_log.jsonl").unlink()
    (tmp_path / "trainer_log.jsonl").mkdir()  # stands for a full disk
    with caplog.at_level("WARNING", logger="tunekit"):
        for step in (1, 2):
            log.write(step, 0.1, {"loss": 1.0})
    assert caplog.text.count("training goes on without it") == 1
    assert [line["step"] for line in log.history] == [1, 2]


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
    assert capsys.readouterr().err == "step 1/10  loss 2.346  lr 0.001  grad norm 1  1,234 tokens/s  0:01:01 left\n"


def test_a_number_that_some_steps_lack_is_a_mean_over_those_that_have_it(tmp_path: Path) -> None:
    log = run_log(tmp_path)
    log.add({"loss": 4.0, "grad_norm": 1.0})
    log.add({"loss": 2.0, "grad_norm": 1.0, "rewards/chosen": 3.0})
    log.write_interval(2, 0.4, 0.001)
    assert (lines(tmp_path)[0]["loss"], lines(tmp_path)[0]["reward"]) == (3.0, 3.0)


def test_an_interval_of_skipped_steps_alone_is_a_line_without_a_loss(tmp_path: Path) -> None:
    log = run_log(tmp_path, {"skipped_steps": 1})
    log.skipped += 1
    log.write_interval(2, 0.4, 0.001)
    assert "loss" not in lines(tmp_path)[0]
    assert lines(tmp_path)[0]["skipped_steps"] == 2
    assert log.summary(PLAN)["skipped_steps"] == 2


def test_speed_and_the_share_of_the_peak_are_named_with_what_they_are_a_share_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 14.0)
    work = Work(10.0, tokens=800, trained=200, flops=1e12)
    assert work.rates("tokens", Peak(1e12, "1 TFLOP/s (a slate)")) == {
        "tokens_per_second": 200.0,
        "trained_tokens_per_second": 50.0,
        "mfu": 0.25,
        "mfu_of": "1 TFLOP/s (a slate)",
    }
    assert set(work.rates("pairs", None)) == {"tokens_per_second", "trained_pairs_per_second"}


def test_the_speed_of_a_line_is_that_of_its_interval_and_no_part_of_the_history(tmp_path: Path) -> None:
    log = run_log(tmp_path, unit="pairs", peak=Peak(1e9, "a slate"))
    log.add({"loss": 1.0, "grad_norm": 1.0})
    log.count(1000, 4, 1e6)
    log.write_interval(1, 0.1, 0.001)
    log.add({"loss": 1.0, "grad_norm": 1.0})
    log.write_interval(2, 0.2, 0.001)
    first, second = lines(tmp_path)
    assert first["tokens_per_second"] > 0 == second["tokens_per_second"]
    assert first["trained_pairs_per_second"] > 0
    assert (first["mfu_of"], "mfu" in second) == ("a slate", False)
    assert second["total_tokens"] == 1000
    assert not {"tokens_per_second", "mfu"} & set(log.history[0])


def test_trackers_are_told_what_the_log_holds(tmp_path: Path) -> None:
    told: list[tuple[int, dict[str, Any]]] = []

    class Reports:
        def log(self, step: int, numbers: dict[str, Any]) -> None:
            told.append((step, numbers))

    log = run_log(tmp_path, reports=Reports())
    log.write(3, 0.5, {"eval_loss": 2.0, "eval_accuracy": 0.25})
    assert told == [(3, {"eval_loss": 2.0, "eval_accuracy": 0.25, "epoch": 0.5, "total_tokens": 0})]
    assert lines(tmp_path)[0]["eval_accuracy"] == 0.25


def test_another_process_of_the_run_keeps_its_numbers_and_writes_nothing(tmp_path: Path) -> None:
    log = run_log(tmp_path, writes=False)
    log.write(1, 0.1, {"loss": 1.0})
    assert log.history == [{"loss": 1.0, "epoch": 0.1, "step": 1}]
    assert not list(tmp_path.iterdir())


def test_a_run_that_ended_early_is_summed_up_to_there(tmp_path: Path) -> None:
    log = run_log(tmp_path, {"loss_sum": 8.0})
    assert (log.summary(PLAN, 4)["train_loss"], log.summary(PLAN, 4)["epoch"]) == (2.0, 0.8)


def test_on_a_terminal_the_bar_shows_numbers_and_keeps_those_of_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "180")
    monkeypatch.setenv("TERM", "xterm")
    with Progress(10, title="sft", quiet=False) as progress:
        progress.line(1, {"eval_loss": 3.5}, 900, 61)
        progress.step(2)
        progress.line(2, {"loss": 2.34567, "learning_rate": 0.001, "grad_norm": 1.25}, 1234.5, 61)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "2/10" in shown
    assert "eval loss 3.5  loss 2.346  lr 0.001  grad norm 1.25  1,234 tokens/s" in shown
    assert "left" in shown
