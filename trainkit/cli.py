"""The trainkit command: each verb parses its options, calls one function, and prints what came of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from registry.command import print_json, run_app, set_up_logging

app = typer.Typer(
    name="trainkit",
    help="From registered data to a trained, exported model that answers.",
    epilog="--debug, anywhere on the line, shows the traceback behind an error.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

Config = Annotated[Path, typer.Argument(help="Run config: YAML or JSON with LLaMA-Factory's keys.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value: beats what the config says.", show_default=False)
]
Words = Annotated[
    list[str],
    typer.Argument(
        metavar="[CONFIG] [KEY=VALUE | --KEY VALUE]...",
        help="Run config: YAML or JSON with LLaMA-Factory's keys; then, or instead of it, single keys, which beat it.",
        show_default=False,
    ),
]
FLAGS = {"ignore_unknown_options": True}  # every key of a config is a flag of run
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors on stderr.")]


@app.command("train", no_args_is_help=True, context_settings=FLAGS, help="The same as run.")
@app.command("run", no_args_is_help=True, context_settings=FLAGS)
def run(
    words: Words,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over even where an unfinished run could go on.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train: pt, sft, rm, dpo or kto; all weights, some layers, LoRA or OFT. An unfinished run of the same config goes on."""
    from trainkit.launch import as_one_of_many, launch_if_asked
    from trainkit.place import place_of

    with as_one_of_many():
        first_process = place_of().first
        set_up_logging(quiet or not first_process)
        launched = launch_if_asked(*_file_and_words(words))
        if launched is not None:
            raise typer.Exit(launched)
        from trainkit.start import start

        result = start(*_file_and_words(words), fresh=fresh, quiet=quiet)
        if json and first_process:
            print_json(result.as_json())
        elif first_process and not quiet:
            first, last = result.first_loss, result.last_loss
            print(
                f"loss {first:.4f} → {last:.4f}; the model is in {result.folder}"
                if first and last
                else f"done: {result.folder}"
            )


