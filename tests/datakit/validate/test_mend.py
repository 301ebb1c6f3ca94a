"""What --fix mends: only what can be meant one way, counted by code, and never again what it has mended."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.validate import validate_rows
from datakit.validate.mend import mended
from datakit.validate.roles import meant_role
from datakit.validate.structure import faults_of
from registry.datasets import OPENAI_TAGS, Tags
from registry.formats import LAYOUTS
from tests.datakit.validate.made import GOOD, changed


def fix(row, name="alpaca"):
    """``row`` with all mends that it needs, one after the other."""
    for _ in range(5):
        row = mended(row, faults_of(row, LAYOUTS[name]), LAYOUTS[name])
    return row


H, G = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
TURNS = [H, G]


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("alpaca", {"instruction": 7, "output": 12}, {"instruction": "7", "output": "12"}),
        ("alpaca", {"instruction": "q", "input": [], "system": {}, "output": "a"}, {"instruction": "q", "output": "a"}),
        ("alpaca", {"instruction": "q", "output": "a", "history": ""}, {"instruction": "q", "output": "a"}),
        ("alpaca", {"instruction": "q", "output": "a", "history": '[["b","c"]]'}, {"instruction": "q", "output": "a", "history": [["b", "c"]]}),
        ("kto", {"instruction": "q", "output": "a", "kto_tag": " False"}, {"instruction": "q", "output": "a", "kto_tag": False}),
        ("preference", {"instruction": "q", "chosen": 3, "rejected": "b"}, {"instruction": "q", "chosen": "3", "rejected": "b"}),
        ("sharegpt", {"conversations": json.dumps(TURNS)}, {"conversations": TURNS}),
        ("sharegpt", {"conversations": [{**H, "from": "User"}, {**G, "from": "asistant"}]}, {"conversations": TURNS}),
        ("sharegpt", {"conversations": [{"content": "q", "role": "user"}, G]}, {"conversations": [{"value": "q", "from": "human"}, G]}),
        ("sharegpt", {"conversations": [{"from": "system", "value": "s"}, {"from": "system", "value": "t"}, *TURNS]},
         {"conversations": [{"from": "system", "value": "s\n\nt"}, *TURNS]}),
        ("sharegpt", {"conversations": [{"from": "sytem", "value": "s"}, {"from": "system", "value": " "}, *TURNS]},
         {"conversations": [{"from": "system", "value": "s"}, *TURNS]}),
        ("sharegpt", {"conversations": [{**H, "value": 7}, G], "system": [], "tools": [{"name": "x"}]},
         {"conversations": [{**H, "value": "7"}, G], "tools": '[{"name": "x"}]'}),
        ("sharegpt", {"conversations": TURNS, "tools": '{"name": "x"}'}, {"conversations": TURNS, "tools": '[{"name": "x"}]'}),
        ("openai", {"messages": [{"from": "human", "value": "q"}, {"role": "bot", "content": "a"}], "tools": {}},
         {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}),
    ],
)  # fmt: skip
def test_what_is_sure_is_mended(name, row, expected):
    before = json.dumps(row)
    assert fix(row, name) == expected
    assert faults_of(expected, LAYOUTS[name]) == []
    assert json.dumps(row) == before


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("alpaca", {"instruction": "q", "output": 0.5}),
        ("alpaca", {"instruction": "q", "output": True}),
        ("alpaca", {"instruction": "q", "output": []}),
        ("alpaca", {"instruction": "q", "output": "a", "history": "a chat"}),
        ("kto", {"instruction": "q", "output": "a", "kto_tag": 1}),
        ("sharegpt", {"conversations": [{**H, "from": "hero"}, G]}),
        ("sharegpt", {"conversations": [H, {"from": "system", "value": "s"}, G]}),
        ("sharegpt", {"conversations": [{**H, "role": "user"}, {"role": "assistant", "content": "a", "value": "b"}]}),
        ("sharegpt", {"conversations": TURNS, "tools": "look()"}),
    ],
)
def test_what_is_not_sure_stays_as_it_is(name, row):
    assert fix(row, name) == row


@pytest.mark.parametrize(
    ("name", "tags", "expected"),
    [
        ("User", Tags(), "human"), ("assistant", Tags(), "gpt"), ("model", OPENAI_TAGS, "assistant"), ("tool", Tags(), "observation"),
        ("Human", Tags(), "human"), ("asistant", OPENAI_TAGS, "assistant"), ("sytem", OPENAI_TAGS, "system"),
        ("gpt", Tags(), None), ("gpt4", Tags(), None), ("teacher", Tags(), None), ("", Tags(), None), ("developer", OPENAI_TAGS, None),
    ],
)  # fmt: skip
def test_a_role_is_guessed_only_where_one_is_near(name, tags, expected):
    assert meant_role(name, tags) == expected


def test_mended_rows_go_to_clean_and_are_counted_by_code(datakit, tmp_path, read_rows_back):
    lines = [
        b'\xef\xbb\xbf{"conversations":[{"from":"user","value":"\xe2\x80\x8bq"},{"from":"gpt","value":"a"}]}',
        b'{"conversations":[{"from":"human","value":"q"},{"from":"human","value":"q"}]}',
        b'{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"n":1,"n":1}',
        b'{"conversations":[{"from":"user","value":"q"},{"from":"gpt","value":""}]}',
        b'{"conversations":[{"from":"human","value":"Mail {{name}}"},{"from":"bot","value":"a"}]}',
    ]
    (tmp_path / "in.jsonl").write_bytes(json.dumps({"conversations": TURNS}).encode() + b"\n" + b"\n".join(lines))
    ran = datakit("validate", "in.jsonl", "--fix", "--clean", "out.jsonl", "--json")
    assert (ran.code, ran.json["rows_out"], ran.json["rows_mended"], ran.json["rows_with_warnings"]) == (1, 4, 3, 1)
    assert ran.json["mended"] == {"SG006": 2, "CH005": 1, "RD006": 1, "RD010": 1}
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert manifest["details"]["mended"] == ran.json["mended"]
    assert read_rows_back("out.jsonl") == [
        {"conversations": TURNS},
        {"conversations": TURNS},
        {"conversations": TURNS, "n": 1},
        {"conversations": [{**H, "value": "Mail {{name}}"}, G]},
    ]
    rejects = read_rows_back("out.jsonl.rejects.jsonl")
    assert [json.loads(reject["raw"]) for reject in rejects] == [json.loads(lines[1]), json.loads(lines[3])]
    again = datakit("validate", "out.jsonl", "--fix", "--clean", "again.jsonl", "--json")
    assert (again.code, again.json["rows_mended"]) == (0, 0)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


def test_text_that_was_decoded_wrongly_is_mended_when_asked_for(datakit, write_rows, read_rows_back):
    row = {"instruction": "Où est le cafÃ© ?", "output": "LÃ\xa0-bas, “à droite”."}
    write_rows("in.jsonl", row)
    assert datakit("validate", "in.jsonl", "--fix", "--clean", "out.jsonl", "--json").json["rows_mended"] == 0
    assert read_rows_back("out.jsonl") == [row]
    ran = datakit("validate", "in.jsonl", "--fix-text", "--clean", "out.jsonl", "--json")
    assert ran.json["mended"] == {"CH004": 2}
    assert read_rows_back("out.jsonl")[0]["instruction"] == "Où est le café ?"


def test_a_fault_that_is_allowed_is_not_mended(datakit, write_rows, read_rows_back):
    row = {"instruction": "q", "output": 7}
    write_rows("in.jsonl", row, {"instruction": "q", "output": "a"})
    assert datakit("validate", "in.jsonl", "--fix", "--allow", "AL002", "--clean", "out.jsonl").code == 0
    assert read_rows_back("out.jsonl")[0] == row


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=12)
@given(data=st.data())
def test_what_was_mended_is_clean_and_is_not_mended_again(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("rows")
    rows = [data.draw(GOOD[name][1]), *data.draw(st.lists(changed(name), max_size=5))]
    lines = [json.dumps(row) for row in rows if "\\ud800" not in json.dumps(row)]
    (folder / "in.jsonl").write_text("\n".join(lines))
    options = {"format_name": "auto" if " " in name else name, "fix": True, "text": False}
    first = validate_rows([folder / "in.jsonl"], clean=folder / "out.jsonl", **options)
    mends = first.details["mended"]
    assert first.rows_in == len(lines) == first.rows_out + first.num_rejected
    second = validate_rows([folder / "out.jsonl"], clean=folder / "again.jsonl", **options)
    assert (second.exit_code, second.details["rows_mended"]) == (0, 0)
    assert {fault["code"] for fault in second.details["faults"]}.isdisjoint(mends)
    assert (folder / "again.jsonl").read_bytes() == (folder / "out.jsonl").read_bytes()
