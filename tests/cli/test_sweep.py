"""`dvme sweep` as typed: the table, what it allows to be said, and the ways in which it can be refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import assert_refused, run, strict
from light import RIVALS, named, spelled
from numpy.typing import NDArray

from dvme.text import MARKS

N = 120
LABELS = np.arange(N) % 2
NAMES = [str(label) for label in LABELS]
ARGUMENTS = ("--sizes", "10,30 S,full", "--folds", 3)


@pytest.fixture(scope="module")
def cache(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
) -> Path:
    features = {name: make_features(LABELS, 1.0 - 0.8 * seed, seed) for seed, name in enumerate(("swav", "dino"))}
    return write_embeddings(tmp_path_factory.mktemp("study") / "c.zarr", features, label=NAMES)


def test_sweep__the_table_and_what_it_allows_to_be_said(cache: Path, tmp_path: Path) -> None:
    result = run("sweep", cache, "--out", tmp_path / "run", "--head", spelled("dvme", *RIVALS), *ARGUMENTS)
    assert result.exit_code == 0, result.output
    said = result.stdout
    assert "binary, 2 classes: 0 (60), 1 (60)" in said
    assert "held out 24 of 120 for testing, 3 folds of the other 96: stratified, seed 0" in said
    table, _, rest = said.partition("Test AUC")
    header = next(line for line in table.splitlines() if "backbone" in line)
    assert header.split() == ["backbone", "head", "10", "30", "(S)", "full"]
    assert "10 + 5, 30 + 15" in table
    for head in ("dvme", "dvme-noattn", "mlp", "concat", "mean-logits"):
        line = next(line for line in table.splitlines() if "2 together" in line and re.search(rf" {head}[@ ]", line))
        assert line.count("±") == 3
    assert table.count("*") == 3  # one leads in each column
    assert "2 together: swav, dino." in rest or "2 together: dino, swav." in rest
    assert MARKS in said
    assert "Test AUC, mean ± std over draws; the highest of a size is bold, which claims nothing.\n" in said
    assert "dvme@" in rest  # the rest of the heading is folded
    assert "against" in rest
    assert "labels saved" in rest
    assert "gain" in rest
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["findings"]["verdict"] in rest.splitlines()
    assert "Seconds of all fits" in rest
    assert f"{7 * 3 * 3} jobs" in rest
    assert f"wrote {tmp_path / 'run'}" in rest
    assert "…" not in said
    assert "sweep: 63 of 63 jobs" in result.stderr
    heads = {entry.name for entry in (tmp_path / "run" / "heads").iterdir()}  # of each method, those of the full size
    assert len(heads) == 7
    head = tmp_path / "run" / "heads" / next(name for name in heads if name.startswith("dvme@"))
    explained = run("explain", head, cache)
    assert explained.exit_code == 0, explained.output
    assert "3 folds, explained on the head's 24 test images" in explained.stdout


def test_sweep__goes_on_and_says_so(cache: Path, tmp_path: Path) -> None:
    arguments = ("sweep", cache, "--out", tmp_path / "run", *ARGUMENTS, "--head")
    assert run(*arguments, "knn").exit_code == 0
    result = run(*arguments, spelled("knn", "linear"))
    assert result.exit_code == 0, result.output
    assert "36 jobs, 18 of them finished before" in result.stdout
    again = run("sweep", cache, "--out", tmp_path / "run", "--head", "knn", "--subsets", tmp_path / "run/subsets.json")
    assert "18 jobs, 18 of them finished before" in again.stdout


def test_sweep__json(cache: Path, tmp_path: Path) -> None:
    arguments = ("--head", spelled("linear", "concat"), "--metric", "kappa", "--device", "cpu", "--memory", 0.5)
    report = strict(run("sweep", cache, "--out", tmp_path / "run", *arguments, *ARGUMENTS, "--json").stdout)
    assert (report["metric"], report["n_jobs"], report["run"]) == ("kappa", 27, str(tmp_path / "run"))
    assert [column["name"] for column in report["columns"]] == ["10", "30 (S)", "full"]
    assert len(report["cells"]) == 9
    leading = [cell for cell in report["cells"] if cell["mark"] == "*"]
    assert [(cell["size"], cell["p_adjusted"], cell["difference"]) for cell in leading] == [
        (column["name"], None, None) for column in report["columns"]
    ]
    for cell in leading:
        assert cell["validation"] == max(each["validation"] for each in report["cells"] if each["size"] == cell["size"])
    assert {gain["word"] for gain in report["gains"]} <= {"gain", "loss", "no gain shown"}
    assert all(gain["rival"] in {each["method"] for each in gain["rivals"]} for gain in report["gains"])
    assert [gain["fusion"] for gain in report["gains"]] == [f"{named('concat')} of 2 backbones"] * 3


def test_sweep__one_backbone_under_a_fusion(cache: Path, tmp_path: Path) -> None:
    arguments = ("--head", spelled("concat"), "--backbones", "swav", *ARGUMENTS)
    result = run("sweep", cache, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 0, result.output
    assert f"{named('concat')}: one backbone is nothing to fuse; pass more --backbones" in result.stdout


def test_sweep__what_cannot_be_swept(cache: Path, tmp_path: Path) -> None:
    arguments = ("sweep", cache, "--out", tmp_path / "run", "--head", "knn")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert run("subsets", cache, "--out", tmp_path / "s.json", *ARGUMENTS).exit_code == 0
    edited = (tmp_path / "s.json").read_text().replace('"seed": 0', '"seed": 1')
    (tmp_path / "edited.json").write_text(edited)
    cases: list[tuple[tuple[object, ...], str]] = [
        ((*arguments, *ARGUMENTS, "--head", "forest"), "unknown head 'forest'; choose from linear"),
        ((*arguments, *ARGUMENTS, "--metric", "f1"), "metric 'f1' is not known; choose from auc, accuracy"),
        ((*arguments, *ARGUMENTS, "--backbones", "clip"), "has no clip embeddings"),
        ((*arguments, "--sizes", "5000"), "size 5000 is more than the 76 training images of a fold"),
        ((*arguments, "--subsets", tmp_path / "none.json"), "none.json does not exist; dvme subsets CACHE --out"),
        ((*arguments, "--subsets", tmp_path / "edited.json"), "edited.json was changed since it was made"),
        ((*arguments, "--subsets", tmp_path / "s.json", "--seed", 3), "a subset file is a whole study: leave out"),
        ((*arguments, "--device", "abacus", *ARGUMENTS), "device 'abacus' cannot be used"),
        (("sweep", cache, "--out", tmp_path / "mine", "--head", "knn", *ARGUMENTS), "mine is there already and is not"),
        (("sweep", tmp_path / "none.zarr", "--out", tmp_path / "run"), "there is no cache at"),
    ]
    for typed, message in cases:
        assert_refused(run(*typed), message)
    assert run(*arguments, *ARGUMENTS).exit_code == 0
    assert_refused(run(*arguments, *ARGUMENTS, "--seed", 4), "is a run over other subsets", "pass --subsets")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_sweep__other_labels_than_the_file(
    cache: Path,
    tmp_path: Path,
    write_embeddings: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
) -> None:
    assert run("subsets", cache, "--out", tmp_path / "s.json", *ARGUMENTS).exit_code == 0
    features = {name: make_features(LABELS, 1.0, seed) for seed, name in enumerate(("swav", "dino"))}
    other = write_embeddings(tmp_path / "o.zarr", features, label=["1", *NAMES[1:]])
    arguments = ("--out", tmp_path / "run", "--head", "knn", "--subsets", tmp_path / "s.json")
    assert_refused(run("sweep", other, *arguments), "1 image of", "have another label in", "(0.png)")
    fewer = write_embeddings(
        tmp_path / "f.zarr", {name: values[:-1] for name, values in features.items()}, label=NAMES[:-1]
    )
    assert_refused(run("sweep", fewer, *arguments), "1 of the 120 images of", "extract them first")
    assert not (tmp_path / "run").exists()


def test_sweep__help_and_wrong_usage(cache: Path) -> None:
    result = run("sweep", "--help")
    assert result.exit_code == 0
    assert "Fit every head on subsets of growing size" in result.stdout
    assert run("sweep", cache).exit_code == 2
    assert run("sweep", cache, "--out", "run", "--head", ",").exit_code == 2


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a", "b", "c"], "Test AUC, macro one-versus-rest, mean ± std over draws; the highest"),
        (
            ["|a|", "|b|", "|a|b|", "|"],
            "Test AUC, mean over the 2 findings that can be judged, mean ± std over draws; the",
        ),
    ],
)
def test_sweep__says_over_what_an_auc_is_averaged(
    write_embeddings: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
    tmp_path: Path,
    labels: list[str],
    said: str,
) -> None:
    features = {"swav": make_features(LABELS, 1.0, 0)}
    own = write_embeddings(tmp_path / "c.zarr", features, label=[labels[i % len(labels)] for i in range(N)])
    options = ("--head", spelled("linear"), "--sizes", "full", "--folds", 3)
    result = run("sweep", own, "--out", tmp_path / "run", *options)
    assert result.exit_code == 0, result.output
    assert said in result.stdout
