"""A batch as training would see it: each sequence decoded, with what is trained marked and where it comes from."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from registry.encode import IGNORE
from registry.errors import UsageError
from registry.examples import Example, FeedbackExample, PreferenceExample
from registry.packed import join_block
from registry.tokenizer import Tokenizer
from trainkit.config import RunConfig
from trainkit.data.batching import PAD_MULTIPLE
from trainkit.data.blocks import blocks_in_order, is_packed
from trainkit.data.tokenized import only_read
from trainkit.data.views import View
from trainkit.encode import load

GREEN, DIM, PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # what would move a terminal's cursor, or worse


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens ``start`` to ``end`` (exclusive) of a sequence: all of one source and weight, all trained or none."""

    start: int
    end: int
    trained: bool
    weight: float
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """A row of a sequence: its file, its number there (from 1), and the tokens that it gave. ``example`` is its number
    among the examples (from 1), where it is one of its own."""

    file: str
    row: int
    start: int
    end: int
    example: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """One sequence of a batch: an example or a block, or one side of an example (``part``: chosen, rejected, own, kl).

    ``padding`` (tokens) follows it; ``num_cut`` tokens of its rows were left out. ``weights`` are there where answers
    weigh differently.
    """

    number: int
    part: str
    ids: list[int]
    labels: list[int]
    weights: list[float] | None
    spans: list[Span]
    sources: list[Source]
    num_cut: int
    padding: int
    desirable: bool | None = None

    @property
    def num_trained(self) -> int:
        return len(self.labels) - self.labels.count(IGNORE)


@dataclass(frozen=True, slots=True)
class ShownBatch:
    """Sequences padded to ``length`` tokens each. ``unit`` says what is numbered: ``example`` or ``block``, of ``total``
    in all."""

    stage: str
    unit: str
    total: int
    length: int
    sequences: list[Shown]

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        listed = []
        for one in self.sequences:
            counts = {"tokens": len(one.ids), "trained": one.num_trained}
            listed.append(asdict(one) | counts | {"text": "".join(span.text for span in one.spans)})
        about = {"stage": self.stage, "unit": self.unit, "total": self.total, "length": self.length}
        return {"command": "show", **about, "sequences": listed}


def show_batch(config: RunConfig, count: int, chosen: str | None = None) -> ShownBatch:
    """The first ``count`` examples (blocks, where the run packs) in the order of the rows, or those ``chosen`` by number
    ("3,17", from 1), padded as one batch.

    Raises ``UsageError`` for a number that there is not.
    """
    wanted = None if chosen is None else _numbers(chosen)
    data = replace(config.data, tokenized_path=only_read(config.data.tokenized_path))
    examples, tokenizer = load(replace(config, data=data))
    view = examples.train
    blocks = blocks_in_order(config, view) if is_packed(config) else None
    total = len(view) if blocks is None else len(blocks)
    numbers = list(range(1, min(count, total) + 1)) if wanted is None else wanted
    unit = "example" if blocks is None else "block"
    if beyond := [number for number in numbers if not 1 <= number <= total]:
        raise UsageError(
            f"there is no {unit} {beyond[0]}", where="--rows", mend=f"They are numbered from 1 to {total}."
        )
    if blocks is not None:
        block_len = config.data.cutoff_len
        made = [_block(view, n, blocks[n - 1], tokenizer, block_len, strict=config.strict) for n in numbers]
        return ShownBatch(config.stage, unit, total, block_len, made)
    sequences = [(number, *side) for number in numbers for side in _sides(view, number)]
    longest = max(len(example.ids) for _, _, example, _, _ in sequences)
    length = -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE
    shown = [
        _shown(number, part, example, sources, tokenizer, length - len(example.ids), desirable)
        for number, part, example, sources, desirable in sequences
    ]
    return ShownBatch(config.stage, unit, total, length, shown)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f'"{text}" are no numbers', where="--rows", mend="Write them as in  --rows 3,17") from None


def _sides(view: View, number: int) -> Iterator[tuple[str, Example, list[Source], bool | None]]:
    """The sequences of the ``number``-th example (from 1), each with the name of its part and its rows."""
    example = view[number - 1]
    places = view.places(number - 1)  # type: ignore[attr-defined]
    file, row = places[0][:2]

    def own(side: Example) -> list[Source]:
        return [Source(file, row, 0, len(side.ids), number)]

    if isinstance(example, PreferenceExample):
        yield "chosen", example.chosen, own(example.chosen), None
        yield "rejected", example.rejected, own(example.rejected), None
    elif isinstance(example, FeedbackExample):
        yield "own", example.own, own(example.own), example.desirable
        size = len(example.kl.ids)
        answer = next((at for at, label in enumerate(example.kl.labels) if label != IGNORE), size)
        sources = [Source(file, row, 0, answer, number), Source(*places[1][:2], answer, size)]
        yield "kl", example.kl, sources, None
    elif len(places[0]) == 3:
        starts = [at for _, _, at in places]
        ends = [*starts[1:], len(example.ids)]
        yield "", example, [Source(f, r, at, end) for (f, r, at), end in zip(places, ends, strict=True)], None
    else:
        yield "", example, own(example), None


