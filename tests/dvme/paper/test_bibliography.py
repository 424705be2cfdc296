from __future__ import annotations

import re
from importlib.resources import files

import pytest

from dvme.backbones.zoo import ZOO
from dvme.paper.bibliography import (
    ARCHITECTURES,
    KEYS,
    Work,
    architecture_key,
    bibtex_of,
    details_of,
    is_cited,
    keys_of,
    unescaped,
    works,
)

NEEDED = {
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "misc": {"author", "title"},
    "software": {"author", "title"},
}


def test_keys_of__every_backbone_of_the_zoo_has_an_entry() -> None:
    trained = [spec for spec in ZOO if spec.source != "random"]
    assert len(trained) > 50
    without = {spec.name: spec.paper for spec in trained if not keys_of(spec.paper)}
    assert without == {}
    assert {key for spec in trained for key in keys_of(spec.paper)} <= set(works())
    assert {spec.name: spec.architecture for spec in trained if not architecture_key(spec.architecture)} == {}


def test_keys__name_entries() -> None:
    assert {*KEYS.values(), *ARCHITECTURES.values()} <= set(works())


def test_works__are_all_of_the_file_and_whole() -> None:
    text = files("dvme.paper").joinpath("references.bib").read_text(encoding="ascii")
    keys = re.findall(r"^@\w+\{([^,]+),$", text, flags=re.MULTILINE)
    assert list(works()) == keys
    assert len(keys) == len(set(keys)) > 40
    for work in works().values():
        assert NEEDED[work.kind] <= set(work.fields), work.key
        assert all(value.strip() and value.count("{") == value.count("}") for value in work.fields.values()), work.key
        assert re.fullmatch(r"(\d{4}|n\.d\.)", work.year)
        assert not set(work.line) & set("{}\\"), work.line


def test_works__as_bibtex_are_the_file() -> None:
    """Nothing of an entry is lost on the way."""
    text = files("dvme.paper").joinpath("references.bib").read_text(encoding="ascii")
    entries = sorted(re.findall(r"^@.*?^\}$", text, flags=re.MULTILINE | re.DOTALL), key=_key_of_entry)
    assert bibtex_of(works()).split("\n\n") == entries


def _key_of_entry(entry: str) -> str:
    found = re.match(r"@\w+\{([^,]+),", entry)
    assert found is not None
    return found[1]


def test_bibtex_of__each_once_in_the_order_of_the_keys() -> None:
    found = bibtex_of(["zarr", "he2016deep", "zarr"])
    assert re.findall(r"^@\w+\{([^,]+),$", found, flags=re.MULTILINE) == ["he2016deep", "zarr"]
    assert bibtex_of([]) == ""


@pytest.mark.parametrize(
    ("paper", "keys", "details"),
    [
        ("Caron et al. 2020, SwAV; 800 epochs", ("caron2020unsupervised",), ["800 epochs"]),
        ("Chen et al. 2020, SimCLR v2", ("chen2020big",), []),
        ("Chen et al. 2020, SimCLR", ("chen2020simple",), []),
        (
            "Oquab et al. 2023, DINOv2; Darcet et al. 2023, registers",
            ("oquab2023dinov2", "darcet2023vision"),
            [],
        ),
        ("He et al. 2016; torchvision's V1 weights", ("he2016deep", "torchvision2016"), ["torchvision's V1 weights"]),
        ("untrained control, seed 0", (), ["untrained control, seed 0"]),
        ("", (), [""]),
    ],
)
def test_keys_of__and_what_else_is_said(paper: str, keys: tuple[str, ...], details: list[str]) -> None:
    assert keys_of(paper) == keys
    assert details_of(paper) == details


def test_is_cited__is_nothing_but_a_citation() -> None:
    assert is_cited("He et al. 2016")
    assert is_cited("Caron et al. 2020, SwAV")
    assert not is_cited("torchvision's V1 weights")
    assert not is_cited("Nobody et al. 2020")


@pytest.mark.parametrize(
    ("architecture", "key"),
    [
        ("resnet50", "he2016deep"),
        ("resnet50_same", "he2016deep"),
        ("vit_small_patch16_224", "dosovitskiy2021image"),
        ("tf_efficientnet_lite0", "tan2019efficientnet"),
        ("efficientnet_b0", "tan2019efficientnet"),
        ("convnext_tiny", ""),
        ("", ""),
    ],
)
def test_architecture_key__by_the_family(architecture: str, key: str) -> None:
    assert architecture_key(architecture) == key


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"J{\'e}gou, Herv{\'e}", "Jégou, Hervé"),
        (r"Poli{\v{c}}ar", "Poličar"),
        (r"{PyTorch}: An Imperative Style", "PyTorch: An Imperative Style"),
        ("plain", "plain"),
    ],
)
def test_unescaped__as_it_is_read(written: str, read: str) -> None:
    assert unescaped(written) == read


def test_line__names_three_authors_at_most() -> None:
    def line(author: str, **fields: str) -> str:
        return Work("key", "misc", {"author": author, "title": "A {Title}", **fields}).line

    assert line("A, B", year="2020", eprint="1.2") == "A (2020). A Title. arXiv:1.2."
    assert line("A, B and C, D", year="2020", eprint="1.2") == "A and C (2020). A Title. arXiv:1.2."
    assert line("A, B and C, D and E, F", doi="10.1/2", eprint="1.2").startswith(
        "A, C and E (n.d.). A Title. doi:10.1/2."
    )
    assert line("A, B and C, D and E, F and G, H", version="1").startswith("A et al. (n.d.). A Title. version 1.")
    assert line("A, B and others", journal="J", volume="3", year="1") == "A et al. (1). A Title. J 3."
    assert line("{A and B}", howpublished=r"\url{https://c.d}") == "A and B (n.d.). A Title. https://c.d."
