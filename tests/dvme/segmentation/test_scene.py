from __future__ import annotations

import numpy as np
import pytest
from scenes import discs, scene_of

from dvme.segmentation.scene import Scene

N = 7


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("scene")
    maps = {"fine": [rng.normal(size=(N, 4, 4, 3))], "coarse": [rng.normal(size=(N, 2, 2, 2))]}
    return scene_of(folder, maps, discs(N, 8))


def test_blocks__all_images_in_order_and_each_part_within_the_bytes(scene: Scene) -> None:
    positions = np.array([6, 0, 3, 3, 5])
    names, shape = ("fine", "coarse"), scene.finest(("coarse", "fine"))
    whole = [scene.maps[name].on_grid(scene.rows[positions], shape) for name in names]
    for n_bytes, n_parts in ((1, 5), (2 * 4 * 16 * 5, 3), (10**9, 1)):
        parts = list(scene.blocks(names, positions, shape, n_bytes))
        assert len(parts) == n_parts
        assert [at.start for at, _ in parts] == [0, *(at.stop for at, _ in parts)][:-1]
        for number, expected in enumerate(whole):
            np.testing.assert_array_equal(np.concatenate([blocks[number] for _, blocks in parts]), expected)
    assert list(scene.blocks(names, positions[:0], shape)) == []
