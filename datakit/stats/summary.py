"""What was measured as the one object that `--json` prints; the tables, the picture and the page show nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from datakit.stats.cutoff import AtCutoff, at_cutoff, in_blocks
from datakit.stats.lengths import Lengths, Part, Totals, totals
from datakit.stats.measure import Measured
from datakit.stats.sample import CONFIDENCE, Sample, rank_band, share_band, total_band
from datakit.stats.suggest import Suggestion, ladder, rank_of, round_up, suggest_block, suggest_cutoff

if TYPE_CHECKING:
    import numpy as np

    from datakit.stats.suggest import Ordered

PERCENTILES = ("50", "90", "95", "99", "99.9", "100")
MOST_BINS = 60  # of the histogram
COUNTS = ("rows_truncated", "rows_lost", "tokens_lost", "trained_tokens_lost", "blocks")  # that grow with the rows


def summarize(measured: Measured) -> dict[str, Any]:
    """The object that ``--json`` prints, described key by key in docs/stats.md.

    Lengths are in tokens; percentiles are by nearest rank, so each is the length of some row; shares are between 0
    and 1. The fields of ``at_suggestion`` and of each candidate are those of ``AtCutoff``. Of a sample, counts are
    scaled to all rows, and ``estimate`` holds their bands.
    """
    import numpy as np

    lengths, account = measured.lengths, measured.account
    sample = account.sample if account.sample and not account.sample.is_whole else None
    factor = sample.factor if sample else 1.0
    ordered = np.sort(lengths.rows())
    whole = totals(lengths)
    suggestion, steps = _suggested(measured, ordered, whole, factor)
    candidates = [_scaled(asdict(_at(measured, step, whole, factor)), measured, factor) for step in steps]
    ledger = account.ledger
    return {
        "rows": round(len(lengths) * factor),
        "tokens": round(whole.num_tokens * factor),
        "trained_tokens": round(whole.num_trained * factor),
        "percentiles": {name: percentile(ordered, name) for name in PERCENTILES},
        "mean": round(float(ordered.mean()), 2),
        "suggested_cutoff_len": suggestion.cutoff_len,
        "reason": suggestion.reason,
        "at_suggestion": next(c for c in candidates if c["cutoff_len"] == suggestion.cutoff_len),
        "candidates": candidates,
        "histogram": histogram(ordered, suggestion.cutoff_len),
        "batch_size": measured.steps.batch_size,
        "gradient_accumulation": measured.steps.accumulation,
        "packing": lengths.kind == "text" if measured.steps.packing is None else measured.steps.packing,
        "target": measured.target,
        "stage": measured.stage,
        "unit": unit_of(lengths),
        "template": measured.template,
        "tokenizer": measured.tokenizer,
        "backend": measured.backend,
        "doubtful_texts": measured.doubtful,
        "model_limit": measured.model_limit,
        "roles": {
            role: {name: round(count * factor) for name, count in counts.items()}
            for role, counts in measured.roles.items()
        },
        "sides": _sides(lengths),
        "judged": measured.judged,
        "sources": _sources(measured, suggestion.cutoff_len),
        "rows_in": ledger.rows_in,
        "rejected": dict(ledger.rejected.most_common()),
        "rejected_examples": account.examples,
        "estimate": _bands(measured, ordered, candidates, sample) if sample else None,
        "seconds": round(ledger.seconds, 3),
    }


def unit_of(lengths: Lengths) -> str:
    """What one length is of, in words."""
    by_kind = {"text": "text", "preference": "prompt + longer answer", "feedback": "prompt + answer", "chat": "row"}
    return by_kind[lengths.kind]


def percentile(ordered: Ordered, name: str) -> int:
    """The length of the row at the nearest rank."""
    return int(ordered[rank_of(float(name) / 100, len(ordered)) - 1])


def _suggested(measured: Measured, ordered: Ordered, whole: Totals, factor: float) -> tuple[Suggestion, list[int]]:
    """The suggestion, and the ladder of lengths to compare it with."""
    limit = measured.model_limit
    if measured.lengths.kind != "text":
        unit = "rows" if factor == 1 else "drawn rows"
        found = suggest_cutoff(ordered, measured.target, limit, unit)
        return found, ladder(percentile(ordered, "50"), int(ordered[-1]), found.cutoff_len, limit)
    found = suggest_block(
        round(whole.num_tokens * factor), limit, opens_with_bos=measured.opens_with_bos, batch_size=measured.steps.batch_size
    )  # fmt: skip
    return found, ladder(64, max(found.cutoff_len, 4096), found.cutoff_len, limit)


def _at(measured: Measured, cutoff_len: int, whole: Totals, factor: float) -> AtCutoff:
    if measured.lengths.kind == "text":
        tokens = round(whole.num_tokens * factor)
        return in_blocks(tokens, cutoff_len, opens_with_bos=measured.opens_with_bos, steps=measured.steps)
    return at_cutoff(measured.lengths, cutoff_len, whole, measured.steps)


def _scaled(found: dict[str, Any], measured: Measured, factor: float) -> dict[str, Any]:
    """The counts of a sample as those of all rows; blocks of text are already made of all tokens."""
    if factor == 1 or measured.lengths.kind == "text":
        return found
    found |= {name: round(found[name] * factor) for name in COUNTS}
    rows = round(len(measured.lengths) * factor) - found["rows_lost"]
    found["steps_per_epoch"] = measured.steps.in_epoch(found["blocks"] if measured.steps.packing else rows)
    return found


def _sides(lengths: Lengths) -> dict[str, dict[str, Any]]:
    """Of preferences and judged answers: how long prompts and answers are apart from each other."""
    import numpy as np

    if lengths.kind not in ("preference", "feedback"):
        return {}
    names = ("prompt", "chosen", "rejected") if lengths.kind == "preference" else ("prompt", "answer")
    columns: list[list[np.ndarray[Any, Any]]] = [[] for _ in names]
    for chunk in lengths.chunks():
        prompts, answers = chunk.sides()
        for column, found in zip(columns, (prompts, *answers), strict=True):
            column.append(found.astype(np.int32))
    return {name: _spread(np.sort(np.concatenate(column))) for name, column in zip(names, columns, strict=True)}


def _spread(ordered: Ordered) -> dict[str, Any]:
    return {
        "mean": round(float(ordered.mean()), 2),
        "p50": percentile(ordered, "50"),
        "p95": percentile(ordered, "95"),
        "max": int(ordered[-1]),
    }


def _sources(measured: Measured, cutoff_len: int) -> list[dict[str, Any]]:
    """Every file or dataset with a row in it, those whose rows were all rejected last."""
    parts, rejected = measured.lengths.parts, measured.account.rejected_of
    nothing = {"tokens": 0, "trained_tokens": 0, "mean": 0.0, "p50": 0, "p95": 0, "max": 0, "rows_truncated": 0}
    empty = [name for name in rejected if name not in {part.name for part in parts}]
    return [_source(measured, part, cutoff_len) for part in parts] + [
        {"source": name, "rows": 0, "rejected": rejected[name], **nothing} for name in empty
    ]


def _source(measured: Measured, part: Part, cutoff_len: int) -> dict[str, Any]:
    """The rows of one file or dataset; of a sample, those that were drawn."""
    import numpy as np

    rows = np.sort(measured.lengths.rows(part))
    whole = totals(measured.lengths, part)
    return {
        "source": part.name,
        "rows": len(rows),
        "rejected": measured.account.rejected_of[part.name],
        "tokens": whole.num_tokens,
        "trained_tokens": whole.num_trained,
        **_spread(rows),
        "rows_truncated": 0 if measured.lengths.kind == "text" else int(np.count_nonzero(rows > cutoff_len)),
    }


def histogram(ordered: Ordered, suggested: int) -> dict[str, Any]:
    """Rows by length: ``counts`` of bins of ``width`` tokens from 0, and how many are ``beyond`` the last bin.

    The bins reach past the suggestion, and past all but the last thousandth of rows where those are far longer.
    """
    import numpy as np

    longest, bulk = int(ordered[-1]), percentile(ordered, "99.9")
    end = longest if longest <= 2 * bulk else bulk
    if suggested < 2 * end:
        end = max(end, suggested)
    width = _round_width(max(-(-(end + 1) // MOST_BINS), 1))
    edges = np.arange(0, end + width + 1, width)
    counts = np.diff(ordered.searchsorted(edges, side="left"))
    return {"width": width, "counts": counts.tolist(), "beyond": len(ordered) - int(counts.sum()), "longest": longest}


def _round_width(width: int) -> int:
    """The next of 1, 2, 4, 8, 16, … so that bins end where suggestions may lie."""
    return 1 << (width - 1).bit_length()


def _bands(measured: Measured, ordered: Ordered, candidates: list[dict[str, Any]], sample: Sample) -> dict[str, Any]:
    """How far the figures of a sample may be off: low and high ends at 95% confidence (None: not bounded)."""
    import numpy as np

    lengths, drawn = measured.lengths, sample.num_rows
    kept = [chunk.kept(None) for chunk in lengths.chunks()]

    def quantile(share: float) -> list[int | None]:
        low, high = rank_band(len(ordered), share)
        top = int(ordered[high - 1]) if high <= len(ordered) else None
        return [int(ordered[low - 1]) if low else None, top]

    def total(values: np.ndarray[Any, Any]) -> list[int]:
        low, high = total_band(values, sample)
        return [round(low), round(high)]

    def truncated(cutoff_len: int) -> list[int]:
        hits = len(ordered) - int(ordered.searchsorted(cutoff_len, side="right"))
        return [round(end * sample.num_all) for end in share_band(hits, drawn)]

    found: dict[str, Any] = {
        "sampled_rows": drawn,
        "of_rows": sample.num_all,
        "seed": sample.seed,
        "confidence": CONFIDENCE,
        "rows": total(np.ones(len(ordered))),
        "tokens": total(np.concatenate([np.sum(k.sequences, axis=0) for k in kept])),
        "trained_tokens": total(np.concatenate([k.trained for k in kept])),
        "percentiles": {name: quantile(float(name) / 100) for name in PERCENTILES},
    }
    if lengths.kind == "text":
        return found
    ends = [end if end is None else _within(end, measured.model_limit) for end in quantile(measured.target)]
    return found | {
        "suggested_cutoff_len": ends,
        "rows_truncated": {str(c["cutoff_len"]): truncated(c["cutoff_len"]) for c in candidates},
    }


def _within(length: int, limit: int | None) -> int:
    return min(round_up(length), limit) if limit else round_up(length)
