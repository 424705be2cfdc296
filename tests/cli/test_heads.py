"""Fitted heads as typed: probe --save, predict and explain. Bad input is one readable line, exit 1, nothing left."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused, run, strict
from light import RIVALS, filed, named, spelled

from dvme.text import MARKS
from dvme_cache import EmbeddingCache, Fingerprint

N = 60
NAMES = ("hf-hub:org/name@size=448", "swav")
FUSED = "hf-hub%3Aorg%2Fname@size=448+swav"
LINES = (
    filed("linear", "swav"),
    filed("linear", "hf-hub%3Aorg%2Fname@size=448"),
    *(filed(head, FUSED) for head in ("dvme", "dvme-noattn", "mlp", "concat", "mean-logits")),
)


def write_cache(path: Path, weights: str = "published", failed: int | None = None, **columns: list[str]) -> Path:
    """Two backbones of 12 dimensions, without any image."""
    grades = np.arange(N) % 3
    with EmbeddingCache.writing(path) as cache:
        rows = cache.samples.add([bytes([1, row]) * 8 for row in range(N)], [f"test/{row:02d}.png" for row in range(N)])
        cache.update_columns(rows, {"label": [str(grade) for grade in grades], **columns})
        for seed, name in enumerate(NAMES):
            rng = np.random.default_rng(seed)
            features = (rng.normal(size=(3, 12))[grades] + rng.normal(size=(N, 12))).astype(np.float32)
            reasons = {} if failed is None or name != "swav" else {failed: "image file is truncated"}
            features[list(reasons)] = np.nan
            table = cache.ensure_embeddings(
                *(name, Fingerprint({"weights": weights, "dtype": "float32", "name": name})),
                dim=12,
                dtype="float32",
                provenance={},
            )
            for shard in table.pending_shards():
                table.commit(shard, features[shard], reasons)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache, and the heads that `dvme probe --head dvme --save` made on it."""
    root = tmp_path_factory.mktemp("study")
    result = run(
        "probe",
        write_cache(root / "c.zarr"),
        "--head",
        spelled("dvme", *RIVALS),
        "--folds",
        2,
        "--save",
        root / "heads",
    )
    assert result.exit_code == 0, result.output
    (root / "shown.txt").write_text(result.stdout)
    return root


def test_probe__a_fusion_is_shown_beside_all_that_it_has_to_beat(study: Path) -> None:
    shown = (study / "shown.txt").read_text()
    table, _, said = shown.partition("Test scores")
    for head in ("linear", "dvme", "dvme-noattn", "mlp", "concat", "mean-logits"):
        assert re.search(rf" {head}[@ ]", table)  # its settings may stand in the next line
    assert "…" not in table  # a long name is folded, and takes no number its digits
    assert "dvme" in said
    assert MARKS in said
    (leading,) = (line.split()[2] for line in table.splitlines() if " * " in line)
    assert leading.partition("@")[0] == "dvme"
    assert f"{named('dvme')} of 2 backbones against" in said
    assert re.search(r"(no gain shown|gain|loss) *$", said, re.MULTILINE)
    assert "labels saved" not in said.lower()  # of one size there is no curve
    assert re.search("no gain by fusion is shown|fusing by", said)
    assert sorted(line for line in said.splitlines() if line.startswith("saved ")) == sorted(
        f"saved {study / 'heads' / name}" for name in LINES
    )
    assert sorted(entry.name for entry in (study / "heads").iterdir()) == sorted(LINES)


def test_probe__no_controls_and_json(study: Path, tmp_path: Path) -> None:
    arguments = ("--head", spelled("dvme-tokens"), "--folds", 2, "--save", tmp_path / "heads")
    result = run("probe", study / "c.zarr", *arguments, "--no-controls", "--json")
    report = strict(result.stdout)
    assert [(cell["head"], tuple(cell["backbones"])) for cell in report["cells"]] == [(named("dvme-tokens"), NAMES)]
    assert report["gains"] == []
    assert report["saved"] == [str(tmp_path / "heads" / filed("dvme-tokens", FUSED))]
    report = strict(
        run("probe", study / "c.zarr", "--head", spelled("dvme-tokens", *RIVALS), "--folds", 2, "--json").stdout
    )
    assert len(report["cells"]) == 7
    assert {item["role"] for item in report["gains"]} == {"single backbone", "control"}