def _block(
    view: View, number: int, members: Sequence[int], tokenizer: Tokenizer, block_len: int, *, strict: bool
) -> Shown:
    """A block of a packed run, without its padding."""
    examples = [view[member] for member in members]
    block = join_block(examples, block_len, tokenizer.pad_id or 0, strict=strict)  # type: ignore[arg-type]
    sources, start = [], 0
    for member, example in zip(members, examples, strict=True):
        end = start + len(example.ids)  # type: ignore[union-attr]
        sources.append(Source(*view.places(member)[0][:2], start, end, member + 1))  # type: ignore[attr-defined]
        start = end
    weights = None if block.weights is None else block.weights[:start]
    cut = sum(example.num_cut for example in examples)  # type: ignore[union-attr]
    whole = Example(block.ids[:start], block.labels[:start], cut, weights)
    return _shown(number, "", whole, sources, tokenizer, block_len - start, None)


def _shown(
    number: int,
    part: str,
    example: Example,
    sources: list[Source],
    tokenizer: Tokenizer,
    padding: int,
    desirable: bool | None,
) -> Shown:
    weights = None if example.weights is None else list(example.weights)
    spans = spans_of(example, tokenizer, [source.start for source in sources])
    ids, labels = list(example.ids), list(example.labels)
    return Shown(number, part, ids, labels, weights, spans, sources, example.num_cut, padding, desirable)


def spans_of(example: Example, tokenizer: Tokenizer, joints: Sequence[int] = ()) -> list[Span]:
    """An example's tokens as spans, with a new one at each of ``joints`` too. Their texts, joined, are the decoded
    example; of a character that is cut in two, each half is shown as the tokenizer decodes it alone."""
    size = len(example.ids)
    weights = example.weights

    def kind(at: int) -> tuple[bool, float]:
        trained = example.labels[at] != IGNORE
        return trained, round(float(weights[at]), 6) if weights is not None and trained else 1.0

    starts = [at for at in range(size) if at == 0 or at in joints or kind(at) != kind(at - 1)]
    ends = [*starts[1:], size]
    texts = decoded(example.ids, starts, tokenizer)
    return [Span(start, end, *kind(start), text) for start, end, text in zip(starts, ends, texts, strict=False)]


def decoded(ids: Sequence[int], starts: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    """The texts of ids from each start to the next.

    Decoded alone, a stretch may lose the blank that it begins with (SentencePiece's do), so each is decoded behind the
    one before it and what that one gives is taken off.
    """
    found: list[str] = []
    before = 0
    for start, end in zip(starts, [*starts[1:], len(ids)], strict=False):
        text = tokenizer.decode(ids[start:end])
        if start:
            prefix, both = tokenizer.decode(ids[before:start]), tokenizer.decode(ids[before:end])
            if both.startswith(prefix):
                text = both[len(prefix) :]
        found.append(text)
        before = start
    return found


def print_batch(batch: ShownBatch) -> None:
    """Print a batch: trained text in green (between [[ and ]] off a terminal), its rows in dim lines."""
    escape_what_stdout_lacks()
    colour = sys.stdout.isatty()
    lines = [line for one in batch.sequences for line in lines_of(one, batch.unit, colour=colour)]
    sys.stdout.write("\n".join(lines) + "\n")


def lines_of(one: Shown, unit: str, *, colour: bool) -> Iterator[str]:
    """One sequence as text: a head, then its text, with a line before each row where there are several."""
    yield _dim("─── " + _head(one, unit), colour)
    several = len(one.sources) > 1
    for source in one.sources:
        if several:
            yield _dim(f"┄┄┄ {_place(source)} · tokens {source.start:,} to {source.end:,}", colour)
        yield coloured([span for span in one.spans if source.start <= span.start < source.end], colour=colour)


def _head(one: Shown, unit: str) -> str:
    told = [f"{unit} {one.number}{' ' + one.part if one.part else ''}"]
    if one.desirable is not None:
        told.append("desirable" if one.desirable else "undesirable")
    told.append(f"{len(one.ids):,} tokens, {one.num_trained:,} trained")
    if one.padding:
        told.append(f"{one.padding:,} padding")
    if one.num_cut:
        told.append(f"{one.num_cut:,} cut off")
    if len(one.sources) == 1:
        told.append(_place(one.sources[0]))
    return " · ".join(told)


def _place(source: Source) -> str:
    return f"{visible(source.file)}, row {source.row:,}"


def coloured(spans: Sequence[Span], *, colour: bool) -> str:
    """The text of spans, the trained ones marked, with their weight where it is not 1."""
    before, after = (GREEN, PLAIN) if colour else ("[[", "]]")
    parts = []
    for span in spans:
        weight = "" if span.weight == 1 else _dim(f"×{span.weight:g}", colour)
        parts.append(f"{before}{visible(span.text)}{after}{weight}" if span.trained else visible(span.text))
    return "".join(parts)


def escape_what_stdout_lacks() -> None:
    """Let stdout write signs that its encoding does not have as escapes, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def visible(text: str) -> str:
    """``text`` with control characters written as escapes."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _dim(text: str, colour: bool) -> str:
    return f"{DIM}{text}{PLAIN}" if colour else text
