"""A run's plan as people read it: tables and sentences on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainkit.forecast.sizes import as_duration, as_size
from trainkit.show import escape_what_stdout_lacks, visible

# part of the memory -> its name in the table
MEMORY_PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations",
    "head": "head: logits in chunks",
    "workspace": "workspace",
    "checkpoint": "copy for a checkpoint",
    "allocator": "held and not used",
}
PIPED_WIDTH = 120  # columns where no terminal gives a width
MOST_REASONS = 8
# kind of token -> its name in the table
NAMES = {
    "system": "system, prefix",
    "observation": "tool results",
    "function": "tool calls",
    "end": "end of sequence",
    "kl": "KL rows",
}


def print_plan(plan: Mapping[str, Any]) -> None:
    """Print a plan; bold heads and coloured warnings only on a terminal."""
    from rich.console import Console
    from rich.text import Text

    escape_what_stdout_lacks()
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=PIPED_WIDTH)
    console.print(Text(visible(headline(plan)), style="bold"))
    for title, body in _sections(plan):
        console.print(Text(f"\n{title}", style="bold"))
        for part in body:
            console.print(
                part if not isinstance(part, str) else Text(visible(f"  {part}")), soft_wrap=isinstance(part, str)
            )
    _print_list(console, "unlike LLaMA-Factory (compat: strict does as they do)", plan.get("compat_notes", ()), "")
    _print_list(console, "to be told", plan["notes"], "")
    _print_list(console, "to look at", plan["warnings"], "yellow")
    _print_list(console, "not built yet: this cannot be trained", plan["not_built"], "red")


def _print_list(console: Any, title: str, lines: Sequence[str], style: str) -> None:
    from rich.text import Text

    if lines:
        console.print(Text(f"\n{title}", style="bold"))
    for line in lines:
        console.print(Text(visible(f"  {line}"), style=style), soft_wrap=True)


def headline(plan: Mapping[str, Any]) -> str:
    """The run in one line."""
    model, steps = plan["model"], plan.get("steps")
    told = [f"{plan['stage']}, {model['method']}: {model['name']}"]
    if model["trainable"] is not None:
        share = model["trainable"] / max(model["parameters"], 1)
        told.append(f"{model['trainable']:,} of {model['parameters']:,} parameters trained ({share:.2%})")
    elif model["parameters"] is not None:
        told.append(f"{model['parameters']:,} parameters")
    if model["why_not"]:
        which = "parameters" if model["parameters"] is None else "trained parameters"
        told.append(f"{which} not counted: {model['why_not']}")
    if steps and "per_epoch" in steps:
        told.append(f"{steps['total']:,} steps, {steps['epochs']:g} epochs")
    return " · ".join(told)


def _sections(plan: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    if plan["rows"] is not None:
        yield "rows", [dataset_table(plan["datasets"]), *_reasons(plan["datasets"])]
        yield "tokens", [role_table(plan["tokens"]), *_token_lines(plan)]
        if plan["lengths"]["kept"]:
            yield "lengths, in tokens", [length_table(plan), *_step_lines(plan)]
    else:
        yield (
            "rows",
            [
                "they are read while training (streaming), so nothing is counted"
                if plan.get("steps")
                else "no dataset is named, so nothing is trained"
            ],
        )
    yield from forecast_sections(plan)
    yield "config", [config_table(plan["config"])]


def _table(*columns: str) -> Any:
    """A plain table: the first column to the left, numbers to the right; a name with a bar is to the left too."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for number, name in enumerate(columns):
        left = number == 0 or name.startswith("|")
        table.add_column(name.lstrip("|"), justify="left" if left else "right", overflow="fold")
    return table


def _row(table: Any, *values: Any) -> None:
    from rich.text import Text

    table.add_row(*(Text(f"{value:,}" if isinstance(value, int) else visible(str(value))) for value in values))


def dataset_table(datasets: Sequence[Mapping[str, Any]]) -> Any:
    """Each dataset: from its rows to its examples."""
    table = _table(
        "dataset", "rows", "left out", "by the mix", "rejected", "examples", "to evaluate", "cut", "tokens cut off"
    )
    for one in datasets:
        mixed = one["repeated_by_mix"] - one["left_out_by_mix"]
        _row(
            table,
            one["name"],
            f"{one['rows']:,}{'' if one['all_rows_read'] else ' or more'}",
            one["left_out"],
            f"{mixed:+,}" if mixed else 0,
            sum(one["rejected"].values()),
            one["examples"],
            one["held_out"],
            one["cut"],
            one["tokens_cut"],
        )
    return table


