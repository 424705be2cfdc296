"""Tokens as colours: the components of scikit-learn, the same anywhere, and every map counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scenes import discs, scene_of
from sklearn.decomposition import PCA

from dvme.segmentation.colours import GREY, Colours, token_colours
from dvme.segmentation.maps import DenseMaps


@pytest.mark.parametrize(("n_tokens", "n_channels"), [(200, 7), (40, 90), (5, 3)])
def test_colours__are_the_components_of_scikit_learn(n_tokens: int, n_channels: int) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(n_tokens, 5)) @ rng.normal(size=(5, n_channels)) + rng.normal(size=n_channels)
    found, peer = Colours.of(tokens), PCA(3).fit(tokens)
    signs = np.sign(np.take_along_axis(peer.components_, np.abs(peer.components_).argmax(axis=1)[:, None], axis=1))
    np.testing.assert_allclose(found.components, peer.components_ * signs, atol=1e-9)
    placed = peer.transform(tokens) * signs[:, 0]
    low, high = np.percentile(placed, [1, 99], axis=0)
    expected = np.clip((placed - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(found.taken(tokens), expected, atol=0.5 + 1e-6)


def test_colours__of_tokens_with_fewer_components_are_grey_there() -> None:
    line = np.outer(np.arange(10.0), np.ones(4))
    found = Colours.of(line).taken(line)
    assert found[0, 0] == 0
    assert found[-1, 0] == 255
    assert (found[:, 1:] == GREY).all()
    same = np.ones((10, 4))
    assert (Colours.of(same).taken(same) == GREY).all()


def test_token_colours__of_two_maps_by_hand(tmp_path: Path) -> None:
    """A finer map of large numbers and a coarser one of small numbers: both count, on the finer grid."""
    rng, n_images = np.random.default_rng(0), 4
    fine, coarse = 100 * rng.normal(size=(n_images, 4, 4, 3)), 0.01 * rng.normal(size=(n_images, 2, 2, 5))
    scene = scene_of(tmp_path, {"a@dense=last-2": [fine, coarse]}, discs(n_images, 8))
    maps: DenseMaps = scene.maps["a@dense=last-2"]
    found = token_colours(maps, scene.rows[[3, 0, 3]], scene.rows)
    assert found.shape == (3, 4, 4, 3)
    np.testing.assert_array_equal(found[0], found[2])  # the same image, the same colours
    tokens = maps.on_grid(scene.rows, (4, 4)).reshape(-1, 8).astype(np.float64)  # 16 of each image: all that there are
    parts = [tokens[:, :3] / np.sqrt(tokens[:, :3].var(axis=0).sum())]
    parts += [tokens[:, 3:] / np.sqrt(tokens[:, 3:].var(axis=0).sum())]
    expected = Colours.of(np.concatenate(parts, axis=1)).taken(np.concatenate(parts, axis=1)).reshape(4, 4, 4, 3)
    assert np.abs(found[[0, 1]].astype(int) - expected[[3, 0]]).max() <= 1
