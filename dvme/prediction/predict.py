"""`dvme predict`: a saved head on images or on a cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.arguments import public
from dvme.data import Columns
from dvme.errors import OptionError, parameter
from dvme.files import check_destination
from dvme.heads import full_name, segments
from dvme.heads.saved_head import SavedHead, keys_of
from dvme.heads.saving import head_name, load_head
from dvme.places import check_head, check_new_cache
from dvme.prediction.areas import Masked
from dvme.prediction.backbones import OwnBackbones
from dvme.prediction.mask_files import AREAS
from dvme.prediction.masks import MaskRequest, write_masks
from dvme.prediction.sources import Part, embedded, with_embeddings
from dvme.prediction.tables import WRITERS, check_stems, decided, lines_of, table_written
from dvme.runtime import Progress, Runtime, automatic
from dvme.segmentation.saved import named
from dvme.shown.result import Shown
from dvme.text import counted, some_of
from dvme.vectors import spans

if TYPE_CHECKING:
    import pandas as pd

SIZES, NUMBERS = ("rows", "columns"), ("p(", "pixels(", "share(", "dice(")
"""Names of columns of numbers, and how the others of them begin."""
ROWS_AT_ONCE = 4096
"""Images that are predicted, and written, at once."""


@dataclass(frozen=True, repr=False)
class PredictReport(Shown):
    """What was predicted, and what was not; `to_frame()` is the table that was written."""

    head: str
    backbones: tuple[str, ...]
    out: str
    n_rows: int
    """Lines of the file; masks."""
    counts: dict[str, int]
    """Predictions by class; of several findings those of each; of masks the images that show it."""
    n_known: int
    """Predicted images that the head learned from or chose on; their predictions say nothing about new images."""
    left_out: dict[str, str]
    """Images without a prediction, and why; folders that could not be listed are among them."""
    n_computed: int = 0
    """Images whose embeddings were computed for this."""
    kept_in: str | None = None
    """The cache that keeps those, beside `cache`; None where there are none, or none are kept."""
    n_without_finding: int | None = None
    """Images of which no finding is predicted, or of whose pixels no class; None of a head that gives each image one
    class."""
    dice: dict[str, float] | None = None
    """Of masks, by class, mean over the images whose own mask is known and that the head was not fitted on; None of a
    head that gives classes."""
    n_scored: int | None = None
    """Those images."""
    remarks: list[str] = field(default_factory=list)
    """What of a folder was passed over, which columns of a manifest were used, and what is approximate, a line each."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def to_frame(self) -> pd.DataFrame:
        """The table of predictions as it was written; of masks `areas.csv`. Names and classes are texts.

        Raises:
            FileNotFoundError: if it is gone.
        """
        import pandas as pd

        place = Path(self.out)
        place = place / AREAS if place.is_dir() else place
        if place.suffix.lower() == ".parquet":
            return pd.read_parquet(place)
        names = pd.read_csv(place, nrows=0).columns.tolist()
        numbers = [name for name in names if name in SIZES or name.startswith(NUMBERS)]
        texts = dict.fromkeys([name for name in names if name not in numbers], str)
        return pd.read_csv(place, dtype=texts, keep_default_na=False, na_values={name: [""] for name in numbers})

    def _lines(self) -> list[str]:
        what = "image" if self.dice is None else "mask"
        counts = some_of([f"{name} ({count:,})" for name, count in self.counts.items()])
        return [f"{counted(self.n_rows, what)} by {self.head} on {'+'.join(self.backbones)}, in {self.out}", counts]

    def _records(self) -> list[dict[str, Any]]:
        return [{"class": name, "n_images": count} for name, count in self.counts.items()]


