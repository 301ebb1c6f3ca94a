"""The first rows as training sees them: rendered with a chat template, and what is trained set apart."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from datakit.layout import describe_format, peek, resolve_layout
from datakit.summary import in_colour, say, visible
from registry.command import print_json
from registry.datasets import FILE_NAME, Layout, find_entry
from registry.encode import AnyExample, Encoder, EncodeRules, Example, FeedbackExample, PreferenceExample
from registry.errors import RowFault, UsageError
from registry.formats import READERS
from registry.records import FeedbackRecord, PreferenceRecord, Record, TextRecord
from registry.render import Renderer, SlotRenderer, answers_of, judged_of, turns_of
from registry.rows import BadRow, Row, read_rows
from registry.sources import STDIN, container_of
from registry.templates import Slot, Token, load_template
from registry.tokenizer import Tokenizer, open_tokenizer

log = logging.getLogger("tunekit")

NO_LIMIT = 1 << 40  # tokens; a preview is never cut
GREEN, DIM, PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of rendered text that is trained as a whole or not at all."""

    text: str
    trained: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """One row as previewed: its spans under names (``chosen`` and ``rejected`` for pairs), or why there are none."""

    file: str
    row: int
    kind: str
    spans: dict[str, list[Span]]
    tokens: dict[str, dict[str, int]] | None = None
    note: str = ""
    fault: str | None = None


def show_rows(
    src_or_name: str, *, n: int, model: Path | None, template: str | None, dataset_dir: Path, json: bool
) -> None:
    """Print the first ``n`` rows of a file, or of a dataset by its name in ``dataset_dir``.

    With a template (given, or the model's own) as rendered text, else as turns; with a model also token counts.
    Raises ``UsageError`` for what is neither a file nor a defined dataset, unknown templates and unusable models.
    """
    tokenizer, renderer = open_renderer(model, template)
    sources, layout = _find(src_or_name, dataset_dir)
    rows = read_rows(sources)
    if layout is None:
        head, rows = peek(rows)
        layout = resolve_layout("auto", {}, head)
    shown = [show_row(row, layout, renderer, tokenizer) for row in islice(rows, n)]
    if json:
        found = describe_format(layout) if layout else None
        print_json(
            {"source": sources[0], "format": found, "template": template, "rows": [row_as_json(row) for row in shown]}
        )
        return
    say(_legend(renderer is not None, in_colour()))
    for row in shown:
        say("\n" + row_as_text(row, in_colour()))


def open_renderer(model: Path | None, template: str | None) -> tuple[Tokenizer | None, Renderer | None]:
    """What rows are to be rendered with: a model's tokenizer and template, a template alone, or nothing at all."""
    if model is not None:
        return open_tokenizer(model, template)
    return None, SlotRenderer(load_template(template)) if template is not None else None


def _find(src_or_name: str, dataset_dir: Path) -> tuple[list[str], Layout | None]:
    """The source and, for a name from dataset_info.json, the layout that its entry gives."""
    is_file = src_or_name == STDIN or Path(src_or_name).exists()
    if is_file or container_of(src_or_name) or os.sep in src_or_name or "*" in src_or_name:
        return [src_or_name], None
    if not (dataset_dir / FILE_NAME).exists():
        raise UsageError(
            f'"{src_or_name}" is no file here, and there are no datasets either: {dataset_dir / FILE_NAME} does not exist',
            mend="Give a file, or --dataset-dir with the folder that holds dataset_info.json.",
        )
    entry = find_entry(src_or_name, dataset_dir)
    for warning in entry.warnings:
        log.warning("%s: %s", entry.name, warning)
    return entry.sources, entry.layout


def show_row(row: Row | BadRow, layout: Layout | None, renderer: Renderer | None, tokenizer: Tokenizer | None) -> Shown:
    """One row as previewed."""
    if isinstance(row, BadRow) or layout is None:
        return Shown(
            row.file, row.number, "unreadable", {}, fault=row.reason if isinstance(row, BadRow) else "no format"
        )
    try:
        record = READERS[layout.formatting](row.data, layout)
        spans = spans_of(record, renderer, tokenizer) if renderer else turns_as_spans(record)
        tokens = count_tokens(record, renderer, tokenizer) if renderer and tokenizer else None
    except RowFault as fault:
        return Shown(row.file, row.number, layout.kind, {}, fault=str(fault))
    note = f"judged {'desirable' if record.desirable else 'undesirable'}" if isinstance(record, FeedbackRecord) else ""
    return Shown(row.file, row.number, layout.kind, spans, tokens, note)


def turns_as_spans(record: Record) -> dict[str, list[Span]]:
    """A record's parts under names of their own, without a template: ``system``, ``1 user``, ``2 assistant`` …"""
    if isinstance(record, TextRecord):
        return {"text": [Span(record.text, True)]}
    parts: dict[str, list[Span]] = {}
    for name, text in (("system", record.system), ("tools", record.tools)):
        if text:
            parts[name] = [Span(text, False)]
    messages = record.prompt if isinstance(record, PreferenceRecord) else record.messages
    for number, message in enumerate(messages, start=1):
        trained = message.role in ("assistant", "function") and not isinstance(record, PreferenceRecord)
        if isinstance(record, FeedbackRecord):
            trained = number == len(messages)
        parts[f"{number} {message.role}"] = [Span(message.content, trained)]
    if isinstance(record, PreferenceRecord):
        parts |= {"chosen": [Span(record.chosen.content, True)], "rejected": [Span(record.rejected.content, True)]}
    return parts


