"""What a process of a launch does in the tests: ``python ranks.py SCENARIO FOLDER``."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from registry.errors import StoppedByUser, UsageError
from trainkit.launch import as_one_of_many
from trainkit.place import place_of


def main(scenario: str, folder: Path) -> None:
    place = place_of()
    (folder / f"began-{place.rank}").write_text(
        json.dumps([place.world_size, sys.argv[3:], os.environ["OMP_NUM_THREADS"]])
    )
    if scenario == "well":
        return
    if scenario == "rank 1 raises":
        if place.rank == 1:
            raise UsageError("the adapter is of another base", where="adapter", mend="Choose another.")
        time.sleep(60)
    if scenario == "rank 1 has a fault of ours":
        if place.rank == 1:
            raise KeyError("lost")
        time.sleep(60)
    if scenario == "rank 1 is killed in an exchange":
        import torch

        from trainkit.backends.process_group import Group

        group = Group(device=torch.device("cpu"), timeout_s=300)
        group.barrier()
        if place.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        group.sum_numbers([1.0])
    if scenario == "stopped":
        asked = []
        signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
        (folder / f"ready-{place.rank}").touch()
        while not asked:
            time.sleep(0.02)
        time.sleep(0.1 + 0.6 * (place.rank == 0))  # rank 0 saves, and is last
        (folder / f"saved-{place.rank}").touch()
        raise StoppedByUser(
            "stopped after step 3 of 9; checkpoint-3 is saved", mend="Run the same command again to go on."
        )


if __name__ == "__main__":
    with as_one_of_many():
        main(sys.argv[1], Path(sys.argv[2]))
