"""An optimizer's whole state as tensors by name, and back again, bit for bit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.optimizers.groups import Named

Tensors = dict[str, torch.Tensor]

# What some optimizers count for a whole group: schedule-free's averages, torch-optimi's step.
GROUP_COUNTERS = ("k", "weight_sum", "lr_max", "train_mode", "scheduled_lr", "setup", "step", "triton", "kahan_sum")
KINDS: dict[type, str] = {bool: "bool", int: "int", float: "float"}  # bool first: it is an int to isinstance
DTYPES = {"bool": torch.bool, "int": torch.int64, "float": torch.float64}
LOW_BITS = ("OptimState8bit", "OptimState4bit")  # torchao's tensors of codes and scales


def state_tensors(optimizer: torch.optim.Optimizer, trainable: Named) -> Tensors:
    """``"parameter|key"`` → tensor on the CPU; what belongs to no parameter has an empty name: ``"|groups.0.k:int"``.

    Numbers are tensors of no dimension, their kind behind a colon. Raises ``UsageError`` for a state that is neither.
    """
    found = {f"{name}|{key}": value for name, p in trainable for key, value in parameter_state(optimizer, p).items()}
    found |= {f"|{key}": value for key, value in whole_state(optimizer).items()}
    return {key: value.detach().cpu().contiguous().clone() for key, value in found.items()}


def load_state_tensors(optimizer: torch.optim.Optimizer, trainable: Named, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what ``state_tensors`` gave, into an optimizer built alike. Raises ``UsageError`` where names do not match."""
    by_name: dict[str, Tensors] = defaultdict(dict)
    for key, value in tensors.items():
        name, _, rest = key.rpartition("|")
        by_name[name][rest] = value
    unknown = by_name.keys() - {name for name, _ in trainable} - {""}
    if unknown:
        raise UsageError(
            f'the optimizer state is of other weights: "{min(unknown)}" is not trained here',
            mend="Go on with the model and the method that the run was begun with.",
        )
    load_whole_state(optimizer, by_name.pop("", {}))
    for name, parameter in trainable:
        if name in by_name:
            load_parameter_state(optimizer, parameter, by_name[name])


