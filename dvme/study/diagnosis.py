"""How a method errs on the test images of a study: confusion, curves, calibration, confident mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.calibration import Reliability, reliability
from dvme.metrics.confusion import Confusion, count_confusion
from dvme.metrics.curves import Curves, precision_recall, roc
from dvme.metrics.grades import mean_cuts, predicted_classes
from dvme.study.design.manifest import SubsetManifest
from dvme.study.ledger import FinishedJob
from dvme.study.methods import method_name
from dvme.study.suspects import unseen_probabilities

MOST_MISTAKES = 100
"""That are listed, the most confident ones; predictions.parquet of a run has all."""
Names = Sequence[str] | NDArray[Any]


@dataclass(frozen=True)
class Mistake:
    """A test image that is taken for another class."""

    image: str
    """As its source names it; "" where that is not known."""
    path: str
    """Where it is now, as far as the cache knows."""
    content: str
    """Its content id, 32 hexadecimal digits."""
    label: str
    predicted: str
    p_label: float
    """Probability of the label."""
    p_predicted: float
    """Probability of what it is taken for, mostly the most probable class."""


@dataclass(frozen=True)
class Diagnosis:
    """One method at the largest size, by its probabilities averaged over the draws' heads.

    Such an average may score above the table, whose numbers are means of the heads' own scores.
    """

    method: str
    """What it is called in a sentence."""
    head: str
    backbones: tuple[str, ...]
    size: str
    confusion: Confusion
    roc: Curves
    precision_recall: Curves
    calibration: Reliability
    n_mistakes: int
    mistakes: tuple[Mistake, ...]
    """The most confident first; 100 at most."""


def diagnose(
    manifest: SubsetManifest,
    method: tuple[str, tuple[str, ...]],
    jobs: Sequence[FinishedJob],
    labels: NDArray[np.int64],
    images: Names = (),
    paths: Names = (),
) -> Diagnosis:
    """How one method errs on the test images.

    Args:
        manifest: the study's subsets.
        method: (head, backbones).
        jobs: its own at the largest size, a job for each draw.
        labels: (N,) class indices, in the manifest's order.
        images: N, as their source names them; none where they are not known.
        paths: N, where they are now; none where that is not known.
    """
    head, backbones = method
    test, classes, size = manifest.test, manifest.classes, manifest.largest
    labels = labels[test]
    probabilities = unseen_probabilities(manifest, jobs, size)[test]
    cuts = mean_cuts([job.cuts for job in jobs])
    predicted = predicted_classes(probabilities, cuts)
    wrong = confident_mistakes(labels, probabilities, predicted)
    return Diagnosis(
        method=method_name(head, backbones),
        head=head,
        backbones=backbones,
        size=manifest.sizes[size],
        confusion=count_confusion(labels, probabilities, classes, cuts),
        roc=roc(labels, probabilities, classes),
        precision_recall=precision_recall(labels, probabilities, classes),
        calibration=reliability(labels, probabilities, len(classes)),
        n_mistakes=len(wrong),
        mistakes=tuple(
            Mistake(
                image=str(images[test[i]]) if len(images) else "",
                path=str(paths[test[i]]) if len(paths) else "",
                content=manifest.images[test[i]].tobytes().hex(),
                label=classes[labels[i]],
                predicted=classes[predicted[i]],
                p_label=float(probabilities[i, labels[i]]),
                p_predicted=float(probabilities[i, predicted[i]]),
            )
            for i in wrong[:MOST_MISTAKES].tolist()
        ),
    )


def finding_mistakes(manifest: SubsetManifest, jobs: Sequence[FinishedJob]) -> list[Mistake]:
    """Findings of test images that are taken for there where they are not, or the other way round, at a half.

    Args:
        manifest: of images that may have several findings.
        jobs: one method's at the largest size, a job for each draw.

    Returns:
        One for each image and finding, the most confident first. Images are named by content alone.
    """
    test, truth = manifest.test, manifest.targets.values[manifest.test]
    probabilities = unseen_probabilities(manifest, jobs, manifest.largest)[test]
    is_wrong = np.where(np.isnan(truth), False, (probabilities > 0.5) != (truth == 1.0))
    places = np.argwhere(is_wrong)
    order = np.argsort(-np.abs(probabilities[is_wrong] - 0.5), kind="stable")
    found = []
    for image, label in places[order].tolist():
        name, p = manifest.classes[label], float(probabilities[image, label])
        texts, both = (f"no {name}", name), (1.0 - p, p)
        is_there, is_taken = int(truth[image, label]), int(p > 0.5)
        content = manifest.images[test[image]].tobytes().hex()
        found.append(Mistake("", "", content, texts[is_there], texts[is_taken], both[is_there], both[is_taken]))
    return found


def confident_mistakes(
    labels: NDArray[Any], probabilities: NDArray[Any], predicted: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Wrongly classified images, the most confident first.

    Args:
        labels: (N,) class indices.
        probabilities: (N, C).
        predicted: (N,) what they are taken for; None: the most probable class.

    Returns:
        (n,) positions.
    """
    predicted = probabilities.argmax(axis=1) if predicted is None else predicted
    wrong = np.flatnonzero(predicted != labels)
    confidence = probabilities[wrong, predicted[wrong]]
    return wrong[np.argsort(-confidence, kind="stable")]
