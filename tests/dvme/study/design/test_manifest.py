from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme.data.targets import Targets
from dvme.errors import DataError
from dvme.study.design.manifest import FoldDraw, SubsetManifest


def _ids(n: int) -> Any:
    return np.arange(16 * n, dtype=np.uint8).reshape(n, 16)


ONE_EACH = Targets(("healthy", "sick"), np.arange(8) % 2)
SEVERAL = Targets(
    ("healthy", "sick"), np.array([[1, 1], [0, 0], [0, 1], [1, 0], [1, 1], [0, 0], [0, 0], [1, 0]], np.float32)
)


def _manifest(**changes: Any) -> SubsetManifest:
    draws = (
        FoldDraw(1, 1, np.array([0, 1, 2, 3]), np.array([4, 5]), (2, 4), (1, 2)),
        FoldDraw(1, 2, np.array([4, 5, 2, 3]), np.array([0, 1]), (2, 4), (1, 2)),
    )
    found = SubsetManifest(
        images=_ids(8),
        targets=ONE_EACH,
        sizes=("2", "full (F)"),
        test=np.array([6, 7]),
        draws=draws,
        policy={"balance": "balanced", "seed": 0, "separator": None},
        notices=("a line",),
    )
    return replace(found, **changes)


def _draws(**changes: Any) -> tuple[FoldDraw, ...]:
    first, second = _manifest().draws
    return replace(first, **changes), second


def _content(manifest: SubsetManifest) -> dict[str, Any]:
    return json.loads(json.dumps(vars(manifest), default=_plain))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else vars(value)


def _labelled(position: int, label: int) -> Targets:
    values = ONE_EACH.values.copy()
    values[position] = label
    return replace(ONE_EACH, values=values)


CHANGES: dict[str, dict[str, Any]] = {
    "another image": {"images": _ids(8)[::-1]},
    "another label": {"targets": _labelled(0, 1)},
    "another name of a class": {"targets": replace(ONE_EACH, classes=("healthy", "ill"))},
    "several labels": {"targets": SEVERAL},
    "another name of a size": {"sizes": ("2", "full")},
    "other test images": {"test": np.array([7, 6])},
    "another policy": {"policy": {"balance": "balanced", "seed": 1, "separator": None}},
    "a draw less": {"draws": _manifest().draws[:1]},
    "another repeat": {"draws": _draws(repeat=2)},
    "another fold": {"draws": _draws(fold=3)},
    "another order": {"draws": _draws(train=np.array([1, 0, 2, 3]))},
    "another order to choose on": {"draws": _draws(validation=np.array([5, 4]))},
    "a training image less": {"draws": _draws(n_train=(1, 4))},
    "a validation image less": {"draws": _draws(n_validation=(1, 1))},
}


def test_hash__is_that_of_the_content_alone() -> None:
    assert len(_manifest().hash) == 32
    assert _manifest().hash == _manifest(notices=("another",)).hash
    # Of the same content in other numbers and containers.
    assert _manifest(test=np.array([6, 7], dtype=np.int32)).hash == _manifest().hash


@pytest.mark.parametrize("change", CHANGES)
def test_hash__another_with_any_change(change: str) -> None:
    assert _manifest(**CHANGES[change]).hash != _manifest().hash


def test_hash__every_field_is_changed_above() -> None:
    changed = {name for change in CHANGES.values() for name in change}
    assert changed == {field.name for field in fields(SubsetManifest)} - {"notices"}


def test_train_and_validation__are_beginnings() -> None:
    manifest = _manifest()
    first = manifest.draws[0]
    assert manifest.train(first, 0).tolist() == [0, 1]
    assert manifest.train(first, 1).tolist() == [0, 1, 2, 3]
    assert manifest.validation(first, 0).tolist() == [4]


def test_save__comes_back(tmp_path: Path) -> None:
    manifest = _manifest()
    manifest.save(tmp_path / "s.json")
    back = SubsetManifest.load(tmp_path / "s.json")
    assert back.hash == manifest.hash
    assert _content(back) == _content(manifest)
    assert back.notices == ("a line",)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.json"]
    back.save(tmp_path / "t.json")
    assert (tmp_path / "t.json").read_bytes() == (tmp_path / "s.json").read_bytes()


def test_save__a_draw_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    _manifest().save(tmp_path / "s.json")
    lines = (tmp_path / "s.json").read_text().splitlines()
    assert sum('"repeat": 1' in line for line in lines) == 2


