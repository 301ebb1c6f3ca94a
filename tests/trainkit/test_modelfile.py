"""The Modelfile for Ollama: its template spells the prompt that training spelled, in Go's language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest

from registry.records import Message
from registry.render import RenderRules, SlotRenderer, prompt_of
from registry.templates import Slot, load_template, template_names
from registry.tokenizer import open_tokenizer
from trainkit.modelfile import go_template, modelfile_of

BOS, EOS = "<bos>", "<eos>"
TALK = (
    Message("user", "one"), Message("assistant", "two"), Message("observation", "three"), Message("assistant", "four"),
    Message("user", "five"),
)  # fmt: skip

# What is used of Go's template language, and the same in Jinja; anything else in braces is a fault.
ACTIONS = {
    "{{ if .System }}": "{% if System %}", "{{ .System }}": "{{ System }}", "{{ $.System }}": "{{ System }}",
    "{{ range .Messages }}": "{% for m in Messages %}", "{{ .Content }}": "{{ m.Content }}",
    '{{ if eq .Role "user" }}': "{% if m.Role == 'user' %}",
    '{{ else if eq .Role "assistant" }}': "{% elif m.Role == 'assistant' %}",
    '{{ else if eq .Role "tool" }}': "{% elif m.Role == 'tool' %}",
    "{{ $first := true }}": "{% set v = namespace(first=true, begun=v.begun) %}",
    "{{ $begun := false }}": "{% set v = namespace(first=v.first, begun=false) %}",
    "{{ $first = false }}": "{% set v.first = false %}", "{{ $begun = true }}": "{% set v.begun = true %}",
    "{{ if and $first $.System }}": "{% if v.first and System %}", "{{ if $begun }}": "{% if v.begun %}",
}  # fmt: skip


def rendered(source: str, system: str, messages: tuple[Message, ...]) -> str:
    """A Go template of ours, by way of Jinja."""
    blocks = ["{% set v = namespace() %}"]  # the open blocks: Go ends them all alike
    out, rest = [], source
    while "{{" in rest:
        text, _, rest = rest.partition("{{")
        action = "{{" + rest[: rest.index("}}")] + "}}"
        rest = rest[rest.index("}}") + 2 :]
        out.append(text)
        if action == "{{ end }}":
            out.append(blocks.pop())
        else:
            out.append(ACTIONS[action])
            if action.startswith(("{{ if", "{{ range")):
                blocks.append("{% endif %}" if action.startswith("{{ if") else "{% endfor %}")
    assert len(blocks) == 1
    roles = {"observation": "tool"}
    given = [{"Role": roles.get(m.role, m.role), "Content": m.content} for m in messages]
    template = jinja2.Environment(keep_trailing_newline=True).from_string(blocks[0] + "".join(out) + rest)
    return template.render(System=system, Messages=[{"Role": "system", "Content": system}, *given])


def text_of(slots: tuple[Slot, ...]) -> str:
    own = {"bos_token": BOS, "eos_token": EOS}
    return "".join(s if isinstance(s, str) else own[s.of] if s.of else s.text or "" for s in slots)


@pytest.mark.parametrize("system", ["", "Be kind."])
@pytest.mark.parametrize("name", template_names())
def test_the_go_template_spells_the_prompt_that_the_slots_spell(name: str, system: str) -> None:
    """The default system text is not the template's: SYSTEM says it."""
    template = load_template(name)
    for thinking in (True, False, None):
        rules = RenderRules(enable_thinking=thinking, default_system="")
        expected = text_of(prompt_of(TALK, system, SlotRenderer(template, rules)))
        assert rendered(go_template(template, rules, bos_token=BOS, eos_token=EOS), system, TALK) == expected
        begun = go_template(template, rules, bos_token=BOS, eos_token=EOS, begun=True)
        assert rendered(begun, system, TALK) == expected.removeprefix(BOS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("empty", '{{ if .System }}{{ .System }}{{ end }}{{ range .Messages }}{{ if eq .Role "user" }}{{ .Content }}'
         '{{ else if eq .Role "assistant" }}{{ .Content }}{{ else if eq .Role "tool" }}{{ .Content }}{{ end }}{{ end }}'),
        ("llama3", "<s>{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>{{ end }}"
         '{{ range .Messages }}{{ if eq .Role "user" }}<|start_header_id|>user<|end_header_id|>\n\n{{ .Content }}<|eot_id|>'
         '<|start_header_id|>assistant<|end_header_id|>\n\n{{ else if eq .Role "assistant" }}{{ .Content }}<|eot_id|>'
         '{{ else if eq .Role "tool" }}<|start_header_id|>ipython<|end_header_id|>\n\n{{ .Content }}<|eot_id|>'
         "<|start_header_id|>assistant<|end_header_id|>\n\n{{ end }}{{ end }}"),
        ("mistral", '{{ $first := true }}<s>{{ range .Messages }}{{ if eq .Role "user" }}[INST] {{ if and $first $.System }}'
         "{{ $.System }}\n\n{{ end }}{{ $first = false }}{{ .Content }}[/INST]"),
        ("qwen3_nothink", "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ range .Messages }}"
         '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n<|im_start|>assistant\n'
         '{{ else if eq .Role "assistant" }}{{ .Content }}<|im_end|>\n'),
    ],
)  # fmt: skip
def test_four_templates_in_go(name: str, expected: str) -> None:
    assert go_template(load_template(name), bos_token="<s>", eos_token="</s>").startswith(expected)


def test_the_modelfile_says_where_to_stop_and_how_much_context_there_is(model_folder: Path) -> None:
    tokenizer, _ = open_tokenizer(model_folder, "qwen")
    lines = modelfile_of("qwen", tokenizer, RenderRules(), 32768).splitlines()
    assert lines[0] == "FROM ."
    assert 'SYSTEM """You are Qwen, created by Alibaba Cloud. You are a helpful assistant."""' in lines
    assert lines[-3:] == [
        'PARAMETER stop "<|im_end|>"',
        "# The model takes 32768 tokens; more context costs more memory.",
        "PARAMETER num_ctx 8192",
    ]
    tokenizer, _ = open_tokenizer(model_folder, "llama3")
    assert modelfile_of("llama3", tokenizer, RenderRules(), 128).endswith(
        'PARAMETER stop "<|eot_id|>"\nPARAMETER stop "<|eom_id|>"\nPARAMETER num_ctx 128\n'
    )


def test_without_a_template_the_tokenizers_own_is_left_to_speak(model_folder: Path) -> None:
    tokenizer, _ = open_tokenizer(model_folder, None)
    text = modelfile_of(None, tokenizer, RenderRules(default_system='Say """no"""'), None)
    assert 'TEMPLATE "' not in text
    assert 'SYSTEM """Say " ""no" "" """' in text
    assert "num_ctx" not in text


def test_an_export_holds_it(trainkit: Any, config_file: Any, tmp_path: Path) -> None:
    keys = {"do_train": False, "dataset": None, "finetuning_type": "lora", "export_dir": "merged"}
    assert trainkit("export", config_file(**keys)).code == 0
    text = (tmp_path / "merged" / "Modelfile").read_text("utf-8")
    assert text.startswith('FROM .\n\nTEMPLATE """{{ if .System }}<|im_start|>system\n')
    assert text.endswith('PARAMETER stop "<|im_end|>"\nPARAMETER num_ctx 128\n')
