"""What every head predicts on one small job, as it was when its revision was last raised.

A sweep takes the predictions of finished jobs for a head's own as long as its revision is the same. So a change of the
code that changes predictions has to raise `revision` of the head's class; then record them anew:

    python tests/dvme/heads/test_revisions.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dvme.heads import FUSIONS, HEADS, Embedded, Job, fit_jobs, get_head
from dvme.metrics.classification import log_odds
from dvme.runtime import Runtime

RECORDED = Path(__file__).with_name("revisions.json")
SETTINGS = "@max-epochs=20@min-epochs=2@stop-patience=3@plateau-patience=1@batch-size=16"
"""Of the heads that are trained: short, and with every rule of the schedule at work."""
EXACT = ("linear", "knn", "concat", "mean-logits")
TOLERANCE = 1e-6
TRAINED_TOLERANCE = 2e-4
"""Of log odds in float32 after up to 60 minibatches; other processors sum in another order."""


def predicted(name: str) -> tuple[int, list[list[float]]]:
    """The head's revision, and (12, 3) log odds."""
    rng = np.random.default_rng(7)
    labels = rng.choice(3, 72, p=[0.5, 0.3, 0.2])
    blocks = {
        block: (rng.normal(size=(72, dim)) + np.eye(3, dim)[labels]).astype(np.float32)
        for block, dim in (("a", 6), ("b", 5))
    }
    head = get_head(name if name in EXACT else name + SETTINGS)
    backbones = ("a", "b") if name in FUSIONS else ("a",)
    job = Job(head, backbones, np.arange(40), np.arange(40, 60), seed=3)
    data = Embedded(blocks, labels, 3)
    (fitted,) = fit_jobs([job], data, runtime=Runtime(device="cpu"))
    shares = fitted.log_proba(data.blocks(backbones, np.arange(60, 72)))
    return head.revision, np.clip(log_odds(shares), -30, 30).round(9).tolist()


@pytest.mark.parametrize("name", HEADS)
def test_predictions_are_those_of_the_revision(name: str) -> None:
    recorded = json.loads(RECORDED.read_text())[name]
    revision, odds = predicted(name)
    assert revision == recorded["revision"], f"record the predictions of revision {revision}: see {__file__}"
    np.testing.assert_allclose(
        odds,
        recorded["log_odds"],
        rtol=0,
        atol=TOLERANCE if name in EXACT else TRAINED_TOLERANCE,
        err_msg=f"{name} predicts something else: raise `revision` of its class, then record, see {__file__}",
    )


if __name__ == "__main__":
    every = {}
    for each in HEADS:
        number, values = predicted(each)
        every[each] = {"revision": number, "log_odds": values}
    RECORDED.write_text(json.dumps(every, indent=1) + "\n")
