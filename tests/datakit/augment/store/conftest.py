"""Runs `datakit store` as the console script does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from datakit.commands.store import store
from registry.command import run_app
from tests.console import Ran, console


@pytest.fixture
def store_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ran]:
    """``store_command(VERB, …)`` within ``tmp_path``, in this process."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.add_typer(store)
    run = console("datakit", lambda: run_app(app, "datakit"), monkeypatch, capfd, tmp_path)
    return lambda *arguments: run("store", *arguments)