def test_probe__one_backbone_under_a_fusion(study: Path) -> None:
    result = run("probe", study / "c.zarr", "--head", spelled("concat"), "--backbones", "swav", "--folds", 2)
    assert result.exit_code == 0, result.output
    assert f"{named('concat')}: one backbone is nothing to fuse; pass more --backbones" in result.stdout


def test_probe__rows_that_one_backbone_lacks_are_counted(tmp_path: Path) -> None:
    result = run("probe", write_cache(tmp_path / "c.zarr", failed=7), "--head", spelled("concat"), "--folds", 2)
    assert result.exit_code == 0, result.output
    assert "left out: 1 without an embedding" in result.stdout


def test_probe__places_that_cannot_be_saved_to(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    arguments = ("probe", study / "c.zarr", "--head", "knn", "--folds", 2, "--save")
    assert_refused(run(*arguments, study / "heads"), "heads is there already; name another folder with --save")
    assert_refused(run(*arguments, tmp_path / "file"), "file is there already")
    assert_refused(
        run(*arguments, tmp_path / "file" / "heads"),
        "file is there already and is a file",
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        ({"split": ["train", "train", "test"] * 20}, (), "the train part has no image of class '2'"),
        ({"split": ["train"] * 2 + ["test"] * 58}, (), "the train part has no image of class '2'"),
        ({"label": ["x"] * N}, (), "all 60 labelled images are 'x'"),
        ({}, ("--folds", 30), "has 20 images"),
        ({}, ("--head", "concat,forest"), "unknown head 'forest'"),
        ({}, ("--backbones", "swav,dino"), "has no dino embeddings"),
    ],
)
def test_probe__what_cannot_be_learned_leaves_no_heads(
    tmp_path: Path, columns: dict[str, list[str]], arguments: tuple[object, ...], message: str
) -> None:
    cache = write_cache(tmp_path / "c.zarr", **columns)
    before = sorted(entry.name for entry in tmp_path.iterdir())
    given = arguments if "--head" in arguments else ("--head", "dvme", *arguments)
    assert_refused(run("probe", cache, *given, "--save", tmp_path / "new" / "heads"), message)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before


