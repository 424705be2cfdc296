"""DICOM files as 8 bits, against pydicom's public functions and the standard's formulas in float64."""

from __future__ import annotations

import copy
import io
import random
import re
import struct
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import LARGER, SHIPPED, dicom, header_of, lut_item, shipped
from numpy.typing import NDArray
from PIL import Image
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    MPEG4HP41,
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    HTJ2KLossless,
    RLELossless,
)

import dvme
from dvme.backbones import get_spec
from dvme.backbones.model.preprocess import crop_image
from dvme.data import decode
from dvme.data.dicom import is_dicom
from dvme.data.encoded import Encoded
from dvme.data.reading import Reading
from dvme.data.stretch import FewGreys, Outliers
from dvme.errors import ImageError
from dvme.maps.map_store import Kept
from dvme.report.html.thumbnails import thumbnails
from dvme_cache import EmbeddingCache, content_id

REFUSED = {
    "JPEG-lossy.dcm": "JPEG Extended (Process 2 and 4)): pip install pylibjpeg pylibjpeg-libjpeg",
    "JPGExtended.dcm": "JPEG Extended (Process 2 and 4)): pip install pylibjpeg pylibjpeg-libjpeg",
    "JPEG2000-embedded-sequence-delimiter.dcm": "pixels that cannot be decoded (JPEG 2000 Image Compression)",
    "MR_truncated.dcm": "8130 vs 8192 bytes",
    "badVR.dcm": "has no number in NumberOfFrames",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "of the kind Enhanced MR Image; it may be cut off",
    "UN_sequence.dcm": "of the kind CT Image; it may be cut off",
    "no_meta_group_length.dcm": "of the kind RT Image; it may be cut off",
    "priv_SQ.dcm": "of the kind MR Image; it may be cut off",
    "nested_priv_SQ.dcm": "has no Rows",
    "meta_missing_tsyntax.dcm": "has no Rows",
    "empty_charset_LEI.dcm": "holds no pixels: it is a DICOM file of no known kind",
    "ExplVR_BigEndNoMeta.dcm": "of the kind RT Ion Plan",
    "ExplVR_LitEndNoMeta.dcm": "of the kind RT Ion Plan",
    "reportsi.dcm": "of the kind Basic Text SR",
    "reportsi_with_empty_number_tags.dcm": "of the kind Basic Text SR",
    "rtplan.dcm": "of the kind RT Plan",
    "rtplan_truncated.dcm": "of the kind RT Plan",
    "rtstruct.dcm": "of the kind RT Structure Set",
    "test-SR.dcm": "of the kind Comprehensive SR",
    "waveform_ecg.dcm": "of the kind 12-lead ECG Waveform",
}
SLOW = ("RG1_J2K", "RG3_J2K", "MR2_J2K")
FILES = sorted(path for folder in (LARGER, SHIPPED) for path in folder.glob("*.dcm") if is_dicom(path.read_bytes()))
ROWS, COLUMNS = np.mgrid[0:40, 0:50]
RAMP = (ROWS * 100 + COLUMNS * 3).astype(np.uint16)  # 0..4047, of 12 bits


def pixels(data: bytes | Encoded, **reading: str) -> NDArray[np.int64]:
    return np.asarray(decode(data, reading=Reading(**reading)).image).astype(np.int64)


