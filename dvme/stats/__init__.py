"""What numbers allow to be said: intervals, tests, effect sizes and labels saved, as functions of arrays.

Which test answers which question, when the heads of J folds of two methods are tested on one shared test set:

- `crossed`: would the one be better on average with other training rows and other test images? The verdicts' test.
- `paired_bootstrap`, `delong`: are these very heads different on all images? Both take the training rows as given.
- `nadeau_bengio`, `welch`, `two_sample_t`: what papers report. With a shared test set they see only half of the chance.

On other images, with the same heads: `drop` from one test set to another, `subgroups` and the `gaps` between them;
`domain_classifier` and `discrepancy` say how far apart the embeddings of two sites are. `temperature_of_classes`,
`temperature_of_labels` and `platt` make probabilities fit how often they are right.

How far each keeps its level in studies like ours is written with it, measured by tests/benchmarks/test_statistics.py.
Wilcoxon's signed-rank test over folds is not offered: of five folds its exact p is never below 2 / 2^5 = 0.0625.
"""

from dvme.stats.crossed import crossed, overlap
from dvme.stats.curves import (
    Amount,
    Crossing,
    LabelsNeeded,
    LabelsSaved,
    crossing,
    labels_needed,
    labels_saved,
    monotone,
)
from dvme.stats.delong import DeLong, delong
from dvme.stats.draws import Draws, draw, resample_weights
from dvme.stats.effect import independent_effect, paired_effect
from dvme.stats.folds import nadeau_bengio, two_sample_t, welch
from dvme.stats.intervals import Comparison, Interval, bca_interval, percentile_interval
from dvme.stats.multiple import holm
from dvme.stats.paired import paired_bootstrap
from dvme.stats.resampling import Resampled, resample, resampled_scores
from dvme.stats.scaling import Platt, Temperature, platt, temperature_of_classes, temperature_of_labels
from dvme.stats.shift import Discrepancy, DomainClassifier, discrepancy, domain_classifier
from dvme.stats.subgroups import Gap, Gaps, Subgroup, gaps, subgroups, subgroups_of_findings
from dvme.stats.unpaired import drop

__all__ = [
    "Amount",
    "Comparison",
    "Crossing",
    "DeLong",
    "Discrepancy",
    "DomainClassifier",
    "Draws",
    "Gap",
    "Gaps",
    "Interval",
    "LabelsNeeded",
    "LabelsSaved",
    "Platt",
    "Resampled",
    "Subgroup",
    "Temperature",
    "bca_interval",
    "crossed",
    "crossing",
    "delong",
    "discrepancy",
    "domain_classifier",
    "draw",
    "drop",
    "gaps",
    "holm",
    "independent_effect",
    "labels_needed",
    "labels_saved",
    "monotone",
    "nadeau_bengio",
    "overlap",
    "paired_bootstrap",
    "paired_effect",
    "percentile_interval",
    "platt",
    "resample",
    "resample_weights",
    "resampled_scores",
    "subgroups",
    "subgroups_of_findings",
    "temperature_of_classes",
    "temperature_of_labels",
    "two_sample_t",
    "welch",
]
