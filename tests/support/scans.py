"""Small DICOM files, as pydicom writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

NAME, BIRTH = "Doe^Jane", "19600229"
HEIGHT, WIDTH = 24, 32


def write_scan(path: Path, patient: str | None = "P1", *, seed: int = 0, level: int = 0, **elements: Any) -> Path:
    """A grey picture of 12 bits, of noise whose brightness depends on `level`; further elements by keyword."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = DigitalXRayImageStorageForPresentation
    header.SOPInstanceUID = f"1.2.826.0.1.{seed}"
    header.PatientName, header.PatientBirthDate = NAME, BIRTH
    header.StudyInstanceUID, header.SeriesInstanceUID = f"1.2.826.0.2.{seed}", f"1.2.826.0.3.{seed}"
    header.Modality = "DX"
    if patient is not None:
        header.PatientID = patient
    header.Rows, header.Columns, header.SamplesPerPixel = HEIGHT, WIDTH, 1
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.PhotometricInterpretation = "MONOCHROME2"
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    shape = (int(elements.get("NumberOfFrames", 1)), HEIGHT, WIDTH)
    pixels = np.random.default_rng(seed).integers(0, 1500, shape) + 1200 * level
    header.PixelData = pixels.astype("<u2").tobytes()
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def write_patients(root: Path, n_patients: int = 20) -> Path:
    """Two images of each patient, in the folder of the patient's class; without suffixes, as on a hospital's disc."""
    for image in range(2 * n_patients):
        patient = image // 2
        kind = ("benign", "malignant")[patient % 2]
        elements = {
            "ViewPosition": ("PA", "AP")[image % 2],
            "PatientSex": "FM"[patient % 3 == 0],
            "PatientAge": f"{30 + patient:03d}Y",
            "Manufacturer": ("Acme", "Bolt")[patient // 2 % 2],
        }
        place = root / kind / f"IM{image:04d}"
        write_scan(place, f"H{patient:03d}", seed=image, level=patient % 2, **elements)
    return root
