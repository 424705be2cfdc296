"""What workers of a cluster do in tests; a module of its own, for a worker finds it by its name."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

DEADLY, REFUSED = -1, -2


def make_squares(marks: Path | None = None) -> Callable[[int], tuple[int, str]]:
    """Squares, and the process's threads. DEADLY kills whoever has it; where marks are, the first worker at 7 dies."""

    def square(number: int) -> tuple[int, str]:
        if number == DEADLY or (number == 7 and marks is not None and not (marks / "7").exists()):
            if marks is not None:
                (marks / "7").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == REFUSED:
            raise ValueError("no number below 0")
        return number**2, os.environ["OMP_NUM_THREADS"]

    return square


def make_threads() -> Callable[[int], int]:
    """How many threads torch takes."""
    import torch

    return lambda _: torch.get_num_threads()
