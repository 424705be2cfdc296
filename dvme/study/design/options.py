"""How subsets are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from dvme.arguments import several
from dvme.data.uncertainty import Uncertainty
from dvme.defaults import (
    BALANCE,
    BLANK,
    N_FOLDS,
    N_REPEATS,
    NEAR_DUPLICATES,
    SEED,
    SIZES,
    TEST_FRACTION,
    UNCERTAIN,
    VALIDATION,
)
from dvme.errors import OptionError, parameter
from dvme.seeds import checked_seed
from dvme.study.design.orders import Balance
from dvme.study.design.sizes import parse_sizes

MIN_FOLDS = 2


@dataclass(frozen=True, kw_only=True)
class SubsetOptions:
    """How subsets are drawn. The same options, images and labels give the same manifest.

    Example:
        >>> dvme.SubsetOptions(sizes="50,10%,full").sizes
        ('50', '10%', 'full')
    """

    sizes: tuple[str, ...] = SIZES
    """Numbers, parts of the smallest fold such as `10%`, `full`, or a preset such as `truong2021:aptos`; in a text
    they stand between commas."""
    n_folds: int = N_FOLDS
    """Folds of the training pool."""
    n_repeats: int = N_REPEATS
    """Times that the pool is folded anew, by other seeds; the test set stays."""
    balance: Balance = BALANCE
    """Of a training subset: as many of each class, as in the whole, or as chance has it."""
    validation: Literal["matched", "full"] = VALIDATION
    """`matched`: a subset chooses on few images as well, as many as its share of a fold; `full`: on the whole fold."""
    oversample: bool | None = None
    """Whether heads trained by minibatches see every class equally often; None: where the classes differ in number."""
    test_fraction: float = TEST_FRACTION
    """Part held out, where the user gave no split."""
    seed: int = SEED
    """Of the split, as in `dvme probe`, and of all draws."""
    uncertain: str = UNCERTAIN
    """What heads learn of an uncertain finding, see `Uncertainty`."""
    blank: Literal["ignore", "zeros"] = BLANK
    """What an empty cell of a finding is, see `Uncertainty`."""
    drop_duplicates: bool = False
    """Leave out training images that all but coincide with a test or validation image."""
    near_duplicates: Literal["auto", "exact"] = NEAR_DUPLICATES
    """`auto`: near-duplicates of many images may be searched for in part, which a notice then says with the recall;
    `exact`: all of them are found, however long it takes."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        object.__setattr__(self, "sizes", _named(self.sizes))
        if self.balance not in get_args(Balance):
            raise OptionError(f"balance {self.balance!r} is not known; choose from {', '.join(get_args(Balance))}")
        parse_sizes(self.sizes)
        object.__setattr__(self, "seed", checked_seed(self.seed))
        if self.n_folds < MIN_FOLDS:
            raise OptionError(
                f"{self.n_folds} folds are not possible; pass " + parameter("n_folds", MIN_FOLDS) + " or more"
            )
        if not 0.0 < self.test_fraction <= 0.5:
            allowed = parameter("test_fraction") + " above 0, at most 0.5"
            raise OptionError(f"test fraction {self.test_fraction} is not possible; pass " + allowed)
        _ = self.uncertainty
        if self.n_repeats < 1:
            raise OptionError(
                f"{self.n_repeats} repeats are not possible; pass " + parameter("n_repeats", 1) + " or more"
            )
        if self.near_duplicates not in ("auto", "exact"):
            raise OptionError(f"near_duplicates {self.near_duplicates!r} is not known; choose auto or exact")
        if self.validation not in ("matched", "full"):
            raise OptionError(f"validation {self.validation!r} is not known; choose matched or full")

    @property
    def uncertainty(self) -> Uncertainty:
        """The policy."""
        return Uncertainty(uncertain=self.uncertain, blank=self.blank)


def _named(sizes: object) -> tuple[str, ...]:
    """The sizes as text: of a text with commas, a number, or several of these."""
    wanted = "a size, or a list of sizes such as ['50', '10%', 'full']"
    given = (sizes,) if isinstance(sizes, str | int) else several(sizes, "sizes", wanted)
    return tuple(part.strip() for size in given for part in f"{size}".split(","))
