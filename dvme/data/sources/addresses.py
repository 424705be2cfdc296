"""The address of an image in a container is FILE/MEMBER, that of a frame FILE/frame=N or FILE/MEMBER/frame=N."""

from __future__ import annotations

import os
from pathlib import Path

from dvme.data.dicom.names import frame_of


def file_and_member(address: Path) -> tuple[Path, str] | None:
    """The file that an address begins with, and the rest; None where no part of the path is a file."""
    if os.path.exists(address):  # noqa: PTH110 - Path's own fails for what is no name
        return None
    for parent in address.parents:
        if os.path.isfile(parent):  # noqa: PTH113 - as above
            return parent, address.relative_to(parent).as_posix()
        if os.path.isdir(parent):  # noqa: PTH112 - as above
            return None
    return None


def container_and_member(address: Path) -> tuple[Path, str] | None:
    """The container and the member of an address; None where no part of the path is a file.

    A frame's container is the address of its file, which may be a member itself.
    """
    found = file_and_member(address)
    return (address.parent, address.name) if found and frame_of(address.name) is not None else found


def file_of(address: Path | str) -> Path:
    """The file in which the bytes of an image lie: itself, or its container."""
    found = file_and_member(Path(address))
    return Path(address) if found is None else found[0]
