"""Ten steps equal five, a stop, and five more: losses, weights and rows, however the rows are read, mixed and batched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.trainkit.conftest import QUESTIONS
from trainkit.data.stream_steps import StreamSteps

Run = Callable[..., Any]
STREAM = {"streaming": True, "buffer_size": 8}
KINDS: dict[str, dict[str, Any]] = {
    "packed": {"packing": True},
    "neat packing, strict": {"neat_packing": True, "compat": "strict"},
    "token_balanced": {"batching_strategy": "token_balanced", "gradient_accumulation_steps": 2},
    "length_grouped": {"batching_strategy": "length_grouped"},
    "interleave_over": {"dataset": "questions,more", "mix_strategy": "interleave_over", "interleave_probs": "0.7,0.3"},
    "interleave_once, packed": {"dataset": "questions,more", "mix_strategy": "interleave_once", "packing": True},
    "streamed": STREAM,
    "streamed, two epochs and more": {**STREAM, "dataset": "more", "per_device_train_batch_size": 3},
    "streamed and packed": {**STREAM, "packing": True, "per_device_train_batch_size": 1},
    "streamed pages": {**STREAM, "stage": "pt", "dataset": "pages"},
    "streamed mix": {**STREAM, "dataset": "questions,more", "mix_strategy": "interleave_under", "val_size": 2},
}


@dataclass
class Steps:
    """What a run's optimizer was given, step by step: the rows' numbers and their ids."""

    seen: list[Any] = field(default_factory=list)
    dies_after: int | None = None


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Writes down every step; with ``dies_after`` the run ends as if the machine had gone."""
    from trainkit.step import optimizer_step

    found = Steps()

    def watched(model: Any, batches: Any, *rest: Any, **options: Any) -> Any:
        if found.dies_after == len(found.seen):
            raise MemoryError
        found.seen.append([(batch.indices, batch.input_ids.tolist(), batch.labels.tolist()) for batch in batches])
        return optimizer_step(model, batches, *rest, **options)

    monkeypatch.setattr("trainkit.loop.optimizer_step", watched)
    return found


@pytest.fixture
def two_datasets(tmp_path: Path, data_folder: Path) -> Path:
    """A data folder with ``questions``, ``more`` (7 rows) and ``pages``."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    rows = [{**row, "instruction": f"Once more: {row['instruction']}"} for row in QUESTIONS[:7]]
    (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for name in ("questions.jsonl", "pages.txt"):
        (folder / name).write_bytes((data_folder / name).read_bytes())
    info = json.loads((data_folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "more": {"file_name": "more.jsonl"}}))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_ten_steps_are_five_a_stop_and_five(
    kind: str,
    trainkit: Run,
    config_file: Run,
    two_datasets: Path,
    steps: Steps,
    trainer_log: Callable[[Path], list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(StreamSteps.__init__.__kwdefaults__, "window", 5)  # many windows in a few rows
    keys = {
        "cutoff_len": 96,
        "dataset_dir": str(two_datasets),
        "save_strategy": "steps",
        "save_steps": 5,
        **KINDS[kind],
    }
    whole = config_file(name="whole.yaml", **keys, output_dir=str(tmp_path / "whole"))
    assert (ran := trainkit("run", whole)).code == 0, ran.err
    seen, steps.seen = steps.seen, []
    assert len(seen) == 10

    parts = config_file(name="parts.yaml", **keys, output_dir=str(tmp_path / "parts"))
    steps.dies_after = 5
    assert trainkit("run", parts).code == 3
    steps.dies_after = None
    ran = trainkit("run", parts)
    assert ran.code == 0, ran.err
    assert "after step 5 of 10" in ran.err

    assert steps.seen == seen
    losses = [[line["loss"] for line in trainer_log(tmp_path / name)] for name in ("whole", "parts")]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 10
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]
