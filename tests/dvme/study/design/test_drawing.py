from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme.data.targets import Targets
from dvme.errors import DataError, OptionError
from dvme.study.design.drawing import Drawing, lacking_notices
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.options import SubsetOptions
from dvme.study.design.splits import Fold


def _text(values: Sequence[object] | NDArray[Any]) -> NDArray[Any]:
    return np.array([str(value) for value in values], dtype=object)


def _drawing(
    labels: NDArray[Any],
    *,
    splits: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
    twins: NDArray[Any] | None = None,
    **options: Any,
) -> tuple[SubsetManifest, Drawing]:
    n = len(labels)
    nothing = np.full(n, "", dtype=object)
    chosen = SubsetOptions(**options)
    targets = Targets.of(_text(labels))
    drawing = Drawing(chosen, targets, nothing if splits is None else splits, nothing if groups is None else groups)
    ids = np.random.default_rng(0).integers(0, 256, (n, 16), dtype=np.uint8)
    return drawing.manifest(ids, np.arange(n) if twins is None else twins), drawing


def _manifest(labels: NDArray[Any], **options: Any) -> SubsetManifest:
    return _drawing(labels, **options)[0]


LABELS = np.repeat([0, 1, 2], [120, 60, 20])
"""Of a fold of 5, 128 rows train: 77, 38 and 13 of the classes, as the test set has a fifth."""


def _taken(manifest: SubsetManifest, size: int, labels: NDArray[Any] = LABELS) -> NDArray[Any]:
    return np.array([np.bincount(labels[manifest.train(draw, size)], minlength=3) for draw in manifest.draws])


def test_manifest__balanced_within_one() -> None:
    manifest = _manifest(LABELS, sizes=("10", "30", "full"), balance="balanced")
    for size in (0, 1):
        taken = _taken(manifest, size)
        assert (taken.max(axis=1) - taken.min(axis=1) <= 1).all()
        assert taken.sum(axis=1).tolist() == [(10, 30)[size]] * 5
    assert lacking_notices(_manifest(LABELS, sizes=("10", "30"))) == []


def test_manifest__what_cannot_be_balanced_takes_what_there_is_and_says_so() -> None:
    manifest = _manifest(LABELS, sizes=("60", "full"), balance="balanced")
    rare = [int((LABELS[draw.train] == 2).sum()) for draw in manifest.draws]
    for own, there in zip(_taken(manifest, 0).tolist(), rare, strict=True):
        assert own[2] == there < 20  # all that there are
        assert abs(own[0] - own[1]) <= 1
        assert sum(own) == 60
    least, most = _taken(manifest, 0)[int(np.argmin(rare))].tolist()[2], int(_taken(manifest, 0).max())
    assert lacking_notices(manifest) == [
        f"not all classes have enough images for a balanced subset of 60 (from {least} of '2' to {most}): "
        "all that there are were taken"
    ]


def test_manifest__stratified_within_one() -> None:
    manifest = _manifest(LABELS, sizes=("10", "33", "100"), balance="stratified")
    for size, n in enumerate((10, 33, 100)):
        for draw, taken in zip(manifest.draws, _taken(manifest, size), strict=True):
            shares = np.bincount(LABELS[draw.train], minlength=3) / len(draw.train)
            assert np.abs(taken - n * shares).max() < 1
    assert lacking_notices(manifest) == []


def test_manifest__natural_is_left_to_chance_and_a_missing_class_is_told() -> None:
    manifest = _manifest(LABELS, sizes=("3", "100"), balance="natural")
    assert len({tuple(own) for own in _taken(manifest, 1).tolist()}) > 1
    assert (_taken(manifest, 0) == 0).any()
    (line,) = lacking_notices(manifest)
    assert line.startswith("a class is missing in some draw of size 3 ('")


def test_manifest__folds_tell_the_least_equal_draw() -> None:
    """Folds of unlike size, each balanced in itself, are no reason for a notice."""
    draws = _manifest(np.arange(120) % 2, sizes=("full",)).draws
    short = draws[0].train[:40]
    uneven = SubsetManifest(
        np.zeros((120, 16), np.uint8),
        Targets(("0", "1"), np.arange(120) % 2),
        ("full",),
        np.arange(0),
        (
            type(draws[0])(1, 1, short, draws[0].validation, (40,), (4,)),
            type(draws[0])(1, 2, draws[1].train, draws[1].validation, (len(draws[1].train),), (4,)),
        ),
        {"balance": "balanced"},
    )
    assert lacking_notices(uneven) == []


