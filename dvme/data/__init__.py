"""Images in: folders, manifests, decoding, and the task that their labels define."""

from __future__ import annotations

from pathlib import Path

from dvme.arguments import public
from dvme.data.folder import folder_samples
from dvme.data.images import DECODING, decode_image
from dvme.data.manifest import MANIFEST_SUFFIXES, Columns, manifest_samples
from dvme.data.samples import MISSING, Samples
from dvme.data.task import Task
from dvme.errors import DataError

__all__ = [
    "DECODING",
    "MISSING",
    "Columns",
    "Samples",
    "Task",
    "decode_image",
    "folder_samples",
    "load_samples",
    "manifest_samples",
]


@public
def load_samples(images: str | Path, columns: Columns | None = None, image_root: str | Path | None = None) -> Samples:
    """List the images of a folder or a manifest.

    Args:
        images: a folder (root/class/img, root/split/class/img, or flat), or a .csv, .tsv or .parquet file.
        columns: a manifest's columns.
        image_root: where a manifest's relative paths start; its own folder by default.

    Raises:
        DataError: if nothing is there, or it cannot be used as it is.
    """
    path = Path(images)
    if not path.exists():
        raise DataError(f"{path} does not exist; name a folder of images or a manifest file")
    if path.is_file():
        if path.suffix.lower() not in MANIFEST_SUFFIXES:
            raise DataError(f"{path} is not a manifest; give a folder or a file of {', '.join(MANIFEST_SUFFIXES)}")
        return manifest_samples(path, columns or Columns(), None if image_root is None else Path(image_root))
    given = [name for name in ("image", "label", "split", "group") if getattr(columns, name, None)]
    if given:
        raise DataError(f"{path} is a folder, --{given[0]}-col needs a manifest file; give a .csv, .tsv or .parquet")
    if image_root is not None:
        raise DataError(f"{path} is a folder, --image-root needs a manifest file; leave it out")
    return folder_samples(path)
