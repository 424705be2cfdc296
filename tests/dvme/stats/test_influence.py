from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest, t

from dvme.metrics.classification import METRICS, score
from dvme.stats.crossed import compared
from dvme.stats.draws import jackknife_weights, resample_weights
from dvme.stats.influence import FEWEST, Scored, covariance, scored
from dvme.stats.intervals import jackknife_covariance
from dvme.stats.resampling import fold_scores, resampled_scores
from dvme.stats.units import Units


def _binary(second: np.ndarray) -> np.ndarray:
    return np.stack([-second, second], 1)


def _answers(labels: np.ndarray, is_right: np.ndarray) -> np.ndarray:
    """Scores of two classes that name the right one, or the other."""
    return np.eye(2)[np.where(is_right, labels, 1 - labels)]


def _heads(labels: np.ndarray, n_classes: int, rng: np.random.Generator, n_heads: int = 2) -> list[np.ndarray]:
    shape = (len(labels), n_classes)
    signal = 1.5 * np.eye(n_classes)[labels] + 0.7 * rng.normal(size=shape)
    return [signal + 0.7 * rng.normal(size=shape) for _ in range(n_heads)]


def _pair_parts(labels: np.ndarray, scores: np.ndarray, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Of class c against the others, pair by pair: V10 of the positives and V01 of the negatives."""
    x, y = scores[labels == c, c], scores[labels != c, c]
    beats = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in y] for a in x])
    return beats.mean(axis=1), beats.mean(axis=0)


def _slow_delong(labels: np.ndarray, heads: list[np.ndarray], n_classes: int) -> np.ndarray:
    """(J, J) of macro AUCs: every problem's V10 / n10 and V01 / n01 added up by image, varied within its class."""
    shares = np.zeros((len(heads), len(labels)))
    problems = [1] if n_classes == 2 else range(n_classes)
    for c in problems:
        for share, head in zip(shares, heads, strict=True):
            positive, negative = _pair_parts(labels, head, c)
            share[labels == c] += positive / len(positive) / len(problems)
            share[labels != c] += negative / len(negative) / len(problems)
    return sum((labels == c).sum() * np.cov(shares[:, labels == c]) for c in range(n_classes))


@pytest.mark.parametrize(("n_classes", "decimals"), [(2, 9), (2, 0), (4, 9), (4, 0)])
def test_test_covariance__of_auc_is_delong(n_classes: int, decimals: int) -> None:
    rng = np.random.default_rng(n_classes)
    labels = np.r_[np.arange(n_classes), np.arange(n_classes), rng.integers(0, n_classes, 80)]
    heads = [np.round(head, decimals) for head in _heads(labels, n_classes, rng)]  # with ties for no decimals
    found = scored(labels, heads, Units(labels), ["auc"])["auc"]
    np.testing.assert_allclose(found.test_covariance, _slow_delong(labels, heads, n_classes))


@pytest.mark.parametrize("n_classes", [2, 4])
def test_test_covariance__agrees_with_leaving_out_one_image(n_classes: int) -> None:
    """Exactly where the class sizes do not matter; else but for the mix of classes, which leaving one out changes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, 150)
    heads = _heads(labels, n_classes, rng)
    left_out, strata = jackknife_weights(labels, None, seed=0)
    values, found = fold_scores(labels, heads, left_out), scored(labels, heads, Units(labels))
    for metric in METRICS:
        is_exact = metric == "balanced_accuracy" or (metric == "auc" and n_classes == 2)
        expected = jackknife_covariance(values[metric], strata)
        scale = 0 if is_exact else 0.05 * np.trace(expected) / 2
        np.testing.assert_allclose(found[metric].test_covariance, expected, rtol=1e-9, atol=scale)


def _patients(rng: np.random.Generator, n_classes: int, n: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Labels, patients of one to six images, and heads that find all of a patient's images easy, or all hard."""
    patients = np.repeat(np.arange(n), rng.integers(1, 7, n))
    labels = rng.integers(0, n_classes, len(patients))
    ease = rng.normal(size=(n, 1))[patients] * np.eye(n_classes)[labels]
    return labels, patients, [head + ease for head in _heads(labels, n_classes, rng)]


def test_test_covariance__of_patients_is_that_of_the_bootstrap_over_whole_patients() -> None:
    labels, patients, heads = _patients(np.random.default_rng(0), 3, 120)
    resampled = resampled_scores(labels, heads, resample_weights(labels, patients, seed=0, n_resamples=2000))
    found, alone = (scored(labels, heads, Units(labels, groups)) for groups in (patients, None))
    for metric in METRICS:
        assert found[metric].test_covariance.mean() == pytest.approx(resampled[metric].var(), rel=0.15)
    # Here it matters which images are of one patient.
    assert alone["auc"].test_covariance.mean() < 0.75 * resampled["auc"].var()


def test_test_covariance__of_patients_is_obuchowskis_but_for_one_factor() -> None:
    """S11 of Obuchowski 1997 has the factor I / (I - 1), of I patients; here it is 1. S10 and S01 are the same."""
    labels, patients, heads = _patients(np.random.default_rng(2), 2, 30)
    v10, v01 = _pair_parts(labels, heads[0], 1)
    area, n10, n01 = v10.mean(), len(v10), len(v01)
    s10 = s01 = s11 = 0.0
    for patient in range(30):
        of_positives = (v10[patients[labels == 1] == patient] - area).sum()
        of_negatives = (v01[patients[labels == 0] == patient] - area).sum()
        s10, s01, s11 = s10 + of_positives**2, s01 + of_negatives**2, s11 + of_positives * of_negatives
    i10, i01 = (len(np.unique(patients[labels == c])) for c in (1, 0))
    without_s11 = i10 / (i10 - 1) * s10 / n10**2 + i01 / (i01 - 1) * s01 / n01**2
    found = scored(labels, heads[:1], Units(labels, patients), ["auc"])["auc"].test_covariance[0, 0]
    assert found == pytest.approx(without_s11 + 2 * s11 / (n10 * n01))
    assert found > 1.05 * without_s11  # S11 counts here


@pytest.mark.parametrize("labels", [[0, 2, 1] * 10, [0, 1] * 15, [0, 2] * 15, [1] * 30])
def test_scored__values_are_those_of_the_table(labels: list[int]) -> None:
    """With ties, and where the labels lack a class."""
    heads = [np.round(head, 1) for head in _heads(np.array(labels), 3, np.random.default_rng(0))]
    found = scored(np.array(labels), heads, Units(np.array(labels)))
    assert tuple(found) == METRICS
    for j, head in enumerate(heads):
        for metric, value in score(np.array(labels), head).items():
            assert found[metric].folds[j] == pytest.approx(value, nan_ok=True)


def test_scored__an_undefined_kappa_has_no_interval() -> None:
    labels = np.zeros(9, dtype=int)
    kappa = scored(labels, [np.eye(2)[labels]], Units(labels))["kappa"]
    assert np.isnan([kappa.estimate, kappa.interval().low, *kappa.test_covariance.ravel()]).all()


@pytest.mark.parametrize("n_positive", [FEWEST - 1, FEWEST])
@pytest.mark.parametrize("is_grouped", [False, True])
def test_interval__needs_a_few_units_of_every_class(n_positive: int, is_grouped: bool) -> None:
    patients = np.r_[np.arange(30), np.repeat(np.arange(n_positive), 4)]
    labels = np.r_[np.zeros(30, dtype=int), np.ones(len(patients) - 30, dtype=int)]
    if not is_grouped:
        labels, patients = labels[: 30 + n_positive], patients[: 30 + n_positive]
    scores = _binary(np.random.default_rng(0).normal(size=len(labels)) + labels)
    for found in scored(labels, [scores], Units(labels, patients if is_grouped else None)).values():
        assert np.isnan(found.interval().low) == np.isnan(found.test_covariance[0, 0]) == (n_positive < FEWEST)
        assert np.isfinite(found.estimate)


@pytest.mark.parametrize(
    ("counts", "n_of_auc", "n_of_kappa"),
    [((20, 20), 20, 40), ((5, 30), 5, 2 * 5), ((5, 10, 20), 3 * 5, 3 * 5), ((3, 40, 40), 3 * 3, 3 * 3)],
)
def test_interval__of_a_perfect_method_by_hand(counts: tuple[int, ...], n_of_auc: int, n_of_kappa: int) -> None:
    """Wilson's low end of n of n is 1 / (1 + t^2 / n); without any variance the rarest class has the last word on t."""
    labels = np.repeat(np.arange(len(counts)), counts)
    found = {name: one.interval() for name, one in scored(labels, [np.eye(len(counts))[labels]], Units(labels)).items()}

    def low(n: int, n_rarest: int) -> float:
        return float(1 / (1 + t.ppf(0.975, n_rarest - 1) ** 2 / n))

    rarest = min(counts)
    assert found["auc"].low == pytest.approx(low(n_of_auc, rarest))
    assert found["accuracy"].low == pytest.approx(low(sum(counts), rarest))
    assert found["kappa"].low == pytest.approx(2 * low(n_of_kappa, rarest) - 1)
    margins = np.array([1 - low(n, n) for n in counts])
    assert found["balanced_accuracy"].low == pytest.approx(1 - np.sqrt((margins**2).sum()) / len(counts))
    for interval in found.values():
        assert (interval.estimate, interval.high) == pytest.approx((1.0, 1.0))


def test_interval__of_accuracy_is_wilsons() -> None:
    """15 of 30 and 63 of 70 are right. Their variance is that of more than 100 images, so 100 it is."""
    labels = np.repeat([0, 1], [30, 70])
    found = scored(labels, [_answers(labels, np.arange(100) % 10 < np.repeat([5, 9], [30, 70]))], Units(labels))
    variances = np.array([15 * 15 / 30 / 100**2 * 30 / 29, 63 * 7 / 70 / 100**2 * 70 / 69])
    df = variances.sum() ** 2 / (variances**2 / [29, 69]).sum()
    assert found["accuracy"].test_covariance[0, 0] == pytest.approx(variances.sum())
    assert found["accuracy"].test_df == pytest.approx(df)
    level = 2 * ndtr(t.ppf(0.975, df)) - 1
    peer = binomtest(78, 100).proportion_ci(level, method="wilson")
    interval = found["accuracy"].interval()
    assert (interval.low, interval.high) == pytest.approx((peer.low, peer.high))


def test_interval__of_balanced_accuracy_is_put_together_from_the_recalls() -> None:
    """Recalls of 1/2 and 9/10 count as 29 and 69 images. A Wilson end x has (x - p)^2 = t^2 x (1 - x) / n."""
    labels = np.repeat([0, 1], [30, 70])
    answers = _answers(labels, np.arange(100) % 10 < np.repeat([5, 9], [30, 70]))
    interval = scored(labels, [answers], Units(labels), ["balanced_accuracy"])["balanced_accuracy"].interval()
    squares = np.zeros(2)
    for recall, n in ((0.5, 29), (0.9, 69)):
        a = t.ppf(0.975, n) ** 2 / n
        squares += (np.sort(np.roots([1 + a, -2 * recall - a, recall**2])) - recall) ** 2
    low, high = np.sqrt(squares) / 2
    assert (interval.low, interval.high) == pytest.approx((0.7 - low, 0.7 + high))


def test_interval__of_auc_has_ends_that_are_just_not_rejected() -> None:
    """|estimate - end| = t sqrt(end (1 - end) / n), with the n of estimate (1 - estimate) / n = variance."""
    labels = np.repeat([0, 1], [60, 40])
    auc = scored(labels, _heads(labels, 2, np.random.default_rng(0)), Units(labels), ["auc"])["auc"]
    n = auc.estimate * (1 - auc.estimate) / auc.test_covariance.mean()
    assert n < 4 * 40
    for end in (auc.interval(0.9).low, auc.interval(0.9).high):
        assert abs(auc.estimate - end) == pytest.approx(t.ppf(0.95, auc.test_df) * np.sqrt(end * (1 - end) / n))


def test_interval__stays_among_the_possible_scores() -> None:
    rng = np.random.default_rng(0)
    for n_wrong in (0, 1, 2, 6, 11, 12):
        labels = np.repeat([0, 1], [40, 6])
        is_right = np.ones(46, dtype=bool)
        is_right[rng.permutation(np.r_[30:46])[:n_wrong]] = False
        for truth in (labels, 1 - labels):  # nearly right, and nearly always wrong
            found = scored(labels, [_answers(truth, is_right)] * 3, Units(labels))
            for metric, one in found.items():
                interval = one.interval()
                least = -1.0 if metric == "kappa" else 0.0
                assert least - 1e-12 <= interval.low <= interval.estimate <= interval.high + 1e-12 <= 1.0 + 2e-12
                assert interval.high - interval.low > 0.02


@pytest.mark.parametrize(
    ("metric", "n_positive", "n_negative", "area"),
    [("auc", 3, 95, 0.95), ("auc", 10, 90, 0.95), ("auc", 12, 12, 0.98), ("balanced_accuracy", 10, 90, 0.95)],
)
def test_interval__covers(metric: str, n_positive: int, n_negative: int, area: float) -> None:
    """Two normal distributions d apart have the AUC Phi(d / sqrt 2), and the recall Phi(d / 2) half-way."""
    rng = np.random.default_rng(0)
    apart = np.sqrt(2) * ndtri(area)
    truth = area if metric == "auc" else ndtr(apart / 2)
    labels = np.repeat([1, 0], [n_positive, n_negative])
    units, n_covered = Units(labels), 0
    for values in rng.normal(size=(600, len(labels))) + apart * (labels - 0.5):
        interval = scored(labels, [_binary(values)], units, [metric])[metric].interval()
        n_covered += interval.low <= truth <= interval.high
    assert n_covered / 600 >= 0.92


def test_test_df__is_that_of_the_class_that_decides() -> None:
    """Recalls of 4/5 and 2/4: variances 0.16 / 4 and 0.25 / 3, each by 2^2."""
    labels = np.repeat([0, 1], [5, 4])
    both = scored(labels, [_answers(labels, np.array([1, 1, 1, 1, 0, 1, 1, 0, 0]) == 1)], Units(labels))
    first, second = 0.16 / 16, 0.25 / 12
    np.testing.assert_allclose(both["balanced_accuracy"].class_variances, [first, second])
    assert both["balanced_accuracy"].test_df == pytest.approx((first + second) ** 2 / (first**2 / 4 + second**2 / 3))
    one = scored(labels, [_answers(labels, np.array([1, 1, 1, 1, 0, 1, 1, 1, 1]) == 1)], Units(labels))
    assert one["balanced_accuracy"].test_df == pytest.approx(4)
    none = scored(labels, [_answers(labels, np.ones(9, dtype=bool))], Units(labels))
    assert none["balanced_accuracy"].test_df == 3


@pytest.mark.parametrize("metric", METRICS)
def test_test_df__a_rare_class_that_agrees_by_chance_still_counts(metric: str) -> None:
    """All 3 rare images are right. Were all images alike, a mean over classes had variances as 1/97 and 1/3."""
    labels = np.repeat([0, 1], [97, 3])
    found = scored(labels, [_answers(labels, np.arange(100) != 5)], Units(labels))[metric]
    alike = np.array([97, 3]) if metric == "accuracy" else np.array([1 / 97, 1 / 3])
    most = alike.sum() ** 2 / (alike**2 / [96, 2]).sum()
    variances = found.class_variances
    assert found.test_df == pytest.approx(min(most, variances.sum() ** 2 / (variances**2 / [96, 2]).sum()))
    assert (found.test_df < 2.2) == (metric != "accuracy")


def test_test_df__few_patients_with_most_of_the_images_count_as_fewer() -> None:
    """The rare class has patients of 9, 1, 1 and 1 images: 84^2 / 6564 of them, which is hardly more than one."""
    patients = np.r_[np.arange(30), np.repeat([30, 31, 32, 33], [9, 1, 1, 1])]
    labels = np.repeat([0, 1], [30, 12])
    heads = _heads(labels, 2, np.random.default_rng(0), 1)
    found = scored(labels, heads, Units(labels, patients), ["auc"])["auc"]
    alike, freedom = np.array([1 / 30, 84 / 12**2]), np.array([29, max(84**2 / 6564 - 1, 1)])
    variances = found.class_variances
    own = variances.sum() ** 2 / (variances**2 / [29, 3]).sum()
    assert found.test_df == pytest.approx(min(own, alike.sum() ** 2 / (alike**2 / freedom).sum()))
    assert found.test_df < own


def test_difference__heads_that_cancel_have_no_variance_below_0() -> None:
    """0.1 + 0.2 - 0.3 of the same parts: rounding leaves their mean covariance at -6e-18."""
    parts = np.random.default_rng(0).normal(size=(8, 1)) * [0.1, 0.2, -0.3]
    parts -= np.repeat([parts[:4].mean(axis=0), parts[4:].mean(axis=0)], 4, axis=0)
    gap = Scored("auc", np.zeros(3), parts, Units(np.repeat([0, 1], 4)), is_difference=True)
    assert gap.test_covariance.mean() < 0.0
    assert gap.test_variance == 0.0
    assert np.isnan([gap.interval().low, gap.interval().high]).all()


@pytest.mark.parametrize("rare", [3, 5])
@pytest.mark.parametrize("metric", ["auc", "balanced_accuracy"])
def test_difference__near_1_with_a_rare_class_covers(metric: str, rare: int) -> None:
    """One head each; true AUCs are 0.98 and 0.97, and recalls as far as half of the distance of the means tells."""
    rng = np.random.default_rng(rare)
    labels = np.repeat([0, 1], [100 - rare, rare])
    shifts, n_covered, n_given = np.sqrt(2) * ndtri([0.98, 0.97]), 0, 0
    truth = ndtr(shifts / (np.sqrt(2) if metric == "auc" else 2.0))
    units = Units(labels)
    for _ in range(400):
        common, own = rng.normal(size=100), rng.normal(size=(2, 100))
        heads = [_binary((common + own[m]) / np.sqrt(2) + shifts[m] * (labels - 0.5)) for m in (0, 1)]
        one, other = (scored(labels, [head], units, [metric])[metric] for head in heads)
        interval = (one - other).interval()
        n_given += not np.isnan(interval.low)
        n_covered += interval.low <= truth[0] - truth[1] <= interval.high
    assert n_given > 350
    assert n_covered / n_given >= 0.92


def test_difference__is_of_one_metric_on_the_same_test_set() -> None:
    labels, patients = np.arange(40) % 2, np.arange(40) // 4
    heads = _heads(labels, 2, np.random.default_rng(0))
    one = scored(labels, heads, Units(labels), ["auc", "accuracy"])
    assert (one["auc"] - scored(labels, heads, Units(labels.copy()), ["auc"])["auc"]).estimate == 0.0
    with pytest.raises(ValueError, match="one is auc, the other accuracy"):
        _ = one["auc"] - one["accuracy"]
    for other in (Units(1 - labels), Units(labels, patients)):
        with pytest.raises(ValueError, match="the labels or patients of the two differ"):
            _ = one["auc"] - scored(other.labels, heads, other, ["auc"])["auc"]


def test_difference__is_paired() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    heads = [_heads(labels, 2, rng) for _ in range(2)]
    one, other = (scored(labels, each, Units(labels), ["auc"])["auc"] for each in heads)
    gap, contrast = one - other, np.concatenate([np.eye(2), -np.eye(2)])
    together = covariance(Units(labels), np.concatenate([one.parts, other.parts], axis=1))
    np.testing.assert_allclose(gap.test_covariance, contrast.T @ together @ contrast)
    margin = t.ppf(0.95, gap.test_df) * np.sqrt(gap.test_covariance.mean())
    interval = gap.interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((gap.estimate - margin, gap.estimate + margin))
    none = (one - one).interval()
    assert none.estimate == 0.0
    assert np.isnan([none.low, none.high]).all()
    with pytest.raises(ValueError, match=r"are \(40, 2\) and \(40, 1\); a paired difference needs the same"):
        _ = one - Scored("auc", one.folds[:1], one.parts[:, :1], one.units)


@pytest.mark.parametrize("metric", ["auc", "accuracy"])
def test_test_df__patients_with_images_of_every_class_count_once(metric: str) -> None:
    """Five patients, three images of each of five classes; what a method gets wrong is the patient's. Equal methods."""
    rng, n_wrong, n_studies = np.random.default_rng(0), 0, 600
    patients, labels = np.repeat(np.arange(5), 15), np.tile(np.repeat(np.arange(5), 3), 5)
    units = Units(labels, patients)
    for _ in range(n_studies):
        methods = []
        for _ in range(2):
            logits = 1.2 * np.eye(5)[labels] + rng.normal(size=(5, 5))[patients] + rng.normal(size=(75, 5))
            methods.append(scored(labels, [logits], units, [metric])[metric])
        n_wrong += compared(methods[0] - methods[1], 0.0).p < 0.05
    assert n_wrong <= 0.072 * n_studies  # 30 are due; more than 43 of one in 120
