"""datakit validate: each fault told by code, row, place and reason, and each row either clean or rejected."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datakit.validate as module
from datakit.validate import validate_rows
from datakit.validate.codes import all_codes
from registry.formats import LAYOUTS
from tests.datakit.validate.made import GOOD as FORMATS
from tests.datakit.validate.made import changed

GOOD = {"instruction": "How long?", "input": "", "output": "Two days."}
BAD = {"instruction": "q", "output": ""}
CHATS = {
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "openai": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
}


def codes(found) -> dict[str, int]:
    return {fault["code"]: fault["count"] for fault in found.json["faults"]}


def test_clean_gets_good_rows_unchanged_and_rejects_the_others(datakit, write_rows, read_rows_back):
    rows = [GOOD | {"id": 1}, BAD, GOOD | {"output": "{{name}}"}, {"instruction": "q", "output": [7]}]
    write_rows("in.jsonl", *rows)
    ran = datakit("validate", "in.jsonl", "--clean", "clean.jsonl")
    assert ran.code == 1
    assert read_rows_back("clean.jsonl") == [rows[0], rows[2]]
    rejects = read_rows_back("clean.jsonl.rejects.jsonl")
    assert [(r["row"], r["field"], r["reason"], json.loads(r["raw"])) for r in rejects] == [
        (2, "output", "the answer is empty", rows[1]),
        (4, "output", "text belongs here, not a list ([7])", rows[3]),
    ]
    lines = [len(orjson.dumps(row)) + 1 for row in rows]
    assert [(r["code"], r["pointer"], r["offset"]) for r in rejects] == [
        ("AL004", "/output", lines[0]),
        ("AL002", "/output", sum(lines[:3])),
    ]


def test_a_reject_holds_all_faults_of_its_row_and_the_line_as_it_stands(datakit, tmp_path, read_rows_back):
    line = '{ "instruction": 7,"output":"", "system": "Mail {{name}}",  "output": "" }'
    (tmp_path / "in.jsonl").write_text(f"{json.dumps(GOOD)}\n\n{line}\n")
    datakit("validate", "in.jsonl", "--rejects", "bad.jsonl")
    (reject,) = read_rows_back("bad.jsonl")
    assert (reject["row"], reject["raw"], reject["offset"]) == (3, line, len(json.dumps(GOOD)) + 2)
    assert [(f["code"], f["level"], f["pointer"], f["fixable"]) for f in reject["faults"]] == [
        ("RD006", "error", "/output", True),
        ("AL002", "error", "/instruction", True),
        ("AL004", "error", "/output", False),
        ("PL001", "warning", "/system", False),
    ]
    assert reject["faults"][3]["span"] == [5, 13]


def test_clean_lines_are_those_of_the_source_byte_for_byte(datakit, tmp_path):
    good = ['{"instruction": "q", "output": "é\\u00e9"}', '{ "output":"1",   "instruction":"q","n":1e2}']
    lines = [good[0], '{"instruction": "q"}', good[1], "", "  " + good[0] + "\r", "{", good[1]]
    (tmp_path / "in.jsonl").write_bytes("\n".join(lines).encode())
    assert datakit("validate", "in.jsonl", "--clean", "out.jsonl").code == 1
    assert (tmp_path / "out.jsonl").read_bytes() == "\n".join([*good, good[0], good[1], ""]).encode()


def test_without_clean_and_rejects_nothing_is_written(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", BAD)
    assert datakit("validate", "in.jsonl").code == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_warnings_alone_exit_with_0(datakit, write_rows):
    write_rows("in.jsonl", GOOD | {"output": "I am {{name}}"})
    ran = datakit("validate", "in.jsonl", "--json")
    assert (ran.code, ran.json["rows_with_warnings"], ran.json["rejected"]) == (0, 1, {})


def test_json_holds_each_code_with_its_counts_and_its_first_example(datakit, write_rows):
    path = write_rows("in.jsonl", GOOD, *({"instruction": "q", "output": value} for value in (5, "", [6], "")))
    found = datakit("validate", "in.jsonl", "--json").json
    assert (found["format"], found["rows_in"], found["rows_out"], found["text_rules"]) == ("alpaca (chat)", 5, 1, True)
    first, second = found["faults"]
    assert first == {
        "code": "AL002", "title": "a field that is not text", "level": "error", "count": 2, "rows": 2, "mended": 0,
        "file": "in.jsonl", "row": 2, "offset": path.read_bytes().index(b"\n") + 1, "pointer": "/output", "field": "output",
        "reason": "text belongs here, not a number (5)", "value": "5", "span": None, "mend": all_codes()["AL002"].mend,
        "fixable": 1, "places": {"/output": 2},
    }  # fmt: skip
    assert (second["code"], second["count"], second["row"], second["value"]) == ("AL004", 2, 3, "")
    assert found["files"] == [{"file": "in.jsonl", "rows": 5, "warned": 0, "rejected": 4, "mended": 0}]


def test_the_report_for_people_is_a_table_on_stdout(datakit, write_rows):
    write_rows(
        "in.jsonl", GOOD, {"instruction": "q", "output": "\x1b[2J{{x_y}}\n"}, BAD, {"instruction": "q", "output": 3}
    )
    assert datakit("validate", "in.jsonl", "--quiet").out == (
        "format alpaca (chat)\n"
        "4 rows: 2 good (1 of them with warnings), 2 with errors\n"
        "\n"
        "count  level    code   fault                        first at\n"
        "    1  error    AL002  a field that is not text     in.jsonl, row 4, output\n"
        "                       text belongs here, not a number (3)\n"
        "                       e.g. 3\n"
        "    1  error    AL004  an empty answer              in.jsonl, row 3, output\n"
        "                       the answer is empty\n"
        "    1  warning  CH001  control characters           in.jsonl, row 2, output\n"
        "                       control characters: U+001B\n"
        "                       e.g. \\x1b[2J{{x_y}}\\n\n"
        "    1  warning  PL001  a placeholder left unfilled  in.jsonl, row 2, output\n"
        "                       e.g. \\x1b[2J{{x_y}}\\n\n"
        "\n"
        "--fix --clean FILE mends what is sure of AL002\n"
    )


def test_a_mapping_tells_the_parts_and_faults_lead_into_the_file_s_own_row(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", {"q": {"text": "Hi", "n": 1}, "a": ""}, {"q": {"text": 7}, "a": "b{{name}}"})
    found = datakit(
        "validate", "in.jsonl", "--map", "instruction=q.text", "--map", "output=a", "--json", "--rejects", "r.jsonl"
    )
    assert [(f["field"], f["pointer"]) for f in found.json["faults"]] == [
        ("q.text", "/q/text"),
        ("a", "/a"),
        ("a", "/a"),
    ]


ROWS_OF = {
    "pt": {"text": "t"},
    "sft": GOOD,
    "dpo": {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"},
    "kto": GOOD | {"kto_tag": True},
}


@pytest.mark.parametrize("stage", ["pt", "sft", "rm", "dpo", "kto"])
@pytest.mark.parametrize("rows_of", ROWS_OF)
def test_a_stage_takes_rows_of_its_kind_and_refuses_all_others_as_a_whole(datakit, write_rows, stage, rows_of):
    write_rows("in.jsonl", ROWS_OF[rows_of])
    ran = datakit("validate", "in.jsonl", "--stage", stage)
    if stage == rows_of or (stage, rows_of) in (("rm", "dpo"), ("pt", "sft")):  # a chat's first question is a text
        assert ran.code == 0
    else:
        assert ran.code == 2
        assert f"stage {stage} learns from" in ran.err
        assert f"--stage {'rm or dpo' if rows_of == 'dpo' else rows_of}" in ran.err


def test_the_stage_decides_what_is_an_error(datakit, write_rows):
    write_rows("in.jsonl", BAD)
    assert [datakit("validate", "in.jsonl", "--stage", stage).code for stage in ("sft", "pt")] == [1, 0]


def test_an_unknown_stage_or_format_or_code_gets_the_nearest_name(datakit, write_rows):
    write_rows("in.jsonl", GOOD)
    assert 'Did you mean "sft"?' in datakit("validate", "in.jsonl", "--stage", "sftt").err
    assert 'Did you mean "sharegpt"?' in datakit("validate", "in.jsonl", "--format", "sharegtp").err
    ran = datakit("validate", "in.jsonl", "--deny", "SG01")
    assert (ran.code, '"SG01' in ran.err) == (2, True)


def test_deny_warn_and_allow_set_what_a_fault_is(datakit, write_rows):
    write_rows("in.jsonl", GOOD | {"output": "{{name}}"}, GOOD, BAD)
    for arguments, code, expected in [
        ([], 1, {"AL004": "error", "PL001": "warning"}),
        (["--deny", "PL001"], 1, {"AL004": "error", "PL001": "error"}),
        (["--deny", "pl*,RD", "--allow", "AL004"], 1, {"PL001": "error"}),
        (["--warn", "AL", "--allow", "PL"], 0, {"AL004": "warning"}),
        (["--deny", "AL", "--warn", "AL004"], 0, {"AL004": "warning", "PL001": "warning"}),
    ]:
        ran = datakit("validate", "in.jsonl", "--json", *arguments)
        assert (ran.code, {f["code"]: f["level"] for f in ran.json["faults"]}) == (code, expected)


def test_what_cannot_be_read_cannot_be_let_pass(datakit, tmp_path):
    (tmp_path / "in.jsonl").write_text(f"{json.dumps(GOOD)}\n{{\n")
    assert datakit("validate", "in.jsonl", "--allow", "RD").code == 1
    assert datakit("validate", "in.jsonl", "--allow", "RD001").code == 2


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", "RD001"), (b'{"instruction":"q","output":"\\ud800"}', "RD001"), (b'{"a":"\xff"}', "RD003"), (b"[1]", "RD004"),
        (b'{"output":' + b"[" * 2000 + b"]" * 2000 + b"}", "RD005"), (b'{"instruction":"q","output":"a","a":1,"a":2}', "RD006"),
        (b'\xef\xbb\xbf{"instruction":"q","output":"a"}', "RD010"), (b'{"instruction":"q","output":"a","n":1e999}', "RD001"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_row_has_its_code(datakit, tmp_path, line, code):
    (tmp_path / "in.jsonl").write_bytes(json.dumps(GOOD).encode() + b"\n" + line + b"\n")
    found = datakit("validate", "in.jsonl", "--json")
    assert (found.code, codes(found), found.json["rows_out"]) == (1, {code: 1}, 1)


def test_a_file_that_ends_in_the_middle_of_a_row_is_told_so(datakit, tmp_path):
    (tmp_path / "in.jsonl").write_text(f'{json.dumps(GOOD)}\n{{"instruction": "q", "outp')
    assert codes(datakit("validate", "in.jsonl", "--json")) == {"RD002": 1}


def test_marks_and_line_ends_are_told_once_a_file_and_held_against_no_row(datakit, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + (json.dumps(GOOD).encode() + b"\r\n") * 3)
    found = datakit("validate", "in.jsonl", "--json")
    assert (found.code, codes(found), found.json["rows_with_warnings"]) == (0, {"RD008": 1, "RD009": 1}, 0)
    assert datakit("validate", "in.jsonl", "--deny", "RD009").code == 1


def test_ids_that_come_again_are_told_with_the_row_that_had_them_first(datakit, write_rows):
    write_rows("a.jsonl", *(GOOD | {"id": name} for name in (5, "x", 6)))
    write_rows("b.jsonl", *(GOOD | {"_id": name} for name in ("y", "x", None, None, 5)))
    found = datakit("validate", "a.jsonl", "b.jsonl", "--json", "--clean", "out.jsonl")
    (fault,) = found.json["faults"]
    assert (fault["code"], fault["count"], fault["row"], fault["pointer"]) == ("RD007", 2, 2, "/_id")
    assert fault["reason"] == "a.jsonl, row 2 has the same id"
    denied = datakit("validate", "a.jsonl", "b.jsonl", "--deny", "RD007", "--json", "--clean", "out.jsonl")
    assert (denied.code, denied.json["rows_out"]) == (1, 6)


def test_secrets_and_personal_data_are_counted_and_located_and_never_shown(datakit, write_rows, tmp_path):
    key = "AKIA" + "Q3EGRIZ7T2WXKP5M"
    write_rows("in.jsonl", GOOD | {"output": f"Use {key} or mail jane.roe@corp-mail.net"}, BAD)
    ran = datakit("validate", "in.jsonl", "--json", "--html", "page.html", "--rejects", "r.jsonl", "--clean", "c.jsonl")
    assert codes(ran) == {"AL004": 1, "SC001": 1, "PD001": 1}
    table = datakit("validate", "in.jsonl").out
    told = (
        ran.out,
        table,
        *((tmp_path / name).read_text() for name in ("page.html", "r.jsonl", "c.jsonl.manifest.json")),
    )
    assert [name for text in told for name in (key, "jane.roe") if name in text] == []
    assert [f["span"] for f in ran.json["faults"]] == [None, [33, 55], [4, 24]]


def test_without_text_rules_only_the_structure_counts(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", GOOD | {"output": "{{name}}"})
    found = datakit("validate", "in.jsonl", "--no-text", "--json")
    assert (found.json["faults"], found.json["text_rules"]) == ([], False)
    assert "structure rules only" in datakit("validate", "in.jsonl", "--no-text").out
    (tmp_path / "in.json").write_text('[{"instruction":"q","output":"\\ud83d"}]')
    assert codes(datakit("validate", "in.json", "--no-text", "--json")) == {"CH003": 1}


def test_the_page_holds_the_report_and_has_a_manifest(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", GOOD, BAD)
    ran = datakit("validate", "in.jsonl", "--html", "page.html", "--json")
    assert ran.json["outputs"] == ["page.html"]
    assert "AL004" in (tmp_path / "page.html").read_text()
    manifest = json.loads((tmp_path / "page.html.manifest.json").read_text())
    assert (manifest["rows_in"], manifest["outputs"][0]["file"], len(manifest["inputs"][0]["sha256"])) == (
        2,
        "page.html",
        64,
    )


@pytest.mark.parametrize(("arguments", "told"), [
    (["--fix"], "--clean FILE"), (["--fix-text"], "--clean FILE"), (["--fix-text", "--no-text", "--clean", "c.jsonl"], "--no-text"),
    (["--clean", "-"], "need a file"), (["--html", "page.pdf"], "Known endings"), (["--deny", "SC", "--allow", "SC"], "Keep one"),
])  # fmt: skip
def test_options_that_cannot_go_together_are_refused(datakit, write_rows, tmp_path, arguments, told):
    write_rows("in.jsonl", GOOD)
    ran = datakit("validate", "in.jsonl", *arguments)
    assert (ran.code, told in ran.err, [p.name for p in tmp_path.iterdir()]) == (2, True, ["in.jsonl"])


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_named_format_has_a_good_row(write_rows, name):
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    row = {
        "alpaca": GOOD, "text": ROWS_OF["pt"], "preference": ROWS_OF["dpo"], "kto": ROWS_OF["kto"],
        "sharegpt": {"conversations": turns},
        "openai": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    }[name]  # fmt: skip
    assert validate_rows([write_rows("in.jsonl", row)], format_name=name).exit_code == 0


def _report(outcome) -> tuple:
    """What does not depend on how the rows lay in a file."""
    told = [{k: v for k, v in f.items() if k not in ("file", "offset")} for f in outcome.details["faults"]]
    faults = [fault | {"reason": fault["reason"].rpartition(", row ")[2]} for fault in told]
    return outcome.rows_in, outcome.rows_out, outcome.rejected, outcome.details["rows_with_warnings"], faults


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=8)
@given(data=st.data())
def test_rows_are_judged_alike_however_they_lie_and_are_cut(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("rows")
    first = data.draw(FORMATS[name][1])
    rows = [first, *data.draw(st.lists(changed(name), max_size=8))]
    rows = [row for row in rows if "\\ud800" not in json.dumps(row)]  # which JSON lines cannot hold
    lines = [json.dumps(row) for row in rows]
    (folder / "a.jsonl").write_text("\n".join(lines))
    (folder / "b.json.gz").write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    (folder / "c.json").write_text(f"[{','.join(lines)}]")
    reports = []
    for file in ("a.jsonl", "b.json.gz", "c.json"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "BLOCK_SIZE", data.draw(st.sampled_from([1, 200, 1 << 20])))
            outcome = validate_rows([folder / file], format_name="auto" if " " in name else name, text=False)
        reports.append(_report(outcome))
        assert outcome.rows_in == len(rows) == outcome.rows_out + outcome.num_rejected
    assert reports[0] == reports[1] == reports[2]


def test_parquet_and_csv_are_judged_by_the_same_rules(datakit, tmp_path):
    table = pa.table({"instruction": ["q", None, "q"], "output": ["a", "", None], "kto_tag": [True, None, False]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert codes(datakit("validate", "a.parquet", "--json")) == {"AL001": 1, "AL003": 1, "KT001": 1, "KT004": 1}
    (tmp_path / "a.csv").write_text("instruction,output,kto_tag\nq,a,True\nq,a,maybe\n")
    found = datakit("validate", "a.csv", "--format", "kto", "--json")
    assert codes(found) == {"KT002": 1, "KT003": 1}


def test_every_row_is_counted_once_and_its_faults_by_code_and_file(datakit, write_rows):
    write_rows("a.jsonl", GOOD, BAD, GOOD | {"output": "{{name}} {{name}}"})
    write_rows("b.jsonl", BAD, BAD | {"instruction": ""})
    found = datakit("validate", "a.jsonl", "b.jsonl", "--json").json
    assert [(f["code"], f["count"], f["rows"]) for f in found["faults"]] == [
        ("AL004", 3, 3),
        ("AL003", 1, 1),
        ("PL001", 2, 1),
    ]
    assert [(f["rows"], f["warned"], f["rejected"]) for f in found["files"]] == [(3, 1, 1), (2, 0, 2)]
    assert Counter(found["rejected"]).total() == 3


def test_clean_rows_of_any_container_can_go_to_any_other(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", GOOD, BAD, GOOD | {"output": "b"})
    for name in ("out.parquet", "out.csv", "out.json", "out.jsonl.gz"):
        assert datakit("validate", "in.jsonl", "--clean", name).code == 1
        assert datakit("validate", name, "--json").json["rows_out"] == 2
    assert Path(tmp_path / "out.csv").read_text() == "instruction,input,output\nHow long?,,Two days.\nHow long?,,b\n"


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (
            {
                "conversations": [
                    {"from": "system", "value": "a"},
                    {"from": "system", "value": "b"},
                    None,
                    {"from": "gpt", "value": "x"},
                ]
            },
            "SG011",
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "a"},
                    {"role": "system", "content": "b"},
                    {"role": "system", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "x"},
                ]
            },
            "OA011",
        ),
    ],
)
def test_a_row_that_mending_does_not_save_is_rejected_and_stops_nothing(datakit, write_rows, read_rows_back, row, code):
    good = CHATS["sharegpt" if "conversations" in row else "openai"]
    write_rows("in.jsonl", good, row)
    ran = datakit("validate", "in.jsonl", "--fix", "--clean", "clean.jsonl", "--json")
    assert ran.code == 1
    assert code in codes(ran)
    assert read_rows_back("clean.jsonl") == [good]


@pytest.mark.parametrize("flags", [(), ("--no-text",)])
def test_no_example_of_any_fault_shows_personal_data(datakit, tmp_path, flags):
    lines = [
        json.dumps(GOOD | {"output": "Dear {{name}}, ask bob.smith@company.org"}),
        json.dumps(
            {"instruction": "q", "chosen": "mail bob.smith@company.org", "rejected": "mail bob.smith@company.org"}
        ),
        '{"instruction": "bob.smith@company.org", ',
        json.dumps(GOOD | {"output": ["bob.smith@company.org"]}),
    ]
    for number, line in enumerate(lines):
        (tmp_path / "in.jsonl").write_text(line + "\n" + json.dumps(GOOD))
        ran = datakit("validate", "in.jsonl", "--json", "--html", f"{number}.html", *flags)
        assert "bob" not in ran.out + (tmp_path / f"{number}.html").read_text()


def test_a_mend_that_changes_nothing_is_none(datakit, write_rows, read_rows_back):
    pytest.importorskip("ftfy")
    row = GOOD | {"instruction": "size Ã… word"}  # ftfy leaves it as it is
    write_rows("in.jsonl", row)
    found = datakit("validate", "in.jsonl", "--fix-text", "--clean", "clean.jsonl", "--json").json
    (fault,) = found["faults"]
    assert (fault["code"], fault["count"], fault["mended"], found["rows_mended"]) == ("CH004", 1, 0, 0)
    assert read_rows_back("clean.jsonl") == [row]


@pytest.mark.parametrize("name", ["in.jsonl", "in.json"])
def test_what_was_learnt_of_tool_results_lets_none_pass_unasked(datakit, write_rows, name):
    good = CHATS["openai"]
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ask, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}
    result = {"role": "tool", "tool_call_id": "x", "content": "r"}
    called = {"messages": [ask, {"role": "assistant", "tool_calls": [call]}, result, answer]}
    unasked = {"messages": [ask, answer, result, answer]}
    write_rows(name, called, *[good] * 1500, *[unasked] * 3)
    assert codes(datakit("validate", name, "--json"))["TL010"] == 3


@pytest.mark.parametrize("name", ["in.jsonl", "in.json"])
@pytest.mark.parametrize("images", [[], None])
def test_a_placeholder_without_a_picture_is_told(datakit, write_rows, name, images):
    asked = {"instruction": "<image> What is it?", "output": "A cat."}
    write_rows(name, asked | {"images": ["a.png"]}, asked | {"images": images}, GOOD | {"images": images})
    found = datakit("validate", name, "--json")
    (fault,) = [fault for fault in found.json["faults"] if fault["code"] == "MM001"]
    assert (fault["count"], fault["row"], fault["reason"]) == (1, 2, "0 images and 1 <image> in the texts")
