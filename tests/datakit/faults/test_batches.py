"""Files and batches: uploaded, validated, run, ended, with one line for each request in one of the two files."""

from __future__ import annotations

import json

import pytest

from tests.datakit.faults.asked import Reply
from tests.datakit.faults.batches import BatchDesk, multipart, read_lines
from tests.datakit.faults.client import Got, eventually, send
from tests.datakit.faults.scenario import BatchPlan
from tests.datakit.faults.server import FaultServer
from tests.datakit.faults.wire import Request

OPENAI = ("/v1", "/v1/chat/completions")
ZHIPU = ("/api/paas/v4", "/v4/chat/completions")


def line(name: str, content: str, url: str = OPENAI[1]) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body}).encode()


def form(data: bytes, purpose: str = "batch") -> bytes:
    return (
        b'--XX\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + purpose.encode() + b"\r\n"
        b'--XX\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n'
        b"Content-Type: application/jsonl\r\n\r\n" + data + b"\r\n--XX--\r\n"
    )


def upload(server: FaultServer, data: bytes, base: str = "/v1", purpose: str = "batch") -> Got:
    body = form(data, purpose)
    return send(server, "POST", f"{base}/files", body, {"Content-Type": "multipart/form-data; boundary=XX"})


def start(server: FaultServer, data: bytes, base: str = "/v1", endpoint: str = OPENAI[1]) -> dict:
    body = {"input_file_id": upload(server, data, base).json["id"], "endpoint": endpoint, "completion_window": "24h"}
    return send(server, "POST", f"{base}/batches", json.dumps(body).encode()).json


def look(server: FaultServer, batch: dict, base: str = "/v1") -> dict:
    return send(server, "GET", f"{base}/batches/{batch['id']}").json


def ended(server: FaultServer, batch: dict, base: str = "/v1") -> dict:
    assert eventually(lambda: look(server, batch, base)["status"] in ("completed", "failed", "expired", "cancelled"))
    return look(server, batch, base)


def rows(server: FaultServer, name: str | None, base: str = "/v1") -> dict[str, dict]:
    if name is None:
        return {}
    found = [json.loads(row) for row in send(server, "GET", f"{base}/files/{name}/content").body.splitlines()]
    return {row["custom_id"]: row for row in found}


