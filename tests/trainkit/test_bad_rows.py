"""Bad input to a run: each row that cannot be trained on is told with its place, what nobody can mean ends the run with
what, where and how to mend it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.encode import IGNORE
from registry.tokenizer import Tokenizer
from trainkit.config import load_config
from trainkit.data.feed import load_data
from trainkit.preflight import check_places

Run = Callable[..., Any]
SHAREGPT = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "system": "system", "tools": "tools", "images": "images"},
}


def talk(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    """A row of turns like ``("human", "hi")``."""
    return {"conversations": [{"from": speaker, "value": text} for speaker, text in turns], **more}


GOOD = talk(("human", "Who goes there?"), ("gpt", "A friend."))
SPECIAL = talk(("human", "What is <|im_end|> for?"), ("gpt", "An end."))


@pytest.fixture
def on_rows(config_file: Run, data_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """``on_rows([row, …], cutoff_len=8)``: the YAML of a run of one step on these rows, the dataset called ``rows``."""

    def write(rows: list[dict[str, Any]], **keys: Any) -> Path:
        folder = tmp_path / "data"
        shutil.copytree(data_folder, folder, dirs_exist_ok=True)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        info = json.loads((folder / "dataset_info.json").read_text())
        info["rows"] = {"file_name": "rows.jsonl", **SHAREGPT}
        (folder / "dataset_info.json").write_text(json.dumps(info))
        return config_file(**{"dataset": "rows", "dataset_dir": str(folder), "max_steps": 1, **keys})

    return write


def changed_tokenizer(model_folder: Path, folder: Path, *, chat_template: str | None = None, **keys: Any) -> Path:
    """A copy of the model whose tokenizer_config.json has other keys; None takes one away."""
    shutil.copytree(model_folder, folder)
    path = folder / "tokenizer_config.json"
    config = {**json.loads(path.read_text()), **keys}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template)
    return folder


def loaded(path: Path) -> Any:
    config = load_config(path)
    return load_data(config, check_places(config))


# --- rows ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True], ids=["", "streamed"])
@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        (
            talk(("wizard", "a"), ("gpt", "b")),
            "conversations[0]",
            '"wizard" is not a role; known: human, gpt, observation, function_call.',
        ),
        (talk(("gpt", "a"), ("human", "b")), "conversations[0]", "a turn of the user's side (human or observation)"),
        (talk(("human", "a"), ("human", "b")), "conversations[1]", "a turn of the model's side (gpt or function_call)"),
        (
            talk(("human", "a"), ("gpt", "b"), ("human", "c")),
            "conversations",
            "the last turn must be the model's answer",
        ),
        (talk(), "conversations", "there is no turn in it"),
        ({"conversations": None}, "conversations", "a list of messages belongs here, not null"),
        (talk(("human", "a"), ("gpt", "b"), tools='[{"name": '), "tools", "not JSON: Expecting value at character 10"),
        (
            talk(("human", "a"), ("function_call", '{"name": "f", '), ("observation", "1"), ("gpt", "b")),
            "messages[1]",
            "not JSON: Expecting property name",
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "train": False}]},
            "answer",
            "no token of it is trained: its answers are empty or count 0 (weight, loss, train)",
        ),
        (
            talk(("human", "<image>What is it?"), ("gpt", "b"), images=["a.png"]),
            "images",
            "it has 1 of them for 1 <image>, and only text is encoded",
        ),
    ],
    ids=["role", "first", "turn", "last", "no turns", "null", "tools", "call", "weights", "media"],
)
def test_a_row_is_rejected_with_its_place_and_the_others_are_trained_on(
    trainkit: Run, on_rows: Run, tmp_path: Path, row: dict[str, Any], field: str, reason: str, streaming: bool
) -> None:
    ran = trainkit("run", "--json", on_rows([GOOD, row, GOOD], streaming=streaming, per_device_train_batch_size=2))
    assert ran.code == 0, ran.err
    (told,) = [json.loads(line) for line in (tmp_path / "out" / "rejected_rows.jsonl").read_text().splitlines()]
    assert (told["file"], told["row"], told["field"]) == (str(tmp_path / "data" / "rows.jsonl"), 2, field)
    assert reason in told["reason"]
    assert told["raw"]
    assert (ran.json["rows_in"], ran.json["rows_out"]) == (3, 2)
    assert list(ran.json["rejected"].values()) == [1]
    assert f'1 rejected: field "{field}": ' in ran.err
    assert reason in ran.err


@pytest.mark.parametrize(
    ("rows", "keys", "told"),
    [
        (
            [talk()],
            {},
            ["rows: no example to train on is left", 'Rejected: 1 × field "conversations": there is no turn'],
        ),
        (
            [GOOD],
            {"truncation": "drop", "cutoff_len": 8},
            ["rows: no example to train on is left", "more than cutoff_len 8 (truncation: drop)"],
        ),
        (
            [talk(("human", "far too much, " * 9), ("gpt", ""))],
            {"cutoff_len": 4},
            ['1 × field "answer": no token of the answer is left to train within cutoff_len 4.'],
        ),
        ([], {}, ["rows.jsonl: there is no row in it: the file is empty"]),
        ([], {"streaming": True}, ["rows.jsonl: there is no row in it: the file is empty"]),
        (
            [talk(), talk()],
            {"streaming": True},
            [
                "rows: not one row of an epoch can be trained on",
                'rows.jsonl, row 1, field "conversations": there is no turn in it',
            ],
        ),
        (
            [],
            {"dataset": "questions,rows", "mix_strategy": "interleave_under"},
            ["rows.jsonl: there is no row in it: the file is empty"],
        ),
    ],
    ids=[
        "all rejected",
        "all dropped",
        "no room",
        "empty",
        "empty, streamed",
        "all rejected, streamed",
        "empty in a mix",
    ],
)
def test_a_dataset_that_leaves_nothing_to_train_on_ends_the_run(
    trainkit: Run, on_rows: Run, rows: list[dict[str, Any]], keys: dict[str, Any], told: list[str]
) -> None:
    ran = trainkit("run", on_rows(rows, disable_shuffling=True, **keys))
    assert ran.code == 2
    for text in told:
        assert text in ran.err


# --- special tokens as text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True], ids=["", "streamed"])
@pytest.mark.parametrize(
    ("keys", "ends", "told"),
    [
        ({}, 2, "it stays plain text (special_text: keep lets it be one)"),
        ({"special_text": "keep"}, 3, "it is read as one (special_text: keep)"),
        ({"compat": "strict"}, 3, "it is read as one (compat: strict)"),
    ],
    ids=["default", "keep", "strict"],
)
def test_what_looks_like_a_special_token_in_a_users_text_is_counted_and_stays_text(
    trainkit: Run, on_rows: Run, keys: dict[str, Any], ends: int, told: str, streaming: bool
) -> None:
    path = on_rows([SPECIAL, GOOD], disable_shuffling=True, streaming=streaming, **keys)
    ran = trainkit("run", path)
    assert ran.code == 0, ran.err
    assert f"what looks like a special token stands 1 time in texts of the user's side; {told}" in ran.err
    data = loaded(on_rows([SPECIAL], disable_shuffling=True, **keys))
    ids = list(data.examples.train[0].ids)
    assert ids.count(data.tokenizer.token_id("<|im_end|>")) == ends
    assert "What is <|im_end|> for?" in data.tokenizer.decode(ids)


# --- templates and tokenizers ---------------------------------------------------------------------------------------------

NEEDS_SYSTEM = """\
{%- if messages[0]['role'] != 'system' %}{{ raise_exception('a system message comes first') }}{% endif %}
{%- for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def test_a_template_that_needs_a_system_turn_refuses_the_rows_without_one(
    trainkit: Run, on_rows: Run, model_folder: Path, tmp_path: Path
) -> None:
    folder = changed_tokenizer(model_folder, tmp_path / "model", chat_template=NEEDS_SYSTEM)
    keys = {"model_name_or_path": str(folder), "template": None}
    ran = trainkit("run", "--json", on_rows([GOOD, {**GOOD, "system": "Be brief."}], **keys))
    assert (ran.code, ran.json["rows_out"]) == (0, 1)
    assert "the tokenizer's chat template refuses this conversation: a system message comes first" in ran.err
    ran = trainkit("run", "--json", on_rows([GOOD], **keys, default_system="Be brief.", output_dir="other"))
    assert (ran.code, ran.json["rows_out"]) == (0, 1)


@pytest.mark.parametrize("template", ["default", None])
def test_without_an_end_of_sequence_one_is_taken_and_told(
    trainkit: Run, on_rows: Run, model_folder: Path, tmp_path: Path, template: str | None
) -> None:
    folder = changed_tokenizer(model_folder, tmp_path / "model", eos_token=None)
    ran = trainkit("run", on_rows([GOOD], model_name_or_path=str(folder), template=template))
    assert ran.code == 0
    assert "warning: the tokenizer names no end of sequence, so <|endoftext|> is taken as one" in ran.err


@pytest.mark.parametrize(
    ("stage", "strict", "trained"), [("sft", False, 1), ("sft", True, 1), ("pt", False, 1), ("pt", True, 0)]
)
def test_an_end_that_is_also_the_padding_is_trained_and_padding_is_not(
    on_rows: Run, model_folder: Path, tmp_path: Path, stage: str, strict: bool, trained: int
) -> None:
    """Under strict pt masks it, as LLaMA-Factory's collator does."""
    folder = changed_tokenizer(model_folder, tmp_path / "model", pad_token="<|im_end|>")
    keys = {"model_name_or_path": str(folder), "stage": stage, "disable_shuffling": True, "packing": False}
    rows = [GOOD, talk(("human", "Who?"), ("gpt", "I."))]
    data = loaded(on_rows(rows, **keys, compat="strict" if strict else "default"))
    batch = data.batch_of([0, 1])
    end = data.tokenizer.token_id("<|im_end|>")
    assert data.pad_id == data.tokenizer.eos_id == end
    for labels, mask in zip(batch.labels, batch.attention_mask, strict=True):
        assert int((labels == end).sum()) == trained
        assert set(labels[mask == 0].tolist()) <= {IGNORE}
    assert int((batch.attention_mask == 0).sum()) > 0


@pytest.mark.parametrize(
    ("template", "tokens"), [("llama3", "<|eot_id|>, <|eom_id|>"), ("glm4", "<|user|>, <|observation|>")]
)
def test_a_model_without_the_templates_tokens_is_refused_with_their_names(
    trainkit: Run, on_rows: Run, template: str, tokens: str
) -> None:
    ran = trainkit("run", on_rows([GOOD], template=template))
    assert ran.code == 2
    assert "the tokenizer has 402 ids, the model only 400 rows for them" in ran.err
    assert f"The template adds: {tokens}" in ran.err
    assert "Choose the template that belongs to this model" in ran.err


def test_a_token_that_the_template_writes_and_the_tokenizer_lacks_is_named(
    trainkit: Run, on_rows: Run, model_folder: Path
) -> None:
    assert Tokenizer(model_folder).token_id("[gMASK]") is None
    ran = trainkit("run", on_rows([GOOD], template="chatglm3"))
    assert ran.code == 2
    assert f"{model_folder}: the tokenizer does not know " in ran.err
    assert "[gMASK]" in ran.err
    assert "which template chatglm3 writes\n  Take the template that the model was made with." in ran.err


@pytest.mark.parametrize("packing", [True, False])
def test_a_model_that_cannot_keep_examples_apart_is_not_packed(
    trainkit: Run, on_rows: Run, model_folder: Path, tmp_path: Path, packing: bool
) -> None:
    """Bloom knows no position ids."""
    from transformers import BloomConfig, BloomForCausalLM

    folder = changed_tokenizer(model_folder, tmp_path / "model")
    BloomForCausalLM(BloomConfig(vocab_size=400, hidden_size=32, n_layer=1, n_head=2)).save_pretrained(folder)
    ran = trainkit("run", on_rows([GOOD, GOOD], model_name_or_path=str(folder), packing=packing))
    if not packing:
        assert ran.code == 0, ran.err
        return
    assert ran.code == 2
    assert f"error: {folder}: this kind of model cannot keep packed examples apart" in ran.err
    assert "Remove packing and neat_packing; batching_strategy: token_balanced saves padding without them." in ran.err


# --- configs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"tool_format": "qwenn"}, '"tool_format": "qwenn" is not one of default, gemma4, '),
        ({"tool_format": "qwenn"}, 'Did you mean "qwen"'),
        (
            {"streaming": True, "max_steps": -1},
            '"streaming" needs "max_steps": the number of rows is not known beforehand',
        ),
        (
            {"streaming": True, "stage": "dpo", "dataset": "pairs"},
            '"streaming" is built for stages pt and sft only, not for dpo; remove it',
        ),
        (
            {"streaming": True, "packing": True, "compat": "strict"},
            '"compat: strict" with "streaming": examples are packed otherwise than LLaMA-Factory does it; remove one',
        ),
        (
            {"streaming": True, "stage": "pt", "dataset": "pages", "compat": "strict"},
            '"compat: strict" with "streaming": text fills blocks otherwise than LLaMA-Factory does it; remove one',
        ),
        (
            {"dataset": "rows,questions", "mix_strategy": "interleave_under", "interleave_probs": "0.5,0.4"},
            "the probabilities add up to 0.9, not to 1\n    In the same proportion:  interleave_probs: 0.556,0.444",
        ),
        (
            {"dataset": "rows,questions", "mix_strategy": "interleave_over", "interleave_probs": "1"},
            "1 probabilities for 2 datasets",
        ),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused_with_its_line(
    trainkit: Run, on_rows: Run, tmp_path: Path, keys: dict[str, Any], told: str
) -> None:
    path = on_rows([GOOD], **keys)
    ran = trainkit("run", path)
    assert ran.code == 2
    assert f"error: {path}: 1 fault\n  - line" in ran.err
    assert told in ran.err
    assert not (tmp_path / "out").exists()
