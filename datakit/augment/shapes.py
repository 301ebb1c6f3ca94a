"""What answers in JSON become: their typed values, and the many names under which models spell the same thing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from datakit.augment.mending import Unparsable

T = TypeVar("T")
Filled = Annotated[str, msgspec.Meta(pattern=r"\S")]


class Pair(msgspec.Struct, frozen=True):
    """A question and its answer, neither of them empty."""

    question: Filled
    answer: Filled


class Instruction(msgspec.Struct, frozen=True):
    """A task, and the material it works on: empty where it needs none."""

    instruction: Filled
    input: str = ""

    @property
    def question(self) -> str:
        return f"{self.instruction}\n{self.input}" if self.input.strip() else self.instruction


class Turn(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant"]
    content: Filled


class Dialogue(msgspec.Struct, frozen=True):
    """A conversation: turns of user and assistant alternate, the user's first, the assistant's last."""

    turns: tuple[Turn, ...]
    system: str = ""


class Score(msgspec.Struct, frozen=True):
    """From 1 (bad) to 10 (good), with a reason that is not empty."""

    score: Annotated[float, msgspec.Meta(ge=1, le=10)]
    reason: Filled


class Verdict(msgspec.Struct, frozen=True):
    """Which of two answers, A and B, is better."""

    winner: Literal["A", "B", "tie"]
    reason: Filled


_QUESTION = ("question", "instruction", "q", "query", "prompt", "task", "human", "user")
_ANSWER = ("answer", "output", "response", "a", "completion", "reply", "assistant", "gpt")
_TURNS = ("turns", "messages", "conversations", "conversation", "dialogue", "dialog")
_SYSTEM = ("system", "system_prompt", "system_message")
_ROLE = ("role", "from", "speaker")
_CONTENT = ("content", "value", "text", "message")
_ROLES = {
    **dict.fromkeys(("user", "human", "customer", "用户"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "ai", "chatbot", "助手"), "assistant"),
    "system": "system",
}
_WINNERS = {
    **dict.fromkeys(("a", "answer a", "answer_a", "response a", "回答a"), "A"),
    **dict.fromkeys(("b", "answer b", "answer_b", "response b", "回答b"), "B"),
    **dict.fromkeys(("tie", "draw", "equal", "both", "neither", "平局", "平手"), "tie"),
}
_OF_TEN = re.compile(r"\s*(\d{1,3}(?:\.\d+)?)\s*(?:/\s*10|out of 10|分)?\s*")

# ---- one item in the names used here; what is no object is left as it is, for the check to tell --------------------


def pair(item: Any) -> Any:
    """question/instruction/q/query/prompt/…, answer/output/response/a/…; an ``input`` goes below an instruction."""
    if not isinstance(item, dict):
        return item
    found = _named(item, question=(*_QUESTION, "input"), answer=_ANSWER)
    more = _get(item, "input")
    if isinstance(more, str) and more.strip() and isinstance(found.get("question"), str) and more != found["question"]:
        found["question"] = f"{found['question']}\n{more}"
    return found


def instruction(item: Any) -> Any:
    """instruction/question/task/…, input/context."""
    if isinstance(item, str):
        return {"instruction": item}
    if not isinstance(item, dict):
        return item
    found = _named(item, instruction=("instruction", *_QUESTION), input=("input", "context"))
    return {name: value for name, value in found.items() if name != "input" or value is not None}


def text(item: Any) -> Any:
    """A text, or an object that holds one and nothing else."""
    if isinstance(item, dict) and len(item) == 1 and isinstance(value := next(iter(item.values())), str):
        return value
    return item


def dialogue(item: Any) -> Any:
    """turns/messages/conversations/… or the bare list of turns; a system turn in front becomes ``system``.

    A pair of question and answer is a conversation of two turns.
    """
    system: Any = ""
    turns = item
    if isinstance(item, dict):
        system = _first(item, _SYSTEM, "")
        turns = _first(item, _TURNS, None)
        if turns is None:
            asked = pair(item)
            if asked.keys() < {"question", "answer"}:
                return {}
            turns = [{"role": "user", "content": asked["question"]}, {"role": "assistant", "content": asked["answer"]}]
    if not isinstance(turns, list):
        return {"turns": turns}
    spelled = [one for turn in turns for one in _turns(turn)]
    if spelled and isinstance(spelled[0], dict) and spelled[0].get("role") == "system":
        system = spelled.pop(0).get("content")
    return {"turns": spelled, "system": "" if system is None else system}


def _turns(turn: Any) -> list[Any]:
    """One turn as role and content; ``{"user": …, "assistant": …}`` is two."""
    if not isinstance(turn, dict):
        return [turn]
    found = _named(turn, role=_ROLE, content=_CONTENT)
    if "role" not in found and turn and all(_role(name) in ("user", "assistant") for name in turn):
        return [{"role": _role(name), "content": value} for name, value in turn.items()]
    if "role" in found:
        found["role"] = _role(found["role"])
    return [found]


def _role(name: Any) -> Any:
    return _ROLES.get(name.strip().casefold(), name) if isinstance(name, str) else name


def score(item: Any) -> Any:
    """score/rating/grade, also as "8" or "8/10"; reason/explanation/…"""
    if not isinstance(item, dict):
        return item
    found = _named(item, score=("score", "rating", "grade"), reason=("reason", "explanation", "rationale", "comment"))
    number = found.get("score")
    if isinstance(number, str) and (spelled := _OF_TEN.fullmatch(number)):
        found["score"] = float(spelled[1])
    return found


def verdict(item: Any) -> Any:
    """winner/better/verdict/choice, also as "Answer A"; reason/explanation/…"""
    if not isinstance(item, dict):
        return item
    reasons = ("reason", "explanation", "rationale", "comment")
    found = _named(item, winner=("winner", "better", "verdict", "choice"), reason=reasons)
    winner = found.get("winner")
    if isinstance(winner, str):
        found["winner"] = _WINNERS.get(winner.strip().casefold(), winner)
    return found


def _named(item: Mapping[str, Any], **names: Sequence[str]) -> dict[str, Any]:
    """The parts that are there, under the names used here."""
    missing = object()
    found = {part: _first(item, known, missing) for part, known in names.items()}
    return {part: value for part, value in found.items() if value is not missing}


def _first(item: Mapping[str, Any], names: Sequence[str], default: Any) -> Any:
    folded = {key.strip().casefold(): value for key, value in item.items()}
    return next((folded[name] for name in names if name in folded), default)


def _get(item: Mapping[str, Any], name: str) -> Any:
    return _first(item, (name,), None)


# ---- the check -----------------------------------------------------------------------------------------------------


def checked(value: Any, kind: type[T], at: str) -> T:
    """``value`` as ``kind``. Raises ``Unparsable`` with the place below ``at`` (such as ``$.pairs``)."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Unparsable(_told(str(error), at)) from None
    except RecursionError:
        raise Unparsable(f"{at}: nested too deep") from None