def parameter_state(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Tensors:
    """The state of one weight, each value as it is (a DTensor stays one): ``{"exp_avg": …, "step:int": …}``."""
    return _flat(_state_of(optimizer, parameter))


def load_parameter_state(
    optimizer: torch.optim.Optimizer, parameter: nn.Parameter, flat: Mapping[str, torch.Tensor]
) -> None:
    """Put the state of one weight back, on the weight's device."""
    group = next((g for g in optimizer.param_groups if any(p is parameter for p in g["params"])), {})
    on_device = group.get("fused") or group.get("capturable")
    device = torch.device("cpu") if _keeps_state_on_cpu(optimizer) else parameter.device
    state: dict[str, Any] = {}
    for key, value in flat.items():
        name, _, kind = key.partition(":")
        if kind == "none":
            state[name] = None
        elif kind in DTYPES:
            state[name] = value.item()
        else:
            state[name] = value if name == "step" and not on_device else value.to(device)
    _put_state(optimizer, parameter, _with_objects(optimizer, parameter, group, state))


def whole_state(optimizer: torch.optim.Optimizer) -> Tensors:
    """What the optimizer counts for its groups and for itself."""
    groups = {
        f"groups.{number}.{key}": group[key]
        for number, group in enumerate(optimizer.param_groups)
        for key in GROUP_COUNTERS
        if isinstance(group.get(key), bool | int | float | torch.Tensor)
    }
    return _flat({**groups, **_own_counters(optimizer)})


def load_whole_state(optimizer: torch.optim.Optimizer, flat: Mapping[str, torch.Tensor]) -> None:
    """Put back what ``whole_state`` gave. It comes before the weights' own: BAdam's active block follows from it."""
    values = {k.partition(":")[0]: v.item() if ":" in k else v for k, v in flat.items()}
    for key, value in values.items():
        if key.startswith("groups."):
            _, number, counter = key.split(".")
            if int(number) >= len(optimizer.param_groups):
                raise UsageError("the optimizer state is of other groups of weights than are trained here")
            optimizer.param_groups[int(number)][counter] = value
    _set_own_counters(optimizer, values)


def _flat(state: Mapping[str, Any]) -> Tensors:
    flat: Tensors = {}
    for key, value in state.items():
        if type(value).__name__ in LOW_BITS:
            parts, context = value.__tensor_flatten__()
            flat |= {f"{key}.{part}": getattr(value, part) for part in parts}
            flat[f"{key}.{type(value).__name__}:bool"] = torch.tensor(context[0])
        elif isinstance(value, torch.Tensor):
            flat[key] = value
        elif value is None:
            flat[f"{key}:none"] = torch.empty(0)
        elif type(value) in KINDS:
            kind = KINDS[type(value)]
            flat[f"{key}:{kind}"] = torch.tensor(value, dtype=DTYPES[kind])
        elif hasattr(value, "ortho_matrix"):
            flat |= _flat({f"{key}.{k}": v for k, v in _projector_parts(value).items()})
        else:
            raise UsageError(
                f'this optimizer keeps "{key}" as a {type(value).__name__}, which cannot be saved to go on from'
            )
    return flat


def _projector_parts(projector: Any) -> dict[str, Any]:
    """What of a GaLore or APOLLO projector changes in a run; the rest is its group's."""
    matrix = projector.ortho_matrix
    matrices = {f"matrix{i}": m for i, m in enumerate(matrix)} if isinstance(matrix, list) else {"matrix": matrix}
    parts = {
        k if m.is_contiguous() else f"{k}_by_columns": m if m.is_contiguous() else m.t() for k, m in matrices.items()
    }
    return parts | {k: getattr(projector, k) for k in ("seed", "svd_count") if hasattr(projector, k)}


def _with_objects(
    optimizer: torch.optim.Optimizer, parameter: nn.Parameter, group: Mapping[str, Any], state: dict[str, Any]
) -> dict[str, Any]:
    """``state`` with projectors and torchao's tensors made of their parts."""
    parts: dict[str, dict[str, Any]] = defaultdict(dict)
    whole: dict[str, Any] = {}
    for key, value in state.items():
        name, dot, part = key.partition(".")
        if dot:
            parts[name][part] = value
        else:
            whole[name] = value
    for name, of in parts.items():
        if name == "projector":
            whole[name] = _projector(optimizer, parameter, group, of)
        else:
            whole[name] = _low_bit_tensor(of, parameter.shape)
    return whole


def _projector(
    optimizer: torch.optim.Optimizer, parameter: nn.Parameter, group: Mapping[str, Any], parts: Mapping[str, Any]
) -> Any:
    inner = getattr(optimizer, "_of", {}).get(parameter, optimizer)
    if hasattr(inner, "_initialize_projector"):  # APOLLO's
        projector = inner._initialize_projector(group, {"seed": parts.get("seed", 0)})
    else:
        from galore_torch.galore_projector import GaLoreProjector

        options = {k: group[k] for k in ("update_proj_gap", "scale", "proj_type")}
        projector = GaLoreProjector(group["rank"], **options)
    # The order in memory is kept: products with the same matrix in the other order round otherwise.
    by_columns = {k.removesuffix("_by_columns"): m.t() for k, m in parts.items() if k.endswith("_by_columns")}
    matrices = {**parts, **by_columns}
    projector.ortho_matrix = matrices["matrix"] if "matrix" in matrices else [matrices["matrix0"], matrices["matrix1"]]
    for key in ("seed", "svd_count"):
        if key in parts:
            setattr(projector, key, parts[key])
    return projector


def _low_bit_tensor(parts: Mapping[str, Any], shape: torch.Size) -> torch.Tensor:
    from torchao.optim.subclass_4bit import OptimState4bit
    from torchao.optim.subclass_8bit import OptimState8bit

    if "OptimState4bit" in parts:
        return OptimState4bit(parts["codes"], parts["scale"], parts["qmap"], parts["OptimState4bit"], shape)
    return OptimState8bit(parts["codes"], parts["scale"], parts["qmap"], parts["OptimState8bit"])


# --------------------------------------------------------------- libraries that keep their state in places of their own


def _name(optimizer: torch.optim.Optimizer) -> str:
    return type(optimizer).__name__


def _keeps_state_on_cpu(optimizer: torch.optim.Optimizer) -> bool:
    return _name(optimizer) == "GrokAdamW"


def _state_of(optimizer: Any, parameter: nn.Parameter) -> dict[str, Any]:
    """The state of a weight, wherever its optimizer keeps it."""
    if _name(optimizer) == "BlockOptimizer":  # moments of an fp32 copy of the active block's weights
        copy = _badam_copy(optimizer, parameter)
        return {} if copy is None else {"weight": copy.detach(), **optimizer.base_optimizer.state.get(copy, {})}
    if _name(optimizer) == "BlockOptimizerRatio":
        return {**optimizer.sparse_dict[parameter], **optimizer.state.get(parameter, {})}
    if _name(optimizer) == "GrokAdamW":
        return next(
            (dict(g["state"][parameter]) for g in optimizer.param_groups if parameter in g.get("state", {})), {}
        )
    if hasattr(optimizer, "adaptive_state"):
        return dict(optimizer.adaptive_state(parameter))
    return dict(optimizer.state.get(parameter, {}))


def _put_state(optimizer: Any, parameter: nn.Parameter, state: dict[str, Any]) -> None:
    if _name(optimizer) == "BlockOptimizer":
        copy = _badam_copy(optimizer, parameter)
        if copy is None:
            raise UsageError("the optimizer state is of another BAdam block than its counters name")
        with torch.no_grad():
            copy.copy_(state.pop("weight"))
        if state:
            optimizer.base_optimizer.state[copy] = state
    elif _name(optimizer) == "BlockOptimizerRatio":
        optimizer.sparse_dict[parameter].update({k: state.pop(k) for k in ("offset", "seed")})
        if state:
            optimizer.state[parameter] = state
    elif _name(optimizer) == "GrokAdamW":
        group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
        group.setdefault("state", {})[parameter] = state
    elif hasattr(optimizer, "adaptive_state"):
        for key, mine in optimizer.adaptive_state(parameter).items():
            mine.copy_(state[key])
    else:
        optimizer.state[parameter] = state


def _badam_copy(optimizer: Any, parameter: nn.Parameter) -> torch.Tensor | None:
    number = next((i for i, mine in optimizer.param_idx2lp.items() if mine is parameter), None)
    return None if number is None else optimizer.param_idx2hp[number]


def _own_counters(optimizer: Any) -> dict[str, Any]:
    if _name(optimizer) == "BlockOptimizerRatio":
        return {"global_step": optimizer.global_step}
    if _name(optimizer) == "BlockOptimizer":
        active = optimizer.block_prefix_list.index(optimizer.active_param_prefixs)
        order = torch.tensor(getattr(optimizer, "block_order", []), dtype=torch.int64)
        counters = {"global_step": optimizer.global_step, "next_block": optimizer.current_block_idx}
        return {**counters, "active_block": active, "block_order": order}
    if hasattr(optimizer, "adaptive_state"):
        return {"step_num": optimizer.inner.step_num} if hasattr(optimizer.inner, "step_num") else {}
    return {}


def _set_own_counters(optimizer: Any, values: Mapping[str, Any]) -> None:
    if "step_num" in values:
        optimizer.inner.step_num = values["step_num"]
    if "global_step" not in values:
        return
    if "active_block" in values:
        optimizer.current_block_idx = values["active_block"]
        optimizer.block_order = [*values["block_order"].tolist(), 0]  # the switch takes one, which is not kept
        optimizer.switch_trainable_params()
        optimizer.current_block_idx = values["next_block"]
        optimizer.block_order = values["block_order"].tolist()
    optimizer.global_step = values["global_step"]
