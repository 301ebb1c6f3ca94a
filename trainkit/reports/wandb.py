"""Weights & Biases, online or offline as ``WANDB_MODE`` says; key, project and the rest come from its own variables."""

from __future__ import annotations

import os
import uuid

from trainkit.reports.base import Numbers, Opening, Status, sectioned

PROJECT = "llamafactory"  # as LLaMA-Factory, where WANDB_PROJECT is not set
CLOSE_S = 25  # the most that closing, also at the interpreter's end, may take


class WandB:
    """A run of wandb, kept apart from others of this process."""

    def __init__(self, opening: Opening) -> None:
        import wandb

        self.run_id = opening.run_id or os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:12]
        settings = wandb.Settings(console="off", silent=True)
        if "WANDB_FINISH_TIMEOUT" not in os.environ and hasattr(settings, "finish_timeout"):
            settings.finish_timeout = CLOSE_S
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", opening.name),
            id=self.run_id,
            resume="allow" if opening.step or "WANDB_RUN_ID" in os.environ else None,
            dir=os.environ.get("WANDB_DIR", str(opening.folder)),
            config=dict(opening.values),
            allow_val_change=True,
            settings=settings,
        )
        # the step is a number like others: wandb itself throws away what comes at a step below its last one, as the
        # lines of a run do that goes on from an earlier checkpoint
        self._run.define_metric("train/global_step")
        self._run.define_metric("*", step_metric="train/global_step", step_sync=True)

    def log(self, step: int, numbers: Numbers) -> None:
        self._run.log({**sectioned(numbers), "train/global_step": step})

    def finish(self, status: Status) -> None:
        self._run.finish(exit_code={"finished": 0, "failed": 1, "stopped": 130}[status])


def open_run(opening: Opening) -> WandB:
    """Begin or go on with a run. Raises wandb's own errors."""
    return WandB(opening)
