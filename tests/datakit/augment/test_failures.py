"""What servers say when they do not answer, word for word, and what is done about it."""

from __future__ import annotations

import email.utils
import time

import pytest

from datakit.augment.failures import (
    AGAIN,
    FATAL,
    FOR_GOOD,
    CallFailed,
    Kind,
    error_in,
    failure_of_response,
    seconds_in_words,
    seconds_to_wait,
    unwelcome_parameter,
)

OPENAI_QUOTA = b"""{"error": {"message": "You exceeded your current quota, please check your plan and billing details.",
    "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}"""
OPENAI_RATE = b"""{"error": {"message": "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM):
    Limit 30000, Used 29000, Requested 2000. Please try again in 2s. Visit https://platform.openai.com/account/rate-limits
    to learn more.", "type": "tokens", "param": null, "code": "rate_limit_exceeded"}}""".replace(b"\n    ", b" ")
FREE_TIER_RATE = b"""{"error": {"message": "Rate limit reached for m1 on requests per min. Limit: 3 / min. Please try again
    in 20s. Please add a payment method: https://platform.openai.com/account/billing", "type": "requests",
    "code": null}}""".replace(b"\n    ", b" ")
AZURE_RATE = b"""{"error": {"code": "429", "message": "Requests to the ChatCompletions_Create Operation under Azure OpenAI API
    have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 55 seconds."}}""".replace(
    b"\n    ", b" "
)
AZURE_KEY = b'{"statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, or expired."}'
AZURE_FILTER = b"""{"error": {"code": "content_filter", "message": "The response was filtered due to the prompt triggering a
    policy.", "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}""".replace(b"\n    ", b" ")
GEMINI_RATE = b"""[{"error": {"code": 429, "message": "You exceeded your current quota, please check your plan and billing
    details. * Quota exceeded for metric: generate_content_free_tier_requests, limit: 10. Please retry in 34.07s.",
    "status": "RESOURCE_EXHAUSTED"}}]""".replace(b"\n    ", b" ")
GEMINI_KEY = b'[{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}]'
DEEPSEEK_BALANCE = b'{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}'
VLLM_TOO_LONG = b"""{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested
    5000 tokens.","type":"BadRequestError","param":null,"code":400}""".replace(b"\n    ", b" ")
DASHSCOPE_ARREARS = b'{"code":"Arrearage","message":"Access denied, account is not in good standing.","request_id":"1"}'
DASHSCOPE_RATE = b'{"code":"Throttling.RateQuota","message":"Requests rate limit exceeded, please try again later."}'
SILICON_BALANCE = b'{"code":30001,"message":"Sorry, your account balance is insufficient","data":null}'
MOONSHOT_QUOTA = b"""{"error":{"message":"Your account is not active, exceeded current quota, please check your plan",
    "type":"exceeded_current_quota_error"}}"""
FASTAPI = b'{"detail":[{"loc":["body","messages"],"msg":"field required","type":"value_error.missing"}]}'
NGINX = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1>nginx</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "reason"),
    [
        (429, OPENAI_QUOTA, Kind.QUOTA, "insufficient_quota", "You exceeded your current quota"),
        (429, OPENAI_RATE, Kind.RATE_LIMIT, "rate_limit_exceeded", "Rate limit reached"),
        (429, FREE_TIER_RATE, Kind.RATE_LIMIT, "requests", "Rate limit reached"),
        (429, AZURE_RATE, Kind.RATE_LIMIT, "429", "Requests to the ChatCompletions"),
        (401, AZURE_KEY, Kind.KEY, "401", "Unauthorized."),
        (400, AZURE_FILTER, Kind.REFUSED, "content_filter", "The response was filtered"),
        (429, GEMINI_RATE, Kind.RATE_LIMIT, "429", "You exceeded your current quota"),
        (400, GEMINI_KEY, Kind.KEY, "400", "API key not valid"),
        (402, DEEPSEEK_BALANCE, Kind.QUOTA, "invalid_request_error", "Insufficient Balance"),
        (400, VLLM_TOO_LONG, Kind.REFUSED, "400", "This model's maximum context length"),
        (400, DASHSCOPE_ARREARS, Kind.QUOTA, "Arrearage", "Access denied"),
        (429, DASHSCOPE_RATE, Kind.RATE_LIMIT, "Throttling.RateQuota", "Requests rate limit exceeded"),
        (403, SILICON_BALANCE, Kind.QUOTA, "30001", "Sorry, your account balance"),
        (429, MOONSHOT_QUOTA, Kind.QUOTA, "exceeded_current_quota_error", "Your account is not active"),
        (403, b'{"error":{"message":"Country not supported"}}', Kind.REFUSED, "403", "Country not supported"),
        (422, FASTAPI, Kind.REFUSED, "422", '[{"loc":["body","messages"]'),
        (404, b"404 page not found", Kind.REFUSED, "404", "404 page not found"),
        (404, b'{"error":"model \\"m\\" not found, try pulling it first"}', Kind.REFUSED, "404", 'model "m" not found'),
        (502, NGINX, Kind.SERVER, "502", "502 Bad Gateway 502 Bad Gateway nginx"),
        (504, NGINX, Kind.TIMEOUT, "504", "502 Bad Gateway"),
        (524, b"", Kind.TIMEOUT, "524", "HTTP 524"),
        (529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', Kind.SERVER,
         "overloaded_error", "Overloaded"),
        (409, b"", Kind.SERVER, "409", "HTTP 409"),
        (302, b"", Kind.SERVER, "302", "HTTP 302"),
        (500, b"\xff\xfe\x00", Kind.SERVER, "500", ""),
        (500, b"[]", Kind.SERVER, "500", "[]"),
        (500, b'{"error": null}', Kind.SERVER, "500", '{"error": null}'),
        (429, b"", Kind.RATE_LIMIT, "429", "HTTP 429"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value)[:24],
)  # fmt: skip
def test_each_servers_words_are_taken_for_what_they_mean(status: int, body: bytes, kind: Kind, code: str, reason: str):
    failure = failure_of_response(status, {}, body)
    assert (failure.kind, failure.code, failure.status) == (kind, code, status)
    assert failure.reason.startswith(reason)
    assert failure.body == body


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        (("1113", "1304", "1308", "1309", "1310"), Kind.QUOTA),
        (("1302", "1303", "1305", "1312"), Kind.RATE_LIMIT),
        (("1301", "1300", "1261", "1210", "1211", "1214", "1220"), Kind.REFUSED),
        (("1000", "1001", "1002", "1003", "1004", "1110", "1112"), Kind.KEY),
        (("500", "1230", "1234"), Kind.SERVER),
    ],
)
def test_zhipus_codes_count_more_than_the_status_and_only_at_zhipu(codes: tuple[str, ...], kind: Kind):
    for code in codes:
        body = f'{{"error":{{"code":"{code}","message":"说明"}}}}'.encode()
        assert failure_of_response(429, {}, body, zhipu=True).kind is kind
        assert failure_of_response(429, {}, body).kind is Kind.RATE_LIMIT


