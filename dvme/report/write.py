"""`dvme report`: a finished sweep as one page that answers the question first and shows why below."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.comparison.published import PublishedCell, published_cells
from dvme.explanation.explain import ExplainReport, explain
from dvme.explanation.similarity import MIN_SAMPLES, Similarity, similarity
from dvme.heads import ATTENTION_HEADS
from dvme.heads.saving import SavedHead, load_head
from dvme.mapping.kept import Kept, default_folder
from dvme.mapping.maps import MIN_ROWS, EmbeddingMap, make_maps
from dvme.mapping.quality import MapQuality
from dvme.page.explorer import Points, explorer_data, explorer_html
from dvme.page.page import Page, Section, write_page
from dvme.report import sections, style
from dvme.report.embedding import map_figures
from dvme.report.findings import Findings, find
from dvme.report.gallery import Pictures, images_section
from dvme.report.matrices import down_sampled
from dvme.report.points import names_of, points_of
from dvme.report.static import check_figures, save_figures
from dvme.report.study import TEST, Study
from dvme.report.viz import check_methods, check_page, embedding_source, fused_source
from dvme.runtime import Progress, silent
from dvme.wording import counted


@dataclass(frozen=True)
class ReportResult:
    """What `dvme report` wrote."""

    run: str
    html: str
    verdict: str
    answers: dict[str, str]
    """Question to answer."""
    n_points: int
    """Images in the maps; 0 without maps."""
    n_without_thumbnail: int
    maps: dict[str, dict[str, MapQuality]]
    """Method to embedding to the quality of its map."""
    notices: list[str]
    """Why a part is missing, and what the reader has to know."""
    figures: list[str]
    """Files of `figures`."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class _Choices:
    """What the reader wants to see."""

    methods: tuple[str, ...]
    seed: int
    with_thumbnails: bool
    is_anonymous: bool
    progress: Progress


def write_report(  # noqa: PLR0913 - the command's options, one to one
    run: str | Path,
    *,
    out: str | Path,
    cache: str | Path | None = None,
    published: str | None = None,
    methods: Sequence[str] = ("tsne",),
    seed: int = 0,
    with_thumbnails: bool = True,
    is_anonymous: bool = False,
    figures: str | Path | None = None,
    figure_kind: str = "svg",
    progress: Progress = silent,
) -> ReportResult:
    """Write the report of a finished sweep as one HTML file that opens without a network.

    Args:
        run: a folder of `dvme sweep`.
        out: the HTML file; replaced whole.
        cache: where the run's cache is now; None: where it was. Without it there are neither maps nor images.
        published: a table to overlay, such as `truong2021:aptos`.
        methods: of the maps: `tsne`, `umap` and `pca`; the page shows one at a time.
        seed: of the maps.
        with_thumbnails: whether the images may be seen.
        is_anonymous: names of images become digests, groups numbers; paths, further columns and notices are left out.
        figures: a folder for every figure as a file.
        figure_kind: of these: `svg`, `png` or `pdf`.
        progress: told (stage, done, total).

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: each says what is wrong and what to do.
    """
    check_page(out)
    if figures is not None:
        check_figures(figures, figure_kind)
    choices = _Choices(check_methods(methods), seed, with_thumbnails, is_anonymous, progress)
    overlaid = [] if published is None else published_cells(published)
    study = Study.load(run, cache, progress)
    found = find(study)
    themes = {"light": style.template(), "dark": style.template(is_dark=True)}
    page = Page(_title(study, choices), "", [], themes=themes)
    fused = _fused(study)
    points, maps = _mapped(study, fused, choices)
    notices = _notices(study, choices, has_heads=fused is not None)
    page.head = sections.first_screen(page.title, found, notices, _described(study))
    page.sections = [each for each in _sections(page, study, found, overlaid, fused, points, maps, choices) if each]
    page.explorer = None if points is None else explorer_data(points, maps)
    write_page(page, Path(out))
    files: list[Path] = []
    if figures is not None:
        classes = np.array(study.run.manifest.classes, dtype=object)
        files = save_figures(page.figures | map_figures(maps, classes[study.judge.labels]), figures, kind=figure_kind)
    return ReportResult(
        run=os.fspath(run),
        html=os.fspath(out),
        verdict=found.verdict,
        answers={each.question: each.answer for each in found.answers},
        n_points=0 if points is None else len(points.ids),
        n_without_thumbnail=0 if points is None else _n_missing(points),
        maps={m: {each.name: each.quality for each in maps if each.method == m} for m in choices.methods}
        if maps
        else {},
        notices=notices,
        figures=[os.fspath(file) for file in files],
    )


def _title(study: Study, choices: _Choices) -> str:
    return "dvme: a study" if choices.is_anonymous else f"{study.run.folder.resolve().name}: a study by dvme"


def _described(study: Study) -> str:
    manifest = study.run.manifest
    return (
        f"{len(manifest.images):,} images of {len(manifest.classes)} classes, {len(manifest.test):,} for testing; "
        f"{counted(len(study.run.described['backbones']), 'backbone')}, {counted(len(study.run.methods), 'method')}, "
        f"{counted(len(manifest.sizes), 'size')} of {counted(len(manifest.draws), 'draw')}. {study.resampling}."
    )


