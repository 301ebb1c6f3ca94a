"""datakit dedup: of each set of duplicates the first row stays, and each dropped row names the one that does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.conftest import REPOSITORY

LONG = (
    "the quick brown fox jumps over the lazy dog while the small grey cat looks on from the top of the old stone wall"
)


def alpaca(instruction: str, output: str, **more: object) -> dict[str, object]:
    return {"instruction": instruction, "input": "", "output": output, **more}


def test_exact_duplicates_go_and_each_names_the_row_that_stays(datakit, write_rows, read_rows_back):
    rows = [alpaca("Hi", "yo"), alpaca("Bye", "so long"), {"output": " YO\n", "input": "", "instruction": "hi"}]
    write_rows("in.jsonl", *rows)
    ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--json")
    assert ran.code == 0
    assert (ran.json["rows_in"], ran.json["rows_out"], ran.json["rejected"]) == (3, 2, {})
    assert ran.json["filtered"] == {"exact duplicate": 1}
    assert read_rows_back("out.jsonl") == rows[:2]
    assert read_rows_back("out.jsonl.rejects.jsonl") == [
        {
            "file": "in.jsonl",
            "row": 3,
            "field": "",
            "reason": "exact duplicate",
            "raw": '{"output":" YO\\n","input":"","instruction":"hi"}',
            "kept": {"file": "in.jsonl", "row": 1},
            "similarity": 1.0,
        }
    ]


def test_raw_compares_byte_for_byte(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", alpaca("Hi", "yo"), alpaca("hi", "yo"), alpaca("hi", "yo"))
    for flag in ("--raw", "--no-normalize"):
        assert datakit("dedup", "in.jsonl", "-o", "out.jsonl", flag, "--json").json["rows_out"] == 2
    assert datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--json").json["rows_out"] == 1


def test_rows_come_out_as_they_went_in(datakit, tmp_path):
    lines = ['{ "n": 1e2, "big": 123456789012345678901234567890, "s": "\\u00e9" }', '{"n": 1.10, "n2": -0}']
    (tmp_path / "in.jsonl").write_text("\n\n".join(lines) + "\r\n")
    datakit("dedup", "in.jsonl", "-o", "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "\n".join(lines) + "\n"


def test_chosen_fields_are_compared_and_rows_without_them_stay(datakit, write_rows, read_rows_back):
    rows = [{"id": 1, "q": {"text": "A"}}, {"id": 2, "q": {"text": "a"}}, {"id": 3}, {"id": 4, "q": {}}]
    write_rows("in.jsonl", *rows)
    ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--on", "q.text", "--json")
    assert read_rows_back("out.jsonl") == [rows[0], rows[2], rows[3]]
    assert ran.json["rows_not_compared"] == 2
    assert "2 rows have none of q.text" in ran.err
    assert read_rows_back("out.jsonl.rejects.jsonl")[0]["field"] == "q.text"


def test_question_and_answer_stand_for_what_a_known_format_holds(datakit, write_rows, read_rows_back):
    chats = [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": answer}]}
        for answer in ("yo", "hello", "hey")
    ]
    write_rows("in.jsonl", *chats)
    datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--on", "question")
    assert read_rows_back("out.jsonl") == chats[:1]
    datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--on", "question,answer")
    assert read_rows_back("out.jsonl") == chats


def test_near_duplicates_go_and_their_similarity_is_told(datakit, write_rows, read_rows_back):
    rows = [alpaca("Say", LONG), alpaca("Say", LONG.replace("grey", "black")), alpaca("Say", LONG[: len(LONG) // 2])]
    write_rows("in.jsonl", *rows)
    ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--near", "0.7", "--json")
    assert read_rows_back("out.jsonl") == [rows[0], rows[2]]
    assert ran.json["filtered"] == {"near duplicate": 1}
    (dropped,) = read_rows_back("out.jsonl.rejects.jsonl")
    assert (dropped["row"], dropped["kept"]["row"]) == (2, 1)
    assert dropped["similarity"] == round((1 + 22 - 3) / (1 + 22 + 3), 6)  # "Say", and 22 runs of three words
    assert ran.json["near"] == {
        "threshold": 0.7,
        "ngram": 3,
        "texts": "question and answer",
        "permutations": 128,
        "bands": 32,
        "rows_a_band": 4,
        "found_with_probability": {"0.7": 0.999847, "0.9": 1.0, "0.95": 1.0},
        "rows_with_more_candidates": 0,
    }
    assert "32 bands of 4 finds a pair at 0.7 with a probability of 0.9998" in ran.err


def test_rows_that_were_judged_otherwise_are_not_near(datakit, write_rows):
    labelled = [alpaca("Say", LONG, kto_tag=tag, id=n) for n, tag in enumerate([True, False, True])]
    write_rows("kto.jsonl", *labelled)
    ran = datakit("dedup", "kto.jsonl", "-o", "out.jsonl", "--near", "0.9", "--json")
    assert ran.json["filtered"] == {"near duplicate": 1}
    pairs = [("x " + LONG, LONG + " y"), (LONG + " y", "x " + LONG), ("x " + LONG, LONG + " y")]
    write_rows("dpo.jsonl", *({"prompt": "Say", "chosen": a, "rejected": b, "n": n} for n, (a, b) in enumerate(pairs)))
    ran = datakit("dedup", "dpo.jsonl", "-o", "out.jsonl", "--near", "0.95", "--json")
    assert ran.json["filtered"] == {"near duplicate": 1}


def test_chinese_is_compared_by_its_characters(datakit, write_rows, read_rows_back):
    text = "从前有座山，山上有座庙，庙里有个老和尚在给小和尚讲故事，讲的是什么故事呢，大家都想知道。"
    write_rows("in.jsonl", alpaca("讲", text), alpaca("讲", text.replace("什么", "哪个")), alpaca("讲", text[:9]))
    datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--near", "0.7")
    assert [row["output"][-1] for row in read_rows_back("out.jsonl")] == ["。", "有"]


def test_rows_of_other_files_are_dropped_and_named(datakit, write_rows, read_rows_back):
    write_rows("val.jsonl", alpaca("Hi", "yo"), alpaca("Hi", "yo"), alpaca("Say", LONG))
    rows = [alpaca("HI", "yo"), alpaca("Say", LONG + " again"), alpaca("new", "row")]
    write_rows("in.jsonl", *rows)
    ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--against", "val.jsonl", "--json")
    assert ran.json["filtered"] == {"in val.jsonl": 1}
    assert [told["rows"] for told in ran.json["against"]] == [3]
    ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--against", "val.jsonl", "--near", "0.8", "--json")
    assert ran.json["filtered"] == {"in val.jsonl": 1, "near a row in val.jsonl": 1}
    assert read_rows_back("out.jsonl") == rows[2:]
    kept = [dropped["kept"] for dropped in read_rows_back("out.jsonl.rejects.jsonl")]
    assert kept == [{"file": "val.jsonl", "row": 1}, {"file": "val.jsonl", "row": 3}]


def test_rows_that_overlap_an_evaluation_set_go_before_anything_stays_for_them(datakit, write_rows, read_rows_back):
    write_rows("eval.jsonl", {"question": "nothing of the kind"}, {"question": LONG, "gold": "A"})
    rows = [alpaca("Tell me", f"Well: {LONG}!"), alpaca("Tell me", f"well: {LONG}!"), alpaca("A", "A")]
    write_rows("in.jsonl", *rows)
    ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--decontaminate", "eval.jsonl", "--json")
    assert ran.json["filtered"] == {"overlaps the evaluation set": 2}
    assert read_rows_back("out.jsonl") == rows[2:]
    assert [(told["kept"], told["similarity"]) for told in read_rows_back("out.jsonl.rejects.jsonl")] == [
        ({"file": "eval.jsonl", "row": 2}, 1.0)
    ] * 2
    assert ran.json["evaluation"]["ngram"] == 13
    half = " ".join(LONG.split()[:14])
    write_rows("in.jsonl", alpaca("Tell me", half))
    for overlap, count in (("any", 0), ("0.2", 1), ("10%", 0)):
        arguments = ("--decontaminate", "eval.jsonl", "--overlap", overlap, "--json")
        ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", *arguments)
        assert (ran.json["rows_out"], ran.code) == (count, 0 if count else 1)
    assert read_rows_back("out.jsonl.rejects.jsonl")[0]["similarity"] == round(2 / 12, 6)


def test_only_decontaminating_leaves_duplicates(datakit, write_rows):
    write_rows("eval.jsonl", {"question": LONG})
    write_rows("in.jsonl", alpaca("Hi", "yo"), alpaca("Hi", "yo"), alpaca("", LONG))
    ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--no-exact", "--decontaminate", "eval.jsonl", "--json")
    assert (ran.json["rows_out"], ran.json["filtered"]) == (2, {"overlaps the evaluation set": 1})


def test_near_alone_leaves_rows_without_words_and_counts_them(datakit, tmp_path, read_rows_back):
    (tmp_path / "in.jsonl").write_bytes(
        b'{"text": "..."}\n{"text": "..."}\nno\n{"text": "a b"}\n{"text": "a, b"}\n{"x": 1}\n'
    )
    ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--no-exact", "--near", "0.9", "--json")
    assert read_rows_back("out.jsonl") == [{"text": "..."}, {"text": "..."}, {"text": "a b"}, {"x": 1}]
    assert (ran.json["rows_not_compared"], ran.json["filtered"]) == (3, {"near duplicate": 1})
    assert "3 rows have no text" in ran.err
    assert ran.json["memory"].keys() == {"near_bytes", "near_bytes_on_disk"}


def test_rows_that_cannot_be_read_are_rejected_and_only_they_are_strict(datakit, tmp_path, read_rows_back):
    (tmp_path / "in.jsonl").write_bytes(
        b'{"a": 1}\n{"a": 1}\n[1]\n{"a"\n\n{"a": 2}\n' + b'{"a":' * 700 + b"1" + b"}" * 700
    )
    for near in ((), ("--near", "0.9")):
        ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--json", *near)
        assert (ran.code, ran.json["rows_in"], ran.json["rows_out"]) == (0, 6, 2)
        assert (ran.json["filtered"], sum(ran.json["rejected"].values())) == ({"exact duplicate": 1}, 3)
        told = read_rows_back("out.jsonl.rejects.jsonl")
        assert sorted(line["row"] for line in told) == [2, 3, 4, 7]
        assert "nested too deep" in told[-1]["reason"]
    assert datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--strict").code == 1
    (tmp_path / "in.jsonl").write_bytes(b'{"a": 1}\n{"a": 1}\n')
    assert datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--strict").code == 0


def test_where_nothing_is_left_the_exit_code_says_so(datakit, write_rows, read_rows_back):
    write_rows("old.jsonl", {"a": 1})
    write_rows("in.jsonl", {"a": 1})
    assert datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--against", "old.jsonl").code == 1
    assert read_rows_back("out.jsonl") == []


def test_dropped_rows_can_go_to_a_file_of_their_own(datakit, tmp_path, read_rows_back):
    (tmp_path / "in.jsonl").write_bytes(b'{"a": 1}\n{"a": 1}\nno\n')
    ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--drops", "gone.jsonl")
    assert "dropped rows: gone.jsonl" in ran.err
    assert [told["reason"] for told in read_rows_back("gone.jsonl")] == ["exact duplicate"]
    assert [told["row"] for told in read_rows_back("out.jsonl.rejects.jsonl")] == [3]
    listed = orjson.loads((tmp_path / "out.jsonl.manifest.json").read_bytes())["outputs"]
    assert [(entry["file"], entry.get("rejects", False)) for entry in listed] == [
        ("out.jsonl", False), ("out.jsonl.rejects.jsonl", True), ("gone.jsonl", True),
    ]  # fmt: skip
    (tmp_path / "in.jsonl").write_bytes(b'{"a": 1}\n')
    datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--drops", "gone.jsonl")
    assert not (tmp_path / "gone.jsonl").exists()


def test_several_files_and_containers_are_one_stream_of_rows(datakit, write_rows, tmp_path, read_rows_back):
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_rows("a.jsonl", {"a": "x"}, {"a": "y"})
    (tmp_path / "b.json").write_text(json.dumps([{"a": "Y"}, {"a": "z"}]))
    (tmp_path / "c.csv").write_text("a\nZ\nw\n")
    pq.write_table(pa.table({"a": ["W", "v"]}), tmp_path / "d.parquet")
    files = ("a.jsonl", "b.json", "c.csv", "d.parquet")
    for options in ((), ("--near", "1")):
        ran = datakit("dedup", *files, "-o", "out.parquet", *options, "--json")
        assert ran.json["filtered"] == {"exact duplicate": 3}
        kept = [(told["file"], told["row"], told["kept"]) for told in read_rows_back("out.parquet.rejects.jsonl")]
        assert kept == [
            ("b.json", 1, {"file": "a.jsonl", "row": 2}),
            ("c.csv", 1, {"file": "b.json", "row": 2}),
            ("d.parquet", 1, {"file": "c.csv", "row": 2}),
        ]
        assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [{"a": a} for a in "xyzwv"]


@pytest.mark.parametrize("near", [(), ("--near", "0.8")])
def test_stdin_to_stdout(tmp_path: Path, near: tuple[str, ...]):
    command = [sys.executable, "-m", "datakit.cli", "dedup", "-", "-o", "-", "--rejects", "r.jsonl", *near]
    env = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        command, input=b'{"a":"x y z"}\n{"a":"X y z"}\n{"a":"q"}\n', capture_output=True, cwd=tmp_path, env=env
    )
    assert (ran.returncode, ran.stdout) == (0, b'{"a":"x y z"}\n{"a":"q"}\n')
    assert orjson.loads((tmp_path / "r.jsonl").read_bytes())["kept"] == {"file": "-", "row": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_what_is_changed_in_rows_that_stay_is_counted_and_no_more(datakit, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"n": [1.0, float("nan"), float("nan"), float("inf")]}), tmp_path / "in.parquet")
    ran = datakit("dedup", "in.parquet", "-o", "out.jsonl", "--json")
    assert (tmp_path / "out.jsonl").read_text() == '{"n":1.0}\n{"n":null}\n'
    assert "became null: 1" in ran.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--near", "0"), "similarity above 0 and up to 1"),
        (("--near", "nan"), "similarity above 0 and up to 1"),
        (("--near", "1.5"), "similarity above 0 and up to 1"),
        (("--near", "0.8", "--shingle", "0"), "from 1 to 1,000"),
        (("--decontaminate", "other.jsonl", "--ngram", "0"), "from 1 to 1,000"),
        (("--decontaminate", "other.jsonl", "--overlap", "2"), "any, or a share"),
        (("--decontaminate", "other.jsonl", "--overlap", "most"), "any, or a share"),
        (("--overlap", "0.5"), "nothing to overlap with"),
        (("--no-exact",), "nothing is to be looked for"),
        (("--no-exact", "--against", "other.jsonl", "--decontaminate", "other.jsonl"), "compared with nothing"),
        (("--on", "instructon"), "Nearest: instruction"),
        (("--on", "a,,b"), "a field has no name"),
        (("--against", "in.jsonl"), "one of the sources"),
        (("--decontaminate", "./in.jsonl"), "one of the sources"),
        (("--against", "none.jsonl"), "no such file"),
        (("--drops", "out.jsonl"), "cannot go to the same file"),
        (("--drops", "out.jsonl.rejects.jsonl"), "cannot go to the same file"),
        (("--drops", "other.jsonl", "--against", "other.jsonl"), "one of the sources"),
        (("--against", "-", "--decontaminate", "-"), "stdin can be read once only"),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_written(datakit, write_rows, tmp_path, options, told):
    write_rows("in.jsonl", alpaca("a", "b"))
    write_rows("other.jsonl", alpaca("c", "d"))
    ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", *options)
    assert ran.code == 2
    assert told in ran.err
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "other.jsonl"}


def test_the_output_is_none_of_the_files_compared_with(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", {"a": 1})
    write_rows("other.jsonl", {"a": 2})
    for flag in ("--against", "--decontaminate"):
        assert datakit("dedup", "in.jsonl", "-o", "other.jsonl", flag, "other.jsonl").code == 2
    assert read_rows_back("other.jsonl") == [{"a": 2}]


def test_json_and_rows_cannot_both_go_to_stdout(datakit, write_rows):
    write_rows("in.jsonl", {"a": 1})
    assert datakit("dedup", "in.jsonl", "-o", "-", "--json").code == 2


def test_the_manifest_tells_fields_bound_and_memory(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", alpaca("Hi", LONG), alpaca("Hi", LONG))
    datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--near", "0.8", "--on", "output", "--quiet")
    told = orjson.loads((tmp_path / "out.jsonl.manifest.json").read_bytes())
    assert told["details"]["on"] == ["output"]
    assert "NFKC" in told["details"]["normal_form"]
    assert told["details"]["near"]["found_with_probability"]["0.8"] == 0.998312
    assert told["details"]["memory"] == {
        "exact_bytes": 24 << 16,
        "near_bytes": 21 * 8 + 2 * 8,
        "near_bytes_on_disk": 22 * 8,
    }
    assert (told["options"]["near"], told["filtered"]) == (0.8, {"exact duplicate": 1})


def test_the_road_of_a_row_that_stayed_can_be_told(datakit, write_rows):
    write_rows("in.jsonl", alpaca("a", "b"), alpaca("A", "b"), alpaca("c", "d"))
    datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--drops", "gone.jsonl")
    ran = datakit("explain", "out.jsonl", "--row", "2")
    assert ran.code == 0
    assert "in.jsonl" in ran.out
    assert "row 3" in ran.out


def test_of_an_evaluation_set_that_cannot_be_read_in_part_the_rest_counts(datakit, tmp_path, write_rows):
    (tmp_path / "eval.jsonl").write_bytes(orjson.dumps({"q": LONG}) + b'\nno\n{"q": "..."}\n')
    write_rows("in.jsonl", alpaca("Hi", LONG), alpaca("Hi", "yo"))
    ran = datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--decontaminate", "eval.jsonl")
    assert "1 rows of eval.jsonl cannot be read" in ran.err
    assert "1 rows of the evaluation set hold no word" in ran.err
    assert ran.code == 0


def test_what_equals_a_row_that_goes_as_near_goes_for_the_row_that_stays(datakit, write_rows, read_rows_back):
    words = " ".join(f"word{number}" for number in range(60))
    near = alpaca(words + " and two more", "Said.")
    write_rows("in.jsonl", alpaca(words, "Said."), near, near)
    datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--near", "0.7", "--drops", "drops.jsonl")
    drops = read_rows_back("drops.jsonl")
    assert [(drop["row"], drop["reason"], drop["kept"]["row"]) for drop in drops] == [
        (2, "near duplicate", 1),
        (3, "near duplicate", 1),
    ]
    assert drops[0]["similarity"] == drops[1]["similarity"] < 1


def test_the_same_words_about_other_pictures_are_not_near(datakit, write_rows, read_rows_back):
    asked = alpaca("<image> How many people are in this picture?", "There are two people in it.")
    rows = [asked | {"images": [name]} for name in ("1.png", "2.png", "1.png")]
    write_rows("in.jsonl", *rows)
    datakit("dedup", "in.jsonl", "-o", "out.jsonl", "--near", "0.9")
    assert read_rows_back("out.jsonl") == rows[:2]
