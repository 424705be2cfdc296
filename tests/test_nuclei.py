"""The guide to segmentation: its commands as typed, on few small images, one epoch and a small U-Net."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from PIL import Image

GUIDE = (Path(__file__).parents[1] / "examples" / "nuclei.md").read_text(encoding="utf-8")
SMALLER = {"256": "64", "128": "64", "40": "1"}
"""Of sizes of images and numbers of epochs."""


def commands() -> list[list[str]]:
    """As words, those on nuclei, with smaller numbers, coarser maps and two draws."""
    own = GUIDE.split("## The three")[0]
    blocks = "\n".join(re.findall(r"```text\n(.*?)```", own, re.DOTALL)).replace("\\\n", " ")
    smaller = re.sub(r"(?<![\w-])(size|max-epochs)=(\d+)", lambda found: f"{found[1]}={SMALLER[found[2]]}", blocks)
    smaller = smaller.replace("last-4", "last").replace("10,40,full", "6,full").replace("--sizes 40", "--sizes 6")
    lines = [line for line in smaller.splitlines() if line.startswith("dvme ")]
    return [shlex.split(line.replace("dvme sweep", "dvme sweep --folds 2"))[1:] for line in lines]


def images_with_a_file_for_each_nucleus(n_images: int) -> None:
    """In the layout of the Data Science Bowl 2018."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    for number in range(n_images):
        folder = Path("stage1_train", f"{number:02}")
        nuclei = [(y - cy) ** 2 + (x - cx) ** 2 < 60 for cy, cx in rng.integers(8, 56, (3, 2))]
        pixels = np.where(np.any(nuclei, axis=0), 200, 40) + rng.integers(0, 30, (64, 64))
        for name, pictures in (("images", [pixels]), ("masks", [nucleus * 255 for nucleus in nuclei])):
            (folder / name).mkdir(parents=True)
            for place, picture in enumerate(pictures):
                Image.fromarray(picture.astype(np.uint8)).save(folder / name / f"{number:02}{place}.png")


def test_guide__its_commands_go_from_masks_to_a_table_and_a_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images_with_a_file_for_each_nucleus(24)
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    exec(compile(code, "nuclei.md", "exec"), {})
    typed = commands()
    assert [words[0] for words in typed] == ["extract", "sweep", "report", "sweep", "predict"]
    for words in typed:
        result = run(*("stage1_train/00/images" if word == "new/" else word for word in words))
        assert result.exit_code == 0, result.output
        if words[0] == "sweep":
            assert "ceiling" in result.output
    assert "Best, median and worst" in Path("nuclei.html").read_text(encoding="utf-8")
    with Image.open(next(Path("masks").glob("**/*.png"))) as mask:
        assert mask.size == (64, 64)
