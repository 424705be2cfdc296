from __future__ import annotations

import pytest
from medmnist import INFO

from dvme.data.sources.arrays.medmnist import SETS, set_of

FLAT = {flag: info for flag, info in INFO.items() if not flag.endswith("3d")}


def test_sets__are_those_of_the_package() -> None:
    assert set(SETS) == set(FLAT)
    for flag, info in FLAT.items():
        assert SETS[flag].names == tuple(info["label"][str(number)] for number in range(len(info["label"])))
        assert SETS[flag].task == info["task"]
        assert SETS[flag].is_ordinal == (info["task"] == "ordinal-regression")


@pytest.mark.parametrize(
    ("stem", "flag"),
    [
        ("pathmnist", "pathmnist"),
        ("PathMNIST_64", "pathmnist"),
        ("organsmnist_224", "organsmnist"),
        ("pathmnist_32", None),
        ("organmnist3d", None),
        ("mnist", None),
    ],
)
def test_set_of__by_the_name_of_the_file(stem: str, flag: str | None) -> None:
    assert set_of(stem) == (None if flag is None else SETS[flag])
