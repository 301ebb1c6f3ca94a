"""Who asks: the addresses and keys of a run, from the environment or a .env file, and from nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from registry.errors import UsageError, known_hint

DOT_ENV = ".env"
# provider -> the names its keys and addresses have in the environment, and the address when none is said
_NAMES: dict[str, tuple[str, str, str]] = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "zhipu": ("ZHIPUAI_API_KEY", "ZHIPUAI_BASE_URL", "https://open.bigmodel.cn/api/paas/v4"),
}
_NO_KEY = "none"  # what is sent to a server on this machine, which asks for no key


@dataclass(frozen=True)
class Account:
    """One key at one address. The key is in no text that this object becomes."""

    url: str
    key: str = field(repr=False)
    name: str = ""  # for people: the host, and which key where there are several


@dataclass(frozen=True)
class Accounts:
    """Where a provider is reached, and by whom; the keys are only looked for when they are needed."""

    provider: str
    urls: tuple[str, ...]

    @property
    def family(self) -> str:
        """What tells these servers' answers from others': the first address, which the others stand beside."""
        return self.urls[0]

    @cached_property
    def all(self) -> tuple[Account, ...]:
        """Every account. Raises ``UsageError`` where there is no key."""
        name = _NAMES[self.provider][0]
        keys = [key.strip() for key in _setting(f"{name}S").split(",") if key.strip()] or [_setting(name)]
        keys = [key for key in dict.fromkeys(keys) if key]
        if not keys and all(map(_is_here, self.urls)):
            keys = [_NO_KEY]
        if not keys:
            raise UsageError(
                "no key to ask with",
                where=f"--provider {self.provider}",
                mend=f"Set {name} (or {name}S, with commas) in the environment or in a {DOT_ENV} file that git ignores.",
            )
        bad = next((number for number, key in enumerate(keys, 1) if not key.isascii() or not key.isprintable()), None)
        if bad is not None:
            raise UsageError(f"key {bad} holds characters that no key has", where=name, mend="Copy it anew.")
        if len(self.urls) > 1 and len(keys) == len(self.urls):
            pairs = list(zip(self.urls, keys, strict=True))
        else:
            pairs = [(url, key) for url in self.urls for key in keys]
        named: list[Account] = []
        for url, key in pairs:
            number = f" (key {keys.index(key) + 1})" if len(keys) > 1 else ""
            named.append(Account(url, key, f"{urlsplit(url).netloc}{number}"))
        return tuple(named)


def accounts_of(provider: str, base_urls: Sequence[str] = ()) -> Accounts:
    """The accounts of ``provider``. Raises ``UsageError`` for one that is not known, and for what is no address."""
    if provider == "local":
        raise UsageError(
            "a model folder cannot be served yet",
            where="--provider local",
            mend="Serve it with vLLM, SGLang, llama.cpp or Ollama, and give its address: --base-url http://127.0.0.1:8000/v1",
        )
    if provider not in _NAMES:
        mend = known_hint(provider, _NAMES)
        raise UsageError(f'unknown provider "{provider}"', where="--provider", mend=mend)
    _, variable, default = _NAMES[provider]
    given = [*base_urls] or [url for url in _setting(variable).split(",") if url.strip()] or [default]
    return Accounts(provider, tuple(dict.fromkeys(_address(url.strip()) for url in given)))


def _address(url: str) -> str:
    """An address in one spelling: small letters in front, no slash at the end."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), -1
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or port == -1:
        raise UsageError(
            f'"{_without_user(url)}" is no address of a server',
            where="--base-url",
            mend="Write it as http://HOST:PORT/v1",
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "an address of a server holds neither a key nor a query",
            where=f"--base-url {_without_user(url)}",
            mend="Keys come from the environment alone.",
        )
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path.rstrip("/"), "", ""))


def _without_user(url: str) -> str:
    """An address without what may be secret in it."""
    _, at, tail = url.rpartition("@")
    return re.split("[?#]", ("…@" if at else "") + (tail if at else url))[0]


def _is_here(url: str) -> bool:
    """Whether an address is one of this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _setting(name: str) -> str:
    """A value of the environment, or else of the .env file in this folder; empty where neither has it."""
    return (os.environ.get(name) or _dot_env().get(name) or "").strip()


def _dot_env() -> Mapping[str, str | None]:
    path = Path(DOT_ENV)
    if not path.is_file():
        return {}
    try:
        from dotenv import dotenv_values
    except ImportError:
        raise UsageError(
            f"the package python-dotenv is needed to read {DOT_ENV}",
            where=DOT_ENV,
            mend='pip install "tunekit[augment]"',
        ) from None
    try:
        return dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot be read: {error}", where=DOT_ENV, mend="Write it as UTF-8, NAME=VALUE a line."
        ) from None
