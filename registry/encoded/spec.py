"""What decides the ids of a dataset's rows: the key under which they are kept, and found by any later run."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from registry.atomic import write_json
from registry.datasets import Layout
from registry.digest import sha256_of
from registry.folders import container_of
from registry.new_tokens import NO_TOKENS, NewTokens
from registry.remote import fingerprint, is_remote
from registry.render import RenderRules
from registry.templates import load_template

FORMAT_VERSION = 1  # of the files; another one is not read
ENCODER_VERSION = 1  # to be raised with every change of the code that changes ids
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
DIGESTS = "digests.json"
DATED_TOOL_FORMATS = ("llama3",)  # whose prompt names the day under strict
CACHE_VARIABLE = "TUNEKIT_CACHE"
SETTLED_NS = 3_000_000_000  # older than this, the times of a file tell it from what it was; FAT counts by two seconds


def cache_root() -> Path:
    """Where encoded rows are kept: ``$TUNEKIT_CACHE``, else the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunekit" / "encoded"


@dataclass(frozen=True, slots=True)
class EncodeSpec:
    """One dataset to be encoded for one purpose.

    ``kind``: ``turns`` (sft), ``answer`` (kto, prediction), ``pair`` (rm, dpo), ``text`` (pt). ``template`` None is
    the tokenizer's own; ``end_text`` ends each text of pt. ``strict`` reads rows as LLaMA-Factory 0.9.5 does.
    ``added`` are tokens of the run's own; ``files`` are what ``expand_sources`` gave, in order.
    """

    kind: str
    files: tuple[str, ...]
    layout: Layout
    tokenizer_folder: str
    template: str | None
    rules: RenderRules
    end_text: str | None = None
    strict: bool = False
    added: NewTokens = NO_TOKENS

    def identity(self, contents: Sequence[str]) -> dict[str, Any]:
        """Everything that decides the ids, as JSON values. ``contents`` are the hashes of the files."""
        added = {"added_tokens": asdict(self.added)} if self.added else {}  # without them the key is what it was
        return added | {
            "format": FORMAT_VERSION,
            "encoder": ENCODER_VERSION,
            "kind": self.kind,
            "contents": list(contents),
            "layout": asdict(self.layout),
            "tokenizer": tokenizer_digest(self.tokenizer_folder),
            "template": self.template,
            "template_text": None
            if self.template is None
            else _hash(repr(load_template(self.template, strict=self.strict))),
            "rules": asdict(self._rules_that_matter()) if self.kind != "text" else None,
            "end_text": self.end_text,
            "strict": self.strict,
            "day": date.today().isoformat() if self._tells_the_day() else None,
        }

    def _rules_that_matter(self) -> RenderRules:
        """The rules without those that change nothing here: a template that does not think has no thoughts to settle."""
        if self.template is None or load_template(self.template, strict=self.strict).thinking:
            return self.rules
        return replace(self.rules, enable_thinking=None, preserve_thinking=False, discard_thoughts=False)

    def _tells_the_day(self) -> bool:
        """Whether the ids are of the day on which they are made: a prompt that names it."""
        if self.strict and self.rules.tool_format in DATED_TOOL_FORMATS and not self.rules.tool_prompt_date:
            return self.layout.columns.tools is not None
        if self.template is None:
            folder = Path(self.tokenizer_folder)
            places = (folder / name for name in ("chat_template.jinja", "tokenizer_config.json"))
            return any(b"strftime_now" in path.read_bytes() for path in places if path.is_file())
        named = self.rules.tool_format or load_template(self.template, strict=self.strict).tool_format
        dated = named in DATED_TOOL_FORMATS and not self.rules.tool_prompt_date
        return self.strict and dated and self.layout.columns.tools is not None


def key_of(identity: Mapping[str, Any]) -> str:
    """The name of the folder that holds the encoded rows: 24 hex digits."""
    return _hash(json.dumps(identity, sort_keys=True, ensure_ascii=False))[:24]


def tokenizer_digest(folder: str | Path) -> str:
    """A hash of every file that decides what a tokenizer does."""
    found = {name: sha256_of(Path(folder) / name) for name in TOKENIZER_FILES if (Path(folder) / name).is_file()}
    return _hash(json.dumps(found, sort_keys=True))


def contents_of(files: Sequence[str], root: Path) -> list[str]:
    """The kind of each file, by which it is read, and a hash of its bytes; of an address, what tells its version.

    A file that was hashed before and was touched by nothing since (size, times of change and status, inode) is not
    read again: the times of status cannot be set by a program that keeps the times of change. One that was touched
    just now is: a clock that is coarse would give a second change the same times.
    """
    path = root / DIGESTS
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        held = None
    known: dict[str, Any] = held if isinstance(held, dict) else {}
    found: list[str] = []
    changed = False
    for file in files:
        if is_remote(file):
            found.append(f"{container_of(file)} {json.dumps(fingerprint(file), sort_keys=True, default=str)}")
            continue
        stat = Path(file).stat()
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]
        name = os.path.realpath(file)
        if isinstance(known.get(name), list) and known[name][1:] == state:
            digest = known[name][0]
        else:
            digest = sha256_of(file)
            if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED_NS:
                known[name] = [digest, *state]
                changed = True
        found.append(f"{container_of(file)} {digest}")
    if changed:
        with suppress(OSError):  # where nothing can be written, files are hashed each time
            write_json(path, dict(list(known.items())[-10_000:]))
    return found


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """In which settings two identities differ, one line each; what the rows hold (``contents``) is passed over."""
    lines = []
    for name in sorted({*wanted, *found} - {"contents"}):
        mine, other = wanted.get(name), found.get(name)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            lines += [f"{name}.{line}" for line in differences(mine, other)]
        elif mine != other:
            shown = "differs" if name in ("tokenizer", "template_text") else f"was {other!r}, is now {mine!r}"
            lines.append(f"{name}: {shown}")
    return lines


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
