"""PatchCamelyon: patches of lymph nodes in HDF5 files, a pair for each part, and tables that name their slides.

Source: Veeling et al. 2018; https://github.com/basveeling/pcam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from dvme.data.columns import Columns
from dvme.data.samples import MISSING, Samples
from dvme.data.sources import hdf5
from dvme.data.tables import GZIPPED
from dvme.errors import DataError
from dvme.files import reading
from dvme.sets.building import Published
from dvme.sets.unpacked import Unpacked
from dvme.text import counted

NAME = "camelyonpatch_level_2_split_{}_x.h5"
PARTS = {"train": 262_144, "valid": 32_768, "test": 32_768}
"""As the files call them, and how many patches each has."""
KEPT = ("coord_x", "coord_y", "tumor_patch", "center_tumor_patch")
"""Columns of the tables of slides beside `wsi`: where in the slide, a tumour anywhere, one in the middle."""
ANYWHERE, MIDDLE = KEPT[2:]
SAYS = {"true": "1", "1": "1", "false": "0", "0": "0"}


def published(unpacked: Unpacked) -> Published:
    """What the publisher says. A row is an address such as `..._x.h5/x/000123`.

    Raises:
        DataError: if none of the files is there, or files do not fit together.
    """
    parts, remarks, images = list[Samples](), list[str](), list[str | None]()
    for name, n_published in PARTS.items():
        place = _place(unpacked, NAME.format(name), remarks)
        if place is None:
            continue
        part = hdf5.SOURCE.list(unpacked.root / place, Columns(keep=_kept(unpacked, place)), images_only=False)
        if len(part) != n_published:
            remarks.append(f"{NAME.format(name)} has {counted(len(part), 'patch', 'patches')}, not {n_published:,}")
        remarks += [line for line in part.remarks if not line.startswith("arrays used")]
        images += [f"{place}/{member}" for member in part.ids]
        parts.append(part)
    if not parts:
        raise DataError(
            f"{unpacked.root} has no {NAME.format('train')}, and none of valid and test; put the files there"
            + (", and unpack them: gunzip -k FILE" if any("is packed" in line for line in remarks) else "")
        )
    columns = {
        "label": [label for part in parts for label in part.labels],
        **({"split": [split for part in parts for split in part.splits]} if len(parts) > 1 else {}),
        "group": [group for part in parts for group in part.groups],
    }
    further = {name: [c for part in parts for c in part.kept.get(name, [MISSING] * len(part))] for name in KEPT}
    remarks.append("the label 1 is a tumour in the middle third of a patch; one elsewhere in it is 0")
    remarks += _table_lines(columns["label"], columns["group"], further)
    del further[MIDDLE]
    return Published(
        images=images, columns=columns | {name: own for name, own in further.items() if any(own)}, remarks=remarks
    )


def _place(unpacked: Unpacked, name: str, remarks: list[str]) -> str | None:
    """Where a file is; None, and a remark, where it is not, or packed only."""
    found: dict[str, list[str]] = {name: [], name + GZIPPED: []}
    for place in unpacked.others:
        found.get(PurePosixPath(place).name, []).append(place)
    if len(found[name]) > 1:
        raise DataError(f"{unpacked.root} has more than one {name}: {', '.join(found[name])}; keep the one that counts")
    if not found[name]:
        packed = found[name + GZIPPED]
        remarks.append(
            f"{packed[0]} is packed, and left out; gunzip -k unpacks it" if packed else f"no {name} is there"
        )
    return found[name][0] if found[name] else None


def _kept(unpacked: Unpacked, place: str) -> str:
    """Those columns of KEPT that the table of slides has, as `Columns` takes them."""
    table, names = unpacked.root / place.replace("_x.h5", "_meta.csv"), list[str]()
    if table.is_file():
        with reading(table), table.open(encoding="utf-8-sig", errors="replace") as file:
            names = [name.strip() for name in file.readline().split(",")]
    return ",".join(name for name in KEPT if name in names)


def _table_lines(labels: Sequence[str], slides: Sequence[str], told: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines on patches that were taken twice, and on labels that the tables contradict."""
    lines = []
    where = [each for each in zip(slides, told[KEPT[0]], told[KEPT[1]], strict=True) if all(each)]
    if n_again := len(where) - len(set(where)):
        lines.append(
            f"{counted(n_again, 'patch', 'patches')} of a place that has one already: dvme takes copies for one image"
        )
    against = sum(SAYS.get(said.lower(), label) != label for said, label in zip(told[MIDDLE], labels, strict=True))
    if against:
        lines.append(
            f"{counted(against, 'label')} not as {MIDDLE} in the table of slides: the label of the .h5 file counts"
        )
    return lines
