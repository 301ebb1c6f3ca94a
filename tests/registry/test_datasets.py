"""dataset_info.json: LLaMA-Factory's keys and its all-or-nothing rule; written whole, under a lock, keeping the rest."""

import json
import subprocess
import sys

import pytest

import registry.atomic
from registry.datasets import (
    OPENAI_TAGS,
    Columns,
    Layout,
    Tags,
    find_entry,
    parse_entry,
    read_dataset_info,
    write_entry,
)
from registry.errors import Faults, UsageError
from tests.conftest import REPOSITORY, SHARED, needs_shared, run_python


def write_info(folder, value):
    (folder / "dataset_info.json").write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def parsed(tmp_path, **raw):
    return parse_entry("mine", {"file_name": "a.json", **raw}, tmp_path)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_without_columns_and_tags_the_defaults_hold(tmp_path):
    entry = parsed(tmp_path)
    assert entry.layout == Layout("alpaca", Columns(), Tags())
    assert (entry.layout.columns.prompt, entry.layout.columns.query, entry.layout.columns.response) == (
        "instruction", "input", "output",
    )  # fmt: skip
    assert (entry.layout.tags.role_tag, entry.layout.tags.user_tag, entry.layout.tags.system_tag) == (
        "from", "human", "system",
    )  # fmt: skip
    assert entry.path == tmp_path / "a.json"
    assert entry.warnings == ()


def test_once_columns_are_there_what_they_do_not_list_is_off(tmp_path):
    columns = parsed(tmp_path, columns={"prompt": "text"}).layout.columns
    assert columns.prompt == "text"
    assert (columns.query, columns.response, columns.messages) == (None, None, None)


def test_once_tags_are_there_what_they_do_not_list_is_off_and_that_is_warned_about(tmp_path):
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    entry = parsed(tmp_path, formatting="sharegpt", tags=tags)
    assert (entry.layout.tags.user_tag, entry.layout.tags.system_tag) == ("user", None)
    assert entry.warnings == (
        "tags lists no observation_tag, function_tag, system_tag: rows with such turns will be rejected "
        "(what is not listed is off)",
    )


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ({}, "chat"),
        ({"columns": {"prompt": "text"}}, "text"),
        ({"ranking": True, "columns": {"prompt": "p", "chosen": "c", "rejected": "r"}}, "preference"),
        ({"columns": {"prompt": "p", "response": "r", "kto_tag": "k"}}, "feedback"),
        ({"formatting": "sharegpt"}, "chat"),
    ],
)
def test_an_entry_tells_the_kind_of_its_records(tmp_path, raw, kind):
    assert parsed(tmp_path, **raw).layout.kind == kind


def test_an_unknown_key_is_passed_over_with_the_nearest_name(tmp_path):
    assert parsed(tmp_path, file_nam="a.json").warnings == (
        'unknown key "file_nam" is ignored. Did you mean "file_name" or "cloud_file_name"?',
    )


def test_all_faults_of_an_entry_come_together(tmp_path):
    with pytest.raises(Faults) as error:
        parse_entry(
            "mine",
            {"formatting": "sharegpd", "columns": {"promt": "a", "query": 3}, "ranking": "yes", "num_samples": 0},
            tmp_path,
        )
    text = str(error.value)
    assert f'{tmp_path / "dataset_info.json"}, "mine": 6 faults' in text
    assert '"formatting" is "sharegpd"; known: alpaca, sharegpt, openai. Did you mean "sharegpt"?' in text
    assert '"columns" has no key "promt". Did you mean "prompt"?' in text
    assert '"columns.query" must be the name of a column, not 3' in text
    assert "\"ranking\" must be true or false, not 'yes'" in text
    assert '"num_samples" must be a whole number above 0, not 0' in text
    assert "it names no place" in text


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ({"ranking": True}, '"ranking" is true, but columns names no "chosen" and "rejected"'),
        ({"formatting": "sharegpt", "columns": {"system": "s"}}, 'lists no "messages"'),
        ({"columns": ["a"]}, '"columns" must be an object'),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, raw, fault):
    with pytest.raises(Faults, match=fault):
        parsed(tmp_path, **raw)


