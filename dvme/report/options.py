"""What a page shows, and of whom.

The study computes all that a report says, and `summary.json` has it. A report computes it again from the run's
predictions, so that a page is of one dvme, and draws. In the box below the answers stands what changes how they are to
be taken. Other notices stand under Data: who writes a line that changes no decision marks it (`dvme.notices.Aside`). A
part that the data do not allow (an embedding that is the same everywhere has no map) is left out with a notice. What is
explained of a fusion is explained on the run's test images, whatever else the cache holds.

With `anonymous`, digests take the place of names, under a key that is made of embeddings. Names of files and patients
have too few possibilities to be hashed bare, and the content id of an imported embedding may itself be the hash of a
name. Points are shuffled and groups numbered by such digests. Paths, splits, further columns, fingerprints' texts and
notices, any of which may name someone, are left out. The images are not hidden by this; leave the thumbnails out as
well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dvme.arguments import names
from dvme.defaults import FIGURE_KIND, MAPS, SEED
from dvme.errors import OptionError
from dvme.maps.projection import METHODS
from dvme.report.figures.static import check_figures
from dvme.seeds import checked_seed

SUFFIXES = (".html", ".htm")


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Of `dvme viz` and `dvme report`.

    Example:
        >>> dvme.PageOptions(methods="pca", anonymous=True).methods
        ('pca',)
    """

    methods: Sequence[str] = MAPS
    """Of the maps: `tsne`, `umap` and `pca`; a page shows one at a time."""
    seed: int = SEED
    """Of the maps."""
    thumbnails: bool = True
    """Whether the images may be seen."""
    anonymous: bool = False
    """Names of images become digests that only who has the cache can find again, groups numbers; paths, splits, further
    columns, fingerprints' texts and notices are left out, as any of them may name someone. Names of classes and
    backbones stay."""
    finding: str | None = None
    """Of images that may have several findings: the one that colours the points first, and the figures of maps; None:
    the most frequent. A page offers all of them."""
    figures: str | Path | None = None
    """A folder for every figure as a file."""
    figure_kind: str = FIGURE_KIND
    """`svg`, `png` or `pdf`."""

    def __post_init__(self) -> None:
        """Refuse what no page can show, before anything is computed."""
        object.__setattr__(self, "methods", names(self.methods, "methods"))
        unknown = [each for each in self.methods if each not in METHODS]
        if unknown or not self.methods:
            raise OptionError(f"unknown map {(unknown or [''])[0]!r}; choose one of {', '.join(METHODS)}")
        object.__setattr__(self, "methods", tuple(dict.fromkeys(self.methods)))
        object.__setattr__(self, "seed", checked_seed(self.seed))
        if self.figures is not None:
            check_figures(self.figures, self.figure_kind)
