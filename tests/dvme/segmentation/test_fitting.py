from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import discs, scene_of

from dvme.data.masks import VOID
from dvme.errors import DataError, OptionError
from dvme.heads.exact.linear import FittedLinear
from dvme.metrics.segmentation import dice, overlaps, pooled
from dvme.runtime import Runtime, silent
from dvme.segmentation.ceiling import ceiling
from dvme.segmentation.fitting import Scene, Segmenter, SegmentJob, fit_segmenters
from dvme.segmentation.heads import token_head
from dvme.segmentation.shares import restored, shares, taken, with_background
from dvme.segmentation.standard import Moments
from dvme.segmentation.tokens import token_rows

N, SIZE, GRID = 14, 48, 8
BUDGET = 1 << 30
DVME = "segment-dvme@max-epochs=4@min-epochs=1@batch-size=32@tokens=16"
TRAIN, VALIDATION, TEST = np.arange(6), np.arange(6, 9), np.arange(9, N)


def planted(labels: np.ndarray, n_classes: int, grid: int, dim: int, seed: int, noise: float = 0.02) -> np.ndarray:
    """(N, r, c, C) features that carry the log odds of the share of every class in the cell, mixed at random."""
    rng = np.random.default_rng(seed)
    planes = np.stack([[own == c + 1 for c in range(n_classes)] for own in labels]).astype(np.uint8)
    parts = np.stack([with_background(shares(own, (grid, grid))) for own in planes]).astype(np.float64)
    odds = np.log(parts + 1e-3)
    mixed = odds @ rng.normal(size=(n_classes + 1, dim)) + 5.0 * rng.normal(size=dim)
    return (mixed + noise * rng.normal(size=mixed.shape)).reshape(len(labels), grid, grid, dim)


def fitted(scene: Scene, jobs: Sequence[SegmentJob], **given: Any) -> list[Segmenter]:
    arguments = {"runtime": Runtime(device="cpu"), "budget": BUDGET, "progress": silent} | given
    found = {position: segmenter for position, segmenter, _ in fit_segmenters(jobs, scene, **arguments)}
    return [found[position] for position in range(len(jobs))]


def job(name: str, *backbones: str, train: np.ndarray = TRAIN, **given: Any) -> SegmentJob:
    return SegmentJob(token_head(name), backbones, train, given.pop("validation", VALIDATION), **given)


def global_dice(counts: np.ndarray) -> np.ndarray:
    return dice(pooled(counts))


