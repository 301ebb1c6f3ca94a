"""The terms in which recipes are written: seeds, calls, replies, and the rows made of them.

A rollout is plain code over one cached call: a generator that yields calls, gets their replies, and emits rows. It may
be run again from the start at any time, as every answer it got before comes from the store:

    def paraphrase(seed: Seed, make: Making) -> Rollout:
        (reply,) = yield [make.call(seed=seed, n=make.n)]
        for question in reply.value:
            make.emit(with_question(seed.record, question), reply)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datakit.augment.answer import Answer
from registry.records import Record

if TYPE_CHECKING:
    from datakit.recipes.recipe import Prompt, Recipe


@dataclass(frozen=True, slots=True)
class Seed:
    """One row that rows are made from. ``index`` counts seeds from 0; ``file`` and ``number`` tell where it stands.

    ``record`` is a ``ChatRecord``, a ``TextRecord`` or, for recipes without seeds, None. ``chunk`` is the piece of a
    long text, from 0. ``pool`` holds the seeds that a recipe over several of them was given, by its ``draw`` (from 0).
    """

    index: int
    file: str
    number: int
    record: Record | None
    chunk: int = 0
    pool: tuple[Seed, ...] = ()
    draw: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One question: a prompt with its values, how its answer is read, and which of several answers to the same it is.

    ``output`` is a name in ``datakit.augment.outputs.OUTPUTS``; ``expects`` is handed to its check (say, how many texts).
    """

    prompt: Prompt
    values: Mapping[str, Any]
    output: str
    sample: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    expects: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one call: the ``value`` that was read from it, and the ``key`` under which it is kept."""

    call: Call
    value: Any
    answer: Answer
    key: str


@dataclass(frozen=True, slots=True)
class Made:
    """One row made: the record, the replies it comes from (last: the one it was read from), and ``notes`` for ``_origin``."""

    record: Record
    replies: tuple[Reply, ...]
    seeds: tuple[Seed, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)


Rollout = Generator[Sequence[Call], Sequence[Reply], None]


@dataclass
class Making:
    """What a rollout works with: its recipe, how many rows are wanted of the seed, and where rows go."""

    recipe: Recipe
    n: int
    values: Mapping[str, Any]  # of --set, defaults filled in
    other: Callable[[str], Recipe]  # another recipe by name, in the same language
    made: list[Made] = field(default_factory=list)
    seeds: tuple[Seed, ...] = ()

    def call(self, prompt: Prompt | None = None, *, sample: int = 0, expects: int | None = None, **values: Any) -> Call:
        """A call of ``prompt`` (default: the recipe's own) with ``values`` on top of those of ``--set``."""
        prompt = prompt or self.recipe.prompt
        return Call(prompt, {**self.values, **values}, prompt.output, sample, prompt.sampling, expects)

    def emit(self, record: Record, *replies: Reply, **notes: Any) -> None:
        """One row is made. Rows that were emitted stay, whatever becomes of later calls."""
        self.made.append(Made(record, replies, self.seeds, notes))
