"""The labels of the runs that are reported."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

N = 240


@pytest.fixture(scope="session")
def labels() -> NDArray[np.int64]:
    """(N,) of three classes."""
    return np.arange(N) % 3
