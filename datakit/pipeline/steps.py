"""The datakit verbs as steps: the options each takes, what they read and make, and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datakit.outcome import Outcome
from datakit.pipeline.augmenting import recipes_read, run_augment
from datakit.pipeline.things import Thing, entry_and_data, entry_of, thing

Options = Mapping[str, Any]

# verb -> option -> what its value may be (see CHECKS in datakit.pipeline.options); the names are the command line's
OPTIONS: dict[str, dict[str, str]] = {
    "convert": {
        "src": "sources", "out": "output", "from": "format", "to": "target", "map": "pairs", "fill": "pairs",
        "shape": "formatting", "where": "text", "limit": "count", "shuffle": "flag", "seed": "seed",
        "shard_rows": "count", "rejects": "output", "strict": "flag",
    },
    "validate": {
        "src": "sources", "format": "format", "stage": "stage", "map": "pairs", "text": "flag", "deny": "names",
        "warn": "names", "allow": "names", "fix": "flag", "fix_text": "flag", "clean": "output", "rejects": "output",
        "html": "output", "strict": "flag",
    },
    "dedup": {
        "src": "sources", "out": "output", "on": "names", "exact": "flag", "raw": "flag", "near": "share",
        "shingle": "count", "against": "sources", "decontaminate": "sources", "ngram": "count", "overlap": "amount",
        "drops": "output", "rejects": "output", "strict": "flag",
    },
    "split": {
        "src": "sources", "out_dir": "files", "val": "amount", "test": "amount", "by": "text", "stratify": "text",
        "seed": "seed", "ext": "text", "rejects": "output", "strict": "flag",
    },
    "augment": {
        "src": "sources", "out": "output", "recipe": "recipe", "model": "text", "provider": "text", "base_url": "names",
        "n": "count", "set": "pairs", "language": "text", "from": "format", "to": "text", "map": "pairs",
        "temperature": "temperature", "top_p": "share", "max_tokens": "count", "structured": "switch",
        "chunk_tokens": "count", "chunk_overlap": "seed", "tokenizer": "input", "seed": "seed", "workers": "workers",
        "rpm": "rate", "tpm": "rate", "timeout": "rate", "attempts": "count", "batch": "flag",
        "budget_requests": "count", "budget_tokens": "count", "budget_cost": "limit", "budget_minutes": "limit",
        "price": "text", "prices": "input", "store": "files", "fresh": "flag", "retry_refused": "flag",
        "judge": "flag", "min_score": "score", "near": "switch", "against": "sources", "min_chars": "seed",
        "max_chars": "count", "allow": "names", "html": "output", "rejects": "output", "no_origin": "flag",
        "strict": "flag",
    },
    "stats": {
        "src": "sources", "model": "input", "dataset": "names", "dataset_dir": "folder", "template": "template",
        "stage": "stage", "target": "share", "sample": "count", "seed": "seed", "batch_size": "count",
        "gradient_accumulation": "count", "packing": "flag", "backend": "text", "plot": "output", "html": "output",
        "write_config": "output",
    },
    "register": {
        "src": "source", "name": "text", "dataset_dir": "folder", "columns": "pairs", "tags": "pairs",
        "formatting": "formatting", "ranking": "flag", "model": "input", "template": "template", "replace": "flag",
    },
}  # fmt: skip
REQUIRED = {
    "convert": ("src", "out"), "validate": ("src",), "dedup": ("src", "out"), "split": ("src", "out_dir", "val"),
    "augment": ("out", "recipe", "model"), "stats": ("model",), "register": ("src", "name"),
}  # fmt: skip
ASIDE = ("rejects", "drops")  # outputs that are only there where a row went into them
DATA_DIR = "data"  # where dataset_info.json is looked for when nothing else is said, as on the command line


def inputs_of(verb: str, options: Options) -> list[Thing]:
    """What a datakit step reads."""
    found: list[Thing] = []
    for name, value in options.items():
        kind = OPTIONS[verb][name]
        if kind in ("sources", "source"):
            found += [thing(path, "data") for path in ([value] if isinstance(value, str) else value)]
        elif kind == "input":
            found.append(thing(value))
    if verb == "augment":
        found += recipes_read(options)
    for name in options.get("dataset", ()):
        found += entry_and_data(options.get("dataset_dir", DATA_DIR), name)
    return found


def outputs_of(verb: str, options: Options) -> list[Thing]:
    """What a datakit step is sure to make."""
    found = [thing(value) for name, value in options.items() if OPTIONS[verb][name] == "output" and name not in ASIDE]
    if verb == "split":
        parts = ["train", "val", *(["test"] if options.get("test") else [])]
        found += [
            thing(str(Path(options["out_dir"]) / f"{part}.{options.get('ext', 'jsonl').lstrip('.')}")) for part in parts
        ]
    if verb == "register":
        found.append(entry_of(options.get("dataset_dir", DATA_DIR), options["name"]))
    return found


def _convert(options: Options) -> Outcome:
    from datakit.convert import convert_rows

    return convert_rows(
        options["src"], options["out"], from_format=options.get("from", "auto"), to_format=options.get("to", "keep"),
        shape=options.get("shape", "auto"), mapping=options.get("map", {}), fill=options.get("fill", {}),
        where=options.get("where"), limit=options.get("limit"), shuffle=options.get("shuffle", False),
        seed=options.get("seed", 42), shard_rows=options.get("shard_rows"), rejects=_path(options.get("rejects")),
        strict=options.get("strict", False),
    )  # fmt: skip


def _dedup(options: Options) -> Outcome:
    from datakit.dedup import dedup_rows

    told = {name: value for name, value in options.items() if name not in ("src", "out", "on", "drops", "rejects")}
    on = options.get("on")
    return dedup_rows(
        options["src"], options["out"], on=",".join(on) if on else None, drops=_path(options.get("drops")),
        rejects=_path(options.get("rejects")), **told,
    )  # fmt: skip


def _split(options: Options) -> Outcome:
    from datakit.split import split_rows

    return split_rows(
        options["src"], options["out_dir"], **{k: v for k, v in options.items() if k not in ("src", "out_dir")}
    )


def _validate(options: Options) -> Outcome:
    from datakit.validate import validate_rows

    return validate_rows(
        options["src"], format_name=options.get("format", "auto"), stage=options.get("stage"), mapping=options.get("map", {}),
        clean=_path(options.get("clean")), rejects=_path(options.get("rejects")), text=options.get("text", True),
        deny=options.get("deny", ()), warn=options.get("warn", ()), allow=options.get("allow", ()),
        fix=options.get("fix", False), fix_text=options.get("fix_text", False), html=_path(options.get("html")),
        workers=0,
    )  # fmt: skip


def _stats(options: Options) -> Outcome:
    from datakit.stats import Steps, measure_rows
    from datakit.stats.report import Targets, check_targets, summarize, write_files

    targets = Targets(*(_path(options.get(name)) for name in ("plot", "html", "write_config")))
    check_targets(targets)
    steps = Steps(options.get("batch_size", 8), options.get("gradient_accumulation", 1), options.get("packing"))
    measured = measure_rows(
        options.get("src", []), model=Path(options["model"]), dataset=",".join(options.get("dataset", ())) or None,
        dataset_dir=Path(options.get("dataset_dir", DATA_DIR)), template=options.get("template"),
        stage=options.get("stage", "sft"), target=options.get("target", 0.99), backend=options.get("backend", "auto"),
        sample=options.get("sample"), seed=options.get("seed", 0), steps=steps,
    )  # fmt: skip
    summary = summarize(measured)
    written = write_files(measured, summary, targets, options)
    ledger = measured.account.ledger
    return Outcome(
        "stats", ledger.rows_in, ledger.rows_out, dict(ledger.rejected), tuple(written),
        details={"suggested_cutoff_len": summary["suggested_cutoff_len"], "reason": summary["reason"]},
        filtered=dict(ledger.filtered),
    )  # fmt: skip


def _register(options: Options) -> Outcome:
    from datakit.register import register_dataset

    return register_dataset(
        Path(options["src"]), options["name"], Path(options.get("dataset_dir", DATA_DIR)), columns=options.get("columns", {}),
        tags=options.get("tags", {}), formatting=options.get("formatting"), ranking=options.get("ranking", False),
        model=_path(options.get("model")), template=options.get("template"), replace=options.get("replace", False),
    )  # fmt: skip


def _path(value: str | None) -> Path | None:
    return Path(value) if value is not None else None


# verb -> function that runs it in this process, in the pipeline's folder
STEPS: dict[str, Callable[[Options], Outcome]] = {
    "convert": _convert,  # rows of any kind to another
    "validate": _validate,  # faults of every row; the clean ones aside
    "dedup": _dedup,  # duplicates, near ones, and rows of an evaluation set left out
    "split": _split,  # training and validation files; groups stay together
    "augment": run_augment,  # more rows of rows, made by a model; answers that its store has are not asked for
    "stats": _stats,  # token lengths, a cutoff_len
    "register": _register,  # an entry in dataset_info.json
}
