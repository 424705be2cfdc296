from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes

from dvme.maps.alignment import aligned
from dvme.maps.projection import initial_positions, project
from dvme.vectors import unit_rows

REFERENCE = np.random.default_rng(0).normal(size=(40, 2)) * (3.0, 1.0) + (5.0, -2.0)
ROTATION = np.array([[0.6, -0.8], [0.8, 0.6]])
REFLECTION = np.array([[0.0, 1.0], [1.0, 0.0]])


def _standard(positions: NDArray[Any]) -> NDArray[Any]:
    centred = positions - positions.mean(axis=0)
    return centred / np.sqrt((centred**2).sum(axis=1).mean())


@pytest.mark.parametrize("turn", [ROTATION, REFLECTION, ROTATION @ REFLECTION], ids=["rotated", "mirrored", "both"])
def test_aligned__recovers_a_turned_scaled_and_shifted_copy(turn: NDArray[Any]) -> None:
    copy = 7.0 * REFERENCE @ turn + (100.0, 3.0)
    assert np.abs(_standard(copy) - _standard(REFERENCE)).max() > 0.5
    np.testing.assert_allclose(aligned(copy, REFERENCE), _standard(REFERENCE), atol=1e-6)


def test_aligned__is_scipys_rotation_of_another_map() -> None:
    other = REFERENCE @ ROTATION + np.random.default_rng(1).normal(size=REFERENCE.shape)
    rotation, _ = orthogonal_procrustes(_standard(other), _standard(REFERENCE))
    np.testing.assert_allclose(aligned(other, REFERENCE), _standard(other) @ rotation, atol=1e-6)


def test_aligned__no_other_angle_is_nearer() -> None:
    other = REFERENCE @ ROTATION + np.random.default_rng(1).normal(size=REFERENCE.shape)
    found, target = aligned(other, REFERENCE).astype(float), _standard(REFERENCE)
    distances = []
    for angle in np.linspace(0, 2 * np.pi, 73):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        distances += [((found @ mirror @ turn - target) ** 2).sum() for mirror in (np.eye(2), REFLECTION)]
    assert ((found - target) ** 2).sum() <= min(distances) + 1e-5
    assert max(distances) > 2 * min(distances)


def test_aligned__float32_centred_of_radius_one() -> None:
    result = aligned(REFERENCE.astype(np.float32), REFERENCE[::-1])
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-6)
    assert np.sqrt((result.astype(float) ** 2).sum(axis=1).mean()) == pytest.approx(1, abs=1e-6)


def test_aligned__to_itself_turns_nothing() -> None:
    np.testing.assert_allclose(aligned(REFERENCE, REFERENCE), _standard(REFERENCE), atol=1e-6)


def test_aligned__equal_positions_give_zeros() -> None:
    equal = np.full((6, 2), 0.1)
    np.testing.assert_array_equal(aligned(equal, REFERENCE[:6]), np.zeros((6, 2), dtype=np.float32))
    onto_equal = aligned(REFERENCE[:6], equal)
    assert np.sqrt((onto_equal**2).sum(axis=1).mean()) == pytest.approx(1, abs=1e-6)


def test_aligned__points_on_a_line() -> None:
    line = np.column_stack([np.arange(5.0), np.zeros(5)])
    upright = np.column_stack([np.full(5, 3.0), -2 * np.arange(5.0)])
    np.testing.assert_allclose(aligned(upright, line), _standard(line), atol=1e-6)


def test_aligned__brings_the_maps_of_similar_embeddings_together(make_features: Callable[..., NDArray[Any]]) -> None:
    labels = np.arange(120) % 3
    features = make_features(labels, 3.0, seed=0)
    similar = features + 0.2 * np.random.default_rng(1).normal(size=features.shape).astype(np.float32)
    one, other = unit_rows(features), unit_rows(similar)
    first = project(one, "tsne", initial=initial_positions(one, 0), seed=0)
    second = project(other, "tsne", initial=initial_positions(other, 0)[:, ::-1], seed=0)
    before = np.linalg.norm(_standard(second) - _standard(first), axis=1).mean()
    after = np.linalg.norm(aligned(second, first) - _standard(first), axis=1).mean()
    assert after < 0.5 * before
