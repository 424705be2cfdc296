"""An export comes back exactly; merges add what is missing; whatever is wrong is refused before anything changes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvme.cache import export, import_embeddings, label
from dvme.data import Columns
from dvme.upkeep.formats.bundle import Header
from dvme_cache import EmbeddingCache, Fingerprint, content_id

MakeCache = Callable[..., Path]
Contents = Callable[[Path], dict[str, Any]]
Refused = Callable[..., Any]
SUFFIXES = (".h5", ".npz", ".parquet", ".csv")


@pytest.fixture(params=SUFFIXES)
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_import__into_a_new_cache_is_exact(
    suffix: str, make_cache: MakeCache, contents: Contents, tmp_path: Path
) -> None:
    cache, file = make_cache(), tmp_path / f"x{suffix}"
    export(cache, file)
    report = import_embeddings(file, tmp_path / "back.zarr", notes={"who": "me"})
    assert contents(tmp_path / "back.zarr") == contents(cache)
    assert (report.is_export, report.n_rows, report.n_new, report.remarks) == (True, 200, 200, [])
    assert [(item.backbone, item.imported, item.reused, item.failed, item.pending) for item in report.backbones] == [
        ("dino", 191, 0, 1, 8),
        ("timm:a/b", 191, 0, 1, 8),
    ]
    provenance = EmbeddingCache.open(tmp_path / "back.zarr").embeddings("dino").provenance
    imported = provenance.pop("imported")
    assert provenance == {"created": "today"}
    assert imported["file"] == f"x{suffix}"
    assert imported["digest"] == hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    assert imported["bytes"] == file.stat().st_size
    assert imported["notes"] == {"who": "me"}
    assert datetime.fromisoformat(imported["date"]).utcoffset() is not None


def test_import__again_reuses_everything(suffix: str, make_cache: MakeCache, tmp_path: Path) -> None:
    cache, file = make_cache(), tmp_path / f"x{suffix}"
    export(cache, file)
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    report = import_embeddings(file, cache)
    assert report.n_new == 0
    assert [(item.imported, item.reused, item.failed, item.pending) for item in report.backbones] == [
        (0, 191, 1, 8)
    ] * 2
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == before


def test_import__merges_rows_in_any_order(
    suffix: str, make_cache: MakeCache, contents: Contents, tmp_path: Path
) -> None:
    """Numbers 150 to 349 into a cache of 349 down to 300 and 0 to 99: known rows stand in another order."""
    wanted = make_cache(range(150, 350), name="from.zarr")
    export(wanted, tmp_path / f"x{suffix}")
    target = make_cache(range(349, 299, -1), name="to.zarr", backbones={"dino": (4, "float16")})
    with EmbeddingCache.writing(target) as cache:
        cache.samples.add(
            [content_id(b"image %d" % number) for number in range(100)], [f"{number}.png" for number in range(100)]
        )
    old = contents(target)
    report = import_embeddings(tmp_path / f"x{suffix}", target)
    assert (report.n_rows, report.n_new) == (200, 150)
    source, merged = EmbeddingCache.open(wanted), EmbeddingCache.open(target)
    place = {digest: row for row, digest in enumerate(merged.samples.content_ids)}
    rows = np.array([place[digest] for digest in source.samples.content_ids])
    assert merged.samples.content_ids[:150] == old["content_ids"]
    for name in source.tables.columns:
        assert merged.column(name)[rows].tolist() == source.column(name).tolist()
    for name in source.backbones:
        there, here = source.embeddings(name), merged.embeddings(name)
        done = np.flatnonzero(there.states() == 1)
        np.testing.assert_array_equal(here.read(rows[done]), there.read(done))
        assert (here.states()[rows] == there.states()).all()
        assert here.reasons()[rows].tolist() == there.reasons().tolist()
        assert not np.delete(here.states(), rows).any()


def test_import__known_rows_keep_their_columns(make_cache: MakeCache, write_manifest: Any, tmp_path: Path) -> None:
    cache = make_cache(range(10))
    export(cache, tmp_path / "x.npz")
    label(cache, write_manifest([["1.png", "mine", "7"]], ["image", "label", "site"]), columns=Columns(keep=["site"]))
    report = import_embeddings(tmp_path / "x.npz", cache)
    assert report.remarks == ["1 row keeps columns that differ from the file's; dvme cache label changes them"]
    assert EmbeddingCache.open(cache).column("label")[1] == "mine"
    assert EmbeddingCache.open(cache).column("site")[1] == "7"


def test_import__goes_on_where_it_was_killed(make_cache: MakeCache, contents: Contents, tmp_path: Path) -> None:
    """Killed right after the rows were added, before any column or embedding."""
    cache = make_cache()
    export(cache, tmp_path / "x.npz")
    source = EmbeddingCache.open(cache)
    with EmbeddingCache.writing(tmp_path / "back.zarr") as target:
        target.samples.add(source.samples.content_ids, source.samples.paths)
    report = import_embeddings(tmp_path / "x.npz", tmp_path / "back.zarr")
    assert report.n_new == 0
    assert contents(tmp_path / "back.zarr") == contents(cache)


def test_import__interrupted_between_shards_goes_on(make_cache: MakeCache, contents: Contents, tmp_path: Path) -> None:
    cache = make_cache()
    export(cache, tmp_path / "x.npz")

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "dino" and done >= 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_embeddings(tmp_path / "x.npz", tmp_path / "back.zarr", progress=interrupt)
    report = import_embeddings(tmp_path / "x.npz", tmp_path / "back.zarr")
    assert (report.backbones[0].reused, report.backbones[0].imported) == (63, 128)
    assert contents(tmp_path / "back.zarr") == contents(cache)


def test_import__an_older_export_does_not_revive_a_replaced_file(make_cache: MakeCache, tmp_path: Path) -> None:
    """1.png holds another image now: its old row has no columns, and gets none back."""
    cache = make_cache(range(5))
    export(cache, tmp_path / "x.npz")
    with EmbeddingCache.writing(cache) as store:
        store.update_columns(np.array([1]), {"path": [""], "label": [""], "split": [""]})
        store.samples.add([content_id(b"new")], ["1.png"])
        store.update_columns(np.array([5]), {"path": ["/data/1.png"], "label": ["b"], "split": [""]})
    import_embeddings(tmp_path / "x.npz", cache)
    assert EmbeddingCache.open(cache).column("label")[[1, 5]].tolist() == ["", "b"]


def test_import__failures_and_repairs_merge(make_cache: MakeCache, tmp_path: Path) -> None:
    """A failed row gets the file's embedding; a failed row of the file does not undo an embedding."""
    one, two = make_cache(range(128), name="one.zarr"), make_cache(range(128), name="two.zarr")
    with EmbeddingCache.writing(one) as cache:
        cache.embeddings("dino").commit(np.array([3]), np.full((1, 4), 9, dtype=np.float16), {})
        cache.embeddings("dino").commit(np.array([5]), np.full((1, 4), np.nan, dtype=np.float16), {5: "torn"})
    export(one, tmp_path / "x.h5")
    report = import_embeddings(tmp_path / "x.h5", two)
    assert (report.backbones[0].imported, report.backbones[0].reused) == (1, 63)
    embeddings = EmbeddingCache.open(two).embeddings("dino")
    assert embeddings.states()[[3, 5]].tolist() == [1, 1]
    assert embeddings.reasons()[3] == ""
    np.testing.assert_array_equal(embeddings.read(np.array([3])), [[9, 9, 9, 9]])


