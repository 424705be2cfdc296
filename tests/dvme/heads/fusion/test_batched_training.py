from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from dvme.errors import DataError
from dvme.heads import HEADS, get_head
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job, fit_jobs
from dvme.heads.fusion import batched_training as training
from dvme.heads.fusion.network_head import NETWORKS, FittedNetwork, NetworkHead
from dvme.heads.fusion.networks import initial_parameters
from dvme.runtime import Runtime
from dvme.training.batches import epoch_order
from dvme.training.schedule import TrainingProtocol

N, DIMS = 120, (7, 5)
SHORT = TrainingProtocol(max_epochs=3, min_epochs=1, batch_size=16)


def _data(n_classes: int = 3, seed: int = 0) -> Embedded:
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % n_classes
    embeddings = {
        name: (rng.normal(size=(n_classes, dim))[labels] + rng.normal(size=(N, dim))).astype(np.float32)
        for name, dim in zip("ab", DIMS, strict=True)
    }
    return Embedded(embeddings, labels, n_classes)


def _job(name: str, n_train: int, *, seed: int = 0, protocol: TrainingProtocol = SHORT, n_validation: int = 30) -> Job:
    rows = np.random.default_rng(seed + 100).permutation(N)
    backbones = ("a", "b") if NetworkHead(name).is_fusion else ("a",)
    return Job(NetworkHead(name, protocol), backbones, rows[:n_train], rows[n_train : n_train + n_validation], seed)


def _probabilities(head: FittedHead, data: Embedded, job: Job) -> NDArray[Any]:
    return head.predict_proba(data.blocks(job.backbones, slice(None)))


def _slow_loop(job: Job, data: Embedded) -> tuple[dict[str, torch.Tensor], int, float]:
    """One job by torch's own optimizer and scheduler, a minibatch and an epoch at a time."""
    assert isinstance(job.head, NetworkHead)
    protocol, network = job.head.protocol, NETWORKS[job.head.name]
    start = initial_parameters(network.shapes(data.dims(job.backbones), data.n_classes), job.seed)
    parameters = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=protocol.learning_rate, fused=False, foreach=False)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=protocol.plateau_patience)
    order_of, dropout = np.random.default_rng(job.seed), torch.Generator().manual_seed(job.seed)
    features = [torch.from_numpy(data.embeddings[name]) for name in job.backbones]
    targets = torch.from_numpy(data.labels)

    def loss_on(rows: NDArray[Any], drop: Any) -> torch.Tensor:
        stacked = {name: value[None] for name, value in parameters.items()}
        logits = network.logits(stacked, [f[rows][None] for f in features], drop)[0]
        return functional.cross_entropy(logits, targets[rows])

    best: tuple[dict[str, torch.Tensor], int, float] = ({}, 0, np.inf)
    for epoch in range(1, protocol.max_epochs + 1):
        order = job.train[epoch_order(data.labels[job.train], "shuffled", order_of)]
        for begin in range(0, len(order), protocol.batch_size):

            def drop(hidden: torch.Tensor) -> torch.Tensor:
                if not network.dropout:
                    return hidden
                keep = torch.empty(1, protocol.batch_size, hidden.shape[2])  # a short batch draws a whole mask
                keep[0].bernoulli_(1 - network.dropout, generator=dropout)
                return hidden * keep[:, : hidden.shape[1]] / (1 - network.dropout)

            optimizer.zero_grad()
            loss_on(order[begin : begin + protocol.batch_size], drop).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            loss = float(loss_on(job.validation, lambda hidden: hidden))
        scheduler.step(loss)
        if loss < best[2]:
            best = {name: value.detach().clone() for name, value in parameters.items()}, epoch, loss
        if epoch >= protocol.min_epochs and epoch - best[1] >= protocol.stop_patience:
            break
    return best


@pytest.mark.parametrize("name", list(NETWORKS))
def test_fit__is_the_slow_loop_over_torchs_own_adam(name: str) -> None:
    data = _data()
    protocol = TrainingProtocol(
        max_epochs=9, min_epochs=1, batch_size=16, plateau_patience=1, stop_patience=4, sampling="shuffled"
    )
    job = _job(name, 50, protocol=protocol)
    fitted = fit_jobs([job], data)[0]
    parameters, epoch, loss = _slow_loop(job, data)
    assert fitted.chosen["epoch"] == epoch
    assert fitted.chosen["validation_loss"] == pytest.approx(loss, abs=1e-4)
    peer = FittedNetwork(name, data.dims(job.backbones), 3, parameters, {})
    np.testing.assert_allclose(
        _probabilities(fitted, data, job), peer.predict_proba(data.blocks(job.backbones, slice(None))), atol=1e-3
    )


