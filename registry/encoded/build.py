"""Bringing a dataset into the cache: under a lock, on all cores, going on where an earlier run was stopped."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from registry.atomic import atomic_file, fsync_folder, temporary_name, write_json
from registry.encoded.chunks import Chunk, chunks_of, has_places, is_small, places_of
from registry.encoded.pool import Submit, open_pool, result_of
from registry.encoded.rows import EncodedRows, read_journal
from registry.encoded.spec import EncodeSpec, contents_of, key_of
from registry.encoded.work import Opened
from registry.errors import UsageError, from_os_error
from registry.fast_tokenizers import AUTO, FAST, PLAIN
from registry.remote import is_remote
from registry.rows import NoRows
from registry.unchanged import Identity, check_unchanged
from registry.unchanged import identity as identity_of

log = logging.getLogger("tunekit")

SPEC, JOURNAL, LOCK, ABOUT = "spec.json", "journal.jsonl", "lock", "about.json"
MOST_WORKERS = 32
WORTH_BYTES = 24 << 20  # of sources; for less, starting processes takes longer than it saves
AHEAD = 2  # chunks of each worker that wait or are worked on


def encoded_rows(
    spec: EncodeSpec,
    root: Path,
    *,
    limit: int | None = None,
    workers: int | None = None,
    told: str = "",
    opened: Opened | None = None,
) -> EncodedRows:
    """The encoded rows of a dataset: from the cache under ``root``, encoded now where it lacks them.

    At least the first ``limit`` rows are there (None: all). ``workers`` processes encode (None: one a core where that
    is worth it); ``told`` names the dataset in messages; ``opened`` are this template's tokenizer and renderer, where the
    caller has them. Whoever else wants the same rows waits and shares them.
    Raises ``UsageError`` for sources that cannot be read, ``StoppedError`` where a worker is killed or the disk is
    full: what is done stays, and the next call goes on from there.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        states = {file: identity_of(file) for file in spec.files if not is_remote(file)}
        identity = spec.identity(contents_of(spec.files, root))
        folder = root / key_of(identity)
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"opening the cache of encoded rows in {root}") from error
    with suppress(UsageError):  # what is damaged is looked at again under the lock
        found = _opened(folder, spec, limit)
        if found is not None:
            return found
    with _locked(folder, told):
        try:
            found = _opened(folder, spec, limit)  # another process may have made it meanwhile
            if found is not None:
                return found
        except UsageError as error:
            log.warning("%s; the rows are encoded again", str(error).splitlines()[0])
            _clear(folder)
        try:
            _begin_folder(folder, identity, {"dataset": told, "files": list(spec.files)})
            try:
                _encode(spec, folder, limit, workers, told, states, opened=opened)
            except _Doubted:
                log.warning("what it gave before is not kept: the rows are encoded again, by tokenizers alone")
                _clear(folder)
                _begin_folder(folder, identity, {"dataset": told, "files": list(spec.files)})
                _encode(spec, folder, limit, workers, told, states, PLAIN)
        except OSError as error:
            raise from_os_error(error, f"writing encoded rows to {folder}") from error
    return EncodedRows(folder, spec.files)


class _Doubted(Exception):
    """A fast tokenizer was found wrong after shards were written by it."""


def _clear(folder: Path) -> None:
    """Remove all encoded rows of a folder; the lock stays, which others may wait for."""
    for path in folder.iterdir():
        if path.name != LOCK:
            path.unlink(missing_ok=True)


def _opened(folder: Path, spec: EncodeSpec, limit: int | None) -> EncodedRows | None:
    """The rows, where there are enough of them. Raises ``UsageError`` where they are damaged."""
    if not (folder / SPEC).is_file():
        return None
    entries, complete = read_journal(folder / JOURNAL)
    if not complete and (limit is None or sum(entry["rows"] for entry in entries) < limit):
        return None
    with suppress(OSError):  # for `trainkit cache`, which tells when rows were last used; a read-only cache will do
        os.utime(folder / JOURNAL)
    return EncodedRows(folder, spec.files)


