"""What headers add to folders, files and manifests, against pydicom's reading of the same files."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import MediaStorageDirectoryStorage
from scans import write_patients, write_scan

from dvme.data import Columns, Samples, load_samples
from dvme.data.dicom.fields import pseudonym
from dvme.data.sources import read_image
from dvme.errors import DataError, EnvironmentMismatchError, OptionError


def said(samples: Samples) -> str:
    return "\n".join(samples.remarks)


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 patients of two images each, in folders of two classes."""
    return write_patients(tmp_path_factory.mktemp("scans"))


def test_with_headers__classes_groups_and_columns(patients: Path) -> None:
    samples = load_samples(patients, Columns(dicom=["view", "sex", "age", "manufacturer", "patient"]))
    assert len(samples) == 40
    assert samples.given == {"label", "group"}
    for path, identity, label, group in zip(samples.paths, samples.ids, samples.labels, samples.groups, strict=True):
        header = pydicom.dcmread(path)
        at = samples.paths.index(path)
        assert identity == f"{label}/{path.name}"
        assert group == samples.kept["patient"][at] == pseudonym(header.PatientID)
        assert samples.kept["view"][at] == header.ViewPosition
        assert samples.kept["sex"][at] == header.PatientSex
        assert samples.kept["age"][at] == f"{int(header.PatientAge[:3])}"
        assert samples.kept["manufacturer"][at] == header.Manufacturer
    assert "groups are patients: 20 that headers name, by pseudonyms" in said(samples)
    assert "folders are taken for classes, not for patients: benign, malignant" in said(samples)
    assert "headers tell view (40), sex (40), age (40), manufacturer (40), patient (40)" in samples.remarks


def test_with_headers__a_column_that_none_tells(patients: Path) -> None:
    assert "headers tell sex (40), laterality (0)" in load_samples(patients, Columns(dicom="sex,laterality")).remarks


def test_with_headers__plain_ids(patients: Path) -> None:
    samples = load_samples(patients, Columns(dicom="patient,study", plain_ids=True))
    assert samples.groups[:3] == ["H000", "H000", "H002"] == samples.kept["patient"][:3]
    assert samples.kept["study"][0] == "1.2.826.0.2.0"


def test_with_headers__images_only(patients: Path) -> None:
    samples = load_samples(patients, Columns(dicom="age"), images_only=True)
    assert set(samples.groups) == set(samples.labels) == {""}
    assert samples.kept == {}


@pytest.mark.parametrize("folder", ["", "train/"])
def test_with_headers__a_tree_of_patients_has_no_classes(tmp_path: Path, folder: str) -> None:
    for image in range(12):
        place = f"{folder}PA{image // 4:04d}/ST0001/SE{image % 2:04d}/IM{image:04d}"
        write_scan(tmp_path / place, f"H{image // 4}", seed=image)
    samples = load_samples(tmp_path)
    assert set(samples.labels) == {""}
    assert samples.given == {"group"} | ({"split"} if folder else set())
    assert len(set(samples.groups)) == 3
    assert "folders are taken for patients, not for classes, as each holds one: PA0000, PA0001, PA0002" in said(samples)


@pytest.mark.parametrize(
    ("places", "what"),
    [
        # Two patients in a tree; two classes of one patient each; three folders of one patient each.
        ({"PA1/ST/SE/1": "a", "PA2/ST/SE/1": "b"}, "patients"),
        ({"benign/1": "a", "malignant/1": "b"}, ""),
        ({"x/1": "a", "y/1": "b", "z/1": "c"}, "patients"),
        # One patient alone in a tree.
        ({"PA1/ST/SE/1": "a", "PA1/ST/SE/2": "a"}, "patients"),
        # Classes of several patients, however deep.
        ({"benign/PA1/ST/1": "a", "benign/PA2/ST/1": "b", "malignant/PA3/ST/1": "c"}, ""),
        # Nobody is named: classes.
        ({"x/1": None, "y/1": None, "z/1": None}, "studies"),
        # A file astray among ten.
        ({f"P{n}/{m}": f"{n}" for n in range(10) for m in range(2)} | {"P3/9": "4"}, "patients"),
        ({f"P{n}/{m}": f"{n}" for n in range(5) for m in range(2)} | {"P3/9": "4"}, ""),
    ],
)
def test_with_headers__what_folders_are(tmp_path: Path, places: dict[str, str | None], what: str) -> None:
    for seed, (place, patient) in enumerate(places.items()):
        write_scan(tmp_path / place, patient, seed=seed)
    samples = load_samples(tmp_path)
    assert ("label" in samples.given) == (not what)
    assert (f"folders are taken for {what or 'classes'}" in said(samples)) is True


