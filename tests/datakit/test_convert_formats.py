"""Every format into every other: the literal rows, the refusals, and what is told to be lost on the way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.convert import convert_rows
from datakit.layout import resolve_layout
from datakit.recast import recasting
from registry.errors import UsageError
from registry.rows import Row


def said(role_key, text_key, *turns):
    return [{role_key: role, text_key: text} for role, text in turns]


def human(*turns):
    return said("from", "value", *turns)


def user(*turns):
    return said("role", "content", *turns)


QUESTION, GOOD, BAD = "How long?", "Two days.", "Dunno."
ASKED_H, GOOD_H, BAD_H = human(("human", QUESTION)), *human(("gpt", GOOD), ("gpt", BAD))
ASKED_U, GOOD_U, BAD_U = user(("user", QUESTION)), *user(("assistant", GOOD), ("assistant", BAD))
SYSTEM_U = user(("system", "Be brief."))

CHAT = {
    "alpaca": {"instruction": QUESTION, "input": "", "output": GOOD, "system": "Be brief."},
    "sharegpt": {"conversations": [*ASKED_H, GOOD_H], "system": "Be brief."},
    "openai": {"messages": [*SYSTEM_U, *ASKED_U, GOOD_U]},
}
PAIR = {
    "alpaca": {"instruction": QUESTION, "input": "", "chosen": GOOD, "rejected": BAD, "system": "Be brief."},
    "sharegpt": {"conversations": ASKED_H, "chosen": GOOD_H, "rejected": BAD_H, "system": "Be brief."},
    "openai": {"messages": [*SYSTEM_U, *ASKED_U], "chosen": GOOD_U, "rejected": BAD_U},
}
LIKED = {
    "alpaca": {"instruction": QUESTION, "input": "", "output": GOOD, "system": "Be brief.", "kto_tag": True},
    "sharegpt": {"conversations": [*ASKED_H, GOOD_H], "system": "Be brief.", "kto_tag": True},
    "openai": {"messages": [*SYSTEM_U, *ASKED_U, GOOD_U], "kto_tag": True},
}
DISLIKED = {
    "alpaca": {**LIKED["alpaca"], "output": BAD, "kto_tag": False},
    "sharegpt": {**LIKED["sharegpt"], "conversations": [*ASKED_H, BAD_H], "kto_tag": False},
    "openai": {"messages": [*SYSTEM_U, *ASKED_U, BAD_U], "kto_tag": False},
}
TEXT = {"text": f"Be brief.\n\n{QUESTION}\n\n{GOOD}"}
TRL_PAIR = {"chosen": [*SYSTEM_U, *ASKED_U, GOOD_U], "rejected": [*SYSTEM_U, *ASKED_U, BAD_U]}
TRL_LIKED = {"prompt": [*SYSTEM_U, *ASKED_U], "completion": [GOOD_U], "label": True}
ANSWERED = "have one answer"
UNJUDGED = "nothing in these rows says whether the answer is good"
UNPAIRED = "judge one answer each"
SHAPES = ("alpaca", "sharegpt", "openai")
CHATS = SHAPES

# (source, shape or spelling, its row, target, the rows it makes or why it is refused)
WAYS: list[tuple[str, str, dict, str, list[dict] | str]] = [
    *(("chat", s, CHAT[s], t, [CHAT[t]]) for s in SHAPES for t in CHATS),
    *(("chat", s, CHAT[s], "preference", ANSWERED) for s in SHAPES),
    *(("chat", s, CHAT[s], "kto", UNJUDGED) for s in SHAPES),
    *(("chat", s, CHAT[s], "text", [TEXT]) for s in SHAPES),
    *(("preference", s, PAIR[s], t, [CHAT[t]]) for s in SHAPES for t in CHATS),
    *(("preference", s, PAIR[s], "preference", [PAIR[s]]) for s in SHAPES),
    *(("preference", s, PAIR[s], "kto", [LIKED[s], DISLIKED[s]]) for s in SHAPES),
    *(("preference", s, PAIR[s], "text", [TEXT]) for s in SHAPES),
    *(("kto", s, LIKED[s], t, [CHAT[t]]) for s in SHAPES for t in CHATS),
    *(("kto", s, LIKED[s], "preference", UNPAIRED) for s in SHAPES),
    *(("kto", s, LIKED[s], "kto", [LIKED[s]]) for s in SHAPES),
    *(("kto", s, DISLIKED[s], "kto", [DISLIKED[s]]) for s in SHAPES),
    *(("kto", s, LIKED[s], "text", [TEXT]) for s in SHAPES),
    *(("text", "text", TEXT, t, "plain text") for t in (*CHATS, "preference", "kto")),
    ("text", "text", TEXT, "text", [TEXT]),
    *(("preference", "trl", TRL_PAIR, t, [CHAT[t]]) for t in CHATS),
    ("preference", "trl", TRL_PAIR, "preference", [PAIR["openai"]]),
    ("preference", "trl", TRL_PAIR, "kto", [LIKED["openai"], DISLIKED["openai"]]),
    ("preference", "trl", TRL_PAIR, "text", [TEXT]),
    *(("kto", "trl", TRL_LIKED, t, [CHAT[t]]) for t in CHATS),
    ("kto", "trl", TRL_LIKED, "preference", UNPAIRED),
    ("kto", "trl", TRL_LIKED, "kto", [LIKED["openai"]]),
    ("kto", "trl", TRL_LIKED, "text", [TEXT]),
]


@pytest.mark.parametrize(
    ("row", "target", "made"), [w[2:] for w in WAYS], ids=[f"{w[0]} as {w[1]} to {w[3]}" for w in WAYS]
)
def test_each_format_becomes_each_other_or_is_refused(write_rows, read_rows_back, tmp_path, row, target, made):
    source = write_rows("in.jsonl", row)
    if isinstance(made, str):
        with pytest.raises(UsageError, match=made):
            convert_rows([source], tmp_path / "out.jsonl", to_format=target)
        assert not (tmp_path / "out.jsonl").exists()
        return
    outcome = convert_rows([source], tmp_path / "out.jsonl", to_format=target)
    assert read_rows_back("out.jsonl") == made
    assert (outcome.rows_in, outcome.rows_out, outcome.rows_added) == (1, len(made), len(made) - 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("source", SHAPES)
def test_preference_and_kto_rows_take_the_shape_that_is_asked_for(write_rows, read_rows_back, tmp_path, source, shape):
    for target, spelled in (("preference", PAIR), ("kto", LIKED)):
        convert_rows([write_rows("in.jsonl", spelled[source])], tmp_path / "out.jsonl", to_format=target, shape=shape)
        assert read_rows_back("out.jsonl") == [spelled[shape]]


def test_a_shape_is_refused_where_there_is_no_choice(datakit, write_rows):
    write_rows("in.jsonl", CHAT["alpaca"])
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "sharegpt", "--shape", "openai")
    assert ran.code == 2
    assert "only preference and kto rows come in several shapes" in ran.err
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "kto", "--shape", "sharegtp")
    assert 'unknown shape "sharegtp"\n  Did you mean "sharegpt"?' in ran.err


def test_pairs_become_twice_the_rows_and_the_books_say_so(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", *[PAIR["alpaca"]] * 3, {"instruction": "a", "chosen": "b"})
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "kto")
    assert "4 rows in, 6 out, 1 rejected, 3 added" in ran.err
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    counts = {key: manifest[key] for key in ("rows_in", "rows_out", "rows_added", "filtered", "rejected")}
    assert counts == {
        "rows_in": 4, "rows_out": 6, "rows_added": 3, "filtered": {}, "rejected": {"rejected: the field is missing": 1}
    }  # fmt: skip


def test_answers_judged_bad_are_rejected_by_the_name_of_their_own_column(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", *({"prompt": "a", "completion": "b", "label": tag} for tag in (True, False)))
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "alpaca")
    assert read_rows_back("out.jsonl") == [{"instruction": "a", "input": "", "output": "b"}]
    (reject,) = read_rows_back("out.jsonl.rejects.jsonl")
    assert (reject["field"], reject["row"]) == ("label", 2)


@pytest.mark.parametrize(
    ("row", "target", "left_out"),
    [
        (PAIR["alpaca"], "sharegpt", {"rejected": 1}),
        (PAIR["alpaca"] | {"source": "web", "note": None}, "kto", {"source": 1}),
        (LIKED["sharegpt"], "openai", {"kto_tag": 1}),
        (CHAT["sharegpt"] | {"tools": "[]"}, "text", {"tools": 1, "roles (who says what)": 1}),
        (TRL_PAIR | {"score_chosen": 5.0, "messages": TRL_PAIR["chosen"]}, "preference", {"score_chosen": 1, "messages": 1}),
        (
            {"messages": [*ASKED_U, {"role": "assistant", "content": "I look.", "name": "bot", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}]},
            "sharegpt",
            {"messages[].name": 1, "messages[].content beside tool_calls": 1, "messages[].tool_calls[].id": 1},
        ),
        (PAIR["sharegpt"] | {"chosen": {**GOOD_H, "score": 1}}, "preference", {"chosen.score": 1}),
    ],
    ids=["the other answer", "columns that hold something", "the judgement", "roles and tools", "trl", "in messages", "in answers"],
)  # fmt: skip
def test_what_is_lost_is_counted_by_name(write_rows, tmp_path, row, target, left_out):
    outcome = convert_rows([write_rows("in.jsonl", row)], tmp_path / "out.jsonl", to_format=target)
    assert outcome.details["left_out"] == left_out


def test_who_loses_the_other_answer_is_told_how_to_keep_it(datakit, write_rows):
    write_rows("in.jsonl", PAIR["alpaca"])
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "openai")
    assert "rejected ×1 (--to preference --shape openai keeps both answers)" in ran.err


def test_calls_in_answers_and_prompts_of_pairs_are_read(write_rows, read_rows_back, tmp_path):
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}
    row = {"messages": [*ASKED_U, call, *user(("tool", "2"))], "chosen": GOOD_U, "rejected": call}
    convert_rows([write_rows("in.jsonl", row)], tmp_path / "out.jsonl", to_format="preference", shape="sharegpt")
    spelled = {"from": "function_call", "value": '{"name":"f","arguments":{"x":1}}'}
    assert read_rows_back("out.jsonl") == [
        {"conversations": [*ASKED_H, spelled, *human(("observation", "2"))], "chosen": GOOD_H, "rejected": spelled}
    ]


def test_rows_of_side_by_side_columns_have_no_place_for_calls(datakit, write_rows):
    turns = human(("human", "a"), ("function_call", "{}"), ("observation", "1"), ("gpt", "b"))
    write_rows("in.jsonl", {"conversations": turns, "kto_tag": True})
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "kto", "--shape", "alpaca", "--json")
    assert ran.json["rejected"] == {"conversations: alpaca has no place for a function turn": 1}


def test_instruction_and_input_stay_apart_in_pairs_and_judgements(write_rows, read_rows_back, tmp_path):
    row = {"instruction": "Translate.", "input": "Hund", "chosen": "dog", "rejected": "cat"}
    convert_rows([write_rows("in.jsonl", row)], tmp_path / "out.jsonl", to_format="kto")
    assert read_rows_back("out.jsonl") == [
        {"instruction": "Translate.", "input": "Hund", "output": "dog", "kto_tag": True},
        {"instruction": "Translate.", "input": "Hund", "output": "cat", "kto_tag": False},
    ]


@pytest.mark.parametrize("target", ["sharegpt", "openai", "preference", "kto", "text"])
def test_dotted_names_with_list_indexes_play_parts_in_every_format(write_rows, read_rows_back, tmp_path, target):
    row = {"data": {"qs": [{"q": QUESTION}], "as": [{"a": GOOD}, {"a": BAD}], "ok": [True]}}
    mapping = {"instruction": "data.qs.0.q", "output": "data.as.0.a"}
    if target == "preference":
        mapping = {"instruction": "data.qs.0.q", "chosen": "data.as.0.a", "rejected": "data.as.-1.a"}
    if target == "kto":
        mapping["kto_tag"] = "data.ok.0"
    convert_rows([write_rows("in.jsonl", row)], tmp_path / "out.jsonl", to_format=target, mapping=mapping)
    expected = {
        "sharegpt": {"conversations": [*ASKED_H, GOOD_H]},
        "openai": {"messages": [*ASKED_U, GOOD_U]},
        "preference": {"instruction": QUESTION, "input": "", "chosen": GOOD, "rejected": BAD},
        "kto": {"instruction": QUESTION, "input": "", "output": GOOD, "kto_tag": True},
        "text": {"text": f"{QUESTION}\n\n{GOOD}"},
    }
    assert read_rows_back("out.jsonl") == [expected[target]]


def test_messages_and_texts_are_reached_by_dotted_names_too(write_rows, read_rows_back, tmp_path):
    row = {"payload": [{"chat": [*ASKED_U, GOOD_U], "raw": "Hi."}]}
    source = write_rows("in.jsonl", row)
    convert_rows([source], tmp_path / "a.jsonl", to_format="sharegpt", mapping={"messages": "payload.0.chat"})
    convert_rows([source], tmp_path / "b.jsonl", to_format="text", mapping={"text": "payload.0.raw"})
    convert_rows([source], tmp_path / "c.jsonl", mapping={"first": "payload.0.chat.0.content"})
    assert read_rows_back("a.jsonl") == [{"conversations": [*ASKED_H, GOOD_H]}]
    assert read_rows_back("b.jsonl") == [{"text": "Hi."}]
    assert read_rows_back("c.jsonl") == [row | {"first": QUESTION}]


def recast_row(row, target, shape="auto"):
    layout = resolve_layout("auto", {}, [Row("a.jsonl", 1, row)])
    assert layout is not None
    (made,) = recasting(layout, target, shape, {}, {}).make(Row("a.jsonl", 1, row))
    return made


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_alpaca = st.fixed_dictionaries(
    {"instruction": _texts, "input": st.just(""), "output": _texts},
    optional={
        "system": _texts.filter(bool),
        "history": st.lists(st.lists(_texts, min_size=2, max_size=2), min_size=1, max_size=2),
    },
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_texts, inner, max_size=2),
    max_leaves=4,
)
_arguments = st.dictionaries(_texts, _json, max_size=2)
_call = st.tuples(_texts, _arguments).map(lambda pair: {"name": pair[0], "arguments": pair[1]})
_calls = _call | st.lists(_call, min_size=2, max_size=3)


def _compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@given(_alpaca)
def test_alpaca_rows_survive_the_way_through_all_chats_and_back(row):
    way = recast_row(recast_row(recast_row(recast_row(row, "sharegpt"), "openai"), "sharegpt"), "alpaca")
    assert way == row


@given(_alpaca.flatmap(lambda row: st.fixed_dictionaries({"row": st.just(row), "rejected": _texts})))
def test_pairs_survive_the_way_through_all_shapes_and_back(pair):
    row = {**pair["row"], "chosen": pair["row"]["output"], "rejected": pair["rejected"]}
    del row["output"]
    way = recast_row(
        recast_row(recast_row(row, "preference", "sharegpt"), "preference", "openai"), "preference", "alpaca"
    )
    assert way == row


@given(_texts, _calls, st.lists(_texts, min_size=3, max_size=3), _texts)
def test_tool_calls_survive_the_way_from_sharegpt_to_openai_and_back(question, calls, results, answer):
    observation = _compact(results[: len(calls)]) if isinstance(calls, list) else results[0]
    turns = human(
        ("human", question), ("function_call", _compact(calls)), ("observation", observation), ("gpt", answer)
    )  # fmt: skip
    row = {"conversations": turns, "tools": '[{"name":"f"}]'}
    assert recast_row(recast_row(row, "openai"), "sharegpt") == row
