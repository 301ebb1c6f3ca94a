"""Rows looked at by several processes come back in order and as by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from datakit.dedup import look, workers
from datakit.dedup.look import Wanted, head_of, look_at_block, look_at_rows
from datakit.dedup.workers import look_at, num_workers
from registry import blocks
from registry.blocks import Block, read_blocks
from registry.rows import BadRow, Row
from tests.conftest import REPOSITORY


def test_as_many_workers_as_asked_for_or_as_are_worth_it(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert num_workers(3, 0) == 3
    assert num_workers(0, workers.WORTH_BYTES - 1) == 1
    assert num_workers(0, workers.WORTH_BYTES) == workers.MOST_WORKERS


def test_several_processes_give_what_one_gives(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(blocks.read_blocks, "__kwdefaults__", {"size": 400})
    rows = [orjson.dumps({"instruction": f"q{n % 50}", "output": f"some words {n % 70} here"}) for n in range(150)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(rows) + b"\nno\n")
    (tmp_path / "b.csv").write_text("instruction,output\nq1,a\n")
    (tmp_path / "c.jsonl").write_bytes(rows[0])
    files = [tmp_path / name for name in ("a.jsonl", "b.csv", "c.jsonl")]
    wanted = Wanted(key=True)
    one, two = ([*look_at(read_blocks(files), wanted, count)] for count in (1, 2))
    assert len(one) > 10
    assert one == two


def test_rows_of_other_containers_come_in_batches_of_one_file():
    rows = [Row("a", 1, {"t": "x"}), Row("a", 2, {"t": "y" * workers.MOST_BYTES}), Row("a", 3, {}), Row("b", 1, {})]
    found = [*look_at(iter(rows), Wanted(key=True))]
    assert [(batch.file, batch.numbers) for batch in found] == [("a", [1, 2]), ("a", [3]), ("b", [1])]


def test_a_batch_holds_lines_keys_and_what_is_bad():
    batch = look_at_block(Block("a", 4, 0, b' {"a": 1} \n\n[]\n{"a": 1.0}\r\n{"a"'), Wanted(key=True))
    assert batch.numbers == [4, 6, 7, 8]
    assert batch.lines == [b'{"a": 1}', b"", b'{"a": 1.0}', b""]
    assert [key is None for key in batch.keys] == [False, True, False, True]
    assert {row: bad.reason for row, bad in batch.bad.items()} == {
        1: "a row must be a JSON object, this is an array",
        3: "not JSON: the file ends in the middle of this row",
    }
    found = look_at_rows("a", [Row("a", 1, {"n": float("nan")}), BadRow("a", 2, "why", "raw")], Wanted())
    assert (found.lines, [*found.bad], dict(found.changes[0])) == ([b'{"n":null}', b""], [1], found.changes[0])


def test_the_head_of_blocks_is_read_without_losing_any():
    items = [
        Block("a", 1, 0, b'{"x":1}\n'),
        Block("a", 2, 8, b'{"text":"t"}\n{"text":"u"}\n'),
        Block("a", 4, 0, b"{}\n"),
    ]
    head, again = head_of(iter(items))
    assert [row.number for row in head] == [1, 2]
    assert [*again] == items


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_workers_end_with_the_process_that_started_them(tmp_path: Path):
    (tmp_path / "in.fifo.jsonl").write_bytes(b'{"a":"' + b"x" * 50 + b'"}\n')
    code = (
        "import os, sys\n"
        "from datakit.dedup.look import Wanted\n"
        "from datakit.dedup.workers import look_at\n"
        "from registry.blocks import Block\n"
        "def items():\n"
        "    while True:\n"
        "        yield Block('a', 1, 0, b'{}\\n')\n"
        "if __name__ == '__main__':\n"
        "    found = look_at(items(), Wanted(key=True), 2)\n"
        "    next(found)\n"
        "    children = open(f'/proc/self/task/{os.getpid()}/children').read().split()\n"
        "    print(*children, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert process.stdout is not None
    children = [int(pid) for pid in process.stdout.readline().split()]
    assert len(children) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in children if Path(f"/proc/{pid}").exists()]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def test_a_killed_worker_is_told_and_how_to_do_with_less():
    from concurrent.futures import Future
    from concurrent.futures.process import BrokenProcessPool

    from registry.errors import StoppedError

    future: Future[look.Batch] = Future()
    future.set_exception(BrokenProcessPool())
    with pytest.raises(StoppedError, match="--workers 1"):
        workers._result(future)
