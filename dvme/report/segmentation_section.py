"""Where in the image: a segmentation class by class, and what it makes of the best, median and worst test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from dvme.data.masks import VOID, Masks
from dvme.errors import DataError, message_of
from dvme.report.html.page import Section
from dvme.report.html.tables import Row, choice, part, table
from dvme.report.html.template import filled, heading, soft
from dvme.report.html.thumbnails import large_thumbnail, sharp_url
from dvme.report.mask_pictures import (
    MISSED,
    RIGHT,
    TOO_MUCH,
    UNKNOWN,
    class_colours,
    colour_picture,
    error_picture,
    mask_picture,
)
from dvme.report.options import PageOptions
from dvme.report.points import names_of
from dvme.runtime import Progress
from dvme.segmentation.colours import token_colours
from dvme.segmentation.maps import DenseMaps
from dvme.study.by_class import OutlineScores, ceiling_counts
from dvme.study.loaded import Study
from dvme.study.pictures import EDGE, KINDS, Picture, Pictures, reduced
from dvme.study.run_file import again
from dvme.text import (
    WHAT_ALL_PIXELS_ARE,
    counted,
    difference_text,
    mean_count_text,
    number_text,
    what_outlines_are,
)

METHOD = "segment-method"
MOST_COLUMNS = 7
"""Pictures beside each other."""
NOT_KNOWN = "not known"
OUTLINES = ("HD95 in pixels (95% CI)", "missed or invented", "boundary Dice (95% CI)", "in neither")


def segmentation_section(study: Study, shown: PageOptions, progress: Progress) -> Section | None:
    """Of the methods that lead on validation, of all and of each kind, tables and a gallery; None of other studies."""
    if not study.is_segmentation:
        return None
    own = {method: study.run.pictures(method) for method in study.leaders.shown}
    reached, why_not = _reached(study, own, shown, progress)
    body = Markup()
    if len(own) > 1:
        body += choice(METHOD, "Method", {str(m): study.name(m) for m in own})
    for m, pictures in own.items():
        most = None if pictures is None else reached.get(pictures.shape)
        body += part(METHOD, str(m), heading(study.name(m)) + _classes(study, m, most))
    body += _explained(study)
    body += heading("Best, median and worst")
    if why_not:
        return Section("where", "Where in the image", body + soft(why_not))
    assert study.masks is not None
    there = {m: pictures for m, pictures in own.items() if pictures is not None}
    gallery = _Gallery(study, study.masks, there, is_anonymous=shown.anonymous)
    body += gallery.head()
    for m in own:
        gone = f"This run keeps no pictures of {study.name(m)}; {again(study.run.described)}, it makes them."
        body += part(METHOD, str(m), gallery.images(m) if m in there else soft(gone))
    return Section("where", "Where in the image", body)


def _reached(
    study: Study, own: Mapping[int, Pictures | None], shown: PageOptions, progress: Progress
) -> tuple[dict[tuple[int, int], NDArray[np.int64]], str]:
    """Counts of the masks by way of each grid, and why there is no gallery; "" where there is one."""
    if study.masks is None:
        return {}, "No pictures and no ceilings by class: the cache is gone, or was changed since."
    shapes = {each.shape for each in own.values() if each is not None}
    try:
        found = ceiling_counts(study.masks, study.run.manifest.test, shapes, progress)
    except DataError as error:
        said = "a mask is gone, or is not what it was" if shown.anonymous else message_of(error)
        return {}, "No pictures and no ceilings by class: " + said + "."
    return found, "" if shown.thumbnails else "The images and their masks were left out of this page."


def _classes(study: Study, method: int, reached: NDArray[np.int64] | None) -> Markup:
    """The table of one method."""
    is_outlined = study.summary.boundary is not None
    rows = [
        Row(
            (each.name,),
            (
                f"{each.n_images:,}",
                difference_text(each.dice, signed=False),
                difference_text(each.iou, signed=False),
                number_text(each.global_dice),
                number_text(each.ceiling, undefined=NOT_KNOWN),
                *(_outlines(each.outlines) if is_outlined else ()),
            ),
        )
        for each in study.judge.classes(method, reached)
    ]
    headings = (
        "test images",
        "Dice (95% CI)",
        "IoU (95% CI)",
        "Dice over all pixels",
        "ceiling of Dice",
        *(OUTLINES if is_outlined else ()),
    )
    return table(("class",), headings, rows, f"{study.name(method)} by class")


def _outlines(scores: OutlineScores | None) -> tuple[str, ...]:
    if scores is None:
        return (NOT_KNOWN,) * len(OUTLINES)
    missed, empty = (mean_count_text(each) for each in (scores.n_missed, scores.n_empty))
    far, near = (difference_text(each, signed=False) for each in (scores.hausdorff95, scores.boundary_dice))
    return far, missed, near, empty


def _explained(study: Study) -> Markup:
    boundary = study.summary.boundary
    said = (
        f"Means over {counted(len(study.run.manifest.draws), 'head')} of the largest size. Dice and IoU are of each "
        "image by itself, then their mean over images of which the class is known; 1 where mask and prediction are "
        "both empty. Test images: those in whose mask the class occurs. Ceiling: the mask itself in the place of a "
        "prediction, down to the method's grid and up again. What lies between a score and its ceiling is lost by the "
        "head, what lies between the ceiling and 1 by the grid."
    )
    said += f" {WHAT_ALL_PIXELS_ARE}" + ("" if boundary is None else f" {what_outlines_are(boundary)}")
    return soft(said)


@dataclass(frozen=True)
class _Gallery:
    """The pictures of some methods."""

    study: Study
    masks: Masks
    pictures: Mapping[int, Pictures]
    """By method."""
    is_anonymous: bool

    def head(self) -> Markup:
        """How images were chosen, and what colours mean."""
        n_test, names = len(self.study.run.manifest.test), self.masks.names
        said = (
            f"By Dice on the {counted(n_test, 'test image')}, of the head of the first draw. They were chosen for how "
            "well or badly they came out: no score may be read off them. Images where mask and prediction are both "
            "empty are left out. Beside each Dice stands the ceiling of this very image: what the method's grid could "
            "reach."
        )
        about = "The last pictures are the tokens of each backbone: their first three principal components as red, "
        about += "green and blue, fitted on tokens of training images. Equal colours are similar tokens."
        legend = [("right", RIGHT), ("missed", MISSED), ("too much", TOO_MUCH)]
        if any((self._planes[place] == VOID).all(axis=0).any() for place in self._shown):
            legend.append(("class not known", UNKNOWN))
        own = list(zip(names, class_colours(len(names)), strict=True)) if len(names) > 1 else []
        body = soft(f"{said} {about}") + filled("legend", what="Error", entries=legend)
        return body + (filled("legend", what="Mask and prediction", entries=own) if own else "")

    def images(self, method: int) -> Markup:
        """The images of one method, by kind."""
        body, backbones = Markup(), self.study.run.methods[method][1]
        for kind in KINDS:
            some = [each for each in self.pictures[method].images if each.kind == kind]
            if some:
                body += Markup("<h4>{}</h4>").format(kind.capitalize())
                body += filled("segmented", images=[self._image(each, backbones) for each in some])
        return body or soft("Masks and predictions of all test images are empty.")

    def _image(self, picture: Picture, backbones: Sequence[str]) -> dict[str, Any]:
        """What the template shows of one."""
        position = self._places[picture.content]
        planes, name = self._planes[position], self._names[position]
        size = planes.shape[1], planes.shape[2]
        predicted = picture.planes
        panels = {
            "image": self._images[position],
            "mask": sharp_url(mask_picture(planes)),
            "prediction": sharp_url(mask_picture(predicted.astype(np.uint8))),
            "error": sharp_url(error_picture(predicted, planes)),
        }
        for backbone in backbones:
            colours = self._colours[backbone][self._shown.index(position)]
            panels[f"tokens of {backbone}"] = sharp_url(colour_picture(colours, size))
        what = "Dice" if len(planes) == 1 else "mean Dice"
        scores = f"{what} {number_text(picture.dice)}, ceiling {number_text(picture.ceiling)}"
        return {"name": name, "scores": scores, "n_columns": min(len(panels), MOST_COLUMNS), "panels": panels}

    @cached_property
    def _places(self) -> dict[str, int]:
        """Positions of the images by content."""
        return {row.tobytes().hex(): place for place, row in enumerate(self.study.run.manifest.images)}

    @cached_property
    def _shown(self) -> list[int]:
        """Positions of all images that any method shows."""
        every = (self._places[each.content] for own in self.pictures.values() for each in own.images)
        return list(dict.fromkeys(every))

    @cached_property
    def _planes(self) -> dict[int, NDArray[np.uint8]]:
        """Masks as they are shown, by position."""
        return {each: reduced(self.masks.read(each)) for each in self._shown}

    @cached_property
    def _names(self) -> list[str]:
        study = self.study
        assert study.store is not None
        assert study.rows is not None
        return names_of(study.store, study.rows, is_anonymous=self.is_anonymous)

    @cached_property
    def _images(self) -> dict[int, str | None]:
        """URLs of the images by position; None of one that is not to be had."""
        study = self.study
        assert study.store is not None
        paths = study.store.column("path")[study.rows]
        contents = study.run.manifest.images
        return {each: large_thumbnail(str(paths[each]), contents[each].tobytes(), EDGE) for each in self._shown}

    @cached_property
    def _colours(self) -> dict[str, NDArray[np.uint8]]:
        """By backbone, of the images that are shown."""
        study, manifest = self.study, self.study.run.manifest
        assert study.store is not None
        assert study.rows is not None
        names = dict.fromkeys(name for m in self.pictures for name in study.run.methods[m][1])
        train = study.rows[manifest.train(manifest.draws[0], manifest.largest)]
        rows = study.rows[self._shown]
        return {name: token_colours(DenseMaps(study.store.embeddings(name)), rows, train) for name in names}
