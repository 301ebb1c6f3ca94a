"""datakit register: an entry with LLaMA-Factory's keys, checked against its own rows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from datakit.register.entry import file_name, place_of
from datakit.register.spread import spread_rows
from registry.datasets import find_entry
from registry.errors import UsageError
from registry.formats import READERS
from tests.conftest import QWEN2, needs_shared, run_python

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
    assert "none of the 2 rows looked at" in ran.err
    assert 'field "output": text belongs here, not null' in ran.err
    assert not (tmp_path / "data").exists()


def test_some_rows_that_fail_are_a_warning_with_their_number(datakit, write_rows, info):
    write_rows("rows.jsonl", *({"instruction": "a", "input": "", "output": text} for text in ("b", None, "c")))
    ran = datakit("register", "rows.jsonl", "--name", "mine", "--json")
    assert (ran.code, ran.json["rows_in"], ran.json["rows_out"]) == (0, 3, 2)
    assert "warning: 1 of the 3 rows looked at cannot be used, e.g. rows.jsonl, row 2, field" in ran.err
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


def test_the_proof_tells_how_many_rows_were_read_and_how_they_encode(datakit, write_rows, tmp_path):
    write_rows("rows.jsonl", *({"instruction": "a", "input": "", "output": "b"} for _ in range(120)))
    proof = datakit("register", "rows.jsonl", "--name", "mine", "--json").json["proof"]
    assert proof == {
        "first_rows": 120,
        "spread_rows": 0,
        "encoding": {
            "tokenizer": None, "template": "default", "tried": 100, "encoded": 100, "not_encoded": {},
            "example": {"row": "rows.jsonl, row 1", "tokens": None,
                        "rendered": {"text": {"characters": 43, "trained": 13}}},
        },
    }  # fmt: skip


@needs_shared
def test_with_a_model_rows_are_encoded_with_its_tokenizer_and_template(datakit, write_rows):
    write_rows("rows.jsonl", {"instruction": "Hi", "input": "", "output": "Hello there"})
    ran = datakit("register", "rows.jsonl", "--name", "mine", "--model", QWEN2)
    assert "template the tokenizer's own; rows.jsonl, row 1: text 24 tokens, 4 trained" in ran.err
    ran = datakit("register", "rows.jsonl", "--name", "mine", "--model", QWEN2, "--template", "chatml", "--json")
    assert ran.json["proof"]["encoding"]["example"]["tokens"] == {"text": {"tokens": 13, "trained": 4}}


def test_rows_that_no_template_can_spell_are_entered_with_a_warning(datakit, write_rows, info, monkeypatch):
    from datakit.register import proof
    from registry.errors import RowFault

    def refuse(*_: object) -> None:
        raise RowFault("messages", "it cannot be spelled")

    monkeypatch.setattr(proof, "spans_of", refuse)
    write_rows("rows.jsonl", {"instruction": "a", "input": "", "output": "b"})
    ran = datakit("register", "rows.jsonl", "--name", "mine")
    assert ran.code == 0
    assert "warning: not proven: none of 1 rows could be encoded: 1 × messages: it cannot be spelled" in ran.err
    assert "mine" in info()


def faulty_at_the_end(count: int) -> list[dict[str, object]]:
    return [{"instruction": f"q{i}", "input": "", "output": "a" if i < 1500 else None} for i in range(count)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.json", "rows.jsonl.gz"])
def test_rows_from_all_over_the_file_are_looked_at_and_none_twice(datakit, write_rows, name):
    write_rows("source.jsonl", *faulty_at_the_end(9000))
    if name != "rows.jsonl":
        assert datakit("convert", "source.jsonl", "-o", name).code == 0
    else:
        write_rows(name, *faulty_at_the_end(9000))
    ran = datakit("register", name, "--name", "mine", "--json")
    proof = ran.json["proof"]
    assert (ran.code, proof["first_rows"], 150 <= proof["spread_rows"] <= 200) == (0, 1000, True)
    assert ran.json["rejected"].keys() == {"output: text belongs here, not null"}
    assert 0.6 * proof["spread_rows"] < sum(ran.json["rejected"].values()) <= proof["spread_rows"]
    assert "rows looked at cannot be used" in ran.err


def test_what_lies_behind_the_first_rows_is_all_that_the_spread_takes(tmp_path, write_rows):
    rows = [{"n": i, "text": "x" * (i % 7)} for i in range(2500)]
    path = write_rows("a.jsonl", *rows[:700])
    other = write_rows("b.jsonl", *rows[700:])
    found = spread_rows([str(path), str(other)], skip=1000, count=100)
    numbers = [row.data["n"] for _, row in found]
    assert len(set(numbers)) == len(numbers) >= 45  # half of the share is for the first file, which has none
    assert min(numbers) >= 1000
    assert max(numbers) > 2450


def test_a_folder_of_files_is_one_dataset(datakit, write_rows, info, tmp_path):
    (tmp_path / "parts").mkdir()
    for i in range(3):
        write_rows(f"parts/{i}.jsonl", *({"text": f"{i} {n}"} for n in range(600)))
    ran = datakit("register", "parts", "--name", "mine", "--json")
    assert info()["mine"] == {"file_name": "../parts", "columns": {"prompt": "text"}}
    assert ran.json["proof"]["first_rows"] == 1000


def test_the_files_of_a_split_register_and_their_origin_is_no_hindrance(datakit, write_rows, info):
    rows = [{"instruction": f"q{i}", "output": "a", "_origin": {"seed_row": i // 2}} for i in range(20)]
    write_rows("rows.jsonl", *rows)
    datakit("split", "rows.jsonl", "--out-dir", "out", "--val", "4")
    for side in ("train", "val"):
        assert datakit("register", f"out/{side}.jsonl", "--name", side).code == 0
    assert info()["val"] == {
        "file_name": "../out/val.jsonl", "columns": {"prompt": "instruction", "response": "output"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([("from", "user", "value"), ("from", "assistant", "value")], {"user_tag": "user", "assistant_tag": "assistant"}),
        ([("role", "human", "content"), ("role", "bot", "content")],
         {"role_tag": "role", "content_tag": "content", "user_tag": "human", "assistant_tag": "bot",
          "observation_tag": "tool", "function_tag": "function"}),
        ([("from", "SYSTEM", "value"), ("from", "Human", "value"), ("from", "ChatGPT", "value")],
         {"user_tag": "Human", "assistant_tag": "ChatGPT", "system_tag": "SYSTEM"}),
        ([("speaker", "Anna", "text"), ("speaker", "Helper", "text")],
         {"role_tag": "speaker", "content_tag": "text", "user_tag": "Anna", "assistant_tag": "Helper"}),
        ([("from", "human", "value"), ("from", "function", "value"), ("from", "tool", "value"), ("from", "gpt", "value")],
         {"function_tag": "function", "observation_tag": "tool"}),
        ([("role", "user", "content"), ("role", "tool_call", "content"), ("role", "function", "content"),
          ("role", "assistant", "content")],
         {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
          "function_tag": "tool_call", "observation_tag": "function"}),
    ],
)  # fmt: skip
def test_odd_names_of_roles_and_keys_are_read_off_the_rows_and_told(
    datakit, write_rows, info, tmp_path, turns, expected
):
    row = {"conversations": [{role_key: role, text_key: "x"} for role_key, role, text_key in turns]}
    write_rows("rows.jsonl", *([row] * 3))
    ran = datakit("register", "rows.jsonl", "--name", "mine")
    assert ran.code == 0
    usual = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
             "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system"}  # fmt: skip
    assert info()["mine"]["tags"] == usual | expected
    assert "inferred: roles are spelled" in ran.err
    layout = find_entry("mine", tmp_path / "data").layout
    assert len(READERS[layout.formatting](row, layout).messages) == len(turns) - (turns[0][1] == "SYSTEM")


def test_tags_that_are_given_are_kept_and_the_rest_is_read_off_the_rows(datakit, write_rows, info):
    write_rows("rows.jsonl", {"conversations": [{"from": "me", "value": "a"}, {"from": "it", "value": "b"}]})
    datakit("register", "rows.jsonl", "--name", "mine", "--tags", "user_tag=me")
    assert (info()["mine"]["tags"]["user_tag"], info()["mine"]["tags"]["assistant_tag"]) == ("me", "it")


def test_a_second_name_for_one_role_is_told_as_it_cannot_be_entered(datakit, write_rows, info):
    rows = [{"conversations": [{"from": name, "value": "a"}, {"from": "gpt", "value": "b"}]} for name in
            ("user", "user", "human")]  # fmt: skip
    write_rows("rows.jsonl", *rows)
    ran = datakit("register", "rows.jsonl", "--name", "mine")
    assert 'no tag is left for "human" (1 turns)' in ran.err
    assert info()["mine"]["tags"]["user_tag"] == "user"


def test_messages_in_a_column_of_any_name_are_found(datakit, write_rows, info):
    write_rows("rows.jsonl", {"id": 1, "dialog": ROLES}, {"id": 2, "dialog": ROLES})
    ran = datakit("register", "rows.jsonl", "--name", "mine")
    assert info()["mine"] == {"file_name": "../rows.jsonl", "formatting": "sharegpt",
                              "columns": {"messages": "dialog"}, "tags": ROLE_TAGS}  # fmt: skip
    assert 'inferred: the messages are in "dialog"' in ran.err


@pytest.mark.parametrize(
    ("row", "target"),
    [
        ({"prompt": ROLES[:1], "chosen": ROLES[1:], "rejected": ROLES[1:]}, "preference"),
        ({"prompt": ROLES[:1], "completion": ROLES[1:], "label": True}, "kto"),
        ({"prompt": ROLES[:1], "completion": ROLES[1:]}, "openai"),
    ],
)
def test_whole_conversations_side_by_side_are_to_be_converted_first(datakit, write_rows, tmp_path, row, target):
    write_rows("rows.jsonl", row)
    ran = datakit("register", "rows.jsonl", "--name", "mine")
    assert ran.code == 2
    assert f"datakit convert rows.jsonl -o FILE --to {target}" in ran.err
    write_rows("rows.jsonl", row)
    assert datakit("convert", "rows.jsonl", "-o", "better.jsonl", "--to", target).code == 0
    assert datakit("register", "better.jsonl", "--name", "mine").code == 0


def test_what_llama_factory_cannot_read_is_said(datakit, write_rows):
    write_rows("rows.jsonl", {"text": "a"})
    datakit("convert", "rows.jsonl", "-o", "rows.jsonl.gz")
    assert "but not by LLaMA-Factory" in datakit("register", "rows.jsonl.gz", "--name", "mine").err


def test_what_stood_behind_an_entry_is_noted_beside_dataset_info(datakit, write_rows, info, tmp_path):
    path = write_rows("rows.jsonl", {"text": "a"}, {"text": "b"})
    datakit("register", "rows.jsonl", "--name", "one")
    datakit("register", "rows.jsonl", "--name", "two", "--columns", "prompt=text")
    notes = json.loads((tmp_path / "data/dataset_info.json.manifest.json").read_text())
    assert list(notes["datasets"]) == ["one", "two"]
    note = notes["datasets"]["two"]
    assert (note["command"], note["rows_in"], note["rows_out"]) == ("register", 2, 2)
    assert note["options"]["columns"] == {"prompt": "text"}
    assert note["inputs"] == [
        {"file": "rows.jsonl", "rows": 2, "bytes": path.stat().st_size,
         "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    ]  # fmt: skip
    assert note["details"]["entry"] == info()["two"]
    (tmp_path / "data/dataset_info.json").write_text(json.dumps({"two": info()["two"]}))
    datakit("register", "rows.jsonl", "--name", "three")
    notes = json.loads((tmp_path / "data/dataset_info.json.manifest.json").read_text())
    assert list(notes["datasets"]) == ["two", "three"]


def test_twenty_processes_that_register_at_once_lose_nothing(tmp_path, write_rows):
    write_rows("rows.jsonl", *({"instruction": "a", "input": "", "output": "b"} for _ in range(5)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text('{"first": {"file_name": "x.json", "note": "kept"}}')
    code = """
