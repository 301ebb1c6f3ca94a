"""JSON lines that break readers: each bad line may cost its own row and no other."""

from __future__ import annotations

import json

from tests.datakit.corpus.case import GOOD, Case, alpaca, case, jsonl, refused, rows

LOST = rows(3, 2, "not JSON")


def around(bad: bytes | str) -> bytes:
    """A line between two good rows."""
    return GOOD + (bad.encode() if isinstance(bad, str) else bad) + b"\n" + GOOD


def nested(depth: int) -> str:
    return '{"instruction":"q","output":"a","x":' + "[" * depth + "]" * depth + "}"


CASES: list[Case] = [
    # --- nothing in it
    case("empty.jsonl", b"", refused("empty")),
    case("blank_lines_only.jsonl", b"\n  \n\t\r\n\n", refused("empty")),
    case("mark_only.jsonl", b"\xef\xbb\xbf", refused("empty")),
    # --- bytes that are no UTF-8
    case("utf16.jsonl", GOOD.decode().encode("utf-16"), refused("UTF-16")),
    case("utf16_be_unmarked.jsonl", GOOD.decode().encode("utf-16-be"), refused("UTF-16")),
    case("utf16_le_unmarked.jsonl", GOOD.decode().encode("utf-16-le"), refused("UTF-16")),
    case("utf32.jsonl", GOOD.decode().encode("utf-32"), refused("UTF-32")),
    case("utf32_unmarked.jsonl", GOOD.decode().encode("utf-32-le"), refused("UTF-32")),
    case("latin1.jsonl", around('{"instruction":"caf\xe9","output":"a"}'.encode("latin-1")), rows(3, 2, "UTF-8")),
    case(
        "mixed_encodings.jsonl",
        around("\n".join(('{"instruction":"й","output":"a"}',) * 2)).replace("й".encode(), "й".encode("cp1251"), 1),
        rows(4, 3, "UTF-8"),
    ),
    case("utf8_cut_in_a_character.jsonl", around(b'{"instruction":"\xe4\xbd","output":"a"}'), rows(3, 2, "UTF-8")),
    case("overlong_utf8.jsonl", around(b'{"instruction":"\xc0\xaf","output":"a"}'), rows(3, 2, "UTF-8")),
    case("surrogate_bytes.jsonl", around(b'{"instruction":"\xed\xa0\x80","output":"a"}'), rows(3, 2, "UTF-8")),
    case("nul_in_a_text.jsonl", around(b'{"instruction":"a\x00b","output":"a"}'), LOST),
    case("nul_at_the_end.jsonl", GOOD + b"\x00" * 4096, rows(2, 1, "not JSON")),
    # --- ends of lines
    case("crlf.jsonl", GOOD.replace(b"\n", b"\r\n") * 2, rows(2, 2)),
    case("cr_only.jsonl", GOOD.replace(b"\n", b"\r") * 3, rows(3, 3)),
    case("no_last_line_end.jsonl", (GOOD * 2).rstrip(), rows(2, 2)),
    case("unicode_line_ends.jsonl", around('{"instruction":"a\u2028b\u2029c\u0085d","output":"a"}'), rows(3, 3)),
    case("mark.jsonl", b"\xef\xbb\xbf" + GOOD * 2, rows(2, 2), to_json=(alpaca(), alpaca())),
    case("mark_in_the_middle.jsonl", around(b"\xef\xbb\xbf" + GOOD.strip()), rows(3, 2, "byte order mark")),
    case("blank_lines_between.jsonl", GOOD + b"\n \n" + GOOD + b"\n", rows(2, 2)),
    # --- almost JSON
    case("nan.jsonl", around('{"instruction":"q","output":"a","score":NaN}'), LOST),
    case("infinity.jsonl", around('{"instruction":"q","output":"a","score":-Infinity}'), LOST),
    case("trailing_comma.jsonl", around('{"instruction":"q","output":"a",}'), LOST),
    case("comma_after_each_row.jsonl", b"".join([GOOD.replace(b"}", b"},")] * 3), rows(3, 0, "not JSON")),
    case("comment.jsonl", around("// a comment"), LOST),
    case("comment_in_a_row.jsonl", around('{"instruction":"q" /* why */,"output":"a"}'), LOST),
    case("single_quotes.jsonl", around("{'instruction': 'q', 'output': 'a'}"), LOST),
    case("python_literals.jsonl", around('{"instruction": None, "output": True}'), LOST),
    case("unquoted_keys.jsonl", around('{instruction: "q", output: "a"}'), LOST),
    case("tab_in_a_text.jsonl", around('{"instruction":"a\tb","output":"a"}'), LOST),
    case("bad_escape.jsonl", around(r'{"instruction":"C:\dir","output":"a"}'), LOST),
    case("cut_in_the_middle.jsonl", GOOD + b'{"instruction":"q","out', rows(2, 1, "in the middle")),
    case("first_line_cut.jsonl", b'ion":"q","output":"a"}\n' + GOOD * 2, LOST),
    case("plain_prose.jsonl", b"Dear colleague,\nthe rows follow.\n", rows(2, 0, "not JSON")),
    case("one_colon.jsonl", b":", rows(1, 0, "not JSON")),
    case("one_quote.jsonl", b'"', rows(1, 0, "not JSON")),
    # --- JSON, but no row
    case("scalars.jsonl", jsonl(1, '"text"', "null", "true", "1.5"), rows(5, 0, "must be a JSON object")),
    case("one_array_among_rows.jsonl", around("[1, 2]"), rows(3, 2, "this is an array")),
    case("arrays_only.jsonl", b'[{"a": 1}]\n[{"a": 2}]\n', rows(2, 0, "this is an array")),
    case("empty_objects.jsonl", around("{}"), rows(3, 3), rows(3, 2)),
    # --- several in a line, one over several lines
    case("two_in_a_line.jsonl", around(GOOD.strip() * 2), LOST),
    case("all_in_a_line.jsonl", GOOD.strip() * 3, rows(3, 3)),
    case("pretty_printed.jsonl", (json.dumps(alpaca(), indent=2) + "\n") * 2, rows(2, 2)),
    case("array.jsonl", json.dumps([alpaca()] * 2), rows(2, 2)),
    # --- numbers
    case(
        "big_whole_numbers.jsonl",
        jsonl(alpaca(n=2**63), alpaca(n=-(2**64)), alpaca(n=10**400)),
        rows(3, 3),
        to_json=(alpaca(n=2**63), alpaca(n=-(2**64)), alpaca(n=10**400)),
    ),
    case("thousands_of_digits.jsonl", around('{"instruction":"q","output":"a","n":' + "9" * 5000 + "}"), LOST),
    case("beyond_all_fractions.jsonl", around('{"instruction":"q","output":"a","n":1e999}'), LOST),
    case(
        "odd_numbers.jsonl",
        jsonl('{"instruction":"q","output":"a","n":[-0,-0.0,1E+2,5e-324,0.1,1e15,123456789012345678]}'),
        rows(1, 1),
        to_json=({"instruction": "q", "output": "a", "n": [0, -0.0, 100.0, 5e-324, 0.1, 1e15, 123456789012345678]},),
    ),
    case("leading_zero.jsonl", around('{"instruction":"q","output":"a","n":007}'), LOST),
    # --- depth, length, width
    case("nested_100_deep.jsonl", around(nested(100)), rows(3, 3)),
    case("nested_1000_deep.jsonl", around(nested(1000)), rows(3, 2, "deep")),
    case("nested_100000_deep.jsonl", around(nested(100_000)), rows(3, 2, "deep")),
    case("objects_nested_100000_deep.jsonl", around('{"a":' * 100_000 + "1" + "}" * 100_000), rows(3, 2, "deep")),
    case("never_closed_100000_deep.jsonl", around('{"instruction":' + "[" * 100_000), rows(3, 2)),
    case("100000_keys.jsonl", jsonl({**alpaca(), **{f"k{i}": i for i in range(100_000)}}), rows(1, 1)),
    case("long_text.jsonl", jsonl(alpaca("x" * 5_000_000), alpaca()), rows(2, 2)),
    case(
        "line_beyond_the_limit.jsonl",
        around(json.dumps(alpaca("x" * 600_000))),
        rows(3, 2, "more than 300,000"),
        limits={"ROW_LIMIT": 300_000},
    ),
    case(
        "last_line_beyond_the_limit.jsonl",
        GOOD + b'{"a": "' + b"x" * 600_000,
        rows(2, 1, "more than 300,000"),
        limits={"ROW_LIMIT": 300_000},
    ),
    # --- odd, and all right
    case("duplicate_keys.jsonl", around('{"instruction":"q","output":"a","output":"b"}'), rows(3, 3), rows(3, 2)),
    case("empty_key.jsonl", jsonl(alpaca(**{"": 1})), rows(1, 1), to_json=(alpaca(**{"": 1}),)),
    case("keys_with_dots.jsonl", jsonl(alpaca(**{"a.b": 1, "a": {"b": 2}})), rows(1, 1)),
    case("escaped_nul.jsonl", jsonl(alpaca("a\x00b")), rows(1, 1)),
    case("lone_surrogate.jsonl", around(r'{"instruction":"\ud83d","output":"a"}'), rows(3, 2)),
    case("emoji_as_escapes.jsonl", jsonl(r'{"instruction":"\ud83d\ude00","output":"a"}'), rows(1, 1)),
    case("rows_of_many_shapes.jsonl", jsonl(alpaca(), {"text": "b"}, {"messages": []}), rows(3, 3), rows(3, 1)),
]
