"""Llama 3's calls: JSON objects with name and parameters.

Source: https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1/#json-based-tool-calling
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from registry.tools.calls import Call, Tool, ToolFormat, ToolRules, calls_in, dumps, loads, wrapped


def prompt(tools: Sequence[Tool], rules: ToolRules) -> str:
    """The tools, and the day where one is given. LLaMA-Factory always writes the day that it is run on, so that
    the same rows give other ids tomorrow."""
    date = rules.date or (datetime.date.today().strftime("%d %b %Y") if rules.strict else "")
    today = f"Today Date: {date}\n" if date else ""
    listed = "".join(f"{dumps(wrapped(tool), indent=4)}\n\n" for tool in tools)
    return (
        f"Cutting Knowledge Date: December 2023\n{today}\nYou have access to the following functions. "
        "To call a function, please respond with JSON for a function call. Respond in the format "
        '{"name": function name, "parameters": dictionary of argument name and its value}. '
        f"Do not use variables.\n\n{listed}"
    )


def calls(calls: Sequence[Call], rules: ToolRules) -> str:
    objects = [{"name": call.name, "parameters": call.arguments} for call in calls]
    return dumps(objects[0] if len(objects) == 1 else objects)


def parse(text: str, tools: Sequence[Tool] = ()) -> list[Call] | None:
    try:
        return calls_in(loads(text), "parameters")
    except ValueError:
        return None


FORMAT = ToolFormat(prompt, calls, parse)