def test_an_undefined_name_lists_the_nearest(tmp_path):
    write_info(tmp_path, {"identity": {"file_name": "a"}, "alpaca_en": {"file_name": "b"}})
    with pytest.raises(UsageError) as error:
        find_entry("identiti", tmp_path)
    assert str(error.value) == (
        f'{tmp_path / "dataset_info.json"}: dataset "identiti" is not defined\n  Nearest names: identity.'
    )
    with pytest.raises(UsageError, match=r"Defined there: identity, alpaca_en\."):
        find_entry("zzz", tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file\n  Set dataset_dir"),
        ("{", "not JSON"),
        ("[]", "must hold one object"),
        ('{"mine": 3}', "an entry must be an object"),
    ],
)
def test_a_broken_dataset_info_is_refused(tmp_path, content, reason):
    if content is not None:
        write_info(tmp_path, content)
    with pytest.raises(UsageError, match=reason):
        find_entry("mine", tmp_path)


def test_a_bom_is_read_past(tmp_path):
    (tmp_path / "dataset_info.json").write_bytes(b'\xef\xbb\xbf{"a": {}}')
    assert read_dataset_info(tmp_path) == {"a": {}}


@pytest.mark.parametrize(
    ("raw", "environment", "sources"),
    [
        ({"hf_hub_url": "org/name"}, {}, ["hf://org/name"]),
        ({"hf_hub_url": "o/n", "subset": "en", "split": "test", "folder": "v2"}, {}, ["hf://o/n/en:test?folder=v2"]),
        ({"hf_hub_url": "o/n", "ms_hub_url": "p/m"}, {}, ["hf://o/n"]),
        ({"hf_hub_url": "o/n", "ms_hub_url": "p/m"}, {"USE_MODELSCOPE_HUB": "1"}, ["ms://p/m"]),
        ({"ms_hub_url": "p/m", "file_name": "a.json"}, {}, ["ms://p/m"]),
        ({"hf_hub_url": "o/n", "om_hub_url": "p/m"}, {}, ["hf://o/n"]),
        ({"hf_hub_url": "o/n", "script_url": "x"}, {}, ["hf://o/n"]),
        ({"cloud_file_name": "s3://b/a.jsonl", "file_name": "a.json"}, {}, ["s3://b/a.jsonl"]),
        ({"file_name": "gs://b/a.jsonl"}, {}, ["gs://b/a.jsonl"]),
        ({"file_name": "a.json"}, {}, ["{folder}/a.json"]),
    ],
)
def test_an_entry_s_rows_lie_where_llamafactory_looks_first(tmp_path, monkeypatch, raw, environment, sources):
    for variable in ("USE_MODELSCOPE_HUB", "USE_OPENMIND_HUB"):
        monkeypatch.setenv(variable, environment.get(variable, "0"))
    entry = parse_entry("mine", raw, tmp_path)
    assert entry.sources == [source.format(folder=tmp_path) for source in sources]


@pytest.mark.parametrize(
    ("raw", "environment"),
    [
        ({"script_url": "x", "file_name": "a.json"}, {}),
        ({"om_hub_url": "o/n"}, {}),
        ({"hf_hub_url": "o/n", "om_hub_url": "p/m"}, {"USE_OPENMIND_HUB": "true"}),
    ],
)
def test_an_entry_that_only_a_program_or_another_hub_could_give_is_told(tmp_path, monkeypatch, raw, environment):
    for variable in ("USE_MODELSCOPE_HUB", "USE_OPENMIND_HUB"):
        monkeypatch.setenv(variable, environment.get(variable, "0"))
    entry = parse_entry("mine", raw, tmp_path)
    with pytest.raises(UsageError, match=r'dataset "mine" lies where no rows are read from.*\n  Download it'):
        _ = entry.sources


def test_an_entry_on_another_machine_has_no_path(tmp_path):
    with pytest.raises(UsageError, match='dataset "mine" lies on another machine: org/name'):
        _ = parse_entry("mine", {"hf_hub_url": "org/name"}, tmp_path).path


