"""Thumbnails: the right pixels in the right place, and none of a file that is another by now."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dvme.maps.map_store import Kept
from dvme.report.html import thumbnails as module
from dvme.report.html.thumbnails import ACROSS, large_thumbnail, sharp_url, thumbnails, token_thumbnails
from dvme_cache import content_id


def _images(folder: Path, n: int, mode: str = "L") -> tuple[list[str], NDArray[np.uint8]]:
    """n plain images, each of its own shade, twice as wide as high."""
    paths = []
    for i in range(n):
        shade: Any = 40 + 2 * i if mode == "L" else (40 + 2 * i, 20, 200 - i)
        Image.new(mode, (200, 100), shade).save(folder / f"{i}.png")
        paths.append(str(folder / f"{i}.png"))
    return paths, np.stack([np.frombuffer(content_id(Path(path).read_bytes()), np.uint8) for path in paths])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_thumbnails__each_in_its_place(tmp_path: Path, mode: str) -> None:
    paths, ids = _images(tmp_path, 40, mode)
    found = thumbnails(paths, ids, kept=Kept(Path("/dev/null/maps")))
    assert found is not None
    edge = found.edge
    sheet = np.asarray(Image.open(io.BytesIO(found.sheets[0])).convert(mode), dtype=float)
    assert sheet.shape[:2] == (2 * edge, ACROSS * edge)
    for i, path in enumerate(paths):
        left, top = i % ACROSS * edge, i // ACROSS * edge
        expected = np.asarray(Image.open(path), dtype=float)[0, 0]
        middle = sheet[top + edge // 2, left + edge // 2]
        np.testing.assert_allclose(middle, expected, atol=6)
        corner = sheet[top + 3, left + edge // 2]  # above an image that is wider than high
        np.testing.assert_allclose(corner, module.BACKGROUND, atol=12)
    assert found.missing.tolist() == []


def test_thumbnails__only_of_the_content_that_was_embedded(tmp_path: Path) -> None:
    paths, ids = _images(tmp_path, 6)
    Path(paths[1]).unlink()
    Path(paths[3]).write_bytes(Path(paths[4]).read_bytes())
    Path(paths[5]).write_bytes(b"torn")
    found = thumbnails(paths, ids, kept=Kept(Path("/dev/null/maps")))
    assert found is not None
    assert found.missing.tolist() == [1, 3, 5]
    assert found.to_json()["missing"] == [1, 3, 5]
    assert thumbnails(paths[1:2], ids[1:2], kept=Kept(Path("/dev/null/maps"))) is None
    assert large_thumbnail(paths[3], ids[3].tobytes()) is None
    assert (large_thumbnail(paths[0], ids[0].tobytes()) or "").startswith("data:image/webp;base64,")


def test_thumbnails__kept_by_content(tmp_path: Path) -> None:
    """A sheet is made once, unless a file of it is gone by now; what was missing is looked for again."""
    paths, ids = _images(tmp_path, 3)
    kept = Kept(tmp_path / "kept")
    hidden = Path(paths[0]).rename(tmp_path / "hidden.png")
    first = thumbnails(paths, ids, kept=kept)
    assert first is not None
    assert first.missing.tolist() == [0]
    hidden.rename(paths[0])
    second = thumbnails(paths, ids, kept=kept)
    assert second is not None
    assert second.missing.tolist() == []
    for path in paths:
        Path(path).write_bytes(b"another image by now")
    third = thumbnails(paths, ids, kept=kept)  # still what was embedded, and no file was read
    assert third is not None
    assert third.sheets == second.sheets
    Path(paths[1]).unlink()
    assert thumbnails(paths, ids, kept=kept) is None  # an image that was taken away is not shown from memory


def test_thumbnails__many_sheets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PER_SHEET", 4)
    paths, ids = _images(tmp_path, 10)
    Path(paths[6]).unlink()
    found = thumbnails(paths, ids, kept=Kept(Path("/dev/null/maps")))
    assert found is not None
    assert len(found.sheets) == 3
    assert found.missing.tolist() == [6]
    assert found.to_json()["per_sheet"] == 4


def test_thumbnails__none_where_images_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EDGES", ((2, 32),))
    paths, ids = _images(tmp_path, 3)
    assert thumbnails(paths, ids, kept=Kept(Path("/dev/null/maps"))) is None


def test_token_thumbnails__each_in_its_place() -> None:
    shades = np.linspace(0, 255, 40).astype(np.uint8)
    found = token_thumbnails(np.broadcast_to(shades[:, None, None, None], (40, 8, 16, 3)))
    assert (found.n_images, found.edge, len(found.missing)) == (40, 16, 0)
    sheet = np.asarray(Image.open(io.BytesIO(found.sheets[0])).convert("RGB"), dtype=float)
    assert sheet.shape == (2 * 16, ACROSS * 16, 3)
    for i, shade in enumerate(shades.astype(float)):
        left, top = i % ACROSS * 16, i // ACROSS * 16
        assert np.abs(sheet[top : top + 16, left : left + 16] - shade).mean() < 4


def test_sharp_url__keeps_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    _, content = sharp_url(Image.fromarray(pixels)).split(",")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), pixels)
