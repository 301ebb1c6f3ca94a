"""The memory of one forward and backward pass, followed on tensors that have shapes and no values."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

MAPPED = 32 << 20  # bytes; glibc gives blocks beyond this back to the system at once, and smaller ones hardly ever
PHASES = ("kept", "forward", "head", "last", "first")


@dataclass(frozen=True, slots=True)
class Trace:
    """Bytes beyond the weights. ``kept`` is what there is after the forward pass, for the backward one; the others are the
    most there is at once: in the layers' ``forward`` pass, in the ``head`` and the loss, in the backward pass of the
    ``last`` layer, and of all others with the embeddings (``first``). The gradients that come up are among them."""

    kept: float
    forward: float
    head: float
    last: float
    first: float

    @property
    def peak(self) -> float:
        return max(self.forward, self.head, self.last, self.first)

    def deeper(self, other: Trace, layers: float) -> Trace:
        """What a model has with ``layers`` times more layers than by which ``other`` is deeper than this: each layer adds
        as much as the one before."""
        own, more = ([getattr(one, name) for name in PHASES] for one in (self, other))
        return Trace(*(a + (b - a) * layers for a, b in zip(own, more, strict=True)))


@dataclass(frozen=True, slots=True)
class Traced:
    """The trace of everything, and that of the blocks below ``MAPPED`` alone."""

    every: Trace
    small: Trace

    def deeper(self, other: Traced, layers: float) -> Traced:
        return Traced(self.every.deeper(other.every, layers), self.small.deeper(other.small, layers))


class Watch(TorchDispatchMode):
    """Counts the bytes of every storage that operations make, for as long as it lives: all, and the small ones."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, Any] = {}
        self._live = [0, 0]
        self._peak = [0, 0]

    def know(self, tensors: Iterator[torch.Tensor]) -> None:
        """Tensors that were there before, and are not counted."""
        for tensor in tensors:
            self._known[tensor.untyped_storage()._cdata] = tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        sizes = (size, size if size < MAPPED else 0)

        def gone(_: Any) -> None:
            self._live = [n - m for n, m in zip(self._live, sizes, strict=True)]
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self._live = [n + m for n, m in zip(self._live, sizes, strict=True)]
        self._peak = [max(n, m) for n, m in zip(self._live, self._peak, strict=True)]

    def live(self) -> list[int]:
        """(all, small) bytes there are now."""
        return self._live

    def peak(self) -> list[int]:
        """(all, small): the most since this was last asked."""
        found, self._peak = self._peak, self._live
        return found


@contextmanager
def fake_tensors() -> Iterator[Any]:
    """Within this, tensors are made without memory, and operations on them give shapes alone. Gives torch's mode, whose
    ``from_tensor`` makes such a one of a real one."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode() as mode, mock.patch.object(nn.Module, "_apply", _converted):
        yield mode


def _converted(module: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
    """``nn.Module._apply`` (behind ``to`` and ``float``) for tensors without values, which torch 2.13 cannot swap."""
    for one in module.modules() if recurse else (module,):
        for name, value in one._parameters.items():
            if value is not None:
                with torch.no_grad():
                    changed = fn(value)
                if changed is not value:
                    one._parameters[name] = nn.Parameter(changed, value.requires_grad)
        for name, buffer in one._buffers.items():
            if buffer is not None:
                one._buffers[name] = fn(buffer)
    return module


def follow(
    model: nn.Module,
    decoder: nn.Module,
    layers: Sequence[nn.Module],
    loss_of: Callable[[], torch.Tensor],
    *,
    accumulates: bool,
) -> Traced:
    """The memory of one micro-batch, within ``fake_tensors``: ``loss_of`` runs ``model``, whose ``decoder`` consists of
    ``layers``. With ``accumulates`` the gradients of an earlier micro-batch are there already, and are not counted."""
    if accumulates:
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.grad = torch.empty_like(parameter)
    peaks: dict[str, list[int]] = {}
    with Watch() as watch:
        watch.know(model.parameters())
        watch.know(model.buffers())
        watch.know(p.grad for p in model.parameters() if p.grad is not None)
        handles = [decoder.register_forward_hook(lambda *_: peaks.setdefault("forward", watch.peak()) and None)]
        if len(layers) > 1:
            handles.append(layers[-2].register_forward_hook(_mark("last", peaks, watch)))
        if len(layers) > 2:
            handles.append(layers[0].register_forward_hook(_mark("inner", peaks, watch)))
        loss = loss_of()
        kept, head = watch.live(), watch.peak()
        loss.backward()
        rest = watch.peak()
        for handle in handles:
            handle.remove()
    last = peaks.get("last", rest)
    return Traced(*(Trace(*figures) for figures in zip(kept, peaks["forward"], head, last, rest, strict=True)))


def _mark(name: str, peaks: dict[str, list[int]], watch: Watch) -> Callable[..., None]:
    """A forward hook that notes the peak of everything above its module, once the backward pass reaches it."""

    def note(grad: torch.Tensor) -> None:
        peaks.setdefault(name, watch.peak())

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        if states.requires_grad:
            states.register_hook(note)

    return hook