def test_predict__as_typed(study: Path, tmp_path: Path) -> None:
    head = study / "heads" / filed("concat", FUSED)
    result = run("predict", head, study / "c.zarr", "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    with (tmp_path / "p.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["image", "path", "class", "p(0)", "p(1)", "p(2)"]
    assert [line[0] for line in lines] == [f"test/{row:02d}.png" for row in range(N)]
    assert f"{tmp_path / 'p.csv'}: 60 images by {named('concat')} on {'+'.join(NAMES)}: " in result.stdout
    assert "48 of them the head was fitted on; their predictions say nothing about new images" in result.stdout
    again = run("predict", head, study / "c.zarr", "--out", tmp_path / "p.csv", "--force", "--json")
    report = strict(again.stdout)
    assert (report["n_rows"], report["n_known"], report["left_out"]) == (60, 48, {})
    assert sum(report["counts"].values()) == 60


def test_predict__submission(study: Path, tmp_path: Path) -> None:
    head = study / "heads" / filed("linear", "swav")
    arguments = ("predict", head, study / "c.zarr", "--out", tmp_path / "s.csv", "--submission")
    assert run(*arguments, "id_code,diagnosis").exit_code == 0
    first, *lines = (tmp_path / "s.csv").read_text().splitlines()
    assert first == "id_code,diagnosis"
    assert [line.partition(",")[0] for line in lines] == [f"{row:02d}" for row in range(N)]
    assert {line.partition(",")[2] for line in lines} == {"0", "1", "2"}
    for names in ("id", "id,id", "a,b,c"):
        assert_refused(run(*arguments, names, "--force"), "a submission has two different columns")
    assert (tmp_path / "s.csv").read_text().splitlines() == [first, *lines]


def test_predict__names_what_is_left_out(study: Path, tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "c.zarr", failed=7)
    result = run("predict", study / "heads" / filed("mean-logits", FUSED), cache, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    assert "1 without a prediction:\n  test/07.png: image file is truncated" in result.stdout
    # The head of the other backbone alone has all that it needs.
    other = run(
        "predict", study / "heads" / filed("linear", "hf-hub%3Aorg%2Fname@size=448"), cache, "--out", tmp_path / "q.csv"
    )
    assert "60 images by linear" in other.stdout


def _torn(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def _newer(folder: Path) -> None:
    described = json.loads((folder / "head.json").read_text())
    (folder / "head.json").write_text(json.dumps(described | {"format": 99}))


def _older(folder: Path) -> None:
    """As the first release of heads wrote them: without settings, seeds and digest."""
    described = json.loads((folder / "head.json").read_text())
    old = {name: value for name, value in described.items() if name not in {"settings", "digest"}}
    (folder / "head.json").write_text(json.dumps(old | {"format": 1}))


def _reversed(folder: Path) -> None:
    described = json.loads((folder / "head.json").read_text())
    (folder / "head.json").write_text(json.dumps(described | {"classes": described["classes"][::-1]}))


def _no_json(folder: Path) -> None:
    (folder / "head.json").write_text("{")


def _swapped(folder: Path) -> None:
    """With those of the same head on the other backbone: the same images and shapes."""
    shutil.copy(folder.parent / filed("linear", "hf-hub%3Aorg%2Fname@size=448") / "weights.safetensors", folder)


@pytest.mark.parametrize("command", ["predict", "explain"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "weights.safetensors").unlink(), "cannot be read as a head"),
        (lambda folder: (folder / "head.json").unlink(), "is not a saved head"),
        (_torn, "cannot be read as a head"),
        (_no_json, "cannot be read as a head"),
        (_newer, "is of head format 99, this dvme reads 2 to 7; update dvme"),
        (_older, "is of head format 1, this dvme reads 2 to 7; save it again with dvme probe --save"),
        (_reversed, "its head.json was changed after it was written"),
        (_swapped, "its weights.safetensors does not belong to its head.json"),
    ],
)
def test_commands__heads_that_cannot_be_read(
    study: Path, tmp_path: Path, command: str, damage: Callable[[Path], None], message: str
) -> None:
    for name in (filed("linear", "swav"), filed("linear", "hf-hub%3Aorg%2Fname@size=448")):
        shutil.copytree(study / "heads" / name, tmp_path / name)
    damage(tmp_path / filed("linear", "swav"))
    out = tmp_path / ("p.csv" if command == "predict" else "e.json")
    assert_refused(run(command, tmp_path / filed("linear", "swav"), study / "c.zarr", "--out", out), message)
    assert not out.exists()


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_commands__what_is_no_head_or_no_cache(study: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / ("p.csv" if command == "predict" else "e.json")
    head = study / "heads" / filed("concat", FUSED)
    for place, message in ((study / "heads", "name one of them"), (tmp_path / "no", "dvme probe --save makes heads")):
        assert_refused(run(command, place, study / "c.zarr", "--out", out), "is not a saved head", message)
    nowhere = "none.zarr does not exist" if command == "predict" else "there is no cache at"
    assert_refused(run(command, head, tmp_path / "none.zarr", "--out", out), nowhere)
    (tmp_path / "empty").mkdir()
    nothing = "holds no images" if command == "predict" else "is not a dvme cache"
    assert_refused(run(command, head, tmp_path / "empty", "--out", out), nothing)
    other = write_cache(tmp_path / "c.zarr", weights="mine")
    assert_refused(
        run(command, head, other, "--out", out),
        "hf-hub:org/name@size=448 in",
        "weights is 'mine', the head's is 'published'",
    )
    assert not out.exists()


def test_predict__places_that_cannot_be_written(study: Path, tmp_path: Path) -> None:
    arguments = ("predict", study / "heads" / filed("linear", "swav"), study / "c.zarr", "--out")
    (tmp_path / "p.csv").write_text("mine")
    assert_refused(run(*arguments, tmp_path / "p.csv"), "p.csv is there already; name another file, or pass --force")
    assert_refused(run(*arguments, tmp_path / "p.txt"), "does not end in .csv or .parquet; name such a file")
    assert_refused(run(*arguments, tmp_path / "no" / "p.csv"), "no is not a folder; make it first")
    assert_refused(run(*arguments, tmp_path / "q.csv", "--cache", tmp_path / "d.zarr"), "is a cache itself")
    assert (tmp_path / "p.csv").read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.csv"]


def test_explain__as_typed(study: Path, tmp_path: Path) -> None:
    head = study / "heads" / filed("dvme", FUSED)
    result = run("explain", head, study / "c.zarr", "--full-map", tmp_path / "m.npy", "--out", tmp_path / "e.json")
    assert result.exit_code == 0, result.output
    assert f"{named('dvme')} on {'+'.join(NAMES)}, 2 folds, explained on the head's 12 test images" in result.stdout
    for part in ("all (12)", "to swav", "0.500 everywhere", "replaced by its mean", "linear CKA", f"saved {tmp_path}"):
        assert part in result.stdout
    assert "fitted again" not in result.stdout
    assert "luck of the test images" not in result.stdout
    columns = ("without", "test log loss", "change of loss, 95% CI", "test AUC", "change of AUC, 95% CI")
    assert any(all(name in line for name in columns) for line in result.stdout.splitlines())
    assert np.load(tmp_path / "m.npy").shape == (1024, 1024)
    saved = strict((tmp_path / "e.json").read_text())
    assert (saved["head"], saved["n_images"], saved["retrained"]) == (named("dvme"), 12, None)


def test_explain__json_and_retrain(study: Path) -> None:
    head = study / "heads" / filed("concat", FUSED)
    report = strict(run("explain", head, study / "c.zarr", "--retrain", "--json").stdout)
    assert report["attention"] is None
    assert [item["backbone"] for item in report["retrained"]["left_out"]] == list(NAMES)
    result = run("explain", head, study / "c.zarr", "--retrain", "--all-images")
    assert f"{named('concat')} has no attention to show." in result.stdout
    assert "The head fitted again on the other backbones:" in result.stdout
    assert "Its intervals hold the luck of the test images, not that of the training" in result.stdout
    assert "all 60 labelled images, those that the head was fitted on among them" in result.stdout


def test_explain__what_cannot_be_explained(study: Path, tmp_path: Path) -> None:
    cache, heads = study / "c.zarr", study / "heads"
    assert_refused(run("explain", heads / filed("linear", "swav"), cache, "--retrain"), "has one backbone")
    concat, dvme = heads / filed("concat", FUSED), heads / filed("dvme", FUSED)
    assert_refused(run("explain", concat, cache, "--full-map", tmp_path / "m.npy"), "is of the dvme head")
    assert_refused(run("explain", dvme, cache, "--full-map", tmp_path / "m.png"), "does not end in .npy")
    assert_refused(run("explain", dvme, cache, "--out", tmp_path / "e.csv"), "does not end in .json")
    (tmp_path / "e.json").write_text("mine")
    (tmp_path / "m.npy").write_text("mine")
    for option, name in (("--out", "e.json"), ("--full-map", "m.npy")):
        assert_refused(
            run("explain", dvme, cache, option, tmp_path / name), f"{name} is there already; name another file"
        )
        assert (tmp_path / name).read_text() == "mine"
    assert_refused(run("explain", concat, cache, "--retrain", "--memory", 1e-6), "pass --memory")
    other = write_cache(tmp_path / "c.zarr", label=["melanoma"] * N)
    assert_refused(run("explain", concat, other), "has class 'melanoma', which the head does not know")
    nothing = write_cache(tmp_path / "d.zarr", label=[""] * N)
    assert_refused(run("explain", concat, nothing), "has no labelled image")


def test_commands__wrong_usage_is_exit_2(study: Path) -> None:
    head = study / "heads" / filed("linear", "swav")
    assert run("predict", head, study / "c.zarr").exit_code == 2
    assert run("predict", head, study / "c.zarr", "--out", "p.csv", "--weights", "oops").exit_code == 2
    assert run("explain", head).exit_code == 2
    assert run("explain", head, study / "c.zarr", "--seed", "-1").exit_code == 2
