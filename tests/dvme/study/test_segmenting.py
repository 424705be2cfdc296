"""Segmentations as a study: who is scored, against what ceiling, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from outlines import slow_outline_scores
from PIL import Image
from scenes import discs, scene_of

import dvme
from dvme.data.masks import Masks
from dvme.errors import DvmeError
from dvme.files import file_digest
from dvme.heads.saving import save_head
from dvme.metrics.segmentation import dice, overlaps
from dvme.runtime import Runtime
from dvme.segmentation.maps import DenseMaps
from dvme.segmentation.scene import Scene
from dvme.segmentation.shares import shares, with_background
from dvme.study.run import Run, read_summary
from dvme_cache import EmbeddingCache

N, SIZE, GRID = 30, 24, 6
KNOWN, NOISE = "known@dense=last", "noise@dense=last"
RUNTIME = Runtime(device="cpu")
OPTIONS = dvme.SubsetOptions(sizes=["8", "full"], n_folds=3, test_fraction=0.3)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose tokens tell the share of the class by one backbone, and nothing by another; three to a patient."""
    folder = tmp_path_factory.mktemp("scene")
    labels, rng = discs(N, SIZE), np.random.default_rng(0)
    parts = np.stack([with_background(shares((own[None] == 1).astype(np.uint8), (GRID, GRID))) for own in labels])
    told = np.log(parts + 1e-3) @ rng.normal(size=(2, 5)) + 0.02 * rng.normal(size=(N, GRID * GRID, 5))
    maps = {
        KNOWN: [told.reshape(N, GRID, GRID, 5)],
        NOISE: [rng.normal(size=(N, GRID, GRID, 5))],
    }
    scene = scene_of(folder, maps, labels)
    with EmbeddingCache.writing(folder / "c.zarr") as store:
        groups = np.array([f"p{image // 3}" for image in range(N)], dtype=object)
        store.tables.replace({"mask": np.asarray(scene.masks.cells, dtype=object), "group": groups})
    return folder / "c.zarr"


