"""A config's model: weights loaded by transformers, adapters attached by peft, the tokenizer that is saved with them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry.errors import TunekitError, UsageError, did_you_mean, from_os_error
from registry.tokenizer import Tokenizer
from trainkit.config import MethodConfig, ModelConfig

log = logging.getLogger("tunekit")

ATTENTION = {"auto": None, "disabled": "eager", "sdpa": "sdpa", "fa2": "flash_attention_2", "fa3": "flash_attention_3"}
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# Texts on which our tokenizer and transformers' must agree before a run begins: spaces, scripts, digits, code.
PROBES = (
    "Hello, world!",
    "  two  spaces\tand a tab\n\n",
    "你好，世界。12345",
    "naïve café — “quotes” 🙂",
    "def f(x):\n    return x**2\n",
)


def load_base(settings: ModelConfig, dtype: torch.dtype) -> nn.Module:
    """The causal model without adapters, in ``dtype``. Raises ``UsageError`` with the library's own reason."""
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {
        "dtype": dtype,
        "revision": settings.model_revision,
        "cache_dir": settings.cache_dir,
        "trust_remote_code": settings.trust_remote_code,
    }
    if ATTENTION[settings.flash_attn]:
        options["attn_implementation"] = ATTENTION[settings.flash_attn]
    name = settings.model_name_or_path
    model, found = loaded(name, lambda: AutoModelForCausalLM.from_pretrained(name, output_loading_info=True, **options))
    if missing := sorted(found["missing_keys"]):  # transformers only warns, and leaves them random
        raise UsageError(
            f"the weights lack {len(missing)} of the model's tensors, e.g. {missing[0]}",
            where=name,
            mend="config.json and the weights do not belong together, or a file of the weights is missing.",
        )
    return model


def load_hf_tokenizer(settings: ModelConfig, folder: str | Path | None = None) -> Any:
    """transformers' tokenizer of the model (or of ``folder``): it is saved with what is trained."""
    from transformers import AutoTokenizer

    name = str(folder or settings.model_name_or_path)
    return loaded(name, lambda: AutoTokenizer.from_pretrained(name, trust_remote_code=settings.trust_remote_code))


def quiet_libraries() -> None:
    """Switch off transformers' and peft's progress bars and notes to developers: a run has lines of its own."""
    import warnings

    from transformers.utils import logging as transformers_logging

    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\.")

    transformers_logging.disable_progress_bar()


def loaded(name: str, load):  # type: ignore[no-untyped-def]
    """What ``load`` returns. Raises ``UsageError`` with the library's own reason where it cannot load ``name``."""
    quiet_libraries()
    try:
        return load()
    except TunekitError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise from_os_error(error, f"loading {name}") from error
        raise UsageError(f"cannot be loaded: {_first_lines(error)}", where=name) from None
    except Exception as error:  # the library raises many kinds for a folder it cannot use
        raise UsageError(f"cannot be loaded: {type(error).__name__}: {_first_lines(error)}", where=name) from error


def _first_lines(error: BaseException) -> str:
    return " ".join(str(error).strip().splitlines()[:2])[:300]


def check_room(model: nn.Module, tokenizer: Tokenizer) -> None:
    """Raise ``UsageError`` where the tokenizer (with a template's new stop words) has ids that the model has no row for."""
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator, union-attr]
    if tokenizer.size > rows:
        new = f" The template adds: {', '.join(tokenizer.new_tokens)}." if tokenizer.new_tokens else ""
        raise UsageError(
            f"the tokenizer has {tokenizer.size} ids, the model only {rows} rows for them.{new}",
            mend="Choose the template that belongs to this model (or template: null for its own).",
        )


def check_agreement(ours: Tokenizer, theirs: Any) -> None:
    """Raise ``UsageError`` where our tokenizer and transformers' give different ids: one of them is not the model's."""
    for text, ids in zip(PROBES, ours.encode_batch(PROBES), strict=True):
        other = theirs(text, add_special_tokens=False)["input_ids"]
        if ids != other:
            raise UsageError(
                f"tokenizer.json and transformers' {type(theirs).__name__} disagree on {text!r}: {ids[:8]} and {other[:8]}",
                where=str(ours.folder),
                mend="Save the tokenizer again with a current transformers, so that its files agree.",
            )


