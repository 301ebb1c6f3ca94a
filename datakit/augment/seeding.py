"""From the rows of a source to seeds, and from a made record back to a row in the form that its seed has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from datakit.augment.rollout import Made, Seed
from datakit.layout import AUTO, lookup, resolve_layout
from datakit.origins import ORIGIN, SEED_ROW
from registry.datasets import Layout
from registry.errors import RowFault, UsageError
from registry.formats import LAYOUTS, READERS, WRITERS
from registry.records import ChatRecord, FeedbackRecord, PreferenceRecord, Record
from registry.rows import BadRow, Row

_EMPTY = ("", None)
_HALF = "it holds half a character (a lone surrogate), which no request can carry"
# part of a row side by side -> the column that our writer gives it
_WRITTEN = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is no seed: where it stands, which field it is about, and why."""

    row: Row | BadRow
    field: str
    reason: str


def layout_of_seeds(format_name: str, mapping: Mapping[str, str], head: list[Row], kind: str) -> Layout:
    """The layout of rows that seeds of ``kind`` (chat, text, pool) are read from. Raises ``UsageError``.

    Rows with a question and no column for its answer are such as are still to be answered.
    """
    if kind != "text" and format_name == AUTO and not mapping and head:
        first = head[0].data
        question = next((name for name in ("instruction", "prompt") if name in first), None)
        if question and not first.keys() & {"output", "response", "completion", "chosen", "kto_tag", "label"}:
            base = LAYOUTS["alpaca"]
            return replace(base, columns=replace(base.columns, prompt=question))
    layout = resolve_layout(format_name, mapping, head) or LAYOUTS["text" if kind == "text" else "alpaca"]
    wanted = "text" if kind == "text" else "chat"
    if (layout.kind == "text") != (wanted == "text"):
        what = "documents (a column text)" if wanted == "text" else "questions and answers, or conversations"
        raise UsageError(
            f"this recipe takes {what}, and these rows are {layout.formatting} ({layout.kind})",
            where=head[0].where if head else None,
            mend="datakit recipes tells what each recipe takes; --map names columns.",
        )
    return layout


def record_of(data: Mapping[str, Any], layout: Layout, *, unanswered: bool) -> Record:
    """The record of one row; of preference and judged rows the good conversation. Raises ``RowFault``.

    ``unanswered`` takes rows whose last answer is missing, as an empty one.
    """
    if unanswered:
        data = _with_answer(data, layout)
    record = READERS[layout.formatting](data, layout)
    if isinstance(record, PreferenceRecord):
        return ChatRecord((*record.prompt, record.chosen), record.system, record.tools)
    if isinstance(record, FeedbackRecord):
        if not record.desirable:
            raise RowFault(layout.columns.kto_tag or "kto_tag", "the answer was judged bad, so nothing is made of it")
        return ChatRecord(record.messages, record.system, record.tools)
    return record


def _with_answer(data: Mapping[str, Any], layout: Layout) -> Mapping[str, Any]:
    columns, tags = layout.columns, layout.tags
    if layout.formatting == "alpaca":
        column = columns.response or "output"
        return {**data, column: ""} if data.get(column) is None else data
    column = columns.messages or "messages"
    turns = lookup(data, column)
    if isinstance(turns, list) and turns and isinstance(turns[-1], dict):
        last = turns[-1]
        if last.get(tags.role_tag) in (tags.user_tag, tags.observation_tag):
            return {**data, column: [*turns, {tags.role_tag: tags.assistant_tag, tags.content_tag: ""}]}
        if (
            last.get(tags.role_tag) == tags.assistant_tag
            and last.get(tags.content_tag) is None
            and not last.get("tool_calls")
        ):
            return {**data, column: [*turns[:-1], {**last, tags.content_tag: ""}]}
    return data


