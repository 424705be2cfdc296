from __future__ import annotations

import io
import sys
import warnings
import zipfile
from pathlib import Path

import pydicom
import pytest
from scans import BIRTH, NAME, write_scan

from dvme.data.dicom.fields import FIELDS, pseudonym
from dvme.data.dicom.headers import Header, read_headers
from dvme.errors import EnvironmentMismatchError

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
EVERY = tuple(FIELDS)


def read(path: Path, *names: str, plain_ids: bool = False) -> Header | None:
    (header,) = read_headers([path], names, Path.read_bytes, plain_ids=plain_ids)
    return header


@pytest.mark.parametrize(
    ("file", "keyword", "name"),
    [
        ("CT_small.dcm", "Manufacturer", "manufacturer"),
        ("CT_small.dcm", "ManufacturerModelName", "model"),
        ("CT_small.dcm", "PatientID", "patient"),
        ("MR_small.dcm", "Modality", "modality"),
        ("MR_small_bigendian.dcm", "Columns", "columns"),
        ("image_dfl.dcm", "Rows", "rows"),
        ("JPGExtended.dcm", "BitsStored", "bits"),
        ("SC_rgb_rle.dcm", "PhotometricInterpretation", "photometric"),
        ("ExplVR_LitEndNoMeta.dcm", "StudyInstanceUID", "study"),
    ],
)
def test_read_headers__as_pydicom_reads_the_whole_file(file: str, keyword: str, name: str) -> None:
    path = SHIPPED / file
    found = read(path, name, plain_ids=True)
    assert found is not None
    assert found.columns == {name: f"{pydicom.dcmread(path, force=True)[keyword].value}".strip()}
    assert found.columns[name]


def test_read_headers__of_every_file_of_pydicom() -> None:
    """Frames and patients as pydicom has them; no file ends the call, and no warning leaves it."""
    paths = sorted(SHIPPED.glob("*.dcm"))
    found = dict(zip(paths, read_headers(paths, EVERY, Path.read_bytes), strict=True))
    n_read = 0
    for path, header in found.items():
        if header is None or header.is_damaged:
            continue
        with warnings.catch_warnings(action="ignore"):
            whole = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        assert header.n_frames == int(whole.get("NumberOfFrames") or 1), path
        assert header.patient == str(whole.get("PatientID") or "").strip(), path
        n_read += 1
    assert n_read > 60


def test_read_headers__no_person_is_in_them(tmp_path: Path) -> None:
    """Not a name, nor a date, nor an address, nor free text, whatever columns are asked for."""
    secrets = {
        "PatientAddress": "Secret Street 1",
        "PatientComments": "Secret comment",
        "StudyDate": "20200131",
        "InstitutionName": "Secret Hospital",
        "ReferringPhysicianName": "Secret^Doctor",
        "SeriesDescription": "Secret PA",
        "ImageComments": "Secret",
        "BodyPartExamined": "SECRET OF DOE JANE",
    }
    with warnings.catch_warnings(action="ignore"):  # of a value that the standard does not allow
        path = write_scan(tmp_path / "a.dcm", "H001", **secrets)
    found = read(path, *EVERY)
    assert found is not None
    text = " ".join(found.columns.values())
    for secret in ("Secret", "SECRET", *NAME.split("^"), BIRTH, "H001", "2020", "1.2.826"):
        assert secret not in text
    assert found.columns["view"] == "PA"
    assert found.columns["patient"] == pseudonym("H001")
    assert len({found.columns[name] for name in ("patient", "study", "series")}) == 3


def test_read_headers__what_is_missing_is_empty(tmp_path: Path) -> None:
    found = read(write_scan(tmp_path / "a.dcm", None), *EVERY)
    assert found is not None
    assert {name: found.columns[name] for name in ("patient", "age", "sex", "window", "kvp")} == {
        "patient": "",
        "age": "",
        "sex": "",
        "window": "",
        "kvp": "",
    }
    assert found.columns["rows"] == "24"
    assert not found.is_damaged


def test_read_headers__only_dicom_files_have_one(tmp_path: Path) -> None:
    (tmp_path / "picture.dcm").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(600))
    (tmp_path / "empty.dcm").touch()
    assert read(tmp_path / "picture.dcm") is None
    assert read(tmp_path / "empty.dcm") is None
    assert read_headers([tmp_path / "gone.dcm"], (), Path.read_bytes) == [None]


def test_read_headers__damaged_ones(tmp_path: Path) -> None:
    data = write_scan(tmp_path / "a.dcm", PatientAge="045Y").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(data[:400])
    cut = read(tmp_path / "cut.dcm", "age")
    assert cut is not None
    assert not cut.is_picture
    (tmp_path / "c.dcm").write_bytes(_with_frames(data, "999999999"))
    found = read(tmp_path / "c.dcm")
    assert found is not None
    assert (found.n_frames, found.is_damaged) == (1, True)
    (tmp_path / "d.dcm").write_bytes(_with_frames(data, "many"))
    found = read(tmp_path / "d.dcm", "age", "frames")
    assert found is not None
    assert found.n_frames == 1
    assert found.is_damaged
    assert found.columns == {"age": "45", "frames": ""}


def _with_frames(data: bytes, text: str) -> bytes:
    """The file with an element of its number of frames, written by hand."""
    value = text.encode() + b" " * (len(text) % 2)
    element = b"\x28\x00\x08\x00IS" + len(value).to_bytes(2, "little") + value
    at = data.index(b"\x28\x00\x10\x00US")
    return data[:at] + element + data[at:]


def test_read_headers__a_member_of_an_archive(tmp_path: Path) -> None:
    data = write_scan(tmp_path / "a.dcm", "H7").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/a.dcm", data)

    def member(path: Path) -> bytes:
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            return archive.read(path.relative_to(tmp_path / "a.zip").as_posix())

    (found,) = read_headers([tmp_path / "a.zip" / "x" / "a.dcm"], ("patient",), member, plain_ids=True)
    assert found is not None
    assert found.columns == {"patient": "H7"}
    assert pydicom.dcmread(io.BytesIO(data)).PatientID == "H7"


def test_read_headers__without_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_scan(tmp_path / "a.dcm")
    (tmp_path / "b.dcm").write_bytes(b"text" * 100)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert read(tmp_path / "b.dcm") is None
    with pytest.raises(EnvironmentMismatchError, match=r"pip install 'dvme\[dicom\]'"):
        read(path)
