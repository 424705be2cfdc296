"""What a paper says of the programs: which versions made embeddings and heads, and what proves which data they saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dvme.paper.material import Material
from dvme.paper.wording import UNKNOWN, all_of, cited, coded, sentences

PROGRAMS = {
    "dvme": ("dvme", ("dvme", "truong2021transferable")),
    "torch": ("PyTorch", ("paszke2019pytorch",)),
    "torchvision": ("torchvision", ("torchvision2016",)),
    "timm": ("timm", ("wightman2019timm",)),
    "scikit-learn": ("scikit-learn", ("pedregosa2011scikit",)),
    "numpy": ("NumPy", ("harris2020array",)),
    "faiss-cpu": ("FAISS", ("douze2024faiss",)),
    "faiss-gpu": ("FAISS", ("douze2024faiss",)),
    "python": ("Python", ()),
    "pillow": ("Pillow", ()),
}
"""What a distribution is called, and its works, in the order of the text."""
NOT_INSTALLED = "("
"""How a version begins of what was not there."""


def about_software(material: Material) -> str:
    """One paragraph."""
    described = material.described
    versions = described.get("versions") or {"dvme": described.get("dvme", "")}
    return sentences(
        [
            *_embedded(material),
            f"Heads were fitted and judged with {_programs(versions)}.",
            _proofs(material),
        ]
    )


def _embedded(material: Material) -> list[str]:
    """A sentence for each set of versions that made embeddings."""
    made: dict[str, list[str]] = {}
    for each in material.described["backbones"]:
        versions = (each.get("provenance") or {}).get("versions") or {}
        made.setdefault(_programs(versions), []).append(str(each["name"]))
    unknown = made.pop("", [])
    said = [f"Embeddings by {coded(names)} were made with {programs}." for programs, names in made.items()]
    if unknown:
        said.append(f"By which versions embeddings by {coded(unknown)} were made is not known {UNKNOWN}.")
    return said


def _programs(versions: Mapping[str, Any]) -> str:
    """`dvme 0.1.0 [@dvme], PyTorch 2.6.0 [@paszke2019pytorch] and Python 3.12.3`."""
    named = []
    for name, (called, works) in PROGRAMS.items():
        version = str(versions.get(name, ""))
        if version and not version.startswith(NOT_INSTALLED):
            named.append(f"{called} {version}" + (f" {cited(*works)}" if works else ""))
    return all_of(named)


def _proofs(material: Material) -> str:
    digests = [f"{coded([each['name']])} {str(each['digest'])[:16]}" for each in material.described["backbones"]]
    return (
        f"The subsets have the hash {material.described['subsets']}, which names all images by their contents. The "
        f"embeddings have these fingerprints (the first 16 of 32 hexadecimal digits): {all_of(digests)}."
    )
