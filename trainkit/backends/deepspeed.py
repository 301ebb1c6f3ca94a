"""The deepspeed backend: ZeRO 0 to 3 with the user's JSON; gradients, moments and weights shared as it says."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout, suppress
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.backends.base import MakeOptimizer
from trainkit.backends.deepspeed_config import fill_widths, named_optimizer, stage_of
from trainkit.backends.process_group import Group
from trainkit.backends.single import Single
from trainkit.backends.weights import copy_weights, trained

log = logging.getLogger("tunekit")

MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "sum")  # what optimizers keep per number


class DeepSpeed(Single):
    """DeepSpeed's engine around the objective. It exchanges gradients as its stage says; what it holds is put together
    again for a checkpoint, so that a run may go on with another number of processes, or another backend."""

    name = "deepspeed"

    def __init__(self, *, filled: Mapping[str, Any], notes: Sequence[str], bf16: bool, seed: int, group: Group) -> None:
        super().__init__(use_cpu=group.device.type == "cpu", bf16=bf16, seed=seed, group=group)
        self._library = import_deepspeed(self.device)
        group.start()
        self._config, self.stage = dict(filled), stage_of(filled)
        for note in notes if self.rank == 0 else ():
            log.warning("deepspeed: %s", note)

    def prepare(self, objective: nn.Module, make_optimizer: MakeOptimizer) -> None:
        """Hand the objective over to DeepSpeed's engine. All ranks."""
        self._set_threads(objective)
        self.objective = objective
        self._trained = trained(objective)
        exact = {name: p.detach().float().cpu() for name, p in self._trained} if self._bf16 else {}
        optimizer = make_optimizer(self._trained)
        own = named_optimizer(self._config)
        groups = [
            {k: v for k, v in g.items() if k in ("params", "weight_decay", "lr_scale")} for g in optimizer.param_groups
        ]
        config = fill_widths(self._config, width_of(objective.model))
        if self.stage == 0:
            config["gradient_clipping"] = 0.0  # clipped here: the norm is told before the step
        try:
            self.engine, self.optimizer, _, _ = self._library.initialize(
                model=objective,
                optimizer=None if own else optimizer,
                model_parameters=groups if own else None,
                config=config,
                dist_init_required=False,
            )
        except (AssertionError, ImportError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"DeepSpeed cannot start: {str(error).strip().splitlines()[-1]}", where="deepspeed"
            ) from error
        self.module = self.engine
        if self.stage == 3:
            self._register_head()
        if exact:  # its fp32 copies were made from bf16 weights; the run's are exact
            self._set_masters(exact)
        torch.manual_seed(self._seed + self.rank)

    def _register_head(self) -> None:
        """Have the head's weight gathered for the loss, which reads it outside of the module that owns it."""
        finder = getattr(self.objective.model, "get_output_embeddings", None)
        head = finder() if finder else None
        weight = getattr(head, "weight", None)
        if isinstance(weight, nn.Parameter) and hasattr(weight, "ds_id"):
            self._library.zero.register_external_parameter(self.objective, weight)

    def accumulate(self, *, last: bool) -> AbstractContextManager[object]:
        """Tell the engine whether the step ends with this micro-batch."""
        self.engine.set_gradient_accumulation_boundary(last)
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of ``loss``. DeepSpeed takes the mean over ranks, and a step's gradient is the sum."""
        self.engine.backward(loss * self.world_size, scale_wrt_gas=False)

    def clip(self, max_norm: float) -> torch.Tensor:
        """The gradient's norm over all ranks; ZeRO scales the gradients down as it updates. All ranks."""
        if self.stage == 0 and not hasattr(self.optimizer, "bf16_groups"):
            return super().clip(max_norm)
        zero: Any = self.optimizer
        zero.clip_grad = max(max_norm, 0.0)
        return self._zero_norm().to(self.device, torch.float32)

    def _zero_norm(self) -> torch.Tensor:
        optimizer: Any = self.optimizer
        if hasattr(optimizer, "scaled_global_norm"):  # stages 1 and 2
            return torch.as_tensor(optimizer.scaled_global_norm())
        if self.stage == 3:
            groups = torch.stack([torch.as_tensor(n).float() for n in optimizer._get_norm_groups()])
            return torch.where(
                (groups < 0).any(), torch.full_like(groups[0], torch.inf), torch.linalg.vector_norm(groups)
            )
        from deepspeed.utils import safe_get_full_grad

        found = [safe_get_full_grad(p) for p in self._parameters]
        return nn.utils.get_total_norm([g.float() for g in found if g is not None])

    def _update(self) -> None:
        self.engine.step()

    def zero_grad(self) -> None:
        """Drop the gradients, also those that ZeRO has taken over already. All ranks."""
        optimizer: Any = self.optimizer
        if self.stage == 3:
            optimizer._pre_step()
            optimizer._overflow_clean_up(1.0)
            optimizer._partition_all_parameters()
            return
        if hasattr(optimizer, "averaged_gradients"):
            optimizer.micro_step_id = -1
            if optimizer.cpu_offload:
                optimizer.reset_cpu_buffers()
            for key in optimizer.averaged_gradients:
                optimizer.averaged_gradients[key] = None
            for key in getattr(optimizer, "all_grad_tensors", {}):
                optimizer.all_grad_tensors[key] = None
        optimizer.zero_grad(set_to_none=True)
        super().zero_grad()

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Whole tensors on the CPU, trained ones in the fp32 that they are updated in; None on all ranks but 0."""
        return copy_weights(self.objective, lambda name, tensor: self._whole(tensor), keep=self.rank == 0)

    def _whole(self, tensor: torch.Tensor) -> torch.Tensor:
        from deepspeed.utils import safe_get_full_fp32_param

        if tensor.requires_grad and self._shared:
            master = safe_get_full_fp32_param(tensor)
            if master is not None:
                return master
        if hasattr(tensor, "ds_id"):
            with self._library.zero.GatheredParameters([tensor]):
                return tensor.detach().clone()
        return tensor

    @property
    def _shared(self) -> bool:
        return not isinstance(self.optimizer, torch.optim.Optimizer) or self.stage > 0

    def _set_masters(self, exact: Mapping[str, torch.Tensor]) -> None:
        if self._shared:
            for name, parameter in self._trained:
                self._set_share(parameter, exact[name].to(self.device), None)

    @property
    def _basic(self) -> torch.optim.Optimizer:
        """The optimizer beneath ZeRO's."""
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def optimizer_state(self) -> dict[str, torch.Tensor] | None:
        """Whole moments by parameter; None on all ranks but 0. All ranks."""
        if not self._shared:
            return super().optimizer_state()
        from deepspeed.utils import safe_get_full_optimizer_state

        found: dict[str, torch.Tensor] = {}
        keys, step = self._state_keys()
        for name, parameter in self._trained:
            for key in keys:
                whole = safe_get_full_optimizer_state(parameter, key)
                if self.rank == 0 and whole is not None:
                    shape = getattr(parameter, "ds_shape", parameter.shape)
                    found[f"{name}|{key}"] = whole.detach().reshape(shape).to("cpu", copy=True)
            if self.rank == 0 and step is not None:
                found[f"{name}|step"] = torch.tensor(float(step))
        return found if self.rank == 0 else None

    def _state_keys(self) -> tuple[list[str], float | None]:
        """What the optimizer keeps per number, and how many steps it has counted; the same on all ranks."""
        states = [s for s in self._basic.state.values() if s]
        keys = sorted({key for state in states for key, value in state.items() if key in MOMENTS and value is not None})
        steps = [float(state["step"]) for state in states if "step" in state]
        found = self.group.gather((keys, max(steps, default=None)))
        return self.group.share(max(found, key=lambda pair: len(pair[0])) if found else None)

    def load_optimizer_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Every rank takes its share of each moment. Raises ``UsageError`` where the names do not match. All ranks."""
        if not self._shared:
            return super().load_optimizer_state(tensors)
        self._begin_state(tensors)
        for name, parameter in self._trained:
            mine = {key.rpartition("|")[2]: v for key, v in tensors.items() if key.rpartition("|")[0] == name}
            if not mine:
                raise UsageError(f'the optimizer state has nothing for "{name}"', where="checkpoint")
            for key, value in mine.items():
                if key in MOMENTS:
                    self._set_share(parameter, value.to(self.device, torch.float32), key)
        return None

    def _set_share(self, parameter: Any, value: torch.Tensor, key: str | None) -> None:
        """This rank's part of a whole moment (``key``), or of the fp32 weight itself (None)."""
        from deepspeed import utils

        if self.stage < 3:
            if key is None:
                utils.safe_set_full_fp32_param(parameter, value)
            else:
                utils.safe_set_full_optimizer_state(parameter, value, key)
            return
        # cut out here: DeepSpeed's own way fails for weights that do not divide by the number of processes
        size = parameter.ds_tensor.ds_numel
        padded = torch.zeros(size * self.world_size, device=value.device)
        padded[: value.numel()] = value.flatten()
        mine = padded[size * self.rank : size * (self.rank + 1)]
        if key is None:
            utils.safe_set_local_fp32_param(parameter, mine)
        else:
            utils.safe_set_local_optimizer_state(parameter, mine, key)

    def _begin_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Make the empty state that a first step would have made, with the saved count of steps."""
        optimizer: Any = self.optimizer
        keys = {key.rpartition("|")[2] for key in tensors} & set(MOMENTS)
        steps = [float(value) for key, value in tensors.items() if key.rpartition("|")[2].startswith("step")]
        held = ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups", "fp32_groups_flat_partition")
        flats = next(getattr(optimizer, name) for name in held if hasattr(optimizer, name))
        on_device = any(g.get("fused") or g.get("capturable") for g in self._basic.param_groups)
        for flat in flats:
            state = self._basic.state[flat]
            for key in keys:
                state[key] = torch.zeros_like(flat)
            if steps:
                state["step"] = torch.tensor(steps[0], device=flat.device if on_device else "cpu")
        if hasattr(
            optimizer, "_lazy_init_hp_params_optimizer_state"
        ):  # below stage 3 a weight's part is found by links
            optimizer._hp_optimizer_states_linked = False
            optimizer._lazy_init_hp_params_optimizer_state()


def width_of(model: Any) -> int:
    """The model's hidden size, by which ZeRO's buckets are sized."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    return int(getattr(config, "hidden_size", 1024))


def import_deepspeed(device: torch.device) -> Any:
    """The library, quiet and with its extensions off where they would be compiled for nothing. Raises ``UsageError``
    with the install line where it is missing."""
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DS_SKIP_CUDA_CHECK", "1")
    try:
        with redirect_stdout(sys.stderr):  # its logger keeps the stream that it finds, and stdout is for results
            import deepspeed
    except ImportError as error:
        raise UsageError(
            f"deepspeed is not installed ({error})",
            where="deepspeed",
            mend='Install it:  pip install "tunekit[deepspeed]"',
        ) from None
    # it calls torch's collectives by names that 2.13 warns of, at every call
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed.c10d_logger")
    with suppress(ImportError, AttributeError):
        from deepspeed.utils import logger

        logger.setLevel(logging.ERROR)
    if device.type == "cpu":
        # gloo does the exchange; the shared-memory one would be compiled at start, for which a machine needs a compiler
        with suppress(ImportError, AttributeError):
            import deepspeed.ops

            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