def _notices(study: Study, choices: _Choices, *, has_heads: bool) -> list[str]:
    """In an anonymous report none that may name a path or an image."""
    attention = [head for head, names in study.run.methods if head in ATTENTION_HEADS and len(names) > 1]
    found = []
    if attention and not has_heads and study.store is not None:
        which = f"this run keeps no head of its {' and '.join(attention)}"
        found = [f"nothing on attention: {which}; run the same dvme sweep again, it fits those that are missing"]
    if choices.is_anonymous:
        return [*found, *(["no maps and no images: the cache is not there"] if study.store is None else [])]
    return [*found, *study.notices, *(line for line in study.summary.notices if line != study.resampling)]


def _fused(study: Study) -> SavedHead | None:
    """The fusion by attention that leads on validation, of those whose heads were kept."""
    kept = study.run.kept_heads()
    places = {study.run.methods.index(method): folder for method, folder in kept.items()}
    lead = study.leader(list(places)) if places else None
    return None if lead is None else load_head(places[lead])


def _mapped(study: Study, fused: SavedHead | None, choices: _Choices) -> tuple[Points | None, list[EmbeddingMap]]:
    """The images and their maps; none without the cache."""
    store, rows = study.store, study.rows
    if store is None or rows is None or len(rows) < MIN_ROWS:
        return None, []
    kept, side = Kept(default_folder()), study.sides()
    columns = store.columns(["label", "group"])
    sources = [embedding_source(store, str(each["name"]), rows) for each in study.run.described["backbones"]]
    sources += [] if fused is None else [fused_source(fused, store, rows)]
    maps = [
        each
        for method in choices.methods
        for each in make_maps(
            sources,
            method=method,
            labels=columns["label"][rows],
            groups=columns["group"][rows],
            is_asked=side == TEST,
            is_known=side != TEST,
            seed=choices.seed,
            kept=kept,
            progress=choices.progress,
        )
    ]
    points = points_of(
        store,
        rows,
        _predictions(study, side),
        is_anonymous=choices.is_anonymous,
        with_thumbnails=choices.with_thumbnails,
        kept=kept,
        progress=choices.progress,
    )
    return points, maps


def _predictions(study: Study, side: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
    """What the leading method says of each image, by heads that did not learn from it."""
    lead = study.lead
    probabilities = study.predicted(lead)
    is_known = ~np.isnan(probabilities[:, 0])
    chosen = np.where(is_known, np.nan_to_num(probabilities).argmax(axis=1), 0)
    classes = np.array(study.run.manifest.classes, dtype=object)
    is_right = chosen == study.judge.labels
    return {
        "prediction": np.where(is_known, classes[chosen], "").astype(object),
        "error": np.where(is_known, np.where(is_right, "right", "wrong"), "").astype(object),
        "confidence": np.where(is_known, np.nan_to_num(probabilities).max(axis=1), np.nan),
        "test or fold": side,
    }


def _sections(
    page: Page,
    study: Study,
    found: Findings,
    overlaid: Sequence[PublishedCell],
    fused: SavedHead | None,
    points: Points | None,
    maps: Sequence[EmbeddingMap],
    choices: _Choices,
) -> list[Section | None]:
    explained, tokens = _explained(study, fused, choices)
    lead = study.lead
    return [
        sections.learning_curves(page, study, overlaid),
        sections.differences(page, study, found),
        None if points is None else Section("maps", "Maps", explorer_html(points, maps)),
        sections.fusion(page, explained, explained.similarity if explained else _alike(study), tokens),
        sections.diagnosis(page, study),
        None if study.store is None else images_section(study, lead, _pictures(study, choices)),
        sections.data(page, study),
        sections.provenance(study, version("dvme"), is_anonymous=choices.is_anonymous),
    ]


def _pictures(study: Study, choices: _Choices) -> Pictures:
    assert study.store is not None
    paths, ids = study.store.column("path")[study.rows], study.store.samples.ids[study.rows]
    names = names_of(paths, ids, is_anonymous=choices.is_anonymous)
    return Pictures(names, paths.tolist(), ids, choices.with_thumbnails)


def _explained(
    study: Study, fused: SavedHead | None, choices: _Choices
) -> tuple[ExplainReport | None, NDArray[Any] | None]:
    """What the fusion attends to and relies on, and its map of tokens."""
    if fused is None or study.store is None:
        return None, None
    folder = study.run.kept_heads()[fused.name, fused.backbones]
    with tempfile.TemporaryDirectory() as aside:
        place = Path(aside) / "tokens.npy" if fused.name == "dvme" else None
        report = explain(folder, study.store.location, full_map=place, seed=study.run.seed, progress=choices.progress)
        tokens = None if place is None else down_sampled(np.load(place), len(fused.backbones))
    return report, tokens


def _alike(study: Study) -> Similarity | None:
    """CKA of the backbones on the test images, where no fusion was explained."""
    names = [str(each["name"]) for each in study.run.described["backbones"]]
    test = study.run.manifest.test
    if study.store is None or study.rows is None or len(names) < 2 or len(test) < MIN_SAMPLES:
        return None
    return similarity({name: study.store.embeddings(name).read(study.rows[test]) for name in names})


def _n_missing(points: Points) -> int:
    return len(points.ids) if points.thumbnails is None else len(points.thumbnails.missing)
