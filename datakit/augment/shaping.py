"""From a rendered prompt to the request that is sent: model, sampling, structured output, and what a server refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from datakit.augment.answer import Stored
from datakit.augment.failures import CallFailed, unwelcome_parameter
from datakit.augment.request import KEY_BYTES, Request

if TYPE_CHECKING:
    from datakit.recipes.recipe import Prompt

Messages = tuple[tuple[str, str], ...]
STRUCTURED = ("auto", "json_schema", "json_object", "off")
# What is tried next where a server refuses the form of the answer.
_LOWER = {"json_schema": "json_object", "json_object": "off"}
MORE_ROOM = 2  # times as many tokens for an answer that was cut off


@dataclass
class Shaping:
    """How requests of one run are made. It learns which parameters a server does not take; ``learnt`` says which."""

    family: str
    model: str
    sampling: Mapping[str, Any] = field(default_factory=dict)  # of the command line, over the prompt's own
    structured: str = "auto"
    left_out: set[str] = field(default_factory=set)
    before: list[tuple[str, frozenset[str]]] = field(default_factory=list)  # earlier ways, in which some were answered
    answered: bool = False  # in the way of now

    def earlier(
        self,
        prompt: Prompt,
        messages: Messages,
        schema: Mapping[str, Any] | None,
        *,
        sample: int = 0,
        more_room: bool = False,
        sampling: Mapping[str, Any] | None = None,
    ) -> Iterator[Request]:
        """The same question as it was asked before the server turned out not to take a parameter of it."""
        for structured, left_out in self.before:
            way = replace(self, structured=structured, left_out=set(left_out))
            yield way.request(prompt, messages, schema, sample=sample, more_room=more_room, sampling=sampling)

    def request(
        self,
        prompt: Prompt,
        messages: Messages,
        schema: Mapping[str, Any] | None,
        *,
        sample: int = 0,
        more_room: bool = False,
        sampling: Mapping[str, Any] | None = None,
    ) -> Request:
        """The request for ``messages`` that ``prompt`` was rendered to. ``schema`` is the answer's, where it is JSON."""
        sent = {**(prompt.sampling if sampling is None else sampling), **self.sampling}
        if more_room and sent.get("max_tokens"):
            sent["max_tokens"] = int(sent["max_tokens"]) * MORE_ROOM
        if "max_tokens" in self.left_out and "max_tokens" in sent:
            sent["max_completion_tokens"] = sent.pop("max_tokens")
        sent = {name: value for name, value in sent.items() if name not in self.left_out and value is not None}
        form = self._form(prompt.output, schema) if schema is not None else None
        return Request(self.family, self.model, messages, sent, form, prompt.digest, sample)

    def has_room(self, request: Request) -> bool:
        """Whether a limit of ours, not the server's, may have cut the answer off."""
        return bool(request.sampling.get("max_tokens") or request.sampling.get("max_completion_tokens"))

    def _form(self, name: str, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
        mode = "json_schema" if self.structured == "auto" else self.structured
        if mode == "json_schema":
            return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}
        return {"type": "json_object"} if mode == "json_object" else None

    # ---- learning ------------------------------------------------------------------------------------------------

    def adapts(self, request: Request, failure: CallFailed) -> bool:
        """Whether a refusal is about a parameter that can be left out; it then is, from now on."""
        name = refused_parameter(request, failure)
        if name is None:
            return False
        way = self.structured, frozenset(self.left_out)
        if self.answered and way not in self.before:
            self.before.append(way)
        self.answered = False
        if name == "response_format":
            assert request.schema is not None
            self.structured = _LOWER[str(request.schema["type"])]
        else:
            self.left_out.add(name)
        return True

    @property
    def _key(self) -> str:
        text = f"parameters\0{self.family}\0{self.model}\0{self._asked}".encode()
        return hashlib.blake2b(text, digest_size=KEY_BYTES).hexdigest()

    _asked: str = "auto"

    def remembered(self) -> str:
        """The key under which the store keeps what was learnt of this server and model."""
        self._asked = self.structured
        return self._key

    def learnt(self, created: float) -> Stored:
        """What was learnt, for the store."""
        before = [(structured, sorted(left_out)) for structured, left_out in self.before]
        body = orjson.dumps({"structured": self.structured, "left_out": sorted(self.left_out), "before": before})
        request = orjson.dumps({"family": self.family, "model": self.model, "parameters": self._asked})
        return Stored(self._key, request, body, "parameters", self.model, finish="parameters", created=created)

    def recall(self, stored: Stored | None) -> None:
        """Take over what an earlier run learnt."""
        if stored is not None:
            known = orjson.loads(stored.body)
            self.structured = known["structured"]
            self.left_out |= set(known["left_out"])
            self.before += [(structured, frozenset(left_out)) for structured, left_out in known.get("before", [])]


def refused_parameter(request: Request, failure: CallFailed) -> str | None:
    """The parameter of a request that the server refused it for; None where the request itself is what it refused."""
    form = {"response_format": request.schema} if request.schema is not None else {}
    return unwelcome_parameter(failure, {**request.sampling, **form})
