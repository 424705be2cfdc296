"""Columns of headers, each worked out by hand from the standard."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from pydicom.multival import MultiValue
from pydicom.valuerep import DSfloat

from dvme.data.dicom.fields import FIELDS, IDS, pseudonym

PERSONAL = ("Name", "Birth", "Address", "Telephone", "Comments", "Institution", "Physician", "Operator", "Date", "Time")


def told(name: str, **elements: Any) -> str:
    return FIELDS[name].tell(elements.get)


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("045Y", "45"),
        ("018M", "1.5"),
        ("010D", "0.0274"),  # 10 / 365.25
        ("026W", "0.498"),  # 26 * 7 / 365.25
        ("51", "51"),  # as RSNA's chest X-rays have it
        ("7y", "7"),
        ("000Y", "0"),
        ("old", ""),
        ("19600229", ""),  # a date that went astray
        ("", ""),
        (None, ""),
    ],
)
def test_age(text: str | None, years: str) -> None:
    assert told("age", PatientAge=text) == years


@pytest.mark.parametrize(
    ("text", "sex"), [("F", "F"), ("m ", "M"), ("FEMALE", "F"), ("O", "O"), ("Jane Doe", ""), (None, "")]
)
def test_sex(text: str | None, sex: str) -> None:
    assert told("sex", PatientSex=text) == sex


@pytest.mark.parametrize(
    ("elements", "spacing"),
    [
        ({"PixelSpacing": ["0.139", "0.139"]}, "0.139"),
        ({"PixelSpacing": ["0.2", "0.1"]}, "0.2x0.1"),
        ({"PixelSpacing": ["0.2", "0.2"], "ImagerPixelSpacing": ["0.3", "0.3"]}, "0.2"),
        ({"ImagerPixelSpacing": ["0.3", "0.3"]}, "0.3"),
        ({"PixelSpacing": None, "ImagerPixelSpacing": ["0.143000", "0.143"]}, "0.143"),
        ({"PixelSpacing": "0.2"}, ""),
        ({}, ""),
    ],
)
def test_spacing(elements: dict[str, Any], spacing: str) -> None:
    values = {
        name: MultiValue(DSfloat, value) if isinstance(value, list) else value for name, value in elements.items()
    }
    assert told("spacing", **values) == spacing


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ViewPosition": "PA"}, "PA"),
        ({"ViewPosition": "mlo", "SeriesDescription": "R CC"}, "MLO"),
        ({"Modality": "DX", "SeriesDescription": "W Chest Lat."}, "LAT"),
        ({"Modality": "MG", "SeriesDescription": "R_CC"}, "CC"),
        ({"Modality": "CR", "SeriesDescription": "Chest PA and LAT"}, ""),  # which of the two, nobody knows
        ({"Modality": "CR", "SeriesDescription": "Doe^Jane PALMER"}, ""),
        ({"Modality": "CT", "SeriesDescription": "AP 5mm"}, ""),
        ({"ViewPosition": "as Mrs Doe was seated, AP"}, ""),  # somebody's own text
    ],
)
def test_view(elements: dict[str, str], view: str) -> None:
    assert told("view", **elements) == view


def test_numbers__are_the_first_and_short() -> None:
    assert (
        told(
            "window", WindowCenter=MultiValue(DSfloat, ["40", "450"]), WindowWidth=MultiValue(DSfloat, ["350", "1500"])
        )
        == "40:350"
    )
    assert told("window", WindowCenter="40") == ""
    assert told("kvp", KVP=DSfloat("120.0")) == "120"
    assert told("exposure", Exposure=None, ExposureInuAs=4500) == "4.5"  # mAs
    assert told("exposure", Exposure=4, ExposureInuAs=4500) == "4"
    assert told("frames", NumberOfFrames=None, Rows=8) == "1"
    assert told("frames", NumberOfFrames=12, Rows=8) == "12"
    assert told("frames") == ""
    assert told("rows", Rows=2048) == "2048"
    assert told("kvp", KVP=DSfloat("nan")) == ""


def test_texts__stand_on_one_line() -> None:
    assert told("manufacturer", Manufacturer=" GE \r\n Healthcare\0") == "GE Healthcare"
    assert told("laterality", ImageLaterality="", Laterality="r") == "R"
    assert told("body_part", BodyPartExamined="CHEST") == "CHEST"


def test_fields__none_is_of_a_person_by_name() -> None:
    keywords = {keyword for field in FIELDS.values() for keyword in field.keywords}
    assert not [
        keyword for keyword in keywords for part in PERSONAL if part in keyword and keyword != "ManufacturerModelName"
    ]
    assert FIELDS.keys() >= IDS


def test_pseudonym() -> None:
    assert pseudonym("H001") == "id" + hashlib.blake2b(b"H001", digest_size=8).hexdigest()
    assert pseudonym("H001") != pseudonym("H002")
    assert pseudonym("") == ""
