"""What happens to a file, or to the command itself, in the middle: told, and nothing half-written stands under a name."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import registry.blocks
import registry.columnar
import registry.rows.jsonl
from registry.atomic import TEMPORARY_MARK
from tests.console import Ran
from tests.datakit.test_bad_input import GOOD, environment, wait_for

DATAKIT = [sys.executable, "-m", "datakit.cli"]
MANY = GOOD * 30_000  # more than is read at a time
OLD = {"out.jsonl": b"old rows\n", "out.jsonl.manifest.json": b"old manifest\n", "out.jsonl.rejects.jsonl": b"old\n"}


@pytest.fixture
def old_outputs(tmp_path: Path) -> Callable[[], bool]:
    """Files of an earlier run; what comes back says whether they are as they were, with nothing new beside them."""
    for name, content in OLD.items():
        (tmp_path / name).write_bytes(content)

    def intact(*others: str) -> bool:
        found = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file() and p.name not in others}
        return found == OLD

    return intact


def grow(path: Path) -> None:
    with path.open("ab") as out:
        out.write(GOOD)


CHANGES: dict[str, Callable[[Path], object]] = {
    "it grew": grow,
    "it shrank": lambda path: os.truncate(path, path.stat().st_size // 3),
    "it was removed": Path.unlink,
    "another file took its place": lambda path: shutil.copy(path, f"{path}.copy") and os.replace(f"{path}.copy", path),
}


def after_the_first(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, change: Callable[[], object]) -> None:
    """Let ``change`` happen once the generator ``module.name`` has given its first item."""
    real = getattr(module, name)

    def changing(*arguments: Any, **options: Any) -> Iterator[Any]:
        items = real(*arguments, **options)
        yield next(items)
        change()
        yield from items

    monkeypatch.setattr(module, name, changing)


@pytest.mark.parametrize("told", CHANGES)
@pytest.mark.parametrize("verb", ["convert", "validate", "convert parquet"])
def test_a_source_that_changes_while_it_is_read_is_refused(
    datakit: Callable[..., Ran], tmp_path: Path, old_outputs: Any, monkeypatch: pytest.MonkeyPatch, verb: str, told: str
) -> None:
    path = tmp_path / ("a.parquet" if "parquet" in verb else "a.jsonl")
    if "parquet" in verb:
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts = [os.urandom(40).hex() for _ in range(40_000)]
        pq.write_table(pa.table({"instruction": texts, "output": texts}), path, row_group_size=10_000)
        after_the_first(monkeypatch, registry.columnar, "_counted", lambda: CHANGES[told](path))
    else:
        path.write_bytes(MANY)
        for module, name in ((registry.rows.jsonl, "read_lines"), (registry.blocks, "_blocks")):
            after_the_first(monkeypatch, module, name, lambda: CHANGES[told](path))
    ran = datakit(verb.split()[0], path.name, "-o" if "convert" in verb else "--clean", "out.jsonl")
    assert (ran.code, ran.out) == (2, "")
    assert f"{path.name}: the file changed while it was read: {told}" in ran.err
    assert old_outputs(path.name)


@pytest.mark.parametrize("verb", ["convert", "validate"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_killed_while_writing_leaves_what_was_there_and_the_next_run_is_whole(
    tmp_path: Path, old_outputs: Any, verb: str, number: signal.Signals
) -> None:
    out = "-o" if verb == "convert" else "--clean"
    with subprocess.Popen(
        [*DATAKIT, verb, "-", out, "out.jsonl"],
        cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(MANY)
        process.stdin.flush()
        wait_for(lambda: any(TEMPORARY_MARK in p.name for p in tmp_path.iterdir()))
        process.send_signal(number)
        code, error = process.wait(timeout=30), process.stderr.read().decode()
        process.stdin = None  # the pipe is broken, and closing it would say so
    left = [p.name for p in tmp_path.iterdir() if TEMPORARY_MARK in p.name]
    if number is signal.SIGTERM:
        assert code == 130, error
        assert left == []
    else:
        assert code == -signal.SIGKILL
    assert old_outputs(*left), "only hidden files may be left"
    (tmp_path / "a.jsonl").write_bytes(GOOD * 3)
    again = subprocess.run(
        [*DATAKIT, verb, "a.jsonl", out, "out.jsonl"], cwd=tmp_path, env=environment(), capture_output=True, timeout=60
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out.jsonl").read_bytes() == GOOD * 3
    assert not (tmp_path / "out.jsonl.rejects.jsonl").exists()


def test_what_a_killed_run_left_is_no_source(datakit: Callable[..., Ran], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "a.jsonl").write_bytes(GOOD)
    (folder / f".a.jsonl{TEMPORARY_MARK}1-abcdef").write_bytes(b"half a r")
    (folder / f".b.jsonl{TEMPORARY_MARK}1-abcdef.jsonl").write_bytes(b"half a r")
    assert datakit("convert", folder, "-o", "b.jsonl", "--json").json["rows_in"] == 1


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("arguments", [
    ["convert", "a.jsonl", "-o", "disk/out.jsonl"],
    ["convert", "a.jsonl", "-o", "disk/out.parquet"],
    ["convert", "a.jsonl", "-o", "disk/out.jsonl", "--shuffle"],
    ["validate", "a.jsonl", "--clean", "disk/out.jsonl"],
], ids=lambda a: " ".join(a[:1] + a[3:]))  # fmt: skip
def test_a_disk_that_is_full_is_exit_code_3_and_what_was_on_it_stays(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "disk").mkdir()
    rows = b"".join(b'{"instruction":"q","output":"%s"}\n' % os.urandom(40).hex().encode() for _ in range(5000))
    (tmp_path / "a.jsonl").write_bytes(rows)
    # The disk lies in a name space of its own, so nothing of it is left when the shell ends.
    script = (
        "mount -t tmpfs -o size=64k tmpfs disk || exit 77; echo old > disk/out.jsonl; "
        'TMPDIR=disk "$@"; code=$?; ls -A disk; cat disk/out.jsonl; exit $code'
    )
    ran = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *DATAKIT, *arguments],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if ran.returncode == 77 or "unshare" in ran.stderr:
        pytest.skip("no disk can be mounted here")
    assert ran.returncode == 3, ran.stderr
    assert "the disk is full" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == "out.jsonl\nold\n"


@pytest.mark.parametrize("verb", ["convert", "validate"])
def test_a_limit_on_the_size_of_files_ends_it_with_what_was_there(tmp_path: Path, old_outputs: Any, verb: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(MANY)
    ran = subprocess.run(
        [*DATAKIT, verb, "a.jsonl", "-o" if verb == "convert" else "--clean", "out.jsonl"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16)),
    )  # fmt: skip
    assert ran.returncode in (2, 3), ran.stderr
    assert ran.stderr.startswith("error:")
    assert "Traceback" not in ran.stderr
    assert old_outputs("a.jsonl")


@pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None,
    reason="nothing is forbidden to root, unless setpriv is there",
)
@pytest.mark.parametrize("closed", ["rows/a.jsonl", "rows", "target"])
@pytest.mark.parametrize(("verb", "option"), [("convert", "-o"), ("validate", "--clean")])
def test_what_may_not_be_read_or_written_is_told(tmp_path: Path, closed: str, verb: str, option: str) -> None:
    """Root is bound by permissions like everybody else once the two rights to pass them over are given up."""
    for name in ("rows", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "rows/a.jsonl").write_bytes(GOOD)
    (tmp_path / closed).chmod(0o500 if closed == "target" else 0)
    rights = "-dac_override,-dac_read_search"
    bound = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []
    try:
        ran = subprocess.run(
            [*bound, *DATAKIT, verb, "rows" if closed == "rows" else "rows/a.jsonl", option, "target/out.jsonl"],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    finally:
        (tmp_path / closed).chmod(0o700)
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
    assert "ermission" in ran.stderr
    assert closed in ran.stderr
    assert "Traceback" not in ran.stderr
    assert list((tmp_path / "target").iterdir()) == []


def test_whoever_reads_the_rows_may_stop_early(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(MANY)
    command = f"{sys.executable} -m datakit.cli convert a.jsonl -o - | head -n 2"
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, (GOOD * 2).decode())
    assert "rror" not in ran.stderr


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", 2, "empty"),
        (b"\xff\xfe{\x00}\x00", 2, "UTF-16"),
        (b"PAR1", 2, "Parquet"),
        (GOOD + b'{"instruction":', 0, "1 rejected"),
        (GOOD[:-1], 0, "1 out"),
    ],
)
def test_standard_input_is_as_hard_to_break(tmp_path: Path, data: bytes, code: int, says: str) -> None:
    ran = subprocess.run(
        [*DATAKIT, "convert", "-", "-o", "out.jsonl"], cwd=tmp_path, env=environment(), input=data,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == code, ran.stderr
    assert says in ran.stderr.decode()
    assert (tmp_path / "out.jsonl").exists() == (code == 0)
