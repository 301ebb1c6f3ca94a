"""Seeds and runs for tests of the whole engine, in this process or in one of their own."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from datakit.augment.options import AugmentOptions
from datakit.augment.run import augment_rows
from datakit.outcome import Outcome

KEY = "sk-planted-0f1e2d3c4b5a69788796a5b4c3d2e1f0"
PLANTS = ("oak", "elm", "ash", "fig", "yew", "fir", "box", "bay", "tea", "hop", "rye", "oat")


def seeds(count: int, language: str = "en", *, start: int = 0) -> list[dict[str, Any]]:
    """Rows of one question and its answer, each about another plant in another year."""
    rows = []
    for number in range(start, start + count):
        plant, year = PLANTS[number % len(PLANTS)], 1700 + number
        if language == "zh":
            asked, said = f"{year} 年的 {plant} 树应该怎样浇水？", f"在 {year} 年，人们每周早晨给 {plant} 树浇一次水。"
        else:
            asked = f"How should I water the {plant} tree that was planted in {year}?"
            said = f"Water the {plant} tree of {year} once a week in the morning, and less in winter."
        rows.append({"id": number, "instruction": asked, "input": "", "output": said})
    return rows


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Rows as JSON lines."""
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def read(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; none where there is no file."""
    path = Path(path)
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def run(
    url: str, src: Sequence[str | Path] = ("seeds.jsonl",), out: str | Path = "more.jsonl", **options: Any
) -> Outcome:
    """``augment_rows`` with few workers, and without the filter of near duplicates, which small sets of rows trip."""
    rest = {name: options.pop(name) for name in ("rejects", "html") if name in options}
    given = {"recipe": "think", "model": "m", "base_urls": (url,), "workers": 16, "near": None, **options}
    return augment_rows(src, out, AugmentOptions(**given), **rest)


def rejects(out: str | Path = "more.jsonl") -> list[dict[str, Any]]:
    """What was rejected."""
    return read(f"{out}.rejects.jsonl")


# ---- runs in a process of their own ----------------------------------------------------------------------------------

# One process imports all that a run needs, and each run is a fork of it: two seconds less for each.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["pytest", "openai", "httpx2", "datakit.cli", "datakit.augment.show", "datakit.augment.providers.openai"]
)


@dataclass(frozen=True)
class Started:
    """A `datakit` command at work, with what it says going to two files."""

    process: Any
    out_file: Path
    err_file: Path

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    @property
    def out(self) -> str:
        return self.out_file.read_text("utf-8")

    @property
    def err(self) -> str:
        return self.err_file.read_text("utf-8")

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.process.pid, number)

    def wait(self, timeout_s: float = 60.0) -> int:
        """The exit code; below 0 the signal that ended it."""
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, "it did not end in time"
        return self.process.exitcode


@contextmanager
def started(*arguments: object, most_bytes: int | None = None, **environment: str) -> Iterator[Started]:
    """``datakit ARGUMENTS`` in this folder with this environment; killed at the end, if it is still there.

    ``most_bytes`` is how large a file may become.
    """
    with TemporaryDirectory() as said:
        out, err = Path(said) / "out", Path(said) / "err"
        given = (
            list(map(str, arguments)),
            str(Path.cwd()),
            {**os.environ, **environment},
            str(out),
            str(err),
            most_bytes,
        )
        process = _CONTEXT.Process(target=_run_command, args=given)
        process.start()
        try:
            yield Started(process, out, err)
        finally:
            process.kill()
            process.join()


def _run_command(
    arguments: list[str], folder: str, environment: dict[str, str], out: str, err: str, most_bytes: int | None
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), number)
    if most_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    sys.argv = ["datakit", *arguments]
    from datakit.cli import main

    main()


def augment(
    url: str, *more: object, src: str = "seeds.jsonl", out: str = "more.jsonl", recipe: str = "think"
) -> list[str]:
    """The command line of a run, without the filter of near duplicates."""
    base = ["augment", src, "-o", out, "--recipe", recipe, "--model", "m", "--base-url", url, "--near", "off"]
    return [*base, *map(str, more)]
