"""The leak rule: what a study will test on takes no part in an adaptation, and neither do other images of its groups.

Weights that have seen test images, even without labels, know something of the test set; scores on it are no longer
those of new images. A test image whose file is away takes part in the rule: others of its group may be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvme.data.samples import MISSING
from dvme.errors import DataError, OptionError, parameter
from dvme.text import counted

TEST = "test"


@dataclass(frozen=True)
class Leak:
    """What becomes of N distinct images that are there."""

    is_out: NDArray[np.bool_]
    """(N,) left out."""
    n_test: int
    """Images of the declared test part; 0 where none is declared, or none of it is there."""
    is_transductive: bool
    """Whether images of a test part are trained on, or whether nobody knows and the user said that it may be so."""

    @property
    def n_related(self) -> int:
        """Images that are left out and are no test images themselves: others of the same groups."""
        return int(self.is_out.sum()) - (0 if self.is_transductive else self.n_test)


def joined_groups(files: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Which group each image is of; two groups that a copy links are one.

    Args:
        files: of each of N distinct images, the groups of the files that are copies of it; "" is none.

    Returns:
        (N,) from 0 on. An image without a group is one of its own.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    known = [sorted({group for group in named if group != MISSING}) for named in files]
    number = {group: at for at, group in enumerate(dict.fromkeys(group for groups in known for group in groups))}
    n_images = len(files)
    links = [(image, n_images + number[group]) for image, groups in enumerate(known) for group in groups]
    one, other = np.array(links, dtype=np.int64).reshape(-1, 2).T
    size = n_images + len(number)
    graph = coo_array((np.ones(len(links), dtype=np.int8), (one, other)), shape=(size, size))
    found: NDArray[np.int64] = connected_components(graph, directed=False)[1][:n_images].astype(np.int64)
    return np.unique(found, return_inverse=True)[1]


def apply_leak_rule(
    splits: Sequence[Sequence[str]],
    groups: NDArray[np.int64],
    images: str,
    *,
    transductive: bool,
    without_test: bool,
    n_gone: int = 0,
) -> Leak:
    """Leave out the test part and all images of its groups, or refuse where nobody said what that is.

    Args:
        splits: of each of N distinct images, the parts that its files are declared to be of; "" is none.
        groups: (N,) which each is of, by `joined_groups`.
        images: as the user named them.
        transductive: the user wants all images, test images included.
        without_test: the user says that there is no test part among them.
        n_gone: how many of the last of these N are known only by what is declared of them, for their files are away.

    Returns:
        What becomes of the others.

    Raises:
        OptionError: if both are said, or there is a test part where there should be none.
        DataError: if no test part is declared, and nothing is said; or if all images would be left out.
    """
    if transductive and without_test:
        first, second = parameter("transductive", True), parameter("without_test", True)
        raise OptionError(
            first + " takes the images of a test part, and " + second + " says that there is none; pass one"
        )
    is_test = np.array([TEST in parts for parts in splits], dtype=bool)
    n_there = len(is_test) - n_gone
    n_declared, n_test = int(is_test.sum()), int(is_test[:n_there].sum())
    if without_test and n_declared:
        message = f"{images} declares {counted(n_declared, 'test image')}; leave out "
        raise OptionError(message + parameter("without_test") + ", and they are left out")
    if not n_declared and not transductive and not without_test:
        message = f"{images} does not say which images are for testing, and none of these may be trained on; name the "
        step = " that says train, val and test, or pass " + parameter("without_test", True)
        either = " if no study will test on any of these, " + parameter("transductive", True) + " if one may"
        raise DataError(message + "column with " + parameter("split") + step + either)
    if transductive:
        return Leak(np.zeros(n_there, dtype=bool), n_test, is_transductive=True)
    is_out = np.isin(groups[:n_there], groups[is_test])
    if is_out.all():
        message = f"all images of {images} are of the test part, or of groups in it; add images that are not, or pass "
        raise DataError(message + parameter("transductive", True))
    return Leak(is_out, n_test, is_transductive=False)
