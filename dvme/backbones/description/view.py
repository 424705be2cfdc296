"""Views of an image: augmented versions that a backbone embeds beside the plain one.

A view is a variation of a backbone, written into its name: `dino@view=2`, or `dino@view=2:rotate+crop` by another
recipe. So its embeddings are a backbone's embeddings like any others to all that keeps, checks and moves them.
"""

from __future__ import annotations

from dataclasses import dataclass

from dvme.errors import OptionError

PARTS = ("flip", "rotate", "crop")
"""What a recipe may be made of, in the order in which it is written."""
USUAL = "+".join(PARTS)
MOST_VIEWS = 64
"""Of an image, the plain one among them."""
FLIPS_ONLY = "flip"
REVISION = 1
"""Of the recipes, a part of fingerprints: raised when the same view of the same image shows other pixels."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One version of every image. `dvme.backbones.model.augment` says what it shows."""

    number: int = 0
    """0: the plain image, whatever the recipe."""
    recipe: str = USUAL
    """Of `flip`, `rotate` and `crop`, with `+` between them."""

    def __post_init__(self) -> None:
        """Refuse a view that there is not, and bring the recipe into its one spelling.

        Raises:
            OptionError: naming what is possible.
        """
        parts = self.recipe.split("+")
        if not all(part in PARTS for part in parts) or len(set(parts)) < len(parts):
            raise OptionError(f"recipe {self.recipe!r} is not possible; join some of {', '.join(PARTS)} by +")
        ordered = USUAL if self.number == 0 else "+".join(part for part in PARTS if part in parts)
        object.__setattr__(self, "recipe", ordered)
        if not 0 <= self.number < MOST_VIEWS:
            raise OptionError(f"view {self.number} is not possible; pass 0, the plain image, to {MOST_VIEWS - 1}")
        if self.recipe == FLIPS_ONLY and self.number > 1:
            raise OptionError(f"view {self.number}:flip shows what others show; by flip alone there are 0 and 1")

    @property
    def is_plain(self) -> bool:
        """Whether it is the image itself."""
        return self.number == 0

    @property
    def value(self) -> str:
        """As a backbone's name has it: `2`, or `2:rotate+crop`; "" of the plain one."""
        if self.is_plain:
            return ""
        return f"{self.number}" if self.recipe == USUAL else f"{self.number}:{self.recipe}"

    @property
    def set_fields(self) -> dict[str, str | int]:
        """What fingerprints say of it; nothing of the plain one."""
        if self.is_plain:
            return {}
        return {"number": self.number, "recipe": self.recipe, "revision": REVISION}


PLAIN = View()


def view_of(value: str) -> View:
    """The view that a name means.

    Args:
        value: `2`, or `2:rotate+crop`.

    Raises:
        OptionError: if there is no such view.
    """
    number, separator, recipe = value.partition(":")
    if not (number.isascii() and number.isdecimal()):
        raise OptionError(f"view={value} is not possible; pass a number, as in view=1 or view=1:rotate+crop")
    return View(number=int(number), recipe=recipe if separator else USUAL)


def further_views(views: int | str) -> list[View]:
    """The views beside the plain one of a call that asks for so many.

    Args:
        views: how many, the plain one among them: 4, "4", or "4:rotate+crop".

    Raises:
        OptionError: if that is not possible.
    """
    count, separator, recipe = f"{views}".partition(":")
    possible = count.isascii() and count.isdecimal() and 1 <= int(count) <= MOST_VIEWS and not isinstance(views, bool)
    if not possible:
        how = f"pass 1, the plain image alone, to {MOST_VIEWS}, with a recipe as in 4:rotate+crop if any"
        raise OptionError(f"{views!r} views are not possible; {how}")
    named = recipe if separator else USUAL
    View(number=1, recipe=named)  # also where there is none to make, a recipe is one
    return [View(number=number, recipe=named) for number in range(1, int(count))]
