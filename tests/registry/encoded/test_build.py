"""The cache of encoded rows: the same however the rows lie, never made twice, and never trusted when damaged."""

from __future__ import annotations

import errno
import gzip
import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from registry import fast_tokenizers
from registry.encoded import build, work
from registry.encoded.build import encoded_rows
from registry.encoded.chunks import Chunk
from registry.encoded.spec import contents_of
from registry.encoded.work import Encoding
from registry.errors import StoppedError, UsageError
from registry.fast_tokenizers import PlainCoder
from tests.conftest import run_python
from tests.registry.encoded.conftest import MakeSpec, alpaca_rows, listed, write_lines

ROWS = alpaca_rows(40)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> list[Chunk]:
    """Every chunk that is encoded, in order."""
    made: list[Chunk] = []
    shard = Encoding.shard

    def noted(self: Encoding, chunk: Chunk) -> Any:
        made.append(chunk)
        return shard(self, chunk)

    monkeypatch.setattr(Encoding, "shard", noted)
    return made


def places(rows: Any) -> list[tuple[str, int]]:
    return [(Path(file).name, row) for file, row in map(rows.place, range(len(rows)))]


# --- the same rows, whatever they lie in ------------------------------------------------------------------------------


def as_array(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def as_parquet(path: Path, rows: list[Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # a column is of one type: rows whose answer is a number stand without one
    whole = [{**row, "output": text if isinstance(text := row["output"], str) else None} for row in rows]
    pq.write_table(pa.Table.from_pylist(whole), path, row_group_size=7)
    return path


def as_gzip(path: Path, rows: list[Any]) -> Path:
    path.write_bytes(gzip.compress(write_lines(path.with_name("plain.tmp"), rows).read_bytes()))
    return path


WRITERS: dict[str, Callable[[Path, list[Any]], Path]] = {
    "a.jsonl": write_lines, "a.json": as_array, "a.parquet": as_parquet, "a.jsonl.gz": as_gzip,
}  # fmt: skip


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", WRITERS)
def test_small_chunks_of_any_container_hold_the_ids_of_one_large_one(
    spec: MakeSpec, root: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = encoded_rows(spec(WRITERS[name](tmp_path / name, ROWS)), root)
    assert len(made.shards) > 4
    monkeypatch.undo()
    whole = encoded_rows(spec(write_lines(tmp_path / "whole.jsonl", ROWS)), tmp_path / "other")
    assert len(whole.shards) == 1
    assert [one[:2] for one in listed(made)] == [one[:2] for one in listed(whole)]
    assert made.unsound().tolist() == whole.unsound().tolist()
    assert places(made) == [(name, number) for number in range(1, 41)]
    assert made.complete


@pytest.mark.usefixtures("small_chunks")
def test_several_files_are_read_one_after_another(spec: MakeSpec, root: Path, tmp_path: Path, caplog: Any) -> None:
    files = [write_lines(tmp_path / "b.jsonl", ROWS[:14]), as_parquet(tmp_path / "a.parquet", ROWS[14:15])]
    files += [write_lines(tmp_path / "none.jsonl", []), as_array(tmp_path / "c.json", ROWS[15:])]
    made = encoded_rows(spec(*files), root)
    whole = encoded_rows(spec(write_lines(tmp_path / "whole.jsonl", ROWS)), root)
    assert listed(made) == listed(whole)
    wanted = [("b.jsonl", n) for n in range(1, 15)] + [("a.parquet", 1)] + [("c.json", n) for n in range(1, 26)]
    assert places(made) == wanted
    assert f"there is no row in {tmp_path / 'none.jsonl'}" in caplog.text


@pytest.mark.usefixtures("small_chunks")
def test_two_workers_make_what_one_makes(
    spec: MakeSpec, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_lines(tmp_path / "a.jsonl", ROWS)
    alone = encoded_rows(spec(rows), tmp_path / "alone")
    monkeypatch.setattr(build, "WORTH_BYTES", 0)
    monkeypatch.setattr(build, "num_workers", lambda asked, files: 2)
    together = encoded_rows(spec(rows), root, workers=2)
    assert len(together.shards) == len(alone.shards) > 4
    assert listed(together) == listed(alone)
    assert list(together.rejects()) == list(alone.rejects())


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_without_rows_is_refused(spec: MakeSpec, root: Path, tmp_path: Path, name: str) -> None:
    rows = [] if "parquet" not in name else ROWS[:1]
    file = WRITERS[name](tmp_path / name, rows)
    if rows:
        import pyarrow.parquet as pq

        pq.write_table(pq.read_table(file)[:0], file)
    for _ in range(2):
        with pytest.raises(UsageError, match="there is no row in it: the file is empty"):
            encoded_rows(spec(file, write_lines(tmp_path / "none.jsonl", [])), root)


def test_few_bytes_are_not_worth_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(write_lines(tmp_path / "a.jsonl", ROWS))
    monkeypatch.setattr(build.os, "sched_getaffinity", lambda _: range(8), raising=False)
    assert build.num_workers(4, [file]) == 1
    monkeypatch.setattr(build, "WORTH_BYTES", 1)
    assert [build.num_workers(asked, [file]) for asked in (None, 1, 4, 99)] == [8, 1, 4, 8]


# --- once -------------------------------------------------------------------------------------------------------------


def test_a_second_call_encodes_nothing(spec: MakeSpec, root: Path, tmp_path: Path, shards: list[Chunk]) -> None:
    file = write_lines(tmp_path / "a.jsonl", ROWS)
    first = encoded_rows(spec(file), root)
    assert len(shards) == 1
    again = encoded_rows(spec(file), root)
    moved = encoded_rows(spec(write_lines(tmp_path / "moved.jsonl", ROWS)), root)
    assert len(shards) == 1
    assert listed(again) == listed(moved) == listed(first)
    assert {file for file, _ in places(moved)} == {"moved.jsonl"}
    assert {Path(reject["file"]).name for reject in moved.rejects()} == {"moved.jsonl"}


def test_another_setting_has_a_folder_of_its_own(
    spec: MakeSpec, root: Path, tmp_path: Path, shards: list[Chunk]
) -> None:
    file = write_lines(tmp_path / "a.jsonl", ROWS)
    folders = {
        encoded_rows(spec(file, **changes), root).folder for changes in ({}, {"template": "empty"}, {"strict": True})
    }
    assert len(folders) == len(shards) == 3


@pytest.mark.usefixtures("small_chunks")
def test_a_limit_encodes_a_prefix_and_a_call_without_goes_on_from_there(
    spec: MakeSpec, root: Path, tmp_path: Path, shards: list[Chunk]
) -> None:
    file = write_lines(tmp_path / "a.jsonl", ROWS)
    some = encoded_rows(spec(file), root, limit=6)
    held = len(some)
    assert 6 <= held < 20
    assert not some.complete
    assert sum(len(shard.rows) for shard in some.shards[:-1]) < 6
    assert len(shards) == len(some.shards)
    assert len(encoded_rows(spec(file), root, limit=held)) == held
    assert len(shards) == len(some.shards)
    whole = encoded_rows(spec(file), root)
    assert listed(whole)[:held] == listed(some)
    assert (len(whole), whole.complete) == (40, True)
    assert len(shards) == len(set(shards)) == len(whole.shards)
    assert len(encoded_rows(spec(file), root, limit=6)) == 40
    assert listed(whole) == listed(encoded_rows(spec(file), tmp_path / "fresh"))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", ["a.json", "a.parquet"])
def test_a_file_without_known_places_goes_on_too(
    spec: MakeSpec, root: Path, tmp_path: Path, shards: list[Chunk], name: str
) -> None:
    file = WRITERS[name](tmp_path / name, ROWS)
    fresh = encoded_rows(spec(file), tmp_path / "fresh")
    shards.clear()
    encoded_rows(spec(file), root, limit=9)
    assert listed(encoded_rows(spec(file), root)) == listed(fresh)
    assert len(shards) == len(set(shards)) == len(fresh.shards) + 1  # the one after the end is found to be none


def test_the_end_of_one_file_is_not_that_of_the_next(
    spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of the next file are asked for while those after the first one's end are still out."""
    files = [as_parquet(tmp_path / f"{name}.parquet", ROWS[:2]) for name in "ab"]
    monkeypatch.setattr(build, "is_small", lambda file: False)

    def submit(chunk: Chunk) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result({"file": chunk.file, "index": chunk.index} if chunk.index < 6 else None)
        return future

    found = [entry for entry in build._in_order(spec(*files), submit, 3, {(0, 0), (1, 4)}) if entry]
    wanted = [(0, index) for index in range(1, 6)] + [(1, index) for index in (0, 1, 2, 3, 5)]
    assert [(entry["file"], entry["index"]) for entry in found] == wanted


# --- killed in the middle ---------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from registry.encoded import chunks, work
from registry.encoded.build import encoded_rows
from registry.encoded.spec import EncodeSpec
from registry.datasets import Layout
from registry.render import RenderRules
from functools import partial
from pathlib import Path
from registry.blocks import read_blocks
chunks.ONE_CHUNK, chunks.PIECES, chunks.read_blocks = 10, 1, partial(read_blocks, size=300)
write, left = work.write_shard, [3]
def dies(*given):
    left[0] -= 1
    if not left[0]:
        (Path(given[0]).parent / ".0000-000009.arrow.tmp-1-2").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return write(*given)
work.write_shard = dies
encoded_rows(EncodeSpec("turns", (sys.argv[1],), Layout(), sys.argv[2], "chatml", RenderRules()), Path(sys.argv[3]))
"""


@pytest.mark.usefixtures("small_chunks")
def test_what_was_encoded_before_a_kill_is_kept(
    spec: MakeSpec, root: Path, tmp_path: Path, tokenizer_folder: Path, shards: list[Chunk]
) -> None:
    file = write_lines(tmp_path / "a.jsonl", ROWS)
    assert run_python(KILLED, file, tokenizer_folder, root).returncode == -signal.SIGKILL
    fresh = encoded_rows(spec(file), tmp_path / "fresh")
    shards.clear()
    made = encoded_rows(spec(file), root)
    assert listed(made) == listed(fresh)
    assert [chunk.index for chunk in shards] == list(range(2, len(fresh.shards)))
    assert not [path.name for path in made.folder.iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("left", [b'{"file": 0, "ind', b"\0\0\0\0", b"5\n", b'{"file": 0}garbled\n'])
def test_a_line_of_the_journal_that_was_cut_off_is_forgotten(
    spec: MakeSpec, root: Path, tmp_path: Path, shards: list[Chunk], left: bytes
) -> None:
    file = write_lines(tmp_path / "a.jsonl", ROWS)
    folder = encoded_rows(spec(file), root, limit=9).folder
    held = len(shards)
    with (folder / "journal.jsonl").open("ab") as journal:
        journal.write(left)
    fresh = encoded_rows(spec(file), tmp_path / "fresh")
    shards.clear()
    assert listed(encoded_rows(spec(file), root)) == listed(fresh)
    assert [chunk.index for chunk in shards] == list(range(held, len(fresh.shards)))
    shards.clear()
    again = encoded_rows(spec(file), root)
    assert (again.complete, len(again), shards) == (True, 40, [])


@pytest.mark.usefixtures("small_chunks")
def test_shards_that_the_journal_does_not_know_are_removed(spec: MakeSpec, root: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", ROWS)
    folder = encoded_rows(spec(file), root, limit=9).folder
    for name in ("0000-000077.arrow", "0000-000077.rejects.jsonl", ".0000-000003.arrow.tmp-9-ab"):
        (folder / name).write_bytes(b"left over")
    made = encoded_rows(spec(file), root)
    assert len(made) == 40
    assert not [p.name for p in folder.iterdir() if "77" in p.name or p.name.startswith(".")]


@pytest.mark.usefixtures("small_chunks")
def test_a_full_disk_keeps_what_was_done(
    spec: MakeSpec, root: Path, tmp_path: Path, shards: list[Chunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_lines(tmp_path / "a.jsonl", ROWS)
    write, count = work.write_shard, [0]

    def full(*given: Any) -> Any:
        count[0] += 1
        if count[0] > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*given)

    with monkeypatch.context() as patch:
        patch.setattr(work, "write_shard", full)
        with pytest.raises(StoppedError, match="the disk is full while writing encoded rows") as caught:
            encoded_rows(spec(file), root)
    assert caught.value.exit_code == 3
    assert "run the same command again" in str(caught.value)
    shards.clear()
    made = encoded_rows(spec(file), root)
    assert [chunk.index for chunk in shards] == list(range(3, len(made.shards)))
    assert listed(made) == listed(encoded_rows(spec(file), tmp_path / "fresh"))


# --- several at once --------------------------------------------------------------------------------------------------


def test_of_two_at_once_one_encodes_and_the_other_waits_and_shares(
    spec: MakeSpec, root: Path, tmp_path: Path, tokenizer_folder: Path, shards: list[Chunk], caplog: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = write_lines(tmp_path / "a.jsonl", ROWS)
    caplog.set_level(logging.INFO, "tunekit")
    begun, go_on, found = threading.Event(), threading.Event(), []
    begin = build._begin_folder

    def slow(*given: Any) -> None:
        begun.set()
        assert go_on.wait(30)
        begin(*given)

    monkeypatch.setattr(build, "_begin_folder", slow)
    both = [
        threading.Thread(target=lambda: found.append(listed(encoded_rows(spec(file), root, told="mine"))))
        for _ in range(2)
    ]
    for thread in both:
        thread.start()
        assert begun.wait(30)
    while "another run encodes mine; waiting for it" not in caplog.text:
        assert all(thread.is_alive() for thread in both)
    go_on.set()
    for thread in both:
        thread.join(30)
    assert len(shards) == 1
    assert found[0] == found[1] != []


TWO = """
import sys
from pathlib import Path
from registry.datasets import Layout
from registry.encoded.build import encoded_rows
from registry.encoded.spec import EncodeSpec
from registry.encoded.work import Encoding
from registry.render import RenderRules
shard = Encoding.shard
Encoding.shard = lambda self, chunk: print("encoded", flush=True) or shard(self, chunk)
sys.stdin.readline()
print(len(encoded_rows(EncodeSpec("turns", (sys.argv[1],), Layout(), sys.argv[2], "chatml", RenderRules()), Path(sys.argv[3]))))
"""


def test_two_processes_share_one_encoding(root: Path, tmp_path: Path, tokenizer_folder: Path) -> None:
    import sys

    from tests.conftest import REPOSITORY

    file = write_lines(tmp_path / "a.jsonl", ROWS)
    command = [sys.executable, "-c", TWO, str(file), str(tokenizer_folder), str(root)]
    both = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = sorted(process.communicate(timeout=60)[0] for process in both)
    assert told == ["40\n", "encoded\n40\n"]


# --- damaged ----------------------------------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("damage", [truncated, flipped, gone])
@pytest.mark.parametrize("suffix", ["arrow", "rejects.jsonl"])
def test_a_damaged_file_is_told_and_made_again(
    spec: MakeSpec,
    root: Path,
    tmp_path: Path,
    shards: list[Chunk],
    caplog: Any,
    damage: Callable[[Path], None],
    suffix: str,
) -> None:
    file = write_lines(tmp_path / "a.jsonl", ROWS)
    first = encoded_rows(spec(file), root)
    wanted, rejects = listed(first), list(first.rejects())
    name = next(name for path in sorted(first.folder.glob("*.rejects.jsonl")) if (name := path.name.partition(".")[0]))
    damage(first.folder / f"{name}.{suffix}")
    shards.clear()
    again = encoded_rows(spec(file), root)
    assert (listed(again), list(again.rejects())) == (wanted, rejects)
    assert len(shards) == len(again.shards)
    assert "the encoded rows are damaged" in caplog.text
    assert f"{name}.{suffix}" in caplog.text
    assert "the rows are encoded again" in caplog.text


def test_rows_of_another_format_are_never_looked_at(
    spec: MakeSpec, root: Path, tmp_path: Path, shards: list[Chunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_lines(tmp_path / "a.jsonl", ROWS)
    first = encoded_rows(spec(file), root)
    monkeypatch.setattr("registry.encoded.spec.FORMAT_VERSION", 2)
    second = encoded_rows(spec(file), root)
    assert first.folder != second.folder
    assert len(shards) == 2


# --- files that cannot be read, or written ----------------------------------------------------------------------------


def test_a_cache_that_cannot_be_written_is_named(
    spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the tests may be allowed everything: the system's answer is given by hand."""
    file = write_lines(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UsageError, match="opening the cache of encoded rows in"):
        encoded_rows(spec(file), tmp_path / "taken" / "cache")

    def refused(*_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "journal.jsonl")

    monkeypatch.setattr(build, "_begin_folder", refused)
    with pytest.raises(UsageError, match=r"writing encoded rows to .*: Permission denied"):
        encoded_rows(spec(file), tmp_path / "cache")


def test_a_file_that_is_gone_is_named(spec: MakeSpec, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.jsonl.*No such file"):
        encoded_rows(spec(tmp_path / "a.jsonl"), root)


def test_a_compressed_file_that_is_cut_off_is_no_data(spec: MakeSpec, root: Path, tmp_path: Path) -> None:
    file = as_gzip(tmp_path / "a.jsonl.gz", ROWS)
    truncated(file)
    with pytest.raises(UsageError, match=r"a\.jsonl\.gz"):
        encoded_rows(spec(file), root)
    as_gzip(file, ROWS)
    assert len(encoded_rows(spec(file), root)) == 40


def test_a_file_that_changes_before_it_is_read_spoils_no_cache(
    spec: MakeSpec, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are kept under the hash of what the file was; while one waits for the lock it may become another."""
    file = write_lines(tmp_path / "a.jsonl", ROWS)

    def then_changed(files: Any, folder: Path) -> list[str]:
        found = contents_of(files, folder)
        write_lines(file, ROWS[:5])
        return found

    with monkeypatch.context() as patch:
        patch.setattr(build, "contents_of", then_changed)
        with pytest.raises(UsageError, match="the file changed while it was read: it shrank"):
            encoded_rows(spec(file), root)
    assert len(encoded_rows(spec(file), root)) == 5
    write_lines(file, ROWS)
    assert len(encoded_rows(spec(file), root)) == 40


# --- a fast tokenizer that is wrong -----------------------------------------------------------------------------------


class Wrong(PlainCoder):
    """Right for so many texts, then one id off."""

    name = "wrong"
    right_for = 0

    def ids(self, texts: Any) -> list[list[int]]:
        found = super().ids(texts)
        Wrong.right_for -= len(texts)
        return found if Wrong.right_for >= 0 else [[*ids[:-1], 5] for ids in found]

    def counts(self, texts: Any) -> list[int]:
        return list(map(len, self.ids(texts)))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("right_for", [0, 700], ids=["from the start", "later"])
def test_a_fast_tokenizer_that_differs_leaves_no_wrong_id_behind(
    spec: MakeSpec, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, right_for: int
) -> None:
    rows = [{"instruction": f"Question {n}?", "output": f"yes {n}"} for n in range(300)]
    file = write_lines(tmp_path / "a.jsonl", rows)
    wanted = listed(encoded_rows(spec(file), tmp_path / "slow"))
    monkeypatch.setattr(fast_tokenizers, "FAST", {"wrong": Wrong})
    monkeypatch.setattr(fast_tokenizers, "PLAIN_TEXTS", 20)
    monkeypatch.setattr(Wrong, "right_for", right_for)
    made = encoded_rows(spec(file), root)
    assert listed(made) == wanted
    assert ("wrong is no longer used" if right_for else "wrong is not used") in caplog.text
    assert ("the rows are encoded again, by tokenizers alone" in caplog.text) == bool(right_for)
    assert {entry["tokenizer"] for entry in made.entries} == {"tokenizers"}
