"""FORMAT.md and the schema of the metadata, against caches of every kind."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import google_crc32c
import jsonschema
import numpy as np
import pytest
from PIL import Image
from pixel_backbone import pixel_backbone
from small_networks import write_network

import dvme
from dvme_cache import EmbeddingCache
from dvme_cache.layout import FORMAT_VERSION, MAX_SHARD_ROWS, MIN_SHARD_ROWS, MOST_SHARD_BYTES, ROWS_PER_SAMPLE_CHUNK

FORMAT = (Path(__file__).parent.parent / "FORMAT.md").read_text(encoding="utf-8")
SCHEMA = json.loads((files("dvme_cache") / "schema.json").read_text())
READER, CHECK = re.findall(r"```python\n(.*?)```", FORMAT, flags=re.DOTALL)
ARRAYS = ("features", "checksum", "state", "reason")
N = 6
Documents = dict[str, Any]
FEATURES = "embeddings/pixels/features/zarr.json"
WRONG: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("zarr.json", ("attributes", "format_version"), 3),
    ("zarr.json", ("attributes", "mine"), 1),
    ("zarr.json", ("zarr_format",), 2),
    ("samples/zarr.json", ("attributes", "n_rows"), -1),
    ("samples/zarr.json", ("attributes", "seal"), "0"),
    ("samples/content_id/zarr.json", ("shape",), [N, 8]),
    ("samples/path/zarr.json", ("fill_value",), ""),
    ("tables/zarr.json", ("attributes", "current"), "1"),
    ("tables/zarr.json", ("attributes", "columns"), ["label", "label"]),
    ("tables/zarr.json", ("attributes", "class_order"), []),
    ("tables/00000001/label/zarr.json", ("codecs",), [{"name": "vlen-utf8"}, {"name": "zstd"}]),
    ("embeddings/zarr.json", ("attributes", "backbones"), [""]),
    ("embeddings/pixels/zarr.json", ("attributes", "fingerprint"), {}),
    ("embeddings/pixels/zarr.json", ("attributes", "fingerprint", "dim"), "432"),
    ("embeddings/pixels/zarr.json", ("attributes", "fingerprint", "maps"), "14x14"),
    ("embeddings/pixels/zarr.json", ("attributes", "fingerprint", "dense"), "last"),
    (FEATURES, ("shape",), [N]),
    (FEATURES, ("data_type",), "float64"),
    (FEATURES, ("data_type",), "uint8"),
    (FEATURES, ("fill_value",), 0),
    (FEATURES, ("codecs",), [{"name": "bytes", "configuration": {"endian": "little"}}]),
    (FEATURES, ("chunk_key_encoding", "configuration", "separator"), "."),
    ("embeddings/pixels/state/zarr.json", ("chunk_grid", "configuration", "chunk_shape"), [64, 1]),
    ("copies/embeddings/pixels/checksum/zarr.json", ("data_type",), "uint64"),
    ("notes/zarr.json", (), {}),
    ("copies/tables/zarr.json", (), None),
]
"""A document, a place in it, and what it must not be there; None: it must not lack."""


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A cache of each kind, by what it is."""
    root = tmp_path_factory.mktemp("format")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield {kind: make(root) for kind, make in KINDS.items()}


def _empty(root: Path) -> Path:
    with EmbeddingCache.writing(root / "empty.zarr"):
        pass
    return root / "empty.zarr"


def _images(root: Path) -> Path:
    """Of two classes and one that cannot be read, each with a mask of the pixels in its corner."""
    for at in range(N):
        path = root / "images" / "ab"[at % 2] / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(at).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
        corner = np.zeros((40, 40), dtype=np.uint8)
        corner[:at, :at] = 255
        Image.fromarray(corner).save(root / f"mask {at}.png")
    (root / "images" / "a" / "broken.png").write_bytes(b"no image")
    return root / "images"


