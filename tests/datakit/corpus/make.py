"""Makes the corpus of files that break readers:  python -m tests.datakit.corpus.make FOLDER [--big]"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tests.datakit.corpus import arrays, columnar, delimited, lines, packed, places, rules, values
from tests.datakit.corpus.case import Case

KINDS = {
    "lines": lines.CASES,
    "arrays": arrays.CASES,
    "delimited": delimited.CASES,
    "packed": packed.CASES,
    "columnar": columnar.CASES,
    "values": values.CASES,
    "places": places.CASES,
    "rules": rules.CASES,
}
GIGABYTE = 1 << 30


def build(case: Case, folder: Path) -> None:
    """Put one case into a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    case.build(folder)


def build_big(folder: Path) -> list[Path]:
    """The files that are too large for every run of the tests: rows of a gigabyte, and columns without end."""
    row, chunk = b'{"instruction":"q","output":"a"}', b"x" * (1 << 20)
    framed = {
        "row_of_1GB.jsonl": (row + b'\n{"instruction":"', b'","output":"a"}\n' + row + b"\n"),
        "row_of_1GB.json": (b"[" + row + b',\n{"instruction":"', b'","output":"a"},\n' + row + b"]"),
        "cell_of_1GB.csv": (b"instruction,output\nq,a\n", b",a\nq,a\n"),
        "open_quote_over_1GB.csv": (b'instruction,output\nq,a\nq,"', b""),
        "line_of_1GB.txt": (b"a\n", b"\nb\n"),
        "array_nested_10000000_deep.json": (b"[" + row + b",\n", b""),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (before, after) in framed.items():
        filling = chunk if "nested" not in name else b"[" * len(chunk)
        if "open_quote" in name:
            filling = b"a line\n" * (len(chunk) // 7)
        with (folder / name).open("wb") as out:
            out.write(before)
            for _ in range(GIGABYTE // len(chunk) if "nested" not in name else 10):
                out.write(filling)
            out.write(after)
    columnar.parquet("100000_columns.parquet", lambda: columnar.wide(100_000))(folder)
    return [*(folder / name for name in framed), folder / "100000_columns.parquet"]


def main() -> None:
    """Build all cases, and print the table of what is expected of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--big", action="store_true", help="also the files of a gigabyte")
    options = parser.parse_args()
    for kind, cases in KINDS.items():
        for number, case in enumerate(cases, start=1):
            build(case, options.folder / kind / f"{number:03d}")
            print(
                f"{kind:10} {number:3d}  {os.fsencode(case.src)!r:60.60}  convert {case.convert}  validate {case.validate}"
            )
    if options.big:
        for path in build_big(options.folder / "big"):
            print(f"big  {path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
