"""Files and batches as OpenAI and Zhipu serve them; where a batch stands follows from the clock alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import orjson

from tests.datakit.faults import bodies
from tests.datakit.faults.asked import Reply
from tests.datakit.faults.bodies import Style
from tests.datakit.faults.rules import fingerprint
from tests.datakit.faults.scenario import BatchPlan
from tests.datakit.faults.wire import Request

MOST_REQUESTS = 50_000
Ask = Callable[[dict[str, Any], Style, str], Reply]
Response = tuple[int, bytes]


@dataclass
class File:
    """One file: uploaded (purpose batch) or made (purpose batch_output)."""

    id: str
    name: str
    purpose: str
    data: bytes
    created: int

    def spelled(self) -> dict[str, Any]:
        """The file as the API tells of it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.data),
            "created_at": self.created,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass
class Batch:
    """One batch: its lines, its plan, and the times (on the server's clock) that decide where it stands."""

    id: str
    input: str
    endpoint: str
    window: str
    metadata: Any
    style: Style
    key: str
    plan: BatchPlan
    lines: list[dict[str, Any]]
    faults: list[dict[str, Any]]
    started_s: float
    created: int
    cancelled_s: float | None = None
    files: tuple[str | None, str | None] | None = None
    counts: dict[str, int] = field(default_factory=dict)


class BatchDesk:
    """All files and batches of one server. ``ask`` gives what one request gets."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._files: dict[str, File] = {}
        self._batches: dict[str, Batch] = {}

    def handle(self, request: Request, route: str, style: Style, now: float, plan: BatchPlan) -> Response:
        """Answer one request under /files or /batches: its status and body."""
        match (request.method, *route.strip("/").split("/")):
            case ("POST", "files"):
                return self._upload(request, style)
            case ("GET", "files"):
                return 200, orjson.dumps({"object": "list", "data": [f.spelled() for f in self._files.values()]})
            case ("GET", "files", name) if name in self._files:
                return 200, orjson.dumps(self._files[name].spelled())
            case ("GET", "files", name, "content") if name in self._files:
                return 200, self._files[name].data
            case ("DELETE", "files", name) if self._files.pop(name, None):
                return 200, orjson.dumps({"id": name, "object": "file", "deleted": True})
            case ("POST", "batches"):
                return self._create(request, style, now, plan)
            case ("GET", "batches"):
                return self._list(request, now)
            case ("GET", "batches", name) if name in self._batches:
                return 200, orjson.dumps(self._spelled(self._batches[name], now))
            case ("POST", "batches", name, "cancel") if name in self._batches:
                return self._cancel(self._batches[name], now)
        return 404, bodies.error(style, 404, f"Nothing at {request.path}.")

    def _upload(self, request: Request, style: Style) -> Response:
        parts = multipart(request.headers.get("content-type", ""), request.body)
        purpose = parts.get("purpose", ("", b""))[1].decode("utf-8", "replace")
        name, data = parts.get("file", ("", b""))
        if purpose != "batch" or not name:
            return 400, bodies.error(style, 400, "A file and the purpose batch are wanted.")
        return 200, orjson.dumps(self._keep(name, "batch", data).spelled())

    def _keep(self, name: str, purpose: str, data: bytes) -> File:
        found = File(f"file-{len(self._files) + 1:06d}", name, purpose, data, int(time.time()))
        self._files[found.id] = found
        return found

    def _create(self, request: Request, style: Style, now: float, plan: BatchPlan) -> Response:
        try:
            body = orjson.loads(request.body)
            input_id, endpoint = body["input_file_id"], body["endpoint"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return 400, bodies.error(style, 400, "input_file_id and endpoint are wanted.")
        if input_id not in self._files:
            return 400, bodies.error(style, 400, f"No file {input_id}.")
        lines, faults = read_lines(self._files[input_id].data, endpoint)
        found = Batch(
            id=f"batch_{len(self._batches) + 1:06d}",
            input=input_id,
            endpoint=endpoint,
            window=body.get("completion_window") or "24h",
            metadata=body.get("metadata"),
            style=style,
            key=fingerprint(request.headers.get("authorization", "")),
            plan=plan,
            lines=lines,
            faults=faults,
            started_s=now,
            created=int(time.time()),
        )
        self._batches[found.id] = found
        return 200, orjson.dumps(self._spelled(found, now))

    def _list(self, request: Request, now: float) -> Response:
        query = parse_qs(request.query)
        limit = int(query.get("limit", ["20"])[0])
        newest = list(reversed(self._batches.values()))
        after = query.get("after", [""])[0]
        start = next((i + 1 for i, batch in enumerate(newest) if batch.id == after), 0)
        page = [self._spelled(batch, now) for batch in newest[start : start + limit]]
        more = start + limit < len(newest)
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
        return 200, orjson.dumps({"object": "list", "data": page, "has_more": more, **ends})

    def _cancel(self, batch: Batch, now: float) -> Response:
        state = self._state(batch, now)[0]
        if state not in ("validating", "in_progress", "finalizing"):
            return 409, bodies.error(batch.style, 409, f"A batch that is {state} cannot be cancelled.")
        batch.cancelled_s = now
        return 200, orjson.dumps({**self._spelled(batch, now), "status": "cancelling"})

    def _state(self, batch: Batch, now: float) -> tuple[str, float]:
        """Where a batch stands, and the share of its requests that are done."""
        plan, at = batch.plan, now if batch.cancelled_s is None else batch.cancelled_s
        since_s = at - batch.started_s - plan.validating_s
        if batch.cancelled_s is None and since_s >= 0 and (batch.faults or plan.ends == "failed"):
            return "failed", 0.0
        share = plan.done * min(1.0, max(0.0, since_s / plan.running_s if plan.running_s else float(since_s >= 0)))
        if batch.cancelled_s is not None:
            return "cancelled", share
        if since_s < 0:
            return "validating", 0.0
        if since_s < plan.running_s:
            return "in_progress", share
        return (plan.ends, plan.done) if since_s >= plan.running_s + plan.finalizing_s else ("finalizing", plan.done)

    def _spelled(self, batch: Batch, now: float) -> dict[str, Any]:
        state, share = self._state(batch, now)
        done = int(share * len(batch.lines) + 1e-9)
        counts = {"total": len(batch.lines), "completed": done, "failed": 0}
        output = errors = None
        if state in ("completed", "expired", "cancelled"):
            if batch.files is None:
                self._finish(batch, done, state)
            assert batch.files is not None
            output, errors = batch.files
            counts = batch.counts
        faults = batch.faults or [
            {"code": "token_limit_exceeded", "message": "Too many tokens are waiting.", "line": None}
        ]
        ended = {
            "completed": "completed_at",
            "expired": "expired_at",
            "cancelled": "cancelled_at",
            "failed": "failed_at",
        }
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "errors": {"object": "list", "data": faults} if state == "failed" else None,
            "input_file_id": batch.input,
            "completion_window": batch.window,
            "status": state,
            "output_file_id": output,
            "error_file_id": errors,
            "created_at": batch.created,
            "expires_at": batch.created + 86400,
            **({ended[state]: int(time.time())} if state in ended else {}),
            "request_counts": counts,
            "metadata": batch.metadata,
        }

    def _finish(self, batch: Batch, done: int, state: str) -> None:
        """Ask for the first ``done`` requests, and write the two files, their lines in another order than the input's."""
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for number, line in enumerate(batch.lines):
            spelled: dict[str, Any] = {"id": f"{batch.id}_{number}", "custom_id": line["custom_id"]}
            if number >= done:
                code = {"expired": "batch_expired", "cancelled": "batch_cancelled"}.get(state, "request_timeout")
                bad.append({**spelled, "response": None, "error": {"code": code, "message": "It was not executed."}})
                continue
            reply = self._ask(line["body"], batch.style, batch.key)
            body = _json(reply.body)
            if not reply.status or not isinstance(body, dict):
                lost = {"code": "request_timeout", "message": "The model did not answer."}
                bad.append({**spelled, "response": None, "error": lost})
                continue
            response = {"status_code": reply.status, "request_id": spelled["id"], "body": body}
            whole = {**spelled, "response": response}
            (good if reply.status < 300 else bad).append(whole if batch.style == "zhipu" else {**whole, "error": None})
        batch.counts = {"total": len(batch.lines), "completed": len(good), "failed": len(bad)}
        output, errors = (
            self._keep(
                f"{batch.id}_{what}.jsonl", "batch_output", b"".join(orjson.dumps(x) + b"\n" for x in reversed(rows))
            ).id
            if rows
            else None
            for what, rows in (("output", good), ("error", bad))
        )
        batch.files = (output, errors)


