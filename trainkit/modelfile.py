"""The text of an Ollama Modelfile, made from the same slots that the model was trained with."""

from __future__ import annotations

import json
from collections.abc import Sequence

from registry.render import RenderRules
from registry.templates import Slot, Template, Token, load_template
from registry.thoughts import empty_thought
from registry.tokenizer import Tokenizer

# Ollama keeps room for the whole context in memory from the start, so a model that takes 128k gets less unless asked.
MOST_CONTEXT = 8192


def modelfile_of(name: str | None, tokenizer: Tokenizer, rules: RenderRules, limit: int | None) -> str:
    """The Modelfile of an exported model; ``limit`` is its longest sequence in tokens, None where it is not known.

    Without a template (``name`` None) Ollama is left to the chat template that the tokenizer brings.
    """
    template = load_template(name, strict=rules.strict) if name is not None else None
    lines = ["FROM .", ""]
    if template is None:
        lines += ["# No TEMPLATE: the model keeps the chat template of its tokenizer.", ""]
        default = rules.default_system or ""
    else:
        text = go_template(
            template,
            rules,
            bos_token=tokenizer.bos_token,
            eos_token=tokenizer.eos_token,
            begun=begins_with_bos(tokenizer),
        )
        lines += [f'TEMPLATE """{text}"""', ""]
        default = template.default_system if rules.default_system is None else rules.default_system
    if default:
        # Three quotes cannot stand inside three quotes, nor one before them: a space parts them, and reads the same.
        said = default.replace('"""', '" ""') + (" " if default.endswith('"') else "")
        lines += [f'SYSTEM """{said}"""', ""]
    stops = dict.fromkeys([tokenizer.eos_token, *(template.stop_words if template else ())])
    lines += [f"PARAMETER stop {json.dumps(word, ensure_ascii=False)}" for word in stops if word]
    if limit is not None and limit > MOST_CONTEXT:
        lines.append(f"# The model takes {limit} tokens; more context costs more memory.")
    if limit is not None:
        lines.append(f"PARAMETER num_ctx {min(limit, MOST_CONTEXT)}")
    return "\n".join(lines) + "\n"


def begins_with_bos(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer puts its BOS before any text by itself: Ollama's then does, and a second one is wrong."""
    ids = tokenizer.backend.encode("a").ids
    return tokenizer.bos_id is not None and ids[:1] == [tokenizer.bos_id]


def go_template(
    template: Template, rules: RenderRules = RenderRules(), *, bos_token: str, eos_token: str, begun: bool = False
) -> str:
    """A conversation up to its next answer in Go's template language: what ``SlotRenderer`` spells as the prompt.

    ``begun`` says that a BOS stands in front already, so the one at the very beginning is left out. Tools are not
    told, and thoughts of earlier answers stay in, if the client sends them.
    """
    names = {"bos_token": bos_token, "eos_token": eos_token}

    def spelled(slots: Sequence[Slot], content: str) -> str:
        parts = []
        for slot in slots:
            if isinstance(slot, Token):
                parts.append(_literal(names[slot.of] if slot.of else slot.text or ""))
            else:
                parts.append(content.join(map(_literal, slot.split("{{content}}"))))
        return "".join(parts)

    def opened(slots: Sequence[Slot], content: str) -> str:
        # Some templates have no prefix, and a BOS before each turn of the user: all but the first are written.
        if not (begun and slots[:1] == (Token(of="bos_token"),)):
            return spelled(slots, content)
        return (
            f"{{{{ if $begun }}}}{_literal(bos_token)}{{{{ end }}}}{{{{ $begun = true }}}}{spelled(slots[1:], content)}"
        )

    prefix = template.prefix
    if begun and prefix[:1] == (Token(of="bos_token"),):
        prefix = prefix[1:]
    variables = ""
    content = "{{ .Content }}"
    system = f"{{{{ if .System }}}}{opened(template.system, '{{ .System }}')}{{{{ end }}}}"
    if template.system_in_user:
        told = spelled(template.system, "{{ $.System }}")
        variables, system = "{{ $first := true }}", ""
        content = f"{{{{ if and $first $.System }}}}{told}{{{{ end }}}}{{{{ $first = false }}}}{content}"
    user, observation = opened(template.user, content), opened(template.observation, "{{ .Content }}")
    if "$begun" in user + system:
        variables += "{{ $begun := false }}"
    thought = empty_thought(template) if template.thinking and rules.enable_thinking is not True else ""
    return "".join(
        [
            variables,
            spelled(prefix, ""),
            system,
            "{{ range .Messages }}",
            '{{ if eq .Role "user" }}' + user,
            '{{ else if eq .Role "assistant" }}' + spelled(template.assistant, "{{ .Content }}"),
            '{{ else if eq .Role "tool" }}' + observation,
            "{{ end }}{{ end }}",
            _literal(thought),
        ]
    )


def _literal(text: str) -> str:
    """Text that stands for itself between actions."""
    return text.replace("{{", '{{ "{{" }}')
