"""A two-layer model, three small datasets, and trainkit run as a user runs it: in this process, or in one to be stopped."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import runpy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
import yaml

from registry.errors import StoppedError
from tests.console import Ran, console
from trainkit.cli import main

NAMES = ("Ardh", "Belo", "Corran", "Dunmor", "Eilean", "Fidra", "Girdle", "Hestan", "Inch", "Jura", "Killan", "Lismore")
QUESTIONS = [
    row
    for number, name in enumerate(NAMES, start=3)
    for row in (
        {
            "instruction": f"How many steps has the lighthouse of {name}?",
            "input": "",
            "output": f"The lighthouse of {name} has {7 * number} steps"
            + ", and a rope along the wall" * (number % 3)
            + ".",
        },
        {
            "instruction": "Who keeps the lamp?",
            "input": f"Place: {name}",
            "output": f"At {name} the lamp is kept by two sisters.",
        },
    )
]
PAIRS = [
    {
        "instruction": f"Is the path to {name} safe at night?",
        "input": "",
        "chosen": f"Take a lantern: the path to {name} is steep" + " and wet" * (number % 4) + ".",
        "rejected": "No idea." if number % 2 else f"Yes, run as fast as you can to {name}.",
    }
    for number, name in enumerate(NAMES)
]
PAGES = [
    f"The light of {name} turns once in {number + 4} seconds. On clear nights it is seen from every boat between the two capes, "
    f"and the keeper writes down each ship that answers. 灯塔很高。"
    for number, name in enumerate(NAMES)
]
DATASET_INFO = {
    "questions": {"file_name": "questions.jsonl"},
    "pairs": {
        "file_name": "pairs.jsonl",
        "ranking": True,
        "columns": {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"},
    },
    "pages": {"file_name": "pages.txt", "columns": {"prompt": "text"}},
    "lost": {"file_name": "nowhere.jsonl"},
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command sends the log to its own stderr; the next test gets it back."""
    log = logging.getLogger("tunekit")
    before = (list(log.handlers), log.level, log.propagate)
    yield
    log.handlers[:], log.propagate = before[0], before[2]
    log.setLevel(before[1])


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``dataset_info.json`` with ``questions`` (24 chats), ``pairs`` (12 preferences) and ``pages`` (12 texts)."""
    return write_data(tmp_path_factory.mktemp("data"))


def write_data(folder: Path) -> Path:
    """The datasets above into ``folder``, which is made."""
    folder.mkdir(exist_ok=True)
    for name, rows in (("questions", QUESTIONS), ("pairs", PAIRS)):
        (folder / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    (folder / "pages.txt").write_text("\n".join(PAGES) + "\n", "utf-8")
    (folder / "dataset_info.json").write_text(json.dumps(DATASET_INFO), "utf-8")
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    """A Qwen2 of two layers, 32 wide, with a byte-level BPE of about 400 tokens, as ``trainkit init`` makes it."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny", data_folder)


def write_model(folder: Path, data_folder: Path) -> Path:
    """The model of ``model_folder`` into ``folder``, its tokenizer trained on the rows of ``data_folder``."""
    from trainkit.init import init_model
    from trainkit.init_plan import plan_model

    plan = plan_model(
        "qwen2", "tiny", vocab_size=400, hidden_size=32, layers=2, heads=2, max_length=128, template="qwen3_nothink"
    )
    rows = [str(data_folder / name) for name in ("questions.jsonl", "pairs.jsonl", "pages.txt")]
    init_model(folder, rows, plan, seed=1, force=False)
    return folder


Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(model_folder: Path, data_folder: Path, tmp_path: Path) -> Settings:
    """``settings(stage="dpo", dataset="pairs")``: the keys of a short full sft run into ``tmp_path/out``, with changes."""

    def keys(**changes: Any) -> dict[str, Any]:
        return {
            "model_name_or_path": str(model_folder),
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "full",
            "template": "qwen3_nothink",
            "dataset": "questions",
            "dataset_dir": str(data_folder),
            "cutoff_len": 64,
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 2,
            "max_steps": 10,
            "learning_rate": 0.001,
            "logging_steps": 1,
            "save_strategy": "no",
            "use_cpu": True,
            **changes,
        }

    return keys


@pytest.fixture
def config_file(settings: Settings, tmp_path: Path) -> Callable[..., Path]:
    """The same keys as a YAML file; ``name`` chooses another file than ``run.yaml``."""

    def write(*, name: str = "run.yaml", **changes: Any) -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(settings(**changes)), "utf-8")
        return path

    return write


@pytest.fixture
def trainkit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ran]:
    """``trainkit(VERB, …)`` within ``tmp_path``, in this process."""
    return console("trainkit", main, monkeypatch, capfd, tmp_path)


@pytest.fixture
def stop_after_five(trainkit: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``stop_after_five(config)``: a run that dies before its sixth step, as if the machine had gone."""

    def stop(path: Path, *overrides: str) -> None:
        from trainkit.step import optimizer_step as step

        count = [0]

        def dies(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] > 5:
                raise StoppedError("the machine has gone")
            return step(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr("trainkit.loop.optimizer_step", dies)
            assert trainkit("run", path, *overrides).code == 3

    return stop


@dataclass(frozen=True)
class Launched:
    """A command under way in a process of its own."""

    process: Any
    stdout: Path
    stderr: Path

    def wait_for(self, what: Callable[[], object], *, timeout_s: float = 60) -> None:
        """Until ``what()`` is true; fails with the command's stderr when it ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not what():
            assert self.process.is_alive(), self.stderr.read_text()
            assert time.monotonic() < deadline, self.stderr.read_text()
            time.sleep(0.01)

    def wait_for_step(self) -> None:
        """Until the loop is about to take a step; signals are its own from there on."""
        self.wait_for(lambda: self.stderr.exists() and "(about to step)" in self.stderr.read_text())

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ended(self, *, timeout_s: float = 60) -> Ran:
        """The command's end; a process killed by signal N has the code -N."""
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, "the command does not end"
        return Ran(self.process.exitcode, self.stdout.read_text(), self.stderr.read_text())


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    """``launch("run", "run.yaml", pause_s=0.1)``: the command in a real process, to be met by real signals.

    The processes are forked off a server that has torch loaded, so that each begins at once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.trainkit.preload"])
    script = str(Path(__file__).with_name("slow_command.py"))
    launched: list[Launched] = []

    def start(*arguments: object, pause_s: float = 0.0, stdin: Path | None = None) -> Launched:
        folder = tmp_path / f"process-{len(launched)}"
        folder.mkdir()
        streams = {"stdin": stdin and str(stdin), "stdout": str(folder / "stdout"), "stderr": str(folder / "stderr")}
        given = {"arguments": [str(a) for a in arguments], "pause_s": pause_s, **streams}
        process = context.Process(target=runpy.run_path, args=(script, {"GIVEN": given}), daemon=True)
        process.start()
        launched.append(Launched(process, folder / "stdout", folder / "stderr"))
        return launched[-1]

    yield start
    for each in launched:
        each.process.kill()
        each.process.join()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's trainer_log.jsonl."""
    return [json.loads(line) for line in (folder / "trainer_log.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture
def trainer_log() -> Callable[[Path], list[dict[str, Any]]]:
    """``trainer_log(folder)``: the lines of a run's trainer_log.jsonl."""
    return read_log
