"""The optimizers that a config may name: what each reads, what ``optim_args`` may tell it, how to install it."""

from __future__ import annotations

NUMBER, WHOLE, TRUTH = "a number", "a whole number", "true or false"
DTYPE = ("float32", "bfloat16", "float16")
Settings = dict[str, str | tuple[str, ...]]
GALORE: Settings = {
    "rank": WHOLE,
    "update_proj_gap": WHOLE,
    "scale": NUMBER,
    "proj_type": ("std", "reverse_std", "right", "left", "full"),
}
APOLLO: Settings = {
    "rank": WHOLE,
    "proj": ("random", "svd"),
    "scale_type": ("channel", "tensor"),
    "update_proj_gap": WHOLE,
    "scale": NUMBER,
    "proj_type": ("std", "reverse_std", "right", "left"),
}
ADEMAMIX: Settings = {
    "beta1": NUMBER,
    "beta2": NUMBER,
    "beta3": NUMBER,
    "alpha": NUMBER,
    "eps": NUMBER,
    "t_alpha": WHOLE,
    "t_beta3": WHOLE,
}
RMSPROP_BNB: Settings = {"alpha": NUMBER, "eps": NUMBER, "momentum": NUMBER}
TORCHAO: Settings = {"block_size": WHOLE, "bf16_stochastic_round": TRUTH}
SCHEDULE_FREE: Settings = {"weight_lr_power": NUMBER, "r": NUMBER}
# What optim_args may hold for each name (transformers.trainer_optimizer); the names not here take nothing.
OPTIM_ARGS: dict[str, Settings] = {
    "adamw_anyprecision": {
        "use_kahan_summation": TRUTH,
        "momentum_dtype": DTYPE,
        "variance_dtype": DTYPE,
        "compensation_buffer_dtype": DTYPE,
    },
    "sgd": {"momentum": NUMBER, "dampening": NUMBER, "nesterov": TRUTH},
    "adagrad": {"lr_decay": NUMBER, "eps": NUMBER},
    "rmsprop": {"momentum": NUMBER, "alpha": NUMBER, "eps": NUMBER, "centered": TRUTH},
    **dict.fromkeys(("ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"), ADEMAMIX),
    **dict.fromkeys(("rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"), RMSPROP_BNB),
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), TORCHAO),
    **dict.fromkeys(("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"), SCHEDULE_FREE),
    **dict.fromkeys(("galore_adamw", "galore_adamw_8bit", "galore_adafactor"), GALORE),
    **dict.fromkeys(("galore_adamw_layerwise", "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise"), GALORE),
    **dict.fromkeys(("apollo_adamw", "apollo_adamw_layerwise"), APOLLO),
    "grokadamw": {
        "alpha_init": NUMBER,
        "lamb": NUMBER,
        "gamma": NUMBER,
        "grokking_signal_decay_rate": NUMBER,
        "gradient_clipping": NUMBER,
    },
    "stable_adamw": {"decouple_lr": TRUTH, "max_lr": NUMBER, "kahan_sum": TRUTH},
}
ADAMW_TORCH = ("adamw_torch", "adamw_torch_fused")
BNB_ADAMW_8BIT = ("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit")
GALORE_NAMES = tuple(name for name, known in OPTIM_ARGS.items() if known is GALORE)
APOLLO_NAMES = tuple(name for name, known in OPTIM_ARGS.items() if known is APOLLO)
LOW_RANK = (*GALORE_NAMES, *APOLLO_NAMES)
LOMO = ("lomo", "adalomo")
NO_ADAM = ("adafactor", "sgd", "adagrad", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit")
# Names that read neither adam_beta1, adam_beta2 nor adam_epsilon, as transformers builds them.
READ_NO_BETAS = (*NO_ADAM, *LOMO, *GALORE_NAMES, "grokadamw", "schedule_free_sgd")
READ_NO_EPSILON = (*READ_NO_BETAS, "lion_8bit", "lion_32bit", "paged_lion_32bit", "paged_lion_8bit")
# Names of older transformers that version 5 no longer has, and what stands for them.
GONE = {"adamw_hf": "adamw_torch", "adamw_apex_fused": "adamw_torch_fused"}


def is_layerwise(optim: str) -> bool:
    """Whether the named optimizer updates each weight within the backward pass, where its gradient lives no longer."""
    return optim.endswith("_layerwise") or optim in LOMO


def package_of(optim: str) -> tuple[str, str] | None:
    """The package that an optimizer needs besides torch and transformers: (module, what pip installs); None for none."""
    if optim.startswith("galore"):
        return "galore_torch", "galore-torch"
    if optim.startswith("apollo"):
        return "apollo_torch", "apollo-torch"
    if optim.startswith("schedule_free"):
        return "schedulefree", "schedulefree"
    if optim in LOMO:
        return "lomo_optim", "lomo-optim"
    if optim in ("adamw_torch_4bit", "adamw_torch_8bit"):
        return "torchao", "torchao"
    if any(part in optim for part in ("8bit", "paged", "bnb", "lion", "ademamix")):
        return "bitsandbytes", "bitsandbytes"
    return OTHERS.get(optim)


OTHERS = {
    "grokadamw": ("grokadamw", "grokadamw"),
    "stable_adamw": ("optimi", "torch-optimi"),
    "adamw_anyprecision": ("torchdistx", "torchdistx"),
    "adamw_torch_xla": ("torch_xla", "torch_xla"),
    "adamw_torch_npu_fused": ("torch_npu", "torch_npu"),
}


def read_optim_args(text: str | None) -> dict[str, str]:
    """``"momentum=0.9, nesterov=true"`` by name. Raises ``ValueError`` where a part is no ``name=value``."""
    found = {}
    for part in (text or "").replace(" ", "").strip(",").split(",") if text else ():
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise ValueError(f'"{part}" is not name=value')
        found[name] = value
    return found
