"""Rows into train, validation and test files: read once to choose each row's side, and once more to write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from datakit.outcome import Outcome
from datakit.split.choose import TEST, TRAIN, VAL
from datakit.split.folder import REJECTS_NAME, side_files
from datakit.split.look import Notes, take_notes
from datakit.split.plan import Plan, plan_sides
from datakit.split.report import details_of, tell
from datakit.split.size import parse_size
from datakit.split.write import write_sides
from datakit.summary import with_progress
from datakit.together import Together
from datakit.twice import Source, readable_twice
from datakit.write import open_sink
from registry.blocks import rows_in
from registry.errors import UsageError
from registry.manifest import Ledger
from registry.sources import expand_sources

DEFAULT_SEED = 42


def split_rows(
    src: Iterable[str | Path],
    out_dir: str | Path,
    *,
    val: str | int | float,
    test: str | int | float = 0,
    by: str | None = None,
    stratify: str | None = None,
    seed: int = DEFAULT_SEED,
    ext: str = ".jsonl",
    rejects: str | Path | None = None,
    strict: bool = False,
) -> Outcome:
    """Write the rows of ``src``, unchanged and in order, to ``train``, ``val`` and (with ``test``) ``test`` in ``out_dir``.

    ``val`` and ``test`` are shares (``0.1``, ``"10%"``) or counts (``200``). Which rows they get follows from ``seed``
    and the rows' content, not from their order. ``by`` keeps rows with the same value on one side, as rows made from
    a seed row always are; ``stratify`` gives each value its share. ``details["sides"]`` tells what was reached. The
    exit code is 1 where any row was rejected under ``strict``.
    Raises ``UsageError`` for what is wrong as a whole, and where a side would be left without a row.
    """
    sizes = {VAL: parse_size(val, "--val"), TEST: parse_size(test, "--test")}
    if sizes[VAL].is_nothing:
        raise UsageError("there would be no validation row", where="--val", mend="For example --val 0.1 or --val 200.")
    files = expand_sources(src)
    folder = str(out_dir).rstrip("/") or "/"
    aside = str(rejects or f"{folder}/{REJECTS_NAME}")
    targets = side_files(folder, ext, aside, files, with_test=not sizes[TEST].is_nothing)
    options = {
        "val": str(val), "test": str(test), "by": by, "stratify": stratify, "seed": seed, "ext": ext, "strict": strict,
    }  # fmt: skip
    ledger = Ledger()
    with readable_twice(files, folder) as source:
        notes = _look(source, by, stratify, seed)
        plan = plan_sides(notes, sizes)
        tell(plan, targets)
        with ExitStack() as stack:
            together = stack.enter_context(Together())
            sinks = {
                side: stack.enter_context(open_sink(file, aside if side == TRAIN else None, files, together=together))
                for side, file in targets.items()
            }
            with closing(with_progress(source.items(), "writing", size=rows_in)) as items:
                write_sides(items, notes, plan, sinks, ledger)
            source.check_unchanged()
            details = details_of(plan, targets)
            books = [sink.close_books("split", options, files, details) for sink in sinks.values()]
    outputs = tuple(path for book in books for path in book.outputs)
    return replace(books[0], outputs=outputs, exit_code=1 if strict and books[0].num_rejected else 0)


def plan_again(files: Sequence[str], options: Mapping[str, Any]) -> tuple[Notes, Plan]:
    """The sides that a split with these ``options`` (as its manifest has them) gave the rows of ``files``."""
    sizes = {VAL: parse_size(options["val"], "--val"), TEST: parse_size(options["test"], "--test")}
    notes = _look(Source(files, {}, {}), options["by"], options["stratify"], options["seed"])
    return notes, plan_sides(notes, sizes)


def _look(source: Source, by: str | None, stratify: str | None, seed: int) -> Notes:
    with closing(with_progress(source.items(), "looking", size=rows_in)) as items:
        return take_notes(items, by, stratify, seed, ", ".join(source.names))
