from __future__ import annotations

import json
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import dvme
from dvme.paper.bibliography import works
from dvme.paper.cite import SOURCES

ROOT = Path(__file__).parents[3]
PAPERS = ["truong2021transferable", "azizi2021big", "taher2021systematic", "krones2026pretraining"]


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    """CITATION.cff."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return found


def test_cite__names_dvme_its_papers_and_its_programs() -> None:
    citation = dvme.cite()
    keys = [key for own in citation.works.values() for key in own]
    assert keys[:5] == ["dvme", *PAPERS]
    assert {"douze2024faiss", "zarr", "wightman2019timm", "paszke2019pytorch", "pedregosa2011scikit"} <= set(keys)
    assert citation.bibtex.count("\n}") == len(keys)
    for title, own in citation.works.items():
        assert f"{title}:\n" in citation.text
        assert all(f"  {line}\n" in citation.text for line in own.values())
    assert "dvme methods RUN" in citation.text
    assert json.loads(json.dumps(citation.to_json()))["works"] == citation.works


def test_cite__dvme_itself_is_as_installed() -> None:
    own, installed = works()["dvme"].fields, metadata("dvme")
    assert own["version"] == installed["Version"] == dvme.__version__
    assert own["license"] == installed["License-Expression"]


def test_citation_file__agrees_about_dvme(kept: dict[str, Any]) -> None:
    own = works()["dvme"]
    assert kept["title"] == own.title
    assert f"{kept['version']}" == own.fields["version"]
    assert kept["license"] == own.fields["license"]
    assert [_name(author) for author in kept["authors"]] == own.authors
    assert sorted(kept["keywords"]) == sorted(metadata("dvme")["Keywords"].split(","))


def test_citation_file__agrees_about_the_sources(kept: dict[str, Any]) -> None:
    sources = [works()[key] for keys in SOURCES.values() for key in keys if key != "dvme"]
    found = kept["references"]
    assert [each["title"] for each in found] == [work.title for work in sources]
    for each, work in zip(found, sources, strict=True):
        assert f"{each.get('year', 'n.d.')}" == work.year, work.key
        assert each.get("doi") == work.fields.get("doi"), work.key
        assert [_name(author) for author in each["authors"]] == work.authors, work.key


def _name(author: dict[str, str]) -> str:
    """As BibTeX has it."""
    return author.get("name") or f"{author['family-names']}, {author['given-names']}"
