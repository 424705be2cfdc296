"""What the reports show: figures as plain functions, for notebooks and for the page alike.

`dvme.report.learning_curve`, `dvme.report.confusion` and so on return plotly figures, of what `dvme.sweep` returned or
`read_summary` reads of a finished run; `save_figures` writes them as files. Importing dvme.report does not import
plotly; drawing the first figure does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvme.report.counts import class_counts
    from dvme.report.curves import learning_curve
    from dvme.report.diagnostics import calibration, confusion, precision_recall, roc
    from dvme.report.embedding import embedding_maps
    from dvme.report.forest import Difference, differences, gains, reliance
    from dvme.report.matrices import attention, down_sampled, similarity, token_attention
    from dvme.report.static import save_figures
    from dvme.sweeping.run import read_summary

_HOMES = {
    "Difference": "dvme.report.forest",
    "attention": "dvme.report.matrices",
    "calibration": "dvme.report.diagnostics",
    "class_counts": "dvme.report.counts",
    "confusion": "dvme.report.diagnostics",
    "differences": "dvme.report.forest",
    "down_sampled": "dvme.report.matrices",
    "embedding_maps": "dvme.report.embedding",
    "gains": "dvme.report.forest",
    "learning_curve": "dvme.report.curves",
    "precision_recall": "dvme.report.diagnostics",
    "read_summary": "dvme.sweeping.run",
    "reliance": "dvme.report.forest",
    "roc": "dvme.report.diagnostics",
    "save_figures": "dvme.report.static",
    "similarity": "dvme.report.matrices",
    "token_attention": "dvme.report.matrices",
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
