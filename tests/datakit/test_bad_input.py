"""Bad input: the right exit code, a message that says the way out, nothing half-written, what was there intact."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from registry.atomic import TEMPORARY_MARK

ROOT = Path(__file__).parents[2]
GOOD = b'{"instruction":"How long?","input":"","output":"Two days."}\n'
FULL = Path("/dev/full")


@pytest.fixture
def outputs(tmp_path):
    """Files of an earlier run, which no failing command may touch."""
    before = {}
    for name in ("out.jsonl", "out.jsonl.manifest.json", "out.jsonl.rejects.jsonl"):
        (tmp_path / name).write_text(f"{name} as it was before")
        before[name] = (tmp_path / name).read_bytes()

    def are_intact() -> bool:
        return all((tmp_path / name).read_bytes() == content for name, content in before.items())

    return are_intact


def commands(src: str) -> list[list[str]]:
    return [
        ["convert", src, "-o", "out.jsonl"],
        ["validate", src, "--clean", "out.jsonl"],
        ["register", src, "--name", "mine"],
        ["preview", src],
    ]


@pytest.mark.parametrize("which", range(4), ids=["convert", "validate", "register", "preview"])
class TestSourcesThatCannotBeReadAtAll:
    """One and the same answer from every command: exit code 2 and the file's name."""

    def refused(self, datakit, outputs, which, src, told):
        ran = datakit(*commands(src)[which])
        assert (ran.code, ran.out) == (2, "")
        assert src in ran.err
        assert told in ran.err
        assert outputs()

    def test_a_missing_file_names_its_neighbours(self, datakit, outputs, which, tmp_path):
        (tmp_path / "rows.jsonl").write_bytes(GOOD)
        self.refused(datakit, outputs, which, "rwos.jsonl", "Near it: rows.jsonl")

    @pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
    def test_an_empty_file(self, datakit, outputs, which, tmp_path, name):
        (tmp_path / name).touch()
        self.refused(datakit, outputs, which, name, "the file is empty")

    def test_a_folder_of_mixed_kinds(self, datakit, outputs, which, tmp_path):
        (tmp_path / "mixed").mkdir()
        (tmp_path / "mixed/a.jsonl").write_bytes(GOOD)
        (tmp_path / "mixed/b.csv").write_text("a\n1\n")
        self.refused(datakit, outputs, which, "mixed", "mixes kinds of files: jsonl (a.jsonl), csv (b.csv)")

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 this is none PAR1", b"\x00" * 100])
    def test_an_unreadable_parquet(self, datakit, outputs, which, tmp_path, content):
        (tmp_path / "a.parquet").write_bytes(content)
        self.refused(datakit, outputs, which, "a.parquet", "cannot be read as Parquet")

    def test_an_ending_that_is_not_known(self, datakit, outputs, which, tmp_path):
        (tmp_path / "a.xlsx").write_bytes(b"PK")
        self.refused(datakit, outputs, which, "a.xlsx", "Known endings")

    def test_columns_of_no_known_format(self, datakit, outputs, which, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"question":"q","answr":"a"}\n')
        if which == 0:
            pytest.skip("convert keeps any columns; see the next class for --to")
        self.refused(datakit, outputs, which, "a.jsonl", "no known format: question, answr")

    def test_an_array_that_breaks_off(self, datakit, outputs, which, tmp_path):
        (tmp_path / "a.json").write_text('[{"text":"a"},\n {"text":"b')
        if which == 3:
            pytest.skip("preview has seen enough before the array breaks off")
        self.refused(datakit, outputs, which, "a.json", "line 2")


