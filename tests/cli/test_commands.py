"""Every command as typed, and every piece of bad input: one readable line, exit 1, nothing half-written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
import typer
from command_line import assert_refused, run, strict

from dvme_cli.console import expected_errors

LITE = "efficientnet-lite0@size=32"
"""Real weights, on pictures a fiftieth as large as published: how good the embeddings are is not what is tested."""
FOLDER = quote(LITE, safe="")
PUBLISHED = "efficientnet-lite0"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of 36 made-up images, extracted by the command itself."""
    from PIL import Image

    root = tmp_path_factory.mktemp("cli")
    for level, name in enumerate(("dark", "grey", "light")):
        (root / "images" / name).mkdir(parents=True)
        for index in range(12):
            colour = (60 * level + 4 * index, 60 * level, 255 - 20 * index)
            Image.new("RGB", (40, 30), colour).save(root / "images" / name / f"{index}.png")
    result = run("extract", root / "images", root / "c.zarr", "--backbones", LITE)
    assert result.exit_code == 0, result.output
    assert "36 images: multiclass, 3 classes: dark (12), grey (12), light (12)" in result.stderr
    assert "36 distinct images (36 new to the cache)" in result.stdout
    return root / "c.zarr"


def test_extract__says_that_everything_was_reused(cache: Path) -> None:
    result = run("extract", cache.parent / "images", cache, "--backbones", LITE)
    assert result.exit_code == 0
    assert "Every embedding was reused; nothing was computed." in result.stdout


def test_extract__json_is_alone_on_stdout(cache: Path) -> None:
    report = json.loads(run("extract", cache.parent / "images", cache, "--backbones", LITE, "--json").stdout)
    assert report["outcomes"][0]["reused"] == 36
    assert report["task"]["kind"] == "multiclass"


def test_probe__table_and_json(cache: Path) -> None:
    result = run("probe", cache, "--head", "linear,knn")
    assert result.exit_code == 0, result.output
    for part in ("val AUC", "95% CI", "kappa", "mean ± std over folds", "linear", "knn"):
        assert part in result.stdout
    report = json.loads(run("probe", cache, "--json").stdout)
    assert [cell["head"] for cell in report["cells"]] == ["linear", "knn"]
    assert len(report["cells"][0]["test"]["auc"]["folds"]) == 5


def test_info__table_and_json(cache: Path) -> None:
    assert "36 images" in run("info", cache).stdout
    report = json.loads(run("info", cache, "--json").stdout)
    assert report["backbones"][0]["fingerprint"]["architecture"] == "tf_efficientnet_lite0"


def test_backbones__lists_all_and_marks_licences() -> None:
    result = run("backbones")
    assert result.exit_code == 0
    for name in ("supervised", "swav", "simclr", "dino", "random", PUBLISHED, "CC-BY-NC-4.0 (!)"):
        assert name in result.stdout
    specs = json.loads(run("backbones", "--json").stdout)
    assert {spec["name"]: spec["dim"] for spec in specs}["dino"] == 1536


def test_viz__names_the_file(cache: Path, tmp_path: Path) -> None:
    result = run("viz", cache, "--out", tmp_path / "maps.html", "--method", "pca")
    assert result.exit_code == 0, result.output
    assert "pca maps of 36 images" in result.stdout
    assert "trustworthiness" in result.stdout
    assert "cannot be shown" not in result.stdout
    options = ("--method", "pca,tsne", "--force", "--json")
    report = strict(run("viz", cache, "--out", tmp_path / "maps.html", *options).stdout)
    assert report["methods"] == ["pca", "tsne"]
    assert 0 < report["maps"]["tsne"][LITE]["trustworthiness"] <= 1


def test_viz__anonymous_says_that_images_are_shown(cache: Path, tmp_path: Path) -> None:
    shown = run("viz", cache, "--out", tmp_path / "maps.html", "--method", "pca", "--anonymous").stdout
    assert "the images themselves are in the page; --no-thumbnails leaves them out" in shown
    options = ("--method", "pca", "--anonymous", "--no-thumbnails", "--force")
    assert "images themselves" not in run("viz", cache, "--out", tmp_path / "maps.html", *options).stdout


