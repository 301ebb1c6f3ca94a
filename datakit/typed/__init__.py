"""Columnar files into Parquet with the very types that they have, past JSON and its policy for values."""

from datakit.typed.plan import TypedPlan, plan_typed
from datakit.typed.road import pass_typed
from datakit.typed.shuffle import BatchShuffle

__all__ = ["BatchShuffle", "TypedPlan", "pass_typed", "plan_typed"]