@pytest.mark.parametrize("name", list(NETWORKS))
def test_fit__a_job_does_not_depend_on_the_company_it_keeps(name: str) -> None:
    data = _data()
    slow = TrainingProtocol(max_epochs=2, min_epochs=1, batch_size=16, learning_rate=1e-4)
    jobs = [
        _job(name, 16, seed=1),
        _job(name, 50, seed=2, n_validation=7),
        _job(name, 81, seed=3, protocol=slow),
        _job(name, 33, seed=4, n_validation=0),
    ]
    together = fit_jobs(jobs, data)
    shuffled = fit_jobs(jobs[::-1], data)[::-1]
    for job, one, other in zip(jobs, together, shuffled, strict=True):
        alone = fit_jobs([job], data)[0]
        assert dict(one.chosen).keys() == dict(alone.chosen).keys()
        assert one.chosen["epoch"] == other.chosen["epoch"] == alone.chosen["epoch"]
        for head in (one, other):
            np.testing.assert_allclose(_probabilities(head, data, job), _probabilities(alone, data, job), atol=1e-5)


def test_fit__a_small_memory_budget_splits_the_group_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data, sizes = _data(), []
    jobs = [_job("linear-adam", 40, seed=seed) for seed in range(5)]
    whole = fit_jobs(jobs, data)
    original = training.train_together

    def counted(*arguments: Any, **options: Any) -> Any:
        sizes.append(len(arguments[3]))
        return original(*arguments, **options)

    monkeypatch.setattr("dvme.heads.fusion.batched_training.train_together", counted)
    split = fit_jobs(jobs, data, runtime=Runtime(memory=1))
    assert sizes == [1] * 5
    for job, one, other in zip(jobs, whole, split, strict=True):
        np.testing.assert_allclose(_probabilities(one, data, job), _probabilities(other, data, job), atol=1e-6)


def test_fit__jobs_that_are_through_leave_the_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _data()
    short, long = _job("linear-adam", 16, seed=1), _job("linear-adam", 80, seed=2)
    widths: list[int] = []
    original = training._Group.step

    def watched(group: training._Group) -> Sequence[int]:
        widths.append(len(group.active))
        return original(group)

    monkeypatch.setattr(training._Group, "step", watched)
    fit_jobs([short, long], data)
    assert widths == [2] * 3 + [1] * 12  # one minibatch an epoch against five, three epochs each


def test_fit__rows_of_no_job_are_never_looked_at() -> None:
    data = _data()
    job = _job("dvme", 40)
    used = np.union1d(job.train, job.validation)
    unused = np.setdiff1d(np.arange(N), used)
    assert len(unused)
    spoiled = {name: values.copy() for name, values in data.embeddings.items()}
    for values in spoiled.values():
        values[unused] = np.nan
    labels = data.labels.copy()
    labels[unused] = 99
    one, other = fit_jobs([job], data)[0], fit_jobs([job], Embedded(spoiled, labels, 3))[0]
    blocks = data.blocks(job.backbones, used)
    np.testing.assert_array_equal(one.predict_proba(blocks), other.predict_proba(blocks))


def test_fit__half_precision_embeddings_are_trained_in_single() -> None:
    data = _data()
    half = Embedded({name: values.astype(np.float16) for name, values in data.embeddings.items()}, data.labels, 3)
    single = Embedded({name: values.astype(np.float32) for name, values in half.embeddings.items()}, data.labels, 3)
    job = _job("linear-adam", 40)
    np.testing.assert_array_equal(
        _probabilities(fit_jobs([job], half)[0], half, job), _probabilities(fit_jobs([job], single)[0], single, job)
    )


def test_fit__learns_what_can_be_learned() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 2
    planted = {
        name: (4 * labels[:, None] + rng.normal(size=(N, dim))).astype(np.float32) for name, dim in (("a", 7), ("b", 5))
    }
    data = Embedded(planted, labels, 2)
    protocol = TrainingProtocol(max_epochs=15, min_epochs=15, batch_size=16, learning_rate=3e-2)
    for name in NETWORKS:
        job = _job(name, 80, protocol=protocol)
        test = np.setdiff1d(np.arange(N), np.union1d(job.train, job.validation))
        predicted = fit_jobs([job], data)[0].predict_proba(data.blocks(job.backbones, test)).argmax(1)
        assert (predicted == labels[test]).mean() > 0.85, name


