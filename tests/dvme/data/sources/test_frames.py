"""Frames of DICOM files by their addresses: each file is read and hashed once for all of its frames."""

from __future__ import annotations

import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scans import write_scan

from dvme.data import Columns, Samples, load_samples
from dvme.data.dicom.rows import with_headers
from dvme.data.encoded import Encoded
from dvme.data.hashing import identify
from dvme.data.sources import file_of, frames, is_there, kinds, read_image, source_of_file
from dvme_cache import content_id

N_FRAMES = 120


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "IM0001", seed=1, NumberOfFrames=str(N_FRAMES))


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often files were read whole, and hashed whole."""
    found: Counter[str] = Counter()
    read, hashed = Path.read_bytes, frames.content_id

    def counting_read(path: Path) -> bytes:
        found[f"read {path.name}"] += 1
        return read(path)

    def counting_hash(data: bytes) -> bytes:
        found["hashed"] += 1
        return hashed(data)

    monkeypatch.setattr(Path, "read_bytes", counting_read)
    monkeypatch.setattr(frames, "content_id", counting_hash)
    return found


def test_read_image__a_frame(film: Path) -> None:
    image = read_image(film / "frame=12")
    assert image.data == film.read_bytes()
    assert image.frame == 12
    # What identifies a frame, by its definition: the digest of the file's digest and the frame's number.
    assert image.content_id == content_id(content_id(film.read_bytes()) + b"frame 12")
    assert read_image(film).content_id == content_id(film.read_bytes())


def test_identify__a_film_is_read_and_hashed_once(film: Path, counts: Counter[str]) -> None:
    samples = load_samples(film, Columns(frame="each"))
    found = identify(samples, 8, lambda *_: None)
    assert len(set(found.digests)) == N_FRAMES
    assert counts == {"read IM0001": 1, "hashed": 1}


def test_read_image__another_file_in_its_place(film: Path) -> None:
    before = read_image(film / "frame=0").content_id
    write_scan(film, seed=2, NumberOfFrames="4")
    after = read_image(film / "frame=0")
    assert after.content_id != before
    assert after.data == film.read_bytes()
    assert not is_there(film / "frame=4")


def test_is_there(film: Path, tmp_path: Path) -> None:
    assert is_there(film / "frame=0")
    assert is_there(film / f"frame={N_FRAMES - 1}")
    for name in (f"frame={N_FRAMES}", "frame=01", "frame=", "1"):
        assert not is_there(film / name)
    (tmp_path / "text").write_text("no image")
    assert not is_there(tmp_path / "text" / "frame=0")
    assert not is_there(tmp_path / "gone" / "frame=0")


def test_read_image__no_frame(film: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="IM0001 holds frames, such as frame=0, and not 7"):
        read_image(film / "7")
    with pytest.raises(OSError, match="No such file"):
        read_image(tmp_path / "gone" / "frame=0")


def test_file_of(film: Path) -> None:
    assert file_of(film / "frame=3") == film
    assert file_of(film) == film


def test_source_of_file__by_content_where_the_name_says_nothing(film: Path, tmp_path: Path) -> None:
    assert source_of_file(film) is frames.SOURCE
    assert source_of_file(film.rename(tmp_path / "1.2.840.5")) is frames.SOURCE
    (tmp_path / "notes").write_text("no image")
    assert source_of_file(tmp_path / "notes") is None
    assert source_of_file(tmp_path / "x.DCM") is frames.SOURCE


def test_frames__few_bytes_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: Counter[str]) -> None:
    """Files that were read longest ago are let go of, and read again where they are asked for again."""
    films = [write_scan(tmp_path / f"{n}.dcm", seed=n, NumberOfFrames="2") for n in range(4)]
    size = films[0].stat().st_size
    monkeypatch.setattr(frames, "MOST_BYTES", 2 * size + 10)
    for path in films:
        assert read_image(path / "frame=0").frame == 0
    assert sum(reader.n_bytes for reader in frames._HELD.readers.values()) == 2 * size
    read_image(films[3] / "frame=1")
    read_image(films[0] / "frame=1")
    assert counts == {"read 0.dcm": 2, "read 1.dcm": 1, "read 2.dcm": 1, "read 3.dcm": 1, "hashed": 5}


def test_frames__many_threads(film: Path, counts: Counter[str]) -> None:
    def read(frame: int) -> Any:
        return read_image(film / f"frame={frame}").content_id

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(read, range(N_FRAMES)))
    assert len(set(found)) == N_FRAMES
    assert counts["read IM0001"] == 1


class Zip:
    """A container of another kind, by zipfile."""

    called, suffixes = "a zip archive", (".zip",)

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def open(self, container: Path) -> Zip:
        return Zip(container)

    def read(self, member: str) -> Encoded:
        assert self.path is not None
        with zipfile.ZipFile(self.path) as archive:
            return Encoded(archive.read(member))

    def holds(self, member: str) -> bool:
        assert self.path is not None
        with zipfile.ZipFile(self.path) as archive:
            return member in archive.namelist()

    def close(self) -> None:
        pass


def test_frames__of_a_file_in_another(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, groups and columns of a member of an archive are those of the file."""
    monkeypatch.setattr(kinds, "sources", lambda: [frames.SOURCE, Zip()])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(film, "x/US.dcm")
    address = tmp_path / "a.zip" / "x" / "US.dcm"
    assert read_image(address / "frame=3").content_id == read_image(film / "frame=3").content_id
    assert is_there(address / "frame=119")
    assert not is_there(address / "frame=120")
    assert file_of(address / "frame=3") == tmp_path / "a.zip"
    nothing = [""]
    listed = Samples([address], ["x/US.dcm"], ["x"], nothing, nothing, given=frozenset({"label"}))
    samples = with_headers(listed, Columns(frame="each", dicom="modality"), are_folders=True, images_only=False)
    assert samples.paths[-1] == address / "frame=119"
    assert samples.kept == {"modality": ["DX"] * N_FRAMES}
    assert (
        identify(samples, 4, lambda *_: None).digests
        == identify(load_samples(film, Columns(frame="each")), 4, lambda *_: None).digests
    )
