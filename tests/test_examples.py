"""The examples of own backbones and of DICOM files, as they are in the folder."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scans import write_patients, write_scan
from typer.testing import CliRunner

import dvme
from dvme.backbones import get_spec
from dvme.backbones.loading.diagnosis import diagnose
from dvme_cache import EmbeddingCache
from dvme_cli.app import app

EXAMPLES = Path(__file__).parents[1] / "examples"
TOML, PYTHON = str(EXAMPLES / "own_backbone.toml"), f"{EXAMPLES / 'own_backbone.py'}:gabor"


@pytest.mark.parametrize("name", [TOML, PYTHON])
def test_own_backbone__is_sound(name: str) -> None:
    found = diagnose(name)
    assert found.problems == []
    assert found.features.dim == get_spec(name).dim


def test_own_backbone__extracts_beside_a_known_one(
    solar_cells: list[tuple[Path, str]], write_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    manifest = write_manifest(solar_cells[:24], ["image", "label"])
    copied = Path(shutil.copy(TOML, tmp_path))
    dvme.extract(manifest, tmp_path / "c.zarr", backbones=[str(copied), PYTHON, "efficientnet-lite0"])
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    assert set(cache.backbones) == {"lite0-whole", "gabor", "efficientnet-lite0"}
    whole, central = (cache.embeddings(name).read(np.arange(24)) for name in ("lite0-whole", "efficientnet-lite0"))
    assert not np.allclose(whole, central)  # the margins count
    copied.unlink()
    report = dvme.cache.verify(tmp_path / "c.zarr", images=True, backbones=["lite0-whole"], sample=4)
    assert report.is_sound
    assert report.comparisons[0].n_compared == 4


def test_own_backbone__gabor_answers_to_its_texture() -> None:
    """Stripes of each wavelength and orientation excite the filter of that wavelength and orientation most."""
    spec = get_spec(PYTHON)
    model = dvme.load_backbone(spec)
    y, x = np.mgrid[0:224, 0:224]
    for index in range(24):
        wavelength, turn = (4.0, 8.0, 16.0)[index // 8], np.pi * (index % 8) / 8
        wave = np.cos(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / wavelength)
        pixels = np.round(127.5 + 127.5 * wave).astype(np.uint8)[None, :, :, None]
        features = model.embed(torch.from_numpy(pixels))[0].numpy()
        assert int(features[:24].argmax()) == index


def test_dicom__commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide, on files that pydicom writes."""
    monkeypatch.chdir(tmp_path)
    write_patients(Path("scans"))
    rows = [f"{path},{path.parent.name}" for path in sorted(Path("scans").rglob("IM*"))]
    Path("labels.csv").write_text("image,finding\n" + "\n".join(rows))
    for film in range(12):
        place = Path("loops") / "ab"[film % 2] / f"US{film:02d}.dcm"
        write_scan(place, f"P{film}", seed=film, level=film % 2, NumberOfFrames="2")
    write_scan(Path("new/US99.dcm"), "P99", seed=99, NumberOfFrames="3")
    text = (EXAMPLES / "dicom.md").read_text(encoding="utf-8")
    commands = [
        line for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()
    ]
    assert len(commands) >= 10
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "dvme"
        small = [f"{word}@size=32" if word == "random" else word for word in words[1:]]
        result = CliRunner().invoke(app, small)
        assert result.exit_code == 0, f"{command}\n{result.output}"
    cache = EmbeddingCache.open("scans.zarr")
    assert len(cache.backbones) == 3
    assert len(set(cache.column("group"))) == 20
    assert set(cache.column("manufacturer")) == {"Acme", "Bolt"}
    assert EmbeddingCache.open("frames.zarr").n_rows == 24
    assert EmbeddingCache.open("middle.zarr").n_rows == 12
    assert [line.partition(",")[0] for line in Path("frames.csv").read_text().splitlines()[1:]] == [
        f"US99.dcm/frame={frame}" for frame in range(3)
    ]
