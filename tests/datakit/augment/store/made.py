"""Answers to put into stores, and puts that wait until they are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path

from datakit.augment.answer import Stored
from datakit.augment.request import Request
from datakit.augment.store import AnswerStore

NOON = 1_760_000_000.0  # some moment in October 2025


def body_of(text: str) -> bytes:
    """A body as chat-completions servers send it."""
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


def answer(number: int = 0, text: str = "", *, model: str = "m1", status: int = 200, created: float = NOON) -> Stored:
    """The answer to question ``number``; with another ``text`` still to the same question."""
    request = Request(
        family="https://api.example.com/v1",
        model=model,
        messages=(("system", "Be short."), ("user", f"Question {number}?")),
        sampling={"temperature": 0.5},
        recipe="cafe",
    )
    body = body_of(text or f"Answer {number}.") if status < 300 else b'{"error":{"message":"not that"}}'
    finish = "stop" if status < 300 else "refused"
    return Stored(request.key, request.spelled, body, "openai", model, status, finish, 30, 8, 1.5, 1, created)


def put_all(store: AnswerStore, answers: Iterable[Stored]) -> list[BaseException | None]:
    """What was told of each answer, once all are told."""
    told: list[BaseException | None] = []
    answers = list(answers)
    all_told = threading.Event()

    def done(error: BaseException | None) -> None:
        told.append(error)
        if len(told) == len(answers):
            all_told.set()

    for stored in answers:
        store.put(stored, done)
    assert not answers or all_told.wait(60)
    return told


def made_store(path: Path, answers: Iterable[Stored], *, note: str | None = None) -> Path:
    """A store with ``answers``, closed."""
    with AnswerStore(path, note=note) as store:
        assert set(put_all(store, answers)) <= {None}
    return path
