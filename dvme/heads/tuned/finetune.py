"""Fine-tuning: a backbone and its classifier are trained on images, from what the frozen backbone can do or without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from dvme.errors import OptionError
from dvme.heads.exact.linear import LINKS, SOFTMAX
from dvme.heads.fitting.jobs import Embedded, Job
from dvme.heads.tuned.on_images import FittedTuned, Seen
from dvme.heads.tuned.starts import probed, untaught
from dvme.runtime import Runtime
from dvme.training.protocols import OWN, recipe_of
from dvme.training.recipe import Recipe, is_halved, resolved

if TYPE_CHECKING:
    from dvme.backbones.loading.trainable import Trainable

TestCrops = Literal["one", "ten"]
FINETUNE, SCRATCH_HEAD, RANDOM = NAMES = ("finetune", "finetune-scratch-head", "finetune-random")
FROM_NOTHING = Recipe(learning_rates=(1e-4, 3e-4, 1e-3), layer_decay=1.0, batch_norm="updated")
"""dvme's own protocol for random weights: all layers have as far to go, and statistics are still to be found."""


@dataclass(frozen=True)
class Finetune:
    """All weights of a backbone, or some, trained on the images of the training rows.

    What is chosen on validation: the learning rate and the epoch, the untouched start included.

    - `finetune` begins with the exact linear head of the same rows on the frozen embeddings. Source: linear probing,
      then fine-tuning, Kumar et al. 2022, section 3.4.
    - `finetune-scratch-head` begins with a random classifier, as the papers do.
    - `finetune-random` begins with random weights everywhere: what the pre-training is worth.
    """

    protocol: str = OWN
    """Of `dvme.training.protocols`; what the recipe has otherwise is a setting."""
    recipe: Recipe = field(default_factory=Recipe)
    link: str = SOFTMAX
    """As `linear` has it: `cumulative` for classes in order."""
    test_crops: TestCrops = "one"
    """`ten`: predictions are the mean over ten crops, those of the corners and the middle and the same mirrored. What
    validation chooses is chosen on one."""
    name: str = FINETUNE
    is_fusion: bool = False
    revision: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Refuse what is not known."""
        recipe_of(self.protocol)
        for name, known in (("link", LINKS), ("test_crops", get_args(TestCrops))):
            if getattr(self, name) not in known:
                raise OptionError(f"{name} {getattr(self, name)!r} is not known; choose from {', '.join(known)}")
        if self.name == RANDOM and (self.recipe.lora_rank or self.recipe.layers != "all"):
            raise OptionError(
                f"{RANDOM} trains all weights, because all of them are random; leave out layers and lora-rank"
            )

    @classmethod
    def named(cls, name: str) -> Self:
        """One of NAMES by dvme's own protocol."""
        return cls(name=name).under(OWN)

    def under(self, protocol: str) -> Self:
        """The same by a protocol's settings.

        Raises:
            OptionError: naming the protocols there are.
        """
        recipe = FROM_NOTHING if self.name == RANDOM and protocol == OWN else recipe_of(protocol)
        crops: TestCrops = "ten" if protocol == "taher2021" else "one"
        return replace(self, protocol=protocol, recipe=recipe, test_crops=crops)

    def check_model(self, model: Trainable) -> None:
        """See OnImages."""
        from dvme.training.epochs import restrict

        restrict(model, self.recipe, seed=0)

    def check_room(self, model: Trainable, n_images: int, n_bytes: int) -> int:
        """See OnImages."""
        from dvme.training.memory import check_room, measured

        recipe, preprocess = resolved(self.recipe, n_images, is_transformer=False), model.spec.preprocess
        sides = preprocess.channels, preprocess.crop, preprocess.resize
        halved = is_halved(recipe, model.device.type)
        step = measured(model, *sides, has_average=recipe.average_epochs > 0, is_halved=halved)
        largest = min(recipe.batch_size, n_images)
        check_room(step, largest, n_bytes, self.name, model.spec.name)
        return step.bytes_of(largest)

    def fit_on_images(
        self, job: Job, data: Embedded, seen: Seen, runtime: Runtime, tell: Callable[[int, int], None]
    ) -> FittedTuned:
        """See OnImages."""
        from dvme.training.epochs import Lesson
        from dvme.training.low_rank import attention_of
        from dvme.training.tuning import tune

        model = seen.load(job.seed if self.name == RANDOM else None)
        if self.name == FINETUNE:
            classifier = probed(job, data, runtime, self.link)
        else:
            classifier = untaught(job, data, self.link, model.dim)
        classifier = classifier.to(model.device)
        is_transformer = any(True for _ in attention_of(model))
        recipe = resolved(self.recipe, len(job.train), is_transformer=is_transformer)
        lesson = Lesson(
            pictures=seen.pictures,
            train=job.train,
            validation=job.validation,
            targets=data.labels,
            truth=_truth(data),
            weights=np.ones(len(data.labels)) if data.weights is None else data.weights.astype(np.float64),
        )
        course = tune(model, classifier, lesson, recipe, job.seed, tell, seen.kept)
        model.load_state_dict(course.model_state)
        classifier.load_state_dict(course.classifier_state)
        chosen: dict[str, Any] = {
            "epoch": course.epoch,
            "n_epochs": course.n_epochs,
            "validation_loss": course.validation_loss,
            "learning_rate": course.learning_rate,
            "n_trained": course.n_trained,
        }
        fitted = classifier.fitted(is_multilabel=data.is_multilabel)
        return FittedTuned(fitted, model, chosen, self.test_crops == "ten", course.seconds_before)


def _truth(data: Embedded) -> NDArray[Any]:
    """(N,) or (N, L) what is chosen on."""
    return data.truth_of(np.arange(len(data.labels))) if data.is_multilabel else data.labels
