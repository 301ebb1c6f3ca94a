"""Encoding chunks of rows into shards, in this process or in another: each opens tokenizer and files for itself."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from registry.atomic import atomic_file
from registry.blocks import Piece
from registry.encode import lead_of, weights_of
from registry.encoded.chunks import Chunk, chunks_of, rows_of_pieces
from registry.encoded.plain import merged, plain_way
from registry.encoded.shard import ROLES, Extras, write_shard
from registry.encoded.spec import EncodeSpec
from registry.errors import RowFault
from registry.fast_tokenizers import AUTO
from registry.formats import READERS, STRICT_READERS
from registry.formats.media import check_no_media, media_columns
from registry.records import ChatRecord, FeedbackRecord, PreferenceRecord, Record
from registry.render import Renderer, Turn, answers_of, judged_of, special_texts, turns_of
from registry.rows import BadRow, Row
from registry.texts import text_of
from registry.tokenizer import Tokenizer, open_tokenizer
from registry.uncut import Uncut, encode_plain, encode_rows

Opened = tuple[Tokenizer, Renderer]
WALKS: dict[str, Any] = {"turns": turns_of, "answer": judged_of, "pair": answers_of}
MOST_LEADS = 10_000  # distinct system texts whose length is kept


@dataclass
class Encoding:
    """Encodes the rows of one dataset, chunk by chunk. ``backend`` is one of ``fast_tokenizers.BACKENDS``; ``opened`` a
    tokenizer and a renderer that were opened so already, for this template and these rules."""

    spec: EncodeSpec
    folder: Path
    backend: str = AUTO
    opened: Opened | None = None
    _reading: dict[int, tuple[int, Iterator[list[Piece]]]] = field(default_factory=dict)
    _leads: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = self.spec
        # pt spells no turns: a base model without a chat template is fine there
        template = spec.template or ("empty" if spec.kind == "text" else None)
        self.tokenizer, self.renderer = self.opened or open_tokenizer(
            spec.tokenizer_folder, template, rules=spec.rules, backend=self.backend, added=spec.added
        )
        self._read = (STRICT_READERS if spec.strict else READERS)[spec.layout.formatting]
        self._plain = plain_way(spec.layout, self.renderer) if spec.kind == "turns" else None
        self._media = media_columns(spec.layout)

    def shard(self, chunk: Chunk) -> dict[str, Any] | None:
        """Write the shard of a chunk; returns what the journal keeps of it, None where the file ends before it.

        ``doubtful`` counts the texts that a fast tokenizer had answered before it was found wrong.
        """
        pieces = self._pieces(chunk)
        if pieces is None:
            return None
        encoded = self.encode(rows_of_pieces(pieces))
        made: dict[str, Any] = {**write_shard(self.folder / f"{chunk.name}.arrow", encoded.uncut, encoded.extras)}
        if encoded.rejects:
            told = b"".join(orjson.dumps(reject, default=str) + b"\n" for reject in encoded.rejects)
            with atomic_file(self.folder / f"{chunk.name}.rejects.jsonl") as handle:
                handle.write(told)
            made |= {"rejects": (len(told), zlib.crc32(told))}
        return {
            "file": chunk.file, "index": chunk.index, **made, "rows": len(encoded.extras.rows),
            "faults": len(encoded.uncut.faults), "tokens": len(encoded.uncut.ids), "specials": encoded.specials,
            "tokenizer": self.tokenizer.coder.name, "doubtful": getattr(self.tokenizer.coder, "doubtful", 0),
        }  # fmt: skip

    def _pieces(self, chunk: Chunk) -> Sequence[Piece] | None:
        if chunk.places is not None:
            return [place.read() for place in chunk.places]
        next_index, chunks = self._reading.pop(chunk.file, (0, None))
        if chunks is None or next_index > chunk.index:
            next_index = 0
            chunks = chunks_of(self.spec.files[chunk.file], keep_blank_lines=self.spec.strict)
        for pieces in chunks:
            next_index += 1
            if next_index > chunk.index:
                self._reading[chunk.file] = next_index, chunks
                return pieces
        self._reading[chunk.file] = next_index, iter(())  # not to be read again for the chunks after its end
        return None

    def encode(self, rows: Iterable[Row | BadRow]) -> Encoded:
        """Rows as uncut ids; those that are none keep their place, with the reason."""
        found = Encoded()
        held = list(rows)
        found.extras.rows = [row.number for row in held]
        found.uncut = self._uncut(held, found)
        for number, fault in sorted(found.uncut.faults.items()):
            row = held[number]
            raw = row.raw if isinstance(row, BadRow) else row.data
            found.rejects.append(
                {"file": row.file, "row": row.number, "field": fault.field, "reason": fault.reason, "raw": raw}
            )
        return found

    def _uncut(self, rows: Sequence[Row | BadRow], found: Encoded) -> Uncut:
        if self.spec.kind == "text":
            return self._texts(rows)
        extras = found.extras
        extras.leads, extras.weights = [0] * len(rows), [None] * len(rows)
        extras.roles, extras.desirable = [None] * len(rows), [None] * len(rows)
        extras.specials = [0] * len(rows)
        short = self._short(rows, found)
        if short is None:
            return self._long(rows, range(len(rows)), found)
        done = set(short[0])
        rest = [number for number in range(len(rows)) if number not in done]
        return merged(short, (rest, self._long(rows, rest, found))) if rest else short[1]

    def _short(self, rows: Sequence[Row | BadRow], found: Encoded) -> tuple[list[int], Uncut] | None:
        """The rows that go the short way; the first of them goes both."""
        plain = self._plain
        if plain is None or not plain.on or self._media:
            return None
        made = plain.encode([row.data if isinstance(row, Row) else None for row in rows], self.tokenizer)
        if made is None:
            return None
        numbers, uncut, system = made
        first = rows[numbers[0]]
        assert isinstance(first, Row)
        if not plain.confirm(first.data, self._record(first)):
            return None
        lead, told = self._lead(system, ""), plain.renderer.special_texts((), system)
        for number in numbers:
            found.extras.leads[number] = lead
            found.extras.specials[number] = told + plain.special_texts(rows[number].data)  # type: ignore[union-attr]
        return numbers, uncut

    def _long(self, rows: Sequence[Row | BadRow], numbers: Sequence[int], found: Encoded) -> Uncut:
        walk, renderer, extras = WALKS[self.spec.kind], self.renderer, found.extras
        walked: list[Sequence[Turn] | RowFault] = []
        for number in numbers:
            record = self._record(rows[number])
            try:
                if isinstance(record, RowFault):
                    raise record
                turns = walk(record, renderer)
                extras.leads[number] = self._lead(record.system, record.tools)  # type: ignore[union-attr]
            except RowFault as fault:
                walked.append(fault)
                continue
            walked.append(turns)
            if self.spec.kind == "turns":
                extras.weights[number] = weights_of(turns)
            extras.roles[number] = _roles(record)
            extras.desirable[number] = self._judged(record)
            extras.specials[number] = special_texts(record, renderer)
        return encode_rows(walked, self.spec.kind, self.tokenizer)

    def _texts(self, rows: Sequence[Row | BadRow]) -> Uncut:
        """pt: each row's text with the end of a text after it."""
        end = self.spec.end_text if self.spec.end_text is not None else self.tokenizer.eos_token
        records = [self._record(row) for row in rows]
        uncut = encode_plain(["" if isinstance(r, RowFault) else text_of(r) + end for r in records], self.tokenizer)
        faults = {number: r for number, r in enumerate(records) if isinstance(r, RowFault)}
        return replace(uncut, faults=uncut.faults | faults)

    def _record(self, row: Row | BadRow) -> Record | RowFault:
        if isinstance(row, BadRow):
            return RowFault("row", row.reason)
        try:
            record = self._read(row.data, self.spec.layout)
            if self._media:
                check_no_media(row.data, record, self.spec.layout)
        except RowFault as fault:
            return fault
        return record

    def _judged(self, record: Record) -> bool | None:
        """The judgement of a row of feedback; LLaMA-Factory takes an empty answer for an undesirable one."""
        if not isinstance(record, FeedbackRecord):
            return None
        return record.desirable and not (self.spec.strict and not record.messages[-1].content)

    def _lead(self, system: str, tools: str) -> int:
        """How many tokens open a conversation before its first message: prefix, system text and tools."""
        key = system, tools
        if key not in self._leads:
            if len(self._leads) >= MOST_LEADS:
                self._leads.clear()
            self._leads[key] = lead_of(system, tools, self.renderer, self.tokenizer)
        return self._leads[key]


@dataclass
class Encoded:
    """A chunk's rows, encoded."""

    extras: Extras = field(default_factory=Extras)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    uncut: Uncut = field(init=False)

    @property
    def specials(self) -> int:
        """How many special tokens stand as text in the user's side of all rows."""
        return sum(self.extras.specials)


def _roles(record: Record) -> list[int] | None:
    if isinstance(record, ChatRecord | FeedbackRecord):
        messages = record.messages
    elif isinstance(record, PreferenceRecord):
        messages = (*record.prompt, record.chosen)
    else:
        return None
    roles = [ROLES.index(message.role) for message in messages]
    return roles if any(role > 1 for role in roles) else None
