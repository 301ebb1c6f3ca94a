"""Files of one JSON array, or of objects one after another: a syntax fault refuses the file, with row and line."""

from __future__ import annotations

import json

from tests.datakit.corpus.case import GOOD, Case, alpaca, case, refused, rows

TWO = json.dumps([alpaca(), alpaca()])
ROW = json.dumps(alpaca())


def array_around(value: str) -> str:
    return f"[{ROW},\n{value},\n{ROW}]"


CASES: list[Case] = [
    case("empty.json", "", refused("empty")),
    case("empty_array.json", " [ ] ", refused("empty")),
    case("pretty.json", json.dumps([alpaca(), alpaca()], indent=4), rows(2, 2)),
    case("one_object.json", json.dumps(alpaca(), indent=2), rows(1, 1)),
    case("lines.json", GOOD * 2, rows(2, 2)),
    case("lines_first_broken.json", b'{"instruction":\n' + GOOD * 2, rows(3, 2, "not JSON")),
    case("objects_one_after_another.json", ROW * 3, rows(3, 3)),
    case("pretty_objects_one_after_another.json", (json.dumps(alpaca(), indent=2) + "\n") * 3, rows(3, 3)),
    case("mark.json", b"\xef\xbb\xbf" + TWO.encode(), rows(2, 2)),
    case("crlf.json", json.dumps([alpaca()], indent=2).replace("\n", "\r\n"), rows(1, 1)),
    case("utf16.json", TWO.encode("utf-16"), refused("UTF-16")),
    case("array_of_arrays.json", "[[1, 2], [3, 4]]", rows(2, 0, "this is an array")),
    case("array_of_texts.json", '["a", "b"]', rows(2, 0, "this is a string")),
    case("array_of_numbers.json", "[1, 2.5, -3e2]", rows(3, 0, "this is a number")),
    case("null_among_rows.json", array_around("null"), rows(3, 2, "this is null")),
    case("cut_between_rows.json", f"[{ROW},\n{ROW}", refused("row 2, line 2")),
    case("cut_in_a_row.json", f"[{ROW},\n{ROW[:20]}", refused("row 2, line 2")),
    case("cut_after_a_comma.json", f"[{ROW},\n", refused("row 2")),
    case("open_text.json", f'[{ROW},\n{{"instruction": "q', refused("row 2, line 2")),
    case("trailing_comma.json", f"[{ROW},]", refused("row 2, line 1")),
    case("missing_comma.json", f"[{ROW} {ROW}]", refused("comma")),
    case("comments.json", f"[\n// the first\n{ROW}]", refused("line 2")),
    case("single_quotes.json", "[{'instruction': 'q', 'output': 'a'}]", refused("row 1, line 1")),
    case(
        "nan.json", array_around('{"instruction": "q", "output": "a", "n": NaN}'), refused("NaN is not a JSON number")
    ),
    case("text_after_the_array.json", TWO + "\nthe end", refused("more text after")),
    case("two_arrays.json", TWO + "\n" + TWO, refused("more text after")),
    case("scalar.json", "42", rows(1, 0, "this is a number")),
    case("text.json", '"just a text"', rows(1, 0, "this is a string")),
    case("prose.json", "Not found", rows(1, 0, "not JSON")),
    case("latin1.json", array_around('{"instruction": "é", "output": "a"}').encode("latin-1"), rows(3, 2, "UTF-8")),
    case("nested_1000_deep.json", array_around(f'{{"a": {"[" * 1000}{"]" * 1000}}}'), rows(3, 2, "deep")),
    case("nested_100000_deep.json", array_around(f'{{"a": {"[" * 100_000}{"]" * 100_000}}}'), rows(3, 2, "deep")),
    case("never_closed_100000_deep.json", f'[{ROW}, {{"a": {"[" * 100_000}', refused("in the middle of a row")),
    case("beyond_all_fractions.json", array_around('{"n": 1e999, "s": "}]\\""}'), rows(3, 2, "too large")),
    case("thousands_of_digits.json", array_around('{"n": ' + "9" * 5000 + "}"), rows(3, 2, "too large")),
    case("bare_number_beyond_all.json", array_around("-1e999"), rows(3, 2, "too large")),
    case("lone_surrogate.json", array_around(r'{"instruction": "\ud83d", "output": "a"}'), rows(3, 3), rows(3, 2)),
    case(
        "row_beyond_the_limit.json",
        array_around(json.dumps(alpaca('\\"}]' * 200_000))),
        rows(3, 2, "more than 300,000"),
        limits={"ROW_LIMIT": 300_000, "CHUNK": 1 << 14},
    ),
    case(
        "open_text_beyond_the_limit.json",
        f'[{ROW},\n{{"instruction": "{"x" * 600_000}',
        refused("in the middle of a row"),
        limits={"ROW_LIMIT": 300_000, "CHUNK": 1 << 14},
    ),
    case(
        "100000_keys.json",
        json.dumps([{**alpaca(), **{f"k{i}": i for i in range(100_000)}}]),
        rows(1, 1),
    ),
    case("a_dictionary_of_rows.json", json.dumps({"rows": [alpaca(), alpaca()]}), rows(1, 1), refused("rows")),
]
