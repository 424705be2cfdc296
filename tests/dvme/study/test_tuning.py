"""Fine-tuning as one more line of the table: same draws, same test images, same test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

import dvme
import dvme.backbones.loading.trainable as trainable_module
from dvme.errors import DataError, OptionError
from dvme.heads import Embedded, Job, get_head
from dvme.heads.tuned.classifier import Classifier
from dvme.heads.tuned.finetune import Finetune
from dvme.heads.tuned.on_images import embedded
from dvme.heads.tuned.starts import linear_start
from dvme.runtime import Runtime, silent
from dvme.study.design.snapshot import Snapshot
from dvme.study.fitting import Assignment
from dvme.study.methods import make_methods, sampled
from dvme.study.tuning import fit_all
from dvme_cache import EmbeddingCache

LITE = "efficientnet-lite0@size=32"
"""Real weights, on pictures a fiftieth as large as published: how good they are is not what is tested."""
TUNED = "finetune@learning-rates=0.0003@max-epochs=2"
TINY = """
name = "tiny"
architecture = "test_resnet"
pooling = "average"
[preprocess]
resize = 36
crop = 32
[checkpoint]
filename = "tiny.pth"
"""
SHORT = "finetune@learning-rates=0.0003@max-epochs=1@warmup-epochs=0"
DRAWN = {"sizes": ("9",), "n_folds": 3, "test_fraction": 0.34}
DRAWN_TWICE = dvme.SubsetOptions(sizes=("9",), n_folds=2, test_fraction=0.34)
RUNTIME = Runtime(device="cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, save_image: Callable[..., Path]) -> Path:
    """36 images and the caches of two backbones, for tests that change nothing of it."""
    root = tmp_path_factory.mktemp("tuning")
    for level, name in enumerate(("dark", "grey", "light")):
        for index in range(12):
            save_image(root / "images" / name / f"{index:02}.png", seed=100 * level + index, level=level)
    dvme.extract(root / "images", root / "c.zarr", backbones=[LITE], runtime=RUNTIME)
    (root / "tiny.toml").write_text(TINY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), root / "tiny.pth")
    dvme.extract(root / "images", root / "tiny.zarr", backbones=[root / "tiny.toml"], runtime=RUNTIME)
    return root


@pytest.fixture(scope="module")
def folder(made: Path) -> Path:
    """Of the images; what a test changes it restores."""
    return made / "images"


@pytest.fixture(scope="module")
def cache(made: Path) -> Path:
    return made / "c.zarr"


@pytest.fixture(scope="module")
def tiny(made: Path) -> Path:
    """As `cache`, of a network that is trained in no time."""
    return made / "tiny.zarr"


@pytest.fixture
def own_cache(cache: Path, tmp_path: Path) -> Path:
    """A copy of `cache`, to be changed."""
    shutil.copytree(cache, tmp_path / "own.zarr")
    return tmp_path / "own.zarr"


@pytest.fixture
def own_tiny(tiny: Path, tmp_path: Path) -> Path:
    """A copy of `tiny`, to be changed."""
    shutil.copytree(tiny, tmp_path / "own-tiny.zarr")
    return tmp_path / "own-tiny.zarr"


def sweep(cache: Path, out: Path, heads: list[str], **options: Any) -> Any:
    given = {"options": dvme.SubsetOptions(**DRAWN), "runtime": RUNTIME, "progress": silent} | options
    return dvme.sweep(cache, out, heads=heads, **given)


def test_sweep__stands_beside_the_heads_and_is_gone_on_with(tiny: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    first = sweep(tiny, tmp_path / "run", ["linear", TUNED], progress=lambda *each: told.append(each))
    assert [(done, total) for stage, done, total in told if stage == "train"] == [(each, 6) for each in range(1, 7)]
    assert [done for stage, done, _ in told if stage == "read images"] == list(range(37))
    jobs = [(done, total) for stage, done, total in told if stage == "sweep"]
    assert (jobs[0], jobs[-1], jobs) == ((0, 6), (6, 6), sorted(jobs))
    assert [cell.head for cell in first.cells] == ["linear", TUNED]
    frozen, tuned = first.cells
    assert tuned.n_parameters > 100_000 > frozen.n_parameters
    assert tuned.seconds > frozen.seconds
    assert all(chosen["epoch"] in {0, 1, 2} and chosen["n_epochs"] == 2 for chosen in tuned.chosen)
    assert all(chosen["n_trained"] > 100_000 for chosen in tuned.chosen)
    assert "leads on validation among frozen backbones, on the only backbone" in first.findings.verdict
    again = sweep(tiny, tmp_path / "run", ["linear", TUNED])
    assert again.n_reused == again.n_jobs == 6
    assert [cell.test for cell in again.cells] == [cell.test for cell in first.cells]
    other = sweep(tiny, tmp_path / "other", [TUNED])
    assert other.cells[0].chosen == tuned.chosen, "company changes nothing"
    assert other.findings.answers[0].answer == "None was tried as it is"


def test_start__has_the_logits_of_the_cached_head(cache: Path) -> None:
    """Before the first step the network is the frozen backbone under its exact linear head."""
    from dvme.backbones.loading.kept import kept_spec
    from dvme.backbones.loading.trainable import trainable
    from dvme.extraction.decoding import Work
    from dvme.extraction.pictures import read_pictures

    snapshot = Snapshot.take(EmbeddingCache.open(cache), [LITE])
    spec = kept_spec(snapshot.backbones[LITE])
    work = [
        Work(n, Path(path), digest.tobytes())
        for n, (path, digest) in enumerate(zip(snapshot.paths, snapshot.ids, strict=True))
    ]
    pictures = read_pictures(work, spec, RUNTIME, lambda *_: None, 2**30)
    targets, every = snapshot.targets(), np.arange(len(snapshot))
    data = Embedded({LITE: snapshot.read(LITE)}, targets.values, 3)
    job = Job(Finetune(), (LITE,), every[::2], every[1::4], 0)
    start = linear_start(job, data, RUNTIME, "softmax")
    model = trainable(spec, device="cpu")
    layer = Classifier(start, data.embeddings[LITE][job.train].mean(axis=0))
    features = embedded(model, pictures, every)
    cached = start.logits(data.embeddings[LITE])
    import torch

    with torch.no_grad():
        found = layer(torch.from_numpy(features)).numpy()
    assert np.abs(found - cached).max() < 1e-4


def test_fit_all__test_labels_are_never_looked_at(tiny: Path) -> None:
    snapshot = Snapshot.take(EmbeddingCache.open(tiny), ["tiny"])
    targets = snapshot.targets()
    test = np.arange(0, len(snapshot), 3)
    train, validation = np.arange(1, len(snapshot), 3), np.arange(2, len(snapshot), 3)
    methods = make_methods(["finetune@learning-rates=0.001@max-epochs=2"], ["tiny"], with_controls=False)
    others = targets.values.copy()
    others[test] = (others[test] + 1) % 3
    found = []
    for own in (targets, replace(targets, values=others)):
        given = [Assignment(methods[0], train, validation, 7)], snapshot, own, test
        found += fit_all(*given, runtime=RUNTIME, budget=2**30, progress=silent)
    np.testing.assert_array_equal(found[0].log_test, found[1].log_test)
    np.testing.assert_array_equal(found[0].log_validation, found[1].log_validation)


def test_sweep__images_that_are_gone_or_changed(tiny: Path, folder: Path, tmp_path: Path) -> None:
    changed = folder / "dark" / "03.png"
    content = changed.read_bytes()
    changed.write_bytes(content + b" ")
    with pytest.raises(DataError, match=r"03\.png"):
        sweep(tiny, tmp_path / "run", [TUNED])
    changed.unlink()
    with pytest.raises(DataError, match=r"03\.png"):
        sweep(tiny, tmp_path / "run", [TUNED])
    changed.write_bytes(content)
    assert sweep(tiny, tmp_path / "run", [TUNED]).n_jobs == 3


def test_sweep__another_backbone_than_the_cached_one_is_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trainable_module.trainable
    monkeypatch.setattr(
        trainable_module, "trainable", lambda spec, **given: original(spec, **given | {"random_seed": 1})
    )
    with pytest.raises(DataError, match=r"gives other embeddings here than the cached ones"):
        sweep(tiny, tmp_path / "run", [TUNED])


@pytest.mark.parametrize(("oversample", "expected"), [(None, "auto"), (True, "oversampled"), (False, "shuffled")])
def test_sampled__as_the_subsets_want_it(oversample: bool | None, expected: str) -> None:
    (method,) = make_methods(["finetune"], [LITE], with_controls=False)
    assert sampled(method, oversample).settings["recipe"]["sampling"] == expected


def test_sweep__what_cannot_be_tuned(cache: Path, small_study: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"runs in this process; leave out engine; or leave it out of heads"):
        sweep(cache, tmp_path / "run", [TUNED], runtime=Runtime(device="cpu", engine="ray"))
    with pytest.raises(OptionError, match="no setting 'epochs'; did you mean 'min-epochs'"):
        get_head("finetune@epochs=3")
    with pytest.raises(OptionError, match=r"keeps nothing that could be saved \(heads that average over ten"):
        dvme.probe(cache, heads=[f"{TUNED}@test-crops=ten"], save=tmp_path / "heads", runtime=RUNTIME)
    assert not (tmp_path / "heads").exists()
    with pytest.raises(DataError, match=r"cannot train what made these embeddings \(.*\); leave it out of heads"):
        sweep(small_study / "c.zarr", tmp_path / "run", [TUNED])
    assert not (tmp_path / "run").exists()


def test_sweep__weights_of_which_nobody_knows_where_they_lie(folder: Path, tmp_path: Path) -> None:
    """Extraction by an architecture's name keeps its name, and not the place of the file."""
    import timm
    import torch

    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "own.pth")
    given = {"architectures": {"own": "test_resnet"}, "weights": {"own": tmp_path / "own.pth"}}
    dvme.extract(folder, tmp_path / "c.zarr", backbones=["own"], runtime=RUNTIME, **given)
    with pytest.raises(DataError, match="does not know where they lie; extract by a TOML file beside them"):
        sweep(tmp_path / "c.zarr", tmp_path / "run", [TUNED])


