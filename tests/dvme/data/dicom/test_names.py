from __future__ import annotations

import pytest

from dvme.data.dicom.names import frame_of, is_dicom_name, is_unclear


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.113619.2.5", "I0000 ", "MR.001", "image.", ".hidden"])
def test_is_unclear__names_that_say_nothing(name: str) -> None:
    assert is_unclear(name)


@pytest.mark.parametrize("name", ["IM1.dcm", "notes.txt", "1.2.840.png", "scan.v2", "a.1b"])
def test_is_unclear__suffixes(name: str) -> None:
    assert not is_unclear(name)


@pytest.mark.parametrize(
    ("name", "is_one"), [("a.dcm", True), ("A.DCM ", True), ("a.IMA", True), ("a.dcm.png", False), ("dcm", False)]
)
def test_is_dicom_name(name: str, is_one: bool) -> None:
    assert is_dicom_name(name) == is_one


@pytest.mark.parametrize(
    ("name", "number"),
    [("frame=0", 0), ("frame=12", 12), ("frame=01", None), ("frame=", None), ("frame=-1", None), ("xframe=1", None)],
)
def test_frame_of(name: str, number: int | None) -> None:
    assert frame_of(name) == number
