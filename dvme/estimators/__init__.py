"""Every head as a scikit-learn classifier, for `cross_val_score`, `Pipeline`, `GridSearchCV` and the like.

They fit by the same code as `dvme probe`. X is one array; a fusion is told by `blocks` which columns are whose:

    DVMEClassifier(blocks=(2048, 2048, 1536)).fit(X, y)

A fit keeps some training rows for validation, see `validation_fraction`; the head learns from the others. Importing
this module does not import torch; fitting does.
"""

from __future__ import annotations

from dvme.estimators.heads import (
    ConcatProbe,
    DVMEClassifier,
    KNNProbe,
    LinearAdamProbe,
    LinearProbe,
    MeanLogitsEnsemble,
    MLPFusion,
)

__all__ = [
    "ConcatProbe",
    "DVMEClassifier",
    "KNNProbe",
    "LinearAdamProbe",
    "LinearProbe",
    "MLPFusion",
    "MeanLogitsEnsemble",
]
