from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import discs, scene_of

from dvme.backbones.description.dense import Grid
from dvme.data.masks import VOID
from dvme.errors import DataError, OptionError
from dvme.metrics.segmentation import dice, pooled
from dvme.runtime import Runtime, silent
from dvme.segmentation.conv import ConvHead, ConvSegmenter
from dvme.segmentation.conv_training import _step, check_conv
from dvme.segmentation.decoder import Decoder
from dvme.segmentation.fitting import Scene, SegmentJob, fit_segmenters, fitted_class
from dvme.segmentation.heads import token_head

TRAIN, VALIDATION, TEST = np.arange(6), np.arange(6, 8), np.arange(8, 11)
BRIEF = "segment-conv@max-epochs=3@batch-size=6"


def fitted(
    scene: Scene, job: SegmentJob, seen: list[tuple[str, int, int]] | None = None, budget: int = 1 << 30
) -> ConvSegmenter:
    progress = silent if seen is None else lambda *told: seen.append(told)
    given = {"runtime": Runtime(device="cpu"), "budget": budget, "progress": progress}
    ((position, segmenter, seconds),) = fit_segmenters([job], scene, **given)
    assert isinstance(segmenter, ConvSegmenter)
    assert (position, seconds > 0) == (0, True)
    return segmenter


