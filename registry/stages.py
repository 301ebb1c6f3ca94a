"""Which kinds of records each training stage learns from: the one table that validate, stats and training read."""

from __future__ import annotations

from registry.errors import UsageError, known_hint

# stage -> kinds of records (see registry.records), the one it is meant for first. For pt a chat's first question is
# its text, as in LLaMA-Factory 0.9.5 (data/processor/pretrain.py).
KINDS: dict[str, tuple[str, ...]] = {
    "pt": ("text", "chat"),
    "sft": ("chat",),
    "rm": ("preference",),
    "dpo": ("preference",),
    "kto": ("feedback",),
}
ROWS_OF = {
    "text": "text rows (a column text)",
    "chat": "alpaca, sharegpt or openai rows",
    "preference": "rows with chosen and rejected",
    "feedback": "rows with a true-or-false kto_tag",
}


def check_stage(stage: str, flag: str = "--stage") -> None:
    """Raise ``UsageError`` for a stage that there is not."""
    if stage not in KINDS:
        mend = known_hint(stage, KINDS)
        raise UsageError(f'unknown stage "{stage}"', where=flag, mend=mend)


def check_suits(kind: str, stage: str, where: str) -> None:
    """Refuse rows as a whole that a stage cannot learn from: all of them would fail, each with the same words."""
    if kind in KINDS[stage]:
        return
    suiting = [name for name, kinds in KINDS.items() if kind == kinds[0]]
    wanted = " or ".join(f"{k} rows ({ROWS_OF[k]})" for k in KINDS[stage])
    raise UsageError(
        f"these are {kind} rows ({ROWS_OF[kind]}), and stage {stage} learns from {wanted}",
        where=where,
        mend=f"They suit --stage {' or '.join(suiting)}. Is a --map or --format missing, or another file meant?",
    )