class TestRowsThatAreReadAllTheSame:
    """Odd files whose rows are clear, and files with a bad row among good ones."""

    def rows(self, datakit, name, tmp_path):
        ran = datakit("convert", name, "-o", "o.jsonl", "--json")
        return (ran, (tmp_path / "o.jsonl").read_text())

    def test_a_byte_order_mark_is_no_part_of_a_name(self, datakit, tmp_path):
        for name, content in (("a.jsonl", b'{"a":1}\n'), ("a.json", b'[{"a":1}]'), ("a.csv", b"a\n1\n")):
            (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
            assert self.rows(datakit, name, tmp_path)[1] in ('{"a":1}\n', '{"a":"1"}\n')

    def test_carriage_returns_are_no_part_of_a_value(self, datakit, tmp_path):
        for name, content in (("a.jsonl", b'{"a":"1"}\r\n\r\n{"a":"2"}\r\n'), ("a.csv", b"a\r\n1\r\n2\r\n")):
            (tmp_path / name).write_bytes(content)
            assert self.rows(datakit, name, tmp_path)[1] == '{"a":"1"}\n{"a":"2"}\n'

    def test_an_array_named_jsonl_and_lines_named_json_are_read_with_a_warning(self, datakit, tmp_path):
        for name, content in (("a.jsonl", b'[{"a":1},{"a":2}]'), ("a.json", b'{"a":1}\n{"a":2}\n')):
            (tmp_path / name).write_bytes(content)
            ran, rows = self.rows(datakit, name, tmp_path)
            assert rows == '{"a":1}\n{"a":2}\n'
            assert "warning: a.json" in ran.err

    @pytest.mark.parametrize(
        ("bad", "reason"),
        [
            (b'{"a": "cut of', "not JSON: the file ends in the middle of this row"),
            (b'{"a": "\xff"}\n', "invalid UTF-8"),
            (b'{"a": NaN}\n', "not JSON"),
            (b'{"a": "\\ud800"}\n', "not JSON"),
            (b"[1, 2]\n", "a row must be a JSON object, this is an array"),
            (b'"a"\n', "a row must be a JSON object, this is a string"),
        ],
    )
    def test_a_bad_line_costs_only_itself(self, datakit, tmp_path, read_rows_back, bad, reason):
        (tmp_path / "a.jsonl").write_bytes(b'{"a":1}\n{"a":2}\n' + bad)
        ran, rows = self.rows(datakit, "a.jsonl", tmp_path)
        assert rows == '{"a":1}\n{"a":2}\n'
        assert (ran.json["rows_in"], ran.json["rows_out"], sum(ran.json["rejected"].values())) == (3, 2, 1)
        (reject,) = read_rows_back("o.jsonl.rejects.jsonl")
        assert (reject["row"], reject["reason"].startswith(reason)) == (3, True)
        assert datakit("validate", "a.jsonl", "--map", "text=a").code == 1

    def test_half_a_character_in_an_array_does_not_stop_the_rest(self, datakit, tmp_path):
        (tmp_path / "a.json").write_text('[{"text":"\\ud83d"},{"text":"b"}]')
        ran, rows = self.rows(datakit, "a.json", tmp_path)
        assert rows == '{"text":"\ufffd"}\n{"text":"b"}\n'
        assert "warning: lone surrogates" in ran.err
        found = datakit("validate", "a.json", "--json")
        assert (found.code, found.json["faults"][0]["code"]) == (1, "CH003")
        assert datakit("preview", "a.json").code == 0

    def test_a_row_nested_too_deep_costs_only_itself(self, datakit, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"a":' + "[" * 1000 + "]" * 1000 + '}\n{"a":1}\n')
        ran, rows = self.rows(datakit, "a.jsonl", tmp_path)
        assert (ran.code, rows) == (0, '{"a":1}\n')
        (tmp_path / "b.jsonl").write_text('{"instruction":"q","output":' + "[" * 1000 + "]" * 1000 + "}\n")
        for command in (["convert", "b.jsonl", "-o", "o.jsonl", "--fill", "x=y"], ["validate", "b.jsonl"]):
            assert datakit(*command).code == 1
        assert datakit("preview", "b.jsonl").code == 0

    def test_numbers_where_text_belongs_are_told_by_row_and_field(self, datakit, write_rows, read_rows_back):
        write_rows("a.jsonl", {"instruction": 7, "output": "a"}, {"instruction": "q", "output": "a"})
        assert datakit("convert", "a.jsonl", "-o", "o.jsonl", "--to", "sharegpt").code == 0
        (reject,) = read_rows_back("o.jsonl.rejects.jsonl")
        assert (reject["row"], reject["field"], reject["reason"]) == (
            1,
            "instruction",
            "text belongs here, not a number (7)",
        )
        assert datakit("validate", "a.jsonl").code == 1

    def test_roles_that_do_not_alternate_are_told_by_their_turn(self, datakit, write_rows):
        turns = [{"from": who, "value": "x"} for who in ("human", "human", "gpt")]
        write_rows("a.jsonl", {"conversations": turns})
        (fault,) = datakit("validate", "a.jsonl", "--json").json["faults"]
        assert fault["field"] == "conversations[1]"
        assert fault["reason"].startswith("roles must alternate")


class TestWrongUsage:
    """What can be known from the command line and the first rows is refused before anything is written."""

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["convert", "a.jsonl", "-o", "out.jsonl", "--to", "alpaca", "--map", "instruction=qestion", "--map", "output=answer"],
             "Nearest: question. Columns: question, answer."),
            (["convert", "a.jsonl", "-o", "out.jsonl", "--map", "x=no_such"], "Columns: question, answer."),
            (["convert", "a.jsonl", "-o", "out.jsonl", "--to", "alpaca"], "--map instruction=question --map output=answer"),
            (["convert", "a.jsonl", "-o", "out.jsonl", "--to", "alpacca"], 'Did you mean "alpaca"'),
            (["convert", "a.jsonl", "-o", "out.jsonl", "--from", "sharegtp"], 'Did you mean "sharegpt"'),
            (["convert", "a.jsonl", "-o", "out.jsonl", "--fill", "name"], "--fill name=value"),
            (["convert", "a.jsonl", "-o", "a.jsonl"], "one of the sources"),
            (["convert", "a.jsonl", "-o", "out.jsonl", "--rejects", "a.jsonl"], "one of the sources"),
            (["convert", "a.jsonl", "-o", "out.jsonl", "--rejects", "out.jsonl"], "cannot go to the same file"),
            (["convert", "a.jsonl", "-o", "out.doc"], "Known endings"),
            (["convert", "a.jsonl", "-o", "."], "this is a folder"),
            (["validate", "a.jsonl", "--map", "text=qestion"], "Nearest: question"),
            (["preview", "a.jsonl", "--template", "qwne"], 'Did you mean "qwen"'),
            (["preview", "a.jsonl", "--model", "no_such"], "no such folder"),
            (["preview", "mine"], "no datasets either"),
        ],
    )  # fmt: skip
    def test_is_told_with_the_way_out(self, datakit, outputs, tmp_path, arguments, told):
        content = b'{"question":"q","answer":"a"}\n'
        (tmp_path / "a.jsonl").write_bytes(content)
        ran = datakit(*arguments)
        assert (ran.code, ran.out) == (2, "")
        assert told in ran.err
        assert (tmp_path / "a.jsonl").read_bytes() == content
        assert outputs()

    def test_an_undefined_dataset_lists_the_nearest_names(self, datakit, tmp_path):
        (tmp_path / "data").mkdir()
        (tmp_path / "data/dataset_info.json").write_text('{"support_en": {"file_name": "a.jsonl"}, "other": {}}')
        ran = datakit("preview", "suport_en")
        assert ran.code == 2
        assert "Nearest names: support_en." in ran.err

    @pytest.mark.parametrize(("content", "stage"), [
        (b'{"instruction":"q","chosen":"a","rejected":"b"}\n', "sft"), (GOOD, "dpo"),
    ])  # fmt: skip
    def test_rows_of_another_stage_are_refused_as_a_whole(self, datakit, outputs, tmp_path, content, stage):
        (tmp_path / "a.jsonl").write_bytes(content * 3)
        ran = datakit("validate", "a.jsonl", "--stage", stage, "--clean", "out.jsonl")
        assert ran.code == 2
        assert ran.err.count("learns from") == 1
        assert outputs()