def test_import__other_fingerprint_is_refused_unless_replaced(
    make_cache: MakeCache, tmp_path: Path, refused: Refused
) -> None:
    export(make_cache(range(200), name="a.zarr"), tmp_path / "x.npz")
    target = tmp_path / "b.zarr"
    with EmbeddingCache.writing(target) as cache:
        cache.samples.add([content_id(b"image 0")], ["0.png"])
        made = cache.ensure_embeddings("dino", Fingerprint({"weights": "other"}), dim=4, dtype="float16", provenance={})
        made.commit(np.array([0]), np.ones((1, 4), dtype=np.float16), {})
    with refused("made differently (weights: cached 'other', asked 'dino')", "pass replace=True to"):
        import_embeddings(tmp_path / "x.npz", target)
    report = import_embeddings(tmp_path / "x.npz", target, replace=True)
    assert report.backbones[0].imported == 191
    assert EmbeddingCache.open(target).embeddings("dino").fingerprint.fields == {"weights": "dino"}


def test_import__other_dims_are_refused(make_cache: MakeCache, tmp_path: Path, refused: Refused) -> None:
    export(make_cache(range(10), name="a.zarr", backbones={"dino": (4, "float16")}), tmp_path / "x.npz")
    other = make_cache(range(10), name="b.zarr", backbones={"dino": (5, "float16")})
    with refused("b.zarr holds dino embeddings of 5 dims, ", "x.npz has 4; import them under another name"):
        import_embeddings(tmp_path / "x.npz", other)
    other = make_cache(range(10), name="c.zarr", backbones={"dino": (4, "float32")})
    with refused("c.zarr holds dino embeddings of dtype float32, ", "x.npz has float16"):
        import_embeddings(tmp_path / "x.npz", other)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_import__truncated_export_creates_nothing(
    share: float, suffix: str, make_cache: MakeCache, tmp_path: Path, refused: Refused
) -> None:
    file = tmp_path / f"x{suffix}"
    export(make_cache(), file)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with refused(f"x{suffix}"):
        import_embeddings(file, tmp_path / "back.zarr")
    assert not (tmp_path / "back.zarr").exists()


