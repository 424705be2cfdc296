"""What learning rates are multiplied with, step by step."""

from __future__ import annotations

import math


def cosine(step: int, n_steps: int, n_warmup: int) -> float:
    """A line up to 1, then half a cosine down to 0, which would be reached one step after the last.

    No step is wasted at a rate of 0: the first of W steps of warm-up has 1 / (W + 1), and step W has 1.

    Args:
        step: from 0.
        n_steps: T of the whole training.
        n_warmup: W, below T.

    Source: Loshchilov and Hutter 2017, equation 5, without restarts; the warm-up of Goyal et al. 2017, section 2.2.
    """
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    return (1.0 + math.cos(math.pi * (step - n_warmup) / (n_steps - n_warmup))) / 2.0
