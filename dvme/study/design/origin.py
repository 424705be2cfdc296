"""What a run keeps of where its backbones come from, so that a paper can be written when their cache is gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OF_ALL = ("licence", "paper", "versions")
"""Entries of the provenance of embeddings."""
OF_SPEC = ("method", "remark", "adapted_from", "source")
"""Fields of the backbone's description, which the provenance has as well."""
OF_IMPORT = ("file", "digest", "made_by", "like")
"""What is kept of an import, and never the notes of its maker."""


def origin_kept(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Of the provenance of embeddings what tells how they were made; {} where nothing does."""
    spec = provenance.get("spec") or {}
    imported = provenance.get("imported")
    of_import = imported if isinstance(imported, Mapping) else {}
    found = {name: provenance[name] for name in OF_ALL if provenance.get(name)}
    found |= {name: spec[name] for name in OF_SPEC if spec.get(name)}
    of_import = {name: of_import[name] for name in OF_IMPORT if of_import.get(name)}
    return found | ({"imported": of_import} if of_import else {})
