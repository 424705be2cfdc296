"""What a study compares. A method is anything that turns a draw of images into probabilities of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any

from dvme.data.task import Task
from dvme.errors import OptionError, Text, UnknownNameError, parameter
from dvme.heads import ATTENTION_HEADS, CONTROLS, Head, full_name, get_head, head_of, is_own, needs_order, written
from dvme.heads.variation import differences, settings_of
from dvme.json_values import plain
from dvme.metrics.classification import METRICS
from dvme.notices import Aside
from dvme.study.design.views import Views
from dvme.text import some_of
from dvme.training.batches import Sampling

KAPPA = "kappa"
"""What `linear@tune=kappa` is tuned for."""
SINGLE_CONTROL = "linear"
"""The head under which every single backbone stands beside a fusion."""


@dataclass(frozen=True)
class Method:
    """One line of the table: a head on the embeddings of these backbones."""

    name: str
    """Of the head, with the settings that differ from the defaults: `knn@k=5`."""
    head: Head
    """As it is fitted."""
    backbones: tuple[str, ...]

    @property
    def title(self) -> str:
        """What it is called in a sentence."""
        return method_name(self.name, self.backbones)

    @property
    def settings(self) -> dict[str, Any]:
        """Of the head, as JSON values."""
        values: dict[str, Any] = plain(written(asdict(self.head)))  # type: ignore[call-overload]
        return values

    def identity(self, digests: Mapping[str, str]) -> dict[str, Any]:
        """What determines its probabilities, beside the images and the seed.

        Args:
            digests: of the embeddings' fingerprints, by backbone.
        """
        kind = type(self.head)
        name = kind.__name__ if is_own(self.head) else f"{kind.__module__}.{kind.__qualname__}"
        return {
            "revision": self.head.revision,
            "head": {"kind": name} | self.settings,
            "embeddings": [digests[name] for name in self.backbones],
        }


def method_name(head: str, backbones: Sequence[str]) -> str:
    """`swav + linear`, or `dvme of 3 backbones`."""
    return f"{head} of {len(backbones)} backbones" if len(backbones) > 1 else f"{backbones[0]} + {head}"


def make_methods(
    heads: Sequence[str | Head],
    backbones: Sequence[str],
    *,
    with_controls: bool,
    metric: str = METRICS[0],
) -> list[Method]:
    """The lines of the table: single heads on each backbone, fusions on all of them.

    Args:
        heads: names, with settings if they are to differ from the defaults (`dvme@max-epochs=20`), or heads.
        backbones: names.
        with_controls: beside a fusion by attention, also every single backbone under `linear`, and the controls; with
            default settings, where `heads` does not have them.
        metric: of the study; a `knn` that is to choose by it does.

    Raises:
        OptionError, UnknownNameError: if no head or an unknown one is named, or two settings have one name.
    """
    wanted: dict[str, Head] = {}
    for given in heads:
        head = get_head(given) if isinstance(given, str) else given
        if not is_dataclass(head):
            raise OptionError(f"{given!r} is no head; pass a name such as 'linear', or a dataclass that is one")
        lacking = [each for each in ("name", "is_fusion", "revision") if not hasattr(head, each)]
        if lacking:
            raise OptionError(f"{given!r} is no head: it has no {' and no '.join(lacking)}; see dvme.heads.Head")
        name = full_name(head)
        if wanted.setdefault(name, head) != head:
            raise OptionError(f"{name} is named twice with different settings; a study has each name once")
    if not wanted:
        raise OptionError("no head is named; pass " + parameter("heads", ["linear", "knn"]))
    if with_controls and any(head.name in ATTENTION_HEADS for head in wanted.values()):
        there = {head.name for head in wanted.values()}
        first = {} if SINGLE_CONTROL in there else {SINGLE_CONTROL: get_head(SINGLE_CONTROL)}
        wanted = first | wanted | {name: get_head(name) for name in CONTROLS if name not in there}
    named = [(name, head if metric == METRICS[0] else _choosing_by(head, metric)) for name, head in wanted.items()]
    single = [Method(name, head, (own,)) for own in backbones for name, head in named if not head.is_fusion]
    return single + [Method(name, head, tuple(backbones)) for name, head in named if head.is_fusion]


def check_order(methods: Sequence[Method], task: Task, cache: str) -> None:
    """Refuse heads that go by an order of the classes where nobody gave one, or of several findings.

    Raises:
        OptionError: naming the head, and how an order is given.
    """
    named = next((method.name for method in methods if needs_order(method.head)), None)
    if named is not None and task.is_multilabel:
        raise OptionError(f"{named} needs classes in order, and the findings of {cache} have no order; name another")
    if named is not None and not task.is_ordered:
        raise OptionError(
            f"{named} needs an order of the classes, and nobody gave one of {some_of(task.classes)}; "
            f"dvme cache label {cache} --class-order LOWEST,...,HIGHEST gives it"
        )


def check_cuts(methods: Sequence[Method], *, is_asked_elsewhere: bool) -> None:
    """Refuse heads whose cuts were tuned where more than the single images of the study's test set are judged.

    Raises:
        OptionError: naming the head and what to leave out.
    """
    named = next((method.name for method in methods if settings_of(method.head).get("tune") == KAPPA), None)
    if named is not None and is_asked_elsewhere:
        raise OptionError(
            f"{named}: the cuts that it tunes are for single images of the study's own test set; leave it out, or "
            + parameter("by")
            + ", "
            + parameter("per")
            + " and "
            + parameter("test")
        )


def check_views(methods: Sequence[Method], views: Views | None) -> None:
    """Refuse heads that know nothing of views, and cuts that were tuned on other predictions than are judged.

    Raises:
        OptionError: naming the head and what to do.
    """
    if views is None:
        return
    other = next((method.name for method in methods if not is_own(method.head)), None)
    if other is not None:
        raise OptionError(
            f"{other} is a head of your own, which would learn from plain images only; leave out " + parameter("views")
        )
    named = next((method.name for method in methods if settings_of(method.head).get("tune") == KAPPA), None)
    if named is not None and views.is_averaged:
        step = parameter("views", "train") + " takes it"
        raise OptionError(f"{named} tunes its cuts on plain images, but would be judged by means over views; " + step)


def _choosing_by(head: Head, metric: str) -> Head:
    """The head, with the metric that it chooses by where it takes the study's."""
    from dvme.heads.neighbours.knn import KNN, STUDY

    return replace(head, choose_by=metric) if isinstance(head, KNN) and head.choose_by == STUDY else head