def test_sweep__images_of_which_nobody_knows_where_they_lie(own_tiny: Path, tmp_path: Path) -> None:
    with EmbeddingCache.writing(own_tiny) as store:
        store.update_columns(np.arange(3), {"path": ["a.png", "b.png", ""]})
    with pytest.raises(DataError, match=r"does not know where 3 of 36 images lie, such as a\.png"):
        sweep(own_tiny, tmp_path / "run", [TUNED])


def test_sweep__is_refused_before_other_heads_are_fitted(tiny: Path, folder: Path, tmp_path: Path) -> None:
    heads = ["linear", "finetune@max-epochs=2"]
    changed = folder / "light" / "11.png"
    content = changed.read_bytes()
    changed.write_bytes(b"none")
    with pytest.raises(DataError, match=r"1 of 36 images cannot be trained on; the first is .*11\.png: not what was"):
        sweep(tiny, tmp_path / "run", heads)
    changed.write_bytes(content)
    with pytest.raises(OptionError, match=r"finetune on tiny takes .* of 9 images, and may take .*; choose .*memory"):
        sweep(tiny, tmp_path / "run", heads, runtime=Runtime(device="cpu", memory=1_000_000))
    assert not list((tmp_path / "run" / "jobs").glob("*"))


def test_sweep__pixels_that_memory_does_not_hold_lie_beside_the_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"heads": [SHORT], "n_folds": 2, "test_fraction": 0.34, "runtime": RUNTIME}
    expected = dvme.probe(tiny, **given)
    monkeypatch.setattr("dvme.study.tuning.check_backbone", lambda *_: 1000)
    found = dvme.probe(tiny, out=tmp_path / "run", **given)
    assert [cell.test for cell in found.cells] == [cell.test for cell in expected.cells]
    assert not (tmp_path / "run" / "training").exists()
    with pytest.raises(DataError, match=r"the pixels of 36 images for .* and may take 1,000, enough for 0; "):
        dvme.probe(tiny, **given)


