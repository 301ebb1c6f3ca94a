"""What happens when memory runs out: the step is done again in smaller micro-batches, with the same rows and gradient."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from registry.errors import StoppedError

log = logging.getLogger("tunekit")

Made = TypeVar("Made")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def halved(micro: Sequence[Sequence[Any]], parts: int) -> list[list[Any]]:
    """Each micro-batch cut into up to ``parts`` micro-batches of nearly equal numbers of examples (or blocks)."""
    cut = []
    for units in micro:
        size = -(-len(units) // parts)
        cut += [list(units[at : at + size]) for at in range(0, len(units), size)]
    return cut


class Room:
    """How finely micro-batches are cut so that they fit; what did not fit once is cut from then on.

    ``advice`` gives the lines that say what would make a run fit. ``alone``: only a run of one process can go on; with
    several, the others are already waiting within the step.
    """

    def __init__(self, *, alone: bool, advice: Callable[[], Sequence[str]]) -> None:
        self.parts = 1
        self._alone, self._advice = alone, advice

    def take(
        self, micro: Sequence[Sequence[Any]], attempt: Callable[[list[list[Any]]], Made], undo: Callable[[], None]
    ) -> Made:
        """``attempt`` on the micro-batches, cut again for as long as they do not fit; ``undo`` makes an attempt undone.

        Raises ``StoppedError`` with the ways out where single examples do not fit either.
        """
        while True:
            cut = halved(micro, self.parts)
            try:
                return attempt(cut)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            undo()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if not self._alone or max(map(len, cut)) <= 1:
                raise self._nothing_helps(len(cut[0]))
            self.parts *= 2
            log.warning(
                "out of memory: micro-batches are cut in %d from here on; each step trains on the same rows as before",
                self.parts,
            )

    def _nothing_helps(self, size: int) -> StoppedError:
        smallest = (
            "even with one example at a time" if size <= 1 else "with several processes, where no step can be cut"
        )
        return StoppedError(
            f"out of memory {smallest}",
            mend="What would make room:\n" + "\n".join(f"  {line}" for line in self._advice()),
        )