def ceilings(scene: Scene, shape: tuple[int, int], positions: np.ndarray = TEST) -> np.ndarray:
    counts = [ceiling(scene.masks.read(i), shape, is_exclusive=scene.masks.is_exclusive) for i in positions.tolist()]
    return global_dice(np.stack(counts))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Two classes: planted on a grid of 8 x 8, on one of 4 x 4 and 8 x 8 together, and nothing but noise."""
    labels = discs(N, SIZE, 2)
    maps: Mapping[str, list[np.ndarray]] = {
        "fine": [planted(labels, 2, GRID, 6, 1)],
        "both": [planted(labels, 2, 4, 5, 2), planted(labels, 2, GRID, 4, 3)],
        "noise": [np.random.default_rng(4).normal(size=(N, GRID, GRID, 6))],
    }
    return scene_of(tmp_path_factory.mktemp("scene"), maps, labels, ("a", "b"))


def test_fit_segmenters__what_tokens_carry_is_found_up_to_the_ceiling_and_noise_is_not(scene: Scene) -> None:
    names = ["segment-linear", "segment-knn"]
    jobs = [job(name, backbone) for name in names for backbone in ("fine", "both", "noise")]
    found = [global_dice(own.counts(scene, TEST)) for own in fitted(scene, jobs)]
    most = ceilings(scene, (GRID, GRID))
    assert (most > 0.8).all()
    for position, scores in enumerate(found):
        if jobs[position].backbones == ("noise",):
            assert (scores < 0.3).all(), jobs[position].title
        else:
            least = most - (0.03 if jobs[position].head.name == "segment-linear" else 0.12)
            assert (scores > least).all(), (jobs[position].title, scores, most)


def test_fit_segmenters__linear_is_scikit_learns_optimum_on_the_same_weighted_rows(scene: Scene) -> None:
    """The objective of the multinomial loss with soft targets, at the strength that was chosen."""
    from sklearn.linear_model import LogisticRegression

    own = job("segment-linear@tokens=20@strengths=0.003", "fine")
    (segmenter,) = fitted(scene, [own])
    head = segmenter.head
    assert isinstance(head, FittedLinear)
    rows = token_rows(own.images, scene.masks, scene.ids, (GRID, GRID), 20)
    moments = Moments(6)
    maps = {image: scene.maps["fine"].on_grid(scene.rows[[image]], (GRID, GRID))[0] for image in own.images.tolist()}
    for image in own.images.tolist():  # a grid of 64 is whole in the reference
        moments.add(maps[image])
    every = np.concatenate(list(maps.values())).astype(np.float64)
    np.testing.assert_allclose(segmenter.standards[0].mean, every.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(segmenter.standards[0].scale, 1 / every.std(axis=0), rtol=1e-5)
    train = np.concatenate([rows.rows_of(np.array([image])) for image in TRAIN])
    owners = np.repeat(rows.images, np.diff(rows.starts))[train]
    tokens = [maps[image][token] for image, token in zip(owners.tolist(), rows.tokens[train].tolist(), strict=True)]
    x = segmenter.standards[0].applied(np.array(tokens)).astype(np.float64)
    y, weights = rows.labels[train], rows.weights[train]
    centre = weights @ x / weights.sum()
    l2 = 0.003 * weights @ np.square(x - centre).sum(axis=1)

    def objective(w: np.ndarray, b: np.ndarray) -> float:
        logits = x @ w + b
        logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        return float(-weights @ logs[np.arange(len(y)), y] + l2 / 2 * np.square(w).sum())

    peer = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=10_000).fit(x, y, weights)
    theirs = objective(peer.coef_.T, peer.intercept_)
    assert objective(head.weights, head.intercepts) == pytest.approx(theirs, rel=1e-6)
    assert len(np.unique(y)) == 3
    assert np.unique(weights).size > 20, "rows of soft targets, and tokens that stand for several"


def test_fit_segmenters__soft_rows_are_the_log_loss_of_shares(scene: Scene) -> None:
    """Summed over the rows of all tokens of an image: -sum of share times log probability, of whatever head."""
    rows = token_rows(np.array([2]), scene.masks, scene.ids, (GRID, GRID), 999)
    logs = np.log(np.random.default_rng(0).dirichlet(np.ones(3), GRID * GRID))
    soft = with_background(shares(scene.masks.read(2), (GRID, GRID)))
    by_rows = rows.weights @ logs[rows.tokens, rows.labels]
    assert by_rows == pytest.approx((soft * logs).sum(), rel=1e-6)


def test_counts__are_those_of_log_probabilities_brought_up_by_torch(scene: Scene) -> None:
    (segmenter,) = fitted(scene, [job("segment-linear", "fine")])
    told: list[tuple[int, list[int]]] = []
    counts = segmenter.counts(scene, TEST, told=lambda at, own, true: told.append((at, overlaps(own, true).tolist())))
    assert told == list(enumerate(counts.tolist()))
    for image, own in zip(TEST.tolist(), counts, strict=True):
        tokens = scene.maps["fine"].on_grid(scene.rows[[image]], (GRID, GRID))[0]
        found = segmenter.head.predict_proba([segmenter.standards[0].applied(tokens)])
        maps = torch.from_numpy(found.T.reshape(1, 3, GRID, GRID).copy())
        up = torch.nn.functional.interpolate(maps, (SIZE, SIZE), mode="bilinear", align_corners=False)[0]
        winners = up.argmax(dim=0).numpy()
        truth = scene.masks.read(image)
        for c in range(2):
            predicted = winners == c + 1
            by_hand = [(predicted & (truth[c] == 1)).sum(), predicted.sum(), (truth[c] == 1).sum()]
            assert own[c].tolist() == pytest.approx(by_hand, abs=2), "float32 may tip a pixel"
        assert (segmenter.planes(scene, image).sum(axis=(1, 2)) == own[:, 1]).all()
    swapped = segmenter.counts(scene, TEST, ("b", "a"))
    np.testing.assert_array_equal(swapped, counts[:, ::-1])
    np.testing.assert_array_equal(segmenter.counts(scene, TEST, ("b",)), counts[:, 1:])
    with pytest.raises(DataError, match="have no c"):
        segmenter.counts(scene, TEST, ("c",))


def test_planes__of_an_image_at_any_size(scene: Scene) -> None:
    (segmenter,) = fitted(scene, [job("segment-linear", "fine")])
    assert segmenter.planes(scene, 9).shape == (2, SIZE, SIZE)
    assert segmenter.planes(scene, 9, (100, 31)).shape == (2, 100, 31)


@pytest.mark.parametrize("name", ["segment-concat", "segment-mean-logits", DVME])
def test_fit_segmenters__fusions_meet_on_the_finest_grid(scene: Scene, name: str) -> None:
    (segmenter,) = fitted(scene, [job(name, "both", "noise", "fine")])
    assert segmenter.shape == (GRID, GRID)
    scores = global_dice(segmenter.counts(scene, TEST))
    least = ceilings(scene, (GRID, GRID)) - (0.2 if "dvme" in name else 0.25 if "mean" in name else 0.06)
    assert (scores > least).all(), (scores, least)


def test_fit_segmenters__a_coarse_backbone_beside_a_fine_one_is_resampled(tmp_path: Path) -> None:
    labels = discs(4, 16)
    rng = np.random.default_rng(0)
    coarse, fine = rng.normal(size=(4, 2, 3, 2)), rng.normal(size=(4, 4, 4, 2))
    own = scene_of(tmp_path, {"coarse": [coarse], "fine": [fine]}, labels)
    ((_, blocks),) = own.blocks(("coarse", "fine"), np.arange(4), own.finest(("coarse", "fine")))
    maps = torch.from_numpy(coarse.astype(np.float32)).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(maps, (4, 4), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(blocks[0], expected.permute(0, 2, 3, 1).reshape(4, 16, 2).numpy(), atol=1e-6)
    np.testing.assert_array_equal(blocks[1], fine.reshape(4, 16, 2).astype(np.float32))


def test_fit_segmenters__nested_draws_use_the_same_tokens(scene: Scene) -> None:
    few = token_rows(np.array([1, 4]), scene.masks, scene.ids, (GRID, GRID), 20)
    many = token_rows(np.arange(9), scene.masks, scene.ids, (GRID, GRID), 20)
    for image in (1, 4):
        at = few.rows_of(np.array([image])), many.rows_of(np.array([image]))
        for name in ("tokens", "labels", "weights"):
            np.testing.assert_array_equal(getattr(few, name)[at[0]], getattr(many, name)[at[1]])


def test_fit_segmenters__company_changes_nothing_where_the_reference_is_given(scene: Scene) -> None:
    own = job("segment-linear@tokens=20", "fine", train=np.arange(3))
    others = [job("segment-linear@tokens=20", "fine"), job("segment-knn@tokens=9", "noise"), own]
    reference = np.arange(9)
    (alone,) = fitted(scene, [own], reference=reference)
    beside = fitted(scene, others, reference=reference)[2]
    assert alone.chosen == beside.chosen
    for name, array in alone.arrays().items():
        np.testing.assert_allclose(beside.arrays()[name], array, rtol=1e-6, atol=1e-9)
    (otherwise,) = fitted(scene, [own], reference=np.arange(3))
    assert not np.allclose(otherwise.standards[0].mean, alone.standards[0].mean)


def test_segmenter__is_restored_from_arrays_and_json(scene: Scene) -> None:
    names = ["segment-linear", "segment-knn", "segment-concat", "segment-mean-logits"]
    names.append("segment-dvme@max-epochs=1@tokens=4")
    jobs = [job(name, *(("fine",) if name in names[:2] else ("fine", "both"))) for name in names]
    for segmenter in fitted(scene, jobs):
        again = Segmenter.restored(json.loads(json.dumps(segmenter.settings())), segmenter.arrays())
        np.testing.assert_array_equal(again.counts(scene, TEST), segmenter.counts(scene, TEST))
        assert (again.chosen, again.n_parameters) == (segmenter.chosen, segmenter.n_parameters)


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Two structures that overlap, of which one is void in some images, and in a strip of others."""
    labels = {"whole": discs(N, SIZE, seed=1), "part": discs(N, SIZE, seed=2)}
    planes = np.stack(list(labels.values()), axis=1)
    parts = np.stack([shares(own, (GRID, GRID)) for own in planes]).astype(np.float64)
    odds = np.log(parts + 1e-3) - np.log(1 - parts + 1e-3)
    mixed = odds @ np.random.default_rng(3).normal(size=(2, 5))
    labels["part"][:2] = VOID
    labels["whole"][:, :5] = VOID
    maps = {"m": [mixed.reshape(N, GRID, GRID, 5)]}
    return scene_of(tmp_path_factory.mktemp("overlapping"), maps, labels)


