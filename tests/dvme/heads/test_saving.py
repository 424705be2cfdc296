from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

import dvme
from dvme.errors import DataError, OptionError
from dvme.heads import HEADS, Embedded, FittedHead, Head, Job, fit_jobs, get_head, written
from dvme.heads.fusion.network_head import NETWORKS, NetworkHead
from dvme.heads.saved_head import SavedFold, SavedHead, subset_hash
from dvme.heads.saving import content_digest, folder_name, load_head, save_head
from dvme.training.schedule import TrainingProtocol
from dvme_cache import Fingerprint

N = 24
BRIEF = TrainingProtocol(min_epochs=1, max_epochs=1)


def _head(name: str) -> Head:
    return NetworkHead(name, BRIEF) if name in NETWORKS else get_head(name)


def _ids(first: int, n: int) -> NDArray[np.uint8]:
    return np.array([[i] * 16 for i in range(first, first + n)], dtype=np.uint8)


@cache
def _data() -> Embedded:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 3
    features = {"a": rng.normal(size=(N, 6)), "b": rng.normal(size=(N, 5))}
    return Embedded({name: values.astype(np.float32) for name, values in features.items()}, labels, 3)


@cache
def _saved(name: str) -> SavedHead:
    """Two folds of six validation rows each, fitted for one epoch where there are epochs."""
    head = _head(name)
    backbones = ("b", "a") if head.is_fusion else ("b",)
    rows = np.arange(18)
    parts = [rows[::3], rows[1::3]]
    jobs = [Job(head, backbones, np.setdiff1d(rows, part), part, seed) for seed, part in enumerate(parts)]
    fitted = fit_jobs(jobs, _data())
    ids = _ids(0, N)
    return SavedHead(
        head=head,
        backbones=backbones,
        dims=_data().dims(backbones),
        fingerprints=tuple(Fingerprint({"weights": backbone, "size": 224, "mean": [0.5]}) for backbone in backbones),
        classes=("0", "no 1", "é"),
        test_hash=subset_hash(ids[18:]),
        folds=[
            SavedFold(
                own, ids[job.train], ids[job.validation], job.seed, {"auc": 0.1 + job.seed, "kappa": float("nan")}
            )
            for own, job in zip(fitted, jobs, strict=True)
        ],
    )


@cache
def _saved_multilabel(name: str) -> SavedHead:
    """The same of three labels that an image may have together, with cells that are not known."""
    rng = np.random.default_rng(1)
    cells = np.where(rng.random((N, 3)) < 0.2, np.nan, rng.integers(0, 2, (N, 3))).astype(np.float32)
    usual = _saved(name)
    rows = np.arange(18)
    parts = [rows[::3], rows[1::3]]
    jobs = [Job(usual.head, usual.backbones, np.setdiff1d(rows, part), part, 0) for part in parts]
    fitted = fit_jobs(jobs, replace(_data(), labels=cells))
    return replace(usual, folds=[replace(fold, head=own) for fold, own in zip(usual.folds, fitted, strict=True)])


@pytest.mark.parametrize("name", HEADS)
def test_load_head__of_several_labels_says_so_and_predicts_to_the_bit(name: str, tmp_path: Path) -> None:
    saved = _saved_multilabel(name)
    loaded = load_head(save_head(tmp_path / name, saved))
    described = _strict((tmp_path / name / "head.json").read_text())
    assert described["format"] == 3
    assert saved.is_multilabel
    assert loaded.is_multilabel
    assert not _saved(name).is_multilabel
    blocks = _data().blocks(saved.backbones, slice(None))
    np.testing.assert_array_equal(loaded.predict_proba(blocks), saved.predict_proba(blocks))
    for fold, before in zip(loaded.folds, saved.folds, strict=True):
        assert fold.head.chosen == before.head.chosen
        np.testing.assert_array_equal(fold.head.log_proba(blocks), before.head.log_proba(blocks))
    assert np.abs(saved.predict_proba(blocks).sum(axis=1) - 1.0).max() > 0.01


def _strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("name", HEADS)
def test_load_head__predicts_to_the_bit_as_before_saving(name: str, tmp_path: Path) -> None:
    saved = _saved(name)
    blocks = _data().blocks(saved.backbones, slice(None))
    before = [fold.head.predict_proba(blocks) for fold in saved.folds]
    assert save_head(tmp_path / "head", saved) == tmp_path / "head"
    loaded = dvme.load_head(tmp_path / "head")
    for fold, expected in zip(loaded.folds, before, strict=True):
        np.testing.assert_array_equal(fold.head.predict_proba(blocks), expected)
    np.testing.assert_array_equal(loaded.predict_proba(blocks), (before[0] + before[1]) / 2)
    assert not np.array_equal(before[0], before[1])


