"""`dvme cache …`: verify, repair, label, prune a cache, and take embeddings out and in."""

from __future__ import annotations

from dvme.cache.export import ExportReport, export
from dvme.cache.import_ import ImportReport, import_embeddings
from dvme.cache.label import LabelReport, label
from dvme.cache.prune import PruneReport, prune
from dvme.cache.verify import RepairReport, VerifyReport, repair, verify

__all__ = [
    "ExportReport",
    "ImportReport",
    "LabelReport",
    "PruneReport",
    "RepairReport",
    "VerifyReport",
    "export",
    "import_embeddings",
    "label",
    "prune",
    "repair",
    "verify",
]
