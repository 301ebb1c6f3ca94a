"""Notes about batches, lines of their files, and requests that are read back from both."""

from __future__ import annotations

import json
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.augment.batch.lines import input_line, read_line, request_of
from datakit.augment.batch.notes import Note, Notes, notes_path
from datakit.augment.failures import Kind
from datakit.augment.request import Request
from registry.errors import UsageError
from tests.datakit.augment.batch.hand import body, request

NOTE = Note("t1", "", "openai", "https://a.example/v1", "file-1", 1_760_000_000.0)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_notes_last_until_the_last_batch_is_forgotten(tmp_path):
    path = tmp_path / "a.store.sqlite.batches"
    notes = Notes(path)
    assert notes.all() == []
    assert not path.exists()
    notes.intend(NOTE, [request(0), request(1)])
    notes.intend(Note("t2", "b2", "openai", "u", "file-2", 1.0), [request(2)])
    notes.know("t1", "b1")
    again = Notes(path)
    assert [(note.tag, note.id) for note in again.all()] == [("t2", "b2"), ("t1", "b1")]
    assert again.keys("t1") == {request(0).key, request(1).key}
    assert again.request("t1", request(1).key) == request(1)
    with pytest.raises(KeyError):
        again.request("t1", request(2).key)
    again.forget("t2")
    assert path.exists()
    again.forget("t1")
    assert not path.exists()
    assert again.all() == []


def test_notes_lie_beside_the_store_itself_not_beside_a_link_to_it(tmp_path):
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "a.sqlite")
    assert notes_path(tmp_path / "link.sqlite") == notes_path(tmp_path / "a.sqlite") == tmp_path / "a.sqlite.batches"


@pytest.mark.parametrize("content", [b"no database at all, whatever it is" * 40, None])
def test_notes_that_cannot_be_read_are_told_with_what_to_do(tmp_path, content):
    path = tmp_path / "a.batches"
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        Notes(path).all()
    assert str(path) in str(raised.value)
    assert raised.value.mend


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), texts), max_size=3),
    st.dictionaries(texts, st.one_of(st.integers(0, 9), st.floats(0, 2), texts), max_size=3),
    st.one_of(st.none(), st.just({"type": "json_object"})),
    st.integers(0, 5),
)
def test_a_request_read_back_is_the_same_request(messages, sampling, schema, sample):
    made = Request("f", "m", tuple(messages), sampling, schema, "r", sample)
    again = request_of(made.spelled)
    assert again == made
    assert again.key == made.key


def test_a_line_of_the_input():
    line = json.loads(input_line(request(3, sampling={"temperature": 0.5}), "/v1/chat/completions"))
    assert line == {
        "custom_id": request(3, sampling={"temperature": 0.5}).key,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m1", "messages": [{"role": "user", "content": "Question 3?"}], "temperature": 0.5},
    }


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"response": {"status_code": 500, "body": {"error": {"message": "x"}}}}, Kind.SERVER),
        ({"response": {"status_code": 429, "body": {"error": {"message": "x"}}}}, Kind.RATE_LIMIT),
        ({"response": {"status_code": 429, "body": {"error": {"code": "insufficient_quota"}}}}, Kind.QUOTA),
        ({"response": {"status_code": 401, "body": {"error": {"message": "x"}}}}, Kind.KEY),
        ({"response": {"status_code": 400, "body": {"error": {"message": "x"}}}}, Kind.REFUSED),
        ({"response": {"status_code": 200, "body": {"choices": []}}}, Kind.BODY),
        ({"response": {"status_code": 200, "body": None}}, Kind.SERVER),
        ({"response": None, "error": {"code": "batch_expired", "message": "late"}}, Kind.TIMEOUT),
        ({"response": None, "error": {"code": "batch_cancelled", "message": "late"}}, Kind.TIMEOUT),
        ({"response": None, "error": {"code": "insufficient_quota", "message": "no"}}, Kind.QUOTA),
        ({"response": None, "error": None}, Kind.SERVER),
        ({}, Kind.SERVER),
    ],
)
def test_what_a_line_without_an_answer_means(said, kind):
    line = read_line(json.dumps({"custom_id": "k", **said}).encode(), zhipu=False)
    assert line is not None
    assert line.failure is not None
    assert (line.key, line.answer, line.failure.kind) == ("k", None, kind)


def test_zhipus_codes_mean_what_its_documentation_says():
    said = {"custom_id": "k", "response": {"status_code": 400, "body": {"error": {"code": "1301", "message": "敏感"}}}}
    line = read_line(json.dumps(said).encode(), zhipu=True)
    assert line is not None
    assert line.failure is not None
    assert (line.failure.kind, line.failure.code) == (Kind.REFUSED, "1301")


def test_a_line_with_an_answer_keeps_the_body_as_it_came():
    line = read_line(
        json.dumps({"custom_id": "k", "response": {"status_code": 200, "body": body("你好")}}).encode(), zhipu=True
    )
    assert line is not None
    assert line.answer is not None
    assert json.loads(line.body) == body("你好")
    assert (line.answer.text, line.answer.prompt_tokens, line.answer.completion_tokens) == ("你好", 10, 5)


@pytest.mark.parametrize("raw", [b"", b"\n", b"{", b"[]", b"7", b'{"custom_id": 7}', b'{"id": "x"}', b"\xff"])
def test_a_line_that_is_none_is_passed_over(raw):
    assert read_line(raw, zhipu=False) is None
