"""Which role of a dataset a name means that is not one of its own: other formats' names, and names misspelled."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from registry.datasets import Tags

# The tag that a role has in Tags -> names that public datasets and chat tools give it.
NAMES: Mapping[str, tuple[str, ...]] = {
    "user_tag": ("user", "human", "usr", "prompter", "customer"),
    "assistant_tag": ("assistant", "gpt", "bot", "model", "chatbot", "chatgpt", "ai", "bing", "bard", "llm"),
    "system_tag": ("system",),
    "observation_tag": (
        "observation",
        "tool",
        "tool_response",
        "tool_result",
        "function_response",
        "function-response",
    ),
    "function_tag": ("function_call", "function-call", "tool_call"),
}
LEAST_ALIKE = 0.85  # of 1: "asistant" is 0.94 alike, "human" and "humour" 0.73


def meant_role(name: str, tags: Tags) -> str | None:
    """The dataset's own name for the role that ``name`` surely means; None where it is not sure."""
    spelled = name.strip().casefold()
    by_name = {other: tag for tag, names in NAMES.items() for other in names}
    by_name |= {str(getattr(tags, tag)).casefold(): tag for tag in NAMES if getattr(tags, tag) is not None}
    close = [spelled] if spelled in by_name else []
    if not close and len(spelled) > 4:  # of short names too many are alike
        close = get_close_matches(spelled, by_name, n=3, cutoff=LEAST_ALIKE)
    meant = {by_name[other] for other in close}
    own: str | None = getattr(tags, meant.pop()) if len(meant) == 1 else None
    return None if own == name else own
