"""Parts of an extraction: each extracts the rows of its shards, mends no others, and says what the cache has."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dvme
from dvme.data import load_samples
from dvme.data.hashing import identify
from dvme.errors import OptionError
from dvme.extraction.indexing import index_samples
from dvme_cache import EmbeddingCache, unreadable_id, verify_cache
from dvme_cli.interrupted import kept_of

Extract = Callable[..., Any]

NET = '''
import torch
from torch import nn
from dvme.backbones import BackboneSpec, Preprocess


class Net(nn.Module):
    """Means of four quarters."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


net = BackboneSpec(
    name="net", method="none", architecture="Net", dim=12, pooling="model", preprocess=Preprocess(resize=32, crop=32),
    checkpoint=None, source="built", build=Net, licence="none", paper="none",
)
'''
N_IMAGES, SHARD_ROWS = 37, 4


@pytest.fixture
def images(class_folders: Path) -> Path:
    """36 pictures, and a file that is none, which is the last shard."""
    (class_folders / "light" / "99.png").write_bytes(b"no picture")
    return class_folders


@pytest.fixture
def extract(images: Path, tmp_path: Path) -> Extract:
    """Extract into a cache by name; `plan=True` says only what would be done."""
    (tmp_path / "own.py").write_text(NET)

    def run(cache: str, part: str | None = None, *, plan: bool = False, **options: Any) -> Any:
        function: Any = dvme.plan_extraction if plan else dvme.extract
        runtime = dvme.Runtime(device="cpu", batch_size=3, workers=1)
        settings = {"backbones": [f"{tmp_path / 'own.py'}:net"], "rows_per_shard": SHARD_ROWS, "runtime": runtime}
        return function(images, tmp_path / cache, **settings | options, part=part, progress=dvme.silent)

    return run


def files_of(cache: Path) -> dict[str, Any]:
    """Key to bytes; of a zarr.json what it says, but for the date and the seal over it."""
    found: dict[str, Any] = {}
    for path in cache.rglob("*"):
        if path.name == "zarr.json":
            document = json.loads(path.read_text())
            document["attributes"].pop("seal")
            document["attributes"].get("provenance", {}).pop("created", None)
            found[f"{path.relative_to(cache)}"] = document
        elif path.is_file():
            found[f"{path.relative_to(cache)}"] = path.read_bytes()
    return found


def test_extract__parts_make_what_one_run_makes(extract: Extract, tmp_path: Path) -> None:
    """Shards 0 to 9 of 4, the last one of 1 row: parts of 3 own 0 3 6 9, 1 4 7 and 2 5 8."""
    whole = extract("whole.zarr")
    assert (whole.part, whole.outcomes[0].n_own, whole.outcomes[0].n_in_cache) == (None, 37, 36)
    counts = {"2/3": (12, 12, 0, 12), "3/3": (12, 12, 0, 24), "1/3": (13, 12, 1, 36)}
    for part, (n_own, n_computed, n_failed, n_in_cache) in counts.items():
        planned = extract("parts.zarr", part, plan=True)
        assert (planned.part, planned.n_rows, planned.backbones[0].n_computed) == (part, N_IMAGES, n_own)
        report = extract("parts.zarr", part)
        (outcome,) = report.outcomes
        assert (report.part, report.n_rows, report.n_new) == (part, N_IMAGES, N_IMAGES if part == "2/3" else 0)
        assert (outcome.n_own, outcome.computed, outcome.reused) == (n_own, n_computed, 0)
        assert (outcome.failed, len(outcome.reasons), outcome.n_in_cache) == (n_failed, n_failed, n_in_cache)
    assert files_of(tmp_path / "parts.zarr") == files_of(tmp_path / "whole.zarr")
    again = extract("parts.zarr", "1/3").outcomes[0]
    assert (again.computed, again.reused, again.failed) == (0, 12, 1)
    planned = extract("parts.zarr", "1/3", plan=True).backbones[0]
    assert (planned.n_computed, planned.reused, planned.failed) == (0, 12, 1)


def test_extract__a_part_without_a_shard(extract: Extract) -> None:
    outcome = extract("c.zarr", "11/11").outcomes[0]
    assert (outcome.n_own, outcome.computed, outcome.failed, outcome.n_in_cache) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("part", "refusal"),
    [
        ("0/4", "there is no part 0/4; parts are 1/4 to 4/4; part='3/16' is the third of sixteen"),
        ("5/4", "there is no part 5/4; parts are 1/4 to 4/4"),
        ("3", "'3' is no part; part='3/16' is the third"),
        ("a/b", "'a/b' is no part"),
        (3, "'3' is no part"),
    ],
)
def test_extract__what_is_no_part(extract: Extract, tmp_path: Path, part: Any, refusal: str) -> None:
    for is_plan in (False, True):
        with pytest.raises(OptionError, match=re.escape(refusal)):
            extract("c.zarr", part, plan=is_plan)
    assert not list(tmp_path.glob("*c.zarr*"))


def test_extract__a_part_replaces_nothing(extract: Extract, tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match=r"^part='1/2' cannot go with replace=True, which would delete what other parts"
    ):
        extract("c.zarr", "1/2", replace=True)
    assert not list(tmp_path.glob("*c.zarr*"))


@pytest.mark.parametrize("array", ["state", "features"])
def test_extract__a_part_mends_its_own_shards(extract: Extract, tmp_path: Path, array: str) -> None:
    """What another one has to mend stays as it is, and stops nobody."""
    extract("c.zarr")
    folder = tmp_path / "c.zarr/embeddings/net" / array / "c"
    torn = [folder / f"{shard}" / "0" if array == "features" else folder / f"{shard}" for shard in (0, 1)]
    for path in torn:
        path.write_bytes(b"torn")
    planned = extract("c.zarr", "1/2", plan=True).backbones[0]
    assert planned.n_computed == (4 if array == "features" else 0)
    outcome = extract("c.zarr", "1/2").outcomes[0]
    assert (outcome.n_lost, outcome.computed) == ((4, 4) if array == "features" else (0, 0)), "checksums prove the rows"
    assert outcome.n_in_cache == (36 if array == "features" else 32)
    assert [path.read_bytes() == b"torn" for path in torn] == [False, True]
    extract("c.zarr", "2/2")
    assert verify_cache(EmbeddingCache.open(tmp_path / "c.zarr")).findings == []


def test_extract__images_that_were_added_between_two_parts(
    extract: Extract, images: Path, tmp_path: Path, save_image: Callable[..., Path]
) -> None:
    """The later part adds the rows; those of the earlier one's shards wait for its next run."""
    extract("c.zarr", "1/2")
    for index in range(20, 26):
        save_image(images / "light" / f"{index}.png", seed=index)
    later = extract("c.zarr", "2/2")
    assert (later.n_rows, later.n_new, later.outcomes[0].n_own, later.outcomes[0].n_in_cache) == (43, 6, 20, 39)
    assert verify_cache(EmbeddingCache.open(tmp_path / "c.zarr")).findings == []
    again = extract("c.zarr", "1/2").outcomes[0]
    assert (again.computed, again.n_in_cache) == (3, 42)
    assert extract("c.zarr").outcomes[0].computed == 0


def test_extract__a_part_takes_over_and_tries_again_in_its_own_shards(extract: Extract) -> None:
    extract("c.predicted.zarr")
    outcome = extract("c.zarr", "2/2").outcomes[0]
    assert (outcome.reused, outcome.computed, outcome.failed, outcome.n_in_cache) == (16, 0, 1, 16)
    outcome = extract("c.zarr", "1/2").outcomes[0]
    assert (outcome.reused, outcome.computed, outcome.failed, outcome.n_in_cache) == (20, 0, 0, 36)
    assert extract("c.zarr", "1/2", retry_failed=True, plan=True).backbones[0].computed == {}
    assert extract("c.zarr", "2/2", retry_failed=True, plan=True).backbones[0].computed == {"failed before": 1}


def test_extract__labels_are_those_of_the_part_that_begins_last(extract: Extract, images: Path, tmp_path: Path) -> None:
    extract("c.zarr", "1/2")
    (images / "dark" / "00.png").rename(images / "grey" / "moved.png")
    assert extract("c.zarr", "2/2").n_changed == {"label": 1}
    assert EmbeddingCache.open(tmp_path / "c.zarr").column("label").tolist().count("grey") == 13


def test_index_samples__prunes_nothing_beside_parts(images: Path, tmp_path: Path) -> None:
    """Rows that older versions gave to files which could not be read go with the next run that is alone."""
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        cache.samples.add([unreadable_id(os.path.realpath(images / "dark" / "00.png"))], ["dark/00.png"])
        found = identify(load_samples(images), 1, lambda *_: None)
        for is_shared in (True, False):
            index_samples(cache, found, is_shared=is_shared)
            assert cache.samples.is_pruned.any() == (not is_shared)


def test_interrupted__names_the_part() -> None:
    assert kept_of("extract", {"part": "3/16"}).endswith("the same command, with --part 3/16, goes on from there")
