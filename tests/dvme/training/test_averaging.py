from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn

from dvme.training.averaging import Average
from dvme.training.norms import begin_training


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.fixed = nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(1, 1).requires_grad_(False)
        self.register_buffer("bounds", torch.tensor([-math.inf, 0.1]))


def test_average__equals_a_slow_loop_over_parameters_and_statistics() -> None:
    rng = np.random.default_rng(0)
    net, extra = Net(), nn.Linear(2, 1)
    values = {name: value for module in (net, extra) for name, value in module.state_dict(keep_vars=True).items()}
    names = ["layer.weight", "layer.bias", "norm.weight", "norm.running_mean", "norm.running_var", "weight", "bias"]
    expected = {name: values[name].detach().numpy().astype(np.float64) for name in names}
    average = Average([net, extra], window_steps=4.0)
    for update in range(40):
        decay = min(0.75, (1 + update) / (10 + update))
        for name in names:
            new = rng.normal(size=values[name].shape)
            with torch.no_grad():
                values[name].copy_(torch.from_numpy(new))
            expected[name] = decay * expected[name] + (1 - decay) * new
        net.norm.num_batches_tracked += 1
        average.update()
    latest = {name: value.detach().clone() for name, value in values.items()}
    with average.swapped():
        for name in names:
            np.testing.assert_allclose(values[name].detach().numpy(), expected[name], rtol=1e-5, atol=1e-6)
        assert net.norm.num_batches_tracked == 40
        for name in ("fixed.weight", "bounds"):
            assert torch.equal(values[name], latest[name])
    for name, value in values.items():
        assert torch.equal(value, latest[name])


def test_average__what_stays_as_it_is_keeps_its_bits() -> None:
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    average = Average([net], window_steps=1000.0)
    for _ in range(50):
        average.update()
    with average.swapped():
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_average__a_window_of_one_step_is_the_latest_and_errors_swap_back() -> None:
    layer = nn.Linear(2, 2)
    average = Average([layer], window_steps=1.0)
    nn.init.constant_(layer.weight, 3.0)
    average.update()
    nn.init.constant_(layer.weight, 4.0)
    seen = []
    with suppress(KeyError), average.swapped():
        seen.append(layer.weight.detach().clone())
        raise KeyError
    assert (seen[0] == 3.0).all()
    assert (layer.weight == 4.0).all()


@pytest.mark.parametrize("is_frozen", [True, False])
def test_begin_training__statistics_move_unless_frozen_and_scales_train_all_the_same(is_frozen: bool) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.GroupNorm(1, 2))
    begin_training(net.eval(), is_frozen=is_frozen)
    net(torch.randn(4, 1, 3, 3)).square().sum().backward()
    assert net[0].training
    assert net[2].training
    assert bool((net[1].running_mean == 0).all()) is is_frozen
    assert net[1].weight.grad is not None
