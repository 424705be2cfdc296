"""Where images come from: plain files, and files that hold many. The address of an image in one is FILE/MEMBER."""

from __future__ import annotations

import os
from errno import EINVAL
from pathlib import Path

from dvme.data.encoded import Encoded
from dvme.data.listing import file_bytes
from dvme.data.sources.addresses import container_and_member, file_of
from dvme.data.sources.kinds import container_suffixes, holds_images, is_archive, source_of_file, source_of_folder
from dvme.data.sources.open_containers import in_open, opened

__all__ = [
    "container_suffixes",
    "file_of",
    "holds_images",
    "is_archive",
    "is_there",
    "opened",
    "read_image",
    "source_of_file",
    "source_of_folder",
]


def read_image(address: Path | str) -> Encoded:
    """An image by its address: the bytes of a file, or those of a container's member.

    Raises:
        OSError: if nothing is there, or it cannot be read.
    """
    found = in_open(address)
    if found is None:
        try:
            return Encoded(file_bytes(Path(address)))
        except (FileNotFoundError, NotADirectoryError):
            found = container_and_member(Path(address))
            if found is None:
                raise
        except ValueError as error:  # a path that no file can have
            raise OSError(EINVAL, str(error)) from error
    container, member = found
    with opened(container, member) as members:
        return members.read(member)


def is_there(address: Path | str) -> bool:
    """Whether an image is at an address: a file, or a container that has the member.

    In a container that cannot be read it is there, as one in a folder that cannot be: what is wrong is said by reading.
    """
    found = in_open(address)
    if found is None:
        if os.path.isfile(address):  # noqa: PTH113 - Path's own fails for what is no name
            return True
        found = container_and_member(Path(address))
    if found is None or source_of_file(file_of(found[0])) is None:
        return False
    try:
        with opened(*found) as members:
            return members.holds(found[1])
    except OSError:
        return True
