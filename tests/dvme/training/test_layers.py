from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from dvme.errors import OptionError
from dvme.training.layers import depths, freeze_all_but_last, groups, set_rates
from dvme.training.rates import cosine
from dvme.training.recipe import Recipe


class Wrapped(nn.Module):
    """A backbone in something of one's own, with a parameter more."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.scale = nn.Parameter(torch.ones(3))


def test_depths__a_transformer_counts_its_blocks() -> None:
    model = timm.create_model("test_vit", num_classes=0)
    found = depths(model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert found["cls_token"] == found["pos_embed"] == found["patch_embed.proj.weight"] == 0
    assert {found[f"blocks.{block}.attn.qkv.weight"] - block for block in range(6)} == {1}
    assert found["norm.weight"] == 6


def test_depths__of_what_a_module_holds() -> None:
    model = timm.create_model("test_resnet", num_classes=0)
    own, held = depths(model), depths(Wrapped(model))
    assert own["conv1.0.weight"] == 0
    assert [own[f"layer{layer}.0.conv1.weight"] for layer in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert held == {"scale": 4} | {f"inner.{name}": depth for name, depth in own.items()}


def test_depths__many_blocks_count_as_their_stages() -> None:
    with torch.device("meta"):
        lite, large = (
            timm.create_model(name, num_classes=0) for name in ("efficientnet_lite0", "vit_base_patch16_224")
        )
    found = depths(lite)
    assert found["conv_stem.weight"] == 0
    assert all(depth == int(name.split(".")[1]) + 1 for name, depth in found.items() if name.startswith("blocks."))
    assert found["conv_head.weight"] == max(found.values()) == 7  # 16 of timm's own
    assert max(depths(large).values()) == 12


def test_depths__children_in_order_where_there_are_no_groups() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Linear(4, 2))
    expected = {"0.weight": 0, "0.bias": 0, "2.weight": 1, "2.bias": 1, "3.weight": 2, "3.bias": 2}
    assert depths(body) == expected
    assert depths(nn.Sequential(body)) == {f"0.{name}": depth for name, depth in expected.items()}
    assert depths(nn.Flatten()) == {}
    assert depths(nn.Linear(2, 2)) == {"weight": 0, "bias": 0}


@pytest.mark.parametrize("is_held", [False, True])
def test_groups__each_has_its_rate_and_decay_at_every_step(is_held: bool) -> None:
    model = timm.create_model("test_vit", num_classes=0)
    classifier = nn.Linear(64, 2)
    model.blocks[3].norm1.weight.requires_grad_(False)
    recipe = Recipe(layer_decay=0.5, weight_decay=0.1)
    outer = nn.Sequential(model) if is_held else model
    optimizer = torch.optim.AdamW(groups(outer, classifier, recipe, 0.2))
    by_value = {id(value): name for name, value in [*model.named_parameters(), *classifier.named_parameters("head")]}
    for step in range(6):
        set_rates(optimizer, cosine(step, 6, 2))
        factor = [1 / 3, 2 / 3, 1.0, (1 + 2**-0.5) / 2, 0.5, (1 - 2**-0.5) / 2][step]
        seen = set()
        for group in optimizer.param_groups:
            for value in group["params"]:
                name = by_value[id(value)]
                seen.add(name)
                above = {"head": 0, "norm": 1, "blocks": 6 - int(name.split(".")[1]) if "blocks" in name else 0}
                distance = above.get(name.split(".")[0], 7)
                assert group["lr"] == pytest.approx(0.2 * 0.5**distance * factor, rel=1e-12), name
                is_decayed = value.ndim > 1 and name not in {"cls_token", "pos_embed"}
                assert group["weight_decay"] == (0.1 if is_decayed else 0.0), name
        assert seen == set(by_value.values()) - {"blocks.3.norm1.weight"}


def test_groups__a_rate_that_is_nought_moves_nothing_and_the_others_move_by_theirs() -> None:
    """AdamW's first step is the rate itself, whatever the gradient."""
    model, classifier = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(groups(model, classifier, Recipe(layer_decay=0.1, weight_decay=0.0), 1.0))
    values = [model[0].bias, model[1].bias, classifier.bias]
    before = [value.detach().clone() for value in values]
    for value in [*model.parameters(), *classifier.parameters()]:
        value.grad = torch.ones_like(value)
    set_rates(optimizer, 0.5)
    optimizer.step()
    moved = [(a - b).abs().max().item() for a, b in zip(before, values, strict=True)]
    assert moved == pytest.approx([0.005, 0.05, 0.5], rel=1e-4)
    assert all(math.isfinite(each) for each in moved)


def test_freeze_all_but_last__the_deepest() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 4), nn.Linear(4, 5))
    freeze_all_but_last(model, "all")
    assert all(value.requires_grad for value in model.parameters())
    freeze_all_but_last(model, "last-2")
    assert [value.requires_grad for value in model.parameters()] == [False] * 4 + [True] * 4
    with pytest.raises(OptionError, match="layers 'last-5' is more than the 4 that this backbone has"):
        freeze_all_but_last(model, "last-5")