def reference(header: Any, frame: int = 0) -> NDArray[Any]:
    """What a file is as 8 bits but for the rounding, written plainly: all in float64, on the whole picture."""
    header = copy.deepcopy(header)
    photometric = header.PhotometricInterpretation
    is_lossy_jpeg = header.file_meta.get("TransferSyntaxUID", "") == "1.2.840.10008.1.2.4.50"
    stored = pixel_array(header, index=frame, decoding_plugin="pillow" if is_lossy_jpeg else "")
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(stored, header)[..., :3].astype(np.float64)
        return colours if colours.max() < 256 else colours // 256
    if header.SamplesPerPixel == 3:
        return stored.astype(np.float64) * 255 / (2.0**header.BitsStored - 1)
    for groups, at in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        for sequence in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            if groups in header and sequence in header[groups][at]:
                header.update(header[groups][at][sequence][0])
    bits = header.BitsStored
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if header.PixelRepresentation else (0.0, 2.0**bits - 1)
    if "ModalityLUTSequence" in header:
        low, high = 0.0, 2.0 ** header.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    elif "RescaleSlope" in header:
        low, high = (bound * float(header.RescaleSlope) + float(header.RescaleIntercept) for bound in (low, high))
    measured = apply_modality_lut(stored, header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = apply_voi_lut(measured, header).astype(np.float64)
    if header.get("VOILUTSequence"):
        low, high = 0.0, 2.0 ** header.VOILUTSequence[0].LUTDescriptor[2] - 1
    greys = (seen - low) * 255 / (high - low)
    greys = 255 - greys if photometric == "MONOCHROME1" else greys
    return np.where(stored == header.get("PixelPaddingValue", np.inf), 0, greys)


def assert_rounded(found: NDArray[np.int64], expected: NDArray[Any]) -> None:
    """Half a grey is the most that rounding takes, and nothing else may be added."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow if path.name.startswith(SLOW) else (), id=path.name)
        for path in FILES
        if path.name not in REFUSED
    ],
)
def test_decode__every_public_file(path: Path) -> None:
    data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = header_of(data)
        if "TransferSyntaxUID" not in header.file_meta:
            header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        expected = [reference(header, frame) for frame in (0, int(header.get("NumberOfFrames") or 1) // 2)]
    assert_rounded(pixels(data), expected[0])
    assert_rounded(pixels(data, frame="middle"), expected[1])


@pytest.mark.parametrize("name", REFUSED)
def test_decode__what_is_refused(name: str) -> None:
    with pytest.raises(ImageError) as error:
        decode(shipped(name).read_bytes())
    assert REFUSED[name] in str(error.value)
    assert "\n" not in str(error.value)


def test_decode__all_of_the_files_are_tried() -> None:
    assert len(list(LARGER.glob("*.dcm"))) == 68
    assert len(FILES) > 130
    assert set(REFUSED) <= {path.name for path in FILES}


@pytest.mark.parametrize(("dtype", "bits"), [("u1", 8), ("i1", 8), ("u2", 16), ("i2", 16), ("u2", 8)])
@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.1", ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_decode__values_of_8_bits_come_back_as_they_are(dtype: str, bits: int, uid: str) -> None:
    """Where the header's bounds are 256 values, or 256 times as many, nothing is scaled."""
    greys = (ROWS * 50 + COLUMNS) % 256
    stored = greys * (257 if bits == 16 else 1) - (2 ** (bits - 1) if dtype[0] == "i" else 0)
    data = dicom(stored.astype(dtype), uid=uid, BitsStored=bits)
    np.testing.assert_array_equal(pixels(data), greys)


@pytest.mark.parametrize("dtype", ["u2", "i2"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40, 400), (40.5, 1.5), (-600, 1500), (40, 1)])
@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (3.774114, 0.000061)])
def test_decode__every_stored_value_through_windows(
    dtype: str, function: str, center: float, width: float, slope: float, intercept: float
) -> None:
    """All values of 16 bits at once, so that the table is held against the whole picture."""
    every = np.arange(65_536, dtype=np.uint16).reshape(256, 256).view(dtype)
    elements = {"RescaleSlope": slope, "RescaleIntercept": intercept, "VOILUTFunction": function}
    data = dicom(every, WindowCenter=center, WindowWidth=width, **elements)
    assert_rounded(pixels(data), reference(header_of(data)))


