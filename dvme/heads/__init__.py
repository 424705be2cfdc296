"""Classifiers over cached embeddings. Each fits a list of jobs together.

A `Job` is a head with its settings, the backbones whose embeddings it sees, training rows, validation rows and a seed.
`fit_jobs` hands all jobs of one kind of head to that kind together; fitting one is a list of one. The result of a job
does not depend on the others, up to rounding, and tests hold every head to that. Test rows are in no job.

Weights (`Embedded.weights`; the estimators' `sample_weight`) say how often a row counts. `linear` and those made of it
weigh the loss, the spread that scales the strengths, and the validation loss. `knn` lets a row stand for so many of the
k neighbours. Networks weigh the loss of a row whenever it is drawn, relative to the mean of what it is drawn among.

Views (`Embedded.n_views`). The rows are those of N images, then those of their second view, and so on; a job names
images. `linear` and those made of it take all K n rows: the objective is the mean of their losses plus the penalty of
one row. So a view counts 1 / K of an image, and K copies of the plain view give the very head of one; a test holds
every exact head to that. In scikit-learn's terms C is 1 / (K n strength spread), with the spread of the K n rows.
Networks draw a view whenever they draw an image, so an epoch is as long as without views. For `knn` an image votes
once, by its nearest view, and k counts images: weighing each view by 1 / K would spend k on the views of a few images.
Settings and early stopping go by the plain view of the validation images, also where predictions are averaged, so that
both uses of views share their fits. Methods are ranked, and thresholds chosen, by the averaged predictions on
validation. Means are of probabilities, not of logits: a view is no veto.

Settings that heads have had for less long are not written at their defaults (`variation.LATER`), so that keys of jobs
and saved heads are those of before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

from dvme.errors import OptionError, UnknownNameError
from dvme.heads.exact.linear import FittedLinear, Linear
from dvme.heads.fitting.jobs import Embedded, FittedHead, Head, Job, fit_jobs
from dvme.heads.fusion.controls import Concat, FittedConcat, FittedMeanLogits, MeanLogits
from dvme.heads.fusion.network_head import FittedNetwork, NetworkHead
from dvme.heads.neighbours.knn import KNN, FittedKNN
from dvme.heads.tuned.finetune import NAMES, Finetune
from dvme.heads.variation import LATER, base_name, differences, needs_order, split_name, vary, written
from dvme.text import choose_from
from dvme.training.protocols import OWN

__all__ = [
    "ATTENTION_HEADS",
    "CONTROLS",
    "FUSIONS",
    "HEADS",
    "SEGMENT",
    "TUNED",
    "UNETS",
    "Embedded",
    "FittedHead",
    "Head",
    "Job",
    "base_name",
    "fit_jobs",
    "fitted_class",
    "full_name",
    "get_head",
    "head_of",
    "is_own",
    "needs_order",
    "segments",
    "with_settings",
    "written",
]

ATTENTION_HEADS = ("dvme", "dvme-tokens")
"""Fusions by attention."""
CONTROLS = ("dvme-noattn", "mlp", "concat", "mean-logits")
"""What a fusion by attention has to beat, besides the best single backbone."""
FUSIONS = frozenset({*ATTENTION_HEADS, *CONTROLS})
"""None of them stands in for a single backbone, not even on one."""
SEGMENTS = "segment-"
"""How the names of heads of segmentation begin."""
SEGMENT = (
    *("segment-linear", "segment-knn", "segment-concat"),
    *("segment-mean-logits", "segment-dvme", "segment-conv"),
)
"""Those that segment images from dense features, which `dvme.segmentation.heads` has."""
UNETS = ("unet", "unet-random")
"""Those that segment images and train the backbone as well, which `dvme.segmentation.unet` has."""
_KINDS: dict[str, tuple[Callable[[], Head], type[FittedHead]]] = {
    "linear": (Linear, FittedLinear),
    "linear-adam": (partial(NetworkHead, "linear-adam"), FittedNetwork),
    "knn": (KNN, FittedKNN),
    "dvme": (partial(NetworkHead, "dvme"), FittedNetwork),
    "dvme-noattn": (partial(NetworkHead, "dvme-noattn"), FittedNetwork),
    "dvme-tokens": (partial(NetworkHead, "dvme-tokens"), FittedNetwork),
    "mlp": (partial(NetworkHead, "mlp"), FittedNetwork),
    "concat": (Concat, FittedConcat),
    "mean-logits": (MeanLogits, FittedMeanLogits),
}
HEADS = tuple(_KINDS)
"""Those on embeddings alone."""
_TUNED: dict[str, Callable[[], Head]] = {name: partial(Finetune.named, name) for name in NAMES}
TUNED = tuple(_TUNED)
"""Those that train the backbone as well, on the images."""
_FACTORIES = {name: factory for name, (factory, _) in _KINDS.items()} | _TUNED


def get_head(name: str) -> Head:
    """A head with its default settings, but for those in its name: `linear`, or `dvme@max-epochs=20`.

    Raises:
        UnknownNameError: naming the heads that there are.
        OptionError: naming the settings that there are, or what a value may be.
    """
    base, settings = split_name(name)
    if base in {*SEGMENT, *UNETS}:
        raise UnknownNameError(
            f"{base} segments images by masks, and here they have labels; choose from {', '.join(HEADS)}"
        )
    if base not in _FACTORIES:
        hint = "; several values are separated by colons" if base[:1].isdigit() else ""
        raise UnknownNameError(f"unknown head {base!r}; {choose_from(base, [*_FACTORIES, *SEGMENT, *UNETS])}{hint}")
    head = _FACTORIES[base]()
    if isinstance(head, Finetune):  # a protocol first, and what is said beside it then
        head = head.under(settings.get("protocol", head.protocol))
    return vary(head, settings)


def segments(name: str) -> bool:
    """Whether a head of this name, which may have settings, makes masks of images."""
    return name.startswith(SEGMENTS) or base_name(name) in UNETS


def is_own(head: Head) -> bool:
    """Whether the head is one of dvme's, so that a saved one can be built again; another's lives in its program."""
    return head.name in _FACTORIES and type(get_head(head.name)) is type(head)


def full_name(head: Head) -> str:
    """The name with the settings that differ from the defaults, as `get_head` takes it; of another's head, its name."""
    if not is_own(head):
        return head.name
    usual = get_head(head.name)
    if isinstance(head, Finetune):  # what differs from its protocol, which is a setting itself
        usual = replace(head.under(head.protocol), protocol=OWN)
    return "@".join([head.name, *differences(usual, head)])


