"""Secrets are known by their names, and never shown."""

from __future__ import annotations

import pytest

from registry.secrets import is_secret, masked


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("hf_hub_token", True),
        ("swanlab_api_key", True),
        ("lark_webhook_url", True),
        ("max_new_tokens", False),
        ("model", False),
    ],
)
def test_a_secret_is_known_by_its_name(name: str, secret: bool) -> None:
    assert is_secret(name) == secret


def test_secrets_are_masked_however_deep_and_all_else_is_as_it_was() -> None:
    values = {
        "lr": 0.1,
        "hub_token": "hf_x",
        "api_key": None,
        "dataset_dir": {"set": [{"password": "p", "rows": (1, 2)}]},
        "url": "https://me:pass@host/path",
    }
    assert masked(values) == {
        "lr": 0.1,
        "hub_token": "…",
        "api_key": None,
        "dataset_dir": {"set": [{"password": "…", "rows": [1, 2]}]},
        "url": "https://…@host/path",
    }