def test_every_kind_is_of_one_class_only():
    classes = [AGAIN, FOR_GOOD, FATAL, {Kind.RATE_LIMIT}, {Kind.STOPPED}]
    assert sum(map(len, classes)) == len(Kind)
    assert set().union(*classes) == set(Kind)


def test_a_failure_tells_its_kind_its_code_and_its_reason_once():
    assert str(CallFailed(Kind.REFUSED, "No.", code="1301")) == "refused 1301: No."
    assert str(CallFailed(Kind.SERVER, "error 500", code="500")) == "server fault: error 500"
    assert str(CallFailed(Kind.TIMEOUT, "")) == "timeout"
    assert len(CallFailed(Kind.REFUSED, "x" * 5000).reason) == 300


# ---- when to come back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, 3600.0),
        ({"retry-after": "99999"}, 3600.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None):
    assert seconds_to_wait(headers) == seconds


def test_retry_after_as_a_date_is_counted_from_now():
    waits = seconds_to_wait({"retry-after": email.utils.formatdate(time.time() + 30, usegmt=True)})
    assert waits is not None
    assert 27 < waits <= 31


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please try again in 6s. Visit", 6.0),
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 1m12.5s.", 72.5),
        ("Please retry after 55 seconds.", 55.0),
        ("please try again after 1 seconds", 1.0),
        ("Please retry in 34.07s.", 34.07),
        ("try again in 2h", 3600.0),
        ("please try again later", None),
        ("retry", None),
        ("", None),
    ],
)
def test_the_time_to_come_back_is_read_in_words_too(message: str, seconds: float | None):
    assert seconds_in_words(message) == seconds


def test_a_header_counts_more_than_words_and_words_only_of_a_rate_limit():
    assert failure_of_response(429, {}, OPENAI_RATE).retry_after == 2.0
    assert failure_of_response(429, {"retry-after-ms": "300"}, OPENAI_RATE).retry_after == 0.3
    assert failure_of_response(400, {}, OPENAI_RATE).retry_after is None


# ---- parameters that a server does not take ------------------------------------------------------------------------

SENT = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 100, "response_format": {"type": "json_schema"}}


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
         "max_tokens"),
        ("'max_tokens' or 'max_completion_tokens' is too large: 40000. This model's maximum context length is 4096.", None),
        ("Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is supported.",
         "temperature"),
        ("`top_p` is not supported by this model", "top_p"),
        ("This response_format type is unavailable now", "response_format"),
        ("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.", "response_format"),
        ("guided_json is not supported", "response_format"),
        ("This prompt cannot be processed.", None),
        ("messages: field required", None),
    ],
)  # fmt: skip
def test_a_refusal_of_a_parameter_names_it(message: str, name: str | None):
    failure = failure_of_response(400, {}, f'{{"error":{{"message":"{message}"}}}}'.encode())
    assert unwelcome_parameter(failure, SENT) == name


def test_what_was_not_sent_is_not_to_blame_and_only_refusals_are_looked_at():
    body = b'{"error":{"message":"response_format is not supported"}}'
    assert unwelcome_parameter(failure_of_response(400, {}, body), {"temperature": 1}) is None
    assert unwelcome_parameter(failure_of_response(500, {}, body), SENT) is None
    assert unwelcome_parameter(failure_of_response(403, {}, body), SENT) is None


def test_an_error_is_found_wherever_servers_put_it():
    assert error_in(b'{"error":"plain"}') == ("", "plain")
    assert error_in(b'{"code":7,"msg":"m"}') == ("7", "m")
    assert error_in(b'[{"error":{"code":1,"message":"m"}}]') == ("1", "m")
    assert error_in(b'{"error":{"type":"t","message":{"a":1}}}') == ("t", '{"a":1}')
    assert error_in(b"no json") == error_in(b"7") == error_in(b'"text"') == error_in(b"[1]") == ("", "")
