"""Pictures and masks in a folder, and a manifest beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Save values (H, W), or (H, W, 3), as a picture in the folder; of a palette if so."""

    def write(name: str, values: Any, *, is_palette: bool = False, **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.asarray(values, dtype=options.pop("dtype", np.uint8)))
        if is_palette:
            image = Image.frombytes("P", image.size, image.tobytes())
            image.putpalette([7, 7, 7, 200, 0, 0, 0, 200, 0, 0, 0, 200])
        image.save(path, **options)
        return path

    return write


@pytest.fixture
def manifest(save: Callable[..., Path], write_manifest: Callable[..., Path]) -> Callable[..., Path]:
    """A manifest of pictures `0.png`, `1.png`, ... of 4 rows and 6 columns, with cells in further columns."""

    def write(**columns: Sequence[object]) -> Path:
        rows = list(zip(*columns.values(), strict=True))
        for at in range(len(rows)):
            save(f"{at}.png", np.full((4, 6), at))
        return write_manifest([[f"{at}.png", *row] for at, row in enumerate(rows)], ["image", *columns])

    return write
