"""Findings of images on a page: a column for each, so that any of them can colour the points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.data.findings import are_findings, finding_names, parsed
from dvme.defaults import NO_FINDING
from dvme.errors import OptionError
from dvme.text import some_of

YES, NO, UNCERTAIN = "yes", "no", "uncertain"
NO_NUMBERS = (
    "Images may have several findings: choose one to colour the points. Silhouette and kNN accuracy are of one class "
    "for each image, and are not given."
)


def finding_columns(labels: NDArray[Any], first: str | None = None) -> dict[str, NDArray[Any]]:
    """Whether each image has each finding, in words; "" where nobody knows.

    Args:
        labels: (N,) as `dvme.data.findings` writes them, "" for none.
        first: the finding whose column comes first; None: the most frequent. The others follow in their order.

    Returns:
        (N,) texts by finding, then, as `label`, the findings of each image.

    Raises:
        OptionError: if no image is told of `first`.
    """
    names = finding_names(labels)
    check_finding(first, labels)
    values = np.full((len(labels), len(names)), np.nan, dtype=np.float32)
    is_labelled = labels != MISSING
    values[is_labelled] = parsed(labels[is_labelled], names)
    leading = names.index(first) if first is not None else int((values == 1.0).sum(axis=0).argmax())
    words = np.select([np.isnan(values), values == 1.0, values == 0.0], [MISSING, YES, NO], default=UNCERTAIN).astype(
        object
    )
    order = [leading, *(place for place in range(len(names)) if place != leading)]
    texts = [", ".join(np.array(names, dtype=object)[row]) or NO_FINDING for row in values == 1.0]
    whole = np.where(is_labelled, np.array(texts, dtype=object), MISSING)
    return {names[place]: words[:, place] for place in order} | {"label": whole}


def check_finding(finding: str | None, labels: NDArray[Any]) -> None:
    """Refuse to colour by what is no finding of these images.

    Raises:
        OptionError: naming the findings.
    """
    there = finding_names(labels) if are_findings(labels) else ()
    if finding is not None and finding not in there:
        step = f"choose from {some_of(there)}" if there else "its images have one class each, which colours the points"
        raise OptionError(f"the labels have no finding {finding!r}; {step}")
