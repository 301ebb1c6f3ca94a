"""Rows looked at by several processes come back in order and as by one."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from datakit import workers
from datakit.dedup.look import Wanted, look_at, look_at_block, look_at_rows
from datakit.layout import peek_items
from datakit.workers import in_order, num_workers
from registry import blocks
from registry.blocks import Block, Piece, read_blocks, rows_of_block
from registry.errors import StoppedError, UsageError
from registry.rows import BadRow, Row
from tests.conftest import REPOSITORY


def test_as_many_workers_as_asked_for_or_as_are_worth_it(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    (tmp_path / "a").write_bytes(b"12345")
    file = str(tmp_path / "a")
    assert num_workers(3, []) == 3
    assert num_workers(0, [file, "-", "s3://bucket/key"], worth=10) == 1
    assert num_workers(0, [file, file], worth=10) == workers.MOST_WORKERS


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
    rows = [Row("a", 1, {"t": "x"}), Row("a", 2, {"t": "y" * blocks.BLOCK_SIZE}), Row("a", 3, {}), Row("b", 1, {})]
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
    head, again = peek_items(iter(items))
    assert [row.number for row in head] == [1, 2]
    assert [*again] == items


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_workers_end_with_the_process_that_started_them(tmp_path: Path):
    (tmp_path / "in.jsonl").write_bytes(b'{"a":"' + b"x" * 50 + b'"}\n')
    code = (
        "import os, sys\n"
        "from datakit.dedup.look import Wanted\n"
        "from datakit.dedup.look import look_at\n"
        "from registry.blocks import read_blocks\n"
        "def items():\n"
        "    while True:\n"
        "        yield from read_blocks(sys.argv[1:])\n"
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
        [sys.executable, str(script), str(tmp_path / "in.jsonl")],
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


def _numbers(kill: str = "") -> Callable[[Piece], list[int]]:
    """What looks at blocks: the numbers of their rows."""

    def look(item: Piece) -> list[int]:
        if kill and isinstance(item, Block) and kill.encode() in item.data:
            os._exit(9)
        rows = rows_of_block(item) if isinstance(item, Block) else item
        return [row.number for row in rows]

    return look


def test_a_killed_worker_is_told_and_how_to_do_with_less(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(blocks.read_blocks, "__kwdefaults__", {"size": 20})
    (tmp_path / "a.jsonl").write_bytes(b'{"a":1}\n' * 50 + b'{"b":1}\n' + b'{"a":1}\n' * 50)
    looking = in_order(read_blocks([tmp_path / "a.jsonl"]), _numbers, ('"b"',), 2)
    with closing(looking), pytest.raises(StoppedError, match="--workers 1"):
        list(looking)


def test_only_blocks_that_lie_in_files_are_sent(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(workers, "ProcessPoolExecutor", None)  # would fail
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a":1}\n{"a":2}\n'))
    (tmp_path / "b.csv").write_text("a\n1\n2\n")
    looking = in_order(read_blocks([tmp_path / "a.jsonl.gz", tmp_path / "b.csv"]), _numbers, (), 2)
    assert [found for _, found in looking] == [[1, 2], [1, 2]]


def test_a_block_is_read_again_where_it_lies(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a":1}\n{"a":2}\n')
    (block,) = (item for item in read_blocks([file]) if isinstance(item, Block))
    place = block.place()
    assert place is not None
    again = place.read()
    assert (again.number, again.offset, again.data) == (1, 3, b'{"a":1}\n{"a":2}\n')
    file.write_bytes(b'{"a":3}\n')
    with pytest.raises(UsageError, match="changed while it was read: it shrank"):
        place.read()
    file.unlink()
    with pytest.raises(UsageError, match="it was removed"):
        place.read()


def test_a_block_that_cannot_be_read_again_is_an_error_and_no_empty_one(tmp_path: Path, monkeypatch):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a":1}\n' * 4)
    (block,) = (item for item in read_blocks([file]) if isinstance(item, Block))
    place = block.place()
    assert place is not None
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 5), at))
    assert place.read().data == b'{"a":1}\n' * 4  # what comes in pieces is put together

    def fails(fd: int, size: int, at: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fails)
    with pytest.raises(UsageError, match="Input/output error"):
        place.read()
    monkeypatch.setattr(os, "pread", lambda fd, size, at: b"")
    with pytest.raises(UsageError, match="32 bytes are not there any more at 0"):
        place.read()
