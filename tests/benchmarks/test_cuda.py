"""What a GPU brings, in eight minutes: `python -m pytest tests/benchmarks/test_cuda.py -m gpu -o addopts= -s`.

The suite runs the same in miniature on the CPU, tests/dvme/extraction/test_staging.py.
"""

from __future__ import annotations

import pytest
from device_figures import Figures, run


@pytest.mark.gpu
def test_cuda__all_figures() -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        print(line, flush=True)

    run(Figures(), say)
    ratios = [
        float(line.partition(", ")[2].partition(" of the bare")[0].rsplit(" ", 1)[1])
        for line in said
        if "of the bare forward" in line
    ]
    assert len(ratios) == 3
    assert min(ratios) > 0.5
