"""`dvme report`: its numbers are the sweep's, and what is to be hidden is."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from light import light, named
from numpy.typing import NDArray
from once import linked, replaced
from pictures import EVIL, write_pictures

import dvme
from dvme.errors import DataError, MissingPackageError, OptionError, UnknownNameError
from dvme.maps.maps import make_maps
from dvme.report import page_maps
from dvme.report.result import ReportResult
from dvme.report.sections import provenance
from dvme.study.loaded import Study
from dvme.study.run import read_summary
from dvme.text import NO_GROUPS
from dvme_cache import EmbeddingCache

PCA = dvme.PageOptions(methods=["pca"])


@pytest.fixture(scope="module")
def written(small_study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportResult, Path]:
    """The report of pictures with a fusion by attention and its kept head, written once for who only reads it."""
    out = tmp_path_factory.mktemp("written") / "r.html"
    return dvme.write_report(small_study / "run", out=out, options=PCA), out


@pytest.fixture
def bare(small_study: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed, whose cache is gone: its report has no part that takes long."""
    linked(small_study / "run", tmp_path / "run")
    described = tmp_path / "run" / "run.json"
    text = described.read_text()
    assert str(small_study / "c.zarr") in text
    replaced(described, text.replace(str(small_study / "c.zarr"), str(tmp_path / "gone.zarr")).encode())
    return tmp_path / "run"


def _sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page)


def _assert_no_part_is_missing(result: ReportResult) -> None:
    """All that is said: light heads are not the defaults."""
    (only,) = result.notices
    assert only.startswith("settings that differ from the defaults: ")


def test_write_report__says_of_many_images_that_maps_are_approximate(
    small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_maps, "make_maps", partial(make_maps, most=50))
    linked(small_study / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "heads")  # nothing on the fusion, which takes longest
    options = replace(PCA, methods=["tsne"], thumbnails=False)
    result = dvme.write_report(tmp_path / "run", out=tmp_path / "r.html", options=options)
    placed = "t-SNE: 50 of 120 images laid out, the others placed beside them"
    drawn = "numbers of maps are measured among 50 images drawn at random"
    assert {placed, drawn} <= set(result.notices)
    maps = (tmp_path / "r.html").read_text().partition('<section id="maps"')[2].partition("<section id=")[0]
    assert placed in maps
    assert drawn in maps


def test_write_report__says_what_the_sweep_said(small_study: Path, written: tuple[ReportResult, Path]) -> None:
    result, out = written
    page = out.read_text()
    summary = read_summary(small_study / "run")
    for cell in summary.cells:
        score = cell.test["auc"]
        assert f"{score.mean:.3f} ± {score.std:.3f}" in page
    for gain in summary.gains:
        assert f"{gain.comparison.difference.estimate:+.3f}" in page
    assert summary.subsets in page
    assert (result.n_points, result.n_without_thumbnail) == (120, 0)
    _assert_no_part_is_missing(result)
    assert list(result.answers) == ["Which backbone?", "Is fusion worth it?", "How many labels?"]
    assert _sections(page) == [
        "labels",
        "differences",
        "reliability",
        "maps",
        "fusion",
        "errors",
        "images",
        "data",
        "provenance",
    ]
    assert list(result.maps["pca"]) == ["one", f"two {EVIL}", "dvme, first fold"]
    assert EVIL not in page
    assert "<script>alert" not in page
    assert page.count("plotly.js v") == 1
    assert page.count("to repeat it</th><td><code>dvme sweep ") == 1


def test_write_report__the_same_run_gives_the_same_page(
    small_study: Path, written: tuple[ReportResult, Path], tmp_path: Path
) -> None:
    dvme.write_report(small_study / "run", out=tmp_path / "again.html", options=PCA)
    assert (tmp_path / "again.html").read_bytes() == written[1].read_bytes()


def test_write_report__anonymous_names_nobody(small_study: Path, tmp_path: Path) -> None:
    result = dvme.write_report(
        small_study / "run",
        out=tmp_path / "r.html",
        options=replace(PCA, anonymous=True, thumbnails=False),
    )
    page = (tmp_path / "r.html").read_text()
    for secret in (str(small_study), "c.zarr", "17.png", "site ", '"age"', "data:image/webp"):
        assert secret not in page
    assert "fingerprint of" not in page.lower()
    assert result.notices == []
    assert "<title>dvme: a study</title>" in page


