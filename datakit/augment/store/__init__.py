"""The answers that were paid for, kept in one SQLite file: durable before they are read, found by what was asked."""

from datakit.augment.store.answers import AnswerStore

__all__ = ["AnswerStore"]