@pytest.mark.parametrize(("base", "endpoint"), [OPENAI, ZHIPU])
def test_a_batch_answers_each_request_once(base: str, endpoint: str):
    data = b"\n".join(line(f"r{i}", f"Question {i}", endpoint) for i in range(20))
    with FaultServer("batch_ok") as server:
        batch = start(server, data, base, endpoint)
        assert (batch["status"], batch["object"], batch["output_file_id"]) == ("validating", "batch", None)
        batch = ended(server, batch, base)
        assert batch["status"] == "completed"
        assert batch["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
        assert batch["error_file_id"] is None
        found = rows(server, batch["output_file_id"], base)
        assert set(found) == {f"r{i}" for i in range(20)}
        assert list(found) != [f"r{i}" for i in range(20)]
        assert all(row["response"]["status_code"] == 200 for row in found.values())
        assert all(row["response"]["body"]["choices"][0]["message"]["content"] for row in found.values())
        assert (len(server.stats.batched), server.stats.answered, server.stats.requests) == (20, 20, [])
        again = ended(server, start(server, data, base, endpoint), base)
        assert again["id"] != batch["id"]
        assert len(server.stats.answered_twice) == 20


@pytest.mark.parametrize("ends", ["completed", "expired"])
def test_where_a_batch_stands_follows_from_the_clock(ends):
    plan = BatchPlan(validating_s=1.0, running_s=8.0, finalizing_s=1.0, ends=ends)
    desk = BatchDesk(lambda body, style, key: Reply(200, b"", body=b"{}"))

    def call(method: str, path: str, body: bytes, now: float) -> dict:
        kind = {"content-type": "multipart/form-data; boundary=XX"}
        return json.loads(desk.handle(Request(method, path, "", kind, body), path, "openai", now, plan)[1])

    file = call("POST", "/files", form(b"\n".join(line(f"r{i}", f"{i}") for i in range(8))), 0.0)
    body = json.dumps({"input_file_id": file["id"], "endpoint": OPENAI[1]}).encode()
    name = call("POST", "/batches", body, 100.0)["id"]
    stands = [call("GET", f"/batches/{name}", b"", 100.0 + s) for s in (0.9, 1.0, 4.9, 5.0, 8.9, 9.0, 9.9, 10.0, 99.0)]
    assert [(one["status"], one["request_counts"]["completed"]) for one in stands] == [
        ("validating", 0),
        ("in_progress", 0),
        ("in_progress", 3),
        ("in_progress", 4),
        ("in_progress", 7),
        ("finalizing", 8),
        ("finalizing", 8),
        (ends, 8),
        (ends, 8),
    ]


def test_requests_that_fail_stand_in_the_error_file():
    data = b"\n".join([*(line(f"r{i}", f"Question {i}") for i in range(40)), line("bad", "poison")])
    with FaultServer("batch_partial") as server:
        batch = ended(server, start(server, data))
        good, bad = rows(server, batch["output_file_id"]), rows(server, batch["error_file_id"])
        assert good.keys() | bad.keys() == {*(f"r{i}" for i in range(40)), "bad"}
        assert not good.keys() & bad.keys()
        assert batch["request_counts"] == {"total": 41, "completed": len(good), "failed": len(bad)}
        assert bad["bad"]["response"]["status_code"] == 400
        reasons = {(row["response"] or {}).get("status_code") or row["error"]["code"] for row in bad.values()}
        assert reasons == {400, 429, 500, "request_timeout"}
        assert all(row["error"] is None for row in good.values())


def test_an_expired_batch_keeps_what_was_done():
    with FaultServer("batch_expired") as server:
        batch = ended(server, start(server, b"\n".join(line(f"r{i}", f"{i}") for i in range(10))))
        assert batch["status"] == "expired"
        assert batch["request_counts"] == {"total": 10, "completed": 6, "failed": 4}
        assert len(rows(server, batch["output_file_id"])) == 6
        assert {row["error"]["code"] for row in rows(server, batch["error_file_id"]).values()} == {"batch_expired"}
        assert len(server.stats.batched) == 6


def test_a_batch_can_be_cancelled_once():
    with FaultServer("batch_slow", batch={"validating_s": 0.0, "running_s": 0.5}) as server:
        batch = start(server, b"\n".join(line(f"r{i}", f"{i}") for i in range(10)))
        assert eventually(lambda: look(server, batch)["request_counts"]["completed"] >= 3)
        assert send(server, "POST", f"/v1/batches/{batch['id']}/cancel").json["status"] == "cancelling"
        batch = look(server, batch)
        assert batch["status"] == "cancelled"
        done = batch["request_counts"]["completed"]
        assert 3 <= done < 10
        assert len(rows(server, batch["output_file_id"])) == done
        assert send(server, "POST", f"/v1/batches/{batch['id']}/cancel").status == 409


def test_a_batch_can_fail_as_a_whole():
    with FaultServer("batch_failed") as server:
        batch = ended(server, start(server, line("a", "b")))
        assert (batch["status"], batch["output_file_id"]) == ("failed", None)
        assert batch["errors"]["data"][0]["code"] == "token_limit_exceeded"
        assert server.stats.batched == []


def test_an_input_file_with_faults_fails_with_their_lines():
    data = b"\n".join([line("a", "x"), b"{", line("a", "y"), b'{"custom_id": "c"}', line("d", "x", "/v1/embeddings")])
    assert [(fault["code"], fault["line"]) for fault in read_lines(data, OPENAI[1])[1]] == [
        ("invalid_json_line", 2),
        ("duplicate_custom_id", 3),
        ("missing_required_parameter", 4),
        ("mismatched_endpoint", 5),
    ]
    assert [fault["code"] for fault in read_lines(b"", OPENAI[1])[1]] == ["empty_file"]
    with FaultServer("batch_ok") as server:
        batch = ended(server, start(server, data))
        assert (batch["status"], len(batch["errors"]["data"])) == ("failed", 4)


def test_files_can_be_listed_read_and_deleted():
    with FaultServer() as server:
        name = upload(server, b"abc").json["id"]
        assert send(server, "GET", f"/v1/files/{name}/content").body == b"abc"
        assert send(server, "GET", f"/v1/files/{name}").json["bytes"] == 3
        assert [file["id"] for file in send(server, "GET", "/v1/files").json["data"]] == [name]
        assert send(server, "DELETE", f"/v1/files/{name}").json["deleted"] is True
        assert send(server, "GET", f"/v1/files/{name}").status == 404
        assert upload(server, b"abc", purpose="fine-tune").status == 400


def test_batches_are_listed_newest_first_in_pages():
    with FaultServer("batch_ok") as server:
        made = [start(server, line("a", str(i)))["id"] for i in range(3)]
        page = send(server, "GET", "/v1/batches?limit=2").json
        assert ([batch["id"] for batch in page["data"]], page["has_more"]) == ([made[2], made[1]], True)
        rest = send(server, "GET", f"/v1/batches?limit=2&after={page['last_id']}").json
        assert ([batch["id"] for batch in rest["data"]], rest["has_more"]) == ([made[0]], False)


def test_a_batch_of_a_file_that_is_not_there_is_refused():
    with FaultServer() as server:
        body = json.dumps({"input_file_id": "file-9", "endpoint": OPENAI[1]}).encode()
        assert send(server, "POST", "/v1/batches", body).status == 400
        assert send(server, "POST", "/v1/batches", b"{}").status == 400
        assert send(server, "GET", "/v1/batches/batch_9").status == 404


def test_multipart_bodies_are_taken_apart_whatever_the_bytes():
    data = b"\r\n\r\n--not the boundary\r\n\x00\xff"
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n' + data + b"\r\n--b--\r\n"
    assert multipart('multipart/form-data; boundary="b"', body) == {"file": ("x.jsonl", data)}


def test_the_sdk_of_openai_finds_its_way():
    openai = pytest.importorskip("openai", reason="needs the openai package")
    with FaultServer("batch_ok") as server:
        client = openai.OpenAI(base_url=server.url, api_key="any", max_retries=0)
        said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
        assert said.choices[0].message.content
        file = client.files.create(file=("in.jsonl", line("a", "x")), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        assert eventually(lambda: client.batches.retrieve(batch.id).status == "completed")
        output = client.batches.retrieve(batch.id).output_file_id
        assert json.loads(client.files.content(output).text)["custom_id"] == "a"
        assert [found.id for found in client.batches.list()] == [batch.id]
        assert "fault-model" in [model.id for model in client.models.list()]


def test_the_sdk_of_zhipu_finds_its_way():
    zhipuai = pytest.importorskip("zhipuai", reason="needs the zhipuai package")
    with FaultServer("batch_ok") as server:
        client = zhipuai.ZhipuAI(api_key="id.secret", base_url=server.zhipu_url, max_retries=0)
        said = client.chat.completions.create(model="glm", messages=[{"role": "user", "content": "你好"}])
        assert said.choices[0].message.content
        file = client.files.create(file=("in.jsonl", line("a", "x", ZHIPU[1])), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v4/chat/completions")
        assert eventually(lambda: client.batches.retrieve(batch.id).status == "completed")
        output = client.batches.retrieve(batch.id).output_file_id
        assert json.loads(client.files.content(output).content)["custom_id"] == "a"
