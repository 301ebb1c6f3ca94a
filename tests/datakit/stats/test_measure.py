"""Rows of files and registered datasets, measured for a stage; what cannot be trained on is rejected and counted."""

import json
from array import array

import pytest

from datakit.stats.cutoff import Steps
from datakit.stats.summary import summarize
from registry.encode import Encoder, EncodeRules
from registry.errors import DataError, UsageError
from registry.records import TextRecord
from tests.conftest import QWEN2, SHARED, chat, needs_shared, preference
from tests.datakit.stats.conftest import measure, measured

END = 2  # <|im_end|> is one id, and so is the line break after it
QA = {"instruction": "Why?", "output": "Because."}


def test_a_row_without_an_answer_to_train_is_rejected_and_counted():
    found = measured([chat("hi", "yo"), chat("hi", "")], template="empty")
    assert summarize(found)["rejected"] == {"answer: no token of it is there to train": 1}
    assert found.account.examples == ['rows.jsonl, row 2, field "answer": no token of it is there to train']


def test_a_preference_needs_both_answers_and_a_conversation_but_one():
    pairs = [preference("q", chosen="a", rejected=""), preference("q", chosen="", rejected="b"), preference("q", chosen="a", rejected="b")]  # fmt: skip
    assert len(measured(pairs, template="empty", stage="dpo").lengths) == 1
    assert len(measured([chat("q", "", "q", "a"), chat("q", "", "q", "")], template="empty").lengths) == 1


def test_half_a_character_is_rejected_and_the_rows_beside_it_are_not():
    for stage, rows in (
        ("sft", [chat("a", "b"), chat("\udc00", "b")]),
        ("pt", [TextRecord("a"), TextRecord("\udc00")]),
    ):
        found = measured(rows, stage=stage)
        assert len(found.lengths) == 1
        assert "half a character" in found.account.examples[0]


def test_bad_rows_are_rejected_by_reason_and_the_others_measured(tmp_path, model):
    source = tmp_path / "rows.jsonl"
    lines = [json.dumps(QA), '{"instruction": "cut', json.dumps({"instruction": "n", "output": 7}), '{"colour": "red"}', json.dumps(QA)]  # fmt: skip
    source.write_text("\n".join(lines) + "\n")
    summary = summarize(measure([source], model))
    assert (summary["rows_in"], summary["rows"]) == (5, 2)
    assert sum(summary["rejected"].values()) == 3
    assert summary["rejected"]["output: text belongs here, not a number"] == 1
    assert f'{source}, row 4, field "output": the field is missing' in summary["rejected_examples"]