@app.command(no_args_is_help=True)
def init(
    folder: Annotated[Path, typer.Argument(help="Where the new model goes.", show_default=False)],
    data: Annotated[
        list[str], typer.Option("--data", help="Rows to train the tokenizer on. Repeatable.", show_default=False)
    ],
    arch: Annotated[str, typer.Option("--arch", help="llama or qwen2.")] = "qwen2",
    size: Annotated[str, typer.Option("--size", help="tiny, small, medium or base: sets what is not given.")] = "tiny",
    vocab_size: Annotated[
        int | None, typer.Option("--vocab-size", min=300, help="Tokens of the byte-level BPE.")
    ] = None,
    hidden_size: Annotated[int | None, typer.Option("--hidden-size", min=8, help="Width of the model.")] = None,
    layers: Annotated[int | None, typer.Option("--layers", min=1, help="Number of layers.")] = None,
    heads: Annotated[int | None, typer.Option("--heads", min=1, help="Attention heads a layer.")] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", min=16, help="Longest sequence, in tokens.")] = None,
    template: Annotated[
        str, typer.Option("--template", help="Chat template whose special tokens it gets.")
    ] = "qwen3_nothink",
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of the random weights.")] = 42,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that is there.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a small model from scratch: random weights, and a tokenizer trained on given rows."""
    set_up_logging(quiet)
    from trainkit.init_plan import plan_model

    plan = plan_model(
        arch,
        size,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        max_length=max_length,
        template=template,
    )
    from trainkit.start import need_training_packages

    need_training_packages()
    from trainkit.init import init_model

    made = init_model(folder, data, plan, seed=seed, force=force)
    if json:
        print_json(made)
    elif not quiet:
        print(f"{made['parameters']:,} parameters, {made['vocab_size']:,} tokens: {folder}")


@app.command(no_args_is_help=True)
def export(
    config: Config,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Merge the adapters into the base and write one ordinary model folder, tokenizer and chat template with it."""
    set_up_logging(quiet)
    resolved = _checked(config, overrides)
    from trainkit.start import need_training_packages

    need_training_packages()
    from trainkit.export import export_model

    made = export_model(resolved)
    if json:
        print_json(made)
    elif not quiet:
        print(f"{made['parameters']:,} parameters in {made['export_dir']}")


@app.command(no_args_is_help=True)
def chat(
    model: Annotated[
        Path, typer.Argument(help="A model folder, an adapter folder, or a run config (YAML).", show_default=False)
    ],
    overrides: Overrides = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Ask this and leave; without it, talk. - reads stdin.")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="System message.")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always take the likeliest token.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask a model: one question with --prompt, or a conversation (type clear to begin anew, exit to leave)."""
    set_up_logging(quiet)
    if json and prompt is None:
        raise typer.BadParameter("--json goes with --prompt")
    from trainkit.chat_config import chat_config

    resolved = chat_config(model, overrides or [], greedy=greedy)
    from trainkit.start import need_training_packages

    need_training_packages()
    from trainkit.chat import answer_once, talk

    if prompt is None:
        talk(resolved, system=system)
    else:
        answer_once(resolved, prompt, system=system, json=json)


@app.command(no_args_is_help=True)
def encode(
    config: Config,
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="OUT.jsonl: an example a line. OUT: an encoded folder for tokenized_path.",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="What prediction sees: prompts, and the answers to hold against.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tokenise only: write the ids and labels that training would see."""
    set_up_logging(quiet)
    resolved = _checked(config, overrides, weights=False)
    from trainkit.encode import encode_to_file

    made = encode_to_file(resolved, out, prompts=prompts)
    if json:
        print_json(made)
    elif not quiet:
        print(f"{made['rows_in']} rows in, {made['examples']} examples in {out}")


@app.command(no_args_is_help=True, context_settings=FLAGS)
def plan(words: Words, json: Json = False, quiet: Quiet = False) -> None:
    """What a run would do: where its rows go, what is trained, steps, memory, time, disk. No weights are loaded."""
    set_up_logging(quiet)
    from trainkit.config import load_config

    resolved = load_config(*_file_and_words(words), training=False)
    from trainkit.plan import plan_run
    from trainkit.plan_text import print_plan

    found = plan_run(resolved)
    if json:
        print_json(found)
    else:
        print_plan(found)


@app.command(no_args_is_help=True)
def show(
    config: Config,
    overrides: Overrides = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many examples, or blocks of a packed run.")] = 2,
    rows: Annotated[
        str | None,
        typer.Option("--rows", help="These examples (or blocks) instead of the first: 3,17", show_default=False),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show one batch decoded, with what is trained in colour (in [[ ]] where there is no colour), and where it is from."""
    set_up_logging(quiet)
    resolved = _checked(config, overrides, weights=False)
    from trainkit.show import print_batch, show_batch

    batch = show_batch(resolved, n, rows)
    if json:
        print_json(batch.as_json())
    else:
        print_batch(batch)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a run config, with which editors complete and check the YAML."""
    from trainkit.schema import config_schema

    print_json(config_schema())


@app.command()
def templates(
    name: Annotated[
        str | None, typer.Argument(help="A template to look at; without it, all.", show_default=False)
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check",
            metavar="MODEL",
            help="Compare with the chat template in a model's folder: NAME, or the nearest of all.",
        ),
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="System text of the sample; an empty one for none.")
    ] = None,
    tools: Annotated[
        bool | None,
        typer.Option("--tools/--no-tools", help="With tools and a call; else where the template has its own."),
    ] = None,
    thinking: Annotated[str, typer.Option("--thinking", help="enable_thinking: true, false or null.")] = "true",
    json: Json = False,
) -> None:
    """List the chat templates, show how one spells a conversation, or compare it with a model's own."""
    set_up_logging(quiet=False)
    from trainkit.templates_command import run_templates

    raise typer.Exit(run_templates(name, check, system=system, tools=tools, thinking=thinking, json=json))


@app.command()
def cache(
    folder: Annotated[
        Path | None, typer.Option("--folder", help="The cache; default: $TUNEKIT_CACHE, else the user's.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", help="Remove the entry whose key begins so. Repeatable.")
    ] = None,
    remove_unused: Annotated[
        float | None, typer.Option("--remove-unused", min=0, help="Remove what was not used for so many days.")
    ] = None,
    remove_all: Annotated[bool, typer.Option("--remove-all", help="Remove everything.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the encoded rows that runs share, or make room. What is removed is encoded again when it is needed."""
    set_up_logging(quiet)
    from registry.encoded.spec import cache_root
    from trainkit import cache as owner

    root = folder or cache_root()
    gone = owner.chosen(owner.list_cache(root), keys=remove or (), older_than=remove_unused, everything=remove_all)
    freed, busy = owner.remove(root, gone) if gone else (0, [])
    left = owner.list_cache(root)
    if json:
        print_json(owner.as_json(root, left) | {"freed": freed, "busy": busy})
    elif not quiet:
        if gone:
            print(f"{freed / 1e6:,.1f} MB freed" + (f"; being encoded right now: {', '.join(busy)}" if busy else ""))
        print(owner.as_table(root, left))


@app.command()
def env(json: Json = False) -> None:
    """Print the versions of everything that matters to a bug report."""
    from trainkit.env import describe_environment

    found = describe_environment()
    if json:
        print_json(found)
    else:
        print("\n".join(f"{name}: {value}" for name, value in found.items()))


def _file_and_words(words: list[str]) -> tuple[str | None, list[str]]:
    """The config file, where the first word names one, and the keys after it."""
    file = words[0] if not words[0].startswith("--") and ("=" not in words[0] or Path(words[0]).is_file()) else None
    return file, words[1:] if file else words


def _checked(config: Path, overrides: list[str] | None, *, weights: bool = True):  # type: ignore[no-untyped-def]
    """The resolved config; everything that is wrong with it comes before anything heavy is imported."""
    from trainkit.config import load_config
    from trainkit.preflight import check_places

    resolved = load_config(config, overrides or [], training=weights)
    check_places(resolved, weights=weights)
    return resolved


def main() -> None:
    """The console script."""
    # Before torch loads: threads that wait for their partners should sleep, not spin, next to other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    run_app(app, "trainkit")


if __name__ == "__main__":
    main()
