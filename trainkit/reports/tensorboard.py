"""TensorBoard: event files in a folder of the run's own, which a resumed run goes on in."""

from __future__ import annotations

import json
import os
import socket
from datetime import datetime
from pathlib import Path

from trainkit.reports.base import Numbers, Opening, Status, sectioned


class TensorBoard:
    """A writer of event files; its ``run_id`` is the folder."""

    def __init__(self, opening: Opening) -> None:
        from torch.utils.tensorboard import SummaryWriter

        given = opening.settings.logging_dir or os.environ.get("TENSORBOARD_LOGGING_DIR")
        self.run_id = str(given or opening.run_id or opening.folder / "runs" / _folder_name())
        Path(self.run_id).mkdir(parents=True, exist_ok=True)
        # steps after the checkpoint that a run goes on from are written anew: the first ones are not shown any more
        self._writer = SummaryWriter(self.run_id, purge_step=opening.step + 1 if opening.step else None)
        if not opening.step:
            values = json.dumps(dict(opening.values), indent=2, ensure_ascii=False, default=str)
            self._writer.add_text("config", "\n".join(f"    {line}" for line in values.splitlines()))

    def log(self, step: int, numbers: Numbers) -> None:
        for name, value in sectioned(numbers).items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self, status: Status) -> None:
        self._writer.close()


def _folder_name() -> str:
    """As transformers names it: time and machine."""
    return f"{datetime.now():%b%d_%H-%M-%S}_{socket.gethostname()}"


def open_run(opening: Opening) -> TensorBoard:
    """Begin or go on writing. Raises ``OSError`` where the folder cannot be written."""
    return TensorBoard(opening)
