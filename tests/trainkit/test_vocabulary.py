"""Rows for new tokens: how many, how they begin, that they are trained, saved, loaded and exported."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from registry.errors import Faults, UsageError
from registry.tokenizer import Tokenizer, open_tokenizer
from tests.console import Ran
from trainkit.config import RunConfig, load_config
from trainkit.model import check_room, load_base, load_trainable
from trainkit.new_tokens import descriptions, new_tokens
from trainkit.parameters import Parameters, count_parameters
from trainkit.vocabulary import begin_as_described, begin_as_mean, fit_to_adapter, resize_to

Settings = Callable[..., dict[str, Any]]
Run = Callable[..., Ran]
TOKENS = {"add_tokens": "km/h", "add_special_tokens": ["<tool>", "<answer>"]}


def opened(config: RunConfig) -> Tokenizer:
    return open_tokenizer(config.model.model_name_or_path, config.data.template, added=new_tokens(config.model))[0]


def grown(config: RunConfig, *, seed: int = 1, tied: bool = True) -> tuple[nn.Module, Tokenizer, tuple[str, ...]]:
    model, tokenizer = load_base(config.model, torch.float32), opened(config)
    if not tied:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone() * 2)
        model.config.tie_word_embeddings = False
    return model, tokenizer, resize_to(model, tokenizer, config.model, seed=seed)


def test_nothing_grows_where_nothing_asks_for_it(settings: Settings) -> None:
    config = load_config(settings())
    model, tokenizer, names = grown(config)
    rows = load_base(config.model, torch.float32).get_input_embeddings().weight.shape[0]
    assert (names, model.get_input_embeddings().weight.shape[0]) == ((), rows)
    check_room(model, tokenizer)


def test_a_template_with_new_stop_words_has_room_once_the_vocabulary_may_grow(settings: Settings) -> None:
    config = load_config(settings(template="llama3"))
    with pytest.raises(UsageError, match="or grow the model with resize_vocab: true"):
        check_room(*grown(config)[:2])
    model, tokenizer, names = grown(load_config(settings(template="llama3", resize_vocab=True)))
    check_room(model, tokenizer)
    assert names == ("embed_tokens",)  # the head is tied to it
    assert grown(load_config(settings(resize_vocab=True)), tied=False)[2] == ("embed_tokens", "lm_head")


@pytest.mark.parametrize("tied", [True, False])
def test_rows_grow_to_a_multiple_of_64_and_the_old_ones_stay(settings: Settings, tied: bool) -> None:
    config = load_config(settings(**TOKENS))
    before = load_base(config.model, torch.float32).get_input_embeddings().weight
    model, tokenizer, _ = grown(config, tied=tied)
    rows, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert tokenizer.size > before.shape[0]
    assert rows.shape[0] == head.shape[0] == model.config.vocab_size == 64 * -(-tokenizer.size // 64)
    assert (rows is head) is tied
    assert torch.equal(rows[: len(before)], before)
    assert torch.equal(head[: len(before)], before * (1 if tied else 2))
    noise = rows[len(before) :] - before.mean(0)
    assert float(noise.detach().std()) == pytest.approx(32**-0.5, rel=0.1)
    if not tied:
        assert torch.allclose(head[len(before) :].mean(0), 2 * before.mean(0), atol=5 * 32**-0.5 / 8)
        assert not torch.equal(head[len(before) :], rows[len(before) :])
    assert model(input_ids=torch.tensor([[tokenizer.token_id("<answer>")]])).logits.shape[-1] == rows.shape[0]


def test_the_new_rows_follow_the_seed_and_leave_other_randomness_alone(settings: Settings) -> None:
    config = load_config(settings(**TOKENS))
    one, again, other = (grown(config, seed=seed)[0].get_input_embeddings().weight for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_begin_as_mean_by_hand() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 6.0], [0.0, 0.0]])
    begin_as_mean(weight, 2, torch.Generator().manual_seed(3))
    noise = torch.randn(1, 2, generator=torch.Generator().manual_seed(3)) / 2**0.5
    assert torch.equal(weight, torch.cat([torch.tensor([[1.0, 2.0], [3.0, 6.0]]), torch.tensor([[2.0, 4.0]]) + noise]))


def test_begin_as_described_by_hand() -> None:
    """Row 3 is told by rows 0 and 2, row 4 by itself and row 1 (itself is new), row 5 by nothing."""
    weight = torch.tensor([[1.0], [5.0], [3.0], [9.0], [9.0], [9.0]])
    begin_as_described(weight, {3: [0, 2], 4: [4, 1], 5: []}, 3, None)
    assert weight[:, 0].tolist() == [1, 5, 3, 2, 5, 3]
    begin_as_described(weight, {3: [0, 2]}, 3, torch.Generator().manual_seed(3))
    assert weight[3] == 2 + torch.randn(1, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def told(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.yaml"
    path.write_text('"<tool>": the steps of a lighthouse\n"<answer>": the lamp is kept\n', "utf-8")
    return path


@pytest.mark.parametrize("tied", [True, False])
def test_a_described_token_begins_as_the_mean_of_its_description(settings: Settings, told: Path, tied: bool) -> None:
    config = load_config(settings(new_special_tokens_config=str(told), init_special_tokens="desc_init"))
    model, tokenizer, _ = grown(config, tied=tied)
    ids = tokenizer.encode_batch(["the steps of a lighthouse"])[0]
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        wanted = module.weight[ids].mean(0)
        assert torch.allclose(module.weight[tokenizer.token_id("<tool>")], wanted, atol=1e-7)
    noisy = load_config(settings(new_special_tokens_config=str(told), init_special_tokens="desc_init_w_noise"))
    rows = grown(noisy)[0].get_input_embeddings().weight
    mean = rows[ids].mean(0)
    assert 0.5 < float((rows[tokenizer.token_id("<tool>")] - mean).detach().norm()) < 2  # 32 of 1/√32 have the norm 1


def test_a_described_token_takes_a_row_that_the_model_has_in_spare(settings: Settings, told: Path) -> None:
    keys = settings(new_special_tokens_config=str(told), init_special_tokens="desc_init")
    config = load_config(keys)
    model, tokenizer = load_base(config.model, torch.float32), opened(config)
    model.resize_token_embeddings(512, mean_resizing=False)
    before = model.get_input_embeddings().weight.detach().clone()
    resize_to(model, tokenizer, config.model, seed=1)
    rows = model.get_input_embeddings().weight
    assert rows.shape[0] == 512
    changed = (rows != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == [tokenizer.token_id("<tool>"), tokenizer.token_id("<answer>")]


def test_the_file_of_descriptions_beats_the_list_and_both_notes_are_said(settings: Settings, told: Path) -> None:
    config = load_config(settings(new_special_tokens_config=str(told), add_special_tokens="<other>"))
    assert new_tokens(config.model).special == ("<tool>", "<answer>")
    assert any("add_special_tokens is passed over" in note for note in config.notes)
    without = load_config(settings(add_special_tokens="<other>", init_special_tokens="desc_init"))
    assert without.model.init_special_tokens == "noise_init"
    assert any("needs the descriptions" in note for note in without.notes)


@pytest.mark.parametrize(
    ("text", "fault"),
    [("- a\n- b\n", "must map each token"), ("", "must map each token"), ("3: x\n", "are no token with a text: '3'"),
     ("a: [1]\n", "are no token with a text: 'a'"), ("a: : b\n", "is not YAML"), (None, "cannot be read")],
)  # fmt: skip
def test_a_file_of_descriptions_that_is_none(settings: Settings, tmp_path: Path, text: str | None, fault: str) -> None:
    if text is not None:
        (tmp_path / "t.yaml").write_text(text, "utf-8")
    with pytest.raises(UsageError, match=fault):
        descriptions(load_config(settings(new_special_tokens_config=str(tmp_path / "t.yaml"))).model)


def test_a_missing_file_of_descriptions_ends_every_command_before_a_model_loads(
    config_file: Callable[..., Path], trainkit: Run
) -> None:
    path = config_file(new_special_tokens_config="nowhere.yaml")
    for words in (("run", path), ("plan", path), ("encode", path, "--out", "x.jsonl")):
        ran = trainkit(*words)
        assert (ran.code, "new_special_tokens_config cannot be read" in ran.err) == (2, True)


@pytest.mark.parametrize("keys", [{"resize_vocab": True}, {"add_tokens": "a"}, {"add_special_tokens": "a"}])
def test_a_quantised_vocabulary_cannot_grow(settings: Settings, keys: dict[str, Any]) -> None:
    with pytest.raises(Faults, match="quantization_bit"):
        load_config(settings(finetuning_type="lora", quantization_bit=4, **keys))


def adapted(keys: dict[str, Any], resumed: Path | None = None) -> tuple[nn.Module, RunConfig]:
    config = load_config(keys)
    model = load_trainable(
        config.model, config.method, bf16=False, device=torch.device("cpu"), tokenizer=opened(config), seed=1, resumed=resumed
    )  # fmt: skip
    return model, config


def test_lora_trains_the_embeddings_of_a_grown_vocabulary_and_a_tied_head_stays_tied(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="tunekit"):
        model, _ = adapted(settings(finetuning_type="lora", **TOKENS))
    assert "all of embed_tokens is trained and saved with the adapter" in caplog.text
    assert "new tokens, so resize_vocab is on" in caplog.text
    trained = {name for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name}
    assert {name.split(".modules_to_save")[0].rpartition(".")[2] for name in trained} == {"embed_tokens"}
    model.get_input_embeddings().weight.data[5] = 7.0
    assert (model.get_output_embeddings().weight[5] == 7).all()


def test_lora_trains_what_is_asked_for_alone_and_says_that_the_new_rows_stay(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="tunekit"):
        model, _ = adapted(settings(finetuning_type="lora", additional_target="q_proj", lora_target="v_proj", **TOKENS))
    assert "the rows of new tokens stay as they begin: additional_target lacks embed_tokens" in caplog.text
    assert not any(p.requires_grad for n, p in model.named_parameters() if "embed_tokens" in n)


def test_the_counts_of_a_grown_model_are_those_of_the_loaded_one(settings: Settings) -> None:
    for keys in ({}, {"finetuning_type": "lora"}):
        model, config = adapted(settings(**keys, **TOKENS))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        found = count_parameters(config.model, config.method, num_ids=opened(config).size)
        assert found.trainable == trained
    full, config = adapted(settings(**TOKENS))
    total = sum(p.numel() for p in full.parameters())
    assert count_parameters(config.model, config.method, num_ids=opened(config).size) == Parameters(total, total)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_with_new_tokens_is_trained_resumed_exported_and_answers(
    config_file: Callable[..., Path],
    trainkit: Run,
    stop_after_five: Callable[..., None],
    tmp_path: Path,
    told: Path,
    method: str,
) -> None:
    keys = {
        "finetuning_type": method, "new_special_tokens_config": str(told), "init_special_tokens": "desc_init",
        "add_tokens": "lighthouse,sisters", "save_strategy": "steps", "save_steps": 4, "max_steps": 6,
    }  # fmt: skip
    whole = config_file(name="whole.yaml", **{**keys, "output_dir": str(tmp_path / "whole")})
    assert trainkit("run", whole).code == 0
    path = config_file(**keys)
    stop_after_five(path)
    ran = trainkit("run", path)
    assert ran.code == 0, ran.err
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    with safe_open(tmp_path / "whole" / name, "pt") as one, safe_open(tmp_path / "out" / name, "pt") as other:
        assert set(one.keys()) == set(other.keys())
        assert all(torch.equal(one.get_tensor(key), other.get_tensor(key)) for key in one.keys())  # noqa: SIM118
        rows = next(one.get_tensor(key) for key in one.keys() if "embed_tokens" in key)  # noqa: SIM118
    saved = Tokenizer(tmp_path / "out")
    assert saved.encode_batch(["<tool>lighthouse"])[0] == [saved.token_id("<tool>"), saved.token_id("lighthouse")]
    assert rows.shape[0] >= saved.size
    path = str(tmp_path / "out")
    chosen = {"adapter_name_or_path": path} if method == "lora" else {"model_name_or_path": path}
    export = config_file(name="export.yaml", finetuning_type=method, export_dir=str(tmp_path / "merged"), **chosen)
    ran = trainkit("export", export)
    assert ran.code == 0, ran.err
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["vocab_size"] == rows.shape[0]
    with safe_open(tmp_path / "merged" / "model.safetensors", "pt") as merged:
        assert torch.equal(merged.get_tensor("model.embed_tokens.weight"), rows)
    for folder in ("out", "merged"):
        ran = trainkit(
            "chat", tmp_path / folder, "--prompt", "<tool>", "--greedy", "max_new_tokens=3", "template=qwen3_nothink"
        )
        assert ran.code == 0, ran.err


def test_plan_and_show_know_the_new_tokens(config_file: Callable[..., Path], trainkit: Run) -> None:
    path = config_file(add_tokens="lighthouse", finetuning_type="lora")
    ran = trainkit("plan", path, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert any("new tokens: lighthouse" in told for told in found["warnings"])
    plain = json.loads(trainkit("plan", config_file(finetuning_type="lora"), "--json").out)
    assert found["tokens"]["all"] != plain["tokens"]["all"]
    assert found["model"]["trainable"] > plain["model"]["trainable"]
    assert "lighthouse" in trainkit("show", path).out


def test_an_adapter_with_more_rows_than_its_base_makes_the_base_grow(settings: Settings, tmp_path: Path) -> None:
    model, config = adapted(settings(finetuning_type="lora", **TOKENS))
    model.save_pretrained(tmp_path / "adapter")
    base = load_base(config.model, torch.float32)
    fit_to_adapter(base, tmp_path / "adapter")
    assert base.get_input_embeddings().weight.shape == model.get_input_embeddings().weight.shape
