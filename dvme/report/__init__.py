"""What the reports show: figures as plain functions, for notebooks and for the page alike.

`dvme.report.learning_curve`, `dvme.report.confusion` and so on return plotly figures, of what `dvme.sweep` returned, of
what `read_summary` reads of a finished run, or of the folder of one; `save_figures` writes them as files. Importing
dvme.report does not import plotly; drawing the first figure does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvme.report.figures.counts import class_counts
    from dvme.report.figures.curves import learning_curve
    from dvme.report.figures.diagnostics import calibration, confusion, precision_recall, roc
    from dvme.report.figures.embedding import embedding_maps
    from dvme.report.figures.forest import differences, gains, reliance
    from dvme.report.figures.matrices import attention, down_sampled, similarity, token_attention
    from dvme.report.figures.static import save_figures
    from dvme.study.answers import Difference
    from dvme.study.run import read_summary

_HOMES = {
    "Difference": "dvme.study.answers",
    "attention": "dvme.report.figures.matrices",
    "calibration": "dvme.report.figures.diagnostics",
    "class_counts": "dvme.report.figures.counts",
    "confusion": "dvme.report.figures.diagnostics",
    "differences": "dvme.report.figures.forest",
    "down_sampled": "dvme.report.figures.matrices",
    "embedding_maps": "dvme.report.figures.embedding",
    "gains": "dvme.report.figures.forest",
    "learning_curve": "dvme.report.figures.curves",
    "precision_recall": "dvme.report.figures.diagnostics",
    "read_summary": "dvme.study.run",
    "reliance": "dvme.report.figures.forest",
    "roc": "dvme.report.figures.diagnostics",
    "save_figures": "dvme.report.figures.static",
    "similarity": "dvme.report.figures.matrices",
    "token_attention": "dvme.report.figures.matrices",
}

__all__ = [
    "Difference",
    "attention",
    "calibration",
    "class_counts",
    "confusion",
    "differences",
    "down_sampled",
    "embedding_maps",
    "gains",
    "learning_curve",
    "precision_recall",
    "read_summary",
    "reliance",
    "roc",
    "save_figures",
    "similarity",
    "token_attention",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dvme.report' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
