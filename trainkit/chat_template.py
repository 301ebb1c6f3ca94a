"""The chat template that is saved with a model: the tokenizer's own where it spells as training did, else made from the slots."""

from __future__ import annotations

import json
import logging

from registry.errors import RowFault, UsageError
from registry.own_template import OwnTemplate
from registry.records import Message
from registry.templates import Slot, Template, load_template
from registry.tokenizer import Tokenizer

log = logging.getLogger("tunekit")

PROBE = (Message("user", "one"), Message("assistant", "two"), Message("user", "three"), Message("assistant", "four"))


def chat_template_of(name: str | None, tokenizer: Tokenizer, default_system: str | None) -> str | None:
    """The Jinja text to save, or None to keep the tokenizer's own.

    A model that is served with another spelling than it was trained with answers badly or never stops, so the two
    are compared on a conversation, with and without a system message, and the tokenizer's is replaced where it differs.
    """
    if name is None:
        return None if default_system is None else with_default_system(tokenizer.chat_template or "", default_system)
    template = load_template(name)
    made = to_jinja(template, default_system)
    if tokenizer.chat_template and _spells(made, tokenizer) == _spells(tokenizer.chat_template, tokenizer):
        return None
    if tokenizer.chat_template:
        log.info(
            "the tokenizer's own chat template spells conversations differently; the saved one is made from template %s",
            name,
        )
    return made


def with_default_system(source: str, system: str) -> str:
    """A chat template that begins conversations without a system message with this one."""
    message = json.dumps(system, ensure_ascii=False)
    return (
        "{%- if not messages or messages[0]['role'] != 'system' -%}"
        f"{{%- set messages = [{{'role': 'system', 'content': {message}}}] + messages -%}}"
        "{%- endif -%}" + source
    )


def _spells(source: str, tokenizer: Tokenizer) -> list[str] | None:
    """The probe as ``source`` spells it, up to its last question, with and without a system message."""
    try:
        own = OwnTemplate(source, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token)
        turns = [own.turns(PROBE, system) for system in ("", "Be kind.")]
    except (RowFault, UsageError):
        return None
    return ["".join(str(slot) for turn in each for slot in (*turn.source, *turn.target)) for each in turns]


def to_jinja(template: Template, default_system: str | None = None) -> str:
    """A Jinja chat template that spells what ``SlotRenderer`` spells, for plain conversations."""
    default = template.default_system if default_system is None else default_system
    content = "message['content']"
    in_user = template.system_in_user
    system = _expression(template.system, "system_message")
    lines = [
        f"{{%- set system_message = {json.dumps(default, ensure_ascii=False)} -%}}",
        "{%- if messages and messages[0]['role'] == 'system' -%}",
        "{%- set system_message = messages[0]['content'] -%}{%- set messages = messages[1:] -%}",
        "{%- endif -%}",
        *([f"{{{{- {_expression(template.prefix, content)} -}}}}"] if template.prefix else []),
        *([] if in_user else [f"{{%- if system_message -%}}{{{{- {system} -}}}}{{%- endif -%}}"]),
        "{%- for message in messages -%}",
        "{%- set content = message['content'] -%}",
        *(
            [f"{{%- if loop.first and system_message -%}}{{%- set content = ({system}) + content -%}}{{%- endif -%}}"]
            if in_user
            else []
        ),
        "{%- if message['role'] == 'user' -%}",
        f"{{{{- {_expression(template.user, 'content')} -}}}}",
        "{%- elif message['role'] == 'tool' -%}",
        f"{{{{- {_expression(template.observation, 'content')} -}}}}",
        "{%- elif message['role'] == 'assistant' -%}",
        f"{{{{- {_expression(template.assistant, 'content')} -}}}}",
        "{%- endif -%}",
        "{%- endfor -%}",
    ]
    return "".join(lines)


def _expression(slots: tuple[Slot, ...], content: str) -> str:
    """Slots as one Jinja expression: string literals, the content, and special tokens, joined by ``+``."""
    parts: list[str] = []
    for slot in slots:
        if not isinstance(slot, str):
            # A tokenizer without that token leaves its name undefined, and training then writes nothing there either.
            parts.append(f"({slot.of} or '')" if slot.of else json.dumps(slot.text, ensure_ascii=False))
            continue
        before, placed, after = slot.replace("{{idx}}", "0").partition("{{content}}")
        parts += [
            json.dumps(text, ensure_ascii=False) if text is not None else content
            for text in (before, None if placed else "", after)
            if text != ""
        ]
    return " + ".join(parts) or '""'
