"""What a dataset's name stands for: an entry, a file, an address, or a dataset of the hub; and what its rows look like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.dataset_places import find_dataset
from registry.errors import Faults, UsageError
from registry.formats import READERS
from registry.records import Record, TextRecord
from registry.rows import Row, read_rows
from registry.slices import RowSlice
from tests.conftest import chat
from tests.registry.remote.conftest import COMMIT, FolderHub
from tests.registry.remote.conftest import folder_hub as folder_hub

ALPACA = {"instruction": "q", "input": "", "output": "a"}
SHAREGPT = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
OPENAI = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
PAIR = {"instruction": "q", "chosen": "a", "rejected": "b"}
JUDGED = {"instruction": "q", "output": "a", "kto_tag": True}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: str, *rows: Any) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def define(folder: str, **entries: Any) -> str:
    Path(folder).mkdir(exist_ok=True)
    Path(folder, "dataset_info.json").write_text(json.dumps(entries), "utf-8")
    return folder


def records(name: str, dataset_dir: Any = "data") -> list[Record]:
    entry = find_dataset(name, dataset_dir)
    read = READERS[entry.layout.formatting]
    return [read(row.data, entry.layout) for row in read_rows(entry.sources) if isinstance(row, Row)]


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_name_that_is_defined_goes_before_a_file_of_that_name() -> None:
    define("data", **{"my.jsonl": {"file_name": "other.jsonl"}})
    write("data/other.jsonl", {**ALPACA, "output": "the entry's"})
    write("my.jsonl", ALPACA)
    assert records("my.jsonl") == [chat("q", "the entry's")]
    assert find_dataset("my.jsonl", "data").notes == ()


def test_a_mapping_of_entries_may_take_the_place_of_the_folder() -> None:
    write("rows/a.jsonl", ALPACA)
    assert records("mine", {"mine": {"file_name": "rows/a.jsonl"}}) == [chat("q", "a")]
    with pytest.raises(UsageError) as caught:
        find_dataset("mime", {"mine": {"file_name": "rows/a.jsonl"}})
    assert str(caught.value) == 'dataset_dir: dataset "mime" is not defined\n  Nearest names: mine.'
    with pytest.raises(Faults, match="it names no place"):
        find_dataset("mine", {"mine": {}})


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "formatting", "kind", "told"),
    [
        (ALPACA, "alpaca", "chat", "alpaca (chat): prompt = instruction, query = input, response = output"),
        (SHAREGPT, "sharegpt", "chat", "sharegpt (chat): messages = conversations"),
        (OPENAI, "openai", "chat", "openai (chat): messages = messages"),
        (PAIR, "alpaca", "preference", "alpaca (preference): prompt = instruction, chosen = chosen, rejected = rejected"),
        (JUDGED, "alpaca", "feedback", "alpaca (feedback): prompt = instruction, response = output, kto_tag = kto_tag"),
        ({"text": "once"}, "alpaca", "text", "plain text, in the column text"),
        (
            {"prompt": "q", "chosen": [*OPENAI["messages"]], "rejected": [OPENAI["messages"][0], {"role": "assistant", "content": "b"}]},
            "trl", "preference", "trl (preference): messages = prompt, chosen = chosen, rejected = rejected",
        ),
    ],
)  # fmt: skip
def test_the_rows_of_a_file_tell_their_layout(row: dict[str, Any], formatting: str, kind: str, told: str) -> None:
    entry = find_dataset(write("rows/my.jsonl", row), "data")  # there is no folder data, and none is needed
    assert (entry.layout.formatting, entry.layout.kind) == (formatting, kind)
    assert entry.notes == (f"rows/my.jsonl is read as {told}",)
    assert entry.sources == ["rows/my.jsonl"]
    assert len(records("rows/my.jsonl")) == 1


def test_lines_of_text_are_plain_text() -> None:
    Path("lines.txt").write_text("one\ntwo\n", "utf-8")
    assert records("lines.txt") == [TextRecord("one"), TextRecord("two")]


def test_parts_that_only_later_rows_have_are_read() -> None:
    write("a.jsonl", *[ALPACA] * 200, {**ALPACA, "system": "s", "history": [["h", "i"]]})
    assert records("a.jsonl")[-1] == chat("h", "i", "q", "a", system="s")


def test_a_relative_path_is_looked_for_here_and_then_in_the_folder_of_the_datasets() -> None:
    define("data", other={"file_name": "x"})
    write("data/my.jsonl", {**ALPACA, "output": "there"})
    assert records("my.jsonl") == [chat("q", "there")]
    write("my.jsonl", {**ALPACA, "output": "here"})
    assert records("my.jsonl") == [chat("q", "here")]
    assert records(str(Path("data/my.jsonl").resolve())) == [chat("q", "there")]


def test_a_folder_and_a_glob_are_all_their_files() -> None:
    write("rows/a.jsonl", ALPACA)
    write("rows/b.jsonl", {**ALPACA, "output": "b"})
    assert records("rows") == records("rows/*.jsonl") == [chat("q", "a"), chat("q", "b")]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "rows/my.json",
            '"rows/my.json" is neither a dataset that is defined nor a file\n  Nearest files: rows/my.jsonl.',
        ),
        ("nowhere/at_all.csv", "nor a file\n  Defined there: identity."),
        ("identiti", 'data/dataset_info.json: dataset "identiti" is not defined\n  Nearest names: identity.'),
        ("org/name", "nor a file\n  A dataset of the hub is  hf://org/name"),
        ("rows/*.csv", '"rows/*.csv" is neither a dataset that is defined nor a file'),
    ],
)
def test_what_is_not_there_is_told_with_what_is_near(name: str, told: str) -> None:
    write("rows/my.jsonl", ALPACA)
    define("data", identity={"file_name": "x"})
    with pytest.raises(UsageError) as caught:
        find_dataset(name, "data")
    assert told in str(caught.value)


def test_a_plain_name_needs_a_dataset_info() -> None:
    with pytest.raises(UsageError, match=r"data/dataset_info\.json: no such file\n  Set dataset_dir"):
        find_dataset("identity", "data")


def test_rows_of_no_known_format_say_their_columns_and_how_to_register_them() -> None:
    write("my.jsonl", {"question": "q", "answer": "a", "id": 1})
    with pytest.raises(UsageError) as caught:
        find_dataset("my.jsonl", "data")
    assert str(caught.value) == (
        "my.jsonl, row 1: these columns belong to no known format: question, answer, id\n"
        "  Say what they are, and use the name:  datakit register my.jsonl --name NAME"
        " --columns instruction=question --columns output=answer"
    )


def test_rows_that_only_look_like_a_format_are_refused_with_the_first_fault() -> None:
    turns = [{"from": "customer", "value": "q"}, {"from": "agent", "value": "a"}]
    write("my.jsonl", {"conversations": turns}, {"conversations": turns})
    with pytest.raises(UsageError) as caught:
        find_dataset("my.jsonl", "data")
    assert (
        'my.jsonl, row 1: the rows look like sharegpt (chat), and none of the first 2 is: field "conversations[0]"'
        in str(caught.value)
    )
    assert "datakit register my.jsonl --name NAME" in str(caught.value)


def test_a_file_of_broken_lines_is_refused() -> None:
    Path("my.jsonl").write_text('{"a" 1}\n{"b" 2}\n', "utf-8")
    with pytest.raises(UsageError, match=r"my\.jsonl, row 1: none of the first rows can be read: not JSON"):
        find_dataset("my.jsonl", "data")


# --- slices and samples -----------------------------------------------------------------------------------------------


def test_an_entry_may_name_slices_of_its_split() -> None:
    define("data", mine={"file_name": "my.jsonl", "split": "train[:10%]+train[5:7]", "num_samples": 4})
    write("data/my.jsonl", *[ALPACA] * 10)
    entry = find_dataset("mine", "data")
    assert (entry.slices, entry.split, entry.num_samples) == (
        (RowSlice(None, 10, percent=True), RowSlice(5, 7)),
        "train",
        4,
    )
    assert entry.sources == ["data/my.jsonl"]


def test_a_split_that_is_none_is_a_fault_of_its_entry() -> None:
    define("data", mine={"hf_hub_url": "org/name", "split": "train[:1]+test[:1]"})
    with pytest.raises(Faults, match=r'"split": "train\[:1\]\+test\[:1\]" adds up slices of several splits'):
        find_dataset("mine", "data")


def test_an_entry_of_the_hub_has_its_slice_taken_out_of_the_address() -> None:
    define("data", mine={"hf_hub_url": "org/name", "subset": "en", "split": "test[:5]"})
    entry = find_dataset("mine", "data")
    assert (entry.sources, entry.slices) == (["hf://org/name/en:test"], (RowSlice(None, 5),))


# --- hubs -------------------------------------------------------------------------------------------------------------

MakeHub = Callable[[str], FolderHub]


def test_an_address_is_a_dataset_with_its_slice(folder_hub: MakeHub) -> None:
    folder_hub("hf").add("org/name", data__train_dot_jsonl=json.dumps(OPENAI) + "\n")
    entry = find_dataset("hf://org/name:train[:50%]", "data")
    assert (entry.address, entry.slices) == ("hf://org/name:train", (RowSlice(None, 50, percent=True),))
    assert entry.layout.formatting == "openai"
    assert records("hf://org/name") == records("hf://org/name/data/*.jsonl") == [chat("q", "a")]


def test_online_names_are_datasets_of_the_hub_with_alpacas_columns(
    folder_hub: MakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_hub("hf").add("org/name", train_dot_jsonl=json.dumps(ALPACA) + "\n")
    assert records("org/name", "ONLINE") == [chat("q", "a")]
    assert find_dataset("org/name", "ONLINE").sources == ["hf://org/name"]
    assert records(write("my.jsonl", SHAREGPT), "ONLINE") == [chat("q", "a")]
    monkeypatch.setenv("USE_MODELSCOPE_HUB", "1")
    assert find_dataset("org/name", "ONLINE").sources == ["ms://org/name"]
    monkeypatch.setenv("USE_MODELSCOPE_HUB", "0")
    monkeypatch.setenv("USE_OPENMIND_HUB", "1")
    with pytest.raises(UsageError, match="lies where no rows are read from"):
        _ = find_dataset("org/name", "ONLINE").sources


def test_a_remote_dataset_info_is_read_and_its_files_are_looked_up_there_too(folder_hub: MakeHub) -> None:
    entries = {
        "mine": {"file_name": "rows/a.jsonl"},
        "other": {"hf_hub_url": "org/other", "formatting": "sharegpt"},
        "cloud": {"cloud_file_name": "s3://bucket/a.jsonl"},
    }
    hub = folder_hub("hf")
    hub.add("org/book", dataset_info_dot_json=json.dumps(entries), rows__a_dot_jsonl=json.dumps(ALPACA) + "\n")
    hub.add("org/other", train_dot_jsonl=json.dumps(SHAREGPT) + "\n")
    assert find_dataset("mine", "REMOTE:org/book").sources == [f"hf://org/book@{COMMIT}/rows/a.jsonl"]
    assert records("mine", "REMOTE:org/book") == records("other", "REMOTE:org/book") == [chat("q", "a")]
    assert find_dataset("cloud", "REMOTE:org/book").sources == ["s3://bucket/a.jsonl"]
    with pytest.raises(UsageError, match=r'dataset "mime" is not defined\n  Nearest names: mine\.'):
        find_dataset("mime", "REMOTE:org/book")


@pytest.mark.parametrize(("content", "told"), [("{", "not JSON"), ("[]", "must hold one object")])
def test_a_broken_remote_dataset_info_is_refused(folder_hub: MakeHub, content: str, told: str) -> None:
    folder_hub("hf").add("org/book", dataset_info_dot_json=content)
    with pytest.raises(UsageError, match=told):
        find_dataset("mine", "REMOTE:org/book")