@public
def predict(  # noqa: PLR0913 - the command's options, one to one
    head: str | Path,
    images: str | Path,
    *,
    out: str | Path,
    cache: str | Path | None = None,
    backbones: Sequence[str] = (),
    architectures: Mapping[str, str] | None = None,
    weights: Mapping[str, str | Path] | None = None,
    submission: Sequence[str] | None = None,
    skip_missing: bool = False,
    frame: str | None = None,
    mask: str | Sequence[str] = (),
    mask_classes: str | Mapping[int | str, str] | None = None,
    mask_void: str | int | Sequence[int] = (),
    mask_encoding: str | None = None,
    force: bool = False,
    runtime: Runtime | None = None,
    tell: Callable[[str], None] | None = None,
    progress: Progress = automatic,
) -> PredictReport:
    """Apply a saved head and write one line per image: image, path, class and the probability of every class.

    Of a head of several findings the column is `findings`: those of a probability above a half, with `|` between them,
    or `No Finding`, as `Columns(label="findings", label_separator="|")` reads it. Its probabilities sum to nothing.

    A head that segments writes a folder: of each image a PNG at the image's own size, whose pixels are 0 for background
    and 1 to L for the classes, or of structures that may overlap a folder for each with PNGs of 0 and 255; and
    `areas.csv` with a line an image: `image`, `path`, `mask` (its files), `reason` where there is none, `rows` and
    `columns` of pixels, `pixels(CLASS)`, `share(CLASS)`, and `dice(CLASS)` where a table or the cache knows its mask.

    The folds' heads predict together, by their mean probability. Labels, splits and groups of a manifest are not looked
    at, and no cache that a study uses is written to.

    Args:
        head: a folder that `dvme probe --save` made, or that a sweep kept in `RUN/heads`.
        images: a folder or manifest of images, whose missing embeddings are extracted; or a cache, which must
            have them.
        out: the file, .csv or .parquet; of a head that segments the folder.
        cache: whose embeddings of these images are reused; it is only read. Those of other images are kept beside it,
            in NAME.predicted.zarr for NAME.zarr, and reused from there, also by `extract` into `cache`. None: they are
            not kept.
        backbones: of the head's, those that dvme does not know by name: `FILE.py:NAME`, `FILE.toml`, or a name with an
            architecture. Each is taken for the one of its name, else for the one of its fingerprint.
        architectures: of torchvision-style checkpoints, by backbone name.
        weights: local checkpoints by backbone name.
        submission: names of two columns, such as ("id_code", "diagnosis"); the file then has only these, the
            file's name without its suffix and the class, as competitions ask for it. Not of several findings.
        skip_missing: leave images out that a manifest names and that are not there, instead of refusing.
        frame: `each`: every frame of a DICOM file with several is an image.
        mask: of a head that segments: columns of the table with the masks that predictions are scored by, as of
            `Columns`, and so are the next three.
        mask_classes: what their values mean.
        mask_void: values that count for nothing.
        mask_encoding: how runs are counted.
        force: replace a file that is there, or a folder of masks.
        runtime: device, batch size, workers.
        tell: told, a line each, how much dense features that lack will take on the disk, before any is computed.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: one line. FingerprintMismatchError: if the embeddings are
            not made as those were that the head was fitted on.

    Example:
        >>> report = dvme.predict("run/heads/linear--dino", "my.zarr", out="predictions.csv")
        >>> report.to_frame().columns.tolist()
        ['image', 'path', 'class', 'p(dark)', 'p(light)']
    """
    check_head(head, images)
    own = OwnBackbones(names=tuple(backbones), architectures=architectures or {}, weights=weights or {})
    columns = Columns(
        frame=frame, mask=mask, mask_classes=mask_classes, mask_void=mask_void, mask_encoding=mask_encoding
    )
    name = head_name(head)
    if segments(name):
        if submission is not None:
            raise OptionError(f"{head} is {name}, which makes masks; leave out " + parameter("submission"))
        if cache is not None:
            check_new_cache(cache)
        request = MaskRequest(
            head=head,
            images=images,
            out=out,
            cache=cache,
            own=own,
            columns=columns,
            skip_missing=skip_missing,
            force=force,
            runtime=runtime or Runtime(),
            progress=progress,
            tell=tell,
        )
        return _of_masks(write_masks(request, name), out)
    if name and columns.masks.columns:
        raise OptionError(f"{head} is {name}, which gives classes and no masks; leave out " + parameter("mask"))
    path = check_destination(out, WRITERS, force=force)
    if submission is not None and (len(submission) != 2 or len(set(submission)) != 2):
        given = ",".join(submission)
        step = "pass " + parameter("submission", ["id", "label"])
        raise OptionError(f"a submission has two different columns, not {given!r}; " + step)
    saved = load_head(head)
    if submission is not None and saved.is_multilabel:
        raise OptionError(
            f"a submission has one class for each image, and {head} tells of {len(saved.classes)} findings; leave out "
            + parameter("submission")
            + ": the columns p(FINDING) are what is asked for there"
        )
    if cache is not None:
        check_new_cache(cache)
    found = embedded(images, cache, saved, own, runtime or Runtime(), progress, columns, skip_missing=skip_missing)
    with found as asked:
        parts, left_out = with_embeddings(asked, saved)
        contents = np.concatenate([part.store.samples.ids[part.rows] for part in parts])
        n_known = int(np.isin(keys_of(contents), keys_of(saved.fitted_ids)).sum())
        if submission is not None:
            check_stems([asked.ids[i] for part in parts for i in part.positions.tolist()])
        counts, n_empty = np.zeros(len(saved.classes), dtype=np.int64), 0
        with table_written(path) as add:
            for positions, probabilities in _predicted(saved, parts, progress):
                here = positions.tolist()
                named = {what: [of[i] for i in here] for what, of in (("image", asked.ids), ("path", asked.paths))}
                is_it = decided(saved, probabilities)
                add(lines_of(saved, named, is_it, probabilities, submission))
                counts += is_it.sum(axis=0)
                n_empty += int((~is_it.any(axis=1)).sum())
    return PredictReport(
        head=full_name(saved.head),
        backbones=saved.backbones,
        out=os.fspath(path),
        n_rows=len(contents),
        counts=dict(zip(saved.classes, counts.tolist(), strict=True)),
        n_known=n_known,
        left_out=left_out,
        n_computed=asked.n_computed,
        kept_in=asked.kept_in,
        n_without_finding=n_empty if saved.is_multilabel else None,
        remarks=[*asked.remarks, *saved.approximations],
    )


