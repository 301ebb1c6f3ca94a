"""Rows that can be read and teach the wrong thing: one case for each rule of validate."""

from __future__ import annotations

import json
from typing import Any

from tests.datakit.corpus.case import Case, alpaca, case, jsonl, rows

TOOLS = json.dumps([{"name": "weather", "description": "", "parameters": {"type": "object", "properties": {}}}])
CALL = json.dumps({"name": "weather", "arguments": {}})
PAIR = {"instruction": "q", "chosen": "a", "rejected": "b"}
JUDGED = {"instruction": "q", "output": "a", "kto_tag": True}


def turns(*pairs: tuple[str, Any], **more: Any) -> dict[str, Any]:
    """A row of from/value turns."""
    return {"conversations": [{"from": role, "value": value} for role, value in pairs], **more}


def messages(*pairs: tuple[str, Any], **more: Any) -> dict[str, Any]:
    """A row of role/content turns."""
    return {"messages": [{"role": role, "content": content} for role, content in pairs], **more}


SG = turns(("human", "q"), ("gpt", "a"))
OA = messages(("user", "q"), ("assistant", "a"))


def error(name: str, code: str, bad: Any, good: Any = None) -> Case:
    """A row that has to be rejected under ``code``, between two good ones."""
    return _between(name, bad, good or alpaca(), rows(3, 2, code))


def warning(name: str, code: str, bad: Any, good: Any = None) -> Case:
    """A row that is kept and told of under ``code``, between two good ones."""
    return _between(name, bad, good or alpaca(), rows(3, 3, code))


def _between(name: str, bad: Any, good: Any, expect: Any) -> Case:
    return case(f"{name}.jsonl", jsonl(good, bad, good), rows(3, 3), expect)


