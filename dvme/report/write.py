"""`dvme report`: a finished study as one page that answers the question first and shows why below."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dvme.arguments import public
from dvme.data.targets import Targets
from dvme.defaults import NO_FINDING
from dvme.errors import DataError, MissingPackageError, message_of
from dvme.explanation.explain import explained, needed
from dvme.explanation.similarity import MIN_SAMPLES, Similarity, similarity
from dvme.extras import require
from dvme.files import check_destination
from dvme.heads.saved_head import SavedHead
from dvme.heads.saving import load_head
from dvme.maps.maps import MIN_ROWS
from dvme.maps.projection import check_installed, missing_package
from dvme.notices import Aside
from dvme.places import check_run
from dvme.report import sections
from dvme.report.figures import style
from dvme.report.figures.embedding import map_figures
from dvme.report.figures.matrices import down_sampled
from dvme.report.figures.static import save_figures
from dvme.report.gallery import images_section
from dvme.report.html.explorer import Column, Measured
from dvme.report.html.many_points import explored
from dvme.report.html.page import Page, Section, write_page
from dvme.report.options import SUFFIXES, PageOptions
from dvme.report.page_maps import TAUGHT, PageMaps, colours, draw, embedding_source, fused_source
from dvme.report.people_section import people_section
from dvme.report.reliability_section import reliability_section
from dvme.report.result import ReportResult
from dvme.report.segmentation_section import segmentation_section
from dvme.report.sites_section import numbered, sites_section
from dvme.runtime import Progress, automatic
from dvme.study.design.learned import UNLABELLED
from dvme.study.loaded import Study
from dvme.study.published import published_cells
from dvme.study.run_file import again
from dvme.study.suspects import TEST
from dvme.text import NO_GROUPS, counted, probability_of
from dvme_cache import CacheError

Part = TypeVar("Part")


@public
def write_report(
    run: str | Path,
    *,
    out: str | Path,
    cache: str | Path | None = None,
    published: str | None = None,
    options: PageOptions | None = None,
    force: bool = False,
    progress: Progress = automatic,
) -> ReportResult:
    """Write the report of a finished study as one HTML file that opens without a network.

    Args:
        run: a folder of `dvme sweep`, or of `dvme probe` with `out`.
        out: the HTML file, in a folder that is there.
        cache: where the run's cache is now; None: where it was. Without it there are neither maps nor images.
        published: a table to overlay, such as `truong2021:aptos`.
        options: what the page shows; None: the defaults.
        force: replace a file that is there.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: each says what is wrong and what to do.
        MissingPackageError: if plotly is not installed. Without the package of a map the page has no maps, and says so.

    Example:
        >>> result = dvme.write_report("run", out="report.html", options={"methods": "pca"})
        >>> result.html
        'report.html'
    """
    require("plotly")
    place = check_destination(out, SUFFIXES, force=force)
    shown = options or PageOptions()
    overlaid = [] if published is None else published_cells(published)
    check_run(run)
    study = Study.load(run, cache, progress)
    notices: list[str] = []
    fused = _tried("section on the fusion", lambda: _fused(study), notices, shown)
    there = _installed(shown, notices)
    drawn = _tried("maps", lambda: _drawn(study, fused, there, progress), notices, shown)
    notices += _notices(study, drawn, shown, has_heads=fused is not None)
    title = "dvme: a study" if shown.anonymous else f"{study.run.folder.resolve().name}: a study by dvme"
    page = Page(title, themes={"light": style.template(), "dark": style.template(is_dark=True)})
    fusion = _tried("section on the fusion", lambda: _fusion(page, study, fused, progress), notices, shown)
    where = _tried("pictures", lambda: segmentation_section(study, shown, progress), notices, shown)
    made = [
        sections.learning_curves(page, study, overlaid),
        sections.differences(page, study),
        where,
        None if study.reliability is None else reliability_section(page, study.reliability),
        sites_section(page, study.summary.sites, is_anonymous=shown.anonymous),
        people_section(page, study.summary, is_anonymous=shown.anonymous),
        None if drawn is None else _maps(page, study, drawn, has_fusion=fused is not None),
        fusion,
        sections.diagnosis(page, study),
        images_section(study, shown),
        sections.data(page, study, [each for each in notices if isinstance(each, Aside)]),
        sections.provenance(study, version("dvme"), is_anonymous=shown.anonymous),
    ]
    page.sections = [each for each in made if each is not None]
    sites = study.summary.sites
    named = study.findings_on(None if sites is None else numbered(sites), None) if shown.anonymous else study.findings
    page.head = sections.first_screen(title, named, _deciding(study, notices), _described(study))
    write_page(page, place)
    return ReportResult(
        run=os.fspath(run),
        html=os.fspath(out),
        verdict=named.verdict,
        answers={each.question: each.answer for each in named.answers},
        n_points=0 if drawn is None else len(drawn.points.ids),
        n_without_thumbnail=0 if drawn is None else drawn.n_without_thumbnail,
        maps={} if drawn is None else drawn.qualities,
        notices=notices,
        figures=_figures(page, study, drawn, shown),
    )


def _tried(what: str, make: Callable[[], Part | None], notices: list[str], shown: PageOptions) -> Part | None:
    """A part of the page; where data or packages do not allow it, a notice: the verdict stands without it."""
    try:
        return make()
    except (DataError, CacheError, MissingPackageError) as error:
        is_told = not shown.anonymous or isinstance(error, MissingPackageError)  # which names nobody
        notices.append(Aside(f"no {what}: " + message_of(error) if is_told else f"no {what}"))
        return None


def _described(study: Study) -> str:
    manifest = study.run.manifest
    what = ("finding",) if manifest.targets.is_multilabel else ("class", "classes")
    what = ("class of pixels", "classes of pixels") if study.is_segmentation else what
    classes = counted(len(manifest.classes), *what)
    draws = counted(len(manifest.draws), "draw")
    return (
        f"{len(manifest.images):,} images, {len(manifest.test):,} for testing; {classes}, "
        f"{counted(len(study.run.described['backbones']), 'backbone')}, {counted(len(study.run.methods), 'method')}, "
        f"{counted(len(manifest.sizes), 'size')} of {draws}. {_sentence(study.resampling)}"
    )


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


def _notices(study: Study, drawn: PageMaps | None, shown: PageOptions, *, has_heads: bool) -> list[str]:
    """What the reader has to know; in an anonymous report nothing that may name a path or an image."""
    roles = study.leaders.roles
    attention = [study.run.methods[m][0] for m in roles.attention if m in roles.fusions]
    found = list[str]()
    if attention and not has_heads and study.store is not None and not study.is_segmentation:
        which = f"this run keeps no head of its {' and '.join(attention)}"
        step = f"{again(study.run.described)}, it fits those that are missing"
        found.append(Aside(f"nothing on attention: {which}; {step}"))
    if study.run.metric == "kappa" and not study.summary.task.is_ordered:
        found.append(sections.order_assumed(study))
    if drawn is not None and (missing := drawn.missing(shown)):
        found.append(Aside(missing))
    found += [] if drawn is None else [Aside(line) for line in drawn.approximate]
    if shown.anonymous:
        gone = Aside("no maps and no images: the cache is gone, or was changed since")
        known = [line for line in study.summary.notices if line.endswith(UNLABELLED)]  # of backbones and sites alone
        return [*found, *known, *([gone] if study.store is None else [])]
    told_elsewhere = (study.resampling, NO_GROUPS)
    return [*found, *study.notices, *(line for line in study.summary.notices if line not in told_elsewhere)]


def _deciding(study: Study, notices: Sequence[str]) -> list[str]:
    """Of what is said, and of what the study says of its test images and groups, the lines that change a decision."""
    own = [NO_GROUPS] if NO_GROUPS in study.summary.notices else []
    own += [] if isinstance(study.resampling, Aside) else [_sentence(study.resampling)]
    return [*own, *(line for line in notices if not isinstance(line, Aside))]


def _fused(study: Study) -> SavedHead | None:
    """The fusion by attention that leads on validation, of those whose heads were kept; of masks none is shown."""
    if study.is_segmentation:
        return None
    roles, kept = study.leaders.roles, study.run.kept_heads()
    own = {
        m: kept[study.run.methods[m]] for m in roles.attention if m in roles.fusions and study.run.methods[m] in kept
    }
    lead = study.leaders.of(list(own))
    return None if lead is None else load_head(own[lead])


def _installed(shown: PageOptions, notices: list[str]) -> PageOptions:
    """Without the maps whose packages are missing, each with a notice; all of them where none would be left."""
    lacks = {method: missing_package(method) for method in shown.methods}
    there = [method for method, step in lacks.items() if not step]
    if not there:
        return shown
    notices += [Aside(step) for step in lacks.values() if step]
    return replace(shown, methods=there)


def _drawn(study: Study, fused: SavedHead | None, shown: PageOptions, progress: Progress) -> PageMaps | None:
    """The images and their maps; None without the cache, or with too few images."""
    store, rows = study.store, study.rows
    if store is None or rows is None or len(rows) < MIN_ROWS or study.is_segmentation:
        return None
    check_installed(shown.methods)
    side = study.sides()
    sources = [embedding_source(store, str(each["name"]), rows) for each in study.run.described["backbones"]]
    sources += [] if fused is None else [fused_source(fused, store, rows)]
    own = {"label": _labels(study), "group": study.groups}
    added = _predictions(study, side)
    return draw(store, rows, sources, added, shown, own=own, is_new=side == TEST, progress=progress)


def _labels(study: Study) -> NDArray[Any]:
    """(N,) names of the images' classes; their findings, as the cache has them."""
    targets = study.run.manifest.targets
    if targets.is_multilabel and study.store is not None:
        own: NDArray[Any] = study.store.column("label")[study.rows]
        return own
    names: NDArray[Any] = np.array(targets.classes, dtype=object)[targets.values]
    return names


