"""One call through the zhipuai SDK: its business codes, in bodies of any status, by what is done about them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from datakit.augment.failures import CallFailed, Kind
from datakit.augment.providers import PROVIDERS, read_body, wire_body
from datakit.augment.providers.zhipu import ZhipuProvider
from datakit.augment.request import Request
from tests.datakit.faults.bodies import zhipu_codes
from tests.datakit.faults.server import FaultServer, key_hash

KEY = "4f5e6d7c8b9a0f1e2d3c.planted"
REQUEST = Request("z", "glm", (("user", "你好?"),), {"temperature": 1.0})


def failure_with(do: Any, timeout_s: float = 5.0) -> CallFailed:
    with FaultServer({"rules": [{"do": do}]}) as server:
        with pytest.raises(CallFailed) as raised:
            ZhipuProvider(server.zhipu_url, KEY).send(REQUEST, timeout_s)
        assert len(server.stats.requests) == 1
    return raised.value


def test_the_body_goes_out_as_it_is_and_comes_back_as_an_answer():
    with FaultServer() as server:
        sent = PROVIDERS["zhipu"](server.zhipu_url, KEY).send(REQUEST, 5)
        (seen,) = server.stats.requests
    assert seen.path == "/api/paas/v4/chat/completions"
    assert seen.key == key_hash(KEY)
    assert orjson.loads(seen.body) == wire_body(REQUEST)  # the SDK's own call would send 0.99
    assert read_body(sent.body).text


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("1113", Kind.QUOTA),
        ("1301", Kind.REFUSED),
        ("1302", Kind.RATE_LIMIT),
        ("1303", Kind.RATE_LIMIT),
        ("1304", Kind.QUOTA),
        ("1305", Kind.RATE_LIMIT),
        ("1312", Kind.RATE_LIMIT),
        ("1000", Kind.KEY),
        ("1210", Kind.REFUSED),
        ("1214", Kind.REFUSED),
        ("1261", Kind.REFUSED),
        ("1234", Kind.SERVER),
        ("500", Kind.SERVER),
    ],
)
@pytest.mark.parametrize("inside_200", [False, True], ids=["with its status", "inside 200"])
def test_codes_say_what_is_done(code: str, kind: Kind, inside_200: bool):
    failure = failure_with({"action": "zhipu", "code": code, "inside_200": inside_200})
    assert (failure.kind, failure.code) == (kind, code)
    assert failure.reason == zhipu_codes()[code]["message"]


@pytest.mark.parametrize(
    ("do", "kind"),
    [
        ("wrong_key", Kind.KEY),
        ("quota", Kind.QUOTA),
        ({"action": "content_filter", "how": "finish"}, Kind.REFUSED),
        ({"action": "html", "status": 502}, Kind.SERVER),
        ({"action": "cut", "where": "body"}, Kind.CONNECTION),
        ("cut_json", Kind.BODY),
        ("garbage", Kind.CONNECTION),
    ],
    ids=str,
)
def test_other_faults_are_as_at_any_server(do: Any, kind: Kind):
    assert failure_with(do).kind is kind


def test_silence_is_a_timeout():
    assert failure_with("hang", 0.2).kind is Kind.TIMEOUT


def test_a_key_that_the_server_repeats_is_in_nothing_of_the_failure():
    failure = failure_with({"action": "tell_key", "status": 400})
    assert "[key]" in failure.reason
    assert KEY not in str(vars(failure))
