"""Embeddings that the user says are of one extractor: added, predicted, and refused where that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dvme
from dvme.cache import export, import_embeddings
from dvme.errors import DataError, OptionError
from dvme.upkeep.extractor import Lengths, lengths_of
from dvme_cache import EmbeddingCache, FingerprintMismatchError

N = 40
RNG = np.random.default_rng(0)
FEATURES = (RNG.normal(size=(N, 6)) + 3 * (np.arange(N) % 2)[:, None]).astype(np.float32)
NEW = (RNG.normal(size=(5, 6)) + 3 * (np.arange(5) % 2)[:, None]).astype(np.float32)
LABELS = [("dark", "light")[row % 2] for row in range(N)]


def _file(path: Path, features: NDArray[Any], first: str = "old") -> Path:
    np.savez(path, features=features, ids=np.array([f"{first}{row}" for row in range(len(features))]))
    return path


def _labelled(cache: Path) -> None:
    with EmbeddingCache.writing(cache) as store:
        store.update_columns(np.arange(N), {"label": LABELS})


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {
        "old": _file(tmp_path / "old.npz", FEATURES),
        "new": _file(tmp_path / "new.npz", NEW, "new"),
    }


def _held(cache: Path, backbone: str = "uni") -> NDArray[Any]:
    store = EmbeddingCache.open(cache)
    return store.embeddings(backbone).read(np.arange(store.n_rows))


def _head(cache: Path, folder: Path) -> Path:
    dvme.probe(cache, heads=["linear@strengths=0.01"], save=folder)
    return folder / "linear@strengths=0.01--uni"


@pytest.mark.parametrize("words", ["made_by", "like"])
def test_import__more_of_one_extractor_is_added_and_predicted(
    files: dict[str, Path], tmp_path: Path, words: str
) -> None:
    old, new = tmp_path / "old.zarr", tmp_path / "new.zarr"
    given: dict[str, Any] = {"made_by": "UNI, 224 px"} if words == "made_by" else {}
    import_embeddings(files["old"], old, backbone="uni", **given)
    _labelled(old)
    given = given or {"like": old}
    report = import_embeddings(files["new"], new, backbone="uni", **given)
    assert "is your word" in " ".join(report.remarks)
    (summary,) = dvme.info(new).backbones
    assert summary.provenance["imported"][words] == str(given[words])
    assert summary.digest == dvme.info(old).backbones[0].digest
    head = _head(old, tmp_path / "heads")
    dvme.predict(head, new, out=tmp_path / "new.csv")
    lines = (tmp_path / "new.csv").read_text().splitlines()
    assert lines[0] == "image,path,class,p(dark),p(light)"
    assert [line.split(",")[:3] for line in lines[1:]] == [
        [f"new{row}", f"new{row}", ("dark", "light")[row % 2]] for row in range(5)
    ]
    # The same rows, added to the first cache: they are appended, and what is there stays as it is.
    added = import_embeddings(files["new"], old, backbone="uni", **given)
    assert (added.n_new, added.backbones[0].imported) == (5, 5)
    assert _held(old).tobytes() == np.concatenate([FEATURES, NEW]).tobytes()
    assert EmbeddingCache.open(old).column("label").tolist() == [*LABELS, *[""] * 5]
    assert EmbeddingCache.open(old).samples.paths[-5:] == [f"new{row}" for row in range(5)]
    again = import_embeddings(files["new"], old, backbone="uni", **given)
    assert (again.n_new, again.backbones[0].imported, again.backbones[0].reused) == (0, 0, 5)


def test_import__old_and_new_in_one_file(files: dict[str, Path], tmp_path: Path) -> None:
    old = tmp_path / "old.zarr"
    import_embeddings(files["old"], old, backbone="uni", made_by="UNI")
    ids = np.array([*(f"new{row}" for row in range(5)), *(f"old{row}" for row in range(N))])
    np.savez(tmp_path / "both.npz", features=np.concatenate([NEW, FEATURES]), ids=ids)
    report = import_embeddings(tmp_path / "both.npz", old, backbone="uni", made_by="UNI")
    assert (report.n_new, report.backbones[0].reused) == (5, N)
    assert _held(old).tobytes() == np.concatenate([FEATURES, NEW]).tobytes()


def test_import__by_word_with_images_knows_them_by_content(tmp_path: Path) -> None:
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    for row in range(6):
        Image.fromarray(np.full((4, 4, 3), 40 * row, dtype=np.uint8)).save(images / f"{row}.png")
    for part, name in ((slice(0, 4), "one"), (slice(4, 6), "two")):
        ids = np.array([f"{row}.png" for row in range(6)[part]])
        np.savez(tmp_path / f"{name}.npz", features=FEATURES[:6][part], ids=ids)
        import_embeddings(tmp_path / f"{name}.npz", tmp_path / "c.zarr", backbone="u", made_by="U", images=images)
    store = EmbeddingCache.open(tmp_path / "c.zarr")
    assert store.column("path").tolist() == [str(images / f"{row}.png") for row in range(6)]
    from dvme_cache import content_id

    assert store.samples.content_ids == [content_id((images / f"{row}.png").read_bytes()) for row in range(6)]


UNIT = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("features", "first", "options", "error", "message"),
    [
        (FEATURES[:, :4], "x", {}, DataError, "holds uni embeddings of 6 dims, .* has 4"),
        (NEW.astype(np.float16), "x", {}, FingerprintMismatchError, "dtype: cached 'float32', asked 'float16'"),
        (UNIT, "x", {}, FingerprintMismatchError, "l2_normalised: cached False, asked True"),
        (
            NEW * 255,
            "x",
            {},
            DataError,
            r"are of length \d+, not L2-normalised, those of .* length .*scale them",
        ),
        (
            FEATURES * 1.1,
            "old",
            {},
            DataError,
            r"other uni embeddings of 40 images that .* has \(old0, old1, old2",
        ),
        (
            NEW,
            "x",
            {"made_by": "CONCH"},
            FingerprintMismatchError,
            "made_by: cached 'UNI', asked 'CONCH'.*the same made_by, or with like",
        ),
        (NEW, "x", {"made_by": None}, DataError, r"does not hold: x0, x1, x2.*more of one extractor come by like="),
        (NEW, "x", {"like": "LIKE"}, OptionError, "made_by and like both say what made the embeddings"),
        (NEW, "x", {"made_by": "  "}, OptionError, "made_by is empty"),
    ],
)
def test_import__what_cannot_be_of_one_extractor_is_refused(
    files: dict[str, Path],
    tmp_path: Path,
    features: NDArray[Any],
    first: str,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    cache = tmp_path / "c.zarr"
    import_embeddings(files["old"], cache, backbone="uni", made_by="UNI")
    before = sorted((path, path.read_bytes()) for path in cache.rglob("*") if path.is_file())
    given = {"made_by": "UNI"} | options
    with pytest.raises(error, match=message) as caught:
        import_embeddings(_file(tmp_path / "x.npz", features, first), cache, backbone="uni", **given)
    assert "\n" not in str(caught.value)
    assert sorted((path, path.read_bytes()) for path in cache.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (FEATURES[:, :4], {}, "has 4 dims, uni of .* has 6: they are not of one extractor"),
        (UNIT, {}, "that are L2-normalised, those of .* are of length"),
        (NEW, {"dtype": "float16"}, "is stored as float32, not float16; leave dtype out"),
        (NEW, {"backbone": "other"}, r"has no other embeddings \(it has: uni\); name one with backbone"),
    ],
)
def test_import__like_a_cache_that_they_cannot_be_like(
    files: dict[str, Path], tmp_path: Path, features: NDArray[Any], options: dict[str, Any], message: str
) -> None:
    import_embeddings(files["old"], tmp_path / "old.zarr", backbone="uni")
    given = {"backbone": "uni", "like": tmp_path / "old.zarr"} | options
    with pytest.raises((DataError, OptionError), match=message):
        import_embeddings(_file(tmp_path / "x.npz", features, "x"), tmp_path / "new.zarr", **given)
    assert not (tmp_path / "new.zarr").exists()


def test_import__an_export_takes_no_word(files: dict[str, Path], tmp_path: Path) -> None:
    import_embeddings(files["old"], tmp_path / "c.zarr", backbone="uni")
    export(tmp_path / "c.zarr", tmp_path / "c.h5")
    with pytest.raises(OptionError, match="made_by is not possible"):
        import_embeddings(tmp_path / "c.h5", tmp_path / "d.zarr", made_by="UNI")


def test_lengths__by_hand() -> None:
    block = np.array([[3.0, 4.0], [0.0, 2.0], [1e30, 0.0]], dtype=np.float32)
    assert lengths_of(block) == pytest.approx([5.0, 2.0, 1e30])
    assert Lengths.of(np.array([5.0, 2.0, 8.0])) == Lengths(False, 5.0)
    unit = Lengths.of(np.array([1.004, 0.996]))
    assert unit.is_unit
    assert not unit.is_like(Lengths(False, 1.0))
    assert Lengths(False, 2.0).is_like(Lengths(False, 20.0))
    assert not Lengths(False, 2.0).is_like(Lengths(False, 20.1))
