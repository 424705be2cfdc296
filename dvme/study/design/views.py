"""The views of images that a study uses: which of them its cache has, and what for.

A view of an image is never an image of its own: sizes, classes, patients and splits count images, and all views of an
image are on its side of every split. So a head that learns from views learns from more rows, not from more images.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dvme.backbones.description.variation import seen_in, view_in
from dvme.backbones.description.view import PLAIN, USUAL, View
from dvme.defaults import VIEWS_USED
from dvme.errors import DataError, OptionError, parameter
from dvme.notices import Aside
from dvme.text import counted, first_few, some_of
from dvme_cache import EmbeddingCache
from dvme_cache.embeddings import Embeddings

NONE, TRAIN, BOTH = VIEWS_USED, "train", "train,test"
USES = (NONE, TRAIN, BOTH)


@dataclass(frozen=True)
class Views:
    """What is asked of views: heads learn from all of a training image, and may be asked about all of any image."""

    use: str
    """`train`: images that are chosen or tested on are seen plain. `train,test`: what is predicted of them is the mean
    over their views."""
    further: tuple[View, ...]
    """Beside the plain one."""

    @property
    def is_averaged(self) -> bool:
        """Whether predictions are means over views."""
        return self.use == BOTH

    @property
    def n(self) -> int:
        """Of each image, the plain one among them."""
        return 1 + len(self.further)

    def names_of(self, backbone: str) -> tuple[str, ...]:
        """What a cache calls the further views of a backbone."""
        return tuple(seen_in(backbone, view) for view in self.further)

    def command(self, cache: str, backbones: Sequence[str]) -> str:
        """What extracts them."""
        return _command(cache, backbones, max(view.number for view in self.further), self.further[0].recipe)


def is_view(backbone: str) -> bool:
    """Whether the embeddings of this name are of another view than the plain one."""
    return seen_in(backbone, PLAIN) != backbone


def views_asked(asked: str, store: EmbeddingCache, backbones: Sequence[str]) -> tuple[Views | None, list[str]]:
    """The views that a study of these backbones uses, the same of all, and what is to be said of them.

    Args:
        asked: of USES; with a recipe, `train:rotate+crop`, where the cache has views by several.
        store: the cache.
        backbones: of the study.

    Returns:
        None for a study of plain images, and lines.

    Raises:
        OptionError: if it is none of these, or does not say which recipe.
        DataError: if a backbone has no views.
    """
    use, separator, recipe = f"{asked}".partition(":")
    if use not in USES or (separator and use == NONE):
        raise OptionError(f"views {asked!r} are not known; choose one of {', '.join(USES)}")
    recipe = View(number=1, recipe=recipe).recipe if separator else ""
    held = {name: _views_held(store, name) for name in backbones}
    if use == NONE:
        return None, _unused(held)
    already = [name for name in backbones if is_view(name)]
    if already:
        raise OptionError(
            f"{already[0]} is a view already; name {seen_in(already[0], PLAIN)}, or leave out " + parameter("views")
        )
    recipes = sorted({view.recipe for own in held.values() for view in own})
    if not recipe and len(recipes) > 1:
        choice = parameter("views", f"{use}:{recipes[0]}")
        raise OptionError(f"{store.location} has views by {some_of(recipes)}; choose one, as in " + choice)
    recipe = recipe or next(iter(recipes), USUAL)
    known = {name: [view for view in own if view.recipe == recipe] for name, own in held.items()}
    lacking = [name for name, own in known.items() if not own]
    most = max((view.number for own in known.values() for view in own), default=1)
    if lacking:
        by = "" if recipe == USUAL else f" by {recipe}"
        step = _command(store.location, lacking, most, recipe)
        raise DataError(f"{store.location} has no views{by} of {first_few(lacking)}; run {step}")
    shared = tuple(view for view in known[backbones[0]] if all(view in own for own in known.values()))
    if not shared:
        step = _command(store.location, backbones, most, recipe)
        raise DataError(f"no view is there of all of {first_few(backbones)}; run {step}")
    return Views(use, shared), _said(Views(use, shared), known)


def identity_of(views: Sequence[Embeddings], *, is_averaged: bool) -> dict[str, Any]:
    """What of a backbone's views determines the probabilities of a head."""
    return {"use": BOTH if is_averaged else TRAIN, "embeddings": [table.fingerprint.digest for table in views]}


def _views_held(store: EmbeddingCache, backbone: str) -> list[View]:
    """The further views of a backbone that a cache has, in their order."""
    found = []
    for name in store.backbones:
        with suppress(OptionError):  # embeddings that were imported may be called anything
            found += [view_in(name)] if is_view(name) and seen_in(name, PLAIN) == backbone else []
    return sorted(found, key=lambda view: (view.recipe, view.number))


def _unused(held: dict[str, list[View]]) -> list[str]:
    there = [name for name, views in held.items() if views]
    if not there:
        return []
    how = parameter("views", TRAIN) + " learns from them, " + parameter("views", BOTH) + " averages over them as well"
    return [Aside(f"views of {some_of(there)} are in the cache and not used; " + how)]


def _said(views: Views, known: dict[str, list[View]]) -> list[str]:
    averaged = ", and predictions are means over them" if views.is_averaged else ""
    lines: list[str] = [f"heads learn from {counted(views.n, 'view')} of each image{averaged}; counts are of images"]
    more = [name for name, own in known.items() if len(own) > len(views.further)]
    if more:
        lines.append(Aside(f"further views of {some_of(more)} are not used, for not all backbones have them"))
    return lines


def _command(cache: str, backbones: Sequence[str], most: int, recipe: str) -> str:
    asked = f"{most + 1}" + ("" if recipe == USUAL else f":{recipe}")
    names = ",".join(f'"{name}"' if "," in name else name for name in backbones)
    return f"dvme extract IMAGES {cache} --backbones {names} --views {asked}"
