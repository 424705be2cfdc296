"""What a report says beside its answers: in a box what changes how they are to be taken, below what does not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dvme.study.loaded import Study
from dvme.text import NO_GROUPS

QUIET = re.compile(
    r"settings that differ from the defaults: "
    r"|sizes left out of the usual ones: "
    r"|your val part is the one validation set: "
    r"|not all classes have enough images for a balanced subset of "
    r"|near-duplicates were not looked for in "
    r"|left out: [\d,]+ without a label"
    r"|[\d,]+ jobs? of [\d,]+ (?:was|were) fitted before by "
    r"|nothing on attention: "
    r"|[\d,]+ images? of [\d,]+ cannot be shown"
    r"|no (?:maps|thumbnails|section on the fusion)\b"
    r"|.*: left out of training$"
)
"""How notices begin that change no decision; every other one may."""
FEW = re.compile(r"no interval and no verdict|.*; few of a class: ")
"""How the line on the intervals begins where it says that the test set is small."""


def deciding(study: Study, notices: Sequence[str]) -> list[str]:
    """Of what is said, and of what the study says of its test images and groups, the lines that change a decision."""
    own = [NO_GROUPS] if NO_GROUPS in study.summary.notices else []
    own += [f"{study.resampling}."] if FEW.match(study.resampling) else []
    return [*own, *(line for line in notices if not QUIET.match(line))]


def quiet(notices: Sequence[str]) -> list[str]:
    """The other lines."""
    return [line for line in notices if QUIET.match(line)]
