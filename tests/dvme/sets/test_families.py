from __future__ import annotations

from collections.abc import Sequence

import pytest

from dvme.sets.families import ISIC, KERMANY, MONTGOMERY, NIH, SHENZHEN, collections_of


def _held(location: str, names: Sequence[str], classes: Sequence[str] = (), folder: str = "") -> dict[str, str]:
    return {
        name: shown
        for name, (_, shown) in collections_of(location, names, [f"{folder}/{n}" for n in names], classes).items()
    }


@pytest.mark.parametrize(
    ("names", "collection"),
    [
        (["images/00000001_000.png", "00000013_026.png", "00030805_000.png"], NIH),
        (
            ["person1_virus_6.jpeg", "person123_bacteria_456.jpeg", "IM-0115-0001.jpeg", "NORMAL2-IM-0381-0001.jpeg"],
            KERMANY,
        ),
        (["MCUCXR_0001_0.png", "MCUCXR_0104_1.png", "MCUCXR_0108_1.png"], MONTGOMERY),
        (["CHNCXR_0001_0.png", "CHNCXR_0327_1.png", "CHNCXR_0402_1.png"], SHENZHEN),
        (["ISIC_0024306.jpg", "ISIC_0000002_downsampled.jpg", "ISIC_2637011.jpg"], ISIC),
        (
            [f"1.2.276.0.7230010.3.1.4.8323329.{n}.1517875163.187701.dcm" for n in (10000, 1000, 6904)],
            "the SIIM-ACR pneumothorax challenge",
        ),
    ],
)
def test_collections__by_the_names_that_they_give_their_files(names: list[str], collection: str) -> None:
    assert _held("x.zarr", names) == {collection: f"{len(names)} of its files are named so"}
    assert _held("x.zarr", names[:2]) == {}  # two are chance
    assert _held("x.zarr", names + ["scan.png"] * 10 * len(names)) == {}


def test_collections__by_the_place_and_the_classes() -> None:
    names = ["a.png"] * 5
    assert _held("data/PneumoniaMNIST-224.zarr/", names) == {"PneumoniaMNIST": "'PneumoniaMNIST-224.zarr' in its path"}
    assert _held("x.zarr", names, folder="/data/TBX11K/imgs") == {"TBX11K": "'TBX11K' in its path"}
    assert _held("rsna-pneumonia.zarr", names) == {"the RSNA pneumonia challenge": "'rsna-pneumonia.zarr' in its path"}
    assert _held("x.zarr", names, folder="/d/camelyonpatch_level_2_split_train_x.h5/x").keys() == {"PatchCamelyon"}
    assert _held("x.zarr", names, folder="/d/dermamnist_64.npz/train_images").keys() == {"DermaMNIST"}
    google = ["Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass"]
    assert _held("x.zarr", names, google) == {"the labels of Google 2019": "its list of classes shows it"}
    assert _held("x.zarr", names, ["Infiltration", "pleural", "hernia", "mass"]) == {
        "ChestMNIST": "its list of classes shows it"
    }
    for harmless in ("unihospital.zarr", "kermanyville.zarr", "resiim.zarr", "pneumonia.zarr", "chestxray.zarr"):
        assert _held(harmless, names, ["NORMAL", "PNEUMONIA"]) == {}


def test_collections__whose_pictures_they_are() -> None:
    held = {
        name: collections_of(name, ["a.png"], [], []) for name in ("tbx11k", "chestmnist", "siim", "google2019.zarr")
    }
    assert [pictures for own in held.values() for pictures, _ in own.values()] == [
        *(("TBX11K", MONTGOMERY, SHENZHEN), (NIH,), (NIH,), (NIH,))
    ]