def _extracted(root: Path, name: str, *backbones: str, images: Path | None = None, **options: Any) -> Path:
    runtime = dvme.Runtime(device="cpu", batch_size=4, workers=2)
    given = {"backbones": [*backbones], "runtime": runtime, "progress": dvme.silent} | options
    dvme.extract(images or _images(root), root / name, **given)
    return root / name


def _pooled(root: Path) -> Path:
    return _extracted(root, "pooled.zarr", pixel_backbone(root))


def _dense(root: Path) -> Path:
    write_network(root, "vit")
    _extracted(root, "dense.zarr", f"{root / 'vit.toml'}@dense=last", dtype="float16")
    return _extracted(root, "dense.zarr", f"{root / 'vit.toml'}@dense=last-2", dtype="int8")


def _views(root: Path) -> Path:
    return _extracted(root, "views.zarr", pixel_backbone(root), views=3)


def _imported(root: Path) -> Path:
    names = [f"{at}.png" for at in range(N)]
    np.savez(root / "made.npz", features=np.eye(N, dtype=np.float32), ids=np.array(names))
    for name, said in (("uni", {"made_by": "UNI v1, 224 px"}), ("unknown", {})):
        dvme.cache.import_embeddings(root / "made.npz", root / "imported.zarr", backbone=name, **said)
    return root / "imported.zarr"


def _labelled(root: Path) -> Path:
    """Masks, patients, a column with a name of its own, an order of the classes, two generations of columns."""
    _images(root)
    rows = [f"images/{'ab'[at % 2]}/{at}.png,{'ab'[at % 2]},p{at // 2},mask {at}.png,{at}" for at in range(N)]
    (root / "table.csv").write_text("image,label,group,mask,zarr.json\n" + "\n".join(rows))
    columns = dvme.Columns(mask="mask", keep=["zarr.json"])
    images = root / "table.csv"
    place = _extracted(root, "labelled.zarr", pixel_backbone(root), images=images, columns=columns)
    dvme.cache.label(place, class_order=["b", "a", "none yet"])
    return place


def _findings(root: Path) -> Path:
    place = Path(shutil.copytree(root / "pooled.zarr", root / "findings.zarr"))
    cells = ["x|y", "x", "No Finding", "y", "", "x"]
    rows = [f"images/{'ab'[at % 2]}/{at}.png,{cell}" for at, cell in enumerate(cells)]
    (root / "findings.csv").write_text("\n".join(["image,label", "images/a/broken.png,x", *rows]))
    dvme.cache.label(place, root / "findings.csv", columns=dvme.Columns(label_separator="|"))
    return place


def _pruned(root: Path) -> Path:
    """The last: an image goes."""
    place = Path(shutil.copytree(root / "pooled.zarr", root / "pruned.zarr"))
    (root / "images" / "b" / "1.png").unlink()
    dvme.cache.prune(place, root / "images", confirmed=True)
    return place


KINDS: dict[str, Callable[[Path], Path]] = {
    "empty": _empty,
    "pooled": _pooled,
    "dense": _dense,
    "views": _views,
    "imported": _imported,
    "labelled": _labelled,
    "findings": _findings,
    "pruned": _pruned,
}


def _documents(cache: Path) -> Documents:
    return {path.relative_to(cache).as_posix(): json.loads(path.read_text()) for path in cache.rglob("zarr.json")}


def _problems(documents: Documents) -> list[str]:
    found = jsonschema.Draft202012Validator(SCHEMA).iter_errors(documents)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def test_format__has_the_numbers_of_the_layout() -> None:
    assert (FORMAT_VERSION, MIN_SHARD_ROWS, MAX_SHARD_ROWS, MOST_SHARD_BYTES) == (2, 64, 32_768, 128 << 20)
    assert ROWS_PER_SAMPLE_CHUNK == 262_144
    for text in ("describes format 2", "64 to 32,768 rows", "128 MiB", "262,144"):
        assert text in FORMAT


def test_schema__is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    named = set(re.findall(r"`([a-z_0-9.]+)`", FORMAT))
    described = SCHEMA["$defs"]["fingerprint"]["properties"]
    assert set(described) <= named
    for node in ("root", "samples", "tables", "embeddings", "backbone"):
        attributes = set(SCHEMA["$defs"][node]["properties"]["attributes"]["properties"])
        assert all(re.search(rf"\b{name}\b", FORMAT) for name in attributes), node


