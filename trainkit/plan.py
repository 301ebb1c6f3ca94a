"""What a run would do, worked out without doing it: where its rows go, what is trained of them, and in how many steps."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from registry.examples import no_trained_token
from registry.secrets import is_secret
from registry.templates import Template, load_template
from registry.tokenizer import Tokenizer, model_limit
from trainkit.compat import deviations
from trainkit.config import RunConfig
from trainkit.data.account import Examples, special_texts_told
from trainkit.data.source import open_examples
from trainkit.data.tally import tally
from trainkit.data.text_view import TextView
from trainkit.data.tokenized import only_read
from trainkit.data.views import RowView, View
from trainkit.forecast.sizes import as_size
from trainkit.hub import model_folder
from trainkit.new_tokens import grows
from trainkit.parameters import count_parameters
from trainkit.plan_steps import length_facts, step_facts
from trainkit.preflight import check_places
from trainkit.rope import stretched_limit
from trainkit.rules import encode_rules


def plan_run(config: RunConfig) -> dict[str, Any]:
    """The plan of a run as JSON values; the rows are encoded where the cache lacks them, the model is not loaded.

    Raises ``Faults`` with all that is wrong with the places a config names, and the errors of ``open_examples``.
    """
    started = time.monotonic()
    entries = check_places(config, weights=False)
    template = None if config.data.template is None else load_template(config.data.template, strict=config.strict)
    found: dict[str, Any] = {
        "command": "plan",
        "source": config.source,
        "stage": config.stage,
        "compat": config.compat,
        "config": config_lines(config, template),
        "not_built": list(config.not_built),
        "notes": list(config.notes),
        "model": model_facts(config),
    }
    warnings: list[str] = _thinking_hint(config, template)
    if config.data.streaming:
        total = {"total": config.loop.max_steps} if config.loop.max_steps > 0 else {}
        found |= {"rows": None, "steps": {"batch_size": config.loop.per_device_train_batch_size, **total}}
    elif config.data.dataset or config.data.eval_dataset:
        folder = model_folder(config.model)
        reading = replace(config, data=replace(config.data, tokenized_path=only_read(config.data.tokenized_path)))
        examples, tokenizer = open_examples(reading, entries, folder)
        found["model"] = model_facts(config, tokenizer, folder)
        found |= data_facts(config, examples, tokenizer, template)
        found["compat_notes"] = deviations(config, entries, tokenizer, examples.sets)
        warnings += _warnings(config, examples, tokenizer, found)
        if "steps" in found:
            from trainkit.forecast.report import forecast  # torch and transformers come with it

            found |= forecast(config, examples, tokenizer, folder, found["steps"])
            warnings += forecast_warnings(found)
    else:
        found["rows"] = None
    return found | {"warnings": warnings, "seconds": round(time.monotonic() - started, 3)}


def data_facts(
    config: RunConfig, examples: Examples, tokenizer: Tokenizer, template: Template | None
) -> dict[str, Any]:
    """What becomes of the rows: by dataset, by role, by length, by step."""
    view, ledger = examples.train, examples.ledger
    stops = stop_tokens(tokenizer, template)
    counted = tally(view, stops.values())
    reasons = {no_trained_token(encode_rules(config), num_cut).reason for num_cut in (0, 1)}
    nothing = int((view.trained == 0).sum())
    found: dict[str, Any] = {
        "rows": {
            "rows_in": ledger.rows_in,
            "rows_out": ledger.rows_out,
            "rejected": dict(ledger.rejected.most_common()),
            "filtered": dict(ledger.filtered.most_common()),
            "rows_added": ledger.added,
        },
        "datasets": dataset_facts(config, examples),
        "examples": len(view),
        "tokens": {
            "all": counted.num_tokens,
            "trained": counted.num_trained,
            "by_role": {
                name: {"tokens": counted.tokens.get(name, 0), "trained": counted.trained.get(name, 0)}
                for name in counted.tokens | counted.trained
            },
            "left_over": examples.dropped_tokens,
        },
        "nothing_trained": {
            "examples": nothing,
            "share": nothing / max(len(view), 1),
            "rejected": sum(one.fault.reason in reasons for one in examples.rejected),
        },
        "stop_token": {"texts": list(stops), "answers": counted.ends.answers, **asdict(counted.ends)},
        "cutoff_len": config.data.cutoff_len,
        "truncation": config.data.truncation,
        "lengths": length_facts(view),
        "evaluation": {
            name or "all": {"examples": len(one), "tokens": tally(one, stops.values()).num_tokens}
            for name, one in examples.evals.items()
        },
    }
    if len(view):
        found["steps"] = step_facts(config, examples, counted.num_tokens)
    return found


def dataset_facts(config: RunConfig, examples: Examples) -> list[dict[str, Any]]:
    """Each dataset: its rows and what happens to each of them."""
    names = list(examples.sets)
    rejected: dict[str, Counter[str]] = {name: Counter() for name in names}
    for one in examples.rejected:
        field = "" if one.fault.field == "row" else f'field "{one.fault.field}": '
        rejected[one.dataset][field + one.fault.reason] += 1
    train, evals = (
        _by_dataset(examples.train, len(names)),
        [_by_dataset(view, len(names)) for view in examples.evals.values()],
    )
    found = []
    for number, name in enumerate(names):
        rows = examples.sets[name]
        mine = [one[number] for one in (train, *evals)]
        placed = sum(one["rows"] for one in mine) + rejected[name].total() - sum(one["lost"] for one in mine)
        times = (config.data.dataset or ()).count(name) + (config.data.eval_dataset or ()).count(name)
        chosen = examples.chosen.get(name, 0)
        found.append(
            {
                "name": name,
                "rows": len(rows),
                "all_rows_read": rows.complete,
                "chosen": chosen,
                "left_out": max(len(rows) - chosen, 0),
                "left_out_by_mix": max(chosen * times - placed, 0),
                "repeated_by_mix": max(placed - chosen * times, 0),
                "rejected": dict(rejected[name].most_common()),
                "examples": mine[0]["examples"],
                "held_out": sum(one["examples"] for one in mine[1:]),
                "cut": sum(one["cut"] for one in mine),
                "tokens_cut": sum(one["tokens_cut"] for one in mine),
                "uncut_tokens": rows.total("tokens"),
            }
        )
    return found


def _by_dataset(view: View, num_datasets: int) -> list[dict[str, int]]:
    """Of each dataset: rows with ids in a view, those that become no example, examples, and what is cut of them. Of pt
    a text is an example."""
    import numpy as np

    if not isinstance(view, RowView | TextView):
        return [dict.fromkeys(("rows", "lost", "examples", "cut", "tokens_cut"), 0)] * num_datasets
    of = view.order.datasets
    lost = of[[one.number for one in view.lost]]
    blocks = isinstance(view, TextView) and view.rules.blocks
    kept = of[view.kept] if isinstance(view, RowView) else of

    def count(values: Any, weights: Any = None) -> list[int]:
        return np.bincount(values, weights=weights, minlength=num_datasets).astype(np.int64).tolist()

    zeros = [0] * num_datasets
    columns = {
        "rows": count(of),
        "lost": count(lost),
        "examples": count(kept),
        "cut": zeros if blocks else count(kept[view.cut > 0]),
        "tokens_cut": zeros if blocks else count(kept, view.cut),
    }
    return [{name: column[number] for name, column in columns.items()} for number in range(num_datasets)]


def stop_tokens(tokenizer: Tokenizer, template: Template | None) -> dict[str, int]:
    """What may end an answer: the end of sequence and the template's stop words; any special token where the
    tokenizer's own chat template spells the rows."""
    texts = {tokenizer.eos_token, *(tokenizer.special_tokens if template is None else template.stop_words)}
    if template is not None and template.name == "llama3":
        texts.add("<|end_of_text|>")
    ids = {text: tokenizer.token_id(text) for text in sorted(texts)}
    return {text: number for text, number in ids.items() if number is not None}


