"""Extraction against what one would use instead, on the same images and weights, in turn.

thingsvision and kaiko-eva need environments of their own, `DVME_PEERS/thingsvision` and `DVME_PEERS/kaiko-eva`, each
made by `python -m venv` and `pip install thingsvision==2.7.3` or `'kaiko-eva[vision]==0.4.5'`. What is not there is
skipped.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import dvme
from dvme.backbones import get_spec
from dvme.backbones.loading.building import build_model

SCRIPT = Path(__file__).parents[1] / "support" / "peers.py"
PEERS = Path(os.environ.get("DVME_PEERS", "none"))
ENVIRONMENTS = {
    "loop": Path(sys.executable),
    "dataloader": Path(sys.executable),
    "thingsvision": PEERS / "thingsvision" / "bin" / "python",
    "kaiko-eva": PEERS / "kaiko-eva" / "bin" / "python",
}
N_WORKERS = {"dataloader": 2, "kaiko-eva": 2}
N_IMAGES, REPEATS, BACKBONE = 200, 3, "efficientnet-lite0"


@pytest.mark.bench
@pytest.mark.parametrize("size", [300, 1024])
def test_extract__beside_what_one_would_use_instead(
    size: int, solar_cells: list[tuple[Path, str]], tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path, _ in solar_cells[:N_IMAGES]:
        Image.open(path).resize((size, size), Image.Resampling.BICUBIC).save(images / path.name)
    weights = tmp_path / "lite0.pth"
    torch.save(build_model(get_spec(BACKBONE)).model.state_dict(), weights)
    there = {name: python for name, python in ENVIRONMENTS.items() if python.exists()}
    speeds: dict[str, list[float]] = {name: [] for name in (*there, "dvme")}
    for repeat in range(REPEATS):
        for name, python in there.items():
            out = tmp_path / f"{name}{repeat}"
            command = [python, SCRIPT, name, images, weights, out, str(N_WORKERS.get(name, 0))]
            done = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            speeds[name].append(N_IMAGES / float(done.split("seconds ")[1].split()[0]))
        report = dvme.extract(images, tmp_path / f"{repeat}.zarr", backbones=[BACKBONE], progress=dvme.silent)
        speeds["dvme"].append(N_IMAGES / report.outcomes[0].seconds)
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    print(
        f"\nextract, {N_IMAGES} files of {size} px, lite0, images/s, medians of {REPEATS}: "
        + ", ".join(f"{name} {found:.1f}" for name, found in medians.items())
        + f"; load {os.getloadavg()[0]:.1f}; not there: {', '.join(ENVIRONMENTS.keys() - there.keys()) or 'none'}"
    )
    assert all(medians["dvme"] >= found for found in medians.values())
