"""What is asked of a file that holds many images. A kind of such files is a module with one `Source`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from dvme.data.columns import Columns
from dvme.data.encoded import Encoded
from dvme.data.samples import Samples


class Members(Protocol):
    """A container that is open for reading, by any number of threads at a time."""

    def read(self, member: str) -> Encoded:
        """The image of a name, as it stands behind the container's path in an address.

        Raises:
            OSError: if it is not there, or cannot be read.
        """

    def holds(self, member: str) -> bool:
        """Whether there is an image of this name; its bytes are not looked at."""

    def close(self) -> None:
        """Let go of the file."""


class Source(Protocol):
    """A kind of container."""

    called: str
    """Such as `a zip archive`, for messages."""
    suffixes: tuple[str, ...]
    """Of files that are taken for such, in lower case."""

    def finds(self, place: Path) -> bool:
        """Whether a folder is one source of this kind as a whole, such as one of tar shards."""

    def list(self, place: Path, columns: Columns, *, images_only: bool) -> Samples:
        """The images of such a file or folder, each by its address, and what the source tells of them.

        Args:
            place: a file of one of the suffixes, or a folder that `finds` has found.
            columns: the columns that the user names.
            images_only: labels, splits, groups and further columns are not looked at.

        Raises:
            DataError: if it cannot be used as it is.
        """

    def open(self, container: Path) -> Members:
        """Open a container.

        Raises:
            OSError: if it cannot be read, or is none.
        """


@runtime_checkable
class Mixed(Protocol):
    """A kind of container whose suffix other files have as well."""

    def holds_images(self, file: Path) -> bool:
        """Whether a file of the suffix holds images, by a look at what it lists; False if it cannot be read."""