@pytest.mark.parametrize("balance", ["balanced", "stratified", "natural"])
def test_manifest__deterministic(balance: str) -> None:
    options: dict[str, Any] = {"sizes": ("10", "50%", "full"), "balance": balance, "n_repeats": 2}
    assert _manifest(LABELS, **options).hash == _manifest(LABELS, **options).hash
    assert _manifest(LABELS, **options).hash != _manifest(LABELS, seed=1, **options).hash


def test_manifest__parts_are_of_the_smallest_fold_and_all_sizes_ascend() -> None:
    """Folds of whole patients differ in size; a part that grew with its fold would pass a number in some of them."""
    rng = np.random.default_rng(0)
    groups = _text(np.repeat(np.arange(40), rng.integers(1, 12, 40)))
    labels = np.arange(len(groups)) % 2
    manifest = _manifest(labels, groups=groups, sizes=("80%", "full", "90", "10%"), n_folds=3)
    smallest = min(len(draw.train) for draw in manifest.draws)
    assert len({len(draw.train) for draw in manifest.draws}) > 1
    expected = sorted([(round(0.1 * smallest), "10%"), (90, "90"), (round(0.8 * smallest), "80%")])
    assert manifest.sizes == (*(name for _, name in expected), "full")
    for draw in manifest.draws:
        assert draw.n_train == (*(count for count, _ in expected), len(draw.train))


def test_manifest__a_number_of_images_stands_once_and_under_its_published_name() -> None:
    manifest = _manifest(np.arange(500) % 2, sizes=("50%", "80", "20", "truong2021:nih-cxr"), n_folds=2)
    # 400 rows are folded in two: 200 train, which is M as well as F.
    assert manifest.sizes == ("20 (S)", "50", "80", "50%", "150", "full (F)")
    assert [draw.n_train for draw in manifest.draws] == [(20, 50, 80, 100, 150, 200)] * 2
    with pytest.raises(OptionError, match="size 200 is more than the 100 training images of a fold"):
        _manifest(np.arange(250) % 2, sizes=("truong2021:nih-cxr",), n_folds=2)


def test_manifest__the_usual_sizes_as_far_as_there_are_images() -> None:
    """Of a fold of 5 of 80 in 100, 64 train; asked for by name, a size that is too large is refused."""
    manifest, drawing = _drawing(np.arange(100) % 2)
    assert manifest.sizes == ("50", "full")
    assert drawing.notices == ["sizes left out of the usual ones: 100, 200, 500; a fold has 64 training images"]
    with pytest.raises(OptionError, match="size 100 is more than the 64 training images of a fold; leave it out"):
        _manifest(np.arange(100) % 2, sizes=("50", "100"))
    assert _drawing(np.arange(1000) % 2)[1].notices == []


def test_manifest__validation_matched_or_full() -> None:
    matched = _manifest(LABELS, sizes=("10", "64", "full"))
    full = _manifest(LABELS, sizes=("10", "64", "full"), validation="full")
    for draw in matched.draws:
        # 128 train and 32 choose: as many as their share, but two of each class at least.
        assert draw.n_validation == (6, 16, 32)
        chosen_on = np.bincount(LABELS[matched.validation(draw, 0)], minlength=3)
        assert chosen_on.tolist() == [2, 2, 2]
    for draw in full.draws:
        assert draw.n_validation == (32, 32, 32)


def test_manifest__repeats_fold_anew_and_keep_the_test_set() -> None:
    manifest = _manifest(LABELS, sizes=("20", "full"), n_repeats=3, n_folds=4)
    assert [(draw.repeat, draw.fold) for draw in manifest.draws] == [(r, f) for r in (1, 2, 3) for f in (1, 2, 3, 4)]
    pool = sorted(set(range(200)) - set(manifest.test.tolist()))
    parts = set()
    for draw in manifest.draws:
        assert sorted([*draw.train.tolist(), *draw.validation.tolist()]) == pool
        parts.add(tuple(sorted(draw.validation.tolist())))
    assert len(parts) == 12
    once = _manifest(LABELS, sizes=("20", "full"), n_folds=4)
    assert once.test.tolist() == manifest.test.tolist()


def test_manifest__user_split_of_train_and_test() -> None:
    splits = np.array(["train"] * 150 + ["test"] * 50, dtype=object)
    labels = np.arange(200) % 2
    manifest = _manifest(labels, splits=splits, sizes=("20", "full"))
    assert manifest.test.tolist() == list(range(150, 200))
    for draw in manifest.draws:
        assert sorted([*draw.train.tolist(), *draw.validation.tolist()]) == list(range(150))
    assert "your split: test 50, 5 stratified folds of train 150" in manifest.policy["plan"]