@pytest.mark.parametrize("kind", KINDS)
def test_schema__takes_every_kind_of_cache(caches: dict[str, Path], kind: str) -> None:
    assert _problems(_documents(caches[kind])) == []


def test_schema__was_asked_about_every_kind(caches: dict[str, Path]) -> None:
    """The caches are what they are called."""
    found = {kind: _documents(cache) for kind, cache in caches.items()}
    types = {
        key: document["data_type"] for key, document in found["dense"].items() if key.endswith("features/zarr.json")
    }
    assert set(types.values()) == {"float16", "uint8"}
    named = sorted(found["views"]["embeddings/zarr.json"]["attributes"]["backbones"])
    assert named == ["pixels", "pixels@view=1", "pixels@view=2"]
    made = {
        name: found["imported"][f"embeddings/{name}/zarr.json"]["attributes"]["fingerprint"]
        for name in ("uni", "unknown")
    }
    assert set(made["uni"]) == {"made_by", "dim", "dtype", "l2_normalised"}
    assert set(made["unknown"]) == {"imported", "content", "dim", "dtype"}
    tables = found["labelled"]["tables/zarr.json"]["attributes"]
    assert tables["class_order"] == ["b", "a", "none yet"]
    assert {"mask", "group", "zarr.json"} <= set(tables["columns"])
    assert found["empty"]["tables/zarr.json"]["attributes"]["current"] == ""
    assert EmbeddingCache.open(caches["findings"]).column("label").tolist().count("|") == 1
    assert EmbeddingCache.open(caches["pruned"]).samples.is_pruned.sum() == 1
    cell = json.loads(next(filter(None, EmbeddingCache.open(caches["labelled"]).column("mask"))))
    assert set(cell) == {"names", "exclusive", "size", "presence", "digest", "layers"}


@pytest.mark.parametrize(("key", "place", "value"), WRONG)
def test_schema__refuses_what_no_cache_has(
    caches: dict[str, Path], key: str, place: tuple[str | int, ...], value: Any
) -> None:
    documents = copy.deepcopy(_documents(caches["pooled"]))
    if place:
        *path, last = place
        within = documents[key]
        for each in path:
            within = within[each]
        within[last] = value
    elif value is None:
        del documents[key]
    else:
        documents[key] = value
    assert _problems(documents)


@pytest.mark.parametrize("kind", KINDS)
def test_format__what_no_schema_can_say(caches: dict[str, Path], kind: str) -> None:
    """By hand, from the files alone: names of folders, lengths, seals, copies, chunks and proofs."""
    cache, documents = caches[kind], _documents(caches[kind])
    originals = {key: each for key, each in documents.items() if not key.startswith("copies/")}
    for key, document in originals.items():
        seal = document["attributes"].pop("seal")
        text = f"{key}\n{json.dumps(document, sort_keys=True, separators=(',', ':'))}"
        assert hashlib.blake2b(text.encode(), digest_size=16).hexdigest() == seal, key
    places = [path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()]
    is_shard = re.compile(r"embeddings/[^/]+/[^/]+/c/").match
    twice = {key for key in places if not key.startswith("copies/") and not is_shard(key)}
    assert {key.removeprefix("copies/") for key in places if key.startswith("copies/")} == twice
    for key in twice:
        assert (cache / key).read_bytes() == (cache / "copies" / key).read_bytes(), key
    for key in (key for key in places if not key.endswith("zarr.json")):
        data = (cache / key).read_bytes()
        assert int.from_bytes(data[-4:], "little") == google_crc32c.value(data[:-4]), key

    n_rows = documents["samples/zarr.json"]["attributes"]["n_rows"]
    assert all(documents[f"samples/{name}/zarr.json"]["shape"][0] >= n_rows for name in ("content_id", "path"))
    tables = documents["tables/zarr.json"]["attributes"]
    assert _folders(originals, f"tables/{tables['current'] or 'none'}") == set(tables["columns"])
    named = documents["embeddings/zarr.json"]["attributes"]["backbones"]
    assert _folders(originals, "embeddings") == set(named)
    for folder in (quote(name, safe="") for name in named):
        arrays = {name: documents[f"embeddings/{folder}/{name}/zarr.json"] for name in ARRAYS}
        rows = {each["chunk_grid"]["configuration"]["chunk_shape"][0] for each in arrays.values()}
        assert rows == {64}  # fewer than 64 x 256 rows, none of them long
        _check_rows(cache, folder, documents[f"embeddings/{folder}/zarr.json"]["attributes"]["fingerprint"], arrays)


