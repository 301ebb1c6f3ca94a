"""Errors say what, where and how to mend, and each kind has its exit code."""

import errno

import pytest

from registry.errors import (
    DataError,
    Faults,
    Interrupted,
    RowFault,
    StoppedByUser,
    StoppedError,
    TunekitError,
    UsageError,
    did_you_mean,
    from_os_error,
    nearest,
)


def test_an_error_reads_where_what_and_how_to_mend():
    error = UsageError("no such file", where="a.jsonl", mend="Near it: b.jsonl")
    assert str(error) == "a.jsonl: no such file\n  Near it: b.jsonl"
    assert str(UsageError("no such file")) == "no such file"


@pytest.mark.parametrize(
    ("kind", "code"),
    [(UsageError, 2), (Faults, 2), (DataError, 1), (StoppedError, 3), (StoppedByUser, 130), (TunekitError, 4)],
)
def test_each_kind_of_error_has_its_exit_code(kind, code):
    assert kind.exit_code == code


def test_faults_are_told_together():
    error = Faults("run.yaml", ['"a" is wrong', '"b" is wrong\nuse c'], mend="See the docs.")
    assert str(error) == 'run.yaml: 2 faults\n  - "a" is wrong\n  - "b" is wrong\n    use c\n  See the docs.'
    assert str(Faults("run.yaml", ["x"])) == "run.yaml: 1 fault\n  - x"


def test_an_interruption_passes_every_except_exception():
    assert not issubclass(Interrupted, Exception)


def test_a_row_fault_names_its_field():
    fault = RowFault("output", "text belongs here, not null")
    assert (fault.field, fault.reason) == ("output", "text belongs here, not null")
    assert str(fault) == 'field "output": text belongs here, not null'


def test_the_nearest_names_come_back_as_they_are_spelled():
    assert nearest("QWEN3-nothink", ["qwen", "Qwen3_nothink", "llama3"])[0] == "Qwen3_nothink"
    assert nearest("zzz", ["qwen", "llama3"]) == []
    assert did_you_mean("qwem", ["qwen", "llama3"]) == 'Did you mean "qwen"?'
    assert did_you_mean("zzz", ["qwen"]) == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_stop_that_can_be_gone_on_from(number):
    error = from_os_error(OSError(number, "No space left", "out.jsonl"), "writing rows")
    assert isinstance(error, StoppedError)
    assert str(error).startswith("out.jsonl: the disk is full while writing rows\n")


def test_any_other_error_of_the_system_is_about_the_path_given():
    error = from_os_error(PermissionError(errno.EACCES, "Permission denied", "out.jsonl"), "writing rows")
    assert isinstance(error, UsageError)
    assert str(error) == "out.jsonl: cannot go on writing rows: Permission denied"