def test_write_report__without_its_cache_is_still_a_page_with_published_numbers(bare: Path, tmp_path: Path) -> None:
    result = dvme.write_report(bare, out=tmp_path / "r.html", published="truong2021:patchcam")
    assert "no maps and no images" in result.notices[0]
    assert (result.n_points, result.maps) == (0, {})
    page = (tmp_path / "r.html").read_text()
    assert _sections(page) == ["labels", "differences", "reliability", "errors", "data", "provenance"]
    found = re.search(r'id="figure-learning-curve-auc">(.*?)</script>', page)
    assert found is not None
    names = [trace.get("name", "") for trace in json.loads(found[1])["data"]]
    assert any(name.startswith("published: ") for name in names)


def test_write_report__without_attention_backbones_are_compared(clear: Path, tmp_path: Path) -> None:
    result = dvme.write_report(clear / "run", out=tmp_path / "r.html", options=replace(PCA, thumbnails=False))
    _assert_no_part_is_missing(result)
    page = (tmp_path / "r.html").read_text()
    assert 'id="figure-similarity"' in page
    assert 'id="figure-attention"' not in page


def test_write_report__of_an_older_run_without_heads_says_what_to_do(
    bare: Path, small_study: Path, tmp_path: Path
) -> None:
    """And its cache, which has moved since, is named."""
    shutil.rmtree(bare / "heads")
    options = replace(PCA, thumbnails=False)
    result = dvme.write_report(bare, out=tmp_path / "r.html", cache=small_study / "c.zarr", options=options)
    assert result.n_points == 120
    assert f"this run keeps no head of its {named('dvme')}; run the same dvme sweep again" in result.notices[0]
    assert list(result.maps["pca"]) == ["one", f"two {EVIL}"]


