"""datakit convert: rows of any container and format into another, every row accounted for."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.convert import convert_rows
from registry.formats import LAYOUTS, READERS, WRITERS, detect
from registry.records import ChatRecord, Message

TICKETS = [
    {"id": 1, "question": "How long?", "answer": "Two days.", "at": "2025-01-08"},
    {"id": 2, "question": "Is it white?", "answer": None, "at": "2025-01-09"},
    {"id": 3, "question": "It rattles.", "answer": "Send it back.", "at": "2025-01-10"},
]


def test_keep_writes_every_row_as_it_is(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", *TICKETS)
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--json")
    assert ran.code == 0
    assert read_rows_back("out.jsonl") == TICKETS
    assert (ran.json["rows_in"], ran.json["rows_out"], ran.json["rejected"]) == (3, 3, {})


def test_keep_renames_columns_in_place_and_leaves_the_others(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", TICKETS[0])
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--map", "instruction=question", "--map", "output=answer")
    assert list(read_rows_back("out.jsonl")[0].items()) == [
        ("id", 1), ("instruction", "How long?"), ("output", "Two days."), ("at", "2025-01-08")
    ]  # fmt: skip


def test_keep_copies_what_a_dotted_name_reaches_and_leaves_the_object(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", {"payload": {"ask": {"text": "Hi"}, "n": 1}})
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--map", "instruction=payload.ask.text")
    assert read_rows_back("out.jsonl") == [{"payload": {"ask": {"text": "Hi"}, "n": 1}, "instruction": "Hi"}]


def test_keep_can_swap_two_names(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", {"a": 1, "b": 2})
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--map", "a=b", "--map", "b=a")
    assert read_rows_back("out.jsonl") == [{"b": 1, "a": 2}]


def test_keep_refuses_a_new_name_that_another_column_has(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", {"a": 1, "b": 2})
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--map", "a=b")
    assert ran.code == 2
    assert '"a" is there already' in ran.err
    assert not (tmp_path / "out.jsonl").exists()


def test_mapped_columns_become_alpaca_and_the_rest_is_named_as_left_out(datakit, write_rows, read_rows_back, tmp_path):
    write_rows("in.jsonl", *TICKETS)
    ran = datakit(
        "convert",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--to",
        "alpaca",
        "--map",
        "instruction=question",
        "--map",
        "output=answer",
    )
    assert read_rows_back("out.jsonl") == [
        {"instruction": "How long?", "input": "", "output": "Two days."},
        {"instruction": "It rattles.", "input": "", "output": "Send it back."},
    ]
    assert ran.err.count("left out") == 1
    assert "id ×2, at ×2" in ran.err
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert manifest["details"]["left_out"] == {"id": 2, "at": 2}
    assert (manifest["rows_in"], manifest["rows_out"]) == (3, 2)
    assert manifest["rejected"] == {"answer: text belongs here, not null": 1}


@pytest.mark.parametrize(
    "parts", [("instruction", "output"), ("prompt", "response")], ids=["our names", "LLaMA-Factory's column keys"]
)
def test_parts_go_by_either_name(datakit, write_rows, read_rows_back, parts):
    write_rows("in.jsonl", TICKETS[0])
    datakit(
        "convert",
        "in.jsonl",
        "-o",
        "o.jsonl",
        "--to",
        "openai",
        "--map",
        f"{parts[0]}=question",
        "--map",
        f"{parts[1]}=answer",
    )
    assert read_rows_back("o.jsonl") == [
        {"messages": [{"role": "user", "content": "How long?"}, {"role": "assistant", "content": "Two days."}]}
    ]


def test_a_dotted_name_plays_a_part(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", {"q": {"text": "Hi", "lang": "en"}, "a": "Yo"})
    ran = datakit(
        "convert", "in.jsonl", "-o", "o.jsonl", "--to", "alpaca", "--map", "instruction=q.text", "--map", "output=a"
    )
    assert read_rows_back("o.jsonl") == [{"instruction": "Hi", "input": "", "output": "Yo"}]
    assert "q (all but what is mapped)" in ran.err


def test_system_history_and_tools_come_along_even_where_the_first_row_has_none(datakit, write_rows, read_rows_back):
    write_rows(
        "in.jsonl",
        {"instruction": "a", "output": "b"},
        {"instruction": "c", "output": "d", "system": "Be brief.", "history": [["e", "f"]], "tools": "[]"},
    )
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "sharegpt")
    assert read_rows_back("out.jsonl")[1] == {
        "conversations": [
            {"from": "human", "value": "e"}, {"from": "gpt", "value": "f"},
            {"from": "human", "value": "c"}, {"from": "gpt", "value": "d"},
        ],
        "system": "Be brief.",
        "tools": "[]",
    }  # fmt: skip


def test_alpaca_to_alpaca_keeps_instruction_and_input_apart(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", {"instruction": "Translate.", "input": "Hund", "output": "dog"})
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "alpaca")
    assert read_rows_back("out.jsonl") == [{"instruction": "Translate.", "input": "Hund", "output": "dog"}]


def test_keys_of_messages_without_a_place_are_named(datakit, write_rows):
    turns = [{"from": "human", "value": "a", "mood": 0}, {"from": "gpt", "value": "b"}]
    write_rows("in.jsonl", {"conversations": turns})
    assert datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "openai", "--json").json["left_out"] == {
        "conversations[].mood": 1
    }


def test_weights_of_messages_come_along_and_are_named_where_they_cannot(datakit, write_rows, read_rows_back):
    turns = [{"from": "human", "value": "a", "loss": False}, {"from": "gpt", "value": "b", "loss": False}]
    turns += [{"from": "human", "value": "c"}, {"from": "gpt", "value": "d", "weight": 0.5}]
    write_rows("in.jsonl", {"conversations": turns})
    told = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "openai", "--json").json
    assert told["left_out"] == {}
    assert [m.get("weight") for m in read_rows_back("out.jsonl")[0]["messages"]] == [None, 0, None, 0.5]
    told = datakit("convert", "in.jsonl", "-o", "texts.jsonl", "--to", "text", "--json").json
    assert told["left_out"]["conversations[].loss"] == 2
    assert told["left_out"]["conversations[].weight"] == 1
    told = datakit("convert", "in.jsonl", "-o", "pairs.jsonl", "--to", "alpaca", "--json").json
    assert told["rejected"] == {"conversations: alpaca has no place for a turn's weight": 1}


def test_rejects_hold_file_row_field_reason_and_the_row_itself(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", *TICKETS)
    datakit(
        "convert",
        "in.jsonl",
        "-o",
        "o.jsonl",
        "--to",
        "alpaca",
        "--map",
        "instruction=question",
        "--map",
        "output=answer",
    )
    (reject,) = read_rows_back("o.jsonl.rejects.jsonl")
    assert json.loads(reject.pop("raw")) == TICKETS[1]
    assert reject == {"file": "in.jsonl", "row": 2, "field": "answer", "reason": "text belongs here, not null"}


def test_rejects_of_an_earlier_run_do_not_outlive_it(datakit, write_rows, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{"a": \n')
    write_rows("good.jsonl", {"a": 1})
    datakit("convert", "bad.jsonl", "-o", "out.jsonl")
    assert (tmp_path / "out.jsonl.rejects.jsonl").exists()
    datakit("convert", "good.jsonl", "-o", "out.jsonl")
    assert not (tmp_path / "out.jsonl.rejects.jsonl").exists()


def test_strict_exits_with_1_and_writes_all_the_same(datakit, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"a": 1}\n{"a": \n')
    assert datakit("convert", "in.jsonl", "-o", "out.jsonl").code == 0
    assert datakit("convert", "in.jsonl", "-o", "strict.jsonl", "--strict").code == 1
    assert (tmp_path / "strict.jsonl").read_text() == '{"a":1}\n'


def test_where_no_row_is_left_the_exit_code_says_so(datakit, tmp_path):
    (tmp_path / "in.jsonl").write_text("nothing of this\nis JSON\n")
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl")
    assert ran.code == 1
    assert "no row is left" in ran.err


def test_fill_reaches_nested_texts_and_unfilled_names_are_counted(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", {"output": "I am {{name}} of {{ author }}.", "turns": [{"value": "{{name}}!"}]})
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--fill", "name=Ada")
    assert read_rows_back("out.jsonl") == [{"output": "I am Ada of {{ author }}.", "turns": [{"value": "Ada!"}]}]
    assert "{{author}} ×1" in ran.err


def test_a_filled_in_value_is_not_filled_in_again(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", {"a": "{{x}}"})
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--fill", "x={{y}}", "--fill", "y=no")
    assert read_rows_back("out.jsonl") == [{"a": "{{y}}"}]


def test_limit_counts_rows_read(datakit, write_rows):
    write_rows("in.jsonl", *TICKETS)
    found = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--limit", "2", "--json").json
    assert (found["rows_in"], found["rows_out"]) == (2, 2)


def test_dash_writes_json_lines_to_stdout_and_nothing_else(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", {"a": 1}, {"a": 2})
    ran = datakit("convert", "in.jsonl", "-o", "-")
    assert ran.out == '{"a":1}\n{"a":2}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_json_and_rows_cannot_share_stdout(datakit, write_rows):
    write_rows("in.jsonl", {"a": 1})
    assert datakit("convert", "in.jsonl", "-o", "-", "--json").code == 2


def test_parquet_values_that_json_cannot_hold_follow_the_policy(datakit, read_rows_back, tmp_path):
    import datetime
    from decimal import Decimal

    table = pa.table({
        "price": pa.array([Decimal("1.10")]),
        "at": pa.array([datetime.datetime(2025, 1, 8, 13, tzinfo=datetime.UTC)], pa.timestamp("us", "UTC")),
        "day": pa.array([datetime.date(2025, 1, 8)]),
        "took": pa.array([datetime.timedelta(seconds=1, milliseconds=500)]),
        "raw": pa.array([b"\x00\xff"]),
        "share": pa.array([float("nan")]),
        "labels": pa.array([[("a", 1), ("b", 2)]], pa.map_(pa.string(), pa.int64())),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "in.parquet")
    ran = datakit("convert", "in.parquet", "-o", "out.jsonl")
    assert read_rows_back("out.jsonl") == [{
        "price": "1.10", "at": "2025-01-08T13:00:00+00:00", "day": "2025-01-08", "took": 1.5, "raw": "AP8=",
        "share": None, "labels": {"a": 1, "b": 2},
    }]  # fmt: skip
    assert "warning: NaN and infinite numbers became null: 1" in ran.err


def test_whole_numbers_of_any_size_are_kept(datakit, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"a":123456789012345678901234567890}\n')
    datakit("convert", "in.jsonl", "-o", "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == '{"a":123456789012345678901234567890}\n'


def test_several_sources_pass_in_order_and_the_manifest_counts_each(datakit, write_rows, tmp_path):
    write_rows("b.jsonl", {"n": 1})
    write_rows("a.jsonl", {"n": 2}, {"n": 3})
    datakit("convert", "b.jsonl", "a.jsonl", "-o", "out.csv")
    assert (tmp_path / "out.csv").read_text() == "n\n1\n2\n3\n"
    manifest = json.loads((tmp_path / "out.csv.manifest.json").read_text())
    assert [(i["file"], i["rows"]) for i in manifest["inputs"]] == [("b.jsonl", 1), ("a.jsonl", 2)]


_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
_chats = st.builds(
    ChatRecord,
    messages=st.lists(st.tuples(_texts, _texts), min_size=1, max_size=3).map(
        lambda pairs: tuple(m for q, a in pairs for m in (Message("user", q), Message("assistant", a)))
    ),
    system=st.just("") | _texts,
)


@given(_chats, st.permutations(["alpaca", "sharegpt", "openai"]))
def test_a_conversation_survives_the_way_through_all_formats(record, order):
    for name in order:
        row = WRITERS[name](record)
        layout = detect(row)
        assert layout is not None
        assert layout.formatting == LAYOUTS[name].formatting
        assert READERS[layout.formatting](row, layout) == record


def test_rows_in_are_rows_out_plus_rejected_by_reason(write_rows, tmp_path):
    rows = [{"instruction": "a", "output": value} for value in ("b", None, 3, "c", {"x": 1}, 4)]
    outcome = convert_rows([write_rows("in.jsonl", *rows)], tmp_path / "o.jsonl", to_format="sharegpt")
    assert (outcome.rows_in, outcome.rows_out) == (6, 2)
    assert Counter(outcome.rejected) == {
        "output: text belongs here, not null": 1,
        "output: text belongs here, not a number": 2,
        "output: text belongs here, not an object": 1,
    }
