"""What must hold on a device before its speed is worth a look: packed = unpacked, fused head = reference, resume exact."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_rows import draw, micro_batches
from benchmarks.models import SHAPES, config_of

EXACT, ROUGH = 2e-4, 3e-2  # relative differences, in float32 and in bfloat16


@dataclass(frozen=True)
class Check:
    """What was tried, whether it held, and by how much."""

    name: str
    passed: bool
    told: str


def checks(device: str, attention: str, *, shape: str = "0.5B") -> list[Check]:
    """All of them, in order; one that raises has not passed."""
    tried: dict[str, Callable[[], Check]] = {
        "packed = unpacked, float32": lambda: packed(device, "sdpa", shape, bf16=False),
        f"packed = unpacked, bfloat16, {attention}": lambda: packed(device, attention, shape, bf16=True),
        "fused head = F.cross_entropy, float32": lambda: head(device, shape, torch.float32),
        "fused head = F.cross_entropy, bfloat16": lambda: head(device, shape, torch.bfloat16),
        "kernel of the head": lambda: kernel(device, shape),
        "resumed = not stopped, to the bit": lambda: resume(device),
    }
    found = []
    for name, check in tried.items():
        try:
            result = check()
        except (RuntimeError, ValueError, AssertionError, ImportError) as error:
            result = Check("", False, f"{type(error).__name__}: {str(error)[:200]}")
        found.append(Check(name, result.passed, result.told))
    return found


def packed(device: str, attention: str, shape: str, *, bf16: bool) -> Check:
    """Loss and gradient of the same examples, an example a row and several in a row; the difference of the gradients is
    that of their length as one vector."""
    from transformers import Qwen2ForCausalLM

    from trainkit.backends.single import Single
    from trainkit.config import load_config
    from trainkit.engine import make_objective

    torch.manual_seed(1)
    config = load_config({"model_name_or_path": shape, "bf16": bf16, "use_cpu": device == "cpu"})
    model: Any = Qwen2ForCausalLM(config_of(shape, attn_implementation=attention))
    model.to(device)
    backend = Single(use_cpu=device == "cpu", bf16=bf16)
    objective = make_objective(config, model, backend, None)
    length = 512 if device == "cuda" else 64
    examples = draw(2, SHAPES[shape]["vocab_size"], length, 4 * length)
    losses, gradients = [], []
    for share in (False, True):
        total = torch.zeros((), device=device)
        for batch in micro_batches(examples, length, 4, packed=share):
            loss, _ = objective(batch.to(backend.device))
            loss.backward()
            total += loss.detach()
        losses.append(total.item())
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad(set_to_none=True)
    apart = sum((a - b).double().square().sum() for a, b in zip(*gradients, strict=True))
    size = sum(a.double().square().sum() for a in gradients[0])
    gradient, loss = float(apart / size) ** 0.5, abs(losses[1] / losses[0] - 1)
    return Check("", max(gradient, loss) <= (ROUGH if bf16 else EXACT), f"loss {loss:.1e}, gradient {gradient:.1e}")


def head(device: str, shape: str, dtype: torch.dtype) -> Check:
    """Loss and gradients of the chunked head against those of whole logits in the same type, reduced in float32."""
    import torch.nn.functional as F

    from trainkit.head import Head
    from trainkit.head_logprobs import head_logprobs
    from trainkit.head_terms import Terms

    vocab_size, width = SHAPES[shape]["vocab_size"], SHAPES[shape]["hidden_size"]
    count = 2048 if device == "cuda" else 64
    generator = torch.Generator(device).manual_seed(3)
    weight = (torch.randn(vocab_size, width, generator=generator, device=device) * 0.02).to(dtype)
    hidden = torch.randn(count, width, generator=generator, device=device).to(dtype)
    targets = torch.randint(vocab_size, (count,), generator=generator, device=device)
    found = []
    for fused in (True, False):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if fused:
            total = head_logprobs(h, Head(w), targets, Terms(torch.ones(count, device=device)), chunk=count // 4).total
            assert total is not None
            loss = -total
        else:
            loss = F.cross_entropy((h @ w.T).float(), targets, reduction="sum")
        loss.backward()
        found.append([loss.detach()[None], h.grad, w.grad])
    apart = [float((a.double() - b.double()).norm() / b.double().norm()) for a, b in zip(*found, strict=True)]
    told = ", ".join(f"{name} {value:.1e}" for name, value in zip(("loss", "hidden", "weight"), apart, strict=True))
    return Check("", max(apart) <= (EXACT if dtype == torch.float32 else ROUGH), told)


def kernel(device: str, shape: str) -> Check:
    """Whether a fused kernel is taken for a head of this shape; one that is installed and wrong is not taken, so this
    passes where there is none, too, and says so."""
    from importlib.util import find_spec

    from torch import nn

    from trainkit.head import Head, OutputHead
    from trainkit.head_kernels import cut_cross_entropy, probe

    if device != "cuda" or find_spec("cut_cross_entropy") is None:
        return Check("", True, "none: cut-cross-entropy is not installed" if device == "cuda" else "none: no GPU")
    vocab_size, width = SHAPES[shape]["vocab_size"], SHAPES[shape]["hidden_size"]
    module = nn.Linear(width, vocab_size, bias=False, device=device)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        plain = OutputHead(module).read()
        assert isinstance(plain, Head)
        same, ours_s, theirs_s = probe(cut_cross_entropy, plain)
    return Check("", same, f"cut-cross-entropy {theirs_s * 1e3:.1f} ms, chunks {ours_s * 1e3:.1f} ms")


class Stopped(BaseException):
    """A run that ends as if the machine had gone; nothing in it catches this."""


def resume(device: str) -> Check:
    """Six steps at once, and six with an end after the fifth from the checkpoint of the fourth: the same losses and weights."""
    import trainkit.drive
    from benchmarks.train_job import COLUMNS, Job, make_model, rows_of
    from trainkit.config import load_config
    from trainkit.run import run

    before = trainkit.drive.Progress

    class Ends(before):  # type: ignore[misc, valid-type]
        def step(self, step: int) -> None:
            super().step(step)
            if step == 5:
                raise Stopped

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = Job("sft", "full", "tiny", 2, 2, 256, None, 1.0)
        rows = rows_of(job, None, count=24)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", **COLUMNS["sft"]}}))
        make_model(folder, "tiny", None)
        keys = {
            "model_name_or_path": str(folder / "model"), "stage": "sft", "do_train": True, "template": "chatml",
            "finetuning_type": "full", "dataset": "rows", "dataset_dir": str(folder), "cache_path": str(folder / "cache"),
            "cutoff_len": 256, "packing": True, "max_steps": 6, "save_steps": 2, "logging_steps": 1, "plot_loss": False,
            "learning_rate": 1e-3, "use_cpu": device == "cpu", "bf16": device == "cuda",
        }  # fmt: skip
        whole = run(load_config({**keys, "output_dir": str(folder / "whole")}), quiet=True)
        stopped = load_config({**keys, "output_dir": str(folder / "stopped")})
        trainkit.drive.Progress = Ends  # type: ignore[misc]
        try:
            run(stopped, quiet=True)
        except Stopped:
            pass
        finally:
            trainkit.drive.Progress = before  # type: ignore[misc]
        again = run(stopped, quiet=True)
        found = [weights_of(one.folder) for one in (whole, again)]
        losses = [one.last_loss for one in (whole, again)]
        same = losses[0] == losses[1] and all(torch.equal(found[0][key], found[1][key]) for key in found[0])
        shutil.rmtree(folder / "cache", ignore_errors=True)
        return Check("", bool(same and again.resumed_from == 4), f"gone on from step {again.resumed_from}")


def weights_of(folder: Path) -> dict[str, Any]:
    """All tensors of a model's folder."""
    from safetensors.torch import load_file

    return {key: value for path in sorted(folder.glob("model*.safetensors")) for key, value in load_file(path).items()}