def _found(targets: Targets, has: NDArray[np.bool_]) -> NDArray[Any]:
    """(N,) the findings of each image, by name."""
    names = np.array(targets.classes)
    return np.array([", ".join(names[row]) or NO_FINDING for row in has], dtype=object)


def _predictions(study: Study, side: NDArray[Any]) -> Mapping[str, Column]:
    """What the leading method says of each image, by heads that did not learn from it."""
    targets, probabilities = study.run.manifest.targets, study.predicted(study.lead)
    is_known = ~np.isnan(probabilities[:, 0])
    of_each: dict[str, Column] = {}
    if targets.is_multilabel:
        confidence, yes = np.abs(probabilities - 0.5).mean(axis=1) + 0.5, probabilities > 0.5
        chosen, is_right = _found(targets, yes), (yes == (targets.values == 1.0)) | np.isnan(targets.values)
        error = np.where(is_right.all(axis=1), "right", "wrong")
        of_findings = zip(targets.classes, probabilities.T, strict=True)
        of_each = {probability_of(name): _measured(own, is_known) for name, own in of_findings}
    else:
        confidence = probabilities.max(axis=1)
        chosen = np.array(targets.classes, dtype=object)[study.taken_for(study.lead)]
        error = np.where(chosen == _labels(study), "right", "wrong")
    return {
        "prediction": np.where(is_known, chosen, "").astype(object),
        "error": np.where(is_known, error, "").astype(object),
        "confidence": _measured(confidence, is_known),
        "test or fold": side,
        **of_each,
    }


