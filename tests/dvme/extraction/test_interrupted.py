"""A real process that ends while lanes compute: Python aborts whoever exits beneath a thread that is inside of C++."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dvme_cache import EmbeddingCache, RowState

BACKBONE = """
import os
import signal
import torch
from torch import nn
from dvme.backbones import BackboneSpec, Preprocess

class Busy(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.many, self.n_batches = torch.rand(2200, 2200), 0

    def forward(self, images):
        if len(images) == 4:
            self.n_batches += 1
            if self.n_batches == 4:
                BREAK
            if self.n_batches >= 3:  # a second in operations that hold no lock of Python's
                for _ in range(3):
                    self.many @ self.many
        return self.pool(images).flatten(1)

NAME = BackboneSpec(name="busy", method="ours", architecture="busy", dim=48, pooling="model", checkpoint=None,
    preprocess=Preprocess(resize=16, crop=16), licence="MIT", paper="ours", source="built", build=Busy)
"""
ENDS = {"interrupted": "os.kill(os.getpid(), signal.SIGINT)", "broken": "raise RuntimeError('the model broke')"}


@pytest.mark.parametrize("end", ENDS)
def test_extract__a_process_that_ends_while_lanes_compute_is_not_aborted(
    end: str, class_folders: Path, tmp_path: Path
) -> None:
    (tmp_path / "busy.py").write_text(BACKBONE.replace("BREAK", ENDS[end]))
    # A suite that runs in the background of a shell hands an ignored SIGINT on.
    call = (
        "import signal, dvme; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"runtime = dvme.Runtime(device='cpu', batch_size=4)\n"
        f"dvme.extract({str(class_folders)!r}, 'c.zarr', backbones=['busy.py:NAME'], runtime=runtime)"
    )
    found = subprocess.run(
        [sys.executable, "-c", call],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == (-signal.SIGINT if end == "interrupted" else 1), found.stderr
    assert found.stderr.rstrip().endswith("KeyboardInterrupt" if end == "interrupted" else "the model broke")
    embeddings = EmbeddingCache.open(tmp_path / "c.zarr").embeddings("busy")
    assert np.count_nonzero(embeddings.states() == RowState.DONE) >= 12
