from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from timm.layers import Attention
from torch import Tensor, nn

from dvme.heads.fusion.network_head import NETWORKS
from dvme.heads.fusion.networks import DVME, MLP, Network, NoAttention, Tokens, count_parameters, initial_parameters

DIMS = (6, 4, 5)


class PaperModule(nn.Module):
    """The head of the paper's figure 1 on timm's attention, one sample batch at a time."""

    def __init__(self, dims: Sequence[int], n_classes: int, *, token_width: int, n_heads: int) -> None:
        super().__init__()
        self.token_width = token_width
        self.projections = nn.ModuleList(nn.Linear(dim, 512) for dim in dims)
        self.attention = Attention(dim=token_width, num_heads=n_heads, qkv_bias=False)
        self.attention.fused_attn = False
        self.norm = nn.LayerNorm(512 * len(dims))
        self.fusion = nn.Linear(512 * len(dims), 512)
        self.classifier = nn.Linear(512, n_classes)

    def forward(self, blocks: Sequence[Tensor]) -> Tensor:
        values = torch.cat([layer(block) for layer, block in zip(self.projections, blocks, strict=True)], dim=1)
        attended = self.attention(values.view(len(values), -1, self.token_width)).flatten(start_dim=1)
        hidden: Tensor = self.fusion(self.norm(attended)).relu()
        return self.classifier(hidden)  # type: ignore[no-any-return]


def _stacked(network: Network, dims: Sequence[int], n_classes: int, seeds: Sequence[int]) -> dict[str, Tensor]:
    shapes = network.shapes(dims, n_classes)
    starts = [initial_parameters(shapes, seed) for seed in seeds]
    return {name: torch.stack([start[name] for start in starts]).double().requires_grad_() for name in shapes}


def _blocks(dims: Sequence[int], *shape: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(*shape, dim, generator=generator, dtype=torch.float64) for dim in dims]


def _same(hidden: Tensor) -> Tensor:
    return hidden


@pytest.mark.parametrize(("network", "width", "n_heads"), [(DVME(), 1, 1), (Tokens(), 512, 8)])
def test_logits__equal_the_module_on_timms_attention_in_value_and_gradient(
    network: Network, width: int, n_heads: int
) -> None:
    parameters = _stacked(network, DIMS, 3, seeds=[7])
    blocks = _blocks(DIMS, 1, 4)
    upstream = torch.randn(1, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits = network.logits(parameters, blocks, _same)
    gradients = torch.autograd.grad(logits, list(parameters.values()), upstream)

    module = PaperModule(DIMS, 3, token_width=width, n_heads=n_heads).double()
    module.load_state_dict({name: value[0].detach() for name, value in parameters.items()}, strict=True)
    expected = module([block[0] for block in blocks])
    torch.testing.assert_close(logits[0], expected, rtol=0, atol=1e-7)
    expected.backward(upstream[0])  # type: ignore[no-untyped-call]
    for name, gradient in zip(parameters, gradients, strict=True):
        truth = module.get_parameter(name).grad
        assert truth is not None
        scale = float(truth.abs().max()) + 1e-3  # before a LayerNorm some gradients are zero but for rounding
        torch.testing.assert_close(gradient[0] / scale, truth / scale, rtol=0, atol=2e-6, msg=name)


def test_dvme__has_the_published_number_of_parameters() -> None:
    """Truong et al. 2021, table G1: 3.6 M; before the classifier, five of them in the attention."""
    shapes = DVME().shapes((2048, 2048, 1536), 5)
    classifier = 5 * 512 + 5
    assert count_parameters(shapes) - classifier == 3_675_141
    assert count_parameters({name: shape for name, shape in shapes.items() if name.startswith("attention")}) == 5


@pytest.mark.parametrize("dims", [(2048, 2048, 1536), (1280, 1280), (384,)])
def test_mlp__has_as_many_parameters_as_dvme(dims: tuple[int, ...]) -> None:
    matched, wanted = (count_parameters(network.shapes(dims, 4)) for network in (MLP(), DVME()))
    assert abs(matched - wanted) <= sum(dims) + 5  # a hidden unit more or less


@pytest.mark.parametrize("n_rows", [2, 3, 6])
def test_no_attention__is_a_linear_map_of_the_projections(n_rows: int) -> None:
    """Of three classes: layer by layer with up to three rows, as one composed map with more."""
    parameters, blocks = _stacked(NoAttention(), DIMS, 3, seeds=[3, 4]), _blocks(DIMS, 2, n_rows)
    layers = [
        torch.einsum("jbd,jhd->jbh", block, parameters[f"projections.{m}.weight"])
        + parameters[f"projections.{m}.bias"][:, None]
        for m, block in enumerate(blocks)
    ]
    expected = torch.einsum("jbh,jch->jbc", torch.cat(layers, dim=2), parameters["classifier.weight"])
    expected = expected + parameters["classifier.bias"][:, None]
    logits = NoAttention().logits(parameters, blocks, _same)
    torch.testing.assert_close(logits, expected)
    upstream = torch.randn(2, n_rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, wanted = (torch.autograd.grad(each, list(parameters.values()), upstream) for each in (logits, expected))
    for name, mine, theirs in zip(parameters, found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


def test_no_attention__with_dropout_drops_hidden_units() -> None:
    parameters, blocks = _stacked(NoAttention(dropout=0.5), DIMS, 2, seeds=[3]), _blocks(DIMS, 1, 6)
    logits = NoAttention(dropout=0.5).logits(parameters, blocks, torch.zeros_like)
    torch.testing.assert_close(logits[0], parameters["classifier.bias"].expand(6, 2))


@pytest.mark.parametrize("name", list(NETWORKS))
def test_logits__heads_side_by_side_do_not_mix(name: str) -> None:
    network = NETWORKS[name]
    parameters = _stacked(network, DIMS, 2, seeds=[1, 2, 3])
    blocks = _blocks(DIMS, 3, 4)
    together = network.logits(parameters, blocks, _same)
    for j in range(3):
        alone = {key: value[j : j + 1] for key, value in parameters.items()}
        torch.testing.assert_close(together[j : j + 1], network.logits(alone, [b[j : j + 1] for b in blocks], _same))


def test_initial_parameters__are_drawn_as_torchs_layers_draw_them() -> None:
    shapes = DVME().shapes((400, 100), 2)
    start = initial_parameters(shapes, seed=5)
    for name, fan_in in {"projections.0.weight": 400, "projections.1.bias": 100, "fusion.weight": 1024}.items():
        bound = 1 / fan_in**0.5
        assert bound * 0.98 < float(start[name].abs().max()) <= bound
        assert abs(float(start[name].mean())) < 0.1 * bound
    assert (start["norm.weight"] == 1).all()
    assert (start["norm.bias"] == 0).all()
    again = initial_parameters(shapes, seed=5)
    assert all(torch.equal(start[name], again[name]) for name in shapes)
    assert not torch.equal(start["fusion.weight"], initial_parameters(shapes, seed=6)["fusion.weight"])


def test_dropout__is_given_the_hidden_units_and_scales_nothing_by_itself() -> None:
    for network, width in ((DVME(), 512), (Tokens(), 512)):
        parameters, seen = _stacked(network, (3,), 2, seeds=[0]), []

        def watch(hidden: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(hidden)
            return torch.zeros_like(hidden)

        logits = network.logits(parameters, _blocks((3,), 1, 2), watch)
        assert seen[0].shape == (1, 2, width)
        assert (seen[0] >= 0).all()
        torch.testing.assert_close(logits[0], parameters["classifier.bias"].expand(2, 2))