def _folders(documents: Documents, place: str) -> set[str]:
    """The names of the nodes right below a place."""
    found = (re.fullmatch(rf"{place}/([^/]+)/zarr\.json", key) for key in documents)
    return {unquote(match[1]) for match in found if match}


def _check_rows(cache: Path, folder: str, fingerprint: dict[str, Any], arrays: Documents) -> None:
    """The one shard of a small cache: its rows as they lie in the file, each with its proof."""
    n_rows, dim = arrays["features"]["shape"]
    dtype = np.dtype(arrays["features"]["data_type"]).newbyteorder("<")
    own = cache / "embeddings" / folder
    raw = (own / "features" / "c" / "0" / "0").read_bytes()
    assert len(raw) == 64 * dim * dtype.itemsize + 4
    features = np.frombuffer(raw[:-4], dtype=dtype).reshape(64, dim)
    states = np.frombuffer((own / "state" / "c" / "0").read_bytes()[:-4], dtype="u1")
    checksums = np.frombuffer((own / "checksum" / "c" / "0").read_bytes()[:-4], dtype="<u4")
    assert set(states[:n_rows].tolist()) <= {0, 1, 2}
    assert not states[n_rows:].any()
    is_blank = np.isnan(features) if dtype.kind == "f" else features == 0
    assert is_blank[states != 1].all()
    told = {name: value for name, value in fingerprint.items() if not name.startswith("decoding.")}
    canonical = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    made_by = int.from_bytes(hashlib.blake2b(canonical, digest_size=16).digest()[:4], "little")
    ids = EmbeddingCache.open(cache).samples.content_ids
    for row in np.flatnonzero(states == 1).tolist():
        image = int.from_bytes(ids[row][:4], "little")
        assert checksums[row] == google_crc32c.value(features[row].tobytes()) ^ image ^ made_by
    maps = [tuple(map(int, each.split("x"))) for each in str(fingerprint.get("maps", "")).split(",") if each]
    values = sum(height * width * channels for height, width, channels in maps)
    scales = sum(2 * height * width for height, width, _ in maps) if fingerprint.get("dtype") == "int8" else 0
    assert not maps or dim == values + scales


def test_format__a_cache_is_read_without_dvme_and_checked(
    write_embeddings: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the document; the first with numpy, zarr and a crc32c alone."""
    values = np.arange(40, dtype=np.float32).reshape(10, 4)
    values[3] = np.nan  # an image that failed
    labels = [f"ü {row % 2}" for row in range(10)]
    write_embeddings(tmp_path / "my.zarr", {"efficientnet-lite0": values}, label=labels)
    monkeypatch.chdir(tmp_path)
    assert "dvme" not in READER
    names: dict[str, Any] = {}
    exec(compile(READER, "FORMAT.md", "exec"), names)
    kept = [row for row in range(10) if row != 3]
    np.testing.assert_array_equal(names["features"], values[kept])
    assert names["paths"].tolist() == [f"{row}.png" for row in kept]
    assert names["labels"].tolist() == [labels[row] for row in kept]
    found: dict[str, Any] = {}
    exec(compile(CHECK, "FORMAT.md", "exec"), found)
    assert found["problems"] == []
    (tmp_path / "my.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(AssertionError):
        exec(compile(CHECK, "FORMAT.md", "exec"), {})
