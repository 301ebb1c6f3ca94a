"""Seeds beside the rows made of them, for people to read: what ``--sample`` prints."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence

from datakit.augment.filters import Judged
from datakit.augment.filters.parts import parts_of, seeds_of, system_of
from datakit.augment.rollout import Seed
from datakit.summary import in_colour, say, visible
from registry.records import Record

TWO_COLUMNS = 100  # characters; on a narrower terminal rows stand under their seed
MOST_CHARS = 600  # of one text
MOST_CHARS_OF_POOL = 160  # of one text of a pool, in which there are several seeds
GAP = " │ "
GREEN, RED, DIM, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"

Line = tuple[str, str]  # text, colour


def show_sample(rows: Iterable[Judged]) -> None:
    """Print rows beside their seeds on stdout, as wide as the terminal."""
    for line in side_by_side(rows, shutil.get_terminal_size().columns, colour=in_colour()):
        say(line)


def side_by_side(rows: Iterable[Judged], width: int, *, colour: bool = False) -> Iterator[str]:
    """Lines of at most ``width`` columns; rows that come one after the other from the same seed stand beside it."""
    for number, (seeds, made) in enumerate(_by_seed(rows)):
        if number:
            yield ""
        two = width >= TWO_COLUMNS
        room = (width - len(GAP)) // 2 if two else max(width, 20)
        left = [*_seed_lines(seeds, room)]
        right = [line for at, row in enumerate(made) for line in _row_lines(row, at, room)]
        if not two:
            yield from (_painted(line, colour) for line in (*left, ("", ""), *right))
            continue
        for at in range(max(len(left), len(right))):
            of_seed = left[at] if at < len(left) else ("", "")
            of_row = right[at] if at < len(right) else ("", "")
            yield (_painted(of_seed, colour, room) + GAP + _painted(of_row, colour)).rstrip()


def _by_seed(rows: Iterable[Judged]) -> Iterator[tuple[list[Seed], list[Judged]]]:
    last: tuple[object, ...] | None = None
    seeds: list[Seed] = []
    found: list[Judged] = []
    for row in rows:
        own = seeds_of(row.made)
        key = tuple((seed.file, seed.number, seed.chunk) for seed in own)
        if found and key != last:
            yield seeds, found
            found = []
        seeds, last = own, key
        found.append(row)
    if found:
        yield seeds, found


def _seed_lines(seeds: Sequence[Seed], room: int) -> Iterator[Line]:
    if not seeds:
        yield "no seed", DIM
    for at, seed in enumerate(seeds):
        if at:
            yield "", ""
        chunk = f", piece {seed.chunk + 1}" if seed.chunk else ""
        yield from ((line, DIM) for line in _wrapped(f"seed: {seed.file}, row {seed.number}{chunk}", room))
        assert seed.record is not None
        yield from _record_lines(seed.record, room, MOST_CHARS if len(seeds) == 1 else MOST_CHARS_OF_POOL)


def _row_lines(row: Judged, at: int, room: int) -> Iterator[Line]:
    if at:
        yield "", ""
    verdict = row.verdict
    notes = "".join(
        f", {name} {value}" for name, value in row.made.notes.items() if isinstance(value, str | int | float)
    )
    head = (
        f"row {at + 1}{notes}" if verdict.kept else f"row {at + 1}, dropped: {verdict.reason} ({verdict.detail}){notes}"
    )
    yield from ((line, DIM if verdict.kept else RED) for line in _wrapped(head, room))
    yield from _record_lines(row.made.record, room, MOST_CHARS)


def _record_lines(record: Record, room: int, most: int) -> Iterator[Line]:
    system = system_of(record)
    if system:
        yield from _said("system", system, room, most, "")
    for part in parts_of(record):
        name = "" if part.role == "text" else part.role
        yield from _said(name, part.text, room, most, GREEN if part.is_answer else "")


def _said(name: str, text: str, room: int, most: int, colour: str) -> Iterator[Line]:
    shown = text if len(text) <= most else f"{text[:most].rstrip()} … ({len(text) - most:,} more characters)"
    for line in _wrapped(f"{name}: {shown}" if name else shown, room):
        yield line, colour


def _wrapped(text: str, room: int) -> list[str]:
    """Lines of at most ``room`` columns, of which a Chinese character takes two."""
    from rich.console import Console
    from rich.text import Text

    console = Console(width=room, force_terminal=False)
    lines = Text(visible(text).expandtabs(4)).wrap(console, room)
    return [line.plain.rstrip() for line in lines]


def _painted(line: Line, colour: bool, room: int = 0) -> str:
    """A line filled up to ``room`` columns, in its colour where there is one to be."""
    from rich.cells import cell_len

    text, paint = line
    filled = " " * max(room - cell_len(text), 0)
    return f"{paint}{text}{PLAIN}{filled}" if colour and paint and text else text + filled
