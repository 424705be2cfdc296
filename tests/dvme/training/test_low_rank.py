"""What is added to attention changes nothing at first, is all that is trained, and can be merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from dvme.errors import OptionError
from dvme.training.checkpoints import Epochs
from dvme.training.epochs import Lesson
from dvme.training.layers import groups
from dvme.training.low_rank import LowRank, add_low_rank, attention_of, merged_state
from dvme.training.pictures import Pictures
from dvme.training.recipe import Recipe
from dvme.training.tuning import tune

SIZES: dict[str, Any] = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 0}


def transformer() -> VisionTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return VisionTransformer(**SIZES).eval()


def images() -> Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_add_low_rank__starts_where_the_backbone_is_and_trains_nothing_else() -> None:
    plain, adapted = transformer(), transformer()
    add_low_rank(adapted, 2, np.random.default_rng(0))
    torch.testing.assert_close(adapted(images()), plain(images()), rtol=0, atol=1e-6)
    trained = [name for name, value in adapted.named_parameters() if value.requires_grad]
    assert len(trained) == 6, "two matrices in each of three blocks"
    assert all(".attn.qkv." in name for name in trained)
    n_trained = sum(value.numel() for value in adapted.parameters() if value.requires_grad)
    assert n_trained == 3 * (2 * 16 + 2 * 48)


def test_merged_state__is_the_sum_under_the_names_of_the_architecture() -> None:
    adapted, again = transformer(), transformer()
    add_low_rank(adapted, 2, np.random.default_rng(0))
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in adapted.modules():
            if isinstance(module, LowRank):
                module.second.normal_(generator=rng)
    state = merged_state(adapted)
    again.load_state_dict(state)
    torch.testing.assert_close(again(images()), adapted(images()), rtol=0, atol=1e-6)
    for name, value in transformer().state_dict().items():
        rank = torch.linalg.matrix_rank(state[name] - value).item() if value.ndim == 2 else 0
        assert rank == (2 if name.endswith("qkv.weight") else 0), name


def test_add_low_rank__depths_are_those_of_the_blocks() -> None:
    adapted = transformer()
    add_low_rank(adapted, 1, np.random.default_rng(0))
    found = groups(adapted, nn.Linear(16, 2), Recipe(layer_decay=0.5), 1.0)
    assert sorted({group["lr"] for group in found})[-1] == 1.0
    assert len({group["lr"] for group in found}) == 4, "three blocks and the classifier"


def test_add_low_rank__what_has_no_attention_is_refused() -> None:
    with pytest.raises(OptionError, match="lora_rank is for transformers"):
        add_low_rank(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2)), 2, np.random.default_rng(0))
    assert len(list(attention_of(transformer()))) == 3


class Embedder(nn.Module):
    """Pixels of 0 to 255 to the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.network = transformer()

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.network(pixels / 127.5 - 1.0)
        return features


class Classifier(nn.Linear):
    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            super().__init__(16, 2)
        self.register_buffer("learns", torch.tensor([True, True]))


def test_tune__low_ranks_are_merged_and_gone_on_with(tmp_path: Path) -> None:
    """A training that is cut after an epoch ends as one that is not; all weights but those of attention stay."""
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    labels = rng.integers(0, 2, 24)
    lesson = Lesson(Pictures(squares, squares), np.arange(16), np.arange(0), labels, labels, np.ones(24))
    recipe = Recipe(learning_rates=(0.01,), max_epochs=3, batch_size=8, lora_rank=2, layer_decay=1.0)

    def interrupted(done: int, of: int) -> None:
        raise KeyboardInterrupt(done, of)

    whole = tune(Embedder(), Classifier(), lesson, recipe, 1, lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        tune(Embedder(), Classifier(), lesson, recipe, 1, interrupted, Epochs(tmp_path / "kept"))
    again = tune(Embedder(), Classifier(), lesson, recipe, 1, lambda *_: None, Epochs(tmp_path / "kept"))
    before = Embedder().state_dict()
    assert set(whole.model_state) == set(before)
    for name, value in whole.model_state.items():
        assert torch.equal(value, again.model_state[name]), name
        assert torch.equal(value, before[name]) is not name.endswith("qkv.weight"), name
    assert whole.n_trained == 3 * (2 * 16 + 2 * 48) + 34
