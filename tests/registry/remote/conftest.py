"""Hubs that are folders: one behind a door of its own, and one that speaks the protocol of Hugging Face's."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from registry.digest import sha256_of
from registry.remote import hub
from registry.remote.doors import DOORS, Listing

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FolderHub:
    """A hub whose datasets are folders below ``root``. ``asked`` tells what was asked of it, in order."""

    root: Path
    home: Path
    revision: str = COMMIT
    is_down: bool = False
    asked: list[str] = field(default_factory=list)

    def add(self, repo: str, **files: str | bytes) -> Path:
        """A dataset with ``files``; ``__`` in a name is ``/`` and ``_dot_`` is a dot."""
        for name, content in files.items():
            path = self.root / repo / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.root / repo

    def listing(self, repo: str, revision: str) -> Listing:
        self._reach(f"list {repo}@{revision}")
        folder = self.root / repo
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        return Listing(self.revision, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})

    def fetch(self, repo: str, revision: str, path: str, sha256: str | None) -> Path:
        self._reach(f"fetch {repo}@{revision}/{path}")
        found = self.root / repo / path
        if not found.is_file():
            raise type("RemoteEntryNotFoundError", (Exception,), {"__module__": "x"})(path)
        if sha256 and hashlib.sha256(found.read_bytes()).hexdigest() != sha256:
            raise ValueError("the content is another")
        return found

    def _reach(self, what: str) -> None:
        if self.is_down:
            raise ConnectionError("no route to host")
        self.asked.append(what)


@pytest.fixture
def folder_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], FolderHub]]:
    """``folder_hub("hf")`` puts a folder in place of the hub behind ``hf://``."""

    def make(scheme: str) -> FolderHub:
        pytest.importorskip(DOORS[scheme].library)
        hub.listing_of.cache_clear()
        made = FolderHub(tmp_path / f"{scheme}-hub", tmp_path / f"{scheme}-home")
        if scheme == "ms":
            made.revision = "master"
        door = replace(
            DOORS[scheme], home=lambda: made.home, listing=made.listing, fetch=made.fetch, cached=lambda *_: None
        )
        monkeypatch.setitem(DOORS, scheme, door)
        return made

    hub.listing_of.cache_clear()
    yield make
    hub.listing_of.cache_clear()


class _Handler(BaseHTTPRequestHandler):
    """As much of the Hugging Face Hub's HTTP interface as reading datasets takes."""

    server: Any

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        root, path = self.server.root, unquote(urlsplit(self.path).path)
        if path.startswith("/api/datasets/"):
            repo, _, rest = path.removeprefix("/api/datasets/").partition("/revision/")
            repo, _, tree = repo.partition("/tree/")
            folder = root / repo
            if not folder.is_dir():
                return self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)
            if rest and rest not in ("main", COMMIT):
                return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, with_body)
            names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
            told: Any = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}
            if tree:
                told = [
                    {"type": "file", "path": n, "size": (folder / n).stat().st_size, "oid": "0" * 40} for n in names
                ]
            return self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"}, with_body)
        repo, _, rest = path.removeprefix("/datasets/").partition("/resolve/")
        file = root / repo / rest.partition("/")[2]
        if not file.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)
        data = file.read_bytes()
        etag = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self._send(200, data, etag, with_body)

    def _send(self, code: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server on loopback that huggingface_hub takes for the Hub, with a cache of its own."""
    constants = pytest.importorskip("huggingface_hub.constants")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.root = tmp_path / "hub"  # type: ignore[attr-defined]
    server.root.mkdir()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    hub.listing_of.cache_clear()
    yield server.root  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    hub.listing_of.cache_clear()


class _ScopeHandler(BaseHTTPRequestHandler):
    """As much of ModelScope's HTTP interface as reading datasets takes."""

    server: Any

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(asked.query).items()}
        folder = self.server.root / asked.path.removeprefix("/api/v1/datasets/").partition("/repo")[0]
        code, body = 404, b'{"Code": 404, "Message": "not found", "Success": false}'
        if asked.path.endswith("/repo/tree") and folder.is_dir():
            names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
            files = [
                {"Path": n, "Type": "blob", "Size": (folder / n).stat().st_size, "Sha256": sha256_of(folder / n)}
                for n in names
            ]
            told = {"Code": 200, "Success": True, "Data": {"Files": files if query["PageNumber"] == "1" else []}}
            code, body = 200, json.dumps(told).encode()
        elif asked.path.endswith("/repo") and (folder / query["FilePath"]).is_file():
            code, body = 200, (folder / query["FilePath"]).read_bytes()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def modelscope(tmp_path: Path) -> Iterator[Path]:
    """The folder of a server on loopback that modelscope_hub takes for ModelScope, with a cache of its own."""
    library = pytest.importorskip("modelscope_hub")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ScopeHandler)
    server.root = tmp_path / "hub"  # type: ignore[attr-defined]
    server.root.mkdir()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    before = library.get_default_config()
    library.set_default_config(
        library.HubConfig(endpoint=f"http://127.0.0.1:{server.server_port}", cache_dir=tmp_path / "cache")
    )
    hub.listing_of.cache_clear()
    yield server.root  # type: ignore[attr-defined]
    library.set_default_config(before)
    server.shutdown()
    server.server_close()
    hub.listing_of.cache_clear()
