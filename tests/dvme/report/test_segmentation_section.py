"""Where in the image: every number is the study's, pictures are of the images, and what is to be hidden is."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import discs, scene_of

import dvme
from dvme.data.masks import VOID
from dvme.runtime import Runtime
from dvme.study.loaded import Study
from dvme_cache import EmbeddingCache

N, SIZE, GRID = 18, 16, 4
EVIL = "<script>alert(1)<"
TOKENS = "tokens@dense=last"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, one with a name that a page may not take for markup, on images that are files; something is void."""
    folder, rng = tmp_path_factory.mktemp("scene"), np.random.default_rng(0)
    labels = discs(N, SIZE, 2)
    labels[:, 0, 0] = VOID
    files = []
    for own in labels:
        buffer = io.BytesIO()
        Image.fromarray(100 * (own % VOID)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    blocks = labels.reshape(N, GRID, SIZE // GRID, GRID, SIZE // GRID)
    told = np.stack([(blocks == label).mean(axis=(2, 4)) for label in (0, 1, 2)], axis=3)
    told = np.concatenate([told, told[..., :1] ** 2], axis=3) + 0.05 * rng.normal(size=(N, GRID, GRID, 4))
    scene = scene_of(folder, {TOKENS: [told]}, labels, ("cell", EVIL), files)
    with EmbeddingCache.writing(folder / "c.zarr") as store:
        paths = np.array([str(folder / f"{image}.png") for image in range(N)], dtype=object)
        store.tables.replace({"mask": np.asarray(scene.masks.cells, dtype=object), "path": paths})
    given = {"n_folds": 2, "test_fraction": 0.5, "runtime": Runtime(device="cpu"), "progress": dvme.silent}
    dvme.probe(folder / "c.zarr", heads=["segment-linear"], out=folder / "run", boundary=2, **given)
    return folder / "run"


@contextmanager
def away(files: list[Path]) -> Iterator[None]:
    """Files that are gone for a while."""
    for file in files:
        file.rename(file.with_suffix(".away"))
    yield
    for file in files:
        file.with_suffix(".away").rename(file)


def written(run: Path, out: Path, **given: object) -> str:
    """The section of a report."""
    options = dvme.PageOptions(methods=["pca"], **given)  # type: ignore[arg-type]
    dvme.write_report(run, out=out / "r.html", options=options, force=True, progress=dvme.silent)
    page = (out / "r.html").read_text()
    (section,) = re.findall(r'<section id="where".*?</section>', page, flags=re.DOTALL)
    assert EVIL not in page
    return section


def test_segmentation_section__has_the_numbers_of_the_study(run: Path, tmp_path: Path) -> None:
    section, study = written(run, tmp_path), Study.load(run)
    (cell,) = study.summary.cells
    counts = np.stack([job.log_test for job in study.run.finished[0, 0]]).astype(float)
    scores = 2 * counts[..., 0] / np.maximum(counts[..., 1:].sum(axis=-1), 1)
    scores[counts[..., 1:].sum(axis=-1) == 0] = 1
    for c in range(2):
        assert f"{scores[:, :, c].mean():.3f} (" in section
    rows = re.findall(r"<tr class='plain'>(.*?)</tr>", section)
    cells = [re.findall(r">([^<]*)</td>", row) for row in rows]
    ceilings = [float(row[5]) for row in cells]
    for row, found in zip(cells, study.judge.classes(0), strict=True):
        own = found.outlines
        assert own is not None
        assert row[6].startswith(f"{own.hausdorff95.estimate:.3f} (")
        assert row[8].startswith(f"{own.boundary_dice.estimate:.3f} (")
        assert [float(row[7]), float(row[9])] == pytest.approx([own.n_missed, own.n_empty], abs=0.051)
    assert "is within 2 pixels of the other one" in section
    assert np.mean(ceilings) == pytest.approx(cell.ceiling, abs=1e-3)
    assert "&lt;script&gt;alert(1)&lt;" in section
    assert "class not known" in section


def test_segmentation_section__shows_image_mask_prediction_error_and_tokens(run: Path, tmp_path: Path) -> None:
    section, study = written(run, tmp_path), Study.load(run)
    pictures = study.run.pictures(0)
    assert pictures is not None
    assert len(pictures.images) == 9
    found = re.findall(r"<strong>([^<]*)</strong> · mean Dice ([0-9.]*), ceiling ([0-9.]*)</p>(.*?)</li>", section)
    assert [(float(dice), float(most)) for _, dice, most, _ in found] == [
        (pytest.approx(each.dice, abs=6e-4), pytest.approx(each.ceiling, abs=6e-4)) for each in pictures.images
    ]
    by_content = {row.tobytes().hex(): place for place, row in enumerate(study.store.samples.ids)}
    for (name, _, _, panels), each in zip(found, pictures.images, strict=True):
        position = by_content[each.content]
        assert name == f"{position}.png"
        captions = re.findall(r"<figcaption>([^<]*)</figcaption>", panels)
        assert captions == ["image", "mask", "prediction", "error", f"tokens of {TOKENS}"]
        shown = [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(url))).convert("RGB"))
            for url in re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", panels)
        ]
        assert {each.shape for each in shown} == {(SIZE, SIZE, 3)}
        truth = np.asarray(Image.open(run.parent / f"mask-{position}-0.png"))
        _, colours = np.unique(truth, return_inverse=True)
        for label in np.unique(colours):  # one colour of each label, and of no other
            assert len(np.unique(shown[1][colours == label].reshape(-1, 3), axis=0)) == 1
        assert len(np.unique(shown[1].reshape(-1, 3), axis=0)) == len(np.unique(truth))
        assert (np.ptp(shown[4].reshape(GRID, 4, GRID, 4, 3).astype(int), axis=(1, 3)) == 0).all()


def test_segmentation_section__hides_what_it_is_to_hide(run: Path, tmp_path: Path) -> None:
    section = written(run, tmp_path, anonymous=True)
    assert ".png" not in section
    assert len(re.findall(r"<strong>[0-9a-f]{12}</strong>", section)) == 9
    bare = written(run, tmp_path, thumbnails=False)
    assert "data:image" not in bare
    assert "The images and their masks were left out of this page." in bare
    assert "ceiling of Dice" in bare


def test_segmentation_section__says_what_is_gone(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run.parent, tmp_path / "moved")
    moved = tmp_path / "moved" / "run"
    with away([run.parent / f"{image}.png" for image in range(N)]):
        assert written(run, tmp_path).count("no image") == 9
    with away([run.parent / f"mask-{image}-0.png" for image in range(N)]):
        assert "No pictures and no ceilings by class: the mask" in written(run, tmp_path)
        assert "a mask is gone, or is not what it was" in written(run, tmp_path, anonymous=True)
    shutil.rmtree(moved / "pictures")
    assert "This run keeps no pictures of tokens@dense=last + segment-linear; run the same dvme probe again" in written(
        moved, tmp_path
    )
    described = (moved / "run.json").read_text()
    (moved / "run.json").write_text(described.replace("c.zarr", "gone.zarr"))
    gone = written(moved, tmp_path)
    assert "the cache is gone" in gone
    assert "not known" in gone
