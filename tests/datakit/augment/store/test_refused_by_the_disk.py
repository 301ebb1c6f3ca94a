"""Disks that are full and stores that may only be read: told before anything is paid for, or with what is kept."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from datakit.augment.store import AnswerStore
from registry.errors import StoppedError, UsageError
from tests.conftest import REPOSITORY
from tests.datakit.augment.store.made import answer, made_store, put_all

as_nobody_special = pytest.mark.skipif(os.geteuid() == 0, reason="root may write whatever the permissions say")

# Puts answers of 20 kB until one fails; then ten more, which must be told at once, and says what it was told.
FILLS = """
import os, sys
from dataclasses import replace
from pathlib import Path
from datakit.augment.store import AnswerStore
from tests.datakit.augment.store.made import answer, put_all

path = Path(sys.argv[1])
with AnswerStore(path) as store:
    kept, error = 0, None
    while error is None and kept < 2000:
        (error,) = put_all(store, [replace(answer(kept), body=os.urandom(20_000))])
        kept += error is None
    later = put_all(store, [answer(10_000 + n) for n in range(10)])
    assert {str(e) for e in later} == {str(error)}, later
    found = store.count()
print(type(error).__name__, error.exit_code, kept, found)
print(error)
"""


def fill(path: Path, **options: object) -> tuple[list[str], str]:
    ran = subprocess.run(
        [sys.executable, "-c", FILLS, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=120,
        **options,  # type: ignore[call-overload]
    )
    assert ran.returncode == 0, ran.stderr
    head, _, message = ran.stdout.partition("\n")
    return head.split(), message


def test_a_disk_that_fills_up_stops_the_run_and_keeps_all_that_was_told(tmp_path):
    path = tmp_path / "a.sqlite"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))

    (error, code, kept, found), message = fill(path, preexec_fn=limit)
    assert (error, code) == ("StoppedError", "3")
    assert 30 < int(kept) == int(found)
    assert f"the store keeps its {int(kept):,} answers" in message
    assert "run the same command again" in message
    with AnswerStore(path) as store:
        assert store.count() == int(kept)
        assert put_all(store, [answer()]) == [None]


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_file_system_stops_the_run_likewise_and_room_is_all_that_it_needs(small_disk):
    (small_disk / "ballast").write_bytes(bytes(2_000_000))
    path = small_disk / "a.sqlite"
    (error, code, kept, found), message = fill(path)
    assert (error, code, kept) == ("StoppedError", "3", found)
    assert f"there is no room for more answers; the store keeps its {int(kept):,} answers" in message
    with AnswerStore(path) as store:
        assert store.count() == int(kept)
        with pytest.raises(StoppedError, match="no room"):
            store.ensure_writable()
    (small_disk / "ballast").unlink()
    with AnswerStore(path) as store:
        store.ensure_writable()
        assert put_all(store, [answer(99_999)]) == [None]
        assert store.count() == int(kept) + 1


def test_a_disk_without_room_is_told_before_anything_is_paid_for(small_disk):
    (small_disk / "ballast").write_bytes(bytes(3_900_000))
    with AnswerStore(small_disk / "a.sqlite") as store, pytest.raises(StoppedError, match="no room"):
        store.ensure_writable()
    assert [p.name for p in small_disk.iterdir()] == ["ballast"]


def test_a_store_on_a_read_only_disk_is_read_and_refused_for_writing(small_disk):
    path = made_store(small_disk / "a.sqlite", [answer()])
    remounted = subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True, check=False)
    if remounted.returncode:
        pytest.skip("needs the right to mount read-only")
    with AnswerStore(path) as store:
        assert store.get(answer().key) == answer()
        assert store.get(answer(1).key) is None
        with pytest.raises(UsageError, match="cannot be opened or written"):
            store.ensure_writable()
        (error,) = put_all(store, [answer(1)])
        assert isinstance(error, UsageError)
        assert "--store FILE" in str(error)
    with (
        AnswerStore(small_disk / "new.sqlite") as store,
        pytest.raises(UsageError, match="cannot be opened or written"),
    ):
        store.ensure_writable()


def test_a_store_not_closed_on_a_read_only_disk_is_not_misread(small_disk):
    path = small_disk / "a.sqlite"
    store = AnswerStore(path)
    put_all(store, [answer()])
    for name in ("a.sqlite", "a.sqlite-wal"):
        (small_disk / f"killed-{name}").write_bytes((small_disk / name).read_bytes())
    store.close()
    if subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount read-only")
    with AnswerStore(small_disk / "killed-a.sqlite") as store, pytest.raises(UsageError) as refused:
        store.get(answer().key)
    assert "the run that wrote it did not close it" in str(refused.value)
    assert "Copy it together with killed-a.sqlite-wal" in str(refused.value)


@as_nobody_special
@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_a_read_only_file_or_folder_is_read_and_refused_for_writing(tmp_path, read_only):
    path = made_store(tmp_path / "deep" / "a.sqlite", [answer()])
    target, mode = (path, 0o444) if read_only == "file" else (path.parent, 0o555)
    target.chmod(mode)
    try:
        with AnswerStore(path) as store:
            assert store.get(answer().key) == answer()
            with pytest.raises(UsageError, match="cannot be opened or written"):
                store.ensure_writable()
    finally:
        target.chmod(0o755)


def test_a_folder_where_the_file_should_be_is_told(tmp_path):
    (tmp_path / "a.sqlite").mkdir()
    with AnswerStore(tmp_path / "a.sqlite") as store:
        for use in (store.count, store.ensure_writable):
            with pytest.raises(UsageError, match="this is no file"):
                use()


def test_a_full_database_is_a_full_disk(tmp_path):
    with AnswerStore(tmp_path / "a.sqlite") as store:
        put_all(store, [answer()])
        store._writer._connection.execute("PRAGMA max_page_count = 8")
        (error,) = put_all(store, [replace(answer(1), body=os.urandom(100_000))])
        assert isinstance(error, StoppedError)
        assert "there is no room for more answers; the store keeps its 1 answer\n" in str(error)
        assert store.get(answer().key) == answer()
