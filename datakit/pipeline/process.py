"""A trainkit step as a process of its own: started, watched line by line, and stopped the way Ctrl-C would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from registry.errors import Interrupted, from_os_error

# -P: a folder called trainkit or tokenizers beside the pipeline must not be taken for the package of that name.
TRAINKIT = [sys.executable, "-P", "-m", "trainkit.cli"]
LOOK_EVERY_S = 0.1
TAIL_BYTES = 16_384
_STYLING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code (128 + signal where it was killed), and whether we were told to stop."""

    code: int
    interrupted: bool


def run_process(words: Sequence[str], log: Path, stdout: Path, on_line: Callable[[str], None]) -> Ended:
    """Run ``trainkit`` with ``words``; stdout and stderr go to files, each new last line of stderr to ``on_line``.

    An interrupt of ours is passed on to it, and its end waited for. Raises ``UsageError`` where it cannot be started.
    """
    with stdout.open("wb") as out, log.open("wb") as err:
        # In a group of its own, so that Ctrl-C on the terminal reaches it once, from us, and not twice.
        group = 0 if os.name == "posix" else None
        try:
            process = subprocess.Popen(
                [*TRAINKIT, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err, process_group=group
            )
        except OSError as error:
            raise from_os_error(error, "starting trainkit") from error
        try:
            return _wait(process, log, on_line)
        finally:
            if process.poll() is None:  # we leave by an error of our own
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], log: Path, on_line: Callable[[str], None]) -> Ended:
    """Wait for the end; an interrupt is passed on, a second one too, a third kills."""
    interrupts = 0
    shown = ""
    with log.open("rb") as reader:
        while True:
            try:
                code = process.wait(LOOK_EVERY_S)
                return Ended(code if code >= 0 else 128 - code, interrupted=interrupts > 0)
            except subprocess.TimeoutExpired:
                line = last_line(reader)
                if line and line != shown:
                    shown = line
                    on_line(line)
            except (Interrupted, KeyboardInterrupt):
                interrupts += 1
                if interrupts < 3:
                    on_line("stopping …")
                    process.send_signal(signal.SIGINT)
                else:
                    process.kill()


def last_line(reader: IO[bytes]) -> str:
    """The last line of a log that is not empty, without colours."""
    reader.seek(0, os.SEEK_END)
    reader.seek(max(reader.tell() - TAIL_BYTES, 0))
    lines = plain_lines(reader.read())
    return lines[-1] if lines else ""


def tail_of(log: Path, count: int) -> list[str]:
    """The last ``count`` lines of a log that are not empty, without colours."""
    if not log.is_file():
        return []
    with log.open("rb") as reader:
        reader.seek(0, os.SEEK_END)
        reader.seek(max(reader.tell() - TAIL_BYTES, 0))
        return plain_lines(reader.read())[-count:]


def plain_lines(raw: bytes) -> list[str]:
    """Lines as people see them: a bar that redraws itself with carriage returns is as many lines."""
    text = _STYLING.sub("", raw.decode("utf-8", "replace"))
    return [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]
