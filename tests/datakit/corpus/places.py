"""Names, folders, links and things that are no files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.datakit.corpus.case import GOOD, Build, Case, case, refused, rows


def files(**contents: bytes) -> Build:
    """Files by name; ``__`` in a name is a dot, ``___`` a slash."""

    def build(folder: Path) -> None:
        for name, content in contents.items():
            path = folder / name.replace("___", "/").replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return build


def linked(name: str, target: str) -> Build:
    return lambda folder: (folder / name).symlink_to(target)


def made(name: str, make: Callable[[Path], object]) -> Build:
    def build(folder: Path) -> None:
        make(folder / name)

    return build


def loop_of_folders(folder: Path) -> None:
    (folder / "loop").mkdir()
    (folder / "loop/a.jsonl").write_bytes(GOOD)
    (folder / "loop/again").symlink_to(folder / "loop")


def two_schemas(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "two_schemas").mkdir()
    pq.write_table(pa.table({"instruction": ["q"], "output": ["a"]}), folder / "two_schemas/1.parquet")
    pq.write_table(pa.table({"text": ["t"], "n": [1]}), folder / "two_schemas/2.parquet")


def two_types(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "two_types").mkdir()
    pq.write_table(pa.table({"instruction": ["q"], "output": ["a"], "n": [1]}), folder / "two_types/1.parquet")
    pq.write_table(pa.table({"instruction": ["q"], "output": ["a"], "n": ["1"]}), folder / "two_types/2.parquet")


NO_UTF8 = os.fsdecode(b"caf\xe9.jsonl")
TEXT = b'{"text":"t"}\n'
CASES: list[Case] = [
    case("spaces and (signs) & 'quotes' \"double\" $HOME.jsonl", GOOD, rows(1, 1)),
    case("数据 – ünïcode 🙂.jsonl", GOOD, rows(1, 1)),
    case("two\nlines.jsonl", GOOD, rows(1, 1)),
    case("\x1b[31mred.jsonl", GOOD, rows(1, 1)),
    case("[1].jsonl", GOOD, rows(1, 1)),
    case("what*ever?.jsonl", GOOD, rows(1, 1)),
    case("-leading.jsonl", GOOD, rows(1, 1), source="./-leading.jsonl"),
    case(NO_UTF8, GOOD, rows(1, 1)),
    case("UPPER.JSONL", GOOD, rows(1, 1)),
    case("many.dots.in.it.jsonl", GOOD, rows(1, 1)),
    case("x" * 249 + ".jsonl", GOOD, rows(1, 1)),
    case("no_ending", GOOD, refused("Known endings")),
    case("unknown.xlsx", b"PK\x03\x04", refused("Known endings")),
    case("not_there.jsonl", lambda folder: None, refused("no such file")),
    case("not_there_near.jsonl", files(not_there_naer__jsonl=GOOD), refused("not_there_naer.jsonl")),
    case(
        "link.jsonl",
        lambda folder: (files(real__jsonl=GOOD)(folder), linked("link.jsonl", "real.jsonl")(folder))[0],
        rows(1, 1),
    ),
    case("dangling.jsonl", linked("dangling.jsonl", "gone.jsonl"), refused("dangling.jsonl")),
    case("loop.jsonl", linked("loop.jsonl", "loop.jsonl"), refused("loop.jsonl")),
    case("device.jsonl", linked("device.jsonl", "/dev/zero"), refused("device")),
    case("pipe.jsonl", made("pipe.jsonl", os.mkfifo), refused("pipe")),
    case("folder.jsonl", files(folder__jsonl___a__jsonl=GOOD), rows(1, 1)),
    case("empty_folder", made("empty_folder", Path.mkdir), refused("no data file")),
    case("folder_of_other_things", files(folder_of_other_things___readme__md=b"#"), refused("no data file")),
    case("folder_of_folders", files(folder_of_folders___inner___a__jsonl=GOOD), refused("folder_of_folders")),
    case("mixed_folder", files(mixed_folder___a__jsonl=GOOD, mixed_folder___b__csv=b"a\n1\n"), refused("mixes kinds")),
    case(
        "sorted_folder",
        files(sorted_folder___b__jsonl=GOOD, sorted_folder___a__jsonl=TEXT),
        rows(2, 2),
        rows(2, 1),
        to_json=({"text": "t"}, {"instruction": "How long?", "output": "a"}),
    ),
    case(
        "one_empty_among_others",
        files(one_empty_among_others___a__jsonl=b"", one_empty_among_others___b__jsonl=GOOD),
        rows(1, 1),
    ),
    case(
        "one_broken_among_others",
        files(one_broken_among_others___a__parquet=b"PAR1", one_broken_among_others___b__parquet=b"PAR1"),
        refused("a.parquet"),
    ),
    case(
        "sidecars",
        files(
            sidecars___a__jsonl=GOOD,
            sidecars___a__jsonl__manifest__json=b"{}",
            sidecars___a__jsonl__rejects__jsonl=b"{",
            sidecars_____hidden__jsonl=b"{",
        ),
        rows(1, 1),
    ),
    case("loop", loop_of_folders, rows(1, 1)),
    case("glob_over_a_loop", loop_of_folders, rows(1, 1), source="loop/**/*.jsonl"),
    case("glob_of_nothing", lambda folder: None, refused("no data file matches"), source="nothing*.jsonl"),
    case(
        "glob_of_two_kinds",
        files(glob1__jsonl=GOOD, glob2__csv=b"instruction,output\nq,a\n"),
        rows(2, 2),
        source="glob*",
    ),
    case("two_schemas", two_schemas, rows(2, 2), rows(2, 1)),
    case("two_types", two_types, rows(2, 2)),
]
