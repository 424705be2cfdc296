"""The low-data table of a data set of the size of APTOS, against the same jobs one by one the ordinary way.

Run by `make bench`; about twenty minutes on two cores, most of it ours, for what would take hours is measured by the
step and multiplied out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from timm.layers import Attention
from torch import nn
from torch.nn import functional

from dvme.heads.exact.linear import STRENGTHS
from dvme.heads.fusion.network_head import NETWORKS
from dvme.heads.fusion.networks import initial_parameters
from dvme.heads.neighbours.knn import NEIGHBOURS
from dvme.metrics.classification import macro_auc
from dvme.stats.influence import scored
from dvme.stats.units import Units
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.options import SubsetOptions
from dvme.study.kept_heads import JOBS
from dvme.study.ledger import Ledger
from dvme.study.outcome import StudyReport
from dvme.study.run_file import SUBSETS
from dvme.study.sweep import sweep
from dvme.training.batches import epoch_order
from dvme.training.schedule import TrainingProtocol
from dvme_cache import EmbeddingCache, Fingerprint

pytestmark = pytest.mark.bench
DIMS = {"supervised": 2048, "swav": 2048, "simclr": 2048, "dino": 1536}
COUNTS = (1805, 370, 999, 193, 295)
"""Of the five grades of APTOS 2019."""
N_TEST = 1928
SIZES = ("truong2021:aptos",)
HEADS = ("linear", "knn", "dvme", "dvme-noattn", "concat")
LEAST, LEAST_UNFUSED, TOLERANCE = 4.0, 10.0, 0.005
"""Times faster: beside timm's attention of today, which is fused, and that of the paper's time, which was not."""


@pytest.fixture(scope="module")
def aptos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of correlated features, non-negative as after a ReLU, with a split into training and test images."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(5), COUNTS))
    tested = rng.choice(5, N_TEST, p=np.array(COUNTS) / sum(COUNTS))
    labels = np.concatenate([labels, tested])
    hidden = rng.normal(size=(len(labels), 96))
    hidden[:, :24] += 0.45 * rng.normal(size=(5, 24))[labels]
    path = tmp_path_factory.mktemp("aptos") / "aptos.zarr"
    with EmbeddingCache.writing(path) as cache:
        ids = [(i + 1).to_bytes(16, "big") for i in range(len(labels))]
        rows = cache.samples.add(ids, [f"{i}.png" for i in range(len(labels))])
        splits = ["train"] * sum(COUNTS) + ["test"] * N_TEST
        cache.update_columns(rows, {"label": [str(c) for c in labels], "split": splits, "path": cache.samples.paths})
        for name, dim in DIMS.items():
            loadings = rng.normal(size=(96, dim)) / np.sqrt(np.arange(1, 97))[:, None]
            features = np.maximum(0.15 * hidden @ loadings + 0.25 * rng.normal(size=(len(labels), dim)) - 0.1, 0)
            table = cache.ensure_embeddings(
                name, Fingerprint({"weights": name}), dim=dim, dtype="float16", provenance={}
            )
            table.write(rows, features.astype(np.float16))
    return path


def test_sweep__aptos_against_the_ordinary_way(aptos: Path, tmp_path: Path) -> None:
    start = time.perf_counter()
    report = sweep(
        aptos, tmp_path / "run", heads=HEADS, backbones=list(DIMS), controls=False, options=SubsetOptions(sizes=SIZES)
    )
    ours = time.perf_counter() - start
    peer = _Ordinary(aptos, tmp_path / "run", report)
    rows = {"linear": peer.linear, "knn": peer.knn, "concat": peer.concat, "dvme": peer.dvme, "noattn": peer.noattn}
    seconds: dict[str, float] = {}
    for name, work in rows.items():
        seconds[name] = work()
        head = "dvme-noattn" if name == "noattn" else name
        own = sum(cell.seconds for cell in report.cells if cell.head == head)
        print(f"\n{name}: ours {own:.0f} s, one by one {seconds[name]:.0f} s, {seconds[name] / own:.1f} times", end="")
    ratio = sum(seconds.values()) / ours
    laps = ", ".join(f"{stage} {taken:.0f} s" for stage, taken in report.seconds.items())
    print(f"\nthe whole table, {report.n_jobs} jobs: {ours:.0f} s ({laps}); one by one {sum(seconds.values()):.0f} s")
    unfused = sum(seconds.values()) - seconds["dvme"] + peer.dvme_unfused()
    print(f"with attention as in the paper's timm, not fused: {unfused:.0f} s, {unfused / ours:.1f} times")
    print(f"{ratio:.1f} times faster; largest difference of a mean AUC {max(peer.gaps.values()):.4f}: {peer.gaps}")
    assert max(peer.gaps.values()) <= TOLERANCE
    assert ratio >= LEAST
    assert unfused / ours >= LEAST_UNFUSED


MOST_OF_A_CELL, MOST_OF_A_SWEEP = 4.0, 0.1
"""Seconds; share of the time that the fits and the statistics take."""


def test_statistics__of_one_large_cell() -> None:
    """32,768 test images, five folds, two classes: every metric and its interval."""
    rng = np.random.default_rng(0)
    labels = np.arange(32768) % 2
    folds = [rng.dirichlet(np.ones(2), len(labels)) for _ in range(5)]
    start = time.perf_counter()
    found = scored(labels, folds, Units(labels))
    intervals = [one.interval() for one in found.values()]
    seconds = time.perf_counter() - start
    print(f"\n32,768 test images x 5 folds, every metric and interval: {seconds:.2f} s")
    assert not any(np.isnan(interval.low) for interval in intervals)
    assert seconds < MOST_OF_A_CELL


def test_sweep__statistics_beside_the_fits(tmp_path: Path) -> None:
    """20,000 images of 8 values, linear and knn on two backbones, and both together."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    path = tmp_path / "c.zarr"
    with EmbeddingCache.writing(path) as cache:
        ids = [(i + 1).to_bytes(16, "big") for i in range(len(labels))]
        rows = cache.samples.add(ids, [f"{i}.png" for i in range(len(labels))])
        cache.update_columns(rows, {"label": [str(c) for c in labels]})
        for name in ("a", "b"):
            features = 0.4 * labels[:, None] + rng.normal(size=(len(labels), 8))
            table = cache.ensure_embeddings(name, Fingerprint({"weights": name}), dim=8, dtype="float32", provenance={})
            table.write(rows, features.astype(np.float32))
    options = SubsetOptions(sizes=("100", "1000", "full"))
    report = sweep(path, tmp_path / "run", heads=("linear", "knn", "concat"), controls=False, options=options)
    fit, statistics = report.seconds["fit"], report.seconds["statistics"]
    laps = ", ".join(f"{stage} {taken:.1f} s" for stage, taken in report.seconds.items())
    print(f"\n20,000 images x 8 values, {report.n_jobs} jobs: {laps}; statistics {statistics / (fit + statistics):.1%}")
    assert statistics < MOST_OF_A_SWEEP * (fit + statistics)


