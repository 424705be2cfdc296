"""A study's heads at other sites: what they say there, how far their scores drop, and what else differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.targets import Targets
from dvme.data.uncertainty import Uncertainty
from dvme.heads.saved_head import keys_of
from dvme.heads.saving import load_head
from dvme.metrics.classification import log_odds
from dvme.runtime import Progress
from dvme.study.design.drawing import POLICY
from dvme.study.design.learned import check_learned
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.snapshot import Snapshot
from dvme.study.design.splits import groups_to_resample
from dvme.study.fitting import sound_mean_log_proba
from dvme.study.grid import Grid
from dvme.study.judge import Judge
from dvme.study.methods import method_name
from dvme.study.panel import Panel
from dvme.study.sites.asked import SiteOptions, mapped
from dvme.study.sites.external import STUDY, in_common
from dvme.study.sites.known import check_apart, known
from dvme.study.sites.matching import Matched, matched
from dvme.study.sites.one_family import Tested, one_family
from dvme.study.sites.outcome import OWN, Drop, FindingDrop, SiteResult, SitesResult, WeightedScore
from dvme.study.sites.scores import (
    AUC,
    Side,
    comparable,
    drop_of,
    findings_of,
    together,
    untested,
    unweighted,
    weighted,
)
from dvme.study.sites.shifts import Located, shifts
from dvme.text import METRIC_NAMES
from dvme.vectors import spans

ROWS_AT_ONCE = 4096
NONE_LEFT = "no image is left: all are the study's own"
Folds = Sequence[NDArray[np.float32]]
"""J of (N, C) log probabilities."""


@dataclass(frozen=True, eq=False)
class Site:
    """One site, matched with a study."""

    name: str
    snapshot: Snapshot
    """Of the R images that are judged."""
    matched: Matched
    """The same images."""
    whole: Snapshot
    """With those that the study has as well, which are not judged."""
    n_known: Mapping[str, int]
    """How many these are, by reason."""

    def learned(self) -> list[str]:
        """Lines on backbones that saw its images without labels; see `check_learned`, also on what is refused."""
        return check_learned(self.snapshot.learned, np.arange(len(self.snapshot), dtype=np.int64), self.name)


@dataclass
class _Found:
    """What was found of a site so far."""

    drops: list[Drop] = field(default_factory=list)
    findings: list[FindingDrop] = field(default_factory=list)


def matched_labels(
    options: SiteOptions, opened: Mapping[str, Snapshot], ours: Targets, policy: Mapping[str, Any]
) -> dict[str, Matched]:
    """Every site's labels as the study's findings or classes; reads no embedding.

    Args:
        options: what the sites call them.
        opened: of `open_sites`.
        ours: of the study.
        policy: that its images were drawn by, of which some matters for findings alone.

    Raises:
        OptionError, DataError: if names are none of the study's, or of the site's, or nothing is matched.
    """
    own = Uncertainty(**{name: policy[name] for name in POLICY if name in policy and ours.is_multilabel})
    found = {}
    for name, snapshot in opened.items():
        theirs = Targets.of(snapshot.labels, snapshot.class_order, own)
        found[name] = matched(name, theirs, ours, mapped(options, name, ours.classes))
    return found


def matched_sites(
    options: SiteOptions, opened: Mapping[str, Snapshot], manifest: SubsetManifest, n_bytes: int
) -> list[Site]:
    """Every site, with the images that are judged there.

    Args:
        options: what the sites call their labels.
        opened: of `open_sites`.
        manifest: of the study.
        n_bytes: of embeddings that may be held for all sites together.

    Raises:
        OptionError, DataError: see `matched_labels` and `check_learned`; if a score counts an image twice.
    """
    found = []
    for name, labels in matched_labels(options, opened, manifest.targets, manifest.policy).items():
        whole = opened[name].at(labels.rows)
        reasons = known(whole.ids, manifest)
        left = np.flatnonzero(~np.any(list(reasons.values()), axis=0))
        own = replace(labels, rows=labels.rows[left], truth=labels.truth[left])
        n_known = {reason: int(mask.sum()) for reason, mask in reasons.items() if mask.any()}
        found.append(Site(name, whole.at(left).holding(n_bytes // len(opened)), own, whole, n_known))
        found[-1].learned()
    check_apart(options.score, {site.name: site.snapshot for site in found})
    return found


def judge_sites(
    sites: Sequence[Site], options: SiteOptions, study: Snapshot, judge: Judge, grid: Grid, progress: Progress
) -> tuple[SitesResult, list[str]]:
    """Every method's heads of the largest size at every site, and lines on what the reader has to know.

    Args:
        sites: of `matched_sites`.
        options: with the weights of portions.
        study: the study's images, in the manifest's order.
        judge: of the study.
        grid: whose heads are kept.
        progress: told (stage, done, total).
    """
    manifest, kept = judge.manifest, list(grid.kept)
    metric, notices = _metric(judge, sites)
    for site in sites:
        left_out = [*site.snapshot.left_out.items(), *site.n_known.items()]
        notices += [
            *site.matched.notices,
            *site.learned(),
            *(f"{site.name}: left out: {count:,} {reason}" for reason, count in left_out),
        ]
        if not len(site.snapshot):
            notices.append(f"{site.name}: {NONE_LEFT}")
        elif groups_to_resample(site.snapshot.groups) is None:
            notices.append(f"{site.name}: no image has a group, so its images count as independent")
        if n_known := int(_is_known(site, study).sum()):
            notices.append(f"{site.name}: how far apart it is was measured without {n_known:,} images of the study")
    named = {site.name: site.snapshot for site in sites}
    lists = {STUDY: manifest.classes} | {
        site.name: (*(each for own in site.matched.pairs.values() for each in own), *site.matched.theirs_only)
        for site in sites
    }
    common, lines = in_common(study, named, {site.name: site.whole for site in sites}, lists, progress)
    notices += [*lines, *(line for own in common.values() for line in own)]
    present = [site for site in sites if len(site.snapshot)]
    leader, found, scores = judge.leaders.of(kept), {site.name: _Found() for site in sites}, list[WeightedScore]()
    for done, method in enumerate(kept):
        progress("other sites", done, len(kept))
        sides = {OWN: own_side(judge, method)} | {
            site.name: site_side(judge, site, folds) for site, folds in _predicted(grid, method, present)
        }
        title = method_name(*judge.methods[method])
        drops = [_compared(judge, method, sides, site.name, metric) for site in sites]
        for site, drop in zip(sites, one_family(drops), strict=True):
            found[site.name].drops.append(drop)
        if method == leader:
            _add_findings(judge, title, sides, present, found)
        if lacking := [name for name in options.score if name not in sides]:
            scores.append(unweighted(title, dict(options.score), f"{', '.join(lacking)}: {NONE_LEFT}"))
        elif options.score:
            shared = dict(
                zip(options.score, together(comparable([sides[name] for name in options.score])), strict=True)
            )
            scores.append(weighted(title, shared, dict(options.score), metric))
    progress("other sites", len(kept), len(kept))
    results = [
        _result(site, options.places[site.name], judge, study, found[site.name], common[site.name], progress)
        for site in sites
    ]
    name = "" if leader is None else method_name(*judge.methods[leader])
    return SitesResult(metric, name, tuple(results), tuple(scores)), notices


def own_side(judge: Judge, method: int) -> Side:
    """A method's heads on the study's own test images."""
    targets, panel = judge.manifest.targets.at(judge.manifest.test), judge.panel(method)
    jobs = judge.finished[method, judge.manifest.largest]
    odds = tuple(log_odds(job.log_test, is_multilabel=targets.is_multilabel) for job in jobs)
    return Side(panel, None if targets.is_multilabel else targets.values, odds)


def site_side(judge: Judge, site: Site, folds: Folds) -> Side:
    """A method's heads at a site.

    Args:
        judge: of the study.
        site: R images.
        folds: what the heads say of them.
    """
    targets, found = judge.manifest.targets, site.matched
    odds = tuple(log_odds(fold, is_multilabel=targets.is_multilabel) for fold in folds)
    first = _first(targets)
    groups = groups_to_resample(site.snapshot.groups)
    panel = Panel(targets.classes[first:], found.truth[:, first:], tuple(fold[:, first:] for fold in odds), groups)
    return Side(panel, found.labels if found.is_of_classes else None, odds)


def _first(targets: Targets) -> int:
    """The first class that is asked for, see `Panel`: of two the second."""
    return 0 if targets.is_multilabel or len(targets.classes) > 2 else 1


def _metric(judge: Judge, sites: Sequence[Site]) -> tuple[str, list[str]]:
    """The study's metric where all sites allow it, else the AUC."""
    others = [site.name for site in sites if not site.matched.is_of_classes]
    if not others or judge.metric == AUC:
        return judge.metric, []
    why = "whose images do not have one class of the study each"
    return AUC, [
        f"other sites are judged by AUC, for {METRIC_NAMES[judge.metric]} is not of {', '.join(others)}, {why}"
    ]


