"""`dvme methods`: the methods section of a paper, and its references, from a finished run and nothing else."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dvme.arguments import public
from dvme.files import check_destination, written_aside
from dvme.paper.about_backbones import about_backbones
from dvme.paper.about_data import about_data
from dvme.paper.about_heads import about_heads
from dvme.paper.about_judging import about_judging
from dvme.paper.about_software import about_software
from dvme.paper.bibliography import bibtex_of
from dvme.paper.material import Material
from dvme.paper.wording import UNKNOWN, keys_in

SUFFIXES = (".md",)
PARAGRAPHS = {
    "Images": about_data,
    "Embeddings": about_backbones,
    "Heads": about_heads,
    "Evaluation": about_judging,
    "Software": about_software,
}
"""In their order."""


@dataclass(frozen=True)
class MethodsReport:
    """How a run was made, in the words of a paper."""

    run: str
    paragraphs: dict[str, str]
    """By their titles, in Pandoc's Markdown: `[@he2016deep]` cites."""
    keys: list[str]
    """Of all works that are cited, in order."""
    bibtex: str
    """Their entries."""
    n_unknown: int
    """Marks `[cite]`: works that dvme does not know, for the author to fill in."""
    out: str | None = field(default=None)
    """Where it was written."""

    @property
    def text(self) -> str:
        """The paragraphs."""
        return "\n\n".join(f"**{title}.** {paragraph}" for title, paragraph in self.paragraphs.items())

    @property
    def markdown(self) -> str:
        """The paragraphs, and the entries as a block."""
        return f"# Methods\n\n{self.text}\n\n# References\n\n```bibtex\n{self.bibtex}\n```\n"

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`, with the whole text."""
        return asdict(self) | {"text": self.text}


@public
def methods(run: str | Path, out: str | Path | None = None, *, force: bool = False) -> MethodsReport:
    """Write how a finished run was made, as a paper tells it: only what the run did, and the same text every time.

    Args:
        run: a folder of `dvme sweep`, or of `dvme probe` with `out`. Its cache is not read.
        out: a .md file for the text and the references, or None.
        force: replace a file that is there.

    Raises:
        DataError, OptionError: each says what is wrong and what to do.

    Example:
        >>> dvme.methods("run").run
        'run'
    """
    place = None if out is None else check_destination(out, SUFFIXES, force=force)
    material = Material.of(run)
    paragraphs = {title: about(material) for title, about in PARAGRAPHS.items()}
    text = "\n\n".join(paragraphs.values())
    keys = keys_in(text)
    report = MethodsReport(
        run=os.fspath(run),
        paragraphs=paragraphs,
        keys=keys,
        bibtex=bibtex_of(keys),
        n_unknown=text.count(UNKNOWN),
        out=None if place is None else os.fspath(place),
    )
    if place is not None:
        with written_aside(place) as aside:
            aside.write_text(report.markdown, encoding="utf-8")
    return report
