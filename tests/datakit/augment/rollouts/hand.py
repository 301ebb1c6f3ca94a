"""Rollouts driven by hand: each call is rendered from its real recipe and gets the next scripted answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from datakit.augment.answer import Answer
from datakit.augment.failures import CallFailed
from datakit.augment.outputs import OUTPUTS
from datakit.augment.rollout import Call, Making, Reply, Rollout, Seed
from datakit.recipes.recipe import Recipe, load_recipe
from registry.records import ChatRecord, Message, Record

Say = str | CallFailed | dict[str, Any]


def chat(*texts: str, system: str = "", tools: str = "") -> ChatRecord:
    roles = ("user", "assistant")
    return ChatRecord(tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)), system, tools)


def seed_of(record: Record | None, index: int = 0) -> Seed:
    return Seed(index, "seeds.jsonl", index, record)


def making(recipe: str | Recipe, seed: Seed, n: int | None = None, **given: Any) -> Making:
    found = load_recipe(recipe) if isinstance(recipe, str) else recipe
    prompt = found.prompt
    wanted = n if n is not None else prompt.n
    return Making(found, wanted, prompt.filled(given), partial(load_recipe, language="en"), seeds=(seed,))


@dataclass
class Log:
    """What was asked: the calls in their order, and those that were asked at once."""

    calls: list[Call] = field(default_factory=list)
    rounds: list[list[str]] = field(default_factory=list)  # recipe names
    failure: CallFailed | None = None


def drive(rollout: Rollout, answers: Iterable[Say] | Callable[[Call], Say]) -> Log:
    """Run a rollout to its end. A ``CallFailed`` among the answers is thrown in when its round is over."""
    log = Log()
    scripted = iter(()) if callable(answers) else iter(answers)
    try:
        calls = next(rollout)
        while True:
            log.calls += calls
            log.rounds.append([call.prompt.name for call in calls])
            replies: list[Reply] = []
            failure: CallFailed | None = None
            for call in calls:
                assert call.prompt.render(call.values)[-1][0] == "user"
                said = answers(call) if callable(answers) else next(scripted)
                if isinstance(said, CallFailed):
                    failure = failure or said
                    continue
                text = said if isinstance(said, str) else orjson.dumps(said).decode()
                value, _ = OUTPUTS[call.output].read(Answer(text), call.expects)
                replies.append(Reply(call, value, Answer(text), f"key{len(log.calls)}.{len(replies)}"))
            calls = rollout.throw(failure) if failure is not None else rollout.send(replies)
    except StopIteration:
        assert callable(answers) or next(scripted, None) is None, "an answer was not asked for"
    except CallFailed as failure:
        log.failure = failure
    return log


def texts(*said: str) -> dict[str, Any]:
    return {"texts": list(said)}


def pairs(*questions: str) -> dict[str, Any]:
    return {"pairs": [{"question": question, "answer": f"to {question}"} for question in questions]}


def dialogues(*questions: str) -> dict[str, Any]:
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": f"to {q}"}] for q in questions]
    return {"dialogues": [{"turns": turn} for turn in turns]}


def instructions(*tasks: str) -> dict[str, Any]:
    return {"instructions": [{"instruction": task, "input": ""} for task in tasks]}
