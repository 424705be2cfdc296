from __future__ import annotations

import pytest
import torch

from dvme.heads.fusion.composition import BLOCK_ROWS, Composition


@pytest.mark.parametrize("n_hidden", [1, 7, BLOCK_ROWS, 24, 3 * BLOCK_ROWS])
@pytest.mark.parametrize("n_classes", [1, 5])
def test_composition__is_the_product_of_both_layers_in_value_and_gradient(n_hidden: int, n_classes: int) -> None:
    """Also where the hidden units are no multiple of a part, and where the classifier is a part of a wider one."""
    generator = torch.Generator().manual_seed(n_hidden)
    wide = torch.randn(3, n_classes, n_hidden + 2, generator=generator, dtype=torch.float64)
    classifier = wide[:, :, 1:-1].requires_grad_()
    weight = torch.randn(3, n_hidden, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, n_classes, 4, generator=generator, dtype=torch.float64)
    composed, expected = Composition.apply(classifier, weight), torch.einsum("jch,jhd->jcd", classifier, weight)
    torch.testing.assert_close(composed, expected)
    found = torch.autograd.grad(composed, (classifier, weight), upstream)
    for mine, theirs in zip(found, torch.autograd.grad(expected, (classifier, weight), upstream), strict=True):
        torch.testing.assert_close(mine, theirs)