@pytest.fixture(scope="module")
def swept(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("swept") / "run"
    return out, sweep(cache, out)


def sweep(cache: Path, out: Path, heads: Any = ("segment-linear", "segment-concat"), **given: Any) -> Any:
    return dvme.sweep(cache, out, heads=heads, options=OPTIONS, runtime=RUNTIME, progress=dvme.silent, **given)


def test_sweep__tokens_that_tell_reach_the_ceiling_and_noise_does_not(swept: tuple[Path, Any]) -> None:
    _, report = swept
    rows = {(row.head, row.backbones): row for row in report.rows}
    known, noise = rows["segment-linear", (KNOWN,)], rows["segment-linear", (NOISE,)]
    assert report.task.kind == "segmentation"
    assert report.metric == "dice"
    assert known.test["dice"].mean > known.ceiling - 0.05
    assert noise.test["dice"].mean < 0.6
    assert (known.mark, noise.mark) in {("*", ""), ("=", "")}  # or the fusion leads, which is as good
    assert KNOWN in report.verdict
    assert "better than every other backbone" in report.verdict
    assert report.suspects == []
    assert report.reliability is None


def test_sweep__scores_are_means_over_images_of_what_is_kept_of_each(swept: tuple[Path, Any]) -> None:
    """By hand, from the counts in the table of predictions."""
    out, report = swept
    kept = pd.read_parquet(out / "predictions.parquet")
    for row in report.rows:
        is_own = (kept["head"] == row.head) & (kept["backbones"] == "+".join(row.backbones))
        own = kept[is_own & (kept["size"] == "full")]
        dice = 2 * own["common(cell)"] / (own["predicted(cell)"] + own["true(cell)"])
        by_fold = dice.fillna(1.0).groupby(own["fold"]).mean()
        np.testing.assert_allclose(row.test["dice"].folds, by_fold.to_numpy(), rtol=1e-12)
        summed = own.groupby("fold")[["common(cell)", "predicted(cell)", "true(cell)"]].sum().to_numpy()
        whole = 2 * summed[:, 0] / (summed[:, 1] + summed[:, 2])
        np.testing.assert_allclose(row.test["global_dice"].folds, whole, rtol=1e-12)


def test_sweep__the_ceiling_is_of_the_masks_by_way_of_the_grid(swept: tuple[Path, Any], cache: Path) -> None:
    """Slowly: means over blocks, bilinear by Pillow, a half and more is the class."""
    out, report = swept
    run = Run.load(out)
    store = EmbeddingCache.open(cache)
    by_id = {row.tobytes(): place for place, row in enumerate(store.samples.ids)}
    scores = []
    for position in run.manifest.test.tolist():
        path = cache.parent / f"mask-{by_id[run.manifest.images[position].tobytes()]}-0.png"
        mask = np.asarray(Image.open(path)) == 1
        means = mask.reshape(GRID, SIZE // GRID, GRID, SIZE // GRID).mean(axis=(1, 3)).astype(np.float32)
        large = np.asarray(Image.fromarray(means).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        taken = large > 0.5
        total = taken.sum() + mask.sum()
        scores.append(2 * (taken & mask).sum() / total if total else 1.0)
    assert {round(row.ceiling, 9) for row in report.rows} == {round(report.rows[0].ceiling, 9)}
    assert report.rows[0].ceiling == pytest.approx(np.mean(scores), abs=5e-3)
    assert {row.grid for row in report.rows} == {(GRID, GRID)} == set(run.grids.values())
    assert len(run.grids) == len(run.ceilings) == 3
    lost = 1.0 - report.rows[0].ceiling, report.rows[0].ceiling - report.rows[0].test["dice"].mean
    is_said = any("its grid of 6 x 6 lets Dice reach" in line for line in report.notices)
    assert is_said is (lost[0] > lost[1] or lost[0] > 0.1)


def test_sweep__patients_are_on_one_side_and_intervals_are_over_them(swept: tuple[Path, Any], cache: Path) -> None:
    out, report = swept
    run, store = Run.load(out), EmbeddingCache.open(cache)
    groups = store.column("group")
    by_id = {row.tobytes(): groups[place] for place, row in enumerate(store.samples.ids)}
    names = np.array([by_id[row.tobytes()] for row in run.manifest.images])
    for draw in run.manifest.draws:
        sides = [set(names[rows]) for rows in (draw.train, draw.validation, run.manifest.test)]
        assert not sides[0] & sides[1]
        assert not (sides[0] | sides[1]) & sides[2]
    assert any("test groups" in line for line in report.notices)


def test_sweep__a_killed_run_goes_on_and_keeps_the_same_heads(
    swept: tuple[Path, Any], cache: Path, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def tell(stage: str, done: int, total: int) -> None:
        if stage == "sweep" and done == total // 2:
            raise KilledError

    given: dict[str, Any] = {"heads": ["segment-linear", "segment-concat"], "options": OPTIONS, "runtime": RUNTIME}
    with pytest.raises(KilledError):
        dvme.sweep(cache, tmp_path / "run", progress=tell, **given)
    report = sweep(cache, tmp_path / "run")
    assert 0 < report.n_reused < report.n_jobs
    kept = sorted((swept[0] / "heads").iterdir())
    assert [folder.name for folder in kept] == [
        f"segment-concat--{KNOWN}+{NOISE}",
        f"segment-linear--{KNOWN}",
        f"segment-linear--{NOISE}",
    ]
    for folder in kept:
        own, other = (dvme.load_head(place) for place in (folder, tmp_path / "run" / "heads" / folder.name))
        assert len(own.folds) == len(other.folds) == OPTIONS.n_folds
        assert {fold.job for fold in own.folds} == {fold.job for fold in other.folds}
        for one, two in zip(own.folds, other.folds, strict=True):
            for name, array in one.head.arrays().items():
                np.testing.assert_array_equal(array, two.head.arrays()[name])


def test_probe__saves_what_it_kept_bit_for_bit(cache: Path, tmp_path: Path) -> None:
    """Of every kind of head: a head that is read back and written is the same file, and a damaged one is refused."""
    heads = [
        "segment-knn@tokens=16",
        "segment-dvme@tokens=16@min-epochs=1@max-epochs=1",
        "segment-conv@min-epochs=1@max-epochs=1",
    ]
    options: dict[str, Any] = {"n_folds": 2, "test_fraction": 0.3, "runtime": RUNTIME, "progress": dvme.silent}
    report = dvme.probe(cache, heads=heads, backbones=[KNOWN], controls=False, save=tmp_path / "heads", **options)
    assert {Path(place).name for place in report.saved} == {path.name for path in (tmp_path / "heads").iterdir()}
    assert len(report.saved) == len(heads)
    for place in map(Path, report.saved):
        again = save_head(tmp_path / "again" / place.name, dvme.load_head(place))
        for name in ("head.json", "weights.safetensors"):
            assert file_digest(place / name) == file_digest(again / name)
        assert json.loads((place / "head.json").read_text())["format"] == 6
    weights = place / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(DvmeError, match="is damaged"):
        dvme.load_head(place)


def test_sweep__goes_on_where_it_was_and_by_its_own_subsets(
    swept: tuple[Path, Any], cache: Path, tmp_path: Path
) -> None:
    out, first = swept
    again = sweep(cache, out)
    assert (again.n_reused, again.n_jobs) == (first.n_jobs, first.n_jobs)
    assert [cell.test for cell in again.cells] == [cell.test for cell in first.cells]
    same = dvme.sweep(
        cache,
        tmp_path / "other",
        heads=["segment-linear"],
        subsets=out / "subsets.json",
        runtime=RUNTIME,
        progress=dvme.silent,
    )
    assert [cell.test for cell in same.cells] == [cell.test for cell in first.cells if cell.head == "segment-linear"]


def test_probe__is_the_full_size_of_a_sweep(swept: tuple[Path, Any], cache: Path) -> None:
    _, report = swept
    options = {"n_folds": 3, "test_fraction": 0.3, "runtime": RUNTIME, "progress": dvme.silent}
    probed = dvme.probe(cache, heads=["segment-linear", "segment-concat"], **options)
    assert [row.test for row in probed.rows] == [row.test for row in report.rows]


def outlined(cache: Path, out: Path, boundary: float | None, backbones: Any = (KNOWN,)) -> Any:
    given: dict[str, Any] = {"n_folds": 2, "test_fraction": 0.3, "runtime": RUNTIME, "progress": dvme.silent}
    return dvme.probe(cache, heads=["segment-linear"], backbones=backbones, out=out, boundary=boundary, **given)


def test_probe__outlines_are_those_of_all_pairs_of_pixels(cache: Path, tmp_path: Path) -> None:
    """Of the masks that the kept heads make; that on noise finds nothing at all."""
    report = outlined(cache, tmp_path / "run", 2, (KNOWN, NOISE))
    run, store = Run.load(tmp_path / "run"), EmbeddingCache.open(cache)
    maps = {name: DenseMaps(store.embeddings(name)) for name in (KNOWN, NOISE)}
    scene = Scene(maps, np.arange(N), store.samples.ids, Masks.of(store.column("mask")))
    by_id = {row.tobytes(): place for place, row in enumerate(store.samples.ids)}
    test = [by_id[row.tobytes()] for row in run.manifest.images[run.manifest.test]]
    assert [row.backbones for row in report.rows] == [(KNOWN,), (NOISE,)]
    for row in report.rows:
        by_head = []
        for fold in dvme.load_head(tmp_path / "run" / "heads" / f"segment-linear--{row.backbones[0]}").folds:
            masks = [(fold.head.planes(scene, image)[0], scene.masks.read(image)[0] == 1) for image in test]
            scores = np.array([slow_outline_scores(*both, 2.0) for both in masks])
            met = scores[np.isfinite(scores[:, 0]), 0]
            far = met.mean() if len(met) else np.nan
            n_missed, n_empty = np.isinf(scores[:, 0]).sum(), np.isnan(scores[:, 0]).sum()
            by_head.append([far, np.nanmean(scores[:, 1]), n_missed, n_empty])
        (found,) = report.classes[row.method]
        own = found.outlines
        said = own.hausdorff95.estimate, own.boundary_dice.estimate, own.n_missed, own.n_empty
        assert said == pytest.approx(np.mean(by_head, axis=0), rel=1e-12, nan_ok=True)
        if row.backbones == (KNOWN,):
            assert own.hausdorff95.low < own.hausdorff95.estimate < own.hausdorff95.high
        else:
            assert said[1:] == (0.0, len(test), 0.0)
        assert found.dice.estimate == pytest.approx(row.test["dice"].mean, rel=1e-12)
        assert found.ceiling == pytest.approx(row.ceiling, rel=1e-12)


def test_probe__outlines_stay_with_their_jobs_and_are_never_those_of_another_tolerance(
    cache: Path, tmp_path: Path
) -> None:
    first = outlined(cache, tmp_path / "run", 2)
    again = outlined(cache, tmp_path / "run", 2.0)
    assert again.n_reused == first.n_jobs
    assert again.to_json()["classes"] == first.to_json()["classes"]
    assert read_summary(tmp_path / "run").to_json()["classes"] == first.to_json()["classes"]
    wider = outlined(cache, tmp_path / "run", 4)
    assert (wider.n_reused, wider.boundary) == (0, 4.0)
    (found,), (before,) = (each.classes[f"{KNOWN} + segment-linear"] for each in (wider, first))
    assert found.outlines.hausdorff95 == before.outlines.hausdorff95
    assert found.outlines.boundary_dice.estimate > before.outlines.boundary_dice.estimate
    without = outlined(cache, tmp_path / "run", None)
    assert (without.n_reused, without.boundary) == (0, None)
    assert {found.outlines for (found,) in without.classes.values()} == {None}
    assert [row.test for row in without.rows] == [row.test for row in first.rows]


def test_sweep__with_a_mask_that_is_another_jobs_are_fitted_anew(cache: Path, tmp_path: Path) -> None:
    with EmbeddingCache.writing(cache) as store:
        before = {name: store.column(name) for name in ("mask", "group")}
    sweep(cache, tmp_path / "run", ["segment-linear"])
    cells = before["mask"].copy()
    cells[:] = [cell.replace('"1":0', '"1":-1') if place == 0 else cell for place, cell in enumerate(cells)]
    try:
        with EmbeddingCache.writing(cache) as store:
            store.tables.replace({**before, "mask": cells})
        report = sweep(cache, tmp_path / "third", ["segment-linear"])
        keys = [
            {job[3] for job in Run.load(tmp_path / name).described["jobs"] if job[1] == 1} for name in ("run", "third")
        ]
        assert len(keys[0]) == len(keys[1]) == 6
        assert not keys[0] & keys[1]  # at the full size it is trained on, chosen on, or tested, in every draw
        assert report.n_reused == 0
        with pytest.raises(DvmeError, match="another mask"):
            dvme.sweep(
                cache,
                tmp_path / "other",
                heads=["segment-linear"],
                subsets=tmp_path / "run" / "subsets.json",
                runtime=RUNTIME,
                progress=dvme.silent,
            )
    finally:
        with EmbeddingCache.writing(cache) as store:
            store.tables.replace(before)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"heads": ["segment-linear", "linear"]}, "segment-linear segments images and linear classifies them"),
        ({"heads": ["segment-linear", "unett"]}, "unknown head 'unett'; did you mean 'unet'"),
        ({"heads": ["segment-linear"], "metric": "kappa"}, "judged by dice or iou, not by 'kappa'"),
        ({"heads": ["segment-linear"], "by": ["group"]}, "a segmentation cannot have by"),
        ({"heads": ["segment-linear"], "test": ["other.zarr"]}, "a segmentation cannot have test"),
        ({"heads": ["segment-linear"], "metric": "auc"}, "judged by dice or iou, not by 'auc'"),
        ({"heads": ["segment-linear"], "per": "patient"}, "a segmentation cannot have per"),
        ({"heads": ["segment-linear"], "at": "sensitivity=0.8"}, "a segmentation cannot have at"),
        ({"heads": ["segment-linear"], "options": dvme.SubsetOptions(uncertain="ones")}, "cannot have uncertain"),
        ({"heads": ["segment-linear"], "part": "1/2"}, "a segmentation cannot have part"),
        ({"heads": ["linear"], "boundary": 2}, "only masks have outlines: .* leave out boundary"),
        ({"heads": ["segment-linear"], "boundary": 0}, "boundary=0 is not possible; pass a number of pixels, above 0"),
        ({"heads": ["segment-linear"], "boundary": -1.5}, "boundary=-1.5 is not possible"),
        ({"heads": ["segment-linear"], "boundary": float("nan")}, "boundary=nan is not possible"),
        ({"heads": ["segment-linear"], "boundary": float("inf")}, "boundary=inf is not possible"),
        ({"heads": ["segment-linear"], "boundary": True}, "boundary=True is not possible"),
        ({"heads": ["segment-linear"], "boundary": "2"}, "boundary='2' is not possible"),
        ({"heads": ["segment-logistic"]}, "unknown head of segmentation"),
        ({"heads": ["segment-linear"], "backbones": ["plain"]}, "plain gives one vector an image"),
        ({"heads": ["linear"]}, "dense features only: .*; masks take heads=..segment-linear"),
    ],
)
def test_sweep__refuses(cache: Path, tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(DvmeError, match=said) as caught:
        dvme.sweep(cache, tmp_path / "run", runtime=RUNTIME, progress=dvme.silent, **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_sweep__a_cache_without_masks(tmp_path: Path) -> None:
    scene_of(tmp_path, {KNOWN: [np.zeros((4, 2, 2, 3)) + np.arange(4)[:, None, None, None]]}, discs(4, 8))
    with pytest.raises(DvmeError, match="no row with a mask"):
        sweep(tmp_path / "c.zarr", tmp_path / "run")


def test_write_report__has_the_curves_and_no_maps(swept: tuple[Path, Any], cache: Path, tmp_path: Path) -> None:
    out, report = swept
    result = dvme.write_report(out, out=tmp_path / "r.html", cache=cache, progress=dvme.silent)
    assert not [line for line in result.notices if "no maps" in line or "cache" in line]
    assert result.verdict == report.verdict
    assert result.n_points == 0
    html = (tmp_path / "r.html").read_text()
    assert "test Dice" in html
    assert "class of pixels" in html
    assert "Where in the image" in html
    assert "HD95" not in html


def test_sweep__keeps_pictures_of_every_method_that_agree_with_its_counts(swept: tuple[Path, Any], cache: Path) -> None:
    out, _ = swept
    run, store = Run.load(out), EmbeddingCache.open(cache)
    masks, kept = Masks.of(store.column("mask")), pd.read_parquet(out / "predictions.parquet")
    by_id = {row.tobytes().hex(): place for place, row in enumerate(store.samples.ids)}
    assert len(list((out / "pictures").iterdir())) == len(run.methods) == 3
    for method, (head, backbones) in enumerate(run.methods):
        found = run.pictures(method)
        assert found is not None
        assert found.shape == (GRID, GRID)
        assert [each.kind for each in found.images] == [kind for kind in ("best", "median", "worst") for _ in range(3)]
        is_own = (kept["head"] == head) & (kept["backbones"] == "+".join(backbones)) & (kept["size"] == "full")
        own = kept[is_own & (kept["fold"] == run.manifest.draws[0].fold)].set_index("content")["dice(cell)"]
        for each in found.images:
            seen = overlaps(each.planes, masks.read(by_id[each.content]))
            assert each.dice == dice(seen)[0] == own[each.content]
            assert 0 < each.ceiling <= 1
        assert {each.dice for each in found.images if each.kind == "worst"} == set(np.sort(own)[:3])


def test_sweep__fits_again_what_lost_its_pictures(swept: tuple[Path, Any], cache: Path, tmp_path: Path) -> None:
    out, first = swept
    shutil.copytree(out, tmp_path / "run")
    one = min((tmp_path / "run" / "pictures").iterdir())
    before = {file.name: file.read_bytes() for file in one.iterdir()}
    shutil.rmtree(one)
    assert sweep(cache, tmp_path / "run").n_reused == first.n_jobs - 1
    assert {file.name: file.read_bytes() for file in one.iterdir()} == before


def test_compare__two_segmentations(swept: tuple[Path, Any]) -> None:
    out, _ = swept
    found = dvme.compare(out, out)
    assert found.metric == "dice"
    assert {pair.comparison.difference.estimate for pair in found.pairs} == {0.0}
    assert dvme.compare(out, out, metric="iou").metric == "iou"
    for given, said in (({"finding": "cell"}, "over all classes"), ({"metric": "auc"}, "judged by dice or iou")):
        with pytest.raises(DvmeError, match=said):
            dvme.compare(out, out, **given)


def test_subsets__of_masks_are_those_of_the_sweep(swept: tuple[Path, Any], cache: Path, tmp_path: Path) -> None:
    drawn = dvme.subsets(cache, tmp_path / "s.json", options=OPTIONS, masks=True, progress=dvme.silent)
    assert drawn.manifest.hash == Run.load(swept[0]).manifest.hash
    with pytest.raises(DvmeError, match="dense features only"):
        dvme.subsets(cache, options=OPTIONS, progress=dvme.silent)
