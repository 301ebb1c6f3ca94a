"""What a record becomes for a target that holds records of another kind, and which ways there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from registry.errors import RowFault, UsageError
from registry.records import ChatRecord, FeedbackRecord, PreferenceRecord, Record, TextRecord

# target of `datakit convert --to` -> the kind of records that its rows hold
TARGETS: dict[str, str] = {
    "alpaca": "chat",
    "sharegpt": "chat",
    "openai": "chat",
    "preference": "preference",
    "kto": "feedback",
    "text": "text",
}
BETWEEN_TEXTS = "\n\n"
ROLES = "roles (who says what)"


@dataclass(frozen=True, slots=True)
class Recast:
    """``make`` gives the records for one record, or raises ``RowFault``.

    ``drops`` names the parts (see ``registry.datasets.Columns``, and ``ROLES``) that the new kind has no place for.
    """

    make: Callable[[Record], tuple[Record, ...]]
    drops: tuple[str, ...] = ()


def recast(kind: str, target: str) -> Recast:
    """How records of ``kind`` become those of ``target``. Raises ``UsageError`` where that has no meaning."""
    wanted = TARGETS[target]
    if (kind, wanted) in _NO_WAY:
        what, mend = _NO_WAY[kind, wanted]
        raise UsageError(what, where=f"--to {target}", mend=mend)
    return RECASTS.get((kind, wanted), _SAME)


def _chosen_chat(record: Record) -> tuple[Record, ...]:
    assert isinstance(record, PreferenceRecord)
    return (ChatRecord((*record.prompt, record.chosen), record.system, record.tools),)


def _judged_pair(record: Record) -> tuple[Record, ...]:
    assert isinstance(record, PreferenceRecord)
    sides = ((record.chosen, True), (record.rejected, False))
    return tuple(
        FeedbackRecord((*record.prompt, answer), desirable, record.system, record.tools) for answer, desirable in sides
    )


def _good_chat(record: Record) -> tuple[Record, ...]:
    assert isinstance(record, FeedbackRecord)
    if not record.desirable:
        raise RowFault("kto_tag", "the answer was judged bad, and here it would be learnt as a good one")
    return (ChatRecord(record.messages, record.system, record.tools),)


def _told(record: Record) -> tuple[Record, ...]:
    assert isinstance(record, ChatRecord)
    texts = (record.system, *(message.content for message in record.messages))
    return (TextRecord(BETWEEN_TEXTS.join(text for text in texts if text)),)


def _after(first: Callable[[Record], tuple[Record, ...]]) -> Callable[[Record], tuple[Record, ...]]:
    return lambda record: _told(first(record)[0])


_SAME = Recast(lambda record: (record,))
_MAKE = "A model can write what is missing: datakit augment."
RECASTS: dict[tuple[str, str], Recast] = {
    ("chat", "text"): Recast(_told, ("tools", ROLES)),
    ("preference", "chat"): Recast(_chosen_chat, ("rejected",)),
    ("preference", "feedback"): Recast(_judged_pair),
    ("preference", "text"): Recast(_after(_chosen_chat), ("rejected", "tools", ROLES)),
    ("feedback", "chat"): Recast(_good_chat, ("kto_tag",)),
    ("feedback", "text"): Recast(_after(_good_chat), ("kto_tag", "tools", ROLES)),
}
_NO_WAY: dict[tuple[str, str], tuple[str, str]] = {
    ("text", "chat"): ("plain text has no turns, so it cannot become a conversation", _MAKE),
    ("text", "preference"): ("plain text has neither a question nor two answers to compare", _MAKE),
    ("text", "feedback"): ("plain text has neither a question nor an answer that was judged", _MAKE),
    ("chat", "preference"): (
        "these rows have one answer, and preference rows need a better and a worse one",
        "Name the columns that hold them: --map chosen=COLUMN --map rejected=COLUMN. " + _MAKE,
    ),
    ("chat", "feedback"): (
        "nothing in these rows says whether the answer is good",
        "Name the column of true and false that does: --map kto_tag=COLUMN.",
    ),
    ("feedback", "preference"): (
        "these rows judge one answer each, and preference rows need two answers to one question",
        "Put both answers into one row first; --to alpaca, sharegpt or openai takes the answers judged good.",
    ),
}