CASES: list[Case] = [
    # --- side by side
    error("no_answer_field", "AL001", {"instruction": "q"}),
    error("answer_is_a_number", "AL002", alpaca(42)),
    error("answer_is_null", "AL001", alpaca(None)),
    error("answer_is_a_list", "AL002", alpaca(["a"])),
    error("empty_question", "AL003", alpaca() | {"instruction": " \n"}),
    error("empty_answer", "AL004", alpaca("")),
    error("blank_answer", "AL004", alpaca(" \u3000\n")),
    error("history_is_text", "AL005", alpaca(history="before")),
    error("history_of_three", "AL006", alpaca(history=[["q", "a", "b"]])),
    error("history_with_an_empty_answer", "AL008", alpaca(history=[["q", ""]])),
    # --- turns
    error("turns_are_text", "SG002", {"conversations": "hello"}, SG),
    error("no_turns", "SG003", {"conversations": []}, SG),
    error("turn_is_text", "SG004", {"conversations": ["q", "a"]}, SG),
    error("turn_without_role", "SG005", {"conversations": [{"value": "q"}, {"from": "gpt", "value": "a"}]}, SG),
    error("role_by_another_name", "SG006", turns(("user", "q"), ("assistant", "a")), SG),
    error("unknown_role", "SG007", turns(("human", "q"), ("parrot", "a")), SG),
    error("two_questions", "SG008", turns(("human", "q"), ("human", "q"), ("gpt", "a")), SG),
    error("answer_first", "SG008", turns(("gpt", "a"), ("human", "q")), SG),
    error("ends_with_a_question", "SG009", turns(("human", "q"), ("gpt", "a"), ("human", "q")), SG),
    error("system_in_the_middle", "SG010", turns(("human", "q"), ("gpt", "a"), ("system", "s"), ("gpt", "a")), SG),
    error("turn_without_text", "SG012", {"conversations": [{"from": "human"}, {"from": "gpt", "value": "a"}]}, SG),
    error("turn_is_a_number", "SG013", turns(("human", 42), ("gpt", "a")), SG),
    error(
        "mixed_keys",
        "SG014",
        {"conversations": [{"from": "human", "value": "q"}, {"role": "assistant", "content": "a"}]},
        SG,
    ),
    warning(
        "both_keys",
        "SG015",
        {"conversations": [{"from": "human", "value": "q", "role": "user"}, {"from": "gpt", "value": "a"}]},
        SG,
    ),
    error("empty_turn_of_the_user", "SG016", turns(("human", ""), ("gpt", "a")), SG),
    error("empty_turn_of_the_model", "SG017", turns(("human", "q"), ("gpt", "")), SG),
    error("empty_assistant", "OA017", messages(("user", "q"), ("assistant", "")), OA),
    error("two_assistants", "OA008", messages(("user", "q"), ("assistant", "a"), ("assistant", "a")), OA),
    error("system_not_text", "SG018", turns(("human", "q"), ("gpt", "a"), system=7), SG),
    # --- tools
    error("tools_not_json", "TL001", turns(("human", "q"), ("gpt", "a"), tools="[{"), SG),
    error("tool_without_a_name", "TL003", turns(("human", "q"), ("gpt", "a"), tools='[{"description": "d"}]'), SG),
    error(
        "call_not_json",
        "TL004",
        turns(("human", "q"), ("function_call", "weather()"), ("observation", "sun"), ("gpt", "a"), tools=TOOLS),
        SG,
    ),
    warning(
        "call_of_no_such_tool",
        "TL006",
        turns(
            ("human", "q"),
            ("function_call", CALL.replace("weather", "wether")),
            ("observation", "sun"),
            ("gpt", "a"),
            tools=TOOLS,
        ),
        SG,
    ),
    warning("call_without_tools", "TL007", turns(("human", "q"), ("function_call", CALL)), SG),
    # --- pairs and judgements
    error("no_rejected", "PF001", {"instruction": "q", "chosen": "a"}, PAIR),
    error("empty_rejected", "PF004", PAIR | {"rejected": ""}, PAIR),
    error("chosen_equals_rejected", "PF005", PAIR | {"rejected": "a"}, PAIR),
    error("no_judgement", "KT001", {"instruction": "q", "output": "a"}, JUDGED),
    error("judgement_as_text", "KT002", JUDGED | {"kto_tag": "true"}, JUDGED),
    error("judgement_as_a_number", "KT003", JUDGED | {"kto_tag": 7}, JUDGED),
    error("empty_text", "TX003", {"text": " "}, {"text": "t"}),
    error("text_is_a_number", "TX002", {"text": 7}, {"text": "t"}),
    # --- what stands in the texts
    warning("placeholder", "PL001", alpaca("Dear {{customer_name}}, …")),
    warning("control_characters", "CH001", alpaca("a\x07\x1b[0m")),
    warning("replacement_character", "CH002", alpaca("caf\ufffd")),
    warning("mojibake", "CH004", alpaca("caf\u00c3\u00a9 cr\u00c3\u00a8me")),
    warning("refusal", "RF001", alpaca("I'm sorry, but I can't assist with that request.")),
    warning("secret", "SC001", alpaca("Use AKIA" + "Q3EGRZ7WNTB5K2PD with care.")),
    warning("private_key", "SC015", alpaca("-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7v3Zc9\n" * 8)),
    warning("e_mail_address", "PD001", alpaca("Write to maria.lindqvist@nordlicht-verlag.se about it.")),
    # --- across rows, and of the file
    case(
        "same_id_twice.jsonl", jsonl(*(alpaca(f"a{i}", id="row-1") for i in range(2))), rows(2, 2), rows(2, 2, "RD007")
    ),
    case(
        "key_twice.jsonl",
        jsonl(alpaca(), '{"instruction":"q","output":"a","output":"b"}'),
        rows(2, 2),
        rows(2, 1, "RD006"),
    ),
    case("crlf_told.jsonl", jsonl(alpaca()).replace(b"\n", b"\r\n") * 2, rows(2, 2), rows(2, 2, "RD008")),
    case("mark_told.jsonl", b"\xef\xbb\xbf" + jsonl(alpaca()), rows(1, 1), rows(1, 1, "RD009")),
]
