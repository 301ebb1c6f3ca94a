"""The manifest says what made a file, from what, and where every row went; it never holds a secret."""

import hashlib
from collections import Counter

import pytest

from registry.digest import sha256_of
from registry.manifest import Ledger, build_manifest, manifest_path, tool_version, write_manifest


def ledger_of(rows_in, rows_out, **rejected):
    ledger = Ledger()
    for file in rows_in:
        ledger.read(file)
    ledger.rows_out = rows_out
    ledger.rejected.update(rejected)
    return ledger


def test_a_lost_row_is_a_fault_of_ours():
    ledger_of(["a", "a", "b"], 2, empty=1).check()
    with pytest.raises(AssertionError, match="3 rows in, 2 out, 0 rejected, 0 filtered, 0 added"):
        ledger_of(["a", "a", "b"], 2).check()


def test_rows_left_out_as_asked_and_rows_made_beyond_the_first_are_in_the_books():
    ledger = Ledger(rows_in=5, rows_out=6, filtered=Counter({"--where": 2}), added=3)
    ledger.check()
    manifest = build_manifest("convert", {}, [], ledger)
    assert (manifest["filtered"], manifest["rows_added"]) == ({"--where": 2}, 3)
    ledger.added = 2
    with pytest.raises(AssertionError, match="5 rows in, 6 out, 0 rejected, 2 filtered, 2 added"):
        ledger.check()


def test_no_manifest_is_built_from_a_ledger_that_lost_a_row(tmp_path):
    with pytest.raises(AssertionError):
        build_manifest("convert", {}, [], ledger_of(["a"], 0))


def test_a_manifest_names_inputs_outputs_and_the_way_of_every_row(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b"{}\n{}\n{}\n")
    (tmp_path / "out.jsonl").write_bytes(b"{}\n")
    source, out = str(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    ledger = ledger_of([source] * 3, 1, empty=1, twice=1)
    made = build_manifest("convert", {"to": "alpaca"}, [source], ledger, [out])
    assert made["manifest_version"] == 1
    assert made["tool"] == f"tunekit {tool_version()}"
    assert (made["command"], made["options"]) == ("convert", {"to": "alpaca"})
    assert made["inputs"] == [
        {"file": source, "bytes": 9, "rows": 3, "sha256": hashlib.sha256(b"{}\n{}\n{}\n").hexdigest()}
    ]
    assert made["outputs"] == [{"file": str(out), "bytes": 3, "sha256": sha256_of(out)}]
    assert (made["rows_in"], made["rows_out"], made["rejected"]) == (3, 1, {"empty": 1, "twice": 1})
    assert made["seconds"] >= 0


def test_stdin_has_rows_but_neither_bytes_nor_hash():
    assert build_manifest("convert", {}, ["-"], ledger_of(["-"], 1))["inputs"] == [{"file": "-", "rows": 1}]


def test_options_that_look_like_secrets_are_left_out():
    options = {"api_key": "sk-1", "hf_hub_token": "hf-1", "Password": "p", "model": "m"}
    assert build_manifest("augment", options, [], Ledger())["options"] == {"model": "m"}


def test_the_manifest_lies_beside_what_it_is_about(tmp_path):
    assert manifest_path("data/out.jsonl").as_posix() == "data/out.jsonl.manifest.json"
    path = write_manifest(tmp_path / "out.jsonl", {"a": 1})
    assert path == tmp_path / "out.jsonl.manifest.json"
    assert path.read_text() == '{\n  "a": 1\n}\n'