def spans_of(record: Record, renderer: Renderer, tokenizer: Tokenizer | None) -> dict[str, list[Span]]:
    """A record as rendered text in order, as ``text`` or as ``chosen`` and ``rejected``. Raises ``RowFault``."""
    end = tokenizer.eos_token if tokenizer else "<eos_token>"
    if isinstance(record, TextRecord):
        return {"text": [Span(record.text + end, True)]}
    if isinstance(record, PreferenceRecord):
        named = dict(zip(("chosen", "rejected"), ([turn] for turn in answers_of(record, renderer)), strict=True))
    else:
        named = {"text": [*(judged_of if isinstance(record, FeedbackRecord) else turns_of)(record, renderer)]}
    rendered: dict[str, list[Span]] = {}
    for name, turns in named.items():
        spans: list[Span] = []
        for turn in turns:
            spans += [Span(_text(turn.asked, tokenizer), False), Span(_text(turn.target, tokenizer), turn.weight > 0)]
        rendered[name] = [*spans, Span(end, True)] if renderer.efficient_eos else spans
    return {name: list(_joined(spans)) for name, spans in rendered.items()}


def _text(slots: Iterable[Slot], tokenizer: Tokenizer | None) -> str:
    return "".join(slot if isinstance(slot, str) else _token_text(slot, tokenizer) for slot in slots)


def _token_text(slot: Token, tokenizer: Tokenizer | None) -> str:
    if slot.of is None:
        return slot.text or ""
    return getattr(tokenizer, slot.of) if tokenizer else f"<{slot.of}>"


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    """``spans`` without empty ones, and with neighbours of one kind joined."""
    last: Span | None = None
    for span in spans:
        if not span.text:
            continue
        if last is not None and last.trained == span.trained:
            last = Span(last.text + span.text, span.trained)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last


def count_tokens(record: Record, renderer: Renderer, tokenizer: Tokenizer) -> dict[str, dict[str, int]]:
    """Tokens and trained tokens, uncut, under the names that ``spans_of`` uses; counted by the training's own encoder."""
    if isinstance(record, TextRecord):
        length = len(tokenizer.encode_batch([record.text + tokenizer.eos_token])[0])
        return {"text": {"tokens": length, "trained": length}}
    encoder = Encoder(tokenizer, renderer, EncodeRules(NO_LIMIT))
    if isinstance(record, FeedbackRecord):
        judged = _or_raise(encoder.feedback([record])[0])
        assert isinstance(judged, FeedbackExample)
        return {"text": _counted(judged.own)}
    if isinstance(record, PreferenceRecord):
        pair = _or_raise(encoder.preferences([record])[0])
        assert isinstance(pair, PreferenceExample)
        return {"chosen": _counted(pair.chosen), "rejected": _counted(pair.rejected)}
    example = _or_raise(encoder.chats([record])[0])
    assert isinstance(example, Example)
    return {"text": _counted(example)}


def _or_raise(found: AnyExample | RowFault) -> AnyExample:
    if isinstance(found, RowFault):
        raise found
    return found


def _counted(example: Example) -> dict[str, int]:
    return {"tokens": len(example.ids), "trained": example.num_trained}


def _legend(rendered: bool, colour: bool) -> str:
    mark = f"{GREEN}green{PLAIN}" if colour else "[[in double brackets]]"
    return f"What is trained is {mark}; {'the rest is' if rendered else 'the rest, shown turn by turn, is'} only read."


def row_as_text(shown: Shown, colour: bool) -> str:
    """As people read it: a head line, then each part with its tokens counted."""
    head = f"--- {shown.file}, row {shown.row}: {shown.kind}{f', {shown.note}' if shown.note else ''}"
    if shown.fault:
        return f"{head}\n    not usable: {visible(shown.fault)}"
    lines = [head]
    for name, spans in shown.spans.items():
        counts = shown.tokens.get(name) if shown.tokens else None
        told = f" ({counts['trained']:,} of {counts['tokens']:,} tokens trained)" if counts else ""
        text = "".join(_marked(span, colour) for span in spans)
        lines.append(f"{name}{told}:\n{_indented(text)}")
    return "\n".join(lines)


def _marked(span: Span, colour: bool) -> str:
    text = visible(span.text)
    if colour:
        return f"{GREEN if span.trained else DIM}{text}{PLAIN}"
    return f"[[{text}]]" if span.trained else text


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))


def row_as_json(shown: Shown) -> dict[str, Any]:
    """As ``--json`` prints it; halves of characters are spelled out, since no UTF-8 can hold them."""
    spans = {
        name: [{"text": _storable(span.text), "trained": span.trained} for span in spans]
        for name, spans in shown.spans.items()
    }
    return asdict(shown) | {"spans": spans}


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
