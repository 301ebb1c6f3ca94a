"""What a run is going to do, settled before the first call: the recipes by language, the seeds, and what rows look like."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from datakit.augment.chunks import Encode, chunks
from datakit.augment.draws import draw, keys_of
from datakit.augment.filters.language import language_of
from datakit.augment.judging import judging
from datakit.augment.options import AugmentOptions
from datakit.augment.rollout import Making, Rollout, Seed
from datakit.augment.rollouts import rollout_for
from datakit.augment.seeding import Shape, Unreadable, layout_of_seeds, seeds_of_rows
from datakit.layout import AUTO, ColumnWatch, describe_format, peek
from datakit.recipes.recipe import Prompt, Recipe, languages_of, load_recipe
from registry.datasets import Layout
from registry.errors import UsageError
from registry.records import ChatRecord, Record, TextRecord
from registry.rows import BadRow, Row, read_rows
from registry.sources import container_of, expand_sources

log = logging.getLogger("tunekit")

POOL = 6  # conversations shown together
MOST_COUNTED_BYTES = 2 << 30  # a second or two of reading
MOST_POOL = 20_000  # rows that a pool is drawn from
_HEAD_OF_TEXT = 2000  # characters that a seed's language is told by


@dataclass(frozen=True)
class Plan:
    """One run, before it begins. ``recipes`` are by language; ``main`` is the one that stands for them all."""

    options: AugmentOptions
    files: tuple[str, ...]
    recipes: Mapping[str, Recipe]
    values: Mapping[str, Any]
    layout: Layout | None
    rows: Callable[[], Iterator[Row | BadRow]]
    shape: Shape

    @property
    def main(self) -> Prompt:
        return next(iter(self.recipes.values())).prompt

    @property
    def makes_new(self) -> bool:
        return self.main.makes == "new"

    @property
    def n(self) -> int:
        """Rows wanted of one seed."""
        return (self.options.n or self.main.n) if self.makes_new else 1

    def n_of(self, seed: Seed) -> int:
        """Rows wanted of one unit of work: a seed, or a draw from the pool, which is one call."""
        return max(self.main.per_call, 1) if seed.pool else self.n

    def recipe_for(self, seed: Seed) -> Recipe:
        """The recipe in the language of a seed, where it is written in it."""
        if len(self.recipes) == 1:
            return next(iter(self.recipes.values()))
        record = seed.record if seed.record is not None else seed.pool[0].record if seed.pool else None
        return self.recipes.get(language_of(_text_of(record)) or "en") or self.recipes["en"]

    def count(self) -> int | None:
        """The number of seeds, for local JSON lines of no more than a few gigabytes; None where it would take long."""
        if self.main.seeds != "chat" or not all(container_of(file) == "jsonl" for file in self.files):
            return None
        paths = [Path(file) for file in self.files]
        if any(path.suffix != ".jsonl" or not path.is_file() for path in paths):
            return None
        if sum(path.stat().st_size for path in paths) > MOST_COUNTED_BYTES:
            return None
        total = 0
        for path in paths:
            with path.open("rb") as handle:
                while block := handle.read(1 << 20):
                    total += block.count(b"\n")
        return total

    def begin(self, seed: Seed) -> tuple[Making, Rollout]:
        """The rollout of one seed, scored at the end where that was asked for."""
        recipe = self.recipe_for(seed)
        making = Making(
            recipe, self.n_of(seed), self.values, partial(_other, recipe.prompt.language), seeds=_seeds_of(seed)
        )
        rollout = rollout_for(recipe)(seed, making)
        return making, judging(rollout, making) if self.options.judge else rollout

    def seeds(
        self,
        unreadable: Callable[[Seed, Unreadable], None],
        keep: Callable[[int, Row], None],
        counted: Callable[[str], None],
    ) -> Iterator[Seed]:
        """Every seed, in order. Rows that are none go to ``unreadable`` in their place; ``keep`` gets the row behind
        each seed, ``counted`` the file of each row read."""
        numbers = count()
        if self.main.seeds == "none":
            yield Seed(next(numbers), "", 0, None)
            return
        watch = ColumnWatch.of(self.options.mapping)
        assert self.layout is not None
        found = seeds_of_rows(
            self.rows(), self.layout, unanswered=self.main.name == "answer" or self.main.output == "text"
        )
        pool: list[Seed] = []
        in_pool = 0
        encode = _encoder(self.options.tokenizer) if self.main.seeds == "text" else None
        for one in found:
            row = one.row if isinstance(one, Unreadable) else one[0]
            counted(row.file)
            if isinstance(row, Row):
                watch.look(row.data)
            if isinstance(one, Unreadable):
                unreadable(Seed(next(numbers), row.file, row.number, None), one)
                continue
            record = one[1]
            if self.main.seeds == "pool":
                in_pool += 1
                if len(pool) < MOST_POOL:
                    pool.append(Seed(len(pool), row.file, row.number, record))
                continue
            for piece in self._pieces(record, encode):
                seed = Seed(next(numbers), row.file, row.number, piece[1], chunk=piece[0])
                keep(seed.index, one[0])
                yield seed
        watch.check(", ".join(self.files))
        if in_pool > len(pool):
            log.warning(
                "the pool is the first %s of %s rows; datakit convert --shuffle --limit takes others",
                f"{len(pool):,}",
                f"{in_pool:,}",
            )
        if self.main.seeds == "pool":
            yield from self._draws(pool, numbers)

    def _pieces(self, record: Record, encode: Encode | None) -> Iterator[tuple[int, Record]]:
        if not isinstance(record, TextRecord):
            yield 0, record
            return
        pieces = chunks(record.text, self.options.chunk_tokens, self.options.chunk_overlap, encode)
        yield from ((number, TextRecord(piece)) for number, piece in enumerate(pieces))

    def _draws(self, pool: Sequence[Seed], numbers: Iterator[int]) -> Iterator[Seed]:
        """As many draws as calls are needed for ``n`` rows a seed."""
        if not pool:
            return
        keys = keys_of(seed.record for seed in pool if seed.record is not None)
        for call in range(-(-self.n * len(pool) // max(self.main.per_call, 1))):
            drawn = [pool[at] for at in draw(keys, POOL, call, self.options.seed)]
            yield Seed(next(numbers), drawn[0].file, drawn[0].number, None, pool=tuple(drawn), draw=call)


def plan_run(src: Sequence[str | Path], options: AugmentOptions) -> Plan:
    """Settle a run. Raises ``UsageError`` for everything that is wrong as a whole, and is known without a call."""
    recipes = _recipes(options)
    main = next(iter(recipes.values())).prompt
    values = main.filled(options.values)
    if options.min_score is not None and not options.judge and main.output != "score":
        raise UsageError("nothing scores the rows", where="--min-score", mend="Add --judge, or use the recipe judge.")
    if main.seeds == "none" and not src:
        return Plan(options, (), recipes, values, None, lambda: iter(()), _shape(options, main, None, 0))
    if not src:
        raise UsageError("this recipe makes rows of rows, and no source is named", where=f"--recipe {options.recipe}")
    files = tuple(expand_sources(src))
    if main.seeds == "none":
        raise UsageError("this recipe takes no rows", where=f"--recipe {options.recipe}", mend="Leave the sources out.")
    head, first = peek(read_rows(files), options.from_format)
    layout = layout_of_seeds(options.from_format, options.mapping, head, main.seeds)
    log.info("seeds: %s", describe_format(layout))
    started = iter([first])
    # The rows that were looked at are not read again, as stdin can be read once only; any further reading begins anew.
    rows = lambda: next(started, None) or read_rows(files)  # noqa: E731
    return Plan(options, files, recipes, values, layout, rows, _shape(options, main, layout, len(files)))


def _recipes(options: AugmentOptions) -> dict[str, Recipe]:
    if options.recipe.endswith(".md"):
        recipe = load_recipe(options.recipe)
        return {recipe.prompt.language: recipe}
    languages = languages_of(options.recipe) if options.language == AUTO else [options.language]
    found = {language: load_recipe(options.recipe, language) for language in languages}
    if next(iter(found.values())).prompt.seeds == "none":
        return {"en": found["en"]} if "en" in found else found
    return found


def _shape(options: AugmentOptions, main: Prompt, layout: Layout | None, num_files: int) -> Shape:
    own = (
        layout.formatting if layout is not None and layout.formatting in ("alpaca", "sharegpt", "openai") else "alpaca"
    )
    if layout is not None and layout.formatting == "trl":
        own = "openai"
    formatting = own if options.to_format == AUTO else options.to_format
    return Shape(formatting, layout, main.makes == "same", one_file=num_files <= 1)


def label(prompt: Prompt) -> str:
    """How a recipe is named in a row's ``_origin``."""
    return f"{prompt.name}/{prompt.language}@{prompt.version}"


def _seeds_of(seed: Seed) -> tuple[Seed, ...]:
    return seed.pool or (seed,)


def _other(language: str, name: str) -> Recipe:
    """Another shipped recipe, in this language where it is written in it."""
    return load_recipe(name, language if language in languages_of(name) else "en")


def _text_of(record: Record | None) -> str:
    if isinstance(record, TextRecord):
        return record.text[:_HEAD_OF_TEXT]
    if isinstance(record, ChatRecord):
        return "\n".join(message.content for message in record.messages)[:_HEAD_OF_TEXT]
    return ""


def _encoder(folder: Path | None) -> Encode | None:
    """Offsets of tokens by a tokenizer's folder; None counts words and characters of scripts without spaces."""
    if folder is None:
        return None
    file = folder / "tokenizer.json" if folder.is_dir() else folder
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001  # the library raises plain Exception
        raise UsageError(f"no tokenizer: {error}", where=f"--tokenizer {folder}") from None
    return lambda text: tokenizer.encode(text, add_special_tokens=False).offsets