def test_report__says_the_verdict(cache: Path, tmp_path: Path) -> None:
    swept = run("sweep", cache, "--out", tmp_path / "run", "--head", "linear", "--folds", "2", "--sizes", "full")
    assert swept.exit_code == 0, swept.output
    result = run("report", tmp_path / "run", "--out", tmp_path / "r.html", "--method", "pca")
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip().endswith(f"wrote {tmp_path / 'r.html'}")
    assert "on the only backbone that was tried" in result.stdout
    options = ("--method", "pca", "--force", "--json")
    report = strict(run("report", tmp_path / "run", "--out", tmp_path / "r.html", *options).stdout)
    assert report["answers"]["Is fusion worth it?"] == "Not asked"


@pytest.fixture
def places(cache: Path, tmp_path: Path, write_manifest: Callable[..., Path]) -> dict[str, object]:
    """What the refused commands are about."""
    (tmp_path / "empty").mkdir()
    torch.save({"layer1.weight": torch.zeros(3)}, tmp_path / "wrong.pth")
    write_manifest([["a.png", "x"]], ["image", "label"], "m.csv")
    write_manifest([["a.png", "x"]], ["file", "label"], "other.csv")
    return {"tmp": tmp_path, "cache": cache, "images": cache.parent / "images", "lite": LITE}


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("extract {tmp}/nope {tmp}/c.zarr --backbones {lite}", ["nope does not exist"]),
        ("extract {tmp}/empty {tmp}/c.zarr --backbones {lite}", ["holds no images"]),
        (
            "extract {tmp}/other.csv {tmp}/c.zarr --backbones {lite}",
            ["no column 'image'", "file, label", "--image-col"],
        ),
        (
            "extract {tmp}/other.csv {tmp}/c.zarr --backbones {lite} --image-col file --group-col patient",
            ["no column 'patient'", "--group-col"],
        ),
        ("extract {tmp}/m.csv {tmp}/c.zarr --backbones {lite}", ["1 file that does not exist", "a.png"]),
        (
            "extract {images} {cache} --backbones efficientnet-lit0",
            ["unknown backbone 'efficientnet-lit0'", f"did you mean '{PUBLISHED}'"],
        ),
        (
            "extract {images} {cache} --backbones supervised --weights supervised={tmp}/wrong.pth",
            ["missing keys conv1.weight", "unexpected keys layer1.weight"],
        ),
        (
            "extract {images} {cache} --backbones dino",
            ["dino_deitsmall8_pretrain.pth", "https://", "--weights dino=PATH"],
        ),
        (
            "extract {images} {cache} --backbones {lite} --dtype float16",
            ["dtype: cached 'float32', asked 'float16'", "--replace"],
        ),
        ("extract {images} {tmp}/empty --backbones {lite}", ["is not a dvme cache"]),
        ("probe {cache} --folds 20", ["class 'dark' has 12 images", "--folds"]),
        ("probe {tmp}/none.zarr", ["there is no cache at", "dvme extract"]),
        ("info {tmp}/none.zarr", ["there is no cache at", "dvme extract"]),
        ("viz {tmp}/no.zarr --out {tmp}/m.html", ["no.zarr"]),
        ("viz {cache} --out {tmp}/m.html --method isomap", ["unknown map 'isomap'", "tsne, umap, pca"]),
        ("viz {cache} --out {tmp}", ["is a folder"]),
        ("viz {cache} --out {tmp}/m.html --head {tmp}", ["is not a saved head"]),
        ("viz {cache} --out {tmp}/m.html --method pca --figures {tmp}/f --figure-kind gif", ["gif"]),
        ("report {tmp} --out {tmp}/r.html", ["is not a run", "dvme sweep"]),
        ("report {cache} --out {tmp}/r.html", ["is a cache", "dvme viz"]),
    ],
)
def test_commands__refuse_in_one_line(places: dict[str, object], tmp_path: Path, typed: str, parts: list[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert_refused(run(*(word.format(**places) for word in typed.split())), *parts)
    assert sorted(tmp_path.rglob("*")) == before


def test_probe__single_class(tmp_path: Path, save_image: Callable[..., Path]) -> None:
    for index in range(6):
        save_image(tmp_path / "images" / "only" / f"{index}.png", seed=index)
    assert run("extract", tmp_path / "images", tmp_path / "c.zarr", "--backbones", LITE).exit_code == 0
    assert_refused(run("probe", tmp_path / "c.zarr"), "all 6 labelled images are 'only'")


def test_commands__wrong_usage_is_exit_2(cache: Path) -> None:
    assert run("extract", cache).exit_code == 2
    assert run("probe", cache, "--folds", "many").exit_code == 2
    assert run("extract", cache.parent / "images", cache, "--backbones", LITE, "--weights", "oops").exit_code == 2
    assert run("nonsense").exit_code == 2


def test_extract__mismatched_torch_and_torchvision_is_explained(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import of timm fails as it does beside a torchvision of another build."""

    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "timm":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    result = run("extract", cache.parent / "images", cache.parent / "new.zarr", "--backbones", LITE)
    assert_refused(
        result,
        f"torch {torch.__version__}".partition("+")[0],
        "torchvision",
        "pip install --force-reinstall torch torchvision",
    )


def test_extract__interrupted_keeps_what_is_committed(
    solar_cells: list[tuple[Path, str]], write_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    """Ctrl-C in a real process, once it has committed something."""
    manifest = write_manifest(solar_cells, ["image", "label"])
    command = [Path(sys.executable).with_name("dvme"), "extract", manifest, tmp_path / "c.zarr", "--backbones", LITE]
    # A suite that runs in the background of a shell inherits an ignored SIGINT, and would hand it on.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    first_commit = tmp_path / "c.zarr" / "embeddings" / FOLDER / "state" / "c" / "0"
    deadline = time.monotonic() + 120
    while not first_commit.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, progress = process.communicate(timeout=60)
    assert process.returncode == 130
    assert not output
    assert "interrupted; embeddings that were committed are kept, and the same command goes on" in progress
    assert "Traceback" not in progress
    assert json.loads(run("info", tmp_path / "c.zarr", "--json").stdout)["backbones"][0]["done"] >= 64


def test_extract__says_what_became_of_the_columns(
    class_folders: Path, write_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    paths = sorted(class_folders.rglob("*.png"))
    rows = [[path, path.parent.name, f"p{i % 5}"] for i, path in enumerate(paths)]
    command = ("extract", write_manifest(rows, ["image", "label", "patient"]), tmp_path / "c.zarr")
    options = ("--backbones", LITE)
    first = run(*command, *options, "--group-col", "patient")
    assert first.exit_code == 0, first.output
    assert "36 images of 5 groups\n" in first.stdout
    folder = run("extract", class_folders, tmp_path / "c.zarr", *options)
    assert "group of 36 images kept from the cache, for this source has no such column\n" in folder.stdout
    assert "36 images of 5 groups\n" in folder.stdout
    assert "changed" not in folder.stdout
    rows[0] = [rows[0][0], "other", ""]
    write_manifest([*rows[:-1], [*rows[-1][:2], "p9"]], ["image", "label", "patient"])
    changed = run(*command, *options, "--group-col", "patient")
    assert "label of 1 image, group of 1 image changed\n" in changed.stdout
    assert "group of 1 image removed (an empty cell, or copies that disagree)\n" in changed.stdout


def test_class_order__as_typed(class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    extract = ("extract", class_folders, cache, "--backbones", LITE, "--class-order")
    assert_refused(run(*extract, "grey,dark"), "--class-order (grey < dark) lacks 'light'", "--class-order ''")
    assert_refused(run(*extract, "grey,dark", "--plan"), "lacks 'light'")
    assert not cache.exists()
    done = run(*extract, "light,grey,dark,black")
    assert "36 images: multiclass, 3 classes: light (12), grey (12), dark (12)" in done.stderr
    assert "class order: light < grey < dark < black; no image is 'black'\n" in done.stdout
    assert done.stdout.count("No image has a group") == 1
    assert "class order: light < grey < dark < black; no image is 'black'\n" in run("info", cache).stdout
    told = run("probe", cache, "--head", "knn").stdout
    assert "kappa is quadratic weighted: light < grey < dark.\n" in told
    assert told.count("No image has a group") == 1
    assert_refused(run("cache", "label", cache, "--class-order", "light"), "lacks 'dark', 'grey'")
    assert "class order: none is given any more\n" in run("cache", "label", cache, "--class-order", "").stdout
    assumed = run("probe", cache, "--head", "knn").stdout
    assert f"dark, grey, light have none that is given; dvme cache label {cache} --class-order LOWEST," in assumed
    assert [line.split()[-1] for line in assumed.splitlines() if " knn " in line and "±" in line] == ["-"]


def test_extract__says_when_a_backbone_starts(class_folders: Path, tmp_path: Path) -> None:
    """Where stderr is a log, the model and the first shard would else pass in silence."""
    result = run("extract", class_folders, tmp_path / "c.zarr", "--backbones", LITE)
    lines = [line for line in result.stderr.splitlines() if LITE in line]
    assert [line.split(" images")[0] for line in lines] == [f"{LITE}: 0 of 36", f"{LITE}: 36 of 36"]


def test_extract__python_file_without_a_name(cache: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("from dvme.backbones import get_spec\nmine = get_spec('random')\n")
    for backbone in (own, f"{own}:yours"):
        result = run("extract", cache.parent / "images", tmp_path / "c.zarr", "--backbones", backbone)
        assert_refused(result, f"pass {own}:mine")
    assert_refused(run("backbones", "show", "nonsense-of-mine"), "FILE.py:NAME", "FILE.toml")


def test_extract__large_images_and_a_handful_of_bright_pixels(class_folders: Path, tmp_path: Path) -> None:
    from PIL import Image

    from dvme.data import DECODING

    deep = Image.new("I;16", (64, 64))
    deep.putdata([1000 + i % 3000 for i in range(4095)] + [65_535])
    deep.save(class_folders / "dark" / "deep.png")
    Image.new("L", (700, 100), 90).save(class_folders / "dark" / "large.png")
    cache = tmp_path / "c.zarr"
    command = ("extract", class_folders, cache, "--backbones", LITE)
    told = run(*command, "--max-pixels", 69_999).stdout
    assert "dark/large.png: has 70,000 pixels, more than 69,999; dvme extract --max-pixels 70000 reads it\n" in told
    assert (
        "1 image has a range of grey that a handful of pixels set, such as dark/deep.png "
        "(1 of 4,096 pixels spans 95% of it)"
    ) in told
    assert "1 failed before" in run(*command, "--plan", "--retry-failed", "--max-pixels", 70_000).stdout
    report = json.loads(run(*command, "--retry-failed", "--max-pixels", 70_000, "--json").stdout)
    assert (report["outcomes"][0]["computed"], report["outcomes"][0]["failed"]) == (1, 0)
    shown = run("info", cache).stdout
    assert shown.count(f"decoding: {DECODING}\n") == 1
    assert "each image's own minimum to its maximum" in DECODING
    assert run("cache", "verify", cache, "--images", "--max-pixels", 70_000).exit_code == 0
    by_type = run(*command[:-1], f"{LITE}@range=dtype", "--max-pixels", 70_000).stdout
    # 1000 to 3999 of 65,535 are greys 4 to 16, and 65,535 is 255
    assert (
        "1 image is left with few of the 256 greys, such as dark/deep.png (its 3,001 values become 14 greys); "
        "@range=percentile:0.5:99.5 fits it (--json lists all)"
    ) in by_type.replace("\n", " ")


def test_expected_errors__a_part_of_dvme_that_is_gone_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """As after `pip uninstall dvme-cache`, which has the same files."""
    with pytest.raises(typer.Exit) as caught, expected_errors():
        raise ModuleNotFoundError("No module named 'dvme_cache'", name="dvme_cache")
    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.exit_code == 1
    assert line.startswith("error: dvme_cache, a part of dvme, is gone")
    with pytest.raises(ModuleNotFoundError), expected_errors():
        raise ModuleNotFoundError("No module named 'other'", name="other")
