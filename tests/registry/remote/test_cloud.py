"""Object stores and servers: listed, read in blocks, pinned by what they say of a file; no secret is shown."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.errors import StoppedError, UsageError
from registry.remote import cloud, fingerprint
from registry.rows import Row, read_rows
from registry.sources import check_sources, expand_sources, open_binary

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def store(tmp_path) -> Iterator[Callable[..., Any]]:
    """``store("a/b.jsonl", …)`` puts rows there in fsspec's memory; it is empty before and after."""
    memory = fsspec.filesystem("memory")

    def clear() -> None:
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]
        cloud._found.clear()

    def put(*names: str, content: bytes = b'{"a": 1}\n') -> Any:
        for name in names:
            memory.pipe_file(f"/{name}", content)
        return memory

    clear()
    yield put
    clear()


def rows_of(*sources):
    return [row.data for row in read_rows(sources) if isinstance(row, Row)]


def test_files_folders_and_patterns_in_sorted_order_without_sidecars(store):
    store(
        "b/2.jsonl",
        "b/1.jsonl",
        "b/1.jsonl.manifest.json",
        "b/.x.jsonl",
        "b/r.rejects.jsonl",
        "b/deep/3.jsonl",
        "b/n.md",
    )
    assert expand_sources(["memory://b"]) == ["memory:///b/1.jsonl", "memory:///b/2.jsonl"]
    assert expand_sources(["memory://b/*.jsonl"]) == ["memory:///b/1.jsonl", "memory:///b/2.jsonl"]
    assert expand_sources(["memory://b/**/*.jsonl"])[-1] == "memory:///b/deep/3.jsonl"
    assert expand_sources(["memory://b/2.jsonl"]) == ["memory://b/2.jsonl"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("memory://b/x.jsonl", "^memory://b/x.jsonl: no such file or folder"),
        ("memory://b/n.md", '".md" is not a kind of file that is read here'),
        ("memory://b/*.csv", "no data file matches this pattern"),
        ("memory://mixed", "the folder mixes kinds of files"),
        ("memory://none", "the folder holds no data file"),
    ],
)
def test_what_is_not_there_is_told(store, source, reason):
    store("b/n.md", "b/a.jsonl", "mixed/a.jsonl", "mixed/b.csv", "none/x.md")
    with pytest.raises(UsageError, match=reason):
        expand_sources([source])


def test_every_container_is_read_from_a_store(store, tmp_path):
    table = pa.table({"n": [2**53 + 1, None], "t": ["a", "b"]})
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet)
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    lines = b'{"n": 9007199254740993, "t": "a"}\n{"n": null, "t": "b"}\n'
    files = {
        "a.parquet": parquet.getvalue(), "b.arrow": arrow.getvalue(), "c.jsonl": lines, "d.jsonl.gz": gzip.compress(lines),
        "e.jsonl.zst": pa.Codec("zstd").compress(lines, asbytes=True), "f.parquet.gz": gzip.compress(parquet.getvalue()),
        "g.json": json.dumps([json.loads(line) for line in lines.splitlines()]).encode(),
    }  # fmt: skip
    for name, content in files.items():
        store(f"x/{name}", content=content)
    for name in files:
        assert rows_of(f"memory://x/{name}") == [{"n": 2**53 + 1, "t": "a"}, {"n": None, "t": "b"}], name


def test_no_more_of_a_file_is_held_than_a_few_blocks(store, monkeypatch):
    monkeypatch.setattr(cloud, "BLOCK", 1000)
    asked: list[int] = []
    store("x/a.jsonl", content=b'{"a": 1}\n' * 200_000)
    real = fsspec.filesystem("memory").store["/x/a.jsonl"]

    class Counting:
        seekable, tell, seek, close = real.seekable, real.tell, real.seek, real.close

        def read(self, size=-1):
            asked.append(size)
            return real.read(size)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "open", lambda *_, **__: Counting())
    with open_binary("memory://x/a.jsonl") as handle:
        next(handle)
        assert 0 < sum(asked) < 600_000
    assert all(0 < size <= 1 << 18 for size in asked)


