"""What `dvme backbones check` sees: every flag by hand, and a real checkpoint before and after it was broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_networks import NARROW
from torch import Tensor

from dvme import Runtime
from dvme.backbones import get_spec
from dvme.backbones.loading.diagnosis import Diagnosis, Statistics, diagnose, problems_of, statistics_of
from dvme.backbones.weights.checkpoint import read_checkpoint
from dvme.backbones.weights.finding import find_weights
from dvme.errors import CheckpointError, UnknownNameError, WeightsError

LITE = "efficientnet-lite0"
CPU = Runtime(device="cpu")
FINE = Statistics(dim=10, n_dead=0, n_not_finite=0, rms=1.0, low=-2.0, high=2.0, similarity=0.5, own_similarity=0.9)
State = dict[str, Tensor]


@pytest.mark.parametrize(
    "changes",
    [{}, {"n_dead": 5}, {"rms": 1.1e-4}, {"rms": 9e3}, {"similarity": 0.9998}, {"similarity": -1.0}, {"low": 0.0}],
)
def test_problems_of__fine(changes: dict[str, Any]) -> None:
    assert problems_of(replace(FINE, **changes)) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"n_not_finite": 1234}, "1,234 values are not finite"),
        ({"rms": 0.0}, "the scale is off: a root mean square of 0"),
        ({"rms": 1e-5}, "the scale is off: a root mean square of 1e-05"),
        ({"rms": 2.5e8}, "the scale is off: a root mean square of 2.5e+08"),
        ({"n_dead": 6}, "6 of 10 dimensions are the same for every image"),
        ({"similarity": 0.99995}, "different photographs give the same features (cosine 0.99995)"),
    ],
)
def test_problems_of__each_flag_alone(changes: dict[str, Any], problem: str) -> None:
    assert problems_of(replace(FINE, **changes)) == [problem]


def test_problems_of__all_at_once() -> None:
    broken = replace(FINE, n_not_finite=1, rms=0.0, n_dead=10, similarity=1.0)
    assert len(problems_of(broken)) == 4


def array(*rows: list[float]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64)


def test_statistics_of__by_hand() -> None:
    found = statistics_of(array([1, 0], [0, 1]), array([1, 0], [1, 0]))
    assert (found.dim, found.n_dead, found.n_not_finite, found.low, found.high) == (2, 0, 0, 0.0, 1.0)
    assert found.rms == pytest.approx(np.sqrt(4 / 8))
    assert found.similarity == pytest.approx(0.5)  # (1 + 1 + 0 + 0) / 4
    assert found.own_similarity == pytest.approx(0.5)  # 0 of the first, 1 of the second


def test_statistics_of__lengths_do_not_count_in_a_cosine() -> None:
    found = statistics_of(array([3, 0], [9, 0]), array([0, 5], [-1, 1]))
    assert found.similarity == pytest.approx((0 + 0 - np.sqrt(0.5) * 2) / 4)
    assert found.own_similarity == pytest.approx((1 + np.sqrt(0.5)) / 2)
    assert (found.low, found.high) == (-1.0, 9.0)


def test_statistics_of__dead_dimensions() -> None:
    found = statistics_of(array([5, 1, 0], [5, 2, 0]), array([5, 3, 0], [5, 4, 1e-7]))
    assert found.n_dead == 2  # the constant, and the one that moves by less than a millionth of the scale


def test_statistics_of__not_finite() -> None:
    found = statistics_of(array([np.nan, 1], [np.inf, 1]), array([-np.inf, 2], [2, 2]))
    assert found.n_not_finite == 3
    assert found.rms == pytest.approx(np.sqrt((1 + 1 + 4 + 4 + 4) / 5))  # of the finite ones
    assert all(np.isfinite([found.low, found.high, found.similarity, found.own_similarity]))


def test_statistics_of__nothing_but_zeros() -> None:
    found = statistics_of(np.zeros((5, 4)), np.zeros((5, 4)))
    assert (found.n_dead, found.rms, found.similarity) == (4, 0.0, 0.0)
    assert len(problems_of(found)) == 2  # dead, and without a scale


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), power=st.integers(-8, 8), n=st.integers(2, 6), dim=st.integers(1, 9))
def test_statistics_of__what_a_scale_changes(seed: int, power: int, n: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(n, dim)), rng.normal(size=(n, dim))
    plain, scaled = statistics_of(first, second), statistics_of(first * 10.0**power, second * 10.0**power)
    assert scaled.rms == pytest.approx(plain.rms * 10.0**power)
    assert scaled.similarity == pytest.approx(plain.similarity, abs=1e-9)
    assert (scaled.n_dead, scaled.n_not_finite) == (plain.n_dead, plain.n_not_finite)
    swapped = statistics_of(second, first)
    assert swapped.similarity == pytest.approx(plain.similarity)
    assert swapped.own_similarity == pytest.approx(plain.own_similarity)
    assert -1.0 - 1e-9 <= plain.similarity <= 1.0 + 1e-9


@pytest.fixture(scope="module")
def published() -> State:
    path = find_weights(get_spec(LITE))
    assert path is not None
    content: State = read_checkpoint(path)
    return content


@pytest.fixture
def check(published: State, tmp_path: Path) -> Callable[..., Diagnosis]:
    """Diagnose the real checkpoint after a change of its tensors."""

    def check(change: Callable[[str, Tensor], Tensor], name: str = f"{LITE}@size=96") -> Diagnosis:
        path = tmp_path / "changed.pth"
        torch.save({key: change(key, value.clone()) for key, value in published.items()}, path)
        return diagnose(name, weights=path, runtime=CPU)

    return check


def test_diagnose__real_checkpoint() -> None:
    found = diagnose(LITE, runtime=CPU)
    assert found.problems == []
    assert (found.name, found.architecture) == (LITE, "tf_efficientnet_lite0")
    assert found.left_over == {"_fc": 2}
    assert found.features.dim == 1280
    assert found.features.own_similarity > found.features.similarity + 0.1  # it knows a temple from a flower
    assert Path(found.path).name == "efficientnet-lite0-57934424.pth"
    assert json.loads(json.dumps(found.to_json()))["features"]["n_not_finite"] == 0


def test_diagnose__untrained_is_the_same_architecture_without_the_file(check: Callable[..., Diagnosis]) -> None:
    same, other = check(lambda _, value: value), check(lambda _, value: value * 2)
    assert same.problems == []
    assert same.untrained == other.untrained
    assert same.untrained != same.features != other.features
    assert same.n_used == 49 * (1 + 4)  # convolutions, and normalisations without their counters


def test_diagnose__zeroed_file(check: Callable[..., Diagnosis]) -> None:
    found = check(lambda _, value: torch.zeros_like(value))
    assert found.features.n_dead == 1280
    assert any("1,280 of 1,280 dimensions are the same for every image" in line for line in found.problems)
    assert any("the scale is off" in line for line in found.problems)


def test_diagnose__the_same_features_for_every_image(check: Callable[..., Diagnosis]) -> None:
    """The last normalisation gives its biases, whatever comes in."""

    def harm(key: str, value: Tensor) -> Tensor:
        if key == "_bn1.weight":
            return torch.zeros_like(value)
        return value.abs() + 0.1 if key == "_bn1.bias" else value

    found = check(harm)
    assert found.features.similarity == pytest.approx(1.0)
    assert "different photographs give the same features (cosine 1.00000)" in found.problems
    assert "1,280 of 1,280 dimensions are the same for every image" in found.problems


def test_diagnose__renamed_layers_are_refused(published: State, tmp_path: Path) -> None:
    torch.save({key.replace("running_mean", "average"): value for key, value in published.items()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="wrong order"):
        diagnose(LITE, weights=tmp_path / "x.pth", runtime=CPU)


@pytest.fixture
def resnet(randomise: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Save a ResNet-18, its last normalisation scaled, beside a TOML that describes it."""

    def save(scale: float, prefix: str = "") -> Path:
        state = randomise(timm.create_model("resnet18", num_classes=3, **NARROW)).state_dict()
        for name in ("weight", "bias"):
            state[f"layer4.1.bn2.{name}"] *= scale
            state[f"layer4.0.bn2.{name}"] *= scale
            state[f"layer4.0.downsample.1.{name}"] *= scale
        extra = {"queue": torch.zeros(3), "head.0.weight": torch.zeros(1), "head.2.weight": torch.zeros(1)}
        torch.save({f"{prefix}{key}": value for key, value in state.items()} | extra, tmp_path / "net.pth")
        (tmp_path / "net.toml").write_text(
            'name = "net"\narchitecture = "resnet18"\npooling = "average"\n'
            "architecture_args = {channels = [64, 16, 16, 24]}\n"
            "[preprocess]\nresize = 64\ncrop = 64\n"
            "[checkpoint]\nfilename = 'net.pth'\n"
            rf"keep = '{prefix}(?!fc\.)'" + "\n" + rf"drop = '({prefix}fc\.|queue|head\.)'" + "\n"
        )
        return tmp_path / "net.toml"

    return save