@pytest.mark.parametrize("key", ["subset", "split", "folder", "hf_hub_url"])
def test_a_place_must_be_text(tmp_path, key):
    with pytest.raises(Faults, match=f'"{key}" must be text, not 3'):
        parse_entry("mine", {"hf_hub_url": "o/n", key: 3}, tmp_path)


def test_the_openai_tags_are_those_of_the_wire():
    assert (OPENAI_TAGS.role_tag, OPENAI_TAGS.content_tag, OPENAI_TAGS.observation_tag) == ("role", "content", "tool")


@needs_shared
def test_llamafactorys_own_file_is_read_without_a_fault():
    names = read_dataset_info(SHARED / "data")
    assert len(names) > 10
    for name in names:
        assert find_entry(name, SHARED / "data").path.exists()


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_new_entry_comes_last_and_the_others_keep_their_order_and_unknown_keys(tmp_path):
    before = {"zeta": {"file_name": "z.json", "note": {"by": "me"}}, "alpha": {"file_name": "a.json"}, "odd": [1]}
    write_info(tmp_path, before)
    write_entry("mid", {"file_name": "m.json"}, tmp_path)
    after = read_dataset_info(tmp_path)
    assert list(after) == ["zeta", "alpha", "odd", "mid"]
    assert {k: after[k] for k in before} == before


def test_an_exchanged_entry_keeps_its_place(tmp_path):
    write_info(tmp_path, {"a": {"file_name": "1"}, "b": {"file_name": "2"}})
    write_entry("a", {"file_name": "3"}, tmp_path, replace=True)
    assert list(read_dataset_info(tmp_path).items()) == [("a", {"file_name": "3"}), ("b", {"file_name": "2"})]


def test_a_taken_name_is_refused_unless_the_entry_is_the_same(tmp_path):
    write_entry("a", {"file_name": "1"}, tmp_path)
    write_entry("a", {"file_name": "1"}, tmp_path)
    with pytest.raises(UsageError, match='the name "a" is taken by another entry\n  Add --replace'):
        write_entry("a", {"file_name": "2"}, tmp_path)
    assert read_dataset_info(tmp_path) == {"a": {"file_name": "1"}}


def test_an_entry_that_does_not_hold_up_is_never_written(tmp_path):
    with pytest.raises(Faults):
        write_entry("a", {"file_name": "1", "formatting": "odd"}, tmp_path)
    assert not (tmp_path / "dataset_info.json").exists()


def test_a_broken_file_is_not_overwritten(tmp_path):
    write_info(tmp_path, "{ broken")
    with pytest.raises(UsageError, match="not JSON"):
        write_entry("a", {"file_name": "1"}, tmp_path)
    assert (tmp_path / "dataset_info.json").read_text() == "{ broken"


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    write_entry("a", {"file_name": "1"}, tmp_path)

    def full(*ignored):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(registry.atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_entry("b", {"file_name": "2"}, tmp_path)
    assert read_dataset_info(tmp_path) == {"a": {"file_name": "1"}}


def test_two_processes_that_write_at_once_lose_no_entry(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from registry.datasets import write_entry\n"
        "for i in range(25): write_entry(f'{sys.argv[1]}{i}', {'file_name': 'x'}, sys.argv[2])"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, name, str(tmp_path)]) for name in ("a", "b")]
    assert [process.wait(60) for process in running] == [0, 0]
    assert set(read_dataset_info(tmp_path)) == {f"{name}{i}" for name in "ab" for i in range(25)}


def test_a_writer_killed_in_the_middle_leaves_the_old_file_and_the_lock_free(tmp_path):
    write_entry("old", {"file_name": "1"}, tmp_path)
    code = (
        "import os, sys, registry.atomic\n"
        "registry.atomic.os.replace = lambda *a: os._exit(9)\n"
        "from registry.datasets import write_entry\n"
        "write_entry('new', {'file_name': 'x'}, sys.argv[1])"
    )
    assert run_python(code, tmp_path).returncode == 9
    assert read_dataset_info(tmp_path) == {"old": {"file_name": "1"}}
    write_entry("next", {"file_name": "2"}, tmp_path)
    assert list(read_dataset_info(tmp_path)) == ["old", "next"]
