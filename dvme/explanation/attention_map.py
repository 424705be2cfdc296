"""Who attends to whom: the attention of a fitted head as a matrix of backbones, M x M.

In `dvme` the query x_i gives the key x_j the weight softmax_j(q k x_i x_j), where x are the T projected values of a
sample. How the weight falls on the backbones is thus a function of q k x_i alone. A query of a small |q k x_i| looks
everywhere alike, and one of a large |q k x_i| looks at the most extreme values on one side, whichever backbone they
come from. The matrix therefore says whose projected values stick out, not which backbone knows more: for that, see
`leave_one_out`.

Source: Truong et al. 2021, section 6.2 and appendix F; Jain and Wallace 2019, on what attention does not explain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.heads.fitting.jobs import FittedHead
from dvme.heads.fusion.network_head import FittedNetwork
from dvme.heads.fusion.networks import WIDTH, Parameters, Tokens, projected
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

BLOCK_ROWS = 256
"""Samples projected at once."""
CHUNK_ELEMENTS = 1 << 18
"""Weights (queries x keys) of one sample held at once; a single query may exceed it."""


def block_attention(head: FittedHead, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """How much of its attention each backbone gives to each, for every sample.

    Entry (a, b) is the mean, over the query tokens of backbone a, of the weights that fall on the key tokens of
    backbone b. Attention that is the same everywhere gives 1 / M. The tokens are the T = 512 M projected values in
    `dvme`, and the M projected embeddings in `dvme-tokens`, whose attention heads are averaged. Exact to 1e-5, and
    never holds a T x T matrix.

    Args:
        head: a fitted `dvme` or `dvme-tokens`.
        blocks: (B, D_m) embeddings of each backbone, in the order of the head.

    Returns:
        (B, M, M) float64 in [0, 1]; rows sum to 1.

    Raises:
        DataError: if a sample is not finite.

    Source: Truong et al. 2021, appendix F.
    """
    assert isinstance(head, FittedNetwork)
    n_samples, n_backbones = len(blocks[0]), len(blocks)
    maps = np.empty((n_samples, n_backbones, n_backbones))
    for rows, tokens, parameters in _projected(head, blocks):
        if head.name == "dvme-tokens":
            maps[rows] = _attention_of_embeddings(parameters, tokens)
        else:
            slope = _slope(parameters)
            maps[rows] = [_block_means(values, slope, n_backbones) for values in tokens.numpy()]
    return maps


def full_attention(head: FittedHead, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Every token's attention to every token, averaged over the samples, which are taken one at a time.

    Args:
        head: a fitted `dvme`.
        blocks: (B, D_m) embeddings of each backbone, B >= 1, in the order of the head.

    Returns:
        (T, T) float64, query by key, rows sum to 1. T is 512 M, backbone by backbone.

    Raises:
        DataError: if a sample is not finite.
    """
    assert isinstance(head, FittedNetwork)
    n_tokens = WIDTH * len(blocks)
    total = np.zeros((n_tokens, n_tokens))
    for _, tokens, parameters in _projected(head, blocks):
        for values in tokens.numpy():
            for queries, weights in _weights(values, _slope(parameters)):
                total[queries] += weights / weights.sum(axis=1, keepdims=True)
    return total / len(blocks[0])


def _projected(head: FittedNetwork, blocks: Sequence[NDArray[Any]]) -> Iterator[tuple[slice, Tensor, Parameters]]:
    """Rows, their (R, 512 M) projected values as the head computes them, and its parameters; a few rows at a time."""
    parameters = {name: value[None] for name, value in head.parameters.items()}
    for start in range(0, len(blocks[0]), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        some = [torch.from_numpy(np.array(block[rows], dtype=np.float32))[None] for block in blocks]
        with torch.no_grad():
            tokens = projected(parameters, some)[0]
        n_bad = int((~torch.isfinite(tokens).all(dim=1)).sum())
        if n_bad:
            which = f"{n_bad} of samples {start} to {start + len(tokens) - 1}"
            message = f"the attention of {which} is not finite; dvme cache verify says which embeddings are not"
            raise DataError(f"{message}, then extract those again")
        yield rows, tokens, parameters


def _attention_of_embeddings(parameters: Parameters, tokens: Tensor) -> NDArray[Any]:
    """(R, M, M) of `dvme-tokens`: the mean over its attention heads."""
    with torch.no_grad():
        query, key, _ = Tokens.queries_keys_values(parameters, tokens[None])  # (R, heads, M, 512 / heads)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        weights: NDArray[Any] = torch.softmax(scores.double(), dim=-1).mean(dim=1).numpy()
    return weights


def _slope(parameters: Parameters) -> float:
    """Q k, the one number that the scores of `dvme` take from training."""
    query, key, _ = parameters["attention.qkv.weight"].flatten().unbind()
    return float(query * key)


def _block_means(values: NDArray[Any], slope: float, n_backbones: int) -> NDArray[Any]:
    """(M, M) of `dvme` for the (T,) values of one sample."""
    masses = np.empty((len(values), n_backbones))
    for queries, weights in _weights(values, slope):
        masses[queries] = weights.reshape(-1, n_backbones, WIDTH).sum(axis=2)
    masses /= masses.sum(axis=1, keepdims=True)
    means: NDArray[Any] = masses.reshape(n_backbones, WIDTH, n_backbones).mean(axis=1)
    return means


def _weights(values: NDArray[Any], slope: float) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Query tokens of one sample, and their (n, T) weights up to a factor for each; a chunk at a time, in one buffer.

    In numpy: torch would share these small loops out among threads, which costs more than the loops where the
    processor has other work.
    """
    largest = np.finfo(values.dtype).max
    with np.errstate(over="ignore"):  # beyond the largest number a score is as good as infinite
        t = np.clip(np.float32(slope) * values, -largest, largest)
        low, high = np.clip([values - values.max(), values - values.min()], -largest, largest)
    buffer = np.empty((max(1, CHUNK_ELEMENTS // len(values)), len(values)), dtype=values.dtype)
    # The key of the largest weight is the largest or the smallest value, by the sign of t; it gets weight 1.
    for positions, distances in ((np.flatnonzero(t > 0), low), (np.flatnonzero(t <= 0), high)):
        for start in range(0, len(positions), len(buffer)):
            queries = positions[start : start + len(buffer)]
            scores = buffer[: len(queries)]
            with np.errstate(over="ignore", under="ignore"):
                np.multiply.outer(t[queries], distances, out=scores)
                yield queries, np.exp(scores, out=scores)