def job(name: str = BRIEF, **given: object) -> SegmentJob:
    own = SegmentJob(token_head(name), ("m",), TRAIN, VALIDATION, seed=5)
    return replace(own, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Discs of two classes whose pixels, pooled to two grids, are the features; channels of very other units."""
    labels = discs(11, 32, 2)
    one_hot = np.stack([labels == c for c in range(3)], axis=1).astype(np.float32)
    maps = []
    for grid, scale in ((4, 1e-3), (8, 1e3)):
        pooled_maps = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(one_hot), grid).permute(0, 2, 3, 1)
        noise = 0.05 * np.random.default_rng(grid).normal(size=pooled_maps.shape)
        maps.append(scale * (pooled_maps.numpy() + noise) + 3 * scale)
    return scene_of(tmp_path_factory.mktemp("conv"), {"m": maps}, labels, ("a", "b"))


def test_fit_conv__finds_what_maps_of_several_layers_carry(scene: Scene) -> None:
    segmenter = fitted(scene, job("segment-conv@max-epochs=8@batch-size=2@learning-rate=0.003"))
    assert segmenter.shape == (16, 16)
    scores = dice(pooled(segmenter.counts(scene, TEST)))
    assert (scores > 0.7).all(), scores
    assert 1 <= segmenter.chosen["epoch"] <= segmenter.chosen["n_epochs"] <= 8


def test_fit_conv__is_the_same_again_and_another_by_seed(scene: Scene) -> None:
    before = torch.get_rng_state()
    one, two, other = (fitted(scene, own) for own in (job(), job(), job(seed=6)))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.chosen == two.chosen
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)
    assert other.chosen != one.chosen


class KilledError(Exception):
    """What stands for it."""


def test_fit_conv__a_kill_costs_an_epoch_at_most(scene: Scene, tmp_path: Path) -> None:
    def kill(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("train", 2):
            raise KilledError

    given = {"runtime": Runtime(device="cpu"), "budget": 1 << 30}
    with pytest.raises(KilledError):
        list(fit_segmenters([job(workplace=tmp_path)], scene, progress=kill, **given))
    seen: list[tuple[str, int, int]] = []
    again = fitted(scene, job(workplace=tmp_path), seen)
    assert [done for stage, done, _ in seen if stage == "train"] == [3]
    whole = fitted(scene, job())
    assert again.chosen == whole.chosen
    assert all(torch.equal(again.state[name], whole.state[name]) for name in whole.state)
    seen.clear()
    assert fitted(scene, job(workplace=tmp_path), seen).chosen == whole.chosen
    assert [told for told in seen if told[0] == "train"] == []
    fitted(scene, job(workplace=tmp_path, seed=6), seen)
    assert [done for stage, done, _ in seen if stage == "train"] == [1, 2, 3], "what others left counts for nothing"


def test_fit_conv__loss_is_the_soft_cross_entropy_by_a_slow_loop(scene: Scene) -> None:
    segmenter = fitted(scene, job("segment-conv@max-epochs=1"))
    total, n_cells = 0.0, 0
    for at, found in segmenter.probabilities(scene, VALIDATION):
        for image, own in zip(VALIDATION[at].tolist(), found, strict=True):
            planes = scene.masks.read(image)
            background = (planes == 0).all(axis=0)[None]
            one_hot = np.concatenate([background, planes == 1])
            parts = one_hot.reshape(3, 16, 2, 16, 2).mean(axis=(2, 4)).reshape(3, -1).T
            total, n_cells = total - (parts * np.log(own)).sum(), n_cells + len(own)
    assert segmenter.chosen["validation_loss"] == pytest.approx(total / n_cells, rel=1e-4)


def test_fit_conv__stops_where_validation_stalls(tmp_path: Path) -> None:
    labels = discs(6, 16)
    own = scene_of(tmp_path, {"m": [np.random.default_rng(0).normal(size=(6, 4, 4, 3))]}, labels)
    name = "segment-conv@max-epochs=40@min-epochs=2@stop-patience=2@learning-rate=0.05"
    segmenter = fitted(own, SegmentJob(token_head(name), ("m",), np.arange(3), np.arange(3, 5)))
    assert segmenter.chosen["n_epochs"] == segmenter.chosen["epoch"] + 2 < 40
    last = fitted(own, SegmentJob(token_head(BRIEF), ("m",), np.arange(3), np.arange(0)))
    assert (last.chosen["epoch"], last.chosen["n_epochs"]) == (3, 3)
    assert np.isnan(last.chosen["validation_loss"])


def test_conv_segmenter__is_restored_from_arrays_and_json(scene: Scene) -> None:
    for own in (job(), job(validation=np.arange(0))):
        segmenter = fitted(scene, own)
        again = fitted_class("segment-conv").restored(json.loads(json.dumps(segmenter.settings())), segmenter.arrays())
        np.testing.assert_array_equal(again.counts(scene, TEST), segmenter.counts(scene, TEST))
        assert again.n_parameters == segmenter.n_parameters > 64 * 64 * 9 * 3
        assert str(again.chosen) == str(segmenter.chosen)
        assert json.dumps(segmenter.settings(), allow_nan=False)
    assert segmenter.grids == (Grid(4, 4, 3), Grid(8, 8, 3))


def test_fit_conv__structures_overlap_and_void_teaches_nothing(tmp_path: Path) -> None:
    labels = {"x": discs(6, 16, seed=1), "y": discs(6, 16, seed=2)}
    labels["y"][:4] = VOID
    labels["x"][:, :5] = VOID
    own = scene_of(tmp_path, {"m": [np.random.default_rng(0).normal(size=(6, 4, 4, 3))]}, labels)
    segmenter = fitted(own, SegmentJob(token_head(BRIEF), ("m",), np.arange(3), np.arange(3, 5)))
    assert segmenter.counts(own, np.array([5])).shape == (1, 2, 3)
    assert np.isfinite(segmenter.chosen["validation_loss"])
    nothing = scene_of(tmp_path / "void", {"m": [np.ones((6, 4, 4, 3))]}, np.full_like(labels["x"], VOID))
    with pytest.raises(DataError, match="segment-conv on m has nothing to learn from: all pixels of its 3 masks are"):
        fitted(nothing, SegmentJob(token_head(BRIEF), ("m",), np.arange(3), np.arange(3, 5)))


def test_fit_conv__says_what_fits_the_memory(scene: Scene) -> None:
    def asked(own: SegmentJob, budget: int) -> None:
        check_conv([own], scene, Runtime(device="cpu"), budget)

    targets = 2 * 8 * 3 * 16 * 16  # float16 of 8 images, of two classes and the background on twice 8 x 8 cells
    with pytest.raises(OptionError, match=f"the shares of classes of 8 images take {targets:,} bytes, and may take 99"):
        asked(job(), 999)
    with pytest.raises(
        OptionError, match=r"segment-conv on m takes about .* of 6 images, and may take 2,000,000; choose a"
    ):
        asked(job(), targets + 2_000_000)
    with pytest.raises(OptionError) as told:
        fitted(scene, job(), budget=targets + 4_500_000)
    assert "\n" not in str(told.value)
    fits = int(re.findall(r"add @batch-size=(\d+) to its name", str(told.value))[0])
    assert 1 <= fits < 6
    asked(job(f"{BRIEF.partition('@batch')[0]}@batch-size={fits}"), targets + 4_500_000)
    with pytest.raises(OptionError):
        asked(job(f"{BRIEF.partition('@batch')[0]}@batch-size={fits + 1}"), targets + 4_500_000)
    asked(job(), 1 << 30)


def test_check_conv__takes_what_the_layers_give_into_account() -> None:
    """Every layer's output is kept for the way back, but for those that only the next line needs."""
    grids = (Grid(4, 4, 3), Grid(8, 8, 5))
    decoder, given = Decoder(grids, 3), list[int]()
    for module in decoder.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _, __, found: given.append(found.nbytes))
    decoder([torch.zeros(2, grid.n_tokens, grid.channels) for grid in grids])
    step, n_cells = _step(grids, 3)
    assert n_cells == 16 * 16
    assert sum(given) / 2 < step.each < 2 * sum(given) / 2


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("learning_rate", -1.0), ("max_epochs", 0.5)])
def test_conv_head__refuses_what_cannot_be_trained(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=name):
        ConvHead(**{name: value})  # type: ignore[arg-type]
