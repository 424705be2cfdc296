"""Which views of images a saved head learned from, and whether it is to be asked about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dvme_cache import Fingerprint


@dataclass(frozen=True)
class SavedViews:
    """The further views of a study, beside the plain one that `SavedHead` has anyway."""

    is_averaged: bool
    """Whether predictions are means over all views. Else they are of the plain one."""
    names: tuple[tuple[str, ...], ...]
    """Of each view, what the cache called each backbone's embeddings."""
    fingerprints: tuple[tuple[Fingerprint, ...], ...]
    """Of these embeddings."""

    def described(self) -> dict[str, Any]:
        """JSON values of it."""
        by_view = [
            [{"name": name, "fingerprint": dict(own.fields)} for name, own in zip(names, fingerprints, strict=True)]
            for names, fingerprints in zip(self.names, self.fingerprints, strict=True)
        ]
        return {"is_averaged": self.is_averaged, "further": by_view}

    @classmethod
    def restored(cls, described: Mapping[str, Any]) -> SavedViews:
        """What `described` gave these values."""
        by_view = described["further"]
        return cls(
            is_averaged=bool(described["is_averaged"]),
            names=tuple(tuple(str(own["name"]) for own in view) for view in by_view),
            fingerprints=tuple(tuple(Fingerprint(own["fingerprint"]) for own in view) for view in by_view),
        )