def test_load_head__inverted_lists_have_a_format_of_their_own(tmp_path: Path) -> None:
    usual, rows = _saved("knn"), np.arange(18)
    head = get_head("knn@search=ivf")
    jobs = [Job(head, usual.backbones, rows[start:], rows[:start], 0) for start in (3, 6)]
    folds = [replace(fold, head=own) for fold, own in zip(usual.folds, fit_jobs(jobs, _data()), strict=True)]
    saved = replace(usual, head=head, folds=folds)
    loaded = load_head(save_head(tmp_path / "head", saved))
    assert _strict((tmp_path / "head" / "head.json").read_text())["format"] == 7
    assert loaded.head == head
    blocks = _data().blocks(saved.backbones, slice(None))
    np.testing.assert_array_equal(loaded.predict_proba(blocks), saved.predict_proba(blocks))
    (line,) = loaded.approximations
    assert line.startswith("knn@search=ivf is approximate: recall ")
    assert line in str(loaded)
    assert usual.approximations == []


@pytest.mark.parametrize("name", HEADS)
def test_load_head__everything_else_comes_back_too(name: str, tmp_path: Path) -> None:
    saved = _saved(name)
    loaded = load_head(save_head(tmp_path / "head", saved))
    for field in ("head", "name", "backbones", "dims", "fingerprints", "classes", "test_hash"):
        assert getattr(loaded, field) == getattr(saved, field)
    for fold, original in zip(loaded.folds, saved.folds, strict=True):
        assert type(fold.head) is type(original.head)
        assert fold.head.chosen == original.head.chosen
        assert fold.seed == original.seed
        np.testing.assert_array_equal(fold.train_ids, original.train_ids)
        np.testing.assert_array_equal(fold.validation_ids, original.validation_ids)
        assert fold.metrics["auc"] == original.metrics["auc"]
        assert np.isnan(fold.metrics["kappa"])


def test_save_head__a_loaded_head_saves_the_same_bytes(tmp_path: Path) -> None:
    for name in HEADS:
        first = save_head(tmp_path / name, _saved(name))
        second = save_head(tmp_path / f"{name} again", load_head(first))
        for file in ("head.json", "weights.safetensors"):
            assert (first / file).read_bytes() == (second / file).read_bytes()


def test_save_head__the_description_is_strict_json(tmp_path: Path) -> None:
    folder = save_head(tmp_path / "head", _saved("concat"))
    described = _strict((folder / "head.json").read_text())
    assert described["format"] == 2
    assert described["head"] == "concat"
    assert described["settings"] == json.loads(json.dumps(written(asdict(get_head("concat")))))  # type: ignore[call-overload]
    assert [fold["seed"] for fold in described["folds"]] == [0, 1]
    assert [each["name"] for each in described["backbones"]] == ["b", "a"]
    assert [each["dim"] for each in described["backbones"]] == [5, 6]
    assert [each["digest"] for each in described["backbones"]] == [
        Fingerprint({"mean": [0.5], "size": 224, "weights": name}).digest for name in ("b", "a")
    ]
    assert described["folds"][1]["n_train"] == 12
    assert described["folds"][1]["n_validation"] == 6
    assert described["folds"][0]["test"] == {"auc": 0.1, "kappa": None}
    assert sorted(entry.name for entry in folder.iterdir()) == ["head.json", "weights.safetensors"]


def test_save_head__a_number_that_is_none_comes_back_as_nan(tmp_path: Path) -> None:
    """A network that was trained without validation rows has no validation loss."""
    job = Job(_head("linear-adam"), ("b",), np.arange(9), np.array([], dtype=np.int64))
    (head,) = fit_jobs([job], _data())
    assert np.isnan(head.chosen["validation_loss"])
    nothing = np.empty((0, 16), dtype=np.uint8)
    saved = replace(_saved("linear-adam"), folds=[SavedFold(head, _ids(0, 9), nothing, 0)])
    folder = save_head(tmp_path / "head", saved)
    _strict((folder / "head.json").read_text())
    (fold,) = load_head(folder).folds
    assert np.isnan(fold.head.chosen["validation_loss"])
    assert fold.validation_ids.shape == (0, 16)