def test_fit__refuses_what_nothing_can_be_learned_from() -> None:
    data = _data()
    job = _job("dvme", 40)
    with pytest.raises(DataError, match=r"dvme on a\+b has no training rows"):
        fit_jobs([Job(job.head, job.backbones, job.train[:0], job.validation)], data)
    with pytest.raises(DataError, match="chooses on rows that it trains on"):
        fit_jobs([Job(job.head, job.backbones, job.train, job.train[:3])], data)
    data.embeddings["b"][job.validation[0], 2] = np.nan
    with pytest.raises(DataError, match="1 of 70 rows of b are not finite"):
        fit_jobs([job], data)


def test_fit__refuses_numbers_beyond_float32_for_every_head() -> None:
    data = _data()
    wide = {name: values.astype(np.float64) for name, values in data.embeddings.items()}
    for head in (get_head(name) for name in HEADS):
        job = _job("dvme", 40)
        job = Job(head, ("a", "b") if head.is_fusion else ("a",), job.train, job.validation)
        spoiled = {name: values.copy() for name, values in wide.items()}
        spoiled["a"][job.train[:2], 1] = 1e200
        with pytest.raises(DataError, match=r"2 of 70 rows of (block )?a are not finite in float32"):
            fit_jobs([job], Embedded(spoiled, data.labels, 3))


@pytest.mark.parametrize("n_validation", [30, 0])
def test_fit__refuses_a_network_that_diverged(n_validation: int) -> None:
    protocol = TrainingProtocol(max_epochs=2, min_epochs=1, batch_size=16, learning_rate=1e30)
    job = _job("dvme-noattn", 40, n_validation=n_validation, protocol=protocol)
    why = "no epoch had a finite validation loss" if n_validation else "its parameters are not finite"
    with pytest.raises(DataError, match=rf"^dvme-noattn on a\+b diverged: {why}; ") as caught:
        fit_jobs([job], _data())
    assert "\n" not in str(caught.value)


