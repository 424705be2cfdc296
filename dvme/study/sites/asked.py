"""The sites that a study is asked about: their names, their caches, and whether these fit the study's."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dvme.backbones.loading.kept import is_imported
from dvme.errors import DataError, OptionError, message_of, parameter
from dvme.places import open_cache
from dvme.study.design.snapshot import Snapshot
from dvme.study.design.views import Views
from dvme.study.sites.outcome import OWN
from dvme.text import first_few
from dvme_cache import EmbeddingCache, FingerprintMismatchError
from dvme_cache.files import is_url

SUFFIX = ".zarr"
WHOLE = 1e-6
"""By how much weights may miss 1."""


@dataclass(frozen=True, kw_only=True)
class SiteOptions:
    """What is asked of other sites."""

    test: Sequence[str | Path] = ()
    """Caches, as paths or NAME=PATH."""
    label_map: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    """What the study calls a finding or class, to what the sites call it, one name or several. `SITE:OURS` is for one
    site alone. Others are matched by name."""
    score: Mapping[str, float] = field(default_factory=dict)
    """Weight of each portion: a site's name, or OWN for the study's own test set. They sum to 1."""

    def __post_init__(self) -> None:
        """Refuse names that are there twice, options without a site, and weights that are none.

        Raises:
            OptionError: naming what is wrong.
        """
        if (self.label_map or self.score) and not self.test:
            which = parameter("label_map") if self.label_map else parameter("score")
            raise OptionError(which + " is about other sites; name them with " + parameter("test"))
        if not self.score:
            return
        known = [OWN, *self.places]
        stray = [name for name in self.score if name not in known]
        if stray:
            raise OptionError(
                parameter("score")
                + f" names {stray[0]!r}, which is no site; there are {', '.join(known)}; NAME=PATH in "
                + parameter("test")
                + " calls one so"
            )
        total = math.fsum(self.score.values())
        bad = [name for name, weight in self.score.items() if not 0.0 < weight <= 1.0]
        if bad or abs(total - 1.0) > WHOLE:
            what = f"the weight of {bad[0]} is {self.score[bad[0]]:g}" if bad else f"the weights sum to {total:g}"
            raise OptionError(parameter("score") + f": {what}; weights are above 0 and sum to 1")

    @property
    def places(self) -> dict[str, str]:
        """Name to place of every site.

        Raises:
            OptionError: if two have one name, or one that of the study's own test set.
        """
        found: dict[str, str] = {}
        for given in self.test:
            name, place = _named(os.fspath(given))
            if name in found or name == OWN:
                whose = "the study's own test set" if name == OWN else found[name]
                raise OptionError(
                    f"{place} would be called {name!r}, as {whose} is; give it another name with "
                    + parameter("test", f"OTHER={place}")
                )
            found[name] = place
        return found


def open_sites(
    options: SiteOptions, store: EmbeddingCache, backbones: Sequence[str], views: Views | None = None
) -> dict[str, Snapshot]:
    """Everybody at every site who has a label and all embeddings, by the sites' names.

    Args:
        options: which sites.
        store: the study's cache.
        backbones: of the study.
        views: of the study; a site needs them where predictions are means over them.

    Raises:
        OptionError: if a site is the study's own cache.
        FingerprintMismatchError: if its embeddings were not made as the study's, naming the backbone and the field.
        DataError: if it lacks a backbone, or has nobody.
        CacheError: if it cannot be read.
    """
    asked = views if views is not None and views.is_averaged else None
    every = [*backbones, *(name for own in backbones if asked is not None for name in asked.names_of(own))]
    found = {}
    for name, place in options.places.items():
        if _is_same(place, store.location):
            raise OptionError(f"{place} is the study's own cache, whose test set is in the table anyway; leave it out")
        site = open_cache(place)
        for backbone in every:
            _check_fits(site, store, backbone)
        try:
            found[name] = Snapshot.take(site, backbones, views=asked)
        except DataError as error:
            raise DataError(f"site {name}: " + message_of(error) + "; label it, or leave it out") from error
    return found


def mapped(options: SiteOptions, site: str, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What the study's names are to be at a site, as far as that was said.

    Raises:
        OptionError: if a name is none of the study's.
    """
    found: dict[str, tuple[str, ...]] = {}
    for key, value in options.label_map.items():
        ours, whose = key, site
        prefix, separator, rest = key.partition(":")
        if key not in classes and separator and prefix in options.places:
            ours, whose = rest, prefix
        if ours not in classes:
            choices = first_few(map(repr, classes), 20)
            raise OptionError(
                parameter("label_map")
                + f" says what {ours!r} is called elsewhere, which is no finding or class of this "
                f"study; choose from {choices}"
            )
        if whose == site:
            own = (value,) if isinstance(value, str) else tuple(value)
            is_for_one = ours != key
            found[ours] = own if is_for_one or ours not in found else found[ours]
    return found


def _named(given: str) -> tuple[str, str]:
    name, separator, place = given.partition("=")
    if separator and name and place and not set("/\\:") & set(name) and not Path(given).exists():
        return name, place
    last = given.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    return last.removesuffix(SUFFIX) or given, given


def _is_same(place: str, location: str) -> bool:
    if is_url(place) or is_url(location):
        return place.rstrip("/") == location.rstrip("/")
    return Path(place).resolve() == Path(location).resolve()


def _check_fits(site: EmbeddingCache, store: EmbeddingCache, backbone: str) -> None:
    if backbone not in site.backbones:
        step = f"dvme extract IMAGES {site.location} --backbones {backbone}"
        raise DataError(f"{site.location} has no embeddings of {backbone}; run {step}, or leave the backbone out")
    own, its = (each.embeddings(backbone).fingerprint for each in (store, site))
    differences = own.differences(its)
    if not differences:
        return
    name, mine, other = differences[0]
    more = f" (and {len(differences) - 1} more differ)" if len(differences) > 1 else ""
    step = f"dvme cache import FILE {site.location} --backbone {backbone} --like {store.location}"
    step = step if is_imported(own.fields) else f"dvme extract IMAGES {site.location} --backbones {backbone} --replace"
    raise FingerprintMismatchError(
        f"{backbone} in {site.location} was not made as in {store.location}: {name} is {other!r}, the "
        f"study's is {mine!r}{more}; "
        f"run {step}, or leave the backbone out"
    )
