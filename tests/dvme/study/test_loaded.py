"""What was predicted of each image against slow loops, and what becomes of a run whose cache is gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dvme
from dvme.errors import DataError
from dvme.study.loaded import Study
from dvme_cache import CacheError, EmbeddingCache


def test_predicted__means_of_heads_that_did_not_learn_from_the_image(clear_study: Study) -> None:
    run, manifest = clear_study.run, clear_study.run.manifest
    predicted = clear_study.predicted(2)
    test = set(manifest.test.tolist())
    for image in range(len(manifest.images)):
        found = []
        for own, job in zip(manifest.draws, run.finished[2, 1], strict=True):
            if image in test:
                found.append(job.test[manifest.test.tolist().index(image)])
            validation = manifest.validation(own, 1).tolist()
            if image in validation:
                found.append(job.validation[validation.index(image)])
                assert image not in manifest.train(own, 1)
        np.testing.assert_allclose(predicted[image], np.mean(found, axis=0), rtol=1e-6)
        assert len(found) == (3 if image in test else 1)


def test_sides__test_and_the_folds(clear_study: Study) -> None:
    sides = clear_study.sides()
    assert set(sides) == {"test", "fold 1", "fold 2", "fold 3"}
    assert np.flatnonzero(sides == "test").tolist() == sorted(clear_study.run.manifest.test.tolist())


def test_leaders__of_the_largest_size(clear_study: Study) -> None:
    validation = {m: clear_study.judge.validation[m, 1] for m in range(3)}
    assert clear_study.lead == max(validation, key=lambda m: validation[m])
    assert clear_study.leaders.of([1]) == 1


def test_load__rows_are_the_manifests_images(clear_study: Study) -> None:
    assert clear_study.store is not None
    np.testing.assert_array_equal(clear_study.store.samples.ids[clear_study.rows], clear_study.run.manifest.images)
    assert clear_study.notices == ()


def test_load__without_its_cache(clear: Path, tmp_path: Path) -> None:
    shutil.copytree(clear, tmp_path / "copy")
    shutil.move(tmp_path / "copy" / "c.zarr", tmp_path / "moved.zarr")
    run = tmp_path / "copy" / "run"
    text = (run / "run.json").read_text().replace(str(clear / "c.zarr"), str(tmp_path / "copy" / "c.zarr"))
    (run / "run.json").write_text(text)
    study = Study.load(run)
    assert study.store is None
    assert "no maps and no images" in study.notices[0]
    assert "name it with cache" in study.notices[0]
    assert Study.load(run, tmp_path / "moved.zarr").store is not None
    with pytest.raises(CacheError):
        Study.load(run, tmp_path / "nowhere.zarr")


def test_load__a_cache_of_other_embeddings_is_not_served(clear: Path, tmp_path: Path) -> None:
    """The same images, extracted again with other weights."""
    from dvme_cache import Fingerprint

    shutil.copytree(clear / "c.zarr", tmp_path / "c.zarr")
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        cache.remove_embeddings("noise")
        table = cache.ensure_embeddings("noise", Fingerprint({"weights": "new"}), dim=8, dtype="float32", provenance={})
        for shard in table.pending_shards():
            table.commit(shard, np.ones((len(shard), 8), dtype=np.float32), {})
    with pytest.raises(DataError, match="does not hold the embeddings of noise that this run was made from"):
        Study.load(clear / "run", tmp_path / "c.zarr")
    shutil.copytree(clear / "run", tmp_path / "run")
    text = (tmp_path / "run" / "run.json").read_text().replace(str(clear / "c.zarr"), str(tmp_path / "c.zarr"))
    (tmp_path / "run" / "run.json").write_text(text)
    study = Study.load(tmp_path / "run")
    assert study.store is None
    assert "does not hold the embeddings of noise" in study.notices[0]
    assert study.notices[0].endswith("weights and settings; if the run's own cache lies elsewhere, name it with cache")


def test_load__a_run_that_was_moved_with_its_cache(clear: Path, tmp_path: Path) -> None:
    shutil.copytree(clear, tmp_path / "moved")
    run = tmp_path / "moved" / "run"
    text = (run / "run.json").read_text().replace(str(clear / "c.zarr"), "elsewhere/c.zarr")
    (run / "run.json").write_text(text)
    store = Study.load(run).store
    assert store is not None
    assert store.location == str(tmp_path / "moved" / "c.zarr")


def test_load__not_a_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run"):
        dvme.write_report(tmp_path, out=tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_judge__of_patients_says_what_the_sweep_said(sweep_of: Callable[..., Path]) -> None:
    """More than ten patients for testing, whose numbers sort otherwise as texts."""
    groups = [f"p{image // 3:02d}" for image in range(240)]
    study = Study.load(sweep_of({"a": 0.5}, ["linear"], group=groups) / "run")
    assert len(set(study.run.test_groups)) > 12
    assert [each.interval for each in study.judge.cells()] == [each.interval for each in study.summary.cells]


def test_groups__of_test_images_are_the_runs_whatever_the_cache_says_now(
    sweep_of: Callable[..., Path], tmp_path: Path
) -> None:
    groups = np.array([f"p{image // 3:02d}" for image in range(240)], dtype=object)
    root = sweep_of({"a": 0.5}, ["linear"], sizes=["full"], group=groups.tolist())
    assert Study.load(root / "run").groups.tolist() == groups.tolist()

    def relabelled(name: str, now: list[str]) -> Study:
        shutil.copytree(root / "c.zarr", tmp_path / name)
        with EmbeddingCache.writing(tmp_path / name) as cache:
            cache.update_columns(np.arange(240), {"group": now})
        return Study.load(root / "run", tmp_path / name)

    renamed = [f"patient {group}" for group in groups]
    assert relabelled("renamed.zarr", renamed).groups.tolist() == renamed
    test = Study.load(root / "run").run.manifest.test
    others = np.where(np.isin(np.arange(240), test), "all of one patient", renamed).tolist()
    study = relabelled("others.zarr", others)
    rest = np.setdiff1d(np.arange(240), test)
    assert study.groups[rest].tolist() == np.array(others)[rest].tolist()
    parts = study.groups[test]
    assert [[one == other for one in parts] for other in parts] == [
        [one == other for one in groups[test]] for other in groups[test]
    ]
