"""What a study is asked about people: which subgroups to compare, and which images to join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dvme.arguments import names
from dvme.data import MISSING
from dvme.defaults import CONFLICTS, JOIN
from dvme.errors import DataError, OptionError, parameter
from dvme.metrics import joining
from dvme.study.by_subgroup import BySubgroup, by_subgroup
from dvme.study.design.dividing import Divider
from dvme.study.design.snapshot import Snapshot
from dvme.study.methods import method_name
from dvme.study.operation import Operation
from dvme.study.per_unit import PATIENT, Joining, PerUnit, per_unit
from dvme.study.scoring import metrics_of

if TYPE_CHECKING:
    from dvme.study.judge import Judge


@dataclass(frozen=True, kw_only=True)
class People:
    """Subgroups and units of the test images, beside the study itself."""

    by: Sequence[str] = ()
    """Columns that the cache keeps, with edges for numbers: `sex`, `age:0-40-60-120`."""
    per: str | None = None
    """`patient`, the groups, or a column that the cache keeps, such as `study`; None: images are not joined."""
    join: joining.Join = JOIN
    """How the probabilities of a unit's images become one: `mean`, `max`, or `noisy-or`, 1 - prod(1 - p)."""
    conflicts: joining.Conflicts = CONFLICTS
    """What a unit is of which some images have a finding and some have it not: `any`, it has it; `drop`, it is left
    out. Of several classes, conflicts are always left out."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            OptionError: naming what can.
        """
        object.__setattr__(self, "by", names(self.by, "by"))
        for name, given, known in (
            ("join", self.join, joining.JOINS),
            ("conflicts", self.conflicts, joining.CONFLICTS),
        ):
            if given not in known:
                raise OptionError(f"{name} {given!r} is not known; choose from {', '.join(known)}")
        if self.per is None and (self.join, self.conflicts) != (JOIN, CONFLICTS):
            which = parameter("join") if self.join != JOIN else parameter("conflicts")
            raise OptionError(which + " is about joined images; add " + parameter("per", PATIENT))
        columns = [each.column for each in self.dividers]
        if len(set(columns)) < len(columns):
            raise OptionError(parameter("by") + " names a column twice; name each once")

    @cached_property
    def dividers(self) -> tuple[Divider, ...]:
        """Of `by`."""
        return tuple(Divider.of(each) for each in self.by)

    @property
    def columns(self) -> tuple[str, ...]:
        """Further columns of the cache that are needed."""
        found = [each.column for each in self.dividers]
        return tuple(dict.fromkeys([*found, *([self.per] if self.per not in {None, PATIENT} else [])]))

    def check(self, snapshot: Snapshot) -> None:
        """Refuse, before anything is fitted, columns that say nothing, and patients whom nobody knows.

        Raises:
            DataError: if a column is empty, or no image has a group.
            OptionError: if a column has too many values.
        """
        for name in self.columns:
            if not (snapshot.kept[name] != MISSING).any():
                raise DataError(
                    f"column {name!r} of {snapshot.location} is empty; dvme cache label fills it with "
                    + parameter("keep", [name])
                )
        for divider in self.dividers:
            divider.divide(snapshot.kept[divider.column])
        if self.per == PATIENT and not (snapshot.groups != MISSING).any():
            raise DataError(
                f"no image of {snapshot.location} has a group, so nobody knows its patient; dvme cache label adds them "
                "with " + parameter("group")
            )

    def by_subgroup(self, judge: Judge, snapshot: Snapshot, operation: Operation) -> BySubgroup | None:
        """The leading method of the largest size by subgroup; None where no column is named.

        Args:
            judge: of the study.
            snapshot: of its images, in the order of the manifest.
            operation: what the findings' operating points reach on validation.

        Raises:
            OptionError: if a column has too many values.
        """
        if not self.by:
            return None
        lead, tested = judge.leaders.shown[0], snapshot.at(judge.manifest.test)
        return by_subgroup(
            method_name(*judge.methods[lead]),
            judge.panel(lead),
            self.dividers,
            tested.kept,
            metrics=[judge.metric, *_metrics(judge)],
            is_multilabel=judge.manifest.targets.is_multilabel,
            shared_rows=judge.shared_rows[judge.manifest.largest],
            thresholds=[operation.thresholds(own.truth, own.odds[0]) for own in judge.validation_panels(lead)],
        )

    def per_unit(self, judge: Judge, snapshot: Snapshot) -> PerUnit | None:
        """The leading method of the largest size per image and per unit; None where no unit is named.

        Args:
            judge: of the study.
            snapshot: of its images, in the order of the manifest.
        """
        if self.per is None:
            return None
        lead, tested = judge.leaders.shown[0], snapshot.at(judge.manifest.test)
        return per_unit(
            method_name(*judge.methods[lead]),
            judge.panel(lead),
            Joining(self.per, self.join, self.conflicts),
            tested.groups if self.per == PATIENT else tested.kept[self.per],
            tested.groups,
            tested.images.tolist(),
            metrics=_metrics(judge),
            is_multilabel=judge.manifest.targets.is_multilabel,
        )


def _metrics(judge: Judge) -> list[str]:
    """Those that mean something: quadratic kappa where the classes have an order."""
    has_order = judge.manifest.targets.task.is_ordered
    return [metric for metric in metrics_of(judge.labels) if has_order or metric != "kappa"]
