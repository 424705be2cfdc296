"""Subgroups and patients of whole studies: asked, refused before anything is fitted, kept and read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import light

import dvme
from dvme.errors import DataError, DvmeError, OptionError
from dvme.study import conduct
from dvme.study.people import People
from dvme.study.run import read_summary
from dvme_cache import EmbeddingCache

N = 160
PATIENTS = np.arange(N) // 2


@pytest.fixture(scope="module")
def columns() -> dict[str, list[str]]:
    rng = np.random.default_rng(0)
    truth = rng.random((N, 3)) < (0.5, 0.4, 0.02)
    texts = ["|" + "".join(f"{name}|" for name, has in zip("ABC", row, strict=True) if has) for row in truth]
    return {
        "label": texts,
        "group": [f"p{each}" for each in PATIENTS],
        "Sex": ["F" if each % 2 else "M" for each in PATIENTS],
        "age": [f"{age}" for age in rng.integers(0, 90, N)],
        "study": [f"s{place % 2}" for place in range(N)],
        "empty": [""] * N,
    }


@pytest.fixture(scope="module")
def cache(
    tmp_path_factory: pytest.TempPathFactory, write_embeddings: Callable[..., Path], columns: dict[str, list[str]]
) -> Path:
    """Findings of 80 patients with two images each, which the embedding shows."""
    rng = np.random.default_rng(1)
    has = np.array([["A" in text, "B" in text] for text in columns["label"]], dtype=float)
    features = (np.concatenate([has, has], axis=1) + 0.8 * rng.normal(size=(N, 4))).astype(np.float32)
    root = tmp_path_factory.mktemp("people")
    write_embeddings(root / "c.zarr", {"a": features}, **columns)
    with EmbeddingCache.writing(root / "c.zarr") as store:
        store.update_columns(np.arange(N), {}, class_order=["A", "B", "C"])
    return root / "c.zarr"


def test_probe__by_and_per_are_kept_and_read_back(cache: Path, tmp_path: Path) -> None:
    report = dvme.probe(
        cache, heads=light("linear", "knn"), n_folds=2, test_fraction=0.4, by=["sex", "age:0-40-90"], per="patient",
        join="noisy-or", out=tmp_path / "run",
    )  # fmt: skip
    assert report.subgroups is not None
    assert report.per_patient is not None
    assert report.subgroups.method == report.per_patient.method == report.rows[0].method
    assert [each.column for each in report.subgroups.overall] == ["sex", "age"]
    assert [score.name for each in report.subgroups.overall for score in each.scores] == [
        "F", "M", "[0, 40)", "[40, 90]",
    ]  # fmt: skip
    n_test = report.per_patient.n_images
    assert [sum(score.n_images for score in each.scores) for each in report.subgroups.overall] == [n_test, n_test]
    assert (report.per_patient.n_units, report.per_patient.join) == (n_test // 2, "noisy-or")
    # Per image, patients left to chance, is what the table says.
    row = report.rows[0]
    assert report.per_patient.scores[0].images.score.estimate == pytest.approx(row.interval.estimate)
    assert report.per_patient.scores[0].images.score.low == pytest.approx(row.interval.low)
    again = read_summary(tmp_path / "run")
    assert (repr(again.subgroups), repr(again.per_patient)) == (repr(report.subgroups), repr(report.per_patient))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    older = {name: value for name, value in summary.items() if name not in {"subgroups", "per_patient"}}
    assert (type(report).from_json(older).subgroups, type(report).from_json(older).per_patient) == (None, None)


def test_sweep__asks_the_largest_size(cache: Path, tmp_path: Path) -> None:
    options = dvme.SubsetOptions(sizes=("20", "full"), n_folds=2, test_fraction=0.4)
    asked: dict[str, Any] = {"by": "Sex", "per": "study", "conflicts": "drop"}
    swept = dvme.sweep(cache, tmp_path / "run", heads=light("linear"), options=options, **asked)
    probed = dvme.probe(cache, heads=light("linear"), n_folds=2, test_fraction=0.4, **asked)
    assert swept.per_patient is not None
    assert (swept.per_patient.unit, swept.per_patient.resampled) == ("study", "patient")
    assert repr(swept.per_patient) == repr(probed.per_patient)
    assert repr(swept.subgroups) == repr(probed.subgroups)
    assert dvme.probe(cache, heads=light("linear"), n_folds=2).subgroups is None


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"by": "race"}, DataError, "c.zarr has no column 'race'; it has: Sex, age, study, empty; dvme cache label "),
        (
            {"by": "age"},
            OptionError,
            "values, more than the 20 subgroups that are possible; cut numbers at edges with by=[",
        ),
        ({"by": "age:40"}, OptionError, "edges 40 do not ascend; by=['age:0-40-60-120'] makes"),
        ({"by": ["sex", "sex"]}, OptionError, "by names a column twice; name each once"),
        ({"by": "empty"}, DataError, "column 'empty' of "),
        ({"per": "visit"}, DataError, "has no column 'visit'"),
        ({"per": "empty"}, DataError, "is empty; dvme cache label fills it with keep=['empty']"),
        ({"per": "patient", "join": "median"}, OptionError, "join 'median' is not known; choose from mean, max, noisy"),
        ({"per": "patient", "conflicts": "x"}, OptionError, "conflicts 'x' is not known; choose from any, drop"),
        ({"join": "max"}, OptionError, "join is about joined images; add per='patient'"),
        ({"conflicts": "drop"}, OptionError, "conflicts is about joined images; add per='patient'"),
    ],
)
def test_probe__is_refused_before_anything_is_fitted(
    asked: dict[str, Any], error: type[DvmeError], said: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conduct, "Grid", None)
    with pytest.raises(error) as caught:
        dvme.probe(cache, heads=light("linear"), **asked)
    assert said in str(caught.value)


def test_check__patients_whom_nobody_knows(
    write_embeddings: Callable[..., Path], tmp_path: Path, columns: dict[str, list[str]]
) -> None:
    features = {"a": np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)}
    lone = write_embeddings(tmp_path / "c.zarr", features, label=columns["label"])
    with pytest.raises(
        DataError, match="has a group, so nobody knows its patient; dvme cache label adds them with gro"
    ):
        dvme.probe(lone, heads=light("linear"), per="patient")
    with pytest.raises(
        DataError, match=r"no column 'sex'; it has none beside label, split and group; dvme cache label"
    ):
        dvme.probe(lone, heads=light("linear"), by="sex")


def test_columns__what_a_study_has_to_read() -> None:
    assert People(by=["sex", "age:0-40"], per="study").columns == ("sex", "age", "study")
    assert People(by="sex", per="patient").columns == ("sex",)
    assert People().columns == ()
