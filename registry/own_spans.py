"""Where the answers stand in one rendering of a whole conversation, or the fault that says why that cannot be told."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from registry.errors import RowFault
from registry.own_messages import Conversation

Span = tuple[int, int]  # characters of the rendering, from and up to
Render = Callable[[Conversation, int, bool], str]  # the text up to an exchange: with its answer, or asking for it


def marked_spans(text: str, begin: str, end: str) -> tuple[str, list[Span]]:
    """The text without its marks, and the stretches between them; those that touch are one.

    Raises ``RowFault`` where a mark has no partner: the template has cut its own text.
    """
    parts: list[str] = []
    spans: list[Span] = []
    size = depth = start = 0
    for part in re.split(f"({begin}|{end})", text):
        if part == begin:
            start = start if depth else size
            depth += 1
        elif part == end:
            depth -= 1
            if depth < 0:
                break
            if not depth and size > start:
                spans.append((start, size))
        else:
            parts.append(part)
            size += len(part)
    if depth:
        raise RowFault("messages", "the tokenizer's chat template cuts its own {% generation %} marks in two")
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1][1] == span[0]:
            joined[-1] = (joined[-1][0], span[1])
        else:
            joined.append(span)
    return "".join(parts), joined


def last_span(whole: str, asked: str) -> Span:
    """The last answer: what ``whole`` has beyond its prompt. Raises ``RowFault`` where it does not begin with that."""
    if not whole.startswith(asked):
        raise RowFault(
            "messages",
            "the tokenizer's chat template spells the last answer behind another prompt than the one it asks with, "
            "so what is trained cannot be told",
        )
    return len(asked), len(whole)


def compared_spans(render: Render, talk: Conversation, probe: str) -> tuple[str, list[Span]]:
    """The whole rendering and the span of each answer, found by comparing it with shorter conversations.

    An answer is what the text gains from the prompt that asks for it up to where the conversation with it ends. Where
    the template rewrites earlier turns (leaves out their thoughts), the joints are found in the same conversation with
    probes for answers and carried over. Raises ``RowFault`` with the turn where neither can be trusted.
    """
    count = len(talk.exchanges)
    whole = render(talk, count - 1, True)
    spans, trusted = _grown(render, talk, whole, "")
    if trusted == count:
        return whole, spans
    fault = RowFault(
        "messages",
        f"turn {2 * trusted}: the tokenizer's chat template rewrites earlier turns, so what is trained cannot be told",
    )
    if count == 1:
        raise fault
    plain = talk.with_probes(probe)
    skeleton = render(plain, count - 1, True)
    joints, trusted = _grown(render, plain, skeleton, probe)
    carried = _carried(skeleton, joints, whole) if trusted == count else None
    # The prompt of the last answer is looked at again with the true answers before it.
    if carried is None or carried[-1] != last_span(whole, render(talk, count - 1, False)):
        raise fault
    return whole, carried


def _grown(render: Render, talk: Conversation, whole: str, probe: str) -> tuple[list[Span], int]:
    """The spans of the answers as the conversation grows, and how many of its exchanges ``whole`` agrees with."""
    spans: list[Span] = []
    done, last = 0, len(talk.exchanges) - 1
    for number in range(last + 1):
        asked = render(talk, number, False)
        answered = whole if number == last else render(talk, number, True)
        mark = f"{probe}{number}{probe}" if probe and "tool_calls" not in talk.exchanges[number].answer else ""
        if mark and number < last:
            span = _probed(asked, answered, whole, mark)
        else:
            span = (len(asked), len(answered)) if whole.startswith(asked) and whole.startswith(answered) else None
        if span is None or not done <= span[0] <= span[1]:
            return spans, number
        spans.append(span)
        done = span[1]
    return spans, last + 1


def _probed(asked: str, answered: str, whole: str, mark: str) -> Span | None:
    """The span of an earlier answer that is ``mark``. What only the newest turn has in front of its answer (an empty
    thought) is not in ``whole``: the answer then begins at the mark, if up to there prompt and ``whole`` are the same."""
    at = whole.find(mark)
    closing = answered.partition(mark)[2]
    if at < 0 or not whole.startswith(closing, at + len(mark)):
        return None
    end = at + len(mark) + len(closing)
    if whole.startswith(asked):
        return len(asked), end
    return (at, end) if asked[:at] == whole[:at] else None


def _carried(skeleton: str, joints: Sequence[Span], whole: str) -> list[Span] | None:
    """The spans of ``whole``, whose text between the answers is that of ``skeleton``; None where it may lie in several
    places: found from the front and from the back, it must be at the same ones."""
    ends = [0, *(end for _, end in joints)]
    between = [skeleton[end:start] for end, (start, _) in zip(ends, joints, strict=False)]
    front: list[int] = []
    at = 0
    for text in between:
        found = whole.find(text, at)
        if found < 0 or not text:
            return None
        front.append(found)
        at = found + len(text)
    back: list[int] = []
    at = len(whole)
    for text in reversed(between):
        found = whole.rfind(text, 0, at)
        back.append(found)
        at = found
    if front != back[::-1] or front[0] != 0:
        return None
    starts = [found + len(text) for found, text in zip(front, between, strict=True)]
    return list(zip(starts, [*front[1:], len(whole)], strict=True))