def seeds_of_rows(
    rows: Iterator[Row | BadRow], layout: Layout, *, unanswered: bool = False
) -> Iterator[tuple[Row, Record] | Unreadable]:
    """Each row with its record, or why it has none."""
    for row in rows:
        if isinstance(row, BadRow):
            yield Unreadable(row, "", row.reason)
            continue
        try:
            record = record_of(row.data, layout, unanswered=unanswered)
            msgspec.msgpack.encode(record)
        except RowFault as fault:
            yield Unreadable(row, fault.field, fault.reason)
        except UnicodeEncodeError:
            yield Unreadable(row, "", _HALF)
        else:
            if isinstance(record, ChatRecord) and not any(message.content.strip() for message in record.messages):
                yield Unreadable(row, "", "no turn has any text, so there is nothing to ask about")
            else:
                yield row, record


@dataclass(frozen=True)
class Shape:
    """What made rows look like: the format of the seeds, or the one asked for.

    ``keeps`` is True where each seed becomes a row: then its other columns come along.
    """

    formatting: str
    layout: Layout | None
    keeps: bool
    one_file: bool = True

    def row(self, made: Made, data: Mapping[str, Any] | None, recipe: str, *, with_origin: bool) -> dict[str, Any]:
        """One made row; ``data`` is its seed's row, ``recipe`` what ``_origin`` calls the recipe.

        Raises ``RowFault`` where the format has no place for it.
        """
        written = self._written(made, data if self.keeps else None)
        written.pop(ORIGIN, None)
        if with_origin:
            written[ORIGIN] = self.origin(made, recipe)
        return written

    def _written(self, made: Made, data: Mapping[str, Any] | None) -> dict[str, Any]:
        record, seed = made.record, made.seeds[0].record if made.seeds else None
        if data is not None and record == seed and self._same_format:
            return dict(data)
        written = WRITERS[self.formatting](record)
        if data is None or self.layout is None or not self._same_format:
            return written
        if not isinstance(record, ChatRecord):
            parts = {getattr(self.layout.columns, name) for name in self.layout.columns.__dataclass_fields__}
            return {name: value for name, value in data.items() if name not in parts} | written
        return self._into(dict(data), written, record, seed)

    @property
    def _same_format(self) -> bool:
        return self.layout is not None and self.layout.formatting == self.formatting and self.layout.kind == "chat"

    def _into(
        self, data: dict[str, Any], written: dict[str, Any], record: ChatRecord, seed: Record | None
    ) -> dict[str, Any]:
        """The written parts in the columns that the seed has them in; a question that did not change stays apart."""
        assert self.layout is not None
        columns = self.layout.columns
        if self.layout.formatting != "alpaca":
            return {**data, str(columns.messages): written[_messages_of(written)]} | {
                name: written[name] for name in ("system", "tools") if name in written
            }
        same_question = isinstance(seed, ChatRecord) and seed.messages[-2:-1] == record.messages[-2:-1]
        for part, name in _WRITTEN.items():
            if same_question and part in ("prompt", "query"):
                continue
            column = getattr(columns, part) or name
            if name in written:
                data[column] = written[name]
            elif column in data and part == "history":
                del data[column]
        return data

    def origin(self, made: Made, recipe: str) -> dict[str, Any]:
        """Where a row comes from: the seed, the recipe, the model and the request, with what the rollout noted."""
        last = made.replies[-1] if made.replies else None
        origin: dict[str, Any] = {
            SEED_ROW: self._seed_row(made),
            "recipe": recipe,
            "model": last.answer.model if last else None,
            "request": last.key if last else None,
        }
        if len(made.replies) > 1:
            origin["requests"] = [reply.key for reply in made.replies]
        if last is not None and last.answer.finish not in ("stop", "eos", "end_turn"):
            origin["finish"] = last.answer.finish
        return origin | {name: value for name, value in made.notes.items() if value not in _EMPTY}

    def _seed_row(self, made: Made) -> Any:
        def place(seed: Seed) -> Any:
            return seed.number if self.one_file else {"file": seed.file, "row": seed.number}

        pool = [one for seed in made.seeds for one in (seed.pool or (seed,)) if one.record is not None]
        places = [place(seed) for seed in pool]
        return None if not places else places[0] if len(places) == 1 else places


def _messages_of(written: Mapping[str, Any]) -> str:
    return "messages" if "messages" in written else "conversations"
