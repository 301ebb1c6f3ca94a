"""Reward modelling: a value head scores whole answers, and the better one is to score higher.

    L = - log sigmoid( r(x, y_w) - r(x, y_l) )

Ouyang et al. 2022, "Training language models to follow instructions with human feedback", eq. 1, on pairs; r is the value
head's output at the last token of the answer. The divisor is the number of pairs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trainkit.data.collate import Batch


def loss(
    scores: torch.Tensor, batch: Batch, reference: torch.Tensor | None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss summed over pairs; ``scores`` [2 x pairs], those of the chosen answers first."""
    chosen, rejected = scores.reshape(2, -1)
    margin = chosen - rejected
    with torch.no_grad():
        metrics = {
            "rewards/chosen": chosen.sum(),
            "rewards/rejected": rejected.sum(),
            "rewards/accuracies": (margin > 0).float().sum(),
            "rewards/margins": margin.sum(),
        }
    return -F.logsigmoid(margin).sum(), metrics


def last_tokens(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, places) of the last token of each sequence, both int64 [sequences]."""
    device = batch.input_ids.device
    if batch.documents is None:
        assert batch.attention_mask is not None
        rows = torch.arange(len(batch.input_ids), device=device)
        return rows, batch.attention_mask.sum(1) - 1
    rows, places = torch.nonzero(batch.documents >= 0, as_tuple=True)
    owner = batch.documents[rows, places]
    at = torch.zeros(batch.num_documents, dtype=torch.int64, device=device)
    # row-major and each sequence in one piece: the largest position is its last token
    at = at.scatter_reduce(0, owner, rows * batch.documents.shape[1] + places, "amax")
    return at // batch.documents.shape[1], at % batch.documents.shape[1]
