"""How near extraction comes to the bare forward pass, and what memory it takes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pixel_backbone import pixel_backbone
from sklearn.datasets import load_sample_image

import dvme
from dvme.backbones import get_spec
from dvme.backbones.loading.building import build_model
from dvme.backbones.model.preprocess import crop_image
from dvme.data import decode_image
from dvme.data.spool import MOST_BYTES
from dvme.runtime import keep_freed_memory

BACKBONE = "efficientnet-lite0"
N_IMAGES, N_PHOTOGRAPHS, REPEATS = 800, 48, 5
PEAK_MEMORY = """
import sys
import dvme
dvme.extract(sys.argv[1], sys.argv[2], backbones=[sys.argv[3]])
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""
"""VmHWM, for ru_maxrss would count the parent's peak."""


@pytest.mark.bench
def test_extract__ratio_to_the_bare_forward_pass(
    solar_cells: list[tuple[Path, str]], write_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    """Files to committed rows, against timm's own model alone on normalised tensors that are already in memory.

    Both run in one process with the same batch size, memory format and allocator settings.
    """
    manifest = write_manifest(solar_cells[:N_IMAGES], ["image", "label"])
    backbone = dvme.load_backbone(get_spec(BACKBONE))
    plain = build_model(backbone.spec).model.eval().to(memory_format=torch.channels_last)
    crops = [
        crop_image(decode_image(path.read_bytes()), backbone.spec.preprocess) for path, _ in solar_cells[:N_IMAGES]
    ]
    tensors = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
    batch_size = dvme.Runtime().images_per_batch("cpu")
    bare, stage, whole = [], [], []
    keep_freed_memory()
    for repeat in range(REPEATS + 1):  # the first warms up and is not counted
        started = time.perf_counter()
        with torch.inference_mode():
            for start in range(0, N_IMAGES, batch_size):
                plain(tensors[start : start + batch_size])
        bare.append(N_IMAGES / (time.perf_counter() - started))
        started = time.perf_counter()
        report = dvme.extract(manifest, tmp_path / f"{repeat}.zarr", backbones=[BACKBONE])
        whole.append(N_IMAGES / (time.perf_counter() - started))
        stage.append(N_IMAGES / report.outcomes[0].seconds)
        assert report.outcomes[0].computed == N_IMAGES
    ratios = [s / b for s, b in zip(stage[1:], bare[1:], strict=True)]
    medians = [statistics.median(values[1:]) for values in (bare, stage, whole)]
    print(
        f"\nextract, {N_IMAGES} images, {BACKBONE}, batch {batch_size}, medians of {REPEATS}: "
        f"bare forward {medians[0]:.1f}/s; files to committed rows {medians[1]:.1f}/s, "
        f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); "
        f"whole call with loading and hashing {medians[2]:.1f}/s, ratio {medians[2] / medians[0]:.3f}"
    )
    assert statistics.median(ratios) > 0.5


@pytest.mark.bench
def test_extract__peak_memory_does_not_grow(
    solar_cells: list[tuple[Path, str]], write_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    """Peak resident memory of a process that extracts ever more images, which it keeps from hashing to decoding."""
    peaks, most = {}, MOST_BYTES / 1e6
    for count in (200, 800, len(solar_cells)):
        manifest = write_manifest(solar_cells[:count], ["image", "label"], f"{count}.csv")
        peaks[count] = peak_memory(manifest, tmp_path / f"{count}.zarr", BACKBONE)
    print("\nextract, peak memory: " + ", ".join(f"{count} images {peak:.0f} MB" for count, peak in peaks.items()))
    assert peaks[len(solar_cells)] < peaks[200] + most + 50


@pytest.mark.bench
def test_extract__peak_memory_from_1_000_to_100_000_images(tmp_path: Path) -> None:
    """A model that costs nothing, so that there may be many images: their names and states are all that grows."""
    backbone, images = pixel_backbone(tmp_path, crop=32, resize=32), tmp_path / "images"
    rng = np.random.default_rng(0)
    images.mkdir()
    for number in range(100_000):
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(images / f"{number:06d}.png")
    peaks, speeds = {}, {}
    for count in (1_000, 10_000, 100_000):
        manifest = tmp_path / f"{count}.csv"
        manifest.write_text("image\n" + "".join(f"images/{number:06d}.png\n" for number in range(count)))
        started = time.perf_counter()
        peaks[count] = peak_memory(manifest, tmp_path / f"{count}.zarr", backbone)
        speeds[count] = count / (time.perf_counter() - started)
    print(
        "\nextract, PNG files of 32 px, peak memory: "
        + ", ".join(f"{count:,} images {peak:.0f} MB ({speeds[count]:,.0f}/s)" for count, peak in peaks.items())
    )
    assert peaks[100_000] < peaks[1_000] + 300


def peak_memory(manifest: Path, cache: Path, backbone: str) -> float:
    """MB that a process held at most which extracts these images."""
    command = [sys.executable, "-c", PEAK_MEMORY, str(manifest), str(cache), backbone]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6


@pytest.mark.bench
@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("two backbones that crop alike", [BACKBONE, f"{BACKBONE}@pool=model"]),
        ("three backbones that crop differently", [BACKBONE, "efficientnet-lite1", "efficientnet-lite2"]),
    ],
)
def test_extract__one_pass_for_several_backbones(what: str, names: list[str], tmp_path: Path) -> None:
    """Several backbones in one pass, against a pass for each, on photographs of a camera's size."""
    folder = tmp_path / "images"
    folder.mkdir()
    photo = Image.fromarray(load_sample_image("china.jpg")).resize((4000, 2668))
    for index in range(N_PHOTOGRAPHS):
        photo.rotate(index % 7).save(folder / f"{index}.jpg", quality=90 - index // 7)
    together, apart = [], []
    for repeat in range(REPEATS):
        one = dvme.extract(folder, tmp_path / f"one{repeat}.zarr", backbones=names)
        together.append(one.outcomes[0].seconds)
        each = [dvme.extract(folder, tmp_path / f"each{repeat}.zarr", backbones=[name]) for name in names]
        apart.append(sum(report.outcomes[0].seconds for report in each))
    ratio = statistics.median(apart) / statistics.median(together)
    print(
        f"\nextract, {N_PHOTOGRAPHS} photographs of 10.7 megapixels, {what}, medians of {REPEATS}: one pass "
        f"{statistics.median(together):.1f} s, a pass each {statistics.median(apart):.1f} s, {ratio:.2f} times faster"
    )
    assert ratio > 1.0