def config_lines(config: RunConfig, template: Template | None) -> list[dict[str, Any]]:
    """Every key with its value and where that is from, those that differ from the default first."""
    values = config.flat()
    origins = {key: config.origins.get(key, "default") for key in values}
    if template is not None:
        from_template = {"default_system": template.default_system, "tool_format": template.tool_format}
        for key, value in from_template.items():
            if values[key] is None and value:
                values[key], origins[key] = value, f"template {template.name}"
    lines = [
        {"key": key, "value": "…" if is_secret(key) and value else value, "from": origins[key]}
        for key, value in values.items()
    ]
    return sorted(lines, key=lambda line: line["from"] == "default")


def model_facts(config: RunConfig, tokenizer: Tokenizer | None = None, folder: Path | None = None) -> dict[str, Any]:
    """The model's parameters, those that are trained, and the longest sequence it takes; None where that is not known.

    With ``tokenizer`` the rows of new tokens are counted; ``folder`` holds the model's config where its name is no folder.
    """
    name = config.model.model_name_or_path
    num_ids = tokenizer.size if tokenizer is not None and grows(config.model, tokenizer) else None
    counted = count_parameters(config.model, config.method, num_ids=num_ids)
    place = folder or Path(name)
    limit = model_limit(place) if place.is_dir() else None
    return {
        "name": name,
        "method": config.method.finetuning_type,
        "parameters": counted.total,
        "trainable": counted.trainable,
        "why_not": counted.why or None,
        "limit": stretched_limit(limit, config.model.rope_scaling, config.data.cutoff_len),
    }