def test_manifest__user_split_of_train_val_and_test() -> None:
    """One validation set: the draws differ in who trains, not in who is chosen on."""
    splits = np.array(["train"] * 120 + ["val"] * 30 + ["test"] * 50, dtype=object)
    manifest, drawing = _drawing(np.arange(200) % 2, splits=splits, sizes=("20", "full"), n_folds=3)
    assert (len(manifest.draws), manifest.test.tolist()) == (3, list(range(150, 200)))
    for draw in manifest.draws:
        assert sorted(draw.train.tolist()) == list(range(120))
        assert sorted(draw.validation.tolist()) == list(range(120, 150))
    assert len({tuple(sorted(manifest.train(draw, 0).tolist())) for draw in manifest.draws}) == 3
    assert drawing.notices == [
        "your val part is the one validation set: 3 draws of training images, which coincide at the full size but for "
        "the heads' seeds"
    ]


@st.composite
def _patients(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Labels, groups and twins of unlike sizes; a group may have all classes, a twin may join two groups."""
    n = draw(st.integers(60, 160))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    names = rng.integers(0, draw(st.integers(20, n)), n)
    groups = np.array([f"p{name}" if name % 4 else "" for name in names], dtype=object)
    twins = np.arange(n)
    copies = rng.integers(0, n, draw(st.integers(0, 8)))
    twins[copies] = twins[rng.permutation(copies)]
    return rng.integers(0, draw(st.integers(2, 3)), n), groups, twins


def _units(groups: NDArray[Any]) -> NDArray[Any]:
    return np.array([name or f"alone {row}" for row, name in enumerate(groups)], dtype=object)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    patients=_patients(),
    balance=st.sampled_from(["balanced", "stratified", "natural"]),
    seed=st.integers(0, 50),
    n_folds=st.integers(2, 4),
    n_repeats=st.integers(1, 2),
    are_findings=st.booleans(),
)
def test_manifest__nobody_is_on_two_sides_and_subsets_are_nested(
    patients: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    balance: str,
    seed: int,
    n_folds: int,
    n_repeats: int,
    are_findings: bool,
) -> None:
    labels, groups, twins = patients
    named = [f"|{label}|" for label in labels] if are_findings else labels
    sizes = ("4", "25%", "20", "60%", "full")
    options: dict[str, Any] = {"balance": balance, "seed": seed, "n_folds": n_folds, "n_repeats": n_repeats}
    try:
        manifest = _manifest(_text(named), groups=groups, twins=twins, sizes=sizes, **options)
    except (DataError, OptionError):  # too few patients of a class, or images for a size
        assume(False)
    units = _units(groups)
    for draw in manifest.draws:
        sides = [manifest.test, draw.train, draw.validation]
        assert sorted(np.concatenate(sides).tolist()) == list(range(len(labels)))
        for position, one in enumerate(sides):
            for other in sides[position + 1 :]:
                assert not set(units[one]) & set(units[other])
                assert not set(twins[one].tolist()) & set(twins[other].tolist())
        for counts, part, own in (
            (draw.n_train, draw.train, manifest.train),
            (draw.n_validation, draw.validation, manifest.validation),
        ):
            assert list(counts) == sorted(counts)
            assert counts[-1] == len(part)
            for size, n in enumerate(counts):
                assert len(own(draw, size)) == n > 0
                if size:
                    assert set(own(draw, size - 1).tolist()) <= set(own(draw, size).tolist())


def _chest(n: int = 400) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    has = rng.random((n, 4)) < np.array([0.4, 0.2, 0.06, 0.03])
    names = np.array(["effusion", "mass", "nodule", "hernia"], dtype=object)
    return np.array(["|" + "".join(f"{name}|" for name in names[own]) for own in has], dtype=object)


def _shares(manifest: SubsetManifest, rows: NDArray[Any]) -> NDArray[Any]:
    shares: NDArray[Any] = manifest.targets.values[rows].mean(axis=0)
    return shares


def test_manifest__several_labels_are_stratified_more_closely_than_by_chance() -> None:
    labels = _chest()
    everyone = np.arange(len(labels))

    def apart(balance: str, seed: int) -> float:
        manifest = _manifest(labels, sizes=("40", "full"), balance=balance, seed=seed)
        assert manifest.targets.is_multilabel
        own = [manifest.train(draw, 0) for draw in manifest.draws]
        return float(np.mean([np.abs(_shares(manifest, rows) - _shares(manifest, everyone)).mean() for rows in own]))

    assert np.mean([apart("stratified", seed) for seed in range(3)]) < 0.5 * np.mean(
        [apart("natural", seed) for seed in range(3)]
    )
    manifest = _manifest(labels, sizes=("40", "full"))
    for rows in (manifest.test, *(draw.validation for draw in manifest.draws)):
        assert np.abs(_shares(manifest, rows) - _shares(manifest, everyone)).max() < 0.03
    assert len(manifest.test) == pytest.approx(80, abs=4)


def test_manifest__several_labels_with_the_users_split() -> None:
    labels = _chest(200)
    splits = np.array(["train"] * 120 + ["val"] * 30 + ["test"] * 50, dtype=object)
    manifest = _manifest(labels, splits=splits, sizes=("20", "full"), n_folds=3)
    assert manifest.test.tolist() == list(range(150, 200))
    for draw in manifest.draws:
        assert sorted([*draw.train.tolist(), *draw.validation.tolist()]) == list(range(150))
    groups = _text(np.arange(200) // 60)  # the third is in val and test
    with pytest.raises(DataError, match="are in both val and test: a leak"):
        _manifest(labels, splits=splits, groups=groups, sizes=("20",))
    with pytest.raises(DataError, match="the split has test 200; it needs labelled train rows, and test or val rows"):
        _manifest(labels, splits=np.full(200, "test", dtype=object), sizes=("20",))


def test_draw__what_is_left_is_balanced_too() -> None:
    """As after near-duplicates are left out: the first class of the order loses most of its rows."""
    _, drawing = _drawing(np.repeat([0, 1], 100), sizes=("20", "full"))
    left = Fold(np.concatenate([np.arange(0, 15), np.arange(100, 160)]), np.concatenate([[90], np.arange(170, 190)]))
    draw = drawing.draw(1, 1, left)
    assert np.bincount(draw.train[:20] // 100).tolist() == [10, 10]
    assert draw.n_train == (20, 75)
    assert sorted(draw.validation.tolist()) == left.validation.tolist()
    few = drawing.draw(1, 1, Fold(np.arange(8), np.arange(90, 99)))
    assert few.n_train == (8, 8)  # all that there are
    with pytest.raises(DataError, match="fold 2 has 0 training images and 9 validation images"):
        drawing.draw(1, 2, Fold(np.arange(0), np.arange(90, 99)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_folds": 1}, "1 folds are not possible; pass n_folds=2 or more"),
        ({"n_repeats": 0}, "0 repeats are not possible; pass n_repeats=1 or more"),
        ({"test_fraction": 0.0}, "test fraction 0.0 is not possible; pass test_fraction above 0, at most 0.5"),
        ({"test_fraction": 1.5}, "test fraction 1.5 is not possible"),
        ({"balance": "even"}, "balance 'even' is not known; choose from balanced, stratified, natural"),
        ({"validation": "none"}, "validation 'none' is not known; choose matched or full"),
        ({"sizes": ("ten",)}, "size 'ten' is not a number of images"),
        ({"uncertain": "half"}, "uncertain 'half' is not known; choose from ignore, zeros, ones"),
        ({"blank": "ones"}, "blank 'ones' is not known; choose ignore or zeros"),
    ],
)
def test_options__what_cannot_be_drawn(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SubsetOptions(**options)


def test_manifest__the_policy_of_findings_is_theirs_alone() -> None:
    """Of one class each the policy, and so the hash, is what it was before there were findings."""
    options: dict[str, Any] = {"sizes": ("20", "full"), "uncertain": "ones", "blank": "zeros"}
    one = _manifest(LABELS, **options)
    assert "uncertain" not in one.policy
    assert (one.policy["separator"], one.hash) == (None, _manifest(LABELS, sizes=("20", "full")).hash)
    several = _manifest(_chest(), **options)
    assert (several.policy["uncertain"], several.policy["blank"]) == ("ones", "zeros")
    assert several.hash != _manifest(_chest(), sizes=("20", "full")).hash


def test_lacking_notices__full_is_all_there_are() -> None:
    assert lacking_notices(_manifest(LABELS, sizes=("full",), balance="balanced")) == []


def test_manifest__the_largest_seed_has_repeats_too() -> None:
    """scikit-learn takes none above it, and each repeat has a seed of its own."""
    manifest = _manifest(LABELS, sizes=("full",), n_repeats=2, n_folds=2, seed=2**32 - 1)
    one, two = (draw.validation for draw in manifest.draws if draw.fold == 1)
    assert not np.array_equal(np.sort(one), np.sort(two))