class TestPlacesThatCannotBeWritten:
    def test_missing_folders_are_made(self, datakit, tmp_path):
        (tmp_path / "a.jsonl").write_bytes(GOOD)
        assert datakit("convert", "a.jsonl", "-o", "new/folder/o.jsonl").code == 0
        assert (tmp_path / "new/folder/o.jsonl").read_bytes() == GOOD

    @pytest.mark.parametrize("option", ["-o", "--clean", "--dataset-dir"])
    def test_a_file_where_a_folder_must_be(self, datakit, tmp_path, option):
        (tmp_path / "a.jsonl").write_bytes(GOOD)
        (tmp_path / "file").write_text("as it was")
        if option == "--dataset-dir":
            ran = datakit("register", "a.jsonl", "--name", "mine", option, "file/data")
        else:
            ran = datakit("convert" if option == "-o" else "validate", "a.jsonl", option, "file/o.jsonl")
        assert ran.code == 2
        assert "file" in ran.err
        assert (tmp_path / "file").read_text() == "as it was"

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
    def test_a_folder_that_is_read_only(self, datakit, tmp_path):
        (tmp_path / "a.jsonl").write_bytes(GOOD)
        (tmp_path / "locked").mkdir(mode=0o500)
        ran = datakit("convert", "a.jsonl", "-o", "locked/o.jsonl")
        assert ran.code == 2
        assert "ermission" in ran.err


