"""How weights are adapted: the methods, and what each takes where nobody says otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dvme.defaults import ADAPT_BATCH, ADAPT_EPOCHS
from dvme.errors import OptionError, UnknownNameError, parameter
from dvme.limits import positive, whole
from dvme.seeds import checked_seed
from dvme.text import choose_from

METHODS = tuple(ADAPT_EPOCHS)
CONTRASTIVE = ("simclr", "micle")
LARGE_BATCH = 256
"""Images of a minibatch from which on LARS takes the steps, as where contrastive learning was published; AdamW below,
for LARS is made for batches of thousands."""
WARMUP_SHARE = 0.1
"""Of the epochs, in which the rate rises: 10 of 100, Chen et al. 2020, section 2.2."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How weights are adapted, by values that are all known. See `settings_of` for where the defaults are from."""

    method: str
    epochs: int
    batch_size: int
    """Pairs of views of a minibatch at most, or images where a method shows each once."""
    learning_rate: float
    """After the warm-up; it falls to 0 by a cosine."""
    weight_decay: float
    temperature: float
    """Of the contrastive loss."""
    seed: int

    @property
    def is_lars(self) -> bool:
        """Whether LARS takes the steps, in place of AdamW."""
        return self.batch_size >= LARGE_BATCH and self.method in CONTRASTIVE

    @property
    def warmup_epochs(self) -> float:
        """In which the rate rises."""
        return WARMUP_SHARE * self.epochs

    def plain(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"optimizer": "lars" if self.is_lars else "adamw"}


def settings_of(
    method: str,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    temperature: float | None = None,
    seed: int,
    n_images: int | None = None,
) -> Settings:
    """What is asked for, with a method's defaults.

    The papers trained for 100,000 steps and more on dozens of accelerators; these are for some hundred to some ten
    thousand images on one machine.

    - `simclr`, `micle`: 100 epochs, minibatches of 128 (MICLe's, Azizi et al. 2021, section 4.2), a temperature of 0.1
      (Chen et al. 2020, table 5; among Azizi's). From minibatches of 256 on LARS at 0.3 for each 512 images, Azizi's
      for dermatology, with a decay of 1e-6; below, AdamW at 1e-4 with a decay of 0.04, which Krones et al. 2026 took
      for their adaptation by images of the domain.
    - `gmml`: as theirs, AdamW at 1e-4 with 0.04, minibatches of 64.
    - `supervised`: Taher et al. 2021, a rate of 2e-4 and minibatches of 32, over 30 epochs, for a cosine in place of a
      plateau ends by itself; decay as above.

    No minibatch has more than `n_images`, where that is known; rate and optimizer are those of its real size.

    Raises:
        UnknownNameError, OptionError: naming what is wrong.
    """
    if method not in METHODS:
        raise UnknownNameError(f"method {method!r} is not known; {choose_from(method, METHODS)}")
    if temperature is not None and method not in CONTRASTIVE:
        raise OptionError(
            parameter("temperature") + f" is of the contrastive loss, and {method} has none; leave it out"
        )
    size = whole("batch_size", ADAPT_BATCH[method] if batch_size is None else batch_size, 2)
    size = size if n_images is None else max(2, min(size, n_images))
    is_lars = size >= LARGE_BATCH and method in CONTRASTIVE
    rate = 0.3 * size / 512 if is_lars else 2e-4 if method == "supervised" else 1e-4
    return Settings(
        method=method,
        epochs=whole("epochs", ADAPT_EPOCHS[method] if epochs is None else epochs, 1),
        batch_size=size,
        learning_rate=positive("learning_rate", rate if learning_rate is None else learning_rate),
        weight_decay=1e-6 if is_lars else 0.04,
        temperature=positive("temperature", 0.1 if temperature is None else temperature),
        seed=checked_seed(seed),
    )
