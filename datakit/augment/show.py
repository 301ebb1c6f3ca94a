"""What a run of augment prints: its report, the foresight of a dry run, or a sample beside its seeds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from datakit.augment.filters import Judged, plan_filters
from datakit.augment.foresee import Foresight, foresee
from datakit.augment.options import AugmentOptions
from datakit.augment.report.show import show as show_report
from datakit.augment.run import Run, augment_rows, open_run, raise_fatal
from datakit.augment.side_by_side import show_sample
from datakit.augment.spool import Unit
from datakit.augment.writing import filter_options, teach
from datakit.summary import finish, say, visible
from registry.command import print_json
from registry.errors import StoppedError, UsageError

if TYPE_CHECKING:
    from datakit.outcome import Outcome

log = logging.getLogger("tunekit")


def augment_and_show(
    src: Sequence[str],
    out: str | None,
    options: AugmentOptions,
    *,
    rejects: str | Path | None,
    html: Path | None,
    dry_run: bool,
    sample: int | None,
    json: bool,
    quiet: bool,
) -> None:
    """Run, or look ahead, and print what came of it. Leaves with the exit code of the run."""
    if dry_run:
        _show_foresight(src, out, options, json=json, quiet=quiet)
        return
    if sample is not None:
        _show_sample(src, out, options, sample, json=json, quiet=quiet)
        return
    if out is None:
        raise UsageError("made rows need a file to go to", where="augment", mend="Name it: -o rows.more.jsonl")
    if json and out == "-":
        raise UsageError("--json and the rows cannot both go to stdout", where="-o -", mend="Give the rows a file.")
    outcome = augment_rows(src, out, options, rejects=rejects, html=html, quiet=quiet or json)
    _tell(outcome, out, json=json, quiet=quiet)
    finish(outcome, json=json, quiet=quiet)


def _tell(outcome: Outcome, out: str, *, json: bool, quiet: bool) -> None:
    if not json and not quiet and out != "-":
        show_report(outcome.details)
    recorded = outcome.details.get("recorded")
    if recorded and not quiet:
        log.info("%s answers came from the store. %s", f"{outcome.details['calls']['from_store']:,}", recorded)
    if outcome.details.get("stopped"):
        log.warning("%s", outcome.details["stopped"])


def _ahead(out: str | None, options: AugmentOptions) -> AugmentOptions:
    """Where nothing is written, a store need not exist either."""
    from dataclasses import replace

    if out is None and options.store is None:
        return replace(options, store=Path("augment.store.sqlite"))
    return options


def _show_foresight(src: Sequence[str], out: str | None, options: AugmentOptions, *, json: bool, quiet: bool) -> None:
    with ExitStack() as stack:
        run = open_run(src, out, _ahead(out, options), stack, quiet=True)
        found = foresee(run)
        price = run.price
    if json:
        print_json({"command": "augment", "dry_run": True, **found.as_json()})
        return
    for number, messages in enumerate(found.prompts, start=1):
        say(f"── prompt {number} ──")
        for role, content in messages:
            say(f"[{role}]\n{visible(content)}\n")
    for line in _lines(found, price.as_of if price else None):
        say(line)


def _lines(found: Foresight, as_of: str | None) -> list[str]:
    to_pay = found.calls - found.known
    lines = [
        f"{found.seeds:,} seeds, about {found.rows:,} rows"
        + (f", {found.unreadable:,} rows cannot be read" if found.unreadable else ""),
        f"{found.calls:,} calls: {found.known:,} answered in the store, {to_pay:,} to be paid for",
        f"about {found.prompt_tokens:,} tokens of prompts and {found.completion_tokens:,} of answers",
    ]
    if found.cost is not None:
        when = f" (prices of {as_of})" if as_of else ""
        lines.append(f"about {found.cost:,.2f} in all{when}; retries and corrections come on top")
    else:
        lines.append("nobody knows what this model costs: --price IN,OUT for a million tokens")
    return lines


def _show_sample(
    src: Sequence[str], out: str | None, options: AugmentOptions, most: int, *, json: bool, quiet: bool
) -> None:
    with ExitStack() as stack:
        run = open_run(src, out, _ahead(out, options), stack, quiet=quiet or json)
        run.ask(most)
        raise_fatal(run)
        filters = stack.enter_context(plan_filters(run.plan.main, filter_options(run.options, run.plan)))
        rows = [row for unit in run.spool.units() for row in unit.rows]
        teach(filters, run)
        judged = list(filters.judge(iter(rows)))
        failures = [_why(unit) for unit in run.spool.units() if unit.failed]
        if json:
            print_json(_sample_json(run, judged, failures))
        else:
            show_sample(judged)
            say(
                f"\n{sum(row.verdict.kept for row in judged)} of {len(judged)} rows would be kept; the answers are in {run.store.path}"
            )
        for reason in failures:
            log.warning("%s", reason)
        if run.going_on:
            log.warning("%s", run.going_on)
            raise typer.Exit(StoppedError.exit_code)


def _why(unit: Unit) -> str:
    some = f"got {len(unit.rows)} rows and no more" if unit.rows else "got no rows"
    return f"{unit.seed.file}, row {unit.seed.number} {some}: {unit.reason}"


def _sample_json(run: Run, judged: Sequence[Judged], failures: Sequence[str]) -> dict[str, Any]:
    rows = [
        {"row": row.data, "kept": row.verdict.kept, "reason": row.verdict.reason, "detail": row.verdict.detail}
        for row in judged
    ]
    return {"command": "augment", "sample": rows, "failures": list(failures), "store": str(run.store.path)}