def _thinking_hint(config: RunConfig, template: Template | None) -> list[str]:
    if template is None or not template.thinking or config.stage == "pt" or config.data.enable_thinking is not True:
        return []
    return [
        f"template {template.name} thinks before it answers: an answer without a thought is trained to begin with an "
        "empty one. Where no row has thoughts, set enable_thinking: false, or take a template that does not think."
    ]


def forecast_warnings(found: Mapping[str, Any]) -> list[str]:
    """What will not fit into memory or onto the disk."""
    memory, disk, told = found.get("memory") or {}, found.get("disk"), []
    if memory.get("fits") is False:
        told.append(
            f"the run needs about {as_size(memory['total'])} of memory, and {as_size(memory['limit'])} are there. "
            + " · ".join(f"{way['change']} saves {as_size(way['saves'])}" for way in memory["ways_out"])
        )
    if disk and not disk["fits"]:
        told.append(
            f"checkpoints and model need {as_size(disk['needed'])} on the disk, and {as_size(disk['free'])} are free: "
            "lower save_total_limit, or set save_only_model: true"
        )
    return told


def _warnings(config: RunConfig, examples: Examples, tokenizer: Tokenizer, found: Mapping[str, Any]) -> list[str]:
    """What a user should look at before the run."""
    ends, limit, cutoff = found["stop_token"], found["model"]["limit"], config.data.cutoff_len
    longest = max((int(view.lengths.max()) for view in (examples.train,) if len(view)), default=0)
    told = []
    if ends["cut_off"]:
        told.append(
            f"in {ends['cut_off']:,} of {ends['answers']:,} examples the end of the answer is cut off, so there the model "
            "is not taught to stop"
        )
    if ends["answers"] and not ends["trained"]:
        told.append("no answer ends with a trained stop token: the model is not taught to stop")
    if limit and longest > limit:
        told.append(f"the longest example has {longest:,} tokens, and the model takes {limit:,}: lower cutoff_len")
    elif limit and cutoff > limit:
        told.append(f"cutoff_len {cutoff:,} is above the {limit:,} tokens that the model takes")
    if examples.special_texts:
        told.append(special_texts_told(examples.special_texts, config))
    if tokenizer.added_tokens:
        told.append(f"new tokens: {', '.join(tokenizer.added_tokens)}; the model's embeddings grow where they must")
    if tokenizer.new_tokens:
        told.append(f"the template adds tokens that the tokenizer does not have: {', '.join(tokenizer.new_tokens)}")
    for name, rows in examples.sets.items():
        if not len(rows):
            told.append(f"dataset {name} holds no row")
    return told