def _predicted(grid: Grid, method: int, sites: Sequence[Site]) -> Iterator[tuple[Site, Folds]]:
    """What the method's kept heads say of each site's images."""
    own, targets = grid.methods[method], grid.manifest.targets
    assert grid.heads is not None
    saved = load_head(grid.heads.folder(own.name, own.backbones))
    for site in sites:
        parts = list(spans(len(site.snapshot), 1, ROWS_AT_ONCE))
        by_backbone = [np.split(site.snapshot.read_views(name), site.snapshot.n_views) for name in own.backbones]
        views = list(zip(*by_backbone, strict=True))  # of the backbones' blocks
        folds = []
        for fold in saved.folds:
            some = ([[block[part] for block in view] for view in views] for part in parts)
            folds.append(np.concatenate([sound_mean_log_proba(fold.head, each, own.title, targets) for each in some]))
        yield site, folds


def _compared(judge: Judge, method: int, sides: Mapping[str, Side], name: str, metric: str) -> Tested[Drop]:
    """A method's drop from the study's own test set to a site."""
    title, shared_rows = method_name(*judge.methods[method]), judge.shared_rows[judge.manifest.largest]
    if name not in sides:
        return untested(title, NONE_LEFT), None
    own, there = together(comparable([sides[OWN], sides[name]]))
    return drop_of(title, own, there, metric, shared_rows)