def align_special_ids(model: nn.Module, tokenizer: Tokenizer) -> None:
    """Let the saved model stop and pad where its tokenizer does: the template's end of sequence first, then those that
    the base had. Left as they were, ``generate`` would run past every answer."""
    configs = [model.config, getattr(model, "generation_config", None)]
    for config in (c for c in configs if c is not None):
        old = getattr(config, "eos_token_id", None)
        others = old if isinstance(old, list) else [old]
        ends = list(dict.fromkeys(i for i in (tokenizer.eos_id, *others) if i is not None))
        is_generation = config is not model.config
        config.eos_token_id = ends if is_generation and len(ends) > 1 else (ends[0] if ends else None)  # type: ignore[union-attr]
        config.pad_token_id = tokenizer.pad_id  # type: ignore[union-attr]


def load_trainable(
    settings: ModelConfig, method: MethodConfig, *, bf16: bool, device: torch.device, resumed: Path | None = None
) -> nn.Module:
    """The model of a run with what is trained marked so: all of it, or an adapter on a frozen base.

    ``resumed`` is the checkpoint whose weights (or adapter) take the place of the fresh ones. Of several adapters the
    last is continued and the others merged; with ``create_new_adapter`` all are merged and a new one begins.
    """
    if method.finetuning_type == "full":
        return load_base(replace(settings, model_name_or_path=str(resumed)) if resumed else settings, torch.float32)
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model, set_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    base = load_base(settings, torch.bfloat16 if bf16 and device.type == "cuda" else torch.float32)
    given = list(settings.adapter_name_or_path or ())
    continued = given.pop() if given and not method.create_new_adapter else None
    base = merge_adapters(base, given)
    if resumed or continued:
        name = str(resumed or continued)
        adapted = loaded(name, lambda: PeftModel.from_pretrained(base, name, is_trainable=True))
        if base.dtype != torch.float32:
            # Modules that are trained whole were just loaded at the base's width: widen them, then load them once more.
            prepare_trainable(adapted)
            set_peft_model_state_dict(adapted, load_peft_weights(name, device="cpu"))
        return adapted
    extra = method.additional_target or ()
    names = {name.rpartition(".")[2] for name, _ in base.named_modules()}
    if unknown := [one for one in extra if one.rpartition(".")[2] not in names]:
        raise UsageError(
            f"additional_target names no module of this model: {', '.join(unknown)}",
            mend=did_you_mean(unknown[0], names) or None,
        )
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=method.lora_rank,
        lora_alpha=method.lora_alpha or 2 * method.lora_rank,
        lora_dropout=method.lora_dropout,
        target_modules=lora_targets(base, method.lora_target),
        use_rslora=method.use_rslora,
        use_dora=method.use_dora,
        modules_to_save=list(extra) or None,
    )
    return get_peft_model(base, config)  # type: ignore[arg-type]


def merge_adapters(model: nn.Module, adapters: Sequence[str]) -> nn.Module:
    """The base with adapters merged into its weights, one after another."""
    from peft import PeftModel

    for adapter in adapters:
        model = loaded(adapter, lambda m=model, a=adapter: PeftModel.from_pretrained(m, a).merge_and_unload())
    return model


def lora_targets(model: nn.Module, asked: Sequence[str]) -> list[str]:
    """The module names that get an adapter; ``all`` is every linear layer but the head (as LLaMA-Factory 0.9.5).

    Raises ``UsageError`` where a name matches none of the model's linear layers.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    linear = {
        name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head
    }
    if "all" in asked:
        return sorted(linear)
    unknown = [
        name for name in asked if name not in linear and not any(n.endswith(name) for n, _ in model.named_modules())
    ]
    if unknown:
        raise UsageError(
            f"lora_target names no module of this model: {', '.join(unknown)}",
            mend=f"It has: {', '.join(sorted(linear))}",
        )
    return list(asked)


def prepare_trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters to train, by name, in float32: updates smaller than bfloat16's steps would be lost otherwise."""
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    for _, parameter in trainable:
        parameter.data = parameter.data.float()
    return trainable


def tokenizer_to_save(settings: ModelConfig, tokenizer: Tokenizer, folder: Path, chat_template: str | None) -> Any:
    """transformers' tokenizer with what the template changed: new stop words, end of sequence, chat template."""
    theirs = load_hf_tokenizer(settings, folder)
    if tokenizer.new_tokens:
        theirs.add_special_tokens(
            {"additional_special_tokens": list(tokenizer.new_tokens)}, replace_extra_special_tokens=False
        )
    check_agreement(tokenizer, theirs)
    theirs.eos_token, theirs.pad_token = tokenizer.eos_token, tokenizer.pad_token
    if chat_template is not None:
        theirs.chat_template = chat_template
    theirs.padding_side = "right"
    return theirs
