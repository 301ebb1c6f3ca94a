"""Asking a model: once with --prompt, or line by line."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
SHORT = ("max_new_tokens=8", "use_cpu=true")


def test_a_prompt_is_answered_on_stdout(trainkit: Run, model_folder: Path) -> None:
    ran = trainkit("chat", model_folder, *SHORT, "--prompt", "Who keeps the lamp?", "--greedy", "--json")
    assert ran.code == 0
    found = ran.json
    assert found["prompt"] == "Who keeps the lamp?"
    assert 1 <= found["num_tokens"] <= 8
    assert found["finish_reason"] in ("stop", "length")
    plain = trainkit("chat", model_folder, *SHORT, "--prompt", "Who keeps the lamp?", "--greedy")
    assert plain.out == found["answer"] + "\n"  # greedy says the same each time


def test_a_system_message_changes_the_prompt(trainkit: Run, model_folder: Path) -> None:
    ask = ("chat", model_folder, *SHORT, "--prompt", "a", "--greedy", "--json")
    assert trainkit(*ask, "--system", "Be kind.").json["num_prompt_tokens"] > trainkit(*ask).json["num_prompt_tokens"]


def test_a_dash_reads_the_prompt_from_stdin(trainkit: Run, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is it?"))
    assert trainkit("chat", model_folder, *SHORT, "--prompt", "-", "--json").json["prompt"] == "What is it?"


@pytest.fixture
def talk(trainkit: Run, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``talk("hello", "exit")``: a conversation typed line by line."""

    def run(*lines: str) -> Any:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))
        return trainkit("chat", model_folder, *SHORT, "--greedy")

    return run


def test_clear_forgets_and_exit_leaves(talk: Run) -> None:
    once = talk("Who keeps the lamp?", "exit")
    ran = talk("Who keeps the lamp?", "clear", "", "Who keeps the lamp?", "exit", "Are you there?")
    assert (once.code, ran.code) == (0, 0)
    assert once.out.endswith("\n")
    assert ran.out == 2 * once.out
    assert "(a new conversation)" in ran.err


def test_a_conversation_grows_until_it_is_cleared(talk: Run) -> None:
    half = "lamp " * 55  # with its answer more than half of the 128 tokens that the model takes
    assert "the model takes 128" in talk(half, half).err
    assert "the model takes 128" not in talk(half, "clear", half).err


def test_the_end_of_input_leaves(talk: Run) -> None:
    assert talk("Who keeps the lamp?").code == 0


def test_a_conversation_that_is_too_long_says_so_and_goes_on(talk: Run) -> None:
    ran = talk("lamp " * 200, "Who?")
    assert ran.out == talk("Who?").out
    assert ran.code == 0
    assert "tokens, and the model takes 128\n  Type clear to begin anew." in ran.err


def test_a_prompt_that_is_too_long_ends_with_2(trainkit: Run, model_folder: Path) -> None:
    ran = trainkit("chat", model_folder, *SHORT, "--prompt", "lamp " * 200)
    assert (ran.code, ran.out) == (2, "")
    assert "tokens, and the model takes 128" in ran.err


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_ends_with_2(trainkit: Run, model_folder: Path, prompt: str) -> None:
    ran = trainkit("chat", model_folder, *SHORT, "--prompt", prompt)
    assert (ran.code, ran.err) == (2, "error: the prompt is empty\n")


def test_an_adapter_folder_finds_its_base_by_itself(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    lora = {"finetuning_type": "lora", "max_steps": 2, "learning_rate": 0.5}
    assert trainkit("run", config_file(**lora)).code == 0
    ran = trainkit("chat", tmp_path / "out", *SHORT, "--prompt", "Who?", "--greedy", "--json")
    assert ran.code == 0
    config = config_file(
        name="chat.yaml", finetuning_type="lora", adapter_name_or_path=str(tmp_path / "out"), do_train=False
    )
    assert (
        trainkit("chat", config, *SHORT, "--prompt", "Who?", "--greedy", "--json").json["answer"] == ran.json["answer"]
    )


def test_what_is_no_model_is_named(trainkit: Run, tmp_path: Path) -> None:
    assert trainkit("chat", "nowhere", "--prompt", "a").err == "error: nowhere: no such model folder or config\n"
    (tmp_path / "empty").mkdir()
    assert (
        "the model folder has no config.json\n      It holds: nothing" in trainkit("chat", "empty", "--prompt", "a").err
    )
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray" / "adapter_config.json").write_text(json.dumps({"r": 8}))
    assert "the adapter does not name its base model" in trainkit("chat", "stray", "--prompt", "a").err


def test_a_model_without_a_chat_template_says_what_to_set(trainkit: Run, model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    ran = trainkit("chat", "bare", *SHORT, "--prompt", "a")
    assert ran.code == 2
    assert 'the tokenizer has no chat template of its own\n  Set a template, e.g. "template: default".' in ran.err
    assert trainkit("chat", "bare", *SHORT, "template=default", "--prompt", "a").code == 0


def test_ctrl_c_while_waiting_for_a_line_leaves_in_peace(launch: Run, model_folder: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "stdin"
    os.mkfifo(pipe)
    running = launch("chat", model_folder, *SHORT, stdin=pipe)
    with pipe.open("w") as typed:
        typed.write("Who?\n")
        typed.flush()
        running.wait_for(lambda: running.stdout.exists() and "\n" in running.stdout.read_text())
        running.signal(signal.SIGINT)
        ended = running.ended()
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert "error: interrupted; " in ended.err
