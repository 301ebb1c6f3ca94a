"""Which process of a run this is, as torchrun tells it through the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from registry.errors import UsageError

OURS = "TUNEKIT_LAUNCH"  # set by our launcher: the folder where the processes tell it how they ended
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True, slots=True)
class Place:
    """Number ``rank`` of ``world_size`` processes; ``local_rank`` of ``local_world_size`` on its machine."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0


def is_launched(env: Mapping[str, str] | None = None) -> bool:
    """Whether a launcher (torchrun, ours or the user's) started this process."""
    env = os.environ if env is None else env
    return all(name in env for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))


def place_of(env: Mapping[str, str] | None = None) -> Place:
    """Read the launcher's variables; without them, the only process. Raises ``UsageError`` where they make no sense."""
    env = os.environ if env is None else env
    if not is_launched(env):
        return Place()
    given = {name: env.get(name, env["WORLD_SIZE"]) for name in NAMES}
    numbers = {name: int(value) for name, value in given.items() if value.isdecimal()}
    wrong = [f"{name}={given[name]}" for name in NAMES if name not in numbers]
    if not wrong and not (numbers["RANK"] < numbers["WORLD_SIZE"] and numbers["LOCAL_RANK"] <= numbers["RANK"]):
        wrong = [f"{name}={given[name]}" for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]
    if wrong:
        raise UsageError(
            f"the launcher's variables make no sense: {', '.join(wrong)}",
            where="environment",
            mend="torchrun sets them; unset them to train in one process.",
        )
    return Place(numbers["RANK"], numbers["LOCAL_RANK"], numbers["WORLD_SIZE"], numbers["LOCAL_WORLD_SIZE"])
