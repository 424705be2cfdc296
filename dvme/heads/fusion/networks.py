"""The trained heads' architectures, each written for J heads at once.

Every parameter has a leading axis of J heads, so that a layer of all of them is one batched matrix product. Names
and layouts below that axis are torch's own (`weight` is (out, in)): a saved head loads into the module of Truong et
al. 2021, appendix E.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

WIDTH = 512
"""Values that every backbone is projected to, and hidden units. Source: Truong et al. 2021, section 5.6."""
DROPOUT = 0.2
"""Source: Truong et al. 2021, appendix E."""
N_HEADS = 8
"""Attention heads of `dvme-tokens`; timm's default."""

Parameters: TypeAlias = "Mapping[str, Tensor]"
Drop: TypeAlias = "Callable[[Tensor], Tensor]"
"""Dropout of (J, B, H) hidden units, or the identity."""


class Network(Protocol):
    """An architecture: a frozen description, without parameters. All end in one linear layer, the classifier."""

    @property
    def dropout(self) -> float:
        """Probability that a hidden unit is dropped in training."""

    def shapes(self, dims: Sequence[int], n_classes: int) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter of one head on backbones of these dimensions."""

    def hidden(self, parameters: Parameters, blocks: Sequence[Tensor]) -> Tensor:
        """What the classifier of every head reads the class from, before dropout.

        Args:
            parameters: each (J, *shape).
            blocks: (J, B, D_m) for each backbone.

        Returns:
            (J, B, H).
        """

    def logits(self, parameters: Parameters, blocks: Sequence[Tensor], drop: Drop) -> Tensor:
        """Logits of every head on a batch of its own.

        Args:
            parameters: each (J, *shape).
            blocks: (J, B, D_m) for each backbone.
            drop: applied to the hidden units.

        Returns:
            (J, B, C).
        """
        return _apply("classifier", parameters, drop(self.hidden(parameters, blocks)))


@dataclass(frozen=True)
class LinearNetwork(Network):
    """softmax(x W + b) on the concatenated embeddings."""

    dropout: float = 0.0

    def shapes(self, dims: Sequence[int], n_classes: int) -> dict[str, tuple[int, ...]]:
        """See Network."""
        return _affine("classifier", sum(dims), n_classes)

    def hidden(self, parameters: Parameters, blocks: Sequence[Tensor]) -> Tensor:
        """The embeddings themselves."""
        del parameters
        return _side_by_side(blocks)


@dataclass(frozen=True)
class MLP(Network):
    """One hidden layer on the concatenated embeddings, with as many parameters as DVME has.

    The control that asks whether a gain of DVME is anything but its size.
    """

    dropout: float = DROPOUT

    def shapes(self, dims: Sequence[int], n_classes: int) -> dict[str, tuple[int, ...]]:
        """See Network."""
        n_parameters = count_parameters(DVME().shapes(dims, n_classes))
        width = round((n_parameters - n_classes) / (sum(dims) + 1 + n_classes))
        return _affine("hidden", sum(dims), width) | _affine("classifier", width, n_classes)

    def hidden(self, parameters: Parameters, blocks: Sequence[Tensor]) -> Tensor:
        """See Network."""
        return _apply("hidden", parameters, _side_by_side(blocks)).relu()


@dataclass(frozen=True)
class DVME(Network):
    """Dynamic visual meta-embeddings: projections, attention among their values, and a small classifier.

    The T = 512 M projected values are tokens of dimension one under one attention head, without a bias in q, k
    and v, with one after it, and without a residual connection; that is the only reading with the 3.6 million
    parameters of the paper's table G1.

    Source: Truong et al. 2021, section 5.6, appendices C and E.
    """

    dropout: float = DROPOUT

    def shapes(self, dims: Sequence[int], n_classes: int) -> dict[str, tuple[int, ...]]:
        """See Network."""
        attention = {"attention.qkv.weight": (3, 1), "attention.proj.weight": (1, 1), "attention.proj.bias": (1,)}
        return _projections(dims) | attention | _classifier(len(dims), n_classes)

    def hidden(self, parameters: Parameters, blocks: Sequence[Tensor]) -> Tensor:
        """See Network."""
        return _fused(parameters, self.attended(parameters, projected(parameters, blocks)))

    @staticmethod
    def attended(parameters: Parameters, tokens: Tensor) -> Tensor:
        """(J, B, T) output of the attention on (J, B, T) projected values."""
        n_jobs, n_samples, n_tokens = tokens.shape
        query, key, value = parameters["attention.qkv.weight"].flatten(start_dim=1).unbind(dim=1)  # (J,) each
        slopes = (query * key).repeat_interleave(n_samples)
        from dvme.heads.fusion.attention import token_attention

        attended = token_attention(tokens.reshape(-1, n_tokens), slopes).view(n_jobs, n_samples, n_tokens)
        weight = parameters["attention.proj.weight"].flatten() * value
        return weight[:, None, None] * attended + parameters["attention.proj.bias"][:, :, None]


@dataclass(frozen=True)
class NoAttention(Network):
    """The paper's ablation: the concatenated projections straight into the classifier.

    Both layers are linear, so their logits are one affine map of each backbone: see composition.py.

    Source: Truong et al. 2021, section 6.2 and appendix C.
    """

    dropout: float = 0.0

    def shapes(self, dims: Sequence[int], n_classes: int) -> dict[str, tuple[int, ...]]:
        """See Network."""
        return _projections(dims) | _affine("classifier", WIDTH * len(dims), n_classes)

    def hidden(self, parameters: Parameters, blocks: Sequence[Tensor]) -> Tensor:
        """See Network."""
        return projected(parameters, blocks)

    def logits(self, parameters: Parameters, blocks: Sequence[Tensor], drop: Drop) -> Tensor:
        """See Network; composed where nothing is dropped and a batch has more rows than there are classes."""
        weight, logits = parameters["classifier.weight"], parameters["classifier.bias"][:, None]
        if self.dropout or blocks[0].shape[1] <= weight.shape[1]:
            return super().logits(parameters, blocks, drop)
        from dvme.heads.fusion.composition import Composition

        for m, (block, own) in enumerate(zip(blocks, weight.chunk(len(blocks), dim=2), strict=True)):
            composed: Tensor = Composition.apply(own, parameters[f"projections.{m}.weight"])
            bias = own @ parameters[f"projections.{m}.bias"][:, :, None]  # (J, C, 1)
            logits = logits + _affine_map(block, composed, bias.squeeze(2))
        return logits


@dataclass(frozen=True)
class Tokens(Network):
    """What most readers expect of DVME: M tokens of 512 values under multi-head attention."""

    dropout: float = DROPOUT

    def shapes(self, dims: Sequence[int], n_classes: int) -> dict[str, tuple[int, ...]]:
        """See Network."""
        attention = {"attention.qkv.weight": (3 * WIDTH, WIDTH)} | _affine("attention.proj", WIDTH, WIDTH)
        return _projections(dims) | attention | _classifier(len(dims), n_classes)

    def hidden(self, parameters: Parameters, blocks: Sequence[Tensor]) -> Tensor:
        """See Network."""
        query, key, value = self.queries_keys_values(parameters, projected(parameters, blocks))
        attended = torch.nn.functional.scaled_dot_product_attention(query, key, value)  # (J B, heads, M, 512 / heads)
        n_jobs, n_samples = blocks[0].shape[:2]
        tokens = attended.transpose(1, 2).reshape(n_jobs, -1, WIDTH)
        mixed = _apply("attention.proj", parameters, tokens).reshape(n_jobs, n_samples, -1)
        return _fused(parameters, mixed)

    @staticmethod
    def queries_keys_values(parameters: Parameters, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three (J B, heads, M, 512 / heads) from (J, B, 512 M) projected values."""
        n_jobs, n_samples, n_values = values.shape
        tokens = values.reshape(n_jobs, -1, WIDTH)  # (J, B M, 512)
        mixed = _affine_map(tokens, parameters["attention.qkv.weight"], None)
        split = mixed.view(n_jobs * n_samples, n_values // WIDTH, 3, N_HEADS, WIDTH // N_HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        return query, key, value


def count_parameters(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Numbers that one head learns."""
    return sum(math.prod(shape) for shape in shapes.values())


def initial_parameters(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Parameters of one head as torch's own layers draw them: U(-1/sqrt(in), 1/sqrt(in)); norms are 1 and 0.

    Drawn on the CPU in float32, so that a seed means the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        layer, _, kind = name.rpartition(".")
        if layer == "norm":
            parameters[name] = torch.full(shape, 1.0 if kind == "weight" else 0.0)
        else:
            bound = 1.0 / math.sqrt(shapes[f"{layer}.weight"][1])
            parameters[name] = torch.empty(shape).uniform_(-bound, bound, generator=generator)
    return parameters


def projected(parameters: Parameters, blocks: Sequence[Tensor]) -> Tensor:
    """(J, B, 512 M): every backbone's embedding projected to 512 values, side by side."""
    return _side_by_side([_apply(f"projections.{m}", parameters, block) for m, block in enumerate(blocks)])


def _fused(parameters: Parameters, mixed: Tensor) -> Tensor:
    """(J, B, 512): the layers between attention and classifier: LayerNorm, Linear, ReLU."""
    normed = torch.nn.functional.layer_norm(mixed, mixed.shape[-1:])
    normed = normed * parameters["norm.weight"][:, None] + parameters["norm.bias"][:, None]
    return _apply("fusion", parameters, normed).relu()


def _projections(dims: Sequence[int]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for m, dim in enumerate(dims):
        shapes |= _affine(f"projections.{m}", dim, WIDTH)
    return shapes


def _classifier(n_backbones: int, n_classes: int) -> dict[str, tuple[int, ...]]:
    n_tokens = WIDTH * n_backbones
    norm: dict[str, tuple[int, ...]] = {"norm.weight": (n_tokens,), "norm.bias": (n_tokens,)}
    return norm | _affine("fusion", n_tokens, WIDTH) | _affine("classifier", WIDTH, n_classes)


def _affine(name: str, n_in: int, n_out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def _apply(name: str, parameters: Parameters, inputs: Tensor) -> Tensor:
    """(J, B, out) from (J, B, in)."""
    return _affine_map(inputs, parameters[f"{name}.weight"], parameters[f"{name}.bias"])


def _affine_map(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    from dvme.heads.exact.affine import AffineMap

    result: Tensor = AffineMap.apply(inputs, weight, bias)
    return result


def _side_by_side(blocks: Sequence[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(list(blocks), dim=-1)
