"""datakit register: an entry with LLaMA-Factory's keys, checked against its own rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datakit.register import file_name
from registry.datasets import find_entry
from registry.formats import READERS

TURNS = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
ROLES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
ROLE_TAGS = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
    "observation_tag": "tool", "function_tag": "function", "system_tag": "system",
}  # fmt: skip


@pytest.fixture
def info(tmp_path):
    """What stands in data/dataset_info.json."""
    return lambda: json.loads((tmp_path / "data" / "dataset_info.json").read_text())


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        ({"instruction": "a", "input": "", "output": "b"}, [], {}),
        ({"instruction": "a", "output": "b"}, [], {"columns": {"prompt": "instruction", "response": "output"}}),
        ({"instruction": "a", "input": "", "output": "b", "system": "s"}, [],
         {"columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}}),
        ({"q": "a", "r": "b"}, ["--columns", "prompt=q", "--columns", "response=r"],
         {"columns": {"prompt": "q", "response": "r"}}),
        ({"q": "a", "r": "b"}, ["--columns", "instruction=q", "--columns", "output=r"],
         {"columns": {"prompt": "q", "response": "r"}}),
        ({"text": "a"}, [], {"columns": {"prompt": "text"}}),
        ({"instruction": "a", "chosen": "b", "rejected": "c"}, [],
         {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}}),
        ({"q": "a", "good": "b", "bad": "c"},
         ["--ranking", "--columns", "prompt=q", "--columns", "chosen=good", "--columns", "rejected=bad"],
         {"ranking": True, "columns": {"prompt": "q", "chosen": "good", "rejected": "bad"}}),
        ({"instruction": "a", "input": "", "output": "b", "kto_tag": True}, [],
         {"columns": {"prompt": "instruction", "query": "input", "response": "output", "kto_tag": "kto_tag"}}),
        ({"conversations": TURNS}, [], {"formatting": "sharegpt"}),
        ({"conversations": TURNS, "tools": "[]"}, [],
         {"formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"}}),
        ({"messages": ROLES}, [], {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": ROLE_TAGS}),
        ({"messages": ROLES}, ["--formatting", "sharegpt"],
         {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": ROLE_TAGS}),
        ({"dialog": [{"who": "me", "what": "a"}, {"who": "it", "what": "b"}]},
         ["--columns", "messages=dialog", "--tags", "role_tag=who", "--tags", "content_tag=what", "--tags", "user_tag=me",
          "--tags", "assistant_tag=it"],
         {"formatting": "sharegpt", "columns": {"messages": "dialog"},
          "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "me", "assistant_tag": "it",
                   "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system"}}),
        ({"conversations": TURNS, "images": ["a.png"]}, ["--columns", "images=images"],
         {"formatting": "sharegpt", "columns": {"messages": "conversations", "images": "images"}}),
    ],
)  # fmt: skip
def test_an_entry_says_all_that_is_needed_and_no_more(datakit, write_rows, info, tmp_path, row, options, expected):
    (tmp_path / "data").mkdir()
    write_rows("data/rows.jsonl", row)
    ran = datakit("register", "data/rows.jsonl", "--name", "mine", *options, "--json")
    assert ran.code == 0
    assert info() == {"mine": {"file_name": "rows.jsonl"} | expected}
    assert ran.json["entry"] == info()["mine"]
    layout = find_entry("mine", tmp_path / "data").layout
    READERS[layout.formatting](row, layout)


def test_a_column_that_only_later_rows_have_is_listed(datakit, write_rows, info):
    write_rows("rows.jsonl", {"instruction": "a", "output": "b"}, {"instruction": "a", "output": "b", "system": "s"})
    datakit("register", "rows.jsonl", "--name", "mine")
    assert info()["mine"]["columns"] == {"prompt": "instruction", "response": "output", "system": "system"}


def test_the_same_entry_again_changes_nothing_and_says_so(datakit, write_rows, tmp_path):
    write_rows("rows.jsonl", {"text": "a"})
    datakit("register", "rows.jsonl", "--name", "mine")
    before = (tmp_path / "data/dataset_info.json").stat().st_mtime_ns
    ran = datakit("register", "rows.jsonl", "--name", "mine")
    assert (ran.code, (tmp_path / "data/dataset_info.json").stat().st_mtime_ns) == (0, before)
    assert "nothing changed" in ran.err


def test_a_taken_name_is_only_replaced_when_asked_for_and_the_others_stay(datakit, write_rows, info, tmp_path):
    (tmp_path / "data").mkdir()
    other = {"file_name": "x.json", "note": "an unknown key"}
    (tmp_path / "data/dataset_info.json").write_text(json.dumps({"other": other, "mine": {"file_name": "old.json"}}))
    write_rows("rows.jsonl", {"text": "a"})
    ran = datakit("register", "rows.jsonl", "--name", "mine")
    assert ran.code == 2
    assert "--replace" in ran.err
    assert info()["mine"] == {"file_name": "old.json"}
    assert datakit("register", "rows.jsonl", "--name", "mine", "--replace").code == 0
    assert list(info()) == ["other", "mine"]
    assert info()["other"] == other
    assert info()["mine"]["file_name"] == "../rows.jsonl"


def test_rows_that_all_fail_are_no_dataset(datakit, write_rows, tmp_path):
    write_rows("rows.jsonl", {"instruction": "a", "output": None}, {"instruction": "a", "output": 3})
    ran = datakit("register", "rows.jsonl", "--name", "mine")
    assert ran.code == 2
    assert "none of the first 2 rows" in ran.err
    assert 'field "output": text belongs here, not null' in ran.err
    assert not (tmp_path / "data").exists()


def test_some_rows_that_fail_are_a_warning_with_their_number(datakit, write_rows, info):
    write_rows("rows.jsonl", *({"instruction": "a", "input": "", "output": text} for text in ("b", None, "c")))
    ran = datakit("register", "rows.jsonl", "--name", "mine", "--json")
    assert (ran.code, ran.json["rows_in"], ran.json["rows_out"]) == (0, 3, 2)
    assert "warning: 1 of the first 3 rows cannot be used, e.g. row 2" in ran.err
    assert "mine" in info()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--columns", "prompt=qestion"], "Nearest: question. Columns: question, answer."),
        (["--columns", "promt=question"], 'Did you mean "prompt"'),
        (["--tags", "rol_tag=x"], 'Did you mean "role_tag"'),
        (["--formatting", "shargpt"], 'Did you mean "sharegpt"'),
        ([], "--map instruction=question --map output=answer"),
        (["--columns", "prompt=question", "--columns", "response=answer", "--ranking"], '"chosen" and "rejected"'),
        (["--columns", "instruction=question"], "Add --columns output=COLUMN"),
    ],
)
def test_wrong_options_get_the_way_out(datakit, write_rows, tmp_path, options, told):
    write_rows("rows.jsonl", {"question": "a", "answer": "b"})
    ran = datakit("register", "rows.jsonl", "--name", "mine", *options)
    assert ran.code == 2
    assert told in ran.err
    assert not (tmp_path / "data").exists()


def test_files_are_named_relative_to_the_folder_where_that_will_last(tmp_path):
    assert file_name(tmp_path / "p/data/sub/a.jsonl", tmp_path / "p/data") == "sub/a.jsonl"
    assert file_name(tmp_path / "p/out/a.jsonl", tmp_path / "p/data") == "../out/a.jsonl"
    assert file_name(tmp_path / "q/a.jsonl", tmp_path / "p/data") == (tmp_path / "q/a.jsonl").as_posix()
    assert file_name(Path("/srv/a.jsonl"), Path("/data")) == "/srv/a.jsonl"


def test_stdin_and_patterns_cannot_be_registered(datakit):
    for src in ("-", "*.jsonl"):
        assert datakit("register", src, "--name", "mine").code == 2


def test_names_with_commas_are_refused(datakit, write_rows):
    write_rows("rows.jsonl", {"text": "a"})
    assert "commas" in datakit("register", "rows.jsonl", "--name", "a,b").err
