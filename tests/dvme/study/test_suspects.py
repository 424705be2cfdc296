"""Doubtful labels by hand and against a slow version; what a sweep writes of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvme.study.run import Run, read_summary
from dvme.study.suspects import find_suspects, likely_wrong_labels


def test_likely_wrong_labels__by_hand() -> None:
    """Thresholds are 0.5 for class 0, of 0.9, 0.8, 0.7 and -0.4 less, and 0.7 for class 1."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    # class 0: (0.9 + 0.8 + 0.1) / 3 = 0.6; class 1: (0.8 + 0.5 + 0.7) / 3 = 0.667. Image 2 reaches class 1 only;
    # image 4 reaches neither.
    assert likely_wrong_labels(labels, probabilities).tolist() == [2]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 5))
def test_likely_wrong_labels__against_a_slow_version(seed: int, n: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(n_classes), n)
    labels = rng.integers(0, n_classes, n)
    expected = []
    for i in range(n):
        reached = {}
        for c in range(n_classes):
            own = [probabilities[j, c] for j in range(n) if labels[j] == c]
            if own and probabilities[i, c] >= np.mean(own):
                reached[c] = probabilities[i, c]
        predicted = int(probabilities[i].argmax())
        likely = predicted if len(reached) > 1 else next(iter(reached), labels[i])
        if labels[i] not in (likely, predicted):
            others = [probabilities[i, c] for c in range(n_classes) if c != labels[i]]
            expected.append((probabilities[i, labels[i]] - max(others), i, likely))
    assert likely_wrong_labels(labels, probabilities).tolist() == [i for _, i, _ in sorted(expected)]


def test_suspects__are_written_beside_the_run(small_study: Path) -> None:
    """The file, the summary and a slow look at every image say the same."""
    run, summary = Run.load(small_study / "run"), read_summary(small_study / "run")
    manifest, labels = run.manifest, run.manifest.targets.values
    lead = {name: m for m, name in enumerate(run.names)}[summary.suspects[0].method]
    found = find_suspects(manifest, run.finished[lead, 1], 1, run.names[lead], ["i"] * len(labels), ["p"] * len(labels))
    assert [each.content for each in found] == [each.content for each in summary.suspects]
    ids = [bytes(row).hex() for row in manifest.images]
    with (small_study / "run" / "suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [each.image for each in summary.suspects]
    for row in rows:
        image = ids.index(row["content"])
        assert row["path"].endswith(row["image"])  # a folder's images by their paths below it
        assert row["label"] == manifest.classes[labels[image]] != row["predicted"]
        assert float(row["p_label"]) < float(row["p_predicted"])
        where = [own.fold for own in manifest.draws if image in manifest.validation(own, 1)]
        assert row["fold"] == ("test" if image in manifest.test else f"fold {where[0]}")
        assert Path(row["path"]).is_file()