@pytest.mark.parametrize(
    ("source", "out", "given", "error", "match"),
    [
        ("run", "", {}, OptionError, "is a folder; name a file"),
        ("run", "r", {}, OptionError, "r does not end in .html or .htm; name such a file"),
        ("run", "no/r.html", {}, OptionError, "no is not a folder; make it first"),
        ("c.zarr", "r.html", {}, OptionError, "is a cache; dvme sweep"),
        ("run", "r.html", {"published": "nobody:nothing"}, UnknownNameError, "not a published table"),
    ],
)
def test_write_report__bad_input_is_one_line(
    small_study: Path, tmp_path: Path, source: str, out: str, given: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match) as caught:
        dvme.write_report(small_study / source, out=tmp_path / out, **given)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_write_report__without_the_package_of_its_maps_goes_without_them(
    clear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict stands without, and the line that says so names nobody, so that an anonymous page has it as well; a
    page without figures would be none, and is refused before anything is read."""
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    options = dvme.PageOptions(thumbnails=False, anonymous=True)
    result = dvme.write_report(clear / "run", out=tmp_path / "page.html", options=options)
    assert "no maps: t-SNE maps need openTSNE: pip install 'dvme[maps]'" in result.notices
    assert (result.n_points, result.maps) == (0, {})
    assert "maps" not in _sections((tmp_path / "page.html").read_text())
    both = dvme.PageOptions(thumbnails=False, methods=("tsne", "pca"))
    result = dvme.write_report(clear / "run", out=tmp_path / "page.html", options=both, force=True)
    assert "t-SNE maps need openTSNE: pip install 'dvme[maps]'" in result.notices
    assert set(result.maps) == {"pca"}
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingPackageError, match=r"^figures need plotly: pip install 'dvme\[report\]'$"):
        dvme.write_report(tmp_path / "no run", out=tmp_path / "r.html")


def test_write_report__a_torn_summary_is_one_line(bare: Path, tmp_path: Path) -> None:
    replaced(bare / "summary.json", b"{")
    with pytest.raises(DataError, match="cannot be read as a summary"):
        dvme.write_report(bare, out=tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_write_report__explains_on_the_test_images_alone(tmp_path: Path) -> None:
    """Sizes that leave most of the pool unused, patients on many images, and a cache that grew since the sweep."""
    cache = write_pictures(tmp_path, n_images=120, signal=0.7)
    options = dvme.SubsetOptions(sizes=["12", "24"], n_folds=2)
    dvme.sweep(cache, tmp_path / "run", heads=light("dvme"), controls=False, options=options)
    with EmbeddingCache.writing(cache) as store:
        rows = store.samples.add([bytes(range(16))], ["new.png"])
        store.update_columns(rows, {"label": ["a class that nobody knew"], "path": ["new.png"]})
        for name in store.backbones:
            table = store.embeddings(name)
            for shard in table.pending_shards():
                table.commit(shard, np.ones((len(shard), table.dim), dtype=np.float32), {})
    n_test = len(dvme.Run.load(tmp_path / "run").manifest.test)
    result = dvme.write_report(tmp_path / "run", out=tmp_path / "r.html", options=PCA)
    page = (tmp_path / "r.html").read_text()
    _assert_no_part_is_missing(result)
    assert f"mean over the head&#39;s {n_test} test images and 2 heads" in page
    assert f"embeddings of {n_test} test images" in page
    assert f"mean over {n_test} test images." in page  # of the map of tokens, which takes 64 at most


def test_write_report__what_the_data_do_not_allow_is_left_out_and_said(
    tmp_path: Path, write_embeddings: Callable[..., Path], make_features: Callable[..., NDArray[Any]]
) -> None:
    labels = np.arange(90) % 3
    features = {"good": make_features(labels, 1.0, 0), "dead": np.ones((90, 4), dtype=np.float32)}
    cache = write_embeddings(tmp_path / "c.zarr", features, label=[str(c) for c in labels])
    options = dvme.SubsetOptions(sizes=["full"], n_folds=2)
    dvme.sweep(cache, tmp_path / "run", heads=light("linear"), options=options)
    result = dvme.write_report(tmp_path / "run", out=tmp_path / "r.html", options=PCA)
    assert "no maps: all 90 dead embeddings are equal; there is nothing to map" in result.notices
    assert result.answers["Which backbone?"] == f"good + {named('linear')}"
    assert "maps" not in _sections((tmp_path / "r.html").read_text())
    options = replace(PCA, anonymous=True)
    closed = dvme.write_report(tmp_path / "run", out=tmp_path / "r.html", options=options, force=True)
    assert "no maps" in closed.notices


def test_write_report__the_command_repeats_the_run(tmp_path: Path) -> None:
    (tmp_path / "my study").mkdir()
    cache = write_pictures(tmp_path / "my study", n_images=60)
    run_folder = tmp_path / "my study" / "run"
    options = dvme.SubsetOptions(sizes=["full"], n_folds=2)
    dvme.sweep(cache, run_folder, heads=light("linear", "dvme"), controls=False, options=options, metric="accuracy")
    said = provenance(Study.load(run_folder), "0", is_anonymous=False)
    found = re.search(r"to repeat it</th><td><code>(.*?)</code>", said.body)
    assert found is not None
    words = shlex.split(html.unescape(found[1]))
    assert words[0] == "dvme"
    words[words.index("AGAIN")] = str(tmp_path / "again")
    result = run(*words[1:])
    assert result.exit_code == 0, result.output
    one, other = dvme.Run.load(run_folder), dvme.Run.load(tmp_path / "again")
    assert (one.metric, one.manifest.hash) == (other.metric, other.manifest.hash)
    assert one.described["methods"] == other.described["methods"]  # settings among them


def test_write_report__a_damaged_head_costs_its_section_alone(small_study: Path, tmp_path: Path) -> None:
    linked(small_study / "run", tmp_path / "run")
    (weights,) = (tmp_path / "run" / "heads").glob("dvme@*/*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    replaced(weights, content)
    result = dvme.write_report(tmp_path / "run", out=tmp_path / "r.html", options=replace(PCA, thumbnails=False))
    assert any("section on the fusion" in line or "keeps no head" in line for line in result.notices)
    assert list(result.maps["pca"]) == ["one", f"two {EVIL}"]
    assert "Which backbone?" in result.answers


def _report_of(cache: Path, folder: Path, heads: list[Any]) -> tuple[ReportResult, str]:
    options = dvme.SubsetOptions(sizes=("full",), n_folds=3)
    dvme.sweep(cache, folder / "run", heads=heads, options=options)
    shutil.rmtree(cache)  # no maps, no images: what is tested is in the words
    written = dvme.write_report(folder / "run", out=folder / "r.html")
    return written, html.unescape((folder / "r.html").read_text())


def test_write_report__says_that_the_order_of_kappa_was_assumed(
    tmp_path: Path, write_embeddings: Callable[..., Path], make_features: Callable[..., NDArray[Any]]
) -> None:
    labels = np.arange(120) % 3
    names = [("none", "mild", "severe")[label] for label in labels]
    features = {"a": make_features(labels, 0.6, 0)}
    cache = write_embeddings(tmp_path / "assumed.zarr", features, label=names)
    result, page = _report_of(cache, tmp_path / "assumed", light("linear"))
    assert "quadratic kappa (order assumed: mild < none < severe)" in page
    assert page.count("Quadratic kappa counts mild < none < severe as an order, which nobody gave") == 1
    assert NO_GROUPS in page
    assert not any("kappa" in line or "group" in line for line in result.notices)  # of the box, which is for more
    cache = write_embeddings(tmp_path / "told.zarr", features, label=names)
    dvme.cache.label(cache, class_order=["none", "mild", "severe"])
    page = _report_of(cache, tmp_path / "told", light("linear"))[1]
    assert "assumed" not in page
    assert "which nobody gave" not in page
    assert ">quadratic kappa<" in page
