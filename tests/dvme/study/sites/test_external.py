from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hospitals import write_site
from numpy.typing import NDArray

from dvme.runtime import silent
from dvme.study.design import crowds, near
from dvme.study.design.snapshot import Snapshot
from dvme.study.sites.external import STUDY, in_common
from dvme_cache import EmbeddingCache

N, USED = 40, np.arange(30, 40)


@pytest.fixture
def taken(tmp_path: Path) -> Callable[..., Snapshot]:
    def make(name: str, values: dict[str, NDArray[Any]], **more: Any) -> Snapshot:
        n = len(next(iter(values.values())))
        place = write_site(tmp_path / f"{name}.zarr", values, ["x"] * n, **more)
        return Snapshot.take(EmbeddingCache.open(place), list(values))

    return make


def _values(seed: int, n: int = N) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)


def _in_common(study: Snapshot, **sites: Snapshot) -> tuple[dict[str, list[str]], list[str]]:
    classes = dict.fromkeys((STUDY, *sites), ("x",))
    left = {name: each.at(np.flatnonzero(~np.isin(each.images, study.images[USED]))) for name, each in sites.items()}
    return in_common(study, left, sites, classes, silent)


def test_in_common__nothing(taken: Callable[..., Snapshot]) -> None:
    study, other = taken("own", {"a": _values(0)}), taken("ny", {"a": _values(1)}, first=N)
    assert _in_common(study, ny=other) == ({"ny": []}, [])


def test_in_common__equal_files_and_which_are_left_out(taken: Callable[..., Snapshot]) -> None:
    study = taken("own", {"a": _values(0)})
    both = np.concatenate([_values(0)[35:], _values(1, 20)])
    tested = taken("ny", {"a": both}, first=35)
    assert _in_common(study, ny=tested)[0] == {
        "ny": [
            "ny is not external: 5 of its 25 images are files of the study (35.png, 36.png, 37.png, ...), 5 of them "
            "left out"
        ]
    }
    trained = taken("la", {"a": np.concatenate([_values(0)[28:], _values(1, 1)])}, first=28)
    found, _ = _in_common(study, ny=tested, la=trained)
    assert found["la"] == [
        "la is not external: 12 of its 13 images are files of the study (28.png, 29.png, 30.png, ...), 10 of them "
        "left out",
        "la is not external: 6 of its 13 images are files of ny (35.png, 36.png, 37.png, ...)",
    ]


def test_in_common__near_duplicates_of_the_study_and_of_another_site(taken: Callable[..., Snapshot]) -> None:
    """The pair is found by a product of all with all; the blind backbone is passed over, which is said."""
    own, there, far = _values(0), _values(1), _values(2)
    there[3] = own[7] * 2 + 0.01
    there[4] = own[7] + 0.02
    far[0] = there[9]
    blind = {"blind": np.ones((N, 3), dtype=np.float32)}
    study, ny = taken("own", {"a": own} | blind), taken("ny", {"a": there} | blind, first=N)
    la = taken("la", {"a": far} | blind, first=2 * N)
    found, lines = _in_common(study, ny=ny, la=la)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (own, there, far)]
    pairs = np.argwhere(unit[1] @ unit[0].T > 0.999)
    assert pairs.tolist() == [[3, 7], [4, 7]]
    cosines = sorted((float(unit[1][one] @ unit[0][other]), one) for one, other in pairs)[::-1]
    shown = ", ".join(f"{N + one}.png and 7.png ({cosine:.4f} in a)" for cosine, one in cosines)
    assert found["ny"] == [f"ny may not be external: 2 images of it all but coincide with some of the study: {shown}"]
    said = f"1 image of it all but coincides with some of ny: {2 * N}.png and {N + 9}.png (1.0000 in a)"
    assert found["la"] == [f"la may not be external: {said}"]
    assert lines == [
        "near-duplicates across sites were not looked for in blind: too many pairs of images have a cosine above 0.999 "
        "for them to be copies"
    ]


def test_in_common__copies_of_one_picture_in_large_numbers(
    taken: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any two of them are near-duplicates, though no list has them all."""
    own, there = _values(0, 200), _values(1, 100)
    own[5:8] = own[4]
    there[60:66] = own[4]
    study, ny = taken("own", {"a": own}), taken("ny", {"a": there}, first=200)
    plain, _ = _in_common(study, ny=ny)
    for name, value in (("FEWEST", 8), ("SAMPLED_SHARE", 1)):
        monkeypatch.setattr(crowds, name, value)
    monkeypatch.setattr(near, "MANY", 50)
    found, lines = _in_common(study, ny=ny)
    assert found["ny"][0].startswith("ny may not be external: 6 images of it all but coincide with some of the study:")
    assert found["ny"][0].split(":")[0] == plain["ny"][0].split(":")[0]
    assert lines == []


def test_in_common__known_families(taken: Callable[..., Snapshot]) -> None:
    study = taken("own", {"a": _values(0)}, paths=[f"{n:08d}_000.png" for n in range(N)])
    other = taken("rsna-pneumonia", {"a": _values(1)}, first=N)
    same = taken("more", {"a": _values(2)}, first=2 * N, paths=[f"{n:08d}_001.png" for n in range(N)])
    found, _ = _in_common(study, rsna=other, more=same)
    assert found["rsna"] == [
        "rsna may not be external: it looks like the RSNA pneumonia challenge ('rsna-pneumonia.zarr' in its path), "
        "which has pictures of NIH ChestX-ray14, and so does the study (40 of its files are named so)"
    ]
    assert found["more"] == [
        "more may not be external: it looks like NIH ChestX-ray14 (40 of its files are named so), and so does the "
        "study (40 of its files are named so)",
        "more may not be external: it looks like NIH ChestX-ray14 (40 of its files are named so), and so does rsna, as "
        "the RSNA pneumonia challenge ('rsna-pneumonia.zarr' in its path)",
    ]
