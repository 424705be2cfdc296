"""U-Nets that a study leaves out, for their backbone cannot be an encoder; and what is said of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from drawings import discs
from small_networks import write_network

import dvme
from dvme.errors import OptionError
from dvme.runtime import Runtime
from dvme.segmentation.heads import token_head
from dvme.segmentation.unet.head import unet_head
from dvme.study.encoders import with_encoders
from dvme.study.methods import Method
from dvme_cache import EmbeddingCache, Fingerprint

N = 16
CPU = Runtime(device="cpu", workers=1)
UNET = "unet@size=64@max-epochs=1@batch-size=4"
NEEDS = "unet needs a convolutional backbone, whose layers have several grids"
VIT_LINE = f"{NEEDS}; vit gives tokens: its U-Net is left out"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs with masks, and the maps of a ResNet and of a transformer."""
    folder, columns = tmp_path_factory.mktemp("made"), dvme.Columns(mask="mask", mask_classes="0=background,1=round")
    drawn = discs(folder, N, sizes=((40, 48),))
    listed = {"image": [each.path.name for each in drawn.work], "mask": [f"{at}-mask.png" for at in range(N)]}
    pd.DataFrame(listed).to_csv(folder / "all.csv", index=False)
    for name in ("cnn", "vit"):
        write_network(folder, name)
    backbones = [f"{folder}/vit.toml@dense=2", f"{folder}/vit.toml@dense=3", f"{folder}/cnn.toml@dense=2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        given: dict[str, Any] = {"runtime": CPU, "progress": dvme.silent}
        dvme.extract(folder / "all.csv", folder / "c.zarr", backbones=backbones, columns=columns, **given)
        with EmbeddingCache.writing(folder / "c.zarr") as store:  # as of a file: the one has what dvme made, by name
            for name, fields in (("told@dense=2", {"weights": "?"}), ("cnn@dense=3", {"imported": "cnn@dense=3"})):
                told = Fingerprint(fields | {"maps": "2x2x3", "dense": "2"})
                table = store.ensure_embeddings(name, told, dim=12, dtype="float32", provenance={})
                table.write(np.arange(N), np.ones((N, 12), dtype=np.float32))
    return folder / "c.zarr"


def named(cache: Path, *backbones: str, others: bool = True) -> tuple[list[str], list[str]]:
    """Titles of the methods that are left, and lines."""
    head, linear = unet_head(UNET), [Method("segment-linear", token_head("segment-linear"), ())]
    methods = [Method(UNET, head, (name,)) for name in backbones] + (linear if others else [])
    kept, lines = with_encoders(methods, EmbeddingCache.open(cache))
    return [method.backbones[0] for method in kept if method.backbones], lines


def test_with_encoders__a_line_on_each_that_is_left_out(cache: Path) -> None:
    kept, lines = named(cache, "vit@dense=2", "cnn@dense=2", "told@dense=2", "cnn@dense=3")
    assert kept == ["cnn@dense=2"]
    assert lines == [
        VIT_LINE,
        f"{NEEDS}; told is known here by its features alone: its U-Net is left out",
        f"{NEEDS}; cnn has its features from a file: its U-Net is left out",
    ]
    assert named(cache, "cnn@dense=2", others=False) == (["cnn@dense=2"], [])
    assert named(cache, "vit@dense=2") == ([], [VIT_LINE])


def test_with_encoders__nothing_is_left(cache: Path) -> None:
    with pytest.raises(OptionError, match="vit cannot be the encoder of a U-Net: it gives tokens; choose a Re") as told:
        named(cache, "vit@dense=2", "told@dense=2", others=False)
    assert "\n" not in str(told.value)


def test_probe__goes_on_without_the_unet_of_a_transformer(cache: Path) -> None:
    torch.set_num_threads(1)
    names = ["vit@dense=2", "vit@dense=3"]
    given: dict[str, Any] = {"backbones": names, "n_folds": 2, "runtime": CPU, "progress": dvme.silent}
    report = dvme.probe(cache, heads=["segment-linear@tokens=4", UNET], **given)
    assert {(row.head, *row.backbones) for row in report.rows} == {("segment-linear@tokens=4", name) for name in names}
    assert [line for line in report.notices if "U-Net" in line] == [VIT_LINE]
    assert VIT_LINE not in report.asides
    assert VIT_LINE in report.to_json()["notices"]
    with pytest.raises(OptionError, match="vit cannot be the encoder of a U-Net: it gives tokens"):
        dvme.probe(cache, heads=[UNET], **given)
