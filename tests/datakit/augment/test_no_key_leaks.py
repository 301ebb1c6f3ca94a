"""A planted key turns up in no file, no output, no traceback and no store, even where the server repeats it."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import pytest

from datakit.augment.store import AnswerStore
from tests.datakit.augment.runs import KEY, Started, augment, read, rejects, run, seeds, started, write
from tests.datakit.faults.server import FaultServer, key_hash

STORE = Path("more.jsonl.store.sqlite")


@pytest.fixture(autouse=True)
def here(folder: Path) -> Path:
    rows = seeds(12)
    rows[-1]["instruction"] += " It stands by the teapot."
    write(Path("seeds.jsonl"), rows)
    return folder


def assert_no_key(*texts: str) -> None:
    """In no file of the folder, packed or not, and in none of ``texts``."""
    for text in texts:
        assert KEY not in text
    for path in Path().rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
    if STORE.is_file():
        with sqlite3.connect(STORE) as connection:
            for (packed,) in connection.execute("SELECT packed FROM answers"):
                assert KEY.encode() not in packed
        with AnswerStore(STORE) as store, sqlite3.connect(STORE) as connection:
            for (key,) in connection.execute("SELECT key FROM answers"):
                stored = store.get(key.hex())
                assert stored is not None
                assert KEY.encode() not in stored.body + stored.request
                assert KEY not in repr(stored)


def said(going: Started) -> str:
    return going.out + going.err


def test_the_check_itself_would_find_one(tmp_path):
    Path("somewhere").write_text(KEY)
    with pytest.raises(AssertionError):
        assert_no_key()
    with pytest.raises(AssertionError):
        assert_no_key(f"Bearer {KEY}")
    assert zlib.compress(KEY.encode()) != KEY.encode()


def test_a_server_that_repeats_the_key_with_everything_gets_none_of_it_kept():
    with FaultServer("tells_key") as server:
        line = augment(server.url, "--debug", "--attempts", 12, "--html", "report.html", "--json")
        with started(*line) as going:
            assert going.wait() == 0
            assert_no_key(said(going))
        assert set(server.stats.by_key) == {key_hash(KEY)}
        assert len(read("more.jsonl")) == 11
        (reject,) = rejects()
        assert "Not with these headers: Bearer [key]" in reject["reason"]
        with AnswerStore(STORE) as store:
            stored = store.get(read("more.jsonl")[0]["_origin"]["request"])
            assert stored is not None
            assert b'"authorization":"Bearer [key]"' in stored.body


def test_a_key_that_is_refused_is_not_told():
    """Some servers say which key it was."""
    tells = {"rules": [{"do": {"action": "tell_key", "status": 401}}]}
    with FaultServer(tells) as server, started(*augment(server.url, "--debug")) as going:
        assert going.wait() == 2
        assert "Not with these headers: Bearer [key]" in going.err
        assert_no_key(said(going))


def test_a_run_that_gives_up_tells_no_key_in_its_reason():
    tells = {"rules": [{"do": {"action": "tell_key", "status": 400}}]}
    with FaultServer(tells) as server, started(*augment(server.url, "--debug")) as going:
        assert going.wait() == 3
        assert "Not with these headers: Bearer [key]" in going.err
        assert_no_key(said(going))


@pytest.mark.parametrize(
    "url", ["http://me:{}@127.0.0.1:9/v1", "http://127.0.0.1:9/v1?key={}", "http://127.0.0.1:9/#{}"]
)
def test_a_key_in_an_address_is_refused_and_not_repeated(url):
    with started(*augment(url.format(KEY), "--debug")) as going:
        assert going.wait() == 2
        assert_no_key(said(going))


def test_a_fault_of_ours_tells_no_key_in_its_traceback():
    """A store that is no file, a folder that is none, a server that is not there: whatever ends a run."""
    STORE.mkdir()
    with started(*augment("http://127.0.0.1:9/v1", "--debug", "--attempts", 1)) as going:
        assert going.wait() == 2
        assert "Traceback" in going.err
        assert_no_key(said(going))


def test_a_key_of_zhipus_is_kept_out_likewise(monkeypatch):
    with FaultServer("tells_key") as server:
        run(server.zhipu_url, provider="zhipu", attempts=12)
        assert set(server.stats.by_key) == {key_hash(KEY)}
    assert len(read("more.jsonl")) == 11
    assert_no_key()
