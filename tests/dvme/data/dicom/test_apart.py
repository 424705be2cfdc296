"""Codecs in processes of their own: what brings one down is one image's failure."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from dicom_files import header_of, shipped
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_voi_lut

from dvme.data import decode
from dvme.data.dicom import apart
from dvme.errors import ImageError

LOSSLESS = "JPGLosslessP14SV1_1s_1f_8b.dcm"
PRECISION = 77
"""Bytes from the start of its codestream; of 255 bits GDCM ends its process."""


def greys_of(data: bytes) -> NDArray[Any]:
    """By pydicom in this process."""
    header = header_of(data)
    return np.round(apply_voi_lut(header.pixel_array, header)).astype(np.uint8)


def with_byte(at: int, value: int) -> bytes:
    data = bytearray(shipped(LOSSLESS).read_bytes())
    data[data.find(b"\xff\xd8\xff") + at] = value
    return bytes(data)


def test_decoded_apart__a_file_that_brings_the_codec_down() -> None:
    broken, whole = with_byte(PRECISION, 255), shipped(LOSSLESS).read_bytes()
    script = "import io, sys, pydicom; pydicom.dcmread(io.BytesIO(sys.stdin.buffer.read())).pixel_array"
    alone = subprocess.run([sys.executable, "-c", script], input=broken, capture_output=True, check=False)
    assert alone.returncode < 0  # by a signal
    expected = greys_of(whole)
    for _ in range(2):
        with pytest.raises(ImageError, match="is damaged so that it brings gdcm down"):
            decode(broken)
        np.testing.assert_array_equal(np.asarray(decode(whole).image), expected)


def test_decoded_apart__damage_that_gdcm_only_mutters_about(capfd: pytest.CaptureFixture[str]) -> None:
    data = with_byte(97, 1)
    assert header_of(data).pixel_array.shape == (768, 1024)  # pydicom takes it
    capfd.readouterr()
    with pytest.raises(ImageError, match="Corrupt JPEG data: premature end of data segment"):
        decode(data)
    assert capfd.readouterr() == ("", "")


def test_decoded_apart__threads_have_a_process_each() -> None:
    whole, broken = shipped(LOSSLESS).read_bytes(), with_byte(PRECISION, 255)
    expected = greys_of(whole)

    def is_right(i: int) -> bool:
        if i % 5:
            return bool((np.asarray(decode(whole).image) == expected).all())
        with pytest.raises(ImageError):
            decode(broken)
        return True

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(is_right, range(10)))


def test_decoded_apart__a_codec_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 0.001)
    with pytest.raises(ImageError, match="brings gdcm down"):
        decode(shipped("RG1_J2KR.dcm").read_bytes().replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.70"))


ABSENT = """
import sys
sys.modules[{name!r}] = None
from dvme.data import decode
from dvme.errors import ImageError
try:
    decode(open({path!r}, "rb").read())
except ImageError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pydicom", "is a DICOM file, for which dvme needs pydicom 3 or newer: pip install 'dvme[dicom]'\n"),
        ("gdcm", "[Selection Value 1])): pip install 'dvme[dicom]' brings python-gdcm, which reads it\n"),
    ],
)
def test_decode__without_a_package(name: str, said: str) -> None:
    script = ABSENT.format(name=name, path=str(shipped(LOSSLESS)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(said)
    assert done.stdout.count("\n") == 1
    assert not done.stderr
