"""DICOM files with pixels of one's own, and those that come with pydicom and pydicom-data."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import data_store
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
LARGER = Path(next(iter(data_store.__path__))) / "data"


def shipped(name: str) -> Path:
    """A file of pydicom-data, or of pydicom."""
    return next(path for path in (LARGER / name, SHIPPED / name) if path.is_file())


def header_of(data: bytes) -> FileDataset:
    """What pydicom reads."""
    return pydicom.dcmread(io.BytesIO(data), force=True)


def dicom(
    pixels: NDArray[Any] | bytes, shape: tuple[int, ...] = (), uid: str = ExplicitVRLittleEndian, **elements: Any
) -> bytes:
    """A file of grey or RGB pixels, of all bits of their type unless elements say otherwise.

    Args:
        pixels: (H, W), (H, W, 3), or such with frames before it where there are NumberOfFrames; or encapsulated bytes.
        shape: rows, columns and, for colour, samples of encapsulated bytes.
        uid: transfer syntax.
        elements: by keyword.
    """
    is_big = uid == ExplicitVRBigEndian
    frames = 1 if "NumberOfFrames" in elements else 0
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = uid
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = SecondaryCaptureImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = "1.2.3"
    if isinstance(pixels, np.ndarray):
        shape = pixels.shape[frames:]
        dtype = pixels.dtype
        content = pixels.astype(dtype.newbyteorder(">" if is_big else "<")).tobytes()
    else:
        dtype, content = np.dtype("u2" if elements.get("BitsAllocated", 16) == 16 else "u1"), pixels
    bits = dtype.itemsize * 8
    header.Rows, header.Columns = shape[0], shape[1]
    header.SamplesPerPixel = 3 if len(shape) == 3 else 1
    header.PhotometricInterpretation = "RGB" if len(shape) == 3 else "MONOCHROME2"
    if len(shape) == 3:
        header.PlanarConfiguration = 0
    if dtype.kind != "f":
        header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
        header.PixelRepresentation = int(dtype.kind == "i")
    else:
        header.BitsAllocated = bits
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    if "BitsStored" in elements and "HighBit" not in elements:
        header.HighBit = elements["BitsStored"] - 1
    keyword = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}.get(dtype.str[1:], "PixelData")
    setattr(header, keyword, content + b"\0" * (len(content) % 2))
    if keyword == "PixelData":
        header["PixelData"].VR = "OW" if bits > 8 else "OB"
        header["PixelData"].is_undefined_length = header.file_meta.TransferSyntaxUID.is_encapsulated
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, header, enforce_file_format=True)
    return buffer.getvalue()


def lut_item(first: int, entries: list[int], depth: int) -> Dataset:
    """An item of a sequence of modality or VOI LUTs."""
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65_536, first, depth]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = np.asarray(entries, dtype="<u2").tobytes()
    item["LUTData"].VR = "OW"
    return item


def in_jpeg_lossless(data: bytes, folder: Path) -> bytes:
    """An uncompressed file as JPEG lossless, by GDCM."""
    import gdcm

    source, target = os.fspath(folder / "plain.dcm"), os.fspath(folder / "lossless.dcm")
    Path(source).write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(source)
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(target)
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return Path(target).read_bytes()
