"""The chat template that is saved with a model: the tokenizer's own where it spells as training did, else made from the slots."""

from __future__ import annotations

import json
import logging

from registry.errors import RowFault, UsageError
from registry.own_template import OwnTemplate
from registry.render import RenderRules
from registry.templates import Slot, Template, load_template
from registry.thoughts import empty_thought
from registry.tokenizer import Tokenizer

log = logging.getLogger("tunekit")

PROBE = [
    {"role": role, "content": text}
    for role, text in (("system", "Be kind."), ("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four"))
]  # fmt: skip


def chat_template_of(name: str | None, tokenizer: Tokenizer, rules: RenderRules) -> str | None:
    """The Jinja text to save, or None to keep the tokenizer's own.

    A model that is served with another spelling than it was trained with answers badly or never stops, so the two
    are compared on conversations, and the tokenizer's is replaced where it differs.
    """
    if name is None:
        default = rules.default_system
        return None if default is None else with_default_system(tokenizer.chat_template or "", default)
    template = load_template(name, strict=rules.strict)
    made = to_jinja(template, rules)
    if tokenizer.chat_template and _spells(made, template, tokenizer) == _spells(
        tokenizer.chat_template, template, tokenizer
    ):
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


def _spells(source: str, template: Template, tokenizer: Tokenizer) -> list[str] | None:
    """The probe as ``source`` spells it, as a prompt and as a whole, with and without a system message; for models
    that think also with thoughts, and as nobody says whether they are to think, and as they are not to."""
    words = template.thought_words
    thought = [
        message | ({"content": f"{words[0]}hm{words[1]}{message['content']}"} if message["role"] == "assistant" else {})
        for message in PROBE
    ]
    conversations = [PROBE, PROBE[1:], PROBE[:-1], PROBE[1:-1], *([thought, thought[:-1]] if template.thinking else [])]
    switches: list[bool | None] = [None, False] if template.thinking else [None]
    try:
        return [
            OwnTemplate(
                source,
                bos_token=tokenizer.bos_token,
                eos_token=tokenizer.eos_token,
                rules=RenderRules(enable_thinking=switch),  # None leaves the variable out
            ).render(messages, add_generation_prompt=messages[-1]["role"] == "user")
            for switch in switches
            for messages in conversations
        ]
    except (RowFault, UsageError):
        return None


def to_jinja(template: Template, rules: RenderRules = RenderRules()) -> str:
    """A Jinja chat template that spells what ``SlotRenderer`` spells for a conversation's last answer.

    It knows system, user, assistant and tool messages, and thoughts: those of earlier answers are left out unless
    ``preserve_thinking``. What it cannot spell (tools, calls, anything but text) it refuses by name. The variables
    ``enable_thinking`` and ``preserve_thinking`` of whoever renders it beat the ``rules``.
    """
    default = template.default_system if rules.default_system is None else rules.default_system
    in_user = template.system_in_user
    system = _expression(template.system, "system_message")
    lines = [
        _refusals(template.name),
        f"{{%- set system_message = {_literal(default)} -%}}",
        "{%- if messages and messages[0]['role'] == 'system' -%}",
        "{%- set system_message = messages[0]['content'] or system_message -%}{%- set messages = messages[1:] -%}",
        "{%- endif -%}",
        *([_thinking(template, rules)] if template.thinking else []),
        *([f"{{{{- {_expression(template.prefix, '')} -}}}}"] if template.prefix else []),
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
        *([_settled(template)] if template.thinking else []),
        f"{{{{- {_expression(template.assistant, 'content')} -}}}}",
        "{%- else -%}",
        "{{- raise_exception('the role ' + message['role'] + ' has no place here') -}}",
        "{%- endif -%}",
        "{%- endfor -%}",
        *(
            ["{%- if add_generation_prompt and thinks is not true -%}{{- no_thought -}}{%- endif -%}"]
            if template.thinking
            else []
        ),
    ]
    return "".join(lines)


def _refusals(name: str) -> str:
    """What stops a conversation that the template would otherwise spell wrongly in silence."""
    tools = f"this chat template does not spell tools; it was made from the slots of template {name}"
    text = "this chat template spells text alone: no tool calls, no pictures"
    return (
        f"{{%- if tools -%}}{{{{- raise_exception({_literal(tools)}) -}}}}{{%- endif -%}}"
        "{%- for message in messages -%}{%- if message['content'] is not string or message['tool_calls'] -%}"
        f"{{{{- raise_exception({_literal(text)}) -}}}}{{%- endif -%}}{{%- endfor -%}}"
    )


def _thinking(template: Template, rules: RenderRules) -> str:
    """The switches, the empty thought, and how a text loses its thoughts: from the first word to the next second one,
    again and again (``registry.thoughts.without_thought``, for want of regular expressions)."""
    first, second = map(_literal, template.thought_words)
    words: dict[bool | None, str] = {True: "true", False: "false", None: "none"}
    enabled, preserved = (words[value] for value in (rules.enable_thinking, rules.preserve_thinking))
    return (
        f"{{%- set thinks = enable_thinking if enable_thinking is defined else {enabled} -%}}"
        f"{{%- set keeps = preserve_thinking if preserve_thinking is defined else {preserved} -%}}"
        f"{{%- set no_thought = {_literal(empty_thought(template))} -%}}"
        "{%- macro without_thought(text) -%}"
        "{%- set left = namespace(said='', rest=text) -%}"
        f"{{%- for _ in text.split({first}) -%}}"
        f"{{%- set begin = left.rest.find({first}) -%}}"
        f"{{%- set end = left.rest.find({second}, begin + {len(template.thought_words[0])}) -%}}"
        "{%- if begin >= 0 and end >= 0 -%}"
        "{%- set left.said = left.said + left.rest[:begin] -%}"
        f"{{%- set left.rest = left.rest[end + {len(template.thought_words[1])}:] -%}}"
        "{%- endif -%}{%- endfor -%}"
        "{{- (left.said + left.rest).lstrip('\\n') -}}"
        "{%- endmacro -%}"
    )


def _settled(template: Template) -> str:
    """An answer's content without the thoughts that go, and the empty thought in front of the newest one that has none."""
    first, second = (_literal(word.strip()) for word in template.thought_words)
    return (
        "{%- set newest = loop.last and not add_generation_prompt -%}"
        "{%- if (newest and thinks is false) or not (newest or keeps) -%}"
        "{%- set content = without_thought(content) -%}{%- endif -%}"
        f"{{%- if newest and {first} not in content and {second} not in content -%}}{{{{- no_thought -}}}}{{%- endif -%}}"
    )


def _expression(slots: tuple[Slot, ...], content: str) -> str:
    """Slots as one Jinja expression: string literals, the content, and special tokens, joined by ``+``."""
    parts: list[str] = []
    for slot in slots:
        if not isinstance(slot, str):
            # A tokenizer without that token leaves its name undefined, and training then writes nothing there either.
            parts.append(f"({slot.of} or '')" if slot.of else _literal(slot.text or ""))
            continue
        before, placed, after = slot.partition("{{content}}")
        parts += [
            _literal(text) if text is not None else content
            for text in (before, None if placed else "", after)
            if text != ""
        ]
    return " + ".join(parts) or '""'


def _literal(text: str) -> str:
    """A text as a Jinja string literal."""
    return json.dumps(text, ensure_ascii=False)
