"""trainkit's side of ``benchmarks/train.py``: the config that ``prepare`` wrote, run as ``trainkit run`` runs it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson

from benchmarks.process import Measured


def measure(folder: Path) -> Measured:
    """Run it; the parts that tell when the model is loaded and a step has ended are listened to, none is replaced."""
    import peft  # noqa: F401
    from transformers import Qwen2ForCausalLM  # noqa: F401

    import trainkit.drive
    import trainkit.run
    from trainkit.config import load_config

    found = Measured()
    build, reference, train = trainkit.run.build_engine, trainkit.drive.needed_reference, trainkit.drive.train

    def noted_build(*arguments: Any, **options: Any) -> Any:
        found.before_model()
        return build(*arguments, **options)

    def noted_reference(*arguments: Any) -> Any:
        began = time.perf_counter()
        result = reference(*arguments)
        found.once_s = time.perf_counter() - began  # of both clocks: nothing waits in it
        return result

    def noted_train(*arguments: Any, **options: Any) -> int:
        found.begin()
        return train(*arguments, **options)

    class Noted(trainkit.drive.Progress):
        def step(self, step: int) -> None:
            found.step_ended()
            super().step(step)

    trainkit.run.build_engine, trainkit.drive.needed_reference = noted_build, noted_reference
    trainkit.drive.train, trainkit.drive.Progress = noted_train, Noted  # type: ignore[misc]
    result = trainkit.run.run(load_config(folder / "run.yaml"), fresh=True, quiet=True)
    lines = map(orjson.loads, (result.folder / "trainer_log.jsonl").read_bytes().splitlines())
    found.losses = [line["loss"] for line in lines if "loss" in line]
    return found