class _Ordinary:
    """The same jobs by scikit-learn and a plain loop, some of them run and the others counted."""

    def __init__(self, cache: Path, run: Path, report: StudyReport) -> None:
        self.report = report
        self.manifest = SubsetManifest.load(run / SUBSETS)
        self.labels = self.manifest.targets.values
        store = EmbeddingCache.open(cache)
        n_rows = np.arange(store.n_rows)
        self.features = {name: store.embeddings(name).read(n_rows).astype(np.float32) for name in DIMS}
        self.gaps: dict[str, float] = {}
        self.n_draws, self.n_sizes = len(self.manifest.draws), len(self.manifest.sizes)

    def linear(self) -> float:
        """Every strength of the path by scikit-learn's own solver; all folds of the small sizes, one of the others."""
        return sum(self._logistic(name, self.features[name]) for name in DIMS)

    def concat(self) -> float:
        """The same on embeddings of length 1, side by side."""
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in self.features.values()]
        return self._logistic("concat", np.concatenate(unit, axis=1))

    def knn(self) -> float:
        """Every k by a search of its own."""
        return sum(self._neighbours(name) for name in DIMS)

    def dvme(self) -> float:
        """Seconds of a step of the paper's module on timm's attention, times the steps that training took."""
        blocks, module = list(self.features.values()), PaperModule(list(DIMS.values()), attention=True)
        self._compare_training("dvme", blocks, module)
        return _seconds_a_step(blocks, module) * self._n_steps("dvme")

    def dvme_unfused(self) -> float:
        """The same on the attention of the paper's time."""
        blocks, module = list(self.features.values()), PaperModule(list(DIMS.values()), attention=True)
        module.attention.fused_attn = False
        return _seconds_a_step(blocks, module, n_steps=4) * self._n_steps("dvme")

    def noattn(self) -> float:
        """The same without attention."""
        blocks, module = list(self.features.values()), PaperModule(list(DIMS.values()), attention=False)
        return _seconds_a_step(blocks, module) * self._n_steps("dvme-noattn")

    def _logistic(self, name: str, features: NDArray[np.float32]) -> float:
        head, backbones = ("concat", tuple(DIMS)) if name == "concat" else ("linear", (name,))
        total = 0.0
        for size in range(self.n_sizes):
            is_small = size < self.n_sizes - 2 and name in ("dino", "concat")
            draws = self.manifest.draws if is_small else self.manifest.draws[:1]
            path = STRENGTHS if is_small else STRENGTHS[::5]  # of the others, three of eleven
            scores, start = [], time.perf_counter()
            for draw in draws:
                train, chosen_on = self.manifest.train(draw, size), self.manifest.validation(draw, size)
                rows = features[train]
                scale = float(np.square(rows - rows.mean(axis=0)).sum())
                fits = []
                for strength in path:
                    model = LogisticRegression(C=1.0 / (strength * scale), max_iter=1000, tol=1e-4)
                    fits.append(model.fit(rows, self.labels[train]))
                best = min(fits, key=lambda model: self._loss(model, features, chosen_on))
                scores.append(macro_auc(self._tested, best.predict_proba(features[self.manifest.test])))
            total += (time.perf_counter() - start) * self.n_draws / len(draws) * len(STRENGTHS) / len(path)
            if is_small:
                self._note(head, backbones, size, scores)
        return total

    def _neighbours(self, name: str) -> float:
        unit = self.features[name] / np.linalg.norm(self.features[name], axis=1, keepdims=True)
        start = time.perf_counter()
        for size in range(self.n_sizes):
            scores = []
            for draw in self.manifest.draws:
                train, chosen_on = self.manifest.train(draw, size), self.manifest.validation(draw, size)
                best: tuple[float, KNeighborsClassifier | None] = (-1.0, None)
                for k in sorted({min(k, len(train)) for k in NEIGHBOURS}):
                    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=_votes)
                    model.fit(unit[train], self.labels[train])
                    accuracy = float((model.predict(unit[chosen_on]) == self.labels[chosen_on]).mean())
                    best = max(best, (accuracy, model), key=lambda each: each[0])
                assert best[1] is not None
                scores.append(macro_auc(self._tested, best[1].predict_proba(unit[self.manifest.test])))
            self._note("knn", (name,), size, scores)
        return time.perf_counter() - start

    def _compare_training(self, head: str, blocks: list[NDArray[np.float32]], module: nn.Module) -> None:
        """The smallest size of every fold by the plain loop, from the same start and in the same order."""
        grid_seed = _seeds(self.manifest)
        scores = []
        for draw, seed in zip(self.manifest.draws, grid_seed, strict=True):
            train, chosen_on = self.manifest.train(draw, 0), self.manifest.validation(draw, 0)
            _plain_loop(module, head, blocks, self.labels, train, chosen_on, seed)
            module.eval()
            with torch.no_grad():
                logits = module([torch.from_numpy(block[self.manifest.test]) for block in blocks])
            scores.append(macro_auc(self._tested, torch.softmax(logits, dim=1).double().numpy()))
        self._note(head, tuple(DIMS), 0, scores)

    def _n_steps(self, head: str) -> float:
        """Minibatches that our training of all jobs took: epochs until the end, times batches."""
        run = Path(self.report.run)
        jobs = json.loads((run / "run.json").read_text())["jobs"]
        ledger, steps = Ledger(run / JOBS), 0
        methods = [cell for cell in self.report.cells if cell.size == self.manifest.sizes[0]]
        for method, size, draw, key in jobs:
            if methods[method].head == head:
                job = ledger.read(key)
                assert job is not None
                steps += job.chosen["n_epochs"] * -(-self.manifest.draws[draw].n_train[size] // 64)
        return steps

    @property
    def _tested(self) -> NDArray[np.int64]:
        return self.labels[self.manifest.test]

    def _loss(self, model: LogisticRegression, features: NDArray[np.float32], rows: NDArray[np.int64]) -> float:
        chosen = model.predict_proba(features[rows])[np.arange(len(rows)), self.labels[rows]]
        return float(-np.log(np.maximum(chosen, 1e-15)).mean())

    def _note(self, head: str, backbones: tuple[str, ...], size: int, scores: list[float]) -> None:
        name = self.manifest.sizes[size]
        (cell,) = (c for c in self.report.cells if (c.head, c.backbones, c.size) == (head, backbones, name))
        key = f"{head} {backbones[0] if len(backbones) == 1 else ''} {name}"
        self.gaps[key] = abs(cell.test["auc"].mean - float(np.mean(scores)))


class PaperModule(nn.Module):
    """Truong et al. 2021, appendix E, for any number of backbones."""

    def __init__(self, dims: list[int], *, attention: bool) -> None:
        super().__init__()
        n_tokens = 512 * len(dims)
        self.projections = nn.ModuleList(nn.Linear(dim, 512) for dim in dims)
        self.drop: Callable[[torch.Tensor], torch.Tensor] = partial(functional.dropout, p=0.2)
        if attention:
            self.attention = Attention(dim=1, num_heads=1)
            self.norm = nn.LayerNorm(n_tokens)
            self.fusion = nn.Linear(n_tokens, 512)
        self.classifier = nn.Linear(512 if attention else n_tokens, len(COUNTS))

    def forward(self, blocks: list[torch.Tensor]) -> torch.Tensor:
        tokens = torch.cat([layer(block) for layer, block in zip(self.projections, blocks, strict=True)], dim=1)
        if not hasattr(self, "attention"):
            return self.classifier(tokens)
        mixed = self.norm(self.attention(tokens[:, :, None]).squeeze(2))
        hidden = functional.relu(self.fusion(mixed))
        return self.classifier(self.drop(hidden) if self.training else hidden)


def _plain_loop(
    module: nn.Module,
    head: str,
    blocks: list[NDArray[np.float32]],
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    chosen_on: NDArray[np.int64],
    seed: int,
) -> None:
    """The paper's protocol by torch's own optimizer and scheduler; the module ends with its best parameters."""
    protocol = TrainingProtocol()
    dims = [block.shape[1] for block in blocks]
    module.load_state_dict(initial_parameters(NETWORKS[head].shapes(dims, len(COUNTS)), seed))
    optimizer = torch.optim.Adam(module.parameters(), lr=protocol.learning_rate)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=5)
    order_of, masks = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def drop(hidden: torch.Tensor) -> torch.Tensor:
        keep = torch.empty(min(protocol.batch_size, len(train)), hidden.shape[1]).bernoulli_(0.8, generator=masks)
        return hidden * keep[: len(hidden)] / 0.8

    module.drop = drop
    best: tuple[float, int, dict[str, torch.Tensor]] = (np.inf, 0, {})
    for epoch in range(1, protocol.max_epochs + 1):
        module.train()
        order = train[epoch_order(labels[train], "shuffled", order_of)]
        for begin in range(0, len(order), protocol.batch_size):
            _step(module, optimizer, blocks, labels, order[begin : begin + protocol.batch_size])
        module.eval()
        with torch.no_grad():
            logits = module([torch.from_numpy(block[chosen_on]) for block in blocks])
            loss = float(functional.cross_entropy(logits, torch.from_numpy(labels[chosen_on])))
        scheduler.step(loss)
        if loss < best[0]:
            best = loss, epoch, {name: value.clone() for name, value in module.state_dict().items()}
        if epoch >= protocol.min_epochs and epoch - best[1] >= protocol.stop_patience:
            break
    module.load_state_dict(best[2])


def _step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    blocks: list[NDArray[np.float32]],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> None:
    optimizer.zero_grad()
    logits = module([torch.from_numpy(block[rows]) for block in blocks])
    functional.cross_entropy(logits, torch.from_numpy(labels[rows])).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _seconds_a_step(blocks: list[NDArray[np.float32]], module: nn.Module, n_steps: int = 12) -> float:
    """Median of all but the first two, on minibatches of 64."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(COUNTS), len(blocks[0]))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    module.drop = partial(functional.dropout, p=0.2)
    module.train()
    taken = []
    for _ in range(n_steps):
        rows = rng.integers(0, len(labels), 64)
        start = time.perf_counter()
        _step(module, optimizer, blocks, labels, rows)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[2:]))


def _seeds(manifest: SubsetManifest) -> list[int]:
    """Of the draws, as the sweep has them."""
    words = [[int(manifest.policy["seed"]), draw.repeat, draw.fold] for draw in manifest.draws]
    return [int(np.random.SeedSequence(each).generate_state(1)[0]) for each in words]


def _votes(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp((1.0 - distances) / 0.07)
