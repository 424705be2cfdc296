"""The backbones of Truong et al. 2021 from files in their published layouts, as a user types it."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor
from typer.testing import CliRunner

from dvme.extraction import decoding
from dvme_cache import EmbeddingCache
from dvme_cli.main import app

N_IMAGES = 6
State = dict[str, Tensor]


def resnet50(seed: int) -> State:
    torch.manual_seed(seed)
    return torchvision.models.resnet50().state_dict()


def trunk(seed: int, prefix: str) -> State:
    return {prefix + name: value for name, value in resnet50(seed).items() if not name.startswith("fc.")}


def write_checkpoints(folder: Path) -> dict[str, Path]:
    """One file for each, with the nesting, prefixes and heads that its publisher left in."""
    torch.manual_seed(4)
    dino = timm.create_model("vit_small_patch8_224", num_classes=0).state_dict()
    swav_head = {"module.projection_head.0.weight": torch.zeros(8, 8), "module.prototypes.weight": torch.zeros(3, 8)}
    vissl = {"trunk": trunk(3, "_feature_blocks."), "heads": {"0.clf.0.weight": torch.zeros(8, 8)}}
    content: dict[str, Any] = {
        "supervised": OrderedDict(resnet50(1)),
        "swav": trunk(2, "module.") | swav_head,
        "simclr": {"classy_state_dict": {"base_model": {"model": vissl, "meta": {}}}, "phase_idx": 999},
        "dino": dino,
    }
    files = {name: folder / f"{name}.pth" for name in content}
    for name, path in files.items():
        torch.save(content[name], path)
    return files


def test_extract__four_backbones_in_one_pass(
    solar_cells: list[tuple[Path, str]],
    write_manifest: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: Counter[bytes] = Counter()
    decode = decoding.decode_image

    def count(data: bytes) -> Any:
        decoded[data] += 1
        return decode(data)

    monkeypatch.setattr(decoding, "decode_image", count)
    files = write_checkpoints(tmp_path)
    manifest = write_manifest(solar_cells[:N_IMAGES], ["image", "label"])
    cache = tmp_path / "c.zarr"
    command = ["extract", str(manifest), str(cache), "--backbones", ",".join(files), "--json"]
    for name, path in files.items():
        command += ["--weights", f"{name}={path}"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    outcomes = json.loads(result.stdout)["outcomes"]
    assert [(item["backbone"], item["dim"], item["computed"]) for item in outcomes] == [
        ("supervised", 2048, N_IMAGES),
        ("swav", 2048, N_IMAGES),
        ("simclr", 2048, N_IMAGES),
        ("dino", 1536, N_IMAGES),
    ]
    assert sorted(decoded.values()) == [1] * N_IMAGES
    (features,) = EmbeddingCache.open(cache).read_aligned(["swav"], np.arange(N_IMAGES))
    assert features.std(axis=0).max() > 0
