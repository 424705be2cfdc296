"""What is asked of the place where a cache's bytes lie: whole files in, byte ranges out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Run = tuple[int, memoryview]
"""Where in a file to read, and the buffer to fill."""


class Files(Protocol):
    """Files by key, such as `samples/zarr.json`. A write is durable and whole, or it raises and changes nothing.

    Several threads may read and write at a time, but for two that write one file.
    """

    n_readers: int
    """Files to be read at a time; 1 where waiting for one is no time to speak of."""
    n_writers: int
    """Shards to be committed at a time."""

    def read(self, key: str) -> bytes | None:
        """The whole file, or None where there is none."""

    def read_into(self, key: str, runs: Sequence[Run]) -> None:
        """Fill every buffer from its place in the file.

        Raises:
            FileNotFoundError: there is no such file.
            EOFError: the file ends before a buffer is full.
        """

    def write(self, key: str, parts: Sequence[memoryview | bytes]) -> None:
        """Replace a file by the concatenation of the parts."""

    def delete(self, key: str) -> None:
        """Remove a file, if it is there."""

    def delete_tree(self, prefix: str) -> None:
        """Remove every file below a folder."""

    def stamp(self, key: str) -> object:
        """What is another once a file is replaced, compared by ==; None where there is no file. Nothing is read."""

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Key to bytes, of every file below a folder."""

    def names(self, prefix: str) -> list[str]:
        """Names of the files and folders right below a folder."""
