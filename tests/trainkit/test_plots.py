"""Curves that follow the points, and never cost a run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.plots import plot_curves, points_of, seen, smoothed


@pytest.mark.parametrize("points", [1, 2, 40])
def test_only_what_was_logged_gets_a_curve(tmp_path: Path, points: int) -> None:
    history = [{"step": n, "loss": 1 / n, "rewards/accuracies": 0.5, "grad_norm": None} for n in range(1, points + 1)]
    written = plot_curves(tmp_path, [*history, {"step": 1, "epoch": 1.0}])
    assert [p.name for p in written] == ["training_loss.png", "training_rewards_accuracies.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in written)


def test_evaluation_of_several_sets_and_rewards_have_curves_of_their_own(tmp_path: Path) -> None:
    line = {
        "step": 1, "eval_notes_loss": 1.0, "eval_accuracy": 0.5, "eval_rewards/margins": 0.1, "perplexity": 3.0,
        "eval_runtime": 9.0, "rewards/chosen": 1.0, "rewards/rejected": -1.0,
    }  # fmt: skip
    assert {p.name for p in plot_curves(tmp_path, [line])} == {
        "training_eval_notes_loss.png", "training_eval_accuracy.png", "training_eval_rewards_margins.png",
        "training_perplexity.png", "training_rewards.png",
    }  # fmt: skip


def test_a_picture_that_fails_is_a_warning_and_the_others_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import trainkit.plots as plots

    draw = plots._plot

    def fails_at_loss(path: Path, title: str, curves: object) -> None:
        if title == "loss":
            raise RuntimeError("the font cache is damaged")
        draw(path, title, curves)  # type: ignore[arg-type]

    monkeypatch.setattr(plots, "_plot", fails_at_loss)
    with caplog.at_level(logging.WARNING, "tunekit"):
        written = plot_curves(tmp_path, [{"step": 1, "loss": 1.0, "grad_norm": 1.0}])
    assert [p.name for p in written] == ["training_grad_norm.png"]
    assert "training_loss.png could not be drawn (RuntimeError: the font cache is damaged)" in caplog.text


def test_of_a_step_that_was_logged_twice_the_later_line_counts() -> None:
    assert points_of([{"step": 2, "loss": 9.0}, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}], "loss") == [
        (1, 3.0),
        (2, 2.0),
    ]


def test_a_single_spike_does_not_press_the_curve_flat() -> None:
    calm = [2.0 + 0.01 * (n % 7) for n in range(100)]
    assert seen(calm)[0] < 2.0 < 2.06 < seen(calm)[1]
    assert seen([*calm, 500.0])[1] < 3
    assert seen([*calm[:20], 500.0])[1] > 500, "of twenty points each counts"


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60))
def test_a_smoothed_curve_stays_within_its_points(values: list[float]) -> None:
    curve = smoothed(values)
    assert len(curve) == len(values)
    assert all(min(values) - 1e-9 <= v <= max(values) + 1e-9 for v in curve)
    assert smoothed([3.0] * len(values)) == pytest.approx([3.0] * len(values))


def test_a_smoothed_curve_neither_lags_behind_a_slope_nor_follows_a_spike() -> None:
    assert smoothed(list(range(100)))[5:-5] == pytest.approx(list(range(5, 95)))
    assert max(smoothed([1.0] * 50 + [99.0] + [1.0] * 50, *seen([1.0] * 50 + [99.0] + [1.0] * 50))) < 1.5
