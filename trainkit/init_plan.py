"""What a model from scratch will be: its sizes and special tokens, checked before anything heavy is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from registry.errors import Faults, did_you_mean
from registry.templates import Template, Token, load_template

ARCHITECTURES = ("qwen2", "llama")
END_OF_TEXT = "<|endoftext|>"
MARKER = re.compile(r"<\|[^|<>]+\|>")  # how templates spell their special tokens


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """Sizes of a decoder: width, layers, heads, vocabulary and longest sequence in tokens."""

    hidden_size: int
    layers: int
    heads: int
    vocab_size: int
    max_length: int
    arch: str = "qwen2"
    template: str = "qwen3_nothink"

    @property
    def intermediate_size(self) -> int:
        """The gated MLP's width: 8/3 of the model's, in multiples of 32 (Shazeer 2020, "GLU Variants")."""
        return -(-self.hidden_size * 8 // 3 // 32) * 32


SIZES = {
    "tiny": ModelPlan(hidden_size=128, layers=2, heads=4, vocab_size=2048, max_length=512),  # about 0.6M parameters
    "small": ModelPlan(hidden_size=256, layers=4, heads=4, vocab_size=4096, max_length=1024),  # 4M
    "medium": ModelPlan(hidden_size=512, layers=8, heads=8, vocab_size=16384, max_length=2048),  # 34M
    "base": ModelPlan(hidden_size=768, layers=12, heads=12, vocab_size=32768, max_length=2048),  # 110M
}


def plan_model(
    arch: str, size: str, *, vocab_size: int | None, hidden_size: int | None, layers: int | None, heads: int | None,
    max_length: int | None, template: str,
) -> ModelPlan:  # fmt: skip
    """The plan of a named size with what is given in its place. Raises ``Faults`` for what cannot be built."""
    faults = []
    if arch not in ARCHITECTURES:
        faults.append(
            f'unknown architecture "{arch}"; known: {", ".join(ARCHITECTURES)}. {did_you_mean(arch, ARCHITECTURES)}'
        )
    if size not in SIZES:
        faults.append(f'unknown size "{size}"; known: {", ".join(SIZES)}. {did_you_mean(size, SIZES)}')
    load_template(template)
    given = {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "layers": layers,
        "heads": heads,
        "max_length": max_length,
    }
    plan = replace(
        SIZES.get(size, SIZES["tiny"]),
        arch=arch,
        template=template,
        **{k: v for k, v in given.items() if v is not None},
    )
    if plan.hidden_size % (2 * plan.heads):
        faults.append(
            f"hidden size {plan.hidden_size} cannot be shared by {plan.heads} heads: each needs an even number of columns"
        )
    if faults:
        raise Faults("trainkit init", faults)
    return plan


def special_tokens(template: Template) -> tuple[list[str], str, str | None]:
    """The special tokens that a template's slots are spelled with, its end of sequence, and its BOS (or None)."""
    slots = [
        s
        for role in ("prefix", "system", "user", "assistant", "observation", "function")
        for s in getattr(template, role)
    ]
    found = [marker for slot in slots if isinstance(slot, str) for marker in MARKER.findall(slot)]
    bos = "<|begin_of_text|>" if any(isinstance(s, Token) and s.of == "bos_token" for s in slots) else None
    named = [s.text for s in slots if isinstance(s, Token) and s.text]
    ordered = dict.fromkeys([END_OF_TEXT, *([bos] if bos else []), *found, *named, *template.stop_words])
    return list(ordered), template.stop_words[0] if template.stop_words else END_OF_TEXT, bos
