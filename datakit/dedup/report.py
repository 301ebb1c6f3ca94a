"""What was looked for and with which certainty, and what came of it: for the log, ``--json`` and the manifest."""

from __future__ import annotations

import logging
from typing import Any

from datakit.dedup.fields import Fields
from datakit.dedup.judge import Judge
from datakit.dedup.near import MOST_COMPARED, NearNotes
from datakit.dedup.overlap import ANY, EvaluationSet
from datakit.dedup.plan import Plan

log = logging.getLogger("tunekit")

NORMAL_FORM = "Unicode NFKC, case folded, each run of white space one space, none at the ends"
HIGHER = (0.9, 0.95)  # similarities whose probability is told beside the threshold's


def tell_plan(plan: Plan, fields: Fields) -> None:
    """Log what is compared and how, before it begins."""
    if plan.exact:
        what = ", ".join(plan.names) or "the whole row"
        log.info("exact duplicates by %s; texts %s", what, NORMAL_FORM if plan.normalise else "as they are")
    if plan.near is not None and plan.bands is not None:
        bands = plan.bands
        log.info(
            "near duplicates: %s at a Jaccard similarity of %g or more, by %d-token n-grams; MinHash of %d permutations"
            " in %d bands of %d finds a pair at %g with a probability of %.4f, and each is confirmed on the n-grams",
            fields.texts_named, plan.near, plan.shingle, bands.permutations, bands.count, bands.rows,
            plan.near, bands.found(plan.near),
        )  # fmt: skip


def tell_evaluation(evaluation: EvaluationSet, plan: Plan) -> None:
    """Log what the evaluation set holds, when it was read."""
    rule = "a single one" if plan.least is None else f"{100 * plan.least:g} % of those of an evaluation row"
    log.info(
        "evaluation set: %s rows, %s different n-grams of %d tokens; a row that shares %s is dropped",
        f"{evaluation.num_rows:,}", f"{evaluation.num_grams:,}", plan.ngram, rule,
    )  # fmt: skip
    if evaluation.num_whole:
        log.info("%s of its rows are shorter, and are compared as a whole", f"{evaluation.num_whole:,}")
    if evaluation.num_empty:
        log.warning("%s rows of the evaluation set hold no word, and protect nothing", f"{evaluation.num_empty:,}")


def tell_results(judge: Judge, plan: Plan) -> None:
    """Log what a reader of the counts alone would not see."""
    if judge.num_without:
        what = f"none of {', '.join(plan.names)}" if plan.names else "no text"
        log.warning("%s rows have %s; they stay, and are compared with none", f"{judge.num_without:,}", what)
    if judge.near is not None and judge.near.num_hurried:
        log.warning(
            "%s rows had more rows that share a band than are compared (%d); a near duplicate among the others may stay",
            f"{judge.near.num_hurried:,}", MOST_COMPARED,
        )  # fmt: skip


def details_of(
    plan: Plan, fields: Fields, judge: Judge, others: list[dict[str, Any]], sets: list[dict[str, Any]]
) -> dict[str, Any]:
    """As ``--json`` and the manifest tell it."""
    details: dict[str, Any] = {
        "on": list(plan.names) or None,
        "normal_form": NORMAL_FORM if plan.normalise else None,
        "rows_not_compared": judge.num_without,
        "memory": _memory_of(judge),
    }
    if judge.near is not None:
        details["near"] = _near_of(judge.near, plan, fields)
    if others:
        details["against"] = others
    if judge.evaluation is not None:
        details["evaluation"] = {
            "files": sets,
            "ngram": plan.ngram,
            "overlap": ANY if plan.least is None else plan.least,
            "ngrams": judge.evaluation.num_grams,
            "rows_compared_whole": judge.evaluation.num_whole,
            "rows_without_words": judge.evaluation.num_empty,
        }
    return details


def _near_of(near: NearNotes, plan: Plan, fields: Fields) -> dict[str, Any]:
    bands = near.bands
    return {
        "threshold": near.threshold,
        "ngram": plan.shingle,
        "texts": fields.texts_named,
        "permutations": bands.permutations,
        "bands": bands.count,
        "rows_a_band": bands.rows,
        "found_with_probability": {
            f"{s:g}": round(bands.found(s), 6) for s in (near.threshold, *(s for s in HIGHER if s > near.threshold))
        },
        "rows_with_more_candidates": near.num_hurried,
    }


def _memory_of(judge: Judge) -> dict[str, int]:
    """Bytes held for the rows compared, by what for, and on disk."""
    found: dict[str, int] = {}
    if judge.table is not None:
        found["exact_bytes"] = judge.table.num_bytes
    if judge.near is not None:
        found |= {"near_bytes": judge.near.num_bytes, "near_bytes_on_disk": judge.near.spool.num_bytes}
    return found
