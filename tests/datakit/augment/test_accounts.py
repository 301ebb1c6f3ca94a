"""Who asks: keys and addresses from the environment or a .env file, in pairs or crossed, and never in a text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datakit.augment.accounts import Account, accounts_of
from registry.errors import UsageError

KEY, OTHER = "sk-planted-1", "sk-planted-2"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key of this machine, and no .env file."""
    for name in os.environ:
        if name.startswith(("OPENAI_", "ZHIPUAI_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def pairs(provider: str = "openai", *urls: str) -> list[tuple[str, str]]:
    return [(account.url, account.key) for account in accounts_of(provider, urls).all]


def test_a_key_in_the_environment_is_used_at_the_providers_own_address(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY} ")
    assert pairs() == [("https://api.openai.com/v1", KEY)]
    monkeypatch.setenv("ZHIPUAI_API_KEY", OTHER)
    assert pairs("zhipu") == [("https://open.bigmodel.cn/api/paas/v4", OTHER)]


def test_a_dot_env_file_serves_where_the_environment_has_no_key(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text(f'OPENAI_API_KEY="{KEY}"\nOPENAI_BASE_URL=https://a.example/v1\nNOTHING\n')
    assert pairs() == [("https://a.example/v1", KEY)]
    monkeypatch.setenv("OPENAI_API_KEY", OTHER)
    assert pairs() == [("https://a.example/v1", OTHER)]


def test_nothing_in_a_dot_env_file_is_filled_in_from_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME_KEY", "no")
    (tmp_path / ".env").write_text("OPENAI_API_KEY=a${HOME_KEY}b\n")
    assert pairs() == [("https://api.openai.com/v1", "a${HOME_KEY}b")]


def test_several_keys_share_one_address_and_count_once(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEYS", f"{KEY}, {OTHER},,{KEY}")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-this")
    accounts = accounts_of("openai", ["https://a.example/v1"])
    assert [(a.url, a.key, a.name) for a in accounts.all] == [
        ("https://a.example/v1", KEY, "a.example (key 1)"),
        ("https://a.example/v1", OTHER, "a.example (key 2)"),
    ]


def test_as_many_keys_as_addresses_are_pairs_and_else_each_key_goes_to_each_address(monkeypatch):
    urls = ("https://a.example/v1", "https://b.example/v1")
    monkeypatch.setenv("OPENAI_API_KEYS", f"{KEY},{OTHER}")
    assert pairs("openai", *urls) == [(urls[0], KEY), (urls[1], OTHER)]
    monkeypatch.setenv("OPENAI_API_KEYS", KEY)
    assert pairs("openai", *urls) == [(urls[0], KEY), (urls[1], KEY)]
    monkeypatch.setenv("OPENAI_API_KEYS", "k1,k2,k3")
    assert len(pairs("openai", *urls)) == 6


def test_addresses_of_the_environment_are_used_where_none_is_named(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://a.example/v1, https://b.example/v1")
    assert [url for url, _ in pairs()] == ["https://a.example/v1", "https://b.example/v1"]
    assert pairs("openai", "https://c.example/v1") == [("https://c.example/v1", KEY)]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "http://localhost:11434/v1", "http://[::1]:8000/v1", "http://127.1.2.3/v1"]
)
def test_a_server_on_this_machine_needs_no_key(url):
    assert pairs("openai", url) == [(url, "none")]


@pytest.mark.parametrize("url", ["http://192.168.0.7/v1", "https://localhost.example/v1", "https://a.example/v1"])
def test_any_other_server_needs_one_and_the_error_says_where_it_is_looked_for(url):
    accounts = accounts_of("openai", ["http://127.0.0.1/v1", url])
    with pytest.raises(
        UsageError, match=r"Set OPENAI_API_KEY .* in the environment or in a .env file that git ignores"
    ):
        _ = accounts.all


def test_the_family_is_the_first_address_in_one_spelling():
    assert (
        accounts_of("openai", ["HTTPS://A.Example:443/V1/", "https://b.example"]).family == "https://a.example:443/V1"
    )
    assert accounts_of("openai", ["https://a.example/v1/", "https://a.example/v1"]).urls == ("https://a.example/v1",)


@pytest.mark.parametrize(
    "url", ["", "api.example.com/v1", "ftp://a/v1", "http://", "http://a:99999/v1", "http://a:x/v1"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError, match="is no address of a server"):
        accounts_of("openai", [url])


@pytest.mark.parametrize(
    "url",
    [
        f"https://{KEY}@a.example/v1",
        f"https://me:{KEY}@a.example/v1",
        f"https://a.example/v1?key={KEY}",
        f"https://a.example/v1#{KEY}",
        f"https://me:{KEY}@a.example:x/v1",
        f"ftp://me:{KEY}@a.example/v1?key={KEY}#{KEY}",
    ],
)
def test_an_address_with_a_key_is_refused_without_repeating_it(url):
    with pytest.raises(UsageError) as refused:
        accounts_of("openai", [url])
    assert KEY not in str(refused.value)
    assert "a.example" in str(refused.value)


@pytest.mark.parametrize("key", ["sk-pläne", "sk-a\nb", "sk-\x00"])
def test_a_key_that_no_header_can_hold_is_refused_without_repeating_it(monkeypatch, tmp_path, key):
    (tmp_path / ".env").write_text(f"OPENAI_API_KEYS='{KEY},{key}'\n", "utf-8")
    with pytest.raises(UsageError, match="key 2 holds characters that no key has") as refused:
        _ = accounts_of("openai").all
    assert "sk-" not in str(refused.value)


def test_an_unknown_provider_is_told_with_the_nearest_and_a_folder_with_what_serves_it():
    with pytest.raises(UsageError, match='unknown provider "opnai"') as refused:
        accounts_of("opnai")
    assert 'Did you mean "openai"? Known: openai, zhipu.' in str(refused.value)
    with pytest.raises(UsageError, match="vLLM"):
        accounts_of("local")


def test_no_text_that_an_account_becomes_holds_its_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEYS", f"{KEY},{OTHER}")
    accounts = accounts_of("openai")
    told = f"{accounts!r} {accounts} {accounts.all!r} {Account('u', KEY)}"
    assert "sk-planted" not in told