def head_of(name: str, settings: Mapping[str, Any]) -> Head:
    """The head of this name with the settings that `dataclasses.asdict` gave of it, also after a way through JSON.

    Raises:
        UnknownNameError: naming the heads that there are.
        OptionError: if the settings are not those of such a head.
    """
    head: Head = with_settings(get_head(name), settings)
    if head.name != name:
        raise OptionError(f"these are the settings of {head.name!r}, not of {name!r}")
    return head


def with_settings(default: Any, settings: Mapping[str, Any]) -> Any:
    """A dataclass like the default with these settings, dataclasses in its fields included.

    Raises:
        OptionError: if the settings are not those of such a dataclass.
    """
    own = {field.name: getattr(default, field.name) for field in fields(default)}
    if set(settings) - set(own) or set(own) - set(settings) - set(LATER):
        raise OptionError(f"the settings are {', '.join(sorted(settings))}; they must be {', '.join(sorted(own))}")
    values = {
        key: with_settings(own[key], value) if is_dataclass(own[key]) else value for key, value in settings.items()
    }
    return replace(default, **values)


def fitted_class(name: str) -> type[FittedHead]:
    """What a head of this name becomes once it is fitted; its `restored` builds a saved one again.

    Raises:
        UnknownNameError: naming the heads that there are.
    """
    if name in TUNED:
        return FittedLinear  # on the embeddings of a backbone that is the fold's own
    if name not in _KINDS:
        raise UnknownNameError(f"unknown head {name!r}; choose from {', '.join(HEADS)}")
    return _KINDS[name][1]