def sampled(method: Method, oversample: bool | None) -> Method:
    """The method as the subsets want it; only what is trained by minibatches can oversample. None: as each says."""
    from dvme.heads.fusion.network_head import NetworkHead
    from dvme.heads.tuned.finetune import Finetune

    if oversample is None:
        return method
    head: Any = method.head
    sampling: Sampling = "oversampled" if oversample else "shuffled"
    if isinstance(head, NetworkHead):
        head = replace(head, protocol=replace(head.protocol, sampling=sampling))
    elif isinstance(head, Finetune):
        head = replace(head, recipe=replace(head.recipe, sampling=sampling))
    return replace(method, head=head)


def full_name_of(described: Mapping[str, Any], metric: str, oversample: bool | None) -> str:
    """The name of a method's head with its settings, also of a method that an older dvme described, without it.

    Args:
        described: what a run says of the method.
        metric: of the run, which is no setting where `knn` chooses by it.
        oversample: what its subsets want, which is none either.
    """
    if "name" in described:
        return str(described["name"])
    name, backbones = str(described["head"]), tuple(described["backbones"])
    try:
        usual = sampled(make_methods([name], backbones, with_controls=False, metric=metric)[0], oversample).head
        return "@".join([name, *differences(usual, head_of(name, described["settings"]))])
    except (OptionError, UnknownNameError):  # another's head, or one that has other settings by now
        return name


def method_notices(methods: Sequence[Method]) -> list[str]:
    """Lines on fusions of one backbone, on cuts that validation is without, and on settings of other values."""
    alone = [method.name for method in methods if method.head.is_fusion and len(method.backbones) == 1]
    step = "one backbone is nothing to fuse; pass more " + parameter("backbones")
    lines = [f"{', '.join(alone)}: " + step] if alone else []
    tuned = dict.fromkeys(method.name for method in methods if settings_of(method.head).get("tune") == KAPPA)
    if tuned:
        which = f"{', '.join(tuned)}: what images are taken for was tuned on the validation images"
        lines.append(Text(f"{which}, so validation scores are without it; the test scores are with it"))
    varied = dict.fromkeys(method.name for method in methods if method.name != method.head.name)
    return [*lines, *([Aside(f"settings that differ from the defaults: {', '.join(varied)}")] if varied else [])]