def test_a_store_that_fails_while_it_is_read_is_told_with_the_place(store, monkeypatch):
    table = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(200_000))}), table)
    store("x/a.parquet", content=table.getvalue())
    store("x/a.jsonl", content=b'{"a": 1}\n' * 100_000)

    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 300_000:
                raise RuntimeError("ConnectionResetError deep in a client\nwith more lines")
            return super().read(size)

    memory = type(fsspec.filesystem("memory"))
    monkeypatch.setattr(memory, "open", lambda self, path, *_, **__: Failing(self.store[path].getvalue()))
    with pytest.raises(UsageError) as error:
        rows_of("memory://x/a.jsonl")
    assert str(error.value) == (
        "memory://x/a.jsonl: cannot go on reading: RuntimeError: ConnectionResetError deep in a client"
    )
    with pytest.raises(UsageError, match=r"^memory://x/a.parquet: cannot go on reading: RuntimeError"):
        rows_of("memory://x/a.parquet")


def test_missing_credentials_come_with_the_way_in_and_a_full_disk_can_be_gone_on_from():
    class NoCredentialsError(Exception):
        pass

    with (
        pytest.raises(UsageError, match=r"s3://b/a.jsonl: .*NoCredentialsError.*\n.*AWS_ACCESS_KEY_ID.*FSSPEC_S3_ANON"),
        cloud.faults_of("s3://b/a.jsonl", "reading"),
    ):
        raise NoCredentialsError("Unable to locate credentials")
    with pytest.raises(StoppedError), cloud.faults_of("s3://b/a.jsonl", "reading"):
        raise OSError(28, "No space left on device")


def test_a_library_that_is_missing_is_told_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    for look in (check_sources, expand_sources):
        with pytest.raises(
            UsageError, match=r"^s3://b/a.jsonl: s3:// cannot be opened: .*\n  pip install \"tunekit\[cloud\]\""
        ):
            look(["s3://b/a.jsonl"])
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=r"needs fsspec, which is not installed\n  pip install \"tunekit\[cloud\]\""):
        check_sources(["memory://a.jsonl"])


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://host/a.jsonl?X-Amz-Signature=abc", "https://host/a.jsonl"),
        ("https://me:pass@host/a.jsonl", "https://me@host/a.jsonl"),
        ("sftp://me:pass@host/a.jsonl", "sftp://me@host/a.jsonl"),
        ("s3://bucket/a.jsonl?versionId=7", "s3://bucket/a.jsonl?versionId=7"),
        ("s3://bucket/a@b.jsonl", "s3://bucket/a@b.jsonl"),
    ],
)
def test_passwords_and_signatures_are_never_shown(url, clean):
    assert cloud.shown(url) == clean


def test_a_file_is_pinned_by_what_its_store_says_or_by_its_hash(store, monkeypatch):
    memory = store("x/a.jsonl", content=b"{}\n")
    assert fingerprint("memory://x/a.jsonl") == {"bytes": 3, "sha256": hashlib.sha256(b"{}\n").hexdigest()}
    real = type(memory).info
    for said, told in (({"ETag": '"abc"'}, {"etag": "abc"}), ({"crc32c": "x=="}, {"crc32c": "x=="})):
        monkeypatch.setattr(type(memory), "info", lambda *a, said=said, **k: real(*a, **k) | said)
        assert fingerprint("memory://x/a.jsonl") == {"bytes": 3, **told}


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        if self.path != "/a.jsonl?signature=secret" and self.path != "/t.parquet":
            self.send_error(404)
            return
        content = self.server.content
        self.send_response(200)
        self.send_header("ETag", '"v1"')
        if self.path != "/t.parquet":  # whose size is not told either: it can only be read through
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def website() -> Iterator[Any]:
    """A server on loopback that gives no ranges; ``website.content`` is what it serves."""
    pytest.importorskip("aiohttp")
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.at = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    cloud._found.clear()
    yield server
    server.shutdown()
    server.server_close()


def test_files_are_read_from_web_servers_and_their_signature_stays_out_of_sight(website):
    website.content = b'{"a": 1}\n{"a": 2}\n'
    files = expand_sources([f"{website.at}/a.jsonl?signature=secret"])
    assert files == [f"{website.at}/a.jsonl"]
    assert [(row.file, row.data["a"]) for row in read_rows(files) if isinstance(row, Row)] == [
        (files[0], 1),
        (files[0], 2),
    ]
    assert fingerprint(files[0]) == {"bytes": 18, "etag": "v1"}
    with pytest.raises(UsageError, match="no such file or folder"):
        expand_sources([f"{website.at}/b.jsonl"])


def test_a_table_is_read_from_a_server_that_gives_no_ranges(website):
    table = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), table)
    website.content = table.getvalue()
    assert rows_of(f"{website.at}/t.parquet") == [{"a": 1}, {"a": 2}]
