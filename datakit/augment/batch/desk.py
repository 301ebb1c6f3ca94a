"""One account's batch endpoint: files go up, batches are made, looked at and found, results come down."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Protocol

from datakit.augment.accounts import Account
from datakit.augment.failures import CallFailed, Kind, failure_of_response
from datakit.augment.providers import PROVIDERS
from datakit.augment.providers.transport import CONNECT_S

MARK = "tunekit"  # the name of the tag in a batch's metadata
MOST_LISTED = 10_000  # batches looked through for a tag
PIECE = 1 << 16
ENDPOINTS = {"openai": "/v1/chat/completions", "zhipu": "/v4/chat/completions"}
_LIBRARIES = {"openai": ("openai", "httpx2"), "zhipu": ("zhipuai.core", "httpx")}
ENDED = frozenset({"completed", "expired", "cancelled", "failed"})


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a batch stands, as its server tells: files are "" where there are none, ``faults`` why it failed."""

    id: str
    status: str
    output: str = ""
    errors: str = ""
    done: int = 0
    faults: tuple[tuple[str, str], ...] = ()  # code and message

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


class Desk(Protocol):
    """One account's batch endpoint. Its methods raise ``CallFailed``; one thread calls them."""

    name: str
    url: str
    endpoint: str

    def upload(self, file: IO[bytes], name: str) -> str:
        """The id of an input file."""
        ...

    def create(self, file: str, tag: str) -> Standing:
        """A batch of an input file."""
        ...

    def look(self, batch: str) -> Standing:
        """Where a batch stands; refused (404) where this account has none of that id."""
        ...

    def find(self, tag: str, file: str) -> Standing | None:
        """The batch that was made with ``tag``, or of ``file``, which only one was made of."""
        ...

    def fetch(self, file: str, to: IO[bytes]) -> None:
        """Write a result file to ``to``."""
        ...


class VendorDesk:
    """The batch endpoint of OpenAI, or Zhipu's, which differs in little.

    Through the SDK, but with its library's own transport: one thread asks now and then, and files of hundreds of
    megabytes must neither be held in memory nor be cut off where a single answer would be.
    """

    def __init__(self, provider: str, account: Account, timeout_s: float) -> None:
        """Raises ``UsageError`` where a package is missing."""
        opened: Any = PROVIDERS[provider](account.url, account.key)  # names a package that is missing
        errors, library = (importlib.import_module(name) for name in _LIBRARIES[provider])
        self.name, self.url, self.endpoint = account.name, account.url, ENDPOINTS[provider]
        self._errors, self._library, self._zhipu = errors, library, provider == "zhipu"
        self._timeout = library.Timeout(timeout_s, connect=CONNECT_S)
        self._http = library.Client(timeout=self._timeout, follow_redirects=True, **_verified(account.url))
        self._client = type(opened.client)(
            api_key=account.key, base_url=account.url, max_retries=0, timeout=self._timeout, http_client=self._http
        )
        self._bearer = {"Authorization": f"Bearer {account.key}"}

    def upload(self, file: IO[bytes], name: str) -> str:
        """The id of an input file."""
        with self._told():
            return _text(self._client.files.create(file=(name, file), purpose="batch").id)

    def create(self, file: str, tag: str) -> Standing:
        """A batch of an input file."""
        more = {"auto_delete_input_file": False} if self._zhipu else {}
        with self._told():
            made = self._client.batches.create(
                input_file_id=file,
                endpoint=self.endpoint,
                completion_window="24h",
                metadata={MARK: tag},
                **more,
            )
            return _standing(made)

    def look(self, batch: str) -> Standing:
        """Where a batch stands."""
        with self._told():
            return _standing(self._client.batches.retrieve(batch))

    def find(self, tag: str, file: str) -> Standing | None:
        """The batch that was made with ``tag``, or of ``file``."""
        with self._told():
            for number, batch in enumerate(self._client.batches.list(limit=100)):
                metadata = batch.metadata if isinstance(batch.metadata, dict) else {}
                if metadata.get(MARK) == tag or batch.input_file_id == file:
                    return _standing(batch)
                if number >= MOST_LISTED:
                    break
        return None

    def fetch(self, file: str, to: IO[bytes]) -> None:
        """Write a result file to ``to``, from its beginning."""
        to.seek(0)
        to.truncate()
        headers = {**self._bearer, **self._organisation()}
        with self._told(), self._http.stream("GET", f"{self.url}/files/{file}/content", headers=headers) as response:
            if response.status_code >= 300:
                told = {name.lower(): value for name, value in response.headers.items()}
                raise failure_of_response(response.status_code, told, response.read(), zhipu=self._zhipu)
            for piece in response.iter_bytes(PIECE):
                to.write(piece)
        to.seek(0)

    def _organisation(self) -> dict[str, str]:
        """What the SDK of OpenAI takes from the environment beside the key."""
        named = {"OpenAI-Organization": "organization", "OpenAI-Project": "project"}
        found = {header: getattr(self._client, name, None) for header, name in named.items()}
        return {header: value for header, value in found.items() if isinstance(value, str) and value}

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The SDK's errors, and its library's, as ours."""
        errors, library = self._errors, self._library
        try:
            yield
        except (errors.APITimeoutError, library.TimeoutException):
            raise CallFailed(Kind.TIMEOUT, f"{self.name} does not answer in time") from None
        except errors.APIStatusError as error:
            headers = {name.lower(): value for name, value in error.response.headers.items()}
            body = error.response.content
            raise failure_of_response(error.status_code, headers, body, zhipu=self._zhipu) from None
        except (errors.APIConnectionError, library.HTTPError) as error:
            cause = error.__cause__ or error
            raise CallFailed(Kind.CONNECTION, str(cause) or type(cause).__name__) from None
        except (errors.APIResponseValidationError, AttributeError, TypeError, ValueError) as error:
            # The SDK hands out whatever a proxy or another server sent instead.
            raise CallFailed(Kind.BODY, f"{self.name} sent something else than was asked for ({error})") from None


def _standing(batch: Any) -> Standing:
    if not batch.id or not batch.status:
        raise TypeError("no batch")
    listed = batch.errors.data if batch.errors is not None else None
    faults = tuple((_text(fault.code), _where(fault)) for fault in listed or ())
    counts = batch.request_counts
    done = counts.completed if counts is not None else 0
    return Standing(
        _text(batch.id), _text(batch.status), _text(batch.output_file_id), _text(batch.error_file_id), done, faults
    )


def _where(fault: Any) -> str:
    line = getattr(fault, "line", None)
    return f"line {line}: {_text(fault.message)}" if line is not None else _text(fault.message)


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a text belongs")
    return value or ""


def _verified(url: str) -> dict[str, Any]:
    """Certificates as for single calls: the system's where ``truststore`` can read them."""
    if not url.startswith("https"):
        return {}
    from datakit.augment.providers.transport import tls

    return {"verify": tls()}
