"""Extract frozen-backbone embeddings once, compare them honestly with few labels.

`dvme.extract`, `dvme.probe`, `dvme.info`, `dvme.viz`, `dvme.cache.verify` and so on are the commands of the same
names. Importing dvme does not import torch; the first call that needs it does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvme import cache, report
    from dvme.backbones.model import load_backbone
    from dvme.comparison.compare import compare
    from dvme.data import Columns, Task, load_samples
    from dvme.estimators import (
        ConcatProbe,
        DVMEClassifier,
        KNNProbe,
        LinearAdamProbe,
        LinearProbe,
        MeanLogitsEnsemble,
        MLPFusion,
    )
    from dvme.evaluation.probing import probe
    from dvme.explanation.explain import explain
    from dvme.extraction.extract import extract
    from dvme.extraction.plan import plan_extraction
    from dvme.heads.saving import load_head
    from dvme.overview import info
    from dvme.prediction.predict import predict
    from dvme.report.options import PageOptions
    from dvme.report.viz import viz
    from dvme.report.write import write_report
    from dvme.runtime import Runtime, silent
    from dvme.sampling.options import SubsetOptions
    from dvme.sampling.subsets import subsets
    from dvme.sweeping.run import Run
    from dvme.sweeping.sweep import sweep

_HOMES = {
    "ConcatProbe": "dvme.estimators",
    "Columns": "dvme.data",
    "DVMEClassifier": "dvme.estimators",
    "KNNProbe": "dvme.estimators",
    "LinearAdamProbe": "dvme.estimators",
    "LinearProbe": "dvme.estimators",
    "MLPFusion": "dvme.estimators",
    "MeanLogitsEnsemble": "dvme.estimators",
    "PageOptions": "dvme.report.options",
    "Run": "dvme.sweeping.run",
    "Runtime": "dvme.runtime",
    "SubsetOptions": "dvme.sampling.options",
    "Task": "dvme.data",
    "compare": "dvme.comparison.compare",
    "explain": "dvme.explanation.explain",
    "extract": "dvme.extraction.extract",
    "info": "dvme.overview",
    "load_backbone": "dvme.backbones.model",
    "load_head": "dvme.heads.saving",
    "load_samples": "dvme.data",
    "plan_extraction": "dvme.extraction.plan",
    "predict": "dvme.prediction.predict",
    "probe": "dvme.evaluation.probing",
    "silent": "dvme.runtime",
    "subsets": "dvme.sampling.subsets",
    "sweep": "dvme.sweeping.sweep",
    "viz": "dvme.report.viz",
    "write_report": "dvme.report.write",
}

__all__ = [
    "Columns",
    "ConcatProbe",
    "DVMEClassifier",
    "KNNProbe",
    "LinearAdamProbe",
    "LinearProbe",
    "MLPFusion",
    "MeanLogitsEnsemble",
    "PageOptions",
    "Run",
    "Runtime",
    "SubsetOptions",
    "Task",
    "cache",
    "compare",
    "explain",
    "extract",
    "info",
    "load_backbone",
    "load_head",
    "load_samples",
    "plan_extraction",
    "predict",
    "probe",
    "report",
    "silent",
    "subsets",
    "sweep",
    "viz",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("dvme")
    if name in ("cache", "report"):
        return import_module(f"dvme.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'dvme' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
