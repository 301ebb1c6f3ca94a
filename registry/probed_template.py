"""``template: null`` under ``compat: strict``: a chat template guessed into slots, as LLaMA-Factory 0.9.5 guesses.

It renders a few messages whose text is the mark ``{{content}}``, takes what stands around it for the slots, and what a
conversation without a system message has more than one with an empty message for the default system text. Where a chat
template does anything else to its messages the guess is wrong, and nothing tells: by default it is rendered instead
(``registry.own_template``).
"""

from __future__ import annotations

from collections.abc import Callable

from registry.templates import Template

CONTENT = "{{content}}"
Render = Callable[[list[dict[str, str]], bool], str]  # messages, and whether the answer's opening is asked for


def probed_template(render: Render, prefix: str) -> Template:
    """The template that ``render`` is taken for; ``prefix`` is what the tokenizer puts before every text."""

    def message(role: str, content: str = CONTENT) -> dict[str, str]:
        return {"role": role, "content": content}

    cut = len(prefix)
    system = render([message("system")], False)[cut:]
    beside_empty = render([message("system", ""), message("user")], True)[cut:]
    user = render([message("user")], True)[cut:]
    answered = render([message("user"), message("assistant")], False)[cut + len(user) :]
    thinks = "<think>" in answered
    answer = answered.replace("<think>", "").replace("</think>", "").lstrip("\n")
    default_system = ""
    if len(user) > len(beside_empty):
        default_system = added(beside_empty, user)
        user = user[len(system.replace(CONTENT, default_system, 1)) :]
    return Template(
        name="the tokenizer's own",
        user=(user,),
        assistant=(answer,),
        system=(system,),
        observation=(user,),
        function=(answer,),
        prefix=(prefix,) if prefix else (),
        default_system=default_system,
        thinking="whole" if thinks else "",
    )


def added(short: str, long: str) -> str:
    """The characters of ``long`` that are not those of ``short`` in turn."""
    found: list[str] = []
    at = 0
    for place, letter in enumerate(long):
        if at == len(short):
            break
        if letter == short[at]:
            at += 1
        else:
            found.append(long[place])
    return "".join(found)
