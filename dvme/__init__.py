"""Frozen backbones on your images: which one to use, whether fusing several is worth it, how many labels it takes.

Images are embedded once, into a cache. Everything after that is quick work on arrays. Every function has an example
in its help, such as `help(dvme.probe)`, and every result has `to_frame()`, `to_markdown()` and `to_latex()`.

From images to an answer
    extract           embed a folder or a table of images; what the cache has is not computed again
    plan_extraction   what that would take, before it is begun
    probe             compare backbones and heads on one test set: a table with intervals, and a verdict in words
    sweep             the same at several numbers of labels, kept in a folder, the run
    subsets           draw the subsets of a sweep beforehand, as a file that another lab can use
    write_report      a run as one HTML page; `dvme.report` has its figures for notebooks
    compare           a run beside another one, or beside a published table
    methods, cite     the methods section of a paper, of what a run did; and how to cite dvme

What was embedded
    open              a cache as arrays beside labels, for NumPy, pandas, torch, anndata and `datasets`
    info              what a cache holds, in numbers
    viz               maps of the embeddings to explore, as one HTML page
    cache             the module that verifies, repairs, labels, prunes, exports and imports caches

What was learned
    predict           a saved head on new images
    explain           what a saved head attends to and relies on
    load_head, Run    a saved head, and a finished run by Run.load, as objects

Images and backbones
    load_samples      which images a folder or a table lists, and what is known of them
    public_sets, public_set     data sets that dvme knows, and a table made of a download
    load_backbone     a backbone as a model that embeds pixels
    adapt             train all weights of a backbone further on images of your own

For programs of your own
    LinearProbe, KNNProbe, ConcatProbe, DVMEClassifier ...   the heads for scikit-learn
    EmbeddingDataset  rows of a cache for a DataLoader of torch
    doctor, demo      is this installation sound; the demo on photographs of solar cells
    Runtime, SubsetOptions, Columns, PageOptions             settings, for which a dict does as well
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvme import cache, report
    from dvme.adaptation.adapt import adapt
    from dvme.backbones.loading.model import load_backbone
    from dvme.data import Columns, Task, load_samples
    from dvme.dataset.opened import open  # noqa: A004 - it is dvme.open
    from dvme.dataset.torch_rows import EmbeddingDataset
    from dvme.demonstration.demo import demo
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
    from dvme.health.doctor import doctor
    from dvme.paper.cite import cite
    from dvme.paper.methods import methods
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
    "EmbeddingDataset": "dvme.dataset.torch_rows",
    "KNN": "dvme.heads.neighbours.knn",
    "Linear": "dvme.heads.exact.linear",
    "NetworkHead": "dvme.heads.fusion.network_head",
    "PageOptions": "dvme.report.options",
    "Run": "dvme.study.run",
    "SubsetOptions": "dvme.study.design.options",
    "adapt": "dvme.adaptation.adapt",
    "cite": "dvme.paper.cite",
    "compare": "dvme.study.compare",
    "demo": "dvme.demonstration.demo",
    "doctor": "dvme.health.doctor",
    "explain": "dvme.explanation.explain",
    "extract": "dvme.extraction.extract",
    "info": "dvme.upkeep.info",
    "load_backbone": "dvme.backbones.loading.model",
    "load_head": "dvme.segmentation.saved",
    "methods": "dvme.paper.methods",
    "open": "dvme.dataset.opened",
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
    "EmbeddingDataset",
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
    "cite",
    "compare",
    "demo",
    "doctor",
    "explain",
    "extract",
    "info",
    "load_backbone",
    "load_head",
    "load_samples",
    "methods",
    "open",
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
