"""The public sets that a manifest can be built of: what each is, and whose pictures it has."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from dvme.errors import UnknownNameError
from dvme.sets.families import COLLECTIONS, ISIC, KERMANY, MONTGOMERY, NIH, SHENZHEN
from dvme.shown.result import Shown


@dataclass(frozen=True, kw_only=True, repr=False)
class PublicSet(Shown):
    """A set as its publisher describes it."""

    name: str
    """On the command line; the module that builds it is called the same, with _ for -."""
    title: str
    task: str
    """What is to be recognised, in a few words."""
    n_images: int
    """With labels."""
    n_patients: int | None
    """None where the publisher does not say who is whom."""
    size: str
    """Of the download, on disk."""
    licence: str
    published: str
    """Where, as a URL."""
    collections: tuple[str, ...] = ()
    """What `families.COLLECTIONS` calls it, or its parts; () for one that shares its pictures with no other."""

    @property
    def shares_with(self) -> tuple[str, ...]:
        """The collections that have pictures of this one, or of which it has pictures."""
        own = {picture for each in COLLECTIONS if each.name in self.collections for picture in each.pictures}
        return tuple(
            each.name for each in COLLECTIONS if each.name not in self.collections and own & set(each.pictures)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self) | {"collections": list(self.collections), "shares_with": list(self.shares_with)}

    def _lines(self) -> list[str]:
        return [f"{self.name}, {self.title}: {self.task}; {self.n_images:,} images, {self.size}; {self.licence}"]


SETS = (
    PublicSet(
        name="nih-cxr14",
        title=NIH,
        task="14 findings of chest X-rays",
        n_images=112_120,
        n_patients=30_805,
        size="42 GB",
        licence="free to use, with a citation and a link",
        published="https://nihcc.app.box.com/v/ChestXray-NIHCC",
        collections=(NIH,),
    ),
    PublicSet(
        name="google2019",
        title="Google 2019, four labels by radiologists on pictures of NIH ChestX-ray14",
        task="4 findings of chest X-rays",
        n_images=4_376,
        n_patients=1_695,
        size="1 MB of labels, beside the pictures of nih-cxr14",
        licence="as of nih-cxr14",
        published="https://cloud.google.com/healthcare-api/docs/resources/public-datasets/nih-chest",
        collections=("the labels of Google 2019",),
    ),
    PublicSet(
        name="chexpert",
        title="CheXpert",
        task="13 findings of chest X-rays, some uncertain or unknown",
        n_images=223_648,
        n_patients=64_740,
        size="439 GB, or 11 GB as CheXpert-v1.0-small",
        licence="Stanford's research use agreement, non-commercial",
        published="https://stanfordmlgroup.github.io/competitions/chexpert",
    ),
    PublicSet(
        name="padchest",
        title="PadChest",
        task="findings of chest X-rays",
        n_images=160_861,
        n_patients=67_625,
        size="1 TB",
        licence="CC BY-SA 4.0",
        published="https://bimcv.cipf.es/bimcv-projects/padchest",
    ),
    PublicSet(
        name="vindr",
        title="VinDr-CXR",
        task="28 findings of chest X-rays, by three readers each",
        n_images=18_000,
        n_patients=None,
        size="192 GB",
        licence="PhysioNet's credentialed licence; Kaggle's part for its competition",
        published="https://physionet.org/content/vindr-cxr",
    ),
    PublicSet(
        name="aptos",
        title="APTOS 2019",
        task="5 grades of diabetic retinopathy, in order",
        n_images=3_662,
        n_patients=None,
        size="10 GB",
        licence="rules of the Kaggle competition, non-commercial",
        published="https://www.kaggle.com/c/aptos2019-blindness-detection",
    ),
    PublicSet(
        name="patchcam",
        title="PatchCamelyon",
        task="metastasis or not in patches of lymph nodes",
        n_images=327_680,
        n_patients=None,
        size="8 GB, unpacked",
        licence="CC0 1.0",
        published="https://github.com/basveeling/pcam",
        collections=("PatchCamelyon",),
    ),
    PublicSet(
        name="kermany-pneumonia",
        title="Chest X-rays of children, Kermany et al. 2018",
        task="pneumonia or not, by bacteria or a virus",
        n_images=5_856,
        n_patients=None,
        size="1.2 GB",
        licence="CC BY 4.0",
        published="https://data.mendeley.com/datasets/rscbjbr9sj",
        collections=(KERMANY,),
    ),
    PublicSet(
        name="montgomery",
        title="Montgomery County chest X-rays",
        task="tuberculosis or not, and masks of both lungs",
        n_images=138,
        n_patients=None,
        size="0.6 GB",
        licence="free to use, with a citation",
        published="https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets",
        collections=(MONTGOMERY,),
    ),
    PublicSet(
        name="shenzhen",
        title="Shenzhen chest X-rays",
        task="tuberculosis or not",
        n_images=662,
        n_patients=None,
        size="3.6 GB",
        licence="free to use, with a citation",
        published="https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets",
        collections=(SHENZHEN,),
    ),
    PublicSet(
        name="isic",
        title="ISIC 2018 (HAM10000), 2019 and 2020",
        task="kinds of skin lesions: 7, 8, or melanoma or not",
        n_images=78_415,
        n_patients=None,
        size="3 GB, 13 GB and 23 GB",
        licence="CC BY-NC 4.0",
        published="https://challenge.isic-archive.com/data",
        collections=(ISIC,),
    ),
    PublicSet(
        name="medmnist",
        title="MedMNIST",
        task="12 sets of small pictures, each with its own task",
        n_images=707_962,
        n_patients=None,
        size="28 px: 0.6 GB together; 224 px: up to 13 GB each",
        licence="CC BY 4.0; DermaMNIST CC BY-NC 4.0",
        published="https://medmnist.com",
        collections=("ChestMNIST", "PneumoniaMNIST", "DermaMNIST"),
    ),
)


def public_sets() -> tuple[PublicSet, ...]:
    """The sets that `public_set` makes a manifest of.

    Example:
        >>> [each.name for each in dvme.public_sets()][:3]
        ['nih-cxr14', 'google2019', 'chexpert']
    """
    return SETS


def set_of(name: str) -> PublicSet:
    """The set of a name.

    Raises:
        UnknownNameError: if there is none, with the names that are alike.
    """
    known = {each.name: each for each in SETS}
    if name not in known:
        alike = get_close_matches(name, known, cutoff=0.65)
        step = f"did you mean {' or '.join(alike)}?" if alike else f"there are {', '.join(known)}"
        raise UnknownNameError(f"there is no public set {name!r}; {step}")
    return known[name]
