"""The works that dvme knows how to cite: `references.bib`, entry by entry, and which of them a backbone's paper is.

A field that could not be verified is left out of an entry.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

ENTRY = re.compile(r"^@(\w+)\{([\w-]+),\n(.*?)^\}$", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.MULTILINE)
ACCENT = re.compile(r"\{\\([\"'^`~cv])\{?(\w)\}?\}")
COMBINING = {
    '"': "\N{COMBINING DIAERESIS}",
    "'": "\N{COMBINING ACUTE ACCENT}",
    "^": "\N{COMBINING CIRCUMFLEX ACCENT}",
    "`": "\N{COMBINING GRAVE ACCENT}",
    "~": "\N{COMBINING TILDE}",
    "c": "\N{COMBINING CEDILLA}",
    "v": "\N{COMBINING CARON}",
}
NAMED_AUTHORS = 3
"""Of a work of more authors the first is named, and `et al.`."""

KEYS = {
    "He et al. 2016": "he2016deep",
    "torchvision's": "torchvision2016",
    "Caron et al. 2020, SwAV": "caron2020unsupervised",
    "SwAV": "caron2020unsupervised",
    "Asano et al. 2020, SeLa": "asano2020self",
    "Chen et al. 2020, SimCLR": "chen2020simple",
    "Chen et al. 2020, SimCLR v2": "chen2020big",
    "VISSL's": "goyal2021vissl",
    "He et al. 2020, MoCo": "he2020momentum",
    "Chen et al. 2020, MoCo v2": "chen2020improved",
    "MoCo v2": "chen2020improved",
    "Chen et al. 2021, MoCo v3": "chen2021empirical",
    "Wu et al. 2018, instance discrimination": "wu2018unsupervised",
    "PyContrast's": "tian2020makes",
    "Misra and van der Maaten 2020, PIRL": "misra2020self",
    "Tian et al. 2020, InfoMin": "tian2020makes",
    "Li et al. 2021, PCL": "li2021prototypical",
    "Zbontar et al. 2021, Barlow Twins": "zbontar2021barlow",
    "Caron et al. 2021, DINO": "caron2021emerging",
    "Van Horn et al. 2021, iNat2021": "vanhorn2021benchmarking",
    "Grill et al. 2020, BYOL": "grill2020bootstrap",
    "He et al. 2022, MAE": "he2022masked",
    "Atito et al. 2021, SiT": "atito2021sit",
    "Oquab et al. 2023, DINOv2": "oquab2023dinov2",
    "Darcet et al. 2023, registers": "darcet2023vision",
    "Simeoni et al. 2025, DINOv3": "simeoni2025dinov3",
    "Perez-Garcia et al. 2024, RAD-DINO": "perezgarcia2024raddino",
    "Tan and Le 2019, EfficientNet": "tan2019efficientnet",
}
"""How a part of `BackboneSpec.paper` begins, to the work that it is."""
ARCHITECTURES = {
    "resnet": "he2016deep",
    "vit": "dosovitskiy2021image",
    "efficientnet": "tan2019efficientnet",
    "tf_efficientnet": "tan2019efficientnet",
}
"""Families of architectures, to the works that they are from."""


@dataclass(frozen=True)
class Work:
    """One entry."""

    key: str
    kind: str
    """Of BibTeX: `article`, `inproceedings`, `misc` or `software`."""
    fields: Mapping[str, str]
    """As BibTeX has them, in their order."""

    @property
    def bibtex(self) -> str:
        """The entry."""
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in self.fields.items())
        return f"@{self.kind}{{{self.key},\n{lines}\n}}"

    @property
    def authors(self) -> list[str]:
        """`Family, Given` of each; `others` may be the last. Of a group its name."""
        whole = self.fields["author"]
        return [unescaped(each) for each in ([whole] if whole.startswith("{") else whole.split(" and "))]

    @property
    def year(self) -> str:
        """Without one, as of a program that is still written, `n.d.`."""
        return self.fields.get("year", "n.d.")

    @property
    def title(self) -> str:
        """As it is read."""
        return unescaped(self.fields["title"])

    @property
    def line(self) -> str:
        """As a list of references has it: authors, year, title, and where it appeared."""
        families = [name.partition(",")[0] for name in self.authors]
        *before, last = families
        if len(families) > NAMED_AUTHORS or last == "others":
            who = f"{families[0]} et al."
        else:
            who = f"{', '.join(before)} and {last}" if before else last
        stop = "" if self.title.endswith("?") else "."
        return f"{who} ({self.year}). {self.title}{stop} {self._place}"

    @property
    def _place(self) -> str:
        fields = self.fields
        journal = fields.get("journal") or fields.get("booktitle")
        volume = f" {fields['volume']}" if "volume" in fields else ""
        parts = [f"{journal}{volume}"] if journal else []
        parts += [f"version {fields['version']}"] if "version" in fields else []
        if "doi" in fields:
            parts.append(f"doi:{fields['doi']}")
        elif "eprint" in fields:
            parts.append(f"arXiv:{fields['eprint']}")
        elif "howpublished" in fields:
            parts.append(fields["howpublished"].removeprefix(r"\url{").removesuffix("}"))
        return unescaped(", ".join(parts).replace("--", "-")) + "."


@cache
def works() -> Mapping[str, Work]:
    """All of them, by key, in the order of the file."""
    text = files("dvme.paper").joinpath("references.bib").read_text(encoding="ascii")
    return {key: Work(key, kind, dict(FIELD.findall(body))) for kind, key, body in ENTRY.findall(text)}


def bibtex_of(keys: Iterable[str]) -> str:
    """The entries of some works, each once, in the order of their keys."""
    known = works()
    return "\n\n".join(known[key].bibtex for key in sorted(set(keys)))


def keys_of(paper: str) -> tuple[str, ...]:
    """The works that a text such as `Caron et al. 2020, SwAV; 800 epochs` names, each once; () where it names none."""
    found = (_key(part) for part in paper.split("; "))
    return tuple(dict.fromkeys(key for key in found if key))


def details_of(paper: str) -> list[str]:
    """What such a text says beside the works: `800 epochs`, `torchvision's V1 weights`."""
    return [part for part in paper.split("; ") if not is_cited(part)]


def is_cited(part: str) -> bool:
    """Whether a part of such a text is nothing but a citation, with the name of what is cited."""
    return _key(part) is not None and re.match(r".* \d{4}(,|$)", part) is not None


def architecture_key(architecture: str) -> str:
    """The work that an architecture such as `resnet50` or `vit_small_patch16_224` is from; "" where it is not known."""
    family = re.split(r"[\d.]|_(?!efficientnet)", architecture, maxsplit=1)[0]
    return ARCHITECTURES.get(family, "")


def unescaped(text: str) -> str:
    """Without what BibTeX needs: accents as letters, braces gone."""
    accented = ACCENT.sub(lambda found: unicodedata.normalize("NFC", found[2] + COMBINING[found[1]]), text)
    return accented.replace("{", "").replace("}", "")


def _key(part: str) -> str | None:
    """The longest beginning that is known decides."""
    begun = [begin for begin in KEYS if part.startswith(begin)]
    return KEYS[max(begun, key=len)] if begun else None
