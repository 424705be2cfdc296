"""What finished runs say of themselves; each paragraph's own words are tested beside it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from light import light, named
from once import linked

import dvme
from dvme.backbones import get_spec
from dvme.errors import DataError, OptionError
from dvme.paper.bibliography import works
from dvme.paper.material import Material
from dvme.paper.methods import PARAGRAPHS, MethodsReport

OLD = Path(__file__).parents[1] / "study" / "fixtures" / "run_format_2"
LITE, RANDOM = "efficientnet-lite0@size=32", "random@size=32"
N_EACH = 12


@pytest.fixture(scope="module")
def photographed(tmp_path_factory: pytest.TempPathFactory, save_image: Callable[..., Path]) -> Path:
    """A run over embeddings of real images by real backbones, one published and one untrained."""
    root = tmp_path_factory.mktemp("photographed")
    for level, name in enumerate(("dark", "grey", "light")):
        for index in range(N_EACH):
            save_image(root / "images" / name / f"{index:02d}.png", seed=100 * level + index, level=level)
    dvme.extract(root / "images", root / "c.zarr", backbones=[LITE, RANDOM])
    options = dvme.SubsetOptions(sizes=["full"], n_folds=2)
    dvme.sweep(root / "c.zarr", root / "run", heads=light("linear", "knn"), options=options)
    shutil.rmtree(root / "c.zarr")
    return root / "run"


@pytest.fixture(scope="module")
def published(photographed: Path) -> MethodsReport:
    """What it says, without its cache."""
    return dvme.methods(photographed)


def test_methods__has_every_paragraph_and_every_reference(published: MethodsReport) -> None:
    assert list(published.paragraphs) == list(PARAGRAPHS)
    assert all(text.endswith(".") and "  " not in text for text in published.paragraphs.values())
    cited = {key for key in re.findall(r"@([a-z][\w-]*)", published.text) if key in works()}
    assert published.keys == sorted(cited)
    assert re.findall(r"^@\w+\{([^,]+),$", published.bibtex, flags=re.MULTILINE) == published.keys
    assert published.n_unknown == 0
    assert "[cite]" not in published.text


def test_methods__names_the_images_of_a_run(published: MethodsReport, photographed: Path) -> None:
    material = Material.of(photographed)
    text = published.paragraphs["Images"]
    assert text.startswith("36 images of 3 classes took part: dark (12), grey (12) and light (12).")
    assert "No groups of images" in text
    n_test = len(material.manifest.test)
    assert f"{n_test} of 36 images were held out as the test set, at random, stratified, with seed 0." in text
    assert f"The other {36 - n_test} were divided into 2 stratified folds" in text


def test_methods__names_published_backbones_with_what_they_rest_on(published: MethodsReport) -> None:
    text, spec = published.paragraphs["Embeddings"], get_spec(LITE)
    assert text.startswith("Images were embedded by 2 networks, whose weights stayed as they are.")
    assert (
        f"`{LITE}`: tf_efficientnet_lite0 [@tan2019efficientnet], trained on ImageNet with labels "
        "[@tan2019efficientnet] (lite variants by the TPU team); licence Apache-2.0; an image is the mean over the "
        "last feature map, 1,280 values."
    ) in text
    assert f"`{RANDOM}`: resnet50 [@he2016deep], with random weights, as an untrained control;" in text
    assert (
        f"For `{LITE}` images were resized to a short side of {spec.preprocess.resize} pixels (bicubic, antialiased), "
        "cut to the central 32 x 32, scaled to [0, 1], and normalised by mean 0.5, 0.5 and 0.5 and standard deviation "
        "0.5, 0.5 and 0.5."
    ) in text


def test_methods__names_programs_and_what_proves_the_data(published: MethodsReport, photographed: Path) -> None:
    text = published.paragraphs["Software"]
    described = json.loads((photographed / "run.json").read_text())
    assert f"Embeddings by `{LITE}` and `{RANDOM}` were made with dvme {dvme.__version__} [@dvme; " in text
    assert re.search(r"PyTorch \d\S* \[@paszke2019pytorch\], torchvision \d\S* \[@torchvision2016\], timm \d", text)
    assert "Heads were fitted and judged with dvme" in text
    assert re.search(r"scikit-learn \d\S* \[@pedregosa2011scikit\]", text)
    assert f"The subsets have the hash {described['subsets']}," in text
    for backbone in described["backbones"]:
        assert f"`{backbone['name']}` {backbone['digest'][:16]}" in text


def test_run__keeps_where_its_backbones_come_from(photographed: Path, small_study: Path) -> None:
    """And nothing of the machine that they were made on."""
    described = json.loads((photographed / "run.json").read_text())
    kept = described["backbones"][0]["provenance"]
    assert kept["paper"] == get_spec(LITE).paper
    assert kept["licence"] == "Apache-2.0"
    assert kept["versions"]["dvme"] == dvme.__version__
    assert not {"created", "device", "spec"} & set(kept)
    assert described["n_groups"] is None
    grouped = json.loads((small_study / "run" / "run.json").read_text())
    assert grouped["n_groups"] == 60
    assert "provenance" not in grouped["backbones"][0]


def test_methods__is_the_same_text_every_time(published: MethodsReport, photographed: Path, tmp_path: Path) -> None:
    assert dvme.methods(photographed) == published
    moved = linked(photographed, tmp_path / "elsewhere")
    assert dvme.methods(moved).markdown == published.markdown


def test_methods__of_backbones_that_nobody_knows(small_study: Path) -> None:
    """Groups, a fusion, names that try to be markup; what is not known is marked."""
    report = dvme.methods(small_study / "run")
    images, embeddings, heads, evaluation, software = report.paragraphs.values()
    assert images.startswith("120 images of 3 classes took part: a \\<script\\>")
    assert "; there were 60 groups, " in images
    assert "whole groups together" in images
    assert "`one`: how it was trained is not known [cite]; an image is 8 values." in embeddings
    assert "How images were prepared for `one` and `two <script>" in embeddings
    assert f"`{named('linear')}`, on `one` and `two <script>" in heads
    assert "each by itself, is L2-regularised logistic regression" in heads
    assert "of 0.001 and 0.1 relative to" in heads
    assert f"`{named('dvme')}`, on `one` and " in heads
    assert "is a fusion by attention among the single values" in heads
    assert "for 1 to 2 epochs" in heads
    assert "[@delong1988comparing; @obuchowski1997clustered]" in evaluation
    assert "crosses the 2 draws' heads with the test images" in evaluation
    assert "is one over every single backbone" in evaluation
    assert "were made is not known [cite]." in software
    assert report.n_unknown == report.text.count("[cite]") == 3


def test_methods__of_findings_some_of_which_are_not_known(several: Path) -> None:
    report = dvme.methods(several / "run")
    images = report.paragraphs["Images"]
    assert images.startswith("240 images labelled for 3 findings took part; by finding, images that have it: Edema (")
    assert "of findings that were empty, or that readers were not certain of, took no part." in images
    assert "drawn stratified by all labels at once" in images
    assert "of which test images have enough with and without" in report.paragraphs["Evaluation"]


def test_methods__of_a_run_that_an_older_dvme_wrote() -> None:
    report = dvme.methods(OLD)
    assert report.paragraphs["Images"].startswith("60 images of 2 classes took part: ")
    assert "PyTorch 2.14.1 [@paszke2019pytorch]" in report.paragraphs["Software"]
    assert (
        f"`{named('concat')}`, on `a` and `b` together, is one regression on all embeddings"
        in report.paragraphs["Heads"]
    )
    assert report.n_unknown == 3


def test_methods__written_as_a_file(published: MethodsReport, photographed: Path, tmp_path: Path) -> None:
    place = tmp_path / "methods.md"
    report = dvme.methods(photographed, place)
    assert report.out == str(place)
    assert place.read_text(encoding="utf-8") == report.markdown == published.markdown
    assert f"```bibtex\n{published.bibtex}\n```\n" in report.markdown
    assert report.to_json()["text"] == published.text
    with pytest.raises(OptionError, match="is there already"):
        dvme.methods(photographed, place)
    assert dvme.methods(photographed, place, force=True).out == str(place)
    with pytest.raises(OptionError, match=r"does not end in \.md"):
        dvme.methods(photographed, tmp_path / "methods.tex")


def test_methods__only_of_finished_runs(photographed: Path, small_study: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        dvme.methods(small_study / "c.zarr")
    with pytest.raises(DataError):
        dvme.methods(tmp_path)
    cut = linked(photographed, tmp_path / "cut")
    (cut / "summary.json").unlink()
    with pytest.raises(DataError):
        dvme.methods(cut, tmp_path / "m.md")
    assert not (tmp_path / "m.md").exists()
