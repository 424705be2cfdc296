"""What exact logistic regressions hold while they are fitted, and so which go together within a memory budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dvme.errors import OptionError, parameter
from dvme.heads.exact.logistic import LARGEST_GROUPED, is_spanned

PADDING, SMALL_JOB = 1.3, 80
"""Jobs share a batch up to this ratio of training rows, or up to so few rows."""
PARAMETER_ARRAYS, LOGIT_ARRAYS = 45, 12
"""What an iteration holds of either, at its peak: ten pairs of L-BFGS, twice while they move up, and the work in
progress. Measured."""
OWN_ARRAYS = 6
"""As many more of the logits' size where each of them has targets and weights of its own."""
GIB = 1 << 30


@dataclass(frozen=True)
class Footprint:
    """Bytes that the fit of a job holds."""

    dim: int
    """D."""
    n_classes: int
    """C."""
    is_multilabel: bool = False
    """Whether each class is a problem of its own, with its own rows."""

    def __call__(self, n_rows: int, n_strengths: int) -> int:
        """For a job of so many training rows, at so many strengths at once."""
        is_few = is_spanned(n_rows, self.dim)
        width, n_views = (n_rows, 2) if is_few else (self.dim, 1)  # of a vector of parameters, see minimise
        rows = 3 * n_rows * self.dim + 3 * n_rows * width
        columns = n_strengths * (self.n_classes if self.n_classes > 2 or self.is_multilabel else 1)
        logit_arrays = LOGIT_ARRAYS + (OWN_ARRAYS if self.is_multilabel else 0)
        iteration = columns * (PARAMETER_ARRAYS * n_views * width + logit_arrays * n_rows)
        return 8 * (rows + iteration + 2 * n_strengths * self.n_classes * self.dim)

    def at_once(self, n_rows: int, n_strengths: int, budget: int) -> int:
        """How many of the strengths of a job fit the budget together.

        Raises:
            OptionError: if not a single one does.
        """
        least = self(n_rows, 1)
        if least > budget:
            more = math.ceil(100 * (least - budget) / GIB) / 100
            raise OptionError(
                f"a linear fit of {n_rows:,} rows of {self.dim:,} values in {self.n_classes:,} classes needs {least:,} "
                f"bytes and may hold {budget:,}; pass " + parameter("memory") + f", {more:g} GiB more"
            )
        return min(n_strengths, 1 + (budget - least) // (self(n_rows, 2) - least))


def alike(sizes: Mapping[int, int], footprint: Footprint, n_strengths: int, budget: int) -> list[list[int]]:
    """Keys of like sizes: padded to the largest of a group, little is wasted, and all of it fits the budget.

    Args:
        sizes: training rows of each job, by its key.
        footprint: of one.
        n_strengths: of the path.
        budget: bytes; a job that does not fit it stands alone.
    """
    groups: list[list[int]] = []
    for key in sorted(sizes, key=lambda key: sizes[key]):
        size = sizes[key]
        group = groups[-1] if groups else []
        is_close = bool(group) and size <= max(PADDING * sizes[group[0]], SMALL_JOB)
        fits = size <= LARGEST_GROUPED and (len(group) + 1) * footprint(size, n_strengths) <= budget
        if is_close and fits:
            group.append(key)
        else:
            groups.append([key])
    return groups
