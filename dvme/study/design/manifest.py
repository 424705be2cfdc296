"""The subset manifest: who trains, chooses and tests, as one file that another lab can load.

Images are named by their content, so that the file fits any cache of the same images, whatever their paths. What a
small subset holds the larger ones hold too: a draw is one order of its images, of which a size takes the beginning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.targets import Targets
from dvme.errors import DataError
from dvme.files import written_aside
from dvme.notices import asides, told_apart
from dvme.shown.result import Shown, some_lines
from dvme.text import counted

FORMAT = 1


@dataclass(frozen=True)
class FoldDraw:
    """One fold of one repeat. All are positions in `SubsetManifest.images`."""

    repeat: int
    """From 1."""
    fold: int
    """From 1."""
    train: NDArray[np.int64]
    """The order of the training images; size s takes the first `n_train[s]`."""
    validation: NDArray[np.int64]
    """The order of the images to choose on; size s takes the first `n_validation[s]`."""
    n_train: tuple[int, ...]
    """By size."""
    n_validation: tuple[int, ...]
    """By size."""


@dataclass(frozen=True, repr=False)
class SubsetManifest(Shown):
    """Sizes, folds and repeats over N images, and one test set; `to_frame()` has a row for each draw and size."""

    images: NDArray[np.uint8]
    """(N, 16) content ids."""
    targets: Targets
    """The classes of each image."""
    sizes: tuple[str, ...]
    """S names, such as `50 (S)`; in no draw does a later one have fewer images than an earlier one."""
    test: NDArray[np.int64]
    """Positions of the test images."""
    draws: tuple[FoldDraw, ...]
    """Folds within repeats."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """How they were drawn: balance, seed, folds, repeats, validation, oversample, separator, plan."""
    notices: tuple[str, ...] = ()
    """What the reader of a result has to know; not part of the hash."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not ascend.

        Raises:
            ValueError: naming the draw.
        """
        for draw in self.draws:
            sides = ("train", draw.train, draw.n_train), ("choose", draw.validation, draw.n_validation)
            for verb, order, counts in sides:
                if len(counts) != len(self.sizes) or not all(np.diff([0, *counts, len(order)]) >= 0):
                    found = f"{verb} on {', '.join(map(str, counts))} of the {len(order)} images"
                    raise ValueError(
                        f"sizes {', '.join(self.sizes)} {found} of repeat {draw.repeat}, fold {draw.fold}; "
                        "they must ascend, one number for each size"
                    )

    @property
    def largest(self) -> int:
        """Index of the size with the most training images."""
        return len(self.sizes) - 1

    def is_one_draw(self, size: int) -> bool:
        """Whether all draws train and choose on the same images: then heads differ by what they draw at random."""
        return len({(frozenset(self.train(d, size)), frozenset(self.validation(d, size))) for d in self.draws}) == 1

    @property
    def taking_part(self) -> NDArray[np.int64]:
        """Positions that train, are chosen on or tested in some draw; the others are on no side of the split."""
        sides = (part for draw in self.draws for part in (draw.train, draw.validation))
        return np.unique(np.concatenate([self.test, *sides]))

    @property
    def classes(self) -> tuple[str, ...]:
        """C names."""
        return self.targets.classes

    @property
    def hash(self) -> str:
        """32 hexadecimal digits of everything but the notices and what is known of the order of the classes."""
        text = json.dumps(self._content(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def summary(self) -> str:
        """How many images there are, and how often they are drawn, in a line."""
        images, classes = counted(len(self.images), "image"), counted(len(self.classes), "class", "classes")
        draws = f"{counted(len(self.draws), 'draw')} of sizes {', '.join(self.sizes)}"
        return f"{images} of {classes}, {len(self.test):,} to test; {draws}"

    @property
    def counts(self) -> list[dict[str, Any]]:
        """Of each draw and size how many images train, and how many are chosen and tested on."""
        return [
            {
                "repeat": draw.repeat,
                "fold": draw.fold,
                "size": name,
                "n_train": draw.n_train[size],
                "n_validation": draw.n_validation[size],
                "n_test": len(self.test),
            }
            for draw in self.draws
            for size, name in enumerate(self.sizes)
        ]

    def train(self, draw: FoldDraw, size: int) -> NDArray[np.int64]:
        """Positions that train in the size of this index."""
        return draw.train[: draw.n_train[size]]

    def validation(self, draw: FoldDraw, size: int) -> NDArray[np.int64]:
        """Positions to choose on in the size of this index."""
        return draw.validation[: draw.n_validation[size]]

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        # No subset depends on whether a user gave the order of the classes.
        aside_of_hash = {
            "notices": list(self.notices),
            "asides": asides(self.notices),
            "is_order_given": self.targets.is_order_given,
        }
        described = {"format": FORMAT, "hash": self.hash} | aside_of_hash | self._content()
        lines = ",\n".join(f"{json.dumps(key)}: {_one_line_each(value)}" for key, value in described.items())
        with written_aside(Path(path)) as aside:
            aside.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> SubsetManifest:
        """Read a file back.

        Raises:
            DataError: if it is not a manifest, is of a newer dvme, or was changed.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise DataError(f"{path} is of subset format {found['format']}, this dvme reads {FORMAT}; update dvme")
            manifest = cls(
                images=_ids(found["images"]),
                targets=Targets.from_plain(
                    found["classes"],
                    found["labels"],
                    is_order_given=found.get("is_order_given") is True,
                    masks=_ids(found["masks"]) if "masks" in found else None,
                ),
                sizes=tuple(found["sizes"]),
                test=np.array(found["test"], dtype=np.int64),
                draws=tuple(_draw(each) for each in found["draws"]),
                policy=found["policy"],
                notices=tuple(told_apart(found["notices"], found.get("asides", ()))),
            )
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist; dvme subsets CACHE --out {path} makes one") from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path} is not a subset manifest ({error}); dvme subsets makes one") from error
        if manifest.hash != found["hash"]:
            raise DataError(f"{path} was changed since it was made (its hash does not fit); fetch it again")
        return manifest

    def _content(self) -> dict[str, Any]:
        masks = self.targets.masks
        return {
            "policy": dict(self.policy),
            "classes": list(self.classes),
            "sizes": list(self.sizes),
            "images": [row.tobytes().hex() for row in self.images],
            "labels": self.targets.plain,
            **({} if masks is None else {"masks": [row.tobytes().hex() for row in masks]}),
            "test": self.test.tolist(),
            "draws": [
                {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(draw).items()}
                for draw in self.draws
            ],
        }

    def _lines(self) -> list[str]:
        return [self.summary, *some_lines(self.notices)]

    def _records(self) -> list[dict[str, Any]]:
        return self.counts


