"""`dvme cache …`: verify, repair, label, prune a cache, and take embeddings out and in."""

from __future__ import annotations

from dvme.upkeep.export import ExportReport, export
from dvme.upkeep.import_ import ImportReport, import_embeddings
from dvme.upkeep.label import LabelReport, label
from dvme.upkeep.prune import PruneReport, prune
from dvme.upkeep.verify import RepairReport, VerifyReport, repair, verify

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
