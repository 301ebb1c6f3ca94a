"""Runs in batches against the fault server, and a server of batches in memory for what no scenario does."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from datakit.augment.answer import Stored
from datakit.augment.batch import Pace
from datakit.augment.batch.desk import Standing
from datakit.augment.batch.dispatch import BatchDispatch
from datakit.augment.batch.notes import Notes, notes_path
from datakit.augment.budget import Budget, Limits
from datakit.augment.dispatch import Outcome, take
from datakit.augment.failures import CallFailed, Kind
from datakit.augment.options import AugmentOptions
from datakit.augment.request import Request
from datakit.augment.run import augment_rows
from datakit.augment.store import AnswerStore
from datakit.outcome import Outcome as Ended
from registry.errors import StoppedError
from tests.conftest import REPOSITORY
from tests.datakit.faults.server import FaultServer

KEY = "sk-planted-4f5e6d7c8b9a"
PROVIDERS = ("openai", "zhipu")
FAST = Pace(quiet_s=0.15, first_look_s=0.1, most_look_s=0.4, lag_s=0.3, patience_s=2.0, outage_s=2.0)
FAST_CODE = f"""
import sys
from functools import partial
import datakit.augment.batch as batch
from datakit.augment.batch import Pace
from datakit.augment.batch.desk import VendorDesk
from datakit.augment.batch.notes import Notes
batch.open_batches = partial(batch.open_batches, pace={FAST!r})
"""
MAIN_CODE = "from datakit.cli import main\nmain()\n"


def seeds(folder: Path, count: int = 6, more: str = "") -> Path:
    """A file of questions with answers."""
    path = folder / "seeds.jsonl"
    rows = [
        {"instruction": f"How is tray number {i} of the oven cleaned?{more}", "output": f"Tray {i}: with warm water."}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def url_of(server: FaultServer, provider: str) -> str:
    return server.zhipu_url if provider == "zhipu" else server.url


def augment(
    folder: Path, server: FaultServer, provider: str = "openai", recipe: str = "paraphrase", **more: Any
) -> Ended:
    """One run on ``folder/seeds.jsonl``; keys come from the environment."""
    given: dict[str, Any] = {"n": 2, "near": None, **more}
    options = AugmentOptions(
        recipe=recipe, model="m1", provider=provider, base_urls=(url_of(server, provider),), batch=True, **given
    )
    return augment_rows([folder / "seeds.jsonl"], folder / "out.jsonl", options)


def stops(folder: Path, server: FaultServer, **more: Any) -> str:
    """What a run says that stops before it made a row."""
    with pytest.raises(StoppedError) as raised:
        augment(folder, server, **more)
    return raised.value.what.removeprefix("no row was made: ")


def told(ended: Ended) -> dict[str, Any]:
    return ended.as_json()


def batches_made(server: FaultServer) -> int:
    """Batches that the server was asked to make, and made."""
    return sum(s.action == "POST" and s.path.endswith("/batches") and s.status == 200 for s in server.stats.others)


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def running(
    folder: Path, server: FaultServer, code: str = "", provider: str = "openai"
) -> Iterator[subprocess.Popen[str]]:
    """`datakit augment --batch` in a process of its own, with ``code`` run before; killed at the end."""
    command = [sys.executable, "-c", FAST_CODE + code + MAIN_CODE, "augment", "seeds.jsonl", "-o", "out.jsonl"]
    command += ["--recipe", "paraphrase", "--n", "2", "--near", "off", "--model", "m1", "--batch"]
    command += ["--provider", provider, "--base-url", url_of(server, provider)]
    keys = {"OPENAI_API_KEY": KEY, "ZHIPUAI_API_KEY": KEY}
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **keys, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether ``condition`` comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


# ---- without a server -----------------------------------------------------------------------------------------------


def request(number: int = 0, **more: Any) -> Request:
    given: dict[str, Any] = {"family": "https://a.example/v1", "model": "m1", **more}
    return Request(messages=(("user", f"Question {number}?"),), **given)


def body(text: str, tokens: tuple[int, int] = (10, 5)) -> dict[str, Any]:
    """A response's body, as JSON holds it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return {"model": "m1", "choices": [choice], "usage": usage}


