"""`datakit augment` from its sources to its rows: plan, ask, keep, judge, write."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from datakit.augment.accounts import Account, Accounts, accounts_of
from datakit.augment.board import Board
from datakit.augment.breaker import Breaker
from datakit.augment.budget import Budget
from datakit.augment.conduct import AHEAD, Conductor, Done
from datakit.augment.dispatch import Dispatch
from datakit.augment.failures import FATAL, FOR_GOOD, CallFailed, Kind
from datakit.augment.options import STORE_ENDING, AugmentOptions
from datakit.augment.plan import Plan, label, plan_run
from datakit.augment.prices import Price, price_of
from datakit.augment.providers import PROVIDERS, Provider
from datakit.augment.rollout import Made, Seed
from datakit.augment.seeding import Unreadable
from datakit.augment.sender import Sender
from datakit.augment.shaping import Shaping
from datakit.augment.spool import Spool, Unit, failed_unit
from datakit.augment.store import AnswerStore
from datakit.augment.writing import check_targets, filter_options, write_rows
from datakit.outcome import Outcome
from datakit.values import encode_row
from datakit.write import STDOUT, raw_text
from registry.errors import DataError, Interrupted, RowFault, StoppedError, TunekitError, UsageError
from registry.remote import is_remote
from registry.rows import BadRow, Row

log = logging.getLogger("tunekit")

BATCH_WINDOW = 50_000  # rollouts on their way, so that a batch file gets full
BATCH_SHARE = 0.5  # of the price, at both vendors
AGAIN = "Run the same command again to go on; what is answered is not asked for twice."


@dataclass
class Run:
    """One run while it goes: what it reads, asks, and puts aside."""

    plan: Plan
    options: AugmentOptions
    store: AnswerStore
    spool: Spool
    accounts: Accounts
    price: Price | None
    quiet: bool = True
    budget: Budget = field(init=False)
    conductor: Conductor = field(init=False)
    rows_read: Counter[str] = field(default_factory=Counter)
    made: int = 0
    failed: Counter[str] = field(default_factory=Counter)  # seeds, by why
    example: str = ""  # of a failure: the first one
    _data: dict[int, Row] = field(default_factory=dict)  # rows behind the seeds on their way

    def __post_init__(self) -> None:
        options = self.options
        self.budget = Budget(options.limits, self.price, time.monotonic())
        shaping = Shaping(self.accounts.family, options.model, options.sampling, options.structured)
        shaping.recall(self.store.get(shaping.remembered()))
        self.conductor = Conductor(
            self.plan.begin,
            shaping,
            self.store,
            self.connect,
            window=BATCH_WINDOW if options.batch else AHEAD * options.workers + 1,
            retry_refused=options.retry_refused,
            fresh=options.fresh,
        )

    @cached_property
    def num_seeds(self) -> int | None:
        """How many seeds there are, where that is quickly told."""
        return self.plan.count()

    @property
    def seconds(self) -> float:
        """How long the run has gone on."""
        return round(time.monotonic() - self.budget.started, 3)

    @property
    def going_on(self) -> str:
        """What a run that stopped early says: why, and how to go on. Empty where it did not."""
        why = self.conductor.stopped
        again = AGAIN
        if why is None:
            left = self.num_left
            return f"{left:,} seeds got no answer this time. {again}" if left else ""
        if why.code == "budget":
            return f"{why.reason} is used up. With more, or without it, the same command goes on; what is answered is not asked for twice."
        if why.code == "breaker":
            again += " What was refused for good is only asked for again with --retry-refused."
        return f"{str(why if why.kind in FATAL else why.reason).rstrip('.')}. {again}"

    @property
    def num_left(self) -> int:
        """Seeds that a further run may get rows of."""
        return sum(count for kind, count in self.failed.items() if kind not in FOR_GOOD)

    def connect(self) -> Sender:
        """The first call that the store has no answer to: now a key is needed, and a store that can be written."""
        accounts = self._accounts()
        self.store.ensure_writable()
        if self.options.batch:
            from datakit.augment.batch import open_batches

            return open_batches(self.options, accounts, self.store, self.budget, self.accounts.provider)
        return Dispatch(
            accounts,
            self._provider,
            self.store,
            self.budget,
            provider=self.accounts.provider,
            workers=self.options.workers,
            rpm=self.options.rpm,
            tpm=self.options.tpm,
            timeout_s=self.options.timeout_s,
            attempts=self.options.attempts,
            breaker=Breaker(),
        )

    def _accounts(self) -> tuple[Account, ...]:
        try:
            return self.accounts.all
        except UsageError as error:
            found = self.conductor.tally.from_store
            known = f"{found:,} answers are in the store, and the next one is not: " if found else ""
            raise UsageError(f"{known}{error.what}", where=error.where, mend=error.mend) from None

    def _provider(self, account: Account) -> Provider:
        return PROVIDERS[self.accounts.provider](account.url, account.key)

    def ask(self, most: int | None = None) -> None:
        """Run the rollouts of all seeds (of the first ``most``), and put away what they made."""
        seeds = self.plan.seeds(self._unreadable, self._keep, self._count)
        if most is not None:
            seeds = islice(seeds, most)
        with Board(self, quiet=self.quiet) as board:
            try:
                for done in self.conductor.run(seeds, board.tick):
                    self._put_away(done)
            except Interrupted:
                self._drain(board)
                raise
            finally:
                if self.conductor.dispatch is not None:
                    self.conductor.dispatch.close(wait=not board.left_at_once)

    def _drain(self, board: Board) -> None:
        """Wait for the answers on the way: they are paid for. A second interrupt leaves at once."""
        dispatch = self.conductor.dispatch
        if dispatch is None:
            return
        dispatch.stop(CallFailed(Kind.STOPPED, "interrupted"))
        if dispatch.concurrency:
            log.warning(
                "stopping: waiting for %d answers that are on their way and paid for; Ctrl-C again leaves at once",
                dispatch.concurrency,
            )
        try:
            while dispatch.concurrency:
                time.sleep(0.05)
        except Interrupted:
            board.left_at_once = True

    def _count(self, file: str) -> None:
        self.rows_read[file] += 1

    def _keep(self, index: int, row: Row) -> None:
        self._data[index] = row

    def _unreadable(self, seed: Seed, why: Unreadable) -> None:
        raw = why.row.raw if isinstance(why.row, BadRow) else raw_text(why.row.data)
        self.spool.add(Unit(seed, reason=why.reason, field=why.field, raw=raw))

    def _put_away(self, done: Done) -> None:
        row = self._data.pop(done.seed.index, None)
        data = row.data if row is not None else None
        recipe = label(done.making.recipe.prompt)
        rows: list[tuple[dict[str, Any], Made]] = []
        failure = done.failure
        for made in done.making.made:
            if self.options.judge and "score" not in made.notes:
                continue  # its judge gave no answer, which is the failure; a further run gets both
            try:
                row_made = self.plan.shape.row(made, data, recipe, with_origin=self.options.origin)
                encode_row(row_made, Counter())
                rows.append((row_made, made))
            except RowFault as fault:  # this row alone cannot be written
                failure = failure or CallFailed(Kind.UNPARSABLE, f"{fault.field}: {fault.reason}", code="format")
        self.made += len(rows)
        if failure is None:
            self.spool.add(Unit(done.seed, tuple(rows), recipe=recipe))
            return
        self.failed[str(failure.kind)] += 1
        self.example = self.example or str(failure)
        self.spool.add(failed_unit(done.seed, failure, rows, raw_text(data) if data is not None else "", recipe))


def augment_rows(
    src: Sequence[str | Path],
    out: str | Path,
    options: AugmentOptions,
    *,
    rejects: str | Path | None = None,
    html: Path | None = None,
    quiet: bool = True,
) -> Outcome:
    """Make rows of the rows of ``src`` with a model, and write those that are worth it to ``out``.

    Every answer is in the store (by default beside ``out``) before it is used, and none that is there is asked for
    again. Seeds whose calls failed become rejects; rows that a filter dropped go to ``OUT.drops.jsonl``. The exit code is 3
    where the run stopped early, or where a further run may get what this one did not; 1 under ``strict`` where a seed
    failed for good, or where no row is left. Raises ``UsageError`` for what is wrong as a whole, a wrong key included.
    """
    with ExitStack() as stack:
        run = open_run(src, out, options, stack, quiet=quiet)
        check_targets(options, run.plan, run.store.path, out, rejects=rejects, html=html)
        run.ask()
        raise_fatal(run, out)
        outcome = write_rows(run, out, rejects=rejects, html=html)
    return replace(outcome, exit_code=_exit_code(run, outcome))


def open_run(
    src: Sequence[str | Path], out: str | Path | None, options: AugmentOptions, stack: ExitStack, *, quiet: bool
) -> Run:
    """A run that is planned and has its store open; ``stack`` closes it. Raises ``UsageError``."""
    accounts = accounts_of(options.provider, options.base_urls)
    price = price_of(options.model, given=options.price, file=options.prices)
    if options.limits.cost is not None and price is None:
        raise UsageError(
            f'nobody knows what "{options.model}" costs',
            where="--budget-cost",
            mend="Say so: --price IN,OUT for a million tokens.",
        )
    if price is not None and options.batch:
        price = replace(price, prompt=price.prompt * BATCH_SHARE, completion=price.completion * BATCH_SHARE)
    plan = plan_run(src, options)
    filter_options(options, plan)  # what is wrong with them is told before the first call
    store = stack.enter_context(AnswerStore(store_path(out, options)))
    folder = Path(out).resolve().parent if out is not None and str(out) != STDOUT and not is_remote(str(out)) else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    spool = stack.enter_context(Spool(folder))
    return Run(plan, options, store, spool, accounts, price, quiet)


def store_path(out: str | Path | None, options: AugmentOptions) -> Path:
    """Where answers are kept: where asked for, else beside the output."""
    if options.store is not None:
        return options.store
    if out is None or str(out) == STDOUT or is_remote(str(out)):
        raise UsageError(
            "there is no file that the store of answers could lie beside",
            where=f"-o {out}",
            mend="Name it: --store FILE",
        )
    return Path(f"{out}{STORE_ENDING}")


def raise_fatal(run: Run, out: str | Path | None = None) -> None:
    """A wrong key ends the run without an output; what was answered is in the store. So does a run that made nothing,
    as what an earlier one wrote to ``out`` is worth more."""
    why = run.conductor.stopped
    if why is not None and why.kind is Kind.KEY:
        kept = run.conductor.dispatch.figures.answered if run.conductor.dispatch is not None else 0
        raise UsageError(
            f"the server does not take the key ({why.code}): {why.reason}",
            where=f"--provider {run.accounts.provider}",
            mend="Mend it (see docs/augment.md for the names in the environment) and run the same command again"
            + (f"; {kept:,} answers are kept in {run.store.path}." if kept else "."),
        )
    dispatch = run.conductor.dispatch
    error = dispatch.store_error if dispatch is not None else None
    if isinstance(error, TunekitError) and not run.made:
        raise error
    if run.made:
        return
    if why is not None or run.num_left:
        reason = why.reason if why is not None else run.example
        mend = run.going_on if why is not None and why.code == "budget" else AGAIN
        again = " What was refused for good is only asked for again with --retry-refused." if _is_breaker(why) else ""
        raise StoppedError(f"no row was made: {reason}", where="augment", mend=f"{mend}{again} Nothing was written.")
    if run.failed and out is not None and Path(out).is_file() and Path(out).stat().st_size:
        raise DataError(
            f"no row was made: {run.example}", where="augment", mend=f"{out} is left as it was; nothing was written."
        )


def _is_breaker(why: CallFailed | None) -> bool:
    return why is not None and why.code == "breaker"


def _exit_code(run: Run, outcome: Outcome) -> int:
    if run.conductor.stopped is not None or run.num_left:
        return StoppedError.exit_code
    if outcome.num_rejected and (run.options.strict or not outcome.rows_out):
        return 1
    return 0
