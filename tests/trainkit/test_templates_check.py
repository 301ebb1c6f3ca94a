"""trainkit templates --check: a template against a tokenizer's own chat template, and where they part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.render import RenderRules
from registry.templates import load_template, template_names
from tests.conftest import QWEN2, needs_shared
from trainkit.chat_template import to_jinja
from trainkit.templates_check import check_template

Run = Callable[..., Any]


@pytest.fixture
def model_with(model_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """``model_with(jinja, eos_token="<|im_end|>")``: a tokenizer folder with that chat template."""

    def make(source: str | None, **config: str) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.jinja"))
        known = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        known.pop("chat_template", None)
        (folder / "tokenizer_config.json").write_text(json.dumps(known | config), "utf-8")
        if source is not None:
            (folder / "chat_template.jinja").write_text(source, "utf-8")
        return folder

    return make


@pytest.mark.parametrize("name", ["qwen3_nothink", "qwen3", "qwen"])
def test_a_template_made_from_the_slots_is_the_same(trainkit: Run, model_with: Run, name: str) -> None:
    ran = trainkit("templates", name, "--check", model_with(to_jinja(load_template(name))))
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "the same")
    assert "  plain            same\n  system text      same\n  several turns    same\n" in ran.out
    assert "tools            not compared: the tokenizer's chat template refuses this conversation" in ran.out
    assert "end of sequence  <|im_end|> in both" in ran.out
    assert ("earlier thought  same" in ran.out) == (name == "qwen3")


def test_a_difference_is_shown_with_the_text_around_it(trainkit: Run, model_with: Run) -> None:
    source = to_jinja(load_template("chatml")).replace("assistant\\n", "assistant:\\n")
    ran = trainkit("templates", "chatml", "--check", model_with(source))
    assert ran.code == 1
    assert "  plain            differs at character 69\n" in ran.out
    assert "<|im_start|>assistant:\\n…\n" in ran.out
    found = trainkit("templates", "chatml", "--check", "model", "--json").json
    plain = found["talks"][0]
    assert (found["same"], plain["name"], plain["same"]) == (False, "plain", False)
    assert (plain["template"][-10:], plain["tokenizer"][-11:]) == ("assistant\n", "assistant:\n")


def test_another_end_of_sequence_is_a_difference(trainkit: Run, model_with: Run) -> None:
    folder = model_with(to_jinja(load_template("qwen3_nothink")), eos_token="<|endoftext|>")
    ran = trainkit("templates", "qwen3_nothink", "--check", folder)
    assert ran.code == 1
    assert (
        "end of sequence  <|im_end|>, the tokenizer's is <|endoftext|>: a server that goes by the tokenizer" in ran.out
    )


def test_tokens_that_the_vocabulary_lacks_are_named(trainkit: Run, model_with: Run) -> None:
    ran = trainkit("templates", "llama3", "--check", model_with(to_jinja(load_template("llama3"))))
    assert ran.code == 1
    assert "not in the vocabulary, the template needs it: <|eom_id|>, <|eot_id|>" in ran.out
    assert "written as plain text, no token of its own: <|end_header_id|>, <|start_header_id|>" in ran.out


def test_an_answer_without_an_end_is_told(trainkit: Run, model_with: Run) -> None:
    ran = trainkit("templates", "empty", "--check", model_with(to_jinja(load_template("empty"))))
    assert ran.code == 1
    assert "the model would never stop" in ran.out


def test_without_a_name_the_nearest_templates_come_first(trainkit: Run, model_with: Run) -> None:
    folder = model_with(to_jinja(load_template("qwen3_nothink")))
    ran = trainkit("templates", "--check", folder)
    assert ran.code == 0
    same = [line.split()[0] for line in ran.out.splitlines()[1:] if line.endswith(" same")]
    assert "qwen3_nothink" in same
    assert "qwen3" not in same
    found = trainkit("templates", "--check", folder, "--json").json["templates"]
    assert len(found) == len(template_names())
    assert found[0]["same"]
    assert not found[-1]["same"]


def test_a_template_that_refuses_a_system_text_is_not_compared_on_it(trainkit: Run, model_with: Run) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    ran = trainkit(
        "templates", "qwen3_nothink", "--check", model_with(refusing + to_jinja(load_template("qwen3_nothink")))
    )
    assert ran.code == 0
    assert (
        "system text      not compared: the tokenizer's chat template refuses this conversation: no system here"
        in ran.out
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [(None, "has no chat template of its own to compare with"), ("{% for %}", "does not compile")],
)
def test_a_tokenizer_without_a_usable_template_is_an_error(
    trainkit: Run, model_with: Run, source: str | None, message: str
) -> None:
    folder = model_with(source)
    for name in ((), ("qwen",)):
        ran = trainkit("templates", *name, "--check", folder)
        assert ran.code == 2
        assert message in ran.err


@needs_shared
def test_qwen2_is_nearest_to_the_templates_with_its_system_text(trainkit: Run) -> None:
    ran = trainkit("templates", "--check", QWEN2)
    assert "  qwen2_vl                 same" in ran.out
    ran = trainkit("templates", "qwen", "--check", QWEN2)
    assert ran.code == 1
    assert "…m_start|>system\\nYou are Qwen, created by Alibaba Cloud." in ran.out
    assert "…m_start|>system\\nYou are a helpful assistant." in ran.out


@pytest.mark.parametrize("name", template_names())
def test_every_template_is_the_same_as_what_is_made_of_it(model_with: Run, name: str) -> None:
    """Where the vocabulary and the end of sequence are those of another model, the texts are equal all the same."""
    from registry.tokenizer import Tokenizer

    template = load_template(name)
    end = template.stop_words[0] if template.replace_eos else "<|endoftext|>"
    tokenizer = Tokenizer(
        model_with(to_jinja(template, RenderRules(enable_thinking=None)), eos_token=end, bos_token="<|im_start|>")
    )
    for thinking in (True, False, None):
        for talk in check_template(name, tokenizer, thinking).talks:
            assert talk.refused or talk.at is None, talk


def test_where_nothing_could_be_compared_nothing_is_the_same(trainkit: Run, model_with: Run) -> None:
    ran = trainkit("templates", "chatml", "--check", model_with("{{ raise_exception('no way') }}"))
    assert ran.code == 1
    assert ran.out.endswith("nothing could be compared\n")
