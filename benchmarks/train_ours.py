"""trainkit's side of ``benchmarks/train.py``: the config that ``prepare`` wrote, run as ``trainkit run`` runs it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

from benchmarks.process import Measured


def measure(folder: Path) -> Measured:
    """Run it, its parts listened to."""
    import peft  # noqa: F401
    from transformers import Qwen2ForCausalLM  # noqa: F401

    from trainkit.config import load_config
    from trainkit.run import run

    found = Measured()
    config = load_config(folder / "run.yaml")
    with listened_to(found):
        result = run(config, fresh=True, quiet=True)
    lines = map(orjson.loads, (result.folder / "trainer_log.jsonl").read_bytes().splitlines())
    found.losses = [line["loss"] for line in lines if "loss" in line]
    return found


@contextmanager
def listened_to(found: Measured) -> Iterator[None]:
    """Within it a run tells ``found`` when its model is about to be loaded, how long its reference takes, when its first
    step begins and when each ends. Nothing is done differently."""
    run, drive = (import_module(f"trainkit.{name}") for name in ("run", "drive"))
    build, reference, train, progress = run.build_engine, drive.needed_reference, drive.train, drive.Progress

    def noted_build(*arguments: Any, **options: Any) -> Any:
        found.before_model()
        return build(*arguments, **options)

    def noted_reference(*arguments: Any) -> Any:
        began, cpu_began = time.perf_counter(), time.process_time()
        result = reference(*arguments)
        found.once_s, found.once_cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        return result

    def noted_train(*arguments: Any, **options: Any) -> int:
        found.begin()
        return train(*arguments, **options)

    class Noted(progress):  # type: ignore[misc, valid-type]
        def step(self, step: int) -> None:
            found.step_ended()
            super().step(step)

    places: list[tuple[Any, str, Any]] = [
        (run, "build_engine", noted_build), (drive, "needed_reference", noted_reference),
        (drive, "train", noted_train), (drive, "Progress", Noted),
    ]  # fmt: skip
    before = [getattr(module, name) for module, name, _ in places]
    try:
        for module, name, noted in places:
            setattr(module, name, noted)
        yield
    finally:
        for (module, name, _), value in zip(places, before, strict=True):
            setattr(module, name, value)
