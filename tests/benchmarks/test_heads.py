"""Heads trained together against the same heads one after another, and how near the arithmetic both are.

Run by `make bench`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import nn

from dvme.heads.fitting.jobs import Embedded, Job, fit_jobs
from dvme.heads.fusion.network_head import NETWORKS, NetworkHead
from dvme.heads.fusion.networks import count_parameters
from dvme.heads.neighbours.knn import KNN, NEIGHBOURS
from dvme.metrics.classification import macro_auc
from dvme.training.schedule import TrainingProtocol

pytestmark = pytest.mark.bench
DIMS = {"swav": 2048, "simclr": 2048, "dino": 1536}
SIZES, N_FOLDS = (64, 128, 192, 256, 320), 5
ADAM_PASSES = 7
"""Arrays of the parameters' size that one update reads or writes: p, g, m, v in; p, m, v out."""


def _data(n_rows: int, n_classes: int = 5, dims: Mapping[str, int] = DIMS) -> Embedded:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, n_rows)
    embeddings = {
        name: (0.2 * rng.normal(size=(n_classes, dim))[labels] + 0.5 * rng.normal(size=(n_rows, dim))).astype("float32")
        for name, dim in dims.items()
    }
    return Embedded(embeddings, labels, n_classes)


def _jobs(name: str, n_rows: int, sizes: tuple[int, ...], epochs: int) -> list[Job]:
    head = NetworkHead(name, TrainingProtocol(min_epochs=epochs, max_epochs=epochs))
    backbones = tuple(DIMS) if head.is_fusion else ("swav",)
    orders = [np.random.default_rng(fold).permutation(n_rows) for fold in range(N_FOLDS)]
    return [
        Job(head, backbones, order[:size], order[-n_rows // 5 :], fold)
        for size in sizes
        for fold, order in enumerate(orders)
    ]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _floor(name: str, n_minibatches: int, dims: tuple[int, ...] = tuple(DIMS.values())) -> float:
    """Seconds of the bare products of a minibatch, forward and backward, and of one pass of Adam over memory."""
    shapes = NETWORKS[name].shapes(dims if NetworkHead(name).is_fusion else dims[:1], 5)
    n_parameters = count_parameters(shapes)
    source, target = torch.zeros(2, ADAM_PASSES * n_parameters // 2)
    weights = {key: torch.randn(shape) for key, shape in shapes.items() if len(shape) == 2 and "attention" not in key}
    inputs = {key: torch.randn(64, weight.shape[0]) for key, weight in weights.items()}
    outputs = {key: torch.randn(64, weight.shape[1]) for key, weight in weights.items()}

    def once() -> None:
        for key, weight in weights.items():
            inputs[key] @ weight
            inputs[key].T @ outputs[key]
            if not key.startswith("projections"):  # nothing flows back into the embeddings
                outputs[key] @ weight.T
        target.copy_(source)

    once()
    return n_minibatches * float(np.median([_seconds(once) for _ in range(15)]))


@pytest.mark.parametrize(
    ("name", "epochs", "least"), [("linear-adam", 10, 1.5), ("dvme", 1, 0.9), ("dvme-noattn", 1, 0.9)]
)
def test_fit__twenty_five_jobs_together_against_one_after_another(name: str, epochs: int, least: float) -> None:
    n_rows = 600
    data, jobs = _data(n_rows), _jobs(name, n_rows, SIZES, epochs)
    backbones = jobs[0].backbones
    fit_jobs(jobs[:1], data)
    together, apart = [], []
    for _ in range(3):
        together.append(_seconds(lambda: fit_jobs(jobs, data)))
        apart.append(_seconds(lambda: [fit_jobs([job], data) for job in jobs]))
    ratio = float(np.median(apart) / np.median(together))
    blocks = data.blocks(backbones, slice(None))
    difference = max(
        np.abs(one.predict_proba(blocks) - fit_jobs([job], data)[0].predict_proba(blocks)).max()
        for one, job in zip(fit_jobs(jobs, data), jobs, strict=True)
    )
    n_minibatches = epochs * sum(-(-len(job.train) // 64) for job in jobs)
    floor = _floor(name, n_minibatches)
    print(
        f"\n{name}, 25 jobs (5 sizes x 5 folds), {n_minibatches} minibatches, medians of 3: together "
        f"{np.median(together):.2f} s, one after another {np.median(apart):.2f} s, {ratio:.2f} times faster; products "
        f"and memory traffic alone {floor:.2f} s, {np.median(together) / floor:.2f} times that; "
        f"largest difference of a probability {difference:.1e}"
    )
    assert difference <= 1e-4
    assert ratio >= least


WIDE = {"supervised": 2048, "swav": 2048, "simclr": 2048, "dino": 1536}
"""The four backbones of test_sweep.py."""


@pytest.mark.parametrize(("name", "least"), [("dvme-noattn", 1.2), ("dvme", 5.0)])
def test_step__against_a_plain_loop(name: str, least: float) -> None:
    """One job alone on four backbones; its first draw and its end are taken off by two lengths of training."""
    data = _data(640, dims=WIDE)

    def seconds(epochs: int) -> float:
        head = NetworkHead(name, TrainingProtocol(min_epochs=epochs, max_epochs=epochs))
        return _seconds(lambda: fit_jobs([Job(head, tuple(WIDE), np.arange(640), np.arange(0), 0)], data))

    seconds(1)
    ours = float(np.median([(seconds(6) - seconds(2)) / 40 for _ in range(3)]))
    plain, fused = (_plain_step(data, is_fused, attention=name == "dvme") for is_fused in (False, True))
    floor = _floor(name, 1, tuple(WIDE.values()))
    print(
        f"\n{name}, a minibatch of one job: {1e3 * ours:.1f} ms, {ours / floor:.2f} times the bare products and memory "
        f"traffic ({1e3 * floor:.1f} ms); plain loop {1e3 * plain:.1f} ms, {plain / ours:.1f} times as long, with "
        f"Adam(fused=True) {1e3 * fused:.1f} ms, {fused / ours:.1f} times"
    )
    assert plain >= least * ours


def _plain_step(data: Embedded, is_fused: bool, *, attention: bool) -> float:
    """Median seconds of a minibatch of the paper's module by torch's own layers and Adam."""
    from timm.layers import Attention

    n_tokens = 512 * len(data.embeddings)
    layers = [nn.Linear(block.shape[1], 512) for block in data.embeddings.values()]
    scalar = Attention(dim=1, num_heads=1)
    ending: nn.Module = nn.Linear(n_tokens, 5)
    if attention:
        hidden = (nn.LayerNorm(n_tokens), nn.Linear(n_tokens, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 5))
        ending = nn.Sequential(*hidden)
    module = nn.ModuleList([*layers, scalar, ending] if attention else [*layers, ending])
    optimizer, rng = torch.optim.Adam(module.parameters(), lr=1e-3, fused=is_fused or None), np.random.default_rng(0)

    def once() -> None:
        rows = rng.integers(0, len(data.labels), 64)
        optimizer.zero_grad()
        blocks = [torch.from_numpy(block[rows]) for block in data.embeddings.values()]
        tokens = torch.cat([layer(block) for layer, block in zip(layers, blocks, strict=True)], dim=1)
        mixed = scalar(tokens[:, :, None]).squeeze(2) if attention else tokens
        loss = nn.functional.cross_entropy(ending(mixed), torch.from_numpy(data.labels[rows]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    once()
    return float(np.median([_seconds(once) for _ in range(8)]))


def test_dvme__five_folds_of_five_thousand_rows() -> None:
    """Two epochs of the paper's protocol, from which its fifty follow; every epoch costs the same."""
    n_rows, epochs = 5000, 2
    data = _data(n_rows)
    jobs = _jobs("dvme", n_rows, (4000,), epochs)
    seconds = _seconds(lambda: fit_jobs(jobs, data))
    n_minibatches = epochs * N_FOLDS * -(-4000 // 64)
    unfused = float(np.median([_seconds(_unfused_step) for _ in range(3)]))
    fifty = seconds / epochs * 50
    print(
        f"\ndvme, 5,000 rows x 5 folds: {1e3 * seconds / n_minibatches:.0f} ms a minibatch with validation; 50 "
        f"epochs of all folds {fifty / 60:.1f} min; with the attention matrix, {unfused:.1f} s a minibatch for the "
        f"attention alone, {n_minibatches / epochs * 50 * unfused / 3600:.0f} h"
    )
    assert fifty < 30 * 60


def _unfused_step() -> None:
    from timm.layers import Attention

    attention = Attention(dim=1, num_heads=1)
    attention.fused_attn = False
    tokens = (0.5 * torch.randn(64, 1536, 1)).requires_grad_()
    attention(tokens).sum().backward()


N_DATA_SETS, N_TRAIN, N_VALIDATION, N_TEST = 40, 600, 150, 4000
TOLERANCE = 0.01


@pytest.mark.parametrize("positives", [0.05, 0.1, 0.5])
def test_knn__the_chosen_k_against_the_best_one(positives: float) -> None:
    """The best k is one for all data sets: that with the highest mean AUC on their large test sets."""
    start, rng = time.perf_counter(), np.random.default_rng(round(100 * positives))
    train, chosen_on = np.arange(N_TRAIN), np.arange(N_TRAIN, N_TRAIN + N_VALIDATION)
    test = np.arange(N_TRAIN + N_VALIDATION, N_TRAIN + N_VALIDATION + N_TEST)
    rows, chosen, of_k = [], [], np.empty((N_DATA_SETS, len(NEIGHBOURS)))
    for number in range(N_DATA_SETS):
        labels = (rng.random(len(train) + len(chosen_on) + len(test)) < positives).astype(int)
        direction = rng.normal(size=32)
        direction /= np.linalg.norm(direction)
        features = 3.0 + rng.normal(size=(len(labels), 32)) + 1.6 * labels[:, None] * direction
        data = Embedded({"a": features.astype(np.float32)}, labels, 2)
        heads = [KNN(), *(KNN(neighbours=(k,)) for k in NEIGHBOURS)]
        fitted = [fit_jobs([Job(head, ("a",), train, chosen_on)], data)[0] for head in heads]
        aucs = [macro_auc(labels[test], head.predict_proba([data.embeddings["a"][test]])) for head in fitted]
        chosen.append(fitted[0].chosen["k"])
        rows.append(aucs[0])
        of_k[number] = aucs[1:]
    best = int(of_k.mean(axis=0).argmax())
    gaps = of_k[:, best] - np.array(rows)
    print(
        f"\nkNN, {positives:.0%} positives, {N_DATA_SETS} data sets, {N_TRAIN} rows and {N_VALIDATION} to choose on: "
        f"test AUC {np.mean(rows):.3f} with the chosen k (median {np.median(chosen):g}), {of_k[:, best].mean():.3f} "
        f"with the best, {NEIGHBOURS[best]}: {gaps.mean():.4f} +- {gaps.std(ddof=1) / np.sqrt(N_DATA_SETS):.4f} less; "
        f"every k: {dict(zip(NEIGHBOURS, of_k.mean(axis=0).round(3).tolist(), strict=True))}  "
        f"[{time.perf_counter() - start:.0f} s]"
    )
    assert gaps.mean() <= TOLERANCE
