"""Where a run will differ from LLaMA-Factory by default: named once when it starts (docs/compat.md says why)."""

from __future__ import annotations

from collections.abc import Mapping

from registry.dataset_places import REMOTE
from registry.datasets import DatasetEntry
from registry.encoded.rows import EncodedRows
from registry.packing import WINDOW
from registry.templates import Template, load_template
from registry.tokenizer import Tokenizer
from trainkit.config import RunConfig
from trainkit.data.blocks import is_packed
from trainkit.data.stream_steps import WINDOW as STREAM_WINDOW

Found = list[tuple[bool, str]]  # does it touch this run, and what is to be said

# The syntaxes whose calls LLaMA-Factory writes so that they cannot be read back.
MENDED_CALLS = {
    "glm4_moe": "each call is closed",
    "lfm2": "quotes within arguments are escaped",
    "minimax2": "calls stand inside their block",
    "seed_oss": "the function tag is closed",
}


def deviations(
    config: RunConfig,
    entries: Mapping[str, DatasetEntry],
    tokenizer: Tokenizer,
    sets: Mapping[str, EncodedRows] | None = None,
) -> list[str]:
    """The differences that touch this very run; none under ``compat: strict``.

    They are told by the config, the dataset entries, the tokenizer and what the encoded ``sets`` say of themselves
    (none in a streamed run); no row is read. What touches single rows is counted where they are read, and not here.
    """
    if config.strict:
        return []
    continued = bool(config.model.adapter_name_or_path) and not config.method.create_new_adapter
    found = [
        *_of_text(config, entries, tokenizer),
        *_of_spelling(config, entries, sets or {}),
        *_of_blocks(config),
        (
            str(config.data.dataset_dir).startswith(REMOTE),
            "the files that the remote dataset_info.json names are looked up in that repository",
        ),
        (_evaluates(config), "eval_loss is the mean over tokens (or pairs), not over batches"),
        (config.stage == "dpo" and continued, "the reference is the given adapter's model, not the base below it"),
    ]
    return [text for holds, text in found if holds]


def _evaluates(config: RunConfig) -> bool:
    return bool(config.data.val_size or config.data.eval_dataset)


def _of_text(config: RunConfig, entries: Mapping[str, DatasetEntry], tokenizer: Tokenizer) -> Found:
    """pt."""
    data = config.data
    is_text = config.stage == "pt"
    blocks = is_text and data.packing is not False
    window = f"within {data.preprocessing_batch_size:,} rows at a time"
    has_lines = any((entry.file_name or "").endswith(".txt") for entry in entries.values())
    return [
        (blocks and not data.streaming, f"text fills blocks across all rows, not {window}"),
        (blocks and data.streaming, f"text fills blocks within {STREAM_WINDOW:,} rows at a time, not {window}"),
        (blocks and bool(data.packing), "packing: true keeps the cutoff_len as it is, not one less"),
        (blocks and tokenizer.adds_bos, "the BOS stands before each block's text instead of over its first token"),
        (
            is_text and tokenizer.pad_id == tokenizer.eos_id,
            "the end of a text is trained, though padding has the same id",
        ),
        (is_text and has_lines, "blank lines of text files are passed over"),
        (is_text, "the loss is divided by the tokens that have one before them, not by all of them"),
    ]


def _of_spelling(config: RunConfig, entries: Mapping[str, DatasetEntry], sets: Mapping[str, EncodedRows]) -> Found:
    """Conversations: what the template and the tools are spelled like, and what of it is trained."""
    if config.stage == "pt":
        return []
    name = config.data.template
    template = None if name is None else load_template(name)
    layouts = [entry.layout for entry in entries.values()]
    has_tools = any(layout.columns.tools for layout in layouts)
    weighted = any(shard.has_weights for rows in sets.values() for shard in rows.shards)
    return [
        (template is None, "the chat template is rendered as it is, not guessed into slots"),
        (
            template is not None and template != load_template(template.name, strict=True),
            f"template {name}: its plainly wrong slots are mended",
        ),
        *(_of_tools(config, template) if has_tools and template is not None else []),
        (
            any(layout.formatting == "openai" for layout in layouts),
            "rows in the openai format keep their system prompt as it is",
        ),
        (
            template is not None and template.efficient_eos and config.data.mask_history,
            "the end of an answer that mask_history leaves out is not trained either",
        ),
        (weighted, "weight, loss and train of single messages are followed"),
        (config.stage == "kto", "the KL answer of a row is that of the row before it, also across batches of rows"),
    ]


def _of_tools(config: RunConfig, template: Template) -> Found:
    asked = config.data.tool_format
    told = asked or template.tool_format
    called = asked or template.function_format
    mended = MENDED_CALLS.get(called, "")
    no_date = told == "llama3" and not config.data.tool_prompt_date
    return [
        (bool(mended), f"tool calls in the syntax {called}: {mended}"),
        (no_date, "the tool prompt names no day (tool_prompt_date sets one), not that of the run"),
        (told is None, "the tools' JSON is spelled anew, so that equal tools are equal text"),
    ]


def _of_blocks(config: RunConfig) -> Found:
    """sft whose examples share blocks."""
    if not is_packed(config):
        return []
    data = config.data
    window = STREAM_WINDOW if data.streaming else WINDOW
    how = "best fit" if data.streaming or config.loop.disable_shuffling else "best fit, afresh each epoch"
    return [
        (not data.neat_packing, "packed examples do not see each other"),
        (
            True,
            f"blocks are packed within {window:,} rows ({how}), not within {data.preprocessing_batch_size:,}, and hold "
            "the whole cutoff_len, not one less",
        ),
        (data.train_on_prompt, "the first token of an example is not predicted from the end of the one before it"),
        (_evaluates(config), "held-out examples are padded, not packed"),
    ]
