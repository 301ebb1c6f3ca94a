"""Rows become seeds, and made records rows in the form of their seeds, with what else stood in them."""

from __future__ import annotations

from typing import Any

import pytest

from datakit.augment.answer import Answer
from datakit.augment.rollout import Call, Made, Reply, Seed
from datakit.augment.seeding import Shape, Unreadable, layout_of_seeds, record_of, seeds_of_rows
from registry.errors import RowFault, UsageError
from registry.formats import LAYOUTS
from registry.records import ChatRecord, Message, PreferenceRecord, Record, TextRecord
from registry.rows import BadRow, Row
from tests.conftest import chat

ALPACA = {"id": 7, "instruction": "Q?", "input": "", "output": "A.", "system": "S.", "source": {"page": 3}}
SPLIT = {"id": 7, "instruction": "Q?", "input": "Below.", "output": "A."}
SHAREGPT = {
    "id": 7,
    "conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}],
    "system": "S.",
}
OPENAI = {
    "id": 7,
    "messages": [
        {"role": "system", "content": "S."},
        {"role": "user", "content": "Q?"},
        {"role": "assistant", "content": "A."},
    ],
}


def row(data: dict[str, Any], number: int = 1) -> Row:
    return Row("seeds.jsonl", number, data)


def layout_for(data: dict[str, Any], kind: str = "chat", **mapping: str):
    return layout_of_seeds("auto", mapping, [row(data)], kind)


def records(*rows: Row | BadRow, unanswered: bool = False) -> list[Record | tuple[str, str]]:
    layout = layout_for(next(r.data for r in rows if isinstance(r, Row)))
    found = seeds_of_rows(iter(rows), layout, unanswered=unanswered)
    return [(one.field, one.reason) if isinstance(one, Unreadable) else one[1] for one in found]


def made_row(data: dict[str, Any], record: Record, *, keeps: bool = True, to: str = "", **notes: Any) -> dict[str, Any]:
    """The row made of ``record`` for the seed ``data``, without its origin."""
    layout = layout_for(data)
    shape = Shape(to or layout.formatting, layout, keeps)
    seed = Seed(0, "seeds.jsonl", 1, record_of(data, layout, unanswered=True))
    return shape.row(Made(record, (), (seed,), notes), data, "r/en@1", with_origin=False)


# ---- in ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [ALPACA, SHAREGPT, OPENAI], ids=["alpaca", "sharegpt", "openai"])
def test_rows_of_each_format_are_conversations(data):
    assert records(row(data)) == [chat("Q?", "A.", system="S.")]


def test_an_input_stands_below_its_instruction():
    assert records(row(SPLIT)) == [chat("Q?\nBelow.", "A.")]


def test_a_preference_row_counts_with_its_better_answer():
    assert records(row({"instruction": "Q?", "input": "", "chosen": "A.", "rejected": "B."})) == [chat("Q?", "A.")]


def test_a_row_that_was_judged_bad_is_no_seed():
    good, bad = ({"instruction": "Q?", "output": "A.", "kto_tag": tag} for tag in (True, False))
    assert records(row(good), row(bad)) == [
        chat("Q?", "A."),
        ("kto_tag", "the answer was judged bad, so nothing is made of it"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        {"instruction": "Q?"},
        {"prompt": "Q?"},
        {"instruction": "Q?", "output": None},
        {"conversations": [{"from": "human", "value": "Q?"}]},
        {"messages": [{"role": "user", "content": "Q?"}]},
        {"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": None}]},
    ],
    ids=lambda data: next(iter(data)),
)
def test_rows_that_wait_for_an_answer_have_an_empty_one_where_that_is_asked_for(data):
    assert records(row(data), unanswered=True) == [chat("Q?", "")]


def test_and_are_no_seeds_elsewhere():
    ((field, reason),) = records(row({"messages": [{"role": "user", "content": "Q?"}]}))
    assert (field, bool(reason)) == ("messages", True)


