"""One trainkit command in a process of its own that kills itself, as ``kill -9`` would, at one of its own steps.

``GIVEN`` is set by whoever runs this file: ``arguments`` of the command, ``die_at`` (the number of the event at which it
dies; 0: never) and ``folder`` for stdout, stderr and the notes ``events`` (how many there were) and ``died`` (at which).
An event is whatever changes the disk or the weights: a file created, written to, flushed, renamed or removed, a folder
made, an optimizer step. The saver's chunks are cut small, so that files are met half-written.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch

import trainkit.loop
import trainkit.tensor_file
from trainkit.cli import main
from trainkit.metrics import RunLog
from trainkit.saver import Saver

given: dict[str, Any] = GIVEN  # noqa: F821  # type: ignore[name-defined]
folder = Path(given["folder"])
torch.set_num_threads(1)
for number, name in ((1, "stdout"), (2, "stderr")):
    os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)

lock = threading.Lock()
events = [0]


def event(kind: str) -> None:
    """Count one; die where it is the one to die at, whatever the other threads are doing."""
    with lock:
        events[0] += 1
        if events[0] == given["die_at"]:
            (folder / "died").write_text(f"{kind} in {threading.current_thread().name}")
            os.kill(os.getpid(), signal.SIGKILL)


def counted(kind: str, function: Any) -> Any:
    def before(*arguments: Any, **options: Any) -> Any:
        event(kind)
        return function(*arguments, **options)

    return before


for name in ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir"):
    setattr(os, name, counted(name, getattr(os, name)))
trainkit.tensor_file.CHUNK = 16_384
Saver._check = counted("write", Saver._check)  # type: ignore[method-assign]
RunLog.write = counted("log", RunLog.write)  # type: ignore[method-assign]
trainkit.loop.optimizer_step = counted("step", trainkit.loop.optimizer_step)
sys.argv = ["trainkit", *given["arguments"]]
try:
    main()
finally:
    (folder / "events").write_text(str(events[0]))
