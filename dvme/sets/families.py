"""Published collections whose pictures are one another's, recognised by what names and class lists show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

LEAST_SHARE, LEAST = 0.1, 3
"""Of the images, and how many, have to be named as a collection names its own."""
NIH, KERMANY = "NIH ChestX-ray14", "the children's X-rays of Kermany et al. 2018"
ISIC = "the skin lesions of ISIC"
MONTGOMERY, SHENZHEN = "the Montgomery X-rays", "the Shenzhen X-rays"


@dataclass(frozen=True)
class Published:
    """A published collection, and how a cache of it is recognised."""

    name: str
    pictures: tuple[str, ...]
    """Whose pictures it holds; its own are among them where it has some."""
    file: str = ""
    """How it names its files, without the suffix."""
    place: str = ""
    """What is in a folder's name, or in that of the cache."""
    classes: frozenset[str] = frozenset()
    """Of its list of classes, in lower case, those that no other has together."""


COLLECTIONS = (
    Published(
        NIH,
        (NIH,),
        r"\d{8}_\d{3}",
        r"chest_?x_?ray_?(8|14)|nih_?(cxr|chest|x_?ray)|(cxr|chest|x_?ray)_?nih",
    ),
    Published(
        "ChestMNIST",
        (NIH,),
        place="chest_?mnist",
        classes=frozenset({"infiltration", "pleural", "hernia"}),
    ),
    Published(
        "the RSNA pneumonia challenge",
        (NIH,),
        place="rsna_?(pneumonia|cxr|chest)|pneumonia_?rsna",
        classes=frozenset({"normal", "lung opacity", "no lung opacity / not normal"}),
    ),
    Published(
        "the SIIM-ACR pneumothorax challenge",
        (NIH,),
        r"1\.2\.276\.0\.7230010\.3\.1\.4\.8323329\..*",
        "siim",
    ),
    Published(
        "the labels of Google 2019",
        (NIH,),
        place="google_?2019",
        classes=frozenset({"fracture", "pneumothorax", "airspace opacity", "nodule or mass"}),
    ),
    Published(KERMANY, (KERMANY,), r"person\d+_(bacteria|virus)_\d+|(NORMAL2-)?IM-\d{4}-\d{4}(-\d{4})?", "kermany"),
    Published(ISIC, (ISIC,), r"ISIC_\d{7}(_downsampled)?", r"isic_?(20)?(18|19|20)|ham_?10000"),
    Published("DermaMNIST", (ISIC,), place="derma_?mnist"),
    Published("PneumoniaMNIST", (KERMANY,), place="pneumonia_?mnist"),
    Published(MONTGOMERY, (MONTGOMERY,), r"MCUCXR_\d{4}_[01]", "montgomery"),
    Published(SHENZHEN, (SHENZHEN,), r"CHNCXR_\d{4}_[01]", "shenzhen|china_?set"),
    Published("PatchCamelyon", ("PatchCamelyon",), place="patch_?camelyon|camelyon_?patch|pcam"),
    Published("Kaggle's cancer detection", ("PatchCamelyon",), place="histopathologic_?cancer_?detection"),
    Published("TBX11K", ("TBX11K", MONTGOMERY, SHENZHEN), place="tbx_?11k"),
)
"""Source: the collections' own descriptions, of Wang et al. 2017, Shih et al. 2019, Majkowska et al. 2020, Liu et al.
2020 and Yang et al. 2023."""


def collections_of(
    location: str, names: Sequence[str], paths: Sequence[str], classes: Iterable[str]
) -> dict[str, tuple[tuple[str, ...], str]]:
    """The collections that a cache seems to hold: whose pictures they are, and what shows it.

    Args:
        location: of the cache.
        names: of the images, as their source has them.
        paths: where they are.
        classes: of the labels.
    """
    stems = [PurePosixPath(name.replace("\\", "/")).stem for name in names]
    folders = {folder for each in (*names, *paths) for folder in PurePosixPath(each.replace("\\", "/")).parent.parts}
    lowered = frozenset(each.casefold() for each in classes)
    own = PurePosixPath(location.replace("\\", "/").rstrip("/")).name
    found = {}
    for each in COLLECTIONS:
        n_named = sum(re.fullmatch(each.file, stem) is not None for stem in stems) if each.file else 0
        if n_named >= max(LEAST, LEAST_SHARE * len(stems)):
            found[each.name] = each.pictures, f"{n_named:,} of its files are named so"
        elif each.classes and each.classes <= lowered:
            found[each.name] = each.pictures, "its list of classes shows it"
        elif each.place and (place := next((name for name in (own, *sorted(folders)) if _is_in(each.place, name)), "")):
            found[each.name] = each.pictures, f"{place!r} in its path"
    return found


def _is_in(pattern: str, name: str) -> bool:
    plain = re.sub(r"[-_ .]+", "_", name.casefold())
    return re.search(rf"(?<![a-z0-9])({pattern})(?![a-z0-9])", plain) is not None
