"""Writes the table of docs/validate.md from datakit/validate/codes.yaml; with --check only tells whether it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datakit.validate.codes import all_codes

PAGE = Path(__file__).with_name("validate.md")
OPENING, CLOSING = "<!-- codes -->", "<!-- end of codes -->"


def table() -> Iterator[str]:
    """A line of Markdown for each code."""
    yield "| code | level | fault | mend | `--fix` |"
    yield "|---|---|---|---|---|"
    for code in all_codes().values():
        level = f"{code.level} ({', '.join(code.stages)})" if code.stages else code.level
        level += ", only when named" if code.opt_in else ""
        cells = (code.code, level, code.title, code.mend, "yes" if code.fixable else "")
        yield "| " + " | ".join(cell.replace("|", "&#124;") for cell in cells) + " |"


def main() -> int:
    """Write the page, or with ``--check`` compare it; 1 where it is out of date."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(OPENING)
    after = rest.split(CLOSING)[1]
    made = "\n".join((before + OPENING, *table(), CLOSING)) + after
    if "--check" in sys.argv:
        return int(made != text)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