def test_decode__a_slope_that_falls_turns_the_picture() -> None:
    data = dicom(RAMP, BitsStored=12, RescaleSlope=-2, RescaleIntercept=100)
    np.testing.assert_array_equal(pixels(data), np.round((4095 - RAMP.astype(float)) * 255 / 4095))
    window = dicom(RAMP, BitsStored=12, RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_array_equal(pixels(window), np.round((4095 - RAMP.astype(float)) * 255 / 4095))


def two_windows_and_a_lut() -> bytes:
    entries = (np.arange(4096) // 16).tolist()
    return dicom(
        RAMP,
        BitsStored=12,
        WindowCenter=[1000, 3000],
        WindowWidth=[500, 200],
        VOILUTSequence=[lut_item(0, entries, 8)],
    )


def test_decode__voi() -> None:
    data = two_windows_and_a_lut()
    ramp = RAMP.astype(float)
    windows = [
        np.round(np.clip((ramp - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255)
        for center, width in ((1000, 500), (3000, 200))
    ]
    np.testing.assert_array_equal(pixels(data, voi="none"), np.round(ramp * 255 / 4095))
    np.testing.assert_array_equal(pixels(data, voi="0"), windows[0])
    np.testing.assert_array_equal(pixels(data, voi="1"), windows[1])
    for same in ({}, {"voi": "first"}, {"voi": "lut"}):
        np.testing.assert_array_equal(pixels(data, **same), RAMP // 16)


@pytest.mark.parametrize(
    ("voi", "elements", "said"),
    [
        ("2", {"WindowCenter": [1, 2], "WindowWidth": [3, 4]}, "has windows 0 to 1; window 2 is not there (@voi=first"),
        ("0", {}, "has no window; window 0 is not there"),
        ("lut", {"WindowCenter": 1, "WindowWidth": 3}, "has no VOI LUT; it has one window, 0 (@voi=first"),
        ("", {"WindowCenter": 1, "WindowWidth": 0}, "has a window of width 0, which shows nothing; @voi=none reads it"),
        (
            "",
            {"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
            "a VOILUTFunction that is none of LINEAR",
        ),
        ("", {"RescaleSlope": 0, "RescaleIntercept": 5}, "has RescaleSlope 0"),
        ("", {"VOILUTSequence": [lut_item(0, [0, 1, 300], 8)]}, "VOI LUT of 8 bits with larger entries, up to 300"),
    ],
)
def test_decode__voi_that_is_not_there(voi: str, elements: dict[str, Any], said: str) -> None:
    data = dicom(RAMP, BitsStored=12, **elements)
    with pytest.raises(ImageError) as error:
        pixels(data, voi=voi)
    assert said in str(error.value)
    if voi == "":
        continues = "VOILUT" in said or "window of width" in said or "VOI LUT" in said
        assert not continues or pixels(data, voi="none").max() == round(4047 * 255 / 4095)


def test_decode__modality_lut_then_window() -> None:
    """Of a table of 10 bits that starts at 100, worked by hand."""
    entries = list(range(0, 1000, 10))
    data = dicom(RAMP, BitsStored=12, ModalityLUTSequence=[lut_item(100, entries, 10)])
    measured = np.clip(RAMP.astype(int) - 100, 0, 99) * 10
    np.testing.assert_array_equal(pixels(data), np.round(measured * 255 / 1023))
    windowed = dicom(
        RAMP, BitsStored=12, ModalityLUTSequence=[lut_item(100, entries, 10)], WindowCenter=500, WindowWidth=401
    )
    np.testing.assert_array_equal(pixels(windowed), np.round(np.clip((measured - 499.5) / 400 + 0.5, 0, 1) * 255))


def test_decode__a_lut_of_bytes_or_below_zero() -> None:
    packed = lut_item(0, [0] * 256, 8)
    packed.LUTData = bytes(range(256))
    greys = (ROWS * 50 + COLUMNS) % 256
    inverse = lut_item(0, [0] * 256, 8)
    inverse.LUTData = bytes(range(255, -1, -1))
    np.testing.assert_array_equal(pixels(dicom(greys.astype("u1"), VOILUTSequence=[packed])), greys)
    np.testing.assert_array_equal(pixels(dicom(greys.astype("u1"), VOILUTSequence=[inverse])), 255 - greys)
    below = lut_item(-128, list(range(0, 65_536, 257)), 16)
    np.testing.assert_array_equal(pixels(dicom((greys - 128).astype("i1"), VOILUTSequence=[below])), greys)
    unsigned = lut_item(65_408, list(range(0, 65_536, 257)), 16)  # the same, as some writers have it
    data = dicom(greys.astype("u1"), RescaleSlope=1, RescaleIntercept=-128, VOILUTSequence=[unsigned])
    np.testing.assert_array_equal(pixels(data), greys)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("by", ["", "image", "percentile:10:90"])
@pytest.mark.parametrize("large", [False, True])
def test_decode__padding_is_black_and_counts_for_nothing(photometric: str, by: str, large: bool) -> None:
    stored = np.tile(RAMP, (7, 6) if large else (1, 1)).astype(np.int16) - 1000
    stored[:, :9] = -2000
    stored[:3] = -2047
    data = dicom(
        stored,
        BitsStored=11 if by else 16,
        PhotometricInterpretation=photometric,
        PixelPaddingValue=-2000,
        PixelPaddingRangeLimit=-2048,
        RescaleSlope=2,
        RescaleIntercept=7,
    )
    if by:  # values up to 3047 in 11 bits
        with pytest.raises(ImageError, match="beyond the 11 bits that its header says are stored; @range=image"):
            pixels(data)
    is_padding = stored <= -2000
    inner = stored[~is_padding] * 2.0 + 7
    low, high = {
        "": (-65_529.0, 65_541.0),
        "image": (inner.min(), inner.max()),
        "percentile:10:90": tuple(np.percentile(inner, [10, 90])),
    }[by]
    shares = np.clip((stored * 2.0 + 7 - low) / (high - low), 0, 1)
    shares = 1 - shares if photometric == "MONOCHROME1" else shares
    assert_rounded(pixels(data, range=by), np.where(is_padding, 0, shares * 255))


def test_decode__padding_that_headers_write_unsigned_or_beyond_the_stored_bits() -> None:
    stored = RAMP.copy()
    stored[0] = 63_536
    data = dicom(stored, BitsStored=12, PixelPaddingValue=63_536)
    np.testing.assert_array_equal(pixels(data)[0], 0)
    np.testing.assert_array_equal(pixels(data)[1:], np.round(RAMP[1:].astype(float) * 255 / 4095))
    signed = (RAMP.astype(np.int16) - 2000)[1:]
    padded = np.concatenate([np.full((1, 50), -2000, np.int16), signed])
    header = header_of(dicom(padded))
    header.add_new("PixelPaddingValue", "US", 63_536)
    expected = np.round((padded.astype(float) + 32_768) * 255 / 65_535)
    expected[padded == -2000] = 0
    buffer = io.BytesIO()
    header.save_as(buffer)
    np.testing.assert_array_equal(pixels(buffer.getvalue()), expected)


def test_decode__bits_that_are_not_the_lowest_and_overlays_among_them() -> None:
    expected = np.round(RAMP.astype(float) * 255 / 4095)
    np.testing.assert_array_equal(pixels(dicom(RAMP << 4, BitsStored=12, HighBit=15)), expected)
    overlaid = RAMP | ((RAMP % 7 == 0) << 15).astype(np.uint16)
    with pytest.raises(ImageError, match="beyond the 12 bits"):
        pixels(dicom(overlaid, BitsStored=12))
    np.testing.assert_array_equal(pixels(dicom(overlaid, BitsStored=12), range="declared"), expected)
    header = header_of(dicom(overlaid, BitsStored=12))
    header.add_new((0x6000, 0x0010), "US", 40)
    header.add_new((0x6000, 0x0011), "US", 50)
    header.add_new((0x6000, 0x0100), "US", 16)
    header.add_new((0x6000, 0x0102), "US", 15)
    buffer = io.BytesIO()
    header.save_as(buffer)
    np.testing.assert_array_equal(pixels(buffer.getvalue()), expected)
    spread = np.round((RAMP - 0.0) * 255 / RAMP.max())
    np.testing.assert_array_equal(pixels(buffer.getvalue(), range="image"), spread)


@pytest.mark.parametrize("fill", ["zeros", "signs"])
def test_decode__signed_values_with_any_filling(fill: str) -> None:
    signed = RAMP.astype(np.int16) - 2048
    stored = signed & 0xFFF if fill == "zeros" else signed
    data = dicom(stored.astype(np.int16), BitsStored=12)
    np.testing.assert_array_equal(pixels(data), np.round((signed + 2048.0) * 255 / 4095))
    np.testing.assert_array_equal(pixels(data, range="image"), np.round(RAMP * 255.0 / RAMP.max()))


@pytest.mark.parametrize("large", [False, True])
def test_decode__bits_stored_that_lie(large: bool) -> None:
    """A picture of 12 bits whose header says 10."""
    stored = np.tile(RAMP, (7, 6) if large else (1, 1))
    data = dicom(stored, BitsStored=10)
    for by in ("", "dtype", "12bit"):
        with pytest.raises(ImageError, match="@range=image reads all bits, @range=declared the stored ones alone"):
            pixels(data, range=by)
    np.testing.assert_array_equal(pixels(data, range="image"), np.round(stored * 255.0 / stored.max()))
    np.testing.assert_array_equal(pixels(data, range="declared"), np.round(stored % 1024 * 255.0 / 1023))


def test_decode__floating_point() -> None:
    values = (RAMP / 4000.0 - 0.25).astype("f4")
    for dtype in ("f4", "f8"):
        own = np.round((values.astype(dtype) - values.min()) * (255 / (values.max() - values.min())))
        np.testing.assert_array_equal(pixels(dicom(values.astype(dtype))), own)
        window = dicom(values.astype(dtype), WindowCenter=0.25, WindowWidth=0.5, VOILUTFunction="LINEAR_EXACT")
        expected = np.round(np.clip((values.astype(float) - 0.25) / 0.5 + 0.5, 0, 1) * 255)
        np.testing.assert_array_equal(pixels(window), expected)
    holed = values.copy()
    holed[5] = np.nan
    with pytest.raises(ImageError, match="has pixels that are not finite"):
        pixels(dicom(holed))
    padded = pixels(dicom(holed, FloatPixelPaddingValue=np.nan))
    assert not padded[5].any()
    assert (padded.min(), padded.max()) == (0, 255)


def test_decode__integers_of_32_bits() -> None:
    stored = (RAMP.astype(np.uint64) * (2**32 - 1) // RAMP.max()).astype(np.uint32)
    np.testing.assert_array_equal(pixels(dicom(stored)), np.round(stored.astype(float) * 255 / (2**32 - 1)))
    np.testing.assert_array_equal(
        pixels(dicom(stored, uid=ExplicitVRBigEndian)), np.round(stored.astype(float) * 255 / (2**32 - 1))
    )
    signed = (stored.astype(np.int64) - 2**31).astype(np.int32)
    np.testing.assert_array_equal(pixels(dicom(signed)), np.round(stored.astype(float) * 255 / (2**32 - 1)))


@pytest.mark.parametrize(("dtype", "bits"), [("u1", 8), ("u1", 6), ("u2", 16), ("u2", 12), ("u4", 32)])
@pytest.mark.parametrize("planar", [0, 1])
def test_decode__colour_is_scaled_by_the_declared_bits(dtype: str, bits: int, planar: int) -> None:
    most = 2**bits - 1
    colours = np.stack([ROWS * COLUMNS, ROWS * 7, COLUMNS * 3], axis=-1).astype(float)
    stored = np.round(colours / colours.max() * most).astype(np.uint64).astype(dtype)
    laid = stored.transpose(2, 0, 1).reshape(40, 50, 3) if planar else stored
    data = dicom(laid, BitsStored=bits, PlanarConfiguration=planar)
    np.testing.assert_array_equal(pixels(data), np.round(stored.astype(float) * 255 / most))


def test_decode__colour_with_lying_bits_or_no_way_to_rgb() -> None:
    stored = np.full((4, 4, 3), 4000, np.uint16)
    with pytest.raises(ImageError, match="has values beyond the 10 bits"):
        pixels(dicom(stored, BitsStored=10))
    for photometric in ("HSV", "CMYK", "ARGB", "YBR_PARTIAL_420"):
        with pytest.raises(ImageError, match=f"has the PhotometricInterpretation {photometric}, which dvme cannot"):
            pixels(dicom(stored, PhotometricInterpretation=photometric))
    with pytest.raises(ImageError, match="contradicts its PhotometricInterpretation MONOCHROME2"):
        pixels(dicom(stored, PhotometricInterpretation="MONOCHROME2"))


def palette(first: int, reds: list[int], depth: int) -> dict[str, Any]:
    data = np.asarray(reds, dtype="<u2" if depth == 16 else "u1").tobytes()
    found: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        found[f"{colour}PaletteColorLookupTableDescriptor"] = [len(reds) % 65_536, first, depth]
        found[f"{colour}PaletteColorLookupTableData"] = data
    return found


def test_decode__palettes_of_8_and_16_bits() -> None:
    reds = [(7 * i) % 256 for i in range(4096)]
    expected = np.repeat((7 * RAMP.astype(int) % 256)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(pixels(dicom(RAMP, BitsStored=12, **palette(0, reds, 8))), expected)
    high = [red << 8 for red in reds]
    np.testing.assert_array_equal(pixels(dicom(RAMP, BitsStored=12, **palette(0, high, 16))), expected)
    doubled = [red * 257 for red in reds]
    np.testing.assert_array_equal(pixels(dicom(RAMP, BitsStored=12, **palette(0, doubled, 16))), expected)
    some = pixels(dicom(RAMP, BitsStored=12, **palette(1000, [10, 20, 30], 8)))[:, :, 0]
    np.testing.assert_array_equal(some, np.select([RAMP <= 1000, RAMP == 1001], [10, 20], 30))
    broken = palette(0, [1, 2], 16) | {"RedPaletteColorLookupTableDescriptor": [5, 0, 16]}
    with pytest.raises(ImageError, match="has a palette of 5 entries that ends early"):
        pixels(dicom(RAMP, BitsStored=12, **broken))


def marked_the_other_way(original: bytes) -> bytes:
    """The opposite of each value, and the window mirrored, of a MONOCHROME1 picture as MONOCHROME2."""
    header = header_of(original)
    most = 2**header.BitsStored - 1
    header.PixelData = (most - header.pixel_array).tobytes()
    header.PhotometricInterpretation = "MONOCHROME2"
    header.WindowCenter = most - float(header.WindowCenter) + 1
    buffer = io.BytesIO()
    header.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG3_UNCR.dcm"])
def test_decode__the_same_picture_marked_the_other_way(name: str) -> None:
    original = shipped(name).read_bytes()
    np.testing.assert_array_equal(pixels(original), pixels(marked_the_other_way(original)))


@pytest.mark.slow
def test_extract__the_same_picture_marked_the_other_way(tmp_path: Path) -> None:
    original = shipped("RG1_UNCR.dcm").read_bytes()
    (tmp_path / "one.dcm").write_bytes(original)
    (tmp_path / "two.dcm").write_bytes(marked_the_other_way(original))
    (tmp_path / "manifest.csv").write_text("image\none.dcm\ntwo.dcm\n")
    dvme.extract(tmp_path / "manifest.csv", tmp_path / "cache.zarr", backbones=["random"])
    embeddings = EmbeddingCache.open(tmp_path / "cache.zarr").embeddings("random").read(np.arange(2))
    np.testing.assert_array_equal(embeddings[0], embeddings[1])
    assert np.abs(embeddings[0]).max() > 0


def bicubic(picture: NDArray[Any], size: int, axis: int) -> NDArray[Any]:
    """Keys' kernel with a = -1/2, widened by the scale where a picture shrinks, as Pillow documents it."""
    n = picture.shape[axis]
    scale = n / size
    centers = (np.arange(size) + 0.5) * scale
    distance = np.abs((np.arange(n) + 0.5)[None] - centers[:, None]) / max(scale, 1.0)
    weights = np.where(
        distance < 1,
        1.5 * distance**3 - 2.5 * distance**2 + 1,
        np.where(distance < 2, -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2, 0),
    )
    weights /= weights.sum(axis=1, keepdims=True)
    return np.moveaxis(np.tensordot(weights, picture, axes=(1, axis)), 0, axis)


@pytest.mark.parametrize("name", ["RG3_UNCR.dcm", "MR2_UNCR.dcm", "693_UNCR.dcm", "vlut_04.dcm"])
def test_decode__resized_within_one_grey_of_float64(name: str) -> None:
    data = shipped(name).read_bytes()
    preprocess = get_spec("efficientnet-lite0").preprocess
    assert preprocess.interpolation == "bicubic"
    greys = reference(header_of(data))
    rows, columns = (int(preprocess.resize * side / min(greys.shape)) for side in greys.shape)
    across = np.clip(bicubic(greys, columns, 1), 0, 255)  # Pillow has 8 bits in between
    resized = np.clip(bicubic(across, rows, 0), 0, 255)
    left, top = (round((side - preprocess.crop) / 2) for side in (columns, rows))
    expected = resized[top : top + preprocess.crop, left : left + preprocess.crop]
    ours = crop_image(decode(data).image, preprocess)[:, :, 0].astype(float)
    assert np.abs(ours - np.round(expected)).max() <= 1


def frames(n: int) -> bytes:
    stored = np.stack([np.full((40, 50), 10 * i, np.uint8) for i in range(n)])
    return dicom(stored, NumberOfFrames=n)


def test_decode__frames() -> None:
    data = frames(6)
    assert pixels(data).max() == 0
    assert pixels(data, frame="2").max() == 20
    assert pixels(data, frame="middle").max() == 30
    assert pixels(Encoded(data, 5), frame="2").max() == 50
    for image, reading in ((data, "6"), (Encoded(data, 6), "")):
        with pytest.raises(ImageError, match="has 6 frames, 0 to 5; frame 6 is none of them"):
            pixels(image, frame=reading)
    single = dicom(RAMP)
    np.testing.assert_array_equal(pixels(single, frame="middle"), pixels(single))
    with pytest.raises(ImageError, match="has one frame, 0; frame 1 is none of them"):
        pixels(single, frame="1")


def test_decode__only_the_frame_that_is_asked_for_is_decoded() -> None:
    """120 frames of 480 x 640 in colour are 110 MB."""
    data = shipped("color3d_jpeg_baseline.dcm").read_bytes()
    decode(data)
    tracemalloc.start()
    decode(data, reading=Reading(frame="100"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


def test_decode__each_frame_has_its_window() -> None:
    header = header_of(frames(3))
    groups = []
    for i in range(3):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 10 * i, 100, "LINEAR_EXACT"
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    header.PerFrameFunctionalGroupsSequence = groups
    transformed, shared = Dataset(), Dataset()
    transformed.RescaleSlope, transformed.RescaleIntercept = 2, 5
    shared.PixelValueTransformationSequence = [transformed]
    header.SharedFunctionalGroupsSequence = [shared]
    buffer = io.BytesIO()
    header.save_as(buffer)
    for i in range(3):
        expected = round((20 * i + 5 - 10 * i + 50) / 100 * 255)
        assert set(pixels(buffer.getvalue(), frame=str(i)).ravel()) == {expected}


def test_decode__too_many_pixels_are_refused_before_they_are_read() -> None:
    data = dicom(encapsulate([b"\0" * 64]), shape=(60_000, 60_000), uid=RLELossless)
    with pytest.raises(ImageError, match="has 3,600,000,000 pixels, more than 178,956,970; dvme extract --max-pixels"):
        decode(data)
    with pytest.raises(ImageError, match="has 2,000 pixels, more than 1,999"):
        decode(dicom(RAMP), max_pixels=1999)


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"Rows": 0}, "has 0 rows and 50 columns"),
        ({"Rows": 65_535, "Columns": 2000}, "number of bytes of pixel data is less than expected"),
        ({"BitsAllocated": 12, "BitsStored": 12}, "has BitsAllocated 12, which is neither 1 nor 8, 16, 32 or 64"),
        ({"BitsAllocated": 0, "BitsStored": 0}, "has BitsAllocated 0"),
        ({"BitsStored": 20}, "has BitsStored 20 of BitsAllocated 16"),
        ({"HighBit": 3}, "has HighBit 3, which does not fit BitsStored 16 of BitsAllocated 16"),
        ({"PixelRepresentation": 7}, "has PixelRepresentation 7, which is neither 0 nor 1"),
        ({"PhotometricInterpretation": ""}, "has the PhotometricInterpretation of no name"),
        ({"NumberOfFrames": 3}, "number of bytes of pixel data is less than expected"),
    ],
)
def test_decode__headers_that_cannot_be(elements: dict[str, Any], said: str) -> None:
    header = header_of(dicom(RAMP))
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    buffer = io.BytesIO()
    header.save_as(buffer)
    with pytest.raises(ImageError) as error:
        decode(buffer.getvalue())
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("storage", "elements", "said"),
    [
        (EncapsulatedPDFStorage, {}, "holds no pixels: it is a DICOM file of the kind Encapsulated PDF"),
        (BasicTextSRStorage, {}, "holds no pixels: it is a DICOM file of the kind Basic Text SR"),
        (GrayscaleSoftcopyPresentationStateStorage, {}, "of the kind Grayscale Softcopy Presentation State"),
        ("1.2.840.10008.1.3.10", {}, "is a DICOMDIR"),
        (BasicTextSRStorage, {"EncryptedAttributesSequence": [Dataset()]}, "is encrypted, pixels included"),
        (BasicTextSRStorage, {"PixelDataProviderURL": "http://there"}, "has its pixels on a server"),
    ],
)
def test_decode__objects_without_pixels(storage: str, elements: dict[str, Any], said: str) -> None:
    header = header_of(dicom(RAMP))
    del header.PixelData
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = storage
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    buffer = io.BytesIO()
    header.save_as(buffer)
    with pytest.raises(ImageError) as error:
        decode(buffer.getvalue())
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("uid", "said"),
    [
        (
            HTJ2KLossless,
            "(High-Throughput JPEG 2000 Image Compression (Lossless Only)): pip install pylibjpeg pylibjpeg-",
        ),
        (MPEG4HP41, "MPEG-4 AVC/H.264 High Profile / Level 4.1): is a video: save frames of it as images"),
    ],
)
def test_decode__codecs_that_are_not_there(uid: str, said: str) -> None:
    codestream = (
        b"\xff\x4f\xff\x51\0\x29\0\0"
        + b"".join(side.to_bytes(4) for side in (50, 40, 0, 0, 50, 40, 0, 0))
        + b"\0\x01\x0f\x01\x01"
        + bytes(40)
    )
    with pytest.raises(ImageError) as error:
        decode(dicom(encapsulate([codestream]), shape=(40, 50), uid=uid))
    assert said in str(error.value)


@pytest.mark.parametrize("large", [False, True])
def test_decode__few_greys_are_told(large: bool) -> None:
    ramp = np.tile(RAMP, (7, 6) if large else (1, 1))
    narrow = decode(dicom(ramp, BitsStored=12, WindowCenter=2000, WindowWidth=2)).outliers
    n_values = len(np.unique(ramp))
    assert narrow == FewGreys(2, n_values, by_window=True)
    dim = decode(dicom(ramp)).outliers
    assert dim == FewGreys(17, n_values, fits="percentile:0.5:99.5")
    assert decode(dicom(ramp, BitsStored=12)).outliers is None
    assert decode(dicom(ramp), reading=Reading(range="percentile:0.5:99.5")).outliers is None
    assert decode(dicom((ramp > 2000).astype(np.uint8), BitsStored=1)).outliers is None  # a mask has lost nothing
    ramp[0, 0] = 60_000
    outliers = decode(dicom(ramp), reading=Reading(range="image")).outliers
    assert isinstance(outliers, Outliers)
    assert outliers.n_pixels == 1


def test_decode__damaged_files_are_refused_or_read() -> None:
    """Cut, overwritten, shortened; warnings are errors here."""
    files = [path.read_bytes() for path in FILES if path.stat().st_size < 60_000]
    readings = [
        Reading(),
        Reading(range="image"),
        Reading(range="percentile:1:99"),
        Reading(voi="none", frame="middle"),
    ]
    reasons = []
    for seed in range(600):
        generator = random.Random(seed)
        data = bytearray(files[seed % len(files)])
        begins = data.find(b"\x28\0")
        if seed % 4 == 0:
            data = data[: generator.randrange(150, len(data))]
        elif seed % 4 == 3:
            at = generator.randrange(132, len(data))
            del data[at : at + generator.randrange(1, 50)]
        else:
            ends = min(len(data), begins + 400) if seed % 4 == 1 and begins > 0 else len(data)
            for _ in range(generator.choice([1, 3, 20])):
                data[generator.randrange(132, ends)] = generator.choice([0, 255, generator.randrange(256)])
        if not is_dicom(bytes(data)):
            continue
        try:
            assert decode(bytes(data), reading=readings[seed // 4 % 4]).image.mode in ("L", "RGB")
        except ImageError as error:
            reasons.append(str(error))
    assert len(reasons) > 200
    assert all(map(str.isprintable, reasons))


def test_decode__threads_share_one_silence() -> None:
    """A file over which pydicom warns; the filters afterwards are those before."""
    data = shipped("MR_small_padded.dcm").read_bytes()
    with pytest.warns(UserWarning, match="excess padding"):
        _ = header_of(data).pixel_array
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda _: pixels(data), range(40)))
    assert all((image == images[0]).all() for image in images)
    assert list(warnings.filters) == before


def test_thumbnails__of_dicom_files(tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(dicom(RAMP, BitsStored=12))
    ids = np.frombuffer(content_id((tmp_path / "scan.dcm").read_bytes()), np.uint8).reshape(1, 16)
    shown = thumbnails([str(tmp_path / "scan.dcm")], ids, kept=Kept(tmp_path / "kept"))
    assert shown is not None
    assert not len(shown.missing)
    (tmp_path / "sheet.webp").write_bytes(shown.sheets[0])
    with Image.open(tmp_path / "sheet.webp") as sheet:
        assert max(np.asarray(sheet.convert("L"))[:96, :96].ravel()) > 200


def test_decode_dicom__a_file_is_read_once_for_all_of_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (40, 9, 7), dtype=np.uint8)
    one, other = (
        dicom(frames, NumberOfFrames=40, BitsAllocated=8),
        dicom(frames[::-1], NumberOfFrames=40, BitsAllocated=8),
    )
    read: list[int] = []
    parse = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *given, **options: read.append(1) or parse(*given, **options))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda at: np.asarray(decode(Encoded(one, at)).image), range(40)))
    assert np.array_equal(found, frames)
    assert len(read) == 1
    assert np.array_equal(decode(Encoded(other, 0)).image, frames[-1])
    assert np.array_equal(decode(Encoded(one, 1)).image, frames[1])
    assert len(read) == 3


@pytest.mark.parametrize(
    "keyword", ["WindowCenter", "RescaleSlope", "NumberOfFrames", "PhotometricInterpretation", "VOILUTFunction"]
)
def test_decode_dicom__no_reason_tells_a_name_that_damage_put_elsewhere(keyword: str) -> None:
    """Reasons are kept in the cache."""
    whole = dicom(np.zeros((9, 7), np.uint16), PatientName="Doe^Jane", WindowCenter="1", WindowWidth="9")
    tag, own = struct.pack("<HH", 0x10, 0x10), struct.pack("<HH", *divmod(tag_for_keyword(keyword) or 0, 1 << 16))
    assert whole.count(tag + b"PN") == 1
    vr = dictionary_VR(keyword).encode()
    damaged = whole.replace(own + vr, struct.pack("<HH", 0x29, 0x99) + vr).replace(tag + b"PN", own + vr)
    with pytest.raises(ImageError, match=keyword) as caught:
        decode(damaged)
    assert not {"DOE", "JANE"} & set(re.findall("[A-Z]+", str(caught.value).upper()))