def test_with_headers__folders_of_classes_whose_ids_are_all_alike(tmp_path: Path) -> None:
    """As after anonymisation: they make no class a patient, and studies are what is left to group by."""
    for seed in range(9):
        study = {"StudyInstanceUID": f"1.2.{seed // 2}"}
        write_scan(tmp_path / "abc"[seed % 3] / f"{seed}.dcm", "ANONYMOUS", seed=seed, **study)
    samples = load_samples(tmp_path)
    groups = dict(zip(samples.ids, samples.groups, strict=True))
    assert groups["a/0.dcm"] == groups["b/1.dcm"] == pseudonym("1.2.0")
    assert len(set(samples.groups)) == 5
    assert "all headers name one and the same patient" in said(samples)
    assert "9 images without a patient, grouped by 5 studies" in said(samples)


def test_with_headers__neither_patients_nor_studies(tmp_path: Path) -> None:
    for seed in range(4):
        write_scan(tmp_path / "ab"[seed % 2] / f"{seed}.dcm", "ANONYMOUS", seed=seed, StudyInstanceUID="1.2")
    assert load_samples(tmp_path).given == {"label"}


def test_with_headers__patients_that_some_headers_lack(tmp_path: Path) -> None:
    for seed, patient in enumerate(("a", "a", "b", None, " ")):
        write_scan(tmp_path / f"{seed}.dcm", patient, seed=seed)
    samples = load_samples(tmp_path)
    assert samples.groups == [pseudonym(name) for name in ("a", "a", "b", "1.2.826.0.2.3", "1.2.826.0.2.4")]
    assert "groups are patients: 2 that headers name, by pseudonyms of their ids; 2 images without any" in said(samples)
    assert "2 images without a patient, grouped by 2 studies" in said(samples)


def test_with_headers__a_patient_that_others_of_the_study_name(tmp_path: Path) -> None:
    """Of a study that several patients share, nobody can tell whose an image is."""
    named = (("a", "1.1"), (None, "1.1"), ("b", "1.2"), ("c", "1.2"), (None, "1.2"), (None, ""))
    for seed, (patient, study) in enumerate(named):
        write_scan(tmp_path / f"{seed}.dcm", patient, seed=seed, StudyInstanceUID=study)
    samples = load_samples(tmp_path)
    assert samples.groups == [pseudonym(name) for name in ("a", "a", "b", "c", "", "")]
    assert "1 image without a patient, grouped by 1 study" in said(samples)


def test_with_headers__names_without_a_suffix(tmp_path: Path) -> None:
    for seed, name in enumerate(("IM0001", "1.2.840.113619.2.5", "scan.DCM", "I.000", "x.ima")):
        write_scan(tmp_path / "a" / name, f"{seed}", seed=seed)
    bare = write_scan(tmp_path / "without", seed=9).read_bytes()[132:]  # neither preamble nor mark
    (tmp_path / "a" / "bare").write_bytes(bare)
    (tmp_path / "without").unlink()
    (tmp_path / "a" / "README").write_text("These are scans.")
    (tmp_path / "a" / "notes.2024").write_text("not one")
    Image.new("L", (9, 9)).save(tmp_path / "a" / "p.png")
    samples = load_samples(tmp_path)
    assert samples.ids == ["a/1.2.840.113619.2.5", "a/I.000", "a/IM0001", "a/bare", "a/p.png", "a/scan.DCM", "a/x.ima"]
    assert "2 files of other kinds (1 .2024, 1 without a suffix) passed over" in said(samples)
    assert samples.groups[4] == ""


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_with_headers__names_without_a_suffix_in_an_archive(tmp_path: Path, kind: str) -> None:
    folder = write_patients(tmp_path / "disc", n_patients=3)
    (folder / "benign" / "README").write_text("of the viewer")
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    write_scan(folder / "malignant" / "1.2.840.5", "H009", seed=99, NumberOfFrames="2")
    archive = Path(shutil.make_archive(str(tmp_path / "disc"), kind, folder))
    unpacked, packed = (load_samples(place, Columns(frame="each", dicom="view")) for place in (folder, archive))
    assert len(packed) == 8
    for name in ("ids", "labels", "groups", "kept", "remarks"):
        assert getattr(packed, name) == getattr(unpacked, name)
    assert packed.remarks[0] == "1 file of other kinds (1 without a suffix) passed over"
    assert [read_image(path).content_id for path in packed.paths] == [
        read_image(path).content_id for path in unpacked.paths
    ]


