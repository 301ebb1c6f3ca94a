"""What a split reached, told: the shares, the groups that kept it from being exact, the rows nobody could place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from datakit.split.choose import NAMES, TEST, TRAIN, VAL
from datakit.split.plan import Plan
from datakit.summary import visible

log = logging.getLogger("tunekit")

MOST_STRATA_KEPT = 1000  # values whose counts stand in the manifest
MOST_NAMES = 5
FAR_OFF = 0.1  # of what was asked for; from here on it is a warning


def details_of(plan: Plan, targets: Mapping[int, str]) -> dict[str, Any]:
    """As ``--json`` and the manifest tell it: rows and share of each side, groups, strata and families."""
    sides = {
        NAMES[side]: {
            "file": file,
            "rows": plan.counts[side],
            "share": round(plan.counts[side] / plan.num_rows, 6),
            **({"asked": plan.asked[side].of(plan.num_rows)} if side != TRAIN else {}),
        }
        for side, file in targets.items()
    }
    details: dict[str, Any] = {"sides": sides}
    if plan.num_units is not None:
        details["groups"] = {
            "groups": plan.num_units,
            "largest": plan.largest_unit,
            "rows_without_value": plan.num_without_group,
        }
    if plan.stratify is not None:
        kept = list(plan.strata.items())[:MOST_STRATA_KEPT]
        details["strata"] = {value: {NAMES[side]: counts[side] for side in targets} for value, counts in kept}
    if plan.families.num_made:
        details["families"] = {
            "rows_made": plan.families.num_made,
            "seed_rows": plan.families.num_seeds,
            "seed_rows_found": plan.families.num_found,
        }
    return details


def tell(plan: Plan, targets: Mapping[int, str]) -> None:
    """Log what was reached; a warning where it is far from what was asked, or a seed row is not there."""
    for side in targets:
        count = plan.counts[side]
        off = plan.missed(side) if side != TRAIN else 0
        asked = (
            f", not {count - off:,}: groups stay whole, and the largest has {plan.largest_unit:,} rows" if off else ""
        )
        level = logging.WARNING if abs(off) > FAR_OFF * (count - off) else logging.INFO
        log.log(level, "%s: %s rows, %.2f %%%s", NAMES[side], f"{count:,}", 100 * count / plan.num_rows, asked)
    if plan.by is not None and plan.num_without_group:
        log.warning('rows without "%s": %s; each of them stands alone', plan.by, f"{plan.num_without_group:,}")
    _tell_families(plan)
    for side in (VAL, TEST):
        rare = [value for value, counts in plan.strata.items() if not counts[side]] if side in targets else []
        if rare:
            named = ", ".join(f'"{visible(value)[:40]}"' for value in rare[:MOST_NAMES])
            more = ", …" if len(rare) > MOST_NAMES else ""
            log.info(
                '%s of %s values of "%s" are too rare for a row in %s: %s%s',
                f"{len(rare):,}", f"{len(plan.strata):,}", plan.stratify, NAMES[side], named, more,
            )  # fmt: skip


def _tell_families(plan: Plan) -> None:
    families = plan.families
    if not families.num_made:
        return
    log.info(
        "%s rows were made from %s seed rows, and stay with them", f"{families.num_made:,}", f"{families.num_seeds:,}"
    )
    missing = families.num_seeds - families.num_found
    if missing:
        log.warning(
            "%s of these seed rows are not among the rows: what was made from one of them is kept together, but where"
            " the seed row itself is, is not known",
            f"{missing:,}",
        )