def _reasons(datasets: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [(count, one["name"], reason) for one in datasets for reason, count in one["rejected"].items()]
    found.sort(key=lambda one: -one[0])
    lines = [f"{count:,} of {name} rejected: {reason}" for count, name, reason in found[:MOST_REASONS]]
    if len(found) > MOST_REASONS:
        lines.append(f"{sum(one[0] for one in found[MOST_REASONS:]):,} rejected for other reasons (--json has them)")
    return lines


def role_table(tokens: Mapping[str, Any]) -> Any:
    """Tokens and trained tokens of each role."""
    table = _table("role", "tokens", "share", "trained", "of them")
    lines = [*tokens["by_role"].items(), ("all", {"tokens": tokens["all"], "trained": tokens["trained"]})]
    for name, one in lines:
        share, trained = one["tokens"] / max(tokens["all"], 1), one["trained"] / max(one["tokens"], 1)
        _row(table, NAMES.get(name, name), one["tokens"], f"{share:.1%}", one["trained"], f"{trained:.1%}")
    return table


def _token_lines(plan: Mapping[str, Any]) -> list[str]:
    ends, nothing = plan["stop_token"], plan["nothing_trained"]
    lines = []
    if ends["answers"]:
        what = "texts" if plan["stage"] == "pt" else "answers"
        lines.append(f"stop token: trained at the end of {ends['trained']:,} of {ends['answers']:,} {what}")
        for key, why in (
            ("cut_off", "lost to the cut"),
            ("not_trained", "there and not trained"),
            ("missing", "not there: the row's answer ends without one"),
        ):
            if ends[key]:
                lines.append(f"  in {ends[key]:,} it is {why}")
    lines.append(
        f"nothing trained: {nothing['examples']:,} examples ({nothing['share']:.1%})"
        + (f", and {nothing['rejected']:,} rows rejected for it" if nothing["rejected"] else "")
    )
    if plan["tokens"]["left_over"]:
        lines.append(f"{plan['tokens']['left_over']:,} tokens at the end of the text fill no block and are left out")
    for name, one in plan["evaluation"].items():
        lines.append(
            f"evaluation{'' if name == 'all' else f' on {name}'}: {one['examples']:,} examples, {one['tokens']:,} tokens"
        )
    return lines


def length_table(plan: Mapping[str, Any]) -> Any:
    """Percentiles before and after cutting."""
    lengths = plan["lengths"]
    heads = [f"{name}%" if name != "100" else "longest" for name in lengths["kept"]]
    table = _table("", *heads)
    unit = "texts" if plan["stage"] == "pt" else "rows"
    _row(table, f"{unit}, whole", *lengths["uncut"].values())
    _row(table, "examples, cut" if lengths["tokens_cut"] else "examples", *lengths["kept"].values())
    return table


def _step_lines(plan: Mapping[str, Any]) -> list[str]:
    steps, lengths = plan["steps"], plan["lengths"]
    lines = [
        f"cutoff_len {plan['cutoff_len']:,}, truncation {plan['truncation']}: {lengths['examples_cut']:,} examples cut, "
        f"{lengths['tokens_cut']:,} tokens left out"
    ]
    if "blocks" in steps:
        lines.append(f"{steps['blocks']:,} blocks of {steps['block_len']:,} an epoch, {steps['fill']:.1%} full")
        unit = "blocks"
    else:
        shares = [f"{name} {share:.1%}" for name, share in steps["padding"].items()]
        lines.append(f"batching {steps['batching']}; padding by strategy: {', '.join(shares)}")
        unit = "examples"
    lines.append(
        f"{steps['per_epoch']:,} steps an epoch of {steps['batch_size']} × {steps['accumulation']} {unit}, about "
        f"{steps['tokens_per_step']:,} tokens each; {steps['total']:,} steps in all ({steps['epochs']:g} epochs)"
    )
    return lines


def forecast_sections(plan: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Memory by part, time and disk."""
    memory, time, disk = plan.get("memory"), plan.get("time"), plan.get("disk")
    if memory and "why_not" in memory:
        yield "memory and time", [memory["why_not"]]
    elif memory:
        where = f"{memory['device']}, {memory['processes']} processes" if memory["processes"] > 1 else memory["device"]
        yield f"memory at its fullest ({where})", [memory_table(memory), *_memory_lines(memory)]
    if time and "why_not" not in time:
        yield "time, an estimate", [_time_line(time)]
    if disk:
        free = f", {as_size(disk['free'])} free" if disk["free"] is not None else ""
        line = f"{disk['checkpoints']} checkpoints of {as_size(disk['checkpoint'])} kept, with the model {as_size(disk['needed'])} at most{free}"
        yield "disk", [line]


def memory_table(memory: Mapping[str, Any]) -> Any:
    """Each part of the memory, and their sum."""
    table = _table("part", "bytes", "share")
    for name, told in MEMORY_PARTS.items():
        if memory[name]:
            _row(table, told, as_size(memory[name]), f"{memory[name] / memory['total']:.1%}")
    _row(table, "all", as_size(memory["total"]), "100.0%")
    return table


def _memory_lines(memory: Mapping[str, Any]) -> Iterator[str]:
    if memory["limit"] is not None:
        yield f"{as_size(memory['limit'])} are there: it {'fits' if memory['fits'] else 'does not fit'}"
    if memory["recompute"] != "none":
        layers = "every second layer" if memory["recompute"] == "selective" else "all layers"
        yield f"activations of {layers} are computed again in the backward pass"
    for way in memory["ways_out"]:
        yield f"{way['change']}: saves {as_size(way['saves'])}{', and it fits' if way['fits'] else ''}"


def _time_line(time: Mapping[str, Any]) -> str:
    return (
        f"about {as_duration(time['seconds_per_step'])} a step, {as_duration(time['seconds'])} in all: "
        f"{time['flops_per_step'] / 1e12:,.3g} TFLOP a step at {time['share']:.0%} of the {time['rate'] / 1e12:,.3g} TFLOP/s "
        "that a matrix product was just measured at"
    )


def config_table(lines: Sequence[Mapping[str, Any]]) -> Any:
    """The keys that differ from their defaults, and how many do not."""
    table = _table("key", "|value", "|from")
    own = [line for line in lines if line["from"] != "default"]
    for line in own:
        _row(table, line["key"], spelled(line["value"]), line["from"])
    _row(table, f"and {len(lines) - len(own)} more", "", "default (--json has them)")
    return table


def spelled(value: Any) -> str:
    """A value as the YAML has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(map(spelled, value))
    return json.dumps(value, ensure_ascii=False, default=str)
