"""Where a run will differ from LLaMA-Factory by default: named once when it starts (docs/compat.md says why)."""

from __future__ import annotations

from trainkit.config import RunConfig


def deviations(
    config: RunConfig, *, adds_bos: bool, pads_with_eos: bool, blank_lines: bool, openai_rows: bool
) -> list[str]:
    """The differences that touch this very run; none under ``compat: strict``.

    ``adds_bos`` and ``pads_with_eos`` tell of its tokenizer, ``blank_lines`` whether it reads
    .txt files, ``openai_rows`` whether a dataset is in that format.
    """
    if config.strict:
        return []
    data = config.data
    blocks = config.stage == "pt" and data.packing is not False
    evaluates = bool(data.val_size or data.eval_dataset)
    continued = bool(config.model.adapter_name_or_path) and not config.method.create_new_adapter
    found = [
        (blocks, f"text fills blocks across all rows, not within {data.preprocessing_batch_size} rows at a time"),
        (blocks and bool(data.packing), "packing: true keeps the cutoff_len as it is, not one less"),
        (blocks and adds_bos, "the BOS stands before each block's text instead of over its first token"),
        (config.stage == "pt" and pads_with_eos, "the end of a text is trained, though padding has the same id"),
        (config.stage == "pt" and blank_lines, "blank lines of text files are passed over"),
        (config.stage == "pt", "the loss is divided by the tokens that have one before them, not by all of them"),
        (
            config.stage != "pt" and data.template is None,
            "the chat template is rendered as it is, not guessed into slots",
        ),
        (openai_rows, "rows in the openai format keep their system prompt as it is"),
        (evaluates, "eval_loss is the mean over tokens (or pairs), not over batches"),
        (config.stage == "dpo" and continued, "the reference is the given adapter's model, not the base below it"),
    ]
    return [text for holds, text in found if holds]
