from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label

from dvme.errors import OptionError
from dvme.training.gmml import FILLS, Decoder, Fill, corrupted, group_mask, reconstruction_loss


@given(n=st.integers(0, 4), grid=st.integers(1, 16), share=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
def test_group_mask__hides_as_much_as_asked_for(n: int, grid: int, share: float, seed: int) -> None:
    mask = group_mask(n, grid, share, np.random.default_rng(seed))
    assert mask.shape == (n, grid, grid)
    counts = set(mask.sum(axis=(1, 2)).tolist())
    if grid == 1:
        assert counts <= {1}
    else:
        assert counts <= {min(max(round(share * grid**2), 1), grid**2 - 1)}


def test_group_mask__every_patch_as_often() -> None:
    mask = group_mask(4000, 7, 0.3, np.random.default_rng(0))
    deviation = math.sqrt(0.3 * 0.7 / 4000)
    assert mask.mean(axis=0) == pytest.approx(np.full((7, 7), 15 / 49), abs=5 * deviation)


def test_group_mask__hides_groups_and_no_single_patches() -> None:
    """Much fewer pieces than as many patches at random."""
    rng = np.random.default_rng(0)
    groups = group_mask(100, 14, 0.3, rng)
    alone = np.stack([rng.permutation(196) < groups[0].sum() for _ in range(100)]).reshape(100, 14, 14)
    n_groups, n_alone = (np.mean([label(each)[1] for each in masks]) for masks in (groups, alone))
    assert n_groups < 0.4 * n_alone


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_group_mask__refuses_all_and_nothing(share: float) -> None:
    with pytest.raises(OptionError, match="share"):
        group_mask(1, 4, share, np.random.default_rng(0))


def test_corrupted__changes_what_is_hidden_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.uniform(0, 255, (60, 3, 12, 12))).float()
    mask, before = group_mask(60, 4, 0.5, rng), images.clone()
    found = corrupted(images, mask, rng)
    torch.testing.assert_close(images, before, atol=0, rtol=0)
    is_hidden = torch.from_numpy(np.kron(mask, np.ones((3, 3), dtype=bool)))
    assert ((found != images).any(dim=1) == is_hidden).all()
    kinds = {"mean": 0, "noise": 0, "another": 0}
    for place in range(60):
        hidden = found[place][:, is_hidden[place]]
        if (hidden - images.mean(dim=(0, 2, 3))[:, None]).abs().max() < 1e-3:
            kinds["mean"] += 1
        elif any((hidden == images[k][:, is_hidden[place]]).all() for k in range(60) if k != place):
            kinds["another"] += 1
        else:
            kinds["noise"] += 1
    assert min(kinds.values()) > 10


def test_corrupted__another_image_is_never_the_same() -> None:
    images = torch.arange(5.0)[:, None, None, None].expand(5, 1, 2, 2)
    rng, mask = np.random.default_rng(0), np.ones((5, 1, 1), dtype=bool)
    found = np.array([corrupted(images, mask, rng, ["another"])[:, 0, 0, 0].tolist() for _ in range(200)])
    assert [sorted(set(own)) for own in found.T] == [[k for k in range(5) if k != i] for i in range(5)]


def test_corrupted__noise_is_like_the_minibatch() -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal([[[[5.0]], [[-2.0]]]], [[[[3.0]], [[0.5]]]], (40, 2, 16, 16))).float()
    found = corrupted(images, np.ones((40, 4, 4), dtype=bool), rng, ["noise"])
    assert found.mean(dim=(0, 2, 3)).tolist() == pytest.approx([5.0, -2.0], abs=0.1)
    assert found.std(dim=(0, 2, 3)).tolist() == pytest.approx([3.0, 0.5], rel=0.05)
    assert found[0].flatten()[0] != found[1].flatten()[0]


@pytest.mark.parametrize("fill", FILLS)
def test_corrupted__a_single_image_hides_its_patches_too(fill: Fill) -> None:
    images = torch.arange(16.0).reshape(1, 1, 4, 4)
    mask = np.array([[[True, False], [False, False]]])
    found = corrupted(images, mask, np.random.default_rng(0), [fill])
    assert (found != images).sum() == 4


def test_corrupted__the_same_numbers_give_the_same() -> None:
    images, mask = torch.rand(6, 3, 8, 8), group_mask(6, 4, 0.5, np.random.default_rng(0))
    first, second, other = (corrupted(images, mask, np.random.default_rng(seed)) for seed in (1, 1, 2))
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    assert (first != other).any()


def test_reconstruction_loss__by_hand() -> None:
    """Two of eight patches are hidden, each of four pixels: an error of 1 in all of one, of 3 in all of the other."""
    images = torch.zeros(2, 1, 4, 4)
    restored = torch.full((2, 1, 4, 4), 100.0)
    restored[0, 0, :2, 2:], restored[1, 0, 2:, :2] = 1.0, -3.0
    mask = np.zeros((2, 2, 2), dtype=bool)
    mask[0, 0, 1] = mask[1, 1, 0] = True
    assert reconstruction_loss(images, restored, mask).item() == 2.0
    assert reconstruction_loss(images.expand(2, 3, 4, 4), restored.expand(2, 3, 4, 4), mask).item() == 2.0


def test_reconstruction_loss__what_was_not_hidden_counts_for_nothing() -> None:
    images, restored = torch.zeros(1, 1, 2, 2), torch.tensor([[[[math.nan, 2.0], [math.inf, 9.0]]]]).requires_grad_()
    mask = np.array([[[False, True], [False, False]]])
    loss = reconstruction_loss(images, restored, mask)
    loss.backward()  # type: ignore[no-untyped-call]
    assert restored.grad is not None
    assert (loss.item(), restored.grad.tolist()) == (2.0, [[[[0.0, 1.0], [0.0, 0.0]]]])
    assert reconstruction_loss(images, restored, ~mask).isnan()
    assert reconstruction_loss(images, restored, mask & False).item() == 0.0


def test_decoder__lays_patches_side_by_side() -> None:
    """Each pixel comes from the token of its own patch, and from the place in it."""
    decoder = Decoder(5, 2, 3)
    tokens = torch.randn(2, 1 + 9, 5)
    found = decoder(tokens, 3)
    assert found.shape == (2, 3, 6, 6)
    for row in range(6):
        for column in range(6):
            own = decoder.layers(tokens[:, 1 + 3 * (row // 2) + column // 2]).reshape(2, 3, 2, 2)
            torch.testing.assert_close(found[:, :, row, column], own[:, :, row % 2, column % 2])


@pytest.mark.parametrize("settings", [{"reg_tokens": 4}, {"class_token": False, "global_pool": "avg"}])
def test_gmml__a_vision_transformer_of_timm_learns_to_restore(settings: dict[str, Any]) -> None:
    """Images of one colour each: what is hidden can be told from the rest."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    sizes = {"img_size": 8, "patch_size": 2, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 0}
    network = timm.create_model("vit_tiny_patch16_224", in_chans=1, **sizes, **settings)
    decoder = Decoder(24, 2, 1)
    optimizer = torch.optim.AdamW([*network.parameters(), *decoder.parameters()], 5e-3)
    losses = []
    for _ in range(40):
        images = torch.from_numpy(rng.uniform(-1, 1, (32, 1, 1, 1))).float().expand(32, 1, 8, 8)
        mask = group_mask(32, 4, 0.4, rng)
        restored = decoder(network.forward_features(corrupted(images, mask, rng)), 4)
        loss = reconstruction_loss(images, restored, mask)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[:3]) > 0.4
    assert np.mean(losses[-3:]) < 0.25
