"""What of a DICOM header can become a column. No name, date, address or free text of a person is among it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Get = Callable[[str], Any]
"""The value of an element by its keyword, None where the header has none; an error where it cannot be read."""
CODE = re.compile(r"[A-Z0-9][A-Z0-9 _-]{0,15}")
"""A value of a code string; what is longer is somebody's own text."""
AGE = re.compile(r"(\d{1,3})([DWMY]?)")
PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
"""Without its unit, an age is in years, as several published sets write it."""
SEXES = {"M": "M", "F": "F", "O": "O", "MALE": "M", "FEMALE": "F", "OTHER": "O"}
VIEW_WORDS = re.compile(r"\b(PA|AP|LATERAL|LAT|LL|RL|CC|XCCL|MLO|ML|LM|LMO)\b")
PROJECTIONS = frozenset({"CR", "DX", "MG", "RF", "RG", "IO", "PX", "XA"})
"""Modalities whose series are called by the view."""


@dataclass(frozen=True)
class Field:
    """A column."""

    keywords: tuple[str, ...]
    """Of the elements that it is told from."""
    tell: Callable[[Get], str]
    """The value, "" where the header does not tell it."""


def pseudonym(identity: str) -> str:
    """`id` and 16 hexadecimal digits, the same for the same id: its BLAKE2b digest of 8 bytes, which has no key."""
    return f"id{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}" if identity else ""


def text_of(value: Any) -> str:
    """On one line, without blanks around it; the first of several values."""
    first = value if isinstance(value, str) or not hasattr(value, "__iter__") else next(iter(value), None)
    return "" if first is None else " ".join(str(first).replace("\0", " ").split())


def _text(*keywords: str) -> Field:
    """The first of some elements that has a value."""
    return Field(keywords, lambda get: next((text for each in keywords if (text := text_of(get(each)))), ""))


def _code(*keywords: str) -> Field:
    return Field(keywords, lambda get: next((code for each in keywords if (code := _as_code(get(each)))), ""))


def _number(keyword: str) -> Field:
    return Field((keyword,), lambda get: _as_number(get(keyword)))


def _as_code(value: Any) -> str:
    code = text_of(value).upper()
    return code if CODE.fullmatch(code) else ""


def _as_number(value: Any, factor: float = 1.0) -> str:
    text = text_of(value)
    number = float(text) * factor if text else math.nan
    return f"{number:.6g}" if math.isfinite(number) else ""


def _age(get: Get) -> str:
    """In years: `045Y` is 45, `018M` 1.5, `010D` 0.0274."""
    found = AGE.fullmatch(text_of(get("PatientAge")).upper())
    return f"{int(found[1]) / PER_YEAR[found[2]]:.3g}" if found else ""


def _sex(get: Get) -> str:
    return SEXES.get(text_of(get("PatientSex")).upper(), "")


def _view(get: Get) -> str:
    """The view position, else the one word for a view in what a series of projections is called."""
    position = _as_code(get("ViewPosition"))
    if position or _as_code(get("Modality")) not in PROJECTIONS:
        return position
    words = set(VIEW_WORDS.findall(re.sub(r"[_^/.-]", " ", text_of(get("SeriesDescription")).upper())))
    return words.pop() if len(words) == 1 else ""


def _spacing(get: Get) -> str:
    """Millimetres between the centres of pixels, `0.139`; `0.2x0.1` for rows and columns where the two differ."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        value = get(keyword)
        if value is not None and not isinstance(value, str) and len(value) == 2:
            rows, columns = (_as_number(each) for each in value)
            if rows and columns:
                return rows if rows == columns else f"{rows}x{columns}"
    return ""


def _window(get: Get) -> str:
    """Centre and width of the first window: `40:350`."""
    centre, width = _as_number(get("WindowCenter")), _as_number(get("WindowWidth"))
    return f"{centre}:{width}" if centre and width else ""


def _frames(get: Get) -> str:
    return _as_number(get("NumberOfFrames")) or ("1" if text_of(get("Rows")) else "")


def _exposure(get: Get) -> str:
    """In mAs."""
    return _as_number(get("Exposure")) or _as_number(get("ExposureInuAs"), 0.001)


FIELDS: Mapping[str, Field] = {
    "patient": _text("PatientID"),
    "study": _text("StudyInstanceUID"),
    "series": _text("SeriesInstanceUID"),
    "view": Field(("ViewPosition", "Modality", "SeriesDescription"), _view),
    "laterality": _code("ImageLaterality", "Laterality"),
    "sex": Field(("PatientSex",), _sex),
    "age": Field(("PatientAge",), _age),
    "modality": _code("Modality"),
    "manufacturer": _text("Manufacturer"),
    "model": _text("ManufacturerModelName"),
    "body_part": _code("BodyPartExamined"),
    "spacing": Field(("PixelSpacing", "ImagerPixelSpacing"), _spacing),
    "rows": _number("Rows"),
    "columns": _number("Columns"),
    "bits": _number("BitsStored"),
    "photometric": _code("PhotometricInterpretation"),
    "window": Field(("WindowCenter", "WindowWidth"), _window),
    "frames": Field(("NumberOfFrames", "Rows"), _frames),
    "kvp": _number("KVP"),
    "exposure": Field(("Exposure", "ExposureInuAs"), _exposure),
}
"""By the name of the column, in the order in which messages list them."""
IDS = frozenset({"patient", "study", "series"})
"""Columns that are kept as pseudonyms, unless they are wanted plain."""
