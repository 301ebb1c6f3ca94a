"""Starts @copilotkit/aimock, an LLM server from npm that others wrote, for tests against a second opinion."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.datakit.faults.answers import Writer, written
from tests.datakit.faults.wanted import FORMS, Wanted

PACKAGE, VERSION = "@copilotkit/aimock", "1.43.0"
INSTALL_S, START_S = 180, 20
# The package's names of what can be set at run time, by ours.
CHAOS = {
    "drop": "dropRate",  # 500
    "malformed": "malformedRate",  # 200 and a body that is no JSON
    "disconnect": "disconnectRate",  # the connection is closed before the header
    "ratelimit": "rateLimitRate",  # 429 with Retry-After: 1
    "latency_ms": "latencyMs",
}


@dataclass(frozen=True)
class Aimock:
    """A running aimock; ``url`` is the base URL for clients of OpenAI's API."""

    root: str

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def set_chaos(self, **rates: float) -> None:
        """Rates from 0 to 1 of ``drop``, ``malformed``, ``disconnect``, ``ratelimit``, and ``latency_ms``; no other stays."""
        self._call("POST", "/__aimock/chaos", {CHAOS[name]: rate for name, rate in rates.items()})

    def clear_chaos(self) -> None:
        """No chaos from now on, unless it was started with some."""
        self._call("DELETE", "/__aimock/chaos")

    def journal(self) -> list[dict[str, Any]]:
        """Every chat request it got, as it remembers them: ``body``, and under ``response`` status and ``chaosAction``."""
        return [entry for entry in self._call("GET", "/__aimock/journal") if entry["path"].endswith("/completions")]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())


@contextmanager
def running_aimock(fixtures: Sequence[dict[str, Any]] | None = None, **chaos: float) -> Iterator[Aimock]:
    """A server of its own process for as long as the block lasts, on a free port.

        with running_aimock(drop=0.1, ratelimit=0.1) as server:
            ...

    ``chaos``: see ``Aimock.set_chaos``. ``fixtures``: what it answers, in the package's format; by default one answer to
    each form that a prompt may ask for. Skips the test where node or npm is missing or the package cannot be had.
    """
    node, folder = _node(), _installed()
    with tempfile.TemporaryDirectory(prefix="aimock-") as temporary:
        path = Path(temporary) / "fixtures.json"
        path.write_text(json.dumps({"fixtures": list(fixtures or default_fixtures())}), encoding="utf-8")
        flags = [part for name, rate in chaos.items() for part in (f"--chaos-{name.removesuffix('_ms')}", _plain(rate))]
        command = [node, str(folder / "dist" / "cli.js"), "--port", "0", "--fixtures", str(path), "--journal-max", "0"]
        process = subprocess.Popen(
            [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment()
        )
        try:
            yield Aimock(_address(process))
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def default_fixtures() -> list[dict[str, Any]]:
    """One answer to each form, found by its key in the last message of the user; some plain text to all else."""
    voice = Writer(b"aimock", "en")
    by_form = [
        {
            "match": {"userMessage": f'"{form}"'},
            "response": {"content": written(Wanted(form, 3, 1, "en"), voice)},
        }
        for form in FORMS
    ]
    return [*by_form, {"match": {}, "response": {"content": voice.say("statement", 2)}}]


def _plain(rate: float) -> str:
    return f"{rate:.6f}".rstrip("0").rstrip(".")  # the package takes no exponents


def _environment() -> dict[str, str]:
    """The environment without keys, and without what makes node behave otherwise."""
    return {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT")
    }


def _address(process: subprocess.Popen[str]) -> str:
    """Where it listens, as it says; the rest of its output is read and dropped so that it never waits for a reader."""
    assert process.stdout is not None
    stuck = threading.Timer(START_S, process.kill)
    stuck.start()
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"listening on (http://\S+)", line):
            stuck.cancel()
            threading.Thread(target=lambda: _drain(process), daemon=True).start()
            return found.group(1)
    stuck.cancel()
    raise RuntimeError(f"aimock did not start:\n{''.join(said)}")


def _drain(process: subprocess.Popen[str]) -> None:
    with suppress(ValueError):  # closed meanwhile
        for _ in process.stdout or ():
            pass


def _node() -> str:
    found = shutil.which("node")
    if not found:
        pytest.skip("needs node, which is not installed")
    return found


def _installed() -> Path:
    """The package's folder; skips the test when it cannot be had."""
    found = _install()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@cache
def _install() -> Path | str:
    """The package's folder in the user's cache, installed there if it is not yet, or why that did not work."""
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunekit-tests"
    target = cache_folder / f"aimock-{VERSION}"
    package = target / "node_modules" / PACKAGE
    if (package / "dist" / "cli.js").is_file():
        return package
    npm = shutil.which("npm")
    if not npm:
        return f"needs npm to install {PACKAGE}, which is not installed"
    try:
        cache_folder.mkdir(parents=True, exist_ok=True)
        # Into a folder of its own first: two test runs at once must not see half a package.
        with tempfile.TemporaryDirectory(prefix=".aimock-", dir=cache_folder) as temporary:
            command = [
                npm,
                "install",
                "--prefix",
                temporary,
                "--no-save",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
            ]
            ran = subprocess.run(
                [*command, f"{PACKAGE}@{VERSION}"], capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
            if ran.returncode:
                return f"npm cannot install {PACKAGE}: {ran.stderr.strip().splitlines()[-1:]}"
            with suppress(OSError):  # another run was quicker
                Path(temporary).rename(target)
                Path(temporary).mkdir()  # for the end of the with block
    except (OSError, subprocess.TimeoutExpired) as fault:
        return f"npm cannot install {PACKAGE}: {fault}"
    return package if (package / "dist" / "cli.js").is_file() else f"{PACKAGE} has no dist/cli.js in {target}"
