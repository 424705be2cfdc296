"""What a study is asked, and what of it cannot be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any

from dvme.defaults import AT, BLANK, ENGINE, UNCERTAIN, VIEWS_USED
from dvme.errors import OptionError, parameter
from dvme.heads import Head
from dvme.runtime import Runtime
from dvme.study.design.named import dense_backbones, named_backbones
from dvme.study.design.options import SubsetOptions
from dvme.study.encoders import with_encoders
from dvme.study.kept_heads import HEADS
from dvme.study.mask_methods import are_segmentations, segment_methods
from dvme.study.methods import Method, make_methods
from dvme.study.operation import Operation
from dvme.study.people import People
from dvme.study.scoring import judging_metric
from dvme.study.sites.asked import SiteOptions
from dvme_cache import EmbeddingCache
from dvme_cache.parts import Part


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a study is asked."""

    command: str
    """`probe` or `sweep`."""
    cache: str | Path
    heads: Sequence[str | Head]
    backbones: Sequence[str] | None
    controls: bool
    options: SubsetOptions | None
    subsets: str | Path | None = None
    views: str = VIEWS_USED
    """See `views_asked`."""
    metric: str = ""
    """By what it is judged; "": by the usual one."""
    people: People = field(default_factory=People)
    operation: Operation = field(default_factory=Operation)
    """What the single findings are meant for."""
    out: str | Path | None = None
    """The run's folder; None: nothing is kept."""
    save: str | Path | None = None
    """A further folder for the heads."""
    sites: SiteOptions = field(default_factory=SiteOptions)
    """Other caches on which the heads are tested as well."""
    part: Part | None = None
    """Fit its jobs only, and judge nothing."""
    boundary: float | None = None
    """Of a segmentation, pixels within which outlines meet; they are scored where this is asked."""

    @property
    def is_segmentation(self) -> bool:
        """Whether it is about masks.

        Raises:
            OptionError: if it is about both.
        """
        return are_segmentations(self.heads)

    def judged(self) -> Question:
        """The same, by the metric that such a study is judged by.

        Raises:
            OptionError: if it cannot be the one that is asked for, or outlines cannot be scored.
        """
        is_segmentation = self.is_segmentation
        boundary = _tolerance(self.boundary, is_segmentation=is_segmentation)
        return replace(self, metric=judging_metric(self.metric, is_segmentation=is_segmentation), boundary=boundary)


def lines_of(question: Question, runtime: Runtime, store: EmbeddingCache) -> tuple[list[str], list[Method], list[str]]:
    """The backbones, the methods of the table, and lines on what was left out of them.

    Raises:
        OptionError, UnknownNameError: if heads or backbones cannot be had, or a segmentation is asked what it has not.
    """
    with_controls = question.controls
    if question.is_segmentation:
        _check_segmentation(question, runtime)
        names = dense_backbones(store, question.backbones)
        return names, *with_encoders(segment_methods(question.heads, names, with_controls=with_controls), store)
    names = named_backbones(store, question.backbones)
    return names, make_methods(question.heads, names, with_controls=with_controls, metric=question.metric), []


def _tolerance(given: Any, *, is_segmentation: bool) -> float | None:
    """Within how many pixels outlines meet; None where nobody asks.

    Raises:
        OptionError: if a study has no outlines, or the number is none that is possible.
    """
    if given is None:
        return None
    if not is_segmentation:
        raise OptionError("only masks have outlines: name heads of segmentation, or leave out " + parameter("boundary"))
    if not isinstance(given, Real) or isinstance(given, bool) or not 0.0 < float(given) < math.inf:
        said = " is not possible; pass a number of pixels, above 0 and finite"
        raise OptionError(parameter("boundary", given) + said)
    return float(given)


def _check_segmentation(question: Question, runtime: Runtime) -> None:
    """Refuse what a segmentation cannot be asked.

    Raises:
        OptionError: naming what to leave out.
    """
    options = question.options or SubsetOptions()
    given = {
        parameter("by"): bool(question.people.by),
        parameter("per"): bool(question.people.per),
        parameter("test"): bool(question.sites.test),
        parameter("views"): question.views != VIEWS_USED,
        parameter("engine"): runtime.engine != ENGINE,
        parameter("part"): question.part is not None,
        parameter("at"): question.operation.at != AT,
        parameter("prevalence"): bool(question.operation.prevalence),
        parameter("uncertain"): options.uncertain != UNCERTAIN,
        parameter("blank"): options.blank != BLANK,
        parameter("oversample"): options.oversample is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise OptionError("a segmentation cannot have " + option + "; leave it out")


def check_apart(question: Question) -> None:
    """Refuse further heads in the run's folder, or the run among them: each is put in its place as a whole."""
    if question.out is None or question.save is None:
        return
    run, heads = Path(question.out).resolve(), Path(question.save).resolve()
    if run == heads or run in heads.parents or heads in run.parents:
        raise OptionError(
            f"{question.out} and {question.save} lie inside each other; a run keeps its heads in {run / HEADS}: "
            "leave out " + parameter("save") + ", or name a folder apart"
        )
