"""What was read before there were ranges, windows and frames is read as before.

All numbers are of the commit before these; the pixels of every file are the same to the bit.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from miniatures import deep_files, eight_bit_files

import dvme
from dvme.backbones import get_spec
from dvme.backbones.model.preprocess import crop_image
from dvme.data import DECODING, decode_image
from dvme_cache import EmbeddingCache

BACKBONES = ("random", "efficientnet-lite0")
N_PHOTOGRAPHS = 20
FILES = {
    "grey.png": ("L a74a17424fd1", "d8724dab4d0a", "c11347fb8850"),
    "rgb.png": ("RGB 6d3965c12998", "06f29730474d", "e1147e41a852"),
    "palette.png": ("RGB 3cce23a3f0b6", "8cfa87daafae", "b9be8dc0fd9f"),
    "grey-alpha.png": ("RGB 9ebbaddeb9b0", "d8724dab4d0a", "c11347fb8850"),
    "rgba.png": ("RGB 6d3965c12998", "06f29730474d", "e1147e41a852"),
    "bits.png": ("RGB e4d623e57a57", "d50f6ff45ed3", "c6354caff2d0"),
    "upside-down.png": ("L 3619a535fee2", "4d85f261db01", "8ede74bd75e6"),
    "rgb.jpg": ("RGB 8fd2b4706558", "c5a03d8b97ca", "30a3d672863d"),
    "grey.pgm": ("L a74a17424fd1", "d8724dab4d0a", "c11347fb8850"),
    "grey-200.pgm": ("L 5143320ea2ae", "5ae032c825c2", "e721e47bc3cb"),
    "rgb.ppm": ("RGB 6d3965c12998", "06f29730474d", "e1147e41a852"),
    "grey.tif": ("L a74a17424fd1", "d8724dab4d0a", "c11347fb8850"),
    "white-is-zero.tif": ("L 5062e909d73d", "f66a48cb7431", "930b7c0ad2c3"),
    "signed.tif": ("L 4f6fa043ed47", "b7b710280115", "0222b958bd20"),
    "deep.png": ("L d5b626bcdf11", "a30be14f57ce", "05676ed33543"),
    "deep.pgm": ("L d5b626bcdf11", "a30be14f57ce", "05676ed33543"),
    "twelve.pgm": ("L d5b626bcdf11", "a30be14f57ce", "05676ed33543"),
    "plain.pgm": ("L d5b626bcdf11", "a30be14f57ce", "05676ed33543"),
    "deep.tif": ("L d5b626bcdf11", "a30be14f57ce", "05676ed33543"),
    "deep-white-is-zero.tif": ("L 24ce3d6206d1", "222445d01372", "f26bc9f166af"),
    "deep-signed.tif": ("L d5b626bcdf11", "a30be14f57ce", "05676ed33543"),
    "whole.tif": ("L d5b626bcdf11", "a30be14f57ce", "05676ed33543"),
    "whole-signed.tif": ("L d5b626bcdf11", "a30be14f57ce", "05676ed33543"),
    "float.tif": ("L d5b626bcdf11", "a30be14f57ce", "05676ed33543"),
    "float.pfm": ("L 4ec8fbf2791d", "6055a6be6470", "7673231dd82c"),
}
"""File to the mode and digest of its pixels, and the digests of its crop for each backbone."""
PHOTOGRAPHS = {"random": "aee87c3f9bc6", "efficientnet-lite0": "4ba0be305ba6"}
"""The digest of the digests of all crops."""
FINGERPRINTS = {"random": "dd5f0178420bd445723b905649e6497b", "efficientnet-lite0": "5e7db51dcbd8741eee8019f4359c628c"}
EMBEDDINGS = {
    "random": [
        0.87507,
        0.61928,
        0.83208,
        0.54763,
        0.50709,
        0.51948,
        1.08424,
        0.62774,
        0.33267,
        0.52704,
        1.09738,
        1.04146,
        0.45010,
        0.63076,
        0.33947,
        0.41742,
        0.45002,
        0.44418,
        0.58294,
        0.54454,
    ],
    "efficientnet-lite0": [
        14.20912,
        5.21741,
        7.39660,
        9.44148,
        5.81984,
        7.12426,
        8.68119,
        8.86765,
        10.82927,
        5.57134,
        13.61340,
        -5.48339,
        5.32111,
        7.17442,
        4.91824,
        5.16404,
        3.52537,
        -3.17390,
        0.61326,
        -4.25611,
    ],
}
"""Each photograph's embedding times cos(0), cos(1), ..., summed."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def crop_digest(data: bytes, backbone: str) -> str:
    return digest(crop_image(decode_image(data), get_spec(backbone).preprocess).tobytes())


@pytest.mark.parametrize("name", FILES)
def test_decode_image__as_before(name: str) -> None:
    data = (eight_bit_files() | deep_files())[name]
    image = decode_image(data)
    pixels = f"{image.mode} {digest(image.tobytes())}"
    assert (pixels, *(crop_digest(data, backbone) for backbone in BACKBONES)) == FILES[name]


def test_extract__as_before(solar_cells: list[tuple[Path, str]], tmp_path: Path) -> None:
    paths = [path for path, _ in solar_cells[:N_PHOTOGRAPHS]]
    for backbone in BACKBONES:
        crops = "".join(crop_digest(path.read_bytes(), backbone) for path in paths)
        assert digest(crops.encode()) == PHOTOGRAPHS[backbone]
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i, path in enumerate(paths):
        (folder / f"{i:02d}.png").symlink_to(path)
    dvme.extract(folder, tmp_path / "c.zarr", backbones=BACKBONES, dtype="float32", runtime=dvme.Runtime(device="cpu"))
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    order = np.argsort([Path(path).name for path in cache.samples.paths])
    for backbone in BACKBONES:
        embeddings = cache.embeddings(backbone)
        assert embeddings.fingerprint.fields["decoding"] == DECODING
        assert embeddings.fingerprint.digest == FINGERPRINTS[backbone]
        values = embeddings.read(order).astype(np.float64)
        found = values @ np.cos(np.arange(values.shape[1]))
        np.testing.assert_allclose(found, EMBEDDINGS[backbone], rtol=1e-3, atol=1e-3)  # machines add in other orders
