"""Single images worth a look: the most confident mistakes, and the labels that are likely wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvme.report.html.page import Section, text
from dvme.report.html.thumbnails import large_thumbnail
from dvme.study.diagnosis import Mistake
from dvme.study.loaded import Study
from dvme.study.run import SUSPECTS
from dvme.study.suspects import Suspect
from dvme.text import counted

SHOWN = 14
"""Of each kind; the maps find all others by their columns."""


@dataclass(frozen=True)
class Pictures:
    """Where a study's images are to be had."""

    names: Sequence[str]
    """N names, in the manifest's order."""
    paths: Sequence[str]
    ids: NDArray[np.uint8]
    """(N, 16) content ids."""
    is_shown: bool
    """Whether the images may be seen."""


def images_section(study: Study, pictures: Pictures) -> Section:
    """The images that the leading method gets wrong, and the labels that it contradicts."""
    leading, n_test = study.diagnoses[0], len(study.run.manifest.test)
    missed = f"{leading.method} takes {leading.n_mistakes:,} of {counted(n_test, 'test image')} for another class."
    n_known = int((~np.isnan(study.predicted(study.lead)[:, 0])).sum())
    doubted = (
        f"Heads that did not learn from the image contradict the labels of {len(study.suspects):,} of "
        f"{counted(n_known, 'image')}, by confident learning (Northcutt et al. 2021). Many of them are hard images "
        f"with a right label: look before you change one. {SUSPECTS} of the run lists all."
    )
    body = "" if pictures.is_shown else "<p>The images themselves were left out of this page.</p>"
    for heading, said, n, found in (
        ("The most confident mistakes", missed, leading.n_mistakes, leading.mistakes),
        ("Labels that are likely wrong", doubted, len(study.suspects), study.suspects),
    ):
        first = f" The first {SHOWN} of them:" if n > SHOWN else ""
        body += f"<h3>{heading}</h3><p>{text(said)}{first}</p>{_gallery(study, found[:SHOWN], pictures)}"
    return Section("images", "Images to look at", body)


def _gallery(study: Study, found: Sequence[Mistake | Suspect], pictures: Pictures) -> str:
    """By content, for their own names may be secret."""
    places = {identity.tobytes().hex(): place for place, identity in enumerate(study.run.manifest.images)}
    entries = []
    for each in found:
        position = places[each.content]
        url = large_thumbnail(pictures.paths[position], pictures.ids[position]) if pictures.is_shown else None
        picture = f'<img src="{url}" alt="" loading="lazy">' if url else ""
        if pictures.is_shown and not url:
            picture = '<span class="thumbnail none">no image</span>'
        entries.append(
            f"<li>{picture}<strong>{text(pictures.names[position])}</strong><br>label "
            f"{text(each.label)} ({each.p_label:.0%})<br>predicted {text(each.predicted)} ({each.p_predicted:.0%})</li>"
        )
    return f'<ul class="gallery">{"".join(entries)}</ul>' if entries else "<p>None.</p>"
