"""The fsdp2 backend: each process holds a share of every weight, gradient and moment (torch's fully_shard)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from registry.errors import UsageError
from trainkit.backends.base import MakeOptimizer
from trainkit.backends.fsdp_config import FsdpPlan
from trainkit.backends.process_group import Group
from trainkit.backends.single import Single
from trainkit.backends.weights import copy_weights, trained


class FSDP2(Single):
    """Sharded data parallel. Every decoder layer is gathered when it computes; what lies around the layers
    (embeddings, last norm, head) is gathered for the whole forward pass, so that the loss may read the head's weight.
    """

    name = "fsdp2"
    module: Any  # the objective, made an FSDPModule

    def __init__(self, *, plan: FsdpPlan, bf16: bool, seed: int, group: Group) -> None:
        super().__init__(use_cpu=group.device.type == "cpu", bf16=bf16, seed=seed, group=group)
        if plan.offload and self.device.type == "cpu":
            raise UsageError(
                "offloading keeps weights in the CPU's memory while a device computes: it needs a device",
                where="fsdp",
                mend='Remove "offload" from fsdp.',
            )
        group.start()
        self._plan = plan

    def prepare(self, objective: nn.Module, make_optimizer: MakeOptimizer) -> None:
        """Share the weights among the processes, layer by layer. All ranks.

        Raises ``UsageError`` where the model's layers cannot be told.
        """
        self._set_threads(objective)
        layers = sharded_layers(objective, self._plan.layer_classes)
        quantised = {p for p in objective.parameters() if not p.is_floating_point()}
        for parameter in quantised:  # rows of packed 4-bit numbers are no rows of the weight: every process keeps all
            parameter.data = parameter.data.to(self.device)
        for _, parameter in trained(objective):  # drawn anew in each process: rank 0's are the ones that count
            dist.broadcast(move(parameter, self.device), src=0)
        options: dict[str, Any] = {
            "mesh": self._mesh(),
            "mp_policy": self._precision(root=False),
            "offload_policy": CPUOffloadPolicy() if self._plan.offload else OffloadPolicy(),
            "reshard_after_forward": self._plan.reshard_after_forward,
            "ignored_params": quantised or None,
        }
        for layer in layers:
            fully_shard(layer, **options)
        fully_shard(objective, **(options | {"mp_policy": self._precision(root=True), "reshard_after_forward": False}))
        self.objective = self.module = objective
        for module in objective.modules():
            if isinstance(module, FSDPModule):  # a step's gradient is the sum over ranks, not their mean
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        self._trained = trained(objective)
        self.optimizer = make_optimizer(self._trained)
        torch.manual_seed(self._seed + self.rank)

    def _mesh(self) -> DeviceMesh:
        place, kind = self.group.place, self.device.type
        if not self._plan.hybrid:
            return init_device_mesh(kind, (self.world_size,), mesh_dim_names=("shard",))
        nodes = self.world_size // place.local_world_size
        return init_device_mesh(kind, (nodes, place.local_world_size), mesh_dim_names=("replicate", "shard"))

    def _precision(self, *, root: bool) -> MixedPrecisionPolicy:
        """Weights are gathered and computed with in bf16, and gradients summed in fp32. The root's inputs hold numbers
        that must stay exact (a reference's log-probabilities, weights of tokens)."""
        if not self._bf16:
            return MixedPrecisionPolicy(cast_forward_inputs=False)
        return MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=not root)

    def accumulate(self, *, last: bool) -> AbstractContextManager[object]:
        """Gradients stay whole and with their rank until the last micro-batch of a step."""
        self.module.set_is_last_backward(last)
        self.module.set_requires_gradient_sync(last)
        return nullcontext()

    def clip(self, max_norm: float) -> torch.Tensor:
        """The gradient's norm over all shares, before it is scaled down to ``max_norm``. All ranks."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        own = [g.to_local() if isinstance(g, DTensor) else g for g in gradients]
        squares = torch.stack([g.detach().float().square().sum() for g in own]).sum() if own else torch.zeros(())
        squares = squares.to(self.device)
        dist.all_reduce(squares)
        norm = (squares / self._copies).sqrt()
        if max_norm > 0:
            scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
            for gradient in own:
                gradient.mul_(scale.to(gradient.device))
        return norm

    @property
    def _copies(self) -> int:
        return self.world_size // self.group.place.local_world_size if self._plan.hybrid else 1

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Whole tensors on the CPU; None on all ranks but 0. All ranks."""
        return copy_weights(self.objective, lambda name, tensor: self._whole(tensor), keep=self.rank == 0)

    def _whole(self, tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        tensor = tensor.detach()
        if tensor.device != self.device:  # offloaded: gathered through the device, whose group the shares belong to
            tensor = tensor.to(self.device)
        return tensor.full_tensor()  # type: ignore[attr-defined]

    def optimizer_state(self) -> dict[str, torch.Tensor] | None:
        """Whole moments by parameter; None on all ranks but 0. All ranks."""
        found: dict[str, torch.Tensor] = {}
        for name, parameter in self._trained:
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if not isinstance(value, torch.Tensor):
                    raise UsageError(f'this optimizer\'s "{key}" cannot be saved from shares', where="optim")
                whole = self._whole(value).detach()
                if self.rank == 0:
                    found[f"{name}|{key}"] = whole.to("cpu", copy=True)
        return found if self.rank == 0 else None

    def load_optimizer_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Every rank takes its share of each moment. Raises ``UsageError`` where the names do not match. All ranks."""
        by_name: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            name, _, field = key.rpartition("|")
            by_name.setdefault(name, {})[field] = value
        for name, parameter in self._trained:
            if name not in by_name:
                raise UsageError(f'the optimizer state has nothing for "{name}"', where="checkpoint")
            self.optimizer.state[parameter] = {
                key: self._share(value, parameter) for key, value in by_name[name].items()
            }

    def _share(self, value: torch.Tensor, like: nn.Parameter) -> torch.Tensor:
        if not isinstance(like, DTensor) or value.shape != like.shape:  # a step count
            return value.clone() if value.ndim == 0 else value.to(like.device)
        local = like.to_local()
        mesh, placements = like.device_mesh, like.placements
        # every rank has read the whole, so that nothing need be sent: each cuts out what its weight's share covers
        shared = distribute_tensor(value.to(self.device), mesh, placements, src_data_rank=None)
        assert isinstance(shared, DTensor)
        assert shared.to_local().shape == local.shape
        return shared.to(local.device) if shared.device != local.device else shared


def move(parameter: nn.Parameter, device: torch.device) -> torch.Tensor:
    """The parameter's tensor, put on the device."""
    parameter.data = parameter.data.to(device)
    return parameter.data


def sharded_layers(objective: nn.Module, classes: tuple[str, ...]) -> list[nn.Module]:
    """The layers that are shared one by one: of the named ``classes``, else of those that the model says must not be
    split. Raises ``UsageError`` where there are none."""
    model: Any = objective.model
    named = set(classes or getattr(model, "_no_split_modules", None) or ())
    found = [module for module in model.modules() if type(module).__name__ in named]
    if not found:
        present = sorted({type(child).__name__ for m in model.modules() if isinstance(m, nn.ModuleList) for child in m})
        asked = f"none is a {' or '.join(sorted(named))}" if named else "the model does not say which they are"
        raise UsageError(
            f"no layers to share among the processes: {asked}",
            where="fsdp_transformer_layer_cls_to_wrap",
            mend=f"Name the class of its layers, e.g. {', '.join(present) or 'as config.json names the model'}.",
        )
    return found
