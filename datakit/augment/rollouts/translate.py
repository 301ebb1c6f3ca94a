"""The texts of a row in another language: one call for the whole row, so that its parts fit together."""

from __future__ import annotations

from datakit.augment.rollout import Making, Rollout, Seed
from datakit.augment.seeds import conversation, texts_of, values_of, with_texts
from registry.records import TextRecord


def translate(seed: Seed, make: Making) -> Rollout:
    """The row with its system prompt, questions and answers replaced; calls of tools and their results stay."""
    record = seed.record if isinstance(seed.record, TextRecord) else conversation(seed.record)
    texts = texts_of(record)
    if not texts:
        make.emit(record)
        return
    (reply,) = yield [make.call(expects=len(texts), n=1, already=(), texts=texts, **values_of(seed))]
    make.emit(with_texts(record, reply.value), reply)
