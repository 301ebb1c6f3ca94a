"""Every row against what its format and its training stage ask of it, with each fault told by code, place and mend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from datakit.layout import AUTO, ColumnWatch, describe_format, peek_items, resolve_layout
from datakit.outcome import Outcome
from datakit.summary import with_progress
from datakit.targets import check_target
from datakit.together import Together
from datakit.validate.codes import levels_of
from datakit.validate.look import Wanted
from datakit.validate.mend import check_text_mending
from datakit.validate.mending import Mending
from datakit.validate.page import validate_page
from datakit.validate.report import Report
from datakit.validate.run import Run
from datakit.validate.structure import faults_of as faults_of
from datakit.workers import WORTH_BYTES, num_workers
from datakit.write import STDOUT, Sink, open_sink
from registry.blocks import BLOCK_SIZE, read_blocks, rows_in
from registry.errors import UsageError, known_hint
from registry.formats import LAYOUTS
from registry.manifest import build_manifest, manifest_path
from registry.sources import expand_sources
from registry.stages import check_stage, check_suits

# Bytes: the rules for texts look at many rows at once, and find the way into a batch once for all of them.
TEXT_BLOCK_SIZE = 4 * BLOCK_SIZE
# Bytes. Without them one process takes as long for so many as it takes to start others and share the work.
WORTH_BYTES_PLAIN = 3 << 29


def validate_rows(
    src: Iterable[str | Path],
    *,
    format_name: str = AUTO,
    stage: str | None = None,
    mapping: Mapping[str, str] | None = None,
    clean: str | Path | None = None,
    rejects: str | Path | None = None,
    text: bool = True,
    deny: Sequence[str] = (),
    warn: Sequence[str] = (),
    allow: Sequence[str] = (),
    fix: bool = False,
    fix_text: bool = False,
    html: Path | None = None,
    workers: int = 1,
) -> Outcome:
    """Check every row of ``src``. The exit code is 1 where any row has an error; warnings alone leave it at 0.

    ``clean`` gets the rows without an error, unchanged but for what ``fix`` and ``fix_text`` mend in them; ``rejects``
    (by default beside ``clean``) the others. ``rows_out`` counts rows without an error whether they are written or
    not. ``text`` False leaves the rules for texts out. ``deny``, ``warn`` and ``allow`` take codes and families (see
    ``datakit.validate.codes.levels_of``). ``details`` hold ``faults`` and the rest of what ``--json`` prints.
    ``workers`` processes look at rows (0: one a core, where it is worth it); a script that asks for more than one needs
    the guard that ``multiprocessing`` does.
    Raises ``UsageError`` for what is wrong as a whole, rows of a kind that ``stage`` cannot learn from included.
    """
    mapping = dict(mapping or {})
    _check(format_name, stage, clean, fix=fix, fix_text=fix_text, text=text)
    levels = levels_of(stage, deny=deny, warn=warn, allow=allow)
    files = expand_sources(src)
    options = {
        "format": format_name, "stage": stage, "map": mapping, "text": text, "deny": [*deny], "warn": [*warn],
        "allow": [*allow], "fix": fix, "fix_text": fix_text,
    }  # fmt: skip
    if html is not None:
        check_target(html, files, endings=(".html", ".htm"))
    items = read_blocks(files, size=TEXT_BLOCK_SIZE if text else BLOCK_SIZE)
    with closing(items):
        head, passing = peek_items(items, format_name)
        layout = resolve_layout(format_name, mapping, head)
        if layout is not None and stage is not None:
            check_suits(layout.kind, stage, ", ".join(files))
        watch = ColumnWatch.of(mapping)
        for row in head:
            watch.look(row.data)
        wanted = Wanted(layout or LAYOUTS["text"], mapping, levels, text, tuple(head))
        with Together() as together, open_sink(clean, rejects, files, together=together) as sink:
            run = Run(wanted, Mending(fix, fix_text), watch, sink, Report(levels))
            with closing(with_progress(passing, "checking", size=rows_in)) as shown:
                run.take_all(shown, num_workers(workers, files, WORTH_BYTES if text else WORTH_BYTES_PLAIN))
            watch.check(", ".join(files))
            details = {
                "format": describe_format(layout) if layout else None,
                "stage": stage,
                "text_rules": text,
                **run.report.as_json(),
                "files": run.report.files(sink.ledger.by_file),
            }
            outcome = sink.close_books("validate", options, files, details)
            if html is not None:
                _write_page(html, outcome, options, files, sink, together)
                outcome = replace(outcome, outputs=(*outcome.outputs, html))
    return replace(outcome, exit_code=1 if outcome.num_rejected or run.report.has_errors else 0)


def _check(
    format_name: str, stage: str | None, clean: str | Path | None, *, fix: bool, fix_text: bool, text: bool
) -> None:
    """Raise ``UsageError`` for options that are wrong by themselves."""
    if format_name not in (AUTO, *LAYOUTS):
        known = (AUTO, *LAYOUTS)
        mend = known_hint(format_name, known)
        raise UsageError(f'unknown format "{format_name}"', where="--format", mend=mend)
    if stage is not None:
        check_stage(stage)
    if str(clean) == STDOUT:
        raise UsageError("the report goes to stdout, so the clean rows need a file", where="--clean")
    for flag, given in (("--fix", fix), ("--fix-text", fix_text)):
        if given and clean is None:
            raise UsageError("mended rows need a file to go to", where=flag, mend="Add --clean FILE.")
    if fix_text and not text:
        raise UsageError("without the rules for texts nothing is found to mend in them", where="--fix-text --no-text")
    if fix_text:
        check_text_mending()


def _write_page(
    html: Path, outcome: Outcome, options: Mapping[str, Any], files: Sequence[str], sink: Sink, together: Together
) -> None:
    """The report as a page, with its manifest."""
    together.open(str(html)).write(validate_page(outcome.as_json()).encode("utf-8", "backslashreplace"))
    together.settle(str(html))
    manifest = build_manifest("validate", options, files, sink.ledger, digests=sink.digests)
    manifest["outputs"] = [together.describe(str(html))]
    spelled = orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    together.open(str(manifest_path(html))).write(spelled)