def test_save_head__a_setting_that_is_none_stays_none(tmp_path: Path) -> None:
    fitted: Any = _saved("linear").folds[0].head
    head = replace(fitted, chosen={"strength": 0.5, "is_converged": True, "hint": None})
    saved = replace(
        _saved("linear"), folds=[SavedFold(head, _ids(0, 9), _ids(9, 3), 0, {"auc": np.inf, "loss": np.nan})]
    )
    (fold,) = load_head(save_head(tmp_path / "head", saved)).folds
    assert fold.head.chosen == {"strength": 0.5, "is_converged": True, "hint": None}
    assert str(fold.metrics) == "{'auc': inf, 'loss': nan}"


def test_save_head__a_class_that_training_lacked_stays_impossible(tmp_path: Path) -> None:
    train = np.flatnonzero(_data().labels != 2)
    for name in ("linear", "concat", "mean-logits"):
        head = _head(name)
        backbones = ("b", "a") if head.is_fusion else ("b",)
        (fitted,) = fit_jobs([Job(head, backbones, train[:10], train[10:])], _data())
        saved = replace(_saved(name), folds=[SavedFold(fitted, _ids(0, 10), _ids(10, 6), 0)])
        loaded = load_head(save_head(tmp_path / name, saved))
        probabilities = loaded.predict_proba(_data().blocks(backbones, slice(None)))
        assert (probabilities[:, 2] == 0.0).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


def test_save_head__refuses_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(OptionError, match=f"{name} is there already.*; name another folder"):
            save_head(tmp_path / name, _saved("linear"))
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "full"]


def test_save_head__replaces_what_is_there_by_force(tmp_path: Path) -> None:
    place = save_head(tmp_path / "one", _saved("knn"))
    (place / "more.txt").write_text("of the old one")
    assert save_head(place, _saved("linear"), force=True) == place
    assert load_head(place).name == "linear"
    assert {entry.name for entry in place.iterdir()} == {"head.json", "weights.safetensors"}
    interrupted: FittedHead = _Interrupted()  # type: ignore[assignment]
    failing = replace(_saved("linear"), folds=[SavedFold(interrupted, _ids(0, 2), _ids(2, 2), 0)])
    with pytest.raises(KeyboardInterrupt):
        save_head(place, failing, force=True)
    assert load_head(place).name == "linear"  # the old one goes once the new one is whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


def test_save_head__the_job_of_a_sweep_comes_back_and_nothing_is_said_where_there_is_none(tmp_path: Path) -> None:
    first, second = _saved("linear").folds
    place = save_head(tmp_path / "one", replace(_saved("linear"), folds=[replace(first, job="ab12"), second]))
    assert [fold.job for fold in load_head(place).folds] == ["ab12", ""]
    described = json.loads((place / "head.json").read_text())
    assert [fold.get("job") for fold in described["folds"]] == ["ab12", None]


def test_save_head__an_empty_folder_and_new_parents_will_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty", target_is_directory=True)
    for place in (tmp_path / "link", tmp_path / "new" / "parent" / "head"):
        assert load_head(save_head(place, _saved("linear"))).name == "linear"
    assert (tmp_path / "empty" / "head.json").is_file()


class _Interrupted:
    """A fitted head on which the user loses patience while it is described, once its weights are written."""

    chosen: dict[str, Any] = {}  # noqa: RUF012

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"weights": np.zeros(3)}

    def settings(self) -> dict[str, Any]:
        raise KeyboardInterrupt


@pytest.mark.parametrize("is_there", [False, True])
def test_save_head__interrupted_leaves_nothing(tmp_path: Path, is_there: bool) -> None:
    head: FittedHead = _Interrupted()  # type: ignore[assignment]
    saved = replace(_saved("linear"), folds=[SavedFold(head, _ids(0, 2), _ids(2, 2), 0)])
    place = tmp_path / "heads" / "one"
    if is_there:
        place.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        save_head(place, saved)
    left = sorted(str(entry.relative_to(tmp_path)) for entry in tmp_path.rglob("*"))
    assert left == (["heads", "heads/one"] if is_there else [])
    save_head(place, _saved("linear"))  # and nothing is in the way of the next try
    assert [entry.name for entry in place.parent.iterdir()] == ["one"]


