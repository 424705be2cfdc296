from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from dvme.explanation.ablation import FLOOR, Ablation, leave_one_out, leave_one_out_retrained
from dvme.heads import Embedded, FittedHead, Job, fit_jobs, get_head
from dvme.heads.exact.linear import Linear
from dvme.heads.fusion.controls import Concat, MeanLogits
from dvme.heads.fusion.network_head import NETWORKS, FittedNetwork
from dvme.heads.fusion.networks import initial_parameters
from dvme.stats import Interval

EMPTY = np.array([], dtype=np.int64)


@dataclass(frozen=True)
class _Stub:
    """The softmax of a weighted sum of the blocks, whose columns are the classes."""

    weights: tuple[float, ...]
    chosen: Mapping[str, Any]

    def log_proba(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        logits = sum(weight * block.astype(np.float64) for weight, block in zip(self.weights, blocks, strict=True))
        away = logits - logits.max(axis=1, keepdims=True)
        return away - np.log(np.exp(away).sum(axis=1, keepdims=True))


def _stub(*weights: float) -> FittedHead:
    return _Stub(weights, {})  # type: ignore[return-value]


def _planted(n: int = 400, seed: int = 0) -> Embedded:
    """Backbone `signal` knows the class, `copy` knows the same, `noise` nothing."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    signal = (rng.normal(size=(3, 10))[labels] + rng.normal(size=(n, 10))).astype(np.float32)
    noise = rng.normal(size=(n, 10)).astype(np.float32)
    return Embedded({"signal": signal, "copy": signal.copy(), "noise": noise}, labels, 3)


def _jobs(head: str, backbones: tuple[str, ...], n_folds: int = 2) -> list[Job]:
    """Folds over the first 150 rows."""
    rows = np.random.default_rng(1).permutation(150)
    parts = np.array_split(rows, 5)
    # One strength: the choice among several is not what is tested, and takes time.
    linear = Linear(strengths=(1e-3,))
    fitter = {"concat": Concat(linear), "mean-logits": MeanLogits(linear)}.get(head) or get_head(head)
    return [Job(fitter, backbones, np.setdiff1d(rows, part), part) for part in parts[:n_folds]]


TEST = np.arange(150, 400)


def _found(ablation: Ablation) -> dict[str, tuple[Interval, Interval]]:
    return {item.backbone: (item.log_loss_difference, item.auc_difference) for item in ablation.left_out}


@pytest.mark.parametrize("head", ["concat", "mean-logits"])
@pytest.mark.parametrize("is_retrained", [False, True])
def test_leave_one_out__finds_the_backbone_that_carries_the_signal(head: str, is_retrained: bool) -> None:
    data, jobs = _planted(), _jobs(head, ("signal", "noise"))
    fitted = fit_jobs(jobs, data)
    result = (
        leave_one_out_retrained(fitted, jobs, data, TEST) if is_retrained else leave_one_out(fitted, jobs, data, TEST)
    )
    assert result.is_retrained == is_retrained
    signal, noise = _found(result)["signal"], _found(result)["noise"]
    assert signal[0].low > 0.5
    assert signal[1].high < -0.2
    assert abs(noise[0].estimate) < 0.2
    assert abs(noise[1].estimate) < 0.05
    validation = {item.backbone: item.validation_log_loss_difference.mean for item in result.left_out}
    assert validation["signal"] > 0.5 > abs(validation["noise"])


def test_leave_one_out__of_two_that_know_the_same_both_matter_until_retrained() -> None:
    data, jobs = _planted(), _jobs("concat", ("signal", "copy"))
    fitted = fit_jobs(jobs, data)
    reliance = _found(leave_one_out(fitted, jobs, data, TEST))
    retrained = _found(leave_one_out_retrained(fitted, jobs, data, TEST))
    for name in ("signal", "copy"):
        assert reliance[name][0].low > 0.05
        assert abs(retrained[name][0].estimate) < 0.03


def test_leave_one_out__is_a_plain_loop_over_the_head() -> None:
    data = _planted()
    dims = data.dims(("signal", "noise"))
    shapes = NETWORKS["dvme-tokens"].shapes(dims, 3)
    heads = [FittedNetwork("dvme-tokens", dims, 3, initial_parameters(shapes, seed), {}) for seed in range(2)]
    jobs = _jobs("dvme-tokens", ("signal", "noise"))
    before = {name: array.copy() for name, array in data.embeddings.items()}
    result = leave_one_out(heads, jobs, data, TEST)
    for m, item in enumerate(result.left_out):
        for fold, (head, job) in enumerate(zip(heads, jobs, strict=True)):
            for rows, losses in (
                (TEST, item.performance.log_loss.folds),
                (job.validation, item.performance.validation_log_loss.folds),
            ):
                blocks = data.blocks(job.backbones, rows)
                blocks[m] = np.stack([data.embeddings[job.backbones[m]][job.train].mean(axis=0)] * len(rows))
                proba = head.predict_proba(blocks)
                assert losses[fold] == pytest.approx(log_loss(data.labels[rows], proba, labels=[0, 1, 2]), rel=1e-5)
                if rows is TEST:
                    auc = roc_auc_score(data.labels[TEST], proba, multi_class="ovr")
                    assert item.performance.auc.folds[fold] == pytest.approx(auc, abs=1e-3)
        loss, auc = item.performance.log_loss.mean, item.performance.auc.mean
        assert item.log_loss_difference.estimate == pytest.approx(loss - result.intact.log_loss.mean)
        assert item.auc_difference.estimate == pytest.approx(auc - result.intact.auc.mean)
        assert item.log_loss_difference.low < item.log_loss_difference.estimate < item.log_loss_difference.high
    for name, array in data.embeddings.items():
        np.testing.assert_array_equal(array, before[name])


def test_leave_one_out__takes_the_mean_of_the_training_rows_of_each_fold() -> None:
    labels = np.arange(40) % 2
    block = np.zeros((40, 2), dtype=np.float32)
    block[:10, 1], block[10:20, 1] = 1.0, 3.0  # the two folds' training rows; test rows are zero
    data = Embedded({"a": block}, labels, 2)
    jobs = [Job(get_head("concat"), ("a",), np.arange(start, start + 10), EMPTY) for start in (0, 10)]
    result = leave_one_out([_stub(1.0), _stub(1.0)], jobs, data, np.arange(20, 40))
    expected = [(np.log1p(np.exp(-mean)) + np.log1p(np.exp(mean))) / 2 for mean in (1.0, 3.0)]
    np.testing.assert_allclose(result.left_out[0].performance.log_loss.folds, expected, rtol=1e-6)
    assert result.intact.log_loss.mean == pytest.approx(np.log(2))
    assert result.n_test == 20
    assert np.isnan(result.intact.validation_log_loss.folds).all()  # there are no validation rows


def test_leave_one_out__intervals_cover_the_truth() -> None:
    """P(y = 1) = sigmoid(x_a + x_b / 2) and the head knows it; the truth is read off a large sample."""

    def draw(n: int, seed: int) -> Embedded:
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(2, n))
        labels = (rng.random(n) < 1 / (1 + np.exp(-a - 0.5 * b))).astype(np.int64)
        a[:10] = b[:10] = 0.0  # training rows
        return Embedded({name: np.stack([0 * x, x], axis=1) for name, x in (("a", a), ("b", b))}, labels, 2)

    def found(n: int, seed: int) -> Ablation:
        job = Job(get_head("concat"), ("a", "b"), np.arange(10), EMPTY)
        return leave_one_out([_stub(1.0, 0.5)], [job], draw(n, seed), np.arange(10, n))

    large = draw(400_000, 999)
    sure = {}
    for name, scale in (("a", 1.0), ("b", 0.5)):
        x = {key: value[10:, 1] for key, value in large.embeddings.items()}
        whole = x["a"] + 0.5 * x["b"]
        sign = 1 - 2 * large.labels[10:]
        gap = np.logaddexp(0, sign * (whole - scale * x[name])) - np.logaddexp(0, sign * whole)
        sure[name] = float(gap.mean())
    n_runs, covered = 400, {"a": 0, "b": 0}
    for seed in range(n_runs):
        for item in found(260, seed).left_out:
            covered[item.backbone] += (
                item.log_loss_difference.low <= sure[item.backbone] <= item.log_loss_difference.high
            )
    for name in ("a", "b"):
        assert covered[name] >= 366, covered  # 380 are expected; fewer than 366 of one in 600


def test_leave_one_out__whole_groups_vary() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 8)  # eight bit-identical rows of each
    values = rng.normal(size=(40, 2))[patients]
    data = Embedded({"a": np.concatenate([np.zeros((10, 2)), values])}, np.r_[np.zeros(10, int), patients % 2], 2)
    job = Job(get_head("concat"), ("a",), np.arange(10), EMPTY)
    test = np.arange(10, 330)
    alone = leave_one_out([_stub(1.0)], [job], data, test).left_out[0].log_loss_difference
    grouped = leave_one_out([_stub(1.0)], [job], data, test, groups=patients).left_out[0].log_loss_difference
    assert grouped.estimate == alone.estimate
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(np.sqrt(8), rel=0.15)


def test_leave_one_out__what_is_the_same_for_all_has_no_interval() -> None:
    labels = np.arange(110) % 2
    block = np.stack([0 * labels, 2.0 * labels - 1], axis=1)  # the training rows' mean is 0
    job = Job(get_head("concat"), ("a",), np.arange(10), EMPTY)
    patients = np.sqrt(np.arange(100)).astype(int)  # of 1 to 19 rows: resamples differ in size
    found = leave_one_out([_stub(1.0)], [job], Embedded({"a": block}, labels, 2), np.arange(10, 110), groups=patients)
    difference = found.left_out[0].log_loss_difference
    assert difference.estimate == pytest.approx(np.log(2) - np.log1p(np.exp(-1)))
    assert np.isnan([difference.low, difference.high]).all()


def test_leave_one_out__too_small_a_test_set_has_no_interval() -> None:
    data, jobs = _planted(), _jobs("concat", ("signal", "noise"), 1)
    three = Embedded({name: data.embeddings[name][:, :3] for name in ("signal", "noise")}, data.labels, 3)
    result = leave_one_out([_stub(1.0, 1.0)], jobs, three, TEST, groups=TEST % 2)  # two patients
    item = result.left_out[0]
    assert np.isfinite(item.log_loss_difference.estimate)
    assert np.isnan([item.log_loss_difference.low, item.auc_difference.high]).all()
    assert np.isnan(item.performance.log_loss.std)  # one fold


def test_leave_one_out__an_impossible_class_costs_a_finite_loss() -> None:
    labels = np.arange(20) % 2
    data = Embedded({"a": np.stack([0 * labels, 4000 * (1 - 2 * labels)], axis=1)}, labels, 2)
    job = Job(get_head("concat"), ("a",), np.arange(2), EMPTY)
    assert leave_one_out([_stub(1.0)], [job], data, np.arange(20)).intact.log_loss.mean == pytest.approx(-np.log(FLOOR))


def test_leave_one_out_retrained__fits_the_same_folds_on_the_others() -> None:
    data, jobs = _planted(), _jobs("concat", ("signal", "copy", "noise"))
    result = leave_one_out_retrained(fit_jobs(jobs, data), jobs, data, TEST)
    others = {"signal": ("copy", "noise"), "copy": ("signal", "noise"), "noise": ("signal", "copy")}
    for item in result.left_out:
        reduced = [Job(job.head, others[item.backbone], job.train, job.validation) for job in jobs]
        for fold, (head, job) in enumerate(zip(fit_jobs(reduced, data), reduced, strict=True)):
            for rows, losses in (
                (TEST, item.performance.log_loss.folds),
                (job.validation, item.performance.validation_log_loss.folds),
            ):
                expected = log_loss(data.labels[rows], head.predict_proba(data.blocks(job.backbones, rows)))
                assert losses[fold] == pytest.approx(expected, rel=1e-4)


def test_leave_one_out__becomes_json() -> None:
    data, jobs = _planted(), _jobs("concat", ("signal", "noise"))
    value = json.loads(json.dumps(leave_one_out(fit_jobs(jobs, data), jobs, data, TEST).to_json(), allow_nan=False))
    assert [item["backbone"] for item in value["left_out"]] == ["signal", "noise"]
    assert set(value["left_out"][0]["log_loss_difference"]) == {"estimate", "low", "high"}
    assert len(value["intact"]["auc"]["folds"]) == 2
