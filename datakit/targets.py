"""Where rows are to go: the names of an output and of what lies beside it, checked before anything is written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.errors import UsageError, did_you_mean
from registry.folders import COMPRESSIONS
from registry.manifest import manifest_path
from registry.remote import is_remote
from registry.remote import spelled as as_text
from registry.sources import STDIN

REJECTS_ENDING = ".rejects.jsonl"
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
NUMBER_WIDTH = 5  # digits where the name does not say
_FIELD = re.compile(r"\{[A-Za-z0-9_]*(?::0?(?P<width>\d{0,2})d?)?\}")
_READ_ONLY = ("hf", "ms", "http", "https")


@dataclass(frozen=True, slots=True)
class Target:
    """One output: a path or an address, or the name of shards, ``head`` and ``tail`` around a number of ``width`` digits.

    ``name`` is what the output is called as a whole, and what its manifest and rejects are named after.
    """

    name: str
    head: str = ""
    tail: str = ""
    width: int = 0

    @property
    def is_sharded(self) -> bool:
        return self.width > 0

    def files(self) -> Iterator[str]:
        """The names of its files: one, or as many as are asked for."""
        if not self.is_sharded:
            yield self.name
            return
        number = 0
        while True:
            yield f"{self.head}{number:0{self.width}d}{self.tail}"
            number += 1

    def owns(self, file: str) -> bool:
        """Whether ``file`` is named as the output as a whole, or as one of its shards."""
        if same_file(file, self.name):
            return True
        if not self.is_sharded or is_remote(file) != is_remote(self.head):
            return False
        (folder, base), (own_folder, head) = _split(file), _split(self.head)
        number = base[len(head) : len(base) - len(self.tail)]
        if base != head + number + self.tail or not number.isdecimal() or f"{int(number):0{self.width}d}" != number:
            return False
        return same_file(folder, own_folder)

    def holds_shard(self, file: str) -> bool:
        """Whether ``file``, which lies beside this output, is named as a shard of it, with whatever field."""
        base, own = _split(file)[1], _split(self.name)[1]
        return any(_without_field(base, number) == own for number in re.finditer(r"\d+", base))

    @property
    def manifest(self) -> str:
        """``rows.jsonl`` → ``rows.jsonl.manifest.json``, one for all shards."""
        return self.name + ".manifest.json" if is_remote(self.name) else str(manifest_path(self.name))

    @property
    def rejects(self) -> str:
        """Where the rejects go when nothing else is said: ``rows.jsonl`` → ``rows.jsonl.rejects.jsonl``."""
        return self.name + REJECTS_ENDING

    @property
    def scratch(self) -> Path | None:
        """A folder on the disk that the output goes to, for temporary files; None: the system's own."""
        return None if is_remote(self.name) else Path(self.name).parent


def target_of(out: str | Path, sources: Sequence[str], shard_rows: int | None = None) -> Target:
    """``out`` as a target: ``part-{:05d}.jsonl`` for shards; without a field the number goes before the ending.

    Raises ``UsageError`` for folders, unknown endings, fields that do not belong there, and the sources.
    """
    spelled = as_text(out)
    if shard_rows is not None and shard_rows < 1:
        raise UsageError("a shard holds at least one row", where=f"--shard-rows {shard_rows}")
    folder, slash, base = spelled.rpartition("/")
    fields = list(_FIELD.finditer(base))
    if _FIELD.search(folder):
        raise UsageError("the number belongs into the file's name, not the folder's", where=spelled)
    if len(fields) > 1:
        raise UsageError(
            "the name has several places for a number", where=spelled, mend="For example part-{:05d}.jsonl"
        )
    if fields and shard_rows is None:
        raise UsageError(
            f"the name has a place for a number ({fields[0][0]}), and nothing says how many rows a file gets",
            where=spelled,
            mend="Add  --shard-rows N, or name one file.",
        )
    check_target(folder + slash + (_without_field(base, fields[0]) if fields else base), sources)
    if shard_rows is None:
        return _sparing(Target(spelled), sources)
    if fields:
        head, tail, name = base[: fields[0].start()], base[fields[0].end() :], _without_field(base, fields[0])
        width = NUMBER_WIDTH if fields[0]["width"] is None else int(fields[0]["width"] or 1)
    else:
        ending = _ending_of(base)
        head, tail, width, name = base[: len(base) - len(ending)] + "-", ending, NUMBER_WIDTH, base
    return _sparing(Target(folder + slash + name, folder + slash + head, tail, width), sources)


def _sparing(target: Target, sources: Sequence[str]) -> Target:
    """``target`` itself. Raises ``UsageError`` where a shard or the manifest of it would take the place of a source."""
    for source in sources:
        shard = target.is_sharded and target.owns(source)
        if shard or (source != STDIN and same_file(target.manifest, source)):
            raise UsageError(
                f"one of the sources is named as {'the shards are' if shard else 'the manifest is'}, "
                "and writing would destroy it",
                where=source,
                mend="Choose another name for the output.",
            )
    return target


def _without_field(base: str, field: re.Match[str]) -> str:
    """``part-{:05d}.jsonl`` → ``part.jsonl``; a name that is nothing but the number is ``shards``."""
    head, tail = base[: field.start()], base[field.end() :]
    if head[-1:] in ("-", "_", "."):
        head = head[:-1]
    elif not head and tail[:1] in ("-", "_"):
        tail = tail[1:]
    return (head + tail) if head or not tail.startswith(".") else f"shards{tail}"


def _ending_of(base: str) -> str:
    path = Path(base)
    return path.with_suffix("").suffix + path.suffix if path.suffix.lower() in COMPRESSIONS else path.suffix


def check_target(out: str | Path, sources: Sequence[str], *, endings: Sequence[str] = ENDINGS) -> Path:
    """``out`` as a path (of no use for an address) once it may be written.

    Raises ``UsageError`` for folders, unknown endings, the sources, and addresses where nothing is written.
    """
    text = str(out)
    path = Path(text)
    if is_remote(text) and text.partition("://")[0].lower() in _READ_ONLY:
        raise UsageError("nothing is written there", where=text, mend="Write a local file, s3:// or gs://.")
    if (not is_remote(text) and path.is_dir()) or text.endswith("/"):
        raise UsageError(
            "this is a folder, a file is needed", where=text, mend=f"For example {path / f'rows{endings[0]}'}"
        )
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    packed = plain is not path
    if plain.suffix.lower() not in endings or (
        packed and (plain.suffix.lower() == ".parquet" or endings is not ENDINGS)
    ):
        hint = did_you_mean(path.suffix, endings)
        more = "; all but .parquet also with .gz or .zst." if endings is ENDINGS else "."
        raise UsageError(
            f'"{path.suffix}" is not a kind of file that is written here'
            if path.suffix
            else "the name has no ending, which would tell what kind of file to write",
            where=text,
            mend=f"{hint} Known endings: {' '.join(endings)}{more}".lstrip(),
        )
    file = None if is_remote(text) else next((str(above) for above in path.parents if above.is_file()), None)
    if file is not None:
        raise UsageError(f"{file} is a file, so nothing can be written below it", where=text)
    for source in sources:
        if source != STDIN and same_file(text, source):
            raise UsageError(
                "this file is one of the sources, and writing it would destroy them",
                where=text,
                mend="Choose another name for the output.",
            )
    return path


def _split(name: str) -> tuple[str, str]:
    folder, slash, base = name.rpartition("/")
    return folder + slash or ".", base


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two names mean one file, links followed."""
    if is_remote(str(one)) or is_remote(str(other)):
        return str(one) == str(other)
    return os.path.realpath(one) == os.path.realpath(other)
