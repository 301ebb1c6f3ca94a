"""The versions that a bug report needs."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from trainkit import env


def test_every_package_is_named_with_its_version() -> None:
    found = env.describe_environment()
    assert {name: found[name] for name in env.PACKAGES} == {name: version(name) for name in env.PACKAGES}
    assert int(found["cores"]) > 0


def test_a_package_that_is_not_there_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "PACKAGES", ("torch", "no-such-package"))
    assert env.describe_environment()["no-such-package"] == "not installed"
