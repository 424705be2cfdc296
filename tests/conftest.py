"""Images, caches and checkpoints that the tests share. Everything is made here or comes from a package."""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from once import assert_untouched, made_once
from PIL import Image

from dvme_cache import EmbeddingCache, Fingerprint

IS_CAMPAIGN = os.environ.get("DVME_CAMPAIGN") == "full"
# A busy machine is no failure. The suite tries the same examples each time, and `make test-all` others.
settings.register_profile("dvme", deadline=None, max_examples=100 if IS_CAMPAIGN else 35, derandomize=not IS_CAMPAIGN)
settings.load_profile("dvme")

SOLAR = importlib.util.find_spec("elpv_dataset")
GROUPS = ("machine", "umap", "ray")
"""Markers whose tests all run in one worker, whatever file they are in."""
MOST_BYTES_NAMED = 16
LONG = ("tests/reliability/", "tests/dvme/report/html/", "tests/test_readme.py", "tests/cli/")
"""What is begun first, so that no worker is left with it at the end."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `--dist loadgroup` a file is one worker's as well, so that its fixtures are made once."""
    from xdist.scheduler import LoadGroupScheduling

    class Scheduling(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope = super()._split_scope(nodeid)
            return scope.split("::", 1)[0] if scope == nodeid else scope

    return Scheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_make_parametrize_id(val: object) -> str | None:
    """No file stands in a test's name: archives have their time in them, on which no two workers agree."""
    return "bytes" if isinstance(val, bytes) and len(val) > MOST_BYTES_NAMED else None


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of GROUPS to xdist as such; what has UMAP for a parameter is marked here."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        if parameters is not None and "umap" in parameters.id.split("-"):
            item.add_marker("umap")
        for group in GROUPS:
            if item.get_closest_marker(group):
                item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    if item.get_closest_marker("xdist_group"):
        return 0
    return 1 if item.nodeid.startswith(LONG) else 2


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Maps and thumbnails that tests make are kept apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("kept")))
        yield


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def small_study(run_folder: Path) -> Iterator[Path]:
    """`c.zarr` of 120 pictures and its finished run `run`, with a kept head; to be read, or copied."""
    from pictures import write_study

    yield made_once(run_folder / "small-study", write_study)
    assert_untouched(run_folder / "small-study")


@pytest.fixture(scope="session")
def solar_cells() -> list[tuple[Path, str]]:
    """(path, defect likelihood) of the 2,624 real photographs."""
    assert SOLAR is not None
    assert SOLAR.origin is not None
    data = Path(SOLAR.origin).parent / "data"
    lines = (line.split() for line in (data / "labels.csv").read_text().splitlines())
    return [(data / name, likelihood[:4]) for name, likelihood, _ in lines]


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[..., Path]:
    """Write a CSV manifest of rows with named columns."""

    def write(rows: Sequence[Sequence[object]], columns: Sequence[str], name: str = "manifest.csv") -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)
        return path

    return write


@pytest.fixture(scope="session")
def save_image() -> Callable[..., Path]:
    """Save a small image of noise whose brightness depends on the class, different for every seed."""

    def save(path: Path, *, seed: int, level: int = 0, size: tuple[int, int] = (40, 32)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 60, size=(size[1], size[0], 3)) + 60 * level
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def class_folders(tmp_path: Path, save_image: Callable[..., Path]) -> Path:
    """root/class/img with 3 classes of 12 images."""
    root = tmp_path / "images"
    for level, name in enumerate(("dark", "grey", "light")):
        for index in range(12):
            save_image(root / name / f"{index:02d}.png", seed=100 * level + index, level=level)
    return root


@pytest.fixture(scope="session")
def write_embeddings() -> Callable[..., Path]:
    """Write a cache of embeddings (N, D) and columns by image, without any image; `order` is that of its rows."""

    def write(
        target: Path,
        embeddings: Mapping[str, NDArray[Any]],
        *,
        order: Sequence[int] | None = None,
        **columns: Sequence[str],
    ) -> Path:
        n_images = len(next(iter(embeddings.values())))
        images = np.arange(n_images) if order is None else np.asarray(order)
        columns = {"path": [f"{image}.png" for image in range(n_images)], **columns}
        with EmbeddingCache.writing(target) as cache:
            ids = [(image + 1).to_bytes(8, "big") * 2 for image in images.tolist()]
            rows = cache.samples.add(ids, [columns["path"][image] for image in images])
            cache.update_columns(rows, {name: [values[i] for i in images] for name, values in columns.items()})
            for name, values in embeddings.items():
                table = cache.ensure_embeddings(
                    name, Fingerprint({"weights": name}), dim=values.shape[1], dtype=str(values.dtype), provenance={}
                )
                for shard in table.pending_shards():
                    failed = {int(row): "torn" for row in shard if np.isnan(values[images[row], 0])}
                    table.commit(shard, values[images[shard]], failed)
        return target

    return write


@pytest.fixture(scope="session")
def make_features() -> Callable[..., NDArray[Any]]:
    """(N, D) float32: centres of the classes, `signal` apart, in noise of 1."""

    def make(labels: NDArray[Any], signal: float, seed: int, dim: int = 8) -> NDArray[Any]:
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(int(labels.max()) + 1, dim))
        return (signal * centres[labels] + rng.normal(size=(len(labels), dim))).astype(np.float32)

    return make
