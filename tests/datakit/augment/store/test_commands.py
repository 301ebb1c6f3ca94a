"""datakit store ls, show, export, prune: what they tell, what they write, and what they refuse."""

from __future__ import annotations

import gzip
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from datakit.augment.store import AnswerStore
from datakit.augment.store.choose import moment
from datakit.augment.store.layout import PAGE_BYTES
from datakit.augment.store.show import size, when
from registry.errors import UsageError
from tests.datakit.augment.store.made import NOON, answer, body_of, made_store

DAY = 86400
ANSWERS = [
    answer(0),
    answer(1, created=NOON + 60),
    answer(2, model="m2", created=NOON + 120),
    answer(3, model="m2", status=400, created=NOON + 180),
]


@pytest.fixture
def made(tmp_path) -> Path:
    """A store of two answers of m1, one of m2, and a refusal of m2."""
    return made_store(tmp_path / "a.sqlite", ANSWERS, note="for tests")


def keys_in(path: Path) -> set[str]:
    with AnswerStore(path) as store:
        return set(store.get_many(stored.key for stored in ANSWERS))


def keys_of(*numbers: int) -> set[str]:
    return {ANSWERS[number].key for number in numbers}


def test_ls_counts_by_model_and_end_and_lists_the_newest(store_command, made):
    ran = store_command("ls", "a.sqlite", "-n", 2)
    lines = [line.split() for line in ran.out.splitlines()]
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("a.sqlite: 3 answers, 1 refusal, ")
    assert lines[1] == ["for", "tests"]
    assert [line[:7] for line in lines[5:8]] == [
        ["m1", "openai", "stop", "2", "0", "60", "16"],
        ["m2", "openai", "refused", "0", "1", "30", "8"],
        ["m2", "openai", "stop", "1", "0", "30", "8"],
    ]
    assert [line[0] for line in lines[11:]] == [ANSWERS[3].key[:12], ANSWERS[2].key[:12]]


def test_ls_prints_one_object_and_takes_a_model_and_a_time(store_command, made):
    found = store_command("ls", "a.sqlite", "--json").json
    assert (found["answers"], found["refusals"], found["about"]["note"]) == (3, 1, "for tests")
    assert found["file_bytes"] == made.stat().st_size
    assert [entry["key"] for entry in found["newest"]] == [stored.key for stored in reversed(ANSWERS)]
    assert found["groups"][0] | {"bytes": 0} == {
        "model": "m1",
        "provider": "openai",
        "finish": "stop",
        "answers": 2,
        "refusals": 0,
        "prompt_tokens": 60,
        "completion_tokens": 16,
        "bytes": 0,
        "first": NOON,
        "last": NOON + 60,
    }
    assert store_command("ls", "a.sqlite", "--json", "--model", "m2").json["answers"] == 1
    since = store_command("ls", "a.sqlite", "--json", "--since", when(NOON + 100).replace(" ", "T")).json
    assert (since["answers"], since["refusals"]) == (1, 1)
    assert store_command("ls", "a.sqlite", "--json", "--since", "1h").json["newest"] == []


def test_an_unknown_model_a_missing_store_and_a_bad_time_are_told(store_command, made):
    ran = store_command("ls", "a.sqlite", "--model", "M2")
    assert ran.code == 2
    assert 'no answer of the model "M2" is in it\n  It holds answers of: m1, m2. Did you mean "m2"' in ran.err
    assert "none.sqlite: there is no such file" in store_command("ls", "none.sqlite").err
    assert (
        '--since "soon" is neither a span of time nor a date' in store_command("ls", "a.sqlite", "--since", "soon").err
    )


def test_show_prints_what_was_asked_and_what_came(store_command, made):
    ran = store_command("show", "a.sqlite", ANSWERS[0].key[:9])
    assert ran.out.splitlines() == [
        f"{ANSWERS[0].key}  answer",
        f"m1 by openai, {when(NOON)}, stop, 30 tokens in, 8 out, 1.5 s, 1 attempt",
        "family: https://api.example.com/v1",
        "recipe: cafe",
        'sampling: {"temperature":0.5}',
        "",
        "--- system",
        "Be short.",
        "",
        "--- user",
        "Question 0?",
        "",
        "--- answer",
        "Answer 0.",
    ]


def test_show_prints_thoughts_refusals_and_odd_bodies(store_command, tmp_path):
    thinking = {"choices": [{"message": {"content": "42", "reasoning_content": "Hm."}, "finish_reason": "stop"}]}
    answers = [
        replace(answer(0), body=orjson.dumps(thinking)),
        answer(1, status=400),
        replace(answer(2), body=b"\xff\x1b[2J"),
    ]
    made_store(tmp_path / "a.sqlite", answers)
    shown = [store_command("show", "a.sqlite", stored.key).out for stored in answers]
    assert shown[0].endswith("--- thoughts\nHm.\n\n--- answer\n42\n")
    assert f"{answers[1].key}  refusal, status 400\n" in shown[1]
    assert shown[1].endswith('--- body, as it came\n{"error":{"message":"not that"}}\n')
    assert shown[2].endswith("--- body, as it came\n\\xff\\x1b[2J\n")  # no escape sequence reaches the terminal


