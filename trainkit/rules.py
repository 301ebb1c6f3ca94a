"""What a run's config says about the spelling and cutting of its rows, in the words of the registry."""

from __future__ import annotations

from registry.cuts import EncodeRules
from registry.render import RenderRules
from trainkit.config import RunConfig

# stage -> what its rows are encoded for, see registry.encoded.spec
PURPOSES = {"pt": "text", "sft": "turns", "rm": "pair", "dpo": "pair", "kto": "answer"}


def render_rules(config: RunConfig) -> RenderRules:
    """How conversations are spelled; training, chat and export of one run share it."""
    data = config.data
    return RenderRules(
        default_system=data.default_system,
        tool_format=data.tool_format,
        enable_thinking=data.enable_thinking,
        preserve_thinking=data.preserve_thinking,
        discard_thoughts=data.mask_history,
        tool_prompt_date=data.tool_prompt_date or "",
        keep_special_text=data.special_text == "keep",
        strict=config.strict,
    )


def encode_rules(config: RunConfig) -> EncodeRules:
    """Which tokens of an example are kept and trained."""
    data = config.data
    cutoff_len = data.cutoff_len
    if config.strict and data.packing:
        # Theirs lowers the cutoff by one where packing is written out, in pt also where nothing needs it.
        cutoff_len -= 1
    return EncodeRules(cutoff_len, data.train_on_prompt, data.mask_history, config.strict, data.truncation)
