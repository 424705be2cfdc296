"""What each extra is for, and which of their packages are missing here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dvme.requirements import Requirement, command_of, extras, of_extra

PURPOSES = {
    "report": "pages and figures: dvme report",
    "maps": "maps of embeddings by t-SNE and UMAP: dvme viz",
    "figures": "figures as files, by Chromium or Chrome: --figures",
    "notebook": "maps, figures and bars in a notebook",
    "dicom": "DICOM files",
    "excel": "manifests as Excel workbooks",
    "convert": "HDF5 files: dvme cache export, dvme cache import",
    "remote": "caches in object stores, s3://...",
    "segment": "U-Nets on masks: --head unet",
    "adapt": "further pretraining on your images: dvme adapt",
    "ray": "workers on a cluster: --engine ray",
    "gpu": "nearest neighbours on NVIDIA GPUs: --head knn",
    "demo": "the photographs and the weights of dvme demo",
}
"""In the order in which they are told."""


@dataclass(frozen=True)
class Extra:
    """One extra of this installation."""

    name: str
    purpose: str
    missing: list[str]
    """Packages that are not here, or too old, as a requirement has them: `pydicom>=3`."""
    command: str
    """That brings it."""

    @property
    def is_here(self) -> bool:
        """Whether all of it is."""
        return not self.missing


def extras_here(known: Sequence[Requirement]) -> list[Extra]:
    """All that there are; [] where dvme is not installed.

    Args:
        known: all requirements.
    """
    order = [*PURPOSES]
    found = []
    for name in sorted(extras(), key=lambda each: order.index(each) if each in order else len(order)):
        missing = [each.written for each in of_extra(name, known) if not each.is_met]
        found.append(Extra(name, PURPOSES.get(name, ""), list(dict.fromkeys(missing)), command_of(name)))
    return found
