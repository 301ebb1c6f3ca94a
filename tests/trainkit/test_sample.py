"""Text from a model: prompts spelled as in training, and answers that end where they should."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from registry.encode import IGNORE, Encoder, EncodeRules, Example
from registry.errors import UsageError
from registry.records import ChatRecord, Message
from registry.tokenizer import open_tokenizer
from trainkit.config import SampleConfig, load_config
from trainkit.sample import answer, prompt_ids, stop_ids

GREEDY = replace(load_config({"model_name_or_path": "m"}).sample, do_sample=False, max_new_tokens=12)
CONVERSATION = (Message("user", "Who?"), Message("assistant", "I."), Message("user", "Where?"))


@pytest.fixture(scope="module")
def model(model_folder: Path) -> nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_folder).eval()


# Those that think write thoughts into trained answers that a prompt leaves out; others need tokens of their own.
PLAIN = ("chatml", "default", "empty", "llama2", "llama3", "mistral", "qwen", "qwen3_nothink", "vicuna", None)


@pytest.mark.parametrize("template", PLAIN)
@pytest.mark.parametrize("system", ["", "Be kind."])
def test_a_prompt_is_what_training_saw_before_the_answer(model_folder: Path, template: str | None, system: str) -> None:
    tokenizer, renderer = open_tokenizer(model_folder, template)
    asked = prompt_ids(CONVERSATION, system, tokenizer, renderer)
    (trained,) = Encoder(tokenizer, renderer, EncodeRules(512)).chats(
        [ChatRecord((*CONVERSATION, Message("assistant", "There.")), system)]
    )
    assert isinstance(trained, Example)
    last = max(at for at, label in enumerate(trained.labels) if label == IGNORE) + 1  # where the last answer begins
    assert array("i", asked) == trained.ids[:last]


def ask(
    model: nn.Module,
    folder: Path,
    settings: SampleConfig = GREEDY,
    *,
    limit: int | None = 128,
    on_text: Callable[[str], None] | None = None,
) -> Any:
    tokenizer, renderer = open_tokenizer(folder, "qwen3_nothink")
    ids = prompt_ids(CONVERSATION, "", tokenizer, renderer)
    return answer(model, ids, tokenizer, stop_ids(tokenizer, renderer), settings, limit=limit, on_text=on_text)


def test_greedy_is_the_likeliest_token_each_time(model: nn.Module, model_folder: Path) -> None:
    tokenizer, renderer = open_tokenizer(model_folder, "qwen3_nothink")
    ids = prompt_ids(CONVERSATION, "", tokenizer, renderer)
    new: list[int] = []
    with torch.no_grad():
        for _ in range(12):
            new.append(int(model(input_ids=torch.tensor([[*ids, *new]])).logits[0, -1].argmax()))
            if new[-1] in stop_ids(tokenizer, renderer):
                break
    found = ask(model, model_folder)
    assert found.num_tokens == len(new)
    assert found.text == tokenizer.decode(
        [i for i in new if i not in stop_ids(tokenizer, renderer)], skip_special_tokens=True
    )


def test_pieces_add_up_to_the_answer(model: nn.Module, model_folder: Path) -> None:
    torch.manual_seed(3)
    pieces: list[str] = []
    wild = replace(GREEDY, do_sample=True, temperature=5.0, top_p=1.0, top_k=0, max_new_tokens=40)
    found = ask(model, model_folder, wild, on_text=pieces.append)  # bytes that are no UTF-8 among them
    assert len(pieces) > 3
    assert "".join(pieces) == found.text


def test_a_seed_draws_the_same_answer_again(model: nn.Module, model_folder: Path) -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(ask(model, model_folder, replace(GREEDY, do_sample=True, temperature=1.0, top_p=1.0)).text)
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_temperature_of_zero_is_greedy(model: nn.Module, model_folder: Path) -> None:
    assert (
        ask(model, model_folder, replace(GREEDY, do_sample=True, temperature=0.0)).text == ask(model, model_folder).text
    )


def test_an_answer_stops_at_the_models_limit(model: nn.Module, model_folder: Path) -> None:
    tokenizer, renderer = open_tokenizer(model_folder, "qwen3_nothink")
    size = len(prompt_ids(CONVERSATION, "", tokenizer, renderer))
    found = ask(model, model_folder, limit=size + 1)
    assert (found.num_prompt_tokens, found.num_tokens) == (size, 1)
    with pytest.raises(
        UsageError, match=f"the conversation has {size} tokens, and the model takes {size}\n  Type clear to begin anew"
    ):
        ask(model, model_folder, limit=size)


class Scripted(nn.Module):
    """Says what it was told to say, the way ``generate`` does."""

    def __init__(self, script: list[int]) -> None:
        super().__init__()
        self.weight, self.script = nn.Parameter(torch.zeros(1)), script

    def generate(self, input_ids: torch.Tensor, streamer: Any, **options: Any) -> torch.Tensor:
        streamer.put(input_ids)
        for number in self.script:
            streamer.put(torch.tensor([number]))
        streamer.end()
        return torch.cat([input_ids, torch.tensor([self.script])], dim=1)


def test_an_answer_ends_with_the_stop_word_and_does_not_show_it(model_folder: Path) -> None:
    tokenizer, renderer = open_tokenizer(model_folder, "qwen3_nothink")
    script = [*tokenizer.encode_batch(["ja!"])[0], *stop_ids(tokenizer, renderer)]
    found = ask(Scripted(script), model_folder)
    assert (found.text, found.finish_reason, found.num_tokens) == ("ja!", "stop", len(script))


def test_a_character_of_several_tokens_is_shown_when_it_is_whole(model_folder: Path) -> None:
    tokenizer, _ = open_tokenizer(model_folder, "qwen3_nothink")
    (script,) = tokenizer.encode_batch(["a é 🙂 z"])
    assert len(script) > 8  # bytes apart
    pieces: list[str] = []
    assert ask(Scripted(script), model_folder, on_text=pieces.append).text == "a é 🙂 z"
    assert "".join(pieces) == "a é 🙂 z"
    assert "🙂" in [piece.strip() for piece in pieces]


def test_every_stop_word_of_a_template_stops(model_folder: Path) -> None:
    tokenizer, renderer = open_tokenizer(model_folder, "chatml")
    assert stop_ids(tokenizer, renderer) == [tokenizer.token_id("<|im_end|>"), tokenizer.token_id("<|im_start|>")]
