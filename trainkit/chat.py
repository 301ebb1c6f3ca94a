"""Talking to a model: one question and out, or a conversation on the terminal."""

from __future__ import annotations

import sys
from dataclasses import asdict

import torch

from registry.command import print_json
from registry.errors import UsageError
from registry.records import Message
from registry.tokenizer import model_limit, open_tokenizer
from trainkit.config import RunConfig
from trainkit.hub import model_folder, tokenizer_folder
from trainkit.model import DTYPES, check_room, load_for_inference
from trainkit.new_tokens import new_tokens
from trainkit.quantize import is_quantised
from trainkit.rules import render_rules
from trainkit.sample import Answer, answer, prompt_ids, stop_ids
from trainkit.vocabulary import resize_to


class Chat:
    """A loaded model and the conversation so far."""

    def __init__(self, config: RunConfig, *, system: str | None) -> None:
        source = tokenizer_folder(config.model)
        self.tokenizer, self.renderer = open_tokenizer(
            source, config.data.template, rules=render_rules(config), added=new_tokens(config.model)
        )
        device = torch.device("cuda" if torch.cuda.is_available() and not config.loop.use_cpu else "cpu")
        auto = torch.bfloat16 if device.type == "cuda" else torch.float32
        dtype = DTYPES.get(config.model.infer_dtype, auto)
        model = load_for_inference(config.model, dtype, device=device)
        resize_to(model, self.tokenizer, config.model, seed=config.loop.seed)
        check_room(model, self.tokenizer)
        self.model = model if is_quantised(model) else model.to(device)
        self.settings, self.system = config.sample, system or ""
        self.limit = model_limit(model_folder(config.model))
        self.messages: list[Message] = []
        torch.manual_seed(config.loop.seed)

    def ask(self, question: str, on_text=None) -> Answer:  # type: ignore[no-untyped-def]
        """Put a question, keep question and answer. Raises ``UsageError`` for text that no tokenizer takes."""
        try:
            (question + self.system).encode()
        except UnicodeEncodeError:  # bytes of a terminal or pipe that are no UTF-8 come as lone surrogates
            raise UsageError("the text is not UTF-8") from None
        asked = [*self.messages, Message("user", question)]
        ids = prompt_ids(asked, self.system, self.tokenizer, self.renderer)
        stops = stop_ids(self.tokenizer, self.renderer)
        found = answer(self.model, ids, self.tokenizer, stops, self.settings, limit=self.limit, on_text=on_text)
        self.messages = [*asked, Message("assistant", found.text)]
        return found


def answer_once(config: RunConfig, prompt: str, *, system: str | None, json: bool) -> None:
    """Print the answer to one prompt (``-`` reads it from stdin) on stdout."""
    question = sys.stdin.read() if prompt == "-" else prompt
    if not question.strip():
        raise UsageError("the prompt is empty")
    found = Chat(config, system=system).ask(question)
    if json:
        print_json(
            {"prompt": question, "answer": found.text, **{k: v for k, v in asdict(found).items() if k != "text"}}
        )
    else:
        print(found.text)


def talk(config: RunConfig, *, system: str | None) -> None:
    """A conversation: each line is a turn; ``clear`` forgets it, ``exit`` (or end of input) leaves."""
    chat = Chat(config, system=system)
    print("Type a message; clear begins anew, exit leaves.", file=sys.stderr)
    while True:
        try:
            line = input("you> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line == "exit":
            return
        if line == "clear":
            chat.messages = []
            print("(a new conversation)", file=sys.stderr)
        elif line:
            try:
                chat.ask(line, on_text=lambda text: print(text, end="", flush=True))
                print()
            except UsageError as error:
                print(f"error: {error}", file=sys.stderr)