def test_fit__a_minibatch_is_no_wider_than_the_longest_job(monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[tuple[int, ...]] = []
    original = training._gathered

    def watched(clocks: Sequence[Any], rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        blocks = original(clocks, rows)
        widths.append(tuple(blocks[0].shape[:2]))
        return blocks

    monkeypatch.setattr(training, "_gathered", watched)
    protocol = TrainingProtocol(max_epochs=1, min_epochs=1, batch_size=64)
    jobs = [_job("linear-adam", size, seed=size, protocol=protocol, n_validation=0) for size in (9, 20)]
    fit_jobs(jobs, _data())
    assert widths == [(2, 20)]
    widths.clear()
    fit_jobs([_job("linear-adam", 70, protocol=protocol, n_validation=0)], _data())
    assert widths == [(1, 64), (1, 64)]


@pytest.mark.parametrize("name", list(NETWORKS))
def test_fit__short_minibatches_draw_what_they_drew(name: str) -> None:
    """A small job beside one that fills its minibatches, and alone: the same rows, the same dropout."""
    data = _data()
    protocol = TrainingProtocol(max_epochs=4, min_epochs=1, batch_size=64)
    small, large = _job(name, 11, seed=1, protocol=protocol), _job(name, 80, seed=2, protocol=protocol)
    beside, alone = fit_jobs([small, large], data)[0], fit_jobs([small], data)[0]
    np.testing.assert_allclose(_probabilities(beside, data, small), _probabilities(alone, data, small), atol=1e-5)


@pytest.mark.parametrize("sampling", ["oversampled", "auto", "shuffled"])
def test_fit__watches_the_plain_mean_loss_however_it_samples(sampling: Any) -> None:
    """Trained rows are of unequal classes, and validation lacks one and has two in unequal numbers."""
    data = _data()
    rows = [np.flatnonzero(data.labels == c) for c in range(3)]
    train = np.concatenate([rows[0][:20], rows[1][:10], rows[2][:5]])
    validation = np.concatenate([rows[0][20:38], rows[1][20:23]])
    protocol = TrainingProtocol(max_epochs=1, min_epochs=1, batch_size=16, sampling=sampling)
    (fitted,) = fit_jobs([Job(NetworkHead("linear-adam", protocol), ("a",), train, validation)], data)
    probabilities = fitted.predict_proba(data.blocks(("a",), validation))
    losses = -np.log(probabilities[np.arange(21), data.labels[validation]])
    assert fitted.chosen["validation_loss"] == pytest.approx(losses.mean(), abs=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(NETWORKS))
def test_fit__cuda_trains_as_the_cpu_does(name: str) -> None:
    data = _data()
    job = _job(name, 50, protocol=TrainingProtocol(max_epochs=3, min_epochs=1, batch_size=16))
    cpu, cuda = (fit_jobs([job], data, runtime=Runtime(device=device))[0] for device in ("cpu", "cuda"))
    # Dropout is drawn on the device, from another generator.
    tolerance = 1e-3 if NETWORKS[name].dropout == 0 else 0.3
    np.testing.assert_allclose(_probabilities(cpu, data, job), _probabilities(cuda, data, job), atol=tolerance)


@pytest.mark.parametrize("n_validation", [20, 0])
def test_fit__weights_are_repeated_rows_where_a_minibatch_holds_them_all(n_validation: int) -> None:
    data = _data()
    protocol = TrainingProtocol(max_epochs=12, batch_size=1000, sampling="shuffled", learning_rate=1e-2)
    job = _job("linear-adam", 40, protocol=protocol, n_validation=n_validation)
    weights = np.random.default_rng(0).integers(0, 4, N)
    repeated = Job(
        job.head,
        job.backbones,
        np.repeat(job.train, weights[job.train]),
        np.repeat(job.validation, weights[job.validation]),
        job.seed,
    )
    weighted, beside = fit_jobs([job, _job("linear-adam", 60, seed=1, protocol=protocol)], _weighted(data, weights))
    (plain,) = fit_jobs([repeated], data)
    np.testing.assert_allclose(_probabilities(weighted, data, job), _probabilities(plain, data, job), atol=1e-5)
    assert weighted.chosen["epoch"] == plain.chosen["epoch"]
    assert weighted.chosen["validation_loss"] == pytest.approx(plain.chosen["validation_loss"], rel=1e-5, nan_ok=True)
    unweighted = fit_jobs([job], data)[0]
    assert np.abs(_probabilities(unweighted, data, job) - _probabilities(plain, data, job)).max() > 1e-3
    assert beside.chosen["n_epochs"] == 12


def _weighted(data: Embedded, weights: NDArray[Any]) -> Embedded:
    return Embedded(data.embeddings, data.labels, data.n_classes, weights)


def _cells(seed: int = 0, n_labels: int = 3) -> Embedded:
    rng = np.random.default_rng(seed)
    data = _data(seed=seed)
    cells = (data.embeddings["a"][:, :n_labels] + rng.normal(size=(N, n_labels)) > 0.7).astype(np.float32)
    cells[rng.random(cells.shape) < 0.3] = np.nan
    cells[np.isnan(cells).all(axis=1), 0] = 0.0
    return Embedded(data.embeddings, cells, n_labels)


def _slow_loop_of_labels(job: Job, data: Embedded) -> tuple[dict[str, torch.Tensor], int, float]:
    """As `_slow_loop`, one cell after the other: no weights, no masks, what is not known is never looked at."""
    assert isinstance(job.head, NetworkHead)
    protocol, network = job.head.protocol, NETWORKS[job.head.name]
    start = initial_parameters(network.shapes(data.dims(job.backbones), data.n_classes), job.seed)
    parameters = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=protocol.learning_rate, fused=False, foreach=False)
    order_of = np.random.default_rng(job.seed)
    features = [torch.from_numpy(data.embeddings[name]) for name in job.backbones]

    def loss_on(rows: NDArray[Any], cells: NDArray[Any]) -> torch.Tensor:
        stacked = {name: value[None] for name, value in parameters.items()}
        logits = network.logits(stacked, [f[rows][None] for f in features], lambda hidden: hidden)[0]
        losses = []
        for row, own in enumerate(cells[rows]):
            for label, value in enumerate(own.tolist()):
                if value == value:  # noqa: PLR0124
                    probability = torch.sigmoid(logits[row, label].double())
                    losses.append(-value * torch.log(probability) - (1.0 - value) * torch.log(1.0 - probability))
        return torch.stack(losses).mean()

    best: tuple[dict[str, torch.Tensor], int, float] = ({}, 0, np.inf)
    for epoch in range(1, protocol.max_epochs + 1):
        order = job.train[epoch_order(np.zeros(len(job.train)), "shuffled", order_of)]
        for begin in range(0, len(order), protocol.batch_size):
            optimizer.zero_grad()
            loss_on(order[begin : begin + protocol.batch_size], data.labels).backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(loss_on(job.validation, data.truth_of(np.arange(N))))
        if loss < best[2]:
            best = ({name: value.detach().clone() for name, value in parameters.items()}, epoch, loss)
    return best


@pytest.mark.parametrize("name", ["linear-adam", "dvme-noattn"])
def test_train__several_labels_against_a_loop_over_known_cells(name: str) -> None:
    data = _cells()
    data.labels[5:60:9, 1] = 0.7
    protocol = TrainingProtocol(max_epochs=3, min_epochs=1, batch_size=16, sampling="shuffled", learning_rate=1e-2)
    job = _job(name, 57, protocol=protocol)
    parameters, epoch, loss = _slow_loop_of_labels(job, data)
    together = fit_jobs([_job(name, 40, seed=1, protocol=protocol), job], data, runtime=Runtime(device="cpu"))[1]
    assert isinstance(together, FittedNetwork)
    assert together.chosen["epoch"] == epoch
    assert together.chosen["validation_loss"] == pytest.approx(loss, rel=1e-5)
    for key, value in parameters.items():
        torch.testing.assert_close(together.parameters[key], value, atol=2e-6, rtol=1e-4)


def test_train__a_masked_label_is_trained_as_if_its_other_rows_were_not_there() -> None:
    data = _cells(1, n_labels=1)
    data.labels[::3] = np.nan
    job = _job("mlp", 80)
    kept = Job(
        job.head, job.backbones, *(rows[~np.isnan(data.labels[rows, 0])] for rows in (job.train, job.validation))
    )
    full = Embedded(data.embeddings, np.nan_to_num(data.labels), 1)
    masked, removed = fit_jobs([job], data)[0], fit_jobs([kept], full)[0]
    np.testing.assert_array_equal(_probabilities(masked, data, job), _probabilities(removed, full, kept))


def test_train__oversamples_images_by_the_rarest_label_that_they_have() -> None:
    cells = np.zeros((N, 2), dtype=np.float32)
    cells[:40, 0] = 1.0  # 34 of it alone
    cells[34:44, 1] = 1.0  # and 10 of this
    data = Embedded(_data().embeddings, cells, 2)
    protocol = TrainingProtocol(batch_size=16)
    rows = np.arange(90)
    truth = data.truth_of(np.arange(N))
    job = training.TrainingJob([torch.zeros(N, 7)], cells, rows, rows[:0], 0, protocol, np.ones(N), truth)
    clock = training._Clock(job, 16)
    seen = np.concatenate([clock.next_batch()[0][: 16 if batch < 5 else 10].numpy() for batch in range(6)])
    assert np.bincount(np.select([seen < 34, seen < 44], [0, 1], 2)).tolist() == [30, 30, 30]


def test_train__labels_of_which_nothing_is_known_are_a_half_and_named() -> None:
    data = _cells(2)
    data.labels[:, 1] = np.nan
    data.labels[:, 2] = np.where(np.isnan(data.labels[:, 2]), np.nan, 0.0)
    for name in NETWORKS:
        job = _job(name, 40)
        head = fit_jobs([job], data)[0]
        assert head.chosen["constant_labels"] == [1, 2]
        probabilities = _probabilities(head, data, job)
        assert (probabilities[:, 1] == 0.5).all()
        assert len(np.unique(probabilities[:, 0])) > 1


def test_train__several_labels_twice_the_same_and_beside_others() -> None:
    data = _cells(3)
    for name in NETWORKS:
        jobs = [_job(name, n_train, seed=n_train) for n_train in (33, 60)]
        one, other = fit_jobs(jobs, data), fit_jobs(jobs, data)
        for job, first, second in zip(jobs, one, other, strict=True):
            np.testing.assert_array_equal(_probabilities(first, data, job), _probabilities(second, data, job))
            alone = fit_jobs([job], data)[0]
            np.testing.assert_allclose(_probabilities(first, data, job), _probabilities(alone, data, job), atol=1e-4)


def test_train__several_labels_without_validation_keep_the_last_epoch() -> None:
    data = _cells(4)
    job = _job("linear-adam", 60)
    unknown = Embedded(data.embeddings, data.labels, 3, truth=np.full((N, 3), np.nan))
    head = fit_jobs([job], unknown)[0]
    assert head.chosen["epoch"] == SHORT.max_epochs
    assert np.isnan(head.chosen["validation_loss"])
    same = fit_jobs([Job(job.head, job.backbones, job.train, job.validation[:0], job.seed)], data)[0]
    np.testing.assert_array_equal(_probabilities(head, data, job), _probabilities(same, data, job))
