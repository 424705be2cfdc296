"""README, guides and references as texts: links lead somewhere, pages are short, sentences are plain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "examples").glob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *GUIDES, ROOT / "cache" / "README.md"]
MOST_BYTES = 8_000
MOST_WORDS = 80
LEAST_EASE = 65.0
"""Flesch 1948: 60 to 70 is plain English, 50 to 60 fairly difficult, 30 to 50 what students read."""


def _prose(page: Path) -> str:
    """Without blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def paragraphs(text: str) -> list[str]:
    """Of prose, each item of a list by itself; no headings, tables, pictures and lines of code."""
    said = re.sub(r"^(\||#|\[?!| {4}).*$", "", text, flags=re.MULTILINE)
    said = re.sub(r"^(- |\d+\. )", "\n\n", said, flags=re.MULTILINE)
    return [part.strip() for part in re.split(r"\n\s*\n", said) if part.strip()]


def reading_ease(parts: list[str]) -> float:
    """206.835 - 1.015 words a sentence - 84.6 syllables a word; a piece of code is a word of one syllable.

    Source: Flesch 1948. A syllable is a run of vowels, without an e at the end of a word.
    """
    plain = [re.sub(r"`[^`]*`", "code", re.sub(r"\]\([^)]*\)", "]", part)).replace("et al.", "et al") for part in parts]
    n_sentences = sum(max(1, len(re.findall(r"[.!?](?=\W*(?:\s|$))", part))) for part in plain)
    words = re.findall(r"[a-z]+(?:'[a-z]+)?", " ".join(plain).lower())
    n_syllables = sum(max(1, len(re.findall(r"[aeiouy]+", word.removesuffix("e")))) for word in words)
    return 206.835 - 1.015 * len(words) / n_sentences - 84.6 * n_syllables / len(words)


def _anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links(page: Path) -> list[str]:
    """Targets within the project."""
    targets = re.findall(r"\]\(([^)\s]+)\)", _prose(page))
    return [target for target in targets if not target.startswith(("http://", "https://"))]


def test_readme__is_short() -> None:
    assert README.stat().st_size <= MOST_BYTES


def test_readme__leads_to_every_guide() -> None:
    guides = {f"examples/{page.name}" for page in (*GUIDES, *(ROOT / "examples").glob("*.ipynb"))}
    assert guides <= set(_links(README))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.relative_to(ROOT)}")
def test_links__lead_to_files_and_headings(page: Path) -> None:
    for link in _links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.relative_to(ROOT)}")
def test_paragraphs__are_short(page: Path) -> None:
    long = [part for part in paragraphs(_prose(page)) if len(part.split()) > MOST_WORDS]
    assert long == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.relative_to(ROOT)}")
def test_sentences__are_plain(page: Path) -> None:
    assert reading_ease(paragraphs(_prose(page))) >= LEAST_EASE


def test_reading_ease__by_hand() -> None:
    """Six words of six syllables in two sentences; then eleven syllables in three words."""
    assert reading_ease(["The cat sat. It saw me."]) == pytest.approx(206.835 - 1.015 * 3 - 84.6)
    assert reading_ease(["Unidentifiable `x` university."]) == pytest.approx(206.835 - 1.015 * 3 - 84.6 * 11 / 3)


def test_paragraphs__are_told_from_all_else() -> None:
    text = "# Heading\n\nOne\nand a half.\n- two\n  goes on\n- three\n\n| a | table |\n![picture](x.png)\n    code\n"
    assert paragraphs(text) == ["One\nand a half.", "two\n  goes on", "three"]
