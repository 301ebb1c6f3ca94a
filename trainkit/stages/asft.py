"""Anchored supervised fine-tuning: dynamic fine-tuning, held near the model that it began with.

    L = - sum_t sg[ p(x_t | x_<t) ] * log p(x_t | x_<t)  +  alpha * sum_t KL( p_0(. | x_<t) || p(. | x_<t) )

Zhu et al. 2025, "Anchored Supervised Fine-Tuning" (arXiv 2509.23753). p_0 is the frozen base; the KL is over the whole
vocabulary at every trained token, in the direction that LLaMA-Factory 0.9.5 takes. With p = p_0 the loss is that of dft.
"""

from trainkit.stages.dft import factor

__all__ = ["factor"]
