"""Extraction on the cores that are there: quiet, and beside processes that want them as well."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dvme
from dvme.backbones import get_spec
from dvme.backbones.model.preprocess import crop_image
from dvme.data import decode_image
from dvme.extraction import embedding
from dvme.extraction.pace import Mode
from dvme.runtime import keep_freed_memory

LITE = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
RESNET = "timm:resnet50"
N_IMAGES, REPEATS = 400, 5
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"
"""Until it is killed, or whoever started it is."""
FIXED = {"1 thread": [Mode(1, 1)], "2 threads": [Mode(1, 2)], "2 lanes": [Mode(2, 1)]}


@contextmanager
def busy(n_processes: int) -> Iterator[None]:
    """As many other processes as that want a core each."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n_processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


def images_per_second(manifest: Path, cache: Path, names: Sequence[str], **options: Any) -> float:
    report = dvme.extract(manifest, cache, backbones=names, progress=dvme.silent, **options)
    assert {one.computed for one in report.outcomes} == {report.n_rows}
    return report.n_rows / max(one.seconds for one in report.outcomes)


def forward(name: str, crops: torch.Tensor, weights: dict[str, Path]) -> float:
    """Images/s of the folded model alone on crops that are in memory, in the faster of two lanes and two threads."""
    model = dvme.load_backbone(name, weights=weights)
    size = dvme.Runtime().images_per_batch("cpu")
    batches = [crops[start : start + size] for start in range(0, len(crops), size)]

    def team() -> None:
        torch.set_num_threads(2)
        for batch in batches:
            model.embed(batch)

    def lanes() -> None:
        def lane(part: list[torch.Tensor]) -> None:
            torch.set_num_threads(1)
            for batch in part:
                model.embed(batch)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lane, [batches[::2], batches[1::2]]))
        torch.set_num_threads(2)

    def speed(run: Callable[[], None]) -> float:
        started = time.perf_counter()
        run()
        return len(crops) / (time.perf_counter() - started)

    return max(speed(team), speed(lanes))


def decoding(paths: Sequence[Path], names: Sequence[str]) -> float:
    """Images/s of reading, decoding and cropping alone on both cores."""
    preprocess = list(dict.fromkeys(get_spec(name).preprocess for name in names))

    def one(path: Path) -> None:
        image = decode_image(path.read_bytes())
        for each in preprocess:
            crop_image(image, each)

    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, paths))
    return len(paths) / (time.perf_counter() - started)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights of a ResNet-50, whose speed is that of trained ones."""
    import timm

    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(timm.create_model("resnet50").state_dict(), path)
    return {RESNET: path}


@pytest.fixture(scope="module")
def files(solar_cells: list[tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Path]]:
    """Photographs of 300 and of 1024 pixels, grey PNG files."""
    folder = tmp_path_factory.mktemp("files")
    small = [path for path, _ in solar_cells[:N_IMAGES]]
    large = []
    for path in small[: N_IMAGES // 2]:
        large.append(folder / path.name)
        Image.open(path).resize((1024, 1024), Image.Resampling.BICUBIC).save(large[-1])
    return {300: small, 1024: large}


@pytest.mark.bench
@pytest.mark.parametrize("size", [300, 1024])
@pytest.mark.parametrize("names", [LITE[:1], (RESNET,), LITE], ids=["lite0", "ResNet-50", "three"])
def test_extract__beside_decoding_and_forward_alone(
    names: Sequence[str],
    size: int,
    files: dict[int, list[Path]],
    weights: dict[str, Path],
    write_manifest: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """What decoding and forwards, each alone on both cores, allow together."""
    paths = files[size] if RESNET not in names else files[size][:160]
    manifest = write_manifest([(path,) for path in paths], ["image"])
    given = {name: path for name, path in weights.items() if name in names}
    keep_freed_memory()
    ratios, shown = [], []
    for repeat in range(REPEATS):
        parts = [1 / decoding(paths, names)] if size > 300 or len(names) > 1 else []
        for name in names:
            crops = [crop_image(decode_image(path.read_bytes()), get_spec(name).preprocess) for path in paths]
            parts.append(1 / forward(name, torch.from_numpy(np.stack(crops)), given))
        found = images_per_second(manifest, tmp_path / f"{repeat}.zarr", names, weights=given)
        ratios.append(found * sum(parts))
        shown.append(found)
    print(
        f"\nextract, {len(paths)} files of {size} px, {', '.join(names)}: {statistics.median(shown):.1f}/s, "
        f"{statistics.median(ratios):.3f} of what {'forward' if not parts[1:] else 'decoding and forwards'} alone "
        f"allow ({min(ratios):.3f} to {max(ratios):.3f}); {load()}"
    )
    assert statistics.median(ratios) > 0.5


@pytest.mark.bench
@pytest.mark.parametrize("n_images", [N_IMAGES, 4 * N_IMAGES])
@pytest.mark.parametrize("n_busy", [0, 1, 2])
def test_extract__beside_busy_processes(
    n_busy: int,
    n_images: int,
    solar_cells: list[tuple[Path, str]],
    write_manifest: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against every fixed way of using two cores, in turn, so that all meet the same minute."""
    manifest = write_manifest([(path,) for path, _ in solar_cells[:n_images]], ["image"])
    monkeypatch.setattr(embedding, "available_cores", lambda: 2)
    chosen, speeds = embedding.modes_of, {name: [] for name in (*FIXED, "dvme")}  # type: ignore[var-annotated]
    with busy(n_busy):
        for repeat in range(3):
            for name, found in speeds.items():
                monkeypatch.setattr(embedding, "modes_of", lambda *given, name=name: FIXED.get(name) or chosen(*given))
                cache = tmp_path / f"{name.replace(' ', '')}{repeat}.zarr"
                found.append(images_per_second(manifest, cache, LITE[:1]))
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    best = max(medians[name] for name in FIXED)
    print(
        f"\nextract, {n_images} files of 300 px, lite0, beside {n_busy} busy processes: "
        + ", ".join(f"{name} {found:.1f}/s" for name, found in medians.items())
        + f"; {medians['dvme'] / best:.2f} of the best fixed way; {load()}"
    )
    assert medians["dvme"] > 0.7 * best
