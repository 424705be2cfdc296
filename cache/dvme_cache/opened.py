"""Embeddings that were opened, kept for as long as they are the ones on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dvme_cache.embeddings import Embeddings
from dvme_cache.layout import METADATA
from dvme_cache.parallel import each
from dvme_cache.protocol import Files


class OpenedEmbeddings:
    """Embeddings by backbone, so that their metadata are read once.

    Whoever adds or removes a backbone replaces the one file that lists them. So what was opened since that file came
    into place is what lies on disk. What a backbone has of each row is not kept by this: `Embeddings` looks it up.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._kept: dict[str, tuple[object, Embeddings]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Another process, perhaps on another machine, opens what it needs itself."""
        return {"_files": self._files, "_kept": {}}

    def get(self, backbone: str, n_rows: int, open_: Callable[[str], Embeddings]) -> Embeddings:
        """A backbone's embeddings of N samples: those that were opened, unless a backbone came or went since."""
        stamp = self._files.stamp(f"embeddings/{METADATA}")  # first: what is opened next is at least as new
        opened_at, found = self._kept.get(backbone, (None, None))
        if found is None or stamp is None or stamp != opened_at or found.n_rows != n_rows:
            found = open_(backbone)
            self._kept[backbone] = stamp, found
        return found

    def get_all(self, backbones: Sequence[str], n_rows: int, open_: Callable[[str], Embeddings]) -> list[Embeddings]:
        """The same of several backbones, opened at a time where answers take long."""
        return each(lambda name: self.get(name, n_rows, open_), backbones, self._files.n_readers)

    def forget(self) -> None:
        """Open everything anew."""
        self._kept = {}
