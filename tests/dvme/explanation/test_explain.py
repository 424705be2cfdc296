from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import filed, light, named
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import dvme
from dvme.data.targets import Targets
from dvme.errors import DataError, OptionError
from dvme.explanation import ablation
from dvme.explanation import explain as explaining
from dvme.explanation.ablation import leave_one_out, leave_one_out_retrained
from dvme.explanation.attention_map import block_attention, full_attention
from dvme.explanation.similarity import similarity
from dvme.heads import Embedded, Job
from dvme.heads.fusion.network_head import NetworkHead
from dvme.heads.saved_head import keys_of
from dvme.heads.saving import load_head, save_head
from dvme.training.schedule import TrainingProtocol
from dvme_cache import EmbeddingCache, Fingerprint, FingerprintMismatchError

N = 72
LABELS = np.arange(N) % 3
NAMES = ("a", "b")
GROUPS = [f"patient {row // 3}" for row in range(N)]
SPLITS = ["train"] * 39 + ["val"] * 12 + ["test"] * 21


def _features(name: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(len(name) + ord(name[0]))
    signal = {"a": 1.5, "b": 0.7}[name]
    return (signal * rng.normal(size=(3, 6))[LABELS] + rng.normal(size=(N, 6))).astype(np.float32)


def _ids(rows: NDArray[Any]) -> list[bytes]:
    return [bytes([1, row]) * 8 for row in rows.tolist()]


def _cache(path: Path, rows: NDArray[Any] | None = None, weights: str = "w", **columns: list[str]) -> Path:
    rows = np.arange(N) if rows is None else rows
    with EmbeddingCache.writing(path) as cache:
        places = cache.samples.add(_ids(rows), [f"{row}.png" for row in rows])
        labels = [str(LABELS[row]) for row in rows]
        cache.update_columns(places, {"label": labels, **columns})
        for name in NAMES:
            table = cache.ensure_embeddings(
                name, Fingerprint({"weights": weights, "name": name}), dim=6, dtype="float32", provenance={}
            )
            for shard in table.pending_shards():
                table.commit(shard, _features(name)[rows[shard]], {})
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of two folds, and of a user's split with patients, beside their caches."""
    root = tmp_path_factory.mktemp("study")
    run = partial(dvme.probe, heads=light("dvme", "dvme-tokens", "concat", "linear"), controls=False, n_folds=2)
    run(_cache(root / "folds.zarr"), save=root / "folds")
    split = _cache(root / "split.zarr", split=SPLITS, group=GROUPS)
    run(split, heads=light("dvme-tokens", "concat"), save=root / "split")
    return root


def _strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def _test_rows(head: Path) -> NDArray[np.int64]:
    """What no fold has seen."""
    saved = load_head(head)
    seen = {row.tobytes() for fold in saved.folds for row in (*fold.train_ids, *fold.validation_ids)}
    return np.array([row for row, identity in enumerate(_ids(np.arange(N))) if identity not in seen])


def _own(head: Path) -> tuple[list[Any], list[Job], Embedded]:
    """Fitted heads, jobs and data, put together from what is saved."""
    saved = load_head(head)
    row_of = {identity: row for row, identity in enumerate(_ids(np.arange(N)))}
    jobs = [
        Job(
            saved.head,
            saved.backbones,
            np.array([row_of[one.tobytes()] for one in fold.train_ids]),
            np.array([row_of[one.tobytes()] for one in fold.validation_ids]),
        )
        for fold in saved.folds
    ]
    data = Embedded({name: _features(name) for name in NAMES}, LABELS, 3)
    return [fold.head for fold in saved.folds], jobs, data


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON, where nan is nan."""
    return json.dumps(one) == json.dumps(other)


def test_explain__every_part_is_of_the_test_images(study: Path) -> None:
    head = study / "folds" / filed("dvme-tokens", "a+b")
    test = _test_rows(head)
    report = dvme.explain(head, study / "folds.zarr")
    assert len(test) == report.n_images
    assert report.images == f"the head's {len(test)} test images"
    assert (report.head, report.backbones, report.n_folds) == (named("dvme-tokens"), NAMES, 2)
    heads, jobs, data = _own(head)
    blocks = data.blocks(NAMES, test)
    assert report.attention is not None
    maps = np.stack([block_attention(fitted, blocks).mean(axis=0) for fitted in heads])
    np.testing.assert_allclose(report.attention.overall.mean, maps.mean(axis=0))
    np.testing.assert_allclose(report.attention.overall.folds, maps)
    np.testing.assert_allclose(np.sum(report.attention.overall.mean, axis=1), 1.0)
    for c in range(3):
        members = [block[LABELS[test] == c] for block in blocks]
        expected = np.mean([block_attention(fitted, members).mean(axis=0) for fitted in heads], axis=0)
        np.testing.assert_allclose(report.attention.classes[str(c)].mean, expected)
    assert _same(report.reliance.to_json(), leave_one_out(heads, jobs, data, test).to_json())
    assert _same(report.similarity.to_json(), similarity({n: _features(n)[test] for n in NAMES}).to_json())
    assert (report.retrained, report.full_map) == (None, None)


def test_explain__heads_without_attention(study: Path) -> None:
    report = dvme.explain(study / "folds" / filed("concat", "a+b"), study / "folds.zarr")
    assert report.attention is None
    assert report.to_json()["attention"] is None
    assert [item.backbone for item in report.reliance.left_out] == ["a", "b"]


def test_explain__retrain_fits_the_others_on_the_same_rows(study: Path) -> None:
    head = study / "folds" / filed("concat", "a+b")
    heads, jobs, data = _own(head)
    report = dvme.explain(head, study / "folds.zarr", retrain=True)
    expected = leave_one_out_retrained(heads, jobs, data, _test_rows(head))
    assert report.retrained is not None
    assert report.retrained.is_retrained
    assert not report.reliance.is_retrained
    assert _same(report.retrained.to_json(), expected.to_json())
    # What is left of two backbones without one is a single logistic regression, as good as probe's own.
    assert not _same(report.retrained.to_json()["left_out"], report.reliance.to_json()["left_out"])


def test_explain__patients_are_resampled_whole(study: Path) -> None:
    """21 test images of 7 patients, and of 7 patients and 7 images without one."""
    head = study / "split" / filed("concat", "a+b")
    heads, jobs, data = _own(head)
    test = np.arange(51, N)
    patients = np.array(GROUPS)[test]
    report = dvme.explain(head, study / "split.zarr")
    assert report.n_images == 21
    assert _same(report.reliance.to_json(), leave_one_out(heads, jobs, data, test, groups=patients).to_json())
    # Singles beside patients: an image without one is a group of its own.
    mixed = [group if row % 3 < 2 else "" for row, group in enumerate(GROUPS)]
    with EmbeddingCache.writing(study / "split.zarr") as cache:
        cache.update_columns(np.arange(N), {"group": mixed})
    units = np.array([group or f"single {row}" for row, group in enumerate(mixed)])[test]
    expected = leave_one_out(heads, jobs, data, test, groups=units).to_json()
    found = dvme.explain(head, study / "split.zarr").reliance
    assert len(np.unique(units)) == 14
    for item, other in zip(found.left_out, expected["left_out"], strict=True):
        assert np.isfinite(item.log_loss_difference.low)
        width = item.log_loss_difference.high - item.log_loss_difference.low
        peer = other["log_loss_difference"]["high"] - other["log_loss_difference"]["low"]
        assert width == pytest.approx(peer, rel=0.15)  # the order of the groups, and so the draws, is another
    with EmbeddingCache.writing(study / "split.zarr") as cache:
        cache.update_columns(np.arange(N), {"group": GROUPS})


def test_explain__the_report_is_strict_json_even_where_numbers_are_undefined(study: Path, tmp_path: Path) -> None:
    """One fold has no spread."""
    saved_head = load_head(study / "split" / filed("dvme-tokens", "a+b"))
    head = save_head(tmp_path / "one fold", replace(saved_head, folds=saved_head.folds[:1]))
    report = dvme.explain(head, study / "split.zarr", out=tmp_path / "e.json")
    saved = _strict((tmp_path / "e.json").read_text())
    assert set(saved) == {
        *("head", "backbones", "n_folds", "n_images", "images", "attention", "reliance", "retrained", "similarity"),
        "full_map",
    }
    assert saved["attention"]["overall"]["std_over_folds"] == [[None, None], [None, None]]
    assert saved["reliance"]["left_out"][0]["performance"]["auc"]["std"] is None
    assert saved["attention"]["overall"]["mean"] == np.asarray(report.attention.overall.mean).tolist()  # type: ignore[union-attr]
    assert saved["similarity"]["cka"] == report.similarity.cka.tolist()
    assert (saved["head"], saved["backbones"], saved["n_images"]) == (named("dvme-tokens"), ["a", "b"], 21)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["e.json", "one fold"]


def test_explain__full_map_of_all_tokens(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "FULL_MAP_IMAGES", 4)
    head = study / "folds" / filed("dvme", "a+b")
    report = dvme.explain(head, study / "folds.zarr", full_map=tmp_path / "map.npy")
    attention = np.load(tmp_path / "map.npy")
    assert report.full_map == str(tmp_path / "map.npy")
    assert attention.shape == (1024, 1024)
    np.testing.assert_allclose(attention.sum(axis=1), 1.0, atol=1e-6)
    # Four images evenly over the test set, under the first fold's head: the first, and those a quarter further.
    test = _test_rows(head)
    some = test[[0, len(test) // 4, len(test) // 2, 3 * len(test) // 4]]
    fitted = load_head(head).folds[0].head
    expected = full_attention(fitted, [_features(name)[some] for name in NAMES])
    np.testing.assert_allclose(attention, expected)


def test_explain__full_map_takes_no_image_twice(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer images than the map may take, it is of all of them."""
    taken: list[NDArray[Any]] = []

    def seen(head: object, blocks: list[NDArray[Any]]) -> NDArray[Any]:
        taken.extend(blocks)
        return np.zeros((2, 2))

    monkeypatch.setattr(explaining, "full_attention", seen)
    head = study / "folds" / filed("dvme", "a+b")
    dvme.explain(head, study / "folds.zarr", full_map=tmp_path / "map.npy")
    for name, block in zip(NAMES, taken, strict=True):
        np.testing.assert_array_equal(block, _features(name)[_test_rows(head)])


def test_explain__what_has_no_fusion_or_no_map_is_refused(study: Path, tmp_path: Path) -> None:
    cache = study / "folds.zarr"
    alone = study / "folds" / filed("linear", "a")
    with pytest.raises(OptionError, match=r"--a has one backbone, and without it nothing is left; leave out retrain"):
        dvme.explain(alone, cache, retrain=True)
    (knowing_nothing,) = dvme.explain(alone, cache).reliance.left_out
    assert knowing_nothing.performance.auc.mean == 0.5  # the same probabilities for every image
    for name in ("dvme-tokens", "concat"):
        with pytest.raises(OptionError, match=f"a map of all tokens is of the dvme head, .* is {name}; leave out"):
            dvme.explain(study / "folds" / filed(name, "a+b"), cache, full_map=tmp_path / "m.npy")
    for options, message in (
        ({"out": tmp_path / "e.txt"}, r"does not end in \.json"),
        ({"full_map": tmp_path / "m.json"}, r"does not end in \.npy"),
        ({"out": tmp_path / "no" / "e.json"}, "no is not a folder; make it first"),
    ):
        with pytest.raises(OptionError, match=message):
            dvme.explain(study / "folds" / filed("dvme", "a+b"), cache, **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_explain__a_cache_of_known_images_only(study: Path, tmp_path: Path) -> None:
    head = study / "folds" / filed("concat", "a+b")
    known = np.setdiff1d(np.arange(N), _test_rows(head))
    cache = _cache(tmp_path / "known.zarr", known)
    with pytest.raises(DataError, match="fitted on every labelled image of this cache; pass all_images=True"):
        dvme.explain(head, cache)
    report = dvme.explain(head, cache, all_images=True)
    assert report.n_images == len(known)
    assert report.images == f"all {len(known)} labelled images, those that the head was fitted on among them"


def test_explain__new_images_are_not_called_the_test_images(study: Path, tmp_path: Path) -> None:
    head = study / "folds" / filed("concat", "a+b")
    cache = _cache(tmp_path / "fewer.zarr", np.setdiff1d(np.arange(N), _test_rows(head)[:1]))
    report = dvme.explain(head, cache)
    assert report.images == f"{len(_test_rows(head)) - 1} labelled images new to the head"


def test_explain__images_without_a_label_take_no_part(study: Path, tmp_path: Path) -> None:
    head = study / "folds" / filed("concat", "a+b")
    test = _test_rows(head)
    cache = _cache(tmp_path / "c.zarr")
    with EmbeddingCache.writing(cache) as store:
        store.update_columns(test[:2], {"label": ["", ""]})
    assert dvme.explain(head, cache).n_images == len(test) - 2
    with EmbeddingCache.writing(cache) as store:
        store.update_columns(np.arange(N), {"label": [""] * N})
    with pytest.raises(DataError, match="has no labelled image with embeddings of a, b"):
        dvme.explain(head, cache)


def test_explain__labels_that_the_head_does_not_know(study: Path, tmp_path: Path) -> None:
    cache = _cache(tmp_path / "c.zarr")
    with EmbeddingCache.writing(cache) as store:
        store.update_columns(np.array([5]), {"label": ["melanoma"]})
    with pytest.raises(DataError, match="has class 'melanoma', which the head does not know"):
        dvme.explain(study / "folds" / filed("concat", "a+b"), cache)


def test_explain__the_images_that_the_head_learned_from_are_needed(study: Path, tmp_path: Path) -> None:
    head = study / "folds" / filed("concat", "a+b")
    cache = _cache(tmp_path / "c.zarr", _test_rows(head))
    n_known = sum(len(ids) for ids in (load_head(head).folds[0].train_ids, load_head(head).folds[0].validation_ids))
    with pytest.raises(DataError, match=f"{n_known} images that the head learned from or chose on are not labelled in"):
        dvme.explain(head, cache)


@pytest.mark.parametrize("retrain", [False, True])
def test_explain__the_images_that_the_head_chose_on_are_needed(study: Path, tmp_path: Path, retrain: bool) -> None:
    """Else a head that is fitted again would stop, or choose, by fewer of them or by none."""
    head = study / "split" / filed("dvme-tokens", "a+b")
    cache = _cache(tmp_path / "c.zarr", np.setdiff1d(np.arange(N), [39, 40]))
    with pytest.raises(DataError, match=r"^2 images that the head learned from or chose on are not"):
        dvme.explain(head, cache, retrain=retrain)


def test_explain__retraining_is_the_fit_of_probe(tmp_path: Path) -> None:
    """With all backbones, seed, protocol and rows of a saved head make that head again."""
    cache = _cache(tmp_path / "c.zarr")
    protocol = TrainingProtocol(min_epochs=1, max_epochs=2, batch_size=8, learning_rate=3e-3)
    heads = [NetworkHead("dvme-noattn", protocol)]
    dvme.probe(cache, heads=heads, controls=False, n_folds=2, seed=5, save=tmp_path / "heads")
    (head,) = (tmp_path / "heads").iterdir()
    saved = load_head(head)
    assert saved.head == NetworkHead("dvme-noattn", protocol)
    seeds = [int(np.random.SeedSequence([5, 1, fold]).generate_state(1)[0]) for fold in (1, 2)]
    assert [fold.seed for fold in saved.folds] == seeds
    jobs: list[Job] = []
    fit = ablation.fit_jobs

    def watched(some: list[Job], data: Embedded, **options: Any) -> Any:
        jobs.extend(some)
        return fit(some, data, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "fit_jobs", watched)
        one, other = (dvme.explain(head, cache, retrain=True).retrained for _ in range(2))
    assert {(job.head, job.seed) for job in jobs} == {(NetworkHead("dvme-noattn", protocol), seed) for seed in seeds}
    assert one is not None
    assert other is not None
    assert _same(one.to_json(), other.to_json())
    # The head itself, fitted again as its saved settings say, is the saved one.
    _, own, data = _own(head)
    pairs = zip(own, saved.folds, strict=True)
    refitted_heads = fit([replace(job, head=saved.head, seed=fold.seed) for job, fold in pairs], data)
    for fold, refitted in zip(saved.folds, refitted_heads, strict=True):
        for name, array in fold.head.arrays().items():
            np.testing.assert_allclose(refitted.arrays()[name], array, atol=1e-6)


@pytest.mark.parametrize("option", ["out", "full_map"])
def test_explain__files_that_are_there_stay_without_force(study: Path, tmp_path: Path, option: str) -> None:
    head, cache = study / "folds" / filed("dvme", "a+b"), study / "folds.zarr"
    place = tmp_path / ("e.json" if option == "out" else "m.npy")
    place.write_text("mine")
    options: dict[str, Any] = {option: place}
    with pytest.raises(OptionError, match=f"{place.name} is there already; name another file, or pass force=True"):
        dvme.explain(head, cache, **options)
    assert place.read_text() == "mine"
    dvme.explain(head, cache, **options, force=True)
    assert place.read_bytes() != b"mine"
    place.unlink()
    place.mkdir()
    with pytest.raises(OptionError, match=f"{place.name} is a folder; name a file"):
        dvme.explain(head, cache, **options, force=True)


def test_explain__too_few_images_are_refused_before_anything_is_fitted(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted")

    monkeypatch.setattr(ablation, "fit_jobs", never)
    head = study / "folds" / filed("concat", "a+b")
    cache = _cache(tmp_path / "c.zarr", np.setdiff1d(np.arange(N), _test_rows(head)[3:]))
    with pytest.raises(DataError, match="N >= 4"):
        dvme.explain(head, cache, retrain=True)


def test_explain__embeddings_made_in_another_way(study: Path, tmp_path: Path) -> None:
    with pytest.raises(FingerprintMismatchError, match=r"a in .* weights is 'mine', the head's is 'w'"):
        dvme.explain(study / "folds" / filed("concat", "a+b"), _cache(tmp_path / "c.zarr", weights="mine"))


def test_explain__several_findings(several: Path) -> None:
    """Losses are means over known cells, AUCs means over findings, both by scikit-learn."""
    head = next((several / "run" / "heads").glob("concat*"))
    report = dvme.explain(head, several / "c.zarr")
    saved, store = load_head(head), EmbeddingCache.open(several / "c.zarr")
    known = np.isin(keys_of(store.samples.ids), keys_of(saved.fitted_ids))
    rows = np.flatnonzero(~known)
    truth = Targets.of(store.column("label"), saved.classes).values[rows]
    blocks = [store.embeddings(name).read(rows) for name in saved.backbones]
    losses, aucs = [], []
    for fold in saved.folds:
        p = fold.head.predict_proba(blocks)
        cells = -np.where(truth == 1.0, np.log(p), np.log(1.0 - p))
        losses.append(np.nanmean(np.nanmean(np.where(np.isnan(truth), np.nan, cells), axis=1)))
        columns = [(truth[:, c], p[:, c], ~np.isnan(truth[:, c])) for c in range(3)]
        aucs.append(np.mean([roc_auc_score(t[some], own[some]) for t, own, some in columns]))
    assert report.n_images == len(rows)
    assert report.reliance.intact.log_loss.folds == pytest.approx(losses)
    assert report.reliance.intact.auc.folds == pytest.approx(aucs)
    without = {each.backbone: each for each in report.reliance.left_out}
    assert without["good"].auc_difference.high < 0.0 < without["good"].log_loss_difference.low
    assert without["noise"].auc_difference.low < 0.0 < without["noise"].auc_difference.high
    again = dvme.explain(head, several / "c.zarr", retrain=True)
    assert again.retrained is not None
    assert {each.backbone for each in again.retrained.left_out} == {"good", "noise"}


def test_explain__what_a_cache_does_not_record_is_unknown(tmp_path: Path, several: Path) -> None:
    """A head of three findings on a cache of one: the others take no part, as if their cells were empty."""
    head = next((several / "run" / "heads").glob("concat*"))
    losses = []
    classes = load_head(head).classes
    assert classes[0] == "Edema"
    for name, rest in (("fewer", ""), ("empty", "".join(f"{other}=|" for other in classes[1:]))):
        shutil.copytree(several / "c.zarr", tmp_path / name)
        with EmbeddingCache.writing(tmp_path / name) as store:
            has_it = ["Edema" in label and "Edema=" not in label for label in store.column("label")]
            texts = [f"|Edema|{rest}" if has else f"|{rest}" for has in has_it]
            order = ("Edema",) if not rest else classes
            store.update_columns(np.arange(len(texts)), {"label": texts}, class_order=order)
        losses.append(dvme.explain(head, tmp_path / name).reliance.intact.log_loss.mean)
    assert losses[0] == pytest.approx(losses[1])


def test_explain__findings_that_no_image_can_judge(tmp_path: Path, several: Path) -> None:
    head = next((several / "run" / "heads").glob("linear*--good"))
    shutil.copytree(several / "c.zarr", tmp_path / "c.zarr")
    saved = load_head(head)
    with EmbeddingCache.writing(tmp_path / "c.zarr") as store:
        new = np.flatnonzero(~np.isin(keys_of(store.samples.ids), keys_of(saved.fitted_ids)))
        store.update_columns(new, {"label": ["|Edema|"] * len(new)})
    with pytest.raises(DataError, match="no finding can be judged on these 48 images: it takes 3"):
        dvme.explain(head, tmp_path / "c.zarr")
    with EmbeddingCache.writing(tmp_path / "c.zarr") as store:
        store.update_columns(np.arange(240), {"label": ["Edema"] * 240})
    with pytest.raises(DataError, match="have one class each, and those that the head was fitted on had several"):
        dvme.explain(head, tmp_path / "c.zarr")