def test_import__csv_without_or_with_another_header(make_cache: MakeCache, tmp_path: Path, refused: Refused) -> None:
    cache = make_cache(range(10))
    export(cache, tmp_path / "x.csv")
    export(cache, tmp_path / "y.csv", backbones=["dino"])
    shutil.copy(tmp_path / "y.csv.json", tmp_path / "x.csv.json")
    with refused("x.csv is not the file that x.csv.json was written for"):
        import_embeddings(tmp_path / "x.csv", tmp_path / "back.zarr")
    (tmp_path / "x.csv.json").write_text('{"format": "dvme-export"')
    with refused("cannot read ", "x.csv.json: Expecting"):
        import_embeddings(tmp_path / "x.csv", tmp_path / "back.zarr")
    (tmp_path / "x.csv.json").write_text('{"of": "another tool"}')
    with refused("x.csv is not an export of dvme; name what made its embeddings with backbone"):
        import_embeddings(tmp_path / "x.csv", tmp_path / "back.zarr")


def test_import__newer_version(make_cache: MakeCache, tmp_path: Path, refused: Refused) -> None:
    export(make_cache(range(10)), tmp_path / "x.csv")
    sidecar = json.loads((tmp_path / "x.csv.json").read_text())
    sidecar["header"]["format_version"] = 2
    (tmp_path / "x.csv.json").write_text(json.dumps(sidecar))
    with refused("x.csv.json is a dvme export of version 2, this dvme reads up to 1; update dvme"):
        import_embeddings(tmp_path / "x.csv", tmp_path / "back.zarr")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"columns": ("label", "label", "path", "split")}, "gives some columns twice: label"),
        ({"columns": ("path", "nope", "split")}, "'nope'"),
        ({"n_rows": 11}, "its header says 11 rows"),
    ],
)
def test_import__header_that_does_not_fit(
    changes: dict[str, Any], part: str, make_cache: MakeCache, tmp_path: Path, refused: Refused
) -> None:
    export(make_cache(range(10)), tmp_path / "x.csv")
    sidecar = json.loads((tmp_path / "x.csv.json").read_text())
    header = Header.from_json(json.dumps(sidecar["header"]), "x.csv.json")
    sidecar["header"] = json.loads(dataclasses.replace(header, **changes).to_json())
    (tmp_path / "x.csv.json").write_text(json.dumps(sidecar))
    with refused(part):
        import_embeddings(tmp_path / "x.csv", tmp_path / "back.zarr")


@pytest.mark.parametrize("option", ["backbone", "features", "ids", "table", "dtype", "images"])
def test_import__an_export_comes_back_as_it_was(
    option: str, make_cache: MakeCache, tmp_path: Path, refused: Refused
) -> None:
    export(make_cache(range(10)), tmp_path / "x.npz")
    with refused(f"comes back as it was, {option} is not possible"):
        import_embeddings(tmp_path / "x.npz", tmp_path / "back.zarr", **{option: "x"})


def test_import__nothing_there_or_something_else(make_cache: MakeCache, tmp_path: Path, refused: Refused) -> None:
    with refused("none.npz is not a file; name an export of dvme"):
        import_embeddings(tmp_path / "none.npz", tmp_path / "back.zarr")
    export(make_cache(range(10)), tmp_path / "x.npz")
    (tmp_path / "folder").mkdir()
    with refused("folder is not a dvme cache"):
        import_embeddings(tmp_path / "x.npz", tmp_path / "folder")


def test_import__order_of_classes(make_cache: MakeCache, tmp_path: Path, refused: Refused) -> None:
    cache, order = make_cache(), ["ü", "a", 'b, "c"\n', "none so far"]
    label(cache, class_order=order)
    export(cache, tmp_path / "x.h5")
    import_embeddings(tmp_path / "x.h5", tmp_path / "new.zarr")
    assert EmbeddingCache.open(tmp_path / "new.zarr").class_order == tuple(order)
    label(tmp_path / "new.zarr", class_order=())
    report = import_embeddings(tmp_path / "x.h5", tmp_path / "new.zarr")  # it has labels and no order: the user's word
    assert EmbeddingCache.open(tmp_path / "new.zarr").class_order == ()
    assert report.remarks == ["the file's order of classes (ü < a < b, \"c\" < none so far) is not the cache's"]
    with refused("class_order (ü < a) lacks 'b, \"c\"\\n'; name all classes"):
        import_embeddings(tmp_path / "x.h5", tmp_path / "new.zarr", class_order=["ü", "a"])
    import_embeddings(tmp_path / "x.h5", tmp_path / "new.zarr", class_order=order[:3])
    assert EmbeddingCache.open(tmp_path / "new.zarr").class_order == tuple(order[:3])


def test_import__made_elsewhere_with_labels_and_their_order(tmp_path: Path, refused: Refused) -> None:
    file = tmp_path / "x.csv"
    file.write_text("image,label,f0,f1\na,low,1,2\nb,high,3,4\n")
    with refused("class_order (low < middle) lacks 'high'"):
        import_embeddings(file, tmp_path / "c.zarr", backbone="bb", class_order=["low", "middle"])
    import_embeddings(file, tmp_path / "c.zarr", backbone="bb", class_order=["low", "high"])
    assert EmbeddingCache.open(tmp_path / "c.zarr").class_order == ("low", "high")