def _of_masks(done: Masked, out: str | Path) -> PredictReport:
    return PredictReport(
        head=named(done.saved.head),
        backbones=done.saved.backbones,
        out=os.fspath(out),
        n_rows=done.n_images,
        counts=done.counts,
        n_known=done.n_known,
        left_out=done.left_out,
        n_computed=done.n_computed,
        kept_in=done.kept_in,
        n_without_finding=done.n_empty,
        dice=done.dice,
        n_scored=done.n_scored,
        remarks=[*done.remarks, *done.saved.approximations],
    )


def _predicted(
    saved: SavedHead, parts: Sequence[Part], progress: Progress
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Positions (B,) and probabilities (B, C) of the rows of all parts, in the order of the images, some at a time."""
    positions = np.concatenate([part.positions for part in parts])
    starts = np.cumsum([0, *(len(part.rows) for part in parts[:-1])])
    order, done = np.argsort(positions, kind="stable"), 0
    for some in spans(len(order), 1, ROWS_AT_ONCE):
        chosen = np.sort(order[some])  # part by part
        found = []
        for part, start, own in zip(parts, starts, np.split(chosen, np.searchsorted(chosen, starts[1:])), strict=True):
            if len(own):
                rows = part.rows[own - start]
                found.append(saved.predict_proba(part.store.read_aligned(part.backbones, rows)))
                done += len(own)
                progress("predict", done, len(order))
        in_order = np.argsort(positions[chosen], kind="stable")
        yield positions[chosen][in_order], np.concatenate(found)[in_order]