import multiprocessing, sys
from datakit.register import register_dataset
from datakit.register import proof  # all that one process needs is loaded before the others are made

def enter(number, barrier):
    barrier.wait()
    register_dataset(sys.argv[1], f"name {number}", sys.argv[2], replace=number % 2 == 0)

fork = multiprocessing.get_context("fork")
barrier = fork.Barrier(20)
processes = [fork.Process(target=enter, args=(number, barrier)) for number in range(20)]
for process in processes: process.start()
for process in processes: process.join()
print([process.exitcode for process in processes])
"""
    done = run_python(code, tmp_path / "rows.jsonl", tmp_path / "data")
    assert done.stdout.strip() == str([0] * 20), done.stderr
    found = json.loads((tmp_path / "data/dataset_info.json").read_text())
    assert found.keys() == {"first", *(f"name {number}" for number in range(20))}
    assert found["first"] == {"file_name": "x.json", "note": "kept"}
    assert all(found[f"name {number}"] == {"file_name": "../rows.jsonl"} for number in range(20))
    notes = json.loads((tmp_path / "data/dataset_info.json.manifest.json").read_text())["datasets"]
    assert notes.keys() == found.keys() - {"first"}


def test_addresses_of_hubs_and_stores_become_their_own_keys():
    assert place_of("hf://org/name/en:train", Path("data")) == {
        "hf_hub_url": "org/name", "subset": "en", "split": "train",
    }  # fmt: skip
    assert place_of("ms://org/name", Path("data")) == {"ms_hub_url": "org/name"}
    assert place_of("s3://bucket/rows.jsonl", Path("data")) == {"cloud_file_name": "s3://bucket/rows.jsonl"}
    with pytest.raises(UsageError, match="no file of this kind of address"):
        place_of("https://example.org/rows.jsonl", Path("data"))


def test_tool_calls_far_behind_the_first_rows_are_registered_as_such(datakit, write_rows, info):
    plain = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calling = {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "let me look", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "x", "content": "r"},
            {"role": "assistant", "content": "a"},
        ]
    }
    write_rows("rows.jsonl", *[plain] * 1001, *[calling] * 1001)
    datakit("register", "rows.jsonl", "--name", "calls")
    assert info()["calls"]["formatting"] == "openai"


def test_files_that_llamafactory_would_take_for_rows_are_named(datakit, write_rows, tmp_path):
    write_rows("rows.jsonl", *[{"instruction": f"q{n}", "input": "", "output": "a"} for n in range(4)])
    datakit("convert", "rows.jsonl", "-o", "parts/part-{:05d}.jsonl", "--shard-rows", "2")
    ran = datakit("register", "parts", "--name", "parts")
    assert ran.code == 0
    assert "would read these in parts as rows as well, so move them elsewhere: part.jsonl.manifest.json" in ran.err