class Memory:
    """A desk whose server is this object: batches complete at the second look. Whatever a test sets goes otherwise."""

    _numbers = itertools.count()  # two servers name no batch alike
    name, url, endpoint = "a.example", "https://a.example/v1", "/v1/chat/completions"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, tuple[str, str]] = {}  # id -> tag and input
        self.looks: dict[str, int] = {}
        self.lists = 0
        self.asked: list[list[str]] = []  # the questions of each batch that was made
        self.before_create: Callable[[], None] = lambda: None
        self.after_create: Callable[[], None] = lambda: None
        self.fails: Callable[[list[dict[str, Any]]], tuple[str, str] | None] = lambda lines: None
        self.says: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda line: {
            "response": {"status_code": 200, "body": body("Yes: " + line["body"]["messages"][0]["content"])}
        }
        self.looking: Callable[[str], None] = lambda batch: None

    def upload(self, file: IO[bytes], name: str) -> str:
        found = f"file-{len(self.files)}"
        self.files[found] = file.read()
        return found

    def create(self, file: str, tag: str) -> Standing:
        self.before_create()
        found = f"batch-{next(self._numbers)}"
        self.batches[found] = (tag, file)
        self.asked.append([line["body"]["messages"][0]["content"] for line in self._lines(found)])
        self.after_create()
        return Standing(found, "validating")

    def look(self, batch: str) -> Standing:
        self.looking(batch)
        if batch not in self.batches:
            raise CallFailed(Kind.REFUSED, "no such batch", status=404)
        self.looks[batch] = self.looks.get(batch, 0) + 1
        fault = self.fails(self._lines(batch))
        if fault is not None:
            return Standing(batch, "failed", faults=(fault,))
        if self.looks[batch] < 2:
            return Standing(batch, "in_progress")
        return Standing(batch, "completed", f"out-{batch}", done=len(self._lines(batch)))

    def find(self, tag: str, file: str) -> Standing | None:
        self.lists += 1
        found = next((name for name, made in self.batches.items() if made == (tag, file)), None)
        return self.look(found) if found is not None else None

    def fetch(self, file: str, to: IO[bytes]) -> None:
        if file in self.files:
            to.write(self.files[file])
        else:
            for line in self._lines(file.removeprefix("out-")):
                said = self.says(line)
                if said is not None:
                    to.write(json.dumps({"custom_id": line["custom_id"], **said}).encode() + b"\n")
        to.seek(0)

    def _lines(self, batch: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files[self.batches[batch][1]].splitlines()]


class Bench:
    """A dispatch over desks in memory, with its store and notes in ``folder``."""

    def __init__(
        self, folder: Path, *desks: Memory, limits: Limits | None = None, pace: Pace = FAST, attempts: int = 6
    ):
        self.store = AnswerStore(folder / "a.store.sqlite")
        self.store.ensure_writable()
        self.notes = Notes(notes_path(self.store.path))
        self.budget = Budget(limits or Limits(), None, time.monotonic())
        self.dispatch = BatchDispatch(
            desks, self.store, self.notes, self.budget, provider="openai", attempts=attempts, pace=pace
        )

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self.dispatch.close()
        self.store.close()

    def submit(self, *numbers: int) -> None:
        for number in numbers:
            self.dispatch.submit(request(number))

    def outcomes(self, count: int, seconds: float = 20.0) -> dict[str, Outcome]:
        """The next ``count`` outcomes by the question they are for."""
        found: dict[str, Outcome] = {}
        end = time.monotonic() + seconds
        while len(found) < count and time.monotonic() < end:
            for outcome in take(self.dispatch.outcomes, 0.1):
                question = outcome.request.messages[-1][1]
                assert question not in found
                found[question] = outcome
        assert len(found) == count
        return found


def text_of(stored: Stored | None) -> str:
    assert stored is not None
    return str(json.loads(stored.body)["choices"][0]["message"]["content"])
