"""Names of images as other machines write them, against the files that are there."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from dvme.data import load_samples
from dvme.data.addresses import folded, found_line, spellings, wrong_place
from dvme.errors import DataError

COMPOSED, APART = (unicodedata.normalize(form, "Zürich/Größe é.png") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "data"
    for name in ("Images/benign/1.PNG", "Images/benign/a b.png", "b.png", "id.jpg", "both.png", "both.jpg", "x.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name in ("x.PNG", "id.txt", "case.png", "CASE.png", "back\\slash.png"):
        (root / name).touch()
    monkeypatch.setenv("HOME", str(root))
    return root


def listed(root: Path, *names: str) -> list[str]:
    """The files that a manifest of these names is about, from the root on."""
    quoted = (f'"{name}"' for name in names)
    (root / "m.csv").write_text("\n".join(["image", *quoted]), encoding="utf-8")
    samples = load_samples(root / "m.csv")
    assert samples.ids == list(names)  # an image keeps the name that the user knows
    return [os.path.relpath(path, root) for path in samples.paths]


FOUND = {
    "Images/benign/1.PNG": "Images/benign/1.PNG",
    "./b.png": "b.png",
    "Images/../b.png": "b.png",
    "Images\\benign\\1.PNG": "Images/benign/1.PNG",
    ".\\images\\Benign\\1.png": "Images/benign/1.PNG",
    "images/benign/1.png": "Images/benign/1.PNG",
    "IMAGES/BENIGN/A B.PNG": "Images/benign/a b.png",
    "Images/benign/1": "Images/benign/1.PNG",
    "id": "id.jpg",
    "ID": "id.jpg",
    "x.png": "x.png",
    "x.PNG": "x.PNG",
    "~/b.png": "b.png",
    "~/B.PNG": "b.png",
    "back\\slash.png": "back\\slash.png",
}


@pytest.mark.parametrize("name", FOUND)
def test_finder__one_file(name: str, root: Path) -> None:
    assert listed(root, name) == [FOUND[name]]


def test_finder__absolute_relative_and_urls_in_one_manifest(root: Path) -> None:
    names = [str(root / "b.png"), "x.png", (root / "Images/benign/a b.png").as_uri(), f"file://localhost{root}/x.PNG"]
    assert "%20" in names[2]
    assert listed(root, *names) == ["b.png", "x.png", "Images/benign/a b.png", "x.PNG"]
    assert listed(root, str(root / "images/BENIGN/1.png")) == ["Images/benign/1.PNG"]


@pytest.mark.parametrize(("written", "on_disk"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_finder__other_forms_of_letters(written: str, on_disk: str, root: Path) -> None:
    assert written != on_disk
    (root / on_disk).parent.mkdir()
    (root / on_disk).touch()
    assert listed(root, written) == [on_disk]
    assert listed(root, written.replace("/", "\\").upper()) == [on_disk]


def test_finder__of_two_forms_each_is_itself(root: Path) -> None:
    names = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    for name in names:
        (root / name).touch()
    assert listed(root, *names) == names


@pytest.mark.parametrize(
    "name", ["Case.png", "both", "X.png", "c", "Images", "nothing.png", "id.txt/1.png", "~nobody/b.png"]
)
def test_finder__none_or_several(name: str, root: Path) -> None:
    with pytest.raises(DataError, match=r"names 1 file that does not exist|is a folder, no image file"):
        listed(root, name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("C:\\data\\1.png", r": C:\\data\\1.png \(a path of a Windows machine: keep what follows the folder of all"),
        ("D:/data/1.png", r": D:/data/1.png \(a path of a Windows"),
        ("\\\\server\\share\\1.png", r": \\\\server\\share\\1.png \(a path of a Windows"),
        (
            "https://example.org/1.png",
            r": https://example.org/1.png \(an address on a network: download the images first\)",
        ),
        ("s3://bucket/1.png", r": s3://bucket/1.png \(an address on"),
        ("images/2.png", r"/images/2.png; mend the paths or pass image_root"),
    ],
)
def test_finder__what_lies_elsewhere(name: str, said: str, root: Path) -> None:
    with pytest.raises(DataError, match=said):
        listed(root, name)


def test_finder__says_what_it_found(root: Path) -> None:
    (root / "m.csv").write_text("image\nB.png\nx.png\nid\n")
    assert load_samples(root / "m.csv").remarks[1] == (
        "2 images found under another spelling of the name: B.png = b.png, id = id.jpg"
    )
    assert found_line({}) == []


def test_spellings_and_folded__by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert list(spellings("a/b.png")) == []
    assert list(spellings("~/a\\b.png")) == ["/home/me/a\\b.png", "~/a/b.png"]
    assert list(spellings("FILE:///data/a%20b.png")) == ["/data/a b.png"]
    assert folded(".\\A\\STRASSE.png") == folded("a/straße.PNG") == "a/strasse.png"
    assert folded(APART) == folded(COMPOSED)
    assert [wrong_place(name) for name in ("a/b.png", "file:///a.png", "C:a.png", "/data/a.png")] == [""] * 4
