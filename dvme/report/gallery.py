"""Single images worth a look: the most confident mistakes, and the labels that are likely wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from dvme.report.html.page import Section
from dvme.report.html.template import filled, heading, paragraph, soft
from dvme.report.html.thumbnails import large_thumbnail
from dvme.report.options import PageOptions
from dvme.report.points import names_of
from dvme.study.diagnosis import Mistake, finding_mistakes
from dvme.study.loaded import Study
from dvme.study.run import SUSPECTS
from dvme.study.suspects import Suspect
from dvme.text import counted

SHOWN = 14
"""Of each kind; the maps find all others by their columns."""


def images_section(study: Study, shown: PageOptions) -> Section | None:
    """The images that the leading method gets wrong, and the labels that it contradicts.

    None without the cache, and where an image has one class and no method was diagnosed.
    """
    several = study.run.manifest.targets.is_multilabel and not study.is_segmentation
    if study.store is None or study.rows is None or not (several or study.diagnoses):
        return None
    names = names_of(study.store, study.rows, is_anonymous=shown.anonymous)
    paths = study.store.column("path")[study.rows].tolist() if shown.thumbnails else None
    body = Markup() if shown.thumbnails else paragraph("The images themselves were left out of this page.")
    if several:
        return Section("images", "Images to look at", body + _of_findings(study, names, paths))
    leading, n_test = study.diagnoses[0], len(study.run.manifest.test)
    missed = f"{leading.method} takes {leading.n_mistakes:,} of {counted(n_test, 'test image')} for another class."
    n_known = int((~np.isnan(study.predicted(study.lead)[:, 0])).sum())
    doubted = (
        f"Heads that did not learn from the image contradict the labels of {len(study.suspects):,} of "
        f"{counted(n_known, 'image')}, by confident learning (Northcutt et al. 2021). Many of them are hard images "
        f"with a right label: look before you change one. {SUSPECTS} of the run lists all."
    )
    for title, said, n, found in (
        ("The most confident mistakes", missed, leading.n_mistakes, leading.mistakes),
        ("Labels that are likely wrong", doubted, len(study.suspects), study.suspects),
    ):
        first = f" The first {SHOWN} of them:" if n > SHOWN else ""
        body += heading(title) + paragraph(said + first) + _gallery(study, found[:SHOWN], names, paths)
    return Section("images", "Images to look at", body)


def _of_findings(study: Study, names: Sequence[str], paths: Sequence[str] | None) -> Markup:
    """The most confident mistakes, of one finding of one image each."""
    found = finding_mistakes(study.run.manifest, study.run.finished[study.lead, study.last])
    n_known = int((~np.isnan(study.run.manifest.targets.values[study.run.manifest.test])).sum())
    first = f" The first {SHOWN} of them:" if len(found) > SHOWN else ""
    said = (
        f"{study.name(study.lead)} is wrong about {len(found):,} of {counted(n_known, 'finding')} that the test images "
        f"are known to have or not to have, at a probability of a half.{first}"
    )
    unsought = "Labels that are likely wrong are looked for only where each image has one class."
    body = heading("The most confident mistakes") + paragraph(said)
    return body + _gallery(study, found[:SHOWN], names, paths) + soft(unsought)


def _gallery(
    study: Study, found: Sequence[Mistake | Suspect], names: Sequence[str], paths: Sequence[str] | None
) -> Markup:
    """By content, for their own names may be secret. N names and paths; without paths no image is shown."""
    entries = []
    for each in found:
        content = bytes.fromhex(each.content)
        is_it = (study.run.manifest.images == np.frombuffer(content, np.uint8)).all(axis=1)
        position = int(is_it.argmax())
        entries.append(
            {
                "url": None if paths is None else large_thumbnail(paths[position], content),
                "name": names[position],
                "label": f"{each.label} ({each.p_label:.0%})",
                "predicted": f"{each.predicted} ({each.p_predicted:.0%})",
            }
        )
    if not entries:
        return paragraph("None.")
    return filled("gallery", entries=entries, is_shown=paths is not None)
