"""A chat template guessed into slots as LLaMA-Factory 0.9.5 guesses: `template: null` under `compat: strict`."""

import json

import pytest

from registry.errors import UsageError
from registry.own_template import OwnTemplate
from registry.probed_template import added, probed_template
from registry.render import RenderRules, turns_of
from registry.tokenizer import open_tokenizer
from tests.conftest import QWEN2, chat, needs_shared, spelled

CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def probed(source, prefix=""):
    own = OwnTemplate(source, bos_token="<bos>")
    return probed_template(lambda messages, opened: own.render(messages, add_generation_prompt=opened), prefix)


def test_what_stands_around_the_mark_is_the_slot_and_a_default_system_text_is_found():
    template = probed(CHATML)
    assert template.system == ("<|im_start|>system\n{{content}}<|im_end|>\n",)
    assert template.user == ("<|im_start|>user\n{{content}}<|im_end|>\n<|im_start|>assistant\n",)
    assert template.assistant == template.function == ("{{content}}<|im_end|>\n",)
    assert template.observation == template.user
    assert (template.default_system, template.prefix, template.thinking) == ("Be good.", (), "")


def test_what_the_tokenizer_writes_first_is_the_prefix():
    source = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    template = probed(source + "{% if add_generation_prompt %}[assistant]{% endif %}", "<bos>")
    assert template.prefix == ("<bos>",)
    assert template.user == ("[user]{{content}}[assistant]",)
    assert template.assistant == ("{{content}}",)


def test_an_empty_thought_in_the_answer_makes_it_a_template_that_thinks():
    source = (
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    template = probed(source)
    assert (template.thinking, template.assistant) == ("whole", ("{{content}}",))


def test_the_letters_that_were_added():
    assert added("ac", "abbc") == "bb"
    assert added("", "abc") == ""
    assert added("abc", "abc") == ""


@needs_shared
def test_a_tokenizer_with_a_template_is_probed_under_strict_and_one_without_joins_texts_bare(tmp_path, caplog):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((QWEN2 / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    _, renderer = open_tokenizer(tmp_path, None, rules=RenderRules(strict=True))
    assert spelled(turns_of(chat("a", "b"), renderer)) == (
        "<|im_start|>system\nBe good.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    )
    (tmp_path / "chat_template.jinja").unlink()
    _, bare = open_tokenizer(tmp_path, None, rules=RenderRules(strict=True))
    assert spelled(turns_of(chat("a", "b"), bare)) == "ab"
    assert "texts are joined bare" in caplog.text


@needs_shared
def test_a_template_that_refuses_the_probes_is_told(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((QWEN2 / "tokenizer.json").read_bytes())
    refusing = "{% if messages|length < 2 %}{{ raise_exception('too few') }}{% endif %}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": refusing}))
    with pytest.raises(UsageError, match=r"guessing a template fails on this one: .*too few"):
        open_tokenizer(tmp_path, None, rules=RenderRules(strict=True))
