"""How rollouts ask: several calls of one seed until there are enough items, several calls at once, other recipes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datakit.augment.failures import FOR_GOOD, CallFailed
from datakit.augment.rollout import Call, Making, Reply, Seed

if TYPE_CHECKING:
    from datakit.recipes.recipe import Prompt

SPARE_CALLS = 2  # beyond those that are needed if each gives what it was asked for
CALLS_OF_A_SEED = 10_000  # sample numbers that one draw has for itself


@dataclass
class Progress:
    """How far the calls of one seed are: ``already`` holds what was made, as templates are told of it.

    There are at most two calls more than ``wanted`` items need, and none behind one that gave nothing.
    """

    wanted: int
    per_call: int
    first_sample: int = 0
    already: list[str] = field(default_factory=list)
    made: int = 0
    calls: int = 0
    dry: bool = False

    @classmethod
    def of(cls, make: Making, seed: Seed) -> Progress:
        """Draws of pools, and recipes without seeds, may ask the very same: their numbers keep the answers apart."""
        alike = seed.record is None
        return cls(make.n, max(make.recipe.prompt.per_call, 1), seed.draw * CALLS_OF_A_SEED if alike else 0)

    @property
    def more(self) -> bool:
        most = -(-self.wanted // self.per_call) + SPARE_CALLS
        return not self.dry and self.made < self.wanted and self.calls < most

    @property
    def n(self) -> int:
        """Items to be asked for next."""
        return min(self.per_call, self.wanted - self.made)

    @property
    def sample(self) -> int:
        return self.first_sample + self.calls

    def take(self, items: Sequence[Any], told: Callable[[Any], str]) -> Sequence[Any]:
        """Count one call and its items; those above what was asked for are left."""
        taken = items[: self.n]
        self.calls += 1
        self.made += len(taken)
        self.dry = not taken
        self.already += [text for text in map(told, taken) if text not in self.already]
        return taken


def batch(
    make: Making, progress: Progress, told: Callable[[Any], str], **values: Any
) -> Generator[Sequence[Call], Sequence[Reply], tuple[Sequence[Any], Reply]]:
    """The next call of a seed, with ``n`` for what is still wanted: its items, and the reply that they come from."""
    call = make.call(sample=progress.sample, n=progress.n, already=tuple(progress.already), **values)
    (reply,) = yield [call]
    return progress.take(reply.value, told), reply


def gathered(
    calls: Sequence[Call],
) -> Generator[Sequence[Call], Sequence[Reply], tuple[list[Reply | None], CallFailed | None]]:
    """The replies to several calls made at once: None for each that failed for good, with the first failure.

    Where one fails, the others are asked for again one by one: their answers are in the store by then, and cost nothing.
    Raises ``CallFailed`` for what may yet succeed, so that no call is tried for twice as long.
    """
    try:
        return list((yield calls)), None
    except CallFailed as failure:
        if failure.kind not in FOR_GOOD or len(calls) == 1:
            raise
        first = failure
    found: list[Reply | None] = []
    for call in calls:
        try:
            found += yield [call]
        except CallFailed as failure:
            if failure.kind not in FOR_GOOD:
                raise
            found.append(None)
    return found, first


def of_other(make: Making, prompt: Prompt, *, sample: int = 0, **values: Any) -> Call:
    """A call of another recipe's prompt. What ``--set`` gave to this recipe is not meant for that one."""
    return make.call(prompt, sample=sample, **{**prompt.inputs, **values})
