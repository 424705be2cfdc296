"""Archives that are compressed as a whole. They are not read: each image would need everything before it unpacked."""

from __future__ import annotations

from pathlib import Path

from dvme.errors import DataError

UNPACKED_BY = {
    **dict.fromkeys((".tar.gz", ".tgz"), "gunzip"),
    **dict.fromkeys((".tar.bz2", ".tbz2"), "bunzip2"),
    **dict.fromkeys((".tar.xz", ".txz"), "unxz"),
    **dict.fromkeys((".tar.zst", ".tzst"), "unzstd"),
}
"""Endings of archives that are compressed as a whole, to the program that makes a .tar of one."""


def refuse_compressed(path: Path) -> None:
    """Refuse an archive that is compressed as a whole.

    Raises:
        DataError: with the command that makes a .tar of it.
    """
    ending = next((ending for ending in UNPACKED_BY if path.name.lower().endswith(ending)), None)
    if ending is not None:
        plain, program = path.name[: -len(ending)] + ".tar", UNPACKED_BY[ending]
        raise DataError(
            f"{path} is compressed as a whole, so that no image in it can be reached without all before it; "
            f"{program} {path.name} makes {plain} of it, give that"
        )