FULL_DISK = """
import errno, os, sys
from pathlib import Path
from datakit import cli
from datakit.together import Together
real = Together.open
class Full:
    def __init__(self, handle):
        self._handle, self.room = handle, 4096
    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out")
        return self._handle.write(data)
    def __getattr__(self, name):
        return getattr(self._handle, name)
def tight(self, target):
    handle = real(self, target)
    if not isinstance(handle, Full):
        handle = self._pending[target].handle = Full(handle)
    return handle
Together.open = tight
cli.main()
"""


@pytest.mark.parametrize("name", ["out.jsonl", "out.json", "out.csv", "out.parquet", "out.jsonl.gz", "out.jsonl.zst"])
@pytest.mark.parametrize("command", ["convert", "validate"])
def test_a_full_disk_is_exit_code_3_with_all_files_as_they_were(tmp_path, name, command):
    rows = b"".join(b'{"text":"%s"}\n' % os.urandom(40).hex().encode() for _ in range(500))
    (tmp_path / "a.jsonl").write_bytes(rows)
    before = {}
    for old in (name, f"{name}.manifest.json", f"{name}.rejects.jsonl"):
        (tmp_path / old).write_bytes(b"before " + old.encode())
        before[old] = (tmp_path / old).read_bytes()
    ran = run_script(tmp_path, FULL_DISK, command, "a.jsonl", "-o" if command == "convert" else "--clean", name)
    assert ran.returncode == 3, ran.stderr
    assert "the disk is full" in ran.stderr
    assert "Free some space" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name != "a.jsonl"} == before


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full on this system")
@pytest.mark.parametrize("num_rows", [1, 1000], ids=["within the buffer", "beyond the buffer"])
def test_a_full_disk_behind_stdout_is_exit_code_3_and_no_row_is_said_to_be_out(tmp_path, num_rows):
    (tmp_path / "a.jsonl").write_bytes(GOOD * num_rows)
    with FULL.open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "datakit.cli", "convert", "a.jsonl", "-o", "-"],
            cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert ran.returncode == 3, ran.stderr
    assert "rows in" not in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("arguments", [
    ["convert", "-", "-o", "out.jsonl"],
    ["validate", "-", "--clean", "out.jsonl"],
    ["preview", "-", "-n", "100000"],
], ids=lambda a: a[0])  # fmt: skip
def test_ctrl_c_is_exit_code_130_with_all_files_as_they_were(tmp_path, outputs, arguments):
    with subprocess.Popen(
        [sys.executable, "-m", "datakit.cli", *arguments],
        cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(GOOD * 2000)
        process.stdin.flush()
        if arguments[0] == "preview":
            time.sleep(1.0)  # it writes nothing that could be waited for
        else:
            wait_for(lambda: any(TEMPORARY_MARK in p.name for p in tmp_path.iterdir()))
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=30)
        error = process.stderr.read().decode() if process.stderr else ""
        process.stdin = None  # the pipe is broken, and closing it would say so
    assert code == 130, error
    assert "Traceback" not in error
    assert "interrupted" in error
    assert outputs()
    assert [p for p in tmp_path.iterdir() if TEMPORARY_MARK in p.name] == []


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def environment() -> dict[str, str]:
    # Buffered as users have it: an unbuffered stdout has nothing left to fail with at the very end.
    return {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"} | {"PYTHONPATH": str(ROOT)}


def run_script(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
