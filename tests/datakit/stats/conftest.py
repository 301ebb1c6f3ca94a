"""Records measured without files, and a small model folder for those that need one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datakit.stats.cutoff import Steps
from datakit.stats.measure import Measured, measure_rows, measure_texts, measure_turns
from datakit.stats.read import Account, Batch
from registry.records import Record
from registry.render import SlotRenderer
from registry.templates import load_template
from tests.conftest import BYTES


def renderer_of(template: str) -> SlotRenderer:
    """How a template spells; ``ends once`` stands for those whose conversations carry one end of sequence in all."""
    if template == "ends once":
        return SlotRenderer(replace(load_template("empty"), efficient_eos=True))
    return SlotRenderer(load_template(template))


def measured(
    records: Sequence[Record], *, template: str = "chatml", stage: str = "sft", steps: Steps = Steps(), **options: Any
) -> Measured:
    """Records measured by their bytes, each as one row of ``rows.jsonl``."""
    account = Account()
    account.ledger.read("rows.jsonl", len(records))
    batches = [Batch([("rows.jsonl", n) for n in range(1, len(records) + 1)], list(records), None)]
    roles: dict[str, dict[str, int]] = {}
    judged: dict[str, int] = {}
    if stage == "pt":
        lengths = measure_texts(batches, BYTES, BYTES.eos_token, account)
    else:
        lengths, roles, judged = measure_turns(batches, BYTES, renderer_of(template), stage, account)
    account.ledger.check()
    return Measured(
        lengths, account, stage, options.pop("target", 0.99), template, "bytes", steps=steps, roles=roles, judged=judged,
        files=("rows.jsonl",), **options,
    )  # fmt: skip


def measure(src: Sequence[str | Path], model: Path, **options: Any) -> Measured:
    """Files measured with the folder's tokenizer and the template chatml."""
    return measure_rows([str(s) for s in src], model=model, **{"template": "chatml", **options})
