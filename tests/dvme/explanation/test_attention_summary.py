from __future__ import annotations

import json

import numpy as np
import pytest

from dvme.explanation.attention_map import block_attention
from dvme.explanation.attention_summary import summarise_attention
from dvme.heads.fusion.network_head import NETWORKS, FittedNetwork
from dvme.heads.fusion.networks import initial_parameters

DIMS = (6, 4, 5)
NAMES = ("a", "b", "c")


def _head(seed: int) -> FittedNetwork:
    parameters = initial_parameters(NETWORKS["dvme-tokens"].shapes(DIMS, 3), seed)
    parameters["attention.qkv.weight"] *= 5
    return FittedNetwork("dvme-tokens", DIMS, 3, parameters, {})


def _blocks(n_samples: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n_samples, dim)).astype(np.float32) for dim in DIMS]


def _column(maps: list[np.ndarray], members: list[int], a: int, b: int) -> list[list[float]]:
    return [[float(fold[i, a, b]) for i in members] for fold in maps]


def test_summarise_attention__means_and_spreads_of_a_plain_loop() -> None:
    heads, blocks, labels = [_head(seed) for seed in range(3)], _blocks(11), np.arange(11) % 2
    summary = summarise_attention(heads, blocks, labels, backbones=NAMES, classes=["no", "yes"])
    maps = [block_attention(head, blocks) for head in heads]
    sets = {"no": list(range(0, 11, 2)), "yes": list(range(1, 11, 2))}
    for name, attention in {"all": summary.overall, **summary.classes}.items():
        members = sets.get(name, list(range(11)))
        assert attention.n_samples == len(members)
        for a in range(3):
            for b in range(3):
                folds = _column(maps, members, a, b)
                means = [sum(fold) / len(fold) for fold in folds]
                mean = sum(means) / 3
                within = [sum((v - m) ** 2 for v in f) / (len(f) - 1) for f, m in zip(folds, means, strict=True)]
                np.testing.assert_allclose(attention.folds[:, a, b], means, rtol=1e-9)
                assert attention.mean[a, b] == pytest.approx(mean)
                assert attention.std_over_folds[a, b] == pytest.approx((sum((m - mean) ** 2 for m in means) / 2) ** 0.5)
                assert attention.std_over_samples[a, b] == pytest.approx((sum(within) / 3) ** 0.5)
    assert list(summary.classes) == ["no", "yes"]
    assert np.abs(summary.classes["no"].mean - summary.classes["yes"].mean).max() > 1e-4


def test_summarise_attention__what_is_too_few_is_nan() -> None:
    labels = np.array([0, 0, 0, 2])
    told: list[tuple[str, int, int]] = []
    summary = summarise_attention(
        [_head(0)],
        _blocks(4),
        labels,
        backbones=NAMES,
        classes=["x", "y", "z"],
        progress=lambda *step: told.append(step),
    )
    assert told == [("attention", 1, 1)]
    assert np.isnan(summary.overall.std_over_folds).all()
    assert np.isfinite(summary.overall.std_over_samples).all()
    assert summary.classes["y"].n_samples == 0
    assert np.isnan(summary.classes["y"].mean).all()
    assert np.isfinite(summary.classes["z"].mean).all()
    assert np.isnan(summary.classes["z"].std_over_samples).all()


def test_summarise_attention__becomes_json() -> None:
    summary = summarise_attention(
        [_head(0), _head(1)], _blocks(6), np.arange(6) % 2, backbones=NAMES, classes=["no", "yes"]
    )
    value = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert value["backbones"] == list(NAMES)
    assert list(value["classes"]) == ["no", "yes"]
    assert value["classes"]["yes"]["n_samples"] == 3
    np.testing.assert_array_equal(value["overall"]["mean"], summary.overall.mean)
    np.testing.assert_array_equal(value["overall"]["folds"], summary.overall.folds)


def test_summarise_attention__of_several_findings_by_the_samples_that_have_each() -> None:
    truth = (np.random.default_rng(0).random((30, 2)) < 0.4).astype(np.float32)
    truth[::7, 1] = np.nan
    head, blocks = _head(0), _blocks(30)
    found = summarise_attention([head], blocks, truth, backbones=NAMES, classes=("Edema", "Mass"))
    every = block_attention(head, blocks)
    for place, name in enumerate(("Edema", "Mass")):
        has_it = truth[:, place] == 1.0
        assert found.classes[name].n_samples == has_it.sum() > 0
        np.testing.assert_allclose(found.classes[name].mean, every[has_it].mean(axis=0))
