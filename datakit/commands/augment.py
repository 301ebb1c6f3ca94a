"""The command line of `datakit augment`: its options, the one call, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datakit.commands.common import Json, Map, Quiet, Rejects
from registry.command import set_up_logging

_SRC = "Rows to make rows of: files, folders, globs, addresses, or -. None for recipes that take no rows."
_BASE_URL = (
    "Address of a server that speaks OpenAI's protocol (vLLM, Ollama, DeepSeek …). Repeatable: calls are shared out."
)
_ALLOW = "Drop no row for this: empty, echo, duplicate, near-duplicate, language, length, refusal, placeholder, score, invalid. Repeatable."
_ASK, _PACE, _BUDGET, _KEEP, _QUALITY = (
    "What is asked",
    "How fast",
    "Budget and foresight",
    "Store of answers",
    "Quality",
)


def augment(
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", help="Name of a recipe (datakit recipes lists them) or a .md file.", show_default=False
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", help="The model's name, as its server knows it.", show_default=False)
    ],
    src: Annotated[list[str] | None, typer.Argument(help=_SRC, show_default=False)] = None,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="File for the rows that are made.", show_default=False)
    ] = None,
    provider: Annotated[str, typer.Option("--provider", help="openai or zhipu.", rich_help_panel=_ASK)] = "openai",
    base_url: Annotated[
        list[str] | None, typer.Option("--base-url", help=_BASE_URL, rich_help_panel=_ASK, show_default=False)
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n", min=1, max=100_000, help="Rows to make of each. [default: the recipe's]", rich_help_panel=_ASK
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE for an input of the recipe. Repeatable.", rich_help_panel=_ASK),
    ] = None,
    language: Annotated[
        str, typer.Option("--language", help="Of the prompts: auto (as each row), en or zh.", rich_help_panel=_ASK)
    ] = "auto",
    from_: Annotated[
        str,
        typer.Option("--from", help="Format of the rows: auto, alpaca, sharegpt, openai, text …", rich_help_panel=_ASK),
    ] = "auto",
    to: Annotated[
        str,
        typer.Option(
            "--to", help="Format of the made rows: auto (as the rows), alpaca, sharegpt, openai.", rich_help_panel=_ASK
        ),
    ] = "auto",
    map_: Map = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", min=0.0, max=2.0, help="[default: the recipe's]", rich_help_panel=_ASK),
    ] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", min=0.0, max=1.0, rich_help_panel=_ASK)] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", min=1, max=10_000_000, help="Room for one answer.", rich_help_panel=_ASK),
    ] = None,
    structured: Annotated[
        str,
        typer.Option(
            "--structured",
            help="Ask for JSON by schema: auto (less where the server refuses), json_schema, json_object, off.",
            rich_help_panel=_ASK,
        ),
    ] = "auto",
    chunk_tokens: Annotated[
        int,
        typer.Option(
            "--chunk-tokens", min=1, max=10_000_000, help="Length of the pieces of documents.", rich_help_panel=_ASK
        ),
    ] = 1024,
    chunk_overlap: Annotated[
        int,
        typer.Option(
            "--chunk-overlap", min=0, max=10_000_000, help="Tokens that two pieces share.", rich_help_panel=_ASK
        ),
    ] = 128,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Folder that counts these tokens. [default: words]", rich_help_panel=_ASK),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, max=(1 << 63) - 1, help="Another seed draws other pools.", rich_help_panel=_ASK),
    ] = 42,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=4096, help="Calls at once, at the most.", rich_help_panel=_PACE)
    ] = 64,
    rpm: Annotated[
        float | None, typer.Option("--rpm", min=0.01, help="Requests a minute, for each key.", rich_help_panel=_PACE)
    ] = None,
    tpm: Annotated[
        float | None, typer.Option("--tpm", min=1, help="Tokens a minute, for each key.", rich_help_panel=_PACE)
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, max=86_400, help="Seconds for one answer.", rich_help_panel=_PACE)
    ] = 300.0,
    attempts: Annotated[
        int,
        typer.Option(
            "--attempts", min=1, max=1000, help="For one call; waiting for a rate limit is none.", rich_help_panel=_PACE
        ),
    ] = 6,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch", help="Through the provider's batch endpoint: cheaper, in hours.", rich_help_panel=_PACE
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show three prompts, and how many calls, tokens and how much money.",
            rich_help_panel=_BUDGET,
        ),
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            min=1,
            help="Ask for so many seeds and show rows beside them; writes no rows.",
            rich_help_panel=_BUDGET,
        ),
    ] = None,
    budget_requests: Annotated[
        int | None, typer.Option("--budget-requests", min=1, max=1 << 62, rich_help_panel=_BUDGET)
    ] = None,
    budget_tokens: Annotated[
        int | None, typer.Option("--budget-tokens", min=1, max=1 << 62, rich_help_panel=_BUDGET)
    ] = None,
    budget_cost: Annotated[
        float | None,
        typer.Option("--budget-cost", min=0.0, help="In the currency of the prices.", rich_help_panel=_BUDGET),
    ] = None,
    budget_minutes: Annotated[float | None, typer.Option("--budget-minutes", min=0.0, rich_help_panel=_BUDGET)] = None,
    price: Annotated[
        str | None, typer.Option("--price", help="IN,OUT for a million tokens.", rich_help_panel=_BUDGET)
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option("--prices", help="A table of prices: models: {NAME: [IN, OUT]}.", rich_help_panel=_BUDGET),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Where answers are kept. [default: OUT.store.sqlite]", rich_help_panel=_KEEP),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask again for what the store has.", rich_help_panel=_KEEP)
    ] = False,
    retry_refused: Annotated[
        bool,
        typer.Option("--retry-refused", help="Ask again for what a server refused for good.", rich_help_panel=_KEEP),
    ] = False,
    judge: Annotated[
        bool, typer.Option("--judge", help="Score each made row with the recipe judge.", rich_help_panel=_QUALITY)
    ] = False,
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", min=1, max=10, help="Drop rows that are scored lower.", rich_help_panel=_QUALITY),
    ] = None,
    near: Annotated[
        str,
        typer.Option(
            "--near", help="Similarity from which rows are near duplicates; off for none.", rich_help_panel=_QUALITY
        ),
    ] = "0.8",
    against: Annotated[
        list[str] | None,
        typer.Option("--against", help="Rows that no made row may repeat. Repeatable.", rich_help_panel=_QUALITY),
    ] = None,
    min_chars: Annotated[
        int | None, typer.Option("--min-chars", min=0, help="Of a row's new texts.", rich_help_panel=_QUALITY)
    ] = None,
    max_chars: Annotated[int | None, typer.Option("--max-chars", min=1, rich_help_panel=_QUALITY)] = None,
    allow: Annotated[list[str] | None, typer.Option("--allow", help=_ALLOW, rich_help_panel=_QUALITY)] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the report as an HTML page.", rich_help_panel=_QUALITY)
    ] = None,
    rejects: Rejects = None,
    no_origin: Annotated[bool, typer.Option("--no-origin", help="Leave _origin out of the rows.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where any seed failed for good.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make more rows of rows with a model: no answer lost, none bought twice, only rows worth training on kept."""
    set_up_logging(quiet)
    from datakit.augment.budget import Limits
    from datakit.augment.options import AugmentOptions, similarity
    from datakit.augment.show import augment_and_show
    from datakit.options import pairs

    options = AugmentOptions(
        recipe=recipe, model=model, provider=provider, base_urls=tuple(base_url or ()), n=n,
        values=pairs(set_, "--set"), language=language, from_format=from_, to_format=to, mapping=pairs(map_, "--map"),
        workers=workers, rpm=rpm, tpm=tpm, timeout_s=timeout, attempts=attempts, temperature=temperature, top_p=top_p,
        max_tokens=max_tokens, structured=structured, store=store, fresh=fresh, retry_refused=retry_refused,
        limits=Limits(budget_requests, budget_tokens, budget_cost, budget_minutes), price=price, prices=prices,
        judge=judge, min_score=min_score, against=tuple(against or ()), near=similarity(near), min_chars=min_chars,
        max_chars=max_chars, allow=tuple(allow or ()), chunk_tokens=chunk_tokens, chunk_overlap=chunk_overlap,
        tokenizer=tokenizer, seed=seed, batch=batch, origin=not no_origin, strict=strict,
    )  # fmt: skip
    augment_and_show(
        src or [], out, options, rejects=rejects, html=html, dry_run=dry_run, sample=sample, json=json, quiet=quiet
    )
