"""Plain text to examples for pre-training: blocks of equal length, or one example a text."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from registry.encode import Example
from registry.records import PreferenceRecord, Record, TextRecord
from registry.tokenizer import TextEncoder


def end_text_of(template: str | None) -> str | None:
    """What ends a text in place of the tokenizer's own end of sequence: Llama 3 has one for text and one for turns."""
    return "<|end_of_text|>" if template == "llama3" else None


def text_of(record: Record) -> str:
    """The text that pre-training sees of a record: all of a text, the first message of a conversation."""
    if isinstance(record, TextRecord):
        return record.text
    messages = record.prompt if isinstance(record, PreferenceRecord) else record.messages
    return messages[0].content


@dataclass(frozen=True, slots=True)
class TextRules:
    """How pre-training text becomes examples: blocks of ``cutoff_len`` tokens, or one example a text.

    ``window`` is the number of texts whose tokens are joined before cutting; LLaMA-Factory joins 1,000 at a time
    and drops the rest of each (``compat: strict``), None joins all and drops only the very last rest.
    """

    cutoff_len: int
    blocks: bool = True
    window: int | None = None
    end_text: str | None = None  # written after each text in place of the tokenizer's own end of sequence
    bos_id: int | None = None  # set where the tokenizer begins texts with it
    strict: bool = False


def encode_texts(texts: Iterable[Sequence[str]], tokenizer: TextEncoder, rules: TextRules) -> Iterator[Example | int]:
    """pt: examples from batches of texts, each text ended by the end of sequence (as LLaMA-Factory 0.9.5).

    Yields examples and, for tokens dropped at the end of a window, their number.
    """
    end = rules.end_text if rules.end_text is not None else tokenizer.eos_token
    pool: list[int] = []
    joined = 0
    for batch in texts:
        for ids in tokenizer.encode_batch([text + end for text in batch]):
            if not rules.blocks:
                head = [rules.bos_id] if rules.bos_id is not None else []
                whole = [*head, *ids]
                yield _whole(whole[: rules.cutoff_len], max(0, len(whole) - rules.cutoff_len))
                continue
            pool += ids
            joined += 1
            if joined == rules.window:
                yield from _cut(pool, rules)
                if pool:
                    yield len(pool)
                pool, joined = [], 0
        if rules.window is None:
            yield from _cut(pool, rules)
    if rules.blocks:
        yield from _cut(pool, rules)
        if pool:
            yield len(pool)


def _cut(pool: list[int], rules: TextRules) -> Iterator[Example]:
    """Take whole blocks off the front of ``pool``. A BOS opens each block; strict lets it overwrite a token."""
    bos = rules.bos_id
    taken = rules.cutoff_len if bos is None or rules.strict else rules.cutoff_len - 1
    start = 0
    while len(pool) - start >= taken:
        block = pool[start : start + taken]
        if bos is not None:
            block = [bos, *(block[1:] if rules.strict else block)]
        yield _whole(block)
        start += taken
    del pool[:start]


def _whole(ids: list[int], num_cut: int = 0) -> Example:
    packed = array("i", ids)
    return Example(packed, packed, num_cut)
