"""Whether frozen is enough, on predictions whose truth is known; numbers by scikit-learn and SciPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ttest_ind
from sklearn.metrics import roc_auc_score

from dvme.data.targets import Targets
from dvme.stats.units import Units
from dvme.study.answers import Findings
from dvme.study.design.manifest import FoldDraw, SubsetManifest
from dvme.study.findings import find
from dvme.study.judge import Judge
from dvme.study.ledger import FinishedJob
from dvme.text import FROZEN, p_text

SIZES, N_TRAIN, N_TEST, N_DRAWS = (10, 20, 40), 120, 1200, 4
Signals = dict[tuple[str, str], Sequence[float]]
"""By head and backbone: how far apart the classes are, at each size."""


def judged(signals: Signals, n_test: int = N_TEST, **origins: str) -> tuple[Judge, Findings]:
    """Of methods that say the truth with noise of their own, at every size."""
    n, rng = N_TRAIN + n_test, np.random.default_rng(0)
    orders = [rng.permutation(N_TRAIN) for _ in range(N_DRAWS)]
    draws = [FoldDraw(1, k + 1, each[:80], each[80:], SIZES, (20, 20, 20)) for k, each in enumerate(orders)]
    ids = np.arange(16 * n).astype(np.uint8).reshape(n, 16)
    targets = Targets(("0", "1"), np.arange(n) % 2)
    manifest = SubsetManifest(ids, targets, tuple(map(str, SIZES)), np.arange(N_TRAIN, n), tuple(draws), {})
    finished: Any = {}
    for m, (name, own) in enumerate(signals.items()):
        for size, signal in enumerate(own):
            rng = np.random.default_rng([m, size])
            seconds = 600.0 if name[0].startswith("finetune") else 0.5
            finished[m, size] = [
                FinishedJob(
                    _said(targets.values[manifest.test], signal, rng),
                    _said(targets.values[manifest.validation(draw, size)], signal, rng),
                    {},
                    seconds,
                    10,
                )
                for draw in draws
            ]
    methods = [(head, (backbone,)) for head, backbone in signals]
    judge = Judge(manifest, methods, finished, Units(targets.values[manifest.test]), "auc", origins)
    judge.score_all()
    return judge, find(judge, judge.gains())


def _said(truth: NDArray[Any], signal: float, rng: np.random.Generator) -> NDArray[np.float32]:
    positive = 1 / (1 + np.exp(-(signal * (2 * truth - 1) + rng.normal(size=len(truth)))))
    logs: NDArray[np.float32] = np.log(np.stack([1 - positive, positive], axis=1)).astype(np.float32)
    return logs


def answer_of(found: Findings) -> Any:
    return next(each for each in found.answers if each.question == FROZEN)


def aucs(judge: Judge, method: int, size: int) -> list[float]:
    truth = judge.manifest.targets.values[judge.manifest.test]
    return [float(roc_auc_score(truth, job.test[:, 1])) for job in judge.finished[method, size]]


CROSSES: Signals = {
    ("linear", "a"): (0.6, 0.6, 0.6),
    ("finetune", "a"): (0.2, 0.5, 1.0),
    ("finetune-random", "a"): (0.0, 0.1, 0.2),
}


def test_is_frozen_enough__fine_tuning_overtakes() -> None:
    judge, found = judged(CROSSES)
    answer = answer_of(found)
    means = [[float(np.mean(aucs(judge, m, size))) for size in range(3)] for m in (0, 1)]
    gaps = np.subtract(means[1], means[0])
    assert answer.answer == f"No: fine-tuning gains {gaps[2]:+.3f}"
    assert f"fine-tuning gains {gaps[2]:+.3f} AUC" in found.verdict
    details = " ".join(answer.details)
    assert "a + finetune, the fine-tuned method that leads on validation, against the frozen method that" in details
    assert "By the number of training images: loss with 10, 20; gain with 40." in details
    assert found.crossing is not None
    expected = math.exp(np.interp(0.0, gaps, np.log(SIZES)))
    assert (found.crossing.estimate.relation, found.crossing.estimate.value) == ("=", pytest.approx(expected, rel=1e-6))
    assert f"Fine-tuning overtakes a + linear at about {expected:,.0f} training images (95% CI " in details
    assert 10 < found.crossing.low.value < expected < found.crossing.high.value < 40
    assert "4 fits of this size took 40 min, of a + linear 2.0 s." in details
    p = float(ttest_ind(aucs(judge, 1, 2), aucs(judge, 0, 2)).pvalue)
    assert f"two-sample t-test over 4 draws, which papers report, has p {p_text(p)}; it knows nothing" in details
    random = means[1][2] - float(np.mean(aucs(judge, 2, 2)))
    assert f"Less its controls: finetune-random {random:+.3f} (" in details
    assert [each.name for each in found.differences if each.against == "a + linear"] == ["a + finetune"]


@pytest.mark.parametrize(
    ("tuned", "answer", "clause", "crossed"),
    [
        ((0.6, 0.6, 0.6), "No gain is shown", "no gain by fine-tuning is shown", "By the number of training"),
        (
            (0.1, 0.2, 0.3),
            "Yes: fine-tuning is worse",
            "fine-tuning is worse than a + linear",
            "below a + linear up to 40",
        ),
    ],
)
def test_is_frozen_enough__it_is(tuned: tuple[float, ...], answer: str, clause: str, crossed: str) -> None:
    _, found = judged({("linear", "a"): (0.6, 0.6, 0.6), ("finetune", "a"): tuned})
    own = answer_of(found)
    assert (own.answer, own.clause) == (answer, clause)
    assert clause in found.verdict
    assert crossed in " ".join(own.details)


@pytest.mark.parametrize("tuned", [(0.9, 0.7, 0.3), (0.9, 0.8, 0.7), (0.3, 1.2, 0.5)])
def test_is_frozen_enough__a_gap_that_falls_is_no_crossing(tuned: tuple[float, ...]) -> None:
    """Made monotone, it would be above 0 from the first size on."""
    _, found = judged({("linear", "a"): (0.6, 0.6, 0.6), ("finetune", "a"): tuned})
    assert found.crossing is None
    assert "overtakes" not in " ".join(answer_of(found).details)


def test_is_frozen_enough__every_frozen_method_that_may_be_the_best_has_to_be_beaten() -> None:
    signals: Signals = {
        ("linear", "a"): (0.6, 0.6, 0.6),
        ("linear", "b"): (0.6, 0.6, 0.6),
        ("finetune", "a"): (0.6, 0.8, 1.0),
    }
    own = answer_of(judged(signals)[1])
    assert own.clause.endswith("AUC or more over each of the 2 frozen methods that may be the best")
    assert own.answer.endswith(" or more")


def test_is_frozen_enough__not_asked_where_nothing_or_all_was_tuned() -> None:
    for signals in ({("linear", "a"): (0.6, 0.6, 0.6)}, {("finetune", "a"): (0.6, 0.6, 0.6)}):
        found = judged(dict(signals))[1]
        assert len(found.answers) == 3
        assert found.crossing is None


def test_is_frozen_enough__the_control_is_judged_where_it_is_alone() -> None:
    own = answer_of(judged({("linear", "a"): (0.6, 0.6, 0.6), ("finetune-random", "a"): (0.1, 0.1, 0.1)})[1])
    assert own.clause == "fine-tuning is worse than a + linear"


def test_is_frozen_enough__too_few_test_images() -> None:
    assert answer_of(judged(CROSSES, n_test=3)[1]).answer == "Too few test images to say"


@pytest.mark.parametrize(
    ("adapted", "answer", "clause"),
    [
        (1.0, "Yes: adapting gains ", "adapting gains "),
        (0.6, "No gain is shown", "no gain by adapting is shown"),
        (0.2, "No: adapting is worse", "adapting is worse than a + linear"),
    ],
)
def test_did_adapting_help__against_its_origin(adapted: float, answer: str, clause: str) -> None:
    signals: Signals = {
        ("linear", "a"): (0.6, 0.6, 0.6),
        ("linear", "other"): (1.5, 1.5, 1.5),
        ("linear", "mine"): (adapted, adapted, adapted),
    }
    judge, found = judged(signals, mine="a")
    own = found.answers[2]
    assert own.question == "Did adapting help?"
    assert own.answer.startswith(answer)
    assert clause in found.verdict
    gap = float(np.mean(aucs(judge, 2, 2))) - float(np.mean(aucs(judge, 0, 2)))
    assert f"minus a + linear {gap:+.3f} (95% CI" in own.details[0]
    assert "mine + linear, the adapted backbone that leads on validation" in own.details[0]


def test_did_adapting_help__not_asked_without_the_origin() -> None:
    signals: Signals = {("linear", "mine"): (0.6, 0.6, 0.6), ("linear", "b"): (0.6, 0.6, 0.6)}
    assert len(judged(signals, mine="a")[1].answers) == 3
