"""What is looked at after an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dvme.adaptation.start import Begun
from dvme.adaptation.watch import K, Look, check_healthy
from dvme.errors import OptionError
from dvme.heads.tuned.on_images import embedded
from dvme.training.collapse import effective_rank, spread

START = Look(0, math.nan, 0.5, 20.0, 0.6)


def test_look__has_the_spread_and_rank_of_plain_embeddings_and_the_votes_of_neighbours(
    begin_on: Callable[..., Begun],
) -> None:
    begun = begin_on()
    look, images = begun.watch.look(begun.model, 3, 1.5), begun.images
    features = embedded(begun.model, begun.watch._pictures, np.arange(len(images)))
    assert (look.epoch, look.loss) == (3, 1.5)
    assert look.spread == pytest.approx(spread(torch.from_numpy(features)))
    assert look.rank == pytest.approx(effective_rank(torch.from_numpy(features)))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    bank, queries = (np.flatnonzero(images.parts == part) for part in ("train", "val"))
    votes = []
    for query in queries:
        similar = unit[bank] @ unit[query]
        near = np.argsort(-similar)[: min(K, len(bank))]
        weight = np.exp(similar[near] / 0.07)
        votes.append(float((weight * (images.labels[bank[near]] == "b")).sum() / weight.sum()))
    assert look.knn == pytest.approx(roc_auc_score(images.labels[queries] == "b", votes))


def test_line__says_what_there_is() -> None:
    assert START.line(9) == "before the first epoch: spread 0.500, effective rank 20.0, kNN AUC 0.600"
    without = Look(2, 1.23456, 0.5, 20.0, math.nan)
    assert without.line(9) == "epoch 2 of 9: loss 1.235, spread 0.500, effective rank 20.0"


def test_check_healthy__is_relative_to_the_start() -> None:
    check_healthy(Look(1, 2.0, 0.051, 2.1, 0.0), START)
    check_healthy(Look(1, 2.0, 0.02, 10.1, 0.0), START)  # as of random weights, whose statistics were none
    for look, message in (
        (Look(1, 2.0, 0.049, 9.0, 0.6), "in epoch 1: their spread is 0.049 .was 0.5., their effective rank 9 .was"),
        (Look(1, 2.0, 0.009, 19.0, 0.6), "collapsed in epoch 1: their spread is 0.009 .was 0.5"),
        (Look(4, 2.0, 0.5, 1.9, 0.6), "collapsed in epoch 4: .* their effective rank 1.9 .was 20"),
        (Look(2, math.nan, 0.5, 20.0, 0.6), "diverged in epoch 2"),
        (Look(2, math.inf, 0.5, 20.0, 0.6), "diverged in epoch 2"),
        (Look(2, 2.0, math.nan, math.nan, math.nan), "diverged in epoch 2"),
    ):
        with pytest.raises(OptionError, match=message):
            check_healthy(look, START)


def test_check_healthy__says_what_is_there(tmp_path: Path) -> None:
    first, third = (Look(epoch, math.nan, 0.5, 20.0, 0.6) for epoch in (1, 3))
    with pytest.raises(OptionError, match=r"; nothing was written; pass a lower learning_rate$"):
        check_healthy(first, START, tmp_path)
    kept = rf"; no backbone was written, and {tmp_path} keeps epoch 2; pass a lower learning_rate, and force=True to"
    with pytest.raises(OptionError, match=kept):
        check_healthy(third, START, tmp_path)