_WORDS = {
    "str": "text",
    "array": "a list",
    "object": "an object",
    "int": "a number",
    "float": "a number",
    "null": "null",
}
_WORDS["bool"] = "true or false"
_SAYS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (
        re.compile(r"Expected `([^`]+)`, got `([^`]+)`"),
        lambda m: f"{_kinds(m[1])} belongs here, not {_kinds(m[2])}",
    ),
    (re.compile(r"Object missing required field `([^`]+)`"), lambda m: f'"{m[1]}" is missing'),
    (re.compile(r"matching regex"), lambda m: "the text is empty"),
    (re.compile(r"Expected `(?:int|float)` [<>]="), lambda m: "a number from 1 to 10 belongs here"),
    (
        re.compile(r"Invalid enum value '?(.{0,40}?)'?(?: - at|$)"),
        lambda m: f'"{m[1]}" is none of the values asked for',
    ),
)


def _kinds(names: str) -> str:
    return " or ".join(_WORDS.get(name.strip(), name.strip()) for name in names.split("|"))


def _told(message: str, at: str) -> str:
    path = re.search(r"at `\$?(.*)`$", message)
    where = at + (path[1] if path else "")
    what = next((say(found) for pattern, say in _SAYS if (found := pattern.search(message))), message)
    return f"{where}: {what}"


def check_dialogue(one: Dialogue, at: str) -> None:
    """Raise ``Unparsable`` unless the user and the assistant take turns, the user first, the assistant last."""
    if len(one.turns) < 2:
        raise Unparsable(f"{at}.turns: a question and an answer are the least; there {_count(len(one.turns))}")
    for number, turn in enumerate(one.turns):
        wanted = "assistant" if number % 2 else "user"
        if turn.role != wanted:
            raise Unparsable(f"{at}.turns[{number}].role: user and assistant take turns: {wanted} belongs here")
    if len(one.turns) % 2:
        raise Unparsable(f"{at}.turns: the last turn must be the assistant's")


def _count(turns: int) -> str:
    return "is 1 turn" if turns == 1 else f"are {turns} turns"


def kind_of(value: Any) -> str:
    """The kind of a JSON value in words."""
    kinds = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")
