"""Operations of a step and peaks of devices, against what is worked out by hand."""

from __future__ import annotations

import pytest

from trainkit.forecast.flops import Work, context_of, device_peak, flops_per_step, work_of


def test_a_fully_trained_weight_costs_six_a_token_and_a_frozen_one_four() -> None:
    full = Work(body=100, body_trained=100, head=0, head_trained=0, attention=0)
    frozen = Work(body=100, body_trained=0, head=0, head_trained=0, attention=0)
    assert flops_per_step(full, num_tokens=10, num_labelled=10, context=0) == 6 * 100 * 10
    assert flops_per_step(frozen, num_tokens=10, num_labelled=10, context=0) == 4 * 100 * 10


def test_recomputing_adds_a_forward_pass_and_kl_rows_are_only_that() -> None:
    work = Work(body=100, body_trained=100, head=0, head_trained=0, attention=0)
    assert flops_per_step(work, num_tokens=10, num_labelled=0, context=0, recomputed=1.0) == 8 * 100 * 10
    assert flops_per_step(work, num_tokens=0, num_labelled=0, context=0, num_forward=10) == 2 * 100 * 10


def test_the_head_is_paid_for_labelled_tokens_alone() -> None:
    work = Work(body=0, body_trained=0, head=50, head_trained=50, attention=0)
    assert flops_per_step(work, num_tokens=1000, num_labelled=3, context=0) == 6 * 50 * 3


def test_causal_attention_is_six_times_width_times_context() -> None:
    work = Work(body=0, body_trained=0, head=0, head_trained=0, attention=2 * 64)
    assert flops_per_step(work, num_tokens=8, num_labelled=0, context=32) == 6 * 2 * 64 * 32 * 8


def test_the_context_is_that_of_a_token_not_of_a_document() -> None:
    assert context_of([30, 10]) == (900 + 100) / 40


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H200", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H20", 148),
        ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA GeForce RTX 4090", 165), ("Tesla V100-SXM2-32GB", 125),
        ("NVIDIA L40S", 362), ("Something else", None),
    ],
)  # fmt: skip
def test_peaks_by_the_name_that_a_device_gives(name: str, tera: float | None) -> None:
    assert device_peak(name) == (None if tera is None else tera * 1e12)


def test_work_counts_matrices_and_not_the_embedding_unless_it_is_the_head() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=50, num_key_value_heads=1, tie_word_embeddings=True, **shape))
    work = work_of(model)
    attention, mlp = 16 * 16 * 2 + 16 * 8 * 2, 3 * 16 * 32
    assert work == Work(2 * (attention + mlp), 2 * (attention + mlp), 50 * 16, 50 * 16, 2 * 2 * 8)
    model.requires_grad_(False)
    assert work_of(model) == Work(work.body, 0, work.head, 0, work.attention)