@contextmanager
def _locked(folder: Path, told: str) -> Iterator[None]:
    """Nobody else writes to ``folder`` within the block; who comes second waits, and is told so."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another run encodes %s; waiting for it", told or "the same rows")
        lock.acquire()
    except OSError as error:
        raise from_os_error(error, f"locking {folder}") from error
    try:
        yield
    finally:
        lock.release()


def _begin_folder(folder: Path, identity: dict[str, Any], about: dict[str, Any]) -> None:
    """Leave what an earlier run completed, and nothing else; ``about`` tells the owner of the cache what it is."""
    write_json(folder / ABOUT, about)
    if not (folder / SPEC).is_file():
        write_json(folder / SPEC, identity)
    kept = _whole_journal(folder / JOURNAL)
    names = {Chunk(entry["file"], entry["index"]).name for entry in kept}
    for path in folder.iterdir():
        if path.suffix in (".arrow", ".jsonl") and path.name != JOURNAL and path.name.partition(".")[0] not in names:
            path.unlink(missing_ok=True)
        elif path.name.startswith("."):
            path.unlink(missing_ok=True)  # what a killed run had begun to write


def _whole_journal(path: Path) -> list[dict[str, Any]]:
    """The entries of a journal that is to be written on: what a killed run left of a line would spoil the next one."""
    kept, complete = read_journal(path)
    if path.is_file() and not complete:
        whole = b"".join(json.dumps(entry).encode() + b"\n" for entry in kept)
        if path.read_bytes() != whole:
            with atomic_file(path) as handle:
                handle.write(whole)
    return kept


def _encode(
    spec: EncodeSpec,
    folder: Path,
    limit: int | None,
    workers: int | None,
    told: str,
    states: Mapping[str, Identity | None],
    backend: str = AUTO,
    opened: Opened | None = None,
) -> None:
    """Encode what the journal lacks. Each shard is in the journal as soon as it and all before it are complete.

    ``states`` is what each file was when its content was looked at: of a file that is another one since, no shard is
    kept. Raises ``_Doubted`` where a fast tokenizer was found wrong.
    """
    entries, _ = read_journal(folder / JOURNAL)
    done = {(entry["file"], entry["index"]) for entry in entries}
    num_rows = sum(entry["rows"] for entry in entries)
    if done:
        log.info("going on with the encoding of %s after %s rows", told or "the rows", f"{num_rows:,}")
    else:
        log.info("encoding %s", told or "the rows")
        if not any(map(find_spec, FAST)):
            log.info("pip install 'tunekit[fast]' makes encoding many times faster, with the same ids")
    many = num_workers(workers, spec.files)
    with ExitStack() as stack:
        submit = open_pool(stack, spec, folder, many, backend, opened)
        journal = stack.enter_context((folder / JOURNAL).open("ab"))
        # alone, one has nobody to work ahead for
        for entry in _in_order(spec, submit, AHEAD * many if many > 1 else 0, done):
            if entry is not None:
                if entry.pop("doubtful", 0):
                    raise _Doubted
                check_unchanged(spec.files[entry["file"]], states.get(spec.files[entry["file"]]))
                journal.write(json.dumps(entry).encode() + b"\n")
                journal.flush()
                num_rows += entry["rows"]
            if limit is not None and num_rows >= limit:
                os.fsync(journal.fileno())
                return
        if not num_rows:
            raise NoRows(spec.files)
        journal.write(json.dumps({"complete": True, "rows": num_rows}).encode() + b"\n")
        journal.flush()
        os.fsync(journal.fileno())
    fsync_folder(folder)


def _in_order(
    spec: EncodeSpec, submit: Submit, ahead: int, done: set[tuple[int, int]]
) -> Iterator[dict[str, Any] | None]:
    """What the journal keeps of each chunk that is not ``done``, in order; as many as ``ahead`` are waiting or worked on.

    Where only reading tells how many chunks a file has, the first one beyond its end comes as None.
    """
    out: deque[tuple[Chunk, Future[dict[str, Any] | None]]] = deque()
    for file in range(len(spec.files)):
        ended = False
        for chunk in _chunks(spec, file):
            if (chunk.file, chunk.index) in done:
                continue
            out.append((chunk, submit(chunk)))
            while len(out) > ahead:
                first, future = out.popleft()
                entry = result_of(future)
                yield entry
                ended = ended or (entry is None and first.file == file)
            if ended:
                break
    while out:
        yield result_of(out.popleft()[1])


def _chunks(spec: EncodeSpec, file: int) -> Iterator[Chunk]:
    name = spec.files[file]
    if is_small(name):
        yield Chunk(file, 0)
    elif has_places(name):
        for index, pieces in enumerate(chunks_of(name, keep_blank_lines=spec.strict)):
            yield Chunk(file, index, places_of(pieces))
    else:
        index = 0
        while True:
            yield Chunk(file, index)
            index += 1


def num_workers(asked: int | None, files: Sequence[str]) -> int:
    """How many processes encode: as many as asked for, at most one a core; None means that, where it is worth it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = min(cores, MOST_WORKERS, asked or cores)
    num_bytes = sum(Path(file).stat().st_size for file in files if Path(file).is_file())
    return most if num_bytes >= WORTH_BYTES else 1


def copy_rows(folder: Path, target: Path) -> None:
    """Copy the encoded rows of ``folder`` to ``target``, the shards by links where the disk allows it: they are never
    written again, as the journal is."""
    target.mkdir(parents=True, exist_ok=True)
    journal = (folder / JOURNAL).read_bytes()  # as it is now: another run may write on, to it and of further shards
    for path in sorted(folder.iterdir()):
        to = target / path.name
        if path.suffix not in (".arrow", ".jsonl") and path.name != SPEC:
            continue
        if path.name == JOURNAL or (to.exists() and to.samefile(path)):
            continue
        temporary = temporary_name(to)
        try:
            _linked(path, temporary)
            os.replace(temporary, to)
        finally:
            temporary.unlink(missing_ok=True)
    with atomic_file(target / JOURNAL) as handle:
        handle.write(journal)


def _linked(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(path, to)
