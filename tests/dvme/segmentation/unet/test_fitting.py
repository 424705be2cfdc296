"""U-Nets on discs in noise: a small encoder, and all of smp's decoder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawings import Drawings, discs, drawn
from torch.optim.optimizer import register_optimizer_step_post_hook

from dvme.backbones.description.spec import BackboneSpec, Preprocess
from dvme.data.masks import Masks
from dvme.errors import DataError, OptionError
from dvme.metrics.segmentation import dice
from dvme.runtime import Runtime
from dvme.segmentation.unet.fitted import FittedUnet
from dvme.segmentation.unet.fitting import UnetJob, check_unets, fit_unets
from dvme.segmentation.unet.head import unet_head
from dvme.segmentation.unet.images import Images
from dvme.segmentation.unet.lesson import WatchedMasks

SIDE = 64
CPU = Runtime(device="cpu", workers=1)
TINY = BackboneSpec(
    name="tiny",
    method="random",
    architecture="test_resnet",  # timm's, of four blocks
    dim=None,
    pooling="average",
    preprocess=Preprocess(resize=72, crop=SIDE),
    checkpoint=None,
    source="random",
    licence="none",
    paper="",
)
N, N_TRAIN, N_VALIDATION = 16, 10, 2
TEST = np.arange(N_TRAIN + N_VALIDATION, N)
HEAD = unet_head("unet@max-epochs=4@batch-size=2@learning-rates=0.01")
QUICK = unet_head("unet@max-epochs=2@batch-size=1")


class StopError(Exception):
    """As a kill would be."""


@dataclass
class Told:
    calls: list[tuple[str, int, int]]

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.calls.append((stage, done, total))

    def of(self, stage: str) -> list[tuple[int, int]]:
        return [(done, total) for name, done, total in self.calls if name == stage]


@contextmanager
def rates() -> Iterator[list[float]]:
    """Of every optimizer at each of its steps."""
    seen: list[float] = []

    def look(optimizer: Any, *_: Any) -> None:
        (rate,) = {group["lr"] for group in optimizer.param_groups}
        seen.append(rate)

    handle = register_optimizer_step_post_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def images_of(drawings: Drawings, **given: Any) -> Images:
    return Images(drawings.work, {"tiny": TINY}, runtime=CPU, **given)


def job(head: Any = QUICK, n_train: int = 2, n_validation: int = 1, **given: Any) -> UnetJob:
    rows = np.arange(n_train + n_validation)
    return UnetJob(head, ("tiny",), rows[:n_train], rows[n_train:], 1, **given)


def fitted(drawings: Drawings, *jobs: UnetJob, progress: Any = lambda *_: None) -> list[FittedUnet]:
    fits = fit_unets(jobs, images_of(drawings), drawings.masks, runtime=CPU, progress=progress)
    found = {position: one for position, one, _ in fits}
    return [found[position] for position in range(len(jobs))]


@dataclass
class Fit:
    drawings: Drawings
    images: Images
    one: FittedUnet
    seconds: float
    rates: list[float]
    told: Told


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    drawings = discs(tmp_path_factory.mktemp("discs"), N, sizes=((80, 96), (70, 64)))
    images, told = images_of(drawings), Told([])
    given = [job(HEAD, N_TRAIN, N_VALIDATION)]
    with rates() as seen:
        ((position, one, seconds),) = fit_unets(given, images, drawings.masks, runtime=CPU, progress=told)
    assert position == 0
    return Fit(drawings, images, one, seconds, seen, told)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Drawings:
    return discs(tmp_path_factory.mktemp("few"), 4, n_classes=2)


def test_fit_unets__discs_in_noise_are_found(fit: Fit) -> None:
    scores = dice(fit.one.counts(fit.images, fit.drawings.masks, TEST))
    assert scores.shape == (len(TEST), 1)
    assert scores.mean() > 0.9
    assert fit.seconds > 0.0
    assert fit.one.n_parameters == sum(value.size for name, value in fit.one.arrays().items() if _is_trained(name))
    assert fit.one.chosen["n_trained"] == fit.one.n_parameters
    assert fit.one.chosen["validation_loss"] < 0.3


def _is_trained(name: str) -> bool:
    return not name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_fit_unets__the_rate_falls_after_each_epoch_along_a_cosine(fit: Fit) -> None:
    n_batches, length = N_TRAIN // 2, 4
    by_epoch = [0.01 * (1 + math.cos(math.pi * epoch / length)) / 2 for epoch in range(length)]
    expected = [rate for rate in by_epoch for _ in range(n_batches)]
    assert fit.rates == pytest.approx(expected)


def test_fit_unets__counts_are_those_of_planes_at_the_masks_own_size(fit: Fit) -> None:
    told: dict[int, list[np.ndarray]] = {}
    counts = fit.one.counts(fit.images, fit.drawings.masks, TEST, lambda place, *both: told.update({place: [*both]}))
    for place, position in enumerate(TEST.tolist()):
        true = fit.drawings.labels[position] == 1
        found = fit.one.planes(fit.images, position, true.shape)[0]
        assert counts[place, 0].tolist() == [(found & true).sum(), found.sum(), true.sum()]
        np.testing.assert_array_equal(told[place], [found[None], true[None]])


def test_fit_unets__tells_how_far_it_is(fit: Fit) -> None:
    n_read = N_TRAIN + N_VALIDATION
    assert fit.told.of("read images")[-1] == (N, N)
    assert fit.told.of("read masks")[-1] == (n_read, n_read)
    assert fit.told.of("train") == [(epoch, 4) for epoch in range(1, 5)]
    assert fit.told.of("fit") == [(1, 1)]


def test_fitted_unet__is_restored_from_arrays_and_json(fit: Fit) -> None:
    settings, arrays = json.loads(json.dumps(fit.one.settings())), fit.one.arrays()
    again = FittedUnet.restored(settings, arrays)
    assert again.settings() == settings
    assert again.head == fit.one.head
    for position in TEST[:2].tolist():
        size = (100, 90)
        np.testing.assert_array_equal(
            again.planes(fit.images, position, size), fit.one.planes(fit.images, position, size)
        )
    with pytest.raises(DataError, match="the weights are not those of test_resnet"):
        FittedUnet.restored(settings, dict(list(arrays.items())[1:]))


@pytest.fixture(scope="module")
def whole(few: Drawings) -> FittedUnet:
    return fitted(few, job())[0]


def test_fit_unets__what_a_kill_leaves_is_gone_on_from_to_the_bit(
    few: Drawings, whole: FittedUnet, tmp_path: Path
) -> None:
    cut = job(workplace=tmp_path / "place")

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "train" and done == 1:
            raise StopError

    with rates() as before, pytest.raises(StopError):
        fitted(few, cut, progress=stop)
    with rates() as after:
        (resumed,) = fitted(few, cut)
    assert (len(before), len(after)) == (2, 2)
    expected, found = whole.arrays(), resumed.arrays()
    assert list(found) == list(expected)
    assert all(np.array_equal(value, expected[name]) for name, value in found.items())
    assert resumed.chosen == whole.chosen


def test_fit_unets__classes_exclude_each_other_and_jobs_do_not_know_each_other(
    few: Drawings, whole: FittedUnet
) -> None:
    both = fitted(few, job(replace(QUICK, name="unet-random")), job())
    assert all(np.array_equal(value, whole.arrays()[name]) for name, value in both[1].arrays().items())
    first, second = (next(iter(one.arrays().values())) for one in both)
    assert not np.array_equal(first, second)
    planes = both[1].planes(images_of(few), 3, (80, 96))
    assert planes.shape == (2, 80, 96)
    assert not planes.all(axis=0).any()


def test_fit_unets__ends_when_validation_has_no_new_best(few: Drawings, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([0.9, 0.5, 0.4, 0.45, 0.41, 0.6, 0.1])
    monkeypatch.setattr(WatchedMasks, "loss", lambda *_: next(losses))
    head = replace(QUICK, max_epochs=30, stop_patience=3)
    with rates() as seen:
        (one,) = fitted(few, job(head))
    assert (one.chosen["epoch"], one.chosen["n_epochs"], one.chosen["validation_loss"]) == (2, 5, 0.4)
    assert len(seen) == 5 * 2


def test_fit_unets__what_was_checked_is_not_checked_again(few: Drawings, whole: FittedUnet) -> None:
    room = check_unets([job()], images_of(few), few.masks, CPU)
    poor = images_of(few, n_bytes=1_000_000)  # a check would refuse it, as below
    ((_, one, _),) = fit_unets([job()], poor, few.masks, runtime=CPU, room=room)
    assert all(np.array_equal(value, whole.arrays()[name]) for name, value in one.arrays().items())


def test_fit_unets__one_image_is_enough_and_without_validation_the_last_epoch_counts(few: Drawings) -> None:
    (one,) = fitted(few, job(n_train=1, n_validation=0))
    assert (one.chosen["epoch"], one.chosen["n_epochs"]) == (2, 2)
    assert math.isnan(one.chosen["validation_loss"])


def test_fit_unets__refuses_before_anything_is_trained(few: Drawings, tmp_path: Path) -> None:
    both = np.arange(3)
    with pytest.raises(DataError, match="unet on tiny chooses on images that it trains on"):
        fitted(few, UnetJob(QUICK, ("tiny",), both, both))
    with pytest.raises(DataError, match="unet on tiny has no training images"):
        fitted(few, job(n_train=0))
    with pytest.raises(OptionError, match="takes one backbone as its encoder, not 2"):
        fitted(few, replace(job(), backbones=("tiny", "tiny")))
    with pytest.raises(DataError, match="there are 3 images and 4 masks"):
        fitted(replace(few, work=few.work[:3]), job())
    with pytest.raises(DataError, match="learns from masks, and none of the 4 images has one"):
        fitted(replace(few, masks=Masks.of(np.full(4, "", dtype=object))), job())
    poor = images_of(few, n_bytes=1_000_000)
    with pytest.raises(OptionError, match=r"unet on tiny takes about [0-9,]+ bytes with minibatches of 1 image"):
        list(fit_unets([job()], poor, few.masks, runtime=CPU))
    label = np.full((8, 8), 255, dtype=np.uint8)
    void = drawn(tmp_path, [np.zeros((8, 8, 3), dtype=np.uint8)] * 3, [label] * 3, 1)
    with pytest.raises(DataError, match="all pixels of its 2 training masks are void"):
        fitted(void, job())
    (tmp_path / "2.png").unlink()
    with pytest.raises(DataError, match="1 of 3 images cannot be trained on"):
        fitted(void, job())