def test_sweep__parts_leave_the_work_of_others(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for number in (1, 2):
        sweep(tiny, run, [SHORT], part=f"{number}/2")
        assert (run / "training" / "other").exists() is (number == 2)
        (run / "training" / "other").mkdir(parents=True, exist_ok=True)
    found = sweep(tiny, run, [SHORT])
    assert found.n_reused == found.n_jobs
    assert not (run / "training").exists()


def test_sweep__controls_and_parts_of_the_backbone(tiny: Path, tmp_path: Path) -> None:
    quick = "@learning-rates=0.0003@max-epochs=1@warmup-epochs=0.0"
    names = ["finetune-scratch-head", "finetune-random", "finetune@layers=last-1"]
    run = sweep(tiny, tmp_path / "run", [name + quick for name in names], options=DRAWN_TWICE)
    cells = dict(zip(names, run.cells, strict=True))
    whole = cells["finetune-random"].chosen[0]["n_trained"]
    assert all(0.0 <= cell.test["auc"].mean <= 1.0 for cell in run.cells)
    assert all(chosen["n_trained"] < whole for chosen in cells["finetune@layers=last-1"].chosen)
    assert len({cell.chosen[0]["validation_loss"] for cell in run.cells}) == 3


def test_fit_all__ten_crops_are_averaged_after_the_choice(tiny: Path) -> None:
    snapshot = Snapshot.take(EmbeddingCache.open(tiny), ["tiny"])
    rows = np.arange(len(snapshot))
    quick = "@learning-rates=0.0003@max-epochs=1@warmup-epochs=0.0"
    methods = make_methods(["finetune" + quick, "finetune@test-crops=ten" + quick], ["tiny"], with_controls=False)
    assigned = [Assignment(method, rows[1::3], rows[2::3], 7) for method in methods]
    given = snapshot, snapshot.targets(), rows[::3]
    one, ten = fit_all(assigned, *given, runtime=RUNTIME, budget=2**30, progress=silent)
    assert one.chosen == ten.chosen, "on one crop"
    np.testing.assert_allclose(np.exp(ten.log_test).sum(axis=1), 1.0, atol=1e-5)
    assert np.abs(np.exp(ten.log_test) - np.exp(one.log_test)).max() > 1e-4


def test_sweep__lora_on_a_convolutional_backbone_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="lora_rank is for transformers, and this backbone has no attention"):
        sweep(tiny, tmp_path / "run", ["finetune@lora-rank=2"])


def test_sweep__classes_in_order(own_tiny: Path, tmp_path: Path) -> None:
    """Before any step it is the cumulative head; a rate of almost nothing leaves it there."""
    dvme.cache.label(own_tiny, None, class_order=("dark", "grey", "light"))
    still = "finetune@link=cumulative@learning-rates=1e-12@max-epochs=1@warmup-epochs=0.0"
    run = sweep(own_tiny, tmp_path / "run", ["linear@link=cumulative", still], options=DRAWN_TWICE)
    linear, tuned = (cell.test["auc"].mean for cell in run.cells)
    assert linear == pytest.approx(tuned, abs=1e-3)


def test_sweep__a_view_of_the_images_is_refused(own_cache: Path, folder: Path, tmp_path: Path) -> None:
    dvme.extract(folder, own_cache, backbones=[LITE + "@view=1"], runtime=RUNTIME)
    with pytest.raises(OptionError, match=r"moves images itself, and .*@view=1 is a view"):
        sweep(own_cache, tmp_path / "run", [TUNED], backbones=[LITE + "@view=1"])
