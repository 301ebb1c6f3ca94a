"""What was measured, told on the terminal or as one JSON object, and written into the files that were asked for."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datakit.stats import tables
from datakit.stats.bars import draw_bars
from datakit.stats.measure import Measured
from datakit.stats.summary import summarize
from datakit.stats.write_config import check_config, write_cutoff
from datakit.summary import visible
from registry.atomic import atomic_file
from registry.command import print_json
from registry.errors import UsageError
from registry.manifest import build_manifest, write_manifest

log = logging.getLogger("tunekit")

_PLAIN = str.maketrans({"·": "|", "–": "-", "—": "-", "×": "x", "≥": ">=", "≤": "<=", "…": "...", "─": "-"})


@dataclass(frozen=True, slots=True)
class Targets:
    """The files to write besides what is printed; None for those that were not asked for."""

    plot: Path | None = None
    html: Path | None = None
    config: Path | None = None


def check_targets(targets: Targets) -> None:
    """Raise ``UsageError`` for files that could not be written, before anything is measured."""
    for path, endings in ((targets.plot, (".png",)), (targets.html, (".html", ".htm"))):
        if path is None:
            continue
        if path.is_dir():
            name = path / f"lengths{endings[0]}"
            raise UsageError("this is a folder, a file is needed", where=str(path), mend=f"For example {name}")
        if path.suffix.lower() not in endings:
            raise UsageError(f"this is written as {endings[0]}, so its name must end so", where=str(path))
        parent = next(p for p in path.absolute().parents if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise UsageError(f"nothing can be written in {parent}", where=str(path), mend="Choose another place.")
    if targets.config is not None:
        check_config(targets.config)


def write_files(
    measured: Measured, summary: dict[str, Any], targets: Targets, options: Mapping[str, Any]
) -> list[Path]:
    """Write picture and page, each with its manifest, and the suggestion into the config; all whole or not at all."""
    import numpy as np

    written: list[Path] = []
    rows = np.sort(measured.lengths.rows()) if targets.plot or targets.html else None
    if targets.plot and rows is not None:
        from datakit.stats.plot import draw_lengths

        with atomic_file(targets.plot) as handle:
            draw_lengths(rows, summary, handle)
        written.append(targets.plot)
    if targets.html and rows is not None:
        from datakit.stats.web import report_page

        with atomic_file(targets.html) as handle:
            handle.write(report_page(rows, summary, measured.files).encode("utf-8", "backslashreplace"))
        written.append(targets.html)
    for path in written:
        manifest = build_manifest("stats", options, measured.files, measured.account.ledger, [path])
        write_manifest(path, manifest)
    if targets.config:
        suggested = summary["suggested_cutoff_len"]
        old = write_cutoff(targets.config, suggested)
        was = "" if old is None else " as before" if old == suggested else f", was {old}"
        log.info("cutoff_len: %d%s in %s", suggested, was, targets.config)
        written.append(targets.config)
    return written


def finish_stats(measured: Measured, targets: Targets, *, options: Mapping[str, Any], json: bool, quiet: bool) -> None:
    """Print the report (or the JSON object) on stdout and write the files that were asked for."""
    summary = summarize(measured)
    written = write_files(measured, summary, targets, options)
    if json:
        print_json(summary)
    else:
        print_report(summary)
    for path in written:
        if path != targets.config:
            log.info("written: %s", path)
    for reason, count in summary["rejected"].items():
        log.warning("%s rejected: %s", f"{count:,} row{'s' if count > 1 else ''}", reason)
    for example in summary["rejected_examples"]:
        log.info("  e.g. %s", example)
    if summary["judged"] and not all(summary["judged"].values()):
        log.warning("all answers are judged alike; kto learns from desirable and undesirable ones together")


def print_report(summary: dict[str, Any]) -> None:
    """The tables and the histogram, for people; without a sign beyond ASCII where stdout takes none."""
    from rich.console import Console

    plain = not (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    if plain and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console(highlight=False)

    def say(text: str, style: str | None = None, *, wrap: bool = True) -> None:
        text = visible(text)
        console.print(text.translate(_PLAIN) if plain else text, style=style, markup=False, soft_wrap=not wrap)

    def say_table(table: tables.Table) -> None:
        say(f"\n{table.title}", "bold")
        for number, line in enumerate(tables.lines_of(table, console.width)):
            say(line, "bold green" if number - 2 in table.mark else None, wrap=False)
        if table.note:
            say(table.note, "dim")

    say(tables.headline(summary))
    if note := tables.estimate_note(summary):
        say(note)
    say_table(tables.length_table(summary))
    say("")
    for line in draw_bars(summary["histogram"], summary["suggested_cutoff_len"], console.width, ascii_only=plain):
        say(line, wrap=False)
    others = (tables.candidate_table, tables.side_table, tables.role_table, tables.source_table)
    for table in (found for tell in others if (found := tell(summary))):
        say_table(table)
    headline, reason = tables.suggestion(summary)
    say(f"\n{headline}", "bold")
    say(f"  {reason}")