def _measured(values: NDArray[Any], is_known: NDArray[Any]) -> Measured:
    return Measured(values, [f"{value:.3f}" if known else "" for value, known in zip(values, is_known, strict=True)])


def _maps(page: Page, study: Study, drawn: PageMaps, *, has_fusion: bool) -> Section:
    said = (
        f"Prediction, error and confidence are of {study.name(study.lead)}, by heads that did not learn from the image."
    )
    notes = [said, *([TAUGHT] if has_fusion else []), *drawn.notes, *drawn.approximate]
    points = replace(drawn.points, class_order=study.run.manifest.classes)
    body, page.explorer = explored(points, drawn.maps, notes)
    return Section("maps", "Maps", body)


def _fusion(page: Page, study: Study, fused: SavedHead | None, progress: Progress) -> Section | None:
    """What the fusion attends to and relies on; without one, how alike the backbones are."""
    if fused is None or study.store is None or study.rows is None or len(study.run.manifest.test) < MIN_SAMPLES:
        return sections.fusion(page, None, _alike(study), None)
    manifest = study.run.manifest
    test = manifest.images[manifest.test]
    some = needed(fused, manifest.images, test)
    labels = manifest.targets.at(np.flatnonzero(some)).values
    places = [fused.classes.index(name) for name in manifest.classes]
    labels = labels[:, np.argsort(places)] if labels.ndim == 2 else np.array(places)[labels]
    rows, groups = study.rows[some], study.groups[some]
    is_mapped = fused.name == "dvme"
    report, whole = explained(
        fused, study.store, rows, labels, groups, images=test, is_mapped=is_mapped, progress=progress
    )
    tokens = None if whole is None else down_sampled(whole, len(fused.backbones))
    return sections.fusion(page, report, report.similarity, tokens)


def _alike(study: Study) -> Similarity | None:
    """CKA of the backbones on the test images, where no fusion was explained."""
    names = [str(each["name"]) for each in study.run.described["backbones"]]
    test = study.run.manifest.test
    if study.store is None or study.rows is None or len(names) < 2 or len(test) < MIN_SAMPLES:
        return None
    if study.is_segmentation:
        return None
    return similarity({name: study.store.embeddings(name).read(study.rows[test]) for name in names})


def _figures(page: Page, study: Study, drawn: PageMaps | None, shown: PageOptions) -> list[str]:
    """Every figure of the page, and the maps, as files for a paper."""
    if shown.figures is None:
        return []
    maps = (
        {}
        if drawn is None
        else map_figures(drawn.maps, colours(_labels(study), shown.finding), study.run.manifest.classes)
    )
    return [os.fspath(file) for file in save_figures(page.figures | maps, shown.figures, kind=shown.figure_kind)]
