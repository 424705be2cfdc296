"""Images in: folders, manifests, decoding, and the task that their labels define.

Identity. A row is an image's content. Moved files are found again, and copies are stored once. A file whose content
changed is a new row; the old row loses its label, as its embedding is no longer of that file. Where copies disagree on
label, split, group or mask, nobody knows which is right: the row keeps none of them and takes no part in training or
testing, and the run says so. If a source has no such column, the cache keeps its values. An empty cell of a column that
is there deletes the value.

Hashing. `extract`, its plan, `predict`, `prune` and `import` read every file of a run once to identify it (`hashing`).
`extract` keeps the bytes that it will decode (`spool`), so what is embedded is what was identified. What does not fit
is read and hashed again: memory stays flat however many images come. Size and time do not prove that a file is the
same: tools that copy set the time, network shares round it, and uncompressed images of one device all have one size. So
they vouch for a file only where a run asks for it (`stamps`). `prune` erases by hash, and always reads. An image that
was vouched for wrongly is noticed when it is decoded: its row stays pending, and its stamp goes.

Order of classes (`order`). The user's order is the attribute `class_order` of the cache. It is written together with
the columns, so labels and their order never disagree: labels that the order lacks are refused. It may name classes
without an image. A dvme that does not know the attribute drops it when it writes labels; then there is no order, and
nothing is judged by one.

Several findings are one text in the column `label` (`findings`). So tables, export, verification and copies know
nothing new, and a cache keeps what the readers said. What an uncertain cell teaches is a policy of the study
(`uncertainty`), part of the subset file and of its hash. Heads learn from `Targets.learned`; they are chosen and judged
on `Targets.values`. Means are over the findings that `FEWEST` test images or patients have, and have not. All others
are unknown to every score of a study, so that no row or column of a table is a mean over other findings.

Pixels are right, or refused. Pillow's mode leaves out what a TIFF says of byte order, sign and the white end of its
scale; `tiff` reads those tags, `depth` the depth of other formats. What lies beside the pixels never costs them: an
orientation that cannot be read is none, and a file that cannot be opened is tried again without its ancillary parts
(`ancillary`). Truncated pixels stay a failure. Pillow's settings belong to the whole process, so none is changed; its
limit on size is passed by, and `max_pixels` is compared in its place.

Deep grey. `grey` turns a range into two ends, `declared` asks the file for them, `stretch` maps the values. Values of
16 bits go through a table of all 65,536 numbers, which gives the bits of the formula in float64. A handful of pixels
sets a range where 99.9 % of the pixels span less than half of it. So it is in none of 1,935 chest X-rays, and in each
of them once one pixel of 65,535 stands beside 12 bits. A scale is taken from the file as it is, even where its pixels
are read without ancillary parts. A deep picture that is resized in 8 bits is within 1.5 greys of one in float64 that is
rounded nowhere and within 1 of it rounded, if it shrinks, and within 1.7 if it grows. There each of the two passes
clips: at an edge to the darkest or brightest grey the overshoot of bicubic and lanczos is lost between the passes, 12
greys, as in every JPEG.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from dvme.arguments import public
from dvme.data.columns import COLUMN, Columns
from dvme.data.dicom.rows import with_headers
from dvme.data.folder import folder_samples
from dvme.data.images import DECODING, decode, decode_image
from dvme.data.listing import NOT_A_FILE, why
from dvme.data.manifest import manifest_samples, table_samples
from dvme.data.samples import MISSING, Samples
from dvme.data.sources import container_suffixes, holds_images, source_of_file, source_of_folder
from dvme.data.sources.compressed import refuse_compressed
from dvme.data.sources.protocol import Source
from dvme.data.spelling import check_spelling
from dvme.data.stretch import Outliers
from dvme.data.tables import TABLE_SUFFIXES, TABLES, Table, check_table_name, is_packed_name, is_table_name, table_file
from dvme.data.task import Task
from dvme.errors import DataError, parameter
from dvme.runtime import Progress, silent

__all__ = [
    "DECODING",
    "MISSING",
    "Columns",
    "Outliers",
    "Samples",
    "Task",
    "decode",
    "decode_image",
    "load_samples",
    "samples_at",
    "samples_of",
]


@public
def load_samples(
    images: str | Path,
    columns: Columns | None = None,
    image_root: str | Path | None = None,
    *,
    skip_missing: bool = False,
    images_only: bool = False,
) -> Samples:
    """List the images of a folder or a manifest.

    Args:
        images: a folder (root/class/img, root/split/class/img, or flat), a table (.csv, .tsv, .jsonl, .parquet, .xlsx;
            BOOK.xlsx/SHEET is one of several sheets), or a file or folder that holds many images
            (`dvme.data.sources`).
        columns: a manifest's columns.
        image_root: where a manifest's relative paths start; its own folder by default.
        skip_missing: leave images out that a manifest names and that are not there.
        images_only: labels, splits, groups and further columns are not looked at, and so refuse nothing.

    Raises:
        DataError: if nothing is there, or it cannot be used as it is.

    Example:
        >>> samples = dvme.load_samples("images")
        >>> len(samples), samples.labels[0]
        (40, 'dark')
    """
    chosen = columns or Columns()
    return samples_at(images, chosen, image_root, skip_missing=skip_missing, images_only=images_only)


def samples_at(
    images: str | Path,
    columns: Columns,
    image_root: str | Path | None = None,
    *,
    skip_missing: bool = False,
    images_only: bool = False,
    progress: Progress = silent,
) -> Samples:
    """List images as `load_samples` does, and tell (`masks`, done, total) of those of a manifest.

    Raises:
        DataError: if nothing is there, or it cannot be used as it is.
    """
    path = Path(images)
    is_folder, source = _what_lies_at(path)
    if source is not None:
        _refuse_root(path, source.called, image_root)
        _refuse_masks(path, source.called, columns)
        samples = source.list(path, columns, images_only=images_only)
    elif is_folder:
        _refuse_columns(path, columns)
        _refuse_root(path, "a folder", image_root)
        samples = folder_samples(path, images_only=images_only)
    else:
        _check_table(path)
        root = None if image_root is None else Path(image_root)
        samples = manifest_samples(
            path, columns, root, skip_missing=skip_missing, images_only=images_only, progress=progress
        )
    are_folders = source is not None or is_folder
    return _spelled(with_headers(samples, columns, are_folders=are_folders, images_only=images_only), path)


def samples_of(table: Table, columns: Columns, progress: Progress = silent) -> Samples:
    """List the images of a table that is no file, relative to the folder in which its source is.

    Raises:
        DataError: if it cannot be used as it is.
    """
    told = table_samples(table, columns, progress=progress)
    samples = with_headers(told, columns, are_folders=False, images_only=False)
    return _spelled(samples, table.source)


def _spelled(samples: Samples, source: Path) -> Samples:
    odd = check_spelling({"label": samples.labels, "group": samples.groups}, str(source))
    return replace(samples, remarks=(*samples.remarks, *odd))


def _what_lies_at(path: Path) -> tuple[bool, Source | None]:
    """Whether a folder is there, and the kind of container that the file or folder is, if any; else it is a table.

    Raises:
        DataError: if nothing is there, something else, or nobody can say.
    """
    is_sheet = table_file(path)[1] is not None
    if not is_sheet and _is_folder(path):
        return True, source_of_folder(path)
    is_table = is_sheet or is_packed_name(path) or (is_table_name(path) and not holds_images(path))
    return False, None if is_table else source_of_file(path)


def _refuse_root(path: Path, called: str, image_root: str | Path | None) -> None:
    if image_root is not None:
        message = f"{path} is {called}, " + parameter("image_root")
        raise DataError(message + " needs a manifest file; leave it out")


def _refuse_columns(path: Path, columns: Columns) -> None:
    given = [name for name in COLUMN if getattr(columns, name, None)]
    if given:
        step = f" needs a manifest file; give a file of {TABLES}"
        raise DataError(f"{path} is a folder, " + COLUMN[given[0]] + step)


def _refuse_masks(path: Path, called: str, columns: Columns) -> None:
    if columns.mask:
        raise DataError(f"{path} is {called}, " + COLUMN["mask"] + f" needs a manifest file; give a file of {TABLES}")


def _check_table(path: Path) -> None:
    """Refuse a file that is no table by its name, with what would be.

    Raises:
        DataError: saying what to do.
    """
    refuse_compressed(path)
    if path.suffix.lower() == ".gz" and not is_table_name(path):
        raise DataError(f"{path} is packed; unpack it: gunzip -k {path}")
    besides = [suffix for suffix in container_suffixes() if suffix not in TABLE_SUFFIXES]
    check_table_name(path, other="a folder or ", besides=besides)


def _is_folder(path: Path) -> bool:
    """Whether a folder is there, and not a file.

    Raises:
        DataError: if nothing is there, something else, or nobody can say.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        link = f" (a link to {path.readlink()}, which is not there; is it mounted?)" if path.is_symlink() else ""
        message = f"{path} does not exist{link}; name a folder of images or a manifest file"
        raise DataError(message) from error
    except OSError as error:
        raise DataError(f"{path} cannot be reached: {why(error)}; nothing was done, mend it and run again") from error
    if not S_ISDIR(mode) and not S_ISREG(mode):
        raise DataError(f"{path} is a {NOT_A_FILE}; name a folder of images or a manifest file")
    return S_ISDIR(mode)
