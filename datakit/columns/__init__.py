"""The fast path of convert: whole columns at a time, for the schemas and formats that are proven to give the same rows."""

from datakit.columns.plan import ColumnPlan, plan_columns
from datakit.columns.road import pass_columns

__all__ = ["ColumnPlan", "pass_columns", "plan_columns"]
