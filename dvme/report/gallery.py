"""Single images worth a look: the most confident mistakes, and the labels that are likely wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.report.html.page import Section, text
from dvme.report.html.thumbnails import large_thumbnail
from dvme.study.loaded import Study
from dvme.study.mistakes import confident_mistakes, likely_wrong_labels
from dvme.study.run import SUSPECTS
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


def images_section(study: Study, method: int, pictures: Pictures) -> Section:
    """The images that a method gets wrong, or the labels that it contradicts."""
    probabilities, labels = study.predicted(method), study.judge.labels
    test = study.run.manifest.test
    mistakes = test[confident_mistakes(labels[test], probabilities[test])]
    known = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    doubtful = known[likely_wrong_labels(labels[known], probabilities[known])]
    missed = f"{study.name(method)} takes {len(mistakes):,} of {counted(len(test), 'test image')} for another class."
    doubted = (
        f"Heads that did not learn from the image contradict the labels of {len(doubtful):,} of "
        f"{counted(len(known), 'image')}, by confident learning (Northcutt et al. 2021). Many of them are hard images "
        f"with a right label: look before you change one. {SUSPECTS} of the run lists all."
    )
    body = "" if pictures.is_shown else "<p>The images themselves were left out of this page.</p>"
    for heading, said, found in (
        ("The most confident mistakes", missed, mistakes),
        ("Labels that are likely wrong", doubted, doubtful),
    ):
        first = f" The first {SHOWN} of them:" if len(found) > SHOWN else ""
        body += f"<h3>{heading}</h3><p>{text(said)}{first}</p>{_gallery(study, found, probabilities, pictures)}"
    return Section("images", "Images to look at", body)


def _gallery(study: Study, positions: NDArray[Any], probabilities: NDArray[Any], pictures: Pictures) -> str:
    classes, labels = study.run.manifest.classes, study.judge.labels
    entries = []
    for position in positions[:SHOWN].tolist():
        predicted = int(probabilities[position].argmax())
        url = large_thumbnail(pictures.paths[position], pictures.ids[position]) if pictures.is_shown else None
        picture = f'<img src="{url}" alt="" loading="lazy">' if url else ""
        if pictures.is_shown and not url:
            picture = '<span class="thumbnail none">no image</span>'
        entries.append(
            f"<li>{picture}<strong>{text(pictures.names[position])}</strong><br>label "
            f"{text(classes[labels[position]])} ({probabilities[position, labels[position]]:.0%})<br>predicted "
            f"{text(classes[predicted])} ({probabilities[position, predicted]:.0%})</li>"
        )
    return f'<ul class="gallery">{"".join(entries)}</ul>' if entries else "<p>None.</p>"
