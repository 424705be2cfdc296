from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from clusters import kill_workers

import dvme
import dvme.extraction.spread_out
from dvme.errors import ClusterError
from dvme.extraction.decoding import Work
from dvme.extraction.extract import ExtractReport
from dvme.extraction.models import Choice, load_specs
from dvme.extraction.spread_out import Portion, PortionDone, Recipe, _check_seen, make_embed, portions_of
from dvme.runtime import Runtime
from dvme_cache import EmbeddingCache
from dvme_cache.identity import content_id

TOML = """
name = "{name}"
architecture = "{architecture}"
pooling = "average"
[preprocess]
resize = 36
crop = 32
[checkpoint]
filename = "{name}.pth"
"""
N = 72


@pytest.fixture
def photographs(tmp_path: Path, save_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images of which one is torn, and two backbones in TOML; paths are relative, as they are typed."""
    for index in range(N):
        save_image(tmp_path / "images" / f"{index % 2}" / f"{index}.png", seed=index, level=index % 3)
    (tmp_path / "images" / "0" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for seed, (name, architecture) in enumerate((("one", "test_resnet"), ("two", "test_efficientnet"))):
        (tmp_path / f"{name}.toml").write_text(TOML.format(name=name, architecture=architecture))
        torch.manual_seed(seed)
        torch.save(timm.create_model(architecture).state_dict(), tmp_path / f"{name}.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _extracted(cache: str, **settings: Any) -> ExtractReport:
    runtime = Runtime(device="cpu", **settings)
    found: ExtractReport = dvme.extract(
        "images", cache, backbones=["one.toml", "two.toml"], rows_per_shard=16, runtime=runtime
    )
    return found


def _all_of(cache: str) -> list[Any]:
    store = EmbeddingCache.open(cache)
    tables = [store.embeddings(name) for name in ("one", "two")]
    done = [np.flatnonzero(table.states() == 1) for table in tables]
    features = [table.read(rows).tobytes() for table, rows in zip(tables, done, strict=True)]
    return [store.samples.content_ids, features, [(t.states().tolist(), t.reasons().tolist()) for t in tables]]


@pytest.mark.ray
def test_extract__on_two_workers_of_which_one_is_killed(photographs: Path, head_node: str) -> None:
    killed: list[int] = []

    def tell(stage: str, done: int, total: int) -> None:
        if stage in {"one", "two"} and 0 < done < total and not killed:
            killed.extend(kill_workers(1))

    runtime = Runtime(device="cpu", engine="ray", ray_address=head_node)
    given = {"backbones": ["one.toml", "two.toml"], "rows_per_shard": 16, "runtime": runtime}
    report = dvme.extract("images", "spread.zarr", progress=tell, **given)
    alone = _extracted("alone.zarr")
    assert len(killed) == 1
    assert _all_of("spread.zarr") == _all_of("alone.zarr")
    for mine, theirs in zip(report.outcomes, alone.outcomes, strict=True):
        assert replace(mine, seconds=0.0) == replace(theirs, seconds=0.0)
    again = dvme.extract("images", "spread.zarr", **given)
    assert [(each.reused, each.computed) for each in again.outcomes] == [(N, 0)] * 2


def _recipe(**changes: Any) -> Recipe:
    choice = Choice(names=["one.toml", "two.toml"])
    models = [dvme.load_backbone(f"{name}.toml", device="cpu") for name in ("one", "two")]
    digests = [model.fingerprint("float32").digest for model in models]
    runtime = Runtime(device="cpu", workers=1)
    recipe = Recipe(choice, ["one", "two"], ["float32"] * 2, digests, str(Path.cwd()), runtime)
    return replace(recipe, **changes)


def _portion(paths: list[Path]) -> Portion:
    work = [Work(row, path, content_id(path.read_bytes())) for row, path in enumerate(paths)]
    return Portion({0: np.arange(len(paths)), 1: np.arange(len(paths))}, work)


def test_make_embed__is_the_backbone_of_the_driver_or_names_the_host(photographs: Path) -> None:
    portion = _portion(sorted((photographs / "images" / "1").iterdir())[:3])
    done = make_embed(_recipe())(portion)
    assert [(number, rows.tolist(), features.shape) for number, rows, features, _ in done.kept] == [
        (0, [0, 1, 2], (3, done.kept[0][2].shape[1])),
        (1, [0, 1, 2], (3, done.kept[1][2].shape[1])),
    ]
    with pytest.raises(ClusterError, match=rf"^{done.host} has other weights or another model of two than the machine"):
        make_embed(_recipe(digests=[_recipe().digests[0], "0" * 32]))(portion)
    recipe = _recipe()
    (photographs / "two.pth").unlink()
    with pytest.raises(ClusterError, match=rf"^{done.host} cannot load two: "):
        make_embed(recipe)(portion)


def test_make_embed__what_differs_in_the_view_alone_is_loaded_once(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["one", "one@view=1", "one@view=2"]
    model = dvme.load_backbone("one.toml", device="cpu")
    choice = Choice(names=["one.toml", "one.toml@view=1", "one.toml@view=2"])
    digests = [model.seeing(spec).fingerprint("float32").digest for spec in choice.specs()]
    loaded: list[str] = []

    def load(specs: Any, runtime: Runtime) -> list[Any]:
        loaded.extend(spec.name for spec, _ in specs)
        return load_specs(specs, runtime)

    monkeypatch.setattr(dvme.extraction.spread_out, "load_specs", load)
    recipe = _recipe(choice=choice, names=names, digests=digests, dtypes=["float32"] * 3)
    portion = _portion(sorted((photographs / "images" / "1").iterdir())[:3])
    done = make_embed(recipe)(replace(portion, shards={number: np.arange(3) for number in range(3)}))
    assert loaded == ["one"]
    assert len({features.tobytes() for _, _, features, _ in done.kept}) == 3


def test_check_seen__a_machine_without_the_images_is_named(photographs: Path) -> None:
    portion = _portion(sorted((photographs / "images" / "1").iterdir())[:2])
    unread = PortionDone("far", unread=[(0, {0: "no", 1: "no"}), (1, {0: "no", 1: "no"})])
    with pytest.raises(ClusterError, match=r"^far can read none of 2 images, such as .*png; a cluster needs them on"):
        _check_seen(portion, unread)
    _check_seen(portion, PortionDone("far", unread=[(0, {1: "no"}), (1, {1: "no"})]))
    portion.work[0].path.unlink()  # they are gone for everybody
    _check_seen(portion, unread)


def _target(*shards: range) -> Any:
    return SimpleNamespace(shards=[np.array(shard) for shard in shards])


def test_portions_of__images_in_common_are_decoded_once() -> None:
    def work_of(rows: Any) -> list[Work]:
        return [Work(row, Path(f"{row}.png"), b"") for row in rows]

    alike = portions_of([_target(range(4), range(4, 8)), _target(range(4), range(6, 8))], work_of)
    assert [sorted(each.shards) for each in alike] == [[0, 1], [0, 1]]
    assert [[item.row for item in each.work] for each in alike] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert alike[0].work[0].path == Path.cwd() / "0.png"
    others = portions_of([_target(range(8)), _target(range(3), range(3, 6), range(6, 8))], work_of)
    shards = [(number, rows.tolist()) for each in others for number, rows in each.shards.items()]
    assert sorted(shards) == [(0, [*range(8)]), (1, [0, 1, 2]), (1, [3, 4, 5]), (1, [6, 7])]
    assert portions_of([_target()], work_of) == []