def _ids(listed: Sequence[str]) -> NDArray[np.uint8]:
    """(n, 16) ids, of hexadecimal digits."""
    return np.frombuffer(bytes.fromhex("".join(listed)), np.uint8).reshape(-1, 16)


def alike_sizes(one: SubsetManifest, other: SubsetManifest) -> dict[int, int]:
    """Sizes of one that another has as well, by index: the same classes, test images, and images in every draw."""
    if one.hash == other.hash:
        return {size: size for size in range(len(one.sizes))}
    tests = [_named(each, each.test) for each in (one, other)]
    if one.classes != other.classes or tests[0] != tests[1]:
        return {}
    theirs = {_drawn(other, size): size for size in range(len(other.sizes))}
    mine = {size: _drawn(one, size) for size in range(len(one.sizes))}
    return {size: theirs[drawn] for size, drawn in mine.items() if drawn in theirs}


def _named(manifest: SubsetManifest, positions: NDArray[np.int64]) -> list[tuple[bytes, Any]]:
    """Images by content, and by that of their masks, with what is known of their labels; what is taught may differ."""
    targets = replace(manifest.targets.at(positions), taught=None)
    ids = (
        manifest.images[positions] if targets.masks is None else np.hstack([manifest.images[positions], targets.masks])
    )
    return [(row.tobytes(), label) for row, label in zip(ids, targets.plain, strict=True)]


def _drawn(manifest: SubsetManifest, size: int) -> tuple[tuple[frozenset[bytes], ...], ...]:
    """Who trains and who is chosen on, in every draw."""
    parts = [(manifest.train(draw, size), manifest.validation(draw, size)) for draw in manifest.draws]
    return tuple(tuple(frozenset(row.tobytes() for row in manifest.images[part]) for part in both) for both in parts)


def _draw(found: dict[str, Any]) -> FoldDraw:
    return FoldDraw(
        repeat=found["repeat"],
        fold=found["fold"],
        train=np.array(found["train"], dtype=np.int64),
        validation=np.array(found["validation"], dtype=np.int64),
        n_train=tuple(found["n_train"]),
        n_validation=tuple(found["n_validation"]),
    )


def _one_line_each(value: Any) -> str:
    """JSON with an entry of a list of records on a line, so that a difference of two files can be read."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(json.dumps(each) for each in value) + "\n]"
    return json.dumps(value)
