"""What stands beside the weights: results that add up, curves that follow the points."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainkit.results import plot_curves, smoothed, write_results


def test_all_results_gathers_what_the_splits_wrote(tmp_path: Path) -> None:
    write_results(tmp_path, "train", {"train_loss": 1.0, "epoch": 1.0})
    write_results(tmp_path, "eval", {"eval_loss": 2.0, "epoch": 2.0})
    assert json.loads((tmp_path / "all_results.json").read_text()) == {
        "epoch": 2.0,
        "eval_loss": 2.0,
        "train_loss": 1.0,
    }
    assert json.loads((tmp_path / "train_results.json").read_text()) == {"epoch": 1.0, "train_loss": 1.0}


@pytest.mark.parametrize("points", [1, 2, 40])
def test_only_what_was_logged_gets_a_curve(tmp_path: Path, points: int) -> None:
    history = [{"step": n, "loss": 1 / n, "rewards/accuracies": 0.5} for n in range(1, points + 1)]
    written = plot_curves(tmp_path, [*history, {"step": 1, "learning_rate": 1.0}])
    assert [p.name for p in written] == ["training_loss.png", "training_rewards_accuracies.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in written)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60))
def test_a_smoothed_curve_stays_within_its_points(values: list[float]) -> None:
    curve = smoothed(values)
    assert len(curve) == len(values)
    assert curve[0] == pytest.approx(values[0])
    assert all(min(values) - 1e-9 <= v <= max(values) + 1e-9 for v in curve)
    assert smoothed([3.0] * len(values)) == pytest.approx([3.0] * len(values))
