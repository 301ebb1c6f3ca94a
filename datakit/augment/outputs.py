"""How the answer to each kind of prompt is read: one entry for each output that a recipe can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import orjson

from datakit.augment import shapes
from datakit.augment.answer import Answer
from datakit.augment.mending import Unparsable, check_length, json_values, without_thoughts
from datakit.augment.shapes import Dialogue, Instruction, Pair, Score, Turn, Verdict

__all__ = [
    "OUTPUTS",
    "Dialogue",
    "Instruction",
    "Output",
    "Pair",
    "Score",
    "Thought",
    "Turn",
    "Unparsable",
    "Verdict",
    "corrective",
]

MOST_OF_BAD = 4_000  # characters of a bad answer that go back to the model
T = TypeVar("T")
Messages = tuple[tuple[str, str], ...]
Schema = Mapping[str, Any]


class Thought(NamedTuple):
    """An answer, and the reasoning that led to it."""

    thoughts: str
    answer: str


@dataclass(frozen=True)
class Output:
    """One form of answers: its name, an example of it, its JSON Schema (None for plain text), and its reader.

    The schema asks for every property and allows no other, as servers with strict structured output demand.
    """

    name: str
    form: str
    schema: Schema | None
    reader: Callable[[Answer, int | None], tuple[Any, bool]]

    def read(self, answer: Answer, expects: int | None = None) -> tuple[Any, bool]:
        """The value in ``answer``, and whether its JSON had to be mended (or cut back to what is whole).

        ``text`` gives a str without the reasoning in front of it, ``thought`` a ``Thought``, ``texts`` a list of str
        (exactly ``expects``, where that is given), ``pairs``, ``instructions``, ``dialogues`` lists of their types (of
        ``pairs`` it may be empty), ``score`` a ``Score``, ``verdict`` a ``Verdict``. Other names for the same keys and
        roles are taken as well, and a bare list where an object with one list was asked for: see ``shapes``. One item
        that is wrong makes the answer wrong, unless it was cut off: then the whole items before the cut count.

        Raises ``Unparsable``, whose text can be sent to the model.
        """
        return self.reader(answer, expects)


# ---- plain text ----------------------------------------------------------------------------------------------------


def _text(answer: Answer, expects: int | None) -> tuple[str, bool]:
    check_length(answer.text)
    _, text = without_thoughts(answer.text)
    if not text:
        raise Unparsable("the answer is empty")
    return text, False


def _thought(answer: Answer, expects: int | None) -> tuple[Thought, bool]:
    check_length(answer.text)
    thoughts, text = without_thoughts(answer.text)
    thoughts = thoughts or answer.thoughts.strip()
    if not thoughts:
        raise Unparsable("the reasoning is missing: <think>, the reasoning, </think>, then the answer")
    if not text:
        raise Unparsable("the answer after </think> is missing")
    return Thought(thoughts, text), False


# ---- JSON ----------------------------------------------------------------------------------------------------------


def _list_of(
    name: str, item: type, spelled: Callable[[Any], Any], *, may_be_empty: bool = False
) -> Callable[[Answer, int | None], tuple[list[Any], bool]]:
    """A reader of answers whose list ``name`` holds items of one type."""

    def read(answer: Answer, expects: int | None) -> tuple[list[Any], bool]:
        was_cut = answer.finish == "length"
        values, mended = json_values(answer.text, was_cut=was_cut)
        items, at = _one_list(values, name, item, spelled, was_cut=was_cut and mended)
        found = shapes.checked([spelled(one) for one in items], list[item], at)  # type: ignore[valid-type]
        if not found and not may_be_empty:
            raise Unparsable(f"{at}: the list is empty")
        for number, one in enumerate(found):
            _check_item(one, f"{at}[{number}]")
        if expects is not None and name == "texts" and len(found) != expects:
            raise Unparsable(f"{at}: {expects} texts belong here, not {len(found)}")
        return found, mended

    return read


def _check_item(one: Any, at: str) -> None:
    if isinstance(one, str) and not one.strip():
        raise Unparsable(f"{at}: the text is empty")
    if isinstance(one, Dialogue):
        shapes.check_dialogue(one, at)


def _one_list(
    values: Sequence[Any], name: str, item: type, spelled: Callable[[Any], Any], *, was_cut: bool
) -> tuple[list[Any], str]:
    """The list among ``values``, and its place: that of an object, a bare one, or objects that are items themselves."""
    named = [found for value in values if (found := _list_in(value, name, item, spelled)) is not None]
    bare = [(value, "$") for value in values if isinstance(value, list) and value]
    alone = [value for value in values if isinstance(value, dict) and _is_item(value, item, spelled)]
    for lists in (named, bare):
        different = _different(lists)
        if len(different) > 1:
            raise Unparsable(f"$: the answer holds {len(different)} lists; one is wanted")
        if different:
            return different[0]
    if alone and not was_cut:
        return alone, "$"
    if was_cut:
        raise Unparsable("the answer was cut off before its first item was whole")
    raise Unparsable(f'$: an object with the list "{name}" belongs here')


def _different(values: Sequence[T]) -> list[T]:
    """The values without repetitions."""
    if len(values) < 2:
        return list(values)
    try:
        return list({orjson.dumps(value): value for value in values}.values())
    except orjson.JSONEncodeError:
        raise Unparsable("the JSON cannot be read: it is nested too deep") from None


def _list_in(value: Any, name: str, item: type, spelled: Callable[[Any], Any]) -> tuple[list[Any], str] | None:
    """The list ``name`` of an object; where no part is called so, its only list."""
    if not isinstance(value, dict):
        return None
    if name in value:
        found = value[name]
        if not isinstance(found, list):
            raise Unparsable(f"$.{name}: a list belongs here, not {shapes.kind_of(found)}")
        return found, f"$.{name}"
    if _is_item(value, item, spelled):
        return None
    lists = [(found, f"$.{key}") for key, found in value.items() if isinstance(found, list)]
    return lists[0] if len(lists) == 1 else None


_PARTS: dict[type, set[str]] = {
    Pair: {"question", "answer"},
    Instruction: {"instruction"},
    Dialogue: {"turns"},
}


def _is_item(value: dict[str, Any], item: type, spelled: Callable[[Any], Any]) -> bool:
    """Whether an object has the parts of one item, whatever stands in them."""
    found = spelled(value)
    return item in _PARTS and isinstance(found, dict) and _PARTS[item] <= found.keys()


def _one_of(name: str, item: type, spelled: Callable[[Any], Any]) -> Callable[[Answer, int | None], tuple[Any, bool]]:
    """A reader of answers that are one object, which has the part ``name``."""

    def read(answer: Answer, expects: int | None) -> tuple[Any, bool]:
        values, mended = json_values(answer.text, was_cut=False)
        flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
        objects = [found for one in flat if isinstance(found := spelled(one), dict) and name in found]
        different = _different(objects)
        if not different:
            raise Unparsable(f'$: an object with "{name}" belongs here')
        if len(different) > 1:
            raise Unparsable(f"$: the answer holds {len(different)} objects; one is wanted")
        return shapes.checked(different[0], item, "$"), mended

    return read


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list(name: str, items: Schema) -> Schema:
    return _object(**{name: {"type": "array", "items": items}})


_TEXT: Schema = {"type": "string"}
_TURN = _object(role={"type": "string", "enum": ["user", "assistant"]}, content=_TEXT)

OUTPUTS: dict[str, Output] = {
    output.name: output
    for output in (
        Output("text", "the text of the answer and nothing else", None, _text),
        Output("thought", "<think>\nthe reasoning\n</think>\n\nthe answer", None, _thought),
        Output("texts", '{"texts": ["…", "…"]}', _list("texts", _TEXT), _list_of("texts", str, shapes.text)),
        Output(
            "pairs",
            '{"pairs": [{"question": "…", "answer": "…"}]}',
            _list("pairs", _object(question=_TEXT, answer=_TEXT)),
            _list_of("pairs", Pair, shapes.pair, may_be_empty=True),
        ),
        Output(
            "instructions",
            '{"instructions": [{"instruction": "…", "input": ""}]}',
            _list("instructions", _object(instruction=_TEXT, input=_TEXT)),
            _list_of("instructions", Instruction, shapes.instruction),
        ),
        Output(
            "dialogues",
            '{"dialogues": [{"system": "", "turns": [{"role": "user", "content": "…"}, '
            '{"role": "assistant", "content": "…"}]}]}',
            _list("dialogues", _object(system=_TEXT, turns={"type": "array", "items": _TURN})),
            _list_of("dialogues", Dialogue, shapes.dialogue),
        ),
        Output(
            "score",
            '{"reason": "…", "score": 7}',
            _object(reason=_TEXT, score={"type": "integer", "enum": list(range(1, 11))}),
            _one_of("score", Score, shapes.score),
        ),
        Output(
            "verdict",
            '{"reason": "…", "winner": "A"}',
            _object(reason=_TEXT, winner={"type": "string", "enum": ["A", "B", "tie"]}),
            _one_of("winner", Verdict, shapes.verdict),
        ),
    )
}


def corrective(messages: Messages, bad_text: str, message: str, output: str = "") -> Messages:
    """The request that asks once more: what was said before, the bad answer, what is wrong with it, the form wanted.

    ``output`` names the form; without it the model is sent back to the one it was told.
    """
    said = bad_text.strip()
    said = said if len(said) <= MOST_OF_BAD else said[:MOST_OF_BAD] + " …"
    form = OUTPUTS[output].form if output else ""
    wanted = f"Answer in this form:\n{form}" if form else "Answer in the form that was asked for."
    asked = (
        f"Your answer cannot be used: {message}\n\nGive the whole answer again, right this time, in the same language, "
        f"with nothing before or after it. {wanted}"
    )
    return (*messages, ("assistant", said or "(nothing)"), ("user", asked))
