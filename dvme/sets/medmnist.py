"""MedMNIST: small pictures of twelve sets in NumPy archives, `pathmnist.npz` or `pathmnist_64.npz`.

Source: Yang et al. 2023; `medmnist.INFO` of the package medmnist 3.0.2.
"""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import Any

from dvme.data.columns import Columns
from dvme.data.sources import npz
from dvme.data.sources.arrays.medmnist import NAME, SETS
from dvme.errors import DataError, OptionError, parameter
from dvme.sets.building import Published
from dvme.sets.unpacked import Unpacked
from dvme.text import counted, first_few

SUFFIX, SMALLEST = ".npz", "28"
PARTS = {
    "pathmnist": ("PathMNIST", 89_996, 10_004, 7_180),
    "chestmnist": ("ChestMNIST", 78_468, 11_219, 22_433),
    "dermamnist": ("DermaMNIST", 7_007, 1_003, 2_005),
    "octmnist": ("OCTMNIST", 97_477, 10_832, 1_000),
    "pneumoniamnist": ("PneumoniaMNIST", 4_708, 524, 624),
    "retinamnist": ("RetinaMNIST", 1_080, 120, 400),
    "breastmnist": ("BreastMNIST", 546, 78, 156),
    "bloodmnist": ("BloodMNIST", 11_959, 1_712, 3_421),
    "tissuemnist": ("TissueMNIST", 165_466, 23_640, 47_280),
    "organamnist": ("OrganAMNIST", 34_561, 6_491, 17_778),
    "organcmnist": ("OrganCMNIST", 12_975, 2_392, 8_216),
    "organsmnist": ("OrganSMNIST", 13_932, 2_452, 8_827),
}
"""Flag to title and how many images train, validate and test."""
NON_COMMERCIAL = ("dermamnist",)
LEAKS = {
    "chestmnist": "several images of a patient of NIH ChestX-ray14, whose ids are not told",
    "dermamnist": "HAM10000, 10,015 pictures of 7,470 lesions, which are on several sides of its split",
    "pneumoniamnist": "the pictures of Kermany et al. 2018, of children with several, whose ids are not told",
}
"""Flag to what it holds that is worth knowing."""


def published(unpacked: Unpacked, edition: str | None = None) -> Published:
    """What the publisher says. A row is an address such as `pathmnist.npz/train_images/000123`.

    Args:
        unpacked: the download.
        edition: the file without .npz, such as `pathmnist_64`, where several lie there.

    Raises:
        DataError: if none of its files is there, or several are, or one cannot be read.
        OptionError: if there is no such file.
    """
    place = _place(unpacked, edition)
    stem = PurePosixPath(place).stem
    match = NAME.fullmatch(stem)
    flag = match["flag"].lower() if match else ""
    title, *sizes = PARTS[flag]
    samples = npz.SOURCE.list(unpacked.root / place, Columns(), images_only=False)
    counts = Counter(samples.splits)
    found = [counts[part] for part in ("train", "val", "test")]
    remarks = [line for line in samples.remarks if not line.startswith("arrays used")]
    if found != sizes:
        remarks.append(f"its parts have {_sizes(found)} images, those published {_sizes(sizes)}: a part of it")
    remarks += [f"{title} has {LEAKS[flag]}"] if flag in LEAKS else []
    if flag in NON_COMMERCIAL:
        remarks.append("the licence is CC BY-NC 4.0: no commercial use")
    if SETS[flag].is_ordinal:
        remarks.append("the grades are in order, and dvme takes them so, for they are numbers")
    return Published(
        images=[f"{place}/{member}" for member in samples.ids],
        columns={"label": samples.labels, "split": samples.splits},
        remarks=remarks,
        narrower=_narrower(flag, title, stem, sum(sizes)),
    )


def _place(unpacked: Unpacked, edition: str | None) -> str:
    """Where the file is."""
    files = [place for place in unpacked.others if place.lower().endswith(SUFFIX)]
    there = {place: PurePosixPath(place).stem for place in files}
    flat = {place: stem for place, stem in there.items() if (match := NAME.fullmatch(stem)) and match["flag"] in SETS}
    if edition is not None:
        wanted = edition.removesuffix(SUFFIX).lower()
        flat = {place: stem for place, stem in flat.items() if stem.lower() == wanted}
        if not flat:
            raise OptionError(
                f"{unpacked.root} has no {wanted}{SUFFIX}; it has {first_few(files) or f'no {SUFFIX} file'}"
            )
    if not flat:
        volumes = [place for place, stem in there.items() if "mnist3d" in stem.lower()]
        step = f"; {first_few(volumes)} is of volumes, and backbones take flat images" if volumes else ""
        raise DataError(
            f"{unpacked.root} has no file of MedMNIST, such as pathmnist{SUFFIX} or pathmnist_64{SUFFIX}" + step
        )
    if len(flat) > 1:
        step = "; choose one with " + parameter("edition", next(iter(flat.values())))
        raise DataError(f"{unpacked.root} has {counted(len(flat), 'file')} of MedMNIST: {first_few(flat)}" + step)
    return next(iter(flat))


def _narrower(flag: str, title: str, stem: str, n_images: int) -> dict[str, Any]:
    size = stem.partition("_")[2] or SMALLEST
    own = SETS[flag]
    return {
        "title": f"{title} of MedMNIST, {size} px",
        "task": f"{len(own.names)} {'findings' if own.task.startswith('multi-label') else 'classes'}",
        "n_images": n_images,
        "licence": "CC BY-NC 4.0" if flag in NON_COMMERCIAL else "CC BY 4.0",
        "collections": (title,),
    }


def _sizes(counts: list[int]) -> str:
    return " + ".join(f"{count:,}" for count in counts)