def test_show_prints_an_object_or_the_body_alone(store_command, made):
    found = store_command("show", "a.sqlite", ANSWERS[0].key, "--json").json
    assert found["request"]["messages"] == [["system", "Be short."], ["user", "Question 0?"]]
    assert found["body"] == body_of("Answer 0.").decode()
    assert store_command("show", "a.sqlite", ANSWERS[0].key, "--raw").out == body_of("Answer 0.").decode()


def test_show_tells_the_candidates_of_a_beginning_that_several_keys_share(store_command, tmp_path):
    alike = [replace(answer(n), key=f"ab{n:030x}") for n in range(3)]
    many = [replace(answer(n), key=f"cd{n:030x}") for n in range(12)]
    made_store(tmp_path / "a.sqlite", [*alike, *many])
    ran = store_command("show", "a.sqlite", "AB0")
    assert ran.code == 2
    assert "3 keys begin with ab0\n" + "".join(f"  {stored.key}  m1\n" for stored in alike) in ran.err
    assert "10 or more keys begin with c\n" in store_command("show", "a.sqlite", "c").err
    assert "no key begins with e" in store_command("show", "a.sqlite", "e").err
    assert '"xyz" is no beginning of a key' in store_command("show", "a.sqlite", "xyz").err
    assert store_command("show", "a.sqlite", alike[1].key).code == 0


