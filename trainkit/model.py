"""A config's model: weights loaded by transformers, adapters attached by peft, the tokenizer that is saved with them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from registry.tokenizer import PROMPT_TOKENS, Tokenizer
from trainkit.config import MethodConfig, ModelConfig
from trainkit.hub import adapter_folders
from trainkit.loading import loaded
from trainkit.methods import ADAPTED, METHODS
from trainkit.methods.adapters import check_kind, load_again, merge_adapters, put_on, share_tied, warn_of_other_bases
from trainkit.precision import base_dtype, set_precision
from trainkit.quantize import check_trainable, is_quantised, loading_options
from trainkit.rope import stretch
from trainkit.vocabulary import resize_to, with_new_rows

log = logging.getLogger("tunekit")

ATTENTION = {
    "auto": None,  # transformers' choice: sdpa, where the model has it
    "disabled": "eager",
    "sdpa": "sdpa",
    "flex": "flex_attention",  # compiled by transformers at its first call; trains on a GPU only
    "fa2": "flash_attention_2",
    "fa3": "flash_attention_3",
}
CPU = torch.device("cpu")
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# Texts on which our tokenizer and transformers' must agree before a run begins: spaces, scripts, digits, code.
PROBES = (
    "Hello, world!",
    "  two  spaces\tand a tab\n\n",
    "你好，世界。12345",
    "naïve café — “quotes” 🙂",
    "def f(x):\n    return x**2\n",
)


def load_base(
    settings: ModelConfig,
    dtype: torch.dtype,
    *,
    cutoff_len: int | None = None,
    device: torch.device = CPU,
) -> nn.Module:
    """The causal model without adapters, in ``dtype``; its positions stretched to ``cutoff_len`` tokens (None: for
    inference) where ``rope_scaling`` says so. Where the weights are quantised, or to be so, they are put on ``device``.

    Raises ``UsageError`` with the library's own reason.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    options: dict[str, Any] = {
        "dtype": dtype,
        "revision": settings.model_revision,
        "cache_dir": settings.cache_dir,
        "trust_remote_code": settings.trust_remote_code,
    }
    options |= loading_options(settings, dtype, device)
    if ATTENTION[settings.flash_attn]:
        options["attn_implementation"] = ATTENTION[settings.flash_attn]
    name = settings.model_name_or_path
    if settings.rope_scaling:
        places = {key: options[key] for key in ("revision", "cache_dir", "trust_remote_code")}
        options["config"] = loaded(name, lambda: AutoConfig.from_pretrained(name, **places))
        stretch(options["config"], settings.rope_scaling, cutoff_len)
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


def check_room(model: nn.Module, tokenizer: Tokenizer) -> None:
    """Raise ``UsageError`` where the tokenizer (with a template's new stop words) has ids that the model has no row for."""
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator, union-attr]
    if tokenizer.size > rows:
        new = f" The template adds: {', '.join(tokenizer.new_tokens)}." if tokenizer.new_tokens else ""
        raise UsageError(
            f"the tokenizer has {tokenizer.size} ids, the model only {rows} rows for them.{new}",
            mend="Choose the template that belongs to this model (or template: null for its own), or grow the model with "
            "resize_vocab: true.",
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
    settings: ModelConfig,
    method: MethodConfig,
    *,
    bf16: bool,
    device: torch.device,
    tokenizer: Tokenizer | None = None,
    cutoff_len: int | None = None,
    seed: int = 0,
    resumed: Path | None = None,
) -> nn.Module:
    """The model of a run with what is trained marked so, and every weight in the type that ``trainkit.precision`` names:
    the whole of it, parts of it, or an adapter on a frozen base. A quantised base is on ``device`` already.

    ``resumed`` is the checkpoint whose weights (or adapter) take the place of the fresh ones. Of several adapters the
    last is continued and the others merged; with ``create_new_adapter`` all are merged and a new one begins.
    The model has rows for all ids of ``tokenizer`` where new tokens (or ``resize_vocab``) ask for them, begun by
    ``seed``, and takes ``cutoff_len`` tokens where ``rope_scaling`` asks for that.
    Raises ``UsageError`` for a base or an adapter that does not go with the method, and for modules that are not there.
    """
    dtype = base_dtype(method.finetuning_type, bf16=bf16, pure_bf16=method.pure_bf16)
    adapted = method.finetuning_type in ADAPTED
    grown: tuple[str, ...] = ()
    if resumed and not adapted:  # its rows and positions are as they were grown and stretched
        settings = replace(settings, model_name_or_path=str(resumed), rope_scaling=None)
        base = load_base(settings, dtype, device=device)
    else:
        base = load_base(settings, dtype, cutoff_len=cutoff_len, device=device)
        if tokenizer is not None:
            grown = resize_to(base, tokenizer, settings, seed=seed)
    check_trainable(base, settings, method.finetuning_type)
    given = adapter_folders(settings)
    warn_of_other_bases(settings.model_name_or_path, given)
    continued = given.pop() if given and not method.create_new_adapter else None
    base = merge_adapters(base, given)
    name = str(resumed or continued or "") if adapted else ""
    if name:
        check_kind(name, method.finetuning_type)
        model = put_on(base, name, trained=True)
    else:
        extra = with_new_rows(method.additional_target, grown) if adapted else ()
        model = METHODS[method.finetuning_type](base, replace(method, additional_target=extra or None))
        if adapted:
            share_tied(model)
    set_precision(model, bf16=bf16, pure_bf16=method.pure_bf16, upcast_layernorm=settings.upcast_layernorm)
    if name and dtype != torch.float32 and not method.pure_bf16:
        load_again(model, name)
    return model


def load_frozen(
    settings: ModelConfig,
    path: str,
    adapters: Sequence[str] | None,
    quantization_bit: int | None,
    *,
    bf16: bool,
    device: torch.device,
) -> nn.Module:
    """A second model that is only asked (a reference, a reward model): the weights of ``path`` with ``adapters``, loaded
    as the first one is otherwise; nothing of it is trained, no dropout."""
    given = tuple(adapters) if adapters else None
    settings = replace(
        settings,
        model_name_or_path=path,
        adapter_name_or_path=given,
        quantization_bit=quantization_bit,
        rope_scaling=None,
    )
    return load_for_inference(settings, torch.bfloat16 if bf16 else torch.float32, device=device)


def load_for_inference(settings: ModelConfig, dtype: torch.dtype, *, device: torch.device) -> nn.Module:
    """A model with its adapters merged (on a quantised base: the one adapter beside it), frozen, in evaluation mode."""
    model = load_base(settings, dtype, device=device)
    folders = adapter_folders(settings)
    warn_of_other_bases(settings.model_name_or_path, folders)
    model = put_on(model, folders[0]) if is_quantised(model) and len(folders) == 1 else merge_adapters(model, folders)
    return model.requires_grad_(False).eval()


def prepare_trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters to train, by name."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def tokenizer_to_save(settings: ModelConfig, tokenizer: Tokenizer, folder: Path, chat_template: str | None) -> Any:
    """transformers' tokenizer with what the template changed: new stop words, end of sequence, chat template."""
    theirs = load_hf_tokenizer(settings, folder)
    theirs.add_tokens(list(tokenizer.added.plain))
    theirs.add_tokens(list(tokenizer.added.special), special_tokens=True)
    if tokenizer.prompt_tokens:
        theirs.init_kwargs[PROMPT_TOKENS] = sorted(tokenizer.prompt_tokens)
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