@pytest.mark.parametrize(
    ("name", "loss"),
    [("segment-linear", 0.03), ("segment-knn", 0.1)],
)
def test_fit_segmenters__structures_that_overlap(overlapping: Scene, name: str, loss: float) -> None:
    (segmenter,) = fitted(overlapping, [job(name, "m")])
    scores = global_dice(segmenter.counts(overlapping, TEST))
    assert (scores > ceilings(overlapping, (GRID, GRID)) - loss).all(), scores
    again = Segmenter.restored(json.loads(json.dumps(segmenter.settings())), segmenter.arrays())
    np.testing.assert_array_equal(again.counts(overlapping, TEST), segmenter.counts(overlapping, TEST))
    found = next(segmenter.probabilities(overlapping, TEST[:1]))[1][0]
    np.testing.assert_array_equal(
        segmenter.planes(overlapping, int(TEST[0])), taken(restored(found, (GRID, GRID), (SIZE, SIZE)), False)
    )


def test_fit_segmenters__a_constant_channel_stays_zero_everywhere(tmp_path: Path) -> None:
    labels = discs(6, 16)
    features = np.random.default_rng(0).normal(size=(6, 4, 4, 3))
    features[..., 1] = 7.3
    features[5, ..., 1] = 9.0
    own = scene_of(tmp_path, {"m": [features]}, labels)
    given = {"train": np.arange(3), "validation": np.array([3, 4])}
    (segmenter,) = fitted(own, [job("segment-linear", "m", **given)])
    assert segmenter.standards[0].scale[1] == 0.0
    assert segmenter.standards[0].applied(features[5])[..., 1].tolist() == np.zeros((4, 4)).tolist()


