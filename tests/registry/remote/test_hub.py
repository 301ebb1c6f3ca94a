"""Datasets of a hub: their files pinned to a revision, read by our own readers, and told well where it fails."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging

import pytest

from registry.errors import UsageError
from registry.manifest import Ledger, build_manifest
from registry.remote import content_key, downloaded, fingerprint, hub
from registry.rows import Row, read_rows
from registry.sources import check_sources, expand_sources
from tests.registry.remote.conftest import COMMIT

pytest.importorskip("huggingface_hub")

BIG = '{"n": 9007199254740993}\n'


def rows_of(source):
    return [row.data for row in read_rows([source]) if isinstance(row, Row)]


def test_a_file_of_a_dataset_is_pinned_to_its_commit_and_read_whole(folder_hub):
    made = folder_hub("hf")
    made.add("org/name", data__a_dot_jsonl=BIG)
    (file,) = expand_sources(["hf://org/name/data/a.jsonl"])
    assert file == f"hf://org/name@{COMMIT}/data/a.jsonl"
    assert rows_of(file) == [{"n": 9007199254740993}]
    assert [(row.file, row.number) for row in read_rows([file])] == [(file, 1)]


def test_files_that_came_out_go_in_again_without_another_question(folder_hub):
    made = folder_hub("hf")
    made.add("org/name", a_dot_jsonl=BIG)
    files = expand_sources(["hf://org/name/a.jsonl"])
    made.is_down = True
    assert expand_sources(files) == files
    assert made.asked == ["list org/name@main"]


def test_folders_and_patterns_of_a_dataset(folder_hub):
    files = ("en/b.jsonl", "en/a.jsonl", "en/deep/c.jsonl", "fr/a.jsonl", "README.md", "en/a.rejects.jsonl")
    folder_hub("ms").add("org/name", **{name.replace("/", "__").replace(".", "_dot_"): BIG for name in files})

    def found(source):
        return [file.removeprefix("ms://org/name@master/") for file in expand_sources([source])]

    assert found("ms://org/name/en") == ["en/a.jsonl", "en/b.jsonl"]
    assert found("ms://org/name/*/a.jsonl") == ["en/a.jsonl", "fr/a.jsonl"]
    assert found("ms://org/name/en/**") == ["en/a.jsonl", "en/b.jsonl", "en/deep/c.jsonl"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("hf://org/name/b.jsonl", "has no such file or folder\n  Near it: a.jsonl"),
        ("hf://org/name/en", r"no such file or folder\n  A subset is named with its split:  hf://org/name/en:train"),
        ("hf://org/name/*.csv", "no data file of the dataset matches this pattern"),
        ("hf://org/name/README.md", "not a kind of file that is read here"),
        ("hf://org/name/data", r"the folder itself holds no data file, its subfolders do \(c.jsonl\)"),
    ],
)
def test_what_a_dataset_does_not_hold_is_told(folder_hub, source, reason):
    folder_hub("hf").add("org/name", a_dot_jsonl=BIG, README_dot_md="", data__x__c_dot_jsonl=BIG)
    with pytest.raises(UsageError, match=reason):
        expand_sources([source])


def test_a_dataset_that_was_seen_is_read_without_the_network(folder_hub, caplog):
    made = folder_hub("hf")
    made.add("org/name", a_dot_jsonl=BIG)
    expand_sources(["hf://org/name/a.jsonl"])
    hub.listing_of.cache_clear()  # as a new process
    made.is_down = True
    with caplog.at_level(logging.WARNING, "tunekit"):
        assert expand_sources(["hf://org/name/a.jsonl"]) == [f"hf://org/name@{COMMIT}/a.jsonl"]
    assert (
        "Hugging Face cannot be reached (ConnectionError: no route to host): hf://org/name@main is read as it"
        in caplog.text
    )
    assert expand_sources([f"hf://org/name@{COMMIT}/*.jsonl"]) == [f"hf://org/name@{COMMIT}/a.jsonl"]


def test_without_the_network_what_was_never_seen_is_told_with_the_way_out(folder_hub):
    made = folder_hub("ms")
    made.is_down = True
    with pytest.raises(UsageError) as error:
        expand_sources(["ms://org/name/a.jsonl"])
    assert str(error.value) == (
        "ms://org/name@master: ModelScope cannot be reached (ConnectionError: no route to host), and its cache holds nothing "
        f"of this dataset\n  Run it once with the network; after that it is read from {made.home}."
    )


def test_a_file_that_is_not_in_the_cache_is_told_when_it_is_opened(folder_hub):
    made = folder_hub("hf")
    made.add("org/name", a_dot_jsonl=BIG)
    (file,) = expand_sources(["hf://org/name/a.jsonl"])
    made.is_down = True
    with pytest.raises(UsageError, match=f"^hf://org/name@{COMMIT}/a.jsonl: the file is not in the cache, and Hugging"):
        list(read_rows([file]))


def test_a_listing_of_another_version_is_not_misread(folder_hub):
    made = folder_hub("hf")
    made.add("org/name", a_dot_jsonl=BIG)
    expand_sources(["hf://org/name/a.jsonl"])
    for memory in made.home.rglob("*.json"):
        memory.write_text('{"format_version": 0, "revision": "x", "files": {"a.jsonl": null}}')
    hub.listing_of.cache_clear()
    made.is_down = True
    with pytest.raises(UsageError, match="its cache holds nothing"):
        expand_sources(["hf://org/name/a.jsonl"])


def test_where_a_hub_has_no_commits_the_hash_of_the_listing_pins_the_content(folder_hub):
    made = folder_hub("ms")
    folder = made.add("org/name", a_dot_jsonl=BIG)
    (file,) = expand_sources(["ms://org/name/a.jsonl"])
    (folder / "a.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match="the content is another"):
        list(read_rows([file]))


def test_a_manifest_tells_a_hub_s_file_with_size_hash_and_revision(folder_hub):
    folder_hub("hf").add("org/name", a_dot_jsonl=BIG)
    files = expand_sources(["hf://org/name/a.jsonl"])
    ledger = Ledger(rows_in=1, rows_out=1)
    ledger.by_file[files[0]] = 1
    (told,) = build_manifest("test", {}, files, ledger)["inputs"]
    assert told == {
        "file": f"hf://org/name@{COMMIT}/a.jsonl", "rows": 1, "bytes": len(BIG),
        "sha256": hashlib.sha256(BIG.encode()).hexdigest(), "revision": COMMIT,
    }  # fmt: skip


def test_the_key_of_a_content_costs_no_download_where_the_address_pins_it(folder_hub):
    made = folder_hub("hf")
    made.add("org/name", a_dot_jsonl=BIG)
    pinned = f"hf://org/name@{COMMIT}/a.jsonl"
    assert content_key(pinned) == pinned
    assert made.asked == []
    scope = folder_hub("ms")
    scope.add("org/name", a_dot_jsonl=BIG)
    before = content_key("ms://org/name@master/a.jsonl")
    scope.add("org/name", a_dot_jsonl=BIG * 2)
    hub.listing_of.cache_clear()
    assert content_key("ms://org/name@master/a.jsonl") not in (before, None)
    scope.is_down = True
    assert content_key("ms://org/gone@master/a.jsonl") is None


def test_a_missing_library_is_told_with_the_line_that_installs_it_and_without_the_network(monkeypatch):
    real = importlib.util.find_spec
    for missing in ("huggingface_hub", "datasets"):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, m=missing: None if name == m else real(name))
        with pytest.raises(UsageError) as error:
            check_sources(["hf://org/name:train"])
        assert str(error.value) == (
            f'hf://org/name:train: this needs {missing}, which is not installed\n  pip install "tunekit[hub]"'
        )


class TestHuggingFace:
    """Through huggingface_hub itself, against a server on loopback."""

    def test_rows_come_over_the_wire_once_and_from_the_cache_afterwards(self, hugging_face):
        (hugging_face / "org" / "name" / "data").mkdir(parents=True)
        (hugging_face / "org" / "name" / "data" / "a.jsonl").write_text(BIG)
        (file,) = expand_sources(["hf://org/name/data/a.jsonl"])
        assert file == f"hf://org/name@{COMMIT}/data/a.jsonl"
        assert rows_of(file) == [{"n": 9007199254740993}]
        (hugging_face / "org" / "name" / "data" / "a.jsonl").unlink()
        assert rows_of(file) == [{"n": 9007199254740993}]
        assert fingerprint(file)["bytes"] == len(BIG)
        assert "snapshots" in str(downloaded(file))

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("hf://org/gone/a.jsonl", "Hugging Face shows no such dataset, revision or file\n  .*log in .*HF_TOKEN"),
            ("hf://org/name@v9/a.jsonl", "the dataset has no such revision"),
            (f"hf://org/name@{COMMIT}/b.jsonl", "the dataset has no such file"),
            ("hf://org/na..me/a.jsonl", "this is no name of a dataset"),
        ],
    )
    def test_what_the_hub_refuses_is_told(self, hugging_face, source, reason):
        (hugging_face / "org" / "name").mkdir(parents=True)
        (hugging_face / "org" / "name" / "a.jsonl").write_text(BIG)
        with pytest.raises(UsageError, match=reason):
            list(read_rows([source]))

    def test_offline_a_dataset_that_other_tools_fetched_is_read_from_their_cache(
        self, hugging_face, monkeypatch, caplog
    ):
        constants = pytest.importorskip("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        base = hugging_face.parent / "home" / "hub" / "datasets--org--name"
        (base / "snapshots" / COMMIT).mkdir(parents=True)
        (base / "refs").mkdir()
        (base / "refs" / "main").write_text(COMMIT)
        (base / "snapshots" / COMMIT / "a.jsonl").write_text(BIG)
        with caplog.at_level(logging.WARNING, "tunekit"):
            (file,) = expand_sources(["hf://org/name/a.jsonl"])
        assert rows_of(file) == [{"n": 9007199254740993}]
        assert "cannot be reached (HF_HUB_OFFLINE is set): hf://org/name@main is read as it lies" in caplog.text
        assert "files that were never downloaded are missing from it" in caplog.text
        with pytest.raises(UsageError, match="and its cache holds nothing of this dataset"):
            expand_sources(["hf://org/other/a.jsonl"])


class TestModelScope:
    """Through modelscope_hub itself, against a server on loopback."""

    def test_rows_come_over_the_wire_and_from_the_cache_as_long_as_they_are_the_hub_s(self, modelscope):
        path = modelscope / "org" / "name" / "data" / "train.jsonl"
        path.parent.mkdir(parents=True)
        for text in (BIG, '{"n": 2}\n'):
            path.write_text(text)
            hub.listing_of.cache_clear()
            (file,) = expand_sources(["ms://org/name:train"])
            assert file == "ms://org/name@master/data/train.jsonl"
            assert rows_of(file) == [json.loads(text)]
        assert fingerprint(file)["sha256"] == hashlib.sha256(text.encode()).hexdigest()

    @pytest.mark.parametrize("source", ["ms://org/gone/a.jsonl", "ms://org/name@master/a.jsonl"])
    def test_what_the_hub_refuses_is_told(self, modelscope, source):
        (modelscope / "org" / "name").mkdir(parents=True)
        with pytest.raises(
            UsageError, match=r"ModelScope shows no such dataset, revision or file\n  .*modelscope login"
        ):
            list(read_rows([source]))
