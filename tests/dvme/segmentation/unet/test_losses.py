from __future__ import annotations

import numpy as np
import pytest
import torch

from dvme.segmentation.unet.losses import cross_entropies, dice_loss, n_outputs, shares_of, sums


def test_dice_loss__two_by_two_pixels_by_hand() -> None:
    found = torch.tensor([[[[0.5, 1.0], [0.0, 0.25]]]])
    truth = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    # I = 0.5 + 1 = 1.5, A = 1.75, B = 2: 1 - 4 / 4.75
    assert dice_loss(sums(found, truth)).item() == pytest.approx(1.0 - 4.0 / 4.75)


def test_dice_loss__what_is_not_known_counts_for_nothing() -> None:
    found = torch.tensor([[[[0.5, 1.0], [0.0, 0.25]]]])
    truth = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    known = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]])
    # I = 0.5, A = 0.75, B = 1
    assert dice_loss(sums(found, truth, known)).item() == pytest.approx(1.0 - 2.0 / 2.75)


def test_dice_loss__a_class_that_is_nowhere_and_found_nowhere_costs_nothing() -> None:
    nothing = torch.zeros(2, 1, 3, 3)
    assert dice_loss(sums(nothing, nothing)).item() == 0.0
    assert dice_loss(sums(nothing + 1.0, nothing)).item() == pytest.approx(18.0 / 19.0)


def test_dice_loss__is_of_the_whole_minibatch() -> None:
    rng = np.random.default_rng(0)
    found, truth = (torch.from_numpy(rng.random((3, 2, 4, 5))) for _ in range(2))
    by_class = [
        1.0 - (2.0 * (found[:, c] * truth[:, c]).sum() + 1.0) / (found[:, c].sum() + truth[:, c].sum() + 1.0)
        for c in range(2)
    ]
    assert dice_loss(sums(found, truth)).item() == pytest.approx(float(sum(by_class)) / 2.0)


@pytest.mark.parametrize("is_exclusive", [False, True])
def test_dice_loss__equals_that_of_smp(is_exclusive: bool) -> None:
    """Where all classes occur; of one that does not, smp's loss is 0 whatever is found. It adds to I, not to 2 I."""
    from segmentation_models_pytorch.losses import DiceLoss

    generator = torch.Generator().manual_seed(1)
    n_classes = 3
    logits = torch.randn(4, n_outputs(n_classes, is_exclusive=is_exclusive), 6, 7, generator=generator)
    if is_exclusive:
        labels = torch.randint(0, n_classes + 1, (4, 6, 7), generator=generator)
        truth = (labels[:, None] == torch.arange(1, n_classes + 1)[:, None, None]).float()
        expected = DiceLoss("multiclass", classes=[1, 2, 3], smooth=0.5)(logits, labels)
    else:
        truth = torch.randint(0, 2, (4, n_classes, 6, 7), generator=generator).float()
        expected = DiceLoss("multilabel", smooth=0.5)(logits, truth)
    assert dice_loss(sums(shares_of(logits, n_classes), truth)).item() == pytest.approx(expected.item(), abs=1e-6)


def test_n_outputs__one_class_needs_no_background() -> None:
    assert n_outputs(1, is_exclusive=True) == 1
    assert n_outputs(3, is_exclusive=True) == 4
    assert n_outputs(3, is_exclusive=False) == 3


@pytest.mark.parametrize("is_exclusive", [False, True])
def test_cross_entropies__equal_torch_of_the_pixels_that_are_known(is_exclusive: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(3, 3 if is_exclusive else 2, 4, 5, generator=generator, dtype=torch.float64)
    if is_exclusive:
        labels = torch.randint(0, 3, (3, 4, 5), generator=generator)
        truth = torch.stack([labels == 1, labels == 2], dim=1).double()
        is_void = torch.rand(3, 1, 4, 5, generator=generator) < 0.3
        known = (~is_void).double().expand(3, 2, 4, 5)
        labels[is_void[:, 0]] = -100
        expected = torch.nn.functional.cross_entropy(logits, labels)
    else:
        truth = torch.rand(3, 2, 4, 5, generator=generator, dtype=torch.float64)
        known = (torch.rand(3, 2, 4, 5, generator=generator) < 0.7).double()
        chosen = known.bool()
        expected = torch.nn.functional.binary_cross_entropy(logits.sigmoid()[chosen], truth[chosen])
    total, n_known = cross_entropies(logits, truth, known)
    assert (total / n_known).item() == pytest.approx(expected.item(), rel=1e-12)
    whole, n_all = cross_entropies(logits, truth)
    assert n_all == (60 if is_exclusive else 120)
    assert whole > total