def test_diagnose__toml_with_leftovers(resnet: Callable[..., Path], tmp_path: Path) -> None:
    found = diagnose(str(resnet(1.0, "module.")), runtime=CPU)
    assert found.path == str(tmp_path / "net.pth")
    assert found.left_over == {"module.fc": 2, "queue": 1, "head": 2}
    assert found.n_used == 122 - 2
    assert not any("scale" in line for line in found.problems)


def test_diagnose__scale_that_is_off(resnet: Callable[..., Path]) -> None:
    found = diagnose(str(resnet(1e8)), runtime=CPU)
    assert found.features.rms > 1e6
    assert any(line.startswith("the scale is off: a root mean square of ") for line in found.problems)


def test_diagnose__architecture_instead_of_a_description(randomise: Callable[..., Any], tmp_path: Path) -> None:
    torch.save(randomise(timm.create_model("test_resnet")).state_dict(), tmp_path / "w.pth")
    found = diagnose("mine", weights=tmp_path / "w.pth", architecture="test_resnet", runtime=CPU)
    assert (found.name, found.architecture, found.left_over) == ("mine", "test_resnet", {"fc": 2})
    with pytest.raises(UnknownNameError, match="did you mean 'resnet18'"):
        diagnose("mine", weights=tmp_path / "w.pth", architecture="resnet81", runtime=CPU)


def test_diagnose__file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no such file"):
        diagnose("supervised", weights=tmp_path / "missing.pth", runtime=CPU)


def test_diagnose__untrained_needs_no_file() -> None:
    found = diagnose("random@size=64", runtime=CPU)
    assert (found.path, found.n_used, found.left_over) == ("", 0, {})
    assert found.features == found.untrained