def test_save__several_labels_or_none(tmp_path: Path) -> None:
    manifest = _manifest(targets=SEVERAL, policy={"separator": "|"})
    manifest.save(tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["labels"] == [[0, 1], [], [1], [0], [0, 1], [], [], [0]]
    back = SubsetManifest.load(tmp_path / "s.json")
    assert (_content(back), back.targets.is_multilabel, back.hash) == (_content(manifest), True, manifest.hash)


@given(
    n=st.integers(2, 40),
    seed=st.integers(0, 1000),
    names=st.lists(st.text(min_size=1, max_size=6).filter(lambda text: text < "\ud800" or text > "\udfff"), max_size=3),
)
def test_save__any_content_comes_back(
    tmp_path_factory: pytest.TempPathFactory, n: int, seed: int, names: list[str]
) -> None:
    rng = np.random.default_rng(seed)
    classes = ("a", "b", *names)
    order = rng.permutation(n)
    manifest = SubsetManifest(
        rng.integers(0, 256, (n, 16), dtype=np.uint8),
        Targets(classes, rng.integers(0, len(classes), n)),
        ("1", "full"),
        order[:1],
        (FoldDraw(1, 1, order[1:], order[:0], (1, n - 1), (0, 0)),),
        {"seed": seed, "sizes": ["1", "full"], "share": 0.1 + 0.2, "nothing": None},
    )
    path = tmp_path_factory.mktemp("any") / "s.json"
    manifest.save(path)
    back = SubsetManifest.load(path)
    assert (back.hash, _content(back)) == (manifest.hash, _content(manifest))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_train": (4, 2)}, "sizes 2, full (F) train on 4, 2 of the 4 images of repeat 1, fold 1; they must ascend"),
        (
            {"n_train": (2,)},
            "on 2 of the 4 images of repeat 1, fold 1; they must ascend, one number for each size",
        ),
        ({"n_train": (2, 5)}, "train on 2, 5 of the 4 images"),
        ({"n_train": (-1, 4)}, "train on -1, 4 of the 4 images"),
        ({"n_validation": (2, 1)}, "choose on 2, 1 of the 2 images of repeat 1, fold 1"),
    ],
)
def test_manifest__sizes_ascend(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        _manifest(draws=_draws(**changes))
    path = tmp_path / "s.json"
    _manifest().save(path)
    found = json.loads(path.read_text())
    found["draws"][0] |= changes
    path.write_text(json.dumps(found))
    with pytest.raises(DataError, match=re.escape(f"{path} is not a subset manifest (sizes 2, full (F) ")) as error:
        SubsetManifest.load(path)
    assert said in str(error.value)
    assert _manifest(draws=_draws(n_train=(4, 4))).largest == 1  # where fewer are left than were asked for


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        found = json.loads(text)
        change(found)
        return json.dumps(found)

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_edited(lambda found: found["test"].pop()), "was changed since it was made"),
        (_edited(lambda found: found["draws"][1]["train"].reverse()), "was changed since it was made"),
        (_edited(lambda found: found["labels"].__setitem__(0, 1)), "was changed since it was made"),
        (_edited(lambda found: found["policy"].update(seed=7)), "was changed since it was made"),
        (_edited(lambda found: found["labels"].__setitem__(0, 2)), "is not a subset manifest .a label is none of 2"),
        (_edited(lambda found: found["labels"].__setitem__(0, -1)), "is not a subset manifest .a label is none of 2"),
        (_edited(lambda found: found["labels"].__setitem__(0, "sick")), "is not a subset manifest"),
        (_edited(lambda found: found.update(hash="0" * 32)), "was changed since it was made"),
        (_edited(lambda found: found.update(format=2)), "is of subset format 2, this dvme reads 1; update dvme"),
        (_edited(lambda found: found.pop("draws")), "is not a subset manifest"),
        (_edited(lambda found: found.update(images=["xy"])), "is not a subset manifest"),
        (_edited(lambda found: found.update(images=["00"])), "is not a subset manifest"),
        (lambda text: text[: len(text) // 2], "is not a subset manifest"),
        (lambda _: "[]", "is not a subset manifest"),
        (lambda _: "", "is not a subset manifest"),
    ],
)
def test_load__refuses_what_was_changed(tmp_path: Path, edit: Callable[[str], str], message: str) -> None:
    path = tmp_path / "s.json"
    _manifest().save(path)
    path.write_text(edit(path.read_text()))
    with pytest.raises(DataError, match=message) as error:
        SubsetManifest.load(path)
    assert "\n" not in str(error.value)


def test_load__a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; dvme subsets CACHE --out"):
        SubsetManifest.load(tmp_path / "none.json")
    with pytest.raises(DataError, match="is not a subset manifest"):
        SubsetManifest.load(tmp_path)


def test_load__order_of_classes_is_kept_beside_the_hash(tmp_path: Path) -> None:
    given, assumed = _manifest(targets=replace(ONE_EACH, is_order_given=True)), _manifest()
    given.save(tmp_path / "a.json")
    found = SubsetManifest.load(tmp_path / "a.json")
    assert found.targets.is_order_given
    assert found.targets.task.is_order_given
    assert found.hash == assumed.hash
    older = json.loads((tmp_path / "a.json").read_text())
    del older["is_order_given"]
    (tmp_path / "b.json").write_text(json.dumps(older))
    assert not SubsetManifest.load(tmp_path / "b.json").targets.is_order_given


def test_taking_part__those_on_a_side_of_some_draw() -> None:
    assert _manifest().taking_part.tolist() == [*range(8)]
    assert _manifest(test=np.array([7])).taking_part.tolist() == [0, 1, 2, 3, 4, 5, 7]
