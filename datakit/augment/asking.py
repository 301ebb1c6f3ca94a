"""One call of a recipe, from its prompt to the value in its answer: more room once, corrected once, then given up."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from datakit.augment.answer import Answer, Stored
from datakit.augment.failures import CallFailed, Kind
from datakit.augment.outputs import OUTPUTS, Unparsable, corrective
from datakit.augment.providers import read_body
from datakit.augment.request import Request
from datakit.augment.rollout import Call, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from datakit.augment.shaping import Messages, Shaping

# Yields requests, gets what the store then has for them; a failure is thrown in.
Asking = Generator[Request, Stored, Reply]


def asking(
    call: Call,
    shaping: Shaping,
    note: Callable[[str], None],
    held: Callable[[Request], bool] = lambda request: False,
) -> Asking:
    """Ask for ``call`` until there is a value or no more sense in it. Raises ``CallFailed``.

    ``held`` tells whether the store has an answer: of those that came before a server turned out not to take a
    parameter, none is asked for again in another form.

    An answer that was cut off by our own limit is asked for once more with more room; the longer one counts, cut off or
    not. One that cannot be read is sent back once, with what is wrong with it.
    """
    output = OUTPUTS[call.output]
    messages = call.prompt.render(call.values)
    request, answer = yield from _ask(call, messages, shaping, held)
    if answer.finish == "length" and shaping.has_room(request):
        note("more room")
        request, answer = yield from _ask(call, messages, shaping, held, more_room=True)
    if answer.finish == "length":
        note("cut off")
    try:
        value, mended = output.read(answer, call.expects)
    except Unparsable as fault:
        note("corrected")
        again = corrective(messages, answer.text, str(fault), call.output)
        request, answer = yield from _ask(call, again, shaping, held, more_room=answer.finish == "length")
        try:
            value, mended = output.read(answer, call.expects)
        except Unparsable as still:
            raise CallFailed(
                Kind.UNPARSABLE, f"asked for twice, and still: {still}", code=request.key, body=answer.text.encode()
            ) from None
    if mended:
        note("mended")
    return Reply(call, value, answer, request.key)


def _ask(
    call: Call,
    messages: Messages,
    shaping: Shaping,
    held: Callable[[Request], bool],
    *,
    more_room: bool = False,
) -> Generator[Request, Stored, tuple[Request, Answer]]:
    """One request, shaped anew where the server does not take a parameter of it."""
    schema = OUTPUTS[call.output].schema
    how: dict[str, Any] = {"sample": call.sample, "more_room": more_room, "sampling": call.sampling}
    for request in shaping.earlier(call.prompt, messages, schema, **how):
        if held(request):
            stored = yield request
            return request, read_body(stored.body)
    while True:
        request = shaping.request(call.prompt, messages, schema, **how)
        try:
            stored = yield request
        except CallFailed as failure:
            reshaped = shaping.request(call.prompt, messages, schema, **how)
            # Where another call met the refusal first, what was learnt of it serves this one too.
            if reshaped.key == request.key and not shaping.adapts(request, failure):
                raise
            if failure.kind is not Kind.REFUSED:
                raise
            continue
        shaping.answered = True
        return request, read_body(stored.body)
