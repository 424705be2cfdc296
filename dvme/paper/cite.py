"""`dvme cite`: how to cite dvme, the papers that it is made from, and the programs that it rests on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dvme.arguments import public
from dvme.paper.bibliography import bibtex_of, works

SOURCES = {
    "This program": ("dvme",),
    "The papers that it is made from": (
        "truong2021transferable",
        "azizi2021big",
        "taher2021systematic",
        "krones2026pretraining",
    ),
    "The programs that it rests on": (
        "paszke2019pytorch",
        "wightman2019timm",
        "pedregosa2011scikit",
        "douze2024faiss",
        "zarr",
        "harris2020array",
        "policar2024opentsne",
        "mcinnes2018umap",
        "iakubovskii2019segmentation",
    ),
}
"""Works by what they are to dvme. CITATION.cff has the same."""
FURTHER = "dvme methods RUN cites what one run rests on: its backbones, heads and tests."


@dataclass(frozen=True)
class Citation:
    """Whom to cite."""

    works: dict[str, dict[str, str]]
    """By what they are to dvme: the keys, and each work as a list of references has it."""
    bibtex: str
    """Their entries, in the order of their keys."""

    @property
    def text(self) -> str:
        """A paragraph for each kind, a line for each work."""
        parts = ["\n".join([f"{title}:", *(f"  {line}" for line in own.values())]) for title, own in self.works.items()]
        return "\n\n".join([*parts, FURTHER])

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)


@public
def cite() -> Citation:
    """Say how to cite dvme and its sources.

    Example:
        >>> "@" in dvme.cite().bibtex
        True
    """
    known = works()
    named = {title: {key: known[key].line for key in keys} for title, keys in SOURCES.items()}
    return Citation(named, bibtex_of(key for own in named.values() for key in own))
