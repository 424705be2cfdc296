"""Logistic regression whose every point is a pass over blocks of rows, and whose curvature is that of a sample.

A sample of m rows knows the Hessian of all n up to a relative sqrt(D / m). So a Newton step by it leaves that part of
the distance to the optimum, and L-BFGS on top of it less: a pass is worth two to three digits of the objective where
m >> D. The rows near the boundary decide, so a first sample, as even over classes as it can be, says which these are.
What decides is the gradient of all rows, so the optimum is that of all rows, whatever the sample.

Source: Byrd, Chin, Neveitt and Nocedal 2011 for the sampled Hessian and its conjugate gradients; `minimise` for L-BFGS.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvme.heads.exact.logistic_problem import FromRows
from dvme.heads.exact.minimise import Slopes, dot, minimise
from dvme.heads.exact.streamed_rows import StreamedRows, Taught
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

RESIDUAL = 1e-2
"""Left of a gradient by the conjugate gradients on the sample, in the preconditioned length: less than what the sample
leaves itself."""
MAX_PRODUCTS = 100


class StreamedProblem(Slopes):
    """One problem at S strengths, on the axes of the sample's scatter matrix, with the intercept last.

    Parameters stand for logits, of which there are too many: all that `minimise` asks of logits is that they are
    linear in the parameters.
    """

    def __init__(self, streamed: StreamedRows, n_sample: int, l2: Tensor, tell: Callable[[], None]) -> None:
        """`l2` (1, S); `tell` is called after each pass. The first one is on what the sample is to be."""
        self.streamed, self.l2, self.tell = streamed, l2, tell
        even = streamed.sample(n_sample)
        scatter = even.matrix.T @ (even.matrix * even.weights[0][:, None])
        self.basis = torch.linalg.eigh(scatter).eigenvectors
        near = minimise(self._of(even)).parameters
        del even
        self.sample = self._of(streamed.surprising(n_sample, self._surprise(near)))
        self.sample.start = near
        self.start = minimise(copy(self.sample)).parameters
        self.sampled = self.start.new_zeros(0)
        """(1, S, Q, m) probabilities of the sample at the current point."""
        self._seen: tuple[Tensor, Tensor] | None = None

    def keep(self, jobs: Tensor, strengths: Tensor) -> None:
        """See Slopes."""
        self.sample.keep(jobs, strengths)
        self.l2, self.sampled = self.l2[:, strengths], self.sampled[:, strengths]

    def logits(self, parameters: Tensor) -> Tensor:
        """(1, S, Q, D + 1) parameters themselves."""
        return parameters[:, :, 0]

    def objective(self, logits: Tensor, parameters: Tensor) -> Tensor:
        """See Slopes; a pass, which keeps the gradient."""
        value, gradient = self._pass(parameters)
        self._seen = logits, gradient
        return value

    def gradient(self, logits: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """See Slopes; at the point of the last objective without a pass."""
        if self._seen is None or self._seen[0] is not logits:
            self.objective(logits, parameters)
        assert self._seen is not None
        own = self.sample.logits(parameters)
        self.sampled = self.sample.probabilities(own)
        return self._seen[1], self.sample.gradient(own, parameters)[1]

    def precondition(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """The gradient by the inverse Hessian of the sample, up to RESIDUAL.

        Conjugate gradients from zero have a positive product with the gradient wherever they stop.
        """
        sample, residual = self.sample, gradient.clone()
        direction = sample.precondition(residual, curvature)
        step, length = torch.zeros_like(gradient), dot(residual, direction)
        enough = RESIDUAL**2 * length
        for _ in range(MAX_PRODUCTS):
            image = sample.hessian(self.sampled, direction, sample.logits(direction))
            bend = dot(direction, image)
            is_done = ~((length > enough) & (bend > 0))
            if bool(is_done.all()):
                break
            size = torch.where(is_done, 0.0, length / bend)[..., None, None, None]
            step.addcmul_(size, direction)
            residual.addcmul_(-size, image)
            following = sample.precondition(residual, curvature)
            before, length = length, torch.where(is_done, length, dot(residual, following))
            ratio = torch.where(is_done, 0.0, length / before)[..., None, None, None]
            direction = following.addcmul_(ratio, direction)
        return step

    def preconditioned_length(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """See Slopes; the sample's Hessian has the right scale."""
        del gradient
        return torch.zeros_like(curvature)

    def in_features(self, parameters: Tensor) -> Tensor:
        """(1, S, 1, Q, D + 1) weights of centred features, from those of the axes."""
        return torch.cat([parameters[..., :-1] @ self.basis.T, parameters[..., -1:]], dim=-1)

    def _of(self, sample: Taught) -> FromRows:
        return FromRows([sample.matrix @ self.basis], [sample.targets], [sample.weights], self.l2)

    def _surprise(self, parameters: Tensor) -> NDArray[np.float64]:
        """(n,) how far probabilities are from the truth, over strengths and classes; a pass."""
        own, free, found = self.in_features(parameters), torch.zeros_like(self.l2), []
        for taught in self.streamed.blocks():
            block = FromRows([taught.matrix], [taught.targets], [taught.weights], free)
            residuals = block.probabilities(block.logits(own)) - block.targets
            found.append(residuals.abs().mean((0, 1, 2)))
        self.tell()
        surprise: NDArray[np.float64] = torch.cat(found).numpy()
        return surprise

    def _pass(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(1, S) objectives and (1, S, 1, Q, D + 1) gradients."""
        own, free = self.in_features(parameters), torch.zeros_like(self.l2)
        value, ascent = torch.zeros_like(self.l2), torch.zeros_like(own)
        for taught in self.streamed.blocks():
            block = FromRows([taught.matrix], [taught.targets], [taught.weights], free)
            logits = block.logits(own)
            value += block.objective(logits, own)
            residuals = (block.probabilities(logits) - block.targets) * block.weights[:, :, None]
            ascent[..., :-1] += block.backward(residuals, own)
            ascent[..., -1] += residuals.sum(-1)[:, :, None]
        self.tell()
        weights = parameters[..., :-1]
        ascent[..., :-1] = ascent[..., :-1] @ self.basis + self.l2[..., None, None, None] * weights
        return value + 0.5 * self.l2 * dot(weights, weights), ascent
