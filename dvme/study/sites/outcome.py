"""What a study's heads do at other sites, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from dvme.heads.neighbours.robustness import Robustness
from dvme.stats.intervals import Comparison, Interval
from dvme.stats.shift import Discrepancy, DomainClassifier
from dvme.text import EXAMPLES, METRIC_NAMES, counted, difference_text, ends_text, some_of

OWN = "test"
"""What the study's own test set is called among the sites."""
DROP, RISE, NOT_SHOWN, NO_TEST = "drop", "rise", "no drop shown", "no test"


@dataclass(frozen=True)
class Drop:
    """The heads of one method, at the largest size, on the study's own test images and at a site."""

    method: str
    internal: Interval
    """On the study's own test images, over what both have."""
    external: Interval
    """At the site, over the same."""
    drop: Comparison
    """Internal less external, of these heads on other images of both places; its interval is for itself alone."""
    anew: Comparison
    """The same of heads that are fitted on other draws: heads and images are both left to chance."""
    why_not: str
    """Why there is no drop, or no interval; mostly nothing."""
    together: Comparison | None = field(default=None, kw_only=True)
    """`drop` with an interval and a p value for all sites together, or all findings of all sites; None where there is
    no interval, and in older summaries."""

    @property
    def shown(self) -> Comparison:
        """What may be said: for all together where that is known."""
        return self.drop if self.together is None else self.together

    @property
    def word(self) -> str:
        """`drop`, `rise`, `no drop shown`, or `no test`."""
        ends = self.shown.difference
        if math.isnan(ends.low):
            return NO_TEST
        return DROP if ends.low > 0.0 else RISE if ends.high < 0.0 else NOT_SHOWN


@dataclass(frozen=True)
class FindingDrop(Drop):
    """The same of one finding, or of one class against the others: always the AUC."""

    finding: str
    """As the study calls it."""
    theirs: tuple[str, ...]
    """What the site calls it."""
    n_known: tuple[int, int]
    """Images of which it is known: the study's test images, the site's."""
    n_positive: tuple[int, int]
    """Of these, how many have it."""


@dataclass(frozen=True)
class Shift:
    """How far apart all images of the study and those of a site are to a backbone, and what its neighbours go by."""

    backbone: str
    classifier: DomainClassifier
    discrepancy: Discrepancy
    robustness: Robustness
    """Its classes are the sets of the findings that both can judge."""


@dataclass(frozen=True)
class SiteResult:
    """One site."""

    name: str
    cache: str
    n_images: int
    """That are judged."""
    n_groups: int | None
    """Patients of these; None where the cache has no groups, and images count."""
    n_left_out: dict[str, int]
    """Images that are not judged, by reason."""
    pairs: dict[str, tuple[str, ...]]
    """What the study calls a finding or class, to what the site calls it."""
    ours_only: tuple[str, ...]
    theirs_only: tuple[str, ...]
    judged: tuple[str, ...]
    """Findings, or classes, that the study's test images and the site's can both judge."""
    drops: tuple[Drop, ...]
    """By method, in the order of the study's table."""
    findings: tuple[FindingDrop, ...]
    """By the method that leads on validation."""
    shifts: tuple[Shift, ...]
    why_not_external: tuple[str, ...]
    """Lines on what it has in common with the study, or with another site."""

    def of(self, method: str) -> Drop | None:
        """The drop of a method."""
        return next((each for each in self.drops if each.method == method), None)


@dataclass(frozen=True)
class Portion:
    """One part of a weighted score."""

    name: str
    weight: float
    score: Interval


@dataclass(frozen=True)
class WeightedScore:
    """The weighted sum of one method's scores on several sets of images."""

    method: str
    total: Interval
    """Of these heads on other images."""
    portions: tuple[Portion, ...]
    why_not: str


@dataclass(frozen=True)
class SitesResult:
    """All sites of a study."""

    metric: str
    leader: str
    """The method that leads on validation, of those whose heads are kept."""
    sites: tuple[SiteResult, ...]
    scores: tuple[WeightedScore, ...] = field(default=())
    """By method, where weights were given."""

    @property
    def n_together(self) -> int:
        """Sites of which the leading method's drops are said together; 0 where each is for itself, or there is one."""
        leads = [own for site in self.sites if (own := site.of(self.leader)) is not None and own.together is not None]
        return len(leads) if len(leads) > 1 else 0

    @property
    def families(self) -> str:
        """Which drops the intervals are for."""
        every = [each for site in self.sites for each in site.findings if each.together is not None]
        parts = [
            f"those of a method are for {self.n_together} sites together" if self.n_together else "",
            f"those of findings for {len(every)} together" if len(every) > 1 else "",
        ]
        said = ", ".join(part for part in parts if part)
        return f"{said} (Bonferroni)" if said else "each interval is for itself"

    def said(self) -> str:
        """One sentence on the leading method."""
        leads = [(site, own) for site in self.sites if (own := site.of(self.leader)) is not None]
        tested = [(site, own) for site, own in leads if own.word != NO_TEST]
        if not tested:
            why = leads[0][1].why_not if leads else "no head of this study is kept"
            return f"Nothing can be said of {some_of([site.name for site in self.sites])}: {why}."
        site, own = max(tested, key=lambda each: each[1].drop.difference.estimate)
        metric, change = METRIC_NAMES[self.metric], own.shown.difference
        scores = (
            f"{self.leader} scores {metric} {difference_text(own.external, signed=False, named='95% CI')} at "
            f"{site.name} and {difference_text(own.internal, signed=False)} on the study's own test set"
        )
        family, itself = (
            (f"95% CI for {self.n_together} sites together", ", for itself,") if self.n_together else ("", "")
        )
        verdict = {
            DROP: f"these heads drop by {difference_text(change, signed=False, named=family)}",
            RISE: f"these heads rise by {difference_text(_turned(change), signed=False, named=family)}",
            NOT_SHOWN: f"no drop is shown: {difference_text(change, named=family)}",
        }[own.word]
        if ends := ends_text(own.anew.difference):
            verdict += f", and the drop of heads fitted on other draws{itself} is {ends}"
        more = f" That is the largest of {counted(len(tested), 'site')}." if len(tested) > 1 else ""
        silent = [each.name for each, its in leads if its.word == NO_TEST]
        more += f" Nothing can be said of {some_of(silent)}." if silent else ""
        doubt = f" {site.name} may not be an external site." if site.why_not_external else ""
        return f"{scores}, over {some_of(site.judged, EXAMPLES)}: {verdict}.{more}{doubt}"


def _turned(interval: Interval) -> Interval:
    return Interval(-interval.estimate, -interval.high, -interval.low)
