"""What goes together of trackers, early stopping and the best checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Rule = tuple[bool, str, str]  # broken?, the keys at fault with spaces between, what is wrong


def watch_rules(v: Mapping[str, Any]) -> list[Rule]:
    """Trackers, early stopping and the best checkpoint."""
    from trainkit.reports import unknown_reports

    several = v["eval_on_each_dataset"] and len(v["eval_dataset"] or ()) > 1
    metric = (v["metric_for_best_model"] or "loss").removeprefix("eval_")
    rules = [(True, "report_to", fault) for fault in unknown_reports(v["report_to"] or ())]
    for key in ("early_stopping_steps", "load_best_model_at_end"):
        rules += [
            (
                bool(v[key]) and v["eval_strategy"] == "no",
                f"{key} eval_strategy",
                f'"{key}" goes by what evaluation finds; set eval_strategy: steps or epoch',
            ),
            (
                bool(v[key]) and several and not metric.startswith(tuple(f"{name}_" for name in v["eval_dataset"])),
                f"{key} eval_on_each_dataset metric_for_best_model",
                f'"{key}" needs one number, and eval_on_each_dataset gives one for each set; '
                f"set metric_for_best_model: eval_{v['eval_dataset'][0] if several else ''}_loss, or that of another set",
            ),
        ]
    return [
        *rules,
        (
            v["compute_accuracy"] and v["stage"] not in ("pt", "sft", "rm"),
            "compute_accuracy stage",
            f'"compute_accuracy" counts tokens that are predicted right, which stage {v["stage"]} does not train on; '
            "its evaluation has eval_rewards/accuracies",
        ),
    ]


def watch_notes(v: Mapping[str, Any]) -> list[str]:
    """Settings of trackers that are not reported to, and of a choice that is not made."""
    to = {name.lower() for name in v["report_to"] or ()}
    swanlab, trackio = v["use_swanlab"] or to & {"swanlab", "all"}, to & {"trackio", "all"}
    notes = [
        f"{key} is read only with {needed}"
        for key, on, needed in (
            *((k, swanlab, "use_swanlab: true") for k in ("swanlab_workspace", "swanlab_run_name", "swanlab_logdir")),
            *(
                (k, trackio, "report_to: trackio")
                for k in ("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id")
            ),
        )
        if v[key] and not on
    ]
    if (v["metric_for_best_model"] or v["greater_is_better"] is not None) and not (
        v["early_stopping_steps"] or v["load_best_model_at_end"]
    ):
        notes.append(
            "metric_for_best_model and greater_is_better are read only with early_stopping_steps or load_best_model_at_end"
        )
    if v["trackio_static_space_id"] and trackio and not v["trackio_space_id"]:
        notes.append("trackio_static_space_id copies a Space, and trackio_space_id names none")
    return notes
