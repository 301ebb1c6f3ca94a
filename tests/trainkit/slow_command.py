"""One trainkit command, run by ``conftest.launch`` in a process of its own: slowly, so that a signal meets it half-way.

``GIVEN`` is set by whoever runs this file: ``arguments`` of the command, ``pause_s`` before each optimizer step, and paths
for ``stdin`` (or None), ``stdout`` and ``stderr``.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import torch

import trainkit.loop
from trainkit.cli import main

given: dict[str, Any] = GIVEN  # noqa: F821  # type: ignore[name-defined]
torch.set_num_threads(1)
for number, path in ((1, given["stdout"]), (2, given["stderr"])):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
if given["stdin"] is not None:
    os.dup2(os.open(given["stdin"], os.O_RDONLY), 0)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115  # the descriptor is this process's standard input

step = trainkit.loop.optimizer_step


def slow_step(*arguments: Any, **options: Any) -> Any:
    print("(about to step)", file=sys.stderr, flush=True)
    time.sleep(given["pause_s"])
    return step(*arguments, **options)


trainkit.loop.optimizer_step = slow_step
sys.argv = ["trainkit", *given["arguments"]]
main()