def test_export_writes_one_object_an_answer_with_a_manifest(store_command, made, tmp_path):
    ran = store_command("export", "a.sqlite", "-o", "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert (ran.code, ran.out.split(",")[0]) == (0, "out.jsonl: 4 of 4 answers")
    assert [line["key"] for line in lines] == [stored.key for stored in ANSWERS]
    assert lines[0] == store_command("show", "a.sqlite", ANSWERS[0].key, "--json").json
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert (manifest["command"], manifest["rows_in"], manifest["rows_out"]) == ("store export", 4, 4)
    store_command("export", "a.sqlite", "-o", "out.jsonl.gz")
    first = (tmp_path / "out.jsonl.gz").read_bytes()
    assert gzip.decompress(first) == (tmp_path / "out.jsonl").read_bytes()
    store_command("export", "a.sqlite", "-o", "out.jsonl.gz")
    assert (tmp_path / "out.jsonl.gz").read_bytes() == first


def test_bytes_that_are_no_text_are_exported_all_the_same(store_command, tmp_path):
    made_store(tmp_path / "a.sqlite", [replace(answer(), body=b"\xff\x00", request=b"no JSON")])
    store_command("export", "a.sqlite", "-o", "out.jsonl")
    line = json.loads((tmp_path / "out.jsonl").read_bytes())
    assert (line["body_base64"], line["request"], "body" in line) == ("/wA=", "no JSON", False)


def test_export_of_the_answers_of_a_data_set_makes_a_store_to_ship_with_it(store_command, made, tmp_path, write_rows):
    write_rows(
        "rows.jsonl",
        {"output": "x", "_origin": {"request": ANSWERS[0].key, "seed_row": 1}},
        {"output": "y", "_origin": {"request": [ANSWERS[2].key, ANSWERS[0].key]}},
    )
    ran = store_command(
        "export", "a.sqlite", "-o", "ship.sqlite", "--keys", "rows.jsonl", "--note", "recorded", "--json"
    )
    assert (ran.json["rows_out"], ran.json["filtered"]) == (2, {"--keys": 2})
    assert keys_in(tmp_path / "ship.sqlite") == keys_of(0, 2)
    with AnswerStore(tmp_path / "ship.sqlite") as shipped, AnswerStore(made) as whole:
        assert shipped.get(ANSWERS[2].key) == ANSWERS[2]
        assert shipped.about() == {**whole.about(), "note": "recorded"}
    assert (tmp_path / "ship.sqlite").read_bytes()[18:20] == b"\1\1"  # no WAL is needed to read it
    (tmp_path / "keys.txt").write_text(f"{ANSWERS[1].key}\n\n{ANSWERS[3].key}\n")
    store_command("export", "a.sqlite", "-o", "ship.sqlite", "--keys", "keys.txt", "--keys", "rows.jsonl")
    assert keys_in(tmp_path / "ship.sqlite") == keys_of(0, 1, 2, 3)


def test_export_refuses_what_it_cannot_write_and_a_store_at_work(store_command, made, tmp_path):
    assert "a store cannot be exported over itself" in store_command("export", "a.sqlite", "-o", "./a.sqlite").err
    assert "Use .jsonl, .jsonl.gz, .sqlite." in store_command("export", "a.sqlite", "-o", "out.csv").err
    assert "only a store can hold a note" in store_command("export", "a.sqlite", "-o", "o.jsonl", "--note", "x").err
    (tmp_path / "out.sqlite-wal").write_bytes(b"x")
    made_store(tmp_path / "busy.sqlite", ANSWERS)
    with AnswerStore(tmp_path / "busy.sqlite") as busy:
        busy.ensure_writable()
        assert "another run writes into this store" in store_command("export", "a.sqlite", "-o", "busy.sqlite").err
        assert store_command("export", "busy.sqlite", "-o", "read.sqlite").code == 0
    assert sorted(p.name for p in tmp_path.glob("*.sqlite")) == ["a.sqlite", "busy.sqlite", "read.sqlite"]
    (tmp_path / "busy.sqlite-wal").write_bytes(b"x")
    assert "did not close it" in store_command("export", "a.sqlite", "-o", "busy.sqlite").err


def test_export_of_a_damaged_store_stops_and_leaves_no_file_but_salvage_saves_the_rest(store_command, tmp_path):
    answers = [replace(answer(n), body=os.urandom(3000)) for n in range(60)]
    path = made_store(tmp_path / "a.sqlite", answers)
    raw = path.read_bytes()
    middle = len(raw) // 2 // PAGE_BYTES * PAGE_BYTES
    path.write_bytes(raw[:middle] + os.urandom(PAGE_BYTES) + raw[middle + PAGE_BYTES :])
    ran = store_command("export", "a.sqlite", "-o", "out.sqlite")
    assert ran.code == 2
    assert "datakit store export a.sqlite -o SAVED.sqlite --salvage" in ran.err
    assert not (tmp_path / "out.sqlite").exists()
    for out in ("saved.sqlite", "saved.jsonl"):
        saved = store_command("export", "a.sqlite", "-o", out, "--salvage", "--json").json
        assert 60 - 5 <= saved["rows_out"] < 60
    with AnswerStore(tmp_path / "saved.sqlite") as store:
        found = store.get_many(stored.key for stored in answers)
    assert len(found) == saved["rows_out"]
    assert all(stored in answers for stored in found.values())


def test_export_leaves_out_answers_that_do_not_match_their_checksum_and_says_so(store_command, made, tmp_path):
    import sqlite3

    connection = sqlite3.connect(made, isolation_level=None)
    connection.execute("UPDATE answers SET finish = 'other' WHERE model = 'm1'")
    connection.close()
    for options in ((), ("--salvage",)):
        ran = store_command("export", "a.sqlite", "-o", "out.sqlite", *options)
        assert (ran.code, ran.out.split(",")[0]) == (0, "out.sqlite: 2 of 4 answers")
        assert "left out 2 times" in ran.err
        assert keys_in(tmp_path / "out.sqlite") == keys_of(2, 3)
    assert "does not match its checksum" in store_command("show", "a.sqlite", ANSWERS[0].key).err


def test_salvage_of_what_is_no_store_is_refused(store_command, tmp_path):
    (tmp_path / "a.sqlite").write_bytes(os.urandom(20_000))
    ran = store_command("export", "a.sqlite", "-o", "out.sqlite", "--salvage")
    assert (ran.code, (tmp_path / "out.sqlite").exists()) == (2, False)
    assert "this is no store of answers" in ran.err
    assert store_command("export", "none.sqlite", "-o", "out.sqlite", "--salvage").code == 2


def test_no_key_and_no_header_is_ever_in_a_store_or_what_is_exported(store_command, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-0123456789")
    made_store(tmp_path / "a.sqlite", ANSWERS)
    store_command("export", "a.sqlite", "-o", "out.jsonl")
    store_command("export", "a.sqlite", "-o", "out.sqlite")
    for path in tmp_path.iterdir():
        assert b"sk-planted" not in path.read_bytes()
    allowed = {"family", "messages", "model", "recipe", "sample", "sampling", "schema", "version"}
    for line in (tmp_path / "out.jsonl").read_bytes().splitlines():
        assert set(json.loads(line)["request"]) == allowed
        assert not {"authorization", "headers", "api_key"} & {word.lower() for word in json.loads(line)}


def test_prune_only_counts_until_it_is_told_yes(store_command, made):
    before = made.read_bytes()
    ran = store_command("prune", "a.sqlite", "--model", "m2")
    assert ran.code == 0
    assert "a.sqlite: would remove 1 answer and 1 refusal, " in ran.out
    assert "2 would be left\n  Remove them with the same command and --yes." in ran.out
    assert made.read_bytes() == before
    found = store_command("prune", "a.sqlite", "--model", "m2", "--yes", "--json").json
    assert (found["done"], found["answers"], found["refusals"], found["left"]) == (True, 1, 1, 2)
    assert keys_in(made) == keys_of(0, 1)
    assert [p.name for p in made.parent.iterdir()] == ["a.sqlite"]


def test_prune_takes_what_all_options_hold_for_and_gives_the_room_back(store_command, tmp_path):
    fresh = answer(9, status=400, created=time.time())
    path = made_store(
        tmp_path / "a.sqlite", [*ANSWERS, fresh, *(replace(answer(n), body=os.urandom(2000)) for n in range(20, 90))]
    )
    size_before = path.stat().st_size
    assert (
        store_command("prune", "a.sqlite", "--refused", "--older-than", "30d", "--yes", "--json").json["refusals"] == 1
    )
    with AnswerStore(path) as store:
        assert store.get(ANSWERS[3].key) is None
        assert store.get(fresh.key) == fresh
    found = store_command("prune", "a.sqlite", "--older-than", "30d", "--yes", "--json").json
    assert (found["answers"], found["left"]) == (73, 1)
    assert found["file_bytes"] == path.stat().st_size < size_before / 2


def test_prune_keeps_what_rows_or_their_manifest_name(store_command, made, tmp_path, write_rows):
    write_rows("deep.jsonl", {"a": {"b": [{"request": ANSWERS[1].key}]}})
    write_rows("out.jsonl", {"_origin": {"request": ANSWERS[0].key}})
    manifest = {"outputs": [{"file": "elsewhere/out.jsonl"}], "details": {"requests": [ANSWERS[3].key]}}
    (tmp_path / "out.jsonl.manifest.json").write_text(json.dumps(manifest))
    ran = store_command("prune", "a.sqlite", "--not-in", "out.jsonl.manifest.json", "--not-in", "deep.jsonl", "--yes")
    assert "removed 1 answer and 0 refusals" in ran.out
    assert keys_in(made) == keys_of(0, 1, 3)


def test_prune_asks_what_may_go_and_takes_no_file_without_keys_for_an_answer(store_command, made, tmp_path, write_rows):
    write_rows("rows.jsonl", {"output": "x"})
    (tmp_path / "bad.jsonl").write_text(json.dumps({"request": ANSWERS[0].key}) + "\n[1]\n")
    (tmp_path / "m.manifest.json").write_text("[]")
    assert "nothing says what may go" in store_command("prune", "a.sqlite", "--yes").err
    assert "no answer is named in it" in store_command("prune", "a.sqlite", "--not-in", "rows.jsonl", "--yes").err
    assert "row 2 cannot be read" in store_command("prune", "a.sqlite", "--not-in", "bad.jsonl", "--yes").err
    assert "this is no manifest" in store_command("prune", "a.sqlite", "--not-in", "m.manifest.json", "--yes").err
    assert (
        "nothing to remove; all 4 stay" in store_command("prune", "a.sqlite", "--older-than", "2001-01-01", "--yes").out
    )
    with AnswerStore(made) as store:
        store.ensure_writable()
        assert "another run writes into this store" in store_command("prune", "a.sqlite", "--refused", "--yes").err
        assert store_command("prune", "a.sqlite", "--refused").code == 0
    assert keys_in(made) == keys_of(0, 1, 2, 3)


def test_each_verb_has_help(store_command):
    assert all(verb in store_command("--help").out for verb in ("ls", "show", "export", "prune"))
    for verb in ("ls", "show", "export", "prune"):
        assert store_command(verb, "--help").code == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30d", 1e9 - 30 * DAY),
        ("12h", 1e9 - DAY / 2),
        ("2w", 1e9 - 14 * DAY),
        ("90 m", 1e9 - 5400),
        ("1.5d", 1e9 - 1.5 * DAY),
    ],
)
def test_spans_of_time_count_back_from_now(text, seconds):
    assert moment(text, "--since", now=1e9) == seconds


def test_dates_are_local_unless_they_say_otherwise():
    assert moment("2026-03-01T00:00+00:00", "--since") == 1_772_323_200
    assert when(moment("2026-03-01 18:30", "--since")) == "2026-03-01 18:30:00"
    for bad in ("", "d", "-3d", "30 days", "2026-13-01"):
        with pytest.raises(UsageError):
            moment(bad, "--since")


def test_sizes_are_told_as_people_say_them():
    assert [size(n) for n in (0, 999, 1000, 1_440_000, 2.5e12)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "1.4 MB",
        "2500.0 GB",
    ]
