"""One contract for the four formats: what is written comes back bit by bit, or is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.files import reading
from dvme.upkeep.formats import is_bundle, read_bundle, write_bundle
from dvme.upkeep.formats.bundle import BackboneHeader, Bundle, EmbeddedRows, Header, text_array
from dvme.upkeep.formats.checks import checked_blocks

SUFFIXES = (".h5", ".npz", ".parquet", ".csv")
MakeBundle = Callable[..., Bundle]
Contents = Callable[[Bundle], dict[str, Any]]

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
AWKWARD = st.sampled_from(
    ["", " ", "a,b", '"', '""x"', "line\nbreak", "\r\n", "\t", "ü€𝄞", "NA", "nan", "null", "-0", "1.0", "'"]
)


@pytest.fixture(params=SUFFIXES)
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    n_rows = draw(st.integers(1, 6))
    texts = st.lists(st.one_of(TEXT, AWKWARD), min_size=n_rows, max_size=n_rows)
    names = draw(st.lists(st.one_of(TEXT, AWKWARD).filter(bool), max_size=3, unique=True))
    columns = {name: text_array(draw(texts)) for name in names}
    headers, embeddings = [], {}
    for name in draw(st.lists(st.sampled_from(["dino", "timm:a/b.c", "50%", "ü", ".x"]), max_size=2, unique=True)):
        dtype, dim = draw(st.sampled_from(["float32", "float16"])), draw(st.integers(1, 4))
        finite = {"allow_nan": False, "allow_infinity": False, "width": 16 if dtype == "float16" else 32}
        features = draw(arrays(dtype, (n_rows, dim), elements=st.floats(**finite)))
        states = draw(arrays("uint8", n_rows, elements=st.integers(0, 2)))
        features[states != 1] = np.nan
        embeddings[name] = EmbeddedRows(states, text_array(draw(texts)), lambda table=features: iter([table]))
        json = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.booleans(), st.none()), max_size=2)
        headers.append(BackboneHeader(name, dim, dtype, draw(json), draw(json)))
    digests = draw(
        st.lists(st.binary(min_size=16, max_size=16).filter(is_id), min_size=n_rows, max_size=n_rows, unique=True)
    )
    return Bundle(
        Header(n_rows, tuple(columns), tuple(headers)),
        np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16),
        text_array([value or "x" for value in draw(texts)]),
        columns,
        embeddings,
    )


def is_id(digest: bytes) -> bool:
    return digest not in {b"\0" * 16, b"\xff" * 16}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bundle=bundles())
def test_formats__everything_comes_back(bundle: Bundle, suffix: str, contents: Contents) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"export{suffix}"
        write_bundle(path, bundle)
        assert is_bundle(path)
        assert contents(read_bundle(path)) == contents(bundle)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_formats__every_kind_of_number(suffix: str, dtype: str, make_bundle: MakeBundle, tmp_path: Path) -> None:
    """All 63,488 finite halves, or as many singles of random bits with the awkward ones among them."""
    if dtype == "float16":
        values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    else:
        bits = np.random.default_rng(0).integers(0, 1 << 32, size=1 << 16, dtype=np.uint32)
        bits[:6] = [0, 1 << 31, 1, (1 << 31) + 1, 0x007FFFFF, 0x7F7FFFFF]
        values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    table = values[: len(values) // 8 * 8].reshape(-1, 8)
    bundle = make_bundle(len(table), {"x": (8, dtype)})
    whole = dataclasses.replace(
        bundle,
        embeddings={
            "x": EmbeddedRows(
                np.ones(len(table), dtype=np.uint8),
                text_array([""] * len(table)),
                lambda: (table[start : start + 4096] for start in range(0, len(table), 4096)),
            )
        },
    )
    write_bundle(tmp_path / f"x{suffix}", whole)
    back = np.concatenate(list(read_bundle(tmp_path / f"x{suffix}").embeddings["x"].blocks()))
    assert back.dtype == dtype
    assert back.tobytes() == table.tobytes()


def test_formats__more_rows_than_a_block(
    suffix: str, make_bundle: MakeBundle, contents: Contents, tmp_path: Path
) -> None:
    labels = [f"class {row % 5}" for row in range(9000)]
    bundle = make_bundle(9000, label=labels)
    write_bundle(tmp_path / f"x{suffix}", bundle)
    assert contents(read_bundle(tmp_path / f"x{suffix}")) == contents(bundle)


def test_formats__rows_without_any_embeddings(
    suffix: str, make_bundle: MakeBundle, contents: Contents, tmp_path: Path
) -> None:
    bundle = make_bundle(5, {}, label=["a", "b", "", "a", "b"])
    write_bundle(tmp_path / f"x{suffix}", bundle)
    assert contents(read_bundle(tmp_path / f"x{suffix}")) == contents(bundle)


@pytest.mark.parametrize("is_there", [True, False])
def test_write_bundle__interrupted_leaves_the_old_file_or_nothing(
    suffix: str, is_there: bool, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    if is_there:
        write_bundle(path, make_bundle(4))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    bundle = make_bundle(9000)

    def interrupted() -> Iterator[NDArray[Any]]:
        yield np.zeros((4096, 3), dtype=np.float16)
        raise KeyboardInterrupt

    bundle.embeddings["dino"] = dataclasses.replace(bundle.embeddings["dino"], blocks=interrupted)  # type: ignore[index]
    with pytest.raises(KeyboardInterrupt):
        write_bundle(path, bundle)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_write_bundle__nul_is_refused_by_name(suffix: str, make_bundle: MakeBundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column 'label' of 1 images holds the character NUL: class/1.png; set it"):
        write_bundle(tmp_path / f"x{suffix}", make_bundle(3, label=["a", "b\0", ""]))
    assert not list(tmp_path.iterdir())


def test_read_bundle__cut_anywhere_is_refused(suffix: str, make_bundle: MakeBundle, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    write_bundle(path, make_bundle(50, label=["a"] * 50))
    whole = path.read_bytes()
    for share in range(20):
        path.write_bytes(whole[: len(whole) * share // 20])
        with pytest.raises(DataError, match=f"x{suffix}"):
            read_to_the_end(path)


def test_read_bundle__flipped_feature_is_refused(suffix: str, make_bundle: MakeBundle, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    bundle = make_bundle(40, {"x": (32, "float32")})
    write_bundle(path, bundle)
    data = bytearray(path.read_bytes())
    row = next(bundle.embeddings["x"].blocks())[1]
    place = data.find(str(row[5]).encode() if suffix == ".csv" else row[5:9].tobytes())
    assert place > 0
    data[place + 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cannot read|x.csv is not the file|x.h5 is not what dvme exported"):
        read_to_the_end(path)


def read_to_the_end(path: Path) -> None:
    bundle = read_bundle(path)
    for backbone in bundle.header.backbones:
        with reading(path):
            for _ in checked_blocks(bundle, backbone):
                pass


def test_read_bundle__newer_version_says_so(
    suffix: str, make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("dvme.upkeep.formats.bundle.FORMAT_VERSION", 2)
        write_bundle(tmp_path / f"x{suffix}", make_bundle(3))
    with pytest.raises(DataError, match="is a dvme export of version 2, this dvme reads up to 1; update dvme"):
        read_bundle(tmp_path / f"x{suffix}")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "other"}, "format 'other'"),
        ({"format_version": 0}, "version 0"),
        ({"n_rows": 2}, "it is not what was written"),
        ({"seal": "x"}, "it is not what was written"),
        ({"backbones": [], "seal": None}, "backbones"),
        (
            {"backbones": [{"name": "x", "dim": 0, "dtype": "float32", "fingerprint": {}, "provenance": {}}]},
            "'x' of dtype",
        ),
        (
            {"backbones": [{"name": "x", "dim": 1, "dtype": "int8", "fingerprint": {}, "provenance": {}}]},
            "dtype 'int8'",
        ),
        ({"backbones": [{"name": "x"}]}, "dim"),
    ],
)
def test_header__damaged_is_one_line(changes: dict[str, Any], reason: str) -> None:
    fields = json.loads(Header(1, (), ()).to_json())
    seal = fields.pop("seal")
    fields |= changes
    if changes.get("seal", "") is None:
        del fields["backbones"], fields["seal"]
    if "backbones" in changes:
        seal = hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).hexdigest()
    text = json.dumps({"seal": seal, **fields})
    with pytest.raises(DataError, match=f"^x.h5 is a dvme export with a damaged header .*{reason}.*; export it again$"):
        Header.from_json(text, "x.h5")


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"format": "dvme-export"}'])
def test_header__no_header_at_all(text: str) -> None:
    with pytest.raises(DataError, match=r"^x.h5 is a dvme export with a damaged header"):
        Header.from_json(text, "x.h5")


def test_read_bundle__flipped_bit_anywhere_is_never_believed(
    suffix: str, make_bundle: MakeBundle, contents: Contents, tmp_path: Path
) -> None:
    """Refused by name, or in a place that does not matter, such as padding or a date."""
    path, bundle = tmp_path / f"x{suffix}", make_bundle(30, label=[f"label {row}" for row in range(30)])
    write_bundle(path, bundle)
    expected, whole = contents(bundle), path.read_bytes()
    n_refused = 0
    for place in np.random.default_rng(0).integers(0, len(whole), size=80).tolist():
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        try:
            read_to_the_end(path)
            assert contents(read_bundle(path)) == expected, place
        except DataError:
            n_refused += 1
    assert n_refused > 10
