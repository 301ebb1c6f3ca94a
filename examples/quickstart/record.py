"""Make the store of recorded answers anew: those in answers.jsonl, under the requests that the pipeline makes now.

    python examples/quickstart/record.py

Needed where a recipe, a seed or an answer has changed. A line of answers.jsonl holds the recipe, how the seed's question
or text begins (``of``), and what is answered to it, one entry a call: a JSON object, or a text as it would come.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from datakit.augment.accounts import accounts_of
from datakit.augment.answer import Stored
from datakit.augment.asking import asking
from datakit.augment.guess import rough_tokens
from datakit.augment.plan import plan_run
from datakit.augment.request import Request
from datakit.augment.rollout import Call, Reply
from datakit.augment.shaping import Shaping
from datakit.augment.store import AnswerStore
from datakit.pipeline.augmenting import augment_options
from datakit.pipeline.spec import read_pipeline
from datakit.pipeline.steps import STEPS
from registry.errors import Faults, TunekitError, UsageError

FOLDER = Path(__file__).parent
STORE, ANSWERS = "answers.store.sqlite", "answers.jsonl"
NOTE = "Recorded answers: they were written for this demo and shipped with it; no model was asked while it ran."


class Written:
    """The written answers. Each is given once, in order; ``left`` are those that no call asked for."""

    def __init__(self, path: Path) -> None:
        self._lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]

    def answer(self, recipe: str, call: Call) -> str:
        """The next answer to a call. Raises ``UsageError`` where none is left."""
        seed = call.values["seed"]
        asked = seed["text"] or seed["question"]
        fitting = [line for line in self._lines if line["recipe"] == recipe and asked.startswith(line["of"])]
        found = max(fitting, key=lambda line: len(line["of"]), default=None)
        if found is None or not found["answers"]:
            raise UsageError(f"no answer is written to the recipe {recipe} for: {asked}", where=ANSWERS)
        answer = found["answers"].pop(0)
        return answer if isinstance(answer, str) else orjson.dumps(answer).decode()

    @property
    def left(self) -> list[str]:
        return [f"{line['recipe']}, {line['of']}: no call asks for it" for line in self._lines if line["answers"]]


def record(folder: Path) -> Path:
    """Write the store in ``folder``, in which the pipeline lies; its steps up to the last augment are run there.

    Raises ``UsageError`` where a call has no answer, ``Faults`` where an answer has no call.
    """
    (folder / STORE).unlink(missing_ok=True)
    written = Written(folder / ANSWERS)
    with contextlib.chdir(folder):
        steps = read_pipeline("pipeline.yaml").steps
        last = max(number for number, step in enumerate(steps) if step.verb == "augment")
        for step in steps[: last + 1]:
            if step.verb == "augment":
                with AnswerStore(STORE, note=NOTE) as store:
                    for stored in _answers(step.options, written):
                        store.put(stored, _raise)
            STEPS[step.verb](step.options)
    if written.left:
        raise Faults(ANSWERS, written.left)
    return folder / STORE


def _answers(options: Mapping[str, Any], written: Written) -> Iterator[Stored]:
    """What the store needs for one step: every rollout is run, with the written answers in place of a model's."""
    checked = augment_options(options)
    plan = plan_run(options["src"], checked)
    family = accounts_of(checked.provider, checked.base_urls).family
    shaping = Shaping(family, checked.model, checked.sampling, checked.structured)
    for seed in plan.seeds(lambda *told: None, lambda *told: None, lambda *told: None):
        _, rollout = plan.begin(seed)
        replies: list[Reply] | None = None
        with contextlib.suppress(StopIteration):
            while True:
                calls = rollout.send(replies) if replies is not None else next(rollout)
                replies = []
                for call in calls:
                    replies.append((yield from _ask(call, shaping, written, plan.main.name)))


def _ask(call: Call, shaping: Shaping, written: Written, recipe: str) -> Iterator[Stored]:
    """One call, with the corrective request behind it where its answer is of the wrong form."""
    conversation = asking(call, shaping, lambda what: None)
    request = next(conversation)
    while True:
        stored = _stored(request, written.answer(recipe, call))
        yield stored
        try:
            request = conversation.send(stored)
        except StopIteration as end:
            return end.value


def _stored(request: Request, answer: str) -> Stored:
    """An answer as a server would have sent it; tokens are about right."""
    prompt = sum(rough_tokens(content) + 4 for _, content in request.messages)
    completion = rough_tokens(answer)
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    body = {"object": "chat.completion", "model": request.model, "choices": [choice], "usage": usage}
    return Stored(
        request.key, request.spelled, orjson.dumps(body), "openai", request.model,
        prompt_tokens=prompt, completion_tokens=completion, created=time.time(),
    )  # fmt: skip


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


def main() -> None:
    """Record in a copy of this folder, and put the store in its place when it is complete."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, FOLDER.name)
        shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("work", "models", "saves", ".*", "__pycache__"))
        try:
            made = record(copy)
        except TunekitError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        shutil.copy(made, FOLDER / f"{STORE}.new")
        os.replace(FOLDER / f"{STORE}.new", FOLDER / STORE)
    print(f"written: {FOLDER / STORE}")


if __name__ == "__main__":
    main()
