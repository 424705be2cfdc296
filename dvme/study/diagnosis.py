"""How the leading methods of a study err on its test images: confusion, curves, calibration, confident mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.calibration import Reliability, reliability
from dvme.metrics.confusion import Confusion, count_confusion
from dvme.metrics.curves import Curves, precision_recall, roc
from dvme.study.methods import method_name
from dvme.study.roles import Leaders, Roles
from dvme.study.suspects import unseen_probabilities

if TYPE_CHECKING:
    from dvme.study.judge import Judge

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
    """Probability of the most probable class."""


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


def diagnose(judge: Judge, images: Names = (), paths: Names = ()) -> tuple[Diagnosis, ...]:
    """The method that leads on validation at the largest size, and of single backbones, attention and controls the one.

    Args:
        judge: of a study, with every method scored.
        images: N, as their source names them, in the manifest's order; none where they are not known.
        paths: N, where they are now; none where that is not known.
    """
    leaders = Leaders(Roles(judge.methods), judge.standing, judge.manifest.largest)
    return tuple(_diagnosis(judge, method, leaders.size, images, paths) for method in leaders.shown)


def _diagnosis(judge: Judge, method: int, size: int, images: Names, paths: Names) -> Diagnosis:
    manifest, (head, backbones) = judge.manifest, judge.methods[method]
    test, classes = manifest.test, manifest.classes
    labels = judge.labels[test]
    probabilities = unseen_probabilities(manifest, judge.finished[method, size], size)[test]
    predicted = probabilities.argmax(axis=1)
    wrong = confident_mistakes(labels, probabilities)
    return Diagnosis(
        method=method_name(head, backbones),
        head=head,
        backbones=backbones,
        size=manifest.sizes[size],
        confusion=count_confusion(labels, probabilities, classes),
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


def confident_mistakes(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.int64]:
    """Wrongly classified images, the most confident first.

    Args:
        labels: (N,) class indices.
        probabilities: (N, C).

    Returns:
        (n,) positions.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    confidence = probabilities[wrong, predicted[wrong]]
    return wrong[np.argsort(-confidence, kind="stable")]
