"""Packed tables, as public sets ship them; Python's gzip and zipfile write them here."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from dvme.data import load_samples
from dvme.data.tables import read_table
from dvme.data.unpacking import unpacked
from dvme.errors import DataError

TEXT = "image,label\na.png,é\n"


def zipped(*members: tuple[str, str | bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return held.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv.gz", gzip.compress(TEXT.encode())),
        ("M.CSV.GZ", gzip.compress(TEXT.encode("utf-16"))),
        ("m.tsv.gz", gzip.compress(TEXT.replace(",", "\t").encode())),
        ("m.csv", gzip.compress(TEXT.encode())),
        ("m.jsonl.gz", gzip.compress(b'{"image": "a.png", "label": "\\u00e9"}')),
        (
            "m.csv.zip",
            zipped(("folder/m.csv", TEXT), ("__MACOSX/folder/._m.csv", b"\0\0"), ("folder/.DS_Store", b"\0")),
        ),
        ("m.csv.zip", zipped(("m.jsonl", '{"image": "a.png", "label": "é"}'))),
        ("m.csv.gz", gzip.compress(TEXT[:9].encode()) + gzip.compress(TEXT[9:].encode())),
    ],
)
def test_unpacked__one_table(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / name).write_bytes(content)
    samples = load_samples(tmp_path / name)
    assert (samples.ids, samples.labels, samples.paths) == (["a.png"], ["é"], [tmp_path / "a.png"])


def test_unpacked__what_pandas_packed(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": ["a.png", "b.png"], "label": ["x, y", 'say "no"\nor not']})
    for name in ("m.csv.gz", "m.csv.zip"):
        frame.to_csv(tmp_path / name, index=False)
        assert read_table(tmp_path / name).texts("label") == frame["label"].tolist()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "m.csv.zip",
            zipped(("a.csv", TEXT), ("b.csv", TEXT)),
            r"holds 2 files \(a.csv, b.csv\); a packed table is a single",
        ),
        ("m.csv.zip", zipped(("__MACOSX/a.csv", TEXT)), "holds no file; a packed table is a single file"),
        ("m.csv.gz", gzip.compress(TEXT.encode())[:-9], "cannot read the manifest .*: Compressed file ended before"),
        ("m.csv.gz", gzip.compress(TEXT.encode())[:-8] + bytes(8), "cannot read the manifest .*: CRC check failed"),
        ("m.csv.gz", gzip.compress(gzip.compress(TEXT.encode())), "cannot read the manifest .*"),
        ("m.csv.gz", gzip.compress(zipped(("a.csv", TEXT))), "cannot read the manifest .*"),
        (
            "m.csv.gz",
            gzip.compress("image\ncafé.png".encode("latin-1")),
            "it is no UTF-8 text from line 2 on; save it as",
        ),
        ("m.csv.gz", gzip.compress(b""), "it is empty"),
    ],
)
def test_unpacked__refused_in_one_line(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_unpacked__encrypted(tmp_path: Path) -> None:
    content = bytearray(zipped(("m.csv", TEXT)))
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of the directory's entry
    (tmp_path / "m.csv.zip").write_bytes(content)
    with pytest.raises(DataError, match="is encrypted; unpack it with its password, and name the table"):
        read_table(tmp_path / "m.csv.zip")


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_unpacked__more_than_fits(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXT + "b.png,x\n" * 1000
    path = tmp_path / f"m.csv{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix == ".gz" else zipped(("m.csv", text)))
    assert len(path.read_bytes()) < 500
    monkeypatch.setattr("dvme.data.unpacking.LARGEST", len(text.encode()))
    assert unpacked(path) == (text.encode(), "m.csv")
    monkeypatch.setattr("dvme.data.unpacking.LARGEST", len(text.encode()) - 1)
    with pytest.raises(DataError, match="unpacks to more than 0 GiB; unpack it, and keep the columns of interest"):
        unpacked(path)
