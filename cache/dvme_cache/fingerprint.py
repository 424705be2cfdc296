"""Everything that changes an embedding's numbers, and nothing that does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BY_KIND = "decoding."
"""What the names of fields begin with that say how files of one kind are read, such as `decoding.dicom`."""


@dataclass(frozen=True)
class Fingerprint:
    """A flat description of how embeddings were made: weights, architecture, preprocessing, dtype, ...

    Values are JSON scalars or lists of them. Device, batch size and worker count do not belong here:
    a key that is too loose serves stale rows, one that is too tight recomputes everything.

    A field of `BY_KIND` is there only where a file of that kind was read. Where one of two fingerprints lacks it, the
    two do not differ in it, and the digest leaves it out.
    """

    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Bring the values into the form they have after a round trip through JSON."""
        object.__setattr__(self, "fields", json.loads(json.dumps(dict(self.fields), sort_keys=True)))

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that differ whenever any field differs, but for those of `BY_KIND`."""
        fields = {name: value for name, value in self.fields.items() if not name.startswith(BY_KIND)}
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()

    def differences(self, other: Fingerprint) -> list[tuple[str, Any, Any]]:
        """(field, own value, other's value) for every field that differs; None where a field is absent."""
        in_both = self.fields.keys() & other.fields.keys()
        in_one = {name for name in self.fields.keys() ^ other.fields.keys() if not name.startswith(BY_KIND)}
        return [
            (name, self.fields.get(name), other.fields.get(name))
            for name in sorted(in_both | in_one)
            if self._canonical(name) != other._canonical(name)
        ]

    def with_fields(self, fields: Mapping[str, Any]) -> Fingerprint:
        """The same with further fields."""
        return Fingerprint({**self.fields, **fields})

    def _canonical(self, name: str) -> str | None:
        """A field as JSON, in which 1, 1.0 and true differ; None where it is absent."""
        return json.dumps(self.fields[name], sort_keys=True) if name in self.fields else None
