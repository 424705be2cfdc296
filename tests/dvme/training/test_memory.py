from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dvme.errors import OptionError
from dvme.training.memory import IN_PASSING, Step, check_room, measured

CROP, SQUARE = 8, 9
PIXELS = 4 * (3 * (2 * SQUARE**2 + 2 * CROP**2) + 2 * CROP**2)


class Net(nn.Module):
    """Of which it can be counted what is kept: the image, what each convolution gives, and what the end is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.second(self.first(images)).flatten(1).exp()
        return features


def test_measured__a_case_by_hand() -> None:
    found = measured(Net(), 3, CROP, SQUARE, has_average=False)
    kept = 4 * CROP**2 * (3 + 4 + 2)  # the image, the first convolution's output, and the exponentials
    assert found.each == kept + IN_PASSING * 4 * CROP**2 * 4 + PIXELS
    n_weights = 4 * 3 + 4 + 2 * 4 + 2
    assert found.fixed == 4 * n_weights * 7
    assert measured(Net(), 3, CROP, SQUARE, has_average=True).fixed == 4 * n_weights * 8


def test_measured__what_is_not_trained_keeps_nothing() -> None:
    net = Net()
    net.first.requires_grad_(False)
    found, all_of_it = (measured(each, 3, CROP, SQUARE, has_average=False) for each in (net, Net()))
    assert found.each == all_of_it.each - 4 * CROP**2 * 3
    assert found.fixed == 4 * (16 * 4 + 10 * 7)


def test_measured__what_a_layer_shares_counts_once() -> None:
    class Twice(Net):
        def forward(self, images: Tensor) -> Tensor:
            first = self.first(images)
            return (self.second(first) * self.second(first[:, :])).flatten(1)

    found = measured(Twice(), 3, CROP, SQUARE, has_average=False)
    kept = 4 * CROP**2 * (3 + 4 + 2 + 2)
    assert found.each == kept + IN_PASSING * 4 * CROP**2 * 4 + PIXELS


def test_measured__takes_no_gradient_and_leaves_the_weights() -> None:
    net = Net()
    before = [value.clone() for value in net.parameters()]
    measured(net, 3, CROP, SQUARE, has_average=False)
    assert all(torch.equal(*each) for each in zip(before, net.parameters(), strict=True))
    assert all(value.grad is None for value in net.parameters())


def test_check_room__names_the_largest_minibatch_that_fits() -> None:
    step = Step(fixed=1000, each=300)
    for n_images, n_bytes in ((3, 1900), (1, 1300)):
        check_room(step, n_images, n_bytes, "finetune", "net")
        assert step.most_images(n_bytes) == n_images
    with pytest.raises(OptionError) as told:
        check_room(step, 32, 2199, "finetune", "net")
    assert str(told.value) == (
        "finetune on net takes about 10,600 bytes with minibatches of 32 images, and may take 2,199; "
        "add @batch-size=3 to its name, or pass more as memory"
    )
    with pytest.raises(OptionError, match="of 1 image, and may take 1,299; choose a smaller size or backbone, or pass"):
        check_room(step, 1, 1299, "finetune", "net")