def test_a_registered_dataset_is_measured_by_its_columns(tmp_path, model, write_rows):
    write_rows("faq.jsonl", {"q": "Why?", "a": "Because."})
    info = {"faq": {"file_name": "faq.jsonl", "columns": {"prompt": "q", "response": "a"}}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    by_name = measure([], model, dataset="faq", dataset_dir=tmp_path)
    by_file = measure([write_rows("same.jsonl", QA)], model)
    assert list(by_name.lengths.turns()) == list(by_file.lengths.turns())
    assert [part.name for part in by_name.lengths.parts] == ["faq"]


def test_each_file_is_a_part_of_its_own_with_its_own_rejects(tmp_path, model, write_rows):
    one, two = write_rows("a.jsonl", QA, QA), write_rows("b.jsonl", {**QA, "output": 3}, {**QA, "output": "x" * 99})
    sources = summarize(measure([one, two], model))["sources"]
    assert [(s["source"], s["rows"], s["rejected"]) for s in sources] == [(str(one), 2, 0), (str(two), 1, 1)]
    assert sources[1]["max"] > sources[0]["max"]


def test_a_file_whose_rows_are_all_rejected_is_still_told(model, write_rows):
    bad, good = write_rows("a.jsonl", {**QA, "output": 3}), write_rows("b.jsonl", QA)
    sources = summarize(measure([bad, good], model))["sources"]
    assert [(s["source"], s["rows"], s["rejected"]) for s in sources] == [(str(good), 1, 0), (str(bad), 0, 1)]
    assert sources[0].keys() == sources[1].keys()


def test_many_small_files_are_measured_in_few_batches_and_keep_their_names(tmp_path, model):
    paths = [tmp_path / f"{n:03}.csv" for n in range(40)]
    for n, path in enumerate(paths):
        path.write_text("instruction,output\n" + "q,a\n" * (n + 1))
    sources = summarize(measure(paths, model))["sources"]
    assert [s["rows"] for s in sources] == list(range(1, 41))


@pytest.mark.parametrize("container", ["jsonl", "json", "csv"])
def test_the_container_does_not_matter(tmp_path, model, container):
    path = tmp_path / f"rows.{container}"
    rows = [{"instruction": f"q{n}", "output": "a" * n} for n in range(1, 4)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    table = "instruction,output\n" + "".join(f"{row['instruction']},{row['output']}\n" for row in rows)
    path.write_text({"jsonl": lines, "json": json.dumps(rows), "csv": table}[container])
    found = measure([path], model)
    assert found.lengths.targets == array("i", [n + END for n in range(1, 4)])


def test_rows_with_conversations_in_chosen_and_rejected_are_measured_for_dpo(model, write_rows):
    say = lambda *texts: [{"role": r, "content": t} for r, t in zip(("user", "assistant"), texts, strict=True)]  # noqa: E731
    source = write_rows("p.jsonl", {"chosen": say("hi", "good"), "rejected": say("hi", "bad!")})
    assert summarize(measure([source], model, stage="dpo"))["sides"]["chosen"]["max"] == 4 + END


def test_rows_of_another_kind_are_refused_as_a_whole_and_the_right_stage_named(model, write_rows):
    source = write_rows("p.jsonl", {"instruction": "a", "chosen": "b", "rejected": "c"})
    with pytest.raises(UsageError, match=r"these are preference rows \(.*\), and stage sft learns from") as caught:
        measure([source], model)
    assert "--stage rm or dpo" in str(caught.value)


def test_unknown_columns_are_refused_with_the_nearest_mapping(model, write_rows):
    source = write_rows("p.jsonl", *[{"question": "a", "answer": "b"}] * 200)
    with pytest.raises(UsageError, match="question, answer") as caught:
        measure([source], model)
    assert "--map instruction=question --map output=answer" in str(caught.value)


def test_plain_text_is_measured_for_pt_without_any_chat_template(tmp_path, model):
    source = tmp_path / "book.txt"
    source.write_text("one\ntwo\n")
    found = measure([source], model, stage="pt", template=None)
    assert found.lengths.rows().tolist() == [4, 4]  # three letters and the end of text
    assert summarize(found)["trained_tokens"] == 8


def test_of_conversations_pt_takes_the_first_question(model, write_rows):
    found = measure([write_rows("rows.jsonl", QA)], model, stage="pt", template=None)
    assert found.lengths.rows().tolist() == [len("Why?") + 1]


def test_pt_without_packing_cuts_texts_like_rows(tmp_path, model):
    source = tmp_path / "book.txt"
    source.write_text("one\n" + "x" * 99 + "\n")
    summary = summarize(measure([source], model, stage="pt", template=None, target=0.5, steps=Steps(packing=False)))
    assert summary["suggested_cutoff_len"] == 8
    assert summary["at_suggestion"]["tokens_lost"] == 100 - 8


def test_kto_rows_are_measured_with_their_judgements(model, write_rows):
    rows = [{"instruction": "q", "output": "a" * n, "kto_tag": n > 1} for n in (1, 2, 3)]
    summary = summarize(measure([write_rows("rows.jsonl", *rows)], model, stage="kto"))
    assert summary["judged"] == {"desirable": 2, "undesirable": 1}
    assert summary["sides"]["answer"]["max"] == 3 + END


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stage": "sfft"}, 'unknown stage "sfft"'),
        ({"template": "qwenn"}, 'unknown template "qwenn"'),
        ({"backend": "fast"}, 'unknown backend "fast"'),
        ({"dataset": "x"}, "both SRC and --dataset"),
        ({"template": None}, "no chat template of its own"),
        ({"stage": "dpo", "steps": Steps(packing=True)}, "packing is for pt and sft, not for dpo"),
    ],
)
def test_wrong_options_are_named(model, write_rows, change, told):
    with pytest.raises(UsageError, match=told):
        measure([write_rows("rows.jsonl", QA)], model, **change)


def test_a_folder_without_a_tokenizer_is_named(tmp_path, write_rows):
    with pytest.raises(UsageError, match=r"holds no tokenizer\.json"):
        measure([write_rows("rows.jsonl", QA)], tmp_path)


def test_an_empty_source_is_named(tmp_path, model):
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(UsageError, match="the file is empty"):
        measure([tmp_path / "rows.jsonl"], model)


def test_rows_none_of_which_can_be_trained_are_a_fault_of_the_data(model, write_rows):
    with pytest.raises(DataError, match="none of the 1 rows can be trained on") as caught:
        measure([write_rows("rows.jsonl", {"instruction": "a", "output": None})], model)
    assert caught.value.exit_code == 1


@needs_shared
def test_the_demo_rows_with_qwens_tokenizer_cut_as_suggested_lose_what_was_said():
    from registry.formats import LAYOUTS, READERS
    from registry.rows import read_rows
    from registry.tokenizer import open_tokenizer

    pytest.importorskip("gigatoken")
    source = str(SHARED / "data" / "alpaca_en_demo.json")
    found = measure([source], QWEN2, template="qwen")
    assert found.backend == "gigatoken"
    summary = summarize(found)
    tokenizer, spell = open_tokenizer(QWEN2, "qwen")  # `tokenizers`
    records = [READERS["alpaca"](row.data, LAYOUTS["alpaca"]) for row in read_rows([source])]
    cut = Encoder(tokenizer, spell, EncodeRules(summary["suggested_cutoff_len"])).chats(records)
    assert summary["tokens"] - summary["at_suggestion"]["tokens_lost"] == sum(len(e.ids) for e in cut)
    assert summary["rows"] == len(records)