def _add_findings(
    judge: Judge, title: str, sides: Mapping[str, Side], sites: Sequence[Site], found: Mapping[str, _Found]
) -> None:
    """The drops of all findings of all sites, which are one family."""
    shared_rows = judge.shared_rows[judge.manifest.largest]
    rows = []
    for site in sites:
        own, there = comparable([sides[OWN], sides[site.name]])
        rows.append(findings_of(title, own, there, site.matched.pairs, shared_rows))
    every = iter(one_family([row for own in rows for row in own]))
    for site, its in zip(sites, rows, strict=True):
        found[site.name].findings += islice(every, len(its))


def _result(
    site: Site, place: str, judge: Judge, study: Snapshot, found: _Found, common: Sequence[str], progress: Progress
) -> SiteResult:
    own, groups = site.matched, groups_to_resample(site.snapshot.groups)
    judged = tuple(each.finding for each in found.findings if not math.isnan(each.drop.difference.estimate))
    apart = []
    for done, each in enumerate(shifts(*_located(site, judge, study, judged), _seed(judge)), start=1):
        apart.append(each)
        progress(f"shift to {site.name}", done, len(study.backbones))
    return SiteResult(
        name=site.name,
        cache=place,
        n_images=len(site.snapshot),
        n_groups=None if groups is None else len(np.unique(groups)),
        n_left_out=dict(site.snapshot.left_out) | own.left_out | dict(site.n_known),
        pairs=dict(own.pairs),
        ours_only=own.ours_only,
        theirs_only=own.theirs_only,
        judged=judged,
        drops=tuple(found.drops),
        findings=tuple(found.findings),
        shifts=tuple(apart),
        why_not_external=tuple(str(line) for line in common),
    )


def _located(site: Site, judge: Judge, study: Snapshot, judged: Sequence[str]) -> tuple[Located, Located]:
    """All images of the study, and the site's others, with what is known of these findings or classes."""
    targets, own = judge.manifest.targets, site.matched
    places = [targets.classes.index(name) for name in judged]
    is_shared = np.isin(targets.values, own.shared) if own.is_of_classes else np.ones(len(study), dtype=bool)
    mine = Located(study, targets.among(targets.classes)[:, places], is_shared)
    others = np.flatnonzero(~_is_known(site, study))
    return mine, Located(site.snapshot.at(others), own.truth[others][:, places], np.ones(len(others), dtype=bool))


def _is_known(site: Site, study: Snapshot) -> NDArray[np.bool_]:
    """(R,) which of the site's images are files of the study."""
    return np.isin(keys_of(site.snapshot.ids), keys_of(study.ids))


def _seed(judge: Judge) -> int:
    return int(judge.manifest.policy.get("seed", 0))
