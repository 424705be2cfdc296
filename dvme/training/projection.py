"""What stands between embeddings and a contrastive loss while a backbone is adapted. It is thrown away afterwards."""

from __future__ import annotations

from torch import Tensor, nn


class Projection(nn.Module):
    """Two layers: linear, batch normalisation, ReLU, linear, batch normalisation.

    The linear layers have no bias, for the normalisations would undo it. Both views of a minibatch belong into one
    call, so that their statistics are the same. First weights are drawn by torch's own generator
    (`randomness.seed_torch`).

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", section 2.1;
    the normalisations are those of its code and of lightly's `SimCLRProjectionHead`. Azizi et al. 2021, section 4.2,
    project to 128 numbers.
    """

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        """Draw the first weights.

        Args:
            dim: D of the embeddings.
            hidden: units between the layers.
            out: numbers that the loss compares.
        """
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, out, bias=False),
            nn.BatchNorm1d(out),
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, out) of (B, D) embeddings; two rows or more in training."""
        projected: Tensor = self.layers(embeddings)
        return projected