def test_rows_that_cannot_be_read_keep_their_place():
    bad = BadRow("seeds.jsonl", 2, "no JSON", "{")
    assert records(row(ALPACA), bad, row({**ALPACA, "output": 7}, 3)) == [
        chat("Q?", "A.", system="S."),
        ("", "no JSON"),
        ("output", "text belongs here, not a number (7)"),
    ]


def test_half_a_character_is_told_instead_of_sent():
    ((field, reason),) = records(row({"instruction": "Q\ud800?", "output": "A."}))
    assert (field, reason) == ("", "it holds half a character (a lone surrogate), which no request can carry")
    assert records(row({"instruction": "Q?", "output": "A.", "id": "\ud800"})) == [chat("Q?", "A.")]


def test_documents_and_conversations_are_told_apart():
    text = layout_for({"text": "words"}, "text")
    assert record_of({"text": "words"}, text, unanswered=False) == TextRecord("words")
    assert layout_for({"body": "words"}, "text", text="body").kind == "text"
    with pytest.raises(UsageError, match="this recipe takes documents"):
        layout_for(ALPACA, "text")
    with pytest.raises(UsageError, match="this recipe takes questions and answers"):
        layout_for({"text": "words"})


def test_columns_of_other_names_are_mapped():
    data = {"ask": "Q?", "reply": "A."}
    layout = layout_for(data, instruction="ask", output="reply")
    assert record_of(data, layout, unanswered=False) == chat("Q?", "A.")


# ---- out -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [ALPACA, SPLIT, SHAREGPT, OPENAI], ids=["alpaca", "input", "sharegpt", "openai"])
def test_a_seed_that_did_not_change_is_its_row_as_it_was(data):
    assert made_row(data, record_of(data, layout_for(data), unanswered=False)) == data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (ALPACA, {**ALPACA, "output": "New."}),
        (SPLIT, {**SPLIT, "output": "New."}),
        (SHAREGPT, {**SHAREGPT, "conversations": [SHAREGPT["conversations"][0], {"from": "gpt", "value": "New."}]}),
        (OPENAI, {**OPENAI, "messages": [*OPENAI["messages"][:2], {"role": "assistant", "content": "New."}]}),
    ],
    ids=["alpaca", "input kept apart", "sharegpt", "openai"],
)
def test_another_answer_goes_where_the_old_one_was_and_all_else_stays(data, expected):
    seed = record_of(data, layout_for(data), unanswered=False)
    assert isinstance(seed, ChatRecord)
    new = ChatRecord((seed.messages[0], Message("assistant", "New.")), seed.system)
    assert made_row(data, new) == expected


def test_an_answer_goes_into_a_row_that_had_none():
    assert made_row({"prompt": "Q?", "id": 1}, chat("Q?", "New.")) == {"prompt": "Q?", "id": 1, "output": "New."}
    data = {"messages": [{"role": "user", "content": "Q?"}], "id": 1}
    assert made_row(data, chat("Q?", "New.")) == {
        "messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "New."}],
        "id": 1,
    }


def test_a_changed_question_replaces_instruction_and_input():
    assert made_row(SPLIT, chat("Frage?", "Antwort.")) == {
        "id": 7, "instruction": "Frage?", "input": "", "output": "Antwort."
    }  # fmt: skip


def test_columns_that_were_mapped_are_written_under_their_own_names():
    data = {"ask": "Q?", "reply": "A.", "id": 1}
    layout = layout_for(data, instruction="ask", output="reply")
    made = Made(chat("Q?", "New."), (), (Seed(0, "f", 1, chat("Q?", "A.")),))
    assert Shape("alpaca", layout, True).row(made, data, "r", with_origin=False) == {**data, "reply": "New."}


def test_a_pair_of_answers_keeps_the_other_columns_of_its_row():
    pair = PreferenceRecord(chat("Q?").messages, Message("assistant", "A."), Message("assistant", "B."), "S.")
    assert made_row(ALPACA, pair) == {
        "id": 7, "source": {"page": 3}, "instruction": "Q?", "input": "", "chosen": "A.", "rejected": "B.", "system": "S."
    }  # fmt: skip
    got = made_row(OPENAI, pair)
    assert got["id"] == 7
    assert got["chosen"] != got["rejected"]