def test_save_head__what_a_killed_process_left_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".one.partial").mkdir()
    (tmp_path / ".one.partial" / "weights.safetensors").write_bytes(b"half")
    save_head(tmp_path / "one", _saved("linear"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


def _without_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def _truncated(folder: Path) -> None:
    whole = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(whole[:-7])


def _empty_weights(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"")


def _one_bit(folder: Path) -> None:
    """In the last value: the file is as long as before and valid."""
    whole = bytearray((folder / "weights.safetensors").read_bytes())
    whole[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(bytes(whole))


def _no_json(folder: Path) -> None:
    (folder / "head.json").write_text((folder / "head.json").read_text()[:-20])


def _a_list(folder: Path) -> None:
    (folder / "head.json").write_text("[1, 2]")


def _no_text(folder: Path) -> None:
    (folder / "head.json").write_bytes(b"\xff\xfe\x00{")


def _edited(*, is_sealed: bool = True, **changes: Any) -> Callable[[Path], None]:
    """With the digest that belongs to the changed description, unless that is what is tested."""

    def edit(folder: Path) -> None:
        described = json.loads((folder / "head.json").read_text())
        for name, value in changes.items():
            described[name] = value(described[name]) if callable(value) else value
        described = {name: value for name, value in described.items() if value is not None}
        if is_sealed:
            described["digest"] = content_digest(described)
        (folder / "head.json").write_text(json.dumps(described))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_weights, "cannot be read as a head"),
        (_truncated, "cannot be read as a head"),
        (_empty_weights, "cannot be read as a head"),
        (_one_bit, "does not belong to its head.json"),
        (_no_json, "cannot be read as a head"),
        (_a_list, "cannot be read as a head"),
        (_no_text, "cannot be read as a head"),
        (_edited(format=8), "is of head format 8, this dvme reads 2 to 7; update dvme"),
        (_edited(format=1), "is of head format 1, this dvme reads 2 to 7; save it again with dvme probe --save"),
        (_edited(is_sealed=False, classes=lambda names: names[::-1]), "its head.json was changed after it was written"),
        (_edited(is_sealed=False, digest=None), "cannot be read as a head"),
        (_edited(folds=lambda _: []), "has no folds"),
        (_edited(classes=lambda names: names[:2]), "names 2 classes, its weights.safetensors has 3"),
        (_edited(classes=lambda names: [*names, "x"]), "names 4 classes, its weights.safetensors has 3"),
        (_edited(backbones=lambda some: [some[0], some[0]]), "names its backbones b, b; each must be named once"),
        (_edited(backbones=lambda _: []), "names its backbones not at all"),
        (_edited(backbones=lambda some: [{**some[0], "dim": 4}]), "cannot be read as a head"),
        (_edited(settings=lambda own: {**own, "strengths": []}), "strengths [] are not possible"),
        (_edited(settings=lambda own: {**own, "depth": 3}), "the settings are depth, is_fusion, name, strengths"),
        (_edited(settings=lambda own: {**own, "name": "knn"}), "these are the settings of 'knn', not of 'linear'"),
        (_edited(format=None), "cannot be read as a head"),
        (_edited(head="forest"), "unknown head 'forest'"),
        (_edited(head=None), "cannot be read as a head"),
        (_edited(folds=lambda folds: [*folds, folds[0]]), "cannot be read as a head"),
        (_edited(folds=lambda folds: folds[::-1]), "does not belong to its head.json"),
        (_edited(folds=lambda folds: [{**folds[0], "settings": None}]), "cannot be read as a head"),
        (_edited(backbones=lambda some: [{**some[0], "fingerprint": "?"}]), "cannot be read as a head"),
    ],
)
def test_load_head__damage_is_one_readable_error(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    folder = save_head(tmp_path / "head", _saved("linear"))
    damage(folder)
    with pytest.raises(DataError) as caught:
        load_head(folder)
    assert message in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", HEADS)
def test_load_head__another_number_of_classes_is_noticed_of_every_head(tmp_path: Path, name: str) -> None:
    folder = save_head(tmp_path / "head", _saved(name))
    _edited(classes=lambda names: names[:2])(folder)
    with pytest.raises(DataError, match=r"names 2 classes, its weights\.safetensors has 3"):
        load_head(folder)


def test_load_head__weights_of_another_head_on_the_same_images(tmp_path: Path) -> None:
    """All heads of one probe learn from the same images: only the weights tell them apart."""
    other = replace(_saved("linear"), folds=[*_saved("linear").folds[:1], _other_fold(_saved("linear").folds[1])])
    one, two = save_head(tmp_path / "one", _saved("linear")), save_head(tmp_path / "two", other)
    shutil.copy(two / "weights.safetensors", one / "weights.safetensors")
    with pytest.raises(DataError, match=r"one is damaged: its weights\.safetensors does not belong"):
        load_head(one)


def _other_fold(fold: SavedFold) -> SavedFold:
    arrays = {name: value + 1.0 for name, value in fold.head.arrays().items()}
    return replace(fold, head=type(fold.head).restored(fold.head.settings(), arrays))


@pytest.mark.parametrize("part", ["train_ids", "validation_ids"])
def test_load_head__weights_of_a_head_on_other_images(tmp_path: Path, part: str) -> None:
    """Even if someone brings the digest of the file along."""
    fold = replace(_saved("linear").folds[0], **{part: _ids(200, 3)})
    one = save_head(tmp_path / "one", _saved("linear"))
    two = save_head(tmp_path / "two", replace(_saved("linear"), folds=[fold, _saved("linear").folds[1]]))
    shutil.copy(two / "weights.safetensors", one / "weights.safetensors")
    digest = json.loads((two / "head.json").read_text())["weights_digest"]
    _edited(weights_digest=digest)(one)
    with pytest.raises(DataError, match=r"does not belong to its head\.json"):
        load_head(one)


def test_load_head__what_is_no_head_says_where_heads_are(tmp_path: Path) -> None:
    save_head(tmp_path / "heads" / "linear--b", _saved("linear"))
    save_head(tmp_path / "heads" / "knn--b", _saved("knn"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="heads is not a saved head; it holds knn--b, linear--b: name one of them"):
        load_head(tmp_path / "heads")
    for nothing in ("nowhere", "file"):
        with pytest.raises(DataError, match=f"{nothing} is not a saved head; dvme probe --save makes heads"):
            load_head(tmp_path / nothing)


def test_predict_proba__other_embeddings_are_refused(tmp_path: Path) -> None:
    loaded = load_head(save_head(tmp_path / "head", _saved("concat")))
    with pytest.raises(DataError, match="b has 6 values per image, the head expects 5"):
        loaded.predict_proba(_data().blocks(("a", "b"), slice(None)))
    with pytest.raises(ValueError, match="zip"):
        loaded.predict_proba(_data().blocks(("b",), slice(None)))


def test_subset_hash__is_that_of_a_set() -> None:
    ids = _ids(1, 3)
    expected = hashlib.blake2b(b"\1" * 16 + b"\2" * 16 + b"\3" * 16, digest_size=16).hexdigest()
    assert subset_hash(ids) == subset_hash(ids[[2, 0, 1]]) == expected
    assert subset_hash(ids[:2]) != expected
    assert subset_hash(ids[:0]) == hashlib.blake2b(digest_size=16).hexdigest()


def test_folder_name__is_readable_where_it_can_be() -> None:
    assert folder_name("linear", ["supervised"]) == "linear--supervised"
    assert folder_name("dvme", ["dino@pool=class-token@size=448", "x"]) == "dvme--dino@pool=class-token@size=448+x"
    assert folder_name("knn", ["hf-hub:org/name"]) == "knn--hf-hub%3Aorg%2Fname"
    assert folder_name("linear@strengths=0.1:1.0", ["a"]) == "linear@strengths=0.1%3A1.0--a"


NAMES = st.lists(st.text(min_size=1), min_size=1, max_size=5)


@given(one=NAMES, other=NAMES)
@example(one=["a+b"], other=["a", "b"])
@example(one=["a/b"], other=["a%2Fb"])
@example(one=["x" * 300 + "a"], other=["x" * 300 + "b"])
@example(one=["x" * 150, "y" * 150], other=["x" * 150 + "+" + "y" * 150])
def test_folder_name__is_valid_and_of_one_head_only(one: list[str], other: list[str]) -> None:
    name = folder_name("concat", one)
    assert (name == folder_name("concat", other)) == (one == other)
    assert name != folder_name("mlp", one)
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set('/\\:*?"<>| ')
    assert len(name) <= 200


def test_folder_name__is_taken_by_the_file_system(tmp_path: Path) -> None:
    long = tuple(f"hf-hub:org/{'name' * 30}{m}@pool=class-token@size=448" for m in range(3))
    for backbones in (long, long[::-1], ("a/b", "..", "ü"), ("a", "b/..", "ü")):
        saved = replace(_saved("concat"), backbones=backbones, dims=(5, 4, 2))
        fingerprints = (Fingerprint({}),) * len(backbones)
        save_head(tmp_path / "heads" / folder_name("concat", backbones), replace(saved, fingerprints=fingerprints))
    folders = sorted((tmp_path / "heads").iterdir())
    assert len(folders) == 4
    assert {load_head(folder).backbones for folder in folders} == {
        *(long, long[::-1], ("a/b", "..", "ü"), ("a", "b/..", "ü"))
    }


def test_load_head__settings_that_a_head_did_not_have_yet_are_the_usual_ones(tmp_path: Path) -> None:
    """What an older dvme wrote; and what is written now where nothing is new reads the same there."""
    folder = save_head(tmp_path / "head", _saved("linear"))
    described = json.loads((folder / "head.json").read_text())
    assert set(described["settings"]) == {"strengths", "name", "is_fusion"}
    assert load_head(folder).head == get_head("linear")
