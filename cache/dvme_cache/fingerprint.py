"""Everything that changes an embedding's numbers, and nothing that does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fingerprint:
    """A flat description of how embeddings were made: weights, architecture, preprocessing, dtype, ...

    Values are JSON scalars or lists of them. Device, batch size and worker count do not belong here:
    a key that is too loose serves stale rows, one that is too tight recomputes everything.
    """

    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Bring the values into the form they have after a round trip through JSON."""
        object.__setattr__(self, "fields", json.loads(json.dumps(dict(self.fields), sort_keys=True)))

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that differ whenever any field differs."""
        canonical = json.dumps(self.fields, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()

    def differences(self, other: Fingerprint) -> list[tuple[str, Any, Any]]:
        """(field, own value, other's value) for every field that differs; None where a field is absent."""
        names = sorted(set(self.fields) | set(other.fields))
        return [
            (name, self.fields.get(name), other.fields.get(name))
            for name in names
            if self._canonical(name) != other._canonical(name)
        ]

    def _canonical(self, name: str) -> str | None:
        """A field as JSON, in which 1, 1.0 and true differ; None where it is absent."""
        return json.dumps(self.fields[name], sort_keys=True) if name in self.fields else None