def test_rows_beside_the_seeds_have_their_format_and_nothing_else_of_them():
    assert made_row(ALPACA, chat("New?", "New."), keeps=False) == {"instruction": "New?", "input": "", "output": "New."}
    assert made_row(SHAREGPT, chat("New?", "New."), keeps=False) == {
        "conversations": [{"from": "human", "value": "New?"}, {"from": "gpt", "value": "New."}]
    }
    assert made_row(OPENAI, chat("New?", "New."), keeps=False) == {
        "messages": [{"role": "user", "content": "New?"}, {"role": "assistant", "content": "New."}]
    }


def test_another_format_may_be_asked_for():
    assert made_row(ALPACA, chat("Q?", "New."), to="openai") == {
        "messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "New."}]
    }


def test_a_record_without_a_place_in_the_format_is_a_fault_of_the_row():
    called = (Message("user", "Q?"), Message("function", "{}"), Message("observation", "5"), Message("assistant", "A."))
    with pytest.raises(RowFault):
        made_row(ALPACA, ChatRecord(called), keeps=False)


# ---- origin --------------------------------------------------------------------------------------------------------


def reply(key: str, finish: str = "stop") -> Reply:
    return Reply(Call(None, {}, "text"), "x", Answer("x", finish, "m-2024"), key)  # type: ignore[arg-type]


def origin(made: Made, *, one_file: bool = True) -> dict[str, Any]:
    return Shape("alpaca", None, False, one_file).origin(made, "expand/en@1")


def test_the_origin_names_seed_recipe_model_and_request():
    seed = Seed(0, "a.jsonl", 7, chat("Q?", "A."))
    assert origin(Made(chat("n", "n"), (reply("k1"),), (seed,))) == {
        "seed_row": 7, "recipe": "expand/en@1", "model": "m-2024", "request": "k1"
    }  # fmt: skip


def test_several_requests_a_cut_answer_notes_and_files_are_told_where_there_are_some():
    seed = Seed(0, "a.jsonl", 7, chat("Q?", "A."))
    notes = {"way": "depth", "reason": "", "score": 0, "none": None}
    assert origin(Made(chat("n", "n"), (reply("k1"), reply("k2", "length")), (seed,), notes), one_file=False) == {
        "seed_row": {"file": "a.jsonl", "row": 7},
        "recipe": "expand/en@1",
        "model": "m-2024",
        "request": "k2",
        "requests": ["k1", "k2"],
        "finish": "length",
        "way": "depth",
        "score": 0,
    }


def test_a_pool_is_told_by_all_its_rows_and_no_seed_by_none():
    pool = tuple(Seed(n, "a.jsonl", n + 1, chat("Q?", "A.")) for n in range(2))
    assert origin(Made(chat("n", "n"), (), pool))["seed_row"] == [1, 2]
    assert origin(Made(chat("n", "n"), (), (Seed(0, "a", 1, None, pool=pool),)))["seed_row"] == [1, 2]
    assert origin(Made(chat("n", "n"), (), (Seed(0, "", 0, None),))) == {
        "seed_row": None, "recipe": "expand/en@1", "model": None, "request": None
    }  # fmt: skip


def test_an_origin_that_a_seed_has_is_not_passed_on_as_the_rows_own():
    data = {**ALPACA, "_origin": {"seed_row": 3}}
    assert "_origin" not in made_row(data, chat("Q?", "New.", system="S."))


def test_a_row_without_any_text_is_nothing_to_ask_about():
    rows = iter([Row("f", 1, {"instruction": " ", "output": ""}), Row("f", 2, {"instruction": "a", "output": ""})])
    found = list(seeds_of_rows(rows, LAYOUTS["alpaca"]))
    assert isinstance(found[0], Unreadable)
    assert not isinstance(found[1], Unreadable)
