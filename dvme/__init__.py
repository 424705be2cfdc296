"""Extract frozen-backbone embeddings once, compare them honestly with few labels.

`dvme.extract`, `dvme.probe`, `dvme.info`, `dvme.viz`, `dvme.cache.verify` and so on are the commands of the same
names. Importing dvme does not import torch; the first call that needs it does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvme import cache, report
    from dvme.adaptation.adapt import adapt
    from dvme.backbones.loading.model import load_backbone
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
    from dvme.explanation.explain import explain
    from dvme.extraction.extract import extract
    from dvme.extraction.plan import plan_extraction
    from dvme.heads.exact.linear import Linear
    from dvme.heads.fusion.controls import Concat, MeanLogits
    from dvme.heads.fusion.network_head import NetworkHead
    from dvme.heads.neighbours.knn import KNN
    from dvme.prediction.predict import predict
    from dvme.report.options import PageOptions
    from dvme.report.viz import viz
    from dvme.report.write import write_report
    from dvme.runtime import Runtime, silent
    from dvme.segmentation.saved import load_head
    from dvme.sets import public_set, public_sets
    from dvme.study.compare import compare
    from dvme.study.design.options import SubsetOptions
    from dvme.study.design.subsets import subsets
    from dvme.study.probe import probe
    from dvme.study.run import Run
    from dvme.study.sweep import sweep
    from dvme.upkeep.info import info

_HOMES = {
    **dict.fromkeys(("Columns", "Task", "load_samples"), "dvme.data"),
    **dict.fromkeys(("Concat", "MeanLogits"), "dvme.heads.fusion.controls"),
    **dict.fromkeys(("ConcatProbe", "DVMEClassifier", "KNNProbe", "LinearAdamProbe"), "dvme.estimators"),
    **dict.fromkeys(("LinearProbe", "MLPFusion", "MeanLogitsEnsemble"), "dvme.estimators"),
    **dict.fromkeys(("Runtime", "silent"), "dvme.runtime"),
    "KNN": "dvme.heads.neighbours.knn",
    "Linear": "dvme.heads.exact.linear",
    "NetworkHead": "dvme.heads.fusion.network_head",
    "PageOptions": "dvme.report.options",
    "Run": "dvme.study.run",
    "SubsetOptions": "dvme.study.design.options",
    "adapt": "dvme.adaptation.adapt",
    "compare": "dvme.study.compare",
    "explain": "dvme.explanation.explain",
    "extract": "dvme.extraction.extract",
    "info": "dvme.upkeep.info",
    "load_backbone": "dvme.backbones.loading.model",
    "load_head": "dvme.segmentation.saved",
    "plan_extraction": "dvme.extraction.plan",
    "predict": "dvme.prediction.predict",
    "probe": "dvme.study.probe",
    "public_set": "dvme.sets",
    "public_sets": "dvme.sets",
    "subsets": "dvme.study.design.subsets",
    "sweep": "dvme.study.sweep",
    "viz": "dvme.report.viz",
    "write_report": "dvme.report.write",
}

__all__ = [
    "KNN",
    "Columns",
    "Concat",
    "ConcatProbe",
    "DVMEClassifier",
    "KNNProbe",
    "Linear",
    "LinearAdamProbe",
    "LinearProbe",
    "MLPFusion",
    "MeanLogits",
    "MeanLogitsEnsemble",
    "NetworkHead",
    "PageOptions",
    "Run",
    "Runtime",
    "SubsetOptions",
    "Task",
    "adapt",
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
    "public_set",
    "public_sets",
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
