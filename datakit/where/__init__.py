"""Conditions on rows, as SQL spells them: read by an own small parser, worked out over batches of rows, never ``eval``."""

from datakit.where.condition import Where, parse_where

__all__ = ["Where", "parse_where"]
