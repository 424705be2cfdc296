"""Subgroups and patients as typed: tables whose every number has an interval or a reason, and one line for refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import assert_refused, run, strict
from light import spelled
from numpy.typing import NDArray

N = 120
LABELS = np.arange(N) % 2


@pytest.fixture(scope="module")
def cache(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
) -> Path:
    """Two classes of 60 patients with two images; the second of both is once of the other class."""
    labels = [("ill", "well")[label] for label in LABELS[::-1]]
    groups = [f"p{place // 4 * 2 + place % 2}" for place in range(N)]
    ages = [f"{20 + place % 50}" for place in range(N)]
    ages[:6] = ["", "130", "x", "", "131", "132"]
    columns = {"label": labels, "group": groups, "sex": ["F", "M"] * 60, "site": [f"s{n}" for n in range(N)]}
    root = tmp_path_factory.mktemp("table")
    features = {"a": make_features(LABELS, 0.8, 0)}
    return write_embeddings(root / "c.zarr", features, age=ages, **columns)


ASKED = ("--head", "linear", "--folds", 2, "--test-fraction", 0.5)


def test_probe__prints_tables_and_one_sentence_each(cache: Path) -> None:
    asked = ("--by", "age:0-40-70", "--per", "patient", "--join", "max")
    result = run("probe", cache, "--head", spelled("linear"), *ASKED[2:], *asked)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    found = strict(run("probe", cache, "--head", spelled("linear"), *ASKED[2:], *asked, "--json").stdout)
    division, per = found["subgroups"]["divisions"][0], found["per_patient"]
    for score in division["scores"]:
        interval = score["score"]
        shown = f"{score['name']} {interval['estimate']:.3f} {interval['low']:.3f} to {interval['high']:.3f}"
        assert f"{shown} {score['n_images']} {score['n_units']} {score['n_positive']}" in said
    gap = division["gap"]
    difference = gap["comparison"]["difference"]["estimate"]
    assert f"by age: AUC of {gap['better']} minus {gap['worse']} +{difference:.3f}" in said
    for remark in (*found["subgroups"]["remarks"], *per["remarks"]):
        assert remark in said
    for row in per["scores"]:
        for side in ("units", "images"):
            own = row[side]["score"]
            assert f"{own['estimate']:.3f} ({own['low']:.3f} to {own['high']:.3f})" in said
    assert (
        f"{per['n_images']} test images of {per['n_units']} patients, of which {per['n_joined']} have several" in said
    )
    assert "Per patient (max of its images) AUC is " in said
    assert [row["metric"] for row in per["scores"]] == ["auc", "accuracy", "balanced_accuracy", "kappa"]


def test_sweep__prints_them_as_well(cache: Path, tmp_path: Path) -> None:
    arguments = (
        "sweep",
        cache,
        "--out",
        tmp_path / "run",
        "--sizes",
        "20,full",
        "--head",
        spelled("linear"),
        *ASKED[2:],
    )
    result = run(*arguments, "--by", "sex", "--per", "site", "--conflicts", "drop")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "by sex: 0 of 2 subgroups have a score; a gap is between two" in said
    assert "none: 0 patients" in said
    assert "No gap between subgroups by sex could be tested." in said
    assert "every site has one test image, so both sides are the same" in said


def test_probe__refusals_name_the_options(cache: Path) -> None:
    for asked, said in (
        (("--by", "race"), "has no column 'race'; it has: age, sex, site; dvme cache label"),
        (("--by", "race"), "adds columns with --keep-col race"),
        (("--by", "age"), "cut numbers at edges with --by age:0-40-60-120"),
        (("--by", "age:9-3"), "edges 9-3 do not ascend; --by age:0-40-60-120 makes [0, 40), [40, 60) and [60, 120]"),
        (("--per", "study"), "has no column 'study'"),
        (("--join", "max"), "--join is about joined images; add --per patient"),
        (("--per", "patient", "--join", "median"), "join 'median' is not known; choose from mean, max, noisy-or"),
    ):
        assert_refused(run("probe", cache, *ASKED, *asked), said)
