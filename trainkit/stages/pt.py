"""Pre-training: every token is predicted from those before it.

    L = - sum_t log p(x_t | x_<t)

Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", eq. 1. The divisor is the number
of tokens that have one before them (``Batch.weight``).
"""

from trainkit.stages.sft import loss, make_forward, make_loss

__all__ = ["loss", "make_forward", "make_loss"]