def _json(spelled: bytes) -> Any:
    try:
        return orjson.loads(spelled)
    except orjson.JSONDecodeError:
        return None


def read_lines(data: bytes, endpoint: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The requests in an input file, and its faults as the API tells them; either may be empty."""
    lines: list[dict[str, Any]] = []
    faults: list[dict[str, Any]] = []
    names: set[str] = set()

    def fault(code: str, message: str, number: int | None) -> None:
        faults.append({"code": code, "message": message, "line": number, "param": None})

    for number, spelled in enumerate(data.splitlines(), 1):
        line = _json(spelled)
        if not isinstance(line, dict):
            fault("invalid_json_line", "This line is no JSON object.", number)
        elif not isinstance(line.get("custom_id"), str) or not isinstance(line.get("body"), dict):
            fault("missing_required_parameter", "custom_id and body are wanted.", number)
        elif line["custom_id"] in names:
            fault("duplicate_custom_id", f"{line['custom_id']} was there before.", number)
        elif line.get("method") != "POST" or line.get("url") != endpoint:
            fault("mismatched_endpoint", f"The url must be {endpoint}, the method POST.", number)
        elif not isinstance(line["body"].get("messages"), list) or not line["body"]["messages"]:
            fault("invalid_request", "messages are wanted.", number)
        else:
            names.add(line["custom_id"])
            lines.append(line)
    if not lines and not faults:
        fault("empty_file", "The file has no requests.", None)
    if len(lines) > MOST_REQUESTS:
        fault("too_many_tasks", f"At most {MOST_REQUESTS} requests fit.", None)
    return lines, faults


def multipart(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """The parts of a multipart/form-data body: field → (file name or "", bytes)."""
    given = re.search(r'boundary="?([^";]+)', content_type)
    boundary = b"--" + given.group(1).encode() if given else body.split(b"\r\n", 1)[0]
    parts = {}
    for part in body.split(boundary)[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb'[; ]name="([^"]*)"', head)
        filename = re.search(rb'filename="([^"]*)"', head)
        if name:
            file = filename.group(1).decode("utf-8", "replace") if filename else ""
            parts[name.group(1).decode()] = (file, data.removesuffix(b"\r\n"))
    return parts
