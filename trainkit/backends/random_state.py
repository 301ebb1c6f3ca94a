"""The random generators that training draws from: taken from every rank into one dictionary, and put back."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from trainkit.backends.process_group import Group


def random_state(group: Group) -> dict[str, torch.Tensor] | None:
    """``"<rank>|cpu"`` and, where there is a device, ``"<rank>|cuda"``: uint8 tensors; None on all ranks but 0."""
    own = {"cpu": torch.get_rng_state()}
    if group.device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(group.device)
    found = group.gather(own)
    if found is None:
        return None
    return {f"{rank}|{kind}": state for rank, states in enumerate(found) for kind, state in states.items()}


def set_random_state(group: Group, state: Mapping[str, torch.Tensor], *, seed: int) -> None:
    """Put this rank's generators back; a rank that the state does not know (there were fewer then) draws its own
    numbers from ``seed`` and its rank, so that it repeats nobody's."""
    own = {key.partition("|")[2]: value for key, value in state.items() if key.startswith(f"{group.rank}|")}
    if not own and group.rank == 0:  # as written before there were ranks
        own = {key: value for key, value in state.items() if "|" not in key}
    if "cpu" not in own:
        torch.manual_seed(seed + group.rank)
        return
    torch.set_rng_state(own["cpu"])
    if "cuda" in own and group.device.type == "cuda":
        torch.cuda.set_rng_state(own["cuda"], group.device)
