"""How a step is cut into micro-batches changes no step of ``trainkit run``, the short last one of an epoch neither."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainkit.conftest import read_log
from trainkit.config import load_config
from trainkit.run import run

CLOSE = 1e-5
CUTS = [(8, 1), (4, 2), (2, 4), (1, 8)]  # per_device_train_batch_size × gradient_accumulation_steps
Course = list[tuple[float, float]]
# rows of unlike length, and no multiple of eight: the last step of an epoch has three, 2 + 1 where a micro-batch has two
KINDS: dict[str, dict[str, Any]] = {
    "sft": {"stage": "sft", "dataset": "questions", "max_samples": 19, "num_train_epochs": 2},  # 8, 8, 3
    "dpo": {"stage": "dpo", "dataset": "pairs", "max_samples": 11, "num_train_epochs": 3},  # 8, 3
    "rm": {"stage": "rm", "dataset": "pairs", "max_samples": 11, "num_train_epochs": 3},
}


@pytest.fixture
def course(settings: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Course]:
    """``course("dpo", 4, 2)``: loss and gradient norm of each of six steps."""

    def trained(kind: str, size: int, accumulation: int) -> Course:
        keys = settings(
            **KINDS[kind], max_steps=-1, cutoff_len=128, per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation, output_dir=str(tmp_path / f"{size}x{accumulation}"),
        )  # fmt: skip
        folder = run(load_config(keys), quiet=True).folder
        return [(line["loss"], line["grad_norm"]) for line in read_log(folder) if "loss" in line]

    return trained


@pytest.mark.parametrize("kind", KINDS)
def test_eight_are_four_twice_two_four_times_and_one_eight_times(kind: str, course: Callable[..., Course]) -> None:
    """Oracle 6 of train_peers 4.1. kto, kto_pair and pref_bco_weight are left out: their baselines are statistics of the
    micro-batch."""
    whole, *cut = [course(kind, *sizes) for sizes in CUTS]
    assert len(whole) == 6
    for one in cut:
        assert [loss for loss, _ in one] == pytest.approx([loss for loss, _ in whole], rel=CLOSE)
        assert [norm for _, norm in one] == pytest.approx([norm for _, norm in whole], rel=10 * CLOSE)


@pytest.mark.parametrize("changes", [{"stage": "kto"}, {"pref_loss": "kto_pair"}, {"pref_bco_weight": 1.0}])
def test_losses_with_a_baseline_of_the_micro_batch_do_change(changes: dict[str, Any]) -> None:
    """That the exceptions are exceptions: two micro-batches that drifted apart are not the one that they were cut from."""
    import torch

    from registry.encode import IGNORE
    from trainkit.data.collate import Batch
    from trainkit.logprobs import TokenLogprobs
    from trainkit.stages import dpo, kto
    from trainkit.stages.losses.bco import RunningMean

    settings = load_config({"model_name_or_path": "m", "pref_beta": 0.5, **changes}).preference
    nothing = torch.full((1, 1), IGNORE)

    def loss_of(gains: list[float], others: list[float]) -> float:
        """Of answers that gained so much on a reference of zero."""
        batch = Batch(nothing, None, nothing, len(gains), 0, (), desirable=torch.ones(len(gains), dtype=torch.bool))
        zero = torch.zeros(2, len(gains))
        if changes.get("stage") == "kto":
            own = TokenLogprobs(torch.tensor(gains), torch.arange(len(gains)), len(gains))
            return float(kto.make_loss(settings)(kto.FeedbackLogprobs(own, torch.tensor(others)), batch, zero)[0])
        both = TokenLogprobs(torch.tensor(gains + others), torch.arange(2 * len(gains)), 2 * len(gains))
        baseline = RunningMean(torch.zeros(()), torch.zeros(()))
        return float(dpo.make_loss(settings, baseline)(both, batch, zero)[0])

    cut = loss_of([4.0], [3.0]) + loss_of([1.0], [-2.0])
    assert abs(loss_of([4.0, 1.0], [3.0, -2.0]) - cut) > 1e-3