def test_fit_segmenters__void_teaches_nothing(tmp_path: Path) -> None:
    """What lies under void pixels changes no head: their labels are not there to be looked at."""
    labels = discs(8, 32)
    features = planted(labels, 1, 8, 4, 0)
    hidden = labels.copy()
    hidden[:, :, :16] = VOID
    features[:, :, :4] = 1e3 * np.random.default_rng(1).normal(size=(8, 8, 4, 4))
    own = scene_of(tmp_path, {"m": [features]}, hidden)
    rows = token_rows(np.arange(8), own.masks, own.ids, (8, 8), 256)
    assert (rows.tokens % 8 >= 4).all()
    given = {"train": np.arange(4), "validation": np.arange(4, 6)}
    (segmenter,) = fitted(own, [job("segment-linear", "m", **given)])
    counts = segmenter.counts(own, np.array([6, 7]))
    assert (counts[:, 0, 1] <= 32 * 16).all()
    void = np.full_like(labels, VOID)
    nothing = scene_of(tmp_path / "void", {"m": [features]}, void)
    with pytest.raises(DataError, match="all pixels of its 4 masks are void"):
        fitted(nothing, [job("segment-linear", "m", **given)])


def test_fit_segmenters__without_validation_images_nothing_is_chosen(scene: Scene) -> None:
    (segmenter,) = fitted(scene, [job("segment-linear", "fine", validation=np.empty(0, dtype=np.int64))])
    assert segmenter.chosen["strength"] == pytest.approx(10**-3.5)


def test_fit_segmenters__says_what_fits_the_memory(scene: Scene) -> None:
    own = job("segment-linear", "both", train=np.arange(9), validation=np.empty(0, dtype=np.int64))
    low, high = 1 << 26, 1 << 30
    with pytest.raises(OptionError, match=r"take segment-linear@tokens=\d+, fewer layers, or pass memory, ") as told:
        fitted(scene, [own], budget=low + 300_000)
    assert "\n" not in str(told.value)
    n_tokens = int(str(told.value).partition("tokens=")[2].partition(",")[0])
    fewer = job(f"segment-linear@tokens={n_tokens}", "both", train=own.train, validation=own.validation)
    assert len(fitted(scene, [fewer], budget=low + 300_000)) == 1
    assert len(fitted(scene, [own], budget=high)) == 1


def test_fit_segmenters__one_backbone_after_the_other_where_all_do_not_fit(scene: Scene) -> None:
    jobs = [job("segment-linear@strengths=0.001", name) for name in ("fine", "both", "noise")]
    told: list[str] = []

    def tell(stage: str, done: int, total: int) -> None:
        told.append(stage)

    whole = fitted(scene, jobs, progress=tell)
    assert "read" not in told[told.index("fit") :]
    for more in range(100_000, 2_000_000, 25_000):  # the least that holds the largest of them
        told.clear()
        with suppress(OptionError):
            parted = fitted(scene, jobs, budget=(1 << 26) + more, progress=tell)
            break
    assert told[told.index("fit") :].count("read") >= 2
    for one, other in zip(whole, parted, strict=True):
        np.testing.assert_allclose(one.counts(scene, TEST), other.counts(scene, TEST), atol=2)


def test_fit_segmenters__refuses_choosing_on_what_it_trains_on(scene: Scene) -> None:
    with pytest.raises(DataError, match="segment-knn on fine chooses on images that it trains on"):
        fitted(scene, [job("segment-knn", "fine", validation=np.array([5, 6]))])
    assert fitted(scene, []) == []
