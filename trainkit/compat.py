"""Where a run will differ from LLaMA-Factory by default: named once when it starts (docs/compat.md says why)."""

from __future__ import annotations

from trainkit.config import RunConfig


def deviations(config: RunConfig, *, adds_bos: bool, pads_with_eos: bool, blank_lines: bool) -> list[str]:
    """The differences that touch this very run; none under ``compat: strict``.

    ``adds_bos`` and ``pads_with_eos`` tell of its tokenizer, ``blank_lines`` whether it reads .txt files.
    """
    if config.strict:
        return []
    data = config.data
    blocks = config.stage == "pt" and data.packing is not False
    continued = bool(config.model.adapter_name_or_path) and not config.method.create_new_adapter
    found = [
        (blocks, f"text fills blocks across all rows, not within {data.preprocessing_batch_size} rows at a time"),
        (blocks and bool(data.packing), "packing: true keeps the cutoff_len as it is, not one less"),
        (blocks and adds_bos, "the BOS stands before each block's text instead of over its first token"),
        (config.stage == "pt" and pads_with_eos, "the end of a text is trained, though padding has the same id"),
        (config.stage == "pt" and blank_lines, "blank lines of text files are passed over"),
        (config.stage == "pt", "the loss is divided by the tokens that have one before them, not by all of them"),
        (config.stage == "dpo" and continued, "the reference is the given adapter's model, not the base below it"),
    ]
    return [text for holds, text in found if holds]