def test_with_headers__tables_of_contents(tmp_path: Path) -> None:
    """A real DICOMDIR, by its name and by its class."""
    source = get_testdata_file("DICOMDIR", download=False)
    assert source is not None
    write_scan(tmp_path / "IM1", seed=1)
    write_scan(tmp_path / "IM2", "P2", seed=2)
    for name in ("DICOMDIR", "index.dcm", "CONTENTS"):
        shutil.copy(source, tmp_path / name)
    assert pydicom.dcmread(tmp_path / "CONTENTS").file_meta.MediaStorageSOPClassUID == MediaStorageDirectoryStorage
    samples = load_samples(tmp_path)
    assert samples.ids == ["IM1", "IM2"]
    assert "1 table of contents of DICOM files passed over: DICOMDIR" in said(samples)
    assert "2 tables of contents of DICOM files passed over: CONTENTS, index.dcm" in said(samples)
    for name in ("IM1", "IM2", "DICOMDIR"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="no image is left"):
        load_samples(tmp_path)


def test_with_headers__a_manifest(patients: Path, write_manifest: Callable[..., Path], tmp_path: Path) -> None:
    rows = [(path, f"c{index % 2}") for index, path in enumerate(sorted(patients.rglob("IM*")))]
    samples = load_samples(write_manifest(rows, ["image", "label"]), Columns(dicom="age"))
    assert samples.labels[:2] == ["c0", "c1"]
    assert len(set(samples.groups)) == 20
    assert samples.kept["age"] == [f"{int(pydicom.dcmread(path).PatientAge[:3])}" for path, _ in rows]
    own = [(path, index // 4, index) for index, (path, _) in enumerate(rows)]
    samples = load_samples(write_manifest(own, ["image", "group", "view"]), Columns(keep="view", dicom="age"))
    assert samples.groups == [f"{index // 4}" for index in range(40)]
    assert list(samples.kept) == ["view", "age"]
    with pytest.raises(DataError, match="view is a column of the source already"):
        load_samples(tmp_path / "manifest.csv", Columns(keep="view", dicom="view"))


def test_with_headers__each_frame_is_a_row(tmp_path: Path) -> None:
    film = write_scan(tmp_path / "a" / "US.dcm", "P1", seed=1, NumberOfFrames="3")
    write_scan(tmp_path / "a" / "still", "P2", seed=2)
    nobody = {"StudyInstanceUID": "", "ViewPosition": "AP"}
    write_scan(tmp_path / "b" / "nobody.dcm", None, seed=3, NumberOfFrames="2", **nobody)
    samples = load_samples(tmp_path, Columns(frame="each", dicom="view,frames"))
    assert samples.ids == [
        *(f"a/US.dcm/frame={frame}" for frame in range(3)),
        "a/still",
        *(f"b/nobody.dcm/frame={frame}" for frame in range(2)),
    ]
    assert samples.paths == [tmp_path / identity for identity in samples.ids]
    assert samples.labels == ["a", "a", "a", "a", "b", "b"]
    assert samples.groups == [*[pseudonym("P1")] * 3, pseudonym("P2"), *["b/nobody.dcm"] * 2]
    assert samples.kept == {"view": ["", "", "", "", "AP", "AP"], "frames": ["3", "3", "3", "1", "2", "2"]}
    assert "2 files have several frames, of which each is an image: 5" in said(samples)
    first = load_samples(tmp_path)
    assert len(first) == 3
    assert "2 files have several frames (5 in all), such as a/US.dcm; one of them is read" in said(first)
    assert "frame='each'" in said(first)
    assert load_samples(film, Columns(frame="each")).ids == [f"US.dcm/frame={frame}" for frame in range(3)]
    assert load_samples(tmp_path, Columns(frame="each"), images_only=True).ids == samples.ids


def test_with_headers__frames_that_a_manifest_names(tmp_path: Path, write_manifest: Callable[..., Path]) -> None:
    write_scan(tmp_path / "US.dcm", None, NumberOfFrames="3")
    rows = [("US.dcm/frame=0", "x"), ("US.dcm/frame=2", "y")]
    samples = load_samples(write_manifest(rows, ["image", "label"]), Columns(frame="each"))
    assert samples.ids == [name for name, _ in rows]
    assert samples.groups == ["US.dcm", "US.dcm"]
    with pytest.raises(DataError, match=r"names 1 file that does not exist: .*frame=3"):
        load_samples(write_manifest([*rows, ("US.dcm/frame=3", "z")], ["image", "label"]))
    own = [("US.dcm/frame=0", ""), ("US.dcm/frame=2", "p")]
    assert load_samples(write_manifest(own, ["image", "group"])).groups == ["US.dcm", "p"]


def test_with_headers__one_file(tmp_path: Path) -> None:
    write_scan(tmp_path / "IM1")
    samples = load_samples(tmp_path / "IM1", Columns(dicom="modality"))
    assert (samples.ids, samples.kept) == (["IM1"], {"modality": ["DX"]})
    with pytest.raises(DataError, match="IM1 is a DICOM file, label needs a manifest"):
        load_samples(tmp_path / "IM1", Columns(label="grade"))
    (tmp_path / "README").write_text("text")
    with pytest.raises(DataError, match="README is not a manifest"):
        load_samples(tmp_path / "README")


def test_with_headers__damage_is_counted(tmp_path: Path) -> None:
    whole = write_scan(tmp_path / "a.dcm", "P1").read_bytes()
    write_scan(tmp_path / "b.dcm", "P2", seed=1)
    (tmp_path / "cut.dcm").write_bytes(whole[:300])
    (tmp_path / "none.dcm").write_bytes(b"no DICOM file")
    samples = load_samples(tmp_path)
    assert samples.ids == ["a.dcm", "b.dcm", "cut.dcm", "none.dcm"]
    assert "1 DICOM file tells the size of no picture" in said(samples)
    assert str(tmp_path / "cut.dcm") in said(samples)


@pytest.mark.parametrize("options", [{"dicom": "age"}, {"frame": "each"}])
def test_with_headers__options_where_nothing_is_dicom(tmp_path: Path, options: dict[str, str]) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="no image is a DICOM file; leave out"):
        load_samples(tmp_path, Columns(**options))
    assert load_samples(tmp_path).remarks == ()


def test_columns__of_headers() -> None:
    assert Columns(dicom="view, age").dicom == ("view", "age")
    with pytest.raises(OptionError, match=r"dicom names what headers do not tell: name, birth; .* patient, study, "):
        Columns(dicom="name,age,birth")
    with pytest.raises(OptionError, match=r"frame='3' is not possible; choose each, or .* dino@frame=middle"):
        Columns(frame="3")


def test_with_headers__without_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scan(tmp_path / "a" / "IM1")
    Image.new("L", (9, 9)).save(tmp_path / "a" / "p.png")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(EnvironmentMismatchError, match=r"^DICOM files need pydicom: pip install 'dvme\[dicom\]'$"):
        load_samples(tmp_path)
    (tmp_path / "a" / "IM1").unlink()
    assert len(load_samples(tmp_path)) == 1


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_with_headers__an_archive_of_names_without_a_suffix(patients: Path, tmp_path: Path, kind: str) -> None:
    archive = Path(shutil.make_archive(f"{tmp_path / 'scans'}", kind, patients))
    folder, packed = (load_samples(place, Columns(dicom="view,age")) for place in (patients, archive))
    assert (packed.ids, packed.labels, packed.groups) == (folder.ids, folder.labels, folder.groups)
    assert packed.kept == folder.kept
