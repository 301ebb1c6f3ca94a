"""The table of actions: what a server can do with one request, each a function of the request and its parameters."""

from __future__ import annotations

from collections.abc import Callable

from tests.datakit.faults import breaks, refusals, spoils
from tests.datakit.faults.asked import Reply, answer

ACTIONS: dict[str, Callable[..., Reply]] = {
    "answer": answer,
    "rate_limit": refusals.rate_limit,
    "status": refusals.status,
    "zhipu": refusals.zhipu,
    "quota": refusals.quota,
    "wrong_key": refusals.wrong_key,
    "content_filter": refusals.content_filter,
    "tell_key": refusals.tell_key,
    "hang": breaks.hang,
    "late": breaks.late,
    "drip": breaks.drip,
    "cut": breaks.cut,
    "wrong_length": breaks.wrong_length,
    "garbage": breaks.garbage,
    "html": breaks.html,
    "empty_body": breaks.empty_body,
    "cut_json": breaks.cut_json,
    "shape": breaks.shape,
    "length": spoils.length,
    "huge": spoils.huge,
    "empty": spoils.empty,
    "say": spoils.say,
    "echo": spoils.echo,
    "duplicate": spoils.duplicate,
    "refusal": spoils.refusal,
    "placeholder": spoils.placeholder,
    "wrong_language": spoils.wrong_language,
    "python": spoils.python,
    "cut_answer": spoils.cut_answer,
    "wrapped": spoils.wrapped,
    "reasoning": spoils.reasoning,
    "unparsable": spoils.unparsable,
}
